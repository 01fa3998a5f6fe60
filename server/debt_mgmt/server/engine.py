"""The running engine: every shard, the house, the marks and the screen, joined by one way in for every write."""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, RiskLevel, sharing
from debt_mgmt.core.apply import apply
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.house import HOUSE_KEY, House, apply_house
from debt_mgmt.core.margin import Summary, World, summarize
from debt_mgmt.core.market import Mark
from debt_mgmt.core.screen import Screen
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.server.chain_watch import ChainWatch
from debt_mgmt.server.clock_watch import ClockWatch
from debt_mgmt.server.commits import Commits
from debt_mgmt.server.configuration_record import version
from debt_mgmt.server.deciding import Deciding
from debt_mgmt.server.digests import digest_of as digest_of
from debt_mgmt.server.engine_figures import EngineCounters, snapshot_of
from debt_mgmt.server.four_eyes import SecondPerson
from debt_mgmt.server.history import FundHistory
from debt_mgmt.server.history_store import MemoryHistory
from debt_mgmt.server.http import Health
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import Head, Journal
from debt_mgmt.server.limit_tree import LimitTree
from debt_mgmt.server.live.accounts import LiveAccounts
from debt_mgmt.server.metrics import MetricsSnapshot
from debt_mgmt.server.passing_time import PassingTime
from debt_mgmt.server.prices.collateral_guard import CollateralGuard
from debt_mgmt.server.prices.marks import MarkGuard, MarkUpdate, Quarantined
from debt_mgmt.server.recording import Recording
from debt_mgmt.server.reductions import Reductions
from debt_mgmt.server.resting_orders import PaperMatching
from debt_mgmt.server.settling import Settling
from debt_mgmt.server.shard import Committed, Shard
from debt_mgmt.server.soundness import ailments, unprotected
from debt_mgmt.server.watch import WatchHub

logger = logging.getLogger(__name__)

VIEWS_KEPT = 4096
SETTLE_SECONDS = 10.0
"""Publishing waits so long for a reduction that it began; one that waits for a price goes on without the publisher."""
REBASE_SECONDS = 60.0
ASSESSED_TOGETHER = 2000
COLLATERAL_DEVIATION = Decimal("0.10")
COLLATERAL_HOLD = timedelta(seconds=5)
STATE_VERSION = "5"


class PublishOutcome(msgspec.Struct, frozen=True):
    """What became of published prices."""

    accepted: int
    quarantined: list[tuple[MarkUpdate, Quarantined]]


