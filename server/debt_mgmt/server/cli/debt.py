"""`debt-mgmt debt`, `borrow` and `repay`: what is owed, what secures it, what it costs, and the way in and out."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    BorrowOutcome,
    BorrowRate,
    Debt,
    DebtSummary,
    InterestCharge,
    Lender,
    LeverageState,
    MarginClient,
    RepayOutcome,
)
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import before_and_after, table, violations_table
from debt_mgmt.server.cli.typed import number_of
from debt_mgmt.server.cli.wording import UNKNOWN, amount, counted, grouped, level_text, moment, percent

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Asset = Annotated[str, typer.Argument(metavar="ASSET", help="Such as USDT.")]

UNPRICED = "how much could be borrowed is not known: a price is missing"


def debt(
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="One account, with its charges.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this owner's accounts.")] = None,
    charges: Annotated[int, typer.Option(min=1, help="Show so many of an account's last charges.")] = 10,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Show what is owed, what secures it and what it costs; of one account, also its last charges and its rates."""
    output = Output(as_json)
    if account is not None and owner is not None:
        raise typer.BadParameter("name an account or an owner, not both")

    async def overview(client: MarginClient) -> Exit | None:
        summaries, found = await asyncio.gather(client.debt_summaries(owner=owner), client.debts())
        if owner is not None:
            mine = {one.account_id for one in await client.accounts(owner=owner)}
            debts: Sequence[Debt] = [one for one in found if one.account_id in mine]
        else:
            debts = found
        output.document(summaries=summaries, debts=debts)
        if not summaries:
            output.show(Text("no accounts yet" if owner is None else f"no accounts of {owner}", "dim"))
            return None
        for one in summaries:
            output.show(summary_table(one, f"{counted(one.account_count, 'account')} valued in {one.currency}"))
        output.show(debts_table(debts))
        return None

    async def detail(client: MarginClient) -> Exit | None:
        assert account is not None
        summary, owed, rates = await asyncio.gather(
            client.debt_summary(account), client.debts(account), client.borrow_rates(account)
        )
        last = [one async for one in client.interest_charges(account, limit=charges)]
        output.document(summary=summary, debts=owed, charges=last, rates=rates)
        output.show(
            summary_table(summary, f"{account}, valued in {summary.currency}"),
            debts_table(owed, of_one=True),
            charges_table(last),
            rates_table(rates),
        )
        return None

    ask(output, target, overview if account is None else detail)


