"""Sends over raw sockets what is no HTTP, or hardly any, and says what was wrong with the answers."""

import asyncio
import contextlib
import json
import re
import time

from tests.durability.program import Program
from tests.fuzz.campaign import INTERNALS, Findings, furnish, honest_caller, resident_bytes
from tests.fuzz.http_requests import http_attempt

TOGETHER = 16
ANSWER_SECONDS = 15.0
QUIET_SECONDS = 0.25
"""After an answer, nothing more is waited for than so long: the service keeps connections open."""
UNFINISHED = {"broken_off", "chunks", "smuggling", "not_http", "odd_path"}
"""What may be waited for by both sides: the sender hangs up."""
UNFINISHED_SECONDS = 0.3
ANSWER_BYTES_MOST = 2_000_000
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
MEANT = {"501", "503", "504", "505"}
"""Numbers from 500 on that are an answer: not offered, not now, not in your time, not this HTTP."""
OF_THE_LIBRARY = re.compile(r"aiohttp|yarl|uvloop|multidict|Python/")


async def attack_http(port: int, pid: int, seed: int, requests: int, findings: Findings) -> None:
    """`requests` of them, several at once, each over a connection of its own."""
    numbers = iter(range(requests))
    every = max(1, requests // 20)

    async def send() -> None:
        for number in numbers:
            kind, sent = http_attempt(seed, number)
            began = time.perf_counter()
            try:
                said = await exchanged(port, sent, kind)
            except (OSError, TimeoutError) as error:
                findings.tell(f"HTTP {number} {kind} was not accepted: {error!r}")
                continue
            findings.slowest_seconds = max(findings.slowest_seconds, time.perf_counter() - began)
            judge(number, kind, sent, said, findings)
            if number % every == 0:
                findings.memory.append(resident_bytes(pid))

    await asyncio.gather(*(send() for _ in range(TOGETHER)))


def judge(number: int, kind: str, sent: bytes, said: bytes, findings: Findings) -> None:
    codes = [code.decode() for code in STATUS_LINE.findall(said)] or ["none"]
    findings.http_codes.update(codes)
    findings.http_requests += 1
    text = said.decode("latin-1")
    leaked = OF_THE_LIBRARY.search(text.partition("\r\n\r\n")[0])
    if not leaked and set(codes) != {"200"}:  # what was asked for may tell an administrator of settings and files
        leaked = INTERNALS.search(text) or OF_THE_LIBRARY.search(text)
    bad = [code for code in codes if code.startswith("5") and code not in MEANT]
    mute = codes == ["none"] and kind not in UNFINISHED
    if bad or leaked or mute:
        why = f"was told {leaked.group()!r}" if leaked else f"got {codes}"
        findings.tell(f"HTTP {number} {kind} {why}: {text[:400]!r} sent {sent[:300]!r}")


async def exchanged(port: int, sent: bytes, kind: str) -> bytes:
    """What the service says to these bytes before it falls silent or hangs up."""
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        with contextlib.suppress(OSError):
            writer.write(sent)
            patience = UNFINISHED_SECONDS if kind in UNFINISHED else ANSWER_SECONDS
            drain = asyncio.ensure_future(writer.drain())
            with contextlib.suppress(TimeoutError):
                while len(said) < ANSWER_BYTES_MOST:
                    async with asyncio.timeout(QUIET_SECONDS if complete(said, sent) else patience):
                        more = await reader.read(65_536)
                    if not more:
                        break
                    said += more
                    if b"text/event-stream" in said:
                        break
                    if complete(said, sent) and kind != "pipelined":
                        break
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
    finally:
        if len(sent) % 3 == 0 or writer.transport.get_write_buffer_size():
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return said


def complete(said: bytes, sent: bytes) -> bool:
    """Whether one whole answer is there; one to HEAD has no body."""
    head, end, body = said.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    if not end or sent.startswith(b"HEAD "):
        return bool(end)
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


def http_port(program: Program) -> int:
    """Where a running service listens for HTTP."""
    said = json.loads(program.announcement.read_text().splitlines()[0])
    return int(said["http"].rpartition(":")[2])


async def http_campaign(program: Program, seed: int, requests: int, findings: Findings | None = None) -> Findings:
    """The attack against a running service, while an honest caller goes on; what is found is added to `findings`."""
    findings = findings or Findings()
    began = time.perf_counter()
    await furnish(program.target)
    async with honest_caller(program.target, findings, "honest-over-http"):
        await attack_http(http_port(program), program.pid, seed, requests, findings)
        findings.memory.append(resident_bytes(program.pid))
    findings.seconds += time.perf_counter() - began
    return findings
