"""The single writer of a log: batches, answers, repeats, ambiguous appends, fences, snapshots and ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
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
    Overloaded,
    RequestIdReused,
    Shard,
    ShardHalted,
    ShardStopped,
)
from tests.server.journal.tally import (
    START,
    Add,
    Added,
    BelowZero,
    Clear,
    Cleared,
    Clock,
    Listener,
    Tally,
    TallyShard,
    apply,
    codec,
    decide,
    started,
)

ONE = Decimal(1)


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


async def add(
    shard: TallyShard, amount: int, key: str = "a", *, request_id: str = "", digest: bytes = b"", times: int = 1
) -> Committed[Added | Cleared]:
    return await shard.submit(key, Add(Decimal(amount), times), request_id=request_id, digest=digest, actor="desk")


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


# Deciding and answering


async def test_a_command_is_answered_with_its_events_and_where_they_are(shard: TallyShard) -> None:
    first = await add(shard, 5)
    second = await add(shard, 2, times=3)
    assert first == Committed((Added(Decimal(5)),), 1, 1, START + timedelta(seconds=1))
    assert (second.events, second.first_position, second.last_position) == ((Added(Decimal(2)),) * 3, 2, 4)
    assert shard.entity("a") == Tally(Decimal(11), 4)
    assert shard.revision == (1, 4)


async def test_rows_carry_who_asked_for_what(shard: TallyShard, journal: GatedJournal) -> None:
    await add(shard, 5, "b", request_id="r-1", digest=b"digest")
    await add(shard, 6, "b")
    first, second = journal.rows(1)
    assert (first.shard, first.position, first.epoch, first.account_id, first.actor) == (1, 1, 1, "b", "desk")
    assert (first.request_id, first.request_digest, first.kind) == ("r-1", b"digest", "Added")
    assert first.payload == b'{"event":"Added","amount":"5","note":""}'
    assert (second.request_id, second.request_digest) == ("", None)
    assert verify(journal.rows(1)).position == 2


async def test_all_that_waits_goes_into_one_append(shard: TallyShard, journal: GatedJournal) -> None:
    journal.gate.clear()
    first = asyncio.create_task(add(shard, 1))
    await journal.arrived.wait()
    others = [asyncio.create_task(add(shard, 1, f"key-{number}")) for number in range(100)]
    await settle()
    journal.gate.set()
    await asyncio.gather(first, *others)
    assert journal.append_sizes == [1, 100]
    assert (shard.counters.batches, shard.counters.rows, shard.counters.commands) == (2, 101, 101)
    assert [row.position for row in journal.rows(1)] == list(range(1, 102))


async def test_a_batch_has_at_most_512_rows_unless_one_command_has_more(
    shard: TallyShard, journal: GatedJournal
) -> None:
    await asyncio.gather(*(add(shard, 1, times=2) for _ in range(600)), add(shard, 1, times=700))
    assert max(journal.append_sizes[:-1]) <= 512
    assert sum(journal.append_sizes) == 1900
    assert shard.entity("a") == Tally(Decimal(1900), 1900)


async def test_readers_see_only_what_is_durable(shard: TallyShard, journal: GatedJournal, listener: Listener) -> None:
    journal.gate.clear()
    waiting = asyncio.create_task(add(shard, 5))
    await journal.arrived.wait()
    assert shard.entity("a") is None
    assert shard.revision.position == 0
    assert listener.changes == []
    journal.gate.set()
    await waiting
    assert shard.entity("a") == Tally(Decimal(5), 1)


async def test_commands_of_one_batch_are_decided_on_each_others_outcome(shard: TallyShard) -> None:
    outcomes = await asyncio.gather(
        add(shard, 3), add(shard, -2), add(shard, -2), add(shard, -1), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Committed, Committed, BelowZero, Committed]
    assert shard.entity("a") == Tally(Decimal(0), 3)


async def test_a_fault_fails_its_command_alone_and_nothing_of_it_is_journaled(
    shard: TallyShard, journal: GatedJournal
) -> None:
    with pytest.raises(BelowZero):
        await add(shard, -1)
    assert journal.rows(1) == []
    assert shard.entity("a") is None


async def test_a_fault_that_rests_on_a_commit_under_way_is_not_told_before_it(
    shard: TallyShard, journal: GatedJournal
) -> None:
    await add(shard, 3)
    journal.gate.clear()
    journal.arrived.clear()
    taken = asyncio.create_task(add(shard, -3))
    refused = asyncio.create_task(add(shard, -1))
    await journal.arrived.wait()
    await settle()
    assert not refused.done()
    journal.gate.set()
    await taken
    with pytest.raises(BelowZero):
        await refused


async def test_a_command_without_events_is_answered_without_an_append(shard: TallyShard, journal: GatedJournal) -> None:
    await add(shard, 1)
    nothing = await add(shard, 0, request_id="r")
    assert (nothing.events, nothing.first_position, nothing.replayed) == ((), 1, False)
    assert len(journal.rows(1)) == 1


async def test_time_never_runs_backwards(journal: GatedJournal) -> None:
    times = [START + timedelta(seconds=seconds) for seconds in (10, 5, 7, 12)]
    shard: TallyShard = Shard(1, journal, decide, apply, codec(), lambda: times.pop(0) if times else START, epoch=1)
    await shard.start()
    for _ in range(4):
        await add(shard, 1)
    assert [(row.at - START).seconds for row in journal.rows(1)] == [10, 10, 10, 12]
    await shard.stop()
    later: TallyShard = Shard(1, journal, decide, apply, codec(), lambda: START, epoch=2)
    await later.start()
    assert (await add(later, 1)).at == START + timedelta(seconds=12)
    await later.stop()


async def test_listeners_hear_every_event_in_order_before_the_caller_does(journal: GatedJournal) -> None:
    heard: list[str] = []
    shard: TallyShard = Shard(
        1,
        journal,
        decide,
        apply,
        codec(),
        Clock(),
        epoch=1,
        on_commit=lambda changes: heard.append(f"told {len(changes)}"),
    )
    await shard.start()

    async def call() -> None:
        await add(shard, 1, times=2)
        heard.append("answered")

    await call()
    assert heard == ["told 2", "answered"]
    await shard.stop()


async def test_a_listener_that_fails_costs_no_caller_the_answer(journal: GatedJournal) -> None:
    def fail(_: object) -> None:
        raise ValueError("a listener's own mistake")

    shard: TallyShard = Shard(1, journal, decide, apply, codec(), Clock(), epoch=1, on_commit=fail)
    await shard.start()
    await add(shard, 1)
    assert shard.counters.listener_errors == 1
    assert (await add(shard, 1)).last_position == 2
    await shard.stop()


async def test_a_caller_that_leaves_does_not_take_the_command_along(shard: TallyShard, journal: GatedJournal) -> None:
    journal.gate.clear()
    first = asyncio.create_task(add(shard, 5, request_id="r"))
    second = asyncio.create_task(add(shard, 6))
    await journal.arrived.wait()
    third = asyncio.create_task(add(shard, 7))
    await settle()
    for caller in (first, second, third):
        caller.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    journal.gate.set()
    repeated = await add(shard, 5, request_id="r")
    assert repeated.replayed
    assert (await add(shard, 1)).last_position == 4
    assert shard.entity("a") == Tally(Decimal(19), 4)


@pytest.mark.parametrize(
    ("key", "request_id", "actor"),
    [("a\0", "", ""), ("a", "\0", ""), ("a", "", "\0"), ("\ud800", "", ""), ("a", "\udfff", ""), ("k" * 513, "", "")],
)
async def test_text_that_no_database_stores_is_refused_at_the_door(
    shard: TallyShard, key: str, request_id: str, actor: str
) -> None:
    with pytest.raises(ValueError, match="key|request id|actor"):
        await shard.submit(key, Add(ONE), request_id=request_id, actor=actor)


async def test_too_many_waiting_commands_are_refused(journal: GatedJournal) -> None:
    shard = await started(journal, waiting_max=3)
    journal.gate.clear()
    under_way = asyncio.create_task(add(shard, 1))
    await journal.arrived.wait()
    waiting = [asyncio.create_task(add(shard, 1)) for _ in range(3)]
    await settle()
    with pytest.raises(Overloaded) as overloaded:
        await add(shard, 1)
    assert overloaded.value.waiting == 3
    assert shard.counters.overloaded == 1
    journal.gate.set()
    await asyncio.gather(under_way, *waiting)
    await add(shard, 1)
    await shard.stop()


# Repeated requests


async def test_a_repeated_request_gets_the_same_answer_and_changes_nothing(
    shard: TallyShard, journal: GatedJournal, listener: Listener
) -> None:
    first = await add(shard, 5, request_id="r", digest=b"d", times=2)
    await add(shard, 1)
    again = await add(shard, 5, request_id="r", digest=b"d", times=2)
    assert again == msgspec.structs.replace(first, replayed=True)
    assert len(journal.rows(1)) == 3
    assert listener.positions == [1, 2, 3]
    assert shard.counters.repeats == 1


async def test_the_same_request_id_of_another_key_is_another_request(shard: TallyShard) -> None:
    await add(shard, 5, "a", request_id="r", digest=b"d")
    assert not (await add(shard, 5, "b", request_id="r", digest=b"d")).replayed


async def test_a_request_id_with_another_body_is_refused(shard: TallyShard, journal: GatedJournal) -> None:
    await add(shard, 1)
    await add(shard, 5, request_id="r", digest=b"d")
    with pytest.raises(RequestIdReused) as reused:
        await add(shard, 6, request_id="r", digest=b"e")
    assert (reused.value.request_id, reused.value.position) == ("r", 2)
    assert len(journal.rows(1)) == 2


async def test_repeats_within_one_batch_are_one_request(shard: TallyShard, journal: GatedJournal) -> None:
    first, again, other = await asyncio.gather(
        add(shard, 5, request_id="r", digest=b"d"),
        add(shard, 5, request_id="r", digest=b"d"),
        add(shard, 9, request_id="r", digest=b"e"),
        return_exceptions=True,
    )
    assert isinstance(first, Committed) and not first.replayed
    assert again == msgspec.structs.replace(first, replayed=True)
    assert isinstance(other, RequestIdReused) and other.position == 1
    assert journal.append_sizes == [1]


async def test_a_request_that_failed_may_be_tried_again_under_its_id(shard: TallyShard) -> None:
    failed, tried_again = await asyncio.gather(
        add(shard, -5, request_id="r", digest=b"d"), add(shard, 5, request_id="r", digest=b"e"), return_exceptions=True
    )
    assert isinstance(failed, BelowZero)
    assert isinstance(tried_again, Committed) and not tried_again.replayed


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_request_is_remembered_through_a_restart(journal: GatedJournal, snapshot: bool) -> None:
    shard = await started(journal)
    first = await add(shard, 5, request_id="r", digest=b"d", times=3)
    await add(shard, 5)
    if snapshot:
        await shard.stop()
    else:
        await abandon(shard)
    later = await started(journal, epoch=2)
    assert later.counters.snapshot_position == 0
    again = await add(later, 5, request_id="r", digest=b"d", times=3)
    assert again == msgspec.structs.replace(first, replayed=True)
    with pytest.raises(RequestIdReused):
        await add(later, 6, request_id="r", digest=b"e")
    assert later.entity("a") == Tally(Decimal(20), 4)
    await later.stop()


async def test_a_repeat_waits_while_the_journal_does_not_answer(shard: TallyShard, journal: GatedJournal) -> None:
    first = await add(shard, 5, request_id="r", digest=b"d")
    journal.down = True
    again = asyncio.create_task(add(shard, 5, request_id="r", digest=b"d"))
    await asyncio.sleep(0.05)
    assert not again.done()
    journal.down = False
    assert await again == msgspec.structs.replace(first, replayed=True)


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
    """A refusal given after an ambiguous append must stay true, even if the first attempt would still have been written."""
    journal.faults = msgspec.structs.replace(journal.faults)
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


async def abandon(shard: TallyShard) -> None:
    """What a kill does: nothing is drained, no snapshot is stored."""
    writer = shard._writer
    assert writer is not None
    writer.cancel()
    with suppress(asyncio.CancelledError):
        await writer


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
    assert snapshot is not None and len(snapshot.parts) > 10
    assert max(map(len, snapshot.parts)) <= 4096
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
