"""What an asset counts for as collateral: haircuts that are flat, sliced by tiers, or stepped for the whole amount."""

import math
from decimal import Decimal

from debt_mgmt.core.market import AssetRule, HaircutTier, Tiering, TierMeasure
from debt_mgmt.core.money import ONE, ZERO


def counted(rule: AssetRule | None, amount: Decimal, price: Decimal) -> Decimal:
    """Collateral value of `amount` at `price`: amount × price × (1 − haircut); a negative amount counts in full.

    Sliced tiers (Bybit, by amount): each part counts at the haircut of its own tier. Whole tiers (OKX's discount steps,
    by value): all of it counts at the haircut of the tier that it reaches.
    """
    if rule is None or amount <= 0:
        return amount * price
    if not rule.haircut_tiers:
        return amount * price * (ONE - rule.haircut) if rule.haircut else amount * price
    measured = amount * price if rule.tiers_by is TierMeasure.VALUE else amount
    if rule.tiering is Tiering.WHOLE:
        return amount * price * (ONE - tier_of(rule, measured).haircut)
    kept, start = ZERO, ZERO
    for tier in rule.haircut_tiers:
        end = measured if tier.up_to is None else min(measured, tier.up_to)
        kept += max(ZERO, end - start) * (ONE - tier.haircut)
        start = end
    return kept if rule.tiers_by is TierMeasure.VALUE else kept * price


def tier_of(rule: AssetRule, measured: Decimal) -> HaircutTier:
    """The tier that an amount or value lies in; what is beyond the last bounded tier counts for nothing."""
    for tier in rule.haircut_tiers:
        if tier.up_to is None or measured <= tier.up_to:
            return tier
    return HaircutTier(None, ONE)


def highest_weight(rule: AssetRule | None) -> Decimal:
    """The most that a unit of value counts for, so that no unit taken away counts for more."""
    if rule is None:
        return ONE
    return ONE - min((tier.haircut for tier in rule.haircut_tiers), default=rule.haircut)


def value_slope(rule: AssetRule, amount: Decimal, price: Decimal) -> tuple[Decimal, float, float]:
    """(slope, least, most): between these prices the collateral value moves by `slope` per unit of price.

    For tiers by value alone, whose tier changes with the price; a price on a bound is outside.
    """
    value = amount * price
    start, kept = ZERO, ZERO
    for tier in (*rule.haircut_tiers, HaircutTier(None, ONE)):
        if tier.up_to is None or value < tier.up_to:
            kept = ONE - tier.haircut
            most = math.inf if tier.up_to is None else float(tier.up_to / amount)
            return amount * kept, float(start / amount), most
        start = tier.up_to
    raise AssertionError("the last tier is open")


def slope_of(rule: AssetRule | None, amount: Decimal, price: Decimal) -> Decimal:
    """What the collateral value of `amount` gains per unit of the price, at `price`."""
    if rule is not None and rule.haircut_tiers and rule.tiers_by is TierMeasure.VALUE and amount > 0:
        return value_slope(rule, amount, price)[0]
    return counted(rule, amount, ONE)


def tier_problems(rule: AssetRule) -> list[tuple[str, str]]:
    """Every (field, problem) that makes a table of haircuts unusable."""
    problems: list[tuple[str, str]] = []
    before = ZERO
    for number, tier in enumerate(rule.haircut_tiers):
        place = f"haircut_tiers[{number}]"
        if not ZERO <= tier.haircut <= ONE:
            problems.append((f"{place}.haircut", "must be from 0 to 1"))
        if number and tier.haircut < rule.haircut_tiers[number - 1].haircut:
            problems.append((f"{place}.haircut", "haircuts must not fall"))
        if tier.up_to is None:
            if number + 1 < len(rule.haircut_tiers):
                problems.append((f"{place}.up_to", "only the last tier may be open"))
            continue
        if tier.up_to <= before:
            problems.append((f"{place}.up_to", "tiers must ascend"))
        before = tier.up_to
    return problems
