"""The board of `debt-mgmt top`: accounts by danger, one of them chosen, and what a key means at each moment."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import MarginStatus, Resynced, Snapshot, Update, WatchEvent
from debt_mgmt.server.cli.accounts import NARROW, by_danger, full_if_gone_status, oldest_mark
from debt_mgmt.server.cli.gauge import gauge, ticks_of
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.watch import Board
from debt_mgmt.server.cli.wording import UNKNOWN, amount, clock, counted, level_text, span, state_text, utilization

FRAME_LINES = 8
"""Lines beside the accounts, what happened lately and an explanation."""

WIDE = 120
"""Characters that leave room for long bars."""

RECENT_LINES = 4
EXPLAINED_SHARE = 2
"""An explanation may take one part in so many of the screen."""


class Act(Enum):
    HALT = "halt"
    EXPLAIN = "explain"
    ACKNOWLEDGE = "acknowledge"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a key asks for."""

    act: Act
    account_id: str = ""


class TopBoard(Board):
    """The watch's board with a chosen account, a question before a halt, and room for an explanation."""

    def __init__(self, target: str, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(target)
        self.now = now
        self.heard: dict[str, float] = {}
        self.chosen = ""
        self.asking = ""
        """The account whose halt waits for a yes."""
        self.explained: Sequence[RenderableType] = ()
        self.said = Text("")

    def take(self, event: WatchEvent) -> None:
        super().take(event)
        match event:
            case Snapshot() | Update():
                self.heard[event.status.account_id] = self.now()
            case Resynced():
                self.heard.clear()

    def press(self, key: str) -> Wish | None:
        """What a key changes on the board, and what else it asks for. A halt is asked for twice."""
        if self.asking:
            account_id, self.asking = self.asking, ""
            if key in ("y", "Y"):
                return Wish(Act.HALT, account_id)
            self.said = Text(f"{account_id} was not halted", "dim")
            return None
        match key:
            case "q":
                return Wish(Act.QUIT)
            case "up" | "k":
                self.move(-1)
            case "down" | "j":
                self.move(1)
            case "escape":
                self.explained = ()
            case "h" if self.current():
                self.asking = self.current()
            case "e" if self.current():
                return Wish(Act.EXPLAIN, self.current())
            case "a" if self.current():
                return Wish(Act.ACKNOWLEDGE, self.current())
        return None

    def current(self) -> str:
        """The chosen account, which stays chosen as others overtake it; else the nearest to the edge."""
        if self.chosen in self.statuses:
            return self.chosen
        rows = by_danger(self.statuses.values())
        return rows[0].account_id if rows else ""

    def move(self, step: int) -> None:
        ids = [one.account_id for one in by_danger(self.statuses.values())]
        if ids:
            self.chosen = ids[min(max(ids.index(self.current()) + step, 0), len(ids) - 1)]

    def age(self, one: MarginStatus) -> timedelta | None:
        """How old the oldest price under the figures is by now."""
        then = oldest_mark(one)
        heard = self.heard.get(one.account_id)
        return None if then is None or heard is None else then + timedelta(seconds=max(self.now() - heard, 0))

    def render(self, width: int, height: int) -> RenderableType:
        explained = list(self.explained)
        lines = height - FRAME_LINES - (height // EXPLAINED_SHARE if explained else min(RECENT_LINES, len(self.recent)))
        rows = by_danger(self.statuses.values())
        shown = around(rows, self.current(), max(3, lines))
        as_of = max((row.as_of for row in rows), default=None)
        heading = Table.grid(expand=True)
        heading.add_column()
        heading.add_column(justify="right")
        heading.add_row(
            Text.assemble(("debt-mgmt top", "bold"), f"  {self.target}  {counted(len(rows), 'account')}"),
            Text(f"as of {clock(as_of)} UTC, {counted(self.updates, 'update')}", "dim"),
        )
        parts: list[RenderableType] = [heading, self.accounts_table(shown, width)]
        if len(rows) > len(shown):
            parts.append(Text(f"{counted(len(rows) - len(shown), 'account')} not shown", "dim"))
        if self.trouble is not None:
            parts.append(self.trouble)
        parts += explained or list(self.recent)[-RECENT_LINES:]
        screen = Layout()
        screen.split_column(Layout(Group(*parts)), Layout(self.last_line(), size=1))
        return screen

    def last_line(self) -> Text:
        """A question that waits, else what was said last and what the keys do."""
        if self.asking:
            return Text(
                f"halt {self.asking}? It takes no new risk until it is resumed.  y yes, any other key no", "bold red"
            )
        keys = Text("↑↓ choose  h halt  e explain  a acknowledge  esc close  q quit", "reverse dim")
        return Text.assemble(keys, "  ", self.said)

    def accounts_table(self, rows: Sequence[MarginStatus], width: int) -> Table:
        narrow = width < NARROW
        used, age_of = ("used", "age") if narrow else ("utilization", "data age")
        columns = ["", "account", "equity", used, " ", "level", "state", "positions", age_of]
        if narrow:
            columns.remove("positions")
        made = table(*columns, right=("equity", " ", "positions", age_of), tight=narrow)
        bar_cells = 10 if narrow else 20 if width < WIDE else 30
        for one in rows:
            chosen = one.account_id == self.current()
            age = self.age(one)
            cells: dict[str, Any] = {
                "": Text("▶" if chosen else "", "bold cyan"),
                "account": Text(one.account_id, "bold" if chosen else ""),
                "equity": f"{amount(one.equity)} {one.currency}",
                used: gauge(full_if_gone_status(one), one.level, cells=bar_cells, ticks=ticks_of(one.thresholds)),
                " ": utilization(one.margin_utilization, one.equity),
                "level": level_text(one.level),
                "state": state_text(one.trading_state),
                "positions": str(one.open_positions),
                age_of: Text(UNKNOWN if age is None else span(age), "bold magenta" if one.stale else ""),
            }
            made.add_row(*(cells[name] for name in columns))
        return made


def around(rows: Sequence[MarginStatus], account_id: str, most: int) -> Sequence[MarginStatus]:
    """The first rows that fit, moved on as far as the chosen one needs."""
    place = next((index for index, one in enumerate(rows) if one.account_id == account_id), 0)
    start = max(0, min(place - most + 1, len(rows) - most))
    return rows[start : start + most]
