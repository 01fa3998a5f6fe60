"""One client of ccxt to one venue: how it is made, how its errors leave, its budget of requests, and its clock."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from debt_mgmt.server.brokers.broker import BrokerFault, NotPossible, Unreachable
from debt_mgmt.server.brokers.credentials import Credentials
from debt_mgmt.server.brokers.profiles import Testnet, VenueProfile
from debt_mgmt.server.brokers.rate_budget import RateBudget
from debt_mgmt.server.brokers.venue_errors import Heard, says_no, translate

TIMEOUT_MILLISECONDS = 10_000
ADDRESS = re.compile(r"^(?P<scheme>https|wss|http|ws)://[^/]+")
NO_SNAPSHOT = {"fetchPositionsSnapshot": False, "awaitPositionsSnapshot": False}

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "bybit": {
        "fetchMarkets": {"types": ["linear", "inverse"]},
        "enableUnifiedMargin": False,
        "enableUnifiedAccount": True,
        "unifiedMarginStatus": 6,
        "recvWindow": 10_000,
        "watchPositions": NO_SNAPSHOT,
    },
    "binance": {
        "fetchMarkets": {"types": ["linear"]},
        "fetchMargins": False,
        "fetchCurrencies": False,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
        "recvWindow": 10_000,
        "watchPositions": NO_SNAPSHOT,
        "watchBalance": {"fetchBalanceSnapshot": False, "awaitBalanceSnapshot": False},
    },
    "okx": {"fetchMarkets": {"types": ["swap"]}, "watchPositions": NO_SNAPSHOT},
    "kraken": {},
    "coinbase": {"fetchTime": {"method": "v3PublicGetBrokerageTime"}},
    "cryptocom": {"watchPositions": NO_SNAPSHOT},
}
"""What each client is told: only the markets that we trade, no look-ups of its own, no snapshots that hang."""

HEARD: ContextVar[Heard] = ContextVar("heard")
ANSWERED: ContextVar[list[Heard]] = ContextVar("answered")

silent = logging.Logger("debt_mgmt.silent")
"""The client library logs whole requests, with keys and signatures in their headers: nothing of that is written."""
silent.disabled = True


def exact(text: str | bytes) -> Any:
    """JSON whose numbers keep every digit: what is not whole stays text."""
    return json.loads(text, parse_float=str)


def moved(addresses: Any, url: str) -> Any:
    """The addresses of a client, with `url` (http://host:port) in place of every host."""
    if isinstance(addresses, dict):
        return {name: moved(address, url) for name, address in addresses.items()}
    if not isinstance(addresses, str):
        return addresses
    socket = re.sub(r"^http", "ws", url)
    return ADDRESS.sub(lambda found: socket if found["scheme"].startswith("ws") else url, addresses)


class Link:
    """A client of the library, changed in six ways: numbers as text, no log, our budget in place of its throttle, its
    answers kept until an error is understood, one after the other where the venue counts, and another address if told.
    """

    def __init__(
        self,
        profile: VenueProfile,
        exchange: Callable[[dict[str, Any]], Any],
        credentials: Credentials | None,
        *,
        testnet: bool = False,
        url: str = "",
        client_config: Mapping[str, Any] | None = None,
    ) -> None:
        """`exchange` is the client's class. Raises NotPossible for a test system that the venue does not have."""
        if testnet and profile.testnet is Testnet.NONE:
            raise NotPossible(f"{profile.display_name} has no test system: {profile.testnet_note}")
        self.profile = profile
        self.credentials = credentials
        self.testnet = testnet
        config = {
            "number": str,
            "enableRateLimit": False,
            "timeout": TIMEOUT_MILLISECONDS,
            "options": dict(OPTIONS[profile.broker]),
            **(credentials.revealed() if credentials else {}),
            **(client_config or {}),
        }
        client = self.client = exchange(config)
        if testnet and profile.testnet is Testnet.SANDBOX:
            client.set_sandbox_mode(True)
        elif testnet:
            client.enable_demo_trading(True)
        if url:
            client.urls["api"] = moved(client.urls["api"], url.rstrip("/"))
        client.logger = silent
        client.on_json_response = exact
        client.has["fetchCurrencies"] = False
        self.budget = RateBudget(
            float(profile.weight_per_second), float(profile.weight_burst), float(profile.reserved_share)
        )
        self.turn = asyncio.Lock()
        self.clock_offset: timedelta | None = None
        """How far our clock is ahead of the venue's; None where that is not known."""
        self.hook()

    def hook(self) -> None:
        """Stand between the client and its requests."""
        client = self.client
        fetch, fetch_with_retries = client.fetch, client.fetch2

        async def listen(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            heard = Heard()
            HEARD.set(heard)
            try:
                answer = await fetch(url, method, headers, body)
            except Exception as error:
                error.__dict__["heard"] = heard
                raise
            if (answered := ANSWERED.get(None)) is not None:
                answered.append(heard)
            return answer

        async def queue(
            path: str, api: Any = "public", method: str = "GET", params: Any = None, config: Any = None
        ) -> Any:
            params, config = params or {}, config or {}
            await self.budget.take(client.calculate_rate_limiter_cost(api, method, path, params, config))
            turn = self.turn if self.profile.in_order and "private" in api else contextlib.nullcontext()
            async with turn:
                return await fetch_with_retries(path, api, method, params, config)

        def keep(
            code: int, reason: str, url: str, method: str, headers: Mapping[str, str], body: str, *_: object
        ) -> str:
            heard = HEARD.get(None)
            if heard is not None:
                heard.status, heard.body, heard.headers = int(code), body, headers
            return body.strip()

        client.fetch, client.fetch2, client.on_rest_response = listen, queue, keep

    @contextlib.asynccontextmanager
    async def asking(self, *, writes: bool = False) -> AsyncIterator[Any]:
        """The client, with every error of what is done inside turned into a fault."""
        answered: list[Heard] = []
        token = ANSWERED.set(answered)
        try:
            yield self.client
        except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as a fault
            raise self.fault(error, answered, writes=writes) from None
        finally:
            with contextlib.suppress(ValueError):
                ANSWERED.reset(token)

    def fault(self, error: Exception, answered: list[Heard], *, writes: bool) -> BrokerFault:
        """What an error means. `answered` are the good answers that came before it."""
        if isinstance(error, BrokerFault):
            return error
        heard: Heard | None = getattr(error, "heard", None)
        if heard is None and not answered:
            heard = Heard()
        elif heard is None and says_no(self.profile.broker, answered[-1]):
            heard = answered[-1]
        fault = translate(self.profile.broker, error, heard, writes=writes)
        if self.credentials is not None:
            fault.words = self.credentials.hidden(fault.words)
            fault.args = tuple(self.credentials.hidden(str(part)) for part in fault.args)
        if isinstance(fault, Unreachable) and fault.retry_after_seconds is not None:
            self.budget.pause(fault.retry_after_seconds)
        return fault

    async def measure_clock(self) -> None:
        """Learn the venue's time, so that requests carry it. Where it tells none, our own clock has to do.

        Where requests carry a number that must grow, it stays our own time: a correction could make it fall.
        """
        if not self.client.has.get("fetchTime"):
            return
        async with self.asking() as client:
            if self.profile.in_order:
                ahead = client.milliseconds() - int(await client.fetch_time())
            else:
                ahead = int(await client.load_time_difference())
            self.clock_offset = timedelta(milliseconds=ahead)

    async def close(self) -> None:
        await self.client.close()


async def as_they_come(sources: Mapping[Any, Callable[[], Awaitable[Any]]]) -> AsyncGenerator[list[Any], None]:
    """Results of several sources that are asked again and again: all that came since the last look, in their order.

    The first error of a source ends it.
    """
    results: list[Any] = []
    came = asyncio.Event()

    async def again(ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            while True:
                results.append(await ask())
                came.set()
        finally:
            came.set()

    tasks = [asyncio.create_task(again(ask)) for ask in sources.values()]
    try:
        while True:
            await came.wait()
            came.clear()
            taken, results[:] = list(results), []
            if taken:
                yield taken
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def batches(items: list[Any], most: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
