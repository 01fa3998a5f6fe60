"""Deciding a command: from an account, the world and a command to events or a refusal. Pure, total, nothing awaits."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    AlertKind,
    Environment,
    MarginMode,
    Position,
    PositionMode,
    PositionSide,
    Posting,
    Reduction,
    ReductionCause,
    Reservation,
    RiskLevel,
    Severity,
    TradingState,
    position_key,
)
from debt_mgmt.core.check import CheckResult, check, order_window, stale_violations
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.fills import postings_of, settle_fill
from debt_mgmt.core.instrument import Instrument, initial_margin, tier_at
from debt_mgmt.core.levels import RANK, Draft, assess, raise_alert, requested_step
from debt_mgmt.core.limits import worth
from debt_mgmt.core.margin import (
    World,
    collateral_value,
    figures,
    leverage_of,
    margin_mode_of,
    mark_used,
    rate_for,
    summarize,
)
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.money import ZERO, owned, ratio, required
from debt_mgmt.core.refusals import Reason, Violation, by_precedence
from debt_mgmt.core.settings import effective_limits
from debt_mgmt.core.view import AccountView


def decide(
    account: Account | None, command: c.Command, world: World, view: AccountView | None = None
) -> tuple[e.Event, ...]:
    """The events that follow from `command`; a refusal is an event too (CommandRefused, alone).

    Raises Fault where the command can't be answered at all: the account does not exist, or exists already.
    `view` may be given where it was made before for the same account and marks.
    """
    draft = Draft(account, world)
    if isinstance(command, c.CreateAccount):
        create_account(draft, command)
    else:
        if account is None:
            raise Fault(FaultReason.ACCOUNT_NOT_FOUND, "account not found")
        if isinstance(command, c.ReserveMargin):
            reserve_margin(draft, command, view)
        else:
            DECIDE[type(command)](draft, command)
    if draft.events and isinstance(draft.events[0], e.CommandRefused):
        return tuple(draft.events)
    summary = assess(draft)
    if draft.events and "figures" in draft.events[0].__struct_fields__:
        draft.events[0] = msgspec.structs.replace(draft.events[0], figures=figures(summary))
    return tuple(draft.events)


def refuse(draft: Draft, command: str, *violations: Violation, **figures: Decimal | None) -> None:
    draft.add(e.CommandRefused(command, by_precedence(list(violations)), **figures))


def create_account(draft: Draft, command: c.CreateAccount) -> None:
    if draft.folded is not None:
        message = f"account {command.account_id} exists already"
        raise Fault(FaultReason.ACCOUNT_EXISTS, message, account_id=command.account_id)
    settings, at = draft.world.settings, draft.world.at
    currency = command.currency or settings.starting_currency
    asset, amount = "", None
    if command.environment is Environment.SANDBOX:
        asset = command.deposit_asset or currency
        amount = command.deposit_amount if command.deposit_amount is not None else settings.starting_capital
    draft.add(
        e.AccountCreated(
            account_id=command.account_id,
            owner=command.owner,
            broker=command.broker,
            environment=command.environment,
            currency=currency,
            at=at,
            position_mode=command.position_mode,
            margin_mode=command.margin_mode,
            starting_asset=asset,
            starting_capital=amount,
            postings=deposit_postings(asset, amount) if amount else (),
        )
    )


def deposit_postings(asset: str, amount: Decimal) -> tuple[Posting, ...]:
    return (Posting("wallet", asset, amount), Posting("external", asset, -amount))


def close_account(draft: Draft, command: c.CloseAccount) -> None:
    account = draft.account
    still_open = len(account.positions) + len(account.reservations)
    if account.closed_at is not None:
        return refuse(draft, "CloseAccount", Violation(Reason.ALREADY_IN_STATE, account.account_id))
    if still_open:
        return refuse(
            draft, "CloseAccount", Violation(Reason.OPEN_POSITIONS, account.account_id, Decimal(still_open), ZERO)
        )
    draft.add(e.AccountClosed(draft.world.at, command.reason))


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


def withdrawable(draft: Draft, asset: str, rate: Decimal) -> Decimal | Violation:
    """How much of an asset can leave: its balance without posted margin, as far as margin available covers it."""
    account, world = draft.account, draft.world
    view = AccountView(account, world)
    if not view.summary.known:
        return Violation(Reason.MISSING_MARK, view.summary.missing[0])
    stale = view.summary.stale(world.at, world.settings.pre_trade_max_age)
    if stale and account.positions:
        return Violation(Reason.STALE_MARK, stale[0].symbol)
    free = max(ZERO, account.balances.get(asset, ZERO) - posted_in(draft, asset))
    weight = collateral_value(asset, Decimal(1), rate, world.house)
    return min(free, view.available / weight) if weight > 0 else free


def posted_in(draft: Draft, asset: str) -> Decimal:
    """What of a balance is posted on isolated positions."""
    instruments = draft.world.house.instruments
    posted = (
        one.isolated_margin for one in draft.account.positions.values() if instruments[one.symbol].settle == asset
    )
    return sum(posted, ZERO)


def reset_funds(draft: Draft, command: c.ResetFunds) -> None:
    account, settings = draft.account, draft.world.settings
    if account.environment is not Environment.SANDBOX:
        return refuse(draft, "ResetFunds", Violation(Reason.NOT_SANDBOX, account.account_id))
    asset = account.starting_asset or account.currency
    amount = account.starting_capital if account.starting_capital is not None else settings.starting_capital
    postings = tuple(
        posting
        for held, balance in account.balances.items()
        if balance
        for posting in (Posting("wallet", held, -balance), Posting("external", held, balance))
    ) + deposit_postings(asset, amount)
    draft.add(e.FundsReset(asset, amount, draft.world.at, command.reason, postings))


def reserve_margin(draft: Draft, command: c.ReserveMargin, view: AccountView | None) -> None:
    account, world = draft.account, draft.world
    if view is None:
        view = AccountView(account, world)
    result = check(view, command.order, world.at, with_largest=False)
    if not result.fits:
        return refuse_order(draft, "ReserveMargin", result)
    draft.add(reservation_event(draft, command, view, result))


def refuse_order(draft: Draft, name: str, result: CheckResult) -> None:
    draft.add(
        e.CommandRefused(
            command=name,
            violations=result.violations,
            margin_required=result.margin_required,
            margin_available=result.before.margin_available,
            margin_utilization=result.before.margin_utilization,
            largest_buy=result.largest_buy,
            largest_sell=result.largest_sell,
        )
    )


def reservation_event(
    draft: Draft, command: c.ReserveMargin, view: AccountView, result: CheckResult
) -> e.MarginReserved:
    world, order = draft.world, command.order
    time_to_live: timedelta = command.time_to_live or world.settings.reservation_time_to_live
    mark = result.mark
    price = result.margin_price
    if price is None:
        price = order.price if order.price is not None else ZERO
    started, counted = order_window(draft.account, view.limits.order_rate_interval_seconds or 1, world.at)
    after = view.before if result.reducing else result.after
    return e.MarginReserved(
        reservation=Reservation(
            reservation_id=draft.next_id,
            symbol=order.symbol,
            position_side=order.position_side,
            side=order.side,
            quantity=order.quantity,
            original_quantity=order.quantity,
            price=price,
            created_at=world.at,
            expires_at=world.at + time_to_live,
            reduce_only=result.reducing,
            limit_price=order.price,
            open_loss=result.open_loss,
            client_order_id=command.client_order_id,
        ),
        margin_required=result.margin_required if result.margin_required is not None else ZERO,
        margin_available=after.margin_available,
        margin_utilization=after.margin_utilization,
        window_started_at=started,
        orders_in_window=counted if result.reducing else counted + 1,
        mark=mark_used(mark) if mark is not None else None,
    )


def release_reservation(draft: Draft, command: c.ReleaseReservation) -> None:
    reservation = draft.account.reservations.get(command.reservation_id)
    if reservation is None:
        return refuse(draft, "ReleaseReservation", Violation(Reason.RESERVATION_NOT_FOUND, command.reservation_id))
    quantity = command.quantity if command.quantity is not None else reservation.quantity
    if quantity > reservation.quantity:
        return refuse(
            draft,
            "ReleaseReservation",
            Violation(Reason.OVER_RELEASE, command.reservation_id, quantity, reservation.quantity),
        )
    draft.add(e.ReservationReduced(command.reservation_id, quantity, reservation.quantity - quantity, "RELEASED"))


def expire_reservations(draft: Draft, command: c.ExpireReservations) -> None:
    at = draft.world.at
    for reservation in tuple(draft.account.reservations.values()):
        if reservation.expires_at <= at:
            draft.add(e.ReservationReduced(reservation.reservation_id, reservation.quantity, ZERO, "EXPIRED"))


def instrument_of(draft: Draft, symbol: str) -> Instrument:
    instrument = draft.world.house.instruments.get(symbol)
    if instrument is None:
        message = f"instrument {symbol} is not known; PutInstrument adds it"
        raise Fault(FaultReason.INSTRUMENT_NOT_FOUND, message, symbol=symbol)
    return instrument


def record_fill(draft: Draft, command: c.RecordFill) -> None:
    """A fill is a fact: only what can't have happened (a hedge leg closed beyond its size) is refused."""
    account = draft.account
    instrument = instrument_of(draft, command.symbol)
    key = position_key(command.symbol, command.position_side)
    position = account.positions.get(key)
    if account.position_mode is PositionMode.HEDGE:
        opens = (command.side.sign > 0) == (command.position_side is PositionSide.LONG)
        held = abs(position.quantity) if position is not None else ZERO
        if not opens and command.quantity > held:
            return refuse(draft, "RecordFill", Violation(Reason.NO_POSITION, key, command.quantity, held))
    fill_event(draft, command, instrument, position)
    reservation = draft.account.reservations.get(command.reservation_id) if command.reservation_id else None
    if reservation is not None and (reservation.symbol, reservation.side) == (command.symbol, command.side):
        used = min(command.quantity, reservation.quantity)
        draft.add(e.ReservationReduced(reservation.reservation_id, used, reservation.quantity - used, "FILLED"))
    reduction = draft.account.reduction
    if command.plan_id and reduction is not None and reduction.plan_id == command.plan_id:
        draft.add(e.ReductionStepEnded(command.step, command.quantity, command.price))


