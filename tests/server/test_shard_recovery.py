"""The single writer of a log when something fails: ambiguous appends, other writers, snapshots, restarts, ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import msgspec
import pytest
import pytest_asyncio

from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import GENESIS, LOG_OPENED, JournalDamaged, JournalUnavailable, Row, verify
from debt_mgmt.server.journal.memory_journal import Fault, MemoryJournal
from debt_mgmt.server.journal.recovery import replay
from debt_mgmt.server.shard import (
    Committed,
    Fenced,
    NotJournaled,
    Shard,
    ShardHalted,
    ShardStopped,
)
from tests.server.journal.tally import (
    Added,
    Clear,
    Cleared,
    Clock,
    GatedJournal,
    Listener,
    Tally,
    TallyShard,
    abandon,
    add,
    apply,
    codec,
    decide,
    settle,
    started,
)

ONE = Decimal(1)


@pytest_asyncio.fixture
async def journal() -> GatedJournal:
    return GatedJournal()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest_asyncio.fixture
async def shard(journal: GatedJournal, listener: Listener) -> AsyncIterator[TallyShard]:
    running = await started(journal, listener=listener)
    yield running
    journal.gate.set()
    await running.stop(1.0)


# Appends that fail


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("request_id", ["r", ""])
async def test_an_ambiguous_append_is_neither_lost_nor_repeated(
    shard: TallyShard, journal: GatedJournal, listener: Listener, fault: Fault, request_id: str
) -> None:
    await add(shard, 1)
    journal.fail_next(fault)
    outcome = await add(shard, 5, request_id=request_id, digest=b"d", times=2)
    assert not outcome.replayed
    await add(shard, 1)
    events = [row for row in journal.rows(1) if row.kind != LOG_OPENED]
    assert [row.payload for row in events[1:3]] == [codec().encode_event(event) for event in outcome.events]
    assert [row.position for row in events[1:3]] == [outcome.first_position, outcome.last_position]
    assert len(events) == 4
    assert listener.positions == [row.position for row in events]
    assert shard.entity("a") == Tally(Decimal(12), 4)
    assert verify(journal.rows(1)).position == shard.revision.position
    assert (await replay(journal, 1, apply, codec())).fingerprint == await shard.fingerprint()


async def test_what_an_append_left_under_way_is_kept_out_by_a_row_in_its_place(
    shard: TallyShard, journal: GatedJournal
) -> None:
    """A refusal that follows an ambiguous append must stay true: its first attempt may not be written any more."""
    await add(shard, 1)
    late: list[list[Row]] = []

    async def hold(rows: Sequence[Row]) -> None:
        late.append(list(rows))
        journal.append = original  # type: ignore[method-assign]
        journal.fail_next(Fault.BEFORE)
        await original(rows)

    original = journal.append
    journal.append = hold  # type: ignore[method-assign]
    await add(shard, -1)
    marks = [row.position for row in journal.rows(1) if row.kind == LOG_OPENED]
    assert marks == [late[0][0].position]
    with pytest.raises(Exception, match="taken"):
        await MemoryJournal.append(journal, late[0])


async def test_several_faults_in_a_row_end_well(shard: TallyShard, journal: GatedJournal, listener: Listener) -> None:
    journal.fail_next(*[Fault.BEFORE, Fault.AFTER, Fault.BEFORE, Fault.LATE, Fault.AFTER] * 2)
    outcomes = await asyncio.gather(*(add(shard, 1, f"k{number % 3}", request_id=str(number)) for number in range(20)))
    assert len({outcome.first_position for outcome in outcomes}) == 20
    assert len(listener.positions) == len(set(listener.positions)) == 20
    assert (await replay(journal, 1, apply, codec())).fingerprint == await shard.fingerprint()


async def test_callers_wait_while_the_journal_is_down(shard: TallyShard, journal: GatedJournal) -> None:
    await add(shard, 1)
    journal.down = True
    waiting = [asyncio.create_task(add(shard, 1)) for _ in range(5)]
    impatient = asyncio.create_task(asyncio.wait_for(add(shard, 1), 0.05))
    with pytest.raises(TimeoutError):
        await impatient
    assert not any(caller.done() for caller in waiting)
    assert shard.entity("a") == Tally(ONE, 1)
    journal.down = False
    await asyncio.gather(*waiting)
    assert (await add(shard, 1)).events


class SpoiltCodec(Codec[Tally, Added | Cleared]):
    """Writes one kind of event as something that no database takes."""

    def encode_event(self, event: Added | Cleared) -> bytes:
        return b"{" if isinstance(event, Cleared) else super().encode_event(event)

    def decode_event(self, payload: bytes) -> Added | Cleared:
        return Cleared(Clock()()) if payload == b"{" else super().decode_event(payload)


class LossyCodec(Codec[Tally, Added | Cleared]):
    """Writes one kind of event as something that nobody can read back."""

    def encode_event(self, event: Added | Cleared) -> bytes:
        return b"{}" if isinstance(event, Cleared) else super().encode_event(event)


async def test_what_cannot_be_read_back_is_never_written(journal: GatedJournal) -> None:
    shard: TallyShard = Shard(1, journal, decide, apply, LossyCodec(Added | Cleared, Tally), Clock(), epoch=1)
    await shard.start()
    await add(shard, 1)
    with pytest.raises(msgspec.ValidationError):
        await shard.submit("a", Clear())
    await add(shard, 1)
    assert [row.kind for row in journal.rows(1)] == ["Added", "Added"]
    await shard.stop()


async def test_a_command_that_the_journal_never_takes_does_not_stop_the_others(journal: GatedJournal) -> None:
    shard: TallyShard = Shard(1, journal, decide, apply, SpoiltCodec(Added | Cleared, Tally), Clock(), epoch=1)
    await shard.start()
    outcomes = await asyncio.gather(
        *(add(shard, 1, request_id=str(number)) for number in range(3)),
        shard.submit("a", Clear()),
        *(add(shard, 1, request_id=str(number)) for number in range(3, 6)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [Committed] * 3 + [NotJournaled] + [Committed] * 3
    assert shard.entity("a") == Tally(Decimal(6), 6)
    assert len(journal.rows(1)) < 20
    await shard.stop()


# Other writers


async def test_a_newer_writer_fences_the_older_one(journal: GatedJournal) -> None:
    older = await started(journal, epoch=1)
    await add(older, 1)
    newer = await started(journal, epoch=2)
    await add(newer, 10)
    with pytest.raises(Fenced) as fenced:
        await add(older, 100)
    assert (fenced.value.epoch, fenced.value.newer_epoch) == (1, 2)
    with pytest.raises(Fenced):
        await add(older, 100)
    assert older.halted is not None
    assert older.entity("a") == newer.entity("a") == Tally(Decimal(11), 2)
    assert not any(row.payload == b'{"event":"Added","amount":"100","note":""}' for row in journal.rows(1))
    await older.stop()
    await newer.stop()


async def test_an_older_writer_cannot_even_start(journal: GatedJournal) -> None:
    newer = await started(journal, epoch=5)
    await add(newer, 1)
    with pytest.raises(Fenced):
        await started(journal, epoch=4)
    await newer.stop()


async def test_two_writers_that_race_for_one_log_both_end_with_the_whole_of_it(journal: GatedJournal) -> None:
    one, other = await started(journal), await started(journal)

    async def load(shard: TallyShard, name: str) -> list[Committed[Added | Cleared]]:
        return [await add(shard, 1, f"k{number % 3}", request_id=f"{name}-{number}") for number in range(40)]

    answers = await asyncio.gather(load(one, "one"), load(other, "other"), load(one, "more"))
    positions = [answer.first_position for shard_answers in answers for answer in shard_answers]
    assert len(set(positions)) == 120
    assert verify(journal.rows(1)).position == len(journal.rows(1))
    events = [row for row in journal.rows(1) if row.kind != LOG_OPENED]
    assert sorted(positions) == [row.position for row in events]
    await add(one, 1)
    await add(other, 1)
    await add(one, 1)
    expected = (await replay(journal, 1, apply, codec())).fingerprint
    assert await one.fingerprint() == expected
    await one.stop()
    await other.stop()


async def test_a_lost_acknowledged_row_halts_the_shard(shard: TallyShard, journal: GatedJournal) -> None:
    await add(shard, 1)
    await add(shard, 1)
    del journal.rows(1)[1]
    journal.fail_next(Fault.BEFORE)
    with pytest.raises(ShardHalted, match="acknowledged"):
        await add(shard, 1)
    with pytest.raises(ShardHalted):
        await add(shard, 1)
    assert shard.entity("a") == Tally(Decimal(2), 2)


# Snapshots, restarts, ends


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_restart_comes_back_with_the_same_state(journal: GatedJournal, snapshot: bool) -> None:
    shard = await started(journal)
    for number in range(50):
        await add(shard, number, f"key-{number % 7}", request_id=str(number))
    await shard.submit("key-3", Clear())
    before = await shard.fingerprint()
    if snapshot:
        await shard.snapshot()
        await add(shard, 1, "key-3")
        before = await shard.fingerprint()
    await abandon(shard)
    later = await started(journal, epoch=2)
    after = await later.fingerprint()
    assert after.digest == before.digest
    assert dict(later.entities) == dict(shard.entities)
    assert (await replay(journal, 1, apply, codec(), until_position=before.position)).fingerprint == before
    assert (await replay(journal, 1, apply, codec())).fingerprint == after
    await later.stop()


async def test_starting_writes_one_row_over_an_earlier_writer_and_none_to_an_empty_log(journal: GatedJournal) -> None:
    shard = await started(journal)
    assert journal.rows(1) == []
    await add(shard, 1)
    await shard.stop()
    await (await started(journal, epoch=2)).stop()
    assert [(row.kind, row.epoch) for row in journal.rows(1)] == [("Added", 1), (LOG_OPENED, 2)]


async def test_snapshots_are_taken_by_themselves_and_two_are_kept(journal: GatedJournal) -> None:
    shard = await started(journal, snapshot_events=10)
    for _ in range(45):
        await add(shard, 1)
        await settle()
    assert shard.counters.snapshots == 4
    newest = await journal.load_snapshot(1)
    assert newest is not None and newest.position == shard.counters.snapshot_position == 40
    older = await journal.load_snapshot(1, newest.position)
    assert older is not None
    assert await journal.load_snapshot(1, older.position) is None
    await shard.stop()
    newest = await journal.load_snapshot(1)
    assert newest is not None and newest.position == 45


async def test_a_large_state_is_stored_in_parts(journal: GatedJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debt_mgmt.server.journal.state.PART_BYTES_MAX", 4096)
    shard = await started(journal)
    await asyncio.gather(*(add(shard, number, f"key-{number}", request_id=str(number)) for number in range(500)))
    await shard.snapshot()
    snapshot = await journal.load_snapshot(1)
    assert snapshot is not None and len(snapshot.parts) > 7
    assert max(len(part) for part in snapshot.parts[:-1]) <= 4096
    assert snapshot.fingerprint == (await shard.fingerprint()).digest
    await abandon(shard)
    journal.rows(1)[:-1] = [msgspec.structs.replace(row, hash=GENESIS) for row in journal.rows(1)[:-1]]
    later = await started(journal, epoch=2)
    assert dict(later.entities) == dict(shard.entities)
    assert (await add(later, 77, "key-77", request_id="77")).replayed
    await later.stop()


@pytest.mark.parametrize("damage", ["entity", "missing part", "contents", "version"])
async def test_a_snapshot_that_cannot_be_used_is_passed_over(journal: GatedJournal, damage: str) -> None:
    shard = await started(journal)
    await add(shard, 1)
    await shard.snapshot()
    await add(shard, 2, "b")
    await shard.snapshot()
    await abandon(shard)
    newest = await journal.load_snapshot(1)
    assert newest is not None
    contents, entities, *rest = newest.parts
    journal._snapshots[1, newest.position] = msgspec.structs.replace(
        newest,
        code_version="another" if damage == "version" else newest.code_version,
        parts={
            "entity": (contents, entities.replace(b'"total":"2"', b'"total":"9"'), *rest),
            "missing part": (contents, *rest),
            "contents": (b"?", entities, *rest),
            "version": newest.parts,
        }[damage],
    )
    later = await started(journal, epoch=2)
    assert later.entity("b") == Tally(Decimal(2), 1)
    await later.stop()


@pytest.mark.parametrize("position", [1, 3, 5])
async def test_a_log_that_was_tampered_with_does_not_start(journal: GatedJournal, position: int) -> None:
    shard = await started(journal)
    for _ in range(5):
        await add(shard, 1)
    await abandon(shard)
    rows = journal.rows(1)
    rows[position - 1] = msgspec.structs.replace(
        rows[position - 1], payload=b'{"event":"Added","amount":"9","note":""}'
    )
    with pytest.raises(JournalDamaged) as damaged:
        await started(journal, epoch=2)
    assert damaged.value.position == position
    with pytest.raises(JournalDamaged):
        await replay(journal, 1, apply, codec())


async def test_a_shard_does_not_start_without_its_journal(journal: GatedJournal) -> None:
    journal.down = True
    with pytest.raises(JournalUnavailable):
        await started(journal)


async def test_stopping_finishes_what_waits_and_refuses_the_rest(journal: GatedJournal) -> None:
    shard = await started(journal)
    journal.gate.clear()
    waiting = [asyncio.create_task(add(shard, 1)) for _ in range(5)]
    await journal.arrived.wait()
    waiting += [asyncio.create_task(add(shard, 1)) for _ in range(5)]
    await settle()
    stopping = asyncio.create_task(shard.stop())
    await settle()
    with pytest.raises(ShardStopped):
        await add(shard, 1)
    journal.gate.set()
    await stopping
    assert len(await asyncio.gather(*waiting)) == 10
    snapshot = await journal.load_snapshot(1)
    assert snapshot is not None and snapshot.position == 10


async def test_stopping_does_not_wait_for_ever_for_a_journal_that_is_down(journal: GatedJournal) -> None:
    shard = await started(journal)
    await add(shard, 1, request_id="r")
    journal.down = True
    waiting = [asyncio.create_task(add(shard, 1)) for _ in range(5)]
    repeat = asyncio.create_task(add(shard, 1, request_id="r"))
    await settle()
    await shard.stop(drain_seconds=0.1)
    outcomes = await asyncio.gather(*waiting, repeat, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ShardStopped] * 6
