"""What a route is still to tell, as of a place in one log: a restart neither forgets it nor tells it again."""

from datetime import datetime, timedelta

import msgspec

from debt_mgmt.core import events as e
from debt_mgmt.core.account import AlertKind, Severity
from debt_mgmt.core.changes import BETWEEN
from debt_mgmt.core.scope import Scope
from debt_mgmt.server.notify.notice import CHANGE_PROPOSED, News, Notice

RANK = {severity: rank for rank, severity in enumerate(Severity)}
REMINDERS_MOST = 10


class Aim(msgspec.Struct, frozen=True):
    """Which alerts a route is told of, and when."""

    min_severity: Severity = Severity.INFO
    accounts: frozenset[str] | None = None
    """None: every account, and what concerns more than one."""
    escalate_after: timedelta | None = None
    """None: at once. Else of those that nobody has acknowledged by then, and again each time as long."""
    cool_down: timedelta = timedelta(0)

    def wants(self, account_id: str, alert: News) -> bool:
        return RANK[alert.severity] >= RANK[self.min_severity] and (
            self.accounts is None or account_id in self.accounts
        )


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A notice that is not delivered yet, and from when it is to be."""

    account_id: str
    alert: News
    due: datetime
    reminder: int = 0
    held_back: int = 0
    cooling: bool = False
    """The cool-down holds it: a later one of its account and kind takes its place."""
    until: datetime | None = None
    """Nobody is to be told from here on; None: it has no end."""

    def is_due(self, now: datetime) -> bool:
        return self.due <= now and (self.until is None or now < self.until)

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
        case e.AlertRaised(alert=raised) if aim.wants(account_id, alert := News.of(raised)):
            if aim.escalate_after is not None:
                return with_waiting(outbox, Waiting(account_id, alert, alert.at + aim.escalate_after))
            return cooled(outbox, account_id, alert, aim.cool_down)
    return outbox


def take_of_house(outbox: Outbox, position: int, event: e.HouseEvent, aim: Aim) -> Outbox:
    """The outbox with an event of the house's log taken in: a change that waits for a second person, a halt, its end.

    No cool-down keeps one back, as each is about something else. What escalates is a change until it is decided or
    has expired, and a halt until it ends.
    """
    outbox = msgspec.structs.replace(outbox, position=position)
    alert_id = f"0-{position}"
    match event:
        case e.ChangeProposed(change=one):
            words = f"{one.method} of {one.scope.words} by {one.proposed_by} waits for a second person until "
            words += (
                f"{one.expires_at:%Y-%m-%d %H:%M:%S} UTC: {BETWEEN.join(one.effects)} ({one.reason or 'no reason'})"
            )
            alert = News(alert_id, CHANGE_PROPOSED, Severity.WARNING, one.proposed_at, words)
            alert = msgspec.structs.replace(alert, subject=one.change_id, node=one.scope.words)
            return with_news(outbox, one.scope.account_id, alert, aim, until=one.expires_at)
        case e.ChangeApproved() | e.ChangeRejected() | e.ChangeExpired():
            return escalated_no_more(outbox, CHANGE_PROPOSED, event.change_id, aim)
        case e.TradingHalted():
            words = f"trading is halted: {event.reason}" + (f" (by {event.actor})" if event.actor else "")
            return with_news(outbox, event.account_id, trading(alert_id, event, words), aim)
        case e.TradingResumed():
            alert = trading(alert_id, event, f"trading goes on: {event.reason}")
            outbox = escalated_no_more(outbox, AlertKind.TRADING_HALTED, alert.subject, aim)
            return outbox if aim.escalate_after is not None else with_news(outbox, event.account_id, alert, aim)
    return outbox


def trading(alert_id: str, event: e.TradingHalted | e.TradingResumed, words: str) -> News:
    """Of a halt of a node or its end, as severe as those of an account."""
    node = Scope(event.owner, event.account_id, event.strategy, event.symbol).words
    halted = isinstance(event, e.TradingHalted)
    kind = AlertKind.TRADING_HALTED if halted else AlertKind.TRADING_RESUMED
    severity = Severity.CRITICAL if halted else Severity.WARNING
    return News(alert_id, kind, severity, event.at, words, subject=node, node=node)


def with_news(outbox: Outbox, account_id: str, alert: News, aim: Aim, until: datetime | None = None) -> Outbox:
    if not aim.wants(account_id, alert):
        return outbox
    if aim.escalate_after is None:
        return with_waiting(outbox, Waiting(account_id, alert, alert.at))
    return with_waiting(outbox, Waiting(account_id, alert, alert.at + aim.escalate_after, until=until))


def escalated_no_more(outbox: Outbox, kind: str, subject: str, aim: Aim) -> Outbox:
    """What has ended is not told to a route that is told of what goes on."""
    if aim.escalate_after is None:
        return outbox
    kept = tuple(one for one in outbox.waiting if (one.alert.kind, one.alert.subject) != (kind, subject))
    return msgspec.structs.replace(outbox, waiting=kept)


def with_waiting(outbox: Outbox, *more: Waiting) -> Outbox:
    return msgspec.structs.replace(outbox, waiting=(*outbox.waiting, *more))


def cooled(outbox: Outbox, account_id: str, alert: News, cool_down: timedelta) -> Outbox:
    """Within the cool-down the newest alert of an account and kind waits for its end; a critical one never does."""
    if alert.severity is Severity.CRITICAL or not cool_down:
        return with_waiting(outbox, Waiting(account_id, alert, alert.at))
    key = f"{account_id}|{alert.kind}"
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
    return f"{one.account_id}|{one.alert.kind}"


def due_by(outbox: Outbox, now: datetime, count: int) -> list[Waiting]:
    """The oldest notices that are due, `count` at most; critical ones first."""
    due = [one for one in outbox.waiting if one.is_due(now)]
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
