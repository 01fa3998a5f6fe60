"""The blocking watch: a thread reads the stream, so that waiting for it can end."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc

from debt_mgmt.client.errors import DebtMgmtError, error_from
from debt_mgmt.client.watch import METHOD, WatchEvent, WatchSession

END = object()


class SyncMarginWatch(Iterator[WatchEvent]):
    """The events of a watch, without end: it connects again where it must. Ends when it or its client is closed.

    Use it as `with client.watch_margin() as watch`, or iterate and `close` it; another thread may do so.
    """

    def __init__(self, session: WatchSession, open_stream: Callable[[Any], Any]) -> None:
        self._session = session
        self._open_stream = open_stream
        self._feed: Feed | None = None
        self._events: deque[WatchEvent] = deque()
        self._closed = threading.Event()

    @property
    def stale_for(self) -> timedelta:
        """How old what is known may be, now."""
        return self._session.stale_for(time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> WatchEvent:
        while not self._events:
            if self._closed.is_set():
                raise StopIteration
            try:
                self._events.extend(self._advance())
            except DebtMgmtError:
                self.close()
                raise
        return self._events.popleft()

    def close(self) -> None:
        """Ends the watch. Whoever waits for its next event gets none."""
        self._closed.set()
        self._hang_up()

    def _advance(self) -> list[WatchEvent]:
        """Waits for one thing: the time to connect, a message, the end of the stream, or too long a silence."""
        now = time.monotonic()
        if self._feed is None:
            pause = self._session.pause(now)
            if pause > 0:
                self._closed.wait(min(pause, self._session.patience(now)))
                return self._session.waited(time.monotonic())
            self._feed = Feed(self._open_stream(self._session.request(now)))
            if self._closed.is_set():
                self._hang_up()
                return []
        try:
            item = self._feed.next(self._session.patience(now))
        except queue.Empty:
            return self._silence(time.monotonic())
        return [] if self._closed.is_set() else self._read(item, time.monotonic())

    def _read(self, item: Any, now: float) -> list[WatchEvent]:
        if isinstance(item, grpc.RpcError):
            self._hang_up()
            return self._session.ended(error_from(item, METHOD), now)
        if item is END:
            self._hang_up()
            return self._session.ended(None, now)
        return self._session.received(item, now)

    def _silence(self, now: float) -> list[WatchEvent]:
        events = self._session.waited(now)
        dead = self._session.hung(now)
        if dead is not None:
            self._hang_up()
            events += self._session.ended(dead, now)
        return events

    def _hang_up(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()


class Feed:
    """A blocking stream, read on a thread of its own, and never further than the reader has asked."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._asked = False
        self._closed = False
        self._wanted = threading.Semaphore(0)
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="debt-mgmt-watch", daemon=True).start()

    def next(self, timeout: float) -> Any:
        """The next message, END, or the RpcError that broke the stream. Raises queue.Empty when none came in time."""
        if not self._asked:
            self._asked = True
            self._wanted.release()
        item = self._arrived.get(timeout=timeout)
        self._asked = False
        return item

    def close(self) -> None:
        """Ends the stream and its thread; a waiting reader gets END."""
        self._closed = True
        self._call.cancel()
        self._arrived.put(END)
        self._wanted.release()

    def _run(self) -> None:
        while not self._closed:
            self._wanted.acquire()
            if self._closed:
                return
            try:
                item = next(self._call, END)
            except grpc.RpcError as failure:
                item = failure
            self._arrived.put(item)
