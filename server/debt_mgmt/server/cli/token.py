"""`debt-mgmt token`: who may call the service, with what role, and on which accounts."""

import re
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from debt_mgmt.client import MarginClient, Role, Token, TokenOutcome
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import table, violations_table
from debt_mgmt.server.cli.wording import moment

app = typer.Typer(help="Tokens: who may call the service, with what role, on which accounts.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]
SPAN = re.compile(r"(\d{1,6})(m|h|d|w)")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
NEVER = "never"
YEAR = "365d"


def span_of(text: str) -> timedelta:
    """90m, 12h, 30d or 8w."""
    match = SPAN.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no length of time: write 90m, 12h, 30d or 8w")
    return int(match[1]) * UNITS[match[2]]


@app.command()
def issue(
    name: Name,
    role: Annotated[Role, typer.Option(case_sensitive=False, help="What it allows.")] = Role.VIEWER,
    account: Annotated[
        list[str] | None, typer.Option("--account", help="An account that exists for it; repeatable. None: every one.")
    ] = None,
    expires: Annotated[str, typer.Option(help=f"How long it is good: 90m, 12h, 30d, 8w, or {NEVER}.")] = YEAR,
    note: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Make a token. Its secret goes to stdout, this once; all else to stderr."""
    output = Output(as_json)
    length = None if expires == NEVER else span_of(expires)

    async def work(client: MarginClient) -> Exit:
        outcome = await client.issue_token(name, role, account_ids=account or (), time_to_live=length, note=note)
        return tell_secret(output, outcome)

    ask(output, target, work)


@app.command()
def rotate(
    name: Name,
    overlap: Annotated[str | None, typer.Option(help="How long the secret before stays good: 90m, 12h, 7d.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Give a token a new secret, which goes to stdout, this once."""
    output = Output(as_json)
    length = None if overlap is None else span_of(overlap)

    async def work(client: MarginClient) -> Exit:
        return tell_secret(output, await client.rotate_token(name, overlap=length))

    ask(output, target, work)


@app.command()
def revoke(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """End a token: no call with it is accepted from now on."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        outcome = await client.revoke_token(name, reason=reason)
        output.document(outcome=outcome)
        if not outcome.accepted:
            output.show(Group(Text("REFUSED", "bold red"), violations_table(outcome.violations)))
            return Exit.REFUSED
        output.show(Text.assemble(("REVOKED", "bold"), f"  {name}"))
        return Exit.OK

    ask(output, target, work)


@app.command("list")
def list_tokens(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that expired or were revoked.")] = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List tokens, without their secrets."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        tokens = await client.tokens(include_ended=ended)
        output.document(tokens=list(tokens))
        rows = table("token", "role", "accounts", "issued", "good until", "note")
        for one in tokens:
            rows.add_row(
                one.name, one.role.lower(), accounts_of(one), moment(one.create_time), until(one), one.note or ""
            )
        output.show(rows if tokens else "no token: every caller is local, or brings a signed one")

    ask(output, target, work)


@app.command()
def whoami(target: Target = NEAR, as_json: Json = False) -> None:
    """Say who the caller is to the service."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        caller = await client.caller()
        output.document(caller=caller)
        accounts = ", ".join(caller.account_ids) or "every account"
        how = "" if caller.authenticated else "  (nothing authenticates callers: server.auth is off)"
        output.show(Text.assemble((caller.name, "bold"), f"  {caller.role.lower()}  {accounts}{how}"))

    ask(output, target, work)


def tell_secret(output: Output, outcome: TokenOutcome) -> Exit:
    """The secret alone on stdout, so that it can be piped into a file or a vault and nothing else comes along."""
    output.document(outcome=outcome)
    if outcome.token is None:
        output.show(Group(Text("REFUSED", "bold red"), violations_table(outcome.violations)))
        return Exit.REFUSED
    token = outcome.token
    if outcome.secret is None:
        output.say(f"{token.name} was made before, and its secret is not shown again: rotate it", "bold yellow")
        return Exit.FAULT
    output.say(f"{token.name}: {token.role.lower()}, {accounts_of(token)}, good until {until(token)}")
    output.say("The secret is shown this once. Send it as `authorization: Bearer …`, or set DEBT_MGMT_TOKEN.")
    output.paste(outcome.secret)
    return Exit.OK


def accounts_of(token: Token) -> str:
    return ", ".join(token.account_ids) or "every account"


def until(token: Token) -> str:
    if token.revoke_time is not None:
        return f"revoked {moment(token.revoke_time)}"
    return NEVER if token.expire_time is None else moment(token.expire_time)
