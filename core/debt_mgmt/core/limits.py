"""Losses and their circuit breakers: today's loss and the drawdown, measured from durable baselines."""

from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from debt_mgmt.core.account import Account, Breaker, BreakerKind
from debt_mgmt.core.margin import Summary, World
from debt_mgmt.core.money import ZERO, owned, required
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.settings import effective_limits

PEAK_STEP = Decimal("1.005")
"""A new peak of equity is journaled when it is this far above the last one, not on every tick."""


def day_of(at: datetime, zone: str) -> str:
    """The trading day that `at` belongs to, in the configured zone."""
    return at.astimezone(ZoneInfo(zone)).date().isoformat()


def loss_limits(account: Account, world: World) -> list[tuple[BreakerKind, Reason, Decimal, Decimal]]:
    """(breaker, reason, baseline, largest loss accepted) of every loss limit in force, in the account's currency."""
    baselines = account.baselines
    if baselines is None:
        return []
    limits = effective_limits(world.settings.limits, account.limits)
    daily = [limits.max_daily_loss] if limits.max_daily_loss is not None else []
    if limits.max_daily_loss_fraction is not None and baselines.day_equity > 0:
        daily.append(baselines.day_equity * limits.max_daily_loss_fraction)
    found = []
    if daily:
        found.append((BreakerKind.DAILY_LOSS, Reason.DAILY_LOSS, baselines.day_equity, min(daily)))
    if limits.max_drawdown_fraction is not None and baselines.peak_equity > 0:
        allowed = baselines.peak_equity * limits.max_drawdown_fraction
        found.append((BreakerKind.DRAWDOWN, Reason.DRAWDOWN, baselines.peak_equity, allowed))
    return found


def worth(summary: Summary) -> Decimal:
    """What losses are measured on: cross equity and what stands behind isolated positions, which lose no more."""
    isolated = sum((max(ZERO, one.isolated_equity) * one.rate for one in summary.positions if one.isolated), ZERO)
    return summary.equity + isolated


def loss_violations(account: Account, world: World, summary: Summary) -> list[Violation]:
    """Loss limits that are reached now, and breakers that are still open."""
    found: list[Violation] = []
    if summary.known:
        equity = worth(summary)
        for _, reason, baseline, allowed in loss_limits(account, world):
            if baseline - equity >= allowed:
                found.append(Violation(reason, account.account_id, required(baseline - equity), owned(allowed), ZERO))
    for breaker in account.breakers.values():
        found.append(
            Violation(
                Reason.BREAKER_TRIPPED,
                breaker.kind.value,
                breaker.value,
                breaker.limit,
                note=breaker.until.isoformat(timespec="seconds"),
            )
        )
    return found


def tripped_now(account: Account, world: World, equity: Decimal) -> list[Breaker]:
    """Breakers that trip at this equity and were not open before."""
    limits = effective_limits(world.settings.limits, account.limits)
    cool_down = timedelta(seconds=limits.breaker_cool_down_seconds or 0)
    return [
        Breaker(kind, world.at, world.at + cool_down, required(baseline - equity), owned(allowed))
        for kind, _, baseline, allowed in loss_limits(account, world)
        if baseline - equity >= allowed and kind.value not in account.breakers
    ]


def cleared_now(account: Account, world: World, equity: Decimal) -> list[BreakerKind]:
    """Open breakers whose cool-down is over and whose loss is back within its limit."""
    over = {kind for kind, _, baseline, allowed in loss_limits(account, world) if baseline - equity >= allowed}
    return [
        breaker.kind for breaker in account.breakers.values() if world.at >= breaker.until and breaker.kind not in over
    ]


def loss_floor(account: Account, world: World) -> Decimal | None:
    """The equity at which the next breaker trips; None where no loss limit is in force or open ones only."""
    floors = [
        baseline - allowed
        for kind, _, baseline, allowed in loss_limits(account, world)
        if kind.value not in account.breakers
    ]
    return max(floors, default=None)
