"""A real service for tests: in this process, on a free loopback port, on a memory or an embedded journal."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import grpc

from debt_mgmt.server import app
from debt_mgmt.server.config import read_settings
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.live.pace import Pace
from debt_mgmt.server.live.venues import Venues
from debt_mgmt.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    audit_service_pb2_grpc,
    debt_service_pb2_grpc,
    fund_service_pb2,
    fund_service_pb2_grpc,
    leverage_service_pb2,
    leverage_service_pb2_grpc,
    margin_service_pb2,
    margin_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    risk_service_pb2_grpc,
    types_pb2,
)

NO_COSTS = {"sandbox.slippage_rate": "0", "sandbox.taker_fee_rate": "0", "sandbox.maker_fee_rate": "0"}
OPEN = {"risk_settings.new_instruments": "open"}
"""Tests put instruments to trade them at once."""


class Clock:
    """The service's time, which stands still until it is told to go on."""

    def __init__(self, now: datetime = datetime(2026, 3, 2, 9, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **length: float) -> None:
        self.now += timedelta(**length)


class Desk:
    """Stubs of every service on one channel, and the few calls that most tests begin with."""

    def __init__(self, running: app.RunningService, channel: grpc.aio.Channel) -> None:
        self.running = running
        self.engine = running.engine
        self.channel = channel
        self.accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        self.audit: Any = audit_service_pb2_grpc.AuditServiceStub(channel)
        self.debt: Any = debt_service_pb2_grpc.DebtServiceStub(channel)
        self.funds: Any = fund_service_pb2_grpc.FundServiceStub(channel)
        self.leverage: Any = leverage_service_pb2_grpc.LeverageServiceStub(channel)
        self.margin: Any = margin_service_pb2_grpc.MarginServiceStub(channel)
        self.market: Any = market_service_pb2_grpc.MarketServiceStub(channel)
        self.risk: Any = risk_service_pb2_grpc.RiskServiceStub(channel)
        self.numbers = count(1)

    def request_id(self) -> str:
        return f"test-{next(self.numbers)}"

    async def open(self, account_id: str, capital: str = "10000", currency: str = "USD", owner: str = "desk") -> None:
        await self.accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id=self.request_id(),
                account_id=account_id,
                owner=owner,
                currency=currency,
                initial_deposit=types_pb2.AssetAmount(asset=currency, amount=capital),
            )
        )

    async def lever(self, account_id: str, symbol: str, leverage: str) -> None:
        answer = await self.leverage.SetLeverage(
            leverage_service_pb2.SetLeverageRequest(
                request_id=self.request_id(), account_id=account_id, symbol=symbol, leverage=leverage
            )
        )
        assert answer.accepted, answer.violations

    async def mark(self, prices: Mapping[str, str | Decimal], *, settle: bool = True, tape: bool = False) -> None:
        """Publish marks and wait for all that follows."""
        request = market_service_pb2.PublishMarksRequest(
            marks=[
                market_service_pb2.MarkUpdate(symbol=symbol, price=str(price), source="test")
                for symbol, price in prices.items()
            ],
            clock=market_service_pb2.MARK_CLOCK_TAPE if tape else market_service_pb2.MARK_CLOCK_LIVE,
            settle=settle,
        )
        answer = await self.market.PublishMarks(iter([request]))
        assert answer.quarantined_count == 0, answer.quarantined

    async def fill(
        self,
        account_id: str,
        side: int,
        quantity: str,
        symbol: str,
        price: str,
        fill_id: str = "",
        fee: str = "0",
        position_side: int = types_pb2.POSITION_SIDE_UNSPECIFIED,
        reservation_id: str | None = None,
    ) -> Any:
        number = self.request_id()
        return await self.margin.RecordFill(
            margin_service_pb2.RecordFillRequest(
                request_id=number,
                account_id=account_id,
                symbol=symbol,
                side=side,  # type: ignore[arg-type]
                quantity=quantity,
                price=price,
                fill_id=fill_id or f"fill-{number}",
                fee=fee,
                position_side=position_side,  # type: ignore[arg-type]
                reservation_id=reservation_id,
            )
        )

    async def deposit(self, account_id: str, asset: str, amount: str) -> None:
        answer = await self.funds.Deposit(
            fund_service_pb2.DepositRequest(
                request_id=self.request_id(), account_id=account_id, asset=asset, amount=amount
            )
        )
        assert answer.accepted, answer.violations

    async def withdraw(self, account_id: str, asset: str, amount: str) -> None:
        answer = await self.funds.Withdraw(
            fund_service_pb2.WithdrawRequest(
                request_id=self.request_id(), account_id=account_id, asset=asset, amount=amount
            )
        )
        assert answer.accepted, answer.violations

    async def reserve(
        self,
        account_id: str,
        side: int,
        quantity: str,
        symbol: str = "BTCUSDT",
        *,
        price: str | None = None,
        reduce_only: bool = False,
        position_side: int = types_pb2.POSITION_SIDE_UNSPECIFIED,
    ) -> Any:
        return await self.margin.ReserveMargin(
            margin_service_pb2.ReserveMarginRequest(
                request_id=self.request_id(),
                account_id=account_id,
                order=types_pb2.Order(
                    symbol=symbol,
                    side=side,  # type: ignore[arg-type]
                    quantity=quantity,
                    price=price,
                    reduce_only=reduce_only,
                    position_side=position_side,  # type: ignore[arg-type]
                ),
            )
        )

    async def status(self, account_id: str) -> Any:
        request = margin_service_pb2.GetMarginStatusRequest(account_id=account_id)
        return (await self.margin.GetMarginStatus(request)).status


@asynccontextmanager
async def service(
    data_directory: Path | None = None,
    *,
    journal: Journal | None = None,
    clock: Callable[[], datetime] | None = None,
    venues: Venues | None = None,
    pace: Pace = Pace(),  # noqa: B008
    **flags: str,
) -> AsyncIterator[Desk]:
    """A running service: on an embedded PostgreSQL in `data_directory`, or on `journal`, or on a journal in memory."""
    given = {"server.address": "127.0.0.1:0", "server.metrics_port": "0", **NO_COSTS, **OPEN}
    given |= {name.replace("__", "."): value for name, value in flags.items()}
    if data_directory is not None:
        given["database.data_directory"] = str(data_directory)
    elif journal is None:
        journal = MemoryJournal()
    settings = read_settings(environment={}, flags=given)
    running = await app.start(settings, journal=journal, clock=clock, venues=venues, pace=pace)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield Desk(running, channel)
    finally:
        await running.stop()


@asynccontextmanager
async def slow_journal(desk: Desk, seconds: float = 0.3) -> AsyncIterator[None]:
    """Meanwhile every append to the journal takes its time."""
    journal: Any = desk.engine.journal
    append = journal.append

    async def later(rows: Any) -> None:
        await asyncio.sleep(seconds)
        await append(rows)

    journal.append = later
    try:
        yield
    finally:
        del journal.append
