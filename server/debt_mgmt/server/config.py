"""The service's settings: one frozen value, read once, that knows where each part of it came from."""

import os
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

import msgspec

from debt_mgmt.core.collateral import tier_problems
from debt_mgmt.core.market import AssetRule, HaircutTier
from debt_mgmt.server import config_sources as sources
from debt_mgmt.server.config_notify import NOTIFY_VARIABLES, NotifySection, notify_contradictions
from debt_mgmt.server.config_server import ServerSection, security_contradictions
from debt_mgmt.server.config_server import is_loopback as is_loopback
from debt_mgmt.server.config_sources import Key, Secret, Section

ASSET = "[A-Z0-9]{1,20}"
ASSET_OR_AMOUNT = r"[A-Z0-9]{1,20}|[0-9]{1,15}\.[0-9]{1,12}"
TIER_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")
IDENTIFIER = "[a-z_][a-z0-9_]{0,62}"
SYMBOLS = r"[A-Za-z0-9._/-]{1,40}(,[A-Za-z0-9._/-]{1,40}){0,199}"
FEED = r"[a-z]{1,20}|[A-Za-z0-9._/-]{1,40}(,[A-Za-z0-9._/-]{1,40}){0,199}"
WEB_ADDRESS = r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?"

FILE_VARIABLE = "DEBT_MGMT_CONFIG"
OTHER_VARIABLES = {
    FILE_VARIABLE: "Path of the YAML file, where --config does not name one.",
    "DEBT_MGMT_TARGET": "Where clients and the command line find the service, as host:port.",
    "DEBT_MGMT_TOKEN": "Token that clients and the command line send with each call.",
    "DEBT_MGMT_TOKEN_FILE": "Instead of DEBT_MGMT_TOKEN: a file that holds the token.",
    "DEBT_MGMT_TLS_CA": "PEM file of who vouches for the service; given, clients and the command line encrypt.",
    "DEBT_MGMT_TLS_CERTIFICATE": "PEM file of the certificate that clients show, where the service asks for one.",
    "DEBT_MGMT_TLS_KEY": "PEM file of its private key.",
    **NOTIFY_VARIABLES,
}
"""Environment names that are no setting of the file, and what they are for."""

SHORT_VARIABLES = {
    "risk_settings.default_leverage": "DEBT_MGMT_DEFAULT_LEVERAGE",
    "risk_settings.max_leverage": "DEBT_MGMT_MAX_LEVERAGE",
    "risk_settings.liquidation_threshold": "DEBT_MGMT_LIQUIDATION_THRESHOLD",
    "server.metrics_port": "DEBT_MGMT_METRICS_PORT",
    "server.log_level": "DEBT_MGMT_LOG_LEVEL",
}
WITHOUT_TESTNET = ("kraken", "coinbase", "cryptocom")


