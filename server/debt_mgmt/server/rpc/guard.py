"""The outermost layer of every call: who asks, until when, how long; no exception leaves but as a status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_status import rpc_status

from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.call_context import ASKED
from debt_mgmt.server.metrics import Metrics
from debt_mgmt.server.rpc.access_rules import AccessRules
from debt_mgmt.server.rpc.errors import status_of
from debt_mgmt.server.security.identity import HEADER, LOCAL_IDENTITY, Authentication, Identity, unauthenticated
from debt_mgmt.server.security.quotas import UNLIMITED, Quotas
from debt_mgmt.server.tracing import Tracing

IDEMPOTENT = 2
"""google.protobuf.MethodOptions.IDEMPOTENT: the contract marks every mutation with it."""

LOOK_SECONDS = 0.01
QUIET_LOOKS = 5
"""Once so many looks have seen no new call, those who used to call know that the service goes away."""
QUIET_SECONDS_MOST = 1.0
"""Some call on whatever they are told; they are waited for no longer than this."""


Metadata = tuple[tuple[str, str | bytes], ...]

HEADERS: ContextVar[Metadata] = ContextVar("headers", default=())
"""The headers of the call that gRPC is carrying out. It tells them when it looks for the method, and again only on
request, at some cost."""


class Transport(Protocol):
    """What carries a call: the context of gRPC, or what stands for it where a call comes another way."""

    def peer(self) -> str: ...
    def time_remaining(self) -> float | None: ...


class Call:
    """What a handler may know of its call besides the request."""

    __slots__ = ("_actor", "context", "guard", "identity", "metadata", "method")

    def __init__(self, context: Transport, metadata: Metadata, identity: Identity, guard: Guard, method: str) -> None:
        self.context = context
        self.metadata = metadata
        """The headers that came with the call, read once."""
        self.identity = identity
        self.guard = guard
        self.method = method
        self._actor: Actor | None = None

    @property
    def actor(self) -> Actor:
        """Who asks, and what exists for them: `call.actor.may_see(account_id)`, `call.actor.seen(account_ids)`."""
        if self._actor is None:
            who = self.identity
            self._actor = Actor(who.name, who.role.value, self.context.peer(), who.accounts)
        return self._actor

    @property
    def deadline_seconds(self) -> float | None:
        """What is left of the caller's deadline."""
        return self.context.time_remaining()

    def recheck(self) -> None:
        """Look again whether the caller is still let in; before each message of a stream. Raises a Fault if not."""
        identity = self.guard.identify(self.method, self.context, self.metadata)
        if identity is self.identity:
            return
        if not identity.allows_the_same_as(self.identity):
            raise unauthenticated("the token has changed since the stream began: begin again")
        self.identity = identity


class GuardedMethod:
    """One method behind the guard, to be called by whatever carries calls.

    `answer(request, transport, headers)` awaits the response of a method with one, `stream` with the same arguments
    iterates over the responses of one with several; the request of a client's stream is an iterator of messages. Both
    do all that the guard does and raise what went wrong; `Guard.status(name, error)` makes a status of that.
    """

    __slots__ = ("answer", "descriptor", "name", "rules", "stream")

    def __init__(self, name: str, descriptor: MethodDescriptor, rules: AccessRules) -> None:
        self.name = name
        self.descriptor = descriptor
        self.rules = rules
        self.answer: Callable[[Any, Transport, Metadata], Any]
        self.stream: Callable[[Any, Transport, Metadata], AsyncIterator[Any]]


