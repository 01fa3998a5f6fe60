"""What a simulated exchange keeps: instruments, positions, orders, trades, and the reasons of its refusals."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

ZERO = Decimal(0)
DOLLARS = frozenset({"USD", "USDT", "USDC"})


class Kind(StrEnum):
    """What is traded: the quantity is in base (spot), in contracts settled in quote (linear) or in base (inverse)."""

    SPOT = "spot"
    LINEAR = "linear"
    INVERSE = "inverse"


class Leg(StrEnum):
    """Which of a symbol's positions: the only one of a one-way account, or one of the two of a hedge account."""

    NET = "net"
    LONG = "long"
    SHORT = "short"


class Mode(StrEnum):
    """Which money stands behind a position."""

    CROSS = "cross"
    ISOLATED = "isolated"


class Status(StrEnum):
    """Where an order stands."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"


class Why(StrEnum):
    """Why a venue refuses; each simulator spells it as its venue does."""

    UNKNOWN_CALL = "unknown call"
    UNKNOWN_SYMBOL = "unknown symbol"
    BAD_VALUE = "bad value"
    LEVERAGE_SAME = "leverage not modified"
    LEVERAGE_TOO_HIGH = "leverage above the tier"
    LEVERAGE_STEP = "leverage not a step"
    LEVERAGE_HELD = "leverage of an open position"
    MODE_SAME = "margin mode not modified"
    MODE_HELD = "margin mode of an open position"
    HEDGE_SAME = "position mode not modified"
    HEDGE_HELD = "position mode with open positions"
    NOT_ISOLATED = "position is not isolated"
    NO_POSITION = "no position"
    REDUCE_ONLY = "reduce-only order would not reduce"
    WRONG_LEG = "order does not fit the position mode"
    DUPLICATE_ID = "client order id was used"
    UNKNOWN_ORDER = "unknown order"
    NOT_ENOUGH = "not enough margin"
    QUANTITY = "quantity off the lot"
    QUANTITY_SMALL = "quantity under the smallest"
    PRICE = "price off the tick"
    BORROW_LIMIT = "cannot borrow so much"
    NO_DEBT = "nothing to repay"
    NO_KEY = "key missing or unknown"
    NO_SIGNATURE = "signature missing or wrong"
    NO_PERMISSION = "key may not do this"
    CLOCK = "timestamp outside the window"


class Refused(Exception):
    """The venue refuses what it was asked."""

    def __init__(self, why: Why, note: str = "") -> None:
        super().__init__(f"{why.value}: {note}" if note else why.value)
        self.why = why
        self.note = note


class Tier(msgspec.Struct, frozen=True):
    """A step of a venue's risk limits, up to a notional in quote (contracts where `Listing.tiers_in_contracts`)."""

    limit: Decimal
    leverage_max: Decimal
    maintenance_rate: Decimal
    deduction: Decimal = ZERO


def stepped(*rows: tuple[str, str, str]) -> tuple[Tier, ...]:
    """Tiers of (limit, largest leverage, maintenance rate), with the deductions that join them without a jump."""
    tiers: list[Tier] = []
    for limit, leverage_max, rate in rows:
        deduction = ZERO
        if tiers:
            before = tiers[-1]
            deduction = before.limit * (Decimal(rate) - before.maintenance_rate) + before.deduction
        tiers.append(Tier(Decimal(limit), Decimal(leverage_max), Decimal(rate), deduction))
    return tuple(tiers)


class Listing(msgspec.Struct, frozen=True):
    """An instrument as the venue lists it; `symbol` in the venue's own spelling."""

    symbol: str
    base: str
    quote: str
    settle: str
    kind: Kind
    tick: Decimal
    lot: Decimal
    tiers: tuple[Tier, ...]
    contract_size: Decimal = Decimal(1)
    smallest: Decimal = ZERO
    tiers_in_contracts: bool = False

    def value(self, quantity: Decimal, price: Decimal) -> Decimal:
        """The worth of a quantity in the settlement asset."""
        if self.kind is Kind.INVERSE:
            return abs(quantity) * self.contract_size / price
        return abs(quantity) * self.contract_size * price

    def notional(self, quantity: Decimal, price: Decimal) -> Decimal:
        """The same in quote."""
        if self.kind is Kind.INVERSE:
            return abs(quantity) * self.contract_size
        return abs(quantity) * self.contract_size * price

    def profit(self, quantity: Decimal, entry: Decimal, price: Decimal) -> Decimal:
        """What a signed quantity won from `entry` to `price`, in the settlement asset."""
        if self.kind is Kind.INVERSE:
            return quantity * self.contract_size * (1 / entry - 1 / price)
        return quantity * self.contract_size * (price - entry)

    def tier(self, quantity: Decimal, price: Decimal) -> Tier:
        """The tier that a position falls into; the last one where it is larger than all."""
        size = abs(quantity) if self.tiers_in_contracts else self.notional(quantity, price)
        return next((tier for tier in self.tiers if size <= tier.limit), self.tiers[-1])


class Position(msgspec.Struct):
    """Signed quantity in contracts; `margin` is what was put behind an isolated one."""

    symbol: str
    leg: Leg
    quantity: Decimal
    entry: Decimal
    mode: Mode
    leverage: Decimal
    margin: Decimal
    opened_at: datetime
    updated_at: datetime
    realized: Decimal = ZERO


class Order(msgspec.Struct):
    """An order the venue took; `price` is None for one at the market."""

    order_id: str
    client_order_id: str
    symbol: str
    buy: bool
    leg: Leg
    quantity: Decimal
    price: Decimal | None
    reduce_only: bool
    leverage: Decimal | None
    created_at: datetime
    updated_at: datetime
    status: Status = Status.OPEN
    filled: Decimal = ZERO
    average: Decimal | None = None
    fee: Decimal = ZERO
    liquidation: bool = False

    @property
    def left(self) -> Decimal:
        return self.quantity - self.filled


class Trade(msgspec.Struct, frozen=True):
    """A fill: `fee` above zero was paid in `fee_asset`; `closed` is the part that reduced a position."""

    trade_id: str
    order_id: str
    client_order_id: str
    symbol: str
    buy: bool
    leg: Leg
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    closed: Decimal
    profit: Decimal
    at: datetime


class Interest(msgspec.Struct, frozen=True):
    """One hour's interest of a debt."""

    asset: str
    amount: Decimal
    rate: Decimal
    principal: Decimal
    at: datetime


class Health(msgspec.Struct, frozen=True):
    """The account in dollars, over every asset and position."""

    equity: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
    isolated_profit: Decimal = ZERO
    """What isolated positions won, which stays with them."""

    @property
    def available(self) -> Decimal:
        return max(ZERO, self.equity - self.initial_margin - self.isolated_profit)
