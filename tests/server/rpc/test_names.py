"""Enums of the core and of the wire: each member has a number, and each number a member but for those named here."""

from typing import Any

import pytest

from debt_mgmt.core.account import ReductionCause
from debt_mgmt.server.rpc import names
from debt_mgmt.v1 import margin_service_pb2, market_service_pb2, rejections_pb2, risk_service_pb2, types_pb2

TABLES: list[tuple[names.Names[Any], Any, set[str]]] = [
    (names.SIDE, types_pb2.Side, set()),
    (names.POSITION_SIDE, types_pb2.PositionSide, set()),
    (names.POSITION_MODE, types_pb2.PositionMode, set()),
    (names.MARGIN_MODE, types_pb2.MarginMode, set()),
    (names.ENVIRONMENT, types_pb2.Environment, set()),
    (names.INSTRUMENT_KIND, types_pb2.InstrumentKind, set()),
    (names.TIME_IN_FORCE, margin_service_pb2.TimeInForce, set()),
    (names.ORDER_STATE, margin_service_pb2.OrderState, set()),
    (names.TRADING_STATE, types_pb2.TradingState, set()),
    (names.RISK_LEVEL, types_pb2.RiskLevel, set()),
    (names.ALERT_KIND, types_pb2.AlertKind, set()),
    (names.SEVERITY, types_pb2.AlertSeverity, set()),
    (names.BREAKER_KIND, risk_service_pb2.BreakerKind, set()),
    (names.QUARANTINE_REASON, market_service_pb2.QuarantineReason, set()),
    (names.REFUSAL_REASON, rejections_pb2.RefusalReason, set()),
    (names.ERROR_REASON, rejections_pb2.ErrorReason, set()),
]


@pytest.mark.parametrize(("table", "wire", "wire_only"), TABLES)
def test_both_sides_have_the_same_members(table: names.Names[Any], wire: Any, wire_only: set[str]) -> None:
    numbers = {number for name, number in wire.items() if number and name not in wire_only}
    assert set(table.core) == numbers
    assert len(table.wire) == len(table.core)


def test_refusals_have_the_precedence_of_the_contract() -> None:
    """The later ones have their place in the precedence, and the next free numbers."""
    numbers = [number for number in names.REFUSAL_REASON.wire.values() if number < 60]
    assert numbers == sorted(numbers)


def test_every_cause_of_a_reduction_can_be_told() -> None:
    assert set(names.LIQUIDATION_CAUSE) == set(ReductionCause)
    told = {number for number in margin_service_pb2.LiquidationCause.values() if number}
    assert set(names.LIQUIDATION_CAUSE.values()) == told
