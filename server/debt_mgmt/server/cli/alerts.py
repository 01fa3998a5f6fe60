"""`debt-mgmt alerts`: what happened that somebody should know, and that somebody does."""

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import Alert, AlertKind, AlertSeverity, MarginClient
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask, time_of
from debt_mgmt.server.cli.tables import table, violations_table
from debt_mgmt.server.cli.wording import moment

STYLES = {AlertSeverity.INFO: "", AlertSeverity.WARNING: "yellow", AlertSeverity.CRITICAL: "bold red"}

app = typer.Typer(help="Alerts: what happened that somebody should know.", no_args_is_help=True)


@app.command("list")
def list_alerts(
    account: Annotated[str | None, typer.Option(help="Only this account; else all that the caller may see.")] = None,
    kind: Annotated[
        list[AlertKind] | None, typer.Option(case_sensitive=False, help="Only this kind; repeatable.")
    ] = None,
    severity: Annotated[
        AlertSeverity | None, typer.Option(case_sensitive=False, help="Only this severity and above.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that somebody has acknowledged.")] = False,
    since: Annotated[
        datetime | None, typer.Option(parser=time_of, metavar="TIME", help="ISO 8601, or 15m, 2h, 1d ago.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List alerts that nobody has acknowledged, the newest first."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = [
            one
            async for one in client.alerts(
                account,
                kinds=kind or (),
                min_severity=severity,
                unacknowledged_only=not every,
                start_time=since,
                limit=limit,
            )
        ]
        output.document(alerts=found)
        output.show(alerts_table(found) if found else Text("no alert", "dim"))

    ask(output, target, work)


@app.command()
def acknowledge(
    alert_id: Annotated[str, typer.Argument(metavar="ALERT")],
    note: Annotated[str | None, typer.Option(help="What was done, for the audit.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Say that somebody has seen an alert: it is not escalated any more."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        outcome = await client.acknowledge_alert(alert_id, note=note)
        output.document(outcome=outcome)
        by = Text(f"by {outcome.alert.acknowledged_by}", "dim")
        if not outcome.accepted:
            output.show(Group(Text("REFUSED", "bold red"), violations_table(outcome.violations), by))
            return Exit.REFUSED
        output.show(Text.assemble(("ACKNOWLEDGED", "bold"), f"  {alert_id}  {outcome.alert.message}  ", by))
        return Exit.OK

    ask(output, target, work)


def alerts_table(found: list[Alert]) -> Table:
    made = table("alert", "time (UTC)", "account", "severity", "kind", "what", "seen by")
    for one in found:
        made.add_row(
            one.alert_id,
            moment(one.time),
            one.account_id or "house",
            Text(one.severity.value, STYLES.get(one.severity, "")),
            one.kind.value,
            one.message,
            one.acknowledged_by or "",
        )
    return made
