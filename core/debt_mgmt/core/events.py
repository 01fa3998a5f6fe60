"""What happened: every event that the journal keeps. An event carries its results, so applying it needs no prices."""

from datetime import datetime
from decimal import Decimal

import msgspec

from debt_mgmt.core.account import (
    Alert,
    Baselines,
    Breaker,
    BreakerKind,
    Debt,
    Environment,
    Figures,
    Limits,
    MarginMode,
    MarkUsed,
    Position,
    PositionMode,
    PositionSide,
    Posting,
    Reduction,
    ReductionStep,
    Reservation,
    RiskLevel,
    Side,
    TradingState,
)
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.market import AssetRule
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.refusals import Violation
from debt_mgmt.core.venue import Drift, OrderCancel, PositionChange, VenueChange, VenueHealth, VenuePosition


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="event"):
    """Base of all events. The class name is the event's kind in the journal and never changes.

    `figures`, where an event has them, show the account after the whole command: a repeat is answered alike.
    """


class AccountCreated(Event, frozen=True):
    account_id: str
    owner: str
    broker: str
    environment: Environment
    currency: str
    at: datetime
    position_mode: PositionMode = PositionMode.ONE_WAY
    margin_mode: MarginMode = MarginMode.CROSS
    starting_asset: str = ""
    starting_capital: Decimal | None = None
    postings: tuple[Posting, ...] = ()
    figures: Figures | None = None
    dry_run: bool = False


class AccountClosed(Event, frozen=True):
    at: datetime
    reason: str = ""


class Transferred(Event, frozen=True):
    """A deposit (amount above zero) or a withdrawal. `value` is the amount in the account's currency.

    `equity_change` is what it moved equity by, where a haircut makes that another amount.
    """

    asset: str
    amount: Decimal
    value: Decimal
    postings: tuple[Posting, ...]
    note: str = ""
    figures: Figures | None = None
    equity_change: Decimal | None = None


class FundsReset(Event, frozen=True):
    """Paper capital set back to its start: positions, reservations and profit are cleared in this one event."""

    asset: str
    amount: Decimal
    at: datetime
    reason: str
    postings: tuple[Posting, ...]
    figures: Figures | None = None


class MarginReserved(Event, frozen=True):
    reservation: Reservation
    margin_required: Decimal
    margin_available: Decimal | None
    margin_utilization: Decimal | None
    window_started_at: datetime
    orders_in_window: int
    mark: MarkUsed | None = None


class ReservationReduced(Event, frozen=True):
    """`quantity` was given back; `remaining` zero closes it. Cause: RELEASED, EXPIRED, FILLED, RISK_LEVEL."""

    reservation_id: str
    quantity: Decimal
    remaining: Decimal
    cause: str
    figures: Figures | None = None


class FillRecorded(Event, frozen=True):
    """A fill and all it did. `position` is the position afterwards, None when it is flat."""

    fill_id: str
    symbol: str
    position_side: PositionSide
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    at: datetime
    position: Position | None
    realized_pnl: Decimal
    """Realised on the closed part, in the settlement asset, before fees."""
    settle_asset: str
    postings: tuple[Posting, ...]
    closed_quantity: Decimal = ZERO
    opened_quantity: Decimal = ZERO
    order_id: str = ""
    reservation_id: str = ""
    plan_id: str = ""
    step: int = 0
    figures: Figures | None = None


class LeverageSet(Event, frozen=True):
    symbol: str
    leverage: Decimal
    previous: Decimal
    positions: tuple[Position, ...] = ()
    figures: Figures | None = None
    change_id: str = ""
    """Of the change that the venue was asked for and confirmed `at`; empty on sandbox accounts, as in the next two."""
    at: datetime | None = None


class MarginModeSet(Event, frozen=True):
    symbol: str
    margin_mode: MarginMode
    figures: Figures | None = None
    change_id: str = ""
    at: datetime | None = None


class IsolatedMarginAdjusted(Event, frozen=True):
    position: Position
    amount: Decimal
    figures: Figures | None = None
    change_id: str = ""
    at: datetime | None = None


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


