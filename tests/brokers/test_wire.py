"""What leaves for an exchange is what others have recorded for the same calls, and what its own pages ask for."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import pytest

from debt_mgmt.core.account import Environment, MarginMode, PositionSide, Side
from debt_mgmt.server.brokers import ccxt_orders
from debt_mgmt.server.brokers.broker import BrokerOrder
from debt_mgmt.server.brokers.ccxt_broker import CcxtBroker
from tests.brokers.wire import Request, asked

D = Decimal
FIXTURES = Path(__file__).parents[3] / "shared" / "ccxt_fixtures"
beside = pytest.mark.skipif(not FIXTURES.exists(), reason="the recordings are not beside the project")

GOOD: dict[str, Any] = {
    "/v5/": {"retCode": 0, "retMsg": "OK", "result": {"list": [], "marginMode": "REGULAR_MARGIN"}},
    "/api/v5/": {"code": "0", "msg": "", "data": []},
    "/api/v5/account/config": {"code": "0", "data": [{"posMode": "net_mode"}]},
    "/fapi/": [],
    "/sapi/": {"tranId": 1},
    "/fapi/v1/leverage": {"symbol": "BTCUSDT", "leverage": 3},
    "/fapi/v1/order": {"orderId": 1, "status": "NEW", "symbol": "BTCUSDT"},
    "/fapi/v1/positionMargin": {"code": 200, "type": 1},
}
POSITION_OKX = {"code": "0", "data": [{"instId": "BTC-USDT-SWAP", "pos": "5", "posSide": "net", "mgnMode": "isolated"}]}


@pytest.fixture(autouse=True)
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_orders, "LOOKS", (0.0,))


def recorded_requests(broker: str, method: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Description, path, and parameters of every recording of a method."""
    found = json.loads((FIXTURES / f"{broker}_request.json").read_text("utf-8"))
    rows = []
    for one in found["methods"][method]:
        path, _, query = one["url"].partition("?")
        params: dict[str, Any] = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
        params |= json.loads(one["output"]) if "output" in one else {}
        rows.append((one["description"], "/" + path.split("/", 3)[3], params))
    return rows


def order(symbol: str, quantity: str, side: Side = Side.SELL, leg: PositionSide = PositionSide.NET) -> BrokerOrder:
    return BrokerOrder("alice", Environment.LIVE, "liq-1-7-1", symbol, leg, side, D(quantity))


# What we do (broker, recording, its description) and how it is said to our broker.
OURS: list[tuple[str, str, str, Callable[[CcxtBroker], Any]]] = [
    ("bybit", "setLeverage", "Set leverage swap linear", lambda b: b.set_leverage("bybit:LTCUSDT", D(6))),
    ("bybit", "setLeverage", "Set leverage inverse", lambda b: b.set_leverage("bybit:BTCUSD", D(6))),
    (
        "bybit",
        "setMarginMode",
        "set margin mode to isolated margin",
        lambda b: b.set_margin_mode("bybit:BTCUSDT", MarginMode.ISOLATED, D(3)),
    ),
    (
        "bybit",
        "setMarginMode",
        "Set margin mode to cross margin",
        lambda b: b.set_margin_mode("bybit:BTCUSDT", MarginMode.CROSS, D(3)),
    ),
    ("bybit", "fetchPositions", "Swap fetchPositions", lambda b: b.state()),
    ("bybit", "fetchBalance", "fetch default balance", lambda b: b.state()),
    ("bybit", "fetchLeverage", "fetch leverage", lambda b: b.set_leverage("bybit:LTCUSDT", D(6))),
    ("bybit", "createOrder", "Swap inverse market sell order", lambda b: b.place(order("bybit:BTCUSD", "1"))),
    ("bybit", "borrowCrossMargin", "borrowCrossMargin BTC 0.001", lambda b: b.borrow("BTC", D("0.001"))),
    ("bybit", "repayCrossMargin", "repayCrossMargin BTC 0.001", lambda b: b.repay("BTC", D("0.001"))),
    ("okx", "setLeverage", "set leverage", lambda b: b.set_leverage("okx:LTCUSDT", D(5))),
    (
        "okx",
        "setMarginMode",
        "set margin mode cross",
        lambda b: b.set_margin_mode("okx:LTCUSDT", MarginMode.CROSS, D(10)),
    ),
    ("okx", "fetchPositions", "Fetch positions with no arguments", lambda b: b.state()),
    (
        "okx",
        "addMargin",
        "Add margin to an inverse swap long position",
        lambda b: b.adjust_isolated_margin("okx:BTCUSD", PositionSide.LONG, D("0.0001")),
    ),
    (
        "okx",
        "reduceMargin",
        "Reduce margin",
        lambda b: b.adjust_isolated_margin("okx:BTCUSD", PositionSide.LONG, D("-0.0001")),
    ),
]
OUR_OWN = {"orderLinkId"}
"""Recordings have no order id; ours always do."""


@beside
@pytest.mark.parametrize(("broker", "method", "description", "call"), OURS, ids=[f"{o[0]} {o[2]}" for o in OURS])
async def test_a_request_equals_the_recorded_one(
    broker: str, method: str, description: str, call: Callable[[CcxtBroker], Any]
) -> None:
    (found,) = [one for one in recorded_requests(broker, method) if one[0] == description]
    _, path, params = found
    requests = await asked(broker, call, GOOD)
    same = [one for one in requests if one.path == path and plain(one.params) == plain(params)]
    assert len(same) == 1, f"wanted {path} {params}, left {requests}"


