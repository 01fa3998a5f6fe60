"""Paper orders: what they hold, when and at what price marks fill them, and what ends them."""

from datetime import timedelta

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Environment, OrderState, PositionMode
from debt_mgmt.core.margin import mark_used
from tests.support.desk import FREE, HOUSE, D, Desk, kinds, reasons
from tests.support.paper import books_hold, comes, fills, latest, place

COSTS = msgspec.structs.replace(FREE, slippage_rate=D("0.001"), taker_fee_rate=D("0.0005"), maker_fee_rate=D("0.0002"))
SHALLOW = msgspec.structs.replace(FREE, fill_depth=D(1000))
"""A thousand dollars a mark: 0.02 bitcoin at 50,000."""


def desk_at(price: int = 50000, settings: object = FREE, capital: int = 10000, **account: object) -> Desk:
    desk = Desk(settings)  # type: ignore[arg-type]
    desk.mark("BTCUSDT", price)
    desk.open("alice", capital, **account)  # type: ignore[arg-type]
    return desk


def test_a_market_order_is_filled_at_the_mark_with_slippage_and_the_taker_fee() -> None:
    desk = desk_at(settings=COSTS)
    events = place(desk, "buy", "0.1")
    assert kinds(events)[:3] == ["OrderPlaced", "FillRecorded", "ReservationReduced"]
    assert fills(events) == [(D("0.1"), D(50050))]
    done = latest(desk)
    assert (done.state, done.filled_quantity, done.average_price) == (OrderState.FILLED, D("0.1"), D(50050))
    assert done.fee == D("0.1") * 50050 * D("0.0005")
    assert desk.account().fees_paid == {"USDT": done.fee}
    assert not desk.account().reservations
    sold = place(desk, "sell", "0.1")
    assert fills(sold) == [(D("0.1"), D(49950))]
    assert latest(desk).realized_pnl == -10
    books_hold(desk)


def test_a_limit_order_holds_its_margin_until_a_mark_reaches_it() -> None:
    desk = desk_at(settings=COSTS)
    assert fills(place(desk, "buy", "0.1", price=49000)) == []
    assert desk.summary().used == D("0.1") * 49000 / 2
    assert comes(desk, 49500) == []
    (fill,) = comes(desk, 48000)
    assert (fill.price, fill.maker) == (D(49000), True)
    assert fill.fee == D("0.1") * 49000 * D("0.0002")
    assert fill.mark is not None
    assert fill.mark.price == 48000
    assert latest(desk).state is OrderState.FILLED
    assert desk.summary().used == D("0.1") * 48000 / 2
    books_hold(desk)


@pytest.mark.parametrize(
    ("side", "limit", "mark", "filled"),
    [
        ("buy", 49000, 49000, True),
        ("buy", 49000, "49000.1", False),
        ("sell", 51000, 51000, True),
        ("sell", 51000, "50999.9", False),
    ],
)
def test_a_mark_at_the_limit_reaches_it(side: str, limit: int, mark: str, filled: bool) -> None:
    desk = desk_at()
    place(desk, side, "0.1", price=limit)
    assert bool(comes(desk, mark)) is filled


def test_a_limit_that_the_mark_has_passed_takes_within_the_limit() -> None:
    desk = desk_at(settings=COSTS)
    assert fills(place(desk, "buy", "0.01", price=51000)) == [(D("0.01"), D(50050))]
    assert fills(place(desk, "buy", "0.01", price=50010)) == [(D("0.01"), D(50010))]
    assert fills(place(desk, "sell", "0.01", price=49000)) == [(D("0.01"), D(49950))]
    assert latest(desk).fee == D("0.01") * 49950 * D("0.0005")


def test_an_order_passes_the_same_check_as_a_reservation() -> None:
    desk = desk_at(settings=HOUSE, capital=1000)
    asked = desk.check("alice", "buy", "0.05", price=49000)
    events = place(desk, "buy", "0.05", price=49000)
    assert (
        reasons(events)
        == [one.reason.value for one in asked.violations]
        == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    )
    refused = events[0]
    assert isinstance(refused, e.CommandRefused)
    assert refused.largest_buy == asked.largest_buy
    assert not desk.account().orders


