"""What must hold for every history of a live account: replay equals live, exits pass, nothing unknown becomes zero."""

from datetime import timedelta
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, MarginMode, PositionSide, Side
from debt_mgmt.core.decide import decide
from debt_mgmt.core.venue import VenueBalance, VenueFill, VenueHealth, VenueOrder, VenuePosition, VenueState
from tests.support.desk import reasons
from tests.support.live_desk import BTC, COIN, ETH, LiveDesk, balance, ready

D = Decimal
SYMBOLS = (BTC, ETH, COIN)
CODEC = msgspec.json.Decoder(Account)

cents = st.integers(1, 2_000_000).map(lambda number: D(number) / 100)
maybe = st.one_of(st.none(), cents)
contracts = st.integers(1, 500).map(lambda number: D(number) / 100)
signed = st.tuples(contracts, st.sampled_from((1, -1))).map(lambda pair: pair[0] * pair[1])


@st.composite
def venue_positions(draw: st.DrawFn, symbol: str, entry: bool | None = None) -> VenuePosition:
    mode = draw(st.one_of(st.none(), st.sampled_from(MarginMode)))
    has_entry = draw(st.booleans()) if entry is None else entry
    return VenuePosition(
        symbol,
        draw(st.sampled_from(PositionSide)),
        draw(signed),
        entry_price=draw(st.integers(1_000, 90_000)) * D(1) if has_entry else None,
        mark_price=draw(st.one_of(st.none(), st.integers(1_000, 90_000).map(D))),
        leverage=draw(st.one_of(st.none(), st.integers(0, 20).map(D))),
        margin_mode=mode,
        isolated_margin=draw(maybe),
        liquidation_price=draw(maybe),
        liquidation_price_is_venues=draw(st.booleans()),
        unrealized_pnl=draw(st.one_of(st.none(), cents)),
        initial_margin=draw(maybe),
        maintenance_margin=draw(maybe),
    )


@st.composite
def states(draw: st.DrawFn, entry: bool | None = None) -> VenueState:
    """Whatever a venue may say; `at` is set when it is recorded."""
    symbols = draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3))
    orders = tuple(
        VenueOrder(
            name,
            draw(st.sampled_from(SYMBOLS)),
            draw(st.sampled_from(Side)),
            draw(contracts),
            client_order_id=draw(st.sampled_from(("", f"mine-{name}"))),
            price=draw(st.one_of(st.none(), st.integers(1_000, 90_000).map(D))),
            reduce_only=draw(st.booleans()),
        )
        for name in names
    )
    fills = tuple(
        VenueFill(f"trade-{name}", name, BTC, Side.BUY, draw(contracts), D(50_000), LiveDesk().now)
        for name in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=2))
    )
    return VenueState(
        at=LiveDesk().now,
        balances=tuple(
            VenueBalance(asset, draw(cents), debt=draw(maybe), interest=None)
            for asset in draw(st.lists(st.sampled_from(("USDT", "BTC")), unique=True))
        ),
        positions=tuple(draw(venue_positions(symbol, entry)) for symbol in symbols),
        orders=orders,
        health=VenueHealth("USDT", draw(maybe), draw(maybe), draw(maybe), draw(maybe)),
        leverage=draw(st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 10).map(D))),
        margin_modes=draw(st.dictionaries(st.sampled_from(SYMBOLS), st.sampled_from(MarginMode))),
        hedge=draw(st.sampled_from((None, False, True))),
        fills=fills,
    )


