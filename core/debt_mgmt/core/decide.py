"""Deciding a command: from an account, the world and a command to events or a refusal. Pure, total, nothing awaits."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import (
    Account,
    AlertKind,
    Environment,
    RiskLevel,
    Severity,
    TradingState,
)
from debt_mgmt.core.changes import effects_of_limits, effects_of_resuming
from debt_mgmt.core.decide_debt import borrow, charge_interest, repay
from debt_mgmt.core.decide_funds import deposit_postings, reset_funds, transfer
from debt_mgmt.core.decide_leverage import adjust_isolated_margin, set_leverage, set_margin_mode
from debt_mgmt.core.decide_orders import (
    close_position,
    end_reduction_step,
    expire_reservations,
    record_fill,
    release_reservation,
    reserve_margin,
)
from debt_mgmt.core.decide_settlement import convert_assets, settle_funding
from debt_mgmt.core.decide_sync import lose_sync, record_sync
from debt_mgmt.core.decide_venue import record_cancel_outcome, record_venue_outcome, set_dry_run
from debt_mgmt.core.decide_venue_loans import record_loan_outcome, record_loan_sent
from debt_mgmt.core.draft import Draft, refuse, refused_alone
from debt_mgmt.core.faults import Fault, FaultReason, unknown_alert
from debt_mgmt.core.levels import RANK, assess, raise_alert
from debt_mgmt.core.limits import worth
from debt_mgmt.core.margin import (
    World,
    figures,
    summarize,
)
from debt_mgmt.core.money import ZERO, owned
from debt_mgmt.core.paper_orders import cancel_order, match_orders, place_order
from debt_mgmt.core.profit import Interval
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.view import AccountView


def decide(
    account: Account | None, command: c.Command, world: World, view: AccountView | None = None
) -> tuple[e.Event, ...]:
    """The events that follow from `command`; a refusal is an event too (CommandRefused, alone).

    Raises Fault where the command can't be answered at all: the account does not exist, or exists already.
    `view` may be given where it was made before for the same account and marks.
    """
    draft = Draft(account, world, view)
    if isinstance(command, c.CarryOutChange):
        draft.approved, command = command, c.read_command(command.asked)
    if isinstance(command, c.CreateAccount):
        create_account(draft, command)
    else:
        if account is None:
            raise Fault(FaultReason.ACCOUNT_NOT_FOUND, "account not found")
        if isinstance(command, c.ReserveMargin):
            reserve_margin(draft, command, view)
        elif isinstance(command, c.PlaceOrder):
            place_order(draft, command, view)
        else:
            DECIDE[type(command)](draft, command)
    if draft.events and isinstance(draft.events[0], e.CommandRefused):
        return tuple(draft.events)
    summary = assess(draft)
    answer = next((n for n, event in enumerate(draft.events) if not isinstance(event, e.InterestCharged)), None)
    if answer is not None and "figures" in draft.events[answer].__struct_fields__:
        draft.events[answer] = msgspec.structs.replace(draft.events[answer], figures=figures(summary))
    return tuple(draft.events)


def create_account(draft: Draft, command: c.CreateAccount) -> None:
    if draft.folded is not None:
        message = f"account {command.account_id} exists already"
        raise Fault(FaultReason.ACCOUNT_EXISTS, message, account_id=command.account_id)
    settings, at = draft.world.settings, draft.world.at
    currency = command.currency or settings.starting_currency
    asset, amount = "", None
    if command.environment is Environment.SANDBOX:
        asset = command.deposit_asset or currency
        amount = command.deposit_amount if command.deposit_amount is not None else settings.starting_capital
    draft.add(
        e.AccountCreated(
            account_id=command.account_id,
            owner=command.owner,
            broker=command.broker,
            environment=command.environment,
            currency=currency,
            at=at,
            position_mode=command.position_mode,
            margin_mode=command.margin_mode,
            starting_asset=asset,
            starting_capital=amount,
            postings=deposit_postings(asset, amount) if amount else (),
            dry_run=is_dry(command),
        )
    )


def is_dry(command: c.CreateAccount) -> bool:
    """Whether an account starts in dry run: as asked, else where real money is."""
    if command.environment is Environment.SANDBOX:
        return False
    return command.dry_run if command.dry_run is not None else command.environment is Environment.LIVE


def close_account(draft: Draft, command: c.CloseAccount) -> None:
    account = draft.account
    still_open = len(account.positions) + len(account.reservations) + len(account.debts) + len(account.loans)
    if account.closed_at is not None:
        return refuse(draft, "CloseAccount", Violation(Reason.ALREADY_IN_STATE, account.account_id))
    if still_open:
        return refuse(
            draft, "CloseAccount", Violation(Reason.OPEN_POSITIONS, account.account_id, Decimal(still_open), ZERO)
        )
    draft.add(e.AccountClosed(draft.world.at, command.reason))


def set_limits(draft: Draft, command: c.SetLimits) -> None:
    chosen = {name: getattr(command.limits, name) for name in command.fields}
    limits = msgspec.structs.replace(draft.account.limits, **chosen)
    if not refused_alone(draft, "SetRiskLimits", effects_of_limits(draft.account, limits, draft.world.settings)):
        draft.add(e.LimitsSet(limits, command.reason))


def halt_trading(draft: Draft, command: c.HaltTrading) -> None:
    at = draft.world.at if command.by else None
    state = draft.account.trading_state
    draft.add(e.TradingStateChanged(state, TradingState.HALTED, command.reason, False, by=command.by, at=at))
    summary = summarize(draft.account, draft.world)
    message = f"trading is halted: {command.reason}"
    raise_alert(draft, AlertKind.TRADING_HALTED, Severity.CRITICAL, message, summary)


def resume_trading(draft: Draft, command: c.ResumeTrading) -> None:
    """Lift a halt and accept the losses behind open breakers: they are measured from now on.

    Where the risk level asks for it, the account goes on reducing only.
    """
    account, world = draft.account, draft.world
    halted = not account.trading_state_is_automatic and account.trading_state is not TradingState.ACTIVE
    if not halted and not account.breakers:
        return refuse(draft, "ResumeTrading", Violation(Reason.ALREADY_IN_STATE, account.account_id))
    known_level = account.level if account.level is not RiskLevel.UNKNOWN else account.level_before_unknown
    summary = summarize(account, world)
    critical = RANK[known_level] >= RANK[RiskLevel.CRITICAL]
    state = TradingState.REDUCING if critical else TradingState.ACTIVE
    if refused_alone(draft, "ResumeTrading", effects_of_resuming(account, state if halted else None)):
        return
    if halted:
        draft.add(e.TradingStateChanged(account.trading_state, state, command.reason, True))
    raise_alert(draft, AlertKind.TRADING_RESUMED, Severity.WARNING, f"trading goes on: {command.reason}", summary)
    if summary.known and account.breakers and account.baselines is not None:
        now = owned(worth(summary))
        kept = account.baselines
        changed = msgspec.structs.replace(
            kept,
            day_equity=now if "DAILY_LOSS" in account.breakers else kept.day_equity,
            peak_equity=now if "DRAWDOWN" in account.breakers else kept.peak_equity,
        )
        draft.add(e.BaselinesSet(changed, "RESUME"))
    for breaker in account.breakers.values():
        draft.add(e.BreakerCleared(breaker.kind))


def acknowledge_alert(draft: Draft, command: c.AcknowledgeAlert) -> None:
    """Only the first one who acknowledges is kept. Raises Fault where the account does not keep such an alert."""
    alert = next((one for one in draft.account.alerts if one.alert_id == command.alert_id), None)
    if alert is None:
        raise unknown_alert(command.alert_id)
    if alert.acknowledged_at is not None:
        return refuse(draft, "AcknowledgeAlert", Violation(Reason.ALREADY_IN_STATE, command.alert_id))
    draft.add(e.AlertAcknowledged(command.alert_id, command.by, draft.world.at, command.note))


def record_equity(draft: Draft, command: c.RecordEquity) -> None:
    """Nothing where the interval is recorded already. Without a price the figures are left out, and never guessed."""
    account = draft.account
    interval = account.interval or Interval(account.created_at, None)
    if account.closed_at is not None or interval.started_at >= command.ended_at:
        return
    summary = draft.summary()
    known = summary.known
    draft.add(
        e.EquityRecorded(
            started_at=interval.started_at,
            ended_at=command.ended_at,
            equity_before=interval.equity,
            equity=owned(worth(summary)) if known else None,
            wallet_balance=owned(summary.wallet_value) if known else None,
            unrealized_pnl=owned(summary.unrealized_pnl) if known else None,
            causes=interval.causes,
        )
    )


def look(draft: Draft, command: c.Assess) -> None:
    """Nothing but the assessment that follows every command."""


DECIDE: dict[type[c.Command], Callable[[Draft, Any], None]] = {
    c.CloseAccount: close_account,
    c.Transfer: transfer,
    c.ResetFunds: reset_funds,
    c.ReleaseReservation: release_reservation,
    c.ExpireReservations: expire_reservations,
    c.CancelOrder: cancel_order,
    c.MatchOrders: match_orders,
    c.RecordFill: record_fill,
    c.ClosePosition: close_position,
    c.EndReductionStep: end_reduction_step,
    c.SetLeverage: set_leverage,
    c.SetMarginMode: set_margin_mode,
    c.AdjustIsolatedMargin: adjust_isolated_margin,
    c.RecordSync: record_sync,
    c.LoseSync: lose_sync,
    c.RecordVenueOutcome: record_venue_outcome,
    c.RecordLoanSent: record_loan_sent,
    c.RecordLoanOutcome: record_loan_outcome,
    c.RecordCancelOutcome: record_cancel_outcome,
    c.SetDryRun: set_dry_run,
    c.SetLimits: set_limits,
    c.HaltTrading: halt_trading,
    c.ResumeTrading: resume_trading,
    c.AcknowledgeAlert: acknowledge_alert,
    c.Borrow: borrow,
    c.Repay: repay,
    c.ChargeInterest: charge_interest,
    c.ConvertAssets: convert_assets,
    c.SettleFunding: settle_funding,
    c.Assess: look,
    c.RecordEquity: record_equity,
}
