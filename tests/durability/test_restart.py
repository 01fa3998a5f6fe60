"""After a kill the service knows what it knew: levels, alerts, breakers, halts, and what is reserved until when."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import AlertKind, BreakerKind, Environment, RiskLevel, Side, TradingState
from debt_mgmt.server import app
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.config import read_settings
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.postgres import EmbeddedPostgres
from debt_mgmt.server.prices.marks import MarkUpdate
from debt_mgmt.v1 import account_service_pb2, leverage_service_pb2, margin_service_pb2, risk_service_pb2, types_pb2
from tests.durability.load import Line
from tests.durability.program import Program, journal_of, running
from tests.durability.proof import Proof

D = Decimal
NORMAL, WARNING, CRITICAL = RiskLevel.NORMAL, RiskLevel.WARNING, RiskLevel.CRITICAL
UNKNOWN = RiskLevel.UNKNOWN
ACTIVE, REDUCING = types_pb2.TRADING_STATE_ACTIVE, types_pb2.TRADING_STATE_REDUCING
HALTED = types_pb2.TRADING_STATE_HALTED

BEFORE = {"BTCUSDT": D(50_000), "ETHUSDT": D(3_000)}
FALLEN = {"BTCUSDT": D(45_000), "ETHUSDT": D(2_700)}

HELD = {"calm": "0.1", "warned": "2.8", "critical": "3.15", "halted": "0.1", "broken": "1.2"}
"""Bitcoin held, five times levered, by what becomes of the account when the price falls by a tenth."""

PRICES_LAST_SECONDS = 4
SETTINGS = {
    "prices.mark_max_age_seconds": str(PRICES_LAST_SECONDS),
    "prices.pre_trade_max_age_seconds": str(PRICES_LAST_SECONDS),
    "risk_settings.max_daily_loss_fraction": "0.10",
}
SHORT_SECONDS = 1.0
WAIT_SECONDS_MOST = 20.0


async def open_account(line: Line, account_id: str, *, owner: str = "desk") -> None:
    await line.accounts.CreateAccount(
        account_service_pb2.CreateAccountRequest(
            request_id="open",
            account_id=account_id,
            owner=owner,
            currency="USDT",
            initial_deposit=types_pb2.AssetAmount(asset="USDT", amount="50000"),
        )
    )
    await line.leverage.SetLeverage(
        leverage_service_pb2.SetLeverageRequest(
            request_id="leverage", account_id=account_id, symbol="BTCUSDT", leverage="5"
        )
    )


async def buy(line: Line, account_id: str, quantity: str, symbol: str = "BTCUSDT") -> None:
    await line.margin.RecordFill(
        margin_service_pb2.RecordFillRequest(
            request_id=f"buy-{symbol}",
            account_id=account_id,
            symbol=symbol,
            side=types_pb2.SIDE_BUY,
            quantity=quantity,
            price=str(BEFORE[symbol]),
            fill_id="buy",
            fee="0",
        )
    )


async def reserve(line: Line, account_id: str, lasts: timedelta) -> Any:
    request = margin_service_pb2.ReserveMarginRequest(
        request_id=f"reserve-{lasts}",
        account_id=account_id,
        order=types_pb2.Order(symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity="0.01", price="45000"),
    )
    request.time_to_live.FromTimedelta(lasts)
    answer = await line.margin.ReserveMargin(request)
    assert answer.accepted, answer.violations
    return answer.reservation.reservation_id


async def halt(line: Line, request_id: str, **scope: Any) -> None:
    answer = await line.risk.HaltTrading(
        risk_service_pb2.HaltTradingRequest(request_id=request_id, reason="to be sure", **scope)
    )
    assert answer.accepted


async def state_of(line: Line, account_id: str) -> Any:
    answer = await line.risk.GetRiskLimits(risk_service_pb2.GetRiskLimitsRequest(account_id=account_id))
    return answer.trading_state


async def until(journal: Journal, proof: Proof, done: Callable[[], bool], what: str) -> None:
    end = time.perf_counter() + WAIT_SECONDS_MOST
    while True:
        await proof.follow(journal)
        if done():
            return
        assert time.perf_counter() < end, what
        await asyncio.sleep(0.05)


@asynccontextmanager
async def at_rest(directory: Path) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the database that a killed service left."""
    server = EmbeddedPostgres(directory)
    await server.start()
    try:
        connection = await asyncpg.connect(server.dsn)
        try:
            yield connection
        finally:
            await connection.close()
    finally:
        await server.stop()


