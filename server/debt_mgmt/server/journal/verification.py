"""Walking a log's chain of hashes: every row follows the one before, and the end is the one that its writer knows."""

import asyncio
from datetime import datetime
from typing import NamedTuple

from debt_mgmt.server.journal.journal import EMPTY_LOG, Head, Journal, Row, chain_hash

PAGE_ROWS = 512
"""Nothing else runs while a page is hashed: a few milliseconds."""


class Walk(NamedTuple):
    """What the walk over one log found. Positions are 0 where there was nothing to walk."""

    shard: int
    first_position: int
    last_position: int
    """Walked, the broken one included."""
    head_position: int
    hash: bytes | None
    """Of the last row that fits, None where none does."""
    broken_position: int | None = None
    detail: str = ""

    @property
    def intact(self) -> bool:
        return self.broken_position is None


async def walk(
    journal: Journal, shard: int, known: Head, *, start_position: int = 0, most: int = 0, before: Head = EMPTY_LOG
) -> Walk:
    """Walk a log from `start_position`, or from its beginning, over at most so many rows (0: all).

    `known` is the end that the writer has in memory: a log that ends earlier, or otherwise, was changed too. `before`
    is what the log begins after where its oldest rows were exported and dropped. A walk that starts later takes the
    hash of the row before it as given.
    """
    first = max(start_position, before.position + 1)
    end = min(known.position, first + most - 1) if most else known.position
    if first > known.position:
        return Walk(shard, 0, 0, known.position, None)
    previous: bytes = before.hash
    if first > before.position + 1:
        rows = await journal.read_rows(shard, first - 1, first - 1)
        if not rows:
            return Walk(shard, first, first, known.position, None, first - 1, "the row is missing")
        previous = rows[0].hash
    fits: bytes | None = None
    position, at = first, None
    async for page in journal.read(shard, first - 1, PAGE_ROWS):
        for row in page:
            if row.position > end:
                break
            problem = problem_of(row, position, previous, at)
            if problem:
                return Walk(shard, first, position, known.position, fits, position, problem)
            previous = fits = row.hash
            position, at = position + 1, row.at
        if position > end:
            break
        await asyncio.sleep(0)
    if position <= end:
        problem = f"the row is missing: the log ends before it, and this service wrote up to {known.position}"
        return Walk(shard, first, position, known.position, fits, position, problem)
    if end == known.position and previous != known.hash:
        problem = "the rows up to here were written anew: the hash is not the one that this service wrote"
        return Walk(shard, first, end, known.position, None, end, problem)
    return Walk(shard, first, end, known.position, fits)


def problem_of(row: Row, position: int, previous: bytes, at: datetime | None) -> str:
    """Why a row can't stand at `position` behind the row with that hash and time; empty where it can."""
    if row.position != position:
        return f"the row is missing: the next one stored is at position {row.position}"
    if at is not None and row.at < at:
        return f"its time {row.at.isoformat()} is before that of the row it follows"
    if chain_hash(previous, row) != row.hash:
        return (
            f"the row ({row.kind} of {row.account_id} at {row.at.isoformat()}, by {row.actor}) is not what was written:"
            " its hash is not that of its content and its predecessor"
        )
    return ""
