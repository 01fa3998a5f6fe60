"""Limit sets of the house: put and taken away, their hours, in which ways a change allows more, new instruments."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.house import apply_house
from debt_mgmt.core.limit_sets import NEW_INSTRUMENT, Hours, LimitMode, LimitSet, NodeLimits, loosens
from debt_mgmt.core.refusals import sentence
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import NewInstruments, RiskSettings
from tests.support.desk import Desk, decode, encode, kinds, reasons
from tests.support.instruments import linear

D = Decimal

WEEKEND = (Hours("22:00", "06:00", (4, 5), "Europe/Zurich"),)
"""From Friday and Saturday evening to the morning after."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# putting


def test_a_set_is_put_once_and_replaced_by_its_scope_and_name() -> None:
    desk, node = Desk(), Scope(owner="desk")
    assert kinds(desk.limit_node(node, max_leverage="3")) == ["LimitSetPut"]
    assert desk.limit_node(node, max_leverage="3.0") == ()
    assert kinds(desk.limit_node(node, max_leverage="2")) == ["LimitSetPut"]
    assert kinds(desk.limit_node(node, "weekend", max_leverage="2")) == ["LimitSetPut"]
    assert set(desk.house.limit_sets) == {"desk#", "desk#weekend"}
    assert desk.house.limit_sets["desk#"].limits.max_leverage == 2
    assert desk.house.limit_sets["desk#"].at == desk.now


def test_the_same_set_for_another_reason_changes_nothing() -> None:
    desk = Desk()
    one = LimitSet(limits=NodeLimits(max_leverage=D(3)), reason="first")
    assert desk.house_do(c.PutLimitSet(one))
    assert desk.house_do(c.PutLimitSet(msgspec.structs.replace(one, reason="second"))) == ()


def test_a_set_is_taken_away_and_one_that_is_not_there_is_refused() -> None:
    desk = Desk()
    desk.limit_node(max_leverage="3")
    (event,) = desk.house_do(c.DeleteLimitSet(Scope(), reason="over"))
    assert isinstance(event, e.LimitSetDeleted)
    assert event.limit_set.limits.max_leverage == 3
    assert desk.house.limit_sets == {}
    events = desk.house_do(c.DeleteLimitSet(Scope(symbol="BTCUSDT"), "weekend"))
    assert reasons(events) == ["LIMIT_SET_NOT_FOUND"]
    assert isinstance(events[0], e.CommandRefused)
    assert sentence(events[0].violations[0]) == "there is no limit set weekend of instrument BTCUSDT"


def test_the_sets_are_what_the_log_says() -> None:
    desk = Desk()
    events = [*desk.limit_node(max_leverage="3"), *desk.limit_node(Scope(strategy="trend"), max_open_reservations=2)]
    house = None
    for event in events:
        house = apply_house(house, decode(encode(event)))
    assert house is not None
    assert house.limit_sets == desk.house.limit_sets


# hours


@pytest.mark.parametrize(
    ("at", "within"),
    [
        ("2026-01-09 20:59:59", False),  # Friday, 21:59:59 in Zurich
        ("2026-01-09 21:00:00", True),
        ("2026-01-10 04:59:59", True),
        ("2026-01-10 05:00:00", False),
        ("2026-01-10 12:00:00", False),
        ("2026-01-10 21:00:00", True),  # Saturday
        ("2026-01-11 04:59:59", True),
        ("2026-01-11 05:00:00", False),
        ("2026-01-11 21:00:00", False),  # Sunday
        ("2026-03-28 21:00:00", True),  # the night in which the clocks go forward: it is over an hour sooner
        ("2026-03-29 03:59:59", True),
        ("2026-03-29 04:00:00", False),
        ("2026-10-24 20:00:00", True),  # and back: an hour later
        ("2026-10-25 04:59:59", True),
        ("2026-10-25 05:00:00", False),
    ],
)
def test_hours_follow_the_clocks_of_their_zone_over_midnight(at: str, within: bool) -> None:
    assert WEEKEND[0].in_force(utc(at)) is within


