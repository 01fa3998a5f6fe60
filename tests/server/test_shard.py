"""The single writer of a log: batches, answers, repeats, ambiguous appends, fences, snapshots and ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
import pytest_asyncio

from debt_mgmt.server.journal.journal import verify
from debt_mgmt.server.shard import (
    Committed,
    Overloaded,
    RequestIdReused,
    Shard,
)
from tests.server.journal.tally import (
    START,
    Add,
    Added,
    BelowZero,
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
    with pytest.raises(ValueError, match=r"key|request id|actor"):
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
