"""What answers to mutations have in common: their place in the journal, their verdict, and the account they left."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.apply import apply
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.shard_answers import Committed

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

ROWS_TOGETHER = 1000

CODEC: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)


def not_implemented(what: str) -> Fault:
    """The fault of a method that this version does not have."""
    return Fault(FaultReason.NOT_IMPLEMENTED, f"{what} comes with a later version")


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


async def account_after(engine: "Engine", account_id: str, committed: "Committed[e.AccountEvent]") -> Account:
    """The account as the command left it, whatever happened to it since.

    That is what the answer to a repeated request must show. Most often nothing happened since and the account is at
    hand; else it is folded from the journal, which takes as long as the account's history is.
    """
    account = engine.account(account_id)
    changed_at = engine.changed_at.get(account_id)
    if changed_at is not None and changed_at <= committed.last_position:
        return account
    shard, last = engine.home[account_id], committed.last_position
    later = await engine.journal.list_rows(account_id=account_id, after=(shard, last), limit=1)
    if not any(row.shard == shard for row in later):
        return account
    folded: Account | None = None
    position = 0
    while position < last:
        rows = await engine.journal.list_rows(account_id=account_id, after=(shard, position), limit=ROWS_TOGETHER)
        for row in rows:
            if row.shard == shard and row.position <= last:
                folded = apply(folded, CODEC.decode_event(row.payload))
        if len(rows) < ROWS_TOGETHER or rows[-1].shard != shard:
            break
        position = rows[-1].position
    assert folded is not None, f"account {account_id} has no events up to position {last}"
    return folded
