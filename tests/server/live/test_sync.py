"""Live accounts are kept as their venue has them: read at once, when something is pushed, and again and again."""

import asyncio
from decimal import Decimal

import grpc
import pytest

from debt_mgmt.core.account import AlertKind, RiskLevel
from debt_mgmt.core.venue import SyncStatus
from debt_mgmt.server.brokers.broker import Denied, Unreachable
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import account_service_pb2, margin_service_pb2, rejections_pb2, types_pb2
from tests.server.live.desk import BTC, FAST, D, is_fresh, kinds, live_service, open_live, paced, until
from tests.support.live_broker import BAD_KEY, UNREACHABLE, FakeVenue, FakeVenues
from tests.support.service import Desk, service

BUY = types_pb2.SIDE_BUY
SELL = types_pb2.SIDE_SELL


async def sync(desk: Desk, request_id: str = "sync") -> account_service_pb2.SyncAccountResponse:
    answer: account_service_pb2.SyncAccountResponse = await desk.accounts.SyncAccount(
        account_service_pb2.SyncAccountRequest(request_id=request_id, account_id="alice")
    )
    return answer


async def test_the_first_read_brings_everything_that_the_venue_has(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.2", "48000", liquidation_price="31000")
    async with live_service(venue) as desk:
        account = await open_live(desk)
        assert account.balances == {"USDT": D(10_000)}
        position = account.positions[BTC]
        assert (position.quantity, position.entry_price, position.leverage) == (D("0.2"), D(48_000), D(2))
        assert account.level is RiskLevel.NORMAL
        assert desk.engine.house.instruments[BTC] == venue.terms[BTC]
        assert desk.engine.marks[BTC].price == 50_000
        shown = (await desk.accounts.GetAccount(account_service_pb2.GetAccountRequest(account_id="alice"))).account
        assert shown.sync.status == account_service_pb2.SYNC_STATUS_FRESH
        assert (shown.sync.venue_currency, shown.sync.venue_equity) == ("USDT", "10400")
        status = await desk.status("alice")
        assert (status.equity, status.margin_used) == ("10400", "5000")


async def test_a_position_shows_the_venues_liquidation_price_and_whose_it_is(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.2", "48000", liquidation_price="31000")
    async with live_service(venue) as desk:
        await open_live(desk)
        request = margin_service_pb2.ListPositionsRequest(account_id="alice", symbols=["BTCUSDT"])
        (position,) = (await desk.margin.ListPositions(request)).positions
        assert position.symbol == BTC
        assert position.venue_liquidation_price == "31000"
        assert position.venue_liquidation_price_provenance == types_pb2.PROVENANCE_VENUE
        assert position.liquidation_price != position.venue_liquidation_price


async def test_nothing_that_adds_risk_passes_before_the_first_read_and_reducing_always_does(venue: FakeVenue) -> None:
    venue.latency["state"] = 0.3
    async with live_service(venue) as desk:
        await desk.accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id="c", account_id="alice", broker="bybit", environment=types_pb2.ENVIRONMENT_LIVE
            )
        )
        await until(lambda: desk.engine.live.supervisors["alice"].broker is not None)
        answer = await desk.reserve("alice", BUY, "0.01")
        assert rejections_pb2.REFUSAL_REASON_ACCOUNT_NOT_SYNCED in [one.reason for one in answer.violations]
        await until(lambda: is_fresh(desk.engine.account("alice")))
        assert (await desk.reserve("alice", BUY, "0.01")).accepted


async def test_what_is_pushed_is_read_at_once(venue: FakeVenue) -> None:
    async with live_service(venue, pace=paced(poll_seconds=60.0)) as desk:
        await open_live(desk)
        await until(lambda: venue.count("changes"))
        venue.hold("BTCUSDT", "-0.1", "50500")
        await asyncio.sleep(0.1)
        assert not desk.engine.account("alice").positions, "nothing was pushed and it is not time"
        venue.push()
        await until(lambda: desk.engine.account("alice").positions)
        assert desk.engine.account("alice").positions[BTC].quantity == D("-0.1")


