"""Reading an account with 50 positions from each simulated exchange: how long it takes, and how many requests."""

import asyncio
import time
from decimal import Decimal

import msgspec

from benchmarks.bench import Bench as Measuring
from benchmarks.figures import Figure
from tests.support.broker_bench import VENUES, Bench, Venue, bench_of
from tests.support.venues import coinbase_products, kraken_book

POSITIONS = 50
CASH = Decimal(100_000_000)


class Synced(msgspec.Struct, frozen=True):
    """What reading an account took: the first time, with the instruments and their tiers, and every time after that."""

    broker: str
    positions: int
    first_ms: float
    first_requests: int
    then_ms: float
    then_requests: int


def syncing(bench: Measuring) -> list[Figure]:
    """The median of some readings of each exchange; the figure is the slowest exchange's."""
    found = [asyncio.run(measured(venue, bench.sizes.rounds)) for venue in VENUES.values()]
    slowest = max(found, key=lambda one: one.then_ms)
    told = ", ".join(f"{one.broker} {one.then_ms:.0f} ms in {one.then_requests}" for one in found)
    return [
        Figure(
            name=f"sync of {POSITIONS} positions",
            value=slowest.then_ms,
            unit="ms",
            said=f"requests to a simulator on this machine: {told}",
            details={"exchanges": [msgspec.to_builtins(one) for one in found]},
        )
    ]


async def measured(about: Venue, rounds: int) -> Synced:
    async with bench_of(about, prepare=crowd) as bench:
        first_ms, first_requests, _ = await timed(bench, instruments=True)
        again = [await timed(bench) for _ in range(rounds)]
    again.sort()
    then_ms, then_requests, positions = again[len(again) // 2]
    return Synced(about.broker, positions, first_ms, first_requests, then_ms, then_requests)


async def timed(bench: Bench, *, instruments: bool = False) -> tuple[float, int, int]:
    """Milliseconds, requests and positions of one reading."""
    before, began = len(bench.venue.requests), time.perf_counter()
    state = await bench.broker.state()
    if instruments:
        await bench.broker.listings.instruments(bench.broker.link, sorted({one.symbol for one in state.positions}))
    took = (time.perf_counter() - began) * 1000
    assert len(state.positions) == POSITIONS, f"{bench.about.broker} told {len(state.positions)} positions"
    return took, len(bench.venue.requests) - before, len(state.positions)


def crowd(bench: Bench) -> None:
    """List and hold so many instruments, each like the one that the venue has; nothing else lists them."""
    book, there = bench.venue.book, bench.about.linear[1]
    listing, mark = book.listings[there], book.mark(there)
    book.deposit(bench.about.cash, CASH)
    for number in range(POSITIONS):
        base = f"Q{number:02}"
        symbol = next(there.replace(old, base) for old in (listing.base, "XBT", "BIP") if old in there)
        kraken_book.ASSETS[base] = (base, base)
        coinbase_products.EXPIRIES[symbol] = coinbase_products.EXPIRIES["BIP-20DEC30-CDE"]
        coinbase_products.NAMES[symbol] = f"{base} PERP"
        book.listings[symbol] = msgspec.structs.replace(listing, symbol=symbol, base=base)
        book.marks[symbol] = mark
        bench.hold(bench.about.size, symbol)
