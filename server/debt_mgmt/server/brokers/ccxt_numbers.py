"""Numbers of a venue's answer: exact, absent where the venue gave none, and an error where they are no numbers."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from debt_mgmt.core.money import floor_to_step


def number(value: Any) -> Decimal | None:
    """The number that a venue wrote as text or JSON; None for nothing. Raises ValueError for anything else."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise ValueError(f"not a number: {value}")
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"not a number: {str(value)[:48]!r}") from None
    if not found.is_finite():
        raise ValueError(f"not a number: {found}")
    return found


def needed(row: Mapping[str, Any], name: str) -> Decimal:
    """A number without which the row says nothing; raises ValueError where it is missing."""
    found = number(row.get(name))
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def price(value: Any) -> Decimal | None:
    """A price; venues write 0 where there is none."""
    found = number(value)
    return found if found else None


def total_of(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum; unknown where a part of it is."""
    found = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        found += amount
    return found


def moment(milliseconds: Any) -> datetime | None:
    """A time in milliseconds since 1970; None for nothing."""
    found = number(milliseconds)
    return datetime.fromtimestamp(float(found) / 1000, UTC) if found else None


def written(value: Decimal) -> str:
    """A number as venues take it: digits and a point."""
    return format(value, "f")


def in_lots(quantity: Decimal, lot: Decimal) -> Decimal:
    """The quantity that a venue takes: rounded down to its lot, here and not by the client library."""
    return floor_to_step(quantity, lot)
