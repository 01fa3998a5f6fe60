"""The price screen: which accounts a new mark may have moved across a threshold. Floats screen, Decimal decides."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.margin import Summary, World
from debt_mgmt.core.slopes import ALWAYS, Pricing, Slopes, Terms, blind_slopes, slopes_of

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

EQUITY, USED, LOW, HIGH, FLOOR, CEILING, GUARD, FIXED_EQUITY, FIXED_USED, FIXED_FLOOR, FIXED_CEILING = range(11)
"""Columns of an account: its figures, the bounds inside which nothing happens, and the parts that rest on no mark."""
EQUITY_SLOPE, USED_SLOPE = range(2)
"""Columns of a plain holding, as `Slopes.plain`."""
HAS, NEEDS, ISOLATED, FIXED_HAS, FIXED_NEEDS, FIXED_ISOLATED = range(6)
"""Columns of a purse: all in it, and the part without its bent holdings."""
HOLDER, RATE, PLACE = range(3)
"""Links of a purse: its account, its rate, and its row among the purses of that rate."""
HAS_SLOPE, NEEDS_SLOPE, ADDING, OPPOSING, ISOLATED_SLOPE, LEAST, MOST = range(7)
"""Columns of a bent holding, as `Bent`."""

GUARD_RATIO: Final = 1e-8
"""The guard band around every bound, as a share of all the magnitudes that an account's figures are added up from.

