"""Whether accounts are protected at this moment, and what ails the service though they are: the words of /health."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

STUCK_SECONDS = 3.0
"""An append takes milliseconds. What waits for longer waits for a database that is gone, locked or full."""


def unprotected(engine: "Engine") -> list[str]:
    """Why accounts are not protected; empty when they are."""
    reasons = [f"no fresh price for {symbol}" for symbol in sorted(engine.time.blind) if engine.screen.holders(symbol)]
    shards = [engine.house_shard, *engine.shards.values()]
    reasons += [f"shard {shard.number} is halted: {shard.halted}" for shard in shards if shard.halted]
    stuck = max(shard.stuck_seconds for shard in shards)
    if stuck >= STUCK_SECONDS:
        reasons.append(f"the journal can't be written for {stuck:.0f} s: nothing is decided until it can")
    elif engine.chain.unreadable:
        reasons.append("the journal can't be read: its database does not answer")
    return reasons + engine.live.problems()


def ailments(engine: "Engine") -> list[str]:
    """What is wrong with the clock."""
    return engine.clock_watch.problems(max(shard.newest_at for shard in (engine.house_shard, *engine.shards.values())))
