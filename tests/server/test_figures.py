"""What an operator reads of a running service: each figure moves when that which it is about happens."""

import asyncio

import aiohttp
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from debt_mgmt.server.brokers.rate_budget import RateBudget
from debt_mgmt.server.engine_figures import SYMBOLS_SHOWN, largest
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.latencies import BOUNDS, Latencies
from debt_mgmt.server.metrics import EntranceFigures
from debt_mgmt.server.watch import Watcher
from debt_mgmt.v1 import margin_service_pb2, types_pb2
from tests.support.service import Desk, service, slow_journal

BUY = types_pb2.SIDE_BUY


async def scrape(desk: Desk) -> dict[str, float]:
    """Every sample, by its name and labels as text."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{desk.running.metrics_port}/metrics") as answer,
    ):
        assert answer.status == 200
        text = await answer.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('debt_mgmt_')}{{{labels}}}"] = sample.value
    return found


async def check(desk: Desk, quantity: str) -> None:
    order = types_pb2.Order(symbol="BTCUSDT", side=BUY, quantity=quantity)
    await desk.margin.CheckOrder(margin_service_pb2.CheckOrderRequest(account_id="alice", order=order))


async def test_decisions_and_checks_are_counted_by_result_and_reason() -> None:
    async with service() as desk:
        await desk.open("alice", "1000")
        await desk.mark({"BTCUSDT": "50000"})
        await check(desk, "0.01")
        await check(desk, "10")
        await desk.reserve("alice", BUY, "0.01")
        await desk.reserve("alice", BUY, "10")
        found = await scrape(desk)
    assert found["checks_total{result=accepted}"] == 1
    assert found["checks_total{result=refused}"] == 1
    assert found["check_refusals_total{reason=INSUFFICIENT_MARGIN}"] == 1
    assert found["decisions_total{command=ReserveMargin,result=accepted}"] == 1
    assert found["decisions_total{command=ReserveMargin,result=refused}"] == 1
    assert found["decisions_total{command=CreateAccount,result=accepted}"] == 1
    assert found["refusals_total{reason=INSUFFICIENT_MARGIN}"] == 1
    assert found["accounts_by_trading_state{state=ACTIVE}"] == 1
    assert found["accounts_by_level{level=NORMAL}"] == 1
    assert found["held_mark_age_seconds_max{}"] == 0, "nothing is held"


async def test_a_held_instrument_shows_the_age_of_its_mark() -> None:
    async with service() as desk:
        await desk.open("alice")
        await desk.mark({"BTCUSDT": "50000", "ETHUSDT": "3000"})
        await desk.fill("alice", BUY, "0.01", "BTCUSDT", "50000")
        del desk.engine.marks["ETHUSDT"]
        assert 0 <= (await scrape(desk))["held_mark_age_seconds_max{}"] < 60
        del desk.engine.marks["BTCUSDT"]
        assert (await scrape(desk))["held_mark_age_seconds_max{}"] == float("inf")


async def test_appends_are_counted_by_how_long_they_took_and_a_stuck_journal_shows() -> None:
    async with service() as desk:
        await desk.open("alice")
        before = await scrape(desk)
        assert before["journal_stuck_seconds{}"] == 0
        async with slow_journal(desk, 0.6):
            late = asyncio.create_task(desk.deposit("alice", "USD", "5"))
            await asyncio.sleep(0.3)
            during = await scrape(desk)
            await late
        after = await scrape(desk)
    assert 0.05 < during["journal_stuck_seconds{}"] < 30
    assert after["journal_stuck_seconds{}"] == 0
    longer = "journal_latency_seconds_bucket{le=0.5}"
    assert after["journal_latency_seconds_count{}"] - before["journal_latency_seconds_count{}"] == 1
    assert after[longer] == before[longer], "it took longer than half a second"


async def test_a_changed_row_is_found_unasked_and_once_mended_it_fits_again() -> None:
    journal = MemoryJournal()
    async with service(journal=journal) as desk:
        await desk.open("alice")
        chain, shards = desk.engine.chain, len(desk.engine.heads())
        for _ in range(shards):
            await chain.look()
        found = await scrape(desk)
        assert (found["chain_rounds_total{}"], found["chain_broken_logs{}"]) == (1, 0)
        assert found["chain_rows_walked_total{}"] == sum(head.position for head in desk.engine.heads().values())
        shard = desk.engine.home["alice"]
        rows = journal._logs[shard]
        whole = rows[0]
        rows[0] = replace(whole, payload=b"{}")
        for _ in range(shards):
            await chain.look()
        assert (await scrape(desk))["chain_broken_logs{}"] == 1
        (warning,) = desk.engine.health().warnings
        assert f"shard {shard} was changed at position 1" in warning
        assert chain.broken[shard].broken_position == 1
        rows[0] = whole
        for _ in range(shards):
            await chain.look()
        assert (await scrape(desk))["chain_broken_logs{}"] == 0 and desk.engine.health().warnings == []


async def test_failed_sign_ins_and_refusals_for_quotas_are_counted() -> None:
    async with service() as desk:
        found = await scrape(desk)
        assert found["sign_in_failures_total{}"] == 0
        assert found["entrance_problems{}"] == 0
        assert found["open_streams{}"] == 0
        figures = desk.running.entrance.figures(3)
        assert figures == EntranceFigures({}, 3, 0, 0)
        desk.running.entrance.quotas.refused["openings_per_hour"] += 2
        assert (await scrape(desk))["quota_refusals_total{quota=openings_per_hour}"] == 2


def test_a_watcher_lags_from_when_news_is_due_until_it_takes_it() -> None:
    now = [100.0]
    watcher = Watcher(None, 0.5, 10.0, clock=lambda: now[0])
    assert watcher.lag_seconds(now[0]) == 0
    watcher.touch("alice")
    now[0] += 0.5
    assert watcher.lag_seconds(now[0]) == 0, "it asked for no more than one every half second"
    now[0] += 4
    assert watcher.lag_seconds(now[0]) == 4
    watcher.touch("alice")
    assert watcher.lag_seconds(now[0]) == 4


async def test_a_watcher_that_has_taken_everything_lags_no_more() -> None:
    now = [100.0]
    watcher = Watcher(None, 0.5, 10.0, clock=lambda: now[0])
    watcher.touch("alice")
    now[0] += 4
    assert (await watcher.take()).account_id == "alice"
    now[0] += 4
    assert watcher.lag_seconds(now[0]) == 0


def test_the_free_share_of_a_rate_budget_is_zero_while_the_venue_says_wait() -> None:
    now = [0.0]
    budget = RateBudget(10.0, 20.0, 0.2, clock=lambda: now[0])
    assert budget.free_share() == 1
    budget.level = 5.0
    assert budget.free_share() == 0.25
    now[0] = 0.5
    assert budget.free_share() == 0.5
    budget.pause(3)
    assert budget.free_share() == 0


def test_buckets_of_latencies_are_cumulative_and_add_up() -> None:
    one, other = Latencies(), Latencies()
    for seconds in (0.0005, 0.003, 0.3):
        one.note(seconds)
    other.note(60.0)
    one.add(other)
    buckets = one.buckets()
    assert [count for _, count in buckets[:4]] == [1, 1, 1, 2]
    assert buckets[-1] == ("+Inf", 4)
    assert len(buckets) == len(BOUNDS) + 1
    assert one.seconds == pytest.approx(60.3035)


def test_labels_are_bounded_however_many_accounts_and_prices_there_are() -> None:
    ages = {f"S{number}": float(number) for number in range(SYMBOLS_SHOWN * 3)}
    shown = largest(ages, SYMBOLS_SHOWN)
    assert len(shown) == SYMBOLS_SHOWN
    assert min(shown.values()) == SYMBOLS_SHOWN * 2, "the oldest ones"
