"""Appending to the journal in PostgreSQL: what several logs have to write goes out in one statement."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import asyncpg

from debt_mgmt.server.journal.journal import AppendAmbiguous, Row

APPEND_SECONDS = 15.0
ROWS_TOGETHER_MAX = 512
APART_SECONDS = 5.0
"""After an append of several logs failed, each has a connection of its own for so long: one that can't be written must
not keep the others from it."""

COLUMNS = (
    "shard", "position", "epoch", "at", "account_id", "request_id",
    "request_digest", "actor", "kind", "payload", "hash",
)  # fmt: skip
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


class _Batch(NamedTuple):
    rows: Sequence[Row]
    durable: asyncio.Future[None]


class Appends:
    """Group commit over all logs: one statement is under way, and what comes meanwhile goes out together in the next.

    With a statement for each log, 64 callers over 8 logs cost PostgreSQL twice the time, and the service an eighth.
    The rows of a statement are committed together or not at all, so its failure leaves every log in it in doubt.
    """

    def __init__(self, dsn: str, settings: Callable[[], dict[str, str]]) -> None:
        self._new: Callable[[], _Connection] = lambda: _Connection(dsn, settings)
        self._together = self._new()
        self._apart: dict[int, _Connection] = {}
        self._apart_until = 0.0
        self._waiting: list[_Batch] = []
        self._sending: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def ready(self) -> None:
        """Return when no statement is under way, or none is waited for."""
        while not self._idle.is_set() and asyncio.get_running_loop().time() >= self._apart_until:
            await self._idle.wait()

    async def append(self, rows: Sequence[Row]) -> None:
        """Return once the rows, all of one log, are durable. Raises AppendAmbiguous."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._apart_until:
            await self._apart.setdefault(rows[0].shard, self._new()).append(rows)
            return
        batch = _Batch(rows, loop.create_future())
        self._waiting.append(batch)
        if self._sending is None:
            self._idle.clear()
            self._sending = asyncio.create_task(self._send(), name="journal appends")
        await batch.durable

    async def close(self) -> None:
        if self._sending is not None:
            await self._sending
        for connection in (self._together, *self._apart.values()):
            await connection.close()

    async def _send(self) -> None:
        try:
            while batches := self._next():
                try:
                    await self._together.append([row for batch in batches for row in batch.rows])
                except AppendAmbiguous as error:
                    if len(batches) > 1:
                        self._apart_until = asyncio.get_running_loop().time() + APART_SECONDS
                    for batch in batches:
                        if not batch.durable.done():
                            batch.durable.set_exception(AppendAmbiguous(str(error)))
                else:
                    for batch in batches:
                        if not batch.durable.done():
                            batch.durable.set_result(None)
        finally:
            self._sending = None
            self._idle.set()

    def _next(self) -> list[_Batch]:
        """What goes out together. A batch that nobody waits for any more is left out."""
        waiting, count = [batch for batch in self._waiting if not batch.durable.done()], 0
        for place, batch in enumerate(waiting):
            count += len(batch.rows)
            if count > ROWS_TOGETHER_MAX and place:
                self._waiting = waiting[place:]
                return waiting[:place]
        self._waiting = []
        return waiting


class _Connection:
    """One connection over which rows are appended, one statement at a time."""

    def __init__(self, dsn: str, settings: Callable[[], dict[str, str]]) -> None:
        self._dsn = dsn
        self._settings = settings
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()

    async def append(self, rows: Sequence[Row]) -> None:
        records = [
            (
                row.shard, row.position, row.epoch, row.at, row.account_id, row.request_id,
                row.request_digest, row.actor, row.kind, row.payload.decode(), row.hash,
            )
            for row in rows
        ]  # fmt: skip
        async with self._turn:
            try:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = self._connection = await asyncpg.connect(
                        self._dsn, timeout=_CONNECT_SECONDS, server_settings=self._settings()
                    )
                await connection.copy_records_to_table(
                    "journal", columns=COLUMNS, records=records, timeout=APPEND_SECONDS
                )
            except BaseException as error:
                # Whatever it was: this connection may still have rows under way, so nothing more is sent over it.
                self._abort()
                if not isinstance(error, Exception):
                    raise
                raise AppendAmbiguous(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        async with self._turn:
            if self._connection is not None:
                try:
                    await self._connection.close(timeout=_CLOSE_SECONDS)
                except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    self._connection.terminate()
                self._connection = None

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
