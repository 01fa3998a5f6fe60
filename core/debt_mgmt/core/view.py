"""An account prepared for checks: its figures, what stands in the way of new risk, and a view of each instrument."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from debt_mgmt.core.account import Account, Environment, PositionSide, Side, TradingState
from debt_mgmt.core.halts import narrow_halts
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.limits import loss_violations
from debt_mgmt.core.margin import (
    OpenOrders,
    OrderUse,
    Summary,
    World,
    contract_value,
    figures,
    leverage_of,
    order_use,
    rate_for,
    summarize,
    unit_margin,
    usable_mark,
    with_orders_of,
)
from debt_mgmt.core.market import Mark, Unpriced
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.node_use import OwnUse
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.settings import effective_limits
from debt_mgmt.core.sync import not_synced


class SideView(NamedTuple):
    """What an order on one side of an instrument meets: the position and the orders that are open.

    The margin of this side is that of `orders` beyond `offset`, and `position_margin`.
    """

    orders: OpenOrders
    offset: Decimal
    """Contracts that only close."""
    position_margin: Decimal
    """Of a position that orders on this side add to."""
    least: Decimal
    """What the other side or the position holds anyway, so that this side's margin costs nothing up to it."""
    before: Decimal
    """The larger of `least` and this side's margin now."""
    worst: Decimal
    """Contracts held in this direction if all its open orders fill; below zero is the other direction."""

    def added(self, quantity: Decimal, unit: Decimal) -> Decimal:
        """What one more order of `quantity` adds to margin used, in the settlement asset."""
        margin = self.orders.margin_beyond(self.offset, quantity, unit) + self.position_margin
        return (margin if margin > self.least else self.least) - self.before

    def affordable(self, budget: Decimal, unit: Decimal) -> Decimal | None:
        """The quantity that adds exactly `budget`; None where what only closes is mixed with other orders."""
        room = self.before + budget - self.position_margin
        if self.offset == 0:
            return (room - self.orders.margin) / unit
        return None if self.orders else self.offset + room / unit


class SymbolView:
    """One instrument as an order on it sees the account."""

    __slots__ = (
        "caps",
        "instrument",
        "keeping",
        "largest",
        "legs",
        "leverage",
        "leverage_violations",
        "mark",
        "marks",
        "oldest",
        "rate",
        "sides",
        "tier_notional",
        "unit",
        "use",
    )

    def __init__(
        self,
        instrument: Instrument,
        mark: Mark,
        marks: tuple[Mark, ...],
        rate: Decimal,
        leverage: Decimal,
        use: OrderUse,
        legs: Sequence[Decimal],
    ) -> None:
        self.instrument = instrument
        self.mark = mark
        self.marks = marks
        """The mark and those that the settlement asset is valued by."""
        self.oldest = min(one.received_at for one in marks)
        self.rate = rate
        self.leverage = leverage
        self.use = use
        self.unit = unit_margin(instrument, mark.price, leverage)
        """Initial margin of one contract at the mark."""
        self.leverage_violations: tuple[Violation, ...] = ()
        self.caps: dict[Side, list[Decimal]] = {}
        """What each limit on size leaves for one more order."""
        self.largest: dict[Side, Decimal] = {}
        """Largest quantity that passes at the mark, in one-way mode."""
        self.legs = legs
        """Signed quantities held."""
        self.keeping: dict[PositionSide, Decimal] = {}
        """Maintenance margin of each leg as it is, zero for one that is isolated or not held."""
        self.sides: dict[Side, SideView] = {}
        self.tier_notional = next((one.notional_from for one in instrument.tiers if leverage > one.max_leverage), None)
        """Notional from which the risk tiers allow less leverage than this; None where they never do."""

    def side(self, side: Side) -> SideView:
        """One side; made anew once an order was held on the instrument."""
        found = self.sides.get(side)
        if found is None:
            found = self.sides[side] = self.side_now(side)
        return found

    def side_now(self, side: Side) -> SideView:
        use, sign = self.use, side.sign
        orders, held = use.orders(side), use.position_quantity * sign
        if not use.one_way:
            leg = sum((quantity * sign for quantity in self.legs if quantity * sign > 0), ZERO)
            return SideView(orders, ZERO, ZERO, ZERO, orders.margin, leg + orders.quantity)
        offset = -held if held < 0 else ZERO
        added_to = use.position_margin if held >= 0 and not use.isolated else ZERO
        least = use.side_margin(side.opposite)
        if not use.isolated:
            least = max(least, use.position_margin)
        before = max(orders.margin_beyond(offset) + added_to, least)
        return SideView(orders, offset, added_to, least, before, held + orders.quantity)


