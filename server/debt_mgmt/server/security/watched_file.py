"""Files that are read again when they change, while the last good content stays in force."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Content = TypeVar("Content")
Stamp = tuple[int, int, int]


class UnusableFile(Exception):
    """What a file of the configuration holds can't be used; the message says what and why, and never shows it."""


class WatchedFiles(Generic[Content]):
    """What some files hold together. The first reading must succeed; a later one that fails changes nothing."""

    def __init__(self, what: str, files: Sequence[Path], read: Callable[[], Content]) -> None:
        """Raises UnusableFile."""
        self.what = what
        self.files = tuple(files)
        self.read = read
        self.problem = ""
        """Why the last reading failed; empty where it did not."""
        self.stamps = self.look()
        try:
            self.content = read()
        except OSError as error:
            raise UnusableFile(f"{what} can't be read: {error}") from error

    def look(self) -> tuple[Stamp | None, ...]:
        return tuple(stamp_of(file) for file in self.files)

    def reload(self) -> bool:
        """Read the files again where they have changed; whether there is something new."""
        stamps = self.look()
        if stamps == self.stamps:
            return False
        self.stamps = stamps
        try:
            self.content = self.read()
        except (OSError, UnusableFile) as error:
            self.problem = f"{self.what} can't be used since it changed: {error}"
            logger.error("%s; what it held before stays in force", self.problem)
            return False
        self.problem = ""
        logger.info("%s was read again", self.what)
        return True


def stamp_of(file: Path) -> Stamp | None:
    """What differs once a file was written or replaced; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
