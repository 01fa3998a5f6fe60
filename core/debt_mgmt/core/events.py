"""What happened: every event that the journal keeps. An event carries its results, so applying it needs no prices."""

from datetime import datetime
from decimal import Decimal

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
    PaperOrder,
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
from debt_mgmt.core.event import Event as Event
from debt_mgmt.core.events_venue import AccountSynced as AccountSynced
from debt_mgmt.core.events_venue import CancelEnded as CancelEnded
from debt_mgmt.core.events_venue import CancelsRequested as CancelsRequested
from debt_mgmt.core.events_venue import DriftChanged as DriftChanged
from debt_mgmt.core.events_venue import DryRunSet as DryRunSet
from debt_mgmt.core.events_venue import LoanRefused as LoanRefused
from debt_mgmt.core.events_venue import LoanRequested as LoanRequested
from debt_mgmt.core.events_venue import LoanSent as LoanSent
from debt_mgmt.core.events_venue import SyncLost as SyncLost
from debt_mgmt.core.events_venue import VenueChangeRefused as VenueChangeRefused
from debt_mgmt.core.events_venue import VenueChangeRequested as VenueChangeRequested
from debt_mgmt.core.house_events import AssetRuleSet as AssetRuleSet
from debt_mgmt.core.house_events import BorrowRateSet as BorrowRateSet
from debt_mgmt.core.house_events import ChangeApproved as ChangeApproved
from debt_mgmt.core.house_events import ChangeCarriedOut as ChangeCarriedOut
from debt_mgmt.core.house_events import ChangeExpired as ChangeExpired
from debt_mgmt.core.house_events import ChangeProposed as ChangeProposed
from debt_mgmt.core.house_events import ChangeRejected as ChangeRejected
from debt_mgmt.core.house_events import ConfigurationChanged as ConfigurationChanged
from debt_mgmt.core.house_events import FundingRatePublished as FundingRatePublished
from debt_mgmt.core.house_events import InstrumentPut as InstrumentPut
from debt_mgmt.core.house_events import LimitSetDeleted as LimitSetDeleted
from debt_mgmt.core.house_events import LimitSetPut as LimitSetPut
from debt_mgmt.core.house_events import ResetScheduleSet as ResetScheduleSet
from debt_mgmt.core.house_events import SettingChange as SettingChange
from debt_mgmt.core.house_events import SignInFailed as SignInFailed
from debt_mgmt.core.house_events import TokenIssued as TokenIssued
from debt_mgmt.core.house_events import TokenRevoked as TokenRevoked
from debt_mgmt.core.house_events import TokenRotated as TokenRotated
from debt_mgmt.core.house_events import TradingHalted as TradingHalted
from debt_mgmt.core.house_events import TradingResumed as TradingResumed
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.profit import NOTHING, Causes
from debt_mgmt.core.refusals import Violation
from debt_mgmt.core.venue import VenueLoan


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
    causes: Causes | None = None
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
    causes: Causes | None = None


class FundsReset(Event, frozen=True):
    """Paper capital set back to its start: positions, orders, reservations, debts, profit, breakers and pending work
    are cleared in this one event. `slot` is that of the schedule, None where somebody asked for it."""

    asset: str
    amount: Decimal
    at: datetime
    reason: str
    postings: tuple[Posting, ...]
    figures: Figures | None = None
    slot: datetime | None = None
    causes: Causes | None = None


class MarginReserved(Event, frozen=True):
    reservation: Reservation
    margin_required: Decimal
    margin_available: Decimal | None
    margin_utilization: Decimal | None
    window_started_at: datetime
    orders_in_window: int
    mark: MarkUsed | None = None
    shadow: tuple[Violation, ...] = ()
    """What limit sets in SHADOW would have refused it for, here and in OrderPlaced."""


class ReservationReduced(Event, frozen=True):
    """`quantity` was given back; `remaining` zero closes it, and the paper order that it was held for, if any.

    Cause: RELEASED, EXPIRED, FILLED, RISK_LEVEL; of paper orders also CANCELLED, HALTED, UNFILLED, NOTHING_TO_REDUCE.
    """

    reservation_id: str
    quantity: Decimal
    remaining: Decimal
    cause: str
    figures: Figures | None = None
    at: datetime | None = None


class OrderPlaced(Event, frozen=True):
    """A paper order, with the reservation of the same id that holds its margin. Its fills follow as FillRecorded."""

    order: PaperOrder
    reservation: Reservation
    margin_required: Decimal
    margin_available: Decimal | None
    margin_utilization: Decimal | None
    window_started_at: datetime
    orders_in_window: int
    mark: MarkUsed | None = None
    figures: Figures | None = None
    shadow: tuple[Violation, ...] = ()


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
    causes: Causes | None = None
    mark: MarkUsed | None = None
    """That filled a paper order; None for a fill that was told."""
    maker: bool = False
    """The paper order had rested at its limit."""
    strategy: str = ""
    """That it counts for: its own, else that of the reservation it fills."""


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
    """`by` and `at`: who halted trading, and when; of a halt by somebody who is known."""

    before: TradingState
    after: TradingState
    reason: str
    automatic: bool
    by: str = ""
    at: datetime | None = None


class AlertRaised(Event, frozen=True):
    alert: Alert


class AlertAcknowledged(Event, frozen=True):
    alert_id: str
    by: str
    at: datetime
    note: str = ""


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
    causes: Causes | None = None


