"""Paper trading through the SDK and the command line: orders placed, filled by marks, cancelled, listed."""

import asyncio
import json
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from debt_mgmt.client import MarginClient, Order, OrderState, Refused, TimeInForce
from debt_mgmt.server.cli.program import app
from tests.support.service import service

MARKS = {"BTCUSDT": "50000", "ETHUSDT": "3000"}


async def test_a_strategy_practises_on_paper() -> None:
    async with service(sandbox__fill_depth="1000") as desk, MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        await desk.open("alice", "10000", currency="USDT")
        await desk.mark(MARKS)
        bought = await client.place_order("alice", Order.buy("BTCUSDT", "0.05"))
        assert bought.accepted
        assert bought.order is not None
        assert (bought.order.state, bought.order.filled_quantity) == (OrderState.OPEN, Decimal("0.02"))
        assert [(fill.quantity, fill.price) for fill in bought.fills] == [
            (bought.order.filled_quantity, Decimal(50000))
        ]
        resting = await client.place_order("alice", Order.sell("BTCUSDT", "0.05", "52000"), client_order_id="exit")
        assert resting.order is not None
        assert resting.order.remaining_quantity == resting.order.order.quantity
        await desk.mark({"BTCUSDT": "50100"})
        await desk.mark({"BTCUSDT": "50200"})
        first, second = await client.orders("alice", include_ended=True)
        assert (first.state, first.filled_quantity) == (OrderState.FILLED, first.order.quantity)
        assert (second.state, second.client_order_id, second.expire_time) == (OrderState.OPEN, "exit", None)
        assert [one.order_id for one in await client.orders("alice")] == [second.order_id]
        status = await client.margin_status("alice")
        assert status.open_reservations == 1
        cancelled = await client.cancel_order("alice", resting.order_id)
        assert cancelled.order is not None
        assert (cancelled.order.state, cancelled.order.remaining_quantity) == (OrderState.CANCELLED, Decimal(0))
        assert cancelled.order.end_time is not None
        again = await client.cancel_order("alice", resting.order_id)
        assert [one.reason for one in again.violations] == ["ORDER_NOT_FOUND"]
        refused = await client.place_order("alice", Order.buy("BTCUSDT", "3"))
        assert not refused.accepted
        assert refused.largest_buy is not None
        with pytest.raises(Refused, match="INSUFFICIENT_MARGIN"):
            refused.raise_if_refused()
        quick = await client.place_order("alice", Order.buy("ETHUSDT", "2"), time_in_force=TimeInForce.IOC)
        assert quick.order is not None
        assert (quick.order.state, quick.order.filled_quantity) == (OrderState.CANCELLED, quick.fills[0].quantity)


async def test_the_command_line_places_lists_and_cancels() -> None:
    async with service() as desk:
        await desk.open("alice", "10000", currency="USDT")
        await desk.mark(MARKS)
        target = f"127.0.0.1:{desk.running.port}"

        async def run(*arguments: str) -> tuple[int, str]:
            """The command line in a thread of its own, as it runs its own loop."""
            result = await asyncio.to_thread(CliRunner().invoke, app, ["order", *arguments, "--target", target])
            return result.exit_code, result.stdout

        status, told = await run(
            "place", "alice", "buy", "0.1", "BTCUSDT", "--price", "49000", "--lasts", "3600", "--json"
        )
        assert status == 0
        placed = json.loads(told)["outcome"]["order"]
        assert (placed["state"], placed["remaining_quantity"]) == ("OPEN", "0.1")
        status, told = await run("place", "alice", "sell", "0.01", "BTCUSDT")
        assert status == 0
        assert "FILLED" in told
        assert "filled 0.01 at 50,000" in told
        status, told = await run("place", "alice", "buy", "9", "BTCUSDT", "--time-in-force", "fok")
        assert status == 1
        assert "INSUFFICIENT_MARGIN" in told
        status, told = await run("list", "alice", "--ended")
        assert status == 0
        assert placed["order_id"] in told
        status, told = await run("cancel", "alice", placed["order_id"])
        assert (status, "CANCELLED" in told) == (0, True)
        status, told = await run("cancel", "alice", placed["order_id"])
        assert (status, "ORDER_NOT_FOUND" in told) == (1, True)
        status, told = await run("list", "alice")
        assert "no orders" in told
        assert desk.engine.account("alice").past_orders[-1].ended_at is not None
