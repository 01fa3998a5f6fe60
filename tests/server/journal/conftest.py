"""A PostgreSQL for these tests, and both journals behind one fixture."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.postgres import EmbeddedPostgres
from tests.server.journal.places import open_place

_schemas = (f"journal_test_{number}" for number in count(1))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database() -> AsyncIterator[EmbeddedPostgres]:
    with open_place() as directory:
        server = EmbeddedPostgres(directory)
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
def schema() -> str:
    """A schema of its own for each test."""
    return next(_schemas)


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def journal(request: pytest.FixtureRequest, database: EmbeddedPostgres, schema: str) -> AsyncIterator[Journal]:
    opened = MemoryJournal() if request.param == "memory" else await PostgresJournal.open(database.dsn, schema=schema)
    yield opened
    await opened.close()
