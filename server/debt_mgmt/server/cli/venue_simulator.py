"""`debt-mgmt venue-simulator`: exchanges on this machine, as a test bench for a service that believes them real."""

import asyncio
import contextlib
import importlib
import shlex
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.text import Text

from debt_mgmt.server.brokers.credentials import variable_of
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.session import Exit, Failed, Json, finish
from debt_mgmt.server.config import CATALOGUE

PACKAGE = "tests.support.venues"
"""The simulators' own name for the folder that they are in."""

SHIPPED = Path(__file__).parents[1] / "venue_simulators"
IN_THE_PROJECT = Path(__file__).parents[4].joinpath(*PACKAGE.split("."))
PORT_FIRST = 8601


def venue_simulator(
    venues: Annotated[
        list[str] | None, typer.Argument(metavar="[VENUE]...", help=f"Of {', '.join(PROFILES)}; all without a name.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the first; the others follow. 0 takes free ones.")
    ] = PORT_FIRST,
    seed_account: Annotated[
        bool, typer.Option("--seed-account", help="Begin with money, a long position and a resting order.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run simulated exchanges until ctrl-c. They speak the venues' own REST and websocket format, keep an account, and
    fill orders at their marks; a service is connected to them by the lines that are printed.
    """
    output = Output(as_json)
    names = list(dict.fromkeys(venues or PROFILES))
    if unknown := [name for name in names if name not in PROFILES]:
        raise typer.BadParameter(f"{', '.join(unknown)}: no such exchange. There are {', '.join(PROFILES)}.")
    finish(output, "the simulators", work(output, names, port, seed_account))


async def work(output: Output, names: list[str], port: int, seeded: bool) -> Exit | None:
    """Starts every simulator, says how to reach it, and stops them all at the end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running: dict[str, Any] = {}
    try:
        for count, name in enumerate(names):
            simulator = simulator_of(name)
            if seeded:
                simulator.seed()
            try:
                await simulator.start(port + count if port else 0)
            except OSError as error:
                raise Failed(
                    f"{name} can't listen on port {port + count}: {error.strerror}; choose another --port"
                ) from None
            running[name] = simulator
        for name, simulator in running.items():
            tell(output, name, simulator)
        output.line(venues={name: facts(name, simulator) for name, simulator in running.items()})
        output.show(Text("ctrl-c stops them", "dim"))
        await stop.wait()
    finally:
        for simulator in running.values():
            await simulator.stop()
    return None


def tell(output: Output, name: str, simulator: Any) -> None:
    """The lines that connect a service to a simulator, and one that moves its market."""
    symbol, mark = next(iter(simulator.book.marks.items()))
    body = f'{{"symbol": "{symbol}", "price": "{mark * 9 / 10:f}"}}'
    output.show(Text(f"{PROFILES[name].display_name} at {simulator.url}", "bold"))
    output.paste("\n".join(f"export {variable}={shlex.quote(said)}" for variable, said in variables(name, simulator)))
    output.show(Text("Its market falls by a tenth with", "dim"))
    output.paste(f"curl -d {shlex.quote(body)} -H 'Content-Type: application/json' {simulator.url}/simulator/mark\n")


def variables(name: str, simulator: Any) -> list[tuple[str, str]]:
    """What the environment of a service must say so that it takes this simulator for the exchange."""
    parts = {"apiKey": simulator.key, "secret": simulator.secret, "password": simulator.passphrase}
    settings = {f"brokers.{name}.enabled": "true", f"brokers.{name}.url": simulator.url}
    return [
        *((CATALOGUE.by_path[path].variable, said) for path, said in settings.items()),
        *((variable_of(PROFILES[name], part), parts[part.ccxt_name]) for part in PROFILES[name].credentials),
    ]


def facts(name: str, simulator: Any) -> dict[str, Any]:
    """What a program that started the simulators wants to know."""
    return {"url": simulator.url, "port": simulator.port, "environment": dict(variables(name, simulator))}


def simulator_of(name: str) -> Any:
    """A simulator of the exchange; raises Failed where this installation has none."""
    folder = next((folder for folder in (SHIPPED, IN_THE_PROJECT) if folder.is_dir()), None)
    if folder is None:
        raise Failed(
            "the simulated exchanges are not part of this installation; they come with the wheel and are in the "
            f"project at {'/'.join(PACKAGE.split('.'))}"
        )
    if PACKAGE not in sys.modules:
        register(folder)
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        raise Failed(f"the simulator of {name} needs {error.name}, which is not installed") from None
    return getattr(module, f"{name.capitalize()}Simulator")()


def register(folder: Path) -> None:
    """Makes the folder known under the name by which the simulators know each other."""
    names = PACKAGE.split(".")
    for end in range(1, len(names) + 1):
        name = ".".join(names[:end])
        if name not in sys.modules:
            package = ModuleType(name)
            package.__path__ = [str(folder)] if name == PACKAGE else []
            sys.modules[name] = package
