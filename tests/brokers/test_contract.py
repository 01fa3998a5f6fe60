"""One contract for every broker: what an account holds, what is set, and what is closed, at six simulated venues."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core.account import MarginMode, PositionSide, Side
from debt_mgmt.core.instrument import InstrumentKind, instrument_problems
from debt_mgmt.server.brokers.broker import BrokerFill, NotPossible, Rejected, RejectionReason, StillOpen
from debt_mgmt.server.brokers.profiles import Feature, LeveragePath, MarginModePath, ReducePath
from tests.support.broker_bench import VENUES, Bench, Venue, bench_of
from tests.support.venues.records import Leg

D = Decimal
ALL = list(VENUES.values())


def those(feature: Feature, *, without: bool = False) -> list[Venue]:
    return [venue for venue in ALL if venue.profile.can(feature) is not without]


def named(venue: Venue) -> str:
    return venue.broker


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench_of(request.param) as found:
        yield found


every = pytest.mark.parametrize("bench", ALL, indirect=True, ids=named)
inverse = pytest.mark.parametrize("bench", [one for one in ALL if one.inverse], indirect=True, ids=named)
hedging = pytest.mark.parametrize("bench", those(Feature.HEDGE_MODE), indirect=True, ids=named)
borrowing = pytest.mark.parametrize("bench", those(Feature.BORROW), indirect=True, ids=named)


def able(feature: Feature) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", those(feature), indirect=True, ids=named)


def unable(feature: Feature) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", those(feature, without=True), indirect=True, ids=named)


# What the account holds.


@every
async def test_a_balance_is_what_was_deposited_to_the_last_digit(bench: Bench) -> None:
    bench.venue.book.deposit(bench.about.cash, D("0.000000000001"))
    state = await bench.broker.state()
    (balance,) = state.balances
    assert (balance.asset, balance.total) == (bench.about.cash, D("100000.000000000001"))
    assert state.health.equity == D("100000.000000000001")
    assert not state.positions
    assert not state.orders


@every
@pytest.mark.parametrize("sign", [1, -1])
async def test_a_position_has_the_sign_and_the_contracts_of_the_venue(bench: Bench, sign: int) -> None:
    bench.hold(bench.about.size * sign)
    state = await bench.broker.state()
    (position,) = state.positions
    assert (position.symbol, position.quantity) == (bench.symbol, bench.about.size * sign)
    assert position.side is PositionSide.NET
    assert position.entry_price == bench.venue.book.mark(bench.about.linear[1])
    (instrument,) = await bench.broker.instruments()
    assert instrument.symbol == bench.symbol
    assert state.health.initial_margin is not None
    assert state.health.initial_margin > 0


@every
async def test_profit_is_the_venues_own(bench: Bench) -> None:
    bench.hold(-bench.about.size)
    mark = bench.venue.book.mark(bench.about.linear[1])
    bench.venue.set_mark(bench.about.linear[1], mark - 500)
    state = await bench.broker.state()
    (position,) = state.positions
    (instrument,) = await bench.broker.instruments()
    assert position.unrealized_pnl == bench.about.size * instrument.contract_size * 500
    assert state.health.equity == 100_000 + position.unrealized_pnl


@inverse
async def test_an_inverse_position_is_counted_in_contracts_and_settled_in_coin(bench: Bench) -> None:
    assert bench.about.inverse is not None
    symbol, there = bench.about.inverse
    bench.venue.book.deposit("BTC", D(2))
    bench.hold(D(-100), there)
    state = await bench.broker.state()
    (position,) = state.positions
    assert (position.symbol, position.quantity) == (symbol, D(-100))
    (instrument,) = await bench.broker.instruments()
    assert instrument.kind is InstrumentKind.INVERSE
    assert (instrument.settle, instrument.contract_size) == ("BTC", bench.venue.book.listings[there].contract_size)
    assert instrument_problems(instrument) == []


@hedging
async def test_both_legs_of_a_hedge_are_seen_and_closed_apart(bench: Bench) -> None:
    size = bench.about.size
    bench.venue.book.set_hedge(True)
    bench.hold(size, leg=Leg.LONG)
    bench.hold(-size / 2, leg=Leg.SHORT)
    state = await bench.broker.state()
    assert {one.side: one.quantity for one in state.positions} == {
        PositionSide.LONG: size,
        PositionSide.SHORT: -size / 2,
    }
    assert state.hedge is True
    fill = await bench.broker.place(bench.order(size / 2, Side.BUY, position_side=PositionSide.SHORT))
    assert fill.quantity == size / 2
    (left,) = (await bench.broker.state()).positions
    assert (left.side, left.quantity) == (PositionSide.LONG, size)


@every
async def test_open_orders_are_seen_with_what_is_left_of_them(bench: Bench) -> None:
    bench.hold(bench.about.size)
    price = (bench.venue.book.mark(bench.about.linear[1]) * D("1.2")).quantize(D(10))
    leverage = D(2) if bench.about.broker == "kraken" else None
    bench.venue.book.place(bench.about.linear[1], False, bench.about.size, price=price, leverage=leverage)
    (order,) = (await bench.broker.state()).orders
    assert (order.symbol, order.side, order.quantity, order.price) == (
        bench.symbol,
        Side.SELL,
        bench.about.size,
        price,
    )


@every
async def test_a_position_that_was_closed_by_hand_is_gone(bench: Bench) -> None:
    bench.hold(bench.about.size)
    assert (await bench.broker.state()).positions
    bench.venue.book.close_by_hand(bench.about.linear[1])
    assert (await bench.broker.state()).positions == ()


@every
async def test_own_trades_are_read_with_the_journals_ids_where_the_venue_tells_ours(bench: Bench) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    bench.hold(bench.about.size)
    placed = await bench.broker.place(bench.order(bench.about.size))
    (fill,) = (await bench.broker.state(before)).fills
    assert (fill.symbol, fill.side, fill.quantity) == (bench.symbol, Side.SELL, placed.quantity)
    assert fill.client_order_id in ("liq-1-7-1", "")
    assert fill.fee == placed.fee


@every
async def test_terms_and_tiers_hold_the_houses_rules(bench: Bench) -> None:
    (instrument,) = await bench.broker.instruments([bench.symbol])
    listing = bench.venue.book.listings[bench.about.linear[1]]
    assert instrument_problems(instrument) == []
    assert (instrument.lot, instrument.tick) == (listing.lot, listing.tick)
    assert instrument.contract_size == listing.contract_size
    with pytest.raises(Rejected) as refused:
        await bench.broker.instruments([f"{bench.about.broker}:NOSUCH"])
    assert refused.value.reason is RejectionReason.INVALID


# Leverage and margin.


@able(Feature.SET_LEVERAGE)
async def test_leverage_is_set_and_read_back_and_set_again_without_an_error(bench: Bench) -> None:
    assert await bench.broker.set_leverage(bench.symbol, D(3)) == 3
    assert await bench.broker.set_leverage(bench.symbol, D(3)) == 3
    assert await bench.broker.set_leverage(bench.symbol, D(2)) == 2


@able(Feature.SET_LEVERAGE)
async def test_leverage_above_what_the_venue_allows_is_refused_in_its_words(bench: Bench) -> None:
    highest = bench.venue.book.listings[bench.about.linear[1]].tiers[0].leverage_max
    with pytest.raises(Rejected) as refused:
        await bench.broker.set_leverage(bench.symbol, highest + 20)
    assert refused.value.reason is RejectionReason.INVALID
    assert refused.value.words


@able(Feature.SET_LEVERAGE)
async def test_leverage_off_the_venues_step_never_leaves(bench: Bench) -> None:
    before = len(bench.venue.requests)
    with pytest.raises(Rejected) as refused:
        await bench.broker.set_leverage(bench.symbol, D("2.505"))
    assert refused.value.reason is RejectionReason.INVALID
    assert len(bench.venue.requests) == before


@able(Feature.SET_LEVERAGE)
async def test_lower_leverage_than_an_open_position_can_be_carried_with_is_refused(bench: Bench) -> None:
    if bench.about.profile.leverage_path is not LeveragePath.ENDPOINT:
        assert await bench.broker.set_leverage(bench.symbol, D(2)) == 2, "nothing is stored with the position"
        return
    price = bench.venue.book.mark(bench.about.linear[1])
    (instrument,) = await bench.broker.instruments([bench.symbol])
    await bench.broker.set_leverage(bench.symbol, D(5))
    affordable = D(300_000) / price / instrument.contract_size // instrument.lot * instrument.lot
    bench.hold(affordable)
    (before,) = (await bench.broker.state()).positions
    with pytest.raises(Rejected) as refused:
        await bench.broker.set_leverage(bench.symbol, D(1))
    assert refused.value.reason in (RejectionReason.PRECONDITION, RejectionReason.INSUFFICIENT_FUNDS)
    assert refused.value.code
    assert (await bench.broker.state()).positions[0].leverage == before.leverage


@unable(Feature.SET_LEVERAGE)
async def test_a_venue_without_leverage_says_so_and_is_not_asked(bench: Bench) -> None:
    before = len(bench.venue.requests)
    with pytest.raises(NotPossible, match="leverage"):
        await bench.broker.set_leverage(bench.symbol, D(2))
    assert len(bench.venue.requests) == before


@able(Feature.SET_MARGIN_MODE)
async def test_the_margin_mode_is_set_and_read_back(bench: Bench) -> None:
    assert await bench.broker.set_margin_mode(bench.symbol, MarginMode.ISOLATED, D(3)) is MarginMode.ISOLATED
    assert await bench.broker.set_margin_mode(bench.symbol, MarginMode.ISOLATED, D(3)) is MarginMode.ISOLATED
    assert await bench.broker.set_margin_mode(bench.symbol, MarginMode.CROSS, D(3)) is MarginMode.CROSS


@able(Feature.SET_MARGIN_MODE)
async def test_the_margin_mode_of_an_open_position_stays(bench: Bench) -> None:
    bench.hold(bench.about.size)
    with pytest.raises(Rejected) as refused:
        await bench.broker.set_margin_mode(bench.symbol, MarginMode.ISOLATED, D(3))
    assert refused.value.reason is RejectionReason.PRECONDITION
    (position,) = (await bench.broker.state()).positions
    assert position.margin_mode is MarginMode.CROSS


@unable(Feature.SET_MARGIN_MODE)
async def test_a_venue_without_margin_modes_says_so(bench: Bench) -> None:
    with pytest.raises(NotPossible):
        await bench.broker.set_margin_mode(bench.symbol, MarginMode.ISOLATED, D(2))


@able(Feature.ADJUST_ISOLATED_MARGIN)
async def test_posted_margin_moves_by_the_exact_amount(bench: Bench) -> None:
    isolate(bench)
    bench.hold(bench.about.size)
    (before,) = (await bench.broker.state()).positions
    await bench.broker.adjust_isolated_margin(bench.symbol, PositionSide.NET, D("123.4567"))
    (after,) = (await bench.broker.state()).positions
    assert before.isolated_margin is not None
    assert after.isolated_margin == before.isolated_margin + D("123.4567")
    await bench.broker.adjust_isolated_margin(bench.symbol, PositionSide.NET, D("-23.4567"))
    (last,) = (await bench.broker.state()).positions
    assert last.isolated_margin == before.isolated_margin + 100
    assert last.margin_mode is MarginMode.ISOLATED


def isolate(bench: Bench) -> None:
    """The account, or the symbol, is in isolated mode at the venue."""
    from tests.support.venues.records import Mode

    if bench.about.profile.margin_mode_path is MarginModePath.ACCOUNT:
        bench.venue.book.mode_default = Mode.ISOLATED
    else:
        bench.venue.book.modes[bench.about.linear[1]] = Mode.ISOLATED


@unable(Feature.ADJUST_ISOLATED_MARGIN)
async def test_a_venue_without_isolated_margin_says_so(bench: Bench) -> None:
    with pytest.raises(NotPossible):
        await bench.broker.adjust_isolated_margin(bench.symbol, PositionSide.NET, D(10))


# Loans.


@borrowing
async def test_what_is_borrowed_stands_in_the_balance_and_in_the_debt(bench: Bench) -> None:
    await bench.broker.borrow(bench.about.cash, D("250.50"))
    found = (await bench.broker.loans()) or (await bench.broker.state()).balances
    assert [(one.asset, one.debt) for one in found] == [(bench.about.cash, D("250.50"))]
    held = found[0].total
    await bench.broker.repay(bench.about.cash, D("50.50"))
    found = (await bench.broker.loans()) or (await bench.broker.state()).balances
    assert (found[0].debt, found[0].total) == (D(200), held - D("50.50"))


@unable(Feature.BORROW)
async def test_a_venue_that_does_not_lend_says_so(bench: Bench) -> None:
    with pytest.raises(NotPossible):
        await bench.broker.borrow(bench.about.cash, D(1))
    with pytest.raises(NotPossible):
        await bench.broker.repay(bench.about.cash, D(1))


# Orders.


@every
async def test_a_reducing_order_is_filled_once_however_often_it_is_asked_for(bench: Bench) -> None:
    size = bench.about.size
    bench.hold(size)
    order = bench.order(size * D("0.4"))
    assert await bench.broker.find(order.client_order_id, order.symbol) is None
    fill = await bench.broker.place(order)
    assert fill.quantity == size * D("0.4")
    assert fill.price == bench.venue.book.mark(bench.about.linear[1])
    assert fill.fee > 0
    assert fill.fee_asset == bench.about.cash
    assert await bench.broker.find(order.client_order_id, order.symbol) == fill
    assert await bench.broker.place(order) == fill
    (position,) = (await bench.broker.state()).positions
    assert position.quantity == size * D("0.6")


@every
async def test_a_short_is_closed_by_buying(bench: Bench) -> None:
    bench.hold(-bench.about.size)
    await bench.broker.place(bench.order(bench.about.size, Side.BUY))
    assert (await bench.broker.state()).positions == ()


@every
async def test_an_order_for_more_than_is_held_closes_and_never_turns(bench: Bench) -> None:
    bench.hold(bench.about.size)
    fill = await bench.broker.place(bench.order(bench.about.size * 3))
    assert fill.quantity == bench.about.size
    assert (await bench.broker.state()).positions == ()
    if bench.about.profile.reduce_path is not ReducePath.REDUCE_ONLY:
        (asked,) = bench.venue.asked(bench.about.orders_path + "$")
        told = asked.body.get("params", asked.body)
        sent = told.get("quantity", told.get("size"))
        assert D(sent) == bench.about.size, "no more is asked for than the venue showed"


@every
async def test_where_nothing_is_held_nothing_is_opened(bench: Bench) -> None:
    with pytest.raises(Rejected) as refused:
        await bench.broker.place(bench.order(bench.about.size))
    assert refused.value.reason is RejectionReason.NOTHING_TO_REDUCE
    assert (await bench.broker.state()).positions == ()


@every
async def test_an_order_in_the_direction_of_the_position_is_refused(bench: Bench) -> None:
    bench.hold(bench.about.size)
    with pytest.raises(Rejected) as refused:
        await bench.broker.place(bench.order(bench.about.size, Side.BUY))
    assert refused.value.reason is RejectionReason.NOTHING_TO_REDUCE
    (position,) = (await bench.broker.state()).positions
    assert position.quantity == bench.about.size


@every
async def test_a_quantity_is_rounded_down_to_the_lot_by_us(bench: Bench) -> None:
    lot = bench.venue.book.listings[bench.about.linear[1]].lot
    bench.hold(bench.about.size)
    fifth = bench.about.size / 5
    fill = await bench.broker.place(bench.order(fifth + lot * D("0.99")))
    assert fill.quantity == fifth
    with pytest.raises(Rejected, match="less than the lot"):
        await bench.broker.place(bench.order(lot / 2, client_order_id="liq-1-7-2"))
    assert bench.orders_asked() == 1


@every
async def test_an_order_that_the_market_fills_in_part_is_told_in_part(bench: Bench) -> None:
    bench.hold(bench.about.size)
    bench.venue.book.liquidity = bench.about.size / 5
    fill = await bench.broker.place(bench.order(bench.about.size))
    assert fill.quantity == bench.about.size / 5


@every
async def test_an_order_that_stays_open_is_doubtful_until_it_is_filled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from debt_mgmt.server.brokers import ccxt_orders
    from debt_mgmt.server.brokers.broker import Ambiguous

    monkeypatch.setattr(ccxt_orders, "LOOKS", (0.0, 0.01))
    bench.hold(bench.about.size)
    bench.venue.book.holding = True
    order = bench.order(bench.about.size)
    with pytest.raises(Ambiguous):
        await bench.broker.place(order)
    assert await bench.broker.find(order.client_order_id, order.symbol) == StillOpen()
    bench.venue.book.holding = False
    bench.venue.book.fill_held()
    found = await bench.broker.find(order.client_order_id, order.symbol)
    assert isinstance(found, BrokerFill)
    assert found.quantity == bench.about.size
    assert bench.orders_asked() == 1


@every
async def test_orders_are_cancelled_one_by_one_and_all_at_once(bench: Bench) -> None:
    leverage = D(2) if bench.about.broker == "kraken" else None
    mark = bench.venue.book.mark(bench.about.linear[1])
    for step in (1, 2, 3):
        price = (mark * D("0.5")).quantize(D(10)) + step * 10
        lot = bench.venue.book.listings[bench.about.linear[1]].lot
        quantity = bench.about.size / 5 // lot * lot
        bench.venue.book.place(bench.about.linear[1], True, quantity, price=price, leverage=leverage)
    orders = (await bench.broker.state()).orders
    assert len(orders) == 3
    assert await bench.broker.cancel(bench.symbol, orders[0].order_id) is True
    assert await bench.broker.cancel(bench.symbol, orders[0].order_id) is False
    assert await bench.broker.cancel_all() == 2
    assert (await bench.broker.state()).orders == ()
    assert await bench.broker.cancel_all() == 0


@every
async def test_only_reducing_orders_of_live_accounts_leave(bench: Bench) -> None:
    import msgspec

    from debt_mgmt.core.account import Environment

    bench.hold(bench.about.size)
    before = len(bench.venue.requests)
    for changed in ({"reduce_only": False}, {"environment": Environment.TESTNET}, {"environment": Environment.SANDBOX}):
        with pytest.raises(Rejected):
            await bench.broker.place(msgspec.structs.replace(bench.order(bench.about.size), **changed))
    assert len(bench.venue.requests) == before


# Prices and pushes.


@every
async def test_marks_by_rest_are_said_to_be_what_they_are(bench: Bench) -> None:
    (mark,) = await bench.feed.marks([bench.symbol])
    assert (mark.symbol, mark.price) == (bench.symbol, bench.venue.book.mark(bench.about.linear[1]))
    assert mark.is_mark_price is bench.about.profile.can(Feature.MARK_PRICE)


@every
async def test_marks_are_pushed_as_they_move(bench: Bench) -> None:
    there = bench.about.linear[1]
    moved = bench.venue.book.mark(there) + 50
    async with aclosing(bench.feed.watch([bench.symbol])) as pushed:
        first = await asyncio.wait_for(anext(pushed), 10)
        assert first.symbol == bench.symbol
        bench.venue.set_mark(there, moved)
        async with asyncio.timeout(10):
            async for mark in pushed:
                if mark.price == moved:
                    assert mark.is_mark_price is bench.about.profile.can(Feature.MARK_PRICE)
                    return


@able(Feature.ACCOUNT_STREAM)
async def test_a_change_of_the_account_is_pushed(bench: Bench) -> None:
    async with aclosing(bench.broker.changes()) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        while not any(socket.topics or "listenKey" in socket.query for socket in bench.venue.sockets):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        bench.hold(bench.about.size)
        await asyncio.wait_for(waiting, 10)
    assert (await bench.broker.state()).positions


@unable(Feature.ACCOUNT_STREAM)
async def test_a_venue_that_pushes_nothing_says_so(bench: Bench) -> None:
    with pytest.raises(NotPossible):
        await anext(bench.broker.changes())
