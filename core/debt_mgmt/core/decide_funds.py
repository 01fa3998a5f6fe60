"""Deciding about money: deposits, withdrawals, and the reset of paper capital."""

from decimal import Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Environment,
    Posting,
)
from debt_mgmt.core.collateral import highest_weight
from debt_mgmt.core.draft import Draft, refuse
from debt_mgmt.core.loans import debt_margin
from debt_mgmt.core.margin import (
    collateral_value,
    rate_for,
)
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.money import ZERO, owned
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.resets import due_slot
from debt_mgmt.core.view import AccountView


def price_in_currency(draft: Draft, asset: str) -> Decimal | Violation:
    try:
        return rate_for(draft.account, draft.world, asset, {})
    except Unpriced as unpriced:
        return Violation(Reason.MISSING_MARK, unpriced.missing)


def transfer(draft: Draft, command: c.Transfer) -> None:
    name = "Deposit" if command.amount > 0 else "Withdraw"
    account = draft.account
    if account.environment is not Environment.SANDBOX:
        return refuse(draft, name, Violation(Reason.NOT_SANDBOX, account.account_id))
    if account.closed_at is not None:
        return refuse(draft, name, Violation(Reason.ACCOUNT_CLOSED, account.account_id))
    rate = price_in_currency(draft, command.asset)
    if isinstance(rate, Violation):
        return refuse(draft, name, rate)
    if command.amount < 0:
        most = withdrawable(draft, command.asset, rate)
        if isinstance(most, Violation):
            return refuse(draft, name, most)
        if -command.amount > most:
            return refuse(
                draft,
                name,
                Violation(Reason.INSUFFICIENT_BALANCE, command.asset, -command.amount, owned(most), owned(most)),
            )
    postings = deposit_postings(command.asset, command.amount)
    value = owned(command.amount * rate)
    held = account.balances.get(command.asset, ZERO) - posted_in(draft, command.asset)
    counted = [
        collateral_value(command.asset, held + moved, rate, draft.world.house) for moved in (command.amount, ZERO)
    ]
    change = owned(counted[0] - counted[1])
    draft.add(
        e.Transferred(
            command.asset,
            command.amount,
            value,
            postings,
            command.note,
            equity_change=change if change != value else None,
        )
    )


def deposit_postings(asset: str, amount: Decimal) -> tuple[Posting, ...]:
    return (Posting("wallet", asset, amount), Posting("external", asset, -amount))


def withdrawable(draft: Draft, asset: str, rate: Decimal) -> Decimal | Violation:
    """How much of an asset can leave: its balance without posted margin, and no more than keeps the account safe.

    Utilisation may not pass the liquidation threshold, so that taking money out never sells a position.
    """
    account, world = draft.account, draft.world
    view = AccountView(account, world)
    if not view.summary.known:
        return Violation(Reason.MISSING_MARK, view.summary.missing[0])
    stale = view.summary.stale(world.at, world.settings.pre_trade_max_age)
    if stale and (account.positions or account.debts):
        return Violation(Reason.STALE_MARK, stale[0].symbol)
    free = max(ZERO, account.balances.get(asset, ZERO) - posted_in(draft, asset))
    needed = view.used + debt_margin(account, world, view.summary)
    leaving = view.equity - needed / world.settings.liquidation_threshold
    weight = rate * highest_weight(world.house.assets.get(asset))
    if free <= 0 or weight <= 0 or collateral_value(asset, free, rate, world.house) <= leaving:
        return free
    return max(ZERO, min(free, leaving / weight))


def posted_in(draft: Draft, asset: str) -> Decimal:
    """What of a balance is posted on isolated positions."""
    instruments = draft.world.house.instruments
    posted = (
        one.isolated_margin for one in draft.account.positions.values() if instruments[one.symbol].settle == asset
    )
    return sum(posted, ZERO)


def reset_funds(draft: Draft, command: c.ResetFunds) -> None:
    """Back to the start, in one event. A reset for a slot that is not due (any more) does nothing."""
    account, settings = draft.account, draft.world.settings
    house, at = draft.world.house, draft.world.at
    if command.slot is not None and command.slot != due_slot(
        account, house.reset_schedule, house.reset_schedule_since, at
    ):
        return None
    if account.environment is not Environment.SANDBOX:
        return refuse(draft, "ResetFunds", Violation(Reason.NOT_SANDBOX, account.account_id))
    if account.closed_at is not None:
        return refuse(draft, "ResetFunds", Violation(Reason.ACCOUNT_CLOSED, account.account_id))
    asset = account.starting_asset or account.currency
    amount = account.starting_capital if account.starting_capital is not None else settings.starting_capital
    postings = tuple(
        posting
        for held, balance in account.balances.items()
        if balance
        for posting in (Posting("wallet", held, -balance), Posting("external", held, balance))
    ) + deposit_postings(asset, amount)
    for debt in account.debts.values():
        if debt.owed:
            postings += (Posting("debt", debt.asset, debt.owed), Posting("external", debt.asset, -debt.owed))
    draft.add(e.FundsReset(asset, amount, at, command.reason, postings, slot=command.slot))
