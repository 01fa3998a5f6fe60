"""Limit sets: limits of one node of the tree house, owner, account, strategy, instrument, and when they hold."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from debt_mgmt.core.money import text
from debt_mgmt.core.scope import Scope

DAY = timedelta(days=1)
DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
END_OF_DAY = "24:00"


NEW_INSTRUMENT = "new-instrument"
"""Name of the set that keeps an instrument at zero until somebody opens it."""


class LimitMode(StrEnum):
    ENFORCED = "ENFORCED"
    """Orders that break it are refused."""
    SHADOW = "SHADOW"
    """Orders that break it are reported, and pass."""


class NodeLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node may have; None is not limited, zero lets nothing be opened. Notionals in the set's currency.

    Leverage, quantity and notional of a position are those of one position of one account (or what one strategy has of
    it), with its open orders. Everything else is the sum over all accounts that the node concerns.
    """

    max_leverage: Decimal | None = None
    max_position_quantity: Decimal | None = None
    max_position_notional: Decimal | None = None
    max_exposure_notional: Decimal | None = None
    max_concurrent_positions: int | None = None
    max_open_reservations: int | None = None
    order_rate_count: int | None = None
    order_rate_interval_seconds: int | None = None
    """Set where `order_rate_count` is."""


AMOUNTS = (
    "max_leverage",
    "max_position_quantity",
    "max_position_notional",
    "max_exposure_notional",
    "max_concurrent_positions",
    "max_open_reservations",
)
"""The fields of NodeLimits that are one number each."""


