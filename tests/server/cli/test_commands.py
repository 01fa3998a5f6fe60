"""What the commands that look and ask print and return, with a made-up service."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import grpc
import pytest
from typer.testing import Result

from debt_mgmt.client import (
    AccountNotFound,
    AssetAmount,
    DebtMgmtError,
    FieldViolation,
    InvalidRequest,
    Listing,
    Order,
    PriceShock,
    RiskLevel,
    ServerFault,
    SimulatedLeverage,
    Unavailable,
)
from tests.server.cli.made import NOON, PLACE, TOO_HIGH, TOO_MUCH, FakeClient, check, event, position, status

Run = Callable[..., Result]

NOBODY = Unavailable("failed to connect to all addresses", code=grpc.StatusCode.UNAVAILABLE)


def test_an_order_that_fits_ends_with_status_0(run: Run) -> None:
    client = FakeClient(check=check())
    result = run(client, "check-order", "demo", "buy", "0.5", "BTCUSDT", "--price", "59000")
    assert result.exit_code == 0
    assert client.orders == [Order.buy("BTCUSDT", "0.5", 59000)]
    assert "FITS  buy 0.5 BTCUSDT @ 59,000" in result.stdout
    assert "largest that would fit: buy 0.165 and sell 0.765 BTCUSDT" in result.stdout


def test_a_refusal_ends_with_status_1_and_shows_every_reason_with_its_numbers(run: Run) -> None:
    result = run(FakeClient(check=check(TOO_MUCH, TOO_HIGH)), "check-order", "demo", "BUY", "0.5", "BTCUSDT")
    assert result.exit_code == 1
    assert "REFUSED" in result.stdout
    for violation in (TOO_MUCH, TOO_HIGH):
        assert violation.reason.value in result.stdout
        assert violation.message in result.stdout
    assert "6,600" in result.stdout
    assert "4,000" in result.stdout


def test_a_refusal_as_json_has_decimals_as_strings_and_null_for_the_unknown(run: Run) -> None:
    result = run(FakeClient(check=check(TOO_HIGH)), "check-order", "demo", "BUY", "0.5", "BTCUSDT", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["order"]["quantity"] == "0.5"
    assert told["check"]["violations"] == [
        {
            "reason": "UTILIZATION_AFTER",
            "message": TOO_HIGH.message,
            "value": "1.2",
            "limit": "0.8",
            "headroom": None,
            "subject": None,
            "scope": None,
            "limit_set": None,
        }
    ]
    assert told["check"]["mark"]["age"] == 0.4
    assert told["check"]["as_of"] == "2026-01-05T12:00:00Z"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check-order", "demo", "hold", "1", "BTCUSDT"),
        ("check-order", "demo", "buy", "NaN", "BTCUSDT"),
        ("check-order", "demo", "buy", "1", "BTCUSDT", "--position-side", "UP"),
        ("what-if", "demo", "--shock", "ten"),
        ("audit", "list", "--since", "yesterday"),
        ("nonsense",),
    ],
)
def test_wrong_arguments_end_with_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(FakeClient(check=check()), *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (NOBODY, 3, "no service answers at 127.0.0.1:50051. Start one with `debt-mgmt serve --demo`"),
        (
            AccountNotFound("account demo is not known", reason="ACCOUNT_NOT_FOUND"),
            2,
            "ACCOUNT_NOT_FOUND: account demo",
        ),
        (
            InvalidRequest(
                "bad",
                reason="INVALID_REQUEST",
                field_violations=(FieldViolation("account_id", "is empty"), FieldViolation("page_size", "is negative")),
            ),
            2,
            "account_id: is empty\n  page_size: is negative",
        ),
        (ServerFault("a fault of the service", reason="INTERNAL"), 4, "INTERNAL: a fault"),
    ],
)
def test_an_error_is_told_in_words_without_a_traceback(run: Run, error: DebtMgmtError, code: int, says: str) -> None:
    result = run(FakeClient(error=error), "accounts")
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""


def test_an_error_as_json_is_one_line_on_stderr(run: Run) -> None:
    error = InvalidRequest(
        "bad", reason="INVALID_REQUEST", field_violations=(FieldViolation("account_id", "is empty"),)
    )
    result = run(FakeClient(error=error), "accounts", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stderr)["error"]
    assert told["reason"] == "INVALID_REQUEST"
    assert told["fields"] == [{"field": "account_id", "description": "is empty"}]


CROWD = (
    status("calm", "50000", "10000"),
    status("near", "50000", "42000", RiskLevel.CRITICAL),
    status("blind", None, None, RiskLevel.UNKNOWN, stale=True, stale_symbols=("BTCUSDT",)),
    status("gone", "-5", "1000", RiskLevel.LIQUIDATING),
    status("busy", "50000", "36000", RiskLevel.WARNING),
)


def test_the_account_nearest_to_the_edge_comes_first(run: Run) -> None:
    result = run(FakeClient(statuses=CROWD), "status")
    names = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    assert result.exit_code == 0
    assert names[-len(CROWD) :] == ["gone", "near", "blind", "busy", "calm"]
    assert "no equity" in result.stdout


def test_a_status_as_json_keeps_the_unknown_apart_from_zero(run: Run) -> None:
    told = json.loads(run(FakeClient(statuses=CROWD), "status", "--json").stdout)
    by_id = {one["account_id"]: one for one in told["accounts"]}
    assert by_id["blind"]["equity"] is None
    assert by_id["gone"]["margin_utilization"] is None
    assert by_id["calm"]["margin_utilization"] == "0.2"


def test_one_account_is_shown_with_its_working_and_what_protects_it_not(run: Run) -> None:
    result = run(FakeClient(statuses=[status()]), "status", "demo")
    assert "60.0 %" in result.stdout
    assert "collateral 50,000.00 − 125.50 unrealized" in result.stdout
    assert "-6.67 %" in result.stdout
    assert "protections that are OFF: order rate" in result.stdout


@pytest.mark.parametrize("columns", [80, 110, 111, 113, 125, 140])
def test_no_heading_and_no_symbol_is_broken(run: Run, columns: int) -> None:
    held = position(
        entry_price=Decimal("60123.4"),
        mark_price=Decimal("60071.9"),
        notional=Decimal("1218021.57"),
        liquidation_price=Decimal("26829.84"),
        distance_to_liquidation=Decimal("0.553"),
    )
    client: Any = FakeClient(statuses=CROWD)

    async def positions(account_id: str, **_: Any) -> Any:
        return Listing([held], PLACE, NOON)

    client.positions = positions
    lines = [line for line in run(client, "positions", "calm", columns=columns).stdout.splitlines() if line.strip()]
    assert len(lines) == 3, "a heading, a rule, a position"
    assert {"symbol", "quantity", "entry", "mark", "unrealized", "liquidation"} <= set(lines[0].split())
    assert {"BTCUSDT", "26,829.84", "60,071.9"} <= set(lines[2].split())


@pytest.mark.parametrize("columns", [80, 110, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "gone"),
        ("positions", "calm"),
        ("check-order", "calm", "buy", "0.5", "BTCUSDT"),
        ("what-if", "calm", "--shock", "-10%"),
        ("audit", "list"),
        ("accounts",),
    ],
)
def test_nothing_is_wider_than_the_screen(run: Run, arguments: tuple[str, ...], columns: int) -> None:
    client = FakeClient(statuses=CROWD, check=check(TOO_MUCH, TOO_HIGH), events=[event(1)])
    result = run(client, *arguments, columns=columns)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert max(len(line) for line in result.stdout.splitlines()) <= columns
    assert "…" not in result.stdout


def test_changes_apply_in_the_order_in_which_they_are_typed(run: Run) -> None:
    client = FakeClient(statuses=[status()])
    result = run(
        client,
        *("what-if", "--shock", "-10%", "demo", "--order", "buy 0.1 BTCUSDT", "--shock=BTCUSDT=-20%"),
        *("--leverage", "BTCUSDT=3", "--order", "sell 1 ETHUSDT", "--deposit", "USDT 500"),
    )
    assert result.exit_code == 0, result.output
    typed = [
        PriceShock("-0.1"),
        Order.buy("BTCUSDT", "0.1"),
        PriceShock("-0.2", symbol="BTCUSDT"),
        SimulatedLeverage("BTCUSDT", 3),
        Order.sell("ETHUSDT", 1),
        AssetAmount("USDT", 500),
    ]
    assert client.simulated[0] == typed
    assert all(rung[:-1] == typed and isinstance(rung[-1], PriceShock) for rung in client.simulated[1:])


def test_a_refused_change_is_named_with_its_reason(run: Run) -> None:
    client = FakeClient(statuses=[status()], refused_changes=[1])
    result = run(client, "what-if", "demo", "--shock", "-10%", "--order", "buy 1 BTCUSDT")
    lines = result.stdout.splitlines()
    assert "REFUSED" not in next(line for line in lines if "all prices -10.0 %" in line)
    assert "REFUSED" in next(line for line in lines if "buy 1 BTCUSDT" in line)
    assert TOO_MUCH.message in result.stdout


def test_the_ladder_names_each_rung(run: Run) -> None:
    told = json.loads(run(FakeClient(statuses=[status()]), "what-if", "demo", "--json").stdout)
    assert [rung["fraction"] for rung in told["ladder"]] == ["-0.3", "-0.2", "-0.1", "-0.05", "0", "0.05", "0.1", "0.2"]


def test_the_newest_events_are_listed_the_newest_last(run: Run) -> None:
    client = FakeClient(events=[event(position) for position in range(1, 6)])
    told = json.loads(
        run(client, "audit", "list", "--account", "demo", "--kind", "A", "--kind", "B", "--limit", "2", "--json").stdout
    )
    assert [one["revision"]["position"] for one in told["events"]] == [4, 5]
    assert told["events"][0]["payload"] == {"symbol": "BTCUSDT"}
    assert client.filters["kinds"] == ["A", "B"]
    assert client.filters["account_id"] == "demo"


def test_an_event_is_said_in_a_line(run: Run) -> None:
    payload = (
        '{"event": "FillRecorded", "symbol": "BTCUSDT", "quantity": "0.30", "figures": {"equity": "1"}, "marks": []}'
    )
    result = run(FakeClient(events=[event(1, "FillRecorded", payload)]), "audit", "list")
    assert "FillRecorded  symbol BTCUSDT, quantity 0.3" in result.stdout
    assert "debt-mgmt" in result.stdout
    assert "equity" not in result.stdout


def test_the_version_is_told(run: Run) -> None:
    assert run(FakeClient(), "version").stdout.startswith("debt-mgmt ")
    assert "version" in json.loads(run(FakeClient(), "version", "--json").stdout)


def test_help_lists_the_commands_and_what_the_exit_status_says(run: Run) -> None:
    told = run(FakeClient(), "--help").stdout
    for name in ("serve", "demo", "replay", "status", "watch", "check-order", "what-if", "audit", "positions"):
        assert name in told
    assert "Exit status" in told
