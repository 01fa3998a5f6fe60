"""How each venue counts margin, as data with the day from which it holds: one rule set is chosen for the sandbox.

What a set says is from the page that it names. Where a venue publishes its risk tables behind a login or per contract,
the table that the default instruments come with stands in, changed to the venue's rules: see `tiers_under`.
"""

from datetime import date
from decimal import Decimal

import msgspec

from debt_mgmt.core.instrument import Instrument, InstrumentKind, MarginBase, Tier, VenueRules
from debt_mgmt.core.market import HaircutTier
from debt_mgmt.core.money import ONE, ZERO, ceil_to_step, floor_to_step

HOUSE_RULES = "house"
RATE_RESOLUTION = Decimal("1E-8")
LEVERAGE_RESOLUTION = Decimal("0.01")


class RuleSet(msgspec.Struct, frozen=True):
    """The rules of one venue from one day on. Rates are fractions."""

    contract: VenueRules
    interest_clock: str
    sources: tuple[str, ...]
    spot_margin: VenueRules | None = None
    """Of spot bought or sold with borrowed money, where the venue has other rules for it."""
    deducts: bool = True
    """Maintenance margin is continuous over tiers; else the whole position takes the rate of its tier."""
    maintenance_of_initial: Decimal | None = None
    """Maintenance rate of a tier as a share of its initial margin rate; None where the table says the rate."""
    initial_rates: tuple[Decimal, ...] = ()
    """The only initial margin rates that the venue has, ascending; a tier takes the next one above its own."""
    taker_fee_rate: Decimal | None = None
    maker_fee_rate: Decimal | None = None
    haircuts: dict[str, Decimal] = {}
    haircut_tiers: dict[str, tuple[HaircutTier, ...]] = {}

    @property
    def rules_id(self) -> str:
        return self.contract.rules_id

    def of(self, kind: InstrumentKind) -> VenueRules:
        """How margin of this kind of instrument is counted."""
        return self.spot_margin if kind is InstrumentKind.SPOT_MARGIN and self.spot_margin else self.contract

    @property
    def effective_from(self) -> str:
        """ISO date; empty is from the beginning."""
        return self.contract.effective_from


def amounts(table: str) -> tuple[HaircutTier, ...]:
    """`10 0.02 · … · - 1`: haircut up to each amount, `-` without end."""
    rows = (row.split() for row in table.split("·"))
    return tuple(HaircutTier(None if up_to == "-" else Decimal(up_to), Decimal(haircut)) for up_to, haircut in rows)


def rates(text: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(rate) for rate in text.split())


RULE_SETS: tuple[RuleSet, ...] = (
    RuleSet(
        VenueRules(HOUSE_RULES),
        interest_clock="binance_hourly",
        sources=("the house's own: initial and maintenance margin at the mark, tiers with deduction",),
    ),
    RuleSet(
        VenueRules("binance", effective_from="2024-10-24"),
        interest_clock="binance_hourly",
        taker_fee_rate=Decimal("0.0005"),
        maker_fee_rate=Decimal("0.0002"),
        sources=(
            "Binance FAQ 360033162192, Leverage and Margin of USDⓈ-M Futures (tiers, deduction)",
            "Binance FAQ b3c689c1f50a44cabb3a84e663b81d93 (liquidation price)",
            "Binance FAQ c983a9268, Multi-Assets Mode (collateral)",
        ),
    ),
    RuleSet(
        VenueRules(
            "bybit",
            initial_margin_base=MarginBase.ENTRY,
            maintenance_margin_base=MarginBase.ENTRY,
            fee_in_initial=True,
            effective_from="1970-01-01",
        ),
        deducts=False,
        interest_clock="bybit_hourly",
        taker_fee_rate=Decimal("0.00055"),
        maker_fee_rate=Decimal("0.0002"),
        haircut_tiers={"BTC": amounts("10 0.02 · 20 0.05 · 30 0.10 · 40 0.15 · 50 0.20 · - 1")},
        sources=("Bybit, liquidation price of isolated USDT contracts, before the rules of July 2025",),
    ),
    RuleSet(
        VenueRules("bybit", fee_in_maintenance=True, fee_in_initial=True, effective_from="2025-07-01"),
        interest_clock="bybit_hourly",
        taker_fee_rate=Decimal("0.00055"),
        maker_fee_rate=Decimal("0.0002"),
        haircut_tiers={"BTC": amounts("10 0.02 · 20 0.05 · 30 0.10 · 40 0.15 · 50 0.20 · - 1")},
        sources=(
            "Bybit, margin parameters (deduction) and maintenance margin of the unified trading account",
            "Bybit, order cost of USDT contracts (fee to close at the bankruptcy price)",
            "Bybit, collateral value ratio (tiers by amount)",
        ),
    ),
    RuleSet(
        VenueRules("okx", isolated_margin_base=MarginBase.ENTRY, fee_in_maintenance=True),
        deducts=False,
        interest_clock="okx_hourly",
        taker_fee_rate=Decimal("0.0005"),
        maker_fee_rate=Decimal("0.0002"),
        sources=(
            "OKX help 7053484440205, perpetual and expiry futures: cross on the mark, isolated on the entry price",
        ),
    ),
    RuleSet(
        VenueRules("kraken", initial_margin_base=MarginBase.ENTRY, maintenance_margin_base=MarginBase.ENTRY),
        deducts=False,
        maintenance_of_initial=Decimal("0.5"),
        initial_rates=rates("0.02 0.04 0.06 0.10 0.15 0.20 0.25 0.30 0.40 0.50"),
        interest_clock="kraken_4h",
        taker_fee_rate=Decimal("0.0005"),
        maker_fee_rate=Decimal("0.0002"),
        spot_margin=VenueRules(
            "kraken",
            initial_margin_base=MarginBase.ENTRY,
            maintenance_margin_base=MarginBase.ENTRY,
            short_margin_base=MarginBase.MARK,
        ),
        sources=(
            "Kraken Futures, multi-collateral margin schedule: maintenance is half of initial, on the entry price",
            "Kraken support, trading on margin: the used margin of a long is fixed, that of a short floats",
        ),
    ),
    RuleSet(
        VenueRules("coinbase"),
        deducts=False,
        maintenance_of_initial=Decimal(2) / Decimal(3),
        interest_clock="binance_hourly",
        haircuts={"BTC": Decimal("0.10"), "ETH": Decimal("0.10")},
        sources=("Coinbase International Exchange, margin: maintenance is two thirds of initial; collateral weights",),
    ),
    RuleSet(
        VenueRules("cryptocom", trigger_is_strict=True),
        deducts=False,
        interest_clock="cryptocom_hourly",
        sources=("Crypto.com Exchange, smart cross margin: liquidation when margin balance < maintenance margin",),
    ),
)

