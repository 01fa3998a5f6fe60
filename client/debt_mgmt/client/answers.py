"""What every answer carries: as of when it holds, and where the rules said no, why."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self, TypeVar

from debt_mgmt.client.enums import RefusalReason
from debt_mgmt.client.scope import Scope

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Revision:
    """A place in the journal. Of two revisions of one shard the later has the larger position; others have no order."""

    shard: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that a request breaks, with the numbers. Those that make no sense for the rule are None."""

    reason: RefusalReason
    message: str
    value: Decimal | None
    """What the request would need or lead to, in the rule's own unit."""
    limit: Decimal | None
    """What the rule allows, in the unit of `value`."""
    headroom: Decimal | None
    """What was left under the limit before this request; never negative."""
    subject: str | None
    """What it is about: a symbol, a reservation id, an asset. None: the account."""
    scope: Scope | None = None
    """Node of the tree of limits whose limit or halt it is. None: a rule of the account or of the service."""
    limit_set: str | None = None
    """Name of that node's limit set. None: its standing one, or none."""


class Refused(Exception):
    """The rules said no. Raised only by `raise_if_refused`; `answer` is the answer that it was called on."""

    def __init__(self, answer: Any, violations: tuple[Violation, ...]) -> None:
        sentences = (f"{violation.reason}: {violation.message}" for violation in violations)
        super().__init__(("; ".join(sentences) or "refused without a reason given") + self.advice(violations))
        self.answer = answer
        self.violations = violations

    @staticmethod
    def advice(violations: tuple[Violation, ...]) -> str:
        """What to do about it, where that is not in the sentences."""
        return ""

    @property
    def reasons(self) -> tuple[RefusalReason, ...]:
        """Every rule that was broken, in order of precedence."""
        return tuple(violation.reason for violation in self.violations)


class InsufficientMargin(Refused):
    """There is not enough margin, and nothing of higher precedence stands against it."""


class StalePrices(Refused):
    """A price that the decision needs is missing or too old."""


class NotSynced(Refused):
    """The account's exchange was never read, is out of sight or was read too long ago."""


class TradingStopped(Refused):
    """New risk is not allowed now: trading is halted, the account is reducing, or a circuit breaker tripped."""


class NeedsSecondPerson(Refused):
    """Nothing was changed: somebody else has to approve the change, which waits for that."""

    @property
    def change_id(self) -> str | None:
        """What to approve it by."""
        return waiting_in(self.violations)

    @staticmethod
    def advice(violations: tuple[Violation, ...]) -> str:
        """Who has to do what."""
        change_id = waiting_in(violations)
        return f". Somebody else than who asked approves it: approve_change({change_id!r})" if change_id else ""


def waiting_in(violations: tuple[Violation, ...]) -> str | None:
    """The change that waits for a second person."""
    waiting = (one.subject for one in violations if one.reason is RefusalReason.NEEDS_SECOND_PERSON)
    return next(waiting, None)


REFUSALS: dict[RefusalReason, type[Refused]] = {
    RefusalReason.INSUFFICIENT_MARGIN: InsufficientMargin,
    RefusalReason.UTILIZATION_AFTER: InsufficientMargin,
    RefusalReason.BELOW_INITIAL_MARGIN: InsufficientMargin,
    RefusalReason.STALE_MARK: StalePrices,
    RefusalReason.MISSING_MARK: StalePrices,
    RefusalReason.ACCOUNT_NOT_SYNCED: NotSynced,
    RefusalReason.TRADING_HALTED: TradingStopped,
    RefusalReason.TRADING_REDUCING: TradingStopped,
    RefusalReason.HOUSE_HALTED: TradingStopped,
    RefusalReason.BREAKER_TRIPPED: TradingStopped,
    RefusalReason.NEEDS_SECOND_PERSON: NeedsSecondPerson,
}
"""The exception of a refusal, by its first violation; `Refused` for all others."""


def refusal(answer: Any, violations: tuple[Violation, ...]) -> Refused:
    """The exception for an answer that says no."""
    kind = REFUSALS.get(violations[0].reason, Refused) if violations else Refused
    return kind(answer, violations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is true as of a place in the journal; `as_of` is that state's time by the service's clock."""

    revision: Revision
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Answer):
    """The answer to a command."""

    replayed: bool
    """True: answered from the journal, because the request_id was sent before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Recorded):
    """The answer to a command that the rules can refuse: it was done, or `violations` says why not."""

    accepted: bool
    violations: tuple[Violation, ...]
    """Every rule that refused it, in order of precedence. Empty when accepted."""

    def raise_if_refused(self) -> Self:
        """This answer, if the command was done. Raises Refused if not."""
        if not self.accepted:
            raise refusal(self, self.violations)
        return self


class Listing(tuple[T, ...]):
    """A whole list, and as of when it holds (its first page, where it was read in several)."""

    revision: Revision
    as_of: datetime

    def __new__(cls, items: Iterable[T], revision: Revision, as_of: datetime) -> Self:
        listing = super().__new__(cls, items)
        listing.revision = revision
        listing.as_of = as_of
        return listing
