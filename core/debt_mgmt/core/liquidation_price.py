"""Where a position ends: liquidation and bankruptcy price, found in the risk tier that holds at that very price."""

from decimal import Decimal

from debt_mgmt.core.instrument import Instrument, MarginBase, Tier, notional, tier_at
from debt_mgmt.core.margin import PositionFigures, Summary
from debt_mgmt.core.money import ZERO


def collateral_behind(figures: PositionFigures, summary: Summary) -> Decimal:
    """What absorbs the position's losses, in its settlement asset and without its own unrealised PnL.

    Isolated: the margin posted. Cross: equity without this position less the maintenance margin of the others.
    """
    if figures.isolated:
        return figures.position.isolated_margin
    own_profit = figures.unrealized_pnl * figures.rate
    others = summary.maintenance - figures.maintenance_margin * figures.rate
    return (summary.equity - own_profit - others) / figures.rate


def liquidation_price(
    instrument: Instrument, quantity: Decimal, entry: Decimal, collateral: Decimal, reference: Decimal
) -> Decimal | None:
    """The price at which maintenance margin equals what stands behind the position; None if no positive price does.

    `quantity` signed; `collateral` in the settlement asset, without the position's own PnL; `reference` is the present
    mark: tiers are walked from there in the losing direction, each with its own rate and deduction, and a tier whose
    requirement jumps at its start (no deduction) liquidates at that start. Formulas: Binance FAQ b3c689c1 (linear,
    with deduction), OKX help 7053484440205 (linear and inverse, with fee), Bybit margin parameters (on entry).
    """
    losing_up = quantity < 0
    entered: Decimal | None = None
    for tier in tiers_on_the_way(instrument, quantity, reference, losing_up):
        price = price_in_tier(instrument, quantity, entry, collateral, tier)
        if price is not None and entered is not None and is_before(price, entered, losing_up):
            return entered
        leaves = boundary_price(instrument, quantity, tier, losing_up)
        if leaves is not None and (price is None or is_before(leaves, price, losing_up)):
            entered = leaves
            continue
        return price if price is not None and price > 0 else None
    return None


def bankruptcy_price(instrument: Instrument, quantity: Decimal, entry: Decimal, collateral: Decimal) -> Decimal | None:
    """The price at which the position's loss equals `collateral`; None if no positive price does."""
    size = quantity * instrument.contract_size
    if instrument.inverse:
        denominator = collateral + size / entry
        price = size / denominator if denominator else None
    else:
        price = entry - collateral / size
    return price if price is not None and price > 0 else None


def price_in_tier(
    instrument: Instrument, quantity: Decimal, entry: Decimal, collateral: Decimal, tier: Tier
) -> Decimal | None:
    """The liquidation price if `tier` held everywhere; None where equity never meets the requirement."""
    size = quantity * instrument.contract_size
    weight = tier.maintenance_rate
    if instrument.rules.fee_in_maintenance:
        weight += instrument.taker_fee_rate
    if instrument.rules.maintenance_margin_base is MarginBase.ENTRY:
        fixed = notional(instrument, quantity, entry) * weight - tier.deduction - collateral
        if instrument.inverse:
            denominator = size / entry - fixed
            return size / denominator if denominator else None
        return entry + fixed / size
    if instrument.inverse:
        numerator = size + abs(size) * weight
        denominator = collateral + tier.deduction + size / entry
        if denominator == 0 or (numerator > 0) != (denominator > 0):
            return None
        return numerator / denominator
    return (size * entry - collateral - tier.deduction) / (size - abs(size) * weight)


def tiers_on_the_way(
    instrument: Instrument, quantity: Decimal, reference: Decimal, losing_up: bool
) -> tuple[Tier, ...]:
    """Tiers in the order in which a losing price passes them, from the one that holds at `reference`."""
    here = instrument.tiers.index(tier_at(instrument, notional(instrument, quantity, reference)))
    notional_rises = losing_up != instrument.inverse
    if instrument.rules.maintenance_margin_base is MarginBase.ENTRY:
        return (instrument.tiers[here],)
    return instrument.tiers[here:] if notional_rises else instrument.tiers[here::-1]


def boundary_price(instrument: Instrument, quantity: Decimal, tier: Tier, losing_up: bool) -> Decimal | None:
    """The price at which a losing position leaves `tier`; None where it never does."""
    notional_rises = losing_up != instrument.inverse
    bound = tier.notional_to if notional_rises else tier.notional_from
    if bound is None or bound == ZERO or instrument.rules.maintenance_margin_base is MarginBase.ENTRY:
        return None
    size = abs(quantity) * instrument.contract_size
    return size / bound if instrument.inverse else bound / size


def is_before(price: Decimal, other: Decimal, losing_up: bool) -> bool:
    return price < other if losing_up else price > other
