"""An account's state: balances, positions, reservations, levels, and the work that is pending. All frozen.

Frozen values can't make circles, so the garbage collector need not look at them (`gc=False`).
"""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from sys import intern
from typing import Any

import msgspec

from debt_mgmt.core.money import ZERO
from debt_mgmt.core.profit import Interval
from debt_mgmt.core.sides import MarginMode as MarginMode
from debt_mgmt.core.sides import PositionMode as PositionMode
from debt_mgmt.core.sides import PositionSide as PositionSide
from debt_mgmt.core.sides import Side as Side
from debt_mgmt.core.sides import position_key as position_key
from debt_mgmt.core.venue import OrderCancel, SyncState, VenueChange, VenueLoan


class Environment(StrEnum):
    SANDBOX = "SANDBOX"
    TESTNET = "TESTNET"
    LIVE = "LIVE"


class RiskLevel(StrEnum):
    NORMAL = "NORMAL"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"
    LIQUIDATING = "LIQUIDATING"
    UNKNOWN = "UNKNOWN"


class TradingState(StrEnum):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Position(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One open position (or one leg of a hedge). `quantity` is signed, in contracts; never zero."""

    symbol: str
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal
    leverage: Decimal
    margin_mode: MarginMode
    opened_at: datetime
    isolated_margin: Decimal = ZERO
    """Posted for this position alone, in the settlement asset; zero in cross mode."""
    realized_pnl: Decimal = ZERO
    """Realised since the position was opened, in the settlement asset, before fees."""

    @property
    def key(self) -> str:
        return position_key(self.symbol, self.side)


UNTIL_CANCELLED = datetime(9999, 12, 31, tzinfo=UTC)
"""When a reservation expires that never does."""


class Reservation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Margin held for an open order. `quantity` is what is still open; reduce-only reservations hold nothing."""

    reservation_id: str
    symbol: str
    position_side: PositionSide
    side: Side
    quantity: Decimal
    original_quantity: Decimal
    price: Decimal
    """The price the margin is counted at: see `check.margin_price`."""
    created_at: datetime
    expires_at: datetime
    reduce_only: bool = False
    leverage: Decimal | None = None
    unit_margin: Decimal | None = None
    """Margin per contract at that leverage, in the settlement asset: kept so that it need not be computed again."""
    limit_price: Decimal | None = None
    """None for a market order."""
    open_loss: Decimal = ZERO
    """Loss per contract, in the settlement asset, if the order fills at its limit against today's mark."""
    client_order_id: str = ""
    order_id: str = ""
    """The venue's id, once the order was seen there: it is held until the venue no longer has the order."""
    strategy: str = ""


class TimeInForce(StrEnum):
    GTC = "GTC"
    """Rests until it is filled, cancelled or expired."""
    IOC = "IOC"
    """What can't be filled at once is cancelled."""
    FOK = "FOK"
    """Filled in full at once, or cancelled."""


class OrderState(StrEnum):
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class PaperOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order of a sandbox account. While it is open, the reservation of the same id holds its margin and says how
    much of it is open, so that neither can be without the other."""

    order_id: str
    symbol: str
    position_side: PositionSide
    side: Side
    quantity: Decimal
    """As it was placed, in contracts."""
    created_at: datetime
    limit_price: Decimal | None = None
    """None for a market order."""
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    """Asked for, or because it only reduced when it was placed: no margin is held that it could open with."""
    rests: bool = False
    """No mark reached it when it was placed: it makes, and fills at its limit. Any other order takes."""
    client_order_id: str = ""
    strategy: str = ""
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    """Of its fills, by quantity."""
    fee: Decimal = ZERO
    """Of its fills, in the settlement asset; paid is above zero."""
    realized_pnl: Decimal = ZERO
    state: OrderState = OrderState.OPEN
    ended_at: datetime | None = None
    note: str = ""
    """Why it ended without being filled in full."""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits of one account; None is not limited (at account level: the house's default counts)."""

    max_leverage: Decimal | None = None
    max_position_quantity: Decimal | None = None
    max_position_notional: Decimal | None = None
    max_exposure_notional: Decimal | None = None
    max_concurrent_positions: int | None = None
    max_open_reservations: int | None = None
    max_daily_loss: Decimal | None = None
    max_daily_loss_fraction: Decimal | None = None
    max_drawdown_fraction: Decimal | None = None
    order_rate_count: int | None = None
    order_rate_interval_seconds: int | None = None
    breaker_cool_down_seconds: int | None = None


class BreakerKind(StrEnum):
    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"


class Breaker(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A tripped circuit breaker: new risk is refused until `until`, and until the loss is back within its limit."""

    kind: BreakerKind
    tripped_at: datetime
    until: datetime
    value: Decimal
    limit: Decimal


class Baselines(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What losses are measured from, in the account's currency. Transfers move both by their own amount."""

    day: str
    day_equity: Decimal
    peak_equity: Decimal
    day_realized_pnl: dict[str, Decimal] = {}
    """Realised today per settlement asset, before fees."""


class AlertKind(StrEnum):
    LEVEL_RAISED = "LEVEL_RAISED"
    LEVEL_LOWERED = "LEVEL_LOWERED"
    LEVEL_UNKNOWN = "LEVEL_UNKNOWN"
    LIQUIDATION_STARTED = "LIQUIDATION_STARTED"
    LIQUIDATION_FINISHED = "LIQUIDATION_FINISHED"
    BANKRUPTCY = "BANKRUPTCY"
    BREAKER_TRIPPED = "BREAKER_TRIPPED"
    BREAKER_RESET = "BREAKER_RESET"
    TRADING_HALTED = "TRADING_HALTED"
    TRADING_RESUMED = "TRADING_RESUMED"
    MARK_QUARANTINED = "MARK_QUARANTINED"
    SYNC_LOST = "SYNC_LOST"
    SYNC_RESTORED = "SYNC_RESTORED"
    POSITION_CHANGED = "POSITION_CHANGED"
    DRIFT = "DRIFT"
    VENUE_REFUSED = "VENUE_REFUSED"
    DRY_RUN = "DRY_RUN"


class Severity(StrEnum):
    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class MarkUsed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A price that a decision was made on, kept with the decision so that it can be replayed."""

    symbol: str
    price: Decimal
    source: str
    source_time: datetime
    received_at: datetime


class Alert(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    alert_id: str
    kind: AlertKind
    severity: Severity
    at: datetime
    level: RiskLevel
    message: str
    utilization: Decimal | None = None
    subject: str = ""
    marks: tuple[MarkUsed, ...] = ()
    acknowledged_by: str = ""
    """Empty: nobody has acknowledged it."""
    acknowledged_at: datetime | None = None


class ReductionCause(StrEnum):
    FORCED = "FORCED"
    REQUESTED = "REQUESTED"
    ISOLATED = "ISOLATED"


class ReductionStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reduce-only order of a plan. Its client order id is derived, so a repeat is recognised."""

    step: int
    client_order_id: str
    symbol: str
    position_side: PositionSide
    side: Side
    quantity: Decimal
    cause: ReductionCause
    filled_quantity: Decimal = ZERO
    price: Decimal | None = None
    fee: Decimal = ZERO
    fee_asset: str = ""
    realized_pnl: Decimal = ZERO
    """In the settlement asset, without the fee."""
    ended_at: datetime | None = None
    done: bool = False
    note: str = ""
    """Why the step ended without being filled in full."""


class Reduction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Positions being closed, by force or on request: journaled before the first order, ended by an event."""

    plan_id: str
    cause: ReductionCause
    reason: str
    started_at: datetime
    steps: tuple[ReductionStep, ...]
    utilization_before: Decimal | None = None
    utilization_after: Decimal | None = None
    marks: tuple[MarkUsed, ...] = ()
    ended_at: datetime | None = None
    deficit: Decimal | None = None
    """What was lost beyond the account's equity, in its currency; None where nothing was."""

    @property
    def open_steps(self) -> tuple[ReductionStep, ...]:
        return tuple(step for step in self.steps if not step.done)


class Figures(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The figures of an account as shown, rounded: requirements up, what is owned down. None is unknown."""

    equity: Decimal | None = None
    margin_used: Decimal | None = None
    margin_available: Decimal | None = None
    margin_utilization: Decimal | None = None
    maintenance_margin: Decimal | None = None
    maintenance_ratio: Decimal | None = None


class DepthTaken(msgspec.Struct, frozen=True, gc=False):
    """What paper orders have taken of the depth that one mark brings."""

    mark: MarkUsed
    quantity: Decimal


def depth_key(symbol: str, side: Side) -> str:
    return f"{symbol}|{side.value}"


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One side of a movement of money. The postings of an event sum to zero in each asset.

    `ledger` "wallet" is the account's own balance, "debt" what it owes (below zero). The other sides are "external",
    "venue", "fees", "insurance", "funding", "conversion", and "house": what the house has earned by lending.
    """

    ledger: str
    asset: str
    amount: Decimal


class Lender(StrEnum):
    HOUSE = "HOUSE"
    BROKER = "BROKER"


class Debt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an account owes in one asset, in that asset. A repayment pays interest first."""

    asset: str
    principal: Decimal
    opened_at: datetime
    lender: Lender = Lender.HOUSE
    accrued_interest: Decimal = ZERO
    annual_rate: Decimal | None = None
    """As fraction of the principal; None where the lender's rate is not known."""
    clock: str = ""
    """Name of the rule by which interest is charged."""
    charged_at: datetime | None = None
    """Last charge."""
    next_charge_at: datetime | None = None

    @property
    def owed(self) -> Decimal:
        return self.principal + self.accrued_interest


class Holding(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What was held of one position from a moment on, in signed contracts."""

    since: datetime
    quantity: Decimal


class Account(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything that is known of one account except prices."""

    account_id: str
    owner: str
    broker: str
    environment: Environment
    currency: str
    created_at: datetime
    position_mode: PositionMode = PositionMode.ONE_WAY
    margin_mode: MarginMode = MarginMode.CROSS
    balances: dict[str, Decimal] = {}
    positions: dict[str, Position] = {}
    leverage: dict[str, Decimal] = {}
    margin_modes: dict[str, MarginMode] = {}
    reservations: dict[str, Reservation] = {}
    strategies: dict[str, dict[str, Decimal]] = {}
    """Strategy → position key → signed quantity that it traded; what belongs to none is left out."""
    orders: dict[str, PaperOrder] = {}
    """Open paper orders by id, in the order in which they were placed."""
    past_orders: tuple[PaperOrder, ...] = ()
    """The last ones that ended, oldest first."""
    depth_taken: dict[str, DepthTaken] = {}
    """By symbol and side: see `paper_orders.depth_key`."""
    debts: dict[str, Debt] = {}
    """By asset."""
    debts_apart: dict[str, Debt] = {}
    """Debts in a wallet of the venue that backs no position here: known and shown, and in no figure of margin."""
    limits: Limits = Limits()
    level: RiskLevel = RiskLevel.NORMAL
    level_before_unknown: RiskLevel = RiskLevel.NORMAL
    trading_state: TradingState = TradingState.ACTIVE
    trading_reason: str = ""
    trading_state_is_automatic: bool = True
    halted_by: str = ""
    """Who halted trading; empty where nobody did, or an earlier version did not keep it. So with the time."""
    halted_at: datetime | None = None
    realized_pnl: dict[str, Decimal] = {}
    """Realised in all per settlement asset, before fees."""
    fees_paid: dict[str, Decimal] = {}
    interest_charged: dict[str, Decimal] = {}
    """Charged in all per asset, paid or not."""
    funding_received: dict[str, Decimal] = {}
    """Received in all per asset; below zero was paid."""
    holdings: dict[str, tuple[Holding, ...]] = {}
    """Position key → what was held lately, so that funding is settled on what was held at its instant."""
    funding_settled: dict[str, datetime] = {}
    """Symbol → the last instant whose funding was settled."""
    baselines: Baselines | None = None
    breakers: dict[str, Breaker] = {}
    isolated_alerts: dict[str, RiskLevel] = {}
    """Position key → level last alerted, for isolated positions."""
    orders_in_window: int = 0
    window_started_at: datetime | None = None
    reduction: Reduction | None = None
    past_reductions: tuple[Reduction, ...] = ()
    alerts: tuple[Alert, ...] = ()
    starting_capital: Decimal | None = None
    starting_asset: str = ""
    reset_count: int = 0
    last_reset_at: datetime | None = None
    last_reset_slot: datetime | None = None
    """Slot of the schedule that the last automatic reset was done for."""
    dry_run: bool = False
    """Reductions are planned and journaled, and no order leaves."""
    sync: SyncState | None = None
    """None for sandbox accounts, which have no other side."""
    pending: dict[str, VenueChange] = {}
    """Changes asked of the venue and not yet answered, one a symbol."""
    loans: dict[str, VenueLoan] = {}
    """Loans and repayments asked of the venue and not yet answered, one an asset."""
    cancels: dict[str, OrderCancel] = {}
    """Orders to be cancelled at the venue, by the venue's order id, in the order to do it: before any reduction."""
    rehearsed: str = ""
    """What a forced reduction was last planned on in dry run, so that the same plan is not made again and again."""
    closed_at: datetime | None = None
    interval: Interval | None = None
    """Of its history, under way; None until the first record of an account that is older than that."""


EMPTY: dict[str, Any] = {}
"""What every account has where it has nothing: one for all of them, which saves a kilobyte each. Nothing adds to it."""

EMPTY_FIELDS: Any = {field.name: EMPTY for field in msgspec.structs.fields(Account) if field.default_factory is dict}


def sharing(account: Account) -> Account:
    """The same account, with what many have in common held once."""
    names: dict[str, Any] = {name: intern(getattr(account, name)) for name in ("broker", "currency", "starting_asset")}
    maps = {name: interned(found) if (found := getattr(account, name)) else EMPTY for name in EMPTY_FIELDS}
    return msgspec.structs.replace(account, **names, **maps)


def interned(mapping: dict[str, Any]) -> dict[str, Any]:
    return {intern(key): value for key, value in mapping.items()}
