"""The price screen: it names every account that the exact assessment would make an event for, and few others."""

from decimal import Decimal

import pytest

from debt_mgmt.core.account import MarginMode, PositionMode, RiskLevel
from debt_mgmt.core.instrument import notional
from tests.support.desk import FREE, HOUSE
from tests.support.screened import (
    PRICES,
    WORTH,
    Campaign,
    D,
    Watched,
    long_account,
)


@pytest.mark.parametrize("seed", range(12))
def test_no_event_of_an_assessment_is_missed_by_the_screen(seed: int) -> None:
    campaign = Campaign(seed)
    campaign.run(200)
    assert campaign.happened["RiskLevelChanged"] > 5, "nothing to miss"
    assert campaign.named_in_vain <= 0.02 * campaign.looked_at, "nearly every account named has something to decide"


def test_a_campaign_sees_every_kind_of_event_that_a_price_can_make() -> None:
    seen: set[str] = set()
    for seed in range(100, 106):
        campaign = Campaign(seed)
        campaign.run(200)
        seen |= campaign.happened.keys()
    assert seen >= {
        "RiskLevelChanged",
        "AlertRaised",
        "TradingStateChanged",
        "ReservationReduced",
        "IsolatedLevelChanged",
        "BreakerTripped",
        "BreakerCleared",
        "BaselinesSet",
        "ReductionStarted",
    }


# One account


@pytest.mark.parametrize(
    ("price", "named"),
    [
        ("60000", False),
        ("50400.1", False),
        ("50400", True),
        ("50399.9", True),
        ("40000", True),
        ("36000", True),
        ("1", True),
    ],
)
def test_an_account_is_named_at_its_threshold_and_not_a_tick_before(price: str, named: bool) -> None:
    desk = long_account()
    assert desk.set("BTCUSDT", price) == ({"alice"} if named else set())
    assert bool(desk.would_happen("alice")) is named


@pytest.mark.parametrize(
    ("price", "named"), [("51300", False), ("51319.1", False), ("51319.2", True), ("48000.1", False), ("48000", True)]
)
def test_a_level_is_left_below_its_threshold_and_the_screen_knows(price: str, named: bool) -> None:
    desk = long_account()
    desk.mark("BTCUSDT", "50000")
    desk.load("alice")
    assert desk.account().level is RiskLevel.WARNING
    assert desk.set("BTCUSDT", price) == ({"alice"} if named else set())
    assert bool(desk.would_happen("alice")) is named


def test_without_margin_used_only_losses_count() -> None:
    desk = Watched(HOUSE)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 1, asset="BTC")
    desk.load("alice")
    assert desk.set("BTCUSDT", "48001") == set()
    assert desk.set("BTCUSDT", "48000") == {"alice"}, "20 % of the day's equity are lost"
    assert "BreakerTripped" in desk.would_happen("alice")
    assert desk.set("BTCUSDT", "60299") == set()
    assert desk.set("BTCUSDT", "60301") == {"alice"}
    assert desk.would_happen("alice") == ["BaselinesSet"], "a new peak"


def test_an_account_with_all_its_money_in_an_isolated_position_is_named_for_that_position_only() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.set("ETHUSDT", "2500")
    desk.open("alice", 5_000, margin_mode=MarginMode.ISOLATED)
    desk.leverage("alice", "ETHUSDT", 5)
    desk.fill("alice", "buy", 10, "ETHUSDT")
    desk.load("alice")
    assert desk.summary().equity == 0
    assert desk.set("BTCUSDT", "55000") == set()
    # Maintenance margin 0.05 P is 0.70 of equity 10 P − 20,000 at P = 2,014.388…
    assert desk.set("ETHUSDT", "2014.39") == set()
    assert desk.set("ETHUSDT", "2014.38") == {"alice"}
    assert "IsolatedLevelChanged" in desk.would_happen("alice")


def test_orders_against_a_position_bend_its_margin() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 60_000)
    desk.leverage("alice", "BTCUSDT", 2)
    desk.fill("alice", "buy", "0.5")
    assert not desk.reserve("alice", "sell", "1.4", price="61000")[0].__class__.__name__.startswith("CommandRefused")
    desk.load("alice")
    # The orders need 27,450 whatever the mark is, as long as the position needs less: equity 30,000 + P ÷ 2.
    assert desk.summary().used == D("27450")
    assert desk.set("BTCUSDT", "18428.6") == set()
    assert desk.set("BTCUSDT", "18428.5") == {"alice"}
    assert "RiskLevelChanged" in desk.would_happen("alice")
    desk.screen.rebase()
    desk.figures_agree()


