"""Sends what is mutated and breaks connections while an honest caller goes on, and says what was wrong with it."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from debt_mgmt.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    fund_service_pb2,
    fund_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    types_pb2,
)
from tests.fuzz.connections import break_in
from tests.fuzz.mutations import Attempt, attempts
from tests.support.wire import METHODS

TOGETHER = 24
TIMEOUT_SECONDS = 10.0
STREAM_SECONDS = 0.15
"""Streams that go on for ever are left after so long."""
ANSWERS_MOST = 20
PACE_SECONDS = 0.02
HONEST = "honest-caller"
HONEST_SECONDS = 10.0
HONEST_PAUSE_SECONDS = 0.05

OF_THE_CLIENT = "Internal error from Core"
"""What gRPC's Python client says of itself when a stream was answered while it was still sending."""
BUGS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
INTERNALS = re.compile(
    r"Traceback|\.py\b|site-packages|<class|object at 0x|<debt_mgmt|NoneType|debt_mgmt\.(?:server|core|client)"
    r"|\b[A-Z]\w+(?:Error|Exception)\b|asyncpg|psycopg|msgspec|\bSELECT\b|\bINSERT\b|\bdebt_mgmt\.(?:journal|snapshot)"
    r"|Decimal\(|datetime\.|/(?:usr|opt|home|tmp|var|root|etc)/|postgres(?:ql)?:"
)
"""What a caller has no business to know: names of the program, of its files, of its tables."""


