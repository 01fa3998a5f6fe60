"""LeverageService: caps by name, what would be is what is done, and nothing lowered silently."""

from typing import Any

import pytest

from debt_mgmt.core.account import Side
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.v1 import leverage_service_pb2 as wire
from debt_mgmt.v1 import rejections_pb2, types_pb2
from tests.server.rpc.edge import CALL, Edge, without_replayed
from tests.server.rpc.test_validate import BAD_DECIMALS


def setting(leverage: str = "5", **fields: Any) -> wire.SetLeverageRequest:
    given = {"request_id": f"set-{leverage}", "account_id": "alice", "symbol": "BTCUSDT", "leverage": leverage}
    return wire.SetLeverageRequest(**(given | fields))


async def shown(edge: Edge, symbol: str = "BTCUSDT") -> wire.LeverageSetting:
    request = wire.GetLeverageRequest(account_id="alice", symbol=symbol)
    return (await edge.leverage.GetLeverage(request, CALL)).setting


async def test_the_default_is_said_to_be_one(edge: Edge) -> None:
    await edge.open()
    found = await shown(edge)
    assert (found.leverage, found.is_default, found.state) == ("2", True, wire.LEVERAGE_STATE_CONFIRMED)
    assert found.maximum == "5"
    assert [(cap.source, cap.maximum) for cap in found.caps] == [
        (wire.LEVERAGE_CAP_SOURCE_ACCOUNT, "5"),
        (wire.LEVERAGE_CAP_SOURCE_TIER, "100"),
        (wire.LEVERAGE_CAP_SOURCE_INSTRUMENT, "125"),
    ]


async def test_the_brokers_cap_is_named(edge: Edge) -> None:
    await edge.open(broker="bybit")
    found = await shown(edge)
    assert found.maximum == "3"
    assert found.caps[0].source == wire.LEVERAGE_CAP_SOURCE_BROKER
    refused = await edge.leverage.SetLeverage(setting("4"), CALL)
    assert [one.reason for one in refused.violations] == [rejections_pb2.REFUSAL_REASON_LEVERAGE_ABOVE_BROKER]
    assert refused.setting.leverage == "2"


async def test_setting_leverage_margins_the_position_anew(edge: Edge) -> None:
    await edge.long_bitcoin()
    answer = await edge.leverage.SetLeverage(setting("5"), CALL)
    assert answer.accepted
    assert (answer.setting.leverage, answer.setting.is_default) == ("5", False)
    assert (answer.before.margin_used, answer.after.margin_used) == ("2500", "1000")
    assert await shown(edge) == answer.setting


async def test_leverage_above_the_cap_is_refused_with_what_would_have_been(edge: Edge) -> None:
    await edge.long_bitcoin()
    answer = await edge.leverage.SetLeverage(setting("10"), CALL)
    assert not answer.accepted
    (violation,) = answer.violations
    assert violation.reason == rejections_pb2.REFUSAL_REASON_LEVERAGE_ABOVE_ACCOUNT
    assert (violation.value, violation.limit) == ("10", "5")
    assert (answer.before.margin_used, answer.after.margin_used, answer.setting.leverage) == ("2500", "500", "2")


@pytest.mark.parametrize("leverage", ["1", "3", "5", "2.5", "0.5", "7", "2.005"])
async def test_validating_says_what_setting_would(edge: Edge, leverage: str) -> None:
    await edge.long_bitcoin()
    before = edge.engine.revision("alice")
    would = await edge.leverage.SetLeverage(setting(leverage, validate_only=True, request_id=""), CALL)
    assert edge.engine.revision("alice") == before
    assert not would.replayed
    done = await edge.leverage.SetLeverage(setting(leverage), CALL)
    would.ClearField("revision")
    done.ClearField("revision")
    assert would == done


