"""What is asked of an exchange beyond orders: its state, its instruments and marks, leverage, margin and loans."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from debt_mgmt.core.account import MarginMode, PositionSide
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.venue import VenueBalance, VenueState
from debt_mgmt.server.brokers.broker import Broker
from debt_mgmt.server.brokers.profiles import VenueProfile


class LiveBroker(Broker, Protocol):
    """One account at one exchange. Symbols are the house's names (`bybit:BTCUSDT`); quantities are contracts.

    Every call raises a BrokerFault and nothing else: Unreachable, Ambiguous, Rejected, Denied or NotPossible. A call
    that only reads is never Ambiguous. A number that the venue did not give is None, never zero.
    """

    @property
    def profile(self) -> VenueProfile: ...

    async def connect(self) -> None:
        """Load the markets, measure the clock's offset and prove the key. May be called again after a fault."""

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        """The terms and tiers of these instruments; of those that the account holds or has orders in, when empty.

        Raises Rejected (INVALID) for a name that the venue does not trade.
        """

    async def state(self, fills_since: datetime | None = None) -> VenueState:
        """The whole account as the venue's REST interface tells it; with its trades since a time, if one is given."""

    def changes(self) -> AsyncGenerator[None, None]:
        """Yields whenever the venue pushes that the account changed, with no content: read `state` then.

        To be closed when it is no longer listened to. Raises Unreachable when the connection drops, and NotPossible
        where the venue pushes nothing.
        """

    async def set_leverage(self, symbol: str, leverage: Decimal) -> Decimal:
        """Set the leverage once and read it back; "not modified" is success. Returns what the venue now says."""

    async def set_margin_mode(self, symbol: str, mode: MarginMode, leverage: Decimal) -> MarginMode:
        """Set the margin mode once; `leverage` is the symbol's own, which some venues want with it."""

    async def adjust_isolated_margin(self, symbol: str, side: PositionSide, amount: Decimal) -> None:
        """Post more margin (above zero) on an isolated position, or take some back."""

    async def cancel(self, symbol: str, order_id: str) -> bool:
        """Cancel by the venue's order id; False where the order was gone already."""

    async def cancel_all(self) -> int:
        """Cancel every open order; returns how many there were."""

    async def loans(self) -> tuple[VenueBalance, ...]:
        """Balances and debts of a margin wallet that backs no position here (Binance).

        Empty where the venue has one wallet: its debts are in `state`.
        """

    async def borrow(self, asset: str, amount: Decimal) -> None:
        """Borrow once. Never repeated here: after Ambiguous, the next `state` shows whether it happened."""

    async def repay(self, asset: str, amount: Decimal) -> None: ...

    async def close(self) -> None: ...


class VenueMark(msgspec.Struct, frozen=True):
    """A price of a venue. `is_mark_price` False: the last trade, because the venue publishes no mark."""

    symbol: str
    price: Decimal
    is_mark_price: bool
    at: datetime | None
    """When the venue made it; None where it does not say."""


class PriceFeed(Protocol):
    """Public prices of one exchange: needs no key."""

    @property
    def profile(self) -> VenueProfile: ...

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        """The terms of these instruments, where the venue tells them without a key."""

    async def marks(self, symbols: Sequence[str]) -> list[VenueMark]:
        """The present marks by REST. A symbol without a price raises Unreachable: it is never left out in silence."""

    def watch(self, symbols: Sequence[str]) -> AsyncGenerator[VenueMark, None]:
        """Marks as they are pushed; raises Unreachable when the connection drops."""

    async def close(self) -> None: ...
