"""Orders at a venue: reduce-only in its own spelling, sent once, found again by the id that we gave them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from debt_mgmt.core.account import PositionSide, Side
from debt_mgmt.core.venue import VenuePosition
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    BrokerFill,
    BrokerOrder,
    Denied,
    Rejected,
    RejectionReason,
    StillOpen,
    Unreachable,
)
from debt_mgmt.server.brokers.ccxt_link import Link, batches
from debt_mgmt.server.brokers.ccxt_markets import Market, Markets, leverages
from debt_mgmt.server.brokers.ccxt_numbers import in_lots, needed, number, written
from debt_mgmt.server.brokers.ccxt_state import read_orders
from debt_mgmt.server.brokers.client_order_ids import venue_order_id
from debt_mgmt.server.brokers.profiles import CancelPath, ReducePath
from debt_mgmt.server.brokers.rate_budget import urgent
from debt_mgmt.server.brokers.venue_calls import coinbase_page, pages
from debt_mgmt.server.brokers.venue_rows import POSITIONS, Row

LOOKS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds to wait before each look at an order that was just sent."""

BATCH_MOST = 20
BINANCE_LEGS = {PositionSide.LONG: "LONG", PositionSide.SHORT: "SHORT"}
OTHER_LEGS = {PositionSide.NET: "net", PositionSide.LONG: "long", PositionSide.SHORT: "short"}
BYBIT_LEGS = {PositionSide.LONG: 1, PositionSide.SHORT: 2}


