"""What the commands about accounts at exchanges print and return, with a made-up service."""

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest
from typer.testing import Result

from debt_mgmt.client import (
    Account,
    AccountCreated,
    AccountSync,
    AssetAmount,
    Broker,
    BrokerCapability,
    BrokerFeature,
    BrokerNotReady,
    Environment,
    FigureDrift,
    LeveragePath,
    Listing,
    Provenance,
    RefusalReason,
    SetDryRunOutcome,
    SyncAccountOutcome,
    SyncDifference,
    SyncStatus,
    Violation,
    enums,
)
from debt_mgmt.server.cli.live import sync_text
from debt_mgmt.server.cli.serve import feeds_of
from tests.server.cli.made import NOON, PLACE, FakeClient, account

Run = Callable[..., Result]

FRESH = AccountSync(
    status=SyncStatus.FRESH,
    reason=None,
    sync_time=NOON,
    age=timedelta(seconds=3),
    venue_currency="USDT",
    venue_equity=Decimal("10400"),
    venue_initial_margin=None,
    venue_maintenance_margin=None,
    venue_provenance=Provenance.VENUE,
    drifts=(FigureDrift(name="equity", own_value=Decimal(9000), venue_value=Decimal(10400), tolerance=Decimal(208)),),
)
LOST = dataclasses.replace(FRESH, status=SyncStatus.LOST, reason="connection refused", drifts=())
ANSWER: dict[str, Any] = {"revision": PLACE, "as_of": NOON, "replayed": False}
REFUSED = Violation(
    reason=RefusalReason.NOT_SUPPORTED, message="a sandbox account has no venue",
    value=None, limit=None, headroom=None, subject="demo",
)  # fmt: skip


def live(sync: AccountSync = FRESH, *, dry_run: bool = True) -> Account:
    return dataclasses.replace(
        account("desk-1"), broker="bybit", environment=Environment.LIVE, dry_run=dry_run, sync=sync
    )


def broker(name: str, enabled: bool, able: bool) -> Broker:
    return Broker(
        broker=name,
        display_name=name.title(),
        enabled=enabled,
        disabled_reason=None if enabled else f"{name} has no key: set {name.upper()}_API_KEY",
        max_leverage=Decimal(5),
        leverage_step=Decimal("0.01"),
        testnet=enums.Testnet.SANDBOX,
        leverage_path=LeveragePath.ENDPOINT,
        capabilities=(BrokerCapability(feature=BrokerFeature.SET_LEVERAGE, supported=able, note=None),),
        max_state_age=timedelta(seconds=60),
    )


class LiveClient(FakeClient):
    """Answers what the tests say, and remembers what it was asked for."""

    def __init__(self, *, violations: tuple[Violation, ...] = (), **more: Any) -> None:
        super().__init__(**more)
        self.violations = violations
        self.asked: list[Any] = []
        self.differences: tuple[SyncDifference, ...] = ()

    async def create_account(self, account_id: str, **wanted: Any) -> AccountCreated:
        self.fail()
        if wanted["environment"] == "moon":
            raise ValueError("environment must be one of SANDBOX, TESTNET, LIVE, not 'moon'")
        self.asked.append((account_id, {name: value for name, value in wanted.items() if value is not None}))
        return AccountCreated(account=live(), **ANSWER)

    async def sync_account(self, account_id: str) -> SyncAccountOutcome:
        self.fail()
        accepted = not self.violations
        return SyncAccountOutcome(
            account=live(), differences=self.differences, accepted=accepted, violations=self.violations, **ANSWER
        )

    async def set_dry_run(self, account_id: str, dry_run: bool, *, reason: str | None = None) -> SetDryRunOutcome:
        self.asked.append((account_id, dry_run, reason))
        return SetDryRunOutcome(account=live(dry_run=dry_run), accepted=True, violations=(), **ANSWER)

    async def brokers(self) -> Listing[Broker]:
        return Listing([broker("bybit", True, True), broker("okx", False, False)], PLACE, NOON)


def test_an_account_at_an_exchange_is_opened_and_begins_in_dry_run(run: Run) -> None:
    client = LiveClient()
    result = run(client, "accounts", "create", "desk-1", "--broker", "bybit", "--environment", "live")
    assert result.exit_code == 0, result.output
    assert client.asked == [("desk-1", {"broker": "bybit", "environment": "live"})]
    assert "dry run" in result.stdout and "bybit live" in result.stdout


