"""What an account would be after orders, fills, price shocks, leverage or deposit changes that did not happen."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from debt_mgmt.client.answers import Answer, Violation
from debt_mgmt.client.call import Call, query, whole
from debt_mgmt.client.decimals import Number, decimal, optional_decimal
from debt_mgmt.client.enums import PositionSide, Side
from debt_mgmt.client.figures import AssetAmount, MarginFigures, Mark, Order, Position, ShockDistance, assign
from debt_mgmt.client.methods import Methods, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import margin_service_pb2 as pb


@dataclass(frozen=True, slots=True, init=False)
class SimulatedFill:
    """A fill that did not happen."""

    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None
    """In quote currency per unit. None: the mark."""
    position_side: PositionSide | None

    def __init__(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number | None = None,
        *,
        position_side: PositionSide | str | None = None,
    ) -> None:
        assign(
            self,
            symbol=symbol,
            side=Side(side),
            quantity=decimal(quantity, "quantity"),
            price=optional_decimal(price, "price"),
            position_side=None if position_side is None else PositionSide(position_side),
        )


@dataclass(frozen=True, slots=True, init=False)
class PriceShock:
    """A move of prices: by a fraction (-0.10 is −10 %) of one symbol or of all, or of one symbol to a price."""

    fraction: Decimal | None
    price: Decimal | None
    symbol: str | None

    def __init__(
        self, fraction: Number | None = None, *, price: Number | None = None, symbol: str | None = None
    ) -> None:
        if (fraction is None) == (price is None):
            raise ValueError("a price shock has a fraction or a price, and not both")
        if price is not None and symbol is None:
            raise ValueError("a price shock to a price needs a symbol")
        assign(
            self,
            fraction=optional_decimal(fraction, "fraction"),
            price=optional_decimal(price, "price"),
            symbol=symbol,
        )


@dataclass(frozen=True, slots=True, init=False)
class SimulatedLeverage:
    """A leverage that is not set."""

    symbol: str
    leverage: Decimal

    def __init__(self, symbol: str, leverage: Number) -> None:
        assign(self, symbol=symbol, leverage=decimal(leverage, "leverage"))


MarginChange = Order | SimulatedFill | PriceShock | SimulatedLeverage | AssetAmount
"""One hypothetical change. An order rests: its margin is held. An AssetAmount is deposited; withdrawn if negative."""

CHANGES: dict[type, str] = {
    Order: "order",
    SimulatedFill: "fill",
    PriceShock: "price_shock",
    SimulatedLeverage: "leverage",
    AssetAmount: "deposit",
}
"""The field of a change, by its type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginChangeResult:
    """What became of one change. A refused change has no effect on those after it."""

    accepted: bool
    """True: the rules would allow it."""
    violations: tuple[Violation, ...]
    realized_pnl: Decimal | None
    """PnL that it realizes, in the account's currency. None when it realizes nothing."""
    after: MarginFigures
    """The account after this change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAccount:
    """An account in a simulation."""

    figures: MarginFigures
    positions: tuple[Position, ...]
    marks: tuple[Mark, ...]
    """Prices used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(Answer):
    """The account before and after."""

    before: SimulatedAccount
    after: SimulatedAccount
    results: tuple[MarginChangeResult, ...]
    """One per change, in the order of the request."""
    shocks: tuple[ShockDistance, ...]
    """How far all prices may then move to each level. Empty when prices are missing."""


class SimulationMethods(Methods):
    """Computes what would be."""

    @unary
    def simulate(
        self, account_id: str, changes: Sequence[MarginChange] = (), *, timeout: Timeout = None
    ) -> Call[Simulation]:
        """The account after any list of changes, each on top of those before it, by the rules that decide in earnest.

        Records nothing. Without changes: the account as it is, with its distances.
        """
        request = pb.SimulateMarginRequest(account_id=account_id, changes=[change_sent(each) for each in changes])
        return query(self.raw.margin.SimulateMargin, request, whole(Simulation), timeout, "check")


def change_sent(change: MarginChange) -> pb.MarginChange:
    """What is sent for a change. Raises TypeError for what is none."""
    if type(change) not in CHANGES:
        raise TypeError(f"a change is one of {', '.join(kind.__name__ for kind in CHANGES)}, not {change!r}")
    return message(pb.MarginChange, **{CHANGES[type(change)]: change})
