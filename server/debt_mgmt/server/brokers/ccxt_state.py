"""An account as its venue tells it, in the house's words: whole, or not at all."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import MarginMode, Side
from debt_mgmt.core.venue import VenueBalance, VenueFill, VenueOrder, VenuePosition, VenueState
from debt_mgmt.server.brokers.broker import Unreachable
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.ccxt_markets import Markets, venue_symbol
from debt_mgmt.server.brokers.ccxt_numbers import needed, number, price
from debt_mgmt.server.brokers.ccxt_trades import Trades, read_fills
from debt_mgmt.server.brokers.venue_calls import OPEN_ORDERS, READERS, Raw
from debt_mgmt.server.brokers.venue_rows import MONEY, POSITIONS, Row, is_short, kept, leg_of


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
        side=Side.SELL if is_short(order["side"], "buy", "sell") else Side.BUY,
        quantity=left,
        position_side=leg_of(info),
        client_order_id=str(order.get("clientOrderId") or ""),
        price=price(order.get("price")) if order.get("type") != "market" else None,
        reduce_only=str(reduce_only).lower() == "true" or "REDUCE_ONLY" in instructions,
    )


async def read_orders(link: Link, markets: Markets) -> list[VenueOrder]:
    """Open orders in instruments of the house."""
    async with link.asking() as client:
        rows = await OPEN_ORDERS[link.profile.broker](client)
        return [order for row in rows if (order := read_order(link, markets, row)) is not None]


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
