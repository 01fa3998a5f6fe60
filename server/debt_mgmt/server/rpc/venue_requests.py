"""What a venue said to a change that it was asked for: waited for as long as the caller can, and found again later."""

from typing import TYPE_CHECKING

from debt_mgmt.core import events as e
from debt_mgmt.core.money import text
from debt_mgmt.core.venue import VenueChange
from debt_mgmt.server.rpc.answers import CODEC, ROWS_TOGETHER
from debt_mgmt.server.shard_answers import Committed
from debt_mgmt.v1 import leverage_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

WAIT_SECONDS_MOST = 10.0
"""How long a call waits for a venue before it answers REQUESTED, however long its deadline is."""
ANSWER_SECONDS = 0.5
"""What is left of a caller's deadline for the answer itself."""


async def venue_request(
    engine: "Engine", account_id: str, committed: Committed[e.AccountEvent], call: "Call"
) -> wire.VenueRequest | None:
    """The answer of the venue to what a command asked of it; None where it asked nothing."""
    change = next((one.change for one in committed.events if isinstance(one, e.VenueChangeRequested)), None)
    if change is None:
        return None
    answer, ended = await waited_for(engine, account_id, change.change_id, committed.last_position, call)
    if ended is not None and (other := other_value(ended, change)) is not None:
        answer.state = wire.LEVERAGE_STATE_REFUSED
        answer.refusal = f"{other} is in force instead"
    return answer


async def loan_request(
    engine: "Engine", account_id: str, committed: Committed[e.AccountEvent], call: "Call"
) -> tuple[wire.VenueRequest, e.AccountEvent | None] | None:
    """The same for a loan or a repayment, with the event that ended it, if it came to its end."""
    loan = next((one.loan for one in committed.events if isinstance(one, e.LoanRequested)), None)
    if loan is None:
        return None
    return await waited_for(engine, account_id, loan.loan_id, committed.last_position, call)


async def waited_for(
    engine: "Engine", account_id: str, change_id: str, position: int, call: "Call"
) -> tuple[wire.VenueRequest, e.AccountEvent | None]:
    """What became of it, as far as it is known when the caller has to be answered."""
    left = call.deadline_seconds
    seconds = WAIT_SECONDS_MOST if left is None else max(0.0, min(WAIT_SECONDS_MOST, left - ANSWER_SECONDS))
    answer = wire.VenueRequest(change_id=change_id, state=wire.LEVERAGE_STATE_REQUESTED)
    if not await engine.live.settled(account_id, change_id, seconds):
        return answer, None
    ended = await end_of(engine, account_id, change_id, position)
    answer.state = wire.LEVERAGE_STATE_CONFIRMED
    if isinstance(ended, e.VenueChangeRefused | e.LoanRefused):
        answer.state = wire.LEVERAGE_STATE_REFUSED
        answer.refusal, answer.refusal_code = ended.message, ended.code
    return answer, ended


def other_value(ended: e.AccountEvent, change: VenueChange) -> str | None:
    """What the venue put in force where that is not what was asked for."""
    if isinstance(ended, e.LeverageSet) and ended.leverage != change.leverage:
        return text(ended.leverage)
    if isinstance(ended, e.MarginModeSet) and ended.margin_mode is not change.margin_mode:
        return ended.margin_mode.value
    return None


async def end_of(engine: "Engine", account_id: str, change_id: str, position: int) -> e.AccountEvent:
    """The event that ended a change, from the journal: most often the next of its account."""
    shard = engine.home[account_id]
    while True:
        rows = await engine.journal.list_rows(account_id=account_id, after=(shard, position), limit=ROWS_TOGETHER)
        for row in rows:
            event = CODEC.decode_event(row.payload)
            if change_ended_by(event) == change_id:
                return event
        assert rows, f"change {change_id} of {account_id} is neither pending nor ended"
        position = rows[-1].position


def change_ended_by(event: e.AccountEvent) -> str:
    """The id of the change that an event ended; empty for an event of another kind."""
    match event:
        case e.VenueChangeRefused(change=change):
            return change.change_id
        case e.LeverageSet() | e.MarginModeSet() | e.IsolatedMarginAdjusted():
            return event.change_id
        case e.LoanRefused(loan=loan):
            return loan.loan_id
        case e.Borrowed() | e.Repaid():
            return event.loan.loan_id if event.loan is not None else ""
    return ""
