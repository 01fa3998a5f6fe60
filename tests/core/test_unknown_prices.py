"""Old and missing prices: new risk is refused, the level is unknown, nothing is sold, and every exit passes."""

from datetime import timedelta
from decimal import Decimal

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import AlertKind, RiskLevel, Severity, TradingState
from debt_mgmt.core.check import check
from debt_mgmt.core.decide import decide
from debt_mgmt.core.refusals import Reason
from tests.support.desk import FREE, Desk, decode, kinds, order, reasons
from tests.support.scenario import play

D = Decimal


def holding(utilization: str = "0.5") -> Desk:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 10_000)
    desk.leverage("alice", "ABCUSDT", 5)
    desk.fill("alice", "buy", D(utilization) * 500, "ABCUSDT")
    return desk


def test_a_mark_is_fresh_for_ten_seconds_and_known_for_thirty() -> None:
    play(
        """
        wait     10s                        -> quiet
        check    alice buy 1 ABCUSDT        -> fits
        wait     1s                         -> quiet
        check    alice buy 1 ABCUSDT        -> rejected STALE_MARK
        account  alice                      -> level NORMAL
        wait     19s                        -> quiet
        wait     1s                         -> alice UNKNOWN
        check    alice buy 1 ABCUSDT        -> rejected STALE_MARK
        check    alice sell 250 ABCUSDT     -> fits reducing
        mark     ABCUSDT 100                -> alice NORMAL
        check    alice buy 1 ABCUSDT        -> fits
        """,
        holding(),
    )


def test_the_refusal_tells_the_age_and_what_is_allowed() -> None:
    desk = holding()
    desk.now += timedelta(seconds=12, milliseconds=345)
    (violation,) = desk.check("alice", "buy", 1, "ABCUSDT").violations
    assert (violation.reason, violation.subject) == (Reason.STALE_MARK, "ABCUSDT")
    assert (violation.value, violation.limit) == (D("12.345"), D(10))


def test_a_price_that_others_need_counts_too() -> None:
    """The order's own mark is fresh, the position's is not: what the account is worth is not known well enough."""
    desk = holding()
    desk.now += timedelta(seconds=11)
    desk.mark("BTCUSDT", 50_000)
    result = desk.check("alice", "buy", "0.01", "BTCUSDT")
    assert [(one.reason, one.subject) for one in result.violations] == [(Reason.STALE_MARK, "ABCUSDT")]


def test_a_price_that_nobody_needs_does_not_count() -> None:
    """Not even where the same view was asked about it before."""
    desk = holding()
    desk.mark("ETHUSDT", 2_500)
    desk.now += timedelta(seconds=11)
    desk.mark("ABCUSDT", 100)
    view = desk.view()
    assert not check(view, order("buy", 1, "ETHUSDT"), desk.now).fits
    assert check(view, order("buy", 1, "ABCUSDT"), desk.now).fits


def test_becoming_unknown_alerts_once_and_sells_nothing() -> None:
    desk = holding("0.85")
    assert desk.account().level is RiskLevel.CRITICAL
    events = desk.wait(timedelta(seconds=31))["alice"]
    assert kinds(events) == ["RiskLevelChanged", "AlertRaised"]
    alert = desk.account().alerts[-1]
    assert (alert.kind, alert.severity, alert.subject) == (AlertKind.LEVEL_UNKNOWN, Severity.CRITICAL, "ABCUSDT")
    for _ in range(3):
        assert desk.wait(timedelta(minutes=10)) == {}
    account = desk.account()
    assert account.reduction is None
    assert account.trading_state is TradingState.REDUCING, "what was so before stays so"


def test_old_prices_start_no_reduction_however_bad_they_are() -> None:
    """A mark that says the account is lost, and is a minute old, is no reason to sell; a fresh one is."""
    desk = holding("0.6")
    desk.mark("ABCUSDT", 80, age=timedelta(seconds=31))
    assert desk.account().level is RiskLevel.UNKNOWN
    assert desk.account().reduction is None
    desk.mark("ABCUSDT", 80)
    assert desk.account().level is RiskLevel.LIQUIDATING
    assert desk.account().reduction is not None


def test_a_missing_price_is_unknown_and_never_a_number() -> None:
    desk = holding()
    desk.forget("ABCUSDT")
    assert desk.account().level is RiskLevel.UNKNOWN
    figures = desk.figures()
    assert figures.equity is figures.margin_used is figures.margin_utilization is None
    result = desk.check("alice", "buy", "0.01", "BTCUSDT")
    assert [(one.reason, one.subject) for one in result.violations] == [(Reason.MISSING_MARK, "ABCUSDT")]
    changed = [event for event in map(decode, desk.journal["alice"]) if isinstance(event, e.RiskLevelChanged)][-1]
    assert (changed.equity, changed.margin_used, changed.margin_utilization) == (None, None, None)


