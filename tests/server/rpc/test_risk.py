"""RiskService: limits and their use, halts of every scope, and alerts."""

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from debt_mgmt.core.account import Limits, Side, TradingState
from debt_mgmt.core.check import check
from debt_mgmt.core.commands import Order
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.actor import Actor
from debt_mgmt.server.rpc.risk import LIMIT_FIELDS
from debt_mgmt.v1 import rejections_pb2, types_pb2
from debt_mgmt.v1 import risk_service_pb2 as wire
from tests.server.rpc.edge import CALL, START, CallOf, Edge, without_replayed
from tests.server.rpc.test_validate import BAD_DECIMALS


def change(request_id: str = "limits", mask: list[str] | None = None, **limits: Any) -> wire.SetRiskLimitsRequest:
    request = wire.SetRiskLimitsRequest(request_id=request_id, account_id="alice", limits=wire.RiskLimits(**limits))
    if mask is not None:
        request.update_mask.CopyFrom(FieldMask(paths=mask))
    return request


async def limits(edge: Edge) -> wire.GetRiskLimitsResponse:
    return await edge.risk.GetRiskLimits(wire.GetRiskLimitsRequest(account_id="alice"), CALL)


def test_every_limit_of_the_contract_is_kept_by_the_core() -> None:
    assert set(LIMIT_FIELDS) == set(wire.RiskLimits.DESCRIPTOR.fields_by_name)
    assert {field for fields in LIMIT_FIELDS.values() for field in fields} == set(Limits.__struct_fields__)


async def test_limits_come_from_the_configuration_until_they_are_set(edge: Edge) -> None:
    await edge.open()
    found = await limits(edge)
    assert not found.own_limits
    assert (found.limits.max_leverage, found.limits.max_concurrent_positions) == ("5", 20)
    assert not found.limits.HasField("max_position_notional")
    assert found.thresholds.margin_call_threshold == "0.7"
    answer = await edge.risk.SetRiskLimits(
        change(
            max_leverage="3",
            max_position_notional="1000",
            max_order_rate=wire.OrderRate(orders=5, interval=Duration(seconds=10)),
            breaker_cool_down=Duration(seconds=60),
        ),
        CALL,
    )
    assert answer.accepted
    found = await limits(edge)
    assert found.limits == answer.limits
    own = ["max_leverage", "max_position_notional", "max_order_rate", "breaker_cool_down"]
    assert list(found.own_limits) == own
    assert (found.limits.max_order_rate.orders, found.limits.max_order_rate.interval.seconds) == (5, 10)
    assert found.limits.max_concurrent_positions == 20


async def test_a_limit_that_is_named_and_absent_goes_back_to_the_configured_one(edge: Edge) -> None:
    await edge.open()
    await edge.risk.SetRiskLimits(change(max_concurrent_positions=3, max_daily_loss="50"), CALL)
    answer = await edge.risk.SetRiskLimits(change("back", ["max_concurrent_positions"], max_daily_loss="1"), CALL)
    assert answer.limits.max_concurrent_positions == 20
    assert answer.limits.max_daily_loss == "50"
    assert list((await limits(edge)).own_limits) == ["max_daily_loss"]


async def test_a_repeated_change_shows_the_limits_that_it_set(edge: Edge) -> None:
    await edge.open()
    first = await edge.risk.SetRiskLimits(change(max_daily_loss="50"), CALL)
    await edge.risk.SetRiskLimits(change("more", max_daily_loss="90"), CALL)
    assert without_replayed(await edge.risk.SetRiskLimits(change(max_daily_loss="50"), CALL)) == first


@pytest.mark.parametrize(
    ("request_of", "fields"),
    [
        (change(), ["limits"]),
        (change(mask=["no_limit", "max_leverage"]), ["update_mask.paths[0]"]),
        (change(max_leverage="0.5"), ["limits.max_leverage"]),
        (change(max_leverage="5.01"), ["limits.max_leverage"]),
        (change(max_concurrent_positions=0), ["limits.max_concurrent_positions"]),
        (change(max_open_reservations=-1), ["limits.max_open_reservations"]),
        (change(max_daily_loss="0"), ["limits.max_daily_loss"]),
        (change(max_daily_loss_fraction="1.5"), ["limits.max_daily_loss_fraction"]),
        (change(max_drawdown_fraction="0"), ["limits.max_drawdown_fraction"]),
        (change(max_order_rate=wire.OrderRate()), ["limits.max_order_rate.orders", "limits.max_order_rate.interval"]),
        (
            change(max_order_rate=wire.OrderRate(orders=1, interval=Duration(nanos=500_000_000))),
            ["limits.max_order_rate.interval"],
        ),
        (change(breaker_cool_down=Duration(seconds=-1)), ["limits.breaker_cool_down"]),
        *((change(max_position_quantity=text), ["limits.max_position_quantity"]) for text in BAD_DECIMALS),
    ],
)
async def test_bad_limits_are_named(edge: Edge, request_of: wire.SetRiskLimitsRequest, fields: list[str]) -> None:
    await edge.open()
    with pytest.raises(InvalidRequest) as raised:
        await edge.risk.SetRiskLimits(request_of, CALL)
    assert [field for field, _ in raised.value.problems] == fields


