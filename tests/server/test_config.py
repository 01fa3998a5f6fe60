"""The settings: where a value comes from, what is refused and in which words, and that each one is read."""

import ast
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from debt_mgmt.server.config import CATALOGUE, ConfigurationError, Settings, read_settings, variable_of
from debt_mgmt.server.config_pages import PAGES, every_section
from debt_mgmt.server.config_sources import Section

PROJECT = Path(__file__).parents[2]
NOTHING: Mapping[str, str] = {}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def problems(file: Path | None = None, environment: Mapping[str, str] = NOTHING) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        read_settings(file, environment)
    return refused.value.problems


def value_at(settings: Settings, path: str) -> object:
    value: object = settings
    for name in path.replace("risk_settings", "risk").split("."):
        value = getattr(value, name)
    return value


# Sources and their order


def test_without_any_source_every_value_is_its_default() -> None:
    settings = read_settings(environment=NOTHING)
    assert {settings.origin(path) for path in CATALOGUE.by_path} == {"default"}
    assert settings.risk.default_leverage == 2
    assert settings.risk.max_leverage == 5
    assert settings.risk.liquidation_threshold == Decimal("0.80")
    assert settings.sandbox.starting_capital == 10_000_000
    assert settings.brokers.coinbase.max_leverage == 1
    assert settings.database.connection() is None


def test_a_later_source_wins_and_each_value_knows_its_origin(config_file: Path) -> None:
    config_file.write_text("risk_settings:\n  default_leverage: 3\n  max_leverage: 4\nserver:\n  metrics_port: 9191\n")
    settings = read_settings(
        config_file,
        {"DEBT_MGMT_MAX_LEVERAGE": "4.5", "DEBT_MGMT_METRICS_PORT": "9292"},
        {"server.metrics_port": "9393"},
    )
    found = {
        path: (value_at(settings, path), settings.origin(path))
        for path in (
            "risk_settings.default_leverage",
            "risk_settings.max_leverage",
            "server.metrics_port",
            "server.log_level",
        )
    }
    assert found == {
        "risk_settings.default_leverage": (Decimal("3"), f"{config_file}:2"),
        "risk_settings.max_leverage": (Decimal("4.5"), "environment DEBT_MGMT_MAX_LEVERAGE"),
        "server.metrics_port": (9393, "command line"),
        "server.log_level": ("INFO", "default"),
    }


def test_the_file_may_be_named_by_the_environment(config_file: Path) -> None:
    config_file.write_text("server:\n  log_level: DEBUG\n")
    assert read_settings(environment={"DEBT_MGMT_CONFIG": str(config_file)}).server.log_level == "DEBUG"


def test_settings_are_frozen() -> None:
    settings = read_settings(environment=NOTHING)
    with pytest.raises(AttributeError):
        settings.risk.max_leverage = Decimal("75")  # type: ignore[misc]


def test_origin_of_an_unknown_path_is_an_error() -> None:
    with pytest.raises(KeyError):
        read_settings(environment=NOTHING).origin("risk_settings.max_leverge")


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("DEBT_MGMT_DEFAULT_LEVERAGE", "risk_settings.default_leverage"),
        ("DEBT_MGMT_MAX_LEVERAGE", "risk_settings.max_leverage"),
        ("DEBT_MGMT_LIQUIDATION_THRESHOLD", "risk_settings.liquidation_threshold"),
        ("DEBT_MGMT_DB_DSN", "database.dsn"),
        ("DEBT_MGMT_DB_HOST", "database.host"),
        ("DEBT_MGMT_DB_PORT", "database.port"),
        ("DEBT_MGMT_DB_NAME", "database.name"),
        ("DEBT_MGMT_DB_USER", "database.user"),
        ("DEBT_MGMT_DB_PASSWORD", "database.password"),
        ("DEBT_MGMT_DB_SCHEMA", "database.schema"),
        ("DEBT_MGMT_METRICS_PORT", "server.metrics_port"),
        ("DEBT_MGMT_LOG_LEVEL", "server.log_level"),
        ("BYBIT_TESTNET", "brokers.bybit.testnet"),
        ("DEBT_MGMT_BROKERS_OKX_MAX_LEVERAGE", "brokers.okx.max_leverage"),
        ("DEBT_MGMT_RISK_SETTINGS_HYSTERESIS", "risk_settings.hysteresis"),
        ("DEBT_MGMT_PRICES_DEVIATION_GUARD", "prices.deviation_guard"),
    ],
)
def test_environment_names(variable: str, path: str) -> None:
    assert variable_of(path) == variable


