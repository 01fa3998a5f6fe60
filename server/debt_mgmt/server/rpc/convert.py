"""Writing answers: values of the core as messages of the contract. What is unknown stays absent."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core import account as a
from debt_mgmt.core import market
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import initial_margin
from debt_mgmt.core.levels import next_level, unpriced
from debt_mgmt.core.limits import day_of
from debt_mgmt.core.liquidation_price import ends_of
from debt_mgmt.core.margin import PositionFigures, Summary, World, figures, leverage_of
from debt_mgmt.core.money import PRICE_RESOLUTION, RATIO_RESOLUTION, ZERO, owned, required, text
from debt_mgmt.core.refusals import Violation, sentence
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.sync import DRY_RUN_NOTE, unsynced
from debt_mgmt.core.venue import Provenance, VenuePosition
from debt_mgmt.core.whatif import Shocks, shocks
from debt_mgmt.server.rpc.names import (
    ALERT_KIND,
    LIQUIDATION_CAUSE,
    MARGIN_MODE,
    POSITION_SIDE,
    PROVENANCE,
    REFUSAL_REASON,
    RISK_LEVEL,
    SEVERITY,
    SIDE,
    TRADING_STATE,
)
from debt_mgmt.v1 import margin_service_pb2, rejections_pb2, types_pb2

ERA = datetime(1970, 1, 1, tzinfo=UTC)
PRICE_MOST = Decimal(10) ** 20
"""A price that the wire's grammar can't spell is no price that will be seen."""


# numbers and times


def optional_text(value: Decimal | None) -> str | None:
    """A decimal, or nothing where it is unknown."""
    return None if value is None else text(value)


def timestamp(at: datetime) -> Timestamp:
    elapsed = at - ERA
    return Timestamp(seconds=elapsed.days * 86_400 + elapsed.seconds, nanos=elapsed.microseconds * 1000)


def write_timestamp(message: Timestamp, at: datetime) -> None:
    elapsed = at - ERA
    message.seconds, message.nanos = elapsed.days * 86_400 + elapsed.seconds, elapsed.microseconds * 1000


def optional_timestamp(at: datetime | None) -> Timestamp | None:
    return None if at is None else timestamp(at)


def duration(length: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(length)
    return message


def revision(place: tuple[int, int]) -> types_pb2.Revision:
    """(shard, position) as of which an answer holds."""
    return types_pb2.Revision(shard=place[0], position=place[1])


def asset_amounts(balances: dict[str, Decimal]) -> list[types_pb2.AssetAmount]:
    """Amounts by asset, without those at zero."""
    return [
        types_pb2.AssetAmount(asset=asset, amount=text(amount)) for asset, amount in sorted(balances.items()) if amount
    ]


def price_text(price: Decimal | None) -> str | None:
    """A price that was computed, at the resolution of prices; absent where there is none."""
    if price is None or not ZERO < price < PRICE_MOST:
        return None
    rounded = price.quantize(PRICE_RESOLUTION, ROUND_HALF_EVEN)
    return text(rounded) if rounded else None


# prices


def mark(one: market.Mark | a.MarkUsed, at: datetime, max_age: timedelta) -> types_pb2.Mark:
    """A mark with its age at `at`; stale where that is above `max_age`."""
    age = max(at - one.received_at, timedelta(0))
    return types_pb2.Mark(
        symbol=one.symbol,
        price=text(one.price),
        source=one.source,
        source_time=timestamp(one.source_time),
        received_time=timestamp(one.received_at),
        age=duration(age),
        stale=age > max_age,
    )


def marks(found: Iterable[market.Mark | a.MarkUsed], at: datetime, max_age: timedelta) -> list[types_pb2.Mark]:
    """Marks by symbol."""
    return [mark(one, at, max_age) for one in sorted(found, key=lambda one: one.symbol)]


def price_of(asset: str, account: a.Account, world: World) -> Decimal | None:
    """Price of an asset in the account's currency; None where it is not known."""
    house = world.house
    try:
        return market.asset_price(asset, account.currency, house.assets, house.instruments, world.marks, {})
    except market.Unpriced:
        return None