def test_exits_pass_without_any_price() -> None:
    desk = holding()
    desk.forget("ABCUSDT")
    desk.forget("BTCUSDT")
    result = desk.check("alice", "sell", 250, "ABCUSDT")
    assert result.fits
    assert result.reducing
    assert result.after.margin_used is None
    (event,) = desk.reserve("alice", "sell", 250, "ABCUSDT")
    assert isinstance(event, e.MarginReserved)
    assert event.margin_available is None, "unknown is absent, not zero"
    assert reasons(desk.do("alice", c.ClosePosition("ABCUSDT"))) == []
    assert desk.account().reduction is not None


def test_a_fill_is_a_fact_at_any_time() -> None:
    desk = holding()
    desk.forget("ABCUSDT")
    events = desk.fill("alice", "sell", 50, "ABCUSDT", 99)
    assert kinds(events) == ["FillRecorded"]
    position = desk.position(symbol="ABCUSDT")
    assert position is not None
    assert position.quantity == 200
    events = desk.fill("alice", "sell", 200, "ABCUSDT", 99)
    assert desk.account().positions == {}
    assert desk.account().level is RiskLevel.NORMAL, "without risk there is nothing unknown"


def test_when_prices_come_back_the_level_is_what_it_was_with_its_hysteresis() -> None:
    desk = holding("0.72")
    assert desk.account().level is RiskLevel.WARNING
    desk.wait(timedelta(seconds=31))
    desk.mark("ABCUSDT", 101)  # 69 %: a warning that was entered is left at 67 %
    assert desk.account().level is RiskLevel.WARNING
    desk.wait(timedelta(seconds=31))
    desk.mark("ABCUSDT", 106)
    assert desk.account().level is RiskLevel.NORMAL


def test_an_account_without_risk_is_never_unknown() -> None:
    desk = Desk(FREE)
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    assert desk.wait(timedelta(hours=1)) == {}
    desk.forget("ABCUSDT")
    assert desk.account().level is RiskLevel.NORMAL
    assert desk.figures().equity == 10_000


def test_breakers_are_not_tripped_by_prices_that_are_unknown() -> None:
    desk = Desk()
    desk.mark("ABCUSDT", 100)
    desk.open("alice", 10_000)
    desk.fill("alice", "buy", 50, "ABCUSDT")
    desk.mark("ABCUSDT", 40, age=timedelta(seconds=31))
    assert desk.account().breakers == {}
    desk.mark("ABCUSDT", 40)
    assert set(desk.account().breakers) == {"DAILY_LOSS"}


def test_a_plan_that_runs_ends_although_prices_went_away() -> None:
    desk = holding("0.95")
    reduction = desk.account().reduction
    assert reduction is not None
    (step,) = reduction.steps
    desk.forget("ABCUSDT")
    command = c.RecordFill("1", "ABCUSDT", step.side, step.quantity, D(100), plan_id=reduction.plan_id, step=step.step)
    events = desk.do("alice", command)
    assert "ReductionEnded" in kinds(events)
    ended = desk.account().past_reductions[-1]
    assert ended.utilization_after is None
    assert desk.account().reduction is None


def test_what_was_decided_carries_the_prices_it_was_decided_on() -> None:
    desk = holding()
    (event, *_) = desk.reserve("alice", "buy", 1, "ABCUSDT")
    assert isinstance(event, e.MarginReserved)
    assert event.mark is not None
    assert (event.mark.symbol, event.mark.price, event.mark.source) == ("ABCUSDT", D(100), "test")
    events = desk.mark("ABCUSDT", 84)["alice"]
    assert isinstance(events[0], e.RiskLevelChanged)
    assert [(mark.symbol, mark.price) for mark in events[0].marks] == [("ABCUSDT", D(84))]


def test_deciding_on_a_missing_price_is_deterministic_and_refuses_once() -> None:
    desk = holding()
    desk.forget("ABCUSDT")
    command = c.ReserveMargin(order("buy", 1, "ABCUSDT"))
    (event,) = decide(desk.account(), command, desk.world("alice"))
    assert isinstance(event, e.CommandRefused)
    assert [one.reason for one in event.violations] == [Reason.MISSING_MARK], "named once, not per position"
