"""Published cases put to whole accounts on a desk, by the same rules as the formulas' cases."""

from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal

import msgspec

from debt_mgmt.core.instrument import InstrumentKind, VenueRules, initial_margin
from tests.support.desk import FREE, Desk
from tests.support.instruments import linear
from tests.vectors import formula_cases as formula
from tests.vectors.formula_cases import ON_ENTRY, Figures, Inputs, fills_of, one_tier, rules_of

D = Decimal

UNBUFFERED = msgspec.structs.replace(
    FREE, max_leverage=D(1000), margin_buffer=D(1), liquidation_threshold=D(1), forced_liquidation_threshold=D(2)
)
"""A house that lets all margin be used, as the venues of the published cases do."""


def desk_with(capital: str, leverage: str = "1", price: str = "1", *, rules: VenueRules | None = None) -> Desk:
    """One account and one instrument at one price."""
    instruments = [
        linear(symbol, lot="0.00000001", tick="0.00000001", rules=rules or VenueRules())
        for symbol in ("XYZUSDT", "ABCUSDT")
    ]
    desk = Desk(UNBUFFERED, instruments=instruments)
    desk.open("case", capital)
    for symbol in ("XYZUSDT", "ABCUSDT"):
        desk.mark(symbol, price)
        desk.leverage("case", symbol, leverage)
    return desk


def locked_and_free(inputs: Inputs) -> Figures:
    """What orders and positions of two instruments lock: each an order on top of a position."""
    desk = desk_with(inputs["total"])
    for symbol, scope in (("XYZUSDT", "per_instrument"), ("ABCUSDT", "account_wide")):
        held, ordered = D(inputs[f"{scope}_maint"]), D(inputs[f"{scope}_initial"])
        if held:
            desk.fill("case", "buy", held, symbol)
        if ordered:
            desk.reserve("case", "buy", ordered, symbol)
    summary = desk.summary("case")
    return {"locked": summary.used, "free": summary.available}


def netted_legs(inputs: Inputs) -> Figures:
    """Fills of both sides netted into one position, whose margin is counted on its entry price."""
    fills = fills_in(inputs["legs"])
    table = one_tier(inputs["margin_maint"])
    desk = Desk(UNBUFFERED, instruments=[linear("LEGUSDT", lot="0.000001", table=table, rules=ON_ENTRY)])
    desk.open("case", 1000000)
    desk.mark("LEGUSDT", fills[-1][2])
    for side, quantity, price in fills:
        desk.fill("case", side, quantity, "LEGUSDT", price)
    position = desk.position("case", "LEGUSDT")
    return {
        "net_quantity": position.quantity if position is not None else D(0),
        "maintenance_margin": desk.summary("case").maintenance,
    }


def fills_in(legs: str) -> list[tuple[str, Decimal, Decimal]]:
    """`5x BUY 50 @1.00000, SELL 100 @2`: side, quantity and price of each fill, by default the last price named."""
    fills: list[tuple[str, Decimal, Decimal]] = []
    shared = legs.rpartition("@")[2].strip()
    for leg in legs.split(","):
        words = leg.replace("@", " @").split()
        times = int(words.pop(0).removesuffix("x")) if words[0].endswith("x") else 1
        side, quantity = words[0], words[1]
        price = words[2].removeprefix("@") if len(words) > 2 else shared
        fills += [(side, D(quantity), D(price))] * times
    return fills


def pre_trade(inputs: Inputs) -> Figures:
    """An order against the free balance, with a position that may be reduced."""
    price, leverage = D(inputs["price"]), D(inputs["leverage"])
    assert D(inputs["margin_init"]) == 1
    held, ordered = D(inputs["position_signed_qty"]), D(inputs["order_signed_qty"])
    instrument = linear("XYZUSDT")
    locked = initial_margin(instrument, held, price, leverage)
    desk = desk_with(str(D(inputs["free_balance"]) + locked), inputs["leverage"], inputs["price"])
    if held:
        desk.fill("case", "buy" if held > 0 else "sell", abs(held), "XYZUSDT")
    assert desk.summary("case").available == D(inputs["free_balance"])
    result = desk.check("case", "buy" if ordered > 0 else "sell", abs(ordered), "XYZUSDT")
    margin = initial_margin(instrument, ordered, price, leverage)
    assert result.initial_margin == (0 if result.reducing else margin)
    return {"decision": "accept" if result.fits else "deny", "initial_margin": margin}


