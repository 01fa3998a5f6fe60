"""Accounts with a past, for properties: a desk, a random history played on it, and hazards that it is put under."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import msgspec
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import (
    Account,
    Breaker,
    BreakerKind,
    Limits,
    MarginMode,
    PositionMode,
    PositionSide,
    RiskLevel,
    Side,
    TradingState,
)
from debt_mgmt.core.market import Mark
from tests.support.desk import FREE, NOON, Desk
from tests.support.instruments import ABCUSDT, BTCUSD, BTCUSDT, ETHUSDT, SOLUSDT

D = Decimal

PRICES = {"BTCUSDT": D(50000), "ETHUSDT": D(2500), "SOLUSDT": D(125), "ABCUSDT": D(100), "BTCUSD": D(50000)}
INSTRUMENTS = {one.symbol: one for one in (BTCUSDT, ETHUSDT, SOLUSDT, ABCUSDT, BTCUSD)}
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "ABCUSDT", "BTCUSD")
LEVERAGES = tuple(D(x) for x in ("1", "2", "2.5", "3", "5"))

moves = st.integers(-400, 600).map(lambda permille: 1 + D(permille) / 1000)
"""Factors on a price: from −40 % to +60 %."""

sides = st.sampled_from(Side)


def quantities(symbol: str, largest_notional: int = 60_000) -> st.SearchStrategy[Decimal]:
    """Lot multiples worth up to `largest_notional` dollars."""
    instrument = INSTRUMENTS[symbol]
    worth = instrument.contract_size * (1 if instrument.inverse else PRICES[symbol]) * instrument.lot
    return st.integers(1, int(largest_notional / worth)).map(lambda lots: lots * instrument.lot)


def prices(symbol: str) -> st.SearchStrategy[Decimal]:
    """Tick multiples around the usual price."""
    instrument = INSTRUMENTS[symbol]
    return moves.map(lambda move: PRICES[symbol] * move // instrument.tick * instrument.tick)


@dataclass(frozen=True)
class Step:
    """One step of a history. `share` picks among what is open."""

    verb: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None
    factor: Decimal
    leverage: Decimal
    share: int


@st.composite
def steps(draw: st.DrawFn, symbols: tuple[str, ...], verbs: tuple[str, ...]) -> Step:
    symbol = draw(st.sampled_from(symbols))
    return Step(
        draw(st.sampled_from(verbs)),
        symbol,
        draw(sides),
        draw(quantities(symbol)),
        draw(st.none() | prices(symbol)),
        draw(moves),
        draw(st.sampled_from(LEVERAGES)),
        draw(st.integers(0, 99)),
    )


VERBS = ("fill", "fill", "fill", "reserve", "reserve", "release", "mark", "leverage")


@st.composite
def desks(
    draw: st.DrawFn,
    *,
    symbols: tuple[str, ...] = SYMBOLS,
    verbs: tuple[str, ...] = VERBS,
    modes: tuple[PositionMode, ...] = tuple(PositionMode),
    margin_modes: tuple[MarginMode, ...] = tuple(MarginMode),
    most: int = 7,
) -> Desk:
    """A desk whose account `alice` has lived through a random history."""
    desk = Desk(FREE)
    desk.value("BTC", priced_by="BTCUSDT", haircut="0.05")
    desk.value("USD", USDT="1")
    for symbol in PRICES:
        desk.mark(symbol, PRICES[symbol])
    desk.open(
        "alice",
        draw(st.integers(1_000, 60_000)),
        position_mode=draw(st.sampled_from(modes)),
        margin_mode=draw(st.sampled_from(margin_modes)),
    )
    if "BTCUSD" in symbols and draw(st.booleans()):
        desk.deposit("alice", "0.5", "BTC")
    for step in draw(st.lists(steps(symbols, verbs), min_size=most // 3, max_size=most)):
        play_step(desk, step)
    return desk


def play_step(desk: Desk, step: Step) -> None:
    """One step on the account `alice`; what the engine refuses is left undone."""
    account = desk.account("alice")
    leg = "NET"
    if account.position_mode is PositionMode.HEDGE:
        leg = "LONG" if step.share % 2 else "SHORT"
    match step.verb:
        case "fill":
            desk.fill("alice", step.side.value, step.quantity, step.symbol, step.price, leg=leg)
        case "reserve":
            desk.reserve("alice", step.side.value, step.quantity, step.symbol, step.price, leg=leg)
        case "release" if account.reservations:
            names = list(account.reservations)
            reservation = account.reservations[names[step.share % len(names)]]
            part = reservation.quantity if step.share % 3 else reservation.quantity / 2
            desk.do("alice", c.ReleaseReservation(reservation.reservation_id, part))
        case "mark":
            desk.mark(step.symbol, PRICES[step.symbol] * step.factor)
        case "leverage":
            desk.leverage("alice", step.symbol, step.leverage)


ZERO_LIMITS = Limits(
    max_leverage=D(1),
    max_position_quantity=D(0),
    max_position_notional=D(0),
    max_exposure_notional=D(0),
    max_concurrent_positions=0,
    max_open_reservations=0,
    max_daily_loss=D(0),
    max_daily_loss_fraction=D(0),
    max_drawdown_fraction=D(0),
    order_rate_count=0,
    order_rate_interval_seconds=1,
    breaker_cool_down_seconds=3600,
)


@st.composite
def hazards(draw: st.DrawFn, desk: Desk) -> Account:
    """The account under any mixture of what stands in the way of new risk: states, halts, breakers, limits, prices."""
    account = desk.account("alice")
    breakers = {
        kind.value: Breaker(kind, desk.now, desk.now + timedelta(hours=1), D(1), D(1))
        for kind in draw(st.sets(st.sampled_from(BreakerKind)))
    }
    account = msgspec.structs.replace(
        account,
        trading_state=draw(st.sampled_from(TradingState)),
        trading_reason="as drawn",
        trading_state_is_automatic=draw(st.booleans()),
        level=draw(st.sampled_from(RiskLevel)),
        breakers=breakers,
        limits=draw(st.sampled_from([Limits(), ZERO_LIMITS])),
        closed_at=draw(st.sampled_from([None, NOON])),
    )
    desk.accounts["alice"] = account
    if draw(st.booleans()):
        desk.house_do(c.HaltHouse("everybody stops"))
    if draw(st.booleans()):
        desk.house_do(c.HaltHouse("this owner stops", "desk"))
    for symbol in PRICES:
        age = draw(st.sampled_from([None, 0, 11, 31, 86_400]))
        if age is None:
            desk.marks.pop(symbol, None)
        else:
            seen = desk.now - timedelta(seconds=age)
            factor = draw(moves)
            desk.marks[symbol] = Mark(symbol, PRICES[symbol] * factor, "test", seen, seen)
    return account


@st.composite
def orders(draw: st.DrawFn, desk: Desk, symbols: tuple[str, ...] = SYMBOLS) -> c.Order:
    """Any order, well-formed for the account's position mode."""
    symbol = draw(st.sampled_from(symbols))
    hedge = desk.account("alice").position_mode is PositionMode.HEDGE
    leg = draw(st.sampled_from([PositionSide.LONG, PositionSide.SHORT])) if hedge else PositionSide.NET
    quantity = draw(quantities(symbol) | quantities(symbol).map(lambda lots: lots / 3))
    return c.Order(symbol, draw(sides), quantity, draw(st.none() | prices(symbol)), draw(st.booleans()), leg)
