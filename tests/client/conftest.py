"""The fake service, and clients of it that repeat quickly."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from debt_mgmt.client import MarginClient, RetryPolicy, SyncMarginClient
from tests.client.fake_service import FakeService

QUICK = RetryPolicy(attempts_max=5, first_pause=0.01, longest_pause=0.02)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as fake:
        yield fake


@pytest_asyncio.fixture
async def client(service: FakeService) -> AsyncIterator[MarginClient]:
    async with MarginClient(service.target, retries=QUICK) as client:
        yield client


@pytest.fixture
def sync_client(service: FakeService) -> Iterator[SyncMarginClient]:
    with SyncMarginClient(service.target, retries=QUICK) as client:
        yield client
