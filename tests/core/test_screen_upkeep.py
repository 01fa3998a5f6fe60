"""What keeps the screen true: loading, removal, changed terms, rates of several marks, rounding errors."""

import math
import random

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Environment, MarginMode, PositionSide, RiskLevel
from debt_mgmt.core.market import Mark, Unpriced, asset_price
from debt_mgmt.core.screen import Screen
from debt_mgmt.core.slopes import Pricing, rate_at
from debt_mgmt.core.venue import VenueBalance, VenuePosition, VenueState
from tests.support.desk import FREE
from tests.support.instruments import linear
from tests.support.screened import (
    Campaign,
    D,
    Watched,
    long_account,
)


@pytest.mark.parametrize(
    "state",
    [
        {"level": RiskLevel.LIQUIDATING},
        {"level": RiskLevel.UNKNOWN},
        {"baselines": None},
        {"isolated_alerts": {"BTCUSDT": RiskLevel.LIQUIDATING}},
    ],
)
def test_an_account_that_any_assessment_would_change_is_named_by_every_mark(state: dict[str, object]) -> None:
    desk = long_account()
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), **state)
    desk.load("alice")
    assert desk.set("BTCUSDT", "60000.1") == {"alice"}


def test_an_account_whose_price_comes_later_is_named_when_it_comes() -> None:
    desk = Watched(FREE)
    desk.set("ETHUSDT", "2500")
    desk.open("alice", 100_000)
    desk.fill("alice", "buy", 1, price=60_000)
    desk.fill("alice", "buy", 1, "ETHUSDT")
    desk.load("alice")
    assert desk.set("ETHUSDT", "2501") == {"alice"}
    assert desk.set("BTCUSDT", "60000") == {"alice"}
    desk.do("alice", c.Assess())
    desk.load("alice")
    assert desk.account().level is RiskLevel.NORMAL
    assert desk.set("BTCUSDT", "60001") == set()


def test_an_asset_without_a_price_is_found_by_the_mark_that_values_it() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 100_000)
    desk.fill("alice", "buy", 1)
    desk.set("ETHBTC", "0.04")
    desk.deposit("alice", 1, "ETH")
    desk.marks.pop("ETHBTC")
    desk.load("alice")
    assert desk.screen.holders("ETHBTC") == ["alice"]
    assert desk.set("ETHBTC", "0.04") == {"alice"}


def test_a_recording_does_not_price_a_real_account() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.open("paper", 100_000)
    desk.open("real", environment=Environment.LIVE)
    desk.do("real", c.RecordSync(VenueState(desk.now)))
    for name in ("paper", "real"):
        desk.fill(name, "buy", 1, price=30_000)
        desk.fill(name, "sell", "0.5", price=60_000)
        desk.do(name, c.Assess())
    desk.load()
    assert desk.set("BTCUSDT", "60001") == set()
    desk.mark("BTCUSDT", "60002", recorded=True, assess=False)
    assert desk.screen.mark("BTCUSDT", D("60002"), recorded=True) == ["real"]
    assert "RiskLevelChanged" in desk.would_happen("real")
    assert not desk.would_happen("paper")


def test_margin_on_its_way_to_an_isolated_position_is_not_moved_by_marks_either() -> None:
    """Coin that a venue was asked to move counts for neither side, at the old price and at the new one."""
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.set("BTCUSD", "60000")
    desk.do("real", c.CreateAccount("real", "desk", "bybit", Environment.LIVE, "USDT", dry_run=False))
    posted = VenuePosition(
        "BTCUSD",
        PositionSide.NET,
        D(100),
        D(60_000),
        leverage=D(5),
        margin_mode=MarginMode.ISOLATED,
        isolated_margin=D("0.1"),
    )
    crossed = VenuePosition("BTCUSDT", PositionSide.NET, D("0.5"), D(60_000), leverage=D(5))
    desk.do("real", c.RecordSync(VenueState(desk.now, (VenueBalance("BTC", D(1)),), (posted, crossed))))
    for amount in ("0.2", "0.05"):
        desk.do("real", c.AdjustIsolatedMargin("BTCUSD", PositionSide.NET, D(amount)))
        desk.load()
        for price in ("58000", "63000"):
            desk.set("BTCUSDT", price)
            exact = desk.summary("real")
            assert dict(desk.screen.most_utilized(1))["real"] == pytest.approx(float(exact.used / exact.equity))
        change = desk.account("real").pending["BTCUSD"]
        desk.do("real", c.RecordVenueOutcome(change.change_id, True))


