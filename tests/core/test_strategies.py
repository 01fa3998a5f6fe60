"""What of a position was traded by which strategy: beside a model of the rules, and through every event."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, PositionMode, PositionSide, Side, TimeInForce
from debt_mgmt.core.margin import mark_used
from debt_mgmt.core.strategies import Strategies, attributed
from tests.support.desk import FREE, Desk, order, reasons
from tests.support.live_desk import BTC, LiveDesk, balance, held, ready

D = Decimal

Trade = tuple[str, str]
"""(strategy, or nothing for a fill of none, and signed contracts)."""


def played(*trades: Trade, key: str = "BTCUSDT") -> tuple[Decimal, dict[str, str]]:
    """The position after the trades, and what each strategy holds of it."""
    strategies: Strategies = {}
    held = D(0)
    for strategy, change in trades:
        strategies = attributed(strategies, key, held, D(change), strategy)
        held += D(change)
    return held, {name: f"{parts[key]:f}" for name, parts in strategies.items()}


@pytest.mark.parametrize(
    ("trades", "held", "parts"),
    [
        ([("momo", "3"), ("momo", "2")], "5", {"momo": "5"}),
        ([("momo", "3"), ("", "2")], "5", {"momo": "3"}),
        ([("momo", "6"), ("carry", "2"), ("", "-4")], "4", {"momo": "3", "carry": "1"}),
        ([("momo", "6"), ("", "6"), ("", "-4")], "8", {"momo": "4"}),
        ([("momo", "6"), ("carry", "-2")], "4", {"momo": "6", "carry": "-2"}),
        ([("momo", "6"), ("carry", "-2"), ("", "-3")], "1", {"momo": "3", "carry": "-2"}),
        ([("momo", "4"), ("momo", "-4")], "0", {}),
        ([("momo", "4"), ("momo", "-6")], "-2", {"momo": "-2"}),
        ([("momo", "4"), ("carry", "1"), ("", "-8")], "-3", {}),
        ([("momo", "4"), ("carry", "1"), ("momo", "-8")], "-3", {"momo": "-4", "carry": "1"}),
        ([("", "10"), ("momo", "-4")], "6", {}),
        ([("", "10"), ("momo", "-14")], "-4", {"momo": "-4"}),
        ([("momo", "-6"), ("carry", "-3"), ("", "3")], "-6", {"momo": "-4", "carry": "-2"}),
        ([("momo", "1"), ("carry", "1"), ("zeta", "1"), ("", "-1")], "2",
         {"carry": "0.666666666666666667", "momo": "0.666666666666666667", "zeta": "0.666666666666666666"}),
    ],
    ids=[
        "adds", "none opens", "none reduces in proportion", "nobody's part is reduced too", "opposite strategies",
        "only the side that is reduced", "flat", "a strategy turns around", "none turns around",
        "one of two turns around", "nobody's is sold by a strategy", "beyond nobody's", "short",
        "remainder to the last",
    ],
)  # fmt: skip
def test_a_fill_counts_for_its_strategy(trades: list[Trade], held: str, parts: dict[str, str]) -> None:
    assert played(*trades) == (D(held), parts)


def test_what_is_smaller_than_any_step_is_closed_all_the_same() -> None:
    assert played(("momo", "5E-20"), ("carry", "5E-20"), ("", "-1E-19")) == (D(0), {})


def test_on_a_hedge_leg_nobody_is_on_the_other_side() -> None:
    assert played(("momo", "6"), ("carry", "-2"), key="BTCUSDT|LONG") == (D(4), {"momo": "4"})
    assert played(("momo", "-6"), ("carry", "-2"), ("carry", "3"), key="BTCUSDT|SHORT") == (D(-5), {"momo": "-5"})


MOVES = st.lists(
    st.tuples(st.sampled_from(["", "", "momo", "carry", "zeta"]), st.integers(-60, 60).filter(bool)),
    min_size=1,
    max_size=25,
)


def naive(parts: dict[str, Fraction], held: Fraction, change: Fraction, strategy: str) -> dict[str, Fraction]:
    """The rules again, in exact fractions and one contract's smallest share at a time not cared for."""
    after = held + change
    parts = dict(parts)
    if strategy:
        parts[strategy] = parts.get(strategy, Fraction(0)) + change
    elif held * change < 0:
        side = 1 if held > 0 else -1
        everybody = {**parts, "": held - sum(parts.values())}
        on_side = {name: part for name, part in everybody.items() if part * side > 0}
        share = min(abs(change), abs(held)) / sum((abs(part) for part in on_side.values()), Fraction(0))
        parts = {name: part * (1 - share) if name in on_side else part for name, part in parts.items()}
    together = sum(parts.values(), Fraction(0))
    low, high = min(after, Fraction(0)), max(after, Fraction(0))
    excess = together - max(low, min(high, together))
    if excess:
        own = parts.get(strategy, Fraction(0))
        cut = min(abs(own), abs(excess)) * (1 if excess > 0 else -1) if own * excess > 0 else Fraction(0)
        if cut:
            parts[strategy] = own - cut
        rest = excess - cut
        on_side = {name: part for name, part in parts.items() if part * excess > 0}
        if rest:
            share = abs(rest) / sum((abs(part) for part in on_side.values()), Fraction(0))
            parts = {name: part * (1 - share) if name in on_side else part for name, part in parts.items()}
    return {name: part for name, part in parts.items() if part}


