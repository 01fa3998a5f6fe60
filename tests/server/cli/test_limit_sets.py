"""`debt-mgmt limits` of nodes and `check-order` with their violations, in front of a made-up client."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import Result

from debt_mgmt.client import (
    AuditEvent,
    Caller,
    DeleteLimitSetOutcome,
    LimitHours,
    LimitMode,
    LimitSet,
    LimitSetStatus,
    Listing,
    NodeLimits,
    Protection,
    ProtectionStatus,
    PutLimitSetOutcome,
    RefusalReason,
    Role,
    Scope,
    Violation,
)
from tests.server.cli import made
from tests.server.cli.made import NOON, PLACE, D, FakeClient, event

Run = Callable[..., Result]
DESK = Scope(owner="desk")
WEEKEND = LimitHours("00:00", "24:00", ["saturday", "sunday"], "Europe/Zurich")


def protection(kind: Protection, used: str | None, limit: str, **changes: Any) -> ProtectionStatus:
    left = None if used is None else max(D(0), D(limit) - D(used))
    status = ProtectionStatus(
        protection=kind,
        off=False,
        used=None if used is None else D(used),
        limit=D(limit),
        headroom=left,
        subject=None,
        note=None,
    )
    return replace(status, **changes)


def of(one: LimitSet, *protections: ProtectionStatus, in_force: bool = True) -> LimitSetStatus:
    dated = replace(one, update_time=NOON, reason="as agreed")
    return LimitSetStatus(limit_set=dated, in_force=in_force, protections=protections, account_count=2)


STANDING = of(
    LimitSet(DESK, NodeLimits(max_exposure_notional=20000, max_concurrent_positions=4), currency="USDT"),
    protection(Protection.EXPOSURE_NOTIONAL, "15000", "20000"),
    protection(Protection.CONCURRENT_POSITIONS, "1", "4"),
)
TIGHTER = of(
    LimitSet(DESK, NodeLimits(max_exposure_notional=10000), name="tighter", mode=LimitMode.SHADOW, currency="USDT"),
    protection(Protection.EXPOSURE_NOTIONAL, "15000", "10000"),
)
WEEKENDS = of(
    LimitSet(Scope(), NodeLimits(max_exposure_notional=0), name="weekend", hours=[WEEKEND], currency="USDT"),
    protection(Protection.EXPOSURE_NOTIONAL, "15000", "0"),
    in_force=False,
)
OF_BTC = of(
    LimitSet(Scope(account_id="demo", strategy="momentum", symbol="BTCUSDT"), NodeLimits(max_position_quantity=2)),
    protection(Protection.POSITION_QUANTITY, None, "2", note="others are not told"),
)
ALL = (WEEKENDS, STANDING, TIGHTER, OF_BTC)
WAITS = Violation(
    reason=RefusalReason.NEEDS_SECOND_PERSON,
    message="a second person has to approve it",
    value=None,
    limit=None,
    headroom=None,
    subject="c-7",
)
ABOVE = Violation(
    reason=RefusalReason.EXPOSURE_LIMIT,
    message="exposure of owner desk would be 25000, at most 20000",
    value=D(25000),
    limit=D(20000),
    headroom=D(5000),
    subject=None,
    scope=DESK,
    limit_set="tighter",
)


class LimitClient(FakeClient):
    def __init__(self, *sets: LimitSetStatus, refused: Violation | None = None, events: Sequence[AuditEvent] = ()):
        super().__init__(events=events, statuses=[made.status(), made.status("other")])
        self.sets = sets
        self.refused = refused
        self.limited = False
        self.put: list[tuple[LimitSet, str | None]] = []
        self.deleted: list[tuple[Scope, str | None, str | None]] = []

    async def caller(self) -> Caller:
        only = ("demo",) if self.limited else ()
        return Caller(
            revision=PLACE,
            as_of=NOON,
            name="eng",
            role=Role.RISK,
            account_ids=only,
            expire_time=None,
            authenticated=True,
        )

    async def limit_sets(self, *, concerning: Scope | None = None) -> Listing[LimitSetStatus]:
        return Listing(self.sets, PLACE, NOON)

    def verdict(self) -> dict[str, Any]:
        violations = () if self.refused is None else (self.refused,)
        waiting = self.refused is not None and self.refused.reason is RefusalReason.NEEDS_SECOND_PERSON
        return {
            "revision": PLACE,
            "as_of": NOON,
            "replayed": False,
            "accepted": self.refused is None,
            "violations": violations,
            "pending_change_id": "c-7" if waiting else None,
        }

    async def put_limit_set(self, limit_set: LimitSet, *, reason: str | None = None) -> PutLimitSetOutcome:
        self.put.append((limit_set, reason))
        return PutLimitSetOutcome(**self.verdict(), limit_set=None if self.refused else of(limit_set))

    async def delete_limit_set(
        self, scope: Scope, name: str | None = None, *, reason: str | None = None
    ) -> DeleteLimitSetOutcome:
        self.deleted.append((scope, name, reason))
        return DeleteLimitSetOutcome(**self.verdict())


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_node_shows_its_sets_and_no_others(run: Run) -> None:
    shown = run(LimitClient(*ALL), "limits", "get", "--owner", "desk")
    assert shown.exit_code == 0, shown.output
    assert "standing" in shown.output and "tighter  SHADOW" in shown.output and "weekend" not in shown.output
    assert "15,000" in shown.output and "5,000" in shown.output
    (one,) = told(run(LimitClient(*ALL), "limits", "get", "--owner", "desk", "--name", "tighter", "--json"))[
        "limit_sets"
    ]
    assert (one["limit_set"]["mode"], one["protections"][0]["headroom"]) == ("SHADOW", "0")
    weekend = run(LimitClient(*ALL), "limits", "get", "--house")
    assert "NOT IN FORCE NOW" in weekend.output and "sat 00:00 – mon 00:00 Europe/Zurich" in weekend.output


def test_a_node_without_sets_says_where_to_look(run: Run) -> None:
    none = run(LimitClient(*ALL), "limits", "get", "--strategy", "carry")
    assert none.exit_code == 0 and "limits tree" in none.output
    unknown = run(LimitClient(*ALL), "limits", "get", "--owner", "desk", "--name", "nights")
    assert unknown.exit_code == 2 and "no limit set 'nights'" in unknown.output


def test_a_new_set_holds_what_was_said(run: Run) -> None:
    client = LimitClient()
    done = run(
        client,
        *("limits", "set", "--owner", "desk", "--strategy", "momentum", "--name", "weekend", "--shadow"),
        *("--hours", "sat 00:00 - mon 00:00 Europe/Zurich", "--hours", "22:00-06:00", "--currency", "USDT"),
        *("max_exposure_notional=0", "max_order_rate=10/1s", "--reason", "thin books"),
    )
    assert done.exit_code == 0, done.output
    ((put, reason),) = client.put
    assert reason == "thin books"
    assert put.scope == Scope(owner="desk", strategy="momentum")
    assert (put.name, put.mode, put.currency) == ("weekend", LimitMode.SHADOW, "USDT")
    assert put.hours == (WEEKEND, LimitHours("22:00", "06:00"))
    assert put.limits.max_exposure_notional == 0 and put.limits.max_order_rate is not None
    assert "SET  owner desk, strategy momentum  weekend  SHADOW" in done.output


def test_what_is_not_named_stays(run: Run) -> None:
    client = LimitClient(*ALL)
    words = ("limits", "set", "--owner", "desk", "max_exposure_notional=25000", "--reason", "more", "--json")
    answer = told(run(client, *words))
    ((put, _),) = client.put
    assert put.limits == NodeLimits(max_exposure_notional=25000, max_concurrent_positions=4)
    assert (put.mode, put.currency, put.name) == (LimitMode.ENFORCED, "USDT", None)
    assert answer["before"]["limits"]["max_exposure_notional"] == "20000"
    run(client, "limits", "set", "--owner", "desk", "max_concurrent_positions=none", "--reason", "less")
    assert client.put[1][0].limits == NodeLimits(max_exposure_notional=20000)
    run(client, "limits", "set", "--owner", "desk", "--name", "tighter", "--enforced", "--reason", "in earnest")
    assert client.put[2][0] == replace(TIGHTER.limit_set, mode=LimitMode.ENFORCED, reason=None)
    run(client, "limits", "set", "--house", "--name", "weekend", "--hours", "always", "--reason", "holidays")
    assert client.put[3][0].hours == ()


def test_an_account_with_a_name_or_an_instrument_is_a_node(run: Run) -> None:
    client = LimitClient()
    run(client, "limits", "set", "demo", "--instrument", "BTCUSDT", "max_position_quantity=1", "--reason", "r")
    run(client, "limits", "set", "demo", "--hours", "22:00-06:00", "max_leverage=1", "--reason", "r")
    run(client, "limits", "set", "--account", "demo", "max_leverage=2", "--reason", "r")
    scopes = [one.scope for one, _ in client.put]
    assert scopes == [Scope(account_id="demo", symbol="BTCUSDT"), Scope(account_id="demo"), Scope(account_id="demo")]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("get",), "name an account, or a node"),
        (("get", "--name", "weekend"), "name an account, or a node"),
        (("get", "demo", "--account", "demo"), "name the account once"),
        (("get", "--house", "--owner", "desk"), "is the whole house"),
        (("set", "--house", "--reason", "r"), "say what to change"),
        (("set", "--house", "max_leverage=3", "--reason", " "), "say why"),
        (("set", "--house", "max_daily_loss=3", "--reason", "r"), "limit of accounts only"),
        (("set", "--house", "max_levrage=3", "--reason", "r"), "is no limit"),
        (("set", "--house", "max_leverage=2", "max_leverage=3", "--reason", "r"), "named twice"),
        (("set", "--house", "max_exposure_notional=1", "--reason", "r"), "--currency USDT"),
        (("set", "--house", "--hours", "weekend", "--reason", "r"), "is no part of a week"),
        (("set", "--house", "--shadow", "--reason", "r"), "without a limit limits nothing"),
        (("delete", "--reason", "r"), "name an account, or a node"),
        (("delete", "--house"), "Missing option '--reason'"),
        (("diff", "demo", "other", "--owner", "desk"), "by their own limits"),
        (("diff", "--house"), "nothing to compare"),
    ],
)
def test_what_makes_no_sense_is_said_and_not_sent(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    client = LimitClient()
    done = run(client, "limits", *arguments)
    assert done.exit_code == 2
    assert problem in " ".join(done.output.replace("│", " ").split())
    assert not client.put and not client.deleted


def test_a_set_is_taken_away(run: Run) -> None:
    client = LimitClient(*ALL)
    done = run(client, "limits", "delete", "--owner", "desk", "--name", "tighter", "--reason", "tried")
    assert (done.exit_code, client.deleted) == (0, [(DESK, "tighter", "tried")])
    assert "TAKEN AWAY" in done.output
    run(client, "limits", "delete", "demo", "--reason", "over")
    assert client.deleted[1] == (Scope(account_id="demo"), None, "over")


def test_a_change_that_waits_says_for_whom(run: Run) -> None:
    client = LimitClient(*ALL, refused=WAITS)
    done = run(client, "limits", "set", "--owner", "desk", "max_exposure_notional=90000", "--reason", "more")
    assert done.exit_code == 1
    assert "WAITS FOR A SECOND PERSON" in done.output and "REFUSED" not in done.output
    assert "debt-mgmt changes approve c-7" in done.output
    gone = replace(WAITS, reason=RefusalReason.LIMIT_SET_NOT_FOUND, message="there is no such limit set")
    refused = run(LimitClient(refused=gone), "limits", "delete", "--house", "--reason", "r")
    assert refused.exit_code == 1 and "REFUSED" in refused.output and "no such limit set" in refused.output


def test_the_tree_goes_from_the_house_to_the_instrument(run: Run) -> None:
    shown = run(LimitClient(*ALL), "limits", "tree")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    places = {
        word: next(number for number, line in enumerate(lines) if word in line)
        for word in ("house", "weekend", "owner desk", "tighter", "account demo", "strategy momentum", "BTCUSDT")
    }
    assert list(places.values()) == sorted(places.values())
    indents = [lines[places[word]].index(word) for word in ("house", "owner desk", "account demo", "strategy momentum")]
    assert indents == sorted(set(indents))
    assert "not in force now" in lines[places["weekend"]] and "SHADOW" in lines[places["tighter"]]
    assert "15,000 of 20,000 USDT, 5,000 left" in shown.output
    assert "at most 2 contracts" in shown.output and "0 USDT: nothing can be opened" in shown.output
    paths = [one["path"] for one in told(run(LimitClient(*ALL), "limits", "tree", "--json"))["limit_sets"]]
    assert paths[3] == ["owner desk", "account demo", "strategy momentum", "instrument BTCUSDT"]


def test_the_tree_of_an_account_has_its_own_limits(run: Run) -> None:
    shown = run(LimitClient(), "limits", "tree", "demo")
    assert "the account's own limits" in shown.output and "max_leverage" in shown.output
    assert "no limit set concerns account demo" in shown.output


def test_the_tree_of_one_node_is_what_stands_above_and_below_it(run: Run) -> None:
    other = replace(OF_BTC, limit_set=replace(OF_BTC.limit_set, scope=Scope(account_id="other")))
    another = replace(OF_BTC, limit_set=replace(OF_BTC.limit_set, scope=Scope(owner="fund", symbol="BTCUSDT")))
    client = LimitClient(*ALL, other, another)
    for arguments, count in ((("demo",), 4), (("--owner", "fund"), 2), (("--instrument", "BTCUSDT"), 6), ((), 6)):
        assert len(told(run(client, "limits", "tree", *arguments, "--json"))["limit_sets"]) == count, arguments
    assert len(told(run(client, "limits", "tree", "--instrument", "ETHUSDT", "--json"))["limit_sets"]) == 4


def test_the_shadow_is_compared_with_the_enforced(run: Run) -> None:
    shown = run(LimitClient(*ALL), "limits", "diff", "--owner", "desk")
    assert shown.exit_code == 0, shown.output
    assert (
        "tighter" in shown.output and "SHADOW" in shown.output and "10,000" in shown.output and "20,000" in shown.output
    )
    answer = told(run(LimitClient(*ALL), "limits", "diff", "--owner", "desk", "--json"))
    assert answer["different"] == ["mode", "max_exposure_notional", "max_concurrent_positions"]


def put_event(position: int, **of_set: Any) -> AuditEvent:
    return event(position, "LimitSetPut", json.dumps({"limit_set": of_set}))


EVENTS = (
    put_event(1, scope={"owner": "desk"}, limits={"max_leverage": "3"}, reason="first"),
    put_event(2, scope={}, name="weekend", limits={"max_exposure_notional": "0"}, currency="USDT", mode="SHADOW",
              hours=[{"start": "00:00", "end": "24:00", "days": [5, 6], "zone": "Europe/Zurich"}], reason="thin"),
    put_event(3, scope={"owner": "desk"}, reason="calmer",
              limits={"max_leverage": "2", "order_rate_count": 5, "max_open_reservations": 0}),
    event(4, "LimitSetDeleted", '{"scope": {"owner": "desk"}, "name": "", "reason": "over"}'),
)  # fmt: skip


def test_the_history_of_a_node_is_what_each_event_changed(run: Run) -> None:
    client = LimitClient(events=EVENTS)
    first, second, last = told(run(client, "limits", "history", "--owner", "desk", "--json"))["changes"]
    assert client.filters["kinds"] == ("LimitSetPut", "LimitSetDeleted")
    assert first["changed"] == {"mode": [None, "ENFORCED"], "max_leverage": [None, "3"]}
    assert second["changed"] == {
        "max_leverage": ["3", "2"],
        "max_order_rate": [None, "5/1s"],
        "max_open_reservations": [None, "0"],
    }
    assert (last["deleted"], last["reason"], last["changed"]["max_leverage"]) == (True, "over", ["2", None])
    every = run(client, "limits", "history")
    assert "owner desk  standing  by debt-mgmt: calmer" in every.output and "max_open_reservations 0" in every.output
    assert "sat 00:00 – mon 00:00 Europe/Zurich" in every.output and "taken away" in every.output
    (newest,) = told(run(client, "limits", "history", "--limit", "1", "--json"))["changes"]
    assert newest["deleted"] is True
    assert "no limit set" in run(client, "limits", "history", "--strategy", "carry").output


def test_a_caller_who_does_not_see_the_house_is_not_told_that_nothing_happened(run: Run) -> None:
    client = LimitClient(*ALL)
    client.limited = True
    for arguments in (("history",), ("history", "--house"), ("diff", "--owner", "desk", "--since", "1h")):
        done = run(client, "limits", *arguments)
        assert done.exit_code == 2
        assert "limited to some accounts" in done.output and "ever put" not in done.output


def test_a_set_is_compared_with_itself_at_a_time(run: Run) -> None:
    client = LimitClient(events=EVENTS)
    since = ("--since", "2026-01-05T12:00:02")
    later = told(run(client, "limits", "diff", "--owner", "desk", *since, "--json"))
    assert later["different"] == ["mode", "max_leverage"]
    assert list(later["sides"].values()) == [{"mode": "ENFORCED", "max_leverage": "3"}, {}]
    same = run(client, "limits", "diff", "--house", "--name", "weekend", *since)
    assert same.exit_code == 0 and "no difference" in same.output
    before = told(run(client, "limits", "diff", "--house", "--name", "weekend", "--since", "2026-01-01", "--json"))
    assert before["different"] == ["mode", "hours", "currency", "max_exposure_notional"]
    assert run(client, "limits", "diff", "--strategy", "carry", *since).exit_code == 2


def test_a_check_names_the_node_and_what_the_shadow_would_have_refused(run: Run) -> None:
    client = LimitClient()
    client._check = made.check(ABOVE)
    shown = run(client, "check-order", "demo", "buy", "0.5", "BTCUSDT")
    assert shown.exit_code == 1
    assert "owner desk  tighter" in shown.output and "25,000" in shown.output
    client._check = replace(made.check(), shadow_violations=(ABOVE,))
    shadow = run(client, "check-order", "demo", "buy", "0.5", "BTCUSDT")
    assert shadow.exit_code == 0 and "FITS" in shadow.output
    assert "in shadow would have refused it" in shadow.output and "owner desk" in shadow.output
    both = json.loads(run(client, "check-order", "demo", "buy", "0.5", "BTCUSDT", "--json").stdout)["check"]
    assert both["fits"] is True and both["shadow_violations"][0]["scope"]["owner"] == "desk"
