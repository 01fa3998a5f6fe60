"""`debt-mgmt doctor` and `check-config`, with a service, without one, and with things gone wrong on purpose."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from debt_mgmt.client import Mark
from debt_mgmt.server.cli import doctor_here
from debt_mgmt.server.cli.doctor_service import clock_finding, price_findings
from debt_mgmt.server.cli.findings import Finding, State
from debt_mgmt.server.config import read_settings
from tests.server.cli.made import MARK, status
from tests.server.cli.test_service import COMMAND, Service, environment, start
from tests.server.journal.places import open_place

NOWHERE = "127.0.0.1:1"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Service, Path]]:
    with open_place() as directory:
        running = start(directory, "--demo")
        try:
            yield running, directory
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


def command(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        env=environment(**variables),
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def told(*arguments: str, code: int, **variables: str) -> Any:
    done = command(*arguments, "--json", **variables)
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def states(document: Any) -> dict[str, str]:
    return {one["subject"]: one["state"] for one in document["findings"]}


def test_a_service_in_order_is_found_in_order_and_what_is_off_is_named(service: tuple[Service, Path]) -> None:
    running, directory = service
    where = ("--target", running.said["target"], "--http", running.said["http"], "--data-dir", str(directory))
    document = told("doctor", *where, code=0)
    found = states(document)
    fine = ("settings", "service", "clock", "protection", "prices", "journal", "disk", "database", "database clock")
    assert {name: found[name] for name in fine} == dict.fromkeys(fine, "ok")
    assert {found[name] for name in ("stored journal", "history", "keys")} == {"ok"}
    assert {found[name] for name in ("authentication", "encryption", "ORDER_RATE", "DAILY_LOSS")} == {"OFF"}
    assert document["healthy"] is True
    shown = command("doctor", *where).stdout
    assert "nothing is wrong" in shown and "every caller is an administrator" in shown


def test_the_journal_that_another_hand_changed_is_found(service: tuple[Service, Path]) -> None:
    import asyncio
    from urllib.parse import quote

    import asyncpg

    from debt_mgmt.server.postgres import read_lock_file

    running, directory = service
    lock = read_lock_file(directory / "postgres")
    assert lock is not None
    dsn = f"postgresql://postgres@/postgres?host={quote(lock.socket_directory, safe='/')}&port=5432"
    row = "(SELECT max(position) FROM debt_mgmt.journal WHERE shard = 0)"

    async def change(actor: str) -> str:
        connection = await asyncpg.connect(dsn)
        try:
            kept = await connection.fetchval(
                f"SELECT actor FROM debt_mgmt.journal WHERE shard = 0 AND position = {row}"
            )
            await connection.execute(
                f"UPDATE debt_mgmt.journal SET actor = $1 WHERE shard = 0 AND position = {row}", actor
            )
            return str(kept)
        finally:
            await connection.close()

    where = ("--target", running.said["target"], "--http", running.said["http"], "--data-dir", str(directory))
    kept = asyncio.run(change("somebody"))
    try:
        document = told("doctor", *where, code=1)
    finally:
        asyncio.run(change(kept))
    (broken,) = [one for one in document["findings"] if one["state"] == "WRONG"]
    assert broken["subject"] == "journal" and "not what was written" in broken["words"]


def test_without_a_service_the_machine_is_examined_all_the_same(tmp_path: Path) -> None:
    document = told("doctor", "--target", NOWHERE, "--data-dir", str(tmp_path / "none"), code=1)
    found = states(document)
    assert (found["service"], found["settings"], found["disk"]) == ("WRONG", "ok", "ok")
    assert (found["database"], found["ORDER_RATE"]) == ("unknown", "OFF")
    assert "it is down" in command("doctor", "--target", NOWHERE).stdout
    assert not (tmp_path / "none").exists(), "an examination makes nothing"


def test_settings_that_cannot_be_used_are_findings() -> None:
    document = told("doctor", "--target", NOWHERE, code=1, DEBT_MGMT_MAX_LEVRAGE="3")
    assert "did you mean DEBT_MGMT_MAX_LEVERAGE" in document["findings"][0]["words"]


def test_a_clock_that_is_off_is_wrong_and_a_slow_answer_is_not() -> None:
    slow = clock_finding("clock", NOON, NOON - timedelta(seconds=5), NOON + timedelta(seconds=5))
    assert slow.state is State.OK
    ahead = clock_finding("clock", NOON + timedelta(seconds=60), NOON, NOON)
    assert ahead.state is State.WRONG and "60.0 s" in ahead.words
    assert clock_finding("clock", NOON - timedelta(seconds=60), NOON, NOON).state is State.WRONG


def test_a_missing_price_is_wrong_where_somebody_needs_it() -> None:
    (needed,) = price_findings([MARK], [status(stale=True, stale_symbols=("BTCUSDT",))])
    assert needed.state is State.WRONG and "BTCUSDT" in needed.words and "demo" in needed.words
    (fine,) = price_findings([MARK], [status()])
    assert fine.state is State.OK
    nothing: list[Mark] = []
    assert price_findings(nothing, [])[0].state is State.OK


def test_a_full_disk_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full = type("usage", (), {"total": 100 << 30, "free": 1 << 20})()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert doctor_here.room("disk", tmp_path).state is State.WRONG


@pytest.mark.parametrize(("days", "state"), [(400, State.OK), (3, State.WRONG), (-1, State.WRONG)])
def test_a_certificate_is_told_before_it_expires(days: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = NOON + timedelta(days=days)
    monkeypatch.setattr(doctor_here, "Certificates", lambda *files: type("Ends", (), {"expires_at": ends})())
    assert doctor_here.certificate(Path("a"), Path("b"), None, NOON).state is state


def test_an_unreadable_certificate_and_a_missing_key_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "none.pem"
    assert doctor_here.certificate(file, file, None, NOON).state is State.WRONG
    for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET", "BYBIT_API_KEY_FILE", "BYBIT_API_SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings = read_settings(environment={}, flags={"brokers.bybit.enabled": "true"})
    found: list[Finding] = doctor_here.keys(settings)
    assert [one.state for one in found] == [State.WRONG] and "BYBIT_API_KEY" in found[0].words


def test_settings_are_explained_with_where_they_came_from(tmp_path: Path) -> None:
    file = tmp_path / "house.yaml"
    file.write_text("risk_settings:\n  max_leverage: 3\n")
    document = told(
        "check-config", "--config", str(file), "--explain", code=0, DEBT_MGMT_DB_PORT="5433", DEBT_MGMT_DB_HOST="db",
        DEBT_MGMT_DB_PASSWORD="hunter2",
    )  # fmt: skip
    found = {one["path"]: one for one in document["settings"]}
    assert (found["risk_settings.max_leverage"]["value"], found["risk_settings.max_leverage"]["origin"]) == (
        "3",
        f"{file}:2",
    )
    assert found["database.port"]["origin"] == "environment DEBT_MGMT_DB_PORT"
    assert found["server.address"]["origin"] == "default"
    assert found["database.password"]["value"] == "<secret>" and "hunter2" not in json.dumps(document)
    short = told("check-config", "--config", str(file), code=0)["settings"]
    assert [one["path"] for one in short] == ["risk_settings.max_leverage"]


def test_an_unknown_setting_is_an_error_with_the_one_that_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "house.yaml"
    file.write_text("risk_settings:\n  max_levrage: 3\n  margin_buffer: lots\n")
    done = command("check-config", "--config", str(file))
    assert done.returncode == 2
    assert "max_levrage" in done.stderr and "did you mean risk_settings.max_leverage" in done.stderr
    assert len(told("check-config", "--config", str(file), code=2)["problems"]) == 2
