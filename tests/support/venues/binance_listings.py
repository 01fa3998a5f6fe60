"""What Binance lists, and the words of its refusals."""

from decimal import Decimal
from typing import Any

from tests.support.venues.records import Kind, Listing, Tier, Why, stepped
from tests.support.venues.venue import plain

BITCOIN = stepped(
    ("50000", "125", "0.004"),
    ("600000", "100", "0.005"),
    ("3000000", "75", "0.0065"),
    ("12000000", "50", "0.01"),
    ("70000000", "25", "0.02"),
    ("100000000", "20", "0.025"),
    ("230000000", "10", "0.05"),
    ("480000000", "5", "0.1"),
)
ETHER = stepped(
    ("50000", "125", "0.004"),
    ("600000", "100", "0.005"),
    ("3000000", "75", "0.0065"),
    ("12000000", "50", "0.01"),
    ("50000000", "25", "0.02"),
    ("65000000", "20", "0.025"),
    ("150000000", "10", "0.05"),
    ("320000000", "5", "0.1"),
)
SOLANA = stepped(
    ("20000", "100", "0.005"),
    ("100000", "75", "0.0065"),
    ("800000", "50", "0.01"),
    ("4000000", "25", "0.02"),
    ("8000000", "20", "0.025"),
    ("40000000", "10", "0.05"),
    ("80000000", "5", "0.1"),
)


def perpetual(base: str, tick: str, lot: str, tiers: tuple[Tier, ...]) -> Listing:
    return Listing(
        f"{base}USDT", base, "USDT", "USDT", Kind.LINEAR, Decimal(tick), Decimal(lot), tiers, smallest=Decimal(lot)
    )


LISTINGS = (
    perpetual("BTC", "0.1", "0.001", BITCOIN),
    perpetual("ETH", "0.01", "0.001", ETHER),
    perpetual("SOL", "0.01", "1", SOLANA),
)
MARKS = {"BTCUSDT": "60000", "ETHUSDT": "3000", "SOLUSDT": "150"}

CODES: dict[Why, tuple[int, str]] = {
    Why.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Why.BAD_VALUE: (-1102, "Mandatory parameter was not sent, was empty/null, or malformed."),
    Why.LEVERAGE_TOO_HIGH: (-4028, "Leverage is not valid"),
    Why.LEVERAGE_STEP: (-4028, "Leverage is not valid"),
    Why.LEVERAGE_HELD: (-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions"),
    Why.MODE_SAME: (-4046, "No need to change margin type."),
    Why.MODE_HELD: (-4048, "Margin type cannot be changed if there exists position."),
    Why.HEDGE_SAME: (-4059, "No need to change position side."),
    Why.HEDGE_HELD: (-4068, "Position side cannot be changed if there exists position."),
    Why.NOT_ISOLATED: (-4049, "Add margin only support for isolated position."),
    Why.NO_POSITION: (-4054, "Cannot add position margin: position is 0."),
    Why.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Why.WRONG_LEG: (-4061, "Order's position side does not match user's setting."),
    Why.DUPLICATE_ID: (-4116, "ClientOrderId is duplicated."),
    Why.UNKNOWN_ORDER: (-2013, "Order does not exist."),
    Why.NOT_ENOUGH: (-2019, "Margin is insufficient."),
    Why.QUANTITY: (-1111, "Precision is over the maximum defined for this asset."),
    Why.QUANTITY_SMALL: (-4003, "Quantity less than or equal to zero."),
    Why.PRICE: (-4014, "Price not increased by tick size."),
    Why.BORROW_LIMIT: (-3006, "Your borrow amount has exceed maximum borrow amount."),
    Why.NO_DEBT: (-3015, "Repay amount exceeds borrow amount."),
    Why.NO_KEY: (-2015, "Invalid API-key, IP, or permissions for action."),
    Why.NO_PERMISSION: (-2015, "Invalid API-key, IP, or permissions for action."),
    Why.NO_SIGNATURE: (-1022, "Signature for this request is not valid."),
    Why.CLOCK: (-1021, "Timestamp for this request is outside of the recvWindow."),
}


def instrument(listing: Listing) -> dict[str, Any]:
    tick, lot = plain(listing.tick), plain(listing.lot)
    return {
        "symbol": listing.symbol,
        "pair": listing.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": listing.base,
        "quoteAsset": listing.quote,
        "marginAsset": listing.settle,
        "pricePrecision": len(tick.partition(".")[2]),
        "quantityPrecision": len(lot.partition(".")[2]),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "1000", "stepSize": lot},
            {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": "120", "stepSize": lot},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def brackets(listing: Listing) -> dict[str, Any]:
    floors = [Decimal(0), *(tier.limit for tier in listing.tiers)]
    rows = [
        {
            "bracket": count,
            "initialLeverage": int(tier.leverage_max),
            "notionalCap": int(tier.limit),
            "notionalFloor": int(floor),
            "maintMarginRatio": float(tier.maintenance_rate),
            "cum": float(tier.deduction),
        }
        for count, (tier, floor) in enumerate(zip(listing.tiers, floors, strict=False), 1)
    ]
    return {"symbol": listing.symbol, "notionalCoef": 1.0, "brackets": rows}
