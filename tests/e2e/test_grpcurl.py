"""Generic clients that know nothing of the contract: they find it by reflection, check an order, follow a stream."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from debt_mgmt.v1 import audit_service_pb2
from tests.e2e.books import BUY
from tests.support.service import Clock, Desk, service
from tests.support.wire import METHODS, SERVICES

TOOLS = Path(__file__).parents[2] / ".tools"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
PACKAGE = "debt_mgmt.v1"
REFLECTIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
WAIT_SECONDS = 20.0


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as running:
        await running.open("demo", "10000", "USDT")
        await running.mark({"BTCUSDT": "60000"})
        await running.fill("demo", BUY, "0.1", "BTCUSDT", "60000")
        yield running


@pytest.fixture(scope="session")
def grpcurl() -> str:
    """The program, from the path or the project's own tools; installed there where Go is."""
    search = os.pathsep.join([str(TOOLS), os.environ.get("PATH", "")])
    found = shutil.which("grpcurl", path=search)
    if found is not None:
        return found
    go = shutil.which("go")
    if go is None:
        pytest.skip("neither grpcurl nor go is on this machine")
    made = subprocess.run(
        [go, "install", GRPCURL], env=os.environ | {"GOBIN": str(TOOLS)}, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return str(TOOLS / "grpcurl")


@pytest.fixture(scope="session")
def buf() -> str:
    found = shutil.which("buf", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert found is not None, "buf comes with the development requirements"
    return found


async def output_of(*command: str) -> str:
    """What a program says that must succeed."""
    running = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(running.communicate(), WAIT_SECONDS)
    assert running.returncode == 0, err.decode()
    return as_in_the_contract(out.decode())


def as_in_the_contract(text: str) -> str:
    """JSON with the contract's own names of fields, however the program spells them."""
    return re.sub(r'"(\w+)":', lambda key: re.sub(r"(?<=[a-z])([A-Z])", r"_\1", key[0]).lower(), text)


def request(**fields: Any) -> str:
    return json.dumps(fields)


ORDER = {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": "0.1"}
CHECK = request(account_id="demo", order=ORDER)
TOO_LARGE = request(account_id="demo", order=ORDER | {"quantity": "9"})
WATCH = request(account_ids=["demo"], min_interval="0.01s")


def assert_checked(answer: dict[str, Any]) -> None:
    assert answer["result"]["fits"] is True
    assert answer["result"]["margin_required"] == "3300"
    assert answer["result"]["after"]["margin_used"] == "6000"


async def assert_followed(desk: Desk, *command: str) -> None:
    """A program that watches says the snapshot, and then the change."""
    running = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    seen = ""

    async def says(text: str) -> None:
        nonlocal seen
        assert running.stdout is not None
        while text not in seen:
            part = await running.stdout.read(65536)
            assert part, f"it ended early: {seen}"
            seen += as_in_the_contract(part.decode())

    try:
        await asyncio.wait_for(says("snapshot_complete"), WAIT_SECONDS)
        assert '"update"' not in seen
        await desk.mark({"BTCUSDT": "61000"})
        await asyncio.wait_for(says('"unrealized_pnl": "100"'), WAIT_SECONDS)
        assert '"update"' in seen
    finally:
        running.terminate()
        await running.communicate()
    await asyncio.sleep(0)


# grpcurl


async def test_grpcurl_lists_services_and_methods(desk: Desk, grpcurl: str) -> None:
    address = f"127.0.0.1:{desk.running.port}"
    listed = (await output_of(grpcurl, "-plaintext", address, "list")).split()
    assert listed == sorted([*SERVICES, "grpc.health.v1.Health", *REFLECTIONS])
    methods = (await output_of(grpcurl, "-plaintext", address, "list", f"{PACKAGE}.MarginService")).split()
    expected = [f"{PACKAGE}.{name.replace('/', '.')}" for name in METHODS if name.startswith("MarginService/")]
    assert sorted(methods) == sorted(expected)


async def test_grpcurl_describes_services_methods_and_messages(desk: Desk, grpcurl: str) -> None:
    address = f"127.0.0.1:{desk.running.port}"
    for symbol, said in (
        ("MarginService", "rpc WatchMargin ( .debt_mgmt.v1.WatchMarginRequest )"),
        ("MarginService.CheckOrder", "rpc CheckOrder ( .debt_mgmt.v1.CheckOrderRequest )"),
        ("CheckOrderRequest", ".debt_mgmt.v1.Order order = 2"),
        ("RefusalReason", "REFUSAL_REASON_INSUFFICIENT_MARGIN = 24"),
        ("Order.quantity", "string quantity"),
    ):
        assert said in await output_of(grpcurl, "-plaintext", address, "describe", f"{PACKAGE}.{symbol}")
    stable = await output_of(grpcurl, "-plaintext", address, "describe", REFLECTIONS[0])
    assert "grpc.reflection.v1.ServerReflectionRequest" in stable


async def test_grpcurl_checks_an_order(desk: Desk, grpcurl: str) -> None:
    address, method = f"127.0.0.1:{desk.running.port}", f"{PACKAGE}.MarginService/CheckOrder"
    assert_checked(json.loads(await output_of(grpcurl, "-plaintext", "-d", CHECK, address, method)))
    refused = json.loads(await output_of(grpcurl, "-plaintext", "-d", TOO_LARGE, address, method))
    reasons = [one["reason"] for one in refused["result"]["violations"]]
    assert reasons == ["REFUSAL_REASON_INSUFFICIENT_MARGIN", "REFUSAL_REASON_UTILIZATION_AFTER"]


async def test_grpcurl_shows_every_bad_field(desk: Desk, grpcurl: str) -> None:
    address, method = f"127.0.0.1:{desk.running.port}", f"{PACKAGE}.MarginService/CheckOrder"
    bad = request(account_id="demo", order={"symbol": "B C", "quantity": "NaN"})
    running = await asyncio.create_subprocess_exec(
        grpcurl, "-plaintext", "-d", bad, address, method, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, err = await asyncio.wait_for(running.communicate(), WAIT_SECONDS)
    assert running.returncode == 64 + 3, "INVALID_ARGUMENT"
    for word in ("InvalidArgument", "INVALID_REQUEST", "order.symbol", "order.side", "order.quantity"):
        assert word in err.decode()


async def test_grpcurl_follows_the_margin(desk: Desk, grpcurl: str) -> None:
    address, method = f"127.0.0.1:{desk.running.port}", f"{PACKAGE}.MarginService/WatchMargin"
    await assert_followed(desk, grpcurl, "-plaintext", "-d", WATCH, address, method)


# buf curl


def buf_curl(buf: str, *arguments: str) -> list[str]:
    return [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments]


@pytest.mark.parametrize("reflection", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_finds_the_contract_by_either_reflection(desk: Desk, buf: str, reflection: str) -> None:
    url = f"http://127.0.0.1:{desk.running.port}"
    chosen = ["--reflect-protocol", reflection]
    listed = (await output_of(*buf_curl(buf, *chosen, "--list-services", url))).split()
    assert set(listed) == {*SERVICES, "grpc.health.v1.Health", *REFLECTIONS}
    methods = (await output_of(*buf_curl(buf, *chosen, "--list-methods", url))).split()
    assert {f"{PACKAGE}.{name}" for name in METHODS} <= set(methods)
    answer = await output_of(*buf_curl(buf, *chosen, "-d", CHECK, f"{url}/{PACKAGE}.MarginService/CheckOrder"))
    assert_checked(json.loads(answer))


async def test_buf_follows_the_margin(desk: Desk, buf: str) -> None:
    url = f"http://127.0.0.1:{desk.running.port}/{PACKAGE}.MarginService/WatchMargin"
    await assert_followed(desk, *buf_curl(buf, "-d", WATCH, url))


async def test_what_they_ask_is_in_the_audit(desk: Desk, buf: str) -> None:
    url = f"http://127.0.0.1:{desk.running.port}/{PACKAGE}.FundService/Deposit"
    deposit = request(request_id="by-hand", account_id="demo", asset="USDT", amount="5")
    assert json.loads(await output_of(*buf_curl(buf, "-d", deposit, url)))["balance"]["amount"] == "10005"
    found = await desk.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(request_id="by-hand"))
    assert [one.kind for one in found.events] == ["Transferred"]
    assert json.loads(found.events[0].actor)["peer"].startswith("ipv4:127.0.0.1:")
