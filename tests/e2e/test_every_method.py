"""Every method of every service answers as the contract says, on accounts whose figures are worked out by hand."""

import json
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from debt_mgmt.v1 import (
    access_service_pb2,
    account_service_pb2,
    audit_service_pb2,
    debt_service_pb2,
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    risk_service_pb2,
    types_pb2,
)
from tests.e2e.books import (
    BUY,
    PRICES,
    inverse_contract,
    isolate,
    open_fresh,
    open_hedge,
    open_mixed,
    order,
    put,
    shown,
)
from tests.support.service import Clock, Desk, service
from tests.support.wire import METHODS, MUTATIONS, UNIMPLEMENTED, call, failure_of, reasons, request_class

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as running:
        await put(running, inverse_contract())
        await open_mixed(running)
        await open_hedge(running)
        yield running


# the contract as a whole


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_only_what_comes_later_is_unimplemented(desk: Desk, name: str) -> None:
    try:
        answers = await call(desk.channel, name, request_class(name)(), timeout=0.5)
    except grpc.aio.AioRpcError as error:
        code = error.code()
    else:
        code = grpc.StatusCode.OK
        assert answers is not None
    assert (code is grpc.StatusCode.UNIMPLEMENTED) == (name in UNIMPLEMENTED)
    if name in UNIMPLEMENTED:
        failure = await failure_of(desk.channel, name, request_class(name)())
        assert (failure.reason, failure.domain) == ("NOT_IMPLEMENTED", "debt_mgmt")
        assert "later version" in failure.message


async def test_an_unknown_method_is_unimplemented_without_our_reason(desk: Desk) -> None:
    unknown: Any = desk.channel.unary_unary("/debt_mgmt.v1.MarginService/Guess")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await unknown(b"")
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_every_mutation_has_a_request_id_and_says_when_it_is_replayed() -> None:
    for name in MUTATIONS:
        assert "request_id" in METHODS[name].input_type.fields_by_name
        assert "replayed" in METHODS[name].output_type.fields_by_name
    for name, method in METHODS.items():
        assert ("request_id" in method.input_type.fields_by_name) == (name in MUTATIONS) or name.startswith("Audit")
        assert {"revision", "as_of"} <= set(method.output_type.fields_by_name)


