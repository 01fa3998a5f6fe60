"""When paper capital is set back by itself: the slots of a schedule, each a day at one time in one zone."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from debt_mgmt.core.account import Account, Environment

DAY = timedelta(days=1)


class ResetInterval(StrEnum):
    NEVER = "NEVER"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"


class ResetSchedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every day, one named day of each week, or one day of each month, at a time of day in a zone."""

    interval: ResetInterval = ResetInterval.NEVER
    weekday: int = 0
    """0 is Monday; counts where the interval is WEEKLY."""
    month_day: int = 1
    """Counts where the interval is MONTHLY; a month without that day is reset on its last one."""
    time_of_day: str = "00:00"
    """HH:MM on the clocks of `zone`."""
    zone: str = "UTC"


def slot_on(schedule: ResetSchedule, day: date) -> datetime:
    """The moment of a day's slot, in UTC.

    A time that the clocks pass twice counts when they pass it first. One that they jump over counts as far after the
    jump as it lies after the jump's beginning: 02:30, where 02:00 becomes 03:00, is 03:30.
    """
    return datetime.combine(day, time.fromisoformat(schedule.time_of_day), ZoneInfo(schedule.zone)).astimezone(UTC)


def has_slot(schedule: ResetSchedule, day: date) -> bool:
    match schedule.interval:
        case ResetInterval.DAILY:
            return True
        case ResetInterval.WEEKLY:
            return day.weekday() == schedule.weekday
        case ResetInterval.MONTHLY:
            return day.day == min(schedule.month_day, monthrange(day.year, day.month)[1])
    return False


def last_slot(schedule: ResetSchedule, at: datetime) -> datetime | None:
    """The latest slot that is not after `at`; None where the schedule has none."""
    return nearest_slot(schedule, at, -DAY)


def next_slot(schedule: ResetSchedule, at: datetime) -> datetime | None:
    """The first slot after `at`; None where the schedule has none."""
    return nearest_slot(schedule, at, DAY)


def nearest_slot(schedule: ResetSchedule, at: datetime, step: timedelta) -> datetime | None:
    """The slot next to `at` on the side of `step`, which is a day forwards or backwards."""
    if schedule.interval is ResetInterval.NEVER:
        return None
    day = at.astimezone(ZoneInfo(schedule.zone)).date() - step
    while True:
        if has_slot(schedule, day):
            slot = slot_on(schedule, day)
            if (slot > at) if step > timedelta(0) else (slot <= at):
                return slot
        day += step


def due_slot(account: Account, schedule: ResetSchedule, since: datetime | None, at: datetime) -> datetime | None:
    """The slot for which the account is to be reset now; None where nothing is due.

    However many slots have passed, one reset makes up for them all: it is that of the latest. Slots before the account
    was opened, or before the schedule came into force (`since`), are none.
    """
    slot = last_slot(schedule, at)
    return slot if slot is not None and is_due(account, slot, since) else None


def is_due(account: Account, slot: datetime, since: datetime | None) -> bool:
    """Whether the account is still to be reset for this slot, the latest there was."""
    if account.environment is not Environment.SANDBOX or account.closed_at is not None:
        return False
    if account.last_reset_slot is not None and slot <= account.last_reset_slot:
        return False
    return slot > account.created_at and (since is None or slot > since)


def next_reset(account: Account, schedule: ResetSchedule, since: datetime | None, at: datetime) -> datetime | None:
    """When the account is reset by itself: at the slot that is due already, or at the first one to come."""
    if account.environment is not Environment.SANDBOX or account.closed_at is not None:
        return None
    due = due_slot(account, schedule, since, at)
    return due if due is not None else next_slot(schedule, at)
