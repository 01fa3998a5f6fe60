"""What happened: the events of the journal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from debt_mgmt.client.answers import Answer, Revision, Violation
from debt_mgmt.client.call import Call, Pages, pages, query, whole
from debt_mgmt.client.figures import Mark
from debt_mgmt.client.methods import Methods, history, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import audit_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One event of the journal."""

    revision: Revision
    """Its place."""
    time: datetime
    """When it was decided."""
    account_id: str | None
    """None: the house."""
    request_id: str | None
    """The request that caused it. None: the service itself did."""
    actor: str
    """Who caused it."""
    kind: str
    """What happened, such as MarginReserved."""
    payload: str
    """The event as JSON object, with the prices and numbers that it was decided on."""
    chain_hash: str
    """Hash over this event and the one before, in lower-case hexadecimal."""

    def fields(self) -> dict[str, Any]:
        """The payload, decoded. Decimals are strings, as they were recorded."""
        decoded: dict[str, Any] = json.loads(self.payload)
        return decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardVerification:
    """What the walk over the chain of hashes of one shard found."""

    shard: int
    first_position: int
    """First position walked. 0: nothing was."""
    last_position: int
    """Last position walked. 0: nothing was."""
    head_position: int
    """Last position of the log. Beyond `last_position`: the walk is not over."""
    intact: bool
    broken_position: int | None
    """First position that does not fit. None when intact."""
    detail: str | None
    """What does not fit. None when intact."""
    chain_hash: str | None
    """Hash of the last event that fits. None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerification(Answer):
    """What the walk over the journal found."""

    intact: bool
    """Every shard is."""
    shards: tuple[ShardVerification, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFigure:
    """One figure of a decision."""

    name: str
    """As in MarginStatus where it has one; of a position or an asset with its name behind a point."""
    value: str | None
    """None: not known then."""
    working: str | None
    """How it was computed, with the numbers. None: it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventExplanation(Answer):
    """Why an event happened."""

    event: AuditEvent
    summary: str
    """The answer in a few sentences."""
    figures: tuple[ExplainedFigure, ...]
    """In the order of computing."""
    marks: tuple[Mark, ...]
    """Prices that it was decided on, with their age then."""
    violations: tuple[Violation, ...]
    """Rules that the request broke; none unless refused."""
    margin_rules: str | None
    """The margin rules applied, and the place in the journal as of which settings are meant."""
    led_by: tuple[AuditEvent, ...]
    """Earlier events that led to it, oldest first."""
    remedy: str | None
    """What would have prevented it. None: nothing known."""
    reproduced: bool
    """The decision was taken again from what was recorded and gave the same bytes."""


class AuditMethods(Methods):
    """Reads the journal."""

    @unary
    def verify_audit(
        self,
        *,
        shard: int | None = None,
        start_position: int | None = None,
        max_events: int | None = None,
        timeout: Timeout = None,
    ) -> Call[AuditVerification]:
        """Walks the chain of hashes of one shard or of all, and names the first event of each that does not fit.

        A long log is walked in several calls: of at most `max_events` each, from `last_position` + 1 on.
        """
        request = message(pb.VerifyAuditRequest, shard=shard, start_position=start_position, max_events=max_events)
        return query(self.raw.audit.VerifyAudit, request, whole(AuditVerification), timeout)

    @unary
    def explain_event(
        self,
        revision: Revision | None = None,
        *,
        account_id: str | None = None,
        caused_by: str | None = None,
        timeout: Timeout = None,
    ) -> Call[EventExplanation]:
        """Explains an event: by its place, or as the last one that a request of an account caused."""
        request = message(
            pb.ExplainEventRequest, event_revision=revision, account_id=account_id, caused_by_request_id=caused_by
        )
        return query(self.raw.audit.ExplainEvent, request, whole(EventExplanation), timeout)

    @history
    def audit_events(
        self,
        account_id: str | None = None,
        *,
        kinds: Sequence[str] = (),
        actor: str | None = None,
        request_id: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        timeout: Timeout = None,
    ) -> Pages[AuditEvent]:
        """Events by time; of all accounts that the caller may see and the house, where none is named. Filters add up.

        From `start_time`, inclusive, to `end_time`, exclusive; `limit` ends the list early.
        """
        request = message(
            pb.ListAuditEventsRequest,
            account_id=account_id,
            kinds=list(kinds),
            actor=actor,
            start_time=start_time,
            end_time=end_time,
            request_id=request_id,
            newest_first=newest_first,
        )
        return pages(self.raw.audit.ListAuditEvents, request, lambda page: page.events, AuditEvent, timeout, limit)
