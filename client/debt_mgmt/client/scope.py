"""What a limit or a halt concerns: a node of the tree house, owner, account, strategy, instrument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Everything that matches all the fields given; with none of them, the whole house."""

    owner: str | None = None
    account_id: str | None = None
    strategy: str | None = None
    """Its orders and fills."""
    symbol: str | None = None

    def __str__(self) -> str:
        """As people write it, such as `owner desk, instrument BTCUSDT`."""
        named = (
            ("owner", self.owner),
            ("account", self.account_id),
            ("strategy", self.strategy),
            ("instrument", self.symbol),
        )
        return ", ".join(f"{kind} {name}" for kind, name in named if name) or "the house"
