"""What the engine shows of itself: what it has counted, and the figures of one moment, for metrics."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import nlargest
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import RiskLevel, TradingState
from debt_mgmt.core.refusals import Violation
from debt_mgmt.server.latencies import Latencies
from debt_mgmt.server.metrics import MetricsSnapshot

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.shard import Shard

ACCOUNTS_SHOWN = 100
"""Accounts with a metric of their own: the most utilised ones, and those read from their venue longest ago."""
SYMBOLS_SHOWN = 200
"""Instruments with a metric of their own: those with the oldest marks."""
STALLED_SECONDS = 5.0
"""A watcher that leaves news lying for longer does not keep up."""


class EngineCounters(msgspec.Struct):
    """What happened since the start, for metrics."""

    reserved: int = 0
    refused_by_reason: dict[str, int] = {}
    liquidations: int = 0
    liquidation_steps: int = 0
    alerts: int = 0
    interest_charges: int = 0
    funding_settlements: int = 0
    marks_accepted: int = 0
    marks_quarantined: int = 0
    decisions: dict[tuple[str, str], int] = {}
    """Commands that callers and the house itself gave, by the command's name and `accepted` or `refused`."""
    checks: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Orders that were only asked about: those that do not fit, and those that do."""
    checks_by_reason: dict[str, int] = {}
    shadow_by_reason: dict[str, int] = {}
    """What limit sets in SHADOW would have refused, of orders and of what was only asked about."""

    def shadow(self, violations: Sequence[Violation]) -> None:
        if violations:
            count_reasons(self.shadow_by_reason, violations)

    def decided(self, command: object, events: Sequence[object]) -> None:
        result = "refused" if any(isinstance(event, e.CommandRefused) for event in events) else "accepted"
        key = (type(command).__name__, result)
        self.decisions[key] = self.decisions.get(key, 0) + 1

    def refuse(self, violations: Iterable[Violation]) -> None:
        count_reasons(self.refused_by_reason, violations)

    def checked(self, violations: Sequence[Violation], shadow: Sequence[Violation] = ()) -> None:
        self.shadow(shadow)
        self.checks[not violations] += 1
        if violations:
            count_reasons(self.checks_by_reason, violations)


def count_reasons(reasons: dict[str, int], violations: Iterable[Violation]) -> None:
    for one in violations:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1


class Census(msgspec.Struct):
    """What is in the accounts that are not closed, counted in one pass."""

    levels: dict[str, int]
    trading: dict[str, int]
    accounts: int = 0
    positions: int = 0
    reservations: int = 0
    reductions: int = 0
    drifting_accounts: int = 0
    drifting_figures: int = 0
    debts: dict[str, int] = {}
    held: set[str] = set()
    """Symbols that some account holds a position in."""


def census(engine: "Engine") -> Census:
    found = Census(
        levels=dict.fromkeys((level.value for level in RiskLevel), 0),
        trading=dict.fromkeys((state.value for state in TradingState), 0),
    )
    for shard in engine.shards.values():
        for account in shard.entities.values():
            if account.closed_at is not None:
                continue
            found.accounts += 1
            found.levels[account.level.value] += 1
            found.trading[account.trading_state.value] += 1
            found.positions += len(account.positions)
            found.held.update(position.symbol for position in account.positions.values())
            found.reservations += len(account.reservations)
            found.reductions += account.reduction is not None
            for asset in account.debts:
                found.debts[asset] = found.debts.get(asset, 0) + 1
            if account.sync is not None and account.sync.drift:
                found.drifting_accounts += 1
                found.drifting_figures += len(account.sync.drift)
    return found


class StreamLag(NamedTuple):
    """How the watchers keep up."""

    longest_seconds: float
    stalled: int


def stream_lag(engine: "Engine") -> StreamLag:
    now = time.monotonic()
    lags = [watcher.lag_seconds(now) for watcher in engine.hub.watchers]
    return StreamLag(max(lags, default=0.0), sum(lag > STALLED_SECONDS for lag in lags))


def rate_budgets(engine: "Engine") -> dict[str, float]:
    """By venue: the free share of the budget of requests, 0 while the venue told us to wait; the scarcest one of it."""
    found: dict[str, float] = {}
    for supervisor in engine.live.supervisors.values():
        link: Any = getattr(supervisor.broker, "link", None)
        if link is not None:
            name = link.profile.broker
            found[name] = min(found.get(name, 1.0), link.budget.free_share())
    return found


def mark_ages(engine: "Engine", now: datetime, held: set[str]) -> tuple[dict[str, float], float]:
    """The ages of the oldest marks, and the highest one of an instrument that is held; infinite where it has none."""
    ages = {symbol: mark.age_seconds(now) for symbol, mark in engine.marks.items()}
    return largest(ages, SYMBOLS_SHOWN), max((ages.get(symbol, float("inf")) for symbol in held), default=0.0)


def largest(values: dict[str, float], count: int) -> dict[str, float]:
    return values if len(values) <= count else dict(nlargest(count, values.items(), key=lambda one: one[1]))


def snapshot_of(engine: "Engine") -> MetricsSnapshot:
    """The figures of this moment. Utilisation comes from the screen: exact enough to plot, never to decide by."""
    now = engine.clock()
    engine.load_screen()
    top = engine.screen.most_utilized(ACCOUNTS_SHOWN)
    found, lag = census(engine), stream_lag(engine)
    shown, oldest_held = mark_ages(engine, now, found.held)
    shards: list[Shard[Any, Any, Any]] = [engine.house_shard, *engine.shards.values()]
    journals = [shard.counters for shard in shards]
    latencies = Latencies()
    for one in journals:
        latencies.add(one.latencies)
    counters, history, chain = engine.counters, engine.history, engine.chain
    return MetricsSnapshot(
        utilization_max=top[0][1] if top else 0.0,
        utilization=dict(top),
        open_positions=found.positions,
        open_reservations=found.reservations,
        accounts=found.accounts,
        accounts_by_level=found.levels,
        accounts_by_trading_state=found.trading,
        liquidations=counters.liquidations,
        liquidation_steps=counters.liquidation_steps,
        reductions_running=found.reductions,
        alerts=counters.alerts,
        debts=found.debts,
        interest_charges=counters.interest_charges,
        funding_settlements=counters.funding_settlements,
        prices_held=len(engine.collateral.held),
        reservations_made=counters.reserved,
        decisions=dict(counters.decisions),
        checks={"refused": counters.checks[False], "accepted": counters.checks[True]},
        checks_refused_by_reason=dict(counters.checks_by_reason),
        refused_by_reason=dict(counters.refused_by_reason),
        shadow_by_reason=dict(counters.shadow_by_reason),
        mark_age_seconds=shown,
        held_mark_age_seconds_max=oldest_held,
        marks_accepted=counters.marks_accepted,
        marks_quarantined=counters.marks_quarantined,
        watchers=engine.hub.count,
        stream_lag_seconds=lag.longest_seconds,
        watchers_stalled=lag.stalled,
        journal_batches=sum(one.batches for one in journals),
        journal_rows=sum(one.rows for one in journals),
        journal_append_seconds=sum(one.append_seconds for one in journals),
        journal_ambiguous=sum(one.appends_ambiguous for one in journals),
        journal_latencies=latencies,
        journal_waiting=sum(shard.waiting for shard in shards),
        journal_stuck_seconds=max(shard.stuck_seconds for shard in shards),
        journal_overloaded=sum(one.overloaded for one in journals),
        journal_reads_failed=chain.failures,
        clock_behind_seconds=engine.clock_watch.behind(max(shard.newest_at for shard in shards)),
        clock_steps=engine.clock_watch.steps,
        shards_halted=sum(shard.halted is not None for shard in shards),
        chain_broken_logs=len(chain.broken),
        chain_rows_walked=chain.rows_walked,
        chain_rounds=chain.rounds,
        history_rows_waiting=len(history.pending),
        history_behind=not history.following,
        protecting=not engine.protecting(),
        sync_age_seconds=largest(engine.live.ages(now), ACCOUNTS_SHOWN),
        accounts_out_of_sight=len(engine.live.problems()),
        drifting_accounts=found.drifting_accounts,
        drifting_figures=found.drifting_figures,
        rate_budget_free_share=rate_budgets(engine),
        four_eyes=engine.second_person.mode.is_on,
        changes_waiting=engine.second_person.waiting(),
    )
