"""Deciding what a venue's state of an account means: it becomes the account's own, and every difference is said."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    AlertKind,
    Debt,
    Lender,
    MarginMode,
    Position,
    PositionMode,
    PositionSide,
    Reservation,
    Severity,
    position_key,
)
from debt_mgmt.core.check import is_reducing
from debt_mgmt.core.decide_leverage import with_leverage
from debt_mgmt.core.draft import Draft, instrument_of, refuse
from debt_mgmt.core.drift import drift_events
from debt_mgmt.core.instrument import Instrument, initial_margin
from debt_mgmt.core.levels import raise_alert
from debt_mgmt.core.margin import leverage_of, margin_mode_of, unit_margin, usable_mark
from debt_mgmt.core.money import ZERO, average_price, required, text
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.sizes import margin_price, open_loss
from debt_mgmt.core.venue import (
    PositionChange,
    SyncState,
    SyncStatus,
    VenueBalance,
    VenueChange,
    VenueChangeKind,
    VenueOrder,
    VenuePosition,
    VenueState,
)

UNTIL_GONE = datetime(9999, 1, 1, tzinfo=UTC)
"""When the reservation of an order expires that is open at the venue: it ends when the venue no longer has it."""


class Unusable(Exception):
    """The venue's state lacks something that the account can't be reckoned without; nothing is put in its place."""


def record_sync(draft: Draft, command: c.RecordSync) -> None:
    """Take the venue's state over, with one event of the differences. An older state than the last changes nothing.

    What changed on this side since the reading began is left as it is until the next. Where a number is missing that
    the account can't be reckoned without, the sync is lost, with the reason. Raises Fault for an unknown instrument.
    """
    account, state = draft.account, command.state
    if account.sync is None:
        return refuse(draft, "SyncAccount", not_live(account))
    if account.closed_at is not None:
        return refuse(draft, "SyncAccount", Violation(Reason.ACCOUNT_CLOSED, account.account_id))
    if account.sync.at is not None and state.at < account.sync.at:
        return
    try:
        event = Reading(draft, state).event()
    except Unusable as missing:
        return lose(draft, str(missing))
    first, lost = account.sync.at is None, account.sync.status is SyncStatus.LOST
    draft.add(event)
    summary = draft.summary()
    if lost:
        message = f"{account.broker} is in sight again: the account is synced"
        raise_alert(draft, AlertKind.SYNC_RESTORED, Severity.INFO, message, summary, subject=account.broker)
    surprising = [] if first else [change for change in event.changes if not is_of_plan(account, change)]
    if surprising:
        raise_alert(
            draft,
            AlertKind.POSITION_CHANGED,
            Severity.CRITICAL if any(change.after is None for change in surprising) else Severity.WARNING,
            f"{account.broker} has other positions than were known here: " + "; ".join(map(described, surprising)),
            summary,
            subject=", ".join(change.key for change in surprising),
        )
    drift_events(draft, summary)


def is_of_plan(account: Account, change: PositionChange) -> bool:
    """Whether a step of the running plan explains it: its order was filled, and its fill is not recorded yet."""
    if account.reduction is None or change.before is None:
        return False
    reduced = change.before - (change.after or ZERO)
    return any(
        position_key(step.symbol, step.position_side) == change.key
        and ZERO < -reduced * step.side.sign <= min(step.quantity, abs(change.before))
        for step in account.reduction.open_steps
    )


def not_live(account: Account) -> Violation:
    return Violation(Reason.NOT_SUPPORTED, account.account_id, note="a sandbox account has no venue")


def described(change: PositionChange) -> str:
    if change.after is None:
        return f"{change.key} is gone, {text(change.before or ZERO)} were known"
    return f"{change.key} is {text(change.after)}, {text(change.before or ZERO)} were known"


def lose_sync(draft: Draft, command: c.LoseSync) -> None:
    account = draft.account
    if account.sync is None:
        return refuse(draft, "LoseSync", not_live(account))
    lose(draft, command.reason)


def lose(draft: Draft, reason: str) -> None:
    """The state is no longer known. Said once; another reason is only noted."""
    account = draft.account
    assert account.sync is not None
    was_lost = account.sync.status is SyncStatus.LOST
    if account.closed_at is not None or (was_lost and account.sync.reason == reason):
        return
    draft.add(e.SyncLost(reason, draft.world.at))
    if not was_lost:
        message = f"{account.broker} is out of sight, so new risk is blocked: {reason}"
        raise_alert(draft, AlertKind.SYNC_LOST, Severity.CRITICAL, message, draft.summary(), subject=account.broker)


class Reading:
    """A venue's state beside the account, and the event of their differences."""

    def __init__(self, draft: Draft, state: VenueState) -> None:
        assert draft.account.sync is not None
        self.draft = draft
        self.account = draft.account
        self.known: SyncState = draft.account.sync
        self.state = state
        self.position_mode = self.mode()

    def event(self) -> e.AccountSynced:
        account, state = self.account, self.state
        venue_positions = tuple(self.named(one) for one in state.positions if one.quantity)
        reported = {one.key: one for one in venue_positions}
        if len(reported) != len(venue_positions):
            raise Unusable("the venue reports a position twice")
        leverage = self.leverage()
        positions = tuple(
            position
            for one in venue_positions
            if not self.is_newer_here(one.key) and (position := self.position(one)) != account.positions.get(one.key)
        )
        vanished = tuple(
            sorted(key for key in account.positions if key not in reported and not self.is_newer_here(key))
        )
        after = {
            **{key: one for key, one in account.positions.items() if key not in vanished},
            **{position.key: position for position in positions},
        }
        still_open = {order.order_id for order in state.orders if order.quantity}
        held, released = self.reservations(after, still_open)
        differences = changes(account.positions, after)
        return e.AccountSynced(
            at=state.at,
            position_mode=self.position_mode,
            balances=self.balances(),
            debts=self.debts(self.state.balances, self.account.debts, "debt"),
            debts_apart=self.debts_apart(),
            positions=positions,
            vanished=vanished,
            changes=differences,
            leverage=leverage,
            margin_modes=self.margin_modes(),
            reservations=held,
            released=released,
            cancelled=tuple(key for key in account.cancels if key not in still_open),
            health=state.health,
            venue_positions=venue_positions,
            seen=self.seen(),
            strategies=self.strategies({change.key for change in differences}),
        )

    def mode(self) -> PositionMode:
        """The venue's position mode; where it does not say, legs show it, else it stays."""
        if self.state.hedge is not None:
            return PositionMode.HEDGE if self.state.hedge else PositionMode.ONE_WAY
        if any(one.quantity and one.side is not PositionSide.NET for one in self.state.positions):
            return PositionMode.HEDGE
        return self.account.position_mode

    def named(self, one: VenuePosition) -> VenuePosition:
        """The position under the side that the account's mode knows it by."""
        side = PositionSide.NET
        if self.position_mode is PositionMode.HEDGE:
            side = PositionSide.LONG if one.quantity > 0 else PositionSide.SHORT
        return one if one.side is side else msgspec.structs.replace(one, side=side)

    def is_newer_here(self, name: str) -> bool:
        """Whether something changed on this side when the reading had begun already."""
        changed_at = self.known.touched.get(name)
        return changed_at is not None and changed_at >= self.state.at

    # Money

    def balances(self) -> dict[str, Decimal]:
        told = {balance.asset: balance.total for balance in self.state.balances}
        return {
            asset: told.get(asset, ZERO)
            for asset in {**self.account.balances, **told}
            if told.get(asset, ZERO) != self.account.balances.get(asset, ZERO)
            and not self.is_newer_here(f"balance {asset}")
        }

    def debts(self, told: tuple[VenueBalance, ...], owed: dict[str, Debt], touched: str) -> tuple[Debt, ...]:
        """Debts that differ. One that the venue does not tell is kept as it was; one it no longer lists is paid."""
        found: list[Debt] = []
        listed = {balance.asset for balance in told}
        for balance in told:
            if self.is_newer_here(f"{touched} {balance.asset}"):
                continue
            known = owed.get(balance.asset)
            principal = balance.debt if balance.debt is not None else (known.principal if known else None)
            interest = balance.interest if balance.interest is not None else (known.accrued_interest if known else None)
            if principal is None and interest is None:
                continue
            if principal is None:
                raise Unusable(f"the venue gives interest on {balance.asset} and not what was borrowed")
            accrued = interest if interest is not None else ZERO  # then the principal is told with the interest in it
            debt = Debt(balance.asset, principal, self.state.at, Lender.BROKER, accrued)
            if known is not None:
                debt = msgspec.structs.replace(
                    known, principal=principal, accrued_interest=accrued, lender=Lender.BROKER
                )
            if debt != known and (known is not None or debt.owed):
                found.append(debt)
        for asset, known in owed.items():
            newer = self.is_newer_here(f"{touched} {asset}")
            if known.lender is Lender.BROKER and asset not in listed and not newer:
                found.append(msgspec.structs.replace(known, principal=ZERO, accrued_interest=ZERO))
        return tuple(found)

    def debts_apart(self) -> tuple[Debt, ...]:
        """The same in the wallet that backs no position; nothing where it was not read."""
        if self.state.apart is None:
            return ()
        return self.debts(self.state.apart, self.account.debts_apart, "debt apart")

    # Positions

    def position(self, one: VenuePosition) -> Position:
        """The position as the house reckons with it. Raises Unusable where its entry price can't be known."""
        instrument = instrument_of(self.draft, one.symbol)
        known = self.account.positions.get(one.key)
        if known is not None and known.quantity * one.quantity < 0:
            known = None
        leverage, margin_mode = self.terms(one, known)
        entry = self.entry_price(one, known, instrument)
        posted = ZERO
        if margin_mode is MarginMode.ISOLATED:
            posted = self.posted(one, known, instrument, entry, leverage)
        position = Position(
            symbol=one.symbol,
            side=one.side,
            quantity=one.quantity,
            entry_price=entry,
            leverage=leverage,
            margin_mode=margin_mode,
            opened_at=known.opened_at if known is not None else self.state.at,
            isolated_margin=posted,
            realized_pnl=known.realized_pnl if known is not None else ZERO,
        )
        return counted(position, instrument, self.account.pending.get(one.symbol))

    def terms(self, one: VenuePosition, known: Position | None) -> tuple[Decimal, MarginMode]:
        """Leverage and margin mode: the venue's for the position, else for the symbol, else what was known or set."""
        account = self.account
        if known is not None and self.is_newer_here(f"terms {one.symbol}"):
            return known.leverage, known.margin_mode
        leverage = above_zero(one.leverage) or above_zero(self.state.leverage.get(one.symbol))
        if leverage is None and known is not None:
            leverage = known.leverage
        mode = one.margin_mode or self.state.margin_modes.get(one.symbol) or (known.margin_mode if known else None)
        return (
            leverage or leverage_of(account, self.draft.world.settings, one.symbol),
            mode or margin_mode_of(account, one.symbol),
        )

    def entry_price(self, one: VenuePosition, known: Position | None, instrument: Instrument) -> Decimal:
        """The venue's; else the one known where nothing was added; else what its own mark and profit say."""
        entry = above_zero(one.entry_price)
        if entry is not None:
            return entry
        if known is not None and abs(one.quantity) <= abs(known.quantity):
            return known.entry_price
        mark = above_zero(one.mark_price)
        if mark is not None and one.unrealized_pnl is not None:
            per_contract = one.unrealized_pnl / (one.quantity * instrument.contract_size)
            opened = per_contract + 1 / mark if instrument.inverse else mark - per_contract
            if opened > 0:
                return average_price(1 / opened if instrument.inverse else opened)
        raise Unusable(f"the venue gives no entry price for {one.key}")

    def posted(
        self, one: VenuePosition, known: Position | None, instrument: Instrument, entry: Decimal, leverage: Decimal
    ) -> Decimal:
        """Margin posted on an isolated position: the venue's; else what was known; else what opening it takes."""
        same = known is not None and known.margin_mode is MarginMode.ISOLATED and known.quantity == one.quantity
        if known is not None and same and (one.isolated_margin is None or self.is_newer_here(f"terms {one.symbol}")):
            return known.isolated_margin
        if one.isolated_margin is not None:
            return one.isolated_margin
        if one.initial_margin is not None:
            return one.initial_margin
        return required(initial_margin(instrument, one.quantity, entry, leverage))

    def leverage(self) -> dict[str, Decimal]:
        """Leverage by symbol where it differs; a lower one that the venue was asked for is counted already."""
        told = dict(self.state.leverage)
        told.update({one.symbol: one.leverage for one in self.state.positions if one.leverage and one.quantity})
        instruments = self.draft.world.house.instruments
        found: dict[str, Decimal] = {}
        for symbol, leverage in told.items():
            if symbol not in instruments or leverage <= 0 or self.is_newer_here(f"terms {symbol}"):
                continue
            change = self.account.pending.get(symbol)
            asked = change.leverage if change is not None else None
            found[symbol] = leverage if asked is None else min(leverage, asked)
        return {symbol: one for symbol, one in found.items() if self.account.leverage.get(symbol) != one}

    def margin_modes(self) -> dict[str, MarginMode]:
        told = dict(self.state.margin_modes)
        told.update({one.symbol: one.margin_mode for one in self.state.positions if one.margin_mode and one.quantity})
        instruments = self.draft.world.house.instruments
        return {
            symbol: mode
            for symbol, mode in told.items()
            if symbol in instruments
            and not self.is_newer_here(f"terms {symbol}")
            and margin_mode_of(self.account, symbol) is not mode
        }

    # Orders

    def reservations(
        self, positions: dict[str, Position], still_open: set[str]
    ) -> tuple[tuple[Reservation, ...], tuple[str, ...]]:
        """(held anew or otherwise, ids released) so that margin is held for what is open at the venue, each once."""
        account = self.account
        by_order = {one.order_id: one for one in account.reservations.values() if one.order_id}
        by_client = {
            one.client_order_id: one
            for one in account.reservations.values()
            if one.client_order_id and not one.order_id
        }
        there = msgspec.structs.replace(account, positions=positions, position_mode=self.position_mode)
        held: list[Reservation] = []
        for order in self.state.orders:
            name = f"order {order.order_id}"
            if order.order_id in account.cancels or self.is_newer_here(name) or order.order_id not in still_open:
                continue
            known = by_order.get(order.order_id)
            if known is None and order.client_order_id:
                known = by_client.get(order.client_order_id)
            reservation = self.reservation(order, known, there)
            if reservation != known:
                held.append(reservation)
        released = tuple(one.reservation_id for key, one in by_order.items() if key not in still_open)
        return tuple(held), released

    def reservation(self, order: VenueOrder, known: Reservation | None, account: Account) -> Reservation:
        """What is held for an open order of the venue; raises Unusable where there is no price to count it at."""
        side = order.position_side if account.position_mode is PositionMode.HEDGE else PositionSide.NET
        asked = c.Order(order.symbol, order.side, order.quantity, order.price, order.reduce_only, side)
        reducing = order.reduce_only or is_reducing(account, asked)
        if known is not None:
            return msgspec.structs.replace(
                known,
                quantity=order.quantity,
                original_quantity=max(known.original_quantity, order.quantity),
                reduce_only=reducing,
                expires_at=UNTIL_GONE,
                order_id=order.order_id,
            )
        world = self.draft.world
        instrument = instrument_of(self.draft, order.symbol)
        mark = usable_mark(account, world, order.symbol)
        price, loss = order.price, ZERO
        if mark is not None:
            price = margin_price(instrument, order.side, order.price, mark.price)
            loss = open_loss(instrument, order.side, order.price, mark.price)
        if price is None:
            raise Unusable(
                f"order {order.order_id} on {order.symbol} has no limit, and there is no mark to count it at"
            )
        leverage = leverage_of(account, world.settings, order.symbol)
        return Reservation(
            reservation_id=f"venue:{order.order_id}",
            symbol=order.symbol,
            position_side=side,
            side=order.side,
            quantity=order.quantity,
            original_quantity=order.quantity,
            price=price,
            created_at=self.state.at,
            expires_at=UNTIL_GONE,
            reduce_only=reducing,
            leverage=None if reducing else leverage,
            unit_margin=None if reducing else unit_margin(instrument, price, leverage, loss),
            limit_price=order.price,
            open_loss=loss,
            client_order_id=order.client_order_id,
            order_id=order.order_id,
        )

    def seen(self) -> dict[str, Decimal]:
        """Contracts per order of the venue's own trades, under its order id and under the client's, where they grew."""
        sums: dict[str, Decimal] = {}
        for fill in {fill.fill_id: fill for fill in self.state.fills}.values():
            for name in {fill.order_id, fill.client_order_id} - {""}:
                sums[name] = sums.get(name, ZERO) + fill.quantity
        return {name: amount for name, amount in sorted(sums.items()) if amount > self.known.seen.get(name, ZERO)}

    def strategies(self, changed: set[str]) -> dict[str, dict[str, Decimal]]:
        """What the orders of each strategy have filled of the positions that this state changes.

        Orders are known by their reservations. Contracts that a fill recorded here has counted already are left out.
        """
        tagged = [one for one in self.account.reservations.values() if one.strategy]
        by_order = {one.order_id: one for one in tagged if one.order_id}
        by_client = {one.client_order_id: one for one in tagged if one.client_order_id}
        filled: dict[str, tuple[Reservation, Decimal, str]] = {}
        for fill in {fill.fill_id: fill for fill in self.state.fills}.values() if tagged else ():
            reservation = by_order.get(fill.order_id) or by_client.get(fill.client_order_id)
            if reservation is None or (reservation.symbol, reservation.side) != (fill.symbol, fill.side):
                continue
            _, before, _ = filled.get(reservation.reservation_id, (reservation, ZERO, ""))
            filled[reservation.reservation_id] = (reservation, before + fill.quantity, fill.order_id)
        found: dict[str, dict[str, Decimal]] = {}
        for reservation, quantity, order_id in filled.values():
            counted_before = max(self.known.seen.get(order_id, ZERO), self.known.reported.get(order_id, ZERO))
            key = position_key(reservation.symbol, reservation.position_side)
            if quantity > counted_before and key in changed:
                held = found.setdefault(reservation.strategy, {})
                held[key] = held.get(key, ZERO) + (quantity - counted_before) * reservation.side.sign
        return found


def above_zero(value: Decimal | None) -> Decimal | None:
    """A price or leverage that is none is unknown."""
    return value if value is not None and value > 0 else None


def counted(position: Position, instrument: Instrument, change: VenueChange | None) -> Position:
    """The position at the larger margin of what is in force and what the venue was asked for."""
    if change is None:
        return position
    if change.kind is VenueChangeKind.LEVERAGE and change.leverage is not None:
        return with_leverage(position, instrument, min(position.leverage, change.leverage))
    taken = change.kind is VenueChangeKind.ISOLATED_MARGIN and change.amount < 0
    if taken and position.key == position_key(change.symbol, change.position_side):
        return msgspec.structs.replace(position, isolated_margin=max(ZERO, position.isolated_margin + change.amount))
    return position


def changes(before: dict[str, Position], after: dict[str, Position]) -> tuple[PositionChange, ...]:
    """How quantities differ, by key."""
    return tuple(
        PositionChange(key, had, has)
        for key in sorted({*before, *after})
        if (had := before[key].quantity if key in before else None)
        != (has := after[key].quantity if key in after else None)
    )
