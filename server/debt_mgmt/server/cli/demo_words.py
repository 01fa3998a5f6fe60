"""The sentences and tables of the demo."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from debt_mgmt.client import (
    Alert,
    AlertKind,
    AuditEvent,
    Liquidation,
    MarginFigures,
    MarginStatus,
    Order,
    OrderCheck,
    RiskLevel,
    ShockTarget,
    Simulation,
)
from debt_mgmt.server.cli.check import order_text
from debt_mgmt.server.cli.gauge import gauge
from debt_mgmt.server.cli.tables import distances_table, full_if_gone, price, table, violations_table
from debt_mgmt.server.cli.watch import SEVERITY_STYLES
from debt_mgmt.server.cli.wording import (
    LEVEL_STYLES,
    amount,
    clock,
    counted,
    grouped,
    level_text,
    move,
    percent,
    utilization,
)

TELLING = ("RiskLevelChanged", "TradingStateChanged", "ReductionStarted", "FillRecorded", "ReductionEnded")
"""Kinds of events that tell why positions were reduced."""


def said(word: str, text: str) -> Text:
    """A line with what was done before it."""
    return Text.assemble((word.ljust(9), "bold"), text)


def bar(share: Decimal | None, level: RiskLevel) -> Text:
    return gauge(share, level, cells=20)


def state_line(status: MarginStatus, prices: Mapping[str, Decimal], start: Mapping[str, Decimal]) -> Text:
    """An account in one line."""
    share = utilization(status.margin_utilization, status.equity)
    return Text.assemble(
        ("now".ljust(9), "bold"),
        f"equity {amount(status.equity)}  used {amount(status.margin_used)}  "
        f"available {amount(status.margin_available)}  ",
        bar(status.margin_utilization, status.level),
        (f" {share} ", "bold"),
        level_text(status.level),
    )


def check_line(order: Order, check: OrderCheck, currency: str, before: str = "") -> Text:
    """A verdict in one line."""
    verdict = ("FITS", "bold green") if check.fits else ("REFUSED", "bold red")
    available = None if check.before is None else check.before.margin_available
    after = None if check.after is None else check.after
    would = "" if check.fits else "would be "
    share = "" if after is None else f", utilization {would}{utilization(after.margin_utilization, after.equity)}"
    return Text.assemble(
        ("check".ljust(9), "bold"),
        before,
        f"{order_text(order)}: ",
        verdict,
        f"  needs {amount(check.margin_required)} of {amount(available)} {currency}{share}",
    )


def fill_line(order: Order, at: Decimal) -> Text:
    return said("filled", f"{order_text(order)} at {price(at)}")


def refusal(check: OrderCheck) -> RenderableType:
    """Every reason, and the largest that would fit."""
    return Group(
        violations_table(check.violations),
        Text.assemble("\nlargest that would fit: ", (f"buy {grouped(check.largest_buy or Decimal(0))}", "bold green")),
    )


def distances(status: MarginStatus) -> RenderableType:
    return distances_table(status.shocks, status.thresholds)


def moment_of_reduction(before: MarginStatus, alerts: Sequence[Alert]) -> Alert | MarginStatus:
    """What to show of the step in which positions were reduced: the alert that says at which utilization."""
    for alert in alerts:
        if alert.kind is AlertKind.LEVEL_RAISED and alert.level is RiskLevel.LIQUIDATING:
            return alert
    return before


def step_line(shift: Decimal, prices: Mapping[str, Decimal], shown: Alert | MarginStatus, acting: bool) -> Text:
    """One step of the fall."""
    if isinstance(shown, Alert):
        share, level, equity = shown.utilization, RiskLevel.LIQUIDATING, ""
    else:
        share, level = shown.margin_utilization, shown.level
        equity = f"equity {amount(shown.equity):>9}"
    marks = "  ".join(f"{symbol[:3]} {price(mark):>8}" for symbol, mark in prices.items())
    return Text.assemble(
        f"{move(shift):>8}  ",
        (f"{marks}  ", "dim"),
        f"{equity:<17}",
        gauge(share, level, cells=20),
        (f" {percent(share):>7}  ", "bold"),
        level_text(level),
        (" → acts", "bold red") if acting else "",
    )


def alert_line(alert: Alert) -> Text:
    """An alert under the step that raised it."""
    style = LEVEL_STYLES.get(alert.level, "") if alert.level is not None else SEVERITY_STYLES.get(alert.severity, "")
    return Text.assemble("          ", (f"▲ {alert.kind.value}  ", style), alert.message)


def exits_line(more: Order, refused: OrderCheck, less: Order, fits: OrderCheck) -> Text:
    reason = refused.violations[0].reason.value if refused.violations else ""
    return Text.assemble(
        "          no new risk, exits stay open: ",
        f"{order_text(more)} ",
        ("FITS", "bold green") if refused.fits else (f"REFUSED {reason}", "bold red"),
        f", {order_text(less)} ",
        ("FITS", "bold green") if fits.fits else ("REFUSED", "bold red"),
    )


def reduction(plan: Liquidation) -> RenderableType:
    """The plan and its fills."""
    made = table("step", "order", "client order id", "state", "filled at", "fee", right=("step", "filled at", "fee"))
    for step in plan.steps:
        fills = step.fills
        made.add_row(
            str(step.step),
            ""
            if step.side is None
            else f"{step.side.value.lower()} {grouped(step.quantity)} {step.symbol} reduce-only",
            step.client_order_id or "",
            step.state.value,
            ", ".join(price(fill.price) for fill in fills),
            amount(sum((fill.fee for fill in fills), Decimal(0))),
        )
    words = Text.assemble(
        f"plan {plan.liquidation_id}: utilization ",
        (percent(plan.utilization_before), "bold red"),
        " → ",
        (percent(plan.utilization_after), "bold green"),
        f", {plan.state.value}",
    )
    return Group(made, words)


def compared(one: MarginStatus, two: MarginStatus, names: tuple[str, str]) -> Table:
    """Two states of the account side by side."""
    made = table("", *names, right=names)
    for name in ("equity", "margin_used", "margin_available"):
        made.add_row(name.replace("_", " "), amount(getattr(one, name)), amount(getattr(two, name)))
    made.add_row(
        "utilization",
        utilization(one.margin_utilization, one.equity),
        utilization(two.margin_utilization, two.equity),
        style="bold",
    )
    made.add_row("level", level_text(one.level), level_text(two.level))
    made.add_row("a fall to the next forced reduction", *(move(next_fall(each)) for each in (one, two)))
    return made


def next_fall(status: MarginStatus) -> Decimal | None:
    """How far prices may fall before the service acts."""
    return next((shock.down for shock in status.shocks if shock.target is ShockTarget.LIQUIDATING), None)


def tells(event: AuditEvent) -> bool:
    """Of the fills only those of a reduction."""
    return event.kind != "FillRecorded" or bool(event.fields().get("plan_id"))


def events(found: Sequence[AuditEvent]) -> Table:
    """The journal's own words on why."""
    made = table("at (UTC)", "place", "event", "decided on", right=("place",))
    for event in found:
        place = f"{event.revision.shard}:{event.revision.position}"
        made.add_row(clock(event.time), place, Text(event.kind, "bold"), reason_of(event.kind, event.fields()))
    return made


