"""What other accounts of a desk use of the tree of limits, added up in the plainest way: what the service must say."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from debt_mgmt.core.account import Account, PositionMode, Reservation, Side
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.margin import World, contract_value
from debt_mgmt.core.market import Unpriced
from debt_mgmt.core.node_use import OutsideUse
from debt_mgmt.core.scope import Scope

Ordered = tuple[datetime, str, Reservation]

ZERO = Decimal(0)


class Others:
    """Every account of a desk but the one that asks."""

    def __init__(self, accounts: Mapping[str, Account], ordered: list[Ordered], world: Callable[[], World]) -> None:
        self.accounts = accounts
        self.ordered = ordered
        self.world = world

    def of(self, limit_set: LimitSet, account: Account, at: datetime) -> OutsideUse | None:
        scope, exposure, missing = limit_set.scope, ZERO, ""
        positions = reservations = 0
        for one in self.accounts.values():
            if one.account_id == account.account_id or not holds(scope, one):
                continue
            held = quantities(one, scope)
            positions += len(held)
            reservations += sum(of_node(scope, order) for order in one.reservations.values())
            for symbol, quantity in held.items():
                if limit_set.limits.max_exposure_notional is None or not quantity:
                    continue
                try:
                    exposure += quantity * contract_value(self.world(), symbol, limit_set.currency, {}, real=False)
                except Unpriced as unpriced:
                    missing = unpriced.missing
        since = at - timedelta(seconds=limit_set.limits.order_rate_interval_seconds or 1)
        orders = sum(
            when > since and holds(scope, self.accounts[name]) and of_node(scope, order)
            for when, name, order in self.ordered
        )
        if limit_set.limits.order_rate_count is None:
            orders = 0
        return OutsideUse(None if missing else exposure, positions, reservations, orders, missing)


def holds(scope: Scope, account: Account) -> bool:
    return scope.owner in ("", account.owner) and scope.account_id in ("", account.account_id)


def of_node(scope: Scope, order: Reservation) -> bool:
    return scope.strategy in ("", order.strategy) and scope.symbol in ("", order.symbol)


def quantities(account: Account, scope: Scope) -> dict[str, Decimal]:
    """Contracts that count as exposure, by instrument that is held or on order."""
    found: dict[str, Decimal] = {}
    orders = [one for one in account.reservations.values() if of_node(scope, one) and not one.reduce_only]
    held = {key: one.quantity for key, one in account.positions.items()}
    if scope.strategy:
        held = {key: one for key, one in account.strategies.get(scope.strategy, {}).items() if one}
    symbols = {one.symbol for one in orders} | {key.split("|")[0] for key in held}
    for symbol in symbols:
        if scope.symbol not in ("", symbol):
            continue
        legs = [one for key, one in held.items() if key.split("|")[0] == symbol]
        buys = sum((one.quantity for one in orders if (one.symbol, one.side) == (symbol, Side.BUY)), ZERO)
        sells = sum((one.quantity for one in orders if (one.symbol, one.side) == (symbol, Side.SELL)), ZERO)
        if account.position_mode is PositionMode.HEDGE:
            found[symbol] = sum(map(abs, legs), ZERO) + buys + sells
        else:
            found[symbol] = max(sum(legs, ZERO) + buys, sells - sum(legs, ZERO), ZERO)
    return found
