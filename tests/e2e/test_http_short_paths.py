"""The short paths of scripts, called by the very commands that people copy: plain numbers, nothing guessed."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from tests.e2e.books import BUY
from tests.support.http import (
    HEALTH,
    MARGIN_STATUS,
    METRICS,
    PORTFOLIO,
    SET_LEVERAGE,
    Running,
    alice,
    curled,
    http,
)
from tests.support.service import Clock, service
from tests.support.wire import heads

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def fresh() -> AsyncIterator[Running]:
    """One account `alice` at bybit, long 0.1 BTC at 60,000 with 10,000 USDT."""
    async with service(clock=Clock(), server__drain_seconds="2") as desk, http(desk.running.metrics_port) as web:
        await alice(desk, web)
        yield desk, web


async def test_the_portfolio_has_its_six_names_and_exact_numbers(fresh: Running) -> None:
    desk, web = fresh
    await desk.mark({"BTCUSDT": "60123.456789012345"})
    answered = await curled(web, PORTFOLIO)
    assert answered.status == 200
    shown = answered.json
    assert {name: shown[name] for name in list(shown)[1:7]} == {
        "total_value": Decimal("10012.345678901234"),
        "margin_used": Decimal("3006.172839450618"),
        "margin_available": Decimal("7006.172839450617"),
        "margin_utilization": Decimal("0.30024661"),
        "unrealized_pnl": Decimal("12.345678901234"),
        "realized_pnl": 0,
    }
    assert (shown["currency"], shown["account_count"], shown["stale"]) == ("USDT", 1, False)


async def test_leverage_is_set_as_asked_and_never_quietly_otherwise(fresh: Running) -> None:
    desk, web = fresh
    answered = await curled(web, SET_LEVERAGE)
    assert answered.status == 200, answered.text
    shown = answered.json
    assert (shown["accepted"], shown["account_id"], shown["broker"]) == (True, "alice", "bybit")
    assert (shown["symbol"], shown["leverage"], shown["state"], shown["violations"]) == ("BTCUSDT", 3, "CONFIRMED", [])
    assert desk.engine.account("alice").leverage["BTCUSDT"] == 3
    assert (await curled(web, SET_LEVERAGE)).json["request_id"] != shown["request_id"], "each is a request of its own"
    before = heads(desk.engine)
    repeated = await web.post(
        "/api/debt_mgmt/leverage/set",
        {"symbol": "BTCUSDT", "leverage": "3.0", "broker": "bybit"},
        {"Idempotency-Key": shown["request_id"]},
    )
    assert (repeated.status, repeated.json["replayed"]) == (200, True)
    assert heads(desk.engine) == before
    high = await web.post("/api/debt_mgmt/leverage/set", {"symbol": "BTCUSDT", "leverage": 5.5, "broker": "bybit"})
    assert (high.status, high.json["accepted"], high.json["leverage"]) == (422, False, 3)
    assert {one["reason"] for one in high.json["violations"]} >= {"LEVERAGE_ABOVE_ACCOUNT"}
    assert high.json["violations"][0]["limit"] == 5
    assert desk.engine.account("alice").leverage["BTCUSDT"] == 3


async def test_the_margin_status_is_in_plain_numbers(fresh: Running) -> None:
    desk, web = fresh
    answered = await curled(web, MARGIN_STATUS)
    assert answered.status == 200
    shown = answered.json
    status = await desk.status("alice")
    assert (shown["account_id"], shown["level"], shown["trading_state"]) == ("alice", "NORMAL", "ACTIVE")
    assert (shown["margin_used"], shown["margin_utilization"]) == (3000, Decimal("0.3"))
    assert shown["thresholds"]["margin_call_threshold"] == Decimal("0.7")
    assert shown["marks"][0]["price"] == 60000
    assert set(status.DESCRIPTOR.fields_by_name) < set(shown)


async def test_what_is_not_known_is_null_and_never_zero(fresh: Running) -> None:
    desk, web = fresh
    await desk.fill("alice", BUY, "1", "ETHUSDT", "3000")
    shown = (await web.get("/api/debt_mgmt/margin/status")).json
    assert shown["stale"] is True
    assert shown["equity"] is None
    assert shown["margin_utilization"] is None
    portfolio = (await web.get("/api/debt_mgmt/portfolio")).json
    assert portfolio["total_value"] is None
    assert portfolio["stale"] is True


async def test_health_and_metrics_are_where_they_were(fresh: Running) -> None:
    _, web = fresh
    health = await curled(web, HEALTH)
    assert (health.status, health.json["serving"]) == (200, True)
    metrics = await curled(web, METRICS)
    assert metrics.status == 200
    assert "debt_mgmt_margin_utilization" in metrics.text


async def test_an_account_is_taken_only_where_there_is_no_choice(fresh: Running) -> None:
    desk, web = fresh
    body = {"symbol": "BTCUSDT", "leverage": 3.0}
    other = await web.post("/api/debt_mgmt/leverage/set", {**body, "broker": "okx"})
    assert (other.status, other.fields) == (400, ["account_id"])
    assert "no account at okx" in other.text
    await desk.open("bob", currency="USDT")
    several = await web.post("/api/debt_mgmt/leverage/set", body)
    assert (several.status, several.fields) == (400, ["account_id"])
    assert "2 accounts" in several.text
    assert (await web.get("/api/debt_mgmt/margin/status")).fields == ["account_id"]
    assert (await web.get("/api/debt_mgmt/margin/status", account_id="bob")).json["account_id"] == "bob"
    assert (await curled(web, SET_LEVERAGE)).json["account_id"] == "alice", "the only one at bybit"
    wrong = await web.post("/api/debt_mgmt/leverage/set", {**body, "broker": "bybit", "account_id": "bob"})
    assert (wrong.status, wrong.fields) == (400, ["broker"])


async def test_a_portfolio_in_two_currencies_has_no_sum(fresh: Running) -> None:
    desk, web = fresh
    await desk.open("bob", currency="EUR")
    both = await web.get("/api/debt_mgmt/portfolio")
    assert (both.status, both.fields) == (400, ["currency"])
    assert "EUR, USDT" in both.text
    assert (await web.get("/api/debt_mgmt/portfolio", currency="EUR")).json["currency"] == "EUR"
    assert (await web.get("/api/debt_mgmt/portfolio", account_id="alice")).json["currency"] == "USDT"
    assert (await web.get("/api/debt_mgmt/portfolio", currency="XAU")).status == 404
    assert (await web.get("/api/debt_mgmt/portfolio", acount="alice")).fields == ["acount"]
