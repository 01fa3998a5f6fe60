"""Prices of a venue for sandbox accounts: under plain names, without any key; and instruments learned when named."""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from debt_mgmt.core.account import RiskLevel
from debt_mgmt.v1 import leverage_service_pb2, rejections_pb2, types_pb2
from tests.server.live.desk import BTC, D, live_service, open_live, paced, set_leverage, until
from tests.support.live_broker import UNREACHABLE, FakeVenue

PROJECT = Path(__file__).parents[3]
BUY = types_pb2.SIDE_BUY


@pytest.mark.parametrize("pushes", [True, False])
async def test_sandbox_accounts_are_priced_by_a_venue_without_any_key(venue: FakeVenue, pushes: bool) -> None:
    venue.pushes = pushes
    async with live_service(venue, prices__feeds="{bybit: BTCUSDT}", brokers__bybit__testnet="false") as desk:
        await until(lambda: "BTCUSDT" in desk.engine.marks)
        assert desk.engine.marks["BTCUSDT"].source == "bybit"
        assert desk.engine.marks[BTC].price == 50_000
        await desk.open("paper-1", "10000", "USDT")
        assert (await desk.reserve("paper-1", BUY, "0.1")).accepted
        venue.mark("BTCUSDT", "51000")
        await until(lambda: desk.engine.marks["BTCUSDT"].price == 51_000)
        assert not venue.count("connect"), "a feed opens no account"


async def test_a_feed_beside_a_test_network_leaves_its_names_alone(venue: FakeVenue) -> None:
    async with live_service(venue, prices__feeds="{bybit: BTCUSDT}", brokers__bybit__testnet="true") as desk:
        await until(lambda: "BTCUSDT" in desk.engine.marks)
        assert BTC not in desk.engine.marks


async def test_an_instrument_that_the_house_does_not_have_comes_with_its_feed() -> None:
    venue = FakeVenue("bybit", symbols=("LTCUSDT",))
    venue.mark("LTCUSDT", "80")
    async with live_service(venue, prices__feeds="{bybit: LTCUSDT}", brokers__bybit__testnet="false") as desk:
        await until(lambda: "LTCUSDT" in desk.engine.marks)
        assert desk.engine.house.instruments["LTCUSDT"].lot == venue.terms["bybit:LTCUSDT"].lot


async def test_a_feed_that_is_not_reached_delays_no_start_and_goes_on_when_it_is(venue: FakeVenue) -> None:
    venue.fail("feed_instruments", UNREACHABLE, 3)
    venue.fail("marks", UNREACHABLE, 3)
    async with live_service(venue, prices__feeds="{bybit: BTCUSDT}") as desk:
        await until(lambda: "BTCUSDT" in desk.engine.marks)
        venue.fail("marks", UNREACHABLE)
        last = desk.engine.marks["BTCUSDT"]
        await asyncio.sleep(0.4)
        assert desk.engine.marks["BTCUSDT"] is last, "what is not told is not made up"
        venue.heal()
        await until(lambda: desk.engine.marks["BTCUSDT"] is not last)


async def test_one_instrument_without_a_price_does_not_silence_the_others() -> None:
    venue = FakeVenue("bybit", symbols=("BTCUSDT", "ETHUSDT"))
    venue.mark("BTCUSDT", "50000")
    async with live_service(venue, prices__feeds="{bybit: 'BTCUSDT,ETHUSDT'}") as desk:
        await until(lambda: "BTCUSDT" in desk.engine.marks)
        assert "ETHUSDT" not in desk.engine.marks
        venue.mark("ETHUSDT", "3000")
        await until(lambda: "ETHUSDT" in desk.engine.marks)


async def test_a_jump_waits_for_a_second_price(venue: FakeVenue) -> None:
    async with live_service(venue, prices__feeds="{bybit: BTCUSDT}", pace=paced(mark_poll_seconds=0.3)) as desk:
        await until(lambda: "BTCUSDT" in desk.engine.marks)
        asked = venue.count("marks")
        venue.mark("BTCUSDT", "20000")
        await until(lambda: venue.count("marks") > asked)
        assert desk.engine.marks["BTCUSDT"].price == 50_000
        await until(lambda: desk.engine.marks["BTCUSDT"].price == 20_000)


