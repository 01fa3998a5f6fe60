"""Answers over HTTP: JSON, or what went wrong as a status with the details that gRPC has."""

import math
from typing import Any

from aiohttp import web
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from debt_mgmt.core.faults import FaultReason, InvalidRequest
from debt_mgmt.server.rpc.guard import CODES
from debt_mgmt.server.web.json_messages import json_bytes, written

STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP's number for each of gRPC's codes."""

WRONG = {404: "NOT_FOUND", 501: "UNIMPLEMENTED"}
"""What gRPC would call requests of `WrongRequest`; the others are INVALID_ARGUMENT."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class WrongRequest(InvalidRequest):
    """A request that HTTP has a number of its own for."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__([("", message)])
        self.message = message
        self.status = status
        self.headers = headers


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=json_bytes(value), status=status, content_type="application/json", headers={**HEADERS, **(headers or {})}
    )


def error_answer(status: status_pb2.Status, error: BaseException) -> web.Response:
    """The status that the guard has made of `error`."""
    if isinstance(error, WrongRequest):
        return answer(error_body(status, error.status, WRONG.get(error.status, "")), error.status, error.headers)
    code = CODES[status.code]
    number = STATUS[code]
    headers = {"WWW-Authenticate": "Bearer"} if number == 401 else {}
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            headers["Retry-After"] = str(max(1, math.ceil(retry.retry_delay.ToTimedelta().total_seconds())))
    return answer(error_body(status, number), number, headers)


def error_body(status: status_pb2.Status, number: int, code: str = "") -> dict[str, Any]:
    """The number, gRPC's name for it, the reason, a sentence, and what programs read."""
    details = [written(detail) for detail in status.details]
    reason = next((one["reason"] for one in details if "reason" in one), FaultReason.INTERNAL.value)
    return {
        "error": {
            "code": number,
            "status": code or CODES[status.code],
            "reason": reason,
            "message": status.message,
            "details": details,
        }
    }


def message_answer(message: Message) -> web.Response:
    return answer(written(message))
