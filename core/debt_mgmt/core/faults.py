"""Faults: why a request can't be answered at all. A refusal is an answer, a fault is an error."""

from enum import StrEnum


class FaultReason(StrEnum):
    """Spelled as the wire's ErrorReason."""

    INVALID_REQUEST = "INVALID_REQUEST"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    ACCOUNT_EXISTS = "ACCOUNT_EXISTS"
    INSTRUMENT_NOT_FOUND = "INSTRUMENT_NOT_FOUND"
    RESERVATION_NOT_FOUND = "RESERVATION_NOT_FOUND"
    ALERT_NOT_FOUND = "ALERT_NOT_FOUND"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    RESUME_TOKEN_EXPIRED = "RESUME_TOKEN_EXPIRED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    JOURNAL_UNAVAILABLE = "JOURNAL_UNAVAILABLE"
    DRAINING = "DRAINING"
    OVERLOADED = "OVERLOADED"
    INTERNAL = "INTERNAL"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RATE_LIMITED = "RATE_LIMITED"
    DEADLINE_EXPIRED = "DEADLINE_EXPIRED"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    CANCELLED = "CANCELLED"
    BROKER_NOT_READY = "BROKER_NOT_READY"
    BROKER_UNREACHABLE = "BROKER_UNREACHABLE"


class Fault(Exception):
    """A request that failed: the reason, a sentence for people, and what varies in it for programs."""

    def __init__(self, reason: FaultReason, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = metadata


def unknown_alert(alert_id: str) -> Fault:
    """There is no such alert, none that is kept, or none that the caller may know of: all in the same words."""
    return Fault(FaultReason.ALERT_NOT_FOUND, f"alert {alert_id} is not known", alert_id=alert_id)


class InvalidRequest(Fault):
    """A malformed request, with every field that is wrong: (field path, what is wrong)."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        named = "; ".join(f"{field}: {problem}" for field, problem in problems[:8])
        super().__init__(FaultReason.INVALID_REQUEST, f"invalid request: {named}")
        self.problems = problems


class RateLimited(Fault):
    """A caller has used up a quota: which one, of whom, and in how many seconds there is room again."""

    def __init__(self, quota: str, subject: str, limit: int, retry_seconds: float, message: str) -> None:
        super().__init__(FaultReason.RATE_LIMITED, message, quota=quota, subject=subject, limit=str(limit))
        self.subject = subject
        self.retry_seconds = retry_seconds
