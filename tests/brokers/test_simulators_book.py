"""The book behind every simulated exchange: what orders, money and time do to its account."""

from decimal import Decimal

import pytest

from tests.support.venues.book import Book
from tests.support.venues.records import Kind, Leg, Listing, Mode, Refused, Status, Why, stepped

D = Decimal
TIERS = stepped(("1000000", "100", "0.005"), ("5000000", "20", "0.02"))
LINEAR = Listing("BTCUSDT", "BTC", "USDT", "USDT", Kind.LINEAR, D("0.1"), D("0.001"), TIERS, smallest=D("0.001"))
INVERSE = Listing("BTCUSD", "BTC", "USD", "BTC", Kind.INVERSE, D("0.5"), D(1), TIERS, D(10), D(1))
SPOT = Listing("BTC-USDT", "BTC", "USDT", "USDT", Kind.SPOT, D("0.1"), D("0.0001"), (), smallest=D("0.0001"))


@pytest.fixture
def book() -> Book:
    made = Book((LINEAR, INVERSE, SPOT), {"BTCUSDT": D(50_000), "BTCUSD": D(50_000), "BTC-USDT": D(50_000)})
    made.fee_rate = D(0)
    made.deposit("USDT", D(10_000))
    return made


def refusal(book: Book, symbol: str, buy: bool, quantity: str, **terms: object) -> Why:
    with pytest.raises(Refused) as refused:
        book.place(symbol, buy, D(quantity), **terms)  # type: ignore[arg-type]
    return refused.value.why


def test_a_part_that_is_closed_wins_its_part(book: Book) -> None:
    book.place("BTCUSDT", True, D("0.4"))
    book.set_mark("BTCUSDT", D(51_000))
    book.place("BTCUSDT", True, D("0.4"))
    assert book.position("BTCUSDT").entry == D(50_500)
    book.place("BTCUSDT", False, D("0.2"))
    assert book.balances["USDT"] == D(10_100)
    assert (book.trades[-1].closed, book.trades[-1].profit) == (D("0.2"), D(100))


def test_a_larger_opposite_order_turns_the_position(book: Book) -> None:
    book.place("BTCUSDT", True, D("0.1"))
    book.set_mark("BTCUSDT", D(49_000))
    book.place("BTCUSDT", False, D("0.3"))
    position = book.position("BTCUSDT")
    assert (position.quantity, position.entry, book.balances["USDT"]) == (D("-0.2"), D(49_000), D(9_900))


def test_a_reduce_only_order_is_no_larger_than_what_is_held(book: Book) -> None:
    assert refusal(book, "BTCUSDT", False, "0.1", reduce_only=True) is Why.REDUCE_ONLY
    book.place("BTCUSDT", True, D("0.1"))
    assert refusal(book, "BTCUSDT", True, "0.1", reduce_only=True) is Why.REDUCE_ONLY
    order = book.place("BTCUSDT", False, D("0.5"), reduce_only=True)
    assert (order.quantity, order.filled, order.status, book.held()) == (D("0.1"), D("0.1"), Status.FILLED, [])


def test_a_resting_reduce_only_order_does_not_open_what_was_closed_meanwhile(book: Book) -> None:
    book.place("BTCUSDT", True, D("0.1"))
    resting = book.place("BTCUSDT", False, D("0.1"), price=D(52_000), reduce_only=True)
    book.close_by_hand("BTCUSDT")
    book.set_mark("BTCUSDT", D(53_000))
    assert (resting.status, book.held()) == (Status.CANCELLED, [])


def test_a_resting_order_is_filled_at_its_price_when_the_mark_gets_there(book: Book) -> None:
    order = book.place("BTCUSDT", True, D("0.1"), price=D(48_000))
    assert book.health().initial_margin == D(480)
    book.set_mark("BTCUSDT", D(48_500))
    assert order.status is Status.OPEN
    book.set_mark("BTCUSDT", D(47_000))
    assert (order.status, order.average, book.position("BTCUSDT").entry) == (Status.FILLED, D(48_000), D(48_000))


def test_a_thin_market_fills_a_part_and_cancels_the_rest(book: Book) -> None:
    book.liquidity = D("0.1")
    order = book.place("BTCUSDT", True, D("0.3"))
    assert (order.filled, order.status, book.position("BTCUSDT").quantity) == (D("0.1"), Status.CANCELLED, D("0.1"))


def test_a_held_order_stays_open_until_it_is_let_go(book: Book) -> None:
    book.holding = True
    order = book.place("BTCUSDT", True, D("0.1"))
    assert (order.status, book.held()) == (Status.OPEN, [])
    book.fill_held()
    assert order.status is Status.FILLED


