"""Simulated exchanges as a test bench: how they are started, reached and told what to do."""

import asyncio
import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner

from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.cli import venue_simulator
from debt_mgmt.server.cli.program import app


def called(url: str, **body: Any) -> Any:
    """What a simulator answers: to a POST where there is a body."""
    sent = json.dumps(body).encode() if body else None
    with urlopen(Request(url, sent, {"Content-Type": "application/json"}), timeout=10) as answer:
        return json.loads(answer.read())


def test_they_run_until_they_are_told_to_stop() -> None:
    command = ["venue-simulator", "bybit", "okx", "--port", "0", "--seed-account", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "debt_mgmt.server", *command], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            venues = json.loads(running.stdout.readline())["venues"]
            assert list(venues) == ["bybit", "okx"]
            bybit = venues["bybit"]["url"]
            assert venues["bybit"]["environment"]["DEBT_MGMT_BROKERS_BYBIT_URL"] == bybit
            assert {"OKX_API_KEY", "OKX_API_SECRET", "OKX_PASSPHRASE"} < set(venues["okx"]["environment"])
            assert called(f"{bybit}/simulator/mark", symbol="BTCUSDT", price="58000")["price"] == "58000"
            account = called(f"{bybit}/simulator/account")
            assert [position["quantity"] for position in account["positions"]] == ["0.208"]
            assert account["marks"]["BTCUSDT"] == "58000"
            assert called(f"{bybit}/v5/market/tickers?category=linear&symbol=BTCUSDT")["retCode"] == 0
            called(f"{bybit}/simulator/fault", match="market/time", kind="REFUSED", code="10016", message="no")
            assert called(f"{bybit}/v5/market/time")["retCode"] == 10016
            assert called(f"{bybit}/v5/market/time")["retCode"] == 0
            assert called(f"{bybit}/simulator/liquidate", symbol="BTCUSDT")["quantity"] == "0.208"
            asked = [request["path"] for request in called(f"{bybit}/simulator/requests")]
            assert asked == ["/v5/market/tickers", "/v5/market/time", "/v5/market/time"]
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=20) == 0


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_exchange_has_one_with_an_account_to_begin_with(name: str) -> None:
    simulator = venue_simulator.simulator_of(name)
    simulator.seed()
    assert len(simulator.book.held()) == 1
    assert len(simulator.book.open_orders()) == 1
    health = simulator.book.health()
    assert Decimal(9_000) < health.equity < Decimal(11_000)
    assert Decimal(0) < health.maintenance_margin < health.initial_margin < health.equity


def test_an_unknown_exchange_is_a_mistake() -> None:
    result = CliRunner().invoke(app, ["venue-simulator", "mtgox"], env={"COLUMNS": "120"})
    assert result.exit_code == 2
    assert "no such exchange" in result.stderr


def test_an_installation_without_them_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(venue_simulator, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(venue_simulator, "IN_THE_PROJECT", tmp_path / "none")
    result = CliRunner().invoke(app, ["venue-simulator", "bybit"])
    assert result.exit_code == 2
    assert "not part of this installation" in result.stderr


def test_a_taken_port_is_told() -> None:
    with asyncio.Runner() as runner:
        first = venue_simulator.simulator_of("bybit")
        port = runner.run(first.start())
        try:
            result = subprocess.run(
                [sys.executable, "-m", "debt_mgmt.server", "venue-simulator", "bybit", "--port", str(port)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            runner.run(first.stop())
    assert result.returncode == 2
    assert "choose another --port" in result.stderr
