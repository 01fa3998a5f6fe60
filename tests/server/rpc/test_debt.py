"""DebtService: loans and repayments with their figures, what is owed and charged, rates, and sums over accounts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.core.account import Lender, Side
from debt_mgmt.core.commands import Borrow, SetAssetRule, SetBorrowRate, SetLeverage
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.core.market import AssetRule
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.rpc.margin import MarginService
from debt_mgmt.v1 import debt_service_pb2 as wire
from debt_mgmt.v1 import margin_service_pb2, rejections_pb2, types_pb2
from tests.server.rpc.edge import CALL, START, Edge, without_replayed

HOURS_OF_YEAR = 8760
ANNUAL = "0.0876"
"""0.00001 an hour."""


async def rate(edge: Edge, asset: str = "USDT", annual: str = ANNUAL, clock: str = "okx_hourly") -> None:
    await edge.engine.submit_house(SetBorrowRate(asset, Decimal(annual), clock), request_id="", actor=SYSTEM)


async def borrow(edge: Edge, amount: str, asset: str = "USDT", account_id: str = "alice", request_id: str = "") -> Any:
    request = wire.BorrowRequest(
        request_id=request_id or edge.request_id(), account_id=account_id, asset=asset, amount=amount
    )
    return await edge.debt.Borrow(request, CALL)


async def repay(edge: Edge, amount: str | None = None, asset: str = "USDT", request_id: str = "") -> Any:
    request = wire.RepayRequest(
        request_id=request_id or edge.request_id(), account_id="alice", asset=asset, amount=amount
    )
    return await edge.debt.Repay(request, CALL)


async def charges(edge: Edge, **fields: Any) -> Any:
    return await edge.debt.ListInterestCharges(wire.ListInterestChargesRequest(account_id="alice", **fields), CALL)


async def debts(edge: Edge, **fields: Any) -> Any:
    return await edge.debt.ListDebts(wire.ListDebtsRequest(**fields), CALL)


async def summary(edge: Edge, **fields: Any) -> Any:
    return await edge.debt.GetDebtSummary(wire.GetDebtSummaryRequest(**fields), CALL)


async def pass_hours(edge: Edge, count: int = 1, **prices: str) -> None:
    for _ in range(count):
        edge.clock.advance(hours=1)
        if prices:
            await edge.mark(**prices)
        await edge.engine.sweep()


async def edge_status(edge: Edge) -> Any:
    request = margin_service_pb2.GetMarginStatusRequest(account_id="alice")
    return (await MarginService(edge.engine, 100).GetMarginStatus(request, CALL)).status


def reasons(answer: Any) -> list[str]:
    return [rejections_pb2.RefusalReason.Name(one.reason).removeprefix("REFUSAL_REASON_") for one in answer.violations]


async def test_a_loan_comes_with_its_debt_and_the_account_before_and_after(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    answer = await borrow(edge, "4000")
    assert answer.accepted and not answer.violations and not answer.replayed
    debt = answer.debt
    assert (debt.account_id, debt.asset, debt.principal, debt.accrued_interest) == ("alice", "USDT", "4000", "0")
    assert (debt.annual_rate, debt.lender, debt.interest_clock) == (ANNUAL, wire.LENDER_HOUSE, "okx_hourly")
    assert debt.open_time.ToDatetime(UTC) == START and not debt.HasField("last_charge_time")
    assert debt.next_charge_time.ToDatetime(UTC) == START + timedelta(hours=1)
    assert debt.value == "4000"
    # what is borrowed is there and owed: equity is as it was
    assert (answer.before.equity, answer.after.equity) == ("10000", "10000")
    status = await edge_status(edge)
    assert (status.wallet_balance, status.debt, status.equity) == ("14000", "4000", "10000")
    assert Decimal(answer.largest_amount) > 4000


async def test_a_loan_that_is_refused_says_every_reason_and_the_most_that_could_be_borrowed(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    refused = await borrow(edge, "1000000")
    assert not refused.accepted and not refused.HasField("debt")
    assert reasons(refused) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    most = Decimal(refused.largest_amount)
    over = await borrow(edge, str(most + Decimal("0.00000001")))
    assert not over.accepted and over.largest_amount == refused.largest_amount
    assert (await borrow(edge, refused.largest_amount)).accepted


@pytest.mark.parametrize("asset", ["NOSUCH", "EUR"])
async def test_the_house_lends_only_what_it_has_a_rate_for(edge: Edge, asset: str) -> None:
    await edge.open()
    refused = await borrow(edge, "1", asset)
    assert not refused.accepted and "NOT_SUPPORTED" in reasons(refused)


async def test_interest_is_charged_and_paid_before_the_principal(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    await borrow(edge, "4000")
    await pass_hours(edge, 3)
    (debt,) = (await debts(edge)).debts
    assert (debt.accrued_interest, debt.value) == ("0.12", "4000.12")
    assert debt.last_charge_time.ToDatetime(UTC) == START + timedelta(hours=3)
    part = await repay(edge, "1000")
    assert (part.accepted, part.interest_paid, part.principal_paid) == (True, "0.12", "999.88")
    assert (part.debt.principal, part.debt.accrued_interest) == ("3000.12", "0")
    assert part.after.equity == "9999.88"
    rest = await repay(edge)
    assert (rest.interest_paid, rest.principal_paid) == ("0", "3000.12")
    assert not rest.HasField("debt") and not (await debts(edge)).debts
    assert edge.engine.account("alice").balances == {"USDT": Decimal("9999.88")}


async def test_more_than_is_owed_pays_all_and_leaves_nothing(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    await borrow(edge, "100.123456789012345678")
    await pass_hours(edge)
    answer = await repay(edge, "5000")
    assert answer.accepted and not answer.HasField("debt")
    assert Decimal(answer.principal_paid) == Decimal("100.123456789012345678")


async def test_a_repayment_is_refused_without_a_debt_and_beyond_the_balance(edge: Edge) -> None:
    await rate(edge)
    await rate(edge, "EUR")
    await edge.open()
    nothing = await repay(edge, "1")
    assert (nothing.accepted, reasons(nothing)) == (False, ["NO_DEBT"])
    assert not nothing.HasField("interest_paid") and not nothing.HasField("principal_paid")
    assert nothing.after.equity == "10000"
    await borrow(edge, "10", "EUR")
    await pass_hours(edge)
    short = await repay(edge, asset="EUR")  # the interest is not in the wallet
    assert (short.accepted, reasons(short)) == (False, ["INSUFFICIENT_BALANCE"])
    assert short.violations[0].limit == "10"


async def test_repeats_answer_the_same_even_when_more_happened_since(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    first = await borrow(edge, "1000", request_id="loan")
    await pass_hours(edge, 2)
    paid = await repay(edge, "500", request_id="paid")
    await borrow(edge, "200")
    again = await borrow(edge, "1000", request_id="loan")
    assert again.replayed and without_replayed(again) == without_replayed(first)
    paid_again = await repay(edge, "500", request_id="paid")
    assert paid_again.replayed and without_replayed(paid_again) == without_replayed(paid)
    refused = await borrow(edge, "1000000", request_id="greedy")
    assert without_replayed(await borrow(edge, "1000000", request_id="greedy")) == without_replayed(refused)
    with pytest.raises(Exception, match="loan"):
        await borrow(edge, "1001", request_id="loan")


async def test_charges_are_listed_with_their_working_newest_first(edge: Edge) -> None:
    await rate(edge)
    await rate(edge, "EUR", "0.876")
    await edge.open()
    await borrow(edge, "1000")
    await borrow(edge, "100", "EUR")
    await pass_hours(edge, 3)
    found = (await charges(edge)).charges
    assert [(one.asset, one.charge_time.ToDatetime(UTC).hour) for one in found] == [
        ("USDT", 12), ("EUR", 12), ("USDT", 11), ("EUR", 11), ("USDT", 10), ("EUR", 10),
    ]  # fmt: skip
    for one in found:
        assert Decimal(one.amount) == Decimal(one.principal) * Decimal(one.rate) * one.periods
    assert [one.accrued_interest for one in found if one.asset == "EUR"] == ["0.03", "0.02", "0.01"]
    assert (found[0].account_id, found[0].interest_clock, found[0].amount) == ("alice", "okx_hourly", "0.01")
    assert len({(one.revision.shard, one.revision.position) for one in found}) == 6
    only = await charges(edge, asset="EUR", page_size=2)
    assert [one.charge_time.ToDatetime(UTC).hour for one in only.charges] == [12, 11]
    rest = await charges(edge, asset="EUR", page_size=2, page_token=only.next_page_token)
    assert [one.charge_time.ToDatetime(UTC).hour for one in rest.charges] == [10] and not rest.next_page_token
    hour = START + timedelta(hours=2)
    between = await charges(edge, start_time=hour, end_time=hour + timedelta(hours=1))
    assert [one.charge_time.ToDatetime(UTC).hour for one in between.charges] == [11, 11]


async def test_what_fell_due_unattended_is_charged_at_its_own_times(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    await borrow(edge, "1000")
    edge.clock.advance(hours=30, minutes=5)
    await edge.engine.sweep()
    found = (await charges(edge)).charges
    due = [one.charge_time.ToDatetime(UTC) for one in found]
    assert due == [START + timedelta(hours=number) for number in range(30, 0, -1)]
    old = await charges(edge, end_time=START + timedelta(hours=3))
    assert [one.charge_time.ToDatetime(UTC).hour for one in old.charges] == [11, 10]


async def test_rates_are_listed_with_what_could_be_borrowed(edge: Edge) -> None:
    await rate(edge)
    await rate(edge, "EUR", "0.365", "bybit_hourly")
    await edge.open()
    answer = await edge.debt.ListBorrowRates(wire.ListBorrowRatesRequest(account_id="alice"), CALL)
    assert [(one.asset, one.annual_rate, one.daily_rate, one.interest_clock) for one in answer.rates] == [
        ("EUR", "0.365", "0.001", "bybit_hourly"),
        ("USDT", ANNUAL, "0.00024", "okx_hourly"),
    ]
    assert all(one.effective_time.ToDatetime(UTC) == START for one in answer.rates)
    for one in answer.rates:
        refused = await borrow(edge, str(Decimal(one.available_amount) + 1), one.asset)
        assert (refused.accepted, refused.largest_amount) == (False, one.available_amount)
    only = wire.ListBorrowRatesRequest(account_id="alice", assets=["EUR", "NOSUCH"])
    assert [one.asset for one in (await edge.debt.ListBorrowRates(only, CALL)).rates] == ["EUR"]


async def test_a_new_rate_holds_from_its_own_time_on(edge: Edge) -> None:
    await rate(edge)
    await edge.open()
    await borrow(edge, "1000")
    await pass_hours(edge)
    await rate(edge, annual="0.876")
    await pass_hours(edge)
    assert [one.amount for one in (await charges(edge)).charges] == ["0.1", "0.01"]
    (debt,) = (await debts(edge)).debts
    assert debt.annual_rate == "0.876"


async def test_the_summary_says_what_is_owed_what_secures_it_and_what_it_costs(edge: Edge) -> None:
    await rate(edge)
    await rate(edge, "EUR", "0.365")
    await edge.open()
    await edge.mark(BTCUSDT="50000", ETHUSDT="2000")
    await borrow(edge, "2000")
    await borrow(edge, "1000", "EUR")
    await pass_hours(edge, BTCUSDT="50000", ETHUSDT="2000")
    await edge.engine.submit("alice", SetLeverage("ETHUSDT", Decimal(1)), request_id="", actor=SYSTEM)
    await edge.fill("alice", Side.BUY, "0.1", "BTCUSDT", "50000")
    await edge.fill("alice", Side.SELL, "0.5", "ETHUSDT", "2000")
    found = (await summary(edge, account_id="alice")).summary
    interest = Decimal("0.02") + Decimal("1000") * Decimal("0.365") / HOURS_OF_YEAR * Decimal("1.10")
    # 12,000 and 1,000 euros at 1.10, of which a tenth does not count
    assert (found.currency, found.borrowed, found.collateral) == ("USDT", "3100", "12990")
    assert abs(Decimal(found.accrued_interest) - interest) < Decimal("1E-9")
    assert found.daily_cost == "1.58"  # 2,000 × 0.00024 + 1,000 × 0.001 × 1.10
    assert found.debt_to_collateral == str(((3100 + interest) / 12990).quantize(Decimal("1E-8"), "ROUND_CEILING"))
    assert (found.active_leveraged_positions, found.exposure) == (1, "6000")
    assert (found.average_leverage, found.maximum_leverage) == ("1.83333334", "2")
    assert found.level == types_pb2.RISK_LEVEL_NORMAL and found.account_count == 1
    status = await edge_status(edge)
    assert found.margin_utilization == status.margin_utilization
    assert found.maintenance_ratio == status.maintenance_ratio
    assert found.available_collateral == status.margin_available
    assert Decimal(status.equity) == Decimal(status.collateral_value) - Decimal(status.debt)


async def test_a_day_of_compound_interest_costs_more_once_interest_is_owed(edge: Edge) -> None:
    await rate(edge, annual="3.65", clock="cryptocom_hourly")
    await edge.open()
    await borrow(edge, "1000")
    assert (await summary(edge)).summary.daily_cost == "10"
    await pass_hours(edge, 24)
    found = (await summary(edge)).summary
    owed = Decimal(found.borrowed) + Decimal(found.accrued_interest)
    assert 0 <= Decimal(found.daily_cost) - owed / 100 < Decimal("1E-12")


async def test_summaries_add_up_over_accounts_owners_and_currencies(edge: Edge) -> None:
    await rate(edge)
    for name, owner in (("alice", "ann"), ("bob", "ann"), ("carol", "cat")):
        await edge.open(name, owner=owner)
        await borrow(edge, "1000", account_id=name)
    assert (await summary(edge)).summary.borrowed == "3000"
    ann = (await summary(edge, owner="ann")).summary
    assert (ann.borrowed, ann.account_count, ann.collateral) == ("2000", 2, "22000")
    assert not ann.HasField("average_leverage") and not ann.HasField("maximum_leverage")
    nobody = await summary(edge, owner="nobody")
    assert not nobody.HasField("summary") and not nobody.by_currency


async def test_without_a_price_amounts_are_absent_and_never_zero(edge: Edge) -> None:
    await rate(edge, "BTC")
    rule = AssetRule("BTC", priced_by="BTCUSDT")
    await edge.engine.submit_house(SetAssetRule(rule), request_id="", actor=SYSTEM)
    await edge.open()
    blind = await borrow(edge, "0.01", "BTC")
    assert not blind.accepted and "MISSING_MARK" in reasons(blind) and not blind.HasField("largest_amount")
    await edge.mark(BTCUSDT="50000")
    assert (await borrow(edge, "0.01", "BTC")).accepted
    edge.engine.marks.clear()
    edge.engine.present.clear()
    (debt,) = (await debts(edge)).debts
    assert debt.principal == "0.01" and not debt.HasField("value")
    found = (await summary(edge, account_id="alice")).summary
    for name in ("borrowed", "collateral", "accrued_interest", "daily_cost", "debt_to_collateral", "exposure"):
        assert not found.HasField(name), name
    assert not (await edge_status(edge)).HasField("debt")
    assert (await repay(edge, asset="BTC")).accepted  # paying back needs no price


async def test_debts_are_listed_by_account_and_asset(edge: Edge) -> None:
    await rate(edge)
    await rate(edge, "EUR")
    for name in ("alice", "bob"):
        await edge.open(name, owner=name)
        for asset in ("USDT", "EUR"):
            await edge.engine.submit(name, Borrow(asset, Decimal(5)), request_id="", actor=SYSTEM)
    first = await debts(edge, page_size=3)
    assert [(one.account_id, one.asset) for one in first.debts] == [("alice", "EUR"), ("alice", "USDT"), ("bob", "EUR")]
    rest = await debts(edge, page_size=3, page_token=first.next_page_token)
    assert [(one.account_id, one.asset) for one in rest.debts] == [("bob", "USDT")] and not rest.next_page_token
    assert [one.asset for one in (await debts(edge, account_id="bob", asset="EUR")).debts] == ["EUR"]
    assert {one.lender for one in rest.debts} == {wire.LENDER_HOUSE} and len(Lender) == 2


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("method", "request_class", "fields", "problems"),
    [
        ("Borrow", wire.BorrowRequest, {"amount": "0"}, ["request_id", "account_id", "asset", "amount"]),
        ("Borrow", wire.BorrowRequest, {"amount": "1e5"}, ["request_id", "account_id", "asset", "amount"]),
        ("Repay", wire.RepayRequest, {"amount": "-1"}, ["request_id", "account_id", "asset", "amount"]),
        ("Repay", wire.RepayRequest, {}, ["request_id", "account_id", "asset"]),
        ("GetDebtSummary", wire.GetDebtSummaryRequest, {"account_id": "a b", "owner": "!"}, ["account_id", "owner"]),
        ("ListDebts", wire.ListDebtsRequest, {"page_size": -1, "asset": "a b"}, ["page_size", "asset"]),
        (
            "ListInterestCharges",
            wire.ListInterestChargesRequest,
            {"start_time": START, "end_time": LONG_AGO, "asset": "§"},
            ["account_id", "asset", "end_time"],
        ),
        ("ListBorrowRates", wire.ListBorrowRatesRequest, {"assets": ["a b"]}, ["account_id", "assets[0]"]),
    ],
)
async def test_every_malformed_field_is_named(
    edge: Edge, method: str, request_class: Any, fields: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await getattr(edge.debt, method)(request_class(**fields), CALL)
    assert [field for field, _ in raised.value.problems] == problems


@pytest.mark.parametrize("method", ["Borrow", "Repay", "GetDebtSummary", "ListDebts", "ListInterestCharges"])
async def test_an_unknown_account_is_a_fault(edge: Edge, method: str) -> None:
    request = getattr(wire, f"{method}Request")(account_id="nobody")
    if method in ("Borrow", "Repay"):
        request.request_id, request.asset, request.amount = "one", "USDT", "1"
    with pytest.raises(Fault) as raised:
        await getattr(edge.debt, method)(request, CALL)
    assert raised.value.reason is FaultReason.ACCOUNT_NOT_FOUND
