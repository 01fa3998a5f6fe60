"""Halts of every node: in force at once, for what they name and nothing else; exits pass; restarts change nothing."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import PositionMode, PositionSide, Side
from debt_mgmt.core.check import check, check_brief
from debt_mgmt.core.commands import Order, PlaceOrder, RecordFill, ReserveMargin
from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.digests import digest_of
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.shard_answers import RequestIdReused
from debt_mgmt.v1 import audit_service_pb2, rejections_pb2, types_pb2
from debt_mgmt.v1 import risk_service_pb2 as wire
from tests.server.rpc.edge import CALL, RULES, CallOf, Edge, without_replayed

D = Decimal
ORDERS = [
    (account_id, strategy, symbol)
    for account_id in ("alice", "bob", "carol")
    for strategy in ("momo", "carry", "")
    for symbol in ("BTCUSDT", "ETHUSDT")
]
"""Alice and Bob belong to the desk, Carol to herself."""
OWNER = {"alice": "desk", "bob": "desk", "carol": "carol"}

NODES: list[dict[str, str]] = [
    {"strategy": "momo"},
    {"symbol": "BTCUSDT"},
    {"strategy": "momo", "symbol": "BTCUSDT"},
    {"owner": "desk", "strategy": "momo"},
    {"owner": "desk", "symbol": "ETHUSDT"},
    {"owner": "desk"},
    {"account_id": "alice"},
    {"account_id": "alice", "owner": "desk"},
    {"account_id": "alice", "strategy": "momo"},
    {"account_id": "alice", "symbol": "BTCUSDT"},
    {"account_id": "alice", "strategy": "carry", "symbol": "ETHUSDT"},
]


def named(node: dict[str, str]) -> str:
    return " ".join(node.values())


def concerned(node: dict[str, str], account_id: str, strategy: str, symbol: str) -> bool:
    has = {"owner": OWNER[account_id], "account_id": account_id, "strategy": strategy, "symbol": symbol}
    return all(has[name] == value for name, value in node.items())


async def desk(edge: Edge) -> None:
    await edge.mark(BTCUSDT="50000", ETHUSDT="2500")
    for account_id, owner in OWNER.items():
        await edge.open(account_id, owner=owner)


def refused(edge: Edge) -> set[tuple[str, str, str]]:
    """The orders that a check refuses; the batch's check and the decision say the same."""
    found = set()
    for account_id, strategy, symbol in ORDERS:
        view = edge.engine.view(account_id)
        order = Order(symbol, Side.BUY, D("0.01"), strategy=strategy)
        result = check(view, order, edge.engine.clock())
        assert check_brief(view, order, edge.engine.clock(), hold=False).fits is result.fits
        assert (result.largest_buy == 0) is not result.fits
        if not result.fits:
            assert {one.reason for one in result.violations} <= {"HOUSE_HALTED", "TRADING_HALTED"}
            found.add((account_id, strategy, symbol))
    return found


async def change(edge: Edge, kind: str, node: dict[str, str], request_id: str = "", call: Any = CALL) -> Any:
    request = getattr(wire, f"{kind}TradingRequest")(
        request_id=request_id or edge.request_id(), node=types_pb2.Scope(**node), reason="odd fills"
    )
    return await getattr(edge.risk, f"{kind}Trading")(request, call)


@pytest.mark.parametrize("node", NODES, ids=named)
async def test_a_halt_stops_what_its_node_names_and_nothing_else(edge: Edge, node: dict[str, str]) -> None:
    await desk(edge)
    halted = await change(edge, "Halt", node, "h-1")
    assert halted.accepted
    assert halted.account_count == sum(
        all(node.get(name, value) == value for name, value in (("owner", owner), ("account_id", one)))
        for one, owner in OWNER.items()
    )
    assert refused(edge) == {one for one in ORDERS if concerned(node, *one)}
    assert without_replayed(await change(edge, "Halt", node, "h-1")) == without_replayed(halted)
    for wrong in ({"strategy": "zeta"}, {"account_id": "alice", "strategy": "zeta"}, {"owner": "zeta"}):
        other = await change(edge, "Resume", wrong)
        assert [one.reason for one in other.violations] == [rejections_pb2.REFUSAL_REASON_ALREADY_IN_STATE]
    assert (await change(edge, "Resume", node)).accepted
    assert not refused(edge)
    again = await change(edge, "Resume", node)
    assert [one.reason for one in again.violations] == [rejections_pb2.REFUSAL_REASON_ALREADY_IN_STATE]


