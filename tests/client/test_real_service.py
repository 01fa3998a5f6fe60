"""The SDK against the real service in this process: every method is answered, and the story of an account holds."""

import asyncio
import sys
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.client import (
    AccountExists,
    AccountNotFound,
    AlertEvent,
    AssetAmount,
    FundInterval,
    Instrument,
    Lender,
    LiquidationEvent,
    MarginClient,
    Number,
    Order,
    PriceShock,
    RefusalReason,
    Refused,
    RequestIdReused,
    RiskLevel,
    RiskTier,
    Snapshot,
    SnapshotComplete,
    SyncMarginClient,
    TradingState,
    Update,
    testing,
)
from debt_mgmt.client.testing import InProcessServer, ServerNotInstalled
from debt_mgmt.core.commands import SetBorrowRate
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.memory_journal import MemoryJournal

MARKS: dict[str, Number] = {"BTCUSDT": 50000, "ETHUSDT": "3000"}
THOUSAND = AssetAmount("USDT", 1000)


async def alice_with_5x(client: MarginClient, balance: AssetAmount = THOUSAND) -> None:
    await client.create_account("alice", currency="USDT", initial_deposit=balance)
    (await client.set_leverage("alice", "BTCUSDT", 5)).raise_if_refused()


async def test_check_reserve_fill_and_close() -> None:
    async with InProcessServer(marks=MARKS) as server, server.client() as client:
        await alice_with_5x(client)
        check = (await client.check_order("alice", Order.buy("BTCUSDT", "0.05"))).raise_if_refused()
        assert check.after is not None
        assert check.after.margin_utilization == Decimal("0.5")

        large = await client.check_order("alice", Order.buy("BTCUSDT", "0.10"))
        assert not large.fits
        assert large.violations[0].reason is RefusalReason.INSUFFICIENT_MARGIN
        assert (large.violations[0].value, large.violations[0].limit) == (Decimal(1100), Decimal(1000))
        assert large.largest_buy == Decimal("0.08")

        held = (await client.reserve("alice", Order.buy("BTCUSDT", "0.05"))).raise_if_refused()
        assert [each.reservation_id for each in await client.reservations("alice")] == [held.reservation_id]
        filled = await client.record_fill(
            "alice", "BTCUSDT", "buy", "0.05", 50000, fill_id="f1", reservation_id=held.reservation_id
        )
        assert filled.raise_if_refused().position is not None
        (position,) = await client.positions("alice")
        assert (position.quantity, position.entry_price) == (Decimal("0.05"), Decimal(50000))
        assert not await client.reservations("alice")

        closed = (await client.close_position("alice", "BTCUSDT", reason="enough")).raise_if_refused()
        assert closed.done
        assert closed.liquidation is not None
        assert [one.liquidation_id async for one in client.liquidations("alice")] == [closed.liquidation.liquidation_id]
        assert not await client.positions("alice")


async def test_a_refused_fill_is_an_answer_with_the_account_as_it_is() -> None:
    async with InProcessServer(marks=MARKS) as server, server.client() as client:
        await alice_with_5x(client)
        await client.record_fill("alice", "BTCUSDT", "buy", "0.05", 50000, fill_id="f1", fee=0)
        again = await client.record_fill("alice", "BTCUSDT", "buy", "0.05", 50001, fill_id="f1", fee=0)
        assert [each.reason for each in again.violations] == [RefusalReason.DUPLICATE_FILL]
        assert again.fill is None
        assert again.after.margin_used == Decimal(500)


async def test_a_repeated_request_is_done_once() -> None:
    async with InProcessServer(marks=MARKS) as server, server.client() as client:
        await alice_with_5x(client)
        first = await client.deposit("alice", "USDT", 10, request_id="d1")
        second = await client.deposit("alice", "USDT", 10, request_id="d1")
        assert (first.replayed, second.replayed) == (False, True)
        assert first.balance == second.balance == AssetAmount("USDT", 1010)
        with pytest.raises(RequestIdReused):
            await client.deposit("alice", "USDT", 11, request_id="d1")
        with pytest.raises(AccountExists):
            await client.create_account("alice")
        with pytest.raises(AccountNotFound):
            await client.account("bob")