READS: list[tuple[str, Message]] = [
    ("AccessService/GetCaller", access_service_pb2.GetCallerRequest()),
    ("AccessService/ListTokens", access_service_pb2.ListTokensRequest()),
    ("AccountService/GetAccount", account_service_pb2.GetAccountRequest(account_id="mixed")),
    ("AccountService/ListAccounts", account_service_pb2.ListAccountsRequest()),
    ("AccountService/ListBrokers", account_service_pb2.ListBrokersRequest()),
    ("MarginService/GetPortfolio", margin_service_pb2.GetPortfolioRequest(account_id="mixed")),
    ("MarginService/GetMarginStatus", margin_service_pb2.GetMarginStatusRequest(account_id="mixed")),
    ("MarginService/ListPositions", margin_service_pb2.ListPositionsRequest(account_id="mixed")),
    (
        "MarginService/CheckOrder",
        margin_service_pb2.CheckOrderRequest(account_id="mixed", order=order(BUY, "0.1")),
    ),
    (
        "MarginService/BatchCheckOrders",
        margin_service_pb2.BatchCheckOrdersRequest(account_id="mixed", orders=[order(BUY, "0.1")]),
    ),
    ("MarginService/ListReservations", margin_service_pb2.ListReservationsRequest(account_id="mixed")),
    ("MarginService/ListOrders", margin_service_pb2.ListOrdersRequest(account_id="mixed")),
    ("MarginService/SimulateMargin", margin_service_pb2.SimulateMarginRequest(account_id="mixed")),
    ("MarginService/ListLiquidations", margin_service_pb2.ListLiquidationsRequest(account_id="mixed")),
    ("LeverageService/GetLeverage", leverage_service_pb2.GetLeverageRequest(account_id="mixed", symbol="BTCUSDT")),
    ("LeverageService/ListLeverage", leverage_service_pb2.ListLeverageRequest(account_id="mixed")),
    ("LeverageService/ListLeverageLimits", leverage_service_pb2.ListLeverageLimitsRequest(account_id="mixed")),
    ("FundService/GetFunds", fund_service_pb2.GetFundsRequest(account_id="mixed")),
    ("FundService/ListFundHistory", fund_service_pb2.ListFundHistoryRequest(account_id="mixed")),
    ("DebtService/GetDebtSummary", debt_service_pb2.GetDebtSummaryRequest(account_id="mixed")),
    ("DebtService/ListDebts", debt_service_pb2.ListDebtsRequest(account_id="mixed")),
    ("DebtService/ListInterestCharges", debt_service_pb2.ListInterestChargesRequest(account_id="mixed")),
    ("DebtService/ListBorrowRates", debt_service_pb2.ListBorrowRatesRequest(account_id="mixed")),
    ("RiskService/GetRiskLimits", risk_service_pb2.GetRiskLimitsRequest(account_id="mixed")),
    ("RiskService/ListAlerts", risk_service_pb2.ListAlertsRequest(account_id="mixed")),
    ("RiskService/ListLimitSets", risk_service_pb2.ListLimitSetsRequest()),
    ("RiskService/ListHalts", risk_service_pb2.ListHaltsRequest()),
    ("RiskService/ListPendingChanges", risk_service_pb2.ListPendingChangesRequest()),
    ("MarketService/ListInstruments", market_service_pb2.ListInstrumentsRequest()),
    ("MarketService/ListMarks", market_service_pb2.ListMarksRequest()),
    ("MarketService/ListFundingRates", market_service_pb2.ListFundingRatesRequest()),
    ("AuditService/ListAuditEvents", audit_service_pb2.ListAuditEventsRequest(account_id="mixed")),
    ("AuditService/VerifyAudit", audit_service_pb2.VerifyAuditRequest()),
    (
        "AuditService/ExplainEvent",
        audit_service_pb2.ExplainEventRequest(event_revision=types_pb2.Revision(shard=0, position=1)),
    ),
]
SEVERAL = {"AccountService/ListAccounts", "AccountService/ListBrokers", "MarketService/ListInstruments"}
SEVERAL |= {"AccessService/GetCaller", "AccessService/ListTokens"}
SEVERAL |= {"MarketService/ListMarks", "MarketService/ListFundingRates", "AuditService/VerifyAudit"}
SEVERAL |= {"AuditService/ExplainEvent", "RiskService/ListLimitSets", "RiskService/ListHalts"}
SEVERAL |= {"RiskService/ListPendingChanges"}


@pytest.mark.parametrize(("name", "request_sent"), READS, ids=[name for name, _ in READS])
async def test_an_answer_says_as_of_when_and_which_revision_it_holds(
    desk: Desk, name: str, request_sent: Message
) -> None:
    answer = await call(desk.channel, name, request_sent)
    of_house = name in SEVERAL
    place = desk.engine.house_revision() if of_house else desk.engine.revision("mixed")
    assert (answer.revision.shard, answer.revision.position) == place
    assert answer.as_of.ToDatetime(UTC) == desk.engine.clock()


async def test_every_read_is_looked_at() -> None:
    mutations = {*MUTATIONS, *UNIMPLEMENTED}
    streams = {"MarginService/StreamCheckOrders", "MarginService/WatchMargin", "MarketService/PublishMarks"}
    assert {name for name, _ in READS} == set(METHODS) - mutations - streams


# accounts, leverage, funds


async def test_an_account_is_opened_shown_listed_and_closed(desk: Desk) -> None:
    name = f"opened-{desk.request_id()}"
    request = account_service_pb2.CreateAccountRequest(request_id=desk.request_id(), account_id=name, owner="opener")
    created = (await desk.accounts.CreateAccount(request)).account
    assert shown(created, "account_id", "owner", "broker", "currency", "dry_run") == [
        name,
        "opener",
        "paper",
        "INR",
        False,
    ]
    assert [(one.asset, one.amount) for one in created.balances] == [("INR", "10000000")]
    got = (await desk.accounts.GetAccount(account_service_pb2.GetAccountRequest(account_id=name))).account
    assert got.create_time == created.create_time
    listed = await desk.accounts.ListAccounts(account_service_pb2.ListAccountsRequest(owner="opener"))
    assert name in [one.account_id for one in listed.accounts]
    closed = await desk.accounts.CloseAccount(
        account_service_pb2.CloseAccountRequest(request_id=desk.request_id(), account_id=name, reason="done")
    )
    assert closed.accepted and closed.account.HasField("close_time")
    refused = await desk.accounts.CloseAccount(
        account_service_pb2.CloseAccountRequest(request_id=desk.request_id(), account_id="mixed")
    )
    assert (refused.accepted, reasons(refused.violations)) == (False, ["OPEN_POSITIONS"])
    late = await desk.margin.CheckOrder(margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "1")))
    assert reasons(late.result.violations)[0] == "ACCOUNT_CLOSED"


