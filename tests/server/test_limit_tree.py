"""The sums of the tree of limits: what they say is what adding up all accounts says, whatever happens and fails."""

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Side
from debt_mgmt.core.limit_sets import LimitMode, LimitSet, NodeLimits
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.journal import AppendAmbiguous
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from tests.server.rpc.edge import Edge, running_edge
from tests.support.others import Others

D = Decimal
ACCOUNTS = ("alice", "bob", "carol", "dave", "erin")
WIDE = NodeLimits(
    max_exposure_notional=D(10**9), max_concurrent_positions=10**6, max_open_reservations=10**6, order_rate_count=10**6,
    order_rate_interval_seconds=60,
)  # fmt: skip
SCOPES = (
    Scope(), Scope(owner="desk"), Scope(symbol="BTCUSDT"), Scope(account_id="alice"), Scope(strategy="trend"),
    Scope("desk", "bob", "trend", "ETHUSDT"),
)  # fmt: skip


class Failing(MemoryJournal):
    """A journal whose appends fail now and then, some of them although the rows are in it."""

    chance = 0.0
    dice = random.Random(7)

    async def append(self, rows: Any) -> None:
        lost = self.dice.random() < self.chance
        if lost and self.dice.random() < 0.5:
            raise AppendAmbiguous("the connection is gone, nothing was written")
        await super().append(rows)
        if lost:
            raise AppendAmbiguous("the connection is gone, the rows are written")


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[Edge]:
    async for one in running_edge(Failing()):
        for number, name in enumerate(ACCOUNTS):
            await one.open(name, "10000000", owner="desk" if number % 2 else "others")
        await one.mark(BTCUSDT="50000", ETHUSDT="2500")
        yield one


async def limit(edge: Edge, scope: Scope, name: str = "") -> None:
    one = LimitSet(scope, name, LimitMode.ENFORCED, WIDE, currency="USDT")
    await edge.engine.submit_house(c.PutLimitSet(one), request_id="", actor=SYSTEM)


def agree(edge: Edge) -> None:
    """The tree says of every account of every node what adding up says, orders apart."""
    engine = edge.engine
    accounts = {name: engine.account(name) for name in ACCOUNTS}
    plain = Others(accounts, [], engine.world)
    for one in engine.house.limit_sets.values():
        for account in accounts.values():
            told, added = engine.tree.of(one, account, edge.clock()), plain.of(one, account, edge.clock())
            assert told is not None
            assert added is not None
            expected = (added.exposure, added.positions, added.reservations)
            assert (told.exposure, told.positions, told.reservations) == expected, (one.scope, account.account_id)


async def act(edge: Edge, dice: random.Random) -> None:
    """Something happens to some account."""
    name, symbol, side = dice.choice(ACCOUNTS), dice.choice(("BTCUSDT", "ETHUSDT")), dice.choice(list(Side))
    quantity, engine = D(dice.randint(1, 30)) / 10, edge.engine
    account = engine.account(name)
    command: c.Command
    match dice.randrange(6):
        case 0 | 1:
            order = c.Order(symbol, side, quantity, strategy=dice.choice(("", "trend")))
            command = c.ReserveMargin(order)
        case 2 if account.reservations:
            command = c.ReleaseReservation(dice.choice(sorted(account.reservations)), None)
        case 3:
            return await edge.mark(**{symbol: str(dice.randint(40, 60) * (1000 if symbol == "BTCUSDT" else 50))})
        case 4:
            command = c.PlaceOrder(c.Order(symbol, side, quantity))
        case _:
            command = c.RecordFill(edge.request_id(), symbol, side, quantity, engine.marks[symbol].price)
    await engine.submit(name, command, request_id="", actor=SYSTEM)


@pytest.mark.parametrize("seed", range(6))
async def test_the_sums_are_those_of_adding_up_whatever_happens(edge: Edge, seed: int) -> None:
    dice = random.Random(seed)
    for scope in SCOPES[:3]:
        await limit(edge, scope)
    for step in range(60):
        if step == 25:
            for scope in SCOPES[3:]:
                await limit(edge, scope)
        if step == 40:
            await edge.engine.submit_house(c.DeleteLimitSet(SCOPES[0]), request_id="", actor=SYSTEM)
        await act(edge, dice)
        agree(edge)


async def test_what_strategies_have_of_a_flat_position_is_summed(edge: Edge) -> None:
    await limit(edge, Scope(strategy="trend"))
    for side, strategy in ((Side.BUY, "trend"), (Side.SELL, "carry")):
        fill = c.RecordFill(strategy, "BTCUSDT", side, D(2), D(50_000), strategy=strategy)
        await edge.engine.submit("alice", fill, request_id="", actor=SYSTEM)
    assert not edge.engine.account("alice").positions
    told = edge.engine.tree.of(edge.engine.house.limit_sets["||trend|#"], edge.engine.account("bob"), edge.clock())
    assert told is not None
    assert (told.exposure, told.positions) == (D(100_000), 1)
    agree(edge)


@pytest.mark.parametrize("seed", range(3))
async def test_the_sums_are_right_again_after_appends_that_failed(edge: Edge, seed: int) -> None:
    journal = edge.journal
    assert isinstance(journal, Failing)
    dice = random.Random(seed)
    for scope in SCOPES:
        await limit(edge, scope)
    journal.dice = random.Random(seed + 100)
    journal.chance = 0.3
    for _ in range(30):
        await act(edge, dice)
    journal.chance = 0.0
    for name in ACCOUNTS:
        await edge.engine.submit(name, c.Transfer("USDT", D(1)), request_id="", actor=SYSTEM)
    agree(edge)
    assert not any(edge.engine.tree.pending.values())


@pytest.mark.parametrize("before", [[], [Scope(symbol="ETHUSDT")]])
async def test_a_set_that_is_put_while_orders_are_written_counts_them(edge: Edge, before: list[Scope]) -> None:
    """They were decided before it, and another account is decided about after it, when they are not durable yet."""
    for scope in before:
        await limit(edge, scope)
    engine, journal = edge.engine, edge.journal
    written, append = asyncio.Event(), journal.append
    home = engine.home["alice"]

    async def later(rows: Any) -> None:
        if rows[0].shard == home:
            await written.wait()
        await append(rows)

    journal.append = later  # type: ignore[method-assign]
    order = c.ReserveMargin(c.Order("BTCUSDT", Side.BUY, D(3)))
    writing = asyncio.create_task(engine.submit("alice", order, request_id="", actor=SYSTEM))
    while not engine.shards[home].stuck_seconds:
        await asyncio.sleep(0)
    await limit(edge, Scope())
    (bob, one) = engine.account("bob"), engine.house.limit_sets["#"]
    told = engine.tree.of(one, bob, edge.clock())
    assert told is not None
    assert (told.exposure, told.positions, told.reservations) == (D(150000), 1, 1)
    written.set()
    await writing
    agree(edge)
    assert not any(engine.tree.pending.values())


async def test_without_limit_sets_nothing_is_kept(edge: Edge) -> None:
    dice = random.Random(1)
    for _ in range(20):
        await act(edge, dice)
    tree = edge.engine.tree
    assert not tree.nodes
    assert not tree.orders
    assert not any(tree.pending.values())
    await limit(edge, Scope())
    agree(edge)
    await edge.engine.submit_house(c.DeleteLimitSet(Scope()), request_id="", actor=SYSTEM)
    assert not tree.nodes
    assert not tree.orders
