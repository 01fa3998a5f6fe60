"""JSON becomes the message that was meant, or names every field that does not fit; no digit of a number is lost."""

import json
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core.faults import InvalidRequest
from debt_mgmt.server.web.json_messages import PROBLEMS_MOST, json_bytes, read_json, read_message, read_query, written
from debt_mgmt.v1 import (
    fund_service_pb2,
    leverage_service_pb2,
    margin_service_pb2,
    market_service_pb2,
    risk_service_pb2,
    types_pb2,
)
from tests.support.wire import METHODS


def read(text: str | bytes, message: Any) -> Any:
    read_message(read_json(text.encode() if isinstance(text, str) else text), message)
    return message


def problems(text: str | bytes, message: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as invalid:
        read(text, message)
    return dict(invalid.value.problems)


@pytest.mark.parametrize(
    ("written_as", "meant"),
    [
        ("3.0", "3.0"),
        ("3", "3"),
        ('"3.0"', "3.0"),
        ("0.1", "0.1"),
        ("0.100000000000000005", "0.100000000000000005"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("-0.5", "-0.5"),
        ("1.5e-1", "0.15"),
        ("3E2", "300"),
        ("1e999999999", "1e999999999"),
        ("1e-19", "1e-19"),
    ],
)
def test_a_number_is_taken_by_its_digits(written_as: str, meant: str) -> None:
    message = read(f'{{"leverage": {written_as}}}', leverage_service_pb2.SetLeverageRequest())
    assert message.leverage == meant


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**19), max_value=10**19))
def test_no_digit_of_any_number_is_lost(number: Decimal) -> None:
    message = read(f'{{"leverage": {number:f}}}', leverage_service_pb2.SetLeverageRequest())
    assert Decimal(message.leverage) == number
    assert message.leverage == format(number, "f")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_is_written_is_read_back_for_every_message_of_the_contract(name: str) -> None:
    for kind in (METHODS[name].input_type, METHODS[name].output_type):
        message = filled(GetMessageClass(kind)())
        back = GetMessageClass(kind)()
        read_message(read_json(json_bytes(written(message))), back)
        assert back == message
        again = GetMessageClass(kind)()
        read_message(json.loads(json_format.MessageToJson(message)), again)
        assert again == message, "camel case, as protobuf writes it"