def test_an_inverse_position_averages_and_wins_in_its_base(book: Book) -> None:
    book.deposit("BTC", D(1))
    book.place("BTCUSD", True, D(1000))
    book.set_mark("BTCUSD", D(40_000))
    book.place("BTCUSD", True, D(1000))
    position = book.position("BTCUSD")
    assert position.entry == D(2000) / (D(1000) / 50_000 + D(1000) / 40_000)
    assert book.profit(position).quantize(D("1e-12")) == D("-0.05")


def test_a_client_order_id_is_taken_for_ever_or_while_its_order_is_open(book: Book) -> None:
    book.place("BTCUSDT", True, D("0.1"), client_order_id="one")
    assert refusal(book, "BTCUSDT", True, "0.1", client_order_id="one") is Why.DUPLICATE_ID
    book.ids_once = False
    book.place("BTCUSDT", True, D("0.1"), client_order_id="one")
    book.place("BTCUSDT", True, D("0.1"), price=D(40_000), client_order_id="two")
    assert refusal(book, "BTCUSDT", True, "0.1", client_order_id="two") is Why.DUPLICATE_ID


@pytest.mark.parametrize(
    ("quantity", "terms", "why"),
    [
        ("0.0015", {}, Why.QUANTITY),
        ("0", {}, Why.QUANTITY),
        ("0.1", {"price": D("50000.05")}, Why.PRICE),
        ("0.1", {"leg": Leg.LONG}, Why.WRONG_LEG),
        ("3", {}, Why.NOT_ENOUGH),
    ],
)
def test_orders_that_are_refused(book: Book, quantity: str, terms: dict[str, object], why: Why) -> None:
    assert refusal(book, "BTCUSDT", True, quantity, **terms) is why
    assert book.orders == {}


def test_spot_needs_what_it_gives_away(book: Book) -> None:
    book.place("BTC-USDT", True, D("0.1"))
    assert (book.balances, book.held()) == ({"USDT": D(5_000), "BTC": D("0.1")}, [])
    assert refusal(book, "BTC-USDT", False, "0.2") is Why.NOT_ENOUGH


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("symbol", "quantity"), [("BTCUSDT", "0.8"), ("BTCUSDT", "-0.8"), ("BTCUSD", "3000")])
def test_at_its_liquidation_price_a_position_has_its_maintenance_margin_left(
    book: Book, mode: Mode, symbol: str, quantity: str
) -> None:
    if symbol == "BTCUSD":
        book.balances = {"BTC": D("0.2")}
    book.modes[symbol] = mode
    position = book.hold(symbol, D(quantity))
    price = book.liquidation_price(position)
    assert price is not None
    for at in ("BTCUSDT", "BTCUSD"):
        book.marks[at] = price
    listing = book.listing(symbol)
    behind = position.margin + book.profit(position) if mode is Mode.ISOLATED else book.equity_of(listing.settle)
    share = behind / listing.value(position.quantity, price)
    assert abs(share - D("0.005")) < D("0.00001")


def test_isolated_margin_is_let_go_with_its_part(book: Book) -> None:
    book.modes["BTCUSDT"] = Mode.ISOLATED
    book.place("BTCUSDT", True, D("0.4"))
    book.adjust_margin("BTCUSDT", Leg.NET, D(1000))
    book.place("BTCUSDT", False, D("0.1"), reduce_only=True)
    assert book.position("BTCUSDT").margin == D(2250)
    with pytest.raises(Refused):
        book.adjust_margin("BTCUSDT", Leg.NET, D(-800))
    book.set_mark("BTCUSDT", D(49_000))
    assert book.health().available == D(10_000) - D(2250)


def test_a_debt_grows_by_the_hour_and_interest_is_paid_first(book: Book) -> None:
    book.hourly_rates, book.borrow_limits = {"USDT": D("0.001")}, {"USDT": D(1000)}
    book.borrow("USDT", D(1000))
    with pytest.raises(Refused):
        book.borrow("USDT", D(1))
    book.pass_hours(3)
    assert (book.owed("USDT"), book.health().equity) == (D(1003), D(9_997))
    assert book.repay("USDT", D(5)) == D(5)
    assert (book.debts["USDT"], book.interest["USDT"]) == (D(998), D(0))
    assert book.repay("USDT", D(5_000)) == D(998)


def test_a_liquidation_is_an_order_of_the_venue(book: Book) -> None:
    told: list[tuple[str, str]] = []
    book.place("BTCUSDT", True, D("0.1"), client_order_id="ours")
    book.told = lambda what, subject: told.append((what, subject))
    order = book.liquidate("BTCUSDT")
    assert (order.liquidation, order.client_order_id, order.buy, book.held()) == (True, "", False, [])
    assert [what for what, _ in told] == ["trade", "order", "position", "balance"]
