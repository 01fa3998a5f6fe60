"""Slots of the reset schedule: one a day, week or month, on the clocks of a zone, whatever those clocks do."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Debt, Environment
from debt_mgmt.core.resets import ResetInterval, ResetSchedule, due_slot, last_slot, next_reset, next_slot
from tests.support.desk import D, Desk, decode, encode, kinds, reasons

DAILY, WEEKLY, MONTHLY = ResetInterval.DAILY, ResetInterval.WEEKLY, ResetInterval.MONTHLY
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns")

schedules = st.builds(
    ResetSchedule,
    interval=st.sampled_from([DAILY, WEEKLY, MONTHLY]),
    weekday=st.integers(0, 6),
    month_day=st.integers(1, 31),
    time_of_day=st.times().map(lambda at: at.strftime("%H:%M")),
    zone=st.sampled_from(ZONES),
)
moments = st.integers(0, 7 * 365 * 24 * 60).map(
    lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots_between(schedule: ResetSchedule, start: datetime, end: datetime) -> list[datetime]:
    found: list[datetime] = []
    at: datetime | None = start
    while (at := next_slot(schedule, at)) is not None and at <= end:  # type: ignore[arg-type]
        found.append(at)
    return found


@pytest.mark.parametrize(
    ("zone", "around", "slots"),
    [
        # 2026: Berlin springs forward on March 29 at 02:00 and falls back on October 25 at 03:00.
        ("Europe/Berlin", "2026-03-29", ["2026-03-28 01:30", "2026-03-29 01:30", "2026-03-30 00:30"]),
        ("Europe/Berlin", "2026-10-25", ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]),
        # New York on March 8 at 02:00 and on November 1 at 02:00.
        ("America/New_York", "2026-03-08", ["2026-03-07 07:30", "2026-03-08 07:30", "2026-03-09 06:30"]),
        ("America/New_York", "2026-11-01", ["2026-10-31 06:30", "2026-11-01 07:30", "2026-11-02 07:30"]),
        ("Asia/Kolkata", "2026-03-29", ["2026-03-27 21:00", "2026-03-28 21:00", "2026-03-29 21:00"]),
    ],
)
def test_a_daily_slot_comes_once_on_the_day_the_clocks_change(zone: str, around: str, slots: list[str]) -> None:
    day = datetime.combine(date.fromisoformat(around), time(12), ZoneInfo(zone)).astimezone(UTC)
    found = slots_between(
        ResetSchedule(DAILY, time_of_day="02:30", zone=zone), day - timedelta(hours=36), day + timedelta(hours=15)
    )
    assert found == [utc(slot) for slot in slots]


def test_a_time_that_the_clocks_pass_twice_counts_the_first_time() -> None:
    schedule = ResetSchedule(DAILY, time_of_day="01:30", zone="America/New_York")
    assert slots_between(schedule, utc("2026-11-01 04:00"), utc("2026-11-02 05:00")) == [utc("2026-11-01 05:30")]


def test_a_weekly_slot_is_on_its_day_in_its_zone() -> None:
    sunday = ResetSchedule(WEEKLY, weekday=6, zone="Asia/Kolkata")
    slots = slots_between(sunday, utc("2026-01-01"), utc("2026-01-20"))
    assert slots == [utc("2026-01-03 18:30"), utc("2026-01-10 18:30"), utc("2026-01-17 18:30")]


def test_a_month_without_the_day_has_its_slot_on_its_last_day() -> None:
    slots = slots_between(ResetSchedule(MONTHLY, month_day=31), utc("2028-01-01"), utc("2028-05-01"))
    assert slots == [utc("2028-01-31"), utc("2028-02-29"), utc("2028-03-31"), utc("2028-04-30")]


def test_never_has_no_slot() -> None:
    assert last_slot(ResetSchedule(), utc("2026-01-01")) is None
    assert next_slot(ResetSchedule(), utc("2026-01-01")) is None


@given(schedules, moments)
def test_slots_follow_each_other_without_gap_or_overlap(schedule: ResetSchedule, at: datetime) -> None:
    last, following = last_slot(schedule, at), next_slot(schedule, at)
    assert last is not None
    assert following is not None
    assert last <= at < following
    assert next_slot(schedule, last) == following
    assert last_slot(schedule, following) == following
    assert last_slot(schedule, following - timedelta(microseconds=1)) == last


@given(schedules, moments)
def test_each_day_of_the_schedule_has_one_slot(schedule: ResetSchedule, at: datetime) -> None:
    """Counted on the calendar, not by the arithmetic of the schedule."""
    zone = ZoneInfo(schedule.zone)
    slots = slots_between(schedule, at, at + timedelta(days=70))
    days = [slot.astimezone(zone).date() for slot in slots]
    assert len(set(days)) == len(days)
    if schedule.interval is DAILY:
        assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))
    elif schedule.interval is WEEKLY:
        assert {day.weekday() for day in days} == {schedule.weekday}
        assert all(later - earlier == timedelta(days=7) for earlier, later in pairwise(days))
    else:
        assert all(day.day == schedule.month_day or (day + timedelta(days=1)).day == 1 for day in days)
        assert all(later.month - earlier.month in (1, -11) for earlier, later in pairwise(days))


# What is due


def daily_desk() -> Desk:
    desk = Desk()
    desk.house_do(c.SetResetSchedule(ResetSchedule(DAILY)))
    desk.open("alice", "1000")
    return desk


def reset(desk: Desk, account_id: str = "alice") -> tuple[e.Event, ...]:
    """As the passing of time does it."""
    house = desk.house
    slot = due_slot(desk.account(account_id), house.reset_schedule, house.reset_schedule_since, desk.now)
    return desk.do(account_id, c.ResetFunds("the schedule's reset", slot)) if slot is not None else ()


def test_a_slot_counts_once_whoever_asks() -> None:
    desk = daily_desk()
    assert reset(desk) == ()
    desk.wait(timedelta(hours=12))
    assert kinds(reset(desk)) == ["FundsReset", "BaselinesSet"]
    account = desk.account()
    assert (account.reset_count, account.last_reset_slot) == (1, utc("2026-01-06"))
    assert desk.do("alice", c.ResetFunds("again", utc("2026-01-06"))) == ()
    assert desk.do("alice", c.ResetFunds("of long ago", utc("2026-01-05"))) == ()
    assert desk.do("alice", c.ResetFunds("not yet", utc("2026-01-07"))) == ()
    assert desk.account() == account


def test_slots_missed_are_made_up_for_by_one_reset() -> None:
    desk = daily_desk()
    desk.wait(timedelta(days=9))
    assert kinds(reset(desk))[0] == "FundsReset"
    assert desk.account().last_reset_slot == utc("2026-01-14")
    assert reset(desk) == ()


def test_a_reset_by_hand_takes_no_slot_away() -> None:
    desk = daily_desk()
    desk.wait(timedelta(hours=11))
    desk.do("alice", c.ResetFunds("because"))
    assert desk.account().last_reset_slot is None
    desk.wait(timedelta(hours=2))
    assert reset(desk)
    desk.do("alice", c.ResetFunds("because"))
    assert (desk.account().reset_count, desk.account().last_reset_slot) == (3, utc("2026-01-06"))


def test_a_schedule_begins_to_count_when_it_is_set() -> None:
    """Who turns weekly resets on must not lose his positions to the slot of last Sunday."""
    desk = Desk()
    desk.open("alice", "1000")
    desk.wait(timedelta(days=30))
    desk.house_do(c.SetResetSchedule(ResetSchedule(WEEKLY, weekday=6)))
    assert reset(desk) == ()
    account, house = desk.account(), desk.house
    coming = next_reset(account, house.reset_schedule, house.reset_schedule_since, desk.now)
    assert coming == utc("2026-02-08")
    desk.wait(timedelta(days=7))
    assert reset(desk)
    assert desk.house_do(c.SetResetSchedule(ResetSchedule(WEEKLY, weekday=6))) == ()


def test_accounts_with_real_money_have_no_slot() -> None:
    desk = daily_desk()
    desk.open("real", environment=Environment.LIVE)
    desk.wait(timedelta(days=3))
    assert reset(desk, "real") == ()
    house = desk.house
    assert next_reset(desk.account("real"), house.reset_schedule, house.reset_schedule_since, desk.now) is None
    assert reasons(desk.do("real", c.ResetFunds("please"))) == ["NOT_SANDBOX"]


def test_nothing_survives_that_should_not() -> None:
    desk = daily_desk()
    desk.mark("BTCUSDT", 50000)
    desk.fill("alice", "buy", "0.02", price=50000)
    desk.fill("alice", "sell", "0.001", price=49000, fee="0.1")
    desk.mark("BTCUSDT", 38000)
    desk.do("alice", c.ClosePosition("BTCUSDT"))
    held = desk.account()
    plan = held.reduction
    assert plan is not None
    assert held.breakers
    # A debt, as borrowing leaves it: the balance holds what was borrowed.
    desk.accounts["alice"] = msgspec.structs.replace(
        held, debts={"ETH": Debt("ETH", D(2), desk.now)}, balances={**held.balances, "ETH": D(2)}
    )
    desk.wait(timedelta(hours=13))
    first = reset(desk)[0]
    assert isinstance(first, e.FundsReset)
    account = desk.account()
    assert account.balances == {"USDT": 1000}
    for name in ("positions", "reservations", "debts", "realized_pnl", "fees_paid", "breakers", "isolated_alerts"):
        assert not getattr(account, name), name
    assert account.reduction is None
    assert account.level == "NORMAL"
    assert account.trading_state == "ACTIVE"
    # The plan is told to be over, step by step.
    ended = account.past_reductions[-1]
    assert ended.plan_id == plan.plan_id
    assert ended.ended_at == desk.now
    assert [(step.done, step.note) for step in ended.steps] == [(True, "the funds were reset")]
    assert decode(encode(first)) == first
    sums = {
        ledger: sum(one.amount for one in first.postings if (one.ledger, one.asset) == (ledger, "ETH"))
        for ledger in ("wallet", "debt", "external")
    }
    assert sums == {"wallet": -2, "debt": 2, "external": 0}


def test_no_late_fill_of_a_cleared_plan_reaches_the_new_capital() -> None:
    desk = daily_desk()
    desk.mark("BTCUSDT", 50000)
    desk.fill("alice", "buy", "0.01", price=50000)
    desk.do("alice", c.ClosePosition("BTCUSDT"))
    plan = desk.account().reduction
    assert plan is not None
    desk.wait(timedelta(hours=13))
    reset(desk)
    fresh = desk.account()
    step = plan.steps[0]
    late = c.RecordFill("late", step.symbol, step.side, step.quantity, D(51000), plan_id=plan.plan_id, step=step.step)
    assert desk.do("alice", late) == ()
    assert desk.do("alice", c.EndReductionStep(plan.plan_id, step.step, "late too")) == ()
    assert desk.account() == fresh
