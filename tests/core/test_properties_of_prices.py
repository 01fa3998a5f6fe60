"""What must hold at every price: longs mirror shorts, and positions end exactly where their liquidation price says."""

from decimal import Decimal
from itertools import pairwise

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from debt_mgmt.core.account import Environment, MarginMode, Position, PositionMode, PositionSide
from debt_mgmt.core.instrument import (
    Instrument,
    MarginBase,
    Tier,
    VenueRules,
    instrument_problems,
    maintenance_margin,
    notional,
    profit,
    tier_at,
)
from debt_mgmt.core.liquidation_price import ends_of
from debt_mgmt.core.margin import PositionFigures, Summary
from tests.support.desk import FREE, Desk
from tests.support.instruments import BITCOIN_TIERS, FLAT, STEPPED_TIERS, inverse, linear
from tests.support.strategies import LEVERAGES

D = Decimal

TABLES = (FLAT, BITCOIN_TIERS, STEPPED_TIERS)
RULES = (
    VenueRules(),
    VenueRules(fee_in_maintenance=True),
    VenueRules(initial_margin_base=MarginBase.ENTRY, maintenance_margin_base=MarginBase.ENTRY),
    VenueRules(fee_in_maintenance=True, fee_in_initial=True),
    VenueRules(isolated_margin_base=MarginBase.ENTRY, fee_in_maintenance=True),
)

decimals = st.integers(1, 10**7).map(lambda hundredths: D(hundredths) / 100)
lots = st.integers(1, 4000).map(lambda thousandths: D(thousandths) / 1000)


@st.composite
def venues(draw: st.DrawFn, symbol: str) -> Instrument:
    """An instrument under any of the rules that venues have."""
    make = inverse if symbol.endswith("USD") else linear
    return make(
        symbol, table=draw(st.sampled_from(TABLES)), rules=draw(st.sampled_from(RULES)), taker_fee_rate="0.0006"
    )


@st.composite
def holdings(draw: st.DrawFn, *, coin: bool = False) -> Desk:
    """An account with one to three instruments, in hedge mode perhaps with both legs, one-way or isolated."""
    hedge, isolated = draw(st.booleans()), draw(st.booleans())
    names = ["BTCUSD"] if coin else draw(st.sampled_from([["BTCUSDT"], ["BTCUSDT", "ETHUSDT"], ["XYZUSDT", "BTCUSDT"]]))
    desk = Desk(FREE, instruments=[draw(venues(name)) for name in names])
    currency = "BTC" if coin else "USDT"
    desk.open(
        "alice",
        draw(st.integers(1, 40)) if coin else draw(st.integers(1_000, 200_000)),
        currency=currency,
        position_mode=PositionMode.HEDGE if hedge else PositionMode.ONE_WAY,
        margin_mode=MarginMode.ISOLATED if isolated else MarginMode.CROSS,
        environment=Environment.SANDBOX,
    )
    for name in names:
        desk.mark(name, 50_000, assess=False)
        desk.leverage("alice", name, draw(st.sampled_from(LEVERAGES)))
        legs = draw(st.sampled_from([("LONG",), ("SHORT",), ("LONG", "SHORT")])) if hedge else ("NET",)
        for leg in legs:
            side = {"LONG": "buy", "SHORT": "sell"}.get(leg) or draw(st.sampled_from(["buy", "sell"]))
            quantity = D(draw(st.integers(1, 9_000))) if coin else draw(lots)
            desk.fill("alice", side, quantity, name, draw(st.integers(40_000, 60_000)), leg=leg)
    return desk


def at_price(desk: Desk, symbol: str, price: Decimal) -> Summary:
    desk.mark(symbol, price, assess=False)
    return desk.summary()


def needs_and_has(one: PositionFigures, summary: Summary) -> tuple[Decimal, Decimal]:
    """(maintenance margin, what stands behind it) in the account's currency."""
    if one.isolated:
        return one.maintenance_margin * one.rate, one.isolated_equity * one.rate
    return summary.maintenance, summary.equity


def of_key(summary: Summary, key: str) -> PositionFigures:
    return next(one for one in summary.positions if one.position.key == key)


