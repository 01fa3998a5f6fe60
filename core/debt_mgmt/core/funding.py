"""Funding of perpetuals: who held what at an instant, and what the one side pays the other for it."""

from datetime import datetime, timedelta
from decimal import Decimal

from debt_mgmt.core.account import Account, Environment, Holding, PositionSide, position_key
from debt_mgmt.core.instrument import Instrument, notional
from debt_mgmt.core.money import ZERO, owned

HOUR = timedelta(hours=1)
REMEMBERED = timedelta(days=7)
"""How long what was held is remembered: a rate that comes later than that finds what was held a week ago."""


def remember(
    past: tuple[Holding, ...], quantity: Decimal, at: datetime, settled: datetime | None
) -> tuple[Holding, ...]:
    """What was held of one position, with `quantity` from `at` on; before `settled` nothing is asked any more.

    Funding falls on full hours, so of the changes within an hour only the last is kept, and those on its very start.
    """
    kept = list(past)
    if kept and at < kept[-1].since:
        at = kept[-1].since
    if kept and not is_full_hour(kept[-1].since) and hour_of(kept[-1].since) == hour_of(at):
        kept.pop()
    kept.append(Holding(at, quantity))
    oldest = at - REMEMBERED if settled is None else max(settled, at - REMEMBERED)
    while len(kept) > 1 and kept[1].since < oldest:
        kept.pop(0)
    return tuple(kept)


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def is_full_hour(at: datetime) -> bool:
    return at == hour_of(at)


def held_at(holdings: tuple[Holding, ...], at: datetime) -> Decimal:
    """Signed contracts held at an instant. Where that changed at the instant itself, the larger of before and after:
    a position opened or closed in that very moment was held in it."""
    before = ZERO
    candidates: list[Decimal] = []
    for holding in holdings:
        if holding.since < at:
            before = holding.quantity
        elif holding.since == at:
            candidates.append(holding.quantity)
    return max([before, *candidates], key=abs)


def funding_amount(instrument: Instrument, quantity: Decimal, mark: Decimal, rate: Decimal) -> Decimal:
    """What a position of signed `quantity` receives, in the settlement asset: −sign × notional × rate, rounded down.

    Positive rate: longs pay.
    """
    return owned(-notional(instrument, quantity, mark).copy_sign(quantity) * rate)


def legs_at(account: Account, symbol: str, at: datetime) -> dict[PositionSide, Decimal]:
    """What the account held of an instrument at an instant, by side of position; nothing where it was flat."""
    found: dict[PositionSide, Decimal] = {}
    for side in PositionSide:
        key = position_key(symbol, side)
        position = account.positions.get(key)
        holdings = account.holdings.get(key, ())
        if not holdings and position is not None:
            holdings = (Holding(position.opened_at, position.quantity),)
        if quantity := held_at(holdings, at):
            found[side] = quantity
    return found


def owes_funding(account: Account, symbol: str, at: datetime) -> bool:
    """Whether the funding of an instant is still to be settled with the account. A real one is settled by its venue."""
    settled = account.funding_settled.get(symbol)
    if account.environment is not Environment.SANDBOX:
        return False
    return account.closed_at is None and (settled is None or settled < at) and bool(legs_at(account, symbol, at))
