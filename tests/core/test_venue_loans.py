"""Loans of live accounts: asked of the venue by the rules, counted when it did them, mirrored when made elsewhere."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Debt, Lender, Posting
from debt_mgmt.core.profit import Causes, profit_and_loss
from debt_mgmt.core.refusals import Reason
from debt_mgmt.core.venue import LoanKind, VenueBalance, VenueLoan
from debt_mgmt.core.whatif import simulate
from tests.support.desk import kinds, reasons
from tests.support.live_desk import BTC, LiveDesk, alerts, balance, held, ready, synced

D = Decimal
MONEY = balance("USDT", 10_000)
OWING = balance("USDT", 10_000, debt="4000", interest="3")


def borrow(desk: LiveDesk, amount: str, asset: str = "USDT", *, apart: bool = False) -> tuple[e.Event, ...]:
    return desk.do("alice", c.Borrow(asset, D(amount), apart))


def repay(
    desk: LiveDesk, amount: str | None = None, asset: str = "USDT", *, apart: bool = False
) -> tuple[e.Event, ...]:
    return desk.do("alice", c.Repay(asset, None if amount is None else D(amount), apart))


def pending(desk: LiveDesk, asset: str = "USDT") -> VenueLoan:
    return desk.account().loans[asset]


def send(desk: LiveDesk, before: str = "0") -> tuple[e.Event, ...]:
    return desk.do("alice", c.RecordLoanSent(pending(desk).loan_id, D(before)))


def done(desk: LiveDesk, asset: str = "USDT") -> tuple[e.Event, ...]:
    return desk.do("alice", c.RecordLoanOutcome(pending(desk, asset).loan_id, confirmed=True))


def causes(desk: LiveDesk) -> Causes:
    interval = desk.account().interval
    assert interval is not None
    return interval.causes


def record(desk: LiveDesk) -> e.EquityRecorded:
    (recorded,) = (one for one in desk.do("alice", c.RecordEquity(desk.now)) if isinstance(one, e.EquityRecorded))
    return recorded


# Asking


def test_a_loan_is_asked_for_and_counts_when_the_venue_did_it() -> None:
    desk = ready()
    before = desk.account()
    (event,) = borrow(desk, "5000")
    assert isinstance(event, e.LoanRequested)
    assert event.loan == VenueLoan(event.loan.loan_id, LoanKind.BORROW, "USDT", D(5000), desk.now)
    assert event.largest_amount is not None and event.before == desk.figures()
    assert (desk.account().balances, desk.account().debts) == (before.balances, {})
    (sent,) = send(desk, "7")
    assert isinstance(sent, e.LoanSent) and (sent.loan.sent_at, sent.loan.owed_before) == (desk.now, D(7))
    assert send(desk) == (), "nothing is sent a second time"
    (lent,) = done(desk)
    assert isinstance(lent, e.Borrowed) and lent.loan == sent.loan
    assert lent.postings == (Posting("wallet", "USDT", D(5000)), Posting("debt", "USDT", D(-5000)))
    after = desk.account()
    assert after.balances == {"USDT": D(15_000)} and not after.loans
    assert after.debts == {"USDT": Debt("USDT", D(5000), desk.now, Lender.BROKER)}
    assert desk.figures().equity == 10_000
    assert desk.do("alice", c.RecordLoanOutcome(sent.loan.loan_id, confirmed=False, message="no")) == ()


def test_what_could_be_borrowed_is_exactly_what_passes() -> None:
    desk = ready()
    most = borrow(desk, "1000000")[0]
    assert isinstance(most, e.CommandRefused) and reasons((most,)) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    assert most.largest_amount is not None and most.largest_amount > 0
    above = str(most.largest_amount + D("1E-8"))
    assert kinds(borrow(desk, above)) == ["CommandRefused"]
    assert kinds(borrow(desk, str(most.largest_amount))) == ["LoanRequested"]


def test_a_refusal_of_the_venue_leaves_everything_as_it_was() -> None:
    desk = ready()
    before = desk.account()
    borrow(desk, "5000")
    send(desk)
    loan = pending(desk)
    events = desk.do("alice", c.RecordLoanOutcome(loan.loan_id, False, "110007", "limit exceeded"))
    assert kinds(events) == ["LoanRefused", "AlertRaised"]
    assert alerts(events)[0].message == "bybit on borrowing 5000 USDT: limit exceeded (code 110007)"
    after = desk.account()
    assert (after.balances, after.debts, after.loans) == (before.balances, before.debts, {})


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda desk: desk.do("alice", c.HaltTrading("a reason")), Reason.TRADING_HALTED),
        (lambda desk: desk.house_do(c.HaltHouse("everybody")), Reason.HOUSE_HALTED),
        (lambda desk: desk.do("alice", c.LoseSync("gone")), Reason.ACCOUNT_NOT_SYNCED),
        (lambda desk: desk.do("alice", c.SetDryRun(True)), Reason.DRY_RUN),
        (lambda desk: borrow(desk, "1"), Reason.CHANGE_PENDING),
        (lambda desk: desk.do("alice", c.CloseAccount("enough")), Reason.ACCOUNT_CLOSED),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_what_stands_against_a_loan_of_a_venue(
    prepare: Callable[[LiveDesk], object], reason: Reason, apart: bool
) -> None:
    desk = ready()
    prepare(desk)
    known = desk.account().loans
    assert reason in reasons(borrow(desk, "10", apart=apart))
    assert desk.account().loans == known


def test_a_loan_on_its_way_keeps_the_account_open() -> None:
    desk = ready(balance("USDT", 0))
    repaid = ready(balance("USDT", 100, debt="50"))
    repay(repaid)
    assert "OPEN_POSITIONS" in reasons(repaid.do("alice", c.CloseAccount("enough")))
    assert kinds(desk.do("alice", c.CloseAccount("enough"))) == ["AccountClosed"]


def test_what_a_loan_would_do_is_shown_without_asking() -> None:
    desk = ready()
    found = simulate(desk.account(), desk.world("alice"), (c.Borrow("USDT", D(5000)), c.Repay("USDT", D(2000))))
    assert [one.applied for one in found.outcomes] == [True, True]
    assert found.account_after.debts["USDT"].principal == 3000
    assert found.account_after.balances["USDT"] == 13_000
    assert not desk.account().loans


# Repaying


def test_interest_is_repaid_first_and_no_more_than_is_owed() -> None:
    desk = ready(OWING)
    (asked,) = repay(desk, "1003")
    assert isinstance(asked, e.LoanRequested) and asked.loan.kind is LoanKind.REPAY
    assert desk.account().balances == {"USDT": D(10_000)}
    (paid,) = done(desk)
    assert isinstance(paid, e.Repaid)
    assert (paid.interest_paid, paid.principal_paid) == (D(3), D(1000))
    debt = desk.account().debts["USDT"]
    assert (debt.principal, debt.accrued_interest, desk.account().balances["USDT"]) == (D(3000), D(0), D(8997))
    (asked,) = repay(desk)
    assert isinstance(asked, e.LoanRequested) and asked.loan.amount == 3000
    done(desk)
    assert desk.account().debts == {} and desk.account().balances == {"USDT": D(5997)}
    assert reasons(repay(desk)) == ["NO_DEBT"]


@pytest.mark.parametrize(
    "prepare",
    [
        lambda desk: desk.do("alice", c.HaltTrading("a reason")),
        lambda desk: desk.house_do(c.HaltHouse("everybody")),
        lambda desk: desk.do("alice", c.LoseSync("gone")),
        lambda desk: desk.wait(timedelta(hours=1)),
        lambda desk: desk.forget(BTC),
    ],
)
def test_nothing_but_dry_run_stops_a_repayment(prepare: Callable[[LiveDesk], object]) -> None:
    desk = ready(OWING, held(BTC, "0.5", 50_000, leverage=5))
    prepare(desk)
    assert kinds(repay(desk, "100"))[0] == "LoanRequested"
    dry = ready(OWING)
    dry.do("alice", c.SetDryRun(True))
    assert reasons(repay(dry, "100")) == ["DRY_RUN"]


def test_what_is_known_bounds_a_repayment_only_while_the_venue_is_in_sight() -> None:
    desk = ready(balance("USDT", 100, debt="4000"))
    assert reasons(repay(desk, "200")) == ["INSUFFICIENT_BALANCE"]
    assert reasons(repay(desk, "1", "BTC")) == ["NO_DEBT"]
    desk.do("alice", c.LoseSync("gone"))
    assert kinds(repay(desk, "200")) == ["LoanRequested"]
    assert kinds(repay(desk, "1", "BTC")) == ["LoanRequested"], "who knows what is owed there by now"
    assert reasons(repay(desk, None, "ETH")) == ["NO_DEBT"]
    assert reasons(repay(desk, "200")) == ["CHANGE_PENDING"]


# What a sync brings


def test_a_state_that_was_read_before_the_venue_lent_does_not_undo_it() -> None:
    desk = ready()
    borrow(desk, "5000")
    desk.pass_quietly(timedelta(seconds=5))
    done(desk)
    for told in (MONEY, balance("USDT", 10_000, debt="0", interest="0")):
        desk.sync(told, read=timedelta(seconds=4))
        assert desk.account().debts["USDT"].principal == 5000 and desk.account().balances == {"USDT": D(15_000)}
    events = desk.sync(balance("USDT", "15000", debt="5000", interest="0.5"))
    assert synced(events).debts[0].accrued_interest == D("0.5")
    events = desk.sync(balance("USDT", "15000", debt="0", interest="0"))
    assert desk.account().debts == {}


def test_debts_of_a_wallet_apart_are_known_and_count_nowhere() -> None:
    desk = ready()
    before = desk.figures()
    wallet = (balance("BTC", "0.5", debt="0.4", interest="0.001"), balance("USDT", 10, debt="0"))
    state = msgspec.structs.replace(desk.state(MONEY), apart=wallet)
    desk.do("alice", c.RecordSync(state))
    assert desk.account().debts_apart == {"BTC": Debt("BTC", D("0.4"), desk.now, Lender.BROKER, D("0.001"))}
    assert not desk.account().debts and desk.figures() == before and causes(desk).synced == 10_000
    desk.sync(MONEY)
    assert desk.account().debts_apart, "a state that does not tell of that wallet changes nothing there"
    desk.pass_quietly(timedelta(seconds=1))
    desk.do("alice", c.RecordSync(msgspec.structs.replace(desk.state(MONEY), apart=())))
    assert desk.account().debts_apart == {}


def test_a_loan_apart_is_not_money_of_the_account() -> None:
    desk = ready(balance("USDT", 0))
    (asked,) = borrow(desk, "5000", apart=True)
    assert isinstance(asked, e.LoanRequested) and asked.largest_amount is None, "only the venue knows that wallet"
    (lent,) = done(desk)
    assert isinstance(lent, e.Borrowed) and lent.postings == ()
    assert desk.account().debts_apart["USDT"].principal == 5000
    assert not desk.account().debts and not desk.account().balances and desk.figures().equity == 0
    assert reasons(repay(desk, "100")) == ["NO_DEBT"]
    assert kinds(repay(desk, "2000", apart=True)) == ["LoanRequested"]
    (paid,) = done(desk)
    assert isinstance(paid, e.Repaid) and paid.postings == ()
    assert desk.account().debts_apart["USDT"].principal == 3000


# Why equity changed


def test_what_the_venue_had_otherwise_is_a_cause_of_its_own() -> None:
    desk = ready()
    assert causes(desk) == Causes(synced=D(10_000)), "the money that was there at first"
    desk.sync(balance("USDT", 10_250))
    assert causes(desk).synced == 10_250
    desk.sync(balance("USDT", 10_250), held(BTC, "0.1", 49_000, leverage=5))
    assert causes(desk).synced == 10_350, "a position that was opened elsewhere, with what it has gained"
    desk.mark(BTC, 51_000)
    recorded = record(desk)
    made = profit_and_loss(recorded.equity_before, recorded.equity, recorded.causes)
    assert made is not None and (made.synced, made.price, made.total) == (D(10_350), D(100), D(10_450))
    assert causes(desk) == Causes()


def test_interest_of_the_venue_is_interest_as_far_as_a_known_debt_grows_by_it() -> None:
    desk = ready(OWING)
    assert causes(desk) == Causes(synced=D(5997))
    desk.sync(balance("USDT", 10_000, debt="4000", interest="3.5"))
    assert causes(desk) == Causes(interest=D("-0.5"), synced=D(5997))
    assert desk.account().interest_charged == {"USDT": D("0.5")}
    desk.sync(balance("USDT", "9996.5", debt="4000", interest="0"))
    assert causes(desk) == Causes(interest=D("-0.5"), synced=D(5997)), "interest that is paid changes nothing"


def test_a_loan_changes_no_equity_and_so_has_no_cause() -> None:
    desk = ready()
    before = causes(desk)
    borrow(desk, "5000")
    done(desk)
    repay(desk, "2000")
    done(desk)
    desk.sync(balance("USDT", 13_000, debt="3000", interest="0"))
    assert causes(desk) == before and desk.figures().equity == 10_000


def test_without_a_price_the_parts_are_not_known() -> None:
    desk = ready()
    desk.forget(BTC)
    desk.sync(MONEY)
    assert not causes(desk).unpriced, "nothing differed"
    desk.sync(MONEY, balance("BTC", 1))
    assert causes(desk).unpriced


# Properties

AMOUNTS = st.decimals("0.01", "9000", places=2)
STEPS = st.sampled_from(("borrow", "repay", "send", "confirm", "refuse", "sync", "lose"))


@given(st.lists(st.tuples(STEPS, AMOUNTS, st.booleans()), max_size=25))
@settings(max_examples=60, deadline=None)
def test_over_any_history_books_balance_parts_sum_and_replay_is_the_same(
    steps: list[tuple[str, Decimal, bool]],
) -> None:
    """The venue is a wallet and a debt that do what was confirmed; after a sync both sides are alike."""
    desk = ready()
    wallet, debt = D(10_000), D(0)
    for what, amount, apart in steps:
        loan = next(iter(desk.account().loans.values()), None)
        if what in ("borrow", "repay"):
            command = c.Borrow if what == "borrow" else c.Repay
            desk.do("alice", command("USDT", amount, apart))
        elif what == "send" and loan is not None:
            desk.do("alice", c.RecordLoanSent(loan.loan_id, debt))
        elif what in ("confirm", "refuse") and loan is not None:
            if what == "confirm" and not loan.apart:
                moved = loan.amount if loan.kind is LoanKind.BORROW else -min(loan.amount, debt)
                wallet, debt = wallet + moved, debt + moved
            desk.do("alice", c.RecordLoanOutcome(loan.loan_id, what == "confirm", "1", "no"))
            assert desk.account().loans.get("USDT") is None
        elif what == "sync":
            told = VenueBalance("USDT", wallet, debt=debt, interest=D(0))
            desk.sync(told)
            assert desk.account().balances.get("USDT", D(0)) == wallet
            owed = desk.account().debts.get("USDT")
            assert (owed.principal if owed is not None else 0) == debt
        elif what == "lose":
            desk.do("alice", c.LoseSync("gone"))
    for event in desk.journal["alice"]:
        postings = getattr(event, "postings", ())
        assert sum((one.amount for one in postings), D(0)) == 0
    assert desk.replayed("alice") == desk.account()
    recorded = record(desk)
    made = profit_and_loss(recorded.equity_before, recorded.equity, recorded.causes)
    assert made is not None and made.price == 0, "no price moved, so nothing is put down to one"
    parts = (made.price, made.funding, made.interest, made.fees, made.transfers, made.liquidation_cost, made.synced)
    assert sum(parts) == made.total
