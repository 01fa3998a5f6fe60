"""Reads an account from its venue: balances, positions, open orders and trades, by as few calls as each venue needs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import MarginMode, PositionSide, Side
from debt_mgmt.core.venue import VenueBalance, VenueFill, VenueOrder, VenuePosition, VenueState
from debt_mgmt.server.brokers.broker import Unreachable
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.ccxt_markets import Markets
from debt_mgmt.server.brokers.ccxt_numbers import moment, needed, number, price
from debt_mgmt.server.brokers.client_order_ids import house_order_id
from debt_mgmt.server.brokers.venue_rows import MONEY, POSITIONS, SIDES, Row, kept, mode_of

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


class Trades(msgspec.Struct, frozen=True):
    """Which of the account's own trades to read: since when, and (Binance asks by symbol) in which symbols at least."""

    since: datetime
    symbols: frozenset[str]
    salt: str
    """Of our order ids: see `client_order_ids`."""


async def read_state(link: Link, markets: Markets, trades: Trades | None = None) -> VenueState:
    """The whole account. Raises a fault where any part of it can't be read or understood: there are no half states."""
    at = datetime.now(UTC)
    broker = link.profile.broker
    fills: tuple[VenueFill, ...] = ()
    if trades is not None:
        fills = await read_fills(link, markets, trades)
    async with link.asking() as client:
        raw = await READERS[broker](client)
        balances, health = MONEY[broker](raw.money, client.safe_currency_code)
        positions = [read_position(link, markets, row, raw) for row in raw.positions]
        orders = [read_order(link, markets, row) for row in raw.orders]
        return VenueState(
            at=at,
            balances=balances,
            positions=tuple(one for one in positions if one is not None),
            orders=tuple(one for one in orders if one is not None),
            health=msgspec.structs.replace(health, currency=link.profile.health_currency),
            leverage=named(link, markets, raw.leverage),
            margin_modes=named(link, markets, raw.modes),
            hedge=raw.hedge,
            fills=fills,
        )


def named(link: Link, markets: Markets, found: Mapping[str, Any]) -> dict[str, Any]:
    """By house name what was found by market id; markets that are no instruments of the house are left out."""
    names = ((markets.house(venue_symbol(link, market_id)), value) for market_id, value in found.items())
    return {name: value for name, value in names if name is not None}


def venue_symbol(link: Link, market_id: str) -> str:
    client = link.client
    if link.profile.broker == "kraken":
        return str(client.safe_symbol(market_id))
    return str(client.safe_symbol(market_id, None, None, "contract" if link.profile.broker != "coinbase" else None))


MARKET_ID = {
    "bybit": "symbol",
    "binance": "symbol",
    "okx": "instId",
    "kraken": "pair",
    "coinbase": "product_id",
    "cryptocom": "instrument_name",
}


def read_position(link: Link, markets: Markets, row: Row, raw: Raw) -> VenuePosition | None:
    """A position as the house knows it; None where the row is flat.

    Raises Unreachable for one in a market that is no instrument of the house: it takes margin that nobody would count.
    """
    broker = link.profile.broker
    market_id = str(row[MARKET_ID[broker]])
    symbol = markets.house(venue_symbol(link, market_id))
    found = POSITIONS[broker](symbol or market_id, row)
    if found is None:
        return None
    if symbol is None:
        raise Unreachable(
            f"{broker}: the account holds a position in {market_id}, which this service does not trade",
            code="UNKNOWN_INSTRUMENT",
        )
    mode = found.margin_mode or raw.modes.get(market_id) or raw.account_mode
    return msgspec.structs.replace(
        found,
        margin_mode=mode,
        leverage=found.leverage or raw.leverage.get(market_id),
        isolated_margin=found.isolated_margin if mode is MarginMode.ISOLATED else None,
    )


