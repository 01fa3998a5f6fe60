"""What each method sends, and what it makes of the answer: one row a method, for both clients."""

import dataclasses
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from debt_mgmt.client import (
    AlertKind,
    AlertSeverity,
    AssetAmount,
    BatchMode,
    Instrument,
    MarginClient,
    MarkClock,
    MarkUpdate,
    Order,
    OrderRate,
    PositionSide,
    PriceShock,
    RiskTier,
    Side,
    SimulatedFill,
    SimulatedLeverage,
    SyncMarginClient,
)
from debt_mgmt.v1 import (
    market_service_pb2,
)
from tests.client import (
    requests_of_access,
    requests_of_audit,
    requests_of_changes,
    requests_of_halts,
    requests_of_limit_sets,
)
from tests.client.fake_service import FakeService
from tests.client.test_clients import HANDWRITTEN, METHODS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SENT_NOON = "2026-01-01T12:00:00Z"
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
    ("sync_account", ("alice",), ID, "SyncAccount", {**ID, **ALICE}, "SyncAccountOutcome"),
    (
        "set_dry_run",
        ("alice", True),
        {**ID, "reason": "tried for a week"},
        "SetDryRun",
        {**ID, **ALICE, "dry_run": True, "reason": "tried for a week"},
        "SetDryRunOutcome",
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
        "place_order",
        ("alice", BUY),
        {**ID, "time_to_live": timedelta(minutes=1), "client_order_id": "o1"},
        "PlaceOrder",
        {**ID, **ALICE, "order": SENT_BUY, "time_to_live": "60s", "client_order_id": "o1"},
        "PlaceOrderOutcome",
    ),
    (
        "place_order",
        ("alice", BUY),
        {**ID, "time_in_force": "ioc"},
        "PlaceOrder",
        {**ID, **ALICE, "order": SENT_BUY, "time_in_force": "TIME_IN_FORCE_IOC"},
        "PlaceOrderOutcome",
    ),
    (
        "cancel_order",
        ("alice", "2-4"),
        ID,
        "CancelOrder",
        {**ID, **ALICE, "order_id": "2-4"},
        "CancelOrderOutcome",
    ),
    ("orders", ("alice",), {}, "ListOrders", {**PAGE, **ALICE}, "PaperOrder"),
    (
        "orders",
        ("alice",),
        {"symbols": ["BTCUSDT"], "include_ended": True},
        "ListOrders",
        {**PAGE, **ALICE, "symbols": ["BTCUSDT"], "include_ended": True},
        "PaperOrder",
    ),
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
            "strategy": "momo",
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
            "strategy": "momo",
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
    (
        "fund_history",
        ("alice",),
        {"interval": "week", "start_time": NOON, "end_time": NOON},
        "ListFundHistory",
        {**PAGE, **ALICE, "interval": "FUND_INTERVAL_WEEK", "start_time": SENT_NOON, "end_time": SENT_NOON},
        "FundHistoryEntry",
    ),
    (
        "profit_and_loss",
        ("alice",),
        {"start_time": NOON},
        "ListFundHistory",
        {**ALICE, "page_size": 1, "interval": "FUND_INTERVAL_HOUR", "start_time": SENT_NOON},
        "PeriodProfit",
    ),
    ("borrow", ("alice", "BTC", 1), ID, "Borrow", {**ID, **ALICE, "asset": "BTC", "amount": "1"}, "BorrowOutcome"),
    ("repay", ("alice", "BTC"), ID, "Repay", {**ID, **ALICE, "asset": "BTC"}, "RepayOutcome"),
    ("debt_summary", ("alice",), {}, "GetDebtSummary", ALICE, "DebtSummary"),
    ("debt_summaries", (), {"owner": "desk"}, "GetDebtSummary", {"owner": "desk"}, "DebtSummary"),
    ("debts", (), {"asset": "BTC"}, "ListDebts", {**PAGE, "asset": "BTC"}, "Debt"),
    (
        "interest_charges",
        ("alice",),
        {"asset": "BTC", "start_time": NOON, "end_time": NOON},
        "ListInterestCharges",
        {**PAGE, **ALICE, "asset": "BTC", "start_time": SENT_NOON, "end_time": SENT_NOON},
        "InterestCharge",
    ),
    (
        "borrow_rates",
        ("alice",),
        {"assets": ["BTC"]},
        "ListBorrowRates",
        {**PAGE, **ALICE, "assets": ["BTC"]},
        "BorrowRate",
    ),
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
    (
        "acknowledge_alert",
        ("1-20",),
        {**ID, "note": "on it"},
        "AcknowledgeAlert",
        {**ID, "alert_id": "1-20", "note": "on it"},
        "AcknowledgeOutcome",
    ),
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
        "publish_funding_rate",
        ("BTCUSDT", "0.0001", NOON),
        {**ID, "mark_price": 50000},
        "PublishFundingRate",
        {**ID, "symbol": "BTCUSDT", "rate": "0.0001", "funding_time": SENT_NOON, "mark_price": "50000"},
        "FundingRateOutcome",
    ),
    ("funding_rates", (), {"symbols": ["A"]}, "ListFundingRates", {**PAGE, "symbols": ["A"]}, "FundingRate"),
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
            "marks": [{"symbol": "BTCUSDT", "price": "1.5", "source": "tape", "source_time": "2026-01-01T12:00:00Z"}],
            "clock": "MARK_CLOCK_TAPE",
            "settle": True,
        },
        "MarksPublished",
    ),
    *requests_of_audit.ROWS,
    *requests_of_access.ROWS,
    *requests_of_limit_sets.ROWS,
    *requests_of_halts.ROWS,
    *requests_of_changes.ROWS,
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


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda client: client.halt(), "give everything=True, or some of account_id, owner, strategy"),
        (lambda client: client.resume(account_id="a", everything=True), "give everything=True, or"),
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


def test_an_instrument_is_changed_by_replace(service: FakeService, sync_client: SyncMarginClient) -> None:
    sync_client.put_instrument(dataclasses.replace(BTC, max_leverage=Decimal(50), tiers=(TIER, TIER)))
    (request,) = service.sent("PutInstrument")
    assert isinstance(request, market_service_pb2.PutInstrumentRequest)
    assert request.instrument.max_leverage == "50"
    assert len(request.instrument.tiers) == 2