def test_two_orders_do_not_use_the_same_margin_twice() -> None:
    desk = desk_at(settings=HOUSE, capital=1000)
    largest = desk.check("alice", "buy", 1, price=49000).largest_buy
    assert largest is not None
    assert kinds(place(desk, "buy", largest, price=49000))[0] == "OrderPlaced"
    assert "INSUFFICIENT_MARGIN" in reasons(place(desk, "buy", "0.01", price=49000))
    books_hold(desk)


def test_paper_orders_are_for_sandbox_accounts() -> None:
    desk = desk_at()
    desk.open("real", environment=Environment.LIVE)
    assert reasons(place(desk, "buy", "0.1", account_id="real")) == ["NOT_SANDBOX"]


# Time in force


def test_what_an_immediate_order_does_not_fill_at_once_is_cancelled() -> None:
    desk = desk_at(settings=SHALLOW)
    assert fills(place(desk, "buy", "0.05", price=50000, time_in_force="IOC")) == [(D("0.02"), D(50000))]
    done = latest(desk)
    assert (done.state, done.filled_quantity, done.note) == (
        OrderState.CANCELLED,
        D("0.02"),
        "it could not be filled at once",
    )
    assert fills(place(desk, "buy", "0.05", price=49000, time_in_force="IOC")) == []
    assert not desk.account().reservations
    books_hold(desk)


def test_all_or_nothing() -> None:
    desk = desk_at(settings=SHALLOW)
    assert fills(place(desk, "buy", "0.021", time_in_force="FOK")) == []
    assert latest(desk).state is OrderState.CANCELLED
    assert fills(place(desk, "buy", "0.02", time_in_force="FOK")) == [(D("0.02"), D(50000))]
    assert latest(desk).state is OrderState.FILLED


# Depth


def test_a_mark_fills_no_more_than_its_depth_however_many_orders_share_it() -> None:
    desk = desk_at(settings=SHALLOW)
    place(desk, "buy", "0.015", price=49000)
    place(desk, "buy", "0.015", price=49500)
    place(desk, "buy", "0.015", price=49000)
    # 0.02 a mark, the best price first, then the older one
    assert [(one.quantity, one.price) for one in comes(desk, 49000)] == [(D("0.015"), D(49500)), (D("0.005"), D(49000))]
    again = desk.do("alice", c.MatchOrders(mark_used(desk.marks["BTCUSDT"])))
    assert fills(again) == []
    assert [(one.quantity, one.price) for one in comes(desk, 49000)] == [(D("0.01"), D(49000)), (D("0.01"), D(49000))]
    assert [one.quantity for one in comes(desk, 49000)] == [D("0.005")]
    assert not desk.account().orders
    books_hold(desk)


def test_a_market_order_too_large_for_one_mark_goes_on_at_the_next() -> None:
    desk = desk_at(settings=SHALLOW)
    assert fills(place(desk, "buy", "0.05")) == [(D("0.02"), D(50000))]
    assert desk.summary().used == D("0.05") * 25000
    assert [(one.quantity, one.price) for one in comes(desk, 50100)] == [(D("0.019"), D(50100))]
    assert [(one.quantity, one.price) for one in comes(desk, 50200)] == [(D("0.011"), D(50200))]
    done = latest(desk)
    assert done.average_price == (D("0.02") * 50000 + D("0.019") * 50100 + D("0.011") * 50200) / D("0.05")
    assert done.state is OrderState.FILLED


def test_each_side_has_a_depth_of_its_own_and_it_is_one_lot_at_least() -> None:
    desk = desk_at(settings=msgspec.structs.replace(FREE, fill_depth=D(1)))
    assert fills(place(desk, "buy", "0.005")) == [(D("0.001"), D(50000))]
    assert fills(place(desk, "buy", "0.005")) == []
    assert fills(place(desk, "sell", "0.001", reduce_only=True)) == [(D("0.001"), D(50000))]


