"""What an account is exposed to: the unsigned value of its positions with their open orders."""

from decimal import Decimal

from debt_mgmt.core.account import Side
from debt_mgmt.core.instrument import notional
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.refusals import Violation
from debt_mgmt.core.view import AccountView, SymbolView


def other_exposure(view: AccountView, symbol: SymbolView, side: Side) -> Decimal:
    """Unsigned notional, in the account's currency, of all that an order on this side does not change."""
    others = exposure_without(view, symbol.instrument.symbol)
    if not symbol.use.one_way:
        others += notional(symbol.instrument, symbol.side(side.opposite).worst, symbol.mark.price) * symbol.rate
    return others


def exposure_without(view: AccountView, excluded: str) -> Decimal:
    """Unsigned notional, in the account's currency, of all other instruments with their open orders."""
    symbols = {one.position.symbol for one in view.summary.positions} | set(view.summary.orders) | set(view.symbols)
    amount = ZERO
    for name in symbols - {excluded}:
        other = view.symbol(name)
        if isinstance(other, Violation):
            amount += ordered_value(view, name)
            continue
        if not other.use.one_way:
            amount += sum(one.notional * one.rate for one in view.summary.positions if one.position.symbol == name)
            pending = other.use.buys.quantity + other.use.sells.quantity
            amount += notional(other.instrument, pending, other.mark.price) * other.rate
            continue
        worst = max(other.side(Side.BUY).worst, other.side(Side.SELL).worst, ZERO)
        amount += notional(other.instrument, worst, other.mark.price) * other.rate
    return amount


def ordered_value(view: AccountView, symbol: str) -> Decimal:
    """Notional, in the account's currency, of the open orders on an instrument without a mark, at their own prices."""
    use = view.summary.orders.get(symbol)
    if use is None:
        return ZERO
    reserved = (one for one in view.account.reservations.values() if one.symbol == symbol and not one.reduce_only)
    return sum((notional(use.instrument, one.quantity, one.price) * use.rate for one in reserved), ZERO)
