"""`debt-mgmt why`: why was it refused, why were positions reduced, and what would have prevented it."""

import re
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import AuditEvent, EventExplanation, MarginClient, Mark, Revision
from debt_mgmt.server.cli.audit import event_line
from debt_mgmt.server.cli.audit_events import members_of
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, ask
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import UNKNOWN, moment

PLACE = re.compile(r"(\d+):(\d+)")
LOOKED_THROUGH = 500

REFUSED = ("CommandRefused",)
REDUCED = ("ReductionStarted", "BankruptcyRecorded")
ASKED_ABOUT = (*REFUSED, *REDUCED, "RiskLevelChanged", "TradingStateChanged", "BreakerTripped", "SyncLost")
"""What people ask about, when they name the account alone: the last of these."""


def why(
    what: Annotated[str, typer.Argument(metavar="ACCOUNT|EVENT", help="An account, or an event as SHARD:POSITION.")],
    request_id: Annotated[str | None, typer.Option(help="The request of the account that is asked about.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="The last refusal of the account.")] = False,
    liquidated: Annotated[bool, typer.Option("--liquidated", help="Its last reduction by force.")] = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Say why something happened: of an account the last refusal, reduction or change of level, or any event.

    The working is shown line by line. The decision is taken again from what the journal kept: `reproduced` says
    whether that gave the same bytes.
    """
    output = Output(as_json)
    kinds = REFUSED if refused else REDUCED if liquidated else ASKED_ABOUT

    async def work(client: MarginClient) -> None:
        place = PLACE.fullmatch(what)
        if place is not None and not (refused or liquidated or request_id):
            found = await client.explain_event(Revision(int(place[1]), int(place[2])))
        elif request_id is not None:
            found = await client.explain_event(account_id=what, caused_by=request_id)
        else:
            found = await client.explain_event((await last_event(client, what, kinds)).revision)
        output.document(**document_of(found))
        output.show(*shown(found))

    ask(output, target, work)


async def last_event(client: MarginClient, account_id: str, kinds: tuple[str, ...]) -> AuditEvent:
    async for event in client.audit_events(account_id, kinds=kinds, newest_first=True, limit=1):
        return event
    raise Failed(
        f"nothing of the kind happened to account {account_id}: `debt-mgmt audit list --account {account_id}` has all"
        " its events",
        Exit.REFUSED,
    )


def document_of(found: EventExplanation) -> dict[str, Any]:
    return {
        "revision": found.revision,
        "as_of": found.as_of,
        "event": members_of(found.event),
        "summary": found.summary,
        "figures": found.figures,
        "marks": found.marks,
        "violations": found.violations,
        "margin_rules": found.margin_rules,
        "led_by": [members_of(event) for event in found.led_by],
        "remedy": found.remedy,
        "reproduced": found.reproduced,
    }


def shown(found: EventExplanation) -> list[Any]:
    parts: list[Any] = [event_line(found.event), Text(found.summary, "bold")]
    if found.violations:
        rules = table("rule", "why")
        for violation in found.violations:
            rules.add_row(Text(violation.reason.value, "red"), violation.message)
        parts.append(rules)
    if found.remedy:
        parts.append(Text.assemble(("What would have prevented it: ", "bold green"), found.remedy))
    if found.figures:
        parts.append(working(found))
    if found.marks:
        parts.append(prices(found.marks))
    if found.led_by:
        parts.append(Text("What led there:", "bold"))
        parts += [event_line(event) for event in found.led_by]
    if found.margin_rules:
        parts.append(Text(f"rules: {found.margin_rules}", "dim"))
    parts.append(
        Text("decided again from the journal: the same, to the byte", "green")
        if found.reproduced
        else Text("decided again from the journal: not the same, or its inputs were not kept", "yellow")
    )
    return parts


def working(found: EventExplanation) -> Table:
    made = table("figure", "value", "working", right=("value",))
    for one in found.figures:
        made.add_row(one.name.replace("_", " "), UNKNOWN if one.value is None else one.value, one.working or "")
    return made


def prices(marks: tuple[Mark, ...]) -> Table:
    made = table("price of", "mark", "source", "of (UTC)", "age then", right=("mark", "age then"))
    for one in marks:
        age = f"{one.age.total_seconds():.1f} s"
        made.add_row(one.symbol, format(one.price, "f"), one.source, moment(one.source_time), age)
    return made
