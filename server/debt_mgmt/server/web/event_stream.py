"""A method that streams its answers, as server-sent events: what browsers' EventSource and `curl -N` read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from google.protobuf.message import Message
from google.rpc import status_pb2

from debt_mgmt.server.rpc.guard import CODES, Guard, GuardedMethod
from debt_mgmt.server.web.answers import HEADERS, STATUS, error_body
from debt_mgmt.server.web.json_messages import json_bytes, written
from debt_mgmt.server.web.transport import HttpTransport, header_text

LAST_EVENT = "Last-Event-ID"
FIRST_SECONDS = 0.5
"""What goes wrong within it, before anything was said, is still told as an HTTP status."""
RETRY_MILLISECONDS = 1000

EVENT_HEADERS = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}


class EventStream:
    """One method's answers as events: named by what they hold, their id what to resume by."""

    def __init__(self, guard: Guard, method: GuardedMethod) -> None:
        self.guard = guard
        self.method = method

    async def answer(self, request: web.Request, message: Any, transport: HttpTransport) -> web.StreamResponse:
        """Stream until the service or the reader ends it. A reader that is slow is waited for: changes merge."""
        if resumed := header_text(request, LAST_EVENT):
            message.resume_token = resumed
        responses = self.method.stream(message, transport, transport.headers())
        waiting = asyncio.ensure_future(following(responses))
        try:
            await asyncio.wait({waiting}, timeout=FIRST_SECONDS)
            if waiting.done():
                waiting.result()
            events = web.StreamResponse(headers=EVENT_HEADERS)
            await events.prepare(request)
            with contextlib.suppress(ConnectionResetError):
                await events.write(b"retry: %d\n\n" % RETRY_MILLISECONDS)
                while (event := await self.next_event(waiting)) is not None:
                    await events.write(event)
                    waiting = asyncio.ensure_future(following(responses))
            return events
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await responses.aclose()  # type: ignore[attr-defined]

    async def next_event(self, waiting: "asyncio.Future[Message | None]") -> bytes | None:
        """The next event; None at the end. A failure is the last event."""
        try:
            response = await waiting
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader gets a status
            return failure_event(self.guard.status(self.method.name, error))
        return None if response is None else event_of(response)


async def following(responses: AsyncIterator[Message]) -> Message | None:
    """The next response; None at the end."""
    return await anext(responses, None)


def event_of(response: Any) -> bytes:
    """One response as an event: its name is the field of `event` that is set."""
    name = (response.WhichOneof("event") or "message").encode()
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name, response.resume_token.encode(), json_bytes(written(response)))


def failure_event(status: status_pb2.Status) -> bytes:
    """Not named `error`: that is what EventSource calls a broken connection."""
    return b"event: failure\ndata: %s\n\n" % json_bytes(error_body(status, STATUS[CODES[status.code]]))
