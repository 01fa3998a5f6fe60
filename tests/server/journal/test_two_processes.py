"""Two services on one PostgreSQL when the reset's slot comes: one of them resets, and the other learns of it."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.resets import ResetInterval, ResetSchedule
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.postgres import EmbeddedPostgres
from tests.server.rpc.edge import RULES, Edge

CODEC: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)
EVENING = datetime(2026, 3, 2, 23, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 3, tzinfo=UTC)


async def a_process(journal: PostgresJournal) -> Edge:
    edge = Edge(journal, RULES)
    edge.clock.now = EVENING
    await edge.engine.start()
    await edge.furnish()
    schedule = c.SetResetSchedule(ResetSchedule(ResetInterval.DAILY))
    await edge.engine.submit_house(schedule, request_id="", actor=SYSTEM)
    return edge


@pytest.mark.parametrize("together", [True, False])
async def test_one_of_two_processes_resets(database: EmbeddedPostgres, schema: str, together: bool) -> None:
    """Both look at the clock at midnight: at the same moment, or the one that has been overtaken first."""
    journals = [await PostgresJournal.open(database.dsn, schema=schema) for _ in range(2)]
    edges: list[Edge] = []
    try:
        edges.append(await a_process(journals[0]))
        names = [f"account-{number}" for number in range(8)]
        for name in names:
            await edges[0].open(name, owner=name)
        edges.append(await a_process(journals[1]))
        for edge in edges:
            edge.clock.now = MIDNIGHT
        if together:
            await asyncio.gather(*(edge.engine.sweep() for edge in edges), return_exceptions=True)
        else:
            for edge in edges:
                await edge.engine.sweep()
        for name in names:
            rows = await journals[0].list_rows(account_id=name, limit=100)
            resets = [CODEC.decode_event(row.payload) for row in rows if row.kind == "FundsReset"]
            assert [one.slot for one in resets if isinstance(one, e.FundsReset)] == [MIDNIGHT]
            account = edges[1].engine.account(name)
            assert (account.reset_count, account.balances) == (1, {"USDT": Decimal(10000)})
            overtaken = edges[0].engine.shards[edges[0].engine.home[name]]
            assert overtaken.halted is not None
    finally:
        for edge in reversed(edges):
            await edge.engine.stop()
        for journal in journals:
            await journal.close()
