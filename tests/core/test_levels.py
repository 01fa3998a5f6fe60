"""Where each risk level begins and ends, to the last digit, and what crossing it sets in motion."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import AlertKind, RiskLevel, Severity, TradingState
from debt_mgmt.core.levels import next_level
from tests.support.desk import FREE, HOUSE, Desk, kinds
from tests.support.scenario import play

D = Decimal
NORMAL, WARNING, CRITICAL, LIQUIDATING = (
    RiskLevel.NORMAL,
    RiskLevel.WARNING,
    RiskLevel.CRITICAL,
    RiskLevel.LIQUIDATING,
)

BOUNDARIES = [
    # level before, used, equity, level after
    (NORMAL, "0", "1000", NORMAL),
    (NORMAL, "699.999999999999", "1000", NORMAL),
    (NORMAL, "700", "1000", WARNING),
    (NORMAL, "700.000000000001", "1000", WARNING),
    (NORMAL, "799.999999999999", "1000", WARNING),
    (NORMAL, "800", "1000", CRITICAL),
    (NORMAL, "899.999999999999", "1000", CRITICAL),
    (NORMAL, "900", "1000", LIQUIDATING),
    (NORMAL, "1000", "1000", LIQUIDATING),
    (NORMAL, "5000", "1000", LIQUIDATING),
    # left three points below where it was entered, not before
    (WARNING, "699.999999999999", "1000", WARNING),
    (WARNING, "670", "1000", WARNING),
    (WARNING, "669.999999999999", "1000", NORMAL),
    (WARNING, "800", "1000", CRITICAL),
    (WARNING, "900", "1000", LIQUIDATING),
    (CRITICAL, "800", "1000", CRITICAL),
    (CRITICAL, "770", "1000", CRITICAL),
    (CRITICAL, "769.999999999999", "1000", WARNING),
    (CRITICAL, "700", "1000", WARNING),
    (CRITICAL, "670", "1000", WARNING),
    (CRITICAL, "669.999999999999", "1000", NORMAL),
    (CRITICAL, "900", "1000", LIQUIDATING),
    (LIQUIDATING, "900", "1000", LIQUIDATING),
    (LIQUIDATING, "870", "1000", LIQUIDATING),
    (LIQUIDATING, "869.999999999999", "1000", CRITICAL),
    (LIQUIDATING, "770", "1000", CRITICAL),
    (LIQUIDATING, "769.999999999999", "1000", WARNING),
    (LIQUIDATING, "670", "1000", WARNING),
    (LIQUIDATING, "669.999999999999", "1000", NORMAL),
    (LIQUIDATING, "0", "1000", NORMAL),
    # nothing is divided: equity that is gone is above every threshold
    (NORMAL, "0.000000000001", "0", LIQUIDATING),
    (NORMAL, "1", "-1", LIQUIDATING),
    (NORMAL, "1000", "-5000", LIQUIDATING),
    (WARNING, "1", "-1000000", LIQUIDATING),
    (NORMAL, "0", "0", NORMAL),
    (LIQUIDATING, "0", "0", NORMAL),
    (NORMAL, "0", "-1", CRITICAL),
    (LIQUIDATING, "0", "-1", CRITICAL),
    # where a division would round: 0.7 × 1/3 is not 0.2333…
    (NORMAL, "0.233333333333", "0.333333333333", NORMAL),
    (NORMAL, "0.2333333333331", "0.333333333333", WARNING),
]


@pytest.mark.parametrize(("before", "used", "equity", "after"), BOUNDARIES)
def test_a_level_begins_at_its_threshold_and_ends_three_points_below(
    before: RiskLevel, used: str, equity: str, after: RiskLevel
) -> None:
    assert next_level(before, D(used), D(equity), HOUSE) is after


def test_levels_follow_the_price_and_leave_each_other_with_hysteresis() -> None:
    play(
        """
        deposit   alice 10000 USDT
        limit     alice max_daily_loss_fraction 1 max_drawdown_fraction 1
        leverage  alice ABCUSDT 5x
        mark      ABCUSDT 100
        fill      alice buy 300 ABCUSDT        -> used 6000  utilization 0.6   level NORMAL
        mark      ABCUSDT 95.24                -> quiet
        mark      ABCUSDT 93.02                -> alice WARNING
        account   alice                        -> level WARNING  state ACTIVE
        mark      ABCUSDT 94                   -> quiet
        mark      ABCUSDT 93.02                -> quiet
        mark      ABCUSDT 88.88                -> alice CRITICAL
        account   alice                        -> level CRITICAL  state REDUCING
        mark      ABCUSDT 89.4                 -> quiet
        mark      ABCUSDT 90.2                 -> alice WARNING
        account   alice                        -> state ACTIVE
        mark      ABCUSDT 96                   -> alice NORMAL
        mark      ABCUSDT 85.7                 -> alice LIQUIDATING
        reduce    alice                        -> sell 67 ABCUSDT  level WARNING  state ACTIVE
        account   alice                        -> utilization ~0.6994
        """,
        Desk(FREE),
    )


@pytest.mark.parametrize(
    ("balance", "level"),
    [
        ("9000", WARNING),
        ("9000.000000000001", NORMAL),
        ("7875", CRITICAL),
        ("7875.000000000001", WARNING),
        ("7000", LIQUIDATING),
        ("7000.000000000001", CRITICAL),
    ],
)
def test_an_account_exactly_at_a_threshold_has_reached_it(balance: str, level: RiskLevel) -> None:
    """315 contracts at 100 on 5x use 6,300: 70, 80 and 90 % of these balances, or just less."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", balance)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 315, "ABCUSDT")
    account = desk.account()
    assert account.level is level
    assert account.trading_state is (TradingState.REDUCING if level in (CRITICAL, LIQUIDATING) else TradingState.ACTIVE)
    assert (account.reduction is not None) is (level is LIQUIDATING)


