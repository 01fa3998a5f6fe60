"""The price screen with debts and tiered collateral: no crossing is missed that the price of what is owed causes."""

import random
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Debt, Lender, RiskLevel
from debt_mgmt.core.margin import summarize
from debt_mgmt.core.market import AssetRule, HaircutTier, Tiering, TierMeasure
from tests.support.desk import FREE, HOUSE
from tests.support.screened import WORTH, Campaign, Watched

D = Decimal


def tiers(*rows: tuple[str | None, str]) -> tuple[HaircutTier, ...]:
    return tuple(HaircutTier(None if up_to is None else D(up_to), D(haircut)) for up_to, haircut in rows)


RULES = (
    AssetRule("BTC", priced_by="BTCUSDT", haircut_tiers=tiers(("0.5", "0.02"), ("2", "0.1"), ("8", "0.3"))),
    AssetRule(
        "ETH",
        priced_by="ETHBTC",
        haircut_tiers=tiers(("5000", "0.05"), ("40000", "0.2"), (None, "0.5")),
        tiers_by=TierMeasure.VALUE,
    ),
    AssetRule(
        "XRP",
        priced_by="XRPUSDT",
        haircut_tiers=tiers(("3000", "0.1"), ("20000", "0.25"), (None, "0.6")),
        tiering=Tiering.WHOLE,
        tiers_by=TierMeasure.VALUE,
    ),
)


@dataclass
class Indebted(Campaign):
    """The same accounts with debts of any asset, and with collateral whose haircut depends on its amount or value."""

    def open(self, name: str) -> None:
        desk, rng = self.desk, self.random
        for rule in RULES if name == "account-0" else ():
            desk.house_do(c.SetAssetRule(rule))
        super().open(name)
        for asset in rng.sample(("USDT", "BTC", "ETH", "XRP", "USD"), rng.randint(0, 2)):
            worth = 10 ** rng.uniform(2, 4.5)
            principal = D(f"{worth / WORTH[asset]:.8f}")
            desk.deposit(name, principal * D(f"{rng.uniform(0, 1.2):.2f}"), rng.choice((asset, "XRP", "ETH")))
            owed = Debt(asset, principal, desk.now, Lender.BROKER, accrued_interest=principal / 100)
            account = desk.accounts[name]
            desk.accounts[name] = msgspec.structs.replace(account, debts={**account.debts, asset: owed})
        desk.do(name, c.Assess())


@pytest.mark.parametrize("seed", range(8))
def test_no_event_is_missed_with_debts_and_tiered_collateral(seed: int) -> None:
    campaign = Indebted(seed)
    campaign.run(120)
    assert campaign.happened["RiskLevelChanged"] > 2, "nothing to miss"


def borrower(haircut: str = "0") -> Watched:
    """alice holds 12,000 USDT and owes 0.1 BTC at 60,000, with nothing open."""
    desk = Watched(FREE)
    desk.value("BTC", priced_by="BTCUSDT", haircut=haircut)
    desk.set("BTCUSDT", "60000")
    desk.open("alice", 12_000)
    owed = Debt("BTC", D("0.1"), desk.now, Lender.BROKER)
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), debts={"BTC": owed})
    desk.do("alice", c.Assess())
    desk.load("alice")
    return desk


@pytest.mark.parametrize(("price", "named"), [("119999.9", False), ("120000", False), ("120000.1", True)])
def test_a_debt_that_outgrows_the_wallet_is_seen_at_the_tick(price: str, named: bool) -> None:
    desk = borrower()
    assert desk.set("BTCUSDT", price) >= ({"alice"} if named else set())
    assert ("RiskLevelChanged" in desk.would_happen("alice")) is named
    if named:
        desk.do("alice", c.Assess())
        assert desk.account().level is RiskLevel.CRITICAL


def test_the_price_of_a_debt_alone_calls_for_margin() -> None:
    """Equity 12,000 − 0.1 × price, used 2,000: at 0.70 the price is 91,428.57."""
    desk = borrower()
    desk.set("ETHUSDT", "2500")
    desk.leverage("alice", "ETHUSDT", 5)
    desk.fill("alice", "buy", 4, "ETHUSDT")
    desk.load("alice")
    assert desk.set("BTCUSDT", "91428.5") == set()
    assert desk.set("BTCUSDT", "91428.6") == {"alice"}
    assert "RiskLevelChanged" in desk.would_happen("alice")


@pytest.mark.parametrize(("price", "named"), [("0.5999", False), ("0.6001", True)])
def test_a_tier_by_value_is_left_at_its_bound(price: str, named: bool) -> None:
    """3000 USDT of XRP count at 0.90; a tick more and all of it counts at 0.75: used 3,800 of 5,250, not 5,700."""
    desk = Watched(HOUSE)
    for rule in RULES:
        desk.house_do(c.SetAssetRule(rule))
    desk.set("XRPUSDT", "0.5990")
    desk.set("ETHUSDT", "2500")
    desk.open("alice", 3_000)
    desk.deposit("alice", 5_000, "XRP")
    desk.leverage("alice", "ETHUSDT", 5)
    desk.fill("alice", "buy", "7.6", "ETHUSDT")
    desk.do("alice", c.Assess())
    desk.load("alice")
    assert desk.account().level is RiskLevel.NORMAL
    assert desk.set("XRPUSDT", price) == ({"alice"} if named else set())
    assert ("RiskLevelChanged" in desk.would_happen("alice")) is named


@pytest.mark.parametrize("seed", range(6))
def test_figures_on_the_screen_are_those_of_the_books(seed: int) -> None:
    """At any price inside its bounds: equity and margin used agree with the exact summary."""
    campaign, rng = Indebted(100 + seed), random.Random(seed)
    desk = campaign.desk
    for _ in range(40):
        symbol = rng.choice(sorted(desk.marks))
        named = desk.set(symbol, desk.marks[symbol].price * D(f"{rng.uniform(0.97, 1.03):.4f}"))
        desk.load(*named)
    shown = dict(desk.screen.most_utilized(len(desk.accounts)))
    seen = 0
    for name, account in desk.accounts.items():
        summary = summarize(account, desk.world(name))
        if not summary.missing and summary.used and summary.equity > 0:
            assert shown[name] == pytest.approx(float(summary.used / summary.equity), rel=1e-6)
            seen += 1
    assert seen > 5
