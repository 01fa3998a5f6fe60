"""Numbers and times as they are said on a screen."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from debt_mgmt.client import RiskLevel
from debt_mgmt.server.cli.gauge import gauge
from debt_mgmt.server.cli.wording import (
    amount,
    change,
    counted,
    grouped,
    listed,
    moment,
    move,
    percent,
    span,
    utilization,
)

D = Decimal


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("0", "0.00"),
        ("-0.00", "0.00"),
        ("7985.7849", "7,985.78"),
        ("-7985.786", "-7,985.79"),
        ("10000000", "10,000,000.00"),
        ("12.5", "12.50"),
        ("1.23456", "1.2346"),
        ("0.00012345", "0.00012345"),
        ("-0.000000001", "0.00"),
    ],
)
def test_money_has_two_decimals_and_more_where_it_is_small(value: str | None, shown: str) -> None:
    assert amount(None if value is None else D(value)) == shown


@pytest.mark.parametrize(("value", "shown"), [("1.9460", "1.946"), ("1000", "1,000"), ("1E+3", "1,000"), ("-0", "0")])
def test_quantities_keep_every_digit_that_matters(value: str, shown: str) -> None:
    assert grouped(D(value)) == shown


def test_a_gain_has_a_sign() -> None:
    assert [change(D(value)) for value in ("5", "-5", "0")] == ["+5.00", "-5.00", "0.00"]


@pytest.mark.parametrize(
    ("value", "shown"), [("0.6", "60.0 %"), ("0.0667", "6.7 %"), ("12.34", "1,234 %"), ("-0.1", "-10.0 %")]
)
def test_a_share_is_said_in_percent(value: str, shown: str) -> None:
    assert percent(D(value)) == shown


def test_what_is_not_known_is_not_zero() -> None:
    assert percent(None) == "–"
    assert utilization(None, None) == "–"
    assert utilization(None, D(-5)) == "no equity"


def test_a_move_that_nothing_needs_is_told_from_one_that_is_not_there() -> None:
    assert move(None) == "none"
    assert move(D(0)) == "already there"
    assert move(D("-0.0667")) == "-6.67 %"
    assert move(D("0.05")) == "+5.00 %"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0 s"), (0.42, "0.4 s"), (42, "42 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_spans_come_in_the_unit_that_suits(seconds: float, shown: str) -> None:
    assert span(timedelta(seconds=seconds)) == shown


def test_times_are_said_in_utc() -> None:
    kolkata = datetime.fromisoformat("2026-01-05T17:30:00+05:30")
    assert moment(kolkata) == moment(datetime(2026, 1, 5, 12, tzinfo=UTC)) == "2026-01-05 12:00:00"
    assert moment(None) == "–"


def test_lists_read_as_sentences() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert counted(1, "account") == "1 account"
    assert counted(1200, "account") == "1,200 accounts"


@pytest.mark.parametrize(
    ("share", "cells", "bar"),
    [
        ("0", 10, "───────┼┼┼"),
        ("0.6", 10, "━━━━━━─┼┼┼"),
        ("0.8", 10, "━━━━━━━╋┼┼"),
        ("1.7", 10, "━━━━━━━╋╋╋"),
        ("-0.2", 10, "───────┼┼┼"),
        (None, 10, "───────┼┼┼"),
        ("0.6", 20, "━━━━━━━━━━━━──┼─┼─┼─"),
    ],
)
def test_the_bar_has_ticks_where_the_service_acts(share: str | None, cells: int, bar: str) -> None:
    assert gauge(None if share is None else D(share), RiskLevel.NORMAL, cells).plain == bar
