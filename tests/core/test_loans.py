"""Borrowing and repaying: what may be borrowed, how much at most, what it changes, and that repayment ends it."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Debt, Environment, Lender, RiskLevel
from debt_mgmt.core.decide import decide
from debt_mgmt.core.loans import AMOUNT_STEP, check_loan, largest_loan
from debt_mgmt.core.whatif import simulate
from tests.support.desk import FREE, HOUSE, Desk, kinds, reasons, refusal

D = Decimal


def lender(capital: str | int = 10_000, clock: str = "okx_hourly", *, haircut: str = "0.05", **rules: object) -> Desk:
    """A house that lends USDT and BTC; alice has `capital` USDT."""
    desk = Desk(msgspec.structs.replace(FREE, **rules))
    desk.value("BTC", priced_by="BTCUSDT", haircut=haircut)
    desk.house_do(c.SetBorrowRate("USDT", D("0.0876"), clock))
    desk.house_do(c.SetBorrowRate("BTC", D("0.0876"), clock))
    desk.mark("BTCUSDT", 50_000)
    desk.mark("ETHUSDT", 2_500)
    desk.open("alice", capital)
    return desk


# What it changes


def test_a_loan_adds_to_the_wallet_and_takes_nothing_from_equity_but_the_charge() -> None:
    desk = lender(clock="binance_hourly")
    events = desk.do("alice", c.Borrow("USDT", D(1000)))
    assert kinds(events) == ["Borrowed", "InterestCharged"]
    assert desk.account().balances["USDT"] == 11_000
    assert desk.figures().equity == 10_000 - D("0.01")
    assert isinstance(events[0], e.Borrowed)
    assert (events[0].figures, events[0].value) == (desk.figures(), D(1000))


def test_accrued_interest_is_in_equity_at_once_and_in_the_wallet_only_when_repaid() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.wait(timedelta(hours=3), fresh=True)
    assert desk.figures().equity == 10_000, "nothing is owed before it is charged"
    desk.do("alice", c.ChargeInterest())
    assert (desk.figures().equity, desk.account().balances["USDT"]) == (D("9999.97"), D(11_000))
    desk.do("alice", c.Repay("USDT"))
    assert (desk.figures().equity, desk.account().balances["USDT"]) == (D("9999.97"), D("9999.97"))


def test_a_borrowed_asset_counts_with_its_haircut_and_its_debt_in_full() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("BTC", D("0.1")))
    summary = desk.summary()
    assert summary.equity == 10_000 - D("0.05") * 5_000
    assert (summary.debt_value, summary.wallet_value) == (D(5_000), D(15_000))
    desk.mark("BTCUSDT", 60_000)
    assert desk.summary().equity == 10_000 - D("0.05") * 6_000


def test_equity_is_unknown_without_the_price_of_what_is_owed() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("BTC", D("0.1")))
    desk.forget("BTCUSDT")
    assert desk.summary().missing == ("BTCUSDT",)
    assert desk.account().level is RiskLevel.UNKNOWN, "a debt is open risk"


def test_a_loan_can_be_tried_beforehand() -> None:
    desk = lender()
    tried = simulate(desk.account(), desk.world("alice"), (c.Borrow("BTC", D("0.1")), c.Repay("BTC", D("0.04"))))
    assert [outcome.applied for outcome in tried.outcomes] == [True, True]
    assert tried.account_after.debts["BTC"].principal == D("0.06")
    assert tried.summary_after.equity == 10_000 - D("0.05") * 3_000
    assert desk.account().debts == {}


# Whether it may


def test_a_loan_is_refused_with_every_rule_it_breaks_and_the_largest_that_breaks_none() -> None:
    desk = lender()
    refused = refusal(desk.do("alice", c.Borrow("USDT", D(60_000))))
    assert [one.reason.value for one in refused.violations] == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    assert refused.largest_amount == 40_000, "debts ÷ 5 may be 0.80 of equity"
    assert refused.before is not None
    assert (refused.before.equity, refused.margin_required) == (D(10_000), D(13_200))
    assert refused.after is not None
    assert refused.after.equity == 10_000


@pytest.mark.parametrize("clock", ["okx_hourly", "binance_hourly", "kraken_4h_started"])
@pytest.mark.parametrize("asset", ["USDT", "BTC"])
@pytest.mark.parametrize("held", ["0", "0.4"])
def test_the_largest_loan_passes_and_one_step_more_does_not(clock: str, asset: str, held: str) -> None:
    desk = lender("12345.678", clock)
    if D(held):
        desk.leverage("alice", "BTCUSDT", 5)
        desk.fill("alice", "buy", held)
    most = largest_loan(desk.account(), desk.world("alice"), asset)
    assert most is not None
    assert most > 0
    assert reasons(desk.do("alice", c.Borrow(asset, most + AMOUNT_STEP))) != []
    assert reasons(desk.do("alice", c.Borrow(asset, most))) == []


def test_loans_add_up_against_the_same_equity() -> None:
    desk = lender()
    assert reasons(desk.do("alice", c.Borrow("USDT", D(30_000)))) == []
    assert refusal(desk.do("alice", c.Borrow("USDT", D(10_001)))).largest_amount == 10_000
    desk.do("alice", c.Borrow("USDT", D(10_000)))
    assert largest_loan(desk.account(), desk.world("alice"), "BTC") == 0


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda desk: desk.do("alice", c.HaltTrading("a reason")), "TRADING_HALTED"),
        (lambda desk: desk.house_do(c.HaltHouse("everybody")), "HOUSE_HALTED"),
        (lambda desk: desk.wait(timedelta(seconds=11)), "STALE_MARK"),
        (lambda desk: desk.forget("BTCUSDT"), "MISSING_MARK"),
        (lambda desk: desk.limit("alice", max_leverage=D(1)), "NOT_SUPPORTED"),
        (lambda desk: desk.do("alice", c.CloseAccount("enough")), "ACCOUNT_CLOSED"),
    ],
)
def test_what_stands_against_new_risk_stands_against_a_loan(prepare, reason: str) -> None:  # type: ignore[no-untyped-def]
    desk = lender()
    prepare(desk)
    assert reason in reasons(desk.do("alice", c.Borrow("BTC", D("0.001"))))
    assert desk.account().debts == {}


def test_a_live_account_asks_its_venue_and_the_house_lends_only_what_it_has_a_rate_for() -> None:
    desk = lender()
    desk.open("bob", environment=Environment.LIVE)
    assert "ACCOUNT_NOT_SYNCED" in reasons(desk.do("bob", c.Borrow("USDT", D(1)))), "the venue of bob was never read"
    assert "NOT_SUPPORTED" in reasons(desk.do("alice", c.Borrow("DOGE", D(1))))
    assert largest_loan(desk.account(), desk.world("alice"), "USDT") == 40_000


def test_a_debt_of_the_venue_is_neither_charged_nor_repaid_here() -> None:
    desk = lender()
    owed = Debt("USDT", D(500), desk.now, Lender.BROKER, accrued_interest=D(1))
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), debts={"USDT": owed})
    desk.wait(timedelta(days=3), fresh=True)
    assert desk.do("alice", c.ChargeInterest()) == ()
    assert reasons(desk.do("alice", c.Repay("USDT"))) == ["NOT_SUPPORTED"]
    assert reasons(desk.do("alice", c.Borrow("USDT", D(1)))) == ["NOT_SUPPORTED"]
    assert desk.summary().equity == 10_000 - 501


def test_what_is_owed_and_what_secures_it_can_not_be_withdrawn() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("USDT", D(30_000)))
    refused = refusal(desk.do("alice", c.Transfer("USDT", D(-5_000))))
    assert refused.violations[0].limit == 2_500, "30,000 ÷ 5 ÷ 0.80 stays"
    assert reasons(desk.do("alice", c.Transfer("USDT", D(-2_500)))) == []


def test_an_account_that_owes_is_not_closed() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("USDT", D(1)))
    assert reasons(desk.do("alice", c.CloseAccount())) == ["OPEN_POSITIONS"]
    desk.do("alice", c.Repay("USDT"))
    assert reasons(desk.do("alice", c.CloseAccount())) == []


# Repaying


def test_interest_is_paid_before_principal() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("USDT", D(1000)))
    desk.wait(timedelta(hours=5), fresh=True)
    (event,) = (one for one in desk.do("alice", c.Repay("USDT", D("0.02"))) if isinstance(one, e.Repaid))
    assert (event.interest_paid, event.principal_paid) == (D("0.02"), D(0))
    (event,) = (one for one in desk.do("alice", c.Repay("USDT", D(100))) if isinstance(one, e.Repaid))
    assert (event.interest_paid, event.principal_paid) == (D("0.03"), D("99.97"))
    assert event.debt is not None
    assert (event.debt.principal, event.debt.accrued_interest) == (D("900.03"), D(0))


@pytest.mark.parametrize("stands", ["halt", "house", "stale", "missing", "underwater"])
def test_repaying_is_never_refused_for_what_stands_against_new_risk(stands: str) -> None:
    desk = lender()
    desk.do("alice", c.Borrow("BTC", D("0.2")))
    match stands:
        case "halt":
            desk.do("alice", c.HaltTrading("a reason"))
        case "house":
            desk.house_do(c.HaltHouse("everybody"))
        case "stale":
            desk.wait(timedelta(days=1))
        case "missing":
            desk.forget("BTCUSDT")
        case "underwater":
            desk.mark("BTCUSDT", 5_000_000)
            assert desk.summary().equity < 0
    events = desk.do("alice", c.Repay("BTC", D("0.1")))
    assert "Repaid" in kinds(events)
    value = next(event.value for event in events if isinstance(event, e.Repaid))
    assert (value is None) is (stands == "missing")


def test_repaying_needs_a_debt_and_the_asset() -> None:
    desk = lender()
    assert reasons(desk.do("alice", c.Repay("USDT"))) == ["NO_DEBT"]
    desk.do("alice", c.Borrow("BTC", D("0.1")))
    desk.wait(timedelta(hours=2), fresh=True)
    refused = refusal(desk.do("alice", c.Repay("BTC")))
    assert (refused.violations[0].reason.value, refused.violations[0].limit) == ("INSUFFICIENT_BALANCE", D("0.1"))
    assert desk.account().debts["BTC"].accrued_interest == 0, "a refusal stands alone; the charge comes by itself"
    assert len(desk.do("alice", c.ChargeInterest())) == 2
    assert desk.account().debts["BTC"].accrued_interest == D("0.000002")


@given(
    st.integers(1, 10**14),
    st.integers(0, 400_000),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 10**12)), max_size=5),
    st.sampled_from(["okx_hourly", "binance_hourly", "cryptocom_hourly", "kraken_4h"]),
)
@settings(max_examples=60)
def test_repaying_all_leaves_nothing_over(amount: int, rate: int, parts: list[tuple[int, int]], clock: str) -> None:
    """Whatever was borrowed, charged and paid in between: afterwards there is no debt, and no dust of one."""
    desk = lender(10**9, clock)
    desk.house_do(c.SetBorrowRate("USDT", D(rate) / 10**6, clock))
    borrowed = D(amount) / 10**7
    desk.do("alice", c.Borrow("USDT", borrowed))
    for minutes, part in parts:
        desk.wait(timedelta(minutes=minutes), fresh=True)
        desk.do("alice", c.Repay("USDT", D(part) / 10**9))
    desk.do("alice", c.Repay("USDT"))
    account = desk.account()
    assert account.debts == {}
    assert account.balances["USDT"] == 10**9 - account.interest_charged.get("USDT", D(0))
    assert desk.summary().debt_value == 0


def test_more_than_is_owed_is_not_taken() -> None:
    desk = lender()
    desk.do("alice", c.Borrow("USDT", D(1000)))
    (event,) = (one for one in desk.do("alice", c.Repay("USDT", D(5000))) if isinstance(one, e.Repaid))
    assert (event.amount, event.debt) == (D(1000), None)


# Levels


def test_interest_alone_can_call_for_margin() -> None:
    """Used 6,995 of 10,000; the interest of a loan takes the equity to where 0.70 of it is less."""
    desk = lender(10_000, "okx_hourly")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.6995")
    desk.do("alice", c.Borrow("USDT", D(4_000)))
    assert desk.account().level is RiskLevel.NORMAL
    desk.house_do(c.SetBorrowRate("USDT", D(20), "okx_hourly"))
    desk.wait(timedelta(hours=8), fresh=True)
    events = desk.do("alice", c.ChargeInterest())
    assert desk.account().level is RiskLevel.WARNING
    assert kinds(events)[-2:] == ["RiskLevelChanged", "AlertRaised"]


def test_a_loss_beyond_all_equity_ends_the_debts_with_the_balances() -> None:
    desk = lender(10_000, haircut="0")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.do("alice", c.Borrow("USDT", D(5_000)))
    desk.fill("alice", "buy", "0.5")
    desk.mark("BTCUSDT", 20_000)
    desk.run_reductions("alice")
    (event,) = (one for one in desk.events("alice") if isinstance(one, e.BankruptcyRecorded))
    assert event.deficit == 5_000
    assert desk.account().debts == {}
    assert desk.summary().equity == 0


def test_deciding_needs_no_more_than_the_account_and_the_world() -> None:
    desk = lender()
    world = desk.world("alice")
    first = decide(desk.account(), c.Borrow("USDT", D(7)), world)
    assert first == decide(desk.account(), c.Borrow("USDT", D(7)), world)
    assert check_loan(desk.account(), world, "USDT", D(7)).violations == ()


def test_the_settings_of_the_house_bound_a_loan() -> None:
    desk = lender(limits=HOUSE.limits, max_leverage=D(2))
    assert largest_loan(desk.account(), desk.world("alice"), "USDT") == 16_000
