"""A running engine for the tests of the edge."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.server.rpc.edge import Edge, running_edge


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[Edge]:
    async for running in running_edge():
        yield running
