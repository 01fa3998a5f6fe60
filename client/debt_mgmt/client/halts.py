"""Halts: new risk stopped and resumed at any node, from one strategy to everything, and those in force."""

from dataclasses import dataclass
from datetime import datetime

from debt_mgmt.client.answers import Outcome
from debt_mgmt.client.call import Call, Pages, command, pages
from debt_mgmt.client.methods import Methods, history, unary
from debt_mgmt.client.scope import Scope
from debt_mgmt.client.times import Timeout
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import risk_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltOutcome(Outcome):
    """The halt, or why not."""

    account_count: int
    """Accounts that it stops, or some orders of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOutcome(Outcome):
    """The halt ended, or why not."""

    account_count: int
    """Accounts that it stopped, or some orders of them."""
    pending_change_id: str | None
    """The change that waits for a second person. None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltStatus:
    """A halt."""

    scope: Scope
    """Whom it stops."""
    reason: str | None
    actor: str | None
    """Who halted. None: not known."""
    halt_time: datetime | None
    """Since when. None: not known."""
    account_count: int
    """Accounts that it concerns, of those that the caller may see."""


class HaltMethods(Methods):
    """Stops and resumes trading. None of it ever stops a strictly reducing order."""

    @unary
    def halt(
        self,
        *,
        account_id: str | None = None,
        owner: str | None = None,
        strategy: str | None = None,
        instrument: str | None = None,
        everything: bool = False,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[HaltOutcome]:
        """Stops new risk of all that matches what is named, or of everything, until it is resumed.

        In force when the call returns; survives restarts. Several names are a node: `strategy` with `account_id` is
        that strategy's trading in that account alone.
        """
        scope = scope_of(account_id, owner, strategy, instrument, everything)
        request = message(pb.HaltTradingRequest, request_id=request_id, reason=reason, **scope)
        return command(self.raw.risk.HaltTrading, request, HaltOutcome, timeout)

    @unary
    def resume(
        self,
        *,
        account_id: str | None = None,
        owner: str | None = None,
        strategy: str | None = None,
        instrument: str | None = None,
        everything: bool = False,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[ResumeOutcome]:
        """Ends the halt of exactly this node; a narrower or wider halt stays. For an account: tripped breakers too."""
        scope = scope_of(account_id, owner, strategy, instrument, everything)
        request = message(pb.ResumeTradingRequest, request_id=request_id, reason=reason, **scope)
        return command(self.raw.risk.ResumeTrading, request, ResumeOutcome, timeout)

    @history
    def halts(self, *, limit: int | None = None, timeout: Timeout = None) -> Pages[HaltStatus]:
        """The halts in force that the caller may know of, those of accounts too, newest first."""
        request = pb.ListHaltsRequest()
        return pages(self.raw.risk.ListHalts, request, lambda page: page.halts, HaltStatus, timeout, limit)


def scope_of(
    account_id: str | None, owner: str | None, strategy: str | None, instrument: str | None, everything: bool
) -> dict[str, str | bool | Scope]:
    """The scope of the request. Raises ValueError where nothing is named, and where everything and something is."""
    named = {"account_id": account_id, "owner": owner, "strategy": strategy, "symbol": instrument}
    given = {name: value for name, value in named.items() if value is not None}
    if bool(given) == everything:
        raise ValueError("give everything=True, or some of account_id, owner, strategy and instrument")
    if everything:
        return {"everything": True}
    if len(given) == 1 and (account_id is not None or owner is not None):
        return dict(given)
    return {"node": Scope(**given)}
