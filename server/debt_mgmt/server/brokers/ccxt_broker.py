"""One account at an exchange, through ccxt: one broker for all six, with a profile for what is different."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from decimal import Decimal

from debt_mgmt.core.account import Environment, MarginMode, PositionSide
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.venue import VenueBalance, VenueState
from debt_mgmt.server.brokers.broker import BrokerFill, BrokerOrder, NotPossible, Rejected, StillOpen
from debt_mgmt.server.brokers.ccxt_leverage import Leverage
from debt_mgmt.server.brokers.ccxt_link import Link, as_they_come
from debt_mgmt.server.brokers.ccxt_markets import Markets
from debt_mgmt.server.brokers.ccxt_orders import Orders
from debt_mgmt.server.brokers.ccxt_state import read_loans, read_state
from debt_mgmt.server.brokers.ccxt_trades import Trades
from debt_mgmt.server.brokers.listings import Listings
from debt_mgmt.server.brokers.profiles import Feature, VenueProfile


class CcxtBroker:
    """A LiveBroker. Symbols are the house's names; every error leaves as a BrokerFault."""

    def __init__(self, link: Link, listings: Listings, *, salt: str) -> None:
        """`salt` makes our order ids differ from those of another house at the same venue account."""
        assert link.credentials is not None
        self.link = link
        self.listings = listings
        self.salt = salt
        self.settings = Leverage(link, self.markets)
        self.orders = Orders(link, self.markets, salt, self.settings.chosen)
        self.seen: set[str] = set()
        """Symbols of which the account had a position or an order when it was last read."""
        self.traded: set[str] = set()
        """Symbols that had one at any time, or were traded through this connection."""

    @property
    def profile(self) -> VenueProfile:
        return self.link.profile

    def markets(self) -> Markets:
        assert self.listings.markets is not None, "connect first"
        return self.listings.markets

    async def connect(self) -> None:
        """Measure the clock and load the markets. The first `state` proves the key."""
        await self.link.measure_clock()
        await self.listings.load(self.link)

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        if not symbols:
            await self.state()
        return await self.listings.instruments(self.link, symbols or sorted(self.seen))

    async def state(self, fills_since: datetime | None = None) -> VenueState:
        trades = None if fills_since is None else Trades(fills_since, frozenset(self.traded), self.salt)
        found = await read_state(self.link, self.markets(), trades)
        self.seen = {one.symbol for one in found.positions} | {one.symbol for one in found.orders}
        self.traded |= self.seen
        for position in found.positions:
            if position.margin_mode is not None:
                self.settings.modes[position.symbol] = position.margin_mode
        return found

    async def changes(self) -> AsyncGenerator[None, None]:
        capability = self.profile.capability(Feature.ACCOUNT_STREAM)
        if not capability.supported:
            raise NotPossible(capability.note)
        async with self.link.asking() as client:
            pushes = as_they_come({"positions": client.watch_positions, "orders": client.watch_orders})
            try:
                async for _ in pushes:
                    yield None
            finally:
                await pushes.aclose()

    async def place(self, order: BrokerOrder) -> BrokerFill:
        self.check(order)
        self.traded.add(order.symbol)
        return await self.orders.place(order)

    def check(self, order: BrokerOrder) -> None:
        """An order of another world, or one that could add risk, never leaves."""
        expected = Environment.TESTNET if self.link.testnet else Environment.LIVE
        if order.environment is not expected:
            raise Rejected(f"a {order.environment.value} order at a connection for {expected.value} accounts")
        if not order.reduce_only:
            raise Rejected("only reduce-only orders are carried out here")

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        return await self.orders.find(client_order_id, symbol)

    async def cancel(self, symbol: str, order_id: str) -> bool:
        return await self.orders.cancel(symbol, order_id)

    async def cancel_all(self) -> int:
        return await self.orders.cancel_all()

    async def set_leverage(self, symbol: str, leverage: Decimal) -> Decimal:
        return await self.settings.set(symbol, leverage)

    async def set_margin_mode(self, symbol: str, mode: MarginMode, leverage: Decimal) -> MarginMode:
        return await self.settings.set_mode(symbol, mode, leverage)

    async def adjust_isolated_margin(self, symbol: str, side: PositionSide, amount: Decimal) -> None:
        await self.settings.adjust_margin(symbol, side, amount)

    async def loans(self) -> tuple[VenueBalance, ...]:
        return await read_loans(self.link)

    async def borrow(self, asset: str, amount: Decimal) -> None:
        await self.settings.borrow(asset, amount)

    async def repay(self, asset: str, amount: Decimal) -> None:
        await self.settings.repay(asset, amount)

    async def close(self) -> None:
        await self.link.close()
