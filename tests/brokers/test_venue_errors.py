"""The table of errors, row by row: what the client library really raises for a code, and what we make of it."""

import json
from typing import Any

import ccxt
import ccxt.pro
import pytest

from debt_mgmt.server.brokers.broker import (
    Ambiguous,
    BrokerFault,
    DenialReason,
    Denied,
    NotPossible,
    Rejected,
    RejectionReason,
    Unreachable,
)
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.brokers.venue_codes import CLASSES, CODES, Meaning
from debt_mgmt.server.brokers.venue_errors import Heard, Unchanged, translate

URLS = {
    "bybit": "https://api.bybit.com/v5/position/set-leverage",
    "binance": "https://fapi.binance.com/fapi/v1/leverage",
    "okx": "https://www.okx.com/api/v5/account/set-leverage",
    "kraken": "https://api.kraken.com/0/private/AddOrder",
    "coinbase": "https://api.coinbase.com/api/v3/brokerage/orders",
    "cryptocom": "https://api.crypto.com/exchange/v1/private/create-order",
}


def body_of(broker: str, code: str, words: str = "the venue's own words") -> str:
    """An answer that carries a code, as the venue writes it."""
    bodies: dict[str, Any] = {
        "bybit": {"retCode": int(code) if code.lstrip("-").isdigit() else code, "retMsg": words, "result": {}},
        "binance": {"code": int(code) if code.lstrip("-").isdigit() else code, "msg": words},
        "okx": {"code": "1", "data": [{"sCode": code, "sMsg": words}], "msg": ""},
        "kraken": {"error": [code]},
        "coinbase": {"error": code, "message": words, "error_details": ""},
        "cryptocom": {"id": 1, "method": "private/x", "code": int(code) if code.isdigit() else code, "message": words},
    }
    return json.dumps(bodies[broker])


def raised_by_ccxt(broker: str, status: int, body: str) -> Exception:
    """What the client's own `handle_errors` makes of an answer."""
    client = getattr(ccxt, PROFILES[broker].ccxt_id)()
    try:
        parsed = client.parse_json(body)
        client.handle_errors(status, "reason", URLS[broker], "POST", {}, body, parsed, {}, "")
        client.handle_http_status_code(status, "reason", URLS[broker], "POST", body)
    except ccxt.BaseError as error:
        found: Exception = error
        return found
    raise AssertionError(f"{broker}: ccxt took {status} {body} for good")


def translated(broker: str, status: int, body: str, *, writes: bool = True) -> BrokerFault:
    error = raised_by_ccxt(broker, status, body)
    return translate(broker, error, Heard(status, body), writes=writes)


def kind_of(fault: BrokerFault) -> str:
    """The class and the reason in a word."""
    reason = getattr(fault, "reason", None)
    return f"{type(fault).__name__} {reason.value}" if reason is not None else type(fault).__name__


