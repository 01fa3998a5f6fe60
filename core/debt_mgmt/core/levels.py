"""Risk levels: where an account stands, with hysteresis, and everything that follows from crossing a threshold."""

from datetime import timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    Alert,
    AlertKind,
    Baselines,
    Posting,
    Reduction,
    ReductionCause,
    ReductionStep,
    Reservation,
    RiskLevel,
    Severity,
    TradingState,
)
from debt_mgmt.core.apply_venue import rehearsal
from debt_mgmt.core.draft import Draft
from debt_mgmt.core.halts import is_halted, narrow_halts
from debt_mgmt.core.limits import PEAK_STEP, cleared_now, day_of, tripped_now, worth
from debt_mgmt.core.liquidation import forced_plan, step_of
from debt_mgmt.core.margin import PositionFigures, Summary, World, summarize
from debt_mgmt.core.money import ZERO, owned, ratio, required, text
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.sync import DRY_RUN_NOTE, unsynced
from debt_mgmt.core.venue import OrderCancel

ASCENDING = (RiskLevel.NORMAL, RiskLevel.WARNING, RiskLevel.CRITICAL, RiskLevel.LIQUIDATING)
NORMAL = RiskLevel.NORMAL
RANK = {level: rank for rank, level in enumerate(ASCENDING)}
SEVERITY = {
    RiskLevel.NORMAL: Severity.INFO,
    RiskLevel.WARNING: Severity.WARNING,
    RiskLevel.CRITICAL: Severity.CRITICAL,
    RiskLevel.LIQUIDATING: Severity.CRITICAL,
    RiskLevel.UNKNOWN: Severity.CRITICAL,
}


def thresholds(settings: RiskSettings) -> dict[RiskLevel, Decimal]:
    """Where each level is entered, as margin utilisation."""
    return {
        RiskLevel.WARNING: settings.margin_call_threshold,
        RiskLevel.CRITICAL: settings.liquidation_threshold,
        RiskLevel.LIQUIDATING: settings.forced_liquidation_threshold,
    }


def next_level(current: RiskLevel, used: Decimal, equity: Decimal, settings: RiskSettings) -> RiskLevel:
    """The level after `current` at this margin used and equity: entered at its threshold, left `hysteresis` below it.

    Equity that is not positive counts as above every threshold while any margin is used.
    """
    if current is NORMAL and 0 < used < settings.margin_call_threshold * equity:
        return NORMAL
    if used <= 0:
        return RiskLevel.NORMAL if equity >= 0 else RiskLevel.CRITICAL
    if equity <= 0:
        return RiskLevel.LIQUIDATING
    entries = thresholds(settings)
    entered = RiskLevel.NORMAL
    for level in ASCENDING[1:]:
        if used >= entries[level] * equity:
            entered = level
    for level in reversed(ASCENDING[RANK[entered] + 1 : RANK[current] + 1]):
        if used >= (entries[level] - settings.hysteresis) * equity:
            return level
    return entered


def assess(draft: Draft) -> Summary:
    """Add everything that follows from where the account stands now: levels, alerts, states, breakers, reductions.

    Returns the figures it leaves.
    """
    if draft.account.closed_at is not None:
        summary = draft.summary()
        end_finished_reduction(draft, summary)
        return summary
    cancel_halted_orders(draft)
    for _ in ASCENDING:
        summary = draft.summary()
        if not assess_level(draft, summary):
            break
    else:
        summary = draft.summary()
    if draft.world.held_prices:
        say_held_prices(draft, summary)
    if draft.account.level is RiskLevel.UNKNOWN or not summary.known:
        end_finished_reduction(draft, summary)
        return summary
    if draft.account.sync is not None:
        summary = assess_open_orders(draft, summary)
    assess_isolated(draft, summary)
    assess_losses(draft, summary)
    before = draft.account.balances
    assess_reduction(draft, summary)
    if draft.account.balances is not before:  # a loss beyond all equity was taken over, so the account stands elsewhere
        summary = draft.summary()
        assess_level(draft, summary)
        assess_losses(draft, summary)
    return summary


