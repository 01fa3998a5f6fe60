"""A budget with a share for what reduces risk; order ids that differ between houses and read back; late loading."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.server.brokers.client_order_ids import house_order_id, venue_order_id
from debt_mgmt.server.brokers.profiles import PROFILES, Feature, LeveragePath, MarkSource
from debt_mgmt.server.brokers.rate_budget import RateBudget, urgent

PROJECT = Path(__file__).parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def budget(clock: Clock) -> RateBudget:
    """Ten a second, ten at once, four of them kept."""
    return RateBudget(10.0, 10.0, 0.4, clock=clock)


async def spent(one: RateBudget) -> int:
    """How many requests pass now without waiting."""
    count = 0
    while True:
        try:
            async with asyncio.timeout(0.02):
                await one.take(1)
        except TimeoutError:
            return count
        count += 1


async def test_ordinary_requests_stop_at_the_reserve_and_urgent_ones_do_not() -> None:
    one = budget(Clock())
    assert await spent(one) == 6
    with urgent():
        assert await spent(one) == 4


async def test_weight_comes_back_with_time_and_never_beyond_the_burst() -> None:
    clock = Clock()
    one = budget(clock)
    with urgent():
        assert await spent(one) == 10
        clock.now = 0.5
        assert await spent(one) == 5
        clock.now = 100.0
        assert await spent(one) == 10


async def test_a_pause_that_the_venue_asked_for_holds_for_everybody() -> None:
    clock = Clock()
    one = budget(clock)
    one.pause(3.0)
    with urgent():
        assert await spent(one) == 0
        clock.now = 3.0
        assert await spent(one) == 10


async def test_a_request_heavier_than_the_bucket_goes_when_it_is_full() -> None:
    clock = Clock()
    one = budget(clock)
    await asyncio.wait_for(one.take(50), 1)
    assert one.level == -40
    clock.now = 4.9
    with urgent():
        assert await spent(one) == 9


async def test_an_urgent_request_goes_before_ordinary_ones_that_wait() -> None:
    one = RateBudget(50.0, 10.0, 0.4)
    await spent(one)
    order: list[str] = []

    async def ask(name: str) -> None:
        await one.take(6)
        order.append(name)

    async def press() -> None:
        with urgent():
            await ask("urgent")

    ordinary = [asyncio.create_task(ask("ordinary")) for _ in range(3)]
    await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(press(), *ordinary), 10)
    assert order[0] == "urgent"


def test_urgency_ends_with_its_block() -> None:
    from debt_mgmt.server.brokers.rate_budget import URGENT

    with urgent():
        assert URGENT.get()
    assert not URGENT.get()


# Order ids.

PLACES = st.tuples(st.integers(0, 1023), st.integers(1, 50_000_000), st.integers(1, 999))


@given(PLACES, st.sampled_from(sorted(PROFILES)), st.text(min_size=1, max_size=20))
def test_an_order_id_fits_the_venue_and_reads_back(place: tuple[int, int, int], broker: str, salt: str) -> None:
    rules = PROFILES[broker].client_order_ids
    ours = f"liq-{place[0]}-{place[1]}-{place[2]}"
    there = venue_order_id(rules, ours, salt)
    assert there == venue_order_id(rules, ours, salt)
    assert len(there) <= rules.length_most
    assert all(one.isalnum() or (one == "-" and rules.dashes) for one in there)
    assert house_order_id(rules, there, salt) == ours


@given(PLACES, PLACES, st.sampled_from(sorted(PROFILES)))
def test_two_orders_never_share_an_id(one: tuple[int, int, int], other: tuple[int, int, int], broker: str) -> None:
    rules = PROFILES[broker].client_order_ids
    ids = {venue_order_id(rules, f"liq-{place[0]}-{place[1]}-{place[2]}", "salt") for place in (one, other)}
    assert len(ids) == len({one, other})


@pytest.mark.parametrize("broker", sorted(PROFILES))
def test_a_house_that_begins_anew_does_not_take_an_old_order_for_its_own(broker: str) -> None:
    rules = PROFILES[broker].client_order_ids
    old = venue_order_id(rules, "liq-1-7-1", "alice 2026-01-05T12:00:00")
    assert old != venue_order_id(rules, "liq-1-7-1", "alice 2026-02-01T00:00:00")
    assert house_order_id(rules, old, "alice 2026-02-01T00:00:00") is None
    assert house_order_id(rules, "somebody-elses-1", "alice 2026-01-05T12:00:00") is None


@pytest.mark.parametrize("broker", sorted(PROFILES))
def test_an_id_that_is_not_of_the_journal_is_digested(broker: str) -> None:
    rules = PROFILES[broker].client_order_ids
    found = venue_order_id(rules, "something else, and long: " * 5, "salt")
    assert len(found) <= rules.length_most
    assert found.isalnum()


# The profiles, and when the library is loaded.


def test_every_profile_says_each_feature_once_and_why_not() -> None:
    for profile in PROFILES.values():
        assert [one.feature for one in profile.capabilities] == list(Feature)
        assert all(one.note for one in profile.capabilities if not one.supported), profile.broker
        assert profile.can(Feature.SET_LEVERAGE) is not (profile.leverage_path is LeveragePath.NONE)
        assert profile.can(Feature.MARK_PRICE) is not (profile.mark_source is MarkSource.LAST_PRICE)
        assert profile.key_read
        assert "never" in profile.key_trade


def test_profiles_count_requests_no_faster_than_the_client_library_does() -> None:
    import ccxt

    for profile in PROFILES.values():
        paced = 1000 / getattr(ccxt, profile.ccxt_id)().rateLimit
        assert float(profile.weight_per_second) <= paced * 1.1, profile.broker


LATE = """
import sys
from debt_mgmt.server import app
from debt_mgmt.server.brokers import exchanges, ccxt_broker, ccxt_feed, profiles
assert not [name for name in sys.modules if name.split(".")[0] == "ccxt"], "ccxt was loaded"
exchanges.exchange_class("bybit")
assert "ccxt.pro" in sys.modules
"""


def test_the_client_library_is_loaded_only_when_a_connection_is_made() -> None:
    paths = ":".join(str(PROJECT / one) for one in ("core", "server", "client"))
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        env={"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
