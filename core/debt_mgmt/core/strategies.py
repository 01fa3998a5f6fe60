"""What of each position was traded by which strategy: one rule for every event that changes a position."""

from decimal import ROUND_FLOOR, Decimal

from debt_mgmt.core.money import PRICE_RESOLUTION, ZERO

LEGS = ("|LONG", "|SHORT")
"""How the position key of a hedge leg ends: what is held on one has one sign."""

Strategies = dict[str, dict[str, Decimal]]
"""Strategy → position key → signed quantity."""


def attributed(strategies: Strategies, key: str, before: Decimal, change: Decimal, strategy: str = "") -> Strategies:
    """The strategies after the position `key` went from `before` by `change`, in signed contracts.

    A change of a `strategy` adds to that strategy. One of none takes what it reduces from all parts on the reduced side
    in proportion, that of nobody too; what it opens is nobody's. Then what all strategies hold together is brought back
    between zero and the position, by the strategy itself first: so the parts exceed what is there only where those of
    another strategy offset them. Without a part of nobody their sum is the position, exactly.
    """
    parts = {name: held[key] for name, held in strategies.items() if key in held}
    if not change or not (parts or strategy):
        return strategies
    after = before + change
    if strategy and key.endswith(LEGS) and before * change < 0:
        own = closable(parts.get(strategy, ZERO), change)
        parts[strategy] = parts.get(strategy, ZERO) + own.copy_sign(change)
        before, change, strategy = before + own.copy_sign(change), change - own.copy_sign(change), ""
    if strategy:
        parts[strategy] = parts.get(strategy, ZERO) + change
    elif before * change < 0:
        nobodys = before - sum(parts.values(), ZERO)
        reduce_side(parts, min(abs(change), abs(before)), before, nobodys)
    bring_within(parts, after, strategy)
    return with_parts(strategies, key, parts)


def closable(held: Decimal, change: Decimal) -> Decimal:
    """How many contracts of `held` a change the other way closes."""
    return min(abs(held), abs(change)) if held * change < 0 else ZERO


def reduce_side(parts: dict[str, Decimal], quantity: Decimal, side: Decimal, nobodys: Decimal = ZERO) -> None:
    """Take `quantity` from the parts with the sign of `side`, in proportion, that of nobody last. Exact: what rounding
    leaves goes to the last."""
    names = sorted(name for name, held in parts.items() if held * side > 0)
    total = sum((abs(parts[name]) for name in names), ZERO) + (abs(nobodys) if nobodys * side > 0 else ZERO)
    left = min(quantity, total)
    for name in names:
        held = abs(parts[name])
        share = (left * held / total).quantize(PRICE_RESOLUTION, ROUND_FLOOR)
        taken = max(share, left - (total - held))
        parts[name] -= taken.copy_sign(parts[name])
        left, total = left - taken, total - held


def bring_within(parts: dict[str, Decimal], position: Decimal, strategy: str) -> None:
    """Cut what all parts together are beyond the position, or on the other side of zero."""
    held = sum(parts.values(), ZERO)
    bound = min(max(held, min(position, ZERO)), max(position, ZERO))
    excess = held - bound
    if not excess:
        return
    own = closable(parts.get(strategy, ZERO), -excess)
    if own:
        parts[strategy] -= own.copy_sign(excess)
    reduce_side(parts, abs(excess) - own, excess)


def with_parts(strategies: Strategies, key: str, parts: dict[str, Decimal]) -> Strategies:
    """The strategies with these parts of one position; what is zero is left out."""
    changed = dict(strategies)
    for name, quantity in parts.items():
        held = {one: amount for one, amount in changed.pop(name, {}).items() if one != key}
        if quantity:
            held[key] = quantity.normalize()
        if held:
            changed[name] = held
    return {name: changed[name] for name in sorted(changed)}