def fill_event(draft: Draft, command: c.RecordFill, instrument: Instrument, position: Position | None) -> None:
    account, at = draft.account, draft.world.at
    outcome = settle_fill(
        position,
        instrument,
        command.side,
        command.position_side,
        command.quantity,
        command.price,
        leverage_of(account, draft.world.settings, command.symbol),
        margin_mode_of(account, command.symbol),
        at,
    )
    fee_asset = command.fee_asset or instrument.settle
    draft.add(
        e.FillRecorded(
            fill_id=command.fill_id,
            symbol=command.symbol,
            position_side=command.position_side,
            side=command.side,
            quantity=command.quantity,
            price=command.price,
            fee=command.fee,
            fee_asset=fee_asset,
            at=command.filled_at or at,
            position=outcome.position,
            realized_pnl=outcome.realized_pnl,
            settle_asset=instrument.settle,
            postings=postings_of(outcome, instrument.settle, command.fee, fee_asset),
            closed_quantity=outcome.closed_quantity,
            opened_quantity=outcome.opened_quantity,
            order_id=command.order_id,
            reservation_id=command.reservation_id,
            plan_id=command.plan_id,
            step=command.step,
        )
    )
    if outcome.covered:
        key = position_key(command.symbol, command.position_side)
        draft.add(e.BankruptcyRecorded(outcome.covered, instrument.settle, (), key))