@given(MOVES)
@settings(max_examples=400)
def test_any_sequence_of_fills_is_attributed_as_the_rules_say(moves: list[tuple[str, int]]) -> None:
    strategies: Strategies = {}
    expected: dict[str, Fraction] = {}
    held = D(0)
    for strategy, change in moves:
        strategies = attributed(strategies, "BTCUSDT", held, D(change), strategy)
        expected = naive(expected, Fraction(held), Fraction(change), strategy)
        held += change
        parts = {name: one["BTCUSDT"] for name, one in strategies.items()}
        together = sum(parts.values(), D(0))
        assert min(held, D(0)) <= together <= max(held, D(0)), "more than there is"
        assert all(parts.values()), "a part of zero is dropped"
        for name in {*parts, *expected}:
            difference = Fraction(parts.get(name, D(0))) - expected.get(name, Fraction(0))
            assert abs(difference) < Fraction(1, 10**15), (name, moves)
        if all(name for name, _ in moves):
            assert together == held
    assert sum((sum(one.values()) for one in strategies.values()), D(0)) == sum(
        (one["BTCUSDT"] for one in strategies.values()), D(0)
    )


def attributed_in(desk: Desk) -> dict[str, dict[str, str]]:
    """What the account's strategies hold; replayed from the journal alone it is the same."""
    account = desk.account()
    assert desk.replayed("alice") == account
    assert msgspec.json.decode(msgspec.json.encode(account), type=Account) == account
    return {name: {key: f"{part:f}" for key, part in parts.items()} for name, parts in account.strategies.items()}


def desk_with_marks(**kwargs: object) -> Desk:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.mark("ETHUSDT", 3_000)
    desk.open("alice", 100_000, **kwargs)  # type: ignore[arg-type]
    return desk


def fill(desk: Desk, side: str, quantity: str, strategy: str = "", **more: object) -> tuple[e.Event, ...]:
    number = len(desk.journal["alice"])
    told = {"fill_id": f"f-{number}", "symbol": "BTCUSDT", "price": D(50_000), **more}
    return desk.do("alice", c.RecordFill(side=Side(side), quantity=D(quantity), strategy=strategy, **told))  # type: ignore[arg-type]


def test_without_a_strategy_nothing_is_kept() -> None:
    desk = desk_with_marks()
    desk.fill("alice", "buy", "0.1")
    assert attributed_in(desk) == {}
    assert b"strateg" not in b"".join(desk.journal["alice"]).split(b'"inputs"')[0]


