"""Why a call failed: one exception for each reason that the service gives, else for each gRPC code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "debt_mgmt"
DETAILS_KEY = "grpc-status-details-bin"
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One malformed field of a request: its path, such as `orders[3].price`, and what is accepted there."""

    field: str
    description: str


class DebtMgmtError(Exception):
    """A call that failed. A refusal by the rules is no error: it is an answer, see `Refused`.

    `reason` is one of the service's ErrorReason without prefix, or None where the failure came from elsewhere (the
    network, a proxy); `metadata` holds what varies in the message. `retry_after` is the service's own advice. Where
    `request_id` is given, the command may have been recorded: repeated with the same id it is done once.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str | None = None,
        metadata: Mapping[str, str] = NOTHING,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
        method: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = metadata
        self.field_violations = field_violations
        self.retry_after = retry_after
        self.method = method
        self.request_id = request_id

    def __str__(self) -> str:
        place = f" ({self.method})" if self.method else ""
        return f"{self.reason or self.code.name}: {self.message}{place}"


class InvalidRequest(DebtMgmtError):
    """The request is malformed; `field_violations` names every field concerned. Repeating it does not help."""


class PageTokenInvalid(InvalidRequest):
    """The page token is not from this list, or its filter changed."""


class BatchTooLarge(InvalidRequest):
    """More items in one request than allowed."""


class NotFound(DebtMgmtError):
    """Something that the request names does not exist."""


class AccountNotFound(NotFound):
    """No such account."""


class InstrumentNotFound(NotFound):
    """No such instrument."""


class ReservationNotFound(NotFound):
    """No such reservation."""


class AlertNotFound(NotFound):
    """No such alert."""


class Conflict(DebtMgmtError):
    """The request contradicts what is there."""


class AccountExists(Conflict):
    """The account id is taken."""


class RequestIdReused(Conflict):
    """The request_id was used before with another body. Nothing was done; a new command needs a new id."""


class FailedPrecondition(DebtMgmtError):
    """Not possible in the present state. Repeating it does not help."""


class BrokerNotReady(FailedPrecondition):
    """The broker is not enabled, has no key or no such environment, or denies access; the message says which."""


class ResumeTokenExpired(DebtMgmtError):
    """The resume token is too old to continue from. `watch_margin` starts anew by itself."""


class NotImplementedByServer(DebtMgmtError):
    """The service, or this account's broker, can't do it; the message says which."""


class Unavailable(DebtMgmtError):
    """The service can't be reached or can't answer now. The client has repeated the call until its timeout."""


class JournalUnavailable(Unavailable):
    """The journal can't be written. Whether the command was recorded may be unknown: repeat it with its request_id."""


class ServerDraining(Unavailable):
    """The service is shutting down: repeat elsewhere or later."""


class BrokerUnreachable(Unavailable):
    """The broker can't be reached now; the message has its words. Nothing was done."""


class ResourceExhausted(DebtMgmtError):
    """Too much was asked for; `retry_after` says when to repeat, where the service knows."""


class Overloaded(ResourceExhausted):
    """Too much waits already at the service."""


class RateLimited(ResourceExhausted):
    """The caller's own quota is used up."""


class DeadlineExceeded(DebtMgmtError):
    """The timeout passed. A command may have been recorded: repeat it with its request_id."""


class CallCancelled(DebtMgmtError):
    """The call was cancelled, not by the task that awaits it. A command may have been recorded."""


class Unauthenticated(DebtMgmtError):
    """No valid token."""


class PermissionDenied(DebtMgmtError):
    """The token does not allow this method or account."""


class ServerFault(DebtMgmtError):
    """A fault of the service, written to its log."""


class MalformedAnswer(ServerFault):
    """The service answered against its contract, such as with a decimal that is none. Nothing was guessed instead."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **{"code": grpc.StatusCode.INTERNAL, "reason": "MALFORMED_ANSWER", **details})


REASONS: Mapping[str, type[DebtMgmtError]] = {
    "INVALID_REQUEST": InvalidRequest,
    "ACCOUNT_NOT_FOUND": AccountNotFound,
    "ACCOUNT_EXISTS": AccountExists,
    "INSTRUMENT_NOT_FOUND": InstrumentNotFound,
    "RESERVATION_NOT_FOUND": ReservationNotFound,
    "ALERT_NOT_FOUND": AlertNotFound,
    "REQUEST_ID_REUSED": RequestIdReused,
    "PAGE_TOKEN_INVALID": PageTokenInvalid,
    "RESUME_TOKEN_EXPIRED": ResumeTokenExpired,
    "NOT_IMPLEMENTED": NotImplementedByServer,
    "JOURNAL_UNAVAILABLE": JournalUnavailable,
    "DRAINING": ServerDraining,
    "OVERLOADED": Overloaded,
    "INTERNAL": ServerFault,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "RATE_LIMITED": RateLimited,
    "DEADLINE_EXPIRED": DeadlineExceeded,
    "BATCH_TOO_LARGE": BatchTooLarge,
    "CANCELLED": CallCancelled,
    "BROKER_NOT_READY": BrokerNotReady,
    "BROKER_UNREACHABLE": BrokerUnreachable,
}
"""Every reason of the contract."""

CODES: Mapping[grpc.StatusCode, type[DebtMgmtError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedByServer,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: CallCancelled,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.INTERNAL: ServerFault,
    grpc.StatusCode.UNKNOWN: ServerFault,
    grpc.StatusCode.DATA_LOSS: ServerFault,
}
"""What a failure without a known reason is, by its code."""


def error_from(failure: Any, method: str, request_id: str | None = None) -> DebtMgmtError:
    """The exception for a failed call: for its reason where that is known, else for its code.

    `failure` is what grpc raised: a grpc.RpcError with code(), details() and trailing_metadata().
    """
    code: grpc.StatusCode = failure.code()
    found: dict[str, Any] = {}
    reason = None
    for detail in details_of(failure):
        match detail:
            case error_details_pb2.ErrorInfo() if detail.domain == DOMAIN:
                reason = detail.reason
                found["metadata"] = MappingProxyType(dict(detail.metadata))
            case error_details_pb2.BadRequest():
                violations = (FieldViolation(field.field, field.description) for field in detail.field_violations)
                found["field_violations"] = tuple(violations)
            case error_details_pb2.RetryInfo():
                found["retry_after"] = detail.retry_delay.ToTimedelta()
    kind = REASONS.get(reason or "") or CODES.get(code, DebtMgmtError)
    message = failure.details() or "no details given"
    return kind(message, code=code, reason=reason, method=method, request_id=request_id, **found)


DETAILS = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)


def details_of(failure: Any) -> Iterator[Any]:
    """The details that came with the status. Unreadable ones are none: the code then says what it is."""
    for key, value in failure.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        try:
            packed = status_pb2.Status.FromString(value).details
            for each, kind in ((each, kind) for each in packed for kind in DETAILS):
                detail = kind()
                if each.Unpack(detail):
                    yield detail
        except DecodeError:
            return
