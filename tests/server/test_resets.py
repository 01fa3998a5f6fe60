"""Automatic resets on the running engine: clocks that change, downtime, two processes on one journal, open work."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Side
from debt_mgmt.core.resets import ResetInterval, ResetSchedule
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.memory_journal import Fault, MemoryJournal
from debt_mgmt.v1 import account_service_pb2
from debt_mgmt.v1 import fund_service_pb2 as wire
from tests.server.rpc.edge import CALL, RULES, Edge
from tests.support.service import Clock, service

D = Decimal
DAILY = ResetInterval.DAILY
CODEC: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def started(journal: MemoryJournal, at: datetime, schedule: ResetSchedule | None = None) -> Edge:
    """A process on the journal, which puts its schedule as the service does."""
    edge = Edge(journal, RULES)
    edge.clock.now = at
    await edge.engine.start()
    await edge.furnish()
    if schedule is not None:
        await edge.engine.submit_house(c.SetResetSchedule(schedule), request_id="", actor=SYSTEM)
    return edge


async def resets_in(journal: MemoryJournal, account_id: str = "alice") -> list[datetime]:
    """When the journal says that the account was reset by the schedule."""
    rows = await journal.list_rows(account_id=account_id, limit=1000)
    events = [CODEC.decode_event(row.payload) for row in rows if row.kind == "FundsReset"]
    return [event.at for event in events if isinstance(event, e.FundsReset) and event.slot is not None]


@pytest.mark.parametrize(
    ("zone", "change", "slots"),
    [
        ("Europe/Berlin", "2026-03-29", ["2026-03-28 01:30", "2026-03-29 01:30", "2026-03-30 00:30"]),
        ("Europe/Berlin", "2026-10-25", ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]),
        ("America/New_York", "2026-03-08", ["2026-03-07 07:30", "2026-03-08 07:30", "2026-03-09 06:30"]),
        ("America/New_York", "2026-11-01", ["2026-10-31 06:30", "2026-11-01 07:30", "2026-11-02 07:30"]),
        ("Asia/Kolkata", "2026-03-29", ["2026-03-27 21:00", "2026-03-28 21:00", "2026-03-29 21:00"]),
    ],
)
async def test_over_the_change_of_the_clocks_each_day_resets_once(zone: str, change: str, slots: list[str]) -> None:
    """The service lives through three days, and looks at the clock every ten minutes."""
    journal = MemoryJournal()
    start = utc(slots[0]) - timedelta(hours=2)
    edge = await started(journal, start, ResetSchedule(DAILY, time_of_day="02:30", zone=zone))
    try:
        await edge.open()
        while edge.clock.now < utc(slots[-1]) + timedelta(hours=3):
            edge.clock.advance(minutes=10)
            await edge.engine.sweep()
        assert await resets_in(journal) == [utc(slot) for slot in slots]
        assert edge.engine.account("alice").reset_count == 3
    finally:
        await edge.engine.stop()


@pytest.mark.parametrize("days_down", [1, 5])
async def test_what_was_missed_while_down_is_made_up_for_once(days_down: int) -> None:
    journal = MemoryJournal()
    first = await started(journal, utc("2026-03-02 09:00"), ResetSchedule(DAILY))
    await first.long_bitcoin()
    await first.open("idle", "500")
    await first.engine.stop()

    up_again = utc("2026-03-02 09:00") + timedelta(days=days_down)
    second = await started(journal, up_again, ResetSchedule(DAILY))
    try:
        for _ in range(3):
            await second.engine.sweep()
            second.clock.advance(seconds=1)
        account = second.engine.account("alice")
        assert (account.reset_count, account.balances, account.positions) == (1, {"USDT": D(10000)}, {})
        assert account.last_reset_slot == up_again.replace(hour=0)
        for name in ("alice", "idle"):
            assert await resets_in(journal, name) == [up_again]
        shown = (await second.funds.GetFunds(wire.GetFundsRequest(account_id="alice"), CALL)).funds
        assert shown.reset_count == 1
        assert shown.last_reset_time.ToDatetime(UTC) == up_again
        assert shown.next_reset_time.ToDatetime(UTC) == up_again.replace(hour=0) + timedelta(days=1)
    finally:
        await second.engine.stop()


async def test_a_restart_at_the_slot_does_not_reset_again() -> None:
    journal = MemoryJournal()
    schedule = ResetSchedule(DAILY)
    edge = await started(journal, utc("2026-03-02 23:00"), schedule)
    await edge.open()
    edge.clock.now = utc("2026-03-03 00:00")
    await edge.engine.sweep()
    await edge.engine.stop()
    for _ in range(2):
        edge = await started(journal, utc("2026-03-03 00:00:05"), schedule)
        await edge.engine.sweep()
        await edge.engine.stop()
    assert await resets_in(journal) == [utc("2026-03-03 00:00")]


async def test_a_clock_that_is_set_back_does_not_reset_again() -> None:
    journal = MemoryJournal()
    edge = await started(journal, utc("2026-03-02 23:00"), ResetSchedule(DAILY))
    try:
        await edge.open()
        for moment in ("2026-03-03 00:00", "2026-03-02 23:59", "2026-03-03 00:00", "2026-03-03 00:01"):
            edge.clock.now = utc(moment)
            await edge.engine.sweep()
        assert await resets_in(journal) == [utc("2026-03-03 00:00")]
    finally:
        await edge.engine.stop()


@pytest.mark.parametrize("older_first", [True, False])
async def test_of_two_processes_on_one_journal_one_resets(older_first: bool) -> None:
    """The loser's append fails; what it then holds is what the winner wrote."""
    journal = MemoryJournal()
    schedule = ResetSchedule(DAILY)
    older = await started(journal, utc("2026-03-02 23:00"), schedule)
    await older.long_bitcoin()
    await older.open("idle", "500")
    newer = await started(journal, utc("2026-03-02 23:30"), schedule)
    try:
        for edge in (older, newer):
            edge.clock.now = utc("2026-03-03 00:00")
        for edge in (older, newer) if older_first else (newer, older):
            await edge.engine.sweep()
        await older.engine.sweep()
        for name in ("alice", "idle"):
            assert await resets_in(journal, name) == [utc("2026-03-03 00:00")]
            assert newer.engine.account(name).reset_count == 1
        shard = older.engine.shards[older.engine.home["alice"]]
        assert shard.halted is not None
        if not older_first:
            assert older.engine.account("alice") == newer.engine.account("alice")
    finally:
        await newer.engine.stop()
        await older.engine.stop()


