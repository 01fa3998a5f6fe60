"""Coinbase on the loopback: Advanced Trade v3, spot and US futures, REST and websocket."""

import uuid
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs

from tests.support.venues.coinbase_products import EXPIRIES, MARKS, PRODUCTS, private_key, product, read_token
from tests.support.venues.records import ZERO, Kind, Listing, Order, Position, Refused, Status, Trade, Why
from tests.support.venues.venue import Answer, Asked, Socket, VenueSimulator, answers, number, plain

V3 = "/api/v3/brokerage"

ORDER_REFUSALS = {
    Why.UNKNOWN_SYMBOL: "INVALID_PRODUCT_ID",
    Why.NOT_ENOUGH: "INSUFFICIENT_FUND",
    Why.QUANTITY: "INVALID_SIZE_PRECISION",
    Why.QUANTITY_SMALL: "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL",
    Why.PRICE: "INVALID_PRICE_PRECISION",
    Why.BAD_VALUE: "UNSUPPORTED_ORDER_CONFIGURATION",
}
"""An order that is refused is answered with status 200."""

STATUSES = {Status.OPEN: "OPEN", Status.FILLED: "FILLED", Status.CANCELLED: "CANCELLED"}
FIAT = ("USD",)


class CoinbaseSimulator(VenueSimulator):
    """One portfolio. Futures are margined from its dollars; what it lists is in `coinbase_products`."""

    name: ClassVar[str] = "coinbase"
    hosts: ClassVar[tuple[str, ...]] = ("api.coinbase.com", "advanced-trade-ws.coinbase.com")
    key: ClassVar[str] = "organizations/simulated/apiKeys/simulated"
    secret: ClassVar[str] = private_key()

    def __init__(self) -> None:
        super().__init__(PRODUCTS, MARKS)
        self.book.leverage_default = PRODUCTS[0].tiers[0].leverage_max
        self.sequence = 0

    # Refusals.

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        why = refused.why
        if why in (Why.NO_KEY, Why.NO_SIGNATURE, Why.CLOCK):
            return Answer("Unauthorized\n", 401, "text/plain")
        if why is Why.NO_PERMISSION:
            return failed("PERMISSION_DENIED", "Missing required scopes", 403)
        if asked.path == f"{V3}/orders" and why in ORDER_REFUSALS:
            return self.order_failed(ORDER_REFUSALS[why], str(refused), asked)
        if why in (Why.UNKNOWN_CALL, Why.UNKNOWN_ORDER, Why.UNKNOWN_SYMBOL):
            return failed("NOT_FOUND", str(refused), 404)
        if why in (Why.NO_POSITION, Why.REDUCE_ONLY):
            return failed("INVALID_ARGUMENT", "no open position for the product", 400)
        return failed("INVALID_ARGUMENT", str(refused), 400)

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        if asked.method == "POST" and asked.path == f"{V3}/orders":
            return self.order_failed(code, message, asked)
        return failed(code, message, 400)

    def order_failed(self, code: str, message: str, asked: Asked) -> Answer:
        preview = code if code.startswith("PREVIEW_") else "UNKNOWN_PREVIEW_FAILURE_REASON"
        return Answer(
            {
                "success": False,
                "failure_reason": "UNKNOWN_FAILURE_REASON",
                "order_id": "",
                "error_response": {
                    "error": code,
                    "message": message,
                    "error_details": "",
                    "preview_failure_reason": preview,
                    "new_order_failure_reason": code,
                },
                "order_configuration": asked.get("order_configuration"),
            }
        )

    def too_many(self, asked: Asked) -> Answer:
        return Answer({"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, 429)

    def server_error(self, asked: Asked) -> Answer:
        return failed("INTERNAL", "Something went wrong", 500)

    def geo_block(self, asked: Asked) -> Answer:
        return Answer("<html><body>This service is not available in your region</body></html>", 403, "text/html")

    def authenticate(self, asked: Asked) -> None:
        scheme, _, token = asked.headers.get("AUTHORIZATION", "").partition(" ")
        claims = self.claims(token) if scheme == "Bearer" else None
        if claims is None:
            raise Refused(Why.NO_SIGNATURE)
        method, _, place = str(claims.get("uri", "")).partition(" ")
        if method != asked.method or not place.endswith(asked.path):
            raise Refused(Why.NO_SIGNATURE, f"the token is for {method} {place}")

    def claims(self, token: str) -> dict[str, Any] | None:
        """What a token says; None where it is not the key's, too old, or not yet good."""
        claims = read_token(token, self.secret)
        if claims is None or claims.get("sub") != self.key or claims.get("iss") != "coinbase-cloud":
            return None
        now = self.book.now().timestamp()
        return claims if not self.check_clock or claims["nbf"] - 60 <= now < claims["exp"] else None

    # Public.

    @answers("GET", "/v2/time")
    def time(self, asked: Asked) -> Any:
        now = self.book.now()
        return {"data": {"iso": stamp(now), "epoch": int(now.timestamp())}}

    @answers("GET", f"{V3}/time")
    def brokerage_time(self, asked: Asked) -> Any:
        now = self.book.now()
        seconds = int(now.timestamp())
        return {"iso": stamp(now), "epochSeconds": str(seconds), "epochMillis": f"{seconds}000"}

    @answers("GET", "/v2/currencies")
    def currencies(self, asked: Asked) -> Any:
        return {"data": [{"id": code, "name": code, "min_size": "0.01"} for code in FIAT]}

    @answers("GET", "/v2/currencies/crypto")
    def cryptos(self, asked: Asked) -> Any:
        names = {"BTC": "Bitcoin", "ETH": "Ethereum", "USDC": "USDC"}
        return {"data": [{"asset_id": code, "code": code, "name": name} for code, name in names.items()]}

    @answers("GET", "/v2/exchange-rates")
    def exchange_rates(self, asked: Asked) -> Any:
        rates = {code: plain(1 / self.book.dollars(code)) for code in ("BTC", "ETH", "USD")}
        return {"data": {"currency": "USD", "rates": rates}}

    @answers("GET", f"{V3}/market/products")
    def market_products(self, asked: Asked) -> Any:
        return self.listed(asked)

    @answers("GET", f"{V3}/products", private=True)
    def products(self, asked: Asked) -> Any:
        return self.listed(asked)

    def listed(self, asked: Asked) -> dict[str, Any]:
        """Without a type, the spot products; `product_ids` may be repeated."""
        named = parse_qs(asked.query).get("product_ids")
        kind = asked.get("product_type", "SPOT" if named is None else None)
        rows = [
            product(listing, self.book.mark(listing.symbol))
            for listing in self.book.listings.values()
            if (kind is None or (kind == "SPOT") == (listing.kind is Kind.SPOT))
            and (named is None or listing.symbol in named)
        ]
        return {"products": rows, "num_products": len(rows)}

    @answers("GET", f"{V3}/market/products/{{product_id}}/ticker")
    def market_ticker(self, asked: Asked) -> Any:
        return self.last(self.book.listing(asked.named["product_id"]))

    @answers("GET", f"{V3}/products/{{product_id}}/ticker", private=True)
    def ticker(self, asked: Asked) -> Any:
        return self.last(self.book.listing(asked.named["product_id"]))

    def last(self, listing: Listing) -> dict[str, Any]:
        mark = self.book.mark(listing.symbol)
        trade = {
            "trade_id": "1",
            "product_id": listing.symbol,
            "price": plain(mark),
            "size": plain(listing.lot),
            "time": stamp(self.book.now()),
            "side": "BUY",
            "bid": "",
            "ask": "",
        }
        return {"trades": [trade], "best_bid": plain(mark - listing.tick), "best_ask": plain(mark + listing.tick)}

    # The account.

    @answers("GET", f"{V3}/key_permissions", private=True)
    def permissions(self, asked: Asked) -> Any:
        return {"can_view": True, "can_trade": True, "can_transfer": False, "portfolio_uuid": named("portfolio")}

    @answers("GET", f"{V3}/transaction_summary", private=True)
    def transaction_summary(self, asked: Asked) -> Any:
        rate = plain(self.book.fee_rate)
        tier = {"pricing_tier": "Advanced 1", "taker_fee_rate": rate, "maker_fee_rate": rate}
        return {"total_volume": "0", "total_fees": "0", "fee_tier": tier, "margin_rate": None}

    @answers("GET", f"{V3}/accounts", private=True)
    def accounts(self, asked: Asked) -> Any:
        rows = []
        for asset in self.book.balances:
            total, kept = self.wallet(asset), self.kept(asset)
            rows.append(
                {
                    "uuid": named(asset),
                    "name": f"{asset} Wallet",
                    "currency": asset,
                    "available_balance": {"value": plain(total - kept), "currency": asset},
                    "default": True,
                    "active": True,
                    "type": "ACCOUNT_TYPE_FIAT" if asset in FIAT else "ACCOUNT_TYPE_CRYPTO",
                    "ready": True,
                    "hold": {"value": plain(kept), "currency": asset},
                }
            )
        return {"accounts": rows, "has_next": False, "cursor": "", "size": len(rows)}

    @answers("GET", "/v2/accounts", private=True)
    def wallets(self, asked: Asked) -> Any:
        rows = [
            {
                "id": named(asset),
                "name": f"{asset} Wallet",
                "primary": True,
                "type": "fiat" if asset in FIAT else "wallet",
                "currency": {"code": asset, "name": asset},
                "balance": {"amount": plain(self.wallet(asset)), "currency": asset},
            }
            for asset in self.book.balances
        ]
        return {"pagination": {"next_starting_after": None, "next_uri": None}, "data": rows}

    def wallet(self, asset: str) -> Decimal:
        """What is outside the futures wallet."""
        return self.book.balances[asset] - (self.futures_wallet() if asset == "USD" else ZERO)

    def futures_wallet(self) -> Decimal:
        """Dollars go there as margin asks for them."""
        return max(ZERO, min(self.book.balances.get("USD", ZERO), self.book.health(["USD"]).initial_margin))

    def kept(self, asset: str) -> Decimal:
        """What open spot orders keep of an asset."""
        kept = ZERO
        for order in self.book.open_orders():
            listing = self.book.listing(order.symbol)
            if listing.kind is Kind.SPOT and order.price is not None:
                if order.buy and listing.quote == asset:
                    kept += order.left * order.price
                if not order.buy and listing.base == asset:
                    kept += order.left
        return kept

    @answers("GET", f"{V3}/cfm/balance_summary", private=True)
    def balance_summary(self, asked: Asked) -> Any:
        health = self.book.health(["USD"])
        total = self.book.balances.get("USD", ZERO)
        kept = sum((self.book.order_margin(order) for order in self.book.open_orders()), ZERO)
        realized = sum((trade.profit for trade in self.book.trades), ZERO)
        buffer = health.equity - health.maintenance_margin
        share = buffer / health.maintenance_margin * 100 if health.maintenance_margin else Decimal(1000)
        measure = {
            "margin_window_type": "FCM_MARGIN_WINDOW_TYPE_INTRADAY",
            "margin_level": "MARGIN_LEVEL_TYPE_BASE",
            "initial_margin": plain(health.initial_margin - kept),
            "maintenance_margin": plain(health.maintenance_margin),
            "liquidation_buffer": plain(buffer),
            "total_hold": plain(health.initial_margin),
            "futures_buying_power": plain(health.available),
        }
        return {
            "balance_summary": {
                "futures_buying_power": dollars(health.available),
                "total_usd_balance": dollars(total),
                "cbi_usd_balance": dollars(total - self.futures_wallet()),
                "cfm_usd_balance": dollars(self.futures_wallet()),
                "total_open_orders_hold_amount": dollars(kept),
                "unrealized_pnl": dollars(health.equity - total),
                "daily_realized_pnl": dollars(realized),
                "initial_margin": dollars(health.initial_margin - kept),
                "available_margin": dollars(health.available),
                "liquidation_threshold": dollars(health.maintenance_margin),
                "liquidation_buffer_amount": dollars(buffer),
                "liquidation_buffer_percentage": plain(share.quantize(Decimal("0.01"))),
                "intraday_margin_window_measure": measure,
                "overnight_margin_window_measure": measure | {"margin_window_type": "FCM_MARGIN_WINDOW_TYPE_OVERNIGHT"},
            }
        }

    @answers("GET", f"{V3}/cfm/positions", private=True)
    def positions(self, asked: Asked) -> Any:
        return {"positions": [self.told_position(position) for position in self.book.held()]}

    @answers("GET", f"{V3}/cfm/positions/{{product_id}}", private=True)
    def position(self, asked: Asked) -> Any:
        return {"position": self.told_position(self.book.position(asked.named["product_id"]))}

    def told_position(self, position: Position) -> dict[str, Any]:
        return {
            "product_id": position.symbol,
            "expiration_time": EXPIRIES[position.symbol],
            "side": "LONG" if position.quantity > 0 else "SHORT",
            "number_of_contracts": plain(abs(position.quantity)),
            "current_price": plain(self.book.mark(position.symbol)),
            "avg_entry_price": plain(position.entry),
            "unrealized_pnl": plain(self.book.profit(position)),
            "daily_realized_pnl": plain(position.realized),
        }

    # Orders.

    @answers("POST", f"{V3}/orders", private=True)
    def place_order(self, asked: Asked) -> Any:
        listing = self.book.listing(str(asked["product_id"]))
        if (known := self.known(asked)) is not None:
            return placed(known)
        (form, terms), *more = asked["order_configuration"].items()
        if more or form not in ("market_market_ioc", "limit_limit_gtc"):
            raise Refused(Why.BAD_VALUE, form)
        price = number(terms["limit_price"]) if form == "limit_limit_gtc" else None
        if "quote_size" in terms:
            spent = number(terms["quote_size"]) / (price or self.book.mark(listing.symbol))
            size = (spent / listing.lot).to_integral_value(ROUND_DOWN) * listing.lot
        else:
            size = number(terms["base_size"])
        name = str(asked["client_order_id"])
        return placed(self.book.place(listing.symbol, asked["side"] == "BUY", size, price=price, client_order_id=name))

    @answers("POST", f"{V3}/orders/close_position", private=True)
    def close_position(self, asked: Asked) -> Any:
        """Without a `size` the whole position is closed: a key that the venue does not know changes nothing."""
        position = self.known(asked)
        if position is not None:
            return placed(position)
        held = self.book.position(str(asked["product_id"]))
        size = abs(held.quantity) if asked.get("size") is None else asked.decimal("size")
        name = str(asked["client_order_id"])
        return placed(self.book.place(held.symbol, held.quantity < 0, size, reduce_only=True, client_order_id=name))

    def known(self, asked: Asked) -> Order | None:
        """The order that was placed under this id before: the venue gives it back, and places nothing."""
        name = str(asked["client_order_id"])
        return next((order for order in self.book.orders.values() if order.client_order_id == name), None)

    @answers("POST", f"{V3}/orders/batch_cancel", private=True)
    def cancel_orders(self, asked: Asked) -> Any:
        return {"results": [self.cancelled(str(order_id)) for order_id in asked["order_ids"]]}

    def cancelled(self, order_id: str) -> dict[str, Any]:
        try:
            self.book.cancel(self.book.order(order_id))
        except Refused:
            return {"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": order_id}
        return {"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": order_id}

    @answers("GET", f"{V3}/orders/historical/{{order_id}}", private=True)
    def historical(self, asked: Asked) -> Any:
        """One order, or all of them, or the fills."""
        name = asked.named["order_id"]
        if name == "batch":
            return {"orders": self.picked(asked), "sequence": "0", "has_next": False, "cursor": ""}
        if name == "fills":
            wanted = parse_qs(asked.query)
            rows = [
                self.told_fill(trade)
                for trade in reversed(self.book.trades)
                if trade.symbol in wanted.get("product_id", [trade.symbol])
                and trade.order_id in wanted.get("order_id", wanted.get("order_ids", [trade.order_id]))
            ]
            return {"fills": rows, "cursor": ""}
        return {"order": self.told_order(self.book.order(name))}

    def picked(self, asked: Asked) -> list[dict[str, Any]]:
        """Orders, the newest first."""
        wanted = parse_qs(asked.query)
        return [
            self.told_order(order)
            for order in reversed(self.book.orders.values())
            if STATUSES[order.status] in wanted.get("order_status", [STATUSES[order.status]])
            and order.symbol in wanted.get("product_id", wanted.get("product_ids", [order.symbol]))
        ][: int(asked.get("limit", 1000))]

    def told_order(self, order: Order) -> dict[str, Any]:
        average = order.average or ZERO
        size = plain(order.quantity)
        if order.price is None:
            terms: dict[str, Any] = {"market_market_ioc": {"base_size": size}}
        else:
            limit = {"base_size": size, "limit_price": plain(order.price), "post_only": False}
            terms = {"limit_limit_gtc": limit}
        spot = self.book.listing(order.symbol).kind is Kind.SPOT
        return {
            "order_id": order.order_id,
            "product_id": order.symbol,
            "user_id": named("user"),
            "order_configuration": terms,
            "side": "BUY" if order.buy else "SELL",
            "client_order_id": order.client_order_id,
            "status": STATUSES[order.status],
            "time_in_force": "IMMEDIATE_OR_CANCEL" if order.price is None else "GOOD_UNTIL_CANCELLED",
            "created_time": stamp(order.created_at),
            "completion_percentage": plain(order.filled / order.quantity * 100),
            "filled_size": plain(order.filled),
            "average_filled_price": plain(average),
            "fee": "",
            "number_of_fills": str(sum(trade.order_id == order.order_id for trade in self.book.trades)),
            "filled_value": plain(self.book.listing(order.symbol).value(order.filled, average)),
            "pending_cancel": False,
            "size_in_quote": False,
            "total_fees": plain(order.fee),
            "order_type": "MARKET" if order.price is None else "LIMIT",
            "reject_reason": "REJECT_REASON_UNSPECIFIED",
            "settled": order.status is Status.FILLED,
            "product_type": "SPOT" if spot else "FUTURE",
            "reject_message": "",
            "cancel_message": "User requested cancel" if order.status is Status.CANCELLED else "",
        }

    def told_fill(self, trade: Trade) -> dict[str, Any]:
        return {
            "entry_id": named(f"entry {trade.trade_id}"),
            "trade_id": named(f"trade {trade.trade_id}"),
            "order_id": trade.order_id,
            "trade_time": stamp(trade.at),
            "trade_type": "FILL",
            "price": plain(trade.price),
            "size": plain(trade.quantity),
            "commission": plain(trade.fee),
            "product_id": trade.symbol,
            "sequence_timestamp": stamp(trade.at),
            "liquidity_indicator": "TAKER",
            "size_in_quote": False,
            "user_id": named("user"),
            "side": "BUY" if trade.buy else "SELL",
        }

    # Websocket.

    def heard(self, socket: Socket, message: Any) -> None:
        channel, products = message.get("channel", ""), message.get("product_ids", [])
        if channel == "user":
            if self.claims(str(message.get("jwt", ""))) is None:
                socket.send({"type": "error", "message": "authentication failure"})
                return
            topics = ["user"]
        else:
            topics = [f"{channel} {product_id}" for product_id in products]
        for topic in topics:
            if message.get("type") == "unsubscribe":
                socket.topics.pop(topic, None)
            else:
                socket.topics[topic] = channel
        if message.get("type") == "subscribe":
            if channel == "user":
                socket.send(self.message("user", self.pushed_orders("snapshot", self.book.open_orders())))
            for product_id in products if channel in ("ticker", "ticker_batch") else ():
                socket.send(self.message(channel, self.pushed_prices("snapshot", product_id)))
        socket.send(self.message("subscriptions", {"subscriptions": {channel: products}}))

    def message(self, channel: str, event: dict[str, Any]) -> dict[str, Any]:
        self.sequence += 1
        return {
            "channel": channel,
            "client_id": "",
            "timestamp": stamp(self.book.now()),
            "sequence_num": self.sequence,
            "events": [event],
        }

    def changed(self, what: str, subject: str) -> None:
        if what == "mark":
            for channel in ("ticker", "ticker_batch"):
                self.publish(f"{channel} {subject}", self.message(channel, self.pushed_prices("update", subject)))
        elif what == "order":
            self.publish("user", self.message("user", self.pushed_orders("update", [self.book.orders[subject]])))
        elif what == "position":
            self.publish("user", self.message("user", self.pushed_orders("update", [])))

    def pushed_prices(self, kind: str, product_id: str) -> dict[str, Any]:
        listing, mark = self.book.listing(product_id), self.book.mark(product_id)
        row = {
            "type": "ticker",
            "product_id": product_id,
            "price": plain(mark),
            "volume_24_h": "1000",
            "low_24_h": plain(mark),
            "high_24_h": plain(mark),
            "price_percent_chg_24_h": "0",
            "best_bid": plain(mark - listing.tick),
            "best_bid_quantity": "1",
            "best_ask": plain(mark + listing.tick),
            "best_ask_quantity": "1",
        }
        return {"type": kind, "tickers": [row]}

    def pushed_orders(self, kind: str, orders: list[Order]) -> dict[str, Any]:
        rows = [
            {
                "order_id": order.order_id,
                "client_order_id": order.client_order_id,
                "cumulative_quantity": plain(order.filled),
                "leaves_quantity": plain(order.left),
                "avg_price": plain(order.average or ZERO),
                "total_fees": plain(order.fee),
                "status": STATUSES[order.status],
                "product_id": order.symbol,
                "creation_time": stamp(order.created_at),
                "order_side": "BUY" if order.buy else "SELL",
                "order_type": "Market" if order.price is None else "Limit",
            }
            for order in orders
        ]
        positions = [
            {
                "product_id": position.symbol,
                "side": "LONG" if position.quantity > 0 else "SHORT",
                "number_of_contracts": plain(abs(position.quantity)),
                "realized_pnl": plain(position.realized),
                "unrealized_pnl": plain(self.book.profit(position)),
                "entry_price": plain(position.entry),
            }
            for position in self.book.held()
        ]
        futures = {"perpetual_futures_positions": [], "expiring_futures_positions": positions}
        return {"type": kind, "orders": rows, "positions": futures}


def placed(order: Order) -> dict[str, Any]:
    told = {
        "order_id": order.order_id,
        "product_id": order.symbol,
        "side": "BUY" if order.buy else "SELL",
        "client_order_id": order.client_order_id,
    }
    reason = "UNKNOWN_FAILURE_REASON"
    return {"success": True, "failure_reason": reason, "order_id": order.order_id, "success_response": told}


def failed(code: str, message: str, status: int) -> Answer:
    return Answer({"error": code, "error_details": message, "message": message}, status)


def dollars(amount: Decimal) -> dict[str, str]:
    return {"value": plain(amount), "currency": "USD"}


def named(what: str) -> str:
    """The same identifier for the same thing."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, what))


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
