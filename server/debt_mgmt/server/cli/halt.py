"""`debt-mgmt halt` and `resume`: stop new risk of an account, an owner or the house, and let it begin again."""

from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from debt_mgmt.client import HaltOutcome, MarginClient, ResumeOutcome
from debt_mgmt.server.cli.changes import not_done
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import violations_table
from debt_mgmt.server.cli.wording import counted

Who = Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="One account.")]
Owner = Annotated[str | None, typer.Option(help="Instead: all accounts of an owner, new ones too.")]
House = Annotated[bool, typer.Option("--house", help="Instead: every account.")]
Reason = Annotated[str, typer.Option(help="Why; shown with the account and kept in the audit.")]


def halt(
    reason: Reason,
    account: Who = None,
    owner: Owner = None,
    house: House = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Stop new risk at once, until it is resumed. What takes risk away still passes; a restart changes nothing.

    Exit status 0: in force. 1: refused by the rules.
    """
    output, scope = Output(as_json), scope_of(account, owner, house, reason)

    async def work(client: MarginClient) -> Exit:
        return told(output, "HALTED", scope, await client.halt(**scope, reason=reason))

    ask(output, target, work)


def resume(
    reason: Reason,
    account: Who = None,
    owner: Owner = None,
    house: House = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """End a halt of the same scope, and of an account its tripped breakers. A wider or narrower halt stays."""
    output, scope = Output(as_json), scope_of(account, owner, house, reason)

    async def work(client: MarginClient) -> Exit:
        return told(output, "RESUMED", scope, await client.resume(**scope, reason=reason))

    ask(output, target, work)


def scope_of(account: str | None, owner: str | None, house: bool, reason: str) -> dict[str, Any]:
    """Whom it is about: exactly one of the three."""
    if not reason.strip():
        raise typer.BadParameter("say why: whoever finds it halted reads this", param_hint="--reason")
    given: dict[str, Any] = {}
    if account is not None:
        given["account_id"] = account
    if owner is not None:
        given["owner"] = owner
    if house:
        given["everything"] = True
    if len(given) != 1:
        raise typer.BadParameter("name one of ACCOUNT, --owner and --house")
    return given


def told(output: Output, done: str, scope: dict[str, Any], outcome: HaltOutcome | ResumeOutcome) -> Exit:
    output.document(outcome=outcome, scope=scope)
    if not outcome.accepted:
        if isinstance(outcome, ResumeOutcome):
            output.show(not_done(outcome))
        else:
            output.show(Group(Text("REFUSED", "bold red"), violations_table(outcome.violations)))
        return Exit.REFUSED
    style = "bold red" if done == "HALTED" else "bold green"
    output.show(Text.assemble((done, style), f"  {spoken(scope)}: {counted(outcome.account_count, 'account')}"))
    return Exit.OK


def spoken(scope: dict[str, Any]) -> str:
    if "account_id" in scope:
        return f"account {scope['account_id']}"
    return f"owner {scope['owner']}" if "owner" in scope else "the house"
