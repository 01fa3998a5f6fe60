"""`debt-mgmt serve`: runs the service, and says where it listens and what it protects from."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from debt_mgmt.client.channel import version
from debt_mgmt.server.cli.output import Output, plain
from debt_mgmt.server.cli.session import Exit, Json
from debt_mgmt.server.cli.temporary import NEW_INSTRUMENTS, with_open_instruments
from debt_mgmt.server.cli.wording import amount, grouped, percent
from debt_mgmt.server.config import CATALOGUE, ConfigurationError, RiskSection, Settings, is_loopback, read_settings
from debt_mgmt.server.config_sources import Secret, spelled

CHANGED_SHOWN = 12
"""More settings than these are counted, not listed."""


def serve(
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.", envvar="DEBT_MGMT_CONFIG")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the service's own PostgreSQL.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Where gRPC listens, as host:port; port 0 takes a free one.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Where HTTP listens, /metrics and /health too; 0 takes a free one.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Add the sandbox account demo on a simulated market.")] = False,
    feed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXCHANGE:SYMBOL,…",
            help="Price sandbox accounts by an exchange's public marks: bybit:BTCUSDT,ETHUSDT; repeatable.",
        ),
    ] = None,
    auth: Annotated[
        str | None, typer.Option(metavar="off|tokens|jwt|both", help="How callers prove who they are.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file of the service's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that other machines reach, open as it is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the service until ctrl-c or SIGTERM; then running calls may finish."""
    output = Output(as_json)
    flags = {
        "database.data_directory": data_dir,
        "server.address": address,
        "server.metrics_port": metrics_port,
        "server.auth": auth,
        "server.tls.certificate": tls_certificate,
        "server.tls.key": tls_key,
        "server.insecure": "true" if insecure else None,
        "prices.feeds": feeds_of(feed) if feed else None,
    }
    given = {path: str(said) for path, said in flags.items() if said is not None}
    settings = settings_or_exit(output, config, given)
    if demo and NEW_INSTRUMENTS not in settings.origins:
        settings = with_open_instruments(settings)

    from debt_mgmt.server.app import RunningService, run
    from debt_mgmt.server.cli.logs import configure_logs
    from debt_mgmt.server.configuration_watch import ConfigurationWatch
    from debt_mgmt.server.journal.journal import JournalError
    from debt_mgmt.server.postgres import PostgresError
    from debt_mgmt.server.security.watched_file import UnusableFile

    configure_logs(settings)

    def ready(service: RunningService) -> None:
        output.show(announcement(settings, service.port, service.metrics_port, service.admin_token_file))
        if demo:
            output.show(Text("\nTry it in another terminal", "bold"))
            target = target_of(settings.server.host, service.port)
            output.paste(
                first_calls(target, token_file_of(settings), encrypted=settings.server.tls.certificate is not None)
            )
        output.show(Text("\nctrl-c stops it", "dim"))
        output.line(
            **facts(settings, service.port, service.metrics_port, demo), admin_token_file=service.admin_token_file
        )

    try:
        settings = placed(settings)
        in_event_loop(run(settings, demo=demo, ready=ready, configuration=ConfigurationWatch(config, given)))
    except (PostgresError, JournalError, UnusableFile, OSError, RuntimeError) as error:
        taken = "in use" in str(error) or "bind" in str(error)
        if isinstance(error, RuntimeError) and not taken:
            raise
        output.say(f"debt-mgmt: the service can't run: {error}", "bold red")
        if taken:
            output.say("Choose other ports with --address and --metrics-port; port 0 takes a free one.")
        raise typer.Exit(Exit.USAGE) from None


def feeds_of(given: list[str]) -> str:
    """`bybit:BTCUSDT,ETHUSDT` and the like, as the setting prices.feeds is written."""
    feeds: dict[str, list[str]] = {}
    for one in given:
        exchange, colon, symbols = one.partition(":")
        if not colon or not symbols:
            raise typer.BadParameter(f"{one!r} is no feed: write bybit:BTCUSDT,ETHUSDT", param_hint="--feed")
        feeds.setdefault(exchange, []).append(symbols)
    return "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(','.join(named))}" for name, named in feeds.items()) + "}"


def placed(settings: Settings) -> Settings:
    """The settings with the folder that the service's own PostgreSQL will really be in."""
    from debt_mgmt.server.postgres_binaries import directory_for

    database = settings.database
    if database.connection() is not None:
        return settings
    folder = directory_for(database.data_directory)
    return msgspec.structs.replace(settings, database=msgspec.structs.replace(database, data_directory=folder))


