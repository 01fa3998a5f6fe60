"""Tokens from the command line, against a service that asks for them."""

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from debt_mgmt.server.cli.token import span_of
from tests.server.cli.test_service import COMMAND, Service, environment, start
from tests.server.journal.places import open_place


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with open_place() as directory:
        running = start(directory, "--demo", "--auth", "tokens")
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


def run(service: Service, token: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    named = {"DEBT_MGMT_TARGET": service.said["target"], **({"DEBT_MGMT_TOKEN": token} if token else {}), **more}
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, env=environment(**named), text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def asked(service: Service, token: str, *arguments: str, code: int = 0) -> Any:
    done = run(service, token, *arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_token_lives_on_the_command_line(service: Service) -> None:
    file = Path(service.said["admin_token_file"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    admin = file.read_text().strip()
    whoami = json.loads(run(service, "", "token", "whoami", "--json", DEBT_MGMT_TOKEN_FILE=str(file)).stdout)
    assert (whoami["caller"]["name"], whoami["caller"]["role"]) == ("admin", "ADMIN")

    issued = run(service, admin, "token", "issue", "bot", "--role", "trader", "--account", "demo", "--expires", "30d")
    secret = issued.stdout.strip()
    assert issued.stdout == f"{secret}\n", "nothing but the secret, so that it can be piped"
    assert "trader, demo" in issued.stderr
    assert run(service, secret, "status", "demo").returncode == 0
    assert "ACCOUNT_NOT_FOUND" in run(service, secret, "status", "other").stderr
    denied = run(service, secret, "token", "list")
    assert (denied.returncode, "PERMISSION_DENIED" in denied.stderr) == (2, True)

    rotated = asked(service, admin, "token", "rotate", "bot")["outcome"]["secret"]
    assert run(service, secret, "status", "demo").returncode == 2
    assert run(service, rotated, "status", "demo").returncode == 0
    listed = asked(service, admin, "token", "list")["tokens"]
    assert [(one["name"], one["role"], one["account_ids"]) for one in listed] == [
        ("admin", "ADMIN", []),
        ("bot", "TRADER", ["demo"]),
    ]
    assert run(service, admin, "token", "revoke", "bot", "--reason", "done").returncode == 0
    again = run(service, admin, "token", "revoke", "bot")
    assert (again.returncode, "TOKEN_NOT_FOUND" in again.stdout) == (1, True)
    assert run(service, rotated, "status", "demo").returncode == 2
    assert [one["name"] for one in asked(service, admin, "token", "list")["tokens"]] == ["admin"]
    assert "revoked" in run(service, admin, "token", "list", "--ended").stdout


def test_whoever_comes_without_a_token_is_told_where_it_goes(service: Service) -> None:
    done = run(service, "", "status")
    assert done.returncode == 2
    assert "UNAUTHENTICATED" in done.stderr
    assert "DEBT_MGMT_TOKEN" in done.stderr


def test_a_token_file_that_can_not_be_read_is_told(service: Service, tmp_path: Path) -> None:
    done = run(service, "", "status", DEBT_MGMT_TOKEN_FILE=str(tmp_path / "absent"))
    assert done.returncode == 2
    assert "absent" in done.stderr


@pytest.mark.parametrize(("text", "hours"), [("90m", 1.5), ("12h", 12), ("30d", 720), ("8w", 1344)])
def test_a_length_of_time_is_written_shortly(text: str, hours: float) -> None:
    assert span_of(text).total_seconds() == hours * 3600


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1y", "soon", "1.5h", "9999999d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        span_of(text)
