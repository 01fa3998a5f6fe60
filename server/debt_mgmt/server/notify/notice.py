"""What people and programs are told: an alert of an account or news of the house, in words and as JSON."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import Alert, AlertKind, MarkUsed, RiskLevel, Severity
from debt_mgmt.core.money import text

CHANGE_PROPOSED = "CHANGE_PROPOSED"
EVENTS: dict[tuple[str, Severity], str] = {
    (AlertKind.LEVEL_RAISED, Severity.WARNING): "margin.warning",
    (AlertKind.LEVEL_RAISED, Severity.CRITICAL): "margin.critical",
    (AlertKind.LIQUIDATION_FINISHED, Severity.WARNING): "position.liquidated",
}
SIGNS = {Severity.INFO: "\u2139\ufe0f", Severity.WARNING: "\u26a0\ufe0f", Severity.CRITICAL: "\U0001f6a8"}


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alert as its account raised it, or what an event of the house's log means to people."""

    alert_id: str
    kind: str
    severity: Severity
    at: datetime
    message: str
    level: RiskLevel | None = None
    """None: it is not of an account's level."""
    utilization: Decimal | None = None
    subject: str = ""
    marks: tuple[MarkUsed, ...] = ()
    node: str = ""
    """Whom news of the house concerns, in words; empty: it is an alert of an account."""

    @classmethod
    def of(cls, alert: Alert) -> "News":
        return cls(
            alert.alert_id, alert.kind, alert.severity, alert.at, alert.message, alert.level, alert.utilization,
            alert.subject, alert.marks,
        )  # fmt: skip


class Notice(msgspec.Struct, frozen=True):
    """One alert, or news of the house, for one route."""

    account_id: str
    """Empty where it concerns more than one."""
    alert: News
    reminder: int = 0
    """How often the route was told of it before."""
    held_back: int = 0
    """Alerts of the same account and kind before this one that the cool-down has kept back."""

    @property
    def notice_id(self) -> str:
        """The same each time it is sent: whoever gets it twice can tell."""
        return self.alert.alert_id if not self.reminder else f"{self.alert.alert_id}-reminder-{self.reminder}"

    @property
    def event(self) -> str:
        """Its type for programs, such as `margin.critical`."""
        alert = self.alert
        return EVENTS.get((alert.kind, alert.severity), f"alert.{alert.kind.lower()}")

    @property
    def title(self) -> str:
        again = "REMINDER " if self.reminder else ""
        alert = self.alert
        concerned = alert.node or self.account_id
        return f"{again}{alert.severity.value}: {concerned}: {alert.kind.replace('_', ' ').lower()}"

    @property
    def body(self) -> str:
        """What happened, what it was decided on, and how to go on."""
        alert = self.alert
        level = "" if alert.level is None else f"level {alert.level.value}, "
        told = [alert.message, f"{level}at {alert.at:%Y-%m-%d %H:%M:%S} UTC"]
        if alert.utilization is not None:
            told[1] += f", margin utilization {alert.utilization * 100:.2f} %"
        if alert.marks:
            told.append("prices: " + ", ".join(f"{one.symbol} {text(one.price)}" for one in alert.marks[:5]))
        if self.held_back:
            told.append(f"{self.held_back} more of this kind came before it, within the cool-down")
        place = alert.alert_id.replace("-", ":")
        ways = [f"why: debt-mgmt why {place}"]
        if alert.kind == CHANGE_PROPOSED:
            ways += [f"{word}: debt-mgmt changes {word} {alert.subject}" for word in ("approve", "reject")]
        elif not alert.node:
            ways.append(f"seen: debt-mgmt alerts acknowledge {alert.alert_id}")
        told.append("    ".join(ways))
        return "\n".join(told)

    @property
    def fields(self) -> dict[str, Any]:
        """For programs. Numbers are texts, exact."""
        alert = self.alert
        return {
            "alert_id": alert.alert_id,
            "account_id": self.account_id,
            "kind": alert.kind,
            "severity": alert.severity.value,
            "level": None if alert.level is None else alert.level.value,
            "time": alert.at,
            "message": alert.message,
            "utilization": None if alert.utilization is None else text(alert.utilization),
            "subject": alert.subject,
            "node": alert.node,
            "marks": [{"symbol": one.symbol, "price": text(one.price), "source": one.source} for one in alert.marks],
            "reminder": self.reminder,
            "held_back": self.held_back,
        }
