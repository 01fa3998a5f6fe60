"""The long form: `python -m tests.storm` opens 5,000 watchers and prints what they cost."""

import argparse
import asyncio
import sys

from tests.durability.program import running
from tests.server.journal.places import open_place
from tests.storm.watchers import Figures, Stall, stall, storm


async def measure(watchers: int, changes: int) -> tuple[Figures, Stall]:
    with open_place() as place:
        async with running(place / "storm") as program:
            figures = await storm(program.target, program.pid, watchers)
        async with running(place / "stall") as program:
            return figures, await stall(program.target, program.pid, changes)


def main() -> None:
    read = argparse.ArgumentParser(prog="python -m tests.storm")
    read.add_argument("--watchers", type=int, default=5_000)
    read.add_argument("--changes", type=int, default=5_000)
    options = read.parse_args()
    many, one = asyncio.run(measure(options.watchers, options.changes))
    sys.stdout.write(
        f"{many.watchers} idle watchers: open in {many.opened_seconds:.1f} s, {many.bytes_each / 1024:.0f} KiB each\n"
        f"one change reaches all of them in {many.fan_out_seconds:.1f} s\n"
        f"all cut off and back at once: {many.again_seconds:.1f} s, "
        f"the slowest ordinary call meanwhile {many.served_seconds:.2f} s\n"
        f"a stalled watcher during {options.changes} changes: others wait {one.slowest_seconds:.2f} s at most, "
        f"it finds {one.messages} messages, one for {one.merged + 1} changes, "
        f"the oldest {one.behind_seconds:.1f} s old, memory {one.memory_bytes / 1e6:+.1f} MB\n"
    )


if __name__ == "__main__":
    main()
