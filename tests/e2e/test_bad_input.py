"""Malformed requests: a clear typed error that names every bad field, nothing journaled, and the service goes on."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.v1 import (
    account_service_pb2 as accounts,
)
from debt_mgmt.v1 import (
    audit_service_pb2 as audit,
)
from debt_mgmt.v1 import (
    fund_service_pb2 as funds,
)
from debt_mgmt.v1 import (
    leverage_service_pb2 as leverage,
)
from debt_mgmt.v1 import (
    margin_service_pb2 as margin,
)
from debt_mgmt.v1 import (
    market_service_pb2 as market,
)
from debt_mgmt.v1 import (
    risk_service_pb2 as risk,
)
from debt_mgmt.v1 import (
    types_pb2,
)
from tests.e2e.books import BUY, LONG, inverse_contract, open_hedge, order
from tests.support.service import Clock, Desk, service
from tests.support.wire import Failure, call, failure_of, heads

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")

MALFORMED = [
    "",
    "NaN",
    "Infinity",
    "1e5",
    "1E5",
    "1_000",
    "1,000",
    "１２",
    "9" * 400,
    "+1",
    " 1",
    "1 ",
    ".5",
    "1.",
    "01",
    "0x10",
    "--1",
    "1\n",
    "0." + "1" * 19,
    "1" * 21,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as running:
        await running.open("one-way", "10000", "USDT")
        await running.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
        await running.fill("one-way", BUY, "0.1", "BTCUSDT", "60000")
        await open_hedge(running)
        yield running


async def fails(desk: Desk, name: str, *requests: Message | bytes, timeout: float = 10.0) -> Failure:
    """The failure of a call that must leave no trace."""
    before = heads(desk.engine)
    failure = await failure_of(desk.channel, name, *requests, timeout=timeout)
    assert heads(desk.engine) == before, "something was journaled"
    assert (await desk.status("one-way")).account_id == "one-way", "the service no longer answers"
    return failure


class Case(NamedTuple):
    name: str
    request: Message
    fields: list[str]


def decimal_places(bad: str) -> list[Case]:
    """Every decimal of every request, each in a request that is fine otherwise."""
    mutation: dict[str, Any] = {"request_id": "bad-decimal", "account_id": "one-way"}
    shock, fill = margin.PriceShock, margin.SimulatedFill

    def what_if(change: margin.MarginChange) -> Message:
        return margin.SimulateMarginRequest(account_id="one-way", changes=[margin.MarginChange(), change])

    def put(**fields: Any) -> Message:
        instrument = inverse_contract()
        for name, value in fields.items():
            setattr(instrument, name, value)
        return market.PutInstrumentRequest(request_id="bad-decimal", instrument=instrument)

    tier = types_pb2.RiskTier(notional_from=bad, maintenance_rate=bad, max_leverage=bad, deduction=bad, notional_to=bad)
    tiers = inverse_contract()
    tiers.tiers.append(tier)
    wanted = ["quantity", "price"]
    return [
        Case(
            "MarginService/CheckOrder",
            margin.CheckOrderRequest(account_id="one-way", order=order(BUY, bad, price=bad)),
            [f"order.{field}" for field in wanted],
        ),
        Case(
            "MarginService/BatchCheckOrders",
            margin.BatchCheckOrdersRequest(
                account_id="one-way", orders=[order(BUY, "1"), order(BUY, bad), order(BUY, "1", price=bad)]
            ),
            ["orders[1].quantity", "orders[2].price"],
        ),
        Case(
            "MarginService/ReserveMargin",
            margin.ReserveMarginRequest(**mutation, order=order(BUY, bad, price=bad)),
            ["order.price", "order.quantity"],
        ),
        Case(
            "MarginService/ReleaseReservation",
            margin.ReleaseReservationRequest(**mutation, reservation_id="1-1", quantity=bad),
            ["quantity"],
        ),
        Case(
            "MarginService/RecordFill",
            margin.RecordFillRequest(
                **mutation, symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity=bad, price=bad, fee=bad, fill_id="f"
            ),
            ["fee", "price", "quantity"],
        ),
        Case(
            "MarginService/ClosePosition",
            margin.ClosePositionRequest(**mutation, symbol="BTCUSDT", quantity=bad),
            ["quantity"],
        ),
        Case(
            "MarginService/SimulateMargin",
            what_if(margin.MarginChange(fill=fill(symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity=bad, price=bad))),
            ["changes[0]", "changes[1].fill.price", "changes[1].fill.quantity"],
        ),
        Case(
            "MarginService/SimulateMargin",
            what_if(margin.MarginChange(price_shock=shock(fraction=bad))),
            ["changes[0]", "changes[1].price_shock.fraction"],
        ),
        Case(
            "MarginService/SimulateMargin",
            what_if(margin.MarginChange(price_shock=shock(symbol="BTCUSDT", price=bad))),
            ["changes[0]", "changes[1].price_shock.price"],
        ),
        Case(
            "MarginService/SimulateMargin",
            what_if(margin.MarginChange(leverage=margin.SimulatedLeverage(symbol="BTCUSDT", leverage=bad))),
            ["changes[0]", "changes[1].leverage.leverage"],
        ),
        Case(
            "MarginService/SimulateMargin",
            what_if(margin.MarginChange(deposit=types_pb2.AssetAmount(asset="USDT", amount=bad))),
            ["changes[0]", "changes[1].deposit.amount"],
        ),
        Case(
            "LeverageService/SetLeverage",
            leverage.SetLeverageRequest(**mutation, symbol="BTCUSDT", leverage=bad),
            ["leverage"],
        ),
        Case(
            "LeverageService/AdjustIsolatedMargin",
            leverage.AdjustIsolatedMarginRequest(**mutation, symbol="BTCUSDT", amount=bad),
            ["amount"],
        ),
        Case("FundService/Deposit", funds.DepositRequest(**mutation, asset="USDT", amount=bad), ["amount"]),
        Case("FundService/Withdraw", funds.WithdrawRequest(**mutation, asset="USDT", amount=bad), ["amount"]),
        Case(
            "AccountService/CreateAccount",
            accounts.CreateAccountRequest(
                request_id="r", account_id="new", initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=bad)
            ),
            ["initial_deposit.amount"],
        ),
        Case(
            "RiskService/SetRiskLimits",
            risk.SetRiskLimitsRequest(
                **mutation,
                limits=risk.RiskLimits(
                    max_leverage=bad,
                    max_position_quantity=bad,
                    max_position_notional=bad,
                    max_exposure_notional=bad,
                    max_daily_loss=bad,
                    max_daily_loss_fraction=bad,
                    max_drawdown_fraction=bad,
                ),
            ),
            [
                f"limits.{field}"
                for field in (
                    "max_daily_loss",
                    "max_daily_loss_fraction",
                    "max_drawdown_fraction",
                    "max_exposure_notional",
                    "max_leverage",
                    "max_position_notional",
                    "max_position_quantity",
                )
            ],
        ),
        Case(
            "MarketService/PutInstrument",
            put(
                contract_size=bad,
                lot=bad,
                tick=bad,
                min_quantity=bad,
                max_quantity=bad,
                min_notional=bad,
                maker_fee_rate=bad,
                taker_fee_rate=bad,
                max_leverage=bad,
            ),
            [
                f"instrument.{field}"
                for field in (
                    "contract_size",
                    "lot",
                    "maker_fee_rate",
                    "max_leverage",
                    "max_quantity",
                    "min_notional",
                    "min_quantity",
                    "taker_fee_rate",
                    "tick",
                )
            ],
        ),
        Case(
            "MarketService/PutInstrument",
            market.PutInstrumentRequest(request_id="r", instrument=tiers),
            [
                f"instrument.tiers[1].{field}"
                for field in ("deduction", "maintenance_rate", "max_leverage", "notional_from", "notional_to")
            ],
        ),
    ]


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: repr(bad)[:12])
async def test_a_malformed_decimal_is_named_wherever_it_stands(desk: Desk, bad: str) -> None:
    for name, request, fields in decimal_places(bad):
        failure = await fails(desk, name, request)
        assert (failure.code, failure.reason) == INVALID, name
        assert failure.domain == "debt_mgmt"
        assert failure.fields == sorted(fields), name


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: repr(bad)[:12])
async def test_a_malformed_price_is_held_back_and_the_stream_goes_on(desk: Desk, bad: str) -> None:
    before = heads(desk.engine)
    batch = market.PublishMarksRequest(marks=[market.MarkUpdate(symbol="BTCUSDT", price=bad)])
    fine = market.PublishMarksRequest(marks=[market.MarkUpdate(symbol="ETHUSDT", price="3000")])
    answer = await call(desk.channel, "MarketService/PublishMarks", batch, fine)
    assert (answer.accepted_count, answer.quarantined_count) == (1, 1)
    assert answer.quarantined[0].reason == market.QUARANTINE_REASON_INVALID_PRICE
    assert desk.engine.marks["BTCUSDT"].price == 60000
    assert heads(desk.engine) == before


def required_places(amount: str) -> list[Case]:
    """Numbers that must be above zero."""
    mutation: dict[str, Any] = {"request_id": "not-above-zero", "account_id": "one-way"}
    side = types_pb2.SIDE_BUY
    return [
        Case(
            "MarginService/CheckOrder",
            margin.CheckOrderRequest(account_id="one-way", order=order(BUY, amount, price=amount)),
            ["order.price", "order.quantity"],
        ),
        Case(
            "MarginService/ReserveMargin",
            margin.ReserveMarginRequest(**mutation, order=order(BUY, amount)),
            ["order.quantity"],
        ),
        Case(
            "MarginService/ReleaseReservation",
            margin.ReleaseReservationRequest(**mutation, reservation_id="1-1", quantity=amount),
            ["quantity"],
        ),
        Case(
            "MarginService/RecordFill",
            margin.RecordFillRequest(
                **mutation, symbol="BTCUSDT", side=side, quantity=amount, price=amount, fill_id="f"
            ),
            ["price", "quantity"],
        ),
        Case(
            "MarginService/ClosePosition",
            margin.ClosePositionRequest(**mutation, symbol="BTCUSDT", quantity=amount),
            ["quantity"],
        ),
        Case("FundService/Deposit", funds.DepositRequest(**mutation, asset="USDT", amount=amount), ["amount"]),
        Case("FundService/Withdraw", funds.WithdrawRequest(**mutation, asset="USDT", amount=amount), ["amount"]),
        Case(
            "LeverageService/SetLeverage",
            leverage.SetLeverageRequest(**mutation, symbol="BTCUSDT", leverage=amount),
            ["leverage"],
        ),
        Case(
            "RiskService/SetRiskLimits",
            risk.SetRiskLimitsRequest(**mutation, limits=risk.RiskLimits(max_daily_loss=amount)),
            ["limits.max_daily_loss"],
        ),
    ]


@pytest.mark.parametrize("amount", ["0", "0.000", "-0", "-1", "-0.000000000000000001"])
async def test_quantities_and_amounts_must_be_above_zero(desk: Desk, amount: str) -> None:
    for name, request, fields in required_places(amount):
        failure = await fails(desk, name, request)
        assert (failure.code, failure.reason, failure.fields) == (*INVALID, fields), name


def at(**fields: Any) -> dict[str, Any]:
    return {"request_id": "bad", "account_id": "one-way", **fields}


UNKNOWN: Any = 9
"""A number that no enum has."""

LONG_NAME = "x" * 65
WORDS = "x" * 501
CASES: list[Case] = [
    # ids and texts
    Case("MarginService/GetMarginStatus", margin.GetMarginStatusRequest(account_id=""), ["account_id"]),
    Case("MarginService/GetMarginStatus", margin.GetMarginStatusRequest(account_id="a b"), ["account_id"]),
    Case("MarginService/GetMarginStatus", margin.GetMarginStatusRequest(account_id=LONG_NAME), ["account_id"]),
    Case("MarginService/GetMarginStatus", margin.GetMarginStatusRequest(account_id="a\x00b"), ["account_id"]),
    Case(
        "MarginService/CheckOrder",
        margin.CheckOrderRequest(account_id="one-way", order=order(BUY, "1", "BTC USDT")),
        ["order.symbol"],
    ),
    Case(
        "MarginService/CheckOrder",
        margin.CheckOrderRequest(account_id="one-way"),
        ["order.quantity", "order.side", "order.symbol"],
    ),
    Case(
        "MarginService/ReserveMargin",
        margin.ReserveMarginRequest(**at(request_id=LONG_NAME, client_order_id="é"), order=order(BUY, "1")),
        ["client_order_id", "request_id"],
    ),
    Case(
        "MarginService/RecordFill",
        margin.RecordFillRequest(**at(fee_asset="U$"), side=types_pb2.SIDE_BUY),
        ["fee_asset", "fill_id", "price", "quantity", "symbol"],
    ),
    Case(
        "FundService/Deposit", funds.DepositRequest(**at(asset="", amount="1", reason="x" * 501)), ["asset", "reason"]
    ),
    Case(
        "FundService/ResetFunds",
        funds.ResetFundsRequest(**at(request_id="", reason="a\x07b")),
        ["reason", "request_id"],
    ),
    Case(
        "AccountService/CreateAccount",
        accounts.CreateAccountRequest(request_id="r", account_id="new", owner="a/b", broker="nyse", currency="U S"),
        ["broker", "currency", "owner"],
    ),
    # choices
    Case("MarginService/ReserveMargin", margin.ReserveMarginRequest(**at(), order=order(0, "1")), ["order.side"]),
    Case("MarginService/ReserveMargin", margin.ReserveMarginRequest(**at(), order=order(77, "1")), ["order.side"]),
    Case(
        "MarginService/CheckOrder",
        margin.CheckOrderRequest(account_id="one-way", order=order(BUY, "1", position_side=9)),
        ["order.position_side"],
    ),
    Case(
        "MarginService/BatchCheckOrders",
        margin.BatchCheckOrdersRequest(account_id="one-way", orders=[order(BUY, "1")], mode=UNKNOWN, detail=UNKNOWN),
        ["detail", "mode"],
    ),
    Case("MarginService/BatchCheckOrders", margin.BatchCheckOrdersRequest(account_id="one-way"), ["orders"]),
    Case(
        "MarginService/ListLiquidations",
        margin.ListLiquidationsRequest(cause=UNKNOWN, state=UNKNOWN),
        ["cause", "state"],
    ),
    Case("LeverageService/SetMarginMode", leverage.SetMarginModeRequest(**at(symbol="BTCUSDT")), ["margin_mode"]),
    Case(
        "AccountService/CreateAccount",
        accounts.CreateAccountRequest(
            request_id="r",
            account_id="new",
            environment=UNKNOWN,
            position_mode=UNKNOWN,
            margin_mode=UNKNOWN,
        ),
        ["environment", "margin_mode", "position_mode"],
    ),
    Case("AccountService/ListAccounts", accounts.ListAccountsRequest(environment=UNKNOWN), ["environment"]),
    Case(
        "RiskService/ListAlerts",
        risk.ListAlertsRequest(kinds=[types_pb2.ALERT_KIND_BANKRUPTCY, UNKNOWN + 90], min_severity=UNKNOWN),
        ["kinds[1]", "min_severity"],
    ),
    # position sides
    Case(
        "MarginService/ReserveMargin",
        margin.ReserveMarginRequest(**at(), order=order(BUY, "1", position_side=LONG)),
        ["order.position_side"],
    ),
    Case(
        "MarginService/ReserveMargin",
        margin.ReserveMarginRequest(**at(account_id="hedge"), order=order(BUY, "1", "ETHUSDT")),
        ["order.position_side"],
    ),
    Case(
        "MarginService/ClosePosition",
        margin.ClosePositionRequest(**at(account_id="hedge"), symbol="ETHUSDT"),
        ["position_side"],
    ),
    Case(
        "MarginService/RecordFill",
        margin.RecordFillRequest(
            **at(account_id="hedge", fill_id="f", symbol="ETHUSDT", quantity="1", price="1"),
            side=types_pb2.SIDE_BUY,
            position_side=types_pb2.POSITION_SIDE_NET,
        ),
        ["position_side"],
    ),
    Case(
        "LeverageService/AdjustIsolatedMargin",
        leverage.AdjustIsolatedMarginRequest(**at(symbol="BTCUSDT", amount="0"), position_side=LONG),
        ["amount", "position_side"],
    ),
    # times, pages, masks and choices among fields
    Case(
        "MarginService/ReserveMargin",
        margin.ReserveMarginRequest(**at(), order=order(BUY, "1"), time_to_live=Duration()),
        ["time_to_live"],
    ),
    Case(
        "MarginService/ReserveMargin",
        margin.ReserveMarginRequest(**at(), order=order(BUY, "1"), time_to_live=Duration(seconds=-5)),
        ["time_to_live"],
    ),
    Case(
        "MarginService/ReserveMargin",
        margin.ReserveMarginRequest(**at(), order=order(BUY, "1"), time_to_live=Duration(seconds=2**62)),
        ["time_to_live"],
    ),
    Case(
        "MarginService/PlaceOrder",
        margin.PlaceOrderRequest(
            **at(client_order_id="é"),
            order=order(0, "x"),
            time_in_force=9,  # type: ignore[arg-type]
            time_to_live=Duration(seconds=-1),
        ),
        ["client_order_id", "order.quantity", "order.side", "time_in_force", "time_to_live"],
    ),
    Case(
        "MarginService/PlaceOrder",
        margin.PlaceOrderRequest(
            **at(), order=order(BUY, "1"), time_in_force=margin.TIME_IN_FORCE_IOC, time_to_live=Duration(seconds=1)
        ),
        ["time_to_live"],
    ),
    Case("MarginService/CancelOrder", margin.CancelOrderRequest(**at()), ["order_id"]),
    Case("MarginService/ListOrders", margin.ListOrdersRequest(account_id="alice", symbols=["?"]), ["symbols[0]"]),
    Case(
        "MarginService/RecordFill",
        margin.RecordFillRequest(
            **at(fill_id="f", symbol="BTCUSDT", quantity="1", price="1"),
            side=types_pb2.SIDE_BUY,
            fill_time=Timestamp(seconds=2**60),
        ),
        ["fill_time"],
    ),
    Case(
        "MarginService/WatchMargin",
        margin.WatchMarginRequest(
            account_ids=["?"], min_interval=Duration(seconds=-1), heartbeat_interval=Duration(seconds=7200)
        ),
        ["account_ids[0]", "heartbeat_interval", "min_interval"],
    ),
    Case("MarginService/ListPositions", margin.ListPositionsRequest(account_id="one-way", page_size=-1), ["page_size"]),
    Case(
        "MarginService/ListPositions",
        margin.ListPositionsRequest(account_id="one-way", page_size=1001, symbols=["ok", "not ok"]),
        ["page_size", "symbols[1]"],
    ),
    Case(
        "AuditService/ListAuditEvents",
        audit.ListAuditEventsRequest(start_time=Timestamp(seconds=9), end_time=Timestamp(seconds=8), kinds=["a b"]),
        ["end_time", "kinds[0]"],
    ),
    Case("RiskService/SetRiskLimits", risk.SetRiskLimitsRequest(**at()), ["limits"]),
    Case(
        "RiskService/SetRiskLimits",
        risk.SetRiskLimitsRequest(**at(), update_mask=FieldMask(paths=["max_daily_loss", "max_happiness"])),
        ["update_mask.paths[1]"],
    ),
    Case(
        "RiskService/SetRiskLimits",
        risk.SetRiskLimitsRequest(
            **at(),
            limits=risk.RiskLimits(
                max_leverage="6",
                max_concurrent_positions=0,
                max_open_reservations=-1,
                max_drawdown_fraction="1.5",
                max_order_rate=risk.OrderRate(orders=0, interval=Duration(nanos=5_000_000)),
            ),
        ),
        [
            "limits.max_concurrent_positions",
            "limits.max_drawdown_fraction",
            "limits.max_leverage",
            "limits.max_open_reservations",
            "limits.max_order_rate.interval",
            "limits.max_order_rate.orders",
        ],
    ),
    Case("RiskService/HaltTrading", risk.HaltTradingRequest(request_id="r"), ["scope"]),
    Case("RiskService/HaltTrading", risk.HaltTradingRequest(request_id="r", everything=False), ["everything"]),
    Case("RiskService/HaltTrading", risk.HaltTradingRequest(request_id="r", node=types_pb2.Scope()), ["node"]),
    Case(
        "RiskService/HaltTrading",
        risk.HaltTradingRequest(request_id="r", node=types_pb2.Scope(owner="a b", strategy="a|b", symbol="#")),
        ["node.owner", "node.strategy", "node.symbol"],
    ),
    Case("RiskService/ResumeTrading", risk.ResumeTradingRequest(request_id="r", owner=""), ["owner"]),
    Case("MarketService/PutInstrument", market.PutInstrumentRequest(request_id="r"), ["instrument"]),
    Case(
        "MarketService/PublishFundingRate",
        market.PublishFundingRateRequest(
            request_id="r", symbol="BTCUSDT", rate="much", funding_time=Timestamp(seconds=61), mark_price="0"
        ),
        ["funding_time", "mark_price", "rate"],
    ),
    Case(
        "MarketService/PublishFundingRate",
        market.PublishFundingRateRequest(request_id="r", rate="0.0001"),
        ["funding_time", "symbol"],
    ),
    Case(
        "LeverageService/SetLeverage",
        leverage.SetLeverageRequest(**at(symbol="BTCUSDT", leverage="2", broker="okx")),
        ["broker"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{'+'.join(case.fields)}"[:90])
async def test_every_bad_field_is_named(desk: Desk, case: Case) -> None:
    failure = await fails(desk, case.name, case.request)
    assert (failure.code, failure.reason, failure.domain) == (*INVALID, "debt_mgmt")
    assert failure.fields == case.fields
