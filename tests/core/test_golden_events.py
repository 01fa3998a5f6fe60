"""Events that were once written are readable for ever: one row of each kind, as the journal has it, never changed."""

import json
from pathlib import Path

import pytest

from debt_mgmt.core import events as e
from tests.support.desk import decode, encode

ROWS = (Path(__file__).parent / "golden_events.jsonl").read_text("utf-8").splitlines()


def kind(row: str) -> str:
    return str(json.loads(row)["event"])


def kinds_of_events() -> set[str]:
    return {one.__name__ for one in e.Event.__subclasses__()}


def test_every_kind_of_event_has_a_row() -> None:
    """A new event gets its row here, with every field set, in the change that brings it."""
    assert {kind(row) for row in ROWS} == kinds_of_events()


def test_every_kind_of_event_can_be_read_from_the_journal() -> None:
    listed = {one.__name__ for one in e.AnyEvent.__args__}
    assert listed == kinds_of_events()


@pytest.mark.parametrize("row", ROWS, ids=[kind(row) for row in ROWS])
def test_a_row_of_the_journal_is_read_as_it_was_written(row: str) -> None:
    """Nothing in it is lost or renamed: it is written again as it stands, field by field and digit by digit."""
    event = decode(row.encode())
    assert e.kind_of(event) == kind(row)
    again = json.loads(encode(event))
    for name, value in json.loads(row).items():
        assert again[name] == value, name


@pytest.mark.parametrize("row", ROWS, ids=[kind(row) for row in ROWS])
def test_a_row_has_every_field_that_it_had_to_have(row: str) -> None:
    """Without a field that has no default a row is refused, and not read as something else."""
    whole = json.loads(row)
    event_class = next(one for one in e.Event.__subclasses__() if one.__name__ == kind(row))
    for name in event_class.__struct_fields__[
        : len(event_class.__struct_fields__) - len(event_class.__struct_defaults__)
    ]:
        partial = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(Exception, match=name):
            decode(json.dumps(partial).encode())


def test_a_row_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Exception, match="SomethingElse"):
        decode(b'{"event":"SomethingElse"}')