async def test_brokers_are_listed_with_what_they_can_do(desk: Desk) -> None:
    answer = await desk.accounts.ListBrokers(account_service_pb2.ListBrokersRequest())
    found = {one.broker: one for one in answer.brokers}
    assert list(found) == ["binance", "bybit", "coinbase", "cryptocom", "kraken", "okx", "paper"]
    assert [name for name, one in found.items() if one.enabled] == ["paper"]
    assert found["coinbase"].max_leverage == "1"
    features = len(account_service_pb2.BrokerFeature.values()) - 1
    assert all(len(one.capabilities) == features for one in answer.brokers)
    assert all(one.disabled_reason for one in answer.brokers if not one.enabled)


async def test_leverage_is_set_with_its_effect_and_refused_with_the_cap(desk: Desk) -> None:
    name = await open_fresh(desk)
    await desk.fill(name, BUY, "0.2", "BTCUSDT", "62500")
    setting = leverage_service_pb2.GetLeverageRequest(account_id=name, symbol="BTCUSDT")
    now = (await desk.leverage.GetLeverage(setting)).setting
    assert shown(now, "leverage", "is_default", "maximum") == ["2", True, "5"]
    request = leverage_service_pb2.SetLeverageRequest(
        request_id=desk.request_id(), account_id=name, symbol="BTCUSDT", leverage="4", validate_only=True
    )
    tried = await desk.leverage.SetLeverage(request)
    assert shown(tried.before, "margin_used") + shown(tried.after, "margin_used") == ["6250", "3125"]
    assert (await desk.leverage.GetLeverage(setting)).setting.is_default
    request.validate_only = False
    done = await desk.leverage.SetLeverage(request)
    assert (done.accepted, done.setting.leverage, done.after.margin_used) == (True, "4", "3125")
    request.request_id, request.leverage = desk.request_id(), "6"
    refused = await desk.leverage.SetLeverage(request)
    assert (refused.accepted, reasons(refused.violations)) == (False, ["LEVERAGE_ABOVE_ACCOUNT"])
    assert (refused.violations[0].value, refused.violations[0].limit) == ("6", "5")
    assert refused.setting.leverage == "4"
    listed = await desk.leverage.ListLeverage(leverage_service_pb2.ListLeverageRequest(account_id=name))
    assert [(one.symbol, one.leverage) for one in listed.settings] == [("BTCUSDT", "4")]
    limits = await desk.leverage.ListLeverageLimits(
        leverage_service_pb2.ListLeverageLimitsRequest(account_id=name, symbols=["BTCUSDT"])
    )
    (caps,) = limits.limits
    assert shown(caps, "account_maximum", "instrument_maximum", "maximum") == ["5", "125", "5"]
    assert len(caps.tiers) == 12


async def test_isolated_margin_is_added_and_taken_back(desk: Desk) -> None:
    name = await open_fresh(desk)
    await isolate(desk, name, "ETHUSDT")
    await desk.lever(name, "ETHUSDT", "3")
    await desk.fill(name, BUY, "1", "ETHUSDT", "3100")
    for amount, accepted, posted in (("500", True, "1533"), ("-500", True, "1033"), ("-1", False, "1033")):
        answer = await desk.leverage.AdjustIsolatedMargin(
            leverage_service_pb2.AdjustIsolatedMarginRequest(
                request_id=desk.request_id(), account_id=name, symbol="ETHUSDT", amount=amount
            )
        )
        assert answer.accepted is accepted, answer
        assert answer.position.isolated_margin.startswith(posted)
    assert reasons(answer.violations) == ["ISOLATED_MARGIN_BELOW_REQUIRED"]
    busy = await desk.leverage.SetMarginMode(
        leverage_service_pb2.SetMarginModeRequest(
            request_id=desk.request_id(), account_id=name, symbol="ETHUSDT", margin_mode=types_pb2.MARGIN_MODE_CROSS
        )
    )
    assert (busy.accepted, reasons(busy.violations)) == (False, ["MARGIN_MODE_WITH_POSITION"])