@pytest.mark.parametrize("node", NODES, ids=named)
@pytest.mark.parametrize("held", ["long", "short"])
async def test_exits_pass_every_halt(edge: Edge, node: dict[str, str], held: str) -> None:
    await desk(edge)
    enter, leave = (Side.BUY, Side.SELL) if held == "long" else (Side.SELL, Side.BUY)
    await edge.fill("alice", enter, "0.02", "BTCUSDT", "50000")
    await edge.fill("alice", enter, "0.02", "ETHUSDT", "2500")
    await change(edge, "Halt", node)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for strategy in ("momo", "carry", ""):
            order = Order(symbol, leave, D("0.01"), strategy=strategy)
            assert check(edge.engine.view("alice"), order, edge.engine.clock()).fits
            done = await edge.engine.submit("alice", ReserveMargin(order), request_id="", actor=SYSTEM)
            assert isinstance(done.events[0], e.MarginReserved)
    closed = await edge.engine.submit("alice", c.ClosePosition("BTCUSDT"), request_id="", actor=SYSTEM)
    assert isinstance(closed.events[0], e.ReductionStarted)


async def test_exits_of_a_hedge_leg_pass_and_entries_do_not(edge: Edge) -> None:
    await edge.mark(BTCUSDT="50000")
    await edge.open("hedge", position_mode=types_pb2.POSITION_MODE_HEDGE)
    assert edge.engine.account("hedge").position_mode is PositionMode.HEDGE
    for side, leg in ((Side.BUY, PositionSide.LONG), (Side.SELL, PositionSide.SHORT)):
        fill = RecordFill(f"f-{leg}", "BTCUSDT", side, D("0.02"), D(50000), position_side=leg, strategy="momo")
        await edge.engine.submit("hedge", fill, request_id="", actor=SYSTEM)
    await change(edge, "Halt", {"strategy": "momo"})
    for side, leg in ((Side.BUY, PositionSide.LONG), (Side.SELL, PositionSide.SHORT)):
        for way, fits in ((side, False), (side.opposite, True)):
            order = Order("BTCUSDT", way, D("0.01"), position_side=leg, strategy="momo")
            assert check(edge.engine.view("hedge"), order, edge.engine.clock()).fits is fits


async def test_the_refusal_names_the_node(edge: Edge) -> None:
    await desk(edge)
    await change(edge, "Halt", {"owner": "desk", "strategy": "momo"})
    order = Order("BTCUSDT", Side.BUY, D("0.01"), strategy="momo")
    done = await edge.engine.submit("alice", ReserveMargin(order), request_id="r", actor=SYSTEM)
    event = done.events[0]
    assert isinstance(event, e.CommandRefused)
    (violation,) = event.violations
    assert violation.subject == "owner desk, strategy momo" and violation.note == "odd fills"
    assert violation.scope is not None and violation.scope.strategy == "momo"
    explained = await edge.audit.ExplainEvent(
        audit_service_pb2.ExplainEventRequest(caused_by_request_id="r", account_id="alice"), CALL
    )
    assert explained.reproduced
    assert "ResumeTrading lifts the halt of owner desk, strategy momo" in explained.remedy
    assert [one.kind for one in explained.led_by].count("TradingHalted") == 1
    (shown,) = explained.violations
    assert (shown.scope.owner, shown.scope.strategy) == ("desk", "momo")


async def test_wider_and_narrower_halts_stand_beside_each_other(edge: Edge) -> None:
    await desk(edge)
    wide, narrow = {"strategy": "momo"}, {"account_id": "alice", "strategy": "momo"}
    await change(edge, "Halt", wide)
    await change(edge, "Halt", narrow)
    order = Order("BTCUSDT", Side.BUY, D("0.01"), strategy="momo")
    assert len(check(edge.engine.view("alice"), order, edge.engine.clock()).violations) == 2
    await change(edge, "Resume", wide)
    assert refused(edge) == {one for one in ORDERS if concerned(narrow, *one)}
    await change(edge, "Halt", wide)
    await change(edge, "Resume", narrow)
    assert refused(edge) == {one for one in ORDERS if concerned(wide, *one)}


