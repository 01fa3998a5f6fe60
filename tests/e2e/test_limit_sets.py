"""Limit sets over the wire: put, listed with their use, refusing, raced for, kept over restarts, and who sees them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from debt_mgmt.core.access import Role
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.metrics import Metrics
from debt_mgmt.v1 import audit_service_pb2, margin_service_pb2, market_service_pb2, types_pb2
from debt_mgmt.v1 import risk_service_pb2 as wire
from tests.e2e.books import BUY, SELL, inverse_contract, order
from tests.server.security.door import Door, door
from tests.support.service import Clock, Desk, service, slow_journal
from tests.support.wire import failure_of, reasons

ACCOUNTS = ("alice", "bob", "carol", "dave")


async def books(desk: Desk) -> None:
    """Four accounts of four owners, which are in different shards, with prices and leverage."""
    for name in ACCOUNTS:
        await desk.open(name, "1000000", "USDT", owner=f"owner-{name}")
    await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
    shards = {desk.engine.home[name] for name in ACCOUNTS}
    assert len(shards) > 1, "accounts of one shard race for nothing"


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with service(clock=Clock()) as one:
        await books(one)
        yield one


async def put(
    desk: Desk,
    scope: dict[str, str] | None = None,
    name: str = "",
    *,
    mode: int = 0,
    currency: str = "USDT",
    hours: list[wire.LimitHours] | None = None,
    **limits: Any,
) -> wire.PutLimitSetResponse:
    request = wire.PutLimitSetRequest(
        request_id=desk.request_id(),
        limit_set=wire.LimitSet(
            scope=types_pb2.Scope(**(scope or {})),
            name=name,
            mode=mode,  # type: ignore[arg-type]
            limits=wire.NodeLimits(**limits),
            hours=hours,
            currency=currency,
            reason="a test",
        ),
    )
    answer: wire.PutLimitSetResponse = await desk.risk.PutLimitSet(request)
    assert answer.accepted
    return answer


async def listed(desk: Desk, **concerning: str) -> list[wire.LimitSetStatus]:
    request = wire.ListLimitSetsRequest(concerning=types_pb2.Scope(**concerning))
    return list((await desk.risk.ListLimitSets(request)).limit_sets)


async def checked(desk: Desk, account_id: str, side: int, quantity: str, symbol: str = "BTCUSDT") -> Any:
    request = margin_service_pb2.CheckOrderRequest(account_id=account_id, order=order(side, quantity, symbol))
    return (await desk.margin.CheckOrder(request)).result


def use_of(status: wire.LimitSetStatus) -> dict[int, tuple[str, str, str]]:
    return {one.protection: (one.used, one.limit, one.headroom) for one in status.protections}


# what it is


async def test_a_set_is_put_listed_with_its_use_and_taken_away(desk: Desk) -> None:
    rate = wire.OrderRate(orders=10, interval=Duration(seconds=60))
    answer = await put(
        desk,
        max_leverage="3",
        max_position_quantity="50",
        max_position_notional="400000",
        max_exposure_notional="500000",
        max_concurrent_positions=4,
        max_open_reservations=3,
        max_order_rate=rate,
    )
    assert answer.limit_set.account_count == 4
    await desk.fill("alice", BUY, "2", "BTCUSDT", "50000")
    await desk.fill("bob", SELL, "1", "BTCUSDT", "50000")
    assert (await desk.reserve("bob", SELL, "40", "ETHUSDT")).accepted
    (status,) = await listed(desk)
    assert use_of(status) == {
        wire.PROTECTION_LEVERAGE: ("2", "3", "1"),
        wire.PROTECTION_POSITION_QUANTITY: ("40", "50", "10"),
        wire.PROTECTION_POSITION_NOTIONAL: ("100000", "400000", "300000"),
        wire.PROTECTION_EXPOSURE_NOTIONAL: ("250000", "500000", "250000"),
        wire.PROTECTION_CONCURRENT_POSITIONS: ("3", "4", "1"),
        wire.PROTECTION_OPEN_RESERVATIONS: ("1", "3", "2"),
        wire.PROTECTION_ORDER_RATE: ("1", "10", "9"),
    }
    assert {one.subject for one in status.protections} == {"", "BTCUSDT", "ETHUSDT"}
    await desk.mark({"BTCUSDT": "60000"})
    (status,) = await listed(desk)
    assert use_of(status)[wire.PROTECTION_EXPOSURE_NOTIONAL][0] == "280000"
    gone = wire.DeleteLimitSetRequest(request_id=desk.request_id(), reason="over")
    assert (await desk.risk.DeleteLimitSet(gone)).accepted
    assert await listed(desk) == []
    gone.request_id = desk.request_id()
    refused = await desk.risk.DeleteLimitSet(gone)
    assert (refused.accepted, reasons(refused.violations)) == (False, ["LIMIT_SET_NOT_FOUND"])


async def test_sets_are_listed_from_the_house_downwards_and_by_what_they_concern(desk: Desk) -> None:
    for scope in (
        {"account_id": "alice", "symbol": "BTCUSDT"},
        {"account_id": "alice"},
        {"owner": "owner-bob"},
        {"strategy": "trend"},
        {},
    ):
        await put(desk, scope, max_leverage="3")
    nodes = [one.limit_set.scope for one in await listed(desk)]
    assert [(one.owner, one.account_id, one.strategy, one.symbol) for one in nodes] == [
        ("", "", "", ""),
        ("", "", "trend", ""),
        ("", "alice", "", ""),
        ("owner-bob", "", "", ""),
        ("", "alice", "", "BTCUSDT"),
    ]
    assert len(await listed(desk, account_id="alice")) == 2
    assert len(await listed(desk, account_id="alice", symbol="BTCUSDT", strategy="trend")) == 4
    assert [one.limit_set.scope.owner for one in await listed(desk, account_id="bob")] == ["", "owner-bob"]
    first = await desk.risk.ListLimitSets(wire.ListLimitSetsRequest(page_size=3))
    rest = await desk.risk.ListLimitSets(wire.ListLimitSetsRequest(page_size=3, page_token=first.next_page_token))
    assert (len(first.limit_sets), len(rest.limit_sets), rest.next_page_token) == (3, 2, "")


async def test_a_refusal_names_the_node_and_a_check_is_what_a_reservation_does(desk: Desk) -> None:
    await put(desk, {"owner": "owner-alice"}, "weekday", max_exposure_notional="100000")
    result = await checked(desk, "alice", BUY, "2.5")
    (violation,) = result.violations
    assert (violation.scope.owner, violation.limit_set) == ("owner-alice", "weekday")
    assert (violation.value, violation.limit, violation.headroom) == ("125000", "100000", "100000")
    assert violation.message == (
        "exposure would be 125000, the limit is 100000 (limit set weekday of owner owner-alice)"
    )
    assert result.largest_buy == "2"
    refused = await desk.reserve("alice", BUY, "2.5")
    assert list(refused.violations) == list(result.violations)
    assert (refused.largest_buy, refused.largest_sell) == (result.largest_buy, result.largest_sell)
    assert (await desk.reserve("alice", BUY, "2")).accepted
    request = margin_service_pb2.SimulateMarginRequest(
        account_id="alice", changes=[margin_service_pb2.MarginChange(order=order(BUY, "0.001"))]
    )
    (simulated,) = (await desk.margin.SimulateMargin(request)).results
    assert reasons(simulated.violations) == ["EXPOSURE_LIMIT"]
    stream = desk.margin.StreamCheckOrders(
        iter([margin_service_pb2.StreamCheckOrdersRequest(account_id="alice", order=order(BUY, "0.001"))])
    )
    answers = [answer async for answer in stream]
    assert reasons(answers[0].result.violations) == ["EXPOSURE_LIMIT"]
    placed = await desk.margin.PlaceOrder(
        margin_service_pb2.PlaceOrderRequest(
            request_id=desk.request_id(), account_id="alice", order=order(BUY, "0.001")
        )
    )
    assert reasons(placed.violations) == ["EXPOSURE_LIMIT"]


async def test_a_batch_counts_what_it_holds_at_every_node(desk: Desk) -> None:
    await put(desk, max_exposure_notional="100000")
    await desk.fill("bob", BUY, "1", "BTCUSDT", "50000")
    request = margin_service_pb2.BatchCheckOrdersRequest(account_id="alice", orders=[order(BUY, "0.6")] * 2)
    answer = await desk.margin.BatchCheckOrders(request)
    assert [reasons(one.violations) for one in answer.results] == [[], ["EXPOSURE_LIMIT"]]


async def test_what_shadow_would_have_refused_is_told_counted_and_kept(desk: Desk) -> None:
    await put(desk, {}, "trial", mode=wire.LIMIT_MODE_SHADOW, max_position_quantity="1")
    result = await checked(desk, "alice", BUY, "2")
    assert result.fits
    assert reasons(result.shadow_violations) == ["QUANTITY_ABOVE_MAXIMUM"]
    request = margin_service_pb2.BatchCheckOrdersRequest(account_id="alice", orders=[order(BUY, "2")])
    (brief,) = (await desk.margin.BatchCheckOrders(request)).results
    assert list(brief.shadow_violations) == list(result.shadow_violations)
    assert (await desk.reserve("alice", BUY, "2")).accepted
    assert desk.engine.counters.shadow_by_reason == {"QUANTITY_ABOVE_MAXIMUM": 3}
    metrics = Metrics()
    metrics.watch(desk.engine.metrics_snapshot)
    assert 'debt_mgmt_shadow_violations_total{reason="QUANTITY_ABOVE_MAXIMUM"} 3.0' in metrics.text().decode()
    found = await desk.audit.ListAuditEvents(
        audit_service_pb2.ListAuditEventsRequest(account_id="alice", kinds=["MarginReserved"])
    )
    (shadow,) = json.loads(found.events[0].payload)["shadow"]
    assert (shadow["reason"], shadow["limit_set"]) == ("QUANTITY_ABOVE_MAXIMUM", "trial")


async def test_a_strategy_has_limits_of_its_own(desk: Desk) -> None:
    """What its orders and fills hold counts; what other strategies hold, and what belongs to none, does not."""
    await put(desk, {"account_id": "alice", "strategy": "momo"}, max_exposure_notional="200000")
    await desk.fill("alice", BUY, "5", "BTCUSDT", "50000")

    def of(strategy: str, quantity: str, side: int = BUY) -> types_pb2.Order:
        asked = order(side, quantity, "BTCUSDT")
        asked.strategy = strategy
        return asked

    async def reserved(asked: types_pb2.Order) -> Any:
        request = margin_service_pb2.ReserveMarginRequest(
            request_id=desk.request_id(), account_id="alice", order=asked
        )  # fmt: skip
        return await desk.margin.ReserveMargin(request)

    held = await reserved(of("momo", "3"))
    assert held.accepted
    await desk.fill("alice", BUY, "3", "BTCUSDT", "50000", reservation_id=held.reservation.reservation_id)
    refused = await reserved(of("momo", "2"))
    assert reasons(refused.violations) == ["EXPOSURE_LIMIT"]
    (violation,) = refused.violations
    assert (violation.value, violation.limit, violation.headroom) == ("250000", "200000", "50000")
    assert violation.scope == types_pb2.Scope(account_id="alice", strategy="momo")
    assert refused.largest_buy == "1"
    assert (await reserved(of("momo", "1"))).accepted
    assert (await reserved(of("swing", "2"))).accepted
    assert (await reserved(of("momo", "8", SELL))).accepted, "what takes risk away passes"
    (status,) = await listed(desk)
    assert use_of(status)[wire.PROTECTION_EXPOSURE_NOTIONAL] == ("200000", "200000", "0")


async def test_a_set_counts_within_its_hours_only(desk: Desk) -> None:
    """The clock of the tests stands at nine on a Monday morning, in UTC."""
    hours = [wire.LimitHours(days=["monday"], start_time="09:30", end_time="10:00", time_zone="UTC")]
    await put(desk, hours=hours, max_position_quantity="0")
    assert not (await listed(desk))[0].in_force
    assert (await checked(desk, "alice", BUY, "1")).fits
    desk.engine.clock.advance(minutes=30)  # type: ignore[attr-defined]
    await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
    assert (await listed(desk))[0].in_force
    assert reasons((await checked(desk, "alice", BUY, "1")).violations) == ["QUANTITY_ABOVE_MAXIMUM"]
    desk.engine.clock.advance(minutes=30)  # type: ignore[attr-defined]
    await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
    assert (await checked(desk, "alice", BUY, "1")).fits


async def test_a_new_instrument_starts_at_zero_on_a_service_as_it_comes() -> None:
    async with service(clock=Clock(), risk_settings__new_instruments="zero") as desk:
        await books(desk)
        assert (await checked(desk, "alice", BUY, "1")).fits, "what comes with the service is open"
        request = market_service_pb2.PutInstrumentRequest(request_id="new", instrument=inverse_contract())
        symbol = (await desk.market.PutInstrument(request)).instrument.symbol
        await desk.mark({symbol: "60000"})
        (violation,) = (await checked(desk, "alice", BUY, "1", symbol)).violations
        assert violation.limit_set == "new-instrument"
        assert f"debt-mgmt limits set --instrument {symbol} --name new-instrument" in violation.message
        gone = wire.DeleteLimitSetRequest(
            request_id="open", scope=types_pb2.Scope(symbol=symbol), name="new-instrument", reason="looked at"
        )
        assert (await desk.risk.DeleteLimitSet(gone)).accepted
        left = (await checked(desk, "alice", BUY, "1", symbol)).violations
        assert "QUANTITY_ABOVE_MAXIMUM" not in reasons(left)


# sums over accounts


async def test_accounts_of_different_shards_never_take_the_last_headroom_together(desk: Desk) -> None:
    """All decide before anything is written: what is decided counts for those who decide next."""
    await put(desk, max_exposure_notional="100000")
    async with slow_journal(desk, 0.05):
        answers = await asyncio.gather(*(desk.reserve(name, BUY, "1.5") for name in ACCOUNTS))
    assert [one.accepted for one in answers].count(True) == 1
    (status,) = await listed(desk)
    assert use_of(status)[wire.PROTECTION_EXPOSURE_NOTIONAL] == ("75000", "100000", "25000")
    refused = next(one for one in answers if not one.accepted)
    assert reasons(refused.violations) == ["EXPOSURE_LIMIT"]
    assert refused.largest_buy == "0.5"


async def test_what_is_given_back_can_be_taken_by_another(desk: Desk) -> None:
    await put(desk, max_exposure_notional="100000")
    held = await desk.reserve("alice", BUY, "2")
    assert reasons((await desk.reserve("bob", BUY, "1")).violations) == ["EXPOSURE_LIMIT"]
    released = margin_service_pb2.ReleaseReservationRequest(
        request_id=desk.request_id(), account_id="alice", reservation_id=held.reservation.reservation_id
    )
    assert (await desk.margin.ReleaseReservation(released)).accepted
    assert (await desk.reserve("bob", BUY, "1")).accepted


async def test_what_is_given_back_counts_until_that_is_durable(desk: Desk) -> None:
    await put(desk, max_exposure_notional="100000")
    held = await desk.reserve("alice", BUY, "2")
    released = margin_service_pb2.ReleaseReservationRequest(
        request_id=desk.request_id(), account_id="alice", reservation_id=held.reservation.reservation_id
    )
    async with slow_journal(desk, 0.3):
        giving = asyncio.ensure_future(desk.margin.ReleaseReservation(released))
        while not any(desk.engine.tree.pending.values()):
            await asyncio.sleep(0.01)
        assert reasons((await checked(desk, "bob", BUY, "1")).violations) == ["EXPOSURE_LIMIT"]
        assert (await giving).accepted
    assert (await checked(desk, "bob", BUY, "1")).fits


async def test_every_decision_is_made_again_to_the_byte(desk: Desk) -> None:
    """Whatever others have come to use since: what they used then is kept with the decision."""
    await put(desk, max_exposure_notional="100000", max_open_reservations=3)
    await put(desk, {}, "rate", max_order_rate=wire.OrderRate(orders=4, interval=Duration(seconds=60)))
    await put(desk, {}, "trial", mode=wire.LIMIT_MODE_SHADOW, max_exposure_notional="10000")
    for name, quantity in (("alice", "0.5"), ("bob", "1"), ("alice", "0.6"), ("carol", "0.5"), ("dave", "0.1")):
        await desk.reserve(name, BUY, quantity)
    await desk.mark({"BTCUSDT": "40000"})
    for name in ("alice", "bob", "dave"):
        found = await desk.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(account_id=name))
        for event in found.events:
            request = audit_service_pb2.ExplainEventRequest(event_revision=event.revision)
            explained = await desk.audit.ExplainEvent(request)
            assert explained.reproduced, (event.kind, event.payload)
    refusals = audit_service_pb2.ListAuditEventsRequest(account_id="alice", kinds=["CommandRefused"])
    (refused,) = (await desk.audit.ListAuditEvents(refusals)).events
    explained = await desk.audit.ExplainEvent(audit_service_pb2.ExplainEventRequest(event_revision=refused.revision))
    assert reasons(explained.violations) == ["EXPOSURE_LIMIT"]
    assert explained.violations[0].headroom == "25000"
    assert "buy 0.5 BTCUSDT would have passed" in explained.remedy.lower().replace("btcusdt", "BTCUSDT")


async def test_sets_sums_and_rates_are_kept_over_a_restart() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        await books(desk)
        await put(desk, max_exposure_notional="100000")
        await put(desk, {}, "rate", max_order_rate=wire.OrderRate(orders=2, interval=Duration(seconds=600)))
        assert (await desk.reserve("alice", BUY, "1")).accepted
        await desk.fill("bob", SELL, "0.5", "BTCUSDT", "50000")
        before, numbers = await listed(desk), desk.numbers
    async with service(journal=journal, clock=clock) as desk:
        desk.numbers = numbers
        await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
        assert await listed(desk) == before
        assert reasons((await desk.reserve("carol", BUY, "0.501")).violations) == ["EXPOSURE_LIMIT"]
        assert (await desk.reserve("carol", BUY, "0.1")).accepted
        assert reasons((await desk.reserve("dave", BUY, "0.1")).violations) == ["ORDER_RATE"]
        clock.advance(minutes=10)
        await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
        assert (await desk.reserve("dave", BUY, "0.1")).accepted


async def test_a_start_with_another_configuration_counts_what_is_there() -> None:
    """The configuration is told to the house before the accounts are loaded."""
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        await books(desk)
        await put(desk, max_exposure_notional="100000", max_concurrent_positions=2)
        await desk.fill("alice", BUY, "1.5", "BTCUSDT", "50000")
        before, numbers = await listed(desk), desk.numbers
    async with service(journal=journal, clock=clock, risk_settings__liquidation_target="0.6") as desk:
        desk.numbers = numbers
        await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "2500"})
        assert await listed(desk) == before
        assert reasons((await desk.reserve("carol", BUY, "0.501")).violations) == ["EXPOSURE_LIMIT"]


async def test_an_exit_passes_every_limit(desk: Desk) -> None:
    await desk.fill("alice", BUY, "1", "BTCUSDT", "50000")
    await put(
        desk,
        currency="NOSUCH",
        max_leverage="1",
        max_position_quantity="0",
        max_exposure_notional="0",
        max_concurrent_positions=0,
        max_open_reservations=0,
    )
    assert not (await checked(desk, "alice", BUY, "0.1")).fits
    assert (await checked(desk, "alice", SELL, "1")).fits
    assert (await desk.reserve("alice", SELL, "1")).accepted


# malformed


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, ["limit_set.limits"]),
        ({"limits": wire.NodeLimits(max_exposure_notional="5")}, ["limit_set.currency"]),
        (
            {"limits": wire.NodeLimits(max_leverage="0.5", max_position_quantity="-1", max_open_reservations=-1)},
            ["max_leverage", "max_position_quantity", "max_open_reservations"],
        ),
        (
            {"scope": types_pb2.Scope(owner="a b", account_id="é", strategy=" ", symbol="a b"), "name": "a b"},
            ["scope.owner", "scope.account_id", "scope.strategy", "scope.symbol", "limits", "name"],
        ),
        ({"limits": wire.NodeLimits(max_leverage="2"), "mode": 9}, ["limit_set.mode"]),
        (
            {"limits": wire.NodeLimits(max_order_rate=wire.OrderRate(orders=0, interval=Duration(seconds=1)))},
            ["max_order_rate.orders"],
        ),
        (
            {
                "limits": wire.NodeLimits(max_leverage="2"),
                "hours": [wire.LimitHours(days=["Monday"], start_time="24:00", end_time="9:00", time_zone="Mars/Base")],
            },
            ["hours[0].days[0]", "hours[0].start_time", "hours[0].end_time", "hours[0].time_zone"],
        ),
    ],
)
async def test_every_malformed_field_is_named(desk: Desk, fields: dict[str, Any], named: list[str]) -> None:
    request = wire.PutLimitSetRequest(request_id="r", limit_set=wire.LimitSet(**fields))
    failure = await failure_of(desk.channel, "RiskService/PutLimitSet", request)
    assert failure.reason == "INVALID_REQUEST"
    assert len(failure.fields) == len(named)
    assert all(field.startswith("limit_set") for field in failure.fields), failure.fields
    assert all(any(field.endswith(end) for field in failure.fields) for end in named), failure.fields


async def test_a_limit_that_would_concern_nothing_is_not_taken(desk: Desk) -> None:
    limits = wire.NodeLimits(max_leverage="2")
    for scope, reason in (
        (types_pb2.Scope(account_id="nobody"), "ACCOUNT_NOT_FOUND"),
        (types_pb2.Scope(symbol="NOSUCH"), "INSTRUMENT_NOT_FOUND"),
        (types_pb2.Scope(owner="owner-bob", account_id="alice"), "INVALID_REQUEST"),
    ):
        request = wire.PutLimitSetRequest(request_id="r", limit_set=wire.LimitSet(scope=scope, limits=limits))
        failure = await failure_of(desk.channel, "RiskService/PutLimitSet", request)
        assert failure.reason == reason


# who sees it


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Door]:
    async with door(tmp_path, clock=Clock()) as one:
        await books(one.desk)
        yield one


async def test_a_limited_token_learns_nothing_of_other_accounts(opened: Door) -> None:
    admin, bob = opened.desk, opened.as_caller(await opened.issue("bobs", Role.RISK, "bob"))
    await put(admin, {}, "all", max_exposure_notional="123456", max_position_quantity="7", max_open_reservations=44)
    await put(admin, {"owner": "owner-alice"}, "hers", max_leverage="3")
    await put(admin, {"account_id": "bob"}, "his", max_exposure_notional="60000")
    await admin.fill("alice", BUY, "2", "BTCUSDT", "50000")
    result = await checked(bob, "bob", BUY, "1.5")
    his, shared = sorted(result.violations, key=lambda one: one.limit_set, reverse=True)
    assert (his.limit_set, his.value, his.headroom) == ("his", "75000", "60000")
    assert (shared.limit_set, shared.value, shared.limit, shared.headroom) == ("all", "", "", "")
    assert shared.message == "exposure would be above the limit (limit set all of the house)"
    refused = await bob.reserve("bob", BUY, "1.5")
    assert list(refused.violations) == list(result.violations)
    sets = await listed(bob)
    assert [one.limit_set.name for one in sets] == ["all", "his"]
    assert sets[0].account_count == 1
    for one in sets[0].protections:
        if one.protection != wire.PROTECTION_POSITION_QUANTITY:
            assert (one.used, one.limit, one.headroom, one.off) == ("", "", "", False)
    explained = await bob.audit.ExplainEvent(audit_service_pb2.ExplainEventRequest(event_revision=refused.revision))
    assert explained.reproduced
    everything = await everything_told(bob)
    assert any('"outside"' in one.payload for one in (await everything_told(admin)).events)
    assert not any('"outside"' in one.payload for one in everything.events)
    for answer in (*sets, refused, result, explained, everything):
        told = str(answer)
        for secret in ("123456", "175000", "23456", "alice"):
            assert secret not in told, (secret, told)


async def everything_told(desk: Desk) -> Any:
    return await desk.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(account_id="bob"))


async def test_a_limited_token_changes_the_limits_of_its_own_accounts_only(opened: Door) -> None:
    bob = opened.as_caller(await opened.issue("bobs", Role.RISK, "bob"))
    await put(bob, {"account_id": "bob"}, max_leverage="2")
    limits = wire.NodeLimits(max_leverage="2")
    for scope, reason in (
        (types_pb2.Scope(), "PERMISSION_DENIED"),
        (types_pb2.Scope(symbol="BTCUSDT"), "PERMISSION_DENIED"),
        (types_pb2.Scope(account_id="alice"), "ACCOUNT_NOT_FOUND"),
        (types_pb2.Scope(account_id="nobody"), "ACCOUNT_NOT_FOUND"),
    ):
        made: Any = wire.PutLimitSetRequest(request_id="r", limit_set=wire.LimitSet(scope=scope, limits=limits))
        assert (await failure_of(bob.channel, "RiskService/PutLimitSet", made)).reason == reason
        made = wire.DeleteLimitSetRequest(request_id="r", scope=scope)
        assert (await failure_of(bob.channel, "RiskService/DeleteLimitSet", made)).reason == reason
    named: Any = wire.ListLimitSetsRequest(concerning=types_pb2.Scope(account_id="alice"))
    assert (await failure_of(bob.channel, "RiskService/ListLimitSets", named)).reason == "ACCOUNT_NOT_FOUND"
