"""The way out is never shut: whatever reduces passes in every state in which new risk is refused."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from debt_mgmt.core.account import RiskLevel
from debt_mgmt.v1 import margin_service_pb2, risk_service_pb2, types_pb2
from tests.e2e.books import BUY, LONG, SELL, SHORT, open_fresh, open_hedge, order, shown
from tests.support.service import Clock, Desk, service
from tests.support.wire import call, reasons, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Floor:
    """A service whose time stands still."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self.desk = desk
        self.clock = clock

    async def account(self) -> str:
        """A new account at fresh prices: 20,000 USDT, long 0.2 BTC, short 1 ETH, and an order on each side.

        Margin used is 6,000 + 1,500 + 300.
        """
        await self.desk.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
        name = await open_fresh(self.desk, "20000")
        await self.desk.fill(name, BUY, "0.2", "BTCUSDT", "60000")
        await self.desk.fill(name, SELL, "1", "ETHUSDT", "3000")
        for side in (BUY, SELL):
            assert (await self.desk.reserve(name, side, "0.01")).accepted
        return name

    async def limit(self, account_id: str, **limits: Any) -> None:
        answer = await self.desk.risk.SetRiskLimits(
            risk_service_pb2.SetRiskLimitsRequest(
                request_id=self.desk.request_id(), account_id=account_id, limits=risk_service_pb2.RiskLimits(**limits)
            )
        )
        assert answer.accepted

    async def halt(self, **scope: Any) -> None:
        request = risk_service_pb2.HaltTradingRequest(request_id=self.desk.request_id(), reason="drill", **scope)
        assert (await self.desk.risk.HaltTrading(request)).accepted

    async def resume(self, **scope: Any) -> None:
        request = risk_service_pb2.ResumeTradingRequest(request_id=self.desk.request_id(), **scope)
        await self.desk.risk.ResumeTrading(request)


# the states


async def halted(floor: Floor, name: str) -> None:
    await floor.halt(account_id=name)


async def owner_halted(floor: Floor, name: str) -> None:
    await floor.halt(owner=name)


async def everything_halted(floor: Floor, name: str) -> None:
    await floor.halt(everything=True)


async def reducing(floor: Floor, name: str) -> None:
    """Equity 9,000, margin used 5,500 + 1,500 + 300: above 80 %."""
    await floor.desk.withdraw(name, "USDT", "10000")
    await floor.desk.mark({"BTCUSDT": "55000"})
    account = floor.desk.engine.account(name)
    assert (account.level, account.reduction) == (RiskLevel.CRITICAL, None)


async def breaker_tripped(floor: Floor, name: str) -> None:
    await floor.limit(name, max_daily_loss="1000")
    await floor.desk.mark({"BTCUSDT": "54000"})
    assert floor.desk.engine.account(name).breakers


async def marks_stale(floor: Floor, name: str) -> None:
    floor.clock.advance(seconds=11)


async def level_unknown(floor: Floor, name: str) -> None:
    floor.clock.advance(seconds=31)
    await floor.desk.engine.sweep()
    assert floor.desk.engine.account(name).level is RiskLevel.UNKNOWN


async def marks_missing(floor: Floor, name: str) -> None:
    """As after a restart: no price came yet."""
    floor.desk.engine.marks.clear()
    floor.desk.engine.guard.last.clear()


async def limits_at_their_least(floor: Floor, name: str) -> None:
    least = "0.000000000000000001"
    await floor.limit(
        name,
        max_leverage="1",
        max_position_quantity=least,
        max_position_notional=least,
        max_exposure_notional=least,
        max_concurrent_positions=1,
        max_open_reservations=1,
        max_daily_loss=least,
        max_drawdown_fraction=least,
    )


async def order_rate_exhausted(floor: Floor, name: str) -> None:
    await floor.limit(name, max_order_rate=risk_service_pb2.OrderRate(orders=1, interval=Duration(seconds=3600)))
    await floor.desk.reserve(name, BUY, "0.01")


async def without_margin(floor: Floor, name: str) -> None:
    await floor.desk.withdraw(name, "USDT", "10000")


class State(NamedTuple):
    enter: Callable[[Floor, str], Awaitable[None]]
    refused: str
    """Why new risk is refused there."""


