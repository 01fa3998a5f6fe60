"""How numbers, times and levels are said on a screen: grouped, rounded, and never a zero for the unknown."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from rich.text import Text

from debt_mgmt.client.enums import RiskLevel, TradingState

UNKNOWN = "–"
"""Stands where a number is not known."""

LEVEL_STYLES = {
    RiskLevel.NORMAL: "green",
    RiskLevel.WARNING: "yellow",
    RiskLevel.CRITICAL: "bold dark_orange",
    RiskLevel.LIQUIDATING: "bold red",
    RiskLevel.UNKNOWN: "bold magenta",
}
STATE_STYLES = {
    TradingState.ACTIVE: "",
    TradingState.REDUCING: "yellow",
    TradingState.HALTED: "bold red",
}


def grouped(value: Decimal) -> str:
    """All digits that matter, thousands apart."""
    plain = format(abs(value) if value.is_zero() else value, ",f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def amount(value: Decimal | None) -> str:
    """Money: two decimals, more where it is small."""
    if value is None:
        return UNKNOWN
    places = 2 if abs(value) >= 100 or value.is_zero() else 4 if abs(value) >= 1 else 8
    whole, _, fraction = format(round(value, places), f",.{places}f").partition(".")
    shown = f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    return shown.removeprefix("-") if not shown.strip("-0.,") else shown


def change(value: Decimal | None) -> str:
    """Money that came in or went out, with its sign."""
    return f"+{amount(value)}" if value is not None and value > 0 else amount(value)


def percent(value: Decimal | None, places: int = 1) -> str:
    """A fraction as percentage."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 10:
        places = 0
    return f"{format(round(value * 100, places), f',.{places}f')} %"


def move(value: Decimal | None) -> str:
    """A relative move of a price, with its sign. None: no move does it."""
    if value is None:
        return "none"
    return "already there" if value.is_zero() else f"{'+' if value > 0 else ''}{percent(value, 2)}"


def utilization(value: Decimal | None, equity: Decimal | None) -> str:
    """Margin utilization; it has no number where equity is used up, and none where equity is unknown."""
    if value is None and equity is not None:
        return "no equity"
    return percent(value)


def span(length: timedelta) -> str:
    """How long, in the unit that suits."""
    seconds = max(length.total_seconds(), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def moment(time: datetime | None) -> str:
    """A time, to the second, in UTC."""
    return UNKNOWN if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(time: datetime | None) -> str:
    """A time of day, to the second, in UTC."""
    return UNKNOWN if time is None else time.astimezone(UTC).strftime("%H:%M:%S")


def level_text(level: RiskLevel | None) -> Text:
    return Text(UNKNOWN) if level is None else Text(level.value, LEVEL_STYLES.get(level, ""))


def state_text(state: TradingState) -> Text:
    return Text(state.value, STATE_STYLES.get(state, ""))


def signed_text(value: Decimal | None) -> Text:
    """A gain in green, a loss in red."""
    style = "" if not value else "green" if value > 0 else "red"
    return Text(change(value), style)


def counted(count: int, noun: str, nouns: str = "") -> str:
    """`1 position`, `2 positions`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(items: Iterable[str]) -> str:
    """`a, b and c`."""
    *others, last = [*items] or [""]
    return f"{', '.join(others)} and {last}" if others else last
