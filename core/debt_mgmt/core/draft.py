"""A decision in the making: the events so far, and the account as they leave it."""

from debt_mgmt.core import changes as ch
from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.apply import apply
from debt_mgmt.core.causes import with_causes
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.liquidation import plan_id_of
from debt_mgmt.core.margin import Summary, World, summarize
from debt_mgmt.core.refusals import Violation, by_precedence
from debt_mgmt.core.view import AccountView


class Draft:
    """Events being decided, with the account as they leave it."""

    def __init__(self, account: Account | None, world: World, view: AccountView | None = None) -> None:
        self.folded = account
        self.world = world
        self.view = view
        self.events: list[e.Event] = []
        self.approved: c.CarryOutChange | None = None
        """What a second person has agreed to, where that is what is decided."""

    @property
    def account(self) -> Account:
        assert self.folded is not None
        return self.folded

    def add(self, event: e.Event) -> None:
        event = with_causes(self.folded, event, self.world)
        self.folded = apply(self.folded, event)
        self.events.append(event)

    def summary(self) -> Summary:
        """The figures of the account as the events so far leave it."""
        return summarize(self.account, self.world) if self.view is None else self.view.summary_of(self.account)

    @property
    def next_id(self) -> str:
        """The id of whatever the next event creates: its place in the journal."""
        return plan_id_of(self.world.shard, self.world.position + len(self.events))


def refuse(draft: Draft, command: str, *violations: Violation) -> None:
    draft.add(e.CommandRefused(command, by_precedence(list(violations))))


def refused_alone(draft: Draft, command: str, effects: tuple[str, ...]) -> bool:
    """Whether this is refused, because a second person has to approve what it would change; see core/changes.py."""
    account = draft.account
    if draft.approved is not None:
        outgrown = ch.outgrown(draft.approved.change_id, draft.approved.effects, effects)
        if outgrown is not None:
            refuse(draft, command, outgrown)
        return outgrown is not None
    if not effects or not draft.world.settings.second_person.concerns(account.environment):
        return False
    refuse(draft, command, ch.needed(f"{command} of {account.account_id}", effects))
    return True


def instrument_of(draft: Draft, symbol: str) -> Instrument:
    instrument = draft.world.house.instruments.get(symbol)
    if instrument is None:
        message = f"instrument {symbol} is not known; PutInstrument adds it"
        raise Fault(FaultReason.INSTRUMENT_NOT_FOUND, message, symbol=symbol)
    return instrument
