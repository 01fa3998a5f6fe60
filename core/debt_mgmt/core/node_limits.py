"""The limit sets that concern an order, applied to it: what each node has left, and what the order breaks."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from debt_mgmt.core.account import Side
from debt_mgmt.core.commands import Order
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.market import Mark, Unpriced
from debt_mgmt.core.money import ZERO, owned, required
from debt_mgmt.core.node_use import Outside, OutsideUse
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.view import AccountView, SymbolView

NOTHING_OUTSIDE = OutsideUse()


def nodes_of(
    view: AccountView, symbol: SymbolView, order: Order, at: datetime, outside: Outside | None
) -> "Nodes | None":
    """The limits of the tree that an order meets; None where none is in force that concerns it."""
    if not view.limit_sets:
        return None
    concerned = [one for one in view.sets_for(order.strategy, order.symbol) if one.in_force(at)]
    return Nodes([Bound(view, symbol, one, at, outside) for one in concerned]) if concerned else None


class Nodes:
    """Limit sets in force, applied to an order on one instrument in any size."""

    __slots__ = ("enforced", "shadow")

    def __init__(self, bounds: Sequence["Bound"]) -> None:
        self.enforced = [one for one in bounds if one.limit_set.enforced]
        self.shadow = [one for one in bounds if not one.limit_set.enforced]

    @property
    def blocked(self) -> bool:
        """Whether a set stands in the way whatever the size."""
        return any(one.problems for one in self.enforced)

    def violations(self, side: Side, quantity: Decimal) -> list[Violation]:
        """What an order of this size breaks, and is refused for."""
        return [violation for bound in self.enforced for violation in bound.broken(side, quantity)]

    def shadowed(self, side: Side, quantity: Decimal) -> list[Violation]:
        """What it would be refused for if all sets were enforced."""
        return [violation for bound in self.shadow for violation in bound.broken(side, quantity)]

    def caps(self, side: Side) -> list[Decimal]:
        """What each limit on size leaves for one more order on a side, in contracts."""
        return [cap for bound in self.enforced for cap in bound.caps(side)]


class Bound:
    """One limit set as an order on one instrument of one account meets it. Notionals in the set's currency."""

    __slots__ = ("elsewhere", "limit_set", "problems", "symbol", "unit", "use")

    def __init__(
        self, view: AccountView, symbol: SymbolView, limit_set: LimitSet, at: datetime, outside: Outside | None
    ) -> None:
        self.limit_set, self.symbol = limit_set, symbol
        self.use = view.use_of(limit_set.scope.strategy)
        self.problems: list[Violation] = []
        """What stands in the way whatever the size."""
        self.unit: Decimal | None = None
        """Of one contract."""
        self.elsewhere = ZERO
        """Exposure of the node that an order on this instrument does not change."""
        limits, scope, name = limit_set.limits, limit_set.scope, symbol.instrument.symbol
        if limits.max_leverage is not None and symbol.leverage > limits.max_leverage:
            self.note(Reason.LEVERAGE_ABOVE_ACCOUNT, name, symbol.leverage, limits.max_leverage)
        others = self.others(view, at, outside)
        if limits.max_position_notional is not None or limits.max_exposure_notional is not None:
            self.value(view, others, at)
        if others is None:
            return
        if limits.max_concurrent_positions is not None:
            count = self.use.positions(scope.symbol) + (name not in self.use.sides) + others.positions
            if count > limits.max_concurrent_positions:
                self.note(Reason.CONCURRENT_POSITIONS, name, Decimal(count), Decimal(limits.max_concurrent_positions))
        if limits.max_open_reservations is not None:
            count = self.use.open_reservations(scope.symbol) + others.reservations + 1
            if count > limits.max_open_reservations:
                self.note(Reason.OPEN_RESERVATIONS, name, Decimal(count), Decimal(limits.max_open_reservations))
        if limits.order_rate_count is not None:
            count = others.orders + view.orders_held(scope.strategy, scope.symbol) + 1
            if count > limits.order_rate_count:
                self.note(Reason.ORDER_RATE, name, Decimal(count), Decimal(limits.order_rate_count))

    def note(
        self, reason: Reason, subject: str, value: Decimal | None = None, limit: Decimal | None = None, note: str = ""
    ) -> None:
        self.problems.append(self.violation(reason, subject, value, limit, ZERO if value is not None else None, note))

    def violation(
        self,
        reason: Reason,
        subject: str,
        value: Decimal | None,
        limit: Decimal | None,
        headroom: Decimal | None,
        note: str = "",
    ) -> Violation:
        one = self.limit_set
        return Violation(reason, subject, value, limit, headroom, note, one.scope, one.name)

    def others(self, view: AccountView, at: datetime, outside: Outside | None) -> OutsideUse | None:
        """What the node's other accounts use; None where that counts and is not known, which is a problem."""
        limits, account = self.limit_set.limits, view.account
        summed = (limits.max_exposure_notional, limits.max_concurrent_positions, limits.max_open_reservations)
        alone = self.limit_set.scope.account_id == account.account_id or all(one is None for one in summed)
        if alone and limits.order_rate_count is None:
            return NOTHING_OUTSIDE
        found = outside.of(self.limit_set, account, at) if outside is not None else None
        if found is None:
            words = "what all its accounts use is not known as of then"
            self.note(Reason.NOT_SUPPORTED, f"a limit of {self.limit_set.scope.words}", note=words)
        return found

    def check_age(self, view: AccountView, marks: Sequence[Mark], at: datetime) -> None:
        """A price of the set's currency that is too old stands in the way; that of the instrument does so anyway."""
        max_age = view.world.settings.pre_trade_max_age
        for mark in marks:
            age = at - mark.received_at
            if age > max_age and mark.symbol != self.symbol.instrument.symbol:
                old, most = (Decimal(one // timedelta(milliseconds=1)) / 1000 for one in (age, max_age))
                self.problems.append(self.violation(Reason.STALE_MARK, mark.symbol, old, most, None))

    def value(self, view: AccountView, others: OutsideUse | None, at: datetime) -> None:
        """What a contract is worth, and what the node has already; what has no price stands in the way."""
        scope, name = self.limit_set.scope, self.symbol.instrument.symbol
        try:
            self.unit = view.unit_value(name, self.limit_set.currency)
            self.check_age(view, view.unit_marks[name, self.limit_set.currency], at)
            if self.limit_set.limits.max_exposure_notional is None or others is None:
                return
            if others.exposure is None:
                raise Unpriced(others.missing)
            self.elsewhere = others.exposure
            for other, quantity in self.use.quantities(scope.symbol).items():
                if other != name and quantity:
                    self.elsewhere += quantity * view.unit_value(other, self.limit_set.currency)
        except Unpriced as unpriced:
            self.unit = None
            self.note(Reason.MISSING_MARK, unpriced.missing)

    def broken(self, side: Side, quantity: Decimal) -> list[Violation]:
        """Every limit of the set that an order of this size breaks."""
        limits, name = self.limit_set.limits, self.symbol.instrument.symbol
        before = self.use.side(name, side)
        after = before + quantity
        if after <= 0:
            return self.problems
        found = list(self.problems)
        most = limits.max_position_quantity
        if most is not None and after > most:
            left = max(ZERO, most - max(ZERO, before))
            found.append(self.violation(Reason.QUANTITY_ABOVE_MAXIMUM, name, after, most, left))
        unit = self.unit
        if unit is None:
            return found
        most = limits.max_position_notional
        if most is not None and after * unit > most:
            left = owned(max(ZERO, most - max(ZERO, before) * unit))
            found.append(self.violation(Reason.POSITION_NOTIONAL_LIMIT, name, required(after * unit), most, left))
        most = limits.max_exposure_notional
        if most is not None:
            exposure = self.elsewhere + self.use.most(name, side, quantity) * unit
            if exposure > most:
                left = owned(max(ZERO, most - self.elsewhere - self.use.most(name) * unit))
                found.append(self.violation(Reason.EXPOSURE_LIMIT, name, required(exposure), most, left))
        return found

    def caps(self, side: Side) -> list[Decimal]:
        """The largest orders by each limit on size. What does not lead beyond what is held on the other side passes."""
        limits, name, unit = self.limit_set.limits, self.symbol.instrument.symbol, self.unit
        before = self.use.side(name, side)
        found = [] if limits.max_position_quantity is None else [limits.max_position_quantity - before]
        if unit is not None and limits.max_position_notional is not None:
            found.append(limits.max_position_notional / unit - before)
        if unit is not None and limits.max_exposure_notional is not None:
            room = limits.max_exposure_notional - self.elsewhere
            opposite = max(ZERO, self.use.side(name, side.opposite)) * unit
            if not self.use.one_way:
                room -= opposite
            if room < (opposite if self.use.one_way else ZERO):
                room = ZERO
            found.append(room / unit - before)
        return found
