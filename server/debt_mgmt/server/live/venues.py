"""Which venues can be reached from here: why not, where they can't, and connections to them, made when first needed."""

from typing import Protocol

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.server.brokers.live import LiveBroker, PriceFeed


class Venues(Protocol):
    """The way to the venues. Whoever asks for the first connection waits until the client library is loaded."""

    def problem(self, broker: str, environment: Environment) -> str:
        """Why no account can be kept there, in words; empty where one can."""

    def symbols(self, broker: str) -> tuple[str, ...]:
        """Instruments, by the house's names, that are known at once; others follow when they are held or named."""

    async def open(self, account: Account) -> LiveBroker:
        """A connection of one account, not connected yet. Raises Denied where the credentials can't be used."""

    async def feed(self, broker: str, environment: Environment) -> PriceFeed:
        """The venue's public prices."""


class NoVenues:
    """A service without exchanges."""

    def problem(self, broker: str, environment: Environment) -> str:
        return f"{broker} is not enabled: set brokers.{broker}.enabled"

    def symbols(self, broker: str) -> tuple[str, ...]:
        return ()

    async def open(self, account: Account) -> LiveBroker:
        raise AssertionError(f"account {account.account_id} is at {account.broker}, which is not enabled")

    async def feed(self, broker: str, environment: Environment) -> PriceFeed:
        raise AssertionError(f"{broker} is not enabled")