@given(st.data(), st.booleans())
@settings(max_examples=300)
def test_at_the_liquidation_price_the_maintenance_ratio_is_one(data: st.DataObject, coin: bool) -> None:
    """There, or just crossing it where the requirement jumps at a tier's start; and nowhere on the way."""
    desk = data.draw(holdings(coin=coin))
    summary = desk.summary()
    key = data.draw(st.sampled_from(sorted(one.position.key for one in summary.positions)))
    one = of_key(summary, key)
    symbol, mark = one.position.symbol, one.mark.price
    liquidation, bankruptcy = ends_of(one, summary)
    needed, has = needs_and_has(one, summary)
    assume(needed < has)
    if liquidation is None:
        for factor in ("0.000001", "0.01", "0.3", "0.7", "1.5", "4", "1000"):
            there = at_price(desk, symbol, mark * D(factor))
            needed, has = needs_and_has(of_key(there, key), there)
            assert needed < has, f"liquidated at {factor} of the mark, but no price was given"
        return
    there = at_price(desk, symbol, liquidation)
    needed, has = needs_and_has(of_key(there, key), there)
    small = D("1e-20") * (abs(needed) + abs(has) + 1)
    if abs(needed - has) > small:
        assert needed > has
        inside = at_price(desk, symbol, liquidation + (mark - liquidation) * D("1e-15"))
        needed, has = needs_and_has(of_key(inside, key), inside)
        assert needed < has
        starts = {tier.notional_from for tier in one.instrument.tiers}
        legs = [each for each in there.positions if each.position.symbol == symbol]
        assert any(abs(each.notional - start) < D("1e-20") * start for each in legs for start in starts if start)
    for part in ("0.1", "0.5", "0.9", "0.999"):
        between = at_price(desk, symbol, mark + (liquidation - mark) * D(part))
        needed, has = needs_and_has(of_key(between, key), between)
        assert needed < has, f"liquidated {part} of the way to the price that was given"
    if bankruptcy is not None:
        there = at_price(desk, symbol, bankruptcy)
        _, has = needs_and_has(of_key(there, key), there)
        assert abs(has) <= D("1e-20") * (abs(there.wallet_value) + 1)


@given(st.integers(1, 9_000), st.integers(1, 40), st.integers(30_000, 70_000), st.booleans())
@settings(max_examples=60)
def test_coin_margined_contracts_end_where_the_coins_in_dollars_do(
    contracts: int, coins: int, entry: int, short: bool
) -> None:
    """The same account valued in dollars by the contract's own mark: both sides of the ratio move with it."""
    ends = []
    for currency in ("BTC", "USD"):
        desk = Desk(FREE, instruments=[inverse("BTCUSD", table=STEPPED_TIERS)])
        desk.value("BTC", priced_by="BTCUSD")
        desk.mark("BTCUSD", 50_000, assess=False)
        desk.open("alice", coins, currency=currency, asset="BTC")
        desk.fill("alice", "sell" if short else "buy", contracts, "BTCUSD", entry)
        summary = desk.summary()
        needed, has = summary.maintenance, summary.equity
        assume(needed < has)
        ends.append(ends_of(summary.positions[0], summary))
    for in_coin, in_dollars in zip(*ends, strict=True):
        assert (in_coin is None) is (in_dollars is None)
        if in_coin is not None and in_dollars is not None:
            assert abs(in_coin - in_dollars) < D("1e-30") * in_coin


@given(st.lists(st.tuples(st.booleans(), lots, st.integers(80, 120)), min_size=1, max_size=6), st.integers(60, 140))
@settings(max_examples=150)
def test_long_and_short_mirror_each_other(fills: list[tuple[bool, Decimal, int]], mark: int) -> None:
    """Sides turned round and prices reflected at 100: the same profit, from the opposite quantity, at every step."""
    here, there = (Desk(FREE, instruments=[linear("ABCUSDT", lot="0.001")]) for _ in "xy")
    for desk in (here, there):
        desk.open("alice", 1_000_000)
        desk.mark("ABCUSDT", 100, assess=False)
    for buys, quantity, price in fills:
        here.fill("alice", "buy" if buys else "sell", quantity, "ABCUSDT", price)
        there.fill("alice", "sell" if buys else "buy", quantity, "ABCUSDT", 200 - price)
        one, other = here.position(symbol="ABCUSDT"), there.position(symbol="ABCUSDT")
        assert (one is None) is (other is None)
        if one is not None and other is not None:
            assert one.quantity == -other.quantity
            assert abs(one.entry_price - (200 - other.entry_price)) <= D("1e-17")
            assert one.realized_pnl - other.realized_pnl <= D("1e-9")
            assert here.summary().used == there.summary().used
            assert here.summary().maintenance == there.summary().maintenance
        for books in ("realized_pnl", "balances"):
            mine, theirs = getattr(here.account(), books), getattr(there.account(), books)
            assert abs(mine.get("USDT", 0) - theirs.get("USDT", 0)) <= D("1e-9")
    here.mark("ABCUSDT", mark, assess=False)
    there.mark("ABCUSDT", 200 - mark, assess=False)
    assert abs(here.summary().unrealized_pnl - there.summary().unrealized_pnl) <= D("1e-9")


@given(lots, decimals, decimals)
def test_one_contract_gains_what_the_other_side_loses(quantity: Decimal, entry: Decimal, price: Decimal) -> None:
    for instrument in (linear("ABCUSDT"), inverse("BTCUSD")):
        long, short = (profit(instrument, sign * quantity, entry, price) for sign in (1, -1))
        assert long == -short
        assert (long > 0) is (price > entry)
        assert profit(instrument, quantity, entry, entry) == 0


