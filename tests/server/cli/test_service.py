"""Every command against the service that `debt-mgmt serve` runs."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.server.journal.places import open_place

COMMAND = (sys.executable, "-m", "debt_mgmt.server")
PROJECT = Path(__file__).parents[3]
SOURCES = os.pathsep.join(str(PROJECT / folder) for folder in ("core", "server", "client"))
TAPE = PROJECT.parent / "shared" / "data" / "btc-eth-usd-1m-2017-09-03.csv.gz"
START_MS = 1_700_000_000_000


@dataclass
class Service:
    """A service run by `serve --demo`, and what it said when it was ready."""

    process: "subprocess.Popen[str]"
    said: dict[str, Any]


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("DEBT_MGMT_")}
    return own | {"PYTHONPATH": SOURCES, "COLUMNS": "100", "PYTHONUNBUFFERED": "1"} | more


def start(data_directory: Path, *arguments: str) -> Service:
    anywhere = ("--address", "127.0.0.1:0", "--metrics-port", "0", "--data-dir", str(data_directory))
    process = subprocess.Popen(
        [*COMMAND, "serve", "--json", *anywhere, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    return Service(process, json.loads(line))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with open_place() as directory:
        running = start(directory, "--demo")
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


def run(service: Service | None, *arguments: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
    target = {} if service is None else {"DEBT_MGMT_TARGET": service.said["target"]}
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, env=environment(**target), text=True, timeout=seconds, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def asked(service: Service | None, *arguments: str, code: int = 0, seconds: float = 60) -> Any:
    """The JSON document that a command prints."""
    done = run(service, *arguments, "--json", seconds=seconds)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_the_demo_account_is_there_at_once(service: Service) -> None:
    told = asked(service, "status", "demo")
    assert Decimal(told["status"]["equity"]) > 0
    assert {one["symbol"] for one in told["positions"]} == {"BTCUSDT", "ETHUSDT"}
    assert "demo" in run(service, "status").stdout
    assert [one["account_id"] for one in asked(service, "accounts")["accounts"]][:1] == ["demo"]
    assert len(asked(service, "positions", "demo", "--symbol", "BTCUSDT")["positions"]) == 1


def test_an_order_is_checked_with_the_largest_that_fits(service: Service) -> None:
    refused = asked(service, "check-order", "demo", "buy", "10", "BTCUSDT", code=1)["check"]
    assert [one["reason"] for one in refused["violations"]] == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    less = str(Decimal(refused["largest_buy"]) / 2 // Decimal("0.001") * Decimal("0.001"))
    assert asked(service, "check-order", "demo", "buy", less, "BTCUSDT")["check"]["fits"] is True
    assert asked(service, "check-order", "demo", "sell", "0.3", "BTCUSDT", "--reduce-only")["check"]["reducing"] is True


def test_what_if_gives_before_after_and_a_ladder(service: Service) -> None:
    told = asked(service, "what-if", "demo", "--shock", "-2%", "--deposit", "USDT 500", "--order", "buy 0.001 BTCUSDT")
    assert [one["accepted"] for one in told["simulation"]["results"]] == [True, True, True]
    before, after = (told["simulation"][name]["figures"] for name in ("before", "after"))
    assert Decimal(after["equity"]) < Decimal(before["equity"])
    shares = [Decimal(rung["figures"]["margin_utilization"] or "9") for rung in told["ladder"]]
    assert shares == sorted(shares, reverse=True)


def test_a_watch_gives_a_line_for_each_thing(service: Service) -> None:
    done = run(service, "watch", "demo", "--seconds", "1.5", "--interval", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines[:2]] == ["snapshot", "snapshot_complete"]
    assert any(line["event"] == "update" for line in lines)
    assert "demo" in run(service, "watch", "--seconds", "1").stdout


def test_money_is_borrowed_paid_back_and_accounted_for(service: Service, tmp_path: Path) -> None:
    lent = asked(service, "borrow", "demo", "USDT", "100")["outcome"]
    assert lent["accepted"] and lent["debt"]["principal"] == "100"
    refused = asked(service, "borrow", "demo", "USDT", "100000000", code=1)["outcome"]
    assert [one["reason"] for one in refused["violations"]] == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    found = asked(service, "debt", "demo")
    assert found["summary"]["borrowed"] == "100" and len(found["charges"]) == 1 and found["rates"]
    paid = asked(service, "repay", "demo", "USDT")["outcome"]
    assert paid["principal_paid"] == "100" and paid["debt"] is None
    assert asked(service, "debt")["debts"] == []
    assert asked(service, "funds", "demo")["funds"]["starting_capital"] == {"asset": "USDT", "amount": "10000"}
    told = asked(service, "pnl", "demo")["in_all"]["profit_and_loss"]
    assert told["transfers"] == "10000" and Decimal(told["interest"]) == -Decimal(paid["interest_paid"])
    assert sum(Decimal(told[name]) for name in told if name != "total") == Decimal(told["total"])
    picture = tmp_path / "demo.svg"
    (today,) = asked(service, "history", "demo", "--interval", "day", "--output", str(picture))["entries"]
    assert Decimal(today["equity"]) > 0 and picture.read_text("utf-8").startswith("<svg ")
    shown = run(service, "history", "demo", "--interval", "hour", "--plot")
    assert "Equity of demo in USDT" in shown.stdout


def test_the_journal_is_listed(service: Service) -> None:
    told = asked(service, "audit", "list", "--account", "demo", "--kind", "AccountCreated")["events"]
    assert [one["kind"] for one in told] == ["AccountCreated"]
    assert told[0]["payload"]["account_id"] == "demo"
    assert len(asked(service, "audit", "list", "--limit", "3")["events"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("status", "nobody"), 2, "ACCOUNT_NOT_FOUND"),
        (("check-order", "demo", "buy", "1", "###"), 2, "order.symbol"),
        (("check-order", "demo", "buy", "-1", "BTCUSDT"), 2, ""),
    ],
)
def test_what_the_service_does_not_accept_is_said(
    service: Service, arguments: Sequence[str], code: int, says: str
) -> None:
    done = run(service, *arguments)
    assert done.returncode == code
    assert says in done.stderr


@pytest.mark.parametrize("arguments", [("status",), ("watch",), ("check-order", "demo", "buy", "1", "BTCUSDT")])
def test_without_a_service_it_says_how_to_start_one(arguments: Sequence[str]) -> None:
    done = run(None, *arguments, "--target", "127.0.0.1:9")
    assert done.returncode == 3
    assert "debt-mgmt serve --demo" in done.stderr


def falling_tape(folder: Path) -> Path:
    """BTCUSD and a symbol of its own fall from 100 to 84, a tenth of a point each minute."""
    tape = folder / "falling.csv"
    with tape.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("timestamp_ms", "symbol", "close"))
        for minute in range(161):
            for symbol in ("BTCUSD", "XYZUSD"):
                rows.writerow((START_MS + 60_000 * minute, symbol, Decimal(1000 - minute) / 10))
    return tape


def test_a_replay_tells_each_crossing_and_the_reduction_by_the_tapes_own_time(tmp_path: Path) -> None:
    tape = falling_tape(tmp_path)
    held = ("--open", "BTCUSD:200", "--open", "XYZUSD:100")
    told = asked(None, "replay", str(tape), "--spawn", *held, "--fee-rate", "0", "--slippage", "0")
    raised = [(one["level"], one["time"]) for one in told["alerts"] if one["kind"] == "LEVEL_RAISED"]
    assert [level for level, _ in raised] == ["WARNING", "CRITICAL", "LIQUIDATING"]
    # Used 6,000 × (1 − d) of 10,000 − 30,000 × d is 0.7, 0.8 and 0.9 at a fall d of 6.67 %, 11.1 % and 14.3 %.
    minutes = [(seconds_of(time) - START_MS // 1000) // 60 for _, time in raised]
    assert minutes == [67, 112, 143]
    assert [one["liquidation"]["state"] for one in told["reductions"]] == ["COMPLETED"]
    assert Decimal(told["reductions"][0]["liquidation"]["utilization_after"]) <= Decimal("0.70")
    assert Decimal(told["summary"]["highest_utilization"]["value"]) > Decimal("0.90")
    assert told["marks_held_back"] == 0


def seconds_of(time: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(time).timestamp())


def test_a_replay_to_a_running_service_leaves_the_account_there(service: Service, tmp_path: Path) -> None:
    arguments = ("--open", "BTCUSD:-200", "--account", "played", "--to", "2023-11-14T22:20", "--speed", "6000")
    done = run(service, "replay", str(falling_tape(tmp_path)), *arguments)
    assert done.returncode == 0, done.stderr
    assert "not played, being no instruments there: XYZUSD" in done.stderr
    assert "debt-mgmt status played" in done.stdout
    assert Decimal(asked(service, "status", "played")["status"]["unrealized_pnl"]) > 0
    again = run(service, "replay", str(falling_tape(tmp_path)), *arguments)
    assert again.returncode == 2
    assert "ACCOUNT_EXISTS" in again.stderr


@pytest.mark.skipif(not TAPE.exists(), reason="the recording is not beside the project")
def test_the_recorded_market_crosses_its_levels_in_the_minutes_known() -> None:
    told = asked(None, "replay", str(TAPE), "--spawn", "--fee-rate", "0", "--slippage", "0", seconds=120)
    first: dict[str, str] = {}
    for one in told["alerts"]:
        if one["kind"] == "LEVEL_RAISED":
            first.setdefault(one["level"], one["time"])
    day = "2017-09-04T"
    assert first == {"WARNING": f"{day}08:06:00Z", "CRITICAL": f"{day}12:15:00Z", "LIQUIDATING": f"{day}14:57:00Z"}
    equities = {one["time"]: round(Decimal(one["equity"]), 2) for one in told["alerts"] if one["equity"] is not None}
    assert [equities[time] for time in first.values()] == [Decimal("7985.78"), Decimal("6659.46"), Decimal("5635.47")]
    (reduction,) = told["reductions"]
    assert reduction["time"] == f"{day}14:57:00Z"
    assert [step["symbol"] for step in reduction["liquidation"]["steps"]] == ["ETHUSD"]
    summary = told["summary"]
    assert round(Decimal(summary["highest_utilization"]["value"]), 4) == Decimal("0.9098")
    assert round(Decimal(summary["highest_utilization_after_reduction"]["value"]), 3) == Decimal("0.729")
    assert round(Decimal(summary["lowest_equity"]["value"])) == 5323
    assert round(Decimal(summary["end_equity"])) == 7051


def test_the_demo_tells_the_whole_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    done = subprocess.run(
        [*COMMAND, "demo", "--fast", "--json"],
        capture_output=True,
        env=environment(TMPDIR=str(tmp_path)),
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["fits"]["check"]["fits"] is True
    assert told["refused"]["check"]["fits"] is False
    assert told["largest"]["check"]["fits"] is True
    assert told["critical"]["adding"]["fits"] is False
    assert told["critical"]["reducing"]["fits"] is True
    raised = [alert["level"] for step in told["fall"] for alert in step["alerts"] if alert["kind"] == "LEVEL_RAISED"]
    assert raised == ["WARNING", "CRITICAL", "LIQUIDATING"]
    assert Decimal(told["reduction"]["utilization_before"]) >= Decimal("0.90")
    assert Decimal(told["safe"]["margin_utilization"]) <= Decimal("0.70")
    assert Decimal(told["bottom"]["idle"]["after"]["figures"]["equity"]) < 0
    assert Decimal(told["bottom"]["protected"]["equity"]) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_demo_fits_a_terminal_of_100_columns() -> None:
    done = run(None, "demo", "--fast")
    assert done.returncode == 0, done.stderr
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 100
    for words in ("FITS", "REFUSED", "WARNING", "CRITICAL", "LIQUIDATING", "reduce-only", "With nobody acting"):
        assert words in done.stdout


def test_serve_drains_and_ends_when_told_to() -> None:
    with open_place() as directory:
        running = start(directory)
        assert asked(running, "accounts")["accounts"] == []
        running.process.send_signal(signal.SIGTERM)
        running.process.communicate(timeout=30)
        assert running.process.returncode == 0


def test_a_hangup_does_not_end_a_service_without_a_terminal() -> None:
    with open_place() as directory:
        running = start(directory)
        running.process.send_signal(signal.SIGHUP)
        assert asked(running, "accounts")["accounts"] == []
        running.process.send_signal(signal.SIGTERM)
        _, said = running.process.communicate(timeout=30)
        assert running.process.returncode == 0
    assert "SIGHUP is ignored" in said
    assert "WARNING" not in said.replace("PostgreSQL does not run as root", ""), "a first start is no cause for alarm"


def test_a_service_without_standard_input_serves_and_stops() -> None:
    """As supervisors start it that close what they do not use."""
    with open_place() as directory:
        anywhere = ("--address", "127.0.0.1:0", "--metrics-port", "0", "--data-dir", str(directory))
        closed = ["sh", "-c", 'exec "$0" "$@" <&-', *COMMAND, "serve", "--json", *anywhere]
        process = subprocess.Popen(
            closed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
        )  # fmt: skip
        assert process.stdout is not None
        running = Service(process, json.loads(process.stdout.readline()))
        assert asked(running, "accounts")["accounts"] == []
        process.terminate()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said


def test_a_port_that_is_taken_is_said_in_a_line(service: Service) -> None:
    with open_place() as directory:
        arguments = ("--address", service.said["target"], "--metrics-port", "0", "--data-dir", str(directory))
        done = run(None, "serve", *arguments)
    assert done.returncode == 2
    assert "port 0 takes a free one" in done.stderr


def test_the_example_runs_beside_it(service: Service) -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "examples" / "quickstart.py")],
        capture_output=True,
        env=environment(DEBT_MGMT_TARGET=service.said["target"]),
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fits")
    assert len(done.stdout.splitlines()) == 6
