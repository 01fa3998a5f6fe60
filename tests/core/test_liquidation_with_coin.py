"""Where a position ends when its own mark also values what stands behind it, or what is owed."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from debt_mgmt.core.account import Debt, Lender
from debt_mgmt.core.liquidation_price import ends_of
from debt_mgmt.core.margin import Summary
from tests.support.desk import FREE, Desk

D = Decimal


def desk_with(dollars: int, coins: str, owed: str, held: str, haircut: str = "0.05") -> Desk:
    desk = Desk(FREE)
    desk.value("BTC", priced_by="BTCUSDT", haircut=haircut)
    desk.mark("BTCUSDT", 50_000, assess=False)
    desk.open("alice", dollars)
    desk.deposit("alice", coins, "BTC")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy" if D(held) > 0 else "sell", abs(D(held)))
    debts = {"BTC": Debt("BTC", D(owed), desk.now, Lender.BROKER)} if D(owed) else {}
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), debts=debts)
    return desk


def at(desk: Desk, price: Decimal) -> Summary:
    desk.mark("BTCUSDT", price, assess=False)
    return desk.summary()


@given(
    st.integers(0, 60_000),
    st.integers(0, 2_000),
    st.integers(0, 2_000),
    st.integers(-3_000, 3_000).filter(bool),
    st.sampled_from(["0", "0.05", "0.2"]),
)
@settings(max_examples=200)
def test_at_the_liquidation_price_equity_is_what_must_be_kept(
    dollars: int, coins: int, owed: int, held: int, haircut: str
) -> None:
    """Coins behind the position and coins owed move with it; on the way to the price nothing is reached before."""
    desk = desk_with(dollars, str(D(coins) / 1000 + D("0.001")), str(D(owed) / 1000), str(D(held) / 1000), haircut)
    summary = desk.summary()
    assume(summary.equity > summary.maintenance)
    liquidation, bankruptcy = ends_of(summary.positions[0], summary)
    if liquidation is not None:
        there = at(desk, liquidation)
        assert abs(there.equity - there.maintenance) < D("1e-20") * (abs(there.equity) + there.wallet_value + 1)
        for part in ("0.01", "0.5", "0.99"):
            between = at(desk, 50_000 + (liquidation - 50_000) * D(part))
            assert between.equity > between.maintenance
    else:
        for factor in ("0.0001", "0.5", "1.5", "100"):
            there = at(desk, 50_000 * D(factor))
            assert there.equity > there.maintenance
    if bankruptcy is not None:
        assert abs(at(desk, bankruptcy).equity) < D("1e-15")


@pytest.mark.parametrize(
    ("coins", "owed", "expected"),
    [("0.001", "0", "lower"), ("1", "0", "higher"), ("0.001", "0.5", "other side")],
)
def test_coins_behind_a_long_end_it_sooner_and_coins_owed_turn_it_round(coins: str, owed: str, expected: str) -> None:
    """The same equity at today's price, in dollars or in coins."""
    dollars = 30_000 if coins != "1" else 0
    desk = desk_with(dollars + (25_000 if D(owed) else 0), coins, owed, "0.4" if D(owed) else "1", haircut="0")
    price, _ = ends_of(desk.summary().positions[0], desk.summary())
    assert price is not None
    match expected:
        case "lower":
            assert 20_000 < price < 21_000
        case "higher":
            assert 25_000 < price < 26_000
        case "other side":
            assert price > 50_000
