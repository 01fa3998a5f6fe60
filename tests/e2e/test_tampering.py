"""A journal that somebody changed in the database is found out, and the first changed row is named."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio
from typer.testing import CliRunner

from debt_mgmt.server.cli.program import app
from debt_mgmt.server.journal.journal import link
from debt_mgmt.server.journal.postgres_journal import settings_of
from debt_mgmt.v1 import audit_service_pb2 as wire
from tests.e2e.books import BUY
from tests.support.service import Desk, service

SHARDS = 9


@pytest_asyncio.fixture
async def desk(data_directory: Path) -> AsyncIterator[Desk]:
    async with service(data_directory) as running:
        await running.open("alice")
        await running.mark({"BTCUSDT": "50000"})
        for _ in range(4):
            await running.fill("alice", BUY, "0.01", "BTCUSDT", "50000")
        yield running


async def altered(desk: Desk, statement: str, *values: Any) -> None:
    """What somebody does who may write to the database."""
    journal: Any = desk.engine.journal
    connection = await asyncpg.connect(journal._dsn, server_settings=settings_of("debt_mgmt", 10))
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def walk(desk: Desk, **fields: Any) -> wire.VerifyAuditResponse:
    answer: wire.VerifyAuditResponse = await desk.audit.VerifyAudit(wire.VerifyAuditRequest(**fields))
    return answer


async def broken(desk: Desk) -> tuple[int, int, str]:
    """Shard, position and reason of the one shard that is not intact."""
    answer = await walk(desk)
    assert not answer.intact
    (found,) = [one for one in answer.shards if not one.intact]
    return found.shard, found.broken_position, found.detail


async def test_a_journal_as_it_was_written_is_intact(desk: Desk) -> None:
    answer = await walk(desk)
    assert answer.intact
    assert [one.shard for one in answer.shards] == list(range(SHARDS))
    heads = desk.engine.heads()
    for one in answer.shards:
        assert (one.intact, one.detail, one.head_position) == (True, "", heads[one.shard].position)
        if one.last_position:
            assert one.chain_hash == heads[one.shard].hash.hex()
            assert (one.first_position, one.last_position) == (1, heads[one.shard].position)


async def test_one_changed_row_is_found_and_named(desk: Desk) -> None:
    shard, head = desk.engine.revision("alice")
    position = head - 2
    await altered(
        desk,
        """UPDATE journal SET payload = replace(payload::text, '"50000"', '"49000"')::json
        WHERE shard = $1 AND position = $2""",
        shard,
        position,
    )
    found = await broken(desk)
    assert found[:2] == (shard, position)
    assert "FillRecorded of alice" in found[2]
    assert "not what was written" in found[2]


async def test_who_did_it_can_not_be_changed_either(desk: Desk) -> None:
    shard, position = desk.engine.revision("alice")
    await altered(desk, "UPDATE journal SET actor = 'nobody' WHERE shard = $1 AND position = $2", shard, position)
    assert (await broken(desk))[:2] == (shard, position)


async def test_a_deleted_row_is_missed(desk: Desk) -> None:
    shard, head = desk.engine.revision("alice")
    await altered(desk, "DELETE FROM journal WHERE shard = $1 AND position = $2", shard, head - 1)
    found = await broken(desk)
    assert found == (shard, head - 1, f"the row is missing: the next one stored is at position {head}")


async def test_a_log_that_was_cut_off_at_its_end_is_found_out(desk: Desk) -> None:
    """Its chain fits; but the service knows how far it wrote."""
    shard, head = desk.engine.revision("alice")
    await altered(desk, "DELETE FROM journal WHERE shard = $1 AND position >= $2", shard, head - 1)
    found = await broken(desk)
    assert found[:2] == (shard, head - 1)
    assert f"this service wrote up to {head}" in found[2]


async def test_a_chain_that_was_written_anew_is_found_out(desk: Desk) -> None:
    """Whoever knows how hashes are made can make a chain that fits; its end is another than the service remembers."""
    shard, head = desk.engine.revision("alice")
    rows = await desk.engine.journal.read_rows(shard, head - 1, head)
    previous = (await desk.engine.journal.read_rows(shard, head - 2, head - 2))[0].hash
    for row in rows:
        payload = row.payload.replace(b'"50000"', b'"49000"')
        forged = link(
            previous, row.shard, row.position, row.epoch, row.at, row.account_id, row.request_id,
            row.request_digest, row.actor, row.kind, payload,
        )  # fmt: skip
        await altered(
            desk,
            "UPDATE journal SET payload = $3::text::json, hash = $4 WHERE shard = $1 AND position = $2",
            shard, row.position, payload.decode(), forged.hash,
        )  # fmt: skip
        previous = forged.hash
    found = await broken(desk)
    assert found[:2] == (shard, head)
    assert "written anew" in found[2]


async def test_a_long_log_is_walked_in_parts(desk: Desk) -> None:
    shard, head = desk.engine.revision("alice")
    start = 0
    seen: list[int] = []
    while True:
        (part,) = (await walk(desk, shard=shard, start_position=start, max_events=3)).shards
        assert part.intact
        seen += range(part.first_position, part.last_position + 1)
        if part.last_position == part.head_position:
            break
        start = part.last_position + 1
    assert seen == list(range(1, head + 1))


async def test_a_walk_in_parts_finds_the_change_between_two_parts(desk: Desk) -> None:
    """A row that follows another than the one stored before it does not fit, wherever the walk begins."""
    shard, head = desk.engine.revision("alice")
    await altered(desk, "UPDATE journal SET hash = $3 WHERE shard = $1 AND position = $2", shard, head - 2, bytes(32))
    (part,) = (await walk(desk, shard=shard, start_position=head - 1, max_events=1)).shards
    assert (part.intact, part.broken_position) == (False, head - 1)


async def test_the_command_names_the_row(desk: Desk, data_directory: Path) -> None:
    target = f"127.0.0.1:{desk.running.port}"

    def verify(*more: str) -> Any:
        return CliRunner().invoke(app, ["audit", "verify", "--target", target, *more])

    fine = await asyncio.to_thread(verify)
    assert (fine.exit_code, "every hash fits" in fine.stdout) == (0, True), fine.output
    shard, head = desk.engine.revision("alice")
    await altered(desk, "UPDATE journal SET kind = 'Repaid' WHERE shard = $1 AND position = $2", shard, head)
    wrong = await asyncio.to_thread(verify)
    assert wrong.exit_code == 1
    assert f"shard {shard}, position {head}" in " ".join(wrong.stdout.split())
    found = json.loads((await asyncio.to_thread(verify, "--json")).stdout)
    assert not found["intact"]
    assert [one["broken_position"] for one in found["shards"] if not one["intact"]] == [head]
