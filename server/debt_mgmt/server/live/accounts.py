"""All live accounts: a supervisor for each, the marks of their venues, and who waits for what was asked of them."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment
from debt_mgmt.core.commands import RecordSync
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.venue import VenueState
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    Broker,
    BrokerFault,
    BrokerFill,
    BrokerOrder,
    Rejected,
    StillOpen,
    Unreachable,
)
from debt_mgmt.server.brokers.live import LiveBroker
from debt_mgmt.server.live.marks import VenueMarks
from debt_mgmt.server.live.pace import Pace
from debt_mgmt.server.live.supervisor import SYNC_DIGEST, Supervisor, Synced
from debt_mgmt.server.live.venues import NoVenues, Venues

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

REFUSALS_KEPT = 1000


class LiveAccounts:
    """At most one supervisor an account. What is pending is in the account's state, so a restart goes on with it."""

    def __init__(self, venues: Venues | None = None, pace: Pace = Pace()) -> None:  # noqa: B008
        self.venues: Venues = venues or NoVenues()
        self.pace = pace
        self.engine: Engine
        self.supervisors: dict[str, Supervisor] = {}
        self.marks: dict[tuple[str, Environment], VenueMarks] = {}
        self.waiting: dict[str, list[tuple[str, asyncio.Future[None]]]] = {}
        """Account id → changes that somebody waits for."""
        self.refusals: OrderedDict[tuple[str, str], e.VenueChangeRefused] = OrderedDict()
        """The last change on an account's symbol, where the venue refused it."""
        self.stopping = False

    # life

    def notice(self, account_id: str, account: Account) -> None:
        """The account was loaded or has changed: whoever has to act on that does."""
        if account.environment is Environment.SANDBOX or self.stopping:
            return
        if account.closed_at is not None:
            self.leave(account_id)
            return
        supervisor = self.supervisors.get(account_id)
        if supervisor is None:
            self.supervisors[account_id] = Supervisor(self, account_id)
        elif account.pending or account.loans:
            supervisor.nudge()
            for symbol in account.pending:
                self.refusals.pop((account_id, symbol), None)
        if account_id in self.waiting:
            pending = unanswered(account)
            for change_id, ended in self.waiting[account_id]:
                if change_id not in pending and not ended.done():
                    ended.set_result(None)

    def refused(self, account_id: str, event: e.VenueChangeRefused) -> None:
        self.refusals[account_id, event.change.symbol] = event
        if len(self.refusals) > REFUSALS_KEPT:
            self.refusals.popitem(last=False)

    def leave(self, account_id: str) -> None:
        """The account is closed: its venue is left alone from here on."""
        supervisor = self.supervisors.pop(account_id, None)
        if supervisor is not None:
            supervisor.task.cancel()
        for marks in self.marks.values():
            marks.want(account_id, ())
            marks.want(f"{account_id} collateral", ())

    async def stop(self) -> None:
        """Stop at once: what is not journaled yet is found again at the next start."""
        self.stopping = True
        await asyncio.gather(*(one.stop() for one in self.supervisors.values()))
        await asyncio.gather(*(one.stop() for one in self.marks.values()))

    def problems(self) -> list[str]:
        """Why accounts are not kept like their venues at this moment."""
        return [
            f"account {account_id}: {supervisor.problem}"
            for account_id, supervisor in sorted(self.supervisors.items())
            if supervisor.problem
        ]

    def ages(self, at: datetime) -> dict[str, float]:
        """How long ago each account's state was read, in seconds, by account id; one that never was is left out."""
        found = ((account_id, self.engine.account(account_id).sync) for account_id in self.supervisors)
        return {
            account_id: (at - sync.at).total_seconds()
            for account_id, sync in found
            if sync is not None and sync.at is not None
        }

    # asked by the edge

    def refuse_opening(self, broker: str, environment: Environment) -> None:
        """Raises Fault BROKER_NOT_READY where no account can be kept there, or its key is another account's already."""
        problem = self.venues.problem(broker, environment)
        if problem:
            raise Fault(FaultReason.BROKER_NOT_READY, problem, broker=broker)
        for account_id in self.supervisors:
            other = self.engine.account(account_id)
            if (other.broker, other.environment) == (broker, environment):
                words = f"the key of {broker} is that of account {account_id}: one account of the house mirrors it"
                raise Fault(FaultReason.BROKER_NOT_READY, words, broker=broker, account_id=account_id)

    def supervisor(self, account_id: str) -> Supervisor:
        supervisor = self.supervisors.get(account_id)
        if supervisor is None:
            raise Fault(FaultReason.BROKER_UNREACHABLE, "the service stops", account_id=account_id)
        return supervisor

    async def sync(self, account_id: str, request_id: str, actor: Actor) -> Synced:
        """Read the account from its venue now. Raises Fault with the venue's words where that fails.

        An account that has no venue, or is closed, refuses it.
        """
        account = self.engine.account(account_id)
        if account.sync is None or account.closed_at is not None:
            nothing = RecordSync(VenueState(self.engine.clock()))
            committed = await self.engine.submit(
                account_id, nothing, request_id=request_id, actor=actor, digest=SYNC_DIGEST
            )
            return Synced(account, committed)
        return await self.supervisor(account_id).sync(request_id, actor)

    async def learn(self, account: Account, symbols: Collection[str]) -> None:
        """Make instruments of the account's venue known. Raises Fault: not traded there, or not to be asked now."""
        unknown = sorted({one for one in symbols if one not in self.engine.house.instruments})
        if not unknown or account.environment is Environment.SANDBOX:
            return
        try:
            await self.supervisor(account.account_id).learn(unknown)
        except Rejected as fault:
            words = f"{account.broker} does not trade {', '.join(unknown)}: {fault}"
            raise Fault(FaultReason.INSTRUMENT_NOT_FOUND, words, symbol=unknown[0]) from None
        except BrokerFault as fault:
            words = f"{account.broker} can't be asked about {', '.join(unknown)}: {fault}"
            raise Fault(FaultReason.BROKER_UNREACHABLE, words, code=fault.code) from None

    async def try_to_learn(self, account: Account, symbols: Collection[str]) -> None:
        """The same, but where it fails whatever follows says that the instrument is not known."""
        try:
            await self.learn(account, symbols)
        except Fault as fault:
            logger.warning("instruments of %s: %s", account.account_id, fault)

    async def try_to_price(self, account: Account, asset: str) -> None:
        """See that an asset that a live account wants to borrow has a price; without one the rules say so."""
        if account.sync is None or account.closed_at is not None:
            return
        try:
            await self.supervisor(account.account_id).price(asset)
        except (Fault, BrokerFault) as fault:
            logger.warning("the price of %s for %s: %s", asset, account.account_id, fault)

    async def settled(self, account_id: str, change_id: str, seconds: float) -> bool:
        """Wait until a change or a loan has come to its end at the venue; False when that takes longer."""
        if change_id not in unanswered(self.engine.account(account_id)):
            return True
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (change_id, ended)
        self.waiting.setdefault(account_id, []).append(entry)
        try:
            async with asyncio.timeout(seconds):
                await ended
        except TimeoutError:
            return False
        finally:
            self.waiting[account_id].remove(entry)
            if not self.waiting[account_id]:
                del self.waiting[account_id]
        return True

    # orders and marks

    def broker_of(self, account: Account) -> Broker:
        """Who carries the account's orders out."""
        return Line(self, account.account_id)

    async def cancel(self, account: Account, symbol: str, order_id: str) -> bool:
        """Cancel an order at the account's venue; False where it was gone already. Raises a BrokerFault."""
        return await Line(self, account.account_id).cancel(symbol, order_id)

    def marks_at(self, broker: str, environment: Environment) -> VenueMarks:
        """The marks of a venue, one stream for all who want some."""
        marks = self.marks.get((broker, environment))
        if marks is None:
            marks = VenueMarks(self.engine, broker, lambda: self.venues.feed(broker, environment), self.pace)
            self.marks[broker, environment] = marks
        return marks

    def price_by(self, broker: str, symbols: Collection[str], *, own_names: bool) -> None:
        """Price sandbox accounts by a venue's public marks, which needs no key: under the plain names of `symbols`.

        `own_names`: under the venue's names too, for there are no accounts on its test network.
        """
        marks = self.marks_at(broker, Environment.LIVE)
        marks.own_names = own_names
        marks.alias({f"{broker}:{symbol}": symbol for symbol in symbols})


