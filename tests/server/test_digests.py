"""Requests that an earlier version answered are recognised when they are sent again: digests stay what they were."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Limits, TimeInForce
from debt_mgmt.core.sides import PositionSide, Side
from debt_mgmt.server.digests import digest_of

D = Decimal
PLAIN = c.Order("BTCUSDT", Side.BUY, D("0.1"))
FULL = c.Order("BTCUSDT", Side.SELL, D("0.1"), D(5), True, PositionSide.LONG)
FILLED_AT = datetime(2026, 1, 1, tzinfo=UTC)

GOLDEN: list[tuple[c.Command, str]] = [
    (c.ReserveMargin(PLAIN), "4dc4552a7d196d2769fbc15895268a84"),
    (c.ReserveMargin(FULL, timedelta(seconds=9), "cid"), "1bc1e13f17f07674dd02b39fe61e4812"),
    (c.ReserveMargin(PLAIN, None, "cid"), "4ff3d06b5e4232f5b68b00db5de35073"),
    (c.PlaceOrder(PLAIN), "aafafe19cf53a3b80916b7cbf3985a98"),
    (c.PlaceOrder(FULL, TimeInForce.IOC, timedelta(seconds=9), "cid"), "49e95f9cc67dfd5e229d5e744d41d586"),
    (c.RecordFill("f", "B", Side.BUY, D(1), D(2)), "13c78f3c15ff115e435d2d4f427eb235"),
    (
        c.RecordFill("f", "B", Side.BUY, D(1), D(2), D(1), "USDT", PositionSide.LONG, "r", "o", "", 0, FILLED_AT),
        "96aa8db70dfc74c61be3dbc395c80965",
    ),
    (c.HaltTrading("x"), "e436b50c12df4207c764953ad4656d50"),
    (c.ResumeTrading("x"), "60b172fcf36d0cd7ec98d402095301d7"),
    (c.HaltHouse("x"), "9b4cdfa4951c84569feec74c1cc583cb"),
    (c.HaltHouse("x", "ann"), "4618fec56c81df49ea36c2f0356fc21a"),
    (c.ResumeHouse("x"), "b7a5c86b00959ae2bc603412534998c4"),
    (c.ResumeHouse("x", "ann"), "4a5bf9736ff2976c36cfbeddbed27fe6"),
    (c.ReleaseReservation("x"), "2d28962c53d2bc19c0e8d96e10bf0bc2"),
    (c.CancelOrder("x"), "570686e86b47f1620e4f6cdd89775f1e"),
    (c.ClosePosition("B"), "950b86e6807a75ed1f81ff71d3c1f6aa"),
    (c.SetLeverage("B", D(3)), "dca2746446b8899022c749e57efe4374"),
    (c.Transfer("USDT", D(4)), "eae234f6c8523cd3991df3fc69be4f27"),
    (
        c.SetLimits(Limits(max_position_quantity=D(1)), ("max_position_quantity",), "why"),
        "a44768fdf0df23f1f974cc5a1b930288",
    ),
    (c.Borrow("x", D(1)), "0079ddabc4517cca6973cd763e969b82"),
    (c.Repay("x"), "51e16f501ef039610109edc8a14827a4"),
    (c.ResetFunds("x"), "e857b1c96a7f90cbf61eac03d7c1050b"),
]
"""Each as the version before strategies wrote it."""


@pytest.mark.parametrize(("command", "digest"), GOLDEN)
def test_a_command_has_the_digest_that_the_first_version_gave_it(command: c.Command, digest: str) -> None:
    assert digest_of(command).hex() == digest


@pytest.mark.parametrize("kind", [c.ReserveMargin, c.PlaceOrder])
def test_an_order_of_a_strategy_is_another_request(kind: type[c.ReserveMargin | c.PlaceOrder]) -> None:
    strategies = ("", "momo", "carry")
    orders = [c.Order("BTCUSDT", Side.BUY, D("0.1"), strategy=strategy) for strategy in strategies]
    assert len({digest_of(kind(order)) for order in orders}) == len(strategies)
