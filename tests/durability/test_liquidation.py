"""A forced reduction of several orders: it is finished after any kill, and no order is ever executed twice."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Account, AlertKind
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.v1 import account_service_pb2, leverage_service_pb2, margin_service_pb2, types_pb2
from tests.durability.load import Line
from tests.durability.program import Program, journal_at_rest, journal_of, running
from tests.durability.proof import Proof
from tests.durability.venue import Manners, book_of, teach
from tests.support.service import service

D = Decimal
BUY, SELL = types_pb2.SIDE_BUY, types_pb2.SIDE_SELL
LONG, SHORT = types_pb2.POSITION_SIDE_LONG, types_pb2.POSITION_SIDE_SHORT

BEFORE = {"BTCUSDT": D(50_000), "ETHUSDT": D(3_000), "SOLUSDT": D(150), "XRPUSDT": D("0.6")}
FALLEN = {symbol: price * D("0.81") for symbol, price in BEFORE.items()}
CAPITAL = "94000"
HOLDINGS = (
    (BUY, "2.6", "BTCUSDT", LONG),
    (BUY, "36", "ETHUSDT", LONG),
    (BUY, "600", "SOLUSDT", LONG),
    (BUY, "100000", "XRPUSDT", LONG),
    (SELL, "0.6", "BTCUSDT", SHORT),
)
"""Five times levered: margin used is 0.889 of equity before the fall, and more than twice the equity after it."""
STEPS = 4
"""Orders that it takes to come back from there."""

SETTINGS = {"prices.mark_max_age_seconds": "300"}
WAIT_SECONDS_MOST = 30.0
BLIND_SECONDS = 0.6

BETWEEN_STEPS, BEFORE_THE_ANSWER, ON_PAPER = "between-steps", "before-the-answer", "on-paper"
TIMED_OUT, UNREACHABLE, CALM = "timed-out", "unreachable", "calm"
DISTURBED = (BETWEEN_STEPS, BEFORE_THE_ANSWER, ON_PAPER)
"""Accounts whose reduction every kill interrupts; those of the others are over before the first."""
ACCOUNTS = (*DISTURBED, TIMED_OUT, UNREACHABLE, CALM)


def manners_of_run(run: int) -> dict[str, Manners]:
    """How the venue treats each account until the kill that ends this run. In the last run it hangs nowhere."""
    last = run > STEPS
    return {
        BETWEEN_STEPS: Manners(hangs_before_step=0 if last else run + 1),
        BEFORE_THE_ANSWER: Manners(hangs_after_step=0 if last else run),
        ON_PAPER: Manners(hangs_after_step=0 if last else run, forgets=True),
        TIMED_OUT: Manners(times_out=True),
        UNREACHABLE: Manners(unreachable_first=3),
    }


@asynccontextmanager
async def fallen(directory: Path, run: int, line: Line) -> AsyncIterator[Program]:
    """The service with the venue as it is in this run."""
    teach(directory.parent, manners_of_run(run))
    command = ("tests.durability.with_venue", str(directory.parent))
    async with running(directory, SETTINGS, command) as program:
        await line.connect(program.target)
        yield program


async def open_account(line: Line, account_id: str) -> None:
    """An account with its holdings, just below the forced level."""
    await line.accounts.CreateAccount(
        account_service_pb2.CreateAccountRequest(
            request_id="open",
            account_id=account_id,
            owner=account_id,
            currency="USDT",
            position_mode=types_pb2.POSITION_MODE_HEDGE,
            initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=CAPITAL),
        )
    )
    for symbol in BEFORE:
        answer = await line.leverage.SetLeverage(
            leverage_service_pb2.SetLeverageRequest(
                request_id=f"leverage-{symbol}", account_id=account_id, symbol=symbol, leverage="5"
            )
        )
        assert answer.accepted, answer.violations
    for number, (side, quantity, symbol, leg) in enumerate(HOLDINGS):
        await line.margin.RecordFill(
            margin_service_pb2.RecordFillRequest(
                request_id=f"fill-{number}",
                account_id=account_id,
                symbol=symbol,
                side=side,
                quantity=quantity,
                price=format(BEFORE[symbol], "f"),
                fill_id=f"fill-{number}",
                fee="0",
                position_side=leg,
            )
        )


async def until(journal: Journal, proof: Proof, done: Callable[[], bool], what: str) -> None:
    """Read on in the journal until something is so."""
    end = time.perf_counter() + WAIT_SECONDS_MOST
    while True:
        await proof.follow(journal)
        if done():
            return
        assert time.perf_counter() < end, what
        await asyncio.sleep(0.02)


def steps_done(account: Account) -> int:
    """How many orders of the account's one plan are journaled as done."""
    plan = account.reduction or account.past_reductions[-1]
    return sum(step.done for step in plan.steps)


