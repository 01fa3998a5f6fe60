"""What the passing of time changes: prices grow old, reservations expire, days begin, breakers cool down."""

import asyncio
import heapq
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from debt_mgmt.core.account import UNTIL_CANCELLED, Account, Reservation, RiskLevel
from debt_mgmt.core.commands import ExpireReservations, ResetFunds
from debt_mgmt.core.limits import day_of
from debt_mgmt.core.resets import is_due, last_slot
from debt_mgmt.core.sync import unsynced
from debt_mgmt.server.actor import SYSTEM

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
RESETS_A_LOOK = 2000
EXPIRE = ExpireReservations()


class PassingTime:
    """Looks at the clock every second, and has every account decided that it concerns."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.blind: set[str] = set()
        """Symbols whose mark was last seen too old."""
        self.expiries: list[tuple[datetime, str]] = []
        self.day = ""
        self.day_behind: set[str] = set()
        """Accounts whose losses are still measured from an earlier day."""
        self.reset_slot: datetime | None = None
        """Slot of the reset schedule that was last looked at."""
        self.reset_behind: list[str] = []
        """Accounts that may still have to be reset for it."""

    def expects(self, account_id: str, reservations: Iterable[Reservation]) -> None:
        """Remember when the reservations of an account expire."""
        for reservation in reservations:
            if reservation.expires_at == UNTIL_CANCELLED:
                continue
            heapq.heappush(self.expiries, (reservation.expires_at, account_id))

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except Exception:
                logger.exception("the sweep failed; it runs again in %s s", SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Decide now whatever time has brought since the last look."""
        self.engine.clock_watch.look()
        now = self.engine.clock()
        await self.engine.settling.sweep(now)
        await self.engine.second_person.sweep(now)
        await self.reset(now)
        concerned = [*self.newly_blind(now), *self.newly_unsynced(now), *self.on_a_new_day(now), *self.cooled_down(now)]
        await self.engine.assess(concerned)
        await self.expire(now)
        await self.engine.paper.catch_up()

    def newly_blind(self, now: datetime) -> list[str]:
        """Accounts that hold an instrument whose mark has just become too old, or never came."""
        engine = self.engine
        oldest = now - engine.risk.mark_max_age
        found: set[str] = set()
        for symbol in engine.house.instruments:
            mark = engine.marks.get(symbol)
            seen = mark.received_at if mark is not None else engine.started_at
            if seen < oldest and symbol not in self.blind:
                self.blind.add(symbol)
                engine.load_screen()
                found.update(engine.screen.holders(symbol))
        return sorted(found)

    def newly_unsynced(self, now: datetime) -> list[str]:
        """Live accounts whose venue was last read too long ago, which nothing has said yet."""
        found = []
        for account_id in self.engine.live.supervisors:
            account = self.engine.account(account_id)
            if account.level is not RiskLevel.UNKNOWN and unsynced(account, self.engine.risk, now):
                found.append(account_id)
        return found

    def on_a_new_day(self, now: datetime) -> list[str]:
        """Accounts whose day is to begin, also where it should have while the service was down."""
        day = day_of(now, self.engine.risk.day_zone)
        if day != self.day:
            self.day = day
            self.day_behind.update(self.engine.home)
        self.day_behind = {one for one in self.day_behind if is_behind(self.engine.account(one), day)}
        return sorted(self.day_behind)

    def cooled_down(self, now: datetime) -> list[str]:
        return [
            account.account_id
            for shard in self.engine.shards.values()
            for account in shard.entities.values()
            if account.breakers and any(breaker.until <= now for breaker in account.breakers.values())
        ]

    async def reset(self, now: datetime) -> None:
        """Set paper accounts back whose slot has come, also while the service was down; what fails, at the next look.

        Whether an account is due is decided from its own state, so a slot counts once, whoever asks and how often.
        So many at a look that whatever else time brings does not wait for them.
        """
        house, account = self.engine.house, self.engine.account
        slot, since = last_slot(house.reset_schedule, now), house.reset_schedule_since
        if slot != self.reset_slot:
            self.reset_slot, self.reset_behind = slot, sorted(self.engine.home)
        if slot is None or not self.reset_behind:
            return
        self.reset_behind = [one for one in self.reset_behind if is_due(account(one), slot, since)]
        part, command = self.reset_behind[:RESETS_A_LOOK], ResetFunds("the schedule's reset", slot)
        resetting = (self.engine.submit(one, command, request_id="", actor=SYSTEM) for one in part)
        outcomes = await asyncio.gather(*resetting, return_exceptions=True)
        failed = [(one, told) for one, told in zip(part, outcomes, strict=True) if isinstance(told, BaseException)]
        if failed:
            logger.error("%d accounts could not be reset, %s because: %s", len(failed), *failed[0])

    async def expire(self, now: datetime) -> None:
        """Release what has expired; where that can't be done now, at the next look."""
        due: set[str] = set()
        while self.expiries and self.expiries[0][0] <= now:
            due.add(heapq.heappop(self.expiries)[1])
        ended: list[str] = []
        for account_id in sorted(due):
            if self.engine.awaits_prices(account_id):
                heapq.heappush(self.expiries, (now, account_id))
            elif any(one.expires_at <= now for one in self.engine.account(account_id).reservations.values()):
                ended.append(account_id)
        expiring = (self.engine.submit(one, EXPIRE, request_id="", actor=SYSTEM) for one in ended)
        outcomes = await asyncio.gather(*expiring, return_exceptions=True)
        for account_id, outcome in zip(ended, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                heapq.heappush(self.expiries, (now, account_id))
                logger.error("reservations of account %s could not be released: %s", account_id, outcome)


def is_behind(account: Account, day: str) -> bool:
    """Whether the account's day is still to begin. While its level is UNKNOWN it can't; it does when that is over."""
    if account.closed_at is not None or account.level is RiskLevel.UNKNOWN:
        return False
    return account.baselines is not None and account.baselines.day < day
