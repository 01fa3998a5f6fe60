"""How an account's figures move with each mark: its exact summary as floats, cut into fixed parts and slopes."""

import math
from typing import Final, NamedTuple

from debt_mgmt.core.account import Account, MarginMode, RiskLevel, Side
from debt_mgmt.core.collateral import value_slope
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import MarginBase, margin_base, margin_share, tier_at
from debt_mgmt.core.levels import ASCENDING, RANK, thresholds
from debt_mgmt.core.limits import PEAK_STEP, loss_floor, loss_limits
from debt_mgmt.core.margin import OrderUse, PositionFigures, Summary, World, collateral_value, on_its_way
from debt_mgmt.core.market import TierMeasure
from debt_mgmt.core.money import ONE, ZERO
from debt_mgmt.core.settings import RiskSettings

NO_BOUND: Final = math.nan
"""Compared with anything, it is false."""
ALWAYS: Final = math.inf
"""A floor that no equity is above."""
ABOVE_EVERY_RATIO: Final = 1e30
"""A bound of utilisation that is reached only where equity is not positive."""
PRICE_GUARD: Final = 1e-10
"""Share of the prices it was made from by which a bound on a price is drawn in: for some ten errors of 2⁻⁵³."""


class Terms(NamedTuple):
    """What one unit of an asset is worth in a currency: `factor` × the marks of `symbols`; no factor, no price."""

    factor: float | None
    symbols: tuple[str, ...] = ()