class AccountView:
    """An account prepared for checking orders: its summary and what stands in the way of any new risk.

    Valid while the account and the marks it rests on are unchanged (`is_current`). Checking does not change it;
    `hold` does, and belongs on a `scratch` copy.
    """

    def __init__(self, account: Account, world: World, summary: Summary | None = None) -> None:
        self.account = account
        self.world = world
        self.summary = summary if summary is not None else summarize(account, world)
        self.limits = effective_limits(world.settings.limits, account.limits)
        self.equity = self.summary.equity
        self.used = self.summary.used
        self.open_reservations = len(account.reservations)
        self.orders_added = 0
        self.spare: Decimal | None = None
        """`budget`, once it was asked for."""
        self.standing = standing_violations(account, world, self.summary)
        self.halts = narrow_halts(world.house.halts, account) if world.house.halts else ()
        """Halts that concern some orders of the account, and not all of them."""
        self.oldest = min((mark.received_at for mark in self.summary.marks), default=None)
        self.synced_at = account.sync.at if account.sync is not None else None
        """When the venue was last read; None for sandbox accounts, and where that already stands in the way."""
        if self.synced_at is not None and any(one.reason is Reason.ACCOUNT_NOT_SYNCED for one in self.standing):
            self.synced_at = None
        self.symbols: dict[str, SymbolView] = {}
        self.marks = list(self.summary.marks)
        """Every mark that the view rests on, those of the instruments looked at too."""
        self.memo: dict[str, Any] = {}
        """What those who show the view have made of it, for the next time."""
        self.occupied = {position.symbol for position in account.positions.values()} | self.summary.orders.keys()
        """Instruments held or on order."""
        self.before = figures(self.summary)
        self.limit_sets = concerning(account, world) if world.house.limit_sets else ()
        """Limit sets of nodes that the account belongs to, by key."""
        self.sets: dict[tuple[str, str], tuple[LimitSet, ...]] = {}
        self.uses: dict[str, OwnUse] = {}
        self.values: dict[tuple[str, str], Decimal] = {}
        self.unit_marks: dict[tuple[str, str], tuple[Mark, ...]] = {}
        """What each of `values` rests on."""
        self.held: list[tuple[str, str]] = []
        """Strategy and instrument of each risk-adding order that `hold` has counted."""
        self.most_used = world.settings.liquidation_threshold * self.equity
        self.limits_on_size = any(
            limit is not None
            for limit in (
                self.limits.max_position_notional,
                self.limits.max_position_quantity,
                self.limits.max_exposure_notional,
            )
        )

    def is_current(self, account: Account, world: World) -> bool:
        """Whether this view still holds for `account` in `world`."""
        return account is self.account and not self.summary.missing and self.is_priced_as(world)

    def summary_of(self, account: Account) -> Summary:
        """The figures of the account as a decision on this view leaves it."""
        if account is self.account:
            return self.summary
        found = with_orders_of(account, self.world, self.account, self.summary)
        return found if found is not None else summarize(account, self.world)

    def next(self, account: Account, world: World) -> "AccountView | None":
        """The view of the account after its open orders changed; None where more did, or a price."""
        if not self.is_priced_as(world):
            return None
        summary = with_orders_of(account, world, self.account, self.summary)
        return AccountView(account, world, summary) if summary is not None else None

    def is_priced_as(self, world: World) -> bool:
        """Whether everything that the view rests on, but the account, is as it was."""
        if world.house is not self.world.house:
            return False
        marks = world.marks
        for mark in self.marks:  # noqa: SIM110 - asked before every check, and `all` takes three times as long
            if marks.get(mark.symbol) is not mark:
                return False
        return True

    def scratch(self) -> "AccountView":
        """A copy to hold orders on, for a sequence that must not use the same margin twice."""
        return AccountView(self.account, self.world, self.summary)

    @property
    def budget(self) -> Decimal:
        """What an order may add to margin used, in the account's currency."""
        if self.spare is None:
            buffered = self.available / self.world.settings.margin_buffer
            self.spare = max(ZERO, min(buffered, self.most_used - self.used))
        return self.spare

    @property
    def available(self) -> Decimal:
        return max(ZERO, self.equity - self.used)

    def symbol(self, name: str) -> SymbolView | Violation:
        """The instrument's view, or why there is none: it is unknown or has no price."""
        view = self.symbols.get(name)
        if view is not None:
            return view
        account, world = self.account, self.world
        instrument = world.house.instruments.get(name)
        if instrument is None:
            return Violation(Reason.UNKNOWN_INSTRUMENT, subject=name)
        mark = usable_mark(account, world, name)
        if mark is None:
            return Violation(Reason.MISSING_MARK, subject=name)
        used = {name: mark}
        try:
            rate = rate_for(account, world, instrument.settle, used)
        except Unpriced as unpriced:
            return Violation(Reason.MISSING_MARK, subject=unpriced.missing)
        held = [one for one in self.summary.positions if one.position.symbol == name]
        ordered = self.summary.orders.get(name)
        use = ordered.copy() if ordered is not None else order_use(account, world, instrument, held, rate)
        leverage = leverage_of(account, world.settings, name)
        legs = [one.position.quantity for one in held]
        view = SymbolView(instrument, mark, tuple(used.values()), rate, leverage, use, legs)
        view.leverage_violations = leverage_violations(account, world, name, view.leverage)
        self.symbols[name] = view
        self.marks += (one for one in used.values() if one not in self.marks)
        return view

    def sets_for(self, strategy: str, symbol: str) -> tuple[LimitSet, ...]:
        """Limit sets that concern an order of this strategy on this instrument, by key."""
        found = self.sets.get((strategy, symbol))
        if found is None:
            account = self.account
            found = self.sets[strategy, symbol] = tuple(
                one
                for one in self.limit_sets
                if one.scope.concerns(account.owner, account.account_id, strategy, symbol)
            )
        return found

    def use_of(self, strategy: str) -> OwnUse:
        """What the account has, or one strategy of it (empty: all), with the orders that `hold` has counted."""
        found = self.uses.get(strategy)
        if found is None:
            found = self.uses[strategy] = OwnUse(self.account, strategy)
        return found

    def orders_held(self, strategy: str, symbol: str) -> int:
        """How many risk-adding orders `hold` has counted, of a strategy and an instrument (empty: of any)."""
        return sum(strategy in ("", one) and symbol in ("", name) for one, name in self.held)

    def unit_value(self, symbol: str, currency: str) -> Decimal:
        """What one contract is worth in a currency (empty: the account's own). Raises Unpriced."""
        found = self.values.get((symbol, currency))
        if found is None:
            account, used = self.account, dict[str, Mark]()
            real = account.environment is not Environment.SANDBOX
            found = contract_value(self.world, symbol, currency or account.currency, used, real=real)
            self.values[symbol, currency], self.unit_marks[symbol, currency] = found, tuple(used.values())
            self.marks += (one for one in used.values() if one not in self.marks)
        return found

    def hold(
        self, symbol: SymbolView, side: Side, quantity: Decimal, unit: Decimal, added: Decimal, strategy: str = ""
    ) -> None:
        """Count an accepted order as reserved for those checked after it: `unit` margin a contract, `added` in all."""
        self.count(strategy, symbol.instrument.symbol)
        if self.limit_sets:
            self.held.append((strategy, symbol.instrument.symbol))
            for use in self.uses_of(strategy):
                use.order(symbol.instrument.symbol, side, quantity)
        symbol.use.orders(side).add(quantity, unit)
        self.used += added
        self.spare = None
        self.occupied.add(symbol.instrument.symbol)
        symbol.sides.clear()

    def uses_of(self, strategy: str) -> list[OwnUse]:
        """The uses that an order of this strategy belongs to."""
        return [self.use_of(one) for one in {"", strategy}]

    def count(self, strategy: str, symbol: str) -> None:
        """Count an accepted order that holds no margin."""
        self.open_reservations += 1
        self.orders_added += 1
        self.spare = None
        if self.limit_sets:
            for use in self.uses_of(strategy):
                use.reserve(symbol)
        for one in self.symbols.values():
            one.largest.clear()
            one.caps.clear()


