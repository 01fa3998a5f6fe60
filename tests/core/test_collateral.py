"""Several assets in one account: valued by marks or configured rates, with haircuts, and what of them can leave."""

from datetime import timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Environment
from debt_mgmt.core.house import House
from debt_mgmt.core.margin import collateral_value
from debt_mgmt.core.market import AssetRule, Mark, Unpriced, asset_price
from debt_mgmt.core.refusals import Reason
from debt_mgmt.core.venue import VenueState
from tests.support.desk import FREE, NOON, Desk, reasons
from tests.support.instruments import BTCUSDT, ETHUSDT, inverse, linear
from tests.support.scenario import play

D = Decimal


def test_assets_count_with_their_haircut_and_debts_in_full() -> None:
    house = House(assets={"BTC": AssetRule("BTC", haircut=D("0.05"))})
    assert collateral_value("BTC", D(2), D(50_000), house) == 95_000
    assert collateral_value("BTC", D(-2), D(50_000), house) == -100_000
    assert collateral_value("BTC", D(0), D(50_000), house) == 0
    assert collateral_value("USDT", D(7), D(1), house) == 7


def test_several_assets_make_one_equity() -> None:
    play(
        """
        value     BTC by BTCUSDT 0.05
        value     ETH by ETHUSDT 0.10
        mark      BTCUSDT 50000
        mark      ETHUSDT 2500
        deposit   alice 1000 USDT
        deposit   alice 0.1 BTC             -> equity 5750   total_value 6000
        deposit   alice 2 ETH               -> equity 10250  total_value 11000
        leverage  alice BTCUSDT 5x
        fill      alice sell 0.5 BTCUSDT    -> used 5000  available 5250
        mark      BTCUSDT 52000
        account   alice                     -> equity 9440  used 5200  unrealized_pnl -1000
        fill      alice buy 0.5 BTCUSDT     -> realized -1000  equity 9440
        """
    )


def test_a_loss_in_one_asset_is_covered_by_the_surplus_of_another() -> None:
    """The dollar balance goes below zero and counts in full; the coin stands behind it."""
    play(
        """
        value     BTC by BTCUSDT 0.05
        mark      BTCUSDT 50000
        mark      ETHUSDT 2500
        deposit   alice 100 USDT
        deposit   alice 1 BTC
        leverage  alice ETHUSDT 5x
        fill      alice buy 10 ETHUSDT
        fill      alice sell 10 ETHUSDT at 2300   -> realized -2000  wallet -1899  equity 45600
        """
    )


def test_an_account_in_rupees_trades_what_settles_in_dollars_at_a_configured_rate() -> None:
    desk = Desk(FREE)
    desk.value("USDT", INR="83.5")
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000_000, currency="INR")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.4")
    desk.mark("BTCUSDT", 51_000)
    summary = desk.summary()
    assert summary.used == 4_080 * D("83.5")
    assert summary.unrealized_pnl == 400 * D("83.5")
    assert summary.equity == 10_000_000 + 400 * D("83.5")
    desk.fill("alice", "sell", "0.4")
    assert desk.account().balances == {"INR": D(10_000_000), "USDT": D(400)}
    assert desk.summary().equity == summary.equity


def marks(**prices: int) -> dict[str, Mark]:
    return {symbol: Mark(symbol, D(price), "test", NOON, NOON) for symbol, price in prices.items()}


