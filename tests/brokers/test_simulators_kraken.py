"""The simulated Kraken, asked by the real client: spot margin, whose positions are opened and closed by orders."""

import asyncio
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.support.venues.kraken import KrakenSimulator
from tests.support.venues.reach import Way, client_of, reached
from tests.support.venues.venue import FaultKind

D = Decimal
BTC = "BTC/USD"


def funded() -> KrakenSimulator:
    venue = KrakenSimulator()
    venue.book.deposit("USD", D(20_000))
    return venue


def kraken(venue: KrakenSimulator, way: Way = Way.URLS, **config: Any) -> Any:
    return reached(ccxt.pro.kraken, venue, way, enableRateLimit=False, **config)


@pytest.mark.parametrize("way", list(Way))
async def test_a_margin_order_opens_a_position_and_reduce_only_closes_it(way: Way) -> None:
    venue = funded()
    async with kraken(venue, way) as client:
        order = await client.create_order(
            BTC, "market", "buy", "0.5", params={"leverage": 5, "clientOrderId": "opening"}
        )
        (position,) = await client.fetch_positions()
        assert (position["symbol"], position["side"], D(position["contracts"])) == (BTC, "long", D("0.5"))
        assert (D(position["leverage"]), D(position["initialMargin"])) == (D(5), D(5000))
        found = await client.fetch_order(order["id"])
        assert (found["status"], D(found["filled"]), found["clientOrderId"]) == ("closed", D("0.5"), "opening")

        venue.set_mark("XXBTZUSD", "40000")
        health = (await client.privatePostTradeBalance({"asset": "ZUSD"}))["result"]
        fee = D("0.5") * 50_000 * venue.book.fee_rate
        assert D(health["e"]) == D(20_000) - D(5000) - fee
        assert D(health["ml"]) == D(health["e"]) / 5000 * 100

        await client.create_order(BTC, "market", "sell", "0.2", params={"leverage": 5, "reduceOnly": True})
        (position,) = await client.fetch_positions()
        told = position["info"]
        assert (D(told["vol"]), D(told["vol_closed"])) == (D("0.5"), D("0.2"))
        await client.create_order(BTC, "market", "sell", "9", params={"leverage": 5, "reduceOnly": True})
        assert await client.fetch_positions() == []
        with pytest.raises(ccxt.ExchangeError, match="Reduce only:No position exists"):
            await client.create_order(BTC, "market", "sell", "0.1", params={"leverage": 5, "reduceOnly": True})
        trades = await client.fetch_my_trades(BTC)
        assert [D(trade["amount"]) for trade in trades] == [D("0.5"), D("0.2"), D("0.3")]


async def test_leverage_belongs_to_the_order() -> None:
    async with kraken(funded()) as client:
        with pytest.raises(ccxt.ExchangeError, match="Insufficient initial margin"):
            await client.create_order(BTC, "market", "buy", "5", params={"leverage": 5})
        with pytest.raises(ccxt.ExchangeError, match="Invalid arguments:leverage"):
            await client.create_order(BTC, "market", "buy", "0.1", params={"leverage": 10})
        with pytest.raises(ccxt.InsufficientFunds):
            await client.create_order(BTC, "market", "sell", "0.1")
        with pytest.raises(ccxt.BadRequest):
            await client.create_order(BTC, "market", "sell", "0.1", params={"reduceOnly": True})
        await client.create_order(BTC, "market", "buy", "0.1")
        assert await client.fetch_positions() == []
        assert D((await client.fetch_balance())["BTC"]["total"]) == D("0.1")


