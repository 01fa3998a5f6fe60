"""Checks on the wire: the hot path of the service, from an order message to its finding in as few steps as possible."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from debt_mgmt.core.account import Account, PositionMode
from debt_mgmt.core.check import BriefCheck, CheckResult, check, check_brief
from debt_mgmt.core.commands import Order
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.core.money import text
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.errors import check_error
from debt_mgmt.server.rpc.seen import as_seen
from debt_mgmt.server.rpc.validate import Reader, order_of, venue_of
from debt_mgmt.v1 import margin_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.rpc.guard import Call


BEFORE = ""
"""What a view's figures are remembered under; its marks are under their symbols."""
AGELESS = timedelta(0)


def view_of(engine: Engine, account_id: str) -> AccountView:
    """The account's view; an id that can't be one is a malformed request, not an unknown account."""
    try:
        return engine.view(account_id)
    except Fault:
        read = Reader()
        read.account_id(account_id, "account_id")
        read.done()
        raise


def revision_of(engine: Engine, account_id: str) -> types_pb2.Revision:
    return convert.revision(engine.revision(account_id))


def write_result(
    message: wire.CheckResult, result: CheckResult, view: AccountView, at: datetime, full: bool, actor: Actor
) -> None:
    """Write a finding where it belongs. What does not change with the order is made once for each view."""
    settings, level, memo = view.world.settings, view.account.level, view.memo
    message.fits, message.reducing = result.fits, result.reducing
    if result.margin_required is not None:
        message.margin_required = text(result.margin_required)
    if result.initial_margin is not None:
        message.initial_margin = text(result.initial_margin)
    if result.fee_estimate is not None:
        message.fee_estimate = text(result.fee_estimate)
    convert.write_margin_figures(message.after, result.after, settings, level)
    if result.violations:
        message.violations.extend(convert.violations(as_seen(result.violations, actor)))
    if result.shadow_violations:
        message.shadow_violations.extend(convert.violations(as_seen(result.shadow_violations, actor)))
    if full or not result.fits:
        if result.largest_buy is not None:
            message.largest_buy = text(result.largest_buy)
        if result.largest_sell is not None:
            message.largest_sell = text(result.largest_sell)
    if not full:
        return
    before = memo.get(BEFORE)
    if before is None:
        before = memo[BEFORE] = convert.margin_figures(view.before, settings, level)
    message.before.CopyFrom(before)
    mark = result.mark
    if mark is not None:
        template = memo.get(mark.symbol)
        if template is None:
            template = memo[mark.symbol] = convert.mark(mark, at, settings.mark_max_age)
        convert.write_mark(message.mark, template, max(at - mark.received_at, AGELESS), settings.mark_max_age)


def brief_message(
    brief: BriefCheck, view: AccountView, order: Order, at: datetime, full: bool, actor: Actor
) -> wire.BatchCheckResult:
    refused = brief.refused
    message = wire.BatchCheckResult(
        fits=brief.fits,
        reducing=brief.reducing,
        margin_required=text(brief.margin_required),
        margin_available_after=text(brief.margin_available_after),
    )
    if brief.margin_utilization_after is not None:
        message.margin_utilization_after = text(brief.margin_utilization_after)
    if refused is not None:
        message.violations.extend(convert.violations(as_seen(refused.violations, actor)))
    if brief.shadow_violations:
        message.shadow_violations.extend(convert.violations(as_seen(brief.shadow_violations, actor)))
    if full and refused is None:
        refused = check(view, order, at)
    if refused is not None:
        if refused.largest_buy is not None:
            message.largest_buy = text(refused.largest_buy)
        if refused.largest_sell is not None:
            message.largest_sell = text(refused.largest_sell)
    return message


