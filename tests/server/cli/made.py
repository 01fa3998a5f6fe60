"""Accounts, checks and simulations made up for tests of what the command line shows, and a client that gives them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from debt_mgmt.client import (
    Account,
    Alert,
    AlertKind,
    AlertSeverity,
    AssetAmount,
    AuditEvent,
    BreakerStatus,
    DebtMgmtError,
    Environment,
    Listing,
    MarginChange,
    MarginChangeResult,
    MarginFigures,
    MarginMode,
    MarginStatus,
    Mark,
    Order,
    OrderCheck,
    Position,
    PositionMode,
    PositionSide,
    Protection,
    ProtectionStatus,
    RefusalReason,
    Revision,
    RiskLevel,
    RiskLimits,
    RiskLimitsStatus,
    ShockDistance,
    ShockTarget,
    SimulatedAccount,
    Simulation,
    Thresholds,
    TradingState,
    Violation,
)

D = Decimal
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
PLACE = Revision(1, 17)
THRESHOLDS = Thresholds(
    margin_call_threshold=D("0.70"),
    liquidation_threshold=D("0.80"),
    forced_liquidation_threshold=D("0.90"),
    liquidation_target=D("0.70"),
    hysteresis=D("0.03"),
)
MARK = Mark(
    symbol="BTCUSDT",
    price=D(60000),
    source="desk",
    source_time=NOON,
    received_time=NOON,
    age=timedelta(seconds=0.4),
    stale=False,
)


def account(account_id: str = "demo") -> Account:
    return Account(
        account_id=account_id,
        owner="desk",
        broker="paper",
        environment=Environment.SANDBOX,
        currency="USDT",
        position_mode=PositionMode.ONE_WAY,
        margin_mode=MarginMode.CROSS,
        dry_run=False,
        balances=(AssetAmount("USDT", 10000),),
        level=RiskLevel.NORMAL,
        trading_state=TradingState.ACTIVE,
        trading_state_reason=None,
        create_time=NOON,
        close_time=None,
        revision=PLACE,
        sync=None,
    )


def figures(equity: str | None, used: str | None, level: RiskLevel = RiskLevel.NORMAL) -> MarginFigures:
    if equity is None or used is None:
        return MarginFigures(
            equity=None,
            margin_used=None,
            margin_available=None,
            margin_utilization=None,
            maintenance_margin=None,
            maintenance_ratio=None,
            level=level,
        )
    owned, needed = D(equity), D(used)
    return MarginFigures(
        equity=owned,
        margin_used=needed,
        margin_available=max(D(0), owned - needed),
        margin_utilization=needed / owned if owned > 0 else None,
        maintenance_margin=D(150),
        maintenance_ratio=D(150) / owned if owned > 0 else None,
        level=level,
    )


def status(
    account_id: str = "demo",
    equity: str | None = "50000",
    used: str | None = "30000",
    level: RiskLevel = RiskLevel.NORMAL,
    **changes: Any,
) -> MarginStatus:
    own = figures(equity, used, level)
    made = MarginStatus(
        revision=PLACE,
        as_of=NOON,
        account_id=account_id,
        currency="USDT",
        equity=own.equity,
        wallet_balance=own.equity,
        collateral_value=own.equity,
        total_value=own.equity,
        margin_used=own.margin_used,
        margin_available=own.margin_available,
        margin_utilization=own.margin_utilization,
        initial_margin_positions=own.margin_used,
        initial_margin_reservations=D(0),
        maintenance_margin=own.maintenance_margin,
        maintenance_ratio=own.maintenance_ratio,
        unrealized_pnl=D("-125.5"),
        realized_pnl=D(0),
        realized_pnl_today=D(0),
        isolated_margin=D(0),
        debt=D(0),
        level=level,
        trading_state=TradingState.ACTIVE,
        trading_state_reason=None,
        open_positions=1,
        open_reservations=0,
        shocks=SHOCKS,
        thresholds=THRESHOLDS,
        marks=(MARK,),
        stale=False,
        stale_symbols=(),
    )
    return replace(made, **changes)


SHOCKS = (
    ShockDistance(target=ShockTarget.WARNING, up=None, down=D("-0.0667")),
    ShockDistance(target=ShockTarget.CRITICAL, up=None, down=D("-0.1111")),
    ShockDistance(target=ShockTarget.LIQUIDATING, up=None, down=D("-0.1429")),
    ShockDistance(target=ShockTarget.BANKRUPTCY, up=None, down=D("-0.3333")),
)


def position(**changes: Any) -> Position:
    made = Position(
        account_id="demo",
        symbol="BTCUSDT",
        position_side=PositionSide.NET,
        quantity=D("-0.3"),
        entry_price=D(60000),
        mark_price=D(60000),
        notional=D(18000),
        leverage=D(5),
        margin_mode=MarginMode.CROSS,
        isolated_margin=None,
        initial_margin=D(3600),
        maintenance_margin=D(72),
        unrealized_pnl=D("-12.5"),
        realized_pnl=D(0),
        liquidation_price=None,
        bankruptcy_price=None,
        distance_to_liquidation=None,
        open_time=NOON,
        venue_liquidation_price=None,
        venue_liquidation_price_provenance=None,
    )
    return replace(made, **changes)


TOO_MUCH = Violation(
    reason=RefusalReason.INSUFFICIENT_MARGIN,
    message="margin required 6600, available 4000",
    value=D(6600),
    limit=D(4000),
    headroom=D(4000),
    subject="BTCUSDT",
)
TOO_HIGH = Violation(
    reason=RefusalReason.UTILIZATION_AFTER,
    message="margin utilization would be 1.2, at most 0.8 is accepted",
    value=D("1.2"),
    limit=D("0.8"),
    headroom=None,
    subject=None,
)


def check(*violations: Violation) -> OrderCheck:
    after = figures("10000", "12000", RiskLevel.LIQUIDATING) if violations else figures("10000", "7200")
    return OrderCheck(
        revision=PLACE,
        as_of=NOON,
        fits=not violations,
        reducing=False,
        violations=violations,
        margin_required=D(6600),
        initial_margin=D(6000),
        fee_estimate=D(15),
        largest_buy=D("0.165"),
        largest_sell=D("0.765"),
        before=figures("10000", "6000"),
        after=after,
        mark=MARK,
    )


LIMITS = RiskLimitsStatus(
    revision=PLACE,
    as_of=NOON,
    limits=RiskLimits(
        max_leverage=D(5),
        max_position_quantity=None,
        max_position_notional=None,
        max_exposure_notional=None,
        max_concurrent_positions=20,
        max_open_reservations=1000,
        max_daily_loss=None,
        max_daily_loss_fraction=D("0.2"),
        max_drawdown_fraction=D("0.5"),
        max_order_rate=None,
        breaker_cool_down=timedelta(hours=1),
    ),
    own_limits=(),
    protections=(
        ProtectionStatus(
            protection=Protection.LEVERAGE,
            off=False,
            used=None,
            limit=D(5),
            headroom=None,
            subject=None,
            note=None,
        ),
        ProtectionStatus(
            protection=Protection.ORDER_RATE,
            off=True,
            used=None,
            limit=None,
            headroom=None,
            subject=None,
            note=None,
        ),
    ),
    breakers=tuple[BreakerStatus, ...](),
    thresholds=THRESHOLDS,
    trading_state=TradingState.ACTIVE,
    trading_state_reason=None,
)

ALERT = Alert(
    alert_id="1-20",
    account_id="demo",
    kind=AlertKind.LEVEL_RAISED,
    severity=AlertSeverity.WARNING,
    time=NOON,
    level=RiskLevel.WARNING,
    utilization=D("0.7009"),
    message="WARNING: margin utilization is 70.09 %",
    marks=(MARK,),
    acknowledged=False,
    acknowledged_by=None,
    acknowledge_time=None,
)


def event(position: int, kind: str = "LeverageSet", payload: str = '{"symbol": "BTCUSDT"}') -> AuditEvent:
    return AuditEvent(
        revision=Revision(1, position),
        time=NOON + timedelta(seconds=position),
        account_id="demo",
        request_id=None,
        actor='{"name":"debt-mgmt","role":"system"}',
        kind=kind,
        payload=payload,
        chain_hash="00",
    )


class FakeClient:
    """Stands in for the service: gives what it was made with, and remembers what it was asked."""

    def __init__(
        self,
        *,
        statuses: Sequence[MarginStatus] = (),
        check: OrderCheck | None = None,
        events: Sequence[AuditEvent] = (),
        refused_changes: Sequence[int] = (),
        error: DebtMgmtError | None = None,
    ) -> None:
        self._statuses = {one.account_id: one for one in statuses}
        self._check = check
        self._events = events
        self._refused_changes = refused_changes
        self._error = error
        self.orders: list[Order] = []
        self.simulated: list[list[MarginChange]] = []
        self.filters: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def fail(self) -> None:
        if self._error is not None:
            raise self._error

    async def account(self, account_id: str) -> Account:
        self.fail()
        return account(account_id)

    async def accounts(self, *, include_closed: bool = False) -> Listing[Account]:
        self.fail()
        return Listing([account(name) for name in self._statuses], PLACE, NOON)

    async def margin_status(self, account_id: str) -> MarginStatus:
        return self._statuses[account_id]

    async def positions(self, account_id: str, *, symbols: Sequence[str] = ()) -> Listing[Position]:
        return Listing([position()], PLACE, NOON)

    async def risk_limits(self, account_id: str) -> RiskLimitsStatus:
        return LIMITS

    async def check_order(self, account_id: str, order: Order) -> OrderCheck:
        self.orders.append(order)
        assert self._check is not None
        return self._check

    async def simulate(self, account_id: str, changes: Sequence[MarginChange] = ()) -> Simulation:
        self.simulated.append(list(changes))
        after = figures("8000", "5000")
        results = tuple(
            MarginChangeResult(
                accepted=number not in self._refused_changes,
                violations=(TOO_MUCH,) if number in self._refused_changes else (),
                realized_pnl=None,
                after=after,
            )
            for number in range(len(changes))
        )
        return Simulation(
            revision=PLACE,
            as_of=NOON,
            before=SimulatedAccount(figures=figures("10000", "6000"), positions=(position(),), marks=(MARK,)),
            after=SimulatedAccount(figures=after, positions=(position(),), marks=(MARK,)),
            results=results,
            shocks=SHOCKS,
        )

    async def audit_events(self, account_id: str | None = None, **filters: Any) -> AsyncIterator[AuditEvent]:
        self.filters = {"account_id": account_id, **filters}
        found = self._events[::-1] if filters.get("newest_first") else self._events
        for one in found[: filters.get("limit")]:
            yield one