def executed(folder: Path, account_id: str) -> Counter[str]:
    """How often the venue executed each order of an account."""
    return Counter(
        one.client_order_id for one in book_of(folder) if (one.what, one.account_id) == ("executed", account_id)
    )


def sent(folder: Path, account_id: str) -> Counter[str]:
    """How often the service sent each order of an account."""
    return Counter(
        one.client_order_id for one in book_of(folder) if (one.what, one.account_id) == ("placed", account_id)
    )


async def test_a_reduction_is_finished_whatever_kills_it_and_no_order_is_executed_twice(data_directory: Path) -> None:
    folder, line, proof = data_directory.parent, Line(), Proof()
    accounts = proof.accounts
    for run in range(1, STEPS + 2):
        async with fallen(data_directory, run, line) as program, journal_of(program) as journal:
            if run == 1:
                await line.publish(BEFORE)
                for account_id in ACCOUNTS:
                    await open_account(line, account_id)
            else:
                known = len(book_of(folder))
                await asyncio.sleep(BLIND_SECONDS)
                assert len(book_of(folder)) == known, "orders were sent although no price is known"
            await line.publish(FALLEN)
            if run <= STEPS:
                await until(
                    journal,
                    proof,
                    lambda run=run: (  # type: ignore[misc]
                        all(not accounts[name].reduction and accounts[name].past_reductions for name in ACCOUNTS[3:])
                        and [steps_done(accounts[name]) for name in DISTURBED] == [run, run - 1, run - 1]
                        and all(len(executed(folder, name)) == run for name in (BEFORE_THE_ANSWER, ON_PAPER))
                    ),
                    f"run {run} does not get on: {program.log}",
                )
            else:
                finished = "the reductions do not end"
                await until(journal, proof, lambda: not any(accounts[name].reduction for name in ACCOUNTS), finished)
                await line.close()
                assert await program.stop() == 0

    async with journal_at_rest(data_directory) as journal:
        await proof.follow(journal)
    calm = accounts[CALM]
    for account_id in ACCOUNTS:
        account = accounts[account_id]
        (plan,) = account.past_reductions
        ids = {step.client_order_id for step in plan.steps}
        assert len(ids) == STEPS
        orders = Counter(fill.order_id for fill in proof.orders_filled[account_id])
        assert orders == Counter(ids), f"{account_id}: each order has one fill"
        assert account.balances == calm.balances
        assert {key: one.quantity for key, one in account.positions.items()} == {
            key: one.quantity for key, one in calm.positions.items()
        }
        assert plan.utilization_after is not None and plan.utilization_after <= D("0.70")
        kinds = Counter(alert.kind for alert in account.alerts)
        assert kinds[AlertKind.LIQUIDATION_STARTED] == kinds[AlertKind.LIQUIDATION_FINISHED] == 1
        assert kinds[AlertKind.LEVEL_UNKNOWN] == 0
        if account_id != ON_PAPER:
            assert executed(folder, account_id) == Counter(ids), f"{account_id}: the venue executed each order once"
    for account_id in (BEFORE_THE_ANSWER, TIMED_OUT, CALM):
        assert set(sent(folder, account_id).values()) == {1}, f"{account_id}: no order is sent twice"


async def test_a_close_whose_position_and_account_went_meanwhile_comes_to_an_end() -> None:
    async with service() as desk:
        engine = desk.engine
        await desk.mark({"BTCUSDT": "50000"})
        await desk.open("a", "10000", "USDT")
        await desk.fill("a", BUY, "0.1", "BTCUSDT", "50000")
        engine.marks.clear()
        await engine.submit("a", c.ClosePosition("BTCUSDT"), request_id="close", actor=SYSTEM)
        await asyncio.sleep(0)
        assert engine.account("a").reduction is not None, "the paper broker waits for a price"
        await desk.fill("a", SELL, "0.1", "BTCUSDT", "50000")
        await engine.submit("a", c.CloseAccount(), request_id="leave", actor=SYSTEM)
        assert engine.account("a").closed_at is not None
        assert await engine.reductions.idle("a", 5.0)
        account = engine.account("a")
        assert account.reduction is None and not account.positions
        assert [step.note for step in account.past_reductions[-1].steps] == ["nothing is left to reduce"]
