"""The short form of the fuzzing: nothing crashes or leaks, memory stays bounded, an honest caller is served."""

import pytest

from tests.durability.program import running
from tests.fuzz.campaign import INTERNALS, campaign, resident_bytes
from tests.fuzz.connections import KINDS
from tests.fuzz.mutations import attempts
from tests.server.journal.places import open_place
from tests.support.wire import METHODS

REQUESTS, CONNECTIONS, SEED = 5_000, 600, 20
GROWTH_BYTES_MOST = 250_000_000
HONEST_SECONDS_MOST = 5.0


async def test_mutated_requests_and_broken_connections_do_no_harm() -> None:
    with open_place() as place:
        async with running(place / "data") as program:
            before = resident_bytes(program.pid)
            found = await campaign(program.target, program.pid, SEED, REQUESTS, CONNECTIONS)
            assert program.child.poll() is None, program.log[-3000:]
            assert "Traceback" not in program.log, program.log[-3000:]
    assert found.wrong == []
    assert (found.requests, found.connections) == (REQUESTS, CONNECTIONS)
    assert max(found.memory) - before < GROWTH_BYTES_MOST
    assert found.honest_calls > 10
    assert found.honest_slowest_seconds < HONEST_SECONDS_MOST
    assert found.codes["INVALID_ARGUMENT"] > REQUESTS / 10
    assert found.codes["OK"] > REQUESTS / 20, "what is refused at the door finds nothing behind it"


def test_the_same_seed_makes_the_same_requests() -> None:
    count = 2 * len(METHODS)
    one, two = [[make() for make in attempts(7, count)] for _ in range(2)]
    assert one == two != [make() for make in attempts(8, count)]
    assert {attempt.name for attempt in one} == set(METHODS)
    assert len(KINDS) == 12


@pytest.mark.parametrize(
    "words",
    [
        "Unexpected <class 'ValueError'>: x",
        "KeyError: 'alice'",
        'File "/opt/debt-mgmt/lib/engine.py", line 3',
        "SELECT payload FROM debt_mgmt.journal",
        "postgresql://debt:secret@db/debt",
        "'NoneType' has no attribute x",
    ],
)
def test_internals_are_recognised(words: str) -> None:
    assert INTERNALS.search(words)


def test_words_for_callers_are_no_internals() -> None:
    said = "a fault of the service; its log has it as incident 0a1b2c3d4e5f\nsymbol: must be given\nBTCUSDT"
    assert INTERNALS.search(said) is None
