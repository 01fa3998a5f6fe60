"""Carries out reductions: takes the next open step of an account's plan to its broker, and brings the outcome back."""

import asyncio
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Reduction, ReductionCause, ReductionStep, RiskLevel, position_key
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    Broker,
    BrokerFill,
    BrokerOrder,
    Denied,
    Rejected,
    StillOpen,
    Unreachable,
)

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0


class Reductions:
    """At most one runner an account. The plan is in the account's state, so a restart goes on where it stopped."""

    def __init__(self, broker_of: Callable[[Account], Broker]) -> None:
        self.broker_of = broker_of
        self.engine: Engine
        self.runners: dict[str, asyncio.Task[None]] = {}
        self.doubtful: set[str] = set()
        """Client order ids of orders that may be at the broker: they are looked up before they are sent."""
        self.stopping = False

    def resume(self, account: Account) -> None:
        """Go on with the reduction of an account as it was loaded. An earlier run may have sent its orders."""
        if account.reduction is not None:
            self.doubtful.update(step.client_order_id for step in account.reduction.open_steps)
            self.notice(account.account_id)

    def notice(self, account_id: str) -> None:
        """The account has, or had, a reduction: make sure that somebody carries it out."""
        if self.stopping or account_id in self.runners:
            return
        task = asyncio.create_task(self.run(account_id), name=f"reduction {account_id}")
        self.runners[account_id] = task
        task.add_done_callback(lambda done: self.finished(account_id, done))

    def finished(self, account_id: str, task: asyncio.Task[None]) -> None:
        self.runners.pop(account_id, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the reduction of %s stopped and is taken up again", account_id, exc_info=task.exception())
            if not self.stopping:
                asyncio.get_running_loop().call_later(1.0, self.notice, account_id)
        elif not self.stopping:
            reduction = self.engine.account(account_id).reduction
            if reduction is not None and reduction.open_steps:
                self.notice(account_id)

    async def idle(self, account_id: str, timeout_seconds: float | None = None) -> bool:
        """Wait until no runner works on the account; False when that takes longer than `timeout_seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds if timeout_seconds is not None else None
        while (task := self.runners.get(account_id)) is not None:
            left = None if end is None else max(0.0, end - loop.time())
            _, pending = await asyncio.wait({task}, timeout=left)
            if pending:
                return False
            await asyncio.sleep(0)
        return True

    async def stop(self) -> None:
        """Stop at once: what is not journaled yet is found again at the next start."""
        self.stopping = True
        tasks = list(self.runners.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self, account_id: str) -> None:
        wait = RETRY_SECONDS_MIN
        while True:
            account = self.engine.account(account_id)
            reduction = account.reduction
            if reduction is None or not reduction.open_steps:
                return
            step = reduction.open_steps[0]
            forced = step.cause is not ReductionCause.REQUESTED
            if forced and (account.level is RiskLevel.UNKNOWN or not self.engine.is_priced(account)):
                await asyncio.sleep(RETRY_SECONDS_MIN)
                continue
            try:
                await self.carry_out(account, reduction, step)
                wait = RETRY_SECONDS_MIN
            except (Unreachable, Denied) as error:
                logger.warning("reduction %s of %s waits: %s", reduction.plan_id, account_id, error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)

    async def carry_out(self, account: Account, reduction: Reduction, step: ReductionStep) -> None:
        """Place one order, or find out what became of it, and record the outcome."""
        broker, order_id = self.broker_of(account), step.client_order_id
        try:
            fill = await self.look_up(broker, step) if order_id in self.doubtful else None
        except Rejected as error:
            await self.end_step(account, reduction, step, f"ended at the broker: {error}")
            return
        if fill is None:
            position = account.positions.get(position_key(step.symbol, step.position_side))
            if position is None or position.quantity * step.side.sign >= 0:
                await self.end_step(account, reduction, step, "nothing is left to reduce")
                return
            try:
                fill = await self.place(broker, account, step, min(step.quantity, abs(position.quantity)))
            except Ambiguous as error:
                logger.warning("order %s: %s; it is looked up, not sent again", order_id, error)
                await asyncio.sleep(RETRY_SECONDS_MIN)
                return
            except Rejected as error:
                await self.end_step(account, reduction, step, f"refused by the broker: {error}")
                return
        recorded = await self.engine.submit(
            account.account_id,
            c.RecordFill(
                fill_id=fill.fill_id,
                symbol=step.symbol,
                side=step.side,
                quantity=fill.quantity,
                price=fill.price,
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                position_side=step.position_side,
                order_id=order_id,
                plan_id=reduction.plan_id,
                step=step.step,
            ),
            request_id="",
            actor=SYSTEM,
        )
        if recorded.events and isinstance(recorded.events[0], e.CommandRefused):
            await self.end_step(account, reduction, step, "its fill does not fit the position")
        self.doubtful.discard(order_id)

    async def place(self, broker: Broker, account: Account, step: ReductionStep, quantity: Decimal) -> BrokerFill:
        """Send the order of a step. Until its outcome is recorded, it counts as one that may be at the broker."""
        order = BrokerOrder(
            account_id=account.account_id,
            environment=account.environment,
            client_order_id=step.client_order_id,
            symbol=step.symbol,
            position_side=step.position_side,
            side=step.side,
            quantity=quantity,
            reduce_only=True,
        )
        self.doubtful.add(order.client_order_id)
        try:
            return await broker.place(order)
        except Unreachable:
            self.doubtful.discard(order.client_order_id)
            raise

    async def look_up(self, broker: Broker, step: ReductionStep) -> BrokerFill | None:
        """The fill of an order of unknown outcome; None when the broker never had it, so it may be placed again."""
        wait = RETRY_SECONDS_MIN
        while True:
            found = await broker.find(step.client_order_id, step.symbol)
            if not isinstance(found, StillOpen):
                return found
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    async def end_step(self, account: Account, reduction: Reduction, step: ReductionStep, note: str) -> None:
        self.doubtful.discard(step.client_order_id)
        await self.engine.submit(
            account.account_id,
            c.EndReductionStep(reduction.plan_id, step.step, note),
            request_id="",
            actor=SYSTEM,
        )
