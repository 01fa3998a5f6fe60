"""The command line `debt-mgmt`: its commands, and how it starts."""

import typer

from debt_mgmt.client.channel import version
from debt_mgmt.server.cli import alerts, audit, changes, limits, orders, token
from debt_mgmt.server.cli.accounts import accounts, positions, status
from debt_mgmt.server.cli.backup import backup, restore
from debt_mgmt.server.cli.check import InOrder, check_order, what_if
from debt_mgmt.server.cli.check_config import check_config
from debt_mgmt.server.cli.debt import borrow, debt, repay
from debt_mgmt.server.cli.demo import demo
from debt_mgmt.server.cli.doctor import doctor
from debt_mgmt.server.cli.drill import drill
from debt_mgmt.server.cli.funds import funds, history, pnl
from debt_mgmt.server.cli.halt import halt, halts, resume
from debt_mgmt.server.cli.live import brokers
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.replay import replay
from debt_mgmt.server.cli.serve import serve
from debt_mgmt.server.cli.session import EXIT_CODES, Json
from debt_mgmt.server.cli.top import top
from debt_mgmt.server.cli.venue_simulator import venue_simulator
from debt_mgmt.server.cli.watch import watch
from debt_mgmt.server.cli.why import why

app = typer.Typer(
    name="debt-mgmt",
    help="Know, hold and protect the margin of trading accounts.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RUN, LOOK, ASK, ACT, WATCH_OVER = "Run", "Look", "Ask before you act", "Act", "Watch over"

app.command(rich_help_panel=RUN)(serve)
app.command(rich_help_panel=RUN)(demo)
app.command(rich_help_panel=RUN)(replay)
app.command("venue-simulator", rich_help_panel=RUN)(venue_simulator)
app.command(rich_help_panel=RUN)(doctor)
app.command("check-config", rich_help_panel=RUN)(check_config)
app.command(rich_help_panel=RUN)(backup)
app.command(rich_help_panel=RUN)(restore)
app.command(rich_help_panel=LOOK)(status)
app.command(rich_help_panel=LOOK)(watch)
app.command(rich_help_panel=LOOK)(top)
app.command(rich_help_panel=LOOK)(positions)
app.add_typer(accounts, name="accounts", rich_help_panel=LOOK)
app.command(rich_help_panel=LOOK)(brokers)
app.command(rich_help_panel=LOOK)(funds)
app.command(rich_help_panel=LOOK)(debt)
app.command(rich_help_panel=LOOK)(pnl)
app.command(rich_help_panel=LOOK)(history)
app.command(rich_help_panel=ACT)(borrow)
app.command(rich_help_panel=ACT)(repay)
app.command(rich_help_panel=LOOK)(why)
app.add_typer(audit.app, name="audit", rich_help_panel=LOOK)
app.add_typer(orders.app, name="order", rich_help_panel=ASK)
app.add_typer(alerts.app, name="alerts", rich_help_panel=WATCH_OVER)
app.command(rich_help_panel=WATCH_OVER)(halt)
app.command(rich_help_panel=WATCH_OVER)(resume)
app.command(rich_help_panel=WATCH_OVER)(halts)
app.command(rich_help_panel=WATCH_OVER)(drill)
app.add_typer(limits.app, name="limits", rich_help_panel=WATCH_OVER)
app.add_typer(changes.app, name="changes", rich_help_panel=WATCH_OVER)
app.add_typer(token.app, name="token", rich_help_panel=WATCH_OVER)
app.command("check-order", rich_help_panel=ASK)(check_order)
app.command("what-if", cls=InOrder, rich_help_panel=ASK)(what_if)


@app.command("version", rich_help_panel=LOOK)
def show_version(as_json: Json = False) -> None:
    """Print the version."""
    output = Output(as_json)
    output.document(version=version())
    output.show(f"debt-mgmt {version()}")


def main() -> None:
    """Runs the command line."""
    app(prog_name="debt-mgmt")
