"""A venue's markets as the house's instruments: their names, terms and risk tiers."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from debt_mgmt.core.instrument import Instrument, InstrumentKind, Tier
from debt_mgmt.core.money import ONE, ZERO
from debt_mgmt.server.brokers.broker import NotPossible, Rejected, RejectionReason, Unreachable
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.ccxt_numbers import needed, number
from debt_mgmt.server.brokers.profiles import TierSource, VenueProfile

Market = Mapping[str, Any]

HALF = Decimal("0.5")
FEE_RATE_BEYOND = Decimal("0.02")


class Markets:
    """The markets of one venue, once they are loaded, by the house's names and by the client library's."""

    def __init__(self, profile: VenueProfile, listed: Mapping[str, Market]) -> None:
        self.profile = profile
        self.by_house: dict[str, Market] = {}
        self.house_names: dict[str, str] = {}
        for symbol, market in sorted(listed.items()):
            name = house_name(profile, market)
            if name is not None and name not in self.by_house:
                self.by_house[name] = market
                self.house_names[symbol] = name

    def market(self, symbol: str) -> Market:
        """The market of a house name; raises Rejected (INVALID) for one that is not traded there."""
        if symbol not in self.by_house:
            words = f"{self.profile.display_name} does not trade {symbol!r} through this service"
            raise Rejected(words, reason=RejectionReason.INVALID)
        return self.by_house[symbol]

    def venue_symbol(self, symbol: str) -> str:
        """The client library's name of a house name."""
        return str(self.market(symbol)["symbol"])

    def house(self, venue_symbol: str | None) -> str | None:
        """The house's name; None for a market that is no instrument of the house."""
        return self.house_names.get(venue_symbol or "")


def house_name(profile: VenueProfile, market: Market) -> str | None:
    """`bybit:BTCUSDT`; dated futures carry their day. None where the profile does not trade this kind."""
    base, quote, settle = market["base"], market["quote"], market.get("settle")
    plain = f"{profile.broker}:{base}{quote}"
    if market.get("spot"):
        lends = "margin" in profile.contract_kinds and any(leverages(market))
        return plain if lends else None
    kind = "linear" if market.get("linear") else "inverse" if market.get("inverse") else ""
    if kind not in profile.contract_kinds or settle != (quote if kind == "linear" else base):
        return None
    if market.get("swap"):
        return plain
    if market.get("future") and "dated" in profile.contract_kinds:
        day = str(market["symbol"]).rpartition("-")[2]
        return f"{plain}-{day}"
    return None


def venue_symbol(link: Link, market_id: str) -> str:
    client = link.client
    if link.profile.broker == "kraken":
        return str(client.safe_symbol(market_id))
    return str(client.safe_symbol(market_id, None, None, "contract" if link.profile.broker != "coinbase" else None))


def leverages(market: Market) -> tuple[list[int], list[int]]:
    """With how much a spot pair may be bought, and sold."""
    info = market.get("info") or {}
    return [int(one) for one in info.get("leverage_buy") or ()], [int(one) for one in info.get("leverage_sell") or ()]


def instrument_of(profile: VenueProfile, name: str, market: Market, tiers: tuple[Tier, ...]) -> Instrument:
    """The terms of a market, in the house's words."""
    spot = bool(market.get("spot"))
    inverse = bool(market.get("inverse"))
    limits = market.get("limits") or {}
    amounts, costs = limits.get("amount") or {}, limits.get("cost") or {}
    lot = needed(market["precision"], "amount")
    kind = InstrumentKind.SPOT_MARGIN if spot else InstrumentKind.INVERSE if inverse else InstrumentKind.LINEAR
    return Instrument(
        symbol=name,
        kind=kind,
        base=market["base"],
        quote=market["quote"],
        settle=market["quote"] if spot else market["settle"],
        contract_size=ONE if spot else needed(market, "contractSize"),
        lot=lot,
        tick=needed(market["precision"], "price"),
        tiers=tiers,
        max_leverage=tiers[0].max_leverage,
        min_quantity=number(amounts.get("min")) or lot,
        max_quantity=number(amounts.get("max")),
        min_notional=ZERO if inverse else number(costs.get("min")) or ZERO,
        taker_fee_rate=fee_rate(market.get("taker")),
        maker_fee_rate=fee_rate(market.get("maker")),
        rules=profile.rules,
    )


