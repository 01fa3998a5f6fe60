"""Pages of a list: where a page ended, in a token that only the same list with the same filters takes back."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.journal.journal import microseconds

Item = TypeVar("Item")
Cursor = list[str | int]
"""The place of an item in its list. Items are listed in the order of their places, or in the opposite one."""

TOKEN_CHARACTERS_MOST = 1024


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    cursor: Cursor
    seal: str


def token_of(cursor: Cursor, name: str, *filters: object) -> str:
    """The token of the page after `cursor`. `name` is the list's, `filters` what it was asked for."""
    token = msgspec.json.encode(_Token(cursor, seal(cursor, name, filters)))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def cursor_of(token: str, name: str, *filters: object) -> Cursor | None:
    """Where the page before ended; None for the first page. Raises Fault PAGE_TOKEN_INVALID for any other token."""
    if not token:
        return None
    try:
        if len(token) > TOKEN_CHARACTERS_MOST:
            raise ValueError("too long")
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        read = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Token)
        if read.seal != seal(read.cursor, name, filters):
            raise ValueError("sealed for another list")
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise Fault(
            FaultReason.PAGE_TOKEN_INVALID,
            "page_token is not from this list, or its filters have changed; start without a token",
        ) from error
    return read.cursor


def seal(cursor: Cursor, name: str, filters: tuple[object, ...]) -> str:
    """Ties a cursor to its list. It keeps mistakes out, not attackers: a cursor gives no access to anything."""
    content = msgspec.json.encode([name, cursor, *(plain(value) for value in filters)])
    return hashlib.blake2b(content, digest_size=9).hexdigest()


def plain(value: object) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else value


def page_of(
    items: Iterable[Item],
    place: Callable[[Item], Cursor],
    size: int,
    token: str,
    name: str,
    *filters: object,
    newest_first: bool = False,
) -> tuple[list[Item], str]:
    """The page of `items` after `token`, sorted by their places, and the token of the next page (empty on the last).

    The places of a list all have the same shape, and no two are equal. Items that come or go between two calls shift
    nothing: a page begins after the place where the one before ended.
    """
    cursor = cursor_of(token, name, *filters)
    placed = [(at, item) for item in items if is_after(at := place(item), cursor, newest_first=newest_first)]
    placed.sort(key=lambda pair: pair[0], reverse=newest_first)
    page = placed[:size]
    following = token_of(page[-1][0], name, *filters) if len(placed) > size else ""
    return [item for _, item in page], following


def is_after(place: Cursor, cursor: Cursor | None, *, newest_first: bool) -> bool:
    """Whether a place lies beyond the cursor, in the direction of the list."""
    if cursor is None:
        return True
    return place < cursor if newest_first else place > cursor


def moment(at: datetime) -> int:
    """A time as part of a place."""
    return microseconds(at)
