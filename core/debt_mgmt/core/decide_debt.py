"""Deciding about borrowed money: loans from the house, repayment, and the interest that falls due."""

from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Debt, Lender, Posting
from debt_mgmt.core.decide_venue_loans import ask_to_borrow, ask_to_repay, loan_refused
from debt_mgmt.core.draft import Draft
from debt_mgmt.core.interest import CLOCKS, Charge, charge_of, charges_due
from debt_mgmt.core.loans import check_loan, grown_debt, spendable, value_of
from debt_mgmt.core.money import ZERO, owned
from debt_mgmt.core.refusals import Reason, Violation, by_precedence


def borrow(draft: Draft, command: c.Borrow) -> None:
    """Lend from the house. What is due by now is charged first, on what was owed until now.

    A live account is lent to by its venue.
    """
    if draft.account.sync is not None:
        return ask_to_borrow(draft, command)
    before, world = draft.account, draft.world
    charge_due(draft)
    account, asset, amount = draft.account, command.asset, command.amount
    check = check_loan(account, world, asset, amount)
    if check.violations or check.rate is None:
        return refuse_alone(draft, before, loan_refused(check, check.violations))
    debt = grown_debt(account.debts.get(asset), check.rate, amount, world.at)
    draft.add(
        e.Borrowed(
            asset=asset,
            amount=amount,
            debt=debt,
            at=world.at,
            postings=(Posting("wallet", asset, amount), Posting("debt", asset, -amount)),
            value=value_of(draft.account, world, asset, amount),
            largest_amount=check.largest_amount,
            before=check.before,
        )
    )
    clock = CLOCKS[debt.clock]
    if clock.opening_periods and debt.annual_rate is not None:
        charge = charge_of(clock, debt.opened_at, world.at, amount, debt.annual_rate, clock.opening_periods)
        add_charge(draft, debt, charge)


def refuse_alone(draft: Draft, before: Account, refusal: e.CommandRefused) -> None:
    """A refusal stands alone: what was charged on the way to it is charged by the next command."""
    draft.events.clear()
    draft.folded = before
    draft.add(refusal)


def repay(draft: Draft, command: c.Repay) -> None:
    """Pay back out of the wallet: interest first, then principal. It reduces risk, so no halt and no price stops it."""
    if draft.account.sync is not None:
        return ask_to_repay(draft, command)
    before, asset = draft.account, command.asset
    charge_due(draft)
    debt = draft.account.debts.get(asset)
    if debt is None:
        return refuse_repayment(draft, before, Violation(Reason.NO_DEBT, asset))
    if debt.lender is not Lender.HOUSE:
        note = "it was lent by the broker and is paid back there"
        return refuse_repayment(draft, before, Violation(Reason.NOT_SUPPORTED, f"repaying {asset}", note=note))
    paid = debt.owed if command.amount is None else min(command.amount, debt.owed)
    available = max(ZERO, spendable(draft.account, draft.world, asset))
    if paid > available:
        short = Violation(Reason.INSUFFICIENT_BALANCE, asset, paid, owned(available), owned(available))
        return refuse_repayment(draft, before, short)
    interest = min(paid, debt.accrued_interest)
    left = debt.owed - paid
    draft.add(
        e.Repaid(
            asset=asset,
            amount=paid,
            interest_paid=interest,
            principal_paid=paid - interest,
            at=draft.world.at,
            postings=(Posting("wallet", asset, -paid), Posting("debt", asset, paid)),
            debt=paid_down(debt, interest, paid - interest) if left else None,
            value=value_of(draft.account, draft.world, asset, paid),
        )
    )


def paid_down(debt: Debt, interest: Decimal, principal: Decimal) -> Debt:
    return msgspec.structs.replace(
        debt, accrued_interest=debt.accrued_interest - interest, principal=debt.principal - principal
    )


def refuse_repayment(draft: Draft, before: Account, *violations: Violation) -> None:
    refuse_alone(draft, before, e.CommandRefused("Repay", by_precedence(list(violations))))


def charge_interest(draft: Draft, command: c.ChargeInterest) -> None:
    charge_due(draft)


def charge_due(draft: Draft) -> None:
    """Every charge that is due by now, of every debt, in the order in which they fell due."""
    account, world = draft.account, draft.world
    if account.closed_at is not None:
        return
    due = [
        (charge, debt)
        for debt in account.debts.values()
        for charge in charges_due(debt, world.house.borrow_rates.get(debt.asset, ()), world.at)
    ]
    for charge, debt in sorted(due, key=lambda one: (one[0].due_at, one[1].asset)):
        add_charge(draft, debt, charge)


def add_charge(draft: Draft, debt: Debt, charge: Charge) -> None:
    """Interest is owed at once, to the house that earns it; it leaves the wallet when it is repaid."""
    asset, amount = debt.asset, charge.amount
    owed = draft.account.debts[asset].accrued_interest + amount
    postings = (Posting("debt", asset, -amount), Posting("house", asset, amount)) if amount else ()
    draft.add(
        e.InterestCharged(
            asset=asset,
            due_at=charge.due_at,
            principal=charge.principal,
            rate=charge.rate,
            periods=charge.periods,
            amount=amount,
            accrued_interest=owed,
            clock=debt.clock,
            annual_rate=charge.annual_rate,
            postings=postings,
            next_charge_at=charge.next_charge_at,
            value=value_of(draft.account, draft.world, asset, amount),
        )
    )
