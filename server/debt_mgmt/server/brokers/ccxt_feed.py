"""A venue's public prices: mark prices where it publishes them, else the last trade, marked as such."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from debt_mgmt.core.instrument import Instrument
from debt_mgmt.server.brokers.broker import Unreachable
from debt_mgmt.server.brokers.ccxt_link import Link, as_they_come
from debt_mgmt.server.brokers.ccxt_markets import Market, Markets
from debt_mgmt.server.brokers.ccxt_numbers import moment, price
from debt_mgmt.server.brokers.listings import Listings
from debt_mgmt.server.brokers.live import VenueMark
from debt_mgmt.server.brokers.profiles import MarkSource, VenueProfile
from debt_mgmt.server.brokers.venue_calls import together

ASK_SECONDS = 1.0
"""Where a push only says when to ask, a symbol is asked for no oftener than this."""


class CcxtFeed:
    """Prices of one venue. Needs no key."""

    def __init__(self, link: Link, listings: Listings) -> None:
        self.link = link
        self.listings = listings
        self.asked: dict[str, float] = {}

    @property
    def profile(self) -> VenueProfile:
        return self.link.profile

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        return await self.listings.instruments(self.link, symbols)

    async def marks(self, symbols: Sequence[str]) -> list[VenueMark]:
        markets = await self.listings.load(self.link)
        listed = [(symbol, markets.market(symbol)) for symbol in symbols]
        return await together(*(self.ask(symbol, market) for symbol, market in listed))

    async def ask(self, symbol: str, market: Market) -> VenueMark:
        """One mark by REST."""
        source = self.profile.mark_source
        async with self.link.asking() as client:
            if source is MarkSource.VALUATION:
                return await valuation(client, symbol, market)
            if source is MarkSource.MARK_PRICE:
                return self.read(symbol, await client.fetch_mark_price(market["symbol"]))
            return self.read(symbol, await client.fetch_ticker(market["symbol"]))

    def read(self, symbol: str, ticker: Mapping[str, Any]) -> VenueMark:
        """The mark in a ticker; raises Unreachable where it holds no price."""
        is_mark = self.profile.mark_source is not MarkSource.LAST_PRICE
        found = price(ticker.get("markPrice" if is_mark else "last"))
        if found is None:
            raise Unreachable(f"{symbol} has no {'mark price' if is_mark else 'last price'}", code="NO_PRICE")
        return VenueMark(symbol, found, is_mark, moment(ticker.get("timestamp")))

    async def watch(self, symbols: Sequence[str]) -> AsyncGenerator[VenueMark, None]:
        markets = await self.listings.load(self.link)
        async with self.link.asking():
            pushes = as_they_come(self.streams(markets, symbols))
            try:
                async for pushed in pushes:
                    for symbol, ticker in latest(markets, pushed).items():
                        if symbol not in symbols:
                            continue
                        mark = await self.pushed(symbol, markets.market(symbol), ticker)
                        if mark is not None:
                            yield mark
            finally:
                await pushes.aclose()

    def streams(self, markets: Markets, symbols: Sequence[str]) -> dict[Any, Callable[[], Awaitable[Any]]]:
        """One stream for each kind of market: Bybit has a socket for linear and one for inverse contracts."""
        client = self.link.client
        kinds: dict[bool, list[str]] = {}
        for symbol in symbols:
            market = markets.market(symbol)
            kinds.setdefault(bool(market.get("inverse")) and self.profile.broker == "bybit", []).append(
                market["symbol"]
            )
        watch = client.watch_mark_prices if self.profile.mark_source is MarkSource.MARK_PRICE else client.watch_tickers
        return {kind: functools.partial(watch, names) for kind, names in kinds.items()}

    async def pushed(self, symbol: str, market: Market, ticker: Mapping[str, Any]) -> VenueMark | None:
        """The mark that a push brings, or that it is time to ask for; None for a push that brings none."""
        source = self.profile.mark_source
        if source is MarkSource.VALUATION:
            await asyncio.sleep(max(0.0, self.asked.get(symbol, 0.0) + ASK_SECONDS - time.monotonic()))
            self.asked[symbol] = time.monotonic()
            return await valuation(self.link.client, symbol, market)
        name = "last" if source is MarkSource.LAST_PRICE else "markPrice"
        return None if price(ticker.get(name)) is None else self.read(symbol, ticker)

    async def close(self) -> None:
        await self.link.close()


async def valuation(client: Any, symbol: str, market: Market) -> VenueMark:
    """Crypto.com's mark price."""
    request = {"instrument_name": market["id"], "valuation_type": "mark_price", "count": 1}
    rows = (await client.v1PublicGetPublicGetValuations(request))["result"]["data"]
    found = price(rows[0]["v"]) if rows else None
    if found is None:
        raise Unreachable(f"{symbol} has no mark price", code="NO_PRICE")
    return VenueMark(symbol, found, True, moment(rows[0].get("t")))


def latest(markets: Markets, pushed: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
    """The newest ticker of each symbol in what was pushed."""
    named = ((markets.house(ticker.get("symbol")), ticker) for one in pushed for ticker in tickers_in(one))
    return {name: ticker for name, ticker in named if name is not None}


def tickers_in(pushed: Any) -> list[Mapping[str, Any]]:
    """A push is one ticker, or several by symbol."""
    if not isinstance(pushed, Mapping):
        return []
    if "info" in pushed:
        return [pushed]
    return [one for one in pushed.values() if isinstance(one, Mapping)]
