"""Order ids as each venue takes them: made from the journal's own, the same every time, never another house's."""

import base64
import hashlib

from debt_mgmt.server.brokers.profiles import ClientOrderIds

TAG_LENGTH = 6


def venue_order_id(rules: ClientOrderIds, client_order_id: str, salt: str) -> str:
    """The id of one order at a venue.

    `salt` tells apart houses that share a venue account: a journal that begins anew counts from 1 again, and must not
    take an old order for its own. The readable id stands first where it fits, else a digest of both takes its place.
    """
    readable = client_order_id if rules.dashes else client_order_id.replace("-", "x")
    joint = "-" if rules.dashes else "x"
    tagged = f"{readable}{joint}{digest(salt)[:TAG_LENGTH]}"
    fits = len(tagged) <= rules.length_most and all(one.isalnum() or (one == "-" and rules.dashes) for one in tagged)
    return tagged if fits else f"liq{digest(f'{salt} {client_order_id}')[: rules.length_most - 3]}"


def digest(text: str) -> str:
    """52 small letters and digits."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()
