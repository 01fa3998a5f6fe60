"""What an account is worth and what its positions need: every figure exact, with its working."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast

import msgspec

from debt_mgmt.core.account import (
    Account,
    Debt,
    Environment,
    Figures,
    MarginMode,
    MarkUsed,
    Position,
    PositionMode,
    Reservation,
    Side,
)
from debt_mgmt.core.collateral import counted, slope_of
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import (
    Instrument,
    MarginBase,
    initial_margin,
    maintenance_margin,
    margin_base,
    notional,
    profit,
)
from debt_mgmt.core.market import HeldPrice, Mark, Unpriced, asset_price
from debt_mgmt.core.money import ONE, ZERO, owned, ratio, required
from debt_mgmt.core.node_use import Outside
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.sides import BUY, ISOLATED


class World(msgspec.Struct, frozen=True):
    """What surrounds a decision: the house, the marks, the rules, the time, and the next journal position."""

    house: House
    marks: Mapping[str, Mark]
    settings: RiskSettings
    at: datetime
    shard: int = 0
    position: int = 0
    held_prices: Mapping[str, HeldPrice] = {}
    """By symbol: what assets are valued by instead of the mark. Positions follow the mark."""
    outside: Outside | None = None
    """What other accounts use of the tree of limits; None where that is not known."""


class PositionFigures(msgspec.Struct, frozen=True, gc=False):
    """One position at its mark, in the settlement asset; `rate` turns that into the account's currency."""

    position: Position
    instrument: Instrument
    mark: Mark
    rate: Decimal
    notional: Decimal
    initial_margin: Decimal
    """Notional ÷ leverage; for an isolated position too (what is posted stands in the position)."""
    maintenance_margin: Decimal
    unrealized_pnl: Decimal

    @property
    def isolated(self) -> bool:
        return self.position.margin_mode is ISOLATED

    @property
    def isolated_equity(self) -> Decimal:
        """What stands behind an isolated position."""
        return self.position.isolated_margin + self.unrealized_pnl


class DebtFigures(msgspec.Struct, frozen=True, gc=False):
    """One debt; `rate` turns it into the account's currency."""

    debt: Debt
    rate: Decimal

    @property
    def value(self) -> Decimal:
        """Principal and interest in the account's currency, at full price."""
        return self.debt.owed * self.rate


class OpenOrders:
    """The open orders of one side of an instrument, each with its margin per contract, and their totals."""

    __slots__ = ("margin", "quantity", "units")

    def __init__(self) -> None:
        self.units: list[tuple[Decimal, Decimal]] = []
        """(margin per contract, quantity)."""
        self.quantity = ZERO
        self.margin = ZERO

    def __bool__(self) -> bool:
        return bool(self.units)

    def add(self, quantity: Decimal, unit_margin: Decimal) -> None:
        self.units.append((unit_margin, quantity))
        self.quantity += quantity
        self.margin += quantity * unit_margin

    def copy(self) -> "OpenOrders":
        again = OpenOrders()
        again.units, again.quantity, again.margin = self.units.copy(), self.quantity, self.margin
        return again

    def margin_beyond(self, offset: Decimal, quantity: Decimal = ZERO, unit_margin: Decimal = ZERO) -> Decimal:
        """Margin of all orders, and of one more of `quantity`, beyond `offset` contracts that only close.

        The cheapest are taken to close: what remains is the most that the side can come to need.
        """
        margin = self.margin + quantity * unit_margin
        if offset == 0:
            return margin
        units = [*self.units, (unit_margin, quantity)] if quantity else self.units
        for unit, open_quantity in sorted(units):
            closing = min(offset, open_quantity)
            margin -= closing * unit
            offset -= closing
            if offset == 0:
                break
        return margin


