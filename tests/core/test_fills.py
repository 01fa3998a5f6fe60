"""What a fill does to a position and to the books: opened, added to, reduced, closed and turned round."""

from datetime import timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core.account import MarginMode, Position, PositionSide, Posting, Side
from debt_mgmt.core.check import check, check_brief
from debt_mgmt.core.fills import FillOutcome, postings_of, settle_fill
from tests.support.desk import FREE, NOON, Desk, order
from tests.support.instruments import linear
from tests.support.scenario import play

D = Decimal
ABC = linear("ABCUSDT")
LATER = NOON + timedelta(hours=1)


def held(quantity: str, entry: str, *, realized: str = "0") -> Position | None:
    if D(quantity) == 0:
        return None
    return Position(
        "ABCUSDT", PositionSide.NET, D(quantity), D(entry), D(5), MarginMode.CROSS, NOON, realized_pnl=D(realized)
    )


ROWS = [
    # held at entry, side, quantity at price -> quantity at entry, closed, opened, realised
    ("0", "0", "BUY", "100", "10", "100", "10", "0", "100", "0"),
    ("0", "0", "SELL", "100", "10", "-100", "10", "0", "100", "0"),
    ("100", "10", "BUY", "100", "20", "200", "15", "0", "100", "0"),
    ("100", "10", "BUY", "50", "13", "150", "11", "0", "50", "0"),
    ("-100", "10", "SELL", "300", "14", "-400", "13", "0", "300", "0"),
    ("100", "10", "SELL", "40", "12", "60", "10", "40", "0", "80"),
    ("100", "10", "SELL", "40", "7", "60", "10", "40", "0", "-120"),
    ("-100", "10", "BUY", "40", "7", "-60", "10", "40", "0", "120"),
    ("100", "10", "SELL", "100", "12", "0", "-", "100", "0", "200"),
    ("-100", "10", "BUY", "100", "12", "0", "-", "100", "0", "-200"),
    ("100", "10", "SELL", "250", "12", "-150", "12", "100", "150", "200"),
    ("-100", "10", "BUY", "250", "12", "150", "12", "100", "150", "-200"),
    ("3", "10", "BUY", "4", "11", "7", "10.571428571428571429", "0", "4", "0"),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]} {row[2]} {row[3]} at {row[4]}" for row in ROWS])
def test_a_fill_opens_adds_reduces_closes_or_turns_round(row: tuple[str, ...]) -> None:
    quantity, entry, side, filled, price, after, entry_after, closed, opened, realized = row
    outcome = settle_fill(
        held(quantity, entry), ABC, Side(side), PositionSide.NET, D(filled), D(price), D(5), MarginMode.CROSS, LATER
    )
    assert (outcome.closed_quantity, outcome.opened_quantity) == (D(closed), D(opened))
    assert outcome.realized_pnl == D(realized)
    if entry_after == "-":
        assert outcome.position is None
        return
    assert outcome.position is not None
    assert (outcome.position.quantity, outcome.position.entry_price) == (D(after), D(entry_after))


def test_a_position_sums_up_what_it_realised_and_a_new_one_begins_at_nothing() -> None:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 100_000)
    desk.fill("alice", "buy", 100, "ABCUSDT", 100)
    for price, expected in ((110, 100), (90, 0), (120, 200)):
        desk.fill("alice", "sell", 10, "ABCUSDT", price)
        position = desk.position(symbol="ABCUSDT")
        assert position is not None
        assert position.realized_pnl == expected
    desk.fill("alice", "sell", 170, "ABCUSDT", 110)
    position = desk.position(symbol="ABCUSDT")
    assert position is not None
    assert (position.quantity, position.realized_pnl) == (D(-100), D(0))
    assert desk.account().realized_pnl == {"USDT": D(900)}


def test_a_position_keeps_its_birthday_until_it_is_turned_round() -> None:
    first = held("100", "10")
    for side, quantity, opened_at in (("BUY", 5, NOON), ("SELL", 5, NOON), ("SELL", 101, LATER)):
        outcome = settle_fill(
            first, ABC, Side(side), PositionSide.NET, D(quantity), D(11), D(5), MarginMode.CROSS, LATER
        )
        assert outcome.position is not None
        assert outcome.position.opened_at == opened_at


def test_every_movement_of_money_has_two_sides() -> None:
    outcome = FillOutcome(None, D(1), D(0), D(-30), covered=D(10))
    assert postings_of(outcome, "USDT", D("0.5"), "BNB") == (
        Posting("wallet", "USDT", D(-30)),
        Posting("venue", "USDT", D(30)),
        Posting("wallet", "USDT", D(10)),
        Posting("insurance", "USDT", D(-10)),
        Posting("wallet", "BNB", D("-0.5")),
        Posting("fees", "BNB", D("0.5")),
    )
    assert postings_of(FillOutcome(None, D(1), D(0), D(0)), "USDT", D(0), "USDT") == ()


def test_of_orders_against_a_position_the_cheapest_close_it() -> None:
    """Long 100; sells of 150 at 130 and of 101 at 105: whatever fills, 150 at 130 may come to be carried short."""
    play(
        """
        deposit   alice 100000 USDT
        leverage  alice ABCUSDT 5x
        mark      ABCUSDT 100
        fill      alice buy 100 ABCUSDT          -> used 2000
        reserve   alice sell 150 ABCUSDT at 130  -> used 2000
        check     alice sell 101 ABCUSDT at 105  -> fits  margin 1921  utilization 0.03921
        reserve   alice sell 101 ABCUSDT at 105  -> held  used 3921
        """,
        Desk(FREE),
    )


def test_the_largest_that_fits_is_found_anew_after_each_order_of_a_batch() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    batch = desk.view().scratch()
    answers = [check_brief(batch, order("buy", quantity), desk.now, hold=True) for quantity in (1, "0.5", 1)]
    assert [answer.fits for answer in answers] == [False, True, False]
    largest = [answer.refused.largest_buy for answer in answers if answer.refused is not None]
    assert largest == [D("0.8"), D("0.3")]
    assert check(batch, order("buy", "0.3"), desk.now).fits
    assert not check(batch, order("buy", "0.301"), desk.now).fits
