"""Finds what an event was decided on, decides it again, and explains it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.decide import decide
from debt_mgmt.core.explain import Explanation, Seen, explain
from debt_mgmt.core.faults import Fault
from debt_mgmt.core.house import decide_house
from debt_mgmt.core.inputs import Inputs, begins_decision, command_of, inputs_of, world_of
from debt_mgmt.core.margin import World
from debt_mgmt.core.market import Mark
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import LOG_OPENED, Journal, Row
from debt_mgmt.server.past import ACCOUNTS, HOUSE, HOUSE_SHARD, account_then, house_then

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

ROWS_AROUND = 64
NOT_KEPT = "What it was decided on was not kept: it was decided by an earlier version, or took over a venue's state."


class Explained(NamedTuple):
    """Why an event happened, as far as the journal can tell."""

    row: Row
    explanation: Explanation
    marks: tuple[Mark, ...] = ()
    margin_rules: str = ""
    led_by: Sequence[Row] = ()
    reproduced: bool = False


class Decision(NamedTuple):
    """All rows of one decision."""

    rows: list[Row]
    events: list[Any]

    @property
    def first(self) -> Row:
        return self.rows[0]


async def explained(engine: "Engine", row: Row, seen: Seen = tuple) -> Explained:
    """Explain the event in a row of the journal. `seen` is what the reader may know of violations."""
    if row.shard == HOUSE_SHARD:
        return await house_explained(engine, row)
    journal = engine.journal
    decision = await decision_of(journal, row, ACCOUNTS)
    asked = decision.events[decision.rows.index(row)]
    then = await account_then(journal, row.shard, row.account_id, decision.first.position - 1)
    inputs = inputs_of(decision.events[0])
    if inputs is None:
        words = f"{row.kind}. {NOT_KEPT}"
        return Explained(row, Explanation(words, violations=getattr(asked, "violations", ())), led_by=then.led_by)
    house = await house_then(journal, inputs.house)
    first = decision.first
    world = world_of(inputs, house, house.rules or engine.risk, first.at, first.shard, first.position)
    command = command_of(inputs)
    return Explained(
        row,
        explain(then.account, command, world, decision.events, asked, seen),
        inputs.marks,
        rules_words(then.account, world, inputs),
        [*(await halts(journal, asked, inputs)), *then.led_by],
        is_same(decision, ACCOUNTS, lambda: decide(then.account, command, world)),
    )


async def house_explained(engine: "Engine", row: Row) -> Explained:
    decision = await decision_of(engine.journal, row, HOUSE)
    inputs = inputs_of(decision.events[0])
    asked = decision.events[decision.rows.index(row)]
    if inputs is None:
        return Explained(row, Explanation(f"{row.kind}. {NOT_KEPT}"))
    command, before = command_of(inputs), await house_then(engine.journal, decision.first.position - 1)
    violations = asked.violations if isinstance(asked, e.CommandRefused) else ()
    verdict = "was refused" if violations else "was carried out"
    explanation = Explanation(f"{type(command).__name__} of the house {verdict}.", violations=violations)
    same = is_same(decision, HOUSE, lambda: decide_house(before, command, decision.first.at, decision.first.position))
    return Explained(row, explanation, reproduced=same)


async def decision_of(journal: Journal, row: Row, codec: "Codec[Any, Any]") -> Decision:
    """The rows that were decided together with this one: from the row that holds the inputs to the next that does."""
    before = await journal.read_rows(row.shard, row.position - ROWS_AROUND, row.position)
    while not any(begins(one, codec) for one in before) and before and before[0].position > 1:
        if not together(before[0], row):
            break
        before = await journal.read_rows(row.shard, before[0].position - ROWS_AROUND, row.position)
    rows: list[Row] = []
    for one in reversed(before):
        if not together(one, row):
            break
        rows.insert(0, one)
        if begins(one, codec):
            break
    position = row.position
    while after := await journal.read_rows(row.shard, position + 1, position + ROWS_AROUND):
        for one in after:
            if not together(one, row) or begins(one, codec):
                return Decision(rows, [codec.decode_event(each.payload) for each in rows])
            rows.append(one)
        position = after[-1].position
    return Decision(rows, [codec.decode_event(each.payload) for each in rows])


def together(one: Row, row: Row) -> bool:
    """Whether two rows can be of one decision."""
    return one.kind != LOG_OPENED and (one.account_id, one.request_id, one.actor, one.at, one.epoch) == (
        row.account_id, row.request_id, row.actor, row.at, row.epoch,
    )  # fmt: skip


def begins(row: Row, codec: "Codec[Any, Any]") -> bool:
    return row.kind != LOG_OPENED and begins_decision(codec.decode_event(row.payload))


def is_same(decision: Decision, codec: "Codec[Any, Any]", again: Callable[[], Sequence[e.Event]]) -> bool:
    """Whether deciding again gives the same bytes."""
    try:
        events = list(again())
    except Fault:
        return False
    if len(events) != len(decision.rows):
        return False
    events[0] = msgspec.structs.replace(events[0], inputs=decision.events[0].inputs)
    return all(codec.encode_event(one) == row.payload for one, row in zip(events, decision.rows, strict=True))


async def halts(journal: Journal, asked: e.Event, inputs: Inputs) -> list[Row]:
    """The halts of the house that stood in the way, where some did: of each node the last."""
    violations = asked.violations if isinstance(asked, e.CommandRefused) else ()
    stopping = {one.subject for one in violations if one.reason == "HOUSE_HALTED"}
    if not stopping:
        return []
    found: dict[str, Row] = {}
    for row in await journal.list_rows(kinds=["TradingHalted"], limit=1000):
        if row.shard == HOUSE_SHARD and row.position <= inputs.house:
            halted = HOUSE.decode_event(row.payload)
            assert isinstance(halted, e.TradingHalted)
            scope = Scope(halted.owner, halted.account_id, halted.strategy, halted.symbol)
            found[scope.words if scope.key != scope.owner else scope.owner or "everyone"] = row
    return [row for subject, row in found.items() if subject in stopping]


def rules_words(account: Account | None, world: World, inputs: Inputs) -> str:
    """Whose margin rules were applied, and the place in the house's log that has them and all settings."""
    symbols = set() if account is None else {one.symbol for one in account.positions.values()}
    symbols |= {mark.symbol for mark in inputs.marks}
    instruments = world.house.instruments
    ids = sorted({instruments[symbol].rules.rules_id for symbol in symbols if symbol in instruments} - {""})
    return f"{', '.join(ids) or 'house'}; rules and settings as of 0:{inputs.house}"