def test_a_sandbox_account_is_opened_with_a_deposit(run: Run) -> None:
    client = LiveClient()
    assert run(client, "accounts", "create", "a", "--deposit", "USDT 500", "--hedge", "--no-dry-run").exit_code == 0
    wanted = {"position_mode": "HEDGE", "initial_deposit": AssetAmount("USDT", 500), "dry_run": False}
    assert client.asked == [("a", wanted)]


def test_an_environment_that_is_none_is_a_wrong_argument(run: Run) -> None:
    result = run(LiveClient(), "accounts", "create", "a", "--environment", "moon")
    assert result.exit_code == 2 and "SANDBOX, TESTNET, LIVE" in result.stderr


def test_an_exchange_that_is_not_ready_says_why(run: Run) -> None:
    error = BrokerNotReady("bybit has no key: set BYBIT_API_KEY", code=grpc.StatusCode.FAILED_PRECONDITION)
    result = run(LiveClient(error=error), "accounts", "create", "desk-1", "--broker", "bybit")
    assert result.exit_code == 2 and "BYBIT_API_KEY" in result.stderr


def test_a_sync_shows_every_difference(run: Run) -> None:
    client = LiveClient()
    client.differences = (
        SyncDifference(
            field="quantity", subject="bybit:BTCUSDT", recorded_value=None, broker_value="0.1", within_tolerance=False
        ),
    )
    result = run(client, "accounts", "sync", "desk-1")
    assert result.exit_code == 0
    for words in ("read 3.0 s ago", "10,400", "quantity", "bybit:BTCUSDT", "nothing", "0.1", "equity is 9,000.00 here"):
        assert words in result.stdout
    told = json.loads(run(client, "accounts", "sync", "desk-1", "--json").stdout)
    assert told["differences"][0]["recorded_value"] is None
    assert told["account"]["sync"]["status"] == "FRESH"


def test_a_sync_that_is_refused_ends_with_status_1(run: Run) -> None:
    result = run(LiveClient(violations=(REFUSED,)), "accounts", "sync", "demo")
    assert result.exit_code == 1 and "no venue" in result.stderr


@pytest.mark.parametrize(("switch", "on"), [("on", True), ("off", False)])
def test_dry_run_is_switched_with_a_reason(run: Run, switch: str, on: bool) -> None:
    client = LiveClient()
    result = run(client, "accounts", "dry-run", "desk-1", switch, "--reason", "tried for a week")
    assert result.exit_code == 0
    assert client.asked == [("desk-1", on, "tried for a week")]
    assert ("recorded and none is sent" in result.stdout) is on


def test_dry_run_is_on_or_off(run: Run) -> None:
    assert run(LiveClient(), "accounts", "dry-run", "desk-1", "maybe").exit_code == 2


def test_brokers_are_shown_side_by_side_with_why_one_can_not_be_used(run: Run) -> None:
    result = run(LiveClient(), "brokers")
    assert result.exit_code == 0
    for words in ("bybit", "okx", "set leverage", "okx has no key: set OKX_API_KEY"):
        assert words in result.stdout
    told = json.loads(run(LiveClient(), "brokers", "--json").stdout)
    assert [one["enabled"] for one in told["brokers"]] == [True, False]


def test_a_lost_account_says_so() -> None:
    assert "OUT OF SIGHT, last read 3.0 s ago: connection refused" in sync_text(live(LOST)).plain


def test_the_list_of_accounts_is_still_there_without_a_word_after_it(run: Run) -> None:
    result = run(LiveClient(), "accounts")
    assert result.exit_code == 0 and "no accounts yet" in result.stdout


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        (["bybit:BTCUSDT,ETHUSDT"], '{"bybit": "BTCUSDT,ETHUSDT"}'),
        (["bybit:BTCUSDT", "okx:BTCUSDT", "bybit:ETHUSDT"], '{"bybit": "BTCUSDT,ETHUSDT", "okx": "BTCUSDT"}'),
    ],
)
def test_feeds_become_the_setting(given: list[str], setting: str) -> None:
    assert feeds_of(given) == setting


@pytest.mark.parametrize("feed", ["BTCUSDT", "bybit:", "nobody:BTCUSDT", "bybit:BTC USDT"])
def test_a_feed_that_is_none_is_a_wrong_argument(run: Run, feed: str) -> None:
    assert run(LiveClient(), "serve", "--feed", feed).exit_code == 2
