"""Traces: a span for each sampled call, child of the caller's by W3C traceparent, and one for its journal append."""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from debt_mgmt.core.faults import Fault
from debt_mgmt.server.call_context import TRACE
from debt_mgmt.server.config_server import TracesSection

PARENT, STATE = "traceparent", "tracestate"
PARENT_CHARACTERS = 55
EXPORT_SECONDS = 5.0

logger = logging.getLogger(__name__)


class TracedCall(Protocol):
    """A call as the guard knows it."""

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...


Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]


class Tracing:
    """Decides what is sampled, and makes the spans. A caller that says whether it samples is followed."""

    def __init__(self, processor: SpanProcessor, sampled_share: float) -> None:
        self.sampled_share = sampled_share
        self.provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create({SERVICE_NAME: "debt-mgmt"}), shutdown_on_exit=False
        )
        self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("debt_mgmt")
        self.propagator = TraceContextTextMapPropagator()

    def around(self, method: str, carried_out: Handler) -> Handler:
        """The handler of a method, traced where the call is sampled."""

        async def traced(request: Any, call: TracedCall) -> Any:
            carrier = {name: text for name, text in call.metadata if name in (PARENT, STATE)}
            if not self.samples(carrier.get(PARENT)):
                return await carried_out(request, call)
            parent = self.propagator.extract(carrier)
            span = self.tracer.start_span(method, parent, SpanKind.SERVER, record_exception=False)
            token = TRACE.set(RunningTrace(self, span))
            try:
                describe(span, method, request)
                return await carried_out(request, call)
            except BaseException as error:
                # The words of a fault are for its caller; whatever else an error says may be anything.
                reason = error.reason.value if isinstance(error, Fault) else type(error).__name__
                span.set_status(Status(StatusCode.ERROR, reason))
                raise
            finally:
                TRACE.reset(token)
                span.end()

        return traced

    def samples(self, parent: str | bytes | None) -> bool:
        """Whether to trace a call: as its caller says, else by chance."""
        if isinstance(parent, str) and len(parent) >= PARENT_CHARACTERS and parent[53:55].isalnum():
            try:
                return bool(int(parent[53:55], 16) & 1)
            except ValueError:
                return False
        return random.random() < self.sampled_share

    async def stop(self) -> None:
        """Send what is left, for as long as an export may take."""
        await asyncio.to_thread(self.provider.shutdown)


class RunningTrace:
    """One call's span, to which the journal adds what it did."""

    __slots__ = ("span", "tracing")

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self.tracing = tracing
        self.span = span

    @property
    def trace_id(self) -> str:
        return format_trace_id(self.span.get_span_context().trace_id)

    def appended(self, shard: int, position: int, rows: int, seconds: float) -> None:
        ended = time.time_ns()
        append = self.tracing.tracer.start_span(
            "journal append",
            set_span_in_context(self.span),
            start_time=ended - round(seconds * 1e9),
            attributes={"debt_mgmt.shard": shard, "debt_mgmt.position": position, "debt_mgmt.rows": rows},
        )
        append.end(ended)


def describe(span: Span, method: str, request: Any) -> None:
    """Say what was asked, by names and ids only."""
    service, _, name = method.partition("/")
    span.set_attribute("rpc.system", "grpc")
    span.set_attribute("rpc.service", f"debt_mgmt.v1.{service}")
    span.set_attribute("rpc.method", name)
    for field in ("request_id", "account_id"):
        value = getattr(request, field, "")
        if isinstance(value, str) and value:
            span.set_attribute(f"debt_mgmt.{field}", value)


def tracing_of(traces: TracesSection) -> Tracing | None:
    """What the settings ask for; None where traces are off."""
    exporter: SpanExporter
    match traces.exporter:
        case "off":
            return None
        case "console":
            exporter = ConsoleSpanExporter(out=sys.stderr)
        case "otlp":
            exporter = OTLPSpanExporter(endpoint=traces.endpoint, timeout=EXPORT_SECONDS)
    return Tracing(BatchSpanProcessor(exporter), traces.sampled_share)
