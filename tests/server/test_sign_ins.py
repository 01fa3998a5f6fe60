"""Sign-in failures are journaled: who, why, how often; and a flood of them is a few events."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest_asyncio

from debt_mgmt.server.sign_ins import SUBJECTS_MOST, SignIns, host_of
from debt_mgmt.v1 import audit_service_pb2 as wire
from tests.server.rpc.edge import CALL, Edge, running_edge


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[Edge]:
    async for one in running_edge():
        yield one


async def failures(edge: Edge) -> list[tuple[str, str, int]]:
    request = wire.ListAuditEventsRequest(kinds=["SignInFailed"], page_size=1000)
    found = (await edge.audit.ListAuditEvents(request, CALL)).events
    fields = [json.loads(event.payload) for event in found]
    return [(one["peer"], one["reason"], one.get("count", 1)) for one in fields]


async def test_a_failure_is_journaled_at_once_with_who_and_why(edge: Edge) -> None:
    sign_ins = SignIns(edge.engine)
    sign_ins.failed("the token has expired", "ipv4:10.0.0.7:41234", "MarginService/CheckOrder")
    await sign_ins.finish()
    assert await failures(edge) == [("ipv4:10.0.0.7", "the token has expired", 1)]


async def test_repetitions_are_counted_and_told_once_a_minute(edge: Edge) -> None:
    sign_ins = SignIns(edge.engine)
    for port in range(1000):
        sign_ins.failed("no token", f"ipv4:10.0.0.7:{port}", "MarginService/CheckOrder")
    sign_ins.flush()
    await asyncio.gather(*sign_ins.writing)
    assert [count for _, _, count in await failures(edge)] == [1]
    edge.clock.advance(seconds=61)
    sign_ins.flush()
    await asyncio.gather(*sign_ins.writing)
    assert [count for _, _, count in await failures(edge)] == [1, 999]
    edge.clock.advance(seconds=61)
    sign_ins.flush()
    assert not sign_ins.gathered


async def test_a_flood_from_everywhere_does_not_fill_the_journal(edge: Edge) -> None:
    sign_ins = SignIns(edge.engine)
    for number in range(5000):
        sign_ins.failed("no token", f"ipv4:10.0.{number // 250}.{number % 250}:1", "MarginService/CheckOrder")
    await sign_ins.finish()
    found = await failures(edge)
    assert sum(count for _, _, count in found) == 5000
    assert len(found) <= 2 * (SUBJECTS_MOST + 1)


async def test_what_is_counted_is_not_lost_at_the_end(edge: Edge) -> None:
    sign_ins = SignIns(edge.engine)
    for _ in range(3):
        sign_ins.failed("no token", "unix:", "MarginService/CheckOrder")
    await sign_ins.finish()
    assert sum(count for _, _, count in await failures(edge)) == 3


def test_a_peer_is_told_apart_by_its_host() -> None:
    assert host_of("ipv4:10.0.0.7:41234") == "ipv4:10.0.0.7"
    assert host_of("ipv6:[::1]:41234") == "ipv6:[::1]"
    assert host_of("unix:") == "unix:"
