"""SIGTERM while callers trade: nothing acknowledged is lost, watchers are told, and nothing stays behind."""

import asyncio
import random
import time
from pathlib import Path

import grpc

from debt_mgmt.v1 import margin_service_pb2, types_pb2
from tests.durability.load import Line, Load, repeat
from tests.durability.program import is_alive, journal_at_rest, running
from tests.durability.proof import Proof, check_snapshots

DRAIN_SECONDS = 3.0
AFTER_THAT_SECONDS = 10.0
"""For the snapshots and the end of PostgreSQL, on a machine that has other things to do."""


async def watch(line: Line, account_ids: list[str]) -> list[str]:
    """What a watcher is told until the service ends the stream."""
    request = margin_service_pb2.WatchMarginRequest(account_ids=account_ids)
    return [message.WhichOneof("event") async for message in line.margin.WatchMargin(request)]


async def hold_on(line: Line, account_id: str) -> grpc.StatusCode:
    """A stream whose caller says nothing more and waits; the code that it ends with."""
    order = types_pb2.Order(symbol="BTCUSDT", side=types_pb2.SIDE_BUY, quantity="0.001", price="50000")
    call = line.margin.StreamCheckOrders()
    await call.write(margin_service_pb2.StreamCheckOrdersRequest(account_id=account_id, order=order))
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


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
        assert time.perf_counter() - began < DRAIN_SECONDS, "watchers are told at once"
        assert await stopping == 0, program.log
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

    async with running(data_directory, {"server.drain_seconds": "0.5"}) as program:
        await line.connect(program.target)
        for one in random.Random(22).sample(load.acknowledged, 40):
            await repeat(line, one)
        holding = asyncio.create_task(hold_on(line, load.accounts[0]))
        await asyncio.sleep(0.2)
        assert await program.stop(AFTER_THAT_SECONDS) == 0, "nobody holds up the end by holding a stream"
        assert await holding is grpc.StatusCode.UNAVAILABLE
        await line.close()