def test_a_hedged_account_is_followed_by_both_legs() -> None:
    desk = Watched(FREE)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 40_000, position_mode=PositionMode.HEDGE)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1, leg="LONG")
    desk.fill("alice", "sell", 1, leg="SHORT")
    desk.load("alice")
    assert desk.set("BTCUSDT", "69999.9") == set()
    assert desk.set("BTCUSDT", "70000") == {"alice"}, "equity stays 40,000 and both legs need 14,000"


# Isolated positions


@pytest.mark.parametrize("symbol", sorted(PRICES))
@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("size", [0.2, 1.0, 6.0])
def test_an_isolated_position_is_named_at_the_very_price_of_its_next_level(symbol: str, side: str, size: float) -> None:
    desk = isolated_account(symbol, side, size)
    tick, middle = desk.house.instruments[symbol].tick, D(PRICES[symbol])
    found = [happens_first(desk, symbol, middle, middle * D(share) // tick * tick) for share in ("0.79", "1.27")]
    assert any(found)
    for here in found:
        if here is not None:
            assert desk.set(symbol, here) == {"alice"}, f"{symbol} {side} at {here}"


def isolated_account(symbol: str, side: str, size: float) -> Watched:
    desk = Watched(FREE)
    for name, price in PRICES.items():
        desk.set(name, price)
    desk.open("alice", 10_000_000, margin_mode=MarginMode.ISOLATED)
    desk.deposit("alice", 1, "BTC")
    desk.leverage("alice", symbol, 5)
    instrument = desk.house.instruments[symbol]
    value = float(notional(instrument, instrument.lot, D(PRICES[symbol]))) * WORTH[instrument.settle]
    lots = round(size * 20_000 / value)
    desk.fill("alice", side, lots * instrument.lot, symbol)
    desk.load("alice")
    return desk


def happens_first(desk: Watched, symbol: str, near: Decimal, far: Decimal) -> Decimal | None:
    """The price at which an assessment begins to make an event on the way from `near` to `far`; None: at none."""

    def happens(price: Decimal) -> bool:
        desk.mark(symbol, price, assess=False)
        return bool(desk.would_happen("alice"))

    tick = desk.house.instruments[symbol].tick
    if not happens(far):
        return None
    while abs(far - near) > tick:
        between = (near + far) / 2 // tick * tick
        near, far = (near, between) if happens(between) else (between, far)
    return far


def test_a_tier_that_is_left_may_end_a_level_by_itself() -> None:
    desk = Watched(FREE)
    desk.set("SOLUSDT", "171.33")
    desk.open("alice", 10_000, margin_mode=MarginMode.ISOLATED)
    desk.leverage("alice", "SOLUSDT", 5)
    desk.fill("alice", "sell", 100, "SOLUSDT")
    desk.mark("SOLUSDT", "200.1")
    desk.load("alice")
    assert desk.account().isolated_alerts == {"SOLUSDT": RiskLevel.WARNING}, "0.02 of 20,010 against 549.6"
    assert desk.set("SOLUSDT", "199.9") == {"alice"}, "0.01 of 19,990 against 569.6"
    assert desk.would_happen("alice") == ["IsolatedLevelChanged"]


def test_an_isolated_position_under_water_drags_nothing_else_down() -> None:
    desk = Watched(HOUSE)
    desk.set("SOLUSDT", "150")
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 2, asset="BTC", margin_mode=MarginMode.ISOLATED)
    desk.deposit("alice", 3_000)
    desk.leverage("alice", "SOLUSDT", 5)
    desk.fill("alice", "buy", 100, "SOLUSDT")
    desk.mark("SOLUSDT", "121.3")
    desk.load("alice")
    assert desk.account().reduction is not None, "it is being closed, and nobody fills the order"
    assert desk.set("SOLUSDT", "119.9") == {"alice"}, "from here on it loses no more"
    desk.load("alice")
    assert desk.set("SOLUSDT", "110") == set()
    assert desk.set("SOLUSDT", "119") == set()
    # The day began with 117,000 USDT, 114,000 of them in coins: 93,600 are left at P = 49,263.15…
    assert desk.set("BTCUSDT", "49263.2") == set()
    assert desk.set("BTCUSDT", "49263.1") == {"alice"}
    assert "BreakerTripped" in desk.would_happen("alice")


# What is not known
