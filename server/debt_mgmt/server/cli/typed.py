"""What people type on the command line, read into values: orders, price shocks, leverage, deposits, holdings."""

import re
from decimal import Decimal
from typing import Annotated, NamedTuple

import typer

from debt_mgmt.client import AssetAmount, Order, PriceShock, Side, SimulatedFill, SimulatedLeverage

NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
SYMBOL = r"[A-Za-z0-9_.:/-]{1,64}"
NAME = r"[A-Za-z0-9_.:-]{1,64}"

Strategy = Annotated[str | None, typer.Option("--strategy", help="The strategy that the order belongs to.")]

ORDER = re.compile(
    rf"(buy|sell)\s+({NUMBER})\s+({SYMBOL})(?:\s*@\s*({NUMBER}))?(\s+reduce-only)?(?:\s+of\s+({NAME}))?", re.I | re.A
)
SHOCK = re.compile(rf"(?:({SYMBOL})\s*=\s*)?\+?({NUMBER})\s*(%?)", re.A)
LEVERAGE = re.compile(rf"({SYMBOL})\s*=\s*({NUMBER})x?", re.A)
DEPOSIT = re.compile(rf"([A-Z0-9]{{1,20}})\s+\+?({NUMBER})|\+?({NUMBER})\s+([A-Z0-9]{{1,20}})", re.A)
HOLDING = re.compile(rf"({SYMBOL}):({NUMBER})", re.A)


class Holding(NamedTuple):
    """A position to open: positive is long, negative short."""

    symbol: str
    quantity: Decimal

    @property
    def side(self) -> Side:
        return Side.BUY if self.quantity > 0 else Side.SELL


def number_of(text: str) -> Decimal:
    """A plain decimal number."""
    if not re.fullmatch(NUMBER, text, re.A):
        raise typer.BadParameter(f"{text!r} is no number: write it plainly, such as 0.25")
    return Decimal(text)


def side_of(text: str) -> Side:
    try:
        return Side(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no side: BUY or SELL") from None


def order_of(text: str) -> Order:
    """`buy 0.1 BTCUSDT`, `sell 2 ETHUSDT @ 3000`, `sell 0.1 BTCUSDT reduce-only`, `buy 0.1 BTCUSDT of momentum`."""
    match = ORDER.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no order: write 'buy 0.1 BTCUSDT' or 'sell 0.1 BTCUSDT @ 60000'")
    side, quantity, symbol, price, reduce_only, strategy = match.groups()
    return Order(symbol, side_of(side), quantity, price, reduce_only=reduce_only is not None, strategy=strategy)


def fill_of(text: str) -> SimulatedFill:
    """An order's words, but executed: at its price, or at the mark."""
    order = order_of(text)
    if order.reduce_only or order.strategy:
        raise typer.BadParameter(f"{text!r}: a fill is a fact, it is not reduce-only, and of no strategy here")
    return SimulatedFill(order.symbol, order.side, order.quantity, order.price)


def shock_of(text: str) -> PriceShock:
    """`-10%` for all prices, `BTCUSDT=-20%` for one, `BTCUSDT=55000` for one to a price."""
    match = SHOCK.fullmatch(text.strip())
    if match is None or (match[1] is None and not match[3]):
        raise typer.BadParameter(f"{text!r} is no price shock: write -10%, BTCUSDT=-20% or BTCUSDT=55000")
    symbol, number, in_percent = match.groups()
    if in_percent:
        return PriceShock(Decimal(number) / 100, symbol=symbol)
    return PriceShock(price=number, symbol=symbol)


def leverage_of(text: str) -> SimulatedLeverage:
    """`BTCUSDT=3`."""
    match = LEVERAGE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no leverage: write BTCUSDT=3")
    return SimulatedLeverage(match[1], match[2])


def deposit_of(text: str) -> AssetAmount:
    """`USDT 500`; a negative amount goes out."""
    match = DEPOSIT.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no deposit: write 'USDT 500', or 'USDT -500' for a withdrawal")
    return AssetAmount(match[1] or match[4], match[2] or match[3])


def holding_of(text: str) -> Holding:
    """`BTCUSD:1.946` long, `BTCUSD:-1.946` short."""
    match = HOLDING.fullmatch(text.strip())
    if match is None or Decimal(match[2]).is_zero():
        raise typer.BadParameter(f"{text!r} is no position: write BTCUSD:1.946, or BTCUSD:-1.946 for a short one")
    return Holding(match[1], Decimal(match[2]))
