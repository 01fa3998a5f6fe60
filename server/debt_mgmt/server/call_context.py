"""Which call is being carried out, for what has no other way to know: lines of the log, and spans of the journal."""

from contextvars import ContextVar
from typing import Any, Protocol


class Trace(Protocol):
    """A call that is traced."""

    @property
    def trace_id(self) -> str:
        """As W3C writes it."""

    def appended(self, shard: int, position: int, rows: int, seconds: float) -> None:
        """Its events have just become durable, together with others, in one append that took so long."""


ASKED: ContextVar[Any] = ContextVar("asked", default=None)
"""The request of the call; None outside of one."""
TRACE: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the call; None where it is not traced."""


def members() -> dict[str, str]:
    """What a line of the log says about the call during which it was written."""
    found = {"request_id": getattr(ASKED.get(), "request_id", "")}
    trace = TRACE.get()
    if trace is not None:
        found["trace_id"] = trace.trace_id
    return {name: value for name, value in found.items() if value}
