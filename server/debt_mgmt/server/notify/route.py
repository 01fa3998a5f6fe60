"""What a route is: a way to one place where people or programs are told, and how its secret is found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from debt_mgmt.server.config_sources import Secret
from debt_mgmt.server.notify.notice import Notice

SECRET_BYTES_MOST = 4096


class NotTold(Exception):
    """The route did not take a notice. The message is for people, and no secret is in it."""

    def __init__(self, message: str, retry_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        """How long the other side asks to be left alone."""


class Route(Protocol):
    """One way out."""

    name: str
    together: int
    """How many notices go into one message at most."""

    async def tell(self, notices: Sequence[Notice]) -> None:
        """Deliver notices, all or none. Raises NotTold."""

    async def close(self) -> None:
        """Release every connection."""


class SecretPlace:
    """Where a secret is: in an environment variable, or in a file, which is read each time, so it can be rotated."""

    def __init__(self, variable: str, file: Path | None, setting: str, environment: Mapping[str, str]) -> None:
        self.variable = variable
        self.file = file
        self.setting = setting
        self.environment = environment

    def read(self) -> Secret:
        """Raises NotTold where there is none."""
        given = self.environment.get(self.variable, "")
        if self.file is not None:
            try:
                given = self.file.read_text("utf-8")[:SECRET_BYTES_MOST].strip()
            except (OSError, UnicodeDecodeError) as error:
                raise NotTold(f"the file of {self.setting} can't be read: {type(error).__name__}") from None
        if not given:
            raise NotTold(f"there is no secret: set {self.variable}, or {self.setting} to the path of its file")
        return Secret(given)
