"""Searching the journal, by time over all shards or one account, oldest or newest first."""

import heapq
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from debt_mgmt.server.actor import Actor
from debt_mgmt.server.journal.journal import Journal, Row
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.pages import Cursor, is_after, moment
from debt_mgmt.server.rpc.seen import payload_as_seen
from debt_mgmt.server.rpc.validate import ERA
from debt_mgmt.v1 import audit_service_pb2 as wire

HOUSE_SHARD = 0
ROWS_TOGETHER = 1000
POSITION_LAST = 2**62
WINDOW_FIRST = timedelta(minutes=1)
WINDOW_GROWTH = 8


class Search(msgspec.Struct, frozen=True):
    """What is looked for. Empty is everything."""

    account_id: str
    kinds: list[str]
    actor: str
    request_id: str
    since: datetime | None
    until: datetime | None
    newest_first: bool
    accounts: tuple[str, ...] | None = None
    """The only accounts that the caller may see, the house not among them; None: all."""

    def of_journal(self, since: datetime | None, until: datetime | None) -> dict[str, Any]:
        """What the journal's own search takes of it."""
        return {
            "account_id": self.account_id or None,
            "kinds": self.kinds or None,
            "actor": self.actor or None,
            "since": since,
            "until": until,
        }

    @property
    def filters(self) -> tuple[object, ...]:
        return msgspec.structs.astuple(self)

    def wants(self, row: Row) -> bool:
        """What the journal's own search leaves to do: the request, the caller's accounts, and the house's log."""
        if self.request_id and row.request_id != self.request_id:
            return False
        if self.accounts is not None and (row.shard == HOUSE_SHARD or row.account_id not in self.accounts):
            return False
        return not self.account_id or row.shard != HOUSE_SHARD


def place_of(row: Row) -> Cursor:
    """Rows by time, those of one time by shard and position."""
    return [moment(row.at), row.shard, row.position]


def event_message(row: Row, actor: Actor) -> wire.AuditEvent:
    return wire.AuditEvent(
        revision=convert.revision((row.shard, row.position)),
        time=convert.timestamp(row.at),
        account_id="" if row.shard == HOUSE_SHARD else row.account_id,
        request_id=row.request_id,
        actor=row.actor,
        kind=row.kind,
        payload=payload_as_seen(row.payload, actor).decode(),
        chain_hash=row.hash.hex(),
    )


# searching


async def oldest(journal: Journal, search: Search, cursor: Cursor | None, count: int, at: datetime) -> list[Row]:
    """The first rows after the cursor: the first of each shard, merged by time."""
    since = search.since if cursor is None else time_of(cursor)
    found: list[Row] = []
    after: tuple[int, int] | None = None
    while (shard := await next_shard(journal, search, since, after)) is not None:
        behind = int(cursor[2]) if cursor is not None and cursor[1] == shard else 0
        found += await first_of_shard(journal, search, since, (shard, behind), cursor, count)
        after = (shard, POSITION_LAST)
    return sorted(found, key=place_of)[:count]


async def next_shard(
    journal: Journal, search: Search, since: datetime | None, after: tuple[int, int] | None
) -> int | None:
    """The next shard in which anything fits."""
    rows = await journal.list_rows(**search.of_journal(since, search.until), after=after, limit=1)
    return rows[0].shard if rows else None


async def first_of_shard(
    journal: Journal,
    search: Search,
    since: datetime | None,
    after: tuple[int, int],
    cursor: Cursor | None,
    count: int,
) -> list[Row]:
    """The first `count` rows of one shard that are wanted."""
    found: list[Row] = []
    async for rows in parts(journal, search, since, search.until, after):
        found += (row for row in fitting(rows, search, cursor) if row.shard == after[0])
        if len(found) >= count or not rows or rows[-1].shard != after[0]:
            break
    return found[:count]


async def newest(journal: Journal, search: Search, cursor: Cursor | None, count: int, at: datetime) -> list[Row]:
    """The last rows before the cursor. The journal reads forwards only, so ever longer times back are read."""
    until = search.until if cursor is None else time_of(cursor) + timedelta(microseconds=1)
    end = at if until is None else min(until, at)
    first = search.since or ERA
    window = WINDOW_FIRST
    while True:
        whole = end - first <= window
        latest: list[tuple[Cursor, Row]] = []
        async for rows in parts(journal, search, first if whole else end - window, until, None):
            for row in fitting(rows, search, cursor):
                if len(latest) < count:
                    heapq.heappush(latest, (place_of(row), row))
                else:
                    heapq.heappushpop(latest, (place_of(row), row))
        if whole or len(latest) >= count:
            return [row for _, row in sorted(latest, key=lambda item: item[0], reverse=True)]
        window *= WINDOW_GROWTH


async def parts(
    journal: Journal, search: Search, since: datetime | None, until: datetime | None, after: tuple[int, int] | None
) -> AsyncIterator[list[Row]]:
    """Everything that fits, by shard and position, a part at a time."""
    while True:
        rows = await journal.list_rows(**search.of_journal(since, until), after=after, limit=ROWS_TOGETHER)
        yield rows
        if len(rows) < ROWS_TOGETHER:
            return
        after = (rows[-1].shard, rows[-1].position)


def fitting(rows: list[Row], search: Search, cursor: Cursor | None) -> Iterator[Row]:
    """Rows that are wanted and lie beyond the cursor in the direction of the search."""
    return (
        row for row in rows if search.wants(row) and is_after(place_of(row), cursor, newest_first=search.newest_first)
    )


def time_of(cursor: Cursor) -> datetime:
    return ERA + timedelta(microseconds=int(cursor[0]))