async def test_without_a_push_the_account_is_asked_for_again_and_again(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.hold("BTCUSDT", "0.1", "50500")
        await until(lambda: desk.engine.account("alice").positions)
        del venue.positions[BTC]
        await until(lambda: not desk.engine.account("alice").positions)
        alerts = [one for one in desk.engine.account("alice").alerts if one.kind is AlertKind.POSITION_CHANGED]
        assert len(alerts) == 2
        assert "is gone" in alerts[-1].message


async def test_a_state_that_differs_in_nothing_is_not_journaled(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.1", "50500")
    async with live_service(venue) as desk:
        await open_live(desk)
        await asyncio.sleep(0.2)
        reads, revision = venue.count("state"), desk.engine.revision("alice")
        await until(lambda: venue.count("state") > reads + 5)
        assert desk.engine.revision("alice") == revision
        venue.balances["USDT"] -= 1
        await until(lambda: desk.engine.account("alice").balances["USDT"] == 9_999)


async def test_its_age_is_renewed_before_it_is_too_old(venue: FakeVenue) -> None:
    async with live_service(venue, risk_settings__live_state_max_age_seconds="1") as desk:
        account = await open_live(desk)
        assert account.sync is not None
        first = account.sync.at
        await asyncio.sleep(1.3)
        after = desk.engine.account("alice")
        assert after.sync is not None and after.sync.at is not None and first is not None
        assert after.sync.at > first
        assert AlertKind.SYNC_LOST not in kinds(after) and after.level is RiskLevel.NORMAL


async def test_sync_account_reads_now_and_names_every_difference(venue: FakeVenue) -> None:
    async with live_service(venue, pace=paced(poll_seconds=60.0)) as desk:
        await open_live(desk)
        venue.hold("BTCUSDT", "0.1", "50500")
        venue.balances["USDT"] = D("9990")
        answer = await sync(desk)
        assert answer.accepted and not answer.replayed
        found = {(one.field, one.subject): (one.recorded_value, one.broker_value) for one in answer.differences}
        assert found["quantity", BTC] == ("", "0.1")
        assert found["wallet_balance", "USDT"] == ("10000", "9990")
        again = await sync(desk)
        assert again.replayed
        assert list(again.differences) == list(answer.differences)
        nothing = await sync(desk, "later")
        assert nothing.accepted and not nothing.differences


async def test_sync_account_fails_with_the_venues_words(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("state", UNREACHABLE)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await sync(desk)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "connection refused" in (raised.value.details() or "")
        venue.heal()
        venue.fail("connect", BAD_KEY)
        venue.fail("state", BAD_KEY)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await sync(desk, "denied")
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "API key is invalid" in (raised.value.details() or "")
        venue.heal()


@pytest.mark.parametrize(
    ("call", "fault", "words"),
    [
        ("connect", UNREACHABLE, "connection refused"),
        ("connect", BAD_KEY, "API key is invalid"),
        ("state", UNREACHABLE, "connection refused"),
        ("state", Unreachable("too many requests", code="429", retry_after_seconds=0.05), "too many requests"),
        ("state", Unreachable("<html>502 Bad Gateway</html>", code="502"), "502"),
        ("state", Denied("your location is not served", code="451"), "location"),
        ("instruments", UNREACHABLE, "connection refused"),
    ],
)
async def test_a_fault_makes_the_account_unknown_with_the_reason_and_keeps_what_was_known(
    venue: FakeVenue, call: str, fault: Exception, words: str
) -> None:
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue) as desk:
        known = await open_live(desk)
        assert known.sync is not None
        desk.engine.live.supervisors["alice"].known.clear()
        venue.fail(call, fault)  # type: ignore[arg-type]
        if call == "connect":
            venue.fail("state", fault, 2)  # type: ignore[arg-type]
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN, "the level stays known")
        lost = desk.engine.account("alice")
        assert lost.sync is not None
        assert lost.sync.status is SyncStatus.LOST and words in lost.sync.reason
        assert (lost.positions, lost.balances) == (known.positions, known.balances)
        assert lost.sync.at is not None and known.sync.at is not None and lost.sync.at >= known.sync.at
        refused = await desk.reserve("alice", BUY, "0.01")
        assert rejections_pb2.REFUSAL_REASON_ACCOUNT_NOT_SYNCED in [one.reason for one in refused.violations]
        assert (await desk.reserve("alice", SELL, "0.01", reduce_only=True)).accepted
        assert any("alice" in reason and words in reason for reason in desk.engine.protecting())
        assert venue.count("place") == 0
        await asyncio.sleep(0.3)
        assert kinds(desk.engine.account("alice")).count(AlertKind.SYNC_LOST) == 1, "it is said once"
        venue.heal()
        await until(lambda: is_fresh(desk.engine.account("alice")), "it does not come back")
        back = desk.engine.account("alice")
        assert back.level is RiskLevel.NORMAL
        assert kinds(back).count(AlertKind.SYNC_RESTORED) == 1
        assert not desk.engine.protecting()


async def test_one_failed_read_is_forgiven(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        connects = venue.count("connect")
        venue.fail("state", UNREACHABLE, 1)
        reads = venue.count("state")
        await until(lambda: venue.count("state") > reads + 3)
        assert AlertKind.SYNC_LOST not in kinds(desk.engine.account("alice"))
        assert venue.count("connect") == connects


async def test_an_answer_that_never_comes_is_a_fault_too(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.latency["state"] = 60
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN)
        sync = desk.engine.account("alice").sync
        assert sync is not None and "no answer within" in sync.reason
        venue.latency.clear()
        await until(lambda: is_fresh(desk.engine.account("alice")))


async def test_a_dropped_stream_of_changes_loses_nothing(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.fail("changes", UNREACHABLE, 3)
        venue.push()
        venue.hold("BTCUSDT", "0.1", "50500")
        await until(lambda: desk.engine.account("alice").positions)
        assert AlertKind.SYNC_LOST not in kinds(desk.engine.account("alice"))


async def test_a_position_in_an_instrument_that_the_venue_does_not_explain_loses_the_account(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.leverage["bybit:ODDUSDT"] = D(2)
        venue.hold("ODDUSDT", "5", "3")
        terms = venue.terms
        terms["bybit:ODDUSDT"] = terms[BTC]
        state = venue.state
        venue.state = lambda: state()  # type: ignore[method-assign]
        del terms["bybit:ODDUSDT"]
        venue.terms = _Forgetful(terms, BTC)
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN)
        sync = desk.engine.account("alice").sync
        assert sync is not None and "bybit:ODDUSDT" in sync.reason
        venue.positions.clear()
        await until(lambda: is_fresh(desk.engine.account("alice")))


class _Forgetful(dict):  # type: ignore[type-arg]
    """Terms that answer for one more instrument when positions are valued, and not when they are asked for."""

    def __init__(self, terms: dict, fallback: str) -> None:  # type: ignore[type-arg]
        super().__init__(terms)
        self.fallback = fallback

    def __missing__(self, key: str) -> object:
        return self[self.fallback]


async def test_a_closed_account_is_left_alone(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        answer = await desk.accounts.CloseAccount(
            account_service_pb2.CloseAccountRequest(request_id="close", account_id="alice")
        )
        assert answer.accepted
        await until(lambda: venue.open_brokers == 0)
        reads = venue.count("state")
        await asyncio.sleep(0.2)
        assert venue.count("state") == reads


async def test_prices_come_from_the_venue_and_say_so(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.mark("BTCUSDT", "51000")
        await until(lambda: desk.engine.marks[BTC].price == 51_000)
        assert desk.engine.marks[BTC].source == "bybit"
        venue.has_marks = False
        venue.mark("BTCUSDT", "51100")
        await until(lambda: desk.engine.marks[BTC].price == 51_100)
        assert desk.engine.marks[BTC].source == "bybit last price"


async def test_marks_that_are_pushed_are_taken_at_once(venue: FakeVenue) -> None:
    venue.pushes = True
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue, pace=paced(mark_poll_seconds=60.0)) as desk:
        await open_live(desk)
        await until(lambda: venue.count("watch"))
        for price in ("50100", "50200", "50300"):
            venue.mark("BTCUSDT", price)
            await until(lambda price=price: desk.engine.marks[BTC].price == Decimal(price))  # type: ignore[misc]


async def test_a_restart_reads_the_account_again_and_keeps_what_was_known_until_then(venue: FakeVenue) -> None:
    journal = MemoryJournal()
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue, journal=journal) as desk:
        await open_live(desk)
    venue.fail("connect", UNREACHABLE)
    async with live_service(venue, journal=journal) as desk:
        account = desk.engine.account("alice")
        assert account.positions[BTC].quantity == D("0.1")
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN)
        venue.positions.clear()
        venue.heal()
        await until(lambda: not desk.engine.account("alice").positions)
        assert kinds(desk.engine.account("alice")).count(AlertKind.POSITION_CHANGED) == 1


async def test_time_alone_loses_an_account_that_nobody_reads(venue: FakeVenue) -> None:
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue, risk_settings__live_state_max_age_seconds="1") as desk:
        await open_live(desk)
        await desk.engine.live.supervisors["alice"].stop()
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN)
        assert (await desk.status("alice")).level == types_pb2.RISK_LEVEL_UNKNOWN
        shown = (await desk.accounts.GetAccount(account_service_pb2.GetAccountRequest(account_id="alice"))).account
        assert shown.sync.status == account_service_pb2.SYNC_STATUS_LOST


