"""FundService: capital, deposits, withdrawals and resets, and that a repeat shows what was true then."""

import asyncio
from decimal import Decimal

import pytest

from debt_mgmt.core.account import Side
from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.v1 import fund_service_pb2 as wire
from debt_mgmt.v1 import rejections_pb2, types_pb2
from tests.server.rpc.edge import CALL, Edge, without_replayed
from tests.server.rpc.test_validate import BAD_DECIMALS


def deposit(amount: str = "100", asset: str = "USDT", request_id: str = "deposit-1") -> wire.DepositRequest:
    return wire.DepositRequest(request_id=request_id, account_id="alice", asset=asset, amount=amount, reason="more")


def withdrawal(amount: str = "100", asset: str = "USDT", request_id: str = "withdraw-1") -> wire.WithdrawRequest:
    return wire.WithdrawRequest(request_id=request_id, account_id="alice", asset=asset, amount=amount)


async def funds(edge: Edge) -> wire.Funds:
    return (await edge.funds.GetFunds(wire.GetFundsRequest(account_id="alice"), CALL)).funds


async def test_capital_adds_up_without_open_profit(edge: Edge) -> None:
    await edge.long_bitcoin()
    shown = await funds(edge)
    assert (shown.available_balance, shown.used_margin, shown.realized_pnl) == ("7500", "2500", "0")
    await edge.fill("alice", Side.SELL, "0.05", "BTCUSDT", "50200")
    shown = await funds(edge)
    assert (shown.starting_capital.asset, shown.starting_capital.amount) == ("USDT", "10000")
    assert shown.realized_pnl == "10"
    assert shown.unrealized_pnl == "0"
    total = Decimal(shown.available_balance) + Decimal(shown.used_margin) - Decimal(shown.realized_pnl)
    assert total == Decimal(shown.starting_capital.amount)
    assert not (shown.HasField("last_reset_time") or shown.HasField("next_reset_time"))


async def test_without_a_price_capital_in_use_is_not_known(edge: Edge) -> None:
    await edge.long_bitcoin()
    del edge.engine.marks["BTCUSDT"]
    shown = await funds(edge)
    assert not shown.HasField("available_balance")
    assert not shown.HasField("unrealized_pnl")
    assert [(one.asset, one.amount) for one in shown.balances] == [("USDT", "10000")]


async def test_a_deposit_counts_at_once(edge: Edge) -> None:
    await edge.open()
    answer = await edge.funds.Deposit(deposit("250.5"), CALL)
    assert answer.accepted
    assert (answer.balance.asset, answer.balance.amount) == ("USDT", "10250.5")
    assert (answer.after.equity, answer.after.level) == ("10250.5", types_pb2.RISK_LEVEL_NORMAL)
    euros = await edge.funds.Deposit(deposit("100", "EUR", "deposit-2"), CALL)
    assert euros.balance.amount == "100"
    # 100 euros at 1.10 with a haircut of a tenth count for 99.
    assert euros.after.equity == "10349.5"
    assert (await funds(edge)).collateral_value == "10349.5"


async def test_what_has_no_price_can_not_be_deposited(edge: Edge) -> None:
    await edge.open()
    answer = await edge.funds.Deposit(deposit(asset="SHELLS"), CALL)
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_MISSING_MARK]
    assert answer.balance.amount == "0"
    assert answer.after.equity == "10000"


async def test_margin_in_use_can_not_be_withdrawn(edge: Edge) -> None:
    await edge.long_bitcoin()
    refused = await edge.funds.Withdraw(withdrawal("6875.01"), CALL)
    assert [one.reason for one in refused.violations] == [rejections_pb2.REFUSAL_REASON_INSUFFICIENT_BALANCE]
    assert (refused.largest_amount, refused.balance.amount) == ("6875", "10000")
    done = await edge.funds.Withdraw(withdrawal("6875", request_id="withdraw-2"), CALL)
    assert done.accepted
    assert not done.HasField("largest_amount")
    assert (done.balance.amount, done.after.margin_available) == ("3125", "625")


async def test_a_reset_clears_all_and_restores_the_start(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.funds.Deposit(deposit("5"), CALL)
    await edge.fill("alice", Side.SELL, "0.05", "BTCUSDT", "40000")
    answer = await edge.funds.ResetFunds(wire.ResetFundsRequest(request_id="reset", account_id="alice"), CALL)
    assert answer.accepted
    shown = answer.funds
    assert [(one.asset, one.amount) for one in shown.balances] == [("USDT", "10000")]
    assert (shown.available_balance, shown.used_margin, shown.realized_pnl) == ("10000", "0", "0")
    assert shown.reset_count == 1
    assert shown.HasField("last_reset_time")
    assert not edge.engine.account("alice").positions


async def test_repeats_show_what_was_true_then(edge: Edge) -> None:
    await edge.long_bitcoin()
    first = await edge.funds.Deposit(deposit(), CALL)
    taken = await edge.funds.Withdraw(withdrawal(), CALL)
    refused = await edge.funds.Withdraw(withdrawal("999999", request_id="too-much"), CALL)
    reset = await edge.funds.ResetFunds(wire.ResetFundsRequest(request_id="reset", account_id="alice"), CALL)
    edge.clock.advance(seconds=5)
    await edge.funds.Deposit(deposit("77", request_id="later"), CALL)
    await edge.mark(BTCUSDT="50500")
    assert without_replayed(await edge.funds.Deposit(deposit(), CALL)) == first
    assert without_replayed(await edge.funds.Withdraw(withdrawal(), CALL)) == taken
    again = await edge.funds.ResetFunds(wire.ResetFundsRequest(request_id="reset", account_id="alice"), CALL)
    assert without_replayed(again) == reset
    late = await edge.funds.Withdraw(withdrawal("999999", request_id="too-much"), CALL)
    assert (late.replayed, late.violations, late.balance) == (True, refused.violations, refused.balance)


async def test_the_answer_is_the_state_of_its_own_place_in_the_journal(edge: Edge) -> None:
    """Many deposits at once share a batch; each answer shows the balance that its own deposit left."""
    await edge.open()
    answers = await asyncio.gather(
        *(edge.funds.Deposit(deposit("1", request_id=f"d-{number}"), CALL) for number in range(20))
    )
    by_place = sorted(answers, key=lambda answer: answer.revision.position)
    assert [answer.balance.amount for answer in by_place] == [str(10_001 + number) for number in range(20)]
    assert all(answer.after.equity == answer.balance.amount for answer in answers)


@pytest.mark.parametrize("text", [*BAD_DECIMALS, "0", "-1"])
async def test_a_bad_amount_is_named_and_nothing_is_journaled(edge: Edge, text: str) -> None:
    await edge.open()
    before = edge.engine.revision("alice")
    with pytest.raises(InvalidRequest) as raised:
        await edge.funds.Deposit(deposit(text), CALL)
    assert [field for field, _ in raised.value.problems] == ["amount"]
    with pytest.raises(InvalidRequest):
        await edge.funds.Withdraw(withdrawal(text), CALL)
    assert edge.engine.revision("alice") == before
