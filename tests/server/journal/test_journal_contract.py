"""What every journal promises: one suite, run on the one in memory and the one in PostgreSQL."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from debt_mgmt.server.journal.journal import (
    EMPTY_LOG,
    GENESIS,
    LOG_OPENED,
    AppendAmbiguous,
    Head,
    Journal,
    Row,
    Snapshot,
    link,
    verify,
)

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def log(
    count: int,
    *,
    shard: int = 1,
    head: Head = EMPTY_LOG,
    account_id: str = "",
    kind: str = "Added",
    actor: str = "desk",
) -> list[Row]:
    """Rows that follow a head, one a second."""
    rows: list[Row] = []
    position, previous = head
    for _ in range(count):
        position += 1
        row = link(
            previous,
            shard,
            position,
            3,
            START + timedelta(seconds=position),
            account_id or f"account-{position % 3}",
            f"request-{position}",
            position.to_bytes(32, "big"),
            actor,
            kind,
            b'{"b": 1,   "a":"\\u0000 \xc3\xa9",\t"b":2}',
        )
        rows.append(row)
        previous = row.hash
    return rows


def head_of(rows: list[Row]) -> Head:
    return Head(rows[-1].position, rows[-1].hash)


async def stored(journal: Journal, shard: int = 1) -> list[Row]:
    return [row async for page in journal.read(shard, page_rows=7) for row in page]


async def test_an_empty_log_has_the_genesis_head(journal: Journal) -> None:
    assert await journal.head(1) == (0, GENESIS)
    assert await stored(journal) == []


async def test_rows_come_back_exactly_as_they_were_appended(journal: Journal) -> None:
    rows = log(20)
    await journal.append(rows)
    assert await stored(journal) == rows
    assert verify(await stored(journal)) == await journal.head(1) == head_of(rows)


async def test_a_row_without_a_digest_is_not_a_row_with_an_empty_one(journal: Journal) -> None:
    row = link(GENESIS, 1, 1, 1, START, "a", "", None, "", "Added", b"{}")
    await journal.append([row])
    assert (await stored(journal))[0].request_digest is None
    assert link(GENESIS, 1, 1, 1, START, "a", "", b"", "", "Added", b"{}").hash != row.hash


async def test_logs_of_shards_are_apart(journal: Journal) -> None:
    await journal.append(log(3, shard=1))
    await journal.append(log(2, shard=2))
    assert (await journal.head(1)).position == 3
    assert (await journal.head(2)).position == 2
    assert (await journal.head(3)).position == 0


@pytest.mark.parametrize("taken", [1, 3, 5])
async def test_an_append_over_a_taken_position_is_ambiguous_and_writes_nothing(journal: Journal, taken: int) -> None:
    rows = log(5)
    await journal.append(rows[:taken])
    with pytest.raises(AppendAmbiguous):
        await journal.append(log(4, account_id="intruder"))
    assert await stored(journal) == rows[:taken]


async def test_a_failed_append_leaves_the_log_open_to_the_next(journal: Journal) -> None:
    rows = log(5)
    await journal.append(rows[:2])
    with pytest.raises(AppendAmbiguous):
        await journal.append(rows[:1])
    await journal.append(rows[2:])
    assert await stored(journal) == rows


@pytest.mark.parametrize(
    "unstorable",
    [{"payload": b"{not json"}, {"account_id": "a\0b"}, {"request_id": "\0"}, {"actor": "\0"}],
    ids=["payload", "account", "request", "actor"],
)
async def test_one_row_that_cannot_be_stored_fails_its_whole_batch(
    journal: Journal, unstorable: dict[str, object]
) -> None:
    rows = log(3)
    rows[1] = msgspec.structs.replace(rows[1], **unstorable)
    with pytest.raises(AppendAmbiguous):
        await journal.append(rows)
    assert await stored(journal) == []


async def test_reading_begins_after_a_position(journal: Journal) -> None:
    rows = log(20)
    await journal.append(rows)
    assert [row async for page in journal.read(1, 12, 3) for row in page] == rows[12:]
    assert await journal.read_rows(1, 4, 6) == rows[3:6]
    assert await journal.read_rows(1, 19, 30) == rows[18:]
    assert await journal.read_rows(1, 30, 40) == []


async def test_a_reader_may_stop_in_the_middle(journal: Journal) -> None:
    await journal.append(log(20))
    async for page in journal.read(1, 0, 5):
        assert len(page) == 5
        break
    assert (await journal.head(1)).position == 20


@pytest.fixture
def audit() -> list[Row]:
    """Three logs of several accounts, kinds and actors."""
    first = log(6, shard=0, account_id="house", kind="InstrumentPut", actor='{"name":"admin"}')
    second = log(10, shard=1)
    second += log(5, shard=1, head=head_of(second), account_id="alice", kind="Removed", actor='{"name":"bot"}')
    opened = link(second[-1].hash, 1, 16, 4, second[-1].at, "", "", None, "", LOG_OPENED, b"{}")
    third = log(4, shard=2, account_id="bob")
    return [*first, *second, opened, *third]


async def fill(journal: Journal, rows: list[Row]) -> None:
    for shard in (0, 1, 2):
        await journal.append([row for row in rows if row.shard == shard])


async def test_an_audit_lists_events_in_log_order_without_the_marks_of_writers(
    journal: Journal, audit: list[Row]
) -> None:
    await fill(journal, audit)
    assert await journal.list_rows() == [row for row in audit if row.kind != LOG_OPENED]
    assert await journal.list_rows(log_opened=True) == audit


async def test_an_audit_is_read_page_by_page_with_a_cursor(journal: Journal, audit: list[Row]) -> None:
    await fill(journal, audit)
    found: list[Row] = []
    after: tuple[int, int] | None = None
    while page := await journal.list_rows(after=after, limit=4, log_opened=True):
        assert len(page) <= 4
        found += page
        after = (page[-1].shard, page[-1].position)
    assert found == audit


@pytest.mark.parametrize(
    "filters",
    [
        {"account_id": "alice"},
        {"account_id": "account-1"},
        {"account_id": "nobody"},
        {"kinds": ["Removed", "InstrumentPut"]},
        {"kinds": []},
        {"actor": '"name":"bot"'},
        {"actor": "%"},
        {"since": START + timedelta(seconds=3)},
        {"until": START + timedelta(seconds=3)},
        {"since": START + timedelta(seconds=2, microseconds=1), "until": START + timedelta(seconds=13)},
        {"since": START + timedelta(days=1)},
        {"until": START - timedelta(days=1)},
        {"account_id": "alice", "since": START + timedelta(seconds=13)},
        {"account_id": "alice", "until": START + timedelta(seconds=13), "kinds": {"Removed"}},
        {"account_id": "alice", "after": (1, 12)},
        {"account_id": "house", "after": (1, 0)},
        {"kinds": ["Added"], "actor": "desk", "after": (1, 4), "since": START + timedelta(seconds=2)},
    ],
    ids=str,
)
async def test_an_audit_finds_what_its_filters_say(
    journal: Journal, audit: list[Row], filters: dict[str, object]
) -> None:
    await fill(journal, audit)
    model = _expected(audit, **filters)
    assert await journal.list_rows(**filters) == model  # type: ignore[arg-type]
    assert await journal.list_rows(**filters, limit=2) == model[:2]  # type: ignore[arg-type]


def _expected(rows: list[Row], **filters: object) -> list[Row]:
    """The filters, one at a time, on a plain list."""
    found = [row for row in rows if row.kind != LOG_OPENED]
    for name, value in filters.items():
        match name:
            case "account_id":
                found = [row for row in found if row.account_id == value]
            case "kinds":
                found = [row for row in found if row.kind in value]  # type: ignore[operator]
            case "actor":
                found = [row for row in found if str(value) in row.actor]
            case "since":
                found = [row for row in found if row.at >= value]  # type: ignore[operator]
            case "until":
                found = [row for row in found if row.at < value]  # type: ignore[operator]
            case "after":
                found = [row for row in found if (row.shard, row.position) > value]  # type: ignore[operator]
            case _:
                raise AssertionError(name)
    return found


def snapshot_at(position: int, *, shard: int = 1, parts: int = 3) -> Snapshot:
    bodies = tuple(bytes([part]) * 1000 for part in range(parts))
    return Snapshot(shard, position, START, position.to_bytes(32, "big"), "v1", bodies)


async def test_the_newest_snapshot_is_loaded_with_all_its_parts(journal: Journal) -> None:
    assert await journal.load_snapshot(1) is None
    for position in (10, 30, 20):
        await journal.save_snapshot(snapshot_at(position))
    await journal.save_snapshot(snapshot_at(99, shard=2))
    assert await journal.load_snapshot(1) == snapshot_at(30)
    assert await journal.load_snapshot(1, 30) == snapshot_at(20)
    assert await journal.load_snapshot(1, 10) is None


async def test_a_snapshot_that_is_there_is_left_as_it_is(journal: Journal) -> None:
    await journal.save_snapshot(snapshot_at(10))
    await journal.save_snapshot(snapshot_at(10, parts=5))
    assert await journal.load_snapshot(1) == snapshot_at(10)


async def test_pruning_keeps_the_newest_snapshots_of_the_shard(journal: Journal) -> None:
    for position in (10, 20, 30):
        await journal.save_snapshot(snapshot_at(position))
    await journal.save_snapshot(snapshot_at(5, shard=2))
    await journal.prune_snapshots(1, keep=2)
    assert await journal.load_snapshot(1, 30) == snapshot_at(20)
    assert await journal.load_snapshot(1, 20) is None
    assert await journal.load_snapshot(2) is not None
    await journal.prune_snapshots(1, keep=2)
    await journal.prune_snapshots(3, keep=2)
    assert await journal.load_snapshot(1, 30) == snapshot_at(20)


async def test_facts_are_set_read_and_set_once(journal: Journal) -> None:
    assert await journal.get_meta("colour") is None
    await journal.set_meta("colour", "red")
    await journal.set_meta("colour", "green")
    assert await journal.get_meta("colour") == "green"
    assert await journal.set_meta_once("shards", "8") == "8"
    assert await journal.set_meta_once("shards", "16") == "8"


async def test_every_epoch_is_higher_than_all_before(journal: Journal) -> None:
    epochs = [await journal.next_epoch() for _ in range(4)]
    assert all(later > earlier for earlier, later in pairwise(epochs))