async def test_every_other_method_is_answered() -> None:
    async with InProcessServer(marks=MARKS) as server, server.client() as client:
        await alice_with_5x(client)
        assert (await client.account("alice")).currency == "USDT"
        assert [each.account_id for each in await client.accounts()] == ["alice"]
        assert "paper" in [each.broker for each in await client.brokers()]
        assert (await client.portfolio("alice")).total_value == 1000
        assert [each.currency for each in await client.portfolios()] == ["USDT"]
        status = await client.margin_status("alice")
        assert (status.equity, status.level) == (Decimal(1000), RiskLevel.NORMAL)
        batch = await client.check_orders("alice", [Order.buy("BTCUSDT", "0.05")] * 3)
        assert [result.fits for result in batch.results] == [True, False, False]
        streamed = [
            check async for check in client.stream_checks([("alice", Order.buy("BTCUSDT", "0.01")), ("bob", order())])
        ]
        assert streamed[0].result().fits
        assert isinstance(streamed[1].error, AccountNotFound)
        simulated = await client.simulate("alice", [Order.buy("BTCUSDT", "0.05"), PriceShock("-0.5")])
        assert [result.accepted for result in simulated.results] == [True, True]
        held = await client.reserve("alice", Order.sell("BTCUSDT", "0.01"), time_to_live=60)
        released = await client.release("alice", held.reservation_id)
        assert released.accepted

        assert (await client.leverage("alice", "BTCUSDT")).leverage == 5
        assert [each.symbol for each in await client.leverages("alice")] == ["BTCUSDT"]
        assert not (await client.set_leverage("alice", "BTCUSDT", 6)).accepted
        assert (await client.set_margin_mode("alice", "ETHUSDT", "isolated")).accepted
        assert not (await client.adjust_isolated_margin("alice", "ETHUSDT", 10)).accepted
        assert {each.symbol for each in await client.leverage_limits("alice")} >= set(MARKS)

        assert (await client.funds("alice")).balances == (THOUSAND,)
        too_much = await client.withdraw("alice", "USDT", 2000)
        assert (too_much.accepted, too_much.largest_amount) == (False, Decimal(1000))
        with pytest.raises(Refused):
            too_much.raise_if_refused()
        assert (await client.withdraw("alice", "USDT", 100)).accepted
        assert (await client.set_risk_limits("alice", max_leverage=3, max_concurrent_positions=2)).accepted
        limits = await client.risk_limits("alice")
        assert limits.limits.max_leverage == 3
        assert set(limits.own_limits) == {"max_leverage", "max_concurrent_positions"}
        assert (await client.set_risk_limits("alice", max_leverage=None)).limits.max_leverage == 5
        assert (await client.halt(account_id="alice", reason="lunch")).accepted
        assert (await client.account("alice")).trading_state is TradingState.HALTED
        assert (await client.resume(account_id="alice")).accepted
        assert [alert async for alert in client.alerts("alice")]

        put = await client.put_instrument(doge())
        assert put.instrument.symbol == "DOGEUSDT"
        assert [each.symbol for each in await client.instruments(symbols=["DOGEUSDT"])] == ["DOGEUSDT"]
        assert (await client.feed_marks([{"DOGEUSDT": "0.1"}, {"DOGEUSDT": "0.11"}])).accepted_count == 2
        assert [mark.price for mark in await client.marks(symbols=["DOGEUSDT"])] == [Decimal("0.11")]
        assert [event.kind async for event in client.audit_events("alice", limit=1)] == ["AccountCreated"]
        assert (await client.reset_funds("alice")).accepted
        assert (await client.close_account("alice", reason="done")).accepted
        assert (await client.verify_audit()).intact
        (refused, *_) = [event async for event in client.audit_events("alice", kinds=["CommandRefused"])]
        explained = await client.explain_event(refused.revision)
        assert explained.reproduced
        assert "SetLeverage BTCUSDT 6 was refused" in explained.summary


