"""A seeded market of correlated random walks with clustered volatility and crashes: the same seed, the same market."""

import math
import random
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec


class SimulatedInstrument(msgspec.Struct, frozen=True):
    """Where a price starts, what it is rounded to, and how much more than the market it moves."""

    symbol: str
    start: float
    tick: Decimal
    beta: float


INSTRUMENTS = (
    SimulatedInstrument("BTCUSDT", 60_000.0, Decimal("0.1"), 1.0),
    SimulatedInstrument("ETHUSDT", 3_000.0, Decimal("0.01"), 1.2),
    SimulatedInstrument("SOLUSDT", 150.0, Decimal("0.001"), 1.6),
    SimulatedInstrument("XRPUSDT", 0.6, Decimal("0.0001"), 1.4),
    SimulatedInstrument("DOGEUSDT", 0.12, Decimal("0.00001"), 1.8),
)

QUIET = 0.0004
"""Typical move of one step in the long run, as a fraction."""
FROM_SHOCK, FROM_PAST = 0.12, 0.86
"""How the variance of a step follows from the move before and from the variance then: GARCH(1,1), Bollerslev 1986."""
VARIANCE_MOST = 25.0
"""Times the long-run variance: five times the usual move."""
OWN_SHARE = 0.5
PULL = 0.0015
"""How strongly a price is drawn back to where it started, so that a long run stays in sight of it."""
CRASH_EVERY_STEPS = 600
CRASH_STEPS = 40
CRASH_MOVE = -0.003


class MarketSimulator:
    """`step` gives the next price of every instrument. `crash_every_steps` zero: no crashes."""

    def __init__(
        self,
        seed: int = 7,
        instruments: tuple[SimulatedInstrument, ...] = INSTRUMENTS,
        crash_every_steps: int = CRASH_EVERY_STEPS,
    ) -> None:
        self.chance = random.Random(seed)
        self.instruments = instruments
        self.crash_every_steps = crash_every_steps
        self.logs = {one.symbol: math.log(one.start) for one in instruments}
        self.variance = 1.0
        """In units of the long-run variance."""
        self.steps = 0

    def step(self) -> dict[str, Decimal]:
        """Prices after one more step, rounded to their ticks."""
        self.steps += 1
        volatility = QUIET * math.sqrt(self.variance)
        shock = self.chance.gauss(0.0, 1.0)
        market = volatility * shock + self.crash_move()
        following = 1 - FROM_SHOCK - FROM_PAST + (FROM_PAST + FROM_SHOCK * shock * shock) * self.variance
        self.variance = min(following, VARIANCE_MOST)
        prices = {}
        for one in self.instruments:
            away = self.logs[one.symbol] - math.log(one.start)
            own = self.chance.gauss(0.0, volatility * OWN_SHARE)
            self.logs[one.symbol] += one.beta * market + own - PULL * away
            prices[one.symbol] = rounded(math.exp(self.logs[one.symbol]), one.tick)
        return prices

    def crash_move(self) -> float:
        if not self.crash_every_steps:
            return 0.0
        return CRASH_MOVE if self.steps % self.crash_every_steps >= self.crash_every_steps - CRASH_STEPS else 0.0


def rounded(price: float, tick: Decimal) -> Decimal:
    """The nearest tick that is not zero."""
    ticks = (Decimal(repr(price)) / tick).to_integral_value(ROUND_HALF_EVEN)
    return max(ticks, Decimal(1)) * tick
