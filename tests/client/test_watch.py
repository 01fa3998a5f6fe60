"""A watch over real connections: it follows, resumes, notices silence, and ends when it is told to."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from debt_mgmt.client import (
    AlertEvent,
    Disconnected,
    MarginClient,
    NotFound,
    Reconnected,
    Resynced,
    Snapshot,
    SnapshotComplete,
    Stale,
    SyncMarginClient,
    Timeouts,
    Unavailable,
    Update,
)
from tests.client.fake_service import FakeService, fail
from tests.client.test_watch_session import said


class Script:
    """One act for each connection: its messages, then what ends it. After the last act the stream stays open."""

    def __init__(self, service: FakeService, *acts: Any) -> None:
        self.service, self.acts = service, list(acts)
        service.on("WatchMargin", self)

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        act = self.acts.pop(0) if self.acts else []
        for step in act:
            if callable(step):
                step(context)
            else:
                yield step
        if not self.acts:
            self.service.idle(context)

    def tokens(self) -> list[str]:
        return [request.resume_token for request in self.service.sent("WatchMargin")]


def broken(context: grpc.ServicerContext) -> None:
    fail(context, grpc.StatusCode.UNAVAILABLE, "DRAINING")


FIRST = [said("snapshot"), said("snapshot_complete"), said("update", at=1, position=2), broken]
SECOND = [said("update", at=1, position=2), said("update", at=2, position=3), said("alert", position=4)]
STORY = [Snapshot, SnapshotComplete, Update, Disconnected, Reconnected, Update, AlertEvent]


async def test_it_resumes_where_it_broke(service: FakeService, client: MarginClient) -> None:
    script = Script(service, FIRST, SECOND)
    seen: list[Any] = []
    async with client.watch_margin(["alice"], min_interval=0.05) as watch:
        async for event in watch:
            seen.append(event)
            if isinstance(event, AlertEvent):
                break
    assert [type(event) for event in seen] == STORY
    assert seen[3].error.reason == "DRAINING"
    assert seen[4].resumed
    assert script.tokens() == ["", "t2"]
    assert service.sent("WatchMargin")[0].min_interval.ToMilliseconds() == 50


def test_the_blocking_watch_does_the_same(service: FakeService, sync_client: SyncMarginClient) -> None:
    script = Script(service, FIRST, SECOND)
    seen: list[Any] = []
    with sync_client.watch_margin(["alice"]) as watch:
        for event in watch:
            seen.append(event)
            if isinstance(event, AlertEvent):
                break
    assert [type(event) for event in seen] == STORY
    assert script.tokens() == ["", "t2"]


async def test_it_survives_the_end_of_the_service(service: FakeService, client: MarginClient) -> None:
    Script(service, FIRST[:3])
    watch = client.watch_margin()
    assert [type(await anext(watch)) for _ in range(3)] == STORY[:3]
    await asyncio.to_thread(service.stop)
    assert isinstance(await anext(watch), Disconnected)
    with FakeService(service.port) as again:
        script = Script(again, [said("resync_required", position=1), said("snapshot")])
        assert [type(await anext(watch)) for _ in range(3)] == [Reconnected, Resynced, Snapshot]
        assert script.tokens() == ["t2"]
        watch.close()


async def test_a_drained_stream_is_opened_again(service: FakeService, client: MarginClient) -> None:
    script = Script(service, [*FIRST[:2], said("draining", position=5)], [said("update", at=3, position=6)])
    async with client.watch_margin() as watch:
        kinds = [type(await anext(watch)) for _ in range(5)]
        assert kinds == [Snapshot, SnapshotComplete, Disconnected, Reconnected, Update]
    assert script.tokens() == ["", "t5"]


async def test_silence_is_reported_and_ends_a_dead_connection(service: FakeService, client: MarginClient) -> None:
    script = Script(service, [said("snapshot"), service.idle], [said("heartbeat", at=1)])
    events = []
    async with client.watch_margin(max_staleness=0.3) as watch:
        async for event in watch:
            events.append(event)
            if isinstance(event, Reconnected):
                break
        longest = silence_reported(events)
        assert watch.stale_for < longest
    assert len(script.tokens()) == 2


def test_the_blocking_watch_reports_silence_too(service: FakeService, sync_client: SyncMarginClient) -> None:
    Script(service, [said("snapshot"), service.idle], [said("heartbeat", at=1)])
    events = []
    with sync_client.watch_margin(max_staleness=0.3) as watch:
        for event in watch:
            events.append(event)
            if isinstance(event, Reconnected):
                break
        assert watch.stale_for < silence_reported(events)


def silence_reported(events: list[Any]) -> timedelta:
    """The longest silence reported: after 0.3 s first, after 0.6 s the connection is dead.

    Where connecting takes long, there is silence before the first word too.
    """
    events = events[next(place for place, event in enumerate(events) if isinstance(event, Snapshot)) :]
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Snapshot, Stale, Stale]
    assert [kind for kind in kinds if kind is not Stale] == [Snapshot, Disconnected, Reconnected]
    silences = [event.stale_for for event in events if isinstance(event, Stale)]
    assert silences == sorted(silences)
    assert silences[0] >= timedelta(seconds=0.3)
    assert silences[1] >= timedelta(seconds=0.6)
    return silences[-1]


async def test_what_can_not_be_helped_is_raised_and_ends_it(service: FakeService, client: MarginClient) -> None:
    Script(service, [lambda context: fail(context, grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND")])
    watch = client.watch_margin(["nobody"])
    with pytest.raises(NotFound):
        await anext(watch)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_a_service_that_is_not_there_is_raised() -> None:
    async with MarginClient("127.0.0.1:1", timeouts=Timeouts(read=0.3)) as client:
        begin = time.monotonic()
        with pytest.raises(Unavailable):
            await anext(client.watch_margin())
        assert 0.3 <= time.monotonic() - begin < 10
    with SyncMarginClient("127.0.0.1:1", timeouts=Timeouts(read=0.3)) as blocking, pytest.raises(Unavailable):
        next(blocking.watch_margin())


async def test_closing_ends_it_for_who_waits(service: FakeService, client: MarginClient) -> None:
    Script(service, [said("snapshot"), service.idle])
    watch = client.watch_margin()
    assert isinstance(await anext(watch), Snapshot)
    waiting = asyncio.ensure_future(collect(watch))
    await asyncio.sleep(0.1)
    watch.close()
    assert await asyncio.wait_for(waiting, 2) == []


async def collect(watch: Any) -> list[Any]:
    return [event async for event in watch]


async def test_closing_the_client_ends_its_watches(service: FakeService) -> None:
    Script(service, [said("snapshot"), service.idle])
    async with MarginClient(service.target) as client:
        watch = client.watch_margin()
        assert isinstance(await anext(watch), Snapshot)
        waiting = asyncio.ensure_future(collect(watch))
        await asyncio.sleep(0.1)
    assert await asyncio.wait_for(waiting, 2) == []


async def test_closing_ends_it_while_it_waits_to_connect_again(service: FakeService, client: MarginClient) -> None:
    def busy(context: grpc.ServicerContext) -> None:
        fail(context, grpc.StatusCode.UNAVAILABLE, "OVERLOADED", retry_after=0.9)

    Script(service, [said("snapshot"), busy])
    watch = client.watch_margin()
    assert [type(await anext(watch)) for _ in range(2)] == [Snapshot, Disconnected]
    waiting = asyncio.ensure_future(collect(watch))
    await asyncio.sleep(0.1)
    begin = time.monotonic()
    watch.close()
    assert await asyncio.wait_for(waiting, 2) == []
    assert time.monotonic() - begin < 0.5


def test_another_thread_ends_the_blocking_watch(service: FakeService, sync_client: SyncMarginClient) -> None:
    Script(service, [said("snapshot"), service.idle])
    watch = sync_client.watch_margin()
    assert isinstance(next(watch), Snapshot)
    threading.Timer(0.2, watch.close).start()
    assert list(watch) == []
    begin = time.monotonic()
    while any(thread.name == "debt-mgmt-watch" for thread in threading.enumerate()):
        assert time.monotonic() - begin < 2
        time.sleep(0.01)


async def test_cancelling_the_reader_loses_nothing(service: FakeService, client: MarginClient) -> None:
    go = threading.Event()
    Script(service, [said("snapshot"), lambda _: go.wait(2), said("update", at=1, position=2), service.idle])
    async with client.watch_margin() as watch:
        assert isinstance(await anext(watch), Snapshot)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 0.05)
        go.set()
        assert isinstance(await anext(watch), Update)


async def test_a_slow_reader_has_little_ahead_of_it(service: FakeService, client: MarginClient) -> None:
    """Without the channel's options the service could write thousands of messages before it is held back."""
    written = [0]

    def torrent(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        while context.is_active() and written[0] < 20_000:
            written[0] += 1
            yield said("update", at=written[0], position=written[0])

    service.on("WatchMargin", torrent)
    async with client.watch_margin() as watch:
        await anext(watch)
        await asyncio.sleep(1)
        assert written[0] < 3000
