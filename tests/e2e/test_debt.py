"""Borrowed money over the wire: a loan from its opening to its last coin, and what interest and funding did to equity.

Figures are counted again here, in fractions, from what the account did: never from what the service says of it.
"""

import csv
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from debt_mgmt.core.commands import PublishFundingRate, SetAssetRule, SetBorrowRate
from debt_mgmt.core.market import AssetRule
from debt_mgmt.server import passing_time, recording
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import debt_service_pb2 as wire
from debt_mgmt.v1 import fund_service_pb2 as funds
from debt_mgmt.v1 import types_pb2
from tests.support.service import Clock, Desk, service
from tests.support.wire import reasons

START = datetime(2026, 3, 2, 13, 20, tzinfo=UTC)
TAPE = Path(__file__).parents[3] / "shared" / "data" / "btc-eth-usd-1m-2017-09-03.csv.gz"
CAUSES = ("price", "funding", "interest", "fees", "transfers", "liquidation_cost", "synced")


@pytest.fixture(autouse=True)
def time_passes_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a look at the clock between two lines of a test would charge interest at the price before."""
    monkeypatch.setattr(passing_time, "SWEEP_SECONDS", 86_400.0)
    monkeypatch.setattr(recording, "LOOK_SECONDS", 86_400.0)


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest_asyncio.fixture
async def desk(clock: Clock) -> AsyncIterator[Desk]:
    async with service(clock=clock) as running:
        await lend(running, "USDT", "0.876", "binance_hourly")
        await running.open("ann", "10000", "USDT")
        yield running


async def lend(desk: Desk, asset: str, annual_rate: str, interest_clock: str) -> None:
    command = SetBorrowRate(asset, Decimal(annual_rate), interest_clock)
    await desk.engine.submit_house(command, request_id="", actor=SYSTEM)


async def borrow(desk: Desk, asset: str, amount: str, account_id: str = "ann", request_id: str = "") -> Any:
    return await desk.debt.Borrow(
        wire.BorrowRequest(
            request_id=request_id or desk.request_id(), account_id=account_id, asset=asset, amount=amount
        )
    )


async def repay(desk: Desk, asset: str, amount: str | None = None, account_id: str = "ann") -> Any:
    return await desk.debt.Repay(
        wire.RepayRequest(request_id=desk.request_id(), account_id=account_id, asset=asset, amount=amount)
    )


async def charges(desk: Desk, account_id: str = "ann", **fields: Any) -> list[Any]:
    request = wire.ListInterestChargesRequest(account_id=account_id, page_size=1000, **fields)
    return list((await desk.debt.ListInterestCharges(request)).charges)


async def history(desk: Desk, account_id: str = "ann", interval: Any = funds.FUND_INTERVAL_HOUR, **fields: Any) -> Any:
    request = funds.ListFundHistoryRequest(account_id=account_id, interval=interval, page_size=1000, **fields)
    return await desk.funds.ListFundHistory(request)


def sums(message: funds.ProfitAndLoss) -> bool:
    """Whether the parts are the whole, to the last digit."""
    return sum(Decimal(getattr(message, name)) for name in CAUSES) == Decimal(message.total)


async def test_a_loan_from_its_opening_to_its_last_coin(desk: Desk, clock: Clock) -> None:
    lent = await borrow(desk, "USDT", "4000")
    # Binance: an hour at once, and one at 14:00: from 13:20 to 14:15 are two
    assert (lent.debt.principal, lent.debt.accrued_interest) == ("4000", "0.4")
    clock.advance(minutes=55)
    await desk.engine.sweep()
    found = await charges(desk)
    assert [(one.charge_time.ToDatetime(UTC).strftime("%H:%M"), one.amount) for one in found] == [
        ("14:00", "0.4"),
        ("13:20", "0.4"),
    ]
    assert all(Decimal(one.amount) == Decimal(one.principal) * Decimal(one.rate) * one.periods for one in found)
    status = await desk.status("ann")
    assert (status.wallet_balance, status.debt, status.equity) == ("14000", "4000.8", "9999.2")
    clock.advance(hours=3)
    await desk.engine.sweep()
    part = await repay(desk, "USDT", "1.5")
    assert (part.interest_paid, part.principal_paid, part.debt.accrued_interest) == ("1.5", "0", "0.5")
    last = await repay(desk, "USDT")
    assert (last.interest_paid, last.principal_paid) == ("0.5", "4000") and not last.HasField("debt")
    assert not (await desk.debt.ListDebts(wire.ListDebtsRequest())).debts
    funds_left = (await desk.funds.GetFunds(funds.GetFundsRequest(account_id="ann"))).funds
    assert [(one.asset, one.amount) for one in funds_left.balances] == [("USDT", "9998")]
    clock.advance(hours=5)
    await desk.engine.sweep()
    assert len(await charges(desk)) == 5, "what is paid back is charged no more"
    total = (await history(desk)).total
    assert (total.interest, total.transfers, total.total) == ("-2", "10000", "9998") and sums(total)


async def test_hours_missed_while_the_service_was_down_are_charged_once_at_the_start(clock: Clock) -> None:
    journal = MemoryJournal()
    async with service(journal=journal, clock=clock) as desk:
        await lend(desk, "USDT", "0.876", "okx_hourly")
        await desk.open("ann", "10000", "USDT")
        await borrow(desk, "USDT", "1000")
    clock.advance(days=2, minutes=50)
    async with service(journal=journal, clock=clock) as desk:
        for _ in range(2):
            await desk.engine.sweep()
        found = await charges(desk)
        due = [one.charge_time.ToDatetime(UTC) for one in found]
        assert due == [START.replace(hour=14, minute=0) + timedelta(hours=number) for number in range(48, -1, -1)]
        total = (await history(desk)).total
        assert (total.interest, total.transfers) == ("-4.9", "10000") and sums(total)


async def test_a_repeat_is_answered_alike_after_a_restart(clock: Clock) -> None:
    journal = MemoryJournal()
    async with service(journal=journal, clock=clock) as desk:
        await desk.open("ann", "10000", "USDT")
        first = await borrow(desk, "USDT", "1000", request_id="loan")
        assert first.accepted
        await repay(desk, "USDT", "300")
    async with service(journal=journal, clock=clock) as desk:
        again = await borrow(desk, "USDT", "1000", request_id="loan")
        assert again.replayed
        again.replayed = False
        assert again == first
        assert len(await charges(desk)) == 1
        debts = (await desk.debt.ListDebts(wire.ListDebtsRequest(account_id="ann"))).debts
        assert len(debts) == 1 and Decimal(debts[0].principal) < 1000


async def test_a_coin_without_a_price_is_not_lent_and_is_paid_back_all_the_same(desk: Desk, clock: Clock) -> None:
    blind = await borrow(desk, "BTC", "0.01")
    assert not blind.accepted and reasons(blind.violations) == ["MISSING_MARK"]
    assert not blind.HasField("largest_amount")
    await desk.mark({"BTCUSDT": "50000"})
    assert (await borrow(desk, "BTC", "0.01")).accepted
    clock.advance(minutes=5)
    old = await borrow(desk, "BTC", "0.01")
    assert not old.accepted and reasons(old.violations) == ["STALE_MARK"]
    assert (await repay(desk, "BTC", "0.005")).accepted


async def test_a_loan_never_takes_the_account_beyond_what_trading_may(desk: Desk) -> None:
    await desk.mark({"BTCUSDT": "50000"})
    await desk.lever("ann", "BTCUSDT", "5")
    await desk.fill("ann", types_pb2.SIDE_BUY, "0.5", "BTCUSDT", "50000")
    refused = await borrow(desk, "USDT", "100000")
    assert not refused.accepted and reasons(refused.violations) == ["INSUFFICIENT_MARGIN", "UTILIZATION_AFTER"]
    lent = await borrow(desk, "USDT", refused.largest_amount)
    assert lent.accepted
    assert (await desk.status("ann")).level == types_pb2.RISK_LEVEL_NORMAL
    more = await borrow(desk, "USDT", "1")
    assert not more.accepted and Decimal(more.largest_amount) < 1
    await desk.fill("ann", types_pb2.SIDE_SELL, "0.5", "BTCUSDT", "50000")
    summary = (await desk.debt.GetDebtSummary(wire.GetDebtSummaryRequest(account_id="ann"))).summary
    assert (summary.exposure, summary.active_leveraged_positions) == ("0", 0)


# the parts of the profit and loss


class Ledger:
    """What an account did, in fractions of its currency, with the causes counted one by one."""

    def __init__(self) -> None:
        self.cash = Fraction(0)
        self.coins = Fraction(0)
        """Ether in the wallet."""
        self.owed = {"USD": Fraction(0), "ETH": Fraction(0)}
        self.interest_owed = {"USD": Fraction(0), "ETH": Fraction(0)}
        self.positions = {"BTCUSD": Fraction(0), "ETHUSD": Fraction(0)}
        self.prices = {"BTCUSD": Fraction(0), "ETHUSD": Fraction(0)}
        self.parts = dict.fromkeys(CAUSES, Fraction(0))

    @property
    def equity(self) -> Fraction:
        """Cash holds what positions have cost, so that their whole value counts."""
        held = sum(quantity * self.prices[symbol] for symbol, quantity in self.positions.items())
        ether = self.coins - self.owed["ETH"] - self.interest_owed["ETH"]
        return self.cash + held + ether * self.prices["ETHUSD"] - self.owed["USD"] - self.interest_owed["USD"]

    def mark(self, prices: dict[str, str]) -> None:
        for symbol, text in prices.items():
            price = Fraction(text)
            moved = price - self.prices[symbol]
            exposed = self.positions[symbol]
            if symbol == "ETHUSD":
                exposed += self.coins - self.owed["ETH"] - self.interest_owed["ETH"]
            self.parts["price"] += exposed * moved
            self.prices[symbol] = price

    def fill(self, symbol: str, signed: str, price: str, fee: str) -> None:
        quantity = Fraction(signed)
        self.positions[symbol] += quantity
        self.cash -= quantity * Fraction(price) + Fraction(fee)
        self.parts["fees"] -= Fraction(fee)
        self.parts["price"] += quantity * (self.prices[symbol] - Fraction(price))

    def transfer(self, amount: str) -> None:
        self.cash += Fraction(amount)
        self.parts["transfers"] += Fraction(amount)

    def fund(self, symbol: str, rate: str) -> None:
        received = -self.positions[symbol] * self.prices[symbol] * Fraction(rate)
        self.cash += received
        self.parts["funding"] += received

    def borrow(self, asset: str, amount: str) -> None:
        self.owed[asset] += Fraction(amount)
        if asset == "USD":
            self.cash += Fraction(amount)
        else:
            self.coins += Fraction(amount)

    def charge(self, asset: str, annual_rate: str) -> None:
        interest = self.owed[asset] * Fraction(annual_rate) / 8760
        self.interest_owed[asset] += interest
        self.parts["interest"] -= interest * (1 if asset == "USD" else self.prices["ETHUSD"])


def hours_of_tape() -> list[dict[str, str]]:
    """The closing prices at every full hour of the recording, read here without the service's own reader."""
    prices: dict[str, str] = {}
    hours: dict[datetime, dict[str, str]] = {}
    with gzip.open(TAPE, "rt") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromtimestamp(int(row["timestamp_ms"]) / 1000, UTC)
            prices[row["symbol"]] = row["close"]
            if len(prices) == 2:
                hours[at.replace(minute=0)] = dict(prices)
    return list(hours.values())


