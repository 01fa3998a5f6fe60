"""ExplainEvent: why it was refused, why positions were reduced, and that the decision can be made again."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Side
from debt_mgmt.core.commands import HaltHouse, Order, ReserveMargin, SetLeverage, Transfer
from debt_mgmt.core.faults import Fault, InvalidRequest
from debt_mgmt.core.money import parse
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.v1 import audit_service_pb2 as wire
from debt_mgmt.v1 import types_pb2
from tests.server.rpc.edge import CALL, RULES, CallOf, Edge

D = Decimal


async def explain(edge: Edge, call: Any = CALL, **fields: Any) -> wire.ExplainEventResponse:
    return await edge.audit.ExplainEvent(wire.ExplainEventRequest(**fields), call)


async def events(edge: Edge, *kinds: str, account_id: str = "alice") -> list[wire.AuditEvent]:
    request = wire.ListAuditEventsRequest(account_id=account_id, kinds=kinds)
    return list((await edge.audit.ListAuditEvents(request, CALL)).events)


def figures(answer: wire.ExplainEventResponse) -> dict[str, str | None]:
    return {one.name: one.value if one.HasField("value") else None for one in answer.figures}


@pytest_asyncio.fixture
async def refused(edge: Edge) -> AsyncIterator[wire.ExplainEventResponse]:
    await edge.long_bitcoin()
    command = ReserveMargin(Order("BTCUSDT", Side.BUY, D("0.5")))
    await edge.engine.submit("alice", command, request_id="too-much", actor=Actor("desk"))
    yield await explain(edge, caused_by_request_id="too-much", account_id="alice")


async def test_a_refusal_is_explained_line_by_line(refused: wire.ExplainEventResponse) -> None:
    """10,000 with 0.1 bitcoin at 50,000 and leverage 2: 2,500 used; 0.5 more need 12,500, with the buffer 13,750."""
    assert refused.summary.startswith(
        "ReserveMargin BUY 0.5 BTCUSDT was refused: margin required 13750, available 7500"
    )
    found = figures(refused)
    assert found["equity"] == "10000"
    assert found["notional.BTCUSDT"] == "5000"
    assert found["margin_used"] == "2500"
    assert found["margin_available"] == "7500"
    assert found["margin_utilization"] == "0.25"
    assert found["order.margin_added"] == "12500"
    assert found["order.margin_required"] == "13750"
    working = {one.name: one.working for one in refused.figures}
    assert working["margin_utilization"] == "margin used 2500 ÷ equity 10000"
    assert "12500 × buffer 1.1" in working["order.margin_required"]
    assert [one.symbol for one in refused.marks] == ["BTCUSDT"]
    assert (refused.marks[0].price, refused.marks[0].source) == ("50000", "test")


async def test_a_refusal_says_what_would_have_passed(edge: Edge, refused: wire.ExplainEventResponse) -> None:
    """The largest quantity passes and one lot more does not; with the missing equity the order itself passes."""
    assert refused.violations
    largest = parse(figures(refused)["order.largest_buy"] or "")
    assert f"BUY {figures(refused)['order.largest_buy']} BTCUSDT would have passed" in refused.remedy
    missing = D(refused.remedy.split(" USDT more of equity")[0].split("; ")[-1])
    for quantity, passes in ((largest, True), (largest + D("0.001"), False)):
        outcome = await edge.engine.submit(
            "alice", ReserveMargin(Order("BTCUSDT", Side.BUY, quantity)), request_id="", actor=SYSTEM
        )
        assert (type(outcome.events[0]).__name__ == "MarginReserved") == passes
        if passes:
            made: Any = outcome.events[0]
            released = c.ReleaseReservation(made.reservation.reservation_id)
            await edge.engine.submit("alice", released, request_id="", actor=SYSTEM)
    for amount, passes in ((missing - D("0.01"), False), (D("0.01"), True)):
        await edge.engine.submit("alice", Transfer("USDT", amount), request_id="", actor=SYSTEM)
        command = ReserveMargin(Order("BTCUSDT", Side.BUY, D("0.5")))
        outcome = await edge.engine.submit("alice", command, request_id="", actor=SYSTEM)
        assert (type(outcome.events[0]).__name__ == "MarginReserved") == passes


async def test_what_led_there_is_named(refused: wire.ExplainEventResponse) -> None:
    assert [event.kind for event in refused.led_by] == ["AccountCreated", "FillRecorded"]
    assert refused.reproduced


async def test_a_liquidation_is_explained_with_what_would_have_prevented_it(edge: Edge) -> None:
    await edge.open("alice", capital="10000")
    await edge.engine.submit("alice", SetLeverage("BTCUSDT", D(5)), request_id="", actor=SYSTEM)
    await edge.mark(BTCUSDT="50000")
    await edge.fill("alice", Side.BUY, "0.7", "BTCUSDT", "50000")
    await edge.mark(BTCUSDT="40000")
    (started,) = await events(edge, "ReductionStarted")
    answer = await explain(edge, event_revision=started.revision)
    assert answer.reproduced
    assert "to LIQUIDATING, entered at 90 %" in answer.summary
    assert "positions were reduced (forced" in answer.summary
    assert "BTCUSDT 40000 from test" in answer.summary
    found = figures(answer)
    assert (found["equity"], found["margin_used"]) == ("3000", "5600")
    assert found["unrealized_pnl.BTCUSDT"] == "-7000"
    # 5,600 ÷ 0.9 − 3,000
    assert answer.remedy.startswith("3222.222222222223 USDT more of equity would have kept it below 90 %")
    # 0.7 × P ÷ 5 = 0.9 × (10,000 + 0.7 × (P − 50,000)) at P = 45,918.37
    assert "of BTCUSDT" in answer.remedy
    price = D(answer.remedy.split(" of BTCUSDT, ")[0].split(" ")[-1])
    assert abs(price - D("45918.3673")) < 1
    assert "FillRecorded" in [event.kind for event in answer.led_by]


@pytest.mark.parametrize("seed", range(3))
async def test_every_decision_can_be_made_again_to_the_byte(edge: Edge, seed: int) -> None:
    chance = random.Random(seed)
    await edge.mark(BTCUSDT="50000", ETHUSDT="2500")
    for name in ("alice", "bob"):
        await edge.open(name)
        await edge.engine.submit(name, SetLeverage("BTCUSDT", D(5)), request_id="", actor=SYSTEM)
        await edge.fill(name, Side.BUY, "0.6", "BTCUSDT", "50000")
    price = 50_000
    for number in range(60):
        edge.clock.advance(seconds=chance.choice([0, 0, 1, 5, 40]))
        price = max(1000, int(price * chance.uniform(0.85, 1.13)))
        await edge.mark(BTCUSDT=str(price), ETHUSDT=str(price // 20))
        name, symbol = chance.choice(["alice", "bob"]), chance.choice(["BTCUSDT", "ETHUSDT"])
        side, size = chance.choice([Side.BUY, Side.SELL]), D(chance.randint(1, 40)) / 100
        strategy = chance.choice(["", "momo", "carry"])
        asked = Order(symbol, side, size, strategy=strategy)
        paid = D(price if symbol == "BTCUSDT" else price // 20)
        node = {"strategy": chance.choice(["", "momo"]), "symbol": chance.choice(["", "ETHUSDT"])}
        switch = chance.choice([HaltHouse, c.ResumeHouse])
        await edge.engine.submit_house(switch("a drill", **node), request_id="", actor=SYSTEM)
        command: c.Command = chance.choice([
            ReserveMargin(asked),
            c.RecordFill(f"f{number}", symbol, side, size, paid, strategy=strategy),
            SetLeverage(symbol, D(chance.randint(1, 6))),
            Transfer("USDT", D(chance.randint(-3000, 3000) or 1)),
            c.PlaceOrder(asked),
            c.ClosePosition(symbol),
            c.HaltTrading("a drill"),
            c.ResumeTrading("the drill is over"),
        ])  # fmt: skip
        await edge.engine.submit(name, command, request_id=f"r{number}", actor=SYSTEM)
    kinds: set[str] = set()
    for name in ("alice", "bob"):
        for event in await events(edge, account_id=name):
            answer = await explain(edge, event_revision=event.revision)
            assert answer.reproduced, (event.kind, event.payload)
            assert answer.summary
            kinds.add(event.kind)
    assert {"CommandRefused", "FillRecorded", "RiskLevelChanged", "LeverageSet"} <= kinds


async def test_a_decision_under_other_rules_is_not_reproduced_by_the_present_ones(edge: Edge) -> None:
    """The rules in force are part of the house's log: what they were then decides, whatever they are now."""
    await edge.long_bitcoin()
    await edge.engine.submit("alice", ReserveMargin(Order("BTCUSDT", Side.BUY, D("0.5"))), request_id="r", actor=SYSTEM)
    edge.engine.risk = msgspec.structs.replace(edge.engine.risk, margin_buffer=D(2), mark_max_age=timedelta(1))
    answer = await explain(edge, caused_by_request_id="r", account_id="alice")
    assert answer.reproduced
    assert figures(answer)["order.margin_required"] == "13750"