async def test_money_is_borrowed_paid_back_and_told_of() -> None:
    async with InProcessServer(marks=MARKS) as server, server.client() as client:
        await alice_with_5x(client)
        lending = SetBorrowRate("USDT", Decimal("0.10"), "started_hours")
        await server.service.engine.submit_house(lending, request_id="", actor=SYSTEM)
        (rate,) = await client.borrow_rates("alice", assets=["USDT"])
        assert (rate.annual_rate, rate.interest_clock) == (Decimal("0.10"), "started_hours")
        lent = (await client.borrow("alice", "USDT", 500)).raise_if_refused()
        assert lent.debt is not None and (lent.debt.principal, lent.debt.lender) == (Decimal(500), Lender.HOUSE)
        assert [one.owed for one in await client.debts("alice")] == [lent.debt.owed]
        (charge,) = [one async for one in client.interest_charges("alice")]
        assert charge.amount == lent.debt.accrued_interest > 0
        summary = await client.debt_summary("alice")
        assert (summary.borrowed, summary.account_count) == (Decimal(500), 1)
        assert [one.currency for one in await client.debt_summaries()] == ["USDT"]
        with pytest.raises(Refused):
            (await client.borrow("alice", "USDT", 10**9)).raise_if_refused()
        part = await client.repay("alice", "USDT", 100)
        assert part.interest_paid == charge.amount and part.debt is not None
        assert (await client.repay("alice", "USDT")).debt is None
        (today,) = [entry async for entry in client.fund_history("alice", interval=FundInterval.DAY)]
        assert today.profit_and_loss is not None
        assert (today.profit_and_loss.transfers, today.profit_and_loss.interest) == (Decimal(1000), -charge.amount)
        assert (await client.profit_and_loss("alice")).profit_and_loss == today.profit_and_loss


def order() -> Order:
    return Order.buy("BTCUSDT", "0.01")


def doge() -> Instrument:
    return Instrument(
        "DOGEUSDT",
        base_asset="DOGE",
        quote_asset="USDT",
        settle_asset="USDT",
        lot=1,
        tick="0.00001",
        min_quantity=1,
        maker_fee_rate="0.0002",
        taker_fee_rate="0.0005",
        max_leverage=50,
        tiers=[RiskTier(0, None, "0.01", 50)],
    )


async def test_a_watch_sees_the_account_fall_and_be_protected() -> None:
    seen: list[Any] = []
    async with InProcessServer(marks=MARKS) as server, server.client() as client:
        await alice_with_5x(client)
        await client.record_fill("alice", "BTCUSDT", "buy", "0.05", 50000, fill_id="f1")
        async with asyncio.timeout(20), client.watch_margin(["alice"], min_interval=0.01) as watch:
            async for event in watch:
                seen.append(event)
                if isinstance(event, SnapshotComplete):
                    for price in (45000, 41000, 40000, 38000):
                        await client.publish_marks({"BTCUSDT": price}, settle=True)
                if isinstance(event, LiquidationEvent) and event.liquidation.end_time is not None:
                    break
        status = await client.margin_status("alice")
    assert isinstance(seen[0], Snapshot)
    assert any(isinstance(event, Update) for event in seen)
    levels = [event.alert.level for event in seen if isinstance(event, AlertEvent)]
    assert RiskLevel.LIQUIDATING in levels
    assert status.margin_utilization is not None
    assert status.margin_utilization <= Decimal("0.70")


async def test_a_watch_goes_on_with_the_next_service_on_the_same_journal() -> None:
    journal = MemoryJournal()
    async with InProcessServer(marks=MARKS, journal=journal) as server, server.client() as client:
        await alice_with_5x(client)
    async with InProcessServer(marks=MARKS, journal=journal) as server, server.client() as client:
        assert (await client.leverage("alice", "BTCUSDT")).leverage == 5


def test_the_server_runs_beside_blocking_code() -> None:
    with InProcessServer(marks=MARKS, settings={"risk_settings.max_leverage": "3"}) as server:
        with server.sync_client() as client:
            client.create_account("alice", currency="USDT", initial_deposit=THOUSAND)
            assert client.check_order("alice", Order.buy("BTCUSDT", "0.01")).fits
            assert not client.set_leverage("alice", "BTCUSDT", 4).accepted
            with client.watch_margin() as watch:
                assert [type(next(watch)) for _ in range(2)] == [Snapshot, SnapshotComplete]
        target = server.target
    with SyncMarginClient(target) as client, pytest.raises(Exception, match="UNAVAILABLE"):
        client.account("alice", timeout=0.2)
    with pytest.raises(RuntimeError, match="the server does not run"):
        _ = server.target


def test_a_wrong_setting_or_mark_is_raised_where_the_server_is_entered() -> None:
    with pytest.raises(KeyError), InProcessServer(settings={"no.such": "1"}):
        pass
    with pytest.raises(ValueError, match="NOPE"), InProcessServer(marks={"NOPE": 1}):
        pass


async def test_without_the_service_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "debt_mgmt.server.app", None)
    with pytest.raises(ServerNotInstalled, match=r"pip install 'debt-mgmt\[server\]'"):
        await testing.start_service({}, "memory", {})
