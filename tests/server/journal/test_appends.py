"""Appends of several logs at once: one statement, durable together, in doubt together, and then apart."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from debt_mgmt.server.journal.journal import GENESIS, AppendAmbiguous, Row, link
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.postgres import EmbeddedPostgres

START = datetime(2026, 1, 2, tzinfo=UTC)


def first_row(shard: int, account_id: str = "a") -> Row:
    return link(GENESIS, shard, 1, 1, START, account_id, "", None, "", "Added", b"{}")


async def transactions_of(database: EmbeddedPostgres, schema: str) -> int:
    """How many transactions wrote what the journal holds."""
    connection = await asyncpg.connect(database.dsn)
    found = await connection.fetchval(f'SELECT count(DISTINCT xmin::text) FROM "{schema}".journal')
    await connection.close()
    return int(found)


async def test_what_several_logs_have_to_write_is_committed_together(database: EmbeddedPostgres, schema: str) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    await asyncio.gather(*(journal.append([first_row(shard)]) for shard in range(1, 9)))
    assert [(await journal.head(shard)).position for shard in range(1, 9)] == [1] * 8
    assert await transactions_of(database, schema) == 1
    await journal.close()


async def test_a_log_that_can_not_be_written_leaves_the_others_in_doubt_once(
    database: EmbeddedPostgres, schema: str
) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    await journal.append([first_row(1)])
    rows = [first_row(1, "another"), first_row(2), first_row(3)]
    outcomes = await asyncio.gather(*(journal.append([row]) for row in rows), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AppendAmbiguous] * 3
    assert (await journal.head(2)).position == 0
    again = await asyncio.gather(*(journal.append([row]) for row in rows), return_exceptions=True)
    assert [type(outcome) for outcome in again] == [AppendAmbiguous, type(None), type(None)]
    await journal.close()


async def test_what_nobody_waits_for_any_more_is_not_sent(database: EmbeddedPostgres, schema: str) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    under_way = asyncio.create_task(journal.append([first_row(1)]))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(journal.append([first_row(2)]))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await under_way
    await journal.append([first_row(3)])
    assert [(await journal.head(shard)).position for shard in (1, 2, 3)] == [1, 0, 1]
    await journal.close()


async def test_ready_waits_for_the_statement_under_way(database: EmbeddedPostgres, schema: str) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    await asyncio.wait_for(journal.ready(), 1.0)
    under_way = asyncio.create_task(journal.append([first_row(1)]))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(journal.ready())
    await asyncio.wait({under_way, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert under_way.done()
    await asyncio.wait_for(waiting, 1.0)
    await journal.close()
