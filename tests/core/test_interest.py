"""When interest is charged and how much: each clock on worked statements, rates that change, and downtime."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Debt
from debt_mgmt.core.interest import CLOCKS, YEAR, BorrowRate, charge_after, charges_due, rate_per_period
from debt_mgmt.server.config import ClockName
from tests.support.desk import FREE, Desk, reasons

D = Decimal
DAY = datetime(2026, 1, 5, tzinfo=UTC)


def at(text: str, day: datetime = DAY) -> datetime:
    hours, minutes = text.split(":")
    return day + timedelta(hours=int(hours), minutes=int(minutes))


def lender(clock: str, annual_rate: str = "0.0876", opened: datetime = DAY) -> Desk:
    """A house that lends USDT at a round rate, 0.00001 an hour, to a rich account."""
    desk = Desk(FREE, at=opened)
    desk.house_do(c.SetBorrowRate("USDT", D(annual_rate), clock))
    desk.open("alice", 1_000_000)
    return desk


def statement(desk: Desk) -> list[tuple[str, Decimal, int, Decimal]]:
    """(time, principal, periods, amount) of every charge."""
    return [
        (event.due_at.strftime("%H:%M"), event.principal, event.periods, event.amount)
        for event in desk.events("alice")
        if isinstance(event, e.InterestCharged)
    ]


def repaid(desk: Desk, time: datetime) -> e.Repaid:
    desk.now = time
    (event,) = (one for one in desk.do("alice", c.Repay("USDT")) if isinstance(one, e.Repaid))
    return event


# Worked statements


@pytest.mark.parametrize(
    ("clock", "borrowed", "returned", "charges"),
    [
        ("binance_hourly", "13:20", "14:15", ["13:20", "14:00"]),
        ("binance_hourly", "13:00", "13:59", ["13:00"]),
        ("binance_hourly", "13:00", "14:00", ["13:00", "14:00"]),
        ("bybit_hourly", "13:04", "13:06", ["13:05"]),
        ("bybit_hourly", "13:05", "14:04", []),
        ("bybit_hourly", "13:05", "14:05", ["14:05"]),
        ("okx_hourly", "13:01", "13:59", []),
        ("okx_hourly", "13:01", "15:30", ["14:00", "15:00"]),
        ("cryptocom_hourly", "12:05", "12:58", []),
        ("cryptocom_hourly", "12:05", "14:15", ["13:00", "14:00"]),
        ("kraken_4h", "09:30", "13:29", ["09:30"]),
        ("kraken_4h", "09:30", "13:30", ["09:30", "13:30"]),
        ("started_hours", "12:05", "14:15", ["12:05", "13:05", "14:05"]),
    ],
)
def test_a_loan_is_charged_at_the_times_of_its_clock(
    clock: str, borrowed: str, returned: str, charges: list[str]
) -> None:
    desk = lender(clock, opened=at(borrowed))
    desk.do("alice", c.Borrow("USDT", D(1000)))
    paid = repaid(desk, at(returned))
    assert [time for time, *_ in statement(desk)] == charges
    assert paid.interest_paid == sum((amount for *_, amount in statement(desk)), D(0))


def test_two_clock_hours_of_binance() -> None:
    """1000 at 0.02 % a day from 13:20 to 14:15 costs two hours, as Binance's own page reckons."""
    desk = lender("binance_hourly", str(D("0.0002") * 365), at("13:20"))
    desk.do("alice", c.Borrow("USDT", D(1000)))
    assert round(repaid(desk, at("14:15")).interest_paid, 8) == D("0.01666667")


def test_compound_snapshots_of_cryptocom() -> None:
    """1000 at 0.052 % a day from 12:05 to 14:15: the second snapshot charges interest on the first one's."""
    desk = lender("cryptocom_hourly", str(D("0.00052") * 365), at("12:05"))
    desk.do("alice", c.Borrow("USDT", D(1000)))
    paid = repaid(desk, at("14:15")).interest_paid
    first, second = statement(desk)
    assert second[1] == 1000 + first[3]
    assert round(paid, 5) == D("0.04333")
    assert paid > 2 * first[3]


@pytest.mark.parametrize(("clock", "periods"), [("kraken_4h", 1 + 18), ("kraken_4h_started", 1 + 19)])
def test_rollovers_of_kraken_by_their_counting_rule(clock: str, periods: int) -> None:
    """74 hours are 18 completed spans of four hours and a nineteenth that has started; the opening fee comes on top."""
    desk = lender(clock, str(D("0.0002") * 6 * 365))
    desk.do("alice", c.Borrow("USDT", D(50_000)))
    paid = repaid(desk, DAY + timedelta(hours=74))
    assert sum(count for _, _, count, _ in statement(desk)) == periods
    assert paid.interest_paid == 10 * periods


# Rates


def test_a_charge_is_at_the_rate_in_force_when_it_fell_due() -> None:
    desk = lender("okx_hourly")
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.now = at("01:30")
    desk.house_do(c.SetBorrowRate("USDT", D("0.876"), "okx_hourly"))
    desk.now = at("03:10")
    desk.do("alice", c.ChargeInterest())
    assert [(time, amount) for time, _, _, amount in statement(desk)] == [
        ("01:00", D("0.01")),
        ("02:00", D("0.1")),
        ("03:00", D("0.1")),
    ]
    assert desk.account().debts["USDT"].annual_rate == D("0.876")


