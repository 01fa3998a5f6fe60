"""Decimals on the wire: strings of one grammar, never floats."""

import re
from decimal import Decimal

Number = Decimal | int | str
"""How an amount, price, quantity or ratio is given. A float is refused: it is not the number that was typed."""

GRAMMAR = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
LENGTH_MAX = 40


def decimal(value: Number, name: str) -> Decimal:
    """`value` as Decimal. `name` is what the caller calls it, for the TypeError or ValueError where it is none."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        hint = f": write Decimal({str(value)!r}) or {str(value)!r}" if isinstance(value, float) else ""
        raise TypeError(f"{name} must be a Decimal, int or str, not {type(value).__name__}{hint}")
    if isinstance(value, str) and not GRAMMAR.fullmatch(value):
        raise ValueError(f"{name} must be a decimal such as 0.05 or -12, without exponent or grouping, not {value!r}")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{name} must be a finite number, not {number}")
    if number.adjusted() >= LENGTH_MAX or len(text(number)) > LENGTH_MAX:
        raise ValueError(f"{name} must have at most {LENGTH_MAX} characters")
    return number


def optional_decimal(value: Number | None, name: str) -> Decimal | None:
    """`decimal`, where nothing may be given."""
    return None if value is None else decimal(value, name)


def text(value: Decimal) -> str:
    """`value` as the wire has it: plain digits, no exponent, no negative zero."""
    return format(abs(value) if value.is_zero() else value, "f")


def decimal_text(value: Number, name: str) -> str:
    """What is sent for a number that the caller gave; raises as `decimal`."""
    return text(decimal(value, name))


def optional_decimal_text(value: Number | None, name: str) -> str | None:
    """`decimal_text`, where nothing may be given."""
    return None if value is None else decimal_text(value, name)