async def test_only_resting_orders_that_a_halt_concerns_are_cancelled(edge: Edge) -> None:
    await desk(edge)
    await edge.fill("alice", Side.BUY, "0.01", "BTCUSDT", "50000")

    async def place(strategy: str, symbol: str, side: Side = Side.BUY) -> str:
        price = {"BTCUSDT": D(45000), "ETHUSDT": D(2000)}[symbol] if side is Side.BUY else D(55000)
        order = Order(symbol, side, D("0.01"), price, strategy=strategy)
        done = await edge.engine.submit("alice", PlaceOrder(order), request_id="", actor=SYSTEM)
        assert isinstance(done.events[0], e.OrderPlaced), done.events
        return done.events[0].order.order_id

    gone = await place("momo", "BTCUSDT")
    stays = [await place("momo", "ETHUSDT"), await place("carry", "BTCUSDT"), await place("momo", "BTCUSDT", Side.SELL)]
    await change(edge, "Halt", {"strategy": "momo", "symbol": "BTCUSDT"})
    await edge.engine.paper.catch_up()
    account = edge.engine.account("alice")
    assert sorted(account.orders) == sorted(stays), "the exit of the halted strategy stays too"
    assert account.past_orders[-1].order_id == gone and account.past_orders[-1].note == "trading is halted"


async def test_a_halt_is_kept_over_a_restart() -> None:
    journal = MemoryJournal()
    first = Edge(journal, RULES)
    await first.engine.start()
    await first.furnish()
    await desk(first)
    await change(first, "Halt", {"owner": "desk", "strategy": "momo"})
    await change(first, "Halt", {"account_id": "carol"})
    before = await listed(first)
    await first.engine.stop()
    second = Edge(journal, RULES)
    await second.engine.start()
    try:
        await second.mark(BTCUSDT="50000", ETHUSDT="2500")
        kept = {one for one in ORDERS if concerned({"owner": "desk", "strategy": "momo"}, *one) or one[0] == "carol"}
        assert refused(second) == kept
        assert await listed(second) == before
    finally:
        await second.engine.stop()


async def listed(edge: Edge, **fields: Any) -> list[tuple[str, str, str]]:
    """Scope in words, reason and who, of every page."""
    found = []
    request = wire.ListHaltsRequest(**fields)
    while True:
        answer = await edge.risk.ListHalts(request, CALL)
        for one in answer.halts:
            scope = " ".join(getattr(one.scope, name) for name in ("owner", "account_id", "strategy", "symbol"))
            found.append((" ".join(scope.split()), one.reason, one.actor))
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_halts_are_listed_newest_first_with_who_and_why(edge: Edge) -> None:
    await desk(edge)
    nodes = [{"strategy": "momo"}, {"account_id": "bob"}, {"owner": "desk"}, {"account_id": "bob", "symbol": "BTCUSDT"}]
    for number, node in enumerate(nodes):
        edge.clock.advance(seconds=1)
        await change(edge, "Halt", node, call=CallOf(f"risk-{number}"))
    everything = wire.HaltTradingRequest(request_id="all", everything=True, reason="fire")
    edge.clock.advance(seconds=1)
    await edge.risk.HaltTrading(everything, CALL)
    told = [
        ("", "fire", "desk"), ("bob BTCUSDT", "odd fills", "risk-3"), ("desk", "odd fills", "risk-2"),
        ("bob", "odd fills", "risk-1"), ("momo", "odd fills", "risk-0"),
    ]  # fmt: skip
    assert await listed(edge) == await listed(edge, page_size=2) == told
    answer = await edge.risk.ListHalts(wire.ListHaltsRequest(), CALL)
    assert [one.account_count for one in answer.halts] == [3, 1, 2, 1, 3]
    times = [one.halt_time.ToMicroseconds() for one in answer.halts]
    assert times == sorted(times, reverse=True) and len(set(times)) == 5
    await edge.engine.submit("bob", c.ResumeTrading("over"), request_id="", actor=SYSTEM)
    await edge.engine.submit("carol", c.HaltTrading("by an earlier version"), request_id="", actor=SYSTEM)
    assert (await listed(edge))[0] == ("carol", "by an earlier version", "")


