"""`debt-mgmt drill`: halts a sandbox account made for it, or one strategy of it, and measures how soon that holds."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.text import Text

from debt_mgmt.client import (
    Account,
    AccountExists,
    Environment,
    MarginClient,
    Order,
    Protection,
    RefusalReason,
    TradingState,
)
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, client_of, finish
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import counted

HALTED = (RefusalReason.TRADING_HALTED, RefusalReason.HOUSE_HALTED)
REASON = "drill: how soon a halt is in force"
STRATEGY = "drill"
"""Of the orders that are checked."""
ENOUGH_SECONDS = 10.0
"""A halt that is not in force after this is not going to be."""


@dataclass(frozen=True, slots=True)
class Round:
    """One halt. Seconds since it was sent."""

    answered_seconds: float
    """Until the service said that it is in force."""
    effective_seconds: float
    """Until another connection was first told that the order is."""
    late: int
    """Checks that passed though they were sent after that answer: none, or the promise is broken."""


def drill(
    account: Annotated[str, typer.Option(help="The sandbox account; made where there is none.")] = "drill",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Halts to measure.")] = 20,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Halt a sandbox account, measure the time until that is in force for others, resume it, and print p50 and p99.

    Then the same of one strategy in that account. Live and testnet accounts are refused, those that are halted already,
    and all where the end of a halt needs a second person. Exit status 0: every halt was in force when the service said
    so. 1: one was not, or the drill was refused.
    """
    output = Output(as_json)

    async def work() -> Exit:
        async with client_of(target) as client, client_of(target) as trader:
            await account_for(client, account)
            await check_resumes_alone(client, account)
            order = await order_for(client)
            measured = [await measure(client, trader, account, order) for _ in range(rounds)]
            of_strategy = [await measure(client, trader, account, order, STRATEGY) for _ in range(rounds)]
        return reported(output, account, measured, of_strategy)

    finish(output, target, work())


async def account_for(client: MarginClient, account_id: str) -> Account:
    """The account to halt, made where there is none. Raises Failed for one that the drill may not touch."""
    try:
        found = (await client.create_account(account_id)).account
    except AccountExists:
        found = await client.account(account_id)
    if found.environment is not Environment.SANDBOX:
        words = f"account {account_id} is {found.environment.value}: a drill halts sandbox accounts only"
        raise Failed(words, Exit.REFUSED)
    if found.trading_state is TradingState.HALTED:
        why = found.trading_state_reason or "no reason was given"
        raise Failed(f"account {account_id} is halted ({why}), and a drill would end that", Exit.REFUSED)
    return found


async def check_resumes_alone(client: MarginClient, account_id: str) -> None:
    """Raises Failed where one person alone could not end what the drill halts."""
    limits = await client.risk_limits(account_id)
    if any(one.protection is Protection.FOUR_EYES and not one.off for one in limits.protections):
        words = (
            f"ending a halt of account {account_id} needs a second person (risk_settings.four_eyes), so a drill could "
        )
        raise Failed(words + "not resume what it halts; nothing was halted", Exit.REFUSED)


async def order_for(client: MarginClient) -> Order:
    """The smallest order there is."""
    for one in await client.instruments():
        return Order.buy(one.symbol, one.min_quantity, strategy=STRATEGY)
    raise Failed("there is no instrument to check an order of; `debt-mgmt serve --demo` has some")


async def measure(
    client: MarginClient, trader: MarginClient, account_id: str, order: Order, strategy: str | None = None
) -> Round:
    """Halt, the strategy or all, while another connection checks one order after the other, and resume."""
    if await is_halted(trader, account_id, order):
        raise Failed(f"account {account_id} is halted by somebody else", Exit.REFUSED)
    trading = asyncio.create_task(first_refusal(trader, account_id, order))
    try:
        sent = time.perf_counter()
        (await client.halt(account_id=account_id, strategy=strategy, reason=REASON)).raise_if_refused()
        answered = time.perf_counter()
        late = 0 if await is_halted(trader, account_id, order) else 1
        async with asyncio.timeout(ENOUGH_SECONDS):
            refused = await trading
    except TimeoutError:
        raise Failed(f"the halt was not in force after {ENOUGH_SECONDS:g} s", Exit.FAULT) from None
    finally:
        trading.cancel()
        (await client.resume(account_id=account_id, strategy=strategy, reason=REASON)).raise_if_refused()
    return Round(answered - sent, max(refused - sent, 0.0), late)


async def first_refusal(trader: MarginClient, account_id: str, order: Order) -> float:
    """When the first check was answered that said so."""
    while not await is_halted(trader, account_id, order):
        pass
    return time.perf_counter()


async def is_halted(trader: MarginClient, account_id: str, order: Order) -> bool:
    check = await trader.check_order(account_id, order)
    return any(one.reason in HALTED for one in check.violations)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def reported(output: Output, account_id: str, measured: Sequence[Round], of_strategy: Sequence[Round]) -> Exit:
    late = sum(one.late for one in (*measured, *of_strategy))
    figures = {
        "answered": [one.answered_seconds for one in measured],
        "in force for others": [one.effective_seconds for one in measured],
        "one strategy, answered": [one.answered_seconds for one in of_strategy],
        "one strategy, in force": [one.effective_seconds for one in of_strategy],
    }
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    rows = {name: {mark: percentile(found, share) for mark, share in shares.items()} for name, found in figures.items()}
    output.document(
        account_id=account_id,
        rounds=len(measured),
        answered_seconds=rows["answered"],
        effective_seconds=rows["in force for others"],
        strategy_answered_seconds=rows["one strategy, answered"],
        strategy_effective_seconds=rows["one strategy, in force"],
        late_checks=late,
    )
    shown = table("milliseconds after the halt was sent", *shares, right=tuple(shares))
    for name, found in rows.items():
        shown.add_row(name, *(f"{seconds * 1000:.2f}" for seconds in found.values()))
    output.show(shown)
    if late:
        output.show(
            Text(f"{counted(late, 'check')} passed after the service had said that the halt is in force", "bold red")
        )
        return Exit.REFUSED
    halts = counted(len(measured) + len(of_strategy), "halt")
    words = f"{halts} of account {account_id}: each in force when the service said so; resumed"
    output.show(Text(words, "green"))
    return Exit.OK