def step(desk: LiveDesk, data: st.DataObject) -> None:
    """One thing that may happen to a live account."""
    draw = data.draw
    desk.pass_quietly(timedelta(seconds=draw(st.integers(0, 40))))
    account = desk.account()
    what = draw(
        st.sampled_from(
            (
                "sync",
                "sync",
                "sync",
                "lose",
                "fill",
                "fill",
                "mark",
                "change",
                "answer",
                "cancel",
                "dry",
                "reserve",
                "close",
                "look",
            )
        )
    )
    symbol = draw(st.sampled_from(SYMBOLS))
    if what == "sync":
        state = msgspec.structs.replace(draw(states()), at=desk.now - timedelta(seconds=draw(st.integers(0, 20))))
        desk.do("alice", c.RecordSync(state))
    elif what == "lose":
        desk.do("alice", c.LoseSync(draw(st.sampled_from(("timeout", "bad gateway")))))
    elif what == "fill":
        desk.reported(
            draw(st.sampled_from(("buy", "sell"))),
            str(draw(contracts)),
            50_000,
            symbol=symbol,
            order_id=draw(st.sampled_from(("", "a", "mine-a", "b"))),
            filled_ago=draw(st.one_of(st.none(), st.integers(0, 30).map(lambda number: timedelta(seconds=number)))),
        )
    elif what == "mark":
        desk.mark(symbol, draw(st.integers(1_000, 90_000)))
    elif what == "change":
        desk.do(
            "alice",
            draw(
                st.sampled_from(
                    (
                        c.SetLeverage(symbol, D(2)),
                        c.SetLeverage(symbol, D(5)),
                        c.SetMarginMode(symbol, MarginMode.ISOLATED),
                        c.AdjustIsolatedMargin(symbol, PositionSide.NET, D(10)),
                        c.AdjustIsolatedMargin(symbol, PositionSide.NET, D(-10)),
                    )
                )
            ),
        )
    elif what == "answer" and account.pending:
        change = next(iter(account.pending.values()))
        value = draw(st.sampled_from((None, D(2), D(3))))
        desk.do("alice", c.RecordVenueOutcome(change.change_id, draw(st.booleans()), value, None, "1", "no"))
    elif what == "cancel" and account.cancels:
        desk.do("alice", c.RecordCancelOutcome(next(iter(account.cancels)), draw(st.booleans()), "busy"))
    elif what == "dry":
        desk.do("alice", c.SetDryRun(draw(st.booleans())))
    elif what == "reserve":
        asked = c.Order(symbol, draw(st.sampled_from(Side)), draw(contracts), D(50_000))
        desk.do("alice", c.ReserveMargin(asked, client_order_id="mine-a"))
    elif what == "close" and account.positions:
        held = next(iter(account.positions.values()))
        desk.do("alice", c.ClosePosition(held.symbol, held.side))
    elif what == "look":
        desk.do("alice", c.Assess())


