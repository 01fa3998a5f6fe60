"""Live accounts in a running service, at a venue in memory."""

from collections.abc import Iterator

import pytest

from tests.support.live_broker import FakeVenue


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    """Bybit with one account: 10,000 USDT, bitcoin at 50,000, nothing held. Every connection to it must be closed."""
    made = FakeVenue("bybit")
    made.mark("BTCUSDT", "50000")
    yield made
    assert (made.open_brokers, made.open_feeds) == (0, 0), "connections are left open"
