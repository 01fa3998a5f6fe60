"""A call that met an unavailable service is repeated within its timeout, a command with its request id; no other is."""

import time
from datetime import timedelta
from typing import Any

import grpc
import pytest

from debt_mgmt.client import MarginClient, Order, RetryPolicy, SyncMarginClient, Timeouts, Unavailable, errors
from debt_mgmt.client.retry import Attempts
from debt_mgmt.v1 import account_service_pb2, fund_service_pb2, margin_service_pb2
from tests.client.conftest import QUICK
from tests.client.fake_service import FakeService, fail, sample

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Flaky:
    """Fails so many times, then answers with a sample."""

    def __init__(self, failures: int, answer: type[Any], reason: str | None = "JOURNAL_UNAVAILABLE") -> None:
        self.failures, self.answer, self.reason = failures, answer, reason

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.failures -= 1
        if self.failures >= 0:
            fail(context, UNAVAILABLE, self.reason)
        return sample(self.answer)


async def test_a_command_is_repeated_with_the_same_request_id(service: FakeService, client: MarginClient) -> None:
    service.on("Deposit", Flaky(3, fund_service_pb2.DepositResponse))
    outcome = await client.deposit("alice", "USDT", "10")
    assert outcome.accepted
    ids = [request.request_id for request in service.sent("Deposit")]
    assert len(ids) == 4
    assert len(set(ids)) == 1
    assert len(ids[0]) == 36


def test_a_command_is_repeated_by_the_blocking_client_too(service: FakeService, sync_client: SyncMarginClient) -> None:
    service.on("ReserveMargin", Flaky(2, margin_service_pb2.ReserveMarginResponse, reason=None))
    sync_client.reserve("alice", Order.buy("BTCUSDT", 1), request_id="mine")
    assert [request.request_id for request in service.sent("ReserveMargin")] == ["mine"] * 3


async def test_two_commands_have_two_request_ids(service: FakeService, client: MarginClient) -> None:
    await client.deposit("alice", "USDT", "10")
    await client.deposit("alice", "USDT", "10")
    first, second = service.sent("Deposit")
    assert first.request_id != second.request_id


async def test_reads_are_repeated(service: FakeService, client: MarginClient) -> None:
    service.on("GetAccount", Flaky(4, account_service_pb2.GetAccountResponse))
    await client.account("alice")
    assert len(service.sent("GetAccount")) == 5


async def test_it_gives_up_after_so_many_attempts(service: FakeService, client: MarginClient) -> None:
    service.on("GetAccount", Flaky(99, account_service_pb2.GetAccountResponse))
    with pytest.raises(errors.JournalUnavailable):
        await client.account("alice")
    assert len(service.sent("GetAccount")) == QUICK.attempts_max


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, UNAVAILABLE)],
    ids=lambda code: code.name,
)
async def test_nothing_else_is_repeated(service: FakeService, client: MarginClient, code: grpc.StatusCode) -> None:
    service.on("Deposit", lambda _, context: fail(context, code))
    with pytest.raises(errors.DebtMgmtError):
        await client.deposit("alice", "USDT", "10")
    assert len(service.sent("Deposit")) == 1


async def test_a_refusal_is_not_repeated(service: FakeService, client: MarginClient) -> None:
    refused = sample(fund_service_pb2.WithdrawResponse)
    refused.accepted = False
    service.on("Withdraw", lambda *_: refused)
    assert not (await client.withdraw("alice", "USDT", "10")).accepted
    assert len(service.sent("Withdraw")) == 1


async def test_prices_are_not_published_again(service: FakeService, client: MarginClient) -> None:
    service.on("PublishMarks", lambda _, context: fail(context, UNAVAILABLE))
    with pytest.raises(Unavailable):
        await client.publish_marks({"BTCUSDT": 50000})
    assert len(service.metadata) == 1


async def test_the_service_is_found_again_when_it_comes_back(service: FakeService) -> None:
    policy = RetryPolicy(attempts_max=100, first_pause=0.05, longest_pause=0.1)
    async with MarginClient(service.target, retries=policy) as client:
        await client.account("alice")
        service.stop()
        with pytest.raises(Unavailable):
            await client.account("alice", timeout=0.3)
        with FakeService(service.port) as again:
            await client.account("alice", timeout=5)
            assert again.sent("GetAccount")


@pytest.mark.parametrize("timeout", [0.2, timedelta(milliseconds=200)])
async def test_a_timeout_is_for_the_call_with_all_its_attempts(
    service: FakeService, timeout: float | timedelta
) -> None:
    service.on("GetAccount", Flaky(10_000, account_service_pb2.GetAccountResponse))
    policy = RetryPolicy(attempts_max=10_000, first_pause=0.01, longest_pause=0.02)
    async with MarginClient(service.target, retries=policy) as client:
        begin = time.monotonic()
        with pytest.raises(errors.JournalUnavailable):
            await client.account("alice", timeout=timeout)
        assert 0.1 < time.monotonic() - begin < 5
    assert len(service.sent("GetAccount")) > 3


def test_each_kind_of_call_has_its_default_timeout(service: FakeService) -> None:
    left: dict[str, float] = {}

    def noting(method: str, answer: type[Any]) -> None:
        def answered(_: Any, context: Any) -> Any:
            left[method] = context.time_remaining()
            return sample(answer)

        service.on(method, answered)

    noting("CheckOrder", margin_service_pb2.CheckOrderResponse)
    noting("GetAccount", account_service_pb2.GetAccountResponse)
    noting("Deposit", fund_service_pb2.DepositResponse)
    noting("ClosePosition", margin_service_pb2.ClosePositionResponse)
    with SyncMarginClient(service.target, timeouts=Timeouts(check=100, read=200, command=300, close=400)) as client:
        client.check_order("alice", Order.buy("BTCUSDT", 1))
        client.account("alice")
        client.deposit("alice", "USDT", 1)
        client.close_position("alice", "BTCUSDT")
    rounded = {method: round(seconds, -2) for method, seconds in left.items()}
    assert rounded == {"CheckOrder": 100, "GetAccount": 200, "Deposit": 300, "ClosePosition": 400}


async def test_a_slow_service_runs_into_the_timeout(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient
) -> None:
    def slow(_: Any, context: grpc.ServicerContext) -> Any:
        service.leaving.wait(5)
        context.abort(grpc.StatusCode.CANCELLED, "too late")

    service.on("GetAccount", slow)
    with pytest.raises(errors.DeadlineExceeded):
        await client.account("alice", timeout=0.1)
    with pytest.raises(errors.DeadlineExceeded):
        sync_client.account("alice", timeout=0.1)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), timedelta(0)])
async def test_a_timeout_is_above_zero(service: FakeService, client: MarginClient, timeout: float | timedelta) -> None:
    with pytest.raises(ValueError, match="timeout must be above zero"):
        await client.account("alice", timeout=timeout)
    assert not service.requests


def test_pauses_double_with_jitter_up_to_the_longest() -> None:
    policy = RetryPolicy(first_pause=0.1, longest_pause=1.0)
    assert [policy.pause(failures, lambda: 1.0) for failures in (1, 2, 3, 4, 5, 99)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [policy.pause(failures, lambda: 0.0) for failures in (1, 5)] == [0.05, 0.5]


def test_the_service_s_own_advice_is_waited_for() -> None:
    advice = Unavailable("soon", retry_after=timedelta(seconds=3))
    assert Attempts(QUICK, timeout=10, default=1, now=0).pause_after(advice, now=0) == 3
    assert Attempts(QUICK, timeout=2, default=1, now=0).pause_after(advice, now=0) is None
