"""Interest clocks as data: when a loan is charged, for how many periods, at which rate, and by how much."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.account import Debt
from debt_mgmt.core.money import ZERO, required

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
HOUR = timedelta(hours=1)
RATE_RESOLUTION = Decimal("1E-18")
"""The step to which a rate per period is rounded up, so that a statement can be checked by the rate that it shows."""


class Anchor(StrEnum):
    CLOCK = "CLOCK"
    """Charges fall on whole periods of UTC, `offset` later."""
    OPENING = "OPENING"
    """Charges fall on whole periods since the loan was opened."""


class InterestClock(msgspec.Struct, frozen=True):
    """When interest is charged, and on what. All instants are UTC, which has no daylight saving and no leap seconds."""

    name: str
    rule: str
    """In words, with the page it is from."""
    period: timedelta = HOUR
    anchor: Anchor = Anchor.CLOCK
    offset: timedelta = timedelta(0)
    opening_periods: int = 0
    """Periods charged at the moment of borrowing, on what is borrowed."""
    compound: bool = False
    """Interest that is owed already is charged on too."""
    rate_is_kept: bool = False
    """The rate of the moment of borrowing holds until the loan is repaid; else the one in force at each charge."""


CLOCKS = {
    clock.name: clock
    for clock in (
        InterestClock(
            "binance_hourly",
            "at borrowing and at every full hour (Binance FAQ 360030157812)",
            opening_periods=1,
        ),
        InterestClock(
            "bybit_hourly", "every hour at five past (Bybit, unified trading account)", offset=timedelta(minutes=5)
        ),
        InterestClock("okx_hourly", "every full hour; nothing if repaid before it (OKX, interest on borrowing)"),
        InterestClock(
            "kraken_4h",
            "an opening fee, then one rollover per completed four hours (Kraken support 206161568)",
            period=4 * HOUR,
            anchor=Anchor.OPENING,
            opening_periods=1,
            rate_is_kept=True,
        ),
        InterestClock(
            "kraken_4h_started",
            "an opening fee, then one rollover per started four hours: one period more than kraken_4h",
            period=4 * HOUR,
            anchor=Anchor.OPENING,
            opening_periods=2,
            rate_is_kept=True,
        ),
        InterestClock(
            "cryptocom_hourly",
            "compound, at every full hour that the loan is open (Crypto.com help 4642940)",
            compound=True,
        ),
        InterestClock(
            "started_hours",
            "every started hour since the loan was opened, the first one at once",
            anchor=Anchor.OPENING,
            opening_periods=1,
        ),
    )
}
"""By name."""


class BorrowRate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an asset is lent at from `effective_at` on: a rate per year of 365 days, as fraction, and a clock's name."""

    asset: str
    annual_rate: Decimal
    clock: str
    effective_at: datetime


class Charge(msgspec.Struct, frozen=True):
    """One charge that is due: amount = principal × rate × periods, rounded up."""

    due_at: datetime
    principal: Decimal
    annual_rate: Decimal
    rate: Decimal
    """Per period."""
    periods: int
    amount: Decimal
    next_charge_at: datetime


def rate_per_period(clock: InterestClock, annual_rate: Decimal) -> Decimal:
    """annual rate × period ÷ 365 days, rounded up at 18 decimals."""
    seconds = Decimal(clock.period // timedelta(seconds=1))
    year = Decimal(YEAR // timedelta(seconds=1))
    return (annual_rate * seconds / year).quantize(RATE_RESOLUTION, ROUND_CEILING)


def charge_after(clock: InterestClock, opened_at: datetime, at: datetime) -> datetime:
    """The first instant after `at` at which a loan opened at `opened_at` is charged."""
    origin = opened_at if clock.anchor is Anchor.OPENING else EPOCH + clock.offset
    return origin + ((at - origin) // clock.period + 1) * clock.period


def rate_at(rates: Sequence[BorrowRate], at: datetime) -> BorrowRate | None:
    """The rate in force at a time; `rates` ascend in time. None before the first."""
    return next((rate for rate in reversed(rates) if rate.effective_at <= at), None)


def charge_of(
    clock: InterestClock, opened_at: datetime, due_at: datetime, base: Decimal, annual_rate: Decimal, periods: int = 1
) -> Charge:
    """One charge on `base`."""
    rate = rate_per_period(clock, annual_rate)
    amount = required(base * rate * periods)
    return Charge(due_at, base, annual_rate, rate, periods, amount, charge_after(clock, opened_at, due_at))


def charges_due(debt: Debt, rates: Sequence[BorrowRate], until: datetime) -> tuple[Charge, ...]:
    """Every charge of the debt that is due at or before `until`, in order, each at the rate in force at its time.

    However long nobody looked, the charges are the same: each rests on the debt, on its own instant and on the rates.
    Empty for a debt that somebody else charges (`next_charge_at` None).
    """
    clock = CLOCKS.get(debt.clock)
    due_at = debt.next_charge_at
    found: list[Charge] = []
    if clock is None:
        return ()
    accrued = debt.accrued_interest
    while due_at is not None and due_at <= until:
        annual_rate = debt.annual_rate if debt.annual_rate is not None else ZERO
        if not clock.rate_is_kept:
            published = rate_at(rates, due_at)
            annual_rate = published.annual_rate if published is not None else annual_rate
        base = debt.principal + accrued if clock.compound else debt.principal
        charge = charge_of(clock, debt.opened_at, due_at, base, annual_rate)
        found.append(charge)
        accrued += charge.amount
        due_at = charge.next_charge_at
    return tuple(found)
