"""The board in a real browser: accounts by danger, live, and only those that the token may see."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from debt_mgmt.core.access import Role
from debt_mgmt.v1 import debt_service_pb2, risk_service_pb2
from tests.e2e.books import BUY
from tests.server.security.door import door
from tests.support.browser import Page, chromium, page_at
from tests.support.http import http
from tests.support.service import Clock, Desk, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

in_browser = pytest.mark.skipif(chromium() is None, reason="no Chromium is on this machine")

ROWS = "[...document.querySelectorAll('#accounts tr')].map(row => row.cells[0].textContent)"
LEVELS = "[...document.querySelectorAll('#accounts tr')].map(row => row.cells[1].innerText.trim())"
CHOOSE = (
    "[...document.querySelectorAll('#accounts tr')].find(row => row.cells[0].textContent == '{account}')"
    ".dispatchEvent(new PointerEvent('pointerdown', {{bubbles: true}}))"
)
TABLE = "[...document.querySelectorAll('#{table} tr')].map(row => [...row.cells].map(cell => cell.innerText))"
SIGN_IN = (
    "document.getElementById('token').value = '{token}';"
    "document.querySelector('#ask button').click();"
    "document.getElementById('link').innerText"
)


async def open_accounts(desk: Desk) -> None:
    """Long BTC at 60,000 on 10,000 USDT each, at 5x: 4.8 %, 48 %, 74 %, and one that holds nothing."""
    await desk.mark({"BTCUSDT": "60000"})
    for name, quantity in (("calm", "0.04"), ("busy", "0.4"), ("near", "0.62"), ("idle", "")):
        await desk.open(name, "10000", "USDT")
        await desk.lever(name, "BTCUSDT", "5")
        if quantity:
            await desk.fill(name, BUY, quantity, "BTCUSDT", "60000")


@pytest_asyncio.fixture(loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with service() as running:
        await open_accounts(running)
        yield running


def board_of(desk: Desk) -> str:
    return f"http://127.0.0.1:{desk.running.metrics_port}/"


def others(complaints: list[str]) -> list[str]:
    """Complaints but those of a browser about a token that is refused, or may not see what waits."""
    return [one for one in complaints if "401" not in one and not ("403" in one and "ListPendingChanges" in one)]


async def cell(page: Page, account_id: str, column: int) -> str:
    """The text of a cell in an account's row."""
    return str(await page.evaluate(f"document.querySelectorAll('#accounts tr')[{ROWS}.indexOf('{account_id}')].cells[{column}].innerText"))  # fmt: skip  # noqa: E501


