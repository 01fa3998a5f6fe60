"""The tape: recorded bars read from CSV, instant by instant, and played back at any speed."""

import asyncio
import csv
import gzip
import io
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from debt_mgmt.core.money import parse

COLUMNS = ("timestamp_ms", "symbol", "close")
"""What a tape must have; other columns, such as open, high, low and volume, are passed over."""

GZIP_MAGIC = b"\x1f\x8b"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""


class Instant(NamedTuple):
    """The close prices of all bars of one timestamp: they hold together."""

    time: datetime
    prices: list[tuple[str, Decimal]]


class TapeError(Exception):
    """A tape that can't be read, or says what no market can have said. `line` counts from 1; None: the whole file."""

    def __init__(self, tape: str, line: int | None, problem: str) -> None:
        super().__init__(f"{tape}, line {line}: {problem}" if line is not None else f"{tape}: {problem}")
        self.tape = tape
        self.line = line
        self.problem = problem


def read_tape(path: Path) -> Iterator[Instant]:
    """The instants of a CSV file, plain or gzip, in order of time. Raises TapeError at the first bad line."""
    name = path.name
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            raw = gzip.GzipFile(fileobj=file) if compressed else file
            with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as lines:
                yield from instants(name, lines)
    except (OSError, EOFError, zlib.error) as error:
        raise TapeError(name, None, f"can't be read: {getattr(error, 'strerror', None) or error}") from error


def instants(name: str, lines: Iterable[str]) -> Iterator[Instant]:
    """The instants in the lines of a CSV, header first. `name` is the tape's, for errors."""
    rows = numbered(name, lines)
    _, header = next(rows, (0, []))
    if not header:
        raise TapeError(name, None, "the file is empty")
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise TapeError(name, 1, f"the header lacks {', '.join(missing)}: it is {', '.join(header)[:200]!r}")
    at_time, at_symbol, at_close = (header.index(column) for column in COLUMNS)
    now, bars = -1, dict[str, Decimal]()
    for line, row in rows:
        if len(row) != len(header):
            raise TapeError(name, line, f"{len(row)} fields where the header has {len(header)}")
        time, symbol = row[at_time], row[at_symbol]
        if not (time.isascii() and time.isdigit() and len(time) <= 15 and int(time) <= TIMESTAMP_MAX):
            raise TapeError(name, line, f"timestamp_ms is not a time in milliseconds: {time[:48]!r}")
        if not symbol:
            raise TapeError(name, line, "symbol is empty")
        try:
            close = parse(row[at_close])
        except ValueError as error:
            raise TapeError(name, line, f"close is {error}") from error
        if close <= 0:
            raise TapeError(name, line, f"close must be above zero, not {row[at_close]}")
        if int(time) < now:
            raise TapeError(name, line, f"time goes backwards: {time} after {now}")
        if int(time) > now and bars:
            yield Instant(EPOCH + timedelta(milliseconds=now), list(bars.items()))
            bars = {}
        now = int(time)
        if symbol in bars:
            raise TapeError(name, line, f"{symbol} has a second bar at {time}")
        bars[symbol] = close
    if not bars:
        raise TapeError(name, None, "there is a header and no bar")
    yield Instant(EPOCH + timedelta(milliseconds=now), list(bars.items()))


def numbered(name: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of every line that is not blank."""
    rows = csv.reader(lines, strict=True)
    try:
        yield from ((rows.line_num, row) for row in rows if row)
    except csv.Error as error:
        raise TapeError(name, rows.line_num, f"not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise TapeError(name, None, f"not text in UTF-8: {error}") from error


async def paced(
    tape: Iterable[Instant],
    speed: float | None,
    *,
    clock: Callable[[], float] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Instant]:
    """The instants of a tape, each at its time: `speed` times as fast as recorded, or without waiting where None.

    Waits are reckoned from the first instant, so that a slow taker does not make the whole tape late.
    """
    if speed is not None and not speed > 0:
        raise ValueError(f"the speed must be above zero, not {speed}")
    clock = clock or asyncio.get_running_loop().time
    began: tuple[float, datetime] | None = None
    for instant in tape:
        if speed is not None:
            began = began or (clock(), instant.time)
            due = began[0] + (instant.time - began[1]).total_seconds() / speed
            if due > clock():
                await sleep(due - clock())
        yield instant