def test_no_two_settings_share_an_environment_name() -> None:
    assert len(CATALOGUE.by_variable) == len(CATALOGUE.settings)


def test_an_empty_variable_says_nothing() -> None:
    settings = read_settings(environment={"DEBT_MGMT_MAX_LEVERAGE": "", "DEBT_MGMT_DB_DSN": ""})
    assert settings.risk.max_leverage == 5
    assert settings.origin("risk_settings.max_leverage") == "default"
    assert settings.database.dsn is None


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("DEBT_MGMT_DEFAULT_LEVERAGE", "2.0", "risk_settings.default_leverage", Decimal("2.0")),
        ("DEBT_MGMT_RISK_SETTINGS_MAX_DAILY_LOSS_FRACTION", "null", "risk_settings.max_daily_loss_fraction", None),
        ("DEBT_MGMT_RISK_SETTINGS_ORDER_RATE_COUNT", "10", "risk_settings.order_rate_count", 10),
        ("DEBT_MGMT_SERVER_DRAIN_SECONDS", "0.5", "server.drain_seconds", 0.5),
        ("BYBIT_TESTNET", "false", "brokers.bybit.testnet", False),
        ("DEBT_MGMT_SANDBOX_HAIRCUTS", "{BTC: 0.05}", "sandbox.haircuts", {"BTC": Decimal("0.05")}),
        ("DEBT_MGMT_SANDBOX_RATES", '{EUR: {USD: "1.08"}}', "sandbox.rates", {"EUR": {"USD": Decimal("1.08")}}),
        ("DEBT_MGMT_DB_DATA_DIRECTORY", "books", "database.data_directory", Path("books")),
        ("DEBT_MGMT_SERVER_ADDRESS", "[::1]:0", "server.address", "[::1]:0"),
    ],
)
def test_a_value_is_read_as_its_type(variable: str, text: str, path: str, value: object) -> None:
    read = value_at(read_settings(environment={variable: text}), path)
    assert read == value
    assert type(read) is type(value) or isinstance(value, Path)


def test_a_number_in_the_file_is_exact(config_file: Path) -> None:
    config_file.write_text("risk_settings:\n  margin_buffer: 1.100000000000000001\n")
    assert read_settings(config_file, NOTHING).risk.margin_buffer == Decimal("1.100000000000000001")


def test_the_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_settings(environment=NOTHING).database.data_directory == tmp_path / ".local/share/debt-mgmt"


# What is refused


def test_all_problems_of_all_sources_are_told_at_once(config_file: Path) -> None:
    config_file.write_text("risk_settings:\n  max_leverge: 4\n  hysteresis: 0.75\n")
    text = PAGES["docs/configuration.md"]().split("```")[1].strip()
    with pytest.raises(ConfigurationError) as refused:
        read_settings(config_file, {"DEBT_MGMT_DEFAULT_LEVERAGE": "75"})
    assert str(refused.value).replace(str(config_file), "config.yaml") == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "risk_settings: {max_leverge: 4}",
            "1: unknown key risk_settings.max_leverge; did you mean risk_settings.max_leverage?",
        ),
        ("\nmax_leverage: 4", "2: unknown key max_leverage; did you mean risk_settings.max_leverage?"),
        ("risk: {max_leverage: 4}", "1: unknown key risk"),
        ("brokers: {bybt: {enabled: true}}", "1: unknown key brokers.bybt; did you mean brokers.bybit?"),
        ("qqqqqq: 1", "1: unknown key qqqqqq"),
        ("server: {log_level: INFO, log_level: DEBUG}", "1: server.log_level stands here a second time"),
        ("server: [1, 2]", "1: server must be a mapping of keys to values"),
        ("just words", "1: the file must be a mapping of keys to values"),
        ("server: {log_level: LOUD}", "1: server.log_level is 'LOUD', must be one of DEBUG, INFO, WARNING, ERROR"),
        ("server: {max_batch: 1.5}", "1: server.max_batch is '1.5', must be a whole number"),
        ("server: {max_batch: 0}", "1: server.max_batch is 0, must be at least 1"),
        ("server: {insecure: perhaps}", "1: server.insecure is 'perhaps', must be true or false"),
        ("server: {log_format: null}", "1: server.log_format needs a value"),
        ("server: {log_format: [text]}", "1: server.log_format must be one value, not a list or a mapping"),
        (
            "risk_settings: {margin_buffer: 1e1}",
            "1: risk_settings.margin_buffer is '1e1', must be a plain decimal number such as 0.25",
        ),
        (
            "risk_settings: {margin_buffer: .nan}",
            "1: risk_settings.margin_buffer is '.nan', must be a plain decimal number such as 0.25",
        ),
        (
            "sandbox: {starting_capital: 10_000}",
            "1: sandbox.starting_capital is '10_000', must be a plain decimal number such as 0.25",
        ),
        ("sandbox: {starting_capital: 0}", "1: sandbox.starting_capital is 0, must be above 0"),
        ("sandbox: {rates: 83}", "1: sandbox.rates must be a mapping of names to values"),
        ("sandbox: {rates: {USD: {INR: -83}}}", "1: sandbox.rates is -83, must be above 0"),
        ("sandbox: {rates: {USD: {}, USD: {}}}", "1: sandbox.rates names USD more than once"),
        ("sandbox: {haircuts: {BTC: 1}}", "1: sandbox.haircuts is 1, must be below 1"),
        (
            "sandbox: {haircuts: {btc: 0.1}}",
            "1: sandbox.haircuts is 'btc', must be fraction of the form [A-Z0-9]{1,20}",
        ),
        ("database: {schema: a.b}", "1: database.schema is 'a.b', must be a name of the form [a-z_][a-z0-9_]{0,62}"),
    ],
)
def test_what_the_file_may_not_say(config_file: Path, text: str, problem: str) -> None:
    config_file.write_text(text)
    found = problems(config_file)
    assert len(found) == 1
    assert found[0].startswith(f"{config_file}:{problem}")


