"""The price screen: it names every account that the exact assessment would make an event for, and few others."""

import math
import random
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Environment, MarginMode, PositionMode, RiskLevel
from debt_mgmt.core.decide import decide
from debt_mgmt.core.instrument import Instrument, InstrumentKind, MarginBase, VenueRules, notional
from debt_mgmt.core.margin import summarize
from debt_mgmt.core.market import Mark, Unpriced, asset_price
from debt_mgmt.core.screen import Screen
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.slopes import Pricing, rate_at
from tests.support.desk import FREE, HOUSE, Desk, kinds
from tests.support.instruments import ALL, FLAT, STEPPED_TIERS, inverse, linear

D = Decimal

ON_ENTRY = VenueRules(initial_margin_base=MarginBase.ENTRY, maintenance_margin_base=MarginBase.ENTRY)
WITH_FEE = VenueRules(fee_in_maintenance=True)
INSTRUMENTS = (
    *ALL,
    linear("XRPUSDT", lot="1", tick="0.0001", table=STEPPED_TIERS, rules=WITH_FEE, taker_fee_rate="0.0005"),
    linear("ADAUSDT", lot="1", tick="0.0001", rules=ON_ENTRY),
    linear("DOTUSDT", lot="0.1", tick="0.001", kind=InstrumentKind.SPOT_MARGIN),
    inverse("ETHUSD", contract_size="10", table=STEPPED_TIERS),
    msgspec.structs.replace(inverse("XRPUSD", contract_size="10", rules=ON_ENTRY), tick=D("0.0001")),
    msgspec.structs.replace(
        linear("ETHUSDT", lot="0.01", tick="0.00001", table=FLAT), symbol="ETHBTC", quote="BTC", settle="BTC"
    ),
)
PRICES = {
    "BTCUSDT": "60000",
    "ETHUSDT": "2500",
    "SOLUSDT": "150",
    "ABCUSDT": "40",
    "BTCUSD": "60010",
    "XRPUSDT": "0.55",
    "ADAUSDT": "0.4",
    "DOTUSDT": "5",
    "ETHUSD": "2501",
    "XRPUSD": "0.5501",
    "ETHBTC": "0.04166",
}
WORTH = {"USDT": 1.0, "USD": 1.0, "BTC": 60000.0, "ETH": 2500.0, "XRP": 0.55}


class Watched(Desk):
    """A desk with a screen beside it, which is told what an engine would tell it."""

    def __init__(self, settings: RiskSettings = HOUSE, instruments: tuple[Instrument, ...] = INSTRUMENTS) -> None:
        super().__init__(settings, instruments=instruments)
        self.screen = Screen()
        self.value("USDT", USD="1", INR="83")
        self.value("USD", INR="83")
        self.value("BTC", haircut="0.05", priced_by="BTCUSDT")
        self.value("ETH", haircut="0.1", priced_by="ETHBTC")
        self.value("XRP", priced_by="XRPUSDT")

    def load(self, *names: str) -> None:
        """The accounts are put on the screen as they stand; all where none is named."""
        for name in names or tuple(self.accounts):
            world = self.world(name)
            self.screen.update(self.accounts[name], summarize(self.accounts[name], world), world)

    def set(self, symbol: str, price: str | Decimal) -> set[str]:
        """A new mark, screened and not assessed; the accounts named."""
        self.mark(symbol, price, assess=False)
        named = self.screen.mark(symbol, self.marks[symbol].price)
        assert len(named) == len(set(named))
        return set(named)

    def reduce(self, name: str) -> None:
        """Carry out the open steps of a reduction; one with nothing left to reduce is ended."""
        while (reduction := self.accounts[name].reduction) is not None and reduction.open_steps:
            step = reduction.open_steps[0]
            position = self.position(name, step.symbol, step.position_side.value)
            if position is None or position.quantity * step.side.sign >= 0:
                self.do(name, c.EndReductionStep(reduction.plan_id, step.step, "nothing is left to reduce"))
                continue
            self.do(
                name,
                c.RecordFill(
                    step.client_order_id,
                    step.symbol,
                    step.side,
                    min(step.quantity, abs(position.quantity)),
                    self.marks[step.symbol].price,
                    position_side=step.position_side,
                    plan_id=reduction.plan_id,
                    step=step.step,
                ),
            )

    def would_happen(self, name: str) -> list[str]:
        """The events that an assessment would make now."""
        return kinds(decide(self.accounts[name], c.Assess(), self.world(name)))

    def figures_agree(self) -> None:
        shown = dict(self.screen.most_utilized(len(self.accounts)))
        for name, account in self.accounts.items():
            summary = summarize(account, self.world(name))
            if summary.missing or summary.used == 0:
                assert name not in shown
            elif summary.equity > 0:
                exact = float(summary.used / summary.equity)
                assert shown[name] == pytest.approx(exact, rel=1e-7, abs=1e-9 * exact * exact)


