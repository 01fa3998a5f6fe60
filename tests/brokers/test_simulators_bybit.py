"""The simulated Bybit answers the unmodified client as the venue does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.support.venues.bybit import BybitSimulator
from tests.support.venues.reach import Way, reached
from tests.support.venues.records import Leg
from tests.support.venues.venue import FaultKind

BTC, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"
OPTIONS = {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}, "fetchOrder": {"acknowledged": True}}


@pytest.fixture
def venue() -> BybitSimulator:
    simulator = BybitSimulator()
    simulator.book.deposit("USDT", Decimal(10_000))
    return simulator


@pytest.fixture(params=list(Way))
async def client(venue: BybitSimulator, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    config = {"options": OPTIONS, "enableRateLimit": False, "timeout": 2000}
    async with reached(ccxt.pro.bybit, venue, request.param, **config) as client:
        yield client


async def test_an_order_opens_a_position_and_a_reduce_only_one_closes_it(venue: BybitSimulator, client: Any) -> None:
    placed = await client.create_order(BTC, "market", "buy", "0.1", None, {"clientOrderId": "open-1"})
    found = await client.fetch_order("", BTC, {"orderLinkId": "open-1"})
    assert (found["id"], found["status"], found["filled"], found["average"]) == (placed["id"], "closed", "0.1", "60000")
    venue.set_mark("BTCUSDT", "59000")
    [position] = await client.fetch_positions([BTC])
    assert (position["side"], position["contracts"], position["unrealizedPnl"]) == ("long", "0.1", "-100")
    assert position["liquidationPrice"] is None
    balance = await client.fetch_balance()
    account = balance["info"]["result"]["list"][0]
    assert Decimal(account["totalEquity"]) == Decimal(10_000) - 100 - Decimal("3.3")
    assert Decimal(account["totalInitialMargin"]) == Decimal(590)
    with pytest.raises(ccxt.InvalidOrder, match="110017"):
        await client.create_order(BTC, "market", "buy", "0.1", None, {"reduceOnly": True})
    await client.create_order(BTC, "market", "sell", "5", None, {"reduceOnly": True, "clientOrderId": "close-1"})
    assert await client.fetch_positions() == []
    with pytest.raises(ccxt.InvalidOrder, match="110072"):
        await client.create_order(BTC, "market", "buy", "0.1", None, {"clientOrderId": "close-1"})
    trades = await client.fetch_my_trades(BTC)
    assert {(trade["side"], trade["amount"], trade["fee"]["cost"]) for trade in trades} == {
        ("buy", "0.1", "3.3"),
        ("sell", "0.1", "3.245"),
    }


async def test_leverage(venue: BybitSimulator, client: Any) -> None:
    await client.set_leverage("2.5", BTC)
    assert (await client.fetch_positions([BTC]))[0]["leverage"] == "2.5"
    with pytest.raises(ccxt.BadRequest, match="110043"):
        await client.set_leverage("2.5", BTC)
    with pytest.raises(ccxt.BadRequest, match="110013"):
        await client.set_leverage(101, BTC)
    with pytest.raises(ccxt.BadRequest, match="10001"):
        await client.set_leverage("2.555", BTC)
    await client.create_order(BTC, "market", "buy", "0.4", None)
    with pytest.raises(ccxt.InsufficientFunds, match="110044"):
        await client.set_leverage(1, BTC)
    with pytest.raises(ccxt.InsufficientFunds, match="110007"):
        await client.create_order(BTC, "market", "buy", "0.4", None)
    with pytest.raises(ccxt.ExchangeError, match="3400045"):
        await client.set_margin_mode("isolated", BTC)


async def test_isolated_margin(venue: BybitSimulator, client: Any) -> None:
    with pytest.raises(ccxt.MarginModeAlreadySet):
        await client.set_margin_mode("cross", BTC)
    await client.set_margin_mode("isolated", BTC)
    await client.create_order(BTC, "market", "buy", "0.1")
    order = {"category": "linear", "symbol": "BTCUSDT", "margin": "100"}
    answer = await client.private_post_v5_position_add_margin(order)
    assert answer["result"]["positionBalance"] == "700"
    await client.private_post_v5_position_add_margin(order | {"margin": "-50"})
    [position] = await client.fetch_positions([BTC])
    assert (position["collateral"], position["liquidationPrice"]) == ("650", "53768.8")


async def test_hedge_legs_stand_beside_each_other(venue: BybitSimulator, client: Any) -> None:
    await client.set_position_mode(True, BTC)
    for side, amount in (("buy", "0.2"), ("sell", "0.1")):
        await client.create_order(BTC, "market", side, amount, None, {"hedged": True})
    both = {p["side"]: (p["contracts"], p["hedged"]) for p in await client.fetch_positions([BTC])}
    assert both == {"long": ("0.2", True), "short": ("0.1", True)}
    with pytest.raises(ccxt.BadRequest, match="position idx"):
        await client.create_order(BTC, "market", "buy", "0.1")
    close = {"hedged": True, "reduceOnly": True}
    await client.create_order(BTC, "market", "buy", "0.1", None, close)
    assert [p["side"] for p in await client.fetch_positions()] == ["long"]
    with pytest.raises(ccxt.BadRequest, match="110024"):
        await client.set_position_mode(False, BTC)


async def test_inverse(venue: BybitSimulator, client: Any) -> None:
    venue.book.deposit("BTC", Decimal(1))
    await client.set_leverage(5, INVERSE)
    await client.create_order(INVERSE, "market", "sell", "6000")
    venue.set_mark("BTCUSD", "50000")
    [position] = await client.fetch_positions(None, {"subType": "inverse"})
    assert (position["symbol"], position["side"], position["contracts"]) == (INVERSE, "short", "6000")
    assert Decimal(position["unrealizedPnl"]) == Decimal("0.02")
    assert Decimal(position["initialMargin"]) == Decimal("0.024")


async def test_orders_rest_and_are_cancelled(venue: BybitSimulator, client: Any) -> None:
    first = await client.create_order(BTC, "limit", "buy", "0.1", "50000")
    await client.create_order(BTC, "limit", "buy", "0.1", "51000")
    assert {order["price"] for order in await client.fetch_open_orders(BTC)} == {"50000", "51000"}
    await client.cancel_order(first["id"], BTC)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(first["id"], BTC)
    await client.cancel_all_orders(BTC)
    assert await client.fetch_open_orders() == []
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("", BTC, {"orderLinkId": "never"})


async def test_debt(venue: BybitSimulator, client: Any) -> None:
    await client.borrow_cross_margin("USDT", "1000")
    venue.book.pass_hours(10)
    assert (await client.fetch_balance())["USDT"]["debt"] == "1000.057"
    with pytest.raises(ccxt.BadRequest, match="176029"):
        await client.borrow_cross_margin("SOL", "1")
    rate = await client.fetch_cross_borrow_rate("USDT", {"vipLevel": "No%20VIP"})
    assert (rate["rate"], rate["period"]) == ("0.0000057", 3_600_000)
    await client.repay_cross_margin("USDT", "1000.057")
    assert (await client.fetch_balance())["USDT"]["debt"] == "0"


async def test_tiers_and_prices(venue: BybitSimulator, client: Any) -> None:
    tiers = await client.fetch_market_leverage_tiers(BTC)
    assert [(t["maxNotional"], t["maxLeverage"], t["maintenanceMarginRate"]) for t in tiers[:2]] == [
        ("2000000", "100", "0.005"),
        ("10000000", "50", "0.01"),
    ]
    assert tiers[1]["info"]["mmDeduction"] == "10000"
    assert (await client.fetch_ticker(BTC))["markPrice"] == "60000"
    watching = await client.watch_ticker(BTC)
    assert watching["markPrice"] == "60000"
    waiting = asyncio.ensure_future(client.watch_ticker(BTC))
    await asyncio.sleep(0.05)
    venue.set_mark("BTCUSDT", "61000")
    assert (await asyncio.wait_for(waiting, 5))["markPrice"] == "61000"
    assert abs(await client.fetch_time() - client.milliseconds()) < 5000


async def test_positions_are_pushed_and_a_dropped_socket_is_told(venue: BybitSimulator, client: Any) -> None:
    assert list(await client.watch_positions()) == []
    waiting = asyncio.ensure_future(client.watch_positions())
    await asyncio.sleep(0.1)
    venue.book.hold("BTCUSDT", Decimal("0.1"))
    assert [p["contracts"] for p in await asyncio.wait_for(waiting, 5)] == ["0.1"]
    waiting = asyncio.ensure_future(client.watch_positions())
    await asyncio.sleep(0.1)
    venue.book.liquidate("BTCUSDT", Leg.NET)
    assert [p["contracts"] for p in await asyncio.wait_for(waiting, 5)] == ["0"]
    waiting = asyncio.ensure_future(client.watch_positions())
    await asyncio.sleep(0.1)
    await venue.drop_sockets()
    with pytest.raises(ccxt.NetworkError):
        await asyncio.wait_for(waiting, 5)
    [trade] = await client.fetch_my_trades(BTC, None, None, {"execType": "BustTrade"})
    assert trade["side"] == "sell"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.TOO_MANY, ccxt.RateLimitExceeded),
        (FaultKind.SERVER_ERROR, ccxt.ExchangeNotAvailable),
        (FaultKind.HTML, ccxt.ExchangeNotAvailable),
        (FaultKind.HANGS_BEFORE, ccxt.RequestTimeout),
        (FaultKind.CUT_BEFORE, ccxt.NetworkError),
        (FaultKind.GEO_BLOCK, ccxt.RateLimitExceeded),
        (FaultKind.BAD_KEY, ccxt.AuthenticationError),
        (FaultKind.NO_PERMISSION, ccxt.PermissionDenied),
        (FaultKind.CLOCK, ccxt.InvalidNonce),
    ],
)
async def test_faults(kind: FaultKind, error: type[Exception]) -> None:
    venue = BybitSimulator()
    async with reached(ccxt.pro.bybit, venue, options=OPTIONS, timeout=500, enableRateLimit=False) as client:
        await client.load_markets()
        venue.fault("position/list", kind, times=2 if kind is FaultKind.CUT_BEFORE else 1)
        with pytest.raises(error):
            await client.fetch_positions([BTC])
        assert await client.fetch_positions([BTC]) != []


async def test_a_timeout_after_execution_leaves_the_order_there(venue: BybitSimulator) -> None:
    async with reached(ccxt.pro.bybit, venue, options=OPTIONS, timeout=500, enableRateLimit=False) as client:
        await client.load_markets()
        for kind, error in ((FaultKind.HANGS_AFTER, ccxt.RequestTimeout), (FaultKind.CUT_AFTER, ccxt.NetworkError)):
            venue.fault("order/create", kind)
            with pytest.raises(error):
                await client.create_order(BTC, "market", "buy", "0.1", None, {"clientOrderId": kind.name})
            assert (await client.fetch_order("", BTC, {"orderLinkId": kind.name}))["status"] == "closed"
        assert [order.client_order_id for order in venue.book.orders.values()] == ["HANGS_AFTER", "CUT_AFTER"]


async def test_keys_signatures_and_clocks_are_looked_at(venue: BybitSimulator) -> None:
    async with reached(ccxt.pro.bybit, venue, options=OPTIONS, secret="another") as client:
        with pytest.raises(ccxt.AuthenticationError, match="10004"):
            await client.fetch_balance()
        client.secret, client.apiKey = venue.secret, "another"
        with pytest.raises(ccxt.AuthenticationError, match="10003"):
            await client.fetch_balance()
        client.apiKey = venue.key
        await client.fetch_balance()
        venue.book.clock_ahead = timedelta(minutes=1)
        with pytest.raises(ccxt.InvalidNonce):
            await client.fetch_balance()
        await client.load_time_difference()
        await client.fetch_balance()
