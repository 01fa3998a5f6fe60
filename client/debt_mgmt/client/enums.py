"""The named values of the contract: each enum has the wire's names without their prefix."""

import re
from enum import StrEnum
from typing import Self

UNRECOGNIZED = "UNRECOGNIZED_"


class WireEnum(StrEnum):
    """A named value. Made from its name in any case: Side("buy") is Side.BUY.

    Enums of the contract grow: a value that is newer than this SDK reads as UNRECOGNIZED_ and its number, is equal to
    none of the names here, and can't be sent.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        if value.upper() in cls.__members__:
            return cls[value.upper()]
        if not re.fullmatch(UNRECOGNIZED + "[0-9]+", value):
            raise ValueError(f"{value!r} is no {cls.__name__}: it is one of {', '.join(cls.__members__)}")
        newer = str.__new__(cls, value)
        newer._name_ = newer._value_ = value
        return newer

    @property
    def recognized(self) -> bool:
        """False: a value that is newer than this SDK."""
        return self.name in type(self).__members__


class Side(WireEnum):
    """Direction of an order or a fill."""

    BUY = "BUY"
    SELL = "SELL"


class PositionSide(WireEnum):
    """Which of an account's positions in a symbol is meant."""

    NET = "NET"
    LONG = "LONG"
    SHORT = "SHORT"


class TimeInForce(WireEnum):
    """How long a paper order may wait to be filled."""

    GTC = "GTC"
    """Rests until it is filled, cancelled or expired."""
    IOC = "IOC"
    """What can't be filled at once is cancelled."""
    FOK = "FOK"
    """Filled in full at once, or cancelled."""


class OrderState(WireEnum):
    """How far a paper order is."""

    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class MarginMode(WireEnum):
    """What margin a position can draw on."""

    CROSS = "CROSS"
    ISOLATED = "ISOLATED"


class PositionMode(WireEnum):
    """How many positions a symbol can have."""

    ONE_WAY = "ONE_WAY"
    HEDGE = "HEDGE"


class Environment(WireEnum):
    """What kind of money an account holds."""

    SANDBOX = "SANDBOX"
    TESTNET = "TESTNET"
    LIVE = "LIVE"


class InstrumentKind(WireEnum):
    """How an instrument's notional and PnL are computed."""

    LINEAR = "LINEAR"
    INVERSE = "INVERSE"
    SPOT_MARGIN = "SPOT_MARGIN"


class Role(WireEnum):
    """What a token allows; each role allows what the ones before it allow."""

    VIEWER = "VIEWER"
    TRADER = "TRADER"
    RISK = "RISK"
    ADMIN = "ADMIN"


class TradingState(WireEnum):
    """What an account may do: ACTIVE all, REDUCING no new risk because of its level, HALTED none until it is resumed.

    A strictly reducing order passes in every state.
    """

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class RiskLevel(WireEnum):
    """How close an account is to its limits, by margin utilization. UNKNOWN: prices are missing or too old to say.

    A level is left Thresholds.hysteresis (3 points) below where it is entered.
    """

    NORMAL = "NORMAL"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"
    LIQUIDATING = "LIQUIDATING"
    UNKNOWN = "UNKNOWN"


class AlertKind(WireEnum):
    """What an alert tells. Alerts are raised on transition only, and again only after the level was left."""

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