async def test_a_repeated_setting_shows_what_was_true_then(edge: Edge) -> None:
    await edge.long_bitcoin()
    first = await edge.leverage.SetLeverage(setting("5"), CALL)
    await edge.leverage.SetLeverage(setting("4"), CALL)
    await edge.mark(BTCUSDT="50100")
    again = await edge.leverage.SetLeverage(setting("5"), CALL)
    assert again.replayed
    assert (again.setting, again.after, again.revision, again.as_of) == (
        first.setting, first.after, first.revision, first.as_of,
    )  # fmt: skip
    # The figures before are in no event: they are not known any more, and so absent.
    assert not again.HasField("before")


@pytest.mark.parametrize("text", [*BAD_DECIMALS, "0", "-1"])
async def test_a_bad_leverage_is_named(edge: Edge, text: str) -> None:
    await edge.open()
    with pytest.raises(InvalidRequest) as raised:
        await edge.leverage.SetLeverage(setting(text, request_id="r"), CALL)
    assert [field for field, _ in raised.value.problems] == ["leverage"]


async def test_the_broker_that_the_caller_believes_in_is_compared(edge: Edge) -> None:
    await edge.open()
    with pytest.raises(InvalidRequest) as raised:
        await edge.leverage.SetLeverage(setting("3", broker="bybit"), CALL)
    assert raised.value.problems == [("broker", "the account is at paper")]
    assert (await edge.leverage.SetLeverage(setting("3", broker="paper"), CALL)).accepted


async def test_an_unknown_instrument_is_not_found(edge: Edge) -> None:
    await edge.open()
    for validate_only in (True, False):
        request = setting("3", symbol="NOUSDT", validate_only=validate_only)
        with pytest.raises(Fault) as raised:
            await edge.leverage.SetLeverage(request, CALL)
        assert raised.value.reason is FaultReason.INSTRUMENT_NOT_FOUND
    with pytest.raises(Fault) as raised:
        await shown(edge, "NOUSDT")
    assert raised.value.metadata == {"symbol": "NOUSDT"}


