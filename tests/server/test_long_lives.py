"""Long random lives with sets, halts, strategies and changes that wait: exits pass, sums add up, replays agree."""

import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Environment, Position, PositionMode, PositionSide, Side
from debt_mgmt.core.changes import ChangeState
from debt_mgmt.core.check import check
from debt_mgmt.core.limit_sets import Hours, LimitMode, LimitSet, NodeLimits
from debt_mgmt.core.node_use import OutsideUse
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import FourEyes
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.server.backup import back_up, restore
from debt_mgmt.server.explaining import explained
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.retaining import Retaining
from tests.server.rpc.edge import RULES, Edge
from tests.server.test_limit_tree import Failing
from tests.support.others import Others

D = Decimal
TWO = msgspec.structs.replace(RULES, four_eyes=FourEyes.ALL)
OWNERS = {"alice": "desk", "bob": "others", "carol": "desk", "dave": "others"}
CURRENCIES = {"dave": "EUR"}
SYMBOLS = {"BTCUSDT": 1000, "ETHUSDT": 50}
STRATEGIES = ("", "trend", "carry")
ANN, BEN = Actor("ann", "RISK"), Actor("ben", "RISK")


class Life:
    """One service over its restarts, and what happens to it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.journal = Failing()
        self.journal.dice = random.Random(seed + 1)
        self.edge = Edge(self.journal, TWO)
        self.fills = 0

    async def begin(self) -> None:
        await self.edge.engine.start()
        await self.edge.furnish()
        for name, owner in OWNERS.items():
            currency = CURRENCIES.get(name, "USDT")
            mode = PositionMode.HEDGE if name == "carol" else PositionMode.ONE_WAY
            account = c.CreateAccount(
                name, owner, "paper", Environment.SANDBOX, currency, deposit_amount=D(10_000_000), position_mode=mode
            )
            await self.edge.engine.submit(name, account, request_id="", actor=SYSTEM, owner=owner)
        await self.mark()

    async def mark(self) -> None:
        await self.edge.mark(**{one: str(self.dice.randint(44, 56) * unit) for one, unit in SYMBOLS.items()})

    async def restart(self, *, snapshots: bool) -> None:
        """What is read back is what was there, from snapshots and from events alone."""
        before, clock, numbers = await self.edge.engine.fingerprint(), self.edge.clock, self.edge.numbers
        await self.edge.engine.stop()
        if not snapshots:
            self.journal._snapshots.clear()
        self.edge = Edge(self.journal, TWO)
        self.edge.clock.now, self.edge.numbers = clock.now, numbers
        await self.edge.engine.start()
        assert await self.edge.engine.fingerprint() == before
        await self.mark()

    # what happens

    def scope(self) -> Scope:
        dice = self.dice
        name = dice.choice((*OWNERS, "", ""))
        owner = dice.choice(("", "desk", "others")) if not name else ""
        return Scope(owner, name, dice.choice(STRATEGIES), dice.choice((*SYMBOLS, "")))

    def limits(self) -> NodeLimits:
        dice = self.dice
        fields: dict[str, Any] = {
            "max_leverage": D(dice.randint(1, 3)),
            "max_position_quantity": D(dice.randint(0, 40)),
            "max_position_notional": D(dice.randint(0, 2_000_000)),
            "max_exposure_notional": D(dice.randint(0, 4_000_000)),
            "max_concurrent_positions": dice.randint(0, 6),
            "max_open_reservations": dice.randint(0, 20),
            "order_rate_count": dice.randint(1, 9),
        }
        chosen = dice.sample(sorted(fields), dice.randint(1, 3))
        return NodeLimits(
            **{name: fields[name] for name in chosen},
            order_rate_interval_seconds=60 if "order_rate_count" in chosen else None,
        )

    def order(self) -> c.Order:
        dice = self.dice
        limit = D(dice.randint(44, 56))
        symbol = dice.choice(sorted(SYMBOLS))
        price = limit * SYMBOLS[symbol] if dice.random() < 0.5 else None
        return c.Order(
            symbol, dice.choice(list(Side)), D(dice.randint(1, 60)) / 10, price, strategy=dice.choice(STRATEGIES)
        )

    async def ask(self, command: c.Command, scope: Scope) -> None:
        asking = self.edge.engine.second_person
        await asking.ask(command, scope, method="RiskService/Test", request_id=self.edge.request_id(), actor=ANN)

    async def act(self) -> None:
        dice, engine = self.dice, self.edge.engine
        name = dice.choice(sorted(OWNERS))
        account, scope = engine.account(name), self.scope()
        command: c.Command
        match dice.randrange(16):
            case 0:
                return await self.mark()
            case 1:
                self.edge.clock.advance(seconds=dice.choice((1, 5, 40, 1800, 40_000)))
                await engine.sweep()
                return await self.mark() if dice.random() < 0.8 else None
            case 2 | 3:
                hours = (Hours("09:00", "17:00"),) if dice.random() < 0.3 else ()
                mode = dice.choice((LimitMode.ENFORCED, LimitMode.ENFORCED, LimitMode.SHADOW))
                currency = dice.choice(("USDT", "USDT", "EUR", "NOSUCH"))
                named = LimitSet(scope, dice.choice(("", "b")), mode, self.limits(), hours, currency, "a test")
                return await self.ask(c.PutLimitSet(named), scope)
            case 4 if engine.house.limit_sets:
                one = dice.choice(list(engine.house.limit_sets.values()))
                return await self.ask(c.DeleteLimitSet(one.scope, one.name, "over"), one.scope)
            case 5 if scope.strategy or scope.symbol:
                return await self.ask(c.HaltHouse("drill", **msgspec.structs.asdict(scope)), scope)
            case 6 if engine.house.halts:
                halt = dice.choice(list(engine.house.halts.values()))
                return await self.ask(c.ResumeHouse("over", **msgspec.structs.asdict(halt.scope)), halt.scope)
            case 7 if waiting := [one for one in engine.house.changes.values() if one.state is ChangeState.PENDING]:
                change = dice.choice(waiting)
                kind = dice.choice((c.ApproveChange, c.ApproveChange, c.ApproveChange, c.RejectChange))
                await engine.submit_house(kind(change.change_id, "ben"), request_id="", actor=BEN)
                return await engine.second_person.sweep(self.edge.clock())
            case 8 if account.reservations:
                command = c.ReleaseReservation(dice.choice(sorted(account.reservations)), None)
            case 9 if account.orders:
                command = c.CancelOrder(dice.choice(sorted(account.orders)))
            case 10 if account.positions:
                held = dice.choice(list(account.positions.values()))
                command = c.ClosePosition(held.symbol, held.side)
            case 11 | 12:
                order = self.order()
                self.fills += 1
                command = c.RecordFill(
                    f"fill-{self.fills}", order.symbol, order.side, order.quantity, engine.marks[order.symbol].price,
                    position_side=self.leg(name), strategy=order.strategy,
                )  # fmt: skip
            case 13:
                command = c.PlaceOrder(msgspec.structs.replace(self.order(), position_side=self.leg(name)))
            case _:
                command = c.ReserveMargin(msgspec.structs.replace(self.order(), position_side=self.leg(name)))
        await engine.submit(name, command, request_id="", actor=SYSTEM)

    def leg(self, name: str) -> PositionSide:
        return self.dice.choice((PositionSide.LONG, PositionSide.SHORT)) if name == "carol" else PositionSide.NET

    # what holds

    async def exits_pass(self) -> None:
        engine = self.edge.engine
        for name in OWNERS:
            await engine.reductions.idle(name, 10)
        for name in OWNERS:
            for held in engine.account(name).positions.values():
                order = self.exit_of(held)
                assert check(engine.view(name), order, self.edge.clock()).fits, order
            positions = list(engine.account(name).positions.values())
            if not positions or self.dice.random() < 0.8:
                continue
            order = self.exit_of(self.dice.choice(positions))
            command = c.PlaceOrder(order) if self.dice.random() < 0.5 else c.ReserveMargin(order)
            done = await engine.submit(name, command, request_id="", actor=SYSTEM)
            assert not any(isinstance(one, e.CommandRefused) for one in done.events), done.events

    def exit_of(self, held: Position) -> c.Order:
        side = Side.SELL if held.quantity > 0 else Side.BUY
        quantity = abs(held.quantity) * D(self.dice.randint(1, 10)) / 10
        return c.Order(held.symbol, side, quantity, position_side=held.side, strategy=self.dice.choice(STRATEGIES))

    def sums_add_up(self) -> None:
        engine = self.edge.engine
        accounts = {name: engine.account(name) for name in OWNERS}
        plain = Others(accounts, [], engine.world)
        for one in engine.house.limit_sets.values():
            for account in accounts.values():
                told, added = engine.tree.of(one, account, self.edge.clock()), plain.of(one, account, self.edge.clock())
                assert told is not None
                assert added is not None
                assert rounded(told) == rounded(added), (one, account.account_id)

    def strategies_hold(self) -> None:
        """What strategies hold together is never more than there is, but where they offset each other."""
        for name in OWNERS:
            account = self.edge.engine.account(name)
            for key in {key for held in account.strategies.values() for key in held}:
                total = sum((held.get(key, D(0)) for held in account.strategies.values()), D(0))
                there = account.positions[key].quantity if key in account.positions else D(0)
                assert min(there, D(0)) <= total <= max(there, D(0)), (key, account.strategies, there)

    async def is_made_again(self) -> None:
        """Every decision of every log, to the byte."""
        after: tuple[int, int] | None = None
        while rows := await self.journal.list_rows(after=after, limit=500):
            after = (rows[-1].shard, rows[-1].position)
            for row in rows:
                told = await explained(self.edge.engine, row)
                assert told.reproduced, (row.kind, row.payload)


def rounded(use: OutsideUse) -> tuple[Decimal | None, int, int]:
    """In another order of adding up, what has no end ends otherwise."""
    exposure = use.exposure.quantize(D("1e-30")) if use.exposure is not None else None
    return exposure, use.positions, use.reservations


@pytest.mark.parametrize("seed", range(4))
async def test_any_life_is_the_same_after_restarts_and_lets_everybody_out(seed: int, tmp_path: Path) -> None:
    life = Life(seed)
    await life.begin()
    for step in range(240):
        life.journal.chance = 0.1 if 80 < step < 160 else 0.0
        await life.act()
        if not life.journal.chance:
            await life.exits_pass()
            if not any(life.edge.engine.tree.pending.values()):
                life.sums_add_up()
        life.strategies_hold()
        if step in (60, 120, 180):
            life.journal.chance = 0.0
            await life.restart(snapshots=step != 120)
            life.sums_add_up()
    house = life.edge.engine.house
    assert house.limit_sets and house.halts and {one.state for one in house.changes.values()} > {ChangeState.APPROVED}
    await life.is_made_again()
    await is_restored(life, tmp_path)
    await is_retained(life, tmp_path)
    await life.edge.engine.stop()


async def is_restored(life: Life, folder: Path) -> None:
    """A backup taken meanwhile adds up to the same."""
    await back_up(life.journal, folder / "backup", life.edge.clock(), "1")
    other = MemoryJournal()
    await restore(other, folder / "backup")
    again = Edge(other, TWO)
    again.clock.now = life.edge.clock.now
    await again.engine.start()
    assert await again.engine.fingerprint() == await life.edge.engine.fingerprint()
    await again.engine.stop()


async def is_retained(life: Life, folder: Path) -> None:
    """Old rows leave, and what they added up to stays."""
    life.edge.clock.advance(days=400)
    await life.edge.engine.second_person.sweep(life.edge.clock())
    assert await Retaining(life.edge.engine, timedelta(days=365), folder / "archive", 20).sweep()
    await life.restart(snapshots=False)