class Hours(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of the week: on `days` from `start` to `end`, by the clocks of a zone."""

    start: str
    """HH:MM."""
    end: str
    """HH:MM or 24:00; not after `start`, it is on the following day."""
    days: tuple[int, ...] = ()
    """Days on which it begins, 0 is Monday; empty is every day."""
    zone: str = "UTC"

    def in_force(self, at: datetime) -> bool:
        """Whether `at` lies in it: from its beginning, inclusive, to its end, exclusive."""
        return is_within(self, at.replace(second=0, microsecond=0))

    @property
    def minutes(self) -> tuple[int, int]:
        """From when to when, in minutes after the beginning of its day."""
        start, end = minute_of(self.start), minute_of(self.end)
        return start, end if end > start else end + DAY_MINUTES

    @property
    def words(self) -> str:
        days = "every day" if not self.days else ", ".join(DAY_NAMES[day] for day in self.days)
        return f"{days} {self.start} to {self.end} {self.zone}"


class LimitSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of a node under one name. Of several that concern an order each is applied."""

    scope: Scope = Scope()
    name: str = ""
    """Empty: the node's standing set."""
    mode: LimitMode = LimitMode.ENFORCED
    limits: NodeLimits = NodeLimits()
    hours: tuple[Hours, ...] = ()
    """When it is in force; empty is always."""
    currency: str = ""
    """Of the notionals; empty is the account's own, where the node is one account."""
    reason: str = ""
    at: datetime | None = None
    """When it was set."""

    @property
    def key(self) -> str:
        """Under which the house keeps it."""
        return key_of(self.scope, self.name)

    @property
    def enforced(self) -> bool:
        return self.mode is LimitMode.ENFORCED

    def in_force(self, at: datetime) -> bool:
        return not self.hours or any(one.in_force(at) for one in self.hours)

    def says(self, other: "LimitSet") -> bool:
        """Whether both say the same, whenever and for whatever reason they were set."""
        return msgspec.structs.replace(self, reason="", at=None) == msgspec.structs.replace(other, reason="", at=None)


def key_of(scope: Scope, name: str) -> str:
    return f"{scope.key}#{name}"


def minute_of(time_of_day: str) -> int:
    hours, _, minutes = time_of_day.partition(":")
    return int(hours) * 60 + int(minutes)


@lru_cache(maxsize=4096)
def is_within(hours: Hours, minute: datetime) -> bool:
    """Whether a full minute lies in the hours. Their ends are full minutes, so what follows within it does too."""
    local = minute.astimezone(ZoneInfo(hours.zone)).date()
    for day in (local - DAY, local):
        if hours.days and day.weekday() not in hours.days:
            continue
        start, end = hours.minutes
        if beginning(day, start, hours.zone) <= minute < ending(day, end, hours.zone):
            return True
    return False


def beginning(day: date, minutes: int, zone: str) -> datetime:
    """The moment, in UTC, of a time of day: the first where the clocks pass it twice.

    One that they jump over counts as far after the jump as it lies after the jump's beginning, as in `resets.slot_on`.
    """
    days, left = divmod(minutes, DAY_MINUTES)
    local = datetime.combine(day + days * DAY, time(left // 60, left % 60), ZoneInfo(zone))
    return local.astimezone(UTC)


def ending(day: date, minutes: int, zone: str) -> datetime:
    """The same of an end: the last moment that it can mean, so that no protection ends before its time."""
    days, left = divmod(minutes, DAY_MINUTES)
    local = datetime.combine(day + days * DAY, time(left // 60, left % 60), ZoneInfo(zone))
    return max(local.astimezone(UTC), local.replace(fold=1).astimezone(UTC))


def loosens(before: LimitSet | None, after: LimitSet | None) -> tuple[str, ...]:
    """One line for each way in which `after` allows more than `before` (None: no set); empty where it only tightens."""
    if before is None or not before.enforced:
        return ()
    name = f"limit set {before.name or 'standing'} of {before.scope.words}"
    if after is None:
        return (f"{name}: taken away",)
    found: list[str] = []
    if not after.enforced:
        found.append(f"{name}: mode ENFORCED → SHADOW")
    for field in AMOUNTS:
        most, then = getattr(before.limits, field), getattr(after.limits, field)
        if most is not None and (then is None or then > most):
            found.append(f"{name}: {field} {shown(most)} → {shown(then)}")
    if allows_more_orders(before.limits, after.limits):
        found.append(f"{name}: max_order_rate {rate_words(before.limits)} → {rate_words(after.limits)}")
    if not covers(after.hours, before.hours):
        found.append(f"{name}: hours {hours_words(before.hours)} → {hours_words(after.hours)}")
    if before.currency != after.currency:
        found.append(f"{name}: currency {before.currency or 'own'} → {after.currency or 'own'}")
    return tuple(found)


def allows_more_orders(before: NodeLimits, after: NodeLimits) -> bool:
    """More orders at once, or the same in less time, are more."""
    if before.order_rate_count is None:
        return False
    if after.order_rate_count is None or after.order_rate_count > before.order_rate_count:
        return True
    return (after.order_rate_interval_seconds or 1) < (before.order_rate_interval_seconds or 1)


def covers(wider: tuple[Hours, ...], narrower: tuple[Hours, ...]) -> bool:
    """Whether `wider` is in force whenever `narrower` is. Parts in different zones are never taken to cover another."""
    if not wider:
        return True
    if not narrower:
        return False
    return all(
        minutes_of_week(wider, zone) >= minutes_of_week(narrower, zone) for zone in {one.zone for one in narrower}
    )


def minutes_of_week(hours: tuple[Hours, ...], zone: str) -> set[int]:
    """The minutes of a week in which hours of this zone are in force, by its clocks."""
    found: set[int] = set()
    for one in hours:
        if one.zone == zone:
            start, end = one.minutes
            for day in one.days or range(7):
                found.update(
                    minute % WEEK_MINUTES for minute in range(day * DAY_MINUTES + start, day * DAY_MINUTES + end)
                )
    return found


def shown(limit: Decimal | int | None) -> str:
    return "not limited" if limit is None else text(Decimal(limit))


def rate_words(limits: NodeLimits) -> str:
    if limits.order_rate_count is None:
        return "not limited"
    return f"{limits.order_rate_count} in {limits.order_rate_interval_seconds or 1} s"


def hours_words(hours: tuple[Hours, ...]) -> str:
    return "; ".join(one.words for one in hours) or "always"
