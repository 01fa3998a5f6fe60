"""A naive model of one account: plain dicts and fractions, written from the rules alone, with nothing from the core."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple


class Terms(NamedTuple):
    """An instrument: what it settles in, its contract size, and whether it is worth more coin when the price falls."""

    settle: str
    size: Fraction
    inverse: bool = False


@dataclass
class Order:
    symbol: str
    buys: bool
    quantity: Fraction
    price: Fraction
    loss: Fraction
    reduces: bool


@dataclass
class Naive:
    """Everything is computed anew from what happened; levels are numbers from 0 (normal) to 3 (liquidating)."""

    terms: dict[str, Terms]
    haircuts: dict[str, Fraction]
    rate_of: dict[str, str]
    """Asset to the symbol whose mark values it."""
    marks: dict[str, Fraction] = field(default_factory=dict)
    cash: dict[str, Fraction] = field(default_factory=dict)
    quantity: dict[str, Fraction] = field(default_factory=dict)
    entry: dict[str, Fraction] = field(default_factory=dict)
    leverage: dict[str, Fraction] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    realized: dict[str, Fraction] = field(default_factory=dict)
    level: int = 0

    # Figures

    def rate(self, asset: str) -> Fraction:
        return self.marks[self.rate_of[asset]] if asset in self.rate_of else Fraction(1)

    def worth(self, symbol: str, quantity: Fraction, price: Fraction) -> Fraction:
        terms = self.terms[symbol]
        value = abs(quantity) * terms.size
        return value / price if terms.inverse else value * price

    def gain(self, symbol: str, quantity: Fraction, entry: Fraction, price: Fraction) -> Fraction:
        terms = self.terms[symbol]
        if terms.inverse:
            return quantity * terms.size * (1 / entry - 1 / price)
        return quantity * terms.size * (price - entry)

    def equity(self) -> Fraction:
        amount = Fraction(0)
        for asset, balance in self.cash.items():
            weight = 1 - self.haircuts.get(asset, Fraction(0)) if balance > 0 else Fraction(1)
            amount += balance * weight * self.rate(asset)
        for symbol, quantity in self.quantity.items():
            profit = self.gain(symbol, quantity, self.entry[symbol], self.marks[symbol])
            amount += profit * self.rate(self.terms[symbol].settle)
        return amount

    def unit(self, order: Order) -> Fraction:
        return (
            self.worth(order.symbol, Fraction(1), order.price) / self.leverage.get(order.symbol, Fraction(2))
            + order.loss
        )

    def one_side(self, symbol: str, buys: bool, orders: list[Order]) -> Fraction:
        """Margin if all orders of the side fill: those that only close the position need none, cheapest first."""
        held = self.quantity.get(symbol, Fraction(0))
        same_way = held >= 0 if buys else held <= 0
        margin = Fraction(0)
        closable = Fraction(0) if same_way else abs(held)
        if same_way:
            margin = self.worth(symbol, held, self.marks[symbol]) / self.leverage.get(symbol, Fraction(2))
        mine = [one for one in orders if one.symbol == symbol and one.buys is buys and not one.reduces]
        for one in sorted(mine, key=self.unit):
            closes = min(closable, one.quantity)
            closable -= closes
            margin += (one.quantity - closes) * self.unit(one)
        return margin

    def used(self, more: Order | None = None) -> Fraction:
        orders = [*self.orders.values(), *([more] if more else [])]
        amount = Fraction(0)
        for symbol in self.terms:
            held = self.worth(symbol, self.quantity.get(symbol, Fraction(0)), self.marks[symbol])
            alone = held / self.leverage.get(symbol, Fraction(2))
            both = (self.one_side(symbol, True, orders), self.one_side(symbol, False, orders))
            amount += max(alone, *both) * self.rate(self.terms[symbol].settle)
        return amount

    def available(self) -> Fraction:
        return max(Fraction(0), self.equity() - self.used())

    # What may happen

    def order(self, symbol: str, buys: bool, quantity: Fraction, limit: Fraction | None) -> Order:
        mark, terms = self.marks[symbol], self.terms[symbol]
        held = self.quantity.get(symbol, Fraction(0))
        reduces = (held < 0 if buys else held > 0) and quantity <= abs(held)
        price, loss = mark, Fraction(0)
        if limit is not None:
            price = limit
            if terms.inverse and buys:
                price = min(limit, mark)
            if not terms.inverse and not buys:
                price = max(limit, mark)
            worse = limit > mark if buys else limit < mark
            if worse:
                loss = (
                    -self.gain(symbol, Fraction(1), limit, mark)
                    if buys
                    else -self.gain(symbol, Fraction(-1), limit, mark)
                )
        return Order(symbol, buys, quantity, price, loss, reduces)

    def fits(self, order: Order) -> bool:
        if order.reduces:
            return True
        if self.level >= 2:
            return False
        before, after, equity = self.used(), self.used(order), self.equity()
        if (after - before) * Fraction(11, 10) > max(Fraction(0), equity - before):
            return False
        return after <= before or after <= Fraction(8, 10) * equity

    def may_set(self, symbol: str, leverage: Fraction) -> bool:
        if leverage > 5:
            return False
        held = self.quantity.get(symbol, Fraction(0)) != 0
        ordered = any(one.symbol == symbol for one in self.orders.values())
        if leverage >= self.leverage.get(symbol, Fraction(2)) or not (held or ordered):
            return True
        before, kept = self.used(), self.leverage.get(symbol)
        self.leverage[symbol] = leverage
        after = self.used()
        if kept is None:
            del self.leverage[symbol]
        else:
            self.leverage[symbol] = kept
        equity = self.equity()
        if after - before > max(Fraction(0), equity - before):
            return False
        return after <= before or after <= Fraction(8, 10) * equity

    # What happens

    def fill(self, symbol: str, buys: bool, quantity: Fraction, price: Fraction) -> None:
        signed = quantity if buys else -quantity
        held = self.quantity.get(symbol, Fraction(0))
        settle = self.terms[symbol].settle
        if held * signed < 0:
            closed = min(abs(held), quantity)
            profit = self.gain(symbol, closed if held > 0 else -closed, self.entry[symbol], price)
            self.cash[settle] = self.cash.get(settle, Fraction(0)) + profit
            self.realized[settle] = self.realized.get(settle, Fraction(0)) + profit
            if quantity > abs(held):
                self.entry[symbol] = price
        elif held == 0:
            self.entry[symbol] = price
        elif self.terms[symbol].inverse:
            self.entry[symbol] = (abs(held) + quantity) / (abs(held) / self.entry[symbol] + quantity / price)
        else:
            self.entry[symbol] = (abs(held) * self.entry[symbol] + quantity * price) / (abs(held) + quantity)
        self.quantity[symbol] = held + signed
        if self.quantity[symbol] == 0:
            del self.quantity[symbol], self.entry[symbol]

    def settle_level(self) -> None:
        """Move to the level of now; from critical upwards no order stays that adds risk."""
        while True:
            used, equity = self.used(), self.equity()
            level = self.level_at(used, equity, self.level)
            adding = [name for name, one in self.orders.items() if not one.reduces]
            if self.level < 2 and adding and used == equity * Fraction(8, 10):
                level = 1  # what was accepted up to the threshold is kept
            if level >= 2 and self.level < 2 and adding:
                self.level = 2
                for name in adding:
                    del self.orders[name]
                continue
            self.level = level
            return

    @staticmethod
    def level_at(used: Fraction, equity: Fraction, current: int) -> int:
        if used <= 0:
            return 0 if equity >= 0 else 2
        if equity <= 0:
            return 3
        entered = sum(used / equity >= Fraction(threshold, 10) for threshold in (7, 8, 9))
        kept = sum(used / equity >= Fraction(threshold, 100) for threshold in (67, 77, 87))
        return max(entered, min(current, kept))
