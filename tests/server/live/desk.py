"""What the tests of live accounts do and look at: the service before a fake venue, and waiting for what comes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import Account, AlertKind
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.live.pace import Pace
from debt_mgmt.v1 import account_service_pb2, leverage_service_pb2, types_pb2
from tests.support.live_broker import FakeVenue, FakeVenues
from tests.support.service import Desk, service

D = Decimal
BTC = "bybit:BTCUSDT"
FAST = Pace(
    poll_seconds=0.05,
    mark_poll_seconds=0.1,
    connect_seconds=1.0,
    call_seconds=0.5,
    between_seconds=0.01,
    retry_seconds=0.02,
    backoff_seconds_min=0.05,
    backoff_seconds_max=0.2,
    quiet_seconds=0.5,
    look_seconds=0.05,
)
WAIT_SECONDS_MOST = 10.0


def paced(**seconds: float) -> Pace:
    """The pace of the tests, but for these."""
    return msgspec.structs.replace(FAST, **seconds)


@asynccontextmanager
async def live_service(
    venue: FakeVenue, *, journal: Journal | None = None, pace: Pace = FAST, **flags: Any
) -> AsyncIterator[Desk]:
    async with service(journal=journal, venues=FakeVenues(venue), pace=pace, **flags) as desk:
        yield desk


async def open_live(
    desk: Desk,
    account_id: str = "alice",
    *,
    dry_run: bool | None = False,
    environment: int = types_pb2.ENVIRONMENT_LIVE,
    broker: str = "bybit",
) -> Account:
    """A live account, once it was read for the first time."""
    await desk.accounts.CreateAccount(
        account_service_pb2.CreateAccountRequest(
            request_id=f"create-{account_id}",
            account_id=account_id,
            broker=broker,
            environment=environment,  # type: ignore[arg-type]
            dry_run=dry_run,
        )
    )
    await until(lambda: is_fresh(desk.engine.account(account_id)))
    return desk.engine.account(account_id)


def is_fresh(account: Account) -> bool:
    return account.sync is not None and account.sync.status == "FRESH"


async def until(holds: Callable[[], Any], what: str = "") -> None:
    """Wait until something is so."""
    end = time.monotonic() + WAIT_SECONDS_MOST
    while not holds():
        assert time.monotonic() < end, what or "it never came to be"
        await asyncio.sleep(0.005)


def kinds(account: Account) -> list[AlertKind]:
    return [alert.kind for alert in account.alerts]


async def set_leverage(desk: Desk, leverage: str, request_id: str = "", **more: Any) -> Any:
    return await desk.leverage.SetLeverage(
        leverage_service_pb2.SetLeverageRequest(
            request_id=request_id or desk.request_id(),
            account_id="alice",
            symbol="BTCUSDT",
            leverage=leverage,
        ),
        **more,
    )
