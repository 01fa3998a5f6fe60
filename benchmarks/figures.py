"""What a benchmark found: figures with their targets, as a table for people and as JSON for programs."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from rich.table import Table


class Target(NamedTuple):
    """What a figure is to reach: at least or at most `value`."""

    at_least: bool
    value: float

    def met(self, value: float) -> bool:
        return value >= self.value if self.at_least else value <= self.value


def at_least(value: float) -> Target:
    return Target(True, value)


def at_most(value: float) -> Target:
    return Target(False, value)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `details` are the numbers that it was made of; `said` tells the most important of them in words."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    said: str = ""
    details: dict[str, object] = {}

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.target.met(self.value)


class Failure(msgspec.Struct, frozen=True):
    """A benchmark that could not be carried out, and why."""

    name: str
    reason: str


class Pair(NamedTuple):
    """Two things measured in turn: what each round gave of either."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Median over the rounds of ours ÷ theirs."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def our_median(self) -> float:
        return statistics.median(self.ours)

    @property
    def their_median(self) -> float:
        return statistics.median(self.theirs)

    @property
    def spread(self) -> str:
        """The lowest and the highest ratio of a round."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return f"{min(ratios):.2f} to {max(ratios):.2f}"


def share(one: float) -> str:
    return f"{one:.2f}"


def grouped(one: float) -> str:
    """A number as people read it: three digits or more of it, thousands apart."""
    if abs(one) >= 100:
        return f"{one:,.0f}"
    return f"{one:.3g}"


def shown(figure: Figure) -> str:
    return f"{share(figure.value) if figure.unit == '× echo' else grouped(figure.value)} {figure.unit}"


def table(found: Sequence[Figure | Failure], title: str) -> Table:
    """The figures for people."""
    made = Table(title=title, title_justify="left", caption_justify="left", pad_edge=False)
    for heading in ("figure", "measured", "target", "", "in numbers"):
        made.add_column(heading, overflow="fold")
    marks: dict[bool | None, str] = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}
    for one in found:
        if isinstance(one, Failure):
            made.add_row(one.name, "", "", "[bold red]failed[/]", one.reason)
            continue
        target = ""
        if one.target is not None:
            target = f"{'≥' if one.target.at_least else '≤'} {grouped(one.target.value)}"
        made.add_row(one.name, shown(one), target, marks[one.met], one.said)
    return made


def document(found: Sequence[Figure | Failure], circumstances: dict[str, object]) -> bytes:
    """The figures for programs."""
    figures = [
        {**msgspec.to_builtins(one), "target": target_text(one.target), "met": one.met}
        for one in found
        if isinstance(one, Figure)
    ]
    failures = [msgspec.to_builtins(one) for one in found if isinstance(one, Failure)]
    return msgspec.json.format(
        msgspec.json.encode({"circumstances": circumstances, "figures": figures, "failures": failures}), indent=2
    )


def target_text(target: Target | None) -> str | None:
    return None if target is None else f"{'>=' if target.at_least else '<='} {target.value:g}"


def in_turn(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """What each side gave in each round: A B A B …, so that what slows the machine slows all of them.

    A round before them warms up and is not counted, unless there is only one.
    """
    measured: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds if rounds == 1 else rounds + 1):
        for side, values in zip(sides, measured, strict=True):
            values.append(side())
    return [values[-rounds:] for values in measured]


def percentile(values: Sequence[float], fraction: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]
