"""Which open paper orders a mark reaches, by symbol. A symbol on which no order rests costs one look into a mapping."""

import asyncio
import logging
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core.account import Account, PaperOrder, Side
from debt_mgmt.core.commands import MatchOrders
from debt_mgmt.core.events import OrderPlaced
from debt_mgmt.core.margin import mark_used
from debt_mgmt.core.market import Mark
from debt_mgmt.server.actor import SYSTEM

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

MATCHED_TOGETHER = 1000

Entry = tuple[Decimal, str, str]
"""Limit, order id, account id."""


class RestingSymbol:
    """The open orders on one symbol, sorted by their limits."""

    __slots__ = ("buys", "sells", "unlimited")

    def __init__(self) -> None:
        self.buys: list[Entry] = []
        self.sells: list[Entry] = []
        self.unlimited: set[tuple[str, str]] = set()
        """(order id, account id) of orders that any mark reaches."""

    def __bool__(self) -> bool:
        return bool(self.buys or self.sells or self.unlimited)

    def side(self, side: Side) -> list[Entry]:
        return self.buys if side is Side.BUY else self.sells

    def reached(self, price: Decimal) -> Iterator[str]:
        """Accounts with an order that a mark at this price reaches; an account may come more than once."""
        for entry in self.buys[bisect_left(self.buys, price, key=limit_of) :]:
            yield entry[2]
        for entry in self.sells[: bisect_right(self.sells, price, key=limit_of)]:
            yield entry[2]
        for _, account_id in self.unlimited:
            yield account_id


def limit_of(entry: Entry) -> Decimal:
    return entry[0]


class RestingOrders:
    """Kept up with every commit that concerns an account."""

    def __init__(self) -> None:
        self.symbols: dict[str, RestingSymbol] = {}
        self.known: dict[str, dict[str, PaperOrder]] = {}
        """Account id → its orders as they are in the index."""

    def __len__(self) -> int:
        return sum(len(orders) for orders in self.known.values())

    def keep(self, account: Account) -> None:
        """Bring the index up to the account's open orders."""
        account_id, orders = account.account_id, account.orders
        before = self.known.get(account_id)
        if before is orders or (before is None and not orders):
            return
        before = before or {}
        for order_id, order in before.items():
            if order_id not in orders:
                self.remove(account_id, order)
        for order_id, order in orders.items():
            if order_id not in before:
                self.add(account_id, order)
        if orders:
            self.known[account_id] = orders
        else:
            del self.known[account_id]

    def add(self, account_id: str, order: PaperOrder) -> None:
        symbol = self.symbols.setdefault(order.symbol, RestingSymbol())
        if order.limit_price is None:
            symbol.unlimited.add((order.order_id, account_id))
        else:
            insort(symbol.side(order.side), (order.limit_price, order.order_id, account_id))

    def remove(self, account_id: str, order: PaperOrder) -> None:
        symbol = self.symbols[order.symbol]
        if order.limit_price is None:
            symbol.unlimited.discard((order.order_id, account_id))
        else:
            entries = symbol.side(order.side)
            entry = (order.limit_price, order.order_id, account_id)
            place = bisect_left(entries, entry)
            assert entries[place] == entry, f"order {order.order_id} is not where its limit belongs"
            del entries[place]
        if not symbol:
            del self.symbols[order.symbol]

    def reached(self, marks: Iterable[Mark]) -> list[tuple[str, Mark]]:
        """(account id, mark) for each account that a mark may fill an order of, each pair once."""
        found: list[tuple[str, Mark]] = []
        for mark in marks:
            symbol = self.symbols.get(mark.symbol)
            if symbol is not None:
                found += ((account_id, mark) for account_id in dict.fromkeys(symbol.reached(mark.price)))
        return found


class PaperMatching:
    """Brings marks to the paper orders that they reach. What they fill is decided with the account, in the core."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.orders = RestingOrders()
        self.missed: set[tuple[str, str]] = set()
        """(symbol, account id) of orders that were being placed while a mark came."""
        self.halted = False
        """A halt of the house's log has come since the last look."""

    def keep(self, account: Account) -> None:
        self.orders.keep(account)

    def placed(self, account_id: str, event: OrderPlaced) -> None:
        """Notice an order that was decided on one mark and is known here only now that another has come."""
        mark = self.engine.marks.get(event.order.symbol)
        if mark is not None and mark_used(mark) != event.mark:
            self.missed.add((mark.symbol, account_id))

    async def match(self, marks: Iterable[Mark]) -> None:
        """Fill what the marks fill; returns when that is durable."""
        await self.carry_out(self.orders.reached(marks))

    async def catch_up(self) -> None:
        """Match what a mark has missed, and cancel what a halt has stopped."""
        missed, self.missed = self.missed, set()
        marks = self.engine.marks
        await self.carry_out([(account_id, marks[symbol]) for symbol, account_id in sorted(missed) if symbol in marks])
        if self.halted:
            self.halted = False
            await self.engine.assess(sorted(self.orders.known))

    async def carry_out(self, matches: list[tuple[str, Mark]]) -> None:
        for start in range(0, len(matches), MATCHED_TOGETHER):
            part = matches[start : start + MATCHED_TOGETHER]
            matching = (
                self.engine.submit(account_id, MatchOrders(mark_used(mark)), request_id="", actor=SYSTEM)
                for account_id, mark in part
            )
            outcomes = await asyncio.gather(*matching, return_exceptions=True)
            for (account_id, mark), outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    self.missed.add((mark.symbol, account_id))
                    logger.error("paper orders of account %s could not be matched: %s", account_id, outcome)
