"""WatchMargin: snapshots, then every change; merged where it must be, resumed after a break, ended with notice."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import margin_service_pb2, margin_service_pb2_grpc, types_pb2
from tests.e2e.books import BUY, open_fresh
from tests.support.service import Clock, Desk, service
from tests.support.wire import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WARNING, CRITICAL = types_pb2.RISK_LEVEL_WARNING, types_pb2.RISK_LEVEL_CRITICAL
LIQUIDATING = types_pb2.RISK_LEVEL_LIQUIDATING
STATES = margin_service_pb2.LiquidationState
WATCHERS = 2000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as running:
        await running.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
        yield running


class Watch:
    """A stream and all that came of it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.seen: list[Any] = []
        self.task = asyncio.create_task(self.read())
        self.error: grpc.aio.AioRpcError | None = None
        self.over = False

    async def read(self) -> None:
        try:
            async for message in self.stream:
                self.messages.put_nowait(message)
        except grpc.aio.AioRpcError as error:
            self.error = error
        self.over = True

    async def next(self, *kinds: str, seconds: float = 5.0) -> Any:
        """The next message of one of these kinds (of any, without); what comes before it is passed over."""
        while True:
            message = await asyncio.wait_for(self.messages.get(), seconds)
            self.seen.append(message)
            if not kinds or message.WhichOneof("event") in kinds:
                return message

    async def opened(self) -> list[Any]:
        """The snapshots, up to and with their completion."""
        first = len(self.seen)
        await self.next("snapshot_complete")
        return self.seen[first:]

    def kinds(self) -> list[str]:
        return [message.WhichOneof("event") for message in self.seen]


def request(*account_ids: str, token: str = "", every: float = 0.01, heartbeat: float = 3600.0) -> Any:
    message = margin_service_pb2.WatchMarginRequest(account_ids=account_ids, resume_token=token)
    message.min_interval.FromMilliseconds(max(1, int(every * 1000)))
    message.heartbeat_interval.FromMilliseconds(int(heartbeat * 1000))
    return message


@asynccontextmanager
async def watching(desk: Desk, *account_ids: str, **more: Any) -> AsyncIterator[Watch]:
    stream = desk.margin.WatchMargin(request(*account_ids, **more))
    watch = Watch(stream)
    try:
        yield watch
    finally:
        stream.cancel()
        await asyncio.gather(watch.task, return_exceptions=True)


def alerts_in(watch: Watch) -> list[Any]:
    return [message.alert for message in watch.seen if message.HasField("alert")]


def plans_in(watch: Watch) -> list[Any]:
    return [message.liquidation for message in watch.seen if message.HasField("liquidation")]


async def leveraged(desk: Desk) -> str:
    """10,000 USDT and 0.5 BTC at 5x from 60,000: 70 % is used at 56,000, 80 % at 53,333, 90 % at 51,428."""
    name = await open_fresh(desk)
    await desk.mark({"BTCUSDT": "60000"})
    await desk.lever(name, "BTCUSDT", "5")
    await desk.fill(name, BUY, "0.5", "BTCUSDT", "60000")
    return name


# what is said


async def test_snapshots_come_first_then_what_changes(desk: Desk) -> None:
    one, two = await open_fresh(desk), await open_fresh(desk, "500")
    async with watching(desk, two, one) as watch:
        *snapshots, complete = await watch.opened()
        assert [message.snapshot.account_id for message in snapshots] == sorted([one, two])
        assert complete.snapshot_complete.account_count == 2
        assert all(message.resume_token for message in watch.seen)
        await desk.deposit(two, "USDT", "5")
        update = await watch.next()
        assert update.update == await desk.status(two)
        assert update.update.equity == "505"
        assert (update.revision.shard, update.revision.position) == desk.engine.revision(two)
        assert update.conflated_count == 0
        assert update.HasField("as_of")
        await desk.fill(one, BUY, "0.01", "BTCUSDT", "60000")
        assert (await watch.next("update")).update.open_positions == 1
        await desk.mark({"BTCUSDT": "60600"})
        moved = await watch.next("update")
        assert (moved.update.account_id, moved.update.unrealized_pnl) == (one, "6")


async def test_a_price_moves_whoever_is_valued_by_it(desk: Desk) -> None:
    """Also an account that holds the asset and has nothing open."""
    name = await open_fresh(desk)
    await desk.deposit(name, "ETH", "1")
    await desk.mark({"ETHUSDT": "3000"})
    async with watching(desk, name) as watch:
        await watch.opened()
        await desk.mark({"ETHUSDT": "3100"})
        assert (await watch.next("update")).update.equity == "12945"  # 10,000 + 3,100 × 0.95
    await desk.mark({"ETHUSDT": "3000"})


