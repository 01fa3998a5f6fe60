"""The outermost layer of every call: who asks, until when, how long; no exception leaves but as a status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.metrics import Metrics
from debt_mgmt.server.rpc.errors import status_of

IDEMPOTENT = 2
"""google.protobuf.MethodOptions.IDEMPOTENT: the contract marks every mutation with it."""

LOOK_SECONDS = 0.01
QUIET_LOOKS = 5
"""Once so many looks have seen no new call, those who used to call know that the service goes away."""
QUIET_SECONDS_MOST = 1.0
"""Some call on whatever they are told; they are waited for no longer than this."""


class Call:
    """What a handler may know of its call besides the request."""

    __slots__ = ("context",)

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.context = context

    @property
    def actor(self) -> Actor:
        """Who asks. Callers are not told apart yet: the service listens on loopback only."""
        return Actor("anonymous", peer=self.context.peer())

    @property
    def deadline_seconds(self) -> float | None:
        """What is left of the caller's deadline."""
        return self.context.time_remaining()


class Guard:
    """Wraps the handlers of a service and registers them."""

    def __init__(self, metrics: Metrics, default_deadline_seconds: float) -> None:
        self.metrics = metrics
        self.default_deadline_seconds = default_deadline_seconds
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

    def handlers(self, service: ServiceDescriptor, implementation: object) -> grpc.GenericRpcHandler:
        """Every method of the contract, wrapped; a method that the implementation lacks is a bug found at start."""
        methods = {
            method.name: self.handler(service, method, getattr(implementation, method.name))
            for method in service.methods
        }
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def handler(
        self, service: ServiceDescriptor, method: MethodDescriptor, implementation: Callable[..., Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = f"{service.name}/{method.name}"
        read = reader_of(GetMessageClass(method.input_type).FromString)
        write = GetMessageClass(method.output_type).SerializeToString
        if method.client_streaming:
            implementation = reading_each(implementation)
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self.streaming(name, implementation), read, write)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self.streaming(name, implementation), read, write)
        mutation = method.GetOptions().idempotency_level == IDEMPOTENT
        unary = self.unary(name, implementation, mutation)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(unary, read, write)
        return grpc.unary_unary_rpc_method_handler(unary, read, write)

    def unary(self, name: str, implementation: Callable[..., Any], mutation: bool) -> Callable[..., Any]:
        observe = self.metrics.observer(name)
        default = self.default_deadline_seconds

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = perf_counter()
            self.begin()
            try:
                self.admit()
                if isinstance(request, DecodeError):
                    raise unreadable()
                if not mutation:
                    return await implementation(request, Call(context))
                left = context.time_remaining()
                if left is None:
                    async with asyncio.timeout(default):
                        return await implementation(request, Call(context))
                if left <= 0:
                    raise Fault(FaultReason.DEADLINE_EXPIRED, "the deadline had passed before anything was done")
                return await implementation(request, Call(context))
            except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                await self.end(name, context, error)
            finally:
                self.running -= 1
                observe(perf_counter() - started)

        return guarded

    def streaming(self, name: str, implementation: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
        observe = self.metrics.observer(name)

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            started = perf_counter()
            self.begin()
            try:
                self.admit()
                if isinstance(request, DecodeError):
                    raise unreadable()
                async for response in implementation(request, Call(context)):
                    yield response
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets a status
                await self.end(name, context, error)
            finally:
                self.running -= 1
                observe(perf_counter() - started)

        return guarded

    async def end(self, name: str, context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> NoReturn:
        """End the call with the status of `error`; a cancellation is passed on only where the caller is gone."""
        if isinstance(error, KeyboardInterrupt | SystemExit | grpc.aio.AbortError):
            raise error
        if isinstance(error, asyncio.CancelledError) and (context.cancelled() or context.done()):
            raise error
        if isinstance(error, TimeoutError):
            error = Fault(
                FaultReason.DEADLINE_EXPIRED, "no answer in time; repeat the request with the same request id"
            )
        status = status_of(error, name)
        self.metrics.failed(name, CODES[status.code])
        await context.abort_with_status(rpc_status.to_status(status))
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

    async def readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            if isinstance(request, DecodeError):
                raise unreadable()
            yield request

    return lambda requests, call: implementation(readable(requests), call)


def unreadable() -> InvalidRequest:
    return InvalidRequest([("", "the bytes sent are not a message of this method's request type")])


CODES = {code.value[0]: code.name for code in grpc.StatusCode}
