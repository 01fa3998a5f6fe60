"""`debt-mgmt check-order` and `what-if`: whether an order fits and how large it could be, and what would be if."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer.core import TyperCommand

from debt_mgmt.client import (
    Account,
    AssetAmount,
    MarginChange,
    MarginClient,
    MarginFigures,
    Order,
    OrderCheck,
    PriceShock,
    Side,
    SimulatedFill,
    SimulatedLeverage,
    Simulation,
    Thresholds,
)
from debt_mgmt.server.cli import typed
from debt_mgmt.server.cli.accounts import NARROW
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import (
    before_and_after,
    distances_table,
    ladder_table,
    positions_table,
    price,
    violations_table,
)
from debt_mgmt.server.cli.wording import amount, change, grouped, listed, percent, span

LADDER = tuple(Decimal(step) / 100 for step in (-30, -20, -10, -5, 0, 5, 10, 20))


def check_order(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    side: Annotated[Side, typer.Argument(metavar="BUY|SELL", parser=typed.side_of)],
    quantity: Annotated[Decimal, typer.Argument(metavar="QUANTITY", parser=typed.number_of, help="In contracts.")],
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    limit_price: Annotated[
        Decimal | None, typer.Option("--price", parser=typed.number_of, help="Limit price; else a market order.")
    ] = None,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="May only reduce the position.")] = False,
    position_side: Annotated[str | None, typer.Option(help="LONG or SHORT, on a hedge account.")] = None,
    strategy: typed.Strategy = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Tell whether an order fits, with every reason where it does not, and the largest that would. Records nothing.

    Exit status 0: it fits. 1: it does not.
    """
    output = Output(as_json)
    try:
        order = Order(
            symbol,
            side,
            quantity,
            limit_price,
            reduce_only=reduce_only,
            position_side=position_side,
            strategy=strategy,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    async def work(client: MarginClient) -> Exit:
        about, check = await asyncio.gather(client.account(account), client.check_order(account, order))
        output.document(order=order, check=check)
        output.show(check_shown(about, order, check))
        return Exit.OK if check.fits else Exit.REFUSED

    ask(output, target, work)


def order_text(order: Order) -> str:
    """An order as it is typed."""
    at = "" if order.price is None else f" @ {grouped(order.price)}"
    only = " reduce-only" if order.reduce_only else ""
    owned = "" if order.strategy is None else f" of {order.strategy}"
    return f"{order.side.value.lower()} {grouped(order.quantity)} {order.symbol}{at}{only}{owned}"


def check_shown(about: Account, order: Order, check: OrderCheck) -> RenderableType:
    verdict = ("FITS", "bold green") if check.fits else ("REFUSED", "bold red")
    mark = check.mark
    priced = "" if mark is None else f" at the mark {price(mark.price)}, {span(mark.age)} old"
    parts: list[RenderableType] = [
        Text.assemble(verdict, f"  {order_text(order)}{priced if order.price is None else ''}")
    ]
    if check.reducing:
        parts.append(Text("It only reduces the position: such an order always fits.", "dim"))
    elif check.margin_required is not None and check.before is not None:
        available = f"{amount(check.before.margin_available)} {about.currency} available"
        needs = f"needs {amount(check.margin_required)} of {available}"
        made_of = f"   initial margin {amount(check.initial_margin)}, with the buffer for what moves until it is sent"
        parts.append(Text.assemble(needs, (made_of, "dim")))
    if check.fee_estimate is not None:
        parts.append(Text(f"fee about {amount(check.fee_estimate)} {about.currency}", "dim"))
    if check.violations:
        parts.append(violations_table(check.violations))
    if check.shadow_violations:
        parts.append(Text("\nlimits in shadow would have refused it; they do not count", "magenta"))
        parts.append(violations_table(check.shadow_violations, "magenta"))
    if check.before is not None and check.after is not None:
        after = "after" if check.fits else "if it were"
        parts.append(before_and_after(check.before, check.after, about.currency, ("now", after)))
    parts.append(largest_text(check.largest_buy, check.largest_sell, order.symbol))
    return Group(*parts)


def largest_text(buy: Decimal | None, sell: Decimal | None, symbol: str) -> Text:
    """The largest orders that would pass."""
    if buy is None and sell is None:
        return Text("largest that would fit: not known", "dim")
    sides = [f"{name} {grouped(size)}" for name, size in (("buy", buy), ("sell", sell)) if size is not None]
    return Text.assemble("largest that would fit: ", (listed(sides), "bold"), f" {symbol}")


class InOrder(TyperCommand):
    """A command that remembers in which order its options were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[ORDER_OF_OPTIONS] = [parameter.name for parameter in given]
        return super().parse_args(ctx, args)


ORDER_OF_OPTIONS = "debt_mgmt.order_of_options"


def in_order(ctx: typer.Context, **given: Sequence[MarginChange] | None) -> list[MarginChange]:
    """The changes in the order in which they stand on the command line."""
    waiting = {name: iter(changes or ()) for name, changes in given.items()}
    return [next(waiting[name]) for name in ctx.meta[ORDER_OF_OPTIONS] if name in waiting]


def what_if(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    shock: Annotated[
        list[PriceShock] | None,
        typer.Option(parser=typed.shock_of, metavar="SHOCK", help="-10%, BTCUSDT=-20% or BTCUSDT=55000."),
    ] = None,
    order: Annotated[
        list[Order] | None,
        typer.Option(
            parser=typed.order_of,
            metavar="ORDER",
            help="'buy 0.1 BTCUSDT of momentum': its margin is held.",
        ),
    ] = None,
    fill: Annotated[
        list[SimulatedFill] | None,
        typer.Option(parser=typed.fill_of, metavar="FILL", help="'sell 0.1 BTCUSDT @ 60000': it is executed."),
    ] = None,
    leverage: Annotated[
        list[SimulatedLeverage] | None,
        typer.Option(parser=typed.leverage_of, metavar="LEVERAGE", help="BTCUSDT=3."),
    ] = None,
    deposit: Annotated[
        list[AssetAmount] | None,
        typer.Option(parser=typed.deposit_of, metavar="DEPOSIT", help="'USDT 500'; negative goes out."),
    ] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Compute an account after changes that did not happen, by the rules that decide in earnest. Records nothing.

    Changes apply in the order in which they are given, each on top of those before it.
    """
    output = Output(as_json)
    changes = in_order(ctx, shock=shock, order=order, fill=fill, leverage=leverage, deposit=deposit)

    async def work(client: MarginClient) -> None:
        about, status, simulation, *rungs = await asyncio.gather(
            client.account(account),
            client.margin_status(account),
            client.simulate(account, changes),
            *(client.simulate(account, [*changes, PriceShock(step)]) for step in LADDER if step),
        )
        figures = iter([rung.after.figures for rung in rungs])
        ladder = [(step, next(figures) if step else simulation.after.figures) for step in LADDER]
        output.document(simulation=simulation, ladder=[{"fraction": step, "figures": rung} for step, rung in ladder])
        narrow = output.out.width < NARROW
        output.show(simulation_shown(about, changes, simulation, ladder, status.thresholds, narrow=narrow))

    ask(output, target, work)


def change_text(made: MarginChange) -> str:
    """A change in words."""
    match made:
        case Order():
            return order_text(made)
        case SimulatedFill():
            at = "the mark" if made.price is None else grouped(made.price)
            return f"{made.side.value.lower()} {grouped(made.quantity)} {made.symbol} filled at {at}"
        case PriceShock(fraction=fraction) if fraction is not None:
            return f"{made.symbol or 'all prices'} {'+' if fraction > 0 else ''}{percent(fraction)}"
        case PriceShock():
            assert made.price is not None
            return f"{made.symbol} to {grouped(made.price)}"
        case SimulatedLeverage():
            return f"leverage of {made.symbol} {grouped(made.leverage)}x"
        case AssetAmount():
            return f"{'deposit' if made.amount >= 0 else 'withdraw'} {amount(abs(made.amount))} {made.asset}"


def simulation_shown(
    about: Account,
    changes: Sequence[MarginChange],
    simulation: Simulation,
    ladder: Sequence[tuple[Decimal, MarginFigures]],
    thresholds: Thresholds,
    *,
    narrow: bool,
) -> RenderableType:
    parts: list[RenderableType] = []
    for made, result in zip(changes, simulation.results, strict=True):
        word = Text("  then ", "dim") if parts else Text("what if ", "dim")
        realized = "" if result.realized_pnl is None else f"   realizes {change(result.realized_pnl)} {about.currency}"
        verdict = Text("") if result.accepted else Text("   REFUSED, has no effect", "bold red")
        parts.append(Text.assemble(word, (change_text(made), "bold"), realized, verdict))
        if result.violations:
            parts.append(violations_table(result.violations))
    parts += [
        before_and_after(simulation.before.figures, simulation.after.figures, about.currency),
        positions_table(simulation.after.positions, narrow=narrow, title="positions then"),
        Text("how far from there, all prices together", "bold"),
        distances_table(simulation.shocks, thresholds),
        ladder_table(ladder, thresholds, narrow=narrow),
    ]
    return Group(*parts)
