"""What a limit or a halt concerns: a node of the tree house, owner, account, strategy, instrument."""

import msgspec


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that matches all the fields that are not empty; with none of them, the whole house."""

    owner: str = ""
    account_id: str = ""
    strategy: str = ""
    symbol: str = ""

    @property
    def key(self) -> str:
        """Under which the house keeps what belongs to this node. An owner's alone is its name, the house's is empty."""
        narrower = (self.account_id, self.strategy, self.symbol)
        return "|".join((self.owner, *narrower)) if any(narrower) else self.owner

    @property
    def words(self) -> str:
        """The node as people write it, such as `owner desk, instrument BTCUSDT`."""
        named = {
            "owner": self.owner,
            "account": self.account_id,
            "strategy": self.strategy,
            "instrument": self.symbol,
        }
        return ", ".join(f"{kind} {name}" for kind, name in named.items() if name) or "the house"

    def concerns(self, owner: str, account_id: str, strategy: str, symbol: str) -> bool:
        """Whether an order of this owner, account, strategy and instrument belongs to the node."""
        return (
            self.owner in ("", owner)
            and self.account_id in ("", account_id)
            and self.strategy in ("", strategy)
            and self.symbol in ("", symbol)
        )


HOUSE = Scope()