async def test_every_protection_is_shown_on_or_off(edge: Edge) -> None:
    await edge.long_bitcoin()
    found = await limits(edge)
    protections = {one.protection: one for one in found.protections}
    assert list(protections) == [number for number in wire.Protection.values() if number]
    for one in found.protections:
        assert one.off is not one.HasField("limit")
        assert not one.off or one.note
    assert protections[wire.PROTECTION_POSITION_NOTIONAL].off
    leverage = protections[wire.PROTECTION_LEVERAGE]
    assert (leverage.used, leverage.limit, leverage.headroom, leverage.subject) == ("2", "5", "3", "BTCUSDT")
    forced = protections[wire.PROTECTION_FORCED_LIQUIDATION]
    assert (forced.used, forced.limit, forced.headroom, forced.note) == ("0.25", "0.9", "0.65", "")
    assert protections[wire.PROTECTION_CONCURRENT_POSITIONS].used == "1"
    await edge.risk.SetRiskLimits(
        change(max_position_notional="6000", max_exposure_notional="4000", max_position_quantity="1"), CALL
    )
    protections = {one.protection: one for one in (await limits(edge)).protections}
    notional = protections[wire.PROTECTION_POSITION_NOTIONAL]
    assert (notional.used, notional.headroom, notional.subject) == ("5000", "1000", "BTCUSDT")
    exposure = protections[wire.PROTECTION_EXPOSURE_NOTIONAL]
    assert (exposure.used, exposure.headroom) == ("5000", "0")
    assert protections[wire.PROTECTION_POSITION_QUANTITY].used == "0.1"


async def test_losses_are_measured_from_their_baselines(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.mark(BTCUSDT="40000")
    found = await limits(edge)
    protections = {one.protection: one for one in found.protections}
    assert protections[wire.PROTECTION_DAILY_LOSS_FRACTION].used == "0.1"
    assert protections[wire.PROTECTION_DRAWDOWN].headroom == "0.4"
    daily, drawdown = found.breakers
    assert (daily.kind, drawdown.kind) == (wire.BREAKER_KIND_DAILY_LOSS, wire.BREAKER_KIND_DRAWDOWN)
    assert (daily.baseline, daily.loss, daily.tripped) == ("10000", "1000", False)
    assert not daily.HasField("trip_time")
    await edge.mark(BTCUSDT="30000")
    daily = (await limits(edge)).breakers[0]
    assert (daily.tripped, daily.loss) == (True, "2000")
    assert daily.trip_time.ToDatetime(UTC) == START
    assert daily.reset_time.ToDatetime(UTC) == START + timedelta(hours=1)


async def test_protections_say_when_they_wait_for_prices(edge: Edge) -> None:
    await edge.long_bitcoin()
    edge.clock.advance(seconds=40)
    protections = {one.protection: one for one in (await limits(edge)).protections}
    assert "waits" in protections[wire.PROTECTION_FORCED_LIQUIDATION].note
    age = protections[wire.PROTECTION_PRICE_AGE]
    assert (age.used, age.limit, age.headroom, age.subject) == ("40", "10", "0", "BTCUSDT")
    del edge.engine.marks["BTCUSDT"]
    protections = {one.protection: one for one in (await limits(edge)).protections}
    assert not protections[wire.PROTECTION_FORCED_LIQUIDATION].HasField("used")
    assert not protections[wire.PROTECTION_PRICE_AGE].HasField("used")


# Halts


def halt(request_id: str = "halt", **scope: Any) -> wire.HaltTradingRequest:
    return wire.HaltTradingRequest(request_id=request_id, reason="exchange down", **scope)


def resume(request_id: str = "resume", **scope: Any) -> wire.ResumeTradingRequest:
    return wire.ResumeTradingRequest(request_id=request_id, reason="up again", **scope)


@pytest.mark.parametrize(
    ("scope", "halted", "count"),
    [
        ({"account_id": "alice"}, {"alice"}, 1),
        ({"owner": "desk"}, {"alice", "bob"}, 2),
        ({"everything": True}, {"alice", "bob", "carol"}, 3),
    ],
)
async def test_a_halt_stops_its_scope_until_it_is_resumed(
    edge: Edge, scope: dict[str, Any], halted: set[str], count: int
) -> None:
    for account_id, owner in (("alice", "desk"), ("bob", "desk"), ("carol", "carol")):
        await edge.open(account_id, owner=owner)

    async def states() -> set[str]:
        found = set()
        for account_id in edge.engine.accounts():
            answer = await edge.risk.GetRiskLimits(wire.GetRiskLimitsRequest(account_id=account_id), CALL)
            if answer.trading_state == types_pb2.TRADING_STATE_HALTED:
                assert answer.trading_state_reason == "exchange down"
                found.add(account_id)
        return found

    first = await edge.risk.HaltTrading(halt(**scope), CALL)
    assert (first.accepted, first.account_count) == (True, count)
    assert await states() == halted
    resumed = await edge.risk.ResumeTrading(resume(**scope), CALL)
    assert (resumed.accepted, resumed.account_count) == (True, count)
    assert await states() == set()
    refused = await edge.risk.ResumeTrading(resume("again", **scope), CALL)
    assert [one.reason for one in refused.violations] == [rejections_pb2.REFUSAL_REASON_ALREADY_IN_STATE]
    edge.clock.advance(seconds=1)
    await edge.open("later", owner="desk")
    assert without_replayed(await edge.risk.HaltTrading(halt(**scope), CALL)) == first
    assert await states() == set()


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        ({}, ["scope"]),
        ({"everything": False}, ["everything"]),
        ({"owner": ""}, ["owner"]),
        ({"account_id": "a b"}, ["account_id"]),
    ],
)
async def test_a_halt_without_a_scope_is_no_halt_of_everything(
    edge: Edge, scope: dict[str, Any], fields: list[str]
) -> None:
    for method, request in ((edge.risk.HaltTrading, halt(**scope)), (edge.risk.ResumeTrading, resume(**scope))):
        with pytest.raises(InvalidRequest) as raised:
            await method(request, CALL)  # type: ignore[arg-type]
        assert [field for field, _ in raised.value.problems] == fields
    assert not edge.engine.house.halts


