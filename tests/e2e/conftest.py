"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.journal.places import open_place


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """A data directory that an embedded PostgreSQL can use, whoever runs the tests."""
    with open_place() as directory:
        yield directory