WEEK = 7 * 24
RATES = {"USD": "0.0876", "ETH": "0.0438"}
FUNDING = {"BTCUSD": "0.0001", "ETHUSD": "-0.00005"}
DONE: dict[int, tuple[str, ...]] = {
    1: ("borrow", "USD", "3000"),
    2: ("fill", "BTCUSD", "1.5", "2.25"),
    5: ("borrow", "ETH", "4"),
    9: ("fill", "ETHUSD", "-12", "0.75"),
    30: ("transfer", "1250.5"),
    47: ("fill", "BTCUSD", "-0.7", "1.125"),
    75: ("fill", "ETHUSD", "20", "1.5"),
    100: ("transfer", "-333.25"),
    121: ("fill", "BTCUSD", "-1.1", "2"),
    150: ("fill", "ETHUSD", "-5", "0.0625"),
}
"""What the account does in which hour of the week."""


class Trader:
    """Does the same on the service and in the ledger."""

    def __init__(self, desk: Desk, ledger: Ledger) -> None:
        self.desk = desk
        self.ledger = ledger

    async def do(self, what: str, *arguments: str) -> None:
        desk, ledger = self.desk, self.ledger
        if what == "borrow":
            answer = await borrow(desk, *arguments)
            assert answer.accepted, answer.violations
            ledger.borrow(*arguments)
        elif what == "transfer":
            (amount,) = arguments
            move = desk.withdraw if amount.startswith("-") else desk.deposit
            await move("ann", "USD", amount.removeprefix("-"))
            ledger.transfer(amount)
        else:
            symbol, signed, fee = arguments
            # off the mark, so that what a fill gains at once counts as price
            price = str(Decimal(str(float(ledger.prices[symbol]))) + Decimal("0.25"))
            side = types_pb2.SIDE_SELL if signed.startswith("-") else types_pb2.SIDE_BUY
            await desk.fill("ann", side, signed.removeprefix("-"), symbol, price, fee=fee)
            ledger.fill(symbol, signed, price, fee)

    async def hour(self, number: int, prices: dict[str, str]) -> None:
        """A full hour: prices, then interest and, every eighth, funding."""
        desk, ledger = self.desk, self.ledger
        await desk.mark(prices)
        ledger.mark(prices)
        if number and number % 8 == 0:
            for symbol, rate in FUNDING.items():
                command = PublishFundingRate(symbol, Decimal(rate), Decimal(prices[symbol]), desk.engine.clock())
                await desk.engine.submit_house(command, request_id="", actor=SYSTEM)
                ledger.fund(symbol, rate)
        await desk.engine.sweep()
        for asset, annual_rate in RATES.items():
            ledger.charge(asset, annual_rate)


