"""Crypto.com on the loopback: Exchange v1, linear perpetuals and spot, REST and websocket."""

import hashlib
import hmac
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from aiohttp import web

from tests.support.venues.records import ZERO, Kind, Listing, Order, Position, Refused, Status, Tier, Trade, Why
from tests.support.venues.venue import Answer, Asked, Socket, VenueSimulator, answers, millis, number, plain

D = Decimal

V1 = "/exchange/v1"
NONCE_WINDOW = timedelta(seconds=60)
ACCOUNT = "52e7c00f-1324-5a6e-bf9c-de445bde21a5"
LEVERAGE_MOST = 50

CODES = {
    Why.UNKNOWN_CALL: (400, 40002, "METHOD_NOT_FOUND"),
    Why.UNKNOWN_SYMBOL: (400, 209, "INVALID_INSTRUMENT"),
    Why.BAD_VALUE: (400, 40004, "MISSING_OR_INVALID_ARGUMENT"),
    Why.LEVERAGE_TOO_HIGH: (400, 226, "INVALID_LEVERAGE"),
    Why.LEVERAGE_STEP: (400, 226, "INVALID_LEVERAGE"),
    Why.LEVERAGE_HELD: (500, 501, "EXCEED_MAXIMUM_EFFECTIVE_LEVERAGE"),
    Why.NO_POSITION: (500, 201, "NO_POSITION"),
    Why.REDUCE_ONLY: (400, 1110, "REDUCE_ONLY_REJECTED"),
    Why.DUPLICATE_ID: (400, 204, "DUPLICATE_CLORDID"),
    Why.UNKNOWN_ORDER: (500, 316, "NO_ACTIVE_ORDER"),
    Why.NOT_ENOUGH: (500, 306, "INSUFFICIENT_AVAILABLE_BALANCE"),
    Why.QUANTITY: (400, 213, "INVALID_ORDERQTY"),
    Why.QUANTITY_SMALL: (500, 415, "BELOW_MIN_ORDER_SIZE"),
    Why.PRICE: (400, 308, "INVALID_PRICE"),
    Why.NO_KEY: (401, 40101, "UNAUTHORIZED"),
    Why.NO_SIGNATURE: (401, 40101, "UNAUTHORIZED"),
    Why.NO_PERMISSION: (500, 412, "ACCOUNT_NO_DERIV_ACCESS"),
    Why.CLOCK: (400, 40102, "INVALID_NONCE"),
}
"""HTTP status, code and name."""

STATUSES = {Status.OPEN: "ACTIVE", Status.FILLED: "FILLED", Status.CANCELLED: "CANCELED"}
INSTRUCTIONS = frozenset({"POST_ONLY", "SMART_POST_ONLY", "REDUCE_ONLY"})


def perpetual(base: str, tick: str, lot: str, leverage_max: int, rate: str) -> Listing:
    tiers = (Tier(D("1e12"), D(leverage_max), D(rate)),)
    return Listing(f"{base}USD-PERP", base, "USD", "USD", Kind.LINEAR, D(tick), D(lot), tiers, smallest=D(lot))


SPOT = Listing("BTC_USD", "BTC", "USD", "USD", Kind.SPOT, D("0.01"), D("0.00001"), (Tier(D("1e12"), D(5), D("0.1")),))
LISTINGS = (
    perpetual("BTC", "0.1", "0.0001", LEVERAGE_MOST, "0.01"),
    perpetual("ETH", "0.01", "0.001", LEVERAGE_MOST, "0.01"),
    perpetual("SOL", "0.001", "0.01", 20, "0.025"),
    SPOT,
)
MARKS = {"BTCUSD-PERP": "50000", "ETHUSD-PERP": "2500", "SOLUSD-PERP": "150", "BTC_USD": "50000"}


