"""Limit sets in the SDK: written as they are read, listed to the last page, refused in words that say what to do."""

from dataclasses import replace
from decimal import Decimal

import pytest

from debt_mgmt.client import (
    LimitHours,
    LimitMode,
    LimitSet,
    MarginClient,
    NeedsSecondPerson,
    NodeLimits,
    Order,
    RefusalReason,
    Scope,
    SyncMarginClient,
)
from debt_mgmt.client.wire import read, write
from debt_mgmt.v1 import margin_service_pb2, rejections_pb2, risk_service_pb2, types_pb2
from tests.client.fake_service import FakeService, sample
from tests.client.requests_of_limit_sets import NIGHTS

WAITS = rejections_pb2.Violation(
    reason=rejections_pb2.REFUSAL_REASON_NEEDS_SECOND_PERSON, message="change c-7 waits for approval", subject="c-7"
)


def test_a_set_is_read_as_it_was_written() -> None:
    wire = risk_service_pb2.LimitSet(**write(NIGHTS, risk_service_pb2.LimitSet.DESCRIPTOR))
    assert read(LimitSet, wire) == NIGHTS
    enforced = replace(NIGHTS, mode=LimitMode.ENFORCED, hours=())
    assert enforced.limits.max_position_quantity == 0 and enforced.limits.max_exposure_notional == Decimal("25000.50")


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (Scope(), "the house"),
        (Scope(owner="desk"), "owner desk"),
        (Scope(account_id="alice", symbol="BTCUSDT"), "account alice, instrument BTCUSDT"),
        (Scope(strategy="momentum"), "strategy momentum"),
    ],
)
def test_a_node_has_words(scope: Scope, words: str) -> None:
    assert str(scope) == words


async def test_every_page_is_read(service: FakeService, client: MarginClient) -> None:
    def pages(request: risk_service_pb2.ListLimitSetsRequest, _: object) -> risk_service_pb2.ListLimitSetsResponse:
        page: risk_service_pb2.ListLimitSetsResponse = sample(risk_service_pb2.ListLimitSetsResponse)
        page.limit_sets[0].limit_set.name = request.page_token or "first"
        page.next_page_token = "" if request.page_token else "second"
        return page

    service.on("ListLimitSets", pages)
    found = await client.limit_sets(concerning=Scope(owner="desk"))
    assert [one.limit_set.name for one in found] == ["first", "second"]
    assert [one.concerning.owner for one in service.sent("ListLimitSets")] == ["desk", "desk"]


def test_a_change_that_needs_a_second_person_is_raised_by_that_name(
    service: FakeService, sync_client: SyncMarginClient
) -> None:
    answer = sample(risk_service_pb2.PutLimitSetResponse)
    answer.accepted = False
    answer.pending_change_id = "c-7"
    answer.ClearField("violations")
    answer.violations.append(WAITS)
    answer.ClearField("limit_set")
    service.on("PutLimitSet", lambda *_: answer)
    outcome = sync_client.put_limit_set(NIGHTS)
    assert (outcome.accepted, outcome.pending_change_id, outcome.limit_set) == (False, "c-7", None)
    with pytest.raises(NeedsSecondPerson, match="NEEDS_SECOND_PERSON: change c-7 waits") as caught:
        outcome.raise_if_refused()
    assert caught.value.change_id == "c-7"


async def test_a_violation_names_its_node_and_a_shadow_violation_refuses_nothing(
    service: FakeService, client: MarginClient
) -> None:
    response = sample(margin_service_pb2.CheckOrderResponse)
    response.result.ClearField("violations")
    response.result.ClearField("shadow_violations")
    response.result.shadow_violations.append(
        rejections_pb2.Violation(
            reason=rejections_pb2.REFUSAL_REASON_EXPOSURE_LIMIT,
            message="the desk",
            scope=types_pb2.Scope(owner="desk"),
            limit_set="nights",
        )
    )
    service.on("CheckOrder", lambda *_: response)
    check = (await client.check_order("alice", Order.buy("BTCUSDT", 1))).raise_if_refused()
    (shadow,) = check.shadow_violations
    assert (shadow.reason, shadow.scope, shadow.limit_set) == (
        RefusalReason.EXPOSURE_LIMIT,
        Scope(owner="desk"),
        "nights",
    )
    own = rejections_pb2.Violation(reason=rejections_pb2.REFUSAL_REASON_EXPOSURE_LIMIT, message="its own")
    response.result.violations.append(own)
    assert (await client.check_order("alice", Order.buy("BTCUSDT", 1))).violations[0].scope is None


def test_what_is_no_set_is_not_made() -> None:
    with pytest.raises(ValueError, match="'loud' is no LimitMode"):
        LimitSet(Scope(), NodeLimits(), mode="loud")
    with pytest.raises(TypeError, match="max_leverage must be a Decimal, int or str"):
        NodeLimits(max_leverage=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="days must be a list"):
        LimitHours("22:00", "06:00", "monday")