async def test_who_watches_everyone_sees_new_accounts(desk: Desk) -> None:
    async with watching(desk) as watch:
        opened = await watch.opened()
        known = {message.snapshot.account_id for message in opened[:-1]}
        assert opened[-1].snapshot_complete.account_count == len(known)
        name = await open_fresh(desk, "123")
        update = await watch.next("update")
        assert (update.update.account_id, update.update.equity) == (name, "123")
        assert name not in known


async def test_states_of_an_account_are_merged_and_counted(desk: Desk) -> None:
    name, other = await open_fresh(desk), await open_fresh(desk)
    async with watching(desk, name, other, every=0.6) as watch:
        await watch.opened()
        await desk.deposit(name, "USDT", "1")
        assert (await watch.next("update")).conflated_count == 0
        started = time.monotonic()
        for _ in range(20):
            await desk.deposit(name, "USDT", "1")
        await desk.deposit(other, "USDT", "1")
        first, second = await watch.next("update"), await watch.next("update")
        assert time.monotonic() - started > 0.3
        assert (first.update.account_id, first.conflated_count) == (other, 0), "accounts do not wait for each other"
        assert (second.update.account_id, second.conflated_count) == (name, 19)
        assert second.update.equity == "10021"
        assert watch.messages.empty()


async def test_alerts_and_liquidations_are_never_merged(desk: Desk) -> None:
    name = await leveraged(desk)
    async with watching(desk, name, every=3600.0) as watch:
        await watch.opened()
        for price in ("55900", "53300", "51400"):
            await desk.mark({"BTCUSDT": price})
        while not plans_in(watch) or plans_in(watch)[-1].state != margin_service_pb2.LIQUIDATION_STATE_COMPLETED:
            await watch.next("liquidation")
        alerts, plans = alerts_in(watch), plans_in(watch)
        raised = [one.level for one in alerts if one.kind == types_pb2.ALERT_KIND_LEVEL_RAISED]
        assert raised == [WARNING, CRITICAL, LIQUIDATING]
        kinds = [types_pb2.AlertKind.Name(one.kind).removeprefix("ALERT_KIND_") for one in alerts]
        assert kinds.count("LIQUIDATION_STARTED") == 1
        assert len({one.alert_id for one in alerts}) == len(alerts)
        assert {one.liquidation_id for one in plans} == {plans[-1].liquidation_id}
        assert STATES.Name(plans[0].state) == "LIQUIDATION_STATE_RUNNING"
        assert watch.kinds().count("update") <= 1, "all states since the first were merged"
        revisions = [message.revision.position for message in watch.seen if message.WhichOneof("event") == "alert"]
        assert revisions == sorted(revisions)
        journaled = {alert.alert_id for alert in desk.engine.account(name).alerts}
        assert {one.alert_id for one in alerts} <= journaled


async def test_silence_is_broken_by_heartbeats(desk: Desk) -> None:
    name = await open_fresh(desk)
    async with watching(desk, name, heartbeat=0.05) as watch:
        await watch.opened()
        started = time.monotonic()
        beats = [await watch.next() for _ in range(3)]
        assert 0.1 <= time.monotonic() - started < 3
        assert {message.WhichOneof("event") for message in beats} == {"heartbeat"}
        assert all(message.resume_token and message.HasField("as_of") for message in beats)


# a stream that breaks


async def test_a_watcher_resumes_where_it_was(desk: Desk) -> None:
    name = await leveraged(desk)
    async with watching(desk, name) as watch:
        await watch.opened()
        await desk.mark({"BTCUSDT": "55900"})
        first = await watch.next("alert")
        token = (await watch.next("update")).resume_token
    assert first.alert.level == WARNING
    await desk.mark({"BTCUSDT": "53300"})
    await desk.deposit(name, "USDT", "1")
    async with watching(desk, name, token=token) as watch:
        alert = await watch.next("alert")
        update = await watch.next("update")
        assert alert.alert.level == CRITICAL
        assert watch.kinds() == ["alert", "update"], "neither snapshots nor what was told before"
        assert update.update == await desk.status(name)
        await desk.deposit(name, "USDT", "1")
        assert (await watch.next()).update.wallet_balance == "10002"


async def test_a_token_holds_across_a_restart_of_the_service() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        name = await leveraged(desk)
        quiet = await open_fresh(desk)
        async with watching(desk, name, quiet) as watch:
            token = (await watch.opened())[-1].resume_token
        await desk.mark({"BTCUSDT": "51400"})
        missed = [one.alert_id for one in desk.engine.account(name).alerts]
        assert missed and desk.engine.account(name).past_reductions
    async with service(journal=journal, clock=clock) as desk:
        await desk.mark({"BTCUSDT": "51400"})
        async with watching(desk, name, quiet, token=token) as watch:
            while watch.kinds().count("update") < 2:
                await watch.next()
            assert "snapshot" not in watch.kinds() and "resync_required" not in watch.kinds()
            assert [alert.alert_id for alert in alerts_in(watch)][: len(missed)] == missed
            assert [plan.state for plan in plans_in(watch)] == [margin_service_pb2.LIQUIDATION_STATE_COMPLETED]