def total_in_currency(amounts: dict[str, Decimal], account: a.Account, world: World) -> Decimal | None:
    """Amounts per asset as one in the account's currency; None where a price is missing."""
    total = ZERO
    for asset, amount in amounts.items():
        if amount == 0:
            continue
        rate = price_of(asset, account, world)
        if rate is None:
            return None
        total += amount * rate
    return owned(total)


def write_mark(message: types_pb2.Mark, template: types_pb2.Mark, age: timedelta, max_age: timedelta) -> None:
    """Write the mark of `template` at another age."""
    message.CopyFrom(template)
    message.age.seconds, message.age.nanos = age.days * 86_400 + age.seconds, age.microseconds * 1000
    message.stale = age > max_age


# refusals


def violation(one: Violation) -> rejections_pb2.Violation:
    return rejections_pb2.Violation(
        reason=REFUSAL_REASON.wire[one.reason],
        message=sentence(one),
        value=optional_text(one.value),
        limit=optional_text(one.limit),
        headroom=optional_text(one.headroom),
        subject=one.subject,
        scope=None if one.scope is None else scope(one.scope),
        limit_set=one.limit_set,
    )


def scope(node: Scope) -> types_pb2.Scope:
    """A node of the tree of limits."""
    return types_pb2.Scope(owner=node.owner, account_id=node.account_id, strategy=node.strategy, symbol=node.symbol)


def violations(several: Iterable[Violation]) -> list[rejections_pb2.Violation]:
    return [violation(one) for one in several]


# figures


def level_of(shown: a.Figures, settings: RiskSettings, current: a.RiskLevel = a.RiskLevel.NORMAL) -> a.RiskLevel:
    """The level that figures mean for an account that is at `current`; UNKNOWN where they are unknown."""
    if shown.margin_used is None or shown.equity is None:
        return a.RiskLevel.UNKNOWN
    known = current if current is not a.RiskLevel.UNKNOWN else a.RiskLevel.NORMAL
    return next_level(known, shown.margin_used, shown.equity, settings)


def margin_figures(
    shown: a.Figures, settings: RiskSettings, current: a.RiskLevel = a.RiskLevel.NORMAL
) -> types_pb2.MarginFigures:
    """Figures with the level that they mean; see `level_of`."""
    message = types_pb2.MarginFigures()
    write_margin_figures(message, shown, settings, current)
    return message


def write_margin_figures(
    message: types_pb2.MarginFigures, shown: a.Figures, settings: RiskSettings, current: a.RiskLevel
) -> None:
    """Write figures where they belong, which saves copying them."""
    message.level = RISK_LEVEL.wire[level_of(shown, settings, current)]
    if shown.equity is not None:
        message.equity = text(shown.equity)
    if shown.margin_used is not None:
        message.margin_used = text(shown.margin_used)
    if shown.margin_available is not None:
        message.margin_available = text(shown.margin_available)
    if shown.margin_utilization is not None:
        message.margin_utilization = text(shown.margin_utilization)
    if shown.maintenance_margin is not None:
        message.maintenance_margin = text(shown.maintenance_margin)
    if shown.maintenance_ratio is not None:
        message.maintenance_ratio = text(shown.maintenance_ratio)


def thresholds(settings: RiskSettings) -> types_pb2.Thresholds:
    return types_pb2.Thresholds(
        margin_call_threshold=text(settings.margin_call_threshold),
        liquidation_threshold=text(settings.liquidation_threshold),
        forced_liquidation_threshold=text(settings.forced_liquidation_threshold),
        liquidation_target=text(settings.liquidation_target),
        hysteresis=text(settings.hysteresis),
    )


def trading_state(account: a.Account, house: House) -> tuple[a.TradingState, str]:
    """What the account may do, by its own state and by the halts of its owner and of everything, and why."""
    halt = house.halt_for(account.owner)
    if account.trading_state is not a.TradingState.HALTED and halt is not None:
        return a.TradingState.HALTED, halt.reason
    return account.trading_state, account.trading_reason if account.trading_state is not a.TradingState.ACTIVE else ""


def level_now(account: a.Account, summary: Summary, world: World) -> a.RiskLevel:
    """The account's level; UNKNOWN as soon as a price is missing or too old, or the venue's side of a live account is.

    Even before that is journaled.
    """
    if account.closed_at is not None:
        return account.level
    blind = unpriced(account, summary, world, world.settings.mark_max_age) or unsynced(
        account, world.settings, world.at
    )
    return a.RiskLevel.UNKNOWN if blind else account.level


