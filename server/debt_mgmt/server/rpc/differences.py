"""Where the books differed from the broker: what a sync changed, figure by figure, and what it could not explain."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, MarginMode
from debt_mgmt.core.money import text
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.server.rpc.answers import folded
from debt_mgmt.server.shard_answers import Committed
from debt_mgmt.v1 import account_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

Value = Decimal | MarginMode | None


async def differences(
    engine: "Engine", before: Account, committed: Committed[e.AccountEvent]
) -> list[wire.SyncDifference]:
    """What the sync found. `before` is the account that it began with; for a repeated answer it is read again."""
    if committed.replayed:
        place = (engine.home[before.account_id], 0)
        before = await folded(engine.journal, None, place, before.account_id, committed.first_position - 1)
    return list(found_in(committed.events, before, engine.risk))


def found_in(
    events: Iterable[e.AccountEvent], before: Account, settings: RiskSettings
) -> Iterator[wire.SyncDifference]:
    for event in events:
        if isinstance(event, e.AccountSynced):
            for field, subject, recorded, told in compared(event, before):
                yield difference(field, subject, recorded, told, settings)
        elif isinstance(event, e.DriftChanged):
            for drift in event.found:
                name, _, subject = drift.name.partition(" ")
                yield wire.SyncDifference(
                    field=name, subject=subject, recorded_value=text(drift.own), broker_value=text(drift.venue)
                )


def compared(event: e.AccountSynced, before: Account) -> Iterator[tuple[str, str, Value, Value]]:
    """(field, subject, in the books, at the broker) of everything that the sync changed."""
    for asset, told in sorted(event.balances.items()):
        yield "wallet_balance", asset, before.balances.get(asset), told
    for debt in event.debts:
        known = before.debts.get(debt.asset)
        yield "debt", debt.asset, known.owed if known is not None else None, debt.owed
    for debt in event.debts_apart:
        known = before.debts_apart.get(debt.asset)
        yield "debt_apart", debt.asset, known.owed if known is not None else None, debt.owed
    for change in event.changes:
        yield "quantity", change.key, change.before, change.after
    for position in event.positions:
        held = before.positions.get(position.key)
        if held is None or held.quantity != position.quantity:
            continue
        for field in ("entry_price", "isolated_margin"):
            if getattr(held, field) != getattr(position, field):
                yield field, position.key, getattr(held, field), getattr(position, field)
    for symbol, leverage in sorted(event.leverage.items()):
        yield "leverage", symbol, before.leverage.get(symbol), leverage
    for symbol, mode in sorted(event.margin_modes.items()):
        yield "margin_mode", symbol, before.margin_modes.get(symbol), mode
    for reservation in event.reservations:
        order = before.reservations.get(reservation.reservation_id)
        yield "open_order", reservation.order_id, order.quantity if order is not None else None, reservation.quantity
    for reservation_id in event.released:
        order = before.reservations.get(reservation_id)
        if order is not None:
            yield "open_order", order.order_id or reservation_id, order.quantity, None


def difference(field: str, subject: str, recorded: Value, told: Value, settings: RiskSettings) -> wire.SyncDifference:
    within = False
    if isinstance(recorded, Decimal) and isinstance(told, Decimal) and field != "quantity":
        within = abs(recorded - told) <= settings.drift_tolerance * abs(told)
    return wire.SyncDifference(
        field=field,
        subject=subject,
        recorded_value=spelled(recorded),
        broker_value=spelled(told),
        within_tolerance=within,
    )


def spelled(value: Value) -> str | None:
    return text(value) if isinstance(value, Decimal) else value.value if value is not None else None