def lived(data: st.DataObject) -> LiveDesk:
    desk = ready(balance("USDT", 10_000))
    for _ in range(data.draw(st.integers(1, 12))):
        step(desk, data)
    return desk


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_replay_equals_live(data: st.DataObject) -> None:
    desk = lived(data)
    assert desk.replayed("alice") == desk.account()
    assert CODEC.decode(msgspec.json.encode(desk.account())) == desk.account()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_deciding_changes_nothing_and_decides_alike(data: st.DataObject) -> None:
    desk = lived(data)
    before = msgspec.json.encode(desk.account())
    state = msgspec.structs.replace(data.draw(states()), at=desk.now)
    for command in (c.RecordSync(state), c.LoseSync("x"), c.Assess()):
        world = desk.world("alice")
        assert decide(desk.account(), command, world) == decide(desk.account(), command, world)
    assert msgspec.json.encode(desk.account()) == before


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_an_exit_passes_after_any_history(data: st.DataObject) -> None:
    desk = lived(data)
    for held in desk.account().positions.values():
        side = "sell" if held.quantity > 0 else "buy"
        for quantity in (abs(held.quantity), abs(held.quantity) / 2):
            result = desk.check("alice", side, quantity, held.symbol, leg=held.side.value)
            assert result.fits and result.reducing


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_sync_says_the_same_thing_once(data: st.DataObject) -> None:
    """The same state again brings no difference, whatever the account was before."""
    desk = lived(data)
    desk.pass_quietly(timedelta(seconds=1))
    first = msgspec.structs.replace(data.draw(states()), at=desk.now)
    events = desk.do("alice", c.RecordSync(first))
    if not events or not isinstance(events[0], e.AccountSynced):
        return
    desk.pass_quietly(timedelta(seconds=1))
    again = msgspec.structs.replace(first, at=desk.now)
    event = desk.do("alice", c.RecordSync(again))[0]
    assert isinstance(event, e.AccountSynced)
    assert (event.balances, event.debts, event.positions, event.vanished, event.changes) == ({}, (), (), (), ())
    assert (event.leverage, event.margin_modes, event.seen, event.released) == ({}, {}, {}, ())


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_after_a_sync_the_account_is_what_the_venue_says(data: st.DataObject) -> None:
    """Quantities, totals and every number given; what was not given is never zero, or nothing is taken over."""
    desk = lived(data)
    desk.pass_quietly(timedelta(seconds=1))
    state = msgspec.structs.replace(data.draw(states()), at=desk.now)
    before = desk.account()
    events = desk.do("alice", c.RecordSync(state))
    account = desk.account()
    if not events or isinstance(events[0], e.SyncLost):
        assert (account.positions, account.balances, account.debts) == (
            before.positions,
            before.balances,
            before.debts,
        )
        assert account.sync is not None and account.sync.status == "LOST"
        return
    assert account.balances == {one.asset: one.total for one in state.balances}
    assert {one.symbol: one.quantity for one in account.positions.values()} == {
        one.symbol: one.quantity for one in state.positions
    }
    told = {one.symbol: one for one in state.positions}
    for position in account.positions.values():
        theirs = told[position.symbol]
        assert position.entry_price > 0 and position.leverage > 0
        if theirs.entry_price is not None:
            assert position.entry_price == theirs.entry_price
        pending = account.pending.get(position.symbol)
        if theirs.leverage and pending is None:
            assert position.leverage == theirs.leverage
        if position.margin_mode is MarginMode.ISOLATED and pending is None:
            assert position.isolated_margin > 0
    for one in state.balances:
        debt = account.debts.get(one.asset)
        if one.debt is not None:
            assert debt is not None and debt.principal == one.debt
        elif one.asset in before.debts:
            assert debt == before.debts[one.asset]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_change_asked_of_the_venue_never_makes_room_before_it_is_confirmed(data: st.DataObject) -> None:
    """Margin used while a leverage is pending is that of the lower one: before or as confirmed, the larger."""
    desk = ready(balance("USDT", 1_000_000))
    state = msgspec.structs.replace(data.draw(states(entry=True)), at=desk.now, fills=(), hedge=False)
    money = (balance("USDT", 1_000_000),)
    desk.do("alice", c.RecordSync(msgspec.structs.replace(state, balances=money)))
    symbol = data.draw(st.sampled_from(SYMBOLS))
    before = desk.summary()
    asked = D(data.draw(st.integers(1, 5)))
    if reasons(desk.do("alice", c.SetLeverage(symbol, asked))):
        return
    meanwhile = desk.summary()
    assert meanwhile.used >= before.used
    assert meanwhile.equity <= before.equity
    change = desk.account().pending[symbol]

    desk.do("alice", c.RecordVenueOutcome(change.change_id, True, asked))
    assert meanwhile.used >= desk.summary().used


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_each_contract_of_an_order_counts_once(data: st.DataObject) -> None:
    """An order fills in parts; engine and venue tell of them at any pace; after the last word both agree on the sum."""
    desk = ready(balance("USDT", 1_000_000))
    parts = data.draw(st.lists(contracts, min_size=1, max_size=6))
    paces = data.draw(st.lists(st.sampled_from(("fills", "engine", "venue")), max_size=20))
    done = told_here = told_there = 0
    for what in [*paces, *["fills"] * len(parts), "venue", *["engine"] * len(parts)]:
        desk.pass_quietly(timedelta(seconds=1))
        if what == "fills":
            done = min(done + 1, len(parts))
        elif what == "engine" and told_here < done:
            desk.reported("buy", str(parts[told_here]), 50_000, order_id="A")
            told_here += 1
        elif what == "venue":
            told_there = done
            filled = sum(parts[:done], D(0))
            position = (VenuePosition(BTC, PositionSide.NET, filled, D(50_000), leverage=D(5)),) if filled else ()
            fills = (VenueFill("t", "A", BTC, Side.BUY, filled, D(50_000), desk.now),) if filled else ()
            desk.do("alice", c.RecordSync(desk.state(balance("USDT", 1_000_000), *position, *fills)))
        held = desk.account().positions.get(BTC)
        known = held.quantity if held is not None else D(0)
        assert known == max(sum(parts[:told_here], D(0)), sum(parts[:told_there], D(0)))
    assert (told_here, told_there) == (len(parts), len(parts))