# What only reduces


def test_a_reduce_only_order_holds_nothing_and_never_opens() -> None:
    desk = desk_at()
    desk.fill("alice", "buy", "0.1", price=50000)
    used = desk.summary().used
    place(desk, "sell", "0.3", price=51000, reduce_only=True)
    assert desk.summary().used == used
    (fill,) = comes(desk, 51000)
    assert fill.quantity == D("0.1")
    assert desk.position() is None
    done = latest(desk)
    assert (done.state, done.note) == (OrderState.CANCELLED, "nothing is left to reduce")
    books_hold(desk)


def test_an_order_that_reduced_when_it_was_placed_opens_nothing_later() -> None:
    """It holds no margin, so it may not turn into a position for which there is none."""
    desk = desk_at()
    desk.fill("alice", "buy", "0.1", price=50000)
    place(desk, "sell", "0.1", price=51000)
    assert latest(desk).reduce_only
    desk.fill("alice", "sell", "0.1", price=50000)
    assert comes(desk, 51000) == []
    assert desk.position() is None
    assert latest(desk).note == "nothing is left to reduce"


def test_a_reducing_order_is_taken_in_every_state_and_waits_for_a_price() -> None:
    desk = desk_at()
    desk.fill("alice", "buy", "0.1", price=50000)
    desk.do("alice", c.HaltTrading("stop"))
    desk.wait(timedelta(minutes=5))
    events = place(desk, "sell", "0.1")
    assert kinds(events)[0] == "OrderPlaced"
    assert fills(events) == []
    (fill,) = comes(desk, 49000)
    assert fill.price == 49000
    assert desk.position() is None


def test_the_legs_of_a_hedge_are_closed_by_their_own_orders() -> None:
    desk = desk_at(position_mode=PositionMode.HEDGE)
    place(desk, "buy", "0.1", leg="LONG")
    place(desk, "sell", "0.1", leg="SHORT")
    assert "REDUCE_ONLY_WOULD_INCREASE" in reasons(place(desk, "sell", "0.2", leg="LONG"))
    place(desk, "sell", "0.1", leg="LONG", price=51000)
    place(desk, "buy", "0.1", leg="SHORT", price=49000)
    assert [one.position_side for one in comes(desk, 51000)] == ["LONG"]
    assert [one.position_side for one in comes(desk, 49000)] == ["SHORT"]
    assert not desk.account().positions
    books_hold(desk)


def test_a_reversal_holds_margin_for_the_excess_and_fills_through() -> None:
    desk = desk_at()
    desk.fill("alice", "buy", "0.1", price=50000)
    place(desk, "sell", "0.15", price=50500)
    assert not latest(desk).reduce_only
    comes(desk, 50500)
    position = desk.position()
    assert position is not None
    assert (position.quantity, position.entry_price) == (D("-0.05"), D(50500))
    assert desk.account().realized_pnl == {"USDT": 50}


# What ends an order


def test_a_cancel_always_passes_and_gives_the_margin_back() -> None:
    desk = desk_at()
    free = desk.summary().available
    place(desk, "buy", "0.1", price=49000)
    desk.do("alice", c.HaltTrading("stop"))  # which cancels what adds risk
    assert (latest(desk).state, latest(desk).note) == (OrderState.CANCELLED, "trading is halted")
    desk.do("alice", c.ResumeTrading("go"))
    place(desk, "buy", "0.1", price=49000)
    events = desk.do("alice", c.CancelOrder(latest(desk).order_id))
    assert kinds(events) == ["ReservationReduced"]
    assert latest(desk).state is OrderState.CANCELLED
    assert desk.summary().available == free
    assert reasons(desk.do("alice", c.CancelOrder(latest(desk).order_id))) == ["ORDER_NOT_FOUND"]
    desk.wait(timedelta(hours=1))
    books_hold(desk)


