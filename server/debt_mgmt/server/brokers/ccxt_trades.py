"""The account's own trades at its venue, with the journal's ids where the venue tells ours."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from debt_mgmt.core.account import Side
from debt_mgmt.core.venue import VenueFill
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.ccxt_markets import Markets, venue_symbol
from debt_mgmt.server.brokers.ccxt_numbers import moment, needed, number
from debt_mgmt.server.brokers.client_order_ids import house_order_id
from debt_mgmt.server.brokers.venue_rows import Row, is_short, leg_of


class Trades(msgspec.Struct, frozen=True):
    """Which of the account's own trades to read: since when, and (Binance asks by symbol) in which symbols at least."""

    since: datetime
    symbols: frozenset[str]
    salt: str
    """Of our order ids: see `client_order_ids`."""


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
        side=Side.SELL if is_short(trade["side"], "buy", "sell") else Side.BUY,
        quantity=needed(trade, "amount"),
        price=needed(trade, "price"),
        at=at,
        position_side=leg_of(info),
        client_order_id=ours or given,
        fee=number(fee.get("cost")),
        fee_asset=str(fee.get("currency") or ""),
    )
