"""The check before a trade: does an order fit, why not, what would it hold, and how large could it be."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import (
    Account,
    Figures,
    Position,
    position_key,
)
from debt_mgmt.core.commands import Order
from debt_mgmt.core.halts import halt_violations, is_halted
from debt_mgmt.core.instrument import maintenance_margin, notional
from debt_mgmt.core.largest import Asked
from debt_mgmt.core.margin import figures_of, unit_margin
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import ZERO, owned, ratio, required
from debt_mgmt.core.node_limits import Nodes, nodes_of
from debt_mgmt.core.node_use import Outside
from debt_mgmt.core.refusals import Reason, Violation, by_precedence
from debt_mgmt.core.sides import BUY, CROSS, HEDGE, SELL
from debt_mgmt.core.sizes import margin_price, open_loss, opens_leg, size_violations
from debt_mgmt.core.sync import not_synced
from debt_mgmt.core.view import AccountView, SymbolView


class CheckResult(msgspec.Struct, frozen=True, gc=False):
    """The answer to one order. Amounts in the account's currency; None is unknown.

    `margin_required` is what the order adds to margin used, times the house's buffer; that much must be available.
    `largest_buy` and `largest_sell` are the quantities that would pass now; what only reduces always passes.
    """

    order: Order
    fits: bool
    reducing: bool
    violations: tuple[Violation, ...] = ()
    margin_required: Decimal | None = None
    initial_margin: Decimal | None = None
    """Of the part that opens: notional ÷ leverage."""
    fee_estimate: Decimal | None = None
    """At the instrument's taker rate."""
    before: Figures = Figures()
    after: Figures = Figures()
    largest_buy: Decimal | None = None
    largest_sell: Decimal | None = None
    mark: Mark | None = None
    margin_price: Decimal | None = None
    open_loss: Decimal = ZERO
    shadow_violations: tuple[Violation, ...] = ()
    """What limit sets in SHADOW would have refused it for; no part of the verdict."""


def held_leg(account: Account, order: Order) -> Position | None:
    return account.positions.get(position_key(order.symbol, order.position_side))


def is_reducing(account: Account, order: Order) -> bool:
    """Whether the order can only reduce what is held. Such an order passes every check, whatever else is open."""
    leg = held_leg(account, order)
    return leg is not None and only_reduces(leg, order)


def only_reduces(leg: Position, order: Order) -> bool:
    """The same of the position that the order is about."""
    if (leg.quantity > 0) is (order.side is BUY):
        return False
    return order.reduce_only or order.quantity <= abs(leg.quantity)


def check(
    view: AccountView, order: Order, at: datetime, *, with_largest: bool = True, outside: Outside | None = None
) -> CheckResult:
    """Check one order against the account. Pure: the same view, order and time give the same answer.

    A reducing order fits always. Any other order is answered with every violation, in order of precedence. `outside`
    is what other accounts use of the tree of limits, where it is asked elsewhere than in the view's world.
    """
    symbol = view.symbols.get(order.symbol) or view.symbol(order.symbol)
    leg = held_leg(view.account, order)
    if leg is not None and only_reduces(leg, order):
        return reducing_result(view, symbol, order, leg, at, with_largest, outside)
    if isinstance(symbol, Violation):
        violations = [*view.standing, *halt_violations(view.halts, order.strategy, order.symbol)]
        violations += [symbol] if symbol not in view.standing else []
        return CheckResult(order, False, False, by_precedence(violations), before=view.before)
    instrument, mark = symbol.instrument, symbol.mark
    price, loss, unit = mark.price, ZERO, symbol.unit
    if order.price is not None:
        price = margin_price(instrument, order.side, order.price, mark.price)
        loss = open_loss(instrument, order.side, order.price, mark.price)
        unit = unit_margin(instrument, price, symbol.leverage, loss)
    found = anyway_violations(view, symbol, order, at)
    nodes = nodes_of(view, symbol, order, at, outside or view.world.outside)
    blocked = bool(found)
    found += terms_violations(view, symbol, order, leg)
    added, sized = size_violations(view, symbol, order.side, order.quantity, unit, nodes)
    found += sized
    used_after = view.used + added
    largest_buy = largest_sell = None
    if with_largest or found:
        asked = Asked(view, symbol, order, leg, nodes, blocked)
        largest_buy, largest_sell = asked.largest(BUY), asked.largest(SELL)
    known = not view.summary.missing
    closing = abs(leg.quantity) if leg is not None and leg.quantity * order.side.sign < 0 else ZERO
    opened_value = notional(instrument, order.quantity - closing, price) * symbol.rate
    return CheckResult(
        order=order,
        fits=not found,
        reducing=False,
        violations=by_precedence(found) if found else (),
        margin_required=required(added * view.world.settings.margin_buffer),
        initial_margin=required(opened_value / symbol.leverage),
        fee_estimate=fee_estimate(symbol, order.quantity, price),
        before=view.before,
        after=figures_of(view.equity, used_after, maintenance_after(view, symbol, order, leg)) if known else Figures(),
        largest_buy=largest_buy,
        largest_sell=largest_sell,
        mark=mark,
        margin_price=price,
        open_loss=loss,
        shadow_violations=shadow_of(nodes, order),
    )


