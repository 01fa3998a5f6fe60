"""What a watch makes of messages, silence and breaks, on a clock of its own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from debt_mgmt.client import (
    AlertEvent,
    Disconnected,
    LiquidationEvent,
    Reconnected,
    Resynced,
    Snapshot,
    SnapshotComplete,
    Stale,
    Unavailable,
    Update,
    errors,
)
from debt_mgmt.client.watch import FINAL, WatchSession, watch_order
from debt_mgmt.v1 import margin_service_pb2 as pb
from debt_mgmt.v1 import types_pb2
from tests.client.fake_service import sample

START = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = Unavailable("gone", code=grpc.StatusCode.UNAVAILABLE)


def said(event: str, *, at: float = 0, position: int = 1, account_id: str = "alice", **more: Any) -> Any:
    """A message that the service sent `at` seconds after the start."""
    message = pb.WatchMarginResponse(resume_token=f"t{position}", **more)
    message.revision.shard, message.revision.position = 1, position
    message.as_of.FromDatetime(START + timedelta(seconds=at))
    if event in ("snapshot", "update"):
        status = sample(pb.MarginStatus)
        status.account_id = account_id
        getattr(message, event).CopyFrom(status)
    elif event == "alert":
        alert = sample(types_pb2.Alert)
        alert.alert_id = f"a{position}"
        message.alert.CopyFrom(alert)
    elif event == "liquidation":
        message.liquidation.CopyFrom(sample(pb.Liquidation))
    else:
        getattr(message, event).SetInParent()
    return message


class Watched:
    """A session, and the clock that it is asked by. Silence of 6 s is stale."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        order = watch_order(
            options.get("account_ids"), None, options.get("max_staleness", 6), options.get("give_up_after"), 10
        )
        self.session = WatchSession(order, self.now)

    def connect(self) -> Any:
        return self.session.request(self.now)

    def hear(self, message: Any, after: float = 0.0) -> list[Any]:
        self.now += after
        return list(self.session.received(message, self.now))

    def kinds(self, message: Any, after: float = 0.0) -> list[type[Any]]:
        return [type(event) for event in self.hear(message, after)]

    def wait(self, seconds: float) -> list[Any]:
        self.now += seconds
        return list(self.session.waited(self.now))

    def lose(self, error: errors.DebtMgmtError | None = BROKEN, after: float = 0.0) -> list[Any]:
        self.now += after
        return list(self.session.ended(error, self.now))


@pytest.fixture
def watched() -> Watched:
    """A watch that has had its snapshot."""
    watched = Watched()
    watched.connect()
    watched.hear(said("snapshot"))
    watched.hear(said("snapshot_complete"))
    return watched


def test_it_asks_for_heartbeats_three_times_as_often_as_it_calls_stale() -> None:
    request = Watched(account_ids=["alice", "bob"]).connect()
    assert list(request.account_ids) == ["alice", "bob"]
    assert request.resume_token == ""
    assert request.heartbeat_interval.ToTimedelta() == timedelta(seconds=2)
    assert not request.HasField("min_interval")


def test_messages_become_events() -> None:
    watched = Watched()
    watched.connect()
    (snapshot,) = watched.hear(said("snapshot", position=5))
    assert isinstance(snapshot, Snapshot)
    assert snapshot.status.account_id == "alice"
    assert (snapshot.status.revision.position, snapshot.status.as_of) == (5, START)
    (complete,) = watched.hear(said("snapshot_complete"))
    assert isinstance(complete, SnapshotComplete)
    (update,) = watched.hear(said("update", at=1, position=6, conflated_count=3), after=1)
    assert isinstance(update, Update)
    assert update.conflated_count == 3
    assert watched.kinds(said("alert", position=7)) == [AlertEvent]
    assert watched.kinds(said("liquidation", position=8)) == [LiquidationEvent]
    assert watched.kinds(said("heartbeat")) == []
    assert watched.kinds(said("draining")) == []


def test_a_message_of_a_newer_kind_is_passed_over(watched: Watched) -> None:
    assert watched.hear(pb.WatchMarginResponse(resume_token="t9")) == []
    assert watched.connect().resume_token == "t9"


def test_a_new_connection_continues_from_the_last_message(watched: Watched) -> None:
    watched.hear(said("update", position=7))
    assert [type(event) for event in watched.lose()] == [Disconnected]
    assert 0.1 <= watched.session.pause(watched.now) <= 0.2
    assert watched.connect().resume_token == "t7"
    reconnected, update = watched.hear(said("update", position=8), after=2)
    assert reconnected == Reconnected(outage=timedelta(seconds=2), attempts=1, resumed=True)
    assert isinstance(update, Update)


