"""What people type, read."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import typer

from debt_mgmt.client import AssetAmount, Order, PriceShock, SimulatedFill, SimulatedLeverage
from debt_mgmt.server.cli import typed
from debt_mgmt.server.cli.replay import MAX, pace_of
from debt_mgmt.server.cli.session import time_of
from debt_mgmt.server.cli.typed import Holding


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("buy 0.1 BTCUSDT", Order.buy("BTCUSDT", "0.1")),
        ("SELL 2 ETHUSDT @ 3000.5", Order.sell("ETHUSDT", 2, "3000.5")),
        ("sell 2 ETHUSDT@3000", Order.sell("ETHUSDT", 2, 3000)),
        (" sell 0.1 BTCUSDT reduce-only ", Order.sell("BTCUSDT", "0.1", reduce_only=True)),
    ],
)
def test_an_order_is_a_sentence(text: str, order: Order) -> None:
    assert typed.order_of(text) == order


@pytest.mark.parametrize(
    ("text", "shock"),
    [
        ("-10%", PriceShock("-0.1")),
        ("+5 %", PriceShock("0.05")),
        ("BTCUSDT=-20%", PriceShock("-0.2", symbol="BTCUSDT")),
        ("BTCUSDT = 55000", PriceShock(price=55000, symbol="BTCUSDT")),
    ],
)
def test_a_shock_is_a_percentage_or_a_price(text: str, shock: PriceShock) -> None:
    assert typed.shock_of(text) == shock


@pytest.mark.parametrize("text", ["USDT 500", "500 USDT", "USDT +500"])
def test_a_deposit_names_asset_and_amount(text: str) -> None:
    assert typed.deposit_of(text) == AssetAmount("USDT", 500)


def test_a_negative_deposit_goes_out() -> None:
    assert typed.deposit_of("USDT -500") == AssetAmount("USDT", -500)


def test_the_other_words() -> None:
    assert typed.leverage_of("BTCUSDT=3x") == SimulatedLeverage("BTCUSDT", 3)
    assert typed.fill_of("sell 1 ETHUSDT @ 3000") == SimulatedFill("ETHUSDT", "SELL", 1, 3000)
    assert typed.holding_of("BTCUSD:-1.946") == Holding("BTCUSD", Decimal("-1.946"))
    assert typed.holding_of("BTC/USD:1") == Holding("BTC/USD", Decimal(1))
    assert pace_of("60") == 60
    assert pace_of("max") == MAX


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (typed.order_of, "buy BTCUSDT"),
        (typed.order_of, "hold 1 BTCUSDT"),
        (typed.order_of, "buy 1e5 BTCUSDT"),
        (typed.order_of, "buy 1_000 BTCUSDT"),
        (typed.order_of, "buy １ BTCUSDT"),
        (typed.shock_of, "-10"),
        (typed.shock_of, "ten%"),
        (typed.leverage_of, "3"),
        (typed.deposit_of, "500"),
        (typed.holding_of, "BTCUSD:0"),
        (typed.holding_of, "BTCUSD"),
        (typed.number_of, "NaN"),
        (typed.number_of, "01"),
        (typed.side_of, "long"),
        (typed.fill_of, "sell 1 ETHUSDT reduce-only"),
        (pace_of, "0"),
        (pace_of, "nan"),
        (pace_of, "fast"),
        (time_of, "yesterday"),
    ],
)
def test_what_is_not_understood_is_refused_with_an_example(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(typer.BadParameter, match=text[:4]):
        read(text)


def test_a_time_without_a_zone_is_utc() -> None:
    assert time_of("2017-09-04T08:06") == datetime(2017, 9, 4, 8, 6, tzinfo=UTC)
    assert time_of("2017-09-04T08:06+05:30") == datetime(2017, 9, 4, 2, 36, tzinfo=UTC)


def test_a_time_can_be_a_while_ago() -> None:
    assert abs(datetime.now(UTC) - timedelta(hours=2) - time_of("2h")) < timedelta(seconds=5)
    assert abs(datetime.now(UTC) - timedelta(minutes=15) - time_of("15 min ago")) < timedelta(seconds=5)
