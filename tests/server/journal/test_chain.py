"""The chain of hashes: any change to a stored row is found, and its position named."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from debt_mgmt.server.journal.journal import GENESIS, Head, JournalDamaged, Row, chain_hash, link, microseconds, verify

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def log(count: int = 5) -> list[Row]:
    rows: list[Row] = []
    previous = GENESIS
    for position in range(1, count + 1):
        at = START + timedelta(seconds=position)
        row = link(previous, 1, position, 7, at, "alice", "r", b"d", "desk", "Added", b'{"amount":"1"}')
        rows.append(row)
        previous = row.hash
    return rows


def test_an_untouched_log_verifies_to_its_head() -> None:
    rows = log()
    assert verify(rows) == Head(5, rows[-1].hash)
    assert verify(rows[3:], Head(3, rows[2].hash)) == Head(5, rows[-1].hash)
    assert verify([], Head(3, rows[2].hash)) == Head(3, rows[2].hash)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shard", 2),
        ("epoch", 8),
        ("at", START + timedelta(seconds=3, microseconds=1)),
        ("account_id", "alicf"),
        ("request_id", "q"),
        ("request_digest", b"e"),
        ("request_digest", None),
        ("actor", "dust"),
        ("kind", "Addee"),
        ("payload", b'{"amount":"2"}'),
        ("payload", b'{"amount": "1"}'),
        ("hash", bytes(32)),
    ],
)
def test_a_changed_field_is_found_at_its_position(field: str, value: Any) -> None:
    rows = log()
    rows[2] = msgspec.structs.replace(rows[2], **{field: value})
    with pytest.raises(JournalDamaged) as damaged:
        verify(rows)
    assert damaged.value.position == 3


def test_a_removed_row_is_found_at_its_position() -> None:
    rows = log()
    del rows[2]
    with pytest.raises(JournalDamaged) as damaged:
        verify(rows)
    assert damaged.value.position == 3


def test_a_row_that_is_forged_with_a_fitting_hash_is_found_at_the_next() -> None:
    rows = log()
    forged = msgspec.structs.replace(rows[2], payload=b'{"amount":"9"}')
    rows[2] = msgspec.structs.replace(forged, hash=chain_hash(rows[1].hash, forged))
    with pytest.raises(JournalDamaged) as damaged:
        verify(rows)
    assert damaged.value.position == 4


def test_time_running_backwards_is_found() -> None:
    first = link(GENESIS, 1, 1, 1, START, "a", "", None, "", "Added", b"{}")
    second = link(first.hash, 1, 2, 1, START - timedelta(microseconds=1), "a", "", None, "", "Added", b"{}")
    with pytest.raises(JournalDamaged) as damaged:
        verify([first, second])
    assert damaged.value.position == 2


def test_text_moved_from_one_field_to_its_neighbour_changes_the_hash() -> None:
    one = link(GENESIS, 1, 1, 1, START, "ab", "c", b"", "", "Added", b"{}")
    other = link(GENESIS, 1, 1, 1, START, "a", "bc", b"", "", "Added", b"{}")
    assert one.hash != other.hash


def test_microseconds_are_exact_in_every_zone() -> None:
    at = datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC)
    assert microseconds(at) == 9_223_372_036_854_775
    assert microseconds(at.astimezone(timezone(timedelta(hours=5, minutes=30)))) == microseconds(at)


def test_the_hash_of_a_known_row_never_changes() -> None:
    """Rows that were written stay verifiable for ever: this value must not be edited."""
    row = link(GENESIS, 1, 1, 1, START, "alice", "r-1", b"digest", "desk", "Added", b'{"amount":"1"}')
    assert row.hash.hex() == "ef440371b7bd005e7c04e3cfe8875b900f2171c30e8998f4b872b348fe437091"
