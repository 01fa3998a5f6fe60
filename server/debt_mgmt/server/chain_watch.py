"""Walks the journal's chains of hashes all the time, a piece at a time, so that a changed row is found unasked."""

import asyncio
import logging
from typing import TYPE_CHECKING

from debt_mgmt.server.journal.journal import Head, JournalError
from debt_mgmt.server.journal.retention import begins_after
from debt_mgmt.server.journal.verification import Walk, walk

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

LOOK_SECONDS = 5.0
PIECE_ROWS = 2_000
"""Walked at a look: about 20 ms of work."""

logger = logging.getLogger(__name__)


class ChainWatch:
    """Goes from log to log. One that is found broken stays so until its broken place was walked again and fits."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.broken: dict[int, Walk] = {}
        """By shard: what does not fit."""
        self.next: dict[int, int] = {}
        """By shard: where the next walk begins."""
        self.turn = 0
        self.rows_walked = 0
        self.rounds = 0
        """How often every log was walked to its end."""
        self.failures = 0
        """Looks at which the journal could not be read."""
        self.unreadable = False
        """Whether the last look was one of these."""
        self.ended: set[int] = set()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.watch(), name="chain of hashes")

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
                self.unreadable = False
            except JournalError as error:
                self.failures += 1
                self.unreadable = True
                logger.warning("the journal could not be read to verify its chain: %s", error)

    async def look(self) -> None:
        """Walk the next piece of the log whose turn it is."""
        engine = self.engine
        heads = engine.heads()
        shard = self.turn = self.turn % len(heads)
        start, found = await self.piece(shard, heads[shard])
        if not found.intact:  # its oldest rows may have been exported and dropped at that moment: once more
            start, found = await self.piece(shard, heads[shard])
        self.note(shard, start, found)
        if self.next[shard]:
            return
        self.turn += 1
        self.ended.add(shard)
        if self.ended >= heads.keys():
            self.ended.clear()
            self.rounds += 1

    async def piece(self, shard: int, head: Head) -> tuple[int, Walk]:
        """Walk from where the last piece ended: from where that is now, and what was found."""
        journal = self.engine.journal
        before = await begins_after(journal, shard)
        start = max(self.next.get(shard, 0), before.position + 1)
        return start, await walk(journal, shard, head, start_position=start, most=PIECE_ROWS, before=before)

    def note(self, shard: int, start: int, found: Walk) -> None:
        walked = found.last_position - found.first_position + 1 if found.last_position else 0
        self.rows_walked += walked
        known = self.broken.get(shard)
        if not found.intact:
            if known is None or known.broken_position != found.broken_position:
                logger.critical("shard %d: the journal was changed at position %d: %s", shard, found.broken_position,
                                found.detail)  # fmt: skip
            self.broken[shard] = found
            self.next[shard] = 0
            return
        place = known.broken_position if known is not None else None
        if place is not None and start <= place <= found.last_position:
            del self.broken[shard]
            logger.warning("shard %d: the chain fits again at position %d", shard, place)
        self.next[shard] = found.last_position + 1 if walked and found.last_position < found.head_position else 0
