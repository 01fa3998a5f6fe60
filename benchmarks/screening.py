"""A mark on an instrument that very many accounts hold: how long the screen takes, and whether it misses anyone."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.figures import Figure, at_most, percentile
from debt_mgmt.core.account import Account, Baselines, Environment, MarginMode, Position, PositionSide
from debt_mgmt.core.apply import apply
from debt_mgmt.core.commands import Assess
from debt_mgmt.core.decide import decide
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import Instrument, InstrumentKind, Tier
from debt_mgmt.core.margin import World, summarize
from debt_mgmt.core.market import Mark
from debt_mgmt.core.screen import Screen
from debt_mgmt.core.settings import RiskSettings

POSITIONS = 10
AT = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = (Tier(Decimal(0), None, Decimal("0.004"), Decimal(125)),)
SETTINGS = RiskSettings(mark_max_age=timedelta(days=1), pre_trade_max_age=timedelta(days=1))
NEAREST, OTHERS = 200, 50
"""Accounts that every mark is also decided exactly for: those nearest to a threshold, and some of the others."""
CLOSE, CLOSE_ONES = Decimal("0.699"), 20
"""One account in so many stands just below its first threshold."""


class Market:
    """Instruments, their marks and many accounts, each holding one instrument of every ten groups."""

    def __init__(self, accounts: int, holders: int) -> None:
        self.chance = random.Random(1)
        self.group = max(1, accounts // holders)
        symbols = [f"S{number:03}USDT" for number in range(POSITIONS * self.group)]
        self.house = House(instruments={symbol: instrument(symbol) for symbol in symbols})
        self.marks = {symbol: marked(symbol, Decimal(self.chance.randrange(1000, 100_000)) / 100) for symbol in symbols}
        self.symbol = symbols[0]
        self.accounts: dict[str, Account] = {}
        self.headroom: dict[str, Decimal] = {}
        self.screen = Screen()
        for number in range(accounts):
            account = self.account(number, symbols)
            summary = summarize(account, self.world)
            self.headroom[account.account_id] = abs(summary.used / summary.equity - SETTINGS.margin_call_threshold)
            self.accounts[account.account_id] = account
            self.screen.update(account, summary, self.world)
        self.holders = self.screen.holders(self.symbol)

    @property
    def world(self) -> World:
        return World(self.house, self.marks, SETTINGS, AT)

    def account(self, number: int, symbols: list[str]) -> Account:
        chance, positions, gross = self.chance, {}, Decimal(0)
        for decade in range(POSITIONS):
            symbol = symbols[decade * self.group + (number + decade * (number // self.group)) % self.group]
            price = self.marks[symbol].price
            quantity = (Decimal(chance.randrange(500, 1500)) / price).quantize(Decimal("0.001")) or Decimal("0.001")
            gross += quantity * price
            signed = quantity if chance.random() < 2 / 3 else -quantity
            positions[symbol] = Position(symbol, PositionSide.NET, signed, price, Decimal(2), MarginMode.CROSS, AT)
        utilization = Decimal(chance.randrange(100, 690)) / 1000
        if number % CLOSE_ONES == 0:
            utilization = CLOSE - Decimal(chance.randrange(100)) / 100_000
        equity = gross / 2 / utilization
        return Account(
            f"account-{number}", "owner", "paper", Environment.SANDBOX, "USDT", AT,
            balances={"USDT": equity}, positions=positions, baselines=Baselines("2026-01-05", equity, equity),
        )  # fmt: skip

    def sample(self) -> list[str]:
        """Holders to decide exactly: the nearest to a threshold, and others by chance."""
        nearest = sorted(self.holders, key=self.headroom.__getitem__)
        return [*nearest[:NEAREST], *self.chance.sample(nearest[NEAREST:], min(OTHERS, len(nearest[NEAREST:])))]

    def prices(self, number: int) -> Iterator[Decimal]:
        """A walk of small steps with a jump now and then."""
        price = self.marks[self.symbol].price
        for step in range(number):
            spread = 0.03 if step % 20 == 19 else 0.001
            price = (price * Decimal(repr(1 + self.chance.gauss(0, spread)))).quantize(Decimal("0.01"))
            yield price

    def decide(self, account_id: str) -> bool:
        """Decide the account exactly at the present marks, as the engine does; whether anything followed."""
        account = self.accounts[account_id]
        events = decide(account, Assess(), self.world)
        for event in events:
            account = apply(account, event)
        self.accounts[account_id] = account
        return bool(events)


def instrument(symbol: str) -> Instrument:
    one = Decimal(1)
    return Instrument(
        symbol, InstrumentKind.LINEAR, symbol[:4], "USDT", "USDT", one, Decimal("0.001"), Decimal("0.01"), TIERS,
        Decimal(100),
    )  # fmt: skip


def marked(symbol: str, price: Decimal) -> Mark:
    return Mark(symbol, price, "bench", AT, AT)


def screen(bench: Bench) -> list[Figure]:
    """One mark, screened: time, accounts named, and misses against an exact decision of those near a threshold."""
    with machine.on(machine.SERVER_CPUS):
        return [measured(bench)]


def measured(bench: Bench) -> Figure:
    sizes = bench.sizes
    market = Market(sizes.screened, sizes.holders)
    sample, changed, missed, named = market.sample(), 0, 0, 0
    milliseconds: list[float] = []
    exact_us: list[float] = []
    for price in market.prices(sizes.marks):
        market.marks[market.symbol] = marked(market.symbol, price)
        began = time.perf_counter()
        found = market.screen.mark(market.symbol, price)
        milliseconds.append((time.perf_counter() - began) * 1000)
        named += len(found)
        for account_id in found:
            began = time.perf_counter()
            changed += market.decide(account_id)
            account = market.accounts[account_id]
            market.screen.update(account, summarize(account, market.world), market.world)
            exact_us.append((time.perf_counter() - began) * 1e6)
        seen = set(found)
        missed += sum(market.decide(account_id) for account_id in sample if account_id not in seen)
    assert missed == 0, f"the screen missed {missed} accounts"
    median, worst = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    exact = percentile(exact_us, 0.5) if exact_us else 0.0
    return Figure(
        name=f"screen of one mark, {len(market.holders):,} of {sizes.screened:,} accounts hold it",
        value=median,
        unit="ms",
        target=at_most(1.0),
        said=(
            f"p99 {worst:.2f} ms; {named} accounts named by {sizes.marks} marks, something followed for {changed}; "
            f"{missed} missed of {len(sample)} decided exactly at every mark; {POSITIONS} positions each; "
            f"an account that is named costs {exact:.0f} µs more"
        ),
        details={
            "p99_ms": worst,
            "named": named,
            "changed": changed,
            "missed": missed,
            "sample": len(sample),
            "exact_us": exact,
        },
    )
