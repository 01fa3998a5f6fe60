"""Order ids as each venue takes them: made from the journal's own, the same every time, never another house's."""

import base64
import hashlib
import re
import string

from debt_mgmt.server.brokers.profiles import ClientOrderIds

PLAN_STEP = re.compile(r"liq-(\d+)-(\d+)-(\d+)")
"""What the journal's ids look like: shard, position and step."""

DIGITS = string.digits + string.ascii_lowercase
TAG_LENGTH = 4


def venue_order_id(rules: ClientOrderIds, client_order_id: str, salt: str) -> str:
    """The id of one order at a venue: the journal's, and a tag made of `salt`.

    The tag tells apart houses that share a venue account: a journal that begins anew counts from 1 again, and must not
    take an old order for its own. Where the venue takes less, the numbers are written shorter; an id that is not of
    the journal is digested.
    """
    found = PLAN_STEP.fullmatch(client_order_id)
    if found is not None:
        for name, numbers in (("liq", found.groups()), ("l", [short(int(one)) for one in found.groups()])):
            joint = "-" if rules.dashes else "z"
            whole = joint.join((name, *numbers, tag(salt)))
            if len(whole) <= rules.length_most and (rules.dashes or name == "liq"):
                return whole
    return f"liq{digest(f'{salt} {client_order_id}')[: rules.length_most - 3]}"


def house_order_id(rules: ClientOrderIds, venue_id: str, salt: str) -> str | None:
    """The journal's id of an order that this house sent; None where it was not this house, or can't be told."""
    joint = "-" if rules.dashes else "z"
    if not venue_id.endswith(joint + tag(salt)):
        return None
    name, *numbers = venue_id[: -len(joint) - TAG_LENGTH].split(joint)
    base = {"liq": 10, "l": len(DIGITS)}.get(name)
    if base is None or len(numbers) != 3 or not all(one and set(one) <= set(DIGITS[:base]) for one in numbers):
        return None
    return "-".join(("liq", *(str(int(one, base)) for one in numbers)))


def short(number: int) -> str:
    """A number in digits and small letters."""
    text = ""
    while True:
        number, rest = divmod(number, len(DIGITS))
        text = DIGITS[rest] + text
        if not number:
            return text


def tag(salt: str) -> str:
    return digest(salt)[:TAG_LENGTH]


def digest(text: str) -> str:
    """52 small letters and digits."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()
