"""`debt-mgmt halt`, `resume` and `halts`: stop new risk of any node, let it begin again, and list what is stopped."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from debt_mgmt.client import HaltOutcome, HaltStatus, MarginClient, ResumeOutcome
from debt_mgmt.server.cli.changes import not_done
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import table, violations_table
from debt_mgmt.server.cli.wording import counted, moment

Who = Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="One account.")]
Owner = Annotated[str | None, typer.Option(help="Instead: all accounts of an owner, new ones too.")]
House = Annotated[bool, typer.Option("--house", help="Instead: everything.")]
Strategy = Annotated[str | None, typer.Option(help="Only orders of this strategy, of the account, owner or anybody.")]
Instrument = Annotated[str | None, typer.Option(help="Only orders on this instrument.")]
Reason = Annotated[str, typer.Option(help="Why; shown with the account and kept in the audit.")]


def halt(
    reason: Reason,
    account: Who = None,
    owner: Owner = None,
    house: House = False,
    strategy: Strategy = None,
    instrument: Instrument = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Stop new risk at once, until it is resumed. What takes risk away still passes; a restart changes nothing.

    Exit status 0: in force. 1: refused by the rules.
    """
    output, scope = Output(as_json), scope_of(account, owner, house, reason, strategy, instrument)

    async def work(client: MarginClient) -> Exit:
        return told(output, "HALTED", scope, await client.halt(**scope, reason=reason))

    ask(output, target, work)


def resume(
    reason: Reason,
    account: Who = None,
    owner: Owner = None,
    house: House = False,
    strategy: Strategy = None,
    instrument: Instrument = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """End a halt of the same scope, and of an account its tripped breakers. A wider or narrower halt stays."""
    output, scope = Output(as_json), scope_of(account, owner, house, reason, strategy, instrument)

    async def work(client: MarginClient) -> Exit:
        return told(output, "RESUMED", scope, await client.resume(**scope, reason=reason))

    ask(output, target, work)


def halts(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 200,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List the halts in force, the newest first: of strategies, instruments, accounts, owners and everything."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = [one async for one in client.halts(limit=limit)]
        output.document(halts=found)
        output.show(halts_table(found) if found else Text("nothing is halted", "dim"))

    ask(output, target, work)


def halts_table(found: Sequence[HaltStatus]) -> RenderableType:
    shown = table("halted", "since", "by", "accounts", "why", right=("accounts",))
    for one in found:
        since = moment(one.halt_time) if one.halt_time is not None else ""
        shown.add_row(
            Text(str(one.scope), "bold red"), since, one.actor or "", str(one.account_count), one.reason or ""
        )
    return shown


def scope_of(
    account: str | None,
    owner: str | None,
    house: bool,
    reason: str,
    strategy: str | None = None,
    instrument: str | None = None,
) -> dict[str, Any]:
    """Whom it is about: one of account, owner and house, or what a strategy or an instrument narrows it down to."""
    if not reason.strip():
        raise typer.BadParameter("say why: whoever finds it halted reads this", param_hint="--reason")
    given: dict[str, Any] = {}
    if account is not None:
        given["account_id"] = account
    if owner is not None:
        given["owner"] = owner
    if house:
        given["everything"] = True
    narrowed = {"strategy": strategy, "instrument": instrument}
    narrowed = {name: value for name, value in narrowed.items() if value is not None}
    if len(given) > 1 or not (given or narrowed) or (house and narrowed):
        raise typer.BadParameter("name one of ACCOUNT, --owner and --house, or narrow it by --strategy, --instrument")
    return {**given, **narrowed}


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
    kinds = {"account_id": "account", "owner": "owner", "strategy": "strategy", "instrument": "instrument"}
    return ", ".join(f"{word} {scope[name]}" for name, word in kinds.items() if name in scope) or "the house"
