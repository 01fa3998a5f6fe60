"""Each value of the SDK has the fields of its message, and reads and writes them strictly."""

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor

import debt_mgmt.client as sdk
from debt_mgmt.client import (
    Account,
    Alert,
    Instrument,
    MalformedAnswer,
    MarginFigures,
    Mark,
    MarkUpdate,
    Order,
    OrderCheck,
    Revision,
    RiskLevel,
    RiskTier,
    Side,
)
from debt_mgmt.client.enums import WireEnum
from debt_mgmt.client.wire import plan, read, write
from debt_mgmt.v1 import account_service_pb2, margin_service_pb2, market_service_pb2, types_pb2
from tests.client.fake_service import SAMPLE_SECONDS, sample

POOL = descriptor_pool.Default()
PACKAGE = "debt_mgmt.v1"
GIVEN = {"revision": Revision(1, 2), "as_of": datetime(2026, 1, 1, tzinfo=UTC)}

OTHER_NAMES = {
    "OrderCheck": "CheckResult",
    "AccountCreated": "CreateAccountResponse",
    "AuditVerification": "VerifyAuditResponse",
    "EventExplanation": "ExplainEventResponse",
    "BatchCheck": "BatchCheckOrdersResponse",
    "CloseAccountOutcome": "CloseAccountResponse",
    "SyncAccountOutcome": "SyncAccountResponse",
    "SetDryRunOutcome": "SetDryRunResponse",
    "ReserveOutcome": "ReserveMarginResponse",
    "PlaceOrderOutcome": "PlaceOrderResponse",
    "CancelOrderOutcome": "CancelOrderResponse",
    "ReleaseOutcome": "ReleaseReservationResponse",
    "FillOutcome": "RecordFillResponse",
    "ClosePositionOutcome": "ClosePositionResponse",
    "Simulation": "SimulateMarginResponse",
    "SetLeverageOutcome": "SetLeverageResponse",
    "SetMarginModeOutcome": "SetMarginModeResponse",
    "AdjustIsolatedMarginOutcome": "AdjustIsolatedMarginResponse",
    "DepositOutcome": "DepositResponse",
    "WithdrawOutcome": "WithdrawResponse",
    "ResetFundsOutcome": "ResetFundsResponse",
    "BorrowOutcome": "BorrowResponse",
    "RepayOutcome": "RepayResponse",
    "RiskLimitsStatus": "GetRiskLimitsResponse",
    "AcknowledgeOutcome": "AcknowledgeAlertResponse",
    "SetRiskLimitsOutcome": "SetRiskLimitsResponse",
    "PutLimitSetOutcome": "PutLimitSetResponse",
    "DeleteLimitSetOutcome": "DeleteLimitSetResponse",
    "ApproveOutcome": "ApproveChangeResponse",
    "RejectOutcome": "RejectChangeResponse",
    "HaltOutcome": "HaltTradingResponse",
    "ResumeOutcome": "ResumeTradingResponse",
    "InstrumentPut": "PutInstrumentResponse",
    "FundingRateOutcome": "PublishFundingRateResponse",
    "MarksPublished": "PublishMarksResponse",
    "Caller": "GetCallerResponse",
    "TokenOutcome": "IssueTokenResponse",
    "RevokeTokenOutcome": "RevokeTokenResponse",
}
"""Values that are named otherwise than their message."""

NO_MESSAGE = {
    *("Answer", "Recorded", "Outcome"),  # what the answers have in common
    *("Snapshot", "Update", "AlertEvent", "LiquidationEvent"),  # events of a watch, made from one message
    *("Stale", "Resynced", "Disconnected", "Reconnected"),
    *("StreamedCheck", "RetryPolicy", "Timeouts"),
    "PeriodProfit",  # a part of ListFundHistoryResponse
}


