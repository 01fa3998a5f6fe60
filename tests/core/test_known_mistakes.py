"""Mistakes that other margin systems were found to make, one test each: this one does not."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode, RiskLevel, Side
from debt_mgmt.core.check import check_brief
from debt_mgmt.core.instrument import VenueRules, instrument_problems, maintenance_margin, tier_at
from debt_mgmt.core.levels import next_level
from debt_mgmt.core.liquidation_price import ends_of, liquidation_price
from debt_mgmt.core.margin import figures_of
from debt_mgmt.core.money import owned, ratio, required
from tests.support.desk import FREE, HOUSE, Desk, kinds, order, reasons
from tests.support.instruments import BITCOIN_TIERS, BTCUSDT, STEPPED_TIERS, linear, tiers
from tests.support.scenario import play

D = Decimal


def desk_with(capital: int = 10_000, *, leverage: int = 5, **prices: int) -> Desk:
    desk = Desk(FREE)
    desk.open("alice", capital)
    for symbol, price in (prices or {"BTCUSDT": 50_000}).items():
        desk.mark(symbol, price)
        desk.leverage("alice", symbol, leverage)
    return desk


def test_the_tier_is_looked_up_by_notional_not_by_collateral() -> None:
    """Half a million of bitcoin lies in the tier of 0.5 %, whether 100,000 or all of it was put up."""
    rates = set()
    for leverage in (1, 5):
        desk = desk_with(1_000_000, leverage=leverage)
        desk.fill("alice", "buy", 10)
        rates.add(desk.summary().maintenance)
    assert rates == {D(500_000) * D("0.005") - 50}


def test_the_tier_is_the_one_at_the_liquidation_price_not_at_the_mark() -> None:
    """A long of 4,000 at 101 holds 404,000 in the tier of 10 %; where it ends it lies in the tier of 5 %."""
    instrument = linear("ABCUSDT", table=STEPPED_TIERS)
    end = liquidation_price(instrument, D(4_000), D(101), D(80_000), D(101))
    assert end == D(4_000 * 101 - 80_000) / (4_000 * D("0.95"))
    assert tier_at(instrument, 4_000 * end).maintenance_rate == D("0.05")
    assert tier_at(instrument, D(404_000)).maintenance_rate == D("0.1")


def test_tiers_with_holes_are_refused() -> None:
    holes = tiers("0 1000000 0.01 50", "10000000 - 0.02 25")
    assert instrument_problems(linear("ABCUSDT", table=holes)) == [
        ("tiers[1].notional_from", "tiers must be contiguous")
    ]


def test_boundaries_belong_where_the_rules_say() -> None:
    """Just enough margin is enough; exactly at a threshold is at it; a tier begins at its first dollar."""
    assert next_level(RiskLevel.NORMAL, D(9), D(10), HOUSE) is RiskLevel.LIQUIDATING
    assert tier_at(linear("ABCUSDT", table=BITCOIN_TIERS), D(50_000)).maintenance_rate == D("0.005")
    desk = desk_with(10_000)
    assert desk.check("alice", "buy", "0.8").fits
    assert not desk.check("alice", "buy", "0.801").fits


def test_requirements_are_rounded_up_and_what_is_owned_down() -> None:
    third = D(10) / 3
    assert required(third) == D("3.333333333334")
    assert owned(third) == D("3.333333333333")
    assert required(-third) == D("-3.333333333333")
    assert owned(-third) == D("-3.333333333334")
    shown = figures_of(third, third / 7, third / 11)
    assert shown.equity is not None
    assert shown.margin_used is not None
    assert shown.maintenance_margin is not None
    assert shown.equity < third
    assert shown.margin_used > third / 7
    assert shown.maintenance_margin > third / 11


def test_rounding_does_not_leak_with_every_partial_fill() -> None:
    """A reservation filled in thirds and sevenths ends at exactly nothing, and so does the position."""
    desk = Desk(FREE, instruments=[linear("ABCUSDT", lot="0.000000001")])
    desk.mark("ABCUSDT", "33.33")
    desk.open("alice", 10_000, margin_mode=MarginMode.ISOLATED)
    desk.leverage("alice", "ABCUSDT", 3)
    desk.reserve("alice", "buy", 1, "ABCUSDT")
    (name,) = desk.account().reservations
    parts = [D("0.333333333"), D("0.142857142"), D("0.142857142"), D("0.380952383")]
    for part in parts:
        desk.fill("alice", "buy", part, "ABCUSDT", reservation_id=name)
    assert desk.account().reservations == {}
    for part in parts:
        desk.fill("alice", "sell", part, "ABCUSDT")
    assert desk.account().positions == {}
    assert desk.summary().isolated_margin == 0
    assert desk.summary().used == 0
    assert desk.summary().available == 10_000


def test_decimals_leave_no_dust_and_do_not_overflow() -> None:
    desk = desk_with(10_000)
    for side, quantity in (("buy", "0.3"), ("sell", "0.2"), ("sell", "0.1")):
        desk.fill("alice", side, quantity)
    assert desk.account().positions == {}
    tiny = linear("ABCUSDT", lot="0.000000000000000001", tick="0.000000000000000001")
    assert maintenance_margin(tiny, D("1e-18"), D("1e-18")) == D("0.005e-36")
    assert maintenance_margin(tiny, D("99999999999999999999"), D("99999999999999999999")) > D("4e37")


def test_ratios_are_compared_without_dividing_and_equity_below_zero_is_not_safe() -> None:
    for equity in ("0", "-1", "-1000000"):
        assert next_level(RiskLevel.NORMAL, D(1), D(equity), HOUSE) is RiskLevel.LIQUIDATING
        assert ratio(D(1), D(equity)) is None, "a negative ratio would look small"
    third = D(1) / 3
    assert next_level(RiskLevel.NORMAL, D("0.7") * third, third, HOUSE) is RiskLevel.WARNING


def test_a_short_gains_when_the_price_falls_in_cross_margin_too() -> None:
    desk = desk_with(10_000, BTCUSDT=50_000, ETHUSDT=2_500)
    desk.fill("alice", "sell", "0.1", "BTCUSDT")
    desk.fill("alice", "buy", 1, "ETHUSDT")
    desk.mark("BTCUSDT", 45_000)
    assert desk.summary().equity == 10_500
    desk.mark("BTCUSDT", 55_000)
    assert desk.summary().equity == 9_500


def test_margin_is_counted_on_the_mark_not_on_the_last_trade_or_the_entry() -> None:
    desk = desk_with(100_000)
    desk.fill("alice", "buy", 1, price=40_000)
    assert desk.summary().used == 10_000
    assert desk.summary().unrealized_pnl == 10_000
    desk.fill("alice", "buy", "0.001", price=99_000)
    assert desk.summary().used == D("10010")


def test_the_closing_fee_is_in_the_liquidation_price_where_the_venue_counts_it() -> None:
    plain = linear("ABCUSDT", taker_fee_rate="0.0005")
    with_fee = msgspec.structs.replace(plain, rules=VenueRules(fee_in_maintenance=True))
    ends = [liquidation_price(one, D(1), D(100), D(20), D(100)) for one in (plain, with_fee)]
    assert ends == [D(80) / D("0.995"), D(80) / D("0.9945")]


def test_a_reversal_realises_the_old_side_and_opens_exactly_the_rest() -> None:
    """Long 100, sold 200: profit on 100, short 100 at the price of the fill, margin for 100, ends above its entry."""
    desk = play(
        """
        deposit   alice 100000 USDT
        leverage  alice ABCUSDT 5x
        mark      ABCUSDT 100
        fill      alice buy 100 ABCUSDT
        mark      ABCUSDT 120
        check     alice sell 200 ABCUSDT  -> fits  margin 0  initial 2400
        fill      alice sell 200 ABCUSDT  -> quantity -100  entry 120  realized 2000  unrealized 0  used 2400
        """,
        Desk(FREE),
    )
    summary = desk.summary()
    liquidation, _ = ends_of(summary.positions[0], summary)
    assert liquidation is not None
    assert liquidation > 120


def test_profit_is_realised_on_every_reduction() -> None:
    """Also where no margin is set free by it, because open orders take its place at once."""
    desk = desk_with(100_000, ABCUSDT=100)
    desk.fill("alice", "buy", 100, "ABCUSDT")
    desk.reserve("alice", "sell", 400, "ABCUSDT")
    before = desk.summary().used
    desk.mark("ABCUSDT", 110)
    desk.fill("alice", "sell", 50, "ABCUSDT")
    assert desk.summary().used > before
    assert desk.account().realized_pnl == {"USDT": D(500)}


def test_other_positions_count_in_cross_margin() -> None:
    alone, beside = desk_with(2_000, ABCUSDT=100), desk_with(2_000, ABCUSDT=100, ETHUSDT=2_500)
    for desk in (alone, beside):
        desk.fill("alice", "buy", 50, "ABCUSDT")
    beside.fill("alice", "buy", "0.5", "ETHUSDT", 2_300)  # 100 of open profit, 6.25 of maintenance margin
    ends = [ends_of(desk.summary().positions[0], desk.summary())[0] for desk in (alone, beside)]
    assert ends == [D(3_000) / D("49.75"), D(3_000 - 100 + D("6.25")) / D("49.75")]


def test_margin_accumulates_over_positions_whatever_their_order() -> None:
    sums = set()
    for symbols in (("BTCUSDT", "ETHUSDT", "ABCUSDT"), ("ABCUSDT", "ETHUSDT", "BTCUSDT")):
        desk = desk_with(100_000, BTCUSDT=50_000, ETHUSDT=2_500, ABCUSDT=100)
        for symbol in symbols:
            desk.fill("alice", "buy", 1, symbol)
        summary = desk.summary()
        sums.add((summary.used, summary.maintenance, summary.equity))
    assert len(sums) == 1
    assert sums.pop()[0] == 10_520


def test_a_reduce_only_order_is_no_new_risk_and_the_excess_of_a_close_is() -> None:
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.75")
    assert desk.check("alice", "sell", 5, reduce_only=True).margin_required == 0
    assert desk.check("alice", "sell", "0.75").margin_required == 0
    assert desk.check("alice", "sell", "1.5").fits, "as much short as it was long needs no more"
    result = desk.check("alice", "sell", "1.6")
    assert not result.fits
    assert result.initial_margin == 8_500
    assert result.margin_required == D("1100")


def test_orders_on_both_sides_need_the_larger_side_not_the_sum_and_not_only_one() -> None:
    desk = desk_with(10_000)
    desk.reserve("alice", "buy", "0.3")
    desk.reserve("alice", "sell", "0.2")
    assert desk.summary().used == 3_000
    desk.fill("alice", "buy", "0.1")
    assert desk.summary().used == 4_000


def test_a_batch_does_not_use_the_same_margin_twice() -> None:
    desk = desk_with(10_000)
    batch = desk.view().scratch()
    fits = [check_brief(batch, order("buy", "0.3"), desk.now, hold=True).fits for _ in range(4)]
    assert fits == [True, True, False, False]
    alone = [check_brief(desk.view(), order("buy", "0.3"), desk.now, hold=False).fits for _ in range(4)]
    assert all(alone)


def test_what_was_checked_is_decided_again_when_it_is_held() -> None:
    """Both of two orders fit when asked; only the first can be held."""
    desk = desk_with(10_000)
    assert desk.check("alice", "buy", "0.5").fits
    assert desk.check("alice", "buy", "0.5").fits
    assert reasons(desk.reserve("alice", "buy", "0.5")) == []
    assert "INSUFFICIENT_MARGIN" in reasons(desk.reserve("alice", "buy", "0.5"))


def test_leverage_changes_with_an_open_position_are_margined() -> None:
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.6")
    assert reasons(desk.leverage("alice", "BTCUSDT", 2)) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    assert reasons(desk.leverage("alice", "BTCUSDT", 4)) == []
    assert desk.summary().used == 7_500


def test_leverage_is_counted_once() -> None:
    desk = desk_with(100_000)
    desk.fill("alice", "buy", 1)
    summary = desk.summary()
    assert (summary.exposure, summary.used) == (D(50_000), D(10_000))
    sized = linear("ABCUSDT", contract_size="1000")
    desk = Desk(FREE, instruments=[sized])
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 200_000)
    desk.fill("alice", "buy", 1, "ABCUSDT")
    assert desk.summary().used == 50_000, "a contract's size counts once"


def test_leverage_is_never_clamped_in_silence() -> None:
    desk = desk_with(10_000)
    assert reasons(desk.leverage("alice", "BTCUSDT", 75)) == ["LEVERAGE_ABOVE_ACCOUNT"]
    assert desk.account().leverage["BTCUSDT"] == 5


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "old"])
def test_a_stale_or_missing_price_does_not_fail_open(missing: bool) -> None:
    desk = desk_with(10_000, BTCUSDT=50_000, ETHUSDT=2_500)
    desk.fill("alice", "buy", "0.1")
    if missing:
        desk.forget("BTCUSDT")
    else:
        desk.wait(timedelta(seconds=31))
        desk.mark("ETHUSDT", 2_500)
    assert not desk.check("alice", "buy", 1, "ETHUSDT").fits
    assert desk.account().level is RiskLevel.UNKNOWN
    assert desk.account().alerts[-1].kind.value == "LEVEL_UNKNOWN"


def test_what_is_configured_is_wired_from_the_price_to_the_order() -> None:
    """A price falls: the level rises, the alert is raised, the account reduces, and orders are there to be sent."""
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.7")
    events = desk.mark("BTCUSDT", 44_000)["alice"]
    assert kinds(events) == [
        "RiskLevelChanged",
        "AlertRaised",
        "TradingStateChanged",
        "ReductionStarted",
        "AlertRaised",
    ]
    reduction = desk.account().reduction
    assert reduction is not None
    assert [(step.symbol, step.side) for step in reduction.open_steps] == [("BTCUSDT", Side.SELL)]


def test_no_margin_mode_switches_liquidation_off() -> None:
    for mode in MarginMode:
        desk = Desk(FREE)
        desk.mark("BTCUSDT", 50_000)
        desk.open("alice", 10_000, margin_mode=mode)
        desk.leverage("alice", "BTCUSDT", 5)
        desk.fill("alice", "buy", "0.7")
        desk.mark("BTCUSDT", 40_000)
        assert desk.account().reduction is not None, mode


def test_a_gap_through_the_posted_margin_is_not_the_account_s_loss() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000, margin_mode=MarginMode.ISOLATED)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.5")
    desk.mark("BTCUSDT", 30_000)
    desk.run_reductions("alice")
    assert desk.summary().equity == 5_000
    covered = [
        posting.amount
        for event in desk.events("alice")
        if isinstance(event, e.FillRecorded)
        for posting in event.postings
        if posting.ledger == "insurance"
    ]
    assert covered == [-5_000]


def test_liquidation_is_idempotent() -> None:
    """Looking again at the same or worse prices orders nothing twice; each order has one name for ever."""
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.7")
    desk.mark("BTCUSDT", 44_000)
    plan = desk.account().reduction
    for price in (44_000, 43_900, 43_000):
        desk.mark("BTCUSDT", price)
        desk.do("alice", c.Assess())
    assert desk.account().reduction == plan
    assert sum(isinstance(event, e.ReductionStarted) for event in desk.events("alice")) == 1
    assert desk.replayed("alice").reduction == plan


def test_alerts_do_not_flap() -> None:
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.6")
    for price in (46_600, 46_500, 46_600, 46_400, 46_700) * 5:
        desk.mark("BTCUSDT", price)
    assert len(desk.account().alerts) == 1


def test_a_reset_is_atomic_and_leaves_no_order_open() -> None:
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.6")
    desk.reserve("alice", "buy", "0.1")
    events = desk.do("alice", c.ResetFunds("daily"))
    assert kinds(events)[0] == "FundsReset"
    assert desk.account().positions == {}
    assert desk.account().reservations == {}
    assert desk.summary().equity == 10_000


def test_errors_do_not_become_zero_or_nothing() -> None:
    desk = desk_with(10_000)
    desk.fill("alice", "buy", "0.1")
    desk.forget("BTCUSDT")
    shown = desk.figures()
    assert [shown.equity, shown.margin_used, shown.margin_available, shown.maintenance_margin] == [None] * 4
    summary = desk.summary()
    assert not summary.known
    assert desk.check("alice", "buy", "0.1").margin_required is None


def test_a_loss_in_one_currency_is_covered_by_another_before_anything_is_sold() -> None:
    desk = Desk(FREE)
    desk.value("ETH", priced_by="ETHUSDT")
    for symbol, price in (("BTCUSDT", 50_000), ("ETHUSDT", 2_500)):
        desk.mark(symbol, price)
    desk.open("alice", 1_000)
    desk.deposit("alice", 40, "ETH")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1)
    desk.mark("BTCUSDT", 45_000)
    assert desk.account().balances["USDT"] + desk.summary().unrealized_pnl < 0
    assert desk.account().level is RiskLevel.NORMAL
    assert desk.account().reduction is None


def test_quantities_below_one_need_margin() -> None:
    """Half a bitcoin is not rounded to none."""
    desk = desk_with(100_000)
    assert desk.check("alice", "buy", "0.5").initial_margin == 5_000
    assert BTCUSDT.lot == D("0.001")
