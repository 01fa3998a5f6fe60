"""OKX as its v5 API is on the wire: a multi-currency account with swaps (linear and inverse), spot and loans."""

import base64
import hashlib
import hmac
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.support.venues.okx_listings import CODES, FAMILIES, LISTINGS, MARKS, family, instrument
from tests.support.venues.okx_rows import OkxRows
from tests.support.venues.records import ZERO, Kind, Leg, Listing, Mode, Order, Refused, Status, Why
from tests.support.venues.venue import Answer, Asked, Socket, answers, millis, number, plain

IN_DATA = ("/trade/order", "/trade/batch-orders", "/trade/cancel-order", "/trade/cancel-batch-orders")
"""Calls whose refusals stand in the row of each order."""
WINDOW = timedelta(seconds=30)


class OkxSimulator(OkxRows):
    """One account in multi-currency mode. `set_mark` of a swap in USDT moves the spot pair with it.

    The margin mode of a position is that of the order that opened it; leverage is kept for each mode.
    """

    name = "okx"
    hosts = ("www.okx.com", "ws.okx.com", "wspap.okx.com")

    def __init__(self) -> None:
        super().__init__(LISTINGS, MARKS)
        self.book.hourly_rates = {"USDT": Decimal("0.0000057"), "BTC": Decimal("0.0000005"), "ETH": Decimal("0.000001")}
        self.book.borrow_limits = {"USDT": Decimal(500_000), "BTC": Decimal(10), "ETH": Decimal(150)}
        self.book.leverage_default = Decimal(3)
        self.levers: dict[tuple[str, Mode, Leg], Decimal] = {}
        self.loans: dict[str, str] = {}

    def set_mark(self, symbol: str, price: Decimal | str) -> None:
        super().set_mark(symbol, price)
        spot = symbol.removesuffix("-SWAP")
        if spot != symbol and spot in self.book.listings:
            super().set_mark(spot, price)

    # Words.

    def said(self, rows: list[Any], code: str = "0", message: str = "") -> dict[str, Any]:
        """The envelope of every answer."""
        return {"code": code, "data": rows, "msg": message}

    def code(self, refused: Refused, path: str) -> tuple[str, str]:
        code, message = CODES[refused.why]
        if refused.note == "passphrase":
            return "50105", "The API passphrase is incorrect"
        if refused.why is Why.NOT_ENOUGH and path.endswith("/set-leverage"):
            return "59103", "Leverage is too low and there isn't enough available margin in your account."
        if refused.why is Why.NOT_ENOUGH and path.endswith("/margin-balance"):
            return "59301", "Margin adjustment failed for exceeding the max limit"
        if refused.why is Why.UNKNOWN_ORDER and "cancel" in path:
            return "51400", "Cancellation failed as the order has been filled, canceled or does not exist."
        return code, message

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        if refused.why is Why.UNKNOWN_CALL:
            return Answer({"msg": "API endpoint does not exist", "code": "404", "data": None}, 404)
        code, message = self.code(refused, asked.path)
        return Answer(self.said([], code, message), 401 if code in ("50111", "50113", "50102", "50105") else 200)

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        if asked.method == "POST" and asked.path.endswith(IN_DATA):
            row = {"clOrdId": "", "ordId": "", "tag": "", "sCode": code, "sMsg": message}
            return Answer(self.said([row], "1", "All operations failed"))
        return Answer(self.said([], code, message))

    def too_many(self, asked: Asked) -> Answer:
        return Answer(self.said([], "50011", "Too Many Requests"), 429)

    def server_error(self, asked: Asked) -> Answer:
        return Answer(self.said([], "50001", "Service temporarily unavailable. Try again later"), 503)

    def authenticate(self, asked: Asked) -> None:
        headers = asked.headers
        if headers.get("OK-ACCESS-KEY") != self.key:
            raise Refused(Why.NO_KEY)
        stamp = headers.get("OK-ACCESS-TIMESTAMP", "")
        try:
            at = datetime.fromisoformat(stamp)
        except ValueError:
            raise Refused(Why.CLOCK) from None
        self.on_time(millis(at), WINDOW)
        path = f"{asked.path}?{asked.query}" if asked.query else asked.path
        if headers.get("OK-ACCESS-SIGN") != self.signature(f"{stamp}{asked.method}{path}{asked.text}"):
            raise Refused(Why.NO_SIGNATURE)
        if headers.get("OK-ACCESS-PASSPHRASE") != self.passphrase:
            raise Refused(Why.NO_KEY, "passphrase")

    def signature(self, payload: str) -> str:
        return base64.b64encode(hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).digest()).decode()

    def listings_of(self, asked: Asked) -> list[Listing]:
        """By the parameters instType, instId (several, with commas) and instFamily."""
        symbols = str(asked.get("instId", "")).split(",") if asked.get("instId") else []
        for symbol in symbols:
            self.book.listing(symbol)
        return [
            listing
            for listing in self.book.listings.values()
            if asked.get("instType") in (None, "ANY", FAMILIES[listing.kind])
            and (not symbols or listing.symbol in symbols)
            and asked.get("instFamily") in (None, "", family(listing))
        ]

    # Market.

    @answers("GET", "/api/v5/public/time")
    def time(self, asked: Asked) -> Any:
        return self.said([{"ts": str(millis(self.book.now()))}])

    @answers("GET", "/api/v5/public/instruments")
    @answers("GET", "/api/v5/account/instruments", private=True)
    def instruments(self, asked: Asked) -> Any:
        return self.said([instrument(listing) for listing in self.listings_of(asked) if asked["instType"]])

    @answers("GET", "/api/v5/public/position-tiers")
    def tiers(self, asked: Asked) -> Any:
        rows = []
        for listing in self.listings_of(asked):
            floor = ZERO
            for count, tier in enumerate(listing.tiers, 1):
                rows.append(
                    {
                        "instFamily": family(listing),
                        "uly": family(listing),
                        "instId": "",
                        "tier": str(count),
                        "minSz": plain(floor),
                        "maxSz": plain(tier.limit),
                        "mmr": plain(tier.maintenance_rate),
                        "imr": plain(1 / tier.leverage_max),
                        "maxLever": plain(tier.leverage_max),
                        "optMgnFactor": "0",
                        "baseMaxLoan": "",
                        "quoteMaxLoan": "",
                    }
                )
                floor = tier.limit + listing.lot
        return self.said(rows)

    @answers("GET", "/api/v5/public/mark-price")
    def mark_price(self, asked: Asked) -> Any:
        return self.said([self.marked(listing) for listing in self.listings_of(asked)])

    @answers("GET", "/api/v5/market/ticker")
    @answers("GET", "/api/v5/market/tickers")
    def tickers(self, asked: Asked) -> Any:
        return self.said([self.ticker(listing) for listing in self.listings_of(asked)])

    # Account.

    @answers("GET", "/api/v5/asset/currencies", private=True)
    def currencies(self, asked: Asked) -> Any:
        return self.said(
            [
                {
                    "ccy": coin,
                    "name": coin,
                    "chain": f"{coin}-{coin}",
                    "canDep": True,
                    "canWd": True,
                    "canInternal": True,
                }
                for coin in ("BTC", "ETH", "SOL", "USDT")
            ]
        )

    @answers("GET", "/api/v5/account/config", private=True)
    def config(self, asked: Asked) -> Any:
        mode = "long_short_mode" if self.book.hedge else "net_mode"
        about = {
            "uid": "1",
            "mainUid": "1",
            "acctLv": "3",
            "posMode": mode,
            "autoLoan": False,
            "enableSpotBorrow": True,
        }
        return self.said([{**about, "level": "Lv1", "perm": "read_only,trade", "mgnIsoMode": "automatic"}])

    @answers("GET", "/api/v5/account/balance", private=True)
    def balance(self, asked: Asked) -> Any:
        return self.said([self.account()])

    @answers("POST", "/api/v5/account/set-position-mode", private=True)
    def set_position_mode(self, asked: Asked) -> Any:
        wanted = {"long_short_mode": True, "net_mode": False}.get(asked["posMode"])
        if wanted is None:
            raise Refused(Why.BAD_VALUE)
        if wanted != self.book.hedge:
            self.book.set_hedge(wanted)
        return self.said([{"posMode": asked["posMode"]}])

    def lever(self, symbol: str, mode: Mode, leg: Leg) -> Decimal:
        """Leverage in a margin mode: cross has one for a symbol, isolated one for each leg."""
        return self.levers.get((symbol, mode, Leg.NET if mode is Mode.CROSS else leg), self.book.leverage_default)

    @answers("GET", "/api/v5/account/leverage-info", private=True)
    def leverage_info(self, asked: Asked) -> Any:
        mode = Mode(asked["mgnMode"])
        return self.said(
            [
                {
                    "instId": listing.symbol,
                    "mgnMode": mode.value,
                    "posSide": leg.value,
                    "lever": plain(self.lever(listing.symbol, mode, leg)),
                }
                for listing in self.listings_of(asked)
                for leg in (self.book.legs(listing.symbol) if listing.tiers else (Leg.NET,))
            ]
        )

    @answers("POST", "/api/v5/account/set-leverage", private=True)
    def set_leverage(self, asked: Asked) -> Any:
        book, listing = self.book, self.book.listing(asked["instId"])
        mode, leverage, symbol = Mode(asked["mgnMode"]), asked.decimal("lever"), listing.symbol
        leg = Leg(asked.get("posSide", "net"))
        if mode is Mode.ISOLATED and leg not in book.legs(symbol):
            raise Refused(Why.WRONG_LEG)
        if mode is Mode.ISOLATED and any(book.mode_of(order.symbol) is mode for order in book.open_orders(symbol)):
            raise Refused(Why.LEVERAGE_HELD)
        legs = book.legs(symbol) if mode is Mode.CROSS else (leg,)
        for each in legs:
            held = book.positions.get((symbol, each))
            if held is not None and held.mode is mode:
                book.set_leverage(symbol, leverage, each)
        top = listing.tiers[0].leverage_max if listing.tiers else Decimal(10)
        if leverage < 1 or leverage % book.leverage_step or leverage > top:
            raise Refused(Why.LEVERAGE_TOO_HIGH if leverage > top else Why.LEVERAGE_STEP)
        self.levers[symbol, mode, Leg.NET if mode is Mode.CROSS else leg] = leverage
        told = {"lever": plain(leverage), "mgnMode": mode.value, "instId": symbol}
        return self.said([{**told, "posSide": each.value} for each in legs])

    @answers("POST", "/api/v5/account/position/margin-balance", private=True)
    def adjust_margin(self, asked: Asked) -> Any:
        symbol, leg, amount = asked["instId"], Leg(asked["posSide"]), asked.decimal("amt")
        if asked["type"] not in ("add", "reduce") or amount <= 0:
            raise Refused(Why.BAD_VALUE)
        position = self.book.adjust_margin(symbol, leg, amount if asked["type"] == "add" else -amount)
        told = {"instId": symbol, "posSide": leg.value, "amt": plain(amount), "type": asked["type"]}
        return self.said([{**told, "leverage": plain(position.leverage), "ccy": self.settle(position)}])

    @answers("GET", "/api/v5/account/positions", private=True)
    def positions(self, asked: Asked) -> Any:
        chosen = {listing.symbol for listing in self.listings_of(asked)}
        return self.said([self.position(position) for position in self.book.held() if position.symbol in chosen])

    @answers("GET", "/api/v5/account/interest-rate", private=True)
    def interest_rates(self, asked: Asked) -> Any:
        rates = self.book.hourly_rates.items()
        wanted = asked.get("ccy")
        return self.said([{"ccy": coin, "interestRate": plain(rate)} for coin, rate in rates if wanted in (None, coin)])

    @answers("GET", "/api/v5/account/interest-accrued", private=True)
    def interest_accrued(self, asked: Asked) -> Any:
        return self.said(
            [
                {
                    "type": "2",
                    "ccy": paid.asset,
                    "instId": "",
                    "mgnMode": "cross",
                    "interest": plain(paid.amount),
                    "interestRate": plain(paid.rate),
                    "liab": plain(paid.principal),
                    "ts": str(millis(paid.at)),
                }
                for paid in reversed(self.book.interest_paid)
                if asked.get("ccy") in (None, paid.asset)
            ]
        )

    @answers("POST", "/api/v5/account/borrow-repay", private=True)
    @answers("POST", "/api/v5/account/spot-manual-borrow-repay", private=True)
    def borrow_or_repay(self, asked: Asked) -> Any:
        asset, amount, loan = asked["ccy"], asked.decimal("amt"), str(next(self.book.numbers))
        if asked["side"] == "borrow":
            self.book.borrow(asset, amount)
            self.loans[loan] = asset
        elif asked["side"] == "repay":
            loan = str(asked.get("ordId", loan))
            if asked.path.endswith("/account/borrow-repay") and self.loans.get(loan) != asset:
                raise Refused(Why.NO_DEBT)
            self.book.repay(asset, amount)
        else:
            raise Refused(Why.BAD_VALUE)
        return self.said([{"ccy": asset, "amt": plain(amount), "side": asked["side"], "ordId": loan, "state": "1"}])

    # Orders.

    @answers("POST", "/api/v5/trade/order", private=True)
    @answers("POST", "/api/v5/trade/batch-orders", private=True)
    def create_orders(self, asked: Asked) -> Any:
        return self.each(asked, lambda row: self.create_order(row))

    @answers("POST", "/api/v5/trade/cancel-order", private=True)
    @answers("POST", "/api/v5/trade/cancel-batch-orders", private=True)
    def cancel_orders(self, asked: Asked) -> Any:
        return self.each(asked, lambda row: self.cancel_order(row))

    def each(self, asked: Asked, carry_out: Any) -> Any:
        """Carries out every row of a request; a refusal stands in its row."""
        rows = []
        for row in asked.body if isinstance(asked.body, list) else [asked.params]:
            told = {"clOrdId": row.get("clOrdId", ""), "ordId": row.get("ordId", ""), "tag": row.get("tag", "")}
            try:
                order = carry_out(row)
            except Refused as refused:
                code, message = self.code(refused, asked.path)
                rows.append({**told, "sCode": code, "sMsg": message})
            else:
                told |= {"ordId": order.order_id, "clOrdId": order.client_order_id}
                rows.append({**told, "sCode": "0", "sMsg": "", "ts": str(millis(order.updated_at))})
        failed = sum(row["sCode"] != "0" for row in rows)
        code = "0" if not failed else "1" if failed == len(rows) else "2"
        return self.said(rows, code, "" if code == "0" else "All operations failed" if code == "1" else "Bulk partial")

    def create_order(self, row: dict[str, Any]) -> Order:
        book = self.book
        listing = book.listing(str(row.get("instId", "")))
        if row.get("side") not in ("buy", "sell") or row.get("ordType") not in ("market", "limit"):
            raise Refused(Why.BAD_VALUE)
        leg, symbol, buy = Leg(row.get("posSide", "net")), listing.symbol, row["side"] == "buy"
        client_order_id = str(row.get("clOrdId", ""))
        if not client_order_id.isalnum() or len(client_order_id) > 32:
            raise Refused(Why.BAD_VALUE)
        if listing.kind is not Kind.SPOT:
            mode = Mode(row.get("tdMode", "cross"))
            if book.held(symbol) and book.mode_of(symbol) is not mode:
                raise Refused(Why.MODE_HELD)
            book.modes[symbol] = mode
            book.leverage[symbol, leg] = self.lever(symbol, mode, leg)
        return book.place(
            symbol,
            buy,
            number(row.get("sz")),
            price=None if row["ordType"] == "market" else number(row.get("px")),
            leg=leg,
            reduce_only=str(row.get("reduceOnly", "")).lower() == "true" and leg is Leg.NET,
            client_order_id=client_order_id,
        )

    def cancel_order(self, row: dict[str, Any]) -> Order:
        order = self.book.order(str(row.get("ordId", "")), str(row.get("clOrdId", "")))
        self.book.cancel(order)
        return order

    @answers("POST", "/api/v5/trade/close-position", private=True)
    def close_position(self, asked: Asked) -> Any:
        leg, symbol = Leg(asked.get("posSide", "net")), asked["instId"]
        position = self.book.position(symbol, leg)
        size, sells = abs(position.quantity), position.quantity > 0
        identity = str(asked.get("clOrdId", ""))
        self.book.place(symbol, not sells, size, leg=leg, reduce_only=leg is Leg.NET, client_order_id=identity)
        return self.said([{"instId": symbol, "posSide": leg.value, "clOrdId": identity, "tag": ""}])

    @answers("GET", "/api/v5/trade/order", private=True)
    def find_order(self, asked: Asked) -> Any:
        self.book.listing(asked["instId"])
        return self.said([self.order(self.book.order(asked.get("ordId", ""), asked.get("clOrdId", "")))])

    @answers("GET", "/api/v5/trade/orders-pending", private=True)
    def open_orders(self, asked: Asked) -> Any:
        chosen = {listing.symbol for listing in self.listings_of(asked)}
        return self.said([self.order(order) for order in self.book.open_orders() if order.symbol in chosen])

    @answers("GET", "/api/v5/trade/orders-history", private=True)
    def closed_orders(self, asked: Asked) -> Any:
        chosen = {listing.symbol for listing in self.listings_of(asked)}
        orders = [o for o in reversed(self.book.orders.values()) if o.status is not Status.OPEN and o.symbol in chosen]
        return self.said([self.order(order) for order in orders])

    @answers("GET", "/api/v5/trade/fills", private=True)
    @answers("GET", "/api/v5/trade/fills-history", private=True)
    def fills(self, asked: Asked) -> Any:
        chosen = {listing.symbol for listing in self.listings_of(asked)}
        return self.said(
            [
                self.fill(trade)
                for trade in reversed(self.book.trades)
                if trade.symbol in chosen
                and asked.get("ordId") in (None, trade.order_id)
                and millis(trade.at) >= int(asked.get("begin", 0))
            ]
        )

    # Websockets.

    def heard(self, socket: Socket, message: Any) -> None:
        if message == "ping":
            socket.send("pong")
            return
        operation, arguments = message.get("op"), message.get("args", [])
        if operation == "login":
            self.log_in(socket, arguments[0])
        elif operation == "unsubscribe":
            for topic in arguments:
                socket.topics.pop(key_of(topic), None)
                socket.send({"event": "unsubscribe", "arg": topic, "connId": "simulated"})
        elif operation == "subscribe":
            for topic in arguments:
                if socket.path.endswith("/private") and not socket.authenticated:
                    socket.send({"event": "error", "code": "60011", "msg": "Please log in", "connId": "simulated"})
                elif topic.get("instId", "BTC-USDT") not in self.book.listings:
                    words = f"{topic} doesn't exist. Please check channel, instId."
                    socket.send({"event": "error", "code": "60018", "msg": words, "connId": "simulated"})
                else:
                    socket.topics[key_of(topic)] = topic
                    socket.send({"event": "subscribe", "arg": topic, "connId": "simulated"})
                    self.greet_topic(socket, topic)

    def log_in(self, socket: Socket, login: dict[str, Any]) -> None:
        expected = self.signature(f"{login.get('timestamp')}GET/users/self/verify")
        wrong = (
            ("60005", "Invalid apiKey")
            if login.get("apiKey") != self.key
            else ("60024", "Wrong passphrase")
            if login.get("passphrase") != self.passphrase
            else ("60007", "Invalid sign")
            if login.get("sign") != expected
            else None
        )
        socket.authenticated = wrong is None
        if wrong is None:
            socket.send({"event": "login", "code": "0", "msg": "", "connId": "simulated"})
        else:
            socket.send({"event": "error", "code": wrong[0], "msg": wrong[1], "connId": "simulated"})

    def greet_topic(self, socket: Socket, topic: dict[str, Any]) -> None:
        """What a channel tells first."""
        first: dict[str, Any] = {
            "mark-price": lambda: [self.marked(self.book.listing(topic["instId"]))],
            "tickers": lambda: [self.ticker(self.book.listing(topic["instId"]))],
            "positions": lambda: [
                self.position(p) for p in self.book.held() if topic.get("instId") in (None, p.symbol)
            ],
            "account": lambda: [self.account()],
        }
        if topic["channel"] in first:
            socket.send({"arg": topic, "data": first[topic["channel"]]()})

    def tell(self, channel: str, symbol: str | None, rows: list[dict[str, Any]]) -> None:
        for socket in self.sockets:
            for topic in socket.topics.values():
                if topic["channel"] == channel and (symbol is None or topic.get("instId") in (None, symbol)):
                    socket.send({"arg": topic, "data": rows})

    def changed(self, what: str, subject: str) -> None:
        book = self.book
        if what == "mark":
            self.tell("mark-price", subject, [self.marked(book.listing(subject))])
            self.tell("tickers", subject, [self.ticker(book.listing(subject))])
        elif what == "position" and book.listing(subject).tiers:
            held = {leg: book.positions.get((subject, leg)) for leg in book.legs(subject)}
            rows = [self.flat(subject, leg) if p is None else self.position(p) for leg, p in held.items()]
            self.tell("positions", subject, rows)
        elif what == "balance":
            self.tell("account", None, [self.account()])
        elif what == "order":
            self.tell("orders", book.orders[subject].symbol, [self.order(book.orders[subject])])


def key_of(topic: dict[str, Any]) -> str:
    """What tells one subscription from another."""
    return "/".join(f"{name}={topic[name]}" for name in sorted(topic))
