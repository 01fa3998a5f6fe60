"""Liquidation of live accounts: cancel what adds risk, then reduce; in dry run it is planned and nothing is sent."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode, ReductionCause, RiskLevel, TradingState
from debt_mgmt.core.sync import DRY_RUN_NOTE
from tests.support.desk import kinds, reasons
from tests.support.live_desk import BTC, ETH, LiveDesk, alerts, balance, held, order, ready, told

D = Decimal
MONEY = balance("USDT", 10_000)
POSITION = held(BTC, "0.6", 50_000, leverage=5)
"""6,000 of margin."""
ADDING = order("add", "buy", "0.05", price=50_000)
REDUCING = order("take-profit", "sell", "0.2", price=60_000, reduce_only=True)


def names(events: tuple[e.Event, ...]) -> list[str]:
    return [kind for kind in kinds(events) if kind not in ("AlertRaised", "BaselinesSet")]


def gone(desk: LiveDesk, order_id: str = "add") -> tuple[e.Event, ...]:
    return desk.do("alice", c.RecordCancelOutcome(order_id, True))


# Cancels


def test_at_critical_orders_that_add_risk_are_cancelled_at_the_venue_and_reducing_ones_stay() -> None:
    desk = ready(MONEY, POSITION, ADDING, REDUCING)
    assert desk.account().level is RiskLevel.NORMAL
    events = desk.mark(BTC, 45_000)["alice"]
    assert names(events) == ["RiskLevelChanged", "TradingStateChanged", "CancelsRequested"]
    account = desk.account()
    assert list(account.cancels) == ["add"]
    assert account.cancels["add"].quantity == D("0.05")
    assert [one.order_id for one in account.reservations.values()] == ["take-profit"]
    assert account.trading_state is TradingState.REDUCING
    assert desk.wait(timedelta(seconds=1), fresh=True) == {}, "asked for once"
    assert names(gone(desk)) == ["CancelEnded"]
    assert not desk.account().cancels
    assert gone(desk) == ()


def test_an_engines_own_reservations_are_released_as_ever() -> None:
    desk = ready(MONEY, POSITION, ADDING)
    desk.reserve("alice", "buy", "0.01", BTC, 50_000)
    events = desk.mark(BTC, 45_000)["alice"]
    assert names(events) == ["RiskLevelChanged", "TradingStateChanged", "ReservationReduced", "CancelsRequested"]


def test_orders_of_both_kinds_go_before_anything_is_sold_for_them() -> None:
    """With its orders the account is at 93 %, without them at 85 %: it is never LIQUIDATING."""
    desk = ready(MONEY, POSITION, ADDING)
    desk.reserve("alice", "buy", "0.001", BTC, 50_000)
    events = desk.mark(BTC, 43_600)["alice"]
    levels = [event.after for event in events if isinstance(event, e.RiskLevelChanged)]
    assert levels == [RiskLevel.CRITICAL]
    assert desk.account().reduction is None


def test_cancels_come_before_the_plan_and_survive_a_restart() -> None:
    desk = ready(MONEY, POSITION, ADDING)
    events = desk.mark(BTC, 42_500)["alice"]
    happened = names(events)
    assert happened.index("CancelsRequested") < happened.index("ReductionStarted")
    account = desk.account()
    assert account.reduction is not None and account.cancels
    assert desk.replayed("alice") == account
    assert msgspec.json.decode(msgspec.json.encode(account), type=type(account)) == account


def test_positions_are_sold_only_for_what_they_need_once_the_orders_are_cancelled() -> None:
    """The plan is as large as without the orders: their margin is not sold for."""
    alone, with_order = ready(MONEY, POSITION), ready(MONEY, POSITION, ADDING)
    for desk in (alone, with_order):
        desk.mark(BTC, 42_500)
    first, second = alone.account().reduction, with_order.account().reduction
    assert first is not None and second is not None
    assert [one.quantity for one in first.steps] == [one.quantity for one in second.steps]


def test_a_sync_that_still_shows_an_order_being_cancelled_holds_nothing_for_it() -> None:
    desk = ready(MONEY, POSITION, ADDING)
    desk.mark(BTC, 45_000)
    events = desk.sync(MONEY, POSITION, ADDING)
    assert "CancelsRequested" not in kinds(events)
    assert not desk.account().reservations
    assert list(desk.account().cancels) == ["add"]


def test_a_sync_without_the_order_ends_its_cancel() -> None:
    desk = ready(MONEY, POSITION, ADDING)
    desk.mark(BTC, 45_000)
    desk.sync(MONEY, POSITION)
    assert not desk.account().cancels


def test_a_state_read_before_the_cancel_does_not_bring_the_order_back() -> None:
    desk = ready(MONEY, POSITION, ADDING)
    desk.mark(BTC, 45_000)
    desk.now += timedelta(seconds=5)
    gone(desk)
    desk.sync(MONEY, POSITION, ADDING, read=timedelta(seconds=3))
    assert not desk.account().cancels
    assert not desk.account().reservations


def test_a_cancel_that_is_refused_is_tried_again_after_the_next_sync_and_told_once() -> None:
    desk = ready(MONEY, POSITION, ADDING)
    desk.mark(BTC, 45_000)
    events = desk.do("alice", c.RecordCancelOutcome("add", False, "system busy"))
    assert told(events) == ["VENUE_REFUSED"]
    assert "did not cancel order add on bybit:BTCUSDT: system busy" in alerts(events)[0].message
    assert not desk.account().cancels
    for _ in range(2):
        assert "CancelsRequested" in kinds(desk.sync(MONEY, POSITION, ADDING))
        assert not desk.account().reservations
        assert told(desk.do("alice", c.RecordCancelOutcome("add", False, "system busy"))) == []
    desk.sync(MONEY, POSITION)
    desk.sync(MONEY, POSITION, ADDING)
    assert told(desk.do("alice", c.RecordCancelOutcome("add", False, "system busy"))) == ["VENUE_REFUSED"]


def test_an_order_that_turns_up_while_critical_is_cancelled_too() -> None:
    desk = ready(MONEY, POSITION)
    desk.mark(BTC, 44_400)
    assert desk.account().level is RiskLevel.CRITICAL
    events = desk.sync(MONEY, POSITION, ADDING)
    assert "CancelsRequested" in kinds(events)
    assert desk.account().level is RiskLevel.CRITICAL


# Reductions


def test_a_live_account_is_reduced_by_force_to_its_target() -> None:
    desk = ready(MONEY, POSITION)
    events = desk.mark(BTC, 42_500)["alice"]
    assert "LIQUIDATION_STARTED" in told(events)
    reduction = desk.account().reduction
    assert reduction is not None and reduction.cause is ReductionCause.FORCED
    desk.run_reductions("alice")
    utilization = desk.figures().margin_utilization
    assert utilization is not None and utilization <= D("0.70")


@pytest.mark.parametrize(
    ("venue_has", "surprising"),
    [("0.452", False), ("0.5", False), ("0.45", True), ("0.7", True), ("-0.1", True)],
)
def test_what_a_step_of_the_plan_did_is_no_surprise(venue_has: str, surprising: bool) -> None:
    """The plan sells 0.148 of 0.6; its order may be filled before its fill is recorded."""
    desk = ready(MONEY, POSITION)
    desk.mark(BTC, 42_500)
    events = desk.sync(MONEY, held(BTC, venue_has, 50_000, leverage=5))
    assert ("POSITION_CHANGED" in told(events)) is surprising


@pytest.mark.parametrize("lose", ["lost", "old"])
def test_nothing_is_planned_on_a_state_that_is_not_known(lose: str) -> None:
    desk = ready(MONEY, POSITION, ADDING)
    if lose == "lost":
        desk.do("alice", c.LoseSync("x"))
    else:
        desk.pass_quietly(timedelta(seconds=61))
    desk.mark(BTC, 40_000)
    account = desk.account()
    assert (account.level, account.reduction, account.cancels) == (RiskLevel.UNKNOWN, None, {})
    desk.sync(MONEY, POSITION, ADDING)
    account = desk.account()
    assert account.level is RiskLevel.LIQUIDATING
    assert account.reduction is not None and list(account.cancels) == ["add"]


def test_losses_beyond_all_equity_are_recorded_and_the_wallet_stays_the_venues() -> None:
    desk = ready(MONEY, POSITION)
    desk.mark(BTC, 30_000)
    desk.run_reductions("alice")
    recorded = [one for one in desk.events("alice") if isinstance(one, e.BankruptcyRecorded)]
    assert [(one.deficit, one.postings) for one in recorded] == [(D(2_000), ())]
    assert desk.account().balances == {"USDT": D(-2_000)}


# Dry run


def rehearsing(*parts: object) -> LiveDesk:
    desk = ready(*(parts or (MONEY, POSITION)))
    desk.do("alice", c.SetDryRun(True))
    return desk


def test_dry_run_plans_in_the_journal_and_leaves_no_step_open() -> None:
    desk = rehearsing()
    events = desk.mark(BTC, 42_500)["alice"]
    assert names(events)[-3:] == ["ReductionStarted", "ReductionStepEnded", "ReductionEnded"]
    alert = next(one for one in alerts(events) if one.kind == "DRY_RUN")
    assert alert.message == f"{DRY_RUN_NOTE}; positions would be reduced by force: SELL 0.148 bybit:BTCUSDT"
    assert not {"LIQUIDATION_STARTED", "LIQUIDATION_FINISHED"} & set(told(events))
    account = desk.account()
    assert account.reduction is None
    assert account.positions[BTC].quantity == D("0.6")
    (step,) = account.past_reductions[-1].steps
    assert (step.note, step.filled_quantity, step.done) == (DRY_RUN_NOTE, D(0), True)


def test_dry_run_plans_once_and_again_when_positions_or_the_level_change() -> None:
    desk = rehearsing()
    desk.mark(BTC, 42_500)
    for price in (42_400, 42_300, 42_500):
        assert desk.mark(BTC, price) == {}
    assert len(desk.account().past_reductions) == 1
    desk.sync(MONEY, held(BTC, "0.59", 50_000, leverage=5))
    assert len(desk.account().past_reductions) == 2
    desk.mark(BTC, 50_000)
    desk.mark(BTC, 42_200)
    assert len(desk.account().past_reductions) == 3


def test_dry_run_names_the_orders_it_would_cancel_and_holds_their_margin() -> None:
    desk = rehearsing(MONEY, POSITION, ADDING)
    events = desk.mark(BTC, 45_000)["alice"]
    assert "CancelsRequested" not in kinds(events)
    said = [one.message for one in alerts(events) if one.kind == "DRY_RUN"]
    assert said == [f"{DRY_RUN_NOTE}; these orders would be cancelled: add (BUY 0.05 bybit:BTCUSDT)"]
    assert not desk.account().cancels
    assert list(desk.account().reservations) == ["venue:add"]
    assert desk.wait(timedelta(seconds=1), fresh=True) == {}


def test_dry_run_plans_as_if_the_orders_were_cancelled() -> None:
    sizes = []
    for parts in ((MONEY, POSITION), (MONEY, POSITION, ADDING)):
        desk = rehearsing(*parts)
        desk.mark(BTC, 42_500)
        desk.mark(BTC, 42_500)
        sizes.append([one.quantity for one in desk.account().past_reductions[-1].steps])
    assert sizes[0] == sizes[1]


def test_a_close_in_dry_run_is_accepted_journaled_and_not_sent() -> None:
    desk = rehearsing()
    events = desk.do("alice", c.ClosePosition(BTC, reason="enough"))
    assert kinds(events) == ["ReductionStarted", "ReductionStepEnded", "ReductionEnded"]
    assert desk.account().reduction is None
    assert desk.account().positions[BTC].quantity == D("0.6")
    again = desk.do("alice", c.ClosePosition(BTC))
    assert not reasons(again)


def test_leaving_dry_run_is_said_and_protects_at_once() -> None:
    desk = rehearsing(MONEY, POSITION, ADDING)
    desk.mark(BTC, 42_500)
    desk.mark(BTC, 42_500)
    events = desk.do("alice", c.SetDryRun(False, "tested for a week"))
    assert kinds(events)[0] == "DryRunSet"
    assert alerts(events)[0].message == "dry run is over: orders are sent to bybit (tested for a week)"
    happened = kinds(events)
    assert happened.index("CancelsRequested") < happened.index("ReductionStarted")
    account = desk.account()
    assert account.reduction is not None and account.reduction.open_steps
    assert reasons(desk.do("alice", c.SetDryRun(False))) == ["ALREADY_IN_STATE"]


def test_entering_dry_run_leaves_the_steps_of_a_running_plan_to_be_looked_up() -> None:
    """An order may be at the venue already, so only whoever sent it can say how its step ended."""
    desk = ready(MONEY, POSITION)
    desk.mark(BTC, 42_500)
    started = desk.account().reduction
    assert started is not None
    desk.do("alice", c.SetDryRun(True))
    assert desk.account().reduction == started
    desk.do("alice", c.EndReductionStep(started.plan_id, 1, DRY_RUN_NOTE))
    assert desk.account().past_reductions[0].steps[0].note == DRY_RUN_NOTE


def test_isolated_positions_are_rehearsed_too() -> None:
    one = msgspec.structs.replace(
        held(ETH, 10, 2_000, leverage=5, isolated_margin=4_000), margin_mode=MarginMode.ISOLATED
    )
    desk = rehearsing(balance("USDT", 20_000), one)
    events = desk.mark(ETH, 1_608)["alice"]
    assert "ReductionStarted" in kinds(events)
    (step,) = desk.account().past_reductions[-1].steps
    assert (step.cause, step.quantity, step.note) == (ReductionCause.ISOLATED, D(10), DRY_RUN_NOTE)
    assert desk.mark(ETH, 1_609) == {}
