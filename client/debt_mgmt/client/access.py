"""Tokens: issued, listed, rotated and revoked, and who the caller is to the service."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from debt_mgmt.client.answers import Answer, Outcome
from debt_mgmt.client.call import Call, Pages, command, pages, query, whole
from debt_mgmt.client.enums import Role
from debt_mgmt.client.methods import Methods, listing, unary
from debt_mgmt.client.times import Span, Timeout, duration
from debt_mgmt.client.wire import message
from debt_mgmt.v1 import access_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller(Answer):
    """Who the caller is to the service."""

    name: str
    """`local` where nothing authenticates callers."""
    role: Role
    account_ids: tuple[str, ...]
    """The accounts that exist for it; empty: every account."""
    expire_time: datetime | None
    authenticated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as the service keeps it: without its secret."""

    name: str
    role: Role
    account_ids: tuple[str, ...]
    """The accounts that exist for it; empty: every account."""
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    rotate_time: datetime | None
    previous_expire_time: datetime | None
    """Until when the secret before the last rotation is good."""
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOutcome(Outcome):
    """A token with its new secret, which is shown this once, or why there is none."""

    token: Token | None
    secret: str | None = field(repr=False)
    """What to send. None where the answer is a repeat of one that was lost: rotate the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeTokenOutcome(Outcome):
    """The token that is no longer good."""

    token: Token | None


class AccessMethods(Methods):
    """AccessService."""

    @unary
    def caller(self, *, timeout: Timeout = None) -> Call[Caller]:
        """Who the caller is to the service, and what it may do."""
        return query(self.raw.access.GetCaller, pb.GetCallerRequest(), whole(Caller), timeout)

    @unary
    def issue_token(
        self,
        name: str,
        role: Role | str,
        *,
        account_ids: Sequence[str] = (),
        time_to_live: Span | None = None,
        note: str | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[TokenOutcome]:
        """Makes a token for these accounts, or for every one. Without `time_to_live` it is good until it is revoked."""
        request = message(
            pb.IssueTokenRequest,
            request_id=request_id,
            name=name,
            role=role,
            account_ids=list(account_ids),
            time_to_live=None if time_to_live is None else duration(time_to_live, "time_to_live"),
            note=note,
        )
        return command(self.raw.access.IssueToken, request, TokenOutcome, timeout)

    @listing
    def tokens(self, *, include_ended: bool = False, timeout: Timeout = None) -> Pages[Token]:
        """Every token that is good, by name; with `include_ended`, those that expired or were revoked too."""
        request = pb.ListTokensRequest(include_ended=include_ended)
        return pages(self.raw.access.ListTokens, request, lambda page: page.tokens, Token, timeout)

    @unary
    def rotate_token(
        self,
        name: str,
        *,
        overlap: Span | None = None,
        request_id: str | None = None,
        timeout: Timeout = None,
    ) -> Call[TokenOutcome]:
        """Gives a token a new secret. The one before stays good for `overlap`; without it, it ends at once."""
        request = message(
            pb.RotateTokenRequest,
            request_id=request_id,
            name=name,
            overlap=None if overlap is None else duration(overlap, "overlap"),
        )
        return command(self.raw.access.RotateToken, request, TokenOutcome, timeout)

    @unary
    def revoke_token(
        self, name: str, *, reason: str | None = None, request_id: str | None = None, timeout: Timeout = None
    ) -> Call[RevokeTokenOutcome]:
        """Ends a token. No call with it is accepted once this returns."""
        request = message(pb.RevokeTokenRequest, request_id=request_id, name=name, reason=reason)
        return command(self.raw.access.RevokeToken, request, RevokeTokenOutcome, timeout)
