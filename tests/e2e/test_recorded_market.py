"""The recorded market of 3 and 4 September 2017: levels are crossed, and one reduction made, when it is known."""

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, RiskLevel
from debt_mgmt.core.apply import apply
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.v1 import margin_service_pb2, market_service_pb2, types_pb2
from tests.support.service import Desk, service

TAPE = Path(__file__).parents[3] / "shared" / "data" / "btc-eth-usd-1m-2017-09-03.csv.gz"
OPENED = datetime(2017, 9, 4, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not TAPE.exists(), reason="the recording is not beside the project")


def instants() -> Iterator[tuple[datetime, dict[str, str]]]:
    """Closing prices by minute, read here without the service's own reader."""
    prices: dict[datetime, dict[str, str]] = {}
    with gzip.open(TAPE, "rt") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromtimestamp(int(row["timestamp_ms"]) / 1000, UTC)
            prices.setdefault(at, {})[row["symbol"]] = row["close"]
    return iter(sorted(prices.items()))


async def publish(desk: Desk, at: datetime, prices: dict[str, str]) -> None:
    request = market_service_pb2.PublishMarksRequest(clock=market_service_pb2.MARK_CLOCK_TAPE, settle=True)
    for symbol, price in prices.items():
        update = request.marks.add(symbol=symbol, price=price, source="tape")
        update.source_time.FromDatetime(at)
    answer = await desk.market.PublishMarks(iter([request]))
    assert answer.quarantined_count == 0, answer.quarantined


async def replay_day(desk: Desk) -> list[Any]:
    """Play the tape; open the account at the close of 4 September 00:00. Returns its status after each minute."""
    seen = []
    await desk.open("tape", "10000", "USD")
    for symbol in ("BTCUSD", "ETHUSD"):
        await desk.lever("tape", symbol, "5")
    for at, prices in instants():
        await publish(desk, at, prices)
        if at == OPENED:
            await desk.fill("tape", types_pb2.SIDE_BUY, "1.946", "BTCUSD", "4626.05")
            await desk.fill("tape", types_pb2.SIDE_BUY, "59.47", "ETHUSD", "353.10")
        if at >= OPENED:
            seen.append((at, await desk.status("tape")))
    return seen


def tape_time(marks: Any) -> str:
    """The latest minute among the prices that something was decided on."""
    latest: datetime = max(mark.source_time.ToDatetime(UTC) for mark in marks)
    return latest.strftime("%H:%M")


async def test_levels_are_crossed_and_positions_reduced_in_the_minutes_known(data_directory: Path) -> None:
    async with service(data_directory) as desk:
        seen = await replay_day(desk)
        account = desk.engine.account("tape")

        raised = [
            (alert.level, max(mark.source_time for mark in alert.marks).strftime("%H:%M"))
            for alert in account.alerts
            if alert.kind == "LEVEL_RAISED"
        ]
        first: dict[RiskLevel, str] = {}
        for level, minute in raised:
            first.setdefault(level, minute)
        assert first == {RiskLevel.WARNING: "08:06", RiskLevel.CRITICAL: "12:15", RiskLevel.LIQUIDATING: "14:57"}

        plans = (
            await desk.margin.ListLiquidations(margin_service_pb2.ListLiquidationsRequest(account_id="tape"))
        ).liquidations
        assert len(plans) == 1
        plan = plans[0]
        assert tape_time(plan.marks) == "14:57"
        assert Decimal(plan.utilization_before).quantize(Decimal("0.0001")) == Decimal("0.9098")
        assert [(step.symbol, step.side, len(step.fills)) for step in plan.steps] == [
            ("ETHUSD", types_pb2.SIDE_SELL, 1)
        ]
        assert account.positions["ETHUSD"].quantity == Decimal("39.08")
        assert Decimal("0.699") < Decimal(plan.utilization_after) <= Decimal("0.70")

        before = {at.strftime("%H:%M"): status for at, status in seen if at.strftime("%H:%M") < "14:57"}
        assert Decimal(before["08:06"].equity).quantize(Decimal("0.01")) == Decimal("7985.78")
        assert Decimal(before["12:15"].equity).quantize(Decimal("0.01")) == Decimal("6659.46")
        after = [status for at, status in seen if at.strftime("%H:%M") >= "14:57"]
        assert max(Decimal(status.margin_utilization) for status in after) < Decimal("0.73")
        assert min(Decimal(status.equity) for status in after).quantize(Decimal(1)) == Decimal(5323)
        assert Decimal(seen[-1][1].equity).quantize(Decimal(1)) == Decimal(7051)


async def test_every_alert_follows_a_transition_and_none_is_repeated(data_directory: Path) -> None:
    async with service(data_directory) as desk:
        await replay_day(desk)
        rows = await desk.engine.journal.list_rows(account_id="tape", limit=1000)
        codec: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)
        events = [codec.decode_event(row.payload) for row in rows]
        changes = [event for event in events if isinstance(event, e.RiskLevelChanged)]
        alerts = [
            event.alert
            for event in events
            if isinstance(event, e.AlertRaised) and event.alert.kind in ("LEVEL_RAISED", "LEVEL_LOWERED")
        ]
        assert [alert.level for alert in alerts] == [change.after for change in changes]
        assert all(one.after is not two.after for one, two in pairwise(changes))


async def test_the_journal_replayed_from_zero_gives_the_same_state(data_directory: Path) -> None:
    async with service(data_directory) as desk:
        await replay_day(desk)
        live = desk.engine.account("tape")
        shard = desk.engine.home["tape"]
        codec: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)
        again: Account | None = None
        async for page in desk.engine.journal.read(shard):
            for row in page:
                if row.account_id == "tape":
                    again = apply(again, codec.decode_event(row.payload))
        assert again == live
        fingerprint = await desk.engine.fingerprint()
    async with service(data_directory) as desk:
        assert await desk.engine.fingerprint() == fingerprint