@pytest.mark.skipif(not TAPE.exists(), reason="the recording is not beside the project")
async def test_a_week_on_the_recorded_tape_is_told_in_parts_that_sum_to_the_change_of_equity() -> None:
    clock, ledger, tape = Clock(datetime(2026, 3, 2, tzinfo=UTC)), Ledger(), hours_of_tape()
    assert len(tape) == 48
    journal = MemoryJournal()
    guards = {
        "prices__deviation_guard": "0.9",
        "prices__collateral_guard": "0.9",
    }  # the tape begins anew every two days
    async with service(journal=journal, clock=clock, **guards) as desk:  # type: ignore[arg-type]
        await desk.engine.submit_house(SetAssetRule(AssetRule("ETH", priced_by="ETHUSD")), request_id="", actor=SYSTEM)
        for asset, annual_rate in RATES.items():
            await lend(desk, asset, annual_rate, "okx_hourly")
        await desk.open("ann", "20000", "USD")
        ledger.transfer("20000")
        trader = Trader(desk, ledger)
        for number in range(WEEK + 1):
            await trader.hour(number, tape[number % len(tape)])
            if number in DONE:
                clock.advance(seconds=5)
                await trader.do(*DONE[number])
                clock.advance(minutes=59, seconds=55)
            else:
                clock.advance(hours=1)
        clock.advance(hours=-1, seconds=1)
        status = await desk.status("ann")
        equity = Decimal(status.equity)
        hours, days = await history(desk), await history(desk, interval=funds.FUND_INTERVAL_DAY)
        charged = await charges(desk)
        rows = await desk.engine.history.store.newest(
            "ann", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), 10_000
        )

    # both ends, counted from what the account has and owes
    assert abs(Fraction(equity) - ledger.equity) < Fraction(1, 10**8)
    assert sum(ledger.parts.values()) == ledger.equity, "the ledger itself adds up"

    # the whole: the parts sum to the change of equity, which is all of it, for the account began with nothing
    total = hours.total
    assert Decimal(total.total) == equity and sums(total)
    for name in CAUSES:
        told = Fraction(Decimal(getattr(total, name)))
        assert abs(told - ledger.parts[name]) < Fraction(1, 10**8), name
    assert all(ledger.parts[name] for name in CAUSES if name not in ("liquidation_cost", "synced"))

    # every hour and every day, between the two ends that the account's status showed
    assert len(hours.entries) == WEEK + 1 and len(days.entries) == 8
    assert all(sums(one.profit_and_loss) for one in (*hours.entries, *days.entries))
    for entries in (hours.entries, days.entries):
        oldest_first = list(entries)[::-1]
        for before, after in pairwise(oldest_first):
            assert Decimal(after.equity) - Decimal(before.equity) == Decimal(after.profit_and_loss.total)
        for name in (*CAUSES, "total"):
            whole = sum(Decimal(getattr(one.profit_and_loss, name)) for one in entries)
            assert whole == Decimal(getattr(total, name)), name
    assert days.total == total

    # the statement of interest, line by line
    assert len(charged) == (WEEK - 1) + (WEEK - 5)
    assert all(Decimal(one.amount) >= Decimal(one.principal) * Decimal(one.rate) * one.periods for one in charged)
    in_usd = sum(Decimal(one.amount) for one in charged if one.asset == "USD")
    assert abs(Fraction(in_usd) - ledger.interest_owed["USD"]) < Fraction(1, 10**8)

    # the table, rebuilt by another service from the journal alone
    clock.advance(seconds=1)
    async with service(journal=journal, clock=clock) as desk:
        await desk.engine.history.settled()
        again = await desk.engine.history.store.newest(
            "ann", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), 10_000
        )
        assert again == rows and len(rows) == WEEK


