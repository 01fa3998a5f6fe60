"""How long a log is kept: what is older than the retention is exported, then dropped with its partition."""

from debt_mgmt.server.journal.journal import EMPTY_LOG, Head, Journal


async def begins_after(journal: Journal, shard: int) -> Head:
    """The last row of a log that was dropped, by which the first one kept is verified; (0, GENESIS) where none was."""
    text = await journal.get_meta(begin_key(shard))
    if text is None:
        return EMPTY_LOG
    position, digest = text.split(":")
    return Head(int(position), bytes.fromhex(digest))


def begin_key(shard: int) -> str:
    return f"log {shard} begins after"
