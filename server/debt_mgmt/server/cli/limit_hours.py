"""When a limit set is in force, as people write it: `sat 00:00 - mon 00:00 Europe/Zurich`, `mon-fri 22:00-06:00`."""

import re
from collections.abc import Sequence

import typer

from debt_mgmt.client import LimitHours

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
ALWAYS = "always"

DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*"
TIME = r"[0-2]?[0-9]:[0-5][0-9]"
DASH = r"\s*(?:-|–|to)\s*"
ZONE = r"(?:\s+([A-Za-z][A-Za-z0-9_+/-]*))?"
OVER_DAYS = re.compile(rf"({DAY})\s+({TIME}){DASH}({DAY})\s+({TIME}){ZONE}", re.I | re.A)
EACH_DAY = re.compile(
    rf"(?:((?:{DAY}|daily|every\s+day)(?:(?:[-–]|,\s*){DAY})*)\s+)?({TIME}){DASH}({TIME}){ZONE}", re.I | re.A
)

HOW = "write 'sat 00:00 - mon 00:00 Europe/Zurich', 'mon-fri 22:00-06:00' or '22:00-06:00'"


def hours_of(text: str) -> list[LimitHours]:
    """The parts of the week that the words mean; a span of several days is one part for each of them, or less."""
    words = text.strip()
    if over := OVER_DAYS.fullmatch(words):
        first, start, last, end, zone = over.groups()
        return over_days(place_of(first, start, text), place_of(last, end, text), zone, text)
    if each := EACH_DAY.fullmatch(words):
        days, start, end, zone = each.groups()
        begin, until = minutes_of(start, text), minutes_of(end, text)
        if begin == DAY_MINUTES:
            raise typer.BadParameter(f"{text!r} begins at the end of a day: write 00:00 and the day after")
        return [LimitHours(clock(begin), clock(until), days_of(days, text), zone)]
    raise typer.BadParameter(f"{text!r} is no part of a week: {HOW}")


def over_days(start: int, end: int, zone: str | None, text: str) -> list[LimitHours]:
    """From one minute of the week to another, at most around it once."""
    length = (end - start) % WEEK_MINUTES
    if not length:
        raise typer.BadParameter(f"{text!r} ends where it begins: leave --hours out for a set that is always in force")
    day, begin = divmod(start % WEEK_MINUTES, DAY_MINUTES)
    if length <= DAY_MINUTES:
        return [LimitHours(clock(begin), clock((begin + length) % DAY_MINUTES or DAY_MINUTES), [DAYS[day]], zone)]
    parts: list[LimitHours] = []
    if begin:
        parts.append(LimitHours(clock(begin), "24:00", [DAYS[day]], zone))
        length, day = length - (DAY_MINUTES - begin), day + 1
    whole, rest = divmod(length, DAY_MINUTES)
    if whole:
        parts.append(LimitHours("00:00", "24:00", [DAYS[(day + after) % 7] for after in range(whole)], zone))
    if rest:
        parts.append(LimitHours("00:00", clock(rest), [DAYS[(day + whole) % 7]], zone))
    return parts


def hours_words(hours: Sequence[LimitHours]) -> str:
    """The same in words, spans that follow each other made one again. Empty: always."""
    zones = list(dict.fromkeys(part.time_zone or "UTC" for part in hours))
    parts = {zone: [part for part in hours if (part.time_zone or "UTC") == zone] for zone in zones}
    words = [(spans_words(part), zone) for zone, part in parts.items()]
    return ALWAYS if not hours or (ALWAYS in dict(words)) else "; ".join(f"{span} {zone}" for span, zone in words)


def spans_words(hours: Sequence[LimitHours]) -> str:
    spans = joined(sorted({span for part in hours for span in spans_of(part)}))
    alike: dict[tuple[int, int], list[int]] = {}
    for start, length in spans:
        day, begin = divmod(start, DAY_MINUTES)
        alike.setdefault((begin, length), []).append(day)
    return ", ".join(span_words(begin, length, days) for (begin, length), days in alike.items())


def span_words(begin: int, length: int, days: list[int]) -> str:
    if length >= WEEK_MINUTES:
        return ALWAYS
    if length > DAY_MINUTES:
        ends = ((day * DAY_MINUTES + begin + length) % WEEK_MINUTES for day in days)
        return ", ".join(
            f"{DAYS[day][:3]} {clock(begin)} – {DAYS[end // DAY_MINUTES][:3]} {clock(end % DAY_MINUTES)}"
            for day, end in zip(days, ends, strict=True)
        )
    end = (begin + length) % DAY_MINUTES or DAY_MINUTES
    return f"{days_words(days)}{clock(begin)}–{clock(end)}"


def days_words(days: list[int]) -> str:
    if len(days) == len(DAYS):
        return "daily "
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        return f"{DAYS[days[0]][:3]}–{DAYS[days[-1]][:3]} "
    return f"{', '.join(DAYS[day][:3] for day in days)} "


def spans_of(part: LimitHours) -> list[tuple[int, int]]:
    """(first minute of the week, minutes) of each day on which the part begins."""
    begin, until = (minutes_of(text, text) for text in (part.start_time, part.end_time))
    length = until - begin if until > begin else until + DAY_MINUTES - begin
    return [(DAYS.index(day) * DAY_MINUTES + begin, length) for day in part.days or DAYS]


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that end where the next begins as one, around the end of the week too; equal daily ones stay apart."""
    if len(spans) == len(DAYS) and len({length for _, length in spans}) == 1 and spans[0][1] < DAY_MINUTES:
        return spans
    made: list[tuple[int, int]] = []
    for start, length in spans:
        if made and made[-1][0] + made[-1][1] == start:
            made[-1] = (made[-1][0], made[-1][1] + length)
        else:
            made.append((start, length))
    if len(made) > 1 and (made[-1][0] + made[-1][1]) % WEEK_MINUTES == made[0][0]:
        last, first = made.pop(), made.pop(0)
        made.append((last[0], last[1] + first[1]))
    return made


def days_of(text: str | None, whole: str) -> list[str]:
    """`mon-fri` or `sat,sun`; nothing: every day."""
    if text is None or text.lower().startswith(("daily", "every")):
        return []
    found: list[str] = []
    for part in text.split(","):
        first, last = (DAYS.index(day_of(each, whole)) for each in (re.split("[-–]", part.strip()) * 2)[:2])
        found += [DAYS[day % 7] for day in range(first, last + 1 if first <= last else last + 8)]
    return [day for day in DAYS if day in found]


def day_of(text: str, whole: str) -> str:
    for day in DAYS:
        if day.startswith(text.lower()):
            return day
    raise typer.BadParameter(f"{whole!r}: {text!r} is no day")


def place_of(day: str, time: str, whole: str) -> int:
    """A minute of the week."""
    return DAYS.index(day_of(day, whole)) * DAY_MINUTES + minutes_of(time, whole)


def minutes_of(time: str, whole: str) -> int:
    hour, _, minute = time.partition(":")
    minutes = int(hour) * 60 + int(minute)
    if minutes > DAY_MINUTES:
        raise typer.BadParameter(f"{whole!r}: {time} is no time of day")
    return minutes


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