class Checks:
    """CheckOrder, BatchCheckOrders and StreamCheckOrders."""

    def __init__(self, engine: Engine, max_batch: int) -> None:
        self.engine = engine
        self.max_batch = max_batch

    async def CheckOrder(self, request: wire.CheckOrderRequest, call: "Call") -> wire.CheckOrderResponse:
        engine = self.engine
        view = view_of(engine, request.account_id)
        order = read_order(request.order, view.account)
        if view.account.sync is not None:
            view = await self.with_instruments(view, [order])
        at = engine.clock()
        response = wire.CheckOrderResponse()
        response.revision.shard, response.revision.position = engine.revision(request.account_id)
        convert.write_timestamp(response.as_of, at)
        result = check(view, order, at)
        engine.counters.checked(result.violations, result.shadow_violations)
        write_result(response.result, result, view, at, full=True, actor=call.actor)
        return response

    async def BatchCheckOrders(
        self, request: wire.BatchCheckOrdersRequest, call: "Call"
    ) -> wire.BatchCheckOrdersResponse:
        engine = self.engine
        view = view_of(engine, request.account_id)
        messages = request.orders
        count = len(messages)
        if count == 0:
            raise InvalidRequest([("orders", "at least one order is needed")])
        if count > self.max_batch:
            raise Fault(
                FaultReason.BATCH_TOO_LARGE,
                f"{count} orders in one batch, at most {self.max_batch} are accepted",
                orders=str(count),
                limit=str(self.max_batch),
            )
        read = Reader(venue_of(view.account))
        if request.mode not in (0, 1, 2):
            read.problem("mode", f"has no value {request.mode}")
        if request.detail not in (0, 1, 2):
            read.problem("detail", f"has no value {request.detail}")
        orders = read_orders(read, messages, view.account.position_mode)
        if view.account.sync is not None:
            view = await self.with_instruments(view, orders)
        at = engine.clock()
        full = request.detail == wire.CHECK_DETAIL_FULL
        hold = request.mode != wire.BATCH_MODE_INDEPENDENT
        if hold:
            view = view.scratch()
        response = wire.BatchCheckOrdersResponse(
            revision=revision_of(engine, request.account_id), as_of=convert.timestamp(at)
        )
        for order in orders:
            brief = check_brief(view, order, at, hold=hold)
            response.results.append(brief_message(brief, view, order, at, full, call.actor))
            engine.counters.checks[brief.fits] += 1
            engine.counters.shadow(brief.shadow_violations)
        if full:
            response.before.CopyFrom(convert.margin_figures(view.before, engine.risk, view.account.level))
            marks = {one.symbol: one for one in view.summary.marks}
            marks |= {symbol: one.mark for symbol, one in view.symbols.items()}
            response.marks.extend(convert.mark(one, at, engine.risk.mark_max_age) for one in marks.values())
        return response

    async def StreamCheckOrders(
        self, requests: AsyncIterator[wire.StreamCheckOrdersRequest], call: "Call"
    ) -> AsyncIterator[wire.StreamCheckOrdersResponse]:
        engine = self.engine
        async for request in requests:
            at = engine.clock()
            response = wire.StreamCheckOrdersResponse(sequence=request.sequence)
            try:
                if request.detail not in (0, 1, 2):
                    raise InvalidRequest([("detail", "unknown enum number")])
                call.actor.check_sees(request.account_id)
                view = view_of(engine, request.account_id)
                order = read_order(request.order, view.account)
                if view.account.sync is not None:
                    view = await self.with_instruments(view, [order])
                full = request.detail == wire.CHECK_DETAIL_FULL
                result = check(view, order, at, with_largest=full)
                engine.counters.checked(result.violations, result.shadow_violations)
                write_result(response.result, result, view, at, full, call.actor)
                response.revision.shard, response.revision.position = engine.revision(request.account_id)
            except Fault as fault:
                response.error.CopyFrom(check_error(fault, "StreamCheckOrders"))
                response.revision.shard, response.revision.position = engine.house_revision()
            convert.write_timestamp(response.as_of, at)
            yield response

    async def with_instruments(self, view: AccountView, orders: Sequence[Order]) -> AccountView:
        """The view of a live account once its venue's instruments are known, where the venue can be asked."""
        if {order.symbol for order in orders} <= self.engine.house.instruments.keys():
            return view
        await self.engine.live.try_to_learn(view.account, [order.symbol for order in orders])
        return self.engine.view(view.account.account_id)


def read_orders(read: Reader, messages: Sequence[types_pb2.Order], mode: PositionMode) -> list[Order]:
    """Every order of a batch, or one error that names every malformed field of all of them."""
    orders = [order_of(read, message, f"orders[{index}]", mode) for index, message in enumerate(messages)]
    read.done()
    return orders


def read_order(message: types_pb2.Order, account: Account) -> Order:
    read = Reader(venue_of(account))
    order = order_of(read, message, "order", account.position_mode)
    read.done()
    return order
