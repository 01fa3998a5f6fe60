"""What every broker is asked: place a reduce-only order once, and say what became of it."""

from decimal import Decimal
from typing import Protocol

import msgspec

from debt_mgmt.core.account import Environment, PositionSide, Side


class BrokerOrder(msgspec.Struct, frozen=True):
    """A market order. Its client order id is derived from the journal, so the same order always has the same id."""

    account_id: str
    environment: Environment
    client_order_id: str
    symbol: str
    position_side: PositionSide
    side: Side
    quantity: Decimal
    reduce_only: bool = True


class BrokerFill(msgspec.Struct, frozen=True):
    """What an order did: `fee` above zero was paid."""

    fill_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str


class StillOpen(msgspec.Struct, frozen=True):
    """The order is there and not filled yet."""


class BrokerFault(Exception):
    """A broker did not do what was asked."""


class Rejected(BrokerFault):
    """The broker refused the order: it is not there and will not be."""


class Ambiguous(BrokerFault):
    """The order was sent and nobody knows what became of it: look it up, do not send it again."""


class Unreachable(BrokerFault):
    """Nothing was sent: try again later."""


class Broker(Protocol):
    """One exchange, or its likeness."""

    async def place(self, order: BrokerOrder) -> BrokerFill:
        """Place the order and return its fill; raises Rejected, Ambiguous or Unreachable."""

    async def find(self, client_order_id: str) -> BrokerFill | StillOpen | None:
        """What became of an order; None where the broker never had it. Raises Unreachable."""
