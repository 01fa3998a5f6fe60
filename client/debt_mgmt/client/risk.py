"""Limits, circuit breakers and alerts. None of it ever stops a strictly reducing order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from debt_mgmt.client.answers import Answer, Outcome
from debt_mgmt.client.call import Call, Pages, command, pages, query, whole
from debt_mgmt.client.decimals import Number, decimal
from debt_mgmt.client.enums import AlertKind, AlertSeverity, BreakerKind, Protection, TradingState
from debt_mgmt.client.figures import Alert, Thresholds
from debt_mgmt.client.methods import Methods, history, unary
from debt_mgmt.client.times import Span, Timeout, duration
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import risk_service_pb2 as pb


class Unchanged(Enum):
    """Says that a limit stays as it is."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class OrderRate:
    """So many orders in so much time."""

    orders: int
    interval: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """Limits of an account. None: not limited. Amounts in the account's currency, fractions as decimals."""

    max_leverage: Decimal | None
    max_position_quantity: Decimal | None
    """Of one position, in contracts."""
    max_position_notional: Decimal | None
    """Of one position."""
    max_exposure_notional: Decimal | None
    """Sum of notionals of positions and reservations."""
    max_concurrent_positions: int | None
    max_open_reservations: int | None
    max_daily_loss: Decimal | None
    """Loss of equity since the day began, deposits and withdrawals apart."""
    max_daily_loss_fraction: Decimal | None
    """The same as fraction of the equity when the day began."""
    max_drawdown_fraction: Decimal | None
    """Fall of equity from its peak, as fraction of the peak."""
    max_order_rate: OrderRate | None
    """Risk-adding orders per time."""
    breaker_cool_down: timedelta | None
    """How long a tripped circuit breaker stops new risk. None: until trading is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionStatus:
    """A protection and its use."""

    protection: Protection
    off: bool
    """True: it protects from nothing."""
    used: Decimal | None
    """How much is used now, in the limit's unit."""
    limit: Decimal | None
    headroom: Decimal | None
    """limit − used, never negative."""
    subject: str | None
    """Symbol that uses most, where the limit is per position."""
    note: str | None
    """Why it is off, or what to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A circuit breaker."""

    kind: BreakerKind
    tripped: bool
    """True: it stops new risk."""
    baseline: Decimal | None
    """Equity that the loss is measured from."""
    loss: Decimal | None
    """Loss from the baseline now; 0 when there is none."""
    trip_time: datetime | None
    reset_time: datetime | None
    """When it ends by itself. None: not tripped, or only when trading is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimitsStatus(Answer):
    """An account's limits, their use, and which protections are off."""

    limits: RiskLimits
    """In force: the account's own, else the configured ones."""
    own_limits: tuple[str, ...]
    """Names of the limits that are the account's own."""
    protections: tuple[ProtectionStatus, ...]
    """Every protection once, on or off."""
    breakers: tuple[BreakerStatus, ...]
    """Every circuit breaker once."""
    thresholds: Thresholds
    trading_state: TradingState
    trading_state_reason: str | None
    """Why it is not ACTIVE, in words; when ACTIVE, which strategies and instruments are halted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRiskLimitsOutcome(Outcome):
    """The limits changed, or why not."""

    limits: RiskLimits
    """In force afterwards."""
    pending_change_id: str | None = None
    """The change that waits for a second person. None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeOutcome(Outcome):
    """The alert acknowledged, or why not."""

    alert: Alert
    """Afterwards."""


class RiskMethods(Methods):
    """Sets limits, shows alerts."""

    @unary
    def risk_limits(self, account_id: str, *, timeout: Timeout = None) -> Call[RiskLimitsStatus]:
        """An account's limits, how much of each is used, and which protections are off."""
        request = pb.GetRiskLimitsRequest(account_id=account_id)
        return query(self.raw.risk.GetRiskLimits, request, whole(RiskLimitsStatus), timeout)

    @unary
    def set_risk_limits(
        self,
        account_id: str,
        *,
        max_leverage: Number | Unchanged | None = UNCHANGED,
        max_position_quantity: Number | Unchanged | None = UNCHANGED,
        max_position_notional: Number | Unchanged | None = UNCHANGED,
        max_exposure_notional: Number | Unchanged | None = UNCHANGED,
        max_concurrent_positions: int | Unchanged | None = UNCHANGED,
        max_open_reservations: int | Unchanged | None = UNCHANGED,
        max_daily_loss: Number | Unchanged | None = UNCHANGED,
        max_daily_loss_fraction: Number | Unchanged | None = UNCHANGED,
        max_drawdown_fraction: Number | Unchanged | None = UNCHANGED,
        max_order_rate: OrderRate | Unchanged | None = UNCHANGED,
        breaker_cool_down: Span | Unchanged | None = UNCHANGED,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[SetRiskLimitsOutcome]:
        """Changes the limits that are given and no others. None sets a limit back to the configured value.

        Refused with NEEDS_SECOND_PERSON, nothing is changed until somebody else approves `pending_change_id`.
        """
        decimals = {
            "max_leverage": max_leverage,
            "max_position_quantity": max_position_quantity,
            "max_position_notional": max_position_notional,
            "max_exposure_notional": max_exposure_notional,
            "max_daily_loss": max_daily_loss,
            "max_daily_loss_fraction": max_daily_loss_fraction,
            "max_drawdown_fraction": max_drawdown_fraction,
        }
        others = {
            "max_concurrent_positions": max_concurrent_positions,
            "max_open_reservations": max_open_reservations,
            "max_order_rate": max_order_rate,
        }
        changed: dict[str, object] = {
            name: None if value is None else decimal(value, name)
            for name, value in decimals.items()
            if not isinstance(value, Unchanged)
        }
        changed |= {name: value for name, value in others.items() if not isinstance(value, Unchanged)}
        if not isinstance(breaker_cool_down, Unchanged):
            changed["breaker_cool_down"] = duration(breaker_cool_down, "breaker_cool_down")
        if not changed:
            raise ValueError("name at least one limit to change")
        request = message(
            pb.SetRiskLimitsRequest,
            request_id=request_id,
            account_id=account_id,
            limits=message(pb.RiskLimits, **changed),
            update_mask=FieldMask(paths=list(changed)),
            reason=reason,
        )
        return command(self.raw.risk.SetRiskLimits, request, SetRiskLimitsOutcome, timeout)

    @unary
    def acknowledge_alert(
        self, alert_id: str, *, note: str | None = None, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[AcknowledgeOutcome]:
        """Notes that someone has seen an alert: it is not escalated any more. Refused where somebody did before."""
        request = message(pb.AcknowledgeAlertRequest, request_id=request_id, alert_id=alert_id, note=note)
        return command(self.raw.risk.AcknowledgeAlert, request, AcknowledgeOutcome, timeout)

    @history
    def alerts(
        self,
        account_id: str | None = None,
        *,
        kinds: Sequence[AlertKind | str] = (),
        min_severity: AlertSeverity | str | None = None,
        unacknowledged_only: bool = False,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: int | None = None,
        timeout: Timeout = None,
    ) -> Pages[Alert]:
        """Alerts, newest first; of all accounts that the caller may see, where none is named. Filters add up.

        From `start_time`, inclusive, to `end_time`, exclusive; `limit` ends the list early.
        """
        request = message(
            pb.ListAlertsRequest,
            account_id=account_id,
            kinds=list(kinds),
            min_severity=min_severity,
            unacknowledged_only=unacknowledged_only,
            start_time=start_time,
            end_time=end_time,
        )
        return pages(self.raw.risk.ListAlerts, request, lambda page: page.alerts, Alert, timeout, limit)
