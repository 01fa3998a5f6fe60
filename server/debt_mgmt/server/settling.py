"""What falls due by the clock: interest on debts, funding of positions, and negative balances that are converted."""

import asyncio
import heapq
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from debt_mgmt.core.account import Account, PositionSide, position_key
from debt_mgmt.core.commands import ChargeInterest, Command, ConvertAssets, SettleFunding
from debt_mgmt.core.decide_settlement import to_convert
from debt_mgmt.core.funding import owes_funding
from debt_mgmt.core.market import FundingRate
from debt_mgmt.server.actor import SYSTEM

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

SETTLED_TOGETHER = 500
CHARGE = ChargeInterest()


class Settling:
    """Has every account charged and settled once what it owes is due, also what fell due while the service was down.

    Whether something is due is decided from the account's own state, so it happens once, whoever asks and how often.
    """

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.charges: list[tuple[datetime, str]] = []
        """When an account's next charge falls due; a heap."""
        self.expected: dict[str, datetime] = {}
        """The earliest of them by account, so that each is in the heap once."""
        self.overdrawn: set[str] = set()
        """Accounts with a negative balance."""
        self.unfunded: dict[str, tuple[FundingRate, ...]] = {}
        """Symbol → published rates that accounts may still have to be settled by, in order."""
        self.published: dict[str, datetime] = {}
        """Symbol → the last instant that was looked at."""
        self.funding = asyncio.Lock()

    def notice(self, account_id: str, account: Account) -> None:
        """Remember what the account will owe."""
        due = min((debt.next_charge_at for debt in account.debts.values() if debt.next_charge_at), default=None)
        if due is not None and self.expected.get(account_id) != due:
            self.expected[account_id] = due
            heapq.heappush(self.charges, (due, account_id))
        if any(balance < 0 for balance in account.balances.values()):
            self.overdrawn.add(account_id)
        else:
            self.overdrawn.discard(account_id)

    async def sweep(self, now: datetime) -> None:
        await self.fund()
        await self.charge(now)
        await self.convert()

    async def charge(self, now: datetime) -> None:
        """Charge interest that is due; where prices are still to come after a start, when they came."""
        while self.charges and self.charges[0][0] <= now:
            due: set[str] = set()
            while self.charges and self.charges[0][0] <= now and len(due) < SETTLED_TOGETHER:
                account_id = heapq.heappop(self.charges)[1]
                self.expected.pop(account_id, None)
                due.add(account_id)
            later = {one for one in due if self.engine.awaits_prices(one)}
            charged = [one for one in sorted(due - later) if owes_interest(self.engine.account(one), now)]
            failed = await self.submit_all((one, CHARGE) for one in charged)
            if later or failed:
                for account_id in later | failed:
                    heapq.heappush(self.charges, (now, account_id))
                return

    async def fund(self) -> None:
        """Settle every published rate with every account that held the instrument then, each instant in its turn."""
        async with self.funding:
            await self.fund_in_turn()

    async def fund_in_turn(self) -> None:
        for symbol, rates in self.engine.house.funding_rates.items():
            seen = self.published.get(symbol)
            fresh = tuple(rate for rate in rates if seen is None or rate.at > seen)
            if fresh:
                self.unfunded[symbol] = (*self.unfunded.get(symbol, ()), *fresh)
                self.published[symbol] = fresh[-1].at
        for symbol, rates in list(self.unfunded.items()):
            left = rates
            for rate, owing in self.owing(symbol, rates):
                if await self.settle(rate, owing):
                    break
                left = left[1:]
            self.unfunded[symbol] = left
            if not left:
                del self.unfunded[symbol]

    def owing(self, symbol: str, rates: tuple[FundingRate, ...]) -> list[tuple[FundingRate, list[str]]]:
        """The accounts that are still to be settled by each rate."""
        found: dict[datetime, list[str]] = {rate.at: [] for rate in rates}
        keys = [position_key(symbol, side) for side in PositionSide]
        for shard in self.engine.shards.values():
            for account in shard.entities.values():
                if not any(key in account.holdings or key in account.positions for key in keys):
                    continue
                settled = account.funding_settled.get(symbol)
                for rate in reversed(rates):
                    if settled is not None and rate.at <= settled:
                        break
                    if owes_funding(account, symbol, rate.at):
                        found[rate.at].append(account.account_id)
        return [(rate, found[rate.at]) for rate in rates]

    async def settle(self, rate: FundingRate, owing: list[str]) -> bool:
        """Settle one instant; True where some accounts are left for the next look."""
        ready = [one for one in owing if not self.engine.awaits_prices(one)]
        command = SettleFunding(rate.symbol, rate.rate, rate.mark, rate.at)
        failed = await self.submit_all((one, command) for one in ready)
        return bool(failed) or len(ready) < len(owing)

    async def convert(self) -> None:
        """Convert negative balances that are worth more than the house leaves standing."""
        engine = self.engine
        if engine.risk.conversion_threshold is None:
            return
        asked: list[tuple[str, Command]] = []
        for account_id in sorted(self.overdrawn):
            account = engine.account(account_id)
            if account.closed_at is None and engine.is_priced(account):
                found = to_convert(account, engine.summary(account_id), engine.risk)
                asked += ((account_id, ConvertAssets(asset, reason="negative balance")) for asset in found)
        await self.submit_all(asked)

    async def submit_all(self, commands: Iterable[tuple[str, Command]]) -> set[str]:
        """Carry the commands out; the accounts where that failed."""
        waiting, failed = list(commands), set[str]()
        for start in range(0, len(waiting), SETTLED_TOGETHER):
            part = waiting[start : start + SETTLED_TOGETHER]
            outcomes = await asyncio.gather(
                *(self.engine.submit(one, command, request_id="", actor=SYSTEM) for one, command in part),
                return_exceptions=True,
            )
            for (account_id, command), outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    failed.add(account_id)
                    logger.error("%s of account %s failed: %s", type(command).__name__, account_id, outcome)
        return failed


def owes_interest(account: Account, now: datetime) -> bool:
    """Whether a charge is due."""
    due = (debt.next_charge_at for debt in account.debts.values())
    return account.closed_at is None and any(at is not None and at <= now for at in due)
