"""Limit sets on the wire: what a request says, and a set with what is used of it."""

import re
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.core.limit_sets import DAY_NAMES, END_OF_DAY, Hours, LimitMode, LimitSet, NodeLimits
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.money import ZERO, required
from debt_mgmt.core.node_use import OutsideUse, OwnUse, held_by
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.names import LIMIT_MODE
from debt_mgmt.server.rpc.protections import largest, status
from debt_mgmt.server.rpc.validate import Reader
from debt_mgmt.v1 import risk_service_pb2 as wire
from debt_mgmt.v1 import types_pb2

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]").fullmatch
HOURS_MOST = 50
SECONDS_MOST = timedelta(days=31)
OF_OTHERS = "not shown to a token that is limited to some accounts"


# reading


def read_scope(read: Reader, message: types_pb2.Scope, path: str) -> Scope:
    return Scope(
        owner=read.optional_id(message.owner, f"{path}.owner"),
        account_id=read.optional_id(message.account_id, f"{path}.account_id"),
        strategy=read.optional_id(message.strategy, f"{path}.strategy"),
        symbol=read.symbol(message.symbol, f"{path}.symbol") if message.symbol else "",
    )


def read_limit_set(read: Reader, message: wire.LimitSet) -> LimitSet:
    """The set, with every field noted that is malformed."""
    path = "limit_set"
    scope = read_scope(read, message.scope, f"{path}.scope")
    limits = read_limits(read, message.limits, f"{path}.limits")
    currency = read.optional_asset(message.currency, f"{path}.currency")
    in_money = limits.max_position_notional is not None or limits.max_exposure_notional is not None
    if in_money and not currency and not scope.account_id:
        read.problem(f"{path}.currency", "is required with a notional, unless scope.account_id names one account")
    if len(message.hours) > HOURS_MOST:
        read.problem(f"{path}.hours", f"has {len(message.hours)} items, at most {HOURS_MOST} are accepted")
    hours = [read_hours(read, one, f"{path}.hours[{n}]") for n, one in enumerate(message.hours[:HOURS_MOST])]
    return LimitSet(
        scope=scope,
        name=read.optional_id(message.name, f"{path}.name"),
        mode=read.choice(message.mode, LIMIT_MODE, f"{path}.mode", LimitMode.ENFORCED),
        limits=limits,
        hours=tuple(hours),
        currency=currency,
        reason=read.text(message.reason, f"{path}.reason"),
    )


def read_limits(read: Reader, message: wire.NodeLimits, path: str) -> NodeLimits:
    leverage = read.optional(message, "max_leverage", read.positive, f"{path}.max_leverage")
    if leverage is not None and leverage < 1:
        read.problem(f"{path}.max_leverage", "must be at least 1")
    orders = seconds = None
    if message.HasField("max_order_rate"):
        orders, seconds = read_rate(read, message.max_order_rate, f"{path}.max_order_rate")
    limits = NodeLimits(
        max_leverage=leverage,
        max_position_quantity=amount(read, message, "max_position_quantity", path),
        max_position_notional=amount(read, message, "max_position_notional", path),
        max_exposure_notional=amount(read, message, "max_exposure_notional", path),
        max_concurrent_positions=count(read, message, "max_concurrent_positions", path),
        max_open_reservations=count(read, message, "max_open_reservations", path),
        order_rate_count=orders,
        order_rate_interval_seconds=seconds,
    )
    if limits == NodeLimits():
        read.problem(path, "must hold a limit")
    return limits


def amount(read: Reader, message: wire.NodeLimits, field: Any, path: str) -> Decimal | None:
    return read.optional(message, field, read.not_negative, f"{path}.{field}")


def count(read: Reader, message: wire.NodeLimits, field: Any, path: str) -> int | None:
    if not message.HasField(field):
        return None
    number: int = getattr(message, field)
    if number < 0:
        read.problem(f"{path}.{field}", "must not be negative")
    return number


