"""Paper orders on a desk, in short: placed, met by marks, cancelled, and what must hold of them at every moment."""

from datetime import timedelta
from decimal import Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import OrderState, PaperOrder, TimeInForce
from debt_mgmt.core.margin import mark_used
from tests.support.desk import Desk, order

Number = str | Decimal | int


def place(
    desk: Desk,
    side: str,
    quantity: Number,
    symbol: str = "BTCUSDT",
    price: Number | None = None,
    *,
    time_in_force: str = "GTC",
    reduce_only: bool = False,
    leg: str = "NET",
    lasts: timedelta | None = None,
    account_id: str = "alice",
) -> tuple[e.Event, ...]:
    asked = order(side, quantity, symbol, price, reduce_only=reduce_only, leg=leg)
    return desk.do(account_id, c.PlaceOrder(asked, TimeInForce(time_in_force), lasts))


def comes(desk: Desk, price: Number, symbol: str = "BTCUSDT", *, account_id: str = "alice") -> list[e.FillRecorded]:
    """A mark comes a second later, as it does in the service: matched where an order rests, then assessed."""
    desk.now += timedelta(seconds=1)
    desk.mark(symbol, price, assess=False)
    happened: tuple[e.Event, ...] = ()
    if any(one.symbol == symbol for one in desk.account(account_id).orders.values()):
        happened = desk.do(account_id, c.MatchOrders(mark_used(desk.marks[symbol])))
    desk.assess_all()
    return [event for event in happened if isinstance(event, e.FillRecorded)]


def fills(events: tuple[e.Event, ...]) -> list[tuple[Decimal, Decimal]]:
    """Quantity and price of each fill."""
    return [(event.quantity, event.price) for event in events if isinstance(event, e.FillRecorded)]


def latest(desk: Desk, account_id: str = "alice") -> PaperOrder:
    """The order placed last, open or not."""
    account = desk.account(account_id)
    return max((*account.orders.values(), *account.past_orders), key=lambda one: (one.created_at, one.order_id))


def books_hold(desk: Desk, account_id: str = "alice") -> None:
    """What is true of paper orders after every command."""
    account = desk.account(account_id)
    assert account.orders.keys() <= account.reservations.keys()
    for order_id, one in account.orders.items():
        held = account.reservations[order_id]
        assert (held.symbol, held.side, held.limit_price) == (one.symbol, one.side, one.limit_price)
        assert one.state is OrderState.OPEN
        assert 0 < held.quantity <= one.quantity - one.filled_quantity
        assert one.reduce_only == held.reduce_only
    for one in account.past_orders:
        assert one.order_id not in account.reservations
        assert one.state is not OrderState.OPEN
        assert one.filled_quantity <= one.quantity
        if one.state is OrderState.FILLED:
            assert one.note == ""
    assert desk.replayed(account_id) == account
