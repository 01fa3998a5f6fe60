"""`debt-mgmt status`, `positions` and `accounts`: how accounts stand, the nearest to the edge first."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import Account, MarginClient, MarginStatus, Position, RiskLevel, RiskLimitsStatus, TradingState
from debt_mgmt.server.cli import live
from debt_mgmt.server.cli.gauge import gauge, ticks_of
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, AsOf, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import distances_table, positions_table, table
from debt_mgmt.server.cli.wording import (
    UNKNOWN,
    amount,
    change,
    counted,
    level_text,
    moment,
    percent,
    span,
    state_text,
    utilization,
)

NARROW = 110
"""Below so many columns a table shows less."""

AT_ONCE = 32
"""Accounts asked about at the same time."""

DANGER = {
    RiskLevel.LIQUIDATING: 0,
    RiskLevel.CRITICAL: 1,
    RiskLevel.UNKNOWN: 2,
    RiskLevel.WARNING: 3,
    RiskLevel.NORMAL: 4,
}


def status(
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="One account, in full.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many accounts at most.")] = 50,
    then: AsOf = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Show how accounts stand, the nearest to the edge first; one account with its working."""
    output = Output(as_json)

    async def overview(client: MarginClient) -> Exit | None:
        everyone = await statuses(client, [one.account_id for one in await client.accounts()])
        output.document(accounts=everyone)
        if not everyone:
            output.show(Text("no accounts yet", "dim"))
            return None
        output.show(statuses_table(everyone[:limit], width=output.out.width))
        if len(everyone) > limit:
            output.show(Text(f"and {counted(len(everyone) - limit, 'account')} further from the edge: --limit", "dim"))
        return None

    async def detail(client: MarginClient) -> Exit | None:
        assert account is not None
        about, figures, positions, limits = await asyncio.gather(
            client.account(account),
            client.margin_status(account),
            client.positions(account),
            client.risk_limits(account),
        )
        output.document(account=about, status=figures, positions=positions, limits=limits)
        output.show(detail_of(about, figures, positions, limits, narrow=output.out.width < NARROW))
        return None

    ask(output, target, overview if account is None else detail, then)