class Directory(grpc.GenericRpcHandler):
    """Every method of every service, found in one step."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        HEADERS.set(handler_call_details.invocation_metadata or ())
        return self.handlers.get(handler_call_details.method)


class Guard:
    """Wraps the handlers of a service and registers them."""

    def __init__(
        self,
        metrics: Metrics,
        default_deadline_seconds: float,
        authentication: Authentication | None = None,
        quotas: Quotas = UNLIMITED,
        tracing: Tracing | None = None,
    ) -> None:
        self.metrics = metrics
        self.default_deadline_seconds = default_deadline_seconds
        self.authentication = authentication
        """None: every caller is this machine's own."""
        self.quotas = quotas
        self.tracing = tracing
        """None: calls are not traced, which costs them nothing."""
        self.methods: dict[str, GuardedMethod] = {}
        """By service and method, as MarginService/CheckOrder."""
        self.directory = Directory()
        self.draining = False
        self.running = 0
        """Calls that are being answered."""
        self.calls = 0

    async def drain(self, seconds: float) -> None:
        """Refuse new calls from now on, and wait for the end of those that run, at most so long.

        gRPC's own stop cancels calls that arrive at that moment, which tells their callers nothing. So it should come
        when no more arrive: those that are refused here are told to come back later, and are given time to hear it.
        """
        self.draining = True
        until, ended_at, looks, calls = perf_counter() + seconds, None, 0, -1
        while (now := perf_counter()) < until:
            if not self.running:
                ended_at = ended_at or now
            looks, calls = looks + 1 if self.calls == calls else 0, self.calls
            if ended_at is not None and (looks >= QUIET_LOOKS or now - ended_at > QUIET_SECONDS_MOST):
                return
            await asyncio.sleep(LOOK_SECONDS)

    def begin(self) -> None:
        self.running += 1
        self.calls += 1

    def admit(self) -> None:
        if self.draining:
            raise Fault(FaultReason.DRAINING, "the service is shutting down: nothing was done")

    def add(self, service: ServiceDescriptor, implementation: object) -> None:
        """Every method of the contract, wrapped; a method that the implementation lacks is a bug found at start."""
        for method in service.methods:
            handler = self.handler(service, method, getattr(implementation, method.name))
            self.directory.handlers[f"/{service.full_name}/{method.name}"] = handler

    def handler(
        self, service: ServiceDescriptor, method: MethodDescriptor, implementation: Callable[..., Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = f"{service.name}/{method.name}"
        read = reader_of(GetMessageClass(method.input_type).FromString)
        write = GetMessageClass(method.output_type).SerializeToString
        if method.client_streaming:
            implementation = reading_each(implementation)
        guarded = self.methods[name] = GuardedMethod(name, method, AccessRules(method))
        if method.server_streaming:
            guarded.stream = self.streaming(guarded, implementation)
            streaming = self.streamed_over_grpc(guarded)
            if method.client_streaming:
                return grpc.stream_stream_rpc_method_handler(streaming, read, write)
            return grpc.unary_stream_rpc_method_handler(streaming, read, write)
        mutation = method.GetOptions().idempotency_level == IDEMPOTENT
        guarded.answer = self.answering(guarded, implementation, mutation)
        answering = self.answered_over_grpc(guarded)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(answering, read, write)
        return grpc.unary_unary_rpc_method_handler(answering, read, write)

    def identify(self, name: str, context: Transport, metadata: Metadata) -> Identity:
        """Who calls. Raises Fault UNAUTHENTICATED."""
        authentication = self.authentication
        if authentication is None:
            return LOCAL_IDENTITY
        header: Any = None
        for key, value in metadata:
            if key == HEADER:
                header = value
                break
        try:
            return authentication.identify(header)
        except Fault as fault:
            authentication.on_failure(fault.message, context.peer(), name)
            raise

    def answering(
        self, method: GuardedMethod, implementation: Callable[..., Any], mutation: bool
    ) -> Callable[[Any, Transport, Metadata], Any]:
        """The whole way of a call with one answer."""
        name, allow = method.name, method.rules.allow
        observe = self.metrics.observer(name)
        identify = self.identify
        limit = self.quotas.limiter(method.descriptor)
        default = self.default_deadline_seconds

        async def in_time(request: Any, call: Call) -> Any:
            left = call.context.time_remaining()
            if left is None:
                async with asyncio.timeout(default):
                    return await implementation(request, call)
            if left <= 0:
                raise Fault(FaultReason.DEADLINE_EXPIRED, "the deadline had passed before anything was done")
            return await implementation(request, call)

        way = in_time if mutation else implementation
        if self.tracing is not None:
            way = self.tracing.around(name, way)

        async def answer(request: Any, context: Transport, metadata: Metadata) -> Any:
            started = perf_counter()
            ASKED.set(request)
            self.begin()
            try:
                self.admit()
                identity = identify(name, context, metadata)
                if isinstance(request, DecodeError):
                    raise unreadable()
                allow(identity, request)
                call = Call(context, metadata, identity, self, name)
                if limit is None or identity is LOCAL_IDENTITY:
                    return await way(request, call)
                with limit(identity, request) as quota:
                    return quota.used(await way(request, call))
            finally:
                self.running -= 1
                observe(perf_counter() - started)

        return answer

    def streaming(
        self, method: GuardedMethod, implementation: Callable[..., AsyncIterator[Any]]
    ) -> Callable[[Any, Transport, Metadata], AsyncIterator[Any]]:
        """The whole way of a call with a stream of answers."""
        name, allow = method.name, method.rules.allow
        observe = self.metrics.observer(name)

        async def stream(request: Any, context: Transport, metadata: Metadata) -> AsyncIterator[Any]:
            started = perf_counter()
            self.begin()
            try:
                self.admit()
                identity = self.identify(name, context, metadata)
                if isinstance(request, DecodeError):
                    raise unreadable()
                allow(identity, request)
                call = Call(context, metadata, identity, self, name)
                with self.quotas.stream(identity):
                    async for response in implementation(request, call):
                        call.recheck()
                        yield response
            finally:
                self.running -= 1
                observe(perf_counter() - started)

        return stream

    def answered_over_grpc(self, method: GuardedMethod) -> Callable[..., Any]:
        answer = method.answer

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                return await answer(request, context, HEADERS.get())
            except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                await self.end(method.name, context, error)

        return guarded

    def streamed_over_grpc(self, method: GuardedMethod) -> Callable[..., Any]:
        stream = method.stream

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            responses = stream(request, context, HEADERS.get())
            try:
                async for response in responses:
                    yield response
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                await self.end(method.name, context, error)
            finally:
                await responses.aclose()  # type: ignore[attr-defined]

        return guarded

    def status(self, name: str, error: BaseException) -> status_pb2.Status:
        """The status that ends the call of `name`, counted."""
        if isinstance(error, TimeoutError):
            error = Fault(
                FaultReason.DEADLINE_EXPIRED, "no answer in time; repeat the request with the same request id"
            )
        status = status_of(error, name)
        self.metrics.failed(name, CODES[status.code])
        return status

    async def end(self, name: str, context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> NoReturn:
        """End the call with the status of `error`; a cancellation is passed on only where the caller is gone."""
        if isinstance(error, KeyboardInterrupt | SystemExit | grpc.aio.AbortError):
            raise error
        if isinstance(error, asyncio.CancelledError) and (context.cancelled() or context.done()):
            raise error
        await context.abort_with_status(rpc_status.to_status(self.status(name, error)))
        raise AssertionError("abort_with_status ends the call")


def reader_of(from_bytes: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Reads a message. Bytes that are none become the error itself: raised here, it would reach the caller verbatim."""

    def read(content: bytes) -> Any:
        try:
            return from_bytes(content)
        except DecodeError as error:
            return error

    return read


def reading_each(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """`implementation` on a stream of requests that ends with an error where bytes come that are no message."""

    async def readable(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for request in requests:
            if isinstance(request, DecodeError):
                raise unreadable()
            call.recheck()
            yield request

    return lambda requests, call: implementation(readable(requests, call), call)


def unreadable() -> InvalidRequest:
    return InvalidRequest([("", "the bytes sent are not a message of this method's request type")])


CODES = {code.value[0]: code.name for code in grpc.StatusCode}
