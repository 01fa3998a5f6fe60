"""What every test relies on: its own settings, not those of the machine it runs on."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_this_machine() -> Iterator[None]:
    """The environment names of the service's settings are unset, so that a developer's own .env changes no result."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith("DEBT_MGMT_"):
                patch.delenv(name)
        yield
