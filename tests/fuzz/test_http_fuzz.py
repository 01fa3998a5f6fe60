"""The short form of the fuzzing over HTTP, and callers who send a request byte by byte."""

import asyncio
import time

import pytest

from debt_mgmt.server.web import protocol
from tests.durability.program import running
from tests.fuzz.campaign import Findings, resident_bytes
from tests.fuzz.http_campaign import http_campaign, judge
from tests.fuzz.http_requests import KINDS, http_attempt
from tests.server.journal.places import open_place
from tests.support.http import http
from tests.support.service import service

REQUESTS, SEED = 2_500, 20
GROWTH_BYTES_MOST = 200_000_000
HONEST_SECONDS_MOST = 5.0
SLOW_CALLERS = 100


async def test_odd_requests_over_http_do_no_harm() -> None:
    with open_place() as place:
        async with running(place / "data") as program:
            before = resident_bytes(program.pid)
            found = await http_campaign(program, SEED, REQUESTS)
            assert program.child.poll() is None, program.log[-3000:]
            assert "Traceback" not in program.log, program.log[-3000:]
    assert found.wrong == []
    assert found.http_requests == REQUESTS
    assert max(found.memory) - before < GROWTH_BYTES_MOST
    assert found.honest_calls > 10 and found.honest_slowest_seconds < HONEST_SECONDS_MOST
    assert found.http_codes["400"] > REQUESTS / 10
    assert found.http_codes["200"] > REQUESTS / 10, "what is refused at the door finds nothing behind it"


def test_the_same_seed_makes_the_same_requests_of_every_kind() -> None:
    one, two, other = ([http_attempt(seed, number) for number in range(500)] for seed in (7, 7, 8))
    assert one == two != other
    assert {kind for kind, _ in one} == set(KINDS)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nServer: Python/3.11 aiohttp/3.14.5\r\n\r\n",
        b'HTTP/1.1 400 Bad Request\r\n\r\n{"message": "KeyError: 1"}',
    ],
)
def test_what_must_not_be_answered_is_told(said: bytes) -> None:
    findings = Findings()
    judge(1, "sane_call", b"", said, findings)
    assert len(findings.wrong) == 1
    judge(2, "sane_call", b"", b'HTTP/1.1 503 Service Unavailable\r\nServer: debt-mgmt\r\n\r\n{"error": {}}', findings)
    assert len(findings.wrong) == 1


async def test_who_sends_byte_by_byte_is_left_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 1.0)
    async with service() as desk, http(desk.running.metrics_port) as web:

        async def drip() -> float:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", desk.running.metrics_port)
            try:
                for number in range(300):
                    writer.write(b"GET /health HTTP/1.1\r\nX-Slow: "[number : number + 1] or b"y")
                    if await closed(reader):
                        return time.perf_counter() - began
                raise AssertionError("a request that never ends was waited for")
            finally:
                writer.transport.abort()

        dripping = asyncio.gather(*(drip() for _ in range(SLOW_CALLERS)))
        while not dripping.done():
            assert (await web.get("/health")).status == 200
            await asyncio.sleep(0.1)
        assert max(await dripping) < 15


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.1):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


async def test_a_packed_body_and_an_odd_header_are_refused_with_words() -> None:
    async with service() as desk, http(desk.running.metrics_port) as web:
        packed = await web.ask("POST", "/v1/AccountService/ListAccounts", b"{}", {"Content-Encoding": "gzip"})
        assert packed.status == 415 and "Content-Encoding" in packed.json["error"]["message"]
        for name in ("Last-Event-ID", "Idempotency-Key", "Expect"):
            reader, writer = await asyncio.open_connection("127.0.0.1", desk.running.metrics_port)
            head = f"POST /v1/MarginService/WatchMargin HTTP/1.1\r\nHost: localhost\r\n{name}: ".encode()
            writer.write(head + b"\xff\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            said = await reader.readuntil(b"\r\n")
            assert said.startswith(b"HTTP/1.1 400") or name == "Idempotency-Key", said
            assert not said.startswith(b"HTTP/1.1 5")
            writer.transport.abort()