class RiskSection(Section, frozen=True, kw_only=True):
    """The house's thresholds and the default limits; an account's own limit, where it has one, takes their place.

    Margin utilization is margin used ÷ equity. Each limit that may be null is no limit then.
    """

    default_leverage: Annotated[Decimal, Key("Leverage of an account that chose none.", "times", least=1, most=5)] = (
        Decimal("2")
    )
    max_leverage: Annotated[
        Decimal, Key("Highest leverage anyone may choose; more is refused, never clamped.", "times", least=1, most=5)
    ] = Decimal("5")
    margin_call_threshold: Annotated[
        Decimal, Key("Utilization at which the level becomes WARNING.", "fraction of equity", above=0, most=1)
    ] = Decimal("0.70")
    liquidation_threshold: Annotated[
        Decimal,
        Key(
            "Utilization at which the level becomes CRITICAL and only risk-reducing orders pass.",
            "fraction of equity",
            above=0,
            most=1,
        ),
    ] = Decimal("0.80")
    forced_liquidation_threshold: Annotated[
        Decimal, Key("Utilization at which positions are reduced by force.", "fraction of equity", above=0, most=1)
    ] = Decimal("0.90")
    liquidation_target: Annotated[
        Decimal, Key("Utilization that a forced reduction returns to.", "fraction of equity", above=0, most=1)
    ] = Decimal("0.70")
    hysteresis: Annotated[
        Decimal, Key("A level is left this far below the threshold that entered it.", "fraction of equity", least=0)
    ] = Decimal("0.03")
    margin_buffer: Annotated[
        Decimal,
        Key("What an order needs is multiplied by this before it must fit what is available.", "factor", least=1),
    ] = Decimal("1.10")
    max_position_notional: Annotated[
        Decimal | None, Key("Largest notional of one position.", "account currency", above=0)
    ] = None
    max_exposure_notional: Annotated[
        Decimal | None, Key("Largest notional of all positions together.", "account currency", above=0)
    ] = None
    max_concurrent_positions: Annotated[int | None, Key("Open positions at the same time.", "positions", least=1)] = 20
    max_open_reservations: Annotated[
        int | None, Key("Open reservations at the same time.", "reservations", least=1)
    ] = 1000
    max_daily_loss: Annotated[
        Decimal | None, Key("Loss since the day began that trips the breaker.", "account currency", above=0)
    ] = None
    max_daily_loss_fraction: Annotated[
        Decimal | None, Key("The same, as a share of the equity the day began with.", "fraction", above=0, most=1)
    ] = Decimal("0.20")
    max_drawdown_fraction: Annotated[
        Decimal | None, Key("Fall from the highest equity that trips the breaker.", "fraction", above=0, most=1)
    ] = Decimal("0.50")
    order_rate_count: Annotated[
        int | None, Key("Orders that add risk, in each order_rate_interval_seconds.", "orders", least=1)
    ] = None
    order_rate_interval_seconds: Annotated[int, Key("The interval of order_rate_count.", "seconds", least=1)] = 1
    breaker_cool_down_seconds: Annotated[
        int, Key("How long a tripped breaker stays open before trading can resume.", "seconds", least=0)
    ] = 3600
    day_zone: Annotated[str, Key("Time zone whose midnight begins the day of the daily loss.", "IANA name")] = "UTC"
    reservation_time_to_live_seconds: Annotated[
        int, Key("A reservation that brings no time to live is released after this.", "seconds", least=1)
    ] = 300
    new_instruments: Annotated[
        Literal["zero", "open"],
        Key(
            "Whether an instrument that was never there before starts at zero, until its limit set new-instrument is"
            " changed or taken away, or may be traded at once. Those that come with the service are open.",
        ),
    ] = "zero"
    live_state_max_age_seconds: Annotated[
        float,
        Key(
            "An account that was read from its exchange longer ago takes no new risk; its level is UNKNOWN.",
            "seconds",
            least=1,
        ),
    ] = 60.0
    drift_tolerance: Annotated[
        Decimal,
        Key(
            "How far a figure may be from the exchange's before an alert says so; of prices, a share of the mark.",
            "fraction of the exchange's figure",
            above=0,
            most=1,
        ),
    ] = Decimal("0.02")
    drift_tolerance_amount: Annotated[
        Decimal, Key("The least tolerance of an amount, however small it is.", "account currency", least=0)
    ] = Decimal("1")
    four_eyes: Annotated[
        Literal["live", "all", "off"],
        Key(
            "Whose halts end, limits rise and dry run ends only once a second person has approved it: accounts of the "
            "environment LIVE, all accounts, or none. Without server.auth it is off, for nobody can be told from "
            "anybody."
        ),
    ] = "live"
    four_eyes_wait_seconds: Annotated[
        float, Key("How long such a change waits for approval.", "seconds", least=1, most=2_592_000)
    ] = 86_400.0


class BrokerSection(Section, frozen=True, kw_only=True):
    """One exchange."""

    enabled: Annotated[bool, Key("Accounts may be opened at this exchange.")] = False
    max_leverage: Annotated[
        Decimal,
        Key("The exchange's cap; the lower of this and risk_settings.max_leverage counts.", "times", least=1, most=5),
    ] = Decimal("5")
    testnet: Annotated[bool, Key("Use the exchange's test network, where it has one.")] = False
    symbols: Annotated[
        str | None,
        Key(
            "Instruments whose terms and marks are read from the start; others follow when they are held or named.",
            "names with commas between, as BTCUSDT,ETHUSDT",
            pattern=SYMBOLS,
        ),
    ] = None
    url: Annotated[
        str | None,
        Key(
            "Where the exchange is instead of at its own address: a test bench of one's own.",
            "URL",
            pattern=WEB_ADDRESS,
        ),
    ] = None