def shock_distances(found: dict[str, Shocks]) -> list[types_pb2.ShockDistance]:
    """How far all prices may move, by target."""
    return [
        types_pb2.ShockDistance(
            target=types_pb2.ShockTarget.Value(f"SHOCK_TARGET_{name}"),
            up=optional_text(found[name].up),
            down=optional_text(found[name].down),
        )
        for name in ("WARNING", "CRITICAL", "LIQUIDATING", "BANKRUPTCY")
        if name in found
    ]


def cross_pnl(summary: Summary) -> Decimal:
    """Unrealised PnL of the positions that stand on the account's equity, in its currency."""
    return sum((one.unrealized_pnl * one.rate for one in summary.positions if not one.isolated), ZERO)


def collateral_value(summary: Summary) -> Decimal:
    """Wallet balances after haircuts, without the margin posted on isolated positions."""
    return owned(summary.equity) - owned(cross_pnl(summary)) + required(summary.debt_value)


def debt_value(account: a.Account, summary: Summary) -> Decimal | None:
    """All that the account owes, in its currency; None where a price is missing for that."""
    return required(summary.debt_value) if len(summary.debts) == len(account.debts) else None


def margin_status(
    account: a.Account, summary: Summary, world: World, *, with_shocks: bool = True
) -> margin_service_pb2.MarginStatus:
    """Every figure of an account; amounts are absent where a price is missing. The parts sum to their totals exactly.

    How far prices are from each level is half of the work, and can be left out.
    """
    settings, max_age = world.settings, world.settings.mark_max_age
    shown = figures(summary)
    state, reason = trading_state(account, world.house)
    blind = (*summary.missing, *(one.symbol for one in summary.stale(world.at, max_age)))
    status = margin_service_pb2.MarginStatus(
        account_id=account.account_id,
        currency=account.currency,
        equity=optional_text(shown.equity),
        margin_used=optional_text(shown.margin_used),
        margin_available=optional_text(shown.margin_available),
        margin_utilization=optional_text(shown.margin_utilization),
        maintenance_margin=optional_text(shown.maintenance_margin),
        maintenance_ratio=optional_text(shown.maintenance_ratio),
        realized_pnl=optional_text(total_in_currency(account.realized_pnl, account, world)),
        realized_pnl_today=optional_text(realized_today(account, world)),
        debt=optional_text(debt_value(account, summary)),
        level=RISK_LEVEL.wire[level_now(account, summary, world)],
        trading_state=TRADING_STATE.wire[state],
        trading_state_reason=reason,
        open_positions=len(account.positions),
        open_reservations=len(account.reservations),
        shocks=shock_distances(shocks(account, world)) if with_shocks else [],
        thresholds=thresholds(settings),
        marks=marks(summary.marks, world.at, max_age),
        stale=bool(blind),
        stale_symbols=sorted(set(blind)),
    )
    if summary.known:
        wallet, unrealized = owned(summary.wallet_value), owned(summary.unrealized_pnl)
        by_positions = required(summary.used_by_positions)
        status.wallet_balance = text(wallet)
        status.unrealized_pnl = text(unrealized)
        status.total_value = text(wallet + unrealized)
        status.collateral_value = text(collateral_value(summary))
        status.initial_margin_positions = text(by_positions)
        status.initial_margin_reservations = text(required(summary.used) - by_positions)
        status.isolated_margin = text(owned(summary.isolated_margin))
    return status


def realized_today(account: a.Account, world: World) -> Decimal | None:
    """PnL realised since the day began; None where no day was begun yet."""
    baselines = account.baselines
    if baselines is None:
        return None
    if baselines.day != day_of(world.at, world.settings.day_zone):
        return ZERO
    return total_in_currency(baselines.day_realized_pnl, account, world)


# positions


def positions(account: a.Account, summary: Summary, world: World) -> list[types_pb2.Position]:
    """Every position, by symbol and leg."""
    held = {one.position.key: one for one in summary.positions}
    return [
        position(account.positions[key], held.get(key), account, summary, world) for key in sorted(account.positions)
    ]


