"""Deciding about leverage, margin mode and the margin of isolated positions: refused, never clamped."""

from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    MarginMode,
    Position,
    PositionSide,
    position_key,
)
from debt_mgmt.core.check import stale_violations
from debt_mgmt.core.draft import Draft, instrument_of, refuse
from debt_mgmt.core.instrument import Instrument, initial_margin, tier_at
from debt_mgmt.core.margin import (
    World,
    leverage_of,
    margin_mode_of,
    summarize,
)
from debt_mgmt.core.money import ZERO, owned, ratio, required
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.settings import effective_limits
from debt_mgmt.core.sync import not_synced
from debt_mgmt.core.venue import VenueChange, VenueChangeKind
from debt_mgmt.core.view import AccountView


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
    found += venue_violations(draft, symbol)
    if found:
        return refuse(draft, "SetLeverage", *found)
    if account.sync is None:
        return draft.add(event)
    now = leverage_of(account, world.settings, symbol)
    change = asked_of_venue(draft, VenueChangeKind.LEVERAGE, symbol, leverage=leverage, leverage_before=now)
    if leverage >= now and not lowers:
        return draft.add(e.VenueChangeRequested(change))
    counted = tuple(with_leverage(one, instrument, min(one.leverage, leverage)) for one in positions)
    draft.add(e.VenueChangeRequested(change, min(now, leverage), counted))


def venue_violations(draft: Draft, symbol: str) -> list[Violation]:
    """What stands against asking the venue of a live account for a change; nothing on sandbox accounts."""
    account, world = draft.account, draft.world
    if account.sync is None:
        return []
    found = list(not_synced(account, world.settings, world.at))
    if account.dry_run:
        found.append(Violation(Reason.DRY_RUN, account.account_id))
    pending = account.pending.get(symbol)
    if pending is not None:
        since = pending.requested_at.isoformat(timespec="seconds")
        found.append(Violation(Reason.CHANGE_PENDING, symbol, note=f"{pending.kind.value}, asked at {since}"))
    return found


def asked_of_venue(
    draft: Draft,
    kind: VenueChangeKind,
    symbol: str,
    side: PositionSide = PositionSide.NET,
    *,
    leverage: Decimal | None = None,
    leverage_before: Decimal | None = None,
    margin_mode: MarginMode | None = None,
    amount: Decimal = ZERO,
) -> VenueChange:
    return VenueChange(
        change_id=draft.next_id,
        kind=kind,
        symbol=symbol,
        requested_at=draft.world.at,
        position_side=side,
        leverage=leverage,
        margin_mode=margin_mode,
        amount=amount,
        leverage_before=leverage_before,
    )


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
    found += stale_violations(view, symbol, world.at)
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
    found = venue_violations(draft, command.symbol)
    if found:
        return refuse(draft, "SetMarginMode", *found)
    if account.sync is None:
        return draft.add(e.MarginModeSet(command.symbol, command.margin_mode))
    kind, leverage = VenueChangeKind.MARGIN_MODE, leverage_of(account, draft.world.settings, command.symbol)
    change = asked_of_venue(draft, kind, command.symbol, margin_mode=command.margin_mode, leverage_before=leverage)
    draft.add(e.VenueChangeRequested(change))


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
        view = AccountView(account, world, summary)
        symbol = view.symbol(command.symbol)
        stale = [symbol] if isinstance(symbol, Violation) else stale_violations(view, symbol, world.at)
        if stale:
            return refuse(draft, name, *stale)
        standing = after + min(ZERO, one.unrealized_pnl)
        if standing < one.initial_margin:
            return refuse(
                draft,
                name,
                Violation(Reason.ISOLATED_MARGIN_BELOW_REQUIRED, key, owned(standing), required(one.initial_margin)),
            )
    found = venue_violations(draft, command.symbol)
    if found:
        return refuse(draft, name, *found)
    adjusted = msgspec.structs.replace(position, isolated_margin=after)
    if account.sync is None:
        return draft.add(e.IsolatedMarginAdjusted(adjusted, command.amount))
    kind = VenueChangeKind.ISOLATED_MARGIN
    change = asked_of_venue(draft, kind, command.symbol, command.position_side, amount=command.amount)
    draft.add(e.VenueChangeRequested(change, positions=(adjusted,) if command.amount < 0 else ()))
