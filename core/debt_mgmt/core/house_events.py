"""What happens to the house: instruments, rules, rates, halts, settings, and who could not prove who they are."""

from datetime import datetime

import msgspec

from debt_mgmt.core.access import AccessToken
from debt_mgmt.core.changes import ProposedChange
from debt_mgmt.core.event import Event
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.interest import BorrowRate
from debt_mgmt.core.limit_sets import LimitSet
from debt_mgmt.core.market import AssetRule, FundingRate
from debt_mgmt.core.refusals import Violation
from debt_mgmt.core.resets import ResetSchedule
from debt_mgmt.core.settings import RiskSettings


class InstrumentPut(Event, frozen=True):
    instrument: Instrument


class AssetRuleSet(Event, frozen=True):
    rule: AssetRule


class ResetScheduleSet(Event, frozen=True):
    """Paper capital is set back by this schedule; its slots count from `at` on."""

    schedule: ResetSchedule
    at: datetime


class BorrowRateSet(Event, frozen=True):
    rate: BorrowRate


class FundingRatePublished(Event, frozen=True):
    rate: FundingRate


class TradingHalted(Event, frozen=True):
    """A halt at a node: all that matches every field given. With none of them the whole house."""

    owner: str
    reason: str
    at: datetime
    actor: str = ""
    account_id: str = ""
    strategy: str = ""
    symbol: str = ""


class TradingResumed(Event, frozen=True):
    """The halt of exactly this node is over."""

    owner: str
    reason: str
    at: datetime
    account_id: str = ""
    strategy: str = ""
    symbol: str = ""


class LimitSetPut(Event, frozen=True):
    """A limit set as it is from now on; it takes the place of the one with the same key."""

    limit_set: LimitSet


class LimitSetDeleted(Event, frozen=True):
    """A limit set was taken away. It is told whole, so that the log shows what no longer holds."""

    limit_set: LimitSet
    reason: str
    at: datetime


class SettingChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A setting as it was and as it is; None: there was no such setting. Secrets are told apart by their digest."""

    key: str
    before: str | None = None
    after: str | None = None


class ConfigurationChanged(Event, frozen=True):
    """The service runs with other settings, or another version, than before. `rules` are what it decides by."""

    changes: tuple[SettingChange, ...]
    rules: RiskSettings
    version: str
    at: datetime


class SignInFailed(Event, frozen=True):
    """Somebody could not prove who they are, `count` times since `since`. `name` is what they claimed, if anything."""

    reason: str
    peer: str
    method: str
    at: datetime
    since: datetime
    name: str = ""
    count: int = 1


class TokenIssued(Event, frozen=True):
    token: AccessToken


class TokenRotated(Event, frozen=True):
    """The token with its new secret's hash."""

    token: AccessToken


class TokenRevoked(Event, frozen=True):
    name: str
    at: datetime
    reason: str = ""


class ChangeProposed(Event, frozen=True):
    """A change waits for a second person."""

    change: ProposedChange


class ChangeApproved(Event, frozen=True):
    """A second person agreed; the change is carried out next."""

    change_id: str
    by: str
    at: datetime
    note: str = ""


class ChangeRejected(Event, frozen=True):
    change_id: str
    by: str
    at: datetime
    note: str = ""


class ChangeExpired(Event, frozen=True):
    """Nobody approved it in time."""

    change_id: str
    at: datetime


class ChangeCarriedOut(Event, frozen=True):
    """An approved change was carried out; or the rules, `violations`, refused it then, and nothing was done."""

    change_id: str
    at: datetime
    violations: tuple[Violation, ...] = ()
