"""The simulated Coinbase, asked by the real client: spot, and US futures that are closed by a call of their own."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.support.venues.coinbase import CoinbaseSimulator
from tests.support.venues.reach import Way, client_of, reached
from tests.support.venues.venue import FaultKind

D = Decimal
SPOT, PERPETUAL = "BTC/USD", "BTC/USD:USD"
PRODUCT = "BIP-20DEC30-CDE"


def funded() -> CoinbaseSimulator:
    venue = CoinbaseSimulator()
    venue.book.deposit("USD", D(100_000))
    return venue


def coinbase(venue: CoinbaseSimulator, way: Way = Way.URLS, **config: Any) -> Any:
    return reached(ccxt.pro.coinbase, venue, way, enableRateLimit=False, **config)


@pytest.mark.parametrize("way", list(Way))
async def test_a_future_is_opened_by_an_order_and_closed_in_part_by_its_size(way: Way) -> None:
    venue = funded()
    async with coinbase(venue, way) as client:
        await client.create_order(PERPETUAL, "market", "buy", "20")
        venue.set_mark(PRODUCT, "51000")
        (position,) = await client.fetch_positions()
        assert (position["symbol"], position["side"], D(position["contracts"])) == (PERPETUAL, "long", D(20))
        assert (D(position["entryPrice"]), D(position["unrealizedPnl"])) == (D(50_000), D(200))
        summary = (await client.fetch_balance({"type": "swap"}))["info"]["balance_summary"]
        fee = 10_000 * venue.book.fee_rate
        assert D(summary["total_usd_balance"]["value"]) == 100_000 - fee
        assert D(summary["unrealized_pnl"]["value"]) == 200
        assert D(summary["initial_margin"]["value"]) == D(10_200) / 4
        spot = D((await client.fetch_balance({"v3": True}))["USD"]["total"])
        assert spot + D(summary["cfm_usd_balance"]["value"]) == 100_000 - fee

        closing = {"clientOrderId": "closing-1", "size": "5"}
        order = await client.close_position(PERPETUAL, params=closing)
        again = await client.close_position(PERPETUAL, params=closing)
        assert again["id"] == order["id"]
        (position,) = await client.fetch_positions()
        assert D(position["contracts"]) == 15
        found = await client.fetch_order(order["id"])
        assert (found["status"], found["side"], D(found["filled"])) == ("closed", "sell", D(5))
        await client.close_position(PERPETUAL, params={"clientOrderId": "closing-2"})
        assert await client.fetch_positions() == []
        with pytest.raises(ccxt.BadRequest):
            await client.close_position(PERPETUAL, params={"clientOrderId": "closing-3"})
        assert [D(trade["amount"]) for trade in await client.fetch_my_trades(PERPETUAL)] == [D(20), D(5), D(15)]


async def test_a_key_that_the_venue_does_not_know_closes_everything() -> None:
    venue = funded()
    async with coinbase(venue) as client:
        await client.create_order(PERPETUAL, "market", "sell", "20")
        await client.create_order(PERPETUAL, "market", "buy", "1", params={"reduceOnly": True, "clientOrderId": "x"})
        assert await client.fetch_positions() == []


async def test_spot_is_bought_for_money_and_rests_at_a_price() -> None:
    venue = funded()
    async with coinbase(venue) as client:
        await client.create_order(SPOT, "market", "buy", "0.5", "50000")
        balance = await client.fetch_balance({"v3": True})
        assert D(balance["BTC"]["total"]) == D("0.5")
        with pytest.raises(ccxt.ExchangeError, match="INSUFFICIENT_FUND"):
            await client.create_order(SPOT, "market", "buy", "500", "50000")
        order = await client.create_order(SPOT, "limit", "buy", "0.1", "40000")
        (found,) = await client.fetch_open_orders()
        assert (found["id"], D(found["price"]), found["clientOrderId"][:5]) == (order["id"], D(40_000), "ccxt-")
        assert D((await client.fetch_balance({"v3": True}))["USD"]["used"]) == 4000
        await client.cancel_order(order["id"])
        with pytest.raises(ccxt.BadRequest):
            await client.cancel_order(order["id"])
        assert await client.fetch_open_orders() == []


@pytest.mark.parametrize("way", list(Way))
async def test_the_websocket_tells_prices_and_orders(way: Way) -> None:
    venue = funded()
    async with coinbase(venue, way) as client:
        assert D((await client.fetch_ticker(PERPETUAL))["last"]) == 50_000
        assert D((await client.watch_ticker(PERPETUAL))["last"]) == 50_000
        venue.set_mark(PRODUCT, "50005")
        assert D((await client.watch_ticker(PERPETUAL))["last"]) == 50_005
        assert await client.watch_orders() == []
        await client.create_order(PERPETUAL, "limit", "buy", "1", "40000")
        (order,) = await client.watch_orders()
        assert (order["status"], order["symbol"]) == ("open", PERPETUAL)
        waiting = asyncio.create_task(client.watch_ticker(PERPETUAL))
        await asyncio.sleep(0)
        await venue.drop_sockets()
        with pytest.raises(ccxt.NetworkError):
            await waiting
        assert D((await client.watch_ticker(PERPETUAL))["last"]) == 50_005


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.TOO_MANY, ccxt.RateLimitExceeded),
        (FaultKind.SERVER_ERROR, ccxt.ExchangeError),
        (FaultKind.HTML, ccxt.ExchangeNotAvailable),
        (FaultKind.HANGS_BEFORE, ccxt.RequestTimeout),
        (FaultKind.GEO_BLOCK, ccxt.ExchangeNotAvailable),
        (FaultKind.BAD_KEY, ccxt.AuthenticationError),
        (FaultKind.NO_PERMISSION, ccxt.PermissionDenied),
        (FaultKind.CLOCK, ccxt.AuthenticationError),
    ],
)
async def test_faults_reach_the_client_as_coinbases_do(kind: FaultKind, error: type[Exception]) -> None:
    venue = funded()
    async with coinbase(venue, timeout=500) as client:
        await client.load_markets()
        venue.fault("accounts", kind)
        with pytest.raises(error):
            await client.fetch_balance({"v3": True})
        assert D((await client.fetch_balance({"v3": True}))["USD"]["total"]) == 100_000


async def test_an_order_that_timed_out_after_executing_is_not_placed_twice() -> None:
    venue = funded()
    venue.book.hold(PRODUCT, D(20))
    async with coinbase(venue, timeout=500) as client:
        await client.load_markets()
        venue.fault("close_position", FaultKind.HANGS_AFTER)
        with pytest.raises(ccxt.RequestTimeout):
            await client.close_position(PERPETUAL, params={"clientOrderId": "lost", "size": "5"})
        (found,) = [order for order in await client.fetch_orders(PERPETUAL) if order["clientOrderId"] == "lost"]
        assert D(found["filled"]) == 5


async def test_tokens_are_checked() -> None:
    venue = funded()
    async with coinbase(venue) as client:
        await client.fetch_balance({"v3": True})
        venue.book.clock_ahead = timedelta(minutes=5)
        with pytest.raises(ccxt.AuthenticationError):
            await client.fetch_balance({"v3": True})
        venue.mend()
        async with client_of(ccxt.pro.coinbase, venue, apiKey="organizations/other/apiKeys/other") as other:
            with pytest.raises(ccxt.AuthenticationError):
                await other.fetch_balance({"v3": True})
