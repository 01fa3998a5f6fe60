"""The journal in PostgreSQL, through asyncpg: one connection per log to append, a small pool to read."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.util import migrate as pogo

from debt_mgmt.server.journal import partitions
from debt_mgmt.server.journal.appends import APPEND_SECONDS, COLUMNS, Appends
from debt_mgmt.server.journal.journal import (
    EMPTY_LOG,
    LOG_OPENED,
    Head,
    JournalError,
    JournalUnavailable,
    Row,
    Snapshot,
)
from debt_mgmt.server.journal.partitions import PARTITION_ROWS, SNAPSHOT_COLUMNS

DEFAULT_SCHEMA = "debt_mgmt"

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM journal"

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_SNAPSHOT_SECONDS = 300.0
_CLOSE_SECONDS = 5.0
_READERS = 4

_log = logging.getLogger(__name__)


class PostgresJournal:
    """The journal in one schema of a PostgreSQL database, or of one that speaks its protocol."""

    def __init__(
        self,
        dsn: str,
        schema: str,
        readers: "asyncpg.Pool[asyncpg.Record]",
        partition_rows: int = PARTITION_ROWS,
    ) -> None:
        self._dsn = dsn
        self._schema = schema
        self._readers = readers
        self._partition_rows = partition_rows
        self._appends = Appends(dsn, lambda: settings_of(schema, APPEND_SECONDS))

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        migrations: Path | None = None,
        migrate: bool = True,
        readers: int = _READERS,
        partition_rows: int = PARTITION_ROWS,
    ) -> "PostgresJournal":
        """Connect, bring the schema up to date, and check that the database keeps what it says.

        Raises ValueError for a schema name that is not a plain identifier, JournalUnavailable when the database does
        not answer, JournalError when it cannot hold the journal.
        """
        check_schema_name(schema)
        with translated(), _misconfigured():
            if migrate:
                await migrate_schema(dsn, schema=schema, migrations=migrations)
            await _check_database(dsn, schema)
            pool = await asyncpg.create_pool(
                dsn,
                min_size=0,
                max_size=readers,
                timeout=_CONNECT_SECONDS,
                server_settings=settings_of(schema, _SNAPSHOT_SECONDS),
            )
        return cls(dsn, schema, pool, partition_rows)

    async def ready(self) -> None:
        await self._appends.ready()

    async def append(self, rows: Sequence[Row]) -> None:
        shard = rows[0].shard
        assert all(row.shard == shard for row in rows), "one append is for one log"
        await self._appends.append(rows)

    async def read(self, shard: int, after_position: int = 0, page_rows: int = 4096) -> AsyncIterator[list[Row]]:
        following = asyncio.create_task(self._page(shard, after_position, page_rows))
        try:
            while page := await following:
                if len(page) < page_rows:
                    yield page
                    return
                # The database reads the next page while this one is used.
                following = asyncio.create_task(self._page(shard, page[-1].position, page_rows))
                yield page
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def head(self, shard: int) -> Head:
        found = await self._fetch(
            "SELECT position, hash FROM journal WHERE shard = $1 ORDER BY position DESC LIMIT 1", shard
        )
        return Head(found[0]["position"], found[0]["hash"]) if found else EMPTY_LOG

    async def read_rows(self, shard: int, first_position: int, last_position: int) -> list[Row]:
        found = await self._fetch(
            f"{_SELECT} WHERE shard = $1 AND position BETWEEN $2 AND $3 ORDER BY position",
            shard, first_position, last_position,
        )  # fmt: skip
        return _rows(found)

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
        search = _Search()
        if kinds is not None:
            search.where("kind = ANY({})", list(kinds))
        if actor is not None:
            search.where("strpos(actor, {}) > 0", actor)
        if not log_opened:
            search.where("kind <> {}", LOG_OPENED)
        if account_id is not None:
            search.where("account_id = {}", account_id)
            if since is not None:
                search.where("at >= {}", since)
            if until is not None:
                search.where("at < {}", until)
            if after is not None:
                search.where("(shard, position) > ({}, {})", *after)
            return await self._search(search, limit)
        found: list[Row] = []
        for shard in await self._shards(after[0] if after else None):
            if len(found) >= limit:
                break
            first = after[1] + 1 if after and after[0] == shard else 1
            if since is not None:
                first = max(first, await self._first_position_at(shard, since))
            in_shard = search.copy()
            in_shard.where("shard = {} AND position >= {}", shard, first)
            if until is not None:
                in_shard.where("position < {}", await self._first_position_at(shard, until))
            found += await self._search(in_shard, limit - len(found))
        return found

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        if await self._fetch(
            "SELECT 1 FROM snapshot WHERE shard = $1 AND position = $2 LIMIT 1", snapshot.shard, snapshot.position
        ):
            return
        with translated():
            async with self._readers.acquire(timeout=_CONNECT_SECONDS) as connection:
                await connection.copy_records_to_table(
                    "snapshot",
                    columns=SNAPSHOT_COLUMNS,
                    records=[
                        (
                            snapshot.shard, snapshot.position, part, body,
                            snapshot.fingerprint, snapshot.code_version, snapshot.at,
                        )
                        for part, body in enumerate(snapshot.parts)
                    ],
                    timeout=_SNAPSHOT_SECONDS,
                )  # fmt: skip

    async def load_snapshot(self, shard: int, before_position: int | None = None) -> Snapshot | None:
        search = _Search()
        search.where("shard = {}", shard)
        if before_position is not None:
            search.where("position < {}", before_position)
        newest = await self._fetch(f"SELECT max(position) AS position FROM snapshot{search.clause}", *search.values)
        position = newest[0]["position"]
        if position is None:
            return None
        return _snapshot(
            await self._fetch(
                f"SELECT {', '.join(SNAPSHOT_COLUMNS)} FROM snapshot WHERE shard = $1 AND position = $2 ORDER BY part",
                shard, position,
            )
        )  # fmt: skip

    async def prune_snapshots(self, shard: int, keep: int = 2) -> None:
        kept = await self._fetch(
            "SELECT DISTINCT position FROM snapshot WHERE shard = $1 ORDER BY position DESC LIMIT $2", shard, keep
        )
        if len(kept) == keep:
            await self._fetch("DELETE FROM snapshot WHERE shard = $1 AND position < $2", shard, kept[-1]["position"])

    async def prepare(self, shards: Collection[int]) -> None:
        async with self._reader() as connection:
            try:
                await partitions.prepare(connection, shards, self._partition_rows)
            except asyncpg.InsufficientPrivilegeError as error:
                _log.warning("no partitions are made for the journal, it is dropped from row by row: %s", error)

    async def load_base(self, shard: int) -> Snapshot | None:
        return _snapshot(
            await self._fetch(
                f"SELECT {', '.join(SNAPSHOT_COLUMNS)} FROM log_base WHERE shard = $1 ORDER BY position, part", shard
            )
        )

    async def drop(self, base: Snapshot) -> None:
        async with self._reader() as connection:
            await partitions.drop(connection, base)

    async def get_meta(self, key: str) -> str | None:
        found = await self._fetch("SELECT value FROM meta WHERE key = $1", key)
        return str(found[0]["value"]) if found else None

    async def all_meta(self) -> dict[str, str]:
        return {row["key"]: row["value"] for row in await self._fetch("SELECT key, value FROM meta ORDER BY key")}

    async def set_meta(self, key: str, value: str) -> None:
        await self._fetch(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key, value,
        )  # fmt: skip

    async def set_meta_once(self, key: str, value: str) -> str:
        await self._fetch("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING", key, value)
        found = await self._fetch("SELECT value FROM meta WHERE key = $1", key)
        return str(found[0]["value"])

    async def next_epoch(self) -> int:
        found = await self._fetch(
            "INSERT INTO meta (key, value) VALUES ('epoch', '1') "
            "ON CONFLICT (key) DO UPDATE SET value = (meta.value::bigint + 1)::text RETURNING value"
        )
        return int(found[0]["value"])

    async def close(self) -> None:
        await self._appends.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._readers.close()
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._readers.terminate()
            await asyncio.sleep(0)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[partitions.Connection]:
        with translated():
            async with self._readers.acquire(timeout=_CONNECT_SECONDS) as connection:
                yield connection

    async def _fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        with translated():
            async with self._readers.acquire(timeout=_CONNECT_SECONDS) as connection:
                return list(await connection.fetch(query, *values, timeout=_READ_SECONDS))

    async def _page(self, shard: int, after_position: int, page_rows: int) -> list[Row]:
        return _rows(
            await self._fetch(
                f"{_SELECT} WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3",
                shard, after_position, page_rows,
            )
        )  # fmt: skip

    async def _search(self, search: "_Search", limit: int) -> list[Row]:
        return _rows(
            await self._fetch(f"{_SELECT}{search.clause} ORDER BY shard, position LIMIT {int(limit)}", *search.values)
        )

    async def _shards(self, from_shard: int | None) -> list[int]:
        """The shards that have a log, found by one step through the primary key for each."""
        shards: list[int] = []
        least = -1 if from_shard is None else from_shard - 1
        while True:
            found = await self._fetch("SELECT min(shard) AS shard FROM journal WHERE shard > $1", least)
            if found[0]["shard"] is None:
                return shards
            least = found[0]["shard"]
            shards.append(least)

    async def _first_position_at(self, shard: int, at: datetime) -> int:
        """The first position written at or after a time, by halving: times never run backwards within a log."""
        low, high = 1, (await self.head(shard)).position + 1
        while low < high:
            middle = (low + high) // 2
            found = await self._fetch("SELECT at FROM journal WHERE shard = $1 AND position = $2", shard, middle)
            if found and found[0]["at"] >= at:
                high = middle
            else:
                low = middle + 1
        return low


class _Search:
    """Conditions with their values, numbered as they come."""

    def __init__(self, conditions: Sequence[str] = (), values: Sequence[Any] = ()) -> None:
        self._conditions = list(conditions)
        self.values = list(values)

    def where(self, condition: str, *values: Any) -> None:
        """Add a condition with {} where each value goes."""
        numbers = range(len(self.values) + 1, len(self.values) + 1 + len(values))
        self._conditions.append(condition.format(*(f"${number}" for number in numbers)))
        self.values += values

    def copy(self) -> "_Search":
        return _Search(self._conditions, self.values)

    @property
    def clause(self) -> str:
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""


def check_schema_name(schema: str) -> None:
    """Refuse a schema name that would need quoting: it is part of statements."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema) or schema.startswith("pg_"):
        raise ValueError(
            f"database schema {schema!r} is not a plain name: lower-case letters, digits and underscores, at most 63"
        )