@pytest.mark.parametrize(
    "token", ["garbage", "AAAA", "W10=", "W1s5OTksOTk5XV0=", "é", "W1swLDAsMCwwLDAsMCwwLDAsMF1d" * 50]
)
async def test_a_damaged_token_leads_to_a_new_start(desk: Desk, token: str) -> None:
    name = await open_fresh(desk)
    async with watching(desk, name, token=token) as watch:
        assert (await watch.next()).resync_required.reason
        await watch.opened()
        assert watch.kinds() == ["resync_required", "snapshot", "snapshot_complete"]


async def test_a_token_from_the_future_leads_to_a_new_start(desk: Desk) -> None:
    """As of another journal, or of one that was restored from a backup."""
    name = await open_fresh(desk)
    async with watching(desk, name) as watch:
        token = (await watch.opened())[-1].resume_token
    async with service(clock=Clock()) as another:
        await another.open(name, "1", "USDT")
        async with watching(another, name, token=token) as watch:
            assert (await watch.next()).WhichOneof("event") == "resync_required"


async def test_watchers_are_told_before_the_service_goes() -> None:
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(service(clock=Clock()))
        name = await open_fresh(desk)
        watches = [await stack.enter_async_context(watching(desk, name)) for _ in range(5)]
        for watch in watches:
            await watch.opened()
        await asyncio.wait_for(desk.running.stop(), 5)
        for watch in watches:
            told = await watch.next("draining")
            assert told.draining.deadline.ToDatetime() > told.as_of.ToDatetime()
            assert told.resume_token
            await until(lambda watch=watch: watch.over)  # type: ignore[misc]
            assert watch.error is None, "the stream ends, it is not cut"


# many, and slow ones


async def test_a_stalled_reader_delays_nobody(desk: Desk) -> None:
    name = await open_fresh(desk)
    stalled = [desk.margin.WatchMargin(request(name, every=0.001)) for _ in range(3)]
    for stream in stalled:
        await stream.read()  # its first message, and no other
    async with watching(desk, name, every=0.001) as watch:
        await watch.opened()
        slowest = 0.0
        for number in range(1, 101):
            started = time.monotonic()
            await desk.deposit(name, "USDT", "1")
            while (await watch.next("update")).update.equity != str(10000 + number):
                pass
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 2.0
    for stream in stalled:
        stream.cancel()
    await until(lambda: desk.engine.hub.count == 0)


async def test_two_thousand_idle_watchers_are_opened_and_served(desk: Desk) -> None:
    name = await open_fresh(desk)
    await until(lambda: desk.engine.hub.count == 0)
    async with AsyncExitStack() as stack:
        address = f"127.0.0.1:{desk.running.port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        stubs: list[Any] = [
            margin_service_pb2_grpc.MarginServiceStub(
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
            )
            for _ in range(4)
        ]
        started = time.monotonic()
        streams = [stubs[number % 4].WatchMargin(request(name)) for number in range(WATCHERS)]
        opened = await asyncio.gather(*(two_messages(stream) for stream in streams))
        assert {tuple(kinds) for kinds in opened} == {("snapshot", "snapshot_complete")}
        assert desk.engine.hub.count == WATCHERS
        assert time.monotonic() - started < 20
        started = time.monotonic()
        await desk.deposit(name, "USDT", "1")
        assert time.monotonic() - started < 2, "who writes does not wait for who watches"
        updates = await asyncio.gather(*(stream.read() for stream in streams))
        assert {message.update.equity for message in updates} == {"10001"}
        assert time.monotonic() - started < 20
        for stream in streams:
            stream.cancel()
    await until(lambda: desk.engine.hub.count == 0, seconds=20)


async def two_messages(stream: Any) -> list[str]:
    return [(await stream.read()).WhichOneof("event") for _ in range(2)]


async def test_nobody_is_left_behind(desk: Desk) -> None:
    """However a stream ends, its watcher is gone."""
    name = await open_fresh(desk)
    ends = [
        desk.margin.WatchMargin(request(name), timeout=0.3),
        desk.margin.WatchMargin(request(name, "nobody")),
        desk.margin.WatchMargin(request(name, heartbeat=0.01)),
    ]
    for stream in ends[:2]:
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in stream:
                pass
    await ends[2].read()
    ends[2].cancel()
    await until(lambda: desk.engine.hub.count == 0)
    assert not desk.engine.hub.by_account and not desk.engine.hub.everyone


async def test_intervals_have_a_most(desk: Desk) -> None:
    stream = desk.margin.WatchMargin(margin_service_pb2.WatchMarginRequest(min_interval=Duration(seconds=3601)))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stream.read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
