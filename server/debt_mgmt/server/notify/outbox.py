"""What a route is still to tell, as of a place in one log: a restart neither forgets it nor tells it again."""

from datetime import datetime, timedelta

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Alert, Severity
from debt_mgmt.server.notify.notice import Notice

RANK = {severity: rank for rank, severity in enumerate(Severity)}
REMINDERS_MOST = 10


class Aim(msgspec.Struct, frozen=True):
    """Which alerts a route is told of, and when."""

    min_severity: Severity = Severity.INFO
    accounts: frozenset[str] | None = None
    """None: every account."""
    escalate_after: timedelta | None = None
    """None: at once. Else of those that nobody has acknowledged by then, and again each time as long."""
    cool_down: timedelta = timedelta(0)

    def wants(self, account_id: str, alert: Alert) -> bool:
        return RANK[alert.severity] >= RANK[self.min_severity] and (
            self.accounts is None or account_id in self.accounts
        )


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A notice that is not delivered yet, and from when it is to be."""

    account_id: str
    alert: Alert
    due: datetime
    reminder: int = 0
    held_back: int = 0
    cooling: bool = False
    """The cool-down holds it: a later one of its account and kind takes its place."""

    @property
    def notice(self) -> Notice:
        return Notice(self.account_id, self.alert, self.reminder, self.held_back)


class Outbox(msgspec.Struct, frozen=True, omit_defaults=True):
    position: int = 0
    """Alerts up to here are taken in."""
    waiting: tuple[Waiting, ...] = ()
    told: dict[str, datetime] = {}
    """Account and kind → when the route is, or was, last told of one: what the cool-down counts from."""


def take(outbox: Outbox, position: int, account_id: str, event: e.AccountEvent, aim: Aim) -> Outbox:
    """The outbox with an event of the log taken in."""
    outbox = msgspec.structs.replace(outbox, position=position)
    match event:
        case e.AlertAcknowledged(alert_id=alert_id) if aim.escalate_after is not None:
            kept = tuple(one for one in outbox.waiting if one.alert.alert_id != alert_id)
            return msgspec.structs.replace(outbox, waiting=kept)
        case e.AlertRaised(alert=alert) if aim.wants(account_id, alert):
            if aim.escalate_after is not None:
                return with_waiting(outbox, Waiting(account_id, alert, alert.at + aim.escalate_after))
            return cooled(outbox, account_id, alert, aim.cool_down)
    return outbox


def with_waiting(outbox: Outbox, *more: Waiting) -> Outbox:
    return msgspec.structs.replace(outbox, waiting=(*outbox.waiting, *more))


def cooled(outbox: Outbox, account_id: str, alert: Alert, cool_down: timedelta) -> Outbox:
    """Within the cool-down the newest alert of an account and kind waits for its end; a critical one never does."""
    if alert.severity is Severity.CRITICAL or not cool_down:
        return with_waiting(outbox, Waiting(account_id, alert, alert.at))
    key = f"{account_id}|{alert.kind.value}"
    told = {name: at for name, at in outbox.told.items() if at + cool_down > alert.at}
    held = next((one for one in outbox.waiting if one.cooling and key_of(one) == key), None)
    if held is not None:
        later = Waiting(account_id, alert, held.due, held_back=held.held_back + 1, cooling=True)
        waiting = tuple(later if one is held else one for one in outbox.waiting)
        return msgspec.structs.replace(outbox, waiting=waiting, told=told)
    before = told.get(key)
    due = alert.at if before is None else before + cool_down
    told[key] = due
    one = Waiting(account_id, alert, due, cooling=before is not None)
    return with_waiting(msgspec.structs.replace(outbox, told=told), one)


def key_of(one: Waiting) -> str:
    return f"{one.account_id}|{one.alert.kind.value}"


def due_by(outbox: Outbox, now: datetime, count: int) -> list[Waiting]:
    """The oldest notices that are due, `count` at most; critical ones first."""
    due = [one for one in outbox.waiting if one.due <= now]
    return sorted(due, key=lambda one: one.alert.severity is not Severity.CRITICAL)[:count]


def delivered(outbox: Outbox, done: list[Waiting], now: datetime, aim: Aim) -> Outbox:
    """The outbox once these were told. One that escalates is told again until it is acknowledged, so often at most."""
    kept = tuple(one for one in outbox.waiting if one not in done)
    if aim.escalate_after is None:
        return msgspec.structs.replace(outbox, waiting=kept)
    again = tuple(
        msgspec.structs.replace(one, due=now + aim.escalate_after, reminder=one.reminder + 1)
        for one in done
        if one.reminder < REMINDERS_MOST
    )
    return msgspec.structs.replace(outbox, waiting=(*kept, *again))
