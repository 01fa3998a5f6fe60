"""The one place where errors of exchanges and of their client library become our faults; unknown ones stay errors."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

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
from debt_mgmt.server.brokers.venue_codes import CLASSES, CODES, STATUSES, Meaning

WORDS_MOST = 300
RATE_PAUSE_SECONDS = 5.0
"""How long to leave a venue alone that found us too busy and did not say for how long."""

RESTRICTED = re.compile(r"restricted (?:location|region)|your (?:country|region|location)|geo.?block", re.IGNORECASE)
ADDRESS = re.compile(r"(?:https?|wss?)://\S+")


class Heard(msgspec.Struct):
    """The last answer of a venue in one call; `status` 0: nothing was heard."""

    status: int = 0
    body: str = ""
    headers: Mapping[str, str] = {}

    @property
    def json(self) -> Any:
        """The answer read as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Unchanged(BrokerFault):
    """It was so already. The setters take it for success; nobody else sees it."""


def translate(broker: str, error: Exception, heard: Heard | None, *, writes: bool) -> BrokerFault:
    """The fault that an exception of the client library means.

    `heard` is the answer that it was made from; None where the answer was good and what followed failed.
    `writes`: the request may have changed something, so an outcome that nobody knows is Ambiguous, not Unreachable.
    """
    if isinstance(error, BrokerFault):
        return error
    code, words = code_and_words(broker, error, heard)
    meaning = meaning_of(broker, error, heard, code)
    shown = f"{broker}: {cleaned(words)}"
    match meaning:
        case Meaning.UNCHANGED:
            return Unchanged(shown, code=code)
        case Meaning.CREDENTIALS | Meaning.PERMISSION | Meaning.LOCATION:
            return Denied(shown, code=code, reason=DenialReason[meaning.name])
        case Meaning.NOT_POSSIBLE:
            return NotPossible(shown, code=code)
        case Meaning.RATE:
            return Unreachable(shown, code=code, retry_after_seconds=retry_after(heard))
        case Meaning.CLOCK | Meaning.UNAVAILABLE:
            return Unreachable(shown, code=code)
        case Meaning.DOUBTFUL:
            return Ambiguous(shown, code=code) if writes else Unreachable(shown, code=code)
        case _:
            return Rejected(shown, code=code, reason=RejectionReason[meaning.name])


def meaning_of(broker: str, error: Exception, heard: Heard | None, code: str) -> Meaning:
    """The code's own meaning first, then what HTTP says, then the class that the client library chose."""
    if (known := known_code(broker, code)) is not None:
        return known
    if heard is None:
        return class_meaning(error) or Meaning.DOUBTFUL
    if heard.status == 0:
        return unheard(error)
    if RESTRICTED.search(heard.body) and heard.status >= 400:
        return Meaning.LOCATION
    if heard.status in STATUSES:
        return STATUSES[heard.status]
    if heard.status == 403:
        return Meaning.RATE if broker in ("bybit", "binance") else Meaning.PERMISSION
    if heard.status >= 500 or heard.json is None:
        return Meaning.DOUBTFUL
    return class_meaning(error) or Meaning.DOUBTFUL


def unheard(error: Exception) -> Meaning:
    """Nothing came back. Where no connection was made, or the request could not even be written, nothing was sent."""
    meaning = class_meaning(error)
    if meaning is None:
        return Meaning.CREDENTIALS if isinstance(error, ValueError) else Meaning.OTHER
    if meaning is Meaning.DOUBTFUL and any(never_connected(cause) for cause in causes(error)):
        return Meaning.UNAVAILABLE
    return meaning


def never_connected(error: BaseException) -> bool:
    names = {one.__name__ for one in type(error).__mro__}
    return bool(names & {"ClientConnectorError", "ConnectionRefusedError", "gaierror", "ConnectionTimeoutError"})


def causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def known_code(broker: str, code: str) -> Meaning | None:
    """What our table says of a code. Kraken's grow suffixes: the longest beginning that is known counts."""
    codes = CODES[broker]
    if broker != "kraken":
        return codes.get(code)
    beginnings = [one for one in codes if code.startswith(one)]
    return codes[max(beginnings, key=len)] if beginnings else None


def class_meaning(error: Exception) -> Meaning | None:
    """By the nearest class of the client library; None for an exception that is not its own."""
    for one in type(error).__mro__:
        if one.__name__ in CLASSES and one.__module__.startswith("ccxt"):
            return CLASSES[one.__name__]
    return None


