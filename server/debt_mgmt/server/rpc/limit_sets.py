"""Limit sets: the tree of limits, what of each is used, and how it is changed."""

from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.scope import HOUSE, Scope
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.rpc.answers import reading
from debt_mgmt.server.rpc.changes import verdict_of_house
from debt_mgmt.server.rpc.leverage import instrument_of
from debt_mgmt.server.rpc.limit_set_messages import read_limit_set, read_scope, status_message
from debt_mgmt.server.rpc.pages import Cursor, page_of
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import risk_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call


class LimitSets:
    engine: "Engine"

    async def ListLimitSets(self, request: wire.ListLimitSetsRequest, call: "Call") -> wire.ListLimitSetsResponse:
        engine, read = self.engine, Reader()
        size = read.page_size(request.page_size)
        concerning = read_scope(read, request.concerning, "concerning")
        read.done()
        if concerning.account_id:
            call.actor.check_sees(concerning.account_id)
        wanted = [
            one
            for one in engine.house.limit_sets.values()
            if concerns(engine, one.scope, concerning) and is_seen(engine, one.scope, call.actor)
        ]
        page, following = page_of(
            wanted, place_of, size, request.page_token, "ListLimitSets", concerning.key
        )  # fmt: skip
        return wire.ListLimitSetsResponse(
            **reading(engine.house_revision(), engine.clock()),
            limit_sets=[status_message(engine, one, call.actor) for one in page],
            next_page_token=following,
        )

    async def PutLimitSet(self, request: wire.PutLimitSetRequest, call: "Call") -> wire.PutLimitSetResponse:
        engine, read = self.engine, Reader()
        request_id = read.request_id(request.request_id)
        read.present(request, "limit_set")
        limit_set = read_limit_set(read, request.limit_set)
        read.done()
        check_node(engine, limit_set.scope, call.actor)
        committed = await engine.second_person.ask(
            c.PutLimitSet(limit_set), limit_set.scope, method=call.method, request_id=request_id, actor=call.actor
        )
        put = next((event.limit_set for event in committed.events if isinstance(event, e.LimitSetPut)), None)
        left = put or engine.house.limit_sets.get(limit_set.key)
        return wire.PutLimitSetResponse(
            **verdict_of_house(committed),
            limit_set=None if left is None else status_message(engine, left, call.actor),
        )

    async def DeleteLimitSet(self, request: wire.DeleteLimitSetRequest, call: "Call") -> wire.DeleteLimitSetResponse:
        engine, read = self.engine, Reader()
        request_id = read.request_id(request.request_id)
        scope = read_scope(read, request.scope, "scope")
        name = read.optional_id(request.name, "name")
        reason = read.text(request.reason, "reason")
        read.done()
        check_may_change(scope, call.actor)
        command = c.DeleteLimitSet(scope, name, reason)
        committed = await engine.second_person.ask(
            command, scope, method=call.method, request_id=request_id, actor=call.actor
        )
        return wire.DeleteLimitSetResponse(**verdict_of_house(committed))


def place_of(one: LimitSet) -> Cursor:
    """From the house downwards."""
    scope = one.scope
    fields = [scope.owner, scope.account_id, scope.strategy, scope.symbol]
    return [sum(map(bool, fields)), *fields, one.name]


def concerns(engine: "Engine", scope: Scope, named: Scope) -> bool:
    """Whether a node concerns what is named: given an account, those of its owner and of the house do too."""
    if named == HOUSE:
        return True
    account = engine.account(named.account_id) if named.account_id in engine.home else None
    owner = named.owner or (account.owner if account is not None else "")
    return scope.concerns(owner, named.account_id, named.strategy, named.symbol)


def is_seen(engine: "Engine", scope: Scope, actor: Actor) -> bool:
    """Whether a node concerns an account that the caller may see."""
    if actor.accounts is None:
        return True
    if scope.account_id:
        return actor.may_see(scope.account_id)
    seen = actor.seen(engine.accounts())
    return not scope.owner or any(engine.account(one).owner == scope.owner for one in seen)


def check_may_change(scope: Scope, actor: Actor) -> None:
    """A caller who is limited to some accounts changes their limits only."""
    if scope.account_id:
        actor.check_sees(scope.account_id)
    else:
        actor.check_sees_everything()


def check_node(engine: "Engine", scope: Scope, actor: Actor) -> None:
    """A limit that concerns nothing, for a name that is misspelt, would protect from nothing: it is not taken."""
    check_may_change(scope, actor)
    if scope.account_id:
        account = engine.account(scope.account_id)
        read = Reader()
        if scope.owner not in ("", account.owner):
            read.problem("limit_set.scope.owner", f"account {account.account_id} is not this owner's")
        read.done()
    if scope.symbol:
        instrument_of(engine.world(), scope.symbol)