def fee_rate(value: Any) -> Decimal:
    """A fee rate; zero where it is not told. The client library writes percents for some that it only guesses."""
    rate = number(value) or ZERO
    return rate if rate < FEE_RATE_BEYOND else ZERO


async def read_tiers(link: Link, markets: Markets, names: Sequence[str]) -> dict[str, tuple[Tier, ...]]:
    """Risk tiers by house name, as the venue tells them. Raises Unreachable where it tells none."""
    source = link.profile.tier_source
    if source is TierSource.LEVERAGE_LIST:
        return {name: listed_tiers(markets.market(name)) for name in names}
    if source is TierSource.LEVERAGE_MAX:
        return {name: single_tier(markets.market(name)) for name in names}
    if source is TierSource.NONE:
        rate = link.profile.maintenance_rate
        assert rate is not None
        return {name: (Tier(ZERO, None, rate, ONE),) for name in names}
    if link.profile.broker == "binance":
        return await all_tiers(link, markets, names)
    units = await tier_units(link, markets, names) if source is TierSource.CONTRACTS else dict.fromkeys(names, ONE)
    found = {}
    for name in names:
        async with link.asking() as client:
            rows = await client.fetch_market_leverage_tiers(markets.venue_symbol(name))
            found[name] = tiers_of(rows, units[name])
    return found


async def all_tiers(link: Link, markets: Markets, names: Sequence[str]) -> dict[str, tuple[Tier, ...]]:
    """Binance tells the tiers of all instruments in one call, and only to a key."""
    if link.credentials is None:
        raise NotPossible("Binance tells risk tiers only to a key")
    if not names:
        return {}
    async with link.asking() as client:
        rows = await client.fetch_leverage_tiers([markets.venue_symbol(name) for name in names])
        return {name: tiers_of(rows[markets.venue_symbol(name)], ONE) for name in names}


async def tier_units(link: Link, markets: Markets, names: Sequence[str]) -> dict[str, Decimal]:
    """What one contract of each is worth in its settlement asset at the present mark: OKX bounds tiers in contracts."""
    if not names:
        return {}
    async with link.asking() as client:
        rows = (await client.publicGetPublicMarkPrice({"instType": "SWAP"}))["data"]
        marks = {row["instId"]: needed(row, "markPx") for row in rows}
        units = {}
        for name in names:
            market = markets.market(name)
            size, mark = needed(market, "contractSize"), marks[market["id"]]
            units[name] = size / mark if market.get("inverse") else size * mark
        return units


def tiers_of(rows: Sequence[Mapping[str, Any]], unit: Decimal) -> tuple[Tier, ...]:
    """Tiers of the client library's rows, each bound times `unit`; the last one is open above."""
    ordered = sorted(rows, key=lambda row: number(row.get("minNotional")) or ZERO)
    if not ordered:
        raise Unreachable("the venue tells no risk tiers", code="NO_TIERS")
    found: list[Tier] = []
    start = ZERO
    for place, row in enumerate(ordered, start=1):
        info = row.get("info") or {}
        end = None if place == len(ordered) else needed(row, "maxNotional") * unit
        deduction = number(info.get("mmDeduction")) or number(info.get("cum")) or ZERO
        rate, leverage = needed(row, "maintenanceMarginRate"), needed(row, "maxLeverage")
        found.append(Tier(start, end, rate, leverage, deduction))
        start = ZERO if end is None else end
    return tuple(found)


def listed_tiers(market: Market) -> tuple[Tier, ...]:
    """Kraken: margin used is value ÷ leverage, and it liquidates where equity falls to `margin_stop` % of that.

    As a share of the value this is largest at the lowest leverage, 2: the house counts with that one, and takes no
    leverage at which it would be more than the initial margin.
    """
    buy, sell = leverages(market)
    usable = sorted(set(buy) & set(sell)) or sorted({*buy, *sell})
    stop = needed(market["info"], "margin_stop") / 100
    rate = stop / usable[0]
    highest = min(Decimal(usable[-1]), ONE / rate)
    return (Tier(ZERO, None, rate, highest),)


def single_tier(market: Market) -> tuple[Tier, ...]:
    """Crypto.com: the instrument's highest leverage, and half the initial margin at it as maintenance margin."""
    highest = needed(market["info"], "max_leverage")
    return (Tier(ZERO, None, HALF / highest, highest),)