def positions(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; can be repeated.")] = None,
    then: AsOf = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List an account's open positions."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = await client.positions(account, symbols=symbol or ())
        output.document(positions=found, revision=found.revision, as_of=found.as_of)
        output.show(positions_table(found, narrow=output.out.width < NARROW))

    ask(output, target, work, then)


accounts = typer.Typer(help="List accounts by id; open, sync and switch them.", invoke_without_command=True)
accounts.command("create")(live.create)
accounts.command("sync")(live.sync)
accounts.command("dry-run")(live.dry_run)


@accounts.callback()
def list_accounts(
    context: typer.Context,
    closed: Annotated[bool, typer.Option("--closed", help="Closed ones too.")] = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List accounts by id; open, sync and switch them."""
    if context.invoked_subcommand is not None:
        return
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = await client.accounts(include_closed=closed)
        output.document(accounts=found, revision=found.revision, as_of=found.as_of)
        made = table("account", "owner", "broker", "kind", "balances", "level", "state", "created (UTC)")
        for one in found:
            made.add_row(
                one.account_id,
                one.owner,
                one.broker,
                one.environment.value + (" dry run" if one.dry_run else ""),
                ", ".join(f"{amount(balance.amount)} {balance.asset}" for balance in one.balances) or "none",
                level_text(one.level),
                "CLOSED" if one.close_time is not None else state_text(one.trading_state),
                moment(one.create_time)[:16],
            )
        output.show(made if found else Text("no accounts yet", "dim"))

    ask(output, target, work)


async def statuses(client: MarginClient, account_ids: Iterable[str]) -> list[MarginStatus]:
    """The status of each account, the nearest to the edge first."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(account_id: str) -> MarginStatus:
        async with gate:
            return await client.margin_status(account_id)

    return by_danger(await asyncio.gather(*(one(account_id) for account_id in account_ids)))


def by_danger(found: Iterable[MarginStatus]) -> list[MarginStatus]:
    def danger(one: MarginStatus) -> tuple[int, Decimal, str]:
        return DANGER.get(one.level, 0), -(full_if_gone_status(one) or Decimal(0)), one.account_id

    return sorted(found, key=danger)


def full_if_gone_status(one: MarginStatus) -> Decimal | None:
    """What the bar shows of an account."""
    if one.margin_utilization is None and one.equity is not None:
        return Decimal(1)
    return one.margin_utilization


def oldest_mark(one: MarginStatus) -> timedelta | None:
    return max((mark.age for mark in one.marks), default=None)


def statuses_table(found: Sequence[MarginStatus], *, width: int) -> Table:
    """A row per account."""
    narrow = width < NARROW
    columns = ["account", "equity", "used", "utilization", "", "level", "state", "pos", "mark age"]
    if narrow:
        columns.remove("used")
        columns.remove("state" if all(one.trading_state is TradingState.ACTIVE for one in found) else "pos")
    made = table(*columns, right=("equity", "used", "", "pos", "mark age"), tight=narrow)
    for one in found:
        age = oldest_mark(one)
        cells: dict[str, Any] = {
            "account": one.account_id,
            "equity": f"{amount(one.equity)} {one.currency}",
            "used": amount(one.margin_used),
            "utilization": gauge(
                full_if_gone_status(one), one.level, cells=10 if narrow else 20, ticks=ticks_of(one.thresholds)
            ),
            "": utilization(one.margin_utilization, one.equity),
            "level": level_text(one.level),
            "state": state_text(one.trading_state),
            "pos": str(one.open_positions),
            "mark age": Text(UNKNOWN if age is None else span(age), "bold magenta" if one.stale else ""),
        }
        made.add_row(*(cells[name] for name in columns))
    return made


def detail_of(
    about: Account, one: MarginStatus, held: Sequence[Position], limits: RiskLimitsStatus, *, narrow: bool
) -> RenderableType:
    """One account, with what its figures are made of, how far it is from each level, and which protections are off."""
    heading = Text.assemble(
        (one.account_id, "bold"),
        f"  {about.broker} {about.environment.value.lower()}, owner {about.owner}, valued in {one.currency}   ",
        level_text(one.level),
        "  ",
        state_text(one.trading_state),
    )
    parts: list[RenderableType] = [heading]
    if one.trading_state_reason:
        parts.append(Text(f"{one.trading_state.value}: {one.trading_state_reason}", "yellow"))
    if about.sync is not None:
        parts.append(live.sync_text(about))
    if one.stale:
        parts.append(Text(f"prices missing or too old: {', '.join(one.stale_symbols)}", "bold magenta"))
    parts += [Text(""), bar_of(one), Text(""), working(one), positions_table(held, narrow=narrow)]
    if one.open_positions:
        parts.append(distances_table(one.shocks, one.thresholds))
    off = [protection.protection.value.lower().replace("_", " ") for protection in limits.protections if protection.off]
    if off:
        parts.append(Text(f"protections that are OFF: {', '.join(off)}", "yellow"))
    for breaker in limits.breakers:
        if breaker.tripped:
            words = f"circuit breaker {breaker.kind.value} tripped: loss {amount(breaker.loss)}, since "
            parts.append(Text(f"{words}{moment(breaker.trip_time)} UTC", "bold red"))
    parts.append(Text(f"as of {moment(one.as_of)} UTC, journal {one.revision.shard}:{one.revision.position}", "dim"))
    return Group(*parts)


def bar_of(one: MarginStatus) -> Text:
    acts = " / ".join(percent(tick, 0).removesuffix(" %") for tick in ticks_of(one.thresholds))
    return Text.assemble(
        gauge(full_if_gone_status(one), one.level, cells=40, ticks=ticks_of(one.thresholds)),
        (f" {utilization(one.margin_utilization, one.equity)}", "bold"),
        (f"   acts at {acts} %", "dim"),
    )


def working(one: MarginStatus) -> Table:
    """The figures with what they are made of."""
    made = Table.grid(padding=(0, 2))
    made.add_column()
    made.add_column(justify="right")
    made.add_column(style="dim")
    reserved = counted(one.open_reservations, "reservation")
    for name, value, made_of in (
        (
            "equity",
            one.equity,
            f"collateral {amount(one.collateral_value)} {plus(one.unrealized_pnl)} unrealized"
            + (f" − debt {amount(one.debt)}" if one.debt is None or one.debt else ""),
        ),
        (
            "margin used",
            one.margin_used,
            f"positions {amount(one.initial_margin_positions)} + {reserved} {amount(one.initial_margin_reservations)}",
        ),
        ("margin available", one.margin_available, "equity − margin used, never below zero"),
        (
            "maintenance margin",
            one.maintenance_margin,
            f"{utilization(one.maintenance_ratio, one.equity)} of equity; venues liquidate at 100 %",
        ),
        ("realized PnL", one.realized_pnl, f"today {change(one.realized_pnl_today)}"),
    ):
        made.add_row(name, Text(amount(value), "bold"), made_of)
    return made


def plus(value: Decimal | None) -> str:
    """A summand with its sign."""
    if value is None:
        return f"+ {UNKNOWN}"
    return f"{'−' if value < 0 else '+'} {amount(abs(value))}"