def migrations_directory() -> Path:
    """Where the migrations are: in the installed package, or in the source tree that this file is part of."""
    here = Path(__file__).resolve()
    for directory in (here.parents[1] / "migrations", here.parents[4] / "migrations"):
        if any(directory.glob("*.sql")):
            return directory
    raise JournalError(
        "the migrations are neither in the installed package nor beside the sources: give their directory"
    )


class _Quieter(logging.LoggerAdapter[logging.Logger]):
    """That a migration is applied is no warning: the first start applies them all."""

    def warning(self, *words: Any, **more: Any) -> None:
        self.info(*words, **more)


async def migrate_schema(dsn: str, *, schema: str = DEFAULT_SCHEMA, migrations: Path | None = None) -> None:
    """Create the schema and apply the migrations that it lacks; services that start together take turns."""
    check_schema_name(schema)
    directory = migrations or migrations_directory()
    with translated(), _misconfigured():
        connection = await asyncpg.connect(
            dsn, timeout=_CONNECT_SECONDS, server_settings=settings_of(schema, _SNAPSHOT_SECONDS)
        )
        try:
            # One lock for all schemas: what was applied is noted in tables that they share.
            await connection.execute("SELECT pg_advisory_lock(hashtextextended('debt_mgmt migrations', 0))")
            await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            await pogo.apply(connection, directory, schema_name=schema, logger=_Quieter(_log))
        except BadMigrationError as error:
            raise JournalError(f"{error} to schema {schema}: {error.__cause__}") from error
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)