def say_held_prices(draft: Draft, summary: Summary) -> None:
    """Alert, once for each time, an account that is valued by a price which a deviating print did not move."""
    account, used = draft.account, {mark.symbol: mark for mark in summary.marks}
    if not account.positions and not account.reservations and not account.debts:
        return
    for symbol, held in draft.world.held_prices.items():
        if used.get(symbol) is not held.mark:
            continue
        kind = AlertKind.MARK_QUARANTINED
        if any(one.kind is kind and one.subject == symbol and one.at >= held.since for one in account.alerts):
            continue
        printed = f"{held.printed.source} printed {text(held.printed.price)}"
        message = f"collateral is valued by {text(held.mark.price)} of {symbol} until what {printed} is confirmed"
        raise_alert(draft, kind, Severity.WARNING, message, summary, subject=symbol)


def assess_open_orders(draft: Draft, summary: Summary) -> Summary:
    """Orders that a sync finds at the venue while the account is CRITICAL are cancelled too, once it was entered."""
    account = draft.account
    if account.dry_run or RANK[account.level] < RANK[RiskLevel.CRITICAL]:
        return summary
    if not any(one.order_id for one in risk_adding(account)):
        return summary
    cancel_risk_adding(draft)
    summary = draft.summary()
    assess_level(draft, summary)
    return summary


def unpriced(account: Account, summary: Summary, world: World, max_age: timedelta) -> tuple[str, ...]:
    """Symbols whose price is missing or too old to say how an account with open risk stands."""
    if not account.positions and not account.reservations and not account.debts:
        return ()
    return (*summary.missing, *(mark.symbol for mark in summary.stale(world.at, max_age)))


def assess_level(draft: Draft, summary: Summary) -> bool:
    """Move to the level the figures say. True when that released margin, so that the figures must be made anew."""
    account, world = draft.account, draft.world
    if account.sync is not None and (reason := unsynced(account, world.settings, world.at)):
        become_unknown(draft, summary, reason, account.broker)
        return False
    blind = unpriced(account, summary, world, world.settings.mark_max_age)
    if blind:
        names = ", ".join(dict.fromkeys(blind))
        become_unknown(draft, summary, f"no fresh price for {names}", names)
        return False
    if not summary.known:
        return False
    current = account.level if account.level is not RiskLevel.UNKNOWN else account.level_before_unknown
    level = next_level(current, summary.used, summary.equity, world.settings)
    if RANK[current] < RANK[RiskLevel.CRITICAL] and risk_adding(account):
        if level is RiskLevel.LIQUIDATING:
            level = RiskLevel.CRITICAL  # positions are sold only for what they need once their orders are released
        elif summary.used == world.settings.liquidation_threshold * summary.equity:
            level = RiskLevel.WARNING  # an order that fills the account up to the threshold was accepted, so it is kept
    if level is account.level:
        return False
    rose = RANK[level] > RANK[current]
    change_level(draft, summary, level)
    kind = AlertKind.LEVEL_RAISED if rose else AlertKind.LEVEL_LOWERED
    severity = SEVERITY[level] if rose else Severity.INFO
    shown = percent(summary.used, summary.equity)
    raise_alert(draft, kind, severity, f"{level.value}: margin utilization is {shown}", summary)
    if RANK[level] >= RANK[RiskLevel.CRITICAL]:
        return enter_reducing(draft)
    leave_reducing(draft)
    return False


def become_unknown(draft: Draft, summary: Summary, reason: str, subject: str) -> None:
    if draft.account.level is not RiskLevel.UNKNOWN:
        change_level(draft, summary, RiskLevel.UNKNOWN)
        message = f"{reason}: new risk is blocked and the level is unknown"
        raise_alert(draft, AlertKind.LEVEL_UNKNOWN, Severity.CRITICAL, message, summary, subject=subject)


def percent(numerator: Decimal, denominator: Decimal) -> str:
    """A ratio for people to read."""
    share = ratio(numerator, denominator)
    return "above every threshold" if share is None else f"{text(round(share * 100, 2))} %"