def test_kraken_keeps_the_rate_of_the_opening_and_averages_it_over_what_is_added() -> None:
    desk = lender("kraken_4h", "2.19")
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.now = at("01:00")
    desk.house_do(c.SetBorrowRate("USDT", D("4.38"), "kraken_4h"))
    desk.now = at("04:00")
    desk.do("alice", c.ChargeInterest())
    assert [amount for *_, amount in statement(desk)] == [1, 1]
    desk.do("alice", c.Borrow("USDT", D(1000)))
    assert desk.account().debts["USDT"].annual_rate == D("3.285")


def test_a_debt_keeps_its_clock_and_a_new_loan_takes_the_new_one() -> None:
    desk = lender("okx_hourly")
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.house_do(c.SetBorrowRate("USDT", D("0.0876"), "bybit_hourly"))
    desk.do("alice", c.Borrow("USDT", D(1)))
    assert desk.account().debts["USDT"].clock == "okx_hourly"
    desk.do("alice", c.Repay("USDT"))
    desk.do("alice", c.Borrow("USDT", D(1)))
    assert desk.account().debts["USDT"].clock == "bybit_hourly"


def test_a_rate_per_period_is_shown_as_it_is_charged() -> None:
    """amount = principal × rate × periods, with the rate on the statement."""
    for clock in CLOCKS.values():
        rate = rate_per_period(clock, D("0.0731"))
        exact = D("0.0731") * D(clock.period // timedelta(seconds=1)) / D(YEAR // timedelta(seconds=1))
        assert 0 <= rate - exact < D("1e-18")


def test_an_unknown_clock_is_refused() -> None:
    desk = Desk(FREE)
    assert reasons(desk.house_do(c.SetBorrowRate("USDT", D(1), "lunar"))) == ["NOT_SUPPORTED"]
    assert desk.house_do(c.SetBorrowRate("USDT", D(1), "okx_hourly")) != ()
    assert desk.house_do(c.SetBorrowRate("USDT", D(1), "okx_hourly")) == (), "the same rate again changes nothing"


def test_the_settings_name_every_clock() -> None:
    assert set(get_args(ClockName)) == set(CLOCKS)


# Time


@given(
    st.sampled_from(sorted(CLOCKS)),
    st.integers(0, 10**7),
    st.lists(st.integers(1, 500_000), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 4_000_000), st.integers(0, 900)), max_size=4),
)
def test_charges_do_not_depend_on_when_somebody_looks(
    clock: str, opened_after: int, waits: list[int], changes: list[tuple[int, int]]
) -> None:
    """However long the service was down, and however often it looked: the same charges at the same times and rates."""
    opened = DAY + timedelta(seconds=opened_after)
    rates = sorted(
        (BorrowRate("USDT", D(rate) / 1000, clock, opened + timedelta(seconds=since)) for since, rate in changes),
        key=lambda rate: rate.effective_at,
    )
    rule = CLOCKS[clock]
    debt = Debt(
        "USDT", D("1234.567891"), opened, annual_rate=D("0.1"), clock=clock,
        next_charge_at=charge_after(rule, opened, opened),
    )  # fmt: skip
    end = opened + timedelta(seconds=sum(waits))
    at_once = charges_due(debt, rates, end)
    bit_by_bit, now = [], opened
    for wait in waits:
        now += timedelta(seconds=wait)
        for charge in charges_due(debt, rates, now):
            bit_by_bit.append(charge)
            debt = Debt(
                "USDT", debt.principal, opened, accrued_interest=debt.accrued_interest + charge.amount,
                annual_rate=charge.annual_rate, clock=clock, next_charge_at=charge.next_charge_at,
            )  # fmt: skip
    assert tuple(bit_by_bit) == at_once
    assert all(opened < charge.due_at <= end for charge in at_once)
    assert len(at_once) == len({charge.due_at for charge in at_once})


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_a_day_has_24_hours_of_interest_when_the_clocks_change(day: datetime) -> None:
    desk = lender("okx_hourly", opened=day)
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.now = day + timedelta(days=1)
    desk.do("alice", c.ChargeInterest())
    assert len(statement(desk)) == 24


def test_a_leap_second_is_no_time_to_charge_for() -> None:
    """UTC had 23:59:60 at the end of 2016; the day has its 24 charges, one at midnight."""
    opened = datetime(2016, 12, 31, 23, 30, tzinfo=UTC)
    desk = lender("okx_hourly", opened=opened)
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.now = datetime(2017, 1, 1, 0, 30, tzinfo=UTC)
    desk.do("alice", c.ChargeInterest())
    assert [time for time, *_ in statement(desk)] == ["00:00"]


def test_what_was_charged_is_not_charged_again() -> None:
    desk = lender("binance_hourly")
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.now = at("03:00")
    assert len(desk.do("alice", c.ChargeInterest())) == 3
    assert desk.do("alice", c.ChargeInterest()) == ()
