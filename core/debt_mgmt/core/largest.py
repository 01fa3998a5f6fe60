"""How large an order could be: the largest quantity on each side that would pass now."""

from decimal import Decimal
from typing import NamedTuple

from debt_mgmt.core.account import Position, Side
from debt_mgmt.core.commands import Order
from debt_mgmt.core.instrument import notional
from debt_mgmt.core.margin import unit_margin
from debt_mgmt.core.money import ONE, ZERO, floor_to_step
from debt_mgmt.core.node_limits import Nodes
from debt_mgmt.core.sides import HEDGE, SELL
from debt_mgmt.core.sizes import margin_price, open_loss, opens_leg, size_caps, size_violations, too_many_positions
from debt_mgmt.core.view import AccountView, SymbolView

LEAST_GAP = Decimal("1E-20")
"""Share of a lot within which the rounding of a division can hide one more lot."""


class Asked(NamedTuple):
    """An order whose size and side are open: on what it is asked, at what price, and what stands in its way."""

    view: AccountView
    symbol: SymbolView
    order: Order
    leg: Position | None
    """What is held of what the order is about."""
    nodes: Nodes | None
    blocked: bool
    """Whether anything is in the way of every order that adds risk."""

    def largest(self, side: Side) -> Decimal:
        """The largest quantity on `side` that would pass, at the order's price. What only reduces always passes."""
        view, symbol, order, leg = self.view, self.symbol, self.order, self.leg
        reducible = abs(leg.quantity) if leg is not None and (leg.quantity > 0) is (side is SELL) else ZERO
        if self.blocked or order.reduce_only or (self.nodes is not None and self.nodes.blocked):
            return reducible
        if order.price is None and symbol.use.one_way and self.nodes is None and not view.halts:
            known = symbol.largest.get(side)
            if known is None:
                known = symbol.largest[side] = max(reducible, self.opening(side))
            return known
        if view.account.position_mode is HEDGE and not opens_leg(side, order.position_side):
            return reducible
        return max(reducible, self.opening(side))

    def opening(self, side: Side) -> Decimal:
        """The largest lot multiple whose size breaks no rule: reckoned where that is possible, else searched.

        Margin never falls with size, so the largest is what the margin left affords, or a limit on size. Where rounding
        could decide, the neighbours are tried by the rules.
        """
        view, symbol, nodes, limit = self.view, self.symbol, self.nodes, self.order.price
        if too_many_positions(view, symbol) is not None:
            return ZERO
        instrument, lot, mark, unit = symbol.instrument, symbol.instrument.lot, symbol.mark.price, symbol.unit
        if limit is not None:
            price, loss = margin_price(instrument, side, limit, mark), open_loss(instrument, side, limit, mark)
            unit = unit_margin(instrument, price, symbol.leverage, loss)
        minimum = max(instrument.min_quantity, lot)
        if instrument.min_notional:
            per_contract = notional(instrument, ONE, limit if limit is not None else mark)
            minimum = max(minimum, instrument.min_notional / per_contract)
        meets, budget = symbol.side(side), view.budget / symbol.rate
        affordable = meets.affordable(budget, unit)
        if affordable is not None:
            caps = size_caps(view, symbol, side)
            most = max(ZERO, min([affordable, *caps, *(nodes.caps(side) if nodes is not None else ())]))
            whole, gap = floor_to_step(most, lot), lot * LEAST_GAP
            if gap < most - whole < lot - gap:
                return whole if whole >= minimum else ZERO
            for quantity in (whole + lot, whole, whole - lot):
                if quantity < minimum:
                    return ZERO
                if self.passes(side, quantity, unit):
                    return quantity
        ceiling = meets.offset + (meets.before + budget) / unit + lot
        if instrument.max_quantity is not None:
            ceiling = min(ceiling, instrument.max_quantity)
        high = floor_to_step(ceiling, lot)
        low = ZERO
        if high > 0 and self.passes(side, high, unit):
            low = high
        while high - low > lot:
            middle = floor_to_step((low + high) / 2, lot)
            if self.passes(side, middle, unit):
                low = middle
            else:
                high = middle
        return low if low >= minimum else ZERO

    def passes(self, side: Side, quantity: Decimal, unit: Decimal) -> bool:
        most = self.symbol.instrument.max_quantity
        if most is not None and quantity > most:
            return False
        return not size_violations(self.view, self.symbol, side, quantity, unit, self.nodes)[1]
