"""What is seen from outside: health by service and of the protection itself, /health, and /metrics after traffic."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from debt_mgmt.v1 import margin_service_pb2
from tests.e2e.books import BUY, open_fresh, order
from tests.support.service import Clock, Desk, service, slow_journal
from tests.support.wire import SERVICES, failure_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROTECTING = "debt_mgmt.protecting"

Running = tuple[Desk, Clock]


@pytest_asyncio.fixture(loop_scope="module")
async def running() -> AsyncIterator[Running]:
    clock = Clock()
    async with service(clock=clock, server__drain_seconds="0.5") as desk:
        await desk.mark({"BTCUSDT": "60000"})
        yield desk, clock


async def fetched(desk: Desk, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{desk.running.metrics_port}{path}"
        async with session.get(url) as answer:
            return answer.status, await answer.text()


async def health_of(desk: Desk, name: str) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(desk.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def protection_becomes(desk: Desk, status: Any) -> None:
    """Follow the health of the protection until it says so."""
    stub: Any = health_pb2_grpc.HealthStub(desk.channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=PROTECTING), timeout=5):
        if answer.status == status:
            return


async def test_every_service_is_serving(running: Running) -> None:
    desk, _ = running
    for name in ("", *SERVICES):
        assert await health_of(desk, name) == SERVING, name
    await protection_becomes(desk, SERVING)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await health_of(desk, "debt_mgmt.v1.NoSuchService")
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


async def test_protection_is_off_while_a_price_is_too_old(running: Running) -> None:
    desk, clock = running
    name = await open_fresh(desk)
    clock.advance(seconds=31)
    await desk.engine.sweep()
    assert desk.engine.health().protecting, "nobody holds anything yet"
    await desk.mark({"BTCUSDT": "60000"})
    await desk.fill(name, BUY, "0.1", "BTCUSDT", "60000")
    clock.advance(seconds=31)
    await desk.engine.sweep()
    status, body = await fetched(desk, "/health")
    assert (status, json.loads(body)) == (
        200,
        {"serving": True, "protecting": False, "reasons": ["no fresh price for BTCUSDT"]},
    )
    await protection_becomes(desk, NOT_SERVING)
    assert await health_of(desk, "debt_mgmt.v1.MarginService") == SERVING
    assert "debt_mgmt_protecting 0.0" in (await fetched(desk, "/metrics"))[1]
    await desk.mark({"BTCUSDT": "60000"})
    await protection_becomes(desk, SERVING)
    assert json.loads((await fetched(desk, "/health"))[1])["protecting"] is True


async def test_health_turns_before_the_service_goes(running: Running) -> None:
    desk, _ = running
    stub: Any = health_pb2_grpc.HealthStub(desk.channel)
    watched = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    assert (await watched.read()).status == SERVING
    await desk.running.stop()
    assert (await watched.read()).status == NOT_SERVING


async def test_a_command_under_way_is_finished_before_the_service_goes(running: Running) -> None:
    desk, _ = running
    name = await open_fresh(desk)
    async with slow_journal(desk):
        pending = asyncio.ensure_future(desk.reserve(name, BUY, "0.01"))
        await asyncio.sleep(0.05)
        desk.running.engine.hub.drain()
        stopping = asyncio.create_task(desk.running.stop())
        assert (await asyncio.wait_for(pending, 5)).accepted
        await asyncio.wait_for(stopping, 10)
    rows = await desk.engine.journal.list_rows(account_id=name)
    assert rows[-1].kind == "MarginReserved"


def sample(text: str, name: str, **labels: str) -> float:
    """The value of one line of the metrics."""
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    line = re.escape(f"{name}{{{shown}}}" if labels else name)
    found = re.search(rf"^{line} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"{name} {labels} is not shown"
    return float(found[1])


async def test_metrics_have_values_after_traffic(running: Running) -> None:
    desk, _ = running
    name = await open_fresh(desk)
    await desk.lever(name, "BTCUSDT", "5")
    await desk.fill(name, BUY, "0.5", "BTCUSDT", "60000")
    check = margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "0.01"))
    for _ in range(3):
        await desk.margin.CheckOrder(check)
    await failure_of(
        desk.channel, "MarginService/CheckOrder", margin_service_pb2.CheckOrderRequest(account_id="nobody")
    )
    await desk.reserve(name, BUY, "5")
    status, text = await fetched(desk, "/metrics")
    assert status == 200
    assert sample(text, "debt_mgmt_margin_utilization", account=name) == pytest.approx(0.6)
    assert sample(text, "debt_mgmt_open_positions") == 1
    assert sample(text, "debt_mgmt_liquidations_total") == 0
    method = {"method": "MarginService/CheckOrder"}
    assert sample(text, "debt_mgmt_api_latency_seconds_count", **method) == 4
    assert sample(text, "debt_mgmt_api_latency_seconds_bucket", le="+Inf", **method) == 4
    assert sample(text, "debt_mgmt_api_latency_seconds_sum", **method) > 0
    assert sample(text, "debt_mgmt_api_failures_total", code="NOT_FOUND", **method) == 1
    assert sample(text, "debt_mgmt_refusals_total", reason="INSUFFICIENT_MARGIN") == 1
    await desk.mark({"BTCUSDT": "51000"})
    _, text = await fetched(desk, "/metrics")
    assert sample(text, "debt_mgmt_liquidations_total") == 1
    assert sample(text, "debt_mgmt_margin_utilization", account=name) <= 0.7
    assert sample(text, "debt_mgmt_accounts_by_level", level="NORMAL") + sample(
        text, "debt_mgmt_accounts_by_level", level="WARNING"
    ) == sample(text, "debt_mgmt_accounts")


async def test_who_follows_the_health_does_not_hold_up_the_end() -> None:
    async with service(server__drain_seconds="20") as desk:
        stub: Any = health_pb2_grpc.HealthStub(desk.channel)
        following = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await following.read()).status == SERVING
        began = asyncio.get_running_loop().time()
        await desk.running.stop()
        assert asyncio.get_running_loop().time() - began < 10
        assert (await following.read()).status == NOT_SERVING