class CryptocomSimulator(VenueSimulator):
    """One account under smart cross margin, with one leverage for the whole of it."""

    name: ClassVar[str] = "cryptocom"
    hosts: ClassVar[tuple[str, ...]] = ("api.crypto.com", "stream.crypto.com")

    def __init__(self) -> None:
        super().__init__(LISTINGS, MARKS)
        self.heartbeats = 0
        """How many the client has answered."""

    # Refusals.

    async def read(self, request: web.Request) -> Asked:
        """What a private call asks for is in `params` of its body."""
        asked = await super().read(request)
        if isinstance(asked.body, dict) and isinstance(asked.body.get("params"), dict):
            return msgspec.structs.replace(asked, params=asked.body["params"])
        return asked

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        status, code, name = CODES.get(refused.why, (500, 50001, "ERR_INTERNAL"))
        return Answer(said(asked, None, code, name), status)

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        return Answer(said(asked, None, int(code), message), 500)

    def too_many(self, asked: Asked) -> Answer:
        return Answer(said(asked, None, 42901, "TOO_MANY_REQUESTS"), 429)

    def server_error(self, asked: Asked) -> Answer:
        return Answer("upstream connect error or disconnect/reset before headers", 503, "text/plain")

    def geo_block(self, asked: Asked) -> Answer:
        return Answer("<html><body><h1>403 Forbidden</h1>Not available in your country</body></html>", 403, "text/html")

    def authenticate(self, asked: Asked) -> None:
        body = asked.body if isinstance(asked.body, dict) else {}
        if body.get("api_key") != self.key:
            raise Refused(Why.NO_KEY)
        text = f"{body['method']}{body['id']}{self.key}{signed_text(body['params'])}{body['nonce']}"
        if body.get("sig") != self.signature(text) or not asked.path.endswith(str(body["method"])):
            raise Refused(Why.NO_SIGNATURE)
        self.on_time(body["nonce"], NONCE_WINDOW)

    def signature(self, text: str) -> str:
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    # Public.

    @answers("GET", f"{V1}/public/get-instruments")
    def instruments(self, asked: Asked) -> Any:
        return said(asked, {"data": [instrument(listing) for listing in self.book.listings.values()]})

    @answers("GET", f"{V1}/public/get-risk-parameters")
    def risk_parameters(self, asked: Asked) -> Any:
        rows = [
            {
                "instrument_name": listing.base,
                "collateral_cap_notional": "25000000",
                "minimum_haircut": "0",
                "max_product_leverage_for_spot": "5.0",
                "max_product_leverage_for_perps": f"{listing.tiers[0].leverage_max}.0",
                "unit_margin_rate": plain(listing.tiers[0].maintenance_rate / 2),
                "order_limit": "10000000",
                "max_order_notional_usd": "10000000",
                "min_order_notional_usd": "1.0",
            }
            for listing in self.book.listings.values()
            if listing.kind is Kind.LINEAR
        ]
        return said(
            asked,
            {
                "default_max_product_leverage_for_spot": "1.0",
                "default_max_product_leverage_for_perps": "20.0",
                "default_max_product_leverage_for_futures": "20.0",
                "default_unit_margin_rate": "0.05",
                "default_collateral_cap": "0.0",
                "update_timestamp_ms": millis(self.book.now()),
                "base_currency_config": rows,
            },
        )

    @answers("GET", f"{V1}/public/get-tickers")
    def tickers(self, asked: Asked) -> Any:
        name = asked.get("instrument_name")
        named = self.book.listings if name is None else [self.book.listing(str(name)).symbol]
        return said(asked, {"data": [self.prices(symbol) for symbol in named]})

    def prices(self, symbol: str) -> dict[str, Any]:
        listing, mark = self.book.listing(symbol), self.book.mark(symbol)
        return {
            "h": plain(mark),
            "l": plain(mark),
            "a": plain(mark),
            "i": symbol,
            "v": "1000",
            "vv": plain(mark * 1000),
            "oi": "100",
            "c": "0",
            "b": plain(mark - listing.tick),
            "bs": "1",
            "k": plain(mark + listing.tick),
            "ks": "1",
            "t": millis(self.book.now()),
        }

    @answers("GET", f"{V1}/public/get-valuations")
    def valuations(self, asked: Asked) -> Any:
        if asked["valuation_type"] not in ("mark_price", "index_price"):
            raise Refused(Why.BAD_VALUE, str(asked["valuation_type"]))
        symbol = self.book.listing(str(asked["instrument_name"])).symbol
        row = {"v": plain(self.book.mark(symbol)), "t": millis(self.book.now())}
        return said(asked, {"data": [row], "instrument_name": symbol})

    # The account.

    @answers("POST", f"{V1}/private/get-currency-networks", private=True)
    def currency_networks(self, asked: Asked) -> Any:
        assets = {listing.base for listing in self.book.listings.values()} | {"USD", "USDT"}
        networks: dict[str, Any] = {
            asset: {"full_name": asset, "default_network": None, "network_list": []} for asset in sorted(assets)
        }
        return said(asked, {"update_time": millis(self.book.now()), "currency_map": networks})

    @answers("POST", f"{V1}/private/get-accounts", private=True)
    def accounts(self, asked: Asked) -> Any:
        account = {"uuid": ACCOUNT, "user_uuid": ACCOUNT, "enabled": True, "tradable": True, "name": "simulated"}
        return said(asked, {"master_account": account, "sub_account_list": []})

    @answers("POST", f"{V1}/private/get-account-settings", private=True)
    def account_settings(self, asked: Asked) -> Any:
        return said(asked, [{"leverage": plain(self.book.leverage_default), "stp_id": "0", "stp_scope": "M"}])

    @answers("POST", f"{V1}/private/change-account-leverage", private=True)
    def change_leverage(self, asked: Asked) -> Any:
        """Of all positions at once, each at most its instrument's highest."""
        if asked["account_id"] != ACCOUNT:
            raise Refused(Why.BAD_VALUE, str(asked["account_id"]))
        leverage = asked.decimal("leverage")
        if leverage != int(leverage) or not 1 <= leverage <= LEVERAGE_MOST:
            raise Refused(Why.LEVERAGE_TOO_HIGH, plain(leverage))
        held = self.book.held()
        before = [position.leverage for position in held]
        for position in held:
            position.leverage = min(leverage, self.book.listing(position.symbol).tiers[0].leverage_max)
        health = self.book.health()
        if held and health.initial_margin > health.equity:
            for position, old in zip(held, before, strict=True):
                position.leverage = old
            raise Refused(Why.LEVERAGE_HELD, plain(leverage))
        self.book.leverage_default = leverage
        for listing in self.book.listings.values():
            if listing.tiers[0].leverage_max < leverage:
                self.book.set_leverage(listing.symbol, listing.tiers[0].leverage_max)
            else:
                self.book.set_leverage(listing.symbol, leverage)
        return said(asked, None)

    @answers("POST", f"{V1}/private/user-balance", private=True)
    def user_balance(self, asked: Asked) -> Any:
        return said(asked, {"data": [self.told_balance()]})

    def told_balance(self) -> dict[str, Any]:
        health, held = self.book.health(), self.book.held()
        notional = sum((self.notional(position) for position in held), ZERO)
        won = sum((self.book.profit(position) for position in held), ZERO)
        rows = [
            {
                "instrument_name": asset,
                "quantity": plain(total),
                "market_value": plain(total * self.book.dollars(asset)),
                "collateral_eligible": "true",
                "haircut": "0",
                "collateral_amount": plain(total * self.book.dollars(asset)),
                "max_withdrawal_balance": plain(max(ZERO, min(total, health.available))),
                "reserved_qty": plain(self.kept(asset)),
            }
            for asset, total in self.book.balances.items()
        ]
        return {
            "total_available_balance": plain(health.available),
            "total_margin_balance": plain(health.equity),
            "total_initial_margin": plain(health.initial_margin),
            "total_position_im": plain(sum((self.book.initial_margin(position) for position in held), ZERO)),
            "total_haircut": "0",
            "total_maintenance_margin": plain(health.maintenance_margin),
            "total_position_cost": plain(notional - won),
            "total_cash_balance": plain(health.equity - won),
            "total_collateral_value": plain(health.equity - won),
            "total_session_unrealized_pnl": plain(won),
            "instrument_name": "USD",
            "total_session_realized_pnl": plain(sum((position.realized for position in held), ZERO)),
            "is_liquidating": False,
            "total_effective_leverage": plain(notional / health.equity if health.equity > 0 else ZERO),
            "position_limit": "3000000",
            "used_position_limit": plain(notional),
            "total_isolated_cash_balance": "0",
            "isolated_positions": [],
            "position_balances": rows,
        }

    def notional(self, position: Position) -> Decimal:
        return self.book.listing(position.symbol).notional(position.quantity, self.book.mark(position.symbol))

    def kept(self, asset: str) -> Decimal:
        """What open spot orders keep of an asset."""
        kept = ZERO
        for order in self.book.open_orders(SPOT.symbol):
            if order.buy and asset == SPOT.quote:
                kept += order.left * (order.price or ZERO)
            if not order.buy and asset == SPOT.base:
                kept += order.left
        return kept

    @answers("POST", f"{V1}/private/get-positions", private=True)
    def positions(self, asked: Asked) -> Any:
        name = asked.get("instrument_name")
        rows = [self.told_position(position) for position in self.book.held(None if name is None else str(name))]
        return said(asked, {"data": rows})

    def told_position(self, position: Position) -> dict[str, Any]:
        """`cost` is at the mark of the session, `open_pos_cost` at the entry; both have the sign of the position."""
        return {
            "account_id": ACCOUNT,
            "quantity": plain(position.quantity),
            "cost": plain(position.quantity * position.entry),
            "open_pos_cost": plain(position.quantity * position.entry),
            "open_position_pnl": plain(self.book.profit(position)),
            "session_pnl": plain(self.book.profit(position)),
            "update_timestamp_ms": millis(position.updated_at),
            "instrument_name": position.symbol,
            "type": "PERPETUAL_SWAP",
        }

    # Orders.

    @answers("POST", f"{V1}/private/create-order", private=True)
    def create_order(self, asked: Asked) -> Any:
        """An unknown parameter is passed over in silence, as the venue does: `reduceOnly` protects nothing here."""
        listing = self.book.listing(str(asked["instrument_name"]))
        form, name = asked["type"], str(asked.get("client_oid", "")) or str(uuid.uuid4())
        if form not in ("MARKET", "LIMIT") or len(name) > 36:
            raise Refused(Why.BAD_VALUE, f"{form} {name}")
        instructions = asked.get("exec_inst") or []
        if not INSTRUCTIONS.issuperset(instructions):
            return Answer(said(asked, None, 219, "INVALID_EXECINST"), 500)
        order = self.book.place(
            listing.symbol,
            asked["side"] == "BUY",
            asked.decimal("quantity"),
            price=asked.decimal("price") if form == "LIMIT" else None,
            reduce_only="REDUCE_ONLY" in instructions,
            client_order_id=name,
        )
        return said(asked, {"client_oid": order.client_order_id, "order_id": order.order_id})

    @answers("POST", f"{V1}/private/close-position", private=True)
    def close_position(self, asked: Asked) -> Any:
        """Takes no order id of the client's; closes everything, unless a `quantity` is given."""
        held = self.book.position(str(asked["instrument_name"]))
        price = asked.decimal("price") if asked["type"] == "LIMIT" else None
        size = abs(held.quantity) if asked.get("quantity") is None else asked.decimal("quantity")
        order = self.book.place(
            held.symbol,
            held.quantity < 0,
            size,
            price=price,
            reduce_only=True,
            client_order_id=str(uuid.uuid4()),
        )
        return said(asked, {"client_oid": order.client_order_id, "order_id": order.order_id})

    @answers("POST", f"{V1}/private/cancel-order", private=True)
    def cancel_order(self, asked: Asked) -> Any:
        order = self.book.order(str(asked.get("order_id", "")), str(asked.get("client_oid", "")))
        self.book.cancel(order)
        return said(asked, {"client_oid": order.client_order_id, "order_id": order.order_id}, message="NO_ERROR")

    @answers("POST", f"{V1}/private/cancel-all-orders", private=True)
    def cancel_all(self, asked: Asked) -> Any:
        name = asked.get("instrument_name")
        self.book.cancel_all(None if name is None else str(name))
        return said(asked, None)

    @answers("POST", f"{V1}/private/get-order-detail", private=True)
    def order_detail(self, asked: Asked) -> Any:
        """An order that is not there is answered with status 200 and a code."""
        try:
            order = self.book.order(str(asked.get("order_id", "")), str(asked.get("client_oid", "")))
        except Refused:
            return said(asked, None, 40401, "NOT_FOUND")
        return said(asked, self.told_order(order))

    @answers("POST", f"{V1}/private/get-open-orders", private=True)
    def open_orders(self, asked: Asked) -> Any:
        name = asked.get("instrument_name")
        rows = [self.told_order(order) for order in self.book.open_orders(None if name is None else str(name))]
        return said(asked, {"data": rows})

    @answers("POST", f"{V1}/private/get-order-history", private=True)
    def order_history(self, asked: Asked) -> Any:
        name = asked.get("instrument_name")
        rows = [
            self.told_order(order)
            for order in reversed(self.book.orders.values())
            if order.status is not Status.OPEN and name in (None, order.symbol)
        ]
        return said(asked, {"data": rows[: int(asked.get("limit", 100))]})

    def told_order(self, order: Order) -> dict[str, Any]:
        average, price = order.average or ZERO, order.price or ZERO
        return {
            "account_id": ACCOUNT,
            "order_id": order.order_id,
            "client_oid": order.client_order_id,
            "order_type": "MARKET" if order.price is None else "LIMIT",
            "time_in_force": "GOOD_TILL_CANCEL",
            "side": "BUY" if order.buy else "SELL",
            "exec_inst": ["REDUCE_ONLY"] if order.reduce_only else [],
            "quantity": plain(order.quantity),
            "limit_price": plain(price),
            "order_value": plain(order.quantity * (order.price or average)),
            "maker_fee_rate": plain(self.book.fee_rate),
            "taker_fee_rate": plain(self.book.fee_rate),
            "avg_price": plain(average),
            "cumulative_quantity": plain(order.filled),
            "cumulative_value": plain(order.filled * average),
            "cumulative_fee": plain(order.fee),
            "status": STATUSES[order.status],
            "update_user_id": ACCOUNT,
            "order_date": order.created_at.strftime("%Y-%m-%d"),
            "instrument_name": order.symbol,
            "fee_instrument_name": "USD",
            "create_time": millis(order.created_at),
            "create_time_ns": f"{millis(order.created_at)}000000",
            "update_time": millis(order.updated_at),
        }

    @answers("POST", f"{V1}/private/get-trades", private=True)
    def trades(self, asked: Asked) -> Any:
        name, since = asked.get("instrument_name"), number(asked.get("start_time", 0))
        rows = [
            self.told_trade(trade)
            for trade in reversed(self.book.trades)
            if name in (None, trade.symbol) and millis(trade.at) >= since
        ]
        return said(asked, {"data": rows[: int(asked.get("limit", 100))]})

    def told_trade(self, trade: Trade) -> dict[str, Any]:
        """Fees that were paid are below zero."""
        return {
            "account_id": ACCOUNT,
            "event_date": trade.at.strftime("%Y-%m-%d"),
            "journal_type": "TRADING",
            "traded_quantity": plain(trade.quantity),
            "traded_price": plain(trade.price),
            "fees": plain(-trade.fee),
            "order_id": trade.order_id,
            "trade_id": trade.trade_id,
            "trade_match_id": trade.trade_id,
            "client_oid": trade.client_order_id,
            "taker_side": "TAKER",
            "side": "BUY" if trade.buy else "SELL",
            "instrument_name": trade.symbol,
            "fee_instrument_name": trade.fee_asset,
            "create_time": millis(trade.at),
            "create_time_ns": f"{millis(trade.at)}000000",
        }

    # Websocket.

    async def greet(self, socket: Socket) -> None:
        socket.send({"id": millis(self.book.now()), "method": "public/heartbeat", "code": 0})

    def heard(self, socket: Socket, message: Any) -> None:
        method, number_of_call = message.get("method"), message.get("id", -1)
        reply = {"id": number_of_call, "method": method, "code": 0}
        if method == "public/respond-heartbeat":
            self.heartbeats += 1
        elif method == "public/auth":
            text = f"{method}{number_of_call}{message.get('api_key')}{message.get('nonce')}"
            socket.authenticated = message.get("api_key") == self.key and message.get("sig") == self.signature(text)
            refused = {} if socket.authenticated else {"code": 40101, "message": "UNAUTHORIZED"}
            socket.send(reply | refused)
        elif method in ("subscribe", "unsubscribe"):
            for channel in message["params"]["channels"]:
                self.subscribe(socket, method, channel, reply)
        else:
            socket.send(reply | {"code": 40002, "message": "METHOD_NOT_FOUND"})

    def subscribe(self, socket: Socket, method: str, channel: str, reply: dict[str, Any]) -> None:
        """A channel that is asked for again is confirmed, and tells nothing anew."""
        if method == "unsubscribe":
            socket.topics.pop(channel, None)
            socket.send(reply)
        elif channel.startswith("user.") and not socket.authenticated:
            socket.send(reply | {"code": 40101, "message": "UNAUTHORIZED"})
        elif channel in socket.topics:
            socket.send(reply | {"channel": channel})
        else:
            socket.topics[channel] = True
            socket.send(reply | {"channel": channel})
            rows = self.snapshot(channel)
            if rows:
                socket.send(pushed(channel, rows))

    def snapshot(self, channel: str) -> list[Any]:
        kind, symbol = parts(channel)
        if kind == "ticker" and symbol in self.book.listings:
            return [self.prices(symbol)]
        if kind == "user.balance":
            return [self.told_balance()]
        if kind == "user.position_balance":
            return [self.told_positions([self.told_position(position) for position in self.book.held()])]
        return [self.told_order(order) for order in self.book.open_orders()] if kind == "user.order" else []

    def told_positions(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        now = millis(self.book.now())
        balances = [
            {"instrument_name": asset, "quantity": plain(total), "update_timestamp_ms": now}
            for asset, total in self.book.balances.items()
        ]
        return {"balances": balances, "positions": rows}

    def changed(self, what: str, subject: str) -> None:
        if what == "mark":
            self.tell(f"ticker.{subject}", [self.prices(subject)])
        elif what == "order":
            order = self.book.orders[subject]
            self.tell("user.order", [self.told_order(order)])
            self.tell(f"user.order.{order.symbol}", [self.told_order(order)])
        elif what == "trade":
            trade = self.book.trades[-1]
            self.tell("user.trade", [self.told_trade(trade)])
            self.tell(f"user.trade.{trade.symbol}", [self.told_trade(trade)])
        elif what == "balance":
            self.tell("user.balance", [self.told_balance()])
        elif what == "position":
            held = self.book.held(subject)
            rows = [self.told_position(position) for position in held] or [flat(subject, self.book.now())]
            self.tell("user.position_balance", [self.told_positions(rows)])

    def tell(self, channel: str, rows: list[Any]) -> None:
        self.publish(channel, pushed(channel, rows))


def parts(channel: str) -> tuple[str, str]:
    """A channel's kind, and the instrument it is of, where it is of one."""
    words = channel.split(".")
    kind = 2 if words[0] == "user" else 1
    return ".".join(words[:kind]), ".".join(words[kind:])


def pushed(channel: str, rows: list[Any]) -> dict[str, Any]:
    kind, _, symbol = (
        channel.rpartition(".") if "." in channel and not channel.startswith("user.") else (channel, "", "")
    )
    if channel.startswith(("user.order.", "user.trade.")):
        kind, symbol = channel[:10], channel[11:]
    told = {"subscription": channel, "channel": kind, "data": rows} | ({"instrument_name": symbol} if symbol else {})
    return {"id": -1, "method": "subscribe", "code": 0, "result": told}


def flat(symbol: str, at: datetime) -> dict[str, Any]:
    """A position that was closed is told once, with nothing in it."""
    nothing = dict.fromkeys(("quantity", "cost", "open_pos_cost", "open_position_pnl", "session_pnl"), "0")
    return nothing | {
        "account_id": ACCOUNT,
        "update_timestamp_ms": millis(at),
        "instrument_name": symbol,
        "type": "PERPETUAL_SWAP",
    }


def said(asked: Asked, result: Any, code: int = 0, message: str = "") -> dict[str, Any]:
    """The envelope of every answer."""
    body = asked.body if isinstance(asked.body, dict) else {}
    method = asked.path.removeprefix(f"{V1}/")
    told: dict[str, Any] = {"id": int(body.get("id", -1)), "method": method, "code": code}
    if message:
        told["message"] = message
    return told if result is None else told | {"result": result}


def signed_text(params: dict[str, Any]) -> str:
    """Parameters by name, each followed by its value, without anything between; lists one after another."""
    text = ""
    for name in sorted(params):
        value = params[name]
        text += name + ("".join(map(str, value)) if isinstance(value, list) else str(value))
    return text


def instrument(listing: Listing) -> dict[str, Any]:
    spot = listing.kind is Kind.SPOT
    row: dict[str, Any] = {
        "symbol": listing.symbol,
        "inst_type": "CCY_PAIR" if spot else "PERPETUAL_SWAP",
        "display_name": f"{listing.base}/{listing.quote}" if spot else f"{listing.base}{listing.quote} Perpetual",
        "base_ccy": listing.base,
        "quote_ccy": listing.quote,
        "quote_decimals": -int(listing.tick.as_tuple().exponent),
        "quantity_decimals": -int(listing.lot.as_tuple().exponent),
        "price_tick_size": plain(listing.tick),
        "qty_tick_size": plain(listing.lot),
        "max_leverage": plain(listing.tiers[0].leverage_max),
        "tradable": True,
        "expiry_timestamp_ms": 0,
        "margin_buy_enabled": spot,
        "margin_sell_enabled": spot,
    }
    return row if spot else row | {"underlying_symbol": f"{listing.base}USD-INDEX", "contract_size": "1"}