async def _check_database(dsn: str, schema: str) -> None:
    """Refuse a database that would change or lose what is written."""
    settings = settings_of(schema, _READ_SECONDS)
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings=settings)
    try:
        encoding = await connection.fetchval("SHOW server_encoding")
        if encoding != "UTF8":
            raise JournalError(f"the database encodes text as {encoding}, the journal needs UTF8")
        synchronous = await connection.fetchval("SHOW synchronous_commit")
        if synchronous == "off":
            raise JournalError("the database has synchronous_commit off: it would lose acknowledged events in a crash")
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


def settings_of(schema: str, statement_seconds: float) -> dict[str, str]:
    return {
        "search_path": f'"{schema}"',
        "statement_timeout": str(int(statement_seconds * 1000)),
        "application_name": "debt-mgmt",
        "timezone": "UTC",
    }


def _snapshot(parts: Sequence[asyncpg.Record]) -> Snapshot | None:
    """The snapshot in its parts, in order."""
    if not parts:
        return None
    first = parts[0]
    return Snapshot(
        first["shard"], first["position"], first["at"], first["fingerprint"], first["code_version"],
        tuple(part["body"] for part in parts),
    )  # fmt: skip


def _rows(records: Sequence[asyncpg.Record]) -> list[Row]:
    return [
        Row(
            shard, position, epoch, at, account_id, request_id, request_digest, actor, kind, payload.encode(), digest
        )
        for (
            shard, position, epoch, at, account_id, request_id, request_digest, actor, kind, payload, digest,
        ) in records
    ]  # fmt: skip


@contextmanager
def _misconfigured() -> Iterator[None]:
    """What waiting does not mend, said at the start."""
    try:
        yield
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise JournalError(f"the database does not let us in: {error}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise JournalError(
            f"the database user may not set up the journal ({error}): it needs CREATE on the database, for the schema,"
            f" and on the schema public, where applied migrations are noted"
        ) from error


@contextmanager
def translated() -> Iterator[None]:
    """What a database or its connection raises, as a fault of the journal."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise JournalUnavailable(f"{type(error).__name__}: {error}") from error
