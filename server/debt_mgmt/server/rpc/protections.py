"""Protections of an account: what each limit is, how much of it is used, and which protections are off."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from debt_mgmt.core.account import Account, BreakerKind, Limits
from debt_mgmt.core.check import order_window, seconds
from debt_mgmt.core.exposure import exposure_without
from debt_mgmt.core.limits import worth
from debt_mgmt.core.money import ONE, ZERO, owned, ratio, required, text
from debt_mgmt.core.settings import FourEyes
from debt_mgmt.core.view import AccountView
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.leverage import account_cap
from debt_mgmt.server.rpc.names import BREAKER_KIND
from debt_mgmt.v1 import risk_service_pb2 as wire

NO_LIMIT = "no limit is set"
NOT_KNOWN = "a price is missing, so its use is not known"


def limits_in_force(account: Account, view: AccountView) -> wire.RiskLimits:
    """The account's own limits, else the configured ones; leverage never above what is configured."""
    message = limits_message(view.limits)
    message.max_leverage = text(account_cap(account, view.world.settings))
    return message


def limits_message(limits: Limits) -> wire.RiskLimits:
    rate = None
    if limits.order_rate_count is not None:
        interval = timedelta(seconds=limits.order_rate_interval_seconds or 1)
        rate = wire.OrderRate(orders=limits.order_rate_count, interval=convert.duration(interval))
    cool_down = limits.breaker_cool_down_seconds
    return wire.RiskLimits(
        max_leverage=convert.optional_text(limits.max_leverage),
        max_position_quantity=convert.optional_text(limits.max_position_quantity),
        max_position_notional=convert.optional_text(limits.max_position_notional),
        max_exposure_notional=convert.optional_text(limits.max_exposure_notional),
        max_concurrent_positions=limits.max_concurrent_positions,
        max_open_reservations=limits.max_open_reservations,
        max_daily_loss=convert.optional_text(limits.max_daily_loss),
        max_daily_loss_fraction=convert.optional_text(limits.max_daily_loss_fraction),
        max_drawdown_fraction=convert.optional_text(limits.max_drawdown_fraction),
        max_order_rate=rate,
        breaker_cool_down=convert.duration(timedelta(seconds=cool_down)) if cool_down is not None else None,
    )


def protections(view: AccountView) -> list[wire.ProtectionStatus]:
    """Every protection once, in the order of the contract."""
    return [
        *position_protections(view),
        *account_protections(view),
        *loss_protections(view),
        order_rate(view),
        forced_liquidation(view),
        price_age(view),
        four_eyes(view),
    ]


def status(
    protection: wire.Protection.ValueType,
    limit: Decimal | int | None,
    used: Decimal | int | None,
    *,
    subject: str = "",
    note: str = "",
) -> wire.ProtectionStatus:
    """A protection; one without a limit is off."""
    if limit is None:
        return wire.ProtectionStatus(protection=protection, off=True, note=note or NO_LIMIT)
    most = Decimal(limit)
    message = wire.ProtectionStatus(protection=protection, limit=text(most), subject=subject, note=note)
    if used is None:
        message.note = note or NOT_KNOWN
    else:
        message.used = text(Decimal(used))
        message.headroom = text(max(ZERO, most - Decimal(used)))
    return message


def largest(amounts: Iterable[tuple[Decimal, str]]) -> tuple[Decimal, str]:
    """The largest amount and whose it is; of equal ones the first by name."""
    return min(amounts, key=lambda one: (-one[0], one[1]), default=(ZERO, ""))


def position_protections(view: AccountView) -> Iterable[wire.ProtectionStatus]:
    """Limits on single positions; the one that uses most is named."""
    account, limits, summary = view.account, view.limits, view.summary
    held = account.positions.values()
    used, subject = largest((one.leverage, one.symbol) for one in held)
    yield status(wire.PROTECTION_LEVERAGE, account_cap(account, view.world.settings), used, subject=subject)
    used, subject = largest((abs(one.quantity), one.symbol) for one in held)
    yield status(wire.PROTECTION_POSITION_QUANTITY, limits.max_position_quantity, used, subject=subject)
    used, subject = largest((required(one.notional * one.rate), one.position.symbol) for one in summary.positions)
    known = used if summary.known else None
    yield status(wire.PROTECTION_POSITION_NOTIONAL, limits.max_position_notional, known, subject=subject)


def account_protections(view: AccountView) -> Iterable[wire.ProtectionStatus]:
    """Limits on all positions and reservations together."""
    limits, summary = view.limits, view.summary
    exposure = required(exposure_without(view, "")) if summary.known else None
    yield status(wire.PROTECTION_EXPOSURE_NOTIONAL, limits.max_exposure_notional, exposure)
    symbols = {one.symbol for one in view.account.positions.values()}
    symbols.update(one.symbol for one in view.account.reservations.values() if not one.reduce_only)
    yield status(wire.PROTECTION_CONCURRENT_POSITIONS, limits.max_concurrent_positions, len(symbols))
    yield status(wire.PROTECTION_OPEN_RESERVATIONS, limits.max_open_reservations, len(view.account.reservations))


