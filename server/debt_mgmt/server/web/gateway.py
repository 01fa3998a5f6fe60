"""Calls over HTTP: POST /v1/Service/Method with the request as JSON, for every method that takes one request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from debt_mgmt.core.faults import Fault, InvalidRequest
from debt_mgmt.server.actor import not_for_limited
from debt_mgmt.server.config_server import is_loopback
from debt_mgmt.server.rpc.errors import status_of
from debt_mgmt.server.rpc.guard import Guard, GuardedMethod
from debt_mgmt.server.web.answers import WrongRequest, error_answer, message_answer
from debt_mgmt.server.web.event_stream import EventStream
from debt_mgmt.server.web.json_messages import read_json, read_message, read_query
from debt_mgmt.server.web.transport import IDEMPOTENCY, HttpTransport, check_page, request_id_of

CALLS = "/v1/{service}/{method}"
JSON = "application/json"

READING = 1
"""google.protobuf.MethodOptions.NO_SIDE_EFFECTS: such a method may be called by GET too."""

BODY_BYTES_MOST = 1_048_576
BODY_SECONDS = 10.0
"""Within which a body must arrive."""
ASIDE_BYTES = 8_192
"""Larger bodies and answers are turned into messages and JSON in a thread: calls over gRPC go on meanwhile."""

Work = Callable[[HttpTransport], Awaitable[web.StreamResponse]]


class Gateway:
    """Carries calls over HTTP to the guarded methods, and back what the guard says."""

    def __init__(self, guard: Guard, host: str, max_body_bytes: int = BODY_BYTES_MOST) -> None:
        self.guard = guard
        self.loopback = is_loopback(host)
        self.max_body_bytes = min(max_body_bytes, BODY_BYTES_MOST)
        self.aside = asyncio.Semaphore(1)
        """One large body or answer at a time."""

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", CALLS, self.call)]

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Answer one call of any method."""
        name = f"{request.match_info['service']}/{request.match_info['method']}"
        method = self.guard.methods.get(name)
        if method is None:
            return await self.guarded(request, "unknown", nothing_there)
        shape = method.descriptor
        by_get = shape.GetOptions().idempotency_level == READING and not shape.client_streaming
        if shape.client_streaming and shape.server_streaming:
            return await self.guarded(request, name, only_over_grpc)

        async def work(transport: HttpTransport) -> web.StreamResponse:
            check_verb(request, ("GET", "POST") if by_get else ("POST",))
            message = await self.read(request, shape)
            if shape.server_streaming:
                return await EventStream(self.guard, method).answer(request, message, transport)
            return await self.written(await self.asked(method, message, transport))

        return await self.guarded(request, name, work)

    async def guarded(self, request: web.Request, name: str, work: Work) -> web.StreamResponse:
        """What `work` answers, or the status of what it raised."""
        try:
            check_page(request, anyone=self.guard.authentication is None, loopback=self.loopback)
            transport = HttpTransport(request)
            self.guard.identify(
                name, transport, transport.headers()
            )  # again later, at no cost: before, nothing of the body is read
            return await work(transport)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return error_answer(self.guard.status(name, error), error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            return error_answer(self.guard.status(name, error), error)

    async def asked(self, method: GuardedMethod, message: Message, transport: HttpTransport) -> Any:
        """The response of the method, in the caller's time."""
        asked: Any = only(message) if method.descriptor.client_streaming else message
        async with asyncio.timeout(transport.time_remaining()):
            return await method.answer(asked, transport, transport.headers())

    async def read(self, request: web.Request, method: MethodDescriptor) -> Message:
        """The request message. Raises InvalidRequest."""
        message: Message = GetMessageClass(method.input_type)()
        if request.method == "GET":
            read_query(request.query.items(), message)
        else:
            content = await self.body(request)
            if len(content) > ASIDE_BYTES:
                async with self.aside:
                    await asyncio.to_thread(lambda: read_message(read_json(content), message))
            else:
                read_message(read_json(content), message)
        name_request(request, message)
        return message

    async def body(self, request: web.Request) -> bytes:
        """The bytes of a JSON body. Raises WrongRequest.

        Only JSON: other kinds a page of any site can send without being asked by its browser whether it may.
        """
        if request.can_read_body and request.content_type != JSON:
            raise WrongRequest(415, f"the body must be JSON: send Content-Type: {JSON}")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise WrongRequest(415, "the body must not be packed: send it without Content-Encoding")
        too_large = WrongRequest(413, f"the body is larger than {self.max_body_bytes} bytes")
        if (request.content_length or 0) > self.max_body_bytes:
            raise too_large
        content = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.content.iter_any():
                    content += part
                    if len(content) > self.max_body_bytes:
                        raise too_large
        except TimeoutError:
            raise WrongRequest(408, f"the body did not arrive in {BODY_SECONDS:.0f} s", Connection="close") from None
        except web.RequestPayloadError:
            raise WrongRequest(400, "the body broke off", Connection="close") from None
        return bytes(content)

    def keep_out(self, request: web.Request) -> web.Response | None:
        """What whoever may not see every account is answered; None for who may."""
        authentication = self.guard.authentication
        if authentication is None:
            return None
        try:
            if "Authorization" not in request.headers:
                authentication.identify(None)
            transport = HttpTransport(request)
            if self.guard.identify(request.path, transport, transport.headers()).accounts is not None:
                raise not_for_limited()
        except Fault as fault:
            return error_answer(status_of(fault, request.path), fault)
        return None

    async def written(self, message: Message) -> web.Response:
        if message.ByteSize() > ASIDE_BYTES:
            async with self.aside:
                return await asyncio.to_thread(message_answer, message)
        return message_answer(message)


def name_request(request: web.Request, message: Any) -> None:
    """Take the request id from its header, where the message has a place for it. Raises InvalidRequest."""
    request_id = request_id_of(request)
    if not request_id or "request_id" not in message.DESCRIPTOR.fields_by_name:
        return
    if message.request_id not in ("", request_id):
        raise InvalidRequest([("request_id", f"is another one than in the header {IDEMPOTENCY}")])
    message.request_id = request_id


def check_verb(request: web.Request, verbs: tuple[str, ...]) -> None:
    if request.method not in verbs:
        raise WrongRequest(
            405, f"{request.method} is not for this path: use {' or '.join(verbs)}", Allow=", ".join(verbs)
        )


async def nothing_there(transport: HttpTransport) -> web.StreamResponse:
    raise WrongRequest(404, "there is no such method: POST /v1/Service/Method, such as /v1/MarginService/CheckOrder")


async def only_over_grpc(transport: HttpTransport) -> web.StreamResponse:
    raise WrongRequest(501, "both sides of this method stream, which takes gRPC")


async def only(message: Message) -> AsyncIterator[Message]:
    """A stream of one request."""
    yield message
