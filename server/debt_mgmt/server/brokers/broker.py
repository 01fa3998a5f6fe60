"""What every broker is asked: place a reduce-only order once, and say what became of it."""

from decimal import Decimal
from enum import StrEnum
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
    """A broker did not do what was asked. `code` is the venue's own, `words` are its own words where it has any."""

    def __init__(self, words: str, *, code: str = "") -> None:
        super().__init__(f"{words} (code {code})" if code else words)
        self.words = words
        self.code = code


class RejectionReason(StrEnum):
    """What kind of refusal it was, in the house's words."""

    INVALID = "INVALID"
    """What was asked is malformed or out of range: asking again is of no use."""
    PRECONDITION = "PRECONDITION"
    """The account is not in a state for it: an open position, open orders, a closed market."""
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    NOTHING_TO_REDUCE = "NOTHING_TO_REDUCE"
    """A reduce-only order found no position: it is flat already."""
    DUPLICATE = "DUPLICATE"
    """An order with this client order id is there already."""
    NOT_FOUND = "NOT_FOUND"
    OTHER = "OTHER"
    """A refusal whose code is not in our tables; the code says which."""


class Rejected(BrokerFault):
    """The broker refused: what was asked has not been done and will not be."""

    def __init__(self, words: str, *, code: str = "", reason: RejectionReason = RejectionReason.OTHER) -> None:
        super().__init__(words, code=code)
        self.reason = reason


class Ambiguous(BrokerFault):
    """The request was sent and nobody knows what became of it: look it up, do not send it again."""


class Unreachable(BrokerFault):
    """Nothing was sent or executed: try again later, not before `retry_after_seconds` where that is known."""

    def __init__(self, words: str, *, code: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(words, code=code)
        self.retry_after_seconds = retry_after_seconds


class DenialReason(StrEnum):
    CREDENTIALS = "CREDENTIALS"
    """The key is missing, malformed, unknown, expired or its signature wrong."""
    PERMISSION = "PERMISSION"
    """The key is good and may not do this, or the account is frozen."""
    LOCATION = "LOCATION"
    """The venue does not serve where the request comes from."""


class Denied(BrokerFault):
    """The broker does not let us: nothing was done, and until a person changes something nothing will be."""

    def __init__(self, words: str, *, code: str = "", reason: DenialReason = DenialReason.PERMISSION) -> None:
        super().__init__(words, code=code)
        self.reason = reason


class NotPossible(BrokerFault):
    """This broker has no such thing; nothing was sent. `words` say why, as the capability matrix does."""


class Broker(Protocol):
    """One exchange, or its likeness."""

    async def place(self, order: BrokerOrder) -> BrokerFill:
        """Place the order and return its fill; raises Rejected, Denied, Ambiguous or Unreachable."""

    async def find(self, client_order_id: str, symbol: str) -> BrokerFill | StillOpen | None:
        """What became of an order; None where the broker never had it.

        Raises Unreachable or Denied where nobody can tell, and Rejected for an order that ended without any fill.
        """
