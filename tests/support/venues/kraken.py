"""Kraken on the loopback: spot with margin, REST and websocket v2."""

import base64
import hashlib
import hmac
from decimal import Decimal
from typing import Any, ClassVar

from tests.support.venues.kraken_book import ASSETS, LEVERAGES, MARKS, PAIRS, KrakenBook, altname
from tests.support.venues.records import ZERO, Leg, Listing, Order, Position, Refused, Status, Trade, Why
from tests.support.venues.venue import Answer, Asked, Socket, VenueSimulator, answers, plain

D = Decimal

ID_LENGTHS = (36, 32)
"""Of a client order id that is a UUID; free text is at most 18."""
FREE_ID_MOST = 18

REFUSALS = {
    Why.UNKNOWN_CALL: "EGeneral:Unknown method",
    Why.UNKNOWN_SYMBOL: "EQuery:Unknown asset pair",
    Why.BAD_VALUE: "EGeneral:Invalid arguments",
    Why.LEVERAGE_TOO_HIGH: "EGeneral:Invalid arguments:leverage",
    Why.REDUCE_ONLY: "EOrder:Reduce only:No position exists",
    Why.DUPLICATE_ID: "EGeneral:Invalid arguments:cl_ord_id",
    Why.UNKNOWN_ORDER: "EOrder:Unknown order",
    Why.NOT_ENOUGH: "EOrder:Insufficient initial margin",
    Why.QUANTITY: "EGeneral:Invalid arguments:volume",
    Why.QUANTITY_SMALL: "EOrder:Order minimum not met",
    Why.PRICE: "EOrder:Tick size check failed",
    Why.NO_KEY: "EAPI:Invalid key",
    Why.NO_SIGNATURE: "EAPI:Invalid signature",
    Why.NO_PERMISSION: "EGeneral:Permission denied",
    Why.CLOCK: "EAPI:Invalid nonce",
}
STATUSES = {Status.OPEN: "open", Status.FILLED: "closed", Status.CANCELLED: "canceled"}
WEBSOCKET_STATUSES = {Status.OPEN: "new", Status.FILLED: "filled", Status.CANCELLED: "canceled"}


