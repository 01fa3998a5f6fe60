"""Rows of the venues' own answers as the house's balances, totals and positions. What a row does not say is None."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from debt_mgmt.core.account import MarginMode, PositionSide
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.venue import Provenance, VenueBalance, VenueHealth, VenuePosition
from debt_mgmt.server.brokers.ccxt_numbers import needed, number, price, total_of

Row = Mapping[str, Any]

MODES = {
    "cross": MarginMode.CROSS,
    "crossed": MarginMode.CROSS,
    "isolated": MarginMode.ISOLATED,
    "REGULAR_MARGIN": MarginMode.CROSS,
    "ISOLATED_MARGIN": MarginMode.ISOLATED,
}
"""As venues and the client library spell them; Bybit's portfolio margin has no equal here."""

SIDES = {
    "BOTH": PositionSide.NET,
    "net": PositionSide.NET,
    "0": PositionSide.NET,
    "LONG": PositionSide.LONG,
    "long": PositionSide.LONG,
    "1": PositionSide.LONG,
    "SHORT": PositionSide.SHORT,
    "short": PositionSide.SHORT,
    "2": PositionSide.SHORT,
}
"""How venues name the legs of a hedge account."""


def mode_of(word: Any) -> MarginMode | None:
    return MODES.get(str(word)) or MODES.get(str(word).lower())


def leg_of(info: Row) -> PositionSide:
    word = info.get("positionSide", info.get("posSide", info.get("positionIdx", "net")))
    return SIDES[str(word) or "net"]


def is_short(word: Any, long: str, short: str) -> bool:
    """Which of two words it is; raises ValueError for a third: a side that is not understood must not become one."""
    if word not in (long, short):
        raise ValueError(f"not a side: {str(word)[:24]!r}")
    return bool(word == short)


def signed(quantity: Decimal, short: bool) -> Decimal:
    return -abs(quantity) if short else abs(quantity)


def first(rows: Iterable[Row] | None, what: str) -> Row:
    """The first row of a list that must have one; raises ValueError where it has none."""
    for row in rows or ():
        return row
    raise ValueError(f"{what} is missing")


# Positions: the symbol and the row of one leg; None where it is flat.


def bybit_position(symbol: str, row: Row) -> VenuePosition | None:
    quantity = needed(row, "size")
    if not quantity:
        return None
    return VenuePosition(
        symbol=symbol,
        side=SIDES[str(row.get("positionIdx", 0))],
        quantity=signed(quantity, is_short(row["side"], "Buy", "Sell")),
        entry_price=price(row.get("avgPrice")),
        mark_price=price(row.get("markPrice")),
        leverage=price(row.get("leverage")),
        isolated_margin=number(row.get("positionBalance")),
        liquidation_price=price(row.get("liqPrice")),
        unrealized_pnl=number(row.get("unrealisedPnl")),
        initial_margin=number(row.get("positionIM")),
        maintenance_margin=number(row.get("positionMM")),
    )


def binance_position(symbol: str, row: Row) -> VenuePosition | None:
    quantity = needed(row, "positionAmt")
    if not quantity:
        return None
    return VenuePosition(
        symbol=symbol,
        side=SIDES[row["positionSide"]],
        quantity=quantity,
        entry_price=price(row.get("entryPrice")),
        mark_price=price(row.get("markPrice")),
        leverage=price(row.get("leverage")),
        margin_mode=mode_of(row.get("marginType")),
        isolated_margin=number(row.get("isolatedWallet")),
        liquidation_price=price(row.get("liquidationPrice")),
        unrealized_pnl=number(row.get("unRealizedProfit")),
        initial_margin=number(row.get("positionInitialMargin")),
        maintenance_margin=number(row.get("maintMargin")),
    )


def okx_position(symbol: str, row: Row) -> VenuePosition | None:
    quantity = needed(row, "pos")
    if not quantity:
        return None
    side, mode = SIDES[row["posSide"]], mode_of(row.get("mgnMode"))
    posted = number(row.get("margin"))
    initial = number(row.get("imr"))
    return VenuePosition(
        symbol=symbol,
        side=side,
        quantity=quantity if side is PositionSide.NET else signed(quantity, side is PositionSide.SHORT),
        entry_price=price(row.get("avgPx")),
        mark_price=price(row.get("markPx")),
        leverage=price(row.get("lever")),
        margin_mode=mode,
        isolated_margin=posted,
        liquidation_price=price(row.get("liqPx")),
        unrealized_pnl=number(row.get("upl")),
        initial_margin=posted if initial is None and mode is MarginMode.ISOLATED else initial,
        maintenance_margin=number(row.get("mmr")),
    )


