"""The long form of the kills: `python -m tests.durability --minutes N` kills a service under load for so long."""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator

from tests.durability.kills import Figures, Victim, campaign
from tests.server.journal.places import open_place

WEIGHTS = {
    Victim.SERVICE: 4,
    Victim.BOTH: 3,
    Victim.SERVICE_TWICE: 2,
    Victim.POSTGRES: 4,
    Victim.NOBODY: 1,
}
SETTINGS = {"database.snapshot_every": "1000"}
PAUSE_SECONDS = 0.05
REPEATED_EACH_ROUND = 10
ROUND_SECONDS = (0.1, 4.0)
TOLD_EVERY_ROUNDS = 10


def rounds(minutes: float, chance: random.Random) -> Iterator[tuple[Victim, float]]:
    until = time.monotonic() + minutes * 60
    while time.monotonic() < until:
        yield chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0], chance.uniform(*ROUND_SECONDS)


def tell(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


async def soak(minutes: float, seed: int) -> None:
    def told(figures: Figures) -> None:
        if sum(figures.rounds.values()) % TOLD_EVERY_ROUNDS == 0:
            tell(str(figures))

    with open_place() as place:
        run = await campaign(
            place / "data",
            rounds(minutes, random.Random(seed)),
            seed=seed,
            settings=SETTINGS,
            pause_seconds=PAUSE_SECONDS,
            repeated_each_round=REPEATED_EACH_ROUND,
            told=told,
        )
    tell(f"{run.figures}; {run.proof.rows} rows read from nothing; {run.load.unanswered} calls never answered")
    tell(f"what callers met: {', '.join(f'{count} x {code.name}' for code, count in run.load.failures.items())}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to go on killing")
    parser.add_argument(
        "--seed", type=int, default=None, help="of what is killed when; another one each time by default"
    )
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    tell(f"seed {seed}")
    asyncio.run(soak(given.minutes, seed))


if __name__ == "__main__":
    main()
