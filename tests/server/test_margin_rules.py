"""`sandbox.margin_rules`: the default instruments follow a venue's rules, by date, and change with the setting."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.core.instrument import MarginBase
from debt_mgmt.server.config import ConfigurationError, read_settings
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import margin_service_pb2, market_service_pb2, types_pb2
from tests.support.service import Clock, Desk, service

D = Decimal
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


async def listed(desk: Desk) -> dict[str, market_service_pb2.Instrument]:
    answer = await desk.market.ListInstruments(market_service_pb2.ListInstrumentsRequest())
    return {one.symbol: one for one in answer.instruments}


async def test_the_sandbox_follows_the_rules_that_are_chosen() -> None:
    async with service(clock=Clock(NOW), sandbox__margin_rules="bybit") as desk:
        bitcoin = (await listed(desk))["BTCUSDT"]
        assert (bitcoin.margin_rules, bitcoin.taker_fee_rate) == ("bybit", "0.00055")
        assert bitcoin.effective_time.ToDatetime(UTC) == datetime(2025, 7, 1, tzinfo=UTC)
        house = desk.engine.house
        assert house.instruments["BTCUSDT"].rules.fee_in_maintenance
        assert [tier.up_to for tier in house.assets["BTC"].haircut_tiers] == [10, 20, 30, 40, 50, None]
        assert {rates[-1].clock for rates in house.borrow_rates.values()} == {"bybit_hourly"}
        # What is listed can be put as it is and means the same.
        for one in (await listed(desk)).values():
            put = market_service_pb2.PutInstrumentRequest(request_id=desk.request_id(), instrument=one)
            await desk.market.PutInstrument(put)
        assert desk.engine.house == house


@pytest.mark.parametrize(
    ("day", "base"), [("2025-06-30", MarginBase.ENTRY), ("2025-07-01", MarginBase.MARK), (None, MarginBase.MARK)]
)
async def test_the_rules_of_another_day_can_be_asked_for(day: str | None, base: MarginBase) -> None:
    flags: dict[str, Any] = {} if day is None else {"sandbox__margin_rules_date": day}
    async with service(clock=Clock(NOW), sandbox__margin_rules="bybit", **flags) as desk:
        assert desk.engine.house.instruments["ETHUSDT"].rules.maintenance_margin_base is base


async def test_another_choice_changes_the_default_instruments_and_no_others() -> None:
    """What somebody has put himself stays as he put it, and a restart with the same choice writes nothing."""
    journal = MemoryJournal()
    async with service(journal=journal, clock=Clock(NOW)) as desk:
        assert {one.margin_rules for one in (await listed(desk)).values()} == {"binance"}
        own = (await listed(desk))["SOLUSDT"]
        own.lot = "0.1"
        own.min_quantity = "0.1"
        put = market_service_pb2.PutInstrumentRequest(request_id=desk.request_id(), instrument=own)
        await desk.market.PutInstrument(put)
    async with service(journal=journal, clock=Clock(NOW), sandbox__margin_rules="okx") as desk:
        rules = {symbol: one.margin_rules for symbol, one in (await listed(desk)).items()}
        assert rules.pop("SOLUSDT") == "binance"
        assert set(rules.values()) == {"okx"}
        assert (await listed(desk))["SOLUSDT"].lot == "0.1"
        written = desk.engine.house_revision()
    async with service(journal=journal, clock=Clock(NOW), sandbox__margin_rules="okx") as desk:
        assert desk.engine.house_revision()[1] <= written[1] + 1  # the row of the new writer


async def test_paper_fills_cost_what_the_venue_takes() -> None:
    rates: dict[str, Any] = {"sandbox__taker_fee_rate": "null", "sandbox__maker_fee_rate": "null"}
    async with service(clock=Clock(NOW), sandbox__margin_rules="bybit", **rates) as desk:
        await desk.open("alice", "100000", currency="USDT")
        await desk.mark({"BTCUSDT": "50000"})
        request = margin_service_pb2.PlaceOrderRequest(
            request_id=desk.request_id(),
            account_id="alice",
            order=types_pb2.Order(symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity="1"),
        )
        answer = await desk.margin.PlaceOrder(request)
        assert answer.order.fee == "27.5"
        # half of the value, and the fee of closing at half the price
        assert desk.engine.summary("alice").used == D(25000) + D(25000) * D("0.00055")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"sandbox.margin_rules": "ftx"}, "must be one of house, binance, bybit"),
        ({"sandbox.margin_rules_date": "2025-13-01"}, "must be a date such as 2025-07-01"),
        ({"sandbox.margin_rules_date": "soon"}, "sandbox.margin_rules_date"),
        ({"sandbox.reset_zone": "Mars/Olympus"}, "must be a time zone"),
        ({"sandbox.reset_time": "24:00"}, "sandbox.reset_time"),
        ({"sandbox.reset_day": "32"}, "at most 31"),
        ({"sandbox.reset": "hourly"}, "never, daily, weekly, monthly"),
    ],
)
def test_what_makes_no_sense_is_refused(flags: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_settings(environment={}, flags=flags)
