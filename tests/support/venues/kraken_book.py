"""Kraken's pairs and its margin account: what a simulated Kraken knows beyond any venue."""

from decimal import Decimal

from tests.support.venues.book import Book
from tests.support.venues.records import ZERO, Kind, Listing, Order, Position, Tier

D = Decimal

ASSETS = {"BTC": ("XXBT", "XBT"), "ETH": ("XETH", "ETH"), "SOL": ("SOL", "SOL"), "USD": ("ZUSD", "USD")}
"""Kraken's own name of an asset, and the one it shows; others are spelled as everywhere."""

LEVERAGES = (2, 3, 4, 5)
LIQUIDATION_LEVEL = D("0.4")
"""It liquidates where equity is 40 % of the margin in use."""


def pair(base: str, tick: str, smallest: str) -> Listing:
    """A pair against the dollar that may be traded on margin up to 5."""
    own = ASSETS[base][0]
    symbol = f"{own}ZUSD" if own != base else f"{base}USD"
    tier = Tier(D("1e12"), D(LEVERAGES[-1]), LIQUIDATION_LEVEL / LEVERAGES[-1])
    return Listing(symbol, base, "USD", "USD", Kind.SPOT, D(tick), D("0.00000001"), (tier,), smallest=D(smallest))


PAIRS = (pair("BTC", "0.1", "0.00005"), pair("ETH", "0.01", "0.001"), pair("SOL", "0.01", "0.02"))
MARKS = {"XXBTZUSD": "50000", "XETHZUSD": "2500", "SOLUSD": "150"}


class KrakenBook(Book):
    """Margin is taken at the price of opening and stays; positions remember what was closed of them."""

    def __init__(self, marks: dict[str, Decimal]) -> None:
        super().__init__(PAIRS, marks)
        self.closed: dict[str, Decimal] = {}
        self.ids_once = False

    def initial_margin(self, position: Position) -> Decimal:
        return position.margin

    def maintenance_margin(self, position: Position) -> Decimal:
        return position.margin * LIQUIDATION_LEVEL

    def move(self, order: Order, listing: Listing, signed: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
        before = self.positions.get((order.symbol, order.leg))
        closed, won = super().move(order, listing, signed, price)
        after = self.positions.get((order.symbol, order.leg))
        same = before is not None and after is before
        self.closed[order.symbol] = self.closed.get(order.symbol, ZERO) + closed if same else ZERO
        return closed, won


def altname(listing: Listing) -> str:
    return f"{ASSETS[listing.base][1]}{ASSETS[listing.quote][1]}"