async def test_an_append_of_unknown_outcome_resets_once() -> None:
    """The journal took the reset and the answer was lost, or it did not: the next look finds out."""
    for fault in ("BEFORE", "AFTER", "LATE"):
        journal = MemoryJournal(seed=7)
        edge = await started(journal, utc("2026-03-02 23:00"), ResetSchedule(DAILY))
        try:
            await edge.open()
            edge.clock.now = utc("2026-03-03 00:00")
            journal.fail_next(Fault[fault])
            await edge.engine.sweep()
            await edge.engine.sweep()
            assert await resets_in(journal) == [utc("2026-03-03 00:00")], fault
        finally:
            await edge.engine.stop()


async def test_a_reset_with_open_orders_and_a_running_liquidation_leaves_nothing_of_them() -> None:
    """The broker is slow: the plan's order is under way when the slot comes, and its fill is for nobody."""
    clock = Clock(utc("2026-03-02 23:59"))
    async with service(clock=clock, sandbox__reset="daily") as desk:
        await desk.open("alice", "1000", currency="USDT")
        await desk.lever("alice", "BTCUSDT", "5")
        await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "3000"})
        await desk.fill("alice", 1, "0.07", "BTCUSDT", "50000")
        assert (await desk.reserve("alice", 1, "0.01", "ETHUSDT", price="2900")).accepted
        assert (await desk.reserve("alice", 2, "0.01", "BTCUSDT", price="60000", reduce_only=True)).accepted
        engine = desk.engine
        broker = engine.reductions.broker_of(engine.account("alice"))
        placed: list[str] = []
        place = broker.place

        async def place_at_midnight(order):  # type: ignore[no-untyped-def]
            placed.append(order.client_order_id)
            fill = await place(order)
            clock.now = utc("2026-03-03 00:00")
            await engine.time.reset(clock.now)
            return fill

        broker.place = place_at_midnight  # type: ignore[method-assign]
        await desk.mark({"BTCUSDT": "45500"}, settle=True)
        account = engine.account("alice")
        assert placed, "the liquidation did not reach the broker"
        assert (account.reset_count, account.balances) == (1, {"USDT": D(1000)})
        assert not account.positions
        assert not account.reservations
        assert account.reduction is None
        assert account.level == "NORMAL"
        assert account.past_reductions[-1].ended_at == clock.now
        assert not any(shard.counters.listener_errors for shard in engine.shards.values())
        status = await desk.status("alice")
        assert (status.equity, status.margin_used) == ("1000", "0")
        answer = await desk.fill("alice", Side.BUY.sign, "0.01", "BTCUSDT", "45500")
        assert answer.accepted