# Codes that the client library files under a wrong class, or under none.
TABLE = """
    bybit 110043 Unchanged · bybit 110025 Unchanged · bybit 110026 Unchanged · bybit 110027 Unchanged
    bybit 110013 Rejected INVALID · bybit 110024 Rejected PRECONDITION · bybit 110028 Rejected PRECONDITION
    bybit 10016 Ambiguous · bybit 10000 Ambiguous · bybit 3400045 Rejected PRECONDITION
    bybit 10002 Unreachable · bybit 10003 Denied CREDENTIALS · bybit 10005 Denied PERMISSION · bybit 10006 Unreachable
    bybit 110007 Rejected INSUFFICIENT_FUNDS · bybit 110017 Rejected NOTHING_TO_REDUCE · bybit 110072 Rejected DUPLICATE
    bybit 110001 Rejected NOT_FOUND · bybit 10024 Denied LOCATION
    binance -4059 Unchanged · binance -4046 Unchanged · binance -4161 Rejected PRECONDITION
    binance -4047 Rejected PRECONDITION · binance -4048 Rejected PRECONDITION · binance -4067 Rejected PRECONDITION
    binance -4068 Rejected PRECONDITION · binance -4061 Rejected PRECONDITION · binance -2027 Rejected PRECONDITION
    binance -2028 Rejected PRECONDITION · binance -4028 Rejected INVALID · binance -1007 Ambiguous
    binance -2015 Denied CREDENTIALS · binance -2019 Rejected INSUFFICIENT_FUNDS
    binance -2022 Rejected NOTHING_TO_REDUCE · binance -2018 Rejected INSUFFICIENT_FUNDS
    binance -4164 Rejected INVALID · binance -1021 Unreachable · binance -2013 Rejected NOT_FOUND
    binance -4116 Rejected DUPLICATE
    okx 59100 Rejected PRECONDITION · okx 59101 Rejected PRECONDITION · okx 59107 Rejected PRECONDITION
    okx 59102 Rejected INVALID · okx 59104 Rejected INVALID · okx 59105 Rejected INVALID · okx 59106 Rejected INVALID
    okx 59109 Rejected INVALID · okx 51039 Rejected INVALID · okx 59103 Rejected INSUFFICIENT_FUNDS
    okx 59108 Rejected INSUFFICIENT_FUNDS · okx 51169 Rejected NOTHING_TO_REDUCE · okx 50119 Denied CREDENTIALS
    okx 50120 Denied PERMISSION · okx 50100 Denied PERMISSION · okx 50040 Unreachable · okx 50061 Unreachable
    okx 51016 Rejected DUPLICATE · okx 50004 Ambiguous · okx 50001 Ambiguous
    cryptocom 306 Rejected INSUFFICIENT_FUNDS · cryptocom 201 Rejected NOTHING_TO_REDUCE
    cryptocom 226 Rejected INVALID · cryptocom 304 Rejected PRECONDITION · cryptocom 204 Rejected DUPLICATE
    cryptocom 40101 Denied CREDENTIALS
    cryptocom 40102 Unreachable · cryptocom 42901 Unreachable · cryptocom 316 Rejected NOT_FOUND
    cryptocom 10001 Ambiguous · cryptocom 40801 Ambiguous
    coinbase UNAUTHENTICATED Denied CREDENTIALS · coinbase PERMISSION_DENIED Denied PERMISSION
    coinbase INSUFFICIENT_FUND Rejected INSUFFICIENT_FUNDS · coinbase RESOURCE_EXHAUSTED Unreachable
    coinbase INVALID_ARGUMENT Rejected INVALID · coinbase INTERNAL Ambiguous
"""
KRAKEN = """
    EOrder:Insufficient margin = Rejected PRECONDITION · EOrder:Margin allowance exceeded = Rejected PRECONDITION
    EOrder:Margin level too low = Rejected PRECONDITION · EOrder:Cannot open position = Rejected PRECONDITION
    EOrder:Reduce only:No position exists = Rejected NOTHING_TO_REDUCE · EAPI:Invalid signature = Denied CREDENTIALS
    EAPI:Invalid key = Denied CREDENTIALS · EGeneral:Permission denied = Denied PERMISSION
    EGeneral:Temporary lockout = Unreachable · EAPI:Rate limit exceeded = Unreachable
    EOrder:Rate limit exceeded = Unreachable · EService:Timeout = Ambiguous · EService:Deadline elapsed = Ambiguous
    EAPI:Invalid nonce = Unreachable · EOrder:Unknown order = Rejected NOT_FOUND
    EOrder:Insufficient funds (insufficient user funds) = Rejected INSUFFICIENT_FUNDS
    EGeneral:Invalid arguments:leverage = Rejected INVALID
"""


def rows_in(table: str) -> list[str]:
    return [row.strip() for row in table.replace("\n", "·").split("·") if row.strip()]


ROWS = [
    *((broker, code, " ".join(expected)) for broker, code, *expected in map(str.split, rows_in(TABLE))),
    *(("kraken", *row.split(" = ")) for row in rows_in(KRAKEN)),
]