# Alerts


async def alerts(edge: Edge, **fields: Any) -> list[tuple[str, str]]:
    answer = await edge.risk.ListAlerts(wire.ListAlertsRequest(**fields), CALL)
    return [(alert.account_id, types_pb2.AlertKind.Name(alert.kind)[11:]) for alert in answer.alerts]


async def test_alerts_are_listed_newest_first_and_filters_add_up(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.long_bitcoin("bob")
    edge.clock.advance(minutes=1)
    await edge.mark(BTCUSDT="50000")
    await edge.risk.HaltTrading(halt(account_id="bob"), CALL)
    edge.clock.advance(minutes=1)
    await edge.mark(BTCUSDT="50000")
    await edge.risk.ResumeTrading(resume(account_id="bob"), CALL)
    await edge.risk.HaltTrading(halt("other", account_id="alice"), CALL)
    everything = await alerts(edge)
    assert everything[-1] == ("bob", "TRADING_HALTED")
    assert sorted(everything[:2]) == [("alice", "TRADING_HALTED"), ("bob", "TRADING_RESUMED")]
    assert await alerts(edge, account_id="bob") == [("bob", "TRADING_RESUMED"), ("bob", "TRADING_HALTED")]
    assert await alerts(edge, kinds=[types_pb2.ALERT_KIND_TRADING_RESUMED]) == [("bob", "TRADING_RESUMED")]
    critical = await alerts(edge, min_severity=types_pb2.ALERT_SEVERITY_CRITICAL)
    assert critical == [("alice", "TRADING_HALTED"), ("bob", "TRADING_HALTED")]
    between = Timestamp()
    between.FromDatetime(START + timedelta(minutes=2))
    assert await alerts(edge, end_time=between) == [("bob", "TRADING_HALTED")]
    assert len(await alerts(edge, start_time=between)) == 2
    assert len(await alerts(edge, unacknowledged_only=True)) == 3


async def test_alerts_are_paged(edge: Edge) -> None:
    await edge.open()
    for number in range(5):
        edge.clock.advance(seconds=1)
        await edge.risk.HaltTrading(halt(f"h-{number}", account_id="alice"), CALL)
    found: list[str] = []
    request = wire.ListAlertsRequest(account_id="alice", page_size=2)
    while True:
        answer = await edge.risk.ListAlerts(request, CALL)
        found += [alert.alert_id for alert in answer.alerts]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert found == [alert.alert_id for alert in reversed(edge.engine.account("alice").alerts)]


async def test_bad_filters_are_named(edge: Edge) -> None:
    request = wire.ListAlertsRequest(
        account_id="a b",
        page_size=-1,
        kinds=[0, 99],  # type: ignore[list-item]
        min_severity=9,  # type: ignore[arg-type]
        start_time=Timestamp(seconds=10),
        end_time=Timestamp(seconds=5),
    )
    with pytest.raises(InvalidRequest) as raised:
        await edge.risk.ListAlerts(request, CALL)
    assert {field for field, _ in raised.value.problems} == {
        "account_id", "page_size", "kinds[0]", "kinds[1]", "min_severity", "end_time",
    }  # fmt: skip
    with pytest.raises(Fault) as missing:
        await edge.risk.ListAlerts(wire.ListAlertsRequest(account_id="nobody"), CALL)
    assert missing.value.reason is FaultReason.ACCOUNT_NOT_FOUND


def acknowledge(request_id: str, alert_id: str, note: str = "") -> wire.AcknowledgeAlertRequest:
    return wire.AcknowledgeAlertRequest(request_id=request_id, alert_id=alert_id, note=note)


async def test_an_alert_that_was_acknowledged_says_by_whom_and_when(edge: Edge) -> None:
    await edge.open()
    await edge.risk.HaltTrading(halt(account_id="alice"), CALL)
    await edge.risk.HaltTrading(halt("again", account_id="alice"), CALL)
    first, second = (one.alert_id for one in edge.engine.account("alice").alerts)
    edge.clock.advance(minutes=3)
    answer = await edge.risk.AcknowledgeAlert(acknowledge("seen", first, "on it"), CALL)
    assert answer.accepted and answer.alert.acknowledged and answer.alert.alert_id == first
    assert answer.alert.acknowledged_by == "desk"
    assert answer.alert.acknowledge_time.ToDatetime(UTC) == START + timedelta(minutes=3)
    assert edge.engine.account("alice").trading_state is TradingState.HALTED, "an alert is seen; nothing is resumed"
    listed = await edge.risk.ListAlerts(wire.ListAlertsRequest(), CALL)
    assert [(one.alert_id, one.acknowledged) for one in listed.alerts] == [(second, False), (first, True)]
    left = await edge.risk.ListAlerts(wire.ListAlertsRequest(unacknowledged_only=True), CALL)
    assert [one.alert_id for one in left.alerts] == [second]


async def test_only_the_first_who_acknowledges_is_kept(edge: Edge) -> None:
    await edge.open()
    await edge.risk.HaltTrading(halt(account_id="alice"), CALL)
    alert_id = edge.engine.account("alice").alerts[0].alert_id
    await edge.risk.AcknowledgeAlert(acknowledge("one", alert_id), CALL)
    later: Any = CallOf("other")
    answer = await edge.risk.AcknowledgeAlert(acknowledge("two", alert_id), later)
    assert not answer.accepted
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_ALREADY_IN_STATE]
    assert answer.alert.acknowledged_by == "desk"


