"""A month of loans and funding on simulated time: decided by the service's core, and compared with fractions."""

import random
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.loan_model import CLOCKS, DAY, PRICE, Action, Borrower, Rates, drawn_actions, drawn_rates
from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment, Limits, Side
from debt_mgmt.core.apply import apply
from debt_mgmt.core.decide import decide
from debt_mgmt.core.funding import owes_funding
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import Instrument, InstrumentKind, Tier
from debt_mgmt.core.interest import BorrowRate
from debt_mgmt.core.margin import World
from debt_mgmt.core.market import Mark
from debt_mgmt.core.settings import RiskSettings

START = datetime(2026, 3, 1, tzinfo=UTC)
"""Both zones that matter to traders change their clocks in this month; charges know nothing of it."""
CAPITAL = 10**9
SYMBOL = "XYZUSDT"
TIERS = (Tier(Decimal(0), None, Decimal("0.004"), Decimal(125)),)
SETTINGS = RiskSettings(limits=Limits(order_rate_interval_seconds=1))
ENCODE = msgspec.json.Encoder().encode
DECODE = msgspec.json.Decoder(e.AccountEvent).decode


class Compared(NamedTuple):
    """What a run counted. `different` accounts ended with another figure than the model's."""

    accounts: int
    charges: int
    settlements: int
    events: int
    seconds: float
    model_seconds: float
    different: tuple[str, ...]


def exact(value: Fraction) -> Decimal:
    """A fraction whose denominator is a product of twos and fives, as a decimal."""
    found = Decimal(value.numerator) / Decimal(value.denominator)
    assert Fraction(found) == value
    return found


def instrument() -> Instrument:
    return Instrument(
        symbol=SYMBOL, kind=InstrumentKind.LINEAR, base="XYZ", quote="USDT", settle="USDT", contract_size=Decimal(1),
        lot=Decimal("0.01"), tick=Decimal("0.01"), tiers=TIERS, max_leverage=Decimal(125),
    )  # fmt: skip


def house_of(clock: str, rates: Rates) -> House:
    lent = (
        BorrowRate("USDT", exact(rate), clock, START + timedelta(minutes=since)) for since, rate in rates.lending[clock]
    )
    return House(instruments={SYMBOL: instrument()}, borrow_rates={"USDT": tuple(lent)})


class Books:
    """One account as the service keeps it: every command decided, every event through the journal's codec."""

    def __init__(self, name: str, house: House, rates: Rates) -> None:
        self.house = house
        self.funding = sorted(rates.funding.items())
        self.written = 0
        self.account: Account | None = None
        self.charges = self.settlements = 0
        self.do(
            START, c.CreateAccount(name, "desk", "paper", Environment.SANDBOX, "USDT", deposit_amount=Decimal(CAPITAL))
        )

    def do(self, at: datetime, command: c.Command) -> None:
        marks = {SYMBOL: Mark(SYMBOL, Decimal(PRICE), "simulated", at, at)}
        world = World(self.house, marks, SETTINGS, at, 1, self.written + 1)
        for event in decide(self.account, command, world):
            assert not isinstance(event, e.CommandRefused), event
            self.account = apply(self.account, DECODE(ENCODE(event)))
            self.written += 1
            self.charges += isinstance(event, e.InterestCharged)
            self.settlements += isinstance(event, e.FundingSettled)

    def live(self, actions: list[Action]) -> None:
        for action in actions:
            at = START + timedelta(minutes=action.minute)
            assert self.account is not None
            if action.verb == "borrow" and action.amount is not None:
                self.do(at, c.Borrow("USDT", exact(action.amount)))
            elif action.verb == "repay" and self.account.debts:
                self.do(at, c.Repay("USDT", None if action.amount is None else exact(action.amount)))
            elif action.verb == "trade" and action.amount:
                quantity = exact(abs(action.amount))
                side = Side.BUY if action.amount > 0 else Side.SELL
                self.do(at, c.RecordFill(f"fill-{self.written}", SYMBOL, side, quantity, Decimal(PRICE)))
            elif action.verb == "look":
                self.look(action.minute)

    def look(self, minute: int) -> None:
        """What the sweep does when the service is up: settle and charge what fell due since the last look."""
        assert self.account is not None
        now = START + timedelta(minutes=minute)
        for instant, (rate, mark) in self.funding:
            at = START + timedelta(minutes=instant)
            if at <= now and owes_funding(self.account, SYMBOL, at):
                self.do(now, c.SettleFunding(SYMBOL, exact(rate), exact(mark), at))
        self.do(now, c.ChargeInterest())


def differences(name: str, account: Account, model: Borrower) -> list[str]:
    """Every figure that is not the model's, digit by digit."""
    debt = account.debts.get("USDT")
    pairs = {
        "principal": (debt.principal if debt is not None else Decimal(0), model.principal),
        "accrued": (debt.accrued_interest if debt is not None else Decimal(0), model.accrued),
        "wallet": (account.balances["USDT"], model.wallet),
        "charged": (account.interest_charged.get("USDT", Decimal(0)), model.charged),
        "funded": (account.funding_received.get("USDT", Decimal(0)), model.funded),
    }
    return [
        f"{name} {figure}: {ours}, not {theirs}" for figure, (ours, theirs) in pairs.items() if Fraction(ours) != theirs
    ]


def compare(accounts: int, days: int, seed: int = 1) -> Compared:
    """Let accounts live so many days in the service's books and in the model's, and compare every figure."""
    chance = random.Random(seed)
    rates = drawn_rates(chance, days)
    houses = {clock: house_of(clock, rates) for clock in CLOCKS}
    lives = [(CLOCKS[number % len(CLOCKS)], drawn_actions(chance, days)) for number in range(accounts)]
    began = time.perf_counter()
    kept: list[Books] = []
    for number, (clock, actions) in enumerate(lives):
        books = Books(f"{clock}-{number}", houses[clock], rates)
        books.live(actions)
        kept.append(books)
    took = time.perf_counter() - began
    began = time.perf_counter()
    different: list[str] = []
    for books, (clock, actions) in zip(kept, lives, strict=True):
        model = Borrower(clock, rates, Fraction(CAPITAL))
        model.live(actions, days * DAY)
        assert books.account is not None
        different += differences(books.account.account_id, books.account, model)
        if books.charges != model.charges:
            different.append(f"{books.account.account_id}: {books.charges} charges, not {model.charges}")
    return Compared(
        accounts=accounts,
        charges=sum(books.charges for books in kept),
        settlements=sum(books.settlements for books in kept),
        events=sum(books.written for books in kept),
        seconds=took,
        model_seconds=time.perf_counter() - began,
        different=tuple(different),
    )


def lending(bench: Bench) -> list[Figure]:
    """Interest and funding of many accounts over many days."""
    sizes = bench.sizes
    found = compare(sizes.borrowers, sizes.lending_days)
    if found.different:
        raise AssertionError(f"{len(found.different)} figures differ from the model: {found.different[0]}")
    rate = found.events / found.seconds
    return [
        Figure(
            name=f"interest and funding, {sizes.borrowers:,} accounts × {sizes.lending_days} days",
            value=found.seconds,
            unit="s",
            said=(
                f"{found.charges:,} charges of interest and {found.settlements:,} settlements of funding, decided, "
                f"written, read and applied: {rate:,.0f} events a second; every figure is a model's on fractions, "
                f"which took {found.model_seconds:.0f} s"
            ),
            details={"charges": found.charges, "settlements": found.settlements, "events_per_second": rate},
        )
    ]