# A campaign: many kinds of accounts, many marks


@dataclass
class Campaign:
    """Random accounts on random marks. Whatever an assessment would find must have been named by the screen."""

    seed: int
    accounts: int = 30
    looked_at: int = 0
    named_in_vain: int = 0
    """Without anything to decide, though all prices are known and equity is above zero."""
    happened: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        limits = msgspec.structs.replace(HOUSE.limits, breaker_cool_down_seconds=0)
        self.desk = Watched(msgspec.structs.replace(HOUSE, limits=limits))
        late = self.random.choice(sorted(PRICES))
        for symbol, price in PRICES.items():
            if symbol != late:
                self.desk.mark(symbol, price, assess=False)
                self.desk.screen.mark(symbol, D(price))
        for number in range(self.accounts):
            self.open(f"account-{number}")
        self.desk.load()

    def open(self, name: str) -> None:
        rng, desk = self.random, self.desk
        hedge = rng.random() < 0.25
        desk.open(
            name,
            currency=rng.choice(("USDT", "USDT", "INR", "USD")),
            asset="USDT",
            position_mode=PositionMode.HEDGE if hedge else PositionMode.ONE_WAY,
            margin_mode=MarginMode.ISOLATED if rng.random() < 0.2 else MarginMode.CROSS,
        )
        symbols = rng.sample(sorted(PRICES), rng.randint(1, 4))
        needed, fills = 0.0, []
        for symbol in symbols:
            instrument = desk.house.instruments[symbol]
            leverage = rng.choice((1, 2, 3, 5))
            desk.leverage(name, symbol, leverage)
            if rng.random() < 0.2:
                desk.do(name, c.SetMarginMode(symbol, MarginMode.ISOLATED))
            for leg in rng.sample(("LONG", "SHORT"), rng.randint(1, 2)) if hedge else ("NET",):
                notional = 10 ** rng.uniform(2.5, 5.5)
                quantity = self.contracts(instrument, notional)
                side = {"LONG": "BUY", "SHORT": "SELL"}.get(leg) or rng.choice(("BUY", "SELL"))
                fills.append((side, quantity, symbol, leg))
                needed += notional / leverage
        asset = rng.choice(("USDT", "USDT", "BTC", "ETH", "USD"))
        deposit = needed / rng.uniform(0.3, 0.95) / WORTH[asset]
        desk.deposit(name, D(f"{deposit:.8f}"), asset)
        if rng.random() < 0.3:
            desk.deposit(name, D(f"{needed * rng.uniform(0, 0.3) / WORTH['BTC']:.8f}"), "BTC")
        for side, quantity, symbol, leg in fills:
            desk.fill(name, side, quantity, symbol, PRICES[symbol], leg=leg)
        for _ in range(rng.randint(0, 3)):
            self.reserve(name)
        desk.do(name, c.Assess())

    def contracts(self, instrument: Instrument, notional: float) -> Decimal:
        if instrument.inverse:
            quantity = notional / float(instrument.contract_size)
        else:
            quantity = notional / float(PRICES[instrument.symbol]) / WORTH[instrument.quote]
        lots = max(1, round(quantity / float(instrument.lot)))
        return lots * instrument.lot

    def reserve(self, name: str) -> None:
        rng, desk = self.random, self.desk
        symbol = rng.choice(sorted(PRICES))
        mark = desk.marks.get(symbol)
        if mark is None:
            return
        instrument = desk.house.instruments[symbol]
        price = (mark.price * D(f"{rng.uniform(0.9, 1.1):.3f}")) // instrument.tick * instrument.tick
        hedge = desk.accounts[name].position_mode is PositionMode.HEDGE
        side = rng.choice(("BUY", "SELL"))
        leg = ("LONG" if side == "BUY" else "SHORT") if hedge else "NET"
        quantity = self.contracts(instrument, 10 ** rng.uniform(2, 4.5))
        desk.reserve(name, side, quantity, symbol, max(price, instrument.tick), leg=leg)

    def run(self, marks: int) -> None:
        rng, desk = self.random, self.desk
        for _ in range(marks):
            symbol = rng.choice(sorted(PRICES))
            tick = desk.house.instruments[symbol].tick
            before = desk.marks[symbol].price if symbol in desk.marks else D(PRICES[symbol])
            move = math.exp(rng.gauss(0, rng.choice((0.0005, 0.0005, 0.005, 0.03, 0.1))))
            pending = {name for name in desk.accounts if desk.would_happen(name)}
            named = desk.set(symbol, max(round(before * D(f"{move:.6f}") / tick) * tick, tick))
            holders = set(desk.screen.holders(symbol))
            assert named <= holders
            self.looked_at += len(holders)
            for name in desk.accounts:
                found = desk.would_happen(name)
                if found and (name in holders or name not in pending):
                    assert name in named, f"seed {self.seed}: {symbol} made {found} for {name} and it was not named"
                    for kind in found:
                        self.happened[kind] = self.happened.get(kind, 0) + 1
                elif name in named and self.is_plain(name):
                    self.named_in_vain += 1
            for name in sorted(named):
                desk.do(name, c.Assess())
                if rng.random() < 0.8:
                    desk.reduce(name)
                    desk.do(name, c.Assess())
                desk.load(name)
            self.trade()
        desk.figures_agree()
        desk.screen.rebase()
        desk.figures_agree()

    def is_plain(self, name: str) -> bool:
        summary = summarize(self.desk.accounts[name], self.desk.world(name))
        return summary.known and summary.equity > 0

    def trade(self) -> None:
        """Now and then somebody trades, deposits, or leaves a reduction half done."""
        rng, desk = self.random, self.desk
        if rng.random() < 0.3:
            name = rng.choice(sorted(desk.accounts))
            account = desk.accounts[name]
            if rng.random() < 0.3:
                self.reserve(name)
            elif account.reservations and rng.random() < 0.5:
                desk.do(name, c.ReleaseReservation(next(iter(account.reservations))))
            elif account.positions and rng.random() < 0.5:
                position = rng.choice(list(account.positions.values()))
                side = "SELL" if position.quantity > 0 else "BUY"
                if position.symbol in desk.marks:
                    desk.fill(name, side, abs(position.quantity), position.symbol, leg=position.side.value)
            elif rng.random() < 0.5:
                desk.deposit(name, D(rng.randrange(1, 5000)), rng.choice(("USDT", "USDT", "USD")))
            else:
                desk.do(name, c.ResumeTrading("the loss is accepted"))
            desk.do(name, c.Assess())
            desk.load(name)


@pytest.mark.parametrize("seed", range(12))
def test_no_event_of_an_assessment_is_missed_by_the_screen(seed: int) -> None:
    campaign = Campaign(seed)
    campaign.run(200)
    assert campaign.happened["RiskLevelChanged"] > 10, "nothing to miss"
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


def long_account(settings: RiskSettings = FREE) -> Watched:
    """alice: 1 BTC long at 60,000, 5x, 24,000 USDT: utilisation 0.50."""
    desk = Watched(settings)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 24_000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1)
    desk.load("alice")
    return desk


# Equity is P − 36,000 and margin used P ÷ 5: utilisation is 0.70 at 50,400 and 0.80 at 48,000.
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