@pytest.mark.parametrize(
    ("node", "fields"),
    [
        ({}, ["node"]),
        ({"strategy": "a b"}, ["node.strategy"]),
        ({"symbol": "a b", "owner": "|"}, ["node.owner", "node.symbol"]),
        ({"account_id": "alice", "owner": "carol"}, ["node.owner"]),
    ],
)
async def test_a_node_that_is_none_is_refused(edge: Edge, node: dict[str, str], fields: list[str]) -> None:
    await desk(edge)
    for kind in ("Halt", "Resume"):
        with pytest.raises(InvalidRequest) as raised:
            await change(edge, kind, node)
        assert [field for field, _ in raised.value.problems] == fields
    assert not edge.engine.house.halts


async def test_a_halt_of_an_instrument_that_nobody_knows_would_stop_nothing(edge: Edge) -> None:
    await desk(edge)
    answer = await change(edge, "Halt", {"symbol": "BTCUDST"})
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_UNKNOWN_INSTRUMENT]
    assert not edge.engine.house.halts


async def test_a_race_of_halts_and_orders_never_lets_one_through_after_the_answer(edge: Edge) -> None:
    """Orders are sent all the time while a strategy is halted and resumed: none is held that came after the halt."""
    await desk(edge)
    order = Order("BTCUSDT", Side.BUY, D("0.001"), strategy="momo")
    halts = late = held = stopped = 0  # halts is odd while one is in force and was answered

    async def trade(number: int) -> None:
        nonlocal late, held, stopped
        for turn in range(40):
            before, name = halts, f"t-{number}-{turn}"
            made = await edge.engine.submit("alice", ReserveMargin(order), request_id=name, actor=SYSTEM)
            if isinstance(made.events[0], e.MarginReserved):
                held += 1
                late += before % 2 == 1 and halts == before
                release = c.ReleaseReservation(made.events[0].reservation.reservation_id)
                await edge.engine.submit("alice", release, request_id="", actor=SYSTEM)
            else:
                stopped += 1
            await asyncio.sleep(0)

    async def switch() -> None:
        nonlocal halts
        for _ in range(8):
            await change(edge, "Halt", {"strategy": "momo"})
            halts += 1
            await asyncio.sleep(0.002)
            halts += 1
            await change(edge, "Resume", {"strategy": "momo"})
            await asyncio.sleep(0.002)

    await asyncio.gather(switch(), *(trade(number) for number in range(4)))
    assert not late
    assert held and stopped


async def test_a_batch_holds_margin_beside_a_halt_that_is_not_its_own(edge: Edge) -> None:
    await desk(edge)
    await change(edge, "Halt", {"strategy": "momo"})
    view = edge.engine.view("alice").scratch()
    order = Order("BTCUSDT", Side.BUY, D("0.1"), strategy="carry")
    before = view.used
    assert check_brief(view, order, edge.engine.clock(), hold=True).fits
    assert view.used > before


def test_what_an_earlier_version_was_asked_has_the_digest_that_it_had() -> None:
    """Fields that came later are left out at their defaults: the digests of requests that are kept still hold."""

    class Plain(c.Command, frozen=True, tag="HaltHouse"):
        reason: str
        owner: str = ""

    assert digest_of(c.HaltHouse("why", "desk")) == digest_of(Plain("why", "desk"))
    assert digest_of(c.HaltHouse("why", "desk", strategy="momo")) != digest_of(Plain("why", "desk"))
    fill = RecordFill("f", "BTCUSDT", Side.BUY, D(1), D(2))
    assert digest_of(fill) != digest_of(RecordFill("f", "BTCUSDT", Side.BUY, D(1), D(2), strategy="momo"))


async def test_a_repeated_request_with_another_strategy_is_another_request(edge: Edge) -> None:
    await desk(edge)
    first = ReserveMargin(Order("BTCUSDT", Side.BUY, D("0.01"), strategy="momo"))
    other = ReserveMargin(Order("BTCUSDT", Side.BUY, D("0.01")))
    await edge.engine.submit("alice", first, request_id="same", actor=SYSTEM)
    with pytest.raises(RequestIdReused):
        await edge.engine.submit("alice", other, request_id="same", actor=SYSTEM)
