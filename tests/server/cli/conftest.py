"""How the tests run commands."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from debt_mgmt.server.cli import session
from debt_mgmt.server.cli.program import app
from tests.server.cli.made import FakeClient


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command with a made-up client in the service's place."""

    def command(client: FakeClient, *arguments: str, columns: int = 120) -> Result:
        monkeypatch.setattr(session, "client_of", lambda _: client)
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)})

    return command
