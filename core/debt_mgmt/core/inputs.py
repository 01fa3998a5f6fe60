"""What a decision was made on, kept with the first of its events, so that it can be made again."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.house import House
from debt_mgmt.core.margin import World
from debt_mgmt.core.market import HeldPrice, Mark
from debt_mgmt.core.node_use import OutsideThen, OutsideUse
from debt_mgmt.core.settings import RiskSettings


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The command, every mark that was read for it, and the place in the house's log that it was decided at.

    The account is the one that the journal adds up to before the event; the rules stand in the house's log.
    """

    command: msgspec.Raw = msgspec.Raw()
    """As JSON; empty where it was too large to be kept."""
    house: int = 0
    marks: tuple[Mark, ...] = ()
    held: dict[str, HeldPrice] = {}
    outside: dict[str, OutsideUse] = {}
    """What others used of the limit sets that were looked at, by their keys."""


class MarksRead(Mapping[str, Mark]):
    """Marks that remember which of them were asked for."""

    __slots__ = ("known", "read")

    def __init__(self, known: Mapping[str, Mark]) -> None:
        self.known = known
        self.read: dict[str, Mark] = {}

    def get(self, symbol: str, default: Any = None) -> Any:
        mark = self.known.get(symbol)
        if mark is None:
            return default
        self.read[symbol] = mark
        return mark

    def __getitem__(self, symbol: str) -> Mark:
        mark = self.read[symbol] = self.known[symbol]
        return mark

    def __contains__(self, symbol: object) -> bool:
        return symbol in self.known and self.get(str(symbol)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


ENCODER = msgspec.json.Encoder(order="deterministic")
DECODER: msgspec.json.Decoder[Inputs] = msgspec.json.Decoder(Inputs)
NOT_KEPT = msgspec.Raw(b"{}")


def with_inputs(
    events: tuple[e.Event, ...],
    command: c.Command,
    house: int,
    marks: Mapping[str, Mark],
    held: Mapping[str, HeldPrice],
    outside: Mapping[str, OutsideUse] | None = None,
) -> tuple[e.Event, ...]:
    """The events, the first with its inputs. A venue's whole state is kept only where it led to more than itself."""
    if not events:
        return events
    raw = NOT_KEPT
    if not (isinstance(command, c.RecordSync) and len(events) == 1):
        inputs = Inputs(
            msgspec.Raw(ENCODER.encode(command)),
            house,
            tuple(marks[symbol] for symbol in sorted(marks)),
            dict(held) if held else {},
            dict(outside) if outside else {},
        )
        raw = msgspec.Raw(ENCODER.encode(inputs))
    return (msgspec.structs.replace(events[0], inputs=raw), *events[1:])


def inputs_of(event: e.Event) -> Inputs | None:
    """What the event was decided on; None where that was not kept, or it is not the first of its decision."""
    raw = bytes(event.inputs)
    if not raw:
        return None
    inputs = DECODER.decode(raw)
    return inputs if bytes(inputs.command) else None


def begins_decision(event: e.Event) -> bool:
    """Whether the event is the first of its decision. Events of old journals don't say."""
    return bool(bytes(event.inputs))


def command_of(inputs: Inputs) -> c.Command:
    return c.read_command(inputs.command)


def world_of(inputs: Inputs, house: House, settings: RiskSettings, at: Any, shard: int, position: int) -> World:
    """The world as the decision saw it."""
    marks = {mark.symbol: mark for mark in inputs.marks}
    return World(house, marks, settings, at, shard, position, inputs.held, OutsideThen(inputs.outside))