async def test_funds_come_go_and_are_reset(desk: Desk) -> None:
    name = await open_fresh(desk, "1000")
    await desk.deposit(name, "BTC", "0.1")
    await desk.fill(name, BUY, "0.02", "BTCUSDT", "60000")
    funds = (await desk.funds.GetFunds(fund_service_pb2.GetFundsRequest(account_id=name))).funds
    # 1,000 + 6,250 × 0.95 + 50 of gain, less 625 of margin
    assert shown(funds, "available_balance", "used_margin", "collateral_value", "unrealized_pnl") == [
        "6362.5",
        "625",
        "6937.5",
        "50",
    ]
    taken = await desk.funds.Withdraw(
        fund_service_pb2.WithdrawRequest(request_id=desk.request_id(), account_id=name, asset="USDT", amount="400")
    )
    assert (taken.accepted, taken.balance.amount, taken.after.equity) == (True, "600", "6587.5")
    refused = await desk.funds.Withdraw(
        fund_service_pb2.WithdrawRequest(request_id=desk.request_id(), account_id=name, asset="USDT", amount="601")
    )
    assert (refused.accepted, refused.largest_amount) == (False, "600")
    assert reasons(refused.violations) == ["INSUFFICIENT_BALANCE"]
    reset = await desk.funds.ResetFunds(
        fund_service_pb2.ResetFundsRequest(request_id=desk.request_id(), account_id=name, reason="again")
    )
    assert reset.accepted and reset.funds.reset_count == 1
    assert [(one.asset, one.amount) for one in reset.funds.balances] == [("USDT", "1000")]
    assert (await desk.status(name)).open_positions == 0


# risk, market and audit


async def test_limits_are_shown_with_their_use_and_changed(desk: Desk) -> None:
    name = await open_fresh(desk)
    await desk.fill(name, BUY, "0.1", "BTCUSDT", "62500")
    mine = risk_service_pb2.RiskLimits(
        max_position_notional="7000",
        max_concurrent_positions=3,
        max_order_rate=risk_service_pb2.OrderRate(orders=2, interval=Duration(seconds=60)),
    )
    changed = await desk.risk.SetRiskLimits(
        risk_service_pb2.SetRiskLimitsRequest(request_id=desk.request_id(), account_id=name, limits=mine)
    )
    assert changed.accepted
    assert shown(changed.limits, "max_position_notional", "max_concurrent_positions") == ["7000", 3]
    answer = await desk.risk.GetRiskLimits(risk_service_pb2.GetRiskLimitsRequest(account_id=name))
    assert list(answer.own_limits) == ["max_position_notional", "max_concurrent_positions", "max_order_rate"]
    assert [one.protection for one in answer.protections] == list(risk_service_pb2.Protection.values())[1:]
    used = {one.protection: shown(one, "off", "used", "limit", "headroom") for one in answer.protections}
    assert used[risk_service_pb2.PROTECTION_POSITION_NOTIONAL] == [False, "6250", "7000", "750"]
    assert used[risk_service_pb2.PROTECTION_CONCURRENT_POSITIONS] == [False, "1", "3", "2"]
    assert used[risk_service_pb2.PROTECTION_POSITION_QUANTITY] == [True, None, None, None]
    assert [one.kind for one in answer.breakers] == list(risk_service_pb2.BreakerKind.values())[1:]
    assert not any(one.tripped for one in answer.breakers)
    check = margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "0.02"))
    assert reasons((await desk.margin.CheckOrder(check)).result.violations) == ["POSITION_NOTIONAL_LIMIT"]


@pytest.mark.parametrize("scope", ["account_id", "owner"])
async def test_trading_is_halted_and_resumed(desk: Desk, scope: str) -> None:
    name = await open_fresh(desk)
    status = margin_service_pb2.GetMarginStatusRequest(account_id=name)
    halted = await desk.risk.HaltTrading(
        risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), reason="lunch", **{scope: name})  # type: ignore[arg-type]
    )
    assert (halted.accepted, halted.account_count) == (True, 1)
    shown_status = (await desk.margin.GetMarginStatus(status)).status
    assert shown(shown_status, "trading_state", "trading_state_reason") == [types_pb2.TRADING_STATE_HALTED, "lunch"]
    refused = await desk.reserve(name, BUY, "0.01")
    assert reasons(refused.violations) == ["TRADING_HALTED" if scope == "account_id" else "HOUSE_HALTED"]
    for accepted in (True, False):
        resumed = await desk.risk.ResumeTrading(
            risk_service_pb2.ResumeTradingRequest(request_id=desk.request_id(), **{scope: name})  # type: ignore[arg-type]
        )
        assert resumed.accepted is accepted
    assert reasons(resumed.violations) == ["ALREADY_IN_STATE"]
    assert (await desk.reserve(name, BUY, "0.01")).accepted


