"""What every broker owes who sends an order, the paper broker as well as six exchanges."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core.account import Environment, PositionSide, Side
from debt_mgmt.core.house import House
from debt_mgmt.core.market import Mark
from debt_mgmt.server.brokers.broker import Broker, BrokerOrder, Rejected, Unreachable
from debt_mgmt.server.brokers.paper import PaperBroker
from tests.support.broker_bench import VENUES, bench_of
from tests.support.instruments import BTCUSDT
from tests.support.venues.venue import FaultKind

D = Decimal
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
PAPER = "paper"


@dataclass
class Place:
    """A broker, an order that it can carry out, and a way to cut it off and on again."""

    broker: Broker
    order: BrokerOrder
    cut: Callable[[], None]
    mend: Callable[[], None]


@asynccontextmanager
async def on_paper() -> AsyncIterator[Place]:
    marks = {"BTCUSDT": Mark("BTCUSDT", D(60_000), "test", NOON, NOON)}
    house = House(instruments={"BTCUSDT": BTCUSDT})
    broker = PaperBroker(lambda: house, marks, slippage_rate=D("0.0005"), fee_rate=D("0.0004"))
    known = dict(marks)
    order = BrokerOrder("alice", Environment.SANDBOX, "liq-1-7-1", "BTCUSDT", PositionSide.NET, Side.SELL, D("0.2"))
    yield Place(broker, order, marks.clear, lambda: marks.update(known))


@asynccontextmanager
async def at_exchange(name: str) -> AsyncIterator[Place]:
    about = VENUES[name]
    async with bench_of(about) as bench:
        bench.hold(about.size)

        def cut() -> None:
            bench.venue.fault("", FaultKind.CLOCK, times=None)

        yield Place(bench.broker, bench.order(about.size * D("0.4")), cut, bench.venue.mend)


@pytest.fixture(params=[PAPER, *(name for name in VENUES if name != "coinbase")])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Coinbase calls a late request unauthorized, and its own tests show that."""
    async with on_paper() if request.param == PAPER else at_exchange(request.param) as found:
        yield found


@pytest.fixture(params=[PAPER, *VENUES])
async def any_place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with on_paper() if request.param == PAPER else at_exchange(request.param) as found:
        yield found


async def test_an_order_that_never_came_is_not_found(any_place: Place) -> None:
    assert await any_place.broker.find("liq-1-99-1", any_place.order.symbol) is None


async def test_the_same_order_is_the_same_fill_and_can_be_looked_up(any_place: Place) -> None:
    order = any_place.order
    fill = await any_place.broker.place(order)
    assert (fill.quantity, fill.fill_id) == (order.quantity, order.client_order_id)
    assert fill.price > 0
    assert fill.fee > 0
    assert await any_place.broker.place(order) == fill
    assert await any_place.broker.find(order.client_order_id, order.symbol) == fill


async def test_another_id_is_another_order(any_place: Place) -> None:
    first = await any_place.broker.place(any_place.order)
    second = await any_place.broker.place(msgspec.structs.replace(any_place.order, client_order_id="liq-1-7-2"))
    assert first.fill_id != second.fill_id


async def test_an_order_that_could_add_risk_is_refused(any_place: Place) -> None:
    with pytest.raises(Rejected, match="reduce-only"):
        await any_place.broker.place(msgspec.structs.replace(any_place.order, reduce_only=False))
    assert await any_place.broker.find(any_place.order.client_order_id, any_place.order.symbol) is None


async def test_an_order_of_another_world_is_refused(any_place: Place) -> None:
    for environment in set(Environment) - {any_place.order.environment}:
        with pytest.raises(Rejected):
            await any_place.broker.place(msgspec.structs.replace(any_place.order, environment=environment))
    assert await any_place.broker.find(any_place.order.client_order_id, any_place.order.symbol) is None


async def test_where_nobody_listens_nothing_is_sent_and_later_it_may_be(place: Place) -> None:
    place.cut()
    with pytest.raises(Unreachable):
        await place.broker.place(place.order)
    place.mend()
    assert await place.broker.find(place.order.client_order_id, place.order.symbol) is None
    assert (await place.broker.place(place.order)).quantity == place.order.quantity