@pytest.mark.parametrize("text", ["a: [", "\tserver: 1", "a: !!python/object:os.system x\nb: ["])
def test_a_file_that_is_not_yaml_is_refused(config_file: Path, text: str) -> None:
    config_file.write_text(text)
    assert problems(config_file)[0].startswith(f"{config_file}: is not YAML")


def test_a_file_that_is_not_there_is_refused(config_file: Path) -> None:
    assert problems(config_file)[0].startswith(f"{config_file}: can't be read")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "risk_settings:\nserver:\n"])
def test_an_empty_file_or_section_says_nothing(config_file: Path, text: str) -> None:
    config_file.write_text(text)
    assert read_settings(config_file, NOTHING).origins == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DEBT_MGMT_MAX_LEVERGE", "DEBT_MGMT_MAX_LEVERAGE"),
        ("DEBT_MGMT_RISK_SETTINGS_MAX_LEVERAGE", "DEBT_MGMT_MAX_LEVERAGE"),
        ("DEBT_MGMT_DATABASE_HOST", "DEBT_MGMT_DB_HOST"),
        ("DEBT_MGMT_SERVER_METRICS_PORT", "DEBT_MGMT_METRICS_PORT"),
        ("DEBT_MGMT_CONFG", "DEBT_MGMT_CONFIG"),
        ("DEBT_MGMT_BROKERS_BYBIT_TESTNET", "BYBIT_TESTNET"),
    ],
)
def test_an_unknown_variable_is_refused_with_what_was_meant(name: str, meant: str) -> None:
    assert problems(environment={name: "1"}) == (f"environment {name}: unknown name; did you mean {meant}?",)


def test_variables_of_others_are_not_looked_at() -> None:
    assert read_settings(environment={"PATH": "/bin", "DEBT": "1", "BYBIT_UNKNOWN": "1"}).origins == {}


