"""Instruments that the tests trade: real risk tiers where tiers matter, one plain tier where they don't."""

from decimal import Decimal

from debt_mgmt.core.instrument import Instrument, InstrumentKind, Tier, VenueRules

D = Decimal

PLAIN = VenueRules()

FLAT = (Tier(D(0), None, D("0.005"), D(100)),)
"""One tier for every size."""


def tiers(*rows: str) -> tuple[Tier, ...]:
    """Tiers from rows of `from to rate max-leverage [deduction]`; `-` as `to` is open above."""
    made = []
    for row in rows:
        start, end, rate, leverage, *deduction = row.split()
        made.append(
            Tier(D(start), None if end == "-" else D(end), D(rate), D(leverage), D(deduction[0]) if deduction else D(0))
        )
    return tuple(made)


BITCOIN_TIERS = tiers(
    "0 50000 0.004 125",
    "50000 600000 0.005 100 50",
    "600000 3000000 0.0065 75 950",
    "3000000 12000000 0.01 50 11450",
    "12000000 70000000 0.02 25 131450",
    "70000000 100000000 0.025 20 481450",
    "100000000 230000000 0.05 10 2981450",
    "230000000 480000000 0.1 5 14481450",
    "480000000 - 0.125 4 26481450",
)
"""Continuous: each tier's deduction makes up for its higher rate."""

STEPPED_TIERS = tiers("0 20000 0.01 50", "20000 100000 0.02 25", "100000 400000 0.05 10", "400000 - 0.1 5")
"""Without deduction: the whole position takes the rate of its tier, so that the requirement jumps at each start."""


def linear(
    symbol: str = "BTCUSDT",
    *,
    lot: str = "0.001",
    tick: str = "0.1",
    table: tuple[Tier, ...] = FLAT,
    contract_size: str = "1",
    kind: InstrumentKind = InstrumentKind.LINEAR,
    rules: VenueRules = PLAIN,
    taker_fee_rate: str = "0",
    **terms: Decimal,
) -> Instrument:
    """A contract that is settled in its quote asset, the last three or four letters of its name."""
    quote = symbol[-4:] if symbol.endswith(("USDT", "USDC")) else symbol[-3:]
    return Instrument(
        symbol=symbol,
        kind=kind,
        base=symbol.removesuffix(quote),
        quote=quote,
        settle=quote,
        contract_size=D(contract_size),
        lot=D(lot),
        tick=D(tick),
        tiers=table,
        max_leverage=D(125),
        rules=rules,
        taker_fee_rate=D(taker_fee_rate),
        **terms,
    )


def inverse(
    symbol: str = "BTCUSD",
    *,
    lot: str = "1",
    table: tuple[Tier, ...] = FLAT,
    contract_size: str = "100",
    rules: VenueRules = PLAIN,
    taker_fee_rate: str = "0",
) -> Instrument:
    """A contract worth `contract_size` US dollars, settled in coin."""
    return Instrument(
        symbol=symbol,
        kind=InstrumentKind.INVERSE,
        base=symbol[:3],
        quote="USD",
        settle=symbol[:3],
        contract_size=D(contract_size),
        lot=D(lot),
        tick=D("0.1"),
        tiers=table,
        max_leverage=D(125),
        rules=rules,
        taker_fee_rate=D(taker_fee_rate),
    )


BTCUSDT = linear("BTCUSDT", table=BITCOIN_TIERS)
ETHUSDT = linear("ETHUSDT", lot="0.01", tick="0.01")
SOLUSDT = linear("SOLUSDT", lot="0.1", tick="0.01", table=STEPPED_TIERS)
ABCUSDT = linear("ABCUSDT", lot="1", tick="0.01")
BTCUSD = inverse("BTCUSD")

ALL = (BTCUSDT, ETHUSDT, SOLUSDT, ABCUSDT, BTCUSD)
