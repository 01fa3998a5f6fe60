"""A toy domain for the tests of shards: named tallies that may not go below zero."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import Journal, Row
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.journal.state import Change
from debt_mgmt.server.shard import Committed, Context, Shard

START = datetime(2026, 1, 2, tzinfo=UTC)


class Added(msgspec.Struct, frozen=True, tag=True, tag_field="event"):
    amount: Decimal
    note: str = ""


class Cleared(msgspec.Struct, frozen=True, tag=True, tag_field="event"):
    at: datetime


class Tally(msgspec.Struct, frozen=True):
    total: Decimal
    count: int
    notes: dict[str, int] = {}


class Add(msgspec.Struct, frozen=True):
    """Add an amount `times` over, one event each; zero adds nothing."""

    amount: Decimal
    times: int = 1
    note: str = ""


class Clear(msgspec.Struct, frozen=True):
    pass


class BelowZero(Exception):
    pass


def decide(tally: Tally | None, command: Add | Clear, context: Context) -> tuple[Added | Cleared, ...]:
    total = tally.total if tally is not None else Decimal(0)
    if isinstance(command, Clear):
        return (Cleared(context.at),)
    if total + command.amount * command.times < 0:
        raise BelowZero(f"{total} + {command.times} × {command.amount}")
    if not command.amount:
        return ()
    return (Added(command.amount, command.note),) * command.times


def apply(tally: Tally | None, event: Added | Cleared) -> Tally:
    tally = tally or Tally(Decimal(0), 0)
    if isinstance(event, Cleared):
        return Tally(Decimal(0), 0)
    notes = tally.notes if not event.note else {**tally.notes, event.note: tally.count}
    return Tally(tally.total + event.amount, tally.count + 1, notes)


def codec() -> Codec[Tally, Added | Cleared]:
    return Codec(Added | Cleared, Tally)


class Clock:
    """Goes on by a second each time it is asked."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


TallyShard = Shard[Tally, Add | Clear, Added | Cleared]
TallyChange = Change[Tally, Added | Cleared]


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.changes: list[TallyChange] = []

    def __call__(self, changes: list[TallyChange]) -> None:
        self.changes += changes

    @property
    def positions(self) -> list[int]:
        return [change.position for change in self.changes]


async def started(
    journal: Journal, *, epoch: int = 1, number: int = 1, listener: Listener | None = None, **options: object
) -> TallyShard:
    """A running shard of tallies."""
    shard: TallyShard = Shard(
        number,
        journal,
        decide,
        apply,
        codec(),
        Clock(),
        on_commit=listener,
        epoch=epoch,
        **options,  # type: ignore[arg-type]
    )
    await shard.start()
    return shard


class GatedJournal(MemoryJournal):
    """A journal whose appends wait until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    async def append(self, rows: Sequence[Row]) -> None:
        self.arrived.set()
        await self.gate.wait()
        await super().append(rows)


async def add(
    shard: TallyShard, amount: int, key: str = "a", *, request_id: str = "", digest: bytes = b"", times: int = 1
) -> Committed[Added | Cleared]:
    return await shard.submit(key, Add(Decimal(amount), times), request_id=request_id, digest=digest, actor="desk")


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def abandon(shard: TallyShard) -> None:
    """What a kill does: nothing is drained, no snapshot is stored."""
    writer = shard._writer
    assert writer is not None
    writer.cancel()
    with suppress(asyncio.CancelledError):
        await writer
