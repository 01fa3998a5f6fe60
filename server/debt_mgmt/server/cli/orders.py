"""`debt-mgmt order`: paper orders of sandbox accounts, placed, cancelled and listed."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from debt_mgmt.client import MarginClient, Order, OrderState, PaperOrder, PlaceOrderOutcome, Side, TimeInForce
from debt_mgmt.server.cli import typed
from debt_mgmt.server.cli.check import largest_text, order_text
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, ask
from debt_mgmt.server.cli.tables import price, table, violations_table
from debt_mgmt.server.cli.wording import amount, grouped, moment

app = typer.Typer(help="Paper orders of sandbox accounts, filled by the marks.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]


@app.command()
def place(
    account: Account,
    side: Annotated[Side, typer.Argument(metavar="BUY|SELL", parser=typed.side_of)],
    quantity: Annotated[Decimal, typer.Argument(metavar="QUANTITY", parser=typed.number_of, help="In contracts.")],
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    limit_price: Annotated[
        Decimal | None, typer.Option("--price", parser=typed.number_of, help="Limit price; else a market order.")
    ] = None,
    time_in_force: Annotated[
        TimeInForce, typer.Option(case_sensitive=False, help="GTC rests, IOC takes what it can, FOK all or nothing.")
    ] = TimeInForce.GTC,
    lasts: Annotated[float | None, typer.Option(min=0.001, help="Seconds until a GTC order expires.")] = None,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="May only reduce the position.")] = False,
    position_side: Annotated[str | None, typer.Option(help="LONG or SHORT, on a hedge account.")] = None,
    strategy: typed.Strategy = None,
    client_order_id: Annotated[str | None, typer.Option(help="Your own id of the order.")] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Place a paper order: checked, its margin held, filled by the marks.

    Exit status 0: it was placed. 1: it was refused.
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
        outcome = await client.place_order(
            account,
            order,
            time_in_force=time_in_force,
            time_to_live=None if lasts is None else timedelta(seconds=lasts),
            client_order_id=client_order_id,
        )
        output.document(outcome=outcome)
        output.show(placed_shown(order, outcome))
        return Exit.OK if outcome.accepted else Exit.REFUSED

    ask(output, target, work)


@app.command()
def cancel(
    account: Account,
    order_id: Annotated[str, typer.Argument(metavar="ORDER", help="Its id, as `order list` shows it.")],
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Cancel what is open of a paper order."""
    output = Output(as_json)

    async def work(client: MarginClient) -> Exit:
        outcome = await client.cancel_order(account, order_id)
        output.document(outcome=outcome)
        if outcome.order is None:
            output.show(Group(Text("REFUSED", "bold red"), violations_table(outcome.violations)))
            return Exit.REFUSED
        output.show(Text.assemble(("CANCELLED", "bold"), f"  {told(outcome.order)}"))
        return Exit.OK

    ask(output, target, work)


@app.command("list")
def list_orders(
    account: Account,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; repeatable.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also the last ones that ended.")] = False,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """List paper orders, oldest first."""
    output = Output(as_json)

    async def work(client: MarginClient) -> None:
        found = list(await client.orders(account, symbols=symbol or (), include_ended=ended))
        output.document(orders=found)
        output.show(orders_table(found) if found else Text("no orders", "dim"))

    ask(output, target, work)


def placed_shown(order: Order, outcome: PlaceOrderOutcome) -> RenderableType:
    if outcome.order is None:
        return Group(
            Text.assemble(("REFUSED", "bold red"), f"  {order_text(order)}"),
            violations_table(outcome.violations),
            largest_text(outcome.largest_buy, outcome.largest_sell, order.symbol),
        )
    placed = outcome.order
    parts: list[RenderableType] = [
        Text.assemble((placed.state.value, "bold green"), f"  {told(placed)}   {placed.order_id}")
    ]
    parts += (
        Text(f"filled {grouped(fill.quantity)} at {price(fill.price)}, fee {amount(fill.fee)} {fill.fee_asset or ''}")
        for fill in outcome.fills
    )
    if outcome.after is not None and outcome.after.margin_available is not None:
        parts.append(Text(f"available afterwards {amount(outcome.after.margin_available)}", "dim"))
    return Group(*parts)


def told(one: PaperOrder) -> str:
    """An order and how far it is."""
    filled = f", {grouped(one.filled_quantity)} filled" if one.filled_quantity else ""
    average = f" at {price(one.average_price)}" if one.average_price is not None else ""
    return f"{order_text(one.order)}{filled}{average}" + (f": {one.note}" if one.note else "")


def orders_table(orders: list[PaperOrder]) -> RenderableType:
    shown = table("id", "order", "state", "filled", "at", "open", "placed", "note", right=("filled", "at", "open"))
    for one in orders:
        style = "" if one.state is OrderState.OPEN else "dim"
        shown.add_row(
            one.order_id,
            f"{order_text(one.order)} {one.time_in_force.value}",
            one.state.value,
            grouped(one.filled_quantity),
            price(one.average_price),
            grouped(one.remaining_quantity),
            moment(one.create_time),
            one.note or "",
            style=style,
        )
    return shown
