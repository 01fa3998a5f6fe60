"""What OKX lists, and the words of its refusals."""

from decimal import Decimal
from typing import Any

from tests.support.venues.records import Kind, Listing, Tier, Why
from tests.support.venues.venue import plain


def steps(*rows: tuple[str, str, str]) -> tuple[Tier, ...]:
    """Tiers in contracts; the rate of a tier counts for the whole position."""
    return tuple(Tier(Decimal(limit), Decimal(leverage), Decimal(rate)) for limit, leverage, rate in rows)


LARGE = steps(
    ("100000", "100", "0.004"),
    ("200000", "66.66", "0.006"),
    ("500000", "50", "0.01"),
    ("1000000", "25", "0.025"),
    ("5000000", "10", "0.07"),
    ("20000000", "5", "0.15"),
)
SMALL = steps(
    ("10000", "50", "0.01"),
    ("50000", "33.33", "0.015"),
    ("200000", "20", "0.03"),
    ("1000000", "10", "0.06"),
    ("5000000", "5", "0.12"),
)
IN_BITCOIN = steps(("40000", "100", "0.004"), ("80000", "66.66", "0.006"), ("200000", "25", "0.02"))


def swap(base: str, contract: str, tick: str, tiers: tuple[Tier, ...]) -> Listing:
    lot = Decimal("0.01")
    return Listing(
        f"{base}-USDT-SWAP",
        base,
        "USDT",
        "USDT",
        Kind.LINEAR,
        Decimal(tick),
        lot,
        tiers,
        Decimal(contract),
        lot,
        tiers_in_contracts=True,
    )


def pair(base: str, tick: str, lot: str, smallest: str) -> Listing:
    return Listing(
        f"{base}-USDT",
        base,
        "USDT",
        "USDT",
        Kind.SPOT,
        Decimal(tick),
        Decimal(lot),
        (),
        smallest=Decimal(smallest),
    )


LISTINGS = (
    swap("BTC", "0.01", "0.1", LARGE),
    swap("ETH", "0.1", "0.01", LARGE),
    swap("SOL", "1", "0.01", SMALL),
    Listing(
        "BTC-USD-SWAP",
        "BTC",
        "USD",
        "BTC",
        Kind.INVERSE,
        Decimal("0.1"),
        Decimal(1),
        IN_BITCOIN,
        Decimal(100),
        Decimal(1),
        tiers_in_contracts=True,
    ),
    pair("BTC", "0.1", "0.00000001", "0.00001"),
    pair("ETH", "0.01", "0.000001", "0.0001"),
    pair("SOL", "0.01", "0.000001", "0.001"),
)
MARKS = {
    "BTC-USDT-SWAP": "60000",
    "ETH-USDT-SWAP": "3000",
    "SOL-USDT-SWAP": "150",
    "BTC-USD-SWAP": "60000",
    "BTC-USDT": "60000",
    "ETH-USDT": "3000",
    "SOL-USDT": "150",
}

CODES: dict[Why, tuple[str, str]] = {
    Why.UNKNOWN_SYMBOL: ("51001", "Instrument ID does not exist"),
    Why.BAD_VALUE: ("51000", "Parameter error"),
    Why.LEVERAGE_TOO_HIGH: ("59102", "Leverage exceeds the maximum limit. Please lower the leverage."),
    Why.LEVERAGE_STEP: ("51000", "Parameter lever error"),
    Why.LEVERAGE_HELD: ("59101", "Leverage can't be modified. Please cancel all pending isolated margin orders first."),
    Why.HEDGE_HELD: ("59000", "Setting failed. Cancel any open orders or close any open positions first."),
    Why.MODE_HELD: ("51000", "Parameter tdMode error"),
    Why.NOT_ISOLATED: ("59300", "Margin call failed. Position does not exist"),
    Why.NO_POSITION: ("51023", "Position doesn't exist."),
    Why.REDUCE_ONLY: ("51169", "Order failed because you don't have any positions in this direction to reduce"),
    Why.WRONG_LEG: ("51000", "Parameter posSide error"),
    Why.DUPLICATE_ID: ("51016", "Duplicated client order ID"),
    Why.UNKNOWN_ORDER: ("51603", "Order does not exist"),
    Why.NOT_ENOUGH: ("51008", "Order failed. Insufficient margin in account"),
    Why.QUANTITY: ("51121", "Order quantity must be a multiple of the lot size."),
    Why.QUANTITY_SMALL: ("51020", "Your order should meet or exceed the minimum order amount."),
    Why.PRICE: ("51000", "Parameter px error"),
    Why.BORROW_LIMIT: ("59410", "You can only borrow this crypto if it supports borrowing and borrowing is enabled."),
    Why.NO_DEBT: ("59313", "Unable to repay. You haven't borrowed any."),
    Why.NO_KEY: ("50111", "Invalid OK-ACCESS-KEY"),
    Why.NO_SIGNATURE: ("50113", "Invalid Sign"),
    Why.NO_PERMISSION: ("50120", "This API key doesn't have permission to use this function"),
    Why.CLOCK: ("50102", "Timestamp request expired"),
}
FAMILIES = {Kind.SPOT: "SPOT", Kind.LINEAR: "SWAP", Kind.INVERSE: "SWAP"}


def family(listing: Listing) -> str:
    return f"{listing.base}-{listing.quote}"


def instrument(listing: Listing) -> dict[str, Any]:
    spot = listing.kind is Kind.SPOT
    return {
        "instType": FAMILIES[listing.kind],
        "instId": listing.symbol,
        "instFamily": "" if spot else family(listing),
        "uly": "" if spot else family(listing),
        "baseCcy": listing.base if spot else "",
        "quoteCcy": listing.quote if spot else "",
        "settleCcy": "" if spot else listing.settle,
        "ctVal": "" if spot else plain(listing.contract_size),
        "ctMult": "" if spot else "1",
        "ctValCcy": "" if spot else listing.quote if listing.kind is Kind.INVERSE else listing.base,
        "ctType": "" if spot else listing.kind.value,
        "lever": "10" if spot else plain(listing.tiers[0].leverage_max),
        "tickSz": plain(listing.tick),
        "lotSz": plain(listing.lot),
        "minSz": plain(listing.smallest),
        "maxLmtSz": "100000000",
        "maxMktSz": "12000" if not spot else "1000000",
        "listTime": "1611916828000",
        "expTime": "",
        "optType": "",
        "stk": "",
        "alias": "",
        "category": "1",
        "state": "live",
    }