async def test_the_page_holds_no_figures_and_lets_nothing_else_run(desk: Desk) -> None:
    async with http(desk.running.metrics_port) as web:
        answered = await web.get("/")
    assert answered.status == 200
    assert answered.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "near" not in re.findall(r">(\w+)<", answered.text)
    policy = answered.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answered.text, re.DOTALL)
        assert f"{tag}-src 'sha256-{base64.b64encode(sha256(content.encode()).digest()).decode()}'" in policy
    assert set(re.findall(r"https?://[^\"]+", answered.text)) == {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in answered.text


@in_browser
async def test_accounts_stand_by_danger_and_follow_the_prices(desk: Desk, tmp_path: Path) -> None:
    async with page_at(board_of(desk)) as page:
        await page.until(f"{ROWS}.join() == 'near,busy,calm,idle'")
        assert await cell(page, "near", 1) == "WARNING"
        assert await cell(page, "near", 2) == "74.4 %"
        assert await cell(page, "busy", 4) == "10,000.00\nUSDT"
        widths = await page.evaluate(
            "[...document.querySelectorAll('#accounts .fill')].map(one => one.width.baseVal.value)"
        )
        assert widths == pytest.approx([0.744 * 180, 0.48 * 180, 0.048 * 180, 0], abs=0.01)
        ticks = await page.evaluate("[...document.querySelector('#accounts svg').querySelectorAll('.tick')].map(one => one.x1.baseVal.value)")  # fmt: skip  # noqa: E501
        assert ticks == pytest.approx([126, 144, 162])
        assert "WARNING: margin utilization is 74.4 %" in await page.evaluate(
            "document.getElementById('alerts').innerText"
        )
        await desk.mark({"BTCUSDT": "58000"})
        await page.until(f"{LEVELS}[0].startsWith('CRITICAL')")
        assert await cell(page, "near", 2) == "82.1 %"
        assert (await cell(page, "near", 1)).split() == ["CRITICAL", "REDUCING"]
        await page.until("document.getElementById('alerts').innerText.startsWith('near')")
        assert "CRITICAL: margin utilization is 82.1" in await page.evaluate(
            "document.querySelector('#alerts li').innerText"
        )
        await page.until("document.getElementById('link').className == 'good'")
        await page.until("document.getElementById('health').innerText == 'protecting'")
        await page.picture(tmp_path / "board.png")
        assert (tmp_path / "board.png").stat().st_size > 10_000
        assert page.complaints == []


@in_browser
async def test_one_account_is_shown_in_full(desk: Desk, tmp_path: Path) -> None:
    borrow = debt_service_pb2.BorrowRequest(request_id="loan", account_id="busy", asset="USDT", amount="2000")
    assert (await desk.debt.Borrow(borrow)).accepted
    async with page_at(board_of(desk), height=1000) as page:
        await page.until(f"{ROWS}.length == 4")
        assert await page.evaluate("document.getElementById('one').hidden") is True
        await page.evaluate(CHOOSE.format(account="busy"))
        await page.until("document.getElementById('debts').innerText.includes('2,000.00')")
        ladder = await page.evaluate(TABLE.format(table="ladder"))
        assert [line[0] for line in ladder] == ["WARNING", "CRITICAL", "LIQUIDATING", "BANKRUPTCY"]
        falls = [float(line[1].removesuffix(" %")) for line in ladder]
        assert falls == sorted(falls, reverse=True)
        assert falls[3] == pytest.approx(-41.7, abs=0.1), "10,000 of equity is gone with 41.7 % of 24,000 of notional"
        causes = dict(await page.evaluate(TABLE.format(table="causes")))
        assert (causes["transfers"], causes["price"]) == ("10,000.00", "0.00")
        assert float(causes["interest"]) < 0, "a loan costs from its first hour"
        parts = {"price", "funding", "interest", "fees", "transfers", "liquidation cost", "synced"}
        assert set(causes) == {*parts, "total"}
        debts = dict(await page.evaluate(TABLE.format(table="debts")))
        assert (debts["borrowed"], debts["debt ÷ collateral"]) == ("2,000.00", "16.7 %")
        await page.picture(tmp_path / "account.png")
        await page.evaluate(CHOOSE.format(account="busy"))
        assert await page.evaluate("document.getElementById('one').hidden") is True
        assert page.complaints == []


@in_browser
async def test_what_is_old_or_not_known_is_shown_as_that() -> None:
    clock = Clock()
    async with service(clock=clock) as desk:
        await open_accounts(desk)
        await desk.fill("calm", BUY, "1", "ETHUSDT", "3000")
        async with page_at(board_of(desk)) as page:
            await page.until(f"{ROWS}.length == 4")
            assert await cell(page, "calm", 2) == "not known"
            assert await cell(page, "calm", 4) == "not known\nUSDT"
            await desk.mark({"ETHUSDT": "3000"})
            clock.advance(seconds=45)
            await desk.engine.sweep()
            await page.until(f"{LEVELS}.filter(level => level == 'UNKNOWN').length == 3")
            old = await page.evaluate(
                "[...document.querySelectorAll('#accounts .old')].map(one => parseInt(one.textContent))"
            )
            assert old
            assert all(age >= 45 for age in old)
            await page.until("document.getElementById('health').innerText.startsWith('NOT PROTECTING: no fresh price')")


@in_browser
async def test_a_service_that_is_gone_is_not_shown_as_live(desk: Desk) -> None:
    async with page_at(board_of(desk)) as page:
        await page.until("document.getElementById('link').className == 'good'")
        await desk.running.stop()
        await page.until("document.getElementById('link').className == 'bad'")
        await page.until("document.getElementById('health').innerText == 'not reached'")


@in_browser
async def test_the_board_asks_for_a_token_and_shows_what_it_may_see(tmp_path: Path) -> None:
    async with door(tmp_path) as gate:
        await open_accounts(gate.desk)
        mine = await gate.issue("one", Role.VIEWER, "busy")
        async with page_at(board_of(gate.bare)) as page:
            await page.until("document.getElementById('ask').className == 'asked'")
            assert await page.evaluate(ROWS) == []
            await page.evaluate(SIGN_IN.format(token="dmt_made-up"))
            await page.until("document.getElementById('link').innerText == 'the token is not valid'")
            assert await page.evaluate(ROWS) == []
            await page.evaluate(SIGN_IN.format(token=mine))
            await page.until(f"{ROWS}.join() == 'busy'")
            await page.until("document.getElementById('ask').className == ''")
            await asyncio.sleep(0.6)
            assert await page.evaluate(ROWS) == ["busy"]
            assert mine not in await page.evaluate("location.href + document.body.innerText")
            assert others(page.complaints) == []


@in_browser
async def test_halts_and_changes_that_wait_are_shown_to_whom_they_concern(tmp_path: Path) -> None:
    text = "document.getElementById('{}').innerText"
    async with door(tmp_path, risk_settings__four_eyes="all") as gate:
        await open_accounts(gate.desk)
        ann, watcher = await gate.issue("ann", Role.RISK), await gate.issue("watcher", Role.VIEWER)
        desk = gate.as_caller(ann)
        scopes: list[dict[str, Any]] = [{"owner": "desk"}, {"account_id": "calm"}]
        for number, scope in enumerate(scopes):
            halt = risk_service_pb2.HaltTradingRequest(request_id=f"halt-{number}", reason="too <b>loud</b>", **scope)
            assert (await desk.risk.HaltTrading(halt)).accepted
        async with page_at(board_of(gate.bare)) as page:
            await page.until("document.getElementById('ask').className == 'asked'")
            assert await page.evaluate("document.getElementById('halted').hidden")
            await page.evaluate(SIGN_IN.format(token=watcher))
            halts = await page.until(text.format("halts"))
            assert "owner desk" in halts and "account calm" in halts
            assert "too <b>loud</b>" in halts and "by ann" in halts
            resume = risk_service_pb2.ResumeTradingRequest(request_id="resume", reason="over", owner="desk")
            change_id = (await desk.risk.ResumeTrading(resume)).pending_change_id
            assert change_id
            await page.evaluate("askHouse()")
            assert await page.evaluate("notRisk && document.getElementById('waiting').hidden"), "it is not for a viewer"
            await page.evaluate(SIGN_IN.format(token=ann))
            waiting = await page.until(text.format("changes"))
            assert "owner desk halted → resumed" in waiting and "until" in waiting
            assert f"over · by ann · {change_id}" in waiting
            await page.picture(tmp_path / "house.png")
            reject = risk_service_pb2.RejectChangeRequest(request_id="reject", change_id=change_id)
            assert (await desk.risk.RejectChange(reject)).accepted
            await page.until("document.getElementById('waiting').hidden")
            assert not await page.evaluate("document.getElementById('halted').hidden")
            assert others(page.complaints) == []