class BrokersSection(Section, frozen=True, kw_only=True):
    """The exchanges. Each is disabled until it is enabled here; sandbox accounts need none.

    Keys are read from the environment only: BYBIT_API_KEY and BYBIT_API_SECRET, or BYBIT_API_KEY_FILE and
    BYBIT_API_SECRET_FILE with the path of a file, and alike for the others; OKX_PASSPHRASE too.
    Kraken, Coinbase and Crypto.com have no test network. Coinbase lends no leverage.
    """

    bybit: BrokerSection = BrokerSection(testnet=True)
    binance: BrokerSection = BrokerSection(testnet=True)
    okx: BrokerSection = BrokerSection(testnet=True)
    kraken: BrokerSection = BrokerSection()
    coinbase: BrokerSection = BrokerSection(max_leverage=Decimal("1"))
    cryptocom: BrokerSection = BrokerSection()


def default_rates() -> dict[str, dict[str, Decimal]]:
    dollar = {"USD": Decimal("1"), "INR": Decimal("83")}
    return {"USDT": dollar, "USDC": dollar, "USD": {"INR": Decimal("83")}}


ClockName = Literal[
    "binance_hourly",
    "bybit_hourly",
    "okx_hourly",
    "kraken_4h",
    "kraken_4h_started",
    "cryptocom_hourly",
    "started_hours",
]


def default_borrow_rates() -> dict[str, Decimal]:
    yearly = {"USDT": "0.08", "USDC": "0.08", "USD": "0.08", "INR": "0.12", "BTC": "0.03", "ETH": "0.03", "SOL": "0.06"}
    return {asset: Decimal(rate) for asset, rate in yearly.items()}


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class SandboxSection(Section, frozen=True, kw_only=True):
    """Paper accounts: their capital, what a paper fill costs, and what assets are worth without a mark."""

    starting_capital: Annotated[Decimal, Key("Capital of a new sandbox account.", "units of currency", above=0)] = (
        Decimal("10000000")
    )
    currency: Annotated[str, Key("Currency of that capital, in which the account is valued.", pattern=ASSET)] = "INR"
    reset: Annotated[
        Literal["never", "daily", "weekly", "monthly"],
        Key("How often every sandbox account is set back to its capital by itself."),
    ] = "never"
    reset_weekday: Annotated[Weekday, Key("Day of a weekly reset.")] = "monday"
    reset_day: Annotated[
        int, Key("Day of a monthly reset; in a shorter month, its last day.", "day of the month", least=1, most=31)
    ] = 1
    reset_time: Annotated[
        str, Key("Time of the reset in reset_zone.", "HH:MM", pattern="([01][0-9]|2[0-3]):[0-5][0-9]")
    ] = "00:00"
    reset_zone: Annotated[str, Key("Time zone of reset_time.", "IANA name")] = "UTC"
    margin_rules: Annotated[
        Literal["house", "binance", "bybit", "okx", "kraken", "coinbase", "cryptocom"],
        Key("Whose rules the default instruments follow: tiers, fees, and how margin is counted; see docs/margin.md."),
    ] = "binance"
    margin_rules_date: Annotated[
        str | None,
        Key("The rules in force on this day; null: on the day the service starts.", "date", pattern="[0-9-]{10}"),
    ] = None
    slippage_rate: Annotated[
        Decimal, Key("A paper fill is this much worse than the mark.", "fraction of the price", least=0, below=1)
    ] = Decimal("0.0005")
    taker_fee_rate: Annotated[
        Decimal | None,
        Key("Fee of a paper fill at once; null is the instrument's own.", "fraction of the notional", least=0, below=1),
    ] = None
    maker_fee_rate: Annotated[
        Decimal | None,
        Key(
            "Fee of a paper fill of an order that rested; null is the instrument's own.",
            "fraction of the notional",
            least=-1,
            below=1,
        ),
    ] = None
    fill_depth: Annotated[
        Decimal | None,
        Key(
            "Most that one mark fills of an account's paper orders on one side of an instrument; null has no limit.",
            "notional in the settlement asset",
            above=0,
        ),
    ] = None
    rates: Annotated[
        Mapping[str, Mapping[str, Decimal]],
        Key(
            "Fixed prices: asset, then currency. The inverse is implied; marks are not needed.",
            "price of one unit",
            above=0,
            pattern=ASSET,
        ),
    ] = msgspec.field(default_factory=default_rates)
    borrow_rates: Annotated[
        Mapping[str, Decimal],
        Key("What the house lends each asset at.", "fraction a year", least=0, pattern=ASSET),
    ] = msgspec.field(default_factory=default_borrow_rates)
    interest_clock: Annotated[
        ClockName | None,
        Key(
            "When interest on new loans is charged: the rule of the exchange that it is named after; null: that of "
            "margin_rules.",
            ", ".join(get_args(ClockName)),
        ),
    ] = None
    conversion_threshold: Annotated[
        Decimal | None,
        Key(
            "A negative balance worth more than this is bought back with other assets; null: never.",
            "units of the account's currency",
            least=0,
        ),
    ] = None
    conversion_ratio: Annotated[
        Decimal, Key("What an asset fetches when it is converted.", "fraction of its value", above=0, most=1)
    ] = Decimal("0.975")
    haircut_tiers: Annotated[
        Mapping[str, Mapping[str, Decimal]],
        Key(
            "Instead of a flat haircut: asset, then amount, then the haircut of what lies below that amount and above "
            "the one before. What is beyond the largest amount is no collateral.",
            "fraction",
            least=0,
            most=1,
            pattern=ASSET_OR_AMOUNT,
        ),
    ] = msgspec.field(default_factory=dict)
    haircuts: Annotated[
        Mapping[str, Decimal],
        Key(
            "By asset, the share of its value that is no collateral; 0 where none is named.",
            "fraction",
            least=0,
            below=1,
            pattern=ASSET,
        ),
    ] = msgspec.field(default_factory=dict)


