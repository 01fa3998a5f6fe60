"""What the doctor sees on the machine itself: settings, clock, disk, database, history, keys and certificates."""

import ctypes
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import asyncpg

from debt_mgmt.server.brokers.broker import Denied
from debt_mgmt.server.brokers.credentials import read_credentials
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.cli.doctor_service import clock_finding
from debt_mgmt.server.cli.findings import Finding, fine, off, skipped, wrong
from debt_mgmt.server.cli.serve import journal_of, placed
from debt_mgmt.server.cli.wording import counted, moment, span
from debt_mgmt.server.config import ConfigurationError, Settings, read_settings
from debt_mgmt.server.journal.postgres_journal import settings_of
from debt_mgmt.server.postgres import DATABASE, PORT, USER, PostgresError, read_lock_file
from debt_mgmt.server.security.jwt import read_keys
from debt_mgmt.server.security.tls import Certificates
from debt_mgmt.server.security.watched_file import UnusableFile

CONNECT_SECONDS = 3.0
DISK_BYTES_LEAST = 1 << 30
DISK_SHARE_LEAST = 0.05
EXPIRES_SOON = timedelta(days=14)
UNSYNCHRONIZED = 5
"""What adjtimex answers while nobody keeps the clock (TIME_ERROR)."""
TIMEX_BYTES = 512
"""More than the kernel's structure has; zeros in it change nothing."""


def settings_here(config: Path | None, data_dir: Path | None) -> tuple[Settings | None, list[Finding]]:
    """The settings, None where they can't be used, and what is wrong with them."""
    flags: Mapping[str, str] = {} if data_dir is None else {"database.data_directory": str(data_dir)}
    try:
        settings = read_settings(config, flags=flags)
    except ConfigurationError as error:
        return None, [wrong("settings", problem, "`debt-mgmt check-config`") for problem in error.problems]
    given = counted(len(settings.origins), "setting")
    return settings, [fine("settings", f"can be used; {given} not left at the default")]


async def examine_here(settings: Settings, *, serving: bool) -> list[Finding]:
    """Everything about this machine. `serving`: a service answers, so its database ought to run."""
    found = [*kept_clock(), *keys(settings), *entrance_files(settings)]
    try:
        settings = placed(settings)
    except (PostgresError, OSError) as error:
        return [*found, wrong("database", str(error))]
    return [*found, *disk(settings), *await database(settings, serving=serving)]


def kept_clock() -> list[Finding]:
    """Whether something keeps this machine's clock right, where the kernel can be asked."""
    if sys.platform != "linux":
        return [skipped("NTP", "whether something keeps this clock right can't be asked here")]
    answer = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
    if answer == UNSYNCHRONIZED:
        return [off("NTP", "the kernel says that nobody keeps this machine's clock right", "run chrony or ntpd")]
    return [fine("NTP", "this machine's clock is kept right")] if answer >= 0 else [skipped("NTP", "not answered")]


def disk(settings: Settings) -> list[Finding]:
    """Room for the journal, where it is on this machine, and for its archive."""
    folders = {}
    if settings.database.connection() is None:
        folders["disk"] = settings.database.data_directory
    if settings.database.archive_directory is not None:
        folders["archive disk"] = settings.database.archive_directory
    return [room(subject, folder) for subject, folder in folders.items()]


def room(subject: str, folder: Path) -> Finding:
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        return wrong(subject, f"{there} can't be looked at: {error}")
    words = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f} for {folder}"
    if usage.free < DISK_BYTES_LEAST or usage.free < usage.total * DISK_SHARE_LEAST:
        return wrong(subject, words, "make room: without it nothing is written, and so nothing is accepted")
    return fine(subject, words)


