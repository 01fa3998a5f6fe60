"""The index of resting paper orders finds whom a mark reaches; an engine brings marks to them, also restarted."""

import asyncio
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    Environment,
    OrderState,
    PaperOrder,
    PositionSide,
    Side,
)
from debt_mgmt.core.market import Mark
from debt_mgmt.core.paper_orders import reaches
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.resting_orders import RestingOrders
from tests.server.rpc.edge import RULES, START, Edge

D = Decimal
NOW = START
PLAIN = msgspec.structs.replace(RULES, taker_fee_rate=D(0), maker_fee_rate=D(0))


def account_with(name: str, orders: dict[str, PaperOrder]) -> Account:
    return Account(name, "desk", "paper", Environment.SANDBOX, "USDT", NOW, orders=orders)


def paper_order(order_id: str, symbol: str, side: Side, limit: int | None) -> PaperOrder:
    limit_price = None if limit is None else D(limit)
    return PaperOrder(order_id, symbol, PositionSide.NET, side, D(1), NOW, limit_price)


def mark(symbol: str, price: int) -> Mark:
    return Mark(symbol, D(price), "test", NOW, NOW)


made = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["BTC", "ETH"]),
    st.sampled_from(list(Side)),
    st.one_of(st.none(), st.integers(1, 9)),
)


@given(st.lists(st.one_of(made, st.integers(0, 30)), max_size=30), st.integers(1, 9))
def test_the_index_finds_the_orders_that_a_walk_over_all_finds(steps: list[Any], price: int) -> None:
    """Orders come and go in any order; at every price of both symbols the index and a plain search agree."""
    index, books = RestingOrders(), dict[str, dict[str, PaperOrder]]()
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            name, symbol, side, limit = f"account-{step[0]}", *step[1:]
            order = paper_order(f"1-{number}", symbol, side, limit)
            books[name] = {**books.get(name, {}), order.order_id: order}
        else:
            every = [(name, order_id) for name, orders in books.items() for order_id in orders]
            if not every:
                continue
            name, gone = every[step % len(every)]
            books[name] = {order_id: one for order_id, one in books[name].items() if order_id != gone}
        index.keep(account_with(name, books[name]))
        assert len(index) == sum(map(len, books.values()))
        for symbol in ("BTC", "ETH"):
            found = {account_id for account_id, _ in index.reached([mark(symbol, price)])}
            walked = {
                account_id
                for account_id, orders in books.items()
                if any(one.symbol == symbol and reaches(one, D(price)) for one in orders.values())
            }
            assert found == walked
    for name in books:
        index.keep(account_with(name, {}))
    assert not index.symbols
    assert not index.known


