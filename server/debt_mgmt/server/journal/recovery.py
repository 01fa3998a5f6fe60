"""How a log becomes state again: from the newest snapshot and the rows after it, or from the first row."""

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple

import msgspec

from debt_mgmt.server.journal.codec import Codec, Entity, Event
from debt_mgmt.server.journal.journal import Head, Journal, JournalDamaged
from debt_mgmt.server.journal.state import Fingerprint, LogState

_log = logging.getLogger(__name__)


class Recovered(NamedTuple, Generic[Entity, Event]):
    """The state at the head of a log, and how many events had to be read after the snapshot."""

    state: LogState[Entity, Event]
    events_after_snapshot: int


class Replay(NamedTuple):
    """What a log adds up to when it is read from its first row."""

    head: Head
    fingerprint: Fingerprint
    rows: int
    seconds: float


async def recover(
    journal: Journal, empty: Callable[[], LogState[Entity, Event]], state_version: str
) -> Recovered[Entity, Event]:
    """Rebuild the state of a log. Raises JournalDamaged at the first row that cannot follow the one before."""
    with _uncollected():
        state = await _newest_snapshot(journal, empty, state_version)
        events = 0
        async for rows in journal.read(state.shard, state.head.position):
            events += state.fold(rows)
        return Recovered(state, events)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Garbage is not looked for meanwhile: what is loaded stays, and looking through it again and again takes time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


async def replay(
    journal: Journal,
    number: int,
    apply: Callable[[Entity | None, Event], Entity],
    event_codec: Codec[Entity, Event],
    *,
    until_position: int | None = None,
    page_rows: int = 4096,
) -> Replay:
    """Fold a log from its first row, without snapshots, and verify every row on the way.

    The fingerprint must be that of the live shard at the same position. Raises JournalDamaged at the first bad row.
    Nothing else runs while a page is folded, so a service that is busy asks for small pages.
    """
    started = time.perf_counter()
    state: LogState[Any, Event] = LogState(number, apply, event_codec, remember_requests=False)
    state = await beginning(journal, state)
    async for rows in journal.read(number, state.head.position, page_rows=page_rows):
        if until_position is not None and rows[-1].position >= until_position:
            state.fold(row for row in rows if row.position <= until_position)
            break
        state.fold(rows)
    fingerprint = await state.fingerprint()
    return Replay(state.head, fingerprint, state.head.position, time.perf_counter() - started)


async def _newest_snapshot(
    journal: Journal, empty: Callable[[], LogState[Entity, Event]], state_version: str
) -> LogState[Entity, Event]:
    """The newest snapshot that can be used. It only saves time, so one that cannot be used is passed over."""
    shard, before = empty().shard, None
    base = await journal.load_base(shard)
    while (snapshot := await journal.load_snapshot(shard, before)) is not None:
        before = snapshot.position
        if base is not None and before <= base.position:
            break
        if snapshot.code_version != state_version:
            _log.info("shard %d: snapshot at %d is of version %s, passed over", shard, before, snapshot.code_version)
            continue
        state = empty()
        try:
            await state.restore(snapshot)
        except (JournalDamaged, msgspec.MsgspecError) as error:
            _log.warning("shard %d: snapshot at %d cannot be used: %s", shard, before, error)
            continue
        anchor = await journal.read_rows(shard, before, before)
        if [row.hash for row in anchor] != [state.head.hash]:
            raise JournalDamaged(shard, before, "a snapshot was taken of a row that is not there")
        return state
    return await beginning(journal, empty())


async def beginning(journal: Journal, state: LogState[Entity, Event]) -> LogState[Entity, Event]:
    """The state before the first row that is kept: empty, or what took the place of dropped rows."""
    base = await journal.load_base(state.shard)
    if base is not None:
        await state.restore(base)
    return state
