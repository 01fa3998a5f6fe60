"""Pages: every item once, in order, whatever comes and goes between; and tokens that fit one list only."""

import base64

import pytest

from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.rpc.pages import Cursor, cursor_of, page_of, token_of

NAMES = [f"account-{number:03}" for number in range(25)]


def place(name: str) -> Cursor:
    return [name]


def walk(items: list[str], size: int, newest_first: bool = False) -> list[list[str]]:
    pages, token = [], ""
    while True:
        page, token = page_of(items, place, size, token, "Names", newest_first=newest_first)
        pages.append(page)
        if not token:
            return pages


@pytest.mark.parametrize("size", [1, 2, 5, 24, 25, 26, 1000])
@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_hold_every_item_once_and_in_order(size: int, newest_first: bool) -> None:
    pages = walk(list(reversed(NAMES)), size, newest_first)
    assert [name for page in pages for name in page] == sorted(NAMES, reverse=newest_first)
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1]


def test_an_empty_list_is_one_empty_page() -> None:
    assert page_of([], place, 10, "", "Names") == ([], "")


def test_items_that_come_and_go_shift_nothing() -> None:
    page, token = page_of(["b", "d", "f", "h"], place, 2, "", "Names")
    assert page == ["b", "d"]
    assert page_of(["a", "c", "e", "f", "h"], place, 2, token, "Names")[0] == ["e", "f"]


def test_a_token_is_opaque_but_url_safe() -> None:
    token = token_of(["ü/+", 5], "Names", "filter")
    assert token.replace("-", "").replace("_", "").isalnum()
    assert cursor_of(token, "Names", "filter") == ["ü/+", 5]


def swapped(token: str) -> str:
    """The token with another cursor and the old seal."""
    content = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return base64.urlsafe_b64encode(content.replace(b"account-001", b"account-002")).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "not a token",
        "%%%%",
        "tökén",
        "e30",
        base64.urlsafe_b64encode(b'[["a"],"0"]').decode(),
        base64.urlsafe_b64encode(b"[" * 700).decode(),
        base64.urlsafe_b64encode(b'[[{"a":1}],"0"]').decode(),
        token_of(["account-001"], "Others", "alice"),
        token_of(["account-001"], "Names", "bob"),
        token_of(["account-001"], "Names"),
        swapped(token_of(["account-001"], "Names", "alice")),
        token_of(["account-001"], "Names", "alice")[:-1],
        "A" * 100_000,
        "\x00",
    ],
)
def test_a_token_that_is_not_of_this_list_is_refused(token: str) -> None:
    with pytest.raises(Fault) as raised:
        page_of(NAMES, place, 5, token, "Names", "alice")
    assert raised.value.reason is FaultReason.PAGE_TOKEN_INVALID
