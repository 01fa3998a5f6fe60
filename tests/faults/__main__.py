"""The long form: `python -m tests.faults` takes the database away for a minute, in each of three ways."""

import argparse
import asyncio
import sys

from tests.faults.outages import Kind, NoSmallDisk, outage
from tests.server.journal.places import open_place


def main() -> int:
    read = argparse.ArgumentParser(prog="python -m tests.faults")
    read.add_argument("--seconds", type=float, default=60.0)
    seconds, wrong = read.parse_args().seconds, 0
    for kind in Kind:
        with open_place() as place:
            try:
                found = asyncio.run(outage(place, kind, seconds))
            except NoSmallDisk as error:
                sys.stdout.write(f"database {kind.value}: not tried, a small disk can not be mounted here: {error}\n")
                continue
        wrong += len(found.wrong)
        sys.stdout.write(f"{found}\n" + "".join(f"WRONG: {problem}\n" for problem in found.wrong))
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
