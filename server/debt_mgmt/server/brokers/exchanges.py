"""Makes the brokers and price feeds of exchanges: the only place that loads the client library, and only when asked."""

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.server.brokers.ccxt_broker import CcxtBroker
from debt_mgmt.server.brokers.ccxt_feed import CcxtFeed
from debt_mgmt.server.brokers.ccxt_link import Link
from debt_mgmt.server.brokers.credentials import Credentials, read_credentials
from debt_mgmt.server.brokers.listings import Listings
from debt_mgmt.server.brokers.profiles import PROFILES, Testnet, VenueProfile


class ExchangeSettings(msgspec.Struct, frozen=True):
    """What is configured of one exchange. `url`: another address than its own (http://host:port), a test bench."""

    enabled: bool = False
    testnet: bool = False
    url: str = ""


class Exchanges:
    """Every exchange that this service may reach. Accounts of the same venue share its markets and tiers."""

    def __init__(
        self,
        settings: Mapping[str, ExchangeSettings],
        environment: Mapping[str, str] = os.environ,
        client_config: Mapping[str, Any] | None = None,
    ) -> None:
        """`client_config` is given to every client beside our own, such as a session that knows the way."""
        self.settings = settings
        self.environment = environment
        self.client_config = client_config
        self.listings: dict[tuple[str, bool, str], Listings] = {}

    def setting(self, broker: str) -> ExchangeSettings:
        return self.settings.get(broker, ExchangeSettings())

    def problem(self, broker: str, environment: Environment) -> str:
        """Why no account of this kind can be kept there; empty where one can."""
        profile, setting = PROFILES.get(broker), self.setting(broker)
        if profile is None:
            return f"{broker} is not one of {', '.join(PROFILES)}"
        if not setting.enabled:
            return f"{broker} is not enabled: set brokers.{broker}.enabled"
        if environment is Environment.TESTNET and profile.testnet is Testnet.NONE:
            return f"{profile.display_name} has no test system: {profile.testnet_note}"
        if environment is Environment.SANDBOX:
            return "sandbox accounts are kept by this service itself"
        if setting.testnet is not (environment is Environment.TESTNET):
            kind = "its test system" if setting.testnet else "the exchange itself"
            return f"brokers.{broker}.testnet is {str(setting.testnet).lower()}: the configured key is for {kind}"
        return ""

    def symbols(self, broker: str) -> tuple[str, ...]:
        """Instruments by the house's names, as far as they were loaded."""
        known = [one for (name, _, _), one in self.listings.items() if name == broker and one.markets is not None]
        return tuple(sorted({symbol for one in known for symbol in (one.markets.by_house if one.markets else ())}))

    async def open(self, account: Account) -> CcxtBroker:
        """A connection of one account, not connected yet. Raises Denied where the credentials can't be used."""
        profile, testnet = PROFILES[account.broker], account.environment is Environment.TESTNET
        credentials = read_credentials(profile, self.environment)
        link = await self.link(profile, credentials, testnet)
        salt = f"{account.account_id} {account.created_at.isoformat()}"
        return CcxtBroker(link, self.listings_of(profile, testnet), salt=salt)

    async def feed(self, broker: str, environment: Environment) -> CcxtFeed:
        """The venue's public prices."""
        profile, testnet = PROFILES[broker], environment is Environment.TESTNET
        return CcxtFeed(await self.link(profile, None, testnet), self.listings_of(profile, testnet))

    async def link(self, profile: VenueProfile, credentials: Credentials | None, testnet: bool) -> Link:
        exchange = await asyncio.to_thread(exchange_class, profile.ccxt_id)
        return Link(
            profile,
            exchange,
            credentials,
            testnet=testnet,
            url=self.setting(profile.broker).url,
            client_config=self.client_config,
        )

    def listings_of(self, profile: VenueProfile, testnet: bool) -> Listings:
        key = (profile.broker, testnet, self.setting(profile.broker).url)
        return self.listings.setdefault(key, Listings())


def exchange_class(ccxt_id: str) -> Callable[[dict[str, Any]], Any]:
    """The client's class. The first call takes about a second and 100 MB: it loads the library."""
    found: Callable[[dict[str, Any]], Any] = getattr(importlib.import_module("ccxt.pro"), ccxt_id)
    return found
