"""Places that are told, on this machine: an HTTP server that answers as it is told to, and a mail server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web


class Got(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Place:
    """What came in; `answers` are given one a request, then 200."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        self.got.append(Got(request.path, {name.lower(): value for name, value in request.headers.items()}, body))
        return web.Response(status=status, headers=headers)

    @property
    def ids(self) -> list[str]:
        return [one.headers["webhook-id"] for one in self.got]


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    one = Place()
    application = web.Application()
    application.router.add_post("/{path:.*}", one.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield one
    finally:
        await runner.cleanup()


class MailServer:
    """Speaks as much SMTP as one mail needs. `refuse` is answered to the data instead of 250."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.port = 0
        self.refuse = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 here")
        while line := (await reader.readline()).decode().strip():
            word = line.split()[0].upper()
            if word == "DATA":
                await say("354 go on")
                mail = (await reader.readuntil(b"\r\n.\r\n")).decode()
                if not self.refuse:
                    self.mails.append(mail)
                await say(self.refuse or "250 taken")
            elif word == "QUIT":
                await say("221 bye")
                break
            else:
                await say("250 fine")
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    one = MailServer()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await server.wait_closed()


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
