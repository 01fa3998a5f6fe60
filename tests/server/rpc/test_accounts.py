"""AccountService: opening, showing and closing accounts; brokers and what they can do."""

from datetime import UTC
from typing import Any

import pytest

from debt_mgmt.core.account import Side
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.shard_answers import RequestIdReused
from debt_mgmt.v1 import account_service_pb2 as wire
from debt_mgmt.v1 import rejections_pb2, types_pb2
from tests.server.rpc.edge import CALL, START, Edge, running_edge, without_replayed


def creation(account_id: str = "alice", **fields: Any) -> wire.CreateAccountRequest:
    return wire.CreateAccountRequest(**({"request_id": f"create-{account_id}", "account_id": account_id} | fields))


async def test_what_is_not_said_has_a_default(edge: Edge) -> None:
    answer = await edge.accounts.CreateAccount(creation(), CALL)
    account = answer.account
    assert (account.account_id, account.owner, account.broker, account.currency) == ("alice", "alice", "paper", "INR")
    assert account.environment == types_pb2.ENVIRONMENT_SANDBOX
    assert (account.position_mode, account.margin_mode) == (
        types_pb2.POSITION_MODE_ONE_WAY,
        types_pb2.MARGIN_MODE_CROSS,
    )
    assert [(one.asset, one.amount) for one in account.balances] == [("INR", "10000000")]
    assert (account.level, account.trading_state) == (types_pb2.RISK_LEVEL_NORMAL, types_pb2.TRADING_STATE_ACTIVE)
    assert account.create_time.ToDatetime(UTC) == START
    assert not (account.HasField("close_time") or account.dry_run or answer.replayed)
    assert account.revision == answer.revision
    shown = await edge.accounts.GetAccount(wire.GetAccountRequest(account_id="alice"), CALL)
    assert shown.account == account


async def test_what_is_said_is_kept(edge: Edge) -> None:
    request = creation(
        owner="desk-1",
        broker="bybit",
        environment=types_pb2.ENVIRONMENT_SANDBOX,
        currency="USDT",
        position_mode=types_pb2.POSITION_MODE_HEDGE,
        margin_mode=types_pb2.MARGIN_MODE_ISOLATED,
        initial_deposit=types_pb2.AssetAmount(asset="EUR", amount="0"),
    )
    account = (await edge.accounts.CreateAccount(request, CALL)).account
    assert (account.owner, account.broker, account.currency) == ("desk-1", "bybit", "USDT")
    assert (account.position_mode, account.margin_mode) == (
        types_pb2.POSITION_MODE_HEDGE,
        types_pb2.MARGIN_MODE_ISOLATED,
    )
    assert not account.balances


