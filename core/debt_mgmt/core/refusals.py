"""Why a command was refused: a closed list of reasons in order of precedence, each with its numbers."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from debt_mgmt.core.limit_sets import NEW_INSTRUMENT
from debt_mgmt.core.money import text
from debt_mgmt.core.scope import Scope


class Reason(StrEnum):
    """In order of precedence: an answer lists its violations in this order."""

    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    TRADING_HALTED = "TRADING_HALTED"
    TRADING_REDUCING = "TRADING_REDUCING"
    HOUSE_HALTED = "HOUSE_HALTED"
    ACCOUNT_NOT_SYNCED = "ACCOUNT_NOT_SYNCED"
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
    DRY_RUN = "DRY_RUN"
    CHANGE_PENDING = "CHANGE_PENDING"
    TOKEN_EXISTS = "TOKEN_EXISTS"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"
    LIMIT_SET_NOT_FOUND = "LIMIT_SET_NOT_FOUND"
    NEEDS_SECOND_PERSON = "NEEDS_SECOND_PERSON"
    SAME_PERSON = "SAME_PERSON"
    CHANGE_NOT_FOUND = "CHANGE_NOT_FOUND"


PRECEDENCE = {reason: place for place, reason in enumerate(Reason)}


class Violation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One rule that was broken: what was asked (`value`), what is allowed (`limit`) and what is left (`headroom`)."""

    reason: Reason
    subject: str = ""
    value: Decimal | None = None
    limit: Decimal | None = None
    headroom: Decimal | None = None
    note: str = ""
    scope: Scope | None = None
    """Node of the tree whose limit or halt it is; None: a rule of the account or of the service."""
    limit_set: str = ""
    """Name of that node's limit set; empty is its standing one."""


SENTENCES: dict[Reason, str] = {
    Reason.ACCOUNT_CLOSED: "account {subject} is closed",
    Reason.UNKNOWN_INSTRUMENT: "instrument {subject} is not known; PutInstrument adds it",
    Reason.TRADING_HALTED: "trading is halted for {subject}: {note}; reducing orders still pass",
    Reason.TRADING_REDUCING: "only reducing orders are accepted for {subject}: {note}",
    Reason.HOUSE_HALTED: "trading is halted for {subject}: {note}; reducing orders still pass",
    Reason.ACCOUNT_NOT_SYNCED: "{subject} takes no new risk: {note}; reducing orders still pass",
    Reason.STALE_MARK: "the mark of {subject} is {value} s old, at most {limit} s are accepted for new risk",
    Reason.MISSING_MARK: "{subject} has no mark, so its margin is unknown",
    Reason.LEVERAGE_ABOVE_ACCOUNT: "leverage {value} on {subject} is above the account's maximum {limit}",
    Reason.LEVERAGE_ABOVE_BROKER: "leverage {value} on {subject} is above the broker's maximum {limit}",
    Reason.LEVERAGE_ABOVE_TIER: "leverage {value} on {subject} is above {limit}, the maximum of the tier reached",
    Reason.LEVERAGE_STEP: "leverage {value} on {subject} must be at least 1 and a multiple of {limit}",
    Reason.QUANTITY_BELOW_MINIMUM: "quantity or value {value} of {subject} is below the minimum {limit}",
    Reason.QUANTITY_STEP: "quantity {value} of {subject} is not a multiple of the lot {limit}",
    Reason.PRICE_STEP: "price {value} of {subject} is not a multiple of the tick {limit}",
    Reason.QUANTITY_ABOVE_MAXIMUM: "{value} of {subject} is above the maximum quantity {limit}",
    Reason.POSITION_NOTIONAL_LIMIT: "position in {subject} would be worth {value}, the limit is {limit}",
    Reason.EXPOSURE_LIMIT: "exposure would be {value}, the limit is {limit}",
    Reason.CONCURRENT_POSITIONS: "{value} positions would be open, the limit is {limit}",
    Reason.OPEN_RESERVATIONS: "{value} reservations would be open, the limit is {limit}",
    Reason.ORDER_RATE: "{value} orders in this interval, the limit is {limit}",
    Reason.DAILY_LOSS: "today's loss {value} has reached the limit {limit}",
    Reason.DRAWDOWN: "the drawdown of {value} from the peak has reached the limit {limit}",
    Reason.BREAKER_TRIPPED: "circuit breaker {subject} is open until {note}",
    Reason.INSUFFICIENT_MARGIN: "margin required {value}, available {limit}",
    Reason.UTILIZATION_AFTER: "margin utilization would be {value}, at most {limit} is accepted",
    Reason.REDUCE_ONLY_WOULD_INCREASE: "a reduce-only order on {subject} has nothing to reduce on that side",
    Reason.NO_POSITION: "there is no position {subject}",
    Reason.RESERVATION_NOT_FOUND: "reservation {subject} is not open",
    Reason.ORDER_NOT_FOUND: "order {subject} is not open",
    Reason.OVER_RELEASE: "release of {value} is more than the {limit} still held by {subject}",
    Reason.DUPLICATE_FILL: "fill {subject} was recorded before with other terms",
    Reason.INSUFFICIENT_BALANCE: "{value} {subject} asked for, {limit} can leave",
    Reason.OPEN_POSITIONS: "account {subject} still has {value} open positions, reservations or debts",
    Reason.NOT_SANDBOX: "{subject} is not a sandbox account",
    Reason.MARGIN_MODE_WITH_POSITION: "{subject} has an open position or reservation: its margin mode stays",
    Reason.ISOLATED_MARGIN_BELOW_REQUIRED: "isolated margin of {subject} would be {value}, required is {limit}",
    Reason.ALREADY_IN_STATE: "{subject} already is in the state asked for",
    Reason.NOT_SUPPORTED: "{subject} is not supported: {note}",
    Reason.BELOW_INITIAL_MARGIN: "equity after the change {value} would be below the margin used {limit}",
    Reason.NO_DEBT: "nothing is owed in {subject}",
    Reason.DRY_RUN: "{subject} is in dry run: nothing is sent to its venue; SetDryRun ends that",
    Reason.TOKEN_EXISTS: "a good token is named {subject}: revoke it, or rotate it for a new secret",
    Reason.TOKEN_NOT_FOUND: "no good token is named {subject}",
    Reason.LIMIT_SET_NOT_FOUND: "there is no limit set {subject}",
    Reason.NEEDS_SECOND_PERSON: "{subject} has to be approved by a second person: {note}",
    Reason.SAME_PERSON: "{subject} was proposed by {note}, so somebody else has to approve it",
    Reason.CHANGE_NOT_FOUND: "no change {subject} waits for approval: {note}",
    Reason.CHANGE_PENDING: "the venue has not answered the last change on {subject} yet: {note}",
}


