"""Forced reductions: as much as returns to the target and no lot more, never the wrong way, one plan at a time."""

from datetime import timedelta
from decimal import ROUND_DOWN, Decimal

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    AlertKind,
    MarginMode,
    PositionMode,
    Reduction,
    ReductionCause,
    RiskLevel,
    Side,
    TradingState,
)
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.liquidation import forced_quantities
from debt_mgmt.core.settings import RiskSettings
from tests.support.desk import FREE, HOUSE, Desk, decode, kinds, order, reasons
from tests.support.instruments import inverse, linear

D = Decimal
TARGET = D("0.70")


def reduction_of(desk: Desk, account_id: str = "alice") -> Reduction:
    reduction = desk.account(account_id).reduction
    assert reduction is not None
    return reduction


def overloaded(
    instrument: Instrument, side: str, quantity: Decimal, utilization: Decimal, leverage: int, risk: RiskSettings = FREE
) -> Desk:
    """One position whose margin is `utilization` of equity: the level is LIQUIDATING and the plan is made."""
    desk = Desk(risk, instruments=[instrument])
    currency = instrument.settle
    price = D(50_000)
    desk.mark(instrument.symbol, price)
    size = quantity * instrument.contract_size
    notional = size / price if instrument.inverse else size * price
    desk.open("alice", (notional / leverage / utilization).quantize(D("1e-12"), ROUND_DOWN), currency=currency)
    desk.leverage("alice", instrument.symbol, leverage)
    desk.fill("alice", side, quantity, instrument.symbol)
    return desk


single_positions = st.tuples(
    st.sampled_from([linear("BTCUSDT", lot="0.001"), linear("BTCUSDT", lot="0.25"), inverse("BTCUSD", lot="1")]),
    st.sampled_from(["buy", "sell"]),
    st.integers(1, 4000),
    st.integers(900, 1800).map(lambda permille: D(permille) / 1000),
    st.sampled_from([1, 2, 5]),
)


@given(single_positions)
@settings(max_examples=150)
def test_the_plan_returns_to_the_target_and_one_lot_less_does_not(
    drawn: tuple[Instrument, str, int, Decimal, int],
) -> None:
    instrument, side, lots, utilization, leverage = drawn
    desk = overloaded(instrument, side, lots * instrument.lot, utilization, leverage)
    account = desk.account()
    assert account.level is RiskLevel.LIQUIDATING
    (step,) = reduction_of(desk).steps
    held = account.positions[instrument.symbol].quantity
    assert step.side.sign * held < 0
    assert 0 < step.quantity <= abs(held)
    assert step.quantity % instrument.lot == 0
    one_less = Desk(FREE, instruments=[instrument])
    one_less.accounts, one_less.marks, one_less.journal = dict(desk.accounts), desk.marks, dict(desk.journal)
    desk.run_reductions("alice")
    after = desk.summary()
    assert after.used <= TARGET * after.equity
    assert desk.account().reduction is None
    if step.quantity > instrument.lot:
        one_less.fill("alice", step.side.value, step.quantity - instrument.lot, instrument.symbol)
    not_enough = one_less.summary()
    assert not_enough.used > TARGET * not_enough.equity


@given(single_positions, st.sampled_from(["0", "0.0005", "0.002", "0.01"]), st.sampled_from(["0", "0.0004", "0.0006"]))
@settings(max_examples=100)
def test_the_plan_reckons_with_its_own_cost(
    drawn: tuple[Instrument, str, int, Decimal, int], slippage: str, fee_rate: str
) -> None:
    """Filled worse than the mark and with fees, it still returns to the target."""
    instrument, side, lots, utilization, leverage = drawn
    assume(not instrument.inverse)
    risk = msgspec.structs.replace(FREE, slippage_rate=D(slippage), taker_fee_rate=D(fee_rate))
    desk = overloaded(instrument, side, lots * instrument.lot, utilization, leverage, risk)
    (step,) = reduction_of(desk).steps
    price = D(50_000) * (1 - step.side.opposite.sign * D(slippage))
    desk.fill(
        "alice", step.side.value, step.quantity, instrument.symbol, price, fee=step.quantity * price * D(fee_rate)
    )
    after = desk.summary()
    assert after.used <= TARGET * after.equity


legs = st.integers(0, 400).map(D)