def available_after_order(inputs: Inputs) -> Figures:
    desk = desk_with(inputs["wallet_balance"], inputs["leverage"])
    desk.reserve("case", "buy", inputs["order_notional"], "XYZUSDT")
    return {"available_margin": desk.summary("case").available}


def enough_for_order(inputs: Inputs) -> Figures:
    desk = desk_with(inputs["wallet_balance"], inputs["leverage"])
    result = desk.check("case", "buy", inputs["order_notional"], "XYZUSDT")
    return {"decision": "accept" if result.fits else "deny"}


def closing_order(inputs: Inputs) -> Figures:
    desk = desk_with("1000", inputs["leverage"], inputs["price"])
    desk.fill("case", "buy", inputs["quantity"], "XYZUSDT")
    result = desk.check("case", "sell", inputs["quantity"], "XYZUSDT")
    assert result.fits
    return {"initial_margin": result.margin_required}


def balance_after_closing(inputs: Inputs) -> Figures:
    """The venue books fees in whole cents."""
    desk = desk_with(inputs["start_balance"])
    for side, quantity, price in fills_of(inputs):
        fee = (quantity * price * D(inputs["fee_rate"])).quantize(D("0.01"))
        desk.fill("case", side, quantity, "XYZUSDT", price, fee=fee)
    return {"balance": desk.account("case").balances["USDT"]}


def margin_after_each_fill(inputs: Inputs) -> Figures:
    """`BUY 100 -> SELL 200 (…)`: margin used after each."""
    desk = desk_with(inputs["capital"], inputs["leverage"], inputs["price"])
    used = []
    for step in inputs["sequence"].partition("(")[0].split("->"):
        side, quantity = step.split()
        desk.fill("case", side, quantity, "XYZUSDT")
        used.append(desk.summary("case").used)
    return {"used_margin_after_each": used}


def block_and_release(inputs: Inputs) -> Figures:
    """A held order, filled, and the position closed with a profit."""
    desk = desk_with(inputs["capital"])
    desk.reserve("case", "buy", inputs["block"], "XYZUSDT")
    blocked = desk.summary("case")
    (reservation_id,) = desk.account("case").reservations
    desk.fill("case", "buy", inputs["block"], "XYZUSDT", reservation_id=reservation_id)
    desk.mark("XYZUSDT", 1 + D(inputs["realized_pnl"]) / D(inputs["block"]))
    desk.fill("case", "sell", inputs["release"], "XYZUSDT")
    return {
        "available_after_block": blocked.available,
        "used_after_block": blocked.used,
        "available_after_release": desk.summary("case").available,
        "realized_pnl": desk.account("case").realized_pnl["USDT"],
    }


def total_profit(inputs: Inputs) -> Figures:
    desk = desk_with("10000000")
    desk.fill("case", "buy", D(inputs["unrealized_pnl"]), "XYZUSDT")
    desk.mark("XYZUSDT", 2)
    open_profit = desk.summary("case").unrealized_pnl
    return {"total_pnl": open_profit + sum(desk.account("case").realized_pnl.values(), D(inputs["realized_pnl"]))}


def margin_of_capital(inputs: Inputs) -> Figures:
    desk = desk_with(inputs["capital"], inputs["leverage"], inputs["price"])
    desk.fill("case", "buy", inputs["quantity"], "XYZUSDT")
    summary = desk.summary("case")
    return {"initial_margin": summary.used, "available": summary.available}


# Kraken's words: used margin, and the margin level as equity ÷ used margin, in percent