def filled(message: Any) -> Any:
    """The message with something in every field; the last of each oneof, and nothing deeper than needed."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.full_name.startswith("google.protobuf."):
            child = getattr(message, field.name)
            if field.message_type.name == "FieldMask":
                child.paths.append("max_leverage")
            else:
                child.seconds, child.nanos = 5, 250_000_000
        elif field.message_type is not None and field.is_repeated:
            filled(getattr(message, field.name).add())
        elif field.message_type is not None:
            child = getattr(message, field.name)
            child.SetInParent()
            filled(child)
        else:
            value: Any = (
                "7.50" if field.type == field.TYPE_STRING else b"\x00\xff" if field.type == field.TYPE_BYTES else 1
            )
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def test_every_field_that_does_not_fit_is_named() -> None:
    body = """{
        "request_id": ["a"], "account": "alice", "order": {
            "symbol": {}, "side": "BUY", "quantity": true, "price": null, "reduce_only": "yes", "positionSide": 7.5
        }, "time_to_live": 30
    }"""
    found = problems(body, margin_service_pb2.ReserveMarginRequest())
    assert found["account"] == "is no field of ReserveMarginRequest; did you mean account_id?"
    assert found["order.side"] == "must be one of SIDE_BUY, SIDE_SELL"
    assert found["order.reduce_only"] == "must be true or false"
    assert found["time_to_live"] == 'must be seconds such as "2.5s"'
    assert set(found) == {
        "request_id",
        "account",
        "order.symbol",
        "order.side",
        "order.quantity",
        "order.reduce_only",
        "order.positionSide",
        "time_to_live",
    }


TWO = ("changes[0].order", "only one of")


@pytest.mark.parametrize(
    ("body", "message", "field", "words"),
    [
        ('{"orders": {}}', margin_service_pb2.BatchCheckOrdersRequest(), "orders", "must be a list"),
        ('{"orders": [{}, 1]}', margin_service_pb2.BatchCheckOrdersRequest(), "orders[1]", "must be an object"),
        ('{"orders": [{"prize": 1}]}', margin_service_pb2.BatchCheckOrdersRequest(), "orders[0].prize", "price?"),
        ('{"order": []}', margin_service_pb2.CheckOrderRequest(), "order", "must be an object"),
        ('{"page_size": 1.5}', margin_service_pb2.ListPositionsRequest(), "page_size", "must be a whole number"),
        ('{"page_size": 99999999999}', margin_service_pb2.ListPositionsRequest(), "page_size", "in range"),
        ('{"page_size": true}', margin_service_pb2.ListPositionsRequest(), "page_size", "must be a whole number"),
        ('{"symbols": "BTCUSDT"}', margin_service_pb2.ListPositionsRequest(), "symbols", "each in a list"),
        ('{"symbols": [null]}', margin_service_pb2.ListPositionsRequest(), "symbols", "each in a list"),
        ('{"start_time": "today"}', fund_service_pb2.ListFundHistoryRequest(), "start_time", "2026-03-02T09:00:00Z"),
        ('{"account_id": "\\ud800"}', margin_service_pb2.GetMarginStatusRequest(), "account_id", "must be text"),
        ('{"cause": "\\ud800"}', margin_service_pb2.ListLiquidationsRequest(), "cause", "must be one of"),
        ('{"account_id": "a", "account_id": "b"}', margin_service_pb2.GetMarginStatusRequest(), "account_id", "twice"),
        ('{"account_id": "a", "accountId": "b"}', margin_service_pb2.GetMarginStatusRequest(), "accountId", "twice"),
        ('{"changes": [{"fill": {}, "order": {}}]}', margin_service_pb2.SimulateMarginRequest(), *TWO),
        ('{"symbols": [' + "1," * 10_000 + "1]}", margin_service_pb2.ListPositionsRequest(), "symbols", "10001 items"),
        ('{"update_mask": {}}', risk_service_pb2.SetRiskLimitsRequest(), "update_mask", "names of fields"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_named(body: str, message: Message, field: str, words: str) -> None:
    found = problems(body, message)
    assert list(found) == [field]
    assert words in found[field]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "line 1 column 2"),
        (b"\xff\xfe{", "UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"3.0", "must be a JSON object"),
        (b'{"leverage": NaN}', "NaN is no number"),
        (b'{"leverage": -Infinity}', "no number"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_said_so(body: bytes, words: str) -> None:
    found = problems(body, leverage_service_pb2.SetLeverageRequest())
    assert list(found) == [""]
    assert words in found[""]


@pytest.mark.parametrize("mask", ["max_leverage,max_daily_loss", "maxLeverage,maxDailyLoss"])
def test_a_mask_is_spelled_either_way(mask: str) -> None:
    message = read(json.dumps({"update_mask": mask}), risk_service_pb2.SetRiskLimitsRequest())
    assert list(message.update_mask.paths) == ["max_leverage", "max_daily_loss"]


def test_nothing_is_an_empty_request() -> None:
    assert read(b" \n", market_service_pb2.ListMarksRequest()) == market_service_pb2.ListMarksRequest()


def test_a_body_full_of_problems_is_given_up_early_and_its_names_are_cut() -> None:
    body = json.dumps({f"{number}" + "é" * 200: number for number in range(10_000)})
    found = problems(body, margin_service_pb2.GetMarginStatusRequest())
    assert len(found) == PROBLEMS_MOST
    assert all(name.isascii() and len(name) < 300 for name in found)


def test_parameters_of_an_address_are_read_as_the_fields_they_name() -> None:
    message = margin_service_pb2.WatchMarginRequest()
    read_query([("account_ids", "a"), ("account_ids", "b"), ("min_interval", "0.5s")], message)
    assert list(message.account_ids) == ["a", "b"]
    assert message.min_interval.nanos == 500_000_000
    listed = margin_service_pb2.ListOrdersRequest()
    read_query([("accountId", "a"), ("page_size", "5"), ("include_ended", "true")], listed)
    assert (listed.account_id, listed.page_size, listed.include_ended) == ("a", 5, True)
    for pairs, field in (
        ([("account_id", "a"), ("account_id", "b")], "account_id"),
        ([("page_size", "many")], "page_size"),
        ([("include_ended", "1")], "include_ended"),
        ([("order", "x")], "order"),
    ):
        with pytest.raises(InvalidRequest) as invalid:
            read_query(pairs, margin_service_pb2.ListOrdersRequest())
        assert [name for name, _ in invalid.value.problems] == [field]


def test_unknown_numbers_are_absent_and_empty_lists_are_there() -> None:
    shown = written(margin_service_pb2.Portfolio(currency="USD", margin_used="30000.50"))
    assert shown == {
        "currency": "USD",
        "margin_used": "30000.50",
        "account_count": 0,
        "open_positions": 0,
        "stale": False,
    }
    assert written(types_pb2.Revision(shard=1, position=2**53 + 1))["position"] == str(2**53 + 1)
