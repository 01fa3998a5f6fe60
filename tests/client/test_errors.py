"""Each reason of the service is an exception of its own; what has no known reason is one by its code."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from debt_mgmt.client import (
    DebtMgmtError,
    FieldViolation,
    InvalidRequest,
    MarginClient,
    Order,
    SyncMarginClient,
    errors,
)
from debt_mgmt.client.errors import CODES, REASONS
from debt_mgmt.v1 import account_service_pb2, margin_service_pb2
from debt_mgmt.v1.rejections_pb2 import ErrorReason
from tests.client.fake_service import FakeService, fail, sample

PROTO = Path(__file__).parents[2] / "proto" / "debt_mgmt" / "v1" / "rejections.proto"


def code_by_reason() -> dict[str, str]:
    """The code that the contract names for each reason."""
    return {
        reason: code
        for code, reason in re.findall(
            r"// ([A-Z_]+): .*?\n(?:  // .*\n)*  ERROR_REASON_([A-Z_]+) = ", PROTO.read_text(encoding="utf-8")
        )
    }


def test_every_reason_of_the_contract_has_an_exception() -> None:
    named = {name.removeprefix("ERROR_REASON_") for name, number in ErrorReason.items() if number}
    assert set(REASONS) == named
    assert set(code_by_reason()) == named


def test_every_code_but_ok_has_an_exception() -> None:
    assert set(CODES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize(("reason", "code"), code_by_reason().items())
async def test_a_reason_becomes_its_exception(
    service: FakeService, client: MarginClient, reason: str, code: str
) -> None:
    status = grpc.StatusCode[code]
    service.on("GetAccount", lambda _, context: fail(context, status, reason, "why", metadata={"account_id": "bob"}))
    with pytest.raises(REASONS[reason]) as caught:
        await client.account("bob", timeout=0.3)
    error = caught.value
    assert type(error) is REASONS[reason]
    assert (error.code, error.reason, error.message) == (status, reason, "why")
    assert error.metadata == {"account_id": "bob"}
    assert error.method == "GetAccount"
    assert str(error) == f"{reason}: why (GetAccount)"
    if status in CODES and reason != "RESUME_TOKEN_EXPIRED":
        assert isinstance(error, CODES[status])


@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_an_unknown_reason_becomes_the_exception_of_its_code(
    service: FakeService, sync_client: SyncMarginClient, code: grpc.StatusCode, kind: type[DebtMgmtError]
) -> None:
    service.on("GetAccount", lambda _, context: fail(context, code, "SOMETHING_NEWER"))
    with pytest.raises(kind) as caught:
        sync_client.account("bob", timeout=0.3)
    assert type(caught.value) is kind
    assert caught.value.reason == "SOMETHING_NEWER"


def test_a_status_of_another_domain_has_no_reason(service: FakeService, sync_client: SyncMarginClient) -> None:
    def refuse(_: Any, context: grpc.ServicerContext) -> Any:
        fail(context, grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_NOT_FOUND", domain="proxy.example")

    service.on("GetAccount", refuse)
    with pytest.raises(errors.PermissionDenied) as caught:
        sync_client.account("bob")
    assert caught.value.reason is None
    assert str(caught.value) == "PERMISSION_DENIED: it failed (GetAccount)"


def test_every_malformed_field_is_named(service: FakeService, sync_client: SyncMarginClient) -> None:
    fields = {"orders[3].price": "above zero", "account_id": "1 to 64 characters"}
    code = grpc.StatusCode.INVALID_ARGUMENT
    service.on("BatchCheckOrders", lambda _, context: fail(context, code, "INVALID_REQUEST", fields=fields))
    with pytest.raises(InvalidRequest) as caught:
        sync_client.check_orders("bob", [Order.buy("BTCUSDT", 1)])
    assert caught.value.field_violations == tuple(FieldViolation(*each) for each in fields.items())


async def test_the_time_to_wait_is_told(service: FakeService, client: MarginClient) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    service.on("GetAccount", lambda _, context: fail(context, code, "RATE_LIMITED", retry_after=0.25))
    with pytest.raises(errors.RateLimited) as caught:
        await client.account("bob")
    assert caught.value.retry_after == timedelta(seconds=0.25)


async def test_damaged_details_hide_no_error(service: FakeService, client: MarginClient) -> None:
    def damaged(_: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "not here")

    service.on("GetAccount", damaged)
    with pytest.raises(errors.NotFound, match="NOT_FOUND: not here"):
        await client.account("bob")


async def test_a_failed_command_names_its_request_id(service: FakeService, client: MarginClient) -> None:
    service.on("Deposit", lambda _, context: fail(context, grpc.StatusCode.INTERNAL, "INTERNAL"))
    with pytest.raises(errors.ServerFault) as caught:
        await client.deposit("alice", "USDT", 1, request_id="mine")
    assert caught.value.request_id == "mine"
    with pytest.raises(errors.ServerFault) as caught:
        await client.deposit("alice", "USDT", 1)
    assert caught.value.request_id == service.sent("Deposit")[-1].request_id


async def test_an_answer_against_the_contract_is_an_error(service: FakeService, client: MarginClient) -> None:
    broken = sample(margin_service_pb2.CheckOrderResponse)
    broken.result.margin_required = "1e3"
    service.on("CheckOrder", lambda *_: broken)
    with pytest.raises(errors.MalformedAnswer, match="margin_required is not a decimal") as caught:
        await client.check_order("alice", Order.buy("BTCUSDT", 1))
    assert caught.value.method == "CheckOrder"

    empty = account_service_pb2.GetAccountResponse()
    service.on("GetAccount", lambda *_: empty)
    with pytest.raises(errors.MalformedAnswer):
        await client.account("alice")


def test_nobody_there_is_unavailable() -> None:
    with SyncMarginClient("127.0.0.1:1") as client, pytest.raises(errors.Unavailable) as caught:
        client.account("bob", timeout=0.2)
    assert caught.value.reason is None
