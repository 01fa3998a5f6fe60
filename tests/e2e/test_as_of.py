"""Any reading method answers from an earlier revision: what it said then it says again."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from typer.testing import CliRunner

from debt_mgmt.client import InvalidRequest, MarginClient, NotFound, Order, Revision, as_of
from debt_mgmt.server.cli.program import app
from debt_mgmt.server.rpc.as_of import ANSWERED
from debt_mgmt.v1 import (
    account_service_pb2,
    debt_service_pb2,
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    risk_service_pb2,
    types_pb2,
)
from tests.e2e.books import BUY, SELL, order
from tests.support.service import Clock, Desk, service
from tests.support.wire import METHODS, MUTATIONS, call

SHOWN: list[tuple[str, Message]] = [
    ("AccountService/GetAccount", account_service_pb2.GetAccountRequest(account_id="alice")),
    ("MarginService/GetPortfolio", margin_service_pb2.GetPortfolioRequest(account_id="alice")),
    ("MarginService/GetMarginStatus", margin_service_pb2.GetMarginStatusRequest(account_id="alice")),
    ("MarginService/ListPositions", margin_service_pb2.ListPositionsRequest(account_id="alice")),
    ("MarginService/CheckOrder", margin_service_pb2.CheckOrderRequest(account_id="alice", order=order(BUY, "0.1"))),
    (
        "MarginService/BatchCheckOrders",
        margin_service_pb2.BatchCheckOrdersRequest(account_id="alice", orders=[order(BUY, "0.1"), order(SELL, "0.1")]),
    ),
    ("MarginService/ListReservations", margin_service_pb2.ListReservationsRequest(account_id="alice")),
    ("MarginService/ListOrders", margin_service_pb2.ListOrdersRequest(account_id="alice")),
    ("MarginService/SimulateMargin", margin_service_pb2.SimulateMarginRequest(account_id="alice")),
    ("MarginService/ListLiquidations", margin_service_pb2.ListLiquidationsRequest(account_id="alice")),
    ("LeverageService/GetLeverage", leverage_service_pb2.GetLeverageRequest(account_id="alice", symbol="BTCUSDT")),
    ("LeverageService/ListLeverage", leverage_service_pb2.ListLeverageRequest(account_id="alice")),
    ("LeverageService/ListLeverageLimits", leverage_service_pb2.ListLeverageLimitsRequest(account_id="alice")),
    ("FundService/GetFunds", fund_service_pb2.GetFundsRequest(account_id="alice")),
    ("DebtService/GetDebtSummary", debt_service_pb2.GetDebtSummaryRequest(account_id="alice")),
    ("DebtService/ListDebts", debt_service_pb2.ListDebtsRequest(account_id="alice")),
    ("DebtService/ListInterestCharges", debt_service_pb2.ListInterestChargesRequest(account_id="alice")),
    ("RiskService/GetRiskLimits", risk_service_pb2.GetRiskLimitsRequest(account_id="alice")),
    ("RiskService/ListAlerts", risk_service_pb2.ListAlertsRequest(account_id="alice")),
    ("RiskService/ListHalts", risk_service_pb2.ListHaltsRequest()),
]

ASK_A_PRICE = {"MarginService/CheckOrder", "MarginService/BatchCheckOrders"}


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as running:
        yield running


async def told(desk: Desk, name: str, request: Message, moment: str = "") -> Any:
    metadata = (("debt-mgmt-as-of", moment),) if moment else None
    return await call(desk.channel, name, request, metadata=metadata)


async def look(desk: Desk, moment: str = "") -> dict[str, Any]:
    return {name: await told(desk, name, request, moment) for name, request in SHOWN}


async def story(desk: Desk) -> AsyncIterator[str]:
    """Things happen to alice; after each its name."""
    clock: Any = desk.engine.clock
    await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
    await desk.open("alice", currency="USDT")
    yield "opened"
    clock.advance(seconds=2)
    await desk.fill("alice", BUY, "0.2", "BTCUSDT", "50000")
    yield "bought"
    clock.advance(seconds=2)
    await desk.reserve("alice", BUY, "0.01", price="49000")
    yield "reserved"
    clock.advance(seconds=2)
    await desk.lever("alice", "BTCUSDT", "4")
    yield "levered"
    clock.advance(seconds=2)
    await desk.mark({"BTCUSDT": "42000"})
    await desk.deposit("alice", "USDT", "500")
    node = types_pb2.Scope(account_id="alice", strategy="momo")
    halt = risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), reason="odd", node=node)
    assert (await desk.risk.HaltTrading(halt)).accepted
    halt = risk_service_pb2.HaltTradingRequest(request_id=desk.request_id(), reason="odd", account_id="alice")
    assert (await desk.risk.HaltTrading(halt)).accepted
    yield "fallen"
    clock.advance(seconds=2)
    await desk.fill("alice", SELL, "0.2", "BTCUSDT", "42000")
    yield "sold"


async def test_what_was_said_then_is_said_again(desk: Desk) -> None:
    """Every method, at every step of a story, with the clock standing still between decision and question."""
    kept: list[tuple[str, str, dict[str, Any]]] = []
    async for step in story(desk):
        shard, position = desk.engine.revision("alice")
        kept.append((step, f"{shard}:{position}", await look(desk)))
    await desk.mark({"BTCUSDT": "45000", "ETHUSDT": "2600"})
    await desk.deposit("alice", "USDT", "77")
    for step, moment, said in kept:
        again = await look(desk, moment)
        for name in said:
            if name in ASK_A_PRICE and step in ("opened", "sold"):
                continue  # Nothing is held, so no decision saw the price that is asked about.
            assert again[name] == said[name], (step, name)


async def test_a_time_names_the_last_revision_before_it(desk: Desk) -> None:
    kept: list[tuple[datetime, Any]] = []
    clock: Any = desk.engine.clock
    async for _ in story(desk):
        kept.append((clock(), await desk.status("alice")))
    for at, said in kept:
        request = margin_service_pb2.GetMarginStatusRequest(account_id="alice")
        again = await told(desk, "MarginService/GetMarginStatus", request, at.isoformat())
        assert again.status == said
        later = (at + timedelta(seconds=1)).isoformat()
        assert (await told(desk, "MarginService/GetMarginStatus", request, later)).status.equity == said.equity


async def test_what_rests_on_prices_that_no_decision_saw_is_unknown(desk: Desk) -> None:
    """A second position whose price came and went unseen: at a revision before, the order's price is not known."""
    async with MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        await desk.open("alice", currency="USDT")
        created = Revision(*desk.engine.revision("alice"))
        await desk.mark({"BTCUSDT": "50000"})
        assert (await client.check_order("alice", Order.buy("BTCUSDT", "0.01"))).fits
        with as_of(created):
            then = await client.check_order("alice", Order.buy("BTCUSDT", "0.01"))
            assert [one.reason.value for one in then.violations] == ["MISSING_MARK"]
            status = await client.margin_status("alice")
        assert (status.equity, status.revision) == (Decimal(10000), created)


