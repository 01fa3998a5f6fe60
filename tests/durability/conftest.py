"""Fixtures of the durability tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.journal.places import open_place


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """Where a service keeps its data, whoever runs the tests; beside it is room for what it says."""
    with open_place() as directory:
        yield directory / "data"
