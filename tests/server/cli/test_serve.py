"""What `serve` says before and when it runs."""

import io
import json
import logging
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from debt_mgmt.server.cli.logs import JsonFormatter
from debt_mgmt.server.cli.output import plain
from debt_mgmt.server.cli.program import app
from debt_mgmt.server.cli.serve import announcement, facts, first_calls, protections, target_of
from debt_mgmt.server.config import Settings, read_settings


def told(settings: Settings, columns: int = 100) -> str:
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(announcement(settings, 50051, 9090))
    return console.export_text()


def test_a_configuration_that_cannot_be_used_ends_with_all_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("risk_settings:\n  max_leverge: 3\n  default_leverage: 75\n")
    result = CliRunner().invoke(app, ["serve", "--config", str(file)])
    assert result.exit_code == 2
    assert "The configuration has 2 problems" in result.stderr
    assert "did you mean risk_settings.max_leverage?" in result.stderr
    assert "default_leverage" in result.stderr


def test_an_address_that_others_reach_needs_a_word(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "--address", "0.0.0.0:50051", "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "--insecure" in result.stderr


def test_it_says_where_it_listens_and_what_it_does_not_protect_from() -> None:
    said = told(read_settings(environment={}, flags={"risk_settings.max_daily_loss": "500"}))
    assert "127.0.0.1:50051" in said
    assert "http://127.0.0.1:9090/metrics" in said
    assert "forced reduction at 90 % down to 70 %" in said
    assert "loss of a day at most 500.00" in said
    off = next(line for line in said.splitlines() if line.startswith("OFF"))
    assert "order rate" in off
    assert "loss of a day" not in off


def test_settings_that_somebody_gave_are_told_with_their_origin_and_without_secrets() -> None:
    said = told(
        read_settings(
            environment={"DEBT_MGMT_MAX_LEVERAGE": "3", "DEBT_MGMT_DB_DSN": "postgresql://me:hunter2@db/x"}, flags={}
        )
    )
    assert "risk_settings.max_leverage 3  (environment DEBT_MGMT_MAX_LEVERAGE)" in said
    assert "hunter2" not in said


def test_what_a_program_is_told_has_the_same_facts() -> None:
    settings = read_settings(environment={}, flags={"server.address": "[::1]:0"})
    members = plain(facts(settings, 41234, 9090, True))
    assert members["target"] == "[::1]:41234"
    assert {one["protection"]: one["on"] for one in members["protections"]}["ORDER_RATE"] is False
    assert json.loads(json.dumps(members)) == members


def test_every_limit_of_the_house_is_said_to_be_on_or_off() -> None:
    names = [name for name, _, _ in protections(Settings().risk)]
    assert len(names) == len(set(names))
    limits = {name for name in Settings().risk.__struct_fields__ if name.startswith("max_")}
    assert {f"max_{name.lower()}" for name in names} >= limits - {"max_drawdown_fraction"}


@pytest.mark.parametrize(
    ("host", "target"),
    [("127.0.0.1", "127.0.0.1:1"), ("0.0.0.0", "127.0.0.1:1"), ("::1", "[::1]:1"), ("::", "[::1]:1")],
)
def test_the_first_call_goes_to_an_address_that_this_machine_reaches(host: str, target: str) -> None:
    assert target_of(host, 1) == target
    calls = first_calls(target)
    assert (
        f'grpcurl -plaintext -d \'{{"account_id":"demo"}}\' {target} debt_mgmt.v1.MarginService/GetMarginStatus'
        in calls
    )
    assert f'SyncMarginClient("{target}")' in calls


def test_the_first_calls_to_an_encrypted_service_are_encrypted() -> None:
    calls = first_calls("127.0.0.1:1", encrypted=True)
    assert "-plaintext" not in calls and "-cacert $DEBT_MGMT_TLS_CA" in calls
    assert calls.startswith("export DEBT_MGMT_TLS_CA=") and "SyncMarginClient.from_env(" in calls


def test_the_first_call_names_the_programs_so_that_they_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "debt-mgmt"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert f"\n{programs}/debt-mgmt status demo" in first_calls("127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    assert "\n.venv/bin/debt-mgmt status demo" in first_calls("127.0.0.1:1")
    assert "\n.venv/bin/python - <<" in first_calls("127.0.0.1:1")
    monkeypatch.setenv("PATH", str(programs))
    assert "\ndebt-mgmt status demo" in first_calls("127.0.0.1:1")
    assert "\npython - <<" in first_calls("127.0.0.1:1")


def test_a_log_record_as_json_is_one_object() -> None:
    record = logging.LogRecord("debt_mgmt.server", logging.WARNING, "x.py", 1, "shard %d %s", (3, "“halted”"), None)
    assert json.loads(JsonFormatter().format(record)) | {"time": ""} == {
        "time": "",
        "level": "WARNING",
        "logger": "debt_mgmt.server",
        "message": "shard 3 “halted”",
    }
