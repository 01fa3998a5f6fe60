"""Enums under their two names: each member of the core and its number on the wire, matched by spelling."""

from enum import StrEnum
from typing import Any, Generic, TypeVar

from debt_mgmt.core import account as a
from debt_mgmt.core.access import Role
from debt_mgmt.core.faults import FaultReason
from debt_mgmt.core.instrument import InstrumentKind
from debt_mgmt.core.limit_sets import LimitMode
from debt_mgmt.core.profit import IntervalLength
from debt_mgmt.core.refusals import Reason
from debt_mgmt.core.venue import Provenance
from debt_mgmt.server.prices.marks import QuarantineReason
from debt_mgmt.v1 import (
    debt_service_pb2,
    fund_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    options_pb2,
    rejections_pb2,
    risk_service_pb2,
    types_pb2,
)

Member = TypeVar("Member", bound=StrEnum)


class Names(Generic[Member]):
    """The members of one enum. What the wire alone knows is not in here; what the core alone knows can't be loaded."""

    def __init__(self, members: type[Member], wire: Any, prefix: str) -> None:
        self.wire: dict[Member, Any] = {member: wire.Value(f"{prefix}_{member.value}") for member in members}
        self.core: dict[int, Member] = {number: member for member, number in self.wire.items()}


SIDE = Names(a.Side, types_pb2.Side, "SIDE")
POSITION_SIDE = Names(a.PositionSide, types_pb2.PositionSide, "POSITION_SIDE")
POSITION_MODE = Names(a.PositionMode, types_pb2.PositionMode, "POSITION_MODE")
MARGIN_MODE = Names(a.MarginMode, types_pb2.MarginMode, "MARGIN_MODE")
ENVIRONMENT = Names(a.Environment, types_pb2.Environment, "ENVIRONMENT")
TIME_IN_FORCE = Names(a.TimeInForce, margin_service_pb2.TimeInForce, "TIME_IN_FORCE")
ORDER_STATE = Names(a.OrderState, margin_service_pb2.OrderState, "ORDER_STATE")
INSTRUMENT_KIND = Names(InstrumentKind, types_pb2.InstrumentKind, "INSTRUMENT_KIND")
TRADING_STATE = Names(a.TradingState, types_pb2.TradingState, "TRADING_STATE")
PROVENANCE = Names(Provenance, types_pb2.Provenance, "PROVENANCE")
RISK_LEVEL = Names(a.RiskLevel, types_pb2.RiskLevel, "RISK_LEVEL")
ALERT_KIND = Names(a.AlertKind, types_pb2.AlertKind, "ALERT_KIND")
SEVERITY = Names(a.Severity, types_pb2.AlertSeverity, "ALERT_SEVERITY")
BREAKER_KIND = Names(a.BreakerKind, risk_service_pb2.BreakerKind, "BREAKER_KIND")
QUARANTINE_REASON = Names(QuarantineReason, market_service_pb2.QuarantineReason, "QUARANTINE_REASON")
LIMIT_MODE = Names(LimitMode, risk_service_pb2.LimitMode, "LIMIT_MODE")
LENDER = Names(a.Lender, debt_service_pb2.Lender, "LENDER")
INTERVAL_LENGTH = Names(IntervalLength, fund_service_pb2.FundInterval, "FUND_INTERVAL")
REFUSAL_REASON = Names(Reason, rejections_pb2.RefusalReason, "REFUSAL_REASON")
ROLE = Names(Role, options_pb2.Role, "ROLE")
ERROR_REASON = Names(FaultReason, rejections_pb2.ErrorReason, "ERROR_REASON")

LIQUIDATION_CAUSE: dict[a.ReductionCause, Any] = {
    a.ReductionCause.FORCED: margin_service_pb2.LIQUIDATION_CAUSE_FORCED,
    a.ReductionCause.REQUESTED: margin_service_pb2.LIQUIDATION_CAUSE_REQUESTED,
    a.ReductionCause.ISOLATED: margin_service_pb2.LIQUIDATION_CAUSE_FORCED,
}
"""On the wire an isolated position that is closed by force is a forced reduction like any other."""