def shadow_of(nodes: Nodes | None, order: Order) -> tuple[Violation, ...]:
    """What limit sets in SHADOW would have refused the order for."""
    if nodes is None or not nodes.shadow:
        return ()
    return by_precedence(nodes.shadowed(order.side, order.quantity))


def fee_estimate(symbol: SymbolView, quantity: Decimal, price: Decimal) -> Decimal:
    return required(notional(symbol.instrument, quantity, price) * symbol.instrument.taker_fee_rate * symbol.rate)


class BriefCheck(msgspec.Struct, frozen=True, gc=False):
    """What a batch answers for each order: the verdict and what is left, without the working."""

    fits: bool
    reducing: bool
    margin_required: Decimal
    margin_available_after: Decimal
    margin_utilization_after: Decimal | None
    refused: CheckResult | None = None
    shadow_violations: tuple[Violation, ...] = ()


def check_brief(view: AccountView, order: Order, at: datetime, *, hold: bool) -> BriefCheck:
    """`check` for batches: same rules and verdict, fewer figures; a refused order carries its full result.

    With `hold`, an order that fits is counted for the next one.
    """
    symbol = view.symbols.get(order.symbol) or view.symbol(order.symbol)
    refused = view.standing or is_halted(view.halts, order.strategy, order.symbol)
    if isinstance(symbol, Violation) or refused or is_reducing(view.account, order):
        return brief_of(view, check(view, order, at, with_largest=False), hold)
    nodes = nodes_of(view, symbol, order, at, view.world.outside)
    if order.price is None:
        unit = symbol.unit
    else:
        loss = open_loss(symbol.instrument, order.side, order.price, symbol.mark.price)
        price = margin_price(symbol.instrument, order.side, order.price, symbol.mark.price)
        unit = unit_margin(symbol.instrument, price, symbol.leverage, loss)
    added, sized = size_violations(view, symbol, order.side, order.quantity, unit, nodes)
    if (
        sized
        or symbol.leverage_violations
        or terms_violations(view, symbol, order, held_leg(view.account, order))
        or stale_violations(view, symbol, at)
        or rate_violations(view, at)
    ):
        return brief_of(view, check(view, order, at), hold)
    used_after = view.used + added
    brief = BriefCheck(
        True,
        False,
        required(added * view.world.settings.margin_buffer),
        owned(max(ZERO, view.equity - used_after)),
        ratio(used_after, view.equity),
        shadow_violations=shadow_of(nodes, order),
    )
    if hold:
        view.hold(symbol, order.side, order.quantity, unit, added, order.strategy)
    return brief


def brief_of(view: AccountView, result: CheckResult, hold: bool) -> BriefCheck:
    """The brief form of a full result: of a reducing order, or of a refused one."""
    if result.fits and hold:
        view.count(result.order.strategy, result.order.symbol)
    available, utilization = result.after.margin_available, result.after.margin_utilization
    if available is None:
        available, utilization = owned(view.available), ratio(view.used, view.equity)
    return BriefCheck(
        result.fits,
        result.reducing,
        result.margin_required if result.margin_required is not None else ZERO,
        available,
        utilization,
        None if result.fits else result,
        result.shadow_violations,
    )


def stale_violations(view: AccountView, symbol: SymbolView, at: datetime) -> list[Violation]:
    """Marks too old for new risk: of the instrument itself and of everything the account's figures rest on.

    So is the state of a live account that has grown too old since the view was made.
    """
    max_age = view.world.settings.pre_trade_max_age
    oldest = at - max_age
    fresh = symbol.oldest >= oldest and (view.oldest is None or view.oldest >= oldest)
    if fresh and view.synced_at is None:
        return []
    aged = not_synced(view.account, view.world.settings, at) if view.synced_at is not None else ()
    if fresh:
        return list(aged)
    marks = {mark.symbol: mark for mark in (*view.summary.marks, *symbol.marks)}
    return [
        *aged,
        *(
            Violation(Reason.STALE_MARK, mark.symbol, seconds(at - mark.received_at), seconds(max_age))
            for mark in marks.values()
            if mark.received_at < oldest
        ),
    ]


