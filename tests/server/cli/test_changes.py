"""Changes that need a second person, from the command line of two people."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.cli.test_service import Service, start
from tests.server.cli.test_token import asked, run
from tests.server.journal.places import open_place


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = tmp_path_factory.mktemp("settings") / "settings.yaml"
    settings.write_text("risk_settings:\n  four_eyes: all\n")
    with open_place() as directory:
        running = start(directory, "--demo", "--auth", "tokens", "--config", str(settings))
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def people(service: Service) -> tuple[str, str]:
    admin = Path(service.said["admin_token_file"]).read_text().strip()
    first, second = (
        asked(service, admin, "token", "issue", name, "--role", "risk")["outcome"]["secret"] for name in ("ann", "ben")
    )
    return first, second


def test_a_raised_limit_waits_for_somebody_else(service: Service, people: tuple[str, str]) -> None:
    ann, ben = people
    assert run(service, ann, "limits", "set", "demo", "max_leverage=3", "--reason", "calm").returncode == 0
    waits = run(service, ann, "limits", "set", "demo", "max_leverage=4", "--reason", "more")
    assert waits.returncode == 1
    assert "WAITS FOR A SECOND PERSON" in waits.stdout
    (change,) = asked(service, ben, "changes", "list")["changes"]
    assert (change["state"], change["effects"], change["proposed_by"]) == ("PENDING", ["max_leverage 3 → 4"], "ann")
    change_id = change["change_id"]
    assert f"debt-mgmt changes approve {change_id}" in waits.stdout
    shown = run(service, ben, "changes", "list", COLUMNS="200").stdout
    assert change_id in shown and "max_leverage 3 → 4" in shown and "account demo" in shown
    own = run(service, ann, "changes", "approve", change_id)
    assert (own.returncode, "SAME_PERSON" in own.stdout) == (1, True)
    done = run(service, ben, "changes", "approve", change_id, "--note", "fine")
    assert (done.returncode, "CARRIED OUT" in done.stdout) == (0, True)
    assert "max_leverage 3 → 4" in done.stdout
    again = asked(service, ben, "changes", "approve", change_id, code=1)["outcome"]
    assert [one["reason"] for one in again["violations"]] == ["CHANGE_NOT_FOUND"]
    assert "approved by ben" in run(service, ben, "changes", "list", "--all", COLUMNS="200").stdout
    assert "no change waits" in run(service, ben, "changes", "list").stdout


def test_a_drill_that_could_not_resume_alone_halts_nothing(service: Service) -> None:
    admin = Path(service.said["admin_token_file"]).read_text().strip()
    done = run(service, admin, "drill", "--rounds", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs a second person" in done.stderr and "nothing was halted" in done.stderr
    assert asked(service, admin, "halts")["halts"] == []
    kinds = [one["kind"] for one in asked(service, admin, "audit", "list", "--account", "drill")["events"]]
    assert "AccountCreated" in kinds and "TradingStateChanged" not in kinds


def test_a_resume_waits_and_is_rejected(service: Service, people: tuple[str, str]) -> None:
    ann, ben = people
    assert run(service, ann, "halt", "--house", "--reason", "drill").returncode == 0
    waits = run(service, ann, "resume", "--house", "--reason", "over")
    assert (waits.returncode, "WAITS FOR A SECOND PERSON" in waits.stdout) == (1, True)
    told = asked(service, ann, "resume", "--house", "--reason", "over", code=1)["outcome"]
    assert told["pending_change_id"].startswith("change-")
    for change in asked(service, ben, "changes", "list")["changes"]:
        gone = run(service, ben, "changes", "reject", change["change_id"], "--note", "not yet")
        assert (gone.returncode, "REJECTED" in gone.stdout) == (0, True)
    assert asked(service, ann, "status", "demo")["status"]["trading_state"] == "HALTED"
    refused = run(service, ann, "resume", "demo", "--reason", "nothing to resume")
    assert (refused.returncode, "ALREADY_IN_STATE" in refused.stdout) == (1, True)
