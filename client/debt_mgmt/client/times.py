"""Times and spans of time, between Python's and the wire's."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

Span = timedelta | float
"""A length of time: a timedelta, or seconds."""

Timeout = Span | None
"""How long a call may take with all its retries. None: the client's default for such calls."""


def seconds(span: Span, name: str) -> float:
    """`span` in seconds. Raises ValueError unless it is above zero."""
    length = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if not 0 < length < float("inf"):
        raise ValueError(f"{name} must be above zero, not {span}")
    return length


def optional_seconds(span: Span | None, name: str) -> float | None:
    """`seconds`, where nothing may be given."""
    return None if span is None else seconds(span, name)


def timestamp(time: datetime | None, name: str) -> Timestamp | None:
    """What is sent for a time. Raises ValueError for one without a time zone."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{name} must have a time zone, such as datetime.now(UTC)")
    message = Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def duration(span: Span | None, name: str) -> Duration | None:
    """What is sent for a length of time. Raises ValueError unless it is above zero."""
    if span is None:
        return None
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds(span, name)))
    return message