async def test_the_table_in_postgresql_is_the_same_when_it_is_made_anew(clock: Clock, data_directory: Path) -> None:
    period = (START - timedelta(days=1), START + timedelta(days=9), 100)
    async with service(data_directory, clock=clock) as desk:
        await lend(desk, "USDT", "0.08", "okx_hourly")
        for name in ("ann", "ben"):
            await desk.open(name, "10000", "USDT", owner=name)
        await borrow(desk, "USDT", "1234.5")
        for number in range(6):
            clock.advance(hours=1)
            await desk.mark({"BTCUSDT": str(50_000 + 11 * number)})
            await desk.engine.sweep()
            await desk.fill("ann", types_pb2.SIDE_BUY, "0.013", "BTCUSDT", "50001.3", fee="0.1")
        await desk.engine.history.settled()
        store = desk.engine.history.store
        live = {name: await store.newest(name, *period) for name in ("ann", "ben")}
        assert {name: len(rows) for name, rows in live.items()} == {"ann": 6, "ben": 1}
        before = await history(desk)
        await store.clear()
    async with service(data_directory, clock=clock) as desk:
        await desk.mark({"BTCUSDT": "50055"})
        await desk.engine.history.settled()
        store = desk.engine.history.store
        assert {name: await store.newest(name, *period) for name in ("ann", "ben")} == live
        again = await history(desk)
        assert (list(again.entries), again.total) == (list(before.entries), before.total)


