"""A real service in this process, for tests: on a free port of this machine, with its journal in memory.

    async with InProcessServer(marks={"BTCUSDT": 50000}) as server, server.client() as client:
        await client.create_account("alice", initial_deposit=AssetAmount("USDT", 1000))

    with InProcessServer(marks={"BTCUSDT": 50000}) as server, server.sync_client() as client:
        client.create_account("alice", initial_deposit=AssetAmount("USDT", 1000))

It needs the service: pip install 'debt-mgmt[server]'.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from types import ModuleType, TracebackType
from typing import Any, Literal, Protocol, Self

from debt_mgmt.client.async_client import MarginClient
from debt_mgmt.client.decimals import Number
from debt_mgmt.client.market import MarksPublished
from debt_mgmt.client.sync_client import SyncMarginClient

SETTINGS: Mapping[str, str] = {
    "server.address": "127.0.0.1:0",
    "server.metrics_port": "0",
    "server.drain_seconds": "1",
    "prices.pre_trade_max_age_seconds": "86400",
    "prices.mark_max_age_seconds": "86400",
}
"""What differs from the service's defaults: free ports, and prices that stay good for the length of a test."""


class ServerNotInstalled(ImportError):
    """The service is not installed, only the SDK."""


class RunningService(Protocol):
    """What the service's `start` gives."""

    port: int
    engine: Any

    async def stop(self) -> None: ...


class InProcessServer:
    """The service, started when it is entered and stopped when it is left, `with` or `async with`.

    `settings` are the service's, by path, such as {"risk_settings.max_leverage": "3"}. `marks` are published before
    anything else. `journal` is "memory", "configured" (what the settings say), or a journal of the service's own kind:
    given twice, the second server goes on where the first one ended. `clock` tells the time, by default the real one.
    `demo` adds the account `demo` on a simulated market.

    Entered by `with` it runs on a thread of its own. In asyncio code enter it by `async with`: grpc does not like two
    event loops in one process.
    """

    def __init__(
        self,
        *,
        marks: Mapping[str, Number] | None = None,
        settings: Mapping[str, str] | None = None,
        journal: Literal["memory", "configured"] | object = "memory",
        clock: Callable[[], datetime] | None = None,
        demo: bool = False,
    ) -> None:
        self._marks = dict(marks or {})
        self._settings = {**SETTINGS, **(settings or {})}
        self._journal = journal
        self._options: dict[str, Any] = {"clock": clock, "demo": demo}
        self._service: RunningService | None = None
        self._thread: threading.Thread | None = None
        self._leaving: Callable[[], object] | None = None

    @property
    def service(self) -> RunningService:
        """The running service, with its `engine`. Raises RuntimeError when it does not run."""
        if self._service is None:
            raise RuntimeError("the server does not run: enter it by `with` or `async with`")
        return self._service

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.service.port}"

    def client(self) -> MarginClient:
        """A new client of it."""
        return MarginClient(self.target)

    def sync_client(self) -> SyncMarginClient:
        """A new blocking client of it."""
        return SyncMarginClient(self.target)

    async def __aenter__(self) -> Self:
        self._service = await start_service(self._settings, self._journal, self._options)
        try:
            await self._publish()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="debt-mgmt-server", daemon=True
        )
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._leaving is not None
        assert self._thread is not None
        self._leaving()
        self._thread.join()

    async def _run(self, started: "Future[None]") -> None:
        """The life of the server on a thread of its own."""
        left = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._leaving = lambda: loop.call_soon_threadsafe(left.set)
        try:
            await self.__aenter__()
        except BaseException as failure:  # noqa: BLE001 - it is raised to the thread that waits for the start
            started.set_exception(failure)
            return
        started.set_result(None)
        await left.wait()
        await self._stop()

    async def _publish(self) -> None:
        if not self._marks:
            return
        async with self.client() as client:
            published: MarksPublished = await client.publish_marks(self._marks)
        if published.quarantined_count:
            raise ValueError("; ".join(held.message for held in published.quarantined))

    async def _stop(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            await service.stop()


async def start_service(settings: Mapping[str, str], journal: object, options: Mapping[str, Any]) -> RunningService:
    """Starts the service. The only place that knows its Python interface."""
    app, config = server_module("app"), server_module("config")
    if journal == "memory":
        journal = server_module("journal.memory_journal").MemoryJournal()
    elif journal == "configured":
        journal = None
    read = config.read_settings(environment={}, flags={"risk_settings.new_instruments": "open", **settings})
    service: RunningService = await app.start(read, journal=journal, **options)
    return service


def server_module(name: str) -> ModuleType:
    """A module of the service, which the SDK does not depend on. Raises ServerNotInstalled where it is missing."""
    try:
        return importlib.import_module(f"debt_mgmt.server.{name}")
    except ModuleNotFoundError as missing:
        raise ServerNotInstalled(
            f"the in-process server needs the service: pip install 'debt-mgmt[server]' ({missing.name} is missing)"
        ) from missing
