"""What a replay records of an account at every instant of the tape, and how it is told in the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    Alert,
    AlertKind,
    Liquidation,
    MarginClient,
    MarginStatus,
    MarksPublished,
    RiskLevel,
    Side,
)
from debt_mgmt.server.cli.tables import price, table
from debt_mgmt.server.cli.typed import Holding
from debt_mgmt.server.cli.watch import SEVERITY_STYLES
from debt_mgmt.server.cli.wording import (
    LEVEL_STYLES,
    amount,
    counted,
    grouped,
    listed,
    moment,
    percent,
    utilization,
)

LEVEL_CHANGED = "RiskLevelChanged"
LATEST = 50
"""Alerts looked at when something happened: an instant causes far fewer."""


@dataclass(frozen=True)
class Happening:
    """An alert, by the tape's time, with the account's figures when it was raised."""

    time: datetime
    alert: Alert
    equity: Decimal | None
    prices: dict[str, Decimal]

    def members(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "kind": self.alert.kind,
            "level": self.alert.level,
            "utilization": self.alert.utilization,
            "equity": self.equity,
            "prices": self.prices,
            "message": self.alert.message,
            "alert_id": self.alert.alert_id,
        }


@dataclass(frozen=True)
class Extreme:
    """The highest or lowest value of a figure, and when it was."""

    value: Decimal
    time: datetime


@dataclass(frozen=True)
class Opening:
    """A position as it was opened."""

    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """All that a replay found."""

    account_id: str
    tape: str
    currency: str
    opened_at: datetime
    opened: tuple[Opening, ...]
    ended_at: datetime
    instants: int
    seconds: float
    marks_accepted: int
    marks_held_back: int
    held_back: tuple[str, ...]
    happenings: tuple[Happening, ...]
    reductions: tuple[tuple[datetime, Liquidation], ...]
    highest_utilization: Extreme | None
    highest_after_reduction: Extreme | None
    lowest_equity: Extreme | None
    end: MarginStatus

    def members(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "account_id": self.account_id,
            "tape": self.tape,
            "opened_at": self.opened_at,
            "opened": self.opened,
            "ended_at": self.ended_at,
            "instants": self.instants,
            "seconds": round(self.seconds, 3),
            "marks_accepted": self.marks_accepted,
            "marks_held_back": self.marks_held_back,
            "alerts": [one.members() for one in self.happenings],
            "reductions": [{"time": time, "liquidation": plan} for time, plan in self.reductions],
            "summary": {
                "currency": self.currency,
                "highest_utilization": self.highest_utilization,
                "highest_utilization_after_reduction": self.highest_after_reduction,
                "lowest_equity": self.lowest_equity,
                "end_equity": self.end.equity,
                "end_utilization": self.end.margin_utilization,
                "end_level": self.end.level,
                "reductions": len(self.reductions),
            },
        }


@dataclass
class Recorder:
    """Looks at the account after every instant and remembers."""

    account_id: str
    tape: str
    currency: str
    seconds: float = 0.0
    instants: int = 0
    marks_accepted: int = 0
    marks_held_back: int = 0
    held_back: dict[str, None] = field(default_factory=dict)
    opened_at: datetime | None = None
    openings: tuple[Opening, ...] = ()
    position: int = 0
    seen: set[str] = field(default_factory=set)
    happenings: list[Happening] = field(default_factory=list)
    reduced_at: dict[str, datetime] = field(default_factory=dict)
    highest: Extreme | None = None
    highest_after: Extreme | None = None
    lowest: Extreme | None = None
    latest: MarginStatus | None = None
    ended_at: datetime | None = None

    def count(self, published: MarksPublished) -> None:
        """Remember what became of prices."""
        self.instants += 1
        self.marks_accepted += published.accepted_count
        self.marks_held_back += published.quarantined_count
        for held in published.quarantined:
            self.held_back[f"{held.mark.symbol} {held.reason.value}: {held.message}"] = None

    def opened(self, at: datetime, holdings: Sequence[Holding], prices: Mapping[str, Decimal]) -> None:
        self.opened_at = at
        self.openings = tuple(Opening(one.symbol, one.side, abs(one.quantity), prices[one.symbol]) for one in holdings)

    async def look(self, client: MarginClient, at: datetime, prices: Mapping[str, Decimal]) -> list[Text]:
        """See how the account stands after an instant; a line for each thing that happened."""
        status = await client.margin_status(self.account_id)
        self.latest, self.ended_at = status, at
        lines: list[Text] = []
        if status.revision.position != self.position:
            self.position = status.revision.position
            for happening in await self.news(client, at, prices):
                self.happenings.append(happening)
                lines.append(happening_line(happening, self.currency))
                self.measure(happening.time, happening.alert.utilization, happening.equity)
                if happening.alert.kind is AlertKind.LIQUIDATION_STARTED:
                    lines += await self.reductions_of(client, at)
        self.measure(at, status.margin_utilization, status.equity)
        if self.reduced_at and status.margin_utilization is not None:
            self.highest_after = higher(self.highest_after, status.margin_utilization, at)
        return lines

    async def news(self, client: MarginClient, at: datetime, prices: Mapping[str, Decimal]) -> list[Happening]:
        """Alerts not seen yet, oldest first, by the time of the prices that they were decided on."""
        fresh = [
            alert async for alert in client.alerts(self.account_id, limit=LATEST) if alert.alert_id not in self.seen
        ]
        if not fresh:
            return []
        self.seen |= {alert.alert_id for alert in fresh}
        equities = await self.equities(client, min(alert.time for alert in fresh))
        return [
            Happening(
                time=max((mark.source_time for mark in alert.marks if mark.source_time), default=at),
                alert=alert,
                equity=equities.get(alert.level) if alert.level is not None else None,
                prices={mark.symbol: mark.price for mark in alert.marks} or dict(prices),
            )
            for alert in reversed(fresh)
        ]

    async def equities(self, client: MarginClient, since: datetime) -> dict[RiskLevel, Decimal]:
        """Equity when each level was entered, as the journal has it."""
        found: dict[RiskLevel, Decimal] = {}
        async for event in client.audit_events(self.account_id, kinds=[LEVEL_CHANGED], start_time=since):
            fields = event.fields()
            if fields.get("equity") is not None:
                found[RiskLevel(fields["after"])] = Decimal(fields["equity"])
        return found

    async def reductions_of(self, client: MarginClient, at: datetime) -> list[Text]:
        lines = []
        async for plan in client.liquidations(self.account_id):
            if plan.liquidation_id not in self.reduced_at:
                self.reduced_at[plan.liquidation_id] = at
                lines.append(reduction_line(at, plan))
        return lines[::-1]

    def measure(self, at: datetime, share: Decimal | None, equity: Decimal | None) -> None:
        if share is not None:
            self.highest = higher(self.highest, share, at)
        if equity is not None and (self.lowest is None or equity < self.lowest.value):
            self.lowest = Extreme(equity, at)

    async def finished(self, client: MarginClient) -> Replayed:
        """Everything, once the last instant was played."""
        assert self.latest is not None and self.opened_at is not None and self.ended_at is not None
        plans = [plan async for plan in client.liquidations(self.account_id)]
        return Replayed(
            account_id=self.account_id,
            tape=self.tape,
            currency=self.currency,
            opened_at=self.opened_at,
            opened=self.openings,
            ended_at=self.ended_at,
            instants=self.instants,
            seconds=self.seconds,
            marks_accepted=self.marks_accepted,
            marks_held_back=self.marks_held_back,
            held_back=tuple(self.held_back),
            happenings=tuple(self.happenings),
            reductions=tuple((self.reduced_at.get(plan.liquidation_id, self.ended_at), plan) for plan in plans[::-1]),
            highest_utilization=self.highest,
            highest_after_reduction=self.highest_after,
            lowest_equity=self.lowest,
            end=self.latest,
        )


def higher(known: Extreme | None, value: Decimal, at: datetime) -> Extreme:
    return Extreme(value, at) if known is None or value > known.value else known


def minute(time: datetime) -> str:
    """A tape's time, without seconds where it has none."""
    shown = moment(time)
    return shown.removesuffix(":00")