One mark costs a figure two rounding errors of 2⁻⁵³. After MARKS_UNTIL_REBASE marks that all err the same way that is
2.4e-10 of the largest it has been, and it can't have grown by more than PRICE_RANGE since its magnitude was taken:
below 2e-9 for each of the two figures that are compared.
"""
GUARD_AMOUNT: Final = 1e-12
MARKS_UNTIL_REBASE: Final = 1 << 20
PRICE_RANGE: Final = 8.0


class Screen:
    """Every account's figures in columns, moved by each mark and compared with the bounds inside which nothing happens.

    `mark` never misses an account for which `levels.assess` would make an event because of a price; it may name others.
    An account that can't be followed in columns (a price is missing, the level is unknown) is named on every mark that
    its figures rest on. What time alone brings is not seen here: a mark grows old, a day begins, a breaker's cool-down
    ends (assess and update the account then: from there on the screen sees the loss go back).
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._names: list[str] = []
        self._accounts = Slots(11)
        self._purses = Slots(6)
        self._purse_links: Numbers = np.zeros((3, 0), dtype=np.int64)
        self._real: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._lines: dict[str, Line] = {}
        self._rates: dict[tuple[str, Terms], Rate] = {}
        self._rates_by_number: list[Rate] = []
        self._rate_values: Floats = np.zeros(0)
        self._pricing = Pricing(House())
        self._marks_since_rebase = 0

    def __len__(self) -> int:
        return len(self._entries)

    # What the engine tells

    def update(self, account: Account, summary: Summary, world: World) -> None:
        """Load one account exactly, after each commit and assessment of it. `summary` is the account's in `world`."""
        if account.closed_at is not None:
            self.remove(account.account_id)
            return
        if world.house is not self._pricing.house:
            self.adopt(world.house)
        if summary.missing:
            slopes = blind_slopes(account, self._pricing)
        else:
            slopes = slopes_of(account, summary, world, self._pricing)
        entry = self._entries.get(account.account_id) or self._enter(account)
        self._trade(slopes, world)
        if slopes.purses or entry.purses:
            self._fill(entry, slopes)
        self._hold(entry, slopes)

    def remove(self, account_id: str) -> None:
        """Forget an account."""
        entry = self._entries.get(account_id)
        if entry is None:
            return
        nothing = Slopes()
        self._fill(entry, nothing)
        self._hold(entry, nothing)
        self._names[entry.number] = ""
        self._real[entry.number] = False
        self._accounts.values[:, entry.number] = 0.0
        self._accounts.give(entry.number)
        del self._entries[account_id]

    def adopt(self, house: House) -> None:
        """Take over the house after its commit. Accounts on what changed are named by every mark until updated."""
        before, self._pricing = self._pricing.house, Pricing(house)
        if before.assets != house.assets:
            self._name_always(np.array([entry.number for entry in self._entries.values()], dtype=np.int64))
        elif before.instruments is not house.instruments:
            for symbol in self._lines:
                if before.instruments.get(symbol) != house.instruments.get(symbol):
                    self._name_always(self._holders(symbol))

    def mark(self, symbol: str, price: Decimal, *, recorded: bool = False) -> list[str]:
        """Apply a new mark, and name the accounts that it may have moved across any threshold.

        `recorded`: the mark is read from a recording, which prices sandbox accounts only.
        """
        line = self._lines.get(symbol)
        if line is None:
            line = self._lines[symbol] = Line()
        before = line.coordinate
        line.move(price)
        touched: list[Numbers] = []
        found: list[Numbers] = []
        if line.plain.count:
            touched.append(self._move_plain(line, before))
        if line.bent.count:
            holders, outside = self._move_bent(line, before)
            touched.append(holders)
            found.append(outside)
        touched += (self._move_rate(rate) for rate in line.rates)
        self._marks_since_rebase += 1
        if self._marks_since_rebase >= MARKS_UNTIL_REBASE or not line.lowest < line.price < line.highest:
            self.rebase()
        found += (self._crossed(numbers) for numbers in touched)
        if recorded:
            found.append(self._lose_sight(symbol))
        names = self._names
        if len(found) == 1:
            return [names[number] for number in found[0].tolist()]
        return [names[number] for number in np.unique(np.concatenate(found)).tolist()] if found else []

    def holders(self, symbol: str) -> list[str]:
        """Accounts whose figures rest on the mark of `symbol`: by a position, or by an asset that it values."""
        names = self._names
        return [names[number] for number in self._holders(symbol).tolist()]

    def outside(self, account_ids: Iterable[str]) -> list[str]:
        """Those that stand outside their bounds now, for accounts loaded on marks they were not assessed at."""
        known = (self._entries.get(account_id) for account_id in account_ids)
        numbers = np.array([entry.number for entry in known if entry is not None], dtype=np.int64)
        return [self._names[number] for number in self._crossed(numbers).tolist()]

    def most_utilized(self, count: int) -> list[tuple[str, float]]:
        """The accounts of the highest margin utilisation, the highest first; infinite where equity is not positive.

        For showing only. Left out are accounts that use no margin and those whose figures are unknown.
        """
        equity, used = self._accounts.values[EQUITY], self._accounts.values[USED]
        shown = np.flatnonzero(used > 0)
        ratio = np.full(shown.size, np.inf)
        np.divide(used[shown], equity[shown], out=ratio, where=equity[shown] > 0)
        if shown.size > count:
            top = np.argpartition(-ratio, count)[:count]
            shown, ratio = shown[top], ratio[top]
        order = np.argsort(-ratio, kind="stable")
        return [
            (self._names[number], value)
            for number, value in zip(shown[order].tolist(), ratio[order].tolist(), strict=True)
        ]

    def rebase(self) -> None:
        """Add every figure up anew from fixed parts and prices, and so end the rounding errors of the marks between.

        `mark` does so by itself as often as the guard band asks for it.
        """
        accounts, purses = self._accounts.values, self._purses.values
        accounts[EQUITY : USED + 1] = accounts[FIXED_EQUITY : FIXED_USED + 1]
        accounts[FLOOR : CEILING + 1] = accounts[FIXED_FLOOR : FIXED_CEILING + 1]
        purses[HAS : ISOLATED + 1] = purses[FIXED_HAS : FIXED_ISOLATED + 1]
        scale = np.abs(accounts[FIXED_EQUITY : FIXED_USED + 1]).sum(axis=0)
        purse_scale = np.abs(purses[FIXED_HAS : FIXED_ISOLATED + 1]).sum(axis=0)
        for line in self._lines.values():
            line.settle()
            owners, plain = line.plain.owners[: line.plain.count], line.plain.values[:, : line.plain.count]
            moved = plain * line.coordinate
            accounts[EQUITY, owners] += moved[EQUITY_SLOPE]
            accounts[USED, owners] += moved[USED_SLOPE]
            scale[owners] += np.abs(moved).sum(axis=0)
            owners, bent = line.bent.owners[: line.bent.count], line.bent.values[:, : line.bent.count]
            parts = (
                bent[HAS_SLOPE] * line.coordinate,
                needs_of(bent, line.coordinate),
                bent[ISOLATED_SLOPE] * line.coordinate,
            )
            for column, part in zip((HAS, NEEDS, ISOLATED), parts, strict=True):
                purses[column, owners] += part
                purse_scale[owners] += np.abs(part)
            purse_scale[owners] += bent[NEEDS_SLOPE] * line.coordinate + bent[ADDING]
        for rate in self._rates_by_number:
            self._rate_values[rate.number] = value = rate.value_now()
            owners = rate.purses.owners[: rate.purses.count]
            self._add_purses(owners, purses[:, owners] * value)
            scale[self._purse_links[HOLDER, owners]] += purse_scale[owners] * value
        accounts[GUARD] = scale * GUARD_RATIO + GUARD_AMOUNT
        self._marks_since_rebase = 0

    # A mark

    def _move_plain(self, line: "Line", before: float) -> Numbers:
        equity, used = self._accounts.values[EQUITY], self._accounts.values[USED]
        owners, slopes = line.plain.owners[: line.plain.count], line.plain.values[:, : line.plain.count]
        by = line.coordinate - before
        equity[owners] = equity.take(owners, mode="clip") + slopes[EQUITY_SLOPE] * by
        used[owners] = used.take(owners, mode="clip") + slopes[USED_SLOPE] * by
        return owners

    def _move_bent(self, line: "Line", before: float) -> tuple[Numbers, Numbers]:
        """Their holders, and those whose isolated positions have left their price bounds."""
        owners, bent = line.bent.owners[: line.bent.count], line.bent.values[:, : line.bent.count]
        by = line.coordinate - before
        moved = np.empty((3, owners.size))
        moved[HAS] = bent[HAS_SLOPE] * by
        moved[NEEDS] = needs_of(bent, line.coordinate) - needs_of(bent, before)
        moved[ISOLATED] = bent[ISOLATED_SLOPE] * by
        self._purses.values[: ISOLATED + 1, owners] += moved
        self._add_purses(owners, moved * self._rate_values[self._purse_links[RATE, owners]])
        holders = self._purse_links[HOLDER, owners]
        outside = (line.price <= bent[LEAST]) | (line.price >= bent[MOST])
        return holders, holders[outside]

    def _move_rate(self, rate: "Rate") -> Numbers:
        value = rate.value_now()
        by, self._rate_values[rate.number] = value - self._rate_values[rate.number], value
        owners = rate.purses.owners[: rate.purses.count]
        self._add_purses(owners, self._purses.values[: ISOLATED + 1, owners] * by)
        holders: Numbers = self._purse_links[HOLDER, owners]
        return holders

    def _add_purses(self, owners: Numbers, amounts: Floats) -> None:
        """Add to the accounts what their purses gained, in their currency; no account has two of `owners`."""
        accounts, holders = self._accounts.values, self._purse_links[HOLDER, owners]
        accounts[EQUITY, holders] += amounts[HAS]
        accounts[USED, holders] += amounts[NEEDS]
        accounts[FLOOR, holders] -= amounts[ISOLATED]
        accounts[CEILING, holders] -= amounts[ISOLATED]

    def _crossed(self, numbers: Numbers) -> Numbers:
        """Those of `numbers` outside their bounds, or so near to one that floats can't tell."""
        columns = self._accounts.values

        def of(column: int) -> Floats:
            taken: Floats = columns[column].take(numbers, mode="clip")
            return taken

        equity, used, guard = of(EQUITY), of(USED), of(GUARD)
        outside = used + guard >= of(HIGH) * equity
        outside |= used - guard < of(LOW) * equity
        outside |= equity - guard <= of(FLOOR)
        outside |= equity + guard > of(CEILING)
        return numbers[outside.nonzero()[0]]

    def _lose_sight(self, symbol: str) -> Numbers:
        """A real account has no price where only a recording has one: it is named until it is assessed and updated."""
        holders = self._holders(symbol)
        real = holders[self._real[holders]]
        self._name_always(real)
        return real

    def _name_always(self, numbers: Numbers) -> None:
        self._accounts.values[FLOOR, numbers] = self._accounts.values[FIXED_FLOOR, numbers] = ALWAYS

    def _holders(self, symbol: str) -> Numbers:
        line = self._lines.get(symbol)
        if line is None:
            return np.zeros(0, dtype=np.int64)
        tables = [line.bent, *(rate.purses for rate in line.rates)]
        purses = np.concatenate([table.owners[: table.count] for table in tables])
        plain = line.plain.owners[: line.plain.count]
        return np.unique(np.concatenate([plain, self._purse_links[HOLDER, purses]]))

    # An account

    def _enter(self, account: Account) -> "Entry":
        number = self._accounts.take()
        if number == len(self._names):
            self._names.append("")
        self._real = lengthened(self._real, self._accounts.capacity)
        self._names[number] = account.account_id
        self._real[number] = account.environment is not Environment.SANDBOX
        entry = self._entries[account.account_id] = Entry(number)
        return entry

    def _trade(self, slopes: Slopes, world: World) -> None:
        """Make the lines that the account rests on; one without a price takes over the world's."""
        lines, instruments = self._lines, world.house.instruments
        valuing = (purse.terms.symbols for purse in slopes.purses.values())
        for symbol in chain(slopes.plain, slopes.bent, *valuing):
            line = lines.get(symbol)
            if line is None:
                line = lines[symbol] = Line()
            if line.instrument is not instruments.get(symbol):
                line.trade(instruments.get(symbol))
            if not line.price and symbol in world.marks:
                line.move(world.marks[symbol].price)

    def _hold(self, entry: "Entry", slopes: Slopes) -> None:
        """Put the account's plain holdings and its own columns in their places, at the lines' prices."""
        lines, rows, plain = self._lines, entry.plain, slopes.plain
        if rows.keys() != plain.keys():
            for symbol in rows.keys() - plain.keys():
                row = rows.pop(symbol)
                moved = lines[symbol].plain.remove(row)
                if moved is not None:
                    self._entries[self._names[moved]].plain[symbol] = row
            for symbol in plain.keys() - rows.keys():
                rows[symbol] = lines[symbol].plain.add(entry.number)
        equity, used, isolated = slopes.equity, slopes.used, 0.0
        for symbol, (equity_slope, used_slope) in plain.items():
            line, row = lines[symbol], rows[symbol]
            values = line.plain.values
            values[EQUITY_SLOPE, row], values[USED_SLOPE, row] = equity_slope, used_slope
            equity += equity_slope * line.coordinate
            used += used_slope * line.coordinate
        for number in entry.purses.values():
            has, needs, apart = self._purses.values[: ISOLATED + 1, number].tolist()
            rate = float(self._rate_values[self._purse_links[RATE, number]])
            equity += has * rate
            used += needs * rate
            isolated += apart * rate
        self._accounts.values[:, entry.number] = (
            equity,
            used,
            slopes.low,
            slopes.high,
            slopes.floor - isolated,
            slopes.ceiling - isolated,
            slopes.scale * GUARD_RATIO + GUARD_AMOUNT,
            slopes.equity,
            slopes.used,
            slopes.floor,
            slopes.ceiling,
        )

    def _fill(self, entry: "Entry", slopes: Slopes) -> None:
        """Replace the account's purses and the bent holdings that move them."""
        for symbol, row in entry.bent.items():
            moved = self._lines[symbol].bent.remove(row)
            if moved is not None:
                self._entries[self._names[self._purse_links[HOLDER, moved]]].bent[symbol] = row
        for number in entry.purses.values():
            links = self._purse_links
            place = int(links[PLACE, number])
            moved = self._rates_by_number[links[RATE, number]].purses.remove(place)
            if moved is not None:
                links[PLACE, moved] = place
            self._purses.give(number)
        entry.bent, entry.purses = {}, {}
        for asset, purse in slopes.purses.items():
            rate = self._rate(asset, purse.terms)
            number = entry.purses[asset] = self._purses.take()
            self._purse_links = lengthened(self._purse_links, self._purses.capacity)
            self._purse_links[:, number] = entry.number, rate.number, rate.purses.add(number)
            fixed = purse.has, purse.needs, purse.isolated
            self._purses.values[:, number] = (*fixed, *fixed)
        for symbol, bent in slopes.bent.items():
            line, number = self._lines[symbol], entry.purses[bent.asset]
            row = entry.bent[symbol] = line.bent.add(number)
            line.bent.values[:, row] = bent[1:]
            moved_by = (
                bent.has_slope * line.coordinate,
                bent.needs(line.coordinate),
                bent.isolated_slope * line.coordinate,
            )
            self._purses.values[: ISOLATED + 1, number] += moved_by

    def _rate(self, asset: str, terms: Terms) -> "Rate":
        rate = self._rates.get((asset, terms))
        if rate is None:
            assert terms.factor is not None
            lines = [self._lines[symbol] for symbol in terms.symbols]
            rate = self._rates[asset, terms] = Rate(len(self._rates_by_number), terms.factor, lines)
            self._rates_by_number.append(rate)
            self._rate_values = np.append(self._rate_values, rate.value_now())
            for line in dict.fromkeys(lines):
                line.rates.append(rate)
        return rate


