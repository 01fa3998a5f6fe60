"""The history's table: one behaviour in memory and in PostgreSQL, and a writer that the journal can make good."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from debt_mgmt.core.account import Environment
from debt_mgmt.core.commands import CreateAccount, RecordEquity
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.profit import Causes
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.server import history as following
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.history import FundHistory, HistoryRow, HistoryStore, Sum
from debt_mgmt.server.history_store import MemoryHistory, PostgresHistory
from debt_mgmt.server.journal.journal import Journal, JournalUnavailable
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.postgres import EmbeddedPostgres
from debt_mgmt.server.prices.marks import MarkGuard
from debt_mgmt.server.reductions import Reductions
from debt_mgmt.server.watch import WatchHub

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
D = Decimal

EXACT = D("12345678901234567890.123456789012345678")
"""More digits than a float has."""


def row(number: int, account_id: str = "alice", equity: Decimal | None = EXACT) -> HistoryRow:
    """The interval that ends `number` hours after START."""
    return HistoryRow(
        account_id=account_id,
        shard=1,
        position=number * 10 + (1 if account_id == "bob" else 0),
        started_at=START + (number - 1) * HOUR,
        ended_at=START + number * HOUR,
        equity_before=D(number),
        equity=equity,
        wallet_balance=D("-0.5"),
        unrealized_pnl=None,
        causes=Causes(D("0.1"), D("-0.2"), D("-0.000000000000000001"), D(100), D(-3), D(7), number == 3),
    )


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, database: EmbeddedPostgres, schema: str) -> AsyncIterator[HistoryStore]:
    opened: HistoryStore = MemoryHistory()
    if request.param == "postgres":
        journal = await PostgresJournal.open(database.dsn, schema=schema)
        await journal.close()
        opened = await PostgresHistory.open(database.dsn, schema=schema)
    yield opened
    await opened.close()


async def test_rows_are_kept_digit_by_digit_and_read_newest_first(store: HistoryStore) -> None:
    rows = [row(1), row(2, equity=None), row(2, "bob"), row(4)]
    await store.put(rows)
    assert await store.newest("alice", START, START + 9 * HOUR, 10) == [rows[3], rows[1], rows[0]]
    assert await store.newest("alice", START + HOUR, START + 4 * HOUR, 1) == [rows[3]]
    assert await store.newest("alice", START + HOUR, START + 2 * HOUR, 10) == [rows[1]]
    assert await store.newest("carol", START, START + 9 * HOUR, 10) == []


async def test_a_row_that_is_there_stays_as_it_is(store: HistoryStore) -> None:
    await store.put([row(1)])
    await store.put([row(1, equity=D(5)), row(2)])
    await store.put([])
    assert [one.equity for one in await store.newest("alice", START, START + 9 * HOUR, 10)] == [EXACT, EXACT]


async def test_several_intervals_make_one(store: HistoryStore) -> None:
    await store.put([row(1), row(2), row(3, equity=D(8)), row(5, "bob")])
    whole = await store.sum("alice", START, START + 9 * HOUR)
    causes = Causes(D("0.3"), D("-0.6"), D("-0.000000000000000003"), D(300), D(-9), D(21), True)
    assert whole == Sum(D(1), D(8), causes)
    assert await store.sum("alice", START, START + 2 * HOUR) == Sum(
        D(1), EXACT, Causes(D("0.2"), D("-0.4"), D("-0.000000000000000002"), D(200), D(-6), D(14))
    )
    assert await store.sum("alice", START + 3 * HOUR, START + 9 * HOUR) is None
    assert await store.sum("carol", START, START + 9 * HOUR) is None


async def test_the_ends_are_those_of_the_first_and_the_last_interval_even_where_they_are_not_known(
    store: HistoryStore,
) -> None:
    await store.put([row(1), row(2, equity=None)])
    whole = await store.sum("alice", START, START + 9 * HOUR)
    assert whole is not None and (whole.equity_before, whole.equity) == (D(1), None)


async def test_how_far_each_log_was_followed_is_known_and_forgotten(store: HistoryStore) -> None:
    assert await store.places() == {}
    await store.put([row(2), row(3, "bob"), row(1)])
    assert await store.places() == {1: 31}
    await store.clear()
    assert await store.places() == {}
    assert await store.newest("alice", START, START + 9 * HOUR, 10) == []


# following the journal


class Flaky(MemoryHistory):
    """A store that does not answer for a while."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failures = 0
        self.failure = failure

    async def put(self, rows: Sequence[HistoryRow]) -> None:
        if self.failures:
            self.failures -= 1
            raise self.failure
        await super().put(rows)


