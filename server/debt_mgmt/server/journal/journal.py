"""What a journal is: its row, its chain of hashes, its faults, and the protocol that every store keeps."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from struct import Struct as Packing
from typing import NamedTuple, Protocol

import msgspec

GENESIS = bytes(32)
"""The hash before the first row of every log."""

APPEND_ROWS_MAX = 512
"""The batch size above which group commit stopped paying."""

KEY_BYTES_MAX = 512
"""An index entry of the database holds at most 2,704 bytes: a longer key could be decided on, but never be stored."""

ACTOR_BYTES_MAX = 4_096

LOG_OPENED = "LogOpened"
"""Kind of the row with which a writer takes over a log. It carries no event: it makes sure that nothing an
earlier writer, or an earlier append of unknown outcome, still has under way can ever be written."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event as it is stored."""

    shard: int
    position: int
    epoch: int
    at: datetime
    account_id: str
    request_id: str
    request_digest: bytes | None
    actor: str
    kind: str
    payload: bytes
    hash: bytes


class Head(NamedTuple):
    """The last row of a log: its position and hash, (0, GENESIS) for an empty log."""

    position: int
    hash: bytes


EMPTY_LOG = Head(0, GENESIS)


class Snapshot(msgspec.Struct, frozen=True):
    """The state of one shard as of a position, encoded in parts."""

    shard: int
    position: int
    at: datetime
    fingerprint: bytes
    code_version: str
    parts: tuple[bytes, ...]


class JournalError(Exception):
    """The journal cannot do what was asked."""


class AppendAmbiguous(JournalError):
    """An append failed, and only the log itself can tell whether its rows are there.

    A lost connection, a timeout and a duplicate key all end here: no database's error code proves either outcome.
    """


class JournalUnavailable(JournalError):
    """The journal does not answer now. Nothing was read, nothing was changed."""


class JournalDamaged(JournalError):
    """The stored log contradicts itself at a position: a row is missing, or is not what was written."""

    def __init__(self, shard: int, position: int, reason: str) -> None:
        super().__init__(f"log of shard {shard} is damaged at position {position}: {reason}")
        self.shard = shard
        self.position = position
        self.reason = reason


class Journal(Protocol):
    """Where the logs live. Every method but append raises JournalUnavailable when the store does not answer."""

    async def ready(self) -> None:
        """Return when an append would be carried out at once: what waits until then can be decided together."""

    async def append(self, rows: Sequence[Row]) -> None:
        """Write rows of one shard durably, all or none, in one statement; any failure is AppendAmbiguous."""

    def read(self, shard: int, after_position: int = 0, page_rows: int = 4096) -> AsyncIterator[list[Row]]:
        """Read a log from after a position up to its head, in pages."""

    async def head(self, shard: int) -> Head:
        """The last position of a log and its hash."""

    async def read_rows(self, shard: int, first_position: int, last_position: int) -> list[Row]:
        """Read the rows from the first to the last position, both included."""

    async def list_rows(
        self,
        *,
        account_id: str | None = None,
        kinds: Collection[str] | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 100,
        log_opened: bool = False,
    ) -> list[Row]:
        """Find rows for an audit, ordered by (shard, position), beginning after that cursor.

        `actor` finds rows whose actor contains the text; `since` is included, `until` is not. Rows of kind LOG_OPENED
        carry no event and are left out unless asked for.
        """

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot, all parts or none; one that is there already is left as it is."""

    async def load_snapshot(self, shard: int, before_position: int | None = None) -> Snapshot | None:
        """The newest snapshot of a shard, or the newest before a position; None where there is none."""

    async def prune_snapshots(self, shard: int, keep: int = 2) -> None:
        """Delete all but the newest snapshots of a shard."""

    async def prepare(self, shards: Collection[int]) -> None:
        """Make room for what these logs will write next. Nothing depends on it but how cheaply rows are dropped."""

    async def load_base(self, shard: int) -> Snapshot | None:
        """The state that took the place of the rows of a log that were dropped; None where none were."""

    async def drop(self, base: Snapshot) -> None:
        """Forget the rows of a log up to the position of `base`, which takes their place; all of it or nothing."""

    async def get_meta(self, key: str) -> str | None:
        """A fact about this journal, None where it was never set."""

    async def all_meta(self) -> dict[str, str]:
        """Every fact about this journal."""

    async def set_meta(self, key: str, value: str) -> None:
        """Set a fact about this journal."""

    async def set_meta_once(self, key: str, value: str) -> str:
        """Set a fact that never changes and return what holds: the first value ever set."""

    async def next_epoch(self) -> int:
        """Count up and return the writer epoch: each caller gets a higher one than all before."""

    async def close(self) -> None:
        """Release every connection."""


_ERA = datetime(1970, 1, 1, tzinfo=UTC)
_CHAIN = Packing(">4q6i")


def microseconds(at: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact."""
    elapsed = at - _ERA
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def link(
    previous: bytes,
    shard: int,
    position: int,
    epoch: int,
    at: datetime,
    account_id: str,
    request_id: str,
    request_digest: bytes | None,
    actor: str,
    kind: str,
    payload: bytes,
) -> Row:
    """Make the row that follows the row with the previous hash."""
    digest = _hash(
        previous, shard, position, epoch, microseconds(at), account_id, request_id, request_digest, actor, kind, payload
    )
    return Row(shard, position, epoch, at, account_id, request_id, request_digest, actor, kind, payload, digest)


