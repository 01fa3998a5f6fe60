"""What must hold for any tree of limits: exits pass, checks are what reservations do, no sum is passed."""

from decimal import Decimal
from itertools import permutations

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import PositionMode, PositionSide, Side
from debt_mgmt.core.check import check, check_brief
from debt_mgmt.core.decide import decide
from debt_mgmt.core.limit_sets import LimitMode, LimitSet, NodeLimits
from debt_mgmt.core.scope import Scope
from tests.support.desk import Desk
from tests.support.others import Others, of_node, quantities
from tests.support.strategies import INSTRUMENTS, SYMBOLS, desks, hazards, orders, prices

D = Decimal
STRATEGIES = ("", "trend", "carry")

scopes = st.builds(
    Scope,
    owner=st.sampled_from(["", "desk", "others"]),
    account_id=st.sampled_from(["", "", "alice", "bob"]),
    strategy=st.sampled_from(STRATEGIES),
    symbol=st.sampled_from(["", "", *SYMBOLS]),
)
amounts = st.none() | st.integers(0, 100).map(lambda part: D(part) * 1000)
limits = st.builds(
    NodeLimits,
    max_leverage=st.sampled_from([None, None, D(2), D(5)]),
    max_position_quantity=st.none() | st.integers(0, 4000).map(lambda part: D(part) / 1000),
    max_position_notional=amounts,
    max_exposure_notional=amounts,
    max_concurrent_positions=st.sampled_from([None, None, 0, 2, 5]),
    max_open_reservations=st.sampled_from([None, None, 0, 2, 8]),
    order_rate_count=st.sampled_from([None, None, 2, 8]),
    order_rate_interval_seconds=st.just(60),
)
limit_sets = st.builds(
    LimitSet,
    scopes,
    st.sampled_from(["", "weekend"]),
    st.sampled_from([LimitMode.ENFORCED, LimitMode.ENFORCED, LimitMode.SHADOW]),
    limits,
    currency=st.sampled_from(["USDT", "USD"]),
)
trees = st.lists(limit_sets, min_size=1, max_size=4)


@st.composite
def forests(draw: st.DrawFn) -> Desk:
    """A desk whose alice has a past, whose bob holds something, and whose nodes are limited."""
    desk = draw(desks(most=5))
    desk.open("bob", 1_000_000, owner=draw(st.sampled_from(["desk", "others"])))
    desk.fill("bob", draw(st.sampled_from(["buy", "sell"])), "0.5")
    desk.reserve("bob", "buy", 4, "ETHUSDT")
    account = desk.account()
    share = draw(st.sampled_from([D(0), D("0.25"), D(1), D(-1)]))
    parts = {key: one.quantity * share for key, one in account.positions.items() if share}
    reservations = {
        key: msgspec.structs.replace(one, strategy=draw(st.sampled_from(STRATEGIES)))
        for key, one in account.reservations.items()
    }
    desk.accounts["alice"] = msgspec.structs.replace(
        account, strategies={"trend": parts} if parts else {}, reservations=reservations
    )
    for one in draw(trees):
        desk.house_do(c.PutLimitSet(one))
    return desk


@st.composite
def asked(draw: st.DrawFn, desk: Desk) -> c.Order:
    return msgspec.structs.replace(draw(orders(desk)), strategy=draw(st.sampled_from(STRATEGIES)))


@given(st.data())
@settings(max_examples=100)
def test_a_reducing_order_passes_every_limit_of_every_node(data: st.DataObject) -> None:
    desk = data.draw(forests())
    assume(desk.account().positions)
    account = data.draw(hazards(desk))
    position = account.positions[data.draw(st.sampled_from(sorted(account.positions)))]
    side = Side.SELL if position.quantity > 0 else Side.BUY
    share = data.draw(st.sampled_from([D("0.37"), D(1)]))
    strategy = data.draw(st.sampled_from(STRATEGIES))
    order = c.Order(position.symbol, side, abs(position.quantity) * share, None, False, position.side, strategy)
    assert check(desk.view(), order, desk.now).fits
    assert check_brief(desk.view(), order, desk.now, hold=False).fits
    assert isinstance(decide(account, c.ReserveMargin(order), desk.world("alice"))[0], e.MarginReserved)


@given(st.data())
@settings(max_examples=150)
def test_a_check_a_reservation_and_a_brief_check_find_the_same(data: st.DataObject) -> None:
    desk = data.draw(forests())
    order = data.draw(asked(desk))
    result = check(desk.view(), order, desk.now)
    brief = check_brief(desk.view(), order, desk.now, hold=False)
    assert (brief.fits, brief.shadow_violations) == (result.fits, result.shadow_violations)
    (event, *_) = decide(desk.account(), c.ReserveMargin(order), desk.world("alice"))
    if result.fits:
        assert isinstance(event, e.MarginReserved)
        assert event.shadow == result.shadow_violations
        return
    assert isinstance(event, e.CommandRefused)
    assert event.violations == result.violations
    assert (event.largest_buy, event.largest_sell) == (result.largest_buy, result.largest_sell)
    assert brief.refused is not None
    assert brief.refused.violations == result.violations