async def test_capital_and_its_currency_come_from_the_settings() -> None:
    clock = Clock(utc("2026-03-02 12:00"))
    flags: dict[str, Any] = {
        "sandbox__starting_capital": "250000.5",
        "sandbox__currency": "USDT",
        "sandbox__reset": "weekly",
        "sandbox__reset_weekday": "friday",
        "sandbox__reset_time": "17:00",
        "sandbox__reset_zone": "America/New_York",
    }
    async with service(clock=clock, **flags) as desk:
        request = account_service_pb2.CreateAccountRequest(request_id="one", account_id="alice", owner="desk")
        await desk.accounts.CreateAccount(request)
        shown = (await desk.funds.GetFunds(wire.GetFundsRequest(account_id="alice"))).funds
        assert (shown.currency, shown.available_balance) == ("USDT", "250000.5")
        assert (shown.starting_capital.asset, shown.starting_capital.amount) == ("USDT", "250000.5")
        assert shown.next_reset_time.ToDatetime(UTC) == utc("2026-03-06 22:00")
        assert not shown.HasField("last_reset_time")
        await desk.deposit("alice", "USDT", "7")
        clock.now = utc("2026-03-06 22:00")
        await desk.engine.sweep()
        shown = (await desk.funds.GetFunds(wire.GetFundsRequest(account_id="alice"))).funds
        assert (shown.available_balance, shown.reset_count) == ("250000.5", 1)
        assert shown.last_reset_time.ToDatetime(UTC) == utc("2026-03-06 22:00")
        # A week later the clocks have changed: 17:00 there is an hour earlier here.
        assert shown.next_reset_time.ToDatetime(UTC) == utc("2026-03-13 21:00")


async def test_many_accounts_are_reset_a_part_at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that expiries and stale prices do not wait for them."""
    monkeypatch.setattr("debt_mgmt.server.passing_time.RESETS_A_LOOK", 3)
    edge = await started(MemoryJournal(), utc("2026-03-02 23:00"), ResetSchedule(DAILY))
    try:
        names = [f"account-{number}" for number in range(8)]
        for name in names:
            await edge.open(name)
        edge.clock.now = utc("2026-03-03 00:00")
        counts = []
        for _ in range(4):
            await edge.engine.sweep()
            counts.append(sum(edge.engine.account(name).reset_count for name in names))
        assert counts == [3, 6, 8, 8]
    finally:
        await edge.engine.stop()
