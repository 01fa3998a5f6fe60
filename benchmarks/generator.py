"""The load generator: a small Go program, so that the caller is never what limits; without Go, a Python one."""

import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import machine

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "benchmarks" / "load"
PROGRAM = PROJECT / ".build" / "load"
BUILD_SECONDS = 240.0
SPARE_SECONDS = 60.0
LENGTH = struct.Struct(">I")


class Report(msgspec.Struct, frozen=True):
    """What one run of the generator measured."""

    generator: str
    calls: int
    calls_in_all: int
    seconds: float
    errors: int
    first_error: str
    p50_ms: float
    p99_ms: float
    response_bytes: float

    @property
    def rate(self) -> float:
        """Calls, or messages of a stream, a second."""
        return self.calls / self.seconds if self.seconds > 0 else 0.0


class LoadError(Exception):
    """Calls failed, so nothing was measured."""


class Generator:
    """Runs the generator on requests that it writes to files in a folder."""

    def __init__(self, folder: Path, command: Sequence[str], note: str) -> None:
        self.folder = folder
        self.command = command
        self.note = note
        self.files = 0

    def requests(self, messages: Sequence[bytes]) -> Path:
        """A file of requests."""
        self.files += 1
        path = self.folder / f"requests-{self.files}"
        path.write_bytes(frames(messages))
        return path

    def run(
        self,
        target: str,
        method: str,
        requests: Path,
        *,
        mode: str = "unary",
        in_flight: int = 64,
        streams: int = 1,
        connections: int = 4,
        seconds: float = 1.0,
        warm_up: float = 0.2,
        once: bool = False,
        responses: Path | None = None,
        token: str = "",
    ) -> Report:
        """Call for so many seconds, after a time to warm up; `once` ends with the last request. Raises LoadError."""
        arguments = [
            *self.command, "-target", target, "-method", method, "-requests", str(requests), "-mode", mode,
            "-in-flight", str(in_flight), "-streams", str(streams), "-connections", str(connections),
            "-seconds", str(seconds), "-warm-up", str(warm_up),
        ]  # fmt: skip
        if once:
            arguments.append("-once")
        if token:
            arguments += ["-token", token]
        if responses is not None:
            arguments += ["-responses", str(responses)]
        with machine.on(machine.OTHER_CPUS):
            done = subprocess.run(
                arguments, capture_output=True, text=True, timeout=seconds + warm_up + SPARE_SECONDS, check=False
            )
        if done.returncode != 0:
            raise LoadError(f"the load generator ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        report = msgspec.json.decode(done.stdout, type=Report)
        if report.errors:
            raise LoadError(f"{report.errors} calls of {method} failed, the first one with: {report.first_error}")
        return report


def frames(messages: Sequence[bytes]) -> bytes:
    return b"".join(LENGTH.pack(len(message)) + message for message in messages)


def read_frames(path: Path) -> list[bytes]:
    whole, start, found = path.read_bytes(), 0, []
    while start < len(whole):
        (length,) = LENGTH.unpack_from(whole, start)
        start += LENGTH.size
        found.append(whole[start : start + length])
        start += length
    return found


def made(folder: Path, *, prefer_go: bool = True) -> Generator:
    """The Go generator, built when it is not; the Python one where that can't be."""
    python = [sys.executable, "-m", "benchmarks.python_load"]
    warning = "the load generator is written in Python and may limit what is measured"
    if not prefer_go:
        return Generator(folder, python, warning)
    go = shutil.which("go")
    if go is None:
        return Generator(folder, python, f"go is not installed: {warning}")
    PROGRAM.parent.mkdir(exist_ok=True)
    try:
        subprocess.run(
            [go, "build", "-o", str(PROGRAM), "."],
            cwd=SOURCE, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        return Generator(folder, python, f"the Go load generator could not be built ({''.join(said)}): {warning}")
    return Generator(folder, [str(PROGRAM)], "the load generator is written in Go")
