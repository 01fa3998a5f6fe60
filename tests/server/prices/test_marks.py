"""The guard in front of the market: which prices become marks, and why the others do not."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core.market import Mark
from debt_mgmt.server.prices.marks import MarkGuard, MarkUpdate, Quarantined, QuarantineReason
from tests.support.instruments import BTCUSDT, ETHUSDT

D = Decimal
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
INSTRUMENTS = {"BTCUSDT": BTCUSDT, "ETHUSDT": ETHUSDT}


class Market:
    """A guard of 20 % and 30 s, one second later with every price."""

    def __init__(self) -> None:
        self.guard = MarkGuard(D("0.20"), timedelta(seconds=30))
        self.now = NOON

    def give(
        self,
        price: str,
        symbol: str = "BTCUSDT",
        *,
        at: datetime | None = None,
        source: str = "venue",
        recorded: bool = False,
    ) -> Mark | Quarantined:
        self.now += timedelta(seconds=1)
        return self.guard.accept(MarkUpdate(symbol, price, source, at), self.now, INSTRUMENTS, recorded=recorded)

    def taken(self, price: str, *, at: datetime | None = None, source: str = "venue", recorded: bool = False) -> Mark:
        mark = self.give(price, at=at, source=source, recorded=recorded)
        assert isinstance(mark, Mark), mark
        return mark

    def refused(
        self, price: str, *, at: datetime | None = None, source: str = "venue", recorded: bool = False
    ) -> QuarantineReason:
        why = self.give(price, at=at, source=source, recorded=recorded)
        assert isinstance(why, Quarantined), why
        assert why.message
        return why.reason


def test_a_price_becomes_a_mark_with_its_times() -> None:
    market, at = Market(), NOON - timedelta(seconds=2)
    mark = market.taken("60000.5", at=at)
    assert mark == Mark("BTCUSDT", D("60000.5"), "venue", at, market.now)
    assert market.taken("60001").source_time == market.now, "a source without a clock speaks of now"
    assert market.taken("60001", source="").source == "unnamed"


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "0.0", "NaN", "Infinity", "1e5", "1_000", "+1", " 1", "1.", "٣", "9" * 21, "1" * 400]
)
def test_what_is_no_price_above_zero_is_set_aside(text: str) -> None:
    assert Market().refused(text) is QuarantineReason.INVALID_PRICE


def test_a_symbol_must_be_known() -> None:
    why = Market().give("1", "X" * 1000)
    assert isinstance(why, Quarantined)
    assert why.reason is QuarantineReason.UNKNOWN_SYMBOL
    assert len(why.message) < 120


def test_time_does_not_go_backwards() -> None:
    market = Market()
    market.taken("100", at=NOON)
    assert market.refused("101", at=NOON - timedelta(milliseconds=1)) is QuarantineReason.OUT_OF_ORDER
    market.taken("101", at=NOON)
    assert market.guard.last["BTCUSDT"].price == D("101"), "the last of one instant counts"


@pytest.mark.parametrize(
    ("ahead", "fits"), [(5, True), (5.001, False), (86_400, False), (-30, True), (-30.001, False), (-86_400, False)]
)
def test_a_live_price_is_of_now(ahead: float, fits: bool) -> None:
    market = Market()
    given = market.give("100", at=NOON + timedelta(seconds=1 + ahead))
    if fits:
        assert isinstance(given, Mark)
    else:
        assert isinstance(given, Quarantined)
        assert given.reason is QuarantineReason.INVALID_TIME


def test_a_time_without_a_zone_is_no_time() -> None:
    assert Market().refused("1", at=NOON.replace(tzinfo=None)) is QuarantineReason.INVALID_TIME


# Jumps


def test_a_jump_waits_for_a_second_price() -> None:
    market = Market()
    market.taken("100")
    market.taken("120")
    market.taken("96")
    assert market.refused("76.7") is QuarantineReason.DEVIATION, "20 % is near enough, more is not"
    market.taken("80")
    market.taken("80.5")


@pytest.mark.parametrize("second", ["70", "84", "56"])
def test_a_second_price_near_the_first_confirms_the_jump(second: str) -> None:
    market = Market()
    market.taken("100")
    assert market.refused("70") is QuarantineReason.DEVIATION
    if second == "84":
        market.taken(second)
        assert market.refused("60") is QuarantineReason.DEVIATION, "the market never left"
    else:
        market.taken(second)
        market.taken("60")


def test_a_second_price_elsewhere_confirms_nothing_but_may_be_confirmed_itself() -> None:
    market = Market()
    market.taken("100")
    assert market.refused("70") is QuarantineReason.DEVIATION
    assert market.refused("40") is QuarantineReason.DEVIATION
    assert market.refused("70") is QuarantineReason.DEVIATION
    market.taken("69")


def test_a_price_back_at_the_last_one_clears_the_suspicion() -> None:
    market = Market()
    market.taken("100")
    assert market.refused("1000") is QuarantineReason.DEVIATION
    market.taken("101")
    assert market.refused("1000") is QuarantineReason.DEVIATION


def test_the_same_price_sent_again_confirms_nothing() -> None:
    market, at = Market(), NOON + timedelta(seconds=1)
    market.taken("100", at=NOON)
    assert market.refused("1000", at=at) is QuarantineReason.DEVIATION
    assert market.refused("1000", at=at) is QuarantineReason.DEVIATION
    market.taken("1000", at=at, source="another venue")


def test_instruments_are_guarded_one_by_one() -> None:
    market = Market()
    market.taken("100")
    assert market.refused("1000") is QuarantineReason.DEVIATION
    assert isinstance(market.give("1000", "ETHUSDT"), Mark)
    assert market.refused("10000") is QuarantineReason.DEVIATION


# Recordings


def test_a_recorded_price_keeps_its_own_time_and_needs_one() -> None:
    market, long_ago = Market(), datetime(2017, 9, 4, tzinfo=UTC)
    mark = market.taken("4626.05", at=long_ago, recorded=True)
    assert (mark.recorded, mark.source_time, mark.received_at) == (True, long_ago, market.now)
    assert market.refused("4626.05", recorded=True) is QuarantineReason.INVALID_TIME
    assert market.refused("1", at=NOON + timedelta(days=1), recorded=True) is QuarantineReason.INVALID_TIME


def test_a_jump_on_a_recording_waits_too() -> None:
    market, long_ago = Market(), datetime(2017, 9, 4, tzinfo=UTC)
    market.taken("100", at=long_ago, recorded=True)
    assert market.refused("70", at=long_ago + timedelta(minutes=1), recorded=True) is QuarantineReason.DEVIATION
    market.taken("71", at=long_ago + timedelta(minutes=2), recorded=True)


def test_a_recording_may_be_played_again() -> None:
    market, long_ago = Market(), datetime(2017, 9, 4, tzinfo=UTC)
    for _ in range(2):
        for minute, price in enumerate(("100", "110", "120", "130")):
            market.taken(price, at=long_ago + timedelta(minutes=minute), recorded=True)


def test_live_and_recorded_prices_are_not_compared() -> None:
    market, long_ago = Market(), datetime(2017, 9, 4, tzinfo=UTC)
    market.taken("60000", at=NOON)
    market.taken("4626.05", at=long_ago, recorded=True)
    market.taken("60000", at=NOON)