def test_an_order_expires_and_is_not_filled_after_its_time() -> None:
    desk = desk_at()
    place(desk, "buy", "0.1", price=49000, lasts=timedelta(seconds=30))
    place(desk, "buy", "0.1", price=49000)
    desk.now += timedelta(seconds=30)
    assert [one.quantity for one in comes(desk, 49000)] == [D("0.1")]
    first, second = desk.account().past_orders
    assert (first.state, first.note) == (OrderState.EXPIRED, "its time is over")
    assert second.state is OrderState.FILLED
    place(desk, "buy", "0.1", price=48000, lasts=timedelta(seconds=5))
    desk.now += timedelta(seconds=5)
    desk.do("alice", c.ExpireReservations())
    assert latest(desk).state is OrderState.EXPIRED
    books_hold(desk)


def test_orders_that_add_risk_are_cancelled_at_the_critical_level() -> None:
    desk = desk_at(settings=HOUSE, capital=1000)
    desk.leverage("alice", "BTCUSDT", 5)
    place(desk, "buy", "0.05")
    place(desk, "buy", "0.01", price=44000)
    place(desk, "sell", "0.05", price=60000, reduce_only=True)
    comes(desk, 40500)
    assert desk.account().level == "CRITICAL"
    (cancelled,) = [one for one in desk.account().past_orders if one.limit_price == 44000]
    assert (cancelled.state, cancelled.filled_quantity) == (OrderState.CANCELLED, D(0))
    assert cancelled.note == "the account may only reduce: margin utilization is too high"
    assert [one.reduce_only for one in desk.account().orders.values()] == [True]
    assert reasons(place(desk, "buy", "0.001", price=40000))[0] == "TRADING_REDUCING"
    books_hold(desk)


def test_a_halt_of_the_house_cancels_before_the_next_fill() -> None:
    desk = desk_at()
    place(desk, "buy", "0.1", price=49000)
    desk.fill("alice", "buy", "0.05", price=50000)
    place(desk, "sell", "0.05", price=51000)
    desk.house_do(c.HaltHouse("stop"))
    assert comes(desk, 49000) == []
    assert desk.account().past_orders[-1].note == "trading is halted"
    assert [one.quantity for one in comes(desk, 51000)] == [D("0.05")]


def test_a_released_reservation_takes_its_order_along() -> None:
    desk = desk_at()
    place(desk, "buy", "0.1", price=49000)
    order_id = latest(desk).order_id
    desk.do("alice", c.ReleaseReservation(order_id, D("0.04")))
    books_hold(desk)
    assert [one.quantity for one in comes(desk, 49000)] == [D("0.06")]
    done = latest(desk)
    assert (done.quantity, done.filled_quantity) == (D("0.1"), D("0.06"))
    place(desk, "buy", "0.1", price=48000)
    desk.do("alice", c.ReleaseReservation(latest(desk).order_id))
    assert latest(desk).state is OrderState.CANCELLED
    books_hold(desk)


def test_a_reset_clears_open_orders() -> None:
    desk = desk_at()
    place(desk, "buy", "0.1", price=49000)
    desk.do("alice", c.ResetFunds("again"))
    assert not desk.account().orders
    assert latest(desk).note == "the funds were reset"
    assert comes(desk, 40000) == []
    assert desk.position() is None
    books_hold(desk)


def test_a_mark_from_before_the_order_does_not_fill_it() -> None:
    desk = desk_at(48000)
    low = mark_used(desk.marks["BTCUSDT"])
    comes(desk, 50000)
    place(desk, "buy", "0.1", price=49000)
    assert fills(desk.do("alice", c.MatchOrders(low))) == []
    assert desk.account().orders


def test_an_account_with_open_orders_can_not_be_closed() -> None:
    desk = desk_at()
    place(desk, "buy", "0.1", price=49000)
    assert reasons(desk.do("alice", c.CloseAccount())) == ["OPEN_POSITIONS"]
