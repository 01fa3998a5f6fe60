"""Decimals travel exactly, and what is no exact number is refused before it is sent."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.client import AssetAmount, MarginClient, Order, PriceShock, SyncMarginClient
from debt_mgmt.client.decimals import GRAMMAR, decimal, text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=12))
def test_a_decimal_survives_the_wire(number: Decimal) -> None:
    sent = text(number)
    assert GRAMMAR.fullmatch(sent)
    assert Decimal(sent) == number
    assert not sent.startswith("-0") or Decimal(sent) != 0


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (1000, "1000"),
        ("0.050", "0.050"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("-0"), "0"),
        ("-12.5", "-12.5"),
        (0, "0"),
    ],
)
def test_int_text_and_decimal_are_accepted(given: Decimal | int | str, sent: str) -> None:
    assert text(decimal(given, "quantity")) == sent


@pytest.mark.parametrize("given", [0.05, True, None, b"1", 1j])
def test_other_types_are_refused_by_name(given: Any) -> None:
    with pytest.raises(TypeError, match=r"quantity must be a Decimal, int or str, not "):
        decimal(given, "quantity")


def test_a_float_is_told_how_to_be_written() -> None:
    with pytest.raises(TypeError, match=r"not float: write Decimal\('0.1'\) or '0.1'"):
        decimal(0.1, "price")  # type: ignore[arg-type]


BAD_TEXTS = ["", " 1", "1 ", "+1", "01", ".5", "5.", "1e5", "1_000", "１", "NaN", "Infinity", "0x10", "1,5", "-", "1\n"]


@pytest.mark.parametrize("given", BAD_TEXTS)
def test_text_outside_the_grammar_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="price must be a decimal such as"):
        decimal(given, "price")


@pytest.mark.parametrize("given", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+400"), "1" * 41, 10**50])
def test_what_no_message_can_hold_is_refused(given: Decimal | int | str) -> None:
    with pytest.raises(ValueError, match="price must"):
        decimal(given, "price")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Order.buy("BTCUSDT", 0.05),  # type: ignore[arg-type]
        lambda: Order("BTCUSDT", "sell", "1", 50000.5),  # type: ignore[arg-type]
        lambda: AssetAmount("USDT", 1.5),  # type: ignore[arg-type]
        lambda: PriceShock(-0.1),  # type: ignore[arg-type]
    ],
)
def test_values_refuse_floats(make: Any) -> None:
    with pytest.raises(TypeError, match="not float"):
        make()


async def test_methods_refuse_floats(client: MarginClient, sync_client: SyncMarginClient) -> None:
    with pytest.raises(TypeError, match=r"amount must be .* not float"):
        await client.deposit("alice", "USDT", 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"price must be .* not float"):
        sync_client.publish_marks({"BTCUSDT": 1.5})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"max_daily_loss must be .* not float"):
        sync_client.set_risk_limits("alice", max_daily_loss=0.5)  # type: ignore[arg-type]