class OrderUse(msgspec.Struct):
    """What the open orders on one instrument need beyond its position, in the settlement asset."""

    instrument: Instrument
    rate: Decimal
    leverage: Decimal
    position_quantity: Decimal
    position_margin: Decimal
    buys: OpenOrders
    sells: OpenOrders
    one_way: bool = True
    isolated: bool = False

    def copy(self) -> "OrderUse":
        """The same use, to count more orders in without changing this one."""
        return msgspec.structs.replace(self, buys=self.buys.copy(), sells=self.sells.copy())

    def orders(self, side: Side) -> OpenOrders:
        return self.buys if side is BUY else self.sells

    def side_margin(self, side: Side, quantity: Decimal = ZERO, unit_margin: Decimal = ZERO) -> Decimal:
        """Margin held on the instrument if all orders of `side` fill, and one more of `quantity`, position included."""
        held = self.position_quantity * side.sign
        offset = -held if self.one_way and held < 0 else ZERO
        margin = self.orders(side).margin_beyond(offset, quantity, unit_margin)
        if self.one_way and not self.isolated and held >= 0:
            margin += self.position_margin
        return margin

    def order_margin(self, side: Side = BUY, quantity: Decimal = ZERO, unit_margin: Decimal = ZERO) -> Decimal:
        """What the open orders hold, and one more of `quantity` on `side`, beyond the position's own margin.

        One way: the larger of both sides. In hedge mode the legs are independent, so both sides count.
        """
        same = self.side_margin(side, quantity, unit_margin)
        other = self.side_margin(side.opposite)
        if not self.one_way:
            return same + other
        if self.isolated:
            return max(same, other)
        return max(same, other, self.position_margin) - self.position_margin


class Summary(msgspec.Struct, frozen=True, gc=False):
    """An account at the present marks, in its currency, exact. Unknown where `missing` names what has no price.

    equity = collateral value of the wallet (isolated margin taken out) + unrealised PnL of cross positions − debts
    (principal and accrued interest, at full price); margin used = initial margin of cross positions + open orders.
    """

    positions: tuple[PositionFigures, ...]
    orders: dict[str, OrderUse]
    wallet_value: Decimal
    """Balances at full price."""
    total_value: Decimal
    """Balances at full price + all unrealised PnL."""
    equity: Decimal
    used_by_positions: Decimal
    used_by_orders: Decimal
    maintenance: Decimal
    isolated_margin: Decimal
    unrealized_pnl: Decimal
    exposure: Decimal
    """Sum of the unsigned notionals of all positions."""
    marks: tuple[Mark, ...]
    missing: tuple[str, ...] = ()
    debts: tuple[DebtFigures, ...] = ()
    valued: dict[str, Decimal] = {}
    """By symbol, what collateral less debts gains per unit of its mark, in the account's currency."""
    rates: dict[str, Decimal] = {}
    """Price in the account's currency of every other asset that the figures rest on."""

    @property
    def debt_value(self) -> Decimal:
        """All that is owed, in the account's currency."""
        return sum((one.value for one in self.debts), ZERO)

    @property
    def used(self) -> Decimal:
        return self.used_by_positions + self.used_by_orders

    @property
    def available(self) -> Decimal:
        return max(ZERO, self.equity - self.used)

    @property
    def known(self) -> bool:
        return not self.missing

    def stale(self, at: datetime, max_age: timedelta) -> tuple[Mark, ...]:
        """Marks that the figures rest on and that are older than `max_age`."""
        oldest = at - max_age
        return tuple(mark for mark in self.marks if mark.received_at < oldest)

    def marks_used(self) -> tuple[MarkUsed, ...]:
        return tuple(mark_used(mark) for mark in self.marks)


UNKNOWN_FIGURES = Figures()


def figures(summary: Summary) -> Figures:
    """The summary's main figures, rounded for showing; all None when a price is missing."""
    return UNKNOWN_FIGURES if summary.missing else figures_of(summary.equity, summary.used, summary.maintenance)


def figures_of(equity: Decimal, used: Decimal, maintenance: Decimal) -> Figures:
    return Figures(
        equity=owned(equity),
        margin_used=required(used),
        margin_available=owned(max(ZERO, equity - used)),
        margin_utilization=ratio(used, equity),
        maintenance_margin=required(maintenance),
        maintenance_ratio=ratio(maintenance, equity),
    )


def mark_used(mark: Mark) -> MarkUsed:
    return MarkUsed(mark.symbol, mark.price, mark.source, mark.source_time, mark.received_at)


