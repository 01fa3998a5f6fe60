"""Keys come from the environment or from files, are checked for their form before use, and are never shown."""

import asyncio
import base64
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from debt_mgmt.core.account import Environment
from debt_mgmt.server.brokers.broker import BrokerFault, DenialReason, Denied, NotPossible
from debt_mgmt.server.brokers.credentials import has_credentials, read_credentials, variable_of
from debt_mgmt.server.brokers.exchanges import Exchanges, ExchangeSettings
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.brokers.rate_budget import RateBudget
from tests.support.broker_bench import VENUES, Venue, account_at, bench_of, exchanges_of, key_of
from tests.support.venues.venue import FaultKind

CANARY = "canary7secret7never7to7be7seen"
GOOD = {
    "BYBIT_API_KEY": "key",
    "BYBIT_API_SECRET": "secret",
    "OKX_API_KEY": "key",
    "OKX_API_SECRET": "secret",
    "OKX_PASSPHRASE": "phrase",
    "KRAKEN_API_KEY": "key",
    "KRAKEN_API_SECRET": base64.b64encode(b"0123456789abcdef").decode(),
    "COINBASE_API_KEY": "organizations/one/apiKeys/two",
    "COINBASE_API_SECRET": "-----BEGIN EC PRIVATE KEY-----\\nMHcCAQEE\\n-----END EC PRIVATE KEY-----\\n",
}


@pytest.mark.parametrize("broker", ["bybit", "okx", "kraken", "coinbase"])
def test_a_key_is_read_part_by_part(broker: str) -> None:
    found = read_credentials(PROFILES[broker], GOOD)
    assert set(found.parts) == {part.ccxt_name for part in PROFILES[broker].credentials}
    assert has_credentials(PROFILES[broker], GOOD)


def test_the_line_ends_of_a_private_key_may_be_written_out() -> None:
    secret = read_credentials(PROFILES["coinbase"], GOOD).revealed()["secret"]
    assert secret == "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n"


def test_a_file_holds_a_part_as_well_as_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    environment = {"BYBIT_API_KEY": "key", "BYBIT_API_SECRET_FILE": str(file)}
    assert read_credentials(PROFILES["bybit"], environment).revealed()["secret"] == "from-a-file"
    assert has_credentials(PROFILES["bybit"], environment)


@pytest.mark.parametrize(
    ("broker", "changes", "problem"),
    [
        ("bybit", {"BYBIT_API_KEY": ""}, "BYBIT_API_KEY is not set"),
        ("okx", {"OKX_PASSPHRASE": ""}, "OKX_PASSPHRASE is not set"),
        ("bybit", {"BYBIT_API_SECRET": f"{CANARY} {CANARY}"}, "BYBIT_API_SECRET must be one word"),
        ("bybit", {"BYBIT_API_SECRET_FILE": "/no/such/file"}, "are both set"),
        ("bybit", {"BYBIT_API_SECRET": "", "BYBIT_API_SECRET_FILE": "/no/such/file"}, "FileNotFoundError"),
        ("kraken", {"KRAKEN_API_SECRET": f"{CANARY}!"}, "KRAKEN_API_SECRET must be base64"),
        ("kraken", {"KRAKEN_API_SECRET": "c2hvcnQ="}, "at least 16 bytes"),
        ("coinbase", {"COINBASE_API_SECRET": CANARY}, "must be a private key in PEM"),
        ("coinbase", {"COINBASE_API_SECRET": f"-----BEGIN EC PRIVATE KEY----- {CANARY}"}, "private key in PEM"),
    ],
)
def test_a_key_of_the_wrong_form_is_refused_without_being_shown(
    broker: str, changes: dict[str, str], problem: str
) -> None:
    with pytest.raises(Denied, match=problem) as denied:
        read_credentials(PROFILES[broker], GOOD | changes)
    assert denied.value.reason is DenialReason.CREDENTIALS
    assert CANARY not in str(denied.value)


def test_every_missing_part_is_named_at_once() -> None:
    with pytest.raises(Denied) as denied:
        read_credentials(PROFILES["okx"], {})
    for part in PROFILES["okx"].credentials:
        assert variable_of(PROFILES["okx"], part) in denied.value.words
    assert not has_credentials(PROFILES["okx"], {})


def canary_key(about: Venue) -> dict[str, str]:
    """A key of the right form that the venue does not know."""
    venue = about.simulator()
    key = key_of(venue, about.profile)
    for part in about.profile.credentials:
        name = variable_of(about.profile, part)
        if about.broker == "kraken" and part.ccxt_name == "secret":
            key[name] = base64.b64encode(CANARY.encode()).decode()
        elif about.broker != "coinbase" or part.ccxt_name != "secret":
            key[name] = CANARY + part.suffix.lower()
    return key