def change_level(draft: Draft, summary: Summary, level: RiskLevel) -> None:
    known = summary.known
    draft.add(
        e.RiskLevelChanged(
            before=draft.account.level,
            after=level,
            equity=owned(summary.equity) if known else None,
            margin_used=required(summary.used) if known else None,
            margin_utilization=ratio(summary.used, summary.equity) if known else None,
            maintenance_margin=required(summary.maintenance) if known else None,
            marks=summary.marks_used(),
        )
    )


def raise_alert(
    draft: Draft, kind: AlertKind, severity: Severity, message: str, summary: Summary, subject: str = ""
) -> None:
    draft.add(
        e.AlertRaised(
            Alert(
                alert_id=draft.next_id,
                kind=kind,
                severity=severity,
                at=draft.world.at,
                level=draft.account.level,
                message=message,
                utilization=ratio(summary.used, summary.equity) if summary.known else None,
                subject=subject,
                marks=summary.marks_used(),
            )
        )
    )


def enter_reducing(draft: Draft) -> bool:
    """Only reducing orders from here on; margin held for orders that add risk is released."""
    account = draft.account
    if account.trading_state is TradingState.ACTIVE:
        draft.add(
            e.TradingStateChanged(
                TradingState.ACTIVE, TradingState.REDUCING, "margin utilization is at the liquidation threshold", True
            )
        )
    adding = risk_adding(account)
    for reservation in adding:
        if not reservation.order_id:
            draft.add(
                e.ReservationReduced(
                    reservation.reservation_id, reservation.quantity, ZERO, "RISK_LEVEL", at=draft.world.at
                )
            )
    if account.sync is not None and account.dry_run:
        say_uncancelled(draft)
    elif account.sync is not None:
        cancel_risk_adding(draft)
    return len(risk_adding(draft.account)) < len(adding)


def cancel_halted_orders(draft: Draft) -> None:
    """Paper orders that add risk do not outlive a halt that concerns them."""
    account, house = draft.account, draft.world.house
    if not account.orders:
        return
    halted = account.trading_state is TradingState.HALTED or house.halt_for(account.owner) is not None
    narrow = narrow_halts(house.halts, account) if house.halts and not halted else ()
    for order in account.orders.values() if halted or narrow else ():
        if not order.reduce_only and (halted or is_halted(narrow, order.strategy, order.symbol)):
            left = account.reservations[order.order_id].quantity
            draft.add(e.ReservationReduced(order.order_id, left, ZERO, "HALTED", at=draft.world.at))


def risk_adding(account: Account) -> list[Reservation]:
    return [one for one in account.reservations.values() if not one.reduce_only]


def cancel_risk_adding(draft: Draft) -> None:
    """Have every open order at the venue that adds risk cancelled; those that are being cancelled are not held."""
    cancels = tuple(
        OrderCancel(
            order_id=one.order_id,
            symbol=one.symbol,
            side=one.side,
            quantity=one.quantity,
            reservation_id=one.reservation_id,
            requested_at=draft.world.at,
            client_order_id=one.client_order_id,
        )
        for one in risk_adding(draft.account)
        if one.order_id
    )
    if cancels:
        draft.add(e.CancelsRequested(cancels, "margin utilization is at the liquidation threshold"))


def say_uncancelled(draft: Draft) -> None:
    orders = [one for one in risk_adding(draft.account) if one.order_id]
    if orders:
        named = ", ".join(f"{one.order_id} ({one.side.value} {text(one.quantity)} {one.symbol})" for one in orders)
        message = f"{DRY_RUN_NOTE}; these orders would be cancelled: {named}"
        raise_alert(draft, AlertKind.DRY_RUN, Severity.CRITICAL, message, draft.summary())


def leave_reducing(draft: Draft) -> None:
    account = draft.account
    if account.trading_state is TradingState.REDUCING and account.trading_state_is_automatic:
        draft.add(
            e.TradingStateChanged(
                TradingState.REDUCING, TradingState.ACTIVE, "margin utilization is back below the threshold", True
            )
        )