def settings_or_exit(output: Output, config: Path | None, flags: dict[str, str]) -> Settings:
    """The settings; a configuration that can't be used ends the command with every problem it has."""
    try:
        return read_settings(config, flags=flags)
    except ConfigurationError as error:
        output.say(str(error), "bold red")
        raise typer.Exit(Exit.USAGE) from None


def in_event_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed, else on asyncio's own loop."""
    open_standard_streams()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(work)


def open_standard_streams() -> None:
    """Open those that whoever started us has closed to nothing: else they would be what the service opens first."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def facts(settings: Settings, port: int, metrics_port: int, demo: bool) -> dict[str, Any]:
    """What a program that started the service wants to know."""
    host = settings.server.host
    return {
        "version": version(),
        "target": target_of(host, port),
        "metrics": f"{http_of(settings, metrics_port)}/metrics",
        "health": f"{http_of(settings, metrics_port)}/health",
        "http": http_of(settings, metrics_port),
        "journal": journal_of(settings),
        "demo": demo,
        "protections": [
            {"protection": name, "on": on, "in_words": words} for name, on, words in protections(settings.risk)
        ],
        "settings_changed": [
            {"setting": path, "value": plain(value), "origin": origin} for path, value, origin in changed(settings)
        ],
    }


def target_of(host: str, port: int) -> str:
    """The address that a client on this machine names."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{near}]:{port}" if ":" in near else f"{near}:{port}"


def http_of(settings: Settings, port: int) -> str:
    """Where HTTP is found from this machine."""
    scheme = "http" if settings.server.tls.certificate is None else "https"
    return f"{scheme}://{target_of(settings.server.host, port)}"


def announcement(settings: Settings, port: int, metrics_port: int, admin_token_file: Path | None = None) -> Group:
    """What a person who started the service wants to know."""
    host = settings.server.host
    how = "in the clear" if settings.server.tls.certificate is None else "encrypted"
    reach = "this machine only" if is_loopback(host) else "reached by other machines"
    places = Table.grid(padding=(0, 2))
    places.add_row("gRPC", Text.assemble((f"{host}:{port}", "bold"), f"  {reach}, {how}"))
    places.add_row("callers", callers(settings))
    if admin_token_file is not None:
        places.add_row("admin", Text.assemble("the administrator's token is in ", (str(admin_token_file), "bold")))
    places.add_row("journal", Text(journal_of(settings)))
    http = http_of(settings, metrics_port)
    places.add_row("HTTP", f"{http}/metrics   {http}/health   {http}/api/debt_mgmt/portfolio")
    for exchange, symbols in settings.prices.feeds.items():
        places.add_row("prices", Text(f"{symbols.replace(',', ', ')} from {exchange}'s public marks"))
    on = Text("\n").join(Text(words) for _, is_on, words in protections(settings.risk) if is_on)
    off = ", ".join(words for _, is_on, words in protections(settings.risk) if not is_on)
    places.add_row("protects", on)
    if off:
        places.add_row(Text("OFF", "bold yellow"), Text(off, "yellow"))
    different = list(changed(settings))
    for path, value, origin in different[:CHANGED_SHOWN]:
        places.add_row("setting", Text(f"{path} {value}  ({origin})"))
    if len(different) > CHANGED_SHOWN:
        places.add_row("setting", f"and {len(different) - CHANGED_SHOWN} more that are not the default")
    parts: list[Any] = [Text(f"debt-mgmt {version()} serves", "bold green"), places]
    return Group(*parts)


def callers(settings: Settings) -> Text:
    """Who may call, in words; loud where anyone may do anything."""
    words = {
        "tokens": "tokens of this service",
        "jwt": "signed tokens (JWT)",
        "both": "tokens of this service, or signed ones (JWT)",
    }
    server = settings.server
    if server.auth != "off":
        certificates = ", with a client certificate" if server.tls.client_ca is not None else ""
        return Text(words[server.auth] + certificates)
    if is_loopback(server.host):
        return Text("whoever is on this machine is an administrator (server.auth is off)")
    assert server.insecure, "the settings are refused otherwise"
    return Text("ANYONE who reaches this address is an administrator (--insecure)", "bold red")


def token_file_of(settings: Settings) -> Path | None:
    """Where the administrator's token was left, by this start or by one before; None where there is none."""
    file = settings.server.admin_token_place(settings.database.data_directory)
    return file if settings.server.auth in ("tokens", "both") and file.exists() else None