def name_of(alert: Alert) -> tuple[str, str]:
    """What an alert is called in a list, and its style: a level by its name."""
    if alert.kind is AlertKind.LEVEL_RAISED and alert.level is not None:
        return alert.level.value, LEVEL_STYLES.get(alert.level, "")
    if alert.kind is AlertKind.LEVEL_LOWERED and alert.level is not None:
        return f"back to {alert.level.value}", LEVEL_STYLES.get(alert.level, "")
    return alert.kind.value, SEVERITY_STYLES.get(alert.severity, "")


def happening_line(one: Happening, currency: str) -> Text:
    name, style = name_of(one.alert)
    parts: list[Any] = [
        (f"{minute(one.time)}  ", "dim"),
        (name.ljust(20), style),
        f"  {percent(one.alert.utilization, 2)}",
    ]
    if one.equity is not None and one.alert.kind in (AlertKind.LEVEL_RAISED, AlertKind.LEVEL_LOWERED):
        parts.append(f"  equity {amount(one.equity)} {currency}")
        parts.append((f"  {', '.join(f'{symbol} {price(mark)}' for symbol, mark in one.prices.items())}", "dim"))
    else:
        parts.append((f"  {one.alert.message}", "dim"))
    return Text.assemble(*parts)


def orders_of(plan: Liquidation) -> str:
    """What a reduction did, as orders with their fills."""
    return listed(
        f"{step.side.value.lower()} {grouped(step.quantity)} {step.symbol}"
        + "".join(f" @ {price(fill.price)}" for fill in step.fills)
        for step in plan.steps
        if step.side is not None
    )


