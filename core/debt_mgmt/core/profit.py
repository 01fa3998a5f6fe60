"""Profit and loss by cause: what changed an account's equity in an interval, in parts that sum to the whole."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from debt_mgmt.core.money import ZERO

HOUR = timedelta(hours=1)


class Causes(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What changed equity besides prices, in the account's currency when it happened; what raised it is positive."""

    funding: Decimal = ZERO
    interest: Decimal = ZERO
    fees: Decimal = ZERO
    transfers: Decimal = ZERO
    liquidation_cost: Decimal = ZERO
    """Fees and slippage of forced reductions, less what the insurance took over."""
    realized: Decimal = ZERO
    """PnL realised, without fees, funding and interest. No cause of its own: it is part of what prices did."""
    unpriced: bool = False
    """Money moved that had no price, so that the amounts are not all."""
    synced: Decimal = ZERO
    """What the venue of a live account had otherwise than it was known here."""

    def plus(self, other: "Causes") -> "Causes":
        return Causes(
            added(self.funding, other.funding),
            added(self.interest, other.interest),
            added(self.fees, other.fees),
            added(self.transfers, other.transfers),
            added(self.liquidation_cost, other.liquidation_cost),
            added(self.realized, other.realized),
            self.unpriced or other.unpriced,
            added(self.synced, other.synced),
        )

    @property
    def total(self) -> Decimal:
        return self.funding + self.interest + self.fees + self.transfers + self.liquidation_cost + self.synced


NOTHING = Causes()


def added(amount: Decimal, more: Decimal) -> Decimal:
    """The sum; the amount itself where nothing is added, so that the zeros of all accounts are one."""
    return amount + more if more else amount


class Interval(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The interval of an account's history that is under way."""

    started_at: datetime
    equity: Decimal | None = None
    """At its start; None where it was not known."""
    causes: Causes = NOTHING


class ProfitAndLoss(msgspec.Struct, frozen=True):
    """What changed equity, by cause. The parts sum to `total` exactly."""

    price: Decimal
    funding: Decimal
    interest: Decimal
    fees: Decimal
    transfers: Decimal
    liquidation_cost: Decimal
    synced: Decimal
    total: Decimal


def profit_and_loss(before: Decimal | None, after: Decimal | None, causes: Causes) -> ProfitAndLoss | None:
    """The change of equity by cause; None where one of its ends, or a part of it, had no price.

    Money moves by events, each of which says what it changed. Whatever else changed equity, prices did.
    """
    if before is None or after is None or causes.unpriced:
        return None
    total = after - before
    return ProfitAndLoss(
        price=total - causes.total,
        funding=causes.funding,
        interest=causes.interest,
        fees=causes.fees,
        transfers=causes.transfers,
        liquidation_cost=causes.liquidation_cost,
        synced=causes.synced,
        total=total,
    )


class IntervalLength(StrEnum):
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


def interval_start(at: datetime, zone: str, length: IntervalLength) -> datetime:
    """Begin of the interval that `at` lies in, by the calendar of the zone.

    Weeks begin on Monday. Hours are counted from the begin of the day, so that they make it up in every zone.
    """
    if length is IntervalLength.HOUR:
        day = interval_start(at, zone, IntervalLength.DAY)
        return day + (at - day) // HOUR * HOUR
    local = at.astimezone(ZoneInfo(zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if length is IntervalLength.WEEK:
        midnight -= timedelta(days=midnight.weekday())
    elif length is IntervalLength.MONTH:
        midnight = midnight.replace(day=1)
    return midnight.astimezone(UTC)


def interval_end(start: datetime, zone: str, length: IntervalLength) -> datetime:
    """Begin of the interval after the one that begins at `start`."""
    if length is IntervalLength.HOUR:
        day = interval_start(start, zone, IntervalLength.DAY)
        return min(start + HOUR, interval_end(day, zone, IntervalLength.DAY))
    days = {IntervalLength.DAY: 1, IntervalLength.WEEK: 7, IntervalLength.MONTH: 31}[length]
    local = start.astimezone(ZoneInfo(zone)).replace(hour=12, fold=0) + timedelta(days=days)
    return interval_start(local, zone, length)
