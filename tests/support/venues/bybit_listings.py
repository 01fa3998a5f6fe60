"""What Bybit lists, and the words of its refusals."""

from decimal import Decimal
from typing import Any

from tests.support.venues.records import Kind, Listing, Tier, Why, stepped
from tests.support.venues.venue import plain

SPOT = ":spot"
"""Ends our names of spot pairs, which the venue calls as it calls the perpetual."""

LARGE = stepped(
    ("2000000", "100", "0.005"),
    ("10000000", "50", "0.01"),
    ("20000000", "33.33", "0.015"),
    ("40000000", "20", "0.025"),
    ("80000000", "10", "0.05"),
    ("160000000", "5", "0.1"),
)
SMALL = stepped(
    ("200000", "75", "0.0067"),
    ("1000000", "50", "0.01"),
    ("3000000", "25", "0.02"),
    ("6000000", "12.5", "0.04"),
    ("12000000", "5", "0.1"),
)
IN_BITCOIN = stepped(("9000000", "100", "0.005"), ("18000000", "50", "0.01"), ("36000000", "25", "0.02"))


def perpetual(base: str, tick: str, lot: str, tiers: tuple[Tier, ...]) -> Listing:
    return Listing(
        f"{base}USDT", base, "USDT", "USDT", Kind.LINEAR, Decimal(tick), Decimal(lot), tiers, smallest=Decimal(lot)
    )


def pair(base: str, tick: str, lot: str) -> Listing:
    return Listing(
        f"{base}USDT{SPOT}", base, "USDT", "USDT", Kind.SPOT, Decimal(tick), Decimal(lot), (), smallest=Decimal(lot)
    )


LISTINGS = (
    perpetual("BTC", "0.1", "0.001", LARGE),
    perpetual("ETH", "0.01", "0.01", LARGE),
    perpetual("SOL", "0.01", "0.1", SMALL),
    Listing("BTCUSD", "BTC", "USD", "BTC", Kind.INVERSE, Decimal("0.5"), Decimal(1), IN_BITCOIN, smallest=Decimal(1)),
    pair("BTC", "0.01", "0.000001"),
    pair("ETH", "0.01", "0.00001"),
    pair("SOL", "0.01", "0.001"),
)
MARKS = {
    "BTCUSDT": "60000",
    "ETHUSDT": "3000",
    "SOLUSDT": "150",
    "BTCUSD": "60000",
    "BTCUSDT:spot": "60000",
    "ETHUSDT:spot": "3000",
    "SOLUSDT:spot": "150",
}

CODES: dict[Why, tuple[int, str]] = {
    Why.UNKNOWN_SYMBOL: (10001, "params error: symbol invalid"),
    Why.BAD_VALUE: (10001, "params error"),
    Why.LEVERAGE_SAME: (110043, "leverage not modified"),
    Why.LEVERAGE_TOO_HIGH: (110013, "cannot set leverage gt maxLeverage by risk limit"),
    Why.LEVERAGE_STEP: (10001, "leverage invalid"),
    Why.MODE_SAME: (110026, "Cross/isolated margin mode is not modified"),
    Why.MODE_HELD: (3400045, "Set margin mode failed"),
    Why.HEDGE_SAME: (110025, "Position mode is not modified"),
    Why.HEDGE_HELD: (110024, "You have an existing position, so position mode cannot be switched"),
    Why.NOT_ISOLATED: (110036, "You are not in isolated margin mode"),
    Why.NO_POSITION: (10001, "position does not exist"),
    Why.REDUCE_ONLY: (110017, "current position is zero, cannot fix reduce-only order qty"),
    Why.WRONG_LEG: (10001, "position idx not match position mode"),
    Why.DUPLICATE_ID: (110072, "OrderLinkedID is duplicate"),
    Why.UNKNOWN_ORDER: (110001, "order not exists or too late to cancel"),
    Why.NOT_ENOUGH: (110007, "ab not enough for new order"),
    Why.QUANTITY: (10001, "Qty invalid"),
    Why.QUANTITY_SMALL: (10001, "The number of contracts exceeds minimum limit allowed"),
    Why.PRICE: (10001, "price invalid"),
    Why.BORROW_LIMIT: (176029, "Amount to borrow has exceeded the user's estimated max. amount to borrow"),
    Why.NO_DEBT: (176016, "No repayment required"),
    Why.NO_KEY: (10003, "API key is invalid."),
    Why.NO_SIGNATURE: (10004, "error sign! please check your signature generation algorithm."),
    Why.NO_PERMISSION: (10005, "Permission denied, please check your API key permissions."),
    Why.CLOCK: (10002, "invalid request, please check your server timestamp or recv_window param."),
}


def wire(listing: Listing) -> str:
    """The venue's name of an instrument."""
    return listing.symbol.removesuffix(SPOT)


def named(category: str, symbol: str) -> str:
    """Our name of an instrument."""
    return symbol + SPOT if category == "spot" else symbol


def instrument(listing: Listing) -> dict[str, Any]:
    shared = {
        "symbol": wire(listing),
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "status": "Trading",
        "priceFilter": {"minPrice": plain(listing.tick), "maxPrice": "1999999.8", "tickSize": plain(listing.tick)},
    }
    if listing.kind is Kind.SPOT:
        lots = {
            "basePrecision": plain(listing.lot),
            "quotePrecision": "0.00000001",
            "minOrderQty": plain(listing.smallest),
            "maxOrderQty": "1000",
            "minOrderAmt": "5",
            "maxOrderAmt": "8000000",
        }
        return {**shared, "innovation": "0", "marginTrading": "utaOnly", "lotSizeFilter": lots}
    most = plain(listing.tiers[0].leverage_max)
    return {
        **shared,
        "contractType": "InversePerpetual" if listing.kind is Kind.INVERSE else "LinearPerpetual",
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(len(plain(listing.tick).partition(".")[2])),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": most, "leverageStep": "0.01"},
        "lotSizeFilter": {
            "maxOrderQty": "25000000" if listing.kind is Kind.INVERSE else "1190",
            "minOrderQty": plain(listing.smallest),
            "qtyStep": plain(listing.lot),
            "postOnlyMaxOrderQty": "1190",
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": listing.settle,
        "isPreListing": False,
    }
