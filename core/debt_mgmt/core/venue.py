"""What a venue says about an account, and what the house keeps of it. None is unknown and stays unknown."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.money import ZERO
from debt_mgmt.core.sides import MarginMode, PositionSide, Side, position_key


class Provenance(StrEnum):
    """Whose number it is: the venue's own, or an estimate made on this side of the wire."""

    VENUE = "VENUE"
    OWN = "OWN"


class VenueBalance(msgspec.Struct, frozen=True, omit_defaults=True):
    """One asset in the wallet. `total` is settled money without open profit, with what was borrowed in it."""

    asset: str
    total: Decimal
    free: Decimal | None = None
    debt: Decimal | None = None
    """Borrowed principal; zero only where the venue says zero."""
    interest: Decimal | None = None
    """Accrued and not yet paid."""


class VenuePosition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One open position or leg. `symbol` is the house's name (`bybit:BTCUSDT`), `quantity` signed, in contracts."""

    symbol: str
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    leverage: Decimal | None = None
    margin_mode: MarginMode | None = None
    isolated_margin: Decimal | None = None
    """Posted for this position alone, in the settlement asset, without open profit."""
    liquidation_price: Decimal | None = None
    liquidation_price_is_venues: bool = True
    """False where the client library estimated it."""
    unrealized_pnl: Decimal | None = None
    """In the settlement asset, as are both margins."""
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None

    @property
    def key(self) -> str:
        return position_key(self.symbol, self.side)


class VenueOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """An open order at the venue. `quantity` is what is still open, unsigned, in contracts."""

    order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    position_side: PositionSide = PositionSide.NET
    client_order_id: str = ""
    price: Decimal | None = None
    """Its limit; None where it has none."""
    reduce_only: bool = False


class VenueFill(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the venue's own trades of this account, so that a fill which an engine reports is never counted twice."""

    fill_id: str
    order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime
    position_side: PositionSide = PositionSide.NET
    client_order_id: str = ""
    fee: Decimal | None = None
    fee_asset: str = ""


class VenueHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """The venue's own figures of the whole account, in `currency` (empty: the account's own)."""

    currency: str = ""
    equity: Decimal | None = None
    """Wallet and open profit, isolated positions included, less debt, before haircuts."""
    initial_margin: Decimal | None = None
    """Of all positions, isolated ones too, and of open orders."""
    maintenance_margin: Decimal | None = None
    available: Decimal | None = None
    provenance: Provenance = Provenance.VENUE


class VenueState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole account as read from the venue. A position or order that is not in it does not exist there.

    `at` is when reading began, so that whatever happened later is known not to be in it for certain.
    """

    at: datetime
    balances: tuple[VenueBalance, ...] = ()
    positions: tuple[VenuePosition, ...] = ()
    orders: tuple[VenueOrder, ...] = ()
    health: VenueHealth = VenueHealth()
    leverage: dict[str, Decimal] = {}
    """By symbol, where the venue tells it also without a position."""
    margin_modes: dict[str, MarginMode] = {}
    hedge: bool | None = None
    """Whether the account holds a long and a short leg apart; None where the venue does not say."""
    fills: tuple[VenueFill, ...] = ()
    """Recent trades, read before the positions; empty where they were not asked for."""
    apart: tuple[VenueBalance, ...] | None = None
    """A wallet that backs no position, with what was borrowed there. None: there is none, or it was not read."""


class SyncStatus(StrEnum):
    NEVER = "NEVER"
    FRESH = "FRESH"
    LOST = "LOST"


class Drift(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of ours that is further from the venue's than `tolerance`, with what ours was made of."""

    name: str
    """Such as `equity`, or `liquidation_price bybit:BTCUSDT`."""
    own: Decimal
    venue: Decimal
    tolerance: Decimal
    inputs: dict[str, Decimal] = {}


class SyncState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How well the venue's side of a live account is known. What was last known is kept, with its age."""

    status: SyncStatus = SyncStatus.NEVER
    at: datetime | None = None
    """When the state last taken over was read; None before the first."""
    reason: str = ""
    """Why it was lost."""
    health: VenueHealth = VenueHealth()
    positions: dict[str, VenuePosition] = {}
    """The venue's own numbers by position key."""
    seen: dict[str, Decimal] = {}
    """Contracts per order id, of the venue's own trades, that are in the positions taken over."""
    reported: dict[str, Decimal] = {}
    """Contracts per order id that were recorded on this side."""
    touched: dict[str, datetime] = {}
    """When a position (by key), the `balance ASSET`, the `terms SYMBOL` or the `order ID` last changed on this side.

    A state whose reading began before that may lack the change, so it does not undo it.
    """
    uncancelled: tuple[str, ...] = ()
    """Open orders that the venue would not cancel: tried again after each sync, and said once."""
    drift: dict[str, Drift] = {}
    """Figures that are beyond their tolerance, by name, as they were when that was found."""


class PositionChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A position that the venue has otherwise than it was known here. None: flat."""

    key: str
    before: Decimal | None
    after: Decimal | None


class VenueChangeKind(StrEnum):
    LEVERAGE = "LEVERAGE"
    MARGIN_MODE = "MARGIN_MODE"
    ISOLATED_MARGIN = "ISOLATED_MARGIN"


class VenueChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change asked of a venue and not yet answered. Of the three values the one of its kind is set."""

    change_id: str
    kind: VenueChangeKind
    symbol: str
    requested_at: datetime
    position_side: PositionSide = PositionSide.NET
    leverage: Decimal | None = None
    margin_mode: MarginMode | None = None
    amount: Decimal = ZERO
    """Isolated margin to add (above zero) or to take back."""
    leverage_before: Decimal | None = None
    """What is in force until the venue answers. A lower leverage is counted at once: it needs the larger margin."""


class LoanKind(StrEnum):
    BORROW = "BORROW"
    REPAY = "REPAY"


class VenueLoan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A loan or a repayment asked of a venue and not yet answered. It is sent once, and never again."""

    loan_id: str
    kind: LoanKind
    asset: str
    amount: Decimal
    requested_at: datetime
    apart: bool = False
    """In a wallet of the venue that backs no position: the debt is known, and counts in no margin."""
    sent_at: datetime | None = None
    """When it was about to be sent. From then on only the venue can tell what became of it."""
    owed_before: Decimal | None = None
    """What the venue showed as owed in the asset just before it was sent; None where it did not say."""


class OrderCancel(msgspec.Struct, frozen=True, omit_defaults=True):
    """An open order at the venue that is to be cancelled because it adds risk."""

    order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    reservation_id: str
    requested_at: datetime
    client_order_id: str = ""