def unanswered(account: Account) -> set[str]:
    """Ids of what the venue was asked for and has not answered yet."""
    return {one.change_id for one in account.pending.values()} | {one.loan_id for one in account.loans.values()}


class Line:
    """Orders of one account go to its venue over this, when there is a connection. No answer in time is Ambiguous."""

    def __init__(self, live: LiveAccounts, account_id: str) -> None:
        self.live = live
        self.account_id = account_id

    async def place(self, order: BrokerOrder) -> BrokerFill:
        seconds = self.live.pace.call_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self.connection().place(order)
        except TimeoutError:
            raise Ambiguous(f"no answer within {seconds:g} s") from None

    async def cancel(self, symbol: str, order_id: str) -> bool:
        seconds = self.live.pace.call_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self.connection().cancel(symbol, order_id)
        except TimeoutError:
            raise Ambiguous(f"no answer within {seconds:g} s") from None

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        seconds = self.live.pace.call_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self.connection().find(client_order_id, symbol)
        except TimeoutError:
            raise Unreachable(f"no answer within {seconds:g} s") from None

    def connection(self) -> LiveBroker:
        supervisor = self.live.supervisors.get(self.account_id)
        if supervisor is None or supervisor.broker is None:
            raise Unreachable(supervisor.problem if supervisor is not None else "the account is not kept")
        return supervisor.broker