def seconds(duration: timedelta) -> Decimal:
    """A duration in seconds, at milliseconds."""
    return Decimal(duration // timedelta(milliseconds=1)) / 1000


def anyway_violations(view: AccountView, symbol: SymbolView, order: Order, at: datetime) -> list[Violation]:
    """What stands in the way of any order on the instrument that adds risk, whatever its size and its terms."""
    found = list(view.standing)
    if view.halts:
        found += halt_violations(view.halts, order.strategy, order.symbol)
    found += symbol.leverage_violations
    found += stale_violations(view, symbol, at)
    found += rate_violations(view, at)
    return found


def terms_violations(view: AccountView, symbol: SymbolView, order: Order, leg: Position | None) -> list[Violation]:
    """Whether the venue would take the order's quantity and price."""
    instrument, quantity = symbol.instrument, order.quantity
    found: list[Violation] = []
    if quantity < instrument.min_quantity:
        found.append(Violation(Reason.QUANTITY_BELOW_MINIMUM, order.symbol, quantity, instrument.min_quantity))
    if quantity % instrument.lot:
        found.append(Violation(Reason.QUANTITY_STEP, order.symbol, quantity, instrument.lot))
    if order.price is not None and order.price % instrument.tick:
        found.append(Violation(Reason.PRICE_STEP, order.symbol, order.price, instrument.tick))
    if instrument.max_quantity is not None and quantity > instrument.max_quantity:
        found.append(Violation(Reason.QUANTITY_ABOVE_MAXIMUM, order.symbol, quantity, instrument.max_quantity))
    if instrument.min_notional:
        value = notional(instrument, quantity, order.price if order.price is not None else symbol.mark.price)
        if value < instrument.min_notional:
            found.append(Violation(Reason.QUANTITY_BELOW_MINIMUM, order.symbol, value, instrument.min_notional))
    hedged = view.account.position_mode is HEDGE
    if order.reduce_only or (hedged and not opens_leg(order.side, order.position_side)):
        held = abs(leg.quantity) if leg is not None else ZERO
        found.append(Violation(Reason.REDUCE_ONLY_WOULD_INCREASE, order.symbol, quantity, held))
    return found


def rate_violations(view: AccountView, at: datetime) -> list[Violation]:
    """Orders per interval and open reservations, counted with the orders held in this view."""
    limits, account = view.limits, view.account
    found: list[Violation] = []
    if limits.max_open_reservations is not None and view.open_reservations >= limits.max_open_reservations:
        found.append(
            Violation(
                Reason.OPEN_RESERVATIONS,
                account.account_id,
                Decimal(view.open_reservations + 1),
                Decimal(limits.max_open_reservations),
                ZERO,
            )
        )
    if limits.order_rate_count is not None:
        _, counted = order_window(account, limits.order_rate_interval_seconds or 1, at)
        counted += view.orders_added
        if counted >= limits.order_rate_count:
            limit = Decimal(limits.order_rate_count)
            found.append(Violation(Reason.ORDER_RATE, account.account_id, Decimal(counted + 1), limit, ZERO))
    return found


def order_window(account: Account, interval_seconds: int, at: datetime) -> tuple[datetime, int]:
    """Start of the running interval and the orders counted in it."""
    started = account.window_started_at
    if started is None or at - started >= timedelta(seconds=interval_seconds):
        return at, 0
    return started, account.orders_in_window


def maintenance_after(view: AccountView, symbol: SymbolView, order: Order, leg: Position | None) -> Decimal:
    """Cross maintenance margin if the order fills completely."""
    if symbol.use.isolated:
        return view.summary.maintenance
    held = leg.quantity if leg is not None else ZERO
    after = held + order.quantity * order.side.sign
    if order.reduce_only and held * after < 0:
        after = ZERO
    price = symbol.mark.price
    now = symbol.keeping.get(order.position_side)
    if now is None:
        crossed = leg is not None and leg.margin_mode is CROSS
        now = maintenance_margin(symbol.instrument, held, price) if crossed else ZERO
        symbol.keeping[order.position_side] = now
    then = maintenance_margin(symbol.instrument, after, price) if after else ZERO
    return view.summary.maintenance + (then - now) * symbol.rate


def reducing_result(
    view: AccountView,
    symbol: SymbolView | Violation,
    order: Order,
    leg: Position,
    at: datetime,
    with_largest: bool,
    outside: Outside | None,
) -> CheckResult:
    """A reducing order fits. Its figures are shown where prices are known."""
    if isinstance(symbol, Violation) or view.summary.missing:
        return CheckResult(order, True, True, margin_required=ZERO, initial_margin=ZERO, before=view.before)
    closed = min(order.quantity, abs(leg.quantity))
    freed = ZERO
    if leg.margin_mode is CROSS:
        figures_of_leg = next(one for one in view.summary.positions if one.position is leg)
        freed = figures_of_leg.initial_margin * closed / abs(leg.quantity)
    use = symbol.use
    if use.one_way and (use.buys or use.sells):
        left = msgspec.structs.replace(
            use,
            position_quantity=use.position_quantity - closed.copy_sign(use.position_quantity),
            position_margin=max(ZERO, use.position_margin - freed),
        )
        freed += use.order_margin() - left.order_margin()
    largest_buy = largest_sell = None
    if with_largest:
        nodes = nodes_of(view, symbol, order, at, outside or view.world.outside)
        asked = Asked(view, symbol, order, leg, nodes, bool(anyway_violations(view, symbol, order, at)))
        largest_buy, largest_sell = asked.largest(BUY), asked.largest(SELL)
    return CheckResult(
        order=order,
        fits=True,
        reducing=True,
        margin_required=ZERO,
        initial_margin=ZERO,
        fee_estimate=fee_estimate(symbol, closed, symbol.mark.price),
        before=view.before,
        after=figures_of(view.equity, view.used - freed * symbol.rate, maintenance_after(view, symbol, order, leg)),
        largest_buy=largest_buy,
        largest_sell=largest_sell,
        mark=symbol.mark,
        margin_price=symbol.mark.price,
    )