class Entry:
    """Where an account stands in the columns: its number, its row on each symbol, its purse of each asset."""

    __slots__ = ("bent", "number", "plain", "purses")

    def __init__(self, number: int) -> None:
        self.number = number
        self.plain: dict[str, int] = {}
        self.bent: dict[str, int] = NONE
        self.purses: dict[str, int] = NONE


NONE: Final[dict[str, int]] = {}
"""What most entries share instead of an empty dictionary of their own; never written to."""


class Line:
    """One symbol: its price, who holds it, and the rates that rest on it."""

    __slots__ = ("bent", "coordinate", "highest", "instrument", "inverse", "lowest", "plain", "price", "rates")

    def __init__(self) -> None:
        self.plain = Rows(2)
        self.bent = Rows(7)
        self.rates: list[Rate] = []
        self.instrument: Instrument | None = None
        self.inverse = False
        self.price = self.coordinate = 0.0
        """0 before the first mark: only holdings without slopes rest on it then."""
        self.lowest = self.highest = 0.0
        """Between these prices the guard band holds."""

    def trade(self, instrument: Instrument | None) -> None:
        """Take over the terms."""
        self.instrument = instrument
        self.inverse = instrument is not None and instrument.inverse
        self._place()

    def move(self, price: Decimal) -> None:
        first = not self.price
        self.price = float(price)
        self._place()
        if first:
            self.settle()

    def settle(self) -> None:
        self.lowest, self.highest = self.price / PRICE_RANGE, self.price * PRICE_RANGE

    def _place(self) -> None:
        self.coordinate = 1.0 / self.price if self.inverse and self.price else self.price


