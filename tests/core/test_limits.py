"""Limits on size, number and rate of orders, and circuit breakers: tripped, cooled down, accepted, never forgotten."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import AlertKind, BreakerKind, Limits, MarginMode, PositionMode
from debt_mgmt.core.limits import day_of
from debt_mgmt.core.refusals import Reason
from tests.support.desk import FREE, NOON, Desk, kinds, reasons
from tests.support.scenario import play

D = Decimal

RICH = """
deposit   alice 1000000 USDT
leverage  alice BTCUSDT 5x
leverage  alice ETHUSDT 5x
mark      BTCUSDT 50000
mark      ETHUSDT 2500
"""


def test_the_size_of_a_position_is_limited_with_its_open_orders() -> None:
    play(
        RICH
        + """
        limit    alice max_position_quantity 1
        fill     alice buy 0.4 BTCUSDT
        reserve  alice buy 0.5 BTCUSDT       -> held
        check    alice buy 0.1 BTCUSDT       -> fits  largest_buy 0.1  largest_sell 1.4
        check    alice buy 0.101 BTCUSDT     -> rejected QUANTITY_ABOVE_MAXIMUM
        check    alice sell 1.4 BTCUSDT      -> fits
        check    alice sell 1.401 BTCUSDT    -> rejected QUANTITY_ABOVE_MAXIMUM
        """,
        Desk(FREE),
    )


def test_the_value_of_a_position_is_limited() -> None:
    play(
        RICH
        + """
        limit    alice max_position_notional 50000
        fill     alice buy 0.4 BTCUSDT
        check    alice buy 0.6 BTCUSDT       -> fits
        check    alice buy 0.601 BTCUSDT     -> rejected POSITION_NOTIONAL_LIMIT  largest_buy 0.6
        mark     BTCUSDT 62500
        check    alice buy 0.401 BTCUSDT     -> rejected POSITION_NOTIONAL_LIMIT  largest_buy 0.4
        """,
        Desk(FREE),
    )


def test_exposure_is_summed_over_instruments_and_their_orders() -> None:
    play(
        RICH
        + """
        limit    alice max_exposure_notional 100000
        fill     alice buy 1 BTCUSDT
        reserve  alice sell 10 ETHUSDT       -> held
        check    alice buy 0.5 BTCUSDT       -> fits  largest_buy 0.5
        check    alice buy 0.501 BTCUSDT     -> rejected EXPOSURE_LIMIT
        check    alice sell 10 ETHUSDT       -> fits
        check    alice sell 10.01 ETHUSDT    -> rejected EXPOSURE_LIMIT
        check    alice buy 20 ETHUSDT        -> fits
        check    alice buy 20.01 ETHUSDT     -> rejected EXPOSURE_LIMIT
        """,
        Desk(FREE),
    )


def test_orders_on_an_instrument_that_lost_its_price_are_still_exposure() -> None:
    desk = play(RICH + "reserve alice buy 20 ETHUSDT at 2000", Desk(FREE))
    desk.limit("alice", max_exposure_notional=D(90_000))
    desk.forget("ETHUSDT")
    assert desk.check("alice", "buy", 1).fits
    assert [one.reason for one in desk.check("alice", "buy", "1.001").violations] == [Reason.EXPOSURE_LIMIT]


def test_both_legs_of_a_hedge_are_exposure() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 1_000_000, position_mode=PositionMode.HEDGE)
    desk.limit("alice", max_exposure_notional=D(100_000))
    desk.fill("alice", "sell", 1, leg="SHORT")
    assert desk.check("alice", "buy", 1, leg="LONG").fits
    result = desk.check("alice", "buy", "1.001", leg="LONG")
    assert [one.reason for one in result.violations] == [Reason.EXPOSURE_LIMIT]
    assert result.violations[0].value == D("100050")
    assert result.largest_buy == 1


def test_concurrent_positions_count_instruments_held_and_ordered() -> None:
    play(
        RICH
        + """
        mark     ABCUSDT 100
        limit    alice max_concurrent_positions 2
        fill     alice buy 0.1 BTCUSDT
        check    alice buy 1 ETHUSDT         -> fits
        reserve  alice buy 1 ETHUSDT         -> held
        check    alice buy 1 ABCUSDT         -> rejected CONCURRENT_POSITIONS
        check    alice buy 0.1 BTCUSDT       -> fits
        """,
        Desk(FREE),
    )


def test_open_reservations_are_limited() -> None:
    play(
        RICH
        + """
        limit    alice max_open_reservations 2
        reserve  alice buy 0.1 BTCUSDT as a
        reserve  alice buy 0.1 BTCUSDT as b
        reserve  alice buy 0.1 BTCUSDT       -> rejected OPEN_RESERVATIONS
        release  alice a
        reserve  alice buy 0.1 BTCUSDT       -> held
        """,
        Desk(FREE),
    )


def test_orders_that_add_risk_are_counted_per_interval_and_exits_are_not() -> None:
    desk = play(
        RICH
        + """
        fill     alice buy 1 BTCUSDT
        limit    alice order_rate_count 2 order_rate_interval_seconds 10
        reserve  alice buy 0.1 BTCUSDT       -> held
        reserve  alice sell 0.1 BTCUSDT      -> held
        reserve  alice buy 0.1 BTCUSDT       -> held
        reserve  alice buy 0.1 BTCUSDT       -> rejected ORDER_RATE
        reserve  alice sell 1 BTCUSDT        -> held
        wait     9s fresh
        reserve  alice buy 0.1 BTCUSDT       -> rejected ORDER_RATE
        wait     1s fresh
        reserve  alice buy 0.1 BTCUSDT       -> held
        """,
        Desk(FREE),
    )
    assert desk.replayed("alice") == desk.account()


def test_an_account_s_own_limit_takes_the_place_of_the_house_s() -> None:
    desk = Desk(msgspec.structs.replace(FREE, limits=msgspec.structs.replace(FREE.limits, max_concurrent_positions=1)))
    play(RICH + "fill alice buy 0.1 BTCUSDT", desk)
    assert not desk.check("alice", "buy", 1, "ETHUSDT").fits
    desk.limit("alice", max_concurrent_positions=2)
    assert desk.check("alice", "buy", 1, "ETHUSDT").fits
    desk.do("alice", c.SetLimits(Limits(), ("max_concurrent_positions",)))
    assert not desk.check("alice", "buy", 1, "ETHUSDT").fits


# Losses


def losing(**limits: Decimal | int) -> Desk:
    """10,000 and a long of 1,000 of ABC at 20: every dollar of the price is 1,000."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 20)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.limit("alice", **limits)
    desk.fill("alice", "buy", 1000, "ABCUSDT")
    return desk


