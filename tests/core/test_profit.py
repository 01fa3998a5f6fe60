"""Profit and loss by cause: what each event changed equity by, and the calendar that intervals follow."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment, MarginMode, Side
from debt_mgmt.core.apply import apply
from debt_mgmt.core.commands import (
    Command,
    CreateAccount,
    RecordEquity,
    RecordFill,
    ResetFunds,
    SetMarginMode,
    Transfer,
)
from debt_mgmt.core.decide import decide
from debt_mgmt.core.house import House
from debt_mgmt.core.margin import World
from debt_mgmt.core.market import AssetRule, Mark
from debt_mgmt.core.profit import (
    NOTHING,
    Causes,
    IntervalLength,
    interval_end,
    interval_start,
    profit_and_loss,
)
from debt_mgmt.core.settings import RiskSettings
from tests.support.instruments import linear

D = Decimal
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LENGTHS = list(IntervalLength)
INSTANTS = st.integers(0, 40 * 366 * 24 * 60).map(
    lambda minutes: datetime(1995, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
ZONES = [
    "UTC",
    "Asia/Kolkata",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Kathmandu",
]


class Book:
    """One account, decided step by step at prices that are set."""

    def __init__(self, capital: str = "10000") -> None:
        self.account: Account | None = None
        self.marks: dict[str, Mark] = {}
        euro = AssetRule("EUR", haircut=D("0.10"), rates={"USDT": D("1.10")})
        self.house = House(instruments={"BTCUSDT": linear("BTCUSDT")}, assets={"EUR": euro})
        self.at = NOON
        self.do(CreateAccount("ann", "ann", "paper", Environment.SANDBOX, "USDT", deposit_amount=D(capital)))

    def mark(self, price: str) -> None:
        self.marks["BTCUSDT"] = Mark("BTCUSDT", D(price), "test", self.at, self.at)

    def do(self, command: Command) -> tuple[e.Event, ...]:
        world = World(self.house, self.marks, RiskSettings(), self.at)
        events = decide(self.account, command, world)
        for event in events:
            self.account = apply(self.account, event)
        return events

    def fill(self, side: Side, quantity: str, price: str, fee: str = "0", fee_asset: str = "USDT", **more: str) -> None:
        self.do(RecordFill(f"{self.at}", "BTCUSDT", side, D(quantity), D(price), D(fee), fee_asset))

    def record(self) -> e.EquityRecorded:
        (recorded,) = (one for one in self.do(RecordEquity(self.at)) if isinstance(one, e.EquityRecorded))
        return recorded

    @property
    def causes(self) -> Causes:
        assert self.account is not None and self.account.interval is not None
        return self.account.interval.causes


def test_starting_capital_and_transfers_count_as_the_collateral_that_they_are() -> None:
    book = Book()
    assert book.causes == Causes(transfers=D(10000))
    book.do(Transfer("EUR", D(100)))
    book.do(Transfer("USDT", D(-50)))
    assert book.causes == Causes(transfers=D(10000) + D(99) - D(50))


def test_a_fill_says_its_fee_and_what_it_realized() -> None:
    book = Book()
    book.mark("50000")
    book.fill(Side.BUY, "0.1", "50000", "2.5")
    book.fill(Side.SELL, "0.05", "50400", "-0.25")
    assert book.causes == Causes(transfers=D(10000), fees=D("-2.25"), realized=D(20))


def test_a_fee_in_an_asset_with_a_haircut_counts_as_much_as_the_asset_did() -> None:
    book = Book()
    book.mark("50000")
    book.do(Transfer("EUR", D(100)))
    before = book.causes
    book.fill(Side.BUY, "0.1", "50000", "10", "EUR")
    assert book.causes.fees - before.fees == D("-9.9")
    book.fill(Side.BUY, "0.1", "50000", "100", "EUR")
    # 90 euros were there; what is owed beyond them counts in full
    assert book.causes.fees - before.fees == D("-9.9") + D("-89.1") + D("-11")


def test_money_without_a_price_makes_the_interval_incomplete_until_it_is_closed() -> None:
    book = Book()
    book.mark("50000")
    book.fill(Side.BUY, "0.1", "50000", "1", "XAU")
    assert book.causes.unpriced
    book.at += timedelta(hours=1)
    recorded = book.record()
    assert recorded.causes.unpriced and recorded.equity is None
    assert profit_and_loss(recorded.equity_before, D(1), recorded.causes) is None
    assert book.causes == NOTHING


def test_a_reset_is_the_transfer_that_leads_back() -> None:
    book = Book()
    book.mark("50000")
    book.fill(Side.BUY, "0.1", "50000", "5")
    book.mark("49000")
    book.do(ResetFunds("again"))
    assert book.causes == Causes(transfers=D(10000) + D(105), fees=D(-5))


def test_an_isolated_position_is_part_of_equity_and_posting_to_it_changes_nothing() -> None:
    book = Book()
    book.mark("50000")
    book.do(SetMarginMode("BTCUSDT", MarginMode.ISOLATED))
    book.fill(Side.BUY, "0.1", "50000")
    book.mark("50500")
    book.at += timedelta(hours=1)
    recorded = book.record()
    assert (recorded.equity, recorded.wallet_balance, recorded.unrealized_pnl) == (D(10050), D(10000), D(50))
    made = profit_and_loss(recorded.equity_before, recorded.equity, recorded.causes)
    assert made is not None and (made.price, made.transfers, made.total) == (D(50), D(10000), D(10050))


def test_an_interval_begins_where_the_last_one_ended() -> None:
    book = Book()
    book.at += timedelta(hours=1)
    first = book.record()
    book.at += timedelta(hours=2)
    second = book.record()
    assert (first.started_at, first.ended_at) == (NOON, NOON + timedelta(hours=1))
    assert (second.started_at, second.equity_before) == (first.ended_at, first.equity)
    assert second.causes == NOTHING


def test_an_account_of_older_journals_begins_its_history_without_a_beginning() -> None:
    old = e.AccountCreated("ann", "ann", "paper", Environment.SANDBOX, "USDT", NOON, "ONE_WAY", "CROSS", "USDT", D(5))  # type: ignore[arg-type]
    account = apply(None, old)
    assert account.interval is None
    events = decide(account, RecordEquity(NOON + HOUR), World(House(), {}, RiskSettings(), NOON + HOUR))
    (recorded,) = (one for one in events if isinstance(one, e.EquityRecorded))
    assert recorded.equity_before is None and recorded.equity is not None


# the calendar


@pytest.mark.parametrize(
    ("length", "at", "zone", "start", "end"),
    [
        ("HOUR", "2026-03-02T12:34:56+00:00", "UTC", "2026-03-02T12:00+00:00", "2026-03-02T13:00+00:00"),
        ("HOUR", "2026-03-02T12:34:56+00:00", "Asia/Kolkata", "2026-03-02T12:30+00:00", "2026-03-02T13:30+00:00"),
        ("DAY", "2026-03-02T18:30:00+00:00", "Asia/Kolkata", "2026-03-02T18:30+00:00", "2026-03-03T18:30+00:00"),
        ("DAY", "2026-03-08T12:00:00+00:00", "America/New_York", "2026-03-08T05:00+00:00", "2026-03-09T04:00+00:00"),
        ("DAY", "2026-11-01T12:00:00+00:00", "America/New_York", "2026-11-01T04:00+00:00", "2026-11-02T05:00+00:00"),
        ("WEEK", "2026-03-08T23:59:59+00:00", "UTC", "2026-03-02T00:00+00:00", "2026-03-09T00:00+00:00"),
        ("MONTH", "2028-02-29T12:00:00+00:00", "UTC", "2028-02-01T00:00+00:00", "2028-03-01T00:00+00:00"),
        ("MONTH", "2026-12-31T23:00:00+00:00", "Europe/Berlin", "2026-12-31T23:00+00:00", "2027-01-31T23:00+00:00"),
        # clocks go back at one in the morning in Havana: midnight comes twice, the day begins with the first
        ("DAY", "2026-11-01T04:30:00+00:00", "America/Havana", "2026-11-01T04:00+00:00", "2026-11-02T05:00+00:00"),
        # they go forward at midnight in Cairo: the day begins at one
        ("DAY", "2026-04-24T12:00:00+00:00", "Africa/Cairo", "2026-04-23T22:00+00:00", "2026-04-24T21:00+00:00"),
    ],
)
def test_intervals_follow_the_calendar_of_the_zone(length: str, at: str, zone: str, start: str, end: str) -> None:
    found = interval_start(datetime.fromisoformat(at), zone, IntervalLength(length))
    assert found == datetime.fromisoformat(start)
    assert interval_end(found, zone, IntervalLength(length)) == datetime.fromisoformat(end)


@given(
    INSTANTS,
    st.sampled_from(ZONES),
    st.sampled_from(LENGTHS),
)
def test_every_instant_lies_in_one_interval_and_intervals_follow_each_other(
    at: datetime, zone: str, length: IntervalLength
) -> None:
    start = interval_start(at, zone, length)
    end = interval_end(start, zone, length)
    assert start <= at < end
    assert interval_start(start, zone, length) == start
    assert interval_start(end, zone, length) == end
    assert interval_start(end - timedelta(microseconds=1), zone, length) == start


@given(INSTANTS, st.sampled_from(ZONES))
def test_whole_hours_make_a_day_and_whole_days_a_week_and_a_month(at: datetime, zone: str) -> None:
    for shorter, longer in zip(LENGTHS, (LENGTHS[1], LENGTHS[2], LENGTHS[3]), strict=False):
        if longer is IntervalLength.MONTH:
            shorter = IntervalLength.DAY
        start = interval_start(at, zone, longer)
        assert interval_start(start, zone, shorter) == start


def test_both_changes_of_daylight_saving_are_a_day_of_their_own_length() -> None:
    zone, found = "Europe/Berlin", {}
    for name in ("2026-03-29", "2026-10-25", "2026-06-01"):
        start = interval_start(
            datetime.fromisoformat(f"{name}T12:00:00").replace(tzinfo=ZoneInfo(zone)), zone, IntervalLength.DAY
        )
        hours, at = 0, start
        end = interval_end(start, zone, IntervalLength.DAY)
        while at < end:
            hours, at = hours + 1, interval_end(at, zone, IntervalLength.HOUR)
        assert at == end
        found[name] = hours
    assert found == {"2026-03-29": 23, "2026-10-25": 25, "2026-06-01": 24}