def read_rate(read: Reader, message: wire.OrderRate, path: str) -> tuple[int, int | None]:
    if message.orders < 1:
        read.problem(f"{path}.orders", "must be at least 1")
    if not read.present(message, "interval", f"{path}.interval"):
        return message.orders, None
    length = read.duration(message, "interval", f"{path}.interval", SECONDS_MOST)
    assert length is not None
    if length % timedelta(seconds=1):
        read.problem(f"{path}.interval", "must be a whole number of seconds")
    return message.orders, length // timedelta(seconds=1)


def read_hours(read: Reader, message: wire.LimitHours, path: str) -> Hours:
    days: set[int] = set()
    for index, name in enumerate(message.days):
        if name in DAY_NAMES:
            days.add(DAY_NAMES.index(name))
        else:
            read.problem(f"{path}.days[{index}]", f"must be one of {', '.join(DAY_NAMES)}")
    if TIME_OF_DAY(message.start_time) is None:
        read.problem(f"{path}.start_time", "must be a time of day as HH:MM")
    if TIME_OF_DAY(message.end_time) is None and message.end_time != END_OF_DAY:
        read.problem(f"{path}.end_time", "must be a time of day as HH:MM, or 24:00")
    zone = message.time_zone or "UTC"
    if not is_zone(zone):
        read.problem(f"{path}.time_zone", "must be an IANA name such as Europe/Zurich")
    return Hours(start=message.start_time, end=message.end_time, days=tuple(sorted(days)), zone=zone)


def is_zone(name: str) -> bool:
    """Whether there are clocks of this name."""
    return name in available_timezones() and ZoneInfo(name) is not None


# writing


def limits_message(limits: NodeLimits) -> wire.NodeLimits:
    rate = None
    if limits.order_rate_count is not None:
        interval = timedelta(seconds=limits.order_rate_interval_seconds or 1)
        rate = wire.OrderRate(orders=limits.order_rate_count, interval=convert.duration(interval))
    return wire.NodeLimits(
        max_leverage=convert.optional_text(limits.max_leverage),
        max_position_quantity=convert.optional_text(limits.max_position_quantity),
        max_position_notional=convert.optional_text(limits.max_position_notional),
        max_exposure_notional=convert.optional_text(limits.max_exposure_notional),
        max_concurrent_positions=limits.max_concurrent_positions,
        max_open_reservations=limits.max_open_reservations,
        max_order_rate=rate,
    )


def limit_set_message(one: LimitSet) -> wire.LimitSet:
    return wire.LimitSet(
        scope=convert.scope(one.scope),
        name=one.name,
        mode=LIMIT_MODE.wire[one.mode],
        limits=limits_message(one.limits),
        hours=[
            wire.LimitHours(
                days=[DAY_NAMES[day] for day in part.days],
                start_time=part.start,
                end_time=part.end,
                time_zone=part.zone,
            )
            for part in one.hours
        ],
        currency=one.currency,
        reason=one.reason,
        update_time=convert.optional_timestamp(one.at),
    )


def status_message(engine: "Engine", one: LimitSet, actor: Actor) -> wire.LimitSetStatus:
    """A set with its use; without what would tell a limited caller of accounts that are not his."""
    at = engine.clock()
    message = wire.LimitSetStatus(limit_set=limit_set_message(one), in_force=one.in_force(at))
    concerned = accounts_of(engine, one.scope)
    if actor.accounts is not None and not is_own(one.scope, actor):
        seen = [account for account in concerned if actor.may_see(account.account_id)]
        message.account_count = len(seen)
        message.protections.extend(position_statuses(engine, one, seen))
        for field, protection in SUMS.items():
            if message.limit_set.limits.HasField(field):  # type: ignore[arg-type]
                message.limit_set.limits.ClearField(field)  # type: ignore[arg-type]
                message.protections.append(wire.ProtectionStatus(protection=protection, note=OF_OTHERS))
        return message
    message.account_count = len(concerned)
    message.protections.extend(position_statuses(engine, one, concerned))
    message.protections.extend(sum_statuses(one.limits, engine.tree.total(one, at)))
    return message


