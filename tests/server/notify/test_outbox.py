"""What a route is told of, and when: by severity, account, cool-down and escalation."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Alert, AlertKind, RiskLevel, Severity
from debt_mgmt.core.changes import ProposedChange
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.notify.chats import CHARACTERS_MOST, words
from debt_mgmt.server.notify.notice import News, Notice
from debt_mgmt.server.notify.outbox import REMINDERS_MOST, Aim, Outbox, delivered, due_by, take, take_of_house

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTES = timedelta(minutes=1)


def alert(
    number: int,
    minutes: float = 0,
    kind: AlertKind = AlertKind.DRIFT,
    severity: Severity = Severity.WARNING,
    message: str = "as it happened",
) -> Alert:
    return Alert(f"1-{number}", kind, severity, NOON + minutes * MINUTES, RiskLevel.WARNING, message, Decimal("0.7123"))


def taken(aim: Aim, *alerts: Alert, account_id: str = "alice", outbox: Outbox = Outbox()) -> Outbox:  # noqa: B008
    for one in alerts:
        outbox = take(outbox, int(one.alert_id[2:]), account_id, e.AlertRaised(one), aim)
    return outbox


def due(outbox: Outbox, minutes: float) -> list[str]:
    return [one.notice.notice_id for one in due_by(outbox, NOON + minutes * MINUTES, 100)]


def test_a_route_is_told_of_its_severities_and_accounts_only() -> None:
    aim = Aim(Severity.WARNING, frozenset({"alice"}))
    outbox = taken(aim, alert(1, severity=Severity.INFO), alert(2), alert(3, severity=Severity.CRITICAL))
    outbox = taken(aim, alert(4), account_id="bob", outbox=outbox)
    assert due(outbox, 0) == ["1-3", "1-2"], "what is critical comes first"
    assert outbox.position == 4, "what is not told is taken in all the same"


def test_within_the_cool_down_only_the_latest_is_told_when_it_ends() -> None:
    aim = Aim(cool_down=5 * MINUTES)
    outbox = taken(aim, alert(1), alert(2, 1), alert(3, 2), alert(4, 2, AlertKind.VENUE_REFUSED))
    assert due(outbox, 2) == ["1-1", "1-4"], "another kind does not wait"
    outbox = delivered(outbox, due_by(outbox, NOON + 2 * MINUTES, 100), NOON + 2 * MINUTES, aim)
    assert due(outbox, 4.9) == []
    (last,) = due_by(outbox, NOON + 5 * MINUTES, 100)
    assert (last.notice.notice_id, last.notice.held_back) == ("1-3", 1)
    outbox = delivered(outbox, [last], NOON + 5 * MINUTES, aim)
    again = taken(aim, alert(9, 6), outbox=outbox)
    assert (due(again, 6), due(again, 10)) == ([], ["1-9"]), "the cool-down counts from what was told last"
    assert due(taken(aim, alert(9, 11), outbox=outbox), 11) == ["1-9"]


def test_other_accounts_do_not_wait() -> None:
    aim = Aim(cool_down=5 * MINUTES)
    outbox = taken(aim, alert(2, 1), account_id="bob", outbox=taken(aim, alert(1)))
    assert due(outbox, 1) == ["1-1", "1-2"]


def test_what_is_critical_is_never_muted() -> None:
    aim = Aim(cool_down=60 * MINUTES)
    outbox = taken(aim, *(alert(number, number / 10, severity=Severity.CRITICAL) for number in range(1, 8)))
    assert due(outbox, 1) == [f"1-{number}" for number in range(1, 8)]


def test_what_nobody_acknowledges_escalates_and_comes_again() -> None:
    aim = Aim(escalate_after=10 * MINUTES)
    outbox = taken(aim, alert(1), alert(2, 1))
    assert due(outbox, 9) == []
    assert due(outbox, 10) == ["1-1"]
    outbox = take(outbox, 3, "alice", e.AlertAcknowledged("1-2", "desk", NOON), aim)
    assert due(outbox, 30) == ["1-1"], "one that was acknowledged is not told"
    outbox = delivered(outbox, due_by(outbox, NOON + 10 * MINUTES, 9), NOON + 10 * MINUTES, aim)
    assert (due(outbox, 19), due(outbox, 20)) == ([], ["1-1-reminder-1"])
    outbox = take(outbox, 4, "alice", e.AlertAcknowledged("1-1", "desk", NOON), aim)
    assert due(outbox, 10_000) == []


def test_reminders_end() -> None:
    aim, now = Aim(escalate_after=MINUTES), NOON
    outbox, count = taken(aim, alert(1)), 0
    while outbox.waiting:
        now += MINUTES
        outbox, count = delivered(outbox, due_by(outbox, now, 9), now, aim), count + 1
    assert count == REMINDERS_MOST + 1


def test_an_outbox_is_read_back_as_it_was() -> None:
    aim = Aim(cool_down=5 * MINUTES)
    outbox = taken(aim, alert(1), alert(2, 1), alert(3, 2))
    assert msgspec.json.decode(msgspec.json.encode(outbox), type=Outbox) == outbox


def test_an_outbox_of_an_earlier_version_is_read() -> None:
    kept = (
        b'{"position":7,"waiting":[{"account_id":"alice","due":"2026-03-02T12:00:00Z","alert":{"alert_id":"1-7",'
        b'"kind":"DRIFT","severity":"WARNING","at":"2026-03-02T12:00:00Z","level":"WARNING","message":"as it happened",'
        b'"utilization":"0.7123","acknowledged_by":"desk","acknowledged_at":"2026-03-02T12:00:00Z"}}]}'
    )
    assert msgspec.json.decode(kept, type=Outbox) == taken(Aim(), alert(7))


# what the house's log tells

HALT = e.TradingHalted("desk", "drill", NOON, "ann", strategy="momo")
END = e.TradingResumed("desk", "over", NOON + MINUTES, strategy="momo")


def proposed(number: int, account_id: str = "alice", minutes: float = 0) -> e.ChangeProposed:
    at = NOON + minutes * MINUTES
    change = ProposedChange(
        f"change-{number}", account_id, msgspec.Raw(b"{}"), "RiskService/SetRiskLimits", Scope(account_id=account_id),
        ("max_daily_loss 100 → 900",), "as agreed", "ann", at, at + 60 * MINUTES,
    )  # fmt: skip
    return e.ChangeProposed(change)


def of_house(aim: Aim, *events: e.HouseEvent, outbox: Outbox = Outbox()) -> Outbox:  # noqa: B008
    for one in events:
        outbox = take_of_house(outbox, outbox.position + 1, one, aim)
    return outbox


def test_a_change_that_waits_says_who_wants_what_until_when_and_how_to_decide() -> None:
    (one,) = due_by(of_house(Aim(), proposed(1)), NOON, 9)
    assert one.notice.title == "WARNING: account alice: change proposed"
    for said in (
        "SetRiskLimits of account alice by ann waits for a second person until 2026-03-02 13:00:00 UTC",
        "max_daily_loss 100 → 900 (as agreed)",
        "debt-mgmt why 0:1",
        "debt-mgmt changes approve change-1",
    ):
        assert said in one.notice.body
    assert "level" not in one.notice.body and "acknowledge" not in one.notice.body
    assert (one.notice.event, one.notice.fields["subject"]) == ("alert.change_proposed", "change-1")
    assert (one.notice.fields["level"], one.notice.fields["account_id"]) == (None, "alice")


def test_a_halt_of_a_node_and_its_end_are_as_severe_as_those_of_an_account() -> None:
    outbox = of_house(Aim(), HALT, END)
    halted, resumed = due_by(outbox, NOON + MINUTES, 9)
    assert halted.notice.title == "CRITICAL: owner desk, strategy momo: trading halted"
    assert "drill (by ann)" in halted.notice.body
    assert resumed.notice.title == "WARNING: owner desk, strategy momo: trading resumed"
    assert due(of_house(Aim(Severity.CRITICAL), HALT, END, proposed(3)), 1) == ["0-1"]


def test_a_route_of_some_accounts_is_told_of_changes_to_them_only() -> None:
    aim = Aim(accounts=frozenset({"alice"}))
    outbox = of_house(aim, proposed(1), proposed(2, "bob"), proposed(3, ""), HALT, END)
    assert due(outbox, 1) == ["0-1"]
    assert outbox.position == 5, "what is not told is taken in all the same"
    assert due(of_house(Aim(), proposed(1), proposed(2, "bob"), proposed(3, "")), 0) == ["0-1", "0-2", "0-3"]


def test_no_cool_down_holds_a_change_back() -> None:
    outbox = of_house(Aim(cool_down=60 * MINUTES), proposed(1), proposed(2), END, END)
    assert due(outbox, 1) == ["0-1", "0-2", "0-3", "0-4"]


def test_a_change_escalates_until_it_is_decided_or_has_expired() -> None:
    aim = Aim(escalate_after=10 * MINUTES)
    outbox = of_house(aim, *(proposed(number) for number in range(1, 5)))
    assert (due(outbox, 9), due(outbox, 10)) == ([], ["0-1", "0-2", "0-3", "0-4"])
    outbox = of_house(aim, e.ChangeApproved("change-1", "ben", NOON), outbox=outbox)
    outbox = of_house(aim, e.ChangeRejected("change-2", "ben", NOON), outbox=outbox)
    assert due(outbox, 10) == ["0-3", "0-4"]
    outbox = delivered(outbox, due_by(outbox, NOON + 10 * MINUTES, 9), NOON + 10 * MINUTES, aim)
    outbox = of_house(aim, e.ChangeExpired("change-3", NOON), outbox=outbox)
    assert (due(outbox, 19), due(outbox, 20)) == ([], ["0-4-reminder-1"])
    assert due(outbox, 60) == [], "it has expired, whether that is in the log yet or not"


def test_a_halt_of_a_node_escalates_until_it_ends() -> None:
    aim = Aim(escalate_after=10 * MINUTES)
    other = e.TradingHalted("desk", "another", NOON)
    outbox = of_house(aim, HALT, other, END)
    assert due(outbox, 30) == ["0-2"], "an end is not told: nothing is left to be seen to"


def test_many_long_alerts_fit_into_one_message() -> None:
    notices = [Notice(f"account-{number}", News.of(alert(number, message="x" * 3000))) for number in range(10)]
    text = words(notices)
    assert len(text) <= CHARACTERS_MOST
    assert all(one.title in text for one in notices)