def position(
    one: a.Position, known: PositionFigures | None, account: a.Account, summary: Summary, world: World
) -> types_pb2.Position:
    """One position with its figures (`known`: None without a price), in the account's currency."""
    instrument = world.house.instruments[one.symbol]
    rate = known.rate if known is not None else price_of(instrument.settle, account, world)
    realized = owned(one.realized_pnl * rate) if rate is not None else None
    message = types_pb2.Position(
        account_id=account.account_id,
        symbol=one.symbol,
        position_side=POSITION_SIDE.wire[one.side],
        quantity=text(one.quantity),
        entry_price=text(one.entry_price),
        leverage=text(one.leverage),
        margin_mode=MARGIN_MODE.wire[one.margin_mode],
        realized_pnl="0" if one.realized_pnl == 0 else optional_text(realized) or "",
        open_time=timestamp(one.opened_at),
    )
    if account.strategies:
        add_strategies(message, account, one.key)
    if account.sync is not None:
        add_venue_price(message, account.sync.positions.get(one.key))
    if one.margin_mode is a.MarginMode.ISOLATED and rate is not None:
        message.isolated_margin = text(owned(one.isolated_margin * rate))
    if known is None:
        return message
    message.mark_price = text(known.mark.price)
    message.notional = text(required(known.notional * known.rate))
    message.initial_margin = text(required(known.initial_margin * known.rate))
    message.maintenance_margin = text(required(known.maintenance_margin * known.rate))
    message.unrealized_pnl = text(owned(known.unrealized_pnl * known.rate))
    if known.isolated or summary.known:
        add_end_prices(message, known, summary)
    return message


def add_strategies(message: types_pb2.Position, account: a.Account, key: str) -> None:
    """What each strategy has traded of a position, by name."""
    for strategy, held in account.strategies.items():
        if key in held:
            message.strategies.add(strategy=strategy, quantity=text(held[key]))


def add_venue_price(message: types_pb2.Position, said: VenuePosition | None) -> None:
    """The liquidation price that came from the venue, and whose number it is."""
    if said is not None and said.liquidation_price is not None:
        message.venue_liquidation_price = text(said.liquidation_price)
        whose = Provenance.VENUE if said.liquidation_price_is_venues else Provenance.OWN
        message.venue_liquidation_price_provenance = PROVENANCE.wire[whose]


def add_end_prices(message: types_pb2.Position, known: PositionFigures, summary: Summary) -> None:
    """Liquidation and bankruptcy price, where there are such prices, and how far the first is from the mark."""
    mark_price = known.mark.price
    liquidated, bankrupt = ends_of(known, summary)
    shown = price_text(liquidated)
    if shown is not None and liquidated is not None:
        message.liquidation_price = shown
        away = mark_price - liquidated if known.position.quantity > 0 else liquidated - mark_price
        offset = not known.isolated and known.position.symbol in summary.valued and summary.maintenance < summary.equity
        if offset or len([one for one in summary.positions if one.position.symbol == known.position.symbol]) > 1:
            away = abs(liquidated - mark_price)
        message.distance_to_liquidation = text((max(away, ZERO) / mark_price).quantize(RATIO_RESOLUTION, ROUND_FLOOR))
    shown = price_text(bankrupt)
    if shown is not None:
        message.bankruptcy_price = shown


# reservations, reductions, alerts


def reservation(one: a.Reservation, account: a.Account, world: World) -> margin_service_pb2.Reservation:
    """Margin held for an order. Its amount is absent where the settlement asset has no price."""
    instrument = world.house.instruments[one.symbol]
    leverage = leverage_of(account, world.settings, one.symbol)
    rate = price_of(instrument.settle, account, world)
    amount: Decimal | None = None
    if one.reduce_only or one.quantity == 0:
        amount = ZERO
    elif rate is not None:
        amount = required(initial_margin(instrument, one.quantity, one.price, leverage) * rate)
    return margin_service_pb2.Reservation(
        reservation_id=one.reservation_id,
        account_id=account.account_id,
        order=types_pb2.Order(
            symbol=one.symbol,
            side=SIDE.wire[one.side],
            quantity=text(one.original_quantity),
            price=optional_text(one.limit_price),
            reduce_only=one.reduce_only,
            position_side=POSITION_SIDE.wire[one.position_side],
            strategy=one.strategy,
        ),
        remaining_quantity=text(one.quantity),
        price=text(one.price),
        leverage=text(leverage),
        initial_margin=optional_text(amount),
        client_order_id=one.client_order_id,
        create_time=timestamp(one.created_at),
        expire_time=timestamp(one.expires_at) if one.expires_at != a.UNTIL_CANCELLED else None,
    )


