"""What if: the answer is what would really happen, and the shocks are where the levels really are."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import MarginMode, PositionMode, Side
from debt_mgmt.core.levels import thresholds
from debt_mgmt.core.margin import figures, summarize
from debt_mgmt.core.refusals import Reason
from debt_mgmt.core.whatif import HIGHEST, LOWEST, shocked_marks, shocks, simulate
from tests.support.desk import FREE, Desk, order
from tests.support.scenario import play
from tests.support.strategies import SYMBOLS, desks, orders

D = Decimal
SMALL = D("0.0000001")
RESOLUTION = D("0.00000003")


def holding() -> Desk:
    return play(
        """
        deposit   alice 10000 USDT
        leverage  alice BTCUSDT 5x
        leverage  alice ETHUSDT 5x
        mark      BTCUSDT 50000
        mark      ETHUSDT 2500
        fill      alice buy 0.4 BTCUSDT
        """,
        Desk(FREE),
    )


def test_changes_are_applied_in_their_order_and_nothing_is_journaled() -> None:
    desk = holding()
    before, rows = desk.account(), len(desk.journal["alice"])
    outcome = simulate(
        desk.account(),
        desk.world("alice"),
        (
            order("buy", "0.5", "ETHUSDT"),
            c.SimulatedPriceShock("BTCUSDT", fraction=D("-0.1")),
            c.SetLeverage("ETHUSDT", D(2)),
            c.Transfer("USDT", D(500)),
            c.RecordFill("x", "BTCUSDT", Side.SELL, D("0.1"), D(45_000)),
            order("buy", 100, "ETHUSDT"),
        ),
    )
    assert [one.applied for one in outcome.outcomes] == [True, True, True, True, True, False]
    assert [one.reason for one in outcome.outcomes[-1].violations] == [
        Reason.INSUFFICIENT_MARGIN,
        Reason.UTILIZATION_AFTER,
    ]
    assert outcome.before == desk.figures()
    assert outcome.after.margin_used == D("0.3") * 45_000 / 5 + D("0.5") * 2_500 / 2
    assert outcome.after.equity == 10_500 - 2_000
    assert (desk.account(), len(desk.journal["alice"])) == (before, rows)


def test_a_shock_may_be_a_price_or_move_everything() -> None:
    desk = holding()
    world = desk.world("alice")
    moved = simulate(desk.account(), world, (c.SimulatedPriceShock("BTCUSDT", price=D(40_000)),))
    assert moved.after.equity == 6_000
    everything = simulate(desk.account(), world, (c.SimulatedPriceShock(fraction=D("0.1")),))
    assert everything.after.equity == 12_000
    unknown = simulate(desk.account(), world, (c.SimulatedPriceShock("NOPE", price=D(1)),))
    assert [one.reason for one in unknown.outcomes[0].violations] == [Reason.MISSING_MARK]


def test_the_shock_to_each_level() -> None:
    """0.4 at 50,000 on 5x with 10,000: used 4,000 (1 + d), equity 10,000 + 20,000 d."""
    desk = holding()
    reached = simulate(desk.account(), desk.world("alice"), ()).shocks
    assert reached["BANKRUPTCY"].down == D("-0.5")
    assert reached["BANKRUPTCY"].up is None
    for level, threshold in (("WARNING", D("0.7")), ("CRITICAL", D("0.8")), ("LIQUIDATING", D("0.9"))):
        exact = (threshold * 10_000 - 4_000) / (4_000 - threshold * 20_000)
        shock = reached[level]
        assert shock.down is not None
        assert exact - SMALL <= shock.down <= exact
        assert shock.up is None


def test_where_the_level_already_is_there_is_no_shock_left() -> None:
    desk = holding()
    desk.mark("BTCUSDT", 33_000)
    reached = simulate(desk.account(), desk.world("alice"), ()).shocks
    assert (reached["WARNING"].down, reached["WARNING"].up) == (D(0), D(0))
    assert reached["LIQUIDATING"].down is not None
    assert reached["LIQUIDATING"].down < 0


def test_an_order_against_the_position_holds_its_margin_while_prices_fall() -> None:
    """Long 100 at 100, and sells of 190 at 150: short they would need 2,700, whatever the long is worth."""
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 8_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", 100, "ABCUSDT")
    desk.reserve("alice", "sell", 190, "ABCUSDT", 150)
    down = simulate(desk.account(), desk.world("alice"), ()).shocks["WARNING"].down
    assert down is not None
    exact = (D(2_700) / D("0.7") - 8_000) / 10_000
    assert exact - RESOLUTION <= down <= exact


def level_is_reached(desk: Desk, threshold: Decimal | None, move: Decimal) -> bool:
    world = desk.world("alice")
    moved = shocked_marks(world.marks, c.SimulatedPriceShock(fraction=move))
    summary = summarize(desk.account(), msgspec.structs.replace(world, marks=moved))
    if threshold is None:
        return summary.equity <= 0
    return summary.equity <= 0 or summary.used >= threshold * summary.equity


@given(st.data())
@settings(max_examples=100)
def test_a_shock_reaches_its_level_and_less_of_it_does_not(data: st.DataObject) -> None:
    """For any mixture of positions and orders, in coin and in dollars; where no shock is named, none reaches it."""
    desk = data.draw(desks(most=6, verbs=("fill", "fill", "reserve", "reserve", "mark", "leverage")))
    assume(desk.account().positions)
    world = desk.world("alice")
    targets: dict[str, Decimal | None] = {level.value: at for level, at in thresholds(world.settings).items()}
    targets["BANKRUPTCY"] = None
    for name, shock in shocks(desk.account(), world).items():
        for move, end in ((shock.down, LOWEST), (shock.up, HIGHEST)):
            if move == 0:
                assert level_is_reached(desk, targets[name], D(0))
            elif move is not None:
                assert level_is_reached(desk, targets[name], move), f"{name} is not reached at {move}"
                for part in (D("0.2"), D("0.6"), D("0.99"), D(1)):
                    short = move * part - RESOLUTION.copy_sign(move) if abs(move) > RESOLUTION else D(0)
                    assert not level_is_reached(desk, targets[name], short), f"{name} is reached before {move}"
            else:
                assert not level_is_reached(desk, targets[name], end)


@given(st.data())
@settings(max_examples=80)
def test_a_simulated_order_ends_where_the_real_one_does(data: st.DataObject) -> None:
    desk = data.draw(desks())
    asked = msgspec.structs.replace(data.draw(orders(desk, SYMBOLS)), price=None)
    outcome = simulate(desk.account(), desk.world("alice"), (asked,))
    assert outcome.before == figures(desk.summary())
    events = desk.do("alice", c.ReserveMargin(asked))
    assert outcome.outcomes[0].applied is isinstance(events[0], e.MarginReserved)


@given(st.data())
@settings(max_examples=60)
def test_a_simulated_fill_is_the_real_one(data: st.DataObject) -> None:
    """The facts are the same; what the engine would then do about the level is left out."""
    desk = data.draw(desks(modes=(PositionMode.ONE_WAY,), margin_modes=(MarginMode.CROSS,)))
    asked = data.draw(orders(desk, SYMBOLS))
    price = asked.price if asked.price is not None else desk.marks[asked.symbol].price
    fill = c.RecordFill("x", asked.symbol, asked.side, asked.quantity, price)
    outcome = simulate(desk.account(), desk.world("alice"), (fill,))
    held = set(desk.account().reservations)
    desk.do("alice", fill)
    assume(set(desk.account().reservations) == held)
    assert outcome.after == desk.figures()


@pytest.mark.parametrize("known", [True, False])
def test_without_prices_nothing_is_made_up(known: bool) -> None:
    desk = holding()
    if not known:
        desk.forget("BTCUSDT")
    outcome = simulate(desk.account(), desk.world("alice"), ())
    assert (outcome.after.equity is not None) is known
    assert bool(outcome.shocks) is known
