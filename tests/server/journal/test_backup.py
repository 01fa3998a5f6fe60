"""A backup holds the whole journal; restored elsewhere it adds up to the same state, and nothing else is accepted."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from debt_mgmt.core.commands import Transfer
from debt_mgmt.core.money import parse
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.backup import back_up, check_whole, read_manifest, restore, verify_backup
from debt_mgmt.server.journal.journal import Journal, JournalDamaged, JournalError
from debt_mgmt.server.journal.memory_journal import Fault, MemoryJournal
from debt_mgmt.server.retaining import Retaining
from tests.server.rpc.edge import RULES, Edge

NOW = datetime(2026, 3, 5, tzinfo=UTC)


async def used(journal: Journal, transfers: int = 40) -> Edge:
    edge = Edge(journal, RULES)
    await edge.engine.start()
    await edge.furnish()
    for name in ("alice", "bob", "carol"):
        await edge.open(name)
    for number in range(transfers):
        edge.clock.advance(hours=1)
        await edge.engine.submit(
            "alice", Transfer("USDT", parse(str(number + 1))), request_id=f"r{number}", actor=SYSTEM
        )
    return edge


async def test_a_restored_journal_adds_up_to_the_same_state(journal: Journal, tmp_path: Path) -> None:
    """Taken while the service runs; requests that were answered before are answered from it again."""
    edge = await used(journal)
    fingerprint = await edge.engine.fingerprint()
    made = await back_up(journal, tmp_path / "backup", NOW, "1")
    assert made.rows == sum(head.position for head in edge.engine.heads().values())
    assert verify_backup(tmp_path / "backup") == made
    other = MemoryJournal()
    await restore(other, tmp_path / "backup")
    again = Edge(other, RULES)
    again.clock.now = edge.clock.now
    await again.engine.start()
    assert await again.engine.fingerprint() == fingerprint
    repeated = await again.engine.submit("alice", Transfer("USDT", parse("7")), request_id="r6", actor=SYSTEM)
    assert repeated.replayed
    await again.engine.stop()
    await edge.engine.stop()


async def test_what_was_dropped_stays_dropped_and_the_log_begins_where_it_began(
    journal: Journal, tmp_path: Path
) -> None:
    edge = await used(journal, 90)
    edge.clock.advance(days=400)
    assert await Retaining(edge.engine, timedelta(days=365), tmp_path / "archive", 20).sweep()
    fingerprint = await edge.engine.fingerprint()
    await back_up(journal, tmp_path / "backup", NOW, "1")
    other = MemoryJournal()
    await restore(other, tmp_path / "backup")
    again = Edge(other, RULES)
    again.clock.now = edge.clock.now
    await again.engine.start()
    assert await again.engine.fingerprint() == fingerprint
    await again.engine.submit("alice", Transfer("USDT", parse("7")), request_id="", actor=SYSTEM)
    await again.engine.stop()
    await edge.engine.stop()


async def test_a_backup_that_was_changed_is_not_restored(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await used(journal)
    manifest = await back_up(journal, tmp_path / "backup", NOW, "1")
    log = max(manifest.logs, key=lambda one: one.rows)
    file = tmp_path / "backup" / log.file
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content.replace(b'\\"amount\\":\\"7\\"', b'\\"amount\\":\\"9\\"', 1)))
    assert gzip.decompress(file.read_bytes()) != content
    other = MemoryJournal()
    with pytest.raises(JournalDamaged, match="not what was written"):
        await restore(other, tmp_path / "backup")
    assert await other.all_meta() == {}
    assert not other.rows(log.shard)
    await edge.engine.stop()


async def test_a_backup_whose_parts_do_not_belong_together_is_not_restored(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await used(journal)
    old = await back_up(journal, tmp_path / "old", NOW, "1")
    await edge.engine.submit("alice", Transfer("USDT", parse("7")), request_id="", actor=SYSTEM)
    new = await back_up(journal, tmp_path / "new", NOW, "1")
    (changed,) = [one.file for one, other in zip(old.logs, new.logs, strict=True) if one != other]
    (tmp_path / "new" / changed).write_bytes((tmp_path / "old" / changed).read_bytes())
    with pytest.raises(JournalError, match="not the file that the backup was made with"):
        await restore(MemoryJournal(), tmp_path / "new")
    await edge.engine.stop()


async def test_a_journal_in_use_is_not_written_over(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await used(journal)
    await back_up(journal, tmp_path / "backup", NOW, "1")
    with pytest.raises(JournalError, match="in use already"):
        await restore(journal, tmp_path / "backup")
    with pytest.raises(JournalError, match="not empty"):
        await back_up(journal, tmp_path / "backup", NOW, "1")
    await edge.engine.stop()


async def test_a_journal_that_was_tampered_with_makes_no_backup(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await used(journal)
    shard, position = edge.engine.revision("alice")
    journal.rows(shard)[position - 3] = msgspec.structs.replace(journal.rows(shard)[position - 3], actor="nobody")
    with pytest.raises(JournalDamaged, match=f"position {position - 2}"):
        await back_up(journal, tmp_path / "backup", NOW, "1")
    with pytest.raises(JournalError, match="no whole backup"):
        read_manifest(tmp_path / "backup")
    await edge.engine.stop()


async def test_half_a_restore_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    journal = MemoryJournal()
    edge = await used(journal)
    made = await back_up(journal, tmp_path / "backup", NOW, "1")
    other = MemoryJournal()
    await restore(other, tmp_path / "backup")
    await check_whole(other)
    torn = MemoryJournal()
    torn.fail_next(Fault.BEFORE)
    with pytest.raises(JournalError):
        await restore(torn, tmp_path / "backup")
    with pytest.raises(JournalError, match="was cut off"):
        await check_whole(torn)
    with pytest.raises(JournalError, match="in use already"):
        await restore(torn, tmp_path / "backup")
    assert (await back_up(other, tmp_path / "again", NOW, "1")).rows == made.rows
    await edge.engine.stop()


async def test_a_journal_that_was_never_used_makes_no_backup(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="never used"):
        await back_up(MemoryJournal(), tmp_path / "nothing", NOW, "1")