STATES = [
    State(halted, "TRADING_HALTED"),
    State(owner_halted, "HOUSE_HALTED"),
    State(everything_halted, "HOUSE_HALTED"),
    State(reducing, "TRADING_REDUCING"),
    State(breaker_tripped, "BREAKER_TRIPPED"),
    State(marks_stale, "STALE_MARK"),
    State(level_unknown, "STALE_MARK"),
    State(marks_missing, "MISSING_MARK"),
    State(limits_at_their_least, "POSITION_NOTIONAL_LIMIT"),
    State(order_rate_exhausted, "ORDER_RATE"),
    State(without_margin, "INSUFFICIENT_MARGIN"),
]
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.enter.__name__)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def floor() -> AsyncIterator[Floor]:
    clock = Clock()
    async with service(clock=clock) as desk:
        yield Floor(desk, clock)


@pytest_asyncio.fixture(loop_scope="module")
async def account(floor: Floor) -> AsyncIterator[str]:
    yield await floor.account()
    await floor.resume(everything=True)


def way_out() -> list[types_pb2.Order]:
    """Orders that only reduce: parts and wholes, at any price and at the market."""
    return [
        order(SELL, "0.2"),
        order(SELL, "0.05"),
        order(SELL, "0.05", price="1000000"),
        order(SELL, "0.2", reduce_only=True),
        order(BUY, "1", "ETHUSDT"),
        order(BUY, "0.3", "ETHUSDT", price="1", reduce_only=True),
    ]


@each_state
async def test_new_risk_is_refused_with_its_reason(floor: Floor, account: str, state: State) -> None:
    await state.enter(floor, account)
    size = "1" if state.enter is without_margin else "0.01"
    check = margin_service_pb2.CheckOrderRequest(account_id=account, order=order(BUY, size))
    assert state.refused in reasons((await floor.desk.margin.CheckOrder(check)).result.violations)
    held = await floor.desk.reserve(account, BUY, size)
    assert not held.accepted and state.refused in reasons(held.violations)


@each_state
async def test_a_reducing_order_fits_and_needs_no_margin(floor: Floor, account: str, state: State) -> None:
    await state.enter(floor, account)
    desk = floor.desk
    for one in way_out():
        answer = await desk.margin.CheckOrder(margin_service_pb2.CheckOrderRequest(account_id=account, order=one))
        assert shown(answer.result, "fits", "reducing", "margin_required") == [True, True, "0"], one
    for mode in margin_service_pb2.BatchMode.values():
        batch = margin_service_pb2.BatchCheckOrdersRequest(account_id=account, orders=way_out(), mode=mode)
        results = (await desk.margin.BatchCheckOrders(batch)).results
        assert [(one.fits, one.reducing) for one in results] == [(True, True)] * len(way_out())
    streamed = await call(
        desk.channel,
        "MarginService/StreamCheckOrders",
        *(margin_service_pb2.StreamCheckOrdersRequest(account_id=account, order=one) for one in way_out()),
    )
    assert all(one.result.fits and one.result.reducing for one in streamed)
    for one in way_out():
        request = margin_service_pb2.ReserveMarginRequest(request_id=desk.request_id(), account_id=account, order=one)
        held = await desk.margin.ReserveMargin(request)
        assert held.accepted and held.margin_required == "0", held


@each_state
async def test_a_paper_order_that_reduces_is_placed_and_cancelled(floor: Floor, account: str, state: State) -> None:
    await state.enter(floor, account)
    desk = floor.desk
    for one in (order(SELL, "0.05", price="1000000"), order(BUY, "0.3", "ETHUSDT", price="1"), order(SELL, "0.2")):
        placed = await desk.margin.PlaceOrder(
            margin_service_pb2.PlaceOrderRequest(request_id=desk.request_id(), account_id=account, order=one)
        )
        assert placed.accepted and placed.margin_required == "0", placed
        if placed.order.state == margin_service_pb2.ORDER_STATE_OPEN:
            cancelled = await desk.margin.CancelOrder(
                margin_service_pb2.CancelOrderRequest(
                    request_id=desk.request_id(), account_id=account, order_id=placed.order.order_id
                )
            )
            assert cancelled.accepted, cancelled


