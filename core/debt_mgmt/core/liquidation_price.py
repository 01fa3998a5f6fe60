"""Where a position ends: liquidation and bankruptcy price, found in the risk tier that holds at that very price."""

from decimal import Decimal

from debt_mgmt.core.instrument import Instrument, MarginBase, Tier, notional, tier_at
from debt_mgmt.core.margin import PositionFigures, Summary
from debt_mgmt.core.money import ONE, ZERO

Leg = tuple[Decimal, Decimal]
"""Signed contracts and their entry price."""


def ends_of(one: PositionFigures, summary: Summary) -> tuple[Decimal | None, Decimal | None]:
    """Liquidation and bankruptcy price of a position, all other prices unchanged; None where no price is.

    Isolated: by the margin posted. Cross: by the whole account; both legs of an instrument share its mark and its ends.
    """
    moving, drift = legs_with(one, summary), drift_of(one, summary)
    legs = tuple((each.position.quantity, each.position.entry_price) for each in moving)
    still = drift * one.mark.price
    behind = collateral_behind(one, summary) - still
    liquidation = first_crossing(one.instrument, legs, behind, one.mark.price, drift)
    if one.isolated:
        equity = one.position.isolated_margin
    else:
        equity = summary.equity / one.rate - sum(each.unrealized_pnl for each in moving) - still
    return liquidation, zero_of(one.instrument, *line(one.instrument, legs, None, equity, drift))


def drift_of(one: PositionFigures, summary: Summary) -> Decimal:
    """What collateral and debts that the position's own mark values gain with it, per unit, in the settlement asset.

    Of a cross position in a linear contract: a long on bitcoin that bitcoin stands behind ends earlier, and one that
    owes bitcoin later.
    """
    if one.isolated or one.instrument.inverse:
        return ZERO
    return summary.valued.get(one.position.symbol, ZERO) / one.rate


def legs_with(one: PositionFigures, summary: Summary) -> tuple[PositionFigures, ...]:
    """The positions whose profit moves with the mark of `one` and shares what stands behind it, itself among them."""
    if one.isolated:
        return (one,)
    return tuple(
        each for each in summary.positions if not each.isolated and each.position.symbol == one.position.symbol
    )


def collateral_behind(one: PositionFigures, summary: Summary) -> Decimal:
    """What absorbs the position's losses, in its settlement asset and without its own unrealised PnL.

    Isolated: the margin posted. Cross: equity without the instrument's positions less the maintenance margin of others.
    """
    if one.isolated:
        return one.position.isolated_margin
    moving = legs_with(one, summary)
    own_profit = sum((each.unrealized_pnl * each.rate for each in moving), ZERO)
    others = summary.maintenance - sum((each.maintenance_margin * each.rate for each in moving), ZERO)
    return (summary.equity - own_profit - others) / one.rate


def liquidation_price(
    instrument: Instrument, quantity: Decimal, entry: Decimal, collateral: Decimal, reference: Decimal
) -> Decimal | None:
    """The price at which maintenance margin equals what stands behind the position; None if no positive price does.

    `quantity` signed; `collateral` in the settlement asset, without the position's own PnL; `reference` is the present
    mark: tiers are walked from there in the losing direction, each with its own rate and deduction, and a tier whose
    requirement jumps at its start (no deduction) liquidates at that start. Formulas: Binance FAQ b3c689c1 (linear,
    with deduction, both legs in hedge mode), OKX help 7053484440205 (linear and inverse, with fee), Bybit margin
    parameters (on entry).
    """
    return first_crossing(instrument, ((quantity, entry),), collateral, reference)


def bankruptcy_price(instrument: Instrument, quantity: Decimal, entry: Decimal, collateral: Decimal) -> Decimal | None:
    """The price at which the position's loss equals `collateral`; None if no positive price does."""
    return zero_of(instrument, *line(instrument, ((quantity, entry),), None, collateral))