def code_and_words(broker: str, error: Exception, heard: Heard | None) -> tuple[str, str]:
    """The venue's code and words, from its answer, or from the text that the client library made of it."""
    heard = heard or Heard()
    answer = heard.json if heard.status else None
    if answer is None:
        answer = embedded(str(error))
    code, words = FINDERS[broker](answer) if isinstance(answer, dict) else ("", "")
    if not code and heard.status >= 400:
        code = f"HTTP {heard.status}"
        words = words or f"HTTP status {heard.status}"
    if not code:
        code = "" if type(error).__name__ == "ExchangeError" else type(error).__name__
    return code, words or str(error)


def says_no(broker: str, heard: Heard) -> bool:
    """Whether an answer that came with a good status carries a code of ours all the same."""
    answer = heard.json
    return isinstance(answer, dict) and known_code(broker, FINDERS[broker](answer)[0]) is not None


def embedded(text: str) -> Any:
    """The JSON that an exception's text carries behind the exchange's name."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        return json.loads(text[start:])
    except ValueError:
        return None


def bybit_code(answer: dict[str, Any]) -> tuple[str, str]:
    code = answer.get("retCode", answer.get("ret_code", 0))
    words = str(answer.get("retMsg", answer.get("ret_msg", "")))
    reasons = (answer.get("result") or {}).get("reasons") if isinstance(answer.get("result"), dict) else None
    told = [str(one.get("reasonMsg", "")) for one in reasons or () if isinstance(one, dict)]
    return ("" if str(code) == "0" else str(code)), "; ".join([words, *told])


def binance_code(answer: dict[str, Any]) -> tuple[str, str]:
    code = str(answer.get("code", ""))
    return ("" if code in ("", "0", "200") else code), str(answer.get("msg", ""))


def okx_code(answer: dict[str, Any]) -> tuple[str, str]:
    """A batch answers "1" and tells each item's own code inside."""
    for item in answer.get("data") or ():
        if isinstance(item, dict) and str(item.get("sCode", "0")) != "0":
            return str(item["sCode"]), str(item.get("sMsg", ""))
    code = str(answer.get("code", ""))
    return ("" if code in ("", "0") else code), str(answer.get("msg", ""))


def kraken_code(answer: dict[str, Any]) -> tuple[str, str]:
    errors = [str(one) for one in answer.get("error") or ()]
    return (errors[0] if errors else ""), "; ".join(errors)


def coinbase_code(answer: dict[str, Any]) -> tuple[str, str]:
    """Refused orders carry the reason in one of several fields; the one that says something counts."""
    found = answer.get("error_response") or answer
    if isinstance(answer.get("errors"), list) and answer["errors"] and isinstance(answer["errors"][0], dict):
        found = {"error": answer["errors"][0].get("id"), "message": answer["errors"][0].get("message")}
    for result in answer.get("results") or ():
        if isinstance(result, dict) and not result.get("success", True):
            found = result
    names = ("preview_failure_reason", "new_order_failure_reason", "failure_reason", "error", "code")
    said = [str(found[name]) for name in names if found.get(name)]
    codes = [one for one in said if not one.startswith("UNKNOWN_") or one == "UNKNOWN_CANCEL_ORDER"] or said
    words = [str(found[name]) for name in ("message", "error_details", "error_description") if found.get(name)]
    return (codes[0] if codes else ""), "; ".join(words) or (codes[0] if codes else "")


def cryptocom_code(answer: dict[str, Any]) -> tuple[str, str]:
    code = str(answer.get("code", ""))
    return ("" if code in ("", "0") else code), str(answer.get("message", ""))


FINDERS = {
    "bybit": bybit_code,
    "binance": binance_code,
    "okx": okx_code,
    "kraken": kraken_code,
    "coinbase": coinbase_code,
    "cryptocom": cryptocom_code,
}


def cleaned(words: str) -> str:
    """One short line; of addresses the part before the question mark, because signatures stand behind it."""

    def without_query(found: re.Match[str]) -> str:
        parts = urlsplit(found.group())
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    line = " ".join(ADDRESS.sub(without_query, words).split())
    return line if len(line) <= WORDS_MOST else line[: WORDS_MOST - 1] + "…"


def retry_after(heard: Heard | None) -> float:
    """Seconds that a venue asks for in its answer's header."""
    for name, value in (heard.headers if heard else {}).items():
        if name.lower() == "retry-after" and re.fullmatch(r"[0-9]{1,6}", value):
            return float(value)
    return RATE_PAUSE_SECONDS
