"""What a simulated Coinbase lists, and the keys that it knows."""

import base64
import json
from decimal import Decimal
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.support.venues.records import Kind, Listing, Tier
from tests.support.venues.venue import plain

D = Decimal

TIERS = (Tier(D("1e12"), D(4), D("0.2")),)
"""Coinbase publishes no tiers: a quarter of the notional to open, a fifth to keep."""

PRODUCTS = (
    Listing("BTC-USD", "BTC", "USD", "USD", Kind.SPOT, D("0.01"), D("0.00000001"), TIERS, smallest=D("0.00000001")),
    Listing("ETH-USD", "ETH", "USD", "USD", Kind.SPOT, D("0.01"), D("0.00000001"), TIERS, smallest=D("0.00000001")),
    Listing("BIP-20DEC30-CDE", "BTC", "USD", "USD", Kind.LINEAR, D(5), D(1), TIERS, D("0.01"), D(1)),
    Listing("ETP-20DEC30-CDE", "ETH", "USD", "USD", Kind.LINEAR, D("0.5"), D(1), TIERS, D("0.1"), D(1)),
    Listing("BIT-26MAR27-CDE", "BTC", "USD", "USD", Kind.LINEAR, D(5), D(1), TIERS, D("0.01"), D(1)),
)
MARKS = {
    "BTC-USD": "50000",
    "ETH-USD": "2500",
    "BIP-20DEC30-CDE": "50000",
    "ETP-20DEC30-CDE": "2500",
    "BIT-26MAR27-CDE": "50500",
}
EXPIRIES = {
    "BIP-20DEC30-CDE": "2030-12-20T16:00:00Z",
    "ETP-20DEC30-CDE": "2030-12-20T16:00:00Z",
    "BIT-26MAR27-CDE": "2027-03-26T16:00:00Z",
}
NAMES = {"BIP-20DEC30-CDE": "BTC PERP", "ETP-20DEC30-CDE": "ETH PERP", "BIT-26MAR27-CDE": "BTC 26 MAR 27"}


def product(listing: Listing, mark: Decimal) -> dict[str, Any]:
    """A product as the venue lists it, with its last price."""
    spot = listing.kind is Kind.SPOT
    row: dict[str, Any] = {
        "product_id": listing.symbol,
        "price": plain(mark),
        "price_percentage_change_24h": "0",
        "volume_24h": "1000",
        "volume_percentage_change_24h": "0",
        "base_increment": plain(listing.lot),
        "quote_increment": "0.01",
        "quote_min_size": "1" if spot else "0",
        "quote_max_size": "150000000",
        "base_min_size": plain(listing.smallest),
        "base_max_size": "3400" if spot else "100000000",
        "base_name": listing.base if spot else "",
        "quote_name": "US Dollar",
        "is_disabled": False,
        "status": "online" if spot else "",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": False,
        "auction_mode": False,
        "product_type": "SPOT" if spot else "FUTURE",
        "quote_currency_id": listing.quote,
        "base_currency_id": listing.base if spot else "",
        "fcm_trading_session_details": None if spot else {"is_session_open": True},
        "mid_market_price": plain(mark),
        "alias": "",
        "alias_to": [],
        "base_display_symbol": listing.base if spot else "",
        "quote_display_symbol": listing.quote,
        "view_only": False,
        "price_increment": plain(listing.tick),
        "display_name": NAMES.get(listing.symbol, listing.symbol),
        "product_venue": "CBE" if spot else "FCM",
    }
    return row if spot else row | {"future_product_details": future(listing)}


def future(listing: Listing) -> dict[str, Any]:
    """Futures without an end are listed as expiring far away, and have a funding interval."""
    details: dict[str, Any] = {
        "venue": "cde",
        "contract_code": listing.symbol[:3],
        "contract_expiry": EXPIRIES[listing.symbol],
        "contract_size": plain(listing.contract_size),
        "contract_root_unit": listing.base,
        "contract_expiry_timezone": "Europe/London",
        "risk_managed_by": "MANAGED_BY_FCM",
        "contract_expiry_type": "EXPIRING",
        "contract_display_name": NAMES[listing.symbol],
    }
    perpetual = {"funding_interval": "3600s", "funding_rate": "0.00001"}
    return details | (perpetual if NAMES[listing.symbol].endswith("PERP") else {})


@cache
def private_key() -> str:
    """A key of this run alone, as Coinbase hands them out."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def read_token(token: str, secret: str) -> dict[str, Any] | None:
    """The claims of a token that was signed by the key; None for any other."""
    parts = token.split(".")
    key = serialization.load_pem_private_key(secret.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    try:
        head, claims, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
        signed = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        key.public_key().verify(signed, ".".join(parts[:2]).encode(), ec.ECDSA(hashes.SHA256()))
        names = json.loads(head)
        found = json.loads(claims)
    except (ValueError, InvalidSignature):
        return None
    return found if names.get("alg") == "ES256" and names.get("kid") == found.get("sub") else None