@pytest.mark.parametrize(
    ("limits", "kind", "reason"),
    [
        ({"max_daily_loss": D(2000)}, BreakerKind.DAILY_LOSS, Reason.DAILY_LOSS),
        ({"max_daily_loss_fraction": D("0.2")}, BreakerKind.DAILY_LOSS, Reason.DAILY_LOSS),
        ({"max_drawdown_fraction": D("0.2")}, BreakerKind.DRAWDOWN, Reason.DRAWDOWN),
    ],
)
def test_a_breaker_trips_at_its_limit_blocks_new_risk_and_lets_exits_pass(
    limits: dict[str, Decimal], kind: BreakerKind, reason: Reason
) -> None:
    desk = losing(**limits)
    desk.mark("ABCUSDT", "18.001")
    assert desk.check("alice", "buy", 1, "ABCUSDT").fits
    happened = desk.mark("ABCUSDT", 18)["alice"]
    assert kinds(happened) == ["BreakerTripped", "AlertRaised"]
    breaker = desk.account().breakers[kind.value]
    assert (breaker.value, breaker.limit) == (D(2000), D(2000))
    assert breaker.until == desk.now + timedelta(hours=1)
    result = desk.check("alice", "buy", 1, "ABCUSDT")
    assert [one.reason for one in result.violations] == [reason, Reason.BREAKER_TRIPPED]
    assert desk.check("alice", "sell", 1000, "ABCUSDT").fits
    assert desk.mark("ABCUSDT", "17.9") == {}, "it trips once"


