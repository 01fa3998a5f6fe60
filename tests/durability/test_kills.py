"""Kill -9 under load: what was acknowledged is there, once, and the state is what the journal says."""

import random
from pathlib import Path

from tests.durability.kills import Victim, campaign

OFTEN = {"database.snapshot_every": "200"}
"""So many snapshots of the live state are compared with the journal read from nothing."""


PAUSE_SECONDS = 0.02
"""Callers that rest a little between two calls, so that the suite stays short."""


async def test_every_acknowledged_write_survives_kills_of_the_service(data_directory: Path) -> None:
    chance = random.Random(11)
    victims = [Victim.SERVICE, Victim.BOTH, Victim.SERVICE_TWICE] * 2
    rounds = [(victim, chance.uniform(0.2, 0.5)) for victim in victims]
    run = await campaign(data_directory, rounds, seed=11, settings=OFTEN, pause_seconds=PAUSE_SECONDS)
    assert run.figures.acknowledged > 200, run.figures


async def test_the_service_outlives_kills_of_its_database(data_directory: Path) -> None:
    chance = random.Random(12)
    rounds = [(Victim.POSTGRES, chance.uniform(0.2, 0.5)) for _ in range(3)]
    run = await campaign(data_directory, rounds, seed=12, settings=OFTEN, pause_seconds=PAUSE_SECONDS)
    assert run.figures.acknowledged > 200, run.figures
