"""`debt-mgmt changes`: what waits for a second person, and the second person's yes or no."""

from typing import Annotated, Protocol

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from debt_mgmt.client import ApproveOutcome, ChangeState, MarginClient, PendingChange, RejectOutcome, Violation
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import table, violations_table
from debt_mgmt.server.cli.wording import moment

app = typer.Typer(
    help="Changes that wait for a second person: the end of a halt, a raised limit, the end of dry run.",
    no_args_is_help=True,
)

Change = Annotated[str, typer.Argument(metavar="CHANGE", help="Its id, such as change-17.")]
Note = Annotated[str | None, typer.Option(help="Why; kept in the audit.")]


@app.command("list")
def list_changes(
    decided: Annotated[bool, typer.Option("--all", help="Also those that no longer wait.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List changes that wait, the newest first: who wants what to be otherwise, and until when."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = [one async for one in client.pending_changes(include_decided=decided, limit=limit)]
        output.document(changes=found)
        shown = table("change", "of", "what", "by", "why", "until (UTC)", "state")
        for one in found:
            effects = "\n".join(one.effects)
            until = moment(one.expire_time)
            shown.add_row(one.change_id, str(one.scope), effects, one.proposed_by, one.reason or "", until, state(one))
        output.show(shown if found else Text("no change waits for a second person", "dim"))

    ask(output, target, work)


@app.command("approve")
def approve(change: Change, note: Note = None, target: Target = NEAR, as_json: Json = False) -> None:
    """Carry out what somebody else proposed. Exit status 1: refused, because the rules or who asks are in the way."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        return told(output, "CARRIED OUT", await client.approve_change(change, note=note))

    ask(output, target, work)


@app.command("reject")
def reject(change: Change, note: Note = None, target: Target = NEAR, as_json: Json = False) -> None:
    """End a change that waits; one's own too."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        return told(output, "REJECTED", await client.reject_change(change, note=note))

    ask(output, target, work)


def told(output: Output, done: str, outcome: ApproveOutcome | RejectOutcome) -> Exit:
    output.document(outcome=outcome)
    if not outcome.accepted:
        output.show(Group(Text("REFUSED", "bold red"), violations_table(outcome.violations)))
        return Exit.REFUSED
    lines = [] if outcome.change is None else [f"  {outcome.change.scope}: {one}" for one in outcome.change.effects]
    output.show(Group(Text(done, "bold"), *(Text(line) for line in lines)))
    return Exit.OK


def state(one: PendingChange) -> Text:
    """How it stands, and who said so."""
    if one.state is ChangeState.PENDING:
        return Text("waits", "yellow")
    words = one.state.value.lower() + (f" by {one.decided_by}" if one.decided_by else "")
    if one.violations:
        return Text(f"{words}, refused: {', '.join(rule.reason.value for rule in one.violations)}", "red")
    return Text(words, "dim")


class NotDone(Protocol):
    """An answer that says no."""

    @property
    def violations(self) -> tuple[Violation, ...]: ...
    @property
    def pending_change_id(self) -> str | None: ...


def not_done(outcome: NotDone) -> RenderableType:
    """A refusal, or who has to do what so that it is done."""
    if outcome.pending_change_id is None:
        return Group(Text("REFUSED", "bold red"), violations_table(outcome.violations))
    return Group(
        Text("WAITS FOR A SECOND PERSON", "bold yellow"),
        *(Text(f"  {one.message}") for one in outcome.violations),
        Text(f"  somebody else: debt-mgmt changes approve {outcome.pending_change_id}"),
    )
