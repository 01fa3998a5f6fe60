"""The service's own PostgreSQL: found, initialised, run as a child process, watched, restarted, and stopped."""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from debt_mgmt.server.postgres_binaries import (
    Account,
    PostgresError,
    check_reach,
    find_binaries,
    server_environment,
    unprivileged_account,
)

__all__ = ["EmbeddedPostgres", "PostgresError"]

USER = "postgres"
DATABASE = "postgres"
PORT = 5432

_SOCKET_NAME = f".s.PGSQL.{PORT}"
_SOCKET_DIRECTORY_MAX = 80
"""A socket's whole path may have about 100 bytes, and the server adds the name of the socket to it."""

_SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_connections": "60",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_LOG_BYTES_MAX = 10 * 1024 * 1024
_START_ATTEMPTS = 5
_POLL_SECONDS = 0.005
_WATCH_SECONDS = 0.05
_PROGRESS_SECONDS = 5.0
_BACKOFF_SECONDS_MAX = 1.0
_HEALTHY_SECONDS = 10.0
_FAST_STOP_SECONDS = 60.0
_IMMEDIATE_STOP_SECONDS = 10.0

_LAUNCH = """
import ctypes, os, signal, sys
uid, gid, parent, death_signal = map(int, sys.argv[1:5])
libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if libc is not None:
    if libc.prctl(1, death_signal, 0, 0, 0) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        sys.exit("the service ended before its PostgreSQL began")
os.umask(0o077)
os.execv(sys.argv[5], sys.argv[5:])
"""
"""Becomes the server: drops privileges, asks the kernel for a signal when the service dies, and executes it.

A program of its own, and not a function between fork and exec: the service has threads by then. The death signal is
asked for after the change of user, which would clear it.
"""

_log = logging.getLogger(__name__)


class LockFile(NamedTuple):
    """What postmaster.pid says."""

    pid: int
    socket_directory: str
    status: str


