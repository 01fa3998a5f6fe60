"""Halts: new risk stopped and resumed at any node of the tree, and those in force."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core.access import Role
from debt_mgmt.core.account import Account, AlertKind, TradingState
from debt_mgmt.core.halts import Halt
from debt_mgmt.core.scope import HOUSE, Scope
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.digests import digest_of
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import reading
from debt_mgmt.server.rpc.changes import verdict_of_account, verdict_of_house
from debt_mgmt.server.rpc.pages import Cursor, moment, page_of
from debt_mgmt.server.rpc.validate import Reader, venue_of
from debt_mgmt.v1 import risk_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

Change = c.HaltTrading | c.ResumeTrading | c.HaltHouse | c.ResumeHouse

EARLIEST = convert.ERA
"""When a halt began of which nobody kept it."""


class Asked(NamedTuple):
    """A halt or its end: the node, and the command that does it."""

    request_id: str
    scope: Scope
    command: Change


class Halts:
    engine: "Engine"

    async def HaltTrading(self, request: wire.HaltTradingRequest, call: "Call") -> wire.HaltTradingResponse:
        return wire.HaltTradingResponse(**await self.change_trading(request, call))

    async def ResumeTrading(self, request: wire.ResumeTradingRequest, call: "Call") -> wire.ResumeTradingResponse:
        return wire.ResumeTradingResponse(**await self.change_trading(request, call))

    async def change_trading(
        self, request: wire.HaltTradingRequest | wire.ResumeTradingRequest, call: "Call"
    ) -> dict[str, Any]:
        """Halt or resume at a node: the fields of the answer."""
        return await self.carry_out(self.asked_for(request, call.actor), call)

    def asked_for(self, request: wire.HaltTradingRequest | wire.ResumeTradingRequest, actor: Actor) -> Asked:
        """What is asked for, by somebody who may ask for it. Raises Fault where they may not."""
        read = Reader()
        request_id = read.request_id(request.request_id)
        scope = self.scope_of(read, request, actor)
        reason = read.text(request.reason, "reason")
        read.done()
        halts = isinstance(request, wire.HaltTradingRequest)
        if scope.account_id and scope == Scope(account_id=scope.account_id):
            return Asked(request_id, scope, c.HaltTrading(reason) if halts else c.ResumeTrading(reason))
        if not scope.account_id:
            actor.check_sees_everything()
            actor.check_role(Role.RISK)
        node = msgspec.structs.asdict(scope)
        return Asked(request_id, scope, c.HaltHouse(reason, **node) if halts else c.ResumeHouse(reason, **node))

    def scope_of(
        self, read: Reader, request: wire.HaltTradingRequest | wire.ResumeTradingRequest, actor: Actor
    ) -> Scope:
        """The node. Of an account it is without the owner, whom the account names anyway."""
        match read.one_of(request, "scope"):
            case "account_id":
                return Scope(account_id=read.account_id(request.account_id))
            case "owner":
                return Scope(read.id(request.owner, "owner"))
            case "everything" if not request.everything:
                read.problem("everything", "must be true")
            case "node":
                return self.node_of(read, request.node, actor)
        return HOUSE

    def node_of(self, read: Reader, node: Any, actor: Actor) -> Scope:
        owner = read.optional_id(node.owner, "node.owner")
        account_id = read.optional_id(node.account_id, "node.account_id")
        strategy = read.optional_id(node.strategy, "node.strategy")
        if not (owner or account_id or strategy or node.symbol):
            read.problem("node", "must name an owner, account, strategy or symbol; `everything` is the whole house")
        if account_id and read.fine:
            actor.check_sees(account_id)
            account = self.engine.account(account_id)
            if owner not in ("", account.owner):
                read.problem("node.owner", f"is not the owner of account {account_id}")
            read.venue = venue_of(account)
        symbol = read.symbol(node.symbol, "node.symbol") if node.symbol else ""
        return Scope("" if account_id else owner, account_id, strategy, symbol)

    async def carry_out(self, asked: Asked, call: "Call") -> dict[str, Any]:
        engine, actor, scope, command = self.engine, call.actor, asked.scope, asked.command
        digest = digest_of(command)
        if isinstance(command, c.HaltTrading | c.HaltHouse):
            command = msgspec.structs.replace(command, by=actor.name)
        if isinstance(command, c.HaltTrading | c.ResumeTrading):
            committed = await engine.submit(
                scope.account_id, command, request_id=asked.request_id, actor=actor, digest=digest
            )
            answer = await verdict_of_account(engine, call, scope.account_id, command, asked.request_id, committed)
            return {**answer, "account_count": 1}
        if isinstance(command, c.HaltHouse) and scope.account_id and scope.symbol:
            account = engine.account(scope.account_id)
            if account.sync is not None:
                await engine.live.try_to_learn(account, [scope.symbol])
        request_id = asked.request_id  # of a limited caller it is apart: whether others used it is not for them to know
        if actor.accounts is not None:
            request_id = f"{scope.account_id}|{request_id}"
        if isinstance(command, c.HaltHouse):
            decided = await engine.submit_house(command, request_id=request_id, actor=actor, digest=digest)
        else:
            decided = await engine.second_person.ask(
                command, scope, method=call.method, request_id=request_id, actor=actor
            )
        return {
            **verdict_of_house(decided),
            "account_count": sum(1 for one in accounts_at(engine, scope, decided.at)),
        }

    async def ListHalts(self, request: wire.ListHaltsRequest, call: "Call") -> wire.ListHaltsResponse:
        engine = self.engine
        read = Reader()
        size = read.page_size(request.page_size)
        read.done()
        accounts = [engine.account(one) for one in call.actor.seen(engine.accounts())]
        found = [*house_halts(engine, call.actor, accounts), *account_halts(accounts)]
        page, following = page_of(found, place_of_halt, size, request.page_token, "ListHalts", newest_first=True)
        return wire.ListHaltsResponse(
            **reading(engine.house_revision(), engine.clock()),
            halts=[halt_status(one, accounts) for one in page],
            next_page_token=following,
        )


def accounts_at(engine: "Engine", scope: Scope, at: datetime) -> Iterator[Account]:
    """Accounts that a node concerns, as far as they were open at a time."""
    for account in map(engine.account, engine.accounts()):
        closed = account.closed_at is not None and account.closed_at <= at
        if account.created_at <= at and not closed and concerns(scope, account):
            yield account


def concerns(scope: Scope, account: Account) -> bool:
    """Whether the node concerns an account, or some orders of it."""
    return scope.owner in ("", account.owner) and scope.account_id in ("", account.account_id)


def house_halts(engine: "Engine", actor: Actor, accounts: list[Account]) -> Iterator[Halt]:
    """Halts of the house's log that the caller may know of.

    Who is limited to some accounts sees those of their accounts, owners and instruments, and not which strategies of
    others are halted.
    """
    for halt in engine.house.halts.values():
        if may_know(actor, halt) and (actor.accounts is None or any(concerns(halt.scope, one) for one in accounts)):
            yield halt


def may_know(actor: Actor, halt: Halt) -> bool:
    return actor.accounts is None or bool(halt.account_id) or not halt.strategy


def partly_halted(view: AccountView, actor: Actor) -> str:
    """Which strategies and instruments of an account are halted, in words."""
    return "; ".join(f"{one.scope.words} is halted: {one.reason}" for one in view.halts if may_know(actor, one))


def account_halts(accounts: list[Account]) -> Iterator[Halt]:
    """Accounts that are halted on their own."""
    for account in accounts:
        if account.trading_state is TradingState.HALTED:
            at = account.halted_at or next(
                (one.at for one in reversed(account.alerts) if one.kind is AlertKind.TRADING_HALTED), EARLIEST
            )
            yield Halt("", account.trading_reason, at, account.account_id, by=account.halted_by)


def place_of_halt(halt: Halt) -> Cursor:
    return [moment(halt.at), halt.scope.key]


def halt_status(halt: Halt, accounts: list[Account]) -> wire.HaltStatus:
    return wire.HaltStatus(
        scope=convert.scope(halt.scope),
        reason=halt.reason,
        actor=halt.by,
        halt_time=convert.timestamp(halt.at) if halt.at != EARLIEST else None,
        account_count=sum(1 for one in accounts if one.closed_at is None and concerns(halt.scope, one)),
    )