class AlertSeverity(WireEnum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class ShockTarget(WireEnum):
    """What a price shock reaches."""

    WARNING = "WARNING"
    CRITICAL = "CRITICAL"
    LIQUIDATING = "LIQUIDATING"
    BANKRUPTCY = "BANKRUPTCY"


class RefusalReason(WireEnum):
    """Why a request was refused by the rules. Treat one that is not recognized as a refusal like any other.

    The values up to UTILIZATION_AFTER stand in the order in which an order is checked.
    """

    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    TRADING_HALTED = "TRADING_HALTED"
    TRADING_REDUCING = "TRADING_REDUCING"
    HOUSE_HALTED = "HOUSE_HALTED"
    STALE_MARK = "STALE_MARK"
    MISSING_MARK = "MISSING_MARK"
    LEVERAGE_ABOVE_ACCOUNT = "LEVERAGE_ABOVE_ACCOUNT"
    LEVERAGE_ABOVE_BROKER = "LEVERAGE_ABOVE_BROKER"
    LEVERAGE_ABOVE_TIER = "LEVERAGE_ABOVE_TIER"
    LEVERAGE_STEP = "LEVERAGE_STEP"
    QUANTITY_BELOW_MINIMUM = "QUANTITY_BELOW_MINIMUM"
    QUANTITY_STEP = "QUANTITY_STEP"
    PRICE_STEP = "PRICE_STEP"
    QUANTITY_ABOVE_MAXIMUM = "QUANTITY_ABOVE_MAXIMUM"
    POSITION_NOTIONAL_LIMIT = "POSITION_NOTIONAL_LIMIT"
    EXPOSURE_LIMIT = "EXPOSURE_LIMIT"
    CONCURRENT_POSITIONS = "CONCURRENT_POSITIONS"
    OPEN_RESERVATIONS = "OPEN_RESERVATIONS"
    ORDER_RATE = "ORDER_RATE"
    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    BREAKER_TRIPPED = "BREAKER_TRIPPED"
    INSUFFICIENT_MARGIN = "INSUFFICIENT_MARGIN"
    UTILIZATION_AFTER = "UTILIZATION_AFTER"
    REDUCE_ONLY_WOULD_INCREASE = "REDUCE_ONLY_WOULD_INCREASE"
    NO_POSITION = "NO_POSITION"
    RESERVATION_NOT_FOUND = "RESERVATION_NOT_FOUND"
    OVER_RELEASE = "OVER_RELEASE"
    DUPLICATE_FILL = "DUPLICATE_FILL"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    OPEN_POSITIONS = "OPEN_POSITIONS"
    NOT_SANDBOX = "NOT_SANDBOX"
    MARGIN_MODE_WITH_POSITION = "MARGIN_MODE_WITH_POSITION"
    ISOLATED_MARGIN_BELOW_REQUIRED = "ISOLATED_MARGIN_BELOW_REQUIRED"
    ALREADY_IN_STATE = "ALREADY_IN_STATE"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    BELOW_INITIAL_MARGIN = "BELOW_INITIAL_MARGIN"
    NO_DEBT = "NO_DEBT"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ACCOUNT_NOT_SYNCED = "ACCOUNT_NOT_SYNCED"
    DRY_RUN = "DRY_RUN"
    CHANGE_PENDING = "CHANGE_PENDING"
    TOKEN_EXISTS = "TOKEN_EXISTS"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"
    NEEDS_SECOND_PERSON = "NEEDS_SECOND_PERSON"
    SAME_PERSON = "SAME_PERSON"
    CHANGE_NOT_FOUND = "CHANGE_NOT_FOUND"
    LIMIT_SET_NOT_FOUND = "LIMIT_SET_NOT_FOUND"


class Testnet(WireEnum):
    """The test system that a broker has."""

    NONE = "NONE"
    SANDBOX = "SANDBOX"
    DEMO = "DEMO"


class LeveragePath(WireEnum):
    """How a broker takes leverage."""

    NONE = "NONE"
    ENDPOINT = "ENDPOINT"
    ORDER_PARAMETER = "ORDER_PARAMETER"
    ACCOUNT_ENDPOINT = "ACCOUNT_ENDPOINT"


class SyncStatus(WireEnum):
    """Whether the broker's side of an account is known."""

    NEVER = "NEVER"
    FRESH = "FRESH"
    LOST = "LOST"


class Provenance(WireEnum):
    """Whose number it is."""

    VENUE = "VENUE"
    OWN = "OWN"


class BrokerFeature(WireEnum):
    """Something that a broker may be able to do."""

    SET_LEVERAGE = "SET_LEVERAGE"
    SET_MARGIN_MODE = "SET_MARGIN_MODE"
    ADJUST_ISOLATED_MARGIN = "ADJUST_ISOLATED_MARGIN"
    HEDGE_MODE = "HEDGE_MODE"
    REDUCE_ONLY = "REDUCE_ONLY"
    BORROW = "BORROW"
    MARK_PRICE = "MARK_PRICE"
    ACCOUNT_STREAM = "ACCOUNT_STREAM"


class CheckDetail(WireEnum):
    """How much an answer of a check shows: FIGURES the decision, violations and margin (cheapest), FULL everything."""

    FIGURES = "FIGURES"
    FULL = "FULL"


class BatchMode(WireEnum):
    """Whether each order of a batch uses up margin for those after it (SEQUENTIAL) or stands alone (INDEPENDENT)."""

    SEQUENTIAL = "SEQUENTIAL"
    INDEPENDENT = "INDEPENDENT"


class LiquidationCause(WireEnum):
    """Why positions are reduced."""

    FORCED = "FORCED"
    REQUESTED = "REQUESTED"


class LiquidationState(WireEnum):
    """How far a reduction is."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    INCOMPLETE = "INCOMPLETE"


class LiquidationStepKind(WireEnum):
    """What a step does."""

    RELEASE = "RELEASE"
    REDUCE = "REDUCE"


class LiquidationStepState(WireEnum):
    """How far a step is. SENT: the outcome is not known yet; it is looked up by its order id, never sent twice."""

    PENDING = "PENDING"
    SENT = "SENT"
    DONE = "DONE"
    FAILED = "FAILED"


class LeverageState(WireEnum):
    """Whether a leverage is in force."""

    CONFIRMED = "CONFIRMED"
    REQUESTED = "REQUESTED"
    REFUSED = "REFUSED"


class LeverageCapSource(WireEnum):
    """Where a cap comes from."""

    ACCOUNT = "ACCOUNT"
    BROKER = "BROKER"
    INSTRUMENT = "INSTRUMENT"
    TIER = "TIER"


class Protection(WireEnum):
    """A protection that an account can have."""

    LEVERAGE = "LEVERAGE"
    POSITION_QUANTITY = "POSITION_QUANTITY"
    POSITION_NOTIONAL = "POSITION_NOTIONAL"
    EXPOSURE_NOTIONAL = "EXPOSURE_NOTIONAL"
    CONCURRENT_POSITIONS = "CONCURRENT_POSITIONS"
    OPEN_RESERVATIONS = "OPEN_RESERVATIONS"
    DAILY_LOSS = "DAILY_LOSS"
    DAILY_LOSS_FRACTION = "DAILY_LOSS_FRACTION"
    DRAWDOWN = "DRAWDOWN"
    ORDER_RATE = "ORDER_RATE"
    FORCED_LIQUIDATION = "FORCED_LIQUIDATION"
    PRICE_AGE = "PRICE_AGE"
    FOUR_EYES = "FOUR_EYES"


class ChangeState(WireEnum):
    """Where a change that needs a second person stands. APPROVED: carried out, or about to be."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class LimitMode(WireEnum):
    """Whether a limit set refuses orders. SHADOW refuses nothing: it only reports what it would have refused."""

    ENFORCED = "ENFORCED"
    SHADOW = "SHADOW"


class BreakerKind(WireEnum):
    """What trips a circuit breaker."""

    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"


class MarkClock(WireEnum):
    """What the time of a price means: LIVE is now, TAPE is recorded and prices SANDBOX accounts only."""

    LIVE = "LIVE"
    TAPE = "TAPE"


class QuarantineReason(WireEnum):
    """Why a price was held back."""

    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    INVALID_PRICE = "INVALID_PRICE"
    DEVIATION = "DEVIATION"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    INVALID_TIME = "INVALID_TIME"


class Lender(WireEnum):
    """Who lent the money."""

    HOUSE = "HOUSE"
    """This service, to a SANDBOX account, at configured rates."""
    BROKER = "BROKER"


class FundInterval(WireEnum):
    """How long an interval of the history is; by the calendar of the configured zone."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