def values() -> list[type[Any]]:
    named = (getattr(sdk, name) for name in sdk.__all__)
    return [kind for kind in named if inspect.isclass(kind) and is_dataclass(kind) and kind.__name__ not in NO_MESSAGE]


def enums() -> list[type[WireEnum]]:
    named = (getattr(sdk, name) for name in sdk.__all__)
    return [kind for kind in named if inspect.isclass(kind) and issubclass(kind, WireEnum)]


def message_of(kind: type[Any]) -> Descriptor:
    return POOL.FindMessageTypeByName(f"{PACKAGE}.{OTHER_NAMES.get(kind.__name__, kind.__name__)}")


@pytest.mark.parametrize("kind", values(), ids=lambda kind: kind.__name__)
def test_a_value_has_the_fields_of_its_message(kind: type[Any]) -> None:
    of_value = {field.name for field in fields(kind)}
    of_message = {field.name for field in message_of(kind).fields}
    assert of_value - of_message <= {"revision", "as_of"}
    assert of_message <= of_value


def full(kind: type[Any]) -> Any:
    made = sample(message_factory.GetMessageClass(message_of(kind)))
    if kind is sdk.PriceShock:
        made.fraction = "1"
    return made


def leaves(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@pytest.mark.parametrize("kind", values(), ids=lambda kind: kind.__name__)
def test_a_full_message_is_read_to_the_last_field(kind: type[Any]) -> None:
    source = full(kind)
    missing = {name: value for name, value in GIVEN.items() if name not in source.DESCRIPTOR.fields_by_name}
    wanted = {field.name for field in fields(kind)}
    value = read(kind, source, **{name: given for name, given in missing.items() if name in wanted})
    found = list(leaves(value))
    expected = (Decimal, str, int, datetime, timedelta, WireEnum)
    assert found
    assert [leaf for leaf in found if not isinstance(leaf, expected)] == ([None] if kind is sdk.PriceShock else [])


@pytest.mark.parametrize("kind", enums(), ids=lambda kind: kind.__name__)
def test_an_enum_has_the_names_of_the_wire(kind: type[WireEnum]) -> None:
    wire = POOL.FindEnumTypeByName(f"{PACKAGE}.{kind.__name__}")
    prefix = wire.values_by_number[0].name.removesuffix("UNSPECIFIED")
    assert [value.name.removeprefix(prefix) for value in wire.values if value.number] == [item.name for item in kind]
    assert all(item.name == item.value for item in kind)


def test_every_enum_of_the_answers_is_exported() -> None:
    here = {kind.__name__ for kind in enums()}
    used = {type(leaf).__name__ for kind in values() for leaf in leaves_of_full(kind) if isinstance(leaf, WireEnum)}
    assert used <= here


def leaves_of_full(kind: type[Any]) -> Iterator[Any]:
    given = {name: value for name, value in GIVEN.items() if name in {field.name for field in fields(kind)}}
    yield from leaves(read(kind, full(kind), **given))


def test_an_enum_is_made_from_its_name_in_any_case() -> None:
    assert Side("buy") is Side.BUY
    assert Side("Sell") is Side.SELL
    assert Side.BUY == "BUY"
    with pytest.raises(ValueError, match="'hold' is no Side: it is one of BUY, SELL"):
        Side("hold")


def test_an_enum_value_newer_than_the_sdk_is_read_and_not_sent() -> None:
    figures = types_pb2.MarginFigures(level=41)  # type: ignore[arg-type]
    level = read(MarginFigures, figures).level
    assert level == "UNRECOGNIZED_41"
    assert not level.recognized
    assert RiskLevel.NORMAL.recognized
    assert level not in list(RiskLevel)
    with pytest.raises(ValueError, match="UNRECOGNIZED_41"):
        write(read(MarginFigures, figures), types_pb2.MarginFigures.DESCRIPTOR)


def test_what_is_absent_is_none_and_never_zero() -> None:
    figures = read(MarginFigures, types_pb2.MarginFigures(level=types_pb2.RISK_LEVEL_UNKNOWN, margin_used="0"))
    assert figures.equity is None
    assert figures.margin_utilization is None
    assert figures.margin_used == 0


def test_an_empty_text_that_means_nothing_is_none() -> None:
    alert = sample(types_pb2.Alert)
    alert.account_id = ""
    alert.level = 0
    alert.ClearField("acknowledge_time")
    found = read(Alert, alert)
    assert (found.account_id, found.level, found.acknowledge_time) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("price", "", r"debt_mgmt\.v1\.Mark\.price is not a decimal: ''"),
        ("price", "NaN", "is not a decimal: 'NaN'"),
        ("price", "1e5", "is not a decimal: '1e5'"),
        ("received_time", None, r"debt_mgmt\.v1\.Mark\.received_time is missing"),
    ],
)
def test_an_answer_against_the_contract_is_an_error(field: str, value: str | None, problem: str) -> None:
    mark = sample(types_pb2.Mark)
    mark.ClearField(field)
    if value is not None:
        setattr(mark, field, value)
    with pytest.raises(MalformedAnswer, match=problem):
        read(Mark, mark)


