"""What happened between an account and its venue: syncs, changes and loans asked for, cancels, and dry run."""

from datetime import datetime
from decimal import Decimal

from debt_mgmt.core.account import Debt, Figures, MarginMode, Position, PositionMode, Reservation
from debt_mgmt.core.event import Event
from debt_mgmt.core.profit import Causes
from debt_mgmt.core.venue import (
    Drift,
    OrderCancel,
    PositionChange,
    VenueChange,
    VenueHealth,
    VenueLoan,
    VenuePosition,
)


class VenueChangeRequested(Event, frozen=True):
    """A change that the venue is to be asked for. `leverage` and `positions` are counted from here on where they need
    the larger margin: the lower leverage, and the isolated margin that is to be taken away."""

    change: VenueChange
    leverage: Decimal | None = None
    positions: tuple[Position, ...] = ()
    figures: Figures | None = None


class VenueChangeRefused(Event, frozen=True):
    """The venue refused, in its own words; leverage and positions are as before again."""

    change: VenueChange
    code: str
    message: str
    at: datetime
    leverage: Decimal | None = None
    positions: tuple[Position, ...] = ()
    figures: Figures | None = None


class AccountSynced(Event, frozen=True):
    """What the venue has otherwise than it was known here, and its own numbers. Read beginning at `at`.

    Balances, debts, leverage and margin modes: those that differ, as they are now; a balance or debt of zero is gone.
    """

    at: datetime
    position_mode: PositionMode
    balances: dict[str, Decimal] = {}
    debts: tuple[Debt, ...] = ()
    positions: tuple[Position, ...] = ()
    vanished: tuple[str, ...] = ()
    """Keys of positions that the venue no longer has."""
    changes: tuple[PositionChange, ...] = ()
    """How the quantities differ."""
    leverage: dict[str, Decimal] = {}
    margin_modes: dict[str, MarginMode] = {}
    reservations: tuple[Reservation, ...] = ()
    """Open orders of the venue that are held from here on, or otherwise."""
    released: tuple[str, ...] = ()
    """Reservations whose order the venue no longer has."""
    cancelled: tuple[str, ...] = ()
    """Orders to be cancelled that the venue no longer has."""
    health: VenueHealth = VenueHealth()
    venue_positions: tuple[VenuePosition, ...] = ()
    seen: dict[str, Decimal] = {}
    figures: Figures | None = None
    debts_apart: tuple[Debt, ...] = ()
    """Debts that differ of a wallet that backs no position: in no figure of margin."""
    causes: Causes | None = None
    strategies: dict[str, dict[str, Decimal]] = {}
    """Strategy → position key → signed contracts of its orders' fills that are first seen in this state."""


class LoanRequested(Event, frozen=True):
    """A loan or a repayment that the venue is to be asked for. It passed the rules as an order does."""

    loan: VenueLoan
    largest_amount: Decimal | None = None
    """The most that could be borrowed before."""
    before: Figures | None = None
    figures: Figures | None = None


class LoanSent(Event, frozen=True):
    """It is sent right after this, and never again, whoever dies in between."""

    loan: VenueLoan


class LoanRefused(Event, frozen=True):
    """The venue refused a loan or a repayment in its own words, or nobody knows that it was done."""

    loan: VenueLoan
    code: str
    message: str
    at: datetime
    figures: Figures | None = None


class SyncLost(Event, frozen=True):
    reason: str
    at: datetime


class DriftChanged(Event, frozen=True):
    """Figures that went beyond their tolerance of the venue's, and names of those that are back within it."""

    found: tuple[Drift, ...]
    settled: tuple[str, ...] = ()


class CancelsRequested(Event, frozen=True):
    """Orders that add risk are to be cancelled at the venue, in this order; their margin is held no longer."""

    cancels: tuple[OrderCancel, ...]
    reason: str


class CancelEnded(Event, frozen=True):
    """An order to be cancelled is `gone`, or the venue would not; then the next sync shows it again."""

    order_id: str
    gone: bool
    at: datetime
    note: str = ""


class DryRunSet(Event, frozen=True):
    dry_run: bool
    reason: str
    at: datetime
