"""What the rows of one log add up to: entities, head, answered requests; its snapshot and its fingerprint."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Generic, NamedTuple

import msgspec

from debt_mgmt.server.journal.codec import Codec, Entity, Event
from debt_mgmt.server.journal.journal import (
    EMPTY_LOG,
    LOG_OPENED,
    Head,
    JournalDamaged,
    Row,
    Snapshot,
    chain_hash,
    microseconds,
)
from debt_mgmt.server.journal.requests import RECORD_BYTES, RequestIndex

REQUEST_WINDOW = timedelta(hours=24)
PART_BYTES_MAX = 8 * 1024 * 1024
_ENTITIES_PER_TURN = 100
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Change(NamedTuple, Generic[Entity, Event]):
    """One committed event and the entity after it."""

    key: str
    event: Event
    position: int
    at: datetime
    entity: Entity


class Fingerprint(NamedTuple):
    """SHA-256 over all entities of a shard, sorted by key, as of a position."""

    position: int
    digest: bytes


class LogState(Generic[Entity, Event]):
    """The committed state of one shard, built by folding rows in order."""

    def __init__(
        self,
        shard: int,
        apply: Callable[[Entity | None, Event], Entity],
        codec: Codec[Entity, Event],
        request_window: timedelta = REQUEST_WINDOW,
        remember_requests: bool = True,
    ) -> None:
        self.shard = shard
        self.entities: dict[str, Entity] = {}
        self.head: Head = EMPTY_LOG
        self.at = _BEGINNING
        self.epoch = 0
        self.requests = RequestIndex(request_window)
        self._apply = apply
        self._codec = codec
        self._remember_requests = remember_requests
        self._fact: _Fact | None = None
        """What the row before told of: the rows that follow it in the same command belong to it."""

    def fold(self, rows: Iterable[Row], changes: list[Change[Entity, Event]] | None = None) -> int:
        """Apply the rows that follow the head, collect what they changed, and return the number of events.

        Raises JournalDamaged at the first row that does not follow the one before; the rows up to it are applied.
        """
        entities, decode, apply, note = self.entities, self._codec.decode_event, self._apply, self.requests.note
        events, remember, fact_id_of = 0, self._remember_requests, self._codec.fact_id
        (position, previous), at, moment, epoch = self.head, self.at, microseconds(self.at), self.epoch
        try:
            for row in rows:
                if row.at != at:
                    moment = microseconds(row.at)
                self._check_successor(row, position, previous, at, moment)
                if row.kind != LOG_OPENED:
                    key = row.account_id
                    try:
                        event = decode(row.payload)
                        entity = apply(entities.get(key), event)
                    except msgspec.MsgspecError as error:
                        raise JournalDamaged(row.shard, row.position, f"its payload cannot be read: {error}") from error
                    except Exception as error:
                        error.add_note(f"applying position {row.position} of the log of shard {row.shard}")
                        raise
                    entities[key] = entity
                    events += 1
                    if remember:
                        if row.request_id:
                            note(key, row.request_id, row.request_digest, row.position, moment)
                        if (fact_id := fact_id_of(event)) != "":
                            self._fact = _Fact(key, fact_id, row.request_id, row.request_digest)
                        fact = self._fact
                        if fact is not None:
                            if fact.told_by(row):
                                note(key, fact.fact_id, row.request_digest, row.position, moment)
                            else:
                                self._fact = None
                    if changes is not None:
                        changes.append(Change(key, event, row.position, row.at, entity))
                position, previous, at = row.position, row.hash, row.at
                if row.epoch > epoch:
                    epoch = row.epoch
        finally:
            self.head, self.at, self.epoch = Head(position, previous), at, epoch
        self.requests.forget(self.at)
        return events

    async def fingerprint(self) -> Fingerprint:
        """The fingerprint as of now; other work runs in between, later events do not enter."""
        position, entities, digest = self.head.position, dict(self.entities), sha256()
        async for encoded in self._encoded(entities):
            for key, body in encoded:
                _absorb(digest, key, body)
        return Fingerprint(position, digest.digest())

    async def snapshot(self, code_version: str, at: datetime) -> Snapshot:
        """Encode the state as of now; other work runs in between, later events do not enter."""
        head, log_at, epoch = self.head, self.at, self.epoch
        entities, records = dict(self.entities), self.requests.records()
        entity_parts, digest = _Parts(), sha256()
        async for encoded in self._encoded(entities):
            for key, body in encoded:
                _absorb(digest, key, body)
                entity_parts.add(b"[" + msgspec.json.encode(key) + b"," + body + b"]", b",")
        request_parts = _Parts()
        for chunk in records:
            request_parts.add(chunk)
            await asyncio.sleep(0)
        contents = _Contents(
            hash=head.hash,
            at=log_at,
            epoch=epoch,
            entities=len(entities),
            entity_parts=len(entity_parts.closed()),
            request_parts=len(request_parts.closed()),
        )
        parts = (
            msgspec.json.encode(contents),
            *(b"[" + part + b"]" for part in entity_parts.closed()),
            *request_parts.closed(),
        )
        return Snapshot(self.shard, head.position, at, digest.digest(), code_version, parts)

    async def restore(self, snapshot: Snapshot) -> None:
        """Become the state that a snapshot holds. Raises JournalDamaged if it is incomplete or not what was stored."""
        contents = self._contents(snapshot)
        entity_parts = snapshot.parts[1 : 1 + contents.entity_parts]
        digest, decode = sha256(), msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode
        for part in entity_parts:
            for key, body in decode(part):
                _absorb(digest, key, bytes(body))
                self.entities[key] = self._codec.decode_entity(body)
            await asyncio.sleep(0)
        if digest.digest() != snapshot.fingerprint or len(self.entities) != contents.entities:
            raise JournalDamaged(self.shard, snapshot.position, "the snapshot's fingerprint is not that of its content")
        for part in snapshot.parts[1 + contents.entity_parts :]:
            for start in range(0, len(part), RECORD_BYTES * 8192):
                self.requests.load(part[start : start + RECORD_BYTES * 8192])
                await asyncio.sleep(0)
        self.head, self.at, self.epoch = Head(snapshot.position, contents.hash), contents.at, contents.epoch

    def _contents(self, snapshot: Snapshot) -> "_Contents":
        contents = msgspec.json.decode(snapshot.parts[0], type=_Contents)
        if len(snapshot.parts) != 1 + contents.entity_parts + contents.request_parts:
            raise JournalDamaged(self.shard, snapshot.position, "the snapshot lacks a part")
        return contents

    def _check_successor(self, row: Row, position: int, previous: bytes, at: datetime, moment: int) -> None:
        """Raise JournalDamaged unless `row`, written at `moment`, follows the row at `position`."""
        if row.position != position + 1:
            raise JournalDamaged(self.shard, position + 1, f"the next row stored is at position {row.position}")
        if row.at < at:
            raise JournalDamaged(self.shard, row.position, "its time is before that of the row it follows")
        if chain_hash(previous, row, moment) != row.hash:
            raise JournalDamaged(self.shard, row.position, "its hash is not that of its content and its predecessor")

    async def _encoded(self, entities: Mapping[str, Entity]) -> AsyncIterator[list[tuple[str, bytes]]]:
        encode, keys = self._codec.encode_entity, sorted(entities)
        for start in range(0, len(keys), _ENTITIES_PER_TURN):
            yield [(key, encode(entities[key])) for key in keys[start : start + _ENTITIES_PER_TURN]]
            await asyncio.sleep(0)


class _Fact(NamedTuple):
    """Something that counts once, and what the rows of the command that told of it have in common."""

    key: str
    fact_id: str
    request_id: str
    digest: bytes | None

    def told_by(self, row: Row) -> bool:
        return (row.account_id, row.request_id, row.request_digest) == (self.key, self.request_id, self.digest)


class _Contents(msgspec.Struct, frozen=True):
    """First part of a snapshot: what the others hold."""

    hash: bytes
    at: datetime
    epoch: int
    entities: int
    entity_parts: int
    request_parts: int


class _Parts:
    """Joins pieces into parts of at most PART_BYTES_MAX; a larger piece is a part of its own."""

    def __init__(self) -> None:
        self._closed: list[bytes] = []
        self._open: list[bytes] = []
        self._open_bytes = 0

    def add(self, piece: bytes, separator: bytes = b"") -> None:
        if self._open and self._open_bytes + len(separator) + len(piece) > PART_BYTES_MAX - 2:
            self._close()
        if self._open:
            piece = separator + piece
        self._open.append(piece)
        self._open_bytes += len(piece)

    def closed(self) -> list[bytes]:
        self._close()
        return self._closed

    def _close(self) -> None:
        if self._open:
            self._closed.append(b"".join(self._open))
            self._open, self._open_bytes = [], 0


def _absorb(digest: "hashlib._Hash", key: str, body: bytes) -> None:
    name = key.encode()
    digest.update(len(name).to_bytes(8, "big") + name + len(body).to_bytes(8, "big") + body)
