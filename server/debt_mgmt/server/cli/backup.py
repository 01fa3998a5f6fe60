"""`debt-mgmt backup` and `restore`: the whole journal in a folder, and back into an empty database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from debt_mgmt.client.channel import version
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.serve import placed, settings_or_exit
from debt_mgmt.server.cli.session import Exit, Json
from debt_mgmt.server.config import Settings

Config = Annotated[Path | None, typer.Option(help="YAML file with settings.", envvar="DEBT_MGMT_CONFIG")]
DataDirectory = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the service's own PostgreSQL.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER")]


def backup(
    folder: Folder,
    config: Config = None,
    data_dir: DataDirectory = None,
    verify_only: Annotated[
        bool, typer.Option("--verify", help="Write nothing: read a backup and say whether it is whole.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the whole journal into a new folder, as verified JSON lines; the service may run meanwhile.

    Exit status 0: the backup is whole. 1: a row is not what was written.
    """
    output = Output(as_json)
    from debt_mgmt.server.backup import back_up, verify_backup
    from debt_mgmt.server.journal.journal import Journal

    if verify_only:
        found = told(output, lambda: verify_backup(folder))
        output.document(folder=folder, logs=len(found.logs), rows=found.rows, made_at=found.made_at)
        output.show(f"the backup is whole: {found.rows} events in {len(found.logs)} logs, made at {found.made_at}")
        return
    settings = settings_of(output, config, data_dir)

    async def work(journal: Journal, progress: Callable[[int, int], None]) -> Any:
        return await back_up(journal, folder, datetime.now(UTC), version(), progress)

    made = told(output, lambda: asyncio.run(with_journal(output, settings, work)))
    output.document(folder=folder, logs=len(made.logs), rows=made.rows, made_at=made.made_at)
    output.show(f"{made.rows} events in {len(made.logs)} logs were written to {folder}")


def restore(folder: Folder, config: Config = None, data_dir: DataDirectory = None, as_json: Json = False) -> None:
    """Write a backup into an empty database or a new data directory. The service must not run there.

    All of it is verified before the first row is written. Exit status 0: restored. 1: the backup is not whole.
    """
    output = Output(as_json)
    from debt_mgmt.server.backup import restore as restore_into
    from debt_mgmt.server.journal.journal import Journal

    settings = settings_of(output, config, data_dir)

    async def work(journal: Journal, progress: Callable[[int, int], None]) -> Any:
        return await restore_into(journal, folder, progress)

    done = told(output, lambda: asyncio.run(with_journal(output, settings, work)))
    output.document(folder=folder, logs=done.logs, rows=done.rows)
    output.show(f"{done.rows} events in {done.logs} logs were restored, every hash fits")


def settings_of(output: Output, config: Path | None, data_dir: Path | None) -> Settings:
    flags = {} if data_dir is None else {"database.data_directory": str(data_dir)}
    return placed(settings_or_exit(output, config, flags))


async def with_journal(
    output: Output, settings: Settings, work: Callable[[Any, Callable[[int, int], None]], Coroutine[Any, Any, Any]]
) -> Any:
    """Do `work` with the configured journal, and show how far it is."""
    async with journal_of(settings) as journal:
        columns = (TextColumn("{task.description}"), MofNCompleteColumn())
        with Progress(*columns, console=output.err, transient=True, disable=not output.err.is_terminal) as bar:
            tasks: dict[int, Any] = {}

            def progress(shard: int, rows: int) -> None:
                if shard not in tasks:
                    tasks[shard] = bar.add_task(f"shard {shard}", total=None)
                bar.update(tasks[shard], completed=rows)

            return await work(journal, progress)


@contextlib.asynccontextmanager
async def journal_of(settings: Settings) -> AsyncIterator[Any]:
    from debt_mgmt.server.journal.postgres_journal import PostgresJournal
    from debt_mgmt.server.postgres import EmbeddedPostgres

    database = settings.database
    async with contextlib.AsyncExitStack() as closers:
        dsn = database.connection()
        if dsn is None:
            embedded = EmbeddedPostgres(database.data_directory, bin_directory=database.bin_directory)
            closers.push_async_callback(embedded.stop)
            await embedded.start()
            dsn = embedded.dsn
        journal = await PostgresJournal.open(dsn, schema=database.schema)
        closers.push_async_callback(journal.close)
        yield journal


def told(output: Output, work: Callable[[], Any]) -> Any:
    """What `work` gives; what stands in its way is told, and ends the command."""
    from debt_mgmt.server.journal.journal import JournalDamaged, JournalError
    from debt_mgmt.server.postgres import PostgresError

    try:
        return work()
    except JournalDamaged as damaged:
        output.say(f"debt-mgmt: {damaged}", "bold red")
        raise typer.Exit(Exit.REFUSED) from None
    except (JournalError, PostgresError, OSError) as error:
        output.say(f"debt-mgmt: {error}", "bold red")
        raise typer.Exit(Exit.USAGE) from None
