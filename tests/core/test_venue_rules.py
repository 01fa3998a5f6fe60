"""Rule sets of the venues: which holds when, what it makes of an instrument, and figures reckoned by hand."""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import MarginMode, RiskLevel
from debt_mgmt.core.defaults import default_instruments
from debt_mgmt.core.instrument import (
    Instrument,
    MarginBase,
    VenueRules,
    initial_margin,
    instrument_problems,
    maintenance_margin,
    margin_share,
    notional,
)
from debt_mgmt.core.interest import CLOCKS
from debt_mgmt.core.levels import RANK, next_level
from debt_mgmt.core.liquidation_price import liquidation_price
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.venue_rules import RULE_SETS, VENUES, RuleSet, is_liquidated, rule_set, tiers_under, under
from tests.support.desk import FREE, Desk, kinds
from tests.support.instruments import inverse

D = Decimal
TODAY = date(2026, 11, 22)
BITCOIN = default_instruments()[0]
NAMES = [f"{one.rules_id} {one.effective_from}" for one in RULE_SETS]


def bitcoin(venue: str, on: date = TODAY) -> Instrument:
    return under(rule_set(venue, on), BITCOIN)


def test_every_venue_has_rules() -> None:
    assert set(VENUES) == {"house", "binance", "bybit", "okx", "kraken", "coinbase", "cryptocom"}
    assert len({(one.rules_id, one.effective_from) for one in RULE_SETS}) == len(RULE_SETS)
    with pytest.raises(KeyError):
        rule_set("nobody", TODAY)


@pytest.mark.parametrize("rules", RULE_SETS, ids=NAMES)
def test_a_rule_set_says_where_it_is_from_and_names_a_clock(rules: RuleSet) -> None:
    assert rules.sources
    assert rules.interest_clock in CLOCKS
    assert all(0 <= haircut < 1 for haircut in rules.haircuts.values())


@pytest.mark.parametrize(
    ("on", "base", "fee"),
    [
        (date(2020, 5, 1), MarginBase.ENTRY, False),
        (date(2025, 6, 30), MarginBase.ENTRY, False),
        (date(2025, 7, 1), MarginBase.MARK, True),
        (TODAY, MarginBase.MARK, True),
    ],
)
def test_the_rules_of_a_day_are_the_latest_that_began_by_then(on: date, base: MarginBase, fee: bool) -> None:
    rules = rule_set("bybit", on).contract
    assert (rules.maintenance_margin_base, rules.fee_in_maintenance) == (base, fee)


def test_a_day_before_all_known_rules_has_the_oldest() -> None:
    assert rule_set("binance", date(2019, 1, 1)).effective_from == "2024-10-24"


@pytest.mark.parametrize("rules", RULE_SETS, ids=NAMES)
@pytest.mark.parametrize("instrument", default_instruments(), ids=lambda one: one.symbol)
def test_an_instrument_under_any_rules_can_be_traded(rules: RuleSet, instrument: Instrument) -> None:
    changed = under(rules, instrument)
    assert instrument_problems(changed) == []
    assert changed.rules == rules.contract
    assert changed.max_leverage <= instrument.max_leverage
    assert under(rules, instrument) == changed
    again = msgspec.json.decode(msgspec.json.encode(changed), type=Instrument)
    assert again == changed
    for tier in changed.tiers:
        assert max(-tier.maintenance_rate.as_tuple().exponent, -tier.max_leverage.as_tuple().exponent) <= 18  # type: ignore[operator]


@pytest.mark.parametrize("instrument", default_instruments(), ids=lambda one: one.symbol)
def test_binance_leaves_the_default_instruments_as_they_are(instrument: Instrument) -> None:
    assert under(rule_set("binance", TODAY), instrument) == instrument


@pytest.mark.parametrize("rules", RULE_SETS, ids=NAMES)
def test_margin_jumps_only_where_the_venue_does_not_deduct(rules: RuleSet) -> None:
    tiers = tiers_under(rules, BITCOIN.tiers)
    for below, above in pairwise(tiers):
        start = above.notional_from
        jump = start * above.maintenance_rate - above.deduction - (start * below.maintenance_rate - below.deduction)
        assert jump == 0 if rules.deducts else jump >= 0
    assert rules.deducts or all(tier.deduction == 0 for tier in tiers)


