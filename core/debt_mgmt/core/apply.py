"""Folding events into an account: one small function per kind of event. Applying never rejects."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from sys import intern
from typing import Any

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    EMPTY,
    EMPTY_FIELDS,
    Account,
    Debt,
    DepthTaken,
    Environment,
    OrderState,
    PaperOrder,
    Position,
    Posting,
    Reduction,
    ReductionCause,
    ReductionStep,
    RiskLevel,
    TradingState,
    depth_key,
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
    loan_ended,
    loan_noted,
    loan_refused,
    rehearsal,
    sync_lost,
)
from debt_mgmt.core.funding import remember
from debt_mgmt.core.money import ZERO, average_price
from debt_mgmt.core.profit import Causes, Interval
from debt_mgmt.core.strategies import attributed
from debt_mgmt.core.venue import SyncState

replace = msgspec.structs.replace

ALERTS_KEPT = 50
ORDERS_KEPT = 50
REDUCTIONS_KEPT = 20


def apply(account: Account | None, event: e.Event) -> Account:
    """The account after one event."""
    if account is None:
        assert isinstance(event, e.AccountCreated), f"{event!r} for an account that does not exist"
        return created(event)
    applied = APPLY[type(event)](account, event)
    causes = getattr(event, "causes", None)
    return applied if causes is None else with_causes(applied, causes, event)


def with_causes(account: Account, causes: Causes, event: e.Event) -> Account:
    """The account with what changed its equity counted into the interval of its history."""
    if account.interval is None or isinstance(event, e.EquityRecorded):
        return account
    return replace(account, interval=replace(account.interval, causes=account.interval.causes.plus(causes)))


def created(event: e.AccountCreated) -> Account:
    account = Account(
        account_id=event.account_id,
        owner=event.owner,
        broker=intern(event.broker),
        environment=event.environment,
        currency=intern(event.currency),
        created_at=event.at,
        position_mode=event.position_mode,
        margin_mode=event.margin_mode,
        starting_asset=intern(event.starting_asset),
        starting_capital=event.starting_capital,
        interval=Interval(event.at, ZERO, event.causes) if event.causes is not None else None,
        **EMPTY_FIELDS,
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
            changed[intern(posting.asset)] = changed.get(posting.asset, ZERO) + posting.amount
    return changed


def plus(amounts: dict[str, Decimal], asset: str, amount: Decimal) -> dict[str, Decimal]:
    return {**amounts, intern(asset): amounts.get(asset, ZERO) + amount} if amount else amounts


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key} or EMPTY


def closed(account: Account, event: e.AccountClosed) -> Account:
    return replace(account, closed_at=event.at, strategies={})


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
        strategies={},
        reservations={},
        realized_pnl={},
        fees_paid={},
        interest_charged={},
        funding_received={},
        holdings={},
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
        last_reset_slot=event.slot or account.last_reset_slot,
        debts={},
        past_reductions=past_with(account, abandoned(account.reduction, event.at)),
        orders={},
        past_orders=(*account.past_orders, *orders_at_reset(account, event.at))[-ORDERS_KEPT:],
        depth_taken={},
    )


def orders_at_reset(account: Account, at: datetime) -> tuple[PaperOrder, ...]:
    ended = {"state": OrderState.CANCELLED, "ended_at": at, "note": "the funds were reset"}
    return tuple(replace(order, **ended) for order in account.orders.values())


def abandoned(reduction: Reduction | None, at: datetime) -> Reduction | None:
    """A reduction that a reset cleared away with the positions it was for."""
    if reduction is None:
        return None
    steps = tuple(
        step if step.done else replace(step, done=True, ended_at=at, note="the funds were reset")
        for step in reduction.steps
    )
    return replace(reduction, steps=steps, ended_at=at)


def past_with(account: Account, reduction: Reduction | None) -> tuple[Reduction, ...]:
    return account.past_reductions if reduction is None else (*account.past_reductions, reduction)[-REDUCTIONS_KEPT:]


def margin_reserved(account: Account, event: e.MarginReserved) -> Account:
    return replace(
        account,
        reservations={**account.reservations, event.reservation.reservation_id: event.reservation},
        window_started_at=event.window_started_at,
        orders_in_window=event.orders_in_window,
    )


def order_placed(account: Account, event: e.OrderPlaced) -> Account:
    return replace(
        account,
        orders={**account.orders, event.order.order_id: event.order},
        reservations={**account.reservations, event.reservation.reservation_id: event.reservation},
        window_started_at=event.window_started_at,
        orders_in_window=event.orders_in_window,
    )


def reservation_reduced(account: Account, event: e.ReservationReduced) -> Account:
    if event.remaining == 0:
        account = order_ended(account, event)
        return replace(account, reservations=without(account.reservations, event.reservation_id))
    reservation = replace(account.reservations[event.reservation_id], quantity=event.remaining)
    return replace(account, reservations={**account.reservations, event.reservation_id: reservation})


ORDER_ENDS = {
    "FILLED": (OrderState.FILLED, ""),
    "EXPIRED": (OrderState.EXPIRED, "its time is over"),
    "CANCELLED": (OrderState.CANCELLED, "cancelled on request"),
    "RELEASED": (OrderState.CANCELLED, "its reservation was released"),
    "RISK_LEVEL": (OrderState.CANCELLED, "the account may only reduce: margin utilization is too high"),
    "HALTED": (OrderState.CANCELLED, "trading is halted"),
    "UNFILLED": (OrderState.CANCELLED, "it could not be filled at once"),
    "NOTHING_TO_REDUCE": (OrderState.CANCELLED, "nothing is left to reduce"),
}
"""By the cause that closed the reservation."""


def order_ended(account: Account, event: e.ReservationReduced) -> Account:
    """The paper order that the reservation was held for goes with it."""
    order = account.orders.get(event.reservation_id)
    if order is None:
        return account
    state, note = ORDER_ENDS[event.cause]
    ended = replace(order, state=state, note=note, ended_at=event.at)
    return replace(
        account,
        orders=without(account.orders, order.order_id),
        past_orders=(*account.past_orders, ended)[-ORDERS_KEPT:],
    )


def with_order_filled(account: Account, event: e.FillRecorded) -> Account:
    """The paper order that a fill names, with the fill counted."""
    order = account.orders.get(event.reservation_id)
    if order is None or (order.symbol, order.side) != (event.symbol, event.side):
        return account
    filled = order.filled_quantity + event.quantity
    paid = event.price * event.quantity
    if order.average_price is not None:
        paid += order.average_price * order.filled_quantity
    counted = replace(
        order,
        filled_quantity=filled,
        average_price=average_price(paid / filled),
        fee=order.fee + event.fee,
        realized_pnl=order.realized_pnl + event.realized_pnl,
    )
    return replace(account, orders={**account.orders, order.order_id: counted})


def with_depth_taken(account: Account, event: e.FillRecorded) -> Account:
    if event.mark is None:
        return account
    key = depth_key(event.symbol, event.side)
    before = account.depth_taken.get(key)
    taken = event.quantity + (before.quantity if before is not None and before.mark == event.mark else ZERO)
    return replace(account, depth_taken={**account.depth_taken, key: DepthTaken(event.mark, taken)})


def fill_recorded(account: Account, event: e.FillRecorded) -> Account:
    if event.reservation_id in account.orders:
        account = with_depth_taken(with_order_filled(account, event), event)
    key = intern(position_key(event.symbol, event.position_side))
    if event.position is None:
        positions = without(account.positions, key)
        alerts = without(account.isolated_alerts, key) if key in account.isolated_alerts else account.isolated_alerts
    else:
        positions = {**account.positions, key: sharing_symbol(event.position)}
        alerts = account.isolated_alerts
    held = event.position.quantity if event.position is not None else ZERO
    settled = account.funding_settled.get(event.symbol)
    strategies = account.strategies
    if strategies or event.strategy:
        before = account.positions[key].quantity if key in account.positions else ZERO
        strategies = attributed(strategies, key, before, held - before, event.strategy)
    baselines = account.baselines
    if baselines is not None and event.realized_pnl:
        baselines = replace(
            baselines, day_realized_pnl=plus(baselines.day_realized_pnl, event.settle_asset, event.realized_pnl)
        )
    return replace(
        account,
        sync=fill_noted(account.sync, event) if account.sync is not None else None,
        positions=positions,
        strategies=strategies,
        isolated_alerts=alerts,
        balances=after_postings(account.balances, event.postings),
        holdings={**account.holdings, key: remember(account.holdings.get(key, ()), held, event.at, settled)},
        realized_pnl=plus(account.realized_pnl, event.settle_asset, event.realized_pnl),
        fees_paid=plus(account.fees_paid, event.fee_asset, event.fee),
        baselines=baselines,
    )


def sharing_symbol(position: Position) -> Position:
    """The position with the one text of its symbol that all accounts hold."""
    symbol = intern(position.symbol)
    return position if symbol is position.symbol else replace(position, symbol=symbol)


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
        halted_by=event.by,
        halted_at=event.at,
    )


def alert_raised(account: Account, event: e.AlertRaised) -> Account:
    return replace(account, alerts=(*account.alerts, event.alert)[-ALERTS_KEPT:])


def alert_acknowledged(account: Account, event: e.AlertAcknowledged) -> Account:
    return replace(
        account,
        alerts=tuple(
            replace(one, acknowledged_by=event.by, acknowledged_at=event.at) if one.alert_id == event.alert_id else one
            for one in account.alerts
        ),
    )


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
    return replace(account, reduction=None, past_reductions=past_with(account, ended))


def bankruptcy_recorded(account: Account, event: e.BankruptcyRecorded) -> Account:
    taken_over = {posting.asset for posting in event.postings if posting.ledger == "debt"}
    debts = {asset: debt for asset, debt in account.debts.items() if asset not in taken_over}
    return replace(account, balances=after_postings(account.balances, event.postings), debts=debts)


def borrowed(account: Account, event: e.Borrowed) -> Account:
    if event.loan is not None:
        account = loan_ended(account, event.loan, event.debt, event.at)
        return replace(account, balances=after_postings(account.balances, event.postings))
    return replace(
        account,
        balances=after_postings(account.balances, event.postings),
        debts={**account.debts, event.asset: event.debt},
    )


def repaid(account: Account, event: e.Repaid) -> Account:
    if event.loan is not None:
        account = loan_ended(account, event.loan, event.debt, event.at)
        return replace(account, balances=after_postings(account.balances, event.postings))
    debts: dict[str, Debt] = without(account.debts, event.asset)
    if event.debt is not None:
        debts = {**account.debts, event.asset: event.debt}
    return replace(account, balances=after_postings(account.balances, event.postings), debts=debts)


def interest_charged(account: Account, event: e.InterestCharged) -> Account:
    debt = replace(
        account.debts[event.asset],
        accrued_interest=event.accrued_interest,
        annual_rate=event.annual_rate,
        charged_at=event.due_at,
        next_charge_at=event.next_charge_at,
    )
    return replace(
        account,
        debts={**account.debts, event.asset: debt},
        interest_charged=plus(account.interest_charged, event.asset, event.amount),
    )


def asset_converted(account: Account, event: e.AssetConverted) -> Account:
    return replace(account, balances=after_postings(account.balances, event.postings))


def funding_settled(account: Account, event: e.FundingSettled) -> Account:
    return replace(
        account,
        balances=after_postings(account.balances, event.postings),
        funding_received=plus(account.funding_received, event.asset, event.amount),
        funding_settled={**account.funding_settled, event.symbol: event.funded_at},
    )


def equity_recorded(account: Account, event: e.EquityRecorded) -> Account:
    return replace(account, interval=Interval(event.ended_at, event.equity))


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
    e.OrderPlaced: order_placed,
    e.ReservationReduced: reservation_reduced,
    e.FillRecorded: fill_recorded,
    e.LeverageSet: leverage_set,
    e.MarginModeSet: margin_mode_set,
    e.IsolatedMarginAdjusted: isolated_margin_adjusted,
    e.VenueChangeRequested: change_requested,
    e.VenueChangeRefused: change_refused,
    e.AccountSynced: account_synced,
    e.LoanRequested: loan_noted,
    e.LoanSent: loan_noted,
    e.LoanRefused: loan_refused,
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
    e.AlertAcknowledged: alert_acknowledged,
    e.BreakerTripped: breaker_tripped,
    e.BreakerCleared: breaker_cleared,
    e.BaselinesSet: baselines_set,
    e.ReductionStarted: reduction_started,
    e.ReductionExtended: reduction_extended,
    e.ReductionStepEnded: reduction_step_ended,
    e.ReductionEnded: reduction_ended,
    e.BankruptcyRecorded: bankruptcy_recorded,
    e.EquityRecorded: equity_recorded,
    e.Borrowed: borrowed,
    e.Repaid: repaid,
    e.InterestCharged: interest_charged,
    e.AssetConverted: asset_converted,
    e.FundingSettled: funding_settled,
    e.CommandRefused: unchanged,
}