# What surrounds the marks


def test_an_account_may_be_loaded_on_marks_that_the_screen_was_not_told_yet() -> None:
    desk = long_account()
    desk.mark("BTCUSDT", "55000", assess=False)
    desk.load("alice")
    assert desk.screen.mark("BTCUSDT", D("55000")) == []
    assert dict(desk.screen.most_utilized(1))["alice"] == pytest.approx(11_000 / 19_000)
    assert desk.set("BTCUSDT", "50400") == {"alice"}


def test_an_account_loaded_beyond_its_bounds_is_found_without_a_mark() -> None:
    desk = long_account()
    desk.set("BTCUSDT", "50000")
    desk.load("alice")
    assert desk.screen.outside(["alice", "nobody"]) == ["alice"]
    desk.do("alice", c.Assess())
    desk.load("alice")
    assert desk.screen.outside(["alice"]) == []


def test_holders_are_accounts_with_a_position_or_an_asset_valued_by_the_mark() -> None:
    desk = long_account()
    desk.open("coins", 1, asset="BTC")
    desk.open("cash", 1_000)
    desk.open("isolated", 100_000, margin_mode=MarginMode.ISOLATED)
    desk.fill("isolated", "sell", 1)
    desk.load()
    assert sorted(desk.screen.holders("BTCUSDT")) == ["alice", "coins", "isolated"]
    assert desk.screen.holders("ETHUSDT") == []
    assert len(desk.screen) == 4


def test_accounts_that_are_closed_or_removed_leave_no_trace() -> None:
    desk = long_account()
    for name in ("bob", "carol"):
        desk.open(name, 24_000)
        desk.leverage(name, "BTCUSDT", 5)
        desk.fill(name, "buy", 1)
        desk.deposit(name, "0.1", "BTC")
    desk.load()
    desk.screen.remove("alice")
    desk.screen.remove("alice")
    assert desk.set("BTCUSDT", "40000") == {"bob", "carol"}
    desk.fill("bob", "sell", 1, price=60_000)
    desk.do("bob", c.CloseAccount())
    desk.load("bob")
    assert desk.set("BTCUSDT", "39000") == {"carol"}
    desk.open("dave", 24_000)
    desk.fill("dave", "buy", 1)
    desk.load("dave")
    assert sorted(desk.screen.holders("BTCUSDT")) == ["carol", "dave"]
    assert [name for name, _ in desk.screen.most_utilized(9)] == ["carol", "dave"]


def test_changed_terms_make_their_holders_named_until_they_are_loaded_again() -> None:
    desk = long_account()
    changed = msgspec.structs.replace(desk.house.instruments["BTCUSDT"], contract_size=D("2"))
    desk.house_do(c.PutInstrument(linear("NEWUSDT")))
    desk.screen.adopt(desk.house)
    assert desk.set("BTCUSDT", "60000") == set(), "another instrument is no concern of hers"
    desk.house_do(c.PutInstrument(changed))
    desk.screen.adopt(desk.house)
    assert desk.set("BTCUSDT", "60000") == {"alice"}
    desk.do("alice", c.Assess())
    desk.load("alice")
    assert desk.set("BTCUSDT", "60000") == set()
    desk.value("BTC", haircut="0.5", priced_by="BTCUSDT")
    desk.screen.adopt(desk.house)
    assert desk.set("BTCUSDT", "60000") == {"alice"}


def test_a_rate_of_two_marks_follows_both() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.set("ETHBTC", "0.04")
    desk.open("alice", 10, asset="ETH", currency="INR")
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", "0.8")
    desk.load("alice")
    for symbol, price in (("ETHBTC", "0.0401"), ("BTCUSDT", "60040"), ("ETHBTC", "0.0395"), ("BTCUSDT", "59000")):
        assert desk.set(symbol, price) == set()
        desk.figures_agree()