def plain(params: dict[str, Any]) -> dict[str, str]:
    """Numbers and text alike: a recording's 0.0001 is our "0.0001"."""
    spelled = {name: json.dumps(value).strip('"') for name, value in params.items() if name not in OUR_OWN}
    return {name: str(D(text)) if number(text) else text for name, text in spelled.items()}


def number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


@beside
async def test_an_isolated_mode_names_its_leg_beside_the_recorded_request() -> None:
    """The recording leaves out `posSide`, which OKX asks for in this mode; the rest is the same."""
    (found,) = [one for one in recorded_requests("okx", "setMarginMode") if "isolated" in one[0]]
    requests = await asked("okx", lambda b: b.set_margin_mode("okx:ADAUSDT", MarginMode.ISOLATED, D(10)), GOOD)
    (sent,) = [one for one in requests if one.method == "POST"]
    assert (sent.path, sent.params) == (found[1], found[2] | {"posSide": "net"})


@beside
async def test_a_mutated_recording_is_told_apart() -> None:
    requests = await asked("bybit", lambda b: b.set_leverage("bybit:LTCUSDT", D(6)), GOOD)
    _, path, params = recorded_requests("bybit", "setLeverage")[0]
    assert [one for one in requests if one.path == path and plain(one.params) == plain(params)]
    assert not [
        one for one in requests if one.path == path and plain(one.params) == plain(params | {"sellLeverage": "7"})
    ]


# Requests that nobody recorded: as the venues' own pages have them.


def posted(requests: list[Request]) -> Request:
    (found,) = [one for one in requests if one.method in ("POST", "PUT")]
    return found


async def test_bybit_takes_leverage_in_hundredths_for_both_sides() -> None:
    sent = posted(await asked("bybit", lambda b: b.set_leverage("bybit:BTCUSDT", D("2.5")), GOOD))
    assert sent.params == {"symbol": "BTCUSDT", "category": "linear", "buyLeverage": "2.5", "sellLeverage": "2.5"}


async def test_binance_takes_whole_leverage() -> None:
    sent = posted(await asked("binance", lambda b: b.set_leverage("binance:BTCUSDT", D(3)), GOOD))
    assert (sent.path, sent.params) == ("/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": "3"})


async def test_an_amount_of_posted_margin_leaves_with_every_digit() -> None:
    amount = D("5.243432109876543210")
    sent = posted(
        await asked("binance", lambda b: b.adjust_isolated_margin("binance:BTCUSDT", PositionSide.NET, amount), GOOD)
    )
    assert sent.params == {"symbol": "BTCUSDT", "amount": "5.243432109876543210", "type": "1"}
    sent = posted(
        await asked("bybit", lambda b: b.adjust_isolated_margin("bybit:BTCUSDT", PositionSide.LONG, -amount), GOOD)
    )
    assert (sent.path, sent.params["margin"], sent.params["positionIdx"]) == (
        "/v5/position/add-margin",
        "-5.243432109876543210",
        1,
    )


async def test_a_loan_leaves_with_every_digit() -> None:
    sent = posted(await asked("binance", lambda b: b.borrow("USDT", D("0.123456789012345678")), GOOD))
    assert sent.path == "/sapi/v1/margin/borrow-repay"
    assert sent.params == {
        "asset": "USDT",
        "isIsolated": "FALSE",
        "amount": "0.123456789012345678",
        "type": "BORROW",
    }


@pytest.mark.parametrize(
    ("broker", "leg", "expected", "absent"),
    [
        ("bybit", PositionSide.NET, {"reduceOnly": True}, "positionIdx"),
        ("bybit", PositionSide.LONG, {"reduceOnly": True, "positionIdx": 1}, ""),
        ("bybit", PositionSide.SHORT, {"reduceOnly": True, "positionIdx": 2}, ""),
        ("binance", PositionSide.NET, {"reduceOnly": "true"}, "positionSide"),
        ("binance", PositionSide.LONG, {"positionSide": "LONG"}, "reduceOnly"),
        ("okx", PositionSide.NET, {"reduceOnly": True, "tdMode": "isolated"}, "posSide"),
    ],
)
async def test_a_reducing_order_is_spelled_as_the_venue_wants_it(
    broker: str, leg: PositionSide, expected: dict[str, Any], absent: str
) -> None:
    answers = GOOD | {"/api/v5/account/positions": POSITION_OKX}
    if broker == "binance":
        answers["GET /fapi/v1/order"] = ccxt.OrderNotFound('binanceusdm {"code":-2013,"msg":"Order does not exist."}')
    requests = await asked(broker, lambda b: b.place(order(f"{broker}:BTCUSDT", "0.5019", Side.SELL, leg)), answers)
    orders = [one for one in requests if one.method == "POST"]
    assert len(orders) == 1
    params = orders[0].params
    assert {name: params.get(name) for name in expected} == expected
    assert absent not in params
    quantity = params.get("qty") or params.get("quantity") or params.get("sz")
    assert quantity == "0.501", "rounded down to the lot"
    client_id = params.get("orderLinkId") or params.get("newClientOrderId") or params.get("clOrdId")
    assert str(client_id).startswith("liqz1z7z1z" if broker == "okx" else "liq-1-7-1-")
