"""Keeps the journal as long as the settings ask: what is older is exported, read back, and then dropped."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debt_mgmt.core.apply import apply
from debt_mgmt.core.house import apply_house
from debt_mgmt.server.journal.journal import Head, Journal, JournalError
from debt_mgmt.server.journal.lines import read_log, write_log
from debt_mgmt.server.journal.partitions import PARTITION_ROWS
from debt_mgmt.server.journal.recovery import beginning
from debt_mgmt.server.journal.retention import begins_after
from debt_mgmt.server.journal.state import LogState
from debt_mgmt.server.past import ACCOUNTS, HOUSE, HOUSE_SHARD, last_position_at

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

LOOK_SECONDS = 3600.0
PAGE_ROWS = 512

logger = logging.getLogger(__name__)


class Retaining:
    """Looks once an hour. A log loses whole ranges of positions only, so a quiet one keeps more than it has to."""

    def __init__(
        self, engine: "Engine", retention: timedelta, directory: Path | None, partition_rows: int = PARTITION_ROWS
    ) -> None:
        self.engine = engine
        self.retention = retention
        self.directory = directory
        self.partition_rows = partition_rows
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.watch(), name="retention")

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def watch(self) -> None:
        while True:
            try:
                await self.sweep()
            except (JournalError, OSError) as error:
                logger.error("old events of the journal were neither exported nor dropped: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def sweep(self) -> list[Path]:
        """Make room for new events; export and drop old ones. The files that were written."""
        engine = self.engine
        heads = engine.heads()
        await engine.journal.prepare(list(heads))
        if self.directory is None:
            return []
        horizon = engine.clock() - self.retention
        return [
            file
            for shard, head in heads.items()
            if (file := await self.retire(shard, head, horizon, self.directory)) is not None
        ]

    async def retire(self, shard: int, head: Head, horizon: datetime, directory: Path) -> Path | None:
        """Export and drop the whole ranges of one log that are older than the horizon; None where there are none."""
        journal = self.engine.journal
        before = await begins_after(journal, shard)
        old = await last_position_at(journal, shard, head.position, horizon)
        # The last row of a log stays, however old it is: it says where the log goes on.
        last = min(old, head.position - 1) // self.partition_rows * self.partition_rows
        if last <= before.position:
            return None
        state = await state_at(journal, shard, last)
        path = directory / f"log-{shard}-from-{before.position + 1}-to-{last}.jsonl.gz"
        pages = journal.read(shard, before.position, PAGE_ROWS)
        await write_log(path, shard, before, state.head, gently(pages))
        for _ in read_log(path)[1]:
            pass  # What can't be read back is not dropped.
        base = await state.snapshot("base", self.engine.clock())
        await journal.drop(base)
        logger.info("shard %d: events up to position %d were exported to %s and dropped", shard, last, path)
        return path


async def state_at(journal: Journal, shard: int, position: int) -> "LogState[Any, Any]":
    """The state that a log adds up to at a position, every row verified on the way."""
    fold: Callable[..., Any] = apply_house if shard == HOUSE_SHARD else apply
    codec: Any = HOUSE if shard == HOUSE_SHARD else ACCOUNTS
    state: LogState[Any, Any] = await beginning(journal, LogState(shard, fold, codec, remember_requests=False))
    async for rows in journal.read(shard, state.head.position, PAGE_ROWS):
        state.fold(row for row in rows if row.position <= position)
        if rows[-1].position >= position:
            break
        await asyncio.sleep(0)
    return state


async def gently(pages: Any) -> Any:
    """The pages, with room for other work after each."""
    async for page in pages:
        yield page
        await asyncio.sleep(0)
