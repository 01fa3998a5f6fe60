"""`debt-mgmt limits`: limits of an account and of every node of the tree: their use, changes, comparison, the past."""

from datetime import datetime
from typing import Annotated, TypeVar

import typer

from debt_mgmt.client import LimitMode, MarginClient, Scope
from debt_mgmt.server.cli import account_limits, limit_sets, limit_tree
from debt_mgmt.server.cli.limit_hours import ALWAYS, hours_of
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask, time_of

app = typer.Typer(
    help="Limits of an account, or of a node of the tree house, owner, account, strategy, instrument.",
    no_args_is_help=True,
)

T = TypeVar("T")
NODE = "Node"
Who = Annotated[
    str | None, typer.Argument(metavar="[ACCOUNT]", help="An account's own limits, where no node is named.")
]
House = Annotated[bool, typer.Option("--house", help="The whole house.", rich_help_panel=NODE)]
Owner = Annotated[str | None, typer.Option(help="All accounts of an owner.", rich_help_panel=NODE)]
OfAccount = Annotated[str | None, typer.Option("--account", help="One account.", rich_help_panel=NODE)]
Strategy = Annotated[str | None, typer.Option(help="One strategy.", rich_help_panel=NODE)]
Instrument = Annotated[str | None, typer.Option(help="One instrument.", rich_help_panel=NODE)]
Name = Annotated[
    str | None, typer.Option(help="Which of the node's sets; else its standing one.", rich_help_panel=NODE)
]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
Then = Annotated[
    datetime | None, typer.Option(parser=time_of, metavar="TIME", help="Then and now: ISO 8601, or 2h ago.")
]


@app.command("get")
def get(
    account: Who = None,
    house: House = False,
    owner: Owner = None,
    of_account: OfAccount = None,
    strategy: Strategy = None,
    instrument: Instrument = None,
    name: Name = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Show every limit with its use and headroom: an account's own, with the protections that are OFF, or a node's."""
    output = Output(as_json)
    node = node_of(account, house, owner, of_account, strategy, instrument, named=name is not None)

    async def work(client: MarginClient) -> None:
        if node is None:
            await account_limits.show(client, output, required(account))
        else:
            await limit_sets.show(client, output, node, name)

    ask(output, target, work)


@app.command("set")
def change(
    reason: Reason,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ACCOUNT] LIMIT=VALUE...",
            help="max_leverage=3, max_order_rate=10/1s, breaker_cool_down=1h; VALUE house gives an account's own limit "
            "back to the house, VALUE none takes a limit out of a node's set.",
        ),
    ] = None,
    house: House = False,
    owner: Owner = None,
    of_account: OfAccount = None,
    strategy: Strategy = None,
    instrument: Instrument = None,
    name: Name = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--enforced", help="Only report what it would have refused; or refuse.")
    ] = None,
    hours: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOURS",
            help="When it is in force: 'sat 00:00 - mon 00:00 Europe/Zurich', 'mon-fri 22:00-06:00'; repeatable. "
            "'always': always.",
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Of the notionals of a node that is not one account.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Change limits; those not named stay. With a node or a name: of its limit set, made where there is none.

    Exit status 1: refused by the rules, or it waits for a second person.
    """
    output, account, typed = Output(as_json), *account_first(words or [])
    own_set = name is not None or shadow is not None or hours or currency is not None
    node = node_of(account, house, owner, of_account, strategy, instrument, named=bool(own_set))
    said(reason)
    if node is None:
        if not typed:
            raise typer.BadParameter("name a limit to change, such as max_leverage=3")
        values = account_limits.changes_of(typed)
    else:
        change = limit_sets.Change(
            values=limit_sets.values_of(typed),
            mode=None if shadow is None else LimitMode.SHADOW if shadow else LimitMode.ENFORCED,
            hours=None if not hours else [part for text in hours if text != ALWAYS for part in hours_of(text)],
            currency=currency,
        )
        if change.empty:
            raise typer.BadParameter("say what to change: a limit such as max_leverage=3, --shadow, --hours")

    async def work(client: MarginClient) -> Exit:
        if node is None:
            return await account_limits.change(client, output, required(account), values, reason)
        return await limit_sets.put(client, output, node, name, change, reason)

    ask(output, target, work)


@app.command("delete")
def delete(
    reason: Reason,
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="The same as --account.")] = None,
    house: House = False,
    owner: Owner = None,
    of_account: OfAccount = None,
    strategy: Strategy = None,
    instrument: Instrument = None,
    name: Name = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Take a node's limit set away. Exit status 1: refused by the rules, or it waits for a second person."""
    output = Output(as_json)
    node = required(node_of(account, house, owner, of_account, strategy, instrument, named=True))
    said(reason)

    async def work(client: MarginClient) -> Exit:
        return await limit_sets.delete(client, output, node, name, reason)

    ask(output, target, work)


