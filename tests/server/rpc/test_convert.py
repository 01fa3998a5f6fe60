"""Answers: what is unknown is absent, parts sum to their totals, and every number obeys the wire's grammar."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from google.protobuf.message import Message

from debt_mgmt.core import account as a
from debt_mgmt.core.commands import AdjustIsolatedMargin, Order, ReserveMargin, SetMarginMode
from debt_mgmt.core.house import Halt
from debt_mgmt.core.margin import Summary, World, summarize
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import parse
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.rpc import convert
from debt_mgmt.v1 import margin_service_pb2, rejections_pb2, types_pb2
from tests.server.rpc.edge import RULES, START, Edge

D = Decimal

WORDS = {
    "account_id", "currency", "trading_state_reason", "symbol", "source", "asset", "message", "subject",
    "stale_symbols", "reservation_id", "client_order_id", "liquidation_id", "state_reason", "failure",
    "fill_id", "fee_asset", "alert_id", "acknowledged_by", "fee", "realized_pnl",
}  # fmt: skip


def decimals_in(message: Message) -> Iterator[tuple[str, str]]:
    """Every string field that holds a number."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                yield from decimals_in(one)
        elif field.type == field.TYPE_STRING and field.name not in WORDS:
            yield field.name, value


async def state(edge: Edge, account_id: str = "alice") -> tuple[a.Account, Summary, World]:
    account, world = edge.engine.account(account_id), edge.engine.world()
    return account, summarize(account, world), world


async def status_of(edge: Edge, account_id: str = "alice") -> margin_service_pb2.MarginStatus:
    return convert.margin_status(*await state(edge, account_id))


