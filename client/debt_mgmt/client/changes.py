"""Changes that need a second person: those that wait, and what somebody else says to them."""

from dataclasses import dataclass
from datetime import datetime

from debt_mgmt.client.answers import Outcome, Violation
from debt_mgmt.client.call import Call, Pages, command, pages
from debt_mgmt.client.enums import ChangeState
from debt_mgmt.client.methods import Methods, history, unary
from debt_mgmt.client.scope import Scope
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import risk_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChange:
    """A change that needs a second person, from the proposal to what became of it."""

    change_id: str
    state: ChangeState
    proposing_method: str
    """Such as RiskService/SetRiskLimits."""
    scope: Scope
    """What it concerns."""
    effects: tuple[str, ...]
    """What would be otherwise: one line for each value, before and after."""
    reason: str | None
    proposed_by: str
    propose_time: datetime
    expire_time: datetime
    """Until when it can be approved."""
    decided_by: str | None
    """Who approved or rejected it. None: nobody has."""
    decide_time: datetime | None
    note: str | None
    """What they said."""
    carry_out_time: datetime | None
    """When what became of an approved one was known."""
    violations: tuple[Violation, ...]
    """Rules that refused an approved one when it was to be carried out. Empty: none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveOutcome(Outcome):
    """The change carried out, or why not."""

    change: PendingChange | None
    """Afterwards. None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectOutcome(Outcome):
    """The change rejected, or why not."""

    change: PendingChange | None
    """Afterwards. None: there is none."""


class ChangeMethods(Methods):
    """Shows, approves and rejects what somebody else proposed."""

    @history
    def pending_changes(
        self, *, include_decided: bool = False, limit: int | None = None, timeout: Timeout = None
    ) -> Pages[PendingChange]:
        """Changes that wait for a second person, newest first; with `include_decided` also those that no longer do."""
        request = message(pb.ListPendingChangesRequest, include_decided=include_decided)
        return pages(
            self.raw.risk.ListPendingChanges, request, lambda page: page.changes, PendingChange, timeout, limit
        )

    @unary
    def approve_change(
        self, change_id: str, *, note: str | None = None, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[ApproveOutcome]:
        """Carries out exactly what somebody else proposed. Refused with SAME_PERSON to whoever proposed it."""
        request = message(pb.ApproveChangeRequest, request_id=request_id, change_id=change_id, note=note)
        return command(self.raw.risk.ApproveChange, request, ApproveOutcome, timeout)

    @unary
    def reject_change(
        self, change_id: str, *, note: str | None = None, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[RejectOutcome]:
        """Ends a change that waits, without carrying it out. Whoever proposed it may do that too."""
        request = message(pb.RejectChangeRequest, request_id=request_id, change_id=change_id, note=note)
        return command(self.raw.risk.RejectChange, request, RejectOutcome, timeout)
