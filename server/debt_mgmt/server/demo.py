"""The sandbox account `demo` on a simulated market, so that the first call returns living numbers."""

import asyncio
import logging
from decimal import Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Environment, Limits, Side
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.prices.marks import MarkUpdate
from debt_mgmt.server.prices.simulator import MarketSimulator

logger = logging.getLogger(__name__)

ACCOUNT = "demo"
OWNER = "demo"
LEVERAGE = Decimal(5)
CAPITAL = Decimal(10_000)
OPENING = {"BTCUSDT": Decimal("0.3"), "ETHUSDT": Decimal("4")}
"""What the account holds when it is made: long, in contracts."""
LIMITS = Limits(max_daily_loss_fraction=Decimal("0.90"), max_drawdown_fraction=Decimal("0.90"))
"""Its market falls every few minutes: by the house's limits it could not be traded for the rest of the day."""

INTERVAL_SECONDS = 0.5
SEED = 7


class DemoMarket:
    """Publishes simulated prices and keeps the account `demo`."""

    def __init__(self, engine: Engine, *, seed: int = SEED, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.engine = engine
        self.simulator = MarketSimulator(seed=seed)
        self.interval_seconds = interval_seconds
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.tick()
        if ACCOUNT not in self.engine.home:
            await self.open_account()
        self.task = asyncio.create_task(self.run(), name="demo market")

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.interval_seconds)
            try:
                await self.tick()
            except Exception:
                logger.exception("a step of the simulated market failed; the next one comes in a moment")

    async def tick(self) -> None:
        prices = self.simulator.step()
        updates = [MarkUpdate(symbol, str(price), "simulator") for symbol, price in prices.items()]
        await self.engine.publish(updates)

    async def open_account(self) -> None:
        """10,000 USDT, 5x, a long position in two instruments bought at the first prices."""
        submit = self.engine.submit
        await submit(
            ACCOUNT,
            c.CreateAccount(
                ACCOUNT, OWNER, "paper", Environment.SANDBOX, "USDT", deposit_asset="USDT", deposit_amount=CAPITAL
            ),
            request_id="demo-account",
            actor=SYSTEM,
            owner=OWNER,
        )
        limits = c.SetLimits(LIMITS, ("max_daily_loss_fraction", "max_drawdown_fraction"), "its market crashes often")
        await submit(ACCOUNT, limits, request_id="demo-limits", actor=SYSTEM)
        for symbol, quantity in OPENING.items():
            await submit(ACCOUNT, c.SetLeverage(symbol, LEVERAGE), request_id=f"demo-leverage-{symbol}", actor=SYSTEM)
            price = self.engine.marks[symbol].price
            await submit(
                ACCOUNT,
                c.RecordFill(f"demo-{symbol}", symbol, Side.BUY, quantity, price),
                request_id=f"demo-fill-{symbol}",
                actor=SYSTEM,
            )
