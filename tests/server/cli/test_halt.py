"""`debt-mgmt halt`, `resume`, `drill` and `limits`, against a running service, and what they refuse."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from debt_mgmt.client import AccountExists, Environment, OrderRate, Protection, TradingState
from debt_mgmt.server.cli.account_limits import changes_in, changes_of
from debt_mgmt.server.cli.drill import account_for, check_resumes_alone, percentile
from debt_mgmt.server.cli.session import Failed
from tests.server.cli import made
from tests.server.cli.test_service import Service, asked, run, start
from tests.server.journal.places import open_place


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with open_place() as directory:
        running = start(directory, "--demo")
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


def state(service: Service) -> tuple[str, str | None]:
    told = asked(service, "status", "demo")["status"]
    return told["trading_state"], told["trading_state_reason"]


@pytest.mark.parametrize("scope", [("demo",), ("--owner", "demo"), ("--house",)])
def test_a_halt_stops_new_risk_and_lets_exits_pass_until_it_is_resumed(
    service: Service, scope: tuple[str, ...]
) -> None:
    done = run(service, "halt", *scope, "--reason", "odd fills")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HALTED")
    halted, why = state(service)
    assert halted == "HALTED" and why is not None and "odd fills" in why
    refused = asked(service, "check-order", "demo", "buy", "0.001", "BTCUSDT", code=1)["check"]["violations"]
    assert {"TRADING_HALTED", "HOUSE_HALTED"} & {one["reason"] for one in refused}
    assert asked(service, "check-order", "demo", "sell", "0.001", "BTCUSDT", "--reduce-only")["check"]["fits"] is True
    assert asked(service, "resume", *scope, "--reason", "explained")["outcome"]["account_count"] >= 1
    assert state(service)[0] == "ACTIVE"


def test_a_strategy_and_an_instrument_are_halted_listed_and_resumed(service: Service) -> None:
    scope = ("demo", "--strategy", "momo", "--instrument", "BTCUSDT")
    done = run(service, "halt", *scope, "--reason", "odd fills")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HALTED  account demo, strategy momo, instrument BTCUSDT")
    refused = asked(service, "check-order", "demo", "buy", "0.001", "BTCUSDT", "--strategy", "momo", code=1)
    (halted,) = [one for one in refused["check"]["violations"] if one["reason"] == "HOUSE_HALTED"]
    assert halted["subject"] == "account demo, strategy momo, instrument BTCUSDT" and "odd fills" in halted["message"]
    fits = asked(service, "check-order", "demo", "buy", "0.001", "BTCUSDT", "--strategy", "carry")
    assert fits["check"]["fits"] is True
    (listed,) = asked(service, "halts")["halts"]
    assert (listed["scope"]["strategy"], listed["reason"], listed["account_count"]) == ("momo", "odd fills", 1)
    assert "momo" in run(service, "halts").stdout
    assert run(service, "resume", "--strategy", "momo", "--reason", "not that one").returncode == 1
    asked(service, "resume", *scope, "--reason", "explained")
    assert asked(service, "halts")["halts"] == []
    assert "nothing is halted" in run(service, "halts").stdout


def test_a_narrower_resume_leaves_a_wider_halt(service: Service) -> None:
    asked(service, "halt", "--house", "--reason", "maintenance")
    try:
        run(service, "resume", "demo", "--reason", "try")
        assert state(service)[0] == "HALTED"
    finally:
        asked(service, "resume", "--house", "--reason", "done")


@pytest.mark.parametrize(
    "arguments",
    [("halt", "demo"), ("halt", "--reason", "x"), ("halt", "demo", "--house", "--reason", "x"), ("resume", "demo"),
     ("halt", "demo", "--reason", " "), ("halt", "--house", "--strategy", "momo", "--reason", "x"),
     ("limits", "set", "demo", "max_leverage=3")],
)  # fmt: skip
def test_whom_and_why_must_be_said(service: Service, arguments: tuple[str, ...]) -> None:
    assert run(service, *arguments).returncode == 2
    assert state(service)[0] == "ACTIVE"


def test_a_drill_measures_halts_and_leaves_the_account_trading(service: Service) -> None:
    told = asked(service, "drill", "--rounds", "5")
    assert (told["rounds"], told["late_checks"]) == (5, 0)
    halted = ("answered_seconds", "effective_seconds")
    for name in (*halted, *(f"strategy_{one}" for one in halted)):
        assert 0 < told[name]["p50"] <= told[name]["p99"] <= told[name]["max"] < 5
    assert asked(service, "status", "drill")["status"]["trading_state"] == "ACTIVE"
    kinds = [one["kind"] for one in asked(service, "audit", "list", "--account", "drill")["events"]]
    assert kinds.count("TradingStateChanged") == 10
    assert "p99" in run(service, "drill", "--rounds", "1").stdout


def test_a_drill_never_ends_somebody_elses_halt(service: Service) -> None:
    asked(service, "halt", "demo", "--reason", "real")
    try:
        done = run(service, "drill", "--account", "demo", "--rounds", "1")
        assert (done.returncode, state(service)[0]) == (1, "HALTED")
        assert "real" in done.stderr
    finally:
        asked(service, "resume", "demo", "--reason", "done")


class Existing:
    """A client whose account is there already."""

    def __init__(self, **changes: Any) -> None:
        self.found = replace(made.account(), **changes)

    async def create_account(self, account_id: str) -> Any:
        raise AccountExists.__new__(AccountExists)

    async def account(self, account_id: str) -> Any:
        return self.found


@pytest.mark.parametrize("environment", [Environment.LIVE, Environment.TESTNET])
def test_a_drill_refuses_accounts_with_money_behind_them(environment: Environment) -> None:
    client: Any = Existing(environment=environment)
    with pytest.raises(Failed, match="sandbox accounts only"):
        asyncio.run(account_for(client, "demo"))
    trading: Any = Existing(environment=Environment.SANDBOX, trading_state=TradingState.ACTIVE)
    assert asyncio.run(account_for(trading, "demo")).account_id == "demo"


@pytest.mark.parametrize("off", [True, False])
def test_a_drill_halts_nothing_that_it_may_not_resume_alone(off: bool) -> None:
    class Watched:
        async def risk_limits(self, account_id: str) -> Any:
            return SimpleNamespace(protections=[SimpleNamespace(protection=Protection.FOUR_EYES, off=off)])

    client: Any = Watched()
    if off:
        asyncio.run(check_resumes_alone(client, "drill"))
    else:
        with pytest.raises(Failed, match="second person"):
            asyncio.run(check_resumes_alone(client, "drill"))


def test_what_was_not_there_yet_is_not_called_unknown(service: Service) -> None:
    for arguments in (("limits", "diff", "demo", "--since", "7d"), ("status", "demo", "--as-of", "7d")):
        done = run(service, *arguments)
        assert done.returncode == 2 and "may have been opened later" in done.stderr, done


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([3.0], 0.5) == 3.0


def test_limits_are_set_shown_compared_and_remembered(service: Service) -> None:
    asked(service, "accounts", "create", "calm")
    before = asked(service, "limits", "get", "calm")["limits"]
    assert before["own_limits"] == []
    words = ("max_leverage=3", "max_daily_loss=500", "max_order_rate=10/1s", "breaker_cool_down=30m")
    changed = asked(service, "limits", "set", "calm", *words, "--reason", "calmer")["outcome"]["limits"]
    assert (changed["max_leverage"], changed["max_daily_loss"], changed["breaker_cool_down"]) == ("3", "500", 1800)
    assert changed["max_order_rate"] == {"orders": 10, "interval": 1}
    back = run(service, "limits", "set", "calm", "max_leverage=house", "--reason", "enough")
    assert back.returncode == 0 and "max_leverage" in back.stdout
    found = asked(service, "limits", "get", "calm")["limits"]
    assert found["limits"]["max_leverage"] == before["limits"]["max_leverage"]
    assert "max_leverage" not in found["own_limits"] and "max_daily_loss" in found["own_limits"]
    asked(service, "accounts", "create", "other")
    assert set(asked(service, "limits", "diff", "calm", "other")["different"]) == {
        "max_daily_loss", "max_order_rate", "breaker_cool_down",
    }  # fmt: skip
    first, second = asked(service, "limits", "history", "calm")["changes"]
    assert (first["reason"], second["reason"]) == ("calmer", "enough")
    assert first["changed"]["max_leverage"] == [None, "3"] and second["changed"] == {"max_leverage": ["3", None]}
    (last,) = asked(service, "limits", "history", "calm", "--limit", "1")["changes"]
    assert last == second
    shown = run(service, "limits", "get", "calm").stdout
    assert "the account's own" in shown and "OFF" in shown


def test_limits_are_compared_with_those_of_a_time(service: Service) -> None:
    created = asked(service, "audit", "list", "--account", "demo", "--kind", "AccountCreated")["events"][0]["time"]
    asked(service, "limits", "set", "demo", "max_exposure_notional=1234", "--reason", "then and now")
    told = asked(service, "limits", "diff", "demo", "--since", created)
    assert "max_exposure_notional" in told["different"]
    assert told["sides"]["now"]["max_exposure_notional"] == "1234"


def test_changes_as_they_are_typed() -> None:
    assert changes_of(["max_order_rate=600/10m", "max_concurrent_positions=7"]) == {
        "max_order_rate": OrderRate(600, timedelta(minutes=10)),
        "max_concurrent_positions": 7,
    }
    for wrong in ("max_leverage", "max_levrage=3", "max_leverage=lots", "max_order_rate=10", "breaker_cool_down=1"):
        with pytest.raises(typer.BadParameter):
            changes_of([wrong])
    with pytest.raises(typer.BadParameter, match="twice"):
        changes_of(["max_leverage=3", "max_leverage=2"])


def test_a_history_that_is_cut_does_not_invent_its_first_change() -> None:
    events = [
        made.event(1, "LimitsSet", '{"limits": {"max_leverage": "4"}}'),
        made.event(2, "LimitsSet", '{"limits": {"max_leverage": "3"}, "reason": "r"}'),
    ]
    (only,) = changes_in(events, beginning=False)
    assert (only["changed"], only["reason"]) == ({"max_leverage": ("4", "3")}, "r")
    assert len(changes_in(events, beginning=True)) == 2
