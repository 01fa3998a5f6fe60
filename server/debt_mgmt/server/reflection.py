"""Server reflection under both of its names, so that generic clients can list, describe and call every method."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as messages

ALPHA, STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICE = "ServerReflection"


def add_reflection(server: grpc.aio.Server, names: list[str]) -> None:
    """Show the services of these names, and reflection itself. The messages of v1 and v1alpha are the same bytes."""
    describe_stable()
    shown = [*names, *(f"{package}.{SERVICE}" for package in (STABLE, ALPHA))]
    method = grpc.stream_stream_rpc_method_handler(
        Reflection(shown).ServerReflectionInfo,
        request_deserializer=messages.ServerReflectionRequest.FromString,
        response_serializer=messages.ServerReflectionResponse.SerializeToString,
    )
    for package in (STABLE, ALPHA):
        handler = grpc.method_handlers_generic_handler(f"{package}.{SERVICE}", {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))


class Reflection:
    """The library's servicer, which knows no methods by their names: asked for one, it is asked for the service."""

    def __init__(self, names: list[str]) -> None:
        self.pool: Any = descriptor_pool.Default()
        self.servicer: Any = reflection.aio.ReflectionServicer(names, pool=self.pool)

    async def ServerReflectionInfo(  # noqa: N802 - the contract's name
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        async for response in self.servicer.ServerReflectionInfo(self.resolved(requests), context):
            yield response

    async def resolved(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            if request.file_containing_symbol:
                request.file_containing_symbol = self.holder_of(request.file_containing_symbol)
            yield request

    def holder_of(self, symbol: str) -> str:
        """The service of a method; any other symbol as it is."""
        try:
            method = self.pool.FindMethodByName(symbol)
        except KeyError:
            return symbol
        name: str = method.containing_service.full_name
        return name


def describe_stable() -> None:
    """Make the description of v1 known, which the library lacks: that of v1alpha under the other name."""
    pool: Any = descriptor_pool.Default()
    try:
        pool.FindServiceByName(f"{STABLE}.{SERVICE}")
    except KeyError:
        alpha = FileDescriptorProto.FromString(messages.DESCRIPTOR.serialized_pb)
        stable = FileDescriptorProto()
        text_format.Parse(text_format.MessageToString(alpha).replace(ALPHA, STABLE), stable)
        stable.name = "grpc/reflection/v1/reflection.proto"
        pool.AddSerializedFile(stable.SerializeToString())