def assess_isolated(draft: Draft, summary: Summary) -> None:
    """Isolated positions are watched by their own maintenance ratio; at the forced threshold the position is closed."""
    for one in summary.positions:
        if not one.isolated:
            continue
        key = one.position.key
        before = draft.account.isolated_alerts.get(key, RiskLevel.NORMAL)
        after = next_level(before, one.maintenance_margin, one.isolated_equity, draft.world.settings)
        if after is before:
            continue
        share = ratio(one.maintenance_margin, one.isolated_equity)
        draft.add(e.IsolatedLevelChanged(key, before, after, share))
        if RANK[after] > RANK[before]:
            shown = percent(one.maintenance_margin, one.isolated_equity)
            message = f"maintenance ratio of the isolated position {key} is {shown}"
            raise_alert(draft, AlertKind.LEVEL_RAISED, SEVERITY[after], message, summary, subject=key)


def assess_losses(draft: Draft, summary: Summary) -> None:
    """Start the day, raise the peak, trip and clear breakers."""
    world = draft.world
    equity = worth(summary)
    baselines = draft.account.baselines
    day = day_of(world.at, world.settings.day_zone)
    if baselines is None:
        draft.add(e.BaselinesSet(Baselines(day, owned(equity), owned(equity)), "DAY"))
    elif baselines.day < day:
        peak = max(baselines.peak_equity, owned(equity))
        draft.add(e.BaselinesSet(Baselines(day, owned(equity), peak, realized_in(draft.events)), "DAY"))
    elif equity > max(baselines.peak_equity * PEAK_STEP, baselines.peak_equity):
        draft.add(e.BaselinesSet(msgspec.structs.replace(baselines, peak_equity=owned(equity)), "PEAK"))
    for kind in cleared_now(draft.account, world, equity):
        draft.add(e.BreakerCleared(kind))
        message = f"{kind.value} breaker: cooled down, the loss is back within its limit"
        raise_alert(draft, AlertKind.BREAKER_RESET, Severity.INFO, message, summary, subject=kind.value)
    for breaker in tripped_now(draft.account, world, equity):
        draft.add(e.BreakerTripped(breaker))
        message = f"{breaker.kind.value} breaker: loss {text(breaker.value)}, limit {text(breaker.limit)}"
        raise_alert(draft, AlertKind.BREAKER_TRIPPED, Severity.CRITICAL, message, summary, subject=breaker.kind.value)


def realized_in(events: list[e.Event]) -> dict[str, Decimal]:
    """What the command being decided realised: the first fill of a new day belongs to that day."""
    realized: dict[str, Decimal] = {}
    for event in events:
        if isinstance(event, e.FillRecorded) and event.realized_pnl:
            realized[event.settle_asset] = realized.get(event.settle_asset, ZERO) + event.realized_pnl
    return realized


def assess_reduction(draft: Draft, summary: Summary) -> None:
    """End a reduction whose steps are done; start one where a level demands it. One plan at a time."""
    end_finished_reduction(draft, summary)
    account = draft.account
    if account.dry_run and (account.reduction is not None or account.rehearsed == rehearsal(account)):
        return
    if account.reduction is not None:
        extend_for_isolated(draft, summary)
        return
    doomed = doomed_positions(account, summary)
    if account.level is RiskLevel.LIQUIDATING and any(not one.isolated for one in summary.positions):
        if account.dry_run:
            summary = once_cancelled(draft)
        used, equity = text(required(summary.used)), text(owned(summary.equity))
        plan = forced_plan(summary, draft.world, draft.next_id, f"margin used {used} of equity {equity}")
        if account.dry_run and doomed:
            more = isolated_steps(plan.plan_id, doomed, first=len(plan.steps) + 1)
            plan = msgspec.structs.replace(plan, steps=(*plan.steps, *more))
        if plan.steps:
            start_reduction(draft, summary, plan)
    elif doomed:
        plan_id = draft.next_id
        steps = isolated_steps(plan_id, doomed, first=1)
        start_reduction(
            draft,
            summary,
            Reduction(
                plan_id=plan_id,
                cause=ReductionCause.ISOLATED,
                reason="the isolated margin is nearly used up",
                started_at=draft.world.at,
                steps=steps,
                utilization_before=ratio(summary.used, summary.equity),
                marks=summary.marks_used(),
            ),
        )
    extend_for_isolated(draft, summary)


def once_cancelled(draft: Draft) -> Summary:
    """The figures that a plan is made on in dry run: without the orders that would be cancelled before it."""
    kept = {key: one for key, one in draft.account.reservations.items() if one.reduce_only}
    return summarize(msgspec.structs.replace(draft.account, reservations=kept), draft.world)