def borrow(
    account: Account,
    asset: Asset,
    quantity: Annotated[str, typer.Argument(metavar="AMOUNT", help="In that asset.")],
    request_id: Annotated[str | None, typer.Option(help="Makes the command repeatable.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Borrow an asset; the amount goes to the wallet balance, and interest runs from now on."""
    output, wanted = Output(as_json), number_of(quantity)

    async def work(client: MarginClient) -> Exit | None:
        outcome = await client.borrow(account, asset, wanted, request_id=request_id)
        output.document(outcome=outcome)
        output.show(borrowed(outcome, account, asset, wanted))
        return None if done(outcome) else Exit.REFUSED

    ask(output, target, work)


def repay(
    account: Account,
    asset: Asset,
    quantity: Annotated[
        str | None, typer.Argument(metavar="[AMOUNT]", help="In that asset; all that is owed, where none is given.")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="Makes the command repeatable.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Pay back what was borrowed: interest first, then principal."""
    output, wanted = Output(as_json), number_of(quantity) if quantity is not None else None

    async def work(client: MarginClient) -> Exit | None:
        outcome = await client.repay(account, asset, wanted, request_id=request_id)
        output.document(outcome=outcome)
        output.show(repaid(outcome, account, asset))
        return None if done(outcome) else Exit.REFUSED

    ask(output, target, work)


def done(outcome: BorrowOutcome | RepayOutcome) -> bool:
    """Whether neither the rules nor the broker refused it."""
    said = outcome.venue_request
    return outcome.accepted and (said is None or said.state is not LeverageState.REFUSED)


def unanswered(outcome: BorrowOutcome | RepayOutcome, what: str) -> Text | None:
    """What the broker said where it did not do it, or has not answered yet; None where it is done."""
    said = outcome.venue_request
    if said is None or said.state is LeverageState.CONFIRMED:
        return None
    if said.state is LeverageState.REFUSED:
        code = f" (code {said.refusal_code})" if said.refusal_code else ""
        return Text.assemble(("REFUSED BY THE BROKER", "bold red"), f"  {what}: {said.refusal}{code}")
    return Text.assemble(("ASKED", "bold yellow"), f"  {what}: the broker has not answered yet; see `debt-mgmt debt`")


def borrowed(outcome: BorrowOutcome, account: str, asset: str, wanted: Decimal) -> RenderableType:
    """The loan, or every reason against it, with the most that could be borrowed."""
    what = f"{grouped(wanted)} {asset}"
    figures = before_and_after(outcome.before, outcome.after)
    most = outcome.largest_amount
    largest = f"most that could be borrowed before: {grouped(most)} {asset}" if most is not None else UNPRICED
    if not outcome.accepted:
        head = Text.assemble(("REFUSED", "bold red"), f"  {account} borrows {what}")
        return Group(head, violations_table(outcome.violations), Text(largest), figures)
    waiting = unanswered(outcome, f"{account} borrows {what}")
    if waiting is not None:
        return Group(waiting, owed_line(outcome.debt, asset), figures)
    head = Text.assemble(("BORROWED", "bold green"), f"  {account} borrows {what}")
    return Group(head, owed_line(outcome.debt, asset), Text(largest, "dim"), figures)


def repaid(outcome: RepayOutcome, account: str, asset: str) -> RenderableType:
    if not outcome.accepted:
        head = Text.assemble(("REFUSED", "bold red"), f"  {account} pays back {asset}")
        return Group(head, violations_table(outcome.violations))
    waiting = unanswered(outcome, f"{account} pays back {asset}")
    if waiting is not None:
        return Group(waiting, owed_line(outcome.debt, asset))
    interest, principal = outcome.interest_paid or Decimal(0), outcome.principal_paid or Decimal(0)
    paid = f"{grouped(interest + principal)} {asset}: {grouped(interest)} interest, {grouped(principal)} principal"
    return Group(
        Text.assemble(("REPAID", "bold green"), f"  {account} pays back {paid}"), owed_line(outcome.debt, asset)
    )


def owed_line(debt: Debt | None, asset: str) -> Text:
    """What is owed now, in words."""
    if debt is None:
        return Text(f"nothing is owed in {asset} any more")
    line = Text(f"owed now: {grouped(debt.principal)} {asset} and {grouped(debt.accrued_interest)} {asset} interest")
    if debt.next_charge_time is not None:
        line.append(f"; next charge {moment(debt.next_charge_time)} UTC")
    return line


def summary_table(summary: DebtSummary, title: str) -> Table:
    """Every figure of a summary with its unit."""
    made = table("", "", "", title=title)
    made.show_header = False
    made.columns[1].justify = "right"
    money = summary.currency
    leverage = "no positions" if summary.maximum_leverage is None else f"{grouped(summary.maximum_leverage)} x at most"
    average = UNKNOWN if summary.average_leverage is None else f"{grouped(round(summary.average_leverage, 2))} x"
    rows: list[tuple[str, str, str]] = [
        ("borrowed", amount(summary.borrowed), money),
        ("accrued interest", amount(summary.accrued_interest), money),
        ("a day's interest", amount(summary.daily_cost), f"{money} at the present rates"),
        ("collateral", amount(summary.collateral), f"{money}, balances after haircuts"),
        ("collateral that nothing uses", amount(summary.available_collateral), money),
        ("debt to collateral", percent(summary.debt_to_collateral, 2), ""),
        ("leveraged positions", f"{summary.active_leveraged_positions:,}", leverage),
        ("exposure", amount(summary.exposure), f"{money}, notional of all positions"),
        ("average leverage", average, "weighted by notional"),
        ("margin utilization", percent(summary.margin_utilization), ""),
        ("maintenance ratio", percent(summary.maintenance_ratio), ""),
    ]
    if outside := summary.separate_debt:
        rows.insert(2, ("of it in separate wallets", amount(outside), f"{money}, against other collateral"))
    for row in rows:
        made.add_row(*row)
    made.add_row("worst level", level_text(summary.level), "")
    return made


def debts_table(debts: Sequence[Debt], *, of_one: bool = False) -> RenderableType:
    """Debts by account and asset."""
    if not debts:
        return Text("nothing is owed", "dim")
    numbers = ("principal", "interest", "a year", "value")
    by_brokers = any(one.lender is not Lender.HOUSE for one in debts)
    left_out = {"account"} if of_one else {"charged by"}
    left_out |= set() if by_brokers else {"lender"}
    columns = [
        name
        for name in ("account", "asset", *numbers, "lender", "charged by", "next charge (UTC)")
        if name not in left_out
    ]
    made = table(*columns, right=numbers, title="debts")
    for one in debts:
        cells = {
            "account": one.account_id,
            "asset": one.asset,
            "principal": grouped(one.principal),
            "interest": grouped(one.accrued_interest),
            "a year": percent(one.annual_rate, 2),
            "value": amount(one.value),
            "lender": one.lender.value.lower() + (", separate wallet" if one.separate_wallet else ""),
            "charged by": one.interest_clock or UNKNOWN,
            "next charge (UTC)": moment(one.next_charge_time)[:16],
        }
        made.add_row(*(cells[name] for name in columns))
    return made


def charges_table(charges: Sequence[InterestCharge]) -> RenderableType:
    """Charges with their working: amount = principal × rate × periods."""
    if not charges:
        return Text("no interest was charged yet", "dim")
    numbers = ("principal", "rate a period", "periods", "charged", "owed after")
    made = table("due (UTC)", "asset", *numbers, right=numbers, title="last interest charges, newest first")
    for one in charges:
        made.add_row(
            moment(one.charge_time),
            one.asset,
            grouped(one.principal),
            grouped(one.rate),
            f"{one.periods:,}",
            grouped(one.amount),
            grouped(one.accrued_interest),
        )
    return made


def rates_table(rates: Sequence[BorrowRate]) -> RenderableType:
    """What borrowing costs, by asset."""
    if not rates:
        return Text("the house lends nothing to this account", "dim")
    numbers = ("a year", "a day", "could borrow now")
    made = table("asset", *numbers, "charged by", "since (UTC)", right=numbers, title="rates")
    for one in rates:
        made.add_row(
            one.asset,
            percent(one.annual_rate, 2),
            percent(one.daily_rate, 5),
            UNKNOWN if one.available_amount is None else grouped(one.available_amount),
            one.interest_clock,
            moment(one.effective_time)[:16],
        )
    return made
