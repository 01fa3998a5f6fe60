"""Orders and prices that go over one long stream."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from debt_mgmt.client import (
    CheckDetail,
    MarginClient,
    MarkUpdate,
    Order,
    SyncMarginClient,
)
from debt_mgmt.v1 import (
    margin_service_pb2,
    rejections_pb2,
)
from tests.client.fake_service import FakeService, sample


async def test_streamed_checks_come_in_order_with_their_orders(service: FakeService, client: MarginClient) -> None:
    orders = [("alice", Order.buy("BTCUSDT", number)) for number in range(1, 6)]
    service.on("StreamCheckOrders", check_stream)

    async def later() -> AsyncIterator[tuple[str, Order]]:
        for each in orders:
            yield each

    checks = [check async for check in client.stream_checks(later(), detail=CheckDetail.FULL)]
    assert [(check.account_id, check.order) for check in checks] == orders
    assert [check.sequence for check in checks] == [0, 1, 2, 3, 4]
    assert [check.check is not None for check in checks] == [True, True, False, True, True]
    assert checks[0].result().fits
    with pytest.raises(Exception, match="no such account") as caught:
        checks[2].result()
    assert type(caught.value).__name__ == "AccountNotFound"
    assert caught.value.code is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    assert {request.detail for request in service.sent("StreamCheckOrders")} == {margin_service_pb2.CHECK_DETAIL_FULL}


def check_stream(requests: Iterator[margin_service_pb2.StreamCheckOrdersRequest], _: Any) -> Iterator[Any]:
    """Fits everything but a quantity of 3."""
    for request in requests:
        response = sample(margin_service_pb2.StreamCheckOrdersResponse)
        response.sequence = request.sequence
        if request.order.quantity == "3":
            error = response.error
            error.reason, error.message = rejections_pb2.ERROR_REASON_ACCOUNT_NOT_FOUND, "no such account"
        else:
            response.result.CopyFrom(sample(margin_service_pb2.CheckResult))
        yield response


def test_the_blocking_client_streams_checks_too(service: FakeService, sync_client: SyncMarginClient) -> None:
    service.on("StreamCheckOrders", check_stream)
    orders = [("alice", Order.buy("BTCUSDT", number)) for number in range(1, 6)]
    checks = list(sync_client.stream_checks(iter(orders)))
    assert [(check.account_id, check.order) for check in checks] == orders
    assert [check.error is None for check in checks] == [True, True, False, True, True]


def broken_feed() -> Iterator[Any]:
    yield "alice", Order.buy("BTCUSDT", 1)
    raise RuntimeError("the strategy broke")


async def test_what_the_caller_s_iterator_raises_is_raised_after_the_answers(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient
) -> None:
    service.on("StreamCheckOrders", check_stream)
    checks = client.stream_checks(broken_feed())
    assert (await anext(checks)).result().fits
    with pytest.raises(RuntimeError, match="the strategy broke"):
        await anext(checks)
    blocking = sync_client.stream_checks(broken_feed())
    assert next(blocking).result().fits
    with pytest.raises(RuntimeError, match="the strategy broke"):
        next(blocking)


async def test_a_stream_of_checks_can_be_left(service: FakeService, client: MarginClient) -> None:
    service.on("StreamCheckOrders", check_stream)

    def endless() -> Iterator[tuple[str, Order]]:
        while True:
            yield "alice", Order.buy("BTCUSDT", 1)

    checks = client.stream_checks(endless())
    async for check in checks:
        if check.sequence == 3:
            break
    await checks.aclose()
    await client.account("alice")


async def test_prices_are_fed_over_one_stream(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient
) -> None:
    async def ticks() -> AsyncIterator[dict[str, int]]:
        yield {"BTCUSDT": 1}
        yield {"BTCUSDT": 2}

    published = await client.feed_marks(ticks(), settle=True)
    assert published.accepted_count == 1
    sync_client.feed_marks([{"BTCUSDT": 3}, [MarkUpdate("ETHUSDT", 4)]], clock="tape")
    requests = service.sent("PublishMarks")
    assert [mark.price for request in requests for mark in request.marks] == ["1", "2", "3", "4"]
    assert len(service.metadata) == 2
    assert [request.settle for request in requests] == [True, True, False, False]
