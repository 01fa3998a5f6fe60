"""Every method, called with every role, for one's own account and for another's: who is let in, and what they learn."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from debt_mgmt.core.access import Role
from debt_mgmt.core.commands import RevokeToken
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.v1 import audit_service_pb2, margin_service_pb2, options_pb2, risk_service_pb2, types_pb2
from tests.e2e.books import BUY, SELL, order
from tests.server.security.door import Door, door
from tests.support.service import Clock
from tests.support.wire import METHODS, call, failure_of, read_failure, request_class, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES = {
    Role.VIEWER: """
        AccessService/GetCaller AccountService/GetAccount AccountService/ListAccounts AccountService/ListBrokers
        MarginService/GetPortfolio MarginService/GetMarginStatus MarginService/ListPositions MarginService/CheckOrder
        MarginService/BatchCheckOrders MarginService/StreamCheckOrders MarginService/ListReservations
        MarginService/ListOrders MarginService/SimulateMargin MarginService/WatchMargin MarginService/ListLiquidations
        LeverageService/GetLeverage LeverageService/ListLeverage LeverageService/ListLeverageLimits
        DebtService/GetDebtSummary DebtService/ListDebts DebtService/ListInterestCharges DebtService/ListBorrowRates
        FundService/GetFunds FundService/ListFundHistory RiskService/GetRiskLimits RiskService/ListAlerts
        RiskService/ListLimitSets
        RiskService/ListHalts
        MarketService/ListInstruments MarketService/ListMarks MarketService/ListFundingRates
        AuditService/ListAuditEvents AuditService/ExplainEvent
    """,
    Role.TRADER: """
        AccountService/SyncAccount MarginService/ReserveMargin MarginService/ReleaseReservation MarginService/RecordFill
        MarginService/PlaceOrder MarginService/CancelOrder MarginService/ClosePosition LeverageService/SetLeverage
        LeverageService/SetMarginMode LeverageService/AdjustIsolatedMargin DebtService/Borrow DebtService/Repay
        FundService/Deposit FundService/Withdraw FundService/ResetFunds RiskService/HaltTrading
        RiskService/AcknowledgeAlert
    """,
    Role.RISK: """
        AccountService/SetDryRun RiskService/SetRiskLimits RiskService/ResumeTrading MarketService/PublishMarks
        RiskService/PutLimitSet RiskService/DeleteLimitSet
        MarketService/PublishFundingRate AuditService/VerifyAudit RiskService/ListPendingChanges
        RiskService/ApproveChange RiskService/RejectChange
    """,
    Role.ADMIN: """
        AccountService/CreateAccount AccountService/CloseAccount MarketService/PutInstrument AccessService/IssueToken
        AccessService/ListTokens AccessService/RevokeToken AccessService/RotateToken
    """,
}
REQUIRED = {name: role for role, names in ROLES.items() for name in names.split()}
HOUSE_WIDE = {
    *("MarketService/PutInstrument", "MarketService/PublishMarks", "MarketService/PublishFundingRate"),
    *("AuditService/VerifyAudit", "AccessService/IssueToken", "AccessService/ListTokens"),
    *("AccessService/RevokeToken", "AccessService/RotateToken"),
}
OF_ONE_ACCOUNT = sorted(
    name
    for name, method in METHODS.items()
    if "account_id" in method.input_type.fields_by_name and name not in HOUSE_WIDE and not method.client_streaming
)
OF_EVERY_ACCOUNT = (
    "AccountService/ListAccounts",
    "MarginService/GetPortfolio",
    "MarginService/ListLiquidations",
    "DebtService/GetDebtSummary",
    "DebtService/ListDebts",
    "RiskService/ListAlerts",
    "RiskService/ListHalts",
    "AuditService/ListAuditEvents",
)
"""Methods that show, where no account is named, all that there are."""
SHORT = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with door(tmp_path_factory.mktemp("door"), clock=Clock()) as one:
        for account_id in ("alice", "bob"):
            await one.desk.open(account_id, "10000", "USDT", owner="desk")
        await one.desk.mark({"BTCUSDT": "50000", "ETHUSDT": "3000"})
        for account_id in ("alice", "bob"):
            await one.desk.fill(account_id, BUY, "0.1", "BTCUSDT", "50000")
        yield one


def request_for(name: str, account_id: str) -> Any:
    request: Any = request_class(name)()
    if "account_id" in request.DESCRIPTOR.fields_by_name:
        request.account_id = account_id
    if "account_ids" in request.DESCRIPTOR.fields_by_name and not name.startswith("AccessService"):
        request.account_ids.append(account_id)
    return request


async def code_for(channel: Any, name: str, request: Message) -> grpc.StatusCode:
    try:
        await call(channel, name, request, timeout=SHORT)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_method_has_the_role_that_was_meant() -> None:
    """A new method gets its row in ROLES in the change that brings it."""
    assert set(REQUIRED) == set(METHODS)
    for name, method in METHODS.items():
        options = method.GetOptions()
        number = options.Extensions[options_pb2.required_role]
        assert options_pb2.Role.Name(number) == f"ROLE_{REQUIRED[name].value}", name
        assert options.Extensions[options_pb2.house_wide] == (name in HOUSE_WIDE), name


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_calls_what_it_may_and_nothing_else(opened: Door, role: Role) -> None:
    channel = opened.channel(await opened.issue(f"all-{role}", role))
    for name in METHODS:
        code = await code_for(channel, name, request_for(name, "alice"))
        assert code is not grpc.StatusCode.UNAUTHENTICATED, name
        allowed = role.rank >= REQUIRED[name].rank
        assert (code is grpc.StatusCode.PERMISSION_DENIED) != allowed, (name, code)


async def test_nobody_calls_anything(opened: Door) -> None:
    for name in METHODS:
        failure = await failure_of(opened.bare.channel, name, request_for(name, "alice"))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), name


@pytest.mark.parametrize("role", list(Role))
async def test_anothers_account_is_one_that_does_not_exist(opened: Door, role: Role) -> None:
    """Bob exists and nobody does not: whoever may not see Bob gets the same answer for both, byte for byte."""
    channel = opened.channel(await opened.issue(f"own-{role}", role, "alice"))
    for name in [*OF_ONE_ACCOUNT, "MarginService/WatchMargin"]:
        answers = []
        for account_id in ("bob", "nobody"):
            failure = await failure_of(channel, name, request_for(name, account_id), timeout=SHORT)
            answers.append(str(failure).replace(account_id, "…"))
        assert answers[0] == answers[1], name
        denied = role.rank < REQUIRED[name].rank or name == "AccountService/CreateAccount"
        expected = grpc.StatusCode.PERMISSION_DENIED if denied else grpc.StatusCode.NOT_FOUND
        assert failure.code is expected, name


async def test_a_stream_of_checks_knows_no_other_account(opened: Door) -> None:
    channel = opened.channel(await opened.issue("own-stream", Role.TRADER, "alice"))
    asked = [
        margin_service_pb2.StreamCheckOrdersRequest(sequence=1, account_id=account_id, order=order(BUY, "0.01"))
        for account_id in ("alice", "bob", "nobody")
    ]
    own, other, unknown = await call(channel, "MarginService/StreamCheckOrders", *asked)
    assert own.result.fits
    assert other.error.message.replace("bob", "…") == unknown.error.message.replace("nobody", "…")
    assert other.error.reason == unknown.error.reason


@pytest.mark.parametrize("role", list(Role))
async def test_what_concerns_everybody_is_not_for_a_limited_token(opened: Door, role: Role) -> None:
    channel = opened.channel(await opened.issue(f"limited-{role}", role, "alice"))
    for name in sorted(HOUSE_WIDE):
        code = await code_for(channel, name, request_for(name, "alice"))
        assert code is grpc.StatusCode.PERMISSION_DENIED, name
    nodes = [{"owner": "desk"}, {"strategy": "momo"}, {"symbol": "BTCUSDT"}, {"owner": "desk", "strategy": "momo"}]
    scopes: list[dict[str, Any]] = [{"owner": "desk"}, {"everything": True}, *({"node": node} for node in nodes)]
    for scope in scopes:
        for kind in ("HaltTrading", "ResumeTrading"):
            request = getattr(risk_service_pb2, f"{kind}Request")(request_id="halt-1", **scope)
            failure = await failure_of(channel, f"RiskService/{kind}", request)
            assert failure.code is grpc.StatusCode.PERMISSION_DENIED, (kind, scope)


async def test_a_trader_halts_an_account_and_not_the_house(opened: Door) -> None:
    channel = opened.channel(await opened.issue("halting", Role.TRADER))
    request = risk_service_pb2.HaltTradingRequest(request_id="halt-2", everything=True)
    failure = await failure_of(channel, "RiskService/HaltTrading", request)
    assert (failure.code, failure.metadata["required_role"]) == (grpc.StatusCode.PERMISSION_DENIED, "RISK")


async def test_a_trader_halts_what_is_within_an_account_that_is_theirs(opened: Door) -> None:
    """A strategy or an instrument of one's own account; of another's it is as if that account did not exist."""
    own = opened.channel(await opened.issue("own-strategies", Role.TRADER, "alice"))
    every = opened.channel(await opened.issue("every-strategy", Role.TRADER))

    def halt(request_id: str, **node: str) -> Any:
        return risk_service_pb2.HaltTradingRequest(request_id=request_id, node=types_pb2.Scope(**node))

    for number, channel in enumerate((own, every)):
        request = halt(f"within-{number}", account_id="alice", strategy="momo", symbol="ETHUSDT")
        assert (await call(channel, "RiskService/HaltTrading", request)).accepted
        failure = await failure_of(channel, "RiskService/HaltTrading", halt(f"wide-{number}", strategy="momo"))
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert (await opened.desk.risk.HaltTrading(halt("shared", account_id="bob", strategy="momo"))).accepted
    first = await call(own, "RiskService/HaltTrading", halt("shared", account_id="alice", strategy="momo"))
    again = await call(own, "RiskService/HaltTrading", halt("shared", account_id="alice", strategy="momo"))
    assert (first.replayed, again.replayed) == (False, True), "an id that others used is free"
    told = []
    for account_id in ("bob", "nobody"):
        failure = await failure_of(own, "RiskService/HaltTrading", halt("x", account_id=account_id, strategy="momo"))
        told.append(str(failure).replace(account_id, "…"))
    assert told[0] == told[1] and failure.code is grpc.StatusCode.NOT_FOUND


async def test_a_limited_token_sees_halts_that_concern_its_accounts(opened: Door) -> None:
    channel = opened.channel(await opened.issue("halts-seen", Role.VIEWER, "alice"))
    desk = opened.desk
    nodes = [
        {"account_id": "alice", "strategy": "own"}, {"account_id": "bob", "strategy": "secret"}, {"strategy": "secret"},
        {"owner": "desk"}, {"owner": "rival"}, {"symbol": "ETHUSDT"}, {"owner": "rival", "symbol": "BTCUSDT"},
    ]  # fmt: skip
    for node in nodes:
        request = risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), node=types_pb2.Scope(**node))
        assert (await desk.risk.HaltTrading(request)).accepted
    seen = (await call(channel, "RiskService/ListHalts", risk_service_pb2.ListHaltsRequest())).halts
    words = {str(one.scope).strip().replace("\n", " ") for one in seen}
    own = 'account_id: "alice" strategy: "own"'
    assert {own, 'owner: "desk"', 'symbol: "ETHUSDT"'} <= words
    assert not any(hidden in one for one in words for hidden in ("secret", "rival", "bob"))
    assert {one.account_count for one in seen} == {1}, "others are not counted"
    every = (await desk.risk.ListHalts(risk_service_pb2.ListHaltsRequest())).halts
    assert {one.scope.strategy for one in every} >= {"own", "secret"}
    assert {one.scope.owner for one in every} >= {"desk", "rival"}
    for node in nodes:
        resumed = risk_service_pb2.ResumeTradingRequest(request_id=desk.request_id(), node=types_pb2.Scope(**node))
        assert (await desk.risk.ResumeTrading(resumed)).accepted


async def shown_to(channel: Any) -> dict[str, str]:
    """All that a caller sees where it names no account, without places in the journal, which count all that happens."""
    shown = {}
    for name in OF_EVERY_ACCOUNT:
        answer = await call(channel, name, request_class(name)())
        answer.ClearField("revision")
        shown[name] = str(answer)
    request = margin_service_pb2.WatchMarginRequest()
    told = []
    try:
        async for response in opened_watch(channel, request):
            response.ClearField("revision")
            response.ClearField("resume_token")
            told.append(str(response))
            if response.HasField("snapshot_complete"):
                break
    except grpc.aio.AioRpcError as error:
        raise AssertionError(read_failure(error)) from error
    shown["MarginService/WatchMargin"] = "".join(told)
    return shown


async def opened_watch(channel: Any, request: Message) -> AsyncIterator[Any]:
    path = "/debt_mgmt.v1.MarginService/WatchMargin"
    read = margin_service_pb2.WatchMarginResponse.FromString
    stream = channel.unary_stream(path, lambda one: one.SerializeToString(), read)(request, timeout=5.0)
    async for response in stream:
        yield response
    stream.cancel()


async def test_nothing_that_others_do_shows(opened: Door) -> None:
    """Lists, sums, audit, alerts and watches of a limited token are the same to the byte, whatever others do."""
    channel = opened.channel(await opened.issue("looking", Role.ADMIN, "alice"))
    before = await shown_to(channel)
    assert "alice" in before["AccountService/ListAccounts"]
    assert before["MarginService/WatchMargin"].count('account_id: "alice"') >= 1
    for text in before.values():
        assert "bob" not in text
    await opened.desk.fill("bob", SELL, "0.1", "BTCUSDT", "49000")
    await opened.desk.open("carol", "77777", "USDT", owner="desk")
    await opened.desk.reserve("carol", BUY, "0.01")
    assert await shown_to(channel) == before
    assert "bob" in (await shown_to(opened.desk.channel))["AccountService/ListAccounts"]


async def test_looking_back_shows_no_more_than_looking(opened: Door) -> None:
    """Neither others' accounts of an earlier revision, nor that a shard which holds none of one's own has revisions."""
    channel = opened.channel(await opened.issue("past", Role.VIEWER, "alice"))
    engine = opened.engine
    number = next(n for n in engine.shards if n != engine.home["alice"])
    name = next(f"other-{n}" for n in range(1000) if engine.shard_of_owner(f"other-{n}") == number)
    await opened.desk.open(name, "1000", "USDT", owner=name)

    async def back(moment: str) -> Any:
        request = request_class("AccountService/ListAccounts")()
        metadata = (("debt-mgmt-as-of", moment),)
        return await call(channel, "AccountService/ListAccounts", request, metadata=metadata)

    own, position = engine.revision("alice")
    assert [one.account_id for one in (await back(f"{own}:{position}")).accounts] == ["alice"]
    told = []
    for moment in (f"{number}:1", f"{number}:999999"):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await back(moment)
        told.append(read_failure(failed.value).message.replace(moment, "…"))
    assert told[0] == told[1]


async def test_anothers_request_ids_can_be_used(opened: Door) -> None:
    """An id that somebody used for another account says nothing: neither taken, nor answered with theirs."""
    secret = await opened.issue("ids", Role.TRADER, "alice")
    own = opened.as_caller(secret)
    await opened.desk.margin.ReserveMargin(
        margin_service_pb2.ReserveMarginRequest(request_id="same-id", account_id="bob", order=order(BUY, "0.02"))
    )
    answer = await own.margin.ReserveMargin(
        margin_service_pb2.ReserveMarginRequest(request_id="same-id", account_id="alice", order=order(BUY, "0.01"))
    )
    assert answer.accepted
    assert not answer.replayed
    found = await own.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(request_id="same-id"))
    assert {one.account_id for one in found.events} == {"alice"}


async def test_a_watch_tells_of_ones_own_accounts_also_of_those_to_come(opened: Door) -> None:
    channel = opened.channel(await opened.issue("waiting", Role.VIEWER, "alice", "dora"))
    told: list[str] = []
    async for response in opened_watch(channel, margin_service_pb2.WatchMarginRequest()):
        told.append(str(response))
        if response.HasField("snapshot_complete"):
            await opened.desk.open("erik", "1000", "USDT")
            await opened.desk.open("dora", "1000", "USDT")
        if response.update.account_id == "dora":
            break
    assert any("alice" in one for one in told)
    assert not any("bob" in one or "erik" in one for one in told)


async def test_a_watch_ends_once_its_token_is_revoked(opened: Door) -> None:
    channel = opened.channel(await opened.issue("passing", Role.VIEWER, "alice"))
    seen: list[Any] = []

    async def watch() -> None:
        async for response in opened_watch(channel, margin_service_pb2.WatchMarginRequest(account_ids=["alice"])):
            seen.append(response)
            if response.HasField("snapshot_complete"):
                await opened.engine.submit_house(RevokeToken("passing"), request_id="", actor=SYSTEM)
                await opened.desk.reserve("alice", BUY, "0.01")

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watch()
    assert read_failure(ended.value).message == "the token was revoked"
    assert not any(response.HasField("update") for response in seen)
    await until(lambda: opened.engine.hub.count == 0)