def test_an_unspecified_enum_is_an_error_where_a_value_is_due() -> None:
    account = sample(account_service_pb2.Account)
    account.level = 0
    with pytest.raises(MalformedAnswer, match="level is unspecified"):
        read(Account, account)


def test_times_are_utc_and_spans_are_exact() -> None:
    mark = read(Mark, sample(types_pb2.Mark))
    assert mark.received_time == datetime.fromtimestamp(SAMPLE_SECONDS, UTC)
    assert mark.received_time.tzinfo is UTC
    assert mark.age == timedelta(seconds=1)


def test_what_is_written_is_read_back() -> None:
    order = Order("BTCUSDT", "sell", "0.05", 50000, reduce_only=True, position_side="long")
    wire = types_pb2.Order(**write(order, types_pb2.Order.DESCRIPTOR))
    assert wire.side == types_pb2.SIDE_SELL
    assert read(Order, wire) == order
    market = Order.buy("BTCUSDT", 1)
    assert not types_pb2.Order(**write(market, types_pb2.Order.DESCRIPTOR)).HasField("price")

    update = MarkUpdate("BTCUSDT", "50000", source_time=datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert read(
        MarkUpdate, market_service_pb2.MarkUpdate(**write(update, market_service_pb2.MarkUpdate.DESCRIPTOR))
    ) == (update)

    instrument = Instrument(
        "BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        settle_asset="USDT",
        lot="0.001",
        tick="0.1",
        min_quantity="0.001",
        maker_fee_rate="-0.0001",
        taker_fee_rate="0.0005",
        max_leverage=125,
        tiers=[RiskTier(0, 50000, "0.004", 125), RiskTier(50000, None, "0.005", 100, 50)],
    )
    wire_instrument = market_service_pb2.Instrument(**write(instrument, market_service_pb2.Instrument.DESCRIPTOR))
    assert not wire_instrument.HasField("max_quantity")
    assert read(Instrument, wire_instrument) == instrument


def test_a_time_without_a_zone_is_refused() -> None:
    update = MarkUpdate("BTCUSDT", 1, source_time=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="source_time must have a time zone"):
        write(update, market_service_pb2.MarkUpdate.DESCRIPTOR)


def test_values_can_not_be_changed() -> None:
    order = Order.buy("BTCUSDT", 1)
    with pytest.raises(AttributeError):
        order.quantity = Decimal(2)  # type: ignore[misc]
    assert hash(order) == hash(Order.buy("BTCUSDT", "1"))


def test_a_reading_plan_is_made_once() -> None:
    descriptor = margin_service_pb2.CheckResult.DESCRIPTOR
    key: Any = OrderCheck
    assert plan(key, descriptor) is plan(key, descriptor)
