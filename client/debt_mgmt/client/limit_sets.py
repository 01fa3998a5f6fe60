"""Limit sets: limits of the nodes of the tree house, owner, account, strategy, instrument, and what is used of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from debt_mgmt.client.answers import Outcome
from debt_mgmt.client.call import Call, Pages, command, pages
from debt_mgmt.client.decimals import Number, optional_decimal
from debt_mgmt.client.enums import LimitMode
from debt_mgmt.client.figures import assign
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.risk import OrderRate, ProtectionStatus
from debt_mgmt.client.scope import Scope
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import risk_service_pb2 as pb


@dataclass(frozen=True, slots=True, init=False)
class NodeLimits:
    """Limits of a node. None: not limited. What counts is the sum of all that the node concerns.

    Notionals are in the set's currency. Of a limit that is 0 nothing can be opened.
    """

    max_leverage: Decimal | None
    """Of an order's position."""
    max_position_quantity: Decimal | None
    """Of one position with its open orders, in contracts."""
    max_position_notional: Decimal | None
    """Of one position with its open orders."""
    max_exposure_notional: Decimal | None
    """Sum of notionals of positions and open orders."""
    max_concurrent_positions: int | None
    max_open_reservations: int | None
    max_order_rate: OrderRate | None
    """Risk-adding orders per time."""

    def __init__(
        self,
        *,
        max_leverage: Number | None = None,
        max_position_quantity: Number | None = None,
        max_position_notional: Number | None = None,
        max_exposure_notional: Number | None = None,
        max_concurrent_positions: int | None = None,
        max_open_reservations: int | None = None,
        max_order_rate: OrderRate | None = None,
    ) -> None:
        assign(
            self,
            max_leverage=optional_decimal(max_leverage, "max_leverage"),
            max_position_quantity=optional_decimal(max_position_quantity, "max_position_quantity"),
            max_position_notional=optional_decimal(max_position_notional, "max_position_notional"),
            max_exposure_notional=optional_decimal(max_exposure_notional, "max_exposure_notional"),
            max_concurrent_positions=max_concurrent_positions,
            max_open_reservations=max_open_reservations,
            max_order_rate=max_order_rate,
        )


@dataclass(frozen=True, slots=True, init=False)
class LimitHours:
    """A part of the week, by the clocks of a time zone."""

    start_time: str
    """When it begins, HH:MM."""
    end_time: str
    """When it ends, HH:MM; 24:00 is the end of the day. Not after `start_time`: on the following day."""
    days: tuple[str, ...]
    """On which it begins: monday to sunday. Empty: every day."""
    time_zone: str | None
    """IANA name, such as Europe/Zurich. None: UTC."""

    def __init__(self, start_time: str, end_time: str, days: Sequence[str] = (), time_zone: str | None = None) -> None:
        if isinstance(days, str):
            raise TypeError("days must be a list of days, not one text")
        assign(self, start_time=start_time, end_time=end_time, days=tuple(days), time_zone=time_zone)


@dataclass(frozen=True, slots=True, init=False)
class LimitSet:
    """Limits of one node under one name. A node may have several: a standing one, and one for weekends."""

    scope: Scope
    limits: NodeLimits
    name: str | None
    """None: the node's standing set."""
    mode: LimitMode
    hours: tuple[LimitHours, ...]
    """When it is in force. Empty: always."""
    currency: str | None
    """Of the notionals. None: the account's own, only where the node is one account."""
    reason: str | None
    """Why it was set."""
    update_time: datetime | None
    """When it was set; the service fills it in."""

    def __init__(
        self,
        scope: Scope,
        limits: NodeLimits,
        *,
        name: str | None = None,
        mode: LimitMode | str = LimitMode.ENFORCED,
        hours: Sequence[LimitHours] = (),
        currency: str | None = None,
        reason: str | None = None,
        update_time: datetime | None = None,
    ) -> None:
        assign(
            self,
            scope=scope,
            limits=limits,
            name=name,
            mode=LimitMode(mode),
            hours=tuple(hours),
            currency=currency,
            reason=reason,
            update_time=update_time,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSetStatus:
    """A limit set and its use."""

    limit_set: LimitSet
    in_force: bool
    """False: it is outside its hours, and counts for nothing now."""
    protections: tuple[ProtectionStatus, ...]
    """Each of its limits once, with what is used and what is left."""
    account_count: int
    """Accounts that it concerns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutLimitSetOutcome(Outcome):
    """The limit set, or why not."""

    limit_set: LimitSetStatus | None
    """In force afterwards. None: there is none."""
    pending_change_id: str | None
    """The change that waits for a second person. None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLimitSetOutcome(Outcome):
    """The limit set taken away, or why not."""

    pending_change_id: str | None
    """The change that waits for a second person. None: none does."""


class LimitSetMethods(Methods):
    """Shows and sets the limits of every node of the tree."""

    @listing
    def limit_sets(self, *, concerning: Scope | None = None, timeout: Timeout = None) -> Pages[LimitSetStatus]:
        """Limit sets and what is used of each, from the house downwards.

        Only those that concern what `concerning` names: given an account, also those of its owner and of the house.
        """
        request = message(pb.ListLimitSetsRequest, concerning=concerning)
        return pages(self.raw.risk.ListLimitSets, request, lambda page: page.limit_sets, LimitSetStatus, timeout)

    @unary
    def put_limit_set(
        self,
        limit_set: LimitSet,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[PutLimitSetOutcome]:
        """Sets the limits of a node. The set takes the place of the one with the same scope and name.

        `reason` is kept in the audit; None: that of `limit_set`. Refused with NEEDS_SECOND_PERSON, nothing is changed
        until somebody else approves `pending_change_id`.
        """
        meant = replace(limit_set, reason=reason or limit_set.reason, update_time=None)
        request = message(pb.PutLimitSetRequest, request_id=request_id, limit_set=meant)
        return command(self.raw.risk.PutLimitSet, request, PutLimitSetOutcome, timeout)

    @unary
    def delete_limit_set(
        self,
        scope: Scope,
        name: str | None = None,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[DeleteLimitSetOutcome]:
        """Takes a limit set away; without `name`, the node's standing one."""
        request = message(pb.DeleteLimitSetRequest, request_id=request_id, scope=scope, name=name, reason=reason)
        return command(self.raw.risk.DeleteLimitSet, request, DeleteLimitSetOutcome, timeout)