async def test_a_killed_service_knows_what_it_knew(data_directory: Path) -> None:
    line, proof = Line(), Proof()
    accounts = proof.accounts
    async with running(data_directory, SETTINGS) as program, journal_of(program) as journal:
        await line.connect(program.target)
        await line.publish(BEFORE)
        for account_id, quantity in HELD.items():
            await open_account(line, account_id)
            await buy(line, account_id, quantity)
            await buy(line, account_id, "0.1", "ETHUSDT")
        await open_account(line, "of-another", owner="another")
        await open_account(line, "reserving")
        await halt(line, "halt-account", account_id="halted")
        await halt(line, "halt-owner", owner="another")
        await line.publish(FALLEN)
        short = await reserve(line, "reserving", timedelta(seconds=SHORT_SECONDS))
        long = await reserve(line, "reserving", timedelta(hours=1))
        await proof.follow(journal)
        before = dict(accounts)
    assert [before[name].level for name in ("calm", "warned", "critical")] == [NORMAL, WARNING, CRITICAL]
    assert before["critical"].trading_state is TradingState.REDUCING
    assert before["halted"].trading_state is TradingState.HALTED
    assert set(before["broken"].breakers) == {BreakerKind.DAILY_LOSS}
    assert set(before["reserving"].reservations) == {short, long}
    fills = len(proof.fills)
    await asyncio.sleep(SHORT_SECONDS)

    async with running(data_directory, SETTINGS) as program, journal_of(program) as journal:
        await line.connect(program.target)
        for symbol in reversed(FALLEN):
            await line.publish({symbol: FALLEN[symbol]})
        await until(journal, proof, lambda: short not in accounts["reserving"].reservations, "a reservation lives on")
        assert set(accounts["reserving"].reservations) == {long}
        for account_id in HELD:
            assert accounts[account_id] == before[account_id], f"{account_id} is not what it was"
        for account_id, state in (("halted", HALTED), ("of-another", HALTED), ("critical", REDUCING), ("calm", ACTIVE)):
            assert await state_of(line, account_id) == state

    async with running(data_directory, SETTINGS) as program, journal_of(program) as journal:
        await line.connect(program.target)
        await until(journal, proof, lambda: all(accounts[name].level is UNKNOWN for name in HELD), "blind, and silent")
        for account_id in HELD:
            news = accounts[account_id].alerts[len(before[account_id].alerts) :]
            assert [alert.kind for alert in news] == [AlertKind.LEVEL_UNKNOWN]
        await line.publish(FALLEN)
        await until(
            journal, proof, lambda: all(accounts[name].level is before[name].level for name in HELD), "no level returns"
        )
        assert len(proof.fills) == fills, "something was sold"
        for account_id in HELD:
            was, now = before[account_id], accounts[account_id]
            assert (now.breakers, now.baselines, now.trading_state) == (was.breakers, was.baselines, was.trading_state)
    await line.close()


async def test_a_journal_that_was_tampered_with_stops_the_start_and_is_named(data_directory: Path) -> None:
    line = Line()
    async with running(data_directory) as program, journal_of(program) as journal:
        await line.connect(program.target)
        await open_account(line, "honest")
        await line.close()
        (row,) = await journal.list_rows(account_id="honest", kinds=["AccountCreated"])
    async with at_rest(data_directory) as connection:
        done = await connection.execute(
            "UPDATE debt_mgmt.journal SET payload = replace(payload::text, '50000', '90000')::json"
            " WHERE shard = $1 AND position = $2",
            row.shard,
            row.position,
        )
        assert done == "UPDATE 1"
    program = Program(data_directory)
    try:
        assert await program.ended(WAIT_SECONDS_MOST) != 0
        assert f"log of shard {row.shard} is damaged at position {row.position}" in program.log
        assert program.target == "", "it never served"
    finally:
        await program.clear_away()


class Clock:
    """Shows the time that it was set to."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


async def test_a_day_that_began_while_the_service_was_down_is_begun_at_its_start() -> None:
    journal, clock = MemoryJournal(), Clock(datetime(2026, 1, 5, 22, tzinfo=UTC))
    settings = read_settings(environment={}, flags={"server.address": "127.0.0.1:0", "server.metrics_port": "0"})

    @asynccontextmanager
    async def engine_at(price: str) -> AsyncIterator[Engine]:
        service = await app.start(settings, journal=journal, clock=clock)
        try:
            await service.engine.publish([MarkUpdate("BTCUSDT", price, "test")])
            yield service.engine
        finally:
            await service.stop()

    async with engine_at("50000") as engine:
        opened = c.CreateAccount("a", "desk", "paper", Environment.SANDBOX, "USDT", deposit_amount=D(50_000))
        await engine.submit("a", opened, request_id="open", actor=SYSTEM, owner="desk")
        fill = c.RecordFill("buy", "BTCUSDT", Side.BUY, D(1), D(50_000))
        await engine.submit("a", fill, request_id="buy", actor=SYSTEM)
        kept = engine.account("a").baselines
        assert kept is not None and (kept.day, kept.day_equity) == ("2026-01-05", D(50_000))

    clock.at += timedelta(hours=4)
    async with engine_at("47000") as engine:
        await engine.sweep()
        kept = engine.account("a").baselines
        assert kept is not None and (kept.day, kept.day_equity) == ("2026-01-06", D(47_000))