def liquidation(one: a.Reduction, account_id: str, settings: RiskSettings) -> margin_service_pb2.Liquidation:
    """A reduction as far as it is. Its prices are shown with their age when it was planned."""
    short = [step for step in one.steps if step.done and step.filled_quantity < step.quantity]
    if one.ended_at is None:
        state = margin_service_pb2.LIQUIDATION_STATE_RUNNING
    elif short:
        state = margin_service_pb2.LIQUIDATION_STATE_INCOMPLETE
    else:
        state = margin_service_pb2.LIQUIDATION_STATE_COMPLETED
    reason = one.reason if one.cause is a.ReductionCause.REQUESTED else ""
    if state == margin_service_pb2.LIQUIDATION_STATE_INCOMPLETE:
        reason = "; ".join(f"step {step.step}: {shortfall(step)}" for step in short)
    return margin_service_pb2.Liquidation(
        liquidation_id=one.plan_id,
        account_id=account_id,
        cause=LIQUIDATION_CAUSE[one.cause],
        state=state,
        state_reason=reason,
        steps=[liquidation_step(step) for step in one.steps],
        utilization_before=optional_text(one.utilization_before),
        utilization_after=optional_text(one.utilization_after),
        marks=marks(one.marks, one.started_at, settings.mark_max_age),
        bankruptcy_deficit=optional_text(one.deficit),
        dry_run=any(step.note == DRY_RUN_NOTE for step in one.steps),
        create_time=timestamp(one.started_at),
        end_time=optional_timestamp(one.ended_at),
    )


def shortfall(step: a.ReductionStep) -> str:
    return f"filled {text(step.filled_quantity)} of {text(step.quantity)} {step.symbol}"


def liquidation_step(step: a.ReductionStep) -> margin_service_pb2.LiquidationStep:
    state, failure = margin_service_pb2.LIQUIDATION_STEP_STATE_PENDING, ""
    if step.done:
        state = margin_service_pb2.LIQUIDATION_STEP_STATE_DONE
        if step.filled_quantity < step.quantity:
            state, failure = margin_service_pb2.LIQUIDATION_STEP_STATE_FAILED, step.note or shortfall(step)
    fills = []
    if step.filled_quantity and step.price is not None:
        fills.append(
            types_pb2.Fill(
                fill_id=step.client_order_id,
                symbol=step.symbol,
                side=SIDE.wire[step.side],
                position_side=POSITION_SIDE.wire[step.position_side],
                quantity=text(step.filled_quantity),
                price=text(step.price),
                fee=text(step.fee),
                fee_asset=step.fee_asset if step.fee else "",
                realized_pnl=text(step.realized_pnl),
                fill_time=optional_timestamp(step.ended_at),
            )
        )
    return margin_service_pb2.LiquidationStep(
        step=step.step,
        kind=margin_service_pb2.LIQUIDATION_STEP_KIND_REDUCE,
        symbol=step.symbol,
        position_side=POSITION_SIDE.wire[step.position_side],
        side=SIDE.wire[step.side],
        quantity=text(step.quantity),
        client_order_id=step.client_order_id,
        state=state,
        failure=failure,
        fills=fills,
    )


def alert(one: a.Alert, account_id: str, settings: RiskSettings) -> types_pb2.Alert:
    """An alert. Its prices are shown with their age when it was raised."""
    return types_pb2.Alert(
        alert_id=one.alert_id,
        account_id=account_id,
        kind=ALERT_KIND.wire[one.kind],
        severity=SEVERITY.wire[one.severity],
        time=timestamp(one.at),
        level=RISK_LEVEL.wire[one.level],
        utilization=optional_text(one.utilization),
        message=one.message,
        marks=marks(one.marks, one.at, settings.mark_max_age),
        acknowledged=one.acknowledged_at is not None,
        acknowledged_by=one.acknowledged_by,
        acknowledge_time=timestamp(one.acknowledged_at) if one.acknowledged_at is not None else None,
    )
