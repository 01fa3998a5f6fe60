"""What a new house trades: default instruments with real risk tiers, and what assets count for as collateral."""

from collections.abc import Mapping
from decimal import Decimal

from debt_mgmt.core.instrument import Instrument, InstrumentKind, Tier, VenueRules
from debt_mgmt.core.market import AssetRule, HaircutTier
from debt_mgmt.core.money import ZERO

TIERS_DATE = "2024-10-24"
"""Risk tiers of Binance USD-M perpetuals as published on this day. Venues change them with days' notice."""

# Rows: notional to (the last is the end of the table and left open), maintenance rate, highest leverage, deduction.
BTC = """
    50000 0.004 125 0 · 600000 0.005 100 50 · 3000000 0.0065 75 950 · 12000000 0.01 50 11450 · 70000000 0.02 25 131450
    · 100000000 0.025 20 481450 · 230000000 0.05 10 2981450 · 480000000 0.1 5 14481450 · 600000000 0.125 4 26481450
    · 800000000 0.15 3 41481450 · 1200000000 0.25 2 121481450 · 1800000000 0.5 1 421481450
"""
ETH = """
    50000 0.004 125 0 · 600000 0.005 100 50 · 3000000 0.0065 75 950 · 12000000 0.01 50 11450 · 50000000 0.02 25 131450
    · 65000000 0.025 20 381450 · 150000000 0.05 10 2006450 · 320000000 0.1 5 9506450 · 400000000 0.125 4 17506450
    · 530000000 0.15 3 27506450 · 800000000 0.25 2 80506450 · 1200000000 0.5 1 280506450
"""
SOL = """
    20000 0.005 100 0 · 100000 0.0065 75 30 · 800000 0.01 50 380 · 4000000 0.02 25 8380 · 8000000 0.025 20 28380
    · 40000000 0.05 10 228380 · 80000000 0.1 5 2228380 · 100000000 0.125 4 4228380 · 200000000 0.25 2 16728380
    · 400000000 0.5 1 66728380
"""
XRP = """
    10000 0.005 75 0 · 20000 0.0065 50 15 · 160000 0.01 40 85 · 800000 0.02 25 1685 · 1600000 0.025 20 5685
    · 8000000 0.05 10 45685 · 16000000 0.1 5 445685 · 20000000 0.125 4 845685 · 40000000 0.25 2 3345685
    · 80000000 0.5 1 13345685
"""
DOGE = """
    10000 0.005 75 0 · 50000 0.007 50 20 · 750000 0.01 40 170 · 800000 0.02 25 7670 · 1600000 0.025 20 11670
    · 8000000 0.05 10 51670 · 16000000 0.1 5 451670 · 20000000 0.125 4 851670 · 40000000 0.25 2 3351670
    · 80000000 0.5 1 13351670
"""

TAKER_FEE_RATE = Decimal("0.0005")
MAKER_FEE_RATE = Decimal("0.0002")


def tiers(table: str) -> tuple[Tier, ...]:
    """The tiers of a table above."""
    rows = [row.split() for row in table.split("·")]
    found: list[Tier] = []
    start = ZERO
    for number, (end, rate, leverage, deduction) in enumerate(rows, start=1):
        bound = None if number == len(rows) else Decimal(end)
        found.append(Tier(start, bound, Decimal(rate), Decimal(leverage), Decimal(deduction)))
        start = Decimal(end)
    return tuple(found)


def perpetual(base: str, quote: str, lot: str, tick: str, table: str) -> Instrument:
    """A linear perpetual of contract size one."""
    return Instrument(
        symbol=f"{base}{quote}",
        kind=InstrumentKind.LINEAR,
        base=base,
        quote=quote,
        settle=quote,
        contract_size=Decimal(1),
        lot=Decimal(lot),
        tick=Decimal(tick),
        tiers=tiers(table),
        max_leverage=tiers(table)[0].max_leverage,
        min_quantity=Decimal(lot),
        taker_fee_rate=TAKER_FEE_RATE,
        maker_fee_rate=MAKER_FEE_RATE,
        rules=VenueRules(rules_id="binance", effective_from=TIERS_DATE),
    )


def default_instruments() -> tuple[Instrument, ...]:
    """Five perpetuals in USDT, and two in USD for recorded markets."""
    return (
        perpetual("BTC", "USDT", "0.001", "0.1", BTC),
        perpetual("ETH", "USDT", "0.001", "0.01", ETH),
        perpetual("SOL", "USDT", "0.01", "0.001", SOL),
        perpetual("XRP", "USDT", "0.1", "0.0001", XRP),
        perpetual("DOGE", "USDT", "1", "0.00001", DOGE),
        perpetual("BTC", "USD", "0.001", "0.01", BTC),
        perpetual("ETH", "USD", "0.01", "0.01", ETH),
    )


COLLATERAL = {"BTC": "BTCUSDT", "ETH": "ETHUSDT", "SOL": "SOLUSDT", "XRP": "XRPUSDT", "DOGE": "DOGEUSDT"}
"""Assets valued by the mark of an instrument."""

HAIRCUTS = {"BTC": "0.05", "ETH": "0.05", "SOL": "0.10", "XRP": "0.10", "DOGE": "0.10"}
"""As Binance's multi-assets mode had them when these rules were read; configuration overrides them."""


def default_asset_rules(
    rates: Mapping[str, Mapping[str, Decimal]],
    haircuts: Mapping[str, Decimal],
    tiers: Mapping[str, tuple[HaircutTier, ...]] | None = None,
) -> tuple[AssetRule, ...]:
    """The rule of every asset that has a configured rate or haircut, or an instrument to be valued by."""
    tiers = tiers or {}
    names = sorted({*rates, *haircuts, *tiers, *COLLATERAL})
    return tuple(
        AssetRule(
            asset=name,
            haircut=haircuts.get(name, Decimal(HAIRCUTS.get(name, "0"))),
            priced_by=COLLATERAL.get(name, ""),
            rates=dict(rates.get(name, {})),
            haircut_tiers=tiers.get(name, ()),
        )
        for name in names
    )