def test_a_breaker_cools_down_and_closes_only_when_the_loss_is_back_within_its_limit() -> None:
    desk = losing(max_daily_loss=D(2000), breaker_cool_down_seconds=600)
    desk.mark("ABCUSDT", 18)
    desk.wait(timedelta(seconds=600), fresh=True)
    assert "DAILY_LOSS" in desk.account().breakers
    desk.mark("ABCUSDT", 19)
    account = desk.account()
    assert account.breakers == {}
    assert [alert.kind for alert in account.alerts] == [AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RESET]
    desk.mark("ABCUSDT", 18)
    desk.mark("ABCUSDT", 19)
    assert "DAILY_LOSS" in desk.account().breakers, "recovered, but not cooled down"
    assert [one.reason for one in desk.check("alice", "buy", 1, "ABCUSDT").violations] == [Reason.BREAKER_TRIPPED]
    desk.wait(timedelta(seconds=600), fresh=True)
    assert desk.check("alice", "buy", 1, "ABCUSDT").fits


def test_resuming_accepts_the_loss_and_measures_from_now() -> None:
    desk = losing(max_daily_loss=D(2000), max_drawdown_fraction=D("0.2"))
    desk.mark("ABCUSDT", 18)
    assert set(desk.account().breakers) == {"DAILY_LOSS", "DRAWDOWN"}
    events = desk.do("alice", c.ResumeTrading("the desk accepts it"))
    assert set(kinds(events)) == {"AlertRaised", "BaselinesSet", "BreakerCleared"}
    baselines = desk.account().baselines
    assert baselines is not None
    assert (baselines.day_equity, baselines.peak_equity) == (D(8000), D(8000))
    assert desk.check("alice", "buy", 1, "ABCUSDT").fits
    desk.mark("ABCUSDT", "16.5")
    assert desk.account().breakers == {}
    desk.mark("ABCUSDT", "16.4")
    assert set(desk.account().breakers) == {"DRAWDOWN"}
    assert desk.do("alice", c.Assess()) == ()


def test_breakers_and_baselines_survive_a_restart() -> None:
    desk = losing(max_daily_loss=D(2000))
    desk.mark("ABCUSDT", 18)
    again = desk.replayed("alice")
    assert again == desk.account()
    assert again.breakers["DAILY_LOSS"].until == desk.now + timedelta(hours=1)
    assert again.baselines is not None
    assert again.baselines.day_equity == 10_000


def test_a_new_day_begins_at_midnight_of_its_own_zone() -> None:
    """23:59 in Kolkata is 18:29 UTC; one minute later the day's loss is measured anew, the drawdown is not."""
    late = datetime(2026, 3, 31, 23, 59, tzinfo=ZoneInfo("Asia/Kolkata")).astimezone(UTC)
    desk = Desk(msgspec.structs.replace(FREE, day_zone="Asia/Kolkata"), at=late)
    desk.mark("ABCUSDT", 20)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.limit("alice", max_daily_loss=D(1500), max_drawdown_fraction=D("0.3"))
    desk.fill("alice", "buy", 1000, "ABCUSDT")
    desk.mark("ABCUSDT", 19)
    desk.fill("alice", "sell", 100, "ABCUSDT")
    baselines = desk.account().baselines
    assert baselines is not None
    assert (baselines.day, baselines.day_equity) == ("2026-03-31", D(10_000))
    assert baselines.day_realized_pnl == {"USDT": D(-100)}
    events = desk.wait(timedelta(minutes=1), fresh=True)["alice"]
    assert [event.cause for event in events if isinstance(event, e.BaselinesSet)] == ["DAY"]
    baselines = desk.account().baselines
    assert baselines is not None
    assert (baselines.day, baselines.day_equity, baselines.peak_equity) == ("2026-04-01", D(9_000), D(10_000))
    assert baselines.day_realized_pnl == {}
    desk.mark("ABCUSDT", 18)
    assert desk.account().breakers == {}, "900 lost today"
    desk.mark("ABCUSDT", "16.6")
    assert set(desk.account().breakers) == {"DAILY_LOSS", "DRAWDOWN"}


