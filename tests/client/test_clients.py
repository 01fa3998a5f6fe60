"""The two clients: the same methods, typed, on a connection that is made late and closed for good."""

import inspect
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args, get_origin

import grpc
import pytest

import debt_mgmt.client as sdk
from debt_mgmt.client import MarginClient, Order, SyncMarginClient
from debt_mgmt.client.channel import CHANNEL_OPTIONS, Connection, is_local, version
from debt_mgmt.v1 import account_service_pb2, debt_service_pb2, margin_service_pb2
from tests.client.fake_service import FakeService, sample

METHODS = {
    *("create_account", "account", "accounts", "close_account", "sync_account", "set_dry_run", "brokers"),
    *("portfolio", "portfolios", "margin_status", "positions", "simulate"),
    *("check_order", "check_orders", "stream_checks", "reserve", "release", "reservations", "record_fill"),
    *("place_order", "cancel_order", "orders"),
    *("close_position", "liquidations", "watch_margin"),
    *("leverage", "leverages", "set_leverage", "set_margin_mode", "adjust_isolated_margin", "leverage_limits"),
    *("funds", "deposit", "withdraw", "reset_funds", "fund_history", "profit_and_loss"),
    *("borrow", "repay", "debt_summary", "debt_summaries", "debts", "interest_charges", "borrow_rates"),
    *("risk_limits", "set_risk_limits", "halt", "resume", "halts", "acknowledge_alert", "alerts"),
    *("limit_sets", "put_limit_set", "delete_limit_set"),
    *("pending_changes", "approve_change", "reject_change"),
    *("put_instrument", "instruments", "publish_marks", "feed_marks", "marks", "audit_events"),
    *("verify_audit", "explain_event"),
    *("publish_funding_rate", "funding_rates"),
    *("caller", "issue_token", "tokens", "rotate_token", "revoke_token"),
}
COMMANDS = {
    *(
        "create_account",
        "close_account",
        "sync_account",
        "set_dry_run",
        "reserve",
        "release",
        "record_fill",
        "close_position",
    ),
    *("set_leverage", "set_margin_mode", "adjust_isolated_margin", "deposit", "withdraw", "reset_funds"),
    *("set_risk_limits", "halt", "resume", "acknowledge_alert", "put_instrument", "borrow", "repay", "place_order"),
    *("cancel_order", "publish_funding_rate", "issue_token", "rotate_token", "revoke_token"),
    *("put_limit_set", "delete_limit_set"),
    *("approve_change", "reject_change"),
}
HANDWRITTEN = {"watch_margin", "stream_checks", "feed_marks"}
"""Written once for each client, because their arguments or answers differ."""


def public(kind: type[Any]) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_the_clients_have_the_same_methods() -> None:
    assert public(MarginClient) == public(SyncMarginClient)
    assert public(MarginClient) == METHODS | {"close", "from_env", "raw"}


@pytest.mark.parametrize("name", sorted(METHODS | {"close", "from_env", "__init__"}))
def test_a_method_and_its_twin_have_the_same_parameters_and_documentation(name: str) -> None:
    method, twin = getattr(MarginClient, name), getattr(SyncMarginClient, name)
    assert parameters(method) == parameters(twin)
    assert inspect.getdoc(method) == inspect.getdoc(twin)
    assert inspect.getdoc(method)
    assert not inspect.iscoroutinefunction(twin)


@pytest.mark.parametrize("name", sorted(METHODS - HANDWRITTEN))
def test_a_method_and_its_twin_have_the_same_types(name: str) -> None:
    method, twin = (inspect.signature(getattr(kind, name)) for kind in (MarginClient, SyncMarginClient))
    assert [each.annotation for each in method.parameters.values()] == [
        each.annotation for each in twin.parameters.values()
    ]
    if get_origin(method.return_annotation) is AsyncIterator:
        assert get_origin(twin.return_annotation) is Iterator
        assert get_args(method.return_annotation) == get_args(twin.return_annotation)
    else:
        assert method.return_annotation == twin.return_annotation
        assert inspect.iscoroutinefunction(getattr(MarginClient, name))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_call_can_be_given_a_timeout_and_every_command_a_request_id(name: str) -> None:
    names = list(inspect.signature(getattr(MarginClient, name)).parameters)
    assert "timeout" in names or name == "watch_margin"
    assert ("request_id" in names) == (name in COMMANDS or name == "audit_events")


def test_what_is_exported_exists_and_is_documented() -> None:
    assert len(sdk.__all__) == len(set(sdk.__all__))
    for name in sdk.__all__:
        exported = getattr(sdk, name)
        if inspect.isclass(exported):
            assert exported.__module__.startswith("debt_mgmt.client"), name
            assert exported.__doc__, name
    every = {name for name, value in vars(sdk).items() if inspect.isclass(value)}
    assert every <= set(sdk.__all__)