def concerning(account: Account, world: World) -> tuple[LimitSet, ...]:
    """The house's limit sets whose nodes the account belongs to, whatever the strategy and the instrument."""
    known = world.house.limit_sets
    nodes = (known[key] for key in sorted(known))
    return tuple(
        one
        for one in nodes
        if one.scope.owner in ("", account.owner) and one.scope.account_id in ("", account.account_id)
    )


def standing_violations(account: Account, world: World, summary: Summary) -> tuple[Violation, ...]:
    """What refuses every order that adds risk, whatever its size."""
    found: list[Violation] = []
    if account.closed_at is not None:
        found.append(Violation(Reason.ACCOUNT_CLOSED, subject=account.account_id))
    if account.trading_state is TradingState.HALTED:
        found.append(Violation(Reason.TRADING_HALTED, subject=account.account_id, note=account.trading_reason))
    if account.trading_state is TradingState.REDUCING:
        found.append(Violation(Reason.TRADING_REDUCING, subject=account.account_id, note=account.trading_reason))
    halt = world.house.halt_for(account.owner)
    if halt is not None:
        found.append(Violation(Reason.HOUSE_HALTED, subject=halt.owner or "everyone", note=halt.reason))
    if account.sync is not None:
        found += not_synced(account, world.settings, world.at)
    found += (Violation(Reason.MISSING_MARK, subject=symbol) for symbol in summary.missing)
    found += loss_violations(account, world, summary)
    return tuple(found)


def leverage_violations(account: Account, world: World, symbol: str, leverage: Decimal) -> tuple[Violation, ...]:
    """Caps on leverage that hold whatever the size: the account's, the house's and the broker's."""
    found: list[Violation] = []
    limits = effective_limits(world.settings.limits, account.limits)
    account_cap = world.settings.max_leverage
    if limits.max_leverage is not None:
        account_cap = min(account_cap, limits.max_leverage)
    if leverage > account_cap:
        found.append(Violation(Reason.LEVERAGE_ABOVE_ACCOUNT, symbol, leverage, account_cap))
    broker_cap = world.settings.broker_max_leverage.get(account.broker)
    if broker_cap is not None and leverage > broker_cap:
        found.append(Violation(Reason.LEVERAGE_ABOVE_BROKER, symbol, leverage, broker_cap))
    return tuple(found)
