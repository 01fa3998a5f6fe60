"""`debt-mgmt watch`: accounts as they change, as a live view, as lines, or as lines of JSON."""

import asyncio
from collections import deque
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    Alert,
    AlertEvent,
    AlertSeverity,
    Disconnected,
    Liquidation,
    LiquidationEvent,
    LiquidationState,
    MarginClient,
    MarginStatus,
    Reconnected,
    Resynced,
    Snapshot,
    SnapshotComplete,
    Stale,
    Update,
    WatchEvent,
)
from debt_mgmt.server.cli.accounts import by_danger, statuses_table
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.wording import clock, counted, grouped, level_text, percent, span, utilization

RECENT = 8
"""Alerts and reductions that the live view keeps."""

FRAME_LINES = 14 + RECENT
"""Lines of the live view beside its accounts."""

REFRESHES_PER_SECOND = 4
SEVERITY_STYLES = {
    AlertSeverity.INFO: "",
    AlertSeverity.WARNING: "yellow",
    AlertSeverity.CRITICAL: "bold red",
}


def watch(
    account: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="None: all of them.")] = None,
    interval: Annotated[
        float, typer.Option(min=0.05, help="Shortest time between two updates of an account, in seconds.")
    ] = 0.5,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds; else ctrl-c.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Follow accounts as they change: margin, alerts and reductions."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit | None:
        try:
            async with asyncio.timeout(seconds):
                await follow(client, output, account or [], interval, target)
        except (TimeoutError, asyncio.CancelledError):
            return Exit.OK
        return Exit.OK

    ask(output, target, work)


async def follow(client: MarginClient, output: Output, account_ids: list[str], interval: float, target: str) -> None:
    """Show what the watch gives until it is cancelled. Fails at once where no service answers."""
    await client.marks()
    events = client.watch_margin(account_ids, min_interval=interval)
    if output.as_json:
        async for event in events:
            output.line(event=kind_of(event), **members_of(event))
    elif output.out.is_terminal:
        board = Board(target)
        only = account_ids[0] if len(account_ids) == 1 else None
        earlier = [alert async for alert in client.alerts(only, limit=RECENT)]
        board.recent.extend(alert_line(alert) for alert in reversed(earlier))
        with Live(board, console=output.out, refresh_per_second=REFRESHES_PER_SECOND):
            async for event in events:
                board.take(event)
    else:
        async for event in events:
            for line in lines_of(event):
                output.show(line)


KINDS: dict[type, str] = {
    Snapshot: "snapshot",
    SnapshotComplete: "snapshot_complete",
    Update: "update",
    AlertEvent: "alert",
    LiquidationEvent: "liquidation",
    Stale: "stale",
    Resynced: "resynced",
    Disconnected: "disconnected",
    Reconnected: "reconnected",
}


def kind_of(event: WatchEvent) -> str:
    return KINDS[type(event)]


def members_of(event: WatchEvent) -> dict[str, Any]:
    """The event's fields; an error becomes what it says."""
    if isinstance(event, Disconnected):
        return {"error": None if event.error is None else str(event.error)}
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


class Board:
    """The live view: every account's latest state, what happened lately, and whether the connection lives."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.statuses: dict[str, MarginStatus] = {}
        self.recent: deque[Text] = deque(maxlen=RECENT)
        self.trouble: Text | None = Text("connecting …", "dim")
        self.updates = 0

    def take(self, event: WatchEvent) -> None:
        """Bring the view up to date with one event."""
        match event:
            case Snapshot() | Update():
                self.statuses[event.status.account_id] = event.status
                self.updates += 1
                self.trouble = None
            case SnapshotComplete() | Reconnected():
                self.trouble = None
            case Resynced():
                self.statuses.clear()
            case Stale():
                self.trouble = Text(f"STALE: nothing heard for {span(event.stale_for)}", "bold magenta")
            case Disconnected():
                self.trouble = Text("the connection broke; connecting again", "bold magenta")
            case AlertEvent() | LiquidationEvent():
                self.recent.extend(lines_of(event))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.render(options.max_width, console.height)

    def render(self, width: int, height: int) -> RenderableType:
        """The view for a screen of this size."""
        rows = by_danger(self.statuses.values())
        fitting = rows[: max(3, height - FRAME_LINES)]
        as_of = max((row.as_of for row in rows), default=None)
        heading = Table.grid(expand=True)
        heading.add_column()
        heading.add_column(justify="right")
        heading.add_row(
            Text.assemble(("debt-mgmt watch", "bold"), f"  {self.target}  {counted(len(rows), 'account')}"),
            Text(f"as of {clock(as_of)} UTC, {counted(self.updates, 'update')}", "dim"),
        )
        parts: list[RenderableType] = [heading, statuses_table(fitting, width=width)]
        if len(rows) > len(fitting):
            parts.append(Text(f"and {counted(len(rows) - len(fitting), 'account')} further from the edge", "dim"))
        if self.trouble is not None:
            parts.append(self.trouble)
        parts += self.recent or [Text("no alerts", "dim")]
        return Group(*parts)


def lines_of(event: WatchEvent) -> list[Text]:
    """An event in a line; what only says that the stream lives has none."""
    match event:
        case Snapshot() | Update():
            return [status_line(event.status)]
        case AlertEvent():
            return [alert_line(event.alert)]
        case LiquidationEvent():
            return [liquidation_line(event.liquidation)]
        case Stale():
            return [Text(f"STALE: nothing heard for {span(event.stale_for)}", "bold magenta")]
        case Disconnected():
            return [Text("the connection broke; connecting again", "bold magenta")]
        case Reconnected():
            return [Text(f"connected again after {span(event.outage)}", "green")]
        case Resynced():
            return [Text(f"starting anew: {event.reason}", "magenta")]
        case _:
            return []


def status_line(one: MarginStatus) -> Text:
    return Text.assemble(
        (f"{clock(one.as_of)}  ", "dim"),
        (f"{one.account_id}  ", "bold"),
        f"{utilization(one.margin_utilization, one.equity)}  ",
        level_text(one.level),
        f"  equity {'–' if one.equity is None else grouped(round(one.equity, 2))} {one.currency}",
    )


def alert_line(alert: Alert) -> Text:
    style = SEVERITY_STYLES.get(alert.severity, "")
    return Text.assemble(
        (f"{clock(alert.time)}  ", "dim"),
        (f"{alert.account_id or 'service'}  ", "bold"),
        (f"{alert.kind.value}  ", style),
        alert.message,
    )


def liquidation_line(plan: Liquidation) -> Text:
    """A reduction: what is planned, or what came of it."""
    parts: list[Any] = [
        (f"{clock(plan.end_time or plan.create_time)}  ", "dim"),
        (f"{plan.account_id}  ", "bold"),
        (f"REDUCTION {plan.liquidation_id} {plan.state.value}  ", "bold red" if plan.end_time is None else "yellow"),
        ", ".join(
            f"{step.side.value.lower()} {grouped(step.quantity)} {step.symbol}"
            for step in plan.steps
            if step.side is not None
        ),
    ]
    if plan.state is not LiquidationState.RUNNING:
        parts.append(f"  {percent(plan.utilization_before)} → {percent(plan.utilization_after)}")
    return Text.assemble(*parts)
