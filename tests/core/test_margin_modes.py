"""Isolated margin, hedge mode and contracts in coin: what stands behind a position, and where its loss ends."""

from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import AlertKind, MarginMode, PositionMode, PositionSide, Posting, ReductionCause, RiskLevel
from debt_mgmt.core.liquidation_price import ends_of
from tests.support.desk import FREE, Desk, kinds, reasons
from tests.support.instruments import inverse, linear
from tests.support.scenario import play

D = Decimal

ISOLATED = """
deposit      alice 10000 USDT
margin-mode  alice ABCUSDT isolated
leverage     alice ABCUSDT 5x
mark         ABCUSDT 100
"""


def test_isolated_margin_is_posted_and_taken_out_of_equity() -> None:
    play(
        ISOLATED
        + """
        fill     alice buy 100 ABCUSDT   -> posted 2000  equity 8000  used 0  available 8000  isolated 2000
        mark     ABCUSDT 110
        position alice ABCUSDT           -> unrealized 1000  posted 2000  equity 8000  total_value 11000
        fill     alice buy 50 ABCUSDT    -> posted 3100  equity 6900
        fill     alice sell 75 ABCUSDT   -> posted 1550  realized 500  equity 8950  wallet 10500
        fill     alice sell 75 ABCUSDT   -> posted 0  realized 1000  equity 11000  isolated 0
        """
    )


def test_an_isolated_loss_stops_at_the_posted_margin_and_insurance_takes_the_rest() -> None:
    """Bought at 100 with 20 posted each, sold at 70: the account loses 20 each, the insurance ledger 10."""
    desk = play(ISOLATED + "fill alice buy 100 ABCUSDT")
    events = desk.fill("alice", "sell", 100, "ABCUSDT", 70)
    (fill,) = (event for event in events if isinstance(event, e.FillRecorded))
    assert fill.realized_pnl == -3_000
    assert set(fill.postings) == {
        Posting("wallet", "USDT", D(-3_000)),
        Posting("venue", "USDT", D(3_000)),
        Posting("wallet", "USDT", D(1_000)),
        Posting("insurance", "USDT", D(-1_000)),
    }
    assert desk.summary().equity == 8_000


def test_a_partial_close_can_lose_only_its_share_of_the_posted_margin() -> None:
    desk = play(ISOLATED + "fill alice buy 100 ABCUSDT")
    desk.fill("alice", "sell", 25, "ABCUSDT", 70)
    position = desk.position(symbol="ABCUSDT")
    assert position is not None
    assert position.isolated_margin == 1_500
    assert desk.account().balances["USDT"] == 9_500


def test_an_isolated_position_is_closed_at_the_forced_level_without_the_rest_of_the_account() -> None:
    desk = play(ISOLATED + "fill alice buy 100 ABCUSDT")
    price = D("80.44")  # 44 are left of 2,000 behind it, and 40.22 are needed: 91 %
    events = desk.mark("ABCUSDT", price)["alice"]
    assert kinds(events) == ["IsolatedLevelChanged", "AlertRaised", "ReductionStarted", "AlertRaised"]
    account = desk.account()
    assert account.level is RiskLevel.NORMAL
    assert account.reduction is not None
    assert account.reduction.cause is ReductionCause.ISOLATED
    (step,) = account.reduction.steps
    assert (step.quantity, step.cause) == (D(100), ReductionCause.ISOLATED)
    desk.run_reductions("alice")
    assert desk.account().positions == {}
    assert desk.account().isolated_alerts == {}
    assert desk.summary().equity == 10_000 - 1_956


def test_isolated_levels_alert_on_the_way_and_only_once() -> None:
    desk = play(ISOLATED + "fill alice buy 100 ABCUSDT")
    for price, level in (("80.57", "WARNING"), ("80.58", None), ("80.5", "CRITICAL"), ("82", "NORMAL")):
        events = desk.mark("ABCUSDT", price).get("alice", ())
        changes = [event.after.value for event in events if isinstance(event, e.IsolatedLevelChanged)]
        assert changes == ([level] if level else []), price
    kinds_raised = [alert.kind for alert in desk.account().alerts]
    assert kinds_raised == [AlertKind.LEVEL_RAISED, AlertKind.LEVEL_RAISED]


def test_a_failing_cross_account_does_not_close_a_sound_isolated_position() -> None:
    desk = play(
        ISOLATED
        + """
        mark      BTCUSDT 50000
        leverage  alice BTCUSDT 5x
        fill      alice buy 100 ABCUSDT
        fill      alice buy 0.6 BTCUSDT
        mark      BTCUSDT 42000           -> alice LIQUIDATING
        reduce    alice
        position  alice ABCUSDT           -> quantity 100  posted 2000
        """,
        Desk(FREE),
    )
    assert all(step.symbol == "BTCUSDT" for plan in desk.account().past_reductions for step in plan.steps)