class Orders:
    """Orders of one account."""

    def __init__(self, link: Link, markets: Callable[[], Markets], salt: str, leverage: Mapping[str, Decimal]) -> None:
        """`leverage` by symbol is what orders carry where the venue keeps none."""
        self.link = link
        self.markets = markets
        self.salt = salt
        self.leverage = leverage

    def id_of(self, client_order_id: str) -> str:
        return venue_order_id(self.link.profile.client_order_ids, client_order_id, self.salt)

    async def place(self, order: BrokerOrder) -> BrokerFill:
        """Send the order once, then look until it is filled. One that stays open, or can't be seen, is Ambiguous."""
        market = self.markets().market(order.symbol)
        lot = needed(market["precision"], "amount")
        quantity = in_lots(order.quantity, lot)
        if not quantity:
            words = f"{order.quantity} is less than the lot of {order.symbol}, {lot}"
            raise Rejected(words, reason=RejectionReason.INVALID)
        with urgent():
            if not self.link.profile.client_order_ids.unique:
                known = await self.find(order.client_order_id, order.symbol)
                if isinstance(known, BrokerFill):
                    return known
                if known is not None:
                    return await self.outcome(order)
            try:
                await self.send(order, market, quantity)
            except Rejected as refused:
                if refused.reason is not RejectionReason.DUPLICATE:
                    raise
            return await self.outcome(order)

    async def outcome(self, order: BrokerOrder) -> BrokerFill:
        """What became of an order that the venue took."""
        for wait in LOOKS:
            await asyncio.sleep(wait)
            try:
                found = await self.find(order.client_order_id, order.symbol)
            except (Unreachable, Denied) as fault:
                raise Ambiguous(f"sent, and could not be looked up: {fault.words}", code=fault.code) from None
            if isinstance(found, BrokerFill):
                return found
        raise Ambiguous(f"{self.link.profile.broker}: the order was taken and is not filled yet")

    async def send(self, order: BrokerOrder, market: Market, quantity: Decimal) -> None:
        """One request that may place the order, in the venue's spelling."""
        params = await self.spelled(order, market)
        path = self.link.profile.reduce_path
        if path is not ReducePath.REDUCE_ONLY:
            quantity = min(quantity, await self.reducible(order, market))
        symbol, side = market["symbol"], order.side.value.lower()
        async with self.link.asking(writes=True) as client:
            if path is ReducePath.CLOSE_POSITION:
                await client.close_position(symbol, None, {**params, "size": written(quantity)})
            else:
                await client.create_order(symbol, "market", side, written(quantity), None, params)

    async def spelled(self, order: BrokerOrder, market: Market) -> dict[str, Any]:
        """What makes a market order reduce-only, and carries our id, at this venue."""
        profile, leg = self.link.profile, order.position_side
        params: dict[str, Any] = {profile.client_order_ids.parameter: self.id_of(order.client_order_id)}
        match profile.broker:
            case "bybit":
                params |= {"reduceOnly": True}
                if leg in BYBIT_LEGS:
                    params |= {"positionIdx": BYBIT_LEGS[leg]}
            case "binance":
                params |= {"positionSide": BINANCE_LEGS[leg]} if leg in BINANCE_LEGS else {"reduceOnly": True}
            case "okx":
                params |= {"reduceOnly": True, "tdMode": await self.okx_mode(order, market)}
                if leg is not PositionSide.NET:
                    params |= {"posSide": OTHER_LEGS[leg]}
            case "kraken":
                params |= {"reduceOnly": True, "leverage": str(self.order_leverage(order.symbol, market))}
            case "cryptocom":
                params |= {"exec_inst": ["REDUCE_ONLY"]}
        return params

    def order_leverage(self, symbol: str, market: Market) -> Decimal:
        """A margin order names one, also when it only reduces; the lowest of the pair where none was chosen."""
        buy, sell = leverages(market)
        return self.leverage.get(symbol, Decimal(min({*buy, *sell})))

    async def okx_mode(self, order: BrokerOrder, market: Market) -> str:
        """The margin mode of the position: an order of the other mode would not find it."""
        mode = (await self.held(order, market)).margin_mode
        if mode is None:
            raise Unreachable("okx: the margin mode of the position is missing", code="MARGIN_MODE")
        return mode.value.lower()

    async def reducible(self, order: BrokerOrder, market: Market) -> Decimal:
        """How many contracts the venue shows at this moment that the order would reduce."""
        return abs((await self.held(order, market)).quantity)

    async def held(self, order: BrokerOrder, market: Market) -> VenuePosition:
        """The position that the order reduces; raises Rejected (NOTHING_TO_REDUCE) where there is none."""
        broker = self.link.profile.broker
        async with self.link.asking() as client:
            rows = await HELD[broker](client, market["id"])
            found = [POSITIONS[broker](order.symbol, row) for row in rows]
        for one in found:
            fits = one is not None and one.side is order.position_side
            if one is not None and fits and (one.quantity > 0) == (order.side is Side.SELL):
                return one
        words = f"{broker}: there is no position in {order.symbol} that it would reduce"
        raise Rejected(words, reason=RejectionReason.NOTHING_TO_REDUCE)

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        """What became of an order of ours."""
        market = self.markets().market(symbol)
        broker, venue_id = self.link.profile.broker, self.id_of(client_order_id)
        with urgent():
            try:
                async with self.link.asking() as client:
                    row = await FINDERS[broker](client, market, venue_id)
                    if row is None:
                        return None
                    order = client.parse_order(row, market)
                    return await self.read_outcome(client, order, market, client_order_id)
            except Rejected as refused:
                if refused.reason is RejectionReason.NOT_FOUND:
                    return None
                raise

    async def read_outcome(
        self, client: Any, order: Row, market: Market, client_order_id: str
    ) -> BrokerFill | StillOpen:
        status = order["status"]
        if status is None:
            raise ValueError("the order has no status")
        if status == "open":
            return StillOpen()
        filled = needed(order, "filled")
        if not filled:
            words = f"{self.link.profile.broker}: the order ended with nothing filled ({status})"
            raise Rejected(words, code=str(status), reason=RejectionReason.PRECONDITION)
        fee, asset = await self.fee_of(client, order, market)
        return BrokerFill(client_order_id, filled, needed(order, "average"), fee, asset)

    async def fee_of(self, client: Any, order: Row, market: Market) -> tuple[Decimal, str]:
        """What was paid for an order. Binance tells it with the trades only."""
        own = market.get("settle") or market["quote"]
        if self.link.profile.broker == "binance":
            trades = await client.fetch_my_trades(market["symbol"], None, None, {"orderId": order["id"]})
            fees: dict[str, Decimal] = {}
            for trade in trades:
                asset = str(trade["fee"]["currency"])
                fees[asset] = fees.get(asset, Decimal(0)) + needed(trade["fee"], "cost")
            if not fees:
                raise ValueError("the trades of the order are missing")
            asset = own if own in fees else next(iter(fees))
            return fees[asset], asset
        fee: Row = order.get("fee") or next(iter(order.get("fees") or ()), {})
        paid = number(fee.get("cost"))
        if paid is None:
            raise ValueError("the fee of the order is missing")
        return (abs(paid) if self.link.profile.broker == "cryptocom" else paid), str(fee.get("currency") or own)

    async def cancel(self, symbol: str, order_id: str) -> bool:
        """Cancel by the venue's id; False where the order was gone."""
        venue_symbol = self.markets().venue_symbol(symbol)
        try:
            with urgent():
                async with self.link.asking(writes=True) as client:
                    await client.cancel_order(order_id, venue_symbol)
        except Rejected as refused:
            if refused.reason is RejectionReason.NOT_FOUND:
                return False
            raise
        return True

    async def cancel_all(self) -> int:
        """Cancel every open order in instruments of the house; returns how many there were."""
        with urgent():
            by_symbol: dict[str, list[str]] = {}
            for order in await read_orders(self.link, self.markets()):
                by_symbol.setdefault(order.symbol, []).append(order.order_id)
            if self.link.profile.cancel_path is CancelPath.ACCOUNT:
                await self.cancel_account(by_symbol)
            else:
                for symbol, ids in by_symbol.items():
                    await self.cancel_symbol(symbol, ids)
        return sum(map(len, by_symbol.values()))

    async def cancel_account(self, by_symbol: Mapping[str, list[str]]) -> None:
        """Kraken: one call, unless it would also cancel orders that trade one's own coins."""
        async with self.link.asking() as client:
            everything = (await client.privatePostOpenOrders())["result"]["open"]
        ours = {order_id for ids in by_symbol.values() for order_id in ids}
        if not ours:
            return
        if set(everything) <= ours:
            async with self.link.asking(writes=True) as client:
                await client.cancel_all_orders()
            return
        for symbol, ids in by_symbol.items():
            for order_id in ids:
                await self.cancel(symbol, order_id)

    async def cancel_symbol(self, symbol: str, ids: list[str]) -> None:
        venue_symbol = self.markets().venue_symbol(symbol)
        if self.link.profile.cancel_path is CancelPath.SYMBOL:
            async with self.link.asking(writes=True) as client:
                await client.cancel_all_orders(venue_symbol)
            return
        for some in batches(ids, BATCH_MOST):
            try:
                async with self.link.asking(writes=True) as client:
                    await client.cancel_orders(some, venue_symbol)
            except Rejected as refused:
                if refused.reason is not RejectionReason.NOT_FOUND:
                    raise
                for order_id in some:
                    await self.cancel(symbol, order_id)


