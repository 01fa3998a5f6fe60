"""Changes that need a second person: what makes one need it, how it stands, and what is said to it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from debt_mgmt.core import commands as c
from debt_mgmt.core.account import Account, Limits, TradingState
from debt_mgmt.core.money import text
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import RiskSettings, effective_limits

ENDED_KEPT = 200
BETWEEN = "; "
"""Between the effects where they stand in one line."""
NOT_LIMITED = "not limited"
LEAVING_DRY_RUN = ("dry run on → off",)


class ChangeState(StrEnum):
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class ProposedChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change that needs a second person, from the proposal to what became of it."""

    change_id: str
    account_id: str
    """Whose log decides it; empty: the house's."""
    command: msgspec.Raw
    """What is carried out, as JSON: exactly what was proposed."""
    method: str
    scope: Scope
    effects: tuple[str, ...]
    """One line for each value that would be another: before → after."""
    reason: str
    proposed_by: str
    proposed_at: datetime
    expires_at: datetime
    state: ChangeState = ChangeState.PENDING
    decided_by: str = ""
    decided_at: datetime | None = None
    note: str = ""
    carried_out_at: datetime | None = None
    """When the outcome of an approved one was known."""
    violations: tuple[Violation, ...] = ()
    """The rules that refused it then; empty: it was done."""

    def waits(self, at: datetime) -> bool:
        return self.state is ChangeState.PENDING and at < self.expires_at

    @property
    def is_due(self) -> bool:
        """Approved, and not carried out yet."""
        return self.state is ChangeState.APPROVED and self.carried_out_at is None

    @property
    def has_ended(self) -> bool:
        return self.state is not ChangeState.PENDING and not self.is_due

    def is_seen_by(self, accounts: tuple[str, ...] | frozenset[str] | None) -> bool:
        """Whether it exists for a caller who is limited to some accounts; None: to none."""
        return accounts is None or self.scope.account_id in accounts

    def is_otherwise(self, at: datetime) -> str:
        """Why it does not wait, in words."""
        if self.state is ChangeState.PENDING or self.state is ChangeState.EXPIRED:
            return f"it has expired, at {self.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.decided_by} has {self.state.lower()} it"


# what needs a second person


def needed(subject: str, effects: tuple[str, ...]) -> Violation:
    """The refusal of what somebody else has to approve first."""
    return Violation(Reason.NEEDS_SECOND_PERSON, subject, note=BETWEEN.join(effects))


def effects_in(violation: Violation) -> tuple[str, ...]:
    return tuple(violation.note.split(BETWEEN))


def effects_of_limits(account: Account, after: Limits, settings: RiskSettings) -> tuple[str, ...]:
    """Every limit in force that would be another, where some limit would allow more; nothing where none would."""
    old, new = in_force(account.limits, settings), in_force(after, settings)
    return changed_limits(old, new) if loosens(old, new) else ()


def in_force(own: Limits, settings: RiskSettings) -> Limits:
    """What an account with these limits of its own is held to."""
    limits = effective_limits(settings.limits, own)
    chosen = limits.max_leverage
    leverage = settings.max_leverage if chosen is None else min(settings.max_leverage, chosen)
    return msgspec.structs.replace(limits, max_leverage=leverage)


def loosens(before: Limits, after: Limits) -> bool:
    """Whether any limit allows more than before: it is larger or gone, or a tripped breaker stops for less long."""
    if any(
        (old := getattr(before, name)) is not None and ((new := getattr(after, name)) is None or new > old)
        for name in Limits.__struct_fields__
        if name.startswith("max_")
    ):
        return True
    if (after.breaker_cool_down_seconds or 0) < (before.breaker_cool_down_seconds or 0):
        return True
    if before.order_rate_count is None:
        return False
    if after.order_rate_count is None or after.order_rate_count > before.order_rate_count:
        return True
    return (after.order_rate_interval_seconds or 1) < (before.order_rate_interval_seconds or 1)


