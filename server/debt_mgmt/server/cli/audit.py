"""`debt-mgmt audit`: what happened, from the journal."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import AuditEvent, MarginClient
from debt_mgmt.server.cli.audit_events import members_of
from debt_mgmt.server.cli.audit_export import export
from debt_mgmt.server.cli.audit_verify import verify
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Json, Target, ask, time_of
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import grouped, moment

LOOK_SECONDS = 1.0
OVERLAP = timedelta(seconds=5)
"""Shards decide side by side: an event may be listed a little after a younger one of another shard."""

QUIET = ("figures", "marks", "postings", "inputs", "event", "account_id", "at", "alert_id", "severity")
"""Parts of an event that its line leaves out, or shows elsewhere."""

ENOUGH = 3
"""With so many fields of its own an event's line needs none from its parts."""

LONGEST = 150
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

app = typer.Typer(help="What happened, from the journal.", no_args_is_help=True)
app.command("verify")(verify)
app.command("export")(export)


@app.command("list")
def list_events(
    account: Annotated[str | None, typer.Option(help="Only this account; else all, and the house.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind, such as MarginReserved; repeatable.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this actor.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Only of this request.")] = None,
    since: Annotated[
        datetime | None, typer.Option(parser=time_of, metavar="TIME", help="ISO 8601, or 15m, 2h, 1d ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(parser=time_of, metavar="TIME", help="The same; exclusive.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events, until ctrl-c.")] = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List events, the newest last."""
    output = Output(as_json)
    wanted: dict[str, Any] = {"kinds": kind or (), "actor": actor, "request_id": request_id}

    async def work(client: MarginClient) -> None:
        newest = [
            event
            async for event in client.audit_events(
                account, start_time=since, end_time=until, newest_first=True, limit=limit, **wanted
            )
        ]
        found = newest[::-1]
        if not follow:
            output.document(events=[members_of(event) for event in found])
            output.show(events_table(found) if found else Text("no events", "dim"))
            return
        async for event in followed(client, found, account, since, wanted):
            output.line(**members_of(event))
            output.show(event_line(event))

    ask(output, target, work)


async def followed(
    client: MarginClient, found: list[AuditEvent], account: str | None, since: datetime | None, wanted: dict[str, Any]
) -> AsyncIterator[AuditEvent]:
    """The events found, then those that come; each once."""
    seen: dict[int, int] = {}
    start = since
    while True:
        for event in found:
            if event.revision.position <= seen.get(event.revision.shard, 0):
                continue
            seen[event.revision.shard] = event.revision.position
            newest = event.time - OVERLAP
            start = newest if start is None else max(start, newest)
            yield event
        await asyncio.sleep(LOOK_SECONDS)
        found = [event async for event in client.audit_events(account, start_time=start, **wanted)]


def events_table(found: list[AuditEvent]) -> Table:
    made = table("time (UTC)", "place", "account", "what", "by", right=("place",))
    for event in found:
        made.add_row(
            moment(event.time),
            f"{event.revision.shard}:{event.revision.position}",
            event.account_id or "house",
            Text.assemble((event.kind, "bold"), "  ", summary(event)),
            actor_name(event.actor),
        )
    return made


def event_line(event: AuditEvent) -> Text:
    return Text.assemble(
        (f"{moment(event.time)}  ", "dim"),
        f"{event.revision.shard}:{event.revision.position}  {event.account_id or 'house'}  ",
        (event.kind, "bold"),
        f"  {summary(event)}",
    )


def actor_name(actor: str) -> str:
    """Who it was; the journal keeps name, role and peer as JSON."""
    try:
        decoded = json.loads(actor)
    except ValueError:
        return actor
    return str(decoded.get("name", actor)) if isinstance(decoded, dict) else actor


def summary(event: AuditEvent) -> str:
    """The event's own fields in a line, as far as they fit; --json has all of them."""
    fields = event.fields()
    own = said(fields)
    parts = [value for name, value in fields.items() if isinstance(value, dict) and name not in QUIET]
    nested = [words for part in parts for words in said(part)]
    return shortened(", ".join(own if len(own) >= ENOUGH else [*own, *nested]))


def said(fields: Mapping[str, Any]) -> list[str]:
    """Texts and numbers by name, and how long the lists are."""
    parts: list[str] = []
    for name, value in fields.items():
        if name in QUIET or value in (None, "", []) or isinstance(value, dict):
            continue
        if isinstance(value, list):
            parts.append(f"{name} ×{len(value)}")
        elif isinstance(value, str) and NUMBER.fullmatch(value):
            parts.append(f"{name} {grouped(Decimal(value))}")
        else:
            parts.append(f"{name} {value}")
    return parts


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip(', ')}…"
