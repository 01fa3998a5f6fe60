"""What stands between an account and its ruin: breakers, forced reductions, isolated losses, time limits, restarts."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from debt_mgmt.core.account import AlertKind, RiskLevel
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import margin_service_pb2, market_service_pb2, risk_service_pb2, types_pb2
from tests.e2e.books import BUY, SELL, isolate, open_fresh, order, shown
from tests.support.service import Clock, Desk, service
from tests.support.wire import call, heads, reasons, until

COMPLETED = margin_service_pb2.LIQUIDATION_STATE_COMPLETED


async def holder(desk: Desk) -> str:
    """10,000 USDT and 0.5 BTC at 5x from 60,000: 70 % is used at 56,000, 80 % at 53,333, 90 % at 51,428."""
    await desk.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
    name = await open_fresh(desk)
    await desk.lever(name, "BTCUSDT", "5")
    await desk.fill(name, BUY, "0.5", "BTCUSDT", "60000")
    return name


async def gap(desk: Desk, symbol: str, price: str) -> None:
    """A jump that two sources agree on."""
    for source in ("one", "two"):
        update = market_service_pb2.MarkUpdate(symbol=symbol, price=price, source=source)
        request = market_service_pb2.PublishMarksRequest(marks=[update], settle=True)
        answer = await call(desk.channel, "MarketService/PublishMarks", request)
    assert answer.accepted_count == 1


def kinds(desk: Desk, account_id: str) -> list[AlertKind]:
    return [alert.kind for alert in desk.engine.account(account_id).alerts]


async def plans(desk: Desk, account_id: str) -> list[Any]:
    request = margin_service_pb2.ListLiquidationsRequest(account_id=account_id)
    return list((await desk.margin.ListLiquidations(request)).liquidations)


# breakers that trip


async def breakers_of(desk: Desk, account_id: str) -> dict[int, Any]:
    request = risk_service_pb2.GetRiskLimitsRequest(account_id=account_id)
    return {one.kind: one for one in (await desk.risk.GetRiskLimits(request)).breakers}


async def limited(desk: Desk) -> str:
    """Long 0.1 BTC from 60,000; a loss of 500 in a day stops it for ten minutes."""
    await desk.mark({"BTCUSDT": "60000"})
    name = await open_fresh(desk)
    limits = risk_service_pb2.RiskLimits(max_daily_loss="500", breaker_cool_down=Duration(seconds=600))
    await desk.risk.SetRiskLimits(
        risk_service_pb2.SetRiskLimitsRequest(request_id=desk.request_id(), account_id=name, limits=limits)
    )
    await desk.fill(name, BUY, "0.1", "BTCUSDT", "60000")
    return name


async def test_a_breaker_trips_once_and_cools_down() -> None:
    clock = Clock()
    async with service(clock=clock) as desk:
        name = await limited(desk)
        for price in ("55100", "55000", "54000"):
            await desk.mark({"BTCUSDT": price})
        assert kinds(desk, name) == [AlertKind.BREAKER_TRIPPED]
        tripped = (await breakers_of(desk, name))[risk_service_pb2.BREAKER_KIND_DAILY_LOSS]
        assert shown(tripped, "tripped", "baseline", "loss") == [True, "10000", "600"]
        assert tripped.reset_time.seconds - tripped.trip_time.seconds == 600
        assert reasons((await desk.reserve(name, BUY, "0.01")).violations) == ["DAILY_LOSS", "BREAKER_TRIPPED"]
        await desk.mark({"BTCUSDT": "60000"})
        refused = reasons((await desk.reserve(name, BUY, "0.01")).violations)
        assert refused == ["BREAKER_TRIPPED"], "the loss is gone, the pause is not over"
        clock.advance(seconds=601)
        await desk.mark({"BTCUSDT": "60000"})
        await desk.engine.sweep()
        assert kinds(desk, name) == [AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RESET]
        assert (await desk.reserve(name, BUY, "0.01")).accepted


async def test_a_breaker_survives_a_restart_and_ends_when_somebody_resumes() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        name = await limited(desk)
        await desk.mark({"BTCUSDT": "54000"})
    async with service(journal=journal, clock=clock) as desk:
        await desk.mark({"BTCUSDT": "54000"})
        desk.numbers = iter(range(1000, 2000))  # type: ignore[assignment]
        refused = await desk.reserve(name, BUY, "0.01")
        assert reasons(refused.violations) == ["DAILY_LOSS", "BREAKER_TRIPPED"]
        resumed = await desk.risk.ResumeTrading(
            risk_service_pb2.ResumeTradingRequest(request_id=desk.request_id(), account_id=name, reason="seen")
        )
        assert resumed.accepted
        assert (await desk.reserve(name, BUY, "0.01")).accepted, "losses are measured from now on"
        assert kinds(desk, name) == [AlertKind.BREAKER_TRIPPED, AlertKind.TRADING_RESUMED]


async def test_halts_survive_a_restart() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        name = await holder(desk)
        for scope in ({"owner": name}, {"everything": True}):
            await desk.risk.HaltTrading(
                risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), reason="storm", **scope)
            )
    async with service(journal=journal, clock=clock) as desk:
        await desk.mark({"BTCUSDT": "60000"})
        check = margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "0.001"))
        for scope in ({"everything": True}, {"owner": name}):
            assert reasons((await desk.margin.CheckOrder(check)).result.violations) == ["HOUSE_HALTED"]
            assert shown(await desk.status(name), "trading_state_reason") == ["storm"]
            ended = risk_service_pb2.ResumeTradingRequest(request_id=f"end-{len(str(scope))}", **scope)
            assert (await desk.risk.ResumeTrading(ended)).accepted
        assert (await desk.margin.CheckOrder(check)).result.fits


# reductions


async def test_a_forced_reduction_is_the_smallest_that_helps_and_says_why() -> None:
    async with service(clock=Clock()) as desk:
        name = await holder(desk)
        await desk.mark({"BTCUSDT": "51000"})
        (plan,) = await plans(desk, name)
        assert (plan.state, plan.cause) == (COMPLETED, margin_service_pb2.LIQUIDATION_CAUSE_FORCED)
        (step,) = plan.steps
        # equity 5,500; 0.7 × 5,500 × 5 ÷ 51,000 = 0.37745 may stay, in lots of 0.001: 0.123 goes
        assert shown(step, "symbol", "side", "quantity") == ["BTCUSDT", SELL, "0.123"]
        assert step.client_order_id.startswith("liq-")
        assert Decimal(plan.utilization_before) > Decimal("0.9")
        assert Decimal("0.69") < Decimal(plan.utilization_after) <= Decimal("0.7")
        assert [mark.price for mark in plan.marks] == ["51000"]
        status = await desk.status(name)
        assert Decimal(status.margin_utilization) <= Decimal("0.7")
        assert kinds(desk, name)[-1] in (AlertKind.LEVEL_LOWERED, AlertKind.LIQUIDATION_FINISHED)
        after = heads(desk.engine)
        await desk.mark({"BTCUSDT": "51000"})
        assert heads(desk.engine) == after, "nothing more follows from the same price"


async def test_orders_go_before_positions() -> None:
    """A reservation brings the account above 90 %; releasing it is enough, and nothing is sold."""
    async with service(clock=Clock()) as desk:
        name = await holder(desk)
        assert (await desk.reserve(name, BUY, "0.12")).accepted
        await desk.mark({"BTCUSDT": "54000"})
        account = desk.engine.account(name)
        # 5,400 + 1,440 of 7,000 is above 90 %; 5,400 alone is 77 %
        assert (account.reservations, account.past_reductions) == ({}, ())
        assert account.positions["BTCUSDT"].quantity == Decimal("0.5")
        assert account.level is RiskLevel.CRITICAL
        assert reasons((await desk.reserve(name, BUY, "0.001")).violations)[0] == "TRADING_REDUCING"


async def test_a_loss_beyond_the_account_is_recorded_as_bankruptcy() -> None:
    async with service(clock=Clock()) as desk:
        name = await holder(desk)
        await gap(desk, "BTCUSDT", "35000")
        (plan,) = await plans(desk, name)
        assert shown(plan, "state", "bankruptcy_deficit") == [COMPLETED, "2500"]
        assert AlertKind.BANKRUPTCY in kinds(desk, name)
        status = await desk.status(name)
        assert shown(status, "equity", "wallet_balance", "open_positions") == ["0", "0", 0]


async def test_an_isolated_loss_ends_at_its_margin() -> None:
    async with service(clock=Clock()) as desk:
        await desk.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})
        name = await open_fresh(desk)
        await isolate(desk, name, "ETHUSDT")
        await desk.lever(name, "ETHUSDT", "5")
        await desk.fill(name, BUY, "2", "ETHUSDT", "3000")  # 1,200 posted
        await desk.fill(name, BUY, "0.01", "BTCUSDT", "60000")
        await gap(desk, "ETHUSDT", "2000")
        account = desk.engine.account(name)
        assert list(account.positions) == ["BTCUSDT"]
        assert shown(await desk.status(name), "equity", "isolated_margin") == ["8800", "0"]
        assert account.level is RiskLevel.NORMAL
        (plan,) = await plans(desk, name)
        assert plan.state == COMPLETED


async def test_a_reduction_resumes_after_a_restart_and_is_ordered_once() -> None:
    """The service goes down between the plan and its order."""
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        name = await holder(desk)
        desk.engine.reductions.stopping = True  # the plan is journaled, and nobody carries it out
        await desk.mark({"BTCUSDT": "51000"}, settle=False)
        plan = desk.engine.account(name).reduction
        assert plan is not None and plan.open_steps
    async with service(journal=journal, clock=clock) as desk:
        assert desk.engine.account(name).reduction == plan
        await desk.mark({"BTCUSDT": "51000"})
        await until(lambda: desk.engine.account(name).reduction is None)
        (done,) = await plans(desk, name)
        assert (done.liquidation_id, done.state) == (plan.plan_id, COMPLETED)
        rows = await journal.list_rows(account_id=name, kinds=["FillRecorded"])
        assert len(rows) == 2, "the opening fill and one reduction"


# time and crowds


async def test_a_reservation_ends_with_its_time_also_after_a_restart() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        name = await holder(desk)
        for seconds in (5, 50):
            request = margin_service_pb2.ReserveMarginRequest(
                request_id=desk.request_id(),
                account_id=name,
                order=order(BUY, "0.01"),
                time_to_live=Duration(seconds=seconds),
            )
            assert (await desk.margin.ReserveMargin(request)).accepted
        assert (await desk.status(name)).initial_margin_reservations == "240"
        clock.advance(seconds=6)
        await desk.engine.sweep()
        assert (await desk.status(name)).initial_margin_reservations == "120"
    clock.advance(seconds=60)
    async with service(journal=journal, clock=clock) as desk:
        await desk.mark({"BTCUSDT": "60000"})
        await desk.engine.sweep()
        assert (await desk.status(name)).open_reservations == 0


@pytest.mark.parametrize("callers", [200])
async def test_a_crowd_can_not_reserve_more_than_there_is(callers: int) -> None:
    """10,000 × 0.80 ÷ (60,000 × 0.005 ÷ 2) is 53 orders, but each must leave a tenth more available: all 53 do."""
    async with service(clock=Clock()) as desk:
        await desk.mark({"BTCUSDT": "60000"})
        name = await open_fresh(desk)
        check = margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "0.005"))
        answers = await asyncio.gather(*(desk.reserve(name, BUY, "0.005") for _ in range(callers)))
        accepted = [one for one in answers if one.accepted]
        assert len(accepted) == 53
        status = await desk.status(name)
        assert shown(status, "margin_used", "open_reservations") == ["7950", 53]
        assert not (await desk.margin.CheckOrder(check)).result.fits
        assert {tuple(reasons(one.violations)) for one in answers if not one.accepted} == {("UTILIZATION_AFTER",)}
        assert status.trading_state == types_pb2.TRADING_STATE_ACTIVE
