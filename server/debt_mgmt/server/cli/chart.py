"""A chart of an account's history: what is drawn, and where, on a terminal or in a picture."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple, Protocol

from debt_mgmt.client import FundHistoryEntry, FundInterval
from debt_mgmt.server.cli.wording import amount, change, counted, percent

NOUNS = {
    FundInterval.HOUR: "hour",
    FundInterval.DAY: "day",
    FundInterval.WEEK: "week",
    FundInterval.MONTH: "month",
}


class Point(NamedTuple):
    """Equity at a time; None where it is not known."""

    time: datetime
    equity: Decimal | None


class Bar(NamedTuple):
    """Profit of an interval, without what was put in or taken out; None where it is not known."""

    start: datetime
    end: datetime
    profit: Decimal | None


class Chart(NamedTuple):
    """What is drawn. Points and bars are in order of time."""

    title: str
    caption: str
    currency: str
    interval: FundInterval
    points: tuple[Point, ...]
    bars: tuple[Bar, ...]

    @property
    def known(self) -> list[Decimal]:
        return [point.equity for point in self.points if point.equity is not None]

    @property
    def profits(self) -> list[Decimal]:
        return [bar.profit for bar in self.bars if bar.profit is not None]


def chart_of(
    account_id: str, currency: str, interval: FundInterval, entries: Sequence[FundHistoryEntry], as_of: datetime
) -> Chart:
    """The chart of a history that comes newest first."""
    ordered = list(entries)[::-1]
    points = tuple(Point(min(one.end_time, as_of), one.equity) for one in ordered)
    bars = tuple(Bar(one.start_time, one.end_time, profit_of(one)) for one in ordered)
    return Chart(
        f"Equity of {account_id} in {currency}", caption_of(ordered, interval), currency, interval, points, bars
    )


def profit_of(entry: FundHistoryEntry) -> Decimal | None:
    """The change of equity without transfers."""
    found = entry.profit_and_loss
    return None if found is None else found.total - found.transfers


def caption_of(ordered: Sequence[FundHistoryEntry], interval: FundInterval) -> str:
    """The chart in words."""
    equities = [one.equity for one in ordered if one.equity is not None]
    if not equities:
        return f"{counted(len(ordered), NOUNS[interval])}, none of them with a known equity"
    profits = [profit_of(one) for one in ordered]
    known = [one for one in profits if one is not None]
    said = f"{amount(equities[-1])} at the end"
    if min(equities) != max(equities):
        said += f", {amount(min(equities))} to {amount(max(equities))}"
    if known:
        made = sum(known, Decimal(0))
        said += f", {change(made)} made in {counted(len(known), NOUNS[interval])}"
        first = ordered[0].profit_and_loss
        base = None if first is None or ordered[0].equity is None else ordered[0].equity - first.total + first.transfers
        if base is not None and base > 0 and len(known) == len(profits):
            said += f" ({'+' if made > 0 else ''}{percent(made / base, 2)})"
    missing = len(ordered) - len(equities)
    return said + (f", {counted(missing, NOUNS[interval])} not known" if missing else "")


def ticks(low: Decimal, high: Decimal, most: int) -> list[Decimal]:
    """Round numbers from at or below `low` to at or above `high`, at most `most` + 2 of them."""
    if low == high:
        reach = abs(low) / 100 or Decimal(1)
        low, high = low - reach, high + reach
    step = round_step((high - low) / most)
    first = (low / step).to_integral_value(ROUND_FLOOR)
    last = (high / step).to_integral_value(ROUND_CEILING)
    return [number * step for number in range(int(first), int(last) + 1)]


def round_step(least: Decimal) -> Decimal:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`."""
    scale = Decimal(1).scaleb(least.adjusted())
    return next(scale * one for one in (1, 2, Decimal("2.5"), 5, 10) if scale * one >= least)


