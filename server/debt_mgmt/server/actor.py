"""Who asks: what the caller may see and do, kept with every event that follows."""

from collections.abc import Iterable

import msgspec

from debt_mgmt.core.access import RANKS, Role
from debt_mgmt.core.faults import Fault, FaultReason


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The caller's name, role and network peer, and the accounts that exist for it."""

    name: str
    role: str = ""
    peer: str = ""
    accounts: frozenset[str] | None = None
    """None: every account."""

    def may_see(self, account_id: str) -> bool:
        return self.accounts is None or account_id in self.accounts

    def seen(self, account_ids: Iterable[str]) -> list[str]:
        """Those of the accounts that exist for this caller."""
        return [account_id for account_id in account_ids if self.accounts is None or account_id in self.accounts]

    def check_sees(self, account_id: str) -> None:
        """Raise Fault ACCOUNT_NOT_FOUND, in the words for an account that does not exist, where it may not see it."""
        if self.accounts is not None and account_id not in self.accounts:
            raise unknown_account(account_id)

    def check_sees_everything(self) -> None:
        """Raise Fault PERMISSION_DENIED where the caller is limited to some accounts."""
        if self.accounts is not None:
            raise not_for_limited()

    def check_role(self, required: Role) -> None:
        """Raise Fault PERMISSION_DENIED where the caller's role allows less. For what depends on the request itself."""
        if self.role != SYSTEM.role and RANKS.get(self.role, 0) < RANKS[required]:  # type: ignore[call-overload]
            raise Fault(
                FaultReason.PERMISSION_DENIED,
                f"this needs the role {required.lower()}, and {self.name} is {self.role.lower() or 'nobody'}",
                required_role=required.value,
            )

    @property
    def text(self) -> str:
        """As it is kept with events: who, not what they might have done."""
        return msgspec.json.encode(Actor(self.name, self.role, self.peer)).decode()


def unknown_account(account_id: str) -> Fault:
    """There is no such account, or none that the caller may know of: both are told in the same words."""
    return Fault(FaultReason.ACCOUNT_NOT_FOUND, f"account {account_id} is not known", account_id=account_id)


def not_for_limited() -> Fault:
    return Fault(FaultReason.PERMISSION_DENIED, "this concerns every account, and the token is limited to some of them")


SYSTEM = Actor("debt-mgmt", "system")
"""The service itself: assessments, expiries, forced reductions."""
LOCAL = Actor("local", Role.ADMIN.value)
"""Whoever calls while nothing authenticates callers: only this machine can."""
