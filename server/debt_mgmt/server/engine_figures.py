"""What the engine shows of itself: the figures of one moment, for metrics."""

from typing import TYPE_CHECKING

from debt_mgmt.core.account import RiskLevel
from debt_mgmt.server.metrics import MetricsSnapshot

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

ACCOUNTS_SHOWN = 100
"""Accounts with a metric of their own: the most utilised ones."""


def snapshot_of(engine: "Engine") -> MetricsSnapshot:
    """The figures of this moment. Utilisation comes from the screen: exact enough to plot, never to decide by."""
    now = engine.clock()
    engine.load_screen()
    top = engine.screen.most_utilized(ACCOUNTS_SHOWN)
    levels = dict.fromkeys((level.value for level in RiskLevel), 0)
    positions = reservations = accounts = 0
    debts: dict[str, int] = {}
    for shard in engine.shards.values():
        for account in shard.entities.values():
            if account.closed_at is None:
                accounts += 1
                positions += len(account.positions)
                for asset in account.debts:
                    debts[asset] = debts.get(asset, 0) + 1
                reservations += len(account.reservations)
                levels[account.level.value] += 1
    journals = [engine.house_shard.counters, *(shard.counters for shard in engine.shards.values())]
    return MetricsSnapshot(
        utilization_max=top[0][1] if top else 0.0,
        utilization=dict(top),
        open_positions=positions,
        open_reservations=reservations,
        accounts=accounts,
        accounts_by_level=levels,
        liquidations=engine.counters.liquidations,
        liquidation_steps=engine.counters.liquidation_steps,
        alerts=engine.counters.alerts,
        debts=debts,
        interest_charges=engine.counters.interest_charges,
        funding_settlements=engine.counters.funding_settlements,
        prices_held=len(engine.collateral.held),
        reservations_made=engine.counters.reserved,
        refused_by_reason=dict(engine.counters.refused_by_reason),
        mark_age_seconds={symbol: mark.age_seconds(now) for symbol, mark in engine.marks.items()},
        marks_accepted=engine.counters.marks_accepted,
        marks_quarantined=engine.counters.marks_quarantined,
        watchers=engine.hub.count,
        journal_batches=sum(one.batches for one in journals),
        journal_rows=sum(one.rows for one in journals),
        journal_append_seconds=sum(one.append_seconds for one in journals),
        journal_ambiguous=sum(one.appends_ambiguous for one in journals),
        protecting=not engine.protecting(),
        sync_age_seconds=engine.live.ages(now),
        accounts_out_of_sight=len(engine.live.problems()),
    )
