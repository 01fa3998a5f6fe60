"""How properties are tried: without a clock, and an example that fails is printed so that it can be repeated.

And what all accounts share is looked at after each test: nobody may have written into it.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from debt_mgmt.core.account import EMPTY

settings.register_profile(
    "desk",
    deadline=None,
    database=None,
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("desk")


@pytest.fixture(autouse=True)
def nothing_written_into_what_is_shared() -> Iterator[None]:
    yield
    assert not EMPTY, "an account was changed in place"