async def test_anothers_alert_is_one_that_does_not_exist(edge: Edge) -> None:
    await edge.open()
    await edge.open("bob")
    await edge.risk.HaltTrading(halt(account_id="bob"), CALL)
    alert_id = edge.engine.account("bob").alerts[0].alert_id
    limited: Any = CallOf()
    limited.actor = Actor("bot", "TRADER", accounts=frozenset({"alice"}))
    told = []
    for wanted in (alert_id, "1-99999", "nothing"):
        with pytest.raises(Fault) as raised:
            await edge.risk.AcknowledgeAlert(acknowledge("r", wanted), limited)
        assert raised.value.reason is FaultReason.ALERT_NOT_FOUND
        told.append(raised.value.message.replace(wanted, "…"))
    assert len(set(told)) == 1
    assert edge.engine.account("bob").alerts[0].acknowledged_at is None


async def test_a_limit_that_is_set_refuses_orders(edge: Edge) -> None:
    """The limits of the wire are the ones that the core checks by."""
    await edge.long_bitcoin()
    await edge.risk.SetRiskLimits(change(max_concurrent_positions=1), CALL)
    await edge.mark(ETHUSDT="3000")
    result = check(edge.engine.view("alice"), Order("ETHUSDT", Side.BUY, Decimal(1)), edge.clock())
    assert [one.reason.value for one in result.violations] == ["CONCURRENT_POSITIONS"]
