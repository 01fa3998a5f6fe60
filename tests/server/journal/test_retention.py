"""Old events are exported, read back and dropped; the log goes on, and what it adds up to stays the same."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from debt_mgmt.core.commands import Transfer
from debt_mgmt.core.money import parse
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal import partitions
from debt_mgmt.server.journal.journal import Journal, JournalDamaged, JournalError, JournalUnavailable
from debt_mgmt.server.journal.lines import read_log
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.journal.postgres_journal import PostgresJournal, migrate_schema, migrations_directory, settings_of
from debt_mgmt.server.journal.retention import begins_after
from debt_mgmt.server.journal.verification import walk
from debt_mgmt.server.past import account_then
from debt_mgmt.server.postgres import EmbeddedPostgres
from debt_mgmt.server.retaining import Retaining
from tests.server.rpc.edge import RULES, Edge

YEAR = timedelta(days=365)
ROWS = 20


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def journal(request: pytest.FixtureRequest, database: EmbeddedPostgres, schema: str) -> AsyncIterator[Journal]:
    opened: Journal = MemoryJournal()
    if request.param == "postgres":
        opened = await PostgresJournal.open(database.dsn, schema=schema, partition_rows=ROWS)
    yield opened
    await opened.close()


async def begin(journal: Journal) -> Edge:
    edge = Edge(journal, RULES)
    await edge.engine.start()
    return edge


async def busy(edge: Edge, transfers: int) -> None:
    for number in range(transfers):
        edge.clock.advance(hours=1)
        await edge.engine.submit("alice", Transfer("USDT", parse(str(number + 1))), request_id="", actor=SYSTEM)


def retaining(edge: Edge, directory: Path) -> Retaining:
    return Retaining(edge.engine, YEAR, directory, ROWS)


async def test_old_events_are_exported_and_dropped_and_the_log_goes_on(journal: Journal, tmp_path: Path) -> None:
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 70)
    shard, head = edge.engine.revision("alice")
    early = await account_then(journal, shard, "alice", 30)
    edge.clock.advance(days=366)
    await busy(edge, 10)
    (file,) = await retaining(edge, tmp_path).sweep()
    dropped = head // ROWS * ROWS
    assert file.name == f"log-{shard}-from-1-to-{dropped}.jsonl.gz"
    beginning, rows = read_log(file)
    assert [row.position for row in rows] == list(range(1, dropped + 1))
    assert (beginning.shard, beginning.last_position) == (shard, dropped)
    assert (await journal.read_rows(shard, 1, 10_000))[0].position == dropped + 1
    assert (await walk(journal, shard, edge.engine.heads()[shard], before=await begins_after(journal, shard))).intact
    fingerprint, account = await edge.engine.fingerprint(), edge.engine.account("alice")
    await edge.engine.stop()

    again = Edge(journal, RULES)
    again.clock.now = edge.clock.now
    await again.engine.start()
    assert await again.engine.fingerprint() == fingerprint
    assert again.engine.account("alice") == account
    await busy(again, 3)
    then = await account_then(journal, shard, "alice", head)
    assert then.account is not None
    assert early.account is not None
    assert then.account.balances["USDT"] > early.account.balances["USDT"]
    assert await retaining(again, tmp_path).sweep() == []
    await again.engine.stop()


async def test_a_log_is_read_without_snapshots_from_what_took_the_place_of_dropped_rows(
    journal: Journal, tmp_path: Path
) -> None:
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 50)
    edge.clock.advance(days=400)
    await retaining(edge, tmp_path).sweep()
    fingerprint = await edge.engine.fingerprint()
    for shard in edge.engine.shards.values():
        shard._state_version = "never stored"
    await edge.engine.stop()
    journal_of_test: Any = journal
    if isinstance(journal, MemoryJournal):
        journal._snapshots.clear()
    else:
        await journal_of_test._fetch("DELETE FROM snapshot")
    again = await begin(journal)
    assert await again.engine.fingerprint() == fingerprint
    await again.engine.stop()


async def test_nothing_is_dropped_that_is_younger_than_the_retention(journal: Journal, tmp_path: Path) -> None:
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 50)
    edge.clock.advance(days=362)
    assert await retaining(edge, tmp_path).sweep() == []
    assert list(tmp_path.iterdir()) == []
    await edge.engine.stop()


async def test_nothing_is_dropped_without_an_archive(journal: Journal) -> None:
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 50)
    edge.clock.advance(days=800)
    assert await Retaining(edge.engine, YEAR, None, ROWS).sweep() == []
    shard, _ = edge.engine.revision("alice")
    assert (await journal.read_rows(shard, 1, 1))[0].position == 1
    await edge.engine.stop()


async def test_a_log_that_was_tampered_with_is_not_dropped(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 50)
    shard, _ = edge.engine.revision("alice")
    row = journal.rows(shard)[7]

    journal.rows(shard)[7] = msgspec.structs.replace(row, actor="nobody")
    edge.clock.advance(days=800)
    with pytest.raises(JournalDamaged, match="position 8"):
        await retaining(edge, tmp_path).sweep()
    assert list(tmp_path.iterdir()) == []
    assert await journal.load_base(shard) is None
    await edge.engine.stop()


async def test_an_export_that_was_changed_is_found_out(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 50)
    edge.clock.advance(days=800)
    (file,) = await retaining(edge, tmp_path).sweep()
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    for changed, position in (
        ([*lines[:5], lines[5].replace(b"system", b"nobody"), *lines[6:]], "position 5"),
        ([*lines[:5], *lines[6:]], "position 5"),
        (lines[:-1], "position 40"),
    ):
        file.write_bytes(gzip.compress(b"".join(changed)))
        with pytest.raises(JournalDamaged, match=position):
            list(read_log(file)[1])
    file.write_bytes(b"not a log")
    with pytest.raises(JournalError, match="no log"):
        read_log(file)
    await edge.engine.stop()


# PostgreSQL


async def connect(database: EmbeddedPostgres, schema: str) -> Any:
    return await asyncpg.connect(database.dsn, server_settings=settings_of(schema, 10))


async def test_each_shard_has_partitions_made_ahead_and_old_ones_are_dropped_whole(
    database: EmbeddedPostgres, schema: str, tmp_path: Path
) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema, partition_rows=ROWS)
    edge = await begin(journal)
    await edge.open("alice")
    shard, _ = edge.engine.revision("alice")
    connection = await connect(database, schema)
    assert [one[1:] for one in await partitions.ranges(connection, shard)] == [(1, 20), (21, 40)]
    for _ in range(4):
        await busy(edge, 15)
        await journal.prepare([shard])
    there = await partitions.ranges(connection, shard)
    assert [first for _, first, _ in there] == [1, 21, 41, 61, 81]
    assert await connection.fetchval(f"SELECT count(*) FROM journal_shard_{shard}_rest") == 0
    edge.clock.advance(days=366)
    await retaining(edge, tmp_path).sweep()
    assert [first for _, first, _ in await partitions.ranges(connection, shard)] == [61, 81]
    await connection.close()
    await edge.engine.stop()
    await journal.close()


async def test_rows_beyond_the_ranges_are_kept_and_dropped_too(
    database: EmbeddedPostgres, schema: str, tmp_path: Path
) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema, partition_rows=ROWS)
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 90)
    shard, _ = edge.engine.revision("alice")
    edge.clock.advance(days=366)
    await retaining(edge, tmp_path).sweep()
    assert (await journal.read_rows(shard, 1, 10_000))[0].position == 81
    await edge.engine.stop()
    await journal.close()


async def test_a_journal_from_before_partitions_is_taken_over_as_it_is(
    database: EmbeddedPostgres, schema: str, tmp_path: Path
) -> None:
    """Its rows are not copied; the service goes on with them, and drops them when they are old."""
    before = tmp_path / "before"
    before.mkdir()
    for name in ("0001_journal.sql", "0002_fund_history.sql"):
        (before / name).write_text((migrations_directory() / name).read_text("utf-8"), "utf-8")
    await migrate_schema(database.dsn, schema=schema, migrations=before)
    memory = MemoryJournal()
    edge = await begin(memory)
    await edge.open("alice")
    await busy(edge, 50)
    shard, head = edge.engine.revision("alice")
    fingerprint = await edge.engine.fingerprint()
    connection = await connect(database, schema)
    await connection.execute("INSERT INTO meta VALUES ('shards', '3'), ('epoch', '1')")
    rows = [row for number in range(4) for row in memory.rows(number)]
    await connection.copy_records_to_table(
        "journal",
        records=[
            (
                row.shard, row.position, row.epoch, row.at, row.account_id, row.request_id, row.request_digest,
                row.actor, row.kind, row.payload.decode(), row.hash,
            )
            for row in rows
        ],
    )  # fmt: skip
    await edge.engine.stop()
    journal = await PostgresJournal.open(database.dsn, schema=schema, partition_rows=ROWS)
    again = Edge(journal, RULES)
    again.clock.now = edge.clock.now
    await again.engine.start()
    assert await again.engine.fingerprint() == fingerprint
    await busy(again, 5)
    assert again.engine.revision("alice")[1] > head
    assert await connection.fetchval("SELECT count(*) FROM journal_rest WHERE shard = $1", shard) > head
    again.clock.advance(days=366)
    await retaining(again, tmp_path / "archive").sweep()
    assert (await journal.read_rows(shard, 1, 10_000))[0].position == 41
    await connection.close()
    await again.engine.stop()
    await journal.close()


async def test_a_database_that_goes_away_drops_nothing(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await begin(journal)
    await edge.open("alice")
    await busy(edge, 50)
    edge.clock.advance(days=800)
    journal.down = True
    with pytest.raises(JournalUnavailable):
        await retaining(edge, tmp_path).sweep()
    journal.down = False
    shard, _ = edge.engine.revision("alice")
    assert await journal.load_base(shard) is None
    await edge.engine.stop()


async def test_services_that_start_together_make_partitions_once(database: EmbeddedPostgres, schema: str) -> None:
    journals = [await PostgresJournal.open(database.dsn, schema=schema) for _ in range(3)]
    await asyncio.gather(*(journal.prepare(range(4)) for journal in journals))
    connection = await connect(database, schema)
    assert len(await partitions.ranges(connection, 3)) == partitions.AHEAD
    await connection.close()
    for journal in journals:
        await journal.close()
