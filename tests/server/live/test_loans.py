"""Loans of live accounts: asked of the venue once, in force when it says so, and mirrored when they were made there."""

import asyncio
from typing import Any

import grpc
import pytest

from debt_mgmt.core.account import AlertKind
from debt_mgmt.core.venue import LoanKind
from debt_mgmt.server.brokers.broker import Denied
from debt_mgmt.server.brokers.profiles import PROFILES, Feature
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import account_service_pb2, debt_service_pb2, fund_service_pb2, rejections_pb2, types_pb2
from debt_mgmt.v1 import leverage_service_pb2 as wire
from tests.server.live.desk import D, kinds, live_service, open_live, paced, until
from tests.support.live_broker import TIMED_OUT, UNREACHABLE, FakeVenue
from tests.support.service import Desk

CONFIRMED, REQUESTED, REFUSED = (
    wire.LEVERAGE_STATE_CONFIRMED,
    wire.LEVERAGE_STATE_REQUESTED,
    wire.LEVERAGE_STATE_REFUSED,
)


async def borrow(desk: Desk, amount: str = "5000", request_id: str = "", asset: str = "USDT", **more: Any) -> Any:
    request = debt_service_pb2.BorrowRequest(
        request_id=request_id or desk.request_id(), account_id="alice", asset=asset, amount=amount
    )
    return await desk.debt.Borrow(request, **more)


async def repay(desk: Desk, amount: str | None = None, request_id: str = "", **more: Any) -> Any:
    request = debt_service_pb2.RepayRequest(
        request_id=request_id or desk.request_id(), account_id="alice", asset="USDT", amount=amount
    )
    return await desk.debt.Repay(request, **more)


async def debts(desk: Desk) -> list[Any]:
    return list((await desk.debt.ListDebts(debt_service_pb2.ListDebtsRequest(account_id="alice"))).debts)


async def summary(desk: Desk) -> Any:
    return (await desk.debt.GetDebtSummary(debt_service_pb2.GetDebtSummaryRequest(account_id="alice"))).summary


def margin_venue() -> FakeVenue:
    """A venue that lends in a wallet apart."""
    made = FakeVenue("binance")
    made.mark("BTCUSDT", "50000")
    return made


async def synced(desk: Desk, request_id: str = "") -> Any:
    request = account_service_pb2.SyncAccountRequest(request_id=request_id or desk.request_id(), account_id="alice")
    return await desk.accounts.SyncAccount(request)


