"""What must hold for every event: money balances, a repeat decides alike, the journal alone gives the same account."""

from collections import defaultdict
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Side
from debt_mgmt.core.apply import apply
from debt_mgmt.core.decide import decide
from debt_mgmt.core.levels import ASCENDING, next_level
from tests.support.desk import HOUSE, Desk, decode, encode, postings_in, sums_by_asset
from tests.support.strategies import PRICES, SYMBOLS, desks, orders, play_step, steps

D = Decimal

ACCOUNT_CODEC = msgspec.json.Decoder(Account)


def lived(data: st.DataObject) -> Desk:
    """An account after a long history, with whatever reductions it led to carried out."""
    desk = data.draw(desks(most=10))
    if data.draw(st.booleans()):
        desk.run_reductions("alice")
    return desk


@given(st.data())
@settings(max_examples=1000)
def test_replay_equals_live(data: st.DataObject) -> None:
    """Every row was encoded and decoded; the fold of the rows is the account, and its own JSON form is too."""
    desk = lived(data)
    assert desk.replayed("alice") == desk.account()
    assert ACCOUNT_CODEC.decode(msgspec.json.encode(desk.account())) == desk.account()


@given(st.data())
@settings(max_examples=1000)
def test_postings_sum_to_zero_and_make_the_balances(data: st.DataObject) -> None:
    desk = lived(data)
    wallet: dict[str, Decimal] = defaultdict(Decimal)
    for row in desk.journal["alice"]:
        event = decode(row)
        postings = postings_in(event)
        assert not any(sums_by_asset(postings).values())
        for posting in postings:
            if posting.ledger == "wallet":
                wallet[posting.asset] += posting.amount
    assert {asset: amount for asset, amount in wallet.items() if amount} == {
        asset: amount for asset, amount in desk.account().balances.items() if amount
    }


@given(st.data())
@settings(max_examples=1000)
def test_deciding_twice_decides_alike_and_changes_nothing(data: st.DataObject) -> None:
    desk = data.draw(desks())
    account, world = desk.account(), desk.world("alice")
    kept = msgspec.json.encode(account)
    command = data.draw(
        st.one_of(
            orders(desk).map(c.ReserveMargin),
            st.builds(c.SetLeverage, st.sampled_from(SYMBOLS), st.sampled_from([D(1), D(3), D(7)])),
            st.builds(c.Transfer, st.just("USDT"), st.sampled_from([D(100), D(-100), D(-(10**9))])),
            st.just(c.Assess()),
            st.just(c.ResetFunds("drawn")),
        )
    )
    first, second = decide(account, command, world), decide(account, command, world)
    assert first == second
    assert [encode(event) for event in first] == [encode(event) for event in second]
    assert msgspec.json.encode(account) == kept


@given(st.data())
@settings(max_examples=1000)
def test_nothing_more_happens_while_nothing_changes(data: st.DataObject) -> None:
    """What one command leaves, an assessment agrees with: no level flaps, no plan starts again, no peak repeats."""
    desk = lived(data)
    assert desk.do("alice", c.Assess()) == ()


@given(
    st.integers(0, 3),
    st.integers(-50, 2000).map(lambda permille: D(permille) / 1000),
    st.integers(0, 4).map(lambda lots: D(lots) * 1000),
)
def test_a_level_once_entered_is_stable(current: int, used: Decimal, equity: Decimal) -> None:
    level = next_level(ASCENDING[current], used * equity, equity, HOUSE)
    assert next_level(level, used * equity, equity, HOUSE) is level


@given(st.data())
@settings(max_examples=1000)
def test_ids_are_places_in_the_journal(data: st.DataObject) -> None:
    """What an event creates is named by where that event stands, so that two can never share a name."""
    desk = lived(data)
    names = []
    for position, row in enumerate(desk.journal["alice"], 1):
        match decode(row):
            case e.MarginReserved(reservation=reservation):
                names.append((reservation.reservation_id, f"1-{position}"))
            case e.AlertRaised(alert=alert):
                names.append((alert.alert_id, f"1-{position}"))
            case e.ReductionStarted(reduction=reduction):
                names.append((reduction.plan_id, f"1-{position}"))
                assert [step.client_order_id for step in reduction.steps] == [
                    f"liq-1-{position}-{number}" for number in range(1, len(reduction.steps) + 1)
                ]
    assert all(given_ == expected for given_, expected in names)


@given(st.data())
@settings(max_examples=1000)
def test_events_of_one_account_say_nothing_of_another(data: st.DataObject) -> None:
    """A second account on the same desk lives its own life."""
    desk = data.draw(desks())
    desk.open("bob", 5_000)
    for step in data.draw(st.lists(steps(SYMBOLS, ("fill", "reserve", "leverage")), max_size=4)):
        before = desk.account("bob")
        play_step(desk, step)
        assert desk.account("bob") is before
    assert desk.summary("bob").equity == 5_000


@given(st.data())
@settings(max_examples=1000)
def test_a_refusal_changes_nothing(data: st.DataObject) -> None:
    desk = data.draw(desks())
    before = desk.account()
    symbol = data.draw(st.sampled_from(sorted(PRICES)))
    for command in (
        c.SetLeverage(symbol, D(7)),
        c.SetLeverage(symbol, D("1.005")),
        c.ReleaseReservation("1-999"),
        c.Transfer("USDT", D(-(10**12))),
        c.ReserveMargin(c.Order(symbol, Side.BUY, D(10**9))),
    ):
        (event,) = desk.do("alice", command)
        assert isinstance(event, e.CommandRefused)
        assert event.violations
        assert apply(before, event) is before
        assert desk.account() is before
