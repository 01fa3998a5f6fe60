"""Published cases of interest, funding and converted balances, put to accounts on a desk and to the core's formulas."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Side
from debt_mgmt.core.instrument import initial_margin, notional
from tests.support.desk import NOON, Desk
from tests.support.instruments import linear
from tests.vectors.account_cases import UNBUFFERED
from tests.vectors.formula_cases import Figures, Inputs, settled, sign_of

D = Decimal
DAYS, FOUR_HOURS = D(365), D(365 * 6)
"""In a year, to turn a published rate per day or per four hours into one per year."""

AN_INSTANT = timedelta(microseconds=1)
"""Published elapsed times touch no period that begins at their very end."""


def desk_at(opened: datetime = NOON, price: str | Decimal = "1") -> Desk:
    """A rich account that may trade XYZ and borrow it, and USDT."""
    desk = Desk(UNBUFFERED, instruments=[linear("XYZUSDT", lot="0.00000001", tick="0.00000001")], at=opened)
    desk.value("XYZ", priced_by="XYZUSDT")
    desk.value("USDC", USDT="1")
    desk.mark("XYZUSDT", price)
    desk.open("case", 10**7)
    return desk


def charged(
    asset: str, amount: Decimal, annual_rate: Decimal, clock: str, lasting: timedelta, opened: datetime = NOON
) -> Decimal:
    """Interest that a loan cost until it was repaid."""
    desk = desk_at(opened)
    desk.house_do(c.SetBorrowRate(asset, annual_rate, clock))
    assert isinstance(desk.do("case", c.Borrow(asset, amount))[0], e.Borrowed)
    desk.wait(lasting, fresh=True)
    desk.deposit("case", amount, asset)
    (repaid,) = (event for event in desk.do("case", c.Repay(asset)) if isinstance(event, e.Repaid))
    assert (repaid.principal_paid, repaid.debt) == (amount, None)
    return repaid.interest_paid


def of_exchange(inputs: Inputs, rate: Decimal, asset: str, amount: Decimal, lasting: timedelta) -> Decimal:
    """By the counting rule that the case was published with."""
    if inputs["exchange"] == "kraken":
        return charged(asset, amount, rate * FOUR_HOURS, "kraken_4h_started", lasting - AN_INSTANT)
    return charged(asset, amount, rate * DAYS, "started_hours", lasting - AN_INSTANT)


def elapsed_interest(inputs: Inputs) -> Figures:
    lasting = timedelta(microseconds=int(D(inputs["hours"]) * 3_600_000_000))
    return {"interest": of_exchange(inputs, D(inputs["rate"]), "USDT", D(inputs["borrowed"]), lasting)}


def borrowed_by_trade(inputs: Inputs) -> tuple[str, Decimal]:
    """A long borrows what its margin leaves open, in the quote asset; a short borrows all that it sells."""
    quantity = D(inputs["quantity"])
    if inputs["side"] == "short":
        return "XYZ", quantity
    value = notional(linear("XYZUSDT"), quantity, D(inputs["entry_price"]))
    return "USDT", value - initial_margin(linear("XYZUSDT"), quantity, D(inputs["entry_price"]), D(inputs["leverage"]))


def trade_interest(inputs: Inputs) -> Figures:
    asset, amount = borrowed_by_trade(inputs)
    lasting = timedelta(minutes=int(inputs["minutes_open"]))
    return {"interest": of_exchange(inputs, D(inputs["rate"]), asset, amount, lasting), "borrowed": amount}


def cost_of_trade(inputs: Inputs) -> tuple[Decimal, Decimal]:
    """(interest in its asset, funding received) of the trade that the case tells."""
    funding = D(inputs.get("funding_received", "0"))
    if inputs["mode"] != "margin":
        return D(0), funded(inputs, funding) if funding else D(0)
    asset, amount = borrowed_by_trade(inputs)
    rate = D(inputs["daily_or_4h_rate"] if "daily_or_4h_rate" in inputs else inputs["rate"])
    return of_exchange(inputs, rate, asset, amount, timedelta(minutes=int(inputs["minutes_open"]))), funding


def funded(inputs: Inputs, received: Decimal) -> Decimal:
    """What a position received by the rate that gives the published amount."""
    desk = desk_at(price=inputs["entry_price"])
    opens = "sell" if inputs["side"] == "short" else "buy"
    desk.fill("case", opens, inputs["quantity"], "XYZUSDT")
    value = D(inputs["quantity"]) * D(inputs["entry_price"])
    rate = -received * sign_of(inputs) / value
    command = c.SettleFunding("XYZUSDT", rate, D(inputs["entry_price"]), NOON + timedelta(hours=1))
    (event,) = (one for one in desk.do("case", command) if isinstance(one, e.FundingSettled))
    return event.amount


def traded(inputs: Inputs) -> Figures:
    """Fees, interest and funding in the profit; the return is on the margin that the opening took, its fee included."""
    sign, instrument = sign_of(inputs), linear("XYZUSDT")
    opens, closes = (Side.BUY, Side.SELL) if sign > 0 else (Side.SELL, Side.BUY)
    fee_rate = D(inputs["fee"] if "fee" in inputs else inputs["fee_open"])
    quantity, entry, leave = D(inputs["quantity"]), D(inputs["entry_price"]), D(inputs["exit_price"])
    interest, funding = cost_of_trade(inputs)
    _, net = settled([(opens, quantity, entry), (closes, quantity, leave)], fee_rate)
    if sign < 0:  # a short's interest is bought with its fee before it is given back
        interest = notional(instrument, interest, leave) * (1 + fee_rate)
    profit = net - interest + funding
    open_value = notional(instrument, quantity, entry) * (1 + sign * fee_rate)
    return {
        "realized_pnl": profit,
        "return_on_margin": profit / initial_margin(instrument, open_value, D(1), D(inputs["leverage"])),
        "open_value": open_value,
        "close_value": open_value + sign * profit,
    }


def clock_time(text: str) -> datetime:
    return datetime.combine(NOON.date(), time.fromisoformat(text), NOON.tzinfo)


def between_times(inputs: Inputs, clock: str) -> Figures:
    opened, repaid = clock_time(inputs["borrow_time"]), clock_time(inputs["repay_time"])
    rate = D(inputs["daily_rate"]) * DAYS
    return {"interest": charged("USDT", D(inputs["principal"]), rate, clock, repaid - opened, opened)}


def at_borrowing_and_full_hours(inputs: Inputs) -> Figures:
    return between_times(inputs, "binance_hourly")


def compound_snapshots(inputs: Inputs) -> Figures:
    return between_times(inputs, "cryptocom_hourly")


def rollover(inputs: Inputs) -> Figures:
    """A rollover is what the second four hours cost more than the first."""
    rate, _, every = inputs["terms"].partition("% per ")
    assert every == "4 hours"
    cost, yearly = D(inputs["cost"]), D(rate) / 100 * FOUR_HOURS
    spans = [charged("USDT", cost, yearly, "kraken_4h", timedelta(hours=hours)) for hours in (5, 9)]
    return {
        "implied_leverage": cost / D(inputs["margin"]),
        "implied_fee_rate": D(inputs["fee"]) / cost,
        "rollover_per_4h": spans[1] - spans[0],
    }


def short_funding(inputs: Inputs) -> Figures:
    desk = desk_at(price=inputs["mark_price"])
    desk.fill("case", "sell" if inputs["side"] == "short" else "buy", inputs["quantity"], "XYZUSDT")
    before = desk.account("case").balances["USDT"]
    at = NOON + timedelta(hours=4)
    desk.do("case", c.SettleFunding("XYZUSDT", D(inputs["funding_rate"]), D(inputs["mark_price"]), at))
    return {"funding_received": desk.account("case").balances["USDT"] - before}


def funding_of_window(inputs: Inputs) -> Figures:
    """The position is opened and closed at the published times; the rates come after both."""
    opened, closed = (datetime.fromisoformat(inputs[name]) for name in ("open_utc", "close_utc"))
    rates = inputs["funding_events"]
    desk = desk_at(opened, rates[0]["mark"])
    opens, closes = ("sell", "buy") if inputs["side"] == "short" else ("buy", "sell")
    desk.fill("case", opens, inputs["quantity"], "XYZUSDT")
    desk.now = closed
    desk.fill("case", closes, inputs["quantity"], "XYZUSDT")
    desk.now = closed + timedelta(days=1)
    for one in rates:
        at = datetime.fromisoformat(one["utc"])
        desk.do("case", c.SettleFunding("XYZUSDT", D(one["rate"]), D(one["mark"]), at))
    return {"funding_received": desk.account("case").funding_received["USDT"]}


def collateral_exchanged(inputs: Inputs) -> Figures:
    """A fee makes the balance negative; the venue publishes what is sold in whole units."""
    desk = desk_at()
    desk.settings = msgspec.structs.replace(UNBUFFERED, conversion_ratio=D(inputs["conversion_ratio"]))
    desk.deposit("case", 50_000, "USDC")
    overdrawn = desk.account("case").balances["USDT"] + D(inputs["negative_balance"])
    desk.fill("case", "buy", 1, "XYZUSDT", fee=overdrawn)
    (event,) = (one for one in desk.do("case", c.ConvertAssets("USDT")) if isinstance(one, e.AssetConverted))
    assert desk.account("case").balances["USDT"] == 0
    return {"collateral_sold": event.sold_amount.quantize(D(1))}


RUNNERS: dict[str, Callable[[Inputs], Figures]] = {
    "ft-interest": elapsed_interest,
    "ft-trade-interest": trade_interest,
    "ft-profit": traded,
    "ft-openclose": traded,
    "ft-funding-short": short_funding,
    "ft-funding-window": funding_of_window,
    "doc-binance-interest-old": at_borrowing_and_full_hours,
    "doc-cdc-interest-new": compound_snapshots,
    "doc-binance-autoexchange": collateral_exchanged,
    "kraken-openpos": rollover,
}
