"""Loans the whole way: a live account borrows and repays at each simulated venue that lends, each time once."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.server.brokers.profiles import PROFILES, Feature
from debt_mgmt.v1 import account_service_pb2, debt_service_pb2, leverage_service_pb2
from tests.support.falling import ACCOUNT, PLACES, Fall, account_of
from tests.support.service import Desk
from tests.support.venues.binance_margin import MarginWallet
from tests.support.venues.book import Book
from tests.support.venues.venue import FaultKind

D = Decimal
CASH = "USDT"
LENDING = [broker for broker in sorted(PLACES) if PROFILES[broker].can(Feature.BORROW)]
WRITES = "POST .*(borrow|repay)$"


@pytest.fixture(params=LENDING)
async def fall(request: pytest.FixtureRequest) -> AsyncIterator[Fall]:
    made = Fall(PLACES[request.param])
    async with made.venue:
        yield made


def book_of(fall: Fall) -> Book:
    """Where the venue keeps what it lent."""
    return fall.venue.margin if isinstance(fall.venue, MarginWallet) else fall.venue.book


async def borrow(desk: Desk, amount: str) -> Any:
    request = debt_service_pb2.BorrowRequest(
        request_id=desk.request_id(), account_id=ACCOUNT, asset=CASH, amount=amount
    )
    return await desk.debt.Borrow(request)


async def repay(desk: Desk, amount: str | None = None) -> Any:
    request = debt_service_pb2.RepayRequest(request_id=desk.request_id(), account_id=ACCOUNT, asset=CASH, amount=amount)
    return await desk.debt.Repay(request)


async def owed(desk: Desk) -> list[tuple[Decimal, Decimal]]:
    """Principal and interest of every debt, once the venue was read."""
    await desk.accounts.SyncAccount(
        account_service_pb2.SyncAccountRequest(request_id=desk.request_id(), account_id=ACCOUNT)
    )
    listed = await desk.debt.ListDebts(debt_service_pb2.ListDebtsRequest(account_id=ACCOUNT))
    return [(D(one.principal), D(one.accrued_interest)) for one in listed.debts]


def confirmed(answer: Any) -> bool:
    return bool(answer.accepted and answer.venue_request.state == leverage_service_pb2.LEVERAGE_STATE_CONFIRMED)


async def test_a_loan_lives_at_the_venue_from_borrowing_to_the_last_repayment(fall: Fall) -> None:
    book = book_of(fall)
    book.deposit(CASH, D(10))  # interest has to be paid from something
    async with fall.life() as desk:
        await fall.open(desk)
        lent = await borrow(desk, "250.50")
        assert confirmed(lent), lent
        assert book.debts[CASH] == D("250.50") and await owed(desk) == [(D("250.50"), D(0))]
        equity = (await desk.status(ACCOUNT)).equity

        book.pass_hours(24)
        interest = book.interest[CASH]
        assert interest > 0 and await owed(desk) == [(D("250.50"), interest)]
        assert (D((await desk.status(ACCOUNT)).equity) < D(equity)) is not lent.debt.separate_wallet

        paid = await repay(desk, "50.50")
        assert confirmed(paid) and D(paid.interest_paid) + D(paid.principal_paid) == D("50.50")
        assert await owed(desk) == [(200 + interest, D(0))] == [(book.debts[CASH], book.interest[CASH])]
        whole = await repay(desk)
        assert confirmed(whole), whole
        assert await owed(desk) == [] and not book.owed(CASH)
        assert len(fall.venue.asked(WRITES)) == 3


@pytest.mark.parametrize("kind", [FaultKind.HANGS_BEFORE, FaultKind.HANGS_AFTER])
async def test_a_loan_whose_answer_is_lost_is_looked_up_and_never_asked_for_again(fall: Fall, kind: FaultKind) -> None:
    async with fall.life() as desk:
        await fall.open(desk)
        fall.venue.fault(WRITES, kind)
        answer = await borrow(desk, "100")
        assert confirmed(answer) is (kind is FaultKind.HANGS_AFTER), answer
        if kind is FaultKind.HANGS_BEFORE:
            assert answer.venue_request.refusal_code == "NOT_CONFIRMED"
        assert await owed(desk) == ([(D(100), D(0))] if kind is FaultKind.HANGS_AFTER else [])
        assert len(fall.venue.asked(WRITES)) == 1


async def test_a_loan_above_the_venues_limit_is_refused_in_its_words(fall: Fall) -> None:
    book_of(fall).borrow_limits[CASH] = D(10)
    async with fall.life() as desk:
        await fall.open(desk)
        answer = await borrow(desk, "100")
        assert answer.accepted and answer.venue_request.state == leverage_service_pb2.LEVERAGE_STATE_REFUSED
        assert answer.venue_request.refusal and answer.venue_request.refusal_code
        assert not account_of(desk).loans and await owed(desk) == []
