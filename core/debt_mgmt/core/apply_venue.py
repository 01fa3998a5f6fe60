"""Folding what a venue said into an account: its state, its answers to changes and cancels, and dry run."""

from datetime import datetime
from decimal import Decimal

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Debt, Position, position_key
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.strategies import Strategies, attributed
from debt_mgmt.core.venue import SyncState, SyncStatus, VenueLoan

replace = msgspec.structs.replace

ORDERS_KEPT = 500
"""Orders whose contracts are remembered, so that no fill counts twice."""


def account_synced(account: Account, event: e.AccountSynced) -> Account:
    assert account.sync is not None
    balances = {**account.balances, **event.balances}
    debts = {**account.debts, **{debt.asset: debt for debt in event.debts}}
    apart = {**account.debts_apart, **{debt.asset: debt for debt in event.debts_apart}}
    positions = {**account.positions, **{position.key: position for position in event.positions}}
    reservations = {**account.reservations, **{one.reservation_id: one for one in event.reservations}}
    still_open = {one.order_id for key, one in reservations.items() if key not in event.released}
    return replace(
        account,
        position_mode=event.position_mode,
        balances={asset: amount for asset, amount in balances.items() if amount},
        debts={asset: debt for asset, debt in debts.items() if debt.owed},
        debts_apart={asset: debt for asset, debt in apart.items() if debt.owed},
        interest_charged=with_interest(account, event),
        positions={key: position for key, position in positions.items() if key not in event.vanished},
        strategies=with_strategies(account, event) if account.strategies or event.strategies else account.strategies,
        isolated_alerts={key: level for key, level in account.isolated_alerts.items() if key not in event.vanished},
        leverage={**account.leverage, **event.leverage},
        margin_modes={**account.margin_modes, **event.margin_modes},
        reservations={key: one for key, one in reservations.items() if key not in event.released},
        cancels={key: one for key, one in account.cancels.items() if key not in event.cancelled},
        sync=replace(
            account.sync,
            status=SyncStatus.FRESH,
            at=event.at,
            reason="",
            health=event.health,
            positions={position.key: position for position in event.venue_positions},
            seen=latest({**account.sync.seen, **event.seen}),
            touched={name: at for name, at in account.sync.touched.items() if at >= event.at},
            uncancelled=tuple(one for one in account.sync.uncancelled if one in still_open),
        ),
    )


def with_interest(account: Account, event: e.AccountSynced) -> dict[str, Decimal]:
    """Interest charged in all, with what the venue has added to loans that were known."""
    charged = account.interest_charged
    for debt in event.debts:
        known = account.debts.get(debt.asset)
        if known is not None and debt.accrued_interest > known.accrued_interest:
            grown = debt.accrued_interest - known.accrued_interest
            charged = {**charged, debt.asset: charged.get(debt.asset, ZERO) + grown}
    return charged


def with_strategies(account: Account, event: e.AccountSynced) -> Strategies:
    """Each difference is a fill: first of the strategies whose orders were filled, what is left of none."""
    strategies = account.strategies
    for change in event.changes:
        held, after = change.before or ZERO, change.after or ZERO
        for strategy, filled in event.strategies.items():
            if quantity := filled.get(change.key, ZERO):
                strategies = attributed(strategies, change.key, held, quantity, strategy)
                held += quantity
        strategies = attributed(strategies, change.key, held, after - held)
    return strategies


def loan_noted(account: Account, event: e.LoanRequested | e.LoanSent) -> Account:
    return replace(account, loans={**account.loans, event.loan.asset: event.loan})


def loan_refused(account: Account, event: e.LoanRefused) -> Account:
    return replace(account, loans={asset: one for asset, one in account.loans.items() if asset != event.loan.asset})


def loan_ended(account: Account, loan: VenueLoan, debt: Debt | None, at: datetime) -> Account:
    """The account once the venue has lent or taken back: a state read before knows nothing of it."""
    assert account.sync is not None
    owed = account.debts_apart if loan.apart else account.debts
    left = {**owed, loan.asset: debt} if debt is not None else {k: v for k, v in owed.items() if k != loan.asset}
    names = [
        f"{'debt apart' if loan.apart else 'debt'} {loan.asset}",
        *([] if loan.apart else [f"balance {loan.asset}"]),
    ]
    return replace(
        account,
        loans={asset: one for asset, one in account.loans.items() if asset != loan.asset},
        debts=account.debts if loan.apart else left,
        debts_apart=left if loan.apart else account.debts_apart,
        sync=replace(account.sync, touched={**account.sync.touched, **dict.fromkeys(names, at)}),
    )


