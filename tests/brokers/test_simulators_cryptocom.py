"""The simulated Crypto.com, asked by the real client: perpetuals with one leverage for the whole account."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.support.venues.cryptocom import ACCOUNT, CryptocomSimulator
from tests.support.venues.reach import Way, client_of, reached
from tests.support.venues.venue import FaultKind

D = Decimal
BTC = "BTC/USD:USD"
MARKET = "BTCUSD-PERP"
REDUCE = {"exec_inst": ["REDUCE_ONLY"]}


def funded() -> CryptocomSimulator:
    venue = CryptocomSimulator()
    venue.book.deposit("USD", D(10_000))
    return venue


def cryptocom(venue: CryptocomSimulator, way: Way = Way.URLS, **config: Any) -> Any:
    options = {"watchPositions": {"fetchPositionsSnapshot": False}}
    return reached(ccxt.pro.cryptocom, venue, way, enableRateLimit=False, options=options, **config)


@pytest.mark.parametrize("way", list(Way))
async def test_a_position_is_opened_reduced_and_closed(way: Way) -> None:
    venue = funded()
    async with cryptocom(venue, way) as client:
        placed = await client.create_order(BTC, "market", "buy", "0.2", params={"client_oid": "opening"})
        venue.set_mark(MARKET, "49000")
        (position,) = await client.fetch_positions()
        assert (position["symbol"], position["side"], D(position["contracts"])) == (BTC, "long", D("0.2"))
        assert D(position["unrealizedPnl"]) == -200
        (account,) = (await client.fetch_balance())["info"]["result"]["data"]
        fee = 10_000 * venue.book.fee_rate
        assert D(account["total_margin_balance"]) == 10_000 - 200 - fee
        assert D(account["total_initial_margin"]) == 980
        assert D(account["total_maintenance_margin"]) == 98

        await client.create_order(BTC, "market", "sell", "0.05", params={**REDUCE, "client_oid": "reducing"})
        found = await client.fetch_order(placed["id"])
        assert (found["status"], D(found["filled"]), found["clientOrderId"]) == ("closed", D("0.2"), "opening")
        reduced = await client.v1PrivatePostPrivateGetOrderDetail({"client_oid": "reducing"})
        assert (reduced["result"]["status"], reduced["result"]["exec_inst"]) == ("FILLED", ["REDUCE_ONLY"])
        await client.close_position(BTC)
        assert await client.fetch_positions() == []
        with pytest.raises(ccxt.ExchangeError, match="1110"):
            await client.create_order(BTC, "market", "sell", "0.05", params=REDUCE)
        with pytest.raises(ccxt.ExchangeError, match="NO_POSITION"):
            await client.close_position(BTC)
        with pytest.raises(ccxt.ExchangeError, match="DUPLICATE_CLORDID"):
            await client.create_order(BTC, "market", "buy", "0.05", params={"client_oid": "opening"})
        with pytest.raises(ccxt.OrderNotFound):
            await client.fetch_order("none")
        trades = await client.fetch_my_trades(BTC)
        assert [(trade["side"], D(trade["amount"])) for trade in trades] == [
            ("buy", D("0.2")),
            ("sell", D("0.05")),
            ("sell", D("0.15")),
        ]


async def test_reduce_only_in_other_words_protects_nothing() -> None:
    venue = funded()
    venue.book.hold(MARKET, D("0.1"))
    async with cryptocom(venue) as client:
        await client.create_order(BTC, "market", "sell", "0.3", params={"reduceOnly": True})
        (position,) = await client.fetch_positions()
        assert (position["side"], D(position["contracts"])) == ("short", D("0.2"))


async def test_leverage_is_the_accounts() -> None:
    venue = funded()
    venue.book.hold(MARKET, D("0.5"))
    async with cryptocom(venue) as client:
        accounts = await client.fetch_accounts()
        assert [account["id"] for account in accounts] == [ACCOUNT]

        async def change(leverage: Any) -> Any:
            return await client.v1PrivatePostPrivateChangeAccountLeverage({"account_id": ACCOUNT, "leverage": leverage})

        await change(5)
        (account,) = (await client.fetch_balance())["info"]["result"]["data"]
        assert D(account["total_initial_margin"]) == 5000
        with pytest.raises(ccxt.ExchangeError, match="INVALID_LEVERAGE"):
            await change(51)
        with pytest.raises(ccxt.ExchangeError, match="EXCEED_MAXIMUM_EFFECTIVE_LEVERAGE"):
            await change(2)
        (account,) = (await client.fetch_balance())["info"]["result"]["data"]
        assert D(account["total_initial_margin"]) == 5000


async def test_resting_orders_are_listed_and_cancelled() -> None:
    venue = funded()
    async with cryptocom(venue) as client:
        for price in ("30000", "31000"):
            await client.create_order(BTC, "limit", "buy", "0.1", price)
        first, second = await client.fetch_open_orders()
        assert (D(first["price"]), D(second["remaining"])) == (D(30_000), D("0.1"))
        await client.cancel_order(first["id"])
        with pytest.raises(ccxt.ExchangeError, match="316"):
            await client.cancel_order(first["id"])
        await client.cancel_all_orders()
        assert await client.fetch_open_orders() == []


async def test_marks_are_valuations() -> None:
    venue = funded()
    async with cryptocom(venue) as client:
        answer = await client.v1PublicGetPublicGetValuations(
            {"instrument_name": MARKET, "valuation_type": "mark_price", "count": 1}
        )
        assert D(answer["result"]["data"][0]["v"]) == 50_000
        assert D((await client.fetch_ticker(BTC))["last"]) == 50_000


@pytest.mark.parametrize("way", list(Way))
async def test_the_websocket_tells_prices_positions_orders_and_balances(way: Way) -> None:
    venue = funded()
    async with cryptocom(venue, way) as client:
        assert D((await client.watch_ticker(BTC))["last"]) == 50_000
        venue.set_mark(MARKET, "50001")
        assert D((await client.watch_ticker(BTC))["last"]) == 50_001
        assert await client.watch_positions() == []
        opening = asyncio.create_task(client.watch_positions())
        orders = asyncio.create_task(client.watch_orders())
        await asyncio.sleep(0.1)
        await client.create_order(BTC, "market", "buy", "0.1")
        (position,) = await opening
        assert (position["side"], D(position["contracts"])) == ("long", D("0.1"))
        assert (await orders)[0]["symbol"] == BTC
        assert "USD" in await client.watch_balance()
        assert venue.heartbeats == 2
        waiting = asyncio.create_task(client.watch_positions())
        await asyncio.sleep(0)
        await venue.drop_sockets()
        with pytest.raises(ccxt.NetworkError):
            await waiting
        (position,) = await client.watch_positions()
        assert D(position["contracts"]) == D("0.1")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.TOO_MANY, ccxt.RateLimitExceeded),
        (FaultKind.SERVER_ERROR, ccxt.ExchangeError),
        (FaultKind.HTML, ccxt.ExchangeError),
        (FaultKind.HANGS_BEFORE, ccxt.RequestTimeout),
        (FaultKind.GEO_BLOCK, ccxt.ExchangeError),
        (FaultKind.BAD_KEY, ccxt.AuthenticationError),
        (FaultKind.NO_PERMISSION, ccxt.ExchangeError),
        (FaultKind.CLOCK, ccxt.InvalidNonce),
    ],
)
async def test_faults_reach_the_client_as_cryptocoms_do(kind: FaultKind, error: type[Exception]) -> None:
    venue = funded()
    async with cryptocom(venue, timeout=500) as client:
        await client.load_markets()
        venue.fault("user-balance", kind)
        with pytest.raises(error):
            await client.fetch_balance()
        assert D((await client.fetch_balance())["USD"]["total"]) == 10_000


async def test_an_order_that_timed_out_after_executing_is_there() -> None:
    venue = funded()
    async with cryptocom(venue, timeout=500) as client:
        await client.load_markets()
        venue.fault("create-order", FaultKind.HANGS_AFTER)
        with pytest.raises(ccxt.RequestTimeout):
            await client.create_order(BTC, "market", "buy", "0.1", params={"client_oid": "lost"})
        found = await client.v1PrivatePostPrivateGetOrderDetail({"client_oid": "lost"})
        assert D(found["result"]["cumulative_quantity"]) == D("0.1")


async def test_key_signature_and_clock_are_checked() -> None:
    venue = funded()
    async with cryptocom(venue) as client:
        await client.fetch_balance()
        venue.book.clock_ahead = timedelta(minutes=5)
        with pytest.raises(ccxt.InvalidNonce):
            await client.fetch_balance()
        venue.mend()
        for key, secret in ((venue.key, "other"), ("other", venue.secret)):
            async with client_of(ccxt.pro.cryptocom, venue, apiKey=key, secret=secret) as other:
                with pytest.raises(ccxt.AuthenticationError):
                    await other.fetch_balance()
