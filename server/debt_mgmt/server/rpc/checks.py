"""Checks on the wire: the hot path of the service, from an order message to its finding in as few steps as possible."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core.account import Figures, PositionMode, PositionSide, RiskLevel, Side
from debt_mgmt.core.check import BriefCheck, CheckResult, check, check_brief
from debt_mgmt.core.commands import Order
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.core.levels import next_level
from debt_mgmt.core.money import parse, text
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.validate import Reader, order_of
from debt_mgmt.v1 import margin_service_pb2 as wire
from debt_mgmt.v1 import rejections_pb2, types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.rpc.guard import Call

SIDES = {types_pb2.SIDE_BUY: Side.BUY, types_pb2.SIDE_SELL: Side.SELL}


def read_order(message: types_pb2.Order, hedge: bool, path: str) -> Order:
    """The order in `message`. A well-formed one takes the short way; any fault is named by the full reader."""
    try:
        side = SIDES[message.side]
        quantity = parse(message.quantity)
        price = parse(message.price) if message.HasField("price") else None
        if quantity > 0 and (price is None or price > 0) and not hedge and message.position_side <= 1:
            symbol = message.symbol
            if 0 < len(symbol) <= 64 and symbol.isascii():
                return Order(symbol, side, quantity, price, message.reduce_only, PositionSide.NET)
    except (KeyError, ValueError):
        pass
    read = Reader()
    mode = PositionMode.HEDGE if hedge else PositionMode.ONE_WAY
    order = order_of(read, message, path, mode)
    read.done()
    return order


def view_of(engine: Engine, account_id: str) -> AccountView:
    """The account's view; an id that can't be one is a malformed request, not an unknown account."""
    try:
        return engine.view(account_id)
    except Fault:
        read = Reader()
        read.account_id(account_id, "account_id")
        read.done()
        raise


def timestamp(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def revision_of(engine: Engine, account_id: str) -> types_pb2.Revision:
    shard, position = engine.revision(account_id)
    return types_pb2.Revision(shard=shard, position=position)


def optional(value: Decimal | None) -> str | None:
    return None if value is None else text(value)


def figures_message(shown: Figures, settings: RiskSettings) -> types_pb2.MarginFigures:
    """Figures with the level that they would be at, counted from NORMAL."""
    if shown.equity is None or shown.margin_used is None:
        return types_pb2.MarginFigures(level=types_pb2.RISK_LEVEL_UNKNOWN)
    level = next_level(RiskLevel.NORMAL, shown.margin_used, shown.equity, settings)
    return types_pb2.MarginFigures(
        equity=text(shown.equity),
        margin_used=text(shown.margin_used),
        margin_available=optional(shown.margin_available),
        margin_utilization=optional(shown.margin_utilization),
        maintenance_margin=optional(shown.maintenance_margin),
        maintenance_ratio=optional(shown.maintenance_ratio),
        level=convert.RISK_LEVELS[level],
    )


def result_message(result: CheckResult, engine: Engine, at: datetime, full: bool) -> wire.CheckResult:
    settings = engine.risk
    message = wire.CheckResult(
        fits=result.fits,
        reducing=result.reducing,
        margin_required=optional(result.margin_required),
        initial_margin=optional(result.initial_margin),
        fee_estimate=optional(result.fee_estimate),
        after=figures_message(result.after, settings),
    )
    if result.violations:
        message.violations.extend(convert.violation(one) for one in result.violations)
    if full or not result.fits:
        if result.largest_buy is not None:
            message.largest_buy = text(result.largest_buy)
        if result.largest_sell is not None:
            message.largest_sell = text(result.largest_sell)
    if full:
        message.before.CopyFrom(figures_message(result.before, settings))
        if result.mark is not None:
            message.mark.CopyFrom(convert.mark(result.mark, at, settings.mark_max_age))
    return message


def brief_message(brief: BriefCheck, view: AccountView, order: Order, at: datetime, full: bool) -> wire.BatchCheckResult:
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
        message.violations.extend(convert.violation(one) for one in refused.violations)
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

    async def CheckOrder(self, request: wire.CheckOrderRequest, call: "Call") -> wire.CheckOrderResponse:  # noqa: N802
        engine = self.engine
        view = view_of(engine, request.account_id)
        order = read_order(request.order, view.account.position_mode is PositionMode.HEDGE, "order")
        at = engine.clock()
        return wire.CheckOrderResponse(
            revision=revision_of(engine, request.account_id),
            as_of=timestamp(at),
            result=result_message(check(view, order, at), engine, at, full=True),
        )

    async def BatchCheckOrders(  # noqa: N802
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
        if request.mode not in (0, 1, 2) or request.detail not in (0, 1, 2):
            field = "mode" if request.mode not in (0, 1, 2) else "detail"
            raise InvalidRequest([(field, "unknown enum number")])
        hedge = view.account.position_mode is PositionMode.HEDGE
        orders = read_orders(messages, hedge)
        at = engine.clock()
        full = request.detail == wire.CHECK_DETAIL_FULL
        hold = request.mode != wire.BATCH_MODE_INDEPENDENT
        if hold:
            view = view.scratch()
        response = wire.BatchCheckOrdersResponse(
            revision=revision_of(engine, request.account_id),
            as_of=timestamp(at),
            results=[
                brief_message(check_brief(view, order, at, hold=hold), view, order, at, full) for order in orders
            ],
        )
        if full:
            response.before.CopyFrom(figures_message(view.before, engine.risk))
            marks = {one.symbol: one for one in view.summary.marks}
            marks |= {symbol: one.mark for symbol, one in view.symbols.items()}
            response.marks.extend(convert.mark(one, at, engine.risk.mark_max_age) for one in marks.values())
        return response

    async def StreamCheckOrders(  # noqa: N802
        self, requests: AsyncIterator[wire.StreamCheckOrdersRequest], call: "Call"
    ) -> AsyncIterator[wire.StreamCheckOrdersResponse]:
        engine = self.engine
        async for request in requests:
            at = engine.clock()
            response = wire.StreamCheckOrdersResponse(sequence=request.sequence)
            try:
                if request.detail not in (0, 1, 2):
                    raise InvalidRequest([("detail", "unknown enum number")])
                view = view_of(engine, request.account_id)
                order = read_order(request.order, view.account.position_mode is PositionMode.HEDGE, "order")
                full = request.detail == wire.CHECK_DETAIL_FULL
                result = check(view, order, at, with_largest=full)
                response.result.CopyFrom(result_message(result, engine, at, full))
                response.revision.CopyFrom(revision_of(engine, request.account_id))
            except Fault as fault:
                response.error.CopyFrom(error_message(fault))
                shard, position = engine.house_revision()
                response.revision.CopyFrom(types_pb2.Revision(shard=shard, position=position))
            response.as_of.FromDatetime(at)
            yield response


def read_orders(messages: "types_pb2.Order | list[types_pb2.Order]", hedge: bool) -> list[Order]:
    """Every order of a batch, or one error that names every malformed field of all of them."""
    orders: list[Order] = []
    problems: list[tuple[str, str]] = []
    for index, message in enumerate(messages):  # type: ignore[arg-type]
        try:
            orders.append(read_order(message, hedge, f"orders[{index}]"))
        except InvalidRequest as invalid:
            problems += invalid.problems
    if problems:
        raise InvalidRequest(problems)
    return orders


def error_message(fault: Fault) -> wire.CheckError:
    message = wire.CheckError(
        reason=rejections_pb2.ErrorReason.Value(f"ERROR_REASON_{fault.reason.value}"), message=fault.message
    )
    if isinstance(fault, InvalidRequest):
        message.field_violations.extend(
            rejections_pb2.FieldViolation(field=field, description=problem) for field, problem in fault.problems
        )
    return message
