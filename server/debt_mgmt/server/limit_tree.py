"""What all accounts use of each node of the tree of limits: kept up with what is committed, and what is decided."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment, Reservation
from debt_mgmt.core.apply import apply
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.margin import World, contract_value
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.node_use import OutsideUse, OwnUse
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.past import ACCOUNTS
from debt_mgmt.server.shard_answers import Context

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.journal.journal import Row

ORDERS_TOGETHER = 1000
ORDER_KINDS = ("MarginReserved", "OrderPlaced")

Instruments = dict[tuple[str, bool], Decimal]
"""Contracts by instrument, and whether a real account holds them: those are never valued by a recording."""


class Part:
    """What one account uses of one node."""

    __slots__ = ("positions", "quantities", "reservations")

    def __init__(self, quantities: Instruments, positions: int, reservations: int) -> None:
        self.quantities = quantities
        self.positions = positions
        self.reservations = reservations

    def __bool__(self) -> bool:
        return bool(self.quantities or self.positions or self.reservations)

    def joined(self, other: "Part") -> "Part":
        """The larger of both in each respect: which of them comes to hold is not known yet."""
        quantities = dict(self.quantities)
        for key, quantity in other.quantities.items():
            quantities[key] = max(quantity, quantities.get(key, ZERO))
        return Part(quantities, max(self.positions, other.positions), max(self.reservations, other.reservations))


NOTHING = Part({}, 0, 0)


class NodeSum:
    """The sum of the parts of a node's accounts."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.parts: dict[str, Part] = {}
        self.quantities: Instruments = {}
        self.positions = 0
        self.reservations = 0

    def holds(self, account: Account) -> bool:
        scope = self.scope
        return scope.owner in ("", account.owner) and scope.account_id in ("", account.account_id)

    def put(self, account_id: str, part: Part) -> None:
        """Count what an account uses now, instead of what it used before."""
        before = self.parts.pop(account_id, NOTHING)
        for key, quantity in before.quantities.items():
            self.quantities[key] -= quantity
        for key, quantity in part.quantities.items():
            self.quantities[key] = self.quantities.get(key, ZERO) + quantity
        for key in before.quantities.keys() - part.quantities.keys():
            if not self.quantities[key]:
                del self.quantities[key]
        self.positions += part.positions - before.positions
        self.reservations += part.reservations - before.reservations
        if part:
            self.parts[account_id] = part


