"""The memory of answered requests: found within the window, forgotten after it, stored and loaded."""

from datetime import UTC, datetime, timedelta

from debt_mgmt.server.journal.journal import microseconds
from debt_mgmt.server.journal.requests import Answered, RequestIndex, digest_of

START = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(hours=24)


def test_a_request_is_known_by_account_and_id() -> None:
    index = RequestIndex(DAY)
    index.note("alice", "1", b"digest", 10, microseconds(START), 3)
    assert index.find("alice", "1") == Answered(digest_of(b"digest"), 10, 12)
    assert index.find("bob", "1") is None
    assert index.find("alice", "2") is None


def test_rows_noted_one_by_one_are_one_answer() -> None:
    index = RequestIndex(DAY)
    for position in (10, 11, 12):
        index.note("alice", "1", b"digest", position, microseconds(START))
    assert index.find("alice", "1") == Answered(digest_of(b"digest"), 10, 12)
    assert len(index) == 1


def test_an_id_used_again_after_the_window_means_the_newer_request() -> None:
    index = RequestIndex(DAY)
    index.note("alice", "1", b"old", 10, microseconds(START))
    index.note("alice", "1", b"new", 500, microseconds(START + 2 * DAY))
    assert index.find("alice", "1") == Answered(digest_of(b"new"), 500, 500)


def test_requests_are_kept_through_the_window_and_forgotten_some_time_after() -> None:
    index = RequestIndex(DAY)
    for number in range(20_000):
        index.note("alice", str(number), b"", number + 1, microseconds(START + timedelta(seconds=number)))
    index.note("alice", "0", b"again", 90_000, microseconds(START + timedelta(seconds=20_000)))
    now = START + DAY + timedelta(seconds=10_000)
    index.forget(now)
    assert index.find("alice", "1") is None
    assert index.find("alice", "0") is not None
    assert all(index.find("alice", str(number)) for number in range(10_000, 20_000))
    assert 10_000 <= len(index) < 16_000
    index.forget(now + DAY)
    assert len(index) < 4_200


def test_what_is_stored_can_be_loaded_and_goes_on_being_forgotten() -> None:
    index = RequestIndex(DAY)
    for number in range(10_000):
        index.note(
            "alice",
            str(number),
            str(number).encode(),
            2 * number + 1,
            microseconds(START + timedelta(seconds=number)),
            2,
        )
    records = index.records()
    index.note("alice", "later", b"", 99_999, microseconds(START + timedelta(seconds=10_000)))
    loaded = RequestIndex(DAY)
    for chunk in records:
        loaded.load(chunk)
    assert len(loaded) == 10_000
    assert loaded.find("alice", "later") is None
    assert loaded.find("alice", "77") == index.find("alice", "77") == Answered(digest_of(b"77"), 155, 156)
    loaded.forget(START + 2 * DAY)
    assert len(loaded) < 4_200
