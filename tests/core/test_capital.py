"""Capital adds up: without open profit, what is available and what is used less what was realised is the capital."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from tests.support.desk import FREE, D, Desk

CAPITAL = D(10_000_000)
QUANTITIES = st.integers(1, 400).map(lambda lots: D(lots) / 1000)
PRICES = st.integers(20_000_00, 90_000_00).map(lambda cents: D(cents) / 100)
TRADES = st.lists(st.tuples(st.sampled_from(["buy", "sell"]), QUANTITIES, PRICES), max_size=12)


def desk_of_rupees() -> Desk:
    desk = Desk(FREE)
    desk.value("USDT", INR="83.25")
    desk.open("alice", CAPITAL, currency="INR")
    return desk


def realised(desk: Desk) -> Decimal:
    return sum((amount * D("83.25") for amount in desk.account().realized_pnl.values()), D(0))


@given(TRADES)
def test_available_and_used_less_realised_is_the_capital(trades: list[tuple[str, Decimal, Decimal]]) -> None:
    """The mark is the entry price, so nothing is unrealised; profits are made in dollars, the capital is in rupees."""
    desk = desk_of_rupees()
    for side, quantity, price in trades:
        desk.mark("BTCUSDT", price)
        desk.fill("alice", side, quantity, price=price)
        position = desk.position()
        if position is not None:
            desk.mark("BTCUSDT", position.entry_price)
        summary = desk.summary()
        if summary.equity > summary.used and summary.unrealized_pnl == 0:
            assert summary.available + summary.used - realised(desk) == CAPITAL


@given(TRADES)
def test_after_a_reset_the_capital_is_whole_again(trades: list[tuple[str, Decimal, Decimal]]) -> None:
    desk = desk_of_rupees()
    for side, quantity, price in trades:
        desk.mark("BTCUSDT", price)
        desk.fill("alice", side, quantity, price=price, fee="0.5")
    desk.do("alice", c.ResetFunds("again"))
    summary = desk.summary()
    assert (summary.available, summary.used, realised(desk)) == (CAPITAL, D(0), D(0))
    assert desk.account() == desk.replayed("alice")
