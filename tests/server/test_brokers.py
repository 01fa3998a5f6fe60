"""Brokers: paper fills at the mark, once for each client order id; and the capability matrix is complete."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core.account import Environment, PositionSide, Side
from debt_mgmt.core.house import House
from debt_mgmt.core.market import Mark
from debt_mgmt.server.brokers import paper
from debt_mgmt.server.brokers.broker import Broker, BrokerFill, BrokerOrder, Rejected, Unreachable
from debt_mgmt.server.brokers.paper import PaperBroker
from tests.support.instruments import BTCUSD, BTCUSDT

D = Decimal
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SELL = BrokerOrder("alice", Environment.SANDBOX, "liq-1-7-1", "BTCUSDT", PositionSide.NET, Side.SELL, D("0.5"))


def mark(symbol: str, price: str) -> Mark:
    return Mark(symbol, D(price), "test", NOON, NOON)


class Place:
    """A paper broker at a market that the test moves."""

    def __init__(self, slippage_rate: str = "0.0005", fee_rate: str = "0.0004") -> None:
        self.house = House(instruments={"BTCUSDT": BTCUSDT, "BTCUSD": BTCUSD})
        self.marks = {"BTCUSDT": mark("BTCUSDT", "60000"), "BTCUSD": mark("BTCUSD", "60000")}
        self.broker: Broker = PaperBroker(
            lambda: self.house, self.marks, slippage_rate=D(slippage_rate), fee_rate=D(fee_rate)
        )


def changed(**terms: object) -> BrokerOrder:
    return msgspec.structs.replace(SELL, **terms)


async def test_a_fill_is_at_the_mark_a_little_worse_and_costs_a_fee() -> None:
    place = Place()
    sold = await place.broker.place(SELL)
    assert sold == BrokerFill("liq-1-7-1", D("0.5"), D("59970"), D("11.994"), "USDT")
    bought = await place.broker.place(changed(side=Side.BUY, client_order_id="liq-1-7-2"))
    assert (bought.price, bought.fee) == (D("60030"), D("12.006"))


@pytest.mark.parametrize(("side", "price"), [(Side.SELL, "60011.1"), (Side.BUY, "60071.3")])
async def test_slippage_is_rounded_against_the_order_to_the_tick(side: Side, price: str) -> None:
    place = Place()
    place.marks["BTCUSDT"] = mark("BTCUSDT", "60041.2")
    fill = await place.broker.place(changed(side=side))
    assert fill.price == D(price)
    assert fill.price % BTCUSDT.tick == 0


async def test_without_slippage_a_fill_is_at_the_mark_itself() -> None:
    place = Place("0", "0")
    place.marks["BTCUSDT"] = mark("BTCUSDT", "60041.2345")
    assert await place.broker.place(SELL) == BrokerFill("liq-1-7-1", D("0.5"), D("60041.2345"), D(0), "USDT")


async def test_a_price_never_slips_to_zero() -> None:
    place = Place("0.9")
    place.marks["BTCUSDT"] = mark("BTCUSDT", "0.2")
    assert (await place.broker.place(SELL)).price == BTCUSDT.tick


async def test_the_fee_of_an_inverse_contract_is_in_coin() -> None:
    fill = await Place("0").broker.place(changed(symbol="BTCUSD", quantity=D(30)))
    assert (fill.fee, fill.fee_asset) == (D("0.00002"), "BTC"), "30 × 100 ÷ 60,000 × 0.0004"


async def test_the_same_order_again_is_the_same_fill_whatever_the_market_did() -> None:
    place = Place()
    first = await place.broker.place(SELL)
    place.marks["BTCUSDT"] = mark("BTCUSDT", "50000")
    assert await place.broker.place(SELL) == first
    del place.marks["BTCUSDT"]
    assert await place.broker.place(SELL) == first
    assert await place.broker.find("liq-1-7-1", "BTCUSDT") == first


async def test_an_order_that_never_came_is_not_found() -> None:
    assert await Place().broker.find("liq-1-7-1", "BTCUSDT") is None


@pytest.mark.parametrize("environment", [Environment.TESTNET, Environment.LIVE])
async def test_only_sandbox_accounts_are_served(environment: Environment) -> None:
    place = Place()
    with pytest.raises(Rejected, match="not a sandbox account"):
        await place.broker.place(changed(environment=environment))
    assert await place.broker.find("liq-1-7-1", "BTCUSDT") is None


async def test_only_reducing_orders_are_carried_out() -> None:
    with pytest.raises(Rejected, match="reduce-only"):
        await Place().broker.place(changed(reduce_only=False))


async def test_without_a_price_an_order_waits_and_may_be_placed_again() -> None:
    place = Place()
    known = place.marks.pop("BTCUSDT")
    with pytest.raises(Unreachable, match="BTCUSDT has no price"):
        await place.broker.place(SELL)
    assert await place.broker.find("liq-1-7-1", "BTCUSDT") is None
    place.marks["BTCUSDT"] = known
    assert (await place.broker.place(SELL)).quantity == D("0.5")


async def test_the_memory_of_fills_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "FILLS_KEPT", 3)
    place = Place()
    for number in range(5):
        await place.broker.place(changed(client_order_id=f"liq-1-{number}-1"))
    found = [await place.broker.find(f"liq-1-{number}-1", "BTCUSDT") for number in range(5)]
    assert [fill is not None for fill in found] == [False, False, True, True, True]


# The capability matrix