@each_state
async def test_margin_held_is_given_back(floor: Floor, account: str, state: State) -> None:
    await state.enter(floor, account)
    desk = floor.desk
    listed = await desk.margin.ListReservations(margin_service_pb2.ListReservationsRequest(account_id=account))
    sides = [one.order.side for one in listed.reservations]
    assert sides == ([SELL] if state.enter is reducing else [BUY, SELL])
    for one in listed.reservations:
        for quantity in ("0.004", None):
            answer = await desk.margin.ReleaseReservation(
                margin_service_pb2.ReleaseReservationRequest(
                    request_id=desk.request_id(),
                    account_id=account,
                    reservation_id=one.reservation_id,
                    quantity=quantity,
                )
            )
            assert answer.accepted, answer
    assert not desk.engine.account(account).reservations


@each_state
async def test_a_fill_is_booked(floor: Floor, account: str, state: State) -> None:
    """Also one that adds risk: it happened."""
    await state.enter(floor, account)
    for side, quantity in ((SELL, "0.05"), (BUY, "0.01"), (SELL, "0.16")):
        answer = await floor.desk.fill(account, side, quantity, "BTCUSDT", "59000")
        assert answer.accepted, answer
    assert not answer.HasField("position")


@each_state
async def test_a_position_is_closed_on_request(floor: Floor, account: str, state: State) -> None:
    await state.enter(floor, account)
    desk = floor.desk
    priced = state.enter is not marks_missing
    for symbol in ("BTCUSDT", "ETHUSDT"):
        request = margin_service_pb2.ClosePositionRequest(
            request_id=desk.request_id(), account_id=account, symbol=symbol, reason="out"
        )
        answer = await desk.margin.ClosePosition(request, timeout=5.0 if priced else 0.7)
        assert (answer.accepted, answer.done) == (True, priced), answer
    if not priced:  # the paper broker fills at a mark, so it waits for one
        await desk.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"}, settle=False)
        await until(lambda: desk.engine.account(account).reduction is None)
    assert desk.engine.account(account).positions == {}
    plans = await desk.margin.ListLiquidations(margin_service_pb2.ListLiquidationsRequest(account_id=account))
    assert all(one.state == margin_service_pb2.LIQUIDATION_STATE_COMPLETED for one in plans.liquidations)


@each_state
async def test_a_stop_outlasts_an_exit(floor: Floor, account: str, state: State) -> None:
    """Reducing does not lift what stands against new risk, unless it was the size of what is held."""
    await state.enter(floor, account)
    assert (await floor.desk.fill(account, SELL, "0.1", "BTCUSDT", "59000")).accepted
    found = reasons((await floor.desk.reserve(account, BUY, "1")).violations)
    assert (state.refused in found) is (state.enter is not reducing)


async def test_a_reversing_order_pays_for_the_excess_alone(floor: Floor, account: str) -> None:
    check = margin_service_pb2.CheckOrderRequest(account_id=account, order=order(SELL, "0.3"))
    # 0.1 BTC beyond the position of 0.2: 3,000, less than the 6,000 that the position already holds
    answer = await floor.desk.margin.CheckOrder(check)
    assert shown(answer.result, "fits", "reducing", "initial_margin") == [True, False, "3000"]
    await floor.halt(account_id=account)
    assert reasons((await floor.desk.margin.CheckOrder(check)).result.violations) == ["TRADING_HALTED"]


@pytest.mark.parametrize("enter", [halted, everything_halted, marks_stale, marks_missing], ids=lambda one: one.__name__)
async def test_both_legs_of_a_hedge_account_have_their_way_out(floor: Floor, enter: Any) -> None:
    desk = floor.desk
    await desk.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
    name = f"hedge-{desk.request_id()}"
    await open_hedge(desk, name, owner=name)
    await enter(floor, name)
    try:
        for side, leg in ((SELL, LONG), (BUY, SHORT)):
            closing = await desk.reserve(name, side, "0.4", "ETHUSDT", position_side=leg)
            assert closing.accepted, closing
            adding = await desk.reserve(name, SELL if side == BUY else BUY, "0.4", "ETHUSDT", position_side=leg)
            assert not adding.accepted
            assert (await desk.fill(name, side, "0.4", "ETHUSDT", "3000", position_side=leg)).accepted
    finally:
        await floor.resume(everything=True)
