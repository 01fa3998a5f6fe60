"""A live account at a simulated venue that falls: what it holds there, the prices that bring it to a utilisation."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

import msgspec

from debt_mgmt.core.account import Account
from debt_mgmt.core.margin import Summary, summarize
from debt_mgmt.core.venue import SyncStatus
from debt_mgmt.server.brokers.credentials import variable_of
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.config import read_settings
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.live.pace import Pace
from debt_mgmt.server.live.venues_configured import ConfiguredVenues
from debt_mgmt.v1 import account_service_pb2, types_pb2
from tests.support.service import Desk, service
from tests.support.venues.binance import BinanceSimulator
from tests.support.venues.bybit import BybitSimulator
from tests.support.venues.coinbase import CoinbaseSimulator
from tests.support.venues.cryptocom import CryptocomSimulator
from tests.support.venues.kraken import KrakenSimulator
from tests.support.venues.okx import OkxSimulator
from tests.support.venues.records import Leg, Order
from tests.support.venues.venue import VenueSimulator

D = Decimal

ACCOUNT = "alice"
FIVE = D(5)
EQUITY = D(100_000)
USED_AT_FIRST = D("0.6")
SHARES = (D("0.6"), D("0.4"))
"""How the margin is spread over bitcoin and ether."""

PACE = Pace(
    poll_seconds=0.5,
    mark_poll_seconds=1.0,
    connect_seconds=10.0,
    call_seconds=1.5,
    between_seconds=0.05,
    retry_seconds=0.05,
    backoff_seconds_min=0.05,
    backoff_seconds_max=0.5,
    quiet_seconds=3.0,
    look_seconds=0.1,
)
WAIT_SECONDS_MOST = 20.0


@dataclass(frozen=True)
class Place:
    """One venue: what is held there, and patterns of "METHOD /path" of its writing requests."""

    broker: str
    simulator: Callable[[], VenueSimulator]
    cash: str
    symbols: tuple[str, str]
    cancels: str
    orders: str
    reads: tuple[str, ...]
    """Patterns of every request that an account's state is read with."""
    leverage: Decimal = FIVE
    direction: int = 1
    """Long; or short, where at leverage 1 a falling price would not raise the utilisation."""


PLACES = {
    place.broker: place
    for place in (
        Place(
            "bybit",
            BybitSimulator,
            "USDT",
            ("BTCUSDT", "ETHUSDT"),
            "POST /v5/order/cancel",
            "POST /v5/order/create",
            ("wallet-balance", "account/info", "position/list", "order/realtime"),
        ),
        Place(
            "binance",
            BinanceSimulator,
            "USDT",
            ("BTCUSDT", "ETHUSDT"),
            "DELETE /fapi/v1/order",
            "POST /fapi/v1/order",
            ("v3/account", "v3/positionRisk", "symbolConfig", "openOrders"),
        ),
        Place(
            "okx",
            OkxSimulator,
            "USDT",
            ("BTC-USDT-SWAP", "ETH-USDT-SWAP"),
            "POST /api/v5/trade/cancel-order",
            "POST /api/v5/trade/(order|batch-orders)",
            ("account/balance", "account/positions", "orders-pending", "account/config"),
        ),
        Place(
            "kraken",
            KrakenSimulator,
            "USD",
            ("XXBTZUSD", "XETHZUSD"),
            "POST /0/private/CancelOrder",
            "POST /0/private/AddOrder",
            ("BalanceEx", "TradeBalance", "OpenPositions", "OpenOrders"),
        ),
        Place(
            "coinbase",
            CoinbaseSimulator,
            "USD",
            ("BIP-20DEC30-CDE", "ETP-20DEC30-CDE"),
            "POST /api/v3/brokerage/orders/batch_cancel",
            "POST /api/v3/brokerage/orders/close_position",
            ("brokerage/accounts", "balance_summary", "cfm/positions", "historical/batch"),
            leverage=D(1),
            direction=-1,
        ),
        Place(
            "cryptocom",
            CryptocomSimulator,
            "USD",
            ("BTCUSD-PERP", "ETHUSD-PERP"),
            "POST /exchange/v1/private/cancel-order",
            "POST /exchange/v1/private/create-order",
            ("user-balance", "get-positions", "get-open-orders"),
        ),
    )
}


