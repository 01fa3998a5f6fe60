"""The same service over HTTP: every method as JSON, events for browsers, and the short paths of scripts."""

import asyncio
import json
import logging
import shlex
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message

from debt_mgmt.core.access import Role
from debt_mgmt.server.web.answers import STATUS
from debt_mgmt.server.web.gateway import ASIDE_BYTES, BODY_BYTES_MOST
from debt_mgmt.v1 import margin_service_pb2
from tests.e2e.books import BUY, inverse_contract, open_hedge, open_mixed, put
from tests.e2e.test_every_method import READS
from tests.server.security.door import Door, door
from tests.server.security.signing import Authority
from tests.support.http import Answer, Http, http
from tests.support.service import Clock, Desk, service, slow_journal
from tests.support.wire import METHODS, MUTATIONS, call, failure_of, heads, request_class, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_STREAM = "MarginService/StreamCheckOrders"
WATCH = "MarginService/WatchMargin"

Running = tuple[Desk, Http]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Running]:
    """Two accounts, and time standing still."""
    async with service(clock=Clock()) as desk, http(desk.running.metrics_port) as web:
        await put(desk, inverse_contract())
        await open_mixed(desk)
        await open_hedge(desk)
        yield desk, web


@pytest_asyncio.fixture(loop_scope="module")
async def fresh() -> AsyncIterator[Running]:
    """One account `alice` at bybit, long 0.1 BTC at 60,000 with 10,000 USDT."""
    async with service(clock=Clock(), server__drain_seconds="2") as desk, http(desk.running.metrics_port) as web:
        await alice(desk, web)
        yield desk, web


async def alice(desk: Desk, web: Http) -> None:
    opened = await web.call(
        "AccountService/CreateAccount",
        {
            "request_id": "open-alice",
            "account_id": "alice",
            "owner": "desk",
            "broker": "bybit",
            "currency": "USDT",
            "initial_deposit": {"asset": "USDT", "amount": 10000},
        },
    )
    assert opened.status == 200, opened.text
    await desk.mark({"BTCUSDT": "60000"})
    await desk.fill("alice", BUY, "0.1", "BTCUSDT", "60000")


# every method


