"""Deciding about loans of a venue: asked for once, counted when the venue did it, and refused in its own words."""

from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, AlertKind, Debt, Lender, Posting, Severity
from debt_mgmt.core.draft import Draft, refuse
from debt_mgmt.core.levels import raise_alert
from debt_mgmt.core.loans import LoanCheck, check_loan, spendable, value_of
from debt_mgmt.core.money import ZERO, owned, text
from debt_mgmt.core.refusals import Reason, Violation, by_precedence
from debt_mgmt.core.sync import unsynced
from debt_mgmt.core.venue import LoanKind, VenueLoan


def ask_to_borrow(draft: Draft, command: c.Borrow) -> None:
    """Ask the venue for a loan that passes the rules. One at a time, so that each is judged on what is owed by then."""
    account, asset = draft.account, command.asset
    check = check_loan(account, draft.world, asset, command.amount, apart=command.apart)
    found = [*check.violations, *dry(account), *(unanswered(one) for one in account.loans.values())]
    if found:
        return draft.add(loan_refused(check, by_precedence(found)))
    draft.add(
        e.LoanRequested(
            asked(draft, LoanKind.BORROW, asset, command.amount, command.apart),
            largest_amount=check.largest_amount,
            before=check.before,
        )
    )


def loan_refused(check: LoanCheck, violations: tuple[Violation, ...]) -> e.CommandRefused:
    return e.CommandRefused(
        command="Borrow",
        violations=violations,
        margin_required=check.margin_required,
        margin_available=check.before.margin_available,
        margin_utilization=check.before.margin_utilization,
        largest_amount=check.largest_amount,
        before=check.before,
        after=check.after,
    )


def ask_to_repay(draft: Draft, command: c.Repay) -> None:
    """Ask the venue to take back what it lent. It reduces risk: no halt, no price and no lost sight of it stops that.

    What is known to be owed and held bounds it only while the venue is in sight; else the venue says what is wrong.
    """
    account, world, asset = draft.account, draft.world, command.asset
    known = (account.debts_apart if command.apart else account.debts).get(asset)
    in_sight = not unsynced(account, world.settings, world.at)
    amount = command.amount
    found = dry(account)
    if account.closed_at is not None:
        found.append(Violation(Reason.ACCOUNT_CLOSED, account.account_id))
    if asset in account.loans:
        found.append(unanswered(account.loans[asset]))
    if known is None and (in_sight or amount is None):
        found.append(Violation(Reason.NO_DEBT, asset))
    if known is not None and (amount is None or in_sight):
        amount = known.owed if amount is None else min(amount, known.owed)
    if amount is not None and in_sight and not command.apart:
        available = max(ZERO, spendable(account, world, asset))
        if amount > available and known is not None:
            short = Violation(Reason.INSUFFICIENT_BALANCE, asset, amount, owned(available), owned(available))
            found.append(short)
    if found or amount is None:
        return refuse(draft, "Repay", *found)
    draft.add(e.LoanRequested(asked(draft, LoanKind.REPAY, asset, amount, command.apart)))


def asked(draft: Draft, kind: LoanKind, asset: str, amount: Decimal, apart: bool) -> VenueLoan:
    return VenueLoan(draft.next_id, kind, asset, amount, draft.world.at, apart)


def dry(account: Account) -> list[Violation]:
    return [Violation(Reason.DRY_RUN, account.account_id)] if account.dry_run else []


def unanswered(loan: VenueLoan) -> Violation:
    since = loan.requested_at.isoformat(timespec="seconds")
    return Violation(Reason.CHANGE_PENDING, loan.asset, note=f"{loan.kind.value}, asked at {since}")


def record_loan_sent(draft: Draft, command: c.RecordLoanSent) -> None:
    """It goes now. Nothing where it was sent before, or may not go: whoever finds no event here does not send it."""
    loan = open_loan(draft.account, command.loan_id)
    if loan is None or loan.sent_at is not None or draft.account.dry_run:
        return
    draft.add(e.LoanSent(msgspec.structs.replace(loan, sent_at=draft.world.at, owed_before=command.owed_before)))


def open_loan(account: Account, loan_id: str) -> VenueLoan | None:
    return next((one for one in account.loans.values() if one.loan_id == loan_id), None)


def record_loan_outcome(draft: Draft, command: c.RecordLoanOutcome) -> None:
    """Done, or refused in the venue's words. An answered one stays as it is."""
    loan = open_loan(draft.account, command.loan_id)
    if loan is None:
        return
    if not command.confirmed:
        return refused(draft, loan, command)
    if loan.kind is LoanKind.BORROW:
        lent(draft, loan)
    else:
        paid_back(draft, loan)


def lent(draft: Draft, loan: VenueLoan) -> None:
    """The venue's rate and clock are its own; what it charges comes with the next sync."""
    account, world, asset = draft.account, draft.world, loan.asset
    known = (account.debts_apart if loan.apart else account.debts).get(asset)
    debt = known or Debt(asset, ZERO, world.at, Lender.BROKER)
    wallet = (Posting("wallet", asset, loan.amount), Posting("debt", asset, -loan.amount))
    draft.add(
        e.Borrowed(
            asset=asset,
            amount=loan.amount,
            debt=msgspec.structs.replace(debt, principal=debt.principal + loan.amount, lender=Lender.BROKER),
            at=world.at,
            postings=() if loan.apart else wallet,
            value=value_of(account, world, asset, loan.amount),
            loan=loan,
        )
    )


def paid_back(draft: Draft, loan: VenueLoan) -> None:
    """Interest first, as far as any is known; the next sync tells what the venue made of it.

    More than was known to be owed moves no balance here before that sync, which then says why.
    """
    account, world, asset, amount = draft.account, draft.world, loan.asset, loan.amount
    known = (account.debts_apart if loan.apart else account.debts).get(asset)
    interest = min(amount, known.accrued_interest) if known is not None else ZERO
    counted = min(amount, known.owed) if known is not None and not loan.apart else ZERO
    left = None
    if known is not None and known.owed > amount:
        left = msgspec.structs.replace(
            known,
            accrued_interest=known.accrued_interest - interest,
            principal=known.principal - (amount - interest),
        )
    draft.add(
        e.Repaid(
            asset=asset,
            amount=amount,
            interest_paid=interest,
            principal_paid=amount - interest,
            at=world.at,
            postings=(Posting("wallet", asset, -counted), Posting("debt", asset, counted)) if counted else (),
            debt=left,
            value=value_of(account, world, asset, amount),
            loan=loan,
        )
    )


def refused(draft: Draft, loan: VenueLoan, command: c.RecordLoanOutcome) -> None:
    draft.add(e.LoanRefused(loan, command.code, command.message, draft.world.at))
    code = f" (code {command.code})" if command.code else ""
    what = "borrowing" if loan.kind is LoanKind.BORROW else "repaying"
    raise_alert(
        draft,
        AlertKind.VENUE_REFUSED,
        Severity.WARNING,
        f"{draft.account.broker} on {what} {text(loan.amount)} {loan.asset}: {command.message}{code}",
        draft.summary(),
        subject=loan.asset,
    )
