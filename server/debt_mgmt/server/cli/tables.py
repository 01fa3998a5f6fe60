"""The tables that several commands show: figures before and after, violations, positions, distances."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import MarginFigures, MarginMode, Position, PositionSide, ShockDistance, Thresholds, Violation
from debt_mgmt.server.cli.gauge import gauge, ticks_of
from debt_mgmt.server.cli.wording import (
    UNKNOWN,
    amount,
    change,
    grouped,
    level_text,
    move,
    percent,
    signed_text,
    utilization,
)

UNBOUNDED = 1_000
"""Characters: a screen that no table is too wide for."""


def table(*columns: str, right: Sequence[str] = (), title: str | None = None, tight: bool = False) -> Table:
    """An airy table, or a tight one for a narrow screen; the columns named in `right` hold numbers, never broken."""
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0) if tight else (0, 1),
        pad_edge=False,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    for column in columns:
        number = column in right
        made.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return made


def difference(before: Decimal | None, after: Decimal | None) -> Text:
    if before is None or after is None:
        return Text(UNKNOWN, "dim")
    if before == after:
        return Text("")
    moved = after - before
    return Text(change(round(moved, 2) if max(abs(before), abs(after)) >= 100 else moved), "dim")


def before_and_after(
    before: MarginFigures, after: MarginFigures, currency: str = "", names: tuple[str, str] = ("before", "after")
) -> Table:
    """An account's figures side by side, with what changed."""
    columns = (*names, "change")
    made = table(currency, *columns, right=columns)
    for name in ("equity", "margin_used", "margin_available"):
        old, new = getattr(before, name), getattr(after, name)
        made.add_row(name.replace("_", " "), amount(old), amount(new), difference(old, new))
    used = (
        utilization(before.margin_utilization, before.equity),
        utilization(after.margin_utilization, after.equity),
    )
    made.add_row("utilization", *used, points(before.margin_utilization, after.margin_utilization), style="bold")
    made.add_row(
        "maintenance margin",
        amount(before.maintenance_margin),
        amount(after.maintenance_margin),
        difference(before.maintenance_margin, after.maintenance_margin),
    )
    made.add_row(
        "maintenance ratio",
        utilization(before.maintenance_ratio, before.equity),
        utilization(after.maintenance_ratio, after.equity),
        points(before.maintenance_ratio, after.maintenance_ratio),
    )
    made.add_row("level", level_text(before.level), level_text(after.level))
    return made


def points(before: Decimal | None, after: Decimal | None) -> Text:
    """A difference of two shares, in percentage points."""
    if before is None or after is None:
        return Text(UNKNOWN, "dim")
    if before == after:
        return Text("")
    moved = (after - before) * 100
    return Text(f"{'+' if moved > 0 else ''}{format(round(moved, 1), ',f')} pt", "dim")


def violations_table(violations: Sequence[Violation], style: str = "bold red") -> RenderableType:
    """Every rule that was broken, with its numbers; what is said in words stands under it.

    Where it is the limit of a node of the tree, that node and its set are named.
    """
    numbers = ("value", "limit", "headroom")
    of_nodes = ("limit of",) if any(violation.scope is not None for violation in violations) else ()
    made = table("reason", *of_nodes, "about", *numbers, right=numbers)
    for violation in violations:
        values = (violation.value, violation.limit, violation.headroom)
        made.add_row(
            Text(violation.reason.value, style),
            *([node_text(violation)] if of_nodes else ()),
            violation.subject or "",
            *("" if number is None else exact(number) for number in values),
        )
    words = [Text(f"  {violation.message}") for violation in violations]
    return Group(made, *words)


def node_text(violation: Violation) -> Text:
    """Whose limit it is: a node of the tree and the name of its set, or the account's own."""
    if violation.scope is None:
        return Text("the account", "dim")
    return Text.assemble(str(violation.scope), (f"  {violation.limit_set}" if violation.limit_set else "", "dim"))


def exact(number: Decimal) -> str:
    """A number of a rule: not rounded where it is short, to eight places where it is not."""
    return grouped(round(number, 8))


def side_text(position: Position) -> str:
    if position.position_side is not PositionSide.NET:
        return position.position_side.value
    return "LONG" if position.quantity > 0 else "SHORT"


