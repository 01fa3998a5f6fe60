"""Carries alerts from the journal to one route: taken in, kept in its outboxes, tried until they are delivered."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from debt_mgmt.server.journal.journal import Head, Journal, JournalError, Row
from debt_mgmt.server.notify.outbox import Aim, Outbox, Waiting, delivered, due_by, take, take_of_house
from debt_mgmt.server.notify.route import NotTold, Route
from debt_mgmt.server.past import ACCOUNTS, HOUSE, HOUSE_SHARD

KINDS = ("AlertRaised", "AlertAcknowledged")
HOUSE_KINDS = (
    "ChangeProposed",
    "ChangeApproved",
    "ChangeRejected",
    "ChangeExpired",
    "TradingHalted",
    "TradingResumed",
)
ROWS_TOGETHER = 500
WAITING_MOST = 1000
"""Alerts of one log that an outbox holds; what comes after waits in the journal."""
LOOK_SECONDS = 1.0
AGAIN_SECONDS_LEAST = 1.0
AGAIN_SECONDS_MOST = 300.0

logger = logging.getLogger(__name__)


class Pace(NamedTuple):
    """How often a route is looked after, in seconds."""

    look: float = LOOK_SECONDS
    again_least: float = AGAIN_SECONDS_LEAST
    again_most: float = AGAIN_SECONDS_MOST


class Telling:
    """One route. Its outboxes are rows of the journal's store, one a log, so a restart goes on where it was.

    A notice is told at least once, under the same id each time. A route that fails holds up no other one.
    """

    def __init__(
        self,
        route: Route,
        aim: Aim,
        journal: Journal,
        heads: Callable[[], Mapping[int, Head]],
        clock: Callable[[], datetime],
        give_up_after: timedelta,
        pace: Pace = Pace(),  # noqa: B008
    ) -> None:
        self.route = route
        self.aim = aim
        self.journal = journal
        self.heads = heads
        self.clock = clock
        self.give_up_after = give_up_after
        self.pace = pace
        self.outboxes: dict[int, Outbox] = {}
        self.read_to: dict[int, int] = {}
        """Up to where each log was searched; an outbox remembers only where the last alert was."""
        self.wake = asyncio.Event()
        self.failing = ""
        """Why the last attempt failed; empty while the route works."""
        self.failing_since: datetime | None = None
        self.told = 0
        self.failed = 0
        self.given_up = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Notices that are due and not delivered."""
        now = self.clock()
        return sum(1 for outbox in self.outboxes.values() for one in outbox.waiting if one.is_due(now))

    async def open(self) -> None:
        """Go on where this route was; one that is new is told of what comes from now on."""
        for shard, head in self.heads().items():
            kept = await self.journal.get_meta(self.place(shard))
            if kept is None:
                self.outboxes[shard] = Outbox(head.position)
                await self.keep(shard)
            else:
                self.outboxes[shard] = msgspec.json.decode(kept, type=Outbox)
            self.read_to[shard] = self.outboxes[shard].position

    def start(self) -> None:
        self.task = asyncio.create_task(self.follow(), name=f"telling {self.route.name}")

    async def stop(self) -> None:
        """Stop telling; what is not delivered is told after the next start."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.route.close()
        try:
            for shard, position in self.read_to.items():
                if position > self.outboxes[shard].position:
                    self.outboxes[shard] = msgspec.structs.replace(self.outboxes[shard], position=position)
                    await self.keep(shard)
        except JournalError as error:
            logger.warning("route %s searches the journal again at the next start: %s", self.route.name, error)

    def place(self, shard: int) -> str:
        return f"notify.{self.route.name}.{shard}"

    async def keep(self, shard: int) -> None:
        await self.journal.set_meta(self.place(shard), msgspec.json.encode(self.outboxes[shard]).decode())

    async def follow(self) -> None:
        pause = self.pace.again_least
        while True:
            self.wake.clear()
            try:
                for shard in self.outboxes:
                    await self.take_in(shard)
                for shard in self.outboxes:
                    await self.go_on(shard)
            except NotTold as error:
                self.note_failure(str(error))
                await asyncio.sleep(max(pause, error.retry_seconds))
                pause = min(pause * 2, self.pace.again_most)
                continue
            except JournalError as error:
                logger.warning("route %s waits for the journal: %s", self.route.name, error)
                await asyncio.sleep(pause)
                continue
            except Exception as error:
                self.note_failure(f"a fault of the service: {type(error).__name__}")
                logger.exception("route %s failed", self.route.name)
                await asyncio.sleep(max(pause, self.pace.look))
                continue
            pause = self.pace.again_least
            try:
                idle = not any(outbox.waiting for outbox in self.outboxes.values())
                await asyncio.wait_for(self.wake.wait(), None if idle else self.pace.look)
            except TimeoutError:
                continue

    async def go_on(self, shard: int) -> None:
        """Take in what is new of one log, and tell what is due."""
        while True:
            more = await self.take_in(shard)
            while due := due_by(self.outboxes[shard], self.clock(), self.route.together):
                await self.deliver(shard, due)
            if not more:
                return

    async def take_in(self, shard: int) -> bool:
        """Read the log on; whether there may be more."""
        head, outbox = self.heads()[shard].position, self.outboxes[shard]
        if self.read_to[shard] >= head or len(outbox.waiting) >= WAITING_MOST:
            return False
        kinds = HOUSE_KINDS if shard == HOUSE_SHARD else KINDS
        found = await self.journal.list_rows(kinds=kinds, after=(shard, self.read_to[shard]), limit=ROWS_TOGETHER)
        rows = [row for row in found if row.shard == shard]
        for row in rows:
            outbox = self.taken(outbox, row)
        if rows:
            self.outboxes[shard] = outbox
            await self.keep(shard)
        more = len(rows) == ROWS_TOGETHER
        self.read_to[shard] = rows[-1].position if more else max(head, *(row.position for row in rows), head)
        return more

    def taken(self, outbox: Outbox, row: Row) -> Outbox:
        if row.shard == HOUSE_SHARD:
            return take_of_house(outbox, row.position, HOUSE.decode_event(row.payload), self.aim)
        return take(outbox, row.position, row.account_id, ACCOUNTS.decode_event(row.payload), self.aim)

    async def deliver(self, shard: int, due: list[Waiting]) -> None:
        """Tell these, or give them up where that was tried for too long. Raises NotTold."""
        try:
            await self.route.tell([one.notice for one in due])
        except NotTold as error:
            late = [one for one in due if self.clock() - one.due >= self.give_up_after]
            if not late:
                raise
            self.note_failure(str(error))
            self.given_up += len(late)
            named = ", ".join(one.notice.notice_id for one in late)
            logger.error("route %s was not told of %s, and is not told any more: %s", self.route.name, named, error)
            due = late
        else:
            self.told += len(due)
            if self.failing:
                logger.warning("route %s works again", self.route.name)
            self.failing, self.failing_since = "", None
        self.outboxes[shard] = delivered(self.outboxes[shard], due, self.clock(), self.aim)
        await self.keep(shard)

    def note_failure(self, reason: str) -> None:
        self.failed += 1
        if reason != self.failing:
            logger.error("route %s fails, nobody is told there: %s", self.route.name, reason)
        self.failing = reason
        self.failing_since = self.failing_since or self.clock()
