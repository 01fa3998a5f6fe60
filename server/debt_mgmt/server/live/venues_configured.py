"""The exchanges of the settings: which of them accounts can be opened at, with a key from the environment or files."""

import os
from collections.abc import Mapping
from typing import Any

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.server.brokers.broker import Denied
from debt_mgmt.server.brokers.credentials import read_credentials
from debt_mgmt.server.brokers.exchanges import Exchanges, ExchangeSettings
from debt_mgmt.server.brokers.live import LiveBroker, PriceFeed
from debt_mgmt.server.brokers.profiles import PROFILES
from debt_mgmt.server.config import BrokerSection, BrokersSection


class ConfiguredVenues:
    """Connections as the settings have them. The client library is loaded by whoever asks for the first one."""

    def __init__(
        self,
        brokers: BrokersSection,
        environment: Mapping[str, str] = os.environ,
        client_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.environment = environment
        named: dict[str, BrokerSection] = {name: getattr(brokers, name) for name in brokers.__struct_fields__}
        self.named = {
            name: tuple(f"{name}:{symbol}" for symbol in broker.symbols.split(",")) if broker.symbols else ()
            for name, broker in named.items()
        }
        settings = {
            name: ExchangeSettings(broker.enabled, broker.testnet, broker.url or "") for name, broker in named.items()
        }
        self.exchanges = Exchanges(settings, environment, client_config)

    def problem(self, broker: str, environment: Environment) -> str:
        problem = self.exchanges.problem(broker, environment)
        if problem:
            return problem
        try:
            read_credentials(PROFILES[broker], self.environment)
        except Denied as denied:
            return f"{broker} has no key that can be used: {denied.words}"
        return ""

    def symbols(self, broker: str) -> tuple[str, ...]:
        return self.named[broker]

    async def open(self, account: Account) -> LiveBroker:
        return await self.exchanges.open(account)

    async def feed(self, broker: str, environment: Environment) -> PriceFeed:
        return await self.exchanges.feed(broker, environment)