# Where a position has to be read before an order: its rows, by market.


async def okx_held(client: Any, market_id: str) -> list[Row]:
    return list((await client.privateGetAccountPositions({"instId": market_id}))["data"])


async def coinbase_held(client: Any, market_id: str) -> list[Row]:
    rows = (await client.v3PrivateGetBrokerageCfmPositions())["positions"]
    return [row for row in rows if row["product_id"] == market_id]


async def cryptocom_held(client: Any, market_id: str) -> list[Row]:
    answer = await client.v1PrivatePostPrivateGetPositions({"instrument_name": market_id})
    return [row for row in answer["result"]["data"] if row["instrument_name"] == market_id]


HELD: Mapping[str, Callable[[Any, str], Awaitable[list[Row]]]] = {
    "okx": okx_held,
    "coinbase": coinbase_held,
    "cryptocom": cryptocom_held,
}


# How each venue finds an order by our id: the order's row, or None.

Finder = Callable[[Any, Market, str], Awaitable[Row | None]]


async def find_bybit(client: Any, market: Market, venue_id: str) -> Row | None:
    request = {
        "category": "inverse" if market["inverse"] else "linear",
        "symbol": market["id"],
        "orderLinkId": venue_id,
    }
    for call in (client.privateGetV5OrderRealtime, client.privateGetV5OrderHistory):
        for row in (await call(request))["result"]["list"]:
            return dict(row)
    return None


async def find_binance(client: Any, market: Market, venue_id: str) -> Row | None:
    return dict(await client.fapiPrivateGetOrder({"symbol": market["id"], "origClientOrderId": venue_id}))


async def find_okx(client: Any, market: Market, venue_id: str) -> Row | None:
    answer = await client.privateGetTradeOrder({"instId": market["id"], "clOrdId": venue_id})
    return dict(answer["data"][0]) if answer["data"] else None


async def find_kraken(client: Any, market: Market, venue_id: str) -> Row | None:
    for call, name in ((client.privatePostOpenOrders, "open"), (client.privatePostClosedOrders, "closed")):
        for order_id, row in (await call({"cl_ord_id": venue_id}))["result"][name].items():
            if row.get("cl_ord_id") == venue_id:
                return {**row, "id": order_id}
    return None


async def find_coinbase(client: Any, market: Market, venue_id: str) -> Row | None:
    """There is no look-up by our id: the instrument's orders are gone through, the newest first."""
    request = {"product_ids": market["id"], "limit": 100}
    for row in await pages(client.v3PrivateGetBrokerageOrdersHistoricalBatch, request, coinbase_page):
        if row.get("client_order_id") == venue_id:
            return row
    return None


async def find_cryptocom(client: Any, market: Market, venue_id: str) -> Row | None:
    answer = await client.v1PrivatePostPrivateGetOrderDetail({"client_oid": venue_id})
    return dict(answer["result"])


FINDERS: Mapping[str, Finder] = {
    "bybit": find_bybit,
    "binance": find_binance,
    "okx": find_okx,
    "kraken": find_kraken,
    "coinbase": find_coinbase,
    "cryptocom": find_cryptocom,
}