@pytest.mark.parametrize(
    ("asset", "currency", "price"),
    [
        ("USDT", "USDT", 1),
        ("BTC", "USDT", 50_000),
        ("BTC", "INR", 4_000_000),
        ("USDT", "INR", 80),
        ("INR", "USDT", D(1) / 80),
        ("GEM", "USDT", 150_000),
    ],
)
def test_an_asset_is_priced_by_rate_by_opposite_rate_or_through_marks(
    asset: str, currency: str, price: Decimal | int
) -> None:
    instruments = {one.symbol: one for one in (BTCUSDT, linear("GEMBTC"))}
    assets = {
        "USDT": AssetRule("USDT", rates={"INR": D(80)}),
        "BTC": AssetRule("BTC", priced_by="BTCUSDT"),
        "GEM": AssetRule("GEM", priced_by="GEMBTC"),
    }
    used: dict[str, Mark] = {}
    assert asset_price(asset, currency, assets, instruments, marks(BTCUSDT=50_000, GEMBTC=3), used) == price
    assert set(used) == {"GEM": {"GEMBTC", "BTCUSDT"}, "BTC": {"BTCUSDT"}}.get(asset, set())


@pytest.mark.parametrize(("asset", "missing"), [("XYZ", "XYZ/USDT"), ("ETH", "ETHUSDT"), ("OLD", "NOPE")])
def test_an_asset_without_a_price_is_said_to_have_none(asset: str, missing: str) -> None:
    assets = {"ETH": AssetRule("ETH", priced_by="ETHUSDT"), "OLD": AssetRule("OLD", priced_by="NOPE")}
    with pytest.raises(Unpriced) as raised:
        asset_price(asset, "USDT", assets, {"ETHUSDT": ETHUSDT}, {}, {})
    assert raised.value.missing == missing


def test_money_without_a_price_makes_the_account_unknown_and_is_never_counted_as_nothing() -> None:
    desk = Desk(FREE)
    desk.value("ETH", priced_by="ETHUSDT")
    desk.mark("ETHUSDT", 2_500)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.deposit("alice", 1, "ETH")
    desk.forget("ETHUSDT")
    summary = desk.summary()
    assert summary.missing == ("ETHUSDT",)
    assert desk.figures().equity is None
    result = desk.check("alice", "buy", "0.01")
    assert [one.reason for one in result.violations] == [Reason.MISSING_MARK]
    assert result.after.margin_used is None
    desk.mark("ETHUSDT", 2_500)
    assert desk.check("alice", "buy", "0.01").fits


def test_a_view_that_missed_a_price_is_not_kept_when_the_price_arrives() -> None:
    desk = Desk(FREE)
    desk.value("ETH", priced_by="ETHUSDT")
    desk.mark("ETHUSDT", 2_500)
    desk.open("alice", 10_000)
    desk.deposit("alice", 1, "ETH")
    desk.forget("ETHUSDT")
    view, account = desk.view(), desk.account()
    desk.mark("ETHUSDT", 2_500)
    assert not view.is_current(account, desk.world("alice"))
    view = desk.view()
    assert view.is_current(account, desk.world("alice"))
    desk.mark("ETHUSDT", 2_501)
    assert not view.is_current(account, desk.world("alice"))


def test_new_risk_that_is_valued_by_an_old_rate_is_refused() -> None:
    """The contract's own mark is fresh; the coin that it settles in is valued by one that is not."""
    gem = linear("GEMBTC", lot="1")
    desk = Desk(FREE, instruments=[BTCUSDT, gem])
    desk.value("BTC", priced_by="BTCUSDT")
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 100_000)
    desk.now += timedelta(seconds=11)
    desk.mark("GEMBTC", 1)
    result = desk.check("alice", "buy", 1, "GEMBTC")
    assert [(one.reason, one.subject) for one in result.violations] == [(Reason.STALE_MARK, "BTCUSDT")]
    view = desk.view()
    view.symbol("GEMBTC")
    desk.mark("BTCUSDT", 51_000)
    assert not view.is_current(desk.account(), desk.world("alice"))
    assert desk.check("alice", "buy", 1, "GEMBTC").fits


