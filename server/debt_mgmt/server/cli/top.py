"""`debt-mgmt top`: a live board in the terminal, with keys to halt, to explain and to acknowledge."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from debt_mgmt.client import DebtMgmtError, EventExplanation, MarginClient, Refused
from debt_mgmt.server.cli.accounts import statuses
from debt_mgmt.server.cli.audit import event_line
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Failed, Json, Target, ask
from debt_mgmt.server.cli.top_board import Act, TopBoard, Wish
from debt_mgmt.server.cli.watch import RECENT, REFRESHES_PER_SECOND, alert_line
from debt_mgmt.server.cli.why import ASKED_ABOUT, last_event
from debt_mgmt.server.cli.wording import counted

REASON = "halted at debt-mgmt top"
NOTE = "seen at debt-mgmt top"
ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b": "escape"}


def top(
    interval: Annotated[
        float, typer.Option(min=0.05, help="Shortest time between two updates of an account, in seconds.")
    ] = 0.5,
    once: Annotated[
        bool, typer.Option("--once", help="Print the board once and end, as where no terminal is.")
    ] = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Show every account live, the nearest to the edge first.

    Keys: arrows choose, h halts, e explains, a acknowledges the alerts, q quits.
    """
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        if once or as_json or not (output.out.is_terminal and sys.stdin.isatty()):
            await show_once(client, output, target)
        else:
            with contextlib.suppress(asyncio.CancelledError):
                await live(client, output, target, interval)
        return Exit.OK

    ask(output, target, work)


async def show_once(client: MarginClient, output: Output, target: str) -> None:
    found = await statuses(client, [one.account_id for one in await client.accounts()])
    output.document(accounts=found)
    board = TopBoard(target)
    board.trouble = None
    for one in found:
        board.statuses[one.account_id] = one
        board.heard[one.account_id] = board.now()
    output.show(board.accounts_table(found, output.out.width) if found else Text("no accounts yet", "dim"))


async def live(client: MarginClient, output: Output, target: str, interval: float) -> None:
    """Follow accounts and keys until q. Fails at once where no service answers."""
    board = TopBoard(target)
    earlier = [alert async for alert in client.alerts(limit=RECENT)]
    board.recent.extend(alert_line(alert) for alert in reversed(earlier))
    with (
        keys_of(sys.stdin.fileno()) as keys,
        Live(board, console=output.out, refresh_per_second=REFRESHES_PER_SECOND, screen=True) as screen,
    ):
        following = asyncio.create_task(follow(client, board, interval))
        pressing = asyncio.create_task(obey(client, board, keys, screen))
        try:
            done, _ = await asyncio.wait((following, pressing), return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in (following, pressing):
                one.cancel()
            await asyncio.gather(following, pressing, return_exceptions=True)


async def follow(client: MarginClient, board: TopBoard, interval: float) -> None:
    async for event in client.watch_margin([], min_interval=interval):
        board.take(event)


async def obey(client: MarginClient, board: TopBoard, keys: "asyncio.Queue[str]", screen: Live) -> None:
    """Do what the keys ask for, until one asks to quit."""
    while True:
        wish = board.press(await keys.get())
        if wish is not None and wish.act is Act.QUIT:
            return
        screen.refresh()
        if wish is not None:
            await perform(client, board, wish)
            screen.refresh()


async def perform(client: MarginClient, board: TopBoard, wish: Wish) -> None:
    """Halt, explain or acknowledge; what goes wrong is said on the board, which lives on."""
    try:
        if wish.act is Act.HALT:
            (await client.halt(account_id=wish.account_id, reason=REASON)).raise_if_refused()
            board.said = Text(f"{wish.account_id} is halted; `debt-mgmt resume {wish.account_id}` ends it", "bold red")
        elif wish.act is Act.ACKNOWLEDGE:
            board.said = await acknowledged(client, wish.account_id)
        else:
            event = await last_event(client, wish.account_id, ASKED_ABOUT)
            board.explained = briefly(await client.explain_event(event.revision))
            board.said = Text("")
    except (DebtMgmtError, Refused, Failed) as error:
        board.said = Text(str(error), "bold red")


async def acknowledged(client: MarginClient, account_id: str) -> Text:
    """Acknowledge every alert of an account that nobody has; what somebody did meanwhile is no failure."""
    waiting = [one async for one in client.alerts(account_id, unacknowledged_only=True)]
    done = [one for one in waiting if (await client.acknowledge_alert(one.alert_id, note=NOTE)).accepted]
    if not waiting:
        return Text(f"{account_id} has no alert that waits for anybody", "dim")
    return Text(f"{counted(len(done), 'alert')} of {account_id} acknowledged", "bold green")


def briefly(found: EventExplanation) -> list[Text]:
    """The last refusal, reduction or change of level in a few lines, and where the working is."""
    place = f"{found.event.revision.shard}:{found.event.revision.position}"
    parts = [event_line(found.event), Text(found.summary, "bold")]
    parts += [Text.assemble((f"{one.reason.value}  ", "red"), one.message) for one in found.violations]
    if found.remedy:
        parts.append(Text.assemble(("What would have prevented it: ", "bold green"), found.remedy))
    return [*parts, Text(f"the working, line by line: debt-mgmt why {place}", "dim")]


@contextlib.contextmanager
def keys_of(descriptor: int) -> Iterator["asyncio.Queue[str]"]:
    """The keys pressed in a terminal, one by one; as it was before, at the end."""
    try:
        import termios
        import tty
    except ImportError:
        raise Failed("keys can't be read here: `debt-mgmt watch` shows the accounts without") from None
    before = termios.tcgetattr(descriptor)
    keys: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(descriptor, 64)
        if not typed:
            loop.remove_reader(descriptor)
            keys.put_nowait("q")
        for key in keys_in(typed.decode(errors="replace")):
            keys.put_nowait(key)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield keys
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def keys_in(typed: str) -> Iterator[str]:
    """The keys in what a terminal sent; an arrow is three characters."""
    place = 0
    while place < len(typed):
        for sequence, name in ARROWS.items():
            if typed.startswith(sequence, place):
                yield name
                place += len(sequence)
                break
        else:
            yield typed[place]
            place += 1
