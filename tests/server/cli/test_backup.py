"""`debt-mgmt backup`, `restore` and `audit export` against real data directories."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.server.cli.test_service import asked, run, start
from tests.server.journal.places import open_place


def stopped(service: Any) -> None:
    service.process.send_signal(signal.SIGTERM)
    service.process.communicate(timeout=30)
    assert service.process.returncode == 0


@pytest.fixture
def folders() -> Any:
    with open_place() as first, open_place() as second:
        yield first, second


def test_a_service_is_backed_up_while_it_runs_and_restored_elsewhere(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = folders
    service = start(first)
    try:
        asked(service, "accounts", "create", "alice", "--currency", "USDT")
        events = asked(service, "audit", "list", "--account", "alice")["events"]
        made = asked(None, "backup", str(tmp_path / "backup"), "--data-dir", str(first))
        exported = run(service, "audit", "export", "--out", str(tmp_path / "events.jsonl"), "--account", "alice")
        assert exported.returncode == 0, exported.stderr
        verified = asked(service, "audit", "verify")
        assert verified["intact"]
    finally:
        stopped(service)
    assert made["rows"] == sum(one["last_position"] for one in verified["shards"])
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert lines == events
    assert asked(None, "backup", str(tmp_path / "backup"), "--verify")["rows"] == made["rows"]

    restored = asked(None, "restore", str(tmp_path / "backup"), "--data-dir", str(second))
    assert restored["rows"] == made["rows"]
    refused = run(None, "restore", str(tmp_path / "backup"), "--data-dir", str(second))
    assert refused.returncode == 2
    assert "in use already" in refused.stderr
    again = start(second)
    try:
        assert asked(again, "audit", "list", "--account", "alice")["events"] == events
        assert asked(again, "audit", "verify")["intact"]
        assert asked(again, "status", "alice")
    finally:
        stopped(again)


def test_a_damaged_backup_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    done = run(None, "backup", str(tmp_path / "backup"), "--verify")
    assert done.returncode == 2
    assert "no whole backup" in done.stderr


def test_an_export_does_not_write_over_a_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("mine")
    service = start(folders[0])
    try:
        done = run(service, "audit", "export", "--out", str(tmp_path / "events.jsonl"))
        assert done.returncode == 2
        assert (tmp_path / "events.jsonl").read_text() == "mine"
    finally:
        stopped(service)