class DatabaseSection(Section, frozen=True, kw_only=True):
    """Where the journal lives. With neither dsn nor host the service runs a PostgreSQL of its own."""

    dsn: Annotated[Secret | None, Key("Connection string of a PostgreSQL to use.", "postgresql://…")] = None
    host: Annotated[str | None, Key("Instead of dsn: its host, or the folder of its unix socket.")] = None
    port: Annotated[int, Key("Its port.", "port", least=1, most=65535)] = 5432
    name: Annotated[str, Key("The database on that host.")] = "debt_mgmt"
    user: Annotated[str | None, Key("Who connects; null is the user the service runs as.")] = None
    password: Annotated[Secret | None, Key("That user's password.")] = None
    schema: Annotated[str, Key("The schema that holds the service's tables.", pattern=IDENTIFIER)] = "debt_mgmt"
    data_directory: Annotated[Path, Key("Folder of the service's own PostgreSQL.", "path")] = Path(
        "~/.local/share/debt-mgmt"
    )
    bin_directory: Annotated[
        Path | None, Key("Folder of the programs it is run with; null is the one in the package.", "path")
    ] = None
    shards: Annotated[
        int, Key("Logs that accounts are spread over, chosen once: at the first start.", "shards", least=1, most=1024)
    ] = 8
    snapshot_every: Annotated[int, Key("Events of a shard between two snapshots.", "events", least=100)] = 50_000
    retention_days: Annotated[
        int, Key("The journal is kept so long at least, where archive_directory is given.", "days", least=365)
    ] = 365
    archive_directory: Annotated[
        Path | None,
        Key("Older events are written here as JSON lines and then dropped; null keeps every event for ever.", "path"),
    ] = None

    def connection(self) -> str | None:
        """The connection string of the PostgreSQL to use, secrets included; None when the service runs its own."""
        if self.dsn is not None:
            return self.dsn.reveal()
        if self.host is None:
            return None
        user = "" if self.user is None else quote(self.user, safe="")
        password = "" if self.password is None else ":" + quote(self.password.reveal(), safe="")
        login = f"{user}{password}@" if user else ""
        name = quote(self.name, safe="")
        if self.host.startswith("/"):
            return f"postgresql://{login}/{name}?host={quote(self.host)}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{login}{host}:{self.port}/{name}"