# By hand, one bitcoin long at 50,000, now at 60,000, five times: a notional of 60,000 is in the second tier (0.005, 50)


@pytest.mark.parametrize(
    ("venue", "on", "initial", "maintenance"),
    [
        ("house", TODAY, D(12000), D(60000) * D("0.005") - 50),
        ("binance", TODAY, D(12000), D(60000) * D("0.005") - 50),
        # closing fee at bankruptcy: 0.00055 × (1 − 1/5) of the notional; 0.00055 of it in maintenance
        ("bybit", TODAY, D(12000) + 60000 * D("0.00044"), 60000 * (D("0.005") + D("0.00055")) - 50),
        # on entry: 50,000 is in the second tier, and nothing is deducted
        ("bybit", date(2025, 1, 1), D(10000) + 50000 * D("0.00044"), 50000 * D("0.005")),
        ("okx", TODAY, D(12000), 60000 * (D("0.005") + D("0.0005"))),
        # 50 times is all that Kraken has: an initial rate of 2 %, half of it maintenance, on entry
        ("kraken", TODAY, D(10000), 50000 * D("0.01")),
        # two thirds of 1/100, rounded up
        ("coinbase", TODAY, D(12000), 60000 * D("0.00666667")),
        ("cryptocom", TODAY, D(12000), 60000 * D("0.005")),
    ],
)
def test_margin_of_a_position_under_the_rules_of_each_venue(
    venue: str, on: date, initial: Decimal, maintenance: Decimal
) -> None:
    desk = Desk(FREE, instruments=[bitcoin(venue, on)])
    desk.open("alice", 100000)
    desk.mark("BTCUSDT", 50000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1, price=50000)
    desk.mark("BTCUSDT", 60000)
    summary = desk.summary()
    assert (summary.used, summary.maintenance) == (initial, maintenance)


def test_okx_counts_isolated_margin_on_the_entry_price() -> None:
    desk = Desk(FREE, instruments=[bitcoin("okx")])
    desk.open("alice", 100000, margin_mode=MarginMode.ISOLATED)
    desk.mark("BTCUSDT", 50000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1, price=50000)
    desk.mark("BTCUSDT", 60000)
    (one,) = desk.summary().positions
    assert one.initial_margin == 10000
    assert one.position.isolated_margin == 10000
    assert one.maintenance_margin == 60000 * D("0.0055")