def first_crossing(
    instrument: Instrument, legs: tuple[Leg, ...], collateral: Decimal, reference: Decimal, drift: Decimal = ZERO
) -> Decimal | None:
    """The first price, from `reference` where the account loses, at which the legs need what stands behind them.

    That moves by `drift` per unit of the price. Legs that nearly offset each other, or are offset by it, may lose less
    than their requirement falls: then it lies the other way.
    """
    held = sum((quantity for quantity, _ in legs), ZERO)
    losing_up = held * instrument.contract_size + drift < 0 if drift else held < 0
    price = crossing(instrument, legs, collateral, reference, losing_up, drift)
    if price is None and (len(legs) > 1 or drift):
        price = crossing(instrument, legs, collateral, reference, not losing_up, drift)
    return price


def crossing(
    instrument: Instrument,
    legs: tuple[Leg, ...],
    collateral: Decimal,
    reference: Decimal,
    up: bool,
    drift: Decimal = ZERO,
) -> Decimal | None:
    """The first price at or beyond `reference`, upwards or downwards, at which the requirement is met no longer."""
    start = reference
    for stop in (*boundaries(instrument, legs, reference, up), None):
        within = start * 2 if up else start / 2
        if stop is not None:
            within = (start + stop) / 2
        constant, slope = line(instrument, legs, tiers_at(instrument, legs, within), collateral, drift)
        price = zero_of(instrument, constant, slope)
        if constant + slope * coordinate(instrument, start) <= 0:
            return price if start == reference else start
        if price is not None and is_between(price, start, stop, up):
            return price
        if stop is not None:
            start = stop
    return None


def line(
    instrument: Instrument,
    legs: tuple[Leg, ...],
    tiers: tuple[Tier, ...] | None,
    collateral: Decimal,
    drift: Decimal = ZERO,
) -> tuple[Decimal, Decimal]:
    """(constant, slope) of equity less requirement: straight in the price, or for inverse contracts in 1 ÷ price.

    Without `tiers` nothing is required. What stands behind the legs is `collateral` + `drift` × price.
    """
    constant, slope = collateral, drift
    on_entry = instrument.rules.maintenance_margin_base is MarginBase.ENTRY
    for index, (quantity, entry) in enumerate(legs):
        size = quantity * instrument.contract_size
        constant += size / entry if instrument.inverse else -size * entry
        slope += -size if instrument.inverse else size
        if tiers is None:
            continue
        weight = tiers[index].maintenance_rate
        if instrument.rules.fee_in_maintenance:
            weight += instrument.taker_fee_rate
        constant += tiers[index].deduction
        if on_entry:
            constant -= notional(instrument, quantity, entry) * weight
        else:
            slope -= abs(size) * weight
    return constant, slope


def coordinate(instrument: Instrument, price: Decimal) -> Decimal:
    """What profit and margin are straight lines of."""
    return ONE / price if instrument.inverse else price


def zero_of(instrument: Instrument, constant: Decimal, slope: Decimal) -> Decimal | None:
    """The positive price at which the line is zero."""
    if slope == 0 or constant == 0:
        return None
    at = -slope / constant if instrument.inverse else -constant / slope
    return at if at > 0 else None


def tiers_at(instrument: Instrument, legs: tuple[Leg, ...], price: Decimal) -> tuple[Tier, ...]:
    """The tier of each leg at `price`, or at its entry where margin is counted on entry."""
    on_entry = instrument.rules.maintenance_margin_base is MarginBase.ENTRY
    return tuple(
        tier_at(instrument, notional(instrument, quantity, entry if on_entry else price)) for quantity, entry in legs
    )


def boundaries(instrument: Instrument, legs: tuple[Leg, ...], reference: Decimal, up: bool) -> list[Decimal]:
    """The prices beyond `reference` at which a leg changes its tier, the nearest first."""
    if instrument.rules.maintenance_margin_base is MarginBase.ENTRY:
        return []
    sizes = [abs(quantity) * instrument.contract_size for quantity, _ in legs]
    starts = [tier.notional_from for tier in instrument.tiers[1:]]
    prices = {size / start if instrument.inverse else start / size for size in sizes for start in starts}
    return sorted((price for price in prices if (price > reference) is up and price != reference), reverse=not up)


def is_between(price: Decimal, start: Decimal, stop: Decimal | None, up: bool) -> bool:
    if up:
        return price >= start and (stop is None or price <= stop)
    return price <= start and (stop is None or price >= stop)
