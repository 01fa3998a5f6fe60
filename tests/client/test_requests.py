"""What each method sends, and what it makes of the answer: one row a method, for both clients."""

import dataclasses
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from debt_mgmt.client import (
    AlertKind,
    AlertSeverity,
    AssetAmount,
    BatchMode,
    CheckDetail,
    Instrument,
    InsufficientMargin,
    Listing,
    MarginClient,
    MarkClock,
    MarkUpdate,
    Order,
    OrderRate,
    PositionSide,
    PriceShock,
    Refused,
    RefusalReason,
    Revision,
    RiskTier,
    Side,
    SimulatedFill,
    SimulatedLeverage,
    StalePrices,
    SyncMarginClient,
    TradingStopped,
)
from debt_mgmt.v1 import (
    account_service_pb2,
    audit_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    rejections_pb2,
)
from tests.client.fake_service import FakeService, sample
from tests.client.test_clients import HANDWRITTEN, METHODS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BUY = Order.buy("BTCUSDT", "0.05", 50000)
SENT_BUY = {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": "0.05", "price": "50000"}
TIER = RiskTier(0, None, "0.004", 125)
BTC = Instrument(
    "BTCUSDT",
    base_asset="BTC",
    quote_asset="USDT",
    settle_asset="USDT",
    lot="0.001",
    tick="0.1",
    min_quantity="0.001",
    maker_fee_rate=0,
    taker_fee_rate="0.0005",
    max_leverage=125,
    tiers=[TIER],
)
SENT_BTC = {
    "symbol": "BTCUSDT",
    "kind": "INSTRUMENT_KIND_LINEAR",
    "base_asset": "BTC",
    "quote_asset": "USDT",
    "settle_asset": "USDT",
    "contract_size": "1",
    "lot": "0.001",
    "tick": "0.1",
    "min_quantity": "0.001",
    "maker_fee_rate": "0",
    "taker_fee_rate": "0.0005",
    "max_leverage": "125",
    "tiers": [{"notional_from": "0", "maintenance_rate": "0.004", "max_leverage": "125", "deduction": "0"}],
}
ID = {"request_id": "r1"}
ALICE = {"account_id": "alice"}
PAGE = {"page_size": 1000}

# Method, its arguments, the method of the service, what is sent, the type of the answer.
ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any], str]] = [
    ("create_account", ("alice",), ID, "CreateAccount", {**ID, **ALICE}, "AccountCreated"),
    (
        "create_account",
        ("alice",),
        {
            **ID,
            "owner": "desk",
            "broker": "paper",
            "environment": "sandbox",
            "currency": "USDT",
            "position_mode": "hedge",
            "margin_mode": "isolated",
            "initial_deposit": AssetAmount("USDT", 1000),
            "dry_run": False,
        },
        "CreateAccount",
        {
            **ID,
            **ALICE,
            "owner": "desk",
            "broker": "paper",
            "environment": "ENVIRONMENT_SANDBOX",
            "currency": "USDT",
            "position_mode": "POSITION_MODE_HEDGE",
            "margin_mode": "MARGIN_MODE_ISOLATED",
            "initial_deposit": {"asset": "USDT", "amount": "1000"},
            "dry_run": False,
        },
        "AccountCreated",
    ),
    ("account", ("alice",), {}, "GetAccount", ALICE, "Account"),
    (
        "accounts",
        (),
        {"owner": "desk", "include_closed": True},
        "ListAccounts",
        {**PAGE, "owner": "desk", "include_closed": True},
        "Account",
    ),
    (
        "close_account",
        ("alice",),
        {**ID, "reason": "done"},
        "CloseAccount",
        {**ID, **ALICE, "reason": "done"},
        "CloseAccountOutcome",
    ),
    ("brokers", (), {}, "ListBrokers", PAGE, "Broker"),
    ("portfolio", ("alice",), {}, "GetPortfolio", ALICE, "Portfolio"),
    ("portfolios", (), {"owner": "desk"}, "GetPortfolio", {"owner": "desk"}, "Portfolio"),
    ("margin_status", ("alice",), {}, "GetMarginStatus", ALICE, "MarginStatus"),
    (
        "positions",
        ("alice",),
        {"symbols": ["BTCUSDT"]},
        "ListPositions",
        {**PAGE, **ALICE, "symbols": ["BTCUSDT"]},
        "Position",
    ),
    ("check_order", ("alice", BUY), {}, "CheckOrder", {**ALICE, "order": SENT_BUY}, "OrderCheck"),
    (
        "check_order",
        ("alice", Order("BTCUSDT", "sell", 1, reduce_only=True, position_side=PositionSide.LONG)),
        {},
        "CheckOrder",
        {
            **ALICE,
            "order": {
                "symbol": "BTCUSDT",
                "side": "SIDE_SELL",
                "quantity": "1",
                "reduce_only": True,
                "position_side": "POSITION_SIDE_LONG",
            },
        },
        "OrderCheck",
    ),
    (
        "check_orders",
        ("alice", [BUY, BUY]),
        {},
        "BatchCheckOrders",
        {
            **ALICE,
            "orders": [SENT_BUY, SENT_BUY],
            "mode": "BATCH_MODE_SEQUENTIAL",
            "detail": "CHECK_DETAIL_FIGURES",
        },
        "BatchCheck",
    ),
    (
        "check_orders",
        ("alice", (BUY,)),
        {"mode": BatchMode.INDEPENDENT, "detail": "full"},
        "BatchCheckOrders",
        {**ALICE, "orders": [SENT_BUY], "mode": "BATCH_MODE_INDEPENDENT", "detail": "CHECK_DETAIL_FULL"},
        "BatchCheck",
    ),
    (
        "reserve",
        ("alice", BUY),
        {**ID, "time_to_live": timedelta(minutes=1), "client_order_id": "o1"},
        "ReserveMargin",
        {**ID, **ALICE, "order": SENT_BUY, "time_to_live": "60s", "client_order_id": "o1"},
        "ReserveOutcome",
    ),
    (
        "reserve",
        ("alice", BUY),
        {**ID, "time_to_live": 1.5},
        "ReserveMargin",
        {**ID, **ALICE, "order": SENT_BUY, "time_to_live": "1.500s"},
        "ReserveOutcome",
    ),
    (
        "release",
        ("alice", "2-4"),
        {**ID, "quantity": "0.01"},
        "ReleaseReservation",
        {**ID, **ALICE, "reservation_id": "2-4", "quantity": "0.01"},
        "ReleaseOutcome",
    ),
    ("reservations", ("alice",), {}, "ListReservations", {**PAGE, **ALICE}, "Reservation"),
    (
        "record_fill",
        ("alice", "BTCUSDT", Side.BUY, "0.05", 50000),
        {
            **ID,
            "fill_id": "f1",
            "fee": "-0.5",
            "fee_asset": "USDT",
            "reservation_id": "2-4",
            "order_id": "o1",
            "fill_time": NOON,
        },
        "RecordFill",
        {
            **ID,
            **ALICE,
            "symbol": "BTCUSDT",
            "side": "SIDE_BUY",
            "quantity": "0.05",
            "price": "50000",
            "fill_id": "f1",
            "fee": "-0.5",
            "fee_asset": "USDT",
            "reservation_id": "2-4",
            "order_id": "o1",
            "fill_time": "2026-01-01T12:00:00Z",
        },
        "FillOutcome",
    ),
    (
        "close_position",
        ("alice", "BTCUSDT"),
        {**ID, "quantity": 1, "reason": "enough", "position_side": "short"},
        "ClosePosition",
        {
            **ID,
            **ALICE,
            "symbol": "BTCUSDT",
            "quantity": "1",
            "reason": "enough",
            "position_side": "POSITION_SIDE_SHORT",
        },
        "ClosePositionOutcome",
    ),
    (
        "liquidations",
        ("alice",),
        {"cause": "forced", "limit": 5},
        "ListLiquidations",
        {**ALICE, "page_size": 5, "cause": "LIQUIDATION_CAUSE_FORCED"},
        "Liquidation",
    ),
    ("simulate", ("alice",), {}, "SimulateMargin", ALICE, "Simulation"),
    (
        "simulate",
        (
            "alice",
            [
                BUY,
                SimulatedFill("BTCUSDT", "sell", 1),
                PriceShock("-0.10"),
                PriceShock(price=40000, symbol="BTCUSDT"),
                SimulatedLeverage("BTCUSDT", 3),
                AssetAmount("USDT", -5),
            ],
        ),
        {},
        "SimulateMargin",
        {
            **ALICE,
            "changes": [
                {"order": SENT_BUY},
                {"fill": {"symbol": "BTCUSDT", "side": "SIDE_SELL", "quantity": "1"}},
                {"price_shock": {"fraction": "-0.10"}},
                {"price_shock": {"price": "40000", "symbol": "BTCUSDT"}},
                {"leverage": {"symbol": "BTCUSDT", "leverage": "3"}},
                {"deposit": {"asset": "USDT", "amount": "-5"}},
            ],
        },
        "Simulation",
    ),
    ("leverage", ("alice", "BTCUSDT"), {}, "GetLeverage", {**ALICE, "symbol": "BTCUSDT"}, "LeverageSetting"),
    ("leverages", ("alice",), {}, "ListLeverage", {**PAGE, **ALICE}, "LeverageSetting"),
    (
        "set_leverage",
        ("alice", "BTCUSDT", "2.5"),
        {**ID, "validate_only": True, "broker": "paper"},
        "SetLeverage",
        {**ID, **ALICE, "symbol": "BTCUSDT", "leverage": "2.5", "validate_only": True, "broker": "paper"},
        "SetLeverageOutcome",
    ),
    (
        "set_margin_mode",
        ("alice", "BTCUSDT", "isolated"),
        ID,
        "SetMarginMode",
        {**ID, **ALICE, "symbol": "BTCUSDT", "margin_mode": "MARGIN_MODE_ISOLATED"},
        "SetMarginModeOutcome",
    ),
    (
        "adjust_isolated_margin",
        ("alice", "BTCUSDT", -10),
        ID,
        "AdjustIsolatedMargin",
        {**ID, **ALICE, "symbol": "BTCUSDT", "amount": "-10"},
        "AdjustIsolatedMarginOutcome",
    ),
    ("leverage_limits", ("alice",), {}, "ListLeverageLimits", {**PAGE, **ALICE}, "LeverageLimits"),
    ("funds", ("alice",), {}, "GetFunds", ALICE, "Funds"),
    (
        "deposit",
        ("alice", "USDT", 10),
        {**ID, "reason": "more"},
        "Deposit",
        {**ID, **ALICE, "asset": "USDT", "amount": "10", "reason": "more"},
        "DepositOutcome",
    ),
    (
        "withdraw",
        ("alice", "USDT", Decimal("1E+1")),
        ID,
        "Withdraw",
        {**ID, **ALICE, "asset": "USDT", "amount": "10"},
        "WithdrawOutcome",
    ),
    ("reset_funds", ("alice",), ID, "ResetFunds", {**ID, **ALICE}, "ResetFundsOutcome"),
    ("risk_limits", ("alice",), {}, "GetRiskLimits", ALICE, "RiskLimitsStatus"),
    (
        "set_risk_limits",
        ("alice",),
        {
            **ID,
            "max_leverage": 3,
            "max_daily_loss": None,
            "max_open_reservations": 7,
            "max_order_rate": OrderRate(10, timedelta(seconds=1)),
            "breaker_cool_down": 60,
            "reason": "careful",
        },
        "SetRiskLimits",
        {
            **ID,
            **ALICE,
            "limits": {
                "max_leverage": "3",
                "max_open_reservations": 7,
                "max_order_rate": {"orders": 10, "interval": "1s"},
                "breaker_cool_down": "60s",
            },
            "update_mask": "maxLeverage,maxDailyLoss,maxOpenReservations,maxOrderRate,breakerCoolDown",
            "reason": "careful",
        },
        "SetRiskLimitsOutcome",
    ),
    ("halt", (), {**ID, **ALICE, "reason": "why"}, "HaltTrading", {**ID, **ALICE, "reason": "why"}, "HaltOutcome"),
    ("halt", (), {**ID, "everything": True}, "HaltTrading", {**ID, "everything": True}, "HaltOutcome"),
    ("resume", (), {**ID, "owner": "desk"}, "ResumeTrading", {**ID, "owner": "desk"}, "ResumeOutcome"),
    (
        "alerts",
        (),
        {
            "kinds": [AlertKind.LEVEL_RAISED, "bankruptcy"],
            "min_severity": AlertSeverity.WARNING,
            "unacknowledged_only": True,
            "start_time": NOON,
            "end_time": NOON,
        },
        "ListAlerts",
        {
            **PAGE,
            "kinds": ["ALERT_KIND_LEVEL_RAISED", "ALERT_KIND_BANKRUPTCY"],
            "min_severity": "ALERT_SEVERITY_WARNING",
            "unacknowledged_only": True,
            "start_time": "2026-01-01T12:00:00Z",
            "end_time": "2026-01-01T12:00:00Z",
        },
        "Alert",
    ),
    ("put_instrument", (BTC,), ID, "PutInstrument", {**ID, "instrument": SENT_BTC}, "InstrumentPut"),
    ("instruments", (), {"symbols": ["A"]}, "ListInstruments", {**PAGE, "symbols": ["A"]}, "Instrument"),
    ("marks", (), {}, "ListMarks", PAGE, "Mark"),
    (
        "publish_marks",
        ({"BTCUSDT": 50000},),
        {},
        "PublishMarks",
        {"marks": [{"symbol": "BTCUSDT", "price": "50000", "source": "sdk"}], "clock": "MARK_CLOCK_LIVE"},
        "MarksPublished",
    ),
    (
        "publish_marks",
        ([MarkUpdate("BTCUSDT", "1.5", source="tape", source_time=NOON)],),
        {"clock": MarkClock.TAPE, "settle": True},
        "PublishMarks",
        {
            "marks": [
                {"symbol": "BTCUSDT", "price": "1.5", "source": "tape", "source_time": "2026-01-01T12:00:00Z"}
            ],
            "clock": "MARK_CLOCK_TAPE",
            "settle": True,
        },
        "MarksPublished",
    ),
    (
        "audit_events",
        ("alice",),
        {"kinds": ["MarginReserved"], "actor": "desk", "request_id": "r9", "newest_first": True, "limit": 2000},
        "ListAuditEvents",
        {
            **PAGE,
            **ALICE,
            "kinds": ["MarginReserved"],
            "actor": "desk",
            "request_id": "r9",
            "newest_first": True,
        },
        "AuditEvent",
    ),
]


