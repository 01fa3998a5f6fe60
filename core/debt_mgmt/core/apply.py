"""Folding events into an account: one small function per kind of event. Applying never rejects."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    Environment,
    Position,
    Posting,
    ReductionCause,
    ReductionStep,
    RiskLevel,
    TradingState,
    position_key,
)
from debt_mgmt.core.apply_venue import (
    account_synced,
    after_change,
    cancel_ended,
    cancels_requested,
    change_refused,
    change_requested,
    drift_changed,
    dry_run_set,
    fill_noted,
    rehearsal,
    sync_lost,
)
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.venue import SyncState

replace = msgspec.structs.replace

ALERTS_KEPT = 50
REDUCTIONS_KEPT = 20


def apply(account: Account | None, event: e.Event) -> Account:
    """The account after one event."""
    if account is None:
        assert isinstance(event, e.AccountCreated), f"{event!r} for an account that does not exist"
        return created(event)
    return APPLY[type(event)](account, event)


def created(event: e.AccountCreated) -> Account:
    account = Account(
        account_id=event.account_id,
        owner=event.owner,
        broker=event.broker,
        environment=event.environment,
        currency=event.currency,
        created_at=event.at,
        position_mode=event.position_mode,
        margin_mode=event.margin_mode,
        starting_asset=event.starting_asset,
        starting_capital=event.starting_capital,
    )
    if event.environment is not Environment.SANDBOX:
        account = replace(account, dry_run=event.dry_run, sync=SyncState(), level=RiskLevel.UNKNOWN)
    return replace(account, balances=after_postings(account.balances, event.postings))


def after_postings(balances: dict[str, Decimal], postings: tuple[Posting, ...]) -> dict[str, Decimal]:
    """Balances after the wallet's side of the postings."""
    if not postings:
        return balances
    changed = dict(balances)
    for posting in postings:
        if posting.ledger == "wallet":
            changed[posting.asset] = changed.get(posting.asset, ZERO) + posting.amount
    return changed


def plus(amounts: dict[str, Decimal], asset: str, amount: Decimal) -> dict[str, Decimal]:
    return {**amounts, asset: amounts.get(asset, ZERO) + amount} if amount else amounts


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


def closed(account: Account, event: e.AccountClosed) -> Account:
    return replace(account, closed_at=event.at)


def transferred(account: Account, event: e.Transferred) -> Account:
    baselines = account.baselines
    if baselines is not None:
        change = event.equity_change if event.equity_change is not None else event.value
        baselines = replace(
            baselines,
            day_equity=baselines.day_equity + change,
            peak_equity=baselines.peak_equity + change,
        )
    return replace(account, balances=after_postings(account.balances, event.postings), baselines=baselines)


def funds_reset(account: Account, event: e.FundsReset) -> Account:
    return replace(
        account,
        balances={event.asset: event.amount},
        positions={},
        reservations={},
        realized_pnl={},
        fees_paid={},
        baselines=None,
        breakers={},
        isolated_alerts={},
        reduction=None,
        level=RiskLevel.NORMAL,
        level_before_unknown=RiskLevel.NORMAL,
        trading_state=account.trading_state if not account.trading_state_is_automatic else TradingState.ACTIVE,
        trading_reason=account.trading_reason if not account.trading_state_is_automatic else "",
        starting_asset=event.asset,
        starting_capital=event.amount,
        reset_count=account.reset_count + 1,
        last_reset_at=event.at,
    )


def margin_reserved(account: Account, event: e.MarginReserved) -> Account:
    return replace(
        account,
        reservations={**account.reservations, event.reservation.reservation_id: event.reservation},
        window_started_at=event.window_started_at,
        orders_in_window=event.orders_in_window,
    )


def reservation_reduced(account: Account, event: e.ReservationReduced) -> Account:
    if event.remaining == 0:
        return replace(account, reservations=without(account.reservations, event.reservation_id))
    reservation = replace(account.reservations[event.reservation_id], quantity=event.remaining)
    return replace(account, reservations={**account.reservations, event.reservation_id: reservation})


def fill_recorded(account: Account, event: e.FillRecorded) -> Account:
    key = position_key(event.symbol, event.position_side)
    if event.position is None:
        positions = without(account.positions, key)
        alerts = without(account.isolated_alerts, key) if key in account.isolated_alerts else account.isolated_alerts
    else:
        positions = {**account.positions, key: event.position}
        alerts = account.isolated_alerts
    baselines = account.baselines
    if baselines is not None and event.realized_pnl:
        baselines = replace(
            baselines, day_realized_pnl=plus(baselines.day_realized_pnl, event.settle_asset, event.realized_pnl)
        )
    return replace(
        account,
        sync=fill_noted(account.sync, event) if account.sync is not None else None,
        positions=positions,
        isolated_alerts=alerts,
        balances=after_postings(account.balances, event.postings),
        realized_pnl=plus(account.realized_pnl, event.settle_asset, event.realized_pnl),
        fees_paid=plus(account.fees_paid, event.fee_asset, event.fee),
        baselines=baselines,
    )


def leverage_set(account: Account, event: e.LeverageSet) -> Account:
    account = replace(
        account,
        leverage={**account.leverage, event.symbol: event.leverage},
        positions=with_positions(account.positions, event.positions),
    )
    return after_change(account, event.symbol, event.at) if event.change_id else account


def with_positions(positions: dict[str, Position], changed: tuple[Position, ...]) -> dict[str, Position]:
    return {**positions, **{position.key: position for position in changed}} if changed else positions