async def test_an_account_that_came_later_is_not_there(desk: Desk) -> None:
    async with MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        clock: Any = desk.engine.clock
        await desk.open("alice")
        before = clock()
        clock.advance(seconds=60)
        await desk.open("bob")
        with as_of(before):
            assert [one.account_id for one in await client.accounts()] == ["alice"]
            with pytest.raises(NotFound):
                await client.account("bob")
        assert len(await client.accounts()) == 2


@pytest.mark.parametrize(
    "moment", ["yesterday", "1:99999", "99:1", "1:0", "-1:5", ""], ids=lambda moment: moment or "empty"
)
async def test_a_moment_that_is_none_is_an_error(desk: Desk, moment: str) -> None:
    await desk.open("alice")
    metadata = (("debt-mgmt-as-of", moment),)
    request = margin_service_pb2.GetMarginStatusRequest(account_id="alice")
    with pytest.raises(Exception, match=r"debt-mgmt-as-of|must be a place|no revision"):
        await call(desk.channel, "MarginService/GetMarginStatus", request, metadata=metadata)


async def test_a_revision_of_another_shard_is_an_error(desk: Desk) -> None:
    await desk.open("alice")
    async with MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        with as_of(Revision(0, 1)), pytest.raises(InvalidRequest, match="its revisions are of that shard"):
            await client.margin_status("alice")


