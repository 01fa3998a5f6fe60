"""How events and entities are written: msgspec JSON. An event is always the same bytes; an entity keeps its order.

What is decided follows the order in which an entity came to hold its positions, orders and changes, so an entity that
is read back has the order that its events gave it, and no other.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

Entity = TypeVar("Entity")
Event = TypeVar("Event")


class Codec(Generic[Entity, Event]):
    """Writes the events of a tagged union and the entities that they add up to.

    `event_type` is the union of all event classes, `entity_type` the class of the entity. An event's tag is its kind.
    """

    def __init__(
        self,
        event_type: Any,
        entity_type: type[Entity],
        fact_id: Callable[[Event], str] = lambda event: "",
        sharing: Callable[[Entity], Entity] = lambda entity: entity,
    ) -> None:
        self.fact_id = fact_id
        """The id of what an event tells of, where that counts once however often it is told; else empty."""
        self.sharing = sharing
        """Makes an entity that was read hold what many have in common only once."""
        self._encoder = msgspec.json.Encoder(order="deterministic")
        self._entity_encoder = msgspec.json.Encoder()
        self._events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(event_type)
        self._entities: msgspec.json.Decoder[Entity] = msgspec.json.Decoder(entity_type)

    def kind(self, event: Event) -> str:
        """The name an event has in the journal."""
        return str(type(event).__struct_config__.tag)  # type: ignore[attr-defined]

    def encode_event(self, event: Event) -> bytes:
        return self._encoder.encode(event)

    def decode_event(self, payload: bytes) -> Event:
        return self._events.decode(payload)

    def encode_entity(self, entity: Entity) -> bytes:
        return self._entity_encoder.encode(entity)

    def decode_entity(self, body: bytes | msgspec.Raw) -> Entity:
        return self.sharing(self._entities.decode(body))
