"""A small real gRPC server for the SDK's tests: the test says what a method answers, and sees what was sent."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pool, duration_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

import debt_mgmt.client  # registers the contract's messages  # noqa: F401

Behaviour = Callable[[Any, grpc.ServicerContext], Any]
"""A method: takes the request (an iterator of them, where it streams) and gives the answer (yields them)."""

SAMPLE_SECONDS = 1_700_000_000


class FakeService(grpc.GenericRpcHandler):
    """Answers each method as `on` was told, else with a sample: every field set, each string "1"."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, Any]] = []
        self.leaving = threading.Event()
        self._behaviours: dict[str, Behaviour] = {}
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self], options=[("grpc.so_reuseport", 0)])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.leaving.set()
        self._server.stop(None).wait()

    def on(self, method: str, behaviour: Behaviour) -> None:
        """From now on, `method` behaves like this."""
        self._behaviours[method] = behaviour

    def sent(self, method: str) -> list[Any]:
        """The requests that came for a method."""
        return [request for name, request in self.requests if name == method]

    def idle(self, context: grpc.ServicerContext) -> None:
        """Waits until the caller hangs up or the service stops."""
        gone = threading.Event()
        if context.add_callback(gone.set):
            while not gone.wait(0.02) and not self.leaving.is_set():
                pass

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        service, name = path.strip("/").split("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        metadata = {str(key): value for key, value in handler_call_details.invocation_metadata or ()}
        return self._handler(method, metadata)

    def _handler(self, method: MethodDescriptor, metadata: dict[str, Any]) -> Any:
        request_class = message_factory.GetMessageClass(method.input_type)
        response_class = message_factory.GetMessageClass(method.output_type)
        name = method.name

        def note(request: Any) -> Any:
            self.requests.append((name, request))
            return request

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.metadata.append(metadata)
            seen = (note(each) for each in request) if method.client_streaming else note(request)
            behaviour = self._behaviours.get(name)
            if behaviour is not None:
                return behaviour(seen, context)
            if method.client_streaming:
                list(seen)
            return sample(response_class)

        def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from answer(request, context)

        kinds: dict[tuple[bool, bool], Any] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        return kinds[method.client_streaming, method.server_streaming](
            answers if method.server_streaming else answer,
            request_deserializer=request_class.FromString,
            response_serializer=response_class.SerializeToString,
        )


def fail(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str | None = None,
    message: str = "it failed",
    *,
    domain: str = "debt_mgmt",
    metadata: dict[str, str] | None = None,
    fields: dict[str, str] | None = None,
    retry_after: float | None = None,
) -> Any:
    """Ends a call with a status and its details."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    if reason is not None:
        info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata or {})
        status.details.add().Pack(info)
    if fields:
        bad = error_details_pb2.BadRequest()
        for field, description in fields.items():
            bad.field_violations.add(field=field, description=description)
        status.details.add().Pack(bad)
    if retry_after is not None:
        delay = duration_pb2.Duration(nanos=int(retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    context.abort_with_status(rpc_status.to_status(status))


def sample(kind: type[Any]) -> Any:
    """A message with every field set: each string "1" (a text and a decimal), lists of one, the last page."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if field.name != "next_page_token":
            fill(message, field)
    return message


def fill(message: Message, field: FieldDescriptor) -> None:
    if field.message_type is None:
        value: Any = "1" if field.type == FieldDescriptor.TYPE_STRING else 1
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
        return
    kind = message_factory.GetMessageClass(field.message_type)
    if kind.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        value = timestamp_pb2.Timestamp(seconds=SAMPLE_SECONDS)
    elif kind.DESCRIPTOR.full_name == "google.protobuf.Duration":
        value = duration_pb2.Duration(seconds=1)
    else:
        value = sample(kind)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        getattr(message, field.name).CopyFrom(value)
