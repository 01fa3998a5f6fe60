"""A broker whose requests are recorded instead of sent, over markets made by hand."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from debt_mgmt.core.account import Environment
from debt_mgmt.server.brokers.broker import BrokerFault
from debt_mgmt.server.brokers.ccxt_broker import CcxtBroker
from debt_mgmt.server.brokers.ccxt_markets import Markets
from debt_mgmt.server.brokers.exchanges import Exchanges, ExchangeSettings
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.brokers.rate_budget import RateBudget
from tests.support.broker_bench import VENUES, account_at, key_of

NOT_COMPARED = {"timestamp", "recvWindow", "signature", "nonce", "tag"}
"""Times, signatures, and the mark that the client library leaves on orders."""


class Request(msgspec.Struct, frozen=True):
    """A request as it would have left: host left out, parameters of query and body by name."""

    method: str
    path: str
    params: dict[str, Any]


def market(symbol: str, venue_id: str, *, inverse: bool = False, lot: str = "0.001", size: str = "1") -> dict[str, Any]:
    """A perpetual."""
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    family = venue_id.removesuffix("-SWAP")
    return {
        "id": venue_id,
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "settle": settle,
        "baseId": base,
        "quoteId": quote,
        "settleId": settle,
        "type": "swap",
        "spot": False,
        "margin": False,
        "swap": True,
        "future": False,
        "option": False,
        "contract": True,
        "linear": not inverse,
        "inverse": inverse,
        "active": True,
        "contractSize": size,
        "precision": {"amount": lot, "price": "0.1"},
        "limits": {"amount": {"min": lot}, "leverage": {}, "price": {}, "cost": {}},
        "info": {"instFamily": family, "orderTypes": ["LIMIT", "MARKET"]},
        "taker": "0.0005",
        "maker": "0.0002",
    }


MARKETS = {
    "bybit": [
        market("BTC/USDT:USDT", "BTCUSDT"),
        market("LTC/USDT:USDT", "LTCUSDT", lot="0.1"),
        market("BTC/USD:BTC", "BTCUSD", inverse=True, lot="1"),
    ],
    "binance": [market("BTC/USDT:USDT", "BTCUSDT"), market("LTC/USDT:USDT", "LTCUSDT")],
    "okx": [
        market("BTC/USDT:USDT", "BTC-USDT-SWAP", size="0.01"),
        market("LTC/USDT:USDT", "LTC-USDT-SWAP"),
        market("ADA/USDT:USDT", "ADA-USDT-SWAP", lot="1"),
        market("BTC/USD:BTC", "BTC-USD-SWAP", inverse=True, lot="1", size="100"),
    ],
}


class Recorder:
    """Answers by "METHOD /path", the longest part of it that is known; every request is kept."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.requests: list[Request] = []

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        parts = urlsplit(url)
        params: dict[str, Any] = dict(parse_qsl(parts.query))
        if body:
            text = body.decode() if isinstance(body, bytes) else body
            told = json.loads(text) if text[:1] in "{[" else dict(parse_qsl(text))
            params |= told[0] if isinstance(told, list) else told
        params = {name: value for name, value in params.items() if name not in NOT_COMPARED}
        self.requests.append(Request(method, parts.path, params))
        asked_for = f"{method} {parts.path}"
        known = [path for path in self.answers if path in asked_for]
        if not known:
            raise AssertionError(f"nobody expected {asked_for}")
        answer = self.answers[max(known, key=len)]
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def recorded(broker: str, answers: Mapping[str, Any]) -> AsyncIterator[tuple[CcxtBroker, Recorder]]:
    """A connected broker and what it asks."""
    about = VENUES[broker]
    exchanges = Exchanges({broker: ExchangeSettings(enabled=True)}, key_of(about.simulator(), about.profile))
    opened = await exchanges.open(account_at(broker, Environment.LIVE))
    recorder = Recorder(answers)
    client = opened.link.client
    client.fetch = recorder.fetch
    client.set_markets([dict(one) for one in MARKETS[broker]])
    opened.listings.markets = Markets(PROFILES[broker], client.markets)
    opened.link.budget = RateBudget(1e6, 1e6, 0.4)
    try:
        yield opened, recorder
    finally:
        await opened.close()


async def asked(broker: str, call: Callable[[CcxtBroker], Any], answers: Mapping[str, Any]) -> list[Request]:
    """The requests of one call; that the answers made by hand do not please it afterwards is no matter."""
    async with recorded(broker, answers) as (opened, recorder):
        with contextlib.suppress(BrokerFault):
            await call(opened)
    return recorder.requests
