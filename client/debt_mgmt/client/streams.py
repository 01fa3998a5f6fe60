"""The two long streams that carry the caller's own items: orders to check and prices to publish."""

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from debt_mgmt.client.answers import Answer
from debt_mgmt.client.enums import CheckDetail, MarkClock
from debt_mgmt.client.errors import CODES, REASONS, DebtMgmtError, FieldViolation, MalformedAnswer
from debt_mgmt.client.figures import Order
from debt_mgmt.client.market import Marks, mark_requests
from debt_mgmt.client.orders import OrderCheck
from debt_mgmt.client.wire import message, read
from debt_mgmt.v1 import margin_service_pb2 as margin_pb
from debt_mgmt.v1 import market_service_pb2 as market_pb
from debt_mgmt.v1 import rejections_pb2

Item = TypeVar("Item")
Request = TypeVar("Request")

OrderToCheck = tuple[str, Order]
"""An account id and an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedCheck:
    """What came of one order of a stream: a finding, or the error that kept it from being checked."""

    sequence: int
    """Which order of the stream, from 0."""
    account_id: str
    order: Order
    check: OrderCheck | None
    error: DebtMgmtError | None

    def result(self) -> OrderCheck:
        """The finding. Raises the error where there is none."""
        if self.check is None:
            assert self.error is not None
            raise self.error
        return self.check


class Outgoing(Generic[Item, Request]):
    """Turns the caller's items into requests. A failure of the caller's iterator ends the stream and is kept.

    grpc would log it and cancel the call; this way the answers to what was sent still come, then `failure` is raised.
    """

    def __init__(self, requests: Callable[[Item], Iterable[Request]]) -> None:
        self._requests = requests
        self.failure: Exception | None = None

    def iterate(self, items: Iterable[Item]) -> Iterator[Request]:
        """The requests, for a blocking stub."""
        try:
            for item in items:
                yield from self._requests(item)
        except Exception as failure:  # noqa: BLE001 - whatever the caller's iterator raises is raised to the caller
            self.failure = failure

    async def aiterate(self, items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Request]:
        """The requests, for a stub of grpc.aio."""
        try:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    for request in self._requests(item):
                        yield request
            else:
                for item in items:
                    for request in self._requests(item):
                        yield request
        except Exception as failure:  # noqa: BLE001 - whatever the caller's iterator raises is raised to the caller
            self.failure = failure

    def raise_failure(self) -> None:
        """Raises what the caller's iterator raised, if it did."""
        if self.failure is not None:
            raise self.failure


class Checks:
    """The orders of one stream that wait for their answers: these come in the order in which they were sent."""

    def __init__(self, detail: CheckDetail | str) -> None:
        self._detail = CheckDetail(detail)
        self._sent = 0
        self._waiting: deque[tuple[int, OrderToCheck]] = deque()

    def requests(self, item: OrderToCheck) -> list[margin_pb.StreamCheckOrdersRequest]:
        """What is sent for an order."""
        account_id, order = item
        request = message(
            margin_pb.StreamCheckOrdersRequest,
            sequence=self._sent,
            account_id=account_id,
            order=order,
            detail=self._detail,
        )
        self._waiting.append((self._sent, item))
        self._sent += 1
        return [request]

    def received(self, response: margin_pb.StreamCheckOrdersResponse) -> StreamedCheck:
        """What an answer says, beside the order that it belongs to. Raises MalformedAnswer where it fits none."""
        if not self._waiting or self._waiting[0][0] != response.sequence:
            raise MalformedAnswer(f"an answer to message {response.sequence} was not due", method="StreamCheckOrders")
        sequence, (account_id, order) = self._waiting.popleft()
        at = read(Answer, response)
        check, error = None, None
        if response.WhichOneof("outcome") == "result":
            check = read(OrderCheck, response.result, revision=at.revision, as_of=at.as_of)
        else:
            error = error_of(response.error)
        return StreamedCheck(sequence=sequence, account_id=account_id, order=order, check=check, error=error)


def error_of(error: margin_pb.CheckError) -> DebtMgmtError:
    """The exception for a message that could not be answered; of the class that the same call alone would raise."""
    known = rejections_pb2.ErrorReason.DESCRIPTOR.values_by_number.get(error.reason)
    reason = known.name.removeprefix("ERROR_REASON_") if known else f"UNRECOGNIZED_{error.reason}"
    kind = REASONS.get(reason, DebtMgmtError)
    code = next((code for code, general in CODES.items() if issubclass(kind, general)), grpc.StatusCode.UNKNOWN)
    violations = tuple(FieldViolation(each.field, each.description) for each in error.field_violations)
    return kind(error.message, code=code, reason=reason, field_violations=violations, method="StreamCheckOrders")


def mark_batches(clock: MarkClock | str, settle: bool) -> Outgoing[Marks, market_pb.PublishMarksRequest]:
    """Turns batches of prices into requests."""
    return Outgoing(lambda marks: mark_requests(marks, clock, settle))


def orders_to_check(checks: Checks) -> Outgoing[OrderToCheck, margin_pb.StreamCheckOrdersRequest]:
    """Turns orders into requests."""
    return Outgoing(checks.requests)
