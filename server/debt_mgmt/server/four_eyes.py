"""Four eyes: what needs a second person is proposed instead of done, and carried out once somebody else approves it."""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Environment
from debt_mgmt.core.changes import ChangeState, ProposedChange, effects_in
from debt_mgmt.core.decide import is_dry
from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import FourEyes
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.server.digests import digest_of
from debt_mgmt.server.shard_answers import Committed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

HOUSE = ""


class SecondPerson:
    """Which commands wait for somebody else, and what becomes of them.

    A command to an account is refused by the account's own decision (`core/draft.py`), on the state that it is decided
    on, so two requests at once can't slip past; the refusal leads to a proposal. A command to the house goes through
    `ask`, and is proposed or carried out in one decision of the house.
    """

    def __init__(self, engine: "Engine", waits: timedelta) -> None:
        self.engine = engine
        self.waits = waits
        self.failed: set[str] = set()
        """Approved changes that could not be carried out, which was said once."""

    @property
    def mode(self) -> FourEyes:
        return self.engine.risk.second_person

    def concerns(self, scope: Scope) -> bool:
        """Whether changes of a node wait: whether an account that counts belongs to it. Strategies and instruments are
        open to every account."""
        if self.mode is not FourEyes.LIVE:
            return self.mode.is_on
        engine = self.engine
        return any(
            account.closed_at is None
            and account.environment is Environment.LIVE
            and scope.concerns(account.owner, account.account_id, scope.strategy, scope.symbol)
            for shard in engine.shards.values()
            for account in shard.entities.values()
        )

    def has_live_accounts(self) -> bool:
        accounts = (one for shard in self.engine.shards.values() for one in shard.entities.values())
        return any(one.environment is Environment.LIVE and one.closed_at is None for one in accounts)

    def check_opening(self, command: c.CreateAccount) -> None:
        """An account that is opened outside of dry run would have left it by another door. Raises InvalidRequest."""
        if not is_dry(command) and self.mode.concerns(command.environment):
            words = "must be true: open it in dry run, which SetDryRun ends with a second person"
            raise InvalidRequest([("dry_run", words)])

    # proposing

    async def propose(
        self, account_id: str, command: c.Command, refused: Violation, *, method: str, request_id: str, actor: Actor
    ) -> str:
        """Let a command wait that the account has refused for want of a second person: the id of the change.

        The account's answer to the request id is kept, and so is this one: a repeat is told of the same change.
        """
        proposal = c.ProposeChange(
            account_id=account_id,
            asked=c.as_json(command),
            method=method,
            scope=Scope(account_id=account_id),
            effects=effects_in(refused),
            reason=getattr(command, "reason", ""),
            by=actor.name,
            waits=self.waits,
        )
        digest = digest_of(command)
        committed = await self.engine.submit_house(
            proposal, request_id=f"{account_id}/{request_id}", actor=actor, digest=digest
        )
        self.tell(committed)
        change_id = proposed_in(committed.events)
        assert change_id is not None, "a change of an account that it refused to do alone is always proposed"
        return change_id

    async def ask(
        self, command: c.Command, scope: Scope, *, method: str, request_id: str, actor: Actor
    ) -> Committed[e.HouseEvent]:
        """Have the house decide a command: at once, or, where it concerns accounts that need that and
        `core.house.effects_on_house` names effects, once somebody else approves it (`proposed_in` the events)."""
        digest = digest_of(command)
        if self.concerns(scope):
            proposal = c.ProposeChange(
                account_id=HOUSE,
                asked=c.as_json(command),
                method=method,
                scope=scope,
                effects=(),
                reason=getattr(command, "reason", ""),
                by=actor.name,
                waits=self.waits,
            )
            committed = await self.engine.submit_house(proposal, request_id=request_id, actor=actor, digest=digest)
        else:
            committed = await self.engine.submit_house(command, request_id=request_id, actor=actor, digest=digest)
        self.tell(committed)
        return committed

    def tell(self, committed: Committed[e.HouseEvent]) -> None:
        for event in committed.events:
            if isinstance(event, e.ChangeProposed) and not committed.replayed:
                one = event.change
                logger.warning(
                    "%s waits for a second person until %s: %s of %s by %s (%s): %s",
                    *(one.change_id, f"{one.expires_at:%Y-%m-%d %H:%M:%S} UTC", one.method, one.scope.words),
                    *(one.proposed_by, one.reason or "no reason given", "; ".join(one.effects)),
                )

    # carrying out

    async def carry_out(self, change: ProposedChange, actor: Actor) -> tuple[Violation, ...]:
        """Do what was approved, once however often this is called. The rules that refused it; none: it was done."""
        violations = await self.do(change, actor)
        engine, change_id = self.engine, change.change_id
        await engine.submit_house(c.RecordChangeOutcome(change_id, violations), request_id="", actor=SYSTEM)
        return violations

    async def do(self, change: ProposedChange, actor: Actor) -> tuple[Violation, ...]:
        """Have it decided where it belongs. The rules that refused it."""
        engine, change_id = self.engine, change.change_id
        command, request_id = c.CarryOutChange(change_id, change.command, change.effects), f"carry-out/{change_id}"
        digest = digest_of(c.CarryOutChange(change_id, change.command))
        try:
            c.read_command(change.command)
        except msgspec.DecodeError as error:
            logger.error("%s can't be carried out, this version can't read what was proposed: %s", change_id, error)
            return (Violation(Reason.CHANGE_NOT_FOUND, change_id, note="this version can't read what was proposed"),)
        events: Iterable[e.Event]
        if change.account_id:
            done = await engine.submit(change.account_id, command, request_id=request_id, actor=actor, digest=digest)
            events = done.events
        else:
            decided = await engine.submit_house(command, request_id=request_id, actor=actor, digest=digest)
            events = decided.events
        return next((one.violations for one in events if isinstance(one, e.CommandRefused)), ())

    async def begin(self) -> None:
        """Carry out what was approved before the service ended, and had not been carried out."""
        await self.carry_on()

    async def sweep(self, now: datetime) -> None:
        """End what nobody approved in time, and carry out what whoever approved it could not wait for."""
        changes = self.engine.house.changes.values()
        if any(one.state is ChangeState.PENDING and not one.waits(now) for one in changes):
            await self.engine.submit_house(c.ExpireChanges(), request_id="", actor=SYSTEM)
        await self.carry_on()

    async def carry_on(self) -> None:
        for change in [one for one in self.engine.house.changes.values() if one.is_due]:
            try:
                await self.carry_out(change, both(change, change.decided_by))
            except Exception:
                if change.change_id not in self.failed:
                    self.failed.add(change.change_id)
                    logger.exception("%s is approved and can't be carried out; it is tried again", change.change_id)

    def waiting(self) -> int:
        """Changes that wait for approval."""
        now = self.engine.clock()
        return sum(one.waits(now) for one in self.engine.house.changes.values())

    def say(self) -> None:
        """Once at the start: what of it is in force."""
        if self.mode is FourEyes.UNAUTHENTICATED:
            if self.has_live_accounts():
                logger.warning(
                    "FOUR EYES IS OFF: callers are not authenticated, so nobody can be told from anybody. One person "
                    "alone ends halts, raises limits and leaves dry run. Set server.auth"
                )
            else:
                logger.info(
                    "four eyes is off, as callers are not authenticated; before a live account: set server.auth"
                )
        elif self.mode is FourEyes.OFF:
            logger.warning("four eyes is off (risk_settings.four_eyes): one person alone ends halts and raises limits")


def both(change: ProposedChange, by: str, like: Actor | None = None) -> Actor:
    """Under whose names a change is carried out: a search of the audit finds it by either."""
    name = f"{by} for {change.proposed_by}"
    return Actor(name) if like is None else Actor(name, like.role, like.peer)


def proposed_in(events: "Iterable[e.Event]") -> str | None:
    """The change that waits; None where the command was decided at once."""
    return next((one.change.change_id for one in events if isinstance(one, e.ChangeProposed)), None)


def second_person_missing(events: "Iterable[e.Event]") -> Violation | None:
    """The violation of a refusal that asks for a second person."""
    refusals = (one for one in events if isinstance(one, e.CommandRefused))
    found: Any = (one for event in refusals for one in event.violations if one.reason is Reason.NEEDS_SECOND_PERSON)
    return next(found, None)
