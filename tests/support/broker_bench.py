"""A broker and its price feed at a simulated venue, through the real client: one bench for each of the six."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from debt_mgmt.core.account import Account, Environment, MarginMode, PositionMode, PositionSide, Side
from debt_mgmt.server.brokers.broker import BrokerOrder
from debt_mgmt.server.brokers.ccxt_broker import CcxtBroker
from debt_mgmt.server.brokers.ccxt_feed import CcxtFeed
from debt_mgmt.server.brokers.credentials import variable_of
from debt_mgmt.server.brokers.exchanges import Exchanges, ExchangeSettings
from debt_mgmt.server.brokers.profiles import PROFILES, VenueProfile
from debt_mgmt.server.brokers.rate_budget import RateBudget
from tests.support.venues.binance import BinanceSimulator
from tests.support.venues.bybit import BybitSimulator
from tests.support.venues.coinbase import CoinbaseSimulator
from tests.support.venues.cryptocom import CryptocomSimulator
from tests.support.venues.kraken import KrakenSimulator
from tests.support.venues.okx import OkxSimulator
from tests.support.venues.records import Leg, Position
from tests.support.venues.venue import VenueSimulator

D = Decimal
OPENED = datetime(2026, 1, 5, 12, tzinfo=UTC)
TIMEOUT_MILLISECONDS = 10_000


@dataclass(frozen=True)
class Venue:
    """What tests need to know of one venue: names of an instrument in the house and there, and a size to trade."""

    broker: str
    simulator: Callable[[], VenueSimulator]
    cash: str
    linear: tuple[str, str]
    size: Decimal
    inverse: tuple[str, str] | None = None
    orders_path: str = ""
    """Where "METHOD /path" of a request that places an order is recognised."""
    state_path: str = ""

    @property
    def profile(self) -> VenueProfile:
        return PROFILES[self.broker]


VENUES = {
    venue.broker: venue
    for venue in (
        Venue(
            "bybit",
            BybitSimulator,
            "USDT",
            ("bybit:BTCUSDT", "BTCUSDT"),
            D("0.5"),
            ("bybit:BTCUSD", "BTCUSD"),
            "POST /v5/order/create",
            "GET /v5/account/wallet-balance",
        ),
        Venue(
            "binance",
            BinanceSimulator,
            "USDT",
            ("binance:BTCUSDT", "BTCUSDT"),
            D("0.5"),
            None,
            "POST /fapi/v1/order",
            "GET /fapi/v3/account",
        ),
        Venue(
            "okx",
            OkxSimulator,
            "USDT",
            ("okx:BTCUSDT", "BTC-USDT-SWAP"),
            D("50"),
            ("okx:BTCUSD", "BTC-USD-SWAP"),
            "POST /api/v5/trade/batch-orders",
            "GET /api/v5/account/balance",
        ),
        Venue(
            "kraken",
            KrakenSimulator,
            "USD",
            ("kraken:BTCUSD", "XXBTZUSD"),
            D("0.5"),
            None,
            "POST /0/private/AddOrder",
            "POST /0/private/BalanceEx",
        ),
        Venue(
            "coinbase",
            CoinbaseSimulator,
            "USD",
            ("coinbase:BTCUSD", "BIP-20DEC30-CDE"),
            D("50"),
            None,
            "POST /api/v3/brokerage/orders/close_position",
            "GET /api/v3/brokerage/accounts",
        ),
        Venue(
            "cryptocom",
            CryptocomSimulator,
            "USD",
            ("cryptocom:BTCUSD", "BTCUSD-PERP"),
            D("0.5"),
            None,
            "POST /exchange/v1/private/create-order",
            "POST /exchange/v1/private/user-balance",
        ),
    )
}


@dataclass
class Bench:
    """A venue with an account of 100,000, and a connection to it."""

    about: Venue
    venue: VenueSimulator
    broker: CcxtBroker
    feed: CcxtFeed

    @property
    def symbol(self) -> str:
        return self.about.linear[0]

    def hold(self, quantity: Decimal, symbol: str = "", leg: Leg = Leg.NET) -> Position:
        """A position opened elsewhere."""
        name = symbol or self.about.linear[1]
        if isinstance(self.venue, KrakenSimulator):
            return self.venue.hold(name, quantity, D(2))
        return self.venue.book.hold(name, quantity, leg)

    def order(
        self,
        quantity: Decimal,
        side: Side = Side.SELL,
        client_order_id: str = "liq-1-7-1",
        position_side: PositionSide = PositionSide.NET,
        symbol: str = "",
    ) -> BrokerOrder:
        return BrokerOrder(
            "alice", Environment.LIVE, client_order_id, symbol or self.symbol, position_side, side, quantity
        )

    @contextlib.contextmanager
    def hasty(self, seconds: float = 1.0) -> Iterator[None]:
        """Answers are waited for no longer than this."""
        clients = (self.broker.link.client, self.feed.link.client)
        for client in clients:
            client.timeout = seconds * 1000
        try:
            yield
        finally:
            for client in clients:
                client.timeout = TIMEOUT_MILLISECONDS

    def orders_asked(self) -> int:
        """How many requests that place an order arrived."""
        return len(self.venue.asked(self.about.orders_path + "$"))


def key_of(venue: VenueSimulator, profile: VenueProfile) -> dict[str, str]:
    """The environment that holds the key which the simulator knows."""
    values = {"apiKey": venue.key, "secret": venue.secret, "password": venue.passphrase}
    return {variable_of(profile, part): values[part.ccxt_name] for part in profile.credentials}


def account_at(broker: str, environment: Environment = Environment.LIVE) -> Account:
    return Account(
        account_id="alice",
        owner="alice",
        broker=broker,
        environment=environment,
        currency="USD",
        position_mode=PositionMode.ONE_WAY,
        margin_mode=MarginMode.CROSS,
        created_at=OPENED,
    )


def exchanges_of(
    venue: VenueSimulator, about: Venue, environment: Mapping[str, str] | None = None, **config: Any
) -> Exchanges:
    key = key_of(venue, about.profile) if environment is None else environment
    config = {"timeout": TIMEOUT_MILLISECONDS} | config
    return Exchanges({about.broker: ExchangeSettings(enabled=True, url=venue.url)}, key, config)


@contextlib.asynccontextmanager
async def bench_of(
    about: Venue,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[Bench], None] = lambda bench: None,
) -> AsyncIterator[Bench]:
    """A bench with a connected broker and its feed; `prepare` furnishes the venue before anybody asks it."""
    venue = about.simulator()
    venue.book.deposit(about.cash, D(100_000))
    async with venue:
        exchanges = exchanges_of(venue, about, environment)
        broker = await exchanges.open(account_at(about.broker))
        feed = await exchanges.feed(about.broker, Environment.LIVE)
        for link in (broker.link, feed.link):
            link.budget = RateBudget(1e6, 1e6, 0.4)
            link.client.timeout_on_exit = 5
        bench = Bench(about, venue, broker, feed)
        try:
            prepare(bench)
            await broker.connect()
            yield bench
        finally:
            await feed.close()
            await broker.close()