@given(decimals, lots)
def test_profit_is_the_change_of_notional(price: Decimal, quantity: Decimal) -> None:
    """Linear: it gains what its notional does. Inverse: it gains what its notional in coin falls by."""
    straight, turned = linear("ABCUSDT"), inverse("BTCUSD")
    entry = D(100)
    gained = notional(straight, quantity, price) - notional(straight, quantity, entry)
    assert profit(straight, quantity, entry, price) == gained
    fallen = notional(turned, quantity, entry) - notional(turned, quantity, price)
    assert abs(profit(turned, quantity, entry, price) - fallen) < D("1e-30")


@given(st.lists(decimals, min_size=2, max_size=2))
def test_maintenance_margin_never_falls_with_size(values: list[Decimal]) -> None:
    smaller, larger = sorted(value * 1000 for value in values)
    for table in TABLES:
        instrument = linear("ABCUSDT", table=table)
        assert maintenance_margin(instrument, smaller, D(1)) <= maintenance_margin(instrument, larger, D(1))


def test_a_tier_begins_at_its_lower_bound() -> None:
    """There a table with deductions is continuous, and one without jumps."""
    step = D("0.000001")
    for table in TABLES:
        instrument = linear("ABCUSDT", table=table)
        assert instrument_problems(instrument) == []
        for lower, tier in pairwise(table):
            start = tier.notional_from
            assert tier_at(instrument, start) is tier
            assert tier_at(instrument, start - step) is lower
            jump = maintenance_margin(instrument, start, D(1)) - maintenance_margin(instrument, start - step, D(1))
            assert jump <= step if tier.deduction else jump > start * D("0.001")


def test_a_position_ends_in_the_tier_that_holds_at_its_end() -> None:
    """A short of 10 holds 90,000 at 9,000; at 10,000 it enters the tier from 100,000, needing five times as much."""
    table = (Tier(D(0), D(100_000), D("0.01"), D(50)), Tier(D(100_000), None, D("0.05"), D(10)))
    instrument = linear("ABCUSDT", table=table)
    desk = Desk(FREE, instruments=[instrument])
    desk.open("alice", 40_000)
    desk.mark("ABCUSDT", 9_000)
    desk.fill("alice", "sell", 10, "ABCUSDT")
    rows = [
        (40_000, D(130_000) / D("10.5")),  # 40,000 + 90,000 = 10 p × 1.05
        (14_500, D(10_000)),  # between: the tier's start itself, where 5,000 are needed and 4,500 are there
        (10_500, D(100_500) / D("10.1")),  # 10,500 + 90,000 = 10 p × 1.01
    ]
    for balance, expected in rows:
        desk.accounts["alice"] = msgspec.structs.replace(desk.account(), balances={"USDT": D(balance)})
        summary = desk.summary()
        assert ends_of(summary.positions[0], summary)[0] == expected


def test_legs_of_one_instrument_end_together() -> None:
    """Long 3 and short 1 at 100 with 50 behind them: 50 + 2 (p − 100) = 4 p × 0.005."""
    desk = Desk(FREE, instruments=[linear("ABCUSDT")])
    desk.open("alice", 50, position_mode=PositionMode.HEDGE)
    desk.mark("ABCUSDT", 100, assess=False)
    desk.fill("alice", "buy", 3, "ABCUSDT", leg="LONG")
    desk.fill("alice", "sell", 1, "ABCUSDT", leg="SHORT")
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), balances={"USDT": D(50)})
    summary = desk.summary()
    for one in summary.positions:
        liquidation, bankruptcy = ends_of(one, summary)
        assert liquidation == D(150) / D("1.98")
        assert bankruptcy == D(75)


def test_what_can_not_end_has_no_price() -> None:
    """A long backed by its full value, and a short in coin backed by all it can lose."""
    desk = Desk(FREE, instruments=[linear("ABCUSDT"), inverse("BTCUSD")])
    desk.mark("ABCUSDT", 100)
    desk.mark("BTCUSD", 50_000)
    desk.open("alice", 1_000)
    desk.fill("alice", "buy", 5, "ABCUSDT")
    desk.open("bob", 1, currency="BTC")
    desk.fill("bob", "sell", 400, "BTCUSD")
    for name in ("alice", "bob"):
        summary = desk.summary(name)
        assert ends_of(summary.positions[0], summary) == (None, None)


def test_a_position_in_isolation_ends_on_its_posted_margin_alone() -> None:
    desk = Desk(FREE, instruments=[linear("ABCUSDT")])
    desk.open("alice", 100_000, margin_mode=MarginMode.ISOLATED)
    desk.mark("ABCUSDT", 100)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 10, "ABCUSDT")
    summary = desk.summary()
    position: Position = summary.positions[0].position
    assert position.isolated_margin == 200
    assert position.side is PositionSide.NET
    assert ends_of(summary.positions[0], summary) == (D(800) / D("9.95"), D(80))
