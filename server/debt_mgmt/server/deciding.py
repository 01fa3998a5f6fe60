"""How the engine has a command decided: with the world of the moment, which is kept with the events for later."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.decide import decide
from debt_mgmt.core.house import House, decide_house
from debt_mgmt.core.inputs import MarksRead, with_inputs
from debt_mgmt.core.margin import World
from debt_mgmt.core.market import Mark
from debt_mgmt.core.node_use import OutsideRead
from debt_mgmt.server.shard_answers import Context

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine


class Deciding:
    """What the shards call. Nothing in it waits."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    def house(self, house: House | None, command: c.Command, context: Context) -> Sequence[e.HouseEvent]:
        if isinstance(command, c.PublishFundingRate) and command.mark is None:
            command = with_mark(command, self.engine.marks, context, self.engine.risk.mark_max_age)
        events = decide_house(house, command, context.at, context.position)
        return with_inputs(events, command, context.position - 1, {}, {})  # type: ignore[return-value]

    def account(self, account: Account | None, command: c.Command, context: Context) -> Sequence[e.AccountEvent]:
        engine = self.engine
        house, held = engine.house, engine.collateral.held
        read = MarksRead(engine.marks)
        outside = OutsideRead(engine.tree) if house.limit_sets else None
        world = World(house, read, engine.risk, context.at, context.shard, context.position, held, outside)
        view = None
        if isinstance(command, c.Assess) and account is not None:
            engine.assessing.discard(account.account_id)
        elif isinstance(command, c.ReserveMargin | c.PlaceOrder) and account is not None:
            view = engine.view_of(account, msgspec.structs.replace(world, marks=engine.marks, outside=engine.tree))
        events = decide(account, command, world, view)
        if not events:
            return ()
        if view is not None:
            read.read.update((mark.symbol, mark) for mark in view.marks)
        place = engine.house_shard.revision.position
        if outside is None:
            return with_inputs(events, command, place, read.read, held)  # type: ignore[return-value]
        if account is not None:
            engine.tree.decided(account, events, context)
        return with_inputs(events, command, place, read.read, held, outside.read)  # type: ignore[return-value]


def with_mark(
    command: c.PublishFundingRate, marks: Mapping[str, Mark], context: Context, max_age: timedelta
) -> c.PublishFundingRate:
    """A funding rate without a price is counted at the mark in force, where that is fresh."""
    mark = marks.get(command.symbol)
    if mark is None or context.at - mark.received_at > max_age:
        return command
    return msgspec.structs.replace(command, mark=mark.price)