class PricesSection(Section, frozen=True, kw_only=True):
    """When a mark is trusted. One that is not blocks new risk, and never causes a sale."""

    pre_trade_max_age_seconds: Annotated[
        float, Key("An order that adds risk needs marks no older than this.", "seconds", above=0)
    ] = 10.0
    mark_max_age_seconds: Annotated[float, Key("With an older mark the risk level is UNKNOWN.", "seconds", above=0)] = (
        30.0
    )
    deviation_guard: Annotated[
        Decimal,
        Key(
            "A mark that jumps further than this is set aside until a second one confirms it.",
            "fraction of the last price",
            above=0,
        ),
    ] = Decimal("0.20")
    collateral_guard: Annotated[
        Decimal,
        Key(
            "A mark that jumps further than this moves positions, but not what collateral and debts are valued by, "
            "until another source prints it too, or the same one for collateral_hold_seconds.",
            "fraction of the last price",
            above=0,
        ),
    ] = Decimal("0.10")
    collateral_hold_seconds: Annotated[
        float,
        Key("How long one source alone must print such a price until it counts for collateral.", "seconds", least=0),
    ] = 5.0
    feeds: Annotated[
        Mapping[str, str],
        Key(
            "By exchange, the instruments whose public marks price sandbox accounts; no key is needed.",
            "names with commas between, as BTCUSDT,ETHUSDT",
            pattern=FEED,
        ),
    ] = msgspec.field(default_factory=dict)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of the service. Made by `read_settings`, never by hand."""

    risk: RiskSection = msgspec.field(name="risk_settings", default=RiskSection())
    brokers: BrokersSection = BrokersSection()
    sandbox: SandboxSection = msgspec.field(default_factory=SandboxSection)
    server: ServerSection = ServerSection()
    database: DatabaseSection = DatabaseSection()
    prices: PricesSection = msgspec.field(default_factory=PricesSection)
    notify: NotifySection = NotifySection()
    origins: Mapping[str, str] = msgspec.field(default_factory=dict)

    def origin(self, path: str) -> str:
        """Where a value came from: "default", "FILE:LINE", "environment NAME" or "command line"."""
        return self.origins.get(CATALOGUE.by_path[path].path, "default")


class ConfigurationError(Exception):
    """The settings can't be used. `problems` holds every one of them, each with the place it came from."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join((f"The configuration has {count}:", *problems)))
        self.problems = problems


def variable_of(path: str) -> str:
    """The environment name of a setting: a short one for what is set daily, BYBIT_TESTNET, else made from its path."""
    section, _, name = path.partition(".")
    broker, _, key = name.partition(".")
    if path in SHORT_VARIABLES:
        return SHORT_VARIABLES[path]
    if key == "testnet":
        return f"{broker}_testnet".upper()
    return f"debt_mgmt_{'db' if section == 'database' else section}_{name}".replace(".", "_").upper()


CATALOGUE = sources.Catalogue(tuple(sources.settings_of(Settings(), variable_of)), OTHER_VARIABLES)


def read_settings(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """The settings: defaults, under the YAML `file` (or the one DEBT_MGMT_CONFIG names), `environment` and `flags`.

    `flags` hold what the command line says, by path. Raises ConfigurationError with all problems of all sources.
    """
    problems: list[str] = []
    if file is None and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])
    given = {} if file is None else sources.read_file(file, CATALOGUE, problems)
    given |= sources.read_environment(environment, CATALOGUE, problems)
    given |= sources.read_flags(flags or {}, CATALOGUE)

    values = {setting.path: setting.default for setting in CATALOGUE.settings}
    failed: set[str] = set()
    for path, said in given.items():
        setting = CATALOGUE.by_path[path]
        try:
            values[path] = sources.parse(setting.kind, setting.key, said.node)
        except ValueError as error:
            failed.add(path)
            problems.append(f"{said.origin}: {path} {error}")

    values = {path: at_home(value) if isinstance(value, Path) else value for path, value in values.items()}
    settings = sources.filled(Settings(origins={path: said.origin for path, said in given.items()}), values)
    problems += [text for paths, text in contradictions(settings, values) if failed.isdisjoint(paths)]
    if problems:
        raise ConfigurationError(tuple(problems))
    return settings


