"""Prices: the latest mark of each instrument, how old it is, and what one asset is worth in another."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.money import ONE, ZERO


class Mark(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The price used for margin, where it came from, the venue's time and ours."""

    symbol: str
    price: Decimal
    source: str
    source_time: datetime
    received_at: datetime
    recorded: bool = False
    """Read from a recording: prices sandbox accounts only."""

    def age_seconds(self, at: datetime) -> float:
        return (at - self.received_at).total_seconds()


class HeldPrice(msgspec.Struct, frozen=True, gc=False):
    """A price that assets are valued by while a print that deviates from it waits to be confirmed."""

    mark: Mark
    """The last trusted one."""
    printed: Mark
    """The print that waits."""
    since: datetime


class Tiering(StrEnum):
    SLICED = "SLICED"
    """Each part of the amount counts at the haircut of the tier that it lies in."""
    WHOLE = "WHOLE"
    """The whole amount counts at the haircut of the tier that it reaches."""


class TierMeasure(StrEnum):
    AMOUNT = "AMOUNT"
    VALUE = "VALUE"
    """At full price, in the account's currency."""


class HaircutTier(msgspec.Struct, frozen=True, omit_defaults=True):
    """The haircut up to an amount or value, inclusive; `up_to` None is the last tier."""

    up_to: Decimal | None
    haircut: Decimal


class AssetRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an asset counts for as collateral, and its price: `rates` by currency, else the mark of `priced_by`.

    `haircut_tiers`, where there are any, ascend and take the place of the flat haircut.
    """

    asset: str
    haircut: Decimal = ZERO
    priced_by: str = ""
    rates: dict[str, Decimal] = {}
    haircut_tiers: tuple[HaircutTier, ...] = ()
    tiering: Tiering = Tiering.SLICED
    tiers_by: TierMeasure = TierMeasure.AMOUNT


class FundingRate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What longs pay shorts at one instant, as a share of the notional at `mark`; below zero shorts pay."""

    symbol: str
    rate: Decimal
    mark: Decimal
    at: datetime


class Unpriced(Exception):
    """An asset has no price in the currency asked for. `missing` names the instrument or the asset without one."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"no price for {missing}")
        self.missing = missing


def asset_price(
    asset: str,
    currency: str,
    assets: Mapping[str, AssetRule],
    instruments: Mapping[str, Instrument],
    marks: Mapping[str, Mark],
    used: dict[str, Mark],
) -> Decimal:
    """Price of one unit of `asset` in `currency`; marks that were read are added to `used`. Raises Unpriced.

    A configured rate comes first, then the inverse of the opposite rate, then the mark of the asset's instrument
    (whose quote asset is valued the same way).
    """
    if asset == currency:
        return ONE
    rule = assets.get(asset)
    if rule is not None:
        rate = rule.rates.get(currency)
        if rate is not None:
            return rate
        if rule.priced_by:
            instrument = instruments.get(rule.priced_by)
            mark = marks.get(rule.priced_by)
            if instrument is None or mark is None:
                raise Unpriced(rule.priced_by)
            used[mark.symbol] = mark
            return mark.price * asset_price(instrument.quote, currency, assets, instruments, marks, used)
    opposite = assets.get(currency)
    if opposite is not None and asset in opposite.rates:
        return ONE / opposite.rates[asset]
    raise Unpriced(f"{asset}/{currency}")
