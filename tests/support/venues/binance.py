"""Binance as it is on the wire: the USD-M futures account, and beside it the margin wallet with its debts."""

import hashlib
import hmac
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.support.venues.binance_listings import CODES, LISTINGS, MARKS, brackets, instrument
from tests.support.venues.binance_margin import MarginWallet
from tests.support.venues.records import (
    ZERO,
    Health,
    Leg,
    Listing,
    Mode,
    Order,
    Position,
    Refused,
    Status,
    Trade,
    Why,
)
from tests.support.venues.venue import Answer, Asked, Socket, answers, millis, plain

ASSET = "USDT"
LISTEN_KEY = "simulated-listen-key"
LEGS = {"BOTH": Leg.NET, "LONG": Leg.LONG, "SHORT": Leg.SHORT}
SIDES = {leg: word for word, leg in LEGS.items()}
MODES = {"CROSSED": Mode.CROSS, "ISOLATED": Mode.ISOLATED}
RESTRICTED = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in https://www.binance.com/en/terms."
)


class BinanceSimulator(MarginWallet):
    """`book` is the futures account, in single-asset mode; `margin` is the cross margin wallet, which has the debts.

    A client order id may be used again once its order is closed, as at the venue.
    """

    name = "binance"
    hosts = ("fapi.binance.com", "api.binance.com", "fstream.binance.com", "demo-fapi.binance.com")

    def __init__(self) -> None:
        super().__init__(LISTINGS, MARKS)
        self.book.leverage_default = Decimal(20)
        self.book.leverage_step = Decimal(1)
        self.book.ids_once = False
        self.filled = False

    # Words.

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        if refused.why is Why.UNKNOWN_CALL:
            return Answer({"code": -5000, "msg": f"Path {asked.path}, Method {asked.method} is invalid"}, 404)
        code, message = CODES[refused.why]
        leverage = asked.path.endswith("/leverage")
        if refused.why is Why.NOT_ENOUGH and leverage:
            code, message = -2028, "Leverage is smaller than permitted: insufficient margin balance."
        elif refused.why is Why.NOT_ENOUGH and asked.path.endswith("/positionMargin"):
            code, message = -4051, "Isolated balance insufficient."
        elif refused.why is Why.LEVERAGE_TOO_HIGH and self.book.held(asked.get("symbol")):
            code, message = -2027, "Exceeded the maximum allowable position at current leverage."
        elif refused.why is Why.MODE_HELD and not self.book.held(asked.get("symbol")):
            code, message = -4047, "Margin type cannot be changed if there exists open orders."
        elif refused.why is Why.HEDGE_HELD and not self.book.held():
            code, message = -4067, "Position side cannot be changed if there exists open orders."
        elif refused.why is Why.UNKNOWN_ORDER and asked.method == "DELETE":
            code, message = -2011, "Unknown order sent."
        return Answer({"code": code, "msg": message}, 401 if code == -2015 else 400)

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        return Answer({"code": int(code), "msg": message}, 400)

    def too_many(self, asked: Asked) -> Answer:
        body = {"code": -1003, "msg": "Too many requests; current limit is 2400 requests per minute."}
        return Answer(body, 429, headers={"Retry-After": "1"})

    def server_error(self, asked: Asked) -> Answer:
        return Answer({"code": 0, "msg": "Service Unavailable."}, 503)

    def geo_block(self, asked: Asked) -> Answer:
        return Answer({"code": 0, "msg": RESTRICTED}, 451)

    def authenticate(self, asked: Asked) -> None:
        if asked.headers.get("X-MBX-APIKEY") != self.key:
            raise Refused(Why.NO_KEY)
        if asked.path.endswith("/listenKey"):
            return
        self.on_time(asked["timestamp"], timedelta(milliseconds=int(asked.get("recvWindow", 5000))))
        payload, _, signature = (asked.text or asked.query).rpartition("&signature=")
        if signature != hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest():
            raise Refused(Why.NO_SIGNATURE)

    def listing_of(self, asked: Asked) -> Listing:
        return self.book.listing(asked["symbol"])

    def listings_of(self, asked: Asked) -> list[Listing]:
        """The instrument that is named, else all."""
        return [self.listing_of(asked)] if "symbol" in asked.params else list(self.book.listings.values())

    # Market.

    @answers("GET", "/fapi/v1/ping")
    def ping(self, asked: Asked) -> Any:
        return {}

    @answers("GET", "/fapi/v1/time")
    @answers("GET", "/api/v3/time")
    def time(self, asked: Asked) -> Any:
        return {"serverTime": millis(self.book.now())}

    @answers("GET", "/fapi/v1/exchangeInfo")
    def exchange_info(self, asked: Asked) -> Any:
        symbols = [instrument(listing) for listing in self.book.listings.values()]
        return {"timezone": "UTC", "serverTime": millis(self.book.now()), "rateLimits": [], "symbols": symbols}

    @answers("GET", "/api/v3/exchangeInfo")
    @answers("GET", "/dapi/v1/exchangeInfo")
    def no_exchange_info(self, asked: Asked) -> Any:
        """Spot pairs and coin-margined contracts are not simulated."""
        return {"timezone": "UTC", "serverTime": millis(self.book.now()), "rateLimits": [], "symbols": []}

    @answers("GET", "/fapi/v1/premiumIndex")
    def premium_index(self, asked: Asked) -> Any:
        now = millis(self.book.now())
        rows = [
            {
                "symbol": listing.symbol,
                "markPrice": plain(self.book.mark(listing.symbol)),
                "indexPrice": plain(self.book.mark(listing.symbol)),
                "estimatedSettlePrice": plain(self.book.mark(listing.symbol)),
                "lastFundingRate": "0.00010000",
                "interestRate": "0.00010000",
                "nextFundingTime": now // 28_800_000 * 28_800_000 + 28_800_000,
                "time": now,
            }
            for listing in self.listings_of(asked)
        ]
        return rows[0] if "symbol" in asked.params else rows

    @answers("GET", "/fapi/v1/ticker/24hr")
    def ticker(self, asked: Asked) -> Any:
        now = millis(self.book.now())
        rows = []
        for listing in self.listings_of(asked):
            mark = plain(self.book.mark(listing.symbol))
            row = {"symbol": listing.symbol, "lastPrice": mark, "openPrice": mark, "highPrice": mark, "lowPrice": mark}
            times = {"openTime": now - 86_400_000, "closeTime": now, "volume": "1000", "quoteVolume": "60000000"}
            rows.append(row | times | {"priceChange": "0", "priceChangePercent": "0", "weightedAvgPrice": mark})
        return rows[0] if "symbol" in asked.params else rows

    # Account.

    @answers("GET", "/fapi/v1/leverageBracket", private=True)
    def leverage_brackets(self, asked: Asked) -> Any:
        return [brackets(listing) for listing in self.listings_of(asked)]

    @answers("GET", "/fapi/v1/symbolConfig", private=True)
    def symbol_config(self, asked: Asked) -> Any:
        return [
            {
                "symbol": listing.symbol,
                "marginType": "CROSSED" if self.book.mode_of(listing.symbol) is Mode.CROSS else "ISOLATED",
                "isAutoAddMargin": False,
                "leverage": int(self.book.leverage_of(listing.symbol)),
                "maxNotionalValue": plain(listing.tiers[0].limit),
            }
            for listing in self.listings_of(asked)
        ]

    def health(self) -> Health:
        return self.book.health([ASSET])

    def position_margin(self, position: Position) -> Decimal:
        """Of the position at the mark, whatever was put behind it."""
        listing = self.book.listing(position.symbol)
        return listing.value(position.quantity, self.book.mark(position.symbol)) / position.leverage

    @answers("GET", "/fapi/v2/account", private=True)
    @answers("GET", "/fapi/v3/account", private=True)
    def account(self, asked: Asked) -> Any:
        book, health = self.book, self.health()
        won = sum((book.profit(position) for position in book.held()), ZERO)
        apart = sum((position.margin for position in book.held() if position.mode is Mode.ISOLATED), ZERO)
        wallet = book.balances.get(ASSET, ZERO)
        positions = sum((self.position_margin(position) for position in book.held()), ZERO)
        orders = sum((book.order_margin(order) for order in book.open_orders()), ZERO)
        totals = {
            "totalInitialMargin": plain(positions + orders),
            "totalMaintMargin": plain(health.maintenance_margin),
            "totalWalletBalance": plain(wallet),
            "totalUnrealizedProfit": plain(won),
            "totalMarginBalance": plain(wallet + won),
            "totalPositionInitialMargin": plain(positions),
            "totalOpenOrderInitialMargin": plain(orders),
            "totalCrossWalletBalance": plain(wallet - apart),
            "totalCrossUnPnl": plain(won - health.isolated_profit),
            "availableBalance": plain(health.available),
            "maxWithdrawAmount": plain(min(health.available, wallet)),
        }
        assets = [self.asset(asset) for asset in sorted({ASSET, *book.balances})]
        return totals | {"assets": assets, "positions": [self.position(p) for p in book.held()]}

    def asset(self, asset: str) -> dict[str, Any]:
        book, held = self.book, [position for position in self.book.held() if asset == ASSET]
        won = sum((book.profit(position) for position in held), ZERO)
        apart = sum((position.margin for position in held if position.mode is Mode.ISOLATED), ZERO)
        positions = sum((self.position_margin(position) for position in held), ZERO)
        orders = sum((book.order_margin(order) for order in book.open_orders() if asset == ASSET), ZERO)
        wallet = book.balances.get(asset, ZERO)
        available = self.health().available if asset == ASSET else wallet
        return {
            "asset": asset,
            "walletBalance": plain(wallet),
            "unrealizedProfit": plain(won),
            "marginBalance": plain(wallet + won),
            "maintMargin": plain(sum((book.maintenance_margin(position) for position in held), ZERO)),
            "initialMargin": plain(positions + orders),
            "positionInitialMargin": plain(positions),
            "openOrderInitialMargin": plain(orders),
            "crossWalletBalance": plain(wallet - apart),
            "crossUnPnl": plain(won - sum((book.profit(p) for p in held if p.mode is Mode.ISOLATED), ZERO)),
            "availableBalance": plain(available),
            "maxWithdrawAmount": plain(available),
            "updateTime": millis(book.now()),
        }

    @answers("GET", "/fapi/v2/positionRisk", private=True)
    def all_positions(self, asked: Asked) -> Any:
        """The older answer: also where nothing is held, and with leverage and margin mode."""
        rows = []
        for listing in self.listings_of(asked):
            for leg in self.book.legs(listing.symbol):
                held = self.book.positions.get((listing.symbol, leg))
                rows.append(
                    (self.flat(listing, leg) if held is None else self.position(held))
                    | {
                        "leverage": plain(self.book.leverage_of(listing.symbol)),
                        "marginType": self.book.mode_of(listing.symbol).value,
                        "maxNotionalValue": plain(listing.tiers[0].limit),
                        "isAutoAddMargin": "false",
                    }
                )
        return rows

    @answers("GET", "/fapi/v3/positionRisk", private=True)
    def open_positions(self, asked: Asked) -> Any:
        chosen = {listing.symbol for listing in self.listings_of(asked)}
        return [self.position(position) for position in self.book.held() if position.symbol in chosen]

    def flat(self, listing: Listing, leg: Leg) -> dict[str, Any]:
        nothing = ("positionAmt", "entryPrice", "unRealizedProfit", "liquidationPrice", "isolatedMargin", "notional")
        about = {
            "symbol": listing.symbol,
            "positionSide": SIDES[leg],
            "markPrice": plain(self.book.mark(listing.symbol)),
        }
        return about | dict.fromkeys(nothing, "0") | {"isolatedWallet": "0", "updateTime": 0}

    def position(self, position: Position) -> dict[str, Any]:
        book, mark = self.book, self.book.mark(position.symbol)
        isolated = position.mode is Mode.ISOLATED
        return {
            "symbol": position.symbol,
            "positionSide": SIDES[position.leg],
            "positionAmt": plain(position.quantity),
            "entryPrice": plain(position.entry),
            "breakEvenPrice": plain(position.entry),
            "markPrice": plain(mark),
            "unRealizedProfit": plain(book.profit(position)),
            "liquidationPrice": plain(book.liquidation_price(position) or ZERO),
            "isolatedMargin": plain(position.margin + book.profit(position)) if isolated else "0",
            "isolatedWallet": plain(position.margin) if isolated else "0",
            "notional": plain(position.quantity * mark),
            "marginAsset": ASSET,
            "initialMargin": plain(self.position_margin(position)),
            "positionInitialMargin": plain(self.position_margin(position)),
            "openOrderInitialMargin": "0",
            "maintMargin": plain(book.maintenance_margin(position)),
            "adl": 2,
            "bidNotional": "0",
            "askNotional": "0",
            "updateTime": millis(position.updated_at),
        }

    @answers("POST", "/fapi/v1/leverage", private=True)
    def set_leverage(self, asked: Asked) -> Any:
        book, listing, leverage = self.book, self.listing_of(asked), asked.decimal("leverage")
        held = book.held(listing.symbol)
        if any(position.mode is Mode.ISOLATED and leverage < position.leverage for position in held):
            raise Refused(Why.LEVERAGE_HELD)
        for leg in (*(position.leg for position in held), Leg.NET):
            book.set_leverage(listing.symbol, leverage, leg)
        limits = [tier.limit for tier in listing.tiers if tier.leverage_max >= leverage]
        return {"symbol": listing.symbol, "leverage": int(leverage), "maxNotionalValue": plain(limits[-1])}

    @answers("POST", "/fapi/v1/marginType", private=True)
    def set_margin_type(self, asked: Asked) -> Any:
        if asked["marginType"] not in MODES:
            raise Refused(Why.BAD_VALUE)
        self.book.set_mode(self.listing_of(asked).symbol, MODES[asked["marginType"]])
        return {"code": 200, "msg": "success"}

    @answers("POST", "/fapi/v1/positionMargin", private=True)
    def adjust_margin(self, asked: Asked) -> Any:
        leg, amount = LEGS[asked.get("positionSide", "BOTH")], asked.decimal("amount")
        if amount <= 0:
            raise Refused(Why.BAD_VALUE)
        self.book.adjust_margin(self.listing_of(asked).symbol, leg, amount if str(asked["type"]) == "1" else -amount)
        about = {"amount": float(amount), "type": int(asked["type"])}
        return about | {"code": 200, "msg": "Successfully modify position margin."}

    @answers("GET", "/fapi/v1/positionSide/dual", private=True)
    def hedge(self, asked: Asked) -> Any:
        return {"dualSidePosition": self.book.hedge}

    @answers("POST", "/fapi/v1/positionSide/dual", private=True)
    def set_hedge(self, asked: Asked) -> Any:
        self.book.set_hedge(asked["dualSidePosition"] == "true")
        return {"code": 200, "msg": "success"}

    # Orders.

    @answers("POST", "/fapi/v1/order", private=True)
    def create_order(self, asked: Asked) -> Any:
        leg = LEGS.get(asked.get("positionSide", "BOTH"))
        if leg is None or asked["side"] not in ("BUY", "SELL") or asked["type"] not in ("MARKET", "LIMIT"):
            raise Refused(Why.BAD_VALUE)
        if self.book.hedge and "reduceOnly" in asked.params:
            raise Refused(Why.WRONG_LEG)
        order = self.book.place(
            self.listing_of(asked).symbol,
            asked["side"] == "BUY",
            asked.decimal("quantity"),
            price=asked.decimal("price") if asked["type"] == "LIMIT" else None,
            leg=leg,
            reduce_only=asked.get("reduceOnly") == "true",
            client_order_id=asked.get("newClientOrderId", ""),
        )
        return self.order(order)

    @answers("GET", "/fapi/v1/order", private=True)
    def find_order(self, asked: Asked) -> Any:
        return self.order(self.order_of(asked))

    @answers("DELETE", "/fapi/v1/order", private=True)
    def cancel_order(self, asked: Asked) -> Any:
        order = self.order_of(asked)
        self.book.cancel(order)
        return self.order(order)

    @answers("GET", "/fapi/v1/openOrders", private=True)
    def open_orders(self, asked: Asked) -> Any:
        return [self.order(order) for order in self.book.open_orders(asked.get("symbol"))]

    @answers("GET", "/fapi/v1/allOrders", private=True)
    def all_orders(self, asked: Asked) -> Any:
        symbol = self.listing_of(asked).symbol
        return [self.order(order) for order in self.book.orders.values() if order.symbol == symbol]

    @answers("DELETE", "/fapi/v1/allOpenOrders", private=True)
    def cancel_all(self, asked: Asked) -> Any:
        self.book.cancel_all(self.listing_of(asked).symbol)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def order_of(self, asked: Asked) -> Order:
        self.listing_of(asked)
        return self.book.order(asked.get("orderId", ""), asked.get("origClientOrderId", ""))

    def status(self, order: Order) -> str:
        if order.status is Status.OPEN:
            return "PARTIALLY_FILLED" if order.filled else "NEW"
        if order.status is Status.FILLED:
            return "FILLED"
        return "EXPIRED" if order.price is None else "CANCELED"

    def order(self, order: Order) -> dict[str, Any]:
        return {
            "orderId": int(order.order_id),
            "symbol": order.symbol,
            "status": self.status(order),
            "clientOrderId": order.client_order_id,
            "price": plain(order.price or ZERO),
            "avgPrice": plain(order.average or ZERO),
            "origQty": plain(order.quantity),
            "executedQty": plain(order.filled),
            "cumQty": plain(order.filled),
            "cumQuote": plain(order.filled * (order.average or ZERO)),
            "timeInForce": "GTC",
            "type": "MARKET" if order.price is None else "LIMIT",
            "origType": "MARKET" if order.price is None else "LIMIT",
            "reduceOnly": order.reduce_only,
            "closePosition": False,
            "side": "BUY" if order.buy else "SELL",
            "positionSide": SIDES[order.leg],
            "stopPrice": "0",
            "workingType": "CONTRACT_PRICE",
            "time": millis(order.created_at),
            "updateTime": millis(order.updated_at),
        }

    @answers("GET", "/fapi/v1/userTrades", private=True)
    def trades(self, asked: Asked) -> Any:
        symbol = self.listing_of(asked).symbol
        return [
            self.trade(trade)
            for trade in self.book.trades
            if trade.symbol == symbol
            and asked.get("orderId") in (None, trade.order_id)
            and millis(trade.at) >= int(asked.get("startTime", 0))
        ]

    def trade(self, trade: Trade) -> dict[str, Any]:
        return {
            "symbol": trade.symbol,
            "id": int(trade.trade_id),
            "orderId": int(trade.order_id),
            "side": "BUY" if trade.buy else "SELL",
            "price": plain(trade.price),
            "qty": plain(trade.quantity),
            "realizedPnl": plain(trade.profit),
            "quoteQty": plain(trade.quantity * trade.price),
            "commission": plain(trade.fee),
            "commissionAsset": trade.fee_asset,
            "time": millis(trade.at),
            "positionSide": SIDES[trade.leg],
            "buyer": trade.buy,
            "maker": False,
        }

    # Websockets.

    @answers("POST", "/fapi/v1/listenKey", private=True)
    @answers("PUT", "/fapi/v1/listenKey", private=True)
    @answers("DELETE", "/fapi/v1/listenKey", private=True)
    def listen_key(self, asked: Asked) -> Any:
        return {} if asked.method == "DELETE" else {"listenKey": LISTEN_KEY}

    async def greet(self, socket: Socket) -> None:
        socket.authenticated = LISTEN_KEY in (socket.query.get("listenKey"), socket.path.rpartition("/")[2])

    def heard(self, socket: Socket, message: Any) -> None:
        if message.get("method") == "SUBSCRIBE":
            socket.topics |= dict.fromkeys(message["params"], True)
        elif message.get("method") == "UNSUBSCRIBE":
            for topic in message["params"]:
                socket.topics.pop(topic, None)
        socket.send({"result": None, "id": message.get("id")})
        for listing in self.book.listings.values():
            self.tell_mark(socket, listing.symbol)

    def tell_mark(self, socket: Socket, symbol: str) -> None:
        """The mark in each stream of it that the socket listens to."""
        now, mark = millis(self.book.now()), plain(self.book.mark(symbol))
        row = {"e": "markPriceUpdate", "E": now, "s": symbol, "p": mark, "i": mark, "P": mark, "r": "0.0001", "T": now}
        if {f"{symbol.lower()}@markPrice", f"{symbol.lower()}@markPrice@1s"} & set(socket.topics):
            socket.send(row)
        if {"!markPrice@arr", "!markPrice@arr@1s"} & set(socket.topics):
            socket.send([row])
        if f"{symbol.lower()}@ticker" in socket.topics:
            prices = dict.fromkeys(("c", "o", "h", "l", "w"), mark)
            amounts = {"p": "0", "P": "0", "v": "1000", "q": "60000000"}
            socket.send({"e": "24hrTicker", "E": now, "C": now, "s": symbol, **prices, **amounts})

    def changed(self, what: str, subject: str) -> None:
        if what == "mark":
            for socket in self.sockets:
                self.tell_mark(socket, subject)
        elif what == "position":
            self.push({"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER", "B": self.purse(), "P": self.legs(subject)}})
        elif what == "trade":
            self.filled = True
        elif what == "balance" and self.filled:
            self.filled = False  # told with the position
        elif what == "balance":
            self.push({"e": "ACCOUNT_UPDATE", "a": {"m": "DEPOSIT", "B": self.purse(), "P": []}})
        elif what == "leverage":
            leverage = int(self.book.leverage_of(subject))
            self.push({"e": "ACCOUNT_CONFIG_UPDATE", "ac": {"s": subject, "l": leverage}})
        elif what == "order":
            self.push({"e": "ORDER_TRADE_UPDATE", "o": self.told(self.book.orders[subject])})

    def push(self, event: dict[str, Any]) -> None:
        now = millis(self.book.now())
        for socket in self.sockets:
            if socket.authenticated:
                socket.send({**event, "E": now, "T": now})

    def purse(self) -> list[dict[str, Any]]:
        wallet = self.book.balances.get(ASSET, ZERO)
        apart = sum((position.margin for position in self.book.held() if position.mode is Mode.ISOLATED), ZERO)
        return [{"a": ASSET, "wb": plain(wallet), "cw": plain(wallet - apart), "bc": "0"}]

    def legs(self, symbol: str) -> list[dict[str, Any]]:
        """The positions of a symbol as they are pushed: with less than a request gives."""
        rows = []
        for leg in self.book.legs(symbol):
            held = self.book.positions.get((symbol, leg))
            rows.append(
                {
                    "s": symbol,
                    "pa": "0" if held is None else plain(held.quantity),
                    "ep": "0" if held is None else plain(held.entry),
                    "cr": "0" if held is None else plain(held.realized),
                    "up": "0" if held is None else plain(self.book.profit(held)),
                    "mt": self.book.mode_of(symbol).value,
                    "iw": plain(held.margin) if held is not None and held.mode is Mode.ISOLATED else "0",
                    "ps": SIDES[leg],
                    "ma": ASSET,
                }
            )
        return rows

    def told(self, order: Order) -> dict[str, Any]:
        """An order as it is pushed, with its last fill."""
        last = next((trade for trade in reversed(self.book.trades) if trade.order_id == order.order_id), None)
        fill = {} if last is None else {"l": plain(last.quantity), "L": plain(last.price), "t": int(last.trade_id)}
        fee = {} if last is None else {"n": plain(last.fee), "N": last.fee_asset, "rp": plain(last.profit)}
        return {
            "s": order.symbol,
            "c": order.client_order_id,
            "S": "BUY" if order.buy else "SELL",
            "o": "MARKET" if order.price is None else "LIMIT",
            "f": "GTC",
            "q": plain(order.quantity),
            "p": plain(order.price or ZERO),
            "ap": plain(order.average or ZERO),
            "x": "TRADE" if order.filled else "NEW" if order.status is Status.OPEN else "CANCELED",
            "X": self.status(order),
            "i": int(order.order_id),
            "z": plain(order.filled),
            "T": millis(order.updated_at),
            "R": order.reduce_only,
            "ps": SIDES[order.leg],
            "m": False,
            **fill,
            **fee,
        }