@pytest.mark.parametrize(
    ("start", "end", "at", "within"),
    [
        ("00:00", "24:00", "2026-01-10 23:59:59", True),
        ("00:00", "24:00", "2026-01-11 00:00:00", False),
        ("09:00", "09:00", "2026-01-11 08:59:59", True),  # not after its start: on the following day
        ("09:00", "09:00", "2026-01-11 09:00:00", False),
        ("09:00", "17:30", "2026-01-10 08:59:59", False),
        ("09:00", "17:30", "2026-01-10 17:29:59", True),
        ("09:00", "17:30", "2026-01-10 17:30:00", False),
    ],
)
def test_hours_of_a_saturday(start: str, end: str, at: str, within: bool) -> None:
    assert Hours(start, end, (5,)).in_force(utc(at)) is within


def test_an_end_that_comes_twice_is_the_second_one() -> None:
    """No protection ends before its time: 02:30 in Zurich is at 00:30 and at 01:30 in UTC that night."""
    part = Hours("22:00", "02:30", (), "Europe/Zurich")
    assert part.in_force(utc("2026-10-25 01:29:59"))
    assert not part.in_force(utc("2026-10-25 01:30:00"))
    assert not part.in_force(utc("2026-10-26 01:30:00"))


def test_hours_that_meet_leave_no_gap_where_the_clocks_are_set_back() -> None:
    """02:30 comes twice: what ends there ends the second time, what begins there begins the first time."""
    parts = (Hours("00:00", "02:30", (), "Europe/Zurich"), Hours("02:30", "24:00", (), "Europe/Zurich"))
    whole = LimitSet(hours=parts)
    at = utc("2026-10-24 20:00:00")
    while at < utc("2026-10-25 12:00:00"):
        assert whole.in_force(at), at
        at += timedelta(minutes=10)
    assert LimitSet().in_force(at)


# changes that allow more

STRICT = LimitSet(
    Scope(owner="desk"),
    limits=NodeLimits(
        max_leverage=D(3),
        max_exposure_notional=D(1000),
        max_open_reservations=5,
        order_rate_count=10,
        order_rate_interval_seconds=60,
    ),
    currency="USD",
)


def changed(**fields: object) -> LimitSet:
    names = set(NodeLimits.__struct_fields__)
    limits = msgspec.structs.replace(STRICT.limits, **{name: one for name, one in fields.items() if name in names})
    return msgspec.structs.replace(
        STRICT, limits=limits, **{name: one for name, one in fields.items() if name not in names}
    )


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (None, "taken away"),
        (changed(mode=LimitMode.SHADOW), "mode ENFORCED → SHADOW"),
        (changed(max_leverage=D("3.5")), "max_leverage 3 → 3.5"),
        (changed(max_exposure_notional=None), "max_exposure_notional 1000 → not limited"),
        (changed(max_open_reservations=6), "max_open_reservations 5 → 6"),
        (changed(order_rate_count=11), "max_order_rate 10 in 60 s → 11 in 60 s"),
        (changed(order_rate_interval_seconds=59), "max_order_rate 10 in 60 s → 10 in 59 s"),
        (changed(order_rate_count=None), "max_order_rate 10 in 60 s → not limited"),
        (changed(hours=WEEKEND), "hours always → friday, saturday 22:00 to 06:00 Europe/Zurich"),
        (changed(currency="INR"), "currency USD → INR"),
    ],
)
def test_what_allows_more_is_said(after: LimitSet | None, said: str) -> None:
    assert loosens(STRICT, after) == (f"limit set standing of owner desk: {said}",)


@pytest.mark.parametrize(
    "after",
    [
        STRICT,
        changed(max_leverage=D(2)),
        changed(max_position_quantity=D(0)),
        changed(order_rate_count=9),
        changed(order_rate_interval_seconds=61),
        changed(reason="another"),
    ],
)
def test_what_tightens_or_changes_nothing_is_not(after: LimitSet) -> None:
    assert loosens(STRICT, after) == ()