def at_home(path: Path) -> Path:
    """`path` with ~ replaced by the home folder, where there is one."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


ORDER = (
    ("risk_settings.margin_call_threshold", "below", "risk_settings.liquidation_threshold"),
    ("risk_settings.liquidation_threshold", "below", "risk_settings.forced_liquidation_threshold"),
    ("risk_settings.liquidation_target", "at most", "risk_settings.margin_call_threshold"),
    ("risk_settings.hysteresis", "below", "risk_settings.margin_call_threshold"),
    ("risk_settings.default_leverage", "at most", "risk_settings.max_leverage"),
    ("prices.pre_trade_max_age_seconds", "at most", "prices.mark_max_age_seconds"),
)
"""Which value must stay under which other one."""


def tiered_rule(asset: str, table: Mapping[str, Decimal]) -> AssetRule | None:
    """The rule that a table of haircuts spells; None where an amount is no number."""
    if any(TIER_AMOUNT.fullmatch(amount) is None for amount in table):
        return None
    rows = sorted((Decimal(amount), haircut) for amount, haircut in table.items())
    return AssetRule(asset, haircut_tiers=tuple(HaircutTier(amount, haircut) for amount, haircut in rows))


def contradictions(settings: Settings, values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What can't be true together: the settings concerned, and the problem in words."""

    def named(path: str) -> str:
        shown = "" if isinstance(values[path], Secret) else f" {sources.spelled(values[path])}"
        return f"{path}{shown} ({settings.origin(path)})"

    for low, relation, high in ORDER:
        if values[low] > values[high] or (relation == "below" and values[low] == values[high]):
            yield (low, high), f"{named(low)} must be {relation} {named(high)}"

    cap = "brokers.coinbase.max_leverage"
    if values[cap] > 1:
        yield (cap,), f"{named(cap)} must be 1: Coinbase lends no leverage"
    for broker in WITHOUT_TESTNET:
        testnet = f"brokers.{broker}.testnet"
        if values[testnet]:
            yield (testnet,), f"{named(testnet)} must be false: this exchange has no test network"

    feeds = "prices.feeds"
    if unknown := sorted(set(values[feeds]) - set(settings.brokers.__struct_fields__)):
        known = ", ".join(settings.brokers.__struct_fields__)
        yield (feeds,), f"{named(feeds)} names {', '.join(unknown)}, and the exchanges are {known}"

    day = "sandbox.margin_rules_date"
    if values[day] is not None:
        try:
            date.fromisoformat(values[day])
        except ValueError:
            yield (day,), f"{named(day)} must be a date such as 2025-07-01"
    for zone in ("risk_settings.day_zone", "sandbox.reset_zone"):
        try:
            zoneinfo.ZoneInfo(values[zone])
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield (zone,), f"{named(zone)} must be a time zone such as UTC or Asia/Kolkata"

    for asset, table in settings.sandbox.haircut_tiers.items():
        rule = tiered_rule(asset, table)
        problems = ["amounts must be numbers"] if rule is None else [text for _, text in tier_problems(rule)]
        for problem in problems:
            yield ("sandbox.haircut_tiers",), f"{named('sandbox.haircut_tiers')}: of {asset}, {problem}"

    address = "server.address"
    if int(values[address].rpartition(":")[2]) > 65535:
        yield (address,), f"{named(address)} must have a port of at most 65535"
    yield from security_contradictions(settings.server.host, values, named)
    yield from notify_contradictions(values, named)

    dsn, host = "database.dsn", "database.host"
    if values[dsn] is not None and values[host] is not None:
        yield (dsn, host), f"{named(dsn)} and {named(host)} name two databases: give one"
    for path in ("database.port", "database.name", "database.user", "database.password"):
        if values[path] != CATALOGUE.by_path[path].default and values[host] is None:
            yield (host, path), f"{named(path)} has no effect without database.host"
    folder = "database.data_directory"
    if settings.database.connection() is None and str(values[folder]).startswith("~"):
        yield (dsn, host, folder), f"{named(folder)} needs a home folder, and this user has none: name another folder"


if __name__ == "__main__":
    from debt_mgmt.server.config_pages import main

    main()
