"""Values that several services share: orders, marks, positions, fills, alerts and the figures that decide.

Amounts are in the account's currency and ratios are fractions (0.60 is 60 %) unless a field says otherwise. What is not
known is None, never zero.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from debt_mgmt.client.decimals import Number, decimal, optional_decimal
from debt_mgmt.client.enums import (
    AlertKind,
    AlertSeverity,
    MarginMode,
    PositionSide,
    Provenance,
    RiskLevel,
    ShockTarget,
    Side,
)


def assign(value: object, **fields: Any) -> None:
    """Sets the fields of a frozen value while it is being made."""
    for name, item in fields.items():
        object.__setattr__(value, name, item)


@dataclass(frozen=True, slots=True, init=False)
class AssetAmount:
    """An amount of one asset. Signed: a negative balance is owed."""

    asset: str
    amount: Decimal

    def __init__(self, asset: str, amount: Number) -> None:
        assign(self, asset=asset, amount=decimal(amount, "amount"))


@dataclass(frozen=True, slots=True, init=False)
class Order:
    """An order to check, reserve margin for or simulate. The service does not send it anywhere."""

    symbol: str
    side: Side
    quantity: Decimal
    """In contracts; above zero."""
    price: Decimal | None
    """Limit price in quote currency per unit. None: a market order, taken at the mark price."""
    reduce_only: bool
    position_side: PositionSide | None
    """The leg meant, on a hedge account. None on a one-way account."""
    strategy: str | None
    """That it belongs to. None: none."""

    def __init__(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number | None = None,
        *,
        reduce_only: bool = False,
        position_side: PositionSide | str | None = None,
        strategy: str | None = None,
    ) -> None:
        assign(
            self,
            symbol=symbol,
            side=Side(side),
            quantity=decimal(quantity, "quantity"),
            price=optional_decimal(price, "price"),
            reduce_only=reduce_only,
            position_side=None if position_side is None else PositionSide(position_side),
            strategy=strategy or None,
        )

    @classmethod
    def buy(
        cls,
        symbol: str,
        quantity: Number,
        price: Number | None = None,
        *,
        reduce_only: bool = False,
        position_side: PositionSide | str | None = None,
        strategy: str | None = None,
    ) -> Self:
        """An order that buys `quantity` contracts, at `price` or better, or at the market."""
        side = Side.BUY
        return cls(
            symbol, side, quantity, price, reduce_only=reduce_only, position_side=position_side, strategy=strategy
        )

    @classmethod
    def sell(
        cls,
        symbol: str,
        quantity: Number,
        price: Number | None = None,
        *,
        reduce_only: bool = False,
        position_side: PositionSide | str | None = None,
        strategy: str | None = None,
    ) -> Self:
        """An order that sells `quantity` contracts, at `price` or better, or at the market."""
        side = Side.SELL
        return cls(
            symbol, side, quantity, price, reduce_only=reduce_only, position_side=position_side, strategy=strategy
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mark price: the venue's fair price by which margin is computed."""

    symbol: str
    """Instrument, or ASSET/CURRENCY where an asset is valued by it."""
    price: Decimal
    """In quote currency per unit."""
    source: str
    source_time: datetime | None
    received_time: datetime
    age: timedelta
    """Age when the answer was made."""
    stale: bool
    """True: older than allowed. New risk is refused and the level is UNKNOWN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyQuantity:
    """What of a position was traded by one strategy."""

    strategy: str
    quantity: Decimal
    """In contracts; positive is long, negative short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One open position. What depends on the mark price is None where none is known."""

    account_id: str
    symbol: str
    position_side: PositionSide
    quantity: Decimal
    """In contracts; positive is long, negative short, on hedge legs too."""
    entry_price: Decimal
    mark_price: Decimal | None
    notional: Decimal | None
    """Value at the mark; never negative."""
    leverage: Decimal
    margin_mode: MarginMode
    isolated_margin: Decimal | None
    """Margin posted on the position. None on CROSS."""
    initial_margin: Decimal | None
    maintenance_margin: Decimal | None
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal
    """Realized on this position since it was opened, without fees."""
    liquidation_price: Decimal | None
    """Mark at which the maintenance ratio is 1, all else unchanged. None: no such price, or not known."""
    bankruptcy_price: Decimal | None
    """Mark at which the equity, or the posted margin, is used up. None: no such price, or not known."""
    distance_to_liquidation: Decimal | None
    """|liquidation price − mark| ÷ mark; 0 when already past it."""
    open_time: datetime
    venue_liquidation_price: Decimal | None
    """The liquidation price that came from the venue. None: none came, or a SANDBOX account."""
    venue_liquidation_price_provenance: Provenance | None
    """Whose number that is. None without one."""
    strategies: tuple[StrategyQuantity, ...] = ()
    """What each strategy has traded of it, by name. What belongs to none is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginFigures:
    """The figures that decide."""

    equity: Decimal | None
    margin_used: Decimal | None
    margin_available: Decimal | None
    margin_utilization: Decimal | None
    """Margin used ÷ equity; high is bad. None also where equity is not above zero while margin is used: that counts as
    above every threshold."""
    maintenance_margin: Decimal | None
    maintenance_ratio: Decimal | None
    """Maintenance margin ÷ equity; venues liquidate at 1. None as `margin_utilization`."""
    level: RiskLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Utilizations at which the service acts."""

    margin_call_threshold: Decimal
    """WARNING from here."""
    liquidation_threshold: Decimal
    """CRITICAL from here: no new risk."""
    forced_liquidation_threshold: Decimal
    """LIQUIDATING from here: positions are reduced by force."""
    liquidation_target: Decimal
    """Utilization to which a forced reduction returns."""
    hysteresis: Decimal
    """How far below its threshold a level is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShockDistance:
    """How far all prices, moved by the same fraction, are from a target. None: no such move reaches it."""

    target: ShockTarget
    up: Decimal | None
    """Smallest rise that reaches it: 0.05 is +5 %."""
    down: Decimal | None
    """Smallest fall that reaches it: -0.05 is −5 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution."""

    fill_id: str
    symbol: str
    side: Side
    position_side: PositionSide
    quantity: Decimal
    price: Decimal
    fee: Decimal
    """In `fee_asset`; paid is positive, a rebate negative."""
    fee_asset: str | None
    realized_pnl: Decimal
    """Without the fee, in settlement currency; 0 when it only opened."""
    fill_time: datetime
    strategy: str | None = None
    """That it belongs to. None: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that an operator or a strategy should know."""

    alert_id: str
    account_id: str | None
    """None: the whole service."""
    kind: AlertKind
    severity: AlertSeverity
    time: datetime
    level: RiskLevel | None
    """The account's risk level then."""
    utilization: Decimal | None
    message: str
    marks: tuple[Mark, ...]
    """Prices that it was decided on."""
    acknowledged: bool
    acknowledged_by: str | None
    acknowledge_time: datetime | None
