"""Answers say as of when they hold, refusals are values, and lists are read page by page."""

from datetime import UTC
from decimal import Decimal
from typing import Any

import pytest

from debt_mgmt.client import (
    InsufficientMargin,
    Listing,
    MarginClient,
    Order,
    RefusalReason,
    Refused,
    Revision,
    StalePrices,
    SyncMarginClient,
    TradingStopped,
)
from debt_mgmt.v1 import (
    account_service_pb2,
    audit_service_pb2,
    margin_service_pb2,
    rejections_pb2,
)
from tests.client.fake_service import FakeService, sample

BUY = Order.buy("BTCUSDT", "0.05", 50000)


async def test_an_answer_says_as_of_when_it_holds(service: FakeService, client: MarginClient) -> None:
    response = sample(margin_service_pb2.CheckOrderResponse)
    response.revision.shard, response.revision.position = 3, 41
    service.on("CheckOrder", lambda *_: response)
    check = await client.check_order("alice", BUY)
    assert check.revision == Revision(3, 41)
    assert check.as_of.tzinfo is UTC
    positions = await client.positions("alice")
    assert isinstance(positions, Listing)
    assert positions.revision == Revision(1, 1)
    assert positions.as_of == check.as_of


def violated(*reasons: RefusalReason) -> list[rejections_pb2.Violation]:
    return [
        rejections_pb2.Violation(
            reason=rejections_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason}"), message="required 1100", value="1100"
        )
        for reason in reasons
    ]


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        ((RefusalReason.INSUFFICIENT_MARGIN, RefusalReason.UTILIZATION_AFTER), InsufficientMargin),
        ((RefusalReason.MISSING_MARK,), StalePrices),
        ((RefusalReason.TRADING_HALTED, RefusalReason.INSUFFICIENT_MARGIN), TradingStopped),
        ((RefusalReason.QUANTITY_STEP,), Refused),
    ],
)
async def test_a_refusal_is_a_value_that_can_be_raised(
    service: FakeService, client: MarginClient, reasons: tuple[RefusalReason, ...], kind: type[Refused]
) -> None:
    no = margin_service_pb2.CheckResult(violations=violated(*reasons), largest_buy="0.08")
    response = sample(margin_service_pb2.CheckOrderResponse)
    response.result.CopyFrom(no)
    service.on("CheckOrder", lambda *_: response)
    check = await client.check_order("alice", BUY)
    assert not check.fits
    assert check.largest_buy == Decimal("0.08")
    assert check.violations[0].value == 1100
    assert check.violations[0].limit is None
    with pytest.raises(Refused, match="required 1100") as caught:
        check.raise_if_refused()
    assert type(caught.value) is kind
    assert caught.value.reasons == reasons
    assert caught.value.answer is check


async def test_a_refused_reservation_has_no_id(service: FakeService, client: MarginClient) -> None:
    response = sample(margin_service_pb2.ReserveMarginResponse)
    assert (await client.reserve("alice", BUY)).raise_if_refused().reservation_id == "1"
    response.accepted = False
    response.ClearField("reservation")
    response.ClearField("violations")
    response.violations.extend(violated(RefusalReason.INSUFFICIENT_MARGIN))
    service.on("ReserveMargin", lambda *_: response)
    outcome = await client.reserve("alice", BUY)
    assert not outcome.accepted
    assert outcome.reservation is None
    with pytest.raises(InsufficientMargin):
        _ = outcome.reservation_id
    with pytest.raises(InsufficientMargin):
        outcome.raise_if_refused()


class Shelf:
    """Events on pages of two."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, request: audit_service_pb2.ListAuditEventsRequest, _: Any) -> Any:
        start = int(request.page_token or 0)
        response = sample(audit_service_pb2.ListAuditEventsResponse)
        event = response.events.pop()
        for number in range(start, min(start + 2, self.count)):
            event.kind = f"E{number}"
            response.events.append(event)
        response.next_page_token = str(start + 2) if start + 2 < self.count else ""
        return response


@pytest.mark.parametrize(("limit", "given", "pages"), [(None, 5, 3), (3, 3, 2), (2, 2, 1), (9, 5, 3)])
async def test_a_history_reads_no_page_too_many(
    service: FakeService, client: MarginClient, sync_client: SyncMarginClient, limit: int | None, given: int, pages: int
) -> None:
    service.on("ListAuditEvents", Shelf(5))
    kinds = [event.kind async for event in client.audit_events(limit=limit)]
    assert kinds == [f"E{number}" for number in range(given)]
    assert len(service.sent("ListAuditEvents")) == pages
    assert [event.kind for event in sync_client.audit_events(limit=limit)] == kinds


def test_a_history_is_read_while_it_is_walked(service: FakeService, sync_client: SyncMarginClient) -> None:
    service.on("ListAuditEvents", Shelf(5))
    events = sync_client.audit_events()
    assert not service.requests
    assert next(events).kind == "E0"
    assert len(service.requests) == 1


def test_a_listing_holds_every_page(service: FakeService, sync_client: SyncMarginClient) -> None:
    def listing(request: account_service_pb2.ListAccountsRequest, _: Any) -> Any:
        response = sample(account_service_pb2.ListAccountsResponse)
        response.next_page_token = {"": "a", "a": "b", "b": ""}[request.page_token]
        return response

    service.on("ListAccounts", listing)
    assert len(sync_client.accounts(owner="desk")) == 3
    assert [request.page_token for request in service.sent("ListAccounts")] == ["", "a", "b"]
    assert {request.owner for request in service.sent("ListAccounts")} == {"desk"}


def test_a_list_that_goes_in_circles_is_an_error(service: FakeService, sync_client: SyncMarginClient) -> None:
    response = sample(account_service_pb2.ListAccountsResponse)
    response.next_page_token = "again"
    service.on("ListAccounts", lambda *_: response)
    with pytest.raises(Exception, match="ListAccounts gave the same page again"):
        sync_client.accounts()


def test_an_event_s_payload_is_decoded(service: FakeService, sync_client: SyncMarginClient) -> None:
    response = sample(audit_service_pb2.ListAuditEventsResponse)
    response.events[0].payload = '{"quantity": "0.05"}'
    service.on("ListAuditEvents", lambda *_: response)
    (event,) = sync_client.audit_events()
    assert event.fields() == {"quantity": "0.05"}
