"""Haircuts in tiers, by slices or for the whole amount, and negative balances that are bought back."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Environment
from debt_mgmt.core.collateral import counted, tier_problems
from debt_mgmt.core.decide_settlement import to_convert
from debt_mgmt.core.market import AssetRule, HaircutTier, Tiering, TierMeasure
from tests.support.desk import FREE, Desk, reasons, refusal

D = Decimal


def tiers(*rows: tuple[str | None, str]) -> tuple[HaircutTier, ...]:
    return tuple(HaircutTier(None if up_to is None else D(up_to), D(haircut)) for up_to, haircut in rows)


BYBIT_BTC = tiers(("10", "0.02"), ("20", "0.05"), ("30", "0.10"), ("40", "0.15"), ("50", "0.20"), (None, "1"))
"""Collateral value ratios of Bybit: 0.98 up to 10 BTC, then falling, nothing above 50."""
SLICED = AssetRule("BTC", priced_by="BTCUSDT", haircut_tiers=BYBIT_BTC)
STEPPED = AssetRule(
    "BTC",
    priced_by="BTCUSDT",
    haircut_tiers=tiers(("100000", "0.05"), ("500000", "0.10"), (None, "0.5")),
    tiering=Tiering.WHOLE,
    tiers_by=TierMeasure.VALUE,
)


@pytest.mark.parametrize(
    ("amount", "value"),
    [("5", "4.9"), ("10", "9.8"), ("25", "23.8"), ("50", "44.8"), ("80", "44.8"), ("-3", "-3"), ("0", "0")],
)
def test_sliced_tiers_count_each_part_at_its_own_haircut(amount: str, value: str) -> None:
    assert counted(SLICED, D(amount), D(50_000)) == D(value) * 50_000


@pytest.mark.parametrize(
    ("amount", "price", "value"),
    [
        ("2", "50000", "95000"),
        ("2", "50000.01", "90000.018"),
        ("10", "50000", "450000"),
        ("11", "50000", "275000"),
        ("-2", "50000", "-100000"),
    ],
)
def test_whole_tiers_count_all_at_the_haircut_that_the_value_reaches(amount: str, price: str, value: str) -> None:
    assert counted(STEPPED, D(amount), D(price)) == D(value)


def test_sliced_tiers_by_value() -> None:
    rule = msgspec.structs.replace(STEPPED, tiering=Tiering.SLICED)
    assert counted(rule, D(4), D(50_000)) == 95_000 + 90_000


@given(
    st.sampled_from(
        [SLICED, STEPPED, msgspec.structs.replace(STEPPED, tiering=Tiering.SLICED), AssetRule("BTC", D("0.1"))]
    ),
    st.integers(-(10**6), 10**8),
    st.integers(1, 10**7),
)
def test_collateral_never_counts_for_more_than_it_is_worth(rule: AssetRule, amount: int, price: int) -> None:
    value = counted(rule, D(amount) / 10**6, D(price) / 100)
    full = D(amount) / 10**6 * D(price) / 100
    assert value <= full
    assert value >= 0 or value == full


def test_unusable_tables_are_named() -> None:
    def problems(*rows: tuple[str | None, str]) -> list[str]:
        return [text for _, text in tier_problems(AssetRule("BTC", haircut_tiers=tiers(*rows)))]

    assert problems(("1", "0.1"), ("2", "0.2"), (None, "1")) == []
    assert problems(("2", "0.1"), ("1", "0.2")) == ["tiers must ascend"]
    assert problems(("1", "0.3"), ("2", "0.2")) == ["haircuts must not fall"]
    assert problems((None, "0.3"), ("2", "0.4")) == ["only the last tier may be open"]
    assert problems(("1", "1.5")) == ["must be from 0 to 1"]


def tiered_desk(rule: AssetRule = SLICED) -> Desk:
    desk = Desk(FREE)
    desk.house_do(c.SetAssetRule(rule))
    desk.mark("BTCUSDT", 50_000)
    desk.mark("ETHUSDT", 2_500)
    desk.open("alice", 0)
    return desk


def test_the_account_stands_on_tiered_collateral() -> None:
    desk = tiered_desk()
    desk.deposit("alice", 25, "BTC")
    assert desk.summary().equity == D("23.8") * 50_000
    assert desk.summary().wallet_value == 25 * 50_000


@pytest.mark.parametrize("rule", [SLICED, STEPPED])
def test_all_can_leave_where_nothing_is_used(rule: AssetRule) -> None:
    desk = tiered_desk(rule)
    desk.deposit("alice", 25, "BTC")
    assert reasons(desk.do("alice", c.Transfer("BTC", D(-25)))) == []
    assert desk.account().balances["BTC"] == 0


@pytest.mark.parametrize("rule", [SLICED, STEPPED])
def test_what_leaves_tiered_collateral_keeps_the_account_safe(rule: AssetRule) -> None:
    desk = tiered_desk(rule)
    desk.deposit("alice", 25, "BTC")
    desk.leverage("alice", "ETHUSDT", 5)
    desk.fill("alice", "buy", 800, "ETHUSDT")
    limit = refusal(desk.do("alice", c.Transfer("BTC", D(-25)))).violations[0].limit
    assert limit is not None
    assert limit > 0
    assert reasons(desk.do("alice", c.Transfer("BTC", -limit))) == []
    assert desk.summary().used <= D("0.80") * desk.summary().equity


# Negative balances


def overdrawn(**balances: str) -> Desk:
    """alice owes 0.02 BTC, worth 1,000 USDT, by a fee taken in an asset that she has not."""
    desk = Desk(FREE)
    desk.value("BTC", priced_by="BTCUSDT", haircut="0.05")
    desk.value("USDC", USDT="1")
    desk.mark("BTCUSDT", 50_000)
    desk.open("alice", 0)
    for asset, amount in balances.items():
        desk.deposit("alice", amount, asset)
    desk.fill("alice", "buy", "0.001", fee="0.02", fee_asset="BTC")
    return desk


def test_a_negative_balance_counts_in_full() -> None:
    desk = overdrawn(USDT="5000")
    assert desk.account().balances["BTC"] == D("-0.02")
    assert desk.summary().equity == 5_000 - 1_000


def test_an_overdrawn_asset_is_bought_back_at_the_ratio_and_said_so() -> None:
    desk = overdrawn(USDT="5000")
    (event,) = (
        one for one in desk.do("alice", c.ConvertAssets("BTC", reason="asked")) if isinstance(one, e.AssetConverted)
    )
    assert (event.bought_amount, event.sold_asset) == (D("0.02"), "USDT")
    assert event.sold_amount == D("1025.641025641026"), "1,000 ÷ 0.975, rounded up"
    assert (event.bought_value, event.sold_value, event.reason) == (D(1_000), event.sold_amount, "asked")
    assert [mark.symbol for mark in event.marks] == ["BTCUSDT"]
    assert desk.account().balances == {"USDT": 5_000 - event.sold_amount, "BTC": 0}


def test_one_asset_after_the_other_is_sold_until_it_is_enough() -> None:
    desk = overdrawn(USDT="600", USDC="900")
    sold = [one.sold_asset for one in desk.do("alice", c.ConvertAssets("BTC")) if isinstance(one, e.AssetConverted)]
    assert sold == ["USDT", "USDC"]
    assert desk.account().balances["BTC"] == 0
    assert desk.account().balances["USDT"] == 0
    assert desk.account().balances["USDC"] > 0


def test_what_is_not_enough_is_sold_all_the_same() -> None:
    desk = overdrawn(USDT="500")
    desk.do("alice", c.ConvertAssets("BTC"))
    assert desk.account().balances["USDT"] == 0
    assert D("-0.0103") < desk.account().balances["BTC"] < D("-0.0102")


def test_a_named_asset_alone_is_sold() -> None:
    desk = overdrawn(USDT="5000", USDC="5000")
    desk.do("alice", c.ConvertAssets("BTC", "USDC"))
    assert (desk.account().balances["USDT"], desk.account().balances["BTC"]) == (D(5_000), D(0))


@pytest.mark.parametrize(
    ("prepare", "asset", "reason"),
    [
        (lambda desk: desk.forget("BTCUSDT"), "BTC", "MISSING_MARK"),
        (lambda desk: None, "USDT", "ALREADY_IN_STATE"),
        (lambda desk: desk.do("alice", c.Transfer("USDT", D(-3_000))), "BTC", ""),
    ],
)
def test_a_conversion_without_price_or_need_is_refused(prepare, asset: str, reason: str) -> None:  # type: ignore[no-untyped-def]
    desk = overdrawn(USDT="5000")
    prepare(desk)
    assert reasons(desk.do("alice", c.ConvertAssets(asset))) == ([reason] if reason else [])


def test_only_paper_money_is_converted_here() -> None:
    desk = overdrawn(USDT="5000")
    desk.accounts["alice"] = msgspec.structs.replace(desk.account(), environment=Environment.LIVE)
    assert reasons(desk.do("alice", c.ConvertAssets("BTC"))) == ["NOT_SANDBOX"]


@pytest.mark.parametrize(("threshold", "found"), [(None, []), ("1000", []), ("999.99", ["BTC"])])
def test_a_balance_is_converted_beyond_the_threshold_of_the_house(threshold: str | None, found: list[str]) -> None:
    desk = overdrawn(USDT="5000")
    rules = msgspec.structs.replace(FREE, conversion_threshold=None if threshold is None else D(threshold))
    assert to_convert(desk.account(), desk.summary(), rules) == found


def test_without_anything_to_sell_nothing_is_asked_for() -> None:
    """Else the journal would fill with refusals, one at every look."""
    desk = overdrawn(USDT="500")
    rules = msgspec.structs.replace(FREE, conversion_threshold=D(100))
    assert to_convert(desk.account(), desk.summary(), rules) == ["BTC"]
    desk.do("alice", c.ConvertAssets("BTC"))
    assert desk.account().balances["BTC"] < 0
    assert to_convert(desk.account(), desk.summary(), rules) == []
