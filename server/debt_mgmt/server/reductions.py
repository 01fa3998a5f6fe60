"""Carries out reductions: cancels and orders of an account's plan go to its broker, and their outcome comes back."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    Environment,
    Reduction,
    ReductionCause,
    ReductionStep,
    RiskLevel,
    position_key,
)
from debt_mgmt.core.sync import DRY_RUN_NOTE, unsynced
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    Broker,
    BrokerFault,
    BrokerFill,
    BrokerOrder,
    Denied,
    Rejected,
    RejectionReason,
    StillOpen,
    Unreachable,
)

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0
LOOK_SECONDS = 1.0
LOOKS_LIVE = 3
"""A live venue that does not know an order is asked so often before the order counts as one that never came."""
CANCELS_TRIED = 3
"""A cancel that is not answered, or can't be sent, is tried so often; then reductions no longer wait for it, and it is
taken up again at the next sync."""


class Reductions:
    """At most one runner an account. The plan is in the account's state, so a restart goes on where it stopped."""

    def __init__(self, broker_of: Callable[[Account], Broker]) -> None:
        self.broker_of = broker_of
        self.engine: Engine
        self.runners: dict[str, asyncio.Task[None]] = {}
        self.doubtful: set[str] = set()
        """Client order ids of orders that may be at the broker: they are looked up before they are sent."""
        self.sent: Counter[str] = Counter()
        """Account id → orders sent for it, and fills found, since the start."""
        self.cancels_tried: Counter[tuple[str, str]] = Counter()
        self.stopping = False

    def resume(self, account: Account) -> None:
        """Go on with the reduction of an account as it was loaded. An earlier run may have sent its next order.

        No later one: orders leave one after the other, each after the outcome of the one before it is recorded.
        """
        if account.reduction is not None:
            self.doubtful.update(step.client_order_id for step in account.reduction.open_steps[:1])
        if account.reduction is not None or account.cancels:
            self.notice(account.account_id)

    def notice(self, account_id: str) -> None:
        """The account has, or had, a reduction or orders to cancel: make sure that somebody carries it out."""
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
            account = self.engine.account(account_id)
            if account.cancels or (account.reduction is not None and account.reduction.open_steps):
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

    def orders_sent(self, account_id: str) -> int:
        """Grows with every order sent and every fill found: what was read meanwhile may or may not have it in."""
        return self.sent[account_id]

    async def certain(self, account_id: str, seconds: float) -> bool:
        """Wait until the outcome of every order of the account is recorded; False when that takes longer."""
        end = asyncio.get_running_loop().time() + seconds
        while self.uncertain(account_id):
            if asyncio.get_running_loop().time() >= end:
                return False
            await asyncio.sleep(RETRY_SECONDS_MIN / 10)
        return True

    def uncertain(self, account_id: str) -> bool:
        reduction = self.engine.account(account_id).reduction
        return reduction is not None and any(step.client_order_id in self.doubtful for step in reduction.open_steps)

    async def run(self, account_id: str) -> None:
        """First what was sent before is looked up, then orders that add risk are cancelled, then positions reduced."""
        wait = RETRY_SECONDS_MIN
        while True:
            account = self.engine.account(account_id)
            reduction = account.reduction
            step = reduction.open_steps[0] if reduction is not None and reduction.open_steps else None
            blind = step is not None and step.cause is not ReductionCause.REQUESTED and self.is_blind(account)
            doubtful = step is not None and step.client_order_id in self.doubtful
            if blind and account.environment is Environment.SANDBOX:
                doubtful = False  # a live account is read only once this is known, so that can't wait for prices
            try:
                if reduction is not None and step is not None and doubtful:
                    await self.find_out(account, reduction, step)
                elif account.cancels:
                    await self.cancel(account)
                elif reduction is None or step is None:
                    return
                elif account.dry_run:
                    await self.end_step(account, reduction, step, DRY_RUN_NOTE)
                elif blind:
                    await asyncio.sleep(RETRY_SECONDS_MIN)
                    continue
                else:
                    await self.carry_out(account, reduction, step)
                wait = RETRY_SECONDS_MIN
            except (Unreachable, Denied) as error:
                logger.warning("the reduction of %s waits: %s", account_id, error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)

    def is_blind(self, account: Account) -> bool:
        """Whether nobody can say now how the account stands. Then nothing is sold by force."""
        if account.level is RiskLevel.UNKNOWN or unsynced(account, self.engine.risk, self.engine.clock()):
            return True
        return not self.engine.is_priced(account)

    async def find_out(self, account: Account, reduction: Reduction, step: ReductionStep) -> None:
        """What became of an order that may be at the broker. One that never came may be sent after this."""
        try:
            fill = await self.look_up(self.broker_of(account), account, step)
        except Rejected as error:
            await self.end_step(account, reduction, step, f"ended at the broker: {error}")
            return
        if fill is None:
            self.doubtful.discard(step.client_order_id)
        else:
            await self.record(account, reduction, step, fill)

    async def carry_out(self, account: Account, reduction: Reduction, step: ReductionStep) -> None:
        """Place one order and record its outcome; one whose outcome is unknown stays doubtful."""
        broker, order_id = self.broker_of(account), step.client_order_id
        position = account.positions.get(position_key(step.symbol, step.position_side))
        if position is None or position.quantity * step.side.sign >= 0:
            await self.end_step(account, reduction, step, "nothing is left to reduce")
            return
        try:
            fill = await self.place(broker, account, step, min(step.quantity, abs(position.quantity)))
        except Ambiguous as error:
            logger.warning("order %s: %s; it is looked up, not sent again", order_id, error)
            await asyncio.sleep(RETRY_SECONDS_MIN)
        except Rejected as error:
            if error.reason is RejectionReason.DUPLICATE:
                logger.warning("order %s is at the broker already; it is looked up", order_id)
                return
            await self.end_step(account, reduction, step, f"refused by the broker: {error}")
        else:
            await self.record(account, reduction, step, fill)

    async def record(self, account: Account, reduction: Reduction, step: ReductionStep, fill: BrokerFill) -> None:
        self.sent[account.account_id] += 1
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
                order_id=step.client_order_id,
                plan_id=reduction.plan_id,
                step=step.step,
            ),
            request_id="",
            actor=SYSTEM,
        )
        if recorded.events and isinstance(recorded.events[0], e.CommandRefused):
            await self.end_step(account, reduction, step, "its fill does not fit the position")
        self.doubtful.discard(step.client_order_id)

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
        self.sent[account.account_id] += 1
        try:
            return await broker.place(order)
        except (Unreachable, Denied):
            self.doubtful.discard(order.client_order_id)
            raise

    async def look_up(self, broker: Broker, account: Account, step: ReductionStep) -> BrokerFill | None:
        """The fill of an order of unknown outcome; None when the broker never had it, so it may be placed again."""
        wait, looks = RETRY_SECONDS_MIN, 1 if account.environment is Environment.SANDBOX else LOOKS_LIVE
        while True:
            found = await broker.find(step.client_order_id, step.symbol)
            if isinstance(found, StillOpen):
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)
                continue
            looks -= 1
            if found is not None or not looks:
                return found
            await asyncio.sleep(LOOK_SECONDS)

    async def cancel(self, account: Account) -> None:
        """Cancel the first of the orders that are to go. Twice does no harm: a lost answer is asked for again."""
        order = next(iter(account.cancels.values()))
        key = (account.account_id, order.order_id)
        self.cancels_tried[key] += 1
        gone, note = True, ""
        if account.dry_run:
            gone, note = False, DRY_RUN_NOTE
        else:
            try:
                if not await self.engine.live.cancel(account, order.symbol, order.order_id):
                    note = "it was gone already"
            except (Ambiguous, Unreachable, Denied) as error:
                if self.cancels_tried[key] < CANCELS_TRIED:
                    if not isinstance(error, Ambiguous):
                        raise
                    await asyncio.sleep(RETRY_SECONDS_MIN)
                    return
                gone, note = False, str(error)
            except BrokerFault as error:
                gone, note = False, str(error)
        del self.cancels_tried[key]
        await self.engine.submit(
            account.account_id, c.RecordCancelOutcome(order.order_id, gone, note), request_id="", actor=SYSTEM
        )

    async def end_step(self, account: Account, reduction: Reduction, step: ReductionStep, note: str) -> None:
        self.doubtful.discard(step.client_order_id)
        await self.engine.submit(
            account.account_id,
            c.EndReductionStep(reduction.plan_id, step.step, note),
            request_id="",
            actor=SYSTEM,
        )