def start_reduction(draft: Draft, summary: Summary, reduction: Reduction) -> None:
    draft.add(e.ReductionStarted(reduction))
    orders = ", ".join(f"{step.side.value} {text(step.quantity)} {step.symbol}" for step in reduction.steps)
    if draft.account.dry_run:
        message = f"{DRY_RUN_NOTE}; positions would be reduced by force: {orders}"
        raise_alert(draft, AlertKind.DRY_RUN, Severity.CRITICAL, message, summary, subject=reduction.plan_id)
        end_unsent(draft, reduction.steps)
        return end_finished_reduction(draft, summary)
    raise_alert(
        draft,
        AlertKind.LIQUIDATION_STARTED,
        Severity.CRITICAL,
        f"positions are reduced by force: {orders}",
        summary,
        subject=reduction.plan_id,
    )


def end_unsent(draft: Draft, steps: tuple[ReductionStep, ...]) -> None:
    """In dry run steps end in the decision that plans them, so that no restart and no broker ever finds them open."""
    if draft.account.dry_run:
        for step in steps:
            draft.add(e.ReductionStepEnded(step.step, ZERO, None, draft.world.at, DRY_RUN_NOTE))


def doomed_positions(account: Account, summary: Summary) -> list[PositionFigures]:
    """Isolated positions at the forced level."""
    return [
        one
        for one in summary.positions
        if one.isolated and account.isolated_alerts.get(one.position.key) is RiskLevel.LIQUIDATING
    ]


def isolated_steps(plan_id: str, doomed: list[PositionFigures], first: int) -> tuple[ReductionStep, ...]:
    return tuple(
        step_of(plan_id, number, one.position, abs(one.position.quantity), ReductionCause.ISOLATED)
        for number, one in enumerate(doomed, start=first)
    )


def extend_for_isolated(draft: Draft, summary: Summary) -> None:
    """Isolated positions that fell while a plan runs are closed by more steps of the same plan."""
    reduction = draft.account.reduction
    if reduction is None:
        return
    planned = {(step.symbol, step.position_side) for step in reduction.open_steps}
    doomed = [
        one
        for one in doomed_positions(draft.account, summary)
        if (one.position.symbol, one.position.side) not in planned
    ]
    if doomed:
        draft.add(e.ReductionExtended(isolated_steps(reduction.plan_id, doomed, len(reduction.steps) + 1)))


def end_finished_reduction(draft: Draft, summary: Summary) -> None:
    """Close a plan whose steps are done; a loss beyond all equity is taken over by the insurance ledger and said."""
    account = draft.account
    if account.reduction is None or account.reduction.open_steps:
        return
    deficit = None
    if summary.known and not account.positions and summary.equity < 0:
        deficit = required(-summary.equity)
        postings = tuple(
            posting
            for asset, balance in account.balances.items()
            if balance and account.sync is None  # what a live account holds is told by its venue
            for posting in (Posting("wallet", asset, -balance), Posting("insurance", asset, balance))
        ) + tuple(
            posting
            for debt in account.debts.values()
            for posting in (Posting("debt", debt.asset, debt.owed), Posting("insurance", debt.asset, -debt.owed))
        )
        draft.add(e.BankruptcyRecorded(deficit, account.currency, postings))
        message = f"losses went {text(deficit)} {account.currency} beyond the account's equity"
        raise_alert(draft, AlertKind.BANKRUPTCY, Severity.CRITICAL, message, summary)
    reached = ratio(summary.used, summary.equity) if summary.known else None
    plan = account.reduction
    draft.add(e.ReductionEnded(draft.world.at, reached, deficit))
    rehearsed = all(step.note == DRY_RUN_NOTE for step in plan.steps)
    if plan.cause is not ReductionCause.REQUESTED and not rehearsed:
        now = percent(summary.used, summary.equity) if summary.known else "unknown"
        message = f"the reduction is done: margin utilization is {now}"
        raise_alert(draft, AlertKind.LIQUIDATION_FINISHED, Severity.WARNING, message, summary, subject=plan.plan_id)
