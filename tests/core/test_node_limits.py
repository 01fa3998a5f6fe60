"""Limits of every node of the tree, applied to orders: alone, summed over accounts, several at once, in shadow."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import PositionMode, Side
from debt_mgmt.core.check import CheckResult, check, check_brief
from debt_mgmt.core.decide import decide
from debt_mgmt.core.limit_sets import Hours, LimitMode
from debt_mgmt.core.refusals import Violation, sentence
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.view import AccountView
from debt_mgmt.core.whatif import simulate
from tests.support.desk import FREE, Desk, order, reasons

D = Decimal

NODES = {
    "house": Scope(),
    "owner": Scope(owner="desk"),
    "account": Scope(account_id="alice"),
    "strategy": Scope(strategy="trend"),
    "instrument": Scope(symbol="BTCUSDT"),
    "all of them": Scope("desk", "alice", "trend", "BTCUSDT"),
}
ELSEWHERE = {
    "owner": Scope(owner="others"),
    "account": Scope(account_id="bob"),
    "strategy": Scope(strategy="carry"),
    "instrument": Scope(symbol="ETHUSDT"),
    "one of them": Scope("desk", "alice", "trend", "ETHUSDT"),
}


def desk_of(mode: PositionMode = PositionMode.ONE_WAY) -> Desk:
    """Three accounts of two owners, each with a million."""
    desk = Desk(FREE)
    for name, owner in (("alice", "desk"), ("bob", "desk"), ("carol", "others")):
        desk.open(name, 1_000_000, owner=owner, position_mode=mode)
    desk.mark("BTCUSDT", 50_000)
    desk.mark("ETHUSDT", 2_500)
    return desk


def asked(side: str, quantity: str, symbol: str = "BTCUSDT", leg: str = "NET", strategy: str = "trend") -> c.Order:
    return msgspec.structs.replace(order(side, quantity, symbol, leg=leg), strategy=strategy)


def checked(desk: Desk, one: c.Order, account_id: str = "alice") -> CheckResult:
    """The check, which a reservation, a batch and a what-if must agree with."""
    result = check(desk.view(account_id), one, desk.now)
    (event, *_) = decide(desk.account(account_id), c.ReserveMargin(one), desk.world(account_id))
    assert result.fits is isinstance(event, e.MarginReserved)
    if isinstance(event, e.CommandRefused):
        assert event.violations == result.violations
    elif isinstance(event, e.MarginReserved):
        assert event.shadow == result.shadow_violations
    brief = check_brief(desk.view(account_id).scratch(), one, desk.now, hold=True)
    assert brief.fits is result.fits
    assert brief.shadow_violations == result.shadow_violations
    (outcome,) = simulate(desk.account(account_id), desk.world(account_id), (one,)).outcomes
    assert outcome.applied is result.fits
    return result


def broken(desk: Desk, one: c.Order, account_id: str = "alice") -> list[str]:
    return [violation.reason.value for violation in checked(desk, one, account_id).violations]


def reserve(desk: Desk, one: c.Order, account_id: str = "alice") -> tuple[e.Event, ...]:
    return desk.do(account_id, c.ReserveMargin(one))


def only(result: CheckResult) -> Violation:
    (violation,) = result.violations
    return violation


# each limit at each node

LIMITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "max_leverage": ({"max_leverage": "1"}, "0.001", "LEVERAGE_ABOVE_ACCOUNT"),
    "max_position_quantity": ({"max_position_quantity": "0.5"}, "0.501", "QUANTITY_ABOVE_MAXIMUM"),
    "max_position_notional": ({"max_position_notional": "25000"}, "0.501", "POSITION_NOTIONAL_LIMIT"),
    "max_exposure_notional": ({"max_exposure_notional": "25000"}, "0.501", "EXPOSURE_LIMIT"),
    "max_concurrent_positions": ({"max_concurrent_positions": 0}, "0.001", "CONCURRENT_POSITIONS"),
    "max_open_reservations": ({"max_open_reservations": 0}, "0.001", "OPEN_RESERVATIONS"),
    "zero quantity": ({"max_position_quantity": "0"}, "0.001", "QUANTITY_ABOVE_MAXIMUM"),
    "zero notional": ({"max_position_notional": "0"}, "0.001", "POSITION_NOTIONAL_LIMIT"),
    "zero exposure": ({"max_exposure_notional": "0"}, "0.001", "EXPOSURE_LIMIT"),
}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("mode", PositionMode)
def test_every_limit_counts_at_every_node_on_both_sides(limit: str, node: str, side: str, mode: PositionMode) -> None:
    limits, quantity, reason = LIMITS[limit]
    desk = desk_of(mode)
    desk.limit_node(NODES[node], "named", **limits)
    leg = "NET" if mode is PositionMode.ONE_WAY else {"buy": "LONG", "sell": "SHORT"}[side]
    violation = only(checked(desk, asked(side, quantity, leg=leg)))
    assert violation.reason == reason
    assert (violation.scope, violation.limit_set) == (NODES[node], "named")
    assert f"(limit set named of {NODES[node].words})" in sentence(violation)
    largest = checked(desk, asked(side, quantity, leg=leg))
    most = largest.largest_buy if side == "buy" else largest.largest_sell
    assert most == (D("0.5") if quantity == "0.501" else 0)
    if most:
        assert not broken(desk, asked(side, str(most), leg=leg))


@pytest.mark.parametrize("node", ELSEWHERE)
def test_a_node_that_the_order_does_not_belong_to_has_no_say(node: str) -> None:
    desk = desk_of()
    desk.limit_node(ELSEWHERE[node], max_position_quantity="0", max_leverage="1", max_open_reservations=0)
    assert not broken(desk, asked("buy", "1"))


def test_what_a_strategy_has_counts_while_another_has_the_opposite() -> None:
    """Together they are flat: the account has no position, and each strategy has its own all the same."""
    desk = desk_of()
    for side, strategy in (("buy", "trend"), ("sell", "carry")):
        fill = c.RecordFill(strategy, "BTCUSDT", Side(side.upper()), D(2), D(50_000), strategy=strategy)
        desk.do("alice", fill)
    assert not desk.account("alice").positions
    desk.limit_node(Scope(strategy="trend"), max_position_quantity="3", max_exposure_notional="150000")
    assert not broken(desk, asked("buy", "1"))
    assert broken(desk, asked("buy", "1.1")) == ["QUANTITY_ABOVE_MAXIMUM", "EXPOSURE_LIMIT"]
    assert not broken(desk, asked("sell", "5")), "what it has comes off first"
    assert broken(desk, asked("sell", "5.1")) == ["QUANTITY_ABOVE_MAXIMUM", "EXPOSURE_LIMIT"]
    assert broken(desk, asked("buy", "1.1"), "bob") == ["EXPOSURE_LIMIT"]
    assert not broken(desk, asked("buy", "1"), "bob")


@pytest.mark.parametrize("node", ["house", "owner", "strategy", "instrument"])
def test_exposure_is_summed_over_the_accounts_of_a_node(node: str) -> None:
    desk = desk_of()
    desk.limit_node(NODES[node], max_exposure_notional="100000")
    reserve(desk, asked("buy", "1.5"), "bob")
    assert not broken(desk, asked("sell", "0.5"))
    violation = only(checked(desk, asked("sell", "0.501")))
    assert (violation.reason, violation.value, violation.limit) == ("EXPOSURE_LIMIT", D(100_050), D(100_000))
    assert violation.headroom == D(25_000)
    reserve(desk, asked("sell", "0.5"))
    assert broken(desk, asked("buy", "0.001"), "bob") == ["EXPOSURE_LIMIT"]


def test_the_sum_of_an_owner_leaves_other_owners_out() -> None:
    desk = desk_of()
    desk.limit_node(Scope(owner="desk"), max_exposure_notional="100000")
    reserve(desk, asked("buy", "10"), "carol")
    assert not broken(desk, asked("buy", "2"))


def test_exposure_follows_the_price_and_what_is_filled() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), max_exposure_notional="100000")
    desk.fill("bob", "sell", "1")
    assert not broken(desk, asked("buy", "1"))
    desk.mark("BTCUSDT", 62_500)
    assert only(checked(desk, asked("buy", "0.601"))).headroom == D(37_500)
    assert not broken(desk, asked("buy", "0.6"))
    desk.fill("bob", "buy", "0.5")
    assert not broken(desk, asked("buy", "1.1"))


def test_both_legs_of_a_hedge_are_exposure() -> None:
    desk = desk_of(PositionMode.HEDGE)
    desk.limit_node(Scope(), max_exposure_notional="200000", max_position_quantity="2")
    for name in ("alice", "bob"):
        desk.fill(name, "buy", "1", leg="LONG")
    desk.fill("alice", "sell", "0.5", leg="SHORT")
    desk.fill("bob", "sell", "1", leg="SHORT")
    assert only(checked(desk, asked("buy", "0.501", leg="LONG"))).headroom == D(25_000)
    assert checked(desk, asked("sell", "0.5", leg="SHORT")).fits
    assert checked(desk, asked("buy", "1.1", leg="LONG")).largest_buy == D("0.5")
    assert broken(desk, asked("buy", "1.1", leg="LONG")) == ["QUANTITY_ABOVE_MAXIMUM", "EXPOSURE_LIMIT"]


def test_positions_and_reservations_are_summed_over_the_accounts_of_a_node() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), "positions", max_concurrent_positions=2)
    desk.limit_node(Scope(), "orders", max_open_reservations=3)
    desk.fill("bob", "buy", "0.1")
    desk.fill("carol", "buy", "0.1")
    assert broken(desk, asked("buy", "0.1")) == ["CONCURRENT_POSITIONS"]
    assert not broken(desk, asked("buy", "0.1"), "bob")
    for name in ("bob", "carol", "bob"):
        assert not reasons(reserve(desk, asked("buy", "0.1"), name))
    assert broken(desk, asked("buy", "0.1"), "carol") == ["OPEN_RESERVATIONS"]


def test_the_order_rate_is_that_of_all_accounts_of_a_node() -> None:
    desk = desk_of()
    desk.limit_node(Scope(symbol="BTCUSDT"), order_rate_count=2, order_rate_interval_seconds=60)
    for name in ("alice", "bob"):
        assert not reasons(reserve(desk, asked("buy", "0.1"), name))
    violation = only(checked(desk, asked("buy", "0.1"), "carol"))
    assert (violation.reason, violation.value, violation.limit) == ("ORDER_RATE", D(3), D(2))
    assert not broken(desk, asked("buy", "1", "ETHUSDT"), "carol")
    desk.wait(timedelta(seconds=60), fresh=True)
    assert not broken(desk, asked("buy", "0.1"), "carol")


def test_a_strategy_has_what_is_its_own() -> None:
    desk = desk_of()
    desk.limit_node(Scope(strategy="trend"), max_position_quantity="1", max_exposure_notional="60000")
    desk.fill("alice", "buy", "5")
    alice = desk.account()
    desk.accounts["alice"] = msgspec.structs.replace(alice, strategies={"trend": {"BTCUSDT": D("0.4")}})
    assert not broken(desk, asked("buy", "0.6"))
    assert broken(desk, asked("buy", "0.601")) == ["QUANTITY_ABOVE_MAXIMUM"]
    assert not broken(desk, asked("buy", "3", strategy="carry"))
    desk.fill("bob", "buy", "1")
    bob = desk.account("bob")
    desk.accounts["bob"] = msgspec.structs.replace(bob, strategies={"trend": {"BTCUSDT": D(1)}})
    assert only(checked(desk, asked("buy", "0.001"))).reason == "EXPOSURE_LIMIT"
    assert not broken(desk, asked("buy", "0.1", strategy=""))


def test_what_brings_a_strategy_back_passes_its_own_limit_on_size() -> None:
    """The account is flat, since another strategy holds the opposite: selling what trend has is opening for it."""
    desk = desk_of()
    desk.limit_node(Scope(strategy="trend"), max_position_quantity="0", max_exposure_notional="0")
    desk.fill("alice", "buy", "1")
    desk.fill("alice", "sell", "0.5")
    parts = {"trend": {"BTCUSDT": D(1)}, "carry": {"BTCUSDT": D("-0.5")}}
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), strategies=parts)
    assert not broken(desk, asked("sell", "1"))
    assert broken(desk, asked("sell", "1.001")) == ["QUANTITY_ABOVE_MAXIMUM", "EXPOSURE_LIMIT"]
    assert checked(desk, asked("sell", "1.001")).largest_sell == 1


# several sets, shadow, hours


def test_every_set_is_applied_and_the_most_restrictive_wins() -> None:
    desk = desk_of()
    for scope, most in ((Scope(), "3"), (Scope(owner="desk"), "1"), (Scope(symbol="BTCUSDT"), "2")):
        desk.limit_node(scope, max_position_quantity=most)
    assert checked(desk, asked("buy", "1")).fits
    result = checked(desk, asked("buy", "2.5"))
    assert {one.scope for one in result.violations} == {Scope(owner="desk"), Scope(symbol="BTCUSDT")}
    assert result.largest_buy == 1
    desk.limit("alice", max_position_quantity=D("0.5"))
    assert checked(desk, asked("buy", "2.5")).largest_buy == D("0.5")


def test_a_set_in_shadow_refuses_nothing_and_says_what_it_would_have() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), "shadow", mode=LimitMode.SHADOW, max_position_quantity="0.5", max_leverage="1")
    result = checked(desk, asked("buy", "1"))
    assert result.fits
    assert [one.reason for one in result.shadow_violations] == ["LEVERAGE_ABOVE_ACCOUNT", "QUANTITY_ABOVE_MAXIMUM"]
    assert result.shadow_violations[1].limit_set == "shadow"
    assert result.largest_buy is not None
    assert result.largest_buy > 1
    (reserved, *_) = reserve(desk, asked("buy", "1"))
    assert isinstance(reserved, e.MarginReserved)
    assert reserved.shadow == result.shadow_violations
    (placed, *_) = desk.do("bob", c.PlaceOrder(asked("buy", "1")))
    assert isinstance(placed, e.OrderPlaced)
    assert len(placed.shadow) == 2


def test_a_set_counts_within_its_hours_only() -> None:
    desk = desk_of()
    desk.now = datetime(2026, 1, 9, 21, 59, tzinfo=UTC)
    desk.wait(timedelta(0), fresh=True)
    desk.limit_node(Scope(), "weekend", hours=(Hours("22:00", "24:00", (4,)),), max_position_quantity="0")
    view = desk.view()
    assert check(view, asked("buy", "1"), desk.now).fits
    desk.wait(timedelta(minutes=1), fresh=True)
    assert broken(desk, asked("buy", "1")) == ["QUANTITY_ABOVE_MAXIMUM"]
    assert "QUANTITY_ABOVE_MAXIMUM" in {one.reason for one in check(view, asked("buy", "1"), desk.now).violations}
    desk.wait(timedelta(hours=2), fresh=True)
    assert not broken(desk, asked("buy", "1"))


def test_what_reduces_passes_whatever_is_limited() -> None:
    desk = desk_of()
    desk.fill("alice", "buy", "2")
    desk.limit_node(
        Scope(),
        currency="NOSUCH",
        max_leverage="1",
        max_position_quantity="0",
        max_exposure_notional="0",
        max_concurrent_positions=0,
        max_open_reservations=0,
        order_rate_count=1,
        order_rate_interval_seconds=60,
    )
    assert checked(desk, asked("sell", "2")).fits
    assert broken(desk, asked("sell", "2.001"))


# what can't be computed


def test_a_limit_in_a_currency_whose_price_is_too_old_refuses_new_risk() -> None:
    """Nothing of an account in coin rests on that price, so nothing else would say it."""
    desk = desk_of()
    desk.open("dora", 100, currency="BTC", owner="others")
    desk.value("BTC", priced_by="BTCUSDT")
    desk.mark("BTCUSD", 50_000)
    desk.limit_node(Scope(), "in-dollars", max_position_notional="1000")
    assert not broken(desk, asked("buy", "1", "BTCUSD"), "dora")
    desk.wait(timedelta(seconds=11))
    desk.mark("BTCUSD", 50_000)
    violation = only(checked(desk, asked("buy", "1", "BTCUSD"), "dora"))
    assert (violation.reason, violation.subject, violation.limit_set) == ("STALE_MARK", "BTCUSDT", "in-dollars")
    assert (violation.value, violation.limit) == (D(11), D(10))
    desk.fill("dora", "buy", "1", "BTCUSD")
    assert not broken(desk, asked("sell", "1", "BTCUSD"), "dora")
    desk.mark("BTCUSDT", 50_000)
    assert not broken(desk, asked("buy", "1", "BTCUSD"), "dora")


def test_a_limit_in_a_currency_without_a_rate_refuses_new_risk() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), currency="CHF", max_exposure_notional="100000")
    violation = only(checked(desk, asked("buy", "0.1")))
    assert (violation.reason, violation.subject, violation.scope) == ("MISSING_MARK", "USDT/CHF", Scope())
    assert checked(desk, asked("buy", "0.1")).largest_buy == 0
    desk.value("USDT", CHF="0.8")
    assert not broken(desk, asked("buy", "2.5"))
    assert broken(desk, asked("buy", "2.501")) == ["EXPOSURE_LIMIT"]


def test_an_exposure_of_others_without_a_price_refuses_new_risk() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), max_exposure_notional="1000000")
    desk.fill("bob", "buy", "1", "ETHUSDT")
    desk.forget("ETHUSDT")
    violation = only(checked(desk, asked("buy", "0.1")))
    assert (violation.reason, violation.subject) == ("MISSING_MARK", "ETHUSDT")


def test_where_the_others_are_not_known_a_limit_on_their_sum_refuses() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), max_open_reservations=10)
    alone = msgspec.structs.replace(desk.world("alice"), outside=None)
    result = check(AccountView(desk.account(), alone), asked("buy", "0.1"), desk.now)
    assert only(result).reason == "NOT_SUPPORTED"
    desk.house_do(c.DeleteLimitSet(Scope()))
    desk.limit_node(Scope(account_id="alice"), max_open_reservations=10, max_exposure_notional="100000")
    alone = msgspec.structs.replace(desk.world("alice"), outside=None)
    assert check(AccountView(desk.account(), alone), asked("buy", "0.1"), desk.now).fits


def test_the_orders_of_a_batch_count_for_those_after_them() -> None:
    desk = desk_of()
    desk.limit_node(Scope(), max_exposure_notional="100000")
    desk.limit_node(Scope(), "count", max_open_reservations=3)
    desk.limit_node(Scope(), "rate", order_rate_count=3, order_rate_interval_seconds=60)
    desk.limit_node(Scope(strategy="trend"), max_position_quantity="1")
    batch = desk.view().scratch()
    fits = [
        check_brief(batch, one, desk.now, hold=True).fits
        for one in (
            asked("buy", "1"),
            asked("buy", "0.001"),
            asked("buy", "0.5", strategy="carry"),
            asked("buy", "20", "ETHUSDT", strategy=""),
            asked("buy", "10", "ETHUSDT", strategy=""),
            asked("buy", "0.01", "ETHUSDT", strategy=""),
        )
    ]
    assert fits == [True, False, True, False, True, False]
