"""Why was I refused, why was I liquidated: asked over the wire and on the command line, on a real journal."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from debt_mgmt.client import MarginClient, Order, Refused
from debt_mgmt.server.cli.program import app
from tests.e2e.books import BUY
from tests.support.service import Desk, service


@pytest_asyncio.fixture
async def desk(data_directory: Path) -> AsyncIterator[Desk]:
    """Alice holds what the fall to 40,000 brought to forced reduction."""
    async with service(data_directory) as running:
        await running.open("alice", currency="USDT")
        await running.lever("alice", "BTCUSDT", "5")
        await running.mark({"BTCUSDT": "50000"})
        await running.fill("alice", BUY, "0.7", "BTCUSDT", "50000")
        yield running


def asked(desk: Desk, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--target", f"127.0.0.1:{desk.running.port}"], env={"COLUMNS": "160"})


async def test_why_was_i_refused(desk: Desk) -> None:
    async with MarginClient(f"127.0.0.1:{desk.running.port}") as client:
        outcome = await client.reserve("alice", Order.buy("BTCUSDT", "1"), request_id="too-much")
        with pytest.raises(Refused):
            outcome.raise_if_refused()
        found = await client.explain_event(account_id="alice", caused_by="too-much")
        assert found.reproduced
        assert found.event.kind == "CommandRefused"
        assert [one.reason for one in found.violations] == [one.reason for one in outcome.violations]
        assert found.remedy is not None
        assert f"BUY {outcome.largest_buy:f} BTCUSDT would have passed" in found.remedy
    told = await asyncio.to_thread(asked, desk, "why", "alice")
    assert told.exit_code == 0, told.output
    words = " ".join(told.stdout.split())
    assert "ReserveMargin BUY 1 BTCUSDT was refused" in words
    assert "What would have prevented it" in words
    assert "decided again from the journal: the same, to the byte" in words


async def test_why_was_i_liquidated(desk: Desk) -> None:
    await desk.mark({"BTCUSDT": "40000"})
    told = await asyncio.to_thread(asked, desk, "why", "alice", "--liquidated", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["reproduced"]
    assert found["event"]["kind"] == "ReductionStarted"
    assert {one["symbol"]: one["price"] for one in found["marks"]} == {"BTCUSDT": "40000"}
    assert "more of equity would have kept it below 90 %" in found["remedy"]
    assert "FillRecorded" in [event["kind"] for event in found["led_by"]]
    place = found["event"]["revision"]
    again = await asyncio.to_thread(asked, desk, "why", f"{place['shard']}:{place['position']}", "--json")
    assert json.loads(again.stdout)["summary"] == found["summary"]


async def test_nothing_to_explain_is_said(desk: Desk) -> None:
    told = await asyncio.to_thread(asked, desk, "why", "alice", "--refused")
    assert told.exit_code == 1
    assert "nothing of the kind happened" in told.stderr


async def test_a_decision_is_the_same_after_a_restart_with_other_settings(data_directory: Path) -> None:
    """The rules that it was made by are in the journal."""
    async with service(data_directory) as first:
        await first.open("alice", currency="USDT")
        await first.mark({"BTCUSDT": "50000"})
        await first.reserve("alice", BUY, "1")
        (place,) = [first.engine.revision("alice")]
    async with (
        service(data_directory, risk_settings__margin_buffer="1.5", risk_settings__max_leverage="3") as second,
        MarginClient(f"127.0.0.1:{second.running.port}") as client,
    ):
        (refusal,) = [one async for one in client.audit_events("alice", kinds=["CommandRefused"])]
        assert (refusal.revision.shard, refusal.revision.position) == place
        found = await client.explain_event(refusal.revision)
        assert found.reproduced
        required = next(one for one in found.figures if one.name == "order.margin_required")
        assert "buffer 1.1" in (required.working or "")
        changed = [one async for one in client.audit_events(kinds=["ConfigurationChanged"])]
        changes = {one["key"]: (one["before"], one["after"]) for one in changed[-1].fields()["changes"]}
        assert changes["risk_settings.margin_buffer"] == ("1.10", "1.5")
        assert changes["risk_settings.max_leverage"] == ("5", "3")
