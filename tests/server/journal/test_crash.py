"""Kill -9 of PostgreSQL under load: every answered command is in the log, once, and the state is what the log says."""

import asyncio
import os
import random
import signal
from decimal import Decimal

from debt_mgmt.server.journal.journal import LOG_OPENED, verify
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.journal.recovery import replay
from debt_mgmt.server.postgres import EmbeddedPostgres
from debt_mgmt.server.shard import Committed
from tests.server.journal.places import open_place
from tests.server.journal.tally import Add, Added, Cleared, TallyShard, abandon, apply, codec, started

KILLS = 4
CALLERS = 16


async def test_the_service_survives_the_death_of_its_database() -> None:
    chance = random.Random(7)
    with open_place() as directory:
        server = EmbeddedPostgres(directory)
        await server.start()
        journal = await PostgresJournal.open(server.dsn)
        shard = await started(journal, epoch=await journal.next_epoch(), snapshot_events=500)
        answers: dict[str, Committed[Added | Cleared]] = {}
        running = True

        async def call(caller: int) -> None:
            turn = 0
            while running:
                turn += 1
                name = f"{caller}-{turn}"
                answers[name] = await shard.submit(
                    f"key-{turn % 5}", Add(Decimal(1), turn % 3 + 1), request_id=name, digest=name.encode()
                )

        callers = [asyncio.create_task(call(number)) for number in range(CALLERS)]
        for kill in range(1, KILLS + 1):
            await asyncio.sleep(chance.uniform(0.1, 0.3))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            before = len(answers)
            while server.restarts < kill or len(answers) < before + 50:
                await asyncio.sleep(0.01)
        running = False
        await asyncio.gather(*callers)
        await check_log(journal, shard, answers)

        await abandon(shard)
        later = await started(journal, epoch=await journal.next_epoch())
        assert (await later.fingerprint()).digest == (await shard.fingerprint()).digest
        name, first = next(iter(answers.items()))
        repeated = await later.submit("key-1", Add(Decimal(1), 2), request_id=name, digest=name.encode())
        assert repeated.replayed and repeated.events == first.events
        await later.stop()
        await journal.close()
        await server.stop()


async def check_log(
    journal: PostgresJournal, shard: TallyShard, answers: dict[str, Committed[Added | Cleared]]
) -> None:
    rows = [row async for page in journal.read(1) for row in page]
    assert verify(rows).position == len(rows) == shard.revision.position
    positions: dict[str, list[int]] = {}
    for row in rows:
        if row.kind != LOG_OPENED:
            positions.setdefault(row.request_id, []).append(row.position)
    assert positions == {
        name: list(range(answer.first_position, answer.last_position + 1)) for name, answer in answers.items()
    }
    assert (await replay(journal, 1, apply, codec())).fingerprint == await shard.fingerprint()


async def test_two_services_on_one_log_are_correct_without_any_lock(database: EmbeddedPostgres, schema: str) -> None:
    journals = [await PostgresJournal.open(database.dsn, schema=schema) for _ in range(2)]
    shards = [await started(journal) for journal in journals]

    async def load(shard: TallyShard, name: str) -> list[Committed[Added | Cleared]]:
        return [await shard.submit("a", Add(Decimal(1)), request_id=f"{name}-{turn}", digest=b"") for turn in range(30)]

    answered = await asyncio.gather(*(load(shard, f"{number}") for number, shard in enumerate(shards)))
    rows = [row async for page in journals[0].read(1) for row in page]
    assert verify(rows).position == len(rows)
    assert sorted(answer.first_position for answers in answered for answer in answers) == [
        row.position for row in rows if row.kind != LOG_OPENED
    ]
    for shard in shards:
        await shard.submit("a", Add(Decimal(1)))
    expected = await replay(journals[0], 1, apply, codec())
    assert await shards[1].fingerprint() == expected.fingerprint
    for shard, journal in zip(shards, journals, strict=True):
        await abandon(shard)
        await journal.close()
