"""What every test relies on: its own settings, not those of the machine it runs on."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names of the service's settings are unset, so that a developer's own .env changes no result."""
    for name in os.environ:
        if name.startswith("DEBT_MGMT_"):
            monkeypatch.delenv(name)
