"""Published cases put to the core's formulas. A runner takes the inputs and returns figures by their name.

A case of a venue runs under the rule set of that venue, as the sandbox follows it.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import Account, Environment, MarginMode, Position, PositionSide, Side
from debt_mgmt.core.fills import settle_fill
from debt_mgmt.core.house import House
from debt_mgmt.core.instrument import (
    Instrument,
    InstrumentKind,
    MarginBase,
    Tier,
    VenueRules,
    initial_margin,
    instrument_problems,
    maintenance_margin,
    notional,
    profit,
    tier_at,
)
from debt_mgmt.core.liquidation_price import bankruptcy_price, collateral_behind, liquidation_price
from debt_mgmt.core.margin import PositionFigures, World, collateral_value, position_figures, summarize
from debt_mgmt.core.market import AssetRule, Mark
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.venue_rules import HOUSE_RULES, VENUES, RuleSet, is_liquidated, rule_set
from tests.support.instruments import inverse, linear

D = Decimal
ZERO = D(0)
Inputs = dict[str, Any]
Figures = dict[str, Any]
AT = datetime(2026, 1, 5, tzinfo=UTC)

WITH_FEE = VenueRules(fee_in_maintenance=True)
ON_ENTRY = VenueRules(initial_margin_base=MarginBase.ENTRY, maintenance_margin_base=MarginBase.ENTRY)

RECENTLY = date(2026, 1, 5)
BEFORE_JULY_2025 = date(2025, 1, 5)


def venue_of(inputs: Inputs, on: date = RECENTLY) -> RuleSet:
    """The rules of the venue that the case is of; those of the house where it is of none."""
    name = inputs.get("exchange", HOUSE_RULES)
    return rule_set(name if name in VENUES else HOUSE_RULES, on)


def rules_of(inputs: Inputs, on: date = RECENTLY, kind: InstrumentKind = InstrumentKind.LINEAR) -> VenueRules:
    return venue_of(inputs, on).of(kind)


def sign_of(inputs: Inputs) -> int:
    return -1 if inputs["side"] == "short" else 1


def one_tier(rate: str, deduction: str = "0") -> tuple[Tier, ...]:
    return (Tier(D(0), None, D(rate), D(1000), D(deduction)),)


def contract(inputs: Inputs, rules: VenueRules | None = None, *, symbol: str = "XYZUSDT") -> Instrument:
    return linear(
        symbol,
        lot="0.000000001",
        table=one_tier(inputs.get("mmr", "0.01"), inputs.get("maint_amount", "0")),
        rules=rules or VenueRules(),
        taker_fee_rate=inputs.get("taker_fee", "0"),
    )


def table_of(rows: list[dict[str, str]]) -> tuple[Tier, ...]:
    """A venue's table; a row ends where the next begins, so that a hole between whole numbers belongs to the lower."""
    starts = [D(row.get("min_notional", row.get("min", "0"))) for row in rows]
    return tuple(
        Tier(start, end, D(row["mmr"]), D(row.get("max_leverage", "1")), D(row.get("maint_amount", "0")))
        for row, start, end in zip(rows, starts, [*starts[1:], None], strict=True)
    )


# Liquidation price


def isolated_liquidation(inputs: Inputs, on: date = RECENTLY) -> Figures:
    """Besides the price: just beyond it the venue liquidates, just before it does not."""
    rules = rules_of(inputs, on)
    instrument = contract(inputs, rules)
    entry, quantity = D(inputs["entry_price"]), D(inputs["quantity"]) * sign_of(inputs)
    posted = inputs.get("wallet_balance")
    bare = msgspec.structs.replace(instrument, rules=VenueRules())
    collateral = D(posted) if posted is not None else initial_margin(bare, quantity, entry, D(inputs["leverage"]))
    price = liquidation_price(instrument, quantity, entry, collateral, reference=entry)
    assert price is not None
    for step, expected in ((-1, True), (1, False)):
        at = price * (1 + D(step * sign_of(inputs)) / 10**6)
        keeping = at if rules.maintenance_margin_base is MarginBase.MARK else entry
        equity = collateral + profit(instrument, quantity, entry, at)
        assert is_liquidated(rules, maintenance_margin(instrument, quantity, keeping), equity) is expected
    return {
        "liquidation_price": price,
        "bankruptcy_price": bankruptcy_price(instrument, quantity, entry, collateral),
    }


