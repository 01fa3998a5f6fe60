"""The journal's partitions in PostgreSQL: one for each shard, split by position, made ahead and dropped whole."""

import re
from collections.abc import Iterable
from typing import Any

from debt_mgmt.server.journal.journal import Snapshot

PARTITION_ROWS = 1_000_000
AHEAD = 2
"""So many ranges are there before they are needed. A row beyond them goes to the shard's rest, and nothing fails."""

SNAPSHOT_COLUMNS = ("shard", "position", "part", "body", "fingerprint", "code_version", "at")

Connection = Any
RANGE = re.compile(r"FOR VALUES FROM \('(\d+)'\) TO \('(\d+)'\)").fullmatch


async def prepare(connection: Connection, shards: Iterable[int], rows: int = PARTITION_ROWS) -> None:
    """Give each shard that has no rows yet a partition of its own, and make ranges ahead of each log's head."""
    for shard in shards:
        # Services that start together take turns.
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('debt_mgmt partitions', 0))")
            await prepare_shard(connection, shard, rows)


async def prepare_shard(connection: Connection, shard: int, rows: int) -> None:
    own = f"journal_shard_{shard}"
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", own):
        if await connection.fetchval("SELECT EXISTS (SELECT FROM journal WHERE shard = $1)", shard):
            return
        await connection.execute(
            f"CREATE TABLE {own} PARTITION OF journal FOR VALUES IN ({shard}) PARTITION BY RANGE (position)"
        )
        await connection.execute(f"CREATE TABLE {own}_rest PARTITION OF {own} DEFAULT")
    head = await connection.fetchval("SELECT max(position) FROM journal WHERE shard = $1", shard) or 0
    there = {first for _, first, _ in await ranges(connection, shard)}
    in_rest = await connection.fetchval(f"SELECT max(position) FROM {own}_rest") or 0
    for number in range(head // rows, head // rows + AHEAD):
        first = number * rows + 1
        if first not in there and first > in_rest:
            await connection.execute(
                f"CREATE TABLE {own}_from_{first} PARTITION OF {own} FOR VALUES FROM ({first}) TO ({first + rows})"
            )


async def ranges(connection: Connection, shard: int) -> list[tuple[str, int, int]]:
    """Name, first and last position of every range of a shard."""
    found = await connection.fetch(
        "SELECT child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bound FROM pg_inherits"
        " JOIN pg_class AS child ON child.oid = inhrelid WHERE inhparent = to_regclass($1)",
        f"journal_shard_{shard}",
    )
    bounds = [(row["name"], RANGE(row["bound"])) for row in found]
    return sorted((name, int(bound[1]), int(bound[2]) - 1) for name, bound in bounds if bound is not None)


async def drop(connection: Connection, base: Snapshot) -> None:
    """Put `base` in the place of all rows of its shard up to its position: whole ranges at once, others one by one."""
    async with connection.transaction():
        await connection.execute("DELETE FROM log_base WHERE shard = $1", base.shard)
        await connection.copy_records_to_table(
            "log_base",
            columns=SNAPSHOT_COLUMNS,
            records=[
                (base.shard, base.position, part, body, base.fingerprint, base.code_version, base.at)
                for part, body in enumerate(base.parts)
            ],
        )
        for name, _, last in await ranges(connection, base.shard):
            if last <= base.position:
                await connection.execute(f"ALTER TABLE journal_shard_{base.shard} DETACH PARTITION {name}")
                await connection.execute(f"DROP TABLE {name}")
        await connection.execute("DELETE FROM journal WHERE shard = $1 AND position <= $2", base.shard, base.position)
        await connection.execute("DELETE FROM snapshot WHERE shard = $1 AND position <= $2", base.shard, base.position)
