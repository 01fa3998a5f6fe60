"""Numbers: one grammar in and out, exact in between, and rounded in one direction only."""

from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core.money import (
    PRECISION,
    average_price,
    ceil_to_step,
    floor_to_step,
    is_multiple,
    owned,
    parse,
    ratio,
    required,
    text,
    total,
)

D = Decimal

MALFORMED = [
    "",
    " ",
    "NaN",
    "nan",
    "sNaN",
    "Infinity",
    "-Infinity",
    "inf",
    "1e5",
    "1E5",
    "1e-5",
    "1_000",
    "1,000",
    "+1",
    "--1",
    "-",
    ".5",
    "5.",
    "-.5",
    "01",
    "00",
    "-01.5",
    "0x10",
    " 1",
    "1 ",
    "1\n",
    "１２３",
    "٣",
    "²",
    "1.2.3",
    "1.-2",
    "9" * 400,
    "1." + "0" * 19,
    "9" * 21,
    "0." + "3" * 400,
    "1\x00",
]


@pytest.mark.parametrize("malformed", MALFORMED, ids=repr)
def test_what_is_not_a_plain_decimal_is_refused(malformed: str) -> None:
    with pytest.raises(ValueError, match="not a plain decimal number"):
        parse(malformed)


@pytest.mark.parametrize("plain", ["0", "-0", "1", "-1", "0.5", "-0.5", "10.10", "9" * 20 + "." + "9" * 18, "0.0"])
def test_a_plain_decimal_is_read_exactly(plain: str) -> None:
    assert parse(plain) == D(plain)


plain_decimals = st.builds(
    lambda whole, decimals, places: D(whole) + D(decimals).scaleb(-places),
    st.integers(-(10**19), 10**19),
    st.integers(0, 10**9),
    st.integers(9, 18),
)


@given(plain_decimals)
def test_what_is_written_is_read_again(value: Decimal) -> None:
    written = text(value)
    assert parse(written) == value
    assert "E" not in written.upper()
    assert not (("." in written) and written.endswith(("0", ".")))


def test_numbers_are_written_plainly() -> None:
    rows = [("1E+3", "1000"), ("1.500", "1.5"), ("-0.000", "0"), ("0E-18", "0"), ("-1.10", "-1.1"), ("1E-18", None)]
    for value, expected in rows:
        assert text(D(value)) == (expected or "0.000000000000000001")


def test_results_carry_sixty_digits() -> None:
    assert getcontext().prec == PRECISION == 60
    large, small = D("9" * 20 + "." + "9" * 7), D("0." + "9" * 18)
    assert large * small == D(int("9" * 27) * int("9" * 18)).scaleb(-25)


@given(plain_decimals, plain_decimals)
def test_rounding_never_favours_the_account(value: Decimal, divisor: Decimal) -> None:
    exact = value / (abs(divisor) + 1)
    assert owned(exact) <= exact <= required(exact)
    assert required(exact) - owned(exact) <= D("1e-12")
    assert owned(owned(exact)) == owned(exact)


@given(st.integers(0, 10**9), st.integers(1, 10**4))
def test_steps_enclose_a_quantity(units: int, step_units: int) -> None:
    quantity, step = D(units).scaleb(-4), D(step_units).scaleb(-3)
    low, high = floor_to_step(quantity, step), ceil_to_step(quantity, step)
    assert low <= quantity <= high
    assert high - low in (0, step)
    assert is_multiple(low, step)
    assert is_multiple(high, step)
    assert (low == high) is is_multiple(quantity, step)


def test_a_ratio_is_rounded_up_and_absent_where_it_says_nothing() -> None:
    assert ratio(D(1), D(3)) == D("0.33333334")
    assert ratio(D(0), D(5)) == 0
    assert ratio(D(0), D(0)) == 0
    assert ratio(D(1), D(0)) is None
    assert ratio(D(1), D(-5)) is None
    assert ratio(D(0), D(-5)) is None


def test_average_prices_have_eighteen_decimals() -> None:
    assert average_price(D(1) / 3) == D("0.333333333333333333")
    assert average_price(D("0.0000000000000000005")) == 0
    assert average_price(D("0.0000000000000000015")) == D("2e-18")


def test_a_total_of_nothing_is_zero() -> None:
    assert total([]) == 0
    assert total([D("0.1"), D("0.2")]) == D("0.3")
