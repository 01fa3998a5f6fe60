"""A watch over the margin of accounts: its events, and what it does with each message, silence and break.

The two clients bring the connection and the clock; what is decided is decided here, on values.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc

from debt_mgmt.client.answers import Answer, Revision
from debt_mgmt.client.errors import DebtMgmtError, ResumeTokenExpired, Unavailable
from debt_mgmt.client.figures import Alert
from debt_mgmt.client.liquidations import Liquidation
from debt_mgmt.client.margin import MarginStatus
from debt_mgmt.client.retry import RetryPolicy
from debt_mgmt.client.times import Span, duration, optional_seconds, seconds
from debt_mgmt.client.wire import message as make
from debt_mgmt.client.wire import read
from debt_mgmt.v1 import margin_service_pb2 as pb

METHOD = "WatchMargin"
REMEMBERED = 10_000
"""Alerts and reductions that are known when a resumed stream sends them again."""

CLOCK_DRIFT = 0.0002
"""How far two clocks may run apart, as a fraction of the time: what is more is lag."""

FINAL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""Codes that connecting again would only repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An account as it is at the start."""

    status: MarginStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotComplete(Answer):
    """Every account's snapshot was given; updates follow."""

    account_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An account that changed, in full."""

    status: MarginStatus
    conflated_count: int
    """Earlier states that were merged into this one, because they came faster than `min_interval` or than they were
    read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent(Answer):
    """An alert. Never merged, and given once."""

    alert: Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class LiquidationEvent(Answer):
    """A reduction of positions that began, went on or ended, in full. Never merged."""

    liquidation: Liquidation


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """What is known is older than `max_staleness`: nothing was heard for so long, not even a heartbeat, or what is read
    was sent so long ago. Comes again while it lasts."""

    stale_for: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Resynced:
    """The stream could not continue from where it was: drop everything held. Snapshots follow."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The stream broke, or the service is shutting down; it is being connected again. Comes once for each break."""

    error: DebtMgmtError | None
    """None: the service ended it in good order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnected:
    """The stream is back."""

    outage: timedelta
    attempts: int
    resumed: bool
    """True: it continues where it broke. False: snapshots follow."""


WatchEvent = (
    Snapshot | SnapshotComplete | Update | AlertEvent | LiquidationEvent | Stale | Resynced | Disconnected | Reconnected
)
"""What a watch gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOrder:
    """What is to be watched, and how."""

    account_ids: tuple[str, ...]
    min_interval: Span | None
    max_staleness: float
    give_up_after: float | None
    connect_within: float
    policy: RetryPolicy

    @property
    def heartbeat_interval(self) -> float:
        """Two heartbeats may be lost before what is known counts as stale."""
        return self.max_staleness / 3

    @property
    def hung_after(self) -> float:
        """Silence after which a connection counts as dead."""
        return self.max_staleness * 2


def watch_order(
    account_ids: Sequence[str] | None,
    min_interval: Span | None,
    max_staleness: Span,
    give_up_after: Span | None,
    connect_within: float,
) -> WatchOrder:
    """What the caller asked for. Raises ValueError for a time that is not above zero, TypeError for a lone string."""
    if isinstance(account_ids, str):
        raise TypeError("account_ids must be a sequence of ids: write [account_id]")
    return WatchOrder(
        account_ids=tuple(account_ids or ()),
        min_interval=optional_seconds(min_interval, "min_interval"),
        max_staleness=seconds(max_staleness, "max_staleness"),
        give_up_after=optional_seconds(give_up_after, "give_up_after"),
        connect_within=connect_within,
        policy=RetryPolicy(first_pause=0.2, longest_pause=10.0),
    )


@dataclass(slots=True)
class Seen:
    """How far a subject was seen, and on which connection."""

    revision: Revision
    as_of: datetime
    connection: int

    def covers(self, answer: Answer, connection: int) -> bool:
        """Whether `answer` is old, or what a resumed stream sends a second time."""
        if answer.revision.shard != self.revision.shard:
            return False
        old, new = (self.revision.position, self.as_of), (answer.revision.position, answer.as_of)
        return new < old or (new == old and connection != self.connection)


