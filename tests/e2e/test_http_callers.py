"""Who may call over HTTP: the same tokens, roles, accounts and quotas as over gRPC, and the same encryption."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from debt_mgmt.core.access import Role
from tests.server.security.door import Door, door
from tests.server.security.signing import Authority
from tests.support.http import BOTH_STREAM, PORTFOLIO, SET_LEVERAGE, WATCH, Http, alice, curled, http
from tests.support.service import Clock, service
from tests.support.wire import heads, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Door, Http]]:
    """A service that asks for tokens, with the accounts alice and bob."""
    async with door(tmp_path, clock=Clock()) as gate, http(gate.bare.running.metrics_port, gate.admin_secret) as web:
        await alice(gate.desk, web)
        await gate.desk.open("bob", currency="USDT")
        yield gate, web


async def test_nobody_calls_without_a_token(guarded: tuple[Door, Http]) -> None:
    _, web = guarded
    for token, path in (
        ("", "/v1/MarginService/GetPortfolio"),
        ("dmt_made-up", "/v1/MarginService/GetPortfolio"),
        ("", "/v1/Guess/What"),
        ("", f"/v1/{WATCH}"),
        ("", f"/v1/{BOTH_STREAM}"),
        ("", "/api/debt_mgmt/portfolio"),
        ("", "/api/debt_mgmt/margin/status"),
        ("", "/api/debt_mgmt/leverage/set"),
    ):
        answered = await web.of(token).post(path, b"not even JSON")
        assert (answered.status, answered.reason) == (401, "UNAUTHENTICATED"), path
        assert answered.headers["WWW-Authenticate"] == "Bearer"
    assert (await web.of("").get("/api/debt_mgmt/health")).status == 200
    assert (await web.get("/v1/MarginService/GetPortfolio", {"Origin": "https://board.example"})).status == 200
    assert (await curled(web, PORTFOLIO, web.headers["Authorization"].split()[1])).status == 200
    assert (await curled(web, PORTFOLIO)).status == 401


async def test_what_tells_of_every_account_is_for_who_may_see_every_account(guarded: tuple[Door, Http]) -> None:
    gate, web = guarded
    one = web.of(await gate.issue("one", Role.ADMIN, "bob"))
    scraper = web.of(await gate.issue("scraper", Role.VIEWER))
    assert [(await who.get("/metrics")).status for who in (web.of(""), web.of("dmt_no"), one, scraper)] == [
        401,
        401,
        403,
        200,
    ]
    assert 'debt_mgmt_margin_utilization{account="alice"}' in (await scraper.get("/metrics")).text
    clock: Any = gate.engine.clock
    clock.advance(seconds=45)
    await gate.engine.sweep()
    for who in (web.of(""), web.of("dmt_no"), one):
        shown = await who.get("/health")
        assert (shown.status, shown.json["protecting"]) == (200, False)
        assert "BTCUSDT" not in shown.text
    assert (await scraper.get("/health")).json["reasons"] == ["no fresh price for BTCUSDT"]


async def test_a_viewer_changes_nothing(guarded: tuple[Door, Http]) -> None:
    gate, web = guarded
    viewer = web.of(await gate.issue("watcher", Role.VIEWER))
    before = heads(gate.engine)
    body = {"account_id": "alice", "symbol": "BTCUSDT", "leverage": 3.0, "request_id": "v-1"}
    for path in ("/v1/LeverageService/SetLeverage", "/api/debt_mgmt/leverage/set"):
        answered = await viewer.post(path, body)
        assert (answered.status, answered.reason) == (403, "PERMISSION_DENIED")
    assert heads(gate.engine) == before
    assert (await viewer.get("/api/debt_mgmt/margin/status", account_id="alice")).status == 200


async def test_the_account_of_another_is_as_one_that_does_not_exist(guarded: tuple[Door, Http]) -> None:
    gate, web = guarded
    trader = web.of(await gate.issue("alices", Role.TRADER, "alice"))
    for path in ("/v1/MarginService/GetMarginStatus", "/api/debt_mgmt/margin/status", "/api/debt_mgmt/portfolio"):
        others = await trader.get(path, account_id="bob")
        nobodys = await trader.get(path, account_id="rob")
        assert (others.status, others.text) == (404, nobodys.text.replace("rob", "bob"))
    assert (await trader.get("/api/debt_mgmt/portfolio")).json["account_count"] == 1
    assert (await trader.get("/api/debt_mgmt/margin/status")).json["account_id"] == "alice", "its only one"
    assert (await curled(trader, SET_LEVERAGE, trader.headers["Authorization"].split()[1])).status == 200
    async with trader.watch() as events:
        assert [(await anext(events)).data.get("snapshot", {}).get("account_id") for _ in range(2)] == ["alice", None]
    answered = await trader.get(f"/v1/{WATCH}", account_ids="bob")
    assert answered.status == 404


async def test_what_is_done_is_kept_with_who_did_it(guarded: tuple[Door, Http]) -> None:
    gate, web = guarded
    trader = web.of(await gate.issue("script", Role.TRADER))
    body = {"account_id": "alice", "symbol": "BTCUSDT", "leverage": 3.0}
    assert (await trader.post("/api/debt_mgmt/leverage/set", body, {"Idempotency-Key": "by-script"})).status == 200
    rows = [row for row in await gate.engine.journal.list_rows(account_id="alice") if row.request_id == "by-script"]
    assert [row.kind for row in rows] == ["LeverageSet"]
    assert '"name":"script"' in rows[0].actor
    assert '"peer":"ipv4:127.0.0.1:' in rows[0].actor


async def test_a_used_up_quota_says_when_there_is_room(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"server__quotas__leverage_changes_per_day": "1", "server__quotas__streams": "1"}
    async with door(tmp_path, **flags) as gate, http(gate.bare.running.metrics_port, gate.admin_secret) as web:
        await alice(gate.desk, web)
        body = {"account_id": "alice", "symbol": "BTCUSDT", "leverage": 3.0}
        assert (await web.post("/api/debt_mgmt/leverage/set", body)).status == 200
        over = await web.post("/api/debt_mgmt/leverage/set", body)
        assert (over.status, over.reason) == (429, "RATE_LIMITED")
        assert int(over.headers["Retry-After"]) > 3600
        kinds = {one["@type"].rpartition(".")[2] for one in over.json["error"]["details"]}
        assert kinds == {"ErrorInfo", "QuotaFailure", "RetryInfo"}
        async with web.watch() as events:
            await anext(events)
            assert (await web.call(WATCH)).status == 429
        await until(lambda: not gate.bare.running.entrance.quotas.streams)


async def test_http_is_encrypted_where_grpc_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with (
        service(server__tls__certificate=str(certificate), server__tls__key=str(key)) as desk,
        aiohttp.ClientSession() as session,
    ):
        port = desk.running.metrics_port
        async with session.get(f"https://localhost:{port}/api/debt_mgmt/health", ssl=trusting) as answered:
            assert answered.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://localhost:{port}/api/debt_mgmt/health")
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://localhost:{port}/api/debt_mgmt/health")