def loss_protections(view: AccountView) -> Iterable[wire.ProtectionStatus]:
    """Limits on losses; a loss is measured once the account has been looked at with prices."""
    limits = view.limits
    daily, drawdown = losses(view)
    yield status(wire.PROTECTION_DAILY_LOSS, limits.max_daily_loss, daily[1])
    yield status(wire.PROTECTION_DAILY_LOSS_FRACTION, limits.max_daily_loss_fraction, share_of(*daily))
    yield status(wire.PROTECTION_DRAWDOWN, limits.max_drawdown_fraction, share_of(*drawdown))


def losses(view: AccountView) -> tuple[tuple[Decimal | None, Decimal | None], tuple[Decimal | None, Decimal | None]]:
    """(baseline, loss from it) of the day and of the peak; None where not known."""
    baselines = view.account.baselines
    if baselines is None:
        return (None, None), (None, None)
    found = []
    for baseline in (baselines.day_equity, baselines.peak_equity):
        loss = required(max(ZERO, baseline - worth(view.summary))) if view.summary.known else None
        found.append((baseline, loss))
    return found[0], found[1]


def share_of(baseline: Decimal | None, loss: Decimal | None) -> Decimal | None:
    """The loss as a fraction of what it is measured from; all of it where that is nothing."""
    if baseline is None or loss is None:
        return None
    share = ratio(loss, baseline)
    return ONE if share is None else share


def order_rate(view: AccountView) -> wire.ProtectionStatus:
    limits = view.limits
    interval = limits.order_rate_interval_seconds or 1
    _, counted = order_window(view.account, interval, view.world.at)
    note = f"orders in {interval} s" if limits.order_rate_count is not None else ""
    return status(wire.PROTECTION_ORDER_RATE, limits.order_rate_count, counted, note=note)


def forced_liquidation(view: AccountView) -> wire.ProtectionStatus:
    """Off on a closed account; waiting while prices are missing or old, for nothing is sold blindly."""
    account, settings = view.account, view.world.settings
    if account.closed_at is not None:
        return status(wire.PROTECTION_FORCED_LIQUIDATION, None, None, note="the account is closed")
    blind = bool(view.summary.missing or view.summary.stale(view.world.at, settings.mark_max_age))
    waiting = "waits until every price is there and fresh again" if account.positions and blind else ""
    threshold = settings.forced_liquidation_threshold
    used = view.before.margin_utilization
    if used is None and view.summary.known:
        waiting = waiting or "equity is not above zero, which counts as above every threshold"
    return status(wire.PROTECTION_FORCED_LIQUIDATION, threshold, used, note=waiting)


def price_age(view: AccountView) -> wire.ProtectionStatus:
    """How old the oldest price is that the account's figures rest on."""
    limit = seconds(view.world.settings.pre_trade_max_age)
    oldest = min(view.summary.marks, key=lambda mark: mark.received_at, default=None)
    if view.summary.missing:
        missing = view.summary.missing[0]
        return status(wire.PROTECTION_PRICE_AGE, limit, None, subject=missing, note=f"{missing} has no price")
    if oldest is None:
        return status(wire.PROTECTION_PRICE_AGE, limit, ZERO, note="in seconds; no price is needed")
    age = max(ZERO, seconds(view.world.at - oldest.received_at))
    return status(wire.PROTECTION_PRICE_AGE, limit, age, subject=oldest.symbol, note="in seconds")


def four_eyes(view: AccountView) -> wire.ProtectionStatus:
    """Whether a second person is needed for what takes protection away from this account."""
    mode, environment = view.world.settings.second_person, view.account.environment
    if mode.concerns(environment):
        note = "a second person approves the end of a halt, a raised limit and the end of dry run"
        return wire.ProtectionStatus(protection=wire.PROTECTION_FOUR_EYES, note=note)
    return status(wire.PROTECTION_FOUR_EYES, None, None, note=ONE_PERSON[mode])


ONE_PERSON = {
    FourEyes.UNAUTHENTICATED: "callers are not authenticated, so nobody can be told from anybody: set server.auth",
    FourEyes.OFF: "risk_settings.four_eyes is off",
    FourEyes.LIVE: "risk_settings.four_eyes is live, and this account is not",
}


def breakers(view: AccountView) -> list[wire.BreakerStatus]:
    """Every circuit breaker once."""
    daily, drawdown = losses(view)
    measured = {BreakerKind.DAILY_LOSS: daily, BreakerKind.DRAWDOWN: drawdown}
    messages = []
    for kind, (baseline, loss) in measured.items():
        tripped = view.account.breakers.get(kind.value)
        messages.append(
            wire.BreakerStatus(
                kind=BREAKER_KIND.wire[kind],
                tripped=tripped is not None,
                baseline=convert.optional_text(owned(baseline) if baseline is not None else None),
                loss=convert.optional_text(loss),
                trip_time=convert.timestamp(tripped.tripped_at) if tripped is not None else None,
                reset_time=convert.timestamp(tripped.until) if tripped is not None else None,
            )
        )
    return messages