def sent(service: FakeService, method: str) -> dict[str, Any]:
    (request,) = service.sent(method)
    return {
        name: value
        for name, value in MessageToDict(request, preserving_proto_field_name=True).items()
        if value is not False or name == "dry_run"
    }


def kind_of(answer: Any) -> str:
    return type(answer[0] if isinstance(answer, list | tuple) else answer).__name__


def test_every_method_has_a_row() -> None:
    assert {row[0] for row in ROWS} == METHODS - HANDWRITTEN


@pytest.mark.parametrize(("name", "args", "kwargs", "method", "request_sent", "kind"), ROWS)
async def test_a_method_sends_this_and_answers_that(
    service: FakeService,
    client: MarginClient,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    method: str,
    request_sent: dict[str, Any],
    kind: str,
) -> None:
    answering = getattr(client, name)(*args, **kwargs)
    answer = [item async for item in answering] if isinstance(answering, AsyncIterator) else await answering
    assert sent(service, method) == request_sent
    assert kind_of(answer) == kind


@pytest.mark.parametrize(("name", "args", "kwargs", "method", "request_sent", "kind"), ROWS)
def test_the_blocking_client_sends_and_answers_the_same(
    service: FakeService,
    sync_client: SyncMarginClient,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    method: str,
    request_sent: dict[str, Any],
    kind: str,
) -> None:
    answer = getattr(sync_client, name)(*args, **kwargs)
    if isinstance(answer, Iterator):
        answer = list(answer)
    assert sent(service, method) == request_sent
    assert kind_of(answer) == kind