def read_order(link: Link, markets: Markets, row: Row) -> VenueOrder | None:
    """An open order; None for one that trades one's own coins, which touches no position."""
    if link.profile.broker == "kraken" and row["descr"]["leverage"] == "none":
        return None
    order = link.client.parse_order(row)
    market = link.client.markets.get(order["symbol"])
    symbol = markets.house(order["symbol"])
    if symbol is None:
        if market is not None and market.get("spot"):
            return None
        raise Unreachable(
            f"{link.profile.broker}: there is an open order in {order['symbol']}, which this service does not trade",
            code="UNKNOWN_INSTRUMENT",
        )
    left = number(order.get("remaining"))
    if left is None:
        left = needed(order, "amount") - (number(order.get("filled")) or Decimal(0))
    info = order["info"]
    reduce_only = info.get("reduceOnly", info.get("reduce_only", False))
    instructions = info.get("exec_inst") or ()
    return VenueOrder(
        order_id=str(order["id"]),
        symbol=symbol,
        side=Side.BUY if order["side"] == "buy" else Side.SELL,
        quantity=left,
        position_side=leg_of(info),
        client_order_id=str(order.get("clientOrderId") or ""),
        price=price(order.get("price")) if order.get("type") != "market" else None,
        reduce_only=str(reduce_only).lower() == "true" or "REDUCE_ONLY" in instructions,
    )


def leg_of(info: Row) -> PositionSide:
    word = info.get("positionSide", info.get("posSide", info.get("positionIdx", "net")))
    return SIDES.get(str(word), PositionSide.NET)


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


async def read_orders(link: Link, markets: Markets) -> list[VenueOrder]:
    """Open orders in instruments of the house."""
    async with link.asking() as client:
        rows = await OPEN_ORDERS[link.profile.broker](client)
        return [order for row in rows if (order := read_order(link, markets, row)) is not None]


# Trades.


async def read_fills(link: Link, markets: Markets, trades: Trades) -> tuple[VenueFill, ...]:
    """The account's own trades since a time, in instruments of the house, the oldest first."""
    start = int(trades.since.timestamp() * 1000)
    found: list[VenueFill] = []
    async with link.asking() as client:
        for symbol, request in await fill_requests(link, client, markets, trades):
            for trade in await client.fetch_my_trades(symbol, start, 100, dict(request)):
                fill = read_fill(link, markets, trade, trades.salt)
                if fill is not None and fill.at >= trades.since:
                    found.append(fill)
    return tuple(sorted(found, key=lambda fill: (fill.at, fill.fill_id)))


async def fill_requests(
    link: Link, client: Any, markets: Markets, trades: Trades
) -> list[tuple[str | None, Mapping[str, Any]]]:
    """What must be asked to see all trades: on Binance it is one call for each symbol that is held or is named."""
    broker = link.profile.broker
    if broker == "bybit":
        return [(None, {"category": "linear"}), (None, {"category": "inverse"})]
    if broker == "okx":
        return [(None, {"instType": "SWAP"})]
    if broker == "binance":
        rows = await client.fapiPrivateV3GetPositionRisk()
        held = {venue_symbol(link, str(row["symbol"])) for row in rows}
        return [(symbol, {}) for symbol in sorted(held | set(map(markets.venue_symbol, trades.symbols)))]
    return [(None, {})]


def read_fill(link: Link, markets: Markets, trade: Row, salt: str) -> VenueFill | None:
    """None for a trade in a market that is no instrument of the house. Our own orders have the journal's id."""
    symbol = markets.house(trade["symbol"])
    if symbol is None:
        return None
    at = moment(trade["timestamp"])
    if at is None:
        raise ValueError("a trade without a time")
    fee, info = trade.get("fee") or {}, trade["info"]
    given = str(info.get("orderLinkId") or info.get("clOrdId") or info.get("client_oid") or "")
    ours = house_order_id(link.profile.client_order_ids, given, salt)
    return VenueFill(
        fill_id=str(trade["id"]),
        order_id=str(trade["order"]),
        symbol=symbol,
        side=Side.BUY if trade["side"] == "buy" else Side.SELL,
        quantity=needed(trade, "amount"),
        price=needed(trade, "price"),
        at=at,
        position_side=leg_of(info),
        client_order_id=ours or given,
        fee=number(fee.get("cost")),
        fee_asset=str(fee.get("currency") or ""),
    )


async def read_loans(link: Link) -> tuple[VenueBalance, ...]:
    """Binance's cross margin wallet: what is in it, and what was borrowed. Not there on the test system."""
    if link.profile.broker != "binance" or link.testnet:
        return ()
    async with link.asking() as client:
        answer = await client.sapiGetMarginAccount()
        balances = []
        for row in answer["userAssets"]:
            free, locked = needed(row, "free"), needed(row, "locked")
            owed, interest = needed(row, "borrowed"), needed(row, "interest")
            balances.append(VenueBalance(client.safe_currency_code(row["asset"]), free + locked, free, owed, interest))
        return kept(balances)
