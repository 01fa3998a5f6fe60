"""What a shard answers: what a command committed, or why it did not."""

from datetime import datetime
from typing import Generic, NamedTuple

import msgspec

from debt_mgmt.server.journal.codec import Event


class Context(msgspec.Struct, frozen=True):
    """What a decision may know besides the entity and the command. `position` is where its first event will be."""

    at: datetime
    shard: int
    position: int


class Committed(msgspec.Struct, Generic[Event], frozen=True):
    """A command's durable outcome. Without events nothing was journaled, and the position is that of the state used."""

    events: tuple[Event, ...]
    first_position: int
    last_position: int
    at: datetime
    replayed: bool = False


class Revision(NamedTuple):
    """As of which journal position a number is true."""

    shard: int
    position: int


class ShardError(Exception):
    """A shard does not carry a command out. Unless the message says otherwise, nothing of the command was journaled."""


class Overloaded(ShardError):
    """More commands wait for this shard than it accepts: try again later, with the same request id."""

    def __init__(self, shard: int, waiting: int) -> None:
        super().__init__(f"{waiting} commands wait for shard {shard}")
        self.shard = shard
        self.waiting = waiting


class RequestIdReused(ShardError):
    """The request id was used before, for a request with another content."""

    def __init__(self, request_id: str, position: int) -> None:
        super().__init__(f"request id {request_id!r} belongs to another request, answered at position {position}")
        self.request_id = request_id
        self.position = position


class ShardStopped(ShardError):
    """The shard was stopped before the command was known to be durable: repeat it with the same request id."""


class ShardHalted(ShardError):
    """The shard no longer trusts its log or itself, so it writes nothing more. Whether a command under way was
    journaled is not known: repeat it with the same request id once the shard runs again."""


class Fenced(ShardHalted):
    """A writer with a higher epoch has taken this log over."""

    def __init__(self, shard: int, epoch: int, newer_epoch: int) -> None:
        super().__init__(f"the log of shard {shard} is written by epoch {newer_epoch}, this writer is epoch {epoch}")
        self.shard = shard
        self.epoch = epoch
        self.newer_epoch = newer_epoch


class NotJournaled(ShardError):
    """The journal refuses the events of this command although it answers: certainly nothing of it was journaled."""