async def test_an_answer_says_as_of_when_it_holds(service: FakeService, client: MarginClient) -> None:
    response = sample(margin_service_pb2.CheckOrderResponse)
    response.revision.shard, response.revision.position = 3, 41
    service.on("CheckOrder", lambda *_: response)
    check = await client.check_order("alice", BUY)
    assert check.revision == Revision(3, 41)
    assert check.as_of.tzinfo is UTC
    positions = await client.positions("alice")
    assert isinstance(positions, Listing)
    assert positions.revision == Revision(1, 1)
    assert positions.as_of == check.as_of


def violated(*reasons: RefusalReason) -> list[rejections_pb2.Violation]:
    return [
        rejections_pb2.Violation(
            reason=rejections_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason}"), message="required 1100", value="1100"
        )
        for reason in reasons
    ]


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        ((RefusalReason.INSUFFICIENT_MARGIN, RefusalReason.UTILIZATION_AFTER), InsufficientMargin),
        ((RefusalReason.MISSING_MARK,), StalePrices),
        ((RefusalReason.TRADING_HALTED, RefusalReason.INSUFFICIENT_MARGIN), TradingStopped),
        ((RefusalReason.QUANTITY_STEP,), Refused),
    ],
)
async def test_a_refusal_is_a_value_that_can_be_raised(
    service: FakeService, client: MarginClient, reasons: tuple[RefusalReason, ...], kind: type[Refused]
) -> None:
    no = margin_service_pb2.CheckResult(violations=violated(*reasons), largest_buy="0.08")
    response = sample(margin_service_pb2.CheckOrderResponse)
    response.result.CopyFrom(no)
    service.on("CheckOrder", lambda *_: response)
    check = await client.check_order("alice", BUY)
    assert not check.fits
    assert check.largest_buy == Decimal("0.08")
    assert check.violations[0].value == 1100
    assert check.violations[0].limit is None
    with pytest.raises(Refused, match="required 1100") as caught:
        check.raise_if_refused()
    assert type(caught.value) is kind
    assert caught.value.reasons == reasons
    assert caught.value.answer is check


