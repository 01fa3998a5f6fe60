"""What waits for the writer of a shard, and what it decides together."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from debt_mgmt.server.call_context import TRACE, Trace
from debt_mgmt.server.journal.codec import Entity, Event
from debt_mgmt.server.journal.journal import Head, Row
from debt_mgmt.server.journal.state import Change
from debt_mgmt.server.shard_answers import Committed

Command = TypeVar("Command")


@dataclass(eq=False, slots=True)
class Waiting(Generic[Command, Event]):
    """A command, who waits for it, and how it was decided."""

    key: str
    command: Command
    request_id: str
    fact_id: str
    digest: bytes | None
    actor: str
    future: asyncio.Future[Committed[Event]]
    result: Committed[Event] | None = None
    error: Exception | None = None
    appends_failed: int = 0
    trace: Trace | None = field(default_factory=TRACE.get)
    """Of the call that asked for it, where that is traced."""

    @property
    def names(self) -> tuple[str, ...]:
        """The ids by which a repeat of the command is recognised."""
        if not self.fact_id:
            return (self.request_id,) if self.request_id else ()
        return (self.request_id, self.fact_id) if self.request_id else (self.fact_id,)


@dataclass(eq=False, slots=True)
class Batch(Generic[Entity, Command, Event]):
    """What was decided together, on a state of its own until it is durable."""

    head: Head
    at: datetime
    entities: dict[str, Entity] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    changes: list[Change[Entity, Event]] = field(default_factory=list)
    all: list[Waiting[Command, Event]] = field(default_factory=list)
    requests: dict[tuple[str, str], Waiting[Command, Event]] = field(default_factory=dict)
    repeats: list[tuple[Waiting[Command, Event], Waiting[Command, Event]]] = field(default_factory=list)

    def trace_append(self, shard: int, seconds: float) -> None:
        """Tell the calls that are traced how long their append took."""
        for waiting in self.all:
            if waiting.trace is not None and waiting.result is not None and waiting.result.events:
                waiting.trace.appended(shard, waiting.result.first_position, len(self.rows), seconds)

    def first_with(self, waiting: Waiting[Command, Event]) -> Waiting[Command, Event] | None:
        """The command in this batch that `waiting` repeats, if any."""
        found = (self.requests.get((waiting.key, name)) for name in waiting.names)
        return next((first for first in found if first is not None), None)


def resolve(waiting: Waiting[Any, Event], result: Committed[Event] | Exception | None) -> None:
    """Answer whoever waits; a caller that has left is not missed."""
    assert result is not None
    if waiting.future.done():
        return
    if isinstance(result, StopIteration):
        waiting.future.set_exception(RuntimeError("the decision raised StopIteration"))
    elif isinstance(result, Exception):
        waiting.future.set_exception(result)
    else:
        waiting.future.set_result(result)
