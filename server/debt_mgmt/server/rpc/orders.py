"""PlaceOrder, CancelOrder and ListOrders: paper orders of sandbox accounts."""

from typing import TYPE_CHECKING

from debt_mgmt.core import account as a
from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, PaperOrder
from debt_mgmt.core.money import ZERO, text
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, reading, verdict
from debt_mgmt.server.rpc.names import ORDER_STATE, POSITION_SIDE, SIDE, TIME_IN_FORCE
from debt_mgmt.server.rpc.pages import page_of
from debt_mgmt.server.rpc.seen import as_seen
from debt_mgmt.server.rpc.validate import Reader, order_of
from debt_mgmt.v1 import margin_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class PaperOrders:
    """The handlers of paper orders."""

    engine: "Engine"

    async def PlaceOrder(self, request: wire.PlaceOrderRequest, call: "Call") -> wire.PlaceOrderResponse:
        engine, read = self.engine, Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        mode = engine.account(account_id).position_mode if read.fine else None
        order = order_of(read, request.order, "order", mode)
        time_in_force = read.choice(request.time_in_force, TIME_IN_FORCE, "time_in_force", a.TimeInForce.GTC)
        time_to_live = read.duration(request, "time_to_live")
        if time_to_live is not None and time_in_force is not a.TimeInForce.GTC:
            read.problem("time_to_live", "goes with GTC only: any other order ends at once")
        client_order_id = read.optional_id(request.client_order_id, "client_order_id")
        read.done()
        command = c.PlaceOrder(order, time_in_force, time_to_live, client_order_id)
        committed, left = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        response = wire.PlaceOrderResponse(**verdict(engine, account_id, committed))
        event = committed.events[0]
        if isinstance(event, e.CommandRefused) and call.actor.accounts is not None:
            del response.violations[:]
            response.violations.extend(convert.violations(as_seen(event.violations, call.actor)))
        if isinstance(event, e.OrderPlaced):
            response.order.CopyFrom(order_message(left, event.order.order_id))
            fills = (one for one in committed.events if isinstance(one, e.FillRecorded))
            response.fills.extend(fill_message(one) for one in fills)
            if event.figures is not None:
                response.after.CopyFrom(convert.margin_figures(event.figures, engine.risk, left.level))
        assert isinstance(event, e.OrderPlaced | e.CommandRefused)
        if event.margin_required is not None:
            response.margin_required = text(event.margin_required)
        if isinstance(event, e.CommandRefused):
            if event.largest_buy is not None:
                response.largest_buy = text(event.largest_buy)
            if event.largest_sell is not None:
                response.largest_sell = text(event.largest_sell)
        return response

    async def CancelOrder(self, request: wire.CancelOrderRequest, call: "Call") -> wire.CancelOrderResponse:
        engine, read = self.engine, Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        order_id = read.id(request.order_id, "order_id")
        read.done()
        command = c.CancelOrder(order_id)
        committed, left = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        response = wire.CancelOrderResponse(**verdict(engine, account_id, committed))
        event = committed.events[0]
        if isinstance(event, e.ReservationReduced):
            response.order.CopyFrom(order_message(left, order_id))
            if event.figures is not None:
                response.after.CopyFrom(convert.margin_figures(event.figures, engine.risk, left.level))
        return response

    async def ListOrders(self, request: wire.ListOrdersRequest, call: "Call") -> wire.ListOrdersResponse:
        engine, read = self.engine, Reader()
        size = read.page_size(request.page_size)
        symbols = read.several(request.symbols, "symbols", read.symbol)
        account_id = read.account_id(request.account_id)
        read.done()
        account = engine.account(account_id)
        kept = (*account.past_orders, *account.orders.values()) if request.include_ended else account.orders.values()
        page, following = page_of(
            [one for one in kept if not symbols or one.symbol in symbols],
            lambda one: [int(one.order_id.rpartition("-")[2])],
            size,
            request.page_token,
            "ListOrders",
            account_id,
            symbols,
            request.include_ended,
        )
        return wire.ListOrdersResponse(
            **reading(engine.revision(account_id), engine.clock()),
            orders=[order_of_account(account, one) for one in page],
            next_page_token=following,
        )


def order_message(account: Account, order_id: str) -> wire.PaperOrder:
    """The order of that id, open or ended."""
    found = account.orders.get(order_id) or next(one for one in account.past_orders if one.order_id == order_id)
    return order_of_account(account, found)


def order_of_account(account: Account, one: PaperOrder) -> wire.PaperOrder:
    held = account.reservations.get(one.order_id)
    expires_at = held.expires_at if held is not None and held.expires_at != a.UNTIL_CANCELLED else None
    return wire.PaperOrder(
        order_id=one.order_id,
        account_id=account.account_id,
        order=types_pb2.Order(
            symbol=one.symbol,
            side=SIDE.wire[one.side],
            quantity=text(one.quantity),
            price=convert.optional_text(one.limit_price),
            reduce_only=one.reduce_only,
            position_side=POSITION_SIDE.wire[one.position_side],
            strategy=one.strategy,
        ),
        time_in_force=TIME_IN_FORCE.wire[one.time_in_force],
        state=ORDER_STATE.wire[one.state],
        filled_quantity=text(one.filled_quantity),
        remaining_quantity=text(held.quantity if held is not None else ZERO),
        average_price=convert.price_text(one.average_price),
        fee=text(one.fee),
        realized_pnl=text(one.realized_pnl),
        client_order_id=one.client_order_id,
        create_time=convert.timestamp(one.created_at),
        expire_time=convert.optional_timestamp(expires_at),
        end_time=convert.optional_timestamp(one.ended_at),
        note=one.note,
    )


def fill_message(event: e.FillRecorded) -> types_pb2.Fill:
    return types_pb2.Fill(
        fill_id=event.fill_id,
        symbol=event.symbol,
        side=SIDE.wire[event.side],
        position_side=POSITION_SIDE.wire[event.position_side],
        quantity=text(event.quantity),
        price=text(event.price),
        fee=text(event.fee),
        fee_asset=event.fee_asset if event.fee else "",
        realized_pnl=text(event.realized_pnl),
        fill_time=convert.timestamp(event.at),
        strategy=event.strategy,
    )