async def test_a_refused_reservation_has_no_id(service: FakeService, client: MarginClient) -> None:
    response = sample(margin_service_pb2.ReserveMarginResponse)
    assert (await client.reserve("alice", BUY)).raise_if_refused().reservation_id == "1"
    response.accepted = False
    response.ClearField("reservation")
    response.ClearField("violations")
    response.violations.extend(violated(RefusalReason.INSUFFICIENT_MARGIN))
    service.on("ReserveMargin", lambda *_: response)
    outcome = await client.reserve("alice", BUY)
    assert not outcome.accepted
    assert outcome.reservation is None
    with pytest.raises(InsufficientMargin):
        _ = outcome.reservation_id
    with pytest.raises(InsufficientMargin):
        outcome.raise_if_refused()


class Shelf:
    """Events on pages of two."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, request: audit_service_pb2.ListAuditEventsRequest, _: Any) -> Any:
        start = int(request.page_token or 0)
        response = sample(audit_service_pb2.ListAuditEventsResponse)
        event = response.events.pop()
        for number in range(start, min(start + 2, self.count)):
            event.kind = f"E{number}"
            response.events.append(event)
        response.next_page_token = str(start + 2) if start + 2 < self.count else ""
        return response


@pytest.mark.parametrize(("limit", "given", "pages"), [(None, 5, 3), (3, 3, 2), (2, 2, 1), (9, 5, 3)])
async def test_a_history_reads_no_page_too_many(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient, limit: int | None, given: int, pages: int
) -> None:
    service.on("ListAuditEvents", Shelf(5))
    kinds = [event.kind async for event in client.audit_events(limit=limit)]
    assert kinds == [f"E{number}" for number in range(given)]
    assert len(service.sent("ListAuditEvents")) == pages
    assert [event.kind for event in sync_client.audit_events(limit=limit)] == kinds


def test_a_history_is_read_while_it_is_walked(service: FakeService, sync_client: SyncMarginClient) -> None:
    service.on("ListAuditEvents", Shelf(5))
    events = sync_client.audit_events()
    assert not service.requests
    assert next(events).kind == "E0"
    assert len(service.requests) == 1


def test_a_listing_holds_every_page(service: FakeService, sync_client: SyncMarginClient) -> None:
    def listing(request: account_service_pb2.ListAccountsRequest, _: Any) -> Any:
        response = sample(account_service_pb2.ListAccountsResponse)
        response.next_page_token = {"": "a", "a": "b", "b": ""}[request.page_token]
        return response

    service.on("ListAccounts", listing)
    assert len(sync_client.accounts(owner="desk")) == 3
    assert [request.page_token for request in service.sent("ListAccounts")] == ["", "a", "b"]
    assert {request.owner for request in service.sent("ListAccounts")} == {"desk"}


def test_a_list_that_goes_in_circles_is_an_error(service: FakeService, sync_client: SyncMarginClient) -> None:
    response = sample(account_service_pb2.ListAccountsResponse)
    response.next_page_token = "again"
    service.on("ListAccounts", lambda *_: response)
    with pytest.raises(Exception, match="ListAccounts gave the same page again"):
        sync_client.accounts()


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda client: client.halt(), "give one of account_id, owner and everything=True"),
        (lambda client: client.resume(account_id="a", everything=True), "give one of"),
        (lambda client: client.set_risk_limits("a"), "name at least one limit"),
        (lambda client: list(client.alerts(limit=0)), "limit must be above zero"),
        (lambda client: client.reserve("a", BUY, time_to_live=0), "time_to_live must be above zero"),
        (lambda client: client.set_margin_mode("a", "B", "sideways"), "margin_mode must be one of CROSS, ISOLATED"),
        (lambda client: client.check_orders("a", [BUY], detail="some"), "detail must be one of FIGURES, FULL"),
        (lambda _: PriceShock("0.1", price=1, symbol="B"), "a fraction or a price"),
        (lambda _: PriceShock(price=1), "needs a symbol"),
        (lambda _: Order("B", "long", 1), "'long' is no Side"),
    ],
)
def test_what_makes_no_sense_is_not_sent(
    service: FakeService, sync_client: SyncMarginClient, call: Any, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        call(sync_client)
    assert not service.requests


def test_a_change_of_another_kind_is_refused(sync_client: SyncMarginClient) -> None:
    with pytest.raises(TypeError, match="a change is one of Order, SimulatedFill"):
        sync_client.simulate("alice", ["crash"])  # type: ignore[list-item]


def test_many_prices_are_sent_in_batches(service: FakeService, sync_client: SyncMarginClient) -> None:
    sync_client.publish_marks({f"S{number}": 1 for number in range(2500)})
    assert [len(request.marks) for request in service.sent("PublishMarks")] == [1000, 1000, 500]


def test_an_event_s_payload_is_decoded(service: FakeService, sync_client: SyncMarginClient) -> None:
    response = sample(audit_service_pb2.ListAuditEventsResponse)
    response.events[0].payload = '{"quantity": "0.05"}'
    service.on("ListAuditEvents", lambda *_: response)
    (event,) = sync_client.audit_events()
    assert event.fields() == {"quantity": "0.05"}


def test_an_instrument_is_changed_by_replace(service: FakeService, sync_client: SyncMarginClient) -> None:
    sync_client.put_instrument(dataclasses.replace(BTC, max_leverage=50, tiers=[TIER, TIER]))
    (request,) = service.sent("PutInstrument")
    assert isinstance(request, market_service_pb2.PutInstrumentRequest)
    assert request.instrument.max_leverage == "50"
    assert len(request.instrument.tiers) == 2


async def test_streamed_checks_come_in_order_with_their_orders(service: FakeService, client: MarginClient) -> None:
    orders = [("alice", Order.buy("BTCUSDT", number)) for number in range(1, 6)]
    service.on("StreamCheckOrders", check_stream)

    async def later() -> AsyncIterator[tuple[str, Order]]:
        for each in orders:
            yield each

    checks = [check async for check in client.stream_checks(later(), detail=CheckDetail.FULL)]
    assert [(check.account_id, check.order) for check in checks] == orders
    assert [check.sequence for check in checks] == [0, 1, 2, 3, 4]
    assert [check.check is not None for check in checks] == [True, True, False, True, True]
    assert checks[0].result().fits
    with pytest.raises(Exception, match="no such account") as caught:
        checks[2].result()
    assert type(caught.value).__name__ == "AccountNotFound"
    assert caught.value.code is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    assert {request.detail for request in service.sent("StreamCheckOrders")} == {margin_service_pb2.CHECK_DETAIL_FULL}


def check_stream(requests: Iterator[margin_service_pb2.StreamCheckOrdersRequest], _: Any) -> Iterator[Any]:
    """Fits everything but a quantity of 3."""
    for request in requests:
        response = sample(margin_service_pb2.StreamCheckOrdersResponse)
        response.sequence = request.sequence
        if request.order.quantity == "3":
            error = response.error
            error.reason, error.message = rejections_pb2.ERROR_REASON_ACCOUNT_NOT_FOUND, "no such account"
        else:
            response.result.CopyFrom(sample(margin_service_pb2.CheckResult))
        yield response


def test_the_blocking_client_streams_checks_too(service: FakeService, sync_client: SyncMarginClient) -> None:
    service.on("StreamCheckOrders", check_stream)
    orders = [("alice", Order.buy("BTCUSDT", number)) for number in range(1, 6)]
    checks = list(sync_client.stream_checks(iter(orders)))
    assert [(check.account_id, check.order) for check in checks] == orders
    assert [check.error is None for check in checks] == [True, True, False, True, True]


def broken_feed() -> Iterator[Any]:
    yield "alice", Order.buy("BTCUSDT", 1)
    raise RuntimeError("the strategy broke")


async def test_what_the_caller_s_iterator_raises_is_raised_after_the_answers(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient
) -> None:
    service.on("StreamCheckOrders", check_stream)
    answered = []
    with pytest.raises(RuntimeError, match="the strategy broke"):
        async for check in client.stream_checks(broken_feed()):
            answered.append(check)
    with pytest.raises(RuntimeError, match="the strategy broke"):
        for check in sync_client.stream_checks(broken_feed()):
            answered.append(check)
    assert len(answered) == 2


async def test_a_stream_of_checks_can_be_left(service: FakeService, client: MarginClient) -> None:
    service.on("StreamCheckOrders", check_stream)

    def endless() -> Iterator[tuple[str, Order]]:
        while True:
            yield "alice", Order.buy("BTCUSDT", 1)

    checks = client.stream_checks(endless())
    async for check in checks:
        if check.sequence == 3:
            break
    await checks.aclose()
    await client.account("alice")


async def test_prices_are_fed_over_one_stream(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient
) -> None:
    async def ticks() -> AsyncIterator[dict[str, int]]:
        yield {"BTCUSDT": 1}
        yield {"BTCUSDT": 2}

    published = await client.feed_marks(ticks(), settle=True)
    assert published.accepted_count == 1
    sync_client.feed_marks([{"BTCUSDT": 3}, [MarkUpdate("ETHUSDT", 4)]], clock="tape")
    requests = service.sent("PublishMarks")
    assert [mark.price for request in requests for mark in request.marks] == ["1", "2", "3", "4"]
    assert len(service.metadata) == 2
    assert [request.settle for request in requests] == [True, True, False, False]