async def test_a_changed_input_is_not_reproduced(edge: Edge) -> None:
    """The check that decides again would notice: another price gives other bytes."""
    await edge.long_bitcoin()
    await edge.engine.submit("alice", SetLeverage("BTCUSDT", D(3)), request_id="r", actor=SYSTEM)
    shard, _ = edge.engine.revision("alice")
    rows: Any = edge.journal
    log = rows.rows(shard)
    row = next(one for one in reversed(log) if one.kind == "LeverageSet")
    changed = row.payload.replace(b'"price":"50000"', b'"price":"51000"')
    assert changed != row.payload
    log[row.position - 1] = msgspec.structs.replace(row, payload=changed)
    answer = await explain(edge, event_revision=types_pb2.Revision(shard=shard, position=row.position))
    assert not answer.reproduced


async def test_a_halt_that_stood_in_the_way_is_among_what_led_there(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.engine.submit_house(HaltHouse("fat finger"), request_id="", actor=SYSTEM)
    await edge.engine.submit(
        "alice", ReserveMargin(Order("BTCUSDT", Side.BUY, D("0.01"))), request_id="r", actor=SYSTEM
    )
    answer = await explain(edge, caused_by_request_id="r", account_id="alice")
    assert "TradingHalted" in [event.kind for event in answer.led_by]
    assert "ResumeTrading" in answer.remedy
    assert answer.reproduced


async def test_an_event_of_the_house_is_explained(edge: Edge) -> None:
    await edge.engine.submit_house(HaltHouse("fat finger"), request_id="h", actor=Actor("risk"))
    (halted,) = [one for one in (await edge.audit.ListAuditEvents(wire.ListAuditEventsRequest(), CALL)).events
                 if one.kind == "TradingHalted"]  # fmt: skip
    answer = await explain(edge, event_revision=halted.revision)
    assert answer.reproduced
    assert answer.summary == "HaltHouse of the house was carried out."


async def test_what_is_not_there_is_an_invalid_request(edge: Edge) -> None:
    await edge.long_bitcoin()
    for fields in (
        {},
        {"event_revision": types_pb2.Revision(shard=1, position=9999)},
        {"event_revision": types_pb2.Revision(shard=77, position=1)},
        {"caused_by_request_id": "never", "account_id": "alice"},
        {"caused_by_request_id": "never"},
    ):
        with pytest.raises(InvalidRequest):
            await explain(edge, **fields)
    with pytest.raises(Fault):
        await explain(edge, caused_by_request_id="x", account_id="nobody")


async def test_another_account_is_like_one_that_is_not_there(edge: Edge) -> None:
    await edge.long_bitcoin()
    shard, position = edge.engine.revision("alice")
    stranger: Any = CallOf("stranger")
    stranger.actor = Actor("stranger", "VIEWER", "test", frozenset({"bob"}))
    with pytest.raises(InvalidRequest) as there:
        await explain(edge, stranger, event_revision=types_pb2.Revision(shard=shard, position=position))
    with pytest.raises(InvalidRequest) as missing:
        await explain(edge, CALL, event_revision=types_pb2.Revision(shard=shard, position=position + 1))
    assert there.value.message.replace(f":{position}", "") == missing.value.message.replace(f":{position + 1}", "")


async def test_what_was_decided_after_a_restart_is_made_again(edge: Edge) -> None:
    """What is read from a snapshot has the order that its events gave it: level changes list prices in that order."""
    await edge.open()
    await edge.mark(BTCUSDT="50000", ETHUSDT="2500")
    for symbol, price in (("ETHUSDT", "2500"), ("BTCUSDT", "50000")):
        await edge.fill("alice", Side.BUY, "0.1", symbol, price)
    await edge.engine.stop()
    again = Edge(edge.journal, RULES)
    again.clock.now = edge.clock.now
    await again.engine.start()
    assert list(again.engine.account("alice").positions) == ["ETHUSDT", "BTCUSDT"]
    await again.mark(BTCUSDT="50000", ETHUSDT="2500")
    again.clock.advance(minutes=5)
    await again.engine.sweep()
    (changed,) = await events(again, "RiskLevelChanged")
    assert (await explain(again, event_revision=changed.revision)).reproduced
    await again.engine.stop()
