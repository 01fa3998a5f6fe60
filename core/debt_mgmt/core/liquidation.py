"""The plan of a forced reduction: the smallest set of reduce-only orders that brings utilisation back to its target."""

from collections import defaultdict
from decimal import Decimal

from debt_mgmt.core.account import Position, Reduction, ReductionCause, ReductionStep, Side
from debt_mgmt.core.margin import PositionFigures, Summary, World
from debt_mgmt.core.money import ONE, ZERO, ceil_to_step, ratio
from debt_mgmt.core.settings import RiskSettings, fee_rate


def plan_id_of(shard: int, position: int) -> str:
    """The id of a plan, from the place of its event in the journal."""
    return f"{shard}-{position}"


def client_order_id(plan_id: str, step: int) -> str:
    """The same step of the same plan always has the same id, so a venue recognises a repeat."""
    return f"liq-{plan_id}-{step}"


def forced_plan(summary: Summary, world: World, plan_id: str, reason: str) -> Reduction:
    """Reduce cross positions until margin used ≤ `liquidation_target` × equity.

    First the legs that carry their asset's net exposure, the largest margin first; only then hedged pairs, both sides
    by the same fraction, so that closing one leg never uncovers the other.
    """
    quantities = forced_quantities(summary, world)
    chosen = [one for one in by_relief(summary) if quantities.get(one.position.key)]
    steps = tuple(
        step_of(plan_id, number, one.position, quantities[one.position.key], ReductionCause.FORCED)
        for number, one in enumerate(chosen, start=1)
    )
    return Reduction(
        plan_id=plan_id,
        cause=ReductionCause.FORCED,
        reason=reason,
        started_at=world.at,
        steps=steps,
        utilization_before=ratio(summary.used, summary.equity),
        marks=summary.marks_used(),
    )


def step_of(plan_id: str, number: int, position: Position, quantity: Decimal, cause: ReductionCause) -> ReductionStep:
    return ReductionStep(
        step=number,
        client_order_id=client_order_id(plan_id, number),
        symbol=position.symbol,
        position_side=position.side,
        side=Side.SELL if position.quantity > 0 else Side.BUY,
        quantity=quantity,
        cause=cause,
    )


def by_relief(summary: Summary) -> list[PositionFigures]:
    """Cross positions by the margin that closing them gives back, the largest first; ties by name."""
    crossed = [one for one in summary.positions if not one.isolated]
    return sorted(crossed, key=lambda one: (-one.initial_margin * one.rate, one.position.key))


def forced_quantities(summary: Summary, world: World) -> dict[str, Decimal]:
    """Contracts to close by position key."""
    settings = world.settings
    shortfall = summary.used - settings.liquidation_target * summary.equity
    positions = by_relief(summary)
    reliefs = {one.position.key: relief_per_contract(one, settings) for one in positions}
    net = net_exposure(positions)
    closing: dict[str, Decimal] = {}
    for one in positions:
        if shortfall <= 0:
            return closing
        exposure = net[one.instrument.base]
        if exposure * one.position.quantity <= 0:
            continue
        per_contract = one.notional * one.rate / abs(one.position.quantity)
        most = min(abs(one.position.quantity), abs(exposure) / per_contract)
        if most < abs(one.position.quantity):
            most = most // one.instrument.lot * one.instrument.lot
        quantity = lots_for(one, shortfall / reliefs[one.position.key], most)
        if quantity == 0:
            continue
        closing[one.position.key] = quantity
        net[one.instrument.base] -= (quantity * per_contract).copy_sign(exposure)
        shortfall -= quantity * reliefs[one.position.key]
    if shortfall <= 0:
        return closing
    left = {one.position.key: abs(one.position.quantity) - closing.get(one.position.key, ZERO) for one in positions}
    relief = sum((left[key] * reliefs[key] for key in left), ZERO)
    fraction = min(ONE, shortfall / relief) if relief > 0 else ONE
    for one in positions:
        remaining = left[one.position.key]
        if remaining:
            more = lots_for(one, remaining * fraction, remaining)
            closing[one.position.key] = closing.get(one.position.key, ZERO) + more
    return closing


def net_exposure(positions: list[PositionFigures]) -> dict[str, Decimal]:
    """Signed exposure per base asset in the account's currency."""
    net: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for one in positions:
        net[one.instrument.base] += (one.notional * one.rate).copy_sign(one.position.quantity)
    return net


def relief_per_contract(one: PositionFigures, settings: RiskSettings) -> Decimal:
    """What closing one contract takes off (margin used − target × equity), its own cost reckoned with."""
    held = abs(one.position.quantity)
    cost = settings.liquidation_target * cost_rate(one, settings) * one.notional
    relief = (one.initial_margin - cost) * one.rate / held
    return relief if relief > 0 else one.initial_margin * one.rate / held


def cost_rate(one: PositionFigures, settings: RiskSettings) -> Decimal:
    """What closing is expected to cost, as a share of the notional at the mark: slippage to a tick, and the fee."""
    slippage = settings.slippage_rate
    if slippage:
        slippage += one.instrument.tick / one.mark.price
        if one.instrument.inverse:
            slippage /= ONE - slippage
    return slippage + fee_rate(one.instrument, settings) * (ONE + slippage)


def lots_for(one: PositionFigures, wanted: Decimal, most: Decimal) -> Decimal:
    """`wanted` contracts rounded up to what the venue takes, at most `most`; a rest too small to trade goes too."""
    instrument = one.instrument
    quantity = max(ceil_to_step(wanted, instrument.lot), instrument.min_quantity)
    if quantity >= most or most - quantity < max(instrument.lot, instrument.min_quantity):
        return most
    return quantity