def liquidation_before_july_2025(inputs: Inputs) -> Figures:
    return isolated_liquidation(inputs, BEFORE_JULY_2025)


def cross_liquidation(inputs: Inputs) -> Figures:
    """The position and the others in one account, so that what stands behind it comes from the account's summary."""
    rows = [inputs, *inputs["other_positions"]]
    instruments = {row["symbol"]: contract(row, rules_of(inputs), symbol=row["symbol"]) for row in rows}
    marks = {row["symbol"]: Mark(row["symbol"], D(row["mark_price"]), "case", AT, AT) for row in rows}
    positions = {
        row["symbol"]: Position(
            row["symbol"],
            PositionSide.NET,
            D(row["quantity"]) * sign_of(row),
            D(row["entry_price"]),
            D(1),
            MarginMode.CROSS,
            AT,
        )
        for row in rows
    }
    account = Account(
        "case",
        "case",
        "paper",
        Environment.SANDBOX,
        "USDT",
        AT,
        balances={"USDT": D(inputs["wallet_balance"])},
        positions=positions,
    )
    summary = summarize(account, World(House(instruments), marks, RiskSettings(), AT))
    one = next(one for one in summary.positions if one.position.symbol == inputs["symbol"])
    price = liquidation_price(
        one.instrument, one.position.quantity, one.position.entry_price, collateral_behind(one, summary), one.mark.price
    )
    return {"liquidation_price": price}


# Risk tiers


def tier_lookup(inputs: Inputs) -> Figures:
    instrument = linear("XYZUSDT", table=table_of(inputs["tiers"]))
    tier = tier_at(instrument, D(inputs["notional"] if "notional" in inputs else inputs["size"]))
    return {"mmr": tier.maintenance_rate, "maint_amount": tier.deduction}


def deductions(inputs: Inputs) -> Figures:
    """The deductions that make maintenance margin continuous, found from the core's own two-sided margin."""
    rows = table_of(inputs["tiers"])
    known: list[Tier] = [rows[0]]
    for row in rows[1:]:
        bare = linear("XYZUSDT", table=(row,))
        below = linear("XYZUSDT", table=tuple(known))
        jump = maintenance_margin(bare, row.notional_from, D(1)) - maintenance_margin(below, row.notional_from, D(1))
        known.append(msgspec.structs.replace(row, deduction=jump))
    capped = tuple(msgspec.structs.replace(row, max_leverage=D(1)) for row in known)
    assert instrument_problems(linear("XYZUSDT", table=capped, max_quantity=None)) == []  # type: ignore[arg-type]
    return {"maint_amounts": [row.deduction for row in known]}


def largest_leverage(inputs: Inputs) -> Figures:
    """The highest leverage at which what the collateral buys still lies in a tier that allows it, by bisection."""
    instrument = linear("XYZUSDT", table=table_of(inputs["tiers"]))
    collateral = D(inputs["collateral"])
    low, high = D(0), D(1000)
    while high - low > D("1e-12"):
        middle = (low + high) / 2
        if middle <= tier_at(instrument, collateral * middle).max_leverage:
            low = middle
        else:
            high = middle
    return {"max_leverage": low}


# Profit


def settled(fills: list[tuple[Side, Decimal, Decimal]], fee_rate: Decimal = ZERO) -> tuple[Position | None, Decimal]:
    """The position after the fills, and what they realised net of their fees."""
    instrument = linear("XYZUSDT", lot="0.000000001")
    position: Position | None = None
    net = D(0)
    for side, quantity, price in fills:
        outcome = settle_fill(position, instrument, side, PositionSide.NET, quantity, price, D(1), MarginMode.CROSS, AT)
        position = outcome.position
        net += outcome.realized_pnl - notional(instrument, quantity, price) * fee_rate
    return position, net