def test_a_recording_prices_no_real_account() -> None:
    """Neither the position's mark nor the rate of its collateral may come from a tape."""
    desk = Desk(FREE, instruments=[BTCUSDT, inverse("BTCUSD")])
    desk.value("BTC", priced_by="BTCUSDT")
    desk.mark("BTCUSDT", 50_000, recorded=True)
    desk.mark("BTCUSD", 50_000)
    desk.open("paper", 1, currency="USDT", asset="BTC")
    assert desk.summary("paper").known
    desk.open("real", currency="USDT", environment=Environment.LIVE)
    desk.do("real", c.RecordSync(VenueState(desk.now)))
    assert [one.reason for one in desk.check("real", "buy", "0.1").violations] == [Reason.MISSING_MARK]
    result = desk.check("real", "buy", 1, "BTCUSD")
    assert [(one.reason, one.subject) for one in result.violations] == [(Reason.MISSING_MARK, "BTCUSDT")]
    desk.fill("real", "buy", 1, "BTCUSD")
    assert desk.summary("real").missing == ("BTCUSDT",)


# What can leave


def test_what_margin_does_not_need_can_be_withdrawn() -> None:
    play(
        """
        deposit   alice 10000 USDT
        leverage  alice BTCUSDT 5x
        mark      BTCUSDT 50000
        fill      alice buy 0.5 BTCUSDT
        mark      BTCUSDT 49000
        account   alice                 -> equity 9500  used 4900  available 4600
        withdraw  alice 3375.01 USDT    -> rejected INSUFFICIENT_BALANCE
        withdraw  alice 3375 USDT       -> withdrawn  available 1225  utilization 0.8
        """,
        Desk(FREE),
    )


def test_profit_that_is_not_realised_can_not_be_withdrawn_beyond_the_balance() -> None:
    play(
        """
        deposit   alice 10000 USDT
        leverage  alice BTCUSDT 5x
        mark      BTCUSDT 50000
        fill      alice buy 0.5 BTCUSDT
        mark      BTCUSDT 80000
        account   alice                 -> equity 25000  used 8000  available 17000
        withdraw  alice 10000.01 USDT   -> rejected INSUFFICIENT_BALANCE
        withdraw  alice 10000 USDT      -> withdrawn  available 7000
        """,
        Desk(FREE),
    )


def test_collateral_with_a_haircut_leaves_at_what_it_counts() -> None:
    desk = Desk(FREE)
    desk.value("ETH", priced_by="ETHUSDT", haircut="0.2")
    desk.mark("ETHUSDT", 2_500)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 1_000)
    desk.deposit("alice", 10, "ETH")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "1.1")
    assert desk.summary().available == 10_000
    assert reasons(desk.deposit("alice", "-3.63", "ETH")) == ["INSUFFICIENT_BALANCE"]
    assert reasons(desk.deposit("alice", "-3.625", "ETH")) == []
    assert desk.summary().available == 2_750


def test_nothing_leaves_on_prices_that_are_old() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.fill("alice", "buy", "0.01")
    desk.now += timedelta(seconds=11)
    assert reasons(desk.deposit("alice", -1)) == ["STALE_MARK"]
    assert reasons(desk.deposit("alice", 1)) == []
    desk.forget("BTCUSDT")
    assert reasons(desk.deposit("alice", -1)) == ["MISSING_MARK"]


def test_posted_margin_does_not_leave() -> None:
    play(
        """
        deposit      alice 10000 USDT
        margin-mode  alice ABCUSDT isolated
        mark         ABCUSDT 100
        fill         alice buy 100 ABCUSDT   -> posted 5000
        withdraw     alice 5000.01 USDT      -> rejected INSUFFICIENT_BALANCE
        withdraw     alice 5000 USDT         -> withdrawn  available 0
        """
    )


def test_only_paper_money_is_moved_here() -> None:
    desk = Desk(FREE)
    desk.open("real", environment=Environment.LIVE)
    assert desk.account("real").balances == {}
    for command in (c.Transfer("USDT", D(5)), c.Transfer("USDT", D(-5)), c.ResetFunds("x")):
        assert reasons(desk.do("real", command)) == ["NOT_SANDBOX"]
