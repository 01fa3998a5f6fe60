"""What needs a second person, what never does, and how a proposed change goes on."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from debt_mgmt.core import changes as ch
from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import BreakerKind, Environment, Limits
from debt_mgmt.core.decide import is_dry
from debt_mgmt.core.house import House, apply_house, decide_house
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import FourEyes, RiskSettings
from tests.support.desk import FREE, decode, encode
from tests.support.live_desk import LiveDesk, balance, held

D = Decimal
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUSE_LIMITS = Limits(
    max_position_notional=D(1000), max_concurrent_positions=20, order_rate_count=10, order_rate_interval_seconds=1,
    breaker_cool_down_seconds=3600,
)  # fmt: skip

SAME, LOOSER, TIGHTER = "same", "looser", "tighter"
ROWS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("nothing", {}, {}, SAME),
    ("a larger amount", {"max_exposure_notional": D(5)}, {"max_exposure_notional": D(6)}, LOOSER),
    ("a smaller amount", {"max_exposure_notional": D(5)}, {"max_exposure_notional": D(4)}, TIGHTER),
    ("the same amount spelled otherwise", {"max_daily_loss": D(5)}, {"max_daily_loss": D("5.0")}, SAME),
    ("a limit removed", {"max_exposure_notional": D(5)}, {}, LOOSER),
    ("a limit where none was", {}, {"max_daily_loss": D(5)}, TIGHTER),
    ("own limit removed, the house's is lower", {"max_position_notional": D(2000)}, {}, TIGHTER),
    ("own limit removed, the house's is higher", {"max_position_notional": D(500)}, {}, LOOSER),
    ("own limit above the house's", {}, {"max_position_notional": D(1001)}, LOOSER),
    ("more positions", {"max_concurrent_positions": 3}, {"max_concurrent_positions": 4}, LOOSER),
    ("own leverage removed", {"max_leverage": D(3)}, {}, LOOSER),
    ("leverage up to the house's", {}, {"max_leverage": D(5)}, SAME),
    ("lower leverage", {}, {"max_leverage": D(4)}, TIGHTER),
    ("a larger share of a loss", {"max_drawdown_fraction": D("0.1")}, {"max_drawdown_fraction": D("0.2")}, LOOSER),
    ("more orders", {}, {"order_rate_count": 11, "order_rate_interval_seconds": 1}, LOOSER),
    ("the same in less time", {"order_rate_interval_seconds": 60}, {"order_rate_interval_seconds": 30}, LOOSER),
    ("the same in more time", {}, {"order_rate_interval_seconds": 60}, TIGHTER),
    ("a shorter cool-down", {}, {"breaker_cool_down_seconds": 60}, LOOSER),
    ("a longer cool-down", {}, {"breaker_cool_down_seconds": 7200}, TIGHTER),
    ("one tighter, one looser", {"max_daily_loss": D(5)}, {"max_daily_loss": D(4), "max_leverage": D(4),
     "max_concurrent_positions": 21}, LOOSER),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_limit_is_looser_where_it_allows_more(before: dict[str, Any], after: dict[str, Any], expected: str) -> None:
    settings = RiskSettings(limits=HOUSE_LIMITS)
    old, new = (ch.in_force(Limits(**own), settings) for own in (before, after))
    assert ch.loosens(old, new) is (expected == LOOSER)
    assert (ch.changed_limits(old, new) == ()) is (expected == SAME)
    assert ch.loosens(new, old) or expected != TIGHTER, "the way back allows more"


def guarded(mode: FourEyes = FourEyes.LIVE, environment: Environment = Environment.LIVE) -> LiveDesk:
    desk = LiveDesk(msgspec.structs.replace(FREE, four_eyes=mode))
    desk.live(environment=environment, dry_run=None)
    desk.mark("bybit:BTCUSDT", 50_000)
    desk.sync(balance("USDT", 10_000), held("bybit:BTCUSDT", "0.1", 50_000))
    return desk


def reason(events: tuple[e.Event, ...]) -> list[str]:
    return [one.reason.value for event in events if isinstance(event, e.CommandRefused) for one in event.violations]


RAISE = c.SetLimits(Limits(max_daily_loss=D(600)), ("max_daily_loss",), "more")
LOWER = c.SetLimits(Limits(max_daily_loss=D(500)), ("max_daily_loss",), "less")


@pytest.mark.parametrize(
    ("mode", "environment", "needed"),
    [
        (FourEyes.LIVE, Environment.LIVE, True),
        (FourEyes.LIVE, Environment.TESTNET, False),
        (FourEyes.ALL, Environment.TESTNET, True),
        (FourEyes.ALL, Environment.LIVE, True),
        (FourEyes.OFF, Environment.LIVE, False),
        (FourEyes.UNAUTHENTICATED, Environment.LIVE, False),
    ],
)
def test_the_setting_says_which_accounts_need_a_second_person(
    mode: FourEyes, environment: Environment, needed: bool
) -> None:
    desk = guarded(mode, environment)
    expected = ["NEEDS_SECOND_PERSON"] if needed else []
    desk.do("alice", c.HaltTrading("drill"))
    assert reason(desk.do("alice", c.ResumeTrading("over"))) == expected
    desk.do("alice", LOWER)
    assert reason(desk.do("alice", RAISE)) == expected
    if not desk.accounts["alice"].dry_run:
        desk.do("alice", c.SetDryRun(True))
    assert reason(desk.do("alice", c.SetDryRun(False, "go"))) == expected


def test_what_takes_risk_away_never_waits() -> None:
    desk = guarded(FourEyes.ALL)
    for command in (LOWER, c.HaltTrading("drill"), c.ClosePosition("bybit:BTCUSDT")):
        assert reason(desk.do("alice", command)) == [], command
    approved = c.CarryOutChange("change-1", c.as_json(c.SetDryRun(False, "go")))
    assert reason(desk.do("alice", approved)) == []
    assert reason(desk.do("alice", c.SetDryRun(True, "back"))) == []


def test_the_effects_are_one_line_for_each_value() -> None:
    desk = guarded()
    desk.do("alice", LOWER)
    change = c.SetLimits(Limits(max_daily_loss=D(600), max_leverage=D(3)), ("max_daily_loss", "max_leverage"))
    (event,) = desk.do("alice", change)
    assert isinstance(event, e.CommandRefused)
    (violation,) = event.violations
    assert ch.effects_in(violation) == ("max_leverage 5 → 3", "max_daily_loss 500 → 600")
    desk.do("alice", c.HaltTrading("drill"))
    (event,) = desk.do("alice", c.ResumeTrading("over"))
    assert isinstance(event, e.CommandRefused)
    assert ch.effects_in(event.violations[0]) == ("trading HALTED → ACTIVE",)


def test_a_tripped_breaker_is_lifted_by_two() -> None:
    desk = guarded()
    desk.do("alice", LOWER)
    desk.mark("bybit:BTCUSDT", 44_000)
    desk.sync(balance("USDT", 10_000), held("bybit:BTCUSDT", "0.1", 50_000))
    desk.do("alice", c.Assess())
    assert list(desk.accounts["alice"].breakers) == [BreakerKind.DAILY_LOSS.value]
    (event,) = desk.do("alice", c.ResumeTrading("it is over"))
    assert isinstance(event, e.CommandRefused)
    assert "breaker DAILY_LOSS tripped → cleared" in ch.effects_in(event.violations[0])
    shown = ("trading HALTED → ACTIVE",)
    unseen = c.CarryOutChange("change-1", c.as_json(c.ResumeTrading("it is over")), shown)
    assert reason(desk.do("alice", unseen)) == ["CHANGE_NOT_FOUND"], "it tripped after the end of a halt was proposed"
    assert desk.accounts["alice"].breakers
    desk.do("alice", c.CarryOutChange("change-1", c.as_json(c.ResumeTrading("it is over"))))
    assert not desk.accounts["alice"].breakers


def test_a_resume_of_what_goes_on_is_refused_by_the_rules_and_not_proposed() -> None:
    assert reason(guarded().do("alice", c.ResumeTrading("over"))) == ["ALREADY_IN_STATE"]


def test_an_approved_change_is_decided_on_the_state_that_it_meets() -> None:
    desk = guarded()
    approved = c.CarryOutChange("change-1", c.as_json(c.ResumeTrading("over")))
    assert reason(desk.do("alice", approved)) == ["ALREADY_IN_STATE"]


def test_dry_run_is_where_live_accounts_begin() -> None:
    account = c.CreateAccount("alice", "desk", "bybit", Environment.LIVE, "USDT")
    assert is_dry(account)
    assert not is_dry(msgspec.structs.replace(account, dry_run=False))


# in the house


class Log:
    """The house's log, with events as the journal gives them back."""

    def __init__(self) -> None:
        self.house = House()
        self.position = 0
        self.now = NOON

    def do(self, command: c.Command) -> list[e.HouseEvent]:
        events = decide_house(self.house, command, self.now, self.position + 1)
        for event in events:
            self.house = apply_house(self.house, decode(encode(event)))
        self.position += len(events)
        return list(events)

    def propose(self, by: str = "ann", account_id: str = "alice", command: c.Command = RAISE) -> str:
        proposal = c.ProposeChange(
            account_id, c.as_json(command), "RiskService/SetRiskLimits", Scope(account_id=account_id),
            ("max_daily_loss 500 → 600",), "more", by, timedelta(hours=24),
        )  # fmt: skip
        (event,) = self.do(proposal)
        assert isinstance(event, e.ChangeProposed)
        return event.change.change_id

    def refused(self, command: c.Command) -> tuple[str, str]:
        (event,) = self.do(command)
        assert isinstance(event, e.CommandRefused), event
        return event.violations[0].reason.value, event.violations[0].note