class KrakenSimulator(VenueSimulator):
    """One account with margin; assets are named in the book as everywhere (BTC, USD), on the wire as Kraken does."""

    name: ClassVar[str] = "kraken"
    hosts: ClassVar[tuple[str, ...]] = ("api.kraken.com", "ws.kraken.com", "ws-auth.kraken.com")
    secret: ClassVar[str] = base64.b64encode(b"simulated-secret").decode()

    def __init__(self) -> None:
        super().__init__(PAIRS, MARKS)
        self.book = KrakenBook({symbol: D(price) for symbol, price in MARKS.items()})
        self.book.told = self.changed
        self.nonce = 0
        self.token = "simulated-token"
        self.sequence = 0

    # Refusals.

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        if refused.why is Why.NOT_ENOUGH and asked.get("leverage", "none") == "none":
            return error("EOrder:Insufficient funds")
        return error(REFUSALS.get(refused.why, "EGeneral:Invalid arguments"))

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        return error(f"{code}:{message}" if message else code)

    def too_many(self, asked: Asked) -> Answer:
        return error("EAPI:Rate limit exceeded")

    def server_error(self, asked: Asked) -> Answer:
        return Answer({"error": ["EService:Unavailable"]}, 503)

    def authenticate(self, asked: Asked) -> None:
        if asked.headers.get("API-KEY") != self.key:
            raise Refused(Why.NO_KEY)
        hashed = hashlib.sha256((str(asked["nonce"]) + asked.text).encode()).digest()
        made = hmac.new(base64.b64decode(self.secret), asked.path.encode() + hashed, hashlib.sha512).digest()
        if not hmac.compare_digest(base64.b64encode(made).decode(), asked.headers.get("API-SIGN", "")):
            raise Refused(Why.NO_SIGNATURE)
        nonce = int(asked["nonce"])
        if nonce <= self.nonce:
            raise Refused(Why.CLOCK, f"nonce {nonce} after {self.nonce}")
        self.nonce = nonce

    # Public.

    @answers("GET", "/0/public/Time")
    def time(self, asked: Asked) -> Any:
        now = self.book.now()
        return result({"unixtime": int(now.timestamp()), "rfc1123": now.strftime("%a, %d %b %y %H:%M:%S +0000")})

    @answers("GET", "/0/public/SystemStatus")
    def status(self, asked: Asked) -> Any:
        return result({"status": "online", "timestamp": self.book.now().strftime("%Y-%m-%dT%H:%M:%SZ")})

    @answers("GET", "/0/public/Assets")
    def assets(self, asked: Asked) -> Any:
        return result(
            {
                own: {
                    "aclass": "currency",
                    "altname": shown,
                    "decimals": 10,
                    "display_decimals": 5,
                    "status": "enabled",
                }
                for own, shown in ASSETS.values()
            }
        )

    @answers("GET", "/0/public/AssetPairs")
    def asset_pairs(self, asked: Asked) -> Any:
        return result({listing.symbol: self.pair(listing) for listing in self.book.listings.values()})

    def pair(self, listing: Listing) -> dict[str, Any]:
        (own, shown), quote = ASSETS[listing.base], ASSETS[listing.quote]
        return {
            "altname": altname(listing),
            "wsname": f"{shown}/{quote[1]}",
            "aclass_base": "currency",
            "base": own,
            "aclass_quote": "currency",
            "quote": quote[0],
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": -int(listing.tick.as_tuple().exponent),
            "lot_decimals": 8,
            "lot_multiplier": 1,
            "leverage_buy": list(LEVERAGES),
            "leverage_sell": list(LEVERAGES),
            "fees": [[0, 0.4]],
            "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": plain(listing.smallest),
            "costmin": "0.5",
            "tick_size": plain(listing.tick),
            "status": "online",
            "long_position_limit": 1000,
            "short_position_limit": 1000,
        }

    @answers("GET", "/0/public/Ticker")
    def ticker(self, asked: Asked) -> Any:
        named = str(asked.get("pair", ",".join(self.book.listings))).split(",")
        found = [self.found(name) for name in named]
        return result({listing.symbol: self.prices(listing) for listing in found})

    def prices(self, listing: Listing) -> dict[str, Any]:
        mark = self.book.mark(listing.symbol)
        bid, ask, last = plain(mark - listing.tick), plain(mark + listing.tick), plain(mark)
        day = [last, last]
        return {
            "a": [ask, "1", "1.000"],
            "b": [bid, "1", "1.000"],
            "c": [last, "0.01000000"],
            "v": ["100.0", "200.0"],
            "p": day,
            "t": [100, 200],
            "l": day,
            "h": day,
            "o": last,
        }

    def found(self, name: str) -> Listing:
        """A pair by any of its three names; raises Refused."""
        for listing in self.book.listings.values():
            if name in (listing.symbol, altname(listing), f"{ASSETS[listing.base][1]}/{listing.quote}"):
                return listing
        raise Refused(Why.UNKNOWN_SYMBOL, name)

    # The account.

    @answers("POST", "/0/private/BalanceEx", private=True)
    def balances(self, asked: Asked) -> Any:
        return result(
            {
                ASSETS.get(asset, (asset, asset))[0]: {"balance": plain(total), "hold_trade": plain(self.kept(asset))}
                for asset, total in self.book.balances.items()
            }
        )

    def kept(self, asset: str) -> Decimal:
        """What open spot orders keep of an asset."""
        kept = ZERO
        for order in self.book.open_orders():
            listing = self.book.listing(order.symbol)
            if order.leverage is None and order.price is not None and not order.reduce_only:
                if order.buy and listing.quote == asset:
                    kept += order.left * order.price
                if not order.buy and listing.base == asset:
                    kept += order.left
        return kept

    @answers("POST", "/0/private/TradeBalance", private=True)
    def trade_balance(self, asked: Asked) -> Any:
        held = self.book.held()
        margin = sum((position.margin for position in held), ZERO)
        kept = sum((self.book.order_margin(order) for order in self.book.open_orders()), ZERO)
        won = sum((self.book.profit(position) for position in held), ZERO)
        cost = sum((abs(position.quantity) * position.entry for position in held), ZERO)
        value = sum((abs(position.quantity) * self.book.mark(position.symbol) for position in held), ZERO)
        equity = self.book.health().equity
        told = {
            "eb": plain(equity - won),
            "tb": plain(equity - won),
            "m": plain(margin),
            "n": plain(won),
            "c": plain(cost),
            "v": plain(value),
            "e": plain(equity),
            "mf": plain(equity - margin),
            "mfo": plain(equity - margin - kept),
            "uv": "0",
        }
        return result(told | ({"ml": plain(equity / margin * 100)} if margin else {}))

    @answers("POST", "/0/private/OpenPositions", private=True)
    def open_positions(self, asked: Asked) -> Any:
        told = [self.told_position(position, asked) for position in self.book.held()]
        if asked.get("consolidation") == "market":
            return result([row | {"positions": "1"} for row in told])
        for row in told:
            row |= {
                "posstatus": "open",
                "ordertype": "market",
                "terms": "0.0200% per 4 hours",
                "misc": "",
                "oflags": "",
            }
        return result({f"T{row['pair']}": row for row in told})

    def told_position(self, position: Position, asked: Asked) -> dict[str, Any]:
        """`vol` is what was opened and `vol_closed` what was closed since: the difference is held."""
        held, closed = abs(position.quantity), self.book_of_margin.closed.get(position.symbol, ZERO)
        opened = held + closed
        row = {
            "pair": position.symbol,
            "type": "buy" if position.quantity > 0 else "sell",
            "leverage": plain((held * position.entry / position.margin).quantize(D("0.00001"))),
            "cost": plain(opened * position.entry),
            "fee": plain(opened * position.entry * self.book.fee_rate),
            "vol": plain(opened),
            "vol_closed": plain(closed),
            "margin": plain(position.margin * opened / held),
        }
        if str(asked.get("docalcs", "")).lower() == "true":
            row["value"] = plain(held * self.book.mark(position.symbol))
            row["net"] = f"{self.book.profit(position):+.4f}"
        return row

    @property
    def book_of_margin(self) -> KrakenBook:
        assert isinstance(self.book, KrakenBook)
        return self.book

    # Orders.

    @answers("POST", "/0/private/AddOrder", private=True)
    def add_order(self, asked: Asked) -> Any:
        listing = self.found(str(asked["pair"]))
        reduce_only = str(asked.get("reduce_only", "false")).lower() == "true"
        leverage = self.leverage(str(asked.get("leverage", "none")))
        if reduce_only and leverage is None:
            raise Refused(Why.BAD_VALUE, "a reduce-only order names its leverage: without it, it is no margin order")
        if asked["ordertype"] not in ("market", "limit"):
            raise Refused(Why.BAD_VALUE, str(asked["ordertype"]))
        price = asked.decimal("price") if asked["ordertype"] == "limit" else None
        volume, buy, name = asked.decimal("volume"), asked["type"] == "buy", str(asked.get("cl_ord_id", ""))
        if len(name) > FREE_ID_MOST and len(name) not in ID_LENGTHS:
            raise Refused(Why.DUPLICATE_ID, name)
        text = described(listing, buy, volume, price, leverage)
        if str(asked.get("validate", "false")).lower() == "true":
            return result({"descr": {"order": text}})
        order = self.book.place(
            listing.symbol,
            buy,
            volume,
            price=price,
            reduce_only=reduce_only,
            client_order_id=name,
            leverage=leverage,
        )
        return result({"descr": {"order": text}, "txid": [order.order_id]})

    def leverage(self, text: str) -> Decimal | None:
        """None for an order of one's own money; "2" and "2:1" alike; raises Refused for what the pairs do not offer."""
        if text == "none":
            return None
        number = text.partition(":")[0]
        if number not in map(str, LEVERAGES):
            raise Refused(Why.LEVERAGE_TOO_HIGH, text)
        return D(number)

    @answers("POST", "/0/private/OpenOrders", private=True)
    def open_orders(self, asked: Asked) -> Any:
        return result({"open": {order.order_id: self.told_order(order, asked) for order in self.picked(asked, True)}})

    @answers("POST", "/0/private/ClosedOrders", private=True)
    def closed_orders(self, asked: Asked) -> Any:
        closed = {order.order_id: self.told_order(order, asked) for order in self.picked(asked, False)}
        return result({"closed": closed, "count": len(closed)})

    def picked(self, asked: Asked, is_open: bool) -> list[Order]:
        name = asked.get("cl_ord_id")
        return [
            order
            for order in self.book.orders.values()
            if (order.status is Status.OPEN) == is_open and name in (None, order.client_order_id)
        ]

    @answers("POST", "/0/private/QueryOrders", private=True)
    def query_orders(self, asked: Asked) -> Any:
        named = str(asked["txid"]).split(",")
        if unknown := [order_id for order_id in named if order_id not in self.book.orders]:
            raise Refused(Why.UNKNOWN_ORDER, unknown[0])
        return result({order_id: self.told_order(self.book.orders[order_id], asked) for order_id in named})

    def told_order(self, order: Order, asked: Asked) -> dict[str, Any]:
        """As the venue lists an order: whether it is reduce-only is not among it."""
        listing = self.book.listing(order.symbol)
        row: dict[str, Any] = {
            "refid": None,
            "userref": None,
            "status": STATUSES[order.status],
            "reason": "User requested" if order.status is Status.CANCELLED else None,
            "opentm": order.created_at.timestamp(),
            "starttm": 0,
            "expiretm": 0,
            "descr": {
                "pair": altname(listing),
                "type": "buy" if order.buy else "sell",
                "ordertype": "market" if order.price is None else "limit",
                "price": plain(order.price or ZERO),
                "price2": "0",
                "leverage": f"{plain(order.leverage)}:1" if order.leverage else "none",
                "order": described(listing, order.buy, order.quantity, order.price, order.leverage),
                "close": "",
            },
            "vol": f"{order.quantity:.8f}",
            "vol_exec": f"{order.filled:.8f}",
            "cost": f"{order.filled * (order.average or ZERO):.5f}",
            "fee": f"{order.fee:.5f}",
            "price": f"{order.average or ZERO:.5f}",
            "stopprice": "0.00000",
            "limitprice": "0.00000",
            "misc": "",
            "oflags": "fciq",
            "margin": order.leverage is not None,
        }
        if order.client_order_id:
            row["cl_ord_id"] = order.client_order_id
        if order.status is not Status.OPEN:
            row["closetm"] = order.updated_at.timestamp()
        if str(asked.get("trades", "")).lower() == "true":
            row["trades"] = [trade_id(trade) for trade in self.book.trades if trade.order_id == order.order_id]
        return row

    @answers("POST", "/0/private/TradesHistory", private=True)
    def trades_history(self, asked: Asked) -> Any:
        since = D(str(asked.get("start", 0)))
        told = [trade for trade in self.book.trades if D(trade.at.timestamp()) > since]
        return result({"trades": {trade_id(trade): self.told_trade(trade) for trade in told}, "count": len(told)})

    @answers("POST", "/0/private/QueryTrades", private=True)
    def query_trades(self, asked: Asked) -> Any:
        named = str(asked["txid"]).split(",")
        return result({trade_id(t): self.told_trade(t) for t in self.book.trades if trade_id(t) in named})

    def told_trade(self, trade: Trade) -> dict[str, Any]:
        order, cost = self.book.orders[trade.order_id], trade.quantity * trade.price
        return {
            "ordertxid": trade.order_id,
            "postxid": f"T{trade.symbol}",
            "pair": trade.symbol,
            "time": trade.at.timestamp(),
            "type": "buy" if trade.buy else "sell",
            "ordertype": "market" if order.price is None else "limit",
            "price": f"{trade.price:.5f}",
            "cost": f"{cost:.5f}",
            "fee": f"{trade.fee:.5f}",
            "vol": f"{trade.quantity:.8f}",
            "margin": f"{cost / order.leverage if order.leverage else ZERO:.5f}",
            "leverage": plain(order.leverage) or "0",
            "misc": "closing" if trade.closed else "",
            "trade_id": int(trade.trade_id),
            "maker": order.price is not None,
        }

    @answers("POST", "/0/private/CancelOrder", private=True)
    def cancel_order(self, asked: Asked) -> Any:
        name = str(asked.get("cl_ord_id", ""))
        self.book.cancel(self.book.order("" if name else str(asked["txid"]), name))
        return result({"count": 1})

    @answers("POST", "/0/private/CancelAll", private=True)
    def cancel_all(self, asked: Asked) -> Any:
        return result({"count": len(self.book.cancel_all())})

    @answers("POST", "/0/private/GetWebSocketsToken", private=True)
    def websockets_token(self, asked: Asked) -> Any:
        return result({"token": self.token, "expires": 900})

    # Websocket v2: numbers are numbers there.

    async def greet(self, socket: Socket) -> None:
        socket.send({"channel": "status", "type": "update", "data": [{"system": "online", "api_version": "v2"}]})

    def heard(self, socket: Socket, message: Any) -> None:
        method, asked = message.get("method"), message.get("params", {})
        reply = {"method": "pong" if method == "ping" else method, "req_id": message.get("req_id"), "success": True}
        if method == "ping":
            socket.send(reply)
            return
        channel = asked.get("channel", "")
        private = channel in ("executions", "balances")
        if method not in ("subscribe", "unsubscribe") or (not private and channel != "ticker"):
            socket.send(reply | {"success": False, "error": "EGeneral:Invalid arguments"})
        elif private and asked.get("token") != self.token:
            socket.send(reply | {"success": False, "error": "ESession:Invalid session"})
        elif private:
            socket.send(reply | {"result": {"channel": channel}})
            self.subscribe(socket, method, channel, channel)
        else:
            for name in asked.get("symbol", []):
                socket.send(reply | {"result": {"channel": channel, "symbol": name}})
                self.subscribe(socket, method, channel, name)

    def subscribe(self, socket: Socket, method: str, channel: str, topic: str) -> None:
        if method == "unsubscribe":
            socket.topics.pop(topic, None)
            return
        socket.topics[topic] = channel
        if channel == "executions":
            rows = [self.pushed_order(order) for order in self.book.open_orders()]
        elif channel == "balances":
            rows = [{"asset": asset, "balance": float(total)} for asset, total in self.book.balances.items()]
        else:
            rows = [self.pushed_prices(topic)]
        socket.send({"channel": channel, "type": "snapshot", "data": rows, "sequence": self.numbered()})

    def numbered(self) -> int:
        self.sequence += 1
        return self.sequence

    def changed(self, what: str, subject: str) -> None:
        rows: dict[str, tuple[str, str, Any]] = {}
        if what == "mark":
            listing = self.book.listing(subject)
            name = f"{listing.base}/{listing.quote}"
            rows[name] = ("ticker", name, self.pushed_prices(name))
        elif what == "order":
            rows["order"] = ("executions", "executions", self.pushed_order(self.book.orders[subject]))
        elif what == "trade":
            rows["trade"] = ("executions", "executions", self.pushed_trade(self.book.trades[-1]))
        elif what == "balance":
            row = {"asset": subject, "balance": float(self.book.balances.get(subject, ZERO))}
            rows["balance"] = ("balances", "balances", row)
        for channel, topic, row in rows.values():
            self.publish(topic, {"channel": channel, "type": "update", "data": [row], "sequence": self.numbered()})

    def pushed_prices(self, name: str) -> dict[str, Any]:
        base, _, against = name.partition("/")
        listing = next(one for one in self.book.listings.values() if (one.base, one.quote) == (base, against))
        mark = self.book.mark(listing.symbol)
        return {
            "symbol": name,
            "bid": float(mark - listing.tick),
            "bid_qty": 1.0,
            "ask": float(mark + listing.tick),
            "ask_qty": 1.0,
            "last": float(mark),
            "volume": 200.0,
            "vwap": float(mark),
            "low": float(mark),
            "high": float(mark),
            "change": 0.0,
            "change_pct": 0.0,
        }

    def pushed_order(self, order: Order) -> dict[str, Any]:
        listing = self.book.listing(order.symbol)
        row: dict[str, Any] = {
            "order_id": order.order_id,
            "symbol": f"{listing.base}/{listing.quote}",
            "order_qty": float(order.quantity),
            "cum_qty": float(order.filled),
            "cum_cost": float(order.filled * (order.average or ZERO)),
            "avg_price": float(order.average or ZERO),
            "time_in_force": "GTC",
            "exec_type": WEBSOCKET_STATUSES[order.status],
            "order_status": WEBSOCKET_STATUSES[order.status],
            "side": "buy" if order.buy else "sell",
            "order_type": "market" if order.price is None else "limit",
            "limit_price": float(order.price or ZERO),
            "reduce_only": order.reduce_only,
            "margin": order.leverage is not None,
            "fee_usd_equiv": float(order.fee),
            "timestamp": stamp(order.updated_at),
        }
        return row | ({"cl_ord_id": order.client_order_id} if order.client_order_id else {})

    def pushed_trade(self, trade: Trade) -> dict[str, Any]:
        listing = self.book.listing(trade.symbol)
        return {
            "order_id": trade.order_id,
            "exec_id": trade_id(trade),
            "exec_type": "trade",
            "trade_id": int(trade.trade_id),
            "symbol": f"{listing.base}/{listing.quote}",
            "side": "buy" if trade.buy else "sell",
            "last_qty": float(trade.quantity),
            "last_price": float(trade.price),
            "liquidity_ind": "t",
            "cost": float(trade.quantity * trade.price),
            "order_type": "market",
            "fees": [{"asset": trade.fee_asset, "qty": float(trade.fee)}],
            "timestamp": stamp(trade.at),
        }

    # What a test does.

    def hold(self, symbol: str, quantity: Decimal, leverage: Decimal, entry: Decimal | None = None) -> Position:
        """A margin position that was opened elsewhere, with the leverage of its order."""
        self.book.leverage[symbol, Leg.NET] = leverage
        self.book_of_margin.closed[symbol] = ZERO
        return self.book.hold(symbol, quantity, entry=entry)


def result(body: Any) -> dict[str, Any]:
    return {"error": [], "result": body}


def error(text: str) -> Answer:
    """Kraken refuses with status 200."""
    return Answer({"error": [text]})


def described(listing: Listing, buy: bool, volume: Decimal, price: Decimal | None, leverage: Decimal | None) -> str:
    """An order in a sentence, as Kraken has it."""
    terms = "market" if price is None else f"limit {plain(price)}"
    lent = f" with {plain(leverage)}:1 leverage" if leverage else ""
    return f"{'buy' if buy else 'sell'} {volume:.8f} {altname(listing)} @ {terms}{lent}"


def trade_id(trade: Trade) -> str:
    return f"T{trade.trade_id}"


def stamp(at: Any) -> str:
    return str(at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