@pytest.mark.parametrize(("broker", "code", "expected"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_a_code_means_what_the_table_says(broker: str, code: str, expected: str) -> None:
    fault = translated(broker, 400 if broker == "binance" else 200, body_of(broker, code))
    assert kind_of(fault) == expected
    assert fault.code == code
    if broker not in ("kraken", "coinbase"):
        assert "the venue's own words" in fault.words


@pytest.mark.parametrize(("broker", "code"), [("bybit", "10016"), ("binance", "-1007"), ("okx", "50004")])
def test_what_only_reads_is_never_doubtful(broker: str, code: str) -> None:
    assert isinstance(translated(broker, 200, body_of(broker, code), writes=False), Unreachable)


@pytest.mark.parametrize("broker", list(PROFILES))
def test_a_code_that_is_in_no_table_stays_a_refusal_with_that_code(broker: str) -> None:
    code = "ESomething:Never seen" if broker == "kraken" else "NEVER_SEEN" if broker == "coinbase" else "987654"
    fault = translated(broker, 200, body_of(broker, code))
    assert kind_of(fault) == "Rejected OTHER"
    assert fault.code == code


STATUSES = [
    (429, "", "Unreachable", "Unreachable"),
    (418, "", "Unreachable", "Unreachable"),
    (451, "", "Denied LOCATION", "Denied LOCATION"),
    (401, "Unauthorized", "Denied CREDENTIALS", "Denied CREDENTIALS"),
    (500, "", "Ambiguous", "Unreachable"),
    (502, "<html>bad gateway</html>", "Ambiguous", "Unreachable"),
    (503, "", "Ambiguous", "Unreachable"),
    (504, "<html>gateway timeout</html>", "Ambiguous", "Unreachable"),
    (200, "<html>maintenance</html>", "Ambiguous", "Unreachable"),
    (403, "<p>blocked: service unavailable from a restricted location</p>", "Denied LOCATION", "Denied LOCATION"),
]


@pytest.mark.parametrize(("status", "body", "written", "read"), STATUSES)
@pytest.mark.parametrize("broker", list(PROFILES))
def test_an_answer_that_is_no_json_is_judged_by_its_status(
    broker: str, status: int, body: str, written: str, read: str
) -> None:
    error = ccxt.ExchangeNotAvailable(f"{broker} POST https://host/path?signature=abc {status} {body}")
    assert kind_of(translate(broker, error, Heard(status, body), writes=True)) == written
    fault = translate(broker, error, Heard(status, body), writes=False)
    assert kind_of(fault) == read
    assert "signature" not in str(fault)


def test_an_ip_ban_of_bybit_is_a_rate_and_not_a_place() -> None:
    fault = translate("bybit", ccxt.RateLimitExceeded("bybit"), Heard(403, "access too frequent"), writes=True)
    assert isinstance(fault, Unreachable)
    assert fault.retry_after_seconds is not None


def test_the_venue_says_how_long_to_stay_away() -> None:
    heard = Heard(429, "", {"Retry-After": "17"})
    fault = translate("binance", ccxt.DDoSProtection("binance 429"), heard, writes=True)
    assert isinstance(fault, Unreachable)
    assert fault.retry_after_seconds == 17


# What was never answered.


def test_no_connection_means_that_nothing_was_sent() -> None:
    error = ccxt.ExchangeNotAvailable("bybit POST https://api.bybit.com/v5/order/create")
    error.__cause__ = ConnectionRefusedError()
    assert isinstance(translate("bybit", error, Heard(), writes=True), Unreachable)


@pytest.mark.parametrize("error", [ccxt.RequestTimeout("bybit"), ccxt.NetworkError("cut"), ccxt.BadResponse("half")])
def test_a_request_without_an_answer_is_doubtful(error: Exception) -> None:
    assert isinstance(translate("bybit", error, Heard(), writes=True), Ambiguous)
    assert isinstance(translate("bybit", error, Heard(), writes=False), Unreachable)


def test_a_key_that_cannot_sign_is_a_matter_of_credentials() -> None:
    fault = translate("kraken", ValueError("Incorrect padding"), Heard(), writes=True)
    assert kind_of(fault) == "Denied CREDENTIALS"


def test_what_the_client_cannot_do_is_not_possible() -> None:
    assert isinstance(translate("kraken", ccxt.NotSupported("kraken"), Heard(), writes=True), NotPossible)


def test_an_answer_that_is_not_understood_is_no_answer() -> None:
    assert isinstance(translate("okx", KeyError("data"), None, writes=False), Unreachable)
    assert isinstance(translate("okx", KeyError("data"), None, writes=True), Ambiguous)


def test_nothing_unchanged_reaches_a_caller_as_an_error_of_another_kind() -> None:
    fault = translated("bybit", 200, body_of("bybit", "110043", "leverage not modified"))
    assert isinstance(fault, Unchanged)
    assert not isinstance(fault, (Rejected, Unreachable, Ambiguous, Denied))


# The tables themselves.


def test_every_class_of_the_client_library_has_a_meaning() -> None:
    def below(one: type[Any]) -> list[type[Any]]:
        children: list[type[Any]] = one.__subclasses__()
        return [one, *(deeper for child in children for deeper in below(child))]

    for one in below(ccxt.BaseError):
        if one.__module__.startswith("ccxt"):
            assert any(ancestor.__name__ in CLASSES for ancestor in one.__mro__), one


def test_every_meaning_has_a_fault() -> None:
    for meaning in Meaning:
        if meaning.name in RejectionReason.__members__:
            continue
        assert meaning.name in DenialReason.__members__ or meaning in (
            Meaning.UNCHANGED,
            Meaning.RATE,
            Meaning.CLOCK,
            Meaning.UNAVAILABLE,
            Meaning.DOUBTFUL,
            Meaning.NOT_POSSIBLE,
        )


def test_every_venue_has_a_table() -> None:
    assert set(CODES) == set(PROFILES)