async def database(settings: Settings, *, serving: bool) -> list[Finding]:
    """The database, its clock, and what of the journal and the history is in it. Nothing is started or changed."""
    dsn = settings.database.connection()
    if dsn is None:
        cluster = settings.database.data_directory / "postgres"
        if not (cluster / "PG_VERSION").exists():
            words = f"there is none in {settings.database.data_directory} yet: the first start makes it"
            return [skipped("database", words, "name another folder with --data-dir" if serving else "")]
        lock = read_lock_file(cluster)
        if lock is None or lock.status != "ready":
            words = f"the PostgreSQL in {settings.database.data_directory} does not run"
            if serving:
                return [
                    skipped("database", f"{words}; the service that answers uses another", "name it with --data-dir")
                ]
            return [skipped("database", f"{words}, as long as the service does not")]
        dsn = f"postgresql://{USER}@/{DATABASE}?host={quote(lock.socket_directory, safe='/')}&port={PORT}"
    try:
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_SECONDS, server_settings=settings_of(settings.database.schema, CONNECT_SECONDS)
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        words = f"{journal_of(settings)} does not answer: {type(error).__name__}"
        return [wrong("database", words, "without it nothing is accepted; start it, or correct the database settings")]
    try:
        return await contents(connection, settings)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return [wrong("database", f"{journal_of(settings)} can't be read: {type(error).__name__}: {error}")]
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def contents(connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings) -> list[Finding]:
    asked = datetime.now(UTC)
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    answered = datetime.now(UTC)
    found = [
        fine("database", f"{journal_of(settings)} answers in {(answered - asked).total_seconds() * 1000:.0f} ms"),
        clock_finding("database clock", theirs, asked, answered),
    ]
    if await connection.fetchval("SELECT to_regclass('journal')") is None:
        return [*found, skipped("journal", "there is none yet: the first start makes it")]
    logs = await connection.fetch("SELECT shard, max(position) AS position, max(at) AS at FROM journal GROUP BY shard")
    newest = max((log["at"] for log in logs), default=None)
    words = f"{counted(len(logs), 'log')}, {counted(sum(log['position'] for log in logs), 'event')}, the newest of "
    found.append(fine("stored journal", f"{words}{moment(newest)} UTC"))
    if newest is not None and newest > answered + timedelta(seconds=2):
        words = f"its newest event is {span(newest - answered)} in the future: a clock was set back"
        found.append(
            wrong("stored journal", words, "times never run backwards here: they stand until the clock is there")
        )
    if await connection.fetchval("SELECT to_regclass('fund_history')") is None:
        return [*found, wrong("history", "its table is missing", "start the service: it brings the schema up to date")]
    rows, ended = await connection.fetchrow("SELECT count(*), max(ended_at) FROM fund_history") or (0, None)
    return [*found, fine("history", f"{counted(rows, 'row')}, up to {moment(ended)} UTC")]


def keys(settings: Settings) -> list[Finding]:
    """The key of each exchange that is enabled: whether it is there and of its form."""
    found = []
    for name in settings.brokers.__struct_fields__:
        if not getattr(settings.brokers, name).enabled:
            continue
        try:
            read_credentials(PROFILES[name])
        except Denied as denied:
            found.append(wrong("keys", f"{name} is enabled: {denied}"))
        else:
            found.append(fine("keys", f"{name}: there, and of their form"))
    return found or [fine("keys", "no exchange is enabled, so none is needed")]


def entrance_files(settings: Settings) -> list[Finding]:
    """The service's certificate and the keys of signed tokens, as they are on the disk now."""
    found, tls, signed = [], settings.server.tls, settings.server.jwt.keys
    if tls.certificate is not None and tls.key is not None:
        found.append(certificate(tls.certificate, tls.key, tls.client_ca, datetime.now(UTC)))
    if signed is not None:
        try:
            read_keys(signed)
        except (UnusableFile, OSError) as error:
            found.append(wrong("JWT keys", str(error)))
        else:
            found.append(fine("JWT keys", f"{signed} can be used"))
    return found


def certificate(file: Path, key: Path, client_ca: Path | None, at: datetime) -> Finding:
    try:
        expires = Certificates(file, key, client_ca).expires_at
    except (UnusableFile, OSError) as error:
        return wrong("certificate", str(error))
    if expires <= at:
        return wrong("certificate", f"{file} expired at {moment(expires)} UTC", "replace the file: it is read again")
    words = f"{file} expires in {span(expires - at)}, at {moment(expires)} UTC"
    if expires - at < EXPIRES_SOON:
        return wrong("certificate", words, "replace the file before: it is read again without a restart")
    return fine("certificate", words)
