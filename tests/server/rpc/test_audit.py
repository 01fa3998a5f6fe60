"""AuditService: every event once, by time, in pages, in both directions, whatever is asked for."""

import itertools
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core.account import Side
from debt_mgmt.core.commands import Transfer
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import audit_service_pb2 as wire
from tests.server.rpc.edge import CALL, START, CallOf, Edge

OPERATOR: Any = CallOf("operator")


def stamp(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


async def events(edge: Edge, **fields: Any) -> list[wire.AuditEvent]:
    return list((await edge.audit.ListAuditEvents(wire.ListAuditEventsRequest(**fields), CALL)).events)


async def walk(edge: Edge, size: int, **fields: Any) -> list[wire.AuditEvent]:
    """Every event, page by page."""
    found: list[wire.AuditEvent] = []
    request = wire.ListAuditEventsRequest(page_size=size, **fields)
    while True:
        answer = await edge.audit.ListAuditEvents(request, CALL)
        assert len(answer.events) == size or not answer.next_page_token
        found += answer.events
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def place(event: wire.AuditEvent) -> tuple[Any, ...]:
    return event.time.ToNanoseconds(), event.revision.shard, event.revision.position


async def busy(edge: Edge, seed: int) -> None:
    """Accounts in several shards, many events at one time, and pauses from nothing to days."""
    chance = random.Random(seed)
    owners = [f"owner-{number}" for number in range(6)]
    for owner in owners:
        await edge.open(owner, owner=owner)
    for number in range(60):
        edge.clock.advance(seconds=chance.choice([0, 0, 0, 0.5, 70, 90_000]))
        command = Transfer("USDT", Decimal(number + 1))
        await edge.engine.submit(
            chance.choice(owners), command, request_id=f"r-{number}", actor=Actor(chance.choice(["alice", "bob"]))
        )


def journaled(edge: Edge) -> list[tuple[int, int]]:
    """Places of all events, as the journal itself has them, by time."""
    assert isinstance(edge.journal, MemoryJournal)
    rows = itertools.chain.from_iterable(edge.journal._logs.values())
    return [
        (row.shard, row.position)
        for row in sorted(rows, key=lambda row: (row.at, row.shard, row.position))
        if row.kind != "LogOpened"
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_hold_every_event_once_and_by_time(edge: Edge, seed: int, newest_first: bool) -> None:
    await busy(edge, seed)
    everything = journaled(edge)
    assert len({shard for shard, _ in everything}) >= 3
    expected = list(reversed(everything)) if newest_first else everything
    for size in (1, 7, 1000):
        found = await walk(edge, size, newest_first=newest_first)
        assert [(event.revision.shard, event.revision.position) for event in found] == expected


@pytest.mark.parametrize("newest_first", [False, True])
async def test_filters_add_up(edge: Edge, newest_first: bool) -> None:
    await busy(edge, 7)
    everything = sorted(await walk(edge, 1000), key=place, reverse=newest_first)
    middle = sorted(event.time.ToDatetime(UTC) for event in everything)[len(everything) // 2]

    async def same(wanted: Any, **fields: Any) -> None:
        expected = [event for event in everything if wanted(event)]
        assert expected
        assert await walk(edge, 4, newest_first=newest_first, **fields) == expected

    await same(lambda event: event.account_id == "owner-2", account_id="owner-2")
    await same(lambda event: event.kind == "Transferred", kinds=["Transferred", "Transferred"])
    await same(lambda event: "alice" in event.actor, actor="alice")
    await same(lambda event: event.request_id == "r-31", request_id="r-31")
    await same(lambda event: event.time.ToDatetime(UTC) >= middle, start_time=stamp(middle))
    await same(lambda event: event.time.ToDatetime(UTC) < middle, end_time=stamp(middle))
    await same(
        lambda event: event.account_id == "owner-1" and event.kind == "Transferred" and "bob" in event.actor,
        account_id="owner-1", kinds=["Transferred"], actor="bob",
    )  # fmt: skip


async def test_an_event_shows_who_did_what_for_which_request(edge: Edge) -> None:
    await edge.long_bitcoin()
    (created,) = await events(edge, account_id="alice", kinds=["AccountCreated"])
    assert (created.account_id, created.kind, created.request_id) == ("alice", "AccountCreated", "test-1")
    assert '"desk"' in created.actor
    assert created.time.ToDatetime(UTC) == START
    assert '"currency":"USDT"' in created.payload
    assert len(created.chain_hash) == 64
    (put, *_) = await events(edge, kinds=["InstrumentPut"])
    assert (put.account_id, put.revision.shard) == ("", 0)


async def test_an_account_called_house_is_not_the_house(edge: Edge) -> None:
    await edge.open("house")
    found = await events(edge, account_id="house")
    assert {event.kind for event in found} == {"AccountCreated", "BaselinesSet"}
    assert all(event.revision.shard != 0 for event in found)


@pytest.mark.parametrize("end", [datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)])
async def test_before_all_time_there_is_nothing(edge: Edge, end: datetime) -> None:
    await edge.open()
    assert await events(edge, end_time=stamp(end), newest_first=True) == []
    assert await events(edge, end_time=stamp(end)) == []


async def test_until_the_end_of_time_there_is_everything(edge: Edge) -> None:
    await edge.open()
    end = stamp(datetime(9999, 1, 1, tzinfo=UTC))
    assert await events(edge, end_time=end, newest_first=True) == list(reversed(await events(edge, end_time=end)))


async def test_a_token_goes_with_its_filters(edge: Edge) -> None:
    await edge.open()
    request = wire.ListAuditEventsRequest(page_size=1)
    request.page_token = (await edge.audit.ListAuditEvents(request, CALL)).next_page_token
    for changed in ({"newest_first": True}, {"account_id": "alice"}, {"kinds": ["Transferred"]}):
        other = wire.ListAuditEventsRequest(page_token=request.page_token, **changed)
        with pytest.raises(Fault) as raised:
            await edge.audit.ListAuditEvents(other, CALL)
        assert raised.value.reason is FaultReason.PAGE_TOKEN_INVALID


async def test_bad_filters_are_named(edge: Edge) -> None:
    request = wire.ListAuditEventsRequest(
        account_id="a b", page_size=5000, kinds=["x y"], actor="\x00", request_id="r r",
        start_time=Timestamp(seconds=9), end_time=Timestamp(seconds=8),
    )  # fmt: skip
    with pytest.raises(InvalidRequest) as raised:
        await edge.audit.ListAuditEvents(request, CALL)
    assert {field for field, _ in raised.value.problems} == {
        "account_id", "page_size", "kinds[0]", "actor", "request_id", "end_time",
    }  # fmt: skip
    with pytest.raises(Fault) as missing:
        await events(edge, account_id="nobody")
    assert missing.value.reason is FaultReason.ACCOUNT_NOT_FOUND


async def test_refusals_are_in_the_audit_too(edge: Edge) -> None:
    await edge.open()
    command = Transfer("USDT", Decimal(-20_000))
    await edge.engine.submit("alice", command, request_id="too-much", actor=OPERATOR.actor)
    (refused,) = await events(edge, request_id="too-much")
    assert (refused.kind, '"operator"' in refused.actor) == ("CommandRefused", True)


async def test_listing_goes_on_where_it_was_while_events_come(edge: Edge) -> None:
    await edge.open()
    first = await edge.audit.ListAuditEvents(wire.ListAuditEventsRequest(account_id="alice", page_size=1), CALL)
    edge.clock.advance(seconds=timedelta(minutes=3).total_seconds())
    await edge.mark(BTCUSDT="50000")
    await edge.fill("alice", Side.BUY, "0.1", "BTCUSDT", "50000")
    rest = await events(edge, account_id="alice", page_token=first.next_page_token)
    assert [event.kind for event in rest] == ["BaselinesSet", "FillRecorded"]


async def test_a_caller_of_some_accounts_sees_the_events_of_those_alone(edge: Edge) -> None:
    """Neither another account's events nor the house's, whatever is asked for; nor the chain that spans them all."""
    await busy(edge, 3)
    caller: Any = CallOf("limited")
    caller.actor = Actor("limited", "VIEWER", "test", frozenset({"owner-2"}))
    for fields in ({}, {"newest_first": True}, {"request_id": "r-31"}, {"kinds": ["InstrumentPut"]}):
        answer = await edge.audit.ListAuditEvents(wire.ListAuditEventsRequest(page_size=1000, **fields), caller)
        assert {event.account_id for event in answer.events} <= {"owner-2"}
        assert bool(answer.events) or fields not in ({}, {"newest_first": True})
    with pytest.raises(Fault) as raised:
        await edge.audit.ListAuditEvents(wire.ListAuditEventsRequest(account_id="owner-1"), caller)
    assert raised.value.reason is FaultReason.ACCOUNT_NOT_FOUND
    with pytest.raises(Fault) as raised:
        await edge.audit.VerifyAudit(wire.VerifyAuditRequest(), caller)
    assert raised.value.reason is FaultReason.PERMISSION_DENIED
