"""The margin wallet of Binance: what is borrowed there, what it costs, and how it is paid back."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tests.support.venues.book import Book
from tests.support.venues.records import ZERO, Listing, Refused, Why
from tests.support.venues.venue import Asked, VenueSimulator, answers, millis, plain


class MarginWallet(VenueSimulator):
    """`margin` is a book of its own beside that of the futures account, at the same marks."""

    def __init__(self, listings: Iterable[Listing], marks: Mapping[str, str]) -> None:
        super().__init__(listings, marks)
        self.margin = Book(self.book.listings.values(), self.book.marks)
        self.margin.hourly_rates = {
            "USDT": Decimal("0.0000057"),
            "BTC": Decimal("0.0000005"),
            "ETH": Decimal("0.000001"),
        }
        self.margin.borrow_limits = {"USDT": Decimal(500_000), "BTC": Decimal(10), "ETH": Decimal(150)}

    def set_mark(self, symbol: str, price: Decimal | str) -> None:
        super().set_mark(symbol, price)
        self.margin.marks[symbol] = Decimal(price)

    @answers("GET", "/sapi/v1/capital/config/getall", private=True)
    @answers("GET", "/sapi/v1/margin/allPairs", private=True)
    @answers("GET", "/sapi/v1/margin/isolated/allPairs", private=True)
    def nothing(self, asked: Asked) -> Any:
        return []

    @answers("GET", "/sapi/v1/margin/account", private=True)
    def margin_account(self, asked: Asked) -> Any:
        book = self.margin
        assets = [asset for asset in book.assets() if book.balances.get(asset) or book.owed(asset)]
        owed = sum((book.owed(asset) * book.dollars(asset) for asset in assets), ZERO)
        owned = sum((book.balances.get(asset, ZERO) * book.dollars(asset) for asset in assets), ZERO)
        bitcoin = book.dollars("BTC")
        rows = [
            {
                "asset": asset,
                "free": plain(book.balances.get(asset, ZERO)),
                "locked": "0",
                "borrowed": plain(book.debts.get(asset, ZERO)),
                "interest": plain(book.interest.get(asset, ZERO)),
                "netAsset": plain(book.equity_of(asset)),
            }
            for asset in assets
        ]
        return {
            "borrowEnabled": True,
            "tradeEnabled": True,
            "transferInEnabled": True,
            "transferOutEnabled": True,
            "accountType": "MARGIN_1",
            "marginLevel": plain(min(Decimal(999), owned / owed if owed else Decimal(999)).quantize(Decimal("1e-8"))),
            "totalAssetOfBtc": plain((owned / bitcoin).quantize(Decimal("1e-8"))),
            "totalLiabilityOfBtc": plain((owed / bitcoin).quantize(Decimal("1e-8"))),
            "totalNetAssetOfBtc": plain(((owned - owed) / bitcoin).quantize(Decimal("1e-8"))),
            "userAssets": rows,
        }

    @answers("POST", "/sapi/v1/margin/borrow-repay", private=True)
    def borrow_or_repay(self, asked: Asked) -> Any:
        if asked["isIsolated"] != "FALSE" or asked["type"] not in ("BORROW", "REPAY"):
            raise Refused(Why.BAD_VALUE)
        asset, amount = asked["asset"], asked.decimal("amount")
        if asked["type"] == "BORROW":
            self.margin.borrow(asset, amount)
        elif amount > self.margin.owed(asset):
            raise Refused(Why.NO_DEBT)
        else:
            self.margin.repay(asset, amount)
        return {"tranId": next(self.book.numbers)}

    @answers("GET", "/sapi/v1/margin/interestHistory", private=True)
    def interest_history(self, asked: Asked) -> Any:
        rows = [
            {
                "txId": count,
                "interestAccuredTime": millis(paid.at),
                "asset": paid.asset,
                "principal": plain(paid.principal),
                "interest": plain(paid.amount),
                "interestRate": plain(paid.rate * 24),
                "type": "PERIODIC",
            }
            for count, paid in enumerate(self.margin.interest_paid, 1)
            if asked.get("asset") in (None, paid.asset)
        ]
        return {"rows": rows[::-1], "total": len(rows)}

    @answers("GET", "/sapi/v1/margin/interestRateHistory", private=True)
    def interest_rates(self, asked: Asked) -> Any:
        asset = asked["asset"]
        if asset not in self.margin.hourly_rates:
            raise Refused(Why.BAD_VALUE)
        rate = plain(self.margin.hourly_rates[asset] * 24)
        return [{"asset": asset, "dailyInterestRate": rate, "timestamp": millis(self.book.now()), "vipLevel": 0}]

    @answers("GET", "/sapi/v1/margin/maxBorrowable", private=True)
    def most_borrowable(self, asked: Asked) -> Any:
        limit = self.margin.borrow_limits.get(asked["asset"], ZERO)
        return {"amount": plain(limit - self.margin.debts.get(asked["asset"], ZERO)), "borrowLimit": plain(limit)}