def fills_of(inputs: Inputs) -> list[tuple[Side, Decimal, Decimal]]:
    return [(Side(one["side"].upper()), D(one["quantity"]), D(one["price"])) for one in inputs["fills"]]


def sequence_of_fills(inputs: Inputs) -> Figures:
    position, net = settled(fills_of(inputs), D(inputs["fee_rate"]))
    assert position is not None
    return {"quantity": position.quantity, "avg_entry_price": position.entry_price, "realized_pnl": net}


def realized(inputs: Inputs) -> Figures:
    opens, closes = (Side.BUY, Side.SELL) if inputs["side"] == "long" else (Side.SELL, Side.BUY)
    _, net = settled(
        [
            (opens, D(inputs["quantity"]), D(inputs["entry_price"])),
            (closes, D(inputs["close_quantity"]), D(inputs["close_price"])),
        ]
    )
    return {"realized_pnl": net}


def profit_with_fees(inputs: Inputs) -> Figures:
    """Both fees in the profit; the return is on the margin that the opening took, its fee included."""
    opens, closes = (Side.BUY, Side.SELL) if inputs["side"] == "long" else (Side.SELL, Side.BUY)
    quantity, entry, leverage = D(inputs["quantity"]), D(inputs["entry_price"]), D(inputs["leverage"])
    assert inputs["fee_open"] == inputs["fee_close"]
    fee_rate = D(inputs["fee_open"])
    _, net = settled([(opens, quantity, entry), (closes, quantity, D(inputs["exit_price"]))], fee_rate)
    instrument = linear("XYZUSDT")
    opened = initial_margin(instrument, quantity, entry, leverage)
    fee = notional(instrument, quantity, entry) * fee_rate / leverage
    return {"realized_pnl": net, "return_on_margin": net / (opened + fee * sign_of(inputs))}


def figures_at_mark(inputs: Inputs, rules: VenueRules | None = None) -> PositionFigures:
    instrument = contract(inputs, rules)
    position = Position(
        instrument.symbol,
        PositionSide.NET,
        D(inputs["quantity"]) * sign_of(inputs),
        D(inputs["entry_price"]),
        D(inputs.get("leverage", "1")),
        MarginMode.CROSS,
        AT,
    )
    mark = Mark(instrument.symbol, D(inputs["mark_price"]), "case", AT, AT)
    return position_figures(position, instrument, mark, D(1))


def position_at_mark(inputs: Inputs) -> Figures:
    one = figures_at_mark(inputs, rules_of(inputs))
    at_entry = initial_margin(one.instrument, one.position.quantity, one.position.entry_price, one.position.leverage)
    return {
        "notional": one.notional,
        "unrealized_pnl": one.unrealized_pnl,
        "initial_margin": one.initial_margin if "mmr" in inputs else at_entry,
        "maintenance_margin": one.maintenance_margin,
        "roi_pct": one.unrealized_pnl / at_entry * 100,
    }


def closed_history(inputs: Inputs) -> Figures:
    instrument = linear("XYZUSDT", contract_size=inputs["contract_value"])
    quantity, entry = D(inputs["contracts"]), D(inputs["entry_price"])
    gross = profit(instrument, quantity * sign_of(inputs), entry, D(inputs["exit_price"]))
    net = gross + D(inputs["fee"]) + D(inputs["funding"]) + D(inputs["liq_penalty"])
    margin = initial_margin(instrument, quantity, entry, D(inputs["leverage"]))
    return {"price_pnl": gross, "realized_pnl": net, "return_on_margin": net / margin}


# Margin


