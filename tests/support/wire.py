"""Any method of the contract by its name, called as a client of any language would, and what came back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from debt_mgmt.server.engine import Engine
from debt_mgmt.v1 import (
    access_service_pb2,
    account_service_pb2,
    audit_service_pb2,
    debt_service_pb2,
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    rejections_pb2,
    risk_service_pb2,
)

FILES = (
    access_service_pb2,
    account_service_pb2,
    audit_service_pb2,
    debt_service_pb2,
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    risk_service_pb2,
)
SERVICES = {service.full_name: service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()}
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method for service in SERVICES.values() for method in service.methods
}
"""By name, such as "MarginService/CheckOrder"."""

IDEMPOTENT = 2
"""google.protobuf.MethodOptions.IDEMPOTENT: the contract marks every mutation with it."""

MUTATIONS = [name for name, method in METHODS.items() if method.GetOptions().idempotency_level == IDEMPOTENT]

UNIMPLEMENTED: set[str] = set()
"""Methods of the contract that this version does not have."""

Sent = Message | bytes
"""A request, or the bytes of one that no generated code would make."""


class Failure(NamedTuple):
    """How a call ended that was not answered."""

    code: grpc.StatusCode
    reason: str
    domain: str
    fields: list[str]
    """Every malformed field, sorted."""
    message: str
    metadata: dict[str, str]
    details: tuple[Any, ...]


def request_class(name: str) -> type[Message]:
    return GetMessageClass(METHODS[name].input_type)


def serialized(request: Sent) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


async def call(
    channel: grpc.aio.Channel, name: str, *requests: Sent, timeout: float = 10.0, metadata: Any = None
) -> Any:
    """Call a method: its answer, or the list of its answers where it streams them (until it ends)."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{method.name}"
    answers = GetMessageClass(method.output_type).FromString

    async def several() -> AsyncIterator[Sent]:
        for request in requests:
            yield request

    if method.client_streaming and method.server_streaming:
        made: Any = channel.stream_stream(path, serialized, answers)(several(), timeout=timeout)
    elif method.client_streaming:
        return await channel.stream_unary(path, serialized, answers)(several(), timeout=timeout)
    elif method.server_streaming:
        made = channel.unary_stream(path, serialized, answers)(requests[0], timeout=timeout)
    else:
        unary: Any = channel.unary_unary(path, serialized, answers)
        return await unary(requests[0], timeout=timeout, metadata=metadata)
    return [answer async for answer in made]


async def failure_of(channel: grpc.aio.Channel, name: str, *requests: Sent, timeout: float = 10.0) -> Failure:
    """Call a method that must fail, and say how it did."""
    try:
        answer = await call(channel, name, *requests, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return read_failure(error)
    raise AssertionError(f"{name} was answered: {answer}")


def read_failure(error: grpc.aio.AioRpcError) -> Failure:
    ended: Any = error
    status = rpc_status.from_call(ended)
    details = []
    for packed in status.details if status is not None else ():
        kind = getattr(error_details_pb2, packed.type_url.rpartition(".")[2])
        detail = kind()
        packed.Unpack(detail)
        details.append(detail)
    info = next((one for one in details if isinstance(one, error_details_pb2.ErrorInfo)), None)
    fields = [
        violation.field
        for one in details
        if isinstance(one, error_details_pb2.BadRequest)
        for violation in one.field_violations
    ]
    return Failure(
        code=error.code(),
        reason=info.reason if info is not None else "",
        domain=info.domain if info is not None else "",
        fields=sorted(fields),
        message=error.details() or "",
        metadata=dict(info.metadata) if info is not None else {},
        details=tuple(details),
    )


def heads(engine: Engine) -> dict[int, int]:
    """The last position of every log: equal before and after means that nothing was journaled."""
    positions = {number: shard.revision.position for number, shard in engine.shards.items()}
    return {0: engine.house_shard.revision.position, **positions}


def reasons(violations: Sequence[Any]) -> list[str]:
    """The names of refusals, without their prefix, in the order of the answer."""
    return [rejections_pb2.RefusalReason.Name(one.reason).removeprefix("REFUSAL_REASON_") for one in violations]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)
