"""What follows a commit: each part of the engine is told of what has become durable."""

from typing import TYPE_CHECKING

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.house import House
from debt_mgmt.core.money import ZERO
from debt_mgmt.server.history import row_of
from debt_mgmt.server.journal.state import Change

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine


class Commits:
    """What the shards call. Nothing in it waits."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    def house(self, changes: list[Change[House, e.HouseEvent]]) -> None:
        """What rests on a changed instrument, or on a changed asset rule, is loaded into the screen anew."""
        engine = self.engine
        engine.present.clear()
        engine.tree.house_changed()
        engine.paper.halted |= any(isinstance(change.event, e.TradingHalted) for change in changes)
        if any(isinstance(change.event, e.ChangeProposed | e.TradingHalted | e.TradingResumed) for change in changes):
            engine.hub.on_alert()
        rules = any(isinstance(change.event, e.AssetRuleSet) for change in changes)
        put = {change.event.instrument.symbol for change in changes if isinstance(change.event, e.InstrumentPut)}
        if not rules and not put:
            return
        engine.screen.adopt(engine.house)
        concerned = engine.home if rules else {one for symbol in put for one in engine.screen.holders(symbol)}
        for account_id in concerned:
            engine.unscreened[account_id] = engine.account(account_id)

    def accounts(self, number: int, changes: list[Change[Account, e.AccountEvent]]) -> None:
        """Tell every part what has become durable in a shard."""
        engine = self.engine
        touched: dict[str, Account] = {}
        for key, event, position, _, account in changes:
            touched[key] = account
            engine.present.pop(key, None)
            engine.changed_at[key] = position
            kind = type(event)
            if kind is e.MarginReserved:
                engine.counters.reserved += 1
                engine.counters.shadow(event.shadow)  # type: ignore[union-attr]
                engine.time.expects(key, [event.reservation])  # type: ignore[union-attr]
            elif kind is e.OrderPlaced:
                engine.counters.reserved += 1
                engine.counters.shadow(event.shadow)  # type: ignore[union-attr]
                engine.time.expects(key, [event.reservation])  # type: ignore[union-attr]
                engine.paper.placed(key, event)  # type: ignore[arg-type]
            elif kind is e.EquityRecorded:
                engine.history.note(row_of(key, number, position, event))  # type: ignore[arg-type]
            elif kind is e.AccountCreated:
                engine.home[key] = number
            elif kind is e.CommandRefused:
                engine.counters.refuse(event.violations)  # type: ignore[union-attr]
            elif kind is e.AlertRaised:
                engine.counters.alerts += 1
                engine.hub.alert(key, event.alert, (number, position))  # type: ignore[union-attr]
            elif kind is e.InterestCharged:
                engine.counters.interest_charges += 1
            elif kind is e.FundingSettled:
                engine.counters.funding_settlements += 1
            elif kind is e.ReductionStarted or kind is e.ReductionExtended:
                if kind is e.ReductionStarted and event.reduction.cause != "REQUESTED":  # type: ignore[union-attr]
                    engine.counters.liquidations += 1
                engine.reductions.notice(key)
                engine.hub.liquidation(key, account.reduction, (number, position))
            elif kind is e.ReductionStepEnded:
                engine.counters.liquidation_steps += 1
                engine.hub.liquidation(key, account.reduction, (number, position))
            elif kind is e.ReductionEnded:
                engine.hub.liquidation(key, account.past_reductions[-1], (number, position))
                engine.reductions.notice(key)
            elif kind is e.FundsReset and account.past_reductions:
                last = account.past_reductions[-1]
                if last.ended_at == event.at:  # type: ignore[union-attr]
                    engine.hub.liquidation(key, last, (number, position))
            elif kind is e.CancelsRequested:
                engine.reductions.notice(key)
            elif kind is e.VenueChangeRefused:
                engine.live.refused(key, event)  # type: ignore[arg-type]
        for key, account in touched.items():
            engine.paper.keep(account)
            if account.debts or key in engine.settling.overdrawn or min(account.balances.values(), default=ZERO) < 0:
                engine.settling.notice(key, account)
            if account.sync is not None:
                engine.live.notice(key, account)
        engine.tree.committed(number, changes[-1].position, touched)
        engine.unscreened.update(touched)
        engine.hub.changed(touched)