def margin_of_order(inputs: Inputs) -> Figures:
    """notional ÷ leverage; a margin rate on top of leverage is a contract of that size."""
    rate = D(inputs.get("margin_rate", "1")) * D(inputs.get("multiplier", "1"))
    instrument = linear("XYZUSDT", contract_size=str(rate), taker_fee_rate=inputs.get("fee_rate", "0"), rules=WITH_FEE)
    if inputs.get("exchange") in VENUES:
        instrument = msgspec.structs.replace(
            instrument, rules=rules_of(inputs), taker_fee_rate=venue_of(inputs).taker_fee_rate or ZERO
        )
    quantity, price = D(inputs["quantity"]), D(inputs["price"])
    bare = msgspec.structs.replace(instrument, rules=VenueRules())
    fee = maintenance_margin(instrument, quantity, price) - maintenance_margin(bare, quantity, price)
    return {"initial_margin": initial_margin(instrument, quantity, price, D(inputs["leverage"])), "fee_reserved": fee}


def margin_of_inverse(inputs: Inputs) -> Figures:
    venue = venue_of(inputs)
    assert venue.taker_fee_rate is not None
    instrument = inverse("BTCUSD", contract_size="1", taker_fee_rate=str(venue.taker_fee_rate), rules=venue.contract)
    margin = initial_margin(instrument, D(inputs["quantity"]), D(inputs["price"]), D(inputs["leverage"]))
    return {"initial_margin": margin}


def inverse_position(inputs: Inputs) -> Figures:
    instrument = inverse(
        "ETHUSD",
        contract_size=inputs["contract_value_usd"],
        table=one_tier(inputs["mmr"]),
        taker_fee_rate=inputs["taker_fee"],
    )
    with_fee = msgspec.structs.replace(instrument, rules=rules_of(inputs))
    position = Position(
        "ETHUSD",
        PositionSide.NET,
        D(inputs["contracts"]) * sign_of(inputs),
        D(inputs["entry_price"]),
        D(inputs["leverage"]),
        MarginMode.ISOLATED,
        AT,
        isolated_margin=D(inputs["margin"]),
    )
    mark = Mark("ETHUSD", D(inputs["mark_price"]), "case", AT, AT)
    bare = position_figures(position, instrument, mark, D(1))
    full = position_figures(position, with_fee, mark, D(1))
    return {
        "unrealized_pnl": bare.unrealized_pnl,
        "maintenance_margin": bare.maintenance_margin,
        "margin_ratio": full.isolated_equity / full.maintenance_margin,
    }


def borrowed_short(inputs: Inputs) -> Figures:
    """A short on margin: what was borrowed and sold. The venue takes the closing fee on the requirement too."""
    assert D(inputs["interest"]) == 0
    owed, margin, mmr = D(inputs["liability_base"]), D(inputs["margin"]), D(inputs["mmr"])
    entry = (D(inputs["position_assets_usdt"]) - margin) / owed
    fee_rate = D(inputs["taker_fee"]) * (1 + mmr)
    instrument = linear("LTCUSDT", table=one_tier(inputs["mmr"]), taker_fee_rate=str(fee_rate))
    with_fee = msgspec.structs.replace(instrument, rules=rules_of(inputs, kind=InstrumentKind.SPOT_MARGIN))
    position = Position(
        "LTCUSDT", PositionSide.NET, -owed, entry, D(inputs["leverage"]), MarginMode.ISOLATED, AT, margin
    )
    mark = Mark("LTCUSDT", D(inputs["mark_price"]), "case", AT, AT)
    full = position_figures(position, with_fee, mark, D(1))
    return {
        "maintenance_margin": maintenance_margin(instrument, owed, mark.price),
        "margin_ratio": full.isolated_equity / full.maintenance_margin,
        "liquidation_price": liquidation_price(with_fee, -owed, entry, margin, mark.price),
    }


def collateral_of_coin(inputs: Inputs) -> Figures:
    return {"collateral": collateral_value("BTC", D(inputs["btc"]), D(inputs["btc_price"]), House())}


def weighted_collateral(inputs: Inputs) -> Figures:
    haircut = venue_of(inputs).haircuts["BTC"]
    assert haircut == 1 - D(inputs["collateral_weight"])
    house = House(assets={"COIN": AssetRule("COIN", haircut=haircut)})
    return {"collateral_value": collateral_value("COIN", D(inputs["notional"]), D(1), house)}
