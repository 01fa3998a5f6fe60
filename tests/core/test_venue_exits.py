"""No new risk on a live account that is not known; what reduces passes in every state of its sync."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import PositionSide, Side
from debt_mgmt.core.check import check, check_brief
from debt_mgmt.core.refusals import Reason
from tests.support.desk import kinds, reasons
from tests.support.live_desk import BTC, LiveDesk, balance, held, order, ready

D = Decimal
MONEY = balance("USDT", 10_000)
POSITION = held(BTC, "0.2", 50_000, leverage=5)


def fresh() -> LiveDesk:
    return ready(MONEY, POSITION)


def never() -> LiveDesk:
    """Never synced: the position is known from what engines reported alone."""
    desk = LiveDesk()
    desk.mark(BTC, 50_000)
    desk.live()
    desk.reported("buy", "0.2", 50_000)
    return desk


def lost() -> LiveDesk:
    desk = fresh()
    desk.do("alice", c.LoseSync("connection refused"))
    return desk


def old() -> LiveDesk:
    desk = fresh()
    desk.pass_quietly(timedelta(seconds=61))
    return desk


def old_and_assessed() -> LiveDesk:
    desk = fresh()
    desk.wait(timedelta(seconds=61), fresh=True)
    return desk


def dry() -> LiveDesk:
    desk = fresh()
    desk.do("alice", c.SetDryRun(True))
    return desk


def halted() -> LiveDesk:
    desk = lost()
    desk.do("alice", c.HaltTrading("enough"))
    return desk


def pending() -> LiveDesk:
    desk = fresh()
    assert not reasons(desk.leverage("alice", BTC, 4))
    desk.do("alice", c.LoseSync("x"))
    return desk


def without_marks() -> LiveDesk:
    desk = lost()
    desk.marks.clear()
    desk.do("alice", c.Assess())
    return desk


UNSYNCED = [never, lost, old, old_and_assessed]
STATES = [fresh, *UNSYNCED, dry, halted, pending, without_marks]


@pytest.mark.parametrize("state", STATES, ids=lambda one: one.__name__)
@pytest.mark.parametrize(("quantity", "reduce_only"), [("0.2", False), ("0.1", False), ("0.2", True), ("5", True)])
def test_exits_always_pass(state: Callable[[], LiveDesk], quantity: str, reduce_only: bool) -> None:
    desk = state()
    result = desk.check("alice", "sell", quantity, BTC, reduce_only=reduce_only)
    assert result.fits and result.reducing and not result.violations
    brief = check_brief(desk.view(), result.order, desk.now, hold=True)
    assert brief.fits and brief.reducing
    assert not reasons(desk.reserve("alice", "sell", quantity, BTC, reduce_only=reduce_only))


@pytest.mark.parametrize("state", STATES, ids=lambda one: one.__name__)
def test_closing_and_cancelling_always_pass(state: Callable[[], LiveDesk]) -> None:
    desk = state()
    events = desk.do("alice", c.ClosePosition(BTC))
    assert "ReductionStarted" in kinds(events)
    reservation = desk.reserve("alice", "sell", "0.1", BTC)[0]
    assert isinstance(reservation, e.MarginReserved)
    release = c.ReleaseReservation(reservation.reservation.reservation_id)
    assert kinds(desk.do("alice", release))[0] == "ReservationReduced"


@pytest.mark.parametrize("state", STATES, ids=lambda one: one.__name__)
def test_fills_are_facts_in_every_state(state: Callable[[], LiveDesk]) -> None:
    desk = state()
    assert "FillRecorded" in kinds(desk.reported("sell", "0.1", 50_000))
    assert desk.account().positions[BTC].quantity == D("0.1")


@pytest.mark.parametrize("state", UNSYNCED, ids=lambda one: one.__name__)
def test_nothing_that_adds_risk_passes_while_the_venue_is_not_known(state: Callable[[], LiveDesk]) -> None:
    desk = state()
    for side in ("buy", "sell"):
        quantity = "0.01" if side == "buy" else "0.3"  # the sell turns the position around
        result = desk.check("alice", side, quantity, BTC)
        assert not result.fits
        assert [one.reason for one in result.violations].count(Reason.ACCOUNT_NOT_SYNCED) == 1
        assert not check_brief(desk.view(), result.order, desk.now, hold=True).fits
        assert reasons(desk.reserve("alice", side, quantity, BTC))[0] == "ACCOUNT_NOT_SYNCED"
    assert result.largest_buy == 0
    assert result.largest_sell == D("0.2"), "what is held can be sold"
    for change in (
        c.SetLeverage(BTC, D(3)),
        c.SetMarginMode("bybit:ETHUSDT", "ISOLATED"),  # type: ignore[arg-type]
    ):
        assert "ACCOUNT_NOT_SYNCED" in reasons(desk.do("alice", change))


def test_a_view_that_was_kept_knows_that_the_state_grew_old() -> None:
    """The view of an account is made once and kept: the age of the state is looked at in every check."""
    desk = fresh()
    view, asked = desk.view(), c.Order(BTC, Side.BUY, D("0.001"), None, False, PositionSide.NET)
    assert check(view, asked, desk.now).fits
    assert check_brief(view, asked, desk.now, hold=False).fits
    assert check(view, asked, desk.now + timedelta(seconds=9)).fits
    late = desk.now + timedelta(seconds=61)
    found = [one.reason for one in check(view, asked, late).violations]
    assert found == [Reason.ACCOUNT_NOT_SYNCED, Reason.STALE_MARK]
    assert not check_brief(view, asked, late, hold=False).fits
    assert check(view, asked, late).largest_buy == 0


def test_a_synced_account_is_checked_as_any_other() -> None:
    """The same money, position and marks: a live account and a paper account get the same answers."""
    desk = ready(MONEY, POSITION)
    desk.open("paper", 10_000)
    desk.leverage("paper", BTC, 5)
    desk.fill("paper", "buy", "0.2", BTC, 50_000)
    for side, quantity in (("buy", "0.5"), ("buy", "9"), ("sell", "0.1"), ("sell", "0.7"), ("buy", "0.0001")):
        mine, theirs = (desk.check(name, side, quantity, BTC) for name in ("alice", "paper"))
        assert mine == theirs


def test_the_state_is_asked_for_before_prices() -> None:
    desk = never()
    desk.wait(timedelta(seconds=40))
    found = [one.reason for one in desk.check("alice", "buy", 1, BTC).violations]
    assert found[:2] == [Reason.ACCOUNT_NOT_SYNCED, Reason.STALE_MARK]


def test_an_order_on_a_state_with_open_orders_is_refused_for_margin_as_ever() -> None:
    desk = ready(MONEY)
    desk.sync(MONEY, order("a", "buy", "0.7", price=50_000))
    assert reasons(desk.reserve("alice", "buy", "0.3", BTC)) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
