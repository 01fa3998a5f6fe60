"""What the contract says about who may call a method, looked at before its handler."""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from debt_mgmt.core.access import RANKS, Role
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.actor import not_for_limited, unknown_account
from debt_mgmt.server.security.identity import Identity
from debt_mgmt.v1 import options_pb2

OPENING = "CreateAccount"


class AccessRules:
    """The rules of one method."""

    def __init__(self, method: MethodDescriptor) -> None:
        """Raises ValueError where the contract names no role: such a method can't be served."""
        options = method.GetOptions()
        number = options.Extensions[options_pb2.required_role]
        if number == options_pb2.ROLE_UNSPECIFIED:
            raise ValueError(f"{method.full_name} has no required_role")
        self.role = Role(options_pb2.Role.Name(number).removeprefix("ROLE_"))
        self.house_wide: bool = options.Extensions[options_pb2.house_wide]
        self.method = method
        self.check_scope = self.scope_of()

    def allow(self, identity: Identity, request: Any) -> None:
        """Raise the Fault that keeps this caller out: first by role, then by account."""
        if identity.rank < RANKS[self.role]:
            raise Fault(
                FaultReason.PERMISSION_DENIED,
                f"{self.method.name} needs the role {self.role.lower()}; this token has {identity.role.lower()}",
                required_role=self.role.lower(),
            )
        if identity.accounts is not None:
            self.check_scope(identity.accounts, request)

    def scope_of(self) -> Callable[[frozenset[str], Any], None]:
        """What a caller who is limited to some accounts is checked by, before anything else looks at the request."""
        if self.house_wide:
            return nothing_for_limited
        if self.method.client_streaming:
            return each_message_for_itself
        fields = self.method.input_type.fields_by_name
        if self.method.name == OPENING:
            return own_to_open
        if "account_ids" in fields:
            return own_accounts
        return own_account if "account_id" in fields else each_message_for_itself


def nothing_for_limited(accounts: frozenset[str], request: Any) -> None:
    raise not_for_limited()


def own_account(accounts: frozenset[str], request: Any) -> None:
    """An account that is not the caller's does not exist, whether it does or not. Empty is all that there are."""
    if request.account_id and request.account_id not in accounts:
        raise unknown_account(request.account_id)


def own_accounts(accounts: frozenset[str], request: Any) -> None:
    for account_id in request.account_ids:
        if account_id not in accounts:
            raise unknown_account(account_id)


def own_to_open(accounts: frozenset[str], request: Any) -> None:
    if request.account_id not in accounts:
        raise Fault(FaultReason.PERMISSION_DENIED, "the token is limited to other accounts than this one")


def each_message_for_itself(accounts: frozenset[str], request: Any) -> None:
    """The method is about no account, or its handler looks at each message."""
