"""A change on a live account is asked of its venue: the larger margin counts until it answers, in its own words."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode, PositionSide
from debt_mgmt.core.venue import VenueChange, VenueChangeKind, VenuePosition
from debt_mgmt.core.whatif import simulate
from tests.support.desk import kinds, reasons
from tests.support.live_desk import BTC, ETH, LiveDesk, alerts, balance, held, ready, told

D = Decimal
MONEY = balance("USDT", 10_000)
POSITION = held(BTC, "0.2", 50_000, leverage=5)


def apart(posted: str = "3000") -> VenuePosition:
    one = held(BTC, "0.2", 50_000, leverage=5, isolated_margin=posted)
    return msgspec.structs.replace(one, margin_mode=MarginMode.ISOLATED)


def pending(desk: LiveDesk, symbol: str = BTC) -> VenueChange:
    return desk.account().pending[symbol]


def answered(desk: LiveDesk, leverage: str | None = None, symbol: str = BTC) -> tuple[e.Event, ...]:
    """The venue confirms, with the value read back."""
    value = D(leverage) if leverage is not None else None
    return desk.do("alice", c.RecordVenueOutcome(pending(desk, symbol).change_id, True, value))


def refused(desk: LiveDesk, code: str = "110013", message: str = "cannot set leverage") -> tuple[e.Event, ...]:
    return desk.do("alice", c.RecordVenueOutcome(pending(desk).change_id, False, code=code, message=message))


# Leverage


def test_a_lower_leverage_counts_at_once_and_stays_when_confirmed() -> None:
    desk = ready(MONEY, POSITION)
    assert desk.figures().margin_used == 2_000
    (event,) = desk.leverage("alice", BTC, 2)
    assert isinstance(event, e.VenueChangeRequested)
    assert event.change == VenueChange(
        event.change.change_id, VenueChangeKind.LEVERAGE, BTC, desk.now, leverage=D(2), leverage_before=D(5)
    )
    assert event.figures == desk.figures()
    assert desk.figures().margin_used == 5_000
    events = answered(desk, "2")
    assert kinds(events) == ["LeverageSet"]
    assert isinstance(events[0], e.LeverageSet) and events[0].previous == 5
    assert desk.figures().margin_used == 5_000
    assert not desk.account().pending


def test_a_lower_leverage_that_is_refused_was_never_in_force() -> None:
    desk = ready(MONEY, POSITION)
    before = desk.account()
    desk.leverage("alice", BTC, 2)
    events = refused(desk, "110028", "open orders exist")
    assert kinds(events) == ["VenueChangeRefused", "AlertRaised"]
    assert alerts(events)[0].message == ("bybit on leverage of bybit:BTCUSDT: open orders exist (code 110028)")
    after = desk.account()
    assert (after.positions, after.leverage, after.pending) == (before.positions, before.leverage, {})
    assert desk.figures().margin_used == 2_000


def test_a_higher_leverage_counts_when_it_is_confirmed() -> None:
    desk = ready(MONEY, held(BTC, "0.2", 50_000, leverage=2), leverage=2)
    desk.leverage("alice", BTC, 5)
    assert desk.figures().margin_used == 5_000
    assert desk.check("alice", "buy", "0.1", BTC).initial_margin == 2_500
    answered(desk, "5")
    assert desk.figures().margin_used == 2_000


def test_a_higher_leverage_that_is_refused_changes_nothing() -> None:
    desk = ready(MONEY, held(BTC, "0.2", 50_000, leverage=2), leverage=2)
    before = desk.account()
    desk.leverage("alice", BTC, 5)
    refused(desk)
    after = desk.account()
    assert (after.positions, after.leverage) == (before.positions, before.leverage)


def test_orders_are_counted_at_the_lower_leverage_while_it_is_pending() -> None:
    desk = ready(MONEY)
    desk.reserve("alice", "buy", "0.2", BTC, 50_000)
    assert desk.figures().margin_used == 2_000
    desk.leverage("alice", BTC, "2.5")
    assert desk.figures().margin_used == 4_000
    refused(desk)
    assert desk.figures().margin_used == 2_000


def test_a_venue_that_clamps_is_taken_at_its_word_and_told_of() -> None:
    desk = ready(MONEY, POSITION)
    desk.leverage("alice", BTC, 2)
    events = answered(desk, "3")
    assert isinstance(events[0], e.LeverageSet) and events[0].leverage == 3
    assert told(events) == ["VENUE_REFUSED"]
    assert "leverage 2 was asked for, and 3 is in force" in alerts(events)[0].message
    assert desk.account().positions[BTC].leverage == 3


def test_what_it_would_need_must_be_there_before_the_venue_is_asked() -> None:
    desk = ready(MONEY, held(BTC, "0.4", 50_000, leverage=5))
    assert reasons(desk.leverage("alice", BTC, "1")) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    assert reasons(desk.leverage("alice", BTC, "6")) == ["LEVERAGE_ABOVE_ACCOUNT"]
    assert not desk.account().pending


def test_a_second_change_of_a_symbol_waits_for_the_first() -> None:
    desk = ready(MONEY, POSITION)
    desk.leverage("alice", BTC, 4)
    for again in (c.SetLeverage(BTC, D(3)), c.SetMarginMode(BTC, MarginMode.CROSS)):
        assert reasons(desk.do("alice", again)) == ["CHANGE_PENDING"]
    assert not reasons(desk.leverage("alice", ETH, 4)), "another symbol is another matter"
    answered(desk, "4")
    assert not reasons(desk.leverage("alice", BTC, 3))


def test_an_outcome_is_taken_once() -> None:
    desk = ready(MONEY, POSITION)
    desk.leverage("alice", BTC, 4)
    outcome = c.RecordVenueOutcome(pending(desk).change_id, True, D(4))
    desk.do("alice", outcome)
    assert desk.do("alice", outcome) == ()
    assert desk.do("alice", c.RecordVenueOutcome("1-999", True, D(2))) == ()
    assert desk.account().leverage[BTC] == 4


@pytest.mark.parametrize("venue_has", [5, 2])
def test_a_sync_meanwhile_keeps_the_larger_margin(venue_has: int) -> None:
    """Whether or not the venue has done it already, the lower leverage counts until the answer is here."""
    desk = ready(MONEY, POSITION)
    desk.leverage("alice", BTC, 2)
    desk.sync(MONEY, held(BTC, "0.2", 50_000, leverage=venue_has))
    assert desk.figures().margin_used == 5_000
    assert desk.account().leverage[BTC] == 2
    assert pending(desk).leverage == 2
    refused(desk)
    assert desk.figures().margin_used == 2_000


def test_a_state_read_before_the_answer_does_not_undo_it() -> None:
    desk = ready(MONEY, POSITION)
    desk.leverage("alice", BTC, 4)
    desk.now += timedelta(seconds=5)
    answered(desk, "4")
    desk.sync(MONEY, POSITION, read=timedelta(seconds=4))
    assert desk.account().positions[BTC].leverage == 4
    assert desk.account().leverage[BTC] == 4
    desk.sync(MONEY, POSITION)
    assert desk.account().positions[BTC].leverage == 5


def test_in_dry_run_nothing_is_asked() -> None:
    desk = ready(MONEY, apart())
    desk.do("alice", c.SetDryRun(True))
    for change in (
        c.SetLeverage(BTC, D(4)),
        c.SetMarginMode(ETH, MarginMode.ISOLATED),
        c.AdjustIsolatedMargin(BTC, PositionSide.NET, D(5)),
    ):
        assert reasons(desk.do("alice", change)) == ["DRY_RUN"]


def test_what_if_shows_a_leverage_as_the_venue_would_confirm_it() -> None:
    desk = ready(MONEY, POSITION)
    desk.do("alice", c.SetDryRun(True))
    shown = simulate(desk.account(), desk.world("alice"), (c.SetLeverage(BTC, D(2)),))
    assert shown.outcomes[0].applied
    assert shown.after.margin_used == 5_000
    assert not shown.account_after.pending


# Margin mode


def test_a_margin_mode_is_in_force_when_it_is_confirmed() -> None:
    desk = ready(MONEY)
    (event,) = desk.do("alice", c.SetMarginMode(ETH, MarginMode.ISOLATED))
    assert isinstance(event, e.VenueChangeRequested)
    assert event.change.leverage_before == 5, "some venues set both in one call"
    assert ETH not in desk.account().margin_modes
    events = answered(desk, symbol=ETH)
    assert kinds(events) == ["MarginModeSet"]
    assert desk.account().margin_modes == {ETH: MarginMode.ISOLATED}


def test_a_margin_mode_that_came_out_otherwise_is_told() -> None:
    desk = ready(MONEY)
    desk.do("alice", c.SetMarginMode(ETH, MarginMode.ISOLATED))
    outcome = c.RecordVenueOutcome(pending(desk, ETH).change_id, True, margin_mode=MarginMode.CROSS)
    assert told(desk.do("alice", outcome)) == ["VENUE_REFUSED"]
    assert desk.account().margin_modes == {ETH: MarginMode.CROSS}


# Isolated margin


def adjust(desk: LiveDesk, amount: int) -> tuple[e.Event, ...]:
    return desk.do("alice", c.AdjustIsolatedMargin(BTC, PositionSide.NET, D(amount)))


def standing(desk: LiveDesk) -> tuple[int, int]:
    """(cross equity, margin posted on the position)."""
    return int(desk.summary().equity), int(desk.account().positions[BTC].isolated_margin)


@pytest.mark.parametrize(
    ("amount", "asked", "confirmed"),
    [(500, (6_500, 3_000), (6_500, 3_500)), (-500, (7_000, 2_500), (7_500, 2_500))],
)
def test_margin_on_its_way_counts_for_neither_side(
    amount: int, asked: tuple[int, int], confirmed: tuple[int, int]
) -> None:
    desk = ready(MONEY, apart())
    assert standing(desk) == (7_000, 3_000)
    adjust(desk, amount)
    assert standing(desk) == asked
    assert kinds(answered(desk)) == ["IsolatedMarginAdjusted"]
    assert standing(desk) == confirmed
    desk2 = ready(MONEY, apart())
    adjust(desk2, amount)
    refused(desk2)
    assert standing(desk2) == (7_000, 3_000)


@pytest.mark.parametrize("amount", [500, -500])
def test_a_sync_meanwhile_leaves_margin_on_its_way(amount: int) -> None:
    desk = ready(MONEY, apart())
    adjust(desk, amount)
    before = standing(desk)
    desk.sync(MONEY, apart())
    assert standing(desk) == before


def test_margin_for_a_position_that_is_gone_is_said_to_be_refused() -> None:
    desk = ready(MONEY, apart())
    adjust(desk, 500)
    desk.sync(MONEY)
    assert desk.figures().equity == 9_500
    assert kinds(answered(desk)) == ["VenueChangeRefused"]
    assert desk.figures().equity == 10_000
