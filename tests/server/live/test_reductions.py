"""Reductions of live accounts: cancels and reduce-only orders leave once, in order, whatever happens to the service."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from debt_mgmt.core.account import Account, AlertKind, Side
from debt_mgmt.core.venue import VenueOrder
from debt_mgmt.server.brokers.broker import BrokerFault, Rejected, RejectionReason
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import account_service_pb2, margin_service_pb2, rejections_pb2, types_pb2
from tests.server.live.desk import BTC, D, is_fresh, kinds, live_service, open_live, paced, until
from tests.support.live_broker import TIMED_OUT, UNREACHABLE, FakeVenue
from tests.support.service import Desk

FALLEN = "43000"
"""There 8,600 of margin stand against 9,000 of equity: 95.6 %."""


@pytest.fixture
def levered(venue: FakeVenue) -> FakeVenue:
    """One bitcoin bought at 50,000, five times levered, on 16,000: 62.5 % of the equity is margin."""
    venue.leverage[BTC] = D(5)
    venue.balances["USDT"] = D(16_000)
    venue.hold("BTCUSDT", "1", "50000")
    return venue


def orders(venue: FakeVenue) -> list[str]:
    """What was sent, in order."""
    return [call for call in venue.calls if call.split()[0] in ("place", "cancel")]


def is_over(desk: Desk) -> Callable[[], bool]:
    def over() -> bool:
        account = desk.engine.account("alice")
        return account.reduction is None and bool(account.past_reductions) and account.level != "UNKNOWN"

    return over


def synced_after(desk: Desk) -> Any:
    """Waits for a read that began now."""
    return desk.accounts.SyncAccount(
        account_service_pb2.SyncAccountRequest(request_id=desk.request_id(), account_id="alice")
    )


async def finished(desk: Desk, venue: FakeVenue) -> Account:
    """The account once its reduction is over, and what both sides have is the same."""
    await until(is_over(desk), f"it does not end: {venue.calls[-12:]}")
    await synced_after(desk)
    account = desk.engine.account("alice")
    assert account.positions[BTC].quantity == venue.quantity("BTCUSDT")
    assert account.balances["USDT"] == venue.balances["USDT"]
    return account


async def test_a_fall_sends_one_reduce_only_order_and_the_account_is_as_the_venue_has_it(levered: FakeVenue) -> None:
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.mark("BTCUSDT", FALLEN)
        account = await finished(desk, levered)
        (plan,) = account.past_reductions
        (step,) = plan.steps
        assert list(levered.executions.values()) == [1]
        assert step.filled_quantity == D(1) - levered.quantity("BTCUSDT") > 0
        assert plan.utilization_after is not None and plan.utilization_after <= D("0.70")
        assert kinds(account).count(AlertKind.LIQUIDATION_STARTED) == 1
        assert AlertKind.POSITION_CHANGED not in kinds(account), "our own fill is no surprise"


async def test_orders_that_add_risk_are_cancelled_before_positions_are_reduced(levered: FakeVenue) -> None:
    levered.orders["order-1"] = VenueOrder("order-1", BTC, Side.BUY, D("0.01"), price=D(30_000))
    async with live_service(levered) as desk:
        await open_live(desk)
        assert len(desk.engine.account("alice").reservations) == 1
        levered.mark("BTCUSDT", FALLEN)
        await finished(desk, levered)
        sent = orders(levered)
        assert sent[0] == f"cancel {BTC} order-1" and sent[1].startswith("place SELL")
        assert len(sent) == 2 and not levered.orders
        assert not desk.engine.account("alice").cancels


@pytest.mark.parametrize("fault", [TIMED_OUT, UNREACHABLE, Rejected("it is filled already", code="110001")])
async def test_a_cancel_that_fails_does_not_keep_positions_from_being_reduced(
    levered: FakeVenue, fault: BrokerFault
) -> None:
    levered.orders["order-1"] = VenueOrder("order-1", BTC, Side.BUY, D("0.01"), price=D(30_000))
    levered.fail("cancel", fault, 2)
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.mark("BTCUSDT", FALLEN)
        await until(is_over(desk))
        assert list(levered.executions.values()) == [1]


@pytest.mark.parametrize("fault", [TIMED_OUT, UNREACHABLE])
async def test_a_cancel_that_never_works_does_not_either(levered: FakeVenue, fault: BrokerFault) -> None:
    levered.orders["order-1"] = VenueOrder("order-1", BTC, Side.BUY, D("0.01"), price=D(30_000))
    levered.fail("cancel", fault)
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.mark("BTCUSDT", FALLEN)
        await until(is_over(desk))
        assert list(levered.executions.values()) == [1] and "order-1" in levered.orders
        assert AlertKind.VENUE_REFUSED in kinds(desk.engine.account("alice"))


async def test_dry_run_plans_once_says_so_and_sends_nothing(levered: FakeVenue) -> None:
    levered.orders["order-1"] = VenueOrder("order-1", BTC, Side.BUY, D("0.01"), price=D(30_000))
    async with live_service(levered) as desk:
        await open_live(desk, dry_run=True)
        levered.mark("BTCUSDT", FALLEN)
        await until(lambda: desk.engine.account("alice").past_reductions)
        await asyncio.sleep(0.4)
        account = desk.engine.account("alice")
        assert len(account.past_reductions) == 1, "the same plan is not made again and again"
        assert {step.note for step in account.past_reductions[0].steps} == {"dry run: nothing was sent"}
        assert orders(levered) == []
        request = margin_service_pb2.ListLiquidationsRequest(account_id="alice")
        (shown,) = (await desk.margin.ListLiquidations(request)).liquidations
        assert shown.dry_run


async def test_leaving_dry_run_is_audited_and_reduces_in_earnest(levered: FakeVenue) -> None:
    async with live_service(levered) as desk:
        await open_live(desk, dry_run=None)
        assert desk.engine.account("alice").dry_run, "a live account begins in dry run"
        levered.mark("BTCUSDT", FALLEN)
        await until(lambda: desk.engine.account("alice").past_reductions)
        assert orders(levered) == []
        request = account_service_pb2.SetDryRunRequest(
            request_id="go", account_id="alice", dry_run=False, reason="tried for a week"
        )
        answer = await desk.accounts.SetDryRun(request)
        assert answer.accepted and not answer.account.dry_run
        await until(lambda: levered.executions)
        await finished(desk, levered)
        again = await desk.accounts.SetDryRun(request)
        assert again.replayed and again.accepted
        other = await desk.accounts.SetDryRun(
            account_service_pb2.SetDryRunRequest(request_id="2", account_id="alice", dry_run=False, reason="again")
        )
        assert [one.reason for one in other.violations] == [rejections_pb2.REFUSAL_REASON_ALREADY_IN_STATE]


async def test_dry_run_stops_a_plan_that_was_made_in_earnest(levered: FakeVenue) -> None:
    levered.fail("place", UNREACHABLE)
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.mark("BTCUSDT", FALLEN)
        await until(lambda: levered.count("place"))
        answer = await desk.accounts.SetDryRun(
            account_service_pb2.SetDryRunRequest(request_id="stop", account_id="alice", dry_run=True)
        )
        assert answer.accepted
        levered.heal()
        await until(lambda: desk.engine.account("alice").past_reductions)
        await asyncio.sleep(0.3)
        assert not levered.executions


@pytest.mark.parametrize(
    ("fault", "executed"),
    [(TIMED_OUT, True), (TIMED_OUT, False), (UNREACHABLE, False)],
    ids=["timed out after", "timed out before", "unreachable"],
)
@pytest.mark.parametrize("tells_fills", [True, False], ids=["", "no trades told"])
async def test_an_order_of_unknown_outcome_is_executed_once(
    levered: FakeVenue, fault: BrokerFault, executed: bool, tells_fills: bool
) -> None:
    levered.tells_fills = tells_fills
    levered.fail("place", fault, 1, after=executed)
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.mark("BTCUSDT", FALLEN)
        account = await finished(desk, levered)
        assert set(levered.executions.values()) == {1}
        assert len(account.past_reductions) == 1 and AlertKind.POSITION_CHANGED not in kinds(account)


async def test_an_order_that_is_there_already_is_looked_up(levered: FakeVenue) -> None:
    """The venue executes late: nobody finds the order, it is sent again, and the venue knows its id."""
    async with live_service(levered) as desk:
        await open_live(desk)
        broker: Any = desk.engine.live.supervisors["alice"].broker
        execute, find = levered.execute, broker.find
        late: list[Any] = []

        async def find_nothing(client_order_id: str, symbol: str) -> Any:
            found = await find(client_order_id, symbol)
            return None if len(late) == 1 and levered.count("find") <= 3 else found

        def executed_late(order: Any) -> Any:
            late.append(order)
            return execute(order)

        levered.execute = executed_late  # type: ignore[method-assign]
        broker.find = find_nothing
        levered.fail("place", TIMED_OUT, 1, after=True)
        levered.mark("BTCUSDT", FALLEN)
        await finished(desk, levered)
        assert levered.count("place") == 2 and set(levered.executions.values()) == {1}


@pytest.mark.parametrize("reason", [RejectionReason.NOTHING_TO_REDUCE, RejectionReason.PRECONDITION])
async def test_a_refused_order_ends_its_step_with_the_venues_words(levered: FakeVenue, reason: RejectionReason) -> None:
    levered.fail("place", Rejected("position is flat", code="110017", reason=reason), 1)
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.mark("BTCUSDT", FALLEN)
        await until(lambda: desk.engine.account("alice").past_reductions)
        assert "position is flat" in desk.engine.account("alice").past_reductions[0].steps[0].note


async def test_no_order_leaves_while_the_account_is_lost(levered: FakeVenue) -> None:
    async with live_service(levered) as desk:
        await open_live(desk)
        levered.fail("state", UNREACHABLE)
        levered.fail("connect", UNREACHABLE)
        await until(lambda: desk.engine.account("alice").level == "UNKNOWN")
        levered.mark("BTCUSDT", FALLEN)
        await asyncio.sleep(0.4)
        assert orders(levered) == [] and desk.engine.account("alice").reduction is None
        levered.heal()
        await finished(desk, levered)
        assert list(levered.executions.values()) == [1]


@pytest.mark.parametrize(
    ("call", "executed"),
    [("cancel", False), ("cancel", True), ("place", False), ("place", True), ("find", False)],
    ids=["before the cancel", "after the cancel", "before the order", "after the order", "at the lookup"],
)
@pytest.mark.parametrize("tells_fills", [True, False], ids=["", "no trades told"])
async def test_a_kill_at_any_step_leads_to_the_same_end_and_to_no_second_order(
    levered: FakeVenue, call: str, executed: bool, tells_fills: bool
) -> None:
    journal = MemoryJournal()
    levered.tells_fills = tells_fills
    levered.orders["order-1"] = VenueOrder("order-1", BTC, Side.BUY, D("0.01"), price=D(30_000))
    async with live_service(levered, journal=journal, pace=paced(call_seconds=30.0)) as desk:
        await open_live(desk)
        levered.hang(call, after=executed)
        if call == "find":
            levered.fail("place", TIMED_OUT, 1, after=True)
        levered.mark("BTCUSDT", FALLEN)
        await until(lambda: levered.count(call))
        await asyncio.sleep(0.05)
        assert desk.engine.account("alice").reduction is not None or desk.engine.account("alice").cancels
    levered.heal()
    async with live_service(levered, journal=journal) as desk:
        await until(lambda: is_fresh(desk.engine.account("alice")))
        account = await finished(desk, levered)
        assert set(levered.executions.values()) == {1} and len(levered.executions) == 1
        assert levered.count("place") == (2 if call == "place" and not executed else 1), "it is looked up, not sent"
        assert not levered.orders and len(account.past_reductions) == 1
        fills = [one for one in account.past_reductions[0].steps if one.filled_quantity]
        assert len(fills) == 1
        assert AlertKind.POSITION_CHANGED not in kinds(account), "what our order did is no surprise after a restart"


async def test_close_position_leaves_as_a_reduce_only_order(levered: FakeVenue) -> None:
    async with live_service(levered) as desk:
        await open_live(desk)
        answer = await desk.margin.ClosePosition(
            margin_service_pb2.ClosePositionRequest(
                request_id="close", account_id="alice", symbol="BTCUSDT", quantity="0.4", reason="enough"
            )
        )
        assert answer.accepted and answer.done
        (placed,) = orders(levered)
        assert placed.startswith(f"place SELL 0.4 {BTC} ")
        assert levered.quantity("BTCUSDT") == D("0.6")


async def report(desk: Desk, order_id: str) -> Any:
    """An engine tells of a fill, without saying when it was."""
    number = desk.request_id()
    return await desk.margin.RecordFill(
        margin_service_pb2.RecordFillRequest(
            request_id=number,
            account_id="alice",
            symbol="BTCUSDT",
            side=types_pb2.SIDE_BUY,
            quantity="0.2",
            price="50000",
            fill_id=f"fill-{number}",
            order_id=order_id,
            fee="0",
        )
    )


@pytest.mark.parametrize("told_first", [True, False], ids=["before the venue is read", "after it"])
async def test_a_fill_that_an_engine_reports_counts_at_once_and_never_twice(venue: FakeVenue, told_first: bool) -> None:
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue, pace=paced(poll_seconds=60.0)) as desk:
        await open_live(desk)
        venue.hold("BTCUSDT", "0.3", "50000")
        venue.trade(BTC, Side.BUY, D("0.2"), "order-7")
        if not told_first:
            await synced_after(desk)
            assert desk.engine.account("alice").positions[BTC].quantity == D("0.3")
        answer = await report(desk, "order-7")
        assert answer.accepted and answer.position.quantity == "0.3"
        await synced_after(desk)
        account = desk.engine.account("alice")
        assert account.positions[BTC].quantity == D("0.3")
        assert (AlertKind.POSITION_CHANGED in kinds(account)) is not told_first
