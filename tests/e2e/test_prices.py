"""Prices that are wrong, old, missing or doubtful: they block new risk, are said aloud, and never cause a sale."""

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from debt_mgmt.core.account import AlertKind, RiskLevel
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import margin_service_pb2, market_service_pb2, types_pb2
from tests.e2e.books import BUY, SELL, open_fresh, order, shown
from tests.support.service import Clock, Desk, service
from tests.support.wire import call, failure_of, heads, reasons

pytestmark = pytest.mark.asyncio(loop_scope="module")

MarkUpdate = market_service_pb2.MarkUpdate
QUARANTINE = market_service_pb2.QuarantineReason


class Market:
    """A service with prices at 60,000 and 3,000, and the clock that it lives by."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self.desk = desk
        self.clock = clock

    async def publish(
        self,
        price: str,
        symbol: str = "BTCUSDT",
        *,
        source: str = "feed",
        seconds: float | None = None,
        tape: bool = False,
        settle: bool = True,
    ) -> Any:
        """One price, `seconds` after now by its source, or without a time of its own."""
        update = MarkUpdate(symbol=symbol, price=price, source=source)
        if seconds is not None:
            update.source_time.FromDatetime(self.clock.now + timedelta(seconds=seconds))
        clock = market_service_pb2.MARK_CLOCK_TAPE if tape else market_service_pb2.MARK_CLOCK_LIVE
        request = market_service_pb2.PublishMarksRequest(marks=[update], clock=clock, settle=settle)
        return await call(self.desk.channel, "MarketService/PublishMarks", request)

    async def reset(self) -> None:
        """Fresh prices, whatever was before."""
        self.desk.engine.guard.last.clear()
        self.desk.engine.guard.suspects.clear()
        await self.desk.mark({"BTCUSDT": "60000", "ETHUSDT": "3000"})

    def in_force(self, symbol: str = "BTCUSDT") -> str:
        return str(self.desk.engine.marks[symbol].price)

    async def holder(self) -> str:
        """10,000 USDT and 0.5 BTC at 5x from 60,000: 70 % is used at 56,000, 80 % at 53,333, 90 % at 51,428."""
        name = await open_fresh(self.desk)
        await self.desk.lever(name, "BTCUSDT", "5")
        await self.desk.fill(name, BUY, "0.5", "BTCUSDT", "60000")
        return name

    def alerts(self, account_id: str) -> list[AlertKind]:
        return [alert.kind for alert in self.desk.engine.account(account_id).alerts]

    def level(self, account_id: str) -> RiskLevel:
        return self.desk.engine.account(account_id).level


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Market]:
    clock = Clock()
    async with service(clock=clock, prices__pre_trade_max_age_seconds="5", prices__mark_max_age_seconds="20") as desk:
        yield Market(desk, clock)


@pytest_asyncio.fixture(loop_scope="module")
async def market(running: Market) -> Market:
    running.clock.advance(seconds=1)
    await running.reset()
    return running


# what is held back


class Case(NamedTuple):
    price: str
    reason: str
    symbol: str = "BTCUSDT"
    seconds: float | None = None
    tape: bool = False


HELD_BACK = [
    Case("60000", "UNKNOWN_SYMBOL", symbol="NOSUCH"),
    Case("60000", "UNKNOWN_SYMBOL", symbol=""),
    Case("0", "INVALID_PRICE"),
    Case("0.000", "INVALID_PRICE"),
    Case("-60000", "INVALID_PRICE"),
    Case("NaN", "INVALID_PRICE"),
    Case("inf", "INVALID_PRICE"),
    Case("6e4", "INVALID_PRICE"),
    Case("", "INVALID_PRICE"),
    Case("9" * 400, "INVALID_PRICE"),
    Case("60001", "INVALID_TIME", seconds=60),
    Case("60001", "INVALID_TIME", seconds=-21),
    Case("60001", "INVALID_TIME", tape=True),
    Case("60001", "OUT_OF_ORDER", seconds=-1),
    Case("72001", "DEVIATION"),
    Case("47999", "DEVIATION"),
    Case("600000", "DEVIATION"),
]


@pytest.mark.parametrize("case", HELD_BACK, ids=lambda case: f"{case.reason}-{case.price[:8]}-{case.seconds}")
async def test_a_bad_price_is_held_back_with_its_reason(market: Market, case: Case) -> None:
    name = await market.holder()
    before = heads(market.desk.engine)
    answer = await market.publish(case.price, case.symbol, seconds=case.seconds, tape=case.tape)
    assert (answer.accepted_count, answer.quarantined_count) == (0, 1)
    (held,) = answer.quarantined
    assert QUARANTINE.Name(held.reason) == f"QUARANTINE_REASON_{case.reason}"
    assert held.mark.symbol == case.symbol and held.message
    assert case.price.startswith(held.mark.price)
    assert market.in_force() == "60000"
    assert heads(market.desk.engine) == before
    assert market.level(name) is RiskLevel.NORMAL


async def test_a_price_within_the_guard_is_taken(market: Market) -> None:
    for price in ("72000", "57600", "60000.1"):
        market.clock.advance(seconds=1)
        assert (await market.publish(price, seconds=0)).accepted_count == 1
        assert market.in_force() == price


async def test_only_the_first_hundred_are_shown(market: Market) -> None:
    bad = [MarkUpdate(symbol=f"NOSUCH-{number}", price="1") for number in range(150)]
    request = market_service_pb2.PublishMarksRequest(marks=bad)
    answer = await call(market.desk.channel, "MarketService/PublishMarks", request, request)
    assert (answer.quarantined_count, len(answer.quarantined)) == (300, 100)


async def test_the_last_price_of_a_symbol_in_a_batch_counts(market: Market) -> None:
    marks = [MarkUpdate(symbol="BTCUSDT", price=price) for price in ("59000", "NaN", "61000")]
    answer = await call(
        market.desk.channel, "MarketService/PublishMarks", market_service_pb2.PublishMarksRequest(marks=marks)
    )
    assert (answer.accepted_count, market.in_force()) == (1, "61000")


async def test_the_clock_is_the_same_in_the_whole_stream(market: Market) -> None:
    live = market_service_pb2.PublishMarksRequest(clock=market_service_pb2.MARK_CLOCK_LIVE)
    tape = market_service_pb2.PublishMarksRequest(clock=market_service_pb2.MARK_CLOCK_TAPE)
    failure = await failure_of(market.desk.channel, "MarketService/PublishMarks", live, tape)
    assert (failure.reason, failure.fields) == ("INVALID_REQUEST", ["clock"])


# jumps


async def test_a_jump_waits_for_a_second_price(market: Market) -> None:
    assert (await market.publish("45000", seconds=0)).quarantined_count == 1
    assert (await market.publish("45000", seconds=0)).quarantined_count == 1, "said twice is not confirmed"
    market.clock.advance(seconds=1)
    assert (await market.publish("45100", seconds=0)).accepted_count == 1
    assert market.in_force() == "45100"


async def test_a_jump_is_confirmed_by_another_source(market: Market) -> None:
    assert (await market.publish("45000", source="one", seconds=0)).quarantined_count == 1
    assert (await market.publish("45050", source="two", seconds=0)).accepted_count == 1


async def test_a_jump_that_is_taken_back_is_forgotten(market: Market) -> None:
    for price, accepted in (("45000", 0), ("60100", 1), ("45000", 0), ("30000", 0), ("60000", 1)):
        market.clock.advance(seconds=1)
        assert (await market.publish(price, seconds=0)).accepted_count == accepted, price


async def test_nothing_is_sold_on_an_unconfirmed_jump(market: Market) -> None:
    name = await market.holder()
    await market.publish("41000", seconds=0)
    account = market.desk.engine.account(name)
    assert (account.level, account.reduction, account.alerts) == (RiskLevel.NORMAL, None, ())
    market.clock.advance(seconds=1)
    await market.publish("51000", seconds=0)
    account = market.desk.engine.account(name)
    assert account.past_reductions, "a fall within the guard needs no confirmation"
    assert account.positions["BTCUSDT"].quantity < Decimal("0.5")


async def test_prices_of_a_batch_hold_together(market: Market) -> None:
    """Bitcoin falls and a short position in ether gains: looked at one by one, the account would have been warned.

    Alone: 6,250 used of 8,250. Together: 6,140 of 8,800.
    """
    name = await market.holder()
    await market.desk.lever(name, "ETHUSDT", "5")
    await market.desk.fill(name, SELL, "1", "ETHUSDT", "3000")
    marks = [MarkUpdate(symbol="BTCUSDT", price="56500"), MarkUpdate(symbol="ETHUSDT", price="2450")]
    await call(market.desk.channel, "MarketService/PublishMarks", market_service_pb2.PublishMarksRequest(marks=marks))
    assert (market.level(name), market.alerts(name)) == (RiskLevel.NORMAL, [])
    await market.publish("2900", "ETHUSDT")
    assert market.level(name) is RiskLevel.WARNING


# age


async def test_old_prices_refuse_new_risk_first(market: Market) -> None:
    name = await market.holder()
    market.clock.advance(seconds=5)
    check = margin_service_pb2.CheckOrderRequest(account_id=name, order=order(BUY, "0.001"))
    assert (await market.desk.margin.CheckOrder(check)).result.fits
    market.clock.advance(milliseconds=500)
    answer = await market.desk.margin.CheckOrder(check)
    assert reasons(answer.result.violations) == ["STALE_MARK"]
    assert shown(answer.result.violations[0], "subject", "value", "limit") == ["BTCUSDT", "5.5", "5"]
    assert answer.result.mark.age.ToTimedelta() == timedelta(seconds=5.5)
    assert market.level(name) is RiskLevel.NORMAL
    await market.publish("60000")
    assert (await market.desk.margin.CheckOrder(check)).result.fits


async def test_older_prices_make_the_level_unknown_and_say_so_once(market: Market) -> None:
    name = await market.holder()
    idle = await open_fresh(market.desk)
    market.clock.advance(seconds=21)
    status = await market.desk.status(name)
    assert shown(status, "level", "stale", "equity") == [types_pb2.RISK_LEVEL_UNKNOWN, True, "10000"]
    assert list(status.stale_symbols) == ["BTCUSDT"]
    for _ in range(3):
        await market.desk.engine.sweep()
        market.clock.advance(seconds=1)
    assert market.level(name) is RiskLevel.UNKNOWN
    assert market.alerts(name) == [AlertKind.LEVEL_UNKNOWN]
    assert "BTCUSDT" in market.desk.engine.account(name).alerts[0].message
    assert (await market.desk.status(idle)).level == types_pb2.RISK_LEVEL_NORMAL, "who holds nothing needs no price"
    await market.publish("60000")
    assert market.level(name) is RiskLevel.NORMAL
    assert shown(await market.desk.status(name), "level", "stale") == [types_pb2.RISK_LEVEL_NORMAL, False]
    assert (await market.desk.reserve(name, BUY, "0.001")).accepted


async def test_it_is_said_again_after_a_recovery(market: Market) -> None:
    name = await market.holder()
    for times in (1, 2):
        market.clock.advance(seconds=21)
        await market.desk.engine.sweep()
        assert market.alerts(name).count(AlertKind.LEVEL_UNKNOWN) == times
        await market.publish("60000")


async def test_nothing_is_sold_while_a_price_is_missing_to_say_so(market: Market) -> None:
    """Ether's price is old while bitcoin falls below every threshold; once both are fresh, it is sold at once."""
    name = await market.holder()
    await market.desk.fill(name, BUY, "0.1", "ETHUSDT", "3000")
    market.clock.advance(seconds=21)
    await market.publish("51000", settle=False)
    await market.desk.engine.sweep()
    account = market.desk.engine.account(name)
    assert (account.level, account.reduction, account.past_reductions) == (RiskLevel.UNKNOWN, None, ())
    assert account.positions["BTCUSDT"].quantity == Decimal("0.5")
    await market.publish("3000", "ETHUSDT")
    account = market.desk.engine.account(name)
    assert account.past_reductions and account.positions["BTCUSDT"].quantity < Decimal("0.5")


