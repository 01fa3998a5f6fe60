"""Who a token stands for, found once and remembered, so that a call costs one look into a table."""

import math
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from debt_mgmt.core.access import Role
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.actor import LOCAL

SCHEME = "bearer "
HEADER = "authorization"
HEADER_CHARACTERS_MOST = 8192
REMEMBERED_MOST = 4096
"""Headers that are remembered, good ones and bad ones each; the next one begins anew."""


class Identity:
    """Who calls, what they may do, and until when that holds."""

    __slots__ = ("accounts", "expires_at", "name", "rank", "role")

    def __init__(
        self, name: str, role: Role, accounts: frozenset[str] | None = None, expires_at: float = math.inf
    ) -> None:
        self.name = name
        self.role = role
        self.rank = role.rank
        self.accounts = accounts
        """None: every account."""
        self.expires_at = expires_at
        """Seconds since 1970."""

    def allows_the_same_as(self, other: "Identity") -> bool:
        return (self.name, self.role, self.accounts) == (other.name, other.role, other.accounts)

    def __repr__(self) -> str:
        return f"<{self.name}, {self.role}>"


class Refusal(Exception):
    """A token that is not accepted, and why. What its holder is told is no help to anybody else."""

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting
        """Whether the token will be refused for ever, unless tokens or keys change."""


class Verifier(Protocol):
    """Knows one kind of token."""

    def refresh(self) -> bool:
        """Whether what it knows has changed since it was asked last; asked before every call."""
        ...

    def verify(self, token: str, at: datetime) -> Identity | None:
        """Whose token it is; None for one of another kind. Raises Refusal."""
        ...


class Authentication:
    """Finds out who calls. Without verifiers every caller is this machine's own, and an administrator."""

    def __init__(self, verifiers: list[Verifier], clock: Callable[[], datetime]) -> None:
        self.verifiers = verifiers
        self.clock = clock
        self.known: dict[str, Identity] = {}
        self.refused: dict[bytes, str] = {}
        """SHA-256 of tokens that were refused, so that a client that goes on and on costs little."""
        self.on_failure: Callable[[str, str, str], None] = lambda why, peer, method: None
        """Called with each sign-in that failed: why, the peer, the method."""

    @property
    def on(self) -> bool:
        return bool(self.verifiers)

    def forget(self) -> None:
        """Tokens or keys have changed: look at each anew."""
        self.known.clear()
        self.refused.clear()

    def identify(self, header: str | None) -> Identity:
        """Who sends this `authorization` header. Raises Fault UNAUTHENTICATED."""
        for verifier in self.verifiers:
            if verifier.refresh():
                self.forget()
        if header is not None:
            identity = self.known.get(header)
            if identity is not None and self.clock().timestamp() < identity.expires_at:
                return identity
        return self.looked_up(header)

    def looked_up(self, header: str | None) -> Identity:
        if not header:
            raise unauthenticated("a token is needed: send the header `authorization: Bearer TOKEN`")
        if len(header) > HEADER_CHARACTERS_MOST:
            raise unauthenticated(f"the authorization header is longer than {HEADER_CHARACTERS_MOST} characters")
        if header[: len(SCHEME)].lower() != SCHEME:
            raise unauthenticated("the authorization header must be `Bearer TOKEN`")
        token = header[len(SCHEME) :].strip()
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        if (why := self.refused.get(digest)) is not None:
            raise unauthenticated(why)
        try:
            identity = self.verified(token)
        except Refusal as refusal:
            self.known.pop(header, None)
            if refusal.lasting:
                if len(self.refused) >= REMEMBERED_MOST:
                    self.refused.clear()
                self.refused[digest] = str(refusal)
            raise unauthenticated(str(refusal)) from None
        if len(self.known) >= REMEMBERED_MOST:
            self.known.clear()
        self.known[header] = identity
        return identity

    def verified(self, token: str) -> Identity:
        at = self.clock()
        for verifier in self.verifiers:
            identity = verifier.verify(token, at)
            if identity is not None:
                return identity
        raise Refusal("the token is not valid")


def unauthenticated(why: str) -> Fault:
    return Fault(FaultReason.UNAUTHENTICATED, why)


LOCAL_IDENTITY = Identity(LOCAL.name, Role.ADMIN)