def test_a_change_is_approved_by_somebody_else_and_once() -> None:
    log = Log()
    change_id = log.propose()
    assert log.refused(c.ApproveChange(change_id, "ann")) == ("SAME_PERSON", "ann")
    assert [type(one) for one in log.do(c.ApproveChange(change_id, "ben", "fine"))] == [e.ChangeApproved]
    change = log.house.changes[change_id]
    assert (change.state, change.decided_by, change.note, change.is_due) == (
        ch.ChangeState.APPROVED,
        "ben",
        "fine",
        True,
    )
    assert c.read_command(change.command) == RAISE
    assert log.refused(c.ApproveChange(change_id, "carl")) == ("CHANGE_NOT_FOUND", "ben has approved it")
    assert log.refused(c.RejectChange(change_id, "carl")) == ("CHANGE_NOT_FOUND", "ben has approved it")
    log.do(c.RecordChangeOutcome(change_id))
    assert log.do(c.RecordChangeOutcome(change_id)) == []
    assert log.house.changes[change_id].has_ended


def test_whoever_proposed_a_change_may_take_it_back() -> None:
    log = Log()
    change_id = log.propose()
    assert [type(one) for one in log.do(c.RejectChange(change_id, "ann"))] == [e.ChangeRejected]
    assert log.refused(c.ApproveChange(change_id, "ben")) == ("CHANGE_NOT_FOUND", "ann has rejected it")


