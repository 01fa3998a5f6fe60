"""Reading in parts: every page is followed, a part that fails fails the whole, and nothing goes on behind it."""

import asyncio
from typing import Any

import pytest

from debt_mgmt.server.brokers import venue_calls
from debt_mgmt.server.brokers.broker import Unreachable
from debt_mgmt.server.brokers.ccxt_link import as_they_come
from debt_mgmt.server.brokers.venue_calls import bybit_page, coinbase_accounts, coinbase_page, okx_page, pages, together

OKX_PAGE = 100


async def read(answers: list[Any], page: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows of all pages, and the requests that were made for them."""
    asked: list[dict[str, Any]] = []
    left = list(answers)

    async def call(request: dict[str, Any]) -> Any:
        asked.append(request)
        return left.pop(0)

    rows = await pages(call, {"limit": 2}, page)
    assert not left, "a page was not read"
    return rows, asked


def bybit(rows: list[int], cursor: str) -> dict[str, Any]:
    return {"result": {"list": rows, "nextPageCursor": cursor}}


async def test_bybit_is_asked_until_there_is_no_cursor() -> None:
    rows, asked = await read([bybit([1, 2], "a"), bybit([3, 4], "b"), bybit([5], "")], bybit_page)
    assert rows == [1, 2, 3, 4, 5]
    assert [one.get("cursor") for one in asked] == [None, "a", "b"]
    assert all(one["limit"] == 2 for one in asked)


async def test_a_cursor_behind_an_empty_page_leads_nowhere() -> None:
    assert (await read([bybit([1], "a"), bybit([], "a")], bybit_page))[0] == [1]


async def test_okx_is_asked_for_what_comes_after_the_last_of_a_full_page() -> None:
    full = [{"ordId": str(number)} for number in range(OKX_PAGE)]
    rows, asked = await read([{"data": full}, {"data": full[:3]}], okx_page)
    assert len(rows) == OKX_PAGE + 3
    assert asked[1]["after"] == str(OKX_PAGE - 1)


@pytest.mark.parametrize(("page", "name"), [(coinbase_accounts, "accounts"), (coinbase_page, "orders")])
async def test_coinbase_is_asked_as_long_as_it_says_that_there_is_more(page: Any, name: str) -> None:
    first, last = {name: [1], "has_next": True, "cursor": "c"}, {name: [2], "has_next": False, "cursor": ""}
    rows, asked = await read([first, last], page)
    assert (rows, asked[1]["cursor"]) == ([1, 2], "c")


async def test_pages_without_an_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_calls, "PAGES_MOST", 3)
    with pytest.raises(Unreachable, match="more than 3 pages"):
        await read([bybit([1], "again")] * 4, bybit_page)


async def test_the_first_error_stops_the_other_parts() -> None:
    stopped = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async def broken() -> None:
        await asyncio.sleep(0)
        raise KeyError("result")

    with pytest.raises(KeyError):
        await together(slow(), broken())
    assert stopped.is_set()


async def test_what_came_while_nobody_looked_is_taken_together() -> None:
    ticks = iter(range(100))

    async def tick() -> int:
        await asyncio.sleep(0)
        found = next(ticks)
        if found >= 5:
            await asyncio.Event().wait()
        return found

    pushes = as_they_come({"ticks": tick})
    seen = await anext(pushes)
    await asyncio.sleep(0.05)
    seen += await anext(pushes)
    await pushes.aclose()
    assert seen == [0, 1, 2, 3, 4]


async def test_what_came_before_an_error_is_told_before_it() -> None:
    answers: list[Any] = [1, 2]

    async def ask() -> Any:
        if answers:
            return answers.pop(0)
        raise ConnectionError("dropped")

    pushes = as_they_come({"one": ask})
    assert await anext(pushes) == [1, 2]
    with pytest.raises(ConnectionError):
        await anext(pushes)
