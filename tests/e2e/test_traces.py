"""Traces: one way from the caller's span to the journal; and lines of the log that name the request and no secret."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from debt_mgmt.server import app, tracing
from debt_mgmt.server.cli.logs import JsonFormatter
from debt_mgmt.server.config_server import TracesSection
from debt_mgmt.v1 import fund_service_pb2, margin_service_pb2, types_pb2
from tests.support.service import Desk, service

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE_ID}-b7ad6b7169203331"
CANARY = "canary7secret7never7to7be7seen"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What a service exports that samples nothing but what its callers sample."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(app, "tracing_of", lambda settings: tracing.Tracing(SimpleSpanProcessor(exporter), 0.0))
    yield exporter
    exporter.shutdown()


@pytest_asyncio.fixture
async def desk(spans: InMemorySpanExporter) -> AsyncIterator[Desk]:
    async with service() as running:
        await running.open("alice")
        await running.mark({"BTCUSDT": "50000"})
        yield running


async def deposit(desk: Desk, request_id: str, *metadata: tuple[str, str], account_id: str = "alice") -> Any:
    request = fund_service_pb2.DepositRequest(request_id=request_id, account_id=account_id, asset="USD", amount="5")
    return await desk.funds.Deposit(request, metadata=metadata)


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


async def test_a_sampled_call_is_a_child_of_its_callers_span_and_its_append_a_child_of_it(
    desk: Desk, spans: InMemorySpanExporter
) -> None:
    answer = await deposit(desk, "d-1", ("traceparent", f"{CALLER}-01"))
    call, append = named(spans, "FundService/Deposit"), named(spans, "journal append")
    assert call.context is not None
    assert call.parent is not None
    assert append.parent is not None
    assert append.context is not None
    assert f"{call.context.trace_id:032x}" == f"{append.context.trace_id:032x}" == TRACE_ID
    assert f"{call.parent.span_id:016x}" == "b7ad6b7169203331"
    assert append.parent.span_id == call.context.span_id
    assert dict(call.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "debt_mgmt.v1.FundService",
        "rpc.method": "Deposit",
        "debt_mgmt.request_id": "d-1",
        "debt_mgmt.account_id": "alice",
    }
    assert append.attributes is not None
    assert append.attributes["debt_mgmt.position"] == answer.revision.position
    assert append.start_time is not None
    assert append.end_time is not None
    assert append.start_time <= append.end_time


async def test_what_the_caller_does_not_sample_is_not_traced(desk: Desk, spans: InMemorySpanExporter) -> None:
    await deposit(desk, "d-1", ("traceparent", f"{CALLER}-00"))
    await deposit(desk, "d-2")
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("parent", ["", "nonsense", "x" * 55, f"00-{'0' * 32}-{'0' * 16}-zz", "00-é" + "1" * 60])
async def test_a_broken_parent_breaks_no_call(desk: Desk, parent: str) -> None:
    answer = await deposit(desk, "d-1", ("traceparent", parent.encode("ascii", "ignore").decode()))
    assert answer.accepted


async def test_a_call_that_ends_with_an_error_says_why_by_its_reason_only(
    desk: Desk, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(Exception, match="not known"):
        await deposit(desk, "d-1", ("traceparent", f"{CALLER}-01"), account_id=CANARY)
    call = named(spans, "FundService/Deposit")
    assert (call.status.status_code.name, call.status.description) == ("ERROR", "ACCOUNT_NOT_FOUND")
    assert call.events == ()


async def test_a_check_is_traced_without_a_journal_and_so_is_a_call_over_http(
    desk: Desk, spans: InMemorySpanExporter
) -> None:
    order = types_pb2.Order(symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity="0.01")
    request = margin_service_pb2.CheckOrderRequest(account_id="alice", order=order)
    await desk.margin.CheckOrder(request, metadata=(("traceparent", f"{CALLER}-01"),))
    assert [span.name for span in spans.get_finished_spans()] == ["MarginService/CheckOrder"]
    spans.clear()
    url = f"http://127.0.0.1:{desk.running.metrics_port}/v1/FundService/Deposit"
    body = {"request_id": "d-1", "account_id": "alice", "asset": "USD", "amount": "5"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers={"traceparent": f"{CALLER}-01"}) as answer,
    ):
        assert answer.status == 200, await answer.text()
    assert sorted(span.name for span in spans.get_finished_spans()) == ["FundService/Deposit", "journal append"]


async def test_by_chance_all_or_none_are_sampled_at_the_ends_of_the_scale() -> None:
    for share, expected in ((1.0, True), (0.0, False)):
        tracer = tracing.Tracing(SimpleSpanProcessor(InMemorySpanExporter()), share)
        assert {tracer.samples(None) for _ in range(100)} == {expected}
        await tracer.stop()


async def test_traces_are_off_by_default() -> None:
    assert tracing.tracing_of(TracesSection()) is None
    async with service() as desk:
        await desk.open("alice")
        answer = await deposit(desk, "d-1", ("traceparent", f"{CALLER}-01"))
        assert answer.accepted


async def test_spans_reach_a_collector_over_http() -> None:
    received: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response()

    collector = web.Application()
    collector.router.add_post("/v1/traces", take)
    async with TestServer(collector) as server:
        url = str(server.make_url("/v1/traces"))
        async with service(server__traces__exporter="otlp", server__traces__endpoint=url) as desk:
            await desk.open("alice")
            await deposit(desk, "d-1", ("traceparent", f"{CALLER}-01"))
    assert b"FundService/Deposit" in b"".join(received), "what is left is sent when the service stops"
    assert b"journal append" in b"".join(received)


@pytest.mark.parametrize("exporter", ["console", "otlp"])
async def test_every_exporter_can_be_configured(exporter: Any) -> None:
    settings = TracesSection(exporter=exporter, endpoint="http://127.0.0.1:9/v1/traces", sampled_share=0.5)
    made = tracing.tracing_of(settings)
    assert made is not None
    assert made.sampled_share == 0.5
    await made.stop()


@contextmanager
def json_log() -> Iterator[io.StringIO]:
    """What the service logs meanwhile, as it is written with server.log_format json, at the most talkative level."""
    output = io.StringIO()
    written = logging.StreamHandler(output)
    written.setFormatter(JsonFormatter())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(written)
    root.setLevel(logging.DEBUG)
    try:
        yield output
    finally:
        root.removeHandler(written)
        root.setLevel(level)


async def test_a_line_of_the_log_names_the_request_and_the_trace_that_it_is_about(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: object, **named: object) -> None:
        logging.getLogger("debt_mgmt.server.engine").warning("about to break")
        raise RuntimeError("a bug")

    monkeypatch.setattr(desk.engine, "submit", broken)
    with json_log() as output:
        with pytest.raises(Exception, match="incident"):
            await deposit(desk, "d-77", ("traceparent", f"{CALLER}-01"))
        with pytest.raises(Exception, match="incident"):
            await deposit(desk, "d-78")
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    of_first = [line for line in lines if line.get("request_id") == "d-77"]
    assert [line["message"].split(",")[0] for line in of_first] == ["about to break", "FundService/Deposit failed"]
    assert of_first[0]["trace_id"] == TRACE_ID
    assert {line.get("trace_id") for line in lines if line.get("request_id") == "d-78"} == {None}


async def test_no_secret_is_in_the_log_however_talkative_it_is(tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    settings: Any = {"server__auth": "tokens", "server__admin_token_file": str(token_file)}
    settings |= {"database__host": "db", "database__password": CANARY}
    with json_log() as output:
        async with service(**settings) as desk:
            with pytest.raises(Exception, match="token"):
                await deposit(desk, "d-1", ("authorization", f"Bearer {CANARY}"))
            url = f"http://127.0.0.1:{desk.running.metrics_port}/v1/FundService/Deposit"
            headers = {"Authorization": f"Bearer {CANARY}"}
            async with aiohttp.ClientSession() as session, session.post(url, json={}, headers=headers) as answer:
                assert answer.status == 401
            token = token_file.read_text("utf-8").strip()
            with pytest.raises(Exception, match="not known"):
                await deposit(desk, "d-2", ("authorization", f"Bearer {token}"))
    log = output.getvalue()
    assert log
    assert CANARY not in log
    assert token not in log