def close_position(draft: Draft, command: c.ClosePosition) -> None:
    """A close on request becomes a step of a reduction; it needs no price, no margin and no open market."""
    account = draft.account
    position = account.positions.get(position_key(command.symbol, command.position_side))
    if position is None:
        key = position_key(command.symbol, command.position_side)
        return refuse(draft, "ClosePosition", Violation(Reason.NO_POSITION, key))
    running = account.reduction
    closing = ZERO
    if running is not None:
        closing = sum(
            (
                step.quantity
                for step in running.open_steps
                if (step.symbol, step.position_side) == (command.symbol, command.position_side)
            ),
            ZERO,
        )
    left = abs(position.quantity) - closing
    if left <= 0:
        note = Violation(Reason.ALREADY_IN_STATE, position.key, note="all of it is being closed")
        return refuse(draft, "ClosePosition", note)
    quantity = left if command.quantity is None else min(command.quantity, left)
    if running is not None:
        draft.add(e.ReductionExtended((requested_step(running.plan_id, len(running.steps) + 1, position, quantity),)))
        return
    summary = summarize(account, draft.world)
    plan_id = draft.next_id
    draft.add(
        e.ReductionStarted(
            Reduction(
                plan_id=plan_id,
                cause=ReductionCause.REQUESTED,
                reason=command.reason,
                started_at=draft.world.at,
                steps=(requested_step(plan_id, 1, position, quantity),),
                utilization_before=ratio(summary.used, summary.equity) if summary.known else None,
                marks=summary.marks_used(),
            )
        )
    )


def end_reduction_step(draft: Draft, command: c.EndReductionStep) -> None:
    reduction = draft.account.reduction
    if reduction is None or reduction.plan_id != command.plan_id:
        return
    for step in reduction.open_steps:
        if step.step == command.step:
            draft.add(e.ReductionStepEnded(step.step, step.filled_quantity, step.price, command.note))


