"""Leverage, margin mode and posted margin of live accounts: asked of the venue once, in force when it says so."""

import asyncio
from typing import Any

import grpc
import pytest

from debt_mgmt.core.account import AlertKind, MarginMode
from debt_mgmt.core.venue import VenueChangeKind
from debt_mgmt.server.brokers.broker import Ambiguous, Denied, Rejected
from debt_mgmt.server.brokers.profiles import PROFILES, Feature
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import leverage_service_pb2 as wire
from debt_mgmt.v1 import rejections_pb2, types_pb2
from tests.server.live.desk import BTC, D, kinds, live_service, open_live, paced, set_leverage, until
from tests.support.live_broker import TIMED_OUT, UNREACHABLE, FakeVenue
from tests.support.service import Desk

CONFIRMED, REQUESTED, REFUSED = (
    wire.LEVERAGE_STATE_CONFIRMED,
    wire.LEVERAGE_STATE_REQUESTED,
    wire.LEVERAGE_STATE_REFUSED,
)


def sent(venue: FakeVenue) -> list[str]:
    return [call for call in venue.calls if call.startswith("set_leverage")]


async def test_leverage_is_in_force_when_the_venue_says_so(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await set_leverage(desk, "3")
        assert answer.accepted and answer.venue_request.state == CONFIRMED
        assert (answer.setting.symbol, answer.setting.leverage, answer.setting.state) == (BTC, "3", CONFIRMED)
        assert venue.leverage[BTC] == 3 and len(sent(venue)) == 1
        again = await set_leverage(desk, "3")
        assert again.venue_request.state == CONFIRMED, "what is in force already is no error"


async def test_a_refusal_of_the_venue_is_told_in_its_words(venue: FakeVenue) -> None:
    venue.maximum_leverage = D(4)
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await set_leverage(desk, "5", "too-much")
        assert answer.accepted, "our rules had nothing against it"
        said = answer.venue_request
        assert (said.state, said.refusal, said.refusal_code) == (REFUSED, "leverage exceeds the risk limit", "110013")
        assert (answer.setting.state, answer.setting.leverage, answer.setting.requested_leverage) == (REFUSED, "2", "5")
        again = await set_leverage(desk, "5", "too-much")
        assert again.replayed and again.venue_request == said
        assert len(sent(venue)) == 1
        assert AlertKind.VENUE_REFUSED in kinds(desk.engine.account("alice"))
        shown = await desk.leverage.GetLeverage(wire.GetLeverageRequest(account_id="alice", symbol="BTCUSDT"))
        assert shown.setting.state == REFUSED and shown.setting.refusal == said.refusal
        assert (await set_leverage(desk, "4")).setting.state == CONFIRMED


async def test_a_key_that_may_not_trade_is_a_refusal(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("set_leverage", Denied("the key may only read", code="10005"))
        answer = await set_leverage(desk, "3")
        assert (answer.venue_request.state, answer.venue_request.refusal_code) == (REFUSED, "10005")
        assert not desk.engine.account("alice").pending


async def test_our_own_rules_come_first_and_nothing_is_sent(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await set_leverage(desk, "6")
        assert not answer.accepted and not answer.HasField("venue_request")
        assert not sent(venue)


async def test_dry_run_sends_no_change(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk, dry_run=True)
        answer = await set_leverage(desk, "3")
        assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_DRY_RUN]
        await asyncio.sleep(0.1)
        assert not sent(venue)


async def test_while_the_venue_thinks_the_larger_margin_counts_and_the_caller_hears_requested(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.1", "50000")
    venue.leverage[BTC] = D(4)
    venue.latency["set_leverage"] = 2.0
    async with live_service(venue, pace=paced(call_seconds=5.0)) as desk:
        await open_live(desk)
        before = await desk.status("alice")
        assert before.margin_used == "1250"
        answer = await set_leverage(desk, "2", "slow", timeout=1.0)
        assert answer.venue_request.state == REQUESTED
        assert (answer.setting.state, answer.setting.requested_leverage) == (REQUESTED, "2")
        assert (await desk.status("alice")).margin_used == "2500"
        twice = await set_leverage(desk, "3")
        assert [one.reason for one in twice.violations] == [rejections_pb2.REFUSAL_REASON_CHANGE_PENDING]
        later = await set_leverage(desk, "2", "slow")
        assert later.replayed and later.venue_request.state == CONFIRMED
        assert len(sent(venue)) == 1


@pytest.mark.parametrize("executed", [True, False])
async def test_a_lost_answer_is_looked_up_and_the_change_is_not_sent_again(venue: FakeVenue, executed: bool) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("set_leverage", TIMED_OUT, 1, after=executed)
        answer = await set_leverage(desk, "3")
        said = answer.venue_request
        if executed:
            assert said.state == CONFIRMED and answer.setting.leverage == "3"
        else:
            assert (said.state, said.refusal_code) == (REFUSED, "NOT_CONFIRMED")
            assert "the venue shows 2" in said.refusal
        assert len(sent(venue)) == 1
        assert desk.engine.account("alice").leverage[BTC] == venue.leverage[BTC]


async def test_an_answer_that_never_comes_is_looked_up_too(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.latency["set_leverage"] = 60
        answer = await set_leverage(desk, "3")
        assert answer.venue_request.refusal_code == "NOT_CONFIRMED"


async def test_a_change_that_did_not_leave_goes_when_the_venue_is_back(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("set_leverage", UNREACHABLE, 2)
        answer = await set_leverage(desk, "3")
        assert answer.venue_request.state == CONFIRMED
        assert len(sent(venue)) == 3 and venue.leverage[BTC] == 3


async def test_a_change_that_could_not_leave_for_too_long_is_given_up(venue: FakeVenue) -> None:
    async with live_service(venue, pace=paced(pending_seconds_most=0.3)) as desk:
        await open_live(desk)
        venue.fail("set_leverage", UNREACHABLE)
        answer = await set_leverage(desk, "3")
        assert (answer.venue_request.state, answer.venue_request.refusal_code) == (REFUSED, "NOT_SENT")
        assert venue.leverage[BTC] == 2


async def test_what_the_venue_made_of_it_counts_when_it_is_something_else(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        broker: Any = desk.engine.live.supervisors["alice"].broker
        set_there = broker.set_leverage

        async def clamped(symbol: str, leverage: Any) -> Any:
            return await set_there(symbol, min(leverage, D(3)))

        broker.set_leverage = clamped
        answer = await set_leverage(desk, "5")
        assert (answer.venue_request.state, answer.setting.leverage) == (REFUSED, "3")
        assert "3 is in force" in answer.venue_request.refusal


@pytest.mark.parametrize(
    ("call", "executed"),
    [("state", False), ("set_leverage", False), ("set_leverage", True)],
    ids=["before it was sent", "sent and not executed", "executed"],
)
async def test_a_pending_change_survives_a_kill(venue: FakeVenue, call: str, executed: bool) -> None:
    """The service ends while the change is on its way: the next one asks what the venue has, then goes on."""
    journal = MemoryJournal()
    async with live_service(venue, journal=journal, pace=paced(call_seconds=30.0)) as desk:
        await open_live(desk)
        venue.hang(call, after=executed)
        reads = venue.count("state")
        await until(lambda: call != "state" or venue.count("state") > reads)
        answer = await set_leverage(desk, "3", timeout=0.8)
        assert answer.venue_request.state == REQUESTED
        assert desk.engine.account("alice").pending[BTC].kind is VenueChangeKind.LEVERAGE
    assert len(sent(venue)) == (0 if call == "state" else 1)
    venue.heal()
    async with live_service(venue, journal=journal) as desk:
        await until(lambda: not desk.engine.account("alice").pending)
        assert desk.engine.account("alice").leverage[BTC] == 3 == venue.leverage[BTC]
        assert len(sent(venue)) == (2 if call == "set_leverage" and not executed else 1)


async def test_what_a_venue_can_not_do_is_unimplemented_with_the_reason() -> None:
    venue = FakeVenue("kraken")
    venue.mark("BTCUSDT", "50000")
    async with live_service(venue) as desk:
        await open_live(desk, broker="kraken")
        request = wire.AdjustIsolatedMarginRequest(request_id="r", account_id="alice", symbol="BTCUSDT", amount="100")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await desk.leverage.AdjustIsolatedMargin(request)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        note = PROFILES["kraken"].capability(Feature.ADJUST_ISOLATED_MARGIN).note
        assert note and note in (raised.value.details() or "")


async def margin_mode(desk: Desk, mode: int) -> Any:
    return await desk.leverage.SetMarginMode(
        wire.SetMarginModeRequest(
            request_id=desk.request_id(),
            account_id="alice",
            symbol="BTCUSDT",
            margin_mode=mode,  # type: ignore[arg-type]
        )
    )


async def test_a_margin_mode_is_asked_of_the_venue(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await margin_mode(desk, types_pb2.MARGIN_MODE_ISOLATED)
        assert answer.venue_request.state == CONFIRMED
        assert answer.setting.margin_mode == types_pb2.MARGIN_MODE_ISOLATED
        assert venue.modes[BTC] is MarginMode.ISOLATED
        venue.fail("set_margin_mode", Rejected("open orders exist", code="110028"))
        answer = await margin_mode(desk, types_pb2.MARGIN_MODE_CROSS)
        assert (answer.venue_request.state, answer.venue_request.refusal) == (REFUSED, "open orders exist")
        assert answer.setting.margin_mode == types_pb2.MARGIN_MODE_ISOLATED


@pytest.fixture
def okx() -> Any:
    made = FakeVenue("okx")
    made.mark("BTCUSDT", "50000")
    made.hold("BTCUSDT", "0.1", "50000", isolated_margin="2500")
    yield made
    assert made.open_brokers == 0


async def post(desk: Desk, amount: str, request_id: str = "", **more: Any) -> Any:
    return await desk.leverage.AdjustIsolatedMargin(
        wire.AdjustIsolatedMarginRequest(
            request_id=request_id or desk.request_id(), account_id="alice", symbol="BTCUSDT", amount=amount
        ),
        **more,
    )


async def test_posted_margin_counts_once_the_venue_has_it(okx: FakeVenue) -> None:
    async with live_service(okx) as desk:
        await open_live(desk, broker="okx")
        answer = await post(desk, "100")
        assert answer.venue_request.state == CONFIRMED
        assert answer.position.isolated_margin == "2600"
        assert okx.positions["okx:BTCUSDT"].isolated_margin == 2600


@pytest.mark.parametrize("executed", [True, False])
async def test_posted_margin_of_unknown_outcome_is_never_posted_twice(okx: FakeVenue, executed: bool) -> None:
    async with live_service(okx) as desk:
        await open_live(desk, broker="okx")
        okx.fail("adjust_isolated_margin", Ambiguous("no answer"), 1, after=executed)
        answer = await post(desk, "100")
        assert answer.venue_request.state == (CONFIRMED if executed else REFUSED)
        expected = 2600 if executed else 2500
        await until(lambda: desk.engine.account("alice").positions["okx:BTCUSDT"].isolated_margin == expected)
        assert okx.count("adjust_isolated_margin") == 1


@pytest.mark.parametrize("executed", [True, False])
async def test_posted_margin_is_not_posted_again_after_a_kill(okx: FakeVenue, executed: bool) -> None:
    journal = MemoryJournal()
    async with live_service(okx, journal=journal, pace=paced(call_seconds=30.0)) as desk:
        await open_live(desk, broker="okx")
        okx.hang("adjust_isolated_margin", after=executed)
        answer = await post(desk, "100", timeout=0.8)
        assert answer.venue_request.state == REQUESTED
    okx.heal()
    async with live_service(okx, journal=journal) as desk:
        await until(lambda: not desk.engine.account("alice").pending)
        expected = 2600 if executed else 2500
        await until(lambda: desk.engine.account("alice").positions["okx:BTCUSDT"].isolated_margin == expected)
        assert okx.count("adjust_isolated_margin") == 1
        assert AlertKind.VENUE_REFUSED in kinds(desk.engine.account("alice"))
