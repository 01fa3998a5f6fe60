"""The same service over HTTP: every method as JSON, events for browsers, and the short paths of scripts."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message

from debt_mgmt.server.web.answers import STATUS
from debt_mgmt.server.web.gateway import ASIDE_BYTES, BODY_BYTES_MOST
from debt_mgmt.v1 import margin_service_pb2
from tests.e2e.books import BUY, inverse_contract, open_hedge, open_mixed, put
from tests.e2e.test_every_method import READS
from tests.support.http import BOTH_STREAM, WATCH, Running, alice, http
from tests.support.service import Clock, service, slow_journal
from tests.support.wire import METHODS, MUTATIONS, call, failure_of, heads, request_class

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_a_read_looks_back_where_its_header_says_so(fresh: Running) -> None:
    desk, web = fresh
    shard, position = desk.engine.revision("alice")
    await desk.lever("alice", "BTCUSDT", "5")
    then = {"debt-mgmt-as-of": f"{shard}:{position}"}
    for path, field in (("/v1/LeverageService/GetLeverage", "2"), ("/v1/LeverageService/GetLeverage", "5")):
        headers = then if field == "2" else None
        shown = await web.get(path, headers, account_id="alice", symbol="BTCUSDT")
        assert shown.json["setting"]["leverage"] == field


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


JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    -1e-300,
    "",
    "x",
    "\x00",
    "\ud800",
    "1e400",
    "9999999999s",
    [],
    {},
    [[]],
    [1] * 50,
]


def made_up(message: Any, chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """A request with some fields right, some wrong, some not there."""
    found: dict[str, Any] = {}
    for field in message.fields:
        if chance.random() < 0.35:
            continue
        value: Any = {"account_id": "mixed", "symbol": "BTCUSDT", "request_id": f"f-{chance.random()}"}.get(
            field.name, "1"
        )
        if chance.random() < 0.3 or depth > 3:
            value = chance.choice(JUNK)
        elif field.message_type is not None and not field.message_type.full_name.startswith("google."):
            value = made_up(field.message_type, chance, depth + 1)
        elif field.enum_type is not None:
            value = chance.choice(field.enum_type.values).name
        found[field.name] = [value] if field.is_repeated and not isinstance(value, list) else value
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_no_made_up_body_is_a_fault_of_the_service(seed: int) -> None:
    chance = random.Random(seed)
    async with service(clock=Clock()) as desk, http(desk.running.metrics_port) as web:
        await put(desk, inverse_contract())
        await open_mixed(desk)
        for name in sorted(set(METHODS) - {BOTH_STREAM, WATCH}) * 3:
            body = bytearray(json.dumps(made_up(METHODS[name].input_type, chance)).encode())
            if chance.random() < 0.2:
                body[chance.randrange(len(body))] = chance.randrange(256)
            answered = await web.call(name, bytes(body))
            assert answered.status in (200, 400, 404, 409, 422, 429, 501, 503), (seed, name, bytes(body), answered.text)
        assert (await web.get("/health")).json["serving"] is True


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


async def test_http_is_counted_with_the_calls_over_grpc(fresh: Running) -> None:
    desk, web = fresh
    request = margin_service_pb2.GetMarginStatusRequest(account_id="alice")
    await desk.margin.GetMarginStatus(request)
    await web.get("/v1/MarginService/GetMarginStatus", account_id="alice")
    await web.get("/v1/MarginService/GetMarginStatus", account_id="nobody")
    text = (await web.get("/metrics")).text
    assert 'debt_mgmt_api_latency_seconds_count{method="MarginService/GetMarginStatus"} 3.0' in text
    assert 'failures_total{code="NOT_FOUND",method="MarginService/GetMarginStatus"} 1.0' in text
