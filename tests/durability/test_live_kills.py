"""Kill -9 of a service with a live account, while its venue carries an order out: nothing is sent a second time."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pytest

from debt_mgmt.server.brokers.credentials import variable_of
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.v1 import account_service_pb2, account_service_pb2_grpc, types_pb2
from tests.durability.program import Program, running
from tests.support.falling import ACCOUNT, PLACES, Fall
from tests.support.venues.records import Status
from tests.support.venues.venue import FaultKind

BROKER = "bybit"
GAP = Decimal("0.29")
"""Prices fall by so much at once that closing bitcoin alone is not enough."""
WAIT_SECONDS_MOST = 60.0


async def until(holds: Callable[[], Any], program: Program, what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS_MOST
    while not holds():
        assert time.monotonic() < end, f"{what}: {program.log}"
        await asyncio.sleep(0.02)


async def open_account(program: Program, currency: str) -> None:
    """The account of the venue, once it was read for the first time."""
    async with grpc.aio.insecure_channel(program.target) as channel:
        accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        await accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id="open",
                account_id=ACCOUNT,
                broker=BROKER,
                environment=types_pb2.ENVIRONMENT_LIVE,
                currency=currency,
                dry_run=False,
            )
        )
        end = time.monotonic() + WAIT_SECONDS_MOST
        while True:
            shown = await accounts.GetAccount(account_service_pb2.GetAccountRequest(account_id=ACCOUNT))
            if shown.account.sync.status == account_service_pb2.SYNC_STATUS_FRESH:
                return
            assert time.monotonic() < end, f"it was never read: {program.log}"
            await asyncio.sleep(0.05)


async def test_orders_that_the_venue_executes_while_the_service_is_killed_are_not_sent_again(
    data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fall = Fall(PLACES[BROKER])
    profile = PROFILES[BROKER]
    parts = {"apiKey": fall.venue.key, "secret": fall.venue.secret}
    for part in profile.credentials:
        monkeypatch.setenv(variable_of(profile, part), parts[part.ccxt_name])
    async with fall.venue:
        settings = {
            f"brokers.{BROKER}.enabled": "true",
            f"brokers.{BROKER}.testnet": "false",
            f"brokers.{BROKER}.url": fall.venue.url,
            "prices.deviation_guard": "0.9",
        }
        async with running(data_directory, settings) as program:
            await open_account(program, fall.place.cash)
            fall.venue.fault(f"^{fall.place.cancels}$", FaultKind.HANGS_AFTER)
            fall.move(GAP)
            await until(lambda: not fall.venue.faults, program, "nothing was cancelled")
            program.kill()
        fall.venue.fault(f"^{fall.place.orders}$", FaultKind.HANGS_AFTER)
        async with running(data_directory, settings) as program:
            await until(lambda: not fall.venue.faults, program, "nothing was reduced")
            program.kill()
        assert len(fall.executed()) == 1
        async with running(data_directory, settings) as program:
            await until(lambda: len(fall.executed()) > 1, program, "the second order never came")
            await asyncio.sleep(2.0)
            assert fall.writes().count("order") == len(fall.executed())
            assert fall.adding.status is Status.CANCELLED
            assert await program.stop() == 0
