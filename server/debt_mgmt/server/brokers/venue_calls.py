"""The calls that tell a venue's account, one reader a venue: as few as each needs, every page of each."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import MarginMode
from debt_mgmt.server.brokers.broker import Unreachable
from debt_mgmt.server.brokers.ccxt_numbers import needed, price
from debt_mgmt.server.brokers.venue_rows import Row, mode_of

PAGES_MOST = 50
SETTLEMENTS = ({"category": "linear", "settleCoin": "USDT"}, {"category": "linear", "settleCoin": "USDC"})
INVERSE = {"category": "inverse"}

Call = Callable[[dict[str, Any]], Awaitable[Any]]


class Raw(msgspec.Struct):
    """What a venue answered, not yet read: money, (market id, row) of positions, rows of orders, and settings."""

    money: Any
    positions: list[Row]
    orders: list[Row]
    leverage: dict[str, Decimal] = {}
    """By market id."""
    modes: dict[str, MarginMode] = {}
    account_mode: MarginMode | None = None
    hedge: bool | None = None


async def pages(call: Call, request: dict[str, Any], found: Callable[[Any], tuple[list[Row], Any]]) -> list[Row]:
    """Rows of every page. `found` gives the rows of one and what to ask the next one with; None: it was the last."""
    rows: list[Row] = []
    following: dict[str, Any] | None = {}
    for _ in range(PAGES_MOST):
        if following is None:
            return rows
        part, following = found(await call({**request, **following}))
        rows += part
    raise Unreachable(f"more than {PAGES_MOST} pages", code="TOO_MANY_PAGES")


async def together(*asking: Awaitable[Any]) -> list[Any]:
    """All answers, asked for at once; the first error stops the others."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# One reader a venue.


def bybit_page(answer: Any) -> tuple[list[Row], Any]:
    result = answer["result"]
    cursor, rows = result.get("nextPageCursor"), result["list"]
    return rows, {"cursor": cursor} if cursor and rows else None


async def bybit_rows(call: Call, limit: int) -> list[Row]:
    requests = [{**where, "limit": limit} for where in (*SETTLEMENTS, INVERSE)]
    parts = await together(*(pages(call, request, bybit_page) for request in requests))
    return [row for part in parts for row in part]


async def bybit_orders(client: Any) -> list[Row]:
    return await bybit_rows(client.privateGetV5OrderRealtime, 50)


async def read_bybit(client: Any) -> Raw:
    money, info, positions, orders = await together(
        client.privateGetV5AccountWalletBalance({"accountType": "UNIFIED"}),
        client.privateGetV5AccountInfo(),
        bybit_rows(client.privateGetV5PositionList, 200),
        bybit_orders(client),
    )
    legs = {str(row.get("positionIdx", 0)) for row in positions}
    leverage = {row["symbol"]: found for row in positions if (found := price(row.get("leverage"))) is not None}
    mode = mode_of(info["result"]["marginMode"])
    if mode is None:
        raise Unreachable(f"bybit: margin mode {info['result']['marginMode']} is not known here", code="MARGIN_MODE")
    return Raw(money, positions, orders, leverage, account_mode=mode, hedge=bool(legs & {"1", "2"}) if legs else None)


async def binance_orders(client: Any) -> list[Row]:
    return list(await client.fapiPrivateGetOpenOrders())


async def binance_hedge(client: Any, positions: list[Row]) -> bool:
    """Open positions tell it; the call for it is the heaviest of all, and only made where there is none."""
    legs = {str(row["positionSide"]) for row in positions}
    if legs:
        return legs != {"BOTH"}
    answer = await client.fapiPrivateGetPositionSideDual()
    return str(answer["dualSidePosition"]).lower() == "true"


async def read_binance(client: Any) -> Raw:
    money, positions, settings, orders = await together(
        client.fapiPrivateV3GetAccount(),
        client.fapiPrivateV3GetPositionRisk(),
        client.fapiPrivateGetSymbolConfig(),
        binance_orders(client),
    )
    leverage = {row["symbol"]: needed(row, "leverage") for row in settings}
    modes = {row["symbol"]: mode for row in settings if (mode := mode_of(row.get("marginType"))) is not None}
    hedge = await binance_hedge(client, positions)
    return Raw(money, positions, orders, leverage, modes, hedge=hedge)


