"""A client of the service's HTTP side, for tests: calls, and events as a browser reads them."""

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import aiohttp
import msgspec

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


@asynccontextmanager
async def http(port: int, token: str = "") -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield Http(session, port, token)