async def test_a_forced_reduction_says_what_it_cost() -> None:
    clock = Clock(START)
    async with service(clock=clock, sandbox__slippage_rate="0.001", sandbox__taker_fee_rate="0.0005") as desk:
        await desk.open("ann", "10000", "USDT")
        await desk.mark({"BTCUSDT": "50000"})
        await desk.lever("ann", "BTCUSDT", "5")
        await desk.fill("ann", types_pb2.SIDE_BUY, "0.7", "BTCUSDT", "50000")
        clock.advance(seconds=5)
        await desk.mark({"BTCUSDT": "45500"})
        account = desk.engine.account("ann")
        (plan,) = account.past_reductions
        (step,) = plan.steps
        assert step.price is not None
        slippage = step.filled_quantity * (step.price - 45_500)
        total = (await history(desk)).total
        assert Decimal(total.liquidation_cost) == slippage - step.fee < 0
        assert Decimal(total.price) == Decimal("0.7") * -4500
        assert (total.fees, total.transfers) == ("0", "10000") and sums(total)
        assert Decimal(total.total) == Decimal((await desk.status("ann")).equity)


async def test_a_loss_beyond_all_equity_is_shown_with_what_insurance_took_over() -> None:
    clock = Clock(START)
    async with service(clock=clock, prices__deviation_guard="0.9") as desk:
        await desk.open("ann", "10000", "USDT")
        await desk.mark({"BTCUSDT": "50000"})
        await desk.lever("ann", "BTCUSDT", "5")
        await desk.fill("ann", types_pb2.SIDE_BUY, "0.8", "BTCUSDT", "50000")
        clock.advance(seconds=5)
        await desk.mark({"BTCUSDT": "36000"})
        total = (await history(desk)).total
        assert (total.price, total.liquidation_cost, total.total) == ("-11200", "1200", "0") and sums(total)
