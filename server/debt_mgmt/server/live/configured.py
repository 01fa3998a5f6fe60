"""The exchanges of the settings: which are enabled and have a key, and the client library, loaded when first needed."""

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.server.brokers.credentials import has_credentials, read_credentials, variable_of
from debt_mgmt.server.brokers.live import LiveBroker, PriceFeed
from debt_mgmt.server.brokers.profiles import PROFILES, Testnet
from debt_mgmt.server.config import BrokerSection, BrokersSection

WITH_CCXT = "debt_mgmt.server.brokers.ccxt_broker"
"""Imported in a thread when a live account or a feed first asks for a connection: it takes about a second."""


class ConfiguredVenues:
    """Connections as the settings have them, with keys from the environment or from files."""

    def __init__(
        self,
        brokers: BrokersSection,
        clock: Callable[[], datetime],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.brokers = brokers
        self.clock = clock
        self.environment = environment

    def section(self, broker: str) -> BrokerSection:
        section = getattr(self.brokers, broker)
        assert isinstance(section, BrokerSection)
        return section

    def problem(self, broker: str, environment: Environment) -> str:
        profile = PROFILES.get(broker)
        if profile is None:
            return f"{broker} is no exchange: {', '.join(PROFILES)} are"
        section = self.section(broker)
        if not section.enabled:
            return f"{broker} is not enabled: set brokers.{broker}.enabled"
        if environment is Environment.TESTNET and profile.testnet is Testnet.NONE:
            return f"{broker} has no test network: {profile.testnet_note}"
        if environment is Environment.TESTNET and not section.testnet:
            return f"the key of {broker} is one for real money: brokers.{broker}.testnet is off"
        if environment is Environment.LIVE and section.testnet:
            return f"the key of {broker} is one of its test network: brokers.{broker}.testnet is on"
        if not has_credentials(profile, self.environment):
            names = " and ".join(variable_of(profile, part) for part in profile.credentials)
            return f"{broker} has no key: set {names}"
        return ""

    def symbols(self, broker: str) -> tuple[str, ...]:
        named = self.section(broker).symbols
        return tuple(f"{broker}:{symbol}" for symbol in named.split(",")) if named else ()

    async def open(self, account: Account) -> LiveBroker:
        profile = PROFILES[account.broker]
        credentials = read_credentials(profile, self.environment)
        library = await asyncio.to_thread(importlib.import_module, WITH_CCXT)
        section = self.section(account.broker)
        broker: LiveBroker = library.broker_of(
            profile,
            credentials,
            testnet=account.environment is Environment.TESTNET,
            url=section.url or "",
            clock=self.clock,
        )
        return broker

    async def feed(self, broker: str, environment: Environment) -> PriceFeed:
        library = await asyncio.to_thread(importlib.import_module, WITH_CCXT)
        section = self.section(broker)
        feed: PriceFeed = library.feed_of(
            PROFILES[broker], testnet=environment is Environment.TESTNET, url=section.url or "", clock=self.clock
        )
        return feed