async def test_a_live_account_borrows_and_repays_at_its_venue(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        lent = await borrow(desk)
        assert lent.accepted and lent.venue_request.state == CONFIRMED
        assert (lent.debt.principal, lent.debt.lender) == ("5000", debt_service_pb2.LENDER_BROKER)
        assert not lent.debt.separate_wallet and D(lent.largest_amount) > 5000
        assert (lent.before.equity, lent.after.equity) == ("10000", "10000")
        assert venue.debts["USDT"] == (D(5000), D(0)) and venue.balances["USDT"] == 15_000
        paid = await repay(desk, "2000")
        assert (paid.venue_request.state, paid.interest_paid, paid.principal_paid) == (CONFIRMED, "0", "2000")
        assert paid.debt.principal == "3000"
        whole = await repay(desk)
        assert whole.principal_paid == "3000" and not whole.HasField("debt")
        await synced(desk)
        assert await debts(desk) == [] and desk.engine.account("alice").balances == {"USDT": D(10_000)}
        assert (venue.count("borrow"), venue.count("repay")) == (1, 2)


async def test_a_refusal_of_the_venue_is_told_in_its_words_and_again_when_asked_again(venue: FakeVenue) -> None:
    venue.lends_most = D(100)
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await borrow(desk, "500", "too-much")
        assert answer.accepted, "our rules had nothing against it"
        said = answer.venue_request
        assert (said.state, said.refusal_code) == (REFUSED, "3400032")
        assert said.refusal == "the borrow amount exceeds the limit" and not answer.HasField("debt")
        again = await borrow(desk, "500", "too-much")
        assert again.replayed and again.venue_request == said
        assert venue.count("borrow") == 1
        assert AlertKind.VENUE_REFUSED in kinds(desk.engine.account("alice"))


async def test_a_key_that_may_not_borrow_is_a_refusal(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("borrow", Denied("the key may not borrow", code="10005"))
        answer = await borrow(desk)
        assert (answer.venue_request.state, answer.venue_request.refusal_code) == (REFUSED, "10005")


async def test_our_rules_and_dry_run_come_first_and_nothing_is_sent(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk, dry_run=True)
        answer = await borrow(desk)
        assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_DRY_RUN]
        too_much = await borrow(desk, "1000000")
        assert rejections_pb2.REFUSAL_REASON_INSUFFICIENT_MARGIN in [one.reason for one in too_much.violations]
        assert not too_much.HasField("venue_request")
        await asyncio.sleep(0.1)
        assert venue.count("borrow") == 0


async def test_a_repayment_passes_while_trading_is_halted_and_the_venue_is_out_of_sight(venue: FakeVenue) -> None:
    venue.debts["USDT"] = (D(400), D(1))
    async with live_service(venue, pace=paced(pending_seconds_most=5.0)) as desk:
        await open_live(desk)
        venue.fail("state", UNREACHABLE)
        await until(lambda: desk.engine.account("alice").sync.status == "LOST")  # type: ignore[union-attr]
        assert (await borrow(desk)).violations[0].reason == rejections_pb2.REFUSAL_REASON_ACCOUNT_NOT_SYNCED
        asked = await repay(desk, "401", "late", timeout=0.9)
        assert asked.accepted and asked.venue_request.state == REQUESTED and not asked.HasField("principal_paid")
        venue.heal()
        paid = await repay(desk, "401", "late")
        assert paid.replayed and paid.venue_request.state == CONFIRMED
        assert (paid.interest_paid, paid.principal_paid) == ("1", "400")
        assert venue.count("repay") == 1


@pytest.mark.parametrize("kind", list(LoanKind))
@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("apart", [False, True])
async def test_a_lost_answer_is_looked_up_and_nothing_is_sent_again(
    venue: FakeVenue, kind: LoanKind, executed: bool, apart: bool
) -> None:
    venue = margin_venue() if apart else venue
    owed = (D(5000), D(1000), D("0.5"))
    venue.owe("USDT", *owed, apart=apart)
    call, ask = ("borrow", borrow) if kind is LoanKind.BORROW else ("repay", repay)
    async with live_service(venue) as desk:
        await open_live(desk, broker=venue.name)
        await until(lambda: desk.engine.account("alice").debts_apart if apart else True)
        venue.fail(call, TIMED_OUT, 1, after=executed)
        answer = await ask(desk, "700")
        said = answer.venue_request
        if executed:
            assert said.state == CONFIRMED
        else:
            assert (said.state, said.refusal_code) == (REFUSED, "NOT_CONFIRMED")
            assert "the venue shows 1000.5 USDT owed, before it was 1000.5" in said.refusal
        assert venue.count(call) == 1
        await synced(desk)
        held, principal, interest = venue.owed("USDT", apart=apart)
        account = desk.engine.account("alice")
        debt = (account.debts_apart if apart else account.debts)["USDT"]
        assert (debt.principal, debt.accrued_interest) == (principal, interest)
        assert apart or account.balances["USDT"] == held


async def test_an_answer_that_never_comes_is_looked_up_too(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.latency["borrow"] = 60
        assert (await borrow(desk)).venue_request.refusal_code == "NOT_CONFIRMED"
        assert AlertKind.VENUE_REFUSED in kinds(desk.engine.account("alice"))


async def test_a_venue_that_is_not_reached_is_not_asked_again(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("borrow", UNREACHABLE, 1)
        answer = await borrow(desk)
        assert (answer.venue_request.state, answer.venue_request.refusal_code) == (REFUSED, "NOT_SENT")
        assert venue.count("borrow") == 1 and not venue.debts


async def test_a_loan_that_could_not_leave_for_too_long_is_given_up(venue: FakeVenue) -> None:
    async with live_service(venue, pace=paced(pending_seconds_most=0.3)) as desk:
        await open_live(desk)
        venue.fail("state", UNREACHABLE)
        answer = await borrow(desk)
        venue.heal()
        if answer.accepted:
            assert (answer.venue_request.state, answer.venue_request.refusal_code) == (REFUSED, "NOT_SENT")
        else:  # that it is lost was noticed first
            assert answer.violations[0].reason == rejections_pb2.REFUSAL_REASON_ACCOUNT_NOT_SYNCED
        await until(lambda: not desk.engine.account("alice").loans)
        assert venue.count("borrow") == 0


@pytest.mark.parametrize(
    ("call", "executed"),
    [("state", False), ("borrow", False), ("borrow", True)],
    ids=["before it was sent", "sent and not executed", "executed"],
)
async def test_a_pending_loan_survives_a_kill(venue: FakeVenue, call: str, executed: bool) -> None:
    """The service ends while a loan is on its way. What was sent is looked up; what was not goes, once."""
    journal = MemoryJournal()
    async with live_service(venue, journal=journal, pace=paced(call_seconds=30.0)) as desk:
        await open_live(desk)
        venue.hang(call, after=executed)
        reads = venue.count("state")
        await until(lambda: call != "state" or venue.count("state") > reads)
        answer = await borrow(desk, timeout=0.8)
        assert answer.venue_request.state == REQUESTED
        assert (desk.engine.account("alice").loans["USDT"].sent_at is None) is (call == "state")
    assert venue.count("borrow") == (0 if call == "state" else 1)
    venue.heal()
    async with live_service(venue, journal=journal) as desk:
        await until(lambda: not desk.engine.account("alice").loans)
        await synced(desk, "in-the-next-life")
        owed = [] if call == "borrow" and not executed else ["5000"]
        assert [one.principal for one in await debts(desk)] == owed
        assert venue.count("borrow") == 1, "it is never sent twice, whoever died in between"


@pytest.mark.parametrize("broker", ["kraken", "coinbase", "cryptocom"])
async def test_where_the_venue_does_not_lend_it_is_unimplemented_with_the_reason(broker: str) -> None:
    venue = FakeVenue(broker)
    venue.mark("BTCUSDT", "50000")
    async with live_service(venue) as desk:
        await open_live(desk, broker=broker)
        for ask in (borrow, repay):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ask(desk, "1")
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
            note = PROFILES[broker].capability(Feature.BORROW).note
            assert note and note in (raised.value.details() or "")


async def test_the_test_system_of_a_venue_that_lends_apart_has_no_such_wallet() -> None:
    venue = margin_venue()
    async with live_service(venue) as desk:
        await open_live(desk, broker="binance", environment=types_pb2.ENVIRONMENT_TESTNET)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await borrow(desk)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "its test system has no margin wallet" in (raised.value.details() or "")
        assert venue.count("loans") == 0


# Debts made elsewhere


async def test_debts_made_elsewhere_are_mirrored_with_their_interest(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        assert await debts(desk) == []
        venue.owe("USDT", D(12_000), D(2000), D(0), apart=False)
        await synced(desk)
        (debt,) = await debts(desk)
        assert (debt.principal, debt.accrued_interest, debt.lender) == ("2000", "0", debt_service_pb2.LENDER_BROKER)
        venue.owe("USDT", D(12_000), D(2000), D("0.25"), apart=False)
        await synced(desk)
        assert (await debts(desk))[0].accrued_interest == "0.25"
        assert (await summary(desk)).accrued_interest == "0.25"
        history = await desk.funds.ListFundHistory(fund_service_pb2.ListFundHistoryRequest(account_id="alice"))
        parts = history.total
        assert (parts.interest, parts.synced, parts.price) == ("-0.25", "10000", "0")
        assert D(parts.total) == D("9999.75")


async def test_debts_of_the_margin_wallet_are_shown_and_in_no_equity() -> None:
    venue = margin_venue()
    venue.owe("USDT", D(50), D(3000), D(2), apart=True)
    async with live_service(venue, pace=paced(apart_seconds=0.05)) as desk:
        await open_live(desk, broker="binance")
        (debt,) = await debts(desk)
        assert (debt.principal, debt.accrued_interest, debt.separate_wallet) == ("3000", "2", True)
        assert debt.value == "3002"
        found = await summary(desk)
        assert (found.borrowed, found.accrued_interest, found.separate_debt) == ("3000", "2", "3002")
        assert (found.debt_to_collateral, found.available_collateral) == ("0", "10000")
        assert (await desk.status("alice")).equity == "10000"
        venue.owe("USDT", D(50), D(3000), D(5), apart=True)
        await until(lambda: desk.engine.account("alice").debts_apart["USDT"].accrued_interest == 5)
        venue.apart.clear()
        await until(lambda: not desk.engine.account("alice").debts_apart)


async def test_what_is_owed_apart_stays_priced_between_two_looks_at_that_wallet() -> None:
    venue = margin_venue()
    venue.owe("BTC", D(0), D("0.5"), D(0), apart=True)
    async with live_service(venue, pace=paced(apart_seconds=600.0)) as desk:
        await open_live(desk, broker="binance")
        looked, reads = venue.count("loans"), venue.count("state")
        await until(lambda: venue.count("state") > reads + 2)
        assert venue.count("loans") == looked
        venue.mark("BTCUSDT", "60000")
        await until(lambda: desk.engine.marks["BTCUSDT"].price == 60_000, "its mark is not followed any more")
        assert (await debts(desk))[0].value == "30000"


async def test_a_margin_wallet_that_can_not_be_read_loses_no_sight_of_the_account() -> None:
    venue = margin_venue()
    venue.owe("USDT", D(50), D(3000), D(2), apart=True)
    async with live_service(venue, pace=paced(apart_seconds=0.0)) as desk:
        await open_live(desk, broker="binance")
        venue.fail("loans", Denied("no permission for margin", code="-2015"))
        tried = venue.count("loans")
        await until(lambda: venue.count("loans") > tried + 2)
        assert desk.engine.account("alice").sync.status == "FRESH"  # type: ignore[union-attr]
        assert [one.principal for one in await debts(desk)] == ["3000"], "what was known stays"


async def test_a_loan_of_the_margin_wallet_leaves_the_futures_wallet_alone() -> None:
    venue = margin_venue()
    async with live_service(venue) as desk:
        await open_live(desk, broker="binance")
        lent = await borrow(desk)
        assert lent.venue_request.state == CONFIRMED and not lent.HasField("largest_amount")
        assert lent.debt.separate_wallet and (lent.before.equity, lent.after.equity) == ("10000", "10000")
        assert venue.apart["USDT"] == (D(5000), D(5000), D(0)) and venue.balances["USDT"] == 10_000
        paid = await repay(desk)
        assert paid.principal_paid == "5000" and await debts(desk) == []


async def test_an_asset_that_is_not_held_is_priced_before_it_is_borrowed(venue: FakeVenue) -> None:
    venue.lends_most = D("0.1")
    async with live_service(venue) as desk:
        await open_live(desk)
        lent = await borrow(desk, "0.05", asset="BTC")
        assert lent.accepted, lent.violations
        assert lent.venue_request.state == CONFIRMED and lent.debt.value == "2500"


async def test_paper_lends_says_the_capability_matrix(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        answer = await desk.accounts.ListBrokers(account_service_pb2.ListBrokersRequest())
        feature = account_service_pb2.BROKER_FEATURE_BORROW
        lending = {one.broker: {can.feature: can for can in one.capabilities}[feature] for one in answer.brokers}
        assert {name for name, can in lending.items() if can.supported} == {"paper", "bybit", "binance", "okx"}
        assert all(can.note for can in lending.values() if not can.supported)
