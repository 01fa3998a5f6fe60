"""Errors of the wire: one table from reasons to gRPC codes, and what each error tells a program."""

import asyncio
import logging
import uuid
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest, RateLimited
from debt_mgmt.server.journal.journal import JournalUnavailable
from debt_mgmt.server.rpc.names import ERROR_REASON
from debt_mgmt.server.shard_answers import NotJournaled, Overloaded, RequestIdReused, ShardHalted, ShardStopped
from debt_mgmt.v1 import margin_service_pb2, rejections_pb2

logger = logging.getLogger(__name__)

DOMAIN = "debt_mgmt"

CODES: dict[FaultReason, grpc.StatusCode] = {
    FaultReason.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    FaultReason.ACCOUNT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    FaultReason.ACCOUNT_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    FaultReason.INSTRUMENT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    FaultReason.RESERVATION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    FaultReason.ALERT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    FaultReason.REQUEST_ID_REUSED: grpc.StatusCode.ALREADY_EXISTS,
    FaultReason.PAGE_TOKEN_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    FaultReason.RESUME_TOKEN_EXPIRED: grpc.StatusCode.OUT_OF_RANGE,
    FaultReason.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    FaultReason.JOURNAL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    FaultReason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    FaultReason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    FaultReason.INTERNAL: grpc.StatusCode.INTERNAL,
    FaultReason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    FaultReason.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    FaultReason.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    FaultReason.DEADLINE_EXPIRED: grpc.StatusCode.DEADLINE_EXCEEDED,
    FaultReason.BATCH_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    FaultReason.CANCELLED: grpc.StatusCode.CANCELLED,
    FaultReason.BROKER_NOT_READY: grpc.StatusCode.FAILED_PRECONDITION,
    FaultReason.BROKER_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
}

RETRY_AFTER: dict[FaultReason, timedelta] = {
    FaultReason.OVERLOADED: timedelta(milliseconds=200),
    FaultReason.RATE_LIMITED: timedelta(seconds=1),
    FaultReason.JOURNAL_UNAVAILABLE: timedelta(seconds=1),
    FaultReason.DRAINING: timedelta(seconds=2),
    FaultReason.BROKER_UNREACHABLE: timedelta(seconds=5),
}
"""What is worth repeating, and after how long."""

QUOTAS: dict[FaultReason, str] = {
    FaultReason.OVERLOADED: "commands that wait",
    FaultReason.RATE_LIMITED: "calls of this caller",
}

RESOURCES: dict[FaultReason, tuple[str, str]] = {
    FaultReason.ACCOUNT_NOT_FOUND: ("account", "account_id"),
    FaultReason.ACCOUNT_EXISTS: ("account", "account_id"),
    FaultReason.INSTRUMENT_NOT_FOUND: ("instrument", "symbol"),
    FaultReason.RESERVATION_NOT_FOUND: ("reservation", "reservation_id"),
    FaultReason.ALERT_NOT_FOUND: ("alert", "alert_id"),
}
"""What the error is about, and the metadata that holds its name."""

MESSAGE_CHARACTERS_MOST = 600
FIELD_PROBLEMS_BYTES_MOST = 4000
"""A status travels in headers, of which clients accept about 8 kB in all; base64 adds a third to the details."""


