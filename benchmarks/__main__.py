"""`python -m benchmarks`: measures, and prints what it found as a table, or as JSON for programs."""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks import calls, history, lending, machine, reaction, screening, syncing
from benchmarks.bench import QUICK, TINY, Bench, Sizes, begin
from benchmarks.figures import Failure, Figure, document, table
from benchmarks.servers import workplace

BENCHMARKS: dict[str, Callable[[Bench], list[Figure]]] = {
    "check": calls.check_order,
    "guarded": calls.check_order_guarded,
    "batch": calls.batch_check_orders,
    "stream": calls.stream_check_orders,
    "reserve": calls.reserve_margin,
    "reaction": reaction.reaction,
    "watch": calls.watch_margin,
    "screen": screening.screen,
    "history": history.history,
    "lending": lending.lending,
    "sync": syncing.syncing,
}
"""By the name that chooses them. `history` is replay, memory and start."""

HEADING = "Ratios are medians over rounds that measure the service and a bare grpc.aio echo in turn."
PIPED_WIDTH = 140


def measure(sizes: Sizes, chosen: list[str], prefer_go: bool, say: Callable[[str], None]) -> list[Figure | Failure]:
    """Carry out the benchmarks chosen. One that fails is told and the others go on."""
    found: list[Figure | Failure] = []
    with workplace() as folder, machine.on(machine.OTHER_CPUS), ExitStack() as closing:
        bench = begin(folder, sizes, closing, prefer_go=prefer_go)
        say(bench.load.note)
        for name in chosen:
            began = time.perf_counter()
            try:
                found += BENCHMARKS[name](bench)
            except Exception as error:  # noqa: BLE001 - it is shown in the table
                found.append(Failure(name, f"{type(error).__name__}: {error}"))
            say(f"{name}: {time.perf_counter() - began:.0f} s")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Ends with 1 when a benchmark failed, with 2 when --strict is given and a target was missed."""
    read = argparse.ArgumentParser(prog="python -m benchmarks", description=HEADING)
    read.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all without")
    read.add_argument("--quick", action="store_true", help="shorter rounds and smaller books: under a minute")
    read.add_argument("--tiny", action="store_true", help="only shows that everything runs")
    read.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too; - is the standard output")
    read.add_argument("--python-load", action="store_true", help="use the load generator in Python although Go is here")
    read.add_argument("--strict", action="store_true", help="end with 2 when a target is missed")
    options = read.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        read.error(f"no benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    logging.getLogger("debt_mgmt").setLevel(logging.ERROR)
    err = Console(stderr=True, highlight=False)
    circumstances: dict[str, object] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sizes": "tiny" if options.tiny else "quick" if options.quick else "full",
        "machine": machine.described(),
    }
    began = time.perf_counter()
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        err.print(text, style="dim", soft_wrap=True)

    sizes = TINY if options.tiny else QUICK if options.quick else Sizes()
    found = measure(sizes, options.names or list(BENCHMARKS), not options.python_load, say)
    circumstances |= {"load_generator": notes[0], "seconds": round(time.perf_counter() - began, 1)}
    if options.json == Path("-"):
        sys.stdout.write(document(found, circumstances).decode() + "\n")
    else:
        out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        out.print(table(found, HEADING))
        out.print(f"{machine.processor()}, {circumstances['seconds']} s in all; {notes[0]}.", style="dim")
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_bytes(document(found, circumstances))
    if any(isinstance(one, Failure) for one in found):
        return 1
    missed = any(isinstance(one, Figure) and one.met is False for one in found)
    return 2 if options.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