async def test_collateral_is_valued_by_the_venues_mark_where_nobody_else_gives_one(venue: FakeVenue) -> None:
    venue.balances["BTC"] = D("0.5")
    async with live_service(venue) as desk:
        await open_live(desk)
        await until(lambda: "BTCUSDT" in desk.engine.marks)
        status = await desk.status("alice")
        assert status.total_value == "35000" and status.level == types_pb2.RISK_LEVEL_NORMAL
        await desk.mark({"BTCUSDT": "50010"})
        asked = venue.count("marks")
        await until(lambda: venue.count("marks") > asked + 3)
        assert desk.engine.marks["BTCUSDT"].source == "test", "a name that somebody else publishes is his"


async def test_collateral_that_nobody_prices_leaves_the_account_unknown(venue: FakeVenue) -> None:
    venue.balances["DOGE"] = D("1000")
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue) as desk:
        await open_live(desk)
        assert desk.engine.account("alice").level is RiskLevel.UNKNOWN
        answer = await desk.reserve("alice", BUY, "0.01")
        assert rejections_pb2.REFUSAL_REASON_MISSING_MARK in [one.reason for one in answer.violations]


async def test_an_exchange_that_is_no_longer_enabled_keeps_what_was_known_and_says_why(venue: FakeVenue) -> None:
    journal = MemoryJournal()
    venue.hold("BTCUSDT", "0.1", "50000")
    async with live_service(venue, journal=journal) as desk:
        await open_live(desk)
    async with service(journal=journal, venues=FakeVenues(), pace=FAST) as desk:
        await until(lambda: desk.engine.account("alice").level is RiskLevel.UNKNOWN)
        account = desk.engine.account("alice")
        assert account.sync is not None and "brokers.bybit.enabled" in account.sync.reason
        assert account.positions[BTC].quantity == D("0.1")


async def test_one_key_is_one_account(venue: FakeVenue) -> None:
    async with live_service(venue) as desk:
        await open_live(desk)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await open_live(desk, "bob")
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "alice" in (raised.value.details() or "")
