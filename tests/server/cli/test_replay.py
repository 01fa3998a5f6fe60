"""Which part of a tape is played, and when positions are opened."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from debt_mgmt.server.cli.program import app
from debt_mgmt.server.cli.replay import Plan, Scene, instrument_like, load, scene_of
from debt_mgmt.server.cli.session import Failed
from debt_mgmt.server.cli.typed import Holding
from debt_mgmt.server.prices.tape import Instant

START = datetime(2026, 1, 5, tzinfo=UTC)
HOLDINGS = (Holding("BTCUSD", Decimal(1)), Holding("ETHUSD", Decimal(-2)))


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def film(*instants: str) -> list[Instant]:
    """One instant a minute; each names its symbols by their first letters."""
    names = {"B": "BTCUSD", "E": "ETHUSD"}
    return [
        Instant(minute(number), [(names[letter], Decimal(100 + number)) for letter in letters])
        for number, letters in enumerate(instants)
    ]


def plan(**changes: Any) -> Plan:
    given: dict[str, Any] = {
        "tape": Path("tape.csv"),
        "account_id": "replay",
        "currency": "USD",
        "capital": Decimal(10_000),
        "leverage": Decimal(5),
        "holdings": HOLDINGS,
        "opened_at": None,
        "start": None,
        "end": None,
        "pace": None,
        "defines_instruments": True,
    }
    return Plan(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "scene"),
    [
        ({}, Scene(first=1, opening=1, last=6)),
        ({"opened_at": minute(3)}, Scene(first=3, opening=3, last=6)),
        ({"opened_at": minute(3), "start": minute(2)}, Scene(first=2, opening=3, last=6)),
        ({"opened_at": minute(3), "start": minute(5)}, Scene(first=3, opening=3, last=6)),
        ({"opened_at": minute(3), "end": minute(4)}, Scene(first=3, opening=3, last=5)),
        ({"opened_at": minute(2) + timedelta(seconds=1)}, Scene(first=3, opening=3, last=6)),
        ({"holdings": HOLDINGS[:1]}, Scene(first=0, opening=0, last=6)),
    ],
)
def test_the_playing_begins_where_positions_are_opened(changes: dict[str, Any], scene: Scene) -> None:
    assert scene_of(plan(**changes), film("B", "E", "B", "BE", "E", "B")) == scene


@pytest.mark.parametrize(
    ("changes", "instants", "says"),
    [
        ({"opened_at": minute(9)}, ("BE", "BE"), "no instant at or after"),
        ({}, ("B", "B"), "prices of BTCUSD and ETHUSD"),
        ({"end": minute(0)}, ("B", "E"), "ends before the positions are opened"),
    ],
)
def test_a_plan_that_opens_nothing_is_refused(changes: dict[str, Any], instants: Sequence[str], says: str) -> None:
    with pytest.raises(Failed, match=says):
        scene_of(plan(**changes), film(*instants))


def written(folder: Path, *rows: str) -> Path:
    tape = folder / "tape.csv"
    tape.write_text("\n".join(("timestamp_ms,symbol,close", *rows)) + "\n")
    return tape


def test_a_symbol_that_the_tape_lacks_is_named(tmp_path: Path) -> None:
    tape = written(tmp_path, "1000,BTCUSD,100")
    with pytest.raises(Failed, match="no prices of ETHUSD, only of BTCUSD"):
        load(plan(tape=tape))


@pytest.mark.parametrize("rows", [("1000,BTCUSD,-5",), ("soon,BTCUSD,5",), ()])
def test_a_bad_tape_ends_with_status_2_and_the_reason(tmp_path: Path, rows: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["replay", str(written(tmp_path, *rows)), "--open", "BTCUSD:1"])
    assert result.exit_code == 2
    assert "the tape can't be played: tape.csv" in result.stderr


def test_settings_of_a_service_of_its_own_need_one(tmp_path: Path) -> None:
    tape = written(tmp_path, "1000,BTCUSD,100")
    result = CliRunner().invoke(app, ["replay", str(tape), "--no-spawn", "--fee-rate", "0"])
    assert result.exit_code == 2
    assert "--no-spawn" in result.output


@pytest.mark.parametrize(
    ("symbol", "base"), [("BTCUSD", "BTC"), ("BTC-USD", "BTC"), ("BTC/USD", "BTC"), ("USD", "USD")]
)
def test_an_instrument_is_made_from_its_symbol(symbol: str, base: str) -> None:
    assert instrument_like(symbol, "USD").base_asset == base
