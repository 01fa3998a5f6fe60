"""The service as a program of its own: started, waited for, killed or told to stop by its process id."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from debt_mgmt.server.config import variable_of
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.postgres import DATABASE, PORT, USER, EmbeddedPostgres, read_lock_file

PROJECT = Path(__file__).parents[2]
SERVE = ("debt_mgmt.server", "serve", "--json")
"""The command that everybody starts the service with."""

POLL_SECONDS = 0.01
START_SECONDS = 60.0
POSTGRES_SECONDS = 10.0

numbers = itertools.count(1)


class Program:
    """One run of the service on a data directory, with its own PostgreSQL. Whoever starts it ends it."""

    def __init__(
        self, directory: Path, settings: Mapping[str, str] | None = None, command: Sequence[str] = SERVE
    ) -> None:
        given = {
            "database.data_directory": str(directory),
            "server.address": "127.0.0.1:0",
            "server.metrics_port": "0",
            "server.log_level": "WARNING",
            "risk_settings.new_instruments": "open",
            **(settings or {}),
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DEBT_MGMT_")}
        environment |= {variable_of(path): value for path, value in given.items()}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in (str(PROJECT), *sys.path) if path)
        number = next(numbers)
        self.directory = directory
        self.announcement = directory.parent / f"announced-{number}.json"
        self.log_file = directory.parent / f"service-{number}.log"
        self.began = time.perf_counter()
        self.started_seconds = 0.0
        self.target = ""
        with self.announcement.open("wb") as output, self.log_file.open("wb") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def log(self) -> str:
        """What the service wrote to its log."""
        return self.log_file.read_text(errors="replace")

    def postgres_pid(self) -> int | None:
        """The process id of the PostgreSQL that runs in the data directory."""
        found = read_lock_file(self.directory / "postgres")
        return found.pid if found is not None else None

    async def ready(self) -> "Program":
        """Wait until the service says where it listens."""
        while not (said := self.announcement.read_text()).endswith("\n"):
            if self.child.poll() is not None:
                raise AssertionError(f"the service ended with status {self.child.returncode}: {self.log}")
            if time.perf_counter() - self.began > START_SECONDS:
                raise AssertionError(f"the service is not up after {START_SECONDS:.0f} s: {self.log}")
            await asyncio.sleep(POLL_SECONDS)
        self.started_seconds = time.perf_counter() - self.began
        self.target = json.loads(said.splitlines()[0])["target"]
        return self

    def kill(self) -> None:
        """kill -9. Its PostgreSQL hears of it from the kernel, and ends a little later."""
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        self.child.wait()

    async def clear_away(self) -> None:
        """kill -9 of what still runs; afterwards nothing uses the data directory."""
        pid = self.postgres_pid()
        self.kill()
        until = time.perf_counter() + POSTGRES_SECONDS
        while pid is not None and is_alive(pid):
            if time.perf_counter() > until:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and the status that the service ends with."""
        self.child.send_signal(signal.SIGTERM)
        return await self.ended(seconds)

    async def ended(self, seconds: float) -> int:
        """Wait for the end of the service, however it comes, and return its status."""
        until = time.perf_counter() + seconds
        while (status := self.child.poll()) is None:
            if time.perf_counter() > until:
                raise AssertionError(f"the service has not ended within {seconds:.0f} s: {self.log}")
            await asyncio.sleep(POLL_SECONDS)
        return status


@asynccontextmanager
async def running(
    directory: Path, settings: Mapping[str, str] | None = None, command: Sequence[str] = SERVE
) -> AsyncIterator[Program]:
    """A service that is up; what still runs of it at the end is killed."""
    program = Program(directory, settings, command)
    try:
        yield await program.ready()
    finally:
        await program.clear_away()


@asynccontextmanager
async def journal_of(program: Program) -> AsyncIterator[PostgresJournal]:
    """The journal of a service that runs, read past it through its own PostgreSQL."""
    found = read_lock_file(program.directory / "postgres")
    assert found is not None, "the service's PostgreSQL does not run"
    journal = await PostgresJournal.open(
        f"postgresql://{USER}@/{DATABASE}?host={quote(found.socket_directory, safe='/')}&port={PORT}", migrate=False
    )
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def journal_at_rest(directory: Path) -> AsyncIterator[PostgresJournal]:
    """The journal that a service left, through a PostgreSQL started for the reading."""
    server = EmbeddedPostgres(directory)
    await server.start()
    try:
        journal = await PostgresJournal.open(server.dsn, migrate=False)
        try:
            yield journal
        finally:
            await journal.close()
    finally:
        await server.stop()


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
