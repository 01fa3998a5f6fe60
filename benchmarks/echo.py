"""A bare grpc.aio echo: what the library alone can do, to compare the service with. Run as `python -m benchmarks.echo`.

The last part of a method's name says how many bytes each answer has: /benchmarks.Echo/Unary/512. Requests are not
parsed and answers not serialised, so nothing but the library is measured.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc

from benchmarks import machine

UNARY, BIDIRECTIONAL, WATCH = "Unary", "Bidirectional", "Watch"


def method(kind: str, answer_bytes: float) -> str:
    """The name of the method that answers so many bytes."""
    return f"/benchmarks.Echo/{kind}/{round(answer_bytes)}"


class Echo(grpc.GenericRpcHandler):
    """Every method of the echo, each made when it is first called."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        name = details.method
        if name not in self.handlers:
            _, _, kind, size = name.split("/")
            self.handlers[name] = handler(kind, bytes(int(size)))
        return self.handlers[name]


def handler(kind: str, answer: bytes) -> grpc.RpcMethodHandler[Any, Any]:
    async def unary(request: bytes, context: object) -> bytes:
        return answer

    async def bidirectional(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield answer

    async def watch(request: bytes, context: object) -> AsyncIterator[bytes]:
        while True:
            yield answer

    if kind == UNARY:
        return grpc.unary_unary_rpc_method_handler(unary)
    if kind == WATCH:
        return grpc.unary_stream_rpc_method_handler(watch)
    return grpc.stream_stream_rpc_method_handler(bidirectional)


async def serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f'{{"target": "127.0.0.1:{port}"}}', flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    machine.run(serve())