class EquityRecorded(Event, frozen=True):
    """An interval of the account's history is over: what changed equity in it, and where that left the account.

    What is journaled before it belongs to the interval. Amounts in the account's currency, None where a price was
    missing; equity counts what stands behind isolated positions.
    """

    started_at: datetime
    ended_at: datetime
    equity_before: Decimal | None
    equity: Decimal | None
    wallet_balance: Decimal | None
    unrealized_pnl: Decimal | None
    causes: Causes = NOTHING


class Borrowed(Event, frozen=True):
    """`amount` of an asset was lent to the account. `debt` is what it owes in the asset afterwards.

    A charge for opening follows as an event of its own. `value` is the amount in the account's currency.
    """

    asset: str
    amount: Decimal
    debt: Debt
    at: datetime
    postings: tuple[Posting, ...]
    value: Decimal | None = None
    largest_amount: Decimal | None = None
    """The most that could be borrowed before."""
    before: Figures | None = None
    figures: Figures | None = None
    loan: VenueLoan | None = None
    """Of the venue that lent it, as in a repayment; None where the house did. `apart`: no balance here moves."""


class Repaid(Event, frozen=True):
    """`amount` = `interest_paid` + `principal_paid`. `debt` is what is owed afterwards, None when nothing is."""

    asset: str
    amount: Decimal
    interest_paid: Decimal
    principal_paid: Decimal
    at: datetime
    postings: tuple[Posting, ...]
    debt: Debt | None = None
    value: Decimal | None = None
    figures: Figures | None = None
    loan: VenueLoan | None = None


class InterestCharged(Event, frozen=True):
    """One charge: amount = principal × rate × periods, rounded up. It is owed at once, and paid when it is repaid.

    `principal` is what it was charged on, which under a compounding clock includes interest owed before. `value` is the
    amount in the account's currency when it was charged; None where a price was missing.
    """

    asset: str
    due_at: datetime
    principal: Decimal
    rate: Decimal
    """Per period."""
    periods: int
    amount: Decimal
    accrued_interest: Decimal
    """Owed afterwards."""
    clock: str
    annual_rate: Decimal
    postings: tuple[Posting, ...]
    next_charge_at: datetime | None = None
    value: Decimal | None = None
    causes: Causes | None = None


class AssetConverted(Event, frozen=True):
    """`sold_amount` of one asset became `bought_amount` of another, at `price` units bought per unit sold.

    Values in the account's currency, at full price: what lies between them was the cost of converting.
    """

    sold_asset: str
    sold_amount: Decimal
    bought_asset: str
    bought_amount: Decimal
    price: Decimal
    at: datetime
    postings: tuple[Posting, ...]
    sold_value: Decimal | None = None
    bought_value: Decimal | None = None
    reason: str = ""
    marks: tuple[MarkUsed, ...] = ()
    figures: Figures | None = None
    causes: Causes | None = None


class FundingSettled(Event, frozen=True):
    """Funding of one position at one instant: notional × rate, paid by longs where the rate is above zero.

    `amount` above zero was received. `value` is the amount in the account's currency; None where a price was missing.
    """

    symbol: str
    position_side: PositionSide
    funded_at: datetime
    rate: Decimal
    mark: Decimal
    quantity: Decimal
    """Held at that instant, in signed contracts."""
    notional: Decimal
    """In the settlement asset."""
    asset: str
    amount: Decimal
    postings: tuple[Posting, ...]
    value: Decimal | None = None
    causes: Causes | None = None


class CommandRefused(Event, frozen=True):
    """A mutation that was refused, with every reason. Kept so that a repeated request gets the same answer."""

    command: str
    violations: tuple[Violation, ...]
    margin_required: Decimal | None = None
    margin_available: Decimal | None = None
    margin_utilization: Decimal | None = None
    largest_buy: Decimal | None = None
    largest_sell: Decimal | None = None
    largest_amount: Decimal | None = None
    """Of a loan, in its asset."""
    before: Figures | None = None
    after: Figures | None = None
    """The account as it would have been."""


AccountEvent = (
    AccountCreated
    | AccountClosed
    | Transferred
    | FundsReset
    | MarginReserved
    | OrderPlaced
    | ReservationReduced
    | FillRecorded
    | LeverageSet
    | MarginModeSet
    | IsolatedMarginAdjusted
    | VenueChangeRequested
    | VenueChangeRefused
    | AccountSynced
    | LoanRequested
    | LoanSent
    | LoanRefused
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
    | AlertAcknowledged
    | BreakerTripped
    | BreakerCleared
    | BaselinesSet
    | ReductionStarted
    | ReductionExtended
    | ReductionStepEnded
    | ReductionEnded
    | BankruptcyRecorded
    | EquityRecorded
    | Borrowed
    | Repaid
    | InterestCharged
    | AssetConverted
    | FundingSettled
    | CommandRefused
)
HouseEvent = (
    InstrumentPut
    | AssetRuleSet
    | BorrowRateSet
    | FundingRatePublished
    | ResetScheduleSet
    | TradingHalted
    | TradingResumed
    | LimitSetPut
    | LimitSetDeleted
    | ConfigurationChanged
    | SignInFailed
    | TokenIssued
    | TokenRotated
    | TokenRevoked
    | ChangeProposed
    | ChangeApproved
    | ChangeRejected
    | ChangeExpired
    | ChangeCarriedOut
    | CommandRefused
)
AnyEvent = AccountEvent | HouseEvent


def kind_of(event: Event) -> str:
    return type(event).__name__