def okx_page(answer: Any) -> tuple[list[Row], Any]:
    rows = answer["data"]
    return rows, {"after": rows[-1]["ordId"]} if len(rows) == 100 else None


async def okx_orders(client: Any) -> list[Row]:
    return await pages(client.privateGetTradeOrdersPending, {"limit": 100}, okx_page)


async def read_okx(client: Any) -> Raw:
    money, positions, orders, config = await together(
        client.privateGetAccountBalance(),
        client.privateGetAccountPositions(),
        okx_orders(client),
        client.privateGetAccountConfig(),
    )
    held = positions["data"]
    leverage = {row["instId"]: found for row in held if (found := price(row.get("lever"))) is not None}
    hedge = config["data"][0]["posMode"] == "long_short_mode"
    return Raw(money, held, orders, leverage, hedge=hedge)


async def read_kraken(client: Any) -> Raw:
    balances = await client.privatePostBalanceEx()
    trade = await client.privatePostTradeBalance({"asset": "ZUSD"})
    positions = await client.privatePostOpenPositions({"docalcs": "true", "consolidation": "market"})
    orders = await kraken_orders(client)
    return Raw({"balances": balances, "trade": trade}, kraken_rows(positions["result"]), orders, hedge=False)


async def kraken_orders(client: Any) -> list[Row]:
    answer = await client.privatePostOpenOrders()
    return [{**row, "id": order_id} for order_id, row in answer["result"]["open"].items()]


def kraken_rows(result: Any) -> list[Row]:
    """A list when consolidated; an object without that, and also when nothing is held."""
    return list(result.values()) if isinstance(result, Mapping) else list(result)


def coinbase_accounts(answer: Any) -> tuple[list[Row], Any]:
    more = str(answer.get("has_next", False)).lower() == "true" and answer.get("cursor")
    return answer["accounts"], {"cursor": answer["cursor"]} if more else None


def coinbase_page(answer: Any) -> tuple[list[Row], Any]:
    more = str(answer.get("has_next", False)).lower() == "true" and answer.get("cursor")
    return answer["orders"], {"cursor": answer["cursor"]} if more else None


async def coinbase_orders(client: Any) -> list[Row]:
    request = {"order_status": "OPEN"}
    return await pages(client.v3PrivateGetBrokerageOrdersHistoricalBatch, request, coinbase_page)


async def read_coinbase(client: Any) -> Raw:
    accounts, summary, positions, orders = await together(
        pages(client.v3PrivateGetBrokerageAccounts, {"limit": 250}, coinbase_accounts),
        client.v3PrivateGetBrokerageCfmBalanceSummary(),
        client.v3PrivateGetBrokerageCfmPositions(),
        coinbase_orders(client),
    )
    return Raw({"accounts": accounts, "summary": summary}, positions["positions"], orders, hedge=False)


async def read_cryptocom(client: Any) -> Raw:
    money, positions, orders = await together(
        client.v1PrivatePostPrivateUserBalance(),
        client.v1PrivatePostPrivateGetPositions(),
        cryptocom_orders(client),
    )
    return Raw(money, positions["result"]["data"], orders, hedge=False)


async def cryptocom_orders(client: Any) -> list[Row]:
    answer = await client.v1PrivatePostPrivateGetOpenOrders()
    return list(answer["result"]["data"])


READERS: Mapping[str, Callable[[Any], Awaitable[Raw]]] = {
    "bybit": read_bybit,
    "binance": read_binance,
    "okx": read_okx,
    "kraken": read_kraken,
    "coinbase": read_coinbase,
    "cryptocom": read_cryptocom,
}

OPEN_ORDERS: Mapping[str, Callable[[Any], Awaitable[list[Row]]]] = {
    "bybit": bybit_orders,
    "binance": binance_orders,
    "okx": okx_orders,
    "kraken": kraken_orders,
    "coinbase": coinbase_orders,
    "cryptocom": cryptocom_orders,
}
