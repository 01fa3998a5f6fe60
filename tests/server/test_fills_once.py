"""A fill counts once, by its own id and by its request id, also after a restart."""

import grpc
import pytest

from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import margin_service_pb2 as wire
from debt_mgmt.v1 import rejections_pb2, types_pb2
from tests.support.service import Desk, service


def fill(request_id: str, fill_id: str, quantity: str = "0.5") -> wire.RecordFillRequest:
    return wire.RecordFillRequest(
        request_id=request_id,
        account_id="alice",
        symbol="BTCUSD",
        side=types_pb2.SIDE_BUY,
        quantity=quantity,
        price="100",
        fill_id=fill_id,
        fee="0",
    )


async def quantity(desk: Desk) -> str:
    answer = await desk.margin.ListPositions(wire.ListPositionsRequest(account_id="alice"))
    return str(answer.positions[0].quantity)


async def test_the_same_fill_told_twice_counts_once() -> None:
    journal = MemoryJournal()
    async with service(journal=journal) as desk:
        await desk.open("alice")
        await desk.mark({"BTCUSD": "100"})
        first = await desk.margin.RecordFill(fill("one", "trade-1"))
        again = await desk.margin.RecordFill(fill("two", "trade-1"))
        assert first.accepted
        assert not first.replayed
        assert again.replayed
        assert again.fill == first.fill
        assert await quantity(desk) == "0.5"
    async with service(journal=journal) as desk:
        assert (await desk.margin.RecordFill(fill("three", "trade-1"))).replayed
        await desk.margin.RecordFill(fill("four", "trade-2"))
        assert await quantity(desk) == "1"


async def test_another_fill_under_a_known_request_id_is_an_error() -> None:
    async with service() as desk:
        await desk.open("alice")
        await desk.mark({"BTCUSD": "100"})
        await desk.margin.RecordFill(fill("one", "trade-1"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await desk.margin.RecordFill(fill("one", "trade-2"))
        assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert await quantity(desk) == "0.5"


async def test_a_known_fill_with_other_terms_is_refused() -> None:
    async with service() as desk:
        await desk.open("alice")
        await desk.mark({"BTCUSD": "100"})
        await desk.margin.RecordFill(fill("one", "trade-1"))
        answer = await desk.margin.RecordFill(fill("two", "trade-1", quantity="0.6"))
        assert not answer.accepted
        assert [one.reason for one in answer.violations] == [rejections_pb2.REFUSAL_REASON_DUPLICATE_FILL]
        assert await quantity(desk) == "0.5"


async def test_a_fill_keeps_the_request_id_of_its_caller() -> None:
    async with service() as desk:
        await desk.open("alice")
        await desk.mark({"BTCUSD": "100"})
        await desk.margin.RecordFill(fill("engine-7", "trade-1"))
        rows = await desk.engine.journal.list_rows(account_id="alice", kinds=["FillRecorded"])
        assert [row.request_id for row in rows] == ["engine-7"]