class Hours:
    """An engine whose accounts' equity is recorded hour by hour."""

    def __init__(self, journal: Journal, store: HistoryStore) -> None:
        self.now = START
        self.engine = Engine(
            journal,
            RiskSettings(),
            clock=lambda: self.now,
            guard=MarkGuard(D("0.5"), timedelta(seconds=30)),
            reductions=Reductions(lambda account: pytest.fail("nothing is reduced here")),
            hub=WatchHub(),
            shards=2,
            history=FundHistory(store),
        )

    async def open(self, *account_ids: str) -> None:
        for name in account_ids:
            command = CreateAccount(name, name, "paper", Environment.SANDBOX, "USDT")
            await self.engine.submit(name, command, request_id=f"open {name}", actor=SYSTEM, owner=name)

    async def record(self, *account_ids: str) -> None:
        self.now += HOUR
        for name in account_ids:
            await self.engine.submit(name, RecordEquity(self.now), request_id="", actor=SYSTEM)


NAMES = ("ann", "ben", "cat", "dan")


async def rows_of(store: HistoryStore) -> list[list[HistoryRow]]:
    return [await store.newest(name, START, START + 99 * HOUR, 100) for name in NAMES]


async def test_what_was_not_written_is_read_from_the_journal_at_the_next_start(store: HistoryStore) -> None:
    journal = MemoryJournal()
    first = Hours(journal, MemoryHistory())
    await first.engine.start()
    await first.open(*NAMES)
    await first.record(*NAMES)
    await first.engine.history.settled()
    await store.put([one for rows in await rows_of(first.engine.history.store) for one in rows])
    await first.engine.history.stop()  # from here on nothing is written: the service dies later
    for _ in range(3):
        await first.record(*NAMES)
    await first.engine.stop()

    second = Hours(journal, store)
    await second.engine.start()
    await second.engine.history.settled()
    found = await rows_of(store)
    assert [len(rows) for rows in found] == [4, 4, 4, 4]
    second.engine.history.rebuild()
    await second.engine.history.settled()
    assert await rows_of(store) == found
    await second.engine.stop()


@pytest.mark.parametrize("failure", [JournalUnavailable("the test pulled the plug"), ValueError("a bug")], ids=str)
async def test_a_store_that_fails_delays_nothing_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(following, "SETTLED_SECONDS", 0.05)
    store = Flaky(failure)
    hours = Hours(MemoryJournal(), store)
    await hours.engine.start()
    await hours.open(*NAMES)
    await hours.engine.history.settled()
    store.failures = 10**9
    for _ in range(3):
        await hours.record(*NAMES)
    with pytest.raises(Fault) as raised:
        await hours.engine.history.settled()
    assert raised.value.reason is FaultReason.JOURNAL_UNAVAILABLE
    store.failures = 0
    monkeypatch.setattr(following, "SETTLED_SECONDS", 10.0)
    await hours.engine.history.settled()
    assert [len(rows) for rows in await rows_of(store)] == [3, 3, 3, 3]
    await hours.engine.stop()


async def test_more_than_may_wait_is_read_from_the_journal_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PENDING_MOST", 3)
    hours = Hours(MemoryJournal(), MemoryHistory())
    await hours.engine.start()
    await hours.open(*NAMES)
    for _ in range(5):
        hours.now += HOUR
        await asyncio.gather(
            *(hours.engine.submit(name, RecordEquity(hours.now), request_id="", actor=SYSTEM) for name in NAMES)
        )
    await hours.engine.history.settled()
    assert [len(rows) for rows in await rows_of(hours.engine.history.store)] == [5, 5, 5, 5]
    await hours.engine.stop()


class Slow(MemoryHistory):
    """A store that takes its time for each row."""

    async def put(self, rows: Sequence[HistoryRow]) -> None:
        await asyncio.sleep(0.005)
        await super().put(rows)


async def test_a_reader_waits_for_what_came_before_it_and_not_for_what_comes_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "ROWS_TOGETHER", 4)
    hours = Hours(MemoryJournal(), Slow())
    await hours.engine.start()
    await hours.open("ann")
    await hours.record("ann")
    more = True

    async def go_on() -> None:
        while more:
            await hours.record("ann")
            await asyncio.sleep(0.002)

    going = asyncio.create_task(go_on())
    for _ in range(3):
        noted = hours.engine.history.noted
        await hours.engine.history.settled()
        found = await hours.engine.history.store.newest("ann", START, START + 10**4 * HOUR, 10**5)
        assert len(found) >= noted > 0
        await asyncio.sleep(0.02)
    more = False
    await going
    await hours.engine.stop()


async def test_an_interval_is_recorded_once() -> None:
    hours = Hours(MemoryJournal(), MemoryHistory())
    await hours.engine.start()
    await hours.open("ann")
    await hours.record("ann")
    again = await hours.engine.submit("ann", RecordEquity(hours.now), request_id="", actor=SYSTEM)
    earlier = await hours.engine.submit("ann", RecordEquity(START), request_id="", actor=SYSTEM)
    assert (again.events, earlier.events) == ((), ())
    await hours.engine.stop()
