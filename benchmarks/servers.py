"""Starting what is measured as processes of their own, each kept on one processor: the real service, and the echo."""

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from benchmarks import machine

START_SECONDS = 120.0
NO_MORE: Mapping[str, str] = MappingProxyType({})

SETTINGS = {
    "DEBT_MGMT_PRICES_PRE_TRADE_MAX_AGE_SECONDS": "3600",
    "DEBT_MGMT_PRICES_MARK_MAX_AGE_SECONDS": "3600",
    "DEBT_MGMT_RISK_SETTINGS_MAX_DAILY_LOSS_FRACTION": "null",
    "DEBT_MGMT_RISK_SETTINGS_MAX_DRAWDOWN_FRACTION": "null",
    "DEBT_MGMT_RISK_SETTINGS_NEW_INSTRUMENTS": "open",
}
"""Marks stay fresh between rounds, and no breaker ends a measurement. Everything else is as a user gets it."""

EVERYTHING_ON = {
    "DEBT_MGMT_SERVER_AUTH": "tokens",
    "DEBT_MGMT_SERVER_TRACES_EXPORTER": "console",
    "DEBT_MGMT_SERVER_TRACES_SAMPLED_SHARE": "0.01",
}
"""Tokens, and with them quotas; one call in a hundred is traced. Metrics and the audit are always on."""


class StartFailed(Exception):
    """A process did not begin to serve."""


class Server:
    """A process that serves gRPC."""

    def __init__(self, child: "subprocess.Popen[str]", target: str, started_in: float) -> None:
        self.child = child
        self.pid = child.pid
        self.target = target
        self.token = ""
        """What to send with every call; empty where nobody has to say who they are."""
        self.started_in = started_in
        """Seconds until it said that it serves."""

    def cpu_seconds(self) -> float:
        return machine.cpu_seconds(self.pid) or 0.0

    def database_pids(self) -> list[int]:
        return machine.descendants(self.pid)

    def database_cpu_seconds(self) -> float:
        """What its PostgreSQL has used; that of connections already closed counts to the first of its processes."""
        return sum(machine.cpu_seconds(pid) or 0.0 for pid in self.database_pids())


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server: none of this machine's settings, and the same places to import from."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEBT_MGMT_")}
    return {**inherited, **SETTINGS, **settings, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, cpus: set[int], settings: Mapping[str, str] = NO_MORE
) -> Iterator[Server]:
    """Run a command that prints a line of JSON with its target once it serves; end it afterwards."""
    began = time.perf_counter()
    with log.open("w") as errors, machine.on(cpus):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(settings))
    try:
        line = first_line(child)
        if not line:
            raise StartFailed(f"{' '.join(command[1:4])} did not start: {log.read_text()[-1000:]}")
        told = msgspec.json.decode(line)
        server = Server(child, told["target"], time.perf_counter() - began)
        if told.get("admin_token_file"):
            server.token = Path(told["admin_token_file"]).read_text().strip()
        yield server
    finally:
        machine.stop(child)


def first_line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    with selectors.DefaultSelector() as waiting:
        waiting.register(child.stdout, selectors.EVENT_READ)
        return child.stdout.readline() if waiting.select(START_SECONDS) else ""


@contextlib.contextmanager
def service(folder: Path, *, cpus: set[int] | None = None, settings: Mapping[str, str] = NO_MORE) -> Iterator[Server]:
    """The real service on a data directory, on one processor; its PostgreSQL runs beside the load generator."""
    command = [
        sys.executable, "-m", "debt_mgmt.server", "serve", "--json",
        "--address", "127.0.0.1:0", "--metrics-port", "0", "--data-dir", str(folder),
    ]  # fmt: skip
    chosen = machine.SERVER_CPUS if cpus is None else cpus
    with started(command, folder.with_suffix(".log"), chosen, settings) as server:
        for pid in server.database_pids():
            machine.move(pid, machine.OTHER_CPUS if chosen == machine.SERVER_CPUS else chosen)
        yield server


@contextlib.contextmanager
def echo(log: Path) -> Iterator[Server]:
    """The bare echo, on the processor of the service."""
    with started([sys.executable, "-m", "benchmarks.echo"], log, machine.SERVER_CPUS) as server:
        yield server


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder for everything of one run, removed afterwards; the user that PostgreSQL runs as can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="debt-mgmt-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
