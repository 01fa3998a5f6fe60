"""Which requests a log has answered, and where: the memory that makes a repeated request safe."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import chain, islice
from struct import Struct as Packing
from typing import NamedTuple

from debt_mgmt.server.journal.journal import microseconds

_ENTRY = Packing(">16sQHI")
"""Digest, first position, rows, and the second in which it was answered: as many bytes as fit into a small object."""
_RECORD = Packing(f">16s{_ENTRY.size}s")
_SEGMENT_ENTRIES = 4096
_DIGEST_BYTES = 16
_SECOND = 1_000_000

RECORD_BYTES = _RECORD.size


class Answered(NamedTuple):
    """Where the events of an answered request are."""

    digest: bytes
    first_position: int
    last_position: int


class RequestIndex:
    """Remembers (account, request id) for at least the window after the request was answered.

    A day of requests is millions of entries, so each is packed into two short byte strings: about 180 bytes in all.
    """

    def __init__(self, window: timedelta) -> None:
        self._window_microseconds = window // timedelta(microseconds=1)
        self._entries: dict[bytes, bytes] = {}
        self._segments: list[list[bytes]] = [[]]

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, account_id: str, request_id: str) -> Answered | None:
        """Where this request was answered, None if it was not within the window."""
        entry = self._entries.get(_name(account_id, request_id))
        if entry is None:
            return None
        digest, position, count, _ = _ENTRY.unpack(entry)
        return Answered(digest, position, position + count - 1)

    def note(
        self, account_id: str, request_id: str, digest: bytes | None, position: int, moment: int, count: int = 1
    ) -> None:
        """Remember the rows of a request; rows that follow each other may be noted one by one.

        `moment` is when, in microseconds since 1970-01-01 UTC.
        """
        name = _name(account_id, request_id)
        known = self._entries.get(name)
        if known is not None:
            _, first, known_count, _ = _ENTRY.unpack(known)
            if first + known_count == position:
                position, count = first, known_count + count
        self._entries[name] = _ENTRY.pack(digest_of(digest), position, count, moment // _SECOND)
        if known is None:
            self._keep(name)

    def forget(self, now: datetime) -> None:
        """Drop what has been answered longer ago than the window, in whole segments."""
        oldest = (microseconds(now) - self._window_microseconds) // _SECOND
        while len(self._segments) > 1 and self._answered_at(self._segments[0][-1]) < oldest:
            for name in self._segments.pop(0):
                if self._answered_at(name) < oldest:
                    self._entries.pop(name, None)
                else:
                    self._keep(name)

    def records(self, chunk: int = 4096) -> Iterator[bytes]:
        """Everything remembered at the moment of the call, in chunks of records that can be stored."""
        names = chain.from_iterable([*self._segments[:-1], list(self._segments[-1])])
        return self._packed(names, chunk)

    def load(self, records: bytes) -> None:
        """Remember stored records again."""
        for name, entry in _RECORD.iter_unpack(records):
            self._entries[name] = entry
            self._keep(name)

    def _packed(self, names: Iterator[bytes], chunk: int) -> Iterator[bytes]:
        while page := tuple(islice(names, chunk)):
            yield b"".join(_RECORD.pack(name, entry) for name in page if (entry := self._entries.get(name)))

    def _keep(self, name: bytes) -> None:
        if len(self._segments[-1]) >= _SEGMENT_ENTRIES:
            self._segments.append([])
        self._segments[-1].append(name)

    def _answered_at(self, name: bytes) -> int:
        entry = self._entries.get(name)
        return -1 if entry is None else int(_ENTRY.unpack(entry)[3])


def digest_of(digest: bytes | None) -> bytes:
    """The short form in which the index compares request digests."""
    if digest is not None and len(digest) == _DIGEST_BYTES:
        return digest
    return blake2b(digest or b"", digest_size=_DIGEST_BYTES).digest()


def _name(account_id: str, request_id: str) -> bytes:
    return blake2b(f"{account_id}\0{request_id}".encode(), digest_size=16).digest()
