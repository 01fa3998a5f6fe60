"""The tape reader: what it reads, what it refuses and with which line, and how it is played back."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from debt_mgmt.server.prices.tape import Instant, TapeError, instants, paced, read_tape

D = Decimal
RECORDED = Path(__file__).parents[4] / "shared" / "data" / "btc-eth-usd-1m-2017-09-03.csv.gz"
HEADER = "timestamp_ms,symbol,open,high,low,close,volume"
BARS = f"""{HEADER}
1504396800000,BTCUSD,4642.39,4652.71,4642.39,4652.69,6.63
1504396800000,ETHUSD,354.88,354.88,354.84,354.84,50.29
1504396920000,BTCUSD,4652.68,4654.99,4645.28,4654.33,1.36
"""
MIDNIGHT = datetime(2017, 9, 3, tzinfo=UTC)


def read(text: str) -> list[Instant]:
    return list(instants("tape.csv", text.splitlines(keepends=True)))


def refused(text: str) -> TapeError:
    with pytest.raises(TapeError) as error:
        read(text)
    return error.value


def test_bars_of_one_timestamp_are_one_instant() -> None:
    assert read(BARS) == [
        Instant(MIDNIGHT, [("BTCUSD", D("4652.69")), ("ETHUSD", D("354.84"))]),
        Instant(MIDNIGHT + timedelta(minutes=2), [("BTCUSD", D("4654.33"))]),
    ]


def test_a_tape_is_read_plain_and_compressed_whatever_its_name(tmp_path: Path) -> None:
    plain, compressed = tmp_path / "tape.csv.gz", tmp_path / "tape.csv"
    plain.write_text(BARS)
    compressed.write_bytes(gzip.compress(BARS.encode()))
    assert list(read_tape(plain)) == list(read_tape(compressed)) == read(BARS)


def test_columns_may_stand_in_any_order_and_others_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "tape.csv"
    path.write_bytes(b'\xef\xbb\xbfclose,note,symbol,timestamp_ms\r\n1.5,,ABC,1000\r\n\r\n1.6,"a, b",ABC,2000\r\n')
    assert [instant.prices for instant in read_tape(path)] == [[("ABC", D("1.5"))], [("ABC", D("1.6"))]]


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market is not beside the project")
def test_the_recorded_market_is_read_whole() -> None:
    film = list(read_tape(RECORDED))
    assert film[0] == Instant(MIDNIGHT, [("BTCUSD", D("4652.69")), ("ETHUSD", D("354.84"))])
    assert film[-1].time == datetime(2017, 9, 4, 23, 59, tzinfo=UTC)
    assert all(before.time < after.time for before, after in pairwise(film))
    by_time = {instant.time: dict(instant.prices) for instant in film}
    assert by_time[datetime(2017, 9, 4, 14, 57, tzinfo=UTC)] == {"BTCUSD": D("4308.21"), "ETHUSD": D("290.11")}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", None, "the file is empty"),
        (f"{HEADER}\n", None, "there is a header and no bar"),
        ("time,symbol,price\n1,ABC,2\n", 1, "the header lacks timestamp_ms, close"),
        (f"{HEADER}\n1,ABC,1,1,1,2\n", 2, "6 fields where the header has 7"),
        (f"{HEADER}\n1,ABC,1,1,1,NaN,0\n", 2, "close is not a plain decimal number: 'NaN'"),
        (f"{HEADER}\n1,ABC,1,1,1,1e5,0\n", 2, "close is not a plain decimal number: '1e5'"),
        (f"{HEADER}\n1,ABC,1,1,1,,0\n", 2, "close is not a plain decimal number: ''"),
        (f"{HEADER}\n1,ABC,1,1,1,0,0\n", 2, "close must be above zero, not 0"),
        (f"{HEADER}\n1,ABC,1,1,1,-3,0\n", 2, "close must be above zero, not -3"),
        (f"{HEADER}\n1,,1,1,1,3,0\n", 2, "symbol is empty"),
        (f"{HEADER}\nnoon,ABC,1,1,1,3,0\n", 2, "timestamp_ms is not a time in milliseconds: 'noon'"),
        (f"{HEADER}\n-1,ABC,1,1,1,3,0\n", 2, "timestamp_ms is not a time in milliseconds: '-1'"),
        (f"{HEADER}\n1.5,ABC,1,1,1,3,0\n", 2, "timestamp_ms is not a time in milliseconds: '1.5'"),
        (f"{HEADER}\n999999999999999,ABC,1,1,1,3,0\n", 2, "timestamp_ms is not a time in milliseconds"),
        (f"{HEADER}\n٣,ABC,1,1,1,3,0\n", 2, "timestamp_ms is not a time in milliseconds: '٣'"),
        (f"{HEADER}\n2,ABC,1,1,1,3,0\n\n1,ABC,1,1,1,3,0\n", 4, "time goes backwards: 1 after 2"),
        (f"{HEADER}\n2,ABC,1,1,1,3,0\n2,ABC,1,1,1,3,0\n", 3, "ABC has a second bar at 2"),
        (f'{HEADER}\n2,"ABC,1,1,1,3,0\n', 2, "not CSV: "),
    ],
)
def test_what_no_market_can_have_said_is_refused_with_its_line(text: str, line: int | None, problem: str) -> None:
    error = refused(text)
    assert error.line == line
    assert error.problem.startswith(problem)
    assert str(error) == (f"tape.csv, line {line}: " if line else "tape.csv: ") + error.problem


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (gzip.compress(BARS.encode(), mtime=0)[:-20], "can't be read: Compressed file ended"),
        (gzip.compress(BARS.encode(), mtime=0)[:20] + b"\xff" * 40, "can't be read: "),
        (b"\x1f\x8b\x00\x00", "can't be read: "),
        (HEADER.encode() + b"\n1,\xff,1,1,1,1,1\n", "not text in UTF-8: "),
    ],
)
def test_a_damaged_file_is_a_tape_error(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "tape.csv.gz"
    path.write_bytes(content)
    with pytest.raises(TapeError) as error:
        list(read_tape(path))
    assert error.value.problem.startswith(problem)


def test_a_file_that_is_not_there_is_a_tape_error(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"nothing\.csv: can't be read: No such file"):
        list(read_tape(tmp_path / "nothing.csv"))


def test_what_came_before_a_bad_line_is_given_out_first() -> None:
    film = instants("tape.csv", [*BARS.splitlines(keepends=True), "x,y\n"])
    assert next(film).time == MIDNIGHT
    with pytest.raises(TapeError):
        next(film)


# Playing back


class Watch:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def film() -> Iterator[Instant]:
    for minutes in (0, 1, 3):
        yield Instant(MIDNIGHT + timedelta(minutes=minutes), [("ABC", D(1))])


async def test_a_tape_is_played_at_a_multiple_of_its_speed() -> None:
    watch = Watch()
    times = [watch.now - 100 async for _ in paced(film(), 60, clock=watch, sleep=watch.sleep)]
    assert times == [0, 1, 3]


async def test_a_slow_taker_does_not_make_the_tape_late() -> None:
    watch, times = Watch(), []
    async for _ in paced(film(), 60, clock=watch, sleep=watch.sleep):
        times.append(watch.now - 100)
        watch.now += 1.5
    assert times == [0, 1.5, 3]


async def test_without_a_speed_nothing_waits() -> None:
    watch = Watch()
    assert len([instant async for instant in paced(film(), None, clock=watch, sleep=watch.sleep)]) == 3
    assert watch.now == 100


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
async def test_a_speed_is_above_zero(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be above zero"):
        await anext(paced(film(), speed))