class Engine:
    """All accounts of this service. Reads see committed state; every change goes through `submit`."""

    def __init__(
        self,
        journal: Journal,
        risk: RiskSettings,
        *,
        clock: Callable[[], datetime],
        guard: MarkGuard,
        reductions: Reductions,
        hub: WatchHub,
        shards: int,
        snapshot_events: int = 50_000,
        history: FundHistory | None = None,
        collateral: CollateralGuard | None = None,
        live: LiveAccounts | None = None,
        configuration: Mapping[str, str] | None = None,
        four_eyes_wait: timedelta = timedelta(days=1),
    ) -> None:
        self.journal = journal
        self.risk = risk
        self.configuration = dict(configuration or {})
        """Every setting, as it is kept in the house's log."""
        self.clock = clock
        self.hub = hub
        self.guard = guard
        self.collateral = collateral or CollateralGuard(COLLATERAL_DEVIATION, COLLATERAL_HOLD)
        self.reductions = reductions
        self.marks: dict[str, Mark] = {}
        self.screen = Screen()
        hub.holders = self.valued_by
        reductions.engine = self
        self.live = live or LiveAccounts()
        self.live.engine = self
        self.counters = EngineCounters()
        self.started_at = clock()
        self.shard_count = shards
        self.snapshot_events = snapshot_events
        self.house_shard: Shard[House, c.Command, e.HouseEvent]
        self.shards: dict[int, Shard[Account, c.Command, e.AccountEvent]] = {}
        self.home: dict[str, int] = {}
        """Account id → shard."""
        self.changed_at: dict[str, int] = {}
        """Account id → position of its last event since the start."""
        self.views: OrderedDict[str, AccountView] = OrderedDict()
        self.present: dict[str, AccountView] = {}
        """Views made or found good since the last mark: good until the next one, or until their account changes."""
        self.unscreened: dict[str, Account] = {}
        """Accounts whose screen row is older than their state; loaded before the next mark is screened."""
        self.purses: dict[str, set[str]] = {}
        """Symbol → accounts that hold nothing open, and an asset valued by its mark."""
        self.loaded: list[str] = []
        """Accounts loaded into the screen since the last mark, at marks that may be newer than their assessment."""
        self.creating: dict[str, int] = {}
        """Account ids being created, with the shard that decides about them."""
        self.assessing: set[str] = set()
        self.deciding = Deciding(self)
        self.commits = Commits(self)
        self.tree = LimitTree(self)
        self.time = PassingTime(self)
        self.paper = PaperMatching(self)
        self.recording = Recording(self)
        self.settling = Settling(self)
        self.second_person = SecondPerson(self, four_eyes_wait)
        self.chain = ChainWatch(self)
        self.clock_watch = ClockWatch(clock, time.monotonic if clock is utc_now else None)
        self.history = history or FundHistory(MemoryHistory())
        self.tasks: list[asyncio.Task[None]] = []
        self.actors: dict[Actor, str] = {}

    # life

    async def start(self) -> None:
        """Load every log, then watch over what is in it."""
        count = int(await self.journal.set_meta_once("shards", str(self.shard_count)))
        if count != self.shard_count:
            logger.warning("the journal was made with %d shards; the configured %d is ignored", count, self.shard_count)
        self.shard_count = count
        await self.journal.prepare(range(count + 1))
        epoch = await self.journal.next_epoch()
        self.house_shard = Shard(
            0,
            self.journal,
            self.deciding.house,
            apply_house,
            Codec(e.HouseEvent, House),
            self.clock,
            on_commit=self.commits.house,
            epoch=epoch,
            state_version=STATE_VERSION,
            snapshot_events=self.snapshot_events,
        )
        await self.house_shard.start()
        settings = c.RecordConfiguration(self.configuration, self.risk, version())
        await self.submit_house(settings, request_id="", actor=SYSTEM)
        for number in range(1, count + 1):
            self.shards[number] = Shard(
                number,
                self.journal,
                self.deciding.account,
                apply,
                Codec(e.AccountEvent, Account, fact_id_of, sharing),
                self.clock,
                on_commit=lambda changes, number=number: self.commits.accounts(number, changes),  # type: ignore[misc]
                epoch=epoch,
                state_version=STATE_VERSION,
                snapshot_events=self.snapshot_events,
            )
        for shard in self.shards.values():
            await shard.start()
            for account in shard.entities.values():
                self.home[account.account_id] = shard.number
                self.unscreened[account.account_id] = account
                self.time.expects(account.account_id, account.reservations.values())
                self.settling.notice(account.account_id, account)
                self.paper.keep(account)
        await self.tree.start()
        for shard in self.shards.values():
            for account in shard.entities.values():
                self.reductions.resume(account)
                self.live.notice(account.account_id, account)
        await self.second_person.begin()
        self.history.start(self.journal, count)
        self.chain.start()
        self.tasks = [
            asyncio.create_task(self.time.watch(), name="sweep"),
            asyncio.create_task(self.recording.watch(), name="equity records"),
            asyncio.create_task(self.rebase_always(), name="screen rebase"),
        ]

    async def stop(self) -> None:
        """Stop watching, finish what is queued, and store snapshots."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.reductions.stop()
        await self.live.stop()
        await self.chain.stop()
        await self.history.stop()
        for shard in self.shards.values():
            await shard.stop()
        if hasattr(self, "house_shard"):
            await self.house_shard.stop()

    # reading

    @property
    def house(self) -> House:
        return self.house_shard.entity(HOUSE_KEY) or EMPTY_HOUSE

    def accounts(self) -> list[str]:
        """Every account id, sorted."""
        return sorted(self.home)

    def account(self, account_id: str) -> Account:
        """The committed account; raises Fault ACCOUNT_NOT_FOUND."""
        number = self.home.get(account_id)
        account = self.shards[number].entity(account_id) if number is not None else None
        if account is None:
            raise Fault(FaultReason.ACCOUNT_NOT_FOUND, f"account {account_id} is not known", account_id=account_id)
        return account

    def world(self) -> World:
        """The surroundings of a question asked now."""
        held = self.collateral.held
        return World(self.house, self.marks, self.risk, self.clock(), held_prices=held, outside=self.tree)

    def view(self, account_id: str) -> AccountView:
        """The account prepared for checks; kept while neither it nor its marks change."""
        view = self.present.get(account_id)
        if view is None:
            view = self.present[account_id] = self.view_of(self.account(account_id), self.world())
        return view

    def view_of(self, account: Account, world: World) -> AccountView:
        view = self.views.get(account.account_id)
        if view is not None and view.is_current(account, world):
            return view
        view = (view.next(account, world) if view is not None else None) or AccountView(account, world)
        self.views[account.account_id] = view
        self.views.move_to_end(account.account_id)
        if len(self.views) > VIEWS_KEPT:
            self.views.popitem(last=False)
            self.present.clear()
        return view

    def summary(self, account_id: str) -> Summary:
        return self.view(account_id).summary

    def is_priced(self, account: Account) -> bool:
        """Whether every price that the account's figures rest on is known and fresh."""
        world = self.world()
        summary = self.view_of(account, world).summary
        return summary.known and not summary.stale(world.at, self.risk.mark_max_age)

    def revision(self, account_id: str) -> tuple[int, int]:
        """(shard, position) as of which the account is shown."""
        number = self.home[account_id]
        return number, self.shards[number].revision.position

    def house_revision(self) -> tuple[int, int]:
        return 0, self.house_shard.revision.position

    def heads(self) -> dict[int, Head]:
        """The last row of every log, as its writer knows it."""
        return {0: self.house_shard.head, **{number: shard.head for number, shard in self.shards.items()}}

    # writing

    def shard_of_owner(self, owner: str) -> int:
        """An owner's accounts share a shard."""
        digest = hashlib.blake2b(owner.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.shard_count + 1

    async def submit(
        self,
        account_id: str,
        command: c.Command,
        *,
        request_id: str,
        actor: Actor,
        owner: str = "",
        digest: bytes | None = None,
    ) -> Committed[e.AccountEvent]:
        """Decide `command` on the account and return once its events are durable. `owner` goes with CreateAccount.

        `digest` stands for the command where what was asked for is not all that is in it.
        """
        number = self.home.get(account_id)
        if number is None:
            if not isinstance(command, c.CreateAccount):
                raise Fault(FaultReason.ACCOUNT_NOT_FOUND, f"account {account_id} is not known", account_id=account_id)
            return await self.create(account_id, command, request_id, actor, owner)
        return await self.submit_to(number, account_id, command, request_id, actor, digest)

    async def create(
        self, account_id: str, command: c.CreateAccount, request_id: str, actor: Actor, owner: str
    ) -> Committed[e.AccountEvent]:
        """Create an account in its owner's shard; while that is under way, the same id goes nowhere else."""
        number = self.creating.setdefault(account_id, self.shard_of_owner(owner))
        try:
            return await self.submit_to(number, account_id, command, request_id, actor)
        finally:
            self.creating.pop(account_id, None)

    async def submit_to(
        self,
        number: int,
        account_id: str,
        command: c.Command,
        request_id: str,
        actor: Actor,
        digest: bytes | None = None,
    ) -> Committed[e.AccountEvent]:
        committed = await self.shards[number].submit(
            account_id,
            command,
            request_id=request_id,
            fact_id=fact_id_of(command),
            digest=digest if digest is not None else digest_of(command),
            actor=self.actor_text(actor),
        )
        self.counters.decided(command, committed.events)
        return committed

    async def submit_house(
        self, command: c.Command, *, request_id: str, actor: Actor, digest: bytes = b""
    ) -> Committed[e.HouseEvent]:
        """The same for a command to the house."""
        return await self.house_shard.submit(
            HOUSE_KEY,
            command,
            request_id=request_id,
            digest=digest or digest_of(command) if request_id else b"",
            actor=self.actor_text(actor),
        )

    def actor_text(self, actor: Actor) -> str:
        text = self.actors.get(actor)
        if text is None:
            if len(self.actors) > 10_000:
                self.actors.clear()
            text = self.actors[actor] = actor.text
        return text

    # prices

    async def publish(
        self, updates: Iterable[MarkUpdate], *, recorded: bool = False, settle: bool = False
    ) -> PublishOutcome:
        """Take prices in, and decide every account that they may have moved across a threshold.

        Returns when those decisions are durable; with `settle`, when the forced reductions they began are over too.
        """
        now = self.clock()
        instruments = self.house.instruments
        quarantined: list[tuple[MarkUpdate, Quarantined]] = []
        moved: dict[str, Mark] = {}
        for update in updates:
            taken = self.guard.accept(update, now, instruments, recorded=recorded)
            if isinstance(taken, Quarantined):
                quarantined.append((update, taken))
                continue
            moved[taken.symbol] = taken
        self.counters.marks_accepted += len(moved)
        self.counters.marks_quarantined += len(quarantined)
        self.marks.update(moved)
        self.present.clear()
        self.tree.priced()
        self.time.blind.difference_update(moved)
        valuing = {rule.priced_by for rule in self.house.assets.values()}
        held = [symbol for symbol, mark in moved.items() if symbol in valuing and self.collateral.look(mark)]
        candidates = self.screened({symbol: mark.price for symbol, mark in moved.items()}, recorded)
        if held:
            candidates = list(dict.fromkeys([*candidates, *(one for symbol in held for one in self.valued(symbol))]))
        self.hub.marked(moved)
        await self.assess(candidates)
        await self.paper.match(moved.values())
        if settle:
            for account_id in candidates:
                await self.reductions.idle(account_id, SETTLE_SECONDS)
        return PublishOutcome(len(moved), quarantined)

    def screened(self, prices: dict[str, Decimal], recorded: bool) -> list[str]:
        """Accounts that the new prices may have moved across a threshold."""
        self.load_screen()
        found: dict[str, None] = {}
        for symbol, price in prices.items():
            found.update(dict.fromkeys(self.screen.mark(symbol, price, recorded=recorded)))
        loaded, self.loaded = self.loaded, []
        found.update(dict.fromkeys(self.screen.outside(loaded)))
        return list(found)

    def valued(self, symbol: str) -> list[str]:
        """Accounts whose assets may be valued by a symbol whose price is held, or was: the screen can't see that."""
        state = "is held" if symbol in self.collateral.held else "is held no longer"
        logger.warning("the price of %s that collateral is valued by %s", symbol, state)
        return self.screen.holders(symbol)

    def load_screen(self) -> None:
        """Bring the screen up to the committed state."""
        if not self.unscreened:
            return
        world = self.world()
        pending, self.unscreened = self.unscreened, {}
        for account_id, account in pending.items():
            for holders in self.purses.values():
                holders.discard(account_id)
            if account.closed_at is not None or not (account.positions or account.reservations or account.debts):
                self.screen.remove(account_id)
                if account.closed_at is not None:
                    continue
                if account.level is RiskLevel.NORMAL:
                    self.note_purse(account, world)
                    continue
            view = self.views.get(account_id)
            current = view is not None and view.is_current(account, world)
            summary = view.summary if current and view is not None else summarize(account, world)
            self.screen.update(account, summary, world)
        self.loaded += pending

    def note_purse(self, account: Account, world: World) -> None:
        """An account with nothing open can cross no threshold; its worth may move all the same, which watchers see."""
        if all(asset == account.currency or not held for asset, held in account.balances.items()):
            return
        summary = summarize(account, world)
        for symbol in {*summary.missing, *(mark.symbol for mark in summary.marks)}:
            self.purses.setdefault(symbol, set()).add(account.account_id)

    def valued_by(self, symbol: str) -> list[str]:
        """Accounts whose figures rest on the mark of a symbol."""
        return [*self.screen.holders(symbol), *self.purses.get(symbol, ())]

    async def assess(self, account_ids: Iterable[str]) -> None:
        """Decide where accounts stand at the present marks. One that already waits for that is not queued again."""
        waiting: list[str] = []
        for account_id in account_ids:
            if account_id not in self.assessing and account_id in self.home and not self.awaits_prices(account_id):
                self.assessing.add(account_id)
                waiting.append(account_id)
        for start in range(0, len(waiting), ASSESSED_TOGETHER):
            part = waiting[start : start + ASSESSED_TOGETHER]
            outcomes = await asyncio.gather(
                *(self.submit(account_id, ASSESS, request_id="", actor=SYSTEM) for account_id in part),
                return_exceptions=True,
            )
            for account_id, outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    self.assessing.discard(account_id)
                    logger.error("account %s could not be assessed: %s", account_id, outcome)
                elif not outcome.events:
                    self.rescreen(account_id)

    def awaits_prices(self, account_id: str) -> bool:
        """Whether prices of the account are still to come, so shortly after the start that nothing follows from it."""
        young = self.clock() < self.started_at + self.risk.mark_max_age
        return young and not self.view(account_id).summary.known

    def rescreen(self, account_id: str) -> None:
        """An account was looked at and nothing followed: its row is made exact again."""
        number = self.home[account_id]
        account = self.shards[number].entity(account_id)
        if account is not None:
            self.unscreened[account_id] = account

    async def sweep(self) -> None:
        """Decide now what the passing of time has changed."""
        await self.recording.sweep(self.clock())
        await self.time.sweep()

    async def rebase_always(self) -> None:
        while True:
            await asyncio.sleep(REBASE_SECONDS)
            self.load_screen()
            self.screen.rebase()

    # showing

    def metrics_snapshot(self) -> MetricsSnapshot:
        """The figures of this moment."""
        return snapshot_of(self)

    def health(self) -> Health:
        reasons = self.protecting()
        return Health(serving=True, protecting=not reasons, reasons=reasons, warnings=ailments(self))

    async def fingerprint(self) -> str:
        """One hash over the state of every shard."""
        whole = hashlib.sha256()
        whole.update((await self.house_shard.fingerprint()).digest)
        for shard in self.shards.values():
            whole.update((await shard.fingerprint()).digest)
        return whole.hexdigest()

    def protecting(self) -> list[str]:
        """Why accounts are not protected at this moment; empty when they are."""
        return unprotected(self)


ASSESS, EMPTY_HOUSE = c.Assess(), House()


def fact_id_of(told: c.Command | e.Event) -> str:
    """A fill counts once per account and symbol, by its own id."""
    return f"fill:{told.symbol}:{told.fill_id}" if isinstance(told, c.RecordFill | e.FillRecorded) else ""


def utc_now() -> datetime:
    return datetime.now(UTC)
