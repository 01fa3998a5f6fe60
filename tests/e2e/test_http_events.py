"""The live stream as server-sent events: state, changes, resuming, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.books import BUY
from tests.support.http import WATCH, Running, alice, http
from tests.support.service import Clock, service
from tests.support.wire import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def fresh() -> AsyncIterator[Running]:
    """One account `alice` at bybit, long 0.1 BTC at 60,000 with 10,000 USDT."""
    async with service(clock=Clock(), server__drain_seconds="2") as desk, http(desk.running.metrics_port) as web:
        await alice(desk, web)
        yield desk, web


async def test_events_tell_the_state_and_then_each_change(fresh: Running) -> None:
    desk, web = fresh
    async with web.watch(body={"account_ids": ["alice"], "min_interval": "0.01s"}) as events:
        first = await anext(events)
        assert (first.name, first.data["snapshot"]["margin_utilization"]) == ("snapshot", "0.3")
        assert first.id == first.data["resume_token"] != ""
        assert (await anext(events)).name == "snapshot_complete"
        await desk.mark({"BTCUSDT": "59000"})
        changed = await anext(events)
        assert (changed.name, changed.data["update"]["unrealized_pnl"]) == ("update", "-100")
        assert desk.engine.hub.count == 1
    await until(lambda: desk.engine.hub.count == 0)


async def test_events_go_on_where_they_broke_off(fresh: Running) -> None:
    desk, web = fresh
    async with web.watch() as events:
        last = [await anext(events) for _ in range(2)][-1]
    await desk.lever("alice", "BTCUSDT", "5")
    await desk.fill("alice", BUY, "0.5", "BTCUSDT", "60000")
    async with web.watch({"Last-Event-ID": last.id}) as events:
        missed = await anext(events)
        assert (missed.name, missed.data["alert"]["account_id"]) == ("alert", "alice")
        update = await anext(events)
        assert (update.name, update.data["update"]["margin_used"]) == ("update", "7200")
    async with web.watch({"Last-Event-ID": "made-up"}) as events:
        assert [(await anext(events)).name for _ in range(3)] == ["resync_required", "snapshot", "snapshot_complete"]


async def test_a_watch_that_can_not_begin_is_an_http_error(fresh: Running) -> None:
    _, web = fresh
    unknown = await web.get(f"/v1/{WATCH}", account_ids="nobody")
    assert (unknown.status, unknown.reason) == (404, "ACCOUNT_NOT_FOUND")
    assert (await web.call(WATCH, {"min_interval": "never"})).fields == ["min_interval"]


async def test_events_end_with_a_word_when_the_service_goes(fresh: Running) -> None:
    desk, web = fresh
    async with web.watch() as events:
        assert [(await anext(events)).name for _ in range(2)] == ["snapshot", "snapshot_complete"]
        stopping = asyncio.create_task(desk.running.stop())
        assert [event.name async for event in events] == ["draining"]
        await stopping


async def test_a_failure_while_events_run_is_the_last_event(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, web = fresh

    def broken(*given: Any) -> Any:
        raise RuntimeError("password=hunter2")

    async with web.watch() as events:
        assert [(await anext(events)).name for _ in range(2)] == ["snapshot", "snapshot_complete"]
        monkeypatch.setattr(desk.engine, "view_of", broken)
        desk.engine.hub.changed({"alice": desk.engine.account("alice")})
        rest = [event async for event in events]
    assert [event.name for event in rest] == ["failure"]
    assert rest[0].data["error"]["reason"] == "INTERNAL"
    assert "hunter2" not in str(rest[0])
    monkeypatch.undo()


async def test_who_leaves_in_the_middle_leaves_nothing_behind(fresh: Running) -> None:
    desk, web = fresh
    watchers = desk.engine.hub
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.running.metrics_port)
    writer.write(f"GET /v1/{WATCH}?heartbeat_interval=3600s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"snapshot_complete")
    assert watchers.count == 1
    writer.close()
    await until(lambda: watchers.count == 0)
    _, writer = await asyncio.open_connection("127.0.0.1", desk.running.metrics_port)
    head = "POST /v1/MarginService/CheckOrder HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    assert (await web.get("/v1/MarketService/ListMarks")).status == 200
