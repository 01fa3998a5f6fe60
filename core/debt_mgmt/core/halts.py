"""Halts of the house's log: what each stops. An order that strictly reduces is never asked about."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from debt_mgmt.core.account import Account
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.scope import Scope


class Halt(msgspec.Struct, frozen=True, omit_defaults=True):
    """New risk stopped at a node, until it is resumed there. None of the fields given is everyone."""

    owner: str
    reason: str
    at: datetime
    account_id: str = ""
    strategy: str = ""
    symbol: str = ""
    by: str = ""
    """Who halted; empty where an earlier version did not keep it."""

    @property
    def scope(self) -> Scope:
        return Scope(self.owner, self.account_id, self.strategy, self.symbol)

    @property
    def is_narrow(self) -> bool:
        """Whether it names more than an owner, so that it is looked at order by order."""
        return bool(self.account_id or self.strategy or self.symbol)


def narrow_halts(halts: Mapping[str, Halt], account: Account) -> tuple[Halt, ...]:
    """Halts that may concern some order of the account, and not every one anyway."""
    return tuple(
        halt
        for halt in halts.values()
        if halt.is_narrow and halt.owner in ("", account.owner) and halt.account_id in ("", account.account_id)
    )


def is_halted(halts: tuple[Halt, ...], strategy: str, symbol: str) -> bool:
    """Whether one of an account's narrow halts stops an order of this strategy on this instrument."""
    return any(halt.strategy in ("", strategy) and halt.symbol in ("", symbol) for halt in halts)


def halt_violations(halts: tuple[Halt, ...], strategy: str, symbol: str) -> list[Violation]:
    """Every narrow halt that stops the order."""
    return [
        Violation(Reason.HOUSE_HALTED, subject=halt.scope.words, note=halt.reason, scope=halt.scope)
        for halt in halts
        if is_halted((halt,), strategy, symbol)
    ]