def reduction_line(at: datetime, plan: Liquidation) -> Text:
    return Text.assemble(
        (f"{minute(at)}  ", "dim"),
        ("reduction".ljust(20), "bold red"),
        f"  {percent(plan.utilization_before, 2)} → {percent(plan.utilization_after, 2)}  {orders_of(plan)}",
    )


def report(found: Replayed) -> RenderableType:
    """The whole in the end: what was held, each crossing, each reduction, the extremes."""
    held = listed(
        f"{one.side.value.lower()} {grouped(one.quantity)} {one.symbol} @ {price(one.price)}" for one in found.opened
    )
    heading = Text.assemble(
        ("\nReplayed ", "bold"),
        (found.account_id, "bold"),
        f"  {minute(found.opened_at)} to {minute(found.ended_at)} UTC, {counted(found.instants, 'instant')}",
        (f" in {found.seconds:.1f} s", "dim"),
    )
    parts: list[RenderableType] = [heading, Text(f"opened: {held}", "dim"), crossings(found), summary(found)]
    if found.marks_held_back:
        parts.append(Text(f"{counted(found.marks_held_back, 'price')} held back by the price guard:", "yellow"))
        parts += [Text(f"  {words}", "yellow") for words in found.held_back[:5]]
    return Group(*parts)


def crossings(found: Replayed) -> Table:
    """Every level that was entered, and every reduction, by the tape's time."""
    rows: list[tuple[datetime, int, tuple[Any, ...]]] = []
    for one in found.happenings:
        if one.alert.kind in (AlertKind.LIQUIDATION_STARTED, AlertKind.LIQUIDATION_FINISHED):
            continue
        name, style = name_of(one.alert)
        levels = one.alert.kind in (AlertKind.LEVEL_RAISED, AlertKind.LEVEL_LOWERED)
        prices = ", ".join(f"{symbol} {price(mark)}" for symbol, mark in one.prices.items())
        about = prices if levels else one.alert.message
        cells = (
            Text(name, style),
            percent(one.alert.utilization, 2),
            amount(one.equity) if levels else "",
            Text(about),
        )
        rows.append((one.time, 0 if one.alert.kind is not AlertKind.LEVEL_LOWERED else 2, cells))
    for time, plan in found.reductions:
        moved = f"{percent(plan.utilization_before, 2)} → {percent(plan.utilization_after, 2)}"
        rows.append((time, 1, (Text("reduction", "bold red"), moved, "", orders_of(plan))))
    made = table(
        "tape (UTC)", "what", "utilization", f"equity {found.currency}", "at", right=(f"equity {found.currency}",)
    )
    for time, _, cells in sorted(rows, key=lambda row: row[:2]):
        made.add_row(minute(time), *cells)
    return made


def summary(found: Replayed) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column()
    made.add_column(justify="right", style="bold")
    made.add_column(style="dim")
    for name, extreme, shown in (
        ("highest utilization", found.highest_utilization, lambda value: percent(value, 2)),
        ("after the reduction", found.highest_after_reduction, lambda value: percent(value, 2)),
        ("lowest equity", found.lowest_equity, amount),
    ):
        if extreme is not None:
            made.add_row(name, shown(extreme.value), minute(extreme.time))
    made.add_row("equity in the end", amount(found.end.equity), found.currency)
    made.add_row(
        "utilization in the end", utilization(found.end.margin_utilization, found.end.equity), found.end.level.value
    )
    made.add_row("forced reductions", str(len(found.reductions)))
    return made