def test_isolated_margin_is_added_and_given_back_within_bounds() -> None:
    play(
        ISOLATED
        + """
        fill     alice buy 100 ABCUSDT   -> posted 2000
        post     alice ABCUSDT 500       -> set  posted 2500  available 7500
        post     alice ABCUSDT 7500.01   -> rejected INSUFFICIENT_MARGIN
        post     alice ABCUSDT -500      -> set  posted 2000
        post     alice ABCUSDT -0.01     -> rejected ISOLATED_MARGIN_BELOW_REQUIRED
        mark     ABCUSDT 99
        post     alice ABCUSDT -0.01     -> rejected ISOLATED_MARGIN_BELOW_REQUIRED
        """
    )


def test_the_margin_mode_stays_while_something_is_open() -> None:
    play(
        ISOLATED
        + """
        fill         alice buy 100 ABCUSDT
        margin-mode  alice ABCUSDT cross      -> rejected MARGIN_MODE_WITH_POSITION
        margin-mode  alice ABCUSDT isolated   -> set
        fill         alice sell 100 ABCUSDT
        reserve      alice buy 1 ABCUSDT as r
        margin-mode  alice ABCUSDT cross      -> rejected MARGIN_MODE_WITH_POSITION
        release      alice r
        margin-mode  alice ABCUSDT cross      -> set
        """
    )


def test_a_reversal_in_isolation_posts_margin_for_the_new_side_alone() -> None:
    play(
        ISOLATED
        + """
        fill  alice buy 100 ABCUSDT          -> posted 2000
        fill  alice sell 250 ABCUSDT at 110  -> quantity -150  entry 110  posted 3300  realized 1000  wallet 11000
        """
    )


# Hedge mode


def hedged(capital: int = 10_000) -> Desk:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", capital, position_mode=PositionMode.HEDGE)
    desk.leverage("alice", "ABCUSDT", 5)
    return desk


def test_legs_live_side_by_side_and_each_needs_its_margin() -> None:
    play(
        """
        fill      alice buy 100 ABCUSDT long     -> quantity 100  used 2000
        fill      alice sell 60 ABCUSDT short    -> quantity -60  used 3200  positions 2
        mark      ABCUSDT 110
        account   alice                          -> unrealized_pnl 400  used 3520  equity 10400
        fill      alice sell 40 ABCUSDT long     -> quantity 60  realized 400
        fill      alice buy 60 ABCUSDT short     -> quantity 0  realized -200  positions 1
        """,
        hedged(),
    )


def test_orders_of_both_legs_are_held_in_full() -> None:
    """They do not offset each other: both may fill, and both legs stay."""
    play(
        """
        reserve   alice buy 50 ABCUSDT long      -> held  used 1000
        reserve   alice sell 30 ABCUSDT short    -> held  used 1600
        fill      alice buy 50 ABCUSDT long      -> used 2600
        reserve   alice sell 50 ABCUSDT long     -> held  used 2600
        check     alice sell 51 ABCUSDT long     -> rejected REDUCE_ONLY_WOULD_INCREASE
        """,
        hedged(),
    )


def test_a_leg_closes_on_request_and_the_other_stays() -> None:
    desk = play(
        """
        fill      alice buy 100 ABCUSDT long
        fill      alice sell 60 ABCUSDT short
        close     alice ABCUSDT long             -> closed  quantity 0  positions 1
        position  alice ABCUSDT short            -> quantity -60
        close     alice ABCUSDT long             -> rejected NO_POSITION
        """,
        hedged(),
    )
    assert desk.position(symbol="ABCUSDT", leg="SHORT") is not None


def test_a_forced_reduction_of_a_hedge_first_closes_what_is_uncovered() -> None:
    """Long 400, short 100 at 5x: 300 are uncovered. They go first, and 115 of them are enough."""
    desk = hedged(11_000)
    desk.fill("alice", "sell", 100, "ABCUSDT", leg="SHORT")
    desk.fill("alice", "buy", 400, "ABCUSDT", leg="LONG")
    assert desk.account().reduction is not None
    fills = desk.run_reductions("alice")
    assert [(one.position_side, one.quantity) for one in fills] == [(PositionSide.LONG, D(115))]


def test_a_forced_reduction_of_a_hedge_then_closes_both_legs_alike() -> None:
    desk = hedged(10_000)
    desk.fill("alice", "buy", 300, "ABCUSDT", leg="LONG")
    desk.fill("alice", "sell", 200, "ABCUSDT", leg="SHORT")
    desk.run_reductions("alice")
    long, short = (desk.position(symbol="ABCUSDT", leg=leg) for leg in ("LONG", "SHORT"))
    assert long is not None
    assert short is not None
    assert long.quantity == -short.quantity == 175
    assert desk.figures().margin_utilization == D("0.7")


# Contracts in coin


def in_coin(coins: str = "1") -> Desk:
    desk = Desk(FREE, instruments=[inverse("BTCUSD", contract_size="100")])
    desk.mark("BTCUSD", 50_000)
    desk.open("alice", coins, currency="BTC")
    desk.leverage("alice", "BTCUSD", 5)
    return desk


