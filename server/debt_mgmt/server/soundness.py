"""Whether accounts are protected at this moment, and what ails the service though they are: the words of /health."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine
    from debt_mgmt.server.shard import Shard

STUCK_SECONDS = 3.0
"""An append takes milliseconds. What waits for longer waits for a database that is gone, locked or full."""

TROUBLE_CHARACTERS_MOST = 200


def unprotected(engine: "Engine") -> list[str]:
    """Why accounts are not protected; empty when they are."""
    reasons = [f"no fresh price for {symbol}" for symbol in sorted(engine.time.blind) if engine.screen.holders(symbol)]
    shards: list[Shard[Any, Any, Any]] = [engine.house_shard, *engine.shards.values()]
    reasons += [f"shard {shard.number} is halted: {shard.halted}" for shard in shards if shard.halted]
    stuck = max(shards, key=lambda shard: shard.stuck_seconds)
    if stuck.stuck_seconds >= STUCK_SECONDS:
        reasons.append(f"the journal can't be written for {stuck.stuck_seconds:.0f} s: {why(stuck)}")
    elif engine.chain.unreadable:
        reasons.append("the journal can't be read: its database does not answer")
    return reasons + engine.live.problems()


def why(shard: "Shard[Any, Any, Any]") -> str:
    """What the database said last, in one line."""
    if shard.counters.trouble is None:
        return "its database does not answer"
    return str(shard.counters.trouble).partition("\n")[0][:TROUBLE_CHARACTERS_MOST]


def ailments(engine: "Engine") -> list[str]:
    """What is wrong with the clock, and with what was written."""
    newest = max(shard.newest_at for shard in engine.shards.values())
    changed = [
        f"the journal of shard {shard} was changed at position {found.broken_position}: `debt-mgmt audit verify`"
        for shard, found in sorted(engine.chain.broken.items())
    ]
    return engine.clock_watch.problems(max(newest, engine.house_shard.newest_at)) + changed
