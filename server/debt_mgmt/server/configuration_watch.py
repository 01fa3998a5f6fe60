"""Sees when the configuration file is changed into one that the next start would refuse."""

import logging
from collections.abc import Mapping
from pathlib import Path

from debt_mgmt.server.config import ConfigurationError, read_settings
from debt_mgmt.server.security.watched_file import stamp_of

logger = logging.getLogger(__name__)


class ConfigurationWatch:
    """Settings are read at the start alone, and stay in force. What becomes of the next start is told before it."""

    def __init__(self, file: Path | None, flags: Mapping[str, str]) -> None:
        """`file` and `flags` are what the service was started with."""
        self.file = file
        self.flags = flags
        self.stamp = stamp_of(file) if file is not None else None
        self.found: tuple[str, ...] = ()

    def problems(self) -> tuple[str, ...]:
        """Why a start with the file as it is now would be refused; empty where it would not."""
        if self.file is None or (stamp := stamp_of(self.file)) == self.stamp:
            return self.found
        self.stamp = stamp
        try:
            read_settings(self.file, flags=self.flags)
        except ConfigurationError as error:
            self.found = error.problems
            for problem in error.problems:
                logger.error("the changed configuration can't be used: %s; what was read at the start holds", problem)
        else:
            self.found = ()
            logger.info("%s has changed and can be used: the next start reads it", self.file)
        return self.found

    def warnings(self) -> list[str]:
        """The problems, for people who have not looked into the file."""
        return [f"the next start would be refused: {problem}" for problem in self.problems()]
