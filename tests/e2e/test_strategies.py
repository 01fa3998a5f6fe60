"""Strategies over the wire: on orders, reservations, paper orders, fills and positions, in the SDK and on HTTP."""

import asyncio
import json
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from debt_mgmt.client import (
    AssetAmount,
    InvalidRequest,
    MarginClient,
    Order,
    PositionSide,
    RequestIdReused,
    TradingState,
)
from debt_mgmt.core.commands import HaltHouse
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.cli.program import app
from tests.support.http import http
from tests.support.service import service

MARKS = {"BTCUSDT": "50000", "ETHUSDT": "3000"}
D = Decimal


async def test_an_order_and_its_fills_belong_to_a_strategy() -> None:
    async with service() as desk, MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        await desk.open("alice", "100000", currency="USDT")
        await desk.mark(MARKS)
        order = Order.buy("BTCUSDT", "0.3", strategy="momo")
        held = (await client.reserve("alice", order, request_id="once")).raise_if_refused()
        assert held.reservation is not None and held.reservation.order.strategy == "momo"
        assert [one.order.strategy for one in await client.reservations("alice")] == ["momo"]
        assert (await client.reserve("alice", order, request_id="once")).replayed
        with pytest.raises(RequestIdReused):
            await client.reserve("alice", Order.buy("BTCUSDT", "0.3", strategy="carry"), request_id="once")
        first = await client.record_fill(
            "alice", "BTCUSDT", "buy", "0.3", 50000, fill_id="f1", reservation_id=held.reservation_id
        )
        assert first.fill is not None and first.fill.strategy == "momo"
        second = await client.record_fill("alice", "BTCUSDT", "buy", "0.1", 50000, fill_id="f2", strategy="carry")
        assert second.fill is not None and second.fill.strategy == "carry"
        assert second.position is not None
        told = [(one.strategy, one.quantity) for one in second.position.strategies]
        assert told == [("carry", D("0.1")), ("momo", D("0.3"))]
        placed = (await client.place_order("alice", Order.sell("ETHUSDT", "0.5", strategy="hedge"))).raise_if_refused()
        assert placed.order is not None and placed.order.order.strategy == "hedge"
        assert [one.strategy for one in placed.fills] == ["hedge"]
        (ended,) = await client.orders("alice", include_ended=True)
        assert ended.order.strategy == "hedge"
        await client.close_position("alice", "BTCUSDT", quantity="0.2")
        bitcoin, ether = await client.positions("alice")
        assert {one.strategy: one.quantity for one in bitcoin.strategies} == {"carry": D("0.05"), "momo": D("0.15")}
        assert {one.strategy: one.quantity for one in ether.strategies} == {"hedge": D("-0.5")}
        await client.close_position("alice", "ETHUSDT")
        assert [one.symbol for one in await client.positions("alice")] == ["BTCUSDT"]
        with pytest.raises(InvalidRequest, match=r"order\.strategy"):
            await client.check_order("alice", Order.buy("BTCUSDT", 1, strategy="a b"))


async def test_the_legs_of_a_hedge_have_strategies_of_their_own() -> None:
    async with service() as desk, MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        await desk.mark(MARKS)
        await client.create_account(
            "both", currency="USDT", position_mode="hedge", initial_deposit=AssetAmount("USDT", 10_000)
        )
        for number, (side, leg, strategy) in enumerate(
            [("buy", PositionSide.LONG, "up"), ("sell", PositionSide.SHORT, "down")]
        ):
            await client.record_fill(
                "both", "BTCUSDT", side, "0.1", 50000, fill_id=f"f{number}", position_side=leg, strategy=strategy
            )
        found = {one.position_side: one.strategies for one in await client.positions("both")}
        assert [(one.strategy, one.quantity) for one in found[PositionSide.LONG]] == [("up", D("0.1"))]
        assert [(one.strategy, one.quantity) for one in found[PositionSide.SHORT]] == [("down", D("-0.1"))]


async def test_an_account_says_which_of_its_strategies_are_halted() -> None:
    async with service() as desk, MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        await desk.open("alice", "10000", currency="USDT")
        await desk.engine.submit_house(HaltHouse("odd fills", strategy="momo"), request_id="", actor=SYSTEM)
        found = await client.risk_limits("alice")
        assert found.trading_state is TradingState.ACTIVE
        assert found.trading_state_reason == "strategy momo is halted: odd fills"


async def test_the_command_line_shows_strategies() -> None:
    async with service() as desk:
        await desk.open("alice", "10000", currency="USDT")
        await desk.mark(MARKS)
        target = f"127.0.0.1:{desk.running.port}"

        async def run(*words: str) -> str:
            done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--target", target])
            assert done.exit_code == 0, done.output
            return done.output

        placed = await run("order", "place", "alice", "buy", "0.01", "BTCUSDT", "--strategy", "momo")
        assert "of momo" in placed
        assert "momo 0.01" in await run("positions", "alice")
        told = json.loads(await run("positions", "alice", "--json"))
        assert told["positions"][0]["strategies"] == [{"strategy": "momo", "quantity": "0.01"}]
        assert "momo" in await run("what-if", "alice", "--order", "buy 0.01 BTCUSDT of momo")


async def test_strategies_and_halts_over_http() -> None:
    async with service() as desk, http(desk.running.metrics_port) as web:
        await desk.open("alice", "10000", currency="USDT")
        await desk.mark(MARKS)
        halt = {"request_id": "h", "node": {"account_id": "alice", "strategy": "momo"}, "reason": "odd fills"}
        assert (await web.call("RiskService/HaltTrading", halt)).json["accepted"] is True
        order = {"symbol": "BTCUSDT", "side": "SIDE_BUY", "quantity": "0.01", "strategy": "momo"}
        refused = await web.call("MarginService/CheckOrder", {"account_id": "alice", "order": order})
        (violation,) = refused.json["result"]["violations"]
        assert violation["scope"] == {"owner": "", "account_id": "alice", "strategy": "momo", "symbol": ""}
        (listed,) = (await web.call("RiskService/ListHalts")).json["halts"]
        assert (listed["scope"]["strategy"], listed["reason"]) == ("momo", "odd fills")
