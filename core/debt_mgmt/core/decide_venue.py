"""Deciding what goes to a venue and what comes back: changes of leverage and margin, cancels, and dry run."""

from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, AlertKind, Position, Severity, position_key
from debt_mgmt.core.changes import LEAVING_DRY_RUN
from debt_mgmt.core.decide_leverage import with_leverage
from debt_mgmt.core.decide_sync import not_live
from debt_mgmt.core.draft import Draft, refuse, refused_alone
from debt_mgmt.core.levels import raise_alert
from debt_mgmt.core.margin import leverage_of
from debt_mgmt.core.money import text
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.venue import VenueChange, VenueChangeKind


def record_venue_outcome(draft: Draft, command: c.RecordVenueOutcome) -> None:
    """A change is confirmed, with the value that the venue now has, or refused in its words. An answered one stays."""
    account = draft.account
    change = next((one for one in account.pending.values() if one.change_id == command.change_id), None)
    if change is None:
        return
    if not command.confirmed:
        return refused(draft, change, command)
    if change.kind is VenueChangeKind.LEVERAGE:
        leverage_confirmed(draft, change, command)
    elif change.kind is VenueChangeKind.MARGIN_MODE:
        mode = command.margin_mode or change.margin_mode
        assert mode is not None
        draft.add(e.MarginModeSet(change.symbol, mode, change_id=change.change_id, at=draft.world.at))
        if mode is not change.margin_mode:
            say_otherwise(draft, change, f"{change.margin_mode} was asked for, and {mode} is in force")
    else:
        margin_confirmed(draft, change)


def leverage_confirmed(draft: Draft, change: VenueChange, command: c.RecordVenueOutcome) -> None:
    account = draft.account
    leverage = command.leverage or change.leverage
    assert leverage is not None and change.leverage is not None
    previous = change.leverage_before or leverage_of(account, draft.world.settings, change.symbol)
    instrument = draft.world.house.instruments[change.symbol]
    positions = tuple(with_leverage(one, instrument, leverage) for one in on(account, change.symbol))
    draft.add(
        e.LeverageSet(change.symbol, leverage, previous, positions, change_id=change.change_id, at=draft.world.at)
    )
    if leverage != change.leverage:
        message = f"leverage {text(change.leverage)} was asked for, and {text(leverage)} is in force"
        say_otherwise(draft, change, message)


def margin_confirmed(draft: Draft, change: VenueChange) -> None:
    """What was added counts for the position now; what was taken away is out of it since it was asked for."""
    position = draft.account.positions.get(position_key(change.symbol, change.position_side))
    if position is None:  # closed meanwhile: the next sync tells where the money is
        return draft.add(e.VenueChangeRefused(change, "", "the position was closed meanwhile", draft.world.at))
    if change.amount > 0:
        position = msgspec.structs.replace(position, isolated_margin=position.isolated_margin + change.amount)
    draft.add(e.IsolatedMarginAdjusted(position, change.amount, change_id=change.change_id, at=draft.world.at))


def refused(draft: Draft, change: VenueChange, command: c.RecordVenueOutcome) -> None:
    account = draft.account
    leverage: Decimal | None = None
    positions: tuple[Position, ...] = ()
    before = change.leverage_before
    if change.leverage is not None and before is not None:
        if change.leverage < before:  # it was counted already
            leverage = before
            positions = tuple(msgspec.structs.replace(one, leverage=before) for one in on(account, change.symbol))
    elif change.amount < 0:
        positions = tuple(
            msgspec.structs.replace(one, isolated_margin=one.isolated_margin - change.amount)
            for one in on(account, change.symbol)
            if one.key == position_key(change.symbol, change.position_side)
        )
    draft.add(e.VenueChangeRefused(change, command.code, command.message, draft.world.at, leverage, positions))
    code = f" (code {command.code})" if command.code else ""
    say_otherwise(draft, change, f"{command.message}{code}")


def on(account: Account, symbol: str) -> tuple[Position, ...]:
    return tuple(position for position in account.positions.values() if position.symbol == symbol)


def say_otherwise(draft: Draft, change: VenueChange, message: str) -> None:
    """An alert that the venue did not do as it was asked, in its own words."""
    asked = change.kind.value.replace("_", " ").lower()
    raise_alert(
        draft,
        AlertKind.VENUE_REFUSED,
        Severity.WARNING,
        f"{draft.account.broker} on {asked} of {change.symbol}: {message}",
        draft.summary(),
        subject=change.symbol,
    )


def record_cancel_outcome(draft: Draft, command: c.RecordCancelOutcome) -> None:
    """An order to be cancelled is gone, or the venue would not. One that is not to be cancelled changes nothing."""
    account = draft.account
    cancel = account.cancels.get(command.order_id)
    if cancel is None:
        return
    draft.add(e.CancelEnded(command.order_id, command.gone, draft.world.at, command.note))
    assert account.sync is not None
    if not command.gone and command.order_id not in account.sync.uncancelled:
        raise_alert(
            draft,
            AlertKind.VENUE_REFUSED,
            Severity.CRITICAL,
            f"{account.broker} did not cancel order {command.order_id} on {cancel.symbol}: {command.note}",
            draft.summary(),
            subject=cancel.symbol,
        )


def set_dry_run(draft: Draft, command: c.SetDryRun) -> None:
    """Whether orders leave. What was planned in dry run is planned anew, in earnest, when it ends."""
    account = draft.account
    if account.sync is None:
        return refuse(draft, "SetDryRun", not_live(account))
    if account.closed_at is not None:
        return refuse(draft, "SetDryRun", Violation(Reason.ACCOUNT_CLOSED, account.account_id))
    if account.dry_run is command.dry_run:
        return refuse(draft, "SetDryRun", Violation(Reason.ALREADY_IN_STATE, account.account_id))
    if not command.dry_run and refused_alone(draft, "SetDryRun", LEAVING_DRY_RUN):
        return
    draft.add(e.DryRunSet(command.dry_run, command.reason, draft.world.at))
    now = "dry run is on: nothing is sent" if command.dry_run else "dry run is over: orders are sent"
    message = f"{now} to {account.broker}" + (f" ({command.reason})" if command.reason else "")
    raise_alert(draft, AlertKind.DRY_RUN, Severity.WARNING, message, draft.summary(), subject=account.broker)
