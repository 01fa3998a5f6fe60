"""`debt-mgmt funds`, `pnl` and `history`: an account's capital, what changed it and why, as tables and as a chart."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    FundHistoryEntry,
    FundInterval,
    Funds,
    MarginClient,
    PeriodProfit,
    ProfitAndLoss,
)
from debt_mgmt.server.cli.chart import NOUNS, chart_of
from debt_mgmt.server.cli.chart_files import PillowMissing, UnknownPicture, picture_kind, write_chart
from debt_mgmt.server.cli.chart_terminal import terminal_chart
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, ask, time_of
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import UNKNOWN, amount, counted, moment, signed_text

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Since = Annotated[
    datetime | None, typer.Option(parser=time_of, metavar="TIME", help="From here on: ISO 8601, or 15m, 2h, 1d ago.")
]
Until = Annotated[datetime | None, typer.Option(parser=time_of, metavar="TIME", help="Up to here; the same.")]

CAUSES = {
    "price": "moves of prices, realized or not",
    "funding": "received less paid",
    "interest": "on borrowed money",
    "fees": "of fills and conversions",
    "transfers": "deposits, withdrawals and resets",
    "liquidation_cost": "fees and slippage of forced reductions",
    "synced": "what the venue of a live account had otherwise",
}


def funds(account: Account, target: Target = NEAR, as_json: Json = False) -> None:
    """Show an account's capital, its use, and its resets."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = await client.funds(account)
        output.document(funds=found)
        output.show(funds_table(found))

    ask(output, target, work)


def pnl(
    account: Account, since: Since = None, until: Until = None, target: Target = NEAR, as_json: Json = False
) -> None:
    """Show what changed an account's equity, by cause: today and in all, or from --since to --until."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit | None:
        whole, found = await asyncio.gather(
            client.profit_and_loss(account, start_time=since, end_time=until), client.funds(account)
        )
        if since is not None or until is not None:
            output.document(currency=found.currency, period=whole)
            title = f"profit and loss of {account} in {found.currency}, {period_words(since, until)}"
            output.show(profit_table({"in the period": whole.profit_and_loss}, title), realized_line(whole, found))
            return None
        newest = [
            one
            async for one in client.fund_history(account, interval=FundInterval.DAY, start_time=whole.as_of, limit=1)
        ]
        today = newest[0] if newest else None
        output.document(currency=found.currency, today=today, in_all=whole, realized_pnl_today=found.realized_pnl_today)
        columns = {"today": today.profit_and_loss if today is not None else None, "in all": whole.profit_and_loss}
        begun = f"; today began {moment(today.start_time)[:16]} UTC" if today is not None else ""
        title = f"profit and loss of {account} in {found.currency}{begun}"
        output.show(profit_table(columns, title))
        output.show(
            f"realized, before fees, funding and interest: {amount(found.realized_pnl_today)} {found.currency} today, "
            f"{amount(whole.realized_pnl)} {found.currency} in all"
        )
        return None

    ask(output, target, work)


def history(
    account: Account,
    interval: Annotated[
        FundInterval, typer.Option(case_sensitive=False, help="Length of the intervals.")
    ] = FundInterval.DAY,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many intervals.")] = 60,
    plot: Annotated[bool, typer.Option("--plot", help="Draw a chart on the terminal instead of the table.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Draw the chart into a .svg or .png.")
    ] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Show capital and profit per hour, day, week or month, the newest last; as a chart with --plot or --output."""
    output = Output(as_json)
    if picture is not None:
        try:
            picture_kind(picture)
        except UnknownPicture as error:
            raise typer.BadParameter(str(error)) from None

    async def work(client: MarginClient) -> Exit | None:
        found = await client.funds(account)
        entries = [
            one
            async for one in client.fund_history(
                account, interval=interval, start_time=since, end_time=until, limit=limit
            )
        ]
        output.document(account_id=account, currency=found.currency, interval=interval, entries=entries[::-1])
        if not entries:
            output.show(Text(f"no history of {account} {period_words(since, until)}", "dim"))
            if picture is not None:
                output.say(f"{picture} was not written: there is nothing to draw")
            return None
        chart = chart_of(account, found.currency, interval, entries, known_until(entries))
        if plot:
            output.show(terminal_chart(chart, output.out.width))
        elif picture is None:
            output.show(history_table(entries, account, found.currency, interval))
        if picture is not None:
            try:
                write_chart(chart, picture)
            except (OSError, PillowMissing) as error:
                raise Failed(f"{picture} can't be written: {error}") from None
            output.say(f"{picture}: {chart.title}, {counted(len(entries), NOUNS[interval])}")
        return None

    ask(output, target, work)


