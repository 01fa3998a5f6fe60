"""Interest and funding on the running engine: at their time, also what fell due while it was down, and once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Side
from debt_mgmt.core.market import AssetRule
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.memory_journal import Fault, MemoryJournal
from debt_mgmt.server.prices.marks import MarkUpdate
from tests.server.rpc.edge import RULES, Edge

D = Decimal
NINE = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
CODEC = Codec(e.AccountEvent, type(None))  # type: ignore[var-annotated]


async def started(journal: MemoryJournal, at: datetime) -> Edge:
    edge = Edge(journal, RULES)
    edge.clock.now = at
    await edge.engine.start()
    await edge.furnish()
    await house(edge, c.SetBorrowRate("USDT", D("0.0876"), "binance_hourly"))
    await marks(edge)
    return edge


async def house(edge: Edge, command: c.Command) -> None:
    await edge.engine.submit_house(command, request_id="", actor=SYSTEM)


async def marks(edge: Edge, price: str = "50000") -> None:
    await edge.engine.publish([MarkUpdate("BTCUSDT", price, "test")])


async def do(edge: Edge, command: c.Command, account_id: str = "alice") -> list[e.AccountEvent]:
    outcome = await edge.engine.submit(account_id, command, request_id="", actor=SYSTEM)
    assert not any(isinstance(event, e.CommandRefused) for event in outcome.events), outcome.events
    return list(outcome.events)


async def charged(journal: MemoryJournal, account_id: str = "alice") -> list[str]:
    rows = await journal.list_rows(account_id=account_id, limit=1000)
    events = [CODEC.decode_event(row.payload) for row in rows if row.kind == "InterestCharged"]
    return sorted(event.due_at.strftime("%d %H:%M") for event in events if isinstance(event, e.InterestCharged))


async def open_borrower(edge: Edge, account_id: str = "alice") -> None:
    await edge.open(account_id, "100000")
    await do(edge, c.Borrow("USDT", D(1000)), account_id)


async def test_a_loan_is_charged_by_the_sweep_at_every_full_hour() -> None:
    journal = MemoryJournal()
    edge = await started(journal, NINE)
    await open_borrower(edge)
    for _ in range(13):
        edge.clock.advance(minutes=10)
        await marks(edge)
        await edge.engine.sweep()
    assert await charged(journal) == ["02 09:20", "02 10:00", "02 11:00"]
    shown = edge.engine.metrics_snapshot()
    assert (shown.debts, shown.interest_charges) == ({"USDT": 1}, 3)
    await edge.engine.stop()


async def test_what_fell_due_while_the_service_was_down_is_charged_once_at_its_own_time() -> None:
    journal = MemoryJournal()
    edge = await started(journal, NINE)
    await open_borrower(edge)
    await edge.engine.stop()
    again = await started(journal, NINE + timedelta(hours=30))
    await again.engine.sweep()
    await again.engine.sweep()
    await again.engine.stop()
    third = await started(journal, NINE + timedelta(hours=30, minutes=1))
    await third.engine.sweep()
    times = await charged(journal)
    assert len(times) == len(set(times)) == 1 + 30
    assert times[-1] == "03 15:00"
    debt = third.engine.account("alice").debts["USDT"]
    assert debt.accrued_interest == D("0.31")
    await third.engine.stop()


async def test_the_rate_of_the_past_holds_for_the_past() -> None:
    journal = MemoryJournal()
    edge = await started(journal, NINE)
    await open_borrower(edge)
    await edge.engine.stop()
    again = Edge(journal, RULES)
    again.clock.now = NINE + timedelta(hours=2)
    await again.engine.start()
    await house(again, c.SetBorrowRate("USDT", D("8.76"), "binance_hourly"))
    await marks(again)
    again.clock.advance(hours=1)
    await marks(again)
    await again.engine.sweep()
    assert again.engine.account("alice").debts["USDT"].accrued_interest == D("0.03") + 1
    await again.engine.stop()


async def test_a_journal_that_fails_for_a_while_loses_no_charge() -> None:
    journal = MemoryJournal()
    edge = await started(journal, NINE)
    await open_borrower(edge)
    edge.clock.advance(hours=2)
    await marks(edge)
    journal.fail_next(Fault.AFTER, Fault.BEFORE)
    await edge.engine.sweep()
    await edge.engine.sweep()
    assert await charged(journal) == ["02 09:20", "02 10:00", "02 11:00"]
    await edge.engine.stop()


async def test_many_months_of_downtime_are_made_up_for() -> None:
    journal = MemoryJournal()
    edge = await started(journal, NINE)
    await open_borrower(edge)
    await edge.engine.stop()
    again = await started(journal, NINE + timedelta(days=60))
    await again.engine.sweep()
    assert again.engine.account("alice").debts["USDT"].accrued_interest == D("0.01") * (1 + 24 * 60)
    await again.engine.stop()


async def test_what_an_account_does_meanwhile_does_not_pile_up_charges() -> None:
    edge = await started(MemoryJournal(), NINE)
    await open_borrower(edge)
    for number in range(20):
        await do(edge, c.Transfer("USDT", D(number + 1)))
    assert len(edge.engine.settling.charges) == 1
    edge.clock.advance(hours=1)
    await marks(edge)
    await edge.engine.sweep()
    assert len(edge.engine.settling.charges) == 1
    await edge.engine.stop()


# Funding


async def hold(edge: Edge, account_id: str, quantity: str, side: Side = Side.BUY) -> None:
    await edge.open(account_id, "100000")
    await do(edge, c.RecordFill(f"{account_id}-{quantity}", "BTCUSDT", side, D(quantity), D(50_000)), account_id)


async def test_a_published_rate_is_settled_with_everybody_who_held_then() -> None:
    edge = await started(MemoryJournal(), NINE)
    await hold(edge, "alice", "1")
    await hold(edge, "bob", "2", Side.SELL)
    edge.clock.advance(hours=7)
    await marks(edge)
    await hold(edge, "late", "1")
    at = datetime(2026, 3, 2, 16, tzinfo=UTC)
    await house(edge, c.PublishFundingRate("BTCUSDT", D("0.0001"), D(50_000), at))
    await edge.engine.sweep()
    await edge.engine.sweep()
    received = {one: edge.engine.account(one).funding_received.get("USDT", D(0)) for one in ("alice", "bob", "late")}
    assert received == {"alice": -5, "bob": 10, "late": 0}
    await edge.engine.stop()


async def test_rates_published_before_a_stop_are_settled_after_it_in_order_and_once() -> None:
    journal = MemoryJournal()
    edge = await started(journal, NINE)
    await hold(edge, "alice", "1")
    for hours in (8, 16, 24):
        edge.clock.now = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(hours=hours + 8)
        at = edge.clock.now
        await house(edge, c.PublishFundingRate("BTCUSDT", D("0.0001"), D(50_000), at))
    await edge.engine.stop()
    again = await started(journal, NINE + timedelta(days=2))
    await again.engine.sweep()
    await again.engine.sweep()
    assert again.engine.account("alice").funding_received["USDT"] == -15
    assert again.engine.account("alice").balances["USDT"] == 100_000 - 15
    await again.engine.stop()


# Conversion


async def test_an_overdrawn_asset_is_bought_back_once_it_is_worth_more_than_the_house_leaves() -> None:
    journal = MemoryJournal()
    edge = Edge(journal, msgspec.structs.replace(RULES, conversion_threshold=D(1_000)))
    edge.clock.now = NINE
    await edge.engine.start()
    await edge.furnish()
    await house(edge, c.SetAssetRule(AssetRule("BTC", priced_by="BTCUSDT")))
    await marks(edge)
    await edge.open("alice", "100000")
    fill = c.RecordFill("one", "BTCUSDT", Side.BUY, D("0.1"), D(50_000), fee=D("0.019"), fee_asset="BTC")
    await do(edge, fill)
    await edge.engine.sweep()
    assert edge.engine.account("alice").balances["BTC"] == D("-0.019"), "worth 950"
    await marks(edge, "54000")
    await edge.engine.sweep()
    account = edge.engine.account("alice")
    assert account.balances["BTC"] == 0
    assert account.balances["USDT"] == 100_000 - D("1052.307692307693"), "0.019 × 54,000 ÷ 0.975, rounded up"
    await edge.engine.stop()