class EmbeddedPostgres:
    """A PostgreSQL in a data directory, reached through a unix socket that only its owner can open.

    Start it from a thread that lives as long as the service (the main one): on Linux the kernel stops the server when
    the thread that started it ends, so that no kill of the service leaves a server behind.

    The data directory gets `postgres/` (the cluster), `postgres.log`, `postgres.lock` and, where the path is short
    enough for a socket, `run/`. If a live server is there already it is used and left running. PostgreSQL refuses to
    run as root, so root runs it as `postgres` or `nobody`, or as whoever owns the cluster.
    """

    def __init__(
        self, data_directory: Path | str, *, bin_directory: Path | str | None = None, start_seconds: float = 600.0
    ) -> None:
        self._directory = Path(data_directory).absolute()
        self._bin_given = Path(bin_directory).absolute() if bin_directory is not None else None
        self._start_seconds = start_seconds
        self._cluster = self._directory / "postgres"
        self._account: Account | None = None
        self._socket_directory: Path | None = None
        self._bin: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def dsn(self) -> str:
        """Where to connect. Raises RuntimeError before the start."""
        if self._socket_directory is None:
            raise RuntimeError("the embedded PostgreSQL has not been started")
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self._socket_directory), safe='/')}&port={PORT}"

    @property
    def pid(self) -> int | None:
        """The process id of the server that this object started; None when it uses a server that was there."""
        return self._child.pid if self._child is not None else None

    @property
    def log_file(self) -> Path:
        """Where the server writes its log."""
        return self._directory / "postgres.log"

    async def start(self) -> None:
        """Return once the server answers: initialised, recovered, ready. Raises PostgresError if it cannot be run."""
        if self._watcher is not None:
            raise RuntimeError("the embedded PostgreSQL is started already")
        if sys.platform == "win32":
            raise PostgresError("no embedded PostgreSQL on Windows: give the DSN of a PostgreSQL server")
        try:
            self._prepare()
            await self._bring_up()
        except OSError as error:
            await self.stop()
            raise PostgresError(f"PostgreSQL cannot be run in {self._directory}: {error}") from error
        except BaseException:
            await self.stop()
            raise
        self._watcher = asyncio.create_task(self._watch(), name="embedded PostgreSQL watcher")

    async def stop(self) -> None:
        """Stop the server if this object started it; never another one."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        child, self._child = self._child, None
        if child is None:
            return
        for number, seconds in (
            (signal.SIGINT, _FAST_STOP_SECONDS),
            (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS),
            (signal.SIGKILL, _IMMEDIATE_STOP_SECONDS),
        ):
            child.send_signal(number)
            if await _ended(child, seconds):
                return
            _log.warning("PostgreSQL has not stopped within %.0f s of %s", seconds, number.name)
        raise PostgresError(f"PostgreSQL, process {child.pid}, does not end")

    # Preparation

    def _prepare(self) -> None:
        """Settle who runs the server, from which binaries, with its socket where; change nothing outside our folder."""
        if not self._directory.exists():
            self._directory.mkdir(parents=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        self._account = unprivileged_account(self._cluster) if os.geteuid() == 0 else None
        if self._cluster.exists() and self._cluster.stat().st_uid != self._uid:
            raise PostgresError(f"{self._cluster} belongs to user {self._cluster.stat().st_uid}: run as that user")
        if self._account is not None:
            check_reach(self._account, self._directory)
        self._bin = find_binaries(self._bin_given, self._cluster, self._account)
        self._socket_directory = self._make_socket_directory()

    def _make_socket_directory(self) -> Path:
        directory = self._directory / "run"
        if len(os.fsencode(directory)) > _SOCKET_DIRECTORY_MAX or not re.fullmatch(r"[\w./+@-]+", str(directory), re.A):
            name = hashlib.sha256(os.fsencode(self._cluster.parent.resolve() / self._cluster.name)).hexdigest()[:16]
            directory = Path(f"/tmp/debt-mgmt-{self._uid}-{name}")
            _log.info("the path of the data directory does not suit a socket: using %s", directory)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            self._give(directory)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._uid or found.st_mode & 0o077:
            raise PostgresError(f"{directory} must be a folder that only user {self._uid} can open: remove it")
        return directory

    @property
    def _uid(self) -> int:
        return self._account.uid if self._account is not None else os.geteuid()

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    # Starting

    async def _bring_up(self) -> None:
        """Use the server that is there, or start one."""
        started = reported = time.monotonic()
        failed = 0
        while True:
            # Whoever holds this lock may start the server. The server inherits it, so it is free only when every
            # process of an earlier server has ended, and what postmaster.pid says then is certainly stale.
            with self._lock() as lock:
                if lock is not None:
                    try:
                        await self._start_child(lock, started)
                        return
                    except _Failed as error:
                        failed += 1
                        if failed >= _START_ATTEMPTS:
                            raise PostgresError(str(error)) from None
                        _log.warning("%s; trying again", error)
            if lock is None and await self._attach():
                return
            now = time.monotonic()
            if now - started > self._start_seconds:
                raise PostgresError(f"another process has used {self._cluster} for {now - started:.0f} s, unready")
            if now - reported > _PROGRESS_SECONDS:
                reported = now
                _log.info("waiting for the process that uses %s, for %.0f s", self._cluster, now - started)
            await asyncio.sleep(0.02 if lock is None else 0.1 * 2**failed)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int | None]:
        descriptor = self._open_ours(self._directory / "postgres.lock", os.O_RDWR)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)

    async def _attach(self) -> bool:
        """Whether a server that somebody else started is ready in our cluster; if so, use it."""
        found = read_lock_file(self._cluster)
        if found is None or found.status != "ready" or not _answers(found.socket_directory):
            return False
        self._socket_directory = Path(found.socket_directory)
        _log.info("using the PostgreSQL that already runs in %s, process %d", self._cluster, found.pid)
        return True

    async def _start_child(self, lock: int, started: float) -> None:
        """Start the server while holding the lock, and return once it is ready."""
        if not (self._cluster / "PG_VERSION").exists():
            await self._initialise(lock)
        found = read_lock_file(self._cluster)
        if found is not None and _answers(found.socket_directory):
            # Started by hand, without our lock.
            if await self._attach():
                return
            raise _Failed(
                f"PostgreSQL, process {found.pid}, runs in {self._cluster} and is {found.status or 'unready'}"
            )
        assert self._socket_directory is not None and self._bin is not None
        environment = server_environment()
        if found is not None:
            # The pid in a stale file may belong to anybody by now. PostgreSQL leaves a file with the pid of its
            # grandparent out of account, so it starts; and nobody is ever signalled for it.
            environment["PG_GRANDPARENT_PID"] = str(found.pid)
        for left_over in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
            (self._socket_directory / left_over).unlink(missing_ok=True)
        settings = [f"--{name}={value}" for name, value in _SERVER_SETTINGS.items()]
        with self._open_log() as log:
            child = self._launch(
                [str(self._bin / "postgres"), "-D", str(self._cluster), "-k", str(self._socket_directory), *settings],
                signal.SIGINT, environment, log, lock,
            )  # fmt: skip
        self._child = child
        reported = time.monotonic()
        while True:
            if child.poll() is not None:
                self._child = None
                raise _Failed(f"PostgreSQL ended with status {child.returncode} at its start: {self._log_tail()}")
            found = read_lock_file(self._cluster)
            if found is not None and found.pid == child.pid and found.status == "ready":
                break
            now = time.monotonic()
            if now - started > self._start_seconds:
                child.send_signal(signal.SIGINT)
                raise PostgresError(f"PostgreSQL is not ready after {now - started:.0f} s: {self._log_tail()}")
            if now - reported > _PROGRESS_SECONDS:
                reported = now
                _log.info("PostgreSQL is starting or recovering, for %.0f s: %s", now - started, self._log_tail(1))
            await asyncio.sleep(_POLL_SECONDS)
        _log.info("PostgreSQL is ready, process %d, after %.2f s", child.pid, time.monotonic() - started)

    async def _initialise(self, lock: int) -> None:
        """Make the cluster in a folder beside its place and move it there when it is whole."""
        if self._cluster.exists():
            raise PostgresError(f"{self._cluster} exists, but is no PostgreSQL cluster: move it away")
        for abandoned in self._directory.glob("postgres.initdb-*"):
            _log.info("removing %s, left by a start that was interrupted", abandoned)
            shutil.rmtree(abandoned)
        _log.info("initialising a PostgreSQL cluster in %s", self._cluster)
        new = Path(tempfile.mkdtemp(prefix="postgres.initdb-", dir=self._directory))
        self._give(new)
        assert self._bin is not None
        with self._open_log() as log:
            child = self._launch(
                [
                    str(self._bin / "initdb"), "-D", str(new), "-U", USER, "-E", "UTF8", "--locale=C",
                    "--auth-local=trust", "--auth-host=reject", "--data-checksums",
                ],
                signal.SIGKILL, server_environment(), log, lock,
            )  # fmt: skip
        try:
            if not await _ended(child, self._start_seconds):
                raise PostgresError(f"initdb has not ended after {self._start_seconds:.0f} s: {self._log_tail()}")
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if child.returncode != 0:
            raise PostgresError(f"initdb ended with status {child.returncode}: {self._log_tail()}")
        new.rename(self._cluster)
        _sync_directory(self._directory)

    def _launch(
        self, command: Sequence[str], death_signal: int, environment: dict[str, str], log: int, lock: int
    ) -> "subprocess.Popen[bytes]":
        uid, gid = (self._account.uid, self._account.gid) if self._account is not None else (-1, -1)
        return subprocess.Popen(
            [
                sys.executable, "-I", "-S", "-c", _LAUNCH,
                str(uid), str(gid), str(os.getpid()), str(int(death_signal)), *command,
            ],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )  # fmt: skip

    # Watching

    async def _watch(self) -> None:
        """Start the server again whenever it is gone, at once at first and more slowly if that does not last."""
        pause, up_since = 0.0, time.monotonic()
        while True:
            await self._gone()
            if time.monotonic() - up_since > _HEALTHY_SECONDS:
                pause = 0.0
            _log.error("PostgreSQL is gone, starting it again in %.1f s: %s", pause, self._log_tail(3))
            await asyncio.sleep(pause)
            pause = min(max(2 * pause, 0.05), _BACKOFF_SECONDS_MAX)
            try:
                await self._bring_up()
                self.restarts += 1
            except (PostgresError, OSError):
                _log.exception("PostgreSQL could not be started again")
            up_since = time.monotonic()

    async def _gone(self) -> None:
        if self._child is not None:
            while self._child.poll() is None:
                await asyncio.sleep(_WATCH_SECONDS)
            self._child = None
        else:
            while _answers(str(self._socket_directory)):
                await asyncio.sleep(_WATCH_SECONDS * 5)

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[int]:
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.old"))
        descriptor = self._open_ours(self.log_file, os.O_WRONLY | os.O_APPEND)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_ours(self, path: Path, flags: int) -> int:
        """Open a file of the server's account, never through a link that the account may have put in its place."""
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if self._account is not None:
            os.fchown(descriptor, self._account.uid, self._account.gid)
        return descriptor

    def _log_tail(self, lines: int = 10) -> str:
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - 4096))
                text = log.read().decode(errors="replace")
        except OSError as error:
            return f"no log: {error}"
        return " | ".join(text.splitlines()[-lines:]) or "the log is empty"


class _Failed(Exception):
    """A start that failed and may succeed when tried again."""


def read_lock_file(cluster: Path) -> LockFile | None:
    """What postmaster.pid says, None if there is none or it is still being written."""
    try:
        lines = (cluster / "postmaster.pid").read_text(errors="replace").splitlines()
        return LockFile(
            abs(int(lines[0])),
            lines[4].strip() if len(lines) > 4 else "",
            lines[7].strip() if len(lines) > 7 else "",
        )
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _answers(socket_directory: str) -> bool:
    """Whether a server listens there. A pid proves nothing: it may be reused, or that of a zombie."""
    if not socket_directory:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(f"{socket_directory}/{_SOCKET_NAME}")
        except BlockingIOError:
            return True  # It listens, and its queue of connections is full.
        except OSError:
            return False
    return True


async def _ended(child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while child.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