def tick_text(value: Decimal) -> str:
    plain = format(abs(value) if value.is_zero() else value.normalize(), ",f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def time_text(time: datetime, interval: FundInterval) -> str:
    """A time on the axis; the hour only where it says something."""
    local = time.astimezone(UTC)
    day = f"{local:%b} {local.day}"
    if interval is FundInterval.HOUR:
        return f"{day} {local:%H:%M}"
    if interval is FundInterval.MONTH and local.hour == local.minute == 0:
        return f"{day} {local:%Y}"
    return day if local.hour == local.minute == 0 else f"{day} {local:%H:%M}"


# pictures

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT = 96, 28
EQUITY_TOP, EQUITY_BOTTOM = 88, 350
PROFIT_TOP, PROFIT_BOTTOM = 396, 484
AXIS = 508
TIMES_MOST = 7
EQUITY_TICKS, PROFIT_TICKS = 5, 2

INK, QUIET, GRID, ZERO_LINE = "#0f172a", "#64748b", "#e2e8f0", "#94a3b8"
LINE, AREA, GAIN, LOSS = "#1d4ed8", "#dbeafe", "#15803d", "#b91c1c"

Place = tuple[float, float]


class Canvas(Protocol):
    """A picture WIDTH by HEIGHT, from its upper left corner; colours are #rrggbb."""

    def line(self, places: Sequence[Place], color: str, width: float) -> None:
        """Joined pieces of straight line."""

    def area(self, places: Sequence[Place], color: str) -> None:
        """A filled polygon."""

    def dot(self, place: Place, radius: float, color: str) -> None:
        """A filled circle."""

    def text(self, place: Place, words: str, size: float, color: str, anchor: str, *, bold: bool = False) -> None:
        """Words on a base line; `anchor` is start, middle or end."""


class Scale(NamedTuple):
    """From values to places on the picture."""

    low: float
    high: float
    at_low: float
    at_high: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.at_low + share * (self.at_high - self.at_low)


def draw(chart: Chart, canvas: Canvas) -> None:
    """The line of equity over bars of profit. The chart has at least one interval."""
    canvas.text((24, 40), chart.title, 22, INK, "start", bold=True)
    canvas.text((24, 64), chart.caption, 14, QUIET, "start")
    times = Scale(chart.bars[0].start.timestamp(), chart.bars[-1].end.timestamp(), LEFT, WIDTH - RIGHT)
    draw_equity(chart, canvas, times)
    draw_profit(chart, canvas, times)
    for bar in shown_times(chart.bars):
        canvas.text((times(bar.start.timestamp()), AXIS), time_text(bar.start, chart.interval), 12, QUIET, "middle")
    canvas.text(
        (WIDTH - RIGHT, HEIGHT - 10), f"the times are the begin of a {NOUNS[chart.interval]}, UTC", 11, QUIET, "end"
    )


def shown_times(bars: Sequence[Bar]) -> list[Bar]:
    """Bars whose time stands on the axis."""
    every = -(-len(bars) // TIMES_MOST)
    return list(bars[::every])


def draw_axis(canvas: Canvas, values: Sequence[Decimal], scale: Scale) -> None:
    for value in values:
        place = scale(float(value))
        canvas.line([(LEFT, place), (WIDTH - RIGHT, place)], ZERO_LINE if value == 0 else GRID, 1)
        canvas.text((LEFT - 10, place + 4), tick_text(value), 12, QUIET, "end")


def draw_equity(chart: Chart, canvas: Canvas, times: Scale) -> None:
    known = chart.known
    if not known:
        canvas.text(((LEFT + WIDTH - RIGHT) / 2, 220), "no equity is known in this time", 14, QUIET, "middle")
        return
    values = ticks(min(known), max(known), EQUITY_TICKS)
    scale = Scale(float(values[0]), float(values[-1]), EQUITY_BOTTOM, EQUITY_TOP)
    for run in runs(chart.points):
        places = [(times(time.timestamp()), scale(float(equity))) for time, equity in run]
        canvas.area([(places[0][0], EQUITY_BOTTOM), *places, (places[-1][0], EQUITY_BOTTOM)], AREA)
    draw_axis(canvas, values, scale)
    for run in runs(chart.points):
        places = [(times(time.timestamp()), scale(float(equity))) for time, equity in run]
        if len(places) > 1:
            canvas.line(places, LINE, 2)
        else:
            canvas.dot(places[0], 3, LINE)
    canvas.dot(places[-1], 4, LINE)


def runs(points: Sequence[Point]) -> list[list[tuple[datetime, Decimal]]]:
    """The points without those that are not known, parted where one is missing."""
    found: list[list[tuple[datetime, Decimal]]] = [[]]
    for time, equity in points:
        if equity is not None:
            found[-1].append((time, equity))
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def draw_profit(chart: Chart, canvas: Canvas, times: Scale) -> None:
    heading = f"profit per {NOUNS[chart.interval]} in {chart.currency}, without transfers"
    canvas.text((LEFT, PROFIT_TOP - 14), heading, 13, INK, "start")
    profits = [*chart.profits, Decimal(0)]
    values = ticks(min(profits), max(profits), PROFIT_TICKS)
    scale = Scale(float(values[0]), float(values[-1]), PROFIT_BOTTOM, PROFIT_TOP)
    draw_axis(canvas, values, scale)
    zero = scale(0.0)
    for bar in chart.bars:
        if not bar.profit:
            continue
        start, end = times(bar.start.timestamp()), times(bar.end.timestamp())
        inset = min((end - start) * 0.15, 6)
        top = scale(float(bar.profit))
        corners = [(start + inset, zero), (start + inset, top), (end - inset, top), (end - inset, zero)]
        canvas.area(corners, GAIN if bar.profit > 0 else LOSS)