class LimitTree:
    """The nodes that limit sets of the house concern. Without any it costs nothing.

    An account counts with what is committed of it, and from the moment of a decision until that is committed with the
    larger of both: so two accounts whose logs are written at the same time can't both take the last headroom.
    """

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.nodes: dict[str, NodeSum] = {}
        """By the keys of their scopes."""
        self.orders: dict[str, deque[datetime]] = {}
        """Of each set with an order rate: when risk-adding orders were decided, as far back as its interval."""
        self.pending: dict[int, dict[str, int]] = {}
        """Shard → account → position of its last event that is decided and not known to be committed."""
        self.values: dict[tuple[str, str, bool], Decimal] = {}
        """What a contract is worth in a currency, at the present marks."""
        self.world: World | None = None

    # keeping up

    async def start(self) -> None:
        """Load every node from the committed state, and recent orders from the journal.

        What the house was told at the start may have made nodes before there were any accounts to add up.
        """
        self.nodes = {}
        self.house_changed()
        engine = self.engine
        rated = {one.key: one for one in engine.house.limit_sets.values() if one.limits.order_rate_count is not None}
        if not rated:
            return
        since = engine.clock() - max(interval_of(one) for one in rated.values())
        after: tuple[int, int] | None = None
        found: list[tuple[datetime, Account, Reservation]] = []
        while rows := await engine.journal.list_rows(
            kinds=ORDER_KINDS, since=since, after=after, limit=ORDERS_TOGETHER
        ):
            after = (rows[-1].shard, rows[-1].position)
            found += self.ordered(rows)
        for at, account, order in sorted(found, key=lambda one: one[0]):
            self.count_order(at, account, order)

    def ordered(self, rows: "Sequence[Row]") -> Iterable[tuple[datetime, Account, Reservation]]:
        """The risk-adding orders in rows of the journal."""
        for row in rows:
            account, event = self.engine.shards[row.shard].entity(row.account_id), ACCOUNTS.decode_event(row.payload)
            if account is None or not isinstance(event, e.MarginReserved | e.OrderPlaced):
                continue
            if not event.reservation.reduce_only:
                yield row.at, account, event.reservation

    def house_changed(self) -> None:
        """Keep the sums of those nodes that a limit set concerns; new ones are added up."""
        sets = self.engine.house.limit_sets.values()
        self.priced()
        rated = {one.key for one in sets if one.limits.order_rate_count is not None}
        self.orders = {key: self.orders.get(key) or deque() for key in sorted(rated)}
        wanted = {one.scope.key: one.scope for one in sets}
        fresh = [NodeSum(scope) for key, scope in wanted.items() if key not in self.nodes]
        self.nodes = {key: node for key, node in self.nodes.items() if key in wanted}
        self.nodes |= {node.scope.key: node for node in fresh}
        if fresh:
            for shard in self.engine.shards.values():
                for account in shard.entities.values():
                    self.put(account, fresh)
                position, undurable = shard.undurable
                for account_id, account in undurable.items():
                    self.pending.setdefault(shard.number, {})[account_id] = position
                    self.put(account, fresh, shard.entity(account_id))

    def committed(self, number: int, position: int, accounts: Mapping[str, Account]) -> None:
        """These accounts are committed, and so is everything in their log up to this position."""
        if not self.nodes:
            return
        pending = self.pending.get(number, {})
        shard = self.engine.shards[number]
        overtaken = [one for one, decided_at in pending.items() if decided_at <= position]
        for account_id in {*accounts, *overtaken}:
            if pending.get(account_id, 0) > position:
                continue
            pending.pop(account_id, None)
            account = shard.entity(account_id)
            if account is not None:
                self.put(account, self.nodes.values())

    def decided(self, before: Account, events: Sequence[e.Event], context: Context) -> None:
        """This was decided about an account, and is about to be written."""
        if not self.nodes or isinstance(events[0], e.CommandRefused):
            return
        after = before
        for event in events:
            after = apply(after, event)
            if isinstance(event, e.MarginReserved | e.OrderPlaced) and not event.reservation.reduce_only:
                self.count_order(context.at, before, event.reservation)
        committed = self.engine.shards[context.shard].entity(before.account_id)
        self.pending.setdefault(context.shard, {})[before.account_id] = context.position + len(events) - 1
        self.put(after, self.nodes.values(), committed)

    def put(self, account: Account, nodes: Iterable[NodeSum], other: Account | None = None) -> None:
        """Count an account into nodes; with `other`, the larger of what both use."""
        for node in nodes:
            if not node.holds(account):
                continue
            part = part_of(account, node.scope)
            if other is not None:
                part = part.joined(part_of(other, node.scope))
            if part or account.account_id in node.parts:
                node.put(account.account_id, part)

    def count_order(self, at: datetime, account: Account, order: Reservation) -> None:
        sets = self.engine.house.limit_sets
        for key, times in self.orders.items():
            one = sets.get(key)
            if one is not None and one.scope.concerns(account.owner, account.account_id, order.strategy, order.symbol):
                times.append(at)

    def priced(self) -> None:
        """Prices have changed, or how things are valued."""
        self.values.clear()
        self.world = None

    # asking

    def of(self, limit_set: LimitSet, account: Account, at: datetime) -> OutsideUse | None:
        """What a set's node uses apart from this account. See `node_use.Outside`."""
        node = self.nodes.get(limit_set.scope.key)
        if node is None:
            return None
        return self.use(limit_set, node, node.parts.get(account.account_id, NOTHING), at)

    def total(self, limit_set: LimitSet, at: datetime) -> OutsideUse | None:
        """What all accounts of a set's node use together."""
        node = self.nodes.get(limit_set.scope.key)
        return None if node is None else self.use(limit_set, node, NOTHING, at)

    def use(self, limit_set: LimitSet, node: NodeSum, without: Part, at: datetime) -> OutsideUse:
        exposure: Decimal | None = ZERO
        missing = ""
        if limit_set.limits.max_exposure_notional is not None:
            try:
                exposure = self.exposure(node, without, limit_set.currency)
            except Unpriced as unpriced:
                exposure, missing = None, unpriced.missing
        return OutsideUse(
            exposure,
            node.positions - without.positions,
            node.reservations - without.reservations,
            self.orders_since(limit_set, at),
            missing,
        )

    def exposure(self, node: NodeSum, without: Part, currency: str) -> Decimal:
        """Raises Unpriced."""
        total = ZERO
        apart = without.quantities
        for key, quantity in node.quantities.items():
            left = quantity - apart[key] if key in apart else quantity
            if left:
                total += left * self.value(key[0], currency, key[1])
        return total

    def value(self, symbol: str, currency: str, real: bool) -> Decimal:
        """What a contract is worth now. Raises Unpriced."""
        found = self.values.get((symbol, currency, real))
        if found is None:
            if self.world is None:
                self.world = self.engine.world()
            found = self.values[symbol, currency, real] = contract_value(self.world, symbol, currency, {}, real=real)
        return found

    def orders_since(self, limit_set: LimitSet, at: datetime) -> int:
        """Risk-adding orders within the set's interval."""
        times = self.orders.get(limit_set.key)
        if not times:
            return 0
        since = at - interval_of(limit_set)
        while times and times[0] <= since:
            times.popleft()
        return len(times)


def interval_of(limit_set: LimitSet) -> timedelta:
    return timedelta(seconds=limit_set.limits.order_rate_interval_seconds or 1)


def part_of(account: Account, scope: Scope) -> Part:
    """What an account uses of a node, without prices."""
    if account.closed_at is not None or not (account.positions or account.reservations or account.strategies):
        return NOTHING
    use = OwnUse(account, scope.strategy)
    real = account.environment is not Environment.SANDBOX
    quantities = {(symbol, real): quantity for symbol, quantity in use.quantities(scope.symbol).items() if quantity}
    return Part(quantities, use.positions(scope.symbol), use.open_reservations(scope.symbol))