def test_a_fill_carries_the_strategy_of_its_reservation_or_its_own() -> None:
    desk = desk_with_marks()
    asked = msgspec.structs.replace(order("buy", "0.3"), strategy="momo")
    (reserved,) = [one for one in desk.do("alice", c.ReserveMargin(asked)) if isinstance(one, e.MarginReserved)]
    held = reserved.reservation
    assert held.strategy == "momo"
    first = fill(desk, "BUY", "0.1", reservation_id=held.reservation_id)[0]
    second = fill(desk, "BUY", "0.1", "carry", reservation_id=held.reservation_id)[0]
    assert isinstance(first, e.FillRecorded) and isinstance(second, e.FillRecorded)
    assert (first.strategy, second.strategy) == ("momo", "carry")
    assert attributed_in(desk) == {"momo": {"BTCUSDT": "0.1"}, "carry": {"BTCUSDT": "0.1"}}


def test_a_paper_order_fills_for_its_strategy() -> None:
    desk = desk_with_marks()
    asked = msgspec.structs.replace(order("buy", "0.2", price=49_000), strategy="momo")
    placed = desk.do("alice", c.PlaceOrder(asked, TimeInForce.GTC))[0]
    assert isinstance(placed, e.OrderPlaced) and placed.order.strategy == placed.reservation.strategy == "momo"
    desk.mark("BTCUSDT", 48_900)
    desk.do("alice", c.MatchOrders(mark_used(desk.marks["BTCUSDT"])))
    assert attributed_in(desk) == {"momo": {"BTCUSDT": "0.2"}}


def test_what_the_service_closes_is_taken_from_all_in_proportion() -> None:
    desk = desk_with_marks()
    fill(desk, "BUY", "0.3", "momo")
    fill(desk, "BUY", "0.1", "carry")
    desk.do("alice", c.ClosePosition("BTCUSDT", quantity=D("0.2")))
    desk.run_reductions("alice")
    assert attributed_in(desk) == {"momo": {"BTCUSDT": "0.15"}, "carry": {"BTCUSDT": "0.05"}}


def test_legs_of_a_hedge_are_apart() -> None:
    desk = desk_with_marks(position_mode=PositionMode.HEDGE)
    fill(desk, "BUY", "0.3", "momo", position_side=PositionSide.LONG)
    fill(desk, "SELL", "0.2", "carry", position_side=PositionSide.SHORT)
    fill(desk, "SELL", "0.1", "", position_side=PositionSide.LONG)
    assert attributed_in(desk) == {"momo": {"BTCUSDT|LONG": "0.2"}, "carry": {"BTCUSDT|SHORT": "-0.2"}}


def test_a_reset_and_a_closing_leave_nothing() -> None:
    desk = desk_with_marks()
    fill(desk, "BUY", "0.3", "momo")
    desk.do("alice", c.ResetFunds("again"))
    assert attributed_in(desk) == {}
    fill(desk, "BUY", "0.3", "momo")
    fill(desk, "SELL", "0.3", "carry")
    assert attributed_in(desk) == {"momo": {"BTCUSDT": "0.3"}, "carry": {"BTCUSDT": "-0.3"}}, "they offset each other"
    assert reasons(desk.do("alice", c.CloseAccount("done"))) == []
    assert attributed_in(desk) == {}


# Live accounts

MONEY = balance("USDT", 10_000)


def reserved(desk: LiveDesk, strategy: str, client_order_id: str, quantity: str = "0.2") -> str:
    asked = msgspec.structs.replace(order("buy", quantity, BTC), strategy=strategy)
    event = desk.do("alice", c.ReserveMargin(asked, client_order_id=client_order_id))[0]
    assert isinstance(event, e.MarginReserved)
    return event.reservation.reservation_id


