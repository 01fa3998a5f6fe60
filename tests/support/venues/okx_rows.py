"""How OKX writes an account, a position, an order, a fill and a price."""

from typing import Any

from tests.support.venues.okx_listings import FAMILIES
from tests.support.venues.records import ZERO, Kind, Leg, Listing, Mode, Order, Position, Status, Trade
from tests.support.venues.venue import VenueSimulator, millis, plain


class OkxRows(VenueSimulator):
    """The rows of answers and pushes, from the book."""

    def marked(self, listing: Listing) -> dict[str, Any]:
        kind = "MARGIN" if listing.kind is Kind.SPOT else "SWAP"
        mark, now = plain(self.book.mark(listing.symbol)), str(millis(self.book.now()))
        return {"instType": kind, "instId": listing.symbol, "markPx": mark, "ts": now}

    def ticker(self, listing: Listing) -> dict[str, Any]:
        mark = self.book.mark(listing.symbol)
        prices = dict.fromkeys(("last", "open24h", "high24h", "low24h", "sodUtc0", "sodUtc8"), plain(mark))
        return {
            "instType": FAMILIES[listing.kind],
            "instId": listing.symbol,
            **prices,
            "lastSz": "1",
            "askPx": plain(mark + listing.tick),
            "askSz": "100",
            "bidPx": plain(mark - listing.tick),
            "bidSz": "100",
            "volCcy24h": "1000",
            "vol24h": "100000",
            "ts": str(millis(self.book.now())),
        }

    def account(self) -> dict[str, Any]:
        book, health, now = self.book, self.book.health(), str(millis(self.book.now()))
        notional = sum(
            (
                book.listing(p.symbol).value(p.quantity, book.mark(p.symbol)) * book.dollars(self.settle(p))
                for p in book.held()
            ),
            ZERO,
        )
        ratio = plain(health.equity / health.maintenance_margin) if health.maintenance_margin else ""
        return {
            "totalEq": plain(health.equity),
            "adjEq": plain(health.equity),
            "imr": plain(health.initial_margin),
            "mmr": plain(health.maintenance_margin),
            "mgnRatio": ratio,
            "notionalUsd": plain(notional),
            "ordFroz": "0",
            "isoEq": plain(sum((p.margin + book.profit(p) for p in book.held() if p.mode is Mode.ISOLATED), ZERO)),
            "upl": plain(sum((book.profit(p) * book.dollars(self.settle(p)) for p in book.held()), ZERO)),
            "uTime": now,
            "details": [self.detail(asset, now) for asset in book.assets()],
        }

    def detail(self, asset: str, now: str) -> dict[str, Any]:
        book = self.book
        held = [position for position in book.held() if self.settle(position) == asset]
        used = sum((book.initial_margin(position) for position in held), ZERO)
        used += sum((book.order_margin(o) for o in book.open_orders() if book.listing(o.symbol).settle == asset), ZERO)
        equity = book.equity_of(asset)
        return {
            "ccy": asset,
            "eq": plain(equity),
            "eqUsd": plain(equity * book.dollars(asset)),
            "disEq": plain(equity * book.dollars(asset)),
            "cashBal": plain(book.balances.get(asset, ZERO)),
            "availBal": plain(max(ZERO, equity - used)),
            "availEq": plain(max(ZERO, equity - used)),
            "frozenBal": plain(used),
            "ordFrozen": "0",
            "upl": plain(sum((book.profit(position) for position in held), ZERO)),
            "liab": plain(book.debts.get(asset, ZERO)),
            "crossLiab": plain(book.debts.get(asset, ZERO)),
            "isoLiab": "0",
            "interest": plain(book.interest.get(asset, ZERO)),
            "uplLiab": "0",
            "isoEq": plain(sum((p.margin + book.profit(p) for p in held if p.mode is Mode.ISOLATED), ZERO)),
            "maxLoan": plain(book.borrow_limits.get(asset, ZERO) - book.debts.get(asset, ZERO)),
            "mgnRatio": "",
            "twap": "0",
            "uTime": now,
        }

    def settle(self, position: Position) -> str:
        return self.book.listing(position.symbol).settle

    def position(self, position: Position) -> dict[str, Any]:
        book, listing, mark = self.book, self.book.listing(position.symbol), self.book.mark(position.symbol)
        isolated, hedged = position.mode is Mode.ISOLATED, position.leg is not Leg.NET
        held = abs(position.quantity) if hedged else position.quantity
        value, maintenance = listing.value(position.quantity, mark), book.maintenance_margin(position)
        behind = position.margin + book.profit(position) if isolated else book.equity_of(listing.settle)
        return {
            "instType": FAMILIES[listing.kind],
            "instId": position.symbol,
            "mgnMode": position.mode.value,
            "posId": str(millis(position.opened_at)),
            "posSide": position.leg.value,
            "pos": plain(held),
            "availPos": plain(held) if hedged else "",
            "posCcy": "",
            "ccy": listing.settle,
            "avgPx": plain(position.entry),
            "markPx": plain(mark),
            "last": plain(mark),
            "lever": plain(position.leverage),
            "liqPx": plain(book.liquidation_price(position)),
            "upl": plain(book.profit(position)),
            "uplRatio": plain(book.profit(position) / (listing.value(held, position.entry) / position.leverage)),
            "imr": "" if isolated else plain(value / position.leverage),
            "mmr": plain(maintenance),
            "margin": plain(position.margin) if isolated else "",
            "mgnRatio": plain(behind / maintenance) if maintenance else "",
            "notionalUsd": plain(listing.notional(position.quantity, mark)),
            "realizedPnl": plain(position.realized),
            "liab": "",
            "interest": "",
            "adl": "2",
            "cTime": str(millis(position.opened_at)),
            "uTime": str(millis(position.updated_at)),
        }

    def flat(self, symbol: str, leg: Leg) -> dict[str, Any]:
        """How a position that was closed is pushed."""
        now = str(millis(self.book.now()))
        about = {"instType": "SWAP", "instId": symbol, "mgnMode": self.book.mode_of(symbol).value, "posSide": leg.value}
        empty = dict.fromkeys(("avgPx", "upl", "imr", "mmr", "margin", "liqPx", "lever", "notionalUsd", "mgnRatio"), "")
        return about | empty | {"pos": "0", "markPx": plain(self.book.mark(symbol)), "cTime": now, "uTime": now}

    def order(self, order: Order) -> dict[str, Any]:
        listing = self.book.listing(order.symbol)
        states = {Status.OPEN: "partially_filled" if order.filled else "live", Status.FILLED: "filled"}
        last = next((trade for trade in reversed(self.book.trades) if trade.order_id == order.order_id), None)
        fill = {} if last is None else {"fillPx": plain(last.price), "fillSz": plain(last.quantity)}
        about = {} if last is None else {"tradeId": last.trade_id, "fillTime": str(millis(last.at))}
        return {
            "instType": FAMILIES[listing.kind],
            "instId": order.symbol,
            "ordId": order.order_id,
            "clOrdId": order.client_order_id,
            "tag": "",
            "px": plain(order.price),
            "sz": plain(order.quantity),
            "ordType": "market" if order.price is None else "limit",
            "side": "buy" if order.buy else "sell",
            "posSide": order.leg.value,
            "tdMode": "cash" if listing.kind is Kind.SPOT else self.book.mode_of(order.symbol).value,
            "accFillSz": plain(order.filled),
            "avgPx": plain(order.average),
            "state": states.get(order.status, "canceled"),
            "lever": plain(self.book.leverage_of(order.symbol, order.leg)),
            "reduceOnly": "true" if order.reduce_only else "false",
            "category": "full_liquidation" if order.liquidation else "normal",
            "fee": plain(-order.fee),
            "feeCcy": listing.settle,
            "pnl": plain(sum((t.profit for t in self.book.trades if t.order_id == order.order_id), ZERO)),
            "ccy": "",
            "tgtCcy": "base_ccy" if listing.kind is Kind.SPOT else "",
            "cTime": str(millis(order.created_at)),
            "uTime": str(millis(order.updated_at)),
            "fillPx": "",
            "fillSz": "0",
            "fillTime": "",
            "tradeId": "",
            **fill,
            **about,
        }

    def fill(self, trade: Trade) -> dict[str, Any]:
        return {
            "instType": FAMILIES[self.book.listing(trade.symbol).kind],
            "instId": trade.symbol,
            "tradeId": trade.trade_id,
            "ordId": trade.order_id,
            "clOrdId": trade.client_order_id,
            "billId": trade.trade_id,
            "tag": "",
            "fillPx": plain(trade.price),
            "fillSz": plain(trade.quantity),
            "fillPnl": plain(trade.profit),
            "side": "buy" if trade.buy else "sell",
            "posSide": trade.leg.value,
            "execType": "T",
            "fee": plain(-trade.fee),
            "feeCcy": trade.fee_asset,
            "ts": str(millis(trade.at)),
            "fillTime": str(millis(trade.at)),
        }