async def test_when_its_prices_stay_away_a_live_account_is_unknown(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue, prices__mark_max_age_seconds="1", prices__pre_trade_max_age_seconds="1") as desk:
        await open_live(desk)
        venue.fail("marks", UNREACHABLE)
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN)
        venue.heal()
        await until(lambda: desk.engine.account("alice").level is RiskLevel.NORMAL)


# Instruments that are learned when they are named


async def test_an_instrument_is_read_from_the_venue_when_somebody_names_it() -> None:
    venue = FakeVenue("bybit", symbols=("BTCUSDT", "ETHUSDT"))
    venue.mark("BTCUSDT", "50000")
    venue.mark("ETHUSDT", "3000")
    async with live_service(venue) as desk:
        await open_live(desk)
        assert "bybit:ETHUSDT" not in desk.engine.house.instruments
        answer = await desk.reserve("alice", BUY, "0.1", "ETHUSDT")
        assert answer.accepted and answer.reservation.order.symbol == "bybit:ETHUSDT"
        first = desk.engine.marks["bybit:ETHUSDT"]
        await until(lambda: desk.engine.marks["bybit:ETHUSDT"] is not first, "its marks are not kept up")


async def test_a_name_that_the_venue_does_not_trade_is_said(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await desk.reserve("alice", BUY, "0.1", "NONEUSDT")
        assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_UNKNOWN_INSTRUMENT]
        request = leverage_service_pb2.SetLeverageRequest(
            request_id="r", account_id="alice", symbol="NONEUSDT", leverage="3"
        )
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await desk.leverage.SetLeverage(request)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        assert "does not trade bybit:NONEUSDT" in (raised.value.details() or "")


async def test_the_plain_and_the_full_name_mean_the_same_on_a_live_account(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        plain, full = await desk.reserve("alice", BUY, "0.01"), await desk.reserve("alice", BUY, "0.01", BTC)
        assert plain.reservation.order.symbol == full.reservation.order.symbol == BTC
        assert (await set_leverage(desk, "3")).setting.symbol == BTC
        await desk.open("paper-1", "10000", "USDT")
        await desk.mark({"BTCUSDT": "50000"})
        assert (await desk.reserve("paper-1", BUY, "0.01")).reservation.order.symbol == "BTCUSDT"
        listed = await desk.leverage.ListLeverageLimits(
            leverage_service_pb2.ListLeverageLimitsRequest(account_id="alice")
        )
        assert [one.symbol for one in listed.limits] == [BTC]
        assert D(listed.limits[0].maximum) == 5


# The client library


WITHOUT = """
import asyncio, sys
from debt_mgmt.server import app
from debt_mgmt.server.config import read_settings
from debt_mgmt.server.journal.memory_journal import MemoryJournal

async def main():
    settings = read_settings(environment={}, flags={"server.address": "127.0.0.1:0", "server.metrics_port": "0", %s})
    service = await app.start(settings, journal=MemoryJournal())
    for _ in range(%s):
        if "ccxt.pro" in sys.modules:
            break
        await asyncio.sleep(0.1)
    print("ccxt" in sys.modules)
    await service.stop()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("flags", "looks", "loaded"),
    [
        ("", 0, False),
        ('"brokers.bybit.enabled": "true"', 0, False),
        ('"prices.feeds": "{bybit: BTCUSDT}", "brokers.bybit.url": "http://127.0.0.1:9"', 300, True),
    ],
    ids=["nothing configured", "an exchange enabled and no account there", "a feed"],
)
def test_the_client_library_is_loaded_only_when_an_account_or_a_feed_needs_it(
    flags: str, looks: int, loaded: bool
) -> None:
    paths = [str(PROJECT / folder) for folder in ("core", "server", "client")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT % (flags, looks)],
        env={"PYTHONPATH": ":".join(paths), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == str(loaded), done.stderr[-2000:]