def usable_mark(account: Account, world: World, symbol: str) -> Mark | None:
    """The instrument's mark, unless it was read from a recording and the account is a real one."""
    return mark_for(world, symbol, real=account.environment is not Environment.SANDBOX)


def mark_for(world: World, symbol: str, *, real: bool) -> Mark | None:
    """The instrument's mark; None where it was read from a recording and is asked for a `real` account."""
    mark = world.marks.get(symbol)
    return None if mark is not None and mark.recorded and real else mark


def rate_for(account: Account, world: World, asset: str, used: dict[str, Mark]) -> Decimal:
    """Price of one unit of `asset` in the account's currency, never by a recording for a real account.

    Marks that were read are added to `used`. Raises Unpriced.
    """
    return rate_between(world, asset, account.currency, used, real=account.environment is not Environment.SANDBOX)


def rate_between(world: World, asset: str, currency: str, used: dict[str, Mark], *, real: bool) -> Decimal:
    """Price of one unit of `asset` in any currency, never by a recording where it is asked for a `real` account."""
    house, read, marks = world.house, dict[str, Mark](), world.marks
    if world.held_prices:
        held = {symbol: one.mark for symbol, one in world.held_prices.items()}
        marks = cast(Mapping[str, Mark], ChainMap(held, marks))  # type: ignore[arg-type]
    rate = asset_price(asset, currency, house.assets, house.instruments, marks, read)
    for symbol in read:
        if mark_for(world, symbol, real=real) is None:
            raise Unpriced(symbol)
    used.update(read)
    return rate


def contract_value(world: World, symbol: str, currency: str, used: dict[str, Mark], *, real: bool) -> Decimal:
    """What one contract is worth at its mark, in any currency. Marks that were read are added to `used`.

    Raises Unpriced.
    """
    instrument, mark = world.house.instruments.get(symbol), mark_for(world, symbol, real=real)
    if instrument is None or mark is None:
        raise Unpriced(symbol)
    used[symbol] = mark
    return notional(instrument, ONE, mark.price) * rate_between(world, instrument.settle, currency, used, real=real)


def position_figures(position: Position, instrument: Instrument, mark: Mark, rate: Decimal) -> PositionFigures:
    rules = instrument.rules
    base = margin_base(rules, position.quantity, isolated=position.margin_mode is ISOLATED)
    margin_price = mark.price if base is MarginBase.MARK else position.entry_price
    keeping_price = mark.price if rules.maintenance_margin_base is MarginBase.MARK else position.entry_price
    return PositionFigures(
        position=position,
        instrument=instrument,
        mark=mark,
        rate=rate,
        notional=notional(instrument, position.quantity, mark.price),
        initial_margin=initial_margin(instrument, position.quantity, margin_price, position.leverage),
        maintenance_margin=maintenance_margin(instrument, position.quantity, keeping_price),
        unrealized_pnl=profit(instrument, position.quantity, position.entry_price, mark.price),
    )


def leverage_of(account: Account, settings: RiskSettings, symbol: str) -> Decimal:
    """The leverage new orders on `symbol` are counted at: set, or the house's default within the account's caps."""
    chosen = account.leverage.get(symbol)
    if chosen is not None:
        return chosen
    caps = [settings.default_leverage]
    if account.limits.max_leverage is not None:
        caps.append(account.limits.max_leverage)
    broker_cap = settings.broker_max_leverage.get(account.broker)
    if broker_cap is not None:
        caps.append(broker_cap)
    return min(caps)


def margin_mode_of(account: Account, symbol: str) -> MarginMode:
    return account.margin_modes.get(symbol, account.margin_mode)


def unit_margin(instrument: Instrument, price: Decimal, leverage: Decimal, open_loss: Decimal = ZERO) -> Decimal:
    """Initial margin of one contract at `price`, plus what it loses at once if filled there.

    Where it depends on the side, the larger of both counts.
    """
    costly = ONE if instrument.inverse else -ONE
    return initial_margin(instrument, costly, price, leverage) + open_loss