def test_a_break_is_told_once_however_often_connecting_fails(watched: Watched) -> None:
    assert [type(event) for event in watched.lose()] == [Disconnected]
    pauses = []
    for _ in range(12):
        watched.connect()
        assert watched.lose(after=0.1) == []
        pauses.append(watched.session.pause(watched.now))
    assert pauses[0] < 1 < pauses[-1]
    assert 5 <= pauses[-1] <= 10
    (reconnected,) = watched.hear(said("heartbeat"))
    assert (reconnected.attempts, reconnected.resumed) == (13, True)
    assert [type(event) for event in watched.lose()] == [Disconnected]
    assert watched.session.pause(watched.now) <= 0.2


def test_an_end_in_good_order_is_a_break_without_error(watched: Watched) -> None:
    watched.hear(said("draining"))
    assert watched.lose(None) == [Disconnected(error=None)]
    assert watched.session.pause(watched.now) > 0


def test_what_a_resumed_stream_repeats_is_given_once(watched: Watched) -> None:
    watched.hear(said("update", at=1, position=7))
    watched.hear(said("alert", position=7))
    watched.hear(said("liquidation", at=1, position=7))
    watched.lose()
    watched.connect()
    assert watched.kinds(said("update", at=1, position=7)) == [Reconnected]
    assert watched.kinds(said("update", at=0, position=6)) == []
    assert watched.kinds(said("alert", position=7)) == []
    assert watched.kinds(said("liquidation", at=1, position=7)) == []
    assert watched.kinds(said("update", at=2, position=7)) == [Update]
    assert watched.kinds(said("liquidation", at=1, position=8)) == [LiquidationEvent]
    assert watched.kinds(said("update", at=1, position=7, account_id="bob")) == [Update]


def test_new_prices_at_the_same_revision_are_news(watched: Watched) -> None:
    assert watched.kinds(said("update", at=1, position=7)) == [Update]
    assert watched.kinds(said("update", at=1.1, position=7)) == [Update]
    assert watched.kinds(said("update", at=1.1, position=7)) == [Update]


def test_a_resync_drops_everything_held(watched: Watched) -> None:
    watched.hear(said("update", at=5, position=7))
    watched.lose()
    watched.connect()
    message = said("resync_required", position=2)
    message.resync_required.reason = "another journal"
    reconnected, resynced = watched.hear(message)
    assert isinstance(reconnected, Reconnected)
    assert resynced == Resynced(reason="another journal")
    assert watched.kinds(said("snapshot", at=1, position=2)) == [Snapshot]
    assert watched.kinds(said("update", at=2, position=3)) == [Update]
    assert watched.connect().resume_token == ""
    watched.hear(said("snapshot_complete", position=4))
    assert watched.connect().resume_token == "t4"


def test_a_stream_that_breaks_among_its_snapshots_begins_anew() -> None:
    watched = Watched()
    watched.connect()
    watched.hear(said("snapshot"))
    watched.lose()
    assert watched.connect().resume_token == ""
    (reconnected, snapshot) = watched.hear(said("snapshot", at=1))
    assert not reconnected.resumed
    assert isinstance(snapshot, Snapshot)


def test_an_expired_token_is_dropped(watched: Watched) -> None:
    expired = errors.ResumeTokenExpired("too old", code=grpc.StatusCode.OUT_OF_RANGE, reason="RESUME_TOKEN_EXPIRED")
    watched.lose()
    watched.connect()
    assert watched.lose(expired) == [Resynced(reason="too old")]
    assert watched.connect().resume_token == ""
    (reconnected, _) = watched.hear(said("snapshot"))
    assert not reconnected.resumed


def test_silence_is_told_and_told_again(watched: Watched) -> None:
    assert watched.session.patience(watched.now) == 6
    assert watched.wait(5.9) == []
    (stale,) = watched.wait(0.2)
    assert stale == Stale(stale_for=timedelta(seconds=6.1))
    assert watched.wait(3) == []
    (stale,) = watched.wait(3)
    assert stale.stale_for == timedelta(seconds=12.1)
    assert watched.session.stale_for(watched.now + 1) == timedelta(seconds=13.1)
    watched.hear(said("heartbeat", at=12.1))
    assert watched.session.stale_for(watched.now) == timedelta(0)
    assert watched.wait(5.9) == []


