"""The asynchronous watch: reads the stream, and waits no longer than the session is patient."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from debt_mgmt.client.errors import DebtMgmtError, error_from
from debt_mgmt.client.watch import METHOD, WatchEvent, WatchSession


class MarginWatch(AsyncIterator[WatchEvent]):
    """The events of a watch, without end: it connects again where it must. Ends when it or its client is closed.

    Use it as `async with client.watch_margin() as watch`, or iterate and `close` it.
    """

    def __init__(self, session: WatchSession, open_stream: Callable[[Any], Any]) -> None:
        self._session = session
        self._open_stream = open_stream
        self._call: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._events: deque[WatchEvent] = deque()
        self._closed = asyncio.Event()

    @property
    def stale_for(self) -> timedelta:
        """How old what is known may be, now."""
        return self._session.stale_for(time.monotonic())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __anext__(self) -> WatchEvent:
        while not self._events:
            if self._closed.is_set():
                raise StopAsyncIteration
            try:
                self._events.extend(await self._advance())
            except DebtMgmtError:
                self.close()
                raise
        return self._events.popleft()

    def close(self) -> None:
        """Ends the watch. Whoever waits for its next event gets none."""
        self._closed.set()
        self._events.clear()
        self._hang_up()

    async def _advance(self) -> list[WatchEvent]:
        """Waits for one thing: the time to connect, a message, the end of the stream, or too long a silence."""
        now = time.monotonic()
        if self._call is None:
            pause = self._session.pause(now)
            if pause > 0:
                return await self._rest(min(pause, self._session.patience(now)))
            self._call = self._open_stream(self._session.request(now))
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
        await asyncio.wait({self._reading}, timeout=self._session.patience(now))
        now = time.monotonic()
        if self._closed.is_set():
            return []
        if not self._reading.done():
            return self._silence(now)
        reading, self._reading = self._reading, None
        return self._read(reading, now)

    def _read(self, reading: asyncio.Task[Any], now: float) -> list[WatchEvent]:
        try:
            message = reading.result()
        except grpc.RpcError as failure:
            self._hang_up()
            return self._session.ended(error_from(failure, METHOD), now)
        if message is grpc.aio.EOF:
            self._hang_up()
            return self._session.ended(None, now)
        return self._session.received(message, now)

    def _silence(self, now: float) -> list[WatchEvent]:
        events = self._session.waited(now)
        dead = self._session.hung(now)
        if dead is not None:
            self._hang_up()
            events += self._session.ended(dead, now)
        return events

    async def _rest(self, pause: float) -> list[WatchEvent]:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), pause)
        return self._session.waited(time.monotonic())

    def _hang_up(self) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
        self._call = self._reading = None
