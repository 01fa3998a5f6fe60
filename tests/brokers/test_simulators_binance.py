"""The simulated Binance answers the unmodified client as the venue does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.support.venues.binance import BinanceSimulator
from tests.support.venues.reach import Way, reached
from tests.support.venues.records import Leg
from tests.support.venues.venue import FaultKind

BTC = "BTC/USDT:USDT"
CONFIG: dict[str, Any] = {
    "options": {"fetchMarkets": {"types": ["linear"]}, "fetchCurrencies": False, "fetchMargins": False},
    "enableRateLimit": False,
    "timeout": 1000,
}


@pytest.fixture
def venue() -> BinanceSimulator:
    simulator = BinanceSimulator()
    simulator.book.deposit("USDT", Decimal(10_000))
    return simulator


@pytest.fixture(params=list(Way))
async def client(venue: BinanceSimulator, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with reached(ccxt.pro.binanceusdm, venue, request.param, **CONFIG) as client:
        await client.load_markets()
        yield client


async def test_an_order_opens_a_position_and_a_reduce_only_one_closes_it(venue: BinanceSimulator, client: Any) -> None:
    placed = await client.create_order(BTC, "market", "buy", "0.1", None, {"clientOrderId": "open-1"})
    assert (placed["status"], placed["filled"], placed["average"]) == ("closed", "0.1", "60000")
    found = await client.fetch_order("", BTC, {"clientOrderId": "open-1"})
    assert (found["id"], found["clientOrderId"]) == (placed["id"], "open-1")
    venue.set_mark("BTCUSDT", "59000")
    [position] = await client.fetch_positions([BTC])
    assert (position["side"], position["contracts"], position["unrealizedPnl"]) == ("long", "0.1", "-100")
    assert (position["initialMargin"], position["hedged"]) == ("295", False)
    account = (await client.fetch_balance())["info"]
    assert Decimal(account["totalMarginBalance"]) == Decimal("9897")
    assert Decimal(account["totalInitialMargin"]) == Decimal(295)
    with pytest.raises(ccxt.ExchangeError, match="-2022"):
        await client.create_order(BTC, "market", "buy", "0.1", None, {"reduceOnly": True})
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("", BTC, {"clientOrderId": "never"})
    await client.create_order(BTC, "market", "sell", "5", None, {"reduceOnly": True, "clientOrderId": "close-1"})
    assert await client.fetch_positions() == []
    trades = await client.fetch_my_trades(BTC)
    assert [(t["side"], t["amount"], t["fee"]["cost"]) for t in trades] == [
        ("buy", "0.1", "3"),
        ("sell", "0.1", "2.95"),
    ]


async def test_a_closed_order_does_not_keep_its_client_order_id(venue: BinanceSimulator, client: Any) -> None:
    for _ in range(2):
        await client.create_order(BTC, "market", "buy", "0.1", None, {"clientOrderId": "again"})
    assert (await client.fetch_positions([BTC]))[0]["contracts"] == "0.2"
    await client.create_order(BTC, "limit", "buy", "0.1", "50000", {"clientOrderId": "resting"})
    with pytest.raises(ccxt.ExchangeError, match="-4116"):
        await client.create_order(BTC, "limit", "buy", "0.1", "50000", {"clientOrderId": "resting"})


async def test_leverage(venue: BinanceSimulator, client: Any) -> None:
    assert (await client.set_leverage(5, BTC))["leverage"] == 5
    assert (await client.set_leverage(5, BTC))["leverage"] == 5
    assert (await client.fetch_leverage(BTC))["longLeverage"] == 5
    with pytest.raises(ccxt.BadRequest, match="-4028"):
        await client.set_leverage(2.5, BTC)
    with pytest.raises(ccxt.BadRequest, match="-4028"):
        await client.set_leverage(110, "SOL/USDT:USDT")
    await client.create_order(BTC, "market", "buy", "0.8")
    with pytest.raises(ccxt.ExchangeError, match="-2028"):
        await client.set_leverage(4, BTC)
    with pytest.raises(ccxt.ExchangeError, match="-2019"):
        await client.create_order(BTC, "market", "buy", "0.5")


async def test_isolated_margin(venue: BinanceSimulator, client: Any) -> None:
    with pytest.raises(ccxt.MarginModeAlreadySet, match="-4046"):
        await client.set_margin_mode("cross", BTC)
    await client.set_margin_mode("isolated", BTC)
    await client.create_order(BTC, "market", "buy", "0.1")
    await client.add_margin(BTC, "100")
    await client.reduce_margin(BTC, "50")
    [position] = await client.fetch_positions([BTC])
    assert (position["marginMode"], position["positionMargin"], position["liquidationPrice"]) == (
        "isolated",
        "350",
        "56726.9",
    )
    with pytest.raises(ccxt.ExchangeError, match="-4161"):
        await client.set_leverage(10, BTC)
    with pytest.raises(ccxt.ExchangeError, match="-4048"):
        await client.set_margin_mode("cross", BTC)
    with pytest.raises(ccxt.ExchangeError, match="-4051"):
        await client.reduce_margin(BTC, "60")


async def test_hedge_legs_stand_beside_each_other(venue: BinanceSimulator, client: Any) -> None:
    await client.set_position_mode(True, BTC)
    assert (await client.fetch_position_mode(BTC))["hedged"] is True
    for side, amount in (("buy", "0.2"), ("sell", "0.1")):
        await client.create_order(BTC, "market", side, amount, None, {"hedged": True})
    both = {p["side"]: (p["contracts"], p["hedged"]) for p in await client.fetch_positions([BTC])}
    assert both == {"long": ("0.2", True), "short": ("0.1", True)}
    with pytest.raises(ccxt.ExchangeError, match="-4061"):
        await client.create_order(BTC, "market", "buy", "0.1")
    await client.create_order(BTC, "market", "buy", "0.1", None, {"hedged": True, "reduceOnly": True})
    assert [p["side"] for p in await client.fetch_positions()] == ["long"]
    with pytest.raises(ccxt.ExchangeError, match="-4068"):
        await client.set_position_mode(False, BTC)


async def test_orders_rest_and_are_cancelled(venue: BinanceSimulator, client: Any) -> None:
    first = await client.create_order(BTC, "limit", "buy", "0.1", "50000")
    await client.create_order(BTC, "limit", "buy", "0.1", "51000")
    assert {order["price"] for order in await client.fetch_open_orders(BTC)} == {"50000", "51000"}
    await client.cancel_order(first["id"], BTC)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(first["id"], BTC)
    await client.cancel_all_orders(BTC)
    assert await client.fetch_open_orders(BTC) == []


async def test_debt_of_the_margin_wallet(venue: BinanceSimulator, client: Any) -> None:
    venue.margin.deposit("BTC", Decimal("0.5"))
    await client.borrow_cross_margin("USDT", "1000")
    venue.margin.pass_hours(10)
    wallet = {row["asset"]: row for row in (await client.sapi_get_margin_account())["userAssets"]}
    assert (wallet["USDT"]["borrowed"], wallet["USDT"]["interest"], wallet["BTC"]["free"]) == ("1000", "0.057", "0.5")
    interest = await client.fetch_borrow_interest("USDT")
    assert (len(interest), interest[0]["interest"]) == (10, "0.0057")
    rate = await client.fetch_cross_borrow_rate("USDT")
    assert (rate["rate"], rate["period"]) == ("0.0001368", 86_400_000)
    with pytest.raises(ccxt.ExchangeError, match="-3006"):
        await client.borrow_cross_margin("SOL", "1")
    with pytest.raises(ccxt.ExchangeError, match="-3015"):
        await client.repay_cross_margin("USDT", "1001")
    await client.repay_cross_margin("USDT", "999")
    assert venue.margin.owed("USDT") == Decimal("1.057")


async def test_tiers_and_prices(venue: BinanceSimulator, client: Any) -> None:
    tiers = await client.fetch_market_leverage_tiers(BTC)
    assert [(t["maxNotional"], t["maxLeverage"], t["maintenanceMarginRate"], t["info"]["cum"]) for t in tiers[:2]] == [
        ("50000", "125", "0.004", 0),
        ("600000", "100", "0.005", 50),
    ]
    assert (await client.fetch_mark_price(BTC))["markPrice"] == "60000"
    assert (await client.fetch_ticker(BTC))["last"] == "60000"
    assert (await client.watch_mark_price(BTC))["markPrice"] == "60000"
    waiting = asyncio.ensure_future(client.watch_mark_price(BTC))
    await asyncio.sleep(0.05)
    venue.set_mark("BTCUSDT", "61000")
    assert (await asyncio.wait_for(waiting, 5))["markPrice"] == "61000"
    assert abs(await client.fetch_time() - client.milliseconds()) < 5000


async def test_positions_are_pushed_and_a_dropped_socket_is_told(venue: BinanceSimulator, client: Any) -> None:
    assert list(await client.watch_positions()) == []
    waiting = asyncio.ensure_future(client.watch_positions())
    await asyncio.sleep(0.1)
    venue.book.hold("BTCUSDT", Decimal("0.1"))
    [pushed] = await asyncio.wait_for(waiting, 5)
    assert (pushed["contracts"], pushed["notional"]) == ("0.1", None)
    waiting = asyncio.ensure_future(client.watch_positions())
    await asyncio.sleep(0.1)
    venue.book.liquidate("BTCUSDT", Leg.NET)
    assert [p["contracts"] for p in await asyncio.wait_for(waiting, 5)] == ["0"]
    waiting = asyncio.ensure_future(client.watch_positions())
    await asyncio.sleep(0.1)
    await venue.drop_sockets()
    with pytest.raises(ccxt.NetworkError):
        await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.TOO_MANY, ccxt.DDoSProtection),
        (FaultKind.SERVER_ERROR, ccxt.ExchangeNotAvailable),
        (FaultKind.HTML, ccxt.ExchangeNotAvailable),
        (FaultKind.HANGS_BEFORE, ccxt.RequestTimeout),
        (FaultKind.GEO_BLOCK, ccxt.ExchangeNotAvailable),
        (FaultKind.BAD_KEY, ccxt.AuthenticationError),
        (FaultKind.CLOCK, ccxt.InvalidNonce),
    ],
)
async def test_faults(kind: FaultKind, error: type[Exception], way: Way) -> None:
    venue = BinanceSimulator()
    async with reached(ccxt.pro.binanceusdm, venue, way, **CONFIG | {"timeout": 400}) as client:
        await client.load_markets()
        venue.fault("v3/account", kind)
        with pytest.raises(error):
            await client.fetch_balance()
        await client.fetch_balance()


async def test_a_timeout_after_execution_leaves_the_order_there(venue: BinanceSimulator) -> None:
    async with reached(ccxt.pro.binanceusdm, venue, **CONFIG | {"timeout": 400}) as client:
        await client.load_markets()
        for kind, error in ((FaultKind.HANGS_AFTER, ccxt.RequestTimeout), (FaultKind.CUT_AFTER, ccxt.NetworkError)):
            venue.fault("POST /fapi/v1/order", kind)
            with pytest.raises(error):
                await client.create_order(BTC, "market", "buy", "0.1", None, {"clientOrderId": kind.name})
            assert (await client.fetch_order("", BTC, {"clientOrderId": kind.name}))["status"] == "closed"
        assert [order.client_order_id for order in venue.book.orders.values()] == ["HANGS_AFTER", "CUT_AFTER"]


async def test_keys_signatures_and_clocks_are_looked_at(venue: BinanceSimulator) -> None:
    async with reached(ccxt.pro.binanceusdm, venue, **CONFIG | {"secret": "another"}) as client:
        with pytest.raises(ccxt.AuthenticationError, match="-1022"):
            await client.fetch_balance()
        client.secret, client.apiKey = venue.secret, "another"
        with pytest.raises(ccxt.AuthenticationError, match="-2015"):
            await client.fetch_balance()
        client.apiKey = venue.key
        await client.fetch_balance()
        venue.book.clock_ahead = timedelta(minutes=1)
        with pytest.raises(ccxt.InvalidNonce):
            await client.fetch_balance()
        await client.load_time_difference()
        await client.fetch_balance()
