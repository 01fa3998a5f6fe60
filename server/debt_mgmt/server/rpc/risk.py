"""RiskService: limits and alerts, and with them halts and limit sets. None of it stops what strictly reduces."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Alert, Limits, Severity
from debt_mgmt.core.faults import unknown_alert
from debt_mgmt.core.money import text
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import carried_out, reading, verdict
from debt_mgmt.server.rpc.changes import Changes, verdict_of_account
from debt_mgmt.server.rpc.halts import Halts, partly_halted
from debt_mgmt.server.rpc.limit_sets import LimitSets
from debt_mgmt.server.rpc.names import ALERT_KIND, SEVERITY, TRADING_STATE
from debt_mgmt.server.rpc.pages import Cursor, moment, page_of
from debt_mgmt.server.rpc.protections import breakers, limits_in_force, protections
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import risk_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.rpc.guard import Call

LIMIT_FIELDS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in Limits.__struct_fields__ if name in wire.RiskLimits.DESCRIPTOR.fields_by_name},
    "max_order_rate": ("order_rate_count", "order_rate_interval_seconds"),
    "breaker_cool_down": ("breaker_cool_down_seconds",),
}
"""Field of RiskLimits → the fields of core's Limits that hold it."""

SEVERITY_RANK = {severity: rank for rank, severity in enumerate(Severity)}

SECONDS_MOST = timedelta(days=365)


class RiskService(LimitSets, Halts, Changes):
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def GetRiskLimits(self, request: wire.GetRiskLimitsRequest, call: "Call") -> wire.GetRiskLimitsResponse:
        engine = self.engine
        read = Reader()
        account_id = read.account_id(request.account_id)
        read.done()
        account, world = engine.account(account_id), engine.world()
        view = AccountView(account, world)
        state, reason = convert.trading_state(account, world.house)
        return wire.GetRiskLimitsResponse(
            **reading(engine.revision(account_id), world.at),
            limits=limits_in_force(account, view),
            own_limits=own_limits(account.limits),
            protections=protections(view),
            breakers=breakers(view),
            thresholds=convert.thresholds(world.settings),
            trading_state=TRADING_STATE.wire[state],
            trading_state_reason=reason or partly_halted(view, call.actor),
        )

    async def SetRiskLimits(self, request: wire.SetRiskLimitsRequest, call: "Call") -> wire.SetRiskLimitsResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        account_id = read.account_id(request.account_id)
        command = read_limits(read, request, engine.risk)
        read.done()
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        return wire.SetRiskLimitsResponse(
            **await verdict_of_account(engine, call, account_id, command, request_id, committed),
            limits=limits_in_force(account, AccountView(account, engine.world())),
        )

    async def ListAlerts(self, request: wire.ListAlertsRequest, call: "Call") -> wire.ListAlertsResponse:
        engine = self.engine
        read = Reader()
        account_id = read.optional_id(request.account_id, "account_id")
        size = read.page_size(request.page_size)
        kinds = read.choices(request.kinds, ALERT_KIND, "kinds")
        least = read.optional_choice(request.min_severity, SEVERITY, "min_severity")
        since, until = read.period(request)
        read.done()
        filters = (account_id, sorted(kinds), least, request.unacknowledged_only, since, until)
        accounts = [engine.account(one) for one in ([account_id] if account_id else call.actor.seen(engine.accounts()))]
        found = (
            (account.account_id, alert)
            for account in accounts
            for alert in account.alerts
            if (not kinds or alert.kind in kinds)
            and (least is None or SEVERITY_RANK[alert.severity] >= SEVERITY_RANK[least])
            and (since is None or alert.at >= since)
            and (until is None or alert.at < until)
            and not (request.unacknowledged_only and alert.acknowledged_at is not None)
        )
        page, following = page_of(
            found, place_of_alert, size, request.page_token, "ListAlerts", *filters, newest_first=True
        )
        place = engine.revision(account_id) if account_id else engine.house_revision()
        return wire.ListAlertsResponse(
            **reading(place, engine.clock()),
            alerts=[convert.alert(alert, holder, engine.risk) for holder, alert in page],
            next_page_token=following,
        )

    async def AcknowledgeAlert(
        self, request: wire.AcknowledgeAlertRequest, call: "Call"
    ) -> wire.AcknowledgeAlertResponse:
        engine = self.engine
        read = Reader()
        request_id = read.request_id(request.request_id)
        alert_id = read.id(request.alert_id, "alert_id")
        note = read.text(request.note, "note")
        read.done()
        account_id = holder_of(engine, call.actor, alert_id)
        command = c.AcknowledgeAlert(alert_id, call.actor.name, note)
        committed, account = await carried_out(engine, account_id, command, request_id=request_id, actor=call.actor)
        (alert,) = (one for one in account.alerts if one.alert_id == alert_id)
        return wire.AcknowledgeAlertResponse(
            **verdict(engine, account_id, committed), alert=convert.alert(alert, account_id, engine.risk)
        )