@pytest.mark.parametrize(
    ("moment", "zone", "day"),
    [
        (datetime(2026, 3, 8, 4, 59, tzinfo=UTC), "America/New_York", "2026-03-07"),
        (datetime(2026, 3, 8, 5, 0, tzinfo=UTC), "America/New_York", "2026-03-08"),
        (datetime(2026, 3, 9, 3, 59, tzinfo=UTC), "America/New_York", "2026-03-08"),
        (datetime(2026, 3, 9, 4, 0, tzinfo=UTC), "America/New_York", "2026-03-09"),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), "UTC", "2026-12-31"),
        (datetime(2026, 12, 31, 10, 0, tzinfo=UTC), "Pacific/Kiritimati", "2027-01-01"),
    ],
)
def test_days_follow_the_zone_through_summer_time(moment: datetime, zone: str, day: str) -> None:
    assert day_of(moment, zone) == day


def test_money_that_comes_and_goes_is_no_profit_and_no_loss() -> None:
    desk = losing(max_daily_loss=D(2000))
    desk.deposit("alice", 5_000)
    desk.deposit("alice", -7_000)
    baselines = desk.account().baselines
    assert baselines is not None
    assert (baselines.day_equity, baselines.peak_equity) == (D(8_000), D(8_000))
    assert desk.account().breakers == {}


def test_collateral_with_a_haircut_moves_the_baselines_by_what_it_counts() -> None:
    """100,000 of coin at half its value are 50,000 of equity: no breaker sees a loss of the other half."""
    desk = Desk()
    desk.value("ETH", priced_by="ETHUSDT", haircut="0.5")
    desk.mark("ETHUSDT", 2_500)
    desk.open("alice", 1_000)
    desk.deposit("alice", 40, "ETH")
    account = desk.account()
    assert account.baselines is not None
    assert account.baselines.day_equity == desk.summary().equity == 51_000
    assert account.breakers == {}
    desk.deposit("alice", -20, "ETH")
    assert desk.account().baselines.day_equity == 26_000  # type: ignore[union-attr]
    assert desk.replayed("alice") == desk.account()


def test_a_new_peak_is_written_when_it_matters_not_on_every_tick() -> None:
    desk = losing(max_drawdown_fraction=D("0.5"))
    written = [
        event
        for price in ("20.01", "20.04", "20.05", "20.051", "20.06", "20.2", "20.1", "20.2")
        for event in desk.mark("ABCUSDT", price).get("alice", ())
        if isinstance(event, e.BaselinesSet)
    ]
    assert [(event.cause, event.baselines.peak_equity) for event in written] == [
        ("PEAK", D("10051")),
        ("PEAK", D("10200")),
    ]


def test_a_peak_below_zero_is_not_written_again_and_again() -> None:
    """Resumed while equity is negative: the baseline is negative, and standing still is no new peak."""
    desk = losing(max_drawdown_fraction=D("0.2"))
    desk.mark("ABCUSDT", 9)
    desk.do("alice", c.ResumeTrading("so be it"))
    assert desk.account().baselines.peak_equity == -1_000  # type: ignore[union-attr]
    assert desk.do("alice", c.Assess()) == ()


def test_an_isolated_position_loses_no_more_than_was_posted() -> None:
    """Its loss beyond the margin posted is not the account's, so no breaker counts it."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 20)
    desk.open("alice", 10_000)
    desk.do("alice", c.SetMarginMode("ABCUSDT", MarginMode.ISOLATED))
    desk.leverage("alice", "ABCUSDT", 5)
    desk.limit("alice", max_daily_loss=D(5_000))
    desk.fill("alice", "buy", 1000, "ABCUSDT")
    desk.mark("ABCUSDT", 12)
    assert desk.account().breakers == {}
    desk.run_reductions("alice")
    assert desk.summary().equity == 6_000


def test_a_limit_of_zero_stops_all_new_risk_and_no_exit() -> None:
    desk = losing()
    for name in ("max_position_quantity", "max_position_notional", "max_exposure_notional", "max_daily_loss"):
        desk.limit("alice", **{name: D(0)})
    desk.limit("alice", max_concurrent_positions=0, max_open_reservations=0, order_rate_count=0)
    assert not desk.check("alice", "buy", 1, "ABCUSDT").fits
    assert reasons(desk.reserve("alice", "sell", 1000, "ABCUSDT")) == []
    assert desk.now == NOON