def changed_limits(before: Limits, after: Limits) -> tuple[str, ...]:
    """One line for each limit that differs, with both values."""
    old, new = spelled(before), spelled(after)
    return tuple(f"{name} {old[name]} → {new[name]}" for name in old if old[name] != new[name])


def spelled(limits: Limits) -> dict[str, str]:
    named = {name: getattr(limits, name) for name in Limits.__struct_fields__ if name.startswith("max_")}
    words = {name: NOT_LIMITED if one is None else str(one) if isinstance(one, int) else text(one)
             for name, one in named.items()}  # fmt: skip
    count = limits.order_rate_count
    words["max_order_rate"] = (
        NOT_LIMITED if count is None else f"{count} in {limits.order_rate_interval_seconds or 1} s"
    )
    words["breaker_cool_down"] = f"{limits.breaker_cool_down_seconds or 0} s"
    return words


def effects_of_resuming(account: Account, state: TradingState | None) -> tuple[str, ...]:
    """`state`: as which the account would go on; None where it is not halted."""
    lines = [] if state is None else [f"trading {account.trading_state.value} → {state.value}"]
    return (*lines, *(f"breaker {one.kind.value} tripped → cleared" for one in account.breakers.values()))


def outgrown(change_id: str, approved: tuple[str, ...] | None, effects: tuple[str, ...]) -> Violation | None:
    """The refusal of an approved change that by now would take away more than was shown; None where it would not.

    That a value begins elsewhere by now and ends where it was approved to end is no other change.
    """
    ends = {end_of(one) for one in approved or ()}
    more = [] if approved is None else [one for one in effects if end_of(one) not in ends]
    if not more:
        return None
    words = f"by now it would be another change, which has to be proposed anew: {BETWEEN.join(more)}"
    return Violation(Reason.CHANGE_NOT_FOUND, change_id, note=words)


def end_of(effect: str) -> tuple[str, str]:
    """An effect without the value that it begins at, as far as that is one word."""
    before, _, after = effect.partition(" → ")
    return before.rpartition(" ")[0], after


# how it goes on


def decision(
    changes: Mapping[str, ProposedChange], command: c.ApproveChange | c.RejectChange, at: datetime
) -> Violation | None:
    """Why the change can't be approved or rejected; None where it can."""
    change = changes.get(command.change_id)
    if change is None or not change.is_seen_by(command.accounts):
        return Violation(Reason.CHANGE_NOT_FOUND, command.change_id, note="there is none")
    if not change.waits(at):
        return Violation(Reason.CHANGE_NOT_FOUND, command.change_id, note=change.is_otherwise(at))
    if isinstance(command, c.ApproveChange) and command.by == change.proposed_by:
        return Violation(Reason.SAME_PERSON, command.change_id, note=command.by)
    return None


def proposed(changes: Mapping[str, ProposedChange], change: ProposedChange) -> dict[str, ProposedChange]:
    kept = msgspec.structs.replace(change, command=change.command.copy())
    return {**changes, change.change_id: kept}


def decided(
    changes: Mapping[str, ProposedChange],
    change_id: str,
    state: ChangeState,
    at: datetime,
    by: str = "",
    note: str = "",
) -> dict[str, ProposedChange]:
    change = msgspec.structs.replace(changes[change_id], state=state, decided_by=by, decided_at=at, note=note)
    return bounded({**changes, change.change_id: change})


def carried_out(
    changes: Mapping[str, ProposedChange], change_id: str, at: datetime, violations: tuple[Violation, ...]
) -> dict[str, ProposedChange]:
    change = msgspec.structs.replace(changes[change_id], carried_out_at=at, violations=violations)
    return bounded({**changes, change.change_id: change})


def bounded(changes: dict[str, ProposedChange]) -> dict[str, ProposedChange]:
    """All that wait or are due, and the last ENDED_KEPT that have ended, in the order in which they were proposed."""
    ended = [change_id for change_id, one in changes.items() if one.has_ended]
    for change_id in ended[:-ENDED_KEPT]:
        del changes[change_id]
    return changes
