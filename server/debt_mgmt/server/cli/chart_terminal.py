"""The chart on a terminal: a line of braille dots, which are two by four in each character."""

from collections.abc import Iterator
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.text import Text

from debt_mgmt.server.cli.chart import NOUNS, Chart, Scale, runs, tick_text, ticks, time_text

ROWS = 12
DOTS_WIDE, DOTS_HIGH = 2, 4
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bit of each dot, by column and row."""
BLANK = 0x2800
LABELS = 4
NARROWEST = 20
BLOCKS = "▁▂▃▄▅▆▇█"


def terminal_chart(chart: Chart, width: int) -> RenderableType:
    """Equity as a line, with its scale on the left, profit as a row of blocks below, and the times at the bottom."""
    title = Text(chart.title, "bold")
    if not chart.known:
        return Group(title, Text(chart.caption, "dim"))
    values = ticks(min(chart.known), max(chart.known), LABELS)
    labels = {row_of(value, values): tick_text(value) for value in values}
    margin = max(len(label) for label in labels.values())
    columns = max(NARROWEST, width - margin - 3)
    lines = [
        Text.assemble(
            (labels.get(row, "").rjust(margin), "dim"), (" ┤" if row in labels else " │", "dim"), (line, "blue")
        )
        for row, line in enumerate(dotted(chart, values, columns))
    ]
    axis = Text(" " * (margin + 1) + "└" + "─" * columns, "dim")
    return Group(
        title,
        Text(chart.caption, "dim"),
        *lines,
        axis,
        Text.assemble(" " * (margin + 2), *profit_blocks(chart, columns)),
        Text(" " * (margin + 2) + times_below(chart, columns), "dim"),
        Text(
            f"the row below the line is the profit of each {NOUNS[chart.interval]}, without transfers; times in UTC",
            "dim",
        ),
    )


def row_of(value: Decimal, values: list[Decimal]) -> int:
    """The row of text on which a value lies."""
    share = (value - values[0]) / (values[-1] - values[0])
    return ROWS - 1 - int(share * (ROWS * DOTS_HIGH - 1) / DOTS_HIGH)


def dotted(chart: Chart, values: list[Decimal], columns: int) -> list[str]:
    """Rows of characters in which the line's dots are set."""
    first, last = chart.bars[0].start.timestamp(), chart.bars[-1].end.timestamp()
    across = Scale(first, last, 0, columns * DOTS_WIDE - 1)
    up = Scale(float(values[0]), float(values[-1]), ROWS * DOTS_HIGH - 1, 0)
    cells = [[0] * columns for _ in range(ROWS)]
    for run in runs(chart.points):
        places = [(round(across(time.timestamp())), round(up(float(equity)))) for time, equity in run]
        for start, end in zip(places, places[1:] or places, strict=False):
            for x, y in between(start, end):
                cells[y // DOTS_HIGH][x // DOTS_WIDE] |= DOTS[x % DOTS_WIDE][y % DOTS_HIGH]
    return ["".join(chr(BLANK + cell) if cell else " " for cell in row) for row in cells]


def between(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots of a straight line."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    for step in range(steps + 1):
        share = step / steps if steps else 0
        yield round(start[0] + (end[0] - start[0]) * share), round(start[1] + (end[1] - start[1]) * share)


def profit_blocks(chart: Chart, columns: int) -> list[tuple[str, str]]:
    """A block for each column, as high as the profit is large: a gain in green, a loss in red."""
    first, last = chart.bars[0].start.timestamp(), chart.bars[-1].end.timestamp()
    across = Scale(first, last, 0, columns)
    sums: list[Decimal | None] = [None] * columns
    for bar in chart.bars:
        start = min(int(across(bar.start.timestamp())), columns - 1)
        end = max(start + 1, min(int(across(bar.end.timestamp())), columns))
        if bar.profit is not None:
            for column in range(start, end):
                sums[column] = (sums[column] or Decimal(0)) + bar.profit
    largest = max((abs(one) for one in sums if one), default=None)
    if largest is None:
        return [("·" * columns, "dim")]
    return [block(one, largest) for one in sums]


def block(profit: Decimal | None, largest: Decimal) -> tuple[str, str]:
    if not profit:
        return (" " if profit is None else "·", "dim")
    height = int(abs(profit) / largest * (len(BLOCKS) - 1))
    return BLOCKS[height], "green" if profit > 0 else "red"


def times_below(chart: Chart, columns: int) -> str:
    """The first, a middle and the last time, as far as there is room."""
    first, last = chart.bars[0].start, chart.bars[-1].end
    left, right = time_text(first, chart.interval), time_text(last, chart.interval)
    middle = time_text(chart.bars[len(chart.bars) // 2].start, chart.interval)
    if len(chart.bars) > 2 and len(left) + len(middle) + len(right) + 8 <= columns:
        at = int(columns * (chart.bars[len(chart.bars) // 2].start - first) / (last - first))
        line = left.ljust(at) + middle if at > len(left) + 1 else left
        return line.ljust(columns - len(right)) + right if len(line) + len(right) + 1 <= columns else line
    return left.ljust(columns - len(right)) + right
