"""SIGTERM while callers trade: nothing acknowledged is lost, watchers are told, and nothing stays behind."""

import asyncio
import random
import time
from pathlib import Path

import grpc

from debt_mgmt.v1 import margin_service_pb2
from tests.durability.load import Line, Load, repeat
from tests.durability.program import is_alive, journal_at_rest, running
from tests.durability.proof import Proof, check_snapshots

DRAIN_SECONDS = 3.0
AFTER_THAT_SECONDS = 4.0
"""For the snapshots and the end of PostgreSQL, on a machine that has other things to do."""


async def watch(line: Line, account_ids: list[str]) -> list[str]:
    """What a watcher is told until the service ends the stream."""
    request = margin_service_pb2.WatchMarginRequest(account_ids=account_ids)
    return [message.WhichOneof("event") async for message in line.margin.WatchMargin(request)]


async def test_a_stop_under_load_loses_nothing_and_leaves_nothing_behind(data_directory: Path) -> None:
    line, proof = Line(), Proof()
    load = Load(line, random.Random(21))
    async with running(data_directory, {"server.drain_seconds": str(DRAIN_SECONDS)}) as program:
        await line.connect(program.target)
        await load.open_accounts()
        load.begin()
        watchers = [asyncio.create_task(watch(line, chosen)) for chosen in ([], load.accounts[:1], load.accounts[2:4])]
        postgres = program.postgres_pid()
        assert postgres is not None and is_alive(postgres)
        await asyncio.sleep(1.0)

        began = time.perf_counter()
        stopping = asyncio.create_task(program.stop(DRAIN_SECONDS + AFTER_THAT_SECONDS))
        told = await asyncio.gather(*watchers)
        assert await stopping == 0, program.log
        took = time.perf_counter() - began
        assert took < DRAIN_SECONDS + AFTER_THAT_SECONDS
        assert not is_alive(postgres)
        assert [events[-1] for events in told] == ["draining"] * 3
        assert all("snapshot_complete" in events for events in told)
        await load.end()
        assert set(load.failures) <= {grpc.StatusCode.UNAVAILABLE}, load.failures
        assert "Traceback" not in program.log, program.log
    assert len(load.acknowledged) > 50
    async with journal_at_rest(data_directory) as journal:
        await proof.follow(journal)
        covered = await check_snapshots(journal)
    for one in load.acknowledged:
        proof.check_acknowledged(one)
    assert all(covered.get(shard, 0) >= last for shard, last in proof.last_events.items())

    async with running(data_directory) as program:
        await line.connect(program.target)
        for one in random.Random(22).sample(load.acknowledged, 40):
            await repeat(line, one)
        await line.close()