def status_of(error: BaseException, method: str) -> status_pb2.Status:
    """The status that ends the call of `method`, with details for programs. Nothing internal is in it.

    Whatever is no Fault and no known failure of a shard is a bug: it is logged under an incident number, and the
    caller gets that number.
    """
    fault = fault_of(error, method)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=fault.reason.value, domain=DOMAIN, metadata=fault.metadata)
    ]
    if isinstance(fault, InvalidRequest):
        details.append(bad_request(fault.problems))
    if fault.reason is FaultReason.PAGE_TOKEN_INVALID:
        details.append(bad_request([("page_token", fault.message)]))
    if fault.reason in QUOTAS:
        details.append(quota_failure(fault))
    if fault.reason in RETRY_AFTER:
        retry_after = Duration()
        retry_after.FromTimedelta(retry_delay(fault))
        details.append(error_details_pb2.RetryInfo(retry_delay=retry_after))
    if fault.reason in RESOURCES:
        kind, key = RESOURCES[fault.reason]
        name = fault.metadata.get(key, "")
        details.append(error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name))
    if fault.reason is FaultReason.REQUEST_ID_REUSED:
        details.append(precondition_failure(fault))
    status: status_pb2.Status = status_pb2.Status(
        code=code_number(fault.reason), message=fault.message[:MESSAGE_CHARACTERS_MOST]
    )
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def retry_delay(fault: Fault) -> timedelta:
    """After how long it is worth trying again."""
    if isinstance(fault, RateLimited):
        return timedelta(milliseconds=round(fault.retry_seconds * 1000) + 1)
    return RETRY_AFTER[fault.reason]


def check_error(error: BaseException, method: str) -> margin_service_pb2.CheckError:
    """The same for one message of a stream that goes on."""
    fault = fault_of(error, method)
    problems = fault.problems if isinstance(fault, InvalidRequest) else []
    return margin_service_pb2.CheckError(
        reason=ERROR_REASON.wire[fault.reason],
        message=fault.message[:MESSAGE_CHARACTERS_MOST],
        field_violations=[
            rejections_pb2.FieldViolation(field=field, description=problem) for field, problem in problems
        ],
    )


def code_number(reason: FaultReason) -> int:
    """The number of a reason's gRPC code."""
    number: int = CODES[reason].value[0]
    return number


def fault_of(error: BaseException, method: str) -> Fault:
    """Whatever went wrong, as a fault that may be told."""
    match error:
        case Fault():
            return error
        case Overloaded():
            waiting = str(error.waiting)
            return Fault(FaultReason.OVERLOADED, "too many commands wait; repeat later", waiting=waiting)
        case RequestIdReused():
            return Fault(
                FaultReason.REQUEST_ID_REUSED,
                f"request id {error.request_id} was used before with another body; a new command needs a new id",
                request_id=error.request_id,
            )
        case ShardStopped():
            return Fault(
                FaultReason.DRAINING,
                "the service is shutting down; whether the command was recorded is not known: repeat it with the same "
                "request id",
            )
        case NotJournaled():
            logger.error("%s: the journal refused the events of a command", method, exc_info=error)
            return Fault(FaultReason.JOURNAL_UNAVAILABLE, "the journal refused the command: nothing of it was recorded")
        case ShardHalted() | JournalUnavailable():
            return Fault(
                FaultReason.JOURNAL_UNAVAILABLE,
                "the journal can't be used now; repeat the request with the same request id",
            )
        case asyncio.CancelledError():
            return Fault(
                FaultReason.CANCELLED,
                "the call was cancelled; a command may have been recorded: repeat it with the same request id",
            )
    incident = uuid.uuid4().hex[:12]
    logger.error("%s failed, incident %s", method, incident, exc_info=error)
    return Fault(
        FaultReason.INTERNAL, f"a fault of the service; its log has it as incident {incident}", incident=incident
    )


def bad_request(problems: list[tuple[str, str]]) -> Any:
    """Every malformed field, as long as they fit; then how many more there are."""
    request = error_details_pb2.BadRequest()
    for count, (field, problem) in enumerate(problems):
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
        if request.ByteSize() + violation.ByteSize() > FIELD_PROBLEMS_BYTES_MOST:
            request.field_violations.add(description=f"{len(problems) - count} more are not shown")
            break
        request.field_violations.append(violation)
    return request


def quota_failure(fault: Fault) -> Any:
    subject = fault.subject if isinstance(fault, RateLimited) else QUOTAS[fault.reason]
    violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=fault.message)
    return error_details_pb2.QuotaFailure(violations=[violation])


def precondition_failure(fault: Fault) -> Any:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type="REQUEST_ID", subject=fault.metadata.get("request_id", ""), description=fault.message
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])
