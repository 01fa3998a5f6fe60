"""Drift: our own figures beside the venue's, each with a tolerance, and an alert when one goes beyond it."""

from decimal import Decimal

from debt_mgmt.core import events as e
from debt_mgmt.core.account import AlertKind, Severity
from debt_mgmt.core.draft import Draft
from debt_mgmt.core.levels import raise_alert
from debt_mgmt.core.liquidation_price import ends_of
from debt_mgmt.core.margin import Summary, World, rate_for
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.money import ZERO, owned, required, text
from debt_mgmt.core.venue import Drift, SyncState

SETTLED_WITHIN = Decimal("0.5")
"""Share of its tolerance that a figure must come back to before it counts as settled."""


def drift_events(draft: Draft, summary: Summary) -> None:
    """Compare after a sync. A figure is said when it goes beyond its tolerance, and not again before it came back."""
    sync = draft.account.sync
    assert sync is not None
    if not summary.known:
        return
    compared = {one.name: one for one in comparisons(draft, summary, sync)}
    found = tuple(one for name, one in compared.items() if name not in sync.drift and distance(one) > one.tolerance)
    settled = tuple(
        name
        for name in sync.drift
        if name not in compared or distance(compared[name]) <= SETTLED_WITHIN * compared[name].tolerance
    )
    if not found and not settled:
        return
    draft.add(e.DriftChanged(found, settled))
    if found:
        message = f"own figures differ from {draft.account.broker}'s: " + "; ".join(map(described, found))
        subject = ", ".join(one.name for one in found)
        raise_alert(draft, AlertKind.DRIFT, Severity.WARNING, message, summary, subject=subject)


def distance(one: Drift) -> Decimal:
    return abs(one.own - one.venue)


def described(one: Drift) -> str:
    made_of = ", ".join(f"{name} {text(value)}" for name, value in one.inputs.items())
    return (
        f"{one.name} is {text(one.own)} here and {text(one.venue)} there, tolerance {text(one.tolerance)}"
        f" (from {made_of})"
    )


def comparisons(draft: Draft, summary: Summary, sync: SyncState) -> list[Drift]:
    """Every figure that both sides know. One that the venue does not give is not compared."""
    return [*account_comparisons(draft, summary, sync), *price_comparisons(draft, summary, sync)]


def account_comparisons(draft: Draft, summary: Summary, sync: SyncState) -> list[Drift]:
    account, world, health = draft.account, draft.world, sync.health
    try:
        rate = rate_for(account, world, health.currency or account.currency, {})
        owed = sum((debt.owed * rate_for(account, world, debt.asset, {}) for debt in account.debts.values()), ZERO)
    except Unpriced:
        return []
    isolated = [one for one in summary.positions if one.isolated]
    opening = summary.used + sum((one.initial_margin * one.rate for one in isolated), ZERO)
    keeping = summary.maintenance + sum((one.maintenance_margin * one.rate for one in isolated), ZERO)
    marks = {f"mark {mark.symbol}": mark.price for mark in summary.marks}
    positions = {f"position {one.position.key}": one.position.quantity for one in summary.positions}
    balances = {f"balance {asset}": amount for asset, amount in account.balances.items()}
    leverage = {f"leverage {one.position.key}": one.position.leverage for one in summary.positions}
    orders = {"open orders": required(summary.used_by_orders)} if summary.used_by_orders else {}
    profit = {"unrealized PnL": owned(summary.unrealized_pnl)}
    debts = {f"debt {asset}": debt.owed for asset, debt in account.debts.items()}
    pairs = (
        ("equity", owned(summary.total_value - owed), health.equity, {**balances, **debts, **profit, **marks}),
        ("initial_margin", required(opening), health.initial_margin, {**positions, **leverage, **orders, **marks}),
        ("maintenance_margin", required(keeping), health.maintenance_margin, {**positions, **marks}),
    )
    return [
        Drift(name, own, owned(venue * rate), amount_tolerance(world, venue * rate), inputs)
        for name, own, venue, inputs in pairs
        if venue is not None
    ]


def amount_tolerance(world: World, venue: Decimal) -> Decimal:
    return required(max(world.settings.drift_tolerance_amount, world.settings.drift_tolerance * abs(venue)))


def price_comparisons(draft: Draft, summary: Summary, sync: SyncState) -> list[Drift]:
    """Liquidation prices, where the venue itself gives one: what a client library estimated is no second opinion."""
    found: list[Drift] = []
    for one in summary.positions:
        theirs = sync.positions.get(one.position.key)
        if theirs is None or theirs.liquidation_price is None or not theirs.liquidation_price_is_venues:
            continue
        ours = ends_of(one, summary)[0]
        if ours is None:
            continue
        inputs = {
            "position": one.position.quantity,
            "entry": one.position.entry_price,
            f"mark {one.mark.symbol}": one.mark.price,
            "maintenance margin": required(one.maintenance_margin),
        }
        if theirs.mark_price is not None:
            inputs["the venue's mark"] = theirs.mark_price
        tolerance = draft.world.settings.drift_tolerance * one.mark.price
        name = f"liquidation_price {one.position.key}"
        found.append(Drift(name, required(ours), theirs.liquidation_price, required(tolerance), inputs))
    return found
