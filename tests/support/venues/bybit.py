"""Bybit as its v5 API is on the wire: a unified account with linear and inverse perpetuals, spot and borrowing."""

import hashlib
import hmac
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.support.venues.bybit_listings import CODES, LISTINGS, MARKS, SPOT, instrument, named, wire
from tests.support.venues.records import ZERO, Kind, Leg, Listing, Mode, Order, Position, Refused, Status, Trade, Why
from tests.support.venues.venue import Answer, Asked, Socket, VenueSimulator, answers, millis, number, plain

LEGS = {"0": Leg.NET, "1": Leg.LONG, "2": Leg.SHORT}
PLACES = {leg: int(place) for place, leg in LEGS.items()}
MODES = {"REGULAR_MARGIN": Mode.CROSS, "ISOLATED_MARGIN": Mode.ISOLATED}
BLOCKED = (
    "<html><body><h1>403 ERROR</h1>The Amazon CloudFront distribution is configured to block access from your country."
    "</body></html>"
)


class BybitSimulator(VenueSimulator):
    """One unified account. `set_mark` of a perpetual in USDT moves the spot pair with it."""

    name = "bybit"
    hosts = ("api.bybit.com", "stream.bybit.com", "api-testnet.bybit.com", "stream-testnet.bybit.com")

    def __init__(self) -> None:
        super().__init__(LISTINGS, MARKS)
        self.book.one_way = {Kind.INVERSE}
        self.book.fee_rate = Decimal("0.00055")
        self.book.hourly_rates = {"USDT": Decimal("0.0000057"), "BTC": Decimal("0.0000005"), "ETH": Decimal("0.000001")}
        self.book.borrow_limits = {"USDT": Decimal(1_000_000), "BTC": Decimal(20), "ETH": Decimal(300)}

    def set_mark(self, symbol: str, price: Decimal | str) -> None:
        super().set_mark(symbol, price)
        if symbol + SPOT in self.book.listings:
            super().set_mark(symbol + SPOT, price)

    # Words.

    def said(self, result: Any, code: int = 0, message: str = "OK") -> dict[str, Any]:
        """The envelope of every answer."""
        now = millis(self.book.now())
        return {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": now}

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        if refused.why is Why.UNKNOWN_CALL:
            return Answer("404 page not found", 404, "text/plain")
        code, message = CODES[refused.why]
        if refused.why is Why.NOT_ENOUGH and "leverage" in asked.path:
            code, message = 110044, "Insufficient available margin"
        return Answer(self.said({}, code, f"{message} ({refused.note})" if refused.note else message))

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        return Answer(self.said({}, int(code), message))

    def too_many(self, asked: Asked) -> Answer:
        body = self.said({}, 10006, "Too many visits. Exceeded the API Rate Limit.")
        return Answer(body, 429, headers={"X-Bapi-Limit-Status": "0"})

    def server_error(self, asked: Asked) -> Answer:
        return Answer("", 503, "text/plain")

    def geo_block(self, asked: Asked) -> Answer:
        return Answer(BLOCKED, 403, "text/html")

    def authenticate(self, asked: Asked) -> None:
        headers = asked.headers
        if headers.get("X-BAPI-API-KEY") != self.key:
            raise Refused(Why.NO_KEY)
        stamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "5000")
        self.on_time(stamp, timedelta(milliseconds=int(window)))
        payload = f"{stamp}{self.key}{window}{asked.text if asked.method == 'POST' else asked.query}"
        if headers.get("X-BAPI-SIGN") != hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest():
            raise Refused(Why.NO_SIGNATURE)

    def listing_of(self, asked: Asked) -> Listing:
        return self.book.listing(named(asked["category"], asked["symbol"]))

    def listings_of(self, asked: Asked) -> list[Listing]:
        """The instruments that a request is about: by category and, where given, symbol, settlement coin, base coin."""
        category = asked["category"]
        chosen = [
            listing
            for listing in self.book.listings.values()
            if listing.kind.value == category
            and asked.get("symbol", wire(listing)) == wire(listing)
            and asked.get("settleCoin", listing.settle) == listing.settle
            and asked.get("baseCoin", listing.base) == listing.base
        ]
        if not chosen and "symbol" in asked.params:
            raise Refused(Why.UNKNOWN_SYMBOL, asked["symbol"])
        return chosen

    # Market.

    @answers("GET", "/v5/market/time")
    def time(self, asked: Asked) -> Any:
        now = millis(self.book.now())
        return self.said({"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)})

    @answers("GET", "/v5/market/instruments-info")
    def instruments(self, asked: Asked) -> Any:
        ahead = asked.get("status") == "PreLaunch"
        listed = [] if ahead or asked["category"] == "option" else self.listings_of(asked)
        result = {"category": asked["category"], "list": [instrument(listing) for listing in listed]}
        return self.said(result if asked["category"] == "spot" else {**result, "nextPageCursor": ""})

    @answers("GET", "/v5/market/risk-limit")
    def risk_limits(self, asked: Asked) -> Any:
        rows = [
            {
                "id": count,
                "symbol": listing.symbol,
                "riskLimitValue": plain(tier.limit),
                "maintenanceMargin": plain(tier.maintenance_rate),
                "initialMargin": plain(1 / tier.leverage_max),
                "isLowestRisk": int(count == 1),
                "maxLeverage": plain(tier.leverage_max),
                "mmDeduction": plain(tier.deduction),
            }
            for listing in self.listings_of(asked)
            for count, tier in enumerate(listing.tiers, 1)
        ]
        return self.said({"category": asked["category"], "list": rows, "nextPageCursor": ""})

    @answers("GET", "/v5/market/tickers")
    def tickers(self, asked: Asked) -> Any:
        rows = [self.ticker(listing) for listing in self.listings_of(asked)]
        return self.said({"category": asked["category"], "list": rows})

    def ticker(self, listing: Listing) -> dict[str, Any]:
        mark = self.book.mark(listing.symbol)
        row = {
            "symbol": wire(listing),
            "lastPrice": plain(mark + listing.tick),
            "prevPrice24h": plain(mark),
            "price24hPcnt": "0",
            "highPrice24h": plain(mark),
            "lowPrice24h": plain(mark),
            "bid1Price": plain(mark - listing.tick),
            "bid1Size": "10",
            "ask1Price": plain(mark + listing.tick),
            "ask1Size": "10",
            "turnover24h": "1000000",
            "volume24h": "1000",
        }
        if listing.kind is Kind.SPOT:
            return {**row, "usdIndexPrice": plain(mark)}
        return {
            **row,
            "indexPrice": plain(mark),
            "markPrice": plain(mark),
            "openInterest": "50000",
            "openInterestValue": "3000000000",
            "fundingRate": "0.0001",
            "nextFundingTime": str(millis(self.book.now()) // 28_800_000 * 28_800_000 + 28_800_000),
            "deliveryTime": "0",
        }

    @answers("GET", "/v5/spot-margin-trade/data")
    def borrow_rates(self, asked: Asked) -> Any:
        asset = asked.get("currency")
        rows = [
            {
                "borrowable": True,
                "collateralRatio": "0.95",
                "currency": coin,
                "hourlyBorrowRate": plain(rate),
                "liquidationOrder": "3",
                "marginCollateral": True,
                "maxBorrowingAmount": plain(self.book.borrow_limits.get(coin, ZERO)),
            }
            for coin, rate in self.book.hourly_rates.items()
            if asset in (None, coin)
        ]
        return self.said({"vipCoinList": [{"list": rows, "vipLevel": asked.get("vipLevel", "No VIP")}]})

    # Account.

    @answers("GET", "/v5/user/query-api", private=True)
    def key_info(self, asked: Asked) -> Any:
        permissions = {"ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": ["AccountTransfer"]}
        about = {"id": "1", "apiKey": self.key, "readOnly": 0, "permissions": permissions, "unified": 0, "uta": 1}
        return self.said({**about, "userID": 1, "isMaster": True, "vipLevel": "No VIP", "ips": ["*"]})

    @answers("GET", "/v5/account/info", private=True)
    def account_info(self, asked: Asked) -> Any:
        mode = next(word for word, mode in MODES.items() if mode is self.book.mode_default)
        updated = str(millis(self.book.now()))
        return self.said({"marginMode": mode, "updatedTime": updated, "unifiedMarginStatus": 6, "dcpStatus": "OFF"})

    @answers("GET", "/v5/asset/coin/query-info", private=True)
    def coins(self, asked: Asked) -> Any:
        rows: list[dict[str, Any]] = [
            {"name": coin, "coin": coin, "remainAmount": "0", "chains": []} for coin in ("BTC", "ETH", "SOL", "USDT")
        ]
        return self.said({"rows": rows})

    @answers("GET", "/v5/account/wallet-balance", private=True)
    def wallet(self, asked: Asked) -> Any:
        if asked["accountType"] != "UNIFIED":
            raise Refused(Why.BAD_VALUE, "accountType only support UNIFIED.")
        return self.said({"list": [self.account()]})

    def account(self) -> dict[str, Any]:
        book, health = self.book, self.book.health()
        isolated = book.mode_default is Mode.ISOLATED
        won = sum((book.profit(p) * book.dollars(self.settle(p)) for p in book.held()), ZERO)
        equity = health.equity or Decimal(1)
        return {
            "accountType": "UNIFIED",
            "totalEquity": plain(health.equity),
            "totalMarginBalance": "" if isolated else plain(health.equity),
            "totalWalletBalance": plain(health.equity - won),
            "totalPerpUPL": plain(won),
            "totalAvailableBalance": "" if isolated else plain(health.available),
            "totalInitialMargin": "" if isolated else plain(health.initial_margin),
            "totalMaintenanceMargin": "" if isolated else plain(health.maintenance_margin),
            "accountIMRate": "" if isolated else plain((health.initial_margin / equity).quantize(Decimal("0.0001"))),
            "accountMMRate": ""
            if isolated
            else plain((health.maintenance_margin / equity).quantize(Decimal("0.0001"))),
            "accountLTV": "",
            "coin": [self.coin(asset) for asset in book.assets()],
        }

    def coin(self, asset: str) -> dict[str, Any]:
        book = self.book
        held = [position for position in book.held() if self.settle(position) == asset]
        orders = [order for order in book.open_orders() if book.listing(order.symbol).settle == asset]
        return {
            "coin": asset,
            "equity": plain(book.equity_of(asset)),
            "usdValue": plain(book.equity_of(asset) * book.dollars(asset)),
            "walletBalance": plain(book.balances.get(asset, ZERO)),
            "free": "",
            "locked": "0",
            "borrowAmount": plain(book.debts.get(asset, ZERO)),
            "spotBorrow": plain(book.debts.get(asset, ZERO)),
            "accruedInterest": plain(book.interest.get(asset, ZERO)),
            "availableToWithdraw": "",
            "availableToBorrow": "",
            "unrealisedPnl": plain(sum((book.profit(position) for position in held), ZERO)),
            "cumRealisedPnl": plain(
                sum((trade.profit - trade.fee for trade in book.trades if trade.fee_asset == asset), ZERO)
            ),
            "totalOrderIM": plain(sum((book.order_margin(order) for order in orders), ZERO)),
            "totalPositionIM": plain(sum((book.initial_margin(position) for position in held), ZERO)),
            "totalPositionMM": plain(sum((book.maintenance_margin(position) for position in held), ZERO)),
            "marginCollateral": True,
            "collateralSwitch": True,
            "bonus": "0",
        }

    def settle(self, position: Position) -> str:
        return self.book.listing(position.symbol).settle

    @answers("POST", "/v5/account/set-margin-mode", private=True)
    def set_margin_mode(self, asked: Asked) -> Any:
        mode = MODES.get(asked["setMarginMode"])
        if mode is None:
            raise Refused(Why.BAD_VALUE, "setMarginMode")
        if mode is self.book.mode_default:
            raise Refused(Why.MODE_SAME)
        if self.book.held() or self.book.open_orders():
            body = self.said(
                {"reasons": [{"reasonCode": "3400000", "reasonMsg": "Equity needs to be equal to or greater"}]}
            )
            return body | {"retCode": 3400045, "retMsg": "Set margin mode failed"}
        self.book.mode_default = mode
        return self.said({"reasons": []})

    @answers("POST", "/v5/account/borrow", private=True)
    def borrow(self, asked: Asked) -> Any:
        self.book.borrow(asked["coin"], asked.decimal("amount"))
        return self.said({"coin": asked["coin"], "amount": str(asked["amount"])}, message="success")

    @answers("POST", "/v5/account/repay", private=True)
    @answers("POST", "/v5/account/no-convert-repay", private=True)
    def repay(self, asked: Asked) -> Any:
        coin = asked["coin"]
        self.book.repay(coin, number(asked.get("amount", self.book.owed(coin))))
        return self.said({"resultStatus": "SU"}, message="success")

    @answers("GET", "/v5/account/collateral-info", private=True)
    def collateral(self, asked: Asked) -> Any:
        rows = [
            {
                "currency": coin,
                "hourlyBorrowRate": plain(rate),
                "borrowAmount": plain(self.book.debts.get(coin, ZERO)),
                "maxBorrowingAmount": plain(self.book.borrow_limits.get(coin, ZERO)),
                "borrowable": True,
                "collateralRatio": "0.95",
                "marginCollateral": True,
                "collateralSwitch": True,
            }
            for coin, rate in self.book.hourly_rates.items()
            if asked.get("currency") in (None, coin)
        ]
        return self.said({"list": rows})

    @answers("GET", "/v5/account/borrow-history", private=True)
    def interest(self, asked: Asked) -> Any:
        rows = [
            {
                "currency": paid.asset,
                "createdTime": millis(paid.at),
                "borrowCost": plain(paid.amount),
                "hourlyBorrowRate": plain(paid.rate),
                "InterestBearingBorrowSize": plain(paid.principal),
                "borrowAmount": plain(paid.principal),
            }
            for paid in reversed(self.book.interest_paid)
            if asked.get("currency") in (None, paid.asset)
        ]
        return self.said({"list": rows, "nextPageCursor": ""})

    # Positions.

    @answers("GET", "/v5/position/list", private=True)
    def positions(self, asked: Asked) -> Any:
        if asked["category"] == "linear" and not {"symbol", "settleCoin", "baseCoin"} & set(asked.params):
            raise Refused(Why.BAD_VALUE, "symbol or settleCoin is missing")
        rows = [
            self.position(listing, leg)
            for listing in self.listings_of(asked)
            for leg in self.book.legs(listing.symbol)
            if "symbol" in asked.params or (listing.symbol, leg) in self.book.positions
        ]
        return self.said({"category": asked["category"], "list": rows, "nextPageCursor": ""})

    def position(self, listing: Listing, leg: Leg) -> dict[str, Any]:
        """A position as the venue tells it, also where there is none."""
        book = self.book
        held = book.positions.get((listing.symbol, leg))
        now = str(millis(book.now()))
        isolated = held is not None and held.mode is Mode.ISOLATED
        return {
            "positionIdx": PLACES[leg],
            "riskId": 1,
            "riskLimitValue": plain(listing.tiers[0].limit),
            "symbol": listing.symbol,
            "side": "" if held is None else "Buy" if held.quantity > 0 else "Sell",
            "size": "0" if held is None else plain(abs(held.quantity)),
            "avgPrice": "0" if held is None else plain(held.entry),
            "positionValue": "" if held is None else plain(listing.value(held.quantity, held.entry)),
            "tradeMode": 0,
            "positionStatus": "Normal",
            "autoAddMargin": 0,
            "adlRankIndicator": 0 if held is None else 2,
            "leverage": plain(book.leverage_of(listing.symbol, leg) if held is None else held.leverage),
            "positionBalance": plain(held.margin) if held is not None and isolated else "0",
            "markPrice": plain(book.mark(listing.symbol)),
            "liqPrice": "" if held is None else plain(book.liquidation_price(held)),
            "bustPrice": "",
            "positionIM": "0" if held is None else plain(book.initial_margin(held)),
            "positionMM": "0" if held is None else plain(book.maintenance_margin(held)),
            "takeProfit": "",
            "stopLoss": "",
            "trailingStop": "0",
            "unrealisedPnl": "" if held is None else plain(book.profit(held)),
            "curRealisedPnl": "0" if held is None else plain(held.realized),
            "cumRealisedPnl": "0",
            "createdTime": now if held is None else str(millis(held.opened_at)),
            "updatedTime": now if held is None else str(millis(held.updated_at)),
            "tpslMode": "Full",
            "isReduceOnly": False,
            "seq": 1,
        }

    @answers("POST", "/v5/position/set-leverage", private=True)
    def set_leverage(self, asked: Asked) -> Any:
        symbol, book = self.listing_of(asked).symbol, self.book
        buy, sell = asked.decimal("buyLeverage"), asked.decimal("sellLeverage")
        wanted = {Leg.LONG: buy, Leg.SHORT: sell} if book.hedged(symbol) else {Leg.NET: buy}
        if buy != sell and not book.hedged(symbol):
            raise Refused(Why.BAD_VALUE, "buy leverage is not equal to sell leverage")
        if all(book.leverage_of(symbol, leg) == leverage for leg, leverage in wanted.items()):
            raise Refused(Why.LEVERAGE_SAME)
        for leg, leverage in wanted.items():
            book.set_leverage(symbol, leverage, leg)
        return self.said({})

    @answers("POST", "/v5/position/switch-mode", private=True)
    def switch_mode(self, asked: Asked) -> Any:
        if asked["category"] != "linear":
            raise Refused(Why.BAD_VALUE, "category")
        self.book.set_hedge(int(asked["mode"]) == 3)
        return self.said({})

    @answers("POST", "/v5/position/add-margin", private=True)
    def add_margin(self, asked: Asked) -> Any:
        listing, leg = self.listing_of(asked), LEGS[str(asked.get("positionIdx", 0))]
        self.book.adjust_margin(listing.symbol, leg, asked.decimal("margin"))
        return self.said(self.position(listing, leg) | {"category": asked["category"]})

    # Orders.

    @answers("POST", "/v5/order/create", private=True)
    def create_order(self, asked: Asked) -> Any:
        listing = self.listing_of(asked)
        leg = LEGS.get(str(asked.get("positionIdx", 0)))
        if leg is None or asked["side"] not in ("Buy", "Sell") or asked["orderType"] not in ("Market", "Limit"):
            raise Refused(Why.BAD_VALUE, "order")
        order = self.book.place(
            listing.symbol,
            asked["side"] == "Buy",
            asked.decimal("qty"),
            price=asked.decimal("price") if asked["orderType"] == "Limit" else None,
            leg=leg,
            reduce_only=asked.get("reduceOnly") is True,
            client_order_id=asked.get("orderLinkId", ""),
        )
        return self.said({"orderId": order.order_id, "orderLinkId": order.client_order_id})

    @answers("GET", "/v5/order/history", private=True)
    def order_history(self, asked: Asked) -> Any:
        return self.told_orders(asked, [o for o in self.orders_of(asked) if o.status is not Status.OPEN])

    @answers("GET", "/v5/order/realtime", private=True)
    def orders(self, asked: Asked) -> Any:
        """Open orders, and by an id also those that were closed lately."""
        by_id = bool({"orderId", "orderLinkId"} & set(asked.params))
        return self.told_orders(asked, [o for o in self.orders_of(asked) if by_id or o.status is Status.OPEN])

    def orders_of(self, asked: Asked) -> list[Order]:
        symbols = {listing.symbol for listing in self.listings_of(asked)}
        return [
            order
            for order in reversed(self.book.orders.values())
            if order.symbol in symbols
            and asked.get("orderId") in (None, "", order.order_id)
            and asked.get("orderLinkId") in (None, "", order.client_order_id)
        ]

    def told_orders(self, asked: Asked, orders: list[Order]) -> Any:
        rows = [self.order(order) for order in orders]
        return self.said({"category": asked["category"], "list": rows, "nextPageCursor": ""})

    def order(self, order: Order) -> dict[str, Any]:
        listing = self.book.listing(order.symbol)
        status = {Status.OPEN: "PartiallyFilled" if order.filled else "New", Status.FILLED: "Filled"}
        if order.status is Status.CANCELLED and order.filled:
            status[Status.CANCELLED] = "PartiallyFilledCanceled"
        return {
            "category": listing.kind.value,
            "symbol": wire(listing),
            "orderId": order.order_id,
            "orderLinkId": order.client_order_id,
            "orderType": "Market" if order.price is None else "Limit",
            "timeInForce": "IOC" if order.price is None else "GTC",
            "orderStatus": status.get(order.status, "Cancelled"),
            "createType": "CreateByLiq" if order.liquidation else "CreateByUser",
            "side": "Buy" if order.buy else "Sell",
            "positionIdx": PLACES[order.leg],
            "qty": plain(order.quantity),
            "price": plain(order.price or ZERO),
            "avgPrice": plain(order.average),
            "leavesQty": plain(order.left if order.status is Status.OPEN else ZERO),
            "cumExecQty": plain(order.filled),
            "cumExecValue": plain(listing.value(order.filled, order.average) if order.average else ZERO),
            "cumExecFee": plain(order.fee),
            "cumFeeDetail": {listing.settle: plain(order.fee)} if order.fee else {},
            "reduceOnly": order.reduce_only,
            "closeOnTrigger": False,
            "triggerPrice": "",
            "takeProfit": "",
            "stopLoss": "",
            "rejectReason": "EC_NoError",
            "cancelType": "UNKNOWN",
            "createdTime": str(millis(order.created_at)),
            "updatedTime": str(millis(order.updated_at)),
            **({} if listing.kind is Kind.SPOT else {"tpslMode": ""}),
            **({"marketUnit": "baseCoin"} if listing.kind is Kind.SPOT else {}),
        }

    @answers("POST", "/v5/order/cancel", private=True)
    def cancel(self, asked: Asked) -> Any:
        self.listing_of(asked)
        order = self.book.order(asked.get("orderId", ""), asked.get("orderLinkId", ""))
        self.book.cancel(order)
        return self.said({"orderId": order.order_id, "orderLinkId": order.client_order_id})

    @answers("POST", "/v5/order/cancel-all", private=True)
    def cancel_all(self, asked: Asked) -> Any:
        cancelled = [order for listing in self.listings_of(asked) for order in self.book.cancel_all(listing.symbol)]
        return self.said(
            {"list": [{"orderId": o.order_id, "orderLinkId": o.client_order_id} for o in cancelled], "success": "1"}
        )

    @answers("GET", "/v5/execution/list", private=True)
    def executions(self, asked: Asked) -> Any:
        symbols = {listing.symbol for listing in self.listings_of(asked)}
        rows = [
            self.execution(trade)
            for trade in reversed(self.book.trades)
            if trade.symbol in symbols
            and asked.get("orderId") in (None, trade.order_id)
            and asked.get("orderLinkId") in (None, trade.client_order_id)
            and millis(trade.at) >= int(asked.get("startTime", 0))
        ]
        wanted = asked.get("execType")
        rows = [row for row in rows if wanted in (None, row["execType"])]
        return self.said({"category": asked["category"], "list": rows, "nextPageCursor": ""})

    def execution(self, trade: Trade) -> dict[str, Any]:
        listing, order = self.book.listing(trade.symbol), self.book.orders[trade.order_id]
        return {
            "category": listing.kind.value,
            "symbol": wire(listing),
            "execId": trade.trade_id,
            "orderId": trade.order_id,
            "orderLinkId": trade.client_order_id,
            "side": "Buy" if trade.buy else "Sell",
            "orderType": "Market" if order.price is None else "Limit",
            "orderQty": plain(order.quantity),
            "leavesQty": plain(order.left),
            "execType": "BustTrade" if order.liquidation else "Trade",
            "execQty": plain(trade.quantity),
            "execPrice": plain(trade.price),
            "execValue": plain(listing.value(trade.quantity, trade.price)),
            "execFee": plain(trade.fee),
            "feeCurrency": trade.fee_asset,
            "feeRate": plain(self.book.fee_rate),
            "closedSize": plain(trade.closed),
            "execPnl": plain(trade.profit),
            "isMaker": False,
            "markPrice": plain(self.book.mark(trade.symbol)),
            "execTime": str(millis(trade.at)),
        }

    # Websockets.

    def heard(self, socket: Socket, message: Any) -> None:
        operation, about = message.get("op"), {"req_id": message.get("req_id", ""), "conn_id": "simulated"}
        arguments: list[Any] = message.get("args", [])
        if operation == "ping":
            socket.send({"success": True, "ret_msg": "pong", "op": "ping", **about})
        elif operation == "auth":
            key, expires, signature = arguments
            good = hmac.new(self.secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
            socket.authenticated = key == self.key and signature == good
            words = "" if socket.authenticated else "Request not authorized"
            socket.send({"success": socket.authenticated, "ret_msg": words, "op": "auth", **about})
        elif operation == "subscribe":
            allowed = socket.authenticated or not socket.path.endswith("/private")
            words = "" if allowed else "Request not authorized"
            socket.send({"success": allowed, "ret_msg": words, "op": "subscribe", **about})
            for topic in arguments if allowed else ():
                socket.topics[topic] = True
                if topic.startswith("tickers."):
                    self.tell_ticker(socket, topic)
        elif operation == "unsubscribe":
            for topic in arguments:
                socket.topics.pop(topic, None)
            socket.send({"success": True, "ret_msg": "", "op": "unsubscribe", **about})

    def tell_ticker(self, socket: Socket, topic: str, changes: tuple[str, ...] = ()) -> None:
        """A whole ticker, or what changed of it."""
        symbol = named(socket.path.rpartition("/")[2], topic.partition(".")[2])
        if symbol not in self.book.listings:
            socket.send({"success": False, "ret_msg": f"error:handler not found,topic:{topic}", "op": "subscribe"})
            return
        row = self.ticker(self.book.listing(symbol))
        delta = bool(changes) and not symbol.endswith(SPOT)
        told = {name: value for name, value in row.items() if not delta or name in changes}
        now = millis(self.book.now())
        socket.send({"topic": topic, "type": "delta" if delta else "snapshot", "data": told, "cs": 1, "ts": now})

    def changed(self, what: str, subject: str) -> None:
        book = self.book
        if what == "mark":
            topic = f"tickers.{subject.removesuffix(SPOT)}"
            for socket in self.sockets:
                if topic in socket.topics and socket.path.endswith(book.listing(subject).kind.value):
                    self.tell_ticker(socket, topic, ("symbol", "markPrice", "lastPrice", "indexPrice"))
        elif what in ("position", "leverage"):
            listing = book.listing(subject)
            self.push("position", [self.position(listing, leg) for leg in book.legs(subject) if listing.tiers])
        elif what == "balance":
            self.push("wallet", [self.account()])
        elif what == "order":
            self.push("order", [self.order(book.orders[subject])])
        elif what == "trade":
            self.push("execution", [self.execution(book.trades[-1])])

    def push(self, topic: str, rows: list[dict[str, Any]]) -> None:
        now = millis(self.book.now())
        self.publish(topic, {"id": str(next(self.book.numbers)), "topic": topic, "creationTime": now, "data": rows})