def test_a_fill_found_at_the_venue_counts_for_the_strategy_of_its_reservation() -> None:
    """Momo's order is known by its client order id; what else the venue has was traded by nobody known here."""
    desk = ready()
    reserved(desk, "momo", "mine-1")
    trade = desk.venue_fill("o-1", "buy", "0.2", 50_000, client_order_id="mine-1")
    event = desk.sync(MONEY, held(BTC, "0.5", 50_000), trade)[0]
    assert isinstance(event, e.AccountSynced) and event.strategies == {"momo": {BTC: D("0.2")}}
    assert attributed_in(desk) == {"momo": {BTC: "0.2"}}
    desk.sync(MONEY, held(BTC, "0.25", 50_000), trade)
    assert attributed_in(desk) == {"momo": {BTC: "0.1"}}, "the venue sold half of everything"
    desk.sync(MONEY)
    assert attributed_in(desk) == {}


def test_a_fill_that_was_told_here_first_counts_once() -> None:
    desk = ready()
    reservation_id = reserved(desk, "momo", "mine-1")
    desk.pass_quietly(timedelta(seconds=1))
    told = c.RecordFill("t-1", BTC, Side.BUY, D("0.2"), D(50_000), order_id="o-1", reservation_id=reservation_id)
    desk.do("alice", told)
    trade = desk.venue_fill("o-1", "buy", "0.2", 50_000, client_order_id="mine-1")
    desk.sync(MONEY, held(BTC, "0.2", 50_000), trade, after=timedelta(seconds=2))
    assert attributed_in(desk) == {"momo": {BTC: "0.2"}}


def test_a_fill_that_the_venue_told_first_counts_once() -> None:
    desk = ready()
    reservation_id = reserved(desk, "momo", "mine-1")
    trade = desk.venue_fill("o-1", "buy", "0.2", 50_000, client_order_id="mine-1")
    desk.sync(MONEY, held(BTC, "0.2", 50_000), trade)
    desk.pass_quietly(timedelta(seconds=1))
    told = c.RecordFill("t-1", BTC, Side.BUY, D("0.2"), D(50_000), order_id="o-1", reservation_id=reservation_id)
    desk.do("alice", told)
    assert attributed_in(desk) == {"momo": {BTC: "0.2"}}


# Any life of an account

NAMES = st.sampled_from(["", "momo", "carry", "zeta"])
LOTS = st.integers(1, 40).map(lambda lots: D(lots) / 100)
STEPS = st.one_of(
    st.tuples(st.just("fill"), st.sampled_from(["BUY", "SELL"]), LOTS, NAMES),
    st.tuples(st.just("order"), st.sampled_from(["BUY", "SELL"]), LOTS, NAMES),
    st.tuples(st.just("close"), st.just(""), LOTS, st.just("")),
    st.tuples(st.just("mark"), st.just(""), st.sampled_from([D(40_000), D(47_000), D(50_000), D(58_000)]), st.just("")),
    st.tuples(st.just("reset"), st.just(""), LOTS, st.just("")),
)


@given(st.lists(STEPS, min_size=2, max_size=20))
@settings(max_examples=150)
def test_in_any_life_the_parts_are_within_the_position(
    lived: list[tuple[str, str, Decimal, str]],
) -> None:
    """Fills, paper orders, closes, forced reductions, resets: after each, and from the journal alone."""
    desk = desk_with_marks()
    for kind, side, number, strategy in lived:
        if kind == "fill":
            fill(desk, side, str(number), strategy)
        elif kind == "order":
            asked = msgspec.structs.replace(order(side, number), strategy=strategy)
            desk.do("alice", c.PlaceOrder(asked, TimeInForce.IOC))
        elif kind == "close":
            desk.do("alice", c.ClosePosition("BTCUSDT", quantity=number))
            desk.run_reductions("alice")
        elif kind == "mark":
            desk.mark("BTCUSDT", number)
            desk.run_reductions("alice")
        else:
            desk.do("alice", c.ResetFunds("drawn"))
        account = desk.account()
        held = account.positions["BTCUSDT"].quantity if "BTCUSDT" in account.positions else D(0)
        together = sum((parts["BTCUSDT"] for parts in account.strategies.values()), D(0))
        assert min(held, D(0)) <= together <= max(held, D(0))
        assert all(parts and all(parts.values()) for parts in account.strategies.values())
    attributed_in(desk)