@given(
    st.lists(st.tuples(legs, legs, st.sampled_from([1, 2, 5])), min_size=1, max_size=3),
    st.integers(901, 2500).map(lambda permille: D(permille) / 1000),
)
@settings(max_examples=150)
def test_hedged_pairs_stay_hedged_and_nothing_turns_round(
    pairs: list[tuple[Decimal, Decimal, int]], utilization: Decimal
) -> None:
    """Whatever is held, each step closes part of its own leg, and no asset's net exposure grows or changes sides."""
    assume(any(long or short for long, short, _ in pairs))
    names = ("AAAUSDT", "BBBUSDT", "CCCUSDT")[: len(pairs)]
    desk = Desk(FREE, instruments=[linear(name, lot="1") for name in names])
    needed = sum(((long + short) * 100 / leverage for long, short, leverage in pairs), D(0))
    desk.open("alice", needed * 1000, position_mode=PositionMode.HEDGE)
    for name, (long, short, leverage) in zip(names, pairs, strict=True):
        desk.mark(name, 100)
        desk.leverage("alice", name, leverage)
        for leg, side, quantity in (("LONG", "buy", long), ("SHORT", "sell", short)):
            if quantity:
                desk.fill("alice", side, quantity, name, leg=leg)
    summary = desk.summary()
    poorer = msgspec.structs.replace(summary, equity=needed / utilization)
    closing = forced_quantities(poorer, desk.world("alice"))
    used = summary.used
    for one in summary.positions:
        quantity = closing.get(one.position.key, D(0))
        assert 0 <= quantity <= abs(one.position.quantity)
        used -= quantity * 100 / one.position.leverage
    assert used <= TARGET * poorer.equity
    for name, (long, short, _) in zip(names, pairs, strict=True):
        before = long - short
        after = before - closing.get(f"{name}|LONG", D(0)) + closing.get(f"{name}|SHORT", D(0))
        assert abs(after) <= abs(before) + 1, "a leg was uncovered by more than the lot it was rounded to"
        assert after * before >= 0 or abs(after) <= 1


def test_the_largest_margin_is_closed_first_and_only_as_much_as_needed() -> None:
    desk = Desk(FREE)
    for symbol, price in (("BTCUSDT", 50_000), ("ETHUSDT", 2_500)):
        desk.mark(symbol, price)
    desk.open("alice", 10_000)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        desk.leverage("alice", symbol, 5)
    desk.fill("alice", "buy", "0.5", "BTCUSDT")  # 5,000 of margin
    desk.fill("alice", "sell", 8, "ETHUSDT")  # 4,000
    (step,) = reduction_of(desk).steps
    assert (step.symbol, step.side, step.quantity) == ("BTCUSDT", Side.SELL, D("0.2"))
    assert reduction_of(desk).utilization_before == D("0.9")
    desk.run_reductions("alice")
    assert desk.summary().used == 7_000
    assert desk.account().past_reductions[-1].utilization_after == D("0.7")


def test_a_leg_that_covers_another_is_not_closed_first_however_large_its_margin() -> None:
    """Long 300 in one contract, short 200 in another of the same coin: 100 are uncovered, where less margin is."""
    desk = Desk(FREE, instruments=[linear("GEMUSDT", lot="1"), linear("GEMUSDC", lot="1")])
    desk.value("USDC", USDT="1")
    desk.open("alice", 28_500)
    for symbol, side, quantity, leverage in (("GEMUSDT", "buy", 300, 5), ("GEMUSDC", "sell", 200, 1)):
        desk.mark(symbol, 100)
        desk.leverage("alice", symbol, leverage)
        desk.fill("alice", side, quantity, symbol)
    world = desk.world("alice")
    closing = forced_quantities(desk.summary(), world)
    assert closing["GEMUSDT"] >= 100
    uncovered = (300 - closing["GEMUSDT"]) - (200 - closing["GEMUSDC"])
    assert abs(uncovered) <= 1
    little = msgspec.structs.replace(desk.summary(), equity=desk.summary().used / TARGET - 100)
    assert forced_quantities(little, world) == {"GEMUSDT": D(4)}


def test_a_rest_too_small_to_trade_is_closed_too() -> None:
    terms = {"min_quantity": D(3), "lot": D(1)}
    instrument = msgspec.structs.replace(linear("ABCUSDT", lot="1"), **terms)
    desk = Desk(FREE, instruments=[instrument])
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 220)
    desk.leverage("alice", "ABCUSDT", 2)
    desk.fill("alice", "buy", 4, "ABCUSDT")
    (step,) = reduction_of(desk).steps
    assert step.quantity == 4  # one would do, three is the least, and the one left could not be sold


def test_one_plan_at_a_time_and_its_orders_have_names_that_repeat() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.95")
    plan = reduction_of(desk)
    assert plan.cause is ReductionCause.FORCED
    assert [step.client_order_id for step in plan.steps] == [f"liq-{plan.plan_id}-1"]
    for price in (49_500, 49_000, 48_500):
        happened = desk.mark("BTCUSDT", price)
        assert "ReductionStarted" not in kinds(happened.get("alice", ()))
    assert reduction_of(desk) == plan
    assert desk.replayed("alice").reduction == plan


def test_a_plan_that_was_not_enough_is_followed_by_the_next() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.95")
    first = reduction_of(desk)
    step = first.steps[0]
    desk.mark("BTCUSDT", 45_000)
    events = desk.do(
        "alice",
        c.RecordFill("1", step.symbol, step.side, step.quantity, D(45_000), plan_id=first.plan_id, step=step.step),
    )
    assert [kind for kind in kinds(events) if kind.startswith("Reduction")] == [
        "ReductionStepEnded",
        "ReductionEnded",
        "ReductionStarted",
    ]
    desk.run_reductions("alice")
    after = desk.summary()
    assert after.used <= TARGET * after.equity
    assert desk.account().past_reductions[0].plan_id == first.plan_id


