"""Who may do what: roles, and the tokens that the house has issued. Only hashes of tokens are known here."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Role(StrEnum):
    """Each role allows what the ones before it allow."""

    VIEWER = "VIEWER"
    TRADER = "TRADER"
    RISK = "RISK"
    ADMIN = "ADMIN"

    @property
    def rank(self) -> int:
        return RANKS[self]

    def allows(self, required: "Role") -> bool:
        return RANKS[self] >= RANKS[required]


RANKS = {role: rank for rank, role in enumerate(Role, start=1)}


class AccessToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token as the house knows it: never its secret."""

    name: str
    digest: str
    """SHA-256 of the secret, in hexadecimal."""
    role: Role
    issued_at: datetime
    accounts: tuple[str, ...] = ()
    """The accounts it may touch; empty: every account."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    rotated_at: datetime | None = None
    previous_digest: str = ""
    """Of the secret before the last rotation, which is good until `previous_until`."""
    previous_until: datetime | None = None
    note: str = ""

    def is_good(self, at: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)
