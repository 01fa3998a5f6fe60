"""A live account is what its venue says: differences are journaled and told, fills count once, nothing becomes zero."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Environment, Lender, MarginMode, PositionMode, RiskLevel
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.sync import unsynced
from debt_mgmt.core.venue import PositionChange, SyncStatus, VenueBalance, VenuePosition
from tests.support.desk import FREE, kinds, reasons
from tests.support.live_desk import (
    BTC,
    COIN,
    ETH,
    LiveDesk,
    alerts,
    balance,
    held,
    order,
    ready,
    synced,
    told,
)

D = Decimal
MONEY = balance("USDT", 10_000)


# How it begins


@pytest.mark.parametrize(
    ("environment", "asked", "dry"),
    [
        (Environment.LIVE, None, True),
        (Environment.LIVE, False, False),
        (Environment.LIVE, True, True),
        (Environment.TESTNET, None, False),
        (Environment.TESTNET, True, True),
    ],
)
def test_real_money_starts_in_dry_run(environment: Environment, asked: bool | None, dry: bool) -> None:
    account = LiveDesk().live(environment=environment, dry_run=asked)
    assert account.dry_run is dry


def test_a_live_account_is_unknown_before_its_first_sync() -> None:
    desk = LiveDesk()
    account = desk.live()
    assert account.level is RiskLevel.UNKNOWN
    assert account.sync is not None and account.sync.status is SyncStatus.NEVER and account.sync.at is None
    assert unsynced(account, FREE, desk.now) == "it was never read from bybit"
    assert not account.alerts


def test_a_sandbox_account_has_no_other_side() -> None:
    desk = LiveDesk()
    account = desk.open("paper", 1_000)
    assert account.sync is None
    assert not account.dry_run
    for command in (c.RecordSync(desk.state(MONEY)), c.LoseSync("x"), c.SetDryRun(True)):
        assert reasons(desk.do("paper", command)) == ["NOT_SUPPORTED"]


def test_the_first_sync_takes_everything_over_and_alarms_nobody() -> None:
    desk = LiveDesk()
    desk.mark(BTC, 52_000)
    desk.live()
    events = desk.sync(MONEY, held(BTC, "0.5", 50_000, leverage=5))
    assert kinds(events)[0] == "AccountSynced"
    assert told(events) == ["LEVEL_LOWERED"]
    account = desk.account()
    assert account.balances == {"USDT": D(10_000)}
    position = account.positions[BTC]
    assert (position.quantity, position.entry_price, position.leverage) == (D("0.5"), D(50_000), D(5))
    assert account.level is RiskLevel.NORMAL
    assert account.leverage == {BTC: D(5)}
    figures = desk.figures()
    assert (figures.equity, figures.margin_used) == (D(11_000), D(5_200))
    assert synced(events).figures == figures


def test_an_event_has_the_differences_alone() -> None:
    desk = ready(MONEY, held(BTC, 1, 50_000, leverage=5), held(ETH, -2, 2_000, leverage=5))
    event = synced(desk.sync(MONEY, held(BTC, 1, 50_000, leverage=5), held(ETH, -3, 2_000, leverage=5)))
    assert [position.symbol for position in event.positions] == [ETH]
    assert event.changes == (PositionChange(ETH, D(-2), D(-3)),)
    assert (event.balances, event.leverage, event.vanished, event.reservations) == ({}, {}, (), ())


def test_the_same_state_twice_changes_nothing() -> None:
    desk = ready()
    parts = (
        balance("USDT", 9_000, debt="100", interest="2"),
        held(BTC, 1, 50_000, leverage=5, margin_mode=None),
        order("a", "buy", 1, price=49_000),
    )
    desk.sync(*parts)
    before = desk.account()
    event = synced(desk.sync(*parts))
    assert (event.balances, event.debts, event.positions, event.changes) == ({}, (), (), ())
    assert (event.reservations, event.released, event.leverage, event.margin_modes) == ((), (), {}, {})
    after = desk.account()
    assert after.sync is not None and after.sync.at == desk.now
    assert msgspec.structs.replace(after, sync=before.sync) == before


def test_a_state_older_than_the_last_changes_nothing() -> None:
    desk = ready()
    assert desk.sync(balance("USDT", 5), read=timedelta(seconds=30)) == ()
    assert desk.account().balances == {"USDT": D(10_000)}


def test_an_unknown_instrument_is_named() -> None:
    desk = ready()
    with pytest.raises(Fault) as raised:
        desk.sync(MONEY, held("bybit:NEWUSDT", 1, 5))
    assert raised.value.reason is FaultReason.INSTRUMENT_NOT_FOUND
    assert raised.value.metadata == {"symbol": "bybit:NEWUSDT"}


# Positions


@pytest.mark.parametrize(
    ("parts", "severity", "words"),
    [
        ((), "CRITICAL", f"{BTC} is gone, 1 were known"),
        ((held(BTC, "0.4", 50_000),), "WARNING", f"{BTC} is 0.4, 1 were known"),
        ((held(BTC, -1, 50_000),), "WARNING", f"{BTC} is -1, 1 were known"),
        ((held(BTC, 1, 50_000), held(ETH, 3, 2_000)), "WARNING", f"{ETH} is 3, 0 were known"),
    ],
)
def test_a_position_that_is_otherwise_at_the_venue_is_told(
    parts: tuple[VenuePosition, ...], severity: str, words: str
) -> None:
    desk = ready(MONEY, held(BTC, 1, 50_000, leverage=5))
    events = desk.sync(MONEY, *parts)
    alert = next(one for one in alerts(events) if one.kind == "POSITION_CHANGED")
    assert alert.severity == severity
    assert words in alert.message
    assert {one.key: one.quantity for one in desk.account().positions.values()} == {
        one.key: one.quantity for one in parts
    }
    assert "POSITION_CHANGED" not in told(desk.sync(MONEY, *parts))


def test_a_vanished_position_leaves_no_isolated_alert_behind() -> None:
    desk = ready(MONEY, isolated("340"))
    assert desk.account().isolated_alerts == {BTC: RiskLevel.WARNING}
    desk.sync(MONEY)
    assert desk.account().isolated_alerts == {}


def isolated(posted: str | None, **more: str | None) -> VenuePosition:
    one = held(BTC, 1, 50_000, leverage=5, isolated_margin=posted, **more)
    return msgspec.structs.replace(one, margin_mode=MarginMode.ISOLATED)


def test_legs_of_a_hedge_are_known_by_their_sides() -> None:
    desk = ready()
    desk.sync(MONEY, held(BTC, 1, 50_000, leg="LONG"), held(BTC, -2, 51_000, leg="SHORT"), hedge=True)
    account = desk.account()
    assert account.position_mode is PositionMode.HEDGE
    assert {key: one.quantity for key, one in account.positions.items()} == {f"{BTC}|LONG": 1, f"{BTC}|SHORT": -2}


def test_a_one_way_position_is_not_called_by_a_leg() -> None:
    desk = ready()
    desk.sync(MONEY, held(BTC, -1, 50_000, leg="SHORT"), hedge=False)
    assert list(desk.account().positions) == [BTC]


def test_a_position_listed_twice_is_no_state() -> None:
    desk = ready()
    events = desk.sync(MONEY, held(BTC, 1, 50_000), held(BTC, 2, 50_000))
    assert kinds(events)[0] == "SyncLost"
    assert not desk.account().positions


# What the venue does not say


def test_an_unknown_entry_is_kept_or_derived_and_never_zero() -> None:
    desk = ready(MONEY, held(BTC, 1, 50_000))
    desk.sync(MONEY, held(BTC, 1))
    assert desk.account().positions[BTC].entry_price == 50_000
    desk.sync(MONEY, held(BTC, "0.5"))
    assert desk.account().positions[BTC].entry_price == 50_000
    desk.sync(MONEY, held(BTC, 2, mark_price=52_000, unrealized_pnl=2_000))
    assert desk.account().positions[BTC].entry_price == 51_000
    desk.sync(MONEY, held(BTC, 2, 51_000), held(COIN, -10, mark_price=50_000, unrealized_pnl="0.005"))
    assert desk.account().positions[COIN].entry_price == pytest.approx(D(100) * 10 / (D("0.02") - D("0.005")))


@pytest.mark.parametrize("entry", [None, "0", "-5"])
def test_without_an_entry_price_the_sync_is_lost_and_said(entry: str | None) -> None:
    desk = ready()
    before = desk.account()
    events = desk.sync(MONEY, held(BTC, 1, entry))
    assert kinds(events)[:2] == ["SyncLost", "AlertRaised"]
    assert told(events) == ["SYNC_LOST", "LEVEL_UNKNOWN"]
    account = desk.account()
    assert account.sync is not None and "no entry price" in account.sync.reason
    assert (account.positions, account.balances, account.level) == ({}, before.balances, RiskLevel.UNKNOWN)


@pytest.mark.parametrize(
    ("known", "told_leverage", "counted"),
    [(None, None, "2"), (None, "0", "2"), ("5", None, "5"), ("5", "0", "5"), (None, "10", "10"), ("5", "3", "3")],
)
def test_an_unknown_leverage_is_what_was_known_or_the_default(
    known: str | None, told_leverage: str | None, counted: str
) -> None:
    desk = LiveDesk()
    desk.mark(BTC, 50_000)
    desk.live()
    if known is not None:
        desk.sync(MONEY, held(BTC, 1, 50_000, leverage=known))
    desk.sync(MONEY, held(BTC, 1, 50_000, leverage=told_leverage))
    assert desk.account().positions[BTC].leverage == D(counted)


@pytest.mark.parametrize(
    ("posted", "more", "counted"),
    [("1200", {}, "1200"), (None, {"initial_margin": "9000"}, "9000"), (None, {}, "10000"), ("0", {}, "0")],
)
def test_an_unknown_isolated_margin_is_estimated_and_never_zero(
    posted: str | None, more: dict[str, str], counted: str
) -> None:
    """Only a zero that the venue says is one: a position without margin would be closed by force."""
    desk = ready(balance("USDT", 30_000))
    desk.sync(balance("USDT", 30_000), isolated(posted, **more))
    assert desk.account().positions[BTC].isolated_margin == D(counted)


def test_margin_posted_stays_where_it_is_not_told_again() -> None:
    desk = ready(balance("USDT", 30_000), isolated("12345"))
    desk.sync(balance("USDT", 30_000), isolated(None))
    assert desk.account().positions[BTC].isolated_margin == D(12345)


@pytest.mark.parametrize(
    ("known", "told_now", "owed"),
    [
        (None, {}, None),
        (None, {"debt": "0"}, None),
        (None, {"debt": "500"}, ("500", "0")),
        (None, {"debt": "500", "interest": "3"}, ("500", "3")),
        ({"debt": "500", "interest": "3"}, {}, ("500", "3")),
        ({"debt": "500", "interest": "3"}, {"debt": "400"}, ("400", "3")),
        ({"debt": "500", "interest": "3"}, {"interest": "4"}, ("500", "4")),
        ({"debt": "500", "interest": "3"}, {"debt": "0", "interest": "0"}, None),
    ],
)
def test_debts_are_mirrored_and_unknown_ones_stay(
    known: dict[str, str] | None, told_now: dict[str, str], owed: tuple[str, str] | None
) -> None:
    desk = ready()
    if known is not None:
        desk.sync(balance("USDT", 10_000, **known))
    desk.sync(balance("USDT", 10_000, **told_now))
    debt = desk.account().debts.get("USDT")
    if owed is None:
        assert debt is None
    else:
        assert debt is not None and debt.lender is Lender.BROKER
        assert (debt.principal, debt.accrued_interest) == (D(owed[0]), D(owed[1]))


def test_interest_without_its_principal_is_no_state() -> None:
    desk = ready()
    assert kinds(desk.sync(balance("USDT", 10_000, interest="3")))[0] == "SyncLost"


def test_an_asset_that_is_no_longer_listed_is_gone_with_its_debt() -> None:
    desk = ready()
    desk.sync(MONEY, balance("BTC", 1, debt="1"))
    assert desk.account().debts["BTC"].principal == 1
    event = synced(desk.sync(MONEY))
    assert event.balances == {"BTC": D(0)}
    assert (desk.account().balances, desk.account().debts) == ({"USDT": D(10_000)}, {})


# Orders


def test_margin_is_held_for_what_is_open_at_the_venue() -> None:
    desk = ready()
    desk.sync(MONEY, order("a", "buy", "0.2", price=49_000))
    (reservation,) = desk.account().reservations.values()
    assert (reservation.reservation_id, reservation.order_id, reservation.quantity) == ("venue:a", "a", D("0.2"))
    assert desk.figures().margin_used == D("0.2") * 49_000 / 5
    desk.sync(MONEY, order("a", "buy", "0.1", price=49_000))
    assert desk.figures().margin_used == D("0.1") * 49_000 / 5
    assert synced(desk.sync(MONEY)).released == ("venue:a",)
    assert not desk.account().reservations


def test_an_order_with_nothing_left_open_holds_nothing() -> None:
    desk = ready()
    desk.sync(MONEY, order("a", "buy", "0.2", price=49_000))
    assert synced(desk.sync(MONEY, order("a", "buy", 0, price=49_000))).released == ("venue:a",)
    assert not desk.account().reservations


def test_an_order_that_an_engine_reserved_for_is_held_once() -> None:
    desk = ready()
    asked = c.Order(BTC, order("x", "buy", 1).side, D("0.2"), D(49_000))
    desk.do("alice", c.ReserveMargin(asked, timedelta(seconds=60), client_order_id="mine"))
    used = desk.figures().margin_used
    desk.sync(MONEY, order("a", "buy", "0.2", price=49_000, client_order_id="mine"))
    assert len(desk.account().reservations) == 1
    assert desk.figures().margin_used == used
    desk.pass_quietly(timedelta(hours=2))
    desk.do("alice", c.ExpireReservations())
    assert len(desk.account().reservations) == 1, "held as long as the order is open"
    desk.sync(MONEY)
    assert not desk.account().reservations


def test_a_reservation_whose_order_was_not_sent_yet_stays() -> None:
    desk = ready()
    desk.reserve("alice", "buy", "0.2", BTC, 49_000)
    desk.sync(MONEY)
    assert len(desk.account().reservations) == 1


@pytest.mark.parametrize(
    ("placed", "margin"),
    [
        (order("a", "sell", 1, price=60_000), 0),
        (order("a", "sell", 2, price=60_000), 12_000),
        (order("a", "buy", 1, price=40_000), 8_000),
        (order("a", "sell", 2, price=60_000, reduce_only=True), 0),
    ],
)
def test_orders_that_only_reduce_hold_nothing(placed: object, margin: int) -> None:
    money = balance("USDT", 90_000)
    desk = ready(money, held(BTC, 1, 50_000, leverage=5))
    before = desk.summary().used
    desk.sync(money, held(BTC, 1, 50_000, leverage=5), placed)
    assert desk.account().reservations["venue:a"].reduce_only is (margin == 0)
    if margin == 12_000:  # one closes, one opens the other way: the larger of both sides counts
        assert desk.summary().used - before == D(12_000) - before
    else:
        assert desk.summary().used - before == margin


def test_an_order_without_any_price_is_no_state() -> None:
    desk = ready()
    desk.marks.pop(ETH)
    events = desk.sync(MONEY, order("a", "buy", 1, ETH))
    assert kinds(events)[0] == "SyncLost"
    desk.mark(ETH, 2_000)
    desk.sync(MONEY, order("a", "buy", 1, ETH))
    assert desk.figures().margin_used == 400


# Fills


def test_a_fill_counts_at_once_and_is_not_undone_by_a_state_read_before_it() -> None:
    desk = ready()
    desk.now += timedelta(seconds=5)
    desk.reported("buy", 1, 50_000)
    assert desk.account().positions[BTC].quantity == 1
    events = desk.sync(MONEY, read=timedelta(seconds=3), after=timedelta(seconds=1))
    assert desk.account().positions[BTC].quantity == 1
    assert "POSITION_CHANGED" not in told(events)
    events = desk.sync(MONEY)
    assert not desk.account().positions
    assert "POSITION_CHANGED" in told(events)


def test_a_realised_loss_is_not_undone_by_a_state_read_before_it() -> None:
    desk = ready(MONEY, held(BTC, 1, 50_000, leverage=5))
    desk.now += timedelta(seconds=5)
    desk.reported("sell", 1, 45_000)
    assert desk.account().balances == {"USDT": D(5_000)}
    desk.sync(MONEY, held(BTC, 1, 50_000, leverage=5), read=timedelta(seconds=3))
    assert (desk.account().balances, desk.account().positions) == ({"USDT": D(5_000)}, {})


def test_a_fill_that_a_sync_brought_already_is_recorded_and_moves_nothing() -> None:
    desk = ready()
    desk.sync(balance("USDT", 9_990), held(BTC, 1, 50_000), desk.venue_fill("A", "buy", 1, 50_000))
    (fill,) = [one for one in desk.reported("buy", 1, 50_000, order_id="A") if isinstance(one, e.FillRecorded)]
    assert (fill.quantity, fill.opened_quantity, len(fill.postings)) == (D(1), D(0), 0)
    assert desk.account().positions[BTC].quantity == 1
    assert desk.account().balances == {"USDT": D(9_990)}


@pytest.mark.parametrize("first", ["engine", "venue"])
@pytest.mark.parametrize("client", [False, True])
def test_partial_fills_of_an_order_count_once_in_either_order(first: str, client: bool) -> None:
    """Of 1.0 in all: 0.4 known from one side when the other tells 0.7, then the rest."""
    name = "mine" if client else "A"
    desk = ready()
    desk.now += timedelta(seconds=1)
    if first == "engine":
        desk.reported("buy", "0.4", 50_000, order_id=name)
        assert quantity(desk) == D("0.4")
    desk.pass_quietly(timedelta(seconds=1))
    seen = desk.venue_fill("A", "buy", "0.7", 50_000, client_order_id="mine")
    desk.sync(MONEY, held(BTC, "0.7", 50_000, leverage=5), seen)
    assert quantity(desk) == D("0.7")
    if first == "venue":
        desk.reported("buy", "0.4", 50_000, order_id=name)
        assert quantity(desk) == D("0.7")
    desk.reported("buy", "0.5", 50_000, order_id=name)
    assert quantity(desk) == D("0.9")
    desk.reported("buy", "0.1", 50_000, order_id=name)
    assert quantity(desk) == D("1.0")


def quantity(desk: LiveDesk) -> Decimal:
    return desk.account().positions[BTC].quantity


def test_without_the_venues_trades_a_fill_from_before_the_reading_is_in_it() -> None:
    desk = ready()
    desk.sync(MONEY, held(BTC, 1, 50_000))
    desk.reported("buy", 1, 50_000, order_id="A", filled_ago=timedelta(milliseconds=1))
    assert quantity(desk) == 1
    desk.pass_quietly(timedelta(seconds=2))
    desk.reported("buy", 1, 50_000, order_id="B", filled_ago=timedelta(seconds=1))
    assert quantity(desk) == 2


def test_a_fill_said_to_be_from_the_future_does_not_hold_the_venue_off() -> None:
    desk = ready()
    desk.now += timedelta(seconds=1)
    desk.reported("buy", 1, 50_000, filled_ago=-timedelta(days=1))
    desk.sync(MONEY)
    assert not desk.account().positions


def test_a_fill_of_a_plan_never_turns_a_position_around() -> None:
    """A sync saw the reduced position before the fill of the step was recorded."""
    desk = ready(MONEY, held(BTC, "0.1", 50_000, leverage=5))
    desk.do("alice", c.ClosePosition(BTC))
    reduction = desk.account().reduction
    assert reduction is not None
    desk.sync(MONEY)
    step = reduction.steps[0]
    events = desk.reported("sell", "0.1", 50_000, order_id=step.client_order_id, plan=(reduction.plan_id, 1))
    assert kinds(events) == ["FillRecorded", "ReductionStepEnded", "ReductionEnded"]
    assert not desk.account().positions
    assert desk.account().past_reductions[-1].steps[0].filled_quantity == D("0.1")


def test_a_fill_takes_its_part_of_the_order_held_at_the_venue() -> None:
    desk = ready()
    desk.sync(MONEY, order("A", "buy", "0.2", price=50_000))
    used = desk.figures().margin_used
    desk.reported("buy", "0.1", 50_000, order_id="A")
    assert desk.account().reservations["venue:A"].quantity == D("0.1")
    assert desk.figures().margin_used == used


# Losing sight


def test_losing_the_venue_keeps_what_was_known_and_is_said_once() -> None:
    desk = ready(MONEY, held(BTC, "0.1", 50_000, leverage=5))
    known = desk.account()
    events = desk.do("alice", c.LoseSync("connection refused"))
    assert kinds(events)[0] == "SyncLost"
    assert told(events) == ["SYNC_LOST", "LEVEL_UNKNOWN"]
    account = desk.account()
    assert (account.positions, account.balances) == (known.positions, known.balances)
    assert account.sync is not None and known.sync is not None and account.sync.at == known.sync.at
    assert account.level is RiskLevel.UNKNOWN
    assert desk.do("alice", c.LoseSync("connection refused")) == ()
    assert kinds(desk.do("alice", c.LoseSync("bad gateway"))) == ["SyncLost"]
    desk.pass_quietly(timedelta(seconds=9))
    assert unsynced(desk.account(), FREE, desk.now) == "bybit is out of sight, last read 9 s ago: bad gateway"
    events = desk.sync(MONEY, held(BTC, "0.1", 50_000, leverage=5))
    assert "SYNC_RESTORED" in told(events)
    assert desk.account().level is RiskLevel.NORMAL
    assert unsynced(desk.account(), FREE, desk.now) == ""


def test_a_venue_that_was_never_reached_says_why() -> None:
    desk = LiveDesk()
    desk.live()
    assert told(desk.do("alice", c.LoseSync("bad key"))) == ["SYNC_LOST"]
    assert unsynced(desk.account(), FREE, desk.now) == "it was never read from bybit: bad key"


def test_a_state_that_grows_too_old_is_unknown() -> None:
    desk = ready(MONEY, held(BTC, "0.1", 50_000, leverage=5))
    assert desk.wait(timedelta(seconds=60), fresh=True) == {}
    events = desk.wait(timedelta(seconds=1), fresh=True)["alice"]
    assert told(events) == ["LEVEL_UNKNOWN"]
    assert "bybit was last read 61 s ago" in alerts(events)[0].message
    assert desk.account().level is RiskLevel.UNKNOWN
    assert desk.wait(timedelta(seconds=1), fresh=True) == {}
    assert told(desk.sync(MONEY, held(BTC, "0.1", 50_000, leverage=5))) == ["LEVEL_LOWERED"]


def test_a_closed_account_is_not_synced() -> None:
    desk = ready()
    desk.do("alice", c.CloseAccount())
    assert reasons(desk.sync(MONEY)) == ["ACCOUNT_CLOSED"]
    assert desk.do("alice", c.LoseSync("x")) == ()


def test_zero_totals_leave_no_balance_and_no_position() -> None:
    desk = ready()
    desk.sync(VenueBalance("USDT", D(0)), held(BTC, 0, 50_000))
    assert (desk.account().balances, desk.account().positions) == ({}, {})
