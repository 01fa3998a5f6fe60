"""What one venue lists, shared by its connections: markets are loaded once, tiers again when they are old."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from debt_mgmt.core.instrument import Instrument, Tier
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.ccxt_markets import Markets, instrument_of, read_tiers

TIERS_SECONDS = 3600.0
"""How long risk tiers count as known."""


class Listings:
    """The markets and tiers of one venue, or of its test system."""

    def __init__(self) -> None:
        self.source: Any = None
        """The client whose markets were loaded first; the others share them."""
        self.markets: Markets | None = None
        self.tiers: dict[str, tuple[tuple[Tier, ...], float]] = {}
        self.loading = asyncio.Lock()

    async def load(self, link: Link) -> Markets:
        """The markets, given to the link's client too."""
        async with self.loading:
            if self.markets is None:
                async with link.asking() as client:
                    listed = await client.load_markets()
                    self.markets = Markets(link.profile, listed)
                    self.source = client
            elif not link.client.markets:
                link.client.set_markets_from_exchange(self.source)
        return self.markets

    async def instruments(self, link: Link, symbols: Sequence[str]) -> list[Instrument]:
        """Terms and tiers of these; tiers that are old are read again."""
        markets = await self.load(link)
        for symbol in symbols:
            markets.market(symbol)
        now = time.monotonic()
        missing = [one for one in symbols if one not in self.tiers or now - self.tiers[one][1] > TIERS_SECONDS]
        for name, tiers in (await read_tiers(link, markets, missing)).items():
            self.tiers[name] = (tiers, now)
        return [
            instrument_of(link.profile, symbol, markets.market(symbol), self.tiers[symbol][0]) for symbol in symbols
        ]
