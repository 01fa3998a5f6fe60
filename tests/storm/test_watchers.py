"""A reconnect storm is served, and a watcher that stalls costs the others nothing and can see how old its news is."""

from tests.durability.program import running
from tests.server.journal.places import open_place
from tests.storm.watchers import stall, storm

WATCHERS = 1_000
"""`make storm` does it with 5,000."""
CHANGES = 1_000
BYTES_EACH_MOST = 200_000


async def test_all_watchers_come_back_at_once_and_are_served() -> None:
    with open_place() as place:
        async with running(place / "data") as program:
            figures = await storm(program.target, program.pid, WATCHERS)
            assert figures.bytes_each < BYTES_EACH_MOST, figures
            assert max(figures.opened_seconds, figures.again_seconds) < 30, figures
            assert figures.served_seconds < 15, figures


async def test_a_stalled_watcher_costs_others_nothing_and_sees_its_age() -> None:
    with open_place() as place:
        async with running(place / "data") as program:
            figures = await stall(program.target, program.pid, CHANGES)
            assert figures.slowest_seconds < 5, figures
            assert figures.messages < CHANGES, "most of what it did not read was merged"
            assert figures.merged > 0, figures
            assert figures.behind_seconds > 0.1, figures
            assert figures.memory_bytes < 60_000_000, figures