async def test_every_malformed_field_is_named(edge: Edge) -> None:
    request = creation(
        "a b",
        request_id="",
        owner="ö",
        broker="ftx",
        environment=9,
        currency="U/S",
        position_mode=9,
        margin_mode=-1,
        initial_deposit=types_pb2.AssetAmount(asset="", amount="-1"),
    )
    with pytest.raises(InvalidRequest) as raised:
        await edge.accounts.CreateAccount(request, CALL)
    assert {field for field, _ in raised.value.problems} == {
        "request_id", "account_id", "owner", "broker", "environment", "currency", "position_mode", "margin_mode",
        "initial_deposit.asset", "initial_deposit.amount",
    }  # fmt: skip
    assert not edge.engine.accounts()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"environment": types_pb2.ENVIRONMENT_TESTNET}, "broker"),
        ({"environment": types_pb2.ENVIRONMENT_LIVE, "broker": "paper"}, "broker"),
        ({"dry_run": True}, "dry_run"),
    ],
)
async def test_a_live_account_is_at_an_exchange_and_a_sandbox_account_has_no_dry_run(
    edge: Edge, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await edge.accounts.CreateAccount(creation(**fields), CALL)
    assert [one for one, _ in raised.value.problems] == [field]
    assert not edge.engine.accounts()


@pytest.mark.parametrize("environment", [types_pb2.ENVIRONMENT_TESTNET, types_pb2.ENVIRONMENT_LIVE])
async def test_an_exchange_that_is_not_enabled_takes_no_account(edge: Edge, environment: Any) -> None:
    with pytest.raises(Fault) as raised:
        await edge.accounts.CreateAccount(creation(environment=environment, broker="binance"), CALL)
    assert raised.value.reason is FaultReason.BROKER_NOT_READY
    assert "brokers.binance.enabled" in raised.value.message
    assert not edge.engine.accounts()


async def test_a_repeated_creation_gets_the_same_answer_whatever_happened_since(edge: Edge) -> None:
    request = creation(currency="USDT", initial_deposit=types_pb2.AssetAmount(asset="USDT", amount="10000"))
    first = await edge.accounts.CreateAccount(request, CALL)
    await edge.mark(BTCUSDT="50000")
    await edge.fill("alice", Side.BUY, "0.1", "BTCUSDT", "49000")
    edge.clock.advance(minutes=5)
    again = await edge.accounts.CreateAccount(request, CALL)
    assert again.replayed
    assert without_replayed(again) == first


async def test_another_body_under_the_same_request_id_is_refused(edge: Edge) -> None:
    await edge.accounts.CreateAccount(creation(), CALL)
    with pytest.raises(RequestIdReused):
        await edge.accounts.CreateAccount(creation(currency="USDT"), CALL)


async def test_a_taken_id_is_refused(edge: Edge) -> None:
    await edge.accounts.CreateAccount(creation(), CALL)
    with pytest.raises(Fault) as raised:
        await edge.accounts.CreateAccount(creation(request_id="another"), CALL)
    assert raised.value.reason is FaultReason.ACCOUNT_EXISTS


async def test_an_unknown_account_is_not_found(edge: Edge) -> None:
    with pytest.raises(Fault) as raised:
        await edge.accounts.GetAccount(wire.GetAccountRequest(account_id="nobody"), CALL)
    assert raised.value.reason is FaultReason.ACCOUNT_NOT_FOUND
    with pytest.raises(Fault) as raised:
        await edge.accounts.CloseAccount(wire.CloseAccountRequest(request_id="r", account_id="nobody"), CALL)
    assert raised.value.reason is FaultReason.ACCOUNT_NOT_FOUND


# Listing


async def names(edge: Edge, **fields: Any) -> list[str]:
    answer = await edge.accounts.ListAccounts(wire.ListAccountsRequest(**fields), CALL)
    return [account.account_id for account in answer.accounts]


async def test_accounts_are_listed_by_id_and_filters_add_up(edge: Edge) -> None:
    for account_id, owner, broker in (
        ("d", "one", "paper"),
        ("b", "two", "paper"),
        ("a", "one", "bybit"),
        ("c", "one", "paper"),
    ):
        await edge.accounts.CreateAccount(creation(account_id, owner=owner, broker=broker), CALL)
    await edge.accounts.CloseAccount(wire.CloseAccountRequest(request_id="close", account_id="c"), CALL)
    assert await names(edge) == ["a", "b", "d"]
    assert await names(edge, include_closed=True) == ["a", "b", "c", "d"]
    assert await names(edge, owner="one") == ["a", "d"]
    assert await names(edge, owner="one", broker="paper") == ["d"]
    assert await names(edge, environment=types_pb2.ENVIRONMENT_LIVE) == []


async def test_accounts_are_paged(edge: Edge) -> None:
    ids = [f"account-{number}" for number in range(7)]
    for account_id in ids:
        await edge.open(account_id, owner="pages")
    found: list[str] = []
    token = ""
    while True:
        request = wire.ListAccountsRequest(page_size=3, page_token=token, owner="pages")
        answer = await edge.accounts.ListAccounts(request, CALL)
        found += [account.account_id for account in answer.accounts]
        token = answer.next_page_token
        if not token:
            break
        with pytest.raises(Fault):
            await edge.accounts.ListAccounts(wire.ListAccountsRequest(page_token=token, owner="others"), CALL)
    assert found == ids


# Closing


async def test_an_open_position_keeps_an_account_open(edge: Edge) -> None:
    await edge.long_bitcoin()
    request = wire.CloseAccountRequest(request_id="close", account_id="alice")
    answer = await edge.accounts.CloseAccount(request, CALL)
    assert not answer.accepted
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_OPEN_POSITIONS]
    assert not answer.account.HasField("close_time")
    await edge.fill("alice", Side.SELL, "0.1", "BTCUSDT", "52000")
    again = await edge.accounts.CloseAccount(request, CALL)
    assert again.replayed
    assert without_replayed(again) == answer
    other = await edge.accounts.CloseAccount(wire.CloseAccountRequest(request_id="c2", account_id="alice"), CALL)
    assert other.accepted
    assert other.account.HasField("close_time")


async def test_answers_outlive_a_restart() -> None:
    """The engine that comes after reads the journal: it has no memory of when an account last changed."""
    journal = MemoryJournal()
    request = wire.CloseAccountRequest(request_id="close", account_id="alice")
    async for before in running_edge(journal):
        await before.long_bitcoin()
        first = await before.accounts.CloseAccount(request, CALL)
        await before.fill("alice", Side.SELL, "0.05", "BTCUSDT", "51000")
    async for after in running_edge(journal):
        again = await after.accounts.CloseAccount(request, CALL)
        assert again.replayed
        assert without_replayed(again) == first


# Brokers


async def test_every_broker_says_what_it_can_do(edge: Edge) -> None:
    answer = await edge.accounts.ListBrokers(wire.ListBrokersRequest(), CALL)
    brokers = {one.broker: one for one in answer.brokers}
    assert list(brokers) == sorted(["binance", "bybit", "coinbase", "cryptocom", "kraken", "okx", "paper"])
    features = [number for number in wire.BrokerFeature.values() if number]
    for name, broker in brokers.items():
        assert [one.feature for one in broker.capabilities] == features
        assert broker.enabled is (name == "paper")
        assert broker.enabled is not bool(broker.disabled_reason)
        assert all(one.supported or one.note for one in broker.capabilities)
        assert broker.HasField("max_state_age") is (name != "paper")
    assert brokers["coinbase"].max_leverage == "1"
    assert brokers["coinbase"].leverage_path == wire.LEVERAGE_PATH_NONE
    assert brokers["paper"].max_leverage == "5"
    assert any(one.supported for one in brokers["paper"].capabilities)


async def test_a_sandbox_account_has_no_broker_to_be_read_from(edge: Edge) -> None:
    await edge.open("alice")
    answer = await edge.accounts.SyncAccount(wire.SyncAccountRequest(request_id="r", account_id="alice"), CALL)
    assert not answer.accepted
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_NOT_SUPPORTED]
    assert not answer.account.HasField("sync")


async def test_a_sandbox_account_has_no_dry_run_to_leave(edge: Edge) -> None:
    await edge.open("alice")
    request = wire.SetDryRunRequest(request_id="r", account_id="alice", dry_run=False, reason="go")
    answer = await edge.accounts.SetDryRun(request, CALL)
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_NOT_SUPPORTED]
    with pytest.raises(InvalidRequest) as raised:
        await edge.accounts.SetDryRun(wire.SetDryRunRequest(request_id="s", account_id="alice", reason=" "), CALL)
    assert [field for field, _ in raised.value.problems] == ["reason"]
