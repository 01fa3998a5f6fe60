"""What answers to mutations have in common: their place in the journal, their verdict, and the account they left."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.apply import apply
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.shard_answers import Committed

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

ROWS_TOGETHER = 1000

CODEC: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)


def opening(place: tuple[int, int], committed: "Committed[Any]") -> dict[str, Any]:
    """The first fields of an answer to a mutation."""
    return {
        "revision": convert.revision(place),
        "as_of": convert.timestamp(committed.at),
        "replayed": committed.replayed,
    }


def verdict(engine: "Engine", account_id: str, committed: "Committed[e.AccountEvent]") -> dict[str, Any]:
    """The first fields of an answer to a mutation of an account that can be refused."""
    place = (engine.home[account_id], committed.last_position)
    return {**opening(place, committed), **judged(committed.events)}


def judged(events: Iterable[e.Event]) -> dict[str, Any]:
    """Whether it was done, and every rule that refused it."""
    refused = refusal_of(events)
    violations = convert.violations(refused.violations) if refused is not None else []
    return {"accepted": refused is None, "violations": violations}


def refusal_of(events: Iterable[e.Event]) -> e.CommandRefused | None:
    """The refusal, None where the command was carried out. A refusal stands alone."""
    first = next(iter(events), None)
    return first if isinstance(first, e.CommandRefused) else None


def reading(place: tuple[int, int], at: datetime) -> dict[str, Any]:
    """The first fields of an answer that only shows."""
    return {"revision": convert.revision(place), "as_of": convert.timestamp(at)}


async def carried_out(
    engine: "Engine", account_id: str, command: c.Command, *, request_id: str, actor: Actor
) -> tuple["Committed[e.AccountEvent]", Account]:
    """Submit a command: what was committed, and the account as the command left it, whatever happened to it since.

    That is what the answer must show, the first time and again when the request is repeated. Most often nothing
    happened since and the account is at hand. Else its events are folded from the journal: after a first answer the few
    that came with the command, after a repeated one the whole history of the account.
    """
    start, place = engine.account(account_id), engine.revision(account_id)
    committed = await engine.submit(account_id, command, request_id=request_id, actor=actor)
    account, shard = engine.account(account_id), place[0]
    changed_at = engine.changed_at.get(account_id)
    if changed_at is not None and changed_at <= committed.last_position:
        return committed, account
    if not committed.replayed:
        return committed, await folded(engine.journal, start, place, account_id, committed.last_position)
    later = await engine.journal.list_rows(account_id=account_id, after=(shard, committed.last_position), limit=1)
    if not any(row.shard == shard for row in later):
        return committed, account
    return committed, await folded(engine.journal, None, (shard, 0), account_id, committed.last_position)


async def folded(
    journal: Journal, start: Account | None, place: tuple[int, int], account_id: str, last_position: int
) -> Account:
    """The account at `last_position`, from `start` at an earlier place in its shard."""
    account, (shard, position) = start, place
    while position < last_position:
        rows = await journal.list_rows(account_id=account_id, after=(shard, position), limit=ROWS_TOGETHER)
        for row in rows:
            if row.shard == shard and row.position <= last_position:
                account = apply(account, CODEC.decode_event(row.payload))
        if len(rows) < ROWS_TOGETHER or rows[-1].shard != shard:
            break
        position = rows[-1].position
    assert account is not None, f"account {account_id} has no events up to position {last_position}"
    return account