async def test_nothing_is_changed_in_the_past(desk: Desk) -> None:
    await desk.open("alice")
    async with MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        place = Revision(*desk.engine.revision("alice"))
        with as_of(place), pytest.raises(InvalidRequest, match="about the present"):
            await client.deposit("alice", "USD", 5)
        assert desk.engine.revision("alice") == (place.shard, place.position)


async def test_what_takes_risk_away_is_done_now_whatever_moment_it_names(desk: Desk) -> None:
    """A header that a caller forgot to take away again does not keep anybody in a position."""
    await desk.open("alice", "10000", "USDT")
    await desk.mark({"BTCUSDT": "50000"})
    await desk.fill("alice", BUY, "0.3", "BTCUSDT", "50000")
    held = await desk.reserve("alice", BUY, "0.01", "BTCUSDT")
    async with MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        with as_of(Revision(*desk.engine.revision("alice"))):
            with pytest.raises(InvalidRequest, match="about the present"):
                await client.reserve("alice", Order.buy("BTCUSDT", "0.01"))
            assert (await client.release("alice", held.reservation.reservation_id)).accepted
            out = await client.reserve("alice", Order.sell("BTCUSDT", "0.1"))
            assert out.reservation is not None
            filled = await client.record_fill(
                "alice", "BTCUSDT", "SELL", "0.1", 50000, fill_id="out", reservation_id=out.reservation.reservation_id
            )
            assert filled.accepted
            assert (await client.close_position("alice", "BTCUSDT", quantity="0.1")).accepted
            assert (await client.halt(account_id="alice", reason="enough")).accepted
            assert (await client.close_position("alice", "BTCUSDT")).accepted
    assert not desk.engine.account("alice").positions


async def test_every_method_of_an_account_that_reads_is_answered() -> None:
    """The others are about the present alone, or have times of their own to be asked for."""
    reading = {
        name
        for name, method in METHODS.items()
        if name not in MUTATIONS and not method.client_streaming and not method.server_streaming
    }
    now_only = {
        "AccountService/ListBrokers",
        "MarketService/ListMarks",
        "FundService/ListFundHistory",
        "AuditService/VerifyAudit",
        "AuditService/ExplainEvent",
        "RiskService/ListLimitSets",
        "RiskService/ListPendingChanges",
    }
    others = {name for name in reading - ANSWERED if not name.startswith("AccessService")}
    assert others == now_only
    assert {name for name, _ in SHOWN} <= ANSWERED


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"), as_of(datetime(2026, 3, 2)):  # noqa: DTZ001
        pass
    with as_of(datetime(2026, 3, 2, tzinfo=UTC)):
        pass


async def test_the_command_line_looks_back(desk: Desk) -> None:
    await desk.open("alice", currency="USDT")
    shard, position = desk.engine.revision("alice")
    await desk.deposit("alice", "USDT", "500")

    def equity(*then: str) -> str:
        target = f"127.0.0.1:{desk.running.port}"
        done = CliRunner().invoke(app, ["status", "alice", "--json", "--target", target, *then])
        assert done.exit_code == 0, done.output
        return str(json.loads(done.stdout)["status"]["equity"])

    assert await asyncio.to_thread(equity) == "10500"
    assert await asyncio.to_thread(equity, "--as-of", f"{shard}:{position}") == "10000"