@pytest.mark.parametrize(("side", "share"), [("buy", "0.8"), ("sell", "1.2")])
def test_bybit_posts_the_fee_of_closing_at_bankruptcy(side: str, share: str) -> None:
    """A short ends above its entry and pays more; an order reckons with the larger of both."""
    desk = Desk(FREE, instruments=[bitcoin("bybit")])
    desk.open("alice", 100000, margin_mode=MarginMode.ISOLATED)
    desk.mark("BTCUSDT", 50000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", side, 1, price=50000)
    (position,) = desk.account().positions.values()
    assert position.isolated_margin == 10000 + 50000 * D("0.00055") * D(share)
    desk.reserve("alice", side, 1, price=50000)
    assert desk.summary().used == 10000 + 50000 * D("0.00055") * D("1.2")


def test_the_closing_fee_of_an_inverse_contract_is_reckoned_in_coin() -> None:
    rules = VenueRules("bybit", fee_in_initial=True)
    instrument = inverse("BTCUSD", contract_size="1", taker_fee_rate="0.00055", rules=rules)
    # 10,000 dollars at 50,000 are 0.2 coin; a long five times ends at 50,000 × 5/6, where they are 0.24 coin
    assert initial_margin(instrument, D(10000), D(50000), D(5)) == D("0.04") + D("0.24") * D("0.00055")
    assert initial_margin(instrument, D(-10000), D(50000), D(5)) == D("0.04") + D("0.16") * D("0.00055")


@given(
    st.sampled_from(RULE_SETS),
    st.sampled_from(default_instruments()),
    st.integers(-200, 200).filter(bool),
    st.integers(1, 5),
)
def test_the_share_of_a_position_is_its_margin(
    rules: RuleSet, instrument: Instrument, lots: int, leverage: int
) -> None:
    changed = under(rules, instrument)
    quantity, price = lots * changed.lot, D("1234.5")
    margin = initial_margin(changed, quantity, price, D(leverage))
    assert abs(margin - notional(changed, quantity, price) * margin_share(changed, quantity, D(leverage))) < D("1e-40")


@pytest.mark.parametrize("rules", RULE_SETS, ids=NAMES)
def test_at_its_liquidation_price_the_venue_liquidates(rules: RuleSet) -> None:
    """A little before it the venue does not, a little beyond it does; at the very price it depends on ≤ or <."""
    instrument = under(rules, BITCOIN)
    collateral = initial_margin(instrument, D(3), D(50000), D(5))
    price = liquidation_price(instrument, D(3), D(50000), collateral, D(50000))
    assert price is not None

    def liquidated(at: Decimal) -> bool:
        keeping = at if rules.contract.maintenance_margin_base is MarginBase.MARK else D(50000)
        return is_liquidated(
            rules.contract, maintenance_margin(instrument, D(3), keeping), collateral + 3 * (at - 50000)
        )

    assert not liquidated(price + D("0.01"))
    assert liquidated(price - D("0.01"))


def test_where_equity_is_maintenance_some_venues_wait() -> None:
    assert is_liquidated(bitcoin("binance").rules, D(100), D(100))
    assert not is_liquidated(bitcoin("cryptocom").rules, D(100), D(100))
    assert is_liquidated(bitcoin("cryptocom").rules, D(100), D("99.999999999999"))
    assert not is_liquidated(bitcoin("binance").rules, D(0), D(-5))


@given(
    st.sampled_from(RULE_SETS),
    st.sampled_from(default_instruments()),
    st.integers(1, 2_000_000),
    st.integers(1, 5),
    st.decimals("-0.5", "1", places=4),
)
def test_the_house_steps_in_no_later_than_the_venue(
    rules: RuleSet, instrument: Instrument, thousands: int, leverage: int, share: Decimal
) -> None:
    """Whatever the venue's rules and the size: where the venue would liquidate, the house's forced level is reached."""
    changed = under(rules, instrument)
    quantity, price = D(thousands), D(1000)
    value = notional(changed, quantity, price)
    tier = next(one for one in changed.tiers if one.notional_to is None or value < one.notional_to)
    chosen = min(D(leverage), tier.max_leverage)
    used, maintenance = initial_margin(changed, quantity, price, chosen), maintenance_margin(changed, quantity, price)
    equity = maintenance * share
    if is_liquidated(changed.rules, maintenance, equity):
        level = next_level(RiskLevel.NORMAL, used, equity, RiskSettings())
        assert RANK[level] == RANK[RiskLevel.LIQUIDATING]


def test_a_change_of_rules_assesses_what_is_held_anew() -> None:
    desk = Desk(FREE, instruments=[bitcoin("binance")])
    desk.open("alice", 12400)
    desk.mark("BTCUSDT", 50000)
    desk.leverage("alice", "BTCUSDT", 5)
    desk.fill("alice", "buy", 1, price=50000)
    before = desk.summary().maintenance
    assert kinds(desk.house_do(c.PutInstrument(bitcoin("okx")))) == ["InstrumentPut"]
    assert desk.summary().maintenance > before
    assert desk.house_do(c.PutInstrument(bitcoin("okx"))) == ()


def test_the_page_says_what_the_rules_say() -> None:
    page = (Path(__file__).parents[2] / "docs" / "margin.md").read_text("utf-8")
    for rules in RULE_SETS:
        assert row_of(rules) in page
    assert page.count("| equity ≤ maintenance |") + page.count("| equity < maintenance |") == len(RULE_SETS)


def row_of(rules: RuleSet) -> str:
    """The row of a rule set in docs/margin.md."""
    contract, share = rules.contract, rules.maintenance_of_initial
    isolated = contract.isolated_margin_base or contract.initial_margin_base
    fees = "the instrument's" if rules.taker_fee_rate is None else f"{rules.taker_fee_rate}, {rules.maker_fee_rate}"
    yes = {True: "yes", False: "no"}
    cells = (
        rules.rules_id,
        rules.effective_from,
        contract.initial_margin_base.value.lower(),
        isolated.value.lower(),
        f"{yes[contract.fee_in_initial]} / {yes[contract.fee_in_maintenance]}",
        "the table's" if share is None else f"{Fraction(share).limit_denominator(9)} of initial",
        yes[rules.deducts],
        f"equity {'<' if contract.trigger_is_strict else '≤'} maintenance",
        fees,
        rules.interest_clock,
    )
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"
