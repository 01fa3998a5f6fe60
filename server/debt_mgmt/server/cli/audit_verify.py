"""`debt-mgmt audit verify`: walks the chain of hashes of the journal and names the first row that does not fit."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from debt_mgmt.client import MarginClient, ShardVerification
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import table

EVENTS_A_CALL = 20_000
"""A few tenths of a second: often enough to show how far the walk is."""


def verify(
    shard: Annotated[int | None, typer.Option(min=0, help="Only this shard; 0 is the house. Else all.")] = None,
    start: Annotated[int, typer.Option("--from", min=0, help="From this position; else from the first kept.")] = 0,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Walk the chain of hashes and name the first event of each shard that is not what was written.

    Exit status 0: every shard is intact. 1: a row was changed, is missing, or was put in.
    """
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        with progress_on(output.err, shown=not as_json) as progress:
            first = await client.verify_audit(shard=shard, start_position=start, max_events=EVENTS_A_CALL)
            found = [await walked(client, one, progress) for one in first.shards]
        intact = all(one.intact for one in found)
        output.document(revision=first.revision, as_of=first.as_of, intact=intact, shards=found)
        shown = table("shard", "positions", "events", "", right=("shard", "events"))
        for one in found:
            shown.add_row(str(one.shard), places(one), str(events(one)), verdict(one))
        output.show(shown, conclusion(found))
        return Exit.OK if intact else Exit.REFUSED

    ask(output, target, work)


async def walked(client: MarginClient, first: ShardVerification, progress: Progress) -> ShardVerification:
    """The whole walk over a shard, of which `first` is the beginning."""
    task = progress.add_task(f"shard {first.shard}", total=max(0, first.head_position - first.first_position + 1))
    walk = last = first
    progress.update(task, completed=events(walk))
    while last.intact and last.last_position < last.head_position and last.last_position:
        following = await client.verify_audit(
            shard=first.shard, start_position=last.last_position + 1, max_events=EVENTS_A_CALL
        )
        (last,) = following.shards
        walk = joined(first, last)
        progress.update(task, completed=events(walk), total=last.head_position - first.first_position + 1)
    return walk


def joined(first: ShardVerification, last: ShardVerification) -> ShardVerification:
    """What two walks over one shard found, of which the last goes on where the one before ended."""
    return ShardVerification(
        shard=first.shard,
        first_position=first.first_position,
        last_position=last.last_position,
        head_position=last.head_position,
        intact=last.intact,
        broken_position=last.broken_position,
        detail=last.detail,
        chain_hash=last.chain_hash,
    )


def progress_on(console: Console, *, shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))


def places(one: ShardVerification) -> str:
    return f"{one.first_position} to {one.last_position}" if one.last_position else "empty"


def events(one: ShardVerification) -> int:
    return max(0, one.last_position - one.first_position + 1) if one.last_position else 0


def verdict(one: ShardVerification) -> Text:
    if one.intact:
        return Text("intact", "green")
    return Text(f"position {one.broken_position}: {one.detail}", "bold red")


def conclusion(found: list[ShardVerification]) -> Text:
    broken = [one for one in found if not one.intact]
    if not broken:
        return Text(f"every hash fits: {sum(map(events, found))} events in {len(found)} shards", "green")
    first = broken[0]
    return Text(
        f"the journal was changed: shard {first.shard}, position {first.broken_position} is the first row that does not"
        " fit; what stands before it is as it was written",
        "bold red",
    )