class NoOrders(dict[str, Any]):
    """Where a symbol is looked up, and nothing more may happen."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)


async def placed(edge: Edge, side: Side, quantity: str, price: str | None, account_id: str = "alice") -> str:
    order = c.Order("BTCUSDT", side, D(quantity), None if price is None else D(price))
    done = await edge.engine.submit(account_id, c.PlaceOrder(order), request_id="", actor=SYSTEM)
    event = done.events[0]
    assert isinstance(event, e.OrderPlaced), event
    return event.order.order_id


async def an_edge(journal: MemoryJournal, at: timedelta = timedelta(0)) -> Edge:
    edge = Edge(journal, PLAIN)
    edge.clock.now = START + at
    await edge.engine.start()
    await edge.furnish()
    return edge


async def test_a_mark_without_resting_orders_asks_once_and_submits_nothing() -> None:
    edge = await an_edge(MemoryJournal())
    try:
        await edge.open()
        index = edge.engine.paper.orders
        index.symbols = looked = NoOrders()
        before = edge.engine.revision("alice")
        for price in range(50000, 50020):
            await edge.mark(BTCUSDT=str(price))
        assert looked.looks == 20
        assert edge.engine.revision("alice") == before
        await placed(edge, Side.BUY, "0.01", "49000")
        before = edge.engine.revision("alice")
        await edge.mark(BTCUSDT="49500", ETHUSDT="3000")
        assert edge.engine.revision("alice") == before
        assert list(index.symbols) == ["BTCUSDT"]
    finally:
        await edge.engine.stop()


async def test_resting_orders_are_filled_by_marks_and_outlive_a_restart() -> None:
    journal = MemoryJournal()
    edge = await an_edge(journal)
    await edge.open()
    await edge.open("bob")
    await edge.mark(BTCUSDT="50000")
    first = await placed(edge, Side.BUY, "0.01", "49000")
    second = await placed(edge, Side.BUY, "0.02", "48000")
    other = await placed(edge, Side.SELL, "0.03", "51000", "bob")
    edge.clock.advance(seconds=1)
    await edge.mark(BTCUSDT="49000")
    alice = edge.engine.account("alice")
    assert [one.order_id for one in alice.past_orders] == [first]
    assert list(alice.orders) == [second]
    assert alice.positions["BTCUSDT"].quantity == D("0.01")
    await edge.engine.stop()

    again = await an_edge(journal, timedelta(hours=5))
    try:
        assert again.engine.account("alice") == alice
        assert len(again.engine.paper.orders) == 2
        await again.mark(BTCUSDT="47000")
        done = again.engine.account("alice")
        assert done.past_orders[-1].order_id == second
        assert done.past_orders[-1].average_price == 48000
        assert done.positions["BTCUSDT"].quantity == D("0.03")
        again.clock.advance(seconds=1)
        await again.mark(BTCUSDT="52000")
        bob = again.engine.account("bob")
        assert (bob.past_orders[-1].order_id, bob.past_orders[-1].state) == (other, OrderState.FILLED)
        assert not again.engine.paper.orders.symbols
    finally:
        await again.engine.stop()


async def test_an_order_that_a_mark_overtook_while_it_was_placed_is_matched_at_the_next_look() -> None:
    edge = await an_edge(MemoryJournal())
    try:
        await edge.open()
        await edge.mark(BTCUSDT="50000")
        journal: Any = edge.journal
        append, let_go = journal.append, asyncio.Event()

        async def later(rows: Any) -> None:
            await let_go.wait()
            await append(rows)

        journal.append = later
        placing = asyncio.create_task(placed(edge, Side.BUY, "0.01", "49000"))
        await asyncio.sleep(0.01)
        edge.clock.advance(seconds=1)
        await edge.mark(BTCUSDT="48900")
        let_go.set()
        await placing
        del journal.append
        assert edge.engine.account("alice").orders
        await edge.engine.sweep()
        assert not edge.engine.account("alice").orders
        assert edge.engine.account("alice").positions["BTCUSDT"].entry_price == 49000
    finally:
        await edge.engine.stop()


async def test_expired_orders_go_and_those_without_a_time_stay() -> None:
    edge = await an_edge(MemoryJournal())
    try:
        await edge.open()
        await edge.mark(BTCUSDT="50000")
        order = c.Order("BTCUSDT", Side.BUY, D("0.01"), D(49000))
        command = c.PlaceOrder(order, time_to_live=timedelta(seconds=20))
        await edge.engine.submit("alice", command, request_id="", actor=SYSTEM)
        kept = await placed(edge, Side.BUY, "0.01", "49000")
        edge.clock.advance(seconds=20)
        await edge.mark(BTCUSDT="50000")
        await edge.engine.sweep()
        alice = edge.engine.account("alice")
        assert list(alice.orders) == [kept]
        assert alice.past_orders[-1].state is OrderState.EXPIRED
        assert not edge.engine.time.expiries
    finally:
        await edge.engine.stop()


async def test_a_halt_of_the_house_cancels_orders_within_a_look() -> None:
    edge = await an_edge(MemoryJournal())
    try:
        await edge.open()
        await edge.mark(BTCUSDT="50000")
        await placed(edge, Side.BUY, "0.01", "49000")
        await edge.engine.submit_house(c.HaltHouse("stop"), request_id="", actor=SYSTEM)
        await edge.engine.sweep()
        alice = edge.engine.account("alice")
        assert not alice.orders
        assert alice.past_orders[-1].note == "trading is halted"
        assert not alice.reservations
    finally:
        await edge.engine.stop()


async def practised(seed: int, journal: MemoryJournal) -> tuple[Account, str]:
    """A strategy without sense, on a market without sense: orders, cancels and marks drawn from a seed."""
    draw = random.Random(seed)
    edge = await an_edge(journal)
    try:
        await edge.open("alice", "2000")
        command = c.SetLeverage("BTCUSDT", D(5))
        await edge.engine.submit("alice", command, request_id="", actor=SYSTEM)
        price = D(50000)
        await edge.mark(BTCUSDT=str(price))
        for _ in range(150):
            edge.clock.advance(seconds=1)
            price = round(price * (1000 + draw.randint(-12, 12)) / 1000, 1)
            await edge.mark(BTCUSDT=str(price))
            side, away = draw.choice(list(Side)), draw.randint(-15, 15)
            limit = None if draw.random() < 0.2 else round(price * (1000 + away) / 1000, 1)
            order = c.Order("BTCUSDT", side, D(draw.randint(1, 60)) / 1000, limit, draw.random() < 0.2)
            lasts = timedelta(seconds=draw.randint(1, 30)) if draw.random() < 0.3 else None
            await edge.engine.submit("alice", c.PlaceOrder(order, time_to_live=lasts), request_id="", actor=SYSTEM)
            open_orders = list(edge.engine.account("alice").orders)
            if open_orders and draw.random() < 0.3:
                cancel = c.CancelOrder(draw.choice(open_orders))
                await edge.engine.submit("alice", cancel, request_id="", actor=SYSTEM)
            await edge.engine.sweep()
            assert len(edge.engine.paper.orders) == len(edge.engine.account("alice").orders)
        assert not any(shard.counters.listener_errors for shard in edge.engine.shards.values())
        return edge.engine.account("alice"), await edge.engine.fingerprint()
    finally:
        await edge.engine.stop()


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_market_fills_alike_and_a_restart_holds_the_same(seed: int) -> None:
    journal = MemoryJournal()
    account, fingerprint = await practised(seed, journal)
    assert (account, fingerprint) == await practised(seed, MemoryJournal())
    assert account.past_orders
    rows = await journal.list_rows(account_id="alice", limit=10_000)
    fills = [row for row in rows if row.kind == "FillRecorded"]
    assert len(fills) > 20
    # Nothing is earned or lost but by fills.
    covered = [row for row in rows if row.kind == "BankruptcyRecorded"]
    if not covered:
        assert account.balances["USDT"] == 2000 + account.realized_pnl["USDT"] - account.fees_paid.get("USDT", D(0))
    again = await an_edge(journal, timedelta(seconds=150))
    try:
        assert await again.engine.fingerprint() == fingerprint
        assert len(again.engine.paper.orders) == len(account.orders)
    finally:
        await again.engine.stop()