def summarize(account: Account, world: World) -> Summary:
    """Every figure of the account at the present marks. Prices that are missing are named, never replaced."""
    house = world.house
    used_marks: dict[str, Mark] = {}
    missing: list[str] = []
    rates: dict[str, Decimal] = {}

    def rate_of(asset: str) -> Decimal | None:
        if asset == account.currency:
            return ONE
        if asset not in rates:
            try:
                rates[asset] = rate_for(account, world, asset, used_marks)
            except Unpriced as unpriced:
                missing.append(unpriced.missing)
                return None
        return rates[asset]

    figures_list: list[PositionFigures] = []
    posted: dict[str, Decimal] = {}
    equity = total_value = unrealized = used = maintenance = isolated = exposure = ZERO
    for position in account.positions.values():
        instrument = house.instruments[position.symbol]
        mark = usable_mark(account, world, position.symbol)
        rate = rate_of(instrument.settle)
        if mark is None:
            missing.append(position.symbol)
            continue
        used_marks.setdefault(mark.symbol, mark)
        if rate is None:
            continue
        one = position_figures(position, instrument, mark, rate)
        figures_list.append(one)
        profit_value = one.unrealized_pnl * rate
        unrealized += profit_value
        exposure += one.notional * rate
        if one.isolated:
            posted[instrument.settle] = posted.get(instrument.settle, ZERO) + position.isolated_margin
            isolated += position.isolated_margin * rate
        else:
            equity += profit_value
            used += one.initial_margin * rate
            maintenance += one.maintenance_margin * rate
    if account.pending:
        for asset, amount in on_its_way(account, house).items():
            posted[asset] = posted.get(asset, ZERO) + amount
    valued: dict[str, Decimal] = {}

    def value_by_mark(asset: str, units: Decimal) -> None:
        rule = house.assets.get(asset)
        if rule is None or not rule.priced_by or asset == account.currency or account.currency in rule.rates:
            return
        symbol = rule.priced_by
        if symbol not in world.held_prices:
            gained = units * rates[asset] / used_marks[symbol].price
            valued[symbol] = valued.get(symbol, ZERO) + gained

    for asset in {**account.balances, **posted}:
        balance = account.balances.get(asset, ZERO)
        if balance == 0 and asset not in posted:
            continue
        rate = rate_of(asset)
        if rate is None:
            continue
        total_value += balance * rate
        free = balance - posted.get(asset, ZERO)
        equity += collateral_value(asset, free, rate, house)
        value_by_mark(asset, slope_of(house.assets.get(asset), free, rate))
    debts: list[DebtFigures] = []
    for debt in account.debts.values():
        rate = rate_of(debt.asset)
        if rate is not None:
            debts.append(DebtFigures(debt, rate))
            equity -= debt.owed * rate
            value_by_mark(debt.asset, -debt.owed)
    orders = order_uses(account, world, figures_list, rate_of, missing)
    used_by_orders = sum((use.order_margin() * use.rate for use in orders.values()), ZERO)
    return Summary(
        positions=tuple(figures_list),
        orders=orders,
        wallet_value=total_value,
        total_value=total_value + unrealized,
        equity=equity,
        used_by_positions=used,
        used_by_orders=used_by_orders,
        maintenance=maintenance,
        isolated_margin=isolated,
        unrealized_pnl=unrealized,
        exposure=exposure,
        marks=tuple(used_marks.values()),
        missing=tuple(dict.fromkeys(missing)),
        debts=tuple(debts),
        valued=valued,
        rates=rates,
    )


def on_its_way(account: Account, house: House) -> dict[str, Decimal]:
    """Margin by asset that the venue was asked to move between account and isolated position: it counts for neither."""
    amounts: dict[str, Decimal] = {}
    for change in account.pending.values():
        if change.amount:
            settle = house.instruments[change.symbol].settle
            amounts[settle] = amounts.get(settle, ZERO) + abs(change.amount)
    return amounts