def trade_balance(inputs: Inputs) -> Figures:
    """Positions that cost `c` and have moved by `n`; what their margin does not explain of `m` is held for orders."""
    desk = desk_with(inputs["eb"], price=inputs["c"])
    desk.fill("case", "buy", 1, "XYZUSDT")
    desk.mark("XYZUSDT", D(inputs["c"]) + D(inputs["n"]))
    desk.mark("ABCUSDT", 1)
    desk.reserve("case", "buy", D(inputs["m"]) - desk.summary("case").used, "ABCUSDT")
    summary = desk.summary("case")
    assert summary.used == D(inputs["m"])
    return {
        "valuation": summary.exposure,
        "equity": summary.equity,
        "free_margin": summary.available,
        "margin_level_pct": (summary.equity / summary.used * 100).quantize(D("0.01"), ROUND_DOWN),
    }


def margin_account(capital: str, inputs: Inputs, rules: VenueRules, decimals: str) -> Figures:
    desk = desk_with(capital, inputs["leverage"], inputs["entry_price"], rules=rules)
    side = "sell" if inputs["side"] == "short" else "buy"
    desk.fill("case", side, inputs["quantity"] if "quantity" in inputs else inputs["base_borrowed"], "XYZUSDT")
    desk.mark("XYZUSDT", inputs["mark_price"])
    summary = desk.summary("case")
    return {
        "unrealized_pnl": summary.unrealized_pnl,
        "equity": summary.equity,
        "used_margin": summary.used,
        "margin_level_pct": (summary.equity / summary.used * 100).quantize(D(decimals), ROUND_DOWN),
    }


def short_floats_with_price(inputs: Inputs) -> Figures:
    return margin_account(inputs["start_equity"], inputs, rules_of(inputs, kind=InstrumentKind.SPOT_MARGIN), "1")


def long_is_fixed_at_entry(inputs: Inputs) -> Figures:
    return margin_account(inputs["balance"], inputs, rules_of(inputs, kind=InstrumentKind.SPOT_MARGIN), "0.001")


RUNNERS: dict[str, Callable[[Inputs], Figures]] = {
    "ft-bin-iso-long": formula.isolated_liquidation,
    "ft-bin-cross-long": formula.cross_liquidation,
    "ft-liq-binance": formula.isolated_liquidation,
    "ft-liq-okx": formula.isolated_liquidation,
    "ft-liq-bybit": formula.liquidation_before_july_2025,
    "js-liq": formula.liquidation_before_july_2025,
    "ft-tier": formula.tier_lookup,
    "ft-okx-tier": formula.tier_lookup,
    "ft-cum": formula.deductions,
    "ft-maxlev": formula.largest_leverage,
    "ft-profit": formula.profit_with_fees,
    "nt-tt-seq": formula.sequence_of_fills,
    "nt-inter-seq": formula.sequence_of_fills,
    "nt-realized": formula.realized,
    "nt-upnl": formula.position_at_mark,
    "js-pnl": formula.position_at_mark,
    "real-binance-cross-long": formula.position_at_mark,
    "real-okx-history": formula.closed_history,
    "real-okx-inv-iso": formula.inverse_position,
    "real-okx-spotmargin-short": formula.borrowed_short,
    "nt-model": formula.margin_of_order,
    "ln-im": formula.margin_of_order,
    "ln-bybit-im": formula.margin_of_order,
    "ln-bybit-im-3": formula.margin_of_inverse,
    "hb-collateral": formula.margin_of_order,
    "oa-leverage": formula.margin_of_order,
    "doc-okx-im": formula.margin_of_order,
    "ln-collateral": formula.collateral_of_coin,
    "doc-coinbase-weight": formula.weighted_collateral,
    "nt-locked": locked_and_free,
    "nt-hedge": netted_legs,
    "nt-pretrade": pre_trade,
    "js-avail": available_after_order,
    "js-insufficient": enough_for_order,
    "hb-close": closing_order,
    "nt-close-balance": balance_after_closing,
    "oa-scenario": margin_after_each_fill,
    "oa-fund-block": block_and_release,
    "oa-unrealized": total_profit,
    "oa-doc-mis": margin_of_capital,
    "kraken-tradebalance": trade_balance,
    "doc-kraken-level": short_floats_with_price,
    "doc-kraken-call": long_is_fixed_at_entry,
}
