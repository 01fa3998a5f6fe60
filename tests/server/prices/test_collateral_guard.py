"""One venue's bad print moves positions on that instrument, and no account's collateral or debt, until confirmed."""

from datetime import timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import AlertKind, RiskLevel, Side
from debt_mgmt.core.market import AssetRule, Mark
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.prices.collateral_guard import CollateralGuard
from debt_mgmt.server.prices.marks import MarkUpdate
from tests.server.rpc.edge import RULES, START, Edge

D = Decimal


def mark(price: str, seconds: float = 0, source: str = "one") -> Mark:
    at = START + timedelta(seconds=seconds)
    return Mark("BTCUSDT", D(price), source, at, at)


def guard() -> CollateralGuard:
    return CollateralGuard(D("0.10"), timedelta(seconds=5))


def test_a_print_within_the_guard_is_trusted_at_once() -> None:
    watch = guard()
    assert [watch.look(mark(price)) for price in ("50000", "54999", "50000", "45000")] == [False] * 4
    assert watch.held == {}


def test_a_deviating_print_is_held_and_a_return_ends_that() -> None:
    watch = guard()
    watch.look(mark("50000"))
    assert watch.look(mark("40000", 1))
    assert watch.held["BTCUSDT"].mark.price == 50_000
    assert watch.held["BTCUSDT"].printed.price == 40_000
    assert watch.look(mark("50100", 2)), "it was held until now"
    assert watch.held == {}
    assert not watch.look(mark("50200", 3))


@pytest.mark.parametrize(
    ("prints", "held"),
    [
        ([("40000", 1, "one"), ("40100", 2, "one")], True),
        ([("40000", 1, "one"), ("40100", 5.9, "one")], True),
        ([("40000", 1, "one"), ("40100", 3, "one"), ("40200", 6, "one")], False),
        ([("40000", 1, "one"), ("40100", 1.5, "two")], False),
        ([("40000", 1, "one"), ("30000", 2, "two")], True),
        ([("40000", 1, "one"), ("30000", 2, "one"), ("30100", 6.5, "one")], True),
        ([("40000", 1, "one"), ("30000", 2, "one"), ("30100", 7, "one")], False),
    ],
)
def test_a_move_counts_once_another_source_or_time_confirms_it(
    prints: list[tuple[str, float, str]], held: bool
) -> None:
    watch = guard()
    watch.look(mark("50000"))
    for price, seconds, source in prints:
        watch.look(mark(price, seconds, source))
    assert ("BTCUSDT" in watch.held) is held
    if not held:
        assert watch.trusted["BTCUSDT"].price == D(prints[-1][0])


# On the engine


async def with_collateral(edge: Edge) -> None:
    """alice stands behind an ether position with bitcoin: a third less and she would be liquidated."""
    await edge.engine.submit_house(c.SetAssetRule(AssetRule("BTC", priced_by="BTCUSDT")), request_id="", actor=SYSTEM)
    await publish(edge, BTCUSDT="50000", ETHUSDT="2500")
    await edge.open("alice", "1")
    await edge.engine.submit("alice", c.Transfer("BTC", D("0.1")), request_id="", actor=SYSTEM)
    await edge.fill("alice", Side.BUY, "2.6", "ETHUSDT", "2500")


async def publish(edge: Edge, source: str = "one", **prices: str) -> None:
    await edge.engine.publish([MarkUpdate(symbol, price, source) for symbol, price in prices.items()])


@pytest.fixture
async def edge():  # type: ignore[no-untyped-def]
    edge = Edge(MemoryJournal(), RULES)
    await edge.engine.start()
    await edge.furnish()
    yield edge
    await edge.engine.stop()


async def test_a_bad_print_liquidates_nobody_and_is_said(edge: Edge) -> None:
    await with_collateral(edge)
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="36000")
    account = edge.engine.account("alice")
    assert (account.level, account.reduction) == (RiskLevel.NORMAL, None)
    assert edge.engine.summary("alice").equity == 5_001
    (alert,) = (one for one in account.alerts if one.kind is AlertKind.MARK_QUARANTINED)
    assert (alert.subject, "36000" in alert.message) == ("BTCUSDT", True)
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="36010")
    assert len(edge.engine.account("alice").alerts) == 1, "said once"
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="50500")
    assert edge.engine.summary("alice").equity == 5_051
    assert edge.engine.account("alice").level is RiskLevel.NORMAL


async def test_a_move_that_another_source_confirms_counts_at_once(edge: Edge) -> None:
    await with_collateral(edge)
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="33000")
    await publish(edge, "two", BTCUSDT="33100")
    assert edge.engine.summary("alice").equity == 3_311
    account = edge.engine.account("alice")
    assert account.level is RiskLevel.LIQUIDATING or account.past_reductions or account.reduction is not None


async def test_a_position_follows_its_mark_while_collateral_is_held(edge: Edge) -> None:
    await with_collateral(edge)
    await edge.fill("alice", Side.BUY, "0.01", "BTCUSDT", "50000")
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="40000")
    assert edge.engine.summary("alice").equity == 5_001 - 100


async def test_what_is_owed_is_not_moved_by_a_bad_print_either(edge: Edge) -> None:
    await with_collateral(edge)
    await edge.engine.submit_house(c.SetBorrowRate("BTC", D(0), "okx_hourly"), request_id="", actor=SYSTEM)
    await edge.open("bob", "20000")
    for command in (c.Borrow("BTC", D("0.1")), c.Transfer("BTC", D("-0.1"))):
        await edge.engine.submit("bob", command, request_id="", actor=SYSTEM)
    assert edge.engine.summary("bob").equity == 15_000
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="60001")
    assert edge.engine.summary("bob").equity == 15_000
    assert [one.kind for one in edge.engine.account("bob").alerts] == [AlertKind.MARK_QUARANTINED]


async def test_another_mark_is_judged_rightly_while_collateral_is_held(edge: Edge) -> None:
    """The screen stands on the held price: a crossing by ether alone is seen."""
    await with_collateral(edge)
    edge.clock.advance(seconds=1)
    await publish(edge, BTCUSDT="57000")
    await publish(edge, ETHUSDT="1940")
    account = edge.engine.account("alice")
    summary = edge.engine.summary("alice")
    assert summary.equity == 5_001 - D("2.6") * 560
    assert account.level is RiskLevel.WARNING
