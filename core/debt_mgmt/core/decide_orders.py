"""Deciding about orders: margin held and given back, fills, and positions closed on request."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    Environment,
    MarkUsed,
    Position,
    PositionMode,
    PositionSide,
    Reduction,
    ReductionCause,
    Reservation,
    position_key,
)
from debt_mgmt.core.check import CheckResult, check, order_window
from debt_mgmt.core.draft import Draft, instrument_of, refuse
from debt_mgmt.core.fills import FillOutcome, postings_of, settle_fill
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.levels import end_unsent
from debt_mgmt.core.liquidation import step_of
from debt_mgmt.core.margin import (
    leverage_of,
    margin_mode_of,
    mark_used,
    summarize,
    unit_margin,
)
from debt_mgmt.core.money import ZERO, ratio, required
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.view import AccountView


def reserve_margin(draft: Draft, command: c.ReserveMargin, view: AccountView | None) -> None:
    account, world = draft.account, draft.world
    if view is None:
        view = AccountView(account, world)
    result = check(view, command.order, world.at, with_largest=False, outside=world.outside)
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
    world = draft.world
    time_to_live: timedelta = command.time_to_live or world.settings.reservation_time_to_live
    mark = result.mark
    started, counted = order_window(draft.account, view.limits.order_rate_interval_seconds or 1, world.at)
    after = view.before if result.reducing else result.after
    return e.MarginReserved(
        reservation=reservation_for(draft, result, world.at + time_to_live, command.client_order_id),
        margin_required=result.margin_required if result.margin_required is not None else ZERO,
        margin_available=after.margin_available,
        margin_utilization=after.margin_utilization,
        window_started_at=started,
        orders_in_window=counted if result.reducing else counted + 1,
        mark=mark_used(mark) if mark is not None else None,
        shadow=result.shadow_violations,
    )


def reservation_for(draft: Draft, result: CheckResult, expires_at: datetime, client_order_id: str) -> Reservation:
    """The margin that an order holds which was checked with this result."""
    world, order = draft.world, result.order
    price = result.margin_price
    if price is None:
        price = order.price if order.price is not None else ZERO
    leverage = unit = None
    if not result.reducing:
        leverage = leverage_of(draft.account, world.settings, order.symbol)
        unit = unit_margin(world.house.instruments[order.symbol], price, leverage, result.open_loss)
    return Reservation(
        reservation_id=draft.next_id,
        symbol=order.symbol,
        position_side=order.position_side,
        side=order.side,
        quantity=order.quantity,
        original_quantity=order.quantity,
        price=price,
        created_at=world.at,
        expires_at=expires_at,
        reduce_only=result.reducing,
        leverage=leverage,
        unit_margin=unit,
        limit_price=order.price,
        open_loss=result.open_loss,
        client_order_id=client_order_id,
        strategy=order.strategy,
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
    left = reservation.quantity - quantity
    draft.add(e.ReservationReduced(command.reservation_id, quantity, left, "RELEASED", at=draft.world.at))


def expire_reservations(draft: Draft, command: c.ExpireReservations) -> None:
    at = draft.world.at
    for reservation in tuple(draft.account.reservations.values()):
        if reservation.expires_at <= at:
            draft.add(e.ReservationReduced(reservation.reservation_id, reservation.quantity, ZERO, "EXPIRED", at=at))


def record_fill(draft: Draft, command: c.RecordFill) -> None:
    """A fill is a fact: only what can't have happened (a hedge leg closed beyond its size) is refused."""
    account = draft.account
    instrument = instrument_of(draft, command.symbol)
    key = position_key(command.symbol, command.position_side)
    position = account.positions.get(key)
    reduction = account.reduction
    of_plan = command.plan_id != "" and reduction is not None and reduction.plan_id == command.plan_id
    if command.plan_id and account.environment is Environment.SANDBOX:
        if not of_plan:
            return  # the plan was cleared away with its positions while its order was on paper
        command = as_reduce_only(command, position)
    moving = moving_quantity(account, command, position)
    if account.position_mode is PositionMode.HEDGE and account.sync is None:
        opens = (command.side.sign > 0) == (command.position_side is PositionSide.LONG)
        most = abs(position.quantity) if position is not None else ZERO
        if not opens and command.quantity > most:
            return refuse(draft, "RecordFill", Violation(Reason.NO_POSITION, key, command.quantity, most))
    if command.quantity == 0:
        draft.add(e.ReductionStepEnded(command.step, ZERO, None, draft.world.at, "nothing was left to reduce"))
        return
    reservation = reservation_of(account, command)
    if reservation is not None and not command.strategy:
        command = msgspec.structs.replace(command, strategy=reservation.strategy)
    fill = fill_event(draft, command, instrument, position, moving)
    if reservation is not None:
        used = min(command.quantity, reservation.quantity)
        left = reservation.quantity - used
        draft.add(e.ReservationReduced(reservation.reservation_id, used, left, "FILLED", at=draft.world.at))
    if of_plan:
        draft.add(
            e.ReductionStepEnded(
                step=command.step,
                filled_quantity=fill.quantity,
                price=fill.price,
                at=fill.at,
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                realized_pnl=fill.realized_pnl,
            )
        )


