"""Whether the venue's side of a live account is known well enough to take new risk on it, and if not, why."""

from datetime import datetime

from debt_mgmt.core.account import Account
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.core.venue import SyncStatus

DRY_RUN_NOTE = "dry run: nothing was sent"


def unsynced(account: Account, settings: RiskSettings, at: datetime) -> str:
    """Why the account's state can't be relied on at `at`; empty where it can, and for sandbox accounts."""
    sync = account.sync
    if sync is None:
        return ""
    if sync.status is SyncStatus.NEVER or sync.at is None:
        return f"it was never read from {account.broker}" + (f": {sync.reason}" if sync.reason else "")
    age = at - sync.at
    ago = f"last read {max(0, int(age.total_seconds()))} s ago"
    if sync.status is SyncStatus.LOST:
        return f"{account.broker} is out of sight, {ago}: {sync.reason}"
    if age > settings.live_state_max_age:
        return f"{account.broker} was {ago}, at most {int(settings.live_state_max_age.total_seconds())} s are accepted"
    return ""


def not_synced(account: Account, settings: RiskSettings, at: datetime) -> tuple[Violation, ...]:
    """What `unsynced` says, as a violation."""
    reason = unsynced(account, settings, at)
    return (Violation(Reason.ACCOUNT_NOT_SYNCED, account.account_id, note=reason),) if reason else ()
