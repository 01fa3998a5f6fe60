"""A log as JSON lines in a compressed file: written whole or not at all, and verified row by row when it is read."""

import gzip
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from debt_mgmt.server.journal.journal import Head, JournalDamaged, JournalError, Row
from debt_mgmt.server.journal.verification import problem_of

FORMAT = "debt-mgmt log"
VERSION = 1


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a file: which rows follow, and what they follow."""

    format: str
    version: int
    shard: int
    after_position: int
    after_hash: str
    last_position: int
    last_hash: str


class Line(msgspec.Struct, frozen=True):
    """One row. The payload is text and not an object: its hash is over the very bytes that were written."""

    shard: int
    position: int
    epoch: int
    at: datetime
    account_id: str
    request_id: str
    request_digest: str | None
    actor: str
    kind: str
    payload: str
    hash: str


_encode = msgspec.json.Encoder().encode
_beginning = msgspec.json.Decoder(Beginning)
_line = msgspec.json.Decoder(Line)


def line_of(row: Row) -> bytes:
    digest = None if row.request_digest is None else row.request_digest.hex()
    line = Line(
        row.shard, row.position, row.epoch, row.at, row.account_id, row.request_id, digest, row.actor, row.kind,
        row.payload.decode(), row.hash.hex(),
    )  # fmt: skip
    return _encode(line) + b"\n"


def row_of(line: bytes) -> Row:
    one = _line.decode(line)
    digest = None if one.request_digest is None else bytes.fromhex(one.request_digest)
    return Row(
        one.shard, one.position, one.epoch, one.at, one.account_id, one.request_id, digest, one.actor, one.kind,
        one.payload.encode(), bytes.fromhex(one.hash),
    )  # fmt: skip


async def write_log(path: Path, shard: int, after: Head, last: Head, pages: AsyncIterator[list[Row]]) -> int:
    """Write the rows after one head up to and with another; the number of them. Verified on the way.

    Raises JournalDamaged where they do not lead from the one to the other. A file that is there has all of it.
    """
    beginning = Beginning(
        format=FORMAT,
        version=VERSION,
        shard=shard,
        after_position=after.position,
        after_hash=after.hash.hex(),
        last_position=last.position,
        last_hash=last.hash.hex(),
    )
    count = 0
    with _written(path) as file:
        file.write(_encode(beginning) + b"\n")
        chain = _Chain(beginning)
        async for page in pages:
            for row in page:
                if row.position > last.position:
                    break
                chain.follow(row)
                file.write(line_of(row))
                count += 1
            if page[-1].position >= last.position:
                break
        chain.end()
    return count


def read_log(path: Path) -> tuple[Beginning, Iterator[Row]]:
    """What a file holds. The rows are verified as they are read, the end too.

    Raises JournalError where it is no such file, JournalDamaged at the first row that is not what was written.
    """
    file = gzip.open(path, "rb")  # noqa: SIM115 - it is closed when its last row was read
    try:
        beginning = _beginning.decode(file.readline())
    except (msgspec.MsgspecError, OSError, EOFError) as error:
        file.close()
        raise JournalError(f"{path} is no log of this service: {error}") from error
    if (beginning.format, beginning.version) != (FORMAT, VERSION):
        file.close()
        raise JournalError(f"{path} is no log that this version reads: {beginning.format} {beginning.version}")
    return beginning, _rows(path, cast(BinaryIO, file), beginning)


def _rows(path: Path, file: BinaryIO, beginning: Beginning) -> Iterator[Row]:
    chain = _Chain(beginning)
    with file:
        try:
            for line in file:
                row = row_of(line)
                chain.follow(row)
                yield row
        except (msgspec.MsgspecError, ValueError, OSError, EOFError) as error:
            raise JournalDamaged(beginning.shard, chain.position, f"{path} can't be read there: {error}") from error
        chain.end()


class _Chain:
    """Rows that follow each other, from the beginning that a file names to its end."""

    def __init__(self, beginning: Beginning) -> None:
        self.beginning = beginning
        self.position = beginning.after_position + 1
        self.previous = bytes.fromhex(beginning.after_hash)
        self.at: datetime | None = None

    def follow(self, row: Row) -> None:
        problem = problem_of(row, self.position, self.previous, self.at)
        if row.shard != self.beginning.shard:
            problem = f"it is a row of shard {row.shard}"
        if problem:
            raise JournalDamaged(self.beginning.shard, self.position, problem)
        self.position, self.previous, self.at = row.position + 1, row.hash, row.at

    def end(self) -> None:
        last = self.beginning.last_position
        if self.position != last + 1:
            raise JournalDamaged(self.beginning.shard, self.position, f"the row is missing: the log goes on to {last}")
        if self.previous.hex() != self.beginning.last_hash:
            raise JournalDamaged(self.beginning.shard, last, "the hash is not the one that the file names as its last")


@contextmanager
def _written(path: Path) -> Iterator[Any]:
    """A compressed file that appears under its name when all of it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            with gzip.GzipFile(path.name, "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                yield packed
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        partial.unlink(missing_ok=True)