class WatchSession:
    """One watch over all its connections. Times are seconds of a monotonic clock, given by whoever asks."""

    def __init__(self, order: WatchOrder, now: float) -> None:
        self._order = order
        self._token = ""
        # Until every snapshot is here, a stream that breaks begins anew: a token would skip those that are missing.
        self._complete = False
        self._connection = 0
        self._accounts: dict[str, Seen] = {}
        self._liquidations: OrderedDict[str, Seen] = OrderedDict()
        self._alerts: OrderedDict[str, None] = OrderedDict()
        self._heard_at = now
        self._opened_at = now
        self._report_at = now + order.max_staleness
        self._lag_report_at = now
        self._lag = 0.0
        self._least_delay: float | None = None
        self._delay_at = now
        self._broken_at: float | None = now
        self._retry_at = now
        self._failures = 0
        self._connected = False

    def stale_for(self, now: float) -> timedelta:
        """How old what is known may be: the silence since the last message, or how late that message was."""
        return timedelta(seconds=max(now - self._heard_at, self._lag))

    def request(self, now: float) -> pb.WatchMarginRequest:
        """What the next connection asks for."""
        self._connection += 1
        self._opened_at = now
        return make(
            pb.WatchMarginRequest,
            account_ids=list(self._order.account_ids),
            resume_token=self._token,
            min_interval=duration(self._order.min_interval, "min_interval"),
            heartbeat_interval=duration(self._order.heartbeat_interval, "heartbeat_interval"),
        )

    def pause(self, now: float) -> float:
        """Seconds until the next connection is due."""
        return max(0.0, self._retry_at - now)

    def patience(self, now: float) -> float:
        """Seconds to wait for something before `waited` has something to say."""
        return max(0.0, self._report_at - now)

    def waited(self, now: float) -> list[WatchEvent]:
        """What there is to say when nothing came."""
        if now < self._report_at:
            return []
        self._report_at = now + self._order.max_staleness
        return [Stale(stale_for=self.stale_for(now))]

    def hung(self, now: float) -> DebtMgmtError | None:
        """Why the connection counts as dead. None: it does not."""
        silence = now - max(self._heard_at, self._opened_at)
        if silence < self._order.hung_after:
            return None
        return Unavailable(f"no heartbeat for {silence:.1f} s", code=grpc.StatusCode.UNAVAILABLE, method=METHOD)

    def ended(self, error: DebtMgmtError | None, now: float) -> list[WatchEvent]:
        """What there is to say when a connection has ended. Raises the error where connecting again can't help."""
        if error is not None and error.code in FINAL:
            raise error
        events: list[WatchEvent] = []
        if self._broken_at is None:
            self._broken_at = now
            events.append(Disconnected(error=error))
        outage = now - self._broken_at
        limit = self._order.give_up_after if self._connected else self._order.connect_within
        if error is not None and limit is not None and outage >= limit:
            raise error
        if isinstance(error, ResumeTokenExpired):
            events.append(self._resync(error.message))
        self._failures += 1
        pause = self._order.policy.pause(self._failures)
        if error is not None and error.retry_after is not None:
            pause = max(pause, error.retry_after.total_seconds())
        self._retry_at = now + pause
        return events

    def received(self, message: pb.WatchMarginResponse, now: float) -> list[WatchEvent]:
        """What a message tells. Raises MalformedAnswer where it breaks the contract."""
        events = self._back(now)
        events += self._heard(message, now)
        kind = message.WhichOneof("event")
        told = self._told(message, kind) if kind is not None else None
        if self._complete:
            self._token = message.resume_token or self._token
        return events if told is None else [*events, told]

    def _back(self, now: float) -> list[WatchEvent]:
        if self._broken_at is None:
            return []
        outage, attempts = now - self._broken_at, self._failures
        first = not self._connected
        self._broken_at, self._failures, self._connected = None, 0, True
        if first:
            return []
        return [Reconnected(outage=timedelta(seconds=outage), attempts=attempts, resumed=bool(self._token))]

    def _heard(self, message: pb.WatchMarginResponse, now: float) -> list[WatchEvent]:
        """Notes that something was heard, and reports when it comes late: grpc holds what a slow reader leaves."""
        self._heard_at = now
        self._report_at = now + self._order.max_staleness
        if not (message.HasField("update") or message.HasField("heartbeat")):
            return []
        delay = now - message.as_of.ToNanoseconds() / 1e9
        least = delay if self._least_delay is None else self._least_delay + (now - self._delay_at) * CLOCK_DRIFT
        self._least_delay = min(delay, least)
        self._delay_at = now
        self._lag = delay - self._least_delay
        if self._lag < self._order.max_staleness or now < self._lag_report_at:
            return []
        self._lag_report_at = now + self._order.max_staleness
        return [Stale(stale_for=self.stale_for(now))]

    def _told(self, message: pb.WatchMarginResponse, kind: str) -> WatchEvent | None:
        at = read(Answer, message)
        given: dict[str, Any] = {"revision": at.revision, "as_of": at.as_of}
        match kind:
            case "snapshot":
                status = read(MarginStatus, message.snapshot, **given)
                self._accounts[status.account_id] = self._seen(at)
                return Snapshot(status=status)
            case "update":
                status = read(MarginStatus, message.update, **given)
                seen = self._accounts.get(status.account_id)
                if seen is not None and seen.covers(at, self._connection):
                    return None
                self._accounts[status.account_id] = self._seen(at)
                return Update(status=status, conflated_count=message.conflated_count)
            case "snapshot_complete":
                self._complete = True
                return SnapshotComplete(account_count=message.snapshot_complete.account_count, **given)
            case "alert":
                alert = read(Alert, message.alert)
                if alert.alert_id in self._alerts:
                    return None
                remember(self._alerts, alert.alert_id, None)
                return AlertEvent(alert=alert, **given)
            case "liquidation":
                liquidation = read(Liquidation, message.liquidation)
                seen = self._liquidations.get(liquidation.liquidation_id)
                if seen is not None and seen.covers(at, self._connection):
                    return None
                remember(self._liquidations, liquidation.liquidation_id, self._seen(at))
                return LiquidationEvent(liquidation=liquidation, **given)
            case "resync_required":
                return self._resync(message.resync_required.reason)
        return None

    def _seen(self, at: Answer) -> Seen:
        return Seen(at.revision, at.as_of, self._connection)

    def _resync(self, reason: str) -> Resynced:
        self._token = ""
        self._complete = False
        self._accounts.clear()
        self._liquidations.clear()
        return Resynced(reason=reason)


def remember(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Adds to what is known and forgets the oldest where it becomes too much."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > REMEMBERED:
        known.popitem(last=False)
