"""A backup of the journal as JSON lines, taken while the service runs, and verified row by row when it is restored."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from debt_mgmt.server.journal.journal import APPEND_ROWS_MAX, Head, Journal, JournalError, Row, Snapshot
from debt_mgmt.server.journal.lines import read_log, write_log
from debt_mgmt.server.journal.retention import begins_after

MANIFEST = "backup.json"
FORMAT = "debt-mgmt backup"
RESTORING = "restoring"
"""A fact about the journal while a backup is written into it: no service starts on half a journal."""
PAGE_ROWS = 4096

Progress = Callable[[int, int], None]
"""Told of a shard and of how many of its rows are done."""


class LogCopy(msgspec.Struct, frozen=True):
    """One log of a backup."""

    shard: int
    file: str
    rows: int
    last_position: int
    last_hash: str
    base: str | None = None
    """File of the state that the log begins with, where its oldest rows were dropped."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds."""

    format: str
    version: int
    made_at: datetime
    service_version: str
    meta: dict[str, str]
    logs: tuple[LogCopy, ...]

    @property
    def rows(self) -> int:
        return sum(log.rows for log in self.logs)


class Restored(NamedTuple):
    """What a restore wrote."""

    logs: int
    rows: int


async def back_up(
    journal: Journal, directory: Path, at: datetime, version: str, progress: Progress = lambda shard, rows: None
) -> Manifest:
    """Write every log up to its end of this moment into a new folder. What is there is a whole backup or none.

    Raises JournalError where the folder is taken or nothing was ever written, JournalDamaged where a row does not fit.
    """
    meta = {key: value for key, value in (await journal.all_meta()).items() if key != RESTORING}
    if "shards" not in meta:
        raise JournalError("this journal was never used: there is nothing to back up")
    if directory.exists() and any(directory.iterdir()):
        raise JournalError(f"{directory} is not empty: a backup is written into a folder of its own")
    directory.mkdir(parents=True, exist_ok=True)
    heads = {shard: await journal.head(shard) for shard in range(int(meta["shards"]) + 1)}
    logs = [await copy_log(journal, directory, shard, head, progress) for shard, head in heads.items() if head.position]
    manifest = Manifest(FORMAT, 1, at, version, meta, tuple(logs))
    (directory / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


async def copy_log(journal: Journal, directory: Path, shard: int, head: Head, progress: Progress) -> LogCopy:
    base, before = await journal.load_base(shard), await begins_after(journal, shard)
    base_file = None
    if base is not None:
        base_file = f"base-{shard}.json"
        (directory / base_file).write_bytes(msgspec.json.encode(base))

    async def pages() -> AsyncIterator[list[Row]]:
        done = 0
        async for page in journal.read(shard, before.position, PAGE_ROWS):
            yield page
            done += len(page)
            progress(shard, done)

    name = f"log-{shard}.jsonl.gz"
    rows = await write_log(directory / name, shard, before, head, pages())
    return LogCopy(shard, name, rows, head.position, head.hash.hex(), base_file)


def read_manifest(directory: Path) -> Manifest:
    """Raises JournalError where the folder holds no whole backup of a version that is known."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise JournalError(f"{directory} holds no whole backup: {error}") from error
    if (manifest.format, manifest.version) != (FORMAT, 1):
        raise JournalError(f"{directory} holds a backup that this version can't read")
    return manifest


def verify_backup(directory: Path, progress: Progress = lambda shard, rows: None) -> Manifest:
    """Read a whole backup. Raises JournalDamaged at the first row that is not what was written."""
    manifest = read_manifest(directory)
    for log in manifest.logs:
        for count, _ in enumerate(rows_of(directory, log), start=1):
            if count % PAGE_ROWS == 0:
                progress(log.shard, count)
        progress(log.shard, log.rows)
    return manifest


def rows_of(directory: Path, log: LogCopy) -> Iterator[Row]:
    beginning, rows = read_log(directory / log.file)
    named = (beginning.shard, beginning.last_position, beginning.last_hash)
    if named != (log.shard, log.last_position, log.last_hash):
        raise JournalError(f"{directory / log.file} is not the file that the backup was made with")
    return rows


async def check_whole(journal: Journal) -> None:
    """Raises JournalError where a restore into this journal did not come to its end."""
    source = await journal.get_meta(RESTORING)
    if source:
        raise JournalError(f"the restore of {source} into this journal was cut off: empty it and restore again")


async def restore(journal: Journal, directory: Path, progress: Progress = lambda shard, rows: None) -> Restored:
    """Write a backup into a journal that was never used. All of it is verified before the first row is written.

    Raises JournalError where the journal is in use already, JournalDamaged where the backup is not what was written.
    """
    if await journal.all_meta():
        raise JournalError("this journal is in use already: restore into an empty database, or a new data directory")
    manifest = await asyncio.to_thread(verify_backup, directory)
    await journal.set_meta(RESTORING, str(directory))
    await journal.prepare([log.shard for log in manifest.logs])
    for log in manifest.logs:
        if log.base is not None:
            await journal.drop(msgspec.json.decode((directory / log.base).read_bytes(), type=Snapshot))
        batch: list[Row] = []
        done = 0
        for row in rows_of(directory, log):
            batch.append(row)
            if len(batch) == APPEND_ROWS_MAX:
                await journal.append(batch)
                done, batch = done + len(batch), []
                progress(log.shard, done)
        if batch:
            await journal.append(batch)
        progress(log.shard, log.rows)
    for key, value in manifest.meta.items():
        await journal.set_meta(key, value)
    await journal.set_meta(RESTORING, "")
    return Restored(len(manifest.logs), manifest.rows)
