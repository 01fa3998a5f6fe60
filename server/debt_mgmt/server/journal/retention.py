"""How a log begins: at its first row, or at the state that took the place of rows which were exported and dropped."""

from typing import Any

from debt_mgmt.server.journal.codec import Codec, Entity
from debt_mgmt.server.journal.journal import EMPTY_LOG, Head, Journal
from debt_mgmt.server.journal.state import LogState


class Base:
    """The state of a log that its first kept row follows."""

    def __init__(self, shard: int, head: Head, bodies: dict[str, bytes]) -> None:
        self.shard = shard
        self.head = head
        self.bodies = bodies

    @property
    def position(self) -> int:
        return self.head.position

    def entity(self, codec: "Codec[Entity, Any]", key: str) -> Entity | None:
        body = self.bodies.get(key)
        return None if body is None else codec.decode_entity(body)

    def entities(self, codec: "Codec[Entity, Any]") -> list[Entity]:
        return [codec.decode_entity(body) for body in self.bodies.values()]


class _Bodies(Codec[bytes, Any]):
    """Entities as they are written, not decoded."""

    def __init__(self) -> None:
        pass

    def decode_entity(self, body: Any) -> bytes:
        return bytes(body)


async def base_of(journal: Journal, shard: int) -> Base | None:
    """What a log begins with; None where no row of it was ever dropped."""
    snapshot = await journal.load_base(shard)
    if snapshot is None:
        return None
    state: LogState[bytes, Any] = LogState(shard, _never, _Bodies(), remember_requests=False)
    await state.restore(snapshot)
    return Base(shard, state.head, state.entities)


async def begins_after(journal: Journal, shard: int) -> Head:
    """The last row of a log that was dropped, by which the first one kept is verified; (0, GENESIS) where none was."""
    base = await base_of(journal, shard)
    return EMPTY_LOG if base is None else base.head


def _never(entity: bytes | None, event: Any) -> bytes:
    raise AssertionError("a base is not written on")
