"""An exchange with a memory of its own and bad manners: what it executed stays executed, whoever hears of it."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from debt_mgmt.server.brokers.broker import Ambiguous, BrokerFill, BrokerOrder, StillOpen, Unreachable
from debt_mgmt.server.brokers.paper import PaperBroker

BOOK = "book.jsonl"
MANNERS = "manners.json"


class Manners(msgspec.Struct, frozen=True):
    """How the venue treats the orders of one account. A step is that of a plan, as its client order id says."""

    hangs_before_step: int = 0
    """The answer never comes, and the order was not executed."""
    hangs_after_step: int = 0
    """The answer never comes, although the order was executed."""
    forgets: bool = False
    """Orders are not kept beyond the life of the service, as those of the paper broker."""
    times_out: bool = False
    """Every order is executed, and its answer lost."""
    unreachable_first: int = 0
    """So many attempts reach nobody."""


class Entry(msgspec.Struct, frozen=True):
    """A line of the book: what was asked of the venue, or what it did."""

    what: str
    account_id: str
    client_order_id: str
    fill: BrokerFill | None = None


class Venue(PaperBroker):
    """Fills at the mark as the paper broker does; `folder` holds its book and its manners by account.

    An order that is sent twice is executed twice: it is the service's part not to.
    """

    folder: Path

    def __init__(self, *arguments: Any, **rates: Any) -> None:
        super().__init__(*arguments, **rates)
        self.manners = msgspec.json.decode((self.folder / MANNERS).read_bytes(), type=dict[str, Manners])
        self.executed: dict[str, BrokerFill] = {}
        self.attempts: dict[str, int] = defaultdict(int)
        for entry in book_of(self.folder):
            if entry.what == "executed" and entry.fill is not None and not self.of(entry.account_id).forgets:
                self.executed[entry.client_order_id] = entry.fill

    def of(self, account_id: str) -> Manners:
        return self.manners.get(account_id, Manners())

    async def place(self, order: BrokerOrder) -> BrokerFill:
        manners, step = self.of(order.account_id), int(order.client_order_id.rpartition("-")[2])
        self.write("placed", order)
        self.attempts[order.account_id] += 1
        if self.attempts[order.account_id] <= manners.unreachable_first:
            raise Unreachable("nobody answers")
        if step == manners.hangs_before_step:
            await asyncio.Event().wait()
        self.fills.pop(order.client_order_id, None)
        fill = await super().place(order)
        self.executed[order.client_order_id] = fill
        self.write("executed", order, fill)
        if step == manners.hangs_after_step:
            await asyncio.Event().wait()
        if manners.times_out:
            raise Ambiguous("no answer in time")
        return fill

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        return self.executed.get(client_order_id)

    def write(self, what: str, order: BrokerOrder, fill: BrokerFill | None = None) -> None:
        entry = Entry(what, order.account_id, order.client_order_id, fill)
        with (self.folder / BOOK).open("ab") as book:
            book.write(msgspec.json.encode(entry) + b"\n")


def book_of(folder: Path) -> list[Entry]:
    """Everything that the venue was asked and did, in order."""
    path = folder / BOOK
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Entry) for line in path.read_bytes().splitlines()]


def teach(folder: Path, manners: dict[str, Manners]) -> None:
    """How the venue behaves from the next start of the service on."""
    (folder / MANNERS).write_bytes(msgspec.json.encode(manners))
