"""Nothing turns into zero: a venue that can not be read leaves the account unknown, and why; no order leaves."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from debt_mgmt.core.account import RiskLevel
from debt_mgmt.core.venue import SyncStatus
from debt_mgmt.server.brokers.profiles import PROFILES
from tests.support.falling import PLACES, Fall, account_of, is_fresh, until
from tests.support.service import Desk
from tests.support.venues.venue import FaultKind

D = Decimal
KINDS = (
    FaultKind.SERVER_ERROR,
    FaultKind.HTML,
    FaultKind.CUT_BEFORE,
    FaultKind.HANGS_BEFORE,
    FaultKind.GEO_BLOCK,
    FaultKind.BAD_KEY,
    FaultKind.NO_PERMISSION,
    FaultKind.CLOCK,
    FaultKind.TOO_MANY,
)


@pytest.fixture(params=sorted(PLACES))
async def fall(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fall]:
    profile = msgspec.structs.replace(PROFILES["kraken"], weight_per_second=D(300))
    monkeypatch.setitem(PROFILES, "kraken", profile)
    made = Fall(PLACES[request.param])
    async with made.venue:
        yield made


async def lost(desk: Desk, what: str) -> None:
    """The account is unknown and says why; what was known of it last is there, and no younger."""
    before = account_of(desk)
    await until(lambda: account_of(desk).level is RiskLevel.UNKNOWN, f"{what} is not noticed")
    after = account_of(desk)
    assert after.sync is not None
    assert before.sync is not None
    assert after.sync.status is SyncStatus.LOST
    assert after.sync.reason, what
    assert (after.balances, after.positions, after.debts) == (before.balances, before.positions, before.debts), what
    await asyncio.sleep(0.05)
    later = account_of(desk).sync
    assert later is not None
    assert later.at == after.sync.at


async def found_again(fall: Fall, desk: Desk) -> None:
    fall.venue.mend()
    await until(lambda: is_fresh(desk), "it is not read again")
    await until(lambda: account_of(desk).level is RiskLevel.NORMAL, "it stays unknown")


async def test_whatever_goes_wrong_with_reading_the_account_is_unknown_and_nothing_leaves(fall: Fall) -> None:
    async with fall.life() as desk:
        await fall.open(desk)
        await until(lambda: account_of(desk).level is RiskLevel.NORMAL, "it begins in danger")
        deep = fall.share_for(desk, D("0.95"))
        cases = [(read, FaultKind.HTML) for read in fall.place.reads] + [(fall.place.reads[0], kind) for kind in KINDS]
        for read, kind in cases:
            fall.venue.fault(read, kind, times=None)
            await lost(desk, f"{kind} at {read}")
            await found_again(fall, desk)
        assert fall.writes() == []

        fall.venue.fault(fall.place.reads[0], FaultKind.HTML, times=None)
        await lost(desk, "the last fault")
        fall.move(deep)
        await asyncio.sleep(1.0)
        assert fall.writes() == []
        fall.venue.mend()
        await until(fall.executed, "nothing is reduced when it is read again")
