"""AuditService: what happened, why, and the proof that it was not altered."""

from typing import TYPE_CHECKING

from debt_mgmt.server.journal.retention import begins_after
from debt_mgmt.server.journal.verification import Walk, walk
from debt_mgmt.server.rpc.answers import reading
from debt_mgmt.server.rpc.audit_search import Search, event_message, newest, oldest, place_of
from debt_mgmt.server.rpc.explain import explain_event
from debt_mgmt.server.rpc.pages import cursor_of, token_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import audit_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class AuditService:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def ListAuditEvents(self, request: wire.ListAuditEventsRequest, call: "Call") -> wire.ListAuditEventsResponse:
        engine = self.engine
        search, size = read_search(request, call.actor.accounts)
        if search.account_id:
            call.actor.check_sees(search.account_id)
            engine.account(search.account_id)
        cursor = cursor_of(request.page_token, "ListAuditEvents", *search.filters)
        at = engine.clock()
        find = newest if request.newest_first else oldest
        found = await find(engine.journal, search, cursor, size + 1, at)
        page = found[:size]
        following = token_of(place_of(page[-1]), "ListAuditEvents", *search.filters) if len(found) > size else ""
        place = engine.revision(search.account_id) if search.account_id else engine.house_revision()
        return wire.ListAuditEventsResponse(
            **reading(place, at), events=[event_message(row, call.actor) for row in page], next_page_token=following
        )

    async def ExplainEvent(self, request: wire.ExplainEventRequest, call: "Call") -> wire.ExplainEventResponse:
        return await explain_event(self.engine, request, call)

    async def VerifyAudit(self, request: wire.VerifyAuditRequest, call: "Call") -> wire.VerifyAuditResponse:
        engine = self.engine
        call.actor.check_sees_everything()
        heads = engine.heads()
        chosen = read_walk(request, list(heads))
        at = engine.clock()
        walks = [
            await walk(
                engine.journal,
                shard,
                heads[shard],
                start_position=request.start_position,
                most=request.max_events,
                before=await begins_after(engine.journal, shard),
            )
            for shard in chosen
        ]
        return wire.VerifyAuditResponse(
            **reading(engine.house_revision(), at),
            intact=all(one.intact for one in walks),
            shards=[walk_message(one) for one in walks],
        )


def read_search(request: wire.ListAuditEventsRequest, accounts: frozenset[str] | None) -> tuple[Search, int]:
    read = Reader()
    size = read.page_size(request.page_size)
    since, until = read.period(request)
    search = Search(
        account_id=read.optional_id(request.account_id, "account_id"),
        kinds=read.several(request.kinds, "kinds", read.id),
        actor=read.text(request.actor, "actor"),
        request_id=read.optional_id(request.request_id, "request_id"),
        since=since,
        until=until,
        newest_first=request.newest_first,
        accounts=None if accounts is None else tuple(sorted(accounts)),
    )
    read.done()
    return search, size


def read_walk(request: wire.VerifyAuditRequest, shards: list[int]) -> list[int]:
    """The shards to be walked."""
    read = Reader()
    if request.HasField("shard") and request.shard not in shards:
        read.problem("shard", f"must be one of {shards[0]} to {shards[-1]}")
    for name in ("start_position", "max_events"):
        if getattr(request, name) < 0:
            read.problem(name, "must not be negative")
    read.done()
    return [request.shard] if request.HasField("shard") else shards


def walk_message(found: Walk) -> wire.ShardVerification:
    return wire.ShardVerification(
        shard=found.shard,
        first_position=found.first_position,
        last_position=found.last_position,
        intact=found.intact,
        broken_position=found.broken_position,
        detail=found.detail,
        chain_hash=found.hash.hex() if found.hash is not None else "",
        head_position=found.head_position,
    )
