"""Leverage: capped by account, house, broker and tier, refused and never clamped, and re-margined when it changes."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode, PositionMode, PositionSide
from debt_mgmt.core.margin import leverage_of
from debt_mgmt.core.refusals import Reason
from tests.support.desk import FREE, Desk, reasons, refusal
from tests.support.instruments import linear, tiers
from tests.support.scenario import play

D = Decimal


def test_lower_leverage_needs_more_margin_and_must_find_it() -> None:
    play(
        """
        deposit   alice 10000 USDT
        leverage  alice BTCUSDT 5x
        mark      BTCUSDT 50000
        fill      alice buy 0.5 BTCUSDT    -> used 5000
        leverage  alice BTCUSDT 4x         -> set  used 6250
        leverage  alice BTCUSDT 3.13x      -> set
        leverage  alice BTCUSDT 3.12x      -> rejected UTILIZATION_AFTER
        leverage  alice BTCUSDT 2x         -> rejected INSUFFICIENT_MARGIN UTILIZATION_AFTER
        position  alice BTCUSDT            -> leverage 3.13
        leverage  alice BTCUSDT 5x         -> set  used 5000  available 5000
        """,
        Desk(FREE),
    )


def test_open_orders_are_margined_anew_too() -> None:
    play(
        """
        deposit   alice 10000 USDT
        leverage  alice BTCUSDT 5x
        mark      BTCUSDT 50000
        reserve   alice buy 0.7 BTCUSDT    -> used 7000
        leverage  alice BTCUSDT 4x         -> rejected UTILIZATION_AFTER
        leverage  alice BTCUSDT 4.5x       -> set  used ~7777.778
        """,
        Desk(FREE),
    )


@pytest.mark.parametrize(
    ("leverage", "expected"),
    [
        ("1", []),
        ("5", []),
        ("2.25", []),
        ("5.01", ["LEVERAGE_ABOVE_ACCOUNT"]),
        ("6", ["LEVERAGE_ABOVE_ACCOUNT"]),
        ("0.99", ["LEVERAGE_STEP"]),
        ("0", ["LEVERAGE_STEP"]),
        ("2.005", ["LEVERAGE_STEP"]),
        ("126", ["LEVERAGE_ABOVE_ACCOUNT", "LEVERAGE_ABOVE_TIER"]),
    ],
)
def test_leverage_is_taken_as_asked_or_refused(leverage: str, expected: list[str]) -> None:
    desk = Desk(FREE)
    desk.open("alice", 10_000)
    events = desk.leverage("alice", "BTCUSDT", leverage)
    assert reasons(events) == expected
    assert desk.account().leverage == ({} if expected else {"BTCUSDT": D(leverage)})
    if expected:
        assert refusal(events).violations[0].value == D(leverage)


def test_the_lowest_cap_counts_and_each_is_named() -> None:
    desk = Desk(msgspec.structs.replace(FREE, broker_max_leverage={"coinbase": D(1), "paper": D(4)}))
    desk.open("alice", 10_000)
    desk.open("carol", 10_000, broker="coinbase")
    desk.limit("alice", max_leverage=D(3))
    assert reasons(desk.leverage("alice", "BTCUSDT", 5)) == ["LEVERAGE_ABOVE_ACCOUNT", "LEVERAGE_ABOVE_BROKER"]
    assert reasons(desk.leverage("alice", "BTCUSDT", "3.5")) == ["LEVERAGE_ABOVE_ACCOUNT"]
    assert reasons(desk.leverage("alice", "BTCUSDT", 3)) == []
    assert reasons(desk.leverage("carol", "BTCUSDT", "1.5")) == ["LEVERAGE_ABOVE_BROKER"]
    assert reasons(desk.leverage("carol", "BTCUSDT", 1)) == []


def test_without_a_choice_leverage_is_two_or_less_where_less_is_allowed() -> None:
    risk = msgspec.structs.replace(FREE, broker_max_leverage={"coinbase": D(1)})
    desk = Desk(risk)
    assert leverage_of(desk.open("alice"), risk, "BTCUSDT") == 2
    assert leverage_of(desk.open("carol", broker="coinbase"), risk, "BTCUSDT") == 1
    desk.limit("alice", max_leverage=D("1.5"))
    assert leverage_of(desk.account(), risk, "BTCUSDT") == D("1.5")


def test_a_cap_that_came_later_stops_new_risk_and_no_exit() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.1")
    desk.limit("alice", max_leverage=D(3))
    result = desk.check("alice", "buy", "0.01")
    assert [(one.reason, one.value, one.limit) for one in result.violations] == [
        (Reason.LEVERAGE_ABOVE_ACCOUNT, D(5), D(3))
    ]
    assert desk.check("alice", "sell", "0.1").fits


STEEP = linear("ABCUSDT", lot="1", table=tiers("0 10000 0.01 5", "10000 20000 0.1 3 900", "20000 - 0.2 2 2900"))


def test_a_larger_position_allows_less_leverage() -> None:
    """At 5x up to a notional of 10,000, where the tier of 3x begins, its start included."""
    desk = Desk(FREE, instruments=[STEEP])
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 100_000)
    desk.leverage("alice", "ABCUSDT", 5)
    assert desk.check("alice", "buy", 99, "ABCUSDT").fits
    result = desk.check("alice", "buy", 100, "ABCUSDT")
    assert [(one.reason, one.value, one.limit) for one in result.violations] == [
        (Reason.LEVERAGE_ABOVE_TIER, D(5), D(3))
    ]
    assert result.largest_buy == 99
    desk.leverage("alice", "ABCUSDT", 3)
    assert desk.check("alice", "buy", 199, "ABCUSDT").fits
    desk.fill("alice", "buy", 150, "ABCUSDT")
    assert reasons(desk.leverage("alice", "ABCUSDT", 4)) == ["LEVERAGE_ABOVE_TIER"]
    assert desk.check("alice", "sell", 349, "ABCUSDT").fits
    assert not desk.check("alice", "sell", 350, "ABCUSDT").fits


def test_raising_leverage_frees_margin_and_never_takes_it_all() -> None:
    """Initial margin follows the new leverage; it does not become zero."""
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.fill("alice", "buy", "0.2")
    assert desk.summary().used == 5_000
    desk.leverage("alice", "BTCUSDT", 5)
    assert desk.summary().used == 2_000


def test_leverage_changes_both_legs_of_a_hedge() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000, position_mode=PositionMode.HEDGE)
    desk.fill("alice", "buy", "0.1", leg="LONG")
    desk.fill("alice", "sell", "0.1", leg="SHORT")
    (event,) = desk.leverage("alice", "BTCUSDT", 4)
    assert isinstance(event, e.LeverageSet)
    assert event.previous == 2
    assert {position.leverage for position in event.positions} == {D(4)}
    assert desk.summary().used == 2_500


def test_leverage_is_not_lowered_on_old_prices() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.1")
    desk.now += timedelta(seconds=11)
    assert reasons(desk.leverage("alice", "BTCUSDT", 3)) == ["STALE_MARK"]
    assert reasons(desk.leverage("alice", "ETHUSDT", 3)) == []
    desk.forget("BTCUSDT")
    assert reasons(desk.leverage("alice", "BTCUSDT", 3)) == ["MISSING_MARK"]


def test_isolated_margin_is_not_given_back_on_old_prices() -> None:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000, margin_mode=MarginMode.ISOLATED)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 100, "ABCUSDT")
    desk.do("alice", c.AdjustIsolatedMargin("ABCUSDT", PositionSide.NET, D(500)))
    desk.now += timedelta(seconds=11)
    back = c.AdjustIsolatedMargin("ABCUSDT", PositionSide.NET, D(-500))
    assert reasons(desk.do("alice", back)) == ["STALE_MARK"]
    assert reasons(desk.do("alice", c.AdjustIsolatedMargin("ABCUSDT", PositionSide.NET, D(1)))) == []
    desk.mark("ABCUSDT", 100)
    assert reasons(desk.do("alice", back)) == []


def test_leverage_is_no_part_of_exposure() -> None:
    """Exposure and profit are of the notional; leverage divides the margin and multiplies nothing."""
    seen = set()
    for times in (1, 2, 5):
        desk = Desk(FREE)
        desk.mark("BTCUSDT", 50_000)
        desk.open("alice", 100_000)
        desk.leverage("alice", "BTCUSDT", times)
        desk.fill("alice", "buy", 1)
        desk.mark("BTCUSDT", 51_000)
        summary = desk.summary()
        assert summary.used * times == 51_000
        seen.add((summary.exposure, summary.unrealized_pnl, summary.maintenance))
    assert seen == {(D(51_000), D(1_000), D("205"))}
