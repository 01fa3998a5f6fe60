"""The whole way: a live account falls at its venue; what is cancelled and reduced arrives there, in order, once."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core.account import RiskLevel, TradingState
from debt_mgmt.core.margin import summarize
from debt_mgmt.server import reductions
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.v1 import account_service_pb2
from tests.support.falling import PLACES, Fall, account_of, until
from tests.support.service import Desk
from tests.support.venues.records import Status
from tests.support.venues.venue import FaultKind

D = Decimal
GAP = D(3)
"""A utilisation at which closing bitcoin alone is not enough."""


@pytest.fixture(params=sorted(PLACES))
async def fall(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fall]:
    """An account at one of the venues. Kraken's is not asked as slowly as the real one would have to be."""
    monkeypatch.setattr(reductions, "LOOK_SECONDS", 0.1)
    profile = msgspec.structs.replace(PROFILES["kraken"], weight_per_second=D(300))
    monkeypatch.setitem(PROFILES, "kraken", profile)
    made = Fall(PLACES[request.param])
    async with made.venue:
        yield made


def level(desk: Desk) -> RiskLevel:
    return account_of(desk).level


def utilization(desk: Desk) -> Decimal:
    found = summarize(account_of(desk), desk.engine.world())
    return found.used / found.equity


def as_the_venue(fall: Fall, desk: Desk) -> bool:
    """Whether the house has every position as the venue has it."""
    held = {fall.venue_symbol(one.symbol): one.quantity for one in account_of(desk).positions.values()}
    return held == {one.symbol: one.quantity for one in fall.venue.book.held()}


async def over(fall: Fall, desk: Desk) -> None:
    """Wait until the account is out of danger, and the house and the venue agree."""
    await until(lambda: account_of(desk).reduction is None, "the reduction does not end")
    await until(lambda: level(desk) not in (RiskLevel.LIQUIDATING, RiskLevel.UNKNOWN), "it is still being reduced")
    await until(lambda: as_the_venue(fall, desk), "the house and the venue do not agree")


async def test_an_account_falls_through_warning_and_cancels_to_a_forced_reduction(fall: Fall) -> None:
    async with fall.life() as desk:
        await fall.open(desk)
        await until(lambda: level(desk) is RiskLevel.NORMAL, "it begins in danger")

        await fall.fall_to(desk, D("0.71"))
        await until(lambda: level(desk) is RiskLevel.WARNING, "70 % is not noticed")
        await asyncio.sleep(0.3)
        assert fall.writes() == []

        await fall.fall_to(desk, D("0.81"))
        await until(lambda: level(desk) is RiskLevel.CRITICAL, "80 % is not noticed")
        await until(lambda: fall.adding.status is Status.CANCELLED, "the order that adds risk is not cancelled")
        await until(lambda: not account_of(desk).cancels, "the cancel never ended")
        assert account_of(desk).trading_state is TradingState.REDUCING
        assert fall.reducing.status is Status.OPEN
        assert fall.writes() == ["cancel"]

        await fall.fall_to(desk, D("0.91"))
        await until(lambda: fall.executed(), "90 % does not reduce anything")
        await over(fall, desk)
        assert fall.writes() == ["cancel", "order"]
        assert fall.executed() == fall.planned()
        assert D("0.60") < utilization(desk) < D("0.72")
        await asyncio.sleep(0.5)
        assert fall.writes() == ["cancel", "order"]


async def test_a_service_that_is_killed_at_every_step_does_each_of_them_once(fall: Fall) -> None:
    """Seven lives: killed before and after the venue carries out the cancel and both orders, and then left alone."""
    async with fall.life() as desk:
        await fall.open(desk)
        await until(lambda: level(desk) is RiskLevel.NORMAL, "it begins in danger")
        gap = fall.share_for(desk, GAP)
    moments = [
        (what, line, kind)
        for what, line, times in (("cancel", fall.place.cancels, 1), ("order", fall.place.orders, 2))
        for _ in range(times)
        for kind in (FaultKind.HANGS_BEFORE, FaultKind.HANGS_AFTER)
    ]
    fall.move(gap)
    for what, line, kind in moments:
        fall.venue.fault(f"^{line}$", kind)
        async with fall.life() as desk:
            await until(lambda: not fall.venue.faults, f"the next {what} never came ({kind})")
    async with fall.life() as desk:
        await over(fall, desk)
        assert fall.adding.status is Status.CANCELLED
        assert fall.reducing.status is Status.OPEN or not fall.venue.book.held(fall.place.symbols[0])
        assert fall.executed() == fall.planned()
        assert len(fall.executed()) == 2
        assert fall.adding.updated_at <= fall.venue.book.trades[0].at
        done = fall.writes()
    async with fall.life() as desk:
        await until(lambda: fall.is_known(desk), "it is never read again")
        await asyncio.sleep(0.5)
        assert fall.writes() == done


async def test_a_venue_that_times_out_after_executing_is_asked_what_it_did(fall: Fall) -> None:
    async with fall.life() as desk:
        await fall.open(desk)
        await until(lambda: level(desk) is RiskLevel.NORMAL, "it begins in danger")
        for line, times in ((fall.place.cancels, 1), (fall.place.orders, 2)):
            fall.venue.fault(f"^{line}$", FaultKind.HANGS_AFTER, times=times)
        await fall.fall_to(desk, GAP)
        await until(lambda: len(fall.executed()) >= 2, "both reductions were to be carried out")
        await over(fall, desk)
        assert fall.adding.status is Status.CANCELLED
        assert fall.executed() == fall.planned()
        assert fall.writes().count("order") == len(fall.planned())


async def test_a_dry_run_plans_and_sends_nothing_until_it_is_left() -> None:
    fall = Fall(PLACES["bybit"])
    async with fall.venue, fall.life() as desk:
        await fall.open(desk, dry_run=True)
        await until(lambda: level(desk) is RiskLevel.NORMAL, "it begins in danger")
        await fall.fall_to(desk, D("0.95"))
        await until(lambda: fall.planned(), "nothing was planned")
        await until(lambda: account_of(desk).reduction is None, "the plan does not end")
        await asyncio.sleep(1.0)
        assert (fall.writes(), fall.executed(), fall.adding.status) == ([], [], Status.OPEN)
        assert len(fall.planned()) == 1

        request = account_service_pb2.SetDryRunRequest(
            request_id="leave", account_id="alice", dry_run=False, reason="the plan is what I would do"
        )
        assert (await desk.accounts.SetDryRun(request)).accepted
        await until(lambda: fall.executed(), "nothing leaves after the dry run")
        await over(fall, desk)
        assert fall.executed() == fall.planned()[1:]
        assert fall.adding.status is Status.CANCELLED