class Rate:
    """What one unit of an asset is worth in one currency, and the purses that hold it."""

    __slots__ = ("factor", "lines", "number", "purses")

    def __init__(self, number: int, factor: float, lines: Sequence[Line]) -> None:
        self.number = number
        self.factor = factor
        self.lines = lines
        self.purses = Rows(0)

    def value_now(self) -> float:
        return self.factor * math.prod(line.price for line in self.lines)


class Rows:
    """Columns of rows that belong to numbered owners, without gaps: the last row takes a removed one's place."""

    __slots__ = ("count", "owners", "values")

    def __init__(self, width: int) -> None:
        self.count = 0
        self.owners: Numbers = np.zeros(0, dtype=np.int64)
        self.values: Floats = np.zeros((width, 0))

    def add(self, owner: int) -> int:
        row = self.count
        if row == self.owners.size:
            self.owners = lengthened(self.owners, max(4, row * 2))
            self.values = lengthened(self.values, max(4, row * 2))
        self.owners[row] = owner
        self.count += 1
        return row

    def remove(self, row: int) -> int | None:
        """Remove a row, and name the owner of the one that now is in its place."""
        last = self.count = self.count - 1
        if row == last:
            return None
        self.owners[row] = self.owners[last]
        self.values[:, row] = self.values[:, last]
        return int(self.owners[row])


