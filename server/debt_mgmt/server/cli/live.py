"""`debt-mgmt accounts create`, `sync`, `dry-run` and `brokers`: accounts at exchanges, what each of these can do."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    Account,
    AccountSync,
    AssetAmount,
    Broker,
    MarginClient,
    SyncAccountOutcome,
    SyncStatus,
)
from debt_mgmt.server.cli import typed
from debt_mgmt.server.cli.changes import not_done
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, ask
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import UNKNOWN, amount, counted, span

BLANK = ""
YES, NO = "yes", "–"


def create(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the new account.")],
    broker: Annotated[str | None, typer.Option(help="paper, or an exchange that is enabled.")] = None,
    environment: Annotated[str | None, typer.Option(help="sandbox, testnet or live; by default sandbox.")] = None,
    owner: Annotated[str | None, typer.Option(help="By default the account's id.")] = None,
    currency: Annotated[str | None, typer.Option(help="What the account is valued in.")] = None,
    hedge: Annotated[bool, typer.Option("--hedge", help="A long and a short leg per symbol.")] = False,
    deposit: Annotated[
        AssetAmount | None,
        typer.Option(parser=typed.deposit_of, metavar="'USDT 1000'", help="First balance of a sandbox account."),
    ] = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run/--no-dry-run", help="Record orders, send none. On for live accounts.")
    ] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Open an account: on paper, or one that mirrors an exchange."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        try:
            made = await client.create_account(
                account,
                broker=broker,
                environment=environment,
                owner=owner,
                currency=currency,
                position_mode="HEDGE" if hedge else None,
                initial_deposit=deposit,
                dry_run=dry_run,
            )
        except ValueError as error:
            raise Failed(str(error)) from None
        output.document(account=made.account)
        output.show(opened(made.account))

    ask(output, target, work)


def opened(account: Account) -> RenderableType:
    where = f"{account.broker} {account.environment.value.lower()}"
    lines = [Text.assemble((account.account_id, "bold"), f" is open: {where}, valued in {account.currency}")]
    if account.sync is not None:
        lines.append(Text(f"it takes no new risk before it was read from {account.broker} once", "dim"))
    if account.dry_run:
        lines.append(Text("dry run: orders are recorded and none is sent", "yellow"))
    return Group(*lines)


def sync(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")], target: Target = NEAR, as_json: Json = False
) -> None:
    """Read an account from its exchange now, and show where the books differed."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit | None:
        found = (await client.sync_account(account)).raise_if_refused()
        output.document(account=found.account, differences=found.differences)
        output.show(synced(found))
        return None

    ask(output, target, work)


def synced(found: SyncAccountOutcome) -> RenderableType:
    state = sync_text(found.account)
    if not found.differences:
        return Group(state, Text("the books were as the exchange has it", "green"))
    made = table("what", "of", "in the books", "at the exchange", BLANK, right=("in the books", "at the exchange"))
    for one in found.differences:
        made.add_row(
            one.field.replace("_", " "),
            one.subject or BLANK,
            one.recorded_value or "nothing",
            one.broker_value or "nothing",
            Text("within tolerance", "dim") if one.within_tolerance else BLANK,
        )
    return Group(state, made)


def sync_text(account: Account) -> Text:
    """How well the exchange's side of an account is known, in one line."""
    state = account.sync
    if state is None:
        return Text("a sandbox account: nothing of it is elsewhere", "dim")
    made = Text.assemble((f"{account.broker}: ", "bold"), known(state))
    if state.venue_equity is not None:
        made.append(f", its own equity {amount(state.venue_equity)} {state.venue_currency or account.currency}")
    for drift in state.drifts:
        made.append(f"\n{drift.name} is {amount(drift.own_value)} here and {amount(drift.venue_value)} there", "yellow")
    if account.dry_run:
        made.append("\ndry run: orders are recorded and none is sent", "yellow")
    return made


def known(state: AccountSync) -> Text:
    age = UNKNOWN if state.age is None else span(state.age)
    if state.status is SyncStatus.FRESH:
        return Text(f"read {age} ago", "green")
    if state.status is SyncStatus.NEVER:
        return Text(f"never read{f': {state.reason}' if state.reason else ''}", "bold magenta")
    return Text(f"OUT OF SIGHT, last read {age} ago: {state.reason}", "bold red")


def dry_run(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    switch: Annotated[str, typer.Argument(metavar="on|off")],
    reason: Annotated[str | None, typer.Option(help="Why; kept in the audit. Needed to switch it off.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Keep orders from leaving for the account's exchange (on), or let them leave (off)."""
    output = Output(as_json)
    if switch not in ("on", "off"):
        raise typer.BadParameter(f"{switch!r} is neither on nor off")

    async def work(client: MarginClient) -> Exit:
        found = await client.set_dry_run(account, switch == "on", reason=reason)
        if found.pending_change_id is not None:
            output.document(outcome=found)
            output.show(not_done(found))
            return Exit.REFUSED
        found.raise_if_refused()
        output.document(account=found.account)
        if found.account.dry_run:
            output.show(Text(f"dry run: orders of {account} are recorded and none is sent", "yellow"))
        else:
            output.show(Text(f"orders of {account} are sent to {found.account.broker} from now on", "bold"))
        return Exit.OK

    ask(output, target, work)


def brokers(target: Target = NEAR, as_json: Json = False) -> None:
    """Show what each exchange can do, and whether it can be used here."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = await client.brokers()
        output.document(brokers=found)
        output.show(matrix(found), *reasons(found))

    ask(output, target, work)


def matrix(found: Sequence[Broker]) -> Table:
    """The capability matrix: a row for each thing, a column for each broker."""
    made = table(BLANK, *(one.broker for one in found), tight=True)
    made.add_row("usable here", *(Text(YES, "green") if one.enabled else Text(NO, "dim") for one in found))
    made.add_row("highest leverage", *(f"{plain(one.max_leverage)}x" for one in found))
    made.add_row("leverage step", *(plain(one.leverage_step) for one in found))
    made.add_row("test network", *(one.testnet.value.lower() for one in found))
    made.add_row("leverage is set", *(one.leverage_path.value.lower().replace("_", " ") for one in found))
    features = [capability.feature for capability in found[0].capabilities] if found else []
    for feature in features:
        able = ({one.feature: one.supported for one in broker.capabilities}.get(feature, False) for broker in found)
        made.add_row(feature.value.lower().replace("_", " "), *(YES if can else Text(NO, "dim") for can in able))
    return made


def plain(value: Decimal | None) -> str:
    return UNKNOWN if value is None else format(value, "f")


def reasons(found: Sequence[Broker]) -> list[Text]:
    """Why brokers can't be used here, one line each."""
    closed = [one for one in found if not one.enabled]
    if not closed:
        return []
    heading = Text(f"{counted(len(closed), 'broker')} can't be used here:", "yellow")
    return [heading, *(Text(f"  {one.broker}: {one.disabled_reason}", "dim") for one in closed)]