def margin_mode_set(account: Account, event: e.MarginModeSet) -> Account:
    account = replace(account, margin_modes={**account.margin_modes, event.symbol: event.margin_mode})
    return after_change(account, event.symbol, event.at) if event.change_id else account


def isolated_margin_adjusted(account: Account, event: e.IsolatedMarginAdjusted) -> Account:
    account = replace(account, positions=with_positions(account.positions, (event.position,)))
    return after_change(account, event.position.symbol, event.at) if event.change_id else account


def limits_set(account: Account, event: e.LimitsSet) -> Account:
    return replace(account, limits=event.limits)


def risk_level_changed(account: Account, event: e.RiskLevelChanged) -> Account:
    known = event.before if event.before is not RiskLevel.UNKNOWN else account.level_before_unknown
    return replace(account, level=event.after, level_before_unknown=known, rehearsed="")


def isolated_level_changed(account: Account, event: e.IsolatedLevelChanged) -> Account:
    if event.after is RiskLevel.NORMAL:
        return replace(account, isolated_alerts=without(account.isolated_alerts, event.key))
    return replace(account, isolated_alerts={**account.isolated_alerts, event.key: event.after})


def trading_state_changed(account: Account, event: e.TradingStateChanged) -> Account:
    return replace(
        account,
        trading_state=event.after,
        trading_reason=event.reason,
        trading_state_is_automatic=event.automatic,
    )


def alert_raised(account: Account, event: e.AlertRaised) -> Account:
    return replace(account, alerts=(*account.alerts, event.alert)[-ALERTS_KEPT:])


def breaker_tripped(account: Account, event: e.BreakerTripped) -> Account:
    return replace(account, breakers={**account.breakers, event.breaker.kind.value: event.breaker})


def breaker_cleared(account: Account, event: e.BreakerCleared) -> Account:
    return replace(account, breakers=without(account.breakers, event.kind.value))


def baselines_set(account: Account, event: e.BaselinesSet) -> Account:
    return replace(account, baselines=event.baselines)


def reduction_started(account: Account, event: e.ReductionStarted) -> Account:
    forced = account.dry_run and event.reduction.cause is not ReductionCause.REQUESTED
    return replace(account, reduction=event.reduction, rehearsed=rehearsal(account) if forced else account.rehearsed)


def reduction_extended(account: Account, event: e.ReductionExtended) -> Account:
    assert account.reduction is not None
    return replace(account, reduction=replace(account.reduction, steps=(*account.reduction.steps, *event.steps)))


def reduction_step_ended(account: Account, event: e.ReductionStepEnded) -> Account:
    assert account.reduction is not None

    def ended(step: ReductionStep) -> ReductionStep:
        if step.step != event.step:
            return step
        return replace(
            step,
            done=True,
            filled_quantity=event.filled_quantity,
            price=event.price,
            fee=event.fee,
            fee_asset=event.fee_asset,
            realized_pnl=event.realized_pnl,
            ended_at=event.at,
            note=event.note,
        )

    steps = tuple(ended(step) for step in account.reduction.steps)
    return replace(account, reduction=replace(account.reduction, steps=steps))


def reduction_ended(account: Account, event: e.ReductionEnded) -> Account:
    assert account.reduction is not None
    ended = replace(
        account.reduction, ended_at=event.at, utilization_after=event.utilization_after, deficit=event.deficit
    )
    return replace(account, reduction=None, past_reductions=(*account.past_reductions, ended)[-REDUCTIONS_KEPT:])


def bankruptcy_recorded(account: Account, event: e.BankruptcyRecorded) -> Account:
    return replace(account, balances=after_postings(account.balances, event.postings))


def unchanged(account: Account, event: e.CommandRefused) -> Account:
    return account


def again(account: Account, event: e.AccountCreated) -> Account:
    raise AssertionError(f"account {event.account_id} was created twice")


APPLY: dict[type[e.Event], Callable[[Account, Any], Account]] = {
    e.AccountCreated: again,
    e.AccountClosed: closed,
    e.Transferred: transferred,
    e.FundsReset: funds_reset,
    e.MarginReserved: margin_reserved,
    e.ReservationReduced: reservation_reduced,
    e.FillRecorded: fill_recorded,
    e.LeverageSet: leverage_set,
    e.MarginModeSet: margin_mode_set,
    e.IsolatedMarginAdjusted: isolated_margin_adjusted,
    e.VenueChangeRequested: change_requested,
    e.VenueChangeRefused: change_refused,
    e.AccountSynced: account_synced,
    e.SyncLost: sync_lost,
    e.DriftChanged: drift_changed,
    e.CancelsRequested: cancels_requested,
    e.CancelEnded: cancel_ended,
    e.DryRunSet: dry_run_set,
    e.LimitsSet: limits_set,
    e.RiskLevelChanged: risk_level_changed,
    e.IsolatedLevelChanged: isolated_level_changed,
    e.TradingStateChanged: trading_state_changed,
    e.AlertRaised: alert_raised,
    e.BreakerTripped: breaker_tripped,
    e.BreakerCleared: breaker_cleared,
    e.BaselinesSet: baselines_set,
    e.ReductionStarted: reduction_started,
    e.ReductionExtended: reduction_extended,
    e.ReductionStepEnded: reduction_step_ended,
    e.ReductionEnded: reduction_ended,
    e.BankruptcyRecorded: bankruptcy_recorded,
    e.CommandRefused: unchanged,
}
