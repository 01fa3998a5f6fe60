"""Opaque tokens: 256 random bits of which the service keeps a hash."""

import secrets
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from debt_mgmt.core.access import AccessToken
from debt_mgmt.core.house import House
from debt_mgmt.server.security.identity import Identity, Refusal

PREFIX = "dmt_"
"""So that a scanner of leaked secrets, and a person, know one when they see it."""
SECRET_BYTES = 32


def new_secret() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest_of_secret(secret: str) -> str:
    """What is kept of it. It has 256 random bits, so a plain hash can't be turned back."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class TokenVerifier:
    """Knows the tokens of the house."""

    def __init__(self, house: Callable[[], House]) -> None:
        self.house = house
        self.seen: dict[str, AccessToken] | None = None
        self.by_digest: dict[str, AccessToken] = {}

    def refresh(self) -> bool:
        """Whether tokens have changed since the last look: the house replaces its table with each change."""
        tokens = self.house().tokens
        if tokens is self.seen:
            return False
        self.seen = tokens
        self.by_digest = {one.digest: one for one in tokens.values()}
        self.by_digest |= {one.previous_digest: one for one in tokens.values() if one.previous_digest}
        return True

    def verify(self, token: str, at: datetime) -> Identity | None:
        if not token.startswith(PREFIX):
            return None
        digest = digest_of_secret(token)
        known = self.by_digest.get(digest)
        if known is None:
            raise Refusal("the token is not valid")
        if known.revoked_at is not None:
            raise Refusal("the token was revoked")
        ends = [] if known.expires_at is None else [known.expires_at]
        if digest != known.digest and known.previous_until is not None:
            ends.append(known.previous_until)
        if any(end <= at for end in ends):
            raise Refusal("the token has expired")
        accounts = frozenset(known.accounts) or None
        if not ends:
            return Identity(known.name, known.role, accounts)
        return Identity(known.name, known.role, accounts, min(ends).timestamp())
