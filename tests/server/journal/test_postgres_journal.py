"""What only the journal in PostgreSQL must get right: schemas, migrations, lost connections, refused databases."""

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from debt_mgmt.server.journal.journal import (
    GENESIS,
    AppendAmbiguous,
    JournalDamaged,
    JournalError,
    JournalUnavailable,
    link,
    verify,
)
from debt_mgmt.server.journal.postgres_journal import (
    PostgresJournal,
    check_schema_name,
    migrate_schema,
    migrations_directory,
)
from debt_mgmt.server.postgres import EmbeddedPostgres

START = datetime(2026, 1, 2, tzinfo=UTC)

RELEASED_MIGRATIONS = {
    "0001_journal.sql": "b22c14b22a9aefe87ace15ab97a4dab5ad838e0c53d92b512f4d6551fd0513f6",
    "0002_fund_history.sql": "5cad7bfdfba4f350c97d6ee8a2278ac275ac7091ee1fccf90ac225245f48c49f",
    "0003_fund_history_synced.sql": "ad4354ed858289b8de01db265baf0d2db68963c0034ecf6cfcaa9b2a3ace239b",
    "0004_retention.sql": "c55930e8b15dfd1051554f2ed5cd93475f0f764a8f27178c0a65674d545d7ea6",
}


async def test_a_migration_never_changes() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(migrations_directory().glob("*.sql"))
    }
    assert found == RELEASED_MIGRATIONS


async def test_services_that_start_together_migrate_once(database: EmbeddedPostgres, schema: str) -> None:
    await asyncio.gather(*(migrate_schema(database.dsn, schema=schema) for _ in range(4)))
    await migrate_schema(database.dsn, schema=schema)
    connection = await asyncpg.connect(database.dsn)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema)
    await connection.close()
    made = ["fund_history", "journal", "journal_rest", "log_base", "meta", "snapshot"]
    assert [table["tablename"] for table in tables] == made


async def test_a_schema_that_lacks_its_migrations_is_an_error(
    database: EmbeddedPostgres, schema: str, tmp_path: Path
) -> None:
    (tmp_path / "0001_broken.sql").write_text(
        "-- Broken.\n-- depends:\n\n-- migrate: apply\nSELEC 1;\n-- migrate: rollback\n"
    )
    with pytest.raises(JournalError, match="0001_broken"):
        await migrate_schema(database.dsn, schema=schema, migrations=tmp_path)


@pytest.mark.parametrize("name", ["", "Debt", "debt-mgmt", 'a"b', "a;b", "1a", "a" * 64, "pg_mine", "a b", "\u0430"])
async def test_a_schema_name_that_would_need_quotes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plain name"):
        check_schema_name(name)


async def test_journals_in_two_schemas_are_apart(database: EmbeddedPostgres, schema: str) -> None:
    one = await PostgresJournal.open(database.dsn, schema=f"{schema}_one")
    other = await PostgresJournal.open(database.dsn, schema=f"{schema}_other")
    await one.append([link(GENESIS, 1, 1, 1, START, "a", "", None, "", "Added", b"{}")])
    assert (await one.head(1)).position == 1
    assert (await other.head(1)).position == 0
    await one.close()
    await other.close()


async def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable):
        await PostgresJournal.open(f"postgresql://postgres@/postgres?host={tmp_path}")


async def test_a_database_with_the_wrong_encoding_is_refused(database: EmbeddedPostgres, schema: str) -> None:
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"CREATE DATABASE {schema} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    await connection.close()
    with pytest.raises(JournalError, match="LATIN1"):
        await PostgresJournal.open(database.dsn.replace("/postgres?", f"/{schema}?"))


async def test_a_database_that_loses_commits_is_refused(database: EmbeddedPostgres, schema: str) -> None:
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"CREATE ROLE {schema} LOGIN SUPERUSER; ALTER ROLE {schema} SET synchronous_commit = off")
    await connection.close()
    with pytest.raises(JournalError, match="synchronous_commit"):
        await PostgresJournal.open(database.dsn.replace("//postgres@", f"//{schema}@"))


async def test_a_database_that_does_not_exist_is_an_error_that_waiting_does_not_mend(
    database: EmbeddedPostgres,
) -> None:
    with pytest.raises(JournalError, match="nowhere") as error:
        await PostgresJournal.open(database.dsn.replace("/postgres?", "/nowhere?"))
    assert not isinstance(error.value, JournalUnavailable)


async def test_a_user_without_the_rights_is_told_which_it_needs(database: EmbeddedPostgres, schema: str) -> None:
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"CREATE ROLE {schema} LOGIN")
    await connection.close()
    with pytest.raises(JournalError, match="CREATE on the database"):
        await PostgresJournal.open(database.dsn.replace("//postgres@", f"//{schema}@"), schema=schema)


async def test_a_connection_lost_during_an_append_is_ambiguous_and_made_again(
    database: EmbeddedPostgres, schema: str
) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    first = link(GENESIS, 1, 1, 1, START, "a", "", None, "", "Added", b"{}")
    second = link(first.hash, 1, 2, 1, START, "a", "", None, "", "Added", b"{}")
    await journal.append([first])
    blocker = await asyncpg.connect(database.dsn)
    async with blocker.transaction():
        await blocker.execute(f"LOCK TABLE {schema}.journal IN EXCLUSIVE MODE")
        append = asyncio.create_task(journal.append([second]))
        while not await blocker.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'COPY'"
        ):
            await asyncio.sleep(0.01)
        with pytest.raises(AppendAmbiguous):
            await append
    await blocker.close()
    assert (await journal.head(1)).position == 1
    await journal.append([second])
    assert (await journal.head(1)).position == 2
    await journal.close()


async def test_a_connection_lost_between_appends_is_made_again(database: EmbeddedPostgres, schema: str) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    first = link(GENESIS, 1, 1, 1, START, "a", "", None, "", "Added", b"{}")
    await journal.append([first])
    killer = await asyncpg.connect(database.dsn)
    await killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'debt-mgmt'")
    await killer.close()
    await asyncio.sleep(0.1)
    await journal.append([link(first.hash, 1, 2, 1, START, "a", "", None, "", "Added", b"{}")])
    assert (await journal.head(1)).position == 2
    await journal.close()


async def test_a_changed_payload_in_the_table_is_found(database: EmbeddedPostgres, schema: str) -> None:
    journal = await PostgresJournal.open(database.dsn, schema=schema)
    previous = GENESIS
    for position in range(1, 6):
        row = link(previous, 1, position, 1, START, "a", "", None, "", "Added", b'{"amount":"1"}')
        await journal.append([row])
        previous = row.hash
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(f"""UPDATE {schema}.journal SET payload = '{{"amount": "1"}}' WHERE position = 4""")
    await connection.close()
    with pytest.raises(JournalDamaged) as damaged:
        verify([row async for page in journal.read(1) for row in page])
    assert damaged.value.position == 4
    await journal.close()
