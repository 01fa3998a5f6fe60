"""The single writer of one log: takes what waits, decides it, appends it in one statement, then answers."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from debt_mgmt.server.journal.codec import Codec, Entity, Event
from debt_mgmt.server.journal.journal import (
    ACTOR_BYTES_MAX,
    APPEND_ROWS_MAX,
    KEY_BYTES_MAX,
    LOG_OPENED,
    AppendAmbiguous,
    Head,
    Journal,
    JournalDamaged,
    JournalUnavailable,
    Row,
    check_text,
    link,
    microseconds,
)
from debt_mgmt.server.journal.recovery import recover
from debt_mgmt.server.journal.requests import Answered, digest_of
from debt_mgmt.server.journal.state import REQUEST_WINDOW, Change, Fingerprint, LogState
from debt_mgmt.server.shard_answers import (
    Committed,
    Context,
    Fenced,
    NotJournaled,
    Overloaded,
    RequestIdReused,
    Revision,
    ShardError,
    ShardHalted,
    ShardStopped,
)
from debt_mgmt.server.shard_batch import Batch, Waiting, resolve
from debt_mgmt.server.shard_counters import ShardCounters

__all__ = [
    "Change",
    "Committed",
    "Context",
    "Fenced",
    "Fingerprint",
    "NotJournaled",
    "Overloaded",
    "RequestIdReused",
    "Revision",
    "Shard",
    "ShardCounters",
    "ShardError",
    "ShardHalted",
    "ShardStopped",
]

Command = TypeVar("Command")

WAITING_MAX = 10_000
SNAPSHOT_EVENTS = 50_000
SNAPSHOTS_KEPT = 2
COMMAND_EVENTS_MAX = 4_096
EVENT_BYTES_MAX = 8 * 1024 * 1024

_APPENDS_TOGETHER_MAX = 2
_APPENDS_MAX = 5
_BACKOFF_SECONDS_MIN = 0.02
_BACKOFF_SECONDS_MAX = 0.5
_SNAPSHOT_RETRY_SECONDS = 10.0
_DRAIN_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Outcome(Enum):
    """What became of an append that failed."""

    IN_LOG = "in the log"
    OVERTAKEN = "another writer's row is in its place"
    KEPT_OUT = "our own later row is in its place"


class Shard(Generic[Entity, Command, Event]):
    """One log, its entities in memory, and the one task that writes it.

    `decide` and `apply` are pure and do not await. `on_commit` is told, before the callers are answered and in log
    order, what became durable; it must not block. Reads see committed state only.
    """

    def __init__(
        self,
        number: int,
        journal: Journal,
        decide: Callable[[Entity | None, Command, Context], Sequence[Event]],
        apply: Callable[[Entity | None, Event], Entity],
        event_codec: Codec[Entity, Event],
        clock: Callable[[], datetime],
        *,
        on_commit: Callable[[list[Change[Entity, Event]]], None] | None = None,
        epoch: int,
        state_version: str = "1",
        waiting_max: int = WAITING_MAX,
        snapshot_events: int = SNAPSHOT_EVENTS,
        request_window: timedelta = REQUEST_WINDOW,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.counters = ShardCounters()
        self._journal = journal
        self._decide = decide
        self._apply = apply
        self._codec = event_codec
        self._clock = clock
        self._on_commit = on_commit
        self._state_version = state_version
        self._waiting_max = waiting_max
        self._snapshot_events = snapshot_events
        self._request_window = request_window
        self._state = self._empty_state()
        self._events_since_snapshot = 0
        self._queue: deque[Waiting[Command, Event]] = deque()
        self._work = asyncio.Event()
        self._accepting = False
        self._halted: ShardHalted | None = None
        self._writer: asyncio.Task[None] | None = None
        self._snapshotting: asyncio.Task[None] | None = None
        self._snapshot_lock = asyncio.Lock()
        self._snapshot_not_before = 0.0
        self._repeats: set[asyncio.Task[None]] = set()
        self._writing_since: float | None = None
        self._writing: Batch[Entity, Command, Event] | None = None

    # Reading

    def entity(self, key: str) -> Entity | None:
        """The committed state of one entity."""
        return self._state.entities.get(key)

    @property
    def entities(self) -> Mapping[str, Entity]:
        """The committed state of all entities."""
        return MappingProxyType(self._state.entities)

    @property
    def undurable(self) -> tuple[int, Mapping[str, Entity]]:
        """Entities as what is being written will leave them, and the last position of that."""
        writing = self._writing
        return (0, {}) if writing is None else (writing.head.position, writing.entities)

    @property
    def revision(self) -> Revision:
        """The last committed position."""
        return Revision(self.number, self._state.head.position)

    @property
    def head(self) -> Head:
        """The last committed row: its position and its hash, as this writer knows them."""
        return self._state.head

    @property
    def newest_at(self) -> datetime:
        """The time of the last committed row."""
        return self._state.at

    @property
    def waiting(self) -> int:
        """Commands that wait to be decided."""
        return len(self._queue)

    @property
    def stuck_seconds(self) -> float:
        """For how long the commands that are being written have not become durable; 0 where none are."""
        return time.perf_counter() - self._writing_since if self._writing_since is not None else 0.0

    @property
    def halted(self) -> ShardHalted | None:
        """Why the shard writes nothing more, None while it does."""
        return self._halted

    async def fingerprint(self) -> Fingerprint:
        """The fingerprint of the committed state, and the position it is of."""
        return await self._state.fingerprint()

    # Life

    async def start(self) -> None:
        """Load snapshot and tail, take the log over from an earlier writer, and begin to write.

        Raises JournalUnavailable, JournalDamaged, or Fenced when a writer with a higher epoch was here.
        """
        if self._writer is not None:
            raise RuntimeError(f"shard {self.number} is started already")
        recovered = await recover(self._journal, self._empty_state, self._state_version)
        self._state, self._events_since_snapshot = recovered
        self._check_epoch()
        if self._state.head.position > 0:
            await self._take_over()
        self._accepting = True
        self._writer = asyncio.create_task(self._write(), name=f"shard {self.number} writer")

    async def submit(
        self,
        key: str,
        command: Command,
        *,
        request_id: str = "",
        fact_id: str = "",
        digest: bytes = b"",
        actor: str = "",
    ) -> Committed[Event]:
        """Decide a command on the entity with this key, and return once its events are durable.

        A request id that was answered within the window returns the same events again, `replayed`, if the digest is
        equal, and raises RequestIdReused if not. The empty request id is for commands of our own: it is never repeated.
        `fact_id` is a second such id, that of something that happened and counts once however often it is told; its
        first event must be known by it to the codec.
        Whatever `decide` raises is raised here, and nothing of the command is journaled. Cancelling the caller does not
        cancel the command. While the journal is down the call waits as long as the caller does.
        """
        if self._halted is not None:
            raise self._halted_again()
        if not self._accepting:
            raise ShardStopped(f"shard {self.number} takes no commands")
        if len(self._queue) >= self._waiting_max:
            self.counters.overloaded += 1
            raise Overloaded(self.number, len(self._queue))
        check_text("key", key, KEY_BYTES_MAX)
        check_text("request id", request_id, KEY_BYTES_MAX)
        check_text("actor", actor, ACTOR_BYTES_MAX)
        future: asyncio.Future[Committed[Event]] = asyncio.get_running_loop().create_future()
        kept_digest = digest if request_id or fact_id else None
        self._queue.append(Waiting(key, command, request_id, fact_id, kept_digest, actor, future))
        self._work.set()
        return await future

    async def snapshot(self) -> None:
        """Store a snapshot of the committed state and delete the ones that it makes superfluous."""
        async with self._snapshot_lock:
            covered = self._events_since_snapshot
            snapshot = await self._state.snapshot(self._state_version, self._clock())
            await self._journal.save_snapshot(snapshot)
            await self._journal.prune_snapshots(self.number, SNAPSHOTS_KEPT)
            self._events_since_snapshot -= covered
            self.counters.snapshots += 1
            self.counters.snapshot_position = snapshot.position

    async def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Refuse new commands, finish those that wait, store a snapshot. What cannot be finished in time is failed."""
        self._accepting = False
        self._work.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + drain_seconds
        await _finish({self._writer} if self._writer else set(), deadline)
        self._fail_waiting(lambda: ShardStopped(f"shard {self.number} was stopped before the command was durable"))
        await _finish(self._repeats | ({self._snapshotting} if self._snapshotting else set()), deadline)
        if self._writer is not None and self._halted is None and self._events_since_snapshot > 0:
            try:
                await asyncio.wait_for(self.snapshot(), max(1.0, deadline - loop.time()))
            except (JournalUnavailable, TimeoutError) as error:
                _log.warning("shard %d stopped without a snapshot, the next start reads more: %s", self.number, error)
        self._writer = None

    # Writing

    def _empty_state(self) -> LogState[Entity, Event]:
        return LogState(self.number, self._apply, self._codec, self._request_window)

    def _check_epoch(self) -> None:
        if self._state.epoch > self.epoch:
            raise Fenced(self.number, self.epoch, self._state.epoch)

    async def _write(self) -> None:
        batch: Batch[Entity, Command, Event] | None = None
        try:
            while True:
                if not self._queue:
                    if not self._accepting:
                        return
                    self._work.clear()
                    await self._work.wait()
                    continue
                self._writing_since = self._writing_since or time.perf_counter()
                await self._journal.ready()
                batch = self._writing = self._decide_waiting()
                if not batch.rows or await self._append(batch):
                    self._answer(batch)
                    self._writing_since = None
                else:
                    self._wait_again(batch)
                without_append = not batch.rows
                batch = self._writing = None
                if without_append:
                    await asyncio.sleep(0)
                self._check_epoch()
                self._snapshot_if_due()
        except asyncio.CancelledError:
            self._wait_again(batch)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the shard stops writing and says so
            self._wait_again(batch)
            self._halt(error)

    def _decide_waiting(self) -> "Batch[Entity, Command, Event]":
        batch = Batch[Entity, Command, Event](self._state.head, self._state.at)
        queue = self._queue
        while queue and len(batch.rows) < APPEND_ROWS_MAX and len(batch.all) < APPEND_ROWS_MAX:
            alone = queue[0].appends_failed >= _APPENDS_TOGETHER_MAX
            if alone and batch.all:
                break
            waiting = queue.popleft()
            answered = self._answered(waiting)
            if answered is not None:
                self._repeat(waiting, *answered)
                continue
            batch.all.append(waiting)
            first = batch.first_with(waiting)
            if first is not None:
                batch.repeats.append((waiting, first))
                continue
            self._decide_one(waiting, batch)
            if alone:
                break
        return batch

    def _answered(self, waiting: "Waiting[Command, Event]") -> tuple[str, Answered] | None:
        """By which of its ids the command was answered before, and where."""
        find = self._state.requests.find
        return next(((name, found) for name in waiting.names if (found := find(waiting.key, name)) is not None), None)

    def _decide_one(self, waiting: "Waiting[Command, Event]", batch: "Batch[Entity, Command, Event]") -> None:
        """Decide on the state that the batch so far leads to. What goes wrong stays with this command.

        What is applied and answered is the event as it is read back from its payload: so the state is the one that a
        replay gives, to the byte, and what could not be read back is never written.
        """
        position, previous = batch.head
        entity = batch.entities[waiting.key] if waiting.key in batch.entities else self.entity(waiting.key)
        at = max(self._clock(), batch.at)
        rows: list[Row] = []
        changes: list[Change[Entity, Event]] = []
        waiting.error, waiting.result = None, None
        try:
            decided = self._decide(entity, waiting.command, Context(at, self.number, position + 1))
            if len(decided) > COMMAND_EVENTS_MAX:
                raise ShardError(f"one command may not make more than {COMMAND_EVENTS_MAX} events, not {len(decided)}")
            for one in decided:
                payload = self._codec.encode_event(one)
                if len(payload) > EVENT_BYTES_MAX:
                    raise ShardError(f"one event may not have more than {EVENT_BYTES_MAX} bytes, not {len(payload)}")
                event = self._codec.decode_event(payload)
                position += 1
                row = link(
                    previous, self.number, position, self.epoch, at, waiting.key, waiting.request_id,
                    waiting.digest, waiting.actor, self._codec.kind(event), payload,
                )  # fmt: skip
                previous = row.hash
                entity = self._apply(entity, event)
                rows.append(row)
                changes.append(Change(waiting.key, event, position, at, entity))
        except Exception as error:  # noqa: BLE001 - it is raised to whoever waits for this command
            waiting.error = error
            return
        if not rows:
            waiting.result = Committed((), position, position, at)
            return
        waiting.result = Committed(tuple(change.event for change in changes), rows[0].position, position, at)
        batch.head, batch.at = Head(position, previous), at
        batch.rows.extend(rows)
        batch.changes.extend(changes)
        batch.entities[waiting.key] = changes[-1].entity
        for name in waiting.names:
            batch.requests[waiting.key, name] = waiting

    async def _append(self, batch: "Batch[Entity, Command, Event]") -> bool:
        """Make the batch durable and its state the committed one. False if the batch certainly is not in the log."""
        started = time.perf_counter()
        try:
            await self._journal.append(batch.rows)
        except AppendAmbiguous as error:
            self.counters.failed(error)
            _log.warning(
                "shard %d: append of %d rows from position %d failed, the log will tell: %s",
                self.number, len(batch.rows), batch.rows[0].position, error,
            )  # fmt: skip
            outcome = await self._settle(batch.rows)
            if outcome is Outcome.KEPT_OUT:
                await self._judge_refused(batch, error)
            return outcome is Outcome.IN_LOG
        seconds = time.perf_counter() - started
        self.counters.append_seconds += seconds
        self.counters.latencies.note(seconds)
        batch.trace_append(self.number, seconds)
        self.counters.batches += 1
        self.counters.rows += len(batch.rows)
        state = self._state
        state.entities.update(batch.entities)
        state.head, state.at = batch.head, batch.at
        state.epoch = max(state.epoch, self.epoch)
        for (key, name), waiting in batch.requests.items():
            result = waiting.result
            assert result is not None
            state.requests.note(
                key, name, waiting.digest, result.first_position, microseconds(result.at), len(result.events)
            )
        state.requests.forget(state.at)
        self._tell(batch.changes)
        return True

    async def _judge_refused(self, batch: "Batch[Entity, Command, Event]", error: AppendAmbiguous) -> None:
        """Keep commands whose events a working journal refuses time and again from failing all others for ever."""
        failed = max(waiting.appends_failed for waiting in batch.all) + 1
        for waiting in batch.all:
            waiting.appends_failed = failed
        if failed >= _APPENDS_MAX and len(batch.all) == 1:
            refused = batch.all.pop()
            refusal = NotJournaled(f"shard {self.number}: the journal refused the events {failed} times: {error}")
            refusal.__cause__ = error
            resolve(refused, refusal)
        await asyncio.sleep(min(_BACKOFF_SECONDS_MIN * 2**failed, _BACKOFF_SECONDS_MAX))

    async def _settle(self, rows: Sequence[Row]) -> Outcome:
        """Find out whether rows of unknown outcome are in the log, and if not, make sure that they never will be.

        An append that timed out may still be under way. So if the log does not show its rows, another row is written
        where they would have begun: once that one is there, the primary key keeps the late ones out for ever.
        """
        first_position, pause = rows[0].position, _BACKOFF_SECONDS_MIN
        ours: set[bytes] = set()
        while True:
            try:
                found = await self._catch_up(first_position)
                if found is not None:
                    if found == rows[0].hash:
                        return Outcome.IN_LOG
                    return Outcome.KEPT_OUT if found in ours else Outcome.OVERTAKEN
                opened = self._log_opened()
                ours.add(opened.hash)
                await self._journal.append([opened])
                self._state.fold([opened])
                return Outcome.KEPT_OUT
            except (AppendAmbiguous, JournalUnavailable) as error:
                self.counters.trouble = error
                _log.warning("shard %d: the journal fails, again in %.2f s: %s", self.number, pause, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _BACKOFF_SECONDS_MAX)

    async def _take_over(self) -> None:
        """Write a row of our own at the end of the log: from then on every append of an earlier writer fails."""
        while True:
            opened = self._log_opened()
            try:
                await self._journal.append([opened])
                self._state.fold([opened])
                return
            except AppendAmbiguous:
                if await self._settle([opened]) is not Outcome.OVERTAKEN:
                    return
                self._check_epoch()

    async def _catch_up(self, position: int) -> bytes | None:
        """Apply what the log has after the committed head, and return the hash of the row at a position, if any."""
        state, found = self._state, None
        if state.head.position:
            known = await self._journal.read_rows(self.number, state.head.position, state.head.position)
            if [row.hash for row in known] != [state.head.hash]:
                raise JournalDamaged(self.number, state.head.position, "a row that was acknowledged is no longer there")
        async for rows in self._journal.read(self.number, state.head.position):
            found = next((row.hash for row in rows if row.position == position), found)
            changes: list[Change[Entity, Event]] = []
            try:
                state.fold(rows, changes)
            finally:
                self._tell(changes)
        return found

    def _log_opened(self) -> Row:
        position, previous = self._state.head
        at = max(self._clock(), self._state.at)
        return link(previous, self.number, position + 1, self.epoch, at, "", "", None, "", LOG_OPENED, b"{}")

    def _wait_again(self, batch: "Batch[Entity, Command, Event] | None") -> None:
        if batch is not None:
            self._queue.extendleft(reversed(batch.all))

    def _answer(self, batch: "Batch[Entity, Command, Event]") -> None:
        repeats = {id(waiting) for waiting, _ in batch.repeats}
        for waiting in batch.all:
            if id(waiting) not in repeats:
                self.counters.commands += 1
                resolve(waiting, waiting.error or waiting.result)
        for waiting, first in batch.repeats:
            result = first.result
            assert result is not None
            self.counters.repeats += 1
            if waiting.digest != first.digest:
                resolve(waiting, RequestIdReused(waiting.fact_id or waiting.request_id, result.first_position))
            else:
                resolve(waiting, msgspec.structs.replace(result, replayed=True))

    def _tell(self, changes: list[Change[Entity, Event]]) -> None:
        if not changes:
            return
        self._events_since_snapshot += len(changes)
        if self._on_commit is not None:
            try:
                self._on_commit(changes)
            except Exception:  # noqa: BLE001 - the events are durable, and the callers must learn it
                self.counters.listener_errors += 1
                _log.exception("shard %d: what listens to commits failed; the events are durable", self.number)

    # Repeated requests

    def _repeat(self, waiting: "Waiting[Command, Event]", name: str, answered: Answered) -> None:
        self.counters.repeats += 1
        if digest_of(waiting.digest) != answered.digest:
            resolve(waiting, RequestIdReused(name, answered.first_position))
            return
        task = asyncio.create_task(self._answer_again(waiting, answered), name=f"shard {self.number} repeat")
        self._repeats.add(task)
        task.add_done_callback(self._repeats.discard)

    async def _answer_again(self, waiting: "Waiting[Command, Event]", answered: Answered) -> None:
        """Answer from the journal, for as long as the caller waits."""
        pause = _BACKOFF_SECONDS_MIN
        try:
            while not waiting.future.done():
                try:
                    rows = await self._journal.read_rows(self.number, answered.first_position, answered.last_position)
                    events = tuple(self._codec.decode_event(row.payload) for row in rows)
                    resolve(waiting, Committed(events, rows[0].position, rows[-1].position, rows[-1].at, replayed=True))
                except JournalUnavailable:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _BACKOFF_SECONDS_MAX)
        except asyncio.CancelledError:
            resolve(waiting, ShardStopped(f"shard {self.number} was stopped before it could repeat the answer"))
            raise
        except Exception as error:  # noqa: BLE001 - it is raised to whoever waits
            resolve(waiting, error)

    # Snapshots and ends

    def _snapshot_if_due(self) -> None:
        due = self._events_since_snapshot >= self._snapshot_events and time.monotonic() >= self._snapshot_not_before
        if due and self._snapshotting is None:
            self._snapshotting = asyncio.create_task(self._snapshot_quietly(), name=f"shard {self.number} snapshot")

    async def _snapshot_quietly(self) -> None:
        try:
            await self.snapshot()
        except Exception:  # noqa: BLE001 - the journal is complete without it
            _log.exception("shard %d: no snapshot was stored; the journal is complete without it", self.number)
            self._snapshot_not_before = time.monotonic() + _SNAPSHOT_RETRY_SECONDS
        finally:
            self._snapshotting = None

    def _halt(self, error: Exception) -> None:
        _log.critical("shard %d is halted", self.number, exc_info=error)
        self._halted = error if isinstance(error, ShardHalted) else ShardHalted(f"{type(error).__name__}: {error}")
        self._fail_waiting(self._halted_again)

    def _halted_again(self) -> ShardHalted:
        """The reason as an exception of its own, since each caller adds a traceback to the one it gets."""
        halted = self._halted
        if isinstance(halted, Fenced):
            return Fenced(halted.shard, halted.epoch, halted.newer_epoch)
        return ShardHalted(f"shard {self.number} is halted: {halted}")

    def _fail_waiting(self, error: Callable[[], ShardError]) -> None:
        while self._queue:
            resolve(self._queue.popleft(), error())


async def _finish(tasks: set[asyncio.Task[None]], deadline: float) -> None:
    """Wait for tasks until the deadline of the running loop, then cancel those that are left."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
