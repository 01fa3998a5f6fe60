"""Paper orders: placed on sandbox accounts, filled by the marks, cancelled and listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from debt_mgmt.client.answers import Outcome, refusal
from debt_mgmt.client.call import Call, Pages, command, pages
from debt_mgmt.client.enums import OrderState, TimeInForce
from debt_mgmt.client.figures import Fill, MarginFigures, Order
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Span, Timeout, duration
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import margin_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOrder:
    """A paper order.

    A mark that has reached its limit when it is placed fills it at the mark and what slippage costs, never worse than
    the limit, for the taker fee; one that comes later fills it at its limit for the maker fee.
    """

    order_id: str
    """Also the id of its reservation while it is open."""
    account_id: str
    order: Order
    """As given. reduce_only is also set where it only reduced when it was placed: it never opens a position."""
    time_in_force: TimeInForce
    state: OrderState
    filled_quantity: Decimal
    remaining_quantity: Decimal
    """Still open, in contracts."""
    average_price: Decimal | None
    """Of its fills, by quantity. None: no fill yet."""
    fee: Decimal
    """Of its fills, in the settlement asset; paid is positive."""
    realized_pnl: Decimal
    """By its fills, in the settlement asset, without fees."""
    client_order_id: str | None
    create_time: datetime
    expire_time: datetime | None
    """None: never, or it has ended."""
    end_time: datetime | None
    """None: it is open."""
    note: str | None
    """Why it ended without being filled in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrderOutcome(Outcome):
    """The order and what was filled of it at once, or why not."""

    order: PaperOrder | None
    """As this request left it. None when refused."""
    fills: tuple[Fill, ...]
    """What was filled at once."""
    margin_required: Decimal | None
    """Margin that had to be available, buffer included."""
    after: MarginFigures | None
    """The account afterwards. None when refused."""
    largest_buy: Decimal | None
    """Largest buy that would have passed, in contracts. Only when refused."""
    largest_sell: Decimal | None
    """Largest sell that would have passed, in contracts. Only when refused."""

    @property
    def order_id(self) -> str:
        """The id to cancel it by. Raises Refused when there is no order."""
        if self.order is None:
            raise refusal(self, self.violations)
        return self.order.order_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrderOutcome(Outcome):
    """The cancellation, or why not."""

    order: PaperOrder | None
    """The order afterwards. None when refused."""
    after: MarginFigures | None
    """The account afterwards. None when refused."""


class PaperOrderMethods(Methods):
    """Practises trading: paper orders of sandbox accounts, with the same checks, levels and liquidation as live."""

    @unary
    def place_order(
        self,
        account_id: str,
        order: Order,
        *,
        time_in_force: TimeInForce | str | None = None,
        time_to_live: Span | None = None,
        client_order_id: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[PlaceOrderOutcome]:
        """Places a paper order: checked, its margin held, filled by the marks. Without a price it is a market order.

        `time_in_force` is by default GTC; `time_to_live`, as timedelta or in seconds, goes with GTC only.
        """
        request = message(
            pb.PlaceOrderRequest,
            request_id=request_id,
            account_id=account_id,
            order=order,
            time_in_force=time_in_force,
            time_to_live=duration(time_to_live, "time_to_live"),
            client_order_id=client_order_id,
        )
        return command(self.raw.margin.PlaceOrder, request, PlaceOrderOutcome, timeout)

    @unary
    def cancel_order(
        self, account_id: str, order_id: str, *, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[CancelOrderOutcome]:
        """Cancels what is open of a paper order."""
        request = message(pb.CancelOrderRequest, request_id=request_id, account_id=account_id, order_id=order_id)
        return command(self.raw.margin.CancelOrder, request, CancelOrderOutcome, timeout)

    @listing
    def orders(
        self,
        account_id: str,
        *,
        symbols: Sequence[str] = (),
        include_ended: bool = False,
        timeout: Timeout = None,
    ) -> Pages[PaperOrder]:
        """An account's paper orders, oldest first; with `include_ended` the last 50 that ended, too."""
        request = pb.ListOrdersRequest(account_id=account_id, symbols=symbols, include_ended=include_ended)
        return pages(self.raw.margin.ListOrders, request, lambda page: page.orders, PaperOrder, timeout)