RISK = "DEBT_MGMT_RISK_SETTINGS_"


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (
            {f"{RISK}MARGIN_CALL_THRESHOLD": "0.80"},
            "risk_settings.margin_call_threshold 0.80 (environment DEBT_MGMT_RISK_SETTINGS_MARGIN_CALL_THRESHOLD) "
            "must be below risk_settings.liquidation_threshold 0.80 (default)",
        ),
        (
            {"DEBT_MGMT_LIQUIDATION_THRESHOLD": "0.95"},
            "risk_settings.liquidation_threshold 0.95 (environment DEBT_MGMT_LIQUIDATION_THRESHOLD) "
            "must be below risk_settings.forced_liquidation_threshold 0.90 (default)",
        ),
        (
            {f"{RISK}LIQUIDATION_TARGET": "0.71"},
            "risk_settings.liquidation_target 0.71 (environment DEBT_MGMT_RISK_SETTINGS_LIQUIDATION_TARGET) "
            "must be at most risk_settings.margin_call_threshold 0.70 (default)",
        ),
        (
            {"DEBT_MGMT_DEFAULT_LEVERAGE": "3", "DEBT_MGMT_MAX_LEVERAGE": "2"},
            "risk_settings.default_leverage 3 (environment DEBT_MGMT_DEFAULT_LEVERAGE) "
            "must be at most risk_settings.max_leverage 2 (environment DEBT_MGMT_MAX_LEVERAGE)",
        ),
        (
            {"DEBT_MGMT_BROKERS_COINBASE_MAX_LEVERAGE": "2"},
            "brokers.coinbase.max_leverage 2 (environment DEBT_MGMT_BROKERS_COINBASE_MAX_LEVERAGE) "
            "must be 1: Coinbase lends no leverage",
        ),
        (
            {"KRAKEN_TESTNET": "true"},
            "brokers.kraken.testnet true (environment KRAKEN_TESTNET) must be false: this exchange has no test network",
        ),
        (
            {f"{RISK}DAY_ZONE": "Mars/Olympus"},
            "risk_settings.day_zone Mars/Olympus (environment DEBT_MGMT_RISK_SETTINGS_DAY_ZONE) "
            "must be a time zone such as UTC or Asia/Kolkata",
        ),
        (
            {"DEBT_MGMT_PRICES_MARK_MAX_AGE_SECONDS": "5"},
            "prices.pre_trade_max_age_seconds 10 (default) must be at most "
            "prices.mark_max_age_seconds 5 (environment DEBT_MGMT_PRICES_MARK_MAX_AGE_SECONDS)",
        ),
        (
            {"DEBT_MGMT_SERVER_ADDRESS": "127.0.0.1:65536"},
            "server.address 127.0.0.1:65536 (environment DEBT_MGMT_SERVER_ADDRESS) must have a port of at most 65535",
        ),
        (
            {"DEBT_MGMT_DB_USER": "desk"},
            "database.user desk (environment DEBT_MGMT_DB_USER) has no effect without database.host",
        ),
        (
            {"DEBT_MGMT_DB_DSN": "postgresql://a", "DEBT_MGMT_DB_HOST": "b"},
            "database.dsn (environment DEBT_MGMT_DB_DSN) and database.host b (environment DEBT_MGMT_DB_HOST) "
            "name two databases: give one",
        ),
    ],
)
def test_what_can_not_be_true_together(environment: Mapping[str, str], problem: str) -> None:
    assert problems(environment=environment) == (problem,)


def test_an_unreadable_value_is_not_compared_with_others() -> None:
    environment = {f"{RISK}MARGIN_CALL_THRESHOLD": "0.85", "DEBT_MGMT_LIQUIDATION_THRESHOLD": "high"}
    assert problems(environment=environment) == (
        "environment DEBT_MGMT_LIQUIDATION_THRESHOLD: risk_settings.liquidation_threshold is 'high', "
        "must be a plain decimal number such as 0.25",
    )


@pytest.mark.parametrize("name", ["DEBT_MGMT_DEFAULT_LEVERAGE", "DEBT_MGMT_MAX_LEVERAGE"])
@pytest.mark.parametrize("leverage", ["75", "0.5", "0", "-1", "5.01", "NaN", "5x"])
def test_leverage_is_from_1_to_5(name: str, leverage: str) -> None:
    assert len(problems(environment={name: leverage})) == 1


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051", "trading.example:50051"])
def test_other_machines_are_let_in_only_on_purpose(address: str) -> None:
    assert "not encrypted" in problems(environment={"DEBT_MGMT_SERVER_ADDRESS": address})[0]
    settings = read_settings(environment={"DEBT_MGMT_SERVER_ADDRESS": address}, flags={"server.insecure": "true"})
    assert settings.server.address == address


# Secrets and the database


def test_secrets_are_shown_nowhere() -> None:
    environment = {"DEBT_MGMT_DB_HOST": "db", "DEBT_MGMT_DB_USER": "desk", "DEBT_MGMT_DB_PASSWORD": "hunter2"}
    settings = read_settings(environment=environment)
    assert settings.database.password is not None
    assert settings.database.password.reveal() == "hunter2"
    shown = (repr(settings), str(settings.database), f"{settings.database.password}")
    assert all("hunter2" not in text for text in shown)
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)
    refused = problems(environment={"DEBT_MGMT_DB_PASSWORD": "hunter2", "DEBT_MGMT_DB_DSN": "postgresql://x:hunter3@y"})
    assert not any("hunter" in text for text in refused)


