"""What accounts use of the nodes of the tree of limits: their own part without prices, and what all others use."""

from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from debt_mgmt.core.account import Account, PositionMode, Side
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.money import ZERO


class OutsideUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node's other accounts use, and the orders of all of them: as of the moment of a decision."""

    exposure: Decimal | None = ZERO
    """In the set's currency; None where something has no price, zero where the set does not limit it."""
    positions: int = 0
    reservations: int = 0
    orders: int = 0
    """Risk-adding orders within the set's interval, those of the account itself too."""
    missing: str = ""
    """What has no price."""


class Outside(Protocol):
    """Whoever knows what all accounts use."""

    def of(self, limit_set: LimitSet, account: Account, at: datetime) -> OutsideUse | None:
        """What a set's node uses apart from this account; None where that is not known."""
        ...


class OutsideRead:
    """What is known of others, remembering what of it was asked for."""

    __slots__ = ("known", "read")

    def __init__(self, known: Outside) -> None:
        self.known = known
        self.read: dict[str, OutsideUse] = {}

    def of(self, limit_set: LimitSet, account: Account, at: datetime) -> OutsideUse | None:
        found = self.known.of(limit_set, account, at)
        if found is not None:
            self.read[limit_set.key] = found
        return found


class OutsideThen:
    """What a decision was told of others, by the keys of the limit sets."""

    __slots__ = ("told",)

    def __init__(self, told: dict[str, OutsideUse]) -> None:
        self.told = told

    def of(self, limit_set: LimitSet, account: Account, at: datetime) -> OutsideUse | None:
        return self.told.get(limit_set.key)


class OwnUse:
    """What one account has, or one strategy of it, with its open orders: quantities by instrument, without prices.

    The quantity of a side is what is held in its direction if all its open orders fill; below zero is the other one.
    """

    __slots__ = ("one_way", "reservations", "sides")

    def __init__(self, account: Account, strategy: str = "") -> None:
        self.one_way = account.position_mode is PositionMode.ONE_WAY
        self.sides: dict[str, dict[Side, Decimal]] = {}
        """Of each instrument that is held or on order."""
        self.reservations: dict[str, int] = {}
        for key, quantity in held_by(account, strategy).items():
            self.hold(key.partition("|")[0], quantity)
        for one in account.reservations.values():
            if strategy in ("", one.strategy):
                self.reserve(one.symbol)
                if not one.reduce_only:
                    self.order(one.symbol, one.side, one.quantity)

    def side(self, symbol: str, side: Side) -> Decimal:
        sides = self.sides.get(symbol)
        return ZERO if sides is None else sides[side]

    def most(self, symbol: str, side: Side = Side.BUY, more: Decimal = ZERO) -> Decimal:
        """Contracts that count as exposure on an instrument if `more` is ordered on one side: its larger direction.

        In hedge mode the legs stand apart, so both directions count.
        """
        same, other = max(ZERO, self.side(symbol, side) + more), max(ZERO, self.side(symbol, side.opposite))
        return max(same, other) if self.one_way else same + other

    def quantities(self, symbol: str = "") -> dict[str, Decimal]:
        """`most` of every instrument, or of one."""
        return {name: self.most(name) for name in self.sides if symbol in ("", name)}

    def largest(self, symbol: str = "") -> dict[str, Decimal]:
        """Contracts of the largest position that each instrument, or one, can come to have."""
        return {name: max(ZERO, *sides.values()) for name, sides in self.sides.items() if symbol in ("", name)}

    def positions(self, symbol: str = "") -> int:
        """Instruments held or on order."""
        return len(self.sides) if not symbol else int(symbol in self.sides)

    def open_reservations(self, symbol: str = "") -> int:
        return sum(self.reservations.values()) if not symbol else self.reservations.get(symbol, 0)

    def hold(self, symbol: str, quantity: Decimal) -> None:
        """Count what is held of a position, in signed contracts."""
        sides = self.sides.setdefault(symbol, {Side.BUY: ZERO, Side.SELL: ZERO})
        for side in sides:
            held = quantity * side.sign
            if self.one_way or held > 0:
                sides[side] += held

    def order(self, symbol: str, side: Side, quantity: Decimal) -> None:
        """Count an open order that may add to what is held."""
        self.sides.setdefault(symbol, {Side.BUY: ZERO, Side.SELL: ZERO})[side] += quantity

    def reserve(self, symbol: str) -> None:
        self.reservations[symbol] = self.reservations.get(symbol, 0) + 1


def held_by(account: Account, strategy: str) -> dict[str, Decimal]:
    """Signed contracts by position key: of the account, or what one strategy has of it.

    Of a position that is flat because another strategy has the opposite, too.
    """
    if not strategy:
        return {key: one.quantity for key, one in account.positions.items()}
    return account.strategies.get(strategy, {})
