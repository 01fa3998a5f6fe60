"""Reading requests: what is accepted, what is not, and that everything wrong is named at once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core.account import Environment, PositionMode, PositionSide, Side
from debt_mgmt.core.commands import Order
from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.server.rpc.names import ENVIRONMENT, SIDE
from debt_mgmt.server.rpc.validate import DECIMAL_RULE, Reader, explained_order, order_of
from debt_mgmt.v1 import margin_service_pb2, risk_service_pb2, types_pb2

BAD_DECIMALS = [
    "", "NaN", "nan", "sNaN", "Infinity", "-Infinity", "inf", "1e5", "1E5", "1_000", "1,000", "+1", " 1", "1 ", "1\n",
    "01", "00", "-01", ".5", "-.5", "1.", "-", "--1", "1.2.3", "0x10", "१२", "１２", "1٫5", "½",
    "1\u00a0000", "\u22121", "\x00", "1\x00", "9" * 400, "1." + "0" * 400, "1" * 21, "0." + "1" * 19,
]  # fmt: skip

GOOD_DECIMALS = ["0", "-0", "1", "-1", "10.50", "0.000000000000000001", "9" * 20 + "." + "9" * 18, "-" + "9" * 20]


@pytest.mark.parametrize("text", BAD_DECIMALS)
@pytest.mark.parametrize("read_as", ["decimal", "positive", "not_negative", "nonzero", "fraction"])
def test_what_is_no_plain_decimal_is_refused(text: str, read_as: str) -> None:
    read = Reader()
    getattr(read, read_as)(text, "quantity")
    assert [field for field, _ in read.problems] == ["quantity"]
    assert DECIMAL_RULE in read.problems[0][1]
    assert read.problems[0][1].isascii()


@pytest.mark.parametrize("text", GOOD_DECIMALS)
def test_plain_decimals_are_read_exactly(text: str) -> None:
    read = Reader()
    assert read.decimal(text, "amount") == Decimal(text)
    read.done()


def test_an_absurdly_long_number_costs_nothing() -> None:
    started = perf_counter()
    read = Reader()
    read.decimal("1" * 4_000_000, "amount")
    assert perf_counter() - started < 0.1
    assert len(read.problems[0][1]) < 200


@pytest.mark.parametrize(
    ("read_as", "text", "accepted"),
    [
        ("positive", "0", False),
        ("positive", "-1", False),
        ("positive", "-0", False),
        ("positive", "0.000000000000000001", True),
        ("not_negative", "0", True),
        ("not_negative", "-0.1", False),
        ("nonzero", "0.000", False),
        ("nonzero", "-1", True),
        ("fraction", "0", False),
        ("fraction", "1", True),
        ("fraction", "1.01", False),
    ],
)
def test_signs_and_ranges(read_as: str, text: str, accepted: bool) -> None:
    read = Reader()
    getattr(read, read_as)(text, "amount")
    assert read.fine is accepted


@pytest.mark.parametrize(
    ("read_as", "text", "accepted"),
    [
        ("id", "alice", True),
        ("id", "a" * 64, True),
        ("id", "A-b_c.d:9", True),
        ("id", "", False),
        ("id", "a" * 65, False),
        ("id", "a/b", False),
        ("id", "a b", False),
        ("id", "alice\n", False),
        ("id", "älice", False),
        ("id", "a\x00", False),
        ("optional_id", "", True),
        ("optional_id", "a b", False),
        ("symbol", "BTC/USDT:USDT", True),
        ("symbol", "BTCUSDT", True),
        ("symbol", "", False),
        ("symbol", "BTC USDT", False),
        ("symbol", "B" * 65, False),
        ("asset", "USDT", True),
        ("asset", "", False),
        ("asset", "US/DT", False),
        ("asset", "U" * 33, False),
        ("text", "", True),
        ("text", "because\nof\tthis: ₹ 100 %", True),
        ("text", "a" * 500, True),
        ("text", "a" * 501, False),
        ("text", "a\x00b", False),
        ("text", "a\x1b[31m", False),
    ],
)
def test_names_and_texts(read_as: str, text: str, accepted: bool) -> None:
    read = Reader()
    getattr(read, read_as)(text, "field")
    assert read.fine is accepted


@pytest.mark.parametrize("number", [0, 99, -1, 3, 2**31 - 1])
def test_an_enum_that_is_not_set_or_not_known_is_refused_with_what_is_accepted(number: int) -> None:
    read = Reader()
    read.choice(number, SIDE, "side")
    (problem,) = read.problems
    assert problem[0] == "side"
    assert "BUY, SELL" in problem[1]


def test_an_enum_with_a_default_may_be_left_out() -> None:
    read = Reader()
    assert read.choice(0, ENVIRONMENT, "environment", Environment.SANDBOX) is Environment.SANDBOX
    assert read.optional_choice(0, ENVIRONMENT, "environment") is None
    read.done()
    read.choice(77, ENVIRONMENT, "environment", Environment.SANDBOX)
    assert not read.fine


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (Duration(seconds=5), timedelta(seconds=5)),
        (Duration(seconds=1, nanos=500_000_000), timedelta(seconds=1.5)),
        (Duration(nanos=1000), timedelta(microseconds=1)),
        (Duration(nanos=999), None),
        (Duration(), None),
        (Duration(seconds=-1), None),
        (Duration(seconds=-(2**62)), None),
        (Duration(seconds=2**62), None),
        (Duration(seconds=1, nanos=-1), None),
        (Duration(seconds=1, nanos=2_000_000_000), None),
    ],
)
def test_durations_are_above_zero_and_not_endless(duration: Duration, expected: timedelta | None) -> None:
    read = Reader()
    request = margin_service_pb2.ReserveMarginRequest(time_to_live=duration)
    found = read.duration(request, "time_to_live")
    assert read.fine is (expected is not None)
    if expected is not None:
        assert found == expected


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (Timestamp(seconds=0), datetime(1970, 1, 1, tzinfo=UTC)),
        (Timestamp(seconds=1, nanos=1_999), datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)),
        (Timestamp(seconds=253_402_300_799, nanos=999_999_999), datetime.max.replace(tzinfo=UTC)),
        (Timestamp(seconds=-62_135_596_800), datetime.min.replace(tzinfo=UTC)),
        (Timestamp(seconds=253_402_300_800), None),
        (Timestamp(seconds=-62_135_596_801), None),
        (Timestamp(seconds=1, nanos=-1), None),
        (Timestamp(seconds=1, nanos=1_000_000_000), None),
    ],
)
def test_times_lie_in_the_years_that_there_are(timestamp: Timestamp, expected: datetime | None) -> None:
    read = Reader()
    found = read.timestamp(risk_service_pb2.ListAlertsRequest(start_time=timestamp), "start_time")
    assert read.fine is (expected is not None)
    if expected is not None:
        assert found == expected


def test_what_is_absent_reads_as_nothing() -> None:
    read = Reader()
    assert read.duration(margin_service_pb2.ReserveMarginRequest(), "time_to_live") is None
    assert read.timestamp(risk_service_pb2.ListAlertsRequest(), "start_time") is None
    assert read.optional(types_pb2.Order(), "price", read.positive) is None
    read.done()


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, None), (-1, None)])
def test_page_sizes(asked: int, size: int | None) -> None:
    read = Reader()
    found = read.page_size(asked)
    assert read.fine is (size is not None)
    if size is not None:
        assert found == size


# Orders


def order(**fields: Any) -> types_pb2.Order:
    given: dict[str, Any] = {"symbol": "BTCUSDT", "side": types_pb2.SIDE_BUY, "quantity": "0.5"}
    return types_pb2.Order(**(given | fields))


def test_a_well_formed_order_is_read() -> None:
    read = Reader()
    found = order_of(read, order(price="50000.5", reduce_only=True), "order", PositionMode.ONE_WAY)
    read.done()
    assert found == Order("BTCUSDT", Side.BUY, Decimal("0.5"), Decimal("50000.5"), True, PositionSide.NET)
    market = order_of(read, order(side=types_pb2.SIDE_SELL), "order", PositionMode.ONE_WAY)
    assert market == Order("BTCUSDT", Side.SELL, Decimal("0.5"))


def test_every_malformed_field_of_an_order_is_named() -> None:
    read = Reader()
    message = types_pb2.Order(symbol="B T", side=7, quantity="NaN", price="0", position_side=9)  # type: ignore[arg-type]
    order_of(read, message, "orders[3]", PositionMode.ONE_WAY)
    with pytest.raises(InvalidRequest) as raised:
        read.done()
    fields = [field for field, _ in raised.value.problems]
    assert fields == [f"orders[3].{name}" for name in ("symbol", "side", "quantity", "price", "position_side")]


def test_an_empty_order_lacks_everything_that_is_required() -> None:
    read = Reader()
    order_of(read, types_pb2.Order(), "order", PositionMode.ONE_WAY)
    assert [field for field, _ in read.problems] == ["order.symbol", "order.side", "order.quantity"]


@pytest.mark.parametrize("text", [*BAD_DECIMALS, "0", "-1"])
def test_an_order_with_a_bad_number_is_named(text: str) -> None:
    read = Reader()
    order_of(read, order(quantity=text), "order", PositionMode.ONE_WAY)
    order_of(read, order(price=text), "order", PositionMode.ONE_WAY)
    assert [field for field, _ in read.problems] == ["order.quantity", "order.price"]


UNSPECIFIED, NET, LONG, SHORT = 0, 1, 2, 3


@pytest.mark.parametrize(
    ("mode", "number", "side"),
    [
        (PositionMode.ONE_WAY, UNSPECIFIED, PositionSide.NET),
        (PositionMode.ONE_WAY, NET, PositionSide.NET),
        (PositionMode.ONE_WAY, LONG, None),
        (PositionMode.ONE_WAY, SHORT, None),
        (PositionMode.HEDGE, UNSPECIFIED, None),
        (PositionMode.HEDGE, NET, None),
        (PositionMode.HEDGE, LONG, PositionSide.LONG),
        (PositionMode.HEDGE, SHORT, PositionSide.SHORT),
        (PositionMode.HEDGE, 9, None),
        (PositionMode.ONE_WAY, -1, None),
        (None, UNSPECIFIED, PositionSide.NET),
        (None, LONG, PositionSide.LONG),
        (None, 9, None),
    ],
)
def test_the_position_meant_fits_the_accounts_mode(
    mode: PositionMode | None, number: int, side: PositionSide | None
) -> None:
    read = Reader()
    found = order_of(read, order(position_side=number), "order", mode)
    if side is not None:
        read.done()
        assert found.position_side is side
    else:
        assert [field for field, _ in read.problems] == ["order.position_side"]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "", "x y"])
@pytest.mark.parametrize("side", [0, 1, 2, 3])
@pytest.mark.parametrize("quantity", ["1", "0", "-2", "1e5"])
@pytest.mark.parametrize("price", [None, "3", "0", "x"])
@pytest.mark.parametrize("position_side", [0, 2])
def test_the_short_way_and_the_explaining_way_agree(
    symbol: str, side: int, quantity: str, price: str | None, position_side: int
) -> None:
    message = order(symbol=symbol, side=side, quantity=quantity, position_side=position_side, price=price)
    short, explained = Reader(), Reader()
    first = order_of(short, message, "order", PositionMode.ONE_WAY)
    second = explained_order(explained, message, "order", PositionMode.ONE_WAY)
    assert short.problems == explained.problems
    if short.fine:
        assert first == second