def kraken_position(symbol: str, row: Row) -> VenuePosition | None:
    """`vol` is what was opened and `vol_closed` what was closed since; cost and margin are those of `vol`."""
    opened = needed(row, "vol")
    held = opened - (number(row.get("vol_closed")) or ZERO)
    if not held:
        return None
    cost, margin, value = number(row.get("cost")), number(row.get("margin")), number(row.get("value"))
    return VenuePosition(
        symbol=symbol,
        side=PositionSide.NET,
        quantity=signed(held, is_short(row["type"], "buy", "sell")),
        entry_price=None if cost is None else cost / opened,
        mark_price=None if value is None else abs(value) / held,
        leverage=price(str(row.get("leverage") or "").partition(":")[0]),
        margin_mode=MarginMode.CROSS,
        unrealized_pnl=number(row.get("net")),
        initial_margin=None if margin is None else margin * held / opened,
    )


def coinbase_position(symbol: str, row: Row) -> VenuePosition | None:
    quantity = needed(row, "number_of_contracts")
    if not quantity:
        return None
    return VenuePosition(
        symbol=symbol,
        side=PositionSide.NET,
        quantity=signed(quantity, is_short(row["side"], "LONG", "SHORT")),
        entry_price=price(row.get("avg_entry_price")),
        mark_price=price(row.get("current_price")),
        margin_mode=MarginMode.CROSS,
        unrealized_pnl=number(row.get("unrealized_pnl")),
    )


def cryptocom_position(symbol: str, row: Row) -> VenuePosition | None:
    """The cost of what is open carries the sign of the position, so the entry price is their quotient."""
    quantity = needed(row, "quantity")
    if not quantity:
        return None
    cost = number(row.get("open_pos_cost"))
    isolated = str(row.get("isolation_type") or "") not in ("", "NOT_ISOLATED", "CROSS_MARGIN", "CROSS")
    return VenuePosition(
        symbol=symbol,
        side=PositionSide.NET,
        quantity=quantity,
        entry_price=None if not cost else abs(cost / quantity),
        leverage=price(row.get("leverage")),
        margin_mode=MarginMode.ISOLATED if isolated else MarginMode.CROSS,
        isolated_margin=number(row.get("isolated_margin_balance")) if isolated else None,
        liquidation_price=price(row.get("liquidation_price")),
        unrealized_pnl=number(row.get("open_position_pnl")),
    )


POSITIONS: Mapping[str, Callable[[str, Row], VenuePosition | None]] = {
    "bybit": bybit_position,
    "binance": binance_position,
    "okx": okx_position,
    "kraken": kraken_position,
    "coinbase": coinbase_position,
    "cryptocom": cryptocom_position,
}


# Balances and totals: the answers to the venue's calls for them. `named` gives the house's name of an asset.

Named = Callable[[str], str]
Money = tuple[tuple[VenueBalance, ...], VenueHealth]


def kept(balances: Iterable[VenueBalance]) -> tuple[VenueBalance, ...]:
    """Assets of which there is something."""
    return tuple(sorted((one for one in balances if one.total or one.debt or one.interest), key=lambda one: one.asset))


def with_debt(
    asset: str, total: Decimal, debt: Decimal | None, interest: Decimal | None, free: Decimal | None
) -> VenueBalance:
    """A balance below zero is borrowed money that was spent: what was borrowed stands in the total, and in the debt."""
    if total < 0 and debt:
        total += debt
    return VenueBalance(asset=asset, total=total, free=free, debt=debt, interest=interest)


def bybit_money(answer: Row, named: Named) -> Money:
    account = first(answer["result"]["list"], "the account")
    balances = [
        with_debt(
            named(row["coin"]),
            needed(row, "walletBalance"),
            number(row.get("borrowAmount")),
            number(row.get("accruedInterest")),
            number(row.get("availableToWithdraw")) or number(row.get("free")),
        )
        for row in account["coin"]
    ]
    return kept(balances), VenueHealth(
        equity=number(account.get("totalEquity")),
        initial_margin=number(account.get("totalInitialMargin")),
        maintenance_margin=number(account.get("totalMaintenanceMargin")),
        available=number(account.get("totalAvailableBalance")),
    )


