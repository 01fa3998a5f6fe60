"""Records what accounts are worth at the end of every hour: the intervals that their history is made of."""

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING

from debt_mgmt.core.account import Account
from debt_mgmt.core.commands import RecordEquity
from debt_mgmt.core.profit import NOTHING, IntervalLength, interval_start
from debt_mgmt.server.actor import SYSTEM

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LOOKED_AT_TOGETHER = 1000
RECORDED_TOGETHER = 32
"""Few at a time: what traders ask for is decided in between."""


class Recording:
    """Hours are those of the zone in which the day begins, so that whole hours make a day."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.boundary: datetime | None = None
        self.behind: list[str] = []
        """Accounts whose last interval may still be to close."""
        self.turn = asyncio.Lock()

    async def watch(self) -> None:
        """Look at the clock beside all else that the passing of time brings, so that nothing waits for this."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.sweep(self.engine.clock())
            except Exception:
                logger.exception("equity could not be recorded; it is tried again in %s s", LOOK_SECONDS)

    async def sweep(self, now: datetime) -> None:
        """Close what has ended. Accounts whose prices are still to come after a start are recorded when they came."""
        async with self.turn:
            boundary = interval_start(now, self.engine.risk.day_zone, IntervalLength.HOUR)
            if boundary != self.boundary:
                self.boundary, self.behind = boundary, sorted(self.engine.home)
            looked_at, self.behind = self.behind, []
            for start in range(0, len(looked_at), LOOKED_AT_TOGETHER):
                await self.record(looked_at[start : start + LOOKED_AT_TOGETHER], boundary)
                await asyncio.sleep(0)

    async def record(self, account_ids: list[str], boundary: datetime) -> None:
        engine, command = self.engine, RecordEquity(boundary)
        due = [one for one in account_ids if is_due(engine.account(one), boundary)]
        later = {one for one in due if engine.awaits_prices(one)}
        self.behind += later
        ready = [one for one in due if one not in later]
        for start in range(0, len(ready), RECORDED_TOGETHER):
            part = ready[start : start + RECORDED_TOGETHER]
            outcomes = await asyncio.gather(
                *(engine.submit(one, command, request_id="", actor=SYSTEM) for one in part), return_exceptions=True
            )
            for account_id, outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    self.behind.append(account_id)
                    logger.error("the equity of account %s could not be recorded: %s", account_id, outcome)


def is_due(account: Account, boundary: datetime) -> bool:
    """Whether something may have changed the account's equity in an interval that has ended."""
    if account.closed_at is not None:
        return False
    interval = account.interval
    if interval is None:
        return account.created_at < boundary
    if interval.started_at >= boundary:
        return False
    return interval.equity is None or interval.causes != NOTHING or may_move(account)


def may_move(account: Account) -> bool:
    """Whether prices or interest can change what the account is worth."""
    if account.positions or account.debts:
        return True
    return any(amount and asset != account.currency for asset, amount in account.balances.items())
