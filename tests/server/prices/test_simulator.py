"""The simulated market: the same for the same seed, on the tick, correlated, restless in turns, and it crashes."""

import math
import statistics
from decimal import Decimal
from itertools import pairwise

import pytest

from debt_mgmt.core.defaults import default_instruments
from debt_mgmt.server.prices.simulator import (
    CRASH_EVERY_STEPS,
    CRASH_STEPS,
    INSTRUMENTS,
    MarketSimulator,
    SimulatedInstrument,
    rounded,
)

D = Decimal


def returns(symbol: str, steps: int, seed: int = 1, crash_every_steps: int = 0) -> list[float]:
    market = MarketSimulator(seed, crash_every_steps=crash_every_steps)
    logs = [math.log(market.step()[symbol]) for _ in range(steps)]
    return [after - before for before, after in pairwise(logs)]


def test_the_same_seed_gives_the_same_market() -> None:
    one, same, other = MarketSimulator(5), MarketSimulator(5), MarketSimulator(6)
    assert [one.step() for _ in range(50)] == [same.step() for _ in range(50)]
    assert one.step() != other.step()


def test_prices_are_ticks_of_instruments_that_a_new_house_has() -> None:
    terms = {instrument.symbol: instrument for instrument in default_instruments()}
    market = MarketSimulator()
    for _ in range(200):
        for symbol, price in market.step().items():
            assert price > 0
            assert price % terms[symbol].tick == 0


def test_a_price_begins_where_it_was_told_to() -> None:
    prices = MarketSimulator().step()
    assert set(prices) == {one.symbol for one in INSTRUMENTS}
    assert all(float(prices[one.symbol]) == pytest.approx(one.start, rel=0.01) for one in INSTRUMENTS)


def test_instruments_move_together() -> None:
    bitcoin, ether = returns("BTCUSDT", 3000), returns("ETHUSDT", 3000)
    assert statistics.correlation(bitcoin, ether) > 0.5


def test_restless_times_come_in_clusters() -> None:
    sizes = [abs(move) for move in returns("BTCUSDT", 6000)]
    assert statistics.correlation(sizes[:-1], sizes[1:]) > 0.05


def test_a_long_run_stays_in_sight_of_its_start() -> None:
    market = MarketSimulator(3, crash_every_steps=0)
    prices = [market.step()["BTCUSDT"] for _ in range(20_000)]
    assert min(prices) > 30_000
    assert max(prices) < 120_000


def test_the_market_crashes_on_schedule() -> None:
    market = MarketSimulator(2)
    prices = [float(market.step()["BTCUSDT"]) for _ in range(CRASH_EVERY_STEPS)]
    calm = prices[CRASH_EVERY_STEPS - CRASH_STEPS - 2]
    assert prices[-1] < 0.93 * calm
    quiet = MarketSimulator(2, crash_every_steps=0)
    last = [float(quiet.step()["BTCUSDT"]) for _ in range(CRASH_EVERY_STEPS)][-1]
    assert last == pytest.approx(calm, rel=0.03)


def test_a_price_never_falls_to_zero() -> None:
    doomed = SimulatedInstrument("DOOMUSDT", 0.0004, D("0.0001"), 50.0)
    market = MarketSimulator(1, (doomed,), crash_every_steps=41)
    assert min(market.step()["DOOMUSDT"] for _ in range(500)) == D("0.0001")
    assert rounded(1e-30, D("0.1")) == D("0.1")
    assert rounded(2.449, D("0.1")) == D("2.4")
