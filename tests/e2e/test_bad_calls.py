"""Calls that can't be carried out: unknown names, wrong tokens, too much at once, too late, and faults of our own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import (
    access_service_pb2,
    account_service_pb2,
    audit_service_pb2,
    debt_service_pb2,
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    risk_service_pb2,
    types_pb2,
)
from tests.e2e.books import BUY, open_fresh, order
from tests.support.service import Clock, Desk, service, slow_journal
from tests.support.wire import (
    METHODS,
    MUTATIONS,
    UNIMPLEMENTED,
    Failure,
    call,
    failure_of,
    heads,
    reasons,
    request_class,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with service(journal=MemoryJournal(), clock=Clock(), server__max_message_bytes="65536") as running:
        await running.open("desk-1", "10000", "USDT")
        await running.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
        for symbol in ("BTCUSDT", "ETHUSDT"):
            await running.fill("desk-1", BUY, "0.1", symbol, "3000")
        yield running


async def fails(desk: Desk, name: str, *requests: Message | bytes, timeout: float = 10.0) -> Failure:
    """The failure of a call that must leave no trace."""
    before = heads(desk.engine)
    failure = await failure_of(desk.channel, name, *requests, timeout=timeout)
    assert heads(desk.engine) == before, "something was journaled"
    assert (await desk.status("desk-1")).account_id == "desk-1", "the service no longer answers"
    return failure


# names


def filled(name: str, **fields: str) -> Message:
    """A request in which every field is fine, but for what is given."""
    given: dict[str, Any] = {
        "request_id": f"filled-{name}".replace("/", "-"),
        "account_id": "desk-1",
        "symbol": "BTCUSDT",
        "order": order(BUY, "0.01"),
        "orders": [order(BUY, "0.01")],
        "reservation_id": "1-1",
        "order_id": "1-1",
        "reason": "drill",
        "side": types_pb2.SIDE_BUY,
        "quantity": "1",
        "price": "1",
        "fill_id": "filled",
        "leverage": "2",
        "margin_mode": types_pb2.MARGIN_MODE_CROSS,
        "amount": "1",
        "asset": "USDT",
        "caused_by_request_id": "asked",
        "limits": risk_service_pb2.RiskLimits(max_concurrent_positions=5),
        **fields,
    }
    kind = request_class(name)
    known = {field: value for field, value in given.items() if field in kind.DESCRIPTOR.fields_by_name}
    if "limit" in name.lower() and not isinstance(known.get("limits"), risk_service_pb2.RiskLimits):
        known.pop("limits", None)
    return kind(**known)


OF_AN_ACCOUNT = sorted(
    name
    for name, method in METHODS.items()
    if "account_id" in method.input_type.fields_by_name
    and name not in UNIMPLEMENTED
    and name not in ("AccountService/CreateAccount", "MarginService/StreamCheckOrders")
)


@pytest.mark.parametrize("name", OF_AN_ACCOUNT)
async def test_an_unknown_account_is_not_found(desk: Desk, name: str) -> None:
    failure = await fails(desk, name, filled(name, account_id="nobody"))
    assert (failure.code, failure.reason, failure.domain) == (NOT_FOUND, "ACCOUNT_NOT_FOUND", "debt_mgmt")
    assert failure.metadata == {"account_id": "nobody"}


async def test_an_unknown_account_can_not_be_watched(desk: Desk) -> None:
    request = margin_service_pb2.WatchMarginRequest(account_ids=["desk-1", "nobody"])
    failure = await fails(desk, "MarginService/WatchMargin", request)
    assert (failure.code, failure.reason) == (NOT_FOUND, "ACCOUNT_NOT_FOUND")


@pytest.mark.parametrize(
    "name",
    [
        "MarginService/RecordFill",
        "LeverageService/GetLeverage",
        "LeverageService/SetLeverage",
        "LeverageService/SetMarginMode",
    ],
)
async def test_an_unknown_instrument_is_not_found(desk: Desk, name: str) -> None:
    failure = await fails(desk, name, filled(name, symbol="NOSUCH"))
    assert (failure.code, failure.reason) == (NOT_FOUND, "INSTRUMENT_NOT_FOUND")
    assert failure.metadata == {"symbol": "NOSUCH"}


async def test_a_taken_account_id_is_refused_as_such(desk: Desk) -> None:
    request = account_service_pb2.CreateAccountRequest(request_id=desk.request_id(), account_id="desk-1")
    failure = await fails(desk, "AccountService/CreateAccount", request)
    assert (failure.code, failure.reason) == (ALREADY_EXISTS, "ACCOUNT_EXISTS")


@pytest.mark.parametrize("environment", [types_pb2.ENVIRONMENT_TESTNET, types_pb2.ENVIRONMENT_LIVE])
async def test_an_account_at_an_exchange_that_is_not_enabled_is_refused_with_what_to_set(
    desk: Desk, environment: Any
) -> None:
    request = account_service_pb2.CreateAccountRequest(
        request_id=desk.request_id(), account_id="live", broker="bybit", environment=environment
    )
    failure = await fails(desk, "AccountService/CreateAccount", request)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BROKER_NOT_READY")
    assert "brokers.bybit.enabled" in failure.message


# request ids


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - UNIMPLEMENTED))
@pytest.mark.parametrize("request_id", ["", "a b", "x" * 65])
async def test_a_mutation_needs_a_request_id(desk: Desk, name: str, request_id: str) -> None:
    failure = await fails(desk, name, filled(name, request_id=request_id))
    assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "request_id" in failure.fields


# pages


LISTS: dict[str, Message] = {
    "AccountService/ListAccounts": account_service_pb2.ListAccountsRequest(),
    "AccountService/ListBrokers": account_service_pb2.ListBrokersRequest(),
    "MarginService/ListPositions": margin_service_pb2.ListPositionsRequest(account_id="desk-1"),
    "MarginService/ListReservations": margin_service_pb2.ListReservationsRequest(account_id="desk-1"),
    "MarginService/ListOrders": margin_service_pb2.ListOrdersRequest(account_id="desk-1", include_ended=True),
    "MarginService/ListLiquidations": margin_service_pb2.ListLiquidationsRequest(account_id="desk-1"),
    "LeverageService/ListLeverage": leverage_service_pb2.ListLeverageRequest(account_id="desk-1"),
    "LeverageService/ListLeverageLimits": leverage_service_pb2.ListLeverageLimitsRequest(account_id="desk-1"),
    "FundService/ListFundHistory": fund_service_pb2.ListFundHistoryRequest(account_id="desk-1"),
    "DebtService/ListDebts": debt_service_pb2.ListDebtsRequest(),
    "DebtService/ListInterestCharges": debt_service_pb2.ListInterestChargesRequest(account_id="desk-1"),
    "DebtService/ListBorrowRates": debt_service_pb2.ListBorrowRatesRequest(account_id="desk-1"),
    "RiskService/ListAlerts": risk_service_pb2.ListAlertsRequest(),
    "RiskService/ListLimitSets": risk_service_pb2.ListLimitSetsRequest(),
    "RiskService/ListHalts": risk_service_pb2.ListHaltsRequest(),
    "RiskService/ListPendingChanges": risk_service_pb2.ListPendingChangesRequest(include_decided=True),
    "MarketService/ListInstruments": market_service_pb2.ListInstrumentsRequest(),
    "MarketService/ListMarks": market_service_pb2.ListMarksRequest(),
    "MarketService/ListFundingRates": market_service_pb2.ListFundingRatesRequest(),
    "AuditService/ListAuditEvents": audit_service_pb2.ListAuditEventsRequest(),
    "AccessService/ListTokens": access_service_pb2.ListTokensRequest(),
}


async def test_every_list_takes_pages() -> None:
    paged = {name for name, method in METHODS.items() if "page_token" in method.input_type.fields_by_name}
    assert paged - UNIMPLEMENTED == set(LISTS)


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_token_of_another_list_is_refused(desk: Desk, name: str) -> None:
    first: Any = market_service_pb2.ListInstrumentsRequest(page_size=1, symbols=["BTCUSDT", "ETHUSDT"])
    foreign = (await desk.market.ListInstruments(first)).next_page_token
    assert foreign
    for token in (foreign, foreign[:-2], foreign + "A", "garbage", "AAAA", "é", "x" * 5000, "[]"):
        request: Any = request_class(name)()
        request.CopyFrom(LISTS[name])
        request.page_token = token
        failure = await fails(desk, name, request)
        assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_a_page_token_does_not_fit_a_changed_filter(desk: Desk) -> None:
    request = margin_service_pb2.ListPositionsRequest(account_id="desk-1", page_size=1)
    request.page_token = (await desk.margin.ListPositions(request)).next_page_token
    assert [one.symbol for one in (await desk.margin.ListPositions(request)).positions] == ["ETHUSDT"]
    request.symbols.append("ETHUSDT")
    failure = await fails(desk, "MarginService/ListPositions", request)
    assert failure.reason == "PAGE_TOKEN_INVALID"


# too much


async def test_a_batch_of_501_orders_is_too_large_and_500_are_not(desk: Desk) -> None:
    request = margin_service_pb2.BatchCheckOrdersRequest(account_id="desk-1", orders=[order(BUY, "0.001")] * 500)
    answer = await desk.margin.BatchCheckOrders(request)
    assert len(answer.results) == 500
    request.orders.append(order(BUY, "0.001"))
    failure = await fails(desk, "MarginService/BatchCheckOrders", request)
    assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "BATCH_TOO_LARGE")
    assert failure.metadata == {"orders": "501", "limit": "500"}


async def test_too_many_changes_and_prices_are_refused(desk: Desk) -> None:
    shock = margin_service_pb2.MarginChange(price_shock=margin_service_pb2.PriceShock(fraction="-0.1"))
    many = margin_service_pb2.SimulateMarginRequest(account_id="desk-1", changes=[shock] * 501)
    failure = await fails(desk, "MarginService/SimulateMargin", many)
    assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "BATCH_TOO_LARGE")
    assert failure.metadata == {"changes": "501", "limit": "500"}
    prices = market_service_pb2.PublishMarksRequest(
        marks=[market_service_pb2.MarkUpdate(symbol="BTCUSDT", price="60000")] * 1001
    )
    failure = await fails(desk, "MarketService/PublishMarks", prices)
    assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "BATCH_TOO_LARGE")
    watch = margin_service_pb2.WatchMarginRequest(account_ids=[f"a-{number}" for number in range(1001)])
    failure = await fails(desk, "MarginService/WatchMargin", watch)
    assert (failure.code, failure.fields) == (INVALID_ARGUMENT, ["account_ids"])


async def test_a_message_that_is_too_large_is_not_read(desk: Desk) -> None:
    request = fund_service_pb2.DepositRequest(**deposit_fields(reason="x" * 70_000))
    failure = await fails(desk, "FundService/Deposit", request)
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_error_with_thousands_of_bad_fields_still_arrives(desk: Desk) -> None:
    request = margin_service_pb2.BatchCheckOrdersRequest(account_id="desk-1", orders=[order(0, "NaN", "")] * 500)
    failure = await fails(desk, "MarginService/BatchCheckOrders", request)
    assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "orders[0].quantity" in failure.fields
    assert "" in failure.fields, "how many more there are"


# what generated code would not send


def deposit_fields(**more: str) -> dict[str, str]:
    return {"request_id": "deposit", "account_id": "desk-1", "asset": "USDT", "amount": "1", **more}


async def test_bytes_that_are_no_message_are_refused(desk: Desk) -> None:
    for raw in (b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"):
        failure = await fails(desk, "FundService/Deposit", raw)
        assert (failure.code, failure.reason) == (INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "DecodeError" not in failure.message
    for name in ("MarginService/WatchMargin", "MarketService/PublishMarks", "MarginService/StreamCheckOrders"):
        assert (await fails(desk, name, b"\xff\xff\xff")).reason == "INVALID_REQUEST"


async def test_unknown_enum_numbers_on_the_wire_are_named(desk: Desk) -> None:
    order_bytes = types_pb2.Order(symbol="BTCUSDT", quantity="1").SerializeToString()
    for number in (b"\x10\x63", b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"):  # side = 99, side = -1
        body = order_bytes + number
        raw = (
            margin_service_pb2.ReserveMarginRequest(request_id="raw", account_id="desk-1").SerializeToString()
            + b"\x1a"
            + bytes([len(body)])
            + body
        )
        failure = await fails(desk, "MarginService/ReserveMargin", raw)
        assert (failure.code, failure.fields) == (INVALID_ARGUMENT, ["order.side"])


async def test_fields_of_a_later_contract_are_ignored(desk: Desk) -> None:
    request = margin_service_pb2.CheckOrderRequest(account_id="desk-1", order=order(BUY, "0.01"))
    unknown = b"\xfa\x3f\x05later"  # field 1023 of type string
    plain = await call(desk.channel, "MarginService/CheckOrder", request)
    answer = await call(desk.channel, "MarginService/CheckOrder", request.SerializeToString() + unknown)
    assert answer.result == plain.result


# time


@pytest.mark.parametrize("name", ["FundService/Deposit", "MarginService/CheckOrder", "MarginService/WatchMargin"])
async def test_a_deadline_that_has_passed_ends_the_call(desk: Desk, name: str) -> None:
    request = filled(name) if name != "MarginService/WatchMargin" else margin_service_pb2.WatchMarginRequest()
    failure = await fails(desk, name, request, timeout=-1.0)
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_mutation_whose_deadline_passes_is_carried_out_once(desk: Desk) -> None:
    """The journal is slow: the caller gives up, the write goes on, and the same request id finds its answer."""
    name = await open_fresh(desk)
    request = fund_service_pb2.DepositRequest(**deposit_fields(account_id=name, request_id="slow"))
    async with slow_journal(desk):
        failure = await failure_of(desk.channel, "FundService/Deposit", request, timeout=0.1)
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: desk.engine.account(name).balances["USDT"] == 10001)
    answer = await desk.funds.Deposit(request)
    assert (answer.replayed, answer.balance.amount) == (True, "10001")


async def test_a_caller_who_hangs_up_does_not_stop_the_write(desk: Desk) -> None:
    name = await open_fresh(desk)
    request = fund_service_pb2.DepositRequest(**deposit_fields(account_id=name, request_id="hung-up"))
    async with slow_journal(desk):
        pending = desk.funds.Deposit(request)
        await asyncio.sleep(0.1)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert desk.engine.account(name).balances["USDT"] == 10000
        await until(lambda: desk.engine.account(name).balances["USDT"] == 10001)
    assert (await desk.funds.Deposit(request)).replayed


async def test_a_request_id_with_another_body_is_refused_while_the_first_is_under_way(desk: Desk) -> None:
    name = await open_fresh(desk)
    request = fund_service_pb2.DepositRequest(**deposit_fields(account_id=name, request_id="twice"))
    other = fund_service_pb2.DepositRequest(**deposit_fields(account_id=name, request_id="twice", amount="2"))
    async with slow_journal(desk, 0.1):
        answers = await asyncio.gather(
            desk.funds.Deposit(request),
            desk.funds.Deposit(request),
            failure_of(desk.channel, "FundService/Deposit", other),
        )
    assert [one.replayed for one in answers[:2]] == [False, True]
    assert (answers[2].code, answers[2].reason) == (ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert desk.engine.account(name).balances["USDT"] == 10001


# faults of our own


SECRET = "password=hunter2"


async def test_a_fault_in_a_handler_tells_nothing_internal(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(account_id: str) -> None:
        raise ValueError(f"database {SECRET}")

    with monkeypatch.context() as patch:
        patch.setattr(desk.engine, "view", broken)
        before = heads(desk.engine)
        request = margin_service_pb2.CheckOrderRequest(account_id="desk-1", order=order(BUY, "1"))
        with caplog.at_level(logging.ERROR):
            failure = await failure_of(desk.channel, "MarginService/CheckOrder", request)
        assert heads(desk.engine) == before
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    told = f"{failure.message} {failure.metadata}"
    assert SECRET not in told and "ValueError" not in told
    incident = failure.metadata["incident"]
    assert incident in failure.message and incident in caplog.text and SECRET in caplog.text
    assert (await desk.margin.CheckOrder(request)).result is not None


async def test_a_fault_in_a_stream_tells_nothing_internal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(desk.engine, "accounts", lambda: 1 / 0)
        failure = await failure_of(
            desk.channel, "MarginService/WatchMargin", margin_service_pb2.WatchMarginRequest(), timeout=5
        )
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "Division" not in failure.message
    await until(lambda: desk.engine.hub.count == 0)


async def test_a_stray_cancellation_becomes_a_status(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(*given: Any, **named: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(desk.engine, "submit", cancelled)
        failure = await failure_of(
            desk.channel, "FundService/Deposit", fund_service_pb2.DepositRequest(**deposit_fields()), timeout=5
        )
    assert (failure.code, failure.reason) == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert failure.domain == "debt_mgmt"
    with monkeypatch.context() as patch:
        patch.setattr(desk.engine.hub, "add", cancel_now)
        failure = await failure_of(
            desk.channel, "MarginService/WatchMargin", margin_service_pb2.WatchMarginRequest(), timeout=5
        )
    assert failure.reason == "CANCELLED"


def cancel_now(watcher: object) -> None:
    raise asyncio.CancelledError


async def test_a_journal_that_is_down_makes_calls_wait_and_nothing_is_lost(desk: Desk) -> None:
    journal: Any = desk.engine.journal
    name = await open_fresh(desk)
    request = fund_service_pb2.DepositRequest(**deposit_fields(account_id=name, request_id="down"))
    journal.down = True
    try:
        failure = await failure_of(desk.channel, "FundService/Deposit", request, timeout=0.3)
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
        check = margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "0.01"))
        assert (await desk.margin.CheckOrder(check)).result.fits, "reading goes on"
    finally:
        journal.down = False
    answer = await desk.funds.Deposit(request)
    assert (answer.accepted, answer.balance.amount, reasons(answer.violations)) == (True, "10001", [])