async def test_leverage_is_listed_where_there_is_something_to_show(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.leverage.SetLeverage(setting("4", symbol="ETHUSDT"), CALL)
    request = wire.ListLeverageRequest(account_id="alice", page_size=1)
    first = await edge.leverage.ListLeverage(request, CALL)
    assert [(one.symbol, one.leverage) for one in first.settings] == [("BTCUSDT", "2")]
    request.page_token = first.next_page_token
    second = await edge.leverage.ListLeverage(request, CALL)
    assert [(one.symbol, one.leverage) for one in second.settings] == [("ETHUSDT", "4")]
    assert not second.next_page_token


async def test_the_caps_of_every_instrument_are_listed(edge: Edge) -> None:
    await edge.open(broker="coinbase")
    answer = await edge.leverage.ListLeverageLimits(wire.ListLeverageLimitsRequest(account_id="alice"), CALL)
    assert [one.symbol for one in answer.limits] == ["BTCUSDT", "ETHUSDT"]
    limits = answer.limits[0]
    assert (limits.account_maximum, limits.broker_maximum, limits.instrument_maximum) == ("5", "1", "125")
    assert (limits.maximum, limits.leverage_step) == ("1", "0.01")
    assert not limits.tiers[-1].HasField("notional_to")
    one = wire.ListLeverageLimitsRequest(account_id="alice", symbols=["ETHUSDT", "ETHUSDT", "NOUSDT"])
    assert [each.symbol for each in (await edge.leverage.ListLeverageLimits(one, CALL)).limits] == ["ETHUSDT"]


# Margin mode and isolated margin


def mode(number: int, request_id: str = "mode", symbol: str = "BTCUSDT") -> wire.SetMarginModeRequest:
    return wire.SetMarginModeRequest(
        request_id=request_id,
        account_id="alice",
        symbol=symbol,
        margin_mode=number,  # type: ignore[arg-type]
    )


async def test_the_margin_mode_changes_without_a_position_only(edge: Edge) -> None:
    await edge.open()
    first = await edge.leverage.SetMarginMode(mode(types_pb2.MARGIN_MODE_ISOLATED), CALL)
    assert first.accepted
    assert first.setting.margin_mode == types_pb2.MARGIN_MODE_ISOLATED
    await edge.leverage.SetMarginMode(mode(types_pb2.MARGIN_MODE_CROSS, "back"), CALL)
    again = await edge.leverage.SetMarginMode(mode(types_pb2.MARGIN_MODE_ISOLATED), CALL)
    assert without_replayed(again) == first
    await edge.mark(BTCUSDT="50000")
    await edge.fill("alice", Side.BUY, "0.1", "BTCUSDT", "50000")
    refused = await edge.leverage.SetMarginMode(mode(types_pb2.MARGIN_MODE_ISOLATED, "late"), CALL)
    assert [one.reason for one in refused.violations] == [rejections_pb2.REFUSAL_REASON_MARGIN_MODE_WITH_POSITION]
    assert refused.setting.margin_mode == types_pb2.MARGIN_MODE_CROSS


@pytest.mark.parametrize("number", [0, 3, -1])
async def test_a_margin_mode_must_be_one(edge: Edge, number: int) -> None:
    await edge.open()
    with pytest.raises(InvalidRequest) as raised:
        await edge.leverage.SetMarginMode(mode(number), CALL)
    assert [field for field, _ in raised.value.problems] == ["margin_mode"]


def adjustment(amount: str, request_id: str = "adjust", **fields: Any) -> wire.AdjustIsolatedMarginRequest:
    return wire.AdjustIsolatedMarginRequest(
        request_id=request_id, account_id="alice", symbol="BTCUSDT", amount=amount, **fields
    )


async def test_isolated_margin_moves_both_ways(edge: Edge) -> None:
    await edge.open()
    await edge.leverage.SetMarginMode(mode(types_pb2.MARGIN_MODE_ISOLATED), CALL)
    await edge.mark(BTCUSDT="50000")
    await edge.fill("alice", Side.BUY, "0.1", "BTCUSDT", "50000")
    more = await edge.leverage.AdjustIsolatedMargin(adjustment("300"), CALL)
    assert more.accepted
    assert (more.position.isolated_margin, more.removable, more.after.margin_available) == ("2800", "300", "7200")
    too_much = await edge.leverage.AdjustIsolatedMargin(adjustment("-301", "much"), CALL)
    assert [one.reason for one in too_much.violations] == [rejections_pb2.REFUSAL_REASON_ISOLATED_MARGIN_BELOW_REQUIRED]
    assert (too_much.position.isolated_margin, too_much.removable) == ("2800", "300")
    less = await edge.leverage.AdjustIsolatedMargin(adjustment("-300", "less"), CALL)
    assert (less.position.isolated_margin, less.removable) == ("2500", "0")
    again = await edge.leverage.AdjustIsolatedMargin(adjustment("300"), CALL)
    assert without_replayed(again) == more


async def test_a_cross_position_has_no_margin_of_its_own(edge: Edge) -> None:
    await edge.long_bitcoin()
    answer = await edge.leverage.AdjustIsolatedMargin(adjustment("1"), CALL)
    assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_NO_POSITION]
    assert not answer.HasField("removable")


async def test_the_leg_of_a_hedge_account_must_be_named(edge: Edge) -> None:
    await edge.open(position_mode=types_pb2.POSITION_MODE_HEDGE)
    with pytest.raises(InvalidRequest) as raised:
        await edge.leverage.AdjustIsolatedMargin(adjustment("0"), CALL)
    assert [field for field, _ in raised.value.problems] == ["position_side", "amount"]
    named = adjustment("1", position_side=types_pb2.POSITION_SIDE_LONG)
    assert not (await edge.leverage.AdjustIsolatedMargin(named, CALL)).accepted
