"""A client of the service's HTTP side, for tests: calls, and events as a browser reads them."""

import asyncio
import io
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tests.e2e.books import BUY
from tests.support.service import Desk

BOTH_STREAM = "MarginService/StreamCheckOrders"
WATCH = "MarginService/WatchMargin"

EXACT = msgspec.json.Decoder(type=Any, float_hook=Decimal)
"""Reads numbers with all their digits."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return EXACT.decode(self.text)

    @property
    def reason(self) -> str:
        return str(self.json["error"]["reason"])

    @property
    def fields(self) -> list[str]:
        """Every malformed field that the error names, sorted."""
        details = self.json["error"]["details"]
        return sorted(one["field"] for detail in details for one in detail.get("field_violations", ()))


class Event(NamedTuple):
    name: str
    id: str
    data: Any


class Http:
    """Calls to one port."""

    def __init__(self, session: aiohttp.ClientSession, port: int, token: str = "") -> None:
        self.session = session
        self.url = f"http://127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def of(self, token: str) -> "Http":
        """The same for another caller."""
        return Http(self.session, int(self.url.rpartition(":")[2]), token)

    async def ask(
        self, verb: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **query: str
    ) -> Answer:
        """One request; a body of bytes is sent as it is, any other as JSON."""
        sent = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        kind = {"Content-Type": "application/json"} if sent is not None else {}
        async with self.session.request(
            verb,
            self.url + path,
            data=None if sent is None else io.BytesIO(sent),
            params=query,
            headers={**self.headers, **kind, **(headers or {})},
        ) as answer:
            return Answer(answer.status, answer.headers.copy(), await answer.text())

    async def get(self, path: str, headers: Mapping[str, str] | None = None, **query: str) -> Answer:
        return await self.ask("GET", path, None, headers, **query)

    async def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("POST", path, {} if body is None else body, headers)

    async def call(self, method: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """A method of the contract by its name, such as MarginService/CheckOrder."""
        return await self.post(f"/v1/{method}", body, headers)

    @asynccontextmanager
    async def watch(
        self, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of WatchMargin."""
        async with self.session.post(
            f"{self.url}/v1/MarginService/WatchMargin", json=body or {}, headers={**self.headers, **(headers or {})}
        ) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield events_of(answer)


async def events_of(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    found: dict[str, str] = {}
    async for line in answer.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            found[name] = value
        elif "data" in found:
            yield Event(found["event"], found.get("id", ""), EXACT.decode(found["data"]))
            found = {}


Running = tuple[Desk, Http]


@asynccontextmanager
async def http(port: int, token: str = "") -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield Http(session, port, token)


async def alice(desk: Desk, web: Http) -> None:
    """An account at bybit, opened over HTTP: long 0.1 BTC at 60,000 with 10,000 USDT."""
    opened = await web.call(
        "AccountService/CreateAccount",
        {
            "request_id": "open-alice",
            "account_id": "alice",
            "owner": "desk",
            "broker": "bybit",
            "currency": "USDT",
            "initial_deposit": {"asset": "USDT", "amount": 10000},
        },
    )
    assert opened.status == 200, opened.text
    await desk.mark({"BTCUSDT": "60000"})
    await desk.fill("alice", BUY, "0.1", "BTCUSDT", "60000")


# what people copy

PORTFOLIO = """
curl -X GET "http://localhost:8000/api/debt_mgmt/portfolio" \
  -H "Authorization: Bearer YOUR_TOKEN"
"""
SET_LEVERAGE = """
curl -X POST "http://localhost:8000/api/debt_mgmt/leverage/set" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer YOUR_TOKEN" \
  -d '{
    "symbol": "BTCUSDT",
    "leverage": 3.0,
    "broker": "bybit"
  }'
"""
MARGIN_STATUS = """
curl -X GET "http://localhost:8000/api/debt_mgmt/margin/status" \
  -H "Authorization: Bearer YOUR_TOKEN"
"""
HEALTH = "curl http://localhost:8000/api/debt_mgmt/health"
METRICS = "curl http://localhost:8000/metrics"


async def curled(web: Http, command: str, token: str = "YOUR_TOKEN") -> Answer:
    """What the command gets from this service: by curl itself where it is, else by what its arguments say."""
    port = web.url.rpartition(":")[2]
    words = shlex.split(command.replace("localhost:8000", f"localhost:{port}").replace("YOUR_TOKEN", token))
    if shutil.which("curl"):
        shown = ["-s", "-w", "\n%{http_code}"]
        done = await asyncio.to_thread(subprocess.run, [*words, *shown], capture_output=True, text=True, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), {}, text)
    options = dict(pairwise(words))
    headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
    path = next(word for word in words if word.startswith("http")).partition(f":{port}")[2]
    body = options.get("-d")
    return await web.ask(options.get("-X", "GET"), path, body.encode() if body else None, headers)