class Slots:
    """Columns of numbered places that stay where they are; given ones are taken again."""

    __slots__ = ("_count", "_given", "values")

    def __init__(self, width: int) -> None:
        self.values: Floats = np.zeros((width, 0))
        self._count = 0
        self._given: list[int] = []

    @property
    def capacity(self) -> int:
        return int(self.values.shape[1])

    def take(self) -> int:
        if self._given:
            return self._given.pop()
        if self._count == self.capacity:
            self.values = lengthened(self.values, max(16, self._count * 2))
        self._count += 1
        return self._count - 1

    def give(self, number: int) -> None:
        self.values[:, number] = 0.0
        self._given.append(number)


def needs_of(bent: Floats, coordinate: float) -> Floats:
    """As `Bent.needs`, of many."""
    needs: Floats = np.maximum(bent[NEEDS_SLOPE] * coordinate + bent[ADDING], bent[OPPOSING])
    return needs


def lengthened(array: NDArray[Scalar], length: int) -> NDArray[Scalar]:
    """`array` with zeros at the end of its last axis, at least `length` long; itself where it is already."""
    missing = length - array.shape[-1]
    if missing <= 0:
        return array
    return np.concatenate([array, np.zeros((*array.shape[:-1], missing), dtype=array.dtype)], axis=-1)
