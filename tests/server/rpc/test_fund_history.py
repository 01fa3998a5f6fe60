"""ListFundHistory: hours, days, weeks and months with their causes, which sum to the change of equity exactly."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from debt_mgmt.core.account import Side
from debt_mgmt.core.commands import RecordFill
from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.history_store import MemoryHistory
from debt_mgmt.v1 import fund_service_pb2 as wire
from tests.server.rpc.edge import CALL, RULES, START, Edge, running_edge

HOUR, DAY, WEEK, MONTH = (
    wire.FUND_INTERVAL_HOUR,
    wire.FUND_INTERVAL_DAY,
    wire.FUND_INTERVAL_WEEK,
    wire.FUND_INTERVAL_MONTH,
)
CAUSES = ("price", "funding", "interest", "fees", "transfers", "liquidation_cost", "synced")


async def history(edge: Edge, interval: Any = HOUR, account_id: str = "alice", **fields: Any) -> Any:
    request = wire.ListFundHistoryRequest(account_id=account_id, interval=interval, **fields)
    return await edge.funds.ListFundHistory(request, CALL)


async def pass_hours(edge: Edge, *prices: str) -> None:
    """An hour passes for each price, at whose end bitcoin has it."""
    for price in prices:
        edge.clock.advance(hours=1)
        await edge.mark(BTCUSDT=price)
        await edge.engine.sweep()


async def buy(edge: Edge, quantity: str, price: str, fee: str = "0", side: Side = Side.BUY) -> None:
    command = RecordFill(edge.request_id(), "BTCUSDT", side, Decimal(quantity), Decimal(price), Decimal(fee), "USDT")
    await edge.engine.submit("alice", command, request_id="", actor=SYSTEM)


async def deposit(edge: Edge, amount: str, asset: str = "USDT") -> None:
    request = wire.DepositRequest(request_id=edge.request_id(), account_id="alice", asset=asset, amount=amount)
    assert (await edge.funds.Deposit(request, CALL)).accepted


def parts(message: wire.ProfitAndLoss) -> dict[str, str]:
    """The parts that are not zero."""
    return {name: getattr(message, name) for name in (*CAUSES, "total") if getattr(message, name) != "0"}


def sums(message: wire.ProfitAndLoss) -> bool:
    return sum(Decimal(getattr(message, name)) for name in CAUSES) == Decimal(message.total)


def hour(number: int) -> datetime:
    return datetime(2026, 3, 2, number, tzinfo=UTC)


async def test_an_hour_tells_what_changed_equity(edge: Edge) -> None:
    await edge.open()
    await edge.mark(BTCUSDT="50000")
    await buy(edge, "0.1", "50000", fee="2.5")
    await deposit(edge, "100")
    await pass_hours(edge, "51000", "50500")
    await buy(edge, "0.05", "50600", fee="1", side=Side.SELL)
    answer = await history(edge)
    assert [one.start_time.ToDatetime(UTC) for one in answer.entries] == [hour(11), hour(10), hour(9)]
    assert [one.end_time.ToDatetime(UTC) for one in answer.entries] == [hour(12), hour(11), hour(10)]
    assert [one.equity for one in answer.entries] == ["10151.5", "10147.5", "10197.5"]
    assert [parts(one.profit_and_loss) for one in answer.entries] == [
        {"price": "5", "fees": "-1", "total": "4"},
        {"price": "-50", "total": "-50"},
        {"price": "100", "fees": "-2.5", "transfers": "10100", "total": "10197.5"},
    ]
    assert [one.realized_pnl for one in answer.entries] == ["30", "0", "0"]
    assert [one.wallet_balance for one in answer.entries] == ["10126.5", "10097.5", "10097.5"]
    assert [one.unrealized_pnl for one in answer.entries] == ["25", "50", "100"]
    assert parts(answer.total) == {"price": "55", "fees": "-3.5", "transfers": "10100", "total": "10151.5"}
    assert answer.realized_pnl == "30"
    assert all(sums(one.profit_and_loss) for one in answer.entries) and sums(answer.total)


async def test_longer_intervals_are_made_of_hours(edge: Edge) -> None:
    await edge.long_bitcoin()
    await pass_hours(edge, *(str(50_000 + 10 * number) for number in range(1, 40)))
    by_day = await history(edge, DAY)
    assert [one.start_time.ToDatetime(UTC).day for one in by_day.entries] == [4, 3, 2]
    # 15 h from nine in the morning, then a whole day, then what has passed of today, at 1 a step
    assert [one.profit_and_loss.price for one in by_day.entries] == ["0", "24", "15"]
    assert [one.equity for one in by_day.entries] == ["10039", "10039", "10015"]
    (week,) = (await history(edge, WEEK)).entries
    assert week.start_time.ToDatetime(UTC) == datetime(2026, 3, 2, tzinfo=UTC)
    (month,) = (await history(edge, MONTH)).entries
    assert month.start_time.ToDatetime(UTC) == datetime(2026, 3, 1, tzinfo=UTC)
    assert month.end_time.ToDatetime(UTC) == datetime(2026, 4, 1, tzinfo=UTC)
    assert month.profit_and_loss == week.profit_and_loss == by_day.total


async def test_pages_follow_each_other_without_a_gap(edge: Edge) -> None:
    await edge.long_bitcoin()
    await pass_hours(edge, *(str(50_000 + 10 * number) for number in range(1, 8)))
    whole = await history(edge)
    found: list[Any] = []
    token = ""
    while True:
        page = await history(edge, page_size=3, page_token=token)
        assert page.total == whole.total
        found += page.entries
        token = page.next_page_token
        if not token:
            break
    assert found == list(whole.entries) and len(found) == 8
    with pytest.raises(Fault) as raised:
        await history(edge, DAY, page_token=(await history(edge, page_size=3)).next_page_token)
    assert raised.value.reason is FaultReason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (hour(10), hour(12), [11, 10]),
        (hour(10) + timedelta(minutes=59), hour(11) + timedelta(minutes=1), [11, 10]),
        (hour(13), None, [14, 13]),
        (None, hour(10), [9]),
        (hour(10), hour(10), []),
        (hour(20), None, []),
        (None, datetime(1, 1, 2, tzinfo=UTC), []),
        (datetime(9999, 12, 30, tzinfo=UTC), None, []),
        (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC), [14, 13, 12, 11, 10, 9]),
    ],
)
async def test_a_period_is_what_ends_after_its_start_and_begins_before_its_end(
    edge: Edge, since: datetime | None, until: datetime | None, expected: list[int]
) -> None:
    await edge.long_bitcoin()
    await pass_hours(edge, "50010", "50020", "50030", "50040", "50050")
    answer = await history(edge, start_time=since, end_time=until)
    assert [one.start_time.ToDatetime(UTC).hour for one in answer.entries] == expected
    assert answer.HasField("total") == bool(expected)
    if expected:
        total = sum(Decimal(one.profit_and_loss.total) for one in answer.entries)
        assert Decimal(answer.total.total) == total


async def test_hours_in_which_nothing_can_change_are_left_out(edge: Edge) -> None:
    await edge.open()
    for _ in range(5):
        edge.clock.advance(hours=1)
        await edge.engine.sweep()
    await deposit(edge, "50")
    answer = await history(edge)
    assert [one.start_time.ToDatetime(UTC).hour for one in answer.entries] == [14, 9]
    assert [one.profit_and_loss.transfers for one in answer.entries] == ["50", "10000"]


async def test_without_a_price_nothing_is_said_of_that_hour_but_of_the_whole(edge: Edge) -> None:
    await edge.open()
    await edge.mark(BTCUSDT="50000")
    await deposit(edge, "100", "EUR")
    await buy(edge, "0.1", "50000")
    await pass_hours(edge, "50000")
    mark = edge.engine.marks.pop("BTCUSDT")
    edge.engine.present.clear()
    edge.clock.advance(hours=1)
    await edge.engine.sweep()
    edge.engine.marks["BTCUSDT"] = mark
    await pass_hours(edge, "51000")
    answer = await history(edge)
    known = [(one.HasField("equity"), one.HasField("profit_and_loss")) for one in answer.entries]
    assert known == [(True, True), (True, False), (False, False), (True, True)]
    # 100 euros at 1.10, of which a tenth does not count
    assert parts(answer.total) == {"price": "100", "transfers": "10099", "total": "10199"}


async def test_money_without_a_price_leaves_its_hour_and_the_whole_unknown(edge: Edge) -> None:
    await edge.open()
    await edge.mark(BTCUSDT="50000")
    await pass_hours(edge, "50000")
    command = RecordFill("odd", "BTCUSDT", Side.BUY, Decimal("0.1"), Decimal("50000"), Decimal(1), "NOSUCH")
    await edge.engine.submit("alice", command, request_id="", actor=SYSTEM)
    answer = await history(edge)
    assert not answer.HasField("total") and not answer.HasField("realized_pnl")
    assert [one.HasField("profit_and_loss") for one in answer.entries] == [False, True]


async def test_an_interval_that_is_closed_meanwhile_is_not_counted_twice(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.long_bitcoin()
    await pass_hours(edge, "51000")
    await deposit(edge, "70")
    expected = await history(edge)
    settled = edge.engine.history.settled

    async def closed_meanwhile() -> None:
        edge.clock.advance(hours=1)
        await edge.engine.sweep()
        await settled()

    monkeypatch.setattr(edge.engine.history, "settled", closed_meanwhile)
    answer = await history(edge)
    assert (answer.entries, answer.total) == (expected.entries, expected.total)


async def test_a_reset_is_a_transfer(edge: Edge) -> None:
    await edge.long_bitcoin()
    await pass_hours(edge, "51000")
    request = wire.ResetFundsRequest(request_id="back", account_id="alice", reason="again")
    assert (await edge.funds.ResetFunds(request, CALL)).accepted
    (now, before) = (await history(edge)).entries
    assert parts(now.profit_and_loss) == {"transfers": "-100", "total": "-100"}
    assert (now.equity, before.equity) == ("10000", "10100")


@pytest_asyncio.fixture
async def kolkata() -> AsyncIterator[Edge]:
    async for running in running_edge(risk=msgspec.structs.replace(RULES, day_zone="Asia/Kolkata")):
        yield running


async def test_days_and_hours_begin_where_the_configured_zone_says(kolkata: Edge) -> None:
    await kolkata.long_bitcoin()
    for _ in range(12):
        await pass_hours(kolkata, "50000")
    # half past six in the evening is midnight in Kolkata
    (today, yesterday) = (await history(kolkata, DAY)).entries
    assert today.start_time.ToDatetime(UTC) == datetime(2026, 3, 2, 18, 30, tzinfo=UTC)
    assert yesterday.end_time == today.start_time
    hours = (await history(kolkata)).entries
    assert {one.start_time.ToDatetime(UTC).minute for one in hours} == {30}


async def test_the_table_is_the_same_when_it_is_rebuilt_from_the_journal(edge: Edge) -> None:
    await edge.long_bitcoin()
    await edge.open("bob", owner="bob")
    await pass_hours(edge, "50100", "50300", "49000")
    engine = edge.engine
    await engine.history.settled()
    assert isinstance(engine.history.store, MemoryHistory)
    live = dict(engine.history.store.rows)
    assert {name: len(rows) for name, rows in live.items()} == {"alice": 3, "bob": 1}
    engine.history.store.rows = {"alice": live["alice"][:1]}
    engine.history.rebuild()
    await engine.history.settled()
    assert engine.history.store.rows == live


async def test_bad_input_is_named(edge: Edge) -> None:
    await edge.open()
    with pytest.raises(InvalidRequest) as raised:
        await history(edge, 17, account_id="", page_size=-1)
    assert [field for field, _ in raised.value.problems] == ["account_id", "page_size", "interval"]
    with pytest.raises(Fault) as unknown:
        await history(edge, account_id="nobody")
    assert unknown.value.reason is FaultReason.ACCOUNT_NOT_FOUND
    assert edge.clock.now == START
