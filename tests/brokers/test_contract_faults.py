"""Whatever goes wrong at a venue, no call answers as if nothing had: no zero, no empty list, no order sent twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core.account import MarginMode, PositionSide
from debt_mgmt.server.brokers import venue_errors
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    BrokerFault,
    BrokerFill,
    DenialReason,
    Denied,
    NotPossible,
    Rejected,
    RejectionReason,
    Unreachable,
)
from debt_mgmt.server.brokers.profiles import Feature, LeveragePath
from tests.support.broker_bench import VENUES, Bench, Venue, bench_of
from tests.support.venues.venue import FaultKind

D = Decimal
ALL = list(VENUES.values())
UNKNOWN_CODES = {"kraken": "EOrder:Something new", "coinbase": "SOMETHING_NEW"}


def named(one: object) -> str:
    return one.broker if isinstance(one, Venue) else one.name if isinstance(one, FaultKind) else str(one)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_errors, "RATE_PAUSE_SECONDS", 0.01)


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench_of(request.param) as found:
        found.hold(found.about.size)
        await found.broker.state()
        yield found


every = pytest.mark.parametrize("bench", ALL, indirect=True, ids=named)
streaming = pytest.mark.parametrize(
    "bench", [one for one in ALL if one.profile.can(Feature.ACCOUNT_STREAM)], indirect=True, ids=named
)

READS: dict[FaultKind, tuple[type[BrokerFault], DenialReason | None]] = {
    FaultKind.TOO_MANY: (Unreachable, None),
    FaultKind.SERVER_ERROR: (Unreachable, None),
    FaultKind.HTML: (Unreachable, None),
    FaultKind.HANGS_BEFORE: (Unreachable, None),
    FaultKind.CUT_BEFORE: (Unreachable, None),
    FaultKind.CLOCK: (Unreachable, None),
    FaultKind.GEO_BLOCK: (Denied, DenialReason.LOCATION),
    FaultKind.BAD_KEY: (Denied, DenialReason.CREDENTIALS),
    FaultKind.NO_PERMISSION: (Denied, DenialReason.PERMISSION),
}

SAID_OTHERWISE: dict[tuple[str, FaultKind], tuple[type[BrokerFault], DenialReason | None]] = {
    ("coinbase", FaultKind.CLOCK): (Denied, DenialReason.CREDENTIALS),
    ("binance", FaultKind.NO_PERMISSION): (Denied, DenialReason.CREDENTIALS),
}
"""Coinbase calls a late signature unauthorized; Binance has one code for a key that is unknown and one that may not."""


def unpause(bench: Bench) -> None:
    """Venues that say how long to stay away are taken at their word; the test does not wait for it."""
    for link in (bench.broker.link, bench.feed.link):
        link.budget.blocked_until = 0.0


def calls(bench: Bench) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every call that needs the venue."""
    broker, symbol, cash = bench.broker, bench.symbol, bench.about.cash
    found: dict[str, Callable[[], Awaitable[object]]] = {
        "state": broker.state,
        "place": lambda: broker.place(bench.order(bench.about.size)),
        "find": lambda: broker.find("liq-1-7-1", symbol),
        "cancel": lambda: broker.cancel(symbol, "1000001"),
        "cancel_all": broker.cancel_all,
        "set_leverage": lambda: broker.set_leverage(symbol, D(2)),
        "set_margin_mode": lambda: broker.set_margin_mode(symbol, MarginMode.ISOLATED, D(2)),
        "adjust_isolated_margin": lambda: broker.adjust_isolated_margin(symbol, PositionSide.NET, D(10)),
        "borrow": lambda: broker.borrow(cash, D(10)),
        "repay": lambda: broker.repay(cash, D(10)),
        "marks": lambda: bench.feed.marks([symbol]),
    }
    if bench.about.profile.leverage_path is LeveragePath.ORDER_PARAMETER:
        del found["set_leverage"]
    return found


@every
@pytest.mark.parametrize("kind", list(READS), ids=named)
async def test_every_call_meets_every_fault_with_a_fault(bench: Bench, kind: FaultKind) -> None:
    bench.venue.fault("", kind, times=None)
    for name, call in calls(bench).items():
        with bench.hasty(0.15), pytest.raises(BrokerFault) as fault:
            await call()
        assert isinstance(fault.value, (Denied, Unreachable, Ambiguous, NotPossible)), f"{name}: {fault.value!r}"
        assert fault.value.words
        unpause(bench)
    bench.venue.mend()
    (position,) = (await bench.broker.state()).positions
    assert position.quantity == bench.about.size, "nothing happened meanwhile"