VENUES = tuple(dict.fromkeys(one.rules_id for one in RULE_SETS))


def rule_set(rules_id: str, on: date) -> RuleSet:
    """The venue's rules in force on a day: the latest that began by then. Raises KeyError for an unknown venue.

    A day before the first known rules gets those, which are the oldest there are.
    """
    known = sorted((one for one in RULE_SETS if one.rules_id == rules_id), key=lambda one: one.effective_from)
    if not known:
        raise KeyError(rules_id)
    begun = [one for one in known if not one.effective_from or date.fromisoformat(one.effective_from) <= on]
    return begun[-1] if begun else known[0]


def under(rules: RuleSet, instrument: Instrument) -> Instrument:
    """The instrument as the venue would have it: tiers, fees, and how margin is counted."""
    tiers = tiers_under(rules, instrument.tiers)
    return msgspec.structs.replace(
        instrument,
        tiers=tiers,
        max_leverage=min(instrument.max_leverage, tiers[0].max_leverage),
        taker_fee_rate=rules.taker_fee_rate if rules.taker_fee_rate is not None else instrument.taker_fee_rate,
        maker_fee_rate=rules.maker_fee_rate if rules.maker_fee_rate is not None else instrument.maker_fee_rate,
        rules=rules.of(instrument.kind),
    )


def tiers_under(rules: RuleSet, table: tuple[Tier, ...]) -> tuple[Tier, ...]:
    """A risk table changed to a venue's rules: its initial margin rates, maintenance as a share of them, deductions.

    A table that has nothing to change is returned as it is.
    """
    if rules.deducts and rules.maintenance_of_initial is None and not rules.initial_rates:
        return table
    found: list[Tier] = []
    for tier in table:
        leverage, rate, initial = tier.max_leverage, tier.maintenance_rate, ONE / tier.max_leverage
        if rules.initial_rates:
            initial = next((one for one in rules.initial_rates if one >= initial), rules.initial_rates[-1])
            leverage = min(leverage, floor_to_step(ONE / initial, LEVERAGE_RESOLUTION))
        if rules.maintenance_of_initial is not None:
            rate = ceil_to_step(rules.maintenance_of_initial * initial, RATE_RESOLUTION)
        deduction = ZERO
        if rules.deducts and found:
            deduction = tier.notional_from * (rate - found[-1].maintenance_rate) + found[-1].deduction
        found.append(Tier(tier.notional_from, tier.notional_to, rate, leverage, deduction))
    return tuple(found)


def is_liquidated(rules: VenueRules, maintenance: Decimal, equity: Decimal) -> bool:
    """Whether the venue liquidates here. Where there is nothing to maintain, it does not."""
    if maintenance <= 0:
        return False
    return equity < maintenance if rules.trigger_is_strict else equity <= maintenance