def test_a_step_that_ends_without_a_fill_ends_the_plan() -> None:
    """And while the level still asks for it, the next plan begins: nothing silently stops protecting."""
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.95")
    plan = reduction_of(desk)
    events = desk.do("alice", c.EndReductionStep(plan.plan_id, 1, "the venue did not take it"))
    assert "ReductionEnded" in kinds(events)
    assert reduction_of(desk).plan_id != plan.plan_id
    assert desk.do("alice", c.EndReductionStep(plan.plan_id, 1, "again")) == ()


def test_a_reduction_runs_in_a_halted_account_and_reservations_are_gone_before_it() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.7")
    desk.reserve("alice", "buy", "0.05")
    desk.reserve("alice", "sell", "0.2", price=60_000)
    desk.do("alice", c.HaltTrading("by hand"))
    events = desk.mark("BTCUSDT", 46_000)["alice"]
    account = desk.account()
    assert account.level is RiskLevel.CRITICAL
    assert [one.reduce_only for one in account.reservations.values()] == [True]
    assert "ReservationReduced" in kinds(events)
    events = desk.mark("BTCUSDT", 44_500)["alice"]
    assert kinds(events) == ["RiskLevelChanged", "AlertRaised", "ReductionStarted", "AlertRaised"]
    desk.run_reductions("alice")
    account = desk.account()
    assert account.trading_state is TradingState.HALTED
    assert account.level in (RiskLevel.NORMAL, RiskLevel.WARNING)


def test_closing_on_request_joins_the_running_plan() -> None:
    desk = Desk(FREE)
    for symbol, price in (("BTCUSDT", 50_000), ("ETHUSDT", 2_500)):
        desk.mark(symbol, price)
    desk.open("alice", 10_000)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        desk.leverage("alice", symbol, 5)
    desk.fill("alice", "buy", "0.9")
    plan = reduction_of(desk)
    desk.fill("alice", "buy", "0.4", "ETHUSDT")
    events = desk.do("alice", c.ClosePosition("ETHUSDT"))
    assert kinds(events) == ["ReductionExtended"]
    extended = reduction_of(desk)
    assert extended.plan_id == plan.plan_id
    assert [(step.symbol, step.cause) for step in extended.steps] == [
        ("BTCUSDT", ReductionCause.FORCED),
        ("ETHUSDT", ReductionCause.REQUESTED),
    ]
    again = desk.do("alice", c.ClosePosition("ETHUSDT"))
    assert reasons(again) == ["ALREADY_IN_STATE"]
    desk.run_reductions("alice")
    assert desk.position(symbol="ETHUSDT") is None


def test_bankruptcy_is_recorded_and_leaves_nothing_owed() -> None:
    """A gap through everything: the deficit is said, taken over by the insurance ledger, and the account is at rest."""
    desk = Desk(HOUSE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.8")
    desk.mark("BTCUSDT", 30_000)
    assert desk.summary().equity == -6_000
    desk.run_reductions("alice")
    account = desk.account()
    bankruptcy = next(event for event in map(decode, desk.journal["alice"]) if isinstance(event, e.BankruptcyRecorded))
    assert bankruptcy.deficit == 6_000
    assert {(one.ledger, one.amount) for one in bankruptcy.postings} == {("wallet", D(6_000)), ("insurance", D(-6_000))}
    assert desk.summary().equity == 0
    assert account.past_reductions[-1].deficit == 6_000
    assert AlertKind.BANKRUPTCY in [alert.kind for alert in account.alerts]
    assert account.level is RiskLevel.NORMAL
    assert account.trading_state is TradingState.ACTIVE
    assert desk.do("alice", c.Assess()) == ()
    assert not desk.check("alice", "buy", "0.001").fits


def test_positions_in_isolation_are_not_reduced_for_the_others() -> None:
    """Only cross positions are reduced for the account's utilization; what is posted in isolation is its own."""
    desk = Desk(FREE)
    for symbol, price in (("BTCUSDT", 50_000), ("ETHUSDT", 2_500)):
        desk.mark(symbol, price)
    desk.open("alice", 12_000)
    desk.do("alice", c.SetMarginMode("ETHUSDT", MarginMode.ISOLATED))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        desk.leverage("alice", symbol, 5)
    desk.fill("alice", "buy", 4, "ETHUSDT")  # 2,000 posted
    desk.fill("alice", "buy", "0.9")
    assert {step.symbol for step in reduction_of(desk).steps} == {"BTCUSDT"}


def test_an_order_that_reduces_passes_while_a_plan_runs() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.95")
    assert desk.check("alice", "sell", "0.1").fits
    assert not desk.check("alice", "buy", "0.001").fits
    desk.now += timedelta(minutes=5)
    events = desk.do("alice", c.ReserveMargin(order("sell", "0.95")))
    assert isinstance(events[0], e.MarginReserved)