@pytest.mark.parametrize("about", list(VENUES.values()), ids=lambda one: one.broker)
async def test_no_part_of_a_key_is_in_a_log_a_repr_or_an_error(
    about: Venue, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("ccxt").setLevel(logging.DEBUG)
    key = canary_key(about)
    said: list[str] = []
    venue = about.simulator()
    async with venue:
        exchanges = exchanges_of(venue, about, key)
        broker = await exchanges.open(account_at(about.broker))
        broker.link.budget = RateBudget(1e6, 1e6, 0.4)
        try:
            for kind in (None, FaultKind.BAD_KEY, FaultKind.SERVER_ERROR, FaultKind.HTML, FaultKind.CUT_BEFORE):
                if kind is not None:
                    venue.fault("", kind, times=None)
                for call in (broker.connect, broker.state, broker.cancel_all):
                    try:
                        await call()
                    except (BrokerFault, AssertionError) as fault:
                        said += [str(fault), repr(fault), "".join(traceback.format_exception(fault))]
                venue.mend()
            said += [repr(broker), repr(broker.link), repr(broker.link.credentials), repr(exchanges)]
        finally:
            await broker.close()
    assert any("Denied" in one for one in said), "the venue must have looked at the key"
    out, err = capfd.readouterr()
    everything = "\n".join([*said, caplog.text, out, err])
    for secret in key.values():
        assert secret not in everything
        assert secret.strip().splitlines()[-1] not in everything or about.broker == "coinbase"


async def test_the_client_library_has_no_say_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench_of(VENUES["okx"]) as bench:
        await bench.broker.state()
        assert not any(record.name.startswith("ccxt") for record in caplog.records)
        assert bench.venue.passphrase not in caplog.text


def test_credentials_do_not_show_themselves() -> None:
    found = read_credentials(PROFILES["bybit"], GOOD | {"BYBIT_API_SECRET": CANARY})
    assert CANARY not in f"{found} {found!r}"
    assert found.hidden(f"signed with {CANARY}") == "signed with <secret>"


# Test systems.


@pytest.mark.parametrize("broker", ["kraken", "coinbase", "cryptocom"])
async def test_a_test_system_that_is_not_there_is_refused_and_never_called(broker: str) -> None:
    exchanges = Exchanges({broker: ExchangeSettings(enabled=True, testnet=True)}, key_of_any(broker))
    assert "has no test system" in exchanges.problem(broker, Environment.TESTNET)
    with pytest.raises(NotPossible, match="has no test system"):
        await exchanges.open(account_at(broker, Environment.TESTNET))


def key_of_any(broker: str) -> dict[str, str]:
    return key_of(VENUES[broker].simulator(), PROFILES[broker])


@pytest.mark.parametrize(
    ("broker", "host"), [("bybit", "api-testnet.bybit.com"), ("binance", "demo-fapi.binance.com"), ("okx", "okx.com")]
)
async def test_a_test_system_is_another_address_or_another_header(broker: str, host: str) -> None:
    exchanges = Exchanges({broker: ExchangeSettings(enabled=True, testnet=True)}, key_of_any(broker))
    assert exchanges.problem(broker, Environment.TESTNET) == ""
    opened = await exchanges.open(account_at(broker, Environment.TESTNET))
    try:
        assert host in str(addresses(opened.link.client))
        if broker == "okx":
            assert opened.link.client.headers == {"x-simulated-trading": "1"}
    finally:
        await opened.close()


def addresses(client: Any) -> Any:
    hostname = client.hostname
    return str(client.urls["api"]).replace("{hostname}", hostname or "")


def test_an_account_must_be_of_the_kind_that_the_key_is_for() -> None:
    exchanges = Exchanges({"bybit": ExchangeSettings(enabled=True, testnet=True), "okx": ExchangeSettings()}, {})
    assert "testnet is true" in exchanges.problem("bybit", Environment.LIVE)
    assert exchanges.problem("bybit", Environment.TESTNET) == ""
    assert "okx is not enabled" in exchanges.problem("okx", Environment.LIVE)
    assert "is not one of" in exchanges.problem("nosuch", Environment.LIVE)


async def test_prices_need_no_key() -> None:
    about = VENUES["bybit"]
    venue = about.simulator()
    async with venue:
        feed = await exchanges_of(venue, about, {}).feed("bybit", Environment.LIVE)
        try:
            (mark,) = await feed.marks(["bybit:BTCUSDT"])
            (instrument,) = await feed.instruments(["bybit:BTCUSDT"])
        finally:
            await feed.close()
    assert mark.price == venue.book.mark("BTCUSDT")
    assert instrument.symbol == "bybit:BTCUSDT"
    assert not any("X-BAPI-API-KEY" in asked.headers for asked in venue.requests)


async def test_accounts_of_a_venue_share_its_markets() -> None:
    about = VENUES["bybit"]
    venue = about.simulator()
    async with venue:
        exchanges = exchanges_of(venue, about)
        first, second = await asyncio.gather(*(exchanges.open(account_at("bybit")) for _ in range(2)))
        try:
            await asyncio.gather(first.connect(), second.connect())
            assert first.markets() is second.markets()
            await second.state()
            assert len(venue.asked("instruments-info")) == 4, "linear and inverse, listed and ahead, once"
        finally:
            await asyncio.gather(first.close(), second.close())