@every
@pytest.mark.parametrize("kind", list(READS), ids=named)
async def test_a_state_that_cannot_be_read_whole_is_no_state(bench: Bench, kind: FaultKind) -> None:
    expected, reason = SAID_OTHERWISE.get((bench.about.broker, kind), READS[kind])
    bench.venue.fault(bench.about.state_path, kind, times=None)
    with bench.hasty(), pytest.raises(expected) as fault:
        await bench.broker.state()
    assert getattr(fault.value, "reason", None) is reason
    if kind is FaultKind.TOO_MANY:
        assert isinstance(fault.value, Unreachable)
        assert fault.value.retry_after_seconds is not None
    unpause(bench)
    bench.venue.mend()
    assert (await bench.broker.state()).positions


@every
async def test_a_code_that_nobody_knows_stays_an_error_with_that_code(bench: Bench) -> None:
    code = UNKNOWN_CODES.get(bench.about.broker, "987654")
    bench.venue.fault(bench.about.orders_path, FaultKind.REFUSED, code=code, message="something new")
    with pytest.raises((Rejected, Ambiguous)) as fault:
        await bench.broker.place(bench.order(bench.about.size))
    assert fault.value.code.startswith(code)
    if isinstance(fault.value, Rejected):
        assert fault.value.reason is RejectionReason.OTHER
    assert (await bench.broker.state()).positions


@every
@pytest.mark.parametrize(
    "kind", [FaultKind.SERVER_ERROR, FaultKind.HTML, FaultKind.HANGS_BEFORE, FaultKind.CUT_BEFORE], ids=named
)
async def test_an_order_whose_answer_is_lost_and_that_never_arrived_is_not_found(bench: Bench, kind: FaultKind) -> None:
    bench.venue.fault(bench.about.orders_path, kind)
    order = bench.order(bench.about.size)
    with bench.hasty(), pytest.raises(Ambiguous):
        await bench.broker.place(order)
    assert await bench.broker.find(order.client_order_id, order.symbol) is None
    assert (await bench.broker.place(order)).quantity == bench.about.size
    assert (await bench.broker.state()).positions == ()


@every
@pytest.mark.parametrize("kind", [FaultKind.HANGS_AFTER, FaultKind.CUT_AFTER], ids=named)
async def test_an_order_whose_answer_is_lost_and_that_was_executed_is_found_and_not_sent_again(
    bench: Bench, kind: FaultKind
) -> None:
    bench.venue.fault(bench.about.orders_path, kind)
    order = bench.order(bench.about.size)
    with bench.hasty(), pytest.raises(Ambiguous):
        await bench.broker.place(order)
    found = await bench.broker.find(order.client_order_id, order.symbol)
    assert isinstance(found, BrokerFill)
    assert found.quantity == bench.about.size
    assert bench.orders_asked() == 1
    assert (await bench.broker.state()).positions == ()


@every
@pytest.mark.parametrize("kind", [FaultKind.TOO_MANY, FaultKind.CLOCK], ids=named)
async def test_an_order_that_the_venue_would_not_hear_was_not_placed(bench: Bench, kind: FaultKind) -> None:
    bench.venue.fault(bench.about.orders_path, kind)
    expected, _ = SAID_OTHERWISE.get((bench.about.broker, kind), READS[kind])
    with pytest.raises(expected):
        await bench.broker.place(bench.order(bench.about.size))
    unpause(bench)
    assert (await bench.broker.state()).positions
    assert (await bench.broker.place(bench.order(bench.about.size))).quantity == bench.about.size


@every
async def test_a_venue_that_is_not_there_was_not_reached(bench: Bench) -> None:
    await bench.venue.stop()
    with pytest.raises(Unreachable):
        await bench.broker.state()
    with pytest.raises(Unreachable):
        await bench.broker.place(bench.order(bench.about.size))


@pytest.mark.parametrize("about", [one for one in ALL if one.profile.leverage_path is LeveragePath.ENDPOINT], ids=named)
@pytest.mark.parametrize("kind", [FaultKind.HANGS_BEFORE, FaultKind.HANGS_AFTER], ids=named)
async def test_leverage_whose_answer_is_lost_is_doubtful_and_asked_once(about: Venue, kind: FaultKind) -> None:
    async with bench_of(about) as bench:
        bench.venue.fault("POST .*leverage$", kind)
        with bench.hasty(), pytest.raises(Ambiguous):
            await bench.broker.set_leverage(bench.symbol, D(2))
        assert len(bench.venue.asked("POST .*leverage$")) == 1


READ_BACK = {"bybit": "/v5/position/list", "binance": "/fapi/v1/symbolConfig", "okx": "/account/leverage-info"}


