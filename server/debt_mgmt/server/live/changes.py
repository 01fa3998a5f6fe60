"""Carries leverage, margin mode and isolated margin to the venue: asked once, looked up where the answer was lost."""

import asyncio
import logging
from decimal import Decimal
from typing import TYPE_CHECKING

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Account, MarginMode, position_key
from debt_mgmt.core.margin import leverage_of
from debt_mgmt.core.money import text
from debt_mgmt.core.venue import VenueChange, VenueChangeKind, VenueState
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.brokers.broker import Ambiguous, BrokerFault, Unreachable
from debt_mgmt.server.brokers.live import LiveBroker

if TYPE_CHECKING:
    from debt_mgmt.server.live.supervisor import Supervisor

logger = logging.getLogger(__name__)

DRY_RUN = "DRY_RUN"
NOT_CONFIRMED = "NOT_CONFIRMED"
NOT_SENT = "NOT_SENT"
"""Codes of refusals that are this service's own, not the venue's."""

Value = Decimal | MarginMode | None


class Changes:
    """The pending changes of one account. They are in its state, so a restart knows them, but not how far they got."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self.supervisor = supervisor
        self.engine = supervisor.engine
        self.doubtful = {one.change_id for one in supervisor.account.pending.values()}
        """Changes that may be at the venue: it is asked what it has before it is told anything."""
        self.sent: set[str] = set()
        """Changes that were sent in this life: none is sent again."""
        self.posted: dict[str, Decimal] = {}
        """Change of posted margin → what was posted before it was sent."""

    async def carry_out(self, broker: LiveBroker) -> None:
        """Bring every pending change to an end, or find out that it has to wait. Raises Unreachable."""
        for change in tuple(self.supervisor.account.pending.values()):
            if change.change_id in self.doubtful:
                await self.look_up(broker, change)
            else:
                await self.send(broker, change)

    async def send(self, broker: LiveBroker, change: VenueChange) -> None:
        """Ask the venue once. What it answers ends the change; a lost answer leaves it open."""
        account = self.supervisor.account
        if account.dry_run:
            return await self.refuse(change, DRY_RUN, "dry run: nothing was sent")
        waited = (self.engine.clock() - change.requested_at).total_seconds()
        most = self.supervisor.pace.pending_seconds_most
        if waited > most:
            return await self.refuse(change, NOT_SENT, f"the venue was not reached within {most:g} s: nothing was sent")
        if change.kind is VenueChangeKind.ISOLATED_MARGIN:
            before = in_force(await self.state(broker), change)
            if isinstance(before, Decimal):
                self.posted[change.change_id] = before
        self.sent.add(change.change_id)
        try:
            async with asyncio.timeout(self.supervisor.pace.call_seconds):
                value = await asked(broker, change, self.leverage_of(account, change.symbol))
        except Unreachable:
            self.sent.discard(change.change_id)
            raise
        except (Ambiguous, TimeoutError) as fault:
            logger.warning(
                "change %s of %s: no answer (%s); it is looked up", change.change_id, account.account_id, fault
            )
            self.doubtful.add(change.change_id)
            return await self.look_up(broker, change)
        except BrokerFault as fault:
            return await self.refuse(change, fault.code, fault.words)
        await self.end(change, value)

    def leverage_of(self, account: Account, symbol: str) -> Decimal:
        return leverage_of(account, self.engine.risk, symbol)

    async def look_up(self, broker: LiveBroker, change: VenueChange) -> None:
        """Ask what is in force. A change that was sent in this life is given some time to show, and never sent again.

        One that an earlier life may have sent is sent now where the venue shows that it is not in force. Posted margin
        is not: a second time would add to the first.
        """
        pace, shown = self.supervisor.pace, ""
        sent = change.change_id in self.sent
        for look in range(pace.looks if sent else 1):
            if look:
                await asyncio.sleep(pace.look_seconds)
            value = in_force(await self.state(broker), change)
            if self.is_done(change, value):
                self.doubtful.discard(change.change_id)
                return await self.end(change, value)
            shown = f"the venue shows {spelled(value)}"
        self.doubtful.discard(change.change_id)
        if sent or change.kind is VenueChangeKind.ISOLATED_MARGIN:
            return await self.refuse(change, NOT_CONFIRMED, f"the answer was lost, and {shown}")
        await self.send(broker, change)

    async def state(self, broker: LiveBroker) -> VenueState:
        return await self.supervisor.answered(broker.state(), "looking up a change", self.supervisor.pace.call_seconds)

    def is_done(self, change: VenueChange, value: Value) -> bool:
        """Whether what is in force is what was asked for. Posted margin moves with fees, so nearer is near enough."""
        match change.kind:
            case VenueChangeKind.LEVERAGE:
                return value == change.leverage
            case VenueChangeKind.MARGIN_MODE:
                return value is change.margin_mode
            case VenueChangeKind.ISOLATED_MARGIN:
                before = self.posted.get(change.change_id)
                if before is None or not isinstance(value, Decimal):
                    return False
                return abs(value - before - change.amount) < abs(change.amount) / 2

    async def end(self, change: VenueChange, value: Value) -> None:
        """Record what is in force now, which a venue may have made something else than was asked for."""
        self.posted.pop(change.change_id, None)
        await self.record(
            c.RecordVenueOutcome(
                change.change_id,
                confirmed=True,
                leverage=value if change.kind is VenueChangeKind.LEVERAGE and isinstance(value, Decimal) else None,
                margin_mode=value if isinstance(value, MarginMode) else None,
            )
        )

    async def refuse(self, change: VenueChange, code: str, words: str) -> None:
        logger.warning("change %s of %s is refused: %s %s", change.change_id, self.supervisor.account_id, code, words)
        await self.record(c.RecordVenueOutcome(change.change_id, confirmed=False, code=code, message=words))

    async def record(self, command: c.RecordVenueOutcome) -> None:
        await self.engine.submit(self.supervisor.account_id, command, request_id="", actor=SYSTEM)


async def asked(broker: LiveBroker, change: VenueChange, leverage: Decimal) -> Value:
    """Tell the venue; what is in force after it, None where only the doing is known."""
    match change.kind:
        case VenueChangeKind.LEVERAGE:
            assert change.leverage is not None
            return await broker.set_leverage(change.symbol, change.leverage)
        case VenueChangeKind.MARGIN_MODE:
            assert change.margin_mode is not None
            return await broker.set_margin_mode(change.symbol, change.margin_mode, leverage)
        case VenueChangeKind.ISOLATED_MARGIN:
            await broker.adjust_isolated_margin(change.symbol, change.position_side, change.amount)
            return None


def in_force(state: VenueState, change: VenueChange) -> Value:
    """What the venue has in force of what was to change; None where it does not say."""
    held = [one for one in state.positions if one.symbol == change.symbol]
    match change.kind:
        case VenueChangeKind.LEVERAGE:
            return state.leverage.get(change.symbol) or next((one.leverage for one in held), None)
        case VenueChangeKind.MARGIN_MODE:
            return state.margin_modes.get(change.symbol) or next((one.margin_mode for one in held), None)
        case VenueChangeKind.ISOLATED_MARGIN:
            key = position_key(change.symbol, change.position_side)
            return next((one.isolated_margin for one in held if one.key == key), None)


def spelled(value: Value) -> str:
    if value is None:
        return "nothing"
    return text(value) if isinstance(value, Decimal) else value.value
