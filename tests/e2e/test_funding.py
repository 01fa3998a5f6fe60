"""Funding over the wire: a rate is published, everybody who held the instrument is settled, and it is listed."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.v1 import fund_service_pb2, market_service_pb2, rejections_pb2, types_pb2
from tests.support.service import Clock, Desk, service

D = Decimal
BUY, SELL = types_pb2.SIDE_BUY, types_pb2.SIDE_SELL
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)


async def publish(desk: Desk, rate: str, at: datetime, **fields: Any) -> Any:
    time = Timestamp()
    time.FromDatetime(at)
    request = market_service_pb2.PublishFundingRateRequest(
        request_id=desk.request_id(), symbol="BTCUSDT", rate=rate, funding_time=time, **fields
    )
    return await desk.market.PublishFundingRate(request)


async def wallet(desk: Desk, account_id: str) -> Decimal:
    answer = await desk.funds.GetFunds(fund_service_pb2.GetFundsRequest(account_id=account_id))
    return D(answer.funds.balances[0].amount)


async def test_longs_pay_shorts_over_the_wire() -> None:
    clock = Clock(NINE)
    async with service(clock=clock) as desk:
        await desk.mark({"BTCUSDT": "50000"})
        for account_id, side in (("long", BUY), ("short", SELL)):
            await desk.open(account_id, "100000", currency="USDT")
            await desk.fill(account_id, side, "1", "BTCUSDT", "50000")
        clock.advance(hours=7, seconds=2)
        await desk.mark({"BTCUSDT": "51000"})
        sixteen = NINE.replace(hour=16)
        answer = await publish(desk, "0.0001", sixteen)
        assert (answer.accepted, answer.funding_rate.mark_price) == (True, "51000")
        assert (await wallet(desk, "long"), await wallet(desk, "short")) == (D("99994.9"), D("100005.1"))
        again = await publish(desk, "0.0001", sixteen)
        assert again.accepted
        assert await wallet(desk, "long") == D("99994.9"), "each instant counts once"
        listed = await desk.market.ListFundingRates(market_service_pb2.ListFundingRatesRequest())
        assert [(one.symbol, one.rate) for one in listed.funding_rates] == [("BTCUSDT", "0.0001")]


@pytest.mark.parametrize(
    ("hour", "fields", "reason"),
    [
        (17, {"mark_price": "50000"}, "NOT_SUPPORTED"),
        (16, {}, "MISSING_MARK"),
        (8, {"mark_price": "50000"}, ""),
    ],
)
async def test_a_rate_without_its_time_or_its_price_settles_nobody(hour: int, fields: Any, reason: str) -> None:
    """A mark that is missing or too old is never counted as nothing: the rate is refused, and can be sent again."""
    clock = Clock(NINE)
    async with service(clock=clock) as desk:
        await desk.mark({"BTCUSDT": "50000"})
        clock.advance(hours=7, seconds=2)
        answer = await publish(desk, "0.0001", NINE.replace(hour=hour), **fields)
        names = [reason_name(one.reason) for one in answer.violations]
        assert names == ([reason] if reason else [])
        assert answer.accepted is (reason == "")


def reason_name(reason: rejections_pb2.RefusalReason.ValueType) -> str:
    return rejections_pb2.RefusalReason.Name(reason).removeprefix("REFUSAL_REASON_")


async def test_rates_are_listed_newest_first_page_by_page() -> None:
    clock = Clock(NINE)
    async with service(clock=clock) as desk:
        for hour in (0, 4, 8):
            await publish(desk, "0.0001", NINE.replace(hour=hour), mark_price="50000")
        seen: list[int] = []
        token = ""
        while True:
            page = await desk.market.ListFundingRates(
                market_service_pb2.ListFundingRatesRequest(page_size=2, page_token=token, symbols=["BTCUSDT"])
            )
            seen += [one.funding_time.ToDatetime().hour for one in page.funding_rates]
            token = page.next_page_token
            if not token:
                break
        assert seen == [8, 4, 0]
