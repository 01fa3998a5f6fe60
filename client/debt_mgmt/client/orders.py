"""Orders: whether one fits, margin held for it, and its fills."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self

from debt_mgmt.client.answers import Answer, Outcome, Violation, refusal
from debt_mgmt.client.call import Call, Pages, command, pages, part, query, whole
from debt_mgmt.client.decimals import Number, decimal, optional_decimal
from debt_mgmt.client.enums import BatchMode, CheckDetail, PositionSide, Side
from debt_mgmt.client.figures import AssetAmount, Fill, MarginFigures, Mark, Order, Position
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Span, Timeout, duration
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import margin_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCheck(Answer):
    """What a check found. Amounts are None without a price."""

    fits: bool
    """True: the order would be accepted."""
    reducing: bool
    """True: the order strictly reduces the position; it always fits."""
    violations: tuple[Violation, ...]
    """Every rule that the order breaks, in order of precedence."""
    margin_required: Decimal | None
    """Margin that must be available: what the order adds to margin used, times the configured buffer."""
    initial_margin: Decimal | None
    """Initial margin of the order alone; nothing for a reducing part."""
    fee_estimate: Decimal | None
    """Fee expected at the taker rate."""
    largest_buy: Decimal | None
    """Largest buy that would pass, in contracts, 0 if none. None when not asked for or not known."""
    largest_sell: Decimal | None
    """Largest sell that would pass, in contracts, 0 if none. None when not asked for or not known."""
    before: MarginFigures | None
    """The account now. None with CheckDetail.FIGURES."""
    after: MarginFigures | None
    """The account with the order's margin held; when it does not fit, as it would be."""
    mark: Mark | None
    """The mark price used. None with CheckDetail.FIGURES, and when there is none."""
    shadow_violations: tuple[Violation, ...] = ()
    """What limit sets in SHADOW would have refused it for. It has no influence on `fits`."""

    def raise_if_refused(self) -> Self:
        """This answer, if the order fits. Raises Refused if not."""
        if not self.fits:
            raise refusal(self, self.violations)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCheckResult:
    """The finding on one order of a batch. Amounts are None without a price."""

    fits: bool
    reducing: bool
    """True: the order strictly reduces the position; it always fits."""
    violations: tuple[Violation, ...]
    margin_required: Decimal | None
    """Margin that must be available, buffer included."""
    margin_available_after: Decimal | None
    margin_utilization_after: Decimal | None
    largest_buy: Decimal | None
    """Largest buy that would pass, in contracts. Only when refused, or with CheckDetail.FULL."""
    largest_sell: Decimal | None
    """Largest sell that would pass, in contracts. Only when refused, or with CheckDetail.FULL."""
    shadow_violations: tuple[Violation, ...] = ()
    """What limit sets in SHADOW would have refused it for. It has no influence on `fits`."""

    def raise_if_refused(self) -> Self:
        """This finding, if the order fits. Raises Refused if not."""
        if not self.fits:
            raise refusal(self, self.violations)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCheck(Answer):
    """The findings on a batch of orders, all on the same state and prices."""

    results: tuple[BatchCheckResult, ...]
    """One per order, in the order of the request."""
    before: MarginFigures | None
    """The account before the batch. None with CheckDetail.FIGURES."""
    marks: tuple[Mark, ...]
    """Prices used. Empty with CheckDetail.FIGURES."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Margin held for an open order."""

    reservation_id: str
    account_id: str
    order: Order
    """The order as given."""
    remaining_quantity: Decimal
    """Quantity still held, in contracts. 0: closed."""
    price: Decimal
    """Price that its margin is computed at: the limit price, or the mark when it was made."""
    leverage: Decimal
    initial_margin: Decimal | None
    """Initial margin of the remaining quantity alone. The account's total can be less: sides offset."""
    client_order_id: str | None
    create_time: datetime
    expire_time: datetime | None
    """When it ends by itself. None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveOutcome(Outcome):
    """The reservation, or why there is none."""

    reservation: Reservation | None
    """None when refused."""
    margin_required: Decimal | None
    """Margin that had to be available, buffer included."""
    margin_available: Decimal | None
    """Margin available afterwards."""
    margin_utilization: Decimal | None
    """Utilization afterwards."""
    largest_buy: Decimal | None
    """Largest buy that would have passed, in contracts. Only when refused."""
    largest_sell: Decimal | None
    """Largest sell that would have passed, in contracts. Only when refused."""

    @property
    def reservation_id(self) -> str:
        """The id to fill or release it by. Raises Refused when there is no reservation."""
        if self.reservation is None:
            raise refusal(self, self.violations)
        return self.reservation.reservation_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOutcome(Outcome):
    """The release, or why not."""

    reservation: Reservation | None
    """The reservation afterwards. None when refused."""
    margin_available: Decimal | None
    """Margin available afterwards."""
    margin_utilization: Decimal | None
    """Utilization afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillOutcome(Outcome):
    """What the fill did, or why it was not booked."""

    fill: Fill | None
    """The fill as booked. None when refused."""
    position: Position | None
    """The position afterwards. None when flat or refused."""
    balance_changes: tuple[AssetAmount, ...]
    """What it added to or took from wallet balances; one row per asset."""
    reservation: Reservation | None
    """The reservation afterwards. None when the fill named none or was refused."""
    after: MarginFigures
    """The account afterwards; when refused, as it is."""


