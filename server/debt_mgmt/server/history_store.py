"""Where the history of accounts is kept: a table of PostgreSQL, or memory for a journal that has no database."""

import bisect
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from debt_mgmt.core.profit import NOTHING, Causes
from debt_mgmt.server.history import HistoryRow, Sum
from debt_mgmt.server.journal.postgres_journal import DEFAULT_SCHEMA, check_schema_name, settings_of, translated

CONNECTIONS = 2
CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 60.0

AMOUNTS = ("funding", "interest", "fees", "transfers", "liquidation_cost", "realized", "synced")
COLUMNS = (
    "account_id", "shard", "position", "started_at", "ended_at", "equity_before", "equity", "wallet_balance",
    "unrealized_pnl", *AMOUNTS, "unpriced",
)  # fmt: skip
TYPES = (
    "text", "integer", "bigint", "timestamptz", "timestamptz", *["numeric"] * (len(COLUMNS) - 6), "boolean",
)  # fmt: skip

PUT = (
    f"INSERT INTO fund_history ({', '.join(COLUMNS)}) "
    f"SELECT * FROM unnest({', '.join(f'${number}::{kind}[]' for number, kind in enumerate(TYPES, start=1))}) "
    "ON CONFLICT DO NOTHING"
)
PLACES = "SELECT shard, max(position) AS position FROM fund_history GROUP BY shard"
OF_TIME = "FROM fund_history WHERE account_id = $1 AND ended_at > $2 AND ended_at <= $3"
NEWEST = f"SELECT {', '.join(COLUMNS)} {OF_TIME} ORDER BY ended_at DESC LIMIT $4"
SUM = (
    f"SELECT {', '.join(f'sum({name}) AS {name}' for name in AMOUNTS)}, bool_or(unpriced) AS unpriced, "
    "(array_agg(equity_before ORDER BY ended_at))[1] AS equity_before, "
    f"(array_agg(equity ORDER BY ended_at DESC))[1] AS equity {OF_TIME}"
)


class PostgresHistory:
    """The table `fund_history` in the journal's schema."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.pool = pool

    @classmethod
    async def open(cls, dsn: str, *, schema: str = DEFAULT_SCHEMA) -> "PostgresHistory":
        """Connect. The journal's migrations have made the table. Raises JournalUnavailable."""
        check_schema_name(schema)
        with translated():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=0,
                max_size=CONNECTIONS,
                timeout=CONNECT_SECONDS,
                server_settings=settings_of(schema, STATEMENT_SECONDS),
            )
        return cls(pool)

    async def put(self, rows: Sequence[HistoryRow]) -> None:
        if not rows:
            return
        records = [record_of(row) for row in rows]
        with translated():
            await self.pool.execute(PUT, *(list(column) for column in zip(*records, strict=True)))

    async def places(self) -> dict[int, int]:
        with translated():
            return {found["shard"]: found["position"] for found in await self.pool.fetch(PLACES)}

    async def newest(self, account_id: str, after: datetime, until: datetime, limit: int) -> list[HistoryRow]:
        with translated():
            return [row_of(found) for found in await self.pool.fetch(NEWEST, account_id, after, until, limit)]

    async def sum(self, account_id: str, after: datetime, until: datetime) -> Sum | None:
        with translated():
            found = await self.pool.fetchrow(SUM, account_id, after, until)
        if found is None or found["unpriced"] is None:
            return None
        return Sum(found["equity_before"], found["equity"], causes_of(found))

    async def clear(self) -> None:
        with translated():
            await self.pool.execute("DELETE FROM fund_history")

    async def close(self) -> None:
        with translated():
            await self.pool.close()


def record_of(row: HistoryRow) -> tuple[object, ...]:
    causes = row.causes
    return (
        row.account_id, row.shard, row.position, row.started_at, row.ended_at, row.equity_before, row.equity,
        row.wallet_balance, row.unrealized_pnl, *(getattr(causes, name) for name in AMOUNTS), causes.unpriced,
    )  # fmt: skip


def row_of(found: asyncpg.Record) -> HistoryRow:
    given = {name: found[name] for name in HistoryRow.__struct_fields__ if name != "causes"}
    return HistoryRow(**given, causes=causes_of(found))


def causes_of(found: asyncpg.Record) -> Causes:
    return Causes(**{name: found[name] for name in (*AMOUNTS, "unpriced")})


class MemoryHistory:
    """The same in memory, for as long as the service runs."""

    def __init__(self) -> None:
        self.rows: dict[str, list[HistoryRow]] = {}
        """By account, the oldest first."""
        self.last: dict[int, int] = {}

    async def put(self, rows: Sequence[HistoryRow]) -> None:
        for row in rows:
            kept = self.rows.setdefault(row.account_id, [])
            place = bisect.bisect_left(kept, row.ended_at, key=ended_at)
            if place == len(kept) or kept[place].ended_at != row.ended_at:
                kept.insert(place, row)
            self.last[row.shard] = max(row.position, self.last.get(row.shard, 0))

    async def places(self) -> dict[int, int]:
        return dict(self.last)

    async def newest(self, account_id: str, after: datetime, until: datetime, limit: int) -> list[HistoryRow]:
        return self.between(account_id, after, until)[::-1][:limit]

    async def sum(self, account_id: str, after: datetime, until: datetime) -> Sum | None:
        rows = self.between(account_id, after, until)
        if not rows:
            return None
        causes = NOTHING
        for row in rows:
            causes = causes.plus(row.causes)
        return Sum(rows[0].equity_before, rows[-1].equity, causes)

    def between(self, account_id: str, after: datetime, until: datetime) -> list[HistoryRow]:
        kept = self.rows.get(account_id, [])
        return kept[bisect.bisect_right(kept, after, key=ended_at) : bisect.bisect_right(kept, until, key=ended_at)]

    async def clear(self) -> None:
        self.rows.clear()
        self.last.clear()

    async def close(self) -> None:
        """Nothing is held open."""


def ended_at(row: HistoryRow) -> datetime:
    return row.ended_at
