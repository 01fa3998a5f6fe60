"""Keeps one account as its venue has it: connects, reads, listens, and says why when it no longer knows."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Collection, Iterable
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment
from debt_mgmt.core.decide import decide
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.instrument import Instrument, instrument_problems
from debt_mgmt.core.venue import SyncStatus, VenueState
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.server.brokers.broker import BrokerFault, Denied, NotPossible, Rejected, Unreachable
from debt_mgmt.server.brokers.live import LiveBroker
from debt_mgmt.server.brokers.profiles import VenueProfile
from debt_mgmt.server.live.changes import Changes
from debt_mgmt.server.live.loans import Loans
from debt_mgmt.server.live.marks import VenueMarks
from debt_mgmt.server.shard_answers import Committed, ShardError

if TYPE_CHECKING:
    from debt_mgmt.server.live.accounts import LiveAccounts

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Synced(NamedTuple):
    """What a read led to: the account that it began with, and what was committed."""

    before: Account
    committed: Committed[e.AccountEvent]


class Requested:
    """Somebody who waits for the next read that begins after he asked."""

    def __init__(self, request_id: str, actor: Actor) -> None:
        self.request_id = request_id
        self.actor = actor
        self.answer: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()


class Supervisor:
    """One task an account. REST is the truth; what is pushed says only when to ask.

    A read that fails twice, or is denied once, loses the account: it becomes UNKNOWN with the venue's words, what was
    last known keeps its age, and the connection is made anew, each time a little later.
    """

    def __init__(self, live: "LiveAccounts", account_id: str) -> None:
        self.live = live
        self.engine = live.engine
        self.pace = live.pace
        self.account_id = account_id
        self.broker: LiveBroker | None = None
        """The connection, while there is one."""
        self.problem = "not connected yet"
        self.nudged = asyncio.Event()
        self.requests: list[Requested] = []
        self.known: dict[str, float] = {}
        """Instruments whose terms were read, and when, by the loop's clock."""
        self.untraded: set[str] = set()
        """Instruments that would value collateral, and that the venue does not trade."""
        self.named: set[str] = set()
        """Instruments that somebody asked about: their marks are kept too."""
        self.lent: set[str] = set()
        """Assets that somebody wanted to borrow: they are priced like those that are held."""
        self.apart_read_at = float("-inf")
        """When the wallet that backs no position was last read, by the loop's clock."""
        self.apart_problem = ""
        self.changes = Changes(self)
        self.loans = Loans(self)
        self.task = asyncio.create_task(self.run(), name=f"account {account_id} at its venue")

    @property
    def account(self) -> Account:
        return self.engine.account(self.account_id)

    def marks(self) -> VenueMarks:
        return self.live.marks_at(self.account.broker, self.account.environment)

    def nudge(self) -> None:
        """Something may have changed: look soon."""
        self.nudged.set()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.refuse_requests(Unreachable("the service stops"))

    # asked from outside

    async def sync(self, request_id: str, actor: Actor) -> Synced:
        """Read the account now. Raises Fault BROKER_UNREACHABLE or BROKER_NOT_READY with the venue's words."""
        request = Requested(request_id, actor)
        self.requests.append(request)
        self.nudge()
        return await request.answer

    async def learn(self, symbols: Collection[str]) -> None:
        """Make the terms of instruments known to the house. Raises a BrokerFault, Rejected for a name not traded."""
        if self.broker is None:
            raise Unreachable(self.problem)
        await self.furnish(self.broker, symbols)
        self.named.update(symbols)
        marks = self.marks()
        marks.want(self.account_id, marks.wanted.get(self.account_id, frozenset()) | self.named)
        await marks.ensure(symbols)

    async def price(self, asset: str) -> None:
        """See that an asset that is to be borrowed has a price. Raises a BrokerFault."""
        if self.broker is None:
            raise Unreachable(self.problem)
        self.lent.add(asset)
        account = self.account
        await self.value_collateral(self.broker, {*account.balances, *account.debts, *account.debts_apart})

    # life

    async def run(self) -> None:
        wait = self.pace.backoff_seconds_min
        while True:
            started = asyncio.get_running_loop().time()
            fault: BrokerFault
            try:
                await self.connected()
                return
            except BrokerFault as raised:
                fault = raised
            except Exception as error:
                logger.exception("account %s is not kept like its venue; it is tried again", self.account_id)
                fault = Unreachable(f"a fault of this service: {type(error).__name__}")
            if asyncio.get_running_loop().time() - started > self.pace.backoff_seconds_max:
                wait = self.pace.backoff_seconds_min
            self.refuse_requests(fault)
            await self.lose(fault)
            after = fault.retry_after_seconds if isinstance(fault, Unreachable) else None
            await self.rest(max(wait * random.uniform(0.8, 1.2), after or 0.0))
            wait = min(wait * 2, self.pace.backoff_seconds_max)

    async def rest(self, seconds: float) -> None:
        """Wait, but no longer than until somebody asks for a read."""
        self.nudged.clear()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0 and not self.requests:
            try:
                async with asyncio.timeout(left):
                    await self.nudged.wait()
            except TimeoutError:
                return
            self.nudged.clear()

    async def connected(self) -> None:
        """Connect, and keep the account until the connection fails or the account is closed."""
        account = self.account
        if problem := self.live.venues.problem(account.broker, account.environment):
            raise Denied(problem)
        broker = await self.live.venues.open(account)
        try:
            await self.answered(broker.connect(), "connecting", self.pace.connect_seconds)
            await self.furnish_configured(broker)
            await self.marks().ensure({one.symbol for one in self.account.positions.values()})
            self.broker, self.problem = broker, ""
            listener = asyncio.create_task(self.listen(broker), name=f"changes of {self.account_id}")
            try:
                await self.keep(broker)
            finally:
                self.broker = None
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
        finally:
            try:
                await broker.close()
            except BrokerFault as fault:
                logger.warning("the connection of %s did not close well: %s", self.account_id, fault)

    async def keep(self, broker: LiveBroker) -> None:
        """Changes first, then a read, then a rest until something is pushed or it is time again."""
        loop = asyncio.get_running_loop()
        poll = self.pace.poll_seconds or broker.profile.max_state_age_seconds / 3
        while self.account.closed_at is None:
            started = loop.time()
            self.nudged.clear()
            await self.changes.carry_out(broker)
            if self.account.loans:
                await self.loans.carry_out(broker)
                self.apart_read_at = float("-inf")
            requests = list(self.requests)  # who asks from here on is answered by a read that begins after that
            state = await self.with_apart(broker, await self.read(broker))
            await self.take_over(broker, state, requests)
            left = poll - (loop.time() - started)
            if left > 0 and not self.requests:
                await self.nudged_within(left)
            await asyncio.sleep(max(0.0, self.pace.between_seconds - (loop.time() - started)))

    async def nudged_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.nudged.wait()
        except TimeoutError:
            return

    async def listen(self, broker: LiveBroker) -> None:
        """Whatever the venue pushes means: look. Where nothing can be pushed, or it breaks off, polling goes on."""
        wait = self.pace.backoff_seconds_min
        while True:
            try:
                async with aclosing(broker.changes()) as changes:
                    async for _ in changes:
                        wait = self.pace.backoff_seconds_min
                        self.nudge()
            except NotPossible:
                return
            except BrokerFault as fault:
                logger.warning("%s is not told of changes, and asks: %s", self.account_id, fault)
            self.nudge()
            await asyncio.sleep(wait)
            wait = min(wait * 2, self.pace.backoff_seconds_max)

    # reading

    async def read(self, broker: LiveBroker) -> VenueState:
        """The venue's side; one failure is forgiven, unless trying again is of no use."""
        try:
            return await self.undisturbed(broker)
        except (Denied, NotPossible):
            raise
        except BrokerFault as fault:
            after = fault.retry_after_seconds if isinstance(fault, Unreachable) else None
            if after is not None and after > self.pace.quiet_seconds:
                raise
            logger.warning("account %s could not be read and is tried again: %s", self.account_id, fault)
            await asyncio.sleep(max(self.pace.retry_seconds, after or 0.0))
        return await self.undisturbed(broker)

    async def undisturbed(self, broker: LiveBroker) -> VenueState:
        """A state that was read while no order of ours was under way: else a fill could be in it and come once more."""
        reductions = self.engine.reductions
        await reductions.certain(self.account_id, self.pace.quiet_seconds)
        end = asyncio.get_running_loop().time() + self.pace.quiet_seconds
        while True:
            before = reductions.orders_sent(self.account_id)
            state = await self.explained(broker)
            if reductions.orders_sent(self.account_id) == before or asyncio.get_running_loop().time() > end:
                return state
            await reductions.certain(self.account_id, self.pace.quiet_seconds)

    async def explained(self, broker: LiveBroker) -> VenueState:
        """The venue's state; where positions differ from the books, with the trades that led to it.

        By these a fill that an engine reports later is known to be counted already.
        """
        seconds, doing = self.pace.call_seconds, "reading the account"
        state = await self.answered(broker.state(), doing, seconds)
        account = self.account
        if account.sync is None or account.sync.at is None:
            return state
        there = {(one.symbol, one.quantity) for one in state.positions if one.quantity}
        if there == {(one.symbol, one.quantity) for one in account.positions.values()}:
            return state
        return await self.answered(broker.state(account.sync.at - FILLS_OVERLAP), doing, seconds)

    async def with_apart(self, broker: LiveBroker, state: VenueState) -> VenueState:
        """The state with the wallet that backs no position, where the venue has one and it is time to look.

        Not being able to read that one loses no sight of the account: what was known of it stays, and why is said.
        """
        now = asyncio.get_running_loop().time()
        if not has_wallet_apart(broker.profile, self.account):
            return state
        if now - self.apart_read_at < self.pace.apart_seconds and not self.requests:
            return state
        self.apart_read_at = now
        try:
            found = await self.answered(broker.loans(), "reading the margin wallet", self.pace.call_seconds)
        except BrokerFault as fault:
            if self.apart_problem != str(fault):
                self.apart_problem = str(fault)
                logger.warning("debts of %s in the margin wallet are not known: %s", self.account_id, fault)
            return state
        self.apart_problem = ""
        return msgspec.structs.replace(state, apart=found)

    async def take_over(self, broker: LiveBroker, state: VenueState, requests: list[Requested]) -> None:
        """Record what the venue says. Instruments and prices come first, so that it can be judged at once."""
        symbols = {one.symbol for one in state.positions} | {one.symbol for one in state.orders}
        await self.furnish(broker, symbols)
        marks = self.marks()
        configured = self.live.venues.symbols(self.account.broker)
        marks.want(self.account_id, symbols | self.symbols_of_books() | self.named | set(configured))
        await marks.ensure({one.symbol for one in state.positions})
        wallets = (*state.balances, *(state.apart or ()))
        owned = {one.asset for one in wallets if one.total or one.debt}
        await self.value_collateral(broker, owned | self.account.debts_apart.keys())
        if not requests:
            if self.says_something(state):
                await self.record(c.RecordSync(state), "", SYSTEM)
            return
        for request in requests:
            self.requests.remove(request)
            before = self.account
            try:
                committed = await self.record(c.RecordSync(state), request.request_id, request.actor)
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                if not request.answer.done():
                    request.answer.set_exception(error)
            else:
                if not request.answer.done():
                    request.answer.set_result(Synced(before, committed))

    async def value_collateral(self, broker: LiveBroker, assets: Collection[str]) -> None:
        """See that assets which the house values by an instrument have its mark: the venue's, where nobody gives one.

        Without it the account's worth would stay unknown although its venue tells the price.
        """
        house, marks, venue = self.engine.house, self.marks(), self.account.broker
        rules = [
            house.assets[asset]
            for asset in {*assets, *self.lent}
            if asset != self.account.currency and asset in house.assets
        ]
        lent: dict[str, str] = {}
        for name in sorted({rule.priced_by for rule in rules if rule.priced_by and ":" not in rule.priced_by}):
            symbol = f"{venue}:{name}"
            if symbol in self.untraded:
                continue
            try:
                await self.furnish(broker, {symbol})
            except Rejected as rejected:
                logger.warning("%s values no collateral by %s: %s", venue, name, rejected)
                self.untraded.add(symbol)
            else:
                lent[symbol] = name
        marks.lent_names.update(lent)
        marks.want(f"{self.account_id} collateral", lent)
        await marks.ensure(lent.values(), by=lent)

    def says_something(self, state: VenueState) -> bool:
        """Whether a state is worth a row in the journal: something differs, or what is known has grown old."""
        account, world = self.account, self.engine.world()
        assert account.sync is not None
        known = account.sync
        if known.at is None or known.status is not SyncStatus.FRESH:
            return True
        if state.at - known.at > self.engine.risk.live_state_max_age * RENEWED_AT:
            return True
        synced, *others = decide(account, c.RecordSync(state), world) or (None,)
        if others or not isinstance(synced, e.AccountSynced):
            return bool(others) or synced is not None
        same_mode = synced.position_mode is account.position_mode
        return not same_mode or any(getattr(synced, field) for field in DIFFERENCES)

    async def record(self, command: c.Command, request_id: str, actor: Actor) -> Committed[e.AccountEvent]:
        """Submit. A repeated request is recognised by what was asked, not by what the venue says meanwhile."""
        digest = SYNC_DIGEST if request_id else None
        return await self.engine.submit(self.account_id, command, request_id=request_id, actor=actor, digest=digest)

    def symbols_of_books(self) -> set[str]:
        """Instruments that the house's side of the account rests on."""
        account = self.account
        rows: tuple[Iterable[str], ...] = (
            (one.symbol for one in account.positions.values()),
            (one.symbol for one in account.reservations.values()),
            account.leverage,
            account.pending,
        )
        known = self.engine.house.instruments
        return {symbol for row in rows for symbol in row if symbol in known}

    async def lose(self, fault: BrokerFault) -> None:
        """Say that, and why, the venue's side is no longer known."""
        self.problem = f"{'access denied' if isinstance(fault, Denied) else 'not reached'}: {fault}"
        logger.warning("account %s is lost: %s", self.account_id, self.problem)
        sync = self.account.sync
        if sync is not None and sync.status is SyncStatus.LOST and sync.reason == self.problem:
            return
        try:
            await self.record(c.LoseSync(self.problem), "", SYSTEM)
        except ShardError:
            logger.exception("that account %s is lost could not be recorded", self.account_id)

    def refuse_requests(self, fault: BrokerFault) -> None:
        reason = FaultReason.BROKER_UNREACHABLE if isinstance(fault, Unreachable) else FaultReason.BROKER_NOT_READY
        requests, self.requests = self.requests, []
        for request in requests:
            if not request.answer.done():
                words = f"{self.account.broker}: {fault}"
                request.answer.set_exception(Fault(reason, words, account_id=self.account_id, code=fault.code))

    async def answered(self, call: Awaitable[T], doing: str, seconds: float) -> T:
        """The answer of a call that only reads; no answer in time is Unreachable."""
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            raise Unreachable(f"{doing}: no answer within {seconds:g} s") from None

    # instruments

    async def furnish_configured(self, broker: LiveBroker) -> None:
        """Put the instruments of the settings and of the books. One that the venue does not know is said, no more."""
        wanted = {*self.live.venues.symbols(self.account.broker), *self.symbols_of_books()}
        try:
            await self.furnish(broker, wanted)
        except Rejected:
            for symbol in sorted(wanted):
                try:
                    await self.furnish(broker, {symbol})
                except Rejected as rejected:
                    logger.warning("%s does not trade %s: %s", self.account.broker, symbol, rejected)

    async def furnish(self, broker: LiveBroker, symbols: Collection[str]) -> None:
        """Put the terms of instruments that were not read for a while into the house."""
        now = asyncio.get_running_loop().time()
        old = sorted(one for one in symbols if now - self.known.get(one, float("-inf")) > self.pace.terms_seconds)
        if not old:
            return
        found = await self.answered(broker.instruments(old), "reading instruments", self.pace.call_seconds)
        for instrument in found:
            await self.put(instrument)
            self.known[instrument.symbol] = now
        if missing := set(old) - {one.symbol for one in found}:
            raise Rejected(f"the terms of {', '.join(sorted(missing))} are not told")

    async def put(self, instrument: Instrument) -> None:
        if self.engine.house.instruments.get(instrument.symbol) == instrument:
            return
        if problems := instrument_problems(instrument):
            field, problem = problems[0]
            raise Rejected(f"the terms of {instrument.symbol} can't be used: {field} {problem}")
        await self.engine.submit_house(c.PutInstrument(instrument), request_id="", actor=SYSTEM)


def has_wallet_apart(profile: VenueProfile, account: Account) -> bool:
    """Whether the venue lends in a wallet of its own; a test network has none."""
    return profile.loans_apart and account.environment is Environment.LIVE


FILLS_OVERLAP = timedelta(seconds=60)
"""Trades are asked for from a little before the last read: clocks differ, and some trades are told late."""
SYNC_DIGEST = b"SyncAccount"
RENEWED_AT = 0.5
"""Share of the age that a state may have, after which one that differs in nothing is journaled all the same."""
DIFFERENCES = (
    "balances",
    "debts",
    "debts_apart",
    "positions",
    "vanished",
    "changes",
    "leverage",
    "margin_modes",
    "reservations",
    "released",
    "cancelled",
)
"""What an AccountSynced has in it where something differs; the rest are the venue's own numbers, of the moment."""
