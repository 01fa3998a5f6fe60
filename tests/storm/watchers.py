"""Idle watchers of a service that runs as a program of its own, a reconnect storm, and a reader that stalls."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from debt_mgmt.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    fund_service_pb2,
    fund_service_pb2_grpc,
    margin_service_pb2,
    margin_service_pb2_grpc,
    types_pb2,
)

ACCOUNT = "watched"
CONNECTIONS = 8
CALL_SECONDS = 60.0
STALLED_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16_384),
]
"""As the SDK opens its streams: what waits for a reader waits in the service, which merges it."""


class Figures(NamedTuple):
    """What a storm of watchers cost."""

    watchers: int
    opened_seconds: float
    """Until each had its snapshot."""
    bytes_each: float
    """Resident memory of the service for each stream."""
    fan_out_seconds: float
    """From one change until every watcher had it."""
    again_seconds: float
    """All have lost their connections, and come back at once."""
    served_seconds: float
    """The slowest ordinary call during the storm."""


def resident_bytes(pid: int) -> int:
    """Memory that a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no memory is told of {pid}")


class Watched:
    """The account that everyone watches, on a connection of its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        self.funds: Any = fund_service_pb2_grpc.FundServiceStub(channel)
        self.balance = 1

    async def open(self) -> None:
        await self.accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id="open",
                account_id=ACCOUNT,
                owner="desk",
                currency="USDT",
                initial_deposit=types_pb2.AssetAmount(asset="USDT", amount="1"),
            )
        )

    async def deposit(self) -> float:
        """One more USDT: how long that took."""
        self.balance += 1
        started = time.perf_counter()
        answer = await self.funds.Deposit(
            fund_service_pb2.DepositRequest(
                request_id=f"deposit-{self.balance}", account_id=ACCOUNT, asset="USDT", amount="1"
            ),
            timeout=CALL_SECONDS,
        )
        assert (answer.accepted, answer.balance.amount) == (True, str(self.balance))
        return time.perf_counter() - started


def wanted(token: str = "", interval: float = 0.001) -> Any:
    request = margin_service_pb2.WatchMarginRequest(account_ids=[ACCOUNT], resume_token=token)
    request.min_interval.FromMilliseconds(max(1, int(interval * 1000)))
    request.heartbeat_interval.FromSeconds(3600)
    return request


@asynccontextmanager
async def watched(target: str) -> AsyncIterator[Watched]:
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        one = Watched(channel)
        await one.open()
        yield one


@asynccontextmanager
async def connections(target: str, count: int = CONNECTIONS) -> AsyncIterator[list[Any]]:
    """Stubs on so many connections. At the end they are cut, with whatever runs on them."""
    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        yield [
            margin_service_pb2_grpc.MarginServiceStub(
                await stack.enter_async_context(grpc.aio.insecure_channel(target, options))
            )
            for _ in range(count)
        ]


async def opened(stubs: Sequence[Any], count: int, token: str = "") -> tuple[list[Any], str]:
    """So many streams, each past its first message, or its snapshots where there is no token; and a token."""
    streams = [stubs[number % len(stubs)].WatchMargin(wanted(token)) for number in range(count)]
    kinds = ["update"] if token else ["snapshot", "snapshot_complete"]

    async def begin(stream: Any) -> str:
        for kind in kinds:
            message = await asyncio.wait_for(stream.read(), CALL_SECONDS)
            assert message.WhichOneof("event") == kind, message
        return str(message.resume_token)

    tokens = await asyncio.gather(*(begin(stream) for stream in streams))
    return streams, tokens[0]


async def storm(target: str, pid: int, watchers: int) -> Figures:
    """Open watchers, tell them something, cut them all off, and let them all resume at the same moment."""
    async with watched(target) as account:
        before = resident_bytes(pid)
        async with connections(target) as stubs:
            started = time.perf_counter()
            streams, token = await opened(stubs, watchers)
            opened_seconds = time.perf_counter() - started
            memory = (resident_bytes(pid) - before) / watchers
            started = time.perf_counter()
            await account.deposit()
            updates = await asyncio.gather(*(asyncio.wait_for(one.read(), CALL_SECONDS) for one in streams))
            assert {one.update.equity for one in updates} == {str(account.balance)}
            fan_out = time.perf_counter() - started
        await account.deposit()
        over = asyncio.Event()
        slowest = 0.0

        async def ordinary() -> None:
            nonlocal slowest
            while not over.is_set():
                slowest = max(slowest, await account.deposit())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), 0.1)

        calling = asyncio.create_task(ordinary())
        try:
            async with connections(target) as stubs:
                started = time.perf_counter()
                await opened(stubs, watchers, token)
                again = time.perf_counter() - started
        finally:
            over.set()
            await calling
    return Figures(watchers, opened_seconds, memory, fan_out, again, slowest)


class Stall(NamedTuple):
    """What a reader that stalls cost the others, and what it finds when it reads on."""

    slowest_seconds: float
    """From a change until a reader that keeps up had it."""
    behind_seconds: float
    """How old the last message was that the stalled one found waiting, by its own `as_of`."""
    messages: int
    """Found waiting, of as many changes as there were."""
    merged: int
    """Changes that one of its messages stands for at the most."""
    memory_bytes: int


async def stall(target: str, pid: int, changes: int) -> Stall:
    """One watcher reads its snapshot and then nothing for a while, another goes on."""
    async with AsyncExitStack() as stack:
        account = await stack.enter_async_context(watched(target))
        slow = margin_service_pb2_grpc.MarginServiceStub(
            await stack.enter_async_context(grpc.aio.insecure_channel(target, STALLED_OPTIONS))
        )
        (stub,) = await stack.enter_async_context(connections(target, 1))
        (quick,), _ = await opened([stub], 1)
        (stalled,), _ = await opened([slow], 1)
        before = resident_bytes(pid)
        slowest = 0.0
        began = time.time()
        for _ in range(changes):
            started = time.perf_counter()
            await account.deposit()
            while (await asyncio.wait_for(quick.read(), CALL_SECONDS)).update.equity != str(account.balance):
                pass
            slowest = max(slowest, time.perf_counter() - started)
        grown = resident_bytes(pid) - before
        ended = time.time()
        count = merged = 0
        oldest = 0.0
        while True:
            message = await asyncio.wait_for(stalled.read(), CALL_SECONDS)
            count += 1
            merged = max(merged, message.conflated_count)
            oldest = max(oldest, ended - message.as_of.ToNanoseconds() / 1e9)
            if message.update.equity == str(account.balance):
                break
        assert oldest <= ended - began + 1
        quick.cancel()
        stalled.cancel()
        return Stall(slowest, oldest, count, merged, grown)