async def test_resting_orders_are_listed_cancelled_and_found_by_our_id() -> None:
    venue = funded()
    async with kraken(venue) as client:
        for name, price in (("one", 30_000), ("two", 31_000)):
            await client.create_order(BTC, "limit", "buy", "0.1", price, params={"leverage": 2, "clientOrderId": name})
        with pytest.raises(ccxt.ExchangeError, match="cl_ord_id"):
            await client.create_order(BTC, "limit", "buy", "0.1", 30_000, params={"clientOrderId": "one"})
        (found,) = await client.fetch_open_orders(params={"clientOrderId": "two"})
        assert (D(found["price"]), D(found["remaining"])) == (D(31_000), D("0.1"))
        await client.cancel_order(found["id"])
        with pytest.raises(ccxt.OrderNotFound):
            await client.cancel_order(found["id"])
        await client.cancel_all_orders()
        assert await client.fetch_open_orders() == []
        closed = await client.fetch_closed_orders(params={"clientOrderId": "one"})
        assert [order["status"] for order in closed] == ["canceled"]
        venue.book.deposit("USD", D(1))
        await client.create_order(BTC, "limit", "buy", "0.1", 30_000, params={"clientOrderId": "one"})


@pytest.mark.parametrize("way", list(Way))
async def test_the_websocket_tells_prices_orders_and_balances(way: Way) -> None:
    venue = funded()
    async with kraken(venue, way) as client:
        assert D((await client.watch_ticker(BTC))["last"]) == 50_000
        venue.set_mark("XXBTZUSD", "51000")
        assert D((await client.watch_ticker(BTC))["last"]) == 51_000
        assert (await client.watch_balance())["USD"]["total"] == "20000.0"
        await client.create_order(BTC, "limit", "buy", "0.1", 30_000, params={"leverage": 2})
        (order,) = await client.watch_orders()
        assert (order["status"], order["side"], order["symbol"]) == ("open", "buy", BTC)
        waiting = asyncio.create_task(client.watch_ticker(BTC))
        await asyncio.sleep(0)
        await venue.drop_sockets()
        with pytest.raises(ccxt.NetworkError):
            await waiting
        assert D((await client.watch_ticker(BTC))["last"]) == 51_000


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.TOO_MANY, ccxt.DDoSProtection),
        (FaultKind.SERVER_ERROR, ccxt.ExchangeNotAvailable),
        (FaultKind.HTML, ccxt.ExchangeNotAvailable),
        (FaultKind.HANGS_BEFORE, ccxt.RequestTimeout),
        (FaultKind.GEO_BLOCK, ccxt.ExchangeNotAvailable),
        (FaultKind.BAD_KEY, ccxt.AuthenticationError),
        (FaultKind.NO_PERMISSION, ccxt.PermissionDenied),
        (FaultKind.CLOCK, ccxt.InvalidNonce),
    ],
)
async def test_faults_reach_the_client_as_krakens_do(kind: FaultKind, error: type[Exception]) -> None:
    venue = funded()
    async with kraken(venue, timeout=500) as client:
        await client.load_markets()
        venue.fault("BalanceEx", kind)
        with pytest.raises(error):
            await client.fetch_balance()
        assert D((await client.fetch_balance())["USD"]["total"]) == 20_000


async def test_an_order_that_timed_out_after_executing_is_there() -> None:
    venue = funded()
    async with kraken(venue, timeout=500) as client:
        await client.load_markets()
        venue.fault("AddOrder", FaultKind.HANGS_AFTER)
        with pytest.raises(ccxt.RequestTimeout):
            await client.create_order(BTC, "market", "buy", "0.1", params={"leverage": 2, "clientOrderId": "lost"})
        (found,) = await client.fetch_closed_orders(params={"clientOrderId": "lost"})
        assert D(found["filled"]) == D("0.1")
        assert len(venue.asked("AddOrder")) == 1


async def test_key_signature_and_nonce_are_checked() -> None:
    venue = funded()
    async with kraken(venue) as client:
        await client.fetch_balance()
        venue.nonce += 3_600_000
        with pytest.raises(ccxt.InvalidNonce):
            await client.fetch_balance()
        async with client_of(ccxt.pro.kraken, venue, secret="b3RoZXI=") as other:
            with pytest.raises(ccxt.ExchangeError, match="Invalid signature"):
                await other.fetch_balance()
        async with client_of(ccxt.pro.kraken, venue, apiKey="other") as other:
            with pytest.raises(ccxt.AuthenticationError):
                await other.fetch_balance()
