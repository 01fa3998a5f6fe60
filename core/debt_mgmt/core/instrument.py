"""What can be traded: contract terms, risk tiers, and the formulas that follow from the kind of contract."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.money import ONE, ZERO


class InstrumentKind(StrEnum):
    LINEAR = "LINEAR"
    """Quantity in contracts of the base asset, profit in the quote asset."""
    INVERSE = "INVERSE"
    """Quantity in contracts worth a fixed amount of quote asset, profit in the base asset."""
    SPOT_MARGIN = "SPOT_MARGIN"
    """Bought or sold with borrowed money; margin and profit as a linear contract of size one."""


INVERSE = InstrumentKind.INVERSE
"""See `sides.BUY`."""


class MarginBase(StrEnum):
    MARK = "MARK"
    ENTRY = "ENTRY"


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of a venue's risk table. Notional in the settlement asset; `notional_to` None is open above."""

    notional_from: Decimal
    notional_to: Decimal | None
    maintenance_rate: Decimal
    max_leverage: Decimal
    deduction: Decimal = ZERO


class VenueRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a venue counts margin, as data. Sources per venue: docs/margin.md."""

    rules_id: str = "house"
    initial_margin_base: MarginBase = MarginBase.MARK
    maintenance_margin_base: MarginBase = MarginBase.MARK
    fee_in_maintenance: bool = False
    """The venue adds the taker fee of closing to maintenance margin, and so to the liquidation price."""
    effective_from: str = ""
    """ISO date from which these rules hold; empty where unknown."""
    isolated_margin_base: MarginBase | None = None
    """The same as initial_margin_base, of isolated positions, where the venue has another one for them."""
    short_margin_base: MarginBase | None = None
    """The same of short positions: margin on what was borrowed and sold floats with its price."""
    fee_in_initial: bool = False
    """The venue adds the taker fee of closing at the bankruptcy price to initial margin."""
    trigger_is_strict: bool = False
    """The venue liquidates below maintenance margin only, not at it."""


def margin_base(rules: VenueRules, quantity: Decimal, *, isolated: bool = False) -> MarginBase:
    """Which price the initial margin of a position is counted at; the sign of `quantity` says the side."""
    if isolated and rules.isolated_margin_base is not None:
        return rules.isolated_margin_base
    if quantity < 0 and rules.short_margin_base is not None:
        return rules.short_margin_base
    return rules.initial_margin_base


class Instrument(msgspec.Struct, frozen=True, omit_defaults=True):
    """Terms of one instrument. Prices in the quote asset, margin and profit in the settlement asset."""

    symbol: str
    kind: InstrumentKind
    base: str
    quote: str
    settle: str
    contract_size: Decimal
    lot: Decimal
    tick: Decimal
    tiers: tuple[Tier, ...]
    max_leverage: Decimal
    min_quantity: Decimal = ZERO
    max_quantity: Decimal | None = None
    min_notional: Decimal = ZERO
    taker_fee_rate: Decimal = ZERO
    maker_fee_rate: Decimal = ZERO
    rules: VenueRules = VenueRules()

    @property
    def inverse(self) -> bool:
        return self.kind is INVERSE


def notional(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    """Unsigned value of `quantity` contracts at `price`, in the settlement asset.

    Linear: quantity × contract size × price. Inverse: quantity × contract size ÷ price.
    """
    size = abs(quantity) * instrument.contract_size
    return size / price if instrument.kind is INVERSE else size * price


def profit(instrument: Instrument, quantity: Decimal, entry: Decimal, price: Decimal) -> Decimal:
    """Profit of a signed `quantity` opened at `entry` and valued at `price`, in the settlement asset.

    Linear: q × size × (price − entry). Inverse: q × size × (1/entry − 1/price).
    """
    size = quantity * instrument.contract_size
    if instrument.kind is INVERSE:
        return size * (price - entry) / (entry * price)
    return size * (price - entry)


def average_entry(instrument: Instrument, held: Decimal, entry: Decimal, added: Decimal, price: Decimal) -> Decimal:
    """Entry price after adding `added` contracts at `price` to `held` contracts at `entry` (both unsigned).

    Linear: weighted by quantity. Inverse: harmonic, so that the value in coin is kept.
    """
    if held == 0:
        return price
    if instrument.kind is INVERSE:
        return (held + added) / (held / entry + added / price)
    return (held * entry + added * price) / (held + added)


def tier_at(instrument: Instrument, value: Decimal) -> Tier:
    """The tier whose notional range holds `value`: from its lower bound, inclusive, to its upper bound, exclusive."""
    for tier in instrument.tiers:
        if tier.notional_to is None or value < tier.notional_to:
            return tier
    return instrument.tiers[-1]


def initial_margin(instrument: Instrument, quantity: Decimal, price: Decimal, leverage: Decimal) -> Decimal:
    """notional ÷ leverage, in the settlement asset, plus the closing fee at bankruptcy where the venue counts it.

    The sign of `quantity` says the side: where a long ends lies below the price, where a short ends above it.
    """
    value = notional(instrument, quantity, price)
    if not instrument.rules.fee_in_initial:
        return value / leverage
    return value / leverage + value * closing_fee_rate(instrument, quantity, leverage)


def closing_fee_rate(instrument: Instrument, quantity: Decimal, leverage: Decimal) -> Decimal:
    """The fee of closing at the bankruptcy price, as a share of the notional: taker × (1 − s ÷ leverage), inverse +.

    Bybit, order cost: fee to close = quantity × bankruptcy price × taker rate.
    """
    above = (quantity < 0) is not instrument.inverse
    return instrument.taker_fee_rate * (ONE + ONE / leverage if above else ONE - ONE / leverage)


def margin_share(instrument: Instrument, quantity: Decimal, leverage: Decimal) -> Decimal:
    """Initial margin as a share of the notional."""
    fee = closing_fee_rate(instrument, quantity, leverage) if instrument.rules.fee_in_initial else ZERO
    return ONE / leverage + fee


def maintenance_margin(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    """notional × tier rate − tier deduction, plus the closing fee where the venue counts it; never below zero.

    `price` is the mark, or the entry price under rules that count maintenance margin on entry.
    """
    value = notional(instrument, quantity, price)
    tier = tier_at(instrument, value)
    amount = value * tier.maintenance_rate - tier.deduction
    if instrument.rules.fee_in_maintenance:
        amount += value * instrument.taker_fee_rate
    return max(amount, ZERO)


def instrument_problems(instrument: Instrument) -> list[tuple[str, str]]:
    """Every (field, problem) that makes the terms unusable: tables with holes or falling rates are refused."""
    problems: list[tuple[str, str]] = []
    for name in ("contract_size", "lot", "tick", "max_leverage"):
        if getattr(instrument, name) <= 0:
            problems.append((name, "must be above zero"))
    for name in ("min_quantity", "min_notional", "taker_fee_rate", "maker_fee_rate"):
        if getattr(instrument, name) < 0 and name != "maker_fee_rate":
            problems.append((name, "must not be negative"))
    if instrument.max_quantity is not None and instrument.max_quantity < instrument.min_quantity:
        problems.append(("max_quantity", "is below min_quantity"))
    expected_settle = instrument.base if instrument.inverse else None
    if expected_settle is not None and instrument.settle != expected_settle:
        problems.append(("settle", f"an inverse contract settles in its base asset {expected_settle}"))
    problems += tier_problems(instrument.tiers)
    return problems


def tier_problems(tiers: tuple[Tier, ...]) -> list[tuple[str, str]]:
    """Every fault of a risk table: it must start at zero, be contiguous, and never fall in rate."""
    if not tiers:
        return [("tiers", "at least one tier is needed")]
    problems: list[tuple[str, str]] = []
    if tiers[0].notional_from != 0:
        problems.append(("tiers[0].notional_from", "the first tier starts at 0"))
    for index, tier in enumerate(tiers):
        place = f"tiers[{index}]"
        if not ZERO < tier.maintenance_rate < ONE:
            problems.append((f"{place}.maintenance_rate", "must lie between 0 and 1"))
        if tier.max_leverage < 1:
            problems.append((f"{place}.max_leverage", "must be at least 1"))
        elif tier.maintenance_rate * tier.max_leverage > 1:
            problems.append((f"{place}.max_leverage", "initial margin would be below maintenance margin"))
        if tier.deduction < 0:
            problems.append((f"{place}.deduction", "must not be negative"))
        if tier.notional_to is not None and tier.notional_to <= tier.notional_from:
            problems.append((f"{place}.notional_to", "must be above notional_from"))
        if index == 0:
            continue
        lower = tiers[index - 1]
        if lower.notional_to != tier.notional_from:
            problems.append((f"{place}.notional_from", "tiers must be contiguous"))
        if tier.maintenance_rate < lower.maintenance_rate:
            problems.append((f"{place}.maintenance_rate", "rates must not fall"))
        if tier.max_leverage > lower.max_leverage:
            problems.append((f"{place}.max_leverage", "leverage must not rise"))
        step = tier.notional_from * (tier.maintenance_rate - lower.maintenance_rate) + lower.deduction
        if tier.deduction and abs(tier.deduction - step) > max(step * Decimal("0.000001"), Decimal("0.01")):
            problems.append((f"{place}.deduction", "maintenance margin would jump at the tier's start"))
    return problems