@pytest.mark.parametrize(("name", "request_sent"), READS, ids=[name for name, _ in READS])
async def test_a_read_answers_as_over_grpc(running: Running, name: str, request_sent: Message) -> None:
    desk, web = running
    answered = await web.call(name, json_format.MessageToDict(request_sent))
    assert answered.status == 200, answered.text
    expected = json_format.MessageToDict(
        await call(desk.channel, name, request_sent),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    assert answered.json == expected
    query = {key: value for key, value in json_format.MessageToDict(request_sent).items() if isinstance(value, str)}
    if len(query) == len(json_format.MessageToDict(request_sent)):
        assert (await web.get(f"/v1/{name}", None, **query)).json == expected


@pytest.mark.parametrize("name", sorted(set(METHODS) - {BOTH_STREAM, WATCH}))
async def test_every_method_is_reached_and_its_errors_are_those_of_grpc(running: Running, name: str) -> None:
    desk, web = running
    before = heads(desk.engine)
    answered = await web.call(name)
    try:
        await call(desk.channel, name, request_class(name)(), timeout=5)
    except grpc.aio.AioRpcError:
        failure = await failure_of(desk.channel, name, request_class(name)())
        assert answered.status == STATUS[failure.code.name], answered.text
        error = answered.json["error"]
        assert (error["code"], error["status"]) == (answered.status, failure.code.name)
        assert (answered.reason, answered.fields) == (failure.reason, failure.fields)
        assert error["message"] == failure.message
    else:
        assert answered.status == 200, answered.text
    if name in MUTATIONS:
        assert answered.status in (400, 501), "an empty request changes nothing"
        assert heads(desk.engine) == before
        assert (await web.get(f"/v1/{name}")).status == 405, "what changes something is not done by following a link"


async def test_a_method_with_two_streams_takes_grpc(running: Running) -> None:
    answered = await running[1].call(BOTH_STREAM)
    assert (answered.status, answered.json["error"]["status"]) == (501, "UNIMPLEMENTED")
    assert "gRPC" in answered.text


async def test_prices_are_published_by_one_request(fresh: Running) -> None:
    _, web = fresh
    published = await web.call("MarketService/PublishMarks", {"marks": [{"symbol": "BTCUSDT", "price": 61000.5}]})
    assert published.json["accepted_count"] in (1, "1")
    marks = (await web.get("/v1/MarketService/ListMarks")).json["marks"]
    assert [one["price"] for one in marks if one["symbol"] == "BTCUSDT"] == ["61000.5"]


async def test_a_change_is_repeatable_by_its_id_in_the_body_or_in_the_header(fresh: Running) -> None:
    _, web = fresh
    order = {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": 0.01}
    body = {"account_id": "alice", "order": order}
    first = await web.call("MarginService/ReserveMargin", {**body, "request_id": "r-1"})
    assert (first.status, first.json["accepted"], first.json["replayed"]) == (200, True, False)
    again = await web.call("MarginService/ReserveMargin", body, {"Idempotency-Key": '"r-1"'})
    assert again.json["replayed"] is True
    assert again.json["reservation"] == first.json["reservation"]
    other = await web.call(
        "MarginService/ReserveMargin", {**body, "order": {**order, "quantity": 1}, "request_id": "r-1"}
    )
    assert (other.status, other.reason) == (409, "REQUEST_ID_REUSED")
    both = await web.call("MarginService/ReserveMargin", {**body, "request_id": "r-2"}, {"Idempotency-Key": "r-3"})
    assert (both.status, both.fields) == (400, ["request_id"])
    neither = await web.call("MarginService/ReserveMargin", body)
    assert (neither.status, neither.fields) == (400, ["request_id"])


async def test_a_refusal_is_an_answer_with_its_numbers(fresh: Running) -> None:
    _, web = fresh
    body = {"account_id": "alice", "order": {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": 5}}
    answered = await web.call("MarginService/CheckOrder", body)
    assert answered.status == 200
    result = answered.json["result"]
    assert result["fits"] is False
    assert "REFUSAL_REASON_INSUFFICIENT_MARGIN" in [one["reason"] for one in result["violations"]]


# what scripts call

PORTFOLIO = """
curl -X GET "http://localhost:8000/api/debt_mgmt/portfolio" \
  -H "Authorization: Bearer YOUR_TOKEN"
"""
SET_LEVERAGE = """
curl -X POST "http://localhost:8000/api/debt_mgmt/leverage/set" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer YOUR_TOKEN" \
  -d '{
    "symbol": "BTCUSDT",
    "leverage": 3.0,
    "broker": "bybit"
  }'
"""
MARGIN_STATUS = """
curl -X GET "http://localhost:8000/api/debt_mgmt/margin/status" \
  -H "Authorization: Bearer YOUR_TOKEN"
"""
HEALTH = "curl http://localhost:8000/api/debt_mgmt/health"
METRICS = "curl http://localhost:8000/metrics"


async def curled(web: Http, command: str, token: str = "YOUR_TOKEN") -> Answer:
    """What the command gets from this service: by curl itself where it is, else by what its arguments say."""
    port = web.url.rpartition(":")[2]
    words = shlex.split(command.replace("localhost:8000", f"localhost:{port}").replace("YOUR_TOKEN", token))
    if shutil.which("curl"):
        shown = ["-s", "-w", "\n%{http_code}"]
        done = await asyncio.to_thread(subprocess.run, [*words, *shown], capture_output=True, text=True, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), {}, text)
    options = dict(pairwise(words))
    headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
    path = next(word for word in words if word.startswith("http")).partition(f":{port}")[2]
    body = options.get("-d")
    return await web.ask(options.get("-X", "GET"), path, body.encode() if body else None, headers)


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


# what goes wrong


async def test_malformed_requests_change_nothing_and_are_told_where(running: Running) -> None:
    desk, web = running
    before = heads(desk.engine)
    path = "/v1/MarginService/ReserveMargin"
    text, two = {"Content-Type": "text/plain"}, ["leverage", "symbol"]
    cases: list[tuple[str, str, Any, dict[str, str], int, list[str]]] = [
        ("POST", path, b"{", {}, 400, [""]),
        ("POST", path, b'{"order": {"symbol": "BTCUSDT", "side": "UP"}}', {}, 400, ["order.side"]),
        ("POST", path, b"{}", text, 415, [""]),
        ("POST", path, b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, [""]),
        ("POST", path, b" " * (BODY_BYTES_MOST + 1), {}, 413, [""]),
        ("PUT", path, b"{}", {}, 405, [""]),
        ("DELETE", "/api/debt_mgmt/portfolio", None, {}, 405, [""]),
        ("GET", "/api/debt_mgmt/leverage/set", None, {}, 405, [""]),
        ("POST", "/v1/MarginService/Guess", b"{}", {}, 404, [""]),
        ("POST", "/v1/Guess/CheckOrder", b"{}", {}, 404, [""]),
        ("POST", path, b"{}", {"X-Deadline-Seconds": "soon"}, 400, ["X-Deadline-Seconds"]),
        ("POST", path, b"{}", {"X-Deadline-Seconds": "-1"}, 400, ["X-Deadline-Seconds"]),
        ("POST", "/api/debt_mgmt/leverage/set", b'{"symbol": "BTCUSDT", "laverage": 3}', {}, 400, ["laverage"]),
        ("POST", "/api/debt_mgmt/leverage/set", b'{"account_id": "hedge", "leverage": "3x"}', {}, 400, two),
        ("GET", "/v1/MarginService/GetMarginStatus?acount=mixed", None, {}, 400, ["acount"]),
    ]  # fmt: skip
    for verb, where, body, headers, status, fields in cases:
        answered = await web.ask(verb, where, body, headers)
        assert (answered.status, answered.fields) == (status, fields), (verb, where, answered.text)
        assert answered.headers["Content-Type"].startswith("application/json")
        assert answered.headers["Server"] == "debt-mgmt"
    assert heads(desk.engine) == before


async def test_a_body_in_pieces_is_limited_too(running: Running) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (BODY_BYTES_MOST // 10)

    _, web = running
    url = f"{web.url}/v1/MarginService/ReserveMargin"
    async with web.session.post(url, data=pieces(), headers={"Content-Type": "application/json"}) as answered:
        assert answered.status == 413


async def test_a_large_batch_is_read_beside_the_loop_and_answered_alike(running: Running) -> None:
    desk, web = running
    order = {"symbol": "BTCUSDT", "side": "SIDE_SELL", "quantity": 0.001, "reduce_only": False}
    body = {"account_id": "mixed", "orders": [{**order, "quantity": f"0.{number:03}"} for number in range(1, 501)]}
    assert len(json.dumps(body)) > ASIDE_BYTES
    answered = await web.call("MarginService/BatchCheckOrders", body)
    assert len(answered.json["results"]) == 500
    request = json_format.ParseDict(body, margin_service_pb2.BatchCheckOrdersRequest())
    over_grpc = await call(desk.channel, "MarginService/BatchCheckOrders", request)
    assert over_grpc.ByteSize() > ASIDE_BYTES
    assert json_format.ParseDict(answered.json, margin_service_pb2.BatchCheckOrdersResponse()) == over_grpc


async def test_a_fault_of_the_service_tells_nothing_but_its_number(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk, web = running

    def broken(account_id: str) -> Any:
        raise RuntimeError("password=hunter2")

    with monkeypatch.context() as patched, caplog.at_level(logging.CRITICAL):
        patched.setattr(desk.engine, "account", broken)
        answered = await web.get("/v1/MarginService/GetMarginStatus", account_id="mixed")
        short = await web.get("/api/debt_mgmt/margin/status", account_id="mixed")
    for one in (answered, short):
        assert (one.status, one.reason) == (500, "INTERNAL")
        assert "incident" in one.text
        assert "hunter2" not in one.text


async def test_a_deadline_ends_the_call_and_the_same_id_tells_what_became_of_it(fresh: Running) -> None:
    desk, web = fresh
    body = {
        "request_id": "late",
        "account_id": "alice",
        "order": {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": "0.01"},
    }
    async with slow_journal(desk):
        late = await web.call("MarginService/ReserveMargin", body, {"X-Deadline-Seconds": "0.05"})
        assert (late.status, late.reason) == (504, "DEADLINE_EXPIRED")
        again = await web.call("MarginService/ReserveMargin", body, {"X-Deadline-Seconds": "10"})
    assert (again.status, again.json["accepted"]) == (200, True)
    rows = await desk.engine.journal.list_rows(account_id="alice")
    assert [row.kind for row in rows].count("MarginReserved") == 1


async def test_a_service_that_goes_away_says_when_to_come_back(fresh: Running) -> None:
    desk, web = fresh
    stopping: asyncio.Task[None] | None = None
    async with slow_journal(desk, 0.5):
        pending = asyncio.ensure_future(desk.reserve("alice", BUY, "0.01"))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(desk.running.stop())
        await asyncio.sleep(0.05)
        answered = await web.get("/v1/MarginService/GetMarginStatus", account_id="alice")
        assert (answered.status, answered.reason) == (503, "DRAINING")
        assert int(answered.headers["Retry-After"]) >= 1
        assert (await pending).accepted
    await stopping
    with pytest.raises(aiohttp.ClientConnectorError):
        await web.get("/health")


async def test_pages_of_other_sites_can_not_call_where_nobody_needs_a_token(running: Running) -> None:
    desk, web = running
    before = heads(desk.engine)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{web.url.rpartition(':')[2]}", "Origin": "http://evil.example"},
    ):
        for path in ("/v1/MarketService/ListMarks", "/api/debt_mgmt/leverage/set"):
            answered = await web.post(path, {}, headers)
            assert (answered.status, answered.reason) == (403, "PERMISSION_DENIED"), headers
            assert "Access-Control-Allow-Origin" not in answered.headers
    asked = await web.ask("OPTIONS", "/v1/MarketService/ListMarks", headers={"Origin": "https://evil.example"})
    assert asked.status == 403
    assert heads(desk.engine) == before
    assert (await web.post("/v1/MarketService/ListMarks", {}, {"Origin": web.url})).status == 200, "its own page"
    assert (await web.post("/v1/MarketService/ListMarks", {}, {"Host": "localhost:9090"})).status == 200


# events


async def test_events_tell_the_state_and_then_each_change(fresh: Running) -> None:
    desk, web = fresh
    async with web.watch(body={"account_ids": ["alice"], "min_interval": "0.01s"}) as events:
        first = await anext(events)
        assert (first.name, first.data["snapshot"]["margin_utilization"]) == ("snapshot", "0.3")
        assert first.id == first.data["resume_token"] != ""
        assert (await anext(events)).name == "snapshot_complete"
        await desk.mark({"BTCUSDT": "59000"})
        changed = await anext(events)
        assert (changed.name, changed.data["update"]["unrealized_pnl"]) == ("update", "-100")
        assert desk.engine.hub.count == 1
    await until(lambda: desk.engine.hub.count == 0)


async def test_events_go_on_where_they_broke_off(fresh: Running) -> None:
    desk, web = fresh
    async with web.watch() as events:
        last = [await anext(events) for _ in range(2)][-1]
    await desk.lever("alice", "BTCUSDT", "5")
    await desk.fill("alice", BUY, "0.5", "BTCUSDT", "60000")
    async with web.watch({"Last-Event-ID": last.id}) as events:
        missed = await anext(events)
        assert (missed.name, missed.data["alert"]["account_id"]) == ("alert", "alice")
        update = await anext(events)
        assert (update.name, update.data["update"]["margin_used"]) == ("update", "7200")
    async with web.watch({"Last-Event-ID": "made-up"}) as events:
        assert [(await anext(events)).name for _ in range(3)] == ["resync_required", "snapshot", "snapshot_complete"]


async def test_a_watch_that_can_not_begin_is_an_http_error(running: Running) -> None:
    _, web = running
    unknown = await web.get(f"/v1/{WATCH}", account_ids="nobody")
    assert (unknown.status, unknown.reason) == (404, "ACCOUNT_NOT_FOUND")
    assert (await web.call(WATCH, {"min_interval": "never"})).fields == ["min_interval"]


async def test_events_end_with_a_word_when_the_service_goes(fresh: Running) -> None:
    desk, web = fresh
    async with web.watch() as events:
        assert [(await anext(events)).name for _ in range(2)] == ["snapshot", "snapshot_complete"]
        stopping = asyncio.create_task(desk.running.stop())
        assert [event.name async for event in events] == ["draining"]
        await stopping


async def test_a_failure_while_events_run_is_the_last_event(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, web = fresh

    def broken(*given: Any) -> Any:
        raise RuntimeError("password=hunter2")

    async with web.watch() as events:
        assert [(await anext(events)).name for _ in range(2)] == ["snapshot", "snapshot_complete"]
        monkeypatch.setattr(desk.engine, "view_of", broken)
        desk.engine.hub.changed({"alice": desk.engine.account("alice")})
        rest = [event async for event in events]
    assert [event.name for event in rest] == ["failure"]
    assert rest[0].data["error"]["reason"] == "INTERNAL"
    assert "hunter2" not in str(rest[0])
    monkeypatch.undo()


# who may


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


async def test_http_is_counted_with_the_calls_over_grpc(fresh: Running) -> None:
    desk, web = fresh
    request = margin_service_pb2.GetMarginStatusRequest(account_id="alice")
    await desk.margin.GetMarginStatus(request)
    await web.get("/v1/MarginService/GetMarginStatus", account_id="alice")
    await web.get("/v1/MarginService/GetMarginStatus", account_id="nobody")
    text = (await web.get("/metrics")).text
    assert 'debt_mgmt_api_latency_seconds_count{method="MarginService/GetMarginStatus"} 3.0' in text
    assert 'failures_total{code="NOT_FOUND",method="MarginService/GetMarginStatus"} 1.0' in text


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


async def test_who_leaves_in_the_middle_leaves_nothing_behind(fresh: Running) -> None:
    desk, web = fresh
    watchers = desk.engine.hub
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.running.metrics_port)
    writer.write(f"GET /v1/{WATCH}?heartbeat_interval=3600s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"snapshot_complete")
    assert watchers.count == 1
    writer.close()
    await until(lambda: watchers.count == 0)
    _, writer = await asyncio.open_connection("127.0.0.1", desk.running.metrics_port)
    head = "POST /v1/MarginService/CheckOrder HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    assert (await web.get("/v1/MarketService/ListMarks")).status == 200