def chain_hash(previous: bytes, row: Row, moment: int | None = None) -> bytes:
    """SHA-256 over the previous hash and everything in the row but its own hash, each field with its length.

    `moment` is the row's time in microseconds, where the caller has it.
    """
    return _hash(
        previous,
        row.shard,
        row.position,
        row.epoch,
        microseconds(row.at) if moment is None else moment,
        row.account_id,
        row.request_id,
        row.request_digest,
        row.actor,
        row.kind,
        row.payload,
    )


def check_text(name: str, text: str, bytes_max: int) -> None:
    """Refuse text that a database would refuse: it would fail the whole batch that it is in. Raises ValueError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not valid Unicode text") from error
    if size > bytes_max:
        raise ValueError(f"{name} has {size} bytes, the most is {bytes_max}")
    if "\0" in text:
        raise ValueError(f"{name} contains a NUL character")


def verify(rows: Iterable[Row], head: Head = EMPTY_LOG) -> Head:
    """Check that rows follow the head densely, in time and by hash, and return the new head.

    Raises JournalDamaged naming the first position that does not fit.
    """
    position, previous = head
    at: datetime | None = None
    for row in rows:
        position += 1
        if row.position != position:
            raise JournalDamaged(row.shard, position, f"the next row stored is at position {row.position}")
        if at is not None and row.at < at:
            raise JournalDamaged(row.shard, position, "its time is before that of the row it follows")
        if chain_hash(previous, row) != row.hash:
            raise JournalDamaged(row.shard, position, "its hash is not that of its content and its predecessor")
        previous, at = row.hash, row.at
    return Head(position, previous)


def _hash(
    previous: bytes,
    shard: int,
    position: int,
    epoch: int,
    moment: int,
    account_id: str,
    request_id: str,
    request_digest: bytes | None,
    actor: str,
    kind: str,
    payload: bytes,
) -> bytes:
    account, request, who, what = account_id.encode(), request_id.encode(), actor.encode(), kind.encode()
    frame = _CHAIN.pack(
        shard,
        position,
        epoch,
        moment,
        len(account),
        len(request),
        -1 if request_digest is None else len(request_digest),
        len(who),
        len(what),
        len(payload),
    )
    return sha256(b"".join((previous, frame, account, request, request_digest or b"", who, what, payload))).digest()
