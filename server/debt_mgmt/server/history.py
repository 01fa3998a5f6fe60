"""The history of accounts: follows the journal into a table made for reading. Nothing that is decided waits for it."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.profit import NOTHING, Causes
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import Journal, JournalError

logger = logging.getLogger(__name__)

KINDS = ("EquityRecorded",)
ROWS_TOGETHER = 500
PENDING_MOST = 100_000
"""Rows that wait in memory; beyond that the journal is read again."""
AGAIN_SECONDS = 5.0
SETTLED_SECONDS = 5.0
"""A reader waits so long for what was committed before it asked."""


class HistoryRow(msgspec.Struct, frozen=True):
    """One interval of one account, with the place of its event in the journal."""

    account_id: str
    shard: int
    position: int
    started_at: datetime
    ended_at: datetime
    equity_before: Decimal | None
    equity: Decimal | None
    wallet_balance: Decimal | None
    unrealized_pnl: Decimal | None
    causes: Causes


class Sum(msgspec.Struct, frozen=True):
    """Several intervals of an account as one."""

    equity_before: Decimal | None
    equity: Decimal | None
    causes: Causes = NOTHING


class HistoryStore(Protocol):
    """Where the rows are kept. Every method raises JournalUnavailable when the store does not answer."""

    async def put(self, rows: Sequence[HistoryRow]) -> None:
        """Keep rows, all or none. One that is there already stays as it is."""

    async def places(self) -> dict[int, int]:
        """The last position kept of each shard."""

    async def newest(self, account_id: str, after: datetime, until: datetime, limit: int) -> list[HistoryRow]:
        """Rows of an account that ended after one time and not after another, the newest first."""

    async def sum(self, account_id: str, after: datetime, until: datetime) -> Sum | None:
        """All rows of that time as one; None where there are none."""

    async def clear(self) -> None:
        """Forget every row."""

    async def close(self) -> None:
        """Release every connection."""


def row_of(account_id: str, shard: int, position: int, event: e.EquityRecorded) -> HistoryRow:
    return HistoryRow(
        account_id,
        shard,
        position,
        event.started_at,
        event.ended_at,
        event.equity_before,
        event.equity,
        event.wallet_balance,
        event.unrealized_pnl,
        event.causes,
    )


class FundHistory:
    """Writes what the engine tells it in the background, and reads from the journal what it was not told."""

    def __init__(self, store: HistoryStore) -> None:
        self.store = store
        self.pending: deque[HistoryRow] = deque()
        self.behind = True
        """Rows are to be read from the journal."""
        self.anew = False
        """The table is to be emptied first."""
        self.wake = asyncio.Event()
        self.moved = asyncio.Event()
        """Set, and replaced by another, when rows were written."""
        self.noted = 0
        """Rows told of since the start."""
        self.written = 0
        """How many of them are in the table, with all that came before them."""
        self.following = False
        """What was in the journal before the rows that wait is in the table."""
        self.task: asyncio.Task[None] | None = None

    def start(self, journal: Journal, shards: int) -> None:
        self.task = asyncio.create_task(self.follow(journal, shards), name="fund history")

    async def stop(self) -> None:
        """Stop following; what is not written yet is read from the journal at the next start."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None

    def note(self, row: HistoryRow) -> None:
        """A row that is durable in the journal."""
        self.noted += 1
        self.pending.append(row)
        if len(self.pending) > PENDING_MOST:
            self.pending.clear()
            self.fall_behind()
        self.wake.set()

    def fall_behind(self) -> None:
        self.behind, self.following = True, False

    async def settled(self) -> None:
        """Wait until everything noted so far is in the table. Raises Fault where that takes too long."""
        try:
            async with asyncio.timeout(SETTLED_SECONDS):
                target = self.noted
                while not self.following or self.written < target:
                    await self.moved.wait()
        except TimeoutError:
            message = "the history of funds is still being written from the journal; ask again shortly"
            raise Fault(FaultReason.JOURNAL_UNAVAILABLE, message) from None

    async def follow(self, journal: Journal, shards: int) -> None:
        while True:
            try:
                await self.go_on(journal, shards)
            except JournalError as error:
                self.fall_behind()
                logger.warning("the history of funds is behind (%s); tried again in %s s", error, AGAIN_SECONDS)
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception:
                self.fall_behind()
                logger.exception("the history of funds is behind; tried again in %s s", AGAIN_SECONDS)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                if not self.pending and not self.behind:
                    self.wake.clear()
                    await self.wake.wait()

    async def go_on(self, journal: Journal, shards: int) -> None:
        """Bring the table up to the journal."""
        if self.anew:
            await self.store.clear()
            self.anew = False
        if self.behind:
            self.behind = False
            await read_on(self.store, journal, shards)
            if not self.behind:
                self.following = True
                self.progress(self.noted - len(self.pending) - self.written)
        await self.write_pending()

    def progress(self, count: int) -> None:
        """So many more rows are in the table: those who wait look again."""
        self.written += count
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    async def write_pending(self) -> None:
        while self.pending and not self.behind:
            rows = [self.pending[number] for number in range(min(len(self.pending), ROWS_TOGETHER))]
            await self.store.put(rows)
            if not self.behind:
                for _ in rows:
                    self.pending.popleft()
                self.progress(len(rows))

    def rebuild(self) -> None:
        """Write the whole table anew from the journal. It is complete again once `settled` returns."""
        self.anew = True
        self.fall_behind()
        self.wake.set()


CODEC: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)


async def read_on(store: HistoryStore, journal: Journal, shards: int) -> None:
    """Bring the store up to the journal, from the place in each log that it has reached."""
    places = await store.places()
    for shard in range(1, shards + 1):
        after = (shard, places.get(shard, 0))
        while True:
            found = await journal.list_rows(kinds=KINDS, after=after, limit=ROWS_TOGETHER)
            rows = [row for row in found if row.shard == shard]
            told = [(row, CODEC.decode_event(row.payload)) for row in rows]
            await store.put(
                [
                    row_of(row.account_id, shard, row.position, event)
                    for row, event in told
                    if isinstance(event, e.EquityRecorded)
                ]
            )
            if len(rows) < ROWS_TOGETHER:
                break
            after = (shard, rows[-1].position)
            await asyncio.sleep(0)
