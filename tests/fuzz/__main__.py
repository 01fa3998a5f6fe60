"""The long form: 100,000 mutated requests over gRPC, 10,000 broken connections, 30,000 odd requests over HTTP."""

import argparse
import asyncio
import sys

from tests.durability.program import running
from tests.fuzz.campaign import Findings, campaign
from tests.fuzz.http_campaign import http_campaign
from tests.server.journal.places import open_place


def tell(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


async def attack(seed: int, requests: int, connections: int, http_requests: int) -> Findings:
    with open_place() as place:
        async with running(place / "data") as program:
            findings = await campaign(program.target, program.pid, seed, requests, connections, tell)
            tell(f"now {http_requests} requests over HTTP")
            await http_campaign(program, seed, http_requests, findings)
            if program.child.poll() is not None:
                findings.tell(f"the service ended with status {program.child.returncode}")
            logged = [line for line in program.log.splitlines() if "Traceback" in line]
            if logged:
                findings.tell(f"{len(logged)} tracebacks in the log:\n{program.log[-6000:]}")
    return findings


def main() -> int:
    read = argparse.ArgumentParser(prog="python -m tests.fuzz")
    read.add_argument("--requests", type=int, default=100_000)
    read.add_argument("--connections", type=int, default=10_000)
    read.add_argument("--http-requests", type=int, default=30_000)
    read.add_argument("--seed", type=int, default=1)
    options = read.parse_args()
    found = asyncio.run(attack(options.seed, options.requests, options.connections, options.http_requests))
    tell(f"seed {options.seed}: {found.requests} requests, {found.connections} connections, {found.seconds:.0f} s")
    tell("answers: " + ", ".join(f"{code} {count}" for code, count in found.codes.most_common()))
    numbers = ", ".join(f"{code} {count}" for code, count in found.http_codes.most_common())
    tell(f"over HTTP: {found.http_requests} requests, answers: {numbers}")
    tell(f"slowest answer {found.slowest_seconds:.2f} s")
    tell(f"honest caller: {found.honest_calls} deposits, slowest {found.honest_slowest_seconds:.2f} s")
    megabytes = [round(size / 1e6) for size in found.memory]
    tell(f"memory of the service: first {megabytes[0]} MB, most {max(megabytes)} MB, last {megabytes[-1]} MB")
    for problem in found.wrong:
        tell(f"WRONG: {problem}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