def set_leverage(draft: Draft, command: c.SetLeverage) -> None:
    """Refused, never clamped. An open position is re-margined first: what more it needs must be available."""
    account, world = draft.account, draft.world
    symbol, leverage = command.symbol, command.leverage
    instrument = instrument_of(draft, symbol)
    found = leverage_caps(account, world, instrument, leverage)
    positions = tuple(position for position in account.positions.values() if position.symbol == symbol)
    changed = tuple(with_leverage(position, instrument, leverage) for position in positions)
    event = e.LeverageSet(symbol, leverage, leverage_of(account, world.settings, symbol), changed)
    lowers = any(leverage < position.leverage for position in positions) or (
        leverage < leverage_of(account, world.settings, symbol)
        and any(reservation.symbol == symbol for reservation in account.reservations.values())
    )
    if positions or lowers:
        found += remargin_violations(draft, event, instrument, lowers)
    if found:
        return refuse(draft, "SetLeverage", *found)
    draft.add(event)


def with_leverage(position: Position, instrument: Instrument, leverage: Decimal) -> Position:
    """The position at another leverage. Lower leverage posts more isolated margin; higher gives none back."""
    posted = position.isolated_margin
    if position.margin_mode is MarginMode.ISOLATED and leverage < position.leverage:
        needed = initial_margin(instrument, position.quantity, position.entry_price, leverage)
        posted = max(posted, required(needed))
    return msgspec.structs.replace(position, leverage=leverage, isolated_margin=posted)


LEVERAGE_STEP = Decimal("0.01")


def leverage_caps(account: Account, world: World, instrument: Instrument, leverage: Decimal) -> list[Violation]:
    """Every cap that `leverage` breaks: its step, the account's, the broker's and the instrument's."""
    symbol, settings = instrument.symbol, world.settings
    found: list[Violation] = []
    if leverage < 1 or leverage % LEVERAGE_STEP:
        found.append(Violation(Reason.LEVERAGE_STEP, symbol, leverage, LEVERAGE_STEP))
    cap = settings.max_leverage
    own = effective_limits(settings.limits, account.limits).max_leverage
    if own is not None:
        cap = min(cap, own)
    if leverage > cap:
        found.append(Violation(Reason.LEVERAGE_ABOVE_ACCOUNT, symbol, leverage, cap))
    broker_cap = settings.broker_max_leverage.get(account.broker)
    if broker_cap is not None and leverage > broker_cap:
        found.append(Violation(Reason.LEVERAGE_ABOVE_BROKER, symbol, leverage, broker_cap))
    if leverage > min(instrument.max_leverage, instrument.tiers[0].max_leverage):
        top = min(instrument.max_leverage, instrument.tiers[0].max_leverage)
        found.append(Violation(Reason.LEVERAGE_ABOVE_TIER, symbol, leverage, top))
    return found


def remargin_violations(draft: Draft, event: e.LeverageSet, instrument: Instrument, lowers: bool) -> list[Violation]:
    """What stands against a new leverage on an open position: the tier it is in, and the margin that is missing."""
    account, world = draft.account, draft.world
    before = summarize(account, world)
    found: list[Violation] = []
    for one in before.positions:
        if one.position.symbol == event.symbol:
            tier = tier_at(instrument, one.notional)
            if event.leverage > tier.max_leverage:
                violation = Violation(Reason.LEVERAGE_ABOVE_TIER, event.symbol, event.leverage, tier.max_leverage)
                found.append(violation)
    if not lowers:
        return found
    found += (Violation(Reason.MISSING_MARK, symbol) for symbol in before.missing)
    if before.missing:
        return found
    view = AccountView(account, world, before)
    symbol = view.symbol(event.symbol)
    if isinstance(symbol, Violation):
        return [*found, symbol]
    found += stale_violations(view, world.at)
    scratch = Draft(account, world)
    scratch.add(event)
    after = summarize(scratch.account, world)
    added = (after.used - before.used) + (before.equity - after.equity)
    if added > before.available:
        found.append(Violation(Reason.INSUFFICIENT_MARGIN, event.symbol, required(added), owned(before.available)))
    if after.used > world.settings.liquidation_threshold * after.equity and added > 0:
        reached = ratio(after.used, after.equity)
        found.append(Violation(Reason.UTILIZATION_AFTER, event.symbol, reached, world.settings.liquidation_threshold))
    return found


def set_margin_mode(draft: Draft, command: c.SetMarginMode) -> None:
    account = draft.account
    instrument_of(draft, command.symbol)
    busy = any(position.symbol == command.symbol for position in account.positions.values()) or any(
        reservation.symbol == command.symbol for reservation in account.reservations.values()
    )
    if busy and command.margin_mode is not margin_mode_of(account, command.symbol):
        return refuse(draft, "SetMarginMode", Violation(Reason.MARGIN_MODE_WITH_POSITION, command.symbol))
    draft.add(e.MarginModeSet(command.symbol, command.margin_mode))


