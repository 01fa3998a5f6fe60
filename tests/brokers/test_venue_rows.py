"""Rows of venues as the house's figures: signs, legs, every digit, and nothing where nothing was said."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.core.account import MarginMode, PositionSide
from debt_mgmt.core.venue import Provenance
from debt_mgmt.server.brokers.ccxt_link import exact
from debt_mgmt.server.brokers.ccxt_numbers import moment, needed, number, price, written
from debt_mgmt.server.brokers.venue_rows import MONEY, POSITIONS

D = Decimal
NET, LONG, SHORT = PositionSide.NET, PositionSide.LONG, PositionSide.SHORT

ROWS: list[tuple[str, dict[str, Any], tuple[PositionSide, str]]] = [
    ("bybit", {"size": "0.5", "side": "Buy", "positionIdx": 0}, (NET, "0.5")),
    ("bybit", {"size": "0.5", "side": "Sell", "positionIdx": 0}, (NET, "-0.5")),
    ("bybit", {"size": "100", "side": "Sell", "positionIdx": 2}, (SHORT, "-100")),
    ("bybit", {"size": "100", "side": "Buy", "positionIdx": 1}, (LONG, "100")),
    ("binance", {"positionAmt": "-0.25", "positionSide": "BOTH"}, (NET, "-0.25")),
    ("binance", {"positionAmt": "0.25", "positionSide": "LONG"}, (LONG, "0.25")),
    ("binance", {"positionAmt": "-0.25", "positionSide": "SHORT"}, (SHORT, "-0.25")),
    ("okx", {"pos": "-3", "posSide": "net", "mgnMode": "cross"}, (NET, "-3")),
    ("okx", {"pos": "3", "posSide": "short", "mgnMode": "cross"}, (SHORT, "-3")),
    ("okx", {"pos": "3", "posSide": "long", "mgnMode": "isolated"}, (LONG, "3")),
    ("kraken", {"vol": "0.9", "vol_closed": "0.4", "type": "sell"}, (NET, "-0.5")),
    ("kraken", {"vol": "0.9", "type": "buy"}, (NET, "0.9")),
    ("coinbase", {"number_of_contracts": "2", "side": "SHORT"}, (NET, "-2")),
    ("coinbase", {"number_of_contracts": "2", "side": "LONG"}, (NET, "2")),
    ("cryptocom", {"quantity": "-0.0001"}, (NET, "-0.0001")),
    ("cryptocom", {"quantity": "0.0001"}, (NET, "0.0001")),
]


@pytest.mark.parametrize(("broker", "row", "expected"), ROWS, ids=[f"{row[0]} {row[2][1]}" for row in ROWS])
def test_a_position_carries_its_sign_and_leg_and_nothing_that_was_not_said(
    broker: str, row: dict[str, Any], expected: tuple[PositionSide, str]
) -> None:
    found = POSITIONS[broker]("x:BTCUSD", row)
    assert found is not None
    assert (found.side, found.quantity) == (expected[0], D(expected[1]))
    for name in (
        "entry_price",
        "mark_price",
        "leverage",
        "isolated_margin",
        "liquidation_price",
        "unrealized_pnl",
        "initial_margin",
        "maintenance_margin",
    ):
        assert getattr(found, name) is None, name


@pytest.mark.parametrize(
    ("broker", "row"),
    [
        ("bybit", {"size": "0", "side": ""}),
        ("binance", {"positionAmt": "0.000", "positionSide": "BOTH"}),
        ("okx", {"pos": "0", "posSide": "net"}),
        ("kraken", {"vol": "0.5", "vol_closed": "0.5", "type": "buy"}),
        ("coinbase", {"number_of_contracts": "0", "side": "LONG"}),
        ("cryptocom", {"quantity": "0"}),
    ],
)
def test_a_row_of_nothing_is_flat(broker: str, row: dict[str, Any]) -> None:
    assert POSITIONS[broker]("x:BTCUSD", row) is None


@pytest.mark.parametrize("broker", list(POSITIONS))
@pytest.mark.parametrize("value", [None, "", "NaN", "a lot"])
def test_a_size_that_is_no_number_is_an_error_and_not_zero(broker: str, value: Any) -> None:
    names = {"size", "positionAmt", "pos", "vol", "number_of_contracts", "quantity"}
    row = dict.fromkeys(names, value) | {"side": "Buy", "positionSide": "BOTH", "posSide": "net", "type": "buy"}
    with pytest.raises(ValueError, match=r"missing|not a number"):
        POSITIONS[broker]("x:BTCUSD", row)


@pytest.mark.parametrize(
    ("broker", "row"),
    [
        ("bybit", {"size": "1", "side": "", "positionIdx": 0}),
        ("kraken", {"vol": "1", "type": "short"}),
        ("coinbase", {"number_of_contracts": "1", "side": "UNKNOWN"}),
        ("okx", {"pos": "1", "posSide": "both"}),
        ("binance", {"positionAmt": "1", "positionSide": "EITHER"}),
    ],
)
def test_a_side_that_is_not_understood_is_neither_long_nor_short(broker: str, row: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        POSITIONS[broker]("x:BTCUSD", row)


def test_empty_and_zero_prices_are_unknown_and_a_zero_profit_is_zero() -> None:
    row = {"size": "1", "side": "Buy", "positionIdx": 0, "avgPrice": "0", "liqPrice": "", "unrealisedPnl": "0"}
    found = POSITIONS["bybit"]("bybit:BTCUSDT", row)
    assert found is not None
    assert found.entry_price is None
    assert found.liquidation_price is None
    assert found.unrealized_pnl == 0


def test_kraken_tells_cost_and_margin_of_what_was_opened() -> None:
    row = {"vol": "0.9", "vol_closed": "0.6", "type": "buy", "cost": "45000", "margin": "9000", "net": "+10.0000"}
    found = POSITIONS["kraken"]("kraken:BTCUSD", row | {"leverage": "5", "value": "15500"})
    assert found is not None
    assert (found.quantity, found.entry_price, found.leverage) == (D("0.3"), D(50_000), D(5))
    assert found.initial_margin == 3000
    assert found.unrealized_pnl == 10
    assert found.mark_price is not None
    assert round(found.mark_price, 4) == D("51666.6667")


def test_cryptocom_tells_no_entry_price_but_what_the_position_cost() -> None:
    found = POSITIONS["cryptocom"]("cryptocom:BTCUSD", {"quantity": "-0.002", "open_pos_cost": "-100"})
    assert found is not None
    assert (found.entry_price, found.margin_mode) == (D(50_000), MarginMode.CROSS)


def test_okx_posts_margin_only_in_isolated_mode() -> None:
    row = {"pos": "5", "posSide": "net", "mgnMode": "isolated", "margin": "120.5", "imr": "", "lever": "3"}
    found = POSITIONS["okx"]("okx:BTCUSDT", row)
    assert found is not None
    assert (found.isolated_margin, found.initial_margin) == (D("120.5"), D("120.5"))


# Money.

DIGITS = "250.512345678901234567"


def money(broker: str, answer: Mapping[str, Any]) -> Any:
    return MONEY[broker](answer, lambda asset: {"XXBT": "BTC", "ZUSD": "USD"}.get(asset, asset))


def bybit_account(**coin: str) -> dict[str, Any]:
    return {"result": {"list": [{"totalEquity": "10", "coin": [{"coin": "USDT", "walletBalance": "0"} | coin]}]}}


def test_eighteen_digits_survive_from_the_wire_to_the_balance() -> None:
    text = json.dumps(bybit_account(walletBalance="here")).replace('"here"', DIGITS)
    (balance,), _ = money("bybit", exact(text))
    assert balance.total == D(DIGITS)


def test_totals_that_the_venue_leaves_empty_are_unknown() -> None:
    _, health = money("bybit", bybit_account(walletBalance="5"))
    assert (health.equity, health.initial_margin, health.available) == (D(10), None, None)


def test_borrowed_money_that_was_spent_stands_in_the_total_and_in_the_debt() -> None:
    balances, _ = money("bybit", bybit_account(walletBalance="-100", borrowAmount="100", accruedInterest="0.5"))
    assert [(one.total, one.debt, one.interest) for one in balances] == [(D(0), D(100), D("0.5"))]


def test_okx_tells_liabilities_apart_from_the_balance_client_libraries_read() -> None:
    row = {"ccy": "USDT", "cashBal": "1500", "liab": "1000", "interest": "0.25", "availBal": "400"}
    (balance,), health = money("okx", {"data": [{"details": [row], "totalEq": "500", "imr": "20", "mmr": "4"}]})
    assert (balance.total, balance.debt, balance.interest) == (D(1500), D(1000), D("0.25"))
    assert (health.equity, health.initial_margin, health.maintenance_margin) == (D(500), D(20), D(4))


def test_okx_without_a_word_of_debt_leaves_it_unknown() -> None:
    (balance,), _ = money("okx", {"data": [{"details": [{"ccy": "USDT", "cashBal": "1", "liab": ""}]}]})
    assert (balance.debt, balance.interest) == (None, None)


def test_binance_balances_are_without_open_profit() -> None:
    row = {"asset": "USDT", "walletBalance": "100", "marginBalance": "160", "unrealizedProfit": "60"}
    (balance,), health = money("binance", {"assets": [row], "totalMarginBalance": "160"})
    assert (balance.total, health.equity) == (D(100), D(160))


def test_cryptocom_debt_is_a_quantity_below_zero() -> None:
    rows = [{"instrument_name": "USD", "quantity": "-20.5", "reserved_qty": "0"}]
    (balance,), _ = money("cryptocom", {"result": {"data": [{"position_balances": rows}]}})
    assert (balance.total, balance.debt) == (D(0), D("20.5"))


def test_kraken_names_of_assets_are_the_houses() -> None:
    balances = {"result": {"XXBT": {"balance": "1.5", "hold_trade": "0.5"}, "ZUSD": {"balance": "0"}}}
    found, health = money("kraken", {"balances": balances, "trade": {"result": {"e": "10", "m": "2", "mf": "8"}}})
    assert [(one.asset, one.total, one.free) for one in found] == [("BTC", D("1.5"), D("1.0"))]
    assert (health.equity, health.initial_margin, health.maintenance_margin) == (D(10), D(2), None)


def test_coinbase_dollars_of_both_wallets_are_one_balance_and_its_equity_is_our_own_sum() -> None:
    accounts = [{"currency": "USD", "available_balance": {"value": "70"}, "hold": {"value": "10"}}]
    summary = {"balance_summary": {"cfm_usd_balance": {"value": "20"}, "total_usd_balance": {"value": "100"}}}
    (balance,), health = money("coinbase", {"accounts": accounts, "summary": summary})
    assert balance.total == 100
    assert (health.equity, health.provenance) == (None, Provenance.OWN), "without the profit there is no sum"


@pytest.mark.parametrize(
    ("broker", "answer"),
    [
        ("bybit", {"result": {"list": []}}),
        ("okx", {"data": []}),
        ("cryptocom", {"result": {"data": []}}),
        ("binance", {"assets": [{"asset": "USDT"}]}),
        ("coinbase", {"accounts": [{"currency": "USD"}], "summary": {}}),
    ],
)
def test_an_answer_without_an_account_is_an_error_and_not_an_empty_account(broker: str, answer: Any) -> None:
    with pytest.raises(ValueError, match="missing"):
        money(broker, answer)


# Numbers.


@pytest.mark.parametrize(("value", "expected"), [("+10.0000", "10"), ("1e-7", "0.0000001"), (5, "5"), ("0", "0")])
def test_a_number_is_read_as_it_was_written(value: Any, expected: str) -> None:
    assert number(value) == D(expected)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "ten", True, [], {}])
def test_what_is_no_number_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="not a number"):
        number(value)


def test_nothing_is_nothing() -> None:
    assert (number(None), number(""), price("0"), price("0.00"), moment(None)) == (None, None, None, None, None)
    with pytest.raises(ValueError, match="missing"):
        needed({"size": ""}, "size")


def test_numbers_leave_without_an_exponent() -> None:
    assert written(D("1E-8")) == "0.00000001"
    assert written(D("5.000E+4")) == "50000"
