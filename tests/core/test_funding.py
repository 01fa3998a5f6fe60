"""Funding: who pays whom, on what was held at the instant and on nothing else, each instant once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Environment, Holding, PositionMode
from debt_mgmt.core.funding import funding_amount, held_at, remember
from tests.support.desk import FREE, NOON, Desk, reasons
from tests.support.instruments import BTCUSD, BTCUSDT

D = Decimal
FOUR = NOON + timedelta(hours=4)


def desk_with(*, mode: PositionMode = PositionMode.ONE_WAY) -> Desk:
    desk = Desk(FREE)
    desk.value("BTC", priced_by="BTCUSDT")
    desk.mark("BTCUSDT", 50_000)
    desk.mark("BTCUSD", 50_000)
    desk.open("alice", 100_000, position_mode=mode)
    return desk


def settle(desk: Desk, at: datetime = FOUR, rate: str = "0.0001", symbol: str = "BTCUSDT") -> list[e.FundingSettled]:
    events = desk.do("alice", c.SettleFunding(symbol, D(rate), D(50_000), at))
    return [event for event in events if isinstance(event, e.FundingSettled)]


@pytest.mark.parametrize(
    ("side", "rate", "amount"),
    [("buy", "0.0001", -5), ("sell", "0.0001", 5), ("buy", "-0.0001", 5), ("sell", "-0.0001", -5), ("buy", "0", 0)],
)
def test_longs_pay_a_positive_rate_and_shorts_receive_it(side: str, rate: str, amount: int) -> None:
    desk = desk_with()
    desk.fill("alice", side, 1)
    (event,) = settle(desk, rate=rate)
    assert (event.amount, event.value, event.notional) == (D(amount), D(amount), D(50_000))
    assert desk.account().balances["USDT"] == 100_000 + amount
    assert desk.figures().equity == 100_000 + amount


def test_an_inverse_position_pays_in_coin() -> None:
    assert funding_amount(BTCUSD, D(100), D(50_000), D("0.0001")) == -D(100) * BTCUSD.contract_size / 50_000 / 10_000
    assert funding_amount(BTCUSDT, D(-2), D(50_000), D("0.0001")) == 10


def test_both_legs_of_a_hedge_are_settled() -> None:
    desk = desk_with(mode=PositionMode.HEDGE)
    desk.fill("alice", "buy", 2, leg="LONG")
    desk.fill("alice", "sell", 1, leg="SHORT")
    assert sorted(event.amount for event in settle(desk)) == [-10, 5]
    assert settle(desk) == []


def test_an_instant_is_settled_once_and_never_after_a_later_one() -> None:
    desk = desk_with()
    desk.fill("alice", "buy", 1)
    assert len(settle(desk)) == 1
    assert settle(desk) == []
    assert settle(desk, FOUR - timedelta(hours=8)) == []
    assert len(settle(desk, FOUR + timedelta(hours=8))) == 1


def test_only_what_was_held_at_the_instant_counts_however_late_the_rate_comes() -> None:
    desk = desk_with()
    desk.fill("alice", "buy", 1)
    desk.now = FOUR - timedelta(minutes=1)
    desk.fill("alice", "buy", 2)
    desk.now = FOUR + timedelta(seconds=5)
    desk.fill("alice", "sell", 3)
    desk.now = FOUR + timedelta(hours=1)
    desk.fill("alice", "sell", 7)
    (event,) = settle(desk)
    assert (event.quantity, event.amount) == (D(3), D(-15))


def test_what_was_opened_after_the_instant_pays_nothing() -> None:
    desk = desk_with()
    desk.now = FOUR + timedelta(seconds=1)
    desk.fill("alice", "buy", 1)
    assert settle(desk) == []


@pytest.mark.parametrize("at", [FOUR, FOUR - timedelta(hours=3)])
def test_a_position_opened_or_closed_in_the_instant_was_held_in_it(at: datetime) -> None:
    desk = desk_with()
    desk.now = at
    desk.fill("alice", "sell", 1)
    desk.now = FOUR
    desk.fill("alice", "buy", 1)
    assert [event.quantity for event in settle(desk)] == [-1]


def test_a_real_account_is_settled_by_its_venue() -> None:
    desk = desk_with()
    desk.fill("alice", "buy", 1)
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), environment=Environment.LIVE)
    assert settle(desk) == []


def test_a_reset_leaves_nothing_to_settle() -> None:
    desk = desk_with()
    desk.fill("alice", "buy", 1)
    desk.now = FOUR + timedelta(hours=1)
    desk.do("alice", c.ResetFunds("again"))
    assert settle(desk) == []


def test_funding_of_a_losing_long_can_raise_the_level() -> None:
    desk = desk_with()
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "6.99")
    settle(desk, rate="0.002")
    assert desk.account().level.value == "WARNING"


# The house


def test_rates_are_published_in_order_and_each_once() -> None:
    desk = desk_with()
    early = desk.house_do(c.PublishFundingRate("BTCUSDT", D("0.0001"), D(50_000), FOUR))
    assert reasons(early) == ["NOT_SUPPORTED"], "its time has not come"
    desk.now = FOUR + timedelta(seconds=1)
    assert reasons(desk.house_do(c.PublishFundingRate("BTCUSDT", D("0.0001"), None, FOUR))) == ["MISSING_MARK"]
    assert len(desk.house_do(c.PublishFundingRate("BTCUSDT", D("0.0001"), D(50_000), FOUR))) == 1
    assert desk.house_do(c.PublishFundingRate("BTCUSDT", D("0.0001"), D(50_000), FOUR)) == ()
    again = desk.house_do(c.PublishFundingRate("BTCUSDT", D("0.0002"), D(50_000), FOUR))
    assert reasons(again) == ["ALREADY_IN_STATE"]
    earlier = desk.house_do(c.PublishFundingRate("BTCUSDT", D("0.0002"), D(50_000), FOUR - timedelta(hours=8)))
    assert reasons(earlier) == ["ALREADY_IN_STATE"]
    unknown = desk.house_do(c.PublishFundingRate("NOPE", D("0.0002"), D(50_000), FOUR))
    assert reasons(unknown) == ["UNKNOWN_INSTRUMENT"]


# What is remembered


@given(
    st.lists(st.tuples(st.integers(0, 7_200), st.integers(-5, 5)), min_size=1, max_size=40),
    st.integers(0, 30),
)
def test_what_was_held_on_a_full_hour_is_remembered_exactly(changes: list[tuple[int, int]], hour: int) -> None:
    """Whatever is forgotten between hours: on an hour, the shortened past says what the whole one says."""
    start = datetime(2026, 1, 5, tzinfo=UTC)
    now, kept, whole = start, tuple[Holding, ...](), list[Holding]()
    for wait, quantity in changes:
        now += timedelta(seconds=wait)
        kept = remember(kept, D(quantity), now, None)
        whole.append(Holding(now, D(quantity)))
    at = start + timedelta(hours=hour)
    if at > now - timedelta(days=7):
        assert abs(held_at(kept, at)) == abs(held_at(tuple(whole), at))