class OrderMethods(Methods):
    """Checks orders, holds margin for them and books their fills."""

    @unary
    def check_order(self, account_id: str, order: Order, *, timeout: Timeout = None) -> Call[OrderCheck]:
        """Tells whether an order fits and how large it could be. Records nothing."""
        request = message(pb.CheckOrderRequest, account_id=account_id, order=order)
        return query(self.raw.margin.CheckOrder, request, part(OrderCheck, "result"), timeout, "check")

    @unary
    def check_orders(
        self,
        account_id: str,
        orders: Sequence[Order],
        *,
        mode: BatchMode | str = BatchMode.SEQUENTIAL,
        detail: CheckDetail | str = CheckDetail.FIGURES,
        timeout: Timeout = None,
    ) -> Call[BatchCheck]:
        """Checks up to 500 orders of one account in one call, all on the same state and prices.

        SEQUENTIAL: each order that fits uses up margin for those after it. INDEPENDENT: each stands alone.
        """
        request = message(
            pb.BatchCheckOrdersRequest, account_id=account_id, orders=list(orders), mode=mode, detail=detail
        )
        return query(self.raw.margin.BatchCheckOrders, request, whole(BatchCheck), timeout, "check")

    @unary
    def reserve(
        self,
        account_id: str,
        order: Order,
        *,
        time_to_live: Span | None = None,
        client_order_id: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[ReserveOutcome]:
        """Checks an order and, when it fits, holds its margin until it is filled, released or expired.

        `time_to_live`, as timedelta or in seconds, is by default the configured one.
        """
        request = message(
            pb.ReserveMarginRequest,
            request_id=request_id,
            account_id=account_id,
            order=order,
            time_to_live=duration(time_to_live, "time_to_live"),
            client_order_id=client_order_id,
        )
        return command(self.raw.margin.ReserveMargin, request, ReserveOutcome, timeout)

    @unary
    def release(
        self,
        account_id: str,
        reservation_id: str,
        *,
        quantity: Number | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[ReleaseOutcome]:
        """Gives back margin held for an order: for `quantity` contracts, or for all that remain."""
        request = message(
            pb.ReleaseReservationRequest,
            request_id=request_id,
            account_id=account_id,
            reservation_id=reservation_id,
            quantity=optional_decimal(quantity, "quantity"),
        )
        return command(self.raw.margin.ReleaseReservation, request, ReleaseOutcome, timeout)

    @listing
    def reservations(
        self, account_id: str, *, symbols: Sequence[str] = (), timeout: Timeout = None
    ) -> Pages[Reservation]:
        """An account's open reservations, oldest first; only those in `symbols`, where any are named."""
        request = pb.ListReservationsRequest(account_id=account_id, symbols=symbols)
        return pages(self.raw.margin.ListReservations, request, lambda page: page.reservations, Reservation, timeout)

    @unary
    def record_fill(
        self,
        account_id: str,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number,
        *,
        fill_id: str,
        fee: Number | None = None,
        fee_asset: str | None = None,
        reservation_id: str | None = None,
        order_id: str | None = None,
        position_side: PositionSide | str | None = None,
        fill_time: datetime | None = None,
        strategy: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[FillOutcome]:
        """Books an execution: changes the position, realizes PnL, uses up the reservation.

        A fill is a fact and is not checked against limits. `fill_id` is the venue's trade id: it counts once per
        account and symbol. `fee` is positive when paid; by default the taker rate on SANDBOX, none otherwise.
        Without `strategy` it counts for that of its reservation, if any.
        """
        request = message(
            pb.RecordFillRequest,
            request_id=request_id,
            account_id=account_id,
            symbol=symbol,
            side=side,
            quantity=decimal(quantity, "quantity"),
            price=decimal(price, "price"),
            fill_id=fill_id,
            fee=optional_decimal(fee, "fee"),
            fee_asset=fee_asset,
            reservation_id=reservation_id,
            order_id=order_id,
            position_side=position_side,
            fill_time=fill_time,
            strategy=strategy,
        )
        return command(self.raw.margin.RecordFill, request, FillOutcome, timeout)