SUMS = {
    "max_exposure_notional": wire.PROTECTION_EXPOSURE_NOTIONAL,
    "max_concurrent_positions": wire.PROTECTION_CONCURRENT_POSITIONS,
    "max_open_reservations": wire.PROTECTION_OPEN_RESERVATIONS,
    "max_order_rate": wire.PROTECTION_ORDER_RATE,
}
"""Limits on what all accounts of a node have together."""


def is_own(scope: Scope, actor: Actor) -> bool:
    """Whether all that a node concerns is the caller's to see."""
    return actor.accounts is None or (scope.account_id != "" and actor.may_see(scope.account_id))


def accounts_of(engine: "Engine", scope: Scope) -> list[Account]:
    """The open accounts that a node concerns."""
    return [
        account
        for account in map(engine.account, engine.accounts())
        if account.closed_at is None
        and scope.owner in ("", account.owner)
        and scope.account_id in ("", account.account_id)
    ]


def position_statuses(engine: "Engine", one: LimitSet, accounts: list[Account]) -> Iterable[wire.ProtectionStatus]:
    """Limits on single positions; the instrument that uses most is named."""
    limits, scope = one.limits, one.scope
    if limits.max_leverage is not None:
        used, subject = largest(
            (account.positions[key].leverage, account.positions[key].symbol)
            for account in accounts
            for key in held_by(account, scope.strategy)
            if key in account.positions and scope.symbol in ("", account.positions[key].symbol)
        )
        yield status(wire.PROTECTION_LEVERAGE, limits.max_leverage, used, subject=subject)
    if limits.max_position_quantity is None and limits.max_position_notional is None:
        return
    held = [(account, OwnUse(account, scope.strategy).largest(scope.symbol)) for account in accounts]
    if limits.max_position_quantity is not None:
        used, subject = largest((quantity, symbol) for _, found in held for symbol, quantity in found.items())
        yield status(wire.PROTECTION_POSITION_QUANTITY, limits.max_position_quantity, used, subject=subject)
    if limits.max_position_notional is None:
        return
    note, subject, value = "", "", ZERO
    try:
        value, subject = largest(
            (required(quantity * worth(engine, account, symbol, one.currency)), symbol)
            for account, found in held
            for symbol, quantity in found.items()
            if quantity
        )
    except Unpriced as unpriced:
        note = f"{unpriced.missing} has no price"
    yield status(
        wire.PROTECTION_POSITION_NOTIONAL,
        limits.max_position_notional,
        None if note else value,
        subject=subject,
        note=note,
    )


def worth(engine: "Engine", account: Account, symbol: str, currency: str) -> Decimal:
    real = account.environment is not Environment.SANDBOX
    return engine.tree.value(symbol, currency or account.currency, real)


def sum_statuses(limits: NodeLimits, found: OutsideUse | None) -> Iterable[wire.ProtectionStatus]:
    """Limits on what all accounts of the node have together. None: not known."""
    if limits.max_exposure_notional is not None:
        exposure = None if found is None or found.exposure is None else required(found.exposure)
        note = f"{found.missing} has no price" if found is not None and found.missing else ""
        yield status(wire.PROTECTION_EXPOSURE_NOTIONAL, limits.max_exposure_notional, exposure, note=note)
    for protection, limit, used in (
        (
            wire.PROTECTION_CONCURRENT_POSITIONS,
            limits.max_concurrent_positions,
            None if found is None else found.positions,
        ),
        (
            wire.PROTECTION_OPEN_RESERVATIONS,
            limits.max_open_reservations,
            None if found is None else found.reservations,
        ),
    ):
        if limit is not None:
            yield status(protection, limit, used)
    if limits.order_rate_count is not None:
        note = f"orders in {limits.order_rate_interval_seconds or 1} s"
        orders = None if found is None else found.orders
        yield status(wire.PROTECTION_ORDER_RATE, limits.order_rate_count, orders, note=note)
