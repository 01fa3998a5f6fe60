"""Folders in which root, too, can run a PostgreSQL: it runs as another user, who cannot pass pytest's own folder."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_place() -> Iterator[Path]:
    """A new folder that every user may pass, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="debt-mgmt-test-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