def test_each_alert_is_raised_once_and_again_only_after_the_level_was_left() -> None:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 300, "ABCUSDT")
    for price in ("93.02", "93.03", "93", "92.9", "93.02", "94", "93.02"):
        desk.mark("ABCUSDT", price)
        desk.wait(timedelta(seconds=1), fresh=True)
    assert [alert.kind for alert in desk.account().alerts] == [AlertKind.LEVEL_RAISED]
    desk.mark("ABCUSDT", 96)
    desk.mark("ABCUSDT", "93.02")
    assert [alert.kind for alert in desk.account().alerts] == [
        AlertKind.LEVEL_RAISED,
        AlertKind.LEVEL_LOWERED,
        AlertKind.LEVEL_RAISED,
    ]
    raised = desk.account().alerts[0]
    assert raised.level is WARNING
    assert raised.severity is Severity.WARNING
    assert raised.utilization is not None
    assert D("0.7") <= raised.utilization < D("0.71")
    assert [(mark.symbol, mark.price) for mark in raised.marks] == [("ABCUSDT", D("93.02"))]


def test_an_alert_survives_a_restart() -> None:
    """The level is in the journal: an account that was replayed does not raise its alert a second time."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 300, "ABCUSDT")
    desk.mark("ABCUSDT", "93.02")
    desk.accounts["alice"] = desk.replayed("alice")
    assert desk.do("alice", c.Assess()) == ()


def test_at_eighty_percent_orders_that_add_risk_are_released_and_others_stay() -> None:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 300, "ABCUSDT")
    desk.reserve("alice", "sell", 300, "ABCUSDT", 110)
    desk.reserve("alice", "buy", 50, "ABCUSDT", 90)
    events = desk.mark("ABCUSDT", 90)["alice"]
    released = [event for event in events if isinstance(event, e.ReservationReduced)]
    assert [(event.quantity, event.remaining, event.cause) for event in released] == [(D(50), D(0), "RISK_LEVEL")]
    (kept,) = desk.account().reservations.values()
    assert kept.reduce_only
    assert desk.account().level is CRITICAL


def test_what_orders_hold_never_sells_a_position() -> None:
    """With its orders the account would be at 96 %; without them its positions need 89 %: nothing is sold."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 350, "ABCUSDT")
    desk.reserve("alice", "buy", 25, "ABCUSDT")
    events = desk.mark("ABCUSDT", 92)["alice"]
    assert kinds(events) == ["RiskLevelChanged", "AlertRaised", "TradingStateChanged", "ReservationReduced"]
    assert desk.account().level is CRITICAL
    assert desk.account().reduction is None
    utilization = desk.figures().margin_utilization
    assert utilization is not None
    assert D("0.87") < utilization < D("0.90")


def test_orders_alone_can_not_lead_to_a_reduction() -> None:
    desk = Desk(FREE)
    desk.value("ETH", priced_by="ETHUSDT")
    desk.mark("ETHUSDT", 2_500)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 4, asset="ETH")
    desk.leverage("alice", "ABCUSDT", 5)
    desk.reserve("alice", "buy", 300, "ABCUSDT")
    desk.mark("ETHUSDT", 1_500)
    account = desk.account()
    assert account.reservations == {}
    assert (account.level, account.trading_state) == (NORMAL, TradingState.ACTIVE)
    assert account.reduction is None


def test_an_order_that_fills_up_to_the_threshold_fits_and_is_critical_at_once() -> None:
    """At most 80 % afterwards is accepted, and 80 % is critical: the last order that fits is the last one filled."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 399, "ABCUSDT")
    assert desk.account().level is WARNING
    assert desk.check("alice", "buy", 1, "ABCUSDT").fits
    assert not desk.check("alice", "buy", 2, "ABCUSDT").fits
    desk.fill("alice", "buy", 1, "ABCUSDT")
    assert desk.account().level is CRITICAL


def test_an_order_held_up_to_the_threshold_is_kept_until_a_price_moves() -> None:
    """The largest that fits is held and stays held: the account is critical when it goes beyond, or when it fills."""
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 1_000)
    desk.leverage("alice", "BTCUSDT", 5)
    assert desk.check("alice", "buy", 1).largest_buy == D("0.08")
    events = desk.reserve("alice", "buy", "0.08")
    assert kinds(events) == ["MarginReserved", "RiskLevelChanged", "AlertRaised"]
    assert desk.summary().used == 800
    assert desk.account().level is WARNING
    assert desk.do("alice", c.Assess()) == ()
    (reservation_id,) = desk.account().reservations
    desk.fill("alice", "buy", "0.08", reservation_id=reservation_id)
    assert desk.account().level is CRITICAL


def test_a_wide_hysteresis_does_not_sell_below_the_target() -> None:
    """Where a level outlasts the target, there is nothing left to reduce, and no empty plan is started."""
    desk = Desk(msgspec.structs.replace(FREE, hysteresis=D("0.5")))
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 460, "ABCUSDT")
    desk.run_reductions("alice")
    assert desk.account().level is LIQUIDATING
    assert desk.account().reduction is None
    assert desk.do("alice", c.Assess()) == ()