def test_a_coin_margined_contract_is_worth_less_coin_at_a_higher_price() -> None:
    play(
        """
        fill      alice buy 1000 BTCUSD     -> notional 2  used 0.4  available 0.6
        mark      BTCUSD 62500
        position  alice BTCUSD              -> notional 1.6  unrealized 0.4  used 0.32  equity 1.4
        mark      BTCUSD 40000
        position  alice BTCUSD              -> notional 2.5  unrealized -0.5  used 0.5  equity 0.5
        """,
        in_coin(),
    )


def test_a_short_in_coin_gains_when_the_price_falls() -> None:
    play(
        """
        fill      alice sell 1000 BTCUSD    -> quantity -1000  used 0.4
        mark      BTCUSD 40000
        position  alice BTCUSD              -> unrealized 0.5  equity 1.5
        fill      alice buy 1000 BTCUSD     -> quantity 0  realized 0.5  wallet 1.5
        """,
        in_coin(),
    )


def test_adding_in_coin_averages_so_that_the_value_is_kept() -> None:
    """1,000 at 50,000 and 1,000 at 40,000 are 4.5 coins for 2,000 contracts: 44,444.44…"""
    desk = in_coin("10")
    desk.fill("alice", "buy", 1000, "BTCUSD", 50_000)
    desk.fill("alice", "buy", 1000, "BTCUSD", 40_000)
    position = desk.position(symbol="BTCUSD")
    assert position is not None
    assert position.entry_price == (D(400_000) / 9).quantize(D("1e-18"))
    desk.mark("BTCUSD", 50_000)
    assert abs(desk.summary().unrealized_pnl - D("0.5")) < D("1e-12")


def test_a_coin_account_valued_in_dollars_moves_with_its_collateral() -> None:
    desk = Desk(FREE, instruments=[inverse("BTCUSD")])
    desk.value("BTC", priced_by="BTCUSD", haircut="0.1")
    desk.mark("BTCUSD", 50_000)
    desk.open("alice", 1, currency="USD", asset="BTC")
    desk.leverage("alice", "BTCUSD", 5)
    desk.fill("alice", "buy", 500, "BTCUSD")
    summary = desk.summary()
    assert (summary.equity, summary.used, summary.total_value) == (D(45_000), D(10_000), D(50_000))
    desk.mark("BTCUSD", 62_500)
    summary = desk.summary()
    assert (summary.equity, summary.unrealized_pnl, summary.used) == (D(68_750), D(12_500), D(10_000))


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_an_isolated_position_s_ends_are_where_the_engine_finds_them(side: str) -> None:
    """At the liquidation price the ratio is one; at the bankruptcy price the posted margin is gone."""
    desk = Desk(FREE, instruments=[linear("ABCUSDT")])
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000, margin_mode=MarginMode.ISOLATED)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", side, 100, "ABCUSDT")
    (one,) = desk.summary().positions
    liquidation, bankruptcy = ends_of(one, desk.summary())
    assert liquidation is not None
    assert bankruptcy is not None
    assert bankruptcy == (80 if side == "buy" else 120)
    desk.mark("ABCUSDT", liquidation, assess=False)
    (one,) = desk.summary().positions
    assert abs(one.isolated_equity - one.maintenance_margin) < D("1e-30")


def test_isolated_leverage_lowered_posts_more_and_raised_gives_none_back() -> None:
    desk = play(
        ISOLATED
        + """
        fill      alice buy 100 ABCUSDT   -> posted 2000
        leverage  alice ABCUSDT 2x        -> set  equity 5000
        position  alice ABCUSDT           -> posted 5000  leverage 2
        leverage  alice ABCUSDT 4x        -> set  equity 5000
        position  alice ABCUSDT           -> posted 5000  leverage 4
        """
    )
    assert reasons(desk.do("alice", c.AdjustIsolatedMargin("ABCUSDT", PositionSide.NET, D(-2_500)))) == []


def test_posted_margin_is_taken_out_of_equity_where_the_wallet_has_none_of_its_asset() -> None:
    """An account in rupees posts dollars for an isolated position: that money can't stand behind anything else."""
    desk = Desk()
    desk.value("USDT", INR="83")
    desk.open("ravi", currency="INR")
    desk.deposit("ravi", 830_000, "INR")
    desk.do("ravi", c.SetMarginMode("BTCUSDT", MarginMode.ISOLATED))
    desk.mark("BTCUSDT", 50_000)
    before = desk.summary("ravi").equity
    desk.fill("ravi", "buy", D("0.02"), "BTCUSDT", 50_000)
    posted = desk.account("ravi").positions["BTCUSDT"].isolated_margin
    assert "USDT" not in desk.account("ravi").balances
    assert posted > 0
    assert desk.summary("ravi").equity == before - posted * 83
