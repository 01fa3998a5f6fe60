"""Exact money: one decimal grammar, one precision, and one direction of rounding for each kind of number."""

import decimal
import re
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)

PRECISION = 60
"""Significant digits of every intermediate result: two 27-digit inputs multiply exactly."""

RESOLUTION = Decimal("1E-12")
"""The step to which amounts of money are rounded at the edge of a result."""

RATIO_RESOLUTION = Decimal("1E-8")
PRICE_RESOLUTION = Decimal("1E-18")

GRAMMAR = re.compile(r"-?(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,18})?")
"""A decimal on the wire: ASCII digits, at most 20 before and 18 after the point, no exponent, no sign but '-'."""

decimal.DefaultContext.prec = PRECISION
decimal.getcontext().prec = PRECISION


def parse(text: str) -> Decimal:
    """The number that `text` spells in the wire grammar; raises ValueError for anything else (NaN, 1e5, 1_000, +1)."""
    if GRAMMAR.fullmatch(text) is None:
        raise ValueError(f"not a plain decimal number: {text[:48]!r}")
    return Decimal(text)


def text(value: Decimal) -> str:
    """`value` in the wire grammar, without trailing zeros and without an exponent."""
    if not value:
        return "0"
    digits = str(value)
    if "E" in digits:
        digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def required(amount: Decimal) -> Decimal:
    """A requirement, rounded up to the resolution."""
    return amount.quantize(RESOLUTION, ROUND_CEILING)


def owned(amount: Decimal) -> Decimal:
    """What somebody owns, rounded down to the resolution (a loss is rounded to the larger loss)."""
    return amount.quantize(RESOLUTION, ROUND_FLOOR)


def average_price(price: Decimal) -> Decimal:
    """An average entry price at 18 decimals, half to even."""
    return price.quantize(PRICE_RESOLUTION, ROUND_HALF_EVEN)


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal | None:
    """numerator ÷ denominator rounded up at 8 decimals; None where the denominator is not positive.

    Decisions never use this value: they compare by multiplying.
    """
    if denominator <= 0:
        return ZERO if numerator == 0 and denominator == 0 else None
    return (numerator / denominator).quantize(RATIO_RESOLUTION, ROUND_CEILING)


def floor_to_step(quantity: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above a non-negative `quantity`."""
    return quantity // step * step


def ceil_to_step(quantity: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of `step` that is not below a non-negative `quantity`."""
    whole = quantity // step * step
    return whole if whole == quantity else whole + step


def is_multiple(quantity: Decimal, step: Decimal) -> bool:
    return quantity % step == 0


def total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)
