"""Loans and funding as the rules say them, on fractions and minute by minute: an independent model to compare with."""

import math
import random
from fractions import Fraction
from typing import NamedTuple

HOUR = 60
DAY = 24 * HOUR
CLOCKS = ("binance_hourly", "bybit_hourly", "okx_hourly", "kraken_4h", "cryptocom_hourly")
FUNDING_EVERY = 8 * HOUR
PRICE = 100
"""At which positions are opened and closed, so that nothing but funding moves their money."""


class Action(NamedTuple):
    """What an account does at a minute: "borrow", "repay" (None: all), "trade" (signed contracts), "look"."""

    minute: int
    verb: str
    amount: Fraction | None = None


class Rates(NamedTuple):
    """What the house lends at from a minute on, by clock; and the funding of each instant: rate and mark."""

    lending: dict[str, list[tuple[int, Fraction]]]
    funding: dict[int, tuple[Fraction, Fraction]]


def drawn_rates(chance: random.Random, days: int) -> Rates:
    """The yearly rates change a few times, on any minute."""
    lending: dict[str, list[tuple[int, Fraction]]] = {}
    for clock in CLOCKS:
        minutes = sorted(chance.sample(range(1, days * DAY), min(6, days)))
        lending[clock] = [(minute, Fraction(chance.randrange(0, 400_000), 10**6)) for minute in (0, *minutes)]
    funding = {
        minute: (Fraction(chance.randrange(-750, 1500), 10**6), Fraction(chance.randrange(5_000, 20_000), 100))
        for minute in range(FUNDING_EVERY, days * DAY + 1, FUNDING_EVERY)
    }
    return Rates(lending, funding)


def drawn_actions(chance: random.Random, days: int) -> list[Action]:
    """A life of borrowing, repaying and trading; nobody looks for an hour, a day or up to five days in between."""
    quiet = [minute for minute in range(1, days * DAY) if minute % HOUR not in (0, 5)]
    minutes = [chance.randrange(6, HOUR), *sorted(chance.sample(quiet, 4 + 2 * days))]
    actions: list[Action] = []
    for minute in minutes:
        verb = chance.choice(("borrow", "repay", "repay", "trade", "look", "look"))
        if not actions or actions[-1] == Action(actions[-1].minute, "repay"):
            verb = "borrow"
        amount: Fraction | None = None
        if verb == "borrow":
            amount = Fraction(chance.randrange(1, 10**9), 10 ** chance.randrange(2, 8))
        elif verb == "repay" and chance.random() < 0.8:
            amount = Fraction(chance.randrange(1, 10**6), 10 ** chance.randrange(2, 8))
        elif verb == "trade":
            amount = Fraction(chance.randrange(-5_000, 5_000), 100)
        actions.append(Action(minute, verb, amount))
    looks = (Action(minute, "look") for minute in range(5 * DAY - 7, days * DAY, 5 * DAY))
    return [*sorted([*actions, *looks], key=lambda action: action.minute), Action(days * DAY, "look")]


def up(value: Fraction, decimals: int = 12) -> Fraction:
    return Fraction(math.ceil(value * 10**decimals), 10**decimals)


def down(value: Fraction) -> Fraction:
    return Fraction(math.floor(value * 10**12), 10**12)


class Borrower:
    """One account on one clock. Amounts are exact; a charge is rounded up and funding down, at twelve decimals."""

    def __init__(self, clock: str, rates: Rates, wallet: Fraction) -> None:
        self.clock = clock
        self.rates = rates
        self.wallet = wallet
        self.principal = self.accrued = self.charged = self.funded = self.held = Fraction(0)
        self.kept_rate = Fraction(0)
        self.opened = -1
        self.charges = 0

    def live(self, actions: list[Action], until: int) -> None:
        """Every minute of a life: first what falls due in it, then what the account does."""
        waiting = iter(actions)
        following = next(waiting, None)
        for minute in range(until + 1):
            if self.principal or self.accrued:
                self.charge(minute)
            if minute in self.rates.funding:
                self.fund(*self.rates.funding[minute])
            while following is not None and following.minute == minute:
                self.act(following)
                following = next(waiting, None)

    def charge(self, minute: int) -> None:
        if self.clock == "kraken_4h":
            due = minute > self.opened and (minute - self.opened) % (4 * HOUR) == 0
        elif self.clock == "bybit_hourly":
            due = minute % HOUR == 5
        else:
            due = minute % HOUR == 0
        if due and minute > self.opened:
            base = self.principal + self.accrued if self.clock == "cryptocom_hourly" else self.principal
            self.add_interest(base, self.kept_rate if self.clock == "kraken_4h" else self.yearly(minute))

    def add_interest(self, base: Fraction, yearly: Fraction) -> None:
        period = 4 * HOUR if self.clock == "kraken_4h" else HOUR
        interest = up(base * up(yearly * period / (365 * DAY), 18))
        self.accrued += interest
        self.charged += interest
        self.charges += 1

    def yearly(self, minute: int) -> Fraction:
        """The rate in force at a minute."""
        return [rate for since, rate in self.rates.lending[self.clock] if since <= minute][-1]

    def fund(self, rate: Fraction, mark: Fraction) -> None:
        """Positive rate: longs pay."""
        paid = down(-self.held * mark * rate)
        self.wallet += paid
        self.funded += paid

    def act(self, action: Action) -> None:
        if action.verb == "borrow" and action.amount is not None:
            self.borrow(action.minute, action.amount)
        elif action.verb == "repay":
            owed = self.principal + self.accrued
            paid = owed if action.amount is None else min(action.amount, owed)
            self.wallet -= paid
            interest = min(paid, self.accrued)
            self.accrued -= interest
            self.principal -= paid - interest
        elif action.verb == "trade" and action.amount is not None:
            self.held += action.amount

    def borrow(self, minute: int, amount: Fraction) -> None:
        now = self.yearly(minute)
        if not self.principal and not self.accrued:
            self.opened, self.kept_rate = minute, now
        else:
            self.kept_rate = up((self.kept_rate * self.principal + now * amount) / (self.principal + amount), 18)
        self.principal += amount
        self.wallet += amount
        if self.clock in ("binance_hourly", "kraken_4h"):
            self.add_interest(amount, self.kept_rate if self.clock == "kraken_4h" else now)
