"""ExplainEvent: which event is meant, and the explanation as a message."""

from typing import TYPE_CHECKING

from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.core.working import Figure
from debt_mgmt.server.explaining import Explained, explained
from debt_mgmt.server.journal.journal import LOG_OPENED, Row
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import reading
from debt_mgmt.server.rpc.audit_search import HOUSE_SHARD, Search, event_message, newest
from debt_mgmt.server.rpc.seen import as_seen
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import audit_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


async def explain_event(engine: "Engine", request: wire.ExplainEventRequest, call: "Call") -> wire.ExplainEventResponse:
    row = await meant(engine, request, call)
    found = await explained(engine, row, lambda violations: as_seen(violations, call.actor))
    place = engine.house_revision() if row.shard == HOUSE_SHARD else engine.revision(row.account_id)
    return wire.ExplainEventResponse(
        **reading(place, engine.clock()),
        event=event_message(row, call.actor),
        summary=found.explanation.summary,
        figures=[figure(one) for one in found.explanation.figures],
        marks=convert.marks(found.marks, row.at, engine.risk.mark_max_age),
        violations=convert.violations(as_seen(found.explanation.violations, call.actor)),
        margin_rules=found.margin_rules,
        led_by=led_by(found, call),
        remedy=found.explanation.remedy,
        reproduced=found.reproduced,
    )


async def meant(engine: "Engine", request: wire.ExplainEventRequest, call: "Call") -> Row:
    """The event asked about. One that the caller may not see is like one that is not there."""
    read = Reader()
    chosen = read.one_of(request, "event")
    if chosen == "event_revision":
        shard, position = request.event_revision.shard, request.event_revision.position
        if request.account_id:
            read.problem("account_id", "must be empty where the event is named by its place")
        read.done()
        rows = await engine.journal.read_rows(shard, position, position) if position > 0 else []
        if not rows or rows[0].kind == LOG_OPENED or not sees(rows[0], call):
            raise InvalidRequest([("event_revision", f"there is no event at {shard}:{position}")])
        return rows[0]
    request_id = read.request_id(request.caused_by_request_id, "caused_by_request_id") if chosen else ""
    account_id = read.account_id(request.account_id)
    read.done()
    call.actor.check_sees(account_id)
    engine.account(account_id)
    search = Search(account_id, [], "", request_id, None, None, True)
    rows = await newest(engine.journal, search, None, 1, engine.clock())
    if not rows:
        raise InvalidRequest([("caused_by_request_id", f"no event of {account_id} was caused by this request")])
    return rows[0]


def sees(row: Row, call: "Call") -> bool:
    if row.shard == HOUSE_SHARD:
        return call.actor.accounts is None
    return call.actor.may_see(row.account_id)


def figure(one: Figure) -> wire.ExplainedFigure:
    return wire.ExplainedFigure(name=one.name, value=one.value, working=one.working)


def led_by(found: Explained, call: "Call") -> list[wire.AuditEvent]:
    """Oldest first."""
    rows = sorted(found.led_by, key=lambda row: (row.at, row.shard, row.position))
    return [event_message(row, call.actor) for row in rows]
