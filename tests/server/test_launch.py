"""The command debt-mgmt where only the SDK is installed."""

import importlib

import pytest

from debt_mgmt.server import __main__ as launch


def fails_to_import(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_without_the_server_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_to_import("typer", monkeypatch)
    with pytest.raises(SystemExit) as ended:
        launch.main()
    assert ended.value.code == 2
    assert "need typer" in (told := capsys.readouterr().err)
    assert "pip install 'debt-mgmt[server]'" in told


def test_a_fault_of_our_own_is_not_taken_for_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    fails_to_import("debt_mgmt.server.nowhere", monkeypatch)
    with pytest.raises(ModuleNotFoundError):
        launch.main()
