"""Paper orders: placed by the same check as any other, matched with the marks, and cancelled. For sandbox accounts.

A mark is the only price there is, so it stands for the market. An order that the mark reaches when it is placed takes:
at the mark and what slippage costs, within its limit. One that waits makes: it fills at its limit once a mark reaches
it. Each mark brings a depth, which an account's orders on one side share by price, then by age.
"""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    UNTIL_CANCELLED,
    Account,
    Environment,
    MarkUsed,
    PaperOrder,
    Side,
    TimeInForce,
    depth_key,
    position_key,
)
from debt_mgmt.core.check import CheckResult, check, order_window
from debt_mgmt.core.decide_orders import fill_event, refuse_order, reservation_for
from debt_mgmt.core.draft import Draft, instrument_of, refuse
from debt_mgmt.core.instrument import Instrument, notional
from debt_mgmt.core.levels import assess
from debt_mgmt.core.margin import mark_used, usable_mark
from debt_mgmt.core.money import ONE, ZERO, floor_to_step, required
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.settings import RiskSettings, fee_rate
from debt_mgmt.core.view import AccountView


def place_order(draft: Draft, command: c.PlaceOrder, view: AccountView | None) -> None:
    """Check the order, hold its margin, and fill what the present mark fills of it."""
    account, world = draft.account, draft.world
    if account.environment is not Environment.SANDBOX:
        return refuse(draft, "PlaceOrder", Violation(Reason.NOT_SANDBOX, account.account_id))
    view = view if view is not None else AccountView(account, world)
    result = check(view, command.order, world.at, with_largest=False, outside=world.outside)
    if not result.fits:
        return refuse_order(draft, "PlaceOrder", result)
    mark = present_mark(draft, command.order.symbol)
    placed = order_placed(draft, command, view, result, mark)
    draft.add(placed)
    order_id = placed.order.order_id
    if mark is not None:
        filled_now = fillable(draft, order_id, mark)
        whole = filled_now == command.order.quantity or command.time_in_force is not TimeInForce.FOK
        if filled_now and whole:
            match_one(draft, order_id, mark)
    if command.time_in_force is not TimeInForce.GTC:
        end_order(draft, order_id, "UNFILLED")


def order_placed(
    draft: Draft, command: c.PlaceOrder, view: AccountView, result: CheckResult, mark: MarkUsed | None
) -> e.OrderPlaced:
    world, asked = draft.world, command.order
    expires_at = world.at + command.time_to_live if command.time_to_live is not None else UNTIL_CANCELLED
    reservation = reservation_for(draft, result, expires_at, command.client_order_id)
    started, counted = order_window(draft.account, view.limits.order_rate_interval_seconds or 1, world.at)
    after = view.before if result.reducing else result.after
    rests = asked.price is not None and mark is not None and not is_reached(asked.side, asked.price, mark.price)
    return e.OrderPlaced(
        order=PaperOrder(
            order_id=reservation.reservation_id,
            symbol=asked.symbol,
            position_side=asked.position_side,
            side=asked.side,
            quantity=asked.quantity,
            created_at=world.at,
            limit_price=asked.price,
            time_in_force=command.time_in_force,
            reduce_only=result.reducing,
            rests=rests,
            client_order_id=command.client_order_id,
            strategy=asked.strategy,
        ),
        reservation=reservation,
        margin_required=result.margin_required if result.margin_required is not None else ZERO,
        margin_available=after.margin_available,
        margin_utilization=after.margin_utilization,
        window_started_at=started,
        orders_in_window=counted if result.reducing else counted + 1,
        mark=mark,
        shadow=result.shadow_violations,
    )


def present_mark(draft: Draft, symbol: str) -> MarkUsed | None:
    """The mark of this moment; None where there is none, or one too old to trade on."""
    world = draft.world
    mark = usable_mark(draft.account, world, symbol)
    if mark is None or mark.received_at < world.at - world.settings.pre_trade_max_age:
        return None
    return mark_used(mark)


def cancel_order(draft: Draft, command: c.CancelOrder) -> None:
    """Always possible, whatever the account's state; refused only where there is nothing to cancel."""
    if command.order_id not in draft.account.orders:
        return refuse(draft, "CancelOrder", Violation(Reason.ORDER_NOT_FOUND, command.order_id))
    end_order(draft, command.order_id, "CANCELLED")


def end_order(draft: Draft, order_id: str, cause: str) -> None:
    """Give back what an order still holds, which ends it. An order that is over already stays as it is."""
    reservation = draft.account.reservations.get(order_id)
    if order_id in draft.account.orders and reservation is not None:
        draft.add(e.ReservationReduced(order_id, reservation.quantity, ZERO, cause, at=draft.world.at))


