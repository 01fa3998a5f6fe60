"""Alerts of a running service reach those who are configured: once each, over failures and restarts."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from aiohttp import ClientSession

from debt_mgmt.core.account import Severity
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.notify.outbox import Aim
from debt_mgmt.server.notify.route import Route
from debt_mgmt.server.notify.telling import Pace, Telling
from debt_mgmt.server.notify.webhook import Webhook
from debt_mgmt.v1 import risk_service_pb2
from tests.server.notify.places import Place, place, until
from tests.server.notify.test_routes import SECRET, kept
from tests.support.service import Clock, Desk, service

QUICK = Pace(look=0.02, again_least=0.02, again_most=0.05)


async def halt(desk: Desk, account_id: str = "alice") -> str:
    """Raise a critical alert, and say which."""
    request = risk_service_pb2.HaltTradingRequest(request_id=uuid4().hex, account_id=account_id, reason="drill")
    await desk.risk.HaltTrading(request)
    return desk.engine.account(account_id).alerts[-1].alert_id


async def resume(desk: Desk, account_id: str = "alice") -> str:
    """Raise a warning."""
    request = risk_service_pb2.ResumeTradingRequest(request_id=uuid4().hex, account_id=account_id)
    await desk.risk.ResumeTrading(request)
    return desk.engine.account(account_id).alerts[-1].alert_id


async def telling_of(desk: Desk, route: Route, aim: Aim = Aim(), give_up: float = 1e6) -> Telling:  # noqa: B008
    engine = desk.engine
    one = Telling(route, aim, engine.journal, engine.heads, engine.clock, timedelta(seconds=give_up), QUICK)
    await one.open()
    engine.hub.on_alert = one.wake.set
    one.start()
    return one


def webhook(there: Place, clock: Clock) -> Webhook:
    return Webhook(f"{there.url}/hook", kept(SECRET), clock)


async def test_each_alert_is_told_once() -> None:
    async with place() as there, service(clock=(clock := Clock())) as desk:
        await desk.open("alice")
        before = await halt(desk)
        telling = await telling_of(desk, webhook(there, clock))
        raised = [await resume(desk), await halt(desk), await resume(desk)]
        await until(lambda: len(there.got) >= 3)
        await telling.stop()
        assert before not in there.ids, "a new route is told of what comes from now on"
        assert sorted(there.ids) == sorted(raised) and telling.told == 3


async def test_a_restart_neither_tells_again_nor_forgets() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with place() as there:
        async with service(journal=journal, clock=clock) as desk:
            await desk.open("alice")
            telling = await telling_of(desk, webhook(there, clock))
            told = await halt(desk)
            await until(lambda: there.ids == [told])
            await until(lambda: telling.waiting == 0)
            await telling.stop()
            missed = [await resume(desk), await halt(desk)]
        async with service(journal=journal, clock=clock) as desk:
            telling = await telling_of(desk, webhook(there, clock))
            await until(lambda: len(there.got) >= 3)
            await telling.stop()
            assert there.ids[0] == told and sorted(there.ids[1:]) == sorted(missed)
        async with service(journal=journal, clock=clock) as desk:
            telling = await telling_of(desk, webhook(there, clock))
            later = await resume(desk)
            await until(lambda: len(there.got) >= 4)
            await telling.stop()
            assert there.ids[3:] == [later]


async def test_what_failed_is_repeated_under_the_same_id_and_is_seen_meanwhile() -> None:
    async with place() as there, service(clock=(clock := Clock())) as desk:
        await desk.open("alice")
        there.answers = [(500, {}), (503, {})]
        telling = await telling_of(desk, webhook(there, clock))
        raised = await halt(desk)
        await until(lambda: telling.failing)
        assert telling.waiting == 1
        await until(lambda: telling.told == 1)
        await telling.stop()
        assert there.ids == [raised] * 3
        assert (telling.failing, telling.failed, telling.waiting) == ("", 2, 0)


async def test_killed_between_telling_and_noting_it_is_told_again_under_the_same_id() -> None:
    journal, clock = MemoryJournal(), Clock()
    async with place() as there, service(journal=journal, clock=clock) as desk:
        await desk.open("alice")
        telling = await telling_of(desk, webhook(there, clock))
        shard = desk.engine.home["alice"]
        before = telling.outboxes[shard]
        raised = await halt(desk)
        await until(lambda: telling.told == 1)
        await telling.stop()
        await journal.set_meta(telling.place(shard), msgspec.json.encode(before).decode())
        telling = await telling_of(desk, webhook(there, clock))
        await until(lambda: telling.told == 1)
        await telling.stop()
        assert there.ids == [raised, raised]


async def test_a_route_that_stays_down_gives_up_after_its_time_and_goes_on() -> None:
    async with place() as there, service(clock=(clock := Clock())) as desk:
        await desk.open("alice")
        there.answers = [(400, {})] * 3
        telling = await telling_of(desk, webhook(there, clock), give_up=60)
        await halt(desk)
        await until(lambda: telling.failing)
        there.answers = [(400, {})] * 50
        clock.advance(seconds=61)
        await until(lambda: telling.given_up == 1)
        there.answers = []
        later = await resume(desk)
        await until(lambda: telling.told == 1)
        await telling.stop()
        assert there.ids[-1] == later


async def test_a_second_route_is_told_until_somebody_acknowledges() -> None:
    async with place() as there, service(clock=(clock := Clock())) as desk:
        await desk.open("alice")
        await desk.open("bob")
        aim = Aim(Severity.CRITICAL, escalate_after=timedelta(minutes=10))
        telling = await telling_of(desk, webhook(there, clock), aim)
        seen, unseen = await halt(desk), await halt(desk, "bob")
        acknowledge = risk_service_pb2.AcknowledgeAlertRequest(request_id=desk.request_id(), alert_id=seen)
        assert (await desk.risk.AcknowledgeAlert(acknowledge)).accepted
        clock.advance(minutes=10)
        await until(lambda: there.got)
        clock.advance(minutes=10)
        await until(lambda: len(there.got) == 2)
        assert there.ids == [unseen, f"{unseen}-reminder-1"]
        acknowledge = risk_service_pb2.AcknowledgeAlertRequest(request_id=desk.request_id(), alert_id=unseen)
        await desk.risk.AcknowledgeAlert(acknowledge)
        await until(lambda: not any(one.waiting for one in telling.outboxes.values()))
        clock.advance(minutes=60)
        await asyncio.sleep(0.1)
        await telling.stop()
        assert len(there.got) == 2


class Stuck:
    """A route that takes everything and never answers."""

    name = "stuck"
    together = 1

    async def tell(self, notices: Any) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def test_a_route_that_hangs_delays_no_decision() -> None:
    async with service(clock=Clock()) as desk:
        await desk.open("alice")
        telling = await telling_of(desk, Stuck())
        async with asyncio.timeout(10):
            for _ in range(20):
                await halt(desk)
                await resume(desk)
        assert telling.told == 0
        await telling.stop()


async def test_routes_come_from_the_settings_and_their_failures_show(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    async with place() as there:
        flags: dict[str, Any] = {
            "notify__webhook__url": f"{there.url}/hook",
            "notify__webhook__secret_file": str(secret),
            "notify__slack__enabled": "true",
            "notify__slack__min_severity": "critical",
            "notify__telegram__chat_id": "-100",
            "notify__telegram__accounts": "bob,carol",
            "notify__email__to": "desk@example.com",
            "notify__email__escalate_after_seconds": "600",
        }
        async with service(clock=Clock(), **flags) as desk, ClientSession() as web:
            await desk.open("alice")
            raised = await halt(desk)
            await until(lambda: there.ids == [raised])
            at = f"http://127.0.0.1:{desk.running.metrics_port}"

            async def asked(path: str) -> str:
                async with web.get(at + path) as answer:
                    return await answer.text()

            async with asyncio.timeout(10):
                while "route slack" not in (health := await asked("/health")):
                    await asyncio.sleep(0.02)
            told = json.loads(health)
            assert told["serving"] is True
            assert "set DEBT_MGMT_NOTIFY_SLACK_URL" in told["warnings"][0] and len(told["warnings"]) == 1
            metrics = await asked("/metrics")
    assert 'debt_mgmt_notification_route_failing{route="slack"} 1.0' in metrics
    assert 'debt_mgmt_notification_route_failing{route="webhook"} 0.0' in metrics
    assert 'debt_mgmt_notifications_total{result="told",route="webhook"} 1.0' in metrics
    assert 'debt_mgmt_notifications_waiting{route="telegram"} 0.0' in metrics
    assert 'debt_mgmt_notifications_waiting{route="email"} 0.0' in metrics
    assert SECRET not in caplog.text and "nobody is told there" in caplog.text
