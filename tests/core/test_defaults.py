"""What a new house knows: instruments whose terms hold, with real risk tiers, and how assets are valued."""

from decimal import Decimal
from itertools import pairwise

import pytest

from debt_mgmt.core.defaults import default_asset_rules, default_instruments
from debt_mgmt.core.instrument import Instrument, InstrumentKind, instrument_problems, maintenance_margin, tier_at
from debt_mgmt.core.market import AssetRule

D = Decimal
INSTRUMENTS = {instrument.symbol: instrument for instrument in default_instruments()}


def test_five_perpetuals_and_two_dollar_pairs_are_known() -> None:
    assert list(INSTRUMENTS) == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "BTCUSD", "ETHUSD"]
    for symbol, instrument in INSTRUMENTS.items():
        assert instrument.kind is InstrumentKind.LINEAR
        assert (instrument.base + instrument.quote, instrument.settle) == (symbol, instrument.quote)


@pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=list(INSTRUMENTS))
def test_terms_hold(instrument: Instrument) -> None:
    assert instrument_problems(instrument) == []
    assert instrument.max_leverage == instrument.tiers[0].max_leverage
    assert instrument.min_quantity % instrument.lot == 0


@pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=list(INSTRUMENTS))
def test_maintenance_margin_does_not_jump_where_a_tier_begins(instrument: Instrument) -> None:
    for below, above in pairwise(instrument.tiers):
        bound = above.notional_from
        assert bound * below.maintenance_rate - below.deduction == bound * above.maintenance_rate - above.deduction


@pytest.mark.parametrize(
    ("symbol", "notional", "rate", "leverage", "required"),
    [
        ("BTCUSDT", "40000", "0.004", "125", "160"),
        ("BTCUSDT", "600001", "0.0065", "75", "2950.0065"),
        ("BTCUSDT", "1500000000", "0.5", "1", "328518550"),
        ("ETHUSDT", "55000000", "0.025", "20", "993550"),
        ("SOLUSDT", "3000000", "0.02", "25", "51620"),
        ("XRPUSDT", "18000", "0.0065", "50", "102"),
        ("DOGEUSDT", "760000", "0.02", "25", "7530"),
        ("BTCUSD", "40000", "0.004", "125", "160"),
    ],
)
def test_tiers_are_those_that_were_published(
    symbol: str, notional: str, rate: str, leverage: str, required: str
) -> None:
    instrument = INSTRUMENTS[symbol]
    tier = tier_at(instrument, D(notional))
    assert (tier.maintenance_rate, tier.max_leverage) == (D(rate), D(leverage))
    assert maintenance_margin(instrument, D(notional), D(1)) == D(required)


def test_coins_are_valued_by_their_marks_and_currencies_at_configured_rates() -> None:
    rules = {rule.asset: rule for rule in default_asset_rules({"USDT": {"USD": D(1), "INR": D(83)}}, {})}
    assert rules["USDT"] == AssetRule("USDT", rates={"USD": D(1), "INR": D(83)})
    assert rules["BTC"] == AssetRule("BTC", D("0.05"), "BTCUSDT")
    assert rules["ETH"] == AssetRule("ETH", D("0.05"), "ETHUSDT")
    assert all(rule.priced_by in INSTRUMENTS for rule in rules.values() if rule.priced_by)


def test_configured_haircuts_and_rates_count_before_the_defaults() -> None:
    rules = {rule.asset: rule for rule in default_asset_rules({"BTC": {"USD": D(9)}}, {"BTC": D(0), "GOLD": D("0.3")})}
    assert rules["BTC"] == AssetRule("BTC", D(0), "BTCUSDT", {"USD": D(9)})
    assert rules["GOLD"] == AssetRule("GOLD", D("0.3"))