def match_orders(draft: Draft, command: c.MatchOrders) -> None:
    """Fill what the mark fills. A mark that comes again fills no more than the depth that it left.

    Where the account stands is assessed first: a mark that makes it CRITICAL fills nothing that adds to its risk.
    """
    if not any(order.symbol == command.mark.symbol for order in draft.account.orders.values()):
        return
    assess(draft)
    for order_id in in_priority(draft.account, command.mark):
        match_one(draft, order_id, command.mark)


def in_priority(account: Account, mark: MarkUsed) -> Iterator[str]:
    """The orders that were there when the mark came and that it reaches: first those without a limit, then by price."""
    reached = [
        order
        for order in account.orders.values()
        if order.symbol == mark.symbol and order.created_at <= mark.received_at and reaches(order, mark.price)
    ]

    def rank(order: PaperOrder) -> tuple[int, Decimal]:
        return (0, ZERO) if order.limit_price is None else (1, -order.limit_price * order.side.sign)

    return (order.order_id for order in sorted(reached, key=rank))


def is_reached(side: Side, limit: Decimal, price: Decimal) -> bool:
    return price <= limit if side is Side.BUY else price >= limit


def reaches(order: PaperOrder, price: Decimal) -> bool:
    return order.limit_price is None or is_reached(order.side, order.limit_price, price)


def match_one(draft: Draft, order_id: str, mark: MarkUsed) -> None:
    """Fill what this mark, which reaches the order, fills of it."""
    account, settings = draft.account, draft.world.settings
    order, reservation = account.orders[order_id], account.reservations[order_id]
    if reservation.expires_at <= draft.world.at:
        return end_order(draft, order_id, "EXPIRED")
    if order.reduce_only and held_against(account, order) == 0:
        return end_order(draft, order_id, "NOTHING_TO_REDUCE")
    quantity = fillable(draft, order_id, mark)
    if quantity == 0:
        return None
    instrument = instrument_of(draft, order.symbol)
    price = fill_price(order, instrument, mark.price, settings)
    rate = fee_rate(instrument, settings, maker=order.rests)
    fill_event(
        draft,
        c.RecordFill(
            fill_id=f"paper-{draft.next_id}",
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=price,
            fee=required(notional(instrument, quantity, price) * rate),
            position_side=order.position_side,
            reservation_id=order_id,
            order_id=order_id,
            strategy=order.strategy,
        ),
        instrument,
        account.positions.get(position_key(order.symbol, order.position_side)),
        quantity,
        mark=mark,
        maker=order.rests,
    )
    left = reservation.quantity - quantity
    draft.add(e.ReservationReduced(order_id, quantity, left, "FILLED", at=draft.world.at))
    if left and order.reduce_only and held_against(draft.account, order) == 0:
        end_order(draft, order_id, "NOTHING_TO_REDUCE")


def fillable(draft: Draft, order_id: str, mark: MarkUsed) -> Decimal:
    """How much of an order the mark fills: what is open of it, what it may reduce, and the depth that is left."""
    account = draft.account
    order = account.orders[order_id]
    if not reaches(order, mark.price):
        return ZERO
    quantity = account.reservations[order_id].quantity
    if order.reduce_only:
        quantity = min(quantity, held_against(account, order))
    depth = depth_left(draft, instrument_of(draft, order.symbol), order.side, mark)
    return quantity if depth is None else min(quantity, depth)


def held_against(account: Account, order: PaperOrder) -> Decimal:
    """What the order may reduce of its position."""
    position = account.positions.get(position_key(order.symbol, order.position_side))
    return ZERO if position is None or position.quantity * order.side.sign >= 0 else abs(position.quantity)


def depth_left(draft: Draft, instrument: Instrument, side: Side, mark: MarkUsed) -> Decimal | None:
    """Contracts that the mark can still fill on a side: whole lots, at least one a mark. None has no limit."""
    depth = draft.world.settings.fill_depth
    if depth is None:
        return None
    lots = floor_to_step(depth / notional(instrument, ONE, mark.price), instrument.lot)
    taken = draft.account.depth_taken.get(depth_key(instrument.symbol, side))
    before = taken.quantity if taken is not None and taken.mark == mark else ZERO
    return max(ZERO, max(lots, instrument.lot) - before)


def fill_price(order: PaperOrder, instrument: Instrument, mark: Decimal, settings: RiskSettings) -> Decimal:
    """An order that rested fills at its limit; any other at the mark and what slippage costs, within its limit."""
    if order.rests and order.limit_price is not None:
        return order.limit_price
    taken = taker_price(instrument, order.side, mark, settings.slippage_rate)
    if order.limit_price is None:
        return taken
    return min(order.limit_price, taken) if order.side is Side.BUY else max(order.limit_price, taken)


def taker_price(instrument: Instrument, side: Side, mark: Decimal, slippage_rate: Decimal) -> Decimal:
    """The mark, made worse by the slippage and to the next tick; never below one tick."""
    if not slippage_rate:
        return mark
    ticks = (mark * (ONE + slippage_rate * side.sign) / instrument.tick).to_integral_value(
        ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    )
    return max(ticks * instrument.tick, instrument.tick)