def reservation_of(account: Account, command: c.RecordFill) -> Reservation | None:
    """The reservation that a fill uses up: the one it names, on a live account also that of its order."""
    found = account.reservations.get(command.reservation_id) if command.reservation_id else None
    if found is None and account.sync is not None and command.order_id:
        found = next((one for one in account.reservations.values() if one.order_id == command.order_id), None)
    return found if found is not None and (found.symbol, found.side) == (command.symbol, command.side) else None


def moving_quantity(account: Account, command: c.RecordFill, position: Position | None) -> Decimal:
    """How many of a fill's contracts move the position: on a live account those that no sync has counted yet.

    The venue's own trades are matched by order id; without them a fill that happened before the venue was last read
    is in what was read. What can only reduce never turns a position around.
    """
    sync, quantity = account.sync, command.quantity
    if sync is None or sync.at is None:
        return quantity
    seen = sync.seen.get(command.order_id) if command.order_id else None
    if seen is not None:
        quantity = min(quantity, max(ZERO, sync.reported.get(command.order_id, ZERO) + quantity - seen))
    elif command.filled_at is not None and command.filled_at < sync.at:
        return ZERO
    closes_leg = account.position_mode is PositionMode.HEDGE and (
        (command.side.sign > 0) != (command.position_side is PositionSide.LONG)
    )
    if command.plan_id or closes_leg:
        held = abs(position.quantity) if position is not None and position.quantity * command.side.sign < 0 else ZERO
        quantity = min(quantity, held)
    return quantity


def as_reduce_only(command: c.RecordFill, position: Position | None) -> c.RecordFill:
    """A paper fill of a reduce-only order, cut to what is held at this very moment, as a venue would have."""
    held = abs(position.quantity) if position is not None and position.quantity * command.side.sign < 0 else ZERO
    quantity = min(command.quantity, held)
    if quantity == command.quantity:
        return command
    return msgspec.structs.replace(command, quantity=quantity, fee=required(command.fee * quantity / command.quantity))


def fill_event(
    draft: Draft,
    command: c.RecordFill,
    instrument: Instrument,
    position: Position | None,
    moving: Decimal,
    *,
    mark: MarkUsed | None = None,
    maker: bool = False,
) -> e.FillRecorded:
    """The fill, and what `moving` of its contracts do to the position; a sync has brought the rest, its fee too."""
    account, at = draft.account, draft.world.at
    outcome = FillOutcome(position, ZERO, ZERO, ZERO)
    if moving:
        outcome = settle_fill(
            position,
            instrument,
            command.side,
            command.position_side,
            moving,
            command.price,
            leverage_of(account, draft.world.settings, command.symbol),
            margin_mode_of(account, command.symbol),
            at,
        )
    fee_asset = command.fee_asset or instrument.settle
    fee = command.fee if moving == command.quantity else required(command.fee * moving / command.quantity)
    fill = e.FillRecorded(
        fill_id=command.fill_id,
        symbol=command.symbol,
        position_side=command.position_side,
        side=command.side,
        quantity=command.quantity,
        price=command.price,
        fee=command.fee,
        fee_asset=fee_asset,
        at=min(command.filled_at or at, at) if account.sync is not None else command.filled_at or at,
        position=outcome.position,
        realized_pnl=outcome.realized_pnl,
        settle_asset=instrument.settle,
        postings=postings_of(outcome, instrument.settle, fee, fee_asset),
        closed_quantity=outcome.closed_quantity,
        opened_quantity=outcome.opened_quantity,
        order_id=command.order_id,
        reservation_id=command.reservation_id,
        plan_id=command.plan_id,
        step=command.step,
        mark=mark,
        maker=maker,
        strategy=command.strategy,
    )
    draft.add(fill)
    if outcome.covered:
        key = position_key(command.symbol, command.position_side)
        draft.add(e.BankruptcyRecorded(outcome.covered, instrument.settle, (), key))
    return fill


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
        step = step_of(running.plan_id, len(running.steps) + 1, position, quantity, ReductionCause.REQUESTED)
        draft.add(e.ReductionExtended((step,)))
        return end_unsent(draft, (step,))
    summary = summarize(account, draft.world)
    plan_id = draft.next_id
    draft.add(
        e.ReductionStarted(
            Reduction(
                plan_id=plan_id,
                cause=ReductionCause.REQUESTED,
                reason=command.reason,
                started_at=draft.world.at,
                steps=(step_of(plan_id, 1, position, quantity, ReductionCause.REQUESTED),),
                utilization_before=ratio(summary.used, summary.equity) if summary.known else None,
                marks=summary.marks_used(),
            )
        )
    )
    reduction = draft.account.reduction
    assert reduction is not None
    end_unsent(draft, reduction.steps)


def end_reduction_step(draft: Draft, command: c.EndReductionStep) -> None:
    reduction = draft.account.reduction
    if reduction is None or reduction.plan_id != command.plan_id:
        return
    for step in reduction.open_steps:
        if step.step == command.step:
            draft.add(e.ReductionStepEnded(step.step, step.filled_quantity, step.price, draft.world.at, command.note))