async def test_alerts_are_listed_newest_first_and_by_kind(desk: Desk) -> None:
    name = await open_fresh(desk)
    for halt in (True, False):
        request: Any = risk_service_pb2.HaltTradingRequest if halt else risk_service_pb2.ResumeTradingRequest
        method = desk.risk.HaltTrading if halt else desk.risk.ResumeTrading
        await method(request(request_id=desk.request_id(), account_id=name, reason="drill"))
    answer = await desk.risk.ListAlerts(risk_service_pb2.ListAlertsRequest(account_id=name))
    kinds = [types_pb2.ALERT_KIND_TRADING_RESUMED, types_pb2.ALERT_KIND_TRADING_HALTED]
    assert [one.kind for one in answer.alerts] == kinds
    assert all(shown(one, "account_id", "acknowledged") == [name, False] for one in answer.alerts)
    only = risk_service_pb2.ListAlertsRequest(account_id=name, kinds=kinds[1:])
    assert [one.kind for one in (await desk.risk.ListAlerts(only)).alerts] == kinds[1:]


async def test_instruments_are_put_listed_and_priced(desk: Desk) -> None:
    wanted = market_service_pb2.ListInstrumentsRequest(symbols=["BTCUSD-INVERSE"])
    (found,) = (await desk.market.ListInstruments(wanted)).instruments
    expected = inverse_contract()
    expected.margin_rules = "house"
    assert found == expected
    whole = (await desk.market.ListInstruments(market_service_pb2.ListInstrumentsRequest())).instruments
    symbols = [one.symbol for one in whole]
    assert symbols == sorted(symbols) and {"BTCUSDT", "ETHUSD", "BTCUSD-INVERSE"} <= set(symbols)
    marks = (await desk.market.ListMarks(market_service_pb2.ListMarksRequest())).marks
    assert {one.symbol: one.price for one in marks} == PRICES
    assert all(shown(one, "source", "stale") == ["test", False] for one in marks)


async def test_the_audit_tells_what_happened_and_who_asked(desk: Desk) -> None:
    name = await open_fresh(desk)
    held = await desk.reserve(name, BUY, "0.01")
    answer = await desk.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(account_id=name))
    kinds = [one.kind for one in answer.events]
    assert kinds[0] == "AccountCreated" and kinds[-1] == "MarginReserved"
    last = answer.events[-1]
    assert (last.revision, last.account_id) == (held.revision, name)
    assert json.loads(last.payload)["reservation"]["reservation_id"] == held.reservation.reservation_id
    assert json.loads(last.actor)["name"] == "local"
    assert len(bytes.fromhex(last.chain_hash)) == 32
    newest = audit_service_pb2.ListAuditEventsRequest(account_id=name, newest_first=True, page_size=1)
    assert list((await desk.audit.ListAuditEvents(newest)).events) == [last]
    by_request = audit_service_pb2.ListAuditEventsRequest(request_id=last.request_id, account_id=name)
    assert list((await desk.audit.ListAuditEvents(by_request)).events) == [last]


async def test_prices_of_a_stream_are_counted(desk: Desk) -> None:
    batch = market_service_pb2.PublishMarksRequest(
        marks=[
            market_service_pb2.MarkUpdate(symbol="SOLUSDT", price="150", source="exchange"),
            market_service_pb2.MarkUpdate(symbol="NOSUCH", price="1"),
        ]
    )
    answer = await call(desk.channel, "MarketService/PublishMarks", batch, batch)
    assert (answer.accepted_count, answer.quarantined_count) == (2, 2)
    assert {one.reason for one in answer.quarantined} == {market_service_pb2.QUARANTINE_REASON_UNKNOWN_SYMBOL}
    await desk.mark({"SOLUSDT": "150"})
