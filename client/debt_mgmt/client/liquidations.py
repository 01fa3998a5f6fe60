"""Reductions of positions, forced by the service or requested, step by step."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from debt_mgmt.client.answers import Outcome
from debt_mgmt.client.call import Call, Pages, command, pages
from debt_mgmt.client.decimals import Number, optional_decimal
from debt_mgmt.client.enums import (
    LiquidationCause,
    LiquidationState,
    LiquidationStepKind,
    LiquidationStepState,
    PositionSide,
    Side,
)
from debt_mgmt.client.figures import Fill, Mark
from debt_mgmt.client.methods import Methods, history, unary
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import margin_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class LiquidationStep:
    """One step of a reduction."""

    step: int
    """Number, from 1."""
    kind: LiquidationStepKind
    symbol: str
    position_side: PositionSide | None
    side: Side | None
    """Direction of the order. None for RELEASE."""
    quantity: Decimal
    """In contracts, to reduce or release."""
    reservation_id: str | None
    """Reservation released. None for REDUCE."""
    client_order_id: str | None
    """Order id sent to the broker. None for RELEASE."""
    state: LiquidationStepState
    failure: str | None
    """The broker's words when FAILED."""
    fills: tuple[Fill, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidation:
    """A planned reduction of positions and what came of it."""

    liquidation_id: str
    account_id: str
    cause: LiquidationCause
    state: LiquidationState
    state_reason: str | None
    """Why it is INCOMPLETE, or the reason given with close_position."""
    steps: tuple[LiquidationStep, ...]
    """In the order of doing."""
    utilization_before: Decimal | None
    """When it was planned. None also where equity was not above zero."""
    utilization_after: Decimal | None
    """When it ended. None while RUNNING, and where equity was not above zero."""
    marks: tuple[Mark, ...]
    """Prices that it was planned on."""
    bankruptcy_deficit: Decimal | None
    """Loss that nothing was left to pay for, above zero. None: none."""
    dry_run: bool
    """True: recorded only, nothing was sent."""
    create_time: datetime
    end_time: datetime | None
    """None while RUNNING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosePositionOutcome(Outcome):
    """The plan that closes a position and how far it is, or why there is none."""

    liquidation: Liquidation | None
    """The plan, with its fills so far. None when refused."""
    done: bool
    """True: it ended. False: it goes on; `liquidations` and `watch_margin` show its progress."""


class LiquidationMethods(Methods):
    """Closes positions and shows how positions were reduced."""

    @unary
    def close_position(
        self,
        account_id: str,
        symbol: str,
        *,
        position_side: PositionSide | str | None = None,
        quantity: Number | None = None,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[ClosePositionOutcome]:
        """Closes a position, or `quantity` contracts of it, through the account's broker with reduce-only orders."""
        request = message(
            pb.ClosePositionRequest,
            request_id=request_id,
            account_id=account_id,
            symbol=symbol,
            position_side=position_side,
            quantity=optional_decimal(quantity, "quantity"),
            reason=reason,
        )
        return command(self.raw.margin.ClosePosition, request, ClosePositionOutcome, timeout, "close")

    @history
    def liquidations(
        self,
        account_id: str | None = None,
        *,
        cause: LiquidationCause | str | None = None,
        state: LiquidationState | str | None = None,
        limit: int | None = None,
        timeout: Timeout = None,
    ) -> Pages[Liquidation]:
        """Reductions of positions, newest first; of all accounts that the caller may see, where none is named."""
        request = message(pb.ListLiquidationsRequest, account_id=account_id, cause=cause, state=state)
        send = self.raw.margin.ListLiquidations
        return pages(send, request, lambda page: page.liquidations, Liquidation, timeout, limit)
