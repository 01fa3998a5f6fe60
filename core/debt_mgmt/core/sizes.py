"""What an order of a size holds, and which rules its size breaks."""

from decimal import Decimal

from debt_mgmt.core.account import PositionSide, Side
from debt_mgmt.core.exposure import other_exposure
from debt_mgmt.core.instrument import Instrument, notional, tier_at
from debt_mgmt.core.money import ONE, ZERO, owned, ratio, required
from debt_mgmt.core.node_limits import Nodes
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.sides import BUY, LONG
from debt_mgmt.core.view import AccountView, SymbolView


def margin_price(instrument: Instrument, side: Side, limit: Decimal | None, mark: Decimal) -> Decimal:
    """The price an order's margin is counted at: its limit, or the mark where a fill there would need more.

    A sell below the mark fills at the mark or better, so it can't be made cheap by a low limit; inverse contracts
    are worth more coin at a lower price, so there it is the buy above the mark.
    """
    if limit is None:
        return mark
    if instrument.inverse:
        return min(limit, mark) if side is BUY else limit
    return limit if side is BUY else max(limit, mark)


def open_loss(instrument: Instrument, side: Side, limit: Decimal | None, mark: Decimal) -> Decimal:
    """Loss of one contract, in the settlement asset, if the order fills at its limit while the mark stays."""
    if limit is None:
        return ZERO
    worse = limit - mark if side is BUY else mark - limit
    if worse <= 0:
        return ZERO
    if instrument.inverse:
        return instrument.contract_size * worse / (limit * mark)
    return instrument.contract_size * worse


def opens_leg(side: Side, position_side: PositionSide) -> bool:
    """Whether an order in hedge mode adds to its leg: buys the long one or sells the short one."""
    return (side is BUY) == (position_side is LONG)


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


def size_caps(view: AccountView, symbol: SymbolView, side: Side) -> list[Decimal]:
    """What every limit of the account leaves for one more order on this side, in contracts; kept by the view.

    A tier's bound is not included.
    """
    caps = symbol.caps.get(side)
    if caps is None:
        caps = symbol.caps[side] = size_caps_now(view, symbol, side)
    return caps


def size_caps_now(view: AccountView, symbol: SymbolView, side: Side) -> list[Decimal]:
    instrument, limits, caps = symbol.instrument, view.limits, list[Decimal]()
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