def known_until(entries: Sequence[FundHistoryEntry]) -> datetime:
    """Up to when the newest interval is known: its end, or now where it is under way."""
    return min(entries[0].end_time, datetime.now(UTC))


def period_words(since: datetime | None, until: datetime | None) -> str:
    """The period in words."""
    begin = "from the beginning" if since is None else f"from {moment(since)[:16]} UTC"
    return f"{begin} to {'now' if until is None else moment(until)[:16] + ' UTC'}"


def funds_table(found: Funds) -> Table:
    """Every figure with its unit."""
    made = table("", "", "", title=f"funds of {found.account_id}")
    made.show_header = False
    made.columns[1].justify = "right"
    money = found.currency
    for balance in found.balances:
        made.add_row("wallet balance", amount(balance.amount), balance.asset)
    if not found.balances:
        made.add_row("wallet balance", "nothing", "")
    capital = found.starting_capital
    rows = [
        ("collateral value", amount(found.collateral_value), f"{money}, balances after haircuts"),
        ("unrealized", signed_text(found.unrealized_pnl) if found.unrealized_pnl is not None else UNKNOWN, money),
        ("used as margin", amount(found.used_margin), money),
        ("available", amount(found.available_balance), money),
        ("realized today", amount(found.realized_pnl_today), f"{money}, before fees, funding and interest"),
        ("realized in all", amount(found.realized_pnl), f"{money}, since the account was opened or last reset"),
    ]
    for name, value, unit in rows:
        made.add_row(name, value, unit)
    if capital is not None:
        made.add_row("starting capital", amount(capital.amount), f"{capital.asset}, what a reset restores")
    else:
        made.add_row("starting capital", "none", "")
    last = "never" if found.last_reset_time is None else f"{moment(found.last_reset_time)} UTC"
    following = "none planned" if found.next_reset_time is None else f"{moment(found.next_reset_time)} UTC"
    made.add_row("resets", f"{found.reset_count:,}", f"last: {last}; next: {following}")
    return made


def profit_table(columns: dict[str, ProfitAndLoss | None], title: str) -> RenderableType:
    """What changed equity, a row for each cause; the last row is their exact sum."""
    made = table("cause", *columns, "", right=tuple(columns), title=title)
    for cause, words in CAUSES.items():
        made.add_row(cause.replace("_", " "), *(part_of(one, cause) for one in columns.values()), Text(words, "dim"))
    sums = (part_of(one, "total") for one in columns.values())
    made.add_row("change of equity", *sums, Text("the sum of the above", "dim"), style="bold", end_section=True)
    missing = [name for name, one in columns.items() if one is None]
    if not missing:
        return made
    return Group(made, Text(f"{' and '.join(missing)}: not known, a price was missing or nothing was recorded", "dim"))


def part_of(profit: ProfitAndLoss | None, name: str) -> Text:
    return Text(UNKNOWN, "dim") if profit is None else signed_text(getattr(profit, name))


def realized_line(whole: PeriodProfit, found: Funds) -> str:
    return f"realized, before fees, funding and interest: {amount(whole.realized_pnl)} {found.currency}"


def history_table(
    entries: Sequence[FundHistoryEntry], account: str, currency: str, interval: FundInterval
) -> RenderableType:
    """Intervals with their causes, the newest last; causes that are zero throughout are left out."""
    profits = [one.profit_and_loss for one in entries if one.profit_and_loss is not None]
    causes = [name for name in CAUSES if any(getattr(one, name) for one in profits)]
    columns = ["equity", "change", *(name.replace("_", " ") for name in causes)]
    title = f"history of {account} in {currency}, per {NOUNS[interval]}"
    made = table("begins (UTC)", *columns, right=columns, title=title)
    for one in reversed(entries):
        parts = [part_of(one.profit_and_loss, name) for name in ("total", *causes)]
        made.add_row(moment(one.start_time)[:16], amount(one.equity), *parts)
    unknown = sum(one.profit_and_loss is None for one in entries)
    if not unknown:
        return made
    return Group(
        made, Text(f"{UNKNOWN} is not known: a price was missing ({counted(unknown, NOUNS[interval])})", "dim")
    )
