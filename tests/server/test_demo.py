"""The account `demo` stays one that a newcomer can try the service with, whatever its market did before."""

import asyncio

from debt_mgmt.server.demo import DemoMarket
from debt_mgmt.server.prices.simulator import CRASH_EVERY_STEPS
from debt_mgmt.v1 import margin_service_pb2 as wire
from debt_mgmt.v1 import types_pb2
from tests.support.service import service


async def test_the_first_order_of_the_readme_fits_after_two_crashes_too() -> None:
    async with service() as desk:
        market = DemoMarket(desk.engine)
        await market.start()
        await market.stop()
        for _ in range(2 * CRASH_EVERY_STEPS + 100):
            await market.tick()
            await asyncio.sleep(0.001)
        account = desk.engine.account("demo")
        assert any(alert.kind == "LIQUIDATION_STARTED" for alert in account.alerts)
        order = types_pb2.Order(symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity="0.01")
        answer = await desk.margin.CheckOrder(wire.CheckOrderRequest(account_id="demo", order=order))
        assert answer.result.fits, answer.result.violations