async def test_a_long_position_is_shown_with_its_working(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.mark(BTCUSDT="49000")
    status = await status_of(edge)
    assert (status.equity, status.margin_used, status.margin_available) == ("9900", "2450", "7450")
    assert status.margin_utilization == "0.24747475"
    assert (status.wallet_balance, status.unrealized_pnl, status.total_value) == ("10000", "-100", "9900")
    assert (status.collateral_value, status.debt, status.isolated_margin) == ("10000", "0", "0")
    assert (status.initial_margin_positions, status.initial_margin_reservations) == ("2450", "0")
    assert (status.open_positions, status.level, status.stale) == (1, types_pb2.RISK_LEVEL_NORMAL, False)
    assert [mark.symbol for mark in status.marks] == ["BTCUSDT"]
    assert status.thresholds.forced_liquidation_threshold == "0.9"


async def test_every_number_obeys_the_grammar_and_the_parts_their_sums(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.fill("alice", a.Side.SELL, "0.037", "BTCUSDT", "50123.7")
    await edge.mark(BTCUSDT="49987.3", ETHUSDT="3333.33")
    await edge.fill("alice", a.Side.SELL, "1.03", "ETHUSDT", "3331.11")
    order = Order("ETHUSDT", a.Side.SELL, D("0.07"), D("3340.1"))
    await edge.engine.submit("alice", ReserveMargin(order), request_id="", actor=SYSTEM)
    await edge.mark(ETHUSDT="3371.17")
    account, summary, world = await state(edge)
    status = convert.margin_status(account, summary, world)
    messages: list[Message] = [status, *convert.positions(account, summary, world)]
    messages += [convert.reservation(one, account, world) for one in account.reservations.values()]
    found = [pair for message in messages for pair in decimals_in(message)]
    assert len(found) >= 50
    for name, number in found:
        assert len(number) <= 40, name
        parse(number)
    assert D(status.wallet_balance) + D(status.unrealized_pnl) == D(status.total_value)
    assert D(status.collateral_value) + D(status.unrealized_pnl) == D(status.equity)
    reserved = D(status.initial_margin_reservations)
    assert reserved > 0
    assert D(status.initial_margin_positions) + reserved == D(status.margin_used)


async def test_shocks_tell_how_far_each_level_is(edge: Edge) -> None:
    await edge.long_bitcoin()
    status = await status_of(edge)
    targets = [shock.target for shock in status.shocks]
    assert targets == [number for number in types_pb2.ShockTarget.values() if number]
    bankruptcy = status.shocks[-1]
    assert not bankruptcy.HasField("up")
    # A tenth of a bitcoin at 50,000 is worth 5,000: even at a price of nothing half of the 10,000 is left.
    assert not bankruptcy.HasField("down")
    assert not convert.margin_status(*await state(edge), with_shocks=False).shocks


async def test_without_a_price_amounts_are_absent_and_the_level_unknown(edge: Edge) -> None:
    await edge.long_bitcoin()
    del edge.engine.marks["BTCUSDT"]
    account, summary, world = await state(edge)
    status = convert.margin_status(account, summary, world)
    amounts = (
        "equity", "margin_used", "margin_available", "margin_utilization", "maintenance_margin", "total_value",
        "wallet_balance", "collateral_value", "unrealized_pnl", "initial_margin_positions",
    )  # fmt: skip
    present = {field.name for field, _ in status.ListFields()}
    assert not present.intersection(amounts)
    assert (status.level, status.stale, list(status.stale_symbols)) == (types_pb2.RISK_LEVEL_UNKNOWN, True, ["BTCUSDT"])
    assert not status.shocks
    (position,) = convert.positions(account, summary, world)
    figures_of_mark = (
        "mark_price", "notional", "initial_margin", "maintenance_margin", "unrealized_pnl", "liquidation_price",
        "bankruptcy_price", "distance_to_liquidation", "isolated_margin",
    )  # fmt: skip
    present = {field.name for field, _ in position.ListFields()}
    assert not present.intersection(figures_of_mark)
    assert (position.quantity, position.entry_price, position.realized_pnl) == ("0.1", "50000", "0")
    figures = convert.margin_figures(a.Figures(), RULES)
    assert figures.level == types_pb2.RISK_LEVEL_UNKNOWN
    assert not figures.HasField("equity")


async def test_with_old_prices_amounts_are_there_and_stale(edge: Edge) -> None:
    await edge.long_bitcoin()
    edge.clock.advance(seconds=31)
    status = await status_of(edge)
    assert status.equity == "10000"
    assert (status.stale, status.level, status.marks[0].stale) == (True, types_pb2.RISK_LEVEL_UNKNOWN, True)
    assert status.marks[0].age.seconds == 31


@pytest.mark.parametrize(("seconds", "stale"), [(0, False), (30, False), (30.001, True), (-5, False)])
def test_a_mark_is_stale_when_it_is_older_than_allowed(seconds: float, stale: bool) -> None:
    mark = Mark("BTCUSDT", D("50000.10"), "test", START, START)
    message = convert.mark(mark, START + timedelta(seconds=seconds), timedelta(seconds=30))
    assert (message.price, message.stale) == ("50000.1", stale)
    assert message.age.ToTimedelta() == timedelta(seconds=max(seconds, 0))


async def test_a_short_position_ends_where_equity_does(edge: Edge) -> None:
    await edge.open("bob", "20000")
    await edge.mark(BTCUSDT="50000")
    await edge.fill("bob", a.Side.SELL, "0.5", "BTCUSDT", "50000")
    (position,) = convert.positions(*await state(edge, "bob"))
    assert (position.quantity, position.bankruptcy_price) == ("-0.5", "90000")
    # 20,000 + 0.5 × (50,000 − p) = 0.5 % of 0.5 × p
    assert position.liquidation_price == "89552.238805970149253731"
    assert position.distance_to_liquidation == "0.79104477"
    await edge.mark(BTCUSDT="55000")
    (position,) = convert.positions(*await state(edge, "bob"))
    assert position.liquidation_price == "89552.238805970149253731"
    assert position.distance_to_liquidation == "0.62822252"


async def test_a_position_beyond_its_liquidation_price_has_no_distance_left(edge: Edge) -> None:
    await edge.open("bob", "20000")
    await edge.mark(BTCUSDT="50000")
    await edge.fill("bob", a.Side.SELL, "0.5", "BTCUSDT", "50000")
    edge.engine.marks["BTCUSDT"] = Mark("BTCUSDT", D(89_900), "test", START, START)
    (position,) = convert.positions(*await state(edge, "bob"))
    assert (position.distance_to_liquidation, position.unrealized_pnl) == ("0", "-19950")


async def test_a_long_position_without_leverage_has_no_liquidation_price(edge: Edge) -> None:
    await edge.long_bitcoin()
    (position,) = convert.positions(*await state(edge))
    assert not position.HasField("liquidation_price")
    assert not position.HasField("distance_to_liquidation")


async def test_an_isolated_position_shows_what_is_posted(edge: Edge) -> None:
    await edge.open()
    await edge.mark(BTCUSDT="50000")
    command = SetMarginMode("BTCUSDT", a.MarginMode.ISOLATED)
    await edge.engine.submit("alice", command, request_id="", actor=SYSTEM)
    await edge.fill("alice", a.Side.BUY, "0.1", "BTCUSDT", "50000")
    more = AdjustIsolatedMargin("BTCUSDT", a.PositionSide.NET, D(500))
    await edge.engine.submit("alice", more, request_id="", actor=SYSTEM)
    account, summary, world = await state(edge)
    (position,) = convert.positions(account, summary, world)
    assert (position.isolated_margin, position.margin_mode) == ("3000", types_pb2.MARGIN_MODE_ISOLATED)
    assert position.bankruptcy_price == "20000"
    status = convert.margin_status(account, summary, world)
    assert (status.isolated_margin, status.equity, status.collateral_value) == ("3000", "7000", "7000")
    assert status.wallet_balance == "10000"


def test_a_price_that_can_not_be_spelled_is_absent() -> None:
    assert convert.price_text(None) is None
    assert convert.price_text(D(-1)) is None
    assert convert.price_text(D(0)) is None
    assert convert.price_text(D("1E-19")) is None
    assert convert.price_text(D("1E20")) is None
    assert convert.price_text(D(1) / D(3)) == "0.333333333333333333"


@pytest.mark.parametrize("reason", Reason)
def test_every_refusal_has_a_sentence_and_keeps_its_numbers(reason: Reason) -> None:
    full = convert.violation(Violation(reason, "BTCUSDT", D("1.50"), D(1), D(0), "a note"))
    assert full.reason == rejections_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason.value}")
    assert full.message
    assert (full.value, full.limit, full.headroom, full.subject) == ("1.5", "1", "0", "BTCUSDT")
    bare = convert.violation(Violation(reason))
    assert not (bare.HasField("value") or bare.HasField("limit") or bare.HasField("headroom"))


@pytest.mark.parametrize(
    ("used", "current", "level"),
    [
        ("6900", a.RiskLevel.NORMAL, a.RiskLevel.NORMAL),
        ("6900", a.RiskLevel.WARNING, a.RiskLevel.WARNING),
        ("7000", a.RiskLevel.NORMAL, a.RiskLevel.WARNING),
        ("8000", a.RiskLevel.UNKNOWN, a.RiskLevel.CRITICAL),
        ("9000", a.RiskLevel.NORMAL, a.RiskLevel.LIQUIDATING),
        ("0", a.RiskLevel.LIQUIDATING, a.RiskLevel.NORMAL),
    ],
)
def test_figures_carry_the_level_that_they_mean(used: str, current: a.RiskLevel, level: a.RiskLevel) -> None:
    shown = a.Figures(equity=D(10_000), margin_used=D(used))
    assert convert.level_of(shown, RULES, current) is level


async def test_a_halt_of_the_house_halts_every_account(edge: Edge) -> None:
    account = await edge.open()
    house = edge.engine.house
    assert convert.trading_state(account, house) == (a.TradingState.ACTIVE, "")
    halted = msgspec.structs.replace(house, halts={"": Halt("", "exchange down", START)})
    assert convert.trading_state(account, halted) == (a.TradingState.HALTED, "exchange down")
    others = msgspec.structs.replace(house, halts={"bob": Halt("bob", "audit", START)})
    assert convert.trading_state(account, others) == (a.TradingState.ACTIVE, "")
    own = msgspec.structs.replace(account, trading_state=a.TradingState.HALTED, trading_reason="mine")
    assert convert.trading_state(own, halted) == (a.TradingState.HALTED, "mine")


# Reductions and alerts


def reduction(*steps: a.ReductionStep, cause: a.ReductionCause, ended: bool = False) -> a.Reduction:
    return a.Reduction(
        plan_id="2-7",
        cause=cause,
        reason="asked for",
        started_at=START,
        steps=steps,
        utilization_before=D("0.91"),
        marks=(a.MarkUsed("BTCUSDT", D(50_000), "test", START, START - timedelta(seconds=2)),),
        ended_at=START + timedelta(seconds=3) if ended else None,
        utilization_after=D("0.70") if ended else None,
    )


def step(number: int, filled: str | None) -> a.ReductionStep:
    """A step of 2 contracts: pending (None) or done with so much filled."""
    return a.ReductionStep(
        step=number,
        client_order_id=f"liq-2-7-{number}",
        symbol="BTCUSDT",
        position_side=a.PositionSide.NET,
        side=a.Side.SELL,
        quantity=D(2),
        cause=a.ReductionCause.FORCED,
        filled_quantity=D(filled or 0),
        price=D(49_000) if filled else None,
        done=filled is not None,
    )


def test_a_reduction_that_goes_on() -> None:
    message = convert.liquidation(reduction(step(1, "2"), step(2, None), cause=a.ReductionCause.FORCED), "alice", RULES)
    assert (message.state, message.state_reason) == (margin_service_pb2.LIQUIDATION_STATE_RUNNING, "")
    assert message.cause == margin_service_pb2.LIQUIDATION_CAUSE_FORCED
    done, pending = message.steps
    assert done.state == margin_service_pb2.LIQUIDATION_STEP_STATE_DONE
    assert [(fill.quantity, fill.price) for fill in done.fills] == [("2", "49000")]
    assert (pending.state, len(pending.fills)) == (margin_service_pb2.LIQUIDATION_STEP_STATE_PENDING, 0)
    assert message.utilization_before == "0.91"
    assert not (message.HasField("utilization_after") or message.HasField("end_time"))
    assert not message.HasField("bankruptcy_deficit")
    assert message.marks[0].age.seconds == 2


def test_a_reduction_that_is_complete() -> None:
    message = convert.liquidation(reduction(step(1, "2"), cause=a.ReductionCause.REQUESTED, ended=True), "alice", RULES)
    assert message.state == margin_service_pb2.LIQUIDATION_STATE_COMPLETED
    assert (message.state_reason, message.utilization_after) == ("asked for", "0.7")
    assert message.end_time.ToDatetime(START.tzinfo) == START + timedelta(seconds=3)


def test_a_reduction_that_fell_short_says_where() -> None:
    steps = (step(1, "1.5"), step(2, "0"))
    message = convert.liquidation(reduction(*steps, cause=a.ReductionCause.ISOLATED, ended=True), "alice", RULES)
    assert message.state == margin_service_pb2.LIQUIDATION_STATE_INCOMPLETE
    assert message.cause == margin_service_pb2.LIQUIDATION_CAUSE_FORCED
    assert message.state_reason == "step 1: filled 1.5 of 2 BTCUSDT; step 2: filled 0 of 2 BTCUSDT"
    assert [one.state for one in message.steps] == [margin_service_pb2.LIQUIDATION_STEP_STATE_FAILED] * 2
    assert [len(one.fills) for one in message.steps] == [1, 0]


def test_an_alert_without_a_utilization() -> None:
    alert = a.Alert("2-9", a.AlertKind.LEVEL_UNKNOWN, a.Severity.CRITICAL, START, a.RiskLevel.UNKNOWN, "no price")
    message = convert.alert(alert, "alice", RULES)
    assert (message.alert_id, message.account_id, message.message) == ("2-9", "alice", "no price")
    assert message.level == types_pb2.RISK_LEVEL_UNKNOWN
    assert not (message.HasField("utilization") or message.acknowledged or message.HasField("acknowledge_time"))
