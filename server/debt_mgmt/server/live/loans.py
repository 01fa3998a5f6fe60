"""Carries loans and repayments to the venue: journaled, sent once, and where the answer was lost looked up."""

import asyncio
import logging
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.money import ZERO, text
from debt_mgmt.core.venue import LoanKind, VenueBalance, VenueLoan
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.brokers.broker import Ambiguous, BrokerFault, Unreachable
from debt_mgmt.server.brokers.live import LiveBroker
from debt_mgmt.server.live.changes import DRY_RUN, NOT_CONFIRMED, NOT_SENT

if TYPE_CHECKING:
    from debt_mgmt.server.live.supervisor import Supervisor

logger = logging.getLogger(__name__)


class Loans:
    """The pending loans and repayments of one account. How far each got is in its state, so a restart knows it too."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self.supervisor = supervisor
        self.engine = supervisor.engine

    async def carry_out(self, broker: LiveBroker) -> None:
        """Bring every one of them to an end, or find out that it has to wait. Raises a BrokerFault."""
        for loan in tuple(self.supervisor.account.loans.values()):
            if loan.sent_at is None:
                await self.send(broker, loan)
            else:
                await self.look_up(broker, loan)

    async def send(self, broker: LiveBroker, loan: VenueLoan) -> None:
        """Look what is owed, journal that it goes, and ask the venue once. A lost answer is looked up."""
        pace = self.supervisor.pace
        if self.supervisor.account.dry_run:
            return await self.refuse(loan, DRY_RUN, "dry run: nothing was sent")
        waited = (self.engine.clock() - loan.requested_at).total_seconds()
        if waited > pace.pending_seconds_most:
            words = f"the venue was not reached within {pace.pending_seconds_most:g} s: nothing was sent"
            return await self.refuse(loan, NOT_SENT, words)
        before = await self.owed(broker, loan)
        going = await self.record(c.RecordLoanSent(loan.loan_id, before))
        loan = next((one.loan for one in going if isinstance(one, e.LoanSent)), loan)
        if loan.sent_at is None:  # it was answered meanwhile
            return
        ask = broker.borrow if loan.kind is LoanKind.BORROW else broker.repay
        try:
            async with asyncio.timeout(pace.call_seconds):
                await ask(loan.asset, loan.amount)
        except (Ambiguous, TimeoutError) as fault:
            logger.warning(
                "loan %s of %s: no answer (%s); it is looked up", loan.loan_id, self.supervisor.account_id, fault
            )
            return await self.look_up(broker, loan)
        except Unreachable as fault:  # nothing was executed, and it is not sent again
            return await self.refuse(loan, fault.code or NOT_SENT, f"the venue was not reached: {fault.words}")
        except BrokerFault as fault:
            return await self.refuse(loan, fault.code, fault.words)
        await self.record(c.RecordLoanOutcome(loan.loan_id, confirmed=True))

    async def look_up(self, broker: LiveBroker, loan: VenueLoan) -> None:
        """See by what is owed now and was before whether the venue did it. It is given some time to show.

        Where that does not tell, nobody knows, and so it is said. The next sync has the truth either way.
        """
        pace = self.supervisor.pace
        for look in range(pace.looks):
            if look:
                await asyncio.sleep(pace.look_seconds)
            owed = await self.owed(broker, loan)
            if is_done(loan, owed):
                await self.record(c.RecordLoanOutcome(loan.loan_id, confirmed=True))
                return
        before, now = spelled(loan.owed_before), spelled(owed)
        words = f"the answer was lost, and the venue shows {now} {loan.asset} owed, before it was {before}"
        await self.refuse(loan, NOT_CONFIRMED, words)

    async def owed(self, broker: LiveBroker, loan: VenueLoan) -> Decimal | None:
        """What the venue shows as owed in the loan's asset, with interest; None where it does not say."""
        seconds, doing = self.supervisor.pace.call_seconds, "looking up a loan"
        told: Iterable[VenueBalance]
        if loan.apart:
            told = await self.supervisor.answered(broker.loans(), doing, seconds)
        else:
            told = (await self.supervisor.answered(broker.state(), doing, seconds)).balances
        found = next((one for one in told if one.asset == loan.asset), None)
        if found is None:  # the venue lists what there is something of
            return ZERO
        return None if found.debt is None else found.debt + (found.interest or ZERO)

    async def refuse(self, loan: VenueLoan, code: str, words: str) -> None:
        logger.warning("loan %s of %s is refused: %s %s", loan.loan_id, self.supervisor.account_id, code, words)
        await self.record(c.RecordLoanOutcome(loan.loan_id, confirmed=False, code=code, message=words))

    async def record(self, command: c.Command) -> tuple[e.AccountEvent, ...]:
        committed = await self.engine.submit(self.supervisor.account_id, command, request_id="", actor=SYSTEM)
        return tuple(committed.events)


def is_done(loan: VenueLoan, owed: Decimal | None) -> bool:
    """Whether what is owed moved by the loan. Interest may have come to it, so nearer is near enough."""
    if owed is None or loan.owed_before is None:
        return False
    moved = owed - loan.owed_before if loan.kind is LoanKind.BORROW else loan.owed_before - owed
    return abs(moved - loan.amount) < loan.amount / 2


def spelled(owed: Decimal | None) -> str:
    return "an unknown amount" if owed is None else text(owed)
