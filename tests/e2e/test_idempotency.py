"""A request id is done once: the same body gets the same answer, also after a restart; another body is refused.

What an answer shows at present prices is shown at the same prices each time here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core.account import Limits
from debt_mgmt.core.commands import ProposeChange, SetLimits, as_json
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import (
    access_service_pb2,
    debt_service_pb2,
    margin_service_pb2,
    options_pb2,
    risk_service_pb2,
    types_pb2,
)
from tests.e2e.books import BUY, PRICES, SELL, inverse_contract, isolate, order
from tests.support.service import Clock, Desk, service
from tests.support.wire import MUTATIONS, UNIMPLEMENTED, Failure, call, failure_of, heads, reasons, request_class

pytestmark = pytest.mark.asyncio(loop_scope="module")

Prepare = Callable[[Desk, str], Awaitable[dict[str, Any]]]


class Case(NamedTuple):
    """A mutation: what comes before it, its fields, and what another body under the same id says."""

    name: str
    prepare: Prepare
    fields: dict[str, Any]
    other: dict[str, Any]
    accepted: bool = True


SCOPE = types_pb2.Scope
FUNDING = {
    "symbol": "ETHUSDT",
    "rate": "0.0001",
    "funding_time": Timestamp(seconds=1772438400),
    "mark_price": "2500",
}
"""Of 08:00 on the day that the clock of these tests shows."""


async def nothing(desk: Desk, account_id: str) -> dict[str, Any]:
    return {}


async def no_account(desk: Desk, account_id: str) -> dict[str, Any]:
    """Its own account is not used; a new one is made."""
    return {"account_id": f"{account_id}-new"}


async def of_nobody(desk: Desk, account_id: str) -> dict[str, Any]:
    return {"account_id": None}


def limit_set(owner: str, leverage: str) -> risk_service_pb2.LimitSet:
    return risk_service_pb2.LimitSet(
        scope=types_pb2.Scope(owner=owner), limits=risk_service_pb2.NodeLimits(max_leverage=leverage)
    )


async def a_limit_set(desk: Desk, account_id: str) -> dict[str, Any]:
    put = risk_service_pb2.PutLimitSetRequest(request_id=desk.request_id(), limit_set=limit_set(account_id, "3"))
    assert (await desk.risk.PutLimitSet(put)).accepted
    return {"account_id": None, "scope": types_pb2.Scope(owner=account_id)}


async def bitcoin(desk: Desk, account_id: str) -> dict[str, Any]:
    await desk.fill(account_id, BUY, "0.1", "BTCUSDT", "60000")
    return {}


async def reservation(desk: Desk, account_id: str) -> dict[str, Any]:
    held = await desk.reserve(account_id, BUY, "0.02", price="62000")
    return {"reservation_id": held.reservation.reservation_id}


async def resting_order(desk: Desk, account_id: str) -> dict[str, Any]:
    request = margin_service_pb2.PlaceOrderRequest(
        request_id=desk.request_id(), account_id=account_id, order=order(BUY, "0.01", price="40000")
    )
    return {"order_id": (await desk.margin.PlaceOrder(request)).order.order_id}


async def loan(desk: Desk, account_id: str) -> dict[str, Any]:
    request = debt_service_pb2.BorrowRequest(
        request_id=desk.request_id(), account_id=account_id, asset="USDT", amount="500"
    )
    assert (await desk.debt.Borrow(request)).accepted
    return {}


async def isolated(desk: Desk, account_id: str) -> dict[str, Any]:
    await isolate(desk, account_id, "ETHUSDT")
    await desk.fill(account_id, BUY, "1", "ETHUSDT", "3000")
    return {}


async def halted(desk: Desk, account_id: str) -> dict[str, Any]:
    await desk.risk.HaltTrading(
        risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), account_id=account_id, reason="drill")
    )
    return {}


async def token(desk: Desk, account_id: str) -> dict[str, Any]:
    request = access_service_pb2.IssueTokenRequest(
        request_id=desk.request_id(), name=account_id, role=options_pb2.ROLE_VIEWER
    )
    assert (await call(desk.channel, "AccessService/IssueToken", request)).accepted
    return {"name": account_id}


async def alerted(desk: Desk, account_id: str) -> dict[str, Any]:
    await halted(desk, account_id)
    return {"account_id": None, "alert_id": desk.engine.account(account_id).alerts[-1].alert_id}


async def seen(desk: Desk, account_id: str) -> dict[str, Any]:
    fields = await alerted(desk, account_id)
    request = risk_service_pb2.AcknowledgeAlertRequest(request_id=desk.request_id(), alert_id=fields["alert_id"])
    await desk.risk.AcknowledgeAlert(request)
    return fields


async def waiting_change(desk: Desk, account_id: str) -> dict[str, Any]:
    """Somebody else wants another limit."""
    command = SetLimits(Limits(max_open_reservations=2000), ("max_open_reservations",), "busier")
    proposal = ProposeChange(
        account_id=account_id,
        asked=as_json(command),
        method="RiskService/SetRiskLimits",
        scope=Scope(account_id=account_id),
        effects=("max_open_reservations 1000 → 2000",),
        reason="busier",
        by="somebody",
        waits=timedelta(days=1),
    )
    await desk.engine.submit_house(proposal, request_id="", actor=Actor("somebody"))
    return {"change_id": list(desk.engine.house.changes)[-1]}


FILL = {"symbol": "BTCUSDT", "side": BUY, "quantity": "0.02", "price": "61000", "fill_id": "trade-1", "fee": "1"}
LIMITS = risk_service_pb2.RiskLimits
CASES = [
    Case("AccountService/CreateAccount", no_account, {"owner": "someone", "currency": "USD"}, {"currency": "INR"}),
    Case("AccountService/CloseAccount", nothing, {"reason": "done"}, {"reason": "over"}),
    Case("AccountService/CloseAccount", bitcoin, {}, {"reason": "over"}, False),
    Case("AccountService/SetDryRun", nothing, {"dry_run": True}, {"reason": "to try it"}, False),
    Case("MarginService/ReserveMargin", bitcoin, {"order": order(BUY, "0.01")}, {"order": order(BUY, "0.02")}),
    Case("MarginService/ReserveMargin", bitcoin, {"order": order(SELL, "0.05")}, {"order": order(SELL, "0.1")}),
    Case("MarginService/ReserveMargin", nothing, {"order": order(BUY, "50")}, {"order": order(BUY, "51")}, False),
    Case("MarginService/ReleaseReservation", reservation, {"quantity": "0.005"}, {"quantity": "0.006"}),
    Case("MarginService/ReleaseReservation", reservation, {}, {"quantity": "0.02"}),
    Case("MarginService/ReleaseReservation", nothing, {"reservation_id": "1-99"}, {"reservation_id": "1-98"}, False),
    Case("MarginService/RecordFill", bitcoin, FILL, {"price": "61001"}),
    Case("MarginService/RecordFill", reservation, FILL, {"quantity": "0.01"}),
    Case("MarginService/RecordFill", bitcoin, FILL | {"side": SELL, "quantity": "0.1"}, {"side": BUY}),
    Case("MarginService/PlaceOrder", bitcoin, {"order": order(BUY, "0.01")}, {"order": order(BUY, "0.02")}),
    Case("MarginService/PlaceOrder", bitcoin, {"order": order(SELL, "0.05", price="65000")}, {"time_in_force": 2}),
    Case("MarginService/PlaceOrder", nothing, {"order": order(BUY, "50")}, {"order": order(BUY, "51")}, False),
    Case("MarginService/CancelOrder", resting_order, {}, {"order_id": "1-97"}),
    Case("MarginService/CancelOrder", nothing, {"order_id": "1-99"}, {"order_id": "1-98"}, False),
    Case("MarginService/ClosePosition", bitcoin, {"symbol": "BTCUSDT", "reason": "out"}, {"quantity": "0.05"}),
    Case("MarginService/ClosePosition", nothing, {"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT"}, False),
    Case("LeverageService/SetLeverage", bitcoin, {"symbol": "BTCUSDT", "leverage": "4"}, {"leverage": "3"}),
    Case("LeverageService/SetLeverage", bitcoin, {"symbol": "BTCUSDT", "leverage": "9"}, {"leverage": "8"}, False),
    Case(
        "LeverageService/SetMarginMode",
        nothing,
        {"symbol": "SOLUSDT", "margin_mode": types_pb2.MARGIN_MODE_ISOLATED},
        {"margin_mode": types_pb2.MARGIN_MODE_CROSS},
    ),
    Case("LeverageService/AdjustIsolatedMargin", isolated, {"symbol": "ETHUSDT", "amount": "100"}, {"amount": "99"}),
    Case("FundService/Deposit", bitcoin, {"asset": "BTC", "amount": "0.5"}, {"asset": "ETH"}),
    Case("FundService/Withdraw", bitcoin, {"asset": "USDT", "amount": "5"}, {"amount": "6"}),
    Case("FundService/Withdraw", nothing, {"asset": "USDT", "amount": "50000"}, {"amount": "50001"}, False),
    Case("DebtService/Borrow", bitcoin, {"asset": "USDT", "amount": "100"}, {"amount": "101"}),
    Case("DebtService/Borrow", loan, {"asset": "USDT", "amount": "100"}, {"asset": "BTC"}),
    Case("DebtService/Borrow", nothing, {"asset": "USDT", "amount": "900000"}, {"amount": "900001"}, False),
    Case("DebtService/Repay", loan, {"asset": "USDT"}, {"amount": "10"}),
    Case("DebtService/Repay", loan, {"asset": "USDT", "amount": "10"}, {"amount": "11"}),
    Case("DebtService/Repay", nothing, {"asset": "USDT"}, {"asset": "BTC"}, False),
    Case("FundService/ResetFunds", bitcoin, {"reason": "again"}, {"reason": "and again"}),
    Case(
        "RiskService/SetRiskLimits",
        nothing,
        {"limits": LIMITS(max_daily_loss="500")},
        {"limits": LIMITS(max_daily_loss="501")},
    ),
    Case(
        "RiskService/PutLimitSet",
        of_nobody,
        {"limit_set": limit_set("idle", "3")},
        {"limit_set": limit_set("idle", "2")},
    ),
    Case("RiskService/DeleteLimitSet", a_limit_set, {"reason": "over"}, {"name": "weekend"}),
    Case("RiskService/HaltTrading", bitcoin, {"reason": "drill"}, {"reason": "fire"}),
    Case("RiskService/HaltTrading", of_nobody, {"owner": "idle", "reason": "drill"}, {"owner": "idler"}),
    Case(
        "RiskService/HaltTrading",
        of_nobody,
        {"node": types_pb2.Scope(strategy="a")},
        {"node": types_pb2.Scope(strategy="b")},
    ),
    Case("RiskService/ResumeTrading", halted, {"reason": "over"}, {"reason": "again"}),
    Case("RiskService/ResumeTrading", nothing, {}, {"reason": "again"}, False),
    Case("RiskService/ApproveChange", waiting_change, {"note": "agreed"}, {"note": "yes"}),
    Case("RiskService/ApproveChange", nothing, {"change_id": "change-1"}, {"note": "yes"}, False),
    Case("RiskService/RejectChange", waiting_change, {}, {"note": "no"}),
    Case("RiskService/RejectChange", nothing, {"change_id": "change-1"}, {"change_id": "change-2"}, False),
    Case("AccessService/IssueToken", nothing, {"name": "engine", "role": options_pb2.ROLE_TRADER}, {"note": "other"}),
    Case("AccessService/IssueToken", token, {"role": options_pb2.ROLE_TRADER}, {"name": "another"}, False),
    Case("AccessService/RotateToken", token, {}, {"name": "another"}),
    Case("AccessService/RevokeToken", token, {"reason": "lost"}, {"reason": "found"}),
    Case("AccessService/RevokeToken", nothing, {"name": "nobody"}, {"name": "none"}, False),
    Case("RiskService/AcknowledgeAlert", alerted, {"note": "on it"}, {"note": "done"}),
    Case("RiskService/AcknowledgeAlert", seen, {}, {"note": "done"}, False),
    Case("MarketService/PublishFundingRate", of_nobody, FUNDING, {"rate": "0.0002"}),
    Case("MarketService/PutInstrument", of_nobody, {"instrument": inverse_contract()}, {"instrument": "lot"}),
]


class Told(NamedTuple):
    """What came of one request id."""

    first: Any
    at_once: Any
    later: Any
    restarted: Any
    reused: Failure
    reused_later: Failure
    journaled: int
    """Rows that the repeats wrote."""


def made(case: Case, number: int, given: dict[str, Any], changed: dict[str, Any]) -> Message:
    fields = {"request_id": f"once-{number}", "account_id": f"book-{number}", **case.fields, **given, **changed}
    if isinstance(fields.get("instrument"), str):
        fields["instrument"] = inverse_contract()
        fields["instrument"].lot = "2"
    kind = request_class(case.name)
    return kind(
        **{
            name: value
            for name, value in fields.items()
            if value is not None and name in kind.DESCRIPTOR.fields_by_name
        }
    )


async def change_everything(desk: Desk, account_id: str) -> None:
    """What may happen to an account between two answers. Some of it is refused, as by an account that is closed."""
    for name, fields in (
        ("FundService/Deposit", {"asset": "USDT", "amount": "77"}),
        ("FundService/Deposit", {"asset": "BTC", "amount": "0.01"}),
        ("LeverageService/SetLeverage", {"symbol": "BTCUSDT", "leverage": "5"}),
        ("MarginService/RecordFill", FILL | {"fill_id": "trade-2", "quantity": "0.001"}),
        ("DebtService/Borrow", {"asset": "USDT", "amount": "20"}),
        ("DebtService/Repay", {"asset": "USDT", "amount": "5"}),
        ("MarginService/ReserveMargin", {"order": order(BUY, "0.003")}),
        ("RiskService/HaltTrading", {"reason": "noise"}),
    ):
        await call(
            desk.channel, name, request_class(name)(request_id=desk.request_id(), account_id=account_id, **fields)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story() -> AsyncIterator[list[Told]]:
    """Every case: asked, asked again at once, after much has changed, and after a restart on the same journal."""
    journal, clock = MemoryJournal(), Clock()
    firsts: list[list[Any]] = []
    requests: list[tuple[Message, Message]] = []
    async with service(journal=journal, clock=clock) as desk:
        prices = {symbol: price for symbol, price in PRICES.items() if symbol != "BTCUSD-INVERSE"}
        await desk.mark(prices)
        for number, case in enumerate(CASES):
            await desk.open(f"book-{number}", "10000", "USDT", owner=f"book-{number}")
            given = await case.prepare(desk, f"book-{number}")
            requests.append((made(case, number, given, {}), made(case, number, given, case.other)))
        for case, (request, other) in zip(CASES, requests, strict=True):
            first = await call(desk.channel, case.name, request)
            before = heads(desk.engine)
            at_once = await call(desk.channel, case.name, request)
            reused = await failure_of(desk.channel, case.name, other)
            firsts.append([first, at_once, reused, rows_between(before, desk)])
        for number in range(len(CASES)):
            await change_everything(desk, f"book-{number}")
        before = heads(desk.engine)
        laters = [
            await call(desk.channel, case.name, request) for case, (request, _) in zip(CASES, requests, strict=True)
        ]
        assert rows_between(before, desk) == 0
    clock.advance(hours=1)
    async with service(journal=journal, clock=clock) as desk:
        await desk.mark(prices)
        await desk.engine.sweep()
        before = heads(desk.engine)
        told = []
        for case, (request, other), first, later in zip(CASES, requests, firsts, laters, strict=True):
            restarted = await call(desk.channel, case.name, request)
            reused_later = await failure_of(desk.channel, case.name, other)
            told.append(Told(first[0], first[1], later, restarted, first[2], reused_later, first[3]))
        assert rows_between(before, desk) == 0
        yield told


def rows_between(before: dict[int, int], desk: Desk) -> int:
    return sum(heads(desk.engine).values()) - sum(before.values())


NOT_KEPT = {
    "LeverageService/SetLeverage": ["before"],
    "AccessService/IssueToken": ["secret"],
    "AccessService/RotateToken": ["secret"],
}
"""What no event keeps: it is absent from a repeated answer."""


def but_replayed(answer: Any, *more: str) -> Any:
    """An answer without what tells the first one from a repeated one."""
    copy = type(answer)()
    copy.CopyFrom(answer)
    for field in ("replayed", *more):
        copy.ClearField(field)
    return copy


each_case = pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{case.name}-{case.prepare.__name__}-{case.accepted}" for case in CASES]
)


async def test_every_mutation_is_tried() -> None:
    """A sync has nothing in its body that could be another; its repeats are tried on live accounts."""
    assert {case.name for case in CASES} == set(MUTATIONS) - UNIMPLEMENTED - {"AccountService/SyncAccount"}


@each_case
async def test_the_first_answer_is_as_expected(story: list[Told], number: int) -> None:
    first = story[number].first
    assert not first.replayed
    if "accepted" in first.DESCRIPTOR.fields_by_name:
        assert first.accepted is CASES[number].accepted
        assert bool(first.violations) is not CASES[number].accepted


@each_case
@pytest.mark.parametrize("when", ["at_once", "later", "restarted"])
async def test_the_same_request_gets_the_same_answer(story: list[Told], number: int, when: str) -> None:
    again = getattr(story[number], when)
    assert again.replayed
    left_out = NOT_KEPT.get(CASES[number].name, [])
    assert but_replayed(again) == but_replayed(story[number].first, *left_out)


@each_case
async def test_a_repeat_writes_nothing(story: list[Told], number: int) -> None:
    assert story[number].journaled == 0


@each_case
async def test_another_body_under_the_same_id_is_refused(story: list[Told], number: int) -> None:
    for failure in (story[number].reused, story[number].reused_later):
        assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert failure.metadata == {"request_id": f"once-{number}"}


async def test_a_trade_counts_once_under_any_request_id() -> None:
    async with service(clock=Clock()) as desk:
        await desk.open("book", "10000", "USDT")
        await desk.mark({"BTCUSDT": "60000"})
        first = await desk.fill("book", BUY, "0.1", "BTCUSDT", "60000", fill_id="trade-7")
        again = await desk.fill("book", BUY, "0.1", "BTCUSDT", "60000", fill_id="trade-7")
        assert (first.replayed, again.replayed) == (False, True)
        assert but_replayed(again) == but_replayed(first)
        elsewhere = await desk.fill("book", BUY, "1", "ETHUSDT", "3000", fill_id="trade-7")
        assert (elsewhere.accepted, elsewhere.replayed) == (True, False)
        assert str(desk.engine.account("book").positions["BTCUSDT"].quantity) == "0.1"


async def test_a_trade_with_other_terms_under_its_id_is_refused() -> None:
    async with service(clock=Clock()) as desk:
        await desk.open("book", "10000", "USDT")
        await desk.mark({"BTCUSDT": "60000"})
        await desk.fill("book", BUY, "0.1", "BTCUSDT", "60000", fill_id="trade-7")
        before = heads(desk.engine)
        for quantity in ("0.2", "0.05"):
            answer = await desk.fill("book", BUY, quantity, "BTCUSDT", "60000", fill_id="trade-7")
            assert (answer.accepted, reasons(answer.violations)) == (False, ["DUPLICATE_FILL"])
            assert answer.violations[0].subject == "trade-7"
        assert heads(desk.engine) == before
        assert str(desk.engine.account("book").positions["BTCUSDT"].quantity) == "0.1"