class Pricing:
    """The asset rules of one house, as terms."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._terms: dict[tuple[str, str], Terms] = {}

    def terms(self, asset: str, currency: str) -> Terms:
        found = self._terms.get((asset, currency))
        if found is None:
            found = self._terms[asset, currency] = self._read(asset, currency)
        return found

    def _read(self, asset: str, currency: str) -> Terms:
        """The same rules in the same order as `market.asset_price`."""
        assets, instruments = self.house.assets, self.house.instruments
        if asset == currency:
            return Terms(1.0)
        rule = assets.get(asset)
        if rule is not None:
            if currency in rule.rates:
                return Terms(float(rule.rates[currency]))
            if rule.priced_by:
                instrument = instruments.get(rule.priced_by)
                if instrument is None:
                    return Terms(None, (rule.priced_by,))
                factor, symbols = self.terms(instrument.quote, currency)
                return Terms(factor, (rule.priced_by, *symbols))
        opposite = assets.get(currency)
        if opposite is not None and asset in opposite.rates:
            return Terms(1.0 / float(opposite.rates[asset]))
        return Terms(None)


class Bent(NamedTuple):
    """A holding whose figures are not in proportion to its mark, in its settlement asset.

    It moves equity by `has_slope`, the equity of isolated positions by `isolated_slope`, and margin used to
    max(needs_slope × coordinate + adding, opposing). Outside least..most, in price, an isolated position changes level.
    """

    asset: str
    has_slope: float = 0.0
    needs_slope: float = 0.0
    adding: float = 0.0
    opposing: float = 0.0
    isolated_slope: float = 0.0
    least: float = -1.0
    most: float = math.inf

    def needs(self, coordinate: float) -> float:
        return max(self.needs_slope * coordinate + self.adding, self.opposing)

    def with_leg(self, other: "Bent") -> "Bent":
        """This and another leg of a hedge on the same symbol."""
        return Bent(
            self.asset,
            self.has_slope + other.has_slope,
            self.needs_slope + other.needs_slope,
            self.adding + other.adding,
            self.opposing + other.opposing,
            self.isolated_slope + other.isolated_slope,
            max(self.least, other.least),
            min(self.most, other.most),
        )


class Purse:
    """What an account has, needs and has in isolated positions in one asset, apart from its bent holdings there."""

    __slots__ = ("has", "isolated", "needs", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.has = self.needs = self.isolated = 0.0


class Slopes:
    """An account as its figures move. `coordinate` of a symbol: its mark, or 1 ÷ mark if inverse.

    equity = `equity` + Σ plain slope × coordinate + Σ purses (has + Σ bent) × rate, margin used alike; the floor and
    ceiling of cross equity = `floor`, `ceiling` − Σ purses isolated × rate. All in the account's currency.
    """

    __slots__ = ("bent", "ceiling", "equity", "floor", "high", "low", "plain", "purses", "scale", "used")

    def __init__(self) -> None:
        self.plain: dict[str, tuple[float, float]] = {}
        """By symbol, what equity and margin used gain per unit of the coordinate, where the rate is fixed."""
        self.bent: dict[str, Bent] = {}
        self.purses: dict[str, Purse] = {}
        """By asset: those whose rate moves, and those of bent holdings."""
        self.equity = self.used = 0.0
        self.low = self.high = NO_BOUND
        """The level stays while low × equity ≤ margin used < high × equity."""
        self.floor, self.ceiling = ALWAYS, math.inf
        """No breaker trips and no peak is set while floor < equity ≤ ceiling."""
        self.scale = 0.0
        """The sum of all magnitudes that the figures are added up from, to judge rounding errors by."""


def blind_slopes(account: Account, pricing: Pricing) -> Slopes:
    """An account without a price it needs: nothing can be said, but every mark its figures rest on concerns it."""
    instruments = pricing.house.instruments
    symbols = {position.symbol for position in account.positions.values()}
    held = symbols | {one.symbol for one in account.reservations.values() if not one.reduce_only}
    assets = {instruments[symbol].settle for symbol in held} | account.balances.keys() | account.debts.keys()
    for asset in assets:
        symbols.update(pricing.terms(asset, account.currency).symbols)
    slopes = Slopes()
    slopes.plain = dict.fromkeys(symbols, (0.0, 0.0))
    return slopes


def slopes_of(account: Account, summary: Summary, world: World, pricing: Pricing) -> Slopes:
    """The account cut at the marks of its summary, none of which is missing."""
    slopes = Slopes()
    equity, used, isolated = float(summary.equity), float(summary.used), 0.0
    moved_equity = moved_used = scale = 0.0
    currency = account.currency
    for one in summary.positions:
        instrument, position = one.instrument, one.position
        symbol, inverse = position.symbol, instrument.inverse
        price = float(one.mark.price)
        coordinate = 1.0 / price if inverse else price
        contracts = float(position.quantity) * float(instrument.contract_size)
        has_slope = -contracts if inverse else contracts
        if position.margin_mode is MarginMode.ISOLATED:
            least, most = isolated_bounds(
                one, account.isolated_alerts.get(position.key, RiskLevel.NORMAL), world.settings
            )
            isolated += float(max(ZERO, one.isolated_equity)) * float(one.rate)
            has_slope = has_slope if one.isolated_equity > 0 else 0.0
            hold_bent(slopes, symbol, Bent(instrument.settle, isolated_slope=has_slope, least=least, most=most))
            continue
        on_mark = margin_base(instrument.rules, position.quantity) is MarginBase.MARK
        share = float(margin_share(instrument, position.quantity, position.leverage))
        needs_slope = abs(contracts) * share if on_mark else 0.0
        adding, opposing = order_sides(summary.orders.get(symbol))
        factor, symbols = pricing.terms(instrument.settle, currency)
        if symbols or opposing:
            if opposing and not on_mark:
                adding += float(one.initial_margin)
            hold_bent(slopes, symbol, Bent(instrument.settle, has_slope, needs_slope, adding, opposing))
            continue
        assert factor is not None
        has_slope, needs_slope = has_slope * factor, needs_slope * factor
        moved_equity += has_slope * coordinate
        moved_used += needs_slope * coordinate
        scale += (abs(has_slope) + needs_slope) * coordinate
        leg = slopes.plain.get(symbol)
        slopes.plain[symbol] = (has_slope, needs_slope) if leg is None else (has_slope + leg[0], needs_slope + leg[1])
    steady = fill_purses(slopes, account, summary, pricing)
    for asset, purse in slopes.purses.items():
        rate = rate_at(purse.terms, world)
        has, needs, own, magnitude = purse.has, purse.needs, purse.isolated, 0.0
        for symbol, bent in slopes.bent.items():
            if bent.asset == asset:
                coordinate = coordinate_at(world, symbol)
                has += bent.has_slope * coordinate
                needs += bent.needs(coordinate)
                own += bent.isolated_slope * coordinate
                slope = abs(bent.has_slope) + bent.needs_slope + abs(bent.isolated_slope)
                magnitude += slope * coordinate + bent.adding + bent.opposing
        moved_equity += has * rate
        moved_used += needs * rate
        isolated -= own * rate
        scale += (magnitude + abs(purse.has) + abs(purse.needs) + abs(purse.isolated)) * rate
    slopes.equity, slopes.used = equity - moved_equity, used - moved_used
    slopes.scale = scale + abs(slopes.equity) + abs(slopes.used) + abs(equity) + abs(used) + abs(isolated)
    set_bounds(slopes, account, summary, world, isolated)
    if not steady:
        slopes.floor = ALWAYS
    return slopes


def hold_bent(slopes: Slopes, symbol: str, bent: Bent) -> None:
    leg = slopes.bent.get(symbol)
    slopes.bent[symbol] = bent if leg is None else bent.with_leg(leg)


def order_sides(use: OrderUse | None) -> tuple[float, float]:
    """What open orders add to a one-way cross position, and the margin of those against it, where there are such."""
    if use is None or not use.one_way or use.isolated or use.position_quantity == 0:
        return 0.0, 0.0
    along = Side.BUY if use.position_quantity > 0 else Side.SELL
    opposing = use.side_margin(along.opposite)
    if opposing == 0:
        return 0.0, 0.0
    return float(use.side_margin(along) - use.position_margin), float(opposing)


def fill_purses(slopes: Slopes, account: Account, summary: Summary, pricing: Pricing) -> bool:
    """Make the purses: of the bent holdings, and of every asset whose rate moves with all that is in it.

    False where something in them is in no proportion to its rate, and no bound on a price can say how far it is.
    """
    house, currency = pricing.house, account.currency
    assets = {asset for asset, balance in account.balances.items() if balance} | account.debts.keys()
    if not slopes.bent and assets == {currency} and not summary.orders:
        return True
    tiered: list[tuple[str, Bent]] = []
    steady = True
    for bent in slopes.bent.values():
        slopes.purses.setdefault(bent.asset, Purse(pricing.terms(bent.asset, currency)))
    assets.update(one.instrument.settle for one in summary.positions)
    assets.update(use.instrument.settle for use in summary.orders.values())
    for asset in assets:
        terms = pricing.terms(asset, currency)
        if not terms.symbols:
            continue
        purse = slopes.purses.setdefault(asset, Purse(terms))
        held = [one for one in summary.positions if one.instrument.settle == asset]
        crossed = [one for one in held if not one.isolated]
        apart = [one for one in held if one.isolated]
        posted = sum((one.position.isolated_margin for one in apart), on_its_way(account, house).get(asset, ZERO))
        amount, rule = account.balances.get(asset, ZERO) - posted, house.assets.get(asset)
        if rule is not None and rule.haircut_tiers and rule.tiers_by is TierMeasure.VALUE and amount > 0:
            balance, least, most = value_slope(rule, amount, summary.rates[asset])
            if len(terms.symbols) == 1 and terms.factor:
                least, most = least / terms.factor * (1 + PRICE_GUARD), most / terms.factor * (1 - PRICE_GUARD)
                tiered.append((terms.symbols[0], Bent(asset, least=least, most=most)))
            else:
                steady = False
        else:
            balance = collateral_value(asset, amount, ONE, house)
        if asset in account.debts:
            balance -= account.debts[asset].owed
        orders = (use.order_margin() for use in summary.orders.values() if use.instrument.settle == asset)
        purse.has = float(sum((one.unrealized_pnl for one in crossed), balance))
        purse.needs = float(sum((one.initial_margin for one in crossed), ZERO) + sum(orders, ZERO))
        purse.isolated = float(sum((max(ZERO, one.isolated_equity) for one in apart), ZERO))
        for symbol, bent in slopes.bent.items():
            if bent.asset == asset:
                coordinate = coordinate_of(next(one for one in held if one.position.symbol == symbol))
                purse.has -= bent.has_slope * coordinate
                purse.needs -= bent.needs(coordinate)
                purse.isolated -= bent.isolated_slope * coordinate
    for symbol, bent in tiered:
        held_there = slopes.bent.get(symbol)
        slopes.bent[symbol] = bent if held_there is None else held_there.with_leg(bent)
    return steady


def coordinate_of(one: PositionFigures) -> float:
    price = float(one.mark.price)
    return 1.0 / price if one.instrument.inverse else price


def coordinate_at(world: World, symbol: str) -> float:
    price = float(world.marks[symbol].price)
    return 1.0 / price if world.house.instruments[symbol].inverse else price


def rate_at(terms: Terms, world: World) -> float:
    assert terms.factor is not None
    return terms.factor * math.prod(float(world.marks[symbol].price) for symbol in terms.symbols)


# Bounds


def level_bounds(level: RiskLevel, settings: RiskSettings) -> tuple[float, float]:
    """(low, high): the level stays while low ≤ utilisation < high. See `levels.next_level`."""
    entries, rank = thresholds(settings), RANK[level]
    low = NO_BOUND if level is RiskLevel.NORMAL else float(entries[level] - settings.hysteresis)
    high = float(entries[ASCENDING[rank + 1]]) if rank + 1 < len(ASCENDING) else ABOVE_EVERY_RATIO
    return low, high


def set_bounds(slopes: Slopes, account: Account, summary: Summary, world: World, isolated: float) -> None:
    """The figures inside which an assessment makes no event. `isolated` is the fixed part of what losses count too."""
    if is_unsettled(account, summary):
        return
    # Without margin used, only equity below zero matters; where no mark moves equity, nothing does.
    if summary.used or slopes.plain or any(purse.terms.symbols for purse in slopes.purses.values()):
        slopes.low, slopes.high = level_bounds(account.level, world.settings)
    floor = loss_floor(account, world)
    slopes.floor = -math.inf if floor is None else float(floor) - isolated
    slopes.ceiling = equity_ceiling(account, world) - isolated


def is_unsettled(account: Account, summary: Summary) -> bool:
    """Whether any assessment, at whatever price, would make an event, or might."""
    level, reduction = account.level, account.reduction
    if level is RiskLevel.UNKNOWN or account.baselines is None:
        return True
    if reduction is not None:
        return not reduction.open_steps
    if level is RiskLevel.LIQUIDATING or RiskLevel.LIQUIDATING in account.isolated_alerts.values():
        return True
    expected = RiskLevel.NORMAL if summary.equity >= 0 else RiskLevel.CRITICAL
    return summary.used == 0 and level is not expected


def equity_ceiling(account: Account, world: World) -> float:
    """The equity above which a new peak is set, or a breaker is cleared whose cool-down is over."""
    assert account.baselines is not None
    peak = account.baselines.peak_equity
    ceiling = float(max(peak * PEAK_STEP, peak))
    if account.breakers:
        for kind, _, baseline, allowed in loss_limits(account, world):
            breaker = account.breakers.get(kind.value)
            if breaker is not None and world.at >= breaker.until:
                ceiling = min(ceiling, float(baseline - allowed))
    return ceiling


def isolated_bounds(one: PositionFigures, level: RiskLevel, settings: RiskSettings) -> tuple[float, float]:
    """(least, most): between these prices an isolated position keeps its level, its tier and the sign of its equity.

    Within a tier maintenance margin and equity are straight lines in the coordinate, so each bound is where two lines
    meet. Where the position stands outside already, or too near to say, the bounds hold no price.
    """
    nowhere = (math.inf, 0.0)
    position, instrument = one.position, one.instrument
    size = float(abs(position.quantity)) * float(instrument.contract_size)
    coordinate, entry = coordinate_of(one), float(position.entry_price)
    entry = 1.0 / entry if instrument.inverse else entry
    slope = size if (position.quantity > 0) is not instrument.inverse else -size
    fixed = float(position.isolated_margin) - slope * entry
    least, most = 0.0, math.inf
    if instrument.rules.maintenance_margin_base is MarginBase.ENTRY:
        kept, kept_slope = float(one.maintenance_margin), 0.0
    else:
        tier = tier_at(instrument, one.notional)
        weight = float(tier.maintenance_rate)
        weight += float(instrument.taker_fee_rate) if instrument.rules.fee_in_maintenance else 0.0
        kept, kept_slope = -float(tier.deduction), size * weight
        least = float(tier.notional_from) / size
        most = math.inf if tier.notional_to is None else float(tier.notional_to) / size
    if one.maintenance_margin <= 0:
        return nowhere
    low, high = level_bounds(level, settings)
    worth = 1.0 if one.isolated_equity > 0 else -1.0
    lines = [(-kept, -kept_slope), (-worth * fixed, -worth * slope)]
    if level is not RiskLevel.LIQUIDATING:
        lines.append((kept - high * fixed, kept_slope - high * slope))
    if level is not RiskLevel.NORMAL:
        lines.append((low * fixed - kept, low * slope - kept_slope))
    for start, gain in lines:
        if gain > 0:
            most = min(most, -start / gain)
        elif gain < 0:
            least = max(least, -start / gain)
        elif start >= 0:
            return nowhere
    reach = PRICE_GUARD * (coordinate + entry + float(position.isolated_margin) / size)
    least, most = least + reach, most - reach
    if not least < coordinate < most:
        return nowhere
    if instrument.inverse:
        return (1.0 / most if most < math.inf else 0.0), 1.0 / least
    return least, most