def test_shadow_sets_and_new_ones_loosen_nothing() -> None:
    assert loosens(None, STRICT) == ()
    assert loosens(changed(mode=LimitMode.SHADOW), None) == ()
    assert loosens(changed(mode=LimitMode.SHADOW), changed(max_leverage=D(9))) == ()


def test_wider_hours_tighten_and_narrower_or_other_ones_loosen() -> None:
    friday = changed(hours=(Hours("22:00", "06:00", (4,), "Europe/Zurich"),))
    both = changed(hours=WEEKEND)
    shorter = changed(hours=(Hours("22:00", "05:59", (4, 5), "Europe/Zurich"),))
    elsewhere = changed(hours=(Hours("22:00", "06:00", (4, 5), "UTC"),))
    assert loosens(friday, both) == ()
    assert loosens(both, STRICT) == ()
    for after in (friday, shorter, elsewhere):
        assert len(loosens(both, after)) == 1


# new instruments


def house_of(rule: NewInstruments) -> Desk:
    desk = Desk()
    desk.house_do(c.RecordConfiguration({}, RiskSettings(new_instruments=rule), "1"))
    return desk


def test_a_new_instrument_starts_at_zero_and_one_that_is_changed_stays_as_it_is() -> None:
    desk = house_of(NewInstruments.ZERO)
    put, limited = desk.house_do(c.PutInstrument(linear("NEWUSDT")))
    assert isinstance(put, e.InstrumentPut)
    assert isinstance(limited, e.LimitSetPut)
    assert limited.limit_set.key == f"{Scope(symbol='NEWUSDT').key}#{NEW_INSTRUMENT}"
    assert limited.limit_set.limits == NodeLimits(max_position_quantity=D(0))
    assert desk.house_do(c.PutInstrument(linear("NEWUSDT"))) == ()
    assert kinds(desk.house_do(c.PutInstrument(linear("NEWUSDT", lot="1")))) == ["InstrumentPut"]
    assert kinds(desk.house_do(c.PutInstrument(linear("BTCUSDT", lot="1")))) == ["InstrumentPut"]


def test_it_is_open_where_the_rules_or_the_command_say_so_and_in_logs_of_old() -> None:
    assert kinds(house_of(NewInstruments.OPEN).house_do(c.PutInstrument(linear("NEWUSDT")))) == ["InstrumentPut"]
    assert kinds(Desk().house_do(c.PutInstrument(linear("NEWUSDT")))) == ["InstrumentPut"]
    opened = c.PutInstrument(linear("NEWUSDT"), opened=True)
    assert kinds(house_of(NewInstruments.ZERO).house_do(opened)) == ["InstrumentPut"]


def test_the_refusal_says_how_a_new_instrument_is_opened() -> None:
    desk = house_of(NewInstruments.ZERO)
    desk.house_do(c.PutInstrument(linear("NEWUSDT")))
    desk.open("alice", 10_000)
    desk.mark("NEWUSDT", 100)
    result = desk.check("alice", "buy", 1, "NEWUSDT")
    (violation,) = result.violations
    assert violation.reason == "QUANTITY_ABOVE_MAXIMUM"
    assert violation.limit == 0
    assert result.largest_buy == 0
    assert "debt-mgmt limits set --instrument NEWUSDT --name new-instrument" in sentence(violation)
    desk.limit_node(Scope(symbol="NEWUSDT"), NEW_INSTRUMENT, max_position_quantity="2")
    assert desk.check("alice", "buy", 2, "NEWUSDT").fits
    assert not desk.check("alice", "buy", "2.001", "NEWUSDT").fits
    desk.house_do(c.DeleteLimitSet(Scope(symbol="NEWUSDT"), NEW_INSTRUMENT))
    assert desk.check("alice", "buy", 3, "NEWUSDT").fits
