"""Refusals: every rule that an order breaks, with its numbers, in the order of precedence; and nothing else refused."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Limits, MarginMode, PositionMode, PositionSide
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.refusals import PRECEDENCE, SENTENCES, Reason, Violation, by_precedence, sentence
from debt_mgmt.core.scope import Scope
from tests.support.desk import FREE, Desk, order, reasons, refusal
from tests.support.instruments import BTCUSDT, linear
from tests.support.scenario import play

D = Decimal


def loaded() -> Desk:
    """An account with 10,000 and a long of 0.1 BTC at 5x."""
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.1")
    return desk


def test_many_violations_are_listed_at_once_in_their_order() -> None:
    """An order that breaks about everything, on an account under about everything."""
    terms = {"min_quantity": D("5000.5"), "max_quantity": D("0.01"), "min_notional": D(10**9)}
    odd = msgspec.structs.replace(BTCUSDT, lot=D("0.3"), tick=D(7), **terms)
    desk = Desk(FREE, instruments=[odd, linear("ABCUSDT")])
    desk.mark("BTCUSDT", 50_000)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000, broker="slow")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1, "ABCUSDT")
    desk.fill("alice", "buy", "0.1")
    desk.settings = msgspec.structs.replace(desk.settings, broker_max_leverage={"slow": D(2)})
    limits = Limits(
        max_leverage=D(3),
        max_position_quantity=D(1),
        max_position_notional=D(1000),
        max_exposure_notional=D(1000),
        max_concurrent_positions=1,
        max_open_reservations=0,
        max_daily_loss=D(0),
        max_drawdown_fraction=D(0),
        order_rate_count=0,
    )
    desk.do("alice", c.SetLimits(limits, Limits.__struct_fields__))
    desk.do("alice", c.HaltTrading("by hand"))
    desk.house_do(c.HaltHouse("fire"))
    desk.now += timedelta(seconds=11)
    events = desk.reserve("alice", "buy", "1000.1", price=50_000)
    expected = [
        "TRADING_HALTED",
        "HOUSE_HALTED",
        "STALE_MARK",
        "STALE_MARK",
        "LEVERAGE_ABOVE_ACCOUNT",
        "LEVERAGE_ABOVE_BROKER",
        "QUANTITY_BELOW_MINIMUM",
        "QUANTITY_BELOW_MINIMUM",
        "QUANTITY_STEP",
        "PRICE_STEP",
        "QUANTITY_ABOVE_MAXIMUM",
        "QUANTITY_ABOVE_MAXIMUM",
        "POSITION_NOTIONAL_LIMIT",
        "EXPOSURE_LIMIT",
        "CONCURRENT_POSITIONS",
        "OPEN_RESERVATIONS",
        "ORDER_RATE",
        "DAILY_LOSS",
        "DRAWDOWN",
        "BREAKER_TRIPPED",
        "BREAKER_TRIPPED",
        "INSUFFICIENT_MARGIN",
        "UTILIZATION_AFTER",
    ]
    assert reasons(events) == expected
    order_of = [PRECEDENCE[Reason(name)] for name in expected]
    assert order_of == sorted(order_of)
    assert refusal(events).largest_sell == D("0.1")
    assert refusal(events).largest_buy == 0


ROWS = [
    # what is asked for, and the violation with value, limit and headroom
    (order("buy", 1), Violation(Reason.INSUFFICIENT_MARGIN, "BTCUSDT", D(11_000), D(9_000), D(9_000))),
    (order("buy", "0.7005"), Violation(Reason.QUANTITY_STEP, "BTCUSDT", D("0.7005"), D("0.001"))),
    (order("buy", "0.1", price="50000.05"), Violation(Reason.PRICE_STEP, "BTCUSDT", D("50000.05"), D("0.1"))),
    (order("buy", "0.1", "NOPE"), Violation(Reason.UNKNOWN_INSTRUMENT, "NOPE")),
    (order("buy", "0.1", "ETHUSDT"), Violation(Reason.MISSING_MARK, "ETHUSDT")),
    (
        order("buy", "0.1", reduce_only=True),
        Violation(Reason.REDUCE_ONLY_WOULD_INCREASE, "BTCUSDT", D("0.1"), D("0.1")),
    ),
    (order("buy", "0.75"), Violation(Reason.UTILIZATION_AFTER, "BTCUSDT", D("0.85"), D("0.80"), D(7_000))),
]


@pytest.mark.parametrize(("asked", "expected"), ROWS, ids=[row[1].reason.value for row in ROWS])
def test_a_violation_tells_what_was_asked_what_is_allowed_and_what_is_left(asked: c.Order, expected: Violation) -> None:
    (event,) = loaded().do("alice", c.ReserveMargin(asked))
    assert isinstance(event, e.CommandRefused)
    assert expected in event.violations


def test_a_refused_order_learns_the_largest_that_fits() -> None:
    events = loaded().reserve("alice", "buy", 1)
    refused = refusal(events)
    assert (refused.largest_buy, refused.largest_sell) == (D("0.7"), D("0.9"))
    assert refused.margin_available == 9_000
    assert refused.margin_utilization == D("0.1")


def test_the_margin_that_is_just_enough_is_enough() -> None:
    """1.10 times the margin must be available: 8,800 for 8,000, and not one thousandth of a coin more."""
    play(
        """
        deposit   alice 8800 USDT
        leverage  alice BTCUSDT 5x
        mark      BTCUSDT 50000
        check     alice buy 0.704 BTCUSDT   -> fits  margin 7040  utilization 0.8
        check     alice buy 0.705 BTCUSDT   -> rejected  UTILIZATION_AFTER  required 7755
        """
    )
    tight = Desk(msgspec.structs.replace(FREE, liquidation_threshold=D(1), forced_liquidation_threshold=D(2)))
    play(
        """
        deposit   alice 8800 USDT
        leverage  alice BTCUSDT 5x
        mark      BTCUSDT 50000
        check     alice buy 0.8 BTCUSDT     -> fits  margin 8000  required 8800  available 8800
        check     alice buy 0.801 BTCUSDT   -> rejected  INSUFFICIENT_MARGIN  required 8811
        """,
        tight,
    )


def test_every_reason_has_its_sentence() -> None:
    assert set(SENTENCES) == set(Reason)
    for reason in Reason:
        words = sentence(Violation(reason, "BTCUSDT", D("1.50"), None, D(0), note="so it is"))
        assert "{" not in words
        assert words[0].islower() or words[0].isdigit() or words.startswith("BTCUSDT")


def test_violations_are_sorted_by_reason_and_keep_their_order_within_it() -> None:
    mixed = [
        Violation(Reason.INSUFFICIENT_MARGIN, "a"),
        Violation(Reason.STALE_MARK, "b"),
        Violation(Reason.STALE_MARK, "a"),
        Violation(Reason.ACCOUNT_CLOSED),
    ]
    assert [(one.reason, one.subject) for one in by_precedence(mixed)] == [
        (Reason.ACCOUNT_CLOSED, ""),
        (Reason.STALE_MARK, "b"),
        (Reason.STALE_MARK, "a"),
        (Reason.INSUFFICIENT_MARGIN, "a"),
    ]


def test_a_command_to_no_account_or_about_no_instrument_is_a_fault() -> None:
    desk = loaded()
    for command in (c.Assess(), c.ReserveMargin(order("buy", 1)), c.ResetFunds("x")):
        with pytest.raises(Fault) as raised:
            desk.do("nobody", command)
        assert raised.value.reason is FaultReason.ACCOUNT_NOT_FOUND
    with pytest.raises(Fault) as raised:
        desk.fill("alice", "buy", 1, "NOPE", 1)
    assert raised.value.reason is FaultReason.INSTRUMENT_NOT_FOUND
    with pytest.raises(Fault) as raised:
        desk.open("alice")
    assert raised.value.reason is FaultReason.ACCOUNT_EXISTS


REFUSED = [
    (c.Transfer("USDT", D("-9000.01")), "INSUFFICIENT_BALANCE"),
    (c.Transfer("GEM", D(5)), "MISSING_MARK"),
    (c.CloseAccount(), "OPEN_POSITIONS"),
    (c.ReleaseReservation("1-77"), "RESERVATION_NOT_FOUND"),
    (c.ClosePosition("ETHUSDT"), "NO_POSITION"),
    (c.SetLeverage("BTCUSDT", D(6)), "LEVERAGE_ABOVE_ACCOUNT"),
    (c.SetLeverage("BTCUSDT", D("0.5")), "LEVERAGE_STEP"),
    (c.SetLeverage("BTCUSDT", D("2.005")), "LEVERAGE_STEP"),
    (c.SetMarginMode("BTCUSDT", MarginMode.ISOLATED), "MARGIN_MODE_WITH_POSITION"),
    (c.AdjustIsolatedMargin("BTCUSDT", PositionSide.NET, D(5)), "NO_POSITION"),
    (c.ResumeTrading("nothing to resume"), "ALREADY_IN_STATE"),
]


@pytest.mark.parametrize(("command", "reason"), REFUSED, ids=[f"{type(one).__name__}-{why}" for one, why in REFUSED])
def test_other_commands_are_refused_with_their_reason(command: c.Command, reason: str) -> None:
    desk = loaded()
    before = desk.account()
    assert reasons(desk.do("alice", command))[0] == reason
    assert desk.account() is before


def test_more_than_is_held_can_not_be_released() -> None:
    play(
        """
        deposit  alice 10000 USDT
        mark     BTCUSDT 50000
        reserve  alice buy 0.05 BTCUSDT as first  -> held  used 1250
        release  alice first 0.02                 -> released  remaining 0.03  used 750
        release  alice first 0.031                -> rejected OVER_RELEASE
        release  alice first 0.03                 -> released  remaining 0  used 0
        release  alice first                      -> rejected RESERVATION_NOT_FOUND
        """
    )


def test_cancels_and_fills_pass_in_a_halted_account() -> None:
    desk = loaded()
    desk.reserve("alice", "buy", "0.1")
    desk.do("alice", c.HaltTrading("by hand"))
    desk.house_do(c.HaltHouse("fire"))
    (reservation_id,) = desk.account().reservations
    assert reasons(desk.do("alice", c.ReleaseReservation(reservation_id, D("0.05")))) == []
    assert reasons(desk.fill("alice", "buy", "0.05", reservation_id=reservation_id)) == []
    assert desk.account().reservations == {}
    assert desk.check("alice", "sell", "0.15").fits
    assert [one.reason for one in desk.check("alice", "buy", "0.001").violations] == [
        Reason.TRADING_HALTED,
        Reason.HOUSE_HALTED,
    ]


def test_a_halt_of_an_owner_stops_that_owner_alone() -> None:
    desk = loaded()
    desk.open("bob", 10_000, owner="another")
    desk.house_do(c.HaltHouse("under review", "another"))
    assert desk.check("alice", "buy", "0.01").fits
    assert [one.reason for one in desk.check("bob", "buy", "0.01").violations] == [Reason.HOUSE_HALTED]
    desk.house_do(c.ResumeHouse("reviewed", "another"))
    assert desk.check("bob", "buy", "0.01").fits
    (event,) = desk.house_do(c.ResumeHouse("again", "another"))
    assert isinstance(event, e.CommandRefused)


def test_an_order_on_the_wrong_side_of_a_leg_is_refused_beyond_it() -> None:
    desk = Desk(FREE)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000, position_mode=PositionMode.HEDGE)
    desk.fill("alice", "buy", "0.1", leg="LONG")
    assert desk.check("alice", "sell", "0.1", leg="LONG").reducing
    result = desk.check("alice", "sell", "0.101", leg="LONG")
    assert [one.reason for one in result.violations] == [Reason.REDUCE_ONLY_WOULD_INCREASE]
    assert result.largest_sell == D("0.1")
    assert reasons(desk.fill("alice", "sell", "0.101", leg="LONG")) == ["NO_POSITION"]


def test_a_reservation_ends_by_itself_after_its_time() -> None:
    desk = loaded()
    desk.reserve("alice", "buy", "0.1", time_to_live=timedelta(seconds=60))
    desk.reserve("alice", "buy", "0.2")
    desk.wait(timedelta(seconds=59), fresh=True)
    assert desk.do("alice", c.ExpireReservations()) == ()
    desk.wait(timedelta(seconds=1), fresh=True)
    (event,) = desk.do("alice", c.ExpireReservations())
    assert isinstance(event, e.ReservationReduced)
    assert (event.cause, event.remaining) == ("EXPIRED", D(0))
    desk.wait(timedelta(seconds=240), fresh=True)
    assert len(desk.do("alice", c.ExpireReservations())) == 1
    assert desk.account().reservations == {}


def test_a_partial_fill_converts_what_was_held() -> None:
    play(
        """
        deposit  alice 10000 USDT
        leverage alice BTCUSDT 5x
        mark     BTCUSDT 50000
        reserve  alice buy 0.5 BTCUSDT at 49000 as first   -> held  used 4900
        fill     alice buy 0.2 BTCUSDT at 49000 from first -> quantity 0.2  used 4940  reservations 1
        fill     alice buy 0.3 BTCUSDT at 49000 from first -> quantity 0.5  used 5000  reservations 0
        """
    )


def test_both_sides_of_open_orders_need_the_larger_one() -> None:
    play(
        """
        deposit  alice 10000 USDT
        leverage alice BTCUSDT 5x
        mark     BTCUSDT 50000
        reserve  alice buy 0.2 BTCUSDT    -> used 2000
        reserve  alice sell 0.3 BTCUSDT   -> used 3000
        reserve  alice buy 0.05 BTCUSDT   -> used 3000
        reserve  alice buy 0.1 BTCUSDT    -> used 3500
        fill     alice buy 0.2 BTCUSDT    -> used 5500
        fill     alice sell 0.6 BTCUSDT   -> quantity -0.4  used 7000
        """
    )


@pytest.mark.parametrize(
    ("violation", "words"),
    [
        (Violation(Reason.NO_POSITION, "BTCUSDT"), "there is no position BTCUSDT"),
        (Violation(Reason.NO_POSITION, "BTCUSDT", note="no isolated position"), "BTCUSDT has no isolated position"),
        (
            Violation(Reason.HOUSE_HALTED, "strategy momo", note="bug", scope=Scope(strategy="momo")),
            "trading is halted for strategy momo: bug; reducing orders still pass",
        ),
        (
            Violation(Reason.DRAWDOWN, "alice", D(4507), D(1000)),
            "the drawdown of 4507 from the peak has reached the limit 1000",
        ),
    ],
)
def test_a_refusal_says_what_it_was(violation: Violation, words: str) -> None:
    assert sentence(violation) == words