@pytest.mark.parametrize(
    ("environment", "connection"),
    [
        ({"DSN": "postgresql://u:p@h/d"}, "postgresql://u:p@h/d"),
        ({"HOST": "localhost", "NAME": "algotrendy"}, "postgresql://localhost:5432/algotrendy"),
        ({"HOST": "db", "PORT": "6432", "USER": "desk"}, "postgresql://desk@db:6432/debt_mgmt"),
        ({"HOST": "db", "USER": "a@b", "PASSWORD": "p/w:d"}, "postgresql://a%40b:p%2Fw%3Ad@db:5432/debt_mgmt"),
        ({"HOST": "::1"}, "postgresql://[::1]:5432/debt_mgmt"),
        ({"HOST": "/run/pg"}, "postgresql:///debt_mgmt?host=/run/pg&port=5432"),
    ],
)
def test_connection(environment: Mapping[str, str], connection: str) -> None:
    settings = read_settings(environment={f"DEBT_MGMT_DB_{name}": text for name, text in environment.items()})
    assert settings.database.connection() == connection


# The pages that are made from the settings


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_what_the_settings_say(name: str) -> None:
    assert (PROJECT / name).read_text("utf-8") == PAGES[name](), "run: make generate"


def test_the_example_file_says_what_the_defaults_say() -> None:
    example, default = read_settings(PROJECT / "config.example.yaml", NOTHING), read_settings(environment=NOTHING)
    assert set(example.origins) == set(CATALOGUE.by_path)
    assert msgspec.structs.replace(example, origins={}) == default


def test_the_example_environment_names_every_setting() -> None:
    lines = (PROJECT / ".env.example").read_text("utf-8").splitlines()
    given = dict(line.removeprefix("# ").split("=", 1) for line in lines if re.match(r"# [A-Z_]+=", line))
    assert set(given) == {*CATALOGUE.by_variable, *CATALOGUE.other_variables}
    uncommented = {name: text.strip("'") for name, text in given.items()}
    assert msgspec.structs.replace(read_settings(environment=uncommented), origins={}) == read_settings(
        environment=NOTHING
    )


# Every setting is read

SOURCES = sorted(
    path
    for folder in ("core/debt_mgmt/core", "server/debt_mgmt/server")
    for path in (PROJECT / folder).rglob("*.py")
    if not path.name.startswith("config")
)


def attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every `owner.name` that is read: the last word of the owner, and the name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = node.value
            yield (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")), node.attr


def unread_settings() -> list[str]:
    """Settings that no code asks their section for.

    Read means read off the section: `settings.server.address`, or `server.address` where `server` is a local name; one
    of any exchange also as `broker.enabled`. An equal name elsewhere does not count: a limit that is configured and
    never handed on protects nobody. What a method of a section reads counts once that method is used.
    """
    read = {found for path in SOURCES for found in attributes(ast.parse(path.read_text("utf-8")))}
    files = sorted((PROJECT / "server/debt_mgmt/server").glob("config*.py"))
    for part in (part for file in files for part in ast.parse(file.read_text("utf-8")).body):
        section = part.name.removesuffix("Section").lower() if isinstance(part, ast.ClassDef) else ""
        for method in ast.iter_child_nodes(part):
            if isinstance(method, ast.FunctionDef) and (section, method.name) in read:
                read |= {(section, name) for owner, name in attributes(method) if owner == "self"}
    unread = []
    for setting in CATALOGUE.settings:
        section, _, name = setting.path.rpartition(".")
        owners = {section.rpartition(".")[2].removesuffix("_settings")}
        owners |= {"broker"} if section.startswith("brokers.") else set()
        if all((owner, name) not in read for owner in owners):
            unread.append(setting.path)
    return unread


def test_every_setting_is_read_somewhere() -> None:
    assert unread_settings() == []


def test_every_section_is_one_of_the_settings() -> None:
    assert {path.partition(".")[0] for path, _ in every_section()} == {
        "risk_settings",
        "brokers",
        "sandbox",
        "server",
        "database",
        "prices",
        "notify",
    }
    assert all(isinstance(section, Section) for _, section in every_section())