def test_a_change_that_nobody_approved_in_time_is_gone() -> None:
    log = Log()
    change_id = log.propose()
    assert log.do(c.ExpireChanges()) == []
    log.now += timedelta(hours=24)
    found, words = log.refused(c.ApproveChange(change_id, "ben"))
    assert (found, words.startswith("it has expired")) == ("CHANGE_NOT_FOUND", True)
    assert [type(one) for one in log.do(c.ExpireChanges())] == [e.ChangeExpired]
    assert log.do(c.ExpireChanges()) == []
    assert log.house.changes[change_id].state is ch.ChangeState.EXPIRED


def test_what_a_caller_may_not_see_is_told_like_what_is_not_there() -> None:
    log = Log()
    change_id = log.propose()
    for kind in (c.ApproveChange, c.RejectChange):
        unseen = log.refused(kind(change_id, "ben", accounts=("bob",)))
        assert unseen == log.refused(kind("change-999", "ben")) == ("CHANGE_NOT_FOUND", "there is none")
    assert [type(one) for one in log.do(c.ApproveChange(change_id, "ben", accounts=("alice",)))] == [e.ChangeApproved]


def test_the_house_proposes_only_what_its_rules_would_do() -> None:
    log = Log()
    resume = c.ResumeHouse("over", "desk")
    proposal = c.ProposeChange(
        "", c.as_json(resume), "RiskService/ResumeTrading", Scope(owner="desk"), (), "over", "ann", timedelta(1)
    )
    assert log.refused(proposal)[0] == "ALREADY_IN_STATE"
    log.do(c.HaltHouse("drill", "desk"))
    (event,) = log.do(proposal)
    assert isinstance(event, e.ChangeProposed)
    assert event.change.effects == ("owner desk halted → resumed",)
    assert log.house.halts
    log.do(c.ApproveChange(event.change.change_id, "ben"))
    (done,) = log.do(c.CarryOutChange(event.change.change_id, log.house.changes[event.change.change_id].command))
    assert isinstance(done, e.TradingResumed)
    assert not log.house.halts


def test_what_has_ended_is_kept_for_a_while_and_what_waits_for_good() -> None:
    log = Log()
    waiting = log.propose()
    ended = [log.propose() for _ in range(ch.ENDED_KEPT + 5)]
    for change_id in ended:
        log.do(c.RejectChange(change_id, "ben"))
    assert list(log.house.changes) == [waiting, *ended[5:]]
    assert log.do(c.ApproveChange(waiting, "ben"))
    for change_id in [log.propose() for _ in range(ch.ENDED_KEPT)]:
        log.do(c.RejectChange(change_id, "ben"))
    assert waiting in log.house.changes, "what is approved is kept until it was carried out"


def test_the_state_is_read_back_from_a_snapshot_as_it_was() -> None:
    log = Log()
    log.do(c.ApproveChange(log.propose(), "ben"))
    log.propose(by="carl")
    encoded = msgspec.json.encode(log.house, order="deterministic")
    again = msgspec.json.decode(encoded, type=House)
    assert msgspec.json.encode(again, order="deterministic") == encoded