class LimitsSet(Event, frozen=True):
    limits: Limits
    reason: str = ""


class RiskLevelChanged(Event, frozen=True):
    before: RiskLevel
    after: RiskLevel
    equity: Decimal | None
    margin_used: Decimal | None
    margin_utilization: Decimal | None
    maintenance_margin: Decimal | None
    marks: tuple[MarkUsed, ...] = ()


class IsolatedLevelChanged(Event, frozen=True):
    """The maintenance ratio of one isolated position crossed a threshold."""

    key: str
    before: RiskLevel
    after: RiskLevel
    maintenance_ratio: Decimal | None


class TradingStateChanged(Event, frozen=True):
    before: TradingState
    after: TradingState
    reason: str
    automatic: bool


class AlertRaised(Event, frozen=True):
    alert: Alert


class BreakerTripped(Event, frozen=True):
    breaker: Breaker


class BreakerCleared(Event, frozen=True):
    kind: BreakerKind


class BaselinesSet(Event, frozen=True):
    """What losses are measured from. Cause: DAY (new day), PEAK (new high), RESUME (an operator accepted the loss)."""

    baselines: Baselines
    cause: str


class ReductionStarted(Event, frozen=True):
    reduction: Reduction


class ReductionExtended(Event, frozen=True):
    steps: tuple[ReductionStep, ...]


class ReductionStepEnded(Event, frozen=True):
    step: int
    filled_quantity: Decimal
    price: Decimal | None
    at: datetime
    note: str = ""
    fee: Decimal = ZERO
    fee_asset: str = ""
    realized_pnl: Decimal = ZERO


class ReductionEnded(Event, frozen=True):
    at: datetime
    utilization_after: Decimal | None
    deficit: Decimal | None = None


class BankruptcyRecorded(Event, frozen=True):
    """A loss of `deficit` in `asset` beyond what stood behind it, taken over by the insurance ledger.

    Of an isolated position (`position_key`) the postings stand in its fill, else here.
    """

    deficit: Decimal
    asset: str
    postings: tuple[Posting, ...]
    position_key: str = ""


class CommandRefused(Event, frozen=True):
    """A mutation that was refused, with every reason. Kept so that a repeated request gets the same answer."""

    command: str
    violations: tuple[Violation, ...]
    margin_required: Decimal | None = None
    margin_available: Decimal | None = None
    margin_utilization: Decimal | None = None
    largest_buy: Decimal | None = None
    largest_sell: Decimal | None = None


class InstrumentPut(Event, frozen=True):
    instrument: Instrument


class AssetRuleSet(Event, frozen=True):
    rule: AssetRule


class TradingHalted(Event, frozen=True):
    """A halt of the whole house (`owner` empty) or of one owner's accounts."""

    owner: str
    reason: str
    at: datetime
    actor: str = ""


class TradingResumed(Event, frozen=True):
    owner: str
    reason: str
    at: datetime


AccountEvent = (
    AccountCreated
    | AccountClosed
    | Transferred
    | FundsReset
    | MarginReserved
    | ReservationReduced
    | FillRecorded
    | LeverageSet
    | MarginModeSet
    | IsolatedMarginAdjusted
    | VenueChangeRequested
    | VenueChangeRefused
    | AccountSynced
    | SyncLost
    | DriftChanged
    | CancelsRequested
    | CancelEnded
    | DryRunSet
    | LimitsSet
    | RiskLevelChanged
    | IsolatedLevelChanged
    | TradingStateChanged
    | AlertRaised
    | BreakerTripped
    | BreakerCleared
    | BaselinesSet
    | ReductionStarted
    | ReductionExtended
    | ReductionStepEnded
    | ReductionEnded
    | BankruptcyRecorded
    | CommandRefused
)
HouseEvent = InstrumentPut | AssetRuleSet | TradingHalted | TradingResumed | CommandRefused
AnyEvent = AccountEvent | InstrumentPut | AssetRuleSet | TradingHalted | TradingResumed


def kind_of(event: Event) -> str:
    return type(event).__name__
