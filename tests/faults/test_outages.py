"""The short form: a database that is stopped, frozen or full for a few seconds loses nothing, and everybody is told."""

from typing import Any

import pytest

from tests.faults.outages import Findings, Kind, NoSmallDisk, outage
from tests.server.journal.places import open_place

SECONDS = 6.0
SLOWEST_READ_SECONDS = 5.0


async def lost(kind: Kind) -> Findings:
    with open_place() as place:
        try:
            return await outage(place, kind, SECONDS)
        except NoSmallDisk as error:
            pytest.skip(f"a small disk can not be mounted here: {error}")


DOCTOR_SECONDS_MOST = 12.0
"""Somebody waits for it at the worst of times; its own starting included."""


def wrong(findings: list[dict[str, str]]) -> dict[str, Any]:
    return {one["subject"]: one["words"] for one in findings if one["state"] == "WRONG"}


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
async def test_a_database_that_is_away_is_told_and_nothing_acknowledged_is_lost(kind: Kind) -> None:
    found = await lost(kind)
    assert found.wrong == []
    assert found.acknowledged > 50 and found.repeated_alike == found.acknowledged
    assert found.acknowledged_during <= 20 or kind is Kind.FULL, "what was under way, or fits into pages that are there"
    assert found.unanswered, "nobody was told that he was not answered"
    assert found.reads > 50 and found.slowest_read_seconds < SLOWEST_READ_SECONDS
    assert found.health["serving"] is True and found.health["protecting"] is False
    assert "the journal can't be written" in found.health["reasons"][0]
    assert found.metrics["journal_stuck_seconds"] > 1 and found.metrics["protecting"] == 0
    assert found.doctor_seconds < DOCTOR_SECONDS_MOST
    named = wrong(found.doctor)
    assert "the journal can't be written" in named["protection"]
    if kind is Kind.FULL:
        assert "No space left on device" in named["protection"]
    else:
        assert "does not answer" in named["database"]
    assert (found.metrics_afterwards["journal_stuck_seconds"], found.metrics_afterwards["protecting"]) == (0, 1)
    assert not {"protection", "journal", "database", "service"} & wrong(found.doctor_afterwards).keys()