def first_calls(target: str, token_file: Path | None = None, *, encrypted: bool = False) -> str:
    """The same first call from the shell and from Python, ready to paste; with TLS, once ca.pem is named."""
    body = '{"account_id":"demo"}'
    client = "SyncMarginClient()" if target == "127.0.0.1:50051" else f'SyncMarginClient("{target}")'
    option = "" if target == "127.0.0.1:50051" else f" --target {target}"
    first, header = [], ""
    if token_file is not None:
        first = [f"export DEBT_MGMT_TOKEN_FILE={token_file}"]
        header = '-H "authorization: Bearer $(cat $DEBT_MGMT_TOKEN_FILE)" '
        client = f'SyncMarginClient.from_env(target="{target}")'
    how = "-plaintext"
    if encrypted:
        how = "-cacert $DEBT_MGMT_TLS_CA"
        first = ["export DEBT_MGMT_TLS_CA=ca.pem  # who has signed the service's certificate", *first]
        client = f'SyncMarginClient.from_env(target="{target}")'
    return "\n".join(
        (
            *first,
            f"grpcurl {how} {header}-d '{body}' {target} debt_mgmt.v1.MarginService/GetMarginStatus",
            f"{called('debt-mgmt')} status demo{option}",
            f"{called('python')} - <<'EOF'",
            "from debt_mgmt.client import SyncMarginClient",
            f"with {client} as client:",
            '    print(client.margin_status("demo"))',
            "EOF",
        )
    )


def called(name: str) -> str:
    """How a terminal in this folder calls a program of this installation: by name where that finds it."""
    program = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not program.exists() or (found is not None and Path(found).absolute() == program):
        return name
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def journal_of(settings: Settings) -> str:
    """Where the journal is, without secrets."""
    database = settings.database
    if database.dsn is not None:
        return f"PostgreSQL of the configured DSN, schema {database.schema}"
    if database.host is not None:
        return f"PostgreSQL at {database.host}:{database.port}/{database.name}, schema {database.schema}"
    return f"PostgreSQL of its own in {database.data_directory}"


def protections(risk: RiskSection) -> Iterator[tuple[str, bool, str]]:
    """Every protection of the house: its name, whether it is on, and in words."""
    yield (
        "LEVELS",
        True,
        f"warning at {share(risk.margin_call_threshold)}, critical at {share(risk.liquidation_threshold)}, forced "
        f"reduction at {share(risk.forced_liquidation_threshold)} down to {share(risk.liquidation_target)}",
    )
    yield (
        "LEVERAGE",
        True,
        f"leverage at most {grouped(risk.max_leverage)}x, {grouped(risk.default_leverage)}x unless set",
    )
    for name, limit, words in (
        ("POSITION_NOTIONAL", risk.max_position_notional, "notional of one position"),
        ("EXPOSURE_NOTIONAL", risk.max_exposure_notional, "notional of all positions"),
        ("CONCURRENT_POSITIONS", risk.max_concurrent_positions, "open positions"),
        ("OPEN_RESERVATIONS", risk.max_open_reservations, "open reservations"),
        ("DAILY_LOSS", risk.max_daily_loss, "loss of a day"),
    ):
        yield name, limit is not None, words if limit is None else f"{words} at most {amount_of(limit)}"
    for name, fraction, words in (
        ("DAILY_LOSS_FRACTION", risk.max_daily_loss_fraction, "share of the equity lost in a day"),
        ("DRAWDOWN", risk.max_drawdown_fraction, "fall from the highest equity"),
    ):
        yield name, fraction is not None, words if fraction is None else f"{words} at most {share(fraction)}"
    rate = risk.order_rate_count
    seconds = risk.order_rate_interval_seconds
    yield "ORDER_RATE", rate is not None, "order rate" if rate is None else f"at most {rate} orders in {seconds} s"


def share(fraction: Decimal) -> str:
    return percent(fraction, 0 if fraction * 100 % 1 == 0 else 1)


def amount_of(limit: Decimal | int) -> str:
    return amount(limit) if isinstance(limit, Decimal) else f"{limit:,}"


def changed(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Every setting that somebody gave: its path, its value without secrets, and where it came from."""
    for setting in CATALOGUE.settings:
        if setting.path in settings.origins:
            value = value_at(settings, setting.path)
            yield (
                setting.path,
                "<secret>" if isinstance(value, Secret) else spelled(value),
                settings.origin(setting.path),
            )


def value_at(settings: Settings, path: str) -> Any:
    section, _, rest = path.partition(".")
    value: Any = settings.risk if section == "risk_settings" else getattr(settings, section)
    for name in rest.split("."):
        value = getattr(value, name)
    return value