def test_heartbeats_keep_it_fresh(watched: Watched) -> None:
    for beat in range(1, 100):
        assert watched.hear(said("heartbeat", at=beat * 2), after=2) == []
        assert watched.wait(0) == []


def test_silence_is_told_during_an_outage_too(watched: Watched) -> None:
    watched.lose(after=1)
    (stale,) = watched.wait(5)
    assert stale.stale_for == timedelta(seconds=6)


def test_a_connection_without_heartbeats_is_dead(watched: Watched) -> None:
    assert watched.session.hung(watched.now + 11.9) is None
    dead = watched.session.hung(watched.now + 12)
    assert isinstance(dead, Unavailable)
    assert "no heartbeat for 12.0 s" in str(dead)
    watched.now += 12
    watched.lose(dead)
    watched.connect()
    assert watched.session.hung(watched.now + 11) is None


def test_what_was_sent_long_ago_is_stale_though_messages_flow(watched: Watched) -> None:
    """grpc keeps messages for a slow reader: each comes in time and tells of a time further and further back."""
    watched.hear(said("heartbeat", at=0))
    late: list[Any] = []
    for step in range(1, 21):
        late += watched.hear(said("update", at=step * 0.5, position=step + 1), after=1)
    stale = [event for event in late if isinstance(event, Stale)]
    assert len([event for event in late if isinstance(event, Update)]) == 20
    assert [round(event.stale_for.total_seconds()) for event in stale] == [6, 9]
    assert watched.session.stale_for(watched.now) > timedelta(seconds=9)
    watched.hear(said("heartbeat", at=20))
    assert watched.session.stale_for(watched.now) < timedelta(seconds=1)


def test_clocks_that_differ_or_drift_are_not_stale() -> None:
    for skew in (-3600, 0, 3600):
        watched = Watched()
        watched.connect()
        for minute in range(3000):
            at = skew + minute * 60 * 0.9999
            events = [*watched.hear(said("heartbeat", at=at), after=58), *watched.wait(0)]
            watched.now += 2
            assert [event for event in events if isinstance(event, Stale)] == []


@pytest.mark.parametrize("code", FINAL, ids=lambda code: code.name)
def test_what_connecting_again_can_not_help_is_raised(watched: Watched, code: grpc.StatusCode) -> None:
    with pytest.raises(errors.DebtMgmtError, match="no"):
        watched.lose(errors.DebtMgmtError("no", code=code))


@pytest.mark.parametrize(
    "code", [one for one in grpc.StatusCode if one not in {*FINAL, grpc.StatusCode.OK}], ids=lambda code: code.name
)
def test_after_everything_else_it_connects_again(watched: Watched, code: grpc.StatusCode) -> None:
    assert [type(event) for event in watched.lose(errors.DebtMgmtError("no", code=code))] == [Disconnected]


def test_a_service_that_was_never_reached_is_raised() -> None:
    watched = Watched()
    watched.connect()
    assert watched.lose() == []
    watched.connect()
    with pytest.raises(Unavailable):
        watched.lose(after=10)


def test_an_outage_is_borne_as_long_as_the_caller_says() -> None:
    watched = Watched(give_up_after=timedelta(minutes=1))
    watched.connect()
    watched.hear(said("snapshot"))
    watched.lose()
    watched.lose(after=59)
    with pytest.raises(Unavailable):
        watched.lose(after=1)


def test_an_outage_is_borne_for_ever_by_default(watched: Watched) -> None:
    watched.lose()
    watched.lose(after=1_000_000)


def test_the_service_s_own_advice_is_waited_for(watched: Watched) -> None:
    busy = errors.Overloaded(
        "busy", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED", retry_after=timedelta(seconds=4)
    )
    watched.lose(busy)
    assert watched.session.pause(watched.now) == 4


@pytest.mark.parametrize("name", ["min_interval", "max_staleness", "give_up_after"])
def test_times_are_above_zero(name: str) -> None:
    times: dict[str, Any] = {"min_interval": None, "max_staleness": 6, "give_up_after": None, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be above zero"):
        watch_order(None, times["min_interval"], times["max_staleness"], times["give_up_after"], 10)


def test_a_lone_id_is_no_list_of_ids() -> None:
    with pytest.raises(TypeError, match=r"write \[account_id\]"):
        watch_order("alice", None, 6, None, 10)