def adjust_isolated_margin(draft: Draft, command: c.AdjustIsolatedMargin) -> None:
    name = "AdjustIsolatedMargin"
    account, world = draft.account, draft.world
    key = position_key(command.symbol, command.position_side)
    position = account.positions.get(key)
    if position is None or position.margin_mode is not MarginMode.ISOLATED:
        return refuse(draft, name, Violation(Reason.NO_POSITION, key, note="no isolated position"))
    summary = summarize(account, world)
    if not summary.known:
        return refuse(draft, name, *(Violation(Reason.MISSING_MARK, symbol) for symbol in summary.missing))
    one = next(figures for figures in summary.positions if figures.position.key == key)
    after = position.isolated_margin + command.amount
    if command.amount > 0:
        available = summary.available / one.rate
        if command.amount > available:
            return refuse(draft, name, Violation(Reason.INSUFFICIENT_MARGIN, key, command.amount, owned(available)))
    else:
        standing = after + min(ZERO, one.unrealized_pnl)
        if standing < one.initial_margin:
            return refuse(
                draft,
                name,
                Violation(Reason.ISOLATED_MARGIN_BELOW_REQUIRED, key, owned(standing), required(one.initial_margin)),
            )
    draft.add(e.IsolatedMarginAdjusted(msgspec.structs.replace(position, isolated_margin=after), command.amount))


def set_limits(draft: Draft, command: c.SetLimits) -> None:
    chosen = {name: getattr(command.limits, name) for name in command.fields}
    draft.add(e.LimitsSet(msgspec.structs.replace(draft.account.limits, **chosen), command.reason))


def halt_trading(draft: Draft, command: c.HaltTrading) -> None:
    draft.add(e.TradingStateChanged(draft.account.trading_state, TradingState.HALTED, command.reason, False))
    summary = summarize(draft.account, draft.world)
    message = f"trading is halted: {command.reason}"
    raise_alert(draft, AlertKind.TRADING_HALTED, Severity.CRITICAL, message, summary)


def resume_trading(draft: Draft, command: c.ResumeTrading) -> None:
    """Lift a halt and accept the losses behind open breakers: they are measured from now on.

    Where the risk level asks for it, the account goes on reducing only.
    """
    account, world = draft.account, draft.world
    halted = not account.trading_state_is_automatic and account.trading_state is not TradingState.ACTIVE
    if not halted and not account.breakers:
        return refuse(draft, "ResumeTrading", Violation(Reason.ALREADY_IN_STATE, account.account_id))
    known_level = account.level if account.level is not RiskLevel.UNKNOWN else account.level_before_unknown
    summary = summarize(account, world)
    if halted:
        critical = RANK[known_level] >= RANK[RiskLevel.CRITICAL]
        state = TradingState.REDUCING if critical else TradingState.ACTIVE
        draft.add(e.TradingStateChanged(account.trading_state, state, command.reason, True))
    raise_alert(draft, AlertKind.TRADING_RESUMED, Severity.WARNING, f"trading goes on: {command.reason}", summary)
    if summary.known and account.breakers and account.baselines is not None:
        now = owned(worth(summary))
        kept = account.baselines
        changed = msgspec.structs.replace(
            kept,
            day_equity=now if "DAILY_LOSS" in account.breakers else kept.day_equity,
            peak_equity=now if "DRAWDOWN" in account.breakers else kept.peak_equity,
        )
        draft.add(e.BaselinesSet(changed, "RESUME"))
    for breaker in account.breakers.values():
        draft.add(e.BreakerCleared(breaker.kind))


def look(draft: Draft, command: c.Assess) -> None:
    """Nothing but the assessment that follows every command."""


DECIDE: dict[type[c.Command], Callable[[Draft, Any], None]] = {
    c.CloseAccount: close_account,
    c.Transfer: transfer,
    c.ResetFunds: reset_funds,
    c.ReleaseReservation: release_reservation,
    c.ExpireReservations: expire_reservations,
    c.RecordFill: record_fill,
    c.ClosePosition: close_position,
    c.EndReductionStep: end_reduction_step,
    c.SetLeverage: set_leverage,
    c.SetMarginMode: set_margin_mode,
    c.AdjustIsolatedMargin: adjust_isolated_margin,
    c.SetLimits: set_limits,
    c.HaltTrading: halt_trading,
    c.ResumeTrading: resume_trading,
    c.Assess: look,
}