WITHOUT_NUMBERS: dict[Reason, str] = {
    Reason.EXPOSURE_LIMIT: "exposure would be above the limit",
    Reason.CONCURRENT_POSITIONS: "too many positions would be open",
    Reason.OPEN_RESERVATIONS: "too many reservations would be open",
    Reason.ORDER_RATE: "too many orders in this interval",
}
"""Where the numbers are not the reader's to know."""

WITH_NOTE: dict[Reason, str] = {Reason.NO_POSITION: "{subject} has {note}"}
"""Where something more is to be said only sometimes."""


def sentence(violation: Violation) -> str:
    """The violation in words, for people; programs read the reason and the numbers."""
    number = {
        name: text(value) if (value := getattr(violation, name)) is not None else "unknown"
        for name in ("value", "limit", "headroom")
    }
    words = WITHOUT_NUMBERS.get(violation.reason) if violation.value is None else None
    if words is None and violation.note:
        words = WITH_NOTE.get(violation.reason)
    if words is None:
        words = SENTENCES[violation.reason]
    words = words.format(subject=violation.subject, note=violation.note, **number)
    if violation.scope is None or violation.reason is Reason.HOUSE_HALTED:
        return words
    return f"{words} ({origin(violation.scope, violation.limit_set)})"


def origin(scope: Scope, limit_set: str) -> str:
    """Which limit set it is, and for one that keeps a new instrument at zero, how that is opened."""
    words = f"limit set {limit_set} of {scope.words}" if limit_set else f"limits of {scope.words}"
    if limit_set != NEW_INSTRUMENT or not scope.symbol:
        return words
    return (
        f"{words}: a new instrument starts at zero; debt-mgmt limits set --instrument {scope.symbol}"
        f" --name {NEW_INSTRUMENT} max_position_quantity=... --reason ... opens it"
    )


def by_precedence(violations: list[Violation]) -> tuple[Violation, ...]:
    return tuple(sorted(violations, key=lambda violation: PRECEDENCE[violation.reason]))
