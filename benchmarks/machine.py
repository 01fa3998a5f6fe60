"""The machine that is measured on: which processor runs what, and how much time and memory a process has taken."""

import asyncio
import contextlib
import os
import platform
import re
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROC = Path("/proc")
LIBRARIES = ("grpcio", "protobuf", "msgspec", "uvloop", "asyncpg", "numpy")


def cpus() -> tuple[set[int], set[int]]:
    """The processor that servers are kept on, and those of everything else; both empty where nothing can be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return set(), set()
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return set(), set()
    return {allowed[0]}, set(allowed[1:])


SERVER_CPUS, OTHER_CPUS = cpus()
EVERY_CPU = SERVER_CPUS | OTHER_CPUS


@contextlib.contextmanager
def on(chosen: set[int]) -> Iterator[None]:
    """Run this process, and what it starts, on the processors chosen."""
    if not chosen:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, chosen: set[int]) -> None:
    """Move every thread of a process to the processors chosen."""
    if not chosen:
        return
    for thread in (PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), chosen)


def descendants(pid: int) -> list[int]:
    """Every process that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used; None where the machine does not say."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Memory of a process that is in use; None where the machine does not say."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run on the event loop that the service runs on: uvloop where it is installed."""
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(work)


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def stop(child: "subprocess.Popen[str]", seconds: float = 20.0) -> None:
    """End a process that this one started: asked first, killed when it does not go in time."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def described() -> dict[str, str]:
    """What the figures depend on, in words."""
    return {
        "processor": processor(),
        "processors": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "not known",
        "python": platform.python_version(),
        **{name: version_of(name) for name in LIBRARIES},
    }


def processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", (PROC / "cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
