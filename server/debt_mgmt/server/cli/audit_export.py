"""`debt-mgmt audit export`: events of the journal as JSON lines, for whoever keeps or searches them elsewhere."""

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated

import typer

from debt_mgmt.client import MarginClient
from debt_mgmt.server.cli.audit_events import members_of
from debt_mgmt.server.cli.output import Output, plain
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, ask, time_of


def export(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new file; else standard output.")] = None,
    account: Annotated[str | None, typer.Option(help="Only this account; else all, and the house.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind, such as MarginReserved; repeatable.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this actor.")] = None,
    since: Annotated[
        datetime | None, typer.Option(parser=time_of, metavar="TIME", help="ISO 8601, or 15m, 2h, 1d ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(parser=time_of, metavar="TIME", help="The same; exclusive.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Write events as JSON lines, oldest first: one event a line, with its hash."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        count = 0
        with opened(out) as file:
            async for event in client.audit_events(
                account, kinds=kind or (), actor=actor, start_time=since, end_time=until
            ):
                file.write(json.dumps(plain(members_of(event)), ensure_ascii=False) + "\n")
                count += 1
        output.say(f"{count} events" + (f" were written to {out}" if out is not None else ""))
        return Exit.OK

    ask(output, target, work)


@contextlib.contextmanager
def opened(out: Path | None) -> Iterator[IO[str]]:
    """A file that is not there yet, or standard output."""
    if out is None:
        yield sys.stdout
        return
    try:
        file = out.open("x", encoding="utf-8")
    except OSError as error:
        raise Failed(f"{out} can't be written: {error.strerror}") from None
    with file:
        yield file
