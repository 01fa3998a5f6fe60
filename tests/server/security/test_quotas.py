"""How much one token may ask for: the numbers, the answer when they are used up, and what is never limited."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from debt_mgmt.core.access import Role
from debt_mgmt.core.faults import RateLimited
from debt_mgmt.server.security.identity import LOCAL_IDENTITY, Identity
from debt_mgmt.server.security.quotas import NAMES_MOST, Quota, Quotas, QuotaTerms
from debt_mgmt.v1 import (
    account_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    risk_service_pb2,
)
from tests.e2e.books import BUY, SELL, order
from tests.server.security.door import Door, door
from tests.support.service import Desk, service
from tests.support.wire import METHODS, Failure, failure_of, read_failure

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
TERMS: dict[str, Any] = {
    "server__quotas__openings_per_hour": "2",
    "server__quotas__leverage_changes_per_day": "2",
    "server__quotas__viewer_lists_per_minute": "3",
    "server__quotas__streams": "2",
}


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Door]:
    async with door(tmp_path, **TERMS) as one:
        await one.desk.open("alice", "10000", "USDT")
        await one.desk.mark({"BTCUSDT": "50000", "ETHUSDT": "3000"})
        await one.desk.fill("alice", BUY, "0.1", "BTCUSDT", "50000")
        yield one


async def refused(made: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await made
    return read_failure(failed.value)


def lever(desk: Desk, leverage: str, *, validate_only: bool = False, request_id: str = "") -> Any:
    return desk.leverage.SetLeverage(
        leverage_service_pb2.SetLeverageRequest(
            request_id=request_id or desk.request_id(),
            account_id="alice",
            symbol="BTCUSDT",
            leverage=leverage,
            validate_only=validate_only,
        )
    )


def detail(failure: Failure, kind: type[Any]) -> Any:
    return next(one for one in failure.details if isinstance(one, kind))


async def test_the_answer_says_which_quota_and_when_to_come_back(opened: Door) -> None:
    desk = opened.as_caller(await opened.issue("engine", Role.TRADER))
    for _ in range(2):
        assert (await desk.reserve("alice", BUY, "0.001")).accepted
    failure = await refused(desk.reserve("alice", BUY, "0.001"))
    assert (failure.code, failure.reason) == (EXHAUSTED, "RATE_LIMITED")
    assert failure.metadata == {"quota": "openings_per_hour", "subject": "token:engine", "limit": "2"}
    violation = detail(failure, error_details_pb2.QuotaFailure).violations[0]
    assert violation.subject == "token:engine"
    assert 3500 < detail(failure, error_details_pb2.RetryInfo).retry_delay.seconds <= 3600


async def test_what_takes_risk_away_is_never_limited(opened: Door) -> None:
    """The first rule of the house: with every quota used up, the way out is open."""
    desk = opened.as_caller(await opened.issue("engine", Role.TRADER))
    held = [await desk.reserve("alice", BUY, "0.001") for _ in range(2)]
    await refused(desk.reserve("alice", BUY, "0.001"))
    for _ in range(5):
        assert (await desk.reserve("alice", SELL, "0.01")).accepted
        assert (await desk.reserve("alice", SELL, "0.05", reduce_only=True)).accepted
    for one in held:
        request = margin_service_pb2.ReleaseReservationRequest(
            request_id=desk.request_id(), account_id="alice", reservation_id=one.reservation.reservation_id
        )
        assert (await desk.margin.ReleaseReservation(request)).accepted
    close = margin_service_pb2.ClosePositionRequest(
        request_id=desk.request_id(), account_id="alice", symbol="BTCUSDT", quantity="0.01"
    )
    assert (await desk.margin.ClosePosition(close)).accepted
    halt = risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), account_id="alice", reason="enough")
    assert (await desk.risk.HaltTrading(halt)).accepted
    check = margin_service_pb2.CheckOrderRequest(account_id="alice", order=order(BUY, "0.001"))
    for _ in range(100):
        await desk.margin.CheckOrder(check)
    reversing = await refused(desk.reserve("alice", SELL, "5"))
    assert reversing.reason == "RATE_LIMITED"


async def test_a_repeat_a_trial_and_an_error_are_not_counted(opened: Door) -> None:
    desk = opened.as_caller(await opened.issue("engine", Role.TRADER))
    for _ in range(5):
        assert (await lever(desk, "3", request_id="one")).accepted
        assert (await lever(desk, "4", validate_only=True)).accepted
        assert (await refused(lever(desk, "four"))).code is grpc.StatusCode.INVALID_ARGUMENT
    assert (await lever(desk, "4")).accepted
    failure = await refused(lever(desk, "5"))
    assert failure.metadata["quota"] == "leverage_changes_per_day"
    assert (await lever(desk, "5", validate_only=True)).accepted


async def test_lists_are_counted_for_viewers_and_each_token_by_itself(opened: Door) -> None:
    viewer = opened.as_caller(await opened.issue("board", Role.VIEWER))
    other = opened.as_caller(await opened.issue("other-board", Role.VIEWER))
    trader = opened.as_caller(await opened.issue("engine", Role.TRADER))
    request = account_service_pb2.ListAccountsRequest()
    for _ in range(3):
        await viewer.accounts.ListAccounts(request)
    failure = await refused(viewer.accounts.ListAccounts(request))
    assert failure.metadata["quota"] == "viewer_lists_per_minute"
    assert 0 < detail(failure, error_details_pb2.RetryInfo).retry_delay.seconds <= 60
    await other.accounts.ListAccounts(request)
    for _ in range(10):
        await trader.accounts.ListAccounts(request)
    await viewer.status("alice")


async def test_a_token_holds_so_many_streams_open(opened: Door) -> None:
    secret = await opened.issue("board", Role.VIEWER)
    viewer = opened.as_caller(secret)
    watches = [viewer.margin.WatchMargin(margin_service_pb2.WatchMarginRequest()) for _ in range(2)]
    for watch in watches:
        await watch.read()
    failure = await failure_of(
        opened.channel(secret), "MarginService/WatchMargin", margin_service_pb2.WatchMarginRequest()
    )
    assert (failure.code, failure.metadata["quota"]) == (EXHAUSTED, "streams")
    watches[0].cancel()
    quotas = opened.bare.running.entrance.quotas
    for _ in range(1000):
        if quotas.streams["board"] < 2:
            break
        await opened.desk.status("alice")
    third = viewer.margin.WatchMargin(margin_service_pb2.WatchMarginRequest())
    assert await third.read() is not grpc.aio.EOF
    for watch in (watches[1], third):
        watch.cancel()


async def test_this_machines_own_callers_have_no_quota_where_nothing_tells_them_apart() -> None:
    async with service(**TERMS) as desk:
        await desk.open("alice", "10000", "USDT")
        await desk.mark({"BTCUSDT": "50000"})
        for _ in range(5):
            assert (await desk.reserve("alice", BUY, "0.001")).accepted


# counting


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_room_comes_back_as_calls_grow_old() -> None:
    time = Time()
    quotas, quota = Quotas(QuotaTerms(), clock=time), Quota("a", 2, 60.0, "calls a minute")
    quotas.take(quota, "desk")
    time.now += 20
    quotas.take(quota, "desk")
    with pytest.raises(RateLimited) as refusal:
        quotas.take(quota, "desk")
    assert refusal.value.retry_seconds == 40.0
    time.now += 40
    quotas.take(quota, "desk")
    with pytest.raises(RateLimited) as refusal:
        quotas.take(quota, "desk")
    assert refusal.value.retry_seconds == 20.0
    assert quotas.refused == {"a": 2}


def test_callers_that_are_counted_are_bounded() -> None:
    quotas, quota = Quotas(QuotaTerms()), Quota("a", 2, 60.0, "calls a minute")
    for number in range(NAMES_MOST + 10):
        quotas.take(quota, f"desk-{number}")
    assert len(quotas.calls) == NAMES_MOST


def test_no_exit_is_limited_by_its_name() -> None:
    quotas = Quotas(
        QuotaTerms(viewer_lists_per_minute=1, leverage_changes_per_day=1, openings_per_hour=1, streams=1),
        is_reducing=lambda request: True,
    )
    limited = {name for name, method in METHODS.items() if quotas.limiter(method) is not None}
    lists = {name for name in METHODS if name.split("/")[1].startswith("List")}
    assert limited - lists == {
        "LeverageService/SetLeverage",
        "LeverageService/SetMarginMode",
        "MarginService/ReserveMargin",
        "MarginService/PlaceOrder",
    }
    opening = quotas.limiter(METHODS["MarginService/PlaceOrder"])
    assert opening is not None
    trader = Identity("desk", Role.TRADER)
    for _ in range(5):
        with opening(trader, object()):
            pass
    with quotas.stream(LOCAL_IDENTITY), quotas.stream(LOCAL_IDENTITY):
        pass
    assert not quotas.streams