def latest(orders: dict[str, Decimal]) -> dict[str, Decimal]:
    """The orders named last, of all that are remembered."""
    return dict(list(orders.items())[-ORDERS_KEPT:])


def fill_noted(sync: SyncState, event: e.FillRecorded) -> SyncState:
    """What a fill leaves behind for the next sync: the position and balances it moved, and how much of its order."""
    key = position_key(event.symbol, event.position_side)
    names = [key, *(f"balance {posting.asset}" for posting in event.postings if posting.ledger == "wallet")]
    touched = {**sync.touched, **dict.fromkeys(names, event.at)}
    if not event.order_id:
        return replace(sync, touched=touched)
    reported = dict(sync.reported)
    already = reported.pop(event.order_id, ZERO)
    reported[event.order_id] = already + event.quantity
    return replace(sync, touched=touched, reported=latest(reported))


def sync_lost(account: Account, event: e.SyncLost) -> Account:
    assert account.sync is not None
    return replace(account, sync=replace(account.sync, status=SyncStatus.LOST, reason=event.reason))


def drift_changed(account: Account, event: e.DriftChanged) -> Account:
    assert account.sync is not None
    kept = {name: drift for name, drift in account.sync.drift.items() if name not in event.settled}
    return replace(account, sync=replace(account.sync, drift={**kept, **{drift.name: drift for drift in event.found}}))


def change_requested(account: Account, event: e.VenueChangeRequested) -> Account:
    change = event.change
    account = with_terms(account, change.symbol, event.leverage, event.positions)
    return replace(account, pending={**account.pending, change.symbol: change})


def change_refused(account: Account, event: e.VenueChangeRefused) -> Account:
    symbol = event.change.symbol
    return after_change(with_terms(account, symbol, event.leverage, event.positions), symbol, event.at)


def with_terms(account: Account, symbol: str, leverage: Decimal | None, positions: tuple[Position, ...]) -> Account:
    chosen = account.leverage if leverage is None else {**account.leverage, symbol: leverage}
    return replace(
        account, leverage=chosen, positions={**account.positions, **{position.key: position for position in positions}}
    )


def after_change(account: Account, symbol: str, at: datetime | None) -> Account:
    """The account once the venue has answered: nothing is pending, and a state read before knows nothing of it."""
    assert account.sync is not None and at is not None
    pending = {name: change for name, change in account.pending.items() if name != symbol}
    touched = {**account.sync.touched, f"terms {symbol}": at}
    return replace(account, pending=pending, sync=replace(account.sync, touched=touched))


def cancels_requested(account: Account, event: e.CancelsRequested) -> Account:
    released = {cancel.reservation_id for cancel in event.cancels}
    return replace(
        account,
        cancels={**account.cancels, **{cancel.order_id: cancel for cancel in event.cancels}},
        reservations={key: one for key, one in account.reservations.items() if key not in released},
    )


def cancel_ended(account: Account, event: e.CancelEnded) -> Account:
    assert account.sync is not None
    cancels = {key: one for key, one in account.cancels.items() if key != event.order_id}
    if not event.gone:
        uncancelled = (*(one for one in account.sync.uncancelled if one != event.order_id), event.order_id)
        return replace(account, cancels=cancels, sync=replace(account.sync, uncancelled=uncancelled))
    touched = {**account.sync.touched, f"order {event.order_id}": event.at}
    return replace(account, cancels=cancels, sync=replace(account.sync, touched=touched))


def dry_run_set(account: Account, event: e.DryRunSet) -> Account:
    return replace(account, dry_run=event.dry_run, rehearsed="")


def rehearsal(account: Account) -> str:
    """What a forced plan rests on besides prices: the positions, and the alerts of the isolated ones."""
    held = (f"{key} {position.quantity.normalize()}" for key, position in sorted(account.positions.items()))
    alerted = (f"{key} {level.value}" for key, level in sorted(account.isolated_alerts.items()))
    return "; ".join((*held, *alerted))