def reason_of(kind: str, fields: Mapping[str, Any]) -> str:
    """What an event was decided on."""
    match kind:
        case "RiskLevelChanged":
            share = fields.get("margin_utilization")
            shown = percent(Decimal(share), 2) if share is not None else "unknown"
            used, equity = (number_of(fields.get(name)) for name in ("margin_used", "equity"))
            return f"{fields['before']} → {fields['after']}: used {used} ÷ equity {equity} = {shown}"
        case "TradingStateChanged":
            return f"{fields['before']} → {fields['after']}: {fields.get('reason', '')}"
        case "ReductionStarted":
            plan = fields["reduction"]
            steps = ", ".join(f"{step['side'].lower()} {step['quantity']} {step['symbol']}" for step in plan["steps"])
            return f"plan {plan['plan_id']}: {steps}; {plan.get('reason', '')}"
        case "FillRecorded":
            at = price(Decimal(fields["price"]))
            return f"plan {fields['plan_id']}: {fields['side'].lower()} {fields['quantity']} {fields['symbol']} at {at}"
        case "ReductionEnded":
            share = fields.get("utilization_after")
            return f"utilization {percent(Decimal(share), 2) if share is not None else 'unknown'}"
    return ""


def number_of(text: str | None) -> str:
    return amount(None if text is None else Decimal(text))


def ending(shift: Decimal, idle: Simulation, status: MarginStatus, reductions: int) -> RenderableType:
    """What nobody acting would have given, beside what came of it."""
    nothing = idle.after.figures
    made = table(f"at {move(shift)}", "nobody acts", "protected", right=("nobody acts", "protected"))
    rows: list[tuple[str, str, str]] = [
        ("equity", amount(nothing.equity), amount(status.equity)),
        ("margin used", amount(nothing.margin_used), amount(status.margin_used)),
        (
            "utilization",
            utilization(nothing.margin_utilization, nothing.equity),
            utilization(status.margin_utilization, status.equity),
        ),
        (
            "maintenance ratio (venues liquidate at 100 %)",
            utilization(nothing.maintenance_ratio, nothing.equity),
            utilization(status.maintenance_ratio, status.equity),
        ),
    ]
    for row in rows:
        made.add_row(*row)
    made.add_row(
        "",
        gauge(full_if_gone(nothing), RiskLevel.LIQUIDATING, cells=20),
        gauge(status.margin_utilization, status.level, cells=20),
    )
    return Group(made, verdict(nothing, status, reductions))


def verdict(nothing: MarginFigures, status: MarginStatus, reductions: int) -> Text:
    kept = f"{amount(status.equity)} {status.currency}"
    done = counted(reductions, "forced reduction")
    if nothing.equity is not None and nothing.equity <= 0:
        lost = f"everything lost, and {amount(-nothing.equity)} {status.currency} owed"
    else:
        lost = f"{amount(nothing.equity)} {status.currency} left"
    return Text.assemble(
        "With nobody acting: ", (lost, "bold red"), f". With {done}: ", (f"{kept} kept", "bold green"), "."
    )
