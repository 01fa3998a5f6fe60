"""The check before a trade: does an order fit, why not, what would it hold, and how large could it be."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import (
    Account,
    Figures,
    MarginMode,
    Position,
    PositionMode,
    PositionSide,
    Side,
    position_key,
)
from debt_mgmt.core.commands import Order
from debt_mgmt.core.exposure import other_exposure
from debt_mgmt.core.halts import halt_violations, is_halted
from debt_mgmt.core.instrument import Instrument, maintenance_margin, notional, tier_at
from debt_mgmt.core.margin import figures_of, unit_margin
from debt_mgmt.core.market import Mark
from debt_mgmt.core.money import ONE, ZERO, floor_to_step, owned, ratio, required
from debt_mgmt.core.node_limits import Nodes, nodes_of
from debt_mgmt.core.node_use import Outside
from debt_mgmt.core.refusals import Reason, Violation, by_precedence
from debt_mgmt.core.sync import not_synced
from debt_mgmt.core.view import AccountView, SymbolView

LEAST_GAP = Decimal("1E-20")
"""Share of a lot within which the rounding of a division can hide one more lot."""


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


def margin_price(instrument: Instrument, side: Side, limit: Decimal | None, mark: Decimal) -> Decimal:
    """The price an order's margin is counted at: its limit, or the mark where a fill there would need more.

    A sell below the mark fills at the mark or better, so it can't be made cheap by a low limit; inverse contracts
    are worth more coin at a lower price, so there it is the buy above the mark.
    """
    if limit is None:
        return mark
    if instrument.inverse:
        return min(limit, mark) if side is Side.BUY else limit
    return limit if side is Side.BUY else max(limit, mark)


def open_loss(instrument: Instrument, side: Side, limit: Decimal | None, mark: Decimal) -> Decimal:
    """Loss of one contract, in the settlement asset, if the order fills at its limit while the mark stays."""
    if limit is None:
        return ZERO
    worse = limit - mark if side is Side.BUY else mark - limit
    if worse <= 0:
        return ZERO
    if instrument.inverse:
        return instrument.contract_size * worse / (limit * mark)
    return instrument.contract_size * worse


def held_leg(account: Account, order: Order) -> Position | None:
    return account.positions.get(position_key(order.symbol, order.position_side))


def is_reducing(account: Account, order: Order) -> bool:
    """Whether the order can only reduce what is held. Such an order passes every check, whatever else is open."""
    leg = held_leg(account, order)
    if leg is None or leg.quantity * order.side.sign >= 0:
        return False
    return order.reduce_only or order.quantity <= abs(leg.quantity)


def check(
    view: AccountView, order: Order, at: datetime, *, with_largest: bool = True, outside: Outside | None = None
) -> CheckResult:
    """Check one order against the account. Pure: the same view, order and time give the same answer.

    A reducing order fits always. Any other order is answered with every violation, in order of precedence. `outside`
    is what other accounts use of the tree of limits, where it is asked elsewhere than in the view's world.
    """
    account = view.account
    symbol = view.symbols.get(order.symbol) or view.symbol(order.symbol)
    if is_reducing(account, order):
        return reducing_result(view, symbol, order, at, with_largest, outside)
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
    found = list(view.standing)
    if view.halts:
        found += halt_violations(view.halts, order.strategy, order.symbol)
    found += symbol.leverage_violations
    found += stale_violations(view, symbol, at)
    found += terms_violations(view, symbol, order)
    found += rate_violations(view, at)
    nodes = nodes_of(view, symbol, order, at, outside or view.world.outside)
    added, sized = size_violations(view, symbol, order.side, order.quantity, unit, nodes)
    found += sized
    used_after = view.used + added
    largest_buy = largest_sell = None
    if with_largest or found:
        largest_buy = largest(view, symbol, order, Side.BUY, at, nodes)
        largest_sell = largest(view, symbol, order, Side.SELL, at, nodes)
    known = not view.summary.missing
    leg = held_leg(account, order)
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
        after=figures_of(view.equity, used_after, maintenance_after(view, symbol, order)) if known else Figures(),
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
        or terms_violations(view, symbol, order)
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


def terms_violations(view: AccountView, symbol: SymbolView, order: Order) -> list[Violation]:
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
    if order.reduce_only or (view.account.position_mode is PositionMode.HEDGE and not opens_leg(order)):
        leg = held_leg(view.account, order)
        held = abs(leg.quantity) if leg is not None else ZERO
        found.append(Violation(Reason.REDUCE_ONLY_WOULD_INCREASE, order.symbol, quantity, held))
    return found


def opens_leg(order: Order) -> bool:
    """Whether an order in hedge mode adds to its leg: buys the long one or sells the short one."""
    return (order.side is Side.BUY) == (order.position_side is PositionSide.LONG)


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


def size_violations(
    view: AccountView, symbol: SymbolView, side: Side, quantity: Decimal, unit: Decimal, nodes: Nodes | None
) -> tuple[Decimal, list[Violation]]:
    """What an order of this size adds to margin used (in the account's currency), and the rules its size breaks."""
    meets, settings = symbol.side(side), view.world.settings
    found: list[Violation] = [] if nodes is None else nodes.violations(side, quantity)
    added = meets.added(quantity, unit) * symbol.rate
    worst = meets.worst + quantity
    if worst > 0 and (view.limits_on_size or symbol.tier_notional is not None):
        found += worst_size_violations(view, symbol, side, worst)
    too_many = too_many_positions(view, symbol)
    if too_many is not None:
        found.append(too_many)
    available = view.equity - view.used
    if available < 0:
        available = ZERO
    needed = added * settings.margin_buffer
    if needed > available:
        found.append(
            Violation(
                Reason.INSUFFICIENT_MARGIN,
                symbol.instrument.symbol,
                required(needed),
                owned(available),
                owned(available),
            )
        )
    used_after = view.used + added
    if added > 0 and used_after > view.most_used:
        found.append(
            Violation(
                Reason.UTILIZATION_AFTER,
                symbol.instrument.symbol,
                ratio(used_after, view.equity),
                settings.liquidation_threshold,
                owned(max(ZERO, view.most_used - view.used)),
            )
        )
    return added, found


def too_many_positions(view: AccountView, symbol: SymbolView) -> Violation | None:
    """Whether an order on this instrument would be one instrument too many."""
    most, name = view.limits.max_concurrent_positions, symbol.instrument.symbol
    if most is None:
        return None
    count = len(view.occupied) + (name not in view.occupied)
    if count <= most:
        return None
    return Violation(Reason.CONCURRENT_POSITIONS, name, Decimal(count), Decimal(most), ZERO)


def worst_size_violations(view: AccountView, symbol: SymbolView, side: Side, worst: Decimal) -> list[Violation]:
    """Limits on the position that would be held if everything open on this side filled."""
    instrument, limits, rate = symbol.instrument, view.limits, symbol.rate
    found: list[Violation] = []
    value = notional(instrument, worst, symbol.mark.price)
    if symbol.tier_notional is not None and value >= symbol.tier_notional:
        allowed = tier_at(instrument, value).max_leverage
        found.append(Violation(Reason.LEVERAGE_ABOVE_TIER, instrument.symbol, symbol.leverage, allowed))
    if not view.limits_on_size:
        return found
    if limits.max_position_quantity is not None and worst > limits.max_position_quantity:
        found.append(Violation(Reason.QUANTITY_ABOVE_MAXIMUM, instrument.symbol, worst, limits.max_position_quantity))
    if limits.max_position_notional is not None and value * rate > limits.max_position_notional:
        found.append(
            Violation(
                Reason.POSITION_NOTIONAL_LIMIT, instrument.symbol, required(value * rate), limits.max_position_notional
            )
        )
    if limits.max_exposure_notional is not None:
        others = other_exposure(view, symbol, side)
        exposure = others + value * rate
        if exposure > limits.max_exposure_notional:
            limit = limits.max_exposure_notional
            found.append(
                Violation(
                    Reason.EXPOSURE_LIMIT,
                    instrument.symbol,
                    required(exposure),
                    limit,
                    owned(max(ZERO, limit - others)),
                )
            )
    return found


def size_caps(view: AccountView, symbol: SymbolView, side: Side, nodes: Nodes | None) -> list[Decimal]:
    """What every limit on size leaves for one more order on this side, in contracts; a tier's bound is not included."""
    instrument, limits = symbol.instrument, view.limits
    caps = [] if nodes is None else nodes.caps(side)
    if instrument.max_quantity is not None:
        caps.append(instrument.max_quantity)
    if not view.limits_on_size and symbol.tier_notional is None:
        return caps
    worst, contract = symbol.side(side).worst, notional(instrument, ONE, symbol.mark.price)
    if symbol.tier_notional is not None:
        caps.append(symbol.tier_notional / contract - worst)
    if limits.max_position_quantity is not None:
        caps.append(limits.max_position_quantity - worst)
    if limits.max_position_notional is not None:
        caps.append(limits.max_position_notional / (contract * symbol.rate) - worst)
    if limits.max_exposure_notional is not None:
        left = max(ZERO, limits.max_exposure_notional - other_exposure(view, symbol, side))
        caps.append(left / (contract * symbol.rate) - worst)
    return caps


def maintenance_after(view: AccountView, symbol: SymbolView, order: Order) -> Decimal:
    """Cross maintenance margin if the order fills completely."""
    if symbol.use.isolated:
        return view.summary.maintenance
    leg = held_leg(view.account, order)
    held = leg.quantity if leg is not None else ZERO
    after = held + order.quantity * order.side.sign
    if order.reduce_only and held * after < 0:
        after = ZERO
    price = symbol.mark.price
    now = symbol.keeping.get(order.position_side)
    if now is None:
        crossed = leg is not None and leg.margin_mode is MarginMode.CROSS
        now = maintenance_margin(symbol.instrument, held, price) if crossed else ZERO
        symbol.keeping[order.position_side] = now
    then = maintenance_margin(symbol.instrument, after, price) if after else ZERO
    return view.summary.maintenance + (then - now) * symbol.rate


def reducing_result(
    view: AccountView,
    symbol: SymbolView | Violation,
    order: Order,
    at: datetime,
    with_largest: bool,
    outside: Outside | None,
) -> CheckResult:
    """A reducing order fits. Its figures are shown where prices are known."""
    if isinstance(symbol, Violation) or view.summary.missing:
        return CheckResult(order, True, True, margin_required=ZERO, initial_margin=ZERO, before=view.before)
    leg = held_leg(view.account, order)
    assert leg is not None
    closed = min(order.quantity, abs(leg.quantity))
    freed = ZERO
    if leg.margin_mode is MarginMode.CROSS:
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
    nodes = nodes_of(view, symbol, order, at, outside or view.world.outside) if with_largest else None
    return CheckResult(
        order=order,
        fits=True,
        reducing=True,
        margin_required=ZERO,
        initial_margin=ZERO,
        fee_estimate=fee_estimate(symbol, closed, symbol.mark.price),
        before=view.before,
        after=figures_of(view.equity, view.used - freed * symbol.rate, maintenance_after(view, symbol, order)),
        largest_buy=largest(view, symbol, order, Side.BUY, at, nodes) if with_largest else None,
        largest_sell=largest(view, symbol, order, Side.SELL, at, nodes) if with_largest else None,
        mark=symbol.mark,
        margin_price=symbol.mark.price,
    )


def largest(
    view: AccountView, symbol: SymbolView, order: Order, side: Side, at: datetime, nodes: Nodes | None
) -> Decimal:
    """The largest quantity on `side` that would pass now, at the order's price. What only reduces always passes."""
    plain = order.price is None and symbol.use.one_way and not order.reduce_only and nodes is None and not view.halts
    if plain and side in symbol.largest and not stale_violations(view, symbol, at):
        return symbol.largest[side]
    asked = Order(
        order.symbol, side, order.quantity, order.price, order.reduce_only, order.position_side, order.strategy
    )
    leg = held_leg(view.account, asked)
    reducible = abs(leg.quantity) if leg is not None and leg.quantity * side.sign < 0 else ZERO
    blocked = (
        view.standing
        or symbol.leverage_violations
        or order.reduce_only
        or stale_violations(view, symbol, at)
        or rate_violations(view, at)
        or (nodes is not None and any(one.problems for one in nodes.enforced))
        or (view.account.position_mode is PositionMode.HEDGE and not opens_leg(asked))
        or is_halted(view.halts, order.strategy, order.symbol)
    )
    if blocked:
        return reducible
    answer = max(reducible, largest_opening(view, symbol, side, asked, nodes))
    if plain:
        symbol.largest[side] = answer
    return answer


def largest_opening(view: AccountView, symbol: SymbolView, side: Side, order: Order, nodes: Nodes | None) -> Decimal:
    """The largest lot multiple whose size breaks no rule: reckoned where that is possible, else searched.

    Margin never falls with size, so the largest is what the margin left affords, or a limit on size. Where rounding
    could decide, the neighbours are tried by the rules.
    """
    instrument, lot = symbol.instrument, symbol.instrument.lot
    mark = symbol.mark.price
    price = margin_price(instrument, side, order.price, mark)
    unit = unit_margin(instrument, price, symbol.leverage, open_loss(instrument, side, order.price, mark))
    minimum = max(instrument.min_quantity, lot)
    if instrument.min_notional:
        per_contract = notional(instrument, Decimal(1), order.price if order.price is not None else mark)
        minimum = max(minimum, instrument.min_notional / per_contract)

    def passes(quantity: Decimal) -> bool:
        return not size_violations(view, symbol, side, quantity, unit, nodes)[1]

    if too_many_positions(view, symbol):
        return ZERO
    meets, budget = symbol.side(side), view.budget / symbol.rate
    affordable = meets.affordable(budget, unit)
    if affordable is not None:
        most = max(ZERO, min([affordable, *size_caps(view, symbol, side, nodes)]))
        whole, gap = floor_to_step(most, lot), lot * LEAST_GAP
        if gap < most - whole < lot - gap:
            return whole if whole >= minimum else ZERO
        for quantity in (whole + lot, whole, whole - lot):
            if quantity < minimum:
                return ZERO
            if passes(quantity) and (instrument.max_quantity is None or quantity <= instrument.max_quantity):
                return quantity
    ceiling = meets.offset + (meets.before + budget) / unit + lot
    if instrument.max_quantity is not None:
        ceiling = min(ceiling, instrument.max_quantity)
    high = floor_to_step(ceiling, lot)
    low = ZERO
    if high > 0 and passes(high):
        low = high
    while high - low > lot:
        middle = floor_to_step((low + high) / 2, lot)
        if passes(middle):
            low = middle
        else:
            high = middle
    return low if low >= minimum else ZERO
