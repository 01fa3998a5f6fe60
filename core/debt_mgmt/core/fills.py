"""What a fill does to a position: opens, adds, reduces, closes or reverses it, and what is realised."""

from datetime import datetime
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import MarginMode, Position, PositionSide, Posting, Side
from debt_mgmt.core.instrument import Instrument, average_entry, initial_margin, profit
from debt_mgmt.core.money import ZERO, average_price, owned, required


class FillOutcome(msgspec.Struct, frozen=True):
    """The position afterwards (None: flat), what was closed and opened, and the profit realised on the closed part.

    `covered` is the part of an isolated loss beyond the posted margin: it never reaches the account.
    """

    position: Position | None
    closed_quantity: Decimal
    opened_quantity: Decimal
    realized_pnl: Decimal
    covered: Decimal = ZERO


def settle_fill(
    position: Position | None,
    instrument: Instrument,
    side: Side,
    position_side: PositionSide,
    quantity: Decimal,
    price: Decimal,
    leverage: Decimal,
    margin_mode: MarginMode,
    at: datetime,
) -> FillOutcome:
    """Settle `quantity` (unsigned contracts) at `price` against `position`.

    A reversal closes first, which realises profit on the closed part, then opens the rest at the fill price.
    """
    signed = quantity * side.sign
    closed = opened = realized = covered = ZERO
    remainder = position
    if position is not None and position.quantity * signed < 0:
        closed = min(quantity, abs(position.quantity))
        part = closed.copy_sign(position.quantity)
        realized = owned(profit(instrument, part, position.entry_price, price))
        left = position.quantity - part
        released = ZERO
        if position.margin_mode is MarginMode.ISOLATED:
            released = (
                position.isolated_margin if left == 0 else position.isolated_margin * closed / abs(position.quantity)
            )
            released = owned(released)
            covered = max(ZERO, -realized - released)
        remainder = None
        if left != 0:
            remainder = msgspec.structs.replace(
                position,
                quantity=left,
                isolated_margin=position.isolated_margin - released,
                realized_pnl=position.realized_pnl + realized,
            )
    opened = quantity - closed
    if opened:
        remainder = open_part(remainder, instrument, side, position_side, opened, price, leverage, margin_mode, at)
    return FillOutcome(remainder, closed, opened, realized, covered)


def open_part(
    position: Position | None,
    instrument: Instrument,
    side: Side,
    position_side: PositionSide,
    quantity: Decimal,
    price: Decimal,
    leverage: Decimal,
    margin_mode: MarginMode,
    at: datetime,
) -> Position:
    """`position` with `quantity` more on its own side, or a new one."""
    if position is not None:
        leverage, margin_mode = position.leverage, position.margin_mode
    posted = ZERO
    if margin_mode is MarginMode.ISOLATED:
        posted = required(initial_margin(instrument, quantity * side.sign, price, leverage))
    if position is None:
        return Position(
            symbol=instrument.symbol,
            side=position_side,
            quantity=quantity * side.sign,
            entry_price=price,
            leverage=leverage,
            margin_mode=margin_mode,
            opened_at=at,
            isolated_margin=posted,
        )
    entry = average_price(average_entry(instrument, abs(position.quantity), position.entry_price, quantity, price))
    return msgspec.structs.replace(
        position,
        quantity=position.quantity + quantity * side.sign,
        entry_price=entry,
        isolated_margin=position.isolated_margin + posted,
    )


def postings_of(outcome: FillOutcome, settle: str, fee: Decimal, fee_asset: str) -> tuple[Posting, ...]:
    """The movements of money of one fill; they sum to zero in each asset."""
    postings: list[Posting] = []
    if outcome.realized_pnl:
        postings.append(Posting("wallet", settle, outcome.realized_pnl))
        postings.append(Posting("venue", settle, -outcome.realized_pnl))
    if outcome.covered:
        postings.append(Posting("wallet", settle, outcome.covered))
        postings.append(Posting("insurance", settle, -outcome.covered))
    if fee:
        postings.append(Posting("wallet", fee_asset, -fee))
        postings.append(Posting("fees", fee_asset, fee))
    return tuple(postings)
