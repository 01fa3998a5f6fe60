"""A journal in memory with the same promises, which fails where told or seeded to: for tests and simulation."""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime
from enum import Enum

import msgspec

from debt_mgmt.server.journal.journal import (
    EMPTY_LOG,
    LOG_OPENED,
    AppendAmbiguous,
    Head,
    JournalUnavailable,
    Row,
    Snapshot,
)


class Fault(Enum):
    """How an append fails."""

    BEFORE = "nothing is written"
    AFTER = "the rows are written, but the answer is lost"
    LATE = "the answer is lost, and the rows are written some time later, if their place is still free"


class Faults(msgspec.Struct, frozen=True):
    """How often appends fail by themselves, as probabilities, and how long each call takes at most."""

    before: float = 0.0
    after: float = 0.0
    late: float = 0.0
    delay_seconds_max: float = 0.0


class MemoryJournal:
    """Logs, snapshots and facts in memory. A new shard on the same journal is a restart of the service.

    The faults are drawn from the seed, so a run can be repeated. `down` makes every call fail.
    """

    def __init__(self, *, seed: int = 0, faults: Faults | None = None) -> None:
        self.down = False
        self.faults = faults or Faults()
        self.append_sizes: list[int] = []
        self._random = random.Random(seed)
        self._next_faults: deque[Fault] = deque()
        self._logs: defaultdict[int, list[Row]] = defaultdict(list)
        self._late: list[tuple[Row, ...]] = []
        self._snapshots: dict[tuple[int, int], Snapshot] = {}
        self._bases: dict[int, Snapshot] = {}
        """Rows up to a base stay in the list, out of sight: the place of a row is its position."""
        self._meta: dict[str, str] = {}

    def fail_next(self, *faults: Fault) -> None:
        """Make the next appends fail like this, in this order."""
        self._next_faults.extend(faults)

    def rows(self, shard: int) -> list[Row]:
        """The stored log itself, to look at or to tamper with."""
        return self._logs[shard]

    async def ready(self) -> None:
        pass

    async def append(self, rows: Sequence[Row]) -> None:
        try:
            await self._arrive()
            fault = self._draw_fault()
            if fault is Fault.BEFORE:
                raise JournalUnavailable("failed before the write")
            if fault is Fault.LATE:
                self._late.append(tuple(rows))
                raise JournalUnavailable("no answer yet")
            self._store(rows)
            if fault is Fault.AFTER:
                raise JournalUnavailable("failed after the write")
        except (JournalUnavailable, _Refused) as error:
            raise AppendAmbiguous(str(error)) from error

    async def read(self, shard: int, after_position: int = 0, page_rows: int = 4096) -> AsyncIterator[list[Row]]:
        position = max(after_position, self._dropped(shard))
        while True:
            await self._arrive()
            page = self._logs[shard][position : position + page_rows]
            if not page:
                return
            yield page
            position += len(page)

    async def head(self, shard: int) -> Head:
        await self._arrive()
        log = self._logs[shard]
        return Head(log[-1].position, log[-1].hash) if log else EMPTY_LOG

    async def read_rows(self, shard: int, first_position: int, last_position: int) -> list[Row]:
        await self._arrive()
        first = max(0, first_position - 1, self._dropped(shard))
        return self._logs[shard][first : max(0, last_position)]

    async def list_rows(
        self,
        *,
        account_id: str | None = None,
        kinds: Collection[str] | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 100,
        log_opened: bool = False,
    ) -> list[Row]:
        await self._arrive()
        found = [
            row
            for row in self._all_rows()
            if (account_id is None or row.account_id == account_id)
            and (kinds is None or row.kind in kinds)
            and (actor is None or actor in row.actor)
            and (since is None or row.at >= since)
            and (until is None or row.at < until)
            and (after is None or (row.shard, row.position) > after)
            and (log_opened or row.kind != LOG_OPENED)
        ]
        return found[:limit]

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._arrive()
        self._snapshots.setdefault((snapshot.shard, snapshot.position), snapshot)

    async def load_snapshot(self, shard: int, before_position: int | None = None) -> Snapshot | None:
        await self._arrive()
        positions = [
            position
            for number, position in self._snapshots
            if number == shard and (before_position is None or position < before_position)
        ]
        return self._snapshots[shard, max(positions)] if positions else None

    async def prune_snapshots(self, shard: int, keep: int = 2) -> None:
        await self._arrive()
        positions = sorted(position for number, position in self._snapshots if number == shard)
        for position in positions[: max(0, len(positions) - keep)]:
            del self._snapshots[shard, position]

    async def prepare(self, shards: Collection[int]) -> None:
        await self._arrive()

    async def load_base(self, shard: int) -> Snapshot | None:
        await self._arrive()
        return self._bases.get(shard)

    async def drop(self, base: Snapshot) -> None:
        await self._arrive()
        self._bases[base.shard] = base

    async def get_meta(self, key: str) -> str | None:
        await self._arrive()
        return self._meta.get(key)

    async def all_meta(self) -> dict[str, str]:
        await self._arrive()
        return dict(self._meta)

    async def set_meta(self, key: str, value: str) -> None:
        await self._arrive()
        self._meta[key] = value

    async def set_meta_once(self, key: str, value: str) -> str:
        await self._arrive()
        return self._meta.setdefault(key, value)

    async def next_epoch(self) -> int:
        await self._arrive()
        epoch = int(self._meta.get("epoch", "0")) + 1
        self._meta["epoch"] = str(epoch)
        return epoch

    async def close(self) -> None:
        """Nothing is held."""

    def _all_rows(self) -> Iterable[Row]:
        return (row for shard in sorted(self._logs) for row in self._logs[shard][self._dropped(shard) :])

    def _dropped(self, shard: int) -> int:
        base = self._bases.get(shard)
        return 0 if base is None else base.position

    async def _arrive(self) -> None:
        """Every call takes a moment, in which what was late may be written."""
        await asyncio.sleep(self._random.uniform(0, self.faults.delay_seconds_max))
        if self.down:
            raise JournalUnavailable("down")
        for rows in [rows for rows in self._late if self._random.random() < 0.5]:
            self._late.remove(rows)
            try:
                self._store(rows)
            except _Refused:
                continue  # Its place is taken: that append has failed for good.

    def _draw_fault(self) -> Fault | None:
        if self._next_faults:
            return self._next_faults.popleft()
        chance = self._random.random()
        for fault, share in (
            (Fault.BEFORE, self.faults.before),
            (Fault.AFTER, self.faults.after),
            (Fault.LATE, self.faults.late),
        ):
            if chance < share:
                return fault
            chance -= share
        return None

    def _store(self, rows: Sequence[Row]) -> None:
        log = self._logs[rows[0].shard]
        for row in rows:
            _check_storable(row)
        if rows[0].position <= len(log):
            raise _Refused(f"position {rows[0].position} of shard {rows[0].shard} is taken")
        positions = [row.position for row in rows]
        if not log and self._dropped(rows[0].shard):
            log.extend([rows[0]] * self._dropped(rows[0].shard))  # out of sight, as after a drop
        assert positions == list(range(len(log) + 1, len(log) + 1 + len(rows))), "a writer left a gap"
        log.extend(rows)
        self.append_sizes.append(len(rows))


class _Refused(Exception):
    """A database would refuse these rows."""


def _check_storable(row: Row) -> None:
    try:
        msgspec.json.decode(row.payload)
    except msgspec.DecodeError as error:
        raise _Refused("the payload is not JSON") from error
    if any("\0" in text for text in (row.account_id, row.request_id, row.actor, row.kind)):
        raise _Refused("text contains NUL")
