"""Errors: one code for each reason, details that programs can read, and nothing internal in them."""

import asyncio
import base64
import logging
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.journal.journal import JournalDamaged, JournalUnavailable
from debt_mgmt.server.rpc.errors import CODES, DOMAIN, QUOTAS, RETRY_AFTER, check_error, status_of
from debt_mgmt.server.shard_answers import (
    Fenced,
    NotJournaled,
    Overloaded,
    RequestIdReused,
    ShardError,
    ShardHalted,
    ShardStopped,
)
from debt_mgmt.v1 import rejections_pb2

PROTO = Path(__file__).parents[3] / "proto" / "debt_mgmt" / "v1" / "rejections.proto"


def detail(status: status_pb2.Status, kind: Any) -> Any:
    """The one detail of a kind; None where there is none."""
    found = [packed for packed in status.details if packed.Is(kind.DESCRIPTOR)]
    assert len(found) <= 1
    if not found:
        return None
    message = kind()
    found[0].Unpack(message)
    return message


def test_every_reason_has_the_code_that_the_contract_promises() -> None:
    text = PROTO.read_text()
    promised = {
        match[2]: match[1]
        for match in re.finditer(r"^  // ([A-Z_]+): .*\n(?:  // .*\n)*  ERROR_REASON_(\w+) = [1-9]\d*;$", text, re.M)
    }
    assert promised == {reason.value: code.name for reason, code in CODES.items()}
    assert set(CODES) == set(FaultReason)


@pytest.mark.parametrize("reason", FaultReason)
def test_every_status_tells_its_reason_once(reason: FaultReason) -> None:
    status = status_of(Fault(reason, "it went wrong", symbol="BTCUSDT"), "Service/Method")
    assert status.code == CODES[reason].value[0]
    assert status.message == "it went wrong"
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason, dict(info.metadata)) == (DOMAIN, reason.value, {"symbol": "BTCUSDT"})
    kinds = [packed.type_url for packed in status.details]
    assert len(kinds) == len(set(kinds))
    retry = detail(status, error_details_pb2.RetryInfo)
    assert (retry is not None) is (reason in RETRY_AFTER)
    assert (detail(status, error_details_pb2.QuotaFailure) is not None) is (reason in QUOTAS)


def test_an_account_that_is_not_there_is_named_as_the_resource() -> None:
    status = status_of(Fault(FaultReason.ACCOUNT_NOT_FOUND, "no", account_id="alice"), "m")
    resource = detail(status, error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("account", "alice")


def test_every_malformed_field_is_in_the_status() -> None:
    status = status_of(InvalidRequest([("order.quantity", "must be above zero"), ("order.side", "must be set")]), "m")
    request = detail(status, error_details_pb2.BadRequest)
    assert [(one.field, one.description) for one in request.field_violations] == [
        ("order.quantity", "must be above zero"),
        ("order.side", "must be set"),
    ]


def test_a_page_token_is_named_as_the_field_that_is_wrong() -> None:
    status = status_of(Fault(FaultReason.PAGE_TOKEN_INVALID, "not from this list"), "m")
    assert [one.field for one in detail(status, error_details_pb2.BadRequest).field_violations] == ["page_token"]


def test_a_thousand_malformed_fields_still_fit_into_the_headers() -> None:
    problems = [
        (f"orders[{number}].quantity", "must be a plain decimal, not '\\uff11\\uff12'") for number in range(1000)
    ]
    status = status_of(InvalidRequest(problems), "m")
    request = detail(status, error_details_pb2.BadRequest)
    assert len(request.field_violations) > 40
    shown = len(request.field_violations) - 1
    assert request.field_violations[-1].description == f"{1000 - shown} more are not shown"
    headers = len(base64.b64encode(status.SerializeToString())) + len(status.message.encode())
    assert headers < 7500


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (Overloaded(3, 10_000), FaultReason.OVERLOADED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (RequestIdReused("r-1", 7), FaultReason.REQUEST_ID_REUSED, grpc.StatusCode.ALREADY_EXISTS),
        (ShardStopped("shard 3 was stopped"), FaultReason.DRAINING, grpc.StatusCode.UNAVAILABLE),
        (ShardHalted("shard 3 is halted"), FaultReason.JOURNAL_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (Fenced(3, 1, 2), FaultReason.JOURNAL_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (NotJournaled("refused"), FaultReason.JOURNAL_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (JournalUnavailable("connection to db-7 lost"), FaultReason.JOURNAL_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (asyncio.CancelledError(), FaultReason.CANCELLED, grpc.StatusCode.CANCELLED),
        (JournalDamaged(1, 2, "hash"), FaultReason.INTERNAL, grpc.StatusCode.INTERNAL),
        (ShardError("one command may not make more than 4096 events"), FaultReason.INTERNAL, grpc.StatusCode.INTERNAL),
        (AssertionError("alice"), FaultReason.INTERNAL, grpc.StatusCode.INTERNAL),
        (KeyError("alice"), FaultReason.INTERNAL, grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_engine_raises_becomes_a_reason(
    error: BaseException, reason: FaultReason, code: grpc.StatusCode
) -> None:
    status = status_of(error, "MarginService/ReserveMargin")
    assert (detail(status, error_details_pb2.ErrorInfo).reason, status.code) == (reason.value, code.value[0])
    for internal in ("shard", "db-7", "alice", "hash", "4096"):
        assert internal not in status.message


def test_a_bug_leaks_nothing_and_is_found_again_by_its_incident(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError as error:
        with caplog.at_level(logging.ERROR):
            status = status_of(error, "FundService/Deposit")
    assert b"hunter2" not in status.SerializeToString()
    incident = detail(status, error_details_pb2.ErrorInfo).metadata["incident"]
    assert incident in status.message
    assert incident in caplog.text
    assert "FundService/Deposit" in caplog.text
    assert "hunter2" in caplog.text


def test_a_reused_request_id_says_which_one() -> None:
    status = status_of(RequestIdReused("r-1", 7), "m")
    assert detail(status, error_details_pb2.ErrorInfo).metadata["request_id"] == "r-1"
    (violation,) = detail(status, error_details_pb2.PreconditionFailure).violations
    assert (violation.type, violation.subject) == ("REQUEST_ID", "r-1")


def test_a_message_of_a_stream_is_answered_with_the_same_reason_and_fields() -> None:
    error = check_error(InvalidRequest([("order.side", "must be set")]), "m")
    assert error.reason == rejections_pb2.ERROR_REASON_INVALID_REQUEST
    assert [(one.field, one.description) for one in error.field_violations] == [("order.side", "must be set")]
    assert check_error(KeyError("x"), "m").reason == rejections_pb2.ERROR_REASON_INTERNAL