def holder_of(engine: "Engine", actor: Actor, alert_id: str) -> str:
    """The account that keeps the alert, of those that exist for the caller. Raises Fault ALERT_NOT_FOUND."""
    number = alert_id.partition("-")[0]
    for account_id in actor.seen(engine.accounts()):
        if str(engine.home[account_id]) == number and any(
            one.alert_id == alert_id for one in engine.account(account_id).alerts
        ):
            return account_id
    raise unknown_alert(alert_id)


def place_of_alert(held: tuple[str, Alert]) -> Cursor:
    """Alerts by time; an alert's id is its place in the journal, (shard)-(position)."""
    _, alert = held
    shard, _, position = alert.alert_id.partition("-")
    return [moment(alert.at), int(shard), int(position)]


# limits


def own_limits(limits: Limits) -> list[str]:
    """Fields of RiskLimits in which the account has a limit of its own."""
    own = {name for name in Limits.__struct_fields__ if getattr(limits, name) is not None}
    return [name for name in wire.RiskLimits.DESCRIPTOR.fields_by_name if own.intersection(LIMIT_FIELDS[name])]


def read_limits(read: Reader, request: wire.SetRiskLimitsRequest, settings: RiskSettings) -> c.SetLimits:
    """The limits to change and their values; a limit that is named and absent goes back to the configured one."""
    message = request.limits
    named = list(dict.fromkeys(request.update_mask.paths))
    for index, name in enumerate(named):
        if name not in LIMIT_FIELDS:
            read.problem(f"update_mask.paths[{index}]", f"is no limit; limits are {', '.join(LIMIT_FIELDS)}")
    if not named:
        named = [name for name in LIMIT_FIELDS if message.HasField(name)]  # type: ignore[arg-type]
        if not named:
            read.problem("limits", "must hold a limit, or update_mask must name one")
    limits = limits_of(read, message, settings)
    fields = tuple(field for name in named for field in LIMIT_FIELDS.get(name, ()))
    chosen = {field: getattr(limits, field) for field in fields}
    reason = read.text(request.reason, "reason")
    return c.SetLimits(msgspec.structs.replace(Limits(), **chosen), fields, reason)


def limits_of(read: Reader, message: wire.RiskLimits, settings: RiskSettings) -> Limits:
    """The limits that the message holds."""
    leverage = read.optional(message, "max_leverage", read.positive, "limits.max_leverage")
    if leverage is not None and not 1 <= leverage <= settings.max_leverage:
        read.problem("limits.max_leverage", f"must be from 1 to {text(settings.max_leverage)}, the configured maximum")
    orders = interval_seconds = None
    if message.HasField("max_order_rate"):
        orders = message.max_order_rate.orders
        if orders < 1:
            read.problem("limits.max_order_rate.orders", "must be at least 1")
        if read.present(message.max_order_rate, "interval", "limits.max_order_rate.interval"):
            interval_seconds = whole_seconds(read, message.max_order_rate, "interval", "limits.max_order_rate.interval")
    return Limits(
        max_leverage=leverage,
        max_position_quantity=positive(read, message, "max_position_quantity"),
        max_position_notional=positive(read, message, "max_position_notional"),
        max_exposure_notional=positive(read, message, "max_exposure_notional"),
        max_concurrent_positions=count(read, message, "max_concurrent_positions"),
        max_open_reservations=count(read, message, "max_open_reservations"),
        max_daily_loss=positive(read, message, "max_daily_loss"),
        max_daily_loss_fraction=read.optional(
            message, "max_daily_loss_fraction", read.fraction, "limits.max_daily_loss_fraction"
        ),
        max_drawdown_fraction=read.optional(
            message, "max_drawdown_fraction", read.fraction, "limits.max_drawdown_fraction"
        ),
        order_rate_count=orders,
        order_rate_interval_seconds=interval_seconds,
        breaker_cool_down_seconds=whole_seconds(read, message, "breaker_cool_down", "limits.breaker_cool_down"),
    )


def positive(read: Reader, message: wire.RiskLimits, field: str) -> Any:
    return read.optional(message, field, read.positive, f"limits.{field}")


def count(read: Reader, message: wire.RiskLimits, field: str) -> int | None:
    if not message.HasField(field):  # type: ignore[arg-type]
        return None
    number: int = getattr(message, field)
    if number < 1:
        read.problem(f"limits.{field}", "must be at least 1")
    return number


def whole_seconds(read: Reader, message: Any, field: str, path: str) -> int | None:
    """A duration in seconds; parts of a second are not kept, so they are refused."""
    length = read.duration(message, field, path, SECONDS_MOST)
    if length is None:
        return None
    if length % timedelta(seconds=1):
        read.problem(path, "must be a whole number of seconds")
    return length // timedelta(seconds=1)