class FirstThatFits:
    """Shows the first of some tables whose lines need not be broken, else the last."""

    def __init__(self, *tables: Table) -> None:
        self.tables = tables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(width=UNBOUNDED)
        fitting = (one for one in self.tables if one.__rich_measure__(console, unbounded).maximum <= options.max_width)
        yield next(fitting, self.tables[-1])


def positions_table(positions: Sequence[Position], *, narrow: bool, title: str | None = None) -> RenderableType:
    """Open positions; a narrow screen goes without what can be worked out."""
    if not positions:
        return Text("no open positions", "dim")
    shapes = ((True, True),) if narrow else ((False, False), (False, True), (True, True))
    return FirstThatFits(*(table_of_positions(positions, *shape, title) for shape in shapes))


def table_of_positions(positions: Sequence[Position], narrow: bool, tight: bool, title: str | None) -> Table:
    columns = ["symbol", "side", "quantity", "entry", "mark", "notional", "unrealized", "margin", "lev", "mode"]
    columns += ["liquidation", "away"] + (["strategies"] if any(one.strategies for one in positions) else [])
    left_out = set() if any(one.margin_mode is MarginMode.ISOLATED for one in positions) else {"mode"}
    if narrow:
        left_out |= {"notional", "margin", "lev", "mode"}
        left_out |= {"side"} if all(one.position_side is PositionSide.NET for one in positions) else {"away"}
    columns = [name for name in columns if name not in left_out]
    numbers = [name for name in columns if name not in ("symbol", "side", "mode", "strategies")]
    made = table(*columns, right=numbers, title=title, tight=tight)
    for one in positions:
        cells: dict[str, Any] = {
            "symbol": one.symbol,
            "side": side_text(one),
            "quantity": grouped(one.quantity),
            "entry": price(one.entry_price),
            "mark": price(one.mark_price),
            "notional": amount(one.notional),
            "unrealized": signed_text(one.unrealized_pnl),
            "margin": amount(one.initial_margin),
            "lev": f"{grouped(one.leverage)}x",
            "mode": one.margin_mode.value,
            "liquidation": price(one.liquidation_price),
            "away": percent(one.distance_to_liquidation),
            "strategies": ", ".join(f"{each.strategy} {grouped(round(each.quantity, 8))}" for each in one.strategies),
        }
        made.add_row(*(cells[name] for name in columns))
    return made


def price(value: Decimal | None) -> str:
    """A price: two decimals at most, more where it is small."""
    if value is None:
        return UNKNOWN
    return grouped(round(value, 2 if abs(value) >= 100 else 4 if abs(value) >= 1 else 8))


def distances_table(shocks: Sequence[ShockDistance], thresholds: Thresholds | None = None) -> RenderableType:
    """How far all prices together may move until each level is reached."""
    if not shocks:
        return Text("no distances: nothing is open, or prices are missing", "dim")
    entries = dict(zip(("WARNING", "CRITICAL", "LIQUIDATING"), ticks_of(thresholds), strict=True))
    made = table("reaches", "at utilization", "prices fall", "prices rise", right=("prices fall", "prices rise"))
    for shock in shocks:
        entry = entries.get(shock.target.value)
        at = "equity of zero" if entry is None else percent(entry, 0)
        made.add_row(shock.target.value, at, move(shock.down), move(shock.up))
    return made


def ladder_table(
    rungs: Sequence[tuple[Decimal, MarginFigures]], thresholds: Thresholds | None = None, *, narrow: bool = False
) -> Table:
    """The account at a ladder of price moves, all prices together."""
    made = table("prices", "equity", "used", "utilization", "", "level", right=("prices", "equity", "used", ""))
    for shift, figures in rungs:
        made.add_row(
            "as then" if shift.is_zero() else f"{'+' if shift > 0 else ''}{percent(shift, 0)}",
            amount(figures.equity),
            amount(figures.margin_used),
            gauge(full_if_gone(figures), figures.level, 10 if narrow else 20, ticks_of(thresholds)),
            utilization(figures.margin_utilization, figures.equity),
            level_text(figures.level),
        )
    return made


def full_if_gone(figures: MarginFigures) -> Decimal | None:
    """What the bar shows: full where equity is used up, empty where nothing is known."""
    if figures.margin_utilization is None and figures.equity is not None:
        return Decimal(1)
    return figures.margin_utilization