@given(st.data())
@settings(max_examples=150)
def test_the_largest_quantity_passes_every_node_and_one_lot_more_fails(data: st.DataObject) -> None:
    desk = data.draw(forests())
    symbol, strategy = data.draw(st.sampled_from(SYMBOLS)), data.draw(st.sampled_from(STRATEGIES))
    lot, price = INSTRUMENTS[symbol].lot, data.draw(st.none() | prices(symbol))
    hedge = desk.account().position_mode is PositionMode.HEDGE
    leg = data.draw(st.sampled_from([PositionSide.LONG, PositionSide.SHORT])) if hedge else PositionSide.NET
    result = check(desk.view(), c.Order(symbol, Side.BUY, lot, price, False, leg, strategy), desk.now)
    for side, largest in ((Side.BUY, result.largest_buy), (Side.SELL, result.largest_sell)):
        assert largest is not None
        order = c.Order(symbol, side, largest, price, False, leg, strategy)
        if largest:
            assert check(desk.view(), order, desk.now).fits
        one_more = msgspec.structs.replace(order, quantity=largest + lot)
        assert not check(desk.view(), one_more, desk.now).fits


@given(st.data())
@settings(max_examples=60)
def test_nothing_depends_on_the_order_in_which_sets_were_put(data: st.DataObject) -> None:
    desk = data.draw(forests())
    order = data.draw(asked(desk))
    results = []
    for turned in list(permutations(desk.house.limit_sets.items()))[:6]:
        desk.house = msgspec.structs.replace(desk.house, limit_sets=dict(turned))
        results.append(msgspec.structs.asdict(check(desk.view(), order, desk.now)))
    assert all(one == results[0] for one in results)


@given(st.data())
@settings(max_examples=100)
def test_a_batch_passes_what_one_after_the_other_would_be_reserved(data: st.DataObject) -> None:
    desk = data.draw(forests())
    batch = desk.view().scratch()
    for one in data.draw(st.lists(asked(desk), min_size=1, max_size=4)):
        expected = check(desk.view(), one, desk.now)
        brief = check_brief(batch, one, desk.now, hold=True)
        assert brief.fits is expected.fits
        assert brief.shadow_violations == expected.shadow_violations
        if expected.fits:
            level = desk.account().level
            desk.do("alice", c.ReserveMargin(one))
            assume(desk.account().level is level)


@given(st.data())
@settings(max_examples=100)
def test_no_order_that_passes_leads_a_node_beyond_its_limit(data: st.DataObject) -> None:
    """Measured by adding up all accounts in the plainest way."""
    desk = data.draw(forests())
    order = data.draw(asked(desk))
    (event, *_) = desk.do("alice", c.ReserveMargin(order))
    assume(isinstance(event, e.MarginReserved) and not event.reservation.reduce_only)
    for one in desk.house.limit_sets.values():
        if not one.enforced or not one.scope.concerns("desk", "alice", order.strategy, order.symbol):
            continue
        mine = quantities(desk.account(), one.scope)
        before = Others(desk.accounts, desk.ordered, lambda: desk.world("alice")).of(one, desk.account(), desk.now)
        assert before is not None
        limit = one.limits.max_exposure_notional
        opens = mine.get(order.symbol, D(0))
        if limit is not None and opens:
            assert before.exposure is not None
            total = before.exposure + sum(value(desk, symbol) * held for symbol, held in mine.items())
            side = order.side.sign * sum(
                held for key, held in held_of(desk, one.scope).items() if key.split("|")[0] == order.symbol
            ) + sum(
                held.quantity
                for held in desk.account().reservations.values()
                if (held.symbol, held.side, held.reduce_only) == (order.symbol, order.side, False)
                and of_node(one.scope, held)
            )
            assert total <= limit or side <= 0
        if one.limits.max_concurrent_positions is not None:
            assert before.positions + len(mine) <= one.limits.max_concurrent_positions
        if one.limits.max_open_reservations is not None:
            own = sum(of_node(one.scope, held) for held in desk.account().reservations.values())
            assert before.reservations + own <= one.limits.max_open_reservations


def value(desk: Desk, symbol: str) -> Decimal:
    """Of one contract, in dollars."""
    return INSTRUMENTS[symbol].contract_size if INSTRUMENTS[symbol].inverse else desk.marks[symbol].price


def held_of(desk: Desk, scope: Scope) -> dict[str, Decimal]:
    if scope.strategy:
        return desk.account().strategies.get(scope.strategy, {})
    return {key: one.quantity for key, one in desk.account().positions.items()}