def binance_money(answer: Row, named: Named) -> Money:
    """The futures wallet. The margin wallet is told apart: it backs no position here."""
    balances = [
        VenueBalance(
            asset=named(row["asset"]),
            total=needed(row, "walletBalance"),
            free=number(row.get("availableBalance")),
            debt=ZERO,
        )
        for row in answer["assets"]
    ]
    return kept(balances), VenueHealth(
        equity=number(answer.get("totalMarginBalance")),
        initial_margin=number(answer.get("totalInitialMargin")),
        maintenance_margin=number(answer.get("totalMaintMargin")),
        available=number(answer.get("availableBalance")),
    )


def okx_money(answer: Row, named: Named) -> Money:
    account = first(answer["data"], "the account")
    balances = [
        with_debt(
            named(row["ccy"]),
            needed(row, "cashBal"),
            None if (owed := number(row.get("liab"))) is None else abs(owed),
            None if (interest := number(row.get("interest"))) is None else abs(interest),
            number(row.get("availBal")),
        )
        for row in account["details"]
    ]
    initial = number(account.get("imr"))
    equity = number(account.get("totalEq"))
    return kept(balances), VenueHealth(
        equity=equity,
        initial_margin=initial,
        maintenance_margin=number(account.get("mmr")),
        available=number(account.get("availEq")),
    )


def kraken_money(answer: Row, named: Named) -> Money:
    """`answer` holds what BalanceEx and TradeBalance say. A margin position is no balance and no debt there."""
    balances = []
    for asset, row in answer["balances"]["result"].items():
        total, hold = needed(row, "balance"), number(row.get("hold_trade"))
        free = None if hold is None else total - hold
        balances.append(VenueBalance(asset=named(asset), total=total, free=free, debt=ZERO))
    trade = answer["trade"]["result"]
    return kept(balances), VenueHealth(
        equity=number(trade.get("e")),
        initial_margin=number(trade.get("m")),
        available=number(trade.get("mf")),
    )


def amount(value: Any) -> Decimal | None:
    """Coinbase writes amounts as {value, currency}, or as text."""
    return number(value.get("value")) if isinstance(value, Mapping) else number(value)


def coinbase_money(answer: Row, named: Named) -> Money:
    """`answer` holds the accounts and the summary of the futures wallet, whose dollars are counted with the others.

    The equity is our own sum: dollars of both wallets and open profit.
    """
    totals: dict[str, Decimal] = {}
    free: dict[str, Decimal] = {}
    for row in answer["accounts"]:
        asset = named(row["currency"])
        available, hold = amount(row.get("available_balance")), amount(row.get("hold"))
        whole = total_of([available, hold])
        if whole is None or available is None:
            raise ValueError(f"the balance of {asset} is missing")
        totals[asset] = totals.get(asset, ZERO) + whole
        free[asset] = free.get(asset, ZERO) + available
    summary = answer["summary"].get("balance_summary") or {}
    futures = amount(summary.get("cfm_usd_balance"))
    if futures:
        totals["USD"] = totals.get("USD", ZERO) + futures
    equity = total_of([amount(summary.get("total_usd_balance")), amount(summary.get("unrealized_pnl"))])
    balances = [VenueBalance(asset=one, total=total, free=free.get(one), debt=ZERO) for one, total in totals.items()]
    return kept(balances), VenueHealth(
        equity=equity,
        initial_margin=amount(summary.get("initial_margin")),
        maintenance_margin=amount(summary.get("liquidation_threshold")),
        available=amount(summary.get("available_margin")),
        provenance=Provenance.OWN,
    )


def cryptocom_money(answer: Row, named: Named) -> Money:
    """What is borrowed stands there as a quantity below zero; it is told as debt, and as no balance."""
    account = first(answer["result"]["data"], "the account")
    balances = []
    for row in account["position_balances"]:
        quantity, reserved = needed(row, "quantity"), number(row.get("reserved_qty"))
        free = None if reserved is None else max(quantity, ZERO) - reserved
        owed = max(-quantity, ZERO)
        balances.append(VenueBalance(named(row["instrument_name"]), max(quantity, ZERO), free, owed))
    return kept(balances), VenueHealth(
        equity=number(account.get("total_margin_balance")),
        initial_margin=number(account.get("total_initial_margin")),
        maintenance_margin=number(account.get("total_maintenance_margin")),
        available=number(account.get("total_available_balance")),
    )


MONEY: Mapping[str, Callable[[Row, Named], Money]] = {
    "bybit": bybit_money,
    "binance": binance_money,
    "okx": okx_money,
    "kraken": kraken_money,
    "coinbase": coinbase_money,
    "cryptocom": cryptocom_money,
}