@dataclass
class Findings:
    """What came of it."""

    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must not be: bugs of the service, internals in its words, an honest caller who was not served."""
    connections: int = 0
    http_requests: int = 0
    http_codes: Counter[str] = field(default_factory=Counter)
    """By number; `none` where nothing was answered."""
    honest_calls: int = 0
    honest_slowest_seconds: float = 0.0
    slowest_seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    """Resident bytes of the service, now and then."""
    seconds: float = 0.0

    def tell(self, text: str) -> None:
        if len(self.wrong) < 50:
            self.wrong.append(text)

    @property
    def requests(self) -> int:
        return sum(self.codes.values())


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no memory is told of {pid}")


async def carry_out(channel: grpc.aio.Channel, one: Attempt, findings: Findings) -> None:
    started = time.perf_counter()
    try:
        await called(channel, one)
        code, said = grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as error:
        code, said = error.code(), error.details() or ""
        trailing = error.trailing_metadata()
        for _, content in trailing or ():
            said += "\n" + (content if isinstance(content, str) else content.decode("utf-8", "replace"))
    findings.codes[code.name] += 1
    took = time.perf_counter() - started
    findings.slowest_seconds = max(findings.slowest_seconds, took)
    leaked = INTERNALS.search(said)
    stuck = code is grpc.StatusCode.DEADLINE_EXCEEDED and not METHODS[one.name].server_streaming
    bug = code in BUGS and said != OF_THE_CLIENT
    if bug or leaked or stuck:
        content = b" ".join(one.requests)[:200].hex()
        findings.tell(f"{one.number} {one.name} {code.name} {said[:300]!r} headers {one.metadata!r} sent {content}")


async def called(channel: grpc.aio.Channel, one: Attempt) -> None:
    method = METHODS[one.name]
    path = f"/{method.containing_service.full_name}/{method.name}"

    async def several() -> AsyncIterator[bytes]:
        for request in one.requests:
            yield request

    answers: Any
    if method.server_streaming:
        if method.client_streaming:
            answers = channel.stream_stream(path)(several(), timeout=STREAM_SECONDS, metadata=one.metadata)  # type: ignore[arg-type]
        else:
            answers = channel.unary_stream(path)(one.requests[0], timeout=STREAM_SECONDS, metadata=one.metadata)  # type: ignore[arg-type]
        count = 0
        async for _ in answers:
            count += 1
            if count >= ANSWERS_MOST:
                answers.cancel()
                return
    elif method.client_streaming:
        await channel.stream_unary(path)(several(), timeout=TIMEOUT_SECONDS, metadata=one.metadata)  # type: ignore[arg-type]
    else:
        unary: Any = channel.unary_unary(path)
        await unary(one.requests[0], timeout=TIMEOUT_SECONDS, metadata=one.metadata)


@asynccontextmanager
async def honest_caller(target: str, findings: Findings, name: str = HONEST) -> AsyncIterator[None]:
    """Meanwhile somebody deposits 1 again and again, each counted exactly once, and on a connection of his own."""
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        funds: Any = fund_service_pb2_grpc.FundServiceStub(channel)
        begin = types_pb2.AssetAmount(asset="USDT", amount="0.5")
        await accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id="honest-0", account_id=name, owner=name, currency="USDT", initial_deposit=begin
            )
        )
        over = asyncio.Event()

        async def go_on() -> None:
            number = 0
            while not over.is_set():
                number += 1
                started = time.perf_counter()
                try:
                    answer = await funds.Deposit(
                        fund_service_pb2.DepositRequest(
                            request_id=f"honest-{number}", account_id=name, asset="USDT", amount="1"
                        ),
                        timeout=HONEST_SECONDS,
                    )
                    if (answer.accepted, answer.balance.amount) != (True, f"{number}.5"):
                        findings.tell(f"deposit {number} of the honest caller: {answer}")
                except grpc.aio.AioRpcError as error:
                    findings.tell(f"deposit {number} of the honest caller: {error.code()} {error.details()}")
                    return
                took = time.perf_counter() - started
                findings.honest_slowest_seconds = max(findings.honest_slowest_seconds, took)
                findings.honest_calls += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), HONEST_PAUSE_SECONDS)

        going = asyncio.create_task(go_on())
        try:
            yield
        finally:
            over.set()
            await going


async def furnish(target: str) -> None:
    """Accounts that the mutated requests may hit upon, and prices."""
    async with grpc.aio.insecure_channel(target) as channel:
        accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        market: Any = market_service_pb2_grpc.MarketServiceStub(channel)
        for name in ("alice", "bob"):
            deposit = types_pb2.AssetAmount(asset="USDT", amount="1000000")
            await accounts.CreateAccount(
                account_service_pb2.CreateAccountRequest(
                    request_id=f"open-{name}", account_id=name, owner="desk", currency="USDT", initial_deposit=deposit
                )
            )
        marks = [
            market_service_pb2.MarkUpdate(symbol=symbol, price=price, source="test")
            for symbol, price in (("BTCUSDT", "60000"), ("ETHUSDT", "3000"))
        ]
        await market.PublishMarks(iter([market_service_pb2.PublishMarksRequest(marks=marks)]))


async def campaign(target: str, pid: int, seed: int, requests: int, connections: int, say: Any = None) -> Findings:
    """All of it against a running service: the requests, with the broken connections spread among them."""
    findings = Findings()
    port = int(target.rpartition(":")[2])
    work = iter(attempts(seed, requests))
    numbers = iter(range(connections))
    began = time.perf_counter()
    every = max(1, requests // 20)

    async def send(channel: grpc.aio.Channel) -> None:
        for make in work:
            one = make()
            await carry_out(channel, one, findings)
            if one.number % every == 0:
                findings.memory.append(resident_bytes(pid))
                if say is not None:
                    say(f"{findings.requests} requests, {findings.connections} connections, {findings.memory[-1]} B")

    async def disturb() -> None:
        for number in numbers:
            while findings.requests * connections < number * requests and findings.requests < requests - TOGETHER:
                await asyncio.sleep(PACE_SECONDS)
            try:
                said = await break_in(port, seed, number)
            except (OSError, TimeoutError) as error:
                findings.tell(f"connection {number} was not accepted: {error!r}")
                return
            findings.connections += 1
            if leaked := INTERNALS.search(said.decode("latin-1")):
                findings.tell(f"connection {number} was told {leaked.group()!r} in {said[:300]!r}")

    await furnish(target)
    async with honest_caller(target, findings), contextlib.AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(target, options)) for _ in range(3)]
        senders = [send(channels[number % 3]) for number in range(TOGETHER)]
        disturbers = [disturb() for _ in range(TOGETHER // 2)]
        await asyncio.gather(*senders, *disturbers)
        findings.memory.append(resident_bytes(pid))
    findings.seconds = time.perf_counter() - began
    return findings
