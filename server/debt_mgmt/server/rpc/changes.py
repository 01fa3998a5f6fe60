"""Changes that need a second person: those that wait, and what somebody else says to them."""

from typing import TYPE_CHECKING, Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.changes import ChangeState, ProposedChange, needed
from debt_mgmt.core.refusals import Violation
from debt_mgmt.server.four_eyes import both, proposed_in, second_person_missing
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import judged, opening, reading, verdict
from debt_mgmt.server.rpc.names import Names
from debt_mgmt.server.rpc.pages import Cursor, page_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.server.shard_answers import RequestIdReused
from debt_mgmt.v1 import risk_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from datetime import datetime

    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call
    from debt_mgmt.server.shard_answers import Committed

CHANGE_STATE = Names(ChangeState, wire.ChangeState, "CHANGE_STATE")


class Changes:
    engine: "Engine"

    async def ListPendingChanges(
        self, request: wire.ListPendingChangesRequest, call: "Call"
    ) -> wire.ListPendingChangesResponse:
        engine, read, accounts = self.engine, Reader(), call.actor.accounts
        size = read.page_size(request.page_size)
        read.done()
        at = engine.clock()
        found = (
            one
            for one in engine.house.changes.values()
            if one.is_seen_by(accounts) and (request.include_decided or one.waits(at))
        )
        page, following = page_of(
            found,
            place_of_change,
            size,
            request.page_token,
            "ListPendingChanges",
            request.include_decided,
            newest_first=True,
        )
        return wire.ListPendingChangesResponse(
            **reading(engine.house_revision(), at),
            changes=[change_message(one, at) for one in page],
            next_page_token=following,
        )

    async def ApproveChange(self, request: wire.ApproveChangeRequest, call: "Call") -> wire.ApproveChangeResponse:
        decided = await self.decide(c.ApproveChange, request, call)
        answer = {**opening((0, decided.last_position), decided), **judged(decided.events)}
        change = self.engine.house.changes.get(request.change_id)
        if answer["accepted"] and change is not None:
            actor = both(change, call.actor.name, call.actor)
            answer |= outcome(await self.engine.second_person.carry_out(change, actor))
        return wire.ApproveChangeResponse(**answer, change=self.shown(request.change_id, call))

    async def RejectChange(self, request: wire.RejectChangeRequest, call: "Call") -> wire.RejectChangeResponse:
        decided = await self.decide(c.RejectChange, request, call)
        return wire.RejectChangeResponse(
            **opening((0, decided.last_position), decided),
            **judged(decided.events),
            change=self.shown(request.change_id, call),
        )

    async def decide(
        self,
        kind: type[c.ApproveChange] | type[c.RejectChange],
        request: wire.ApproveChangeRequest | wire.RejectChangeRequest,
        call: "Call",
    ) -> "Committed[e.HouseEvent]":
        """Approve or reject. To a caller who is limited to some accounts, request ids that others used say nothing."""
        read, actor = Reader(), call.actor
        request_id = read.request_id(request.request_id)
        change_id = read.id(request.change_id, "change_id")
        note = read.text(request.note, "note")
        read.done()
        accounts = None if actor.accounts is None else tuple(sorted(actor.accounts))
        command = kind(change_id, actor.name, note, accounts)
        own = request_id if accounts is None else f"{actor.name}/{request_id}"
        try:
            return await self.engine.submit_house(command, request_id=own, actor=actor)
        except RequestIdReused as reused:
            raise RequestIdReused(request_id, reused.position) from None

    def shown(self, change_id: str, call: "Call") -> wire.PendingChange | None:
        """The change as it is now; None where there is none, or none that the caller may know of."""
        change = self.engine.house.changes.get(change_id)
        if change is None or not change.is_seen_by(call.actor.accounts):
            return None
        return change_message(change, self.engine.clock())


# answers to what may need a second person


async def verdict_of_account(
    engine: "Engine",
    call: "Call",
    account_id: str,
    command: c.Command,
    request_id: str,
    committed: "Committed[e.AccountEvent]",
) -> dict[str, Any]:
    """The first fields of an answer: `verdict`, and where the account refused to do it alone, the change that waits."""
    answer = verdict(engine, account_id, committed)
    missing = second_person_missing(committed.events)
    if missing is None:
        return answer
    change_id = await engine.second_person.propose(
        account_id, command, missing, method=call.method, request_id=request_id, actor=call.actor
    )
    return {**answer, **waiting(change_id, missing)}


def verdict_of_house(committed: "Committed[e.HouseEvent]") -> dict[str, Any]:
    """The same for what `SecondPerson.ask` had the house decide."""
    answer = {**opening((0, committed.last_position), committed), **judged(committed.events)}
    change_id = proposed_in(committed.events)
    if change_id is None:
        return answer
    change = next(event.change for event in committed.events if isinstance(event, e.ChangeProposed))
    return {**answer, **waiting(change_id, needed(change_id, change.effects))}


def waiting(change_id: str, missing: Violation) -> dict[str, Any]:
    named = msgspec.structs.replace(missing, subject=change_id)
    return {"pending_change_id": change_id, **outcome((named,))}


def outcome(violations: tuple[Violation, ...]) -> dict[str, Any]:
    return {"accepted": not violations, "violations": convert.violations(violations)}


def change_message(change: ProposedChange, at: "datetime") -> wire.PendingChange:
    expired = change.state is ChangeState.PENDING and not change.waits(at)
    return wire.PendingChange(
        change_id=change.change_id,
        state=CHANGE_STATE.wire[ChangeState.EXPIRED if expired else change.state],
        proposing_method=change.method,
        scope=types_pb2.Scope(**msgspec.structs.asdict(change.scope)),
        effects=change.effects,
        reason=change.reason,
        proposed_by=change.proposed_by,
        propose_time=convert.timestamp(change.proposed_at),
        expire_time=convert.timestamp(change.expires_at),
        decided_by=change.decided_by,
        decide_time=convert.optional_timestamp(change.decided_at) if change.decided_by else None,
        note=change.note,
        carry_out_time=convert.optional_timestamp(change.carried_out_at),
        violations=convert.violations(change.violations),
    )


def place_of_change(change: ProposedChange) -> Cursor:
    """Changes by their place in the house's log, which their id holds."""
    return [int(change.change_id.rpartition("-")[2])]