def with_orders_of(account: Account, world: World, before: Account, summary: Summary) -> Summary | None:
    """`summarize`, made from the summary of the account as it was `before`; None where more than open orders changed.

    Both must be of the same house and marks. The positions, which are most of the work, are taken over.
    """
    if account.positions is not before.positions or account.balances is not before.balances or summary.missing:
        return None
    if account.debts is not before.debts:
        return None
    orders = orders_with_more(account, world, before, summary)
    if orders is None:
        rates = rates_of(account, summary)
        instruments = world.house.instruments
        if any(instruments[one.symbol].settle not in rates for one in account.reservations.values()):
            return None
        orders = order_uses(account, world, list(summary.positions), rates.get, [])
    used_by_orders = sum((use.order_margin() * use.rate for use in orders.values()), ZERO)
    return msgspec.structs.replace(summary, orders=orders, used_by_orders=used_by_orders)


def rates_of(account: Account, summary: Summary) -> dict[str, Decimal]:
    """The settlement assets that the summary has a price for."""
    rates = {one.instrument.settle: one.rate for one in summary.positions}
    rates[account.currency] = ONE
    return rates


def orders_with_more(account: Account, world: World, before: Account, summary: Summary) -> dict[str, OrderUse] | None:
    """The uses of the open orders `before`, and of those that came since; None where anything else changed."""
    known = before.reservations
    added = [one for key, one in account.reservations.items() if known.get(key) is not one]
    if (
        len(known) + len(added) != len(account.reservations)
        or account.leverage is not before.leverage
        or account.margin_modes is not before.margin_modes
        or account.limits is not before.limits
    ):
        return None
    orders = dict(summary.orders)
    for one in added:
        if one.reduce_only:
            continue
        use = orders.get(one.symbol)
        if use is None:
            instrument = world.house.instruments[one.symbol]
            rate = rates_of(account, summary).get(instrument.settle)
            if rate is None:
                return None
            held = [figures for figures in summary.positions if figures.position.symbol == one.symbol]
            use = order_use(account, world, instrument, held, rate)
        orders[one.symbol] = use = use.copy()
        add_reservation(use, one)
    return orders


def collateral_value(asset: str, amount: Decimal, rate: Decimal, house: House) -> Decimal:
    """What `amount` counts for as collateral at `rate`; a negative amount counts in full. See `collateral.counted`."""
    return counted(house.assets.get(asset), amount, rate)


def order_use(
    account: Account, world: World, instrument: Instrument, held: list[PositionFigures], rate: Decimal
) -> OrderUse:
    """The use of one instrument without its open orders."""
    symbol = instrument.symbol
    one_way = account.position_mode is PositionMode.ONE_WAY
    isolated = margin_mode_of(account, symbol) is ISOLATED
    return OrderUse(
        instrument=instrument,
        rate=rate,
        leverage=leverage_of(account, world.settings, symbol),
        position_quantity=held[0].position.quantity if held and one_way else ZERO,
        position_margin=held[0].initial_margin if held and one_way and not isolated else ZERO,
        buys=OpenOrders(),
        sells=OpenOrders(),
        one_way=one_way,
        isolated=isolated,
    )


def order_uses(
    account: Account,
    world: World,
    held: list[PositionFigures],
    rate_of: Callable[[str], Decimal | None],
    missing: list[str],
) -> dict[str, OrderUse]:
    uses: dict[str, OrderUse] = {}
    if not account.reservations:
        return uses
    for reservation in account.reservations.values():
        if reservation.reduce_only:
            continue
        symbol = reservation.symbol
        use = uses.get(symbol)
        if use is None:
            instrument = world.house.instruments[symbol]
            rate = rate_of(instrument.settle)
            if rate is None:
                missing.append(symbol)
                continue
            positions = [one for one in held if one.position.symbol == symbol]
            use = uses[symbol] = order_use(account, world, instrument, positions, rate)
        add_reservation(use, reservation)
    return uses


def add_reservation(use: OrderUse, reservation: Reservation) -> None:
    unit = reservation.unit_margin
    if unit is None or reservation.leverage != use.leverage:
        unit = unit_margin(use.instrument, reservation.price, use.leverage, reservation.open_loss)
    use.orders(reservation.side).add(reservation.quantity, unit)