def test_a_client_is_made_without_a_loop_or_a_service() -> None:
    assert repr(MarginClient()) == "MarginClient(127.0.0.1:50051)"
    assert repr(SyncMarginClient("db.example:443", credentials=grpc.ssl_channel_credentials())).endswith(" (TLS))")


async def test_a_closed_client_makes_no_calls(service: FakeService) -> None:
    client = MarginClient(service.target)
    await client.account("alice")
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.account("alice")
    with SyncMarginClient(service.target) as blocking:
        pass
    with pytest.raises(RuntimeError, match="the client is closed"):
        blocking.account("alice")


async def test_the_token_goes_with_every_kind_of_call(service: FakeService) -> None:
    service.on("WatchMargin", lambda *_: iter(()))
    service.on("StreamCheckOrders", lambda *_: iter(()))
    async with MarginClient(service.target, token="secret") as client:
        await client.account("alice")
        await client.publish_marks({"BTCUSDT": 1})
        _ = [check async for check in client.stream_checks([])]
        await client.raw.account.GetAccount(account_service_pb2.GetAccountRequest())
        _ = [message async for message in client.raw.margin.WatchMargin(margin_service_pb2.WatchMarginRequest())]
    with SyncMarginClient(service.target, token="secret") as blocking:
        blocking.account("alice")
        blocking.publish_marks({"BTCUSDT": 1})
        _ = list(blocking.stream_checks([]))
        blocking.raw.account.GetAccount.with_call(account_service_pb2.GetAccountRequest())
        _ = list(blocking.raw.margin.WatchMargin(margin_service_pb2.WatchMarginRequest()))
    assert [each.get("authorization") for each in service.metadata] == ["Bearer secret"] * 10


async def test_calls_name_the_sdk_and_carry_no_token_unless_given(service: FakeService, client: MarginClient) -> None:
    await client.account("alice")
    (metadata,) = service.metadata
    assert metadata["user-agent"].startswith(f"debt-mgmt-python/{version()} grpc-python-asyncio/")
    assert "authorization" not in metadata


@pytest.mark.parametrize("kind", [MarginClient, SyncMarginClient])
def test_the_environment_names_target_and_token(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind.from_env().connection == Connection()
    monkeypatch.setenv("DEBT_MGMT_TARGET", "localhost:6000")
    monkeypatch.setenv("DEBT_MGMT_TOKEN", "secret")
    assert kind.from_env().connection == Connection(target="localhost:6000", token="secret")
    assert kind.from_env(target="localhost:7000").connection.target == "localhost:7000"
    assert "secret" not in repr(kind.from_env())


def test_a_token_does_not_leave_the_machine_in_the_clear() -> None:
    with pytest.raises(ValueError, match=r"the token would travel unencrypted to margin\.example:50051"):
        SyncMarginClient("margin.example:50051", token="secret")
    SyncMarginClient("margin.example:50051", token="secret", credentials=grpc.ssl_channel_credentials())
    SyncMarginClient("margin.example:50051", token="secret", insecure=True)
    SyncMarginClient("margin.example:50051")


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("ipv6:[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("unix:/run/debt-mgmt.sock", True),
        ("10.0.0.1:50051", False),
        ("margin.example:50051", False),
        ("dns:///margin.example:50051", False),
        ("localhost.example:50051", False),
    ],
)
def test_this_machine_is_known_by_its_names(target: str, local: bool) -> None:
    assert is_local(target) is local
    proxied = ("grpc.enable_http_proxy", 0) in Connection(target=target).arguments(streams=False)
    assert proxied is local


def test_long_streams_have_little_ahead_of_the_reader() -> None:
    connection = Connection(options={"grpc.keepalive_time_ms": 5})
    assert ("grpc.http2.bdp_probe", 0) in connection.arguments(streams=True)
    assert ("grpc.http2.bdp_probe", 0) not in connection.arguments(streams=False)
    assert dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"] == 30_000
    assert dict(connection.arguments(streams=False))["grpc.keepalive_time_ms"] == 5


async def test_methods_of_later_versions_are_reached_by_raw(service: FakeService, client: MarginClient) -> None:
    answer = await client.raw.debt.ListDebts(debt_service_pb2.ListDebtsRequest(account_id="alice"))
    assert answer == sample(debt_service_pb2.ListDebtsResponse)


def test_one_blocking_client_serves_many_threads(service: FakeService, sync_client: SyncMarginClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        checks = list(pool.map(lambda _: sync_client.check_order("alice", Order.buy("BTCUSDT", 1)), range(40)))
    assert all(check.fits for check in checks)