def test_a_rebase_ends_rounding_errors_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debt_mgmt.core.screen.MARKS_UNTIL_REBASE", 50)
    campaign = Campaign(7)
    campaign.run(160)
    before = campaign.desk.screen.most_utilized(100)
    campaign.desk.screen.rebase()
    after = dict(campaign.desk.screen.most_utilized(100))
    assert after == {name: pytest.approx(value, rel=1e-9) for name, value in before}


def test_the_rounding_errors_of_many_marks_stay_far_within_the_guard_band() -> None:
    desk, rng = long_account(), random.Random(1)
    price = 600_000
    for _ in range(20_000):
        price += rng.randint(-300, 300) + (600_000 - price) // 100
        desk.screen.mark("BTCUSDT", D(price) / 10)
    desk.mark("BTCUSDT", D(price) / 10, assess=False)
    summary = desk.summary()
    exact = float(summary.used / summary.equity)
    assert dict(desk.screen.most_utilized(1))["alice"] == pytest.approx(exact, rel=1e-11)


def test_a_price_that_moves_out_of_all_proportion_is_still_followed() -> None:
    desk = long_account()
    assert desk.set("BTCUSDT", "6000000000000000000") == {"alice"}, "a new peak, which nobody looks at"
    assert desk.set("BTCUSDT", "60000") == set()
    assert desk.set("BTCUSDT", "50400.1") == set()
    assert desk.set("BTCUSDT", "50400") == {"alice"}


def test_rates_are_read_by_the_rules_that_price_assets() -> None:
    rng = random.Random(3)
    assets = ("AAA", "BBB", "CCC", "DDD")
    instruments = {
        base + quote: msgspec.structs.replace(linear(base + quote), base=base, quote=quote, settle=quote)
        for base, quote in (("AAA", "BBB"), ("BBB", "CCC"), ("CCC", "DDD"), ("AAA", "DDD"))
    }
    priced = 0
    for _ in range(500):
        desk = Watched(FREE, instruments=tuple(instruments.values()))
        for asset in assets:
            rates = {other: str(rng.randint(1, 9)) for other in assets if other != asset and rng.random() < 0.2}
            priced_by = rng.choice(
                ["", "", "XXXYYY", *(one.symbol for one in instruments.values() if one.base == asset)]
            )
            desk.value(asset, priced_by=priced_by, **rates)
        for symbol in instruments:
            desk.mark(symbol, rng.randint(1, 9), assess=False)
        world, pricing = desk.world(""), Pricing(desk.house)
        for asset in assets:
            for currency in assets:
                terms, used = pricing.terms(asset, currency), dict[str, Mark]()
                try:
                    exact = asset_price(asset, currency, world.house.assets, world.house.instruments, world.marks, used)
                except Unpriced:
                    assert terms.factor is None
                    continue
                assert rate_at(terms, world) == pytest.approx(float(exact))
                assert set(terms.symbols) == set(used)
                priced += bool(used)
    assert priced > 500


def test_the_most_utilized_come_first_and_ruin_before_all() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    for name, deposit in (("low", 60_000), ("high", 15_000), ("middle", 20_000), ("ruined", 12_500), ("idle", 1_000)):
        desk.open(name, deposit)
        if name != "idle":
            desk.leverage(name, "BTCUSDT", 5)
            desk.fill(name, "buy", 1)
    desk.load()
    desk.set("BTCUSDT", "47400")
    shown = desk.screen.most_utilized(10)
    assert [name for name, _ in shown] == ["ruined", "high", "middle", "low"]
    assert shown[0][1] == math.inf
    assert shown[3][1] == pytest.approx(9_480 / 47_400)
    assert desk.screen.most_utilized(2) == shown[:2]
    assert Screen().most_utilized(3) == []


def test_an_empty_screen_answers() -> None:
    screen = Screen()
    assert screen.mark("BTCUSDT", D(1)) == []
    assert screen.mark("BTCUSDT", D(1), recorded=True) == []
    assert screen.holders("BTCUSDT") == screen.holders("ETHUSDT") == []
    screen.rebase()
    assert len(screen) == 0
