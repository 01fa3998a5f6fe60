"""What the settings say about lending and collateral is what the running service does."""

from datetime import timedelta
from decimal import Decimal

import pytest

from debt_mgmt.core.market import HaircutTier, Tiering, TierMeasure
from debt_mgmt.server.config import ConfigurationError, read_settings
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from tests.support.service import Clock, service

D = Decimal


async def test_rates_and_their_clock_come_from_the_settings() -> None:
    async with service(sandbox__borrow_rates="{USDT: 0.10, BTC: 0.02}", sandbox__interest_clock="bybit_hourly") as desk:
        lent = desk.engine.house.borrow_rates
        assert {asset: (rates[-1].annual_rate, rates[-1].clock) for asset, rates in lent.items()} == {
            "USDT": (D("0.10"), "bybit_hourly"),
            "BTC": (D("0.02"), "bybit_hourly"),
        }


async def test_a_changed_rate_holds_from_the_start_that_brought_it() -> None:
    journal, clock = MemoryJournal(), Clock()
    for rate in ("0.10", "0.10", "0.20"):
        async with service(journal=journal, clock=clock, sandbox__borrow_rates=f"{{USDT: {rate}}}") as desk:
            history = desk.engine.house.borrow_rates["USDT"]
        clock.advance(hours=1)
    assert [rate.annual_rate for rate in history] == [D("0.10"), D("0.20")]
    assert history[1].effective_at - history[0].effective_at == timedelta(hours=2)


async def test_haircuts_in_tiers_come_from_the_settings() -> None:
    async with service(sandbox__haircut_tiers="{BTC: {10: 0.02, 20: 0.05, 0.5: 0.01}}") as desk:
        rule = desk.engine.house.assets["BTC"]
    assert rule.haircut_tiers == (
        HaircutTier(D("0.5"), D("0.01")),
        HaircutTier(D(10), D("0.02")),
        HaircutTier(D(20), D("0.05")),
    )
    assert (rule.priced_by, rule.tiering, rule.tiers_by) == ("BTCUSDT", Tiering.SLICED, TierMeasure.AMOUNT)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("{BTC: {1: 0.2, 2: 0.1}}", "of BTC, haircuts must not fall"),
        ("{BTC: {ETH: 0.2}}", "of BTC, amounts must be numbers"),
        ("{BTC: {0: 0.2}}", "of BTC, tiers must ascend"),
    ],
)
def test_a_table_of_haircuts_that_makes_no_sense_is_refused(table: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_settings(environment={}, flags={"sandbox.haircut_tiers": table})


async def test_the_guard_of_collateral_and_the_conversion_come_from_the_settings() -> None:
    async with service(
        prices__collateral_guard="0.03",
        prices__collateral_hold_seconds="2",
        sandbox__conversion_threshold="500",
        sandbox__conversion_ratio="0.99",
    ) as desk:
        guard, rules = desk.engine.collateral, desk.engine.risk
    assert (guard.deviation, guard.hold) == (D("0.03"), timedelta(seconds=2))
    assert (rules.conversion_threshold, rules.conversion_ratio) == (D(500), D("0.99"))