class Fall:
    """A venue with an account that uses 60 % of its equity, and a service that watches it, life after life."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.venue = place.simulator()
        self.journal = MemoryJournal()
        self.first_marks: dict[str, Decimal] = {}
        self.furnish()
        self.adding, self.reducing = self.rest_orders()

    # The venue.

    def furnish(self) -> None:
        """Money, and two positions."""
        book = self.venue.book
        book.deposit(self.place.cash, EQUITY)
        for symbol, share in zip(self.place.symbols, SHARES, strict=True):
            listing, mark = book.listing(symbol), book.mark(symbol)
            self.first_marks[symbol] = mark
            book.leverage[symbol, Leg.NET] = self.place.leverage
            notional = EQUITY * USED_AT_FIRST * share * self.place.leverage
            lots = notional / (mark * listing.contract_size * listing.lot)
            book.hold(symbol, self.place.direction * lots.to_integral_value(ROUND_DOWN) * listing.lot)

    def rest_orders(self) -> tuple[Order, Order]:
        """An order that would add to the first position, and one that takes profit on it: both far from the price."""
        book, symbol = self.venue.book, self.place.symbols[0]
        listing, mark = book.listing(symbol), book.mark(symbol)
        long = self.place.direction > 0
        lent = self.place.leverage if self.place.broker == "kraken" else None
        size = max(listing.lot, listing.smallest)
        low, high = mark / 5, mark * 5
        adding = book.place(symbol, long, size, price=low if long else high, leverage=lent)
        reducing = book.place(symbol, not long, size, price=high if long else low, reduce_only=True, leverage=lent)
        return adding, reducing

    def move(self, share: Decimal) -> None:
        """Move every price against the account by a share of what it was at first."""
        for symbol in self.place.symbols:
            tick = self.venue.book.listing(symbol).tick
            price = self.first_marks[symbol] * (1 - self.place.direction * share)
            self.venue.set_mark(symbol, (price / tick).to_integral_value(ROUND_DOWN) * tick)

    def writes(self) -> list[str]:
        """What was asked of the venue that changes something there, in order: cancel or order."""
        told = []
        for asked in self.venue.requests:
            line = f"{asked.method} {asked.path}"
            if re.fullmatch(self.place.cancels, line):
                told.append("cancel")
            elif re.fullmatch(self.place.orders, line):
                told.append("order")
        return told

    def executed(self) -> list[tuple[str, Decimal]]:
        """The fills of orders of the service, in order: symbol and contracts. No id is there twice."""
        trades = [trade for trade in self.venue.book.trades if trade.client_order_id]
        names = [trade.client_order_id for trade in trades]
        assert len(names) == len(set(names)), f"an order was executed twice: {names}"
        assert all(self.venue.book.orders[trade.order_id].reduce_only for trade in trades)
        return [(trade.symbol, trade.quantity) for trade in trades]

    # The service.

    @asynccontextmanager
    async def life(self, **flags: str) -> AsyncIterator[Desk]:
        """The service on the same journal, until it is killed: whatever it was about to do stays undone."""
        profile = PROFILES[self.place.broker]
        given = {"enabled": "true", "testnet": "false", "url": self.venue.url}
        named = {f"brokers.{self.place.broker}.{name}": value for name, value in given.items()}
        settings = read_settings(environment={}, flags=named)
        parts = {"apiKey": self.venue.key, "secret": self.venue.secret, "password": self.venue.passphrase}
        keys = {variable_of(profile, part): parts[part.ccxt_name] for part in profile.credentials}
        flags = {
            "prices__deviation_guard": "5",
            "risk_settings__default_leverage": "5",
            "server__drain_seconds": "0",
            **flags,
        }
        venues = ConfiguredVenues(settings.brokers, keys)
        self.journal.down = False
        async with service(None, journal=self.journal, clock=None, venues=venues, pace=PACE, **flags) as desk:
            try:
                yield desk
            finally:
                self.journal.down = True
                await desk.engine.reductions.stop()
                await desk.engine.live.stop()

    async def open(self, desk: Desk, *, dry_run: bool = False) -> None:
        """The account of the venue, known to the house and priced."""
        await desk.accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id="create",
                account_id=ACCOUNT,
                broker=self.place.broker,
                environment=types_pb2.ENVIRONMENT_LIVE,
                currency=self.place.cash,
                dry_run=dry_run,
            )
        )
        await until(lambda: self.is_known(desk), "the account was never read and priced")
        assert len(account_of(desk).positions) == 2

    def is_known(self, desk: Desk) -> bool:
        return is_fresh(desk) and summarize(account_of(desk), desk.engine.world()).known

    def utilization_at(self, desk: Desk, share: Decimal) -> Decimal:
        """What the house would say if prices had moved by a share; above everything where nothing is left."""
        account, world = account_of(desk), desk.engine.world()
        marks = dict(world.marks)
        for house in {position.symbol for position in account.positions.values()}:
            price = self.first_marks[self.venue_symbol(house)] * (1 - self.place.direction * share)
            marks[house] = msgspec.structs.replace(marks[house], price=price)
        found: Summary = summarize(account, msgspec.structs.replace(world, marks=marks))
        return found.used / found.equity if found.equity > 0 else D(10**6)

    def share_for(self, desk: Desk, utilization: Decimal) -> Decimal:
        """The smallest move, to a tenth of a per mille, at which the utilisation is reached."""
        low, high = D(0), D(3)
        while high - low > D("0.0001"):
            middle = (low + high) / 2
            low, high = (low, middle) if self.utilization_at(desk, middle) >= utilization else (middle, high)
        return high

    async def fall_to(self, desk: Desk, utilization: Decimal) -> None:
        self.move(self.share_for(desk, utilization))

    def planned(self) -> list[tuple[str, Decimal]]:
        """The steps of every reduction in the journal, in order: the venue's instrument and contracts."""
        found: list[tuple[str, Decimal]] = []
        for row in (row for shard in range(1, 9) for row in self.journal.rows(shard)):
            told: Any = msgspec.json.decode(row.payload)
            if row.kind in ("ReductionStarted", "ReductionExtended"):
                steps = told.get("reduction", told)["steps"]
                found += [(self.venue_symbol(step["symbol"]), D(step["quantity"])) for step in steps]
        return found

    def venue_symbol(self, house: str) -> str:
        """The venue's name of one of the two instruments."""
        return self.place.symbols[0 if house.partition(":")[2].startswith("BTC") else 1]


def is_fresh(desk: Desk) -> bool:
    sync = account_of(desk).sync
    return sync is not None and sync.status is SyncStatus.FRESH


def account_of(desk: Desk) -> Account:
    return desk.engine.account(ACCOUNT)


async def until(holds: Callable[[], Any], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + WAIT_SECONDS_MOST
    while not holds():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)