@pytest.mark.parametrize("about", [VENUES[one] for one in READ_BACK], ids=named)
async def test_leverage_that_was_set_and_cannot_be_read_back_is_doubtful(about: Venue) -> None:
    async with bench_of(about) as bench:
        bench.venue.fault(READ_BACK[about.broker], FaultKind.SERVER_ERROR)
        with pytest.raises(Ambiguous, match="could not be read back"):
            await bench.broker.set_leverage(bench.symbol, D(2))
        assert await bench.broker.set_leverage(bench.symbol, D(2)) == 2


@pytest.mark.parametrize("about", [one for one in ALL if one.profile.can(Feature.BORROW)], ids=named)
async def test_a_loan_whose_answer_is_lost_is_never_asked_for_again(about: Venue) -> None:
    async with bench_of(about) as bench:
        bench.venue.fault("POST .*(borrow|borrow-repay)$", FaultKind.HANGS_AFTER)
        with bench.hasty(), pytest.raises(Ambiguous):
            await bench.broker.borrow(about.cash, D(100))
        assert len(bench.venue.asked("POST .*borrow")) == 1
        found = (await bench.broker.loans()) or (await bench.broker.state()).balances
        assert [one.debt for one in found] == [100]


@every
async def test_a_dropped_price_stream_is_said_and_can_be_taken_up_again(bench: Bench) -> None:
    async with aclosing(bench.feed.watch([bench.symbol])) as pushed:
        await asyncio.wait_for(anext(pushed), 10)
        waiting = asyncio.ensure_future(drained(pushed))
        await bench.venue.drop_sockets()
        with pytest.raises(Unreachable):
            await asyncio.wait_for(waiting, 10)
    async with aclosing(bench.feed.watch([bench.symbol])) as pushed:
        assert (await asyncio.wait_for(anext(pushed), 10)).symbol == bench.symbol


async def drained(pushed: AsyncIterator[object]) -> None:
    async for _ in pushed:
        continue


@every
async def test_a_price_stream_that_cannot_be_opened_is_said(bench: Bench) -> None:
    bench.venue.refuses_sockets = True
    async with aclosing(bench.feed.watch([bench.symbol])) as pushed:
        with pytest.raises(Unreachable):
            await asyncio.wait_for(anext(pushed), 10)


@streaming
async def test_a_dropped_account_stream_is_said_and_can_be_taken_up_again(bench: Bench) -> None:
    async with aclosing(bench.broker.changes()) as changes:
        waiting = asyncio.ensure_future(drained(changes))
        await listening(bench)
        await bench.venue.drop_sockets()
        with pytest.raises(Unreachable):
            await asyncio.wait_for(waiting, 10)
    async with aclosing(bench.broker.changes()) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await listening(bench)
        bench.venue.book.close_by_hand(bench.about.linear[1])
        await asyncio.wait_for(waiting, 10)


async def listening(bench: Bench) -> None:
    """Until the venue has somebody to push to."""
    while not any(socket.topics or "listenKey" in socket.query for socket in bench.venue.sockets):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("about", [VENUES[one] for one in ("bybit", "binance", "okx")], ids=named)
async def test_a_clock_that_is_off_is_measured_when_connecting(about: Venue) -> None:
    async with bench_of(about) as bench:
        bench.venue.book.clock_ahead = timedelta(hours=1)
        with pytest.raises((Unreachable, Denied)):
            await bench.broker.state()
        await bench.broker.connect()
        assert (await bench.broker.state()).health.equity == 100_000
        offset = bench.broker.link.clock_offset
        assert offset is not None
        assert abs(offset + timedelta(hours=1)) < timedelta(seconds=2)


async def test_the_number_that_kraken_counts_by_never_falls_back() -> None:
    async with bench_of(VENUES["kraken"]) as bench:
        await bench.broker.state()
        bench.venue.book.clock_ahead = timedelta(hours=-1)
        await bench.broker.connect()
        assert (await bench.broker.state()).health.equity == 100_000
        bench.venue.book.clock_ahead = timedelta(0)
        await bench.broker.connect()
        await bench.broker.state()
        nonces = [int(asked.params["nonce"]) for asked in bench.venue.asked("POST /0/private/")]
        assert nonces == sorted(nonces)
        assert bench.broker.link.clock_offset is not None


@every
async def test_a_position_that_this_service_cannot_count_is_not_left_out(bench: Bench) -> None:
    markets = bench.broker.markets()
    for venue_symbol, name in list(markets.house_names.items()):
        if name == bench.symbol:
            del markets.house_names[venue_symbol]
    with pytest.raises(Unreachable, match="does not trade") as fault:
        await bench.broker.state()
    assert fault.value.code == "UNKNOWN_INSTRUMENT"
