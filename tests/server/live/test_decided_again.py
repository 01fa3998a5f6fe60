"""Decisions about live accounts are made again to the byte, from what the journal kept of the venue and its prices."""

from collections import Counter

from debt_mgmt.server.explaining import NOT_KEPT, explained
from debt_mgmt.server.journal.journal import LOG_OPENED
from tests.server.live.desk import D, live_service, open_live, until
from tests.server.live.test_reductions import FALLEN, is_over
from tests.support.live_broker import FakeVenue


async def test_a_reduction_at_a_venue_is_decided_again(venue: FakeVenue) -> None:
    venue.leverage["bybit:BTCUSDT"] = D(5)
    venue.balances["USDT"] = D(16_000)
    venue.hold("BTCUSDT", "1", "50000")
    async with live_service(venue) as desk:
        await open_live(desk)
        venue.mark("BTCUSDT", FALLEN)
        await until(is_over(desk), "the reduction does not end")
        shard, position = desk.engine.revision("alice")
        found: Counter[str] = Counter()
        for row in await desk.engine.journal.read_rows(shard, 1, position):
            if row.kind == LOG_OPENED or row.account_id != "alice":
                continue
            answer = await explained(desk.engine, row)
            kept = NOT_KEPT not in answer.explanation.summary
            assert answer.reproduced or (row.kind == "AccountSynced" and not kept), (row.kind, row.payload)
            found[row.kind] += answer.reproduced
        assert found["ReductionStarted"] == 1
        assert found["RiskLevelChanged"] >= 2