@app.command("diff")
def diff(
    account: Who = None,
    other: Annotated[str | None, typer.Argument(metavar="[OTHER]", help="Another account.")] = None,
    since: Then = None,
    house: House = False,
    owner: Owner = None,
    of_account: OfAccount = None,
    strategy: Strategy = None,
    instrument: Instrument = None,
    name: Name = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Compare the limits of two accounts, of one then and now, or the sets of a node: the shadow with the enforced.

    Exit status 0, also where they differ.
    """
    output = Output(as_json)
    node = node_of(account, house, owner, of_account, strategy, instrument, named=name is not None)
    if node is None and (other is None) == (since is None):
        raise typer.BadParameter("name another account, or a time with --since")
    if node is not None and other is not None:
        raise typer.BadParameter("two accounts are compared by their own limits, without a node or --name")

    async def work(client: MarginClient) -> None:
        if node is None:
            await account_limits.compare(client, output, required(account), other, since)
        elif since is not None:
            await limit_sets.compare_times(client, output, node, name, since)
        else:
            await limit_sets.compare_sets(client, output, node, name)

    ask(output, target, work)


@app.command("history")
def history(
    account: Who = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many changes.")] = 20,
    house: House = False,
    owner: Owner = None,
    of_account: OfAccount = None,
    strategy: Strategy = None,
    instrument: Instrument = None,
    name: Name = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List who changed which limit, when, and why; the newest last. Without account and node: every limit set."""
    output = Output(as_json)
    anything = any((account, house, owner, of_account, strategy, instrument, name))
    node = (
        node_of(account, house, owner, of_account, strategy, instrument, named=name is not None) if anything else None
    )

    async def work(client: MarginClient) -> None:
        if node is None and account is not None:
            await account_limits.look_back(client, output, account, limit)
        else:
            await limit_sets.look_back(client, output, node, name, limit)

    ask(output, target, work)


@app.command("tree")
def tree(
    account: Annotated[
        str | None, typer.Argument(metavar="[ACCOUNT]", help="Only what concerns this account, with its own limits.")
    ] = None,
    owner: Owner = None,
    strategy: Strategy = None,
    instrument: Instrument = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Show the limit sets from the house down to the instruments, with what is used and what is left."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        concerning = Scope(owner=owner, account_id=account, strategy=strategy, symbol=instrument)
        await limit_tree.show(client, output, concerning)

    ask(output, target, work)


def node_of(
    account: str | None,
    house: bool,
    owner: str | None,
    of_account: str | None,
    strategy: str | None,
    instrument: str | None,
    *,
    named: bool,
) -> Scope | None:
    """The node that is meant; None: an account's own limits. `named`: something else says that a limit set is meant."""
    if account is not None and of_account is not None:
        raise typer.BadParameter("name the account once: as ACCOUNT, or by --account")
    narrower = (owner, of_account, strategy, instrument)
    if house and (account is not None or any(one is not None for one in narrower)):
        raise typer.BadParameter("--house is the whole house: leave it out, or the other names")
    if house:
        return Scope()
    if any(one is not None for one in narrower) or (named and account is not None):
        return Scope(owner=owner, account_id=account or of_account, strategy=strategy, symbol=instrument)
    if account is None:
        raise typer.BadParameter(
            "name an account, or a node by --house, --owner, --account, --strategy, --instrument; "
            "`debt-mgmt limits tree` shows every node that has limits"
        )
    return None


def account_first(words: list[str]) -> tuple[str | None, list[str]]:
    """The account, where the first word is one, and the changes."""
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return None, words


def said(reason: str) -> None:
    if not reason.strip():
        raise typer.BadParameter("say why: it is kept in the audit", param_hint="--reason")


def required(value: T | None) -> T:
    """What `node_of` has seen to."""
    assert value is not None
    return value