async def test_a_close_on_request_needs_no_fresh_price(market: Market) -> None:
    name = await market.holder()
    market.clock.advance(seconds=3600)
    await market.desk.engine.sweep()
    answer = await market.desk.margin.ClosePosition(
        margin_service_pb2.ClosePositionRequest(request_id=market.desk.request_id(), account_id=name, symbol="BTCUSDT")
    )
    assert (answer.accepted, answer.done) == (True, True)


async def test_after_a_restart_prices_are_unknown_not_zero() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        market = Market(desk, clock)
        await market.reset()
        name = await market.holder()
        await desk.deposit(name, "BTC", "0.5")
    async with service(journal=journal, clock=clock) as desk:
        market = Market(desk, clock)
        status = await desk.status(name)
        absent = ("equity", "margin_used", "margin_available", "margin_utilization", "maintenance_ratio")
        assert shown(status, *absent, "wallet_balance", "unrealized_pnl") == [None] * 7
        assert shown(status, "level", "stale", "open_positions") == [types_pb2.RISK_LEVEL_UNKNOWN, True, 1]
        assert list(status.stale_symbols) == ["BTCUSDT"] and not status.shocks
        listed = await desk.margin.ListPositions(margin_service_pb2.ListPositionsRequest(account_id=name))
        assert shown(listed.positions[0], "quantity", "mark_price", "notional", "unrealized_pnl") == [
            "0.5", None, None, None,
        ]  # fmt: skip
        total = await desk.margin.GetPortfolio(margin_service_pb2.GetPortfolioRequest(account_id=name))
        assert shown(total.portfolio, "equity", "total_value", "stale", "realized_pnl") == [None, None, True, "0"]
        assert reasons((await desk.reserve(name, BUY, "0.001")).violations) == ["MISSING_MARK"]
        clock.advance(seconds=31)
        await desk.engine.sweep()
        assert market.alerts(name) == [AlertKind.LEVEL_UNKNOWN]
        await market.reset()
        assert market.level(name) is RiskLevel.NORMAL
        assert (await desk.status(name)).equity == "38500"  # 10,000 + 30,000 × 0.95


# recordings


async def test_recorded_prices_carry_the_time_of_their_market(market: Market) -> None:
    name = await market.holder()
    answer = await market.publish("59000", seconds=-86_400 * 3000, tape=True)
    assert answer.accepted_count == 1
    (mark,) = (await market.desk.market.ListMarks(market_service_pb2.ListMarksRequest(symbols=["BTCUSDT"]))).marks
    assert shown(mark, "price", "stale", "source") == ["59000", False, "feed"]
    assert market.clock.now - mark.source_time.ToDatetime(UTC) == timedelta(days=3000)
    assert mark.age.ToTimedelta() == timedelta(0), "how long it is known counts, not when the market was"
    assert (await market.desk.status(name)).unrealized_pnl == "-500"
    rewound = await market.publish("20000", seconds=-86_400 * 3001, tape=True)
    assert rewound.accepted_count == 1, "a recording that begins again is not compared with its end"
    live = await market.publish("60000")
    assert live.accepted_count == 1, "nor is a live price compared with a recorded one"
    await market.reset()
