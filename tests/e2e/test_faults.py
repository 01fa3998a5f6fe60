"""What goes wrong around the service: whatever it has acknowledged is there afterwards, and counts once."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from debt_mgmt.client import AssetAmount, MarginClient, RetryPolicy, tls_credentials
from debt_mgmt.client.errors import Unavailable
from debt_mgmt.server import app
from debt_mgmt.server.cli import doctor_here
from debt_mgmt.server.cli.doctor_service import health_findings
from debt_mgmt.server.cli.findings import State
from debt_mgmt.server.clock_watch import ClockWatch
from debt_mgmt.server.config import read_settings
from debt_mgmt.server.configuration_watch import ConfigurationWatch
from debt_mgmt.server.journal.journal import AppendAmbiguous, Row, verify
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.v1 import fund_service_pb2
from tests.durability.program import Program, running
from tests.e2e.books import open_fresh
from tests.server.security.signing import Authority
from tests.server.security.test_tls import served
from tests.support.service import Clock, Desk, service

CALLERS = 40
OUTAGE_SECONDS = 1.5
PATIENCE_SECONDS = 0.4


class FullDisk(MemoryJournal):
    """Reads are answered, and no write is taken, while it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    async def append(self, rows: Sequence[Row]) -> None:
        if self.full:
            raise AppendAmbiguous("could not extend file: No space left on device")
        await super().append(rows)


def deposit(name: str, number: int) -> Any:
    return fund_service_pb2.DepositRequest(request_id=f"during-{number}", account_id=name, asset="USDT", amount="1")


async def tried(desk: Desk, name: str, number: int) -> grpc.StatusCode:
    try:
        answer = await desk.funds.Deposit(deposit(name, number), timeout=PATIENCE_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code()
    assert answer.accepted
    return grpc.StatusCode.OK


async def outlasted(desk: Desk, name: str) -> list[grpc.StatusCode]:
    """Callers who lose patience meanwhile; accounts can be read all the time."""
    loop = asyncio.get_running_loop()
    until, codes = loop.time() + OUTAGE_SECONDS, []
    codes += await asyncio.gather(*(tried(desk, name, number) for number in range(CALLERS)))
    while loop.time() < until:
        assert (await desk.status(name)).wallet_balance == "10000", "what is not durable is not shown"
        await asyncio.sleep(0.05)
    return codes


async def repeated_once(desk: Desk, name: str) -> None:
    """Whoever got no answer repeats his request: each counts once."""
    answers = await asyncio.gather(*(desk.funds.Deposit(deposit(name, number)) for number in range(CALLERS)))
    assert all(answer.accepted for answer in answers)
    assert (await desk.status(name)).wallet_balance == str(10000 + CALLERS)


async def test_a_database_that_is_gone_for_a_while_loses_nothing() -> None:
    journal = MemoryJournal()
    async with service(journal=journal, clock=Clock()) as desk:
        name = await open_fresh(desk)
        journal.down = True
        codes = await outlasted(desk, name)
        journal.down = False
        assert set(codes) <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        await repeated_once(desk, name)
    async with service(journal=journal, clock=Clock()) as desk:
        assert (await desk.status(name)).wallet_balance == str(10000 + CALLERS)


async def test_a_full_disk_acknowledges_nothing_and_loses_nothing() -> None:
    journal = FullDisk()
    async with service(journal=journal, clock=Clock()) as desk:
        name = await open_fresh(desk)
        journal.full = True
        codes = await outlasted(desk, name)
        journal.full = False
        assert set(codes) <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        await repeated_once(desk, name)
        shard = desk.engine.home[name]
        verify(journal.rows(shard))


@pytest.mark.parametrize("steps", [(-7200.0, 3600.0), (86_400.0, -86_400.0), (-1.0, -1.0)])
async def test_a_clock_that_is_stepped_back_and_forth_never_turns_the_journal_back(steps: tuple[float, ...]) -> None:
    journal, clock = MemoryJournal(), Clock()
    async with service(journal=journal, clock=clock) as desk:
        name = await open_fresh(desk)
        for number, seconds in enumerate(steps):
            clock.advance(seconds=seconds)
            assert (await desk.funds.Deposit(deposit(name, number))).accepted
        shard, wallet = desk.engine.home[name], (await desk.status(name)).wallet_balance
    times = [row.at for row in journal.rows(shard)]
    assert times == sorted(times)
    assert wallet == str(10000 + len(steps))
    verify(journal.rows(shard))
    clock.now -= timedelta(days=1)
    async with service(journal=journal, clock=clock) as desk:
        assert (await desk.status(name)).wallet_balance == wallet


async def test_an_expired_certificate_is_told_and_a_new_one_helps_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service", ends_in=-timedelta(hours=1))
    async with served(
        tmp_path, server__tls__certificate=str(certificate), server__tls__key=str(key)
    ) as running_service:
        assert running_service.admin_token_file is not None
        token = running_service.admin_token_file.read_text().strip()
        certificates = running_service.entrance.certificates
        assert certificates is not None
        assert "expired at" in certificates.problems(running_service.engine.clock())[0]

        async def call() -> str:
            async with MarginClient(
                f"127.0.0.1:{running_service.port}",
                token=token,
                credentials=tls_credentials(authority.file),
                retries=RetryPolicy(attempts_max=1),
                options={"grpc.use_local_subchannel_pool": 1},
            ) as client:
                return (await client.caller(timeout=5)).name

        with pytest.raises(Unavailable):
            await call()
        authority.issue("service")
        certificates.reload()
        assert await call() == "admin"


async def test_a_broken_configuration_stops_the_start_with_its_reasons_and_harms_nothing(data_directory: Path) -> None:
    place = data_directory / "data"

    async def wallet(program: Program) -> str:
        async with MarginClient(program.target) as client:
            return str((await client.margin_status("alice")).wallet_balance)

    async with running(place) as program:
        async with MarginClient(program.target) as client:
            await client.create_account("alice", currency="USDT", initial_deposit=AssetAmount("USDT", Decimal(25)))
        assert await wallet(program) == "25"
        assert await program.stop() == 0
    broken = Program(place, {"risk_settings.liquidation_threshold": "0.95", "server.auth": "sometimes"})
    try:
        assert await broken.ended(30) == 2
        said = broken.log + broken.announcement.read_text()
        assert "DEBT_MGMT_LIQUIDATION_THRESHOLD" in said
        assert "DEBT_MGMT_SERVER_AUTH" in said
    finally:
        await broken.clear_away()
    async with running(place) as program:
        assert await wallet(program) == "25"


# what health, metrics and the doctor say of it


async def told(running_service: app.RunningService) -> tuple[list[str], dict[str, float]]:
    """The findings of the doctor about a running service, and its metrics by name."""
    http = f"http://127.0.0.1:{running_service.metrics_port}"
    named = [one.words for one in await health_findings(http) if one.state is State.WRONG]
    async with aiohttp.ClientSession() as session, session.get(f"{http}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return named, {sample.name: sample.value for family in families for sample in family.samples}


@pytest.mark.parametrize("seconds", [7200.0, -7200.0])
async def test_a_stepped_clock_is_told(seconds: float) -> None:
    clock, steady = Clock(), [100.0]
    async with service(clock=clock) as desk:
        name = await open_fresh(desk)
        watch = desk.engine.clock_watch = ClockWatch(clock, lambda: steady[0])
        clock.advance(seconds=1)
        steady[0] += 1
        watch.look()
        named, metrics = await told(desk.running)
        assert named == [] and metrics["debt_mgmt_clock_steps_total"] == 0
        clock.advance(seconds=seconds + 1)
        steady[0] += 1
        watch.look()
        assert (await desk.funds.Deposit(deposit(name, 1))).accepted
        named, metrics = await told(desk.running)
        assert f"the clock was stepped by {seconds:+.1f} s" in named[0]
        assert metrics["debt_mgmt_clock_steps_total"] == 1
        assert (metrics["debt_mgmt_clock_behind_seconds"] > 7000) == (seconds < 0)
        assert any("times stand still" in words for words in named) == (seconds < 0)
        clock.advance(seconds=max(0.0, -seconds) + 10)
        steady[0] += 3601
        named, metrics = await told(desk.running)
        assert named == [] and metrics["debt_mgmt_clock_behind_seconds"] == 0
        assert (await desk.status(name)).wallet_balance == "10001"


async def test_an_expired_certificate_shows_in_metrics_and_the_doctor(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service", ends_in=-timedelta(hours=1))
    given = {"server__tls__certificate": str(certificate), "server__tls__key": str(key)}
    async with served(tmp_path, **given) as running_service:
        assert running_service.entrance.figures(0).problems == 1
        found = doctor_here.certificate(certificate, key, None, running_service.engine.clock())
        assert found.state is State.WRONG and "expired at" in found.words
        certificates = running_service.entrance.certificates
        assert certificates is not None
        key.write_text("no key")
        certificates.reload()
        assert running_service.entrance.figures(0).problems == 2
        authority.issue("service", ends_in=timedelta(days=60))
        certificates.reload()
        assert running_service.entrance.figures(0).problems == 0
        found = doctor_here.certificate(certificate, key, None, running_service.engine.clock())
        assert found.state is State.OK


async def test_a_configuration_that_is_broken_while_the_service_runs_is_told_before_the_next_start(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("risk_settings:\n  liquidation_threshold: 0.8\n")
    flags = {"server.address": "127.0.0.1:0", "server.metrics_port": "0"}
    settings, journal = read_settings(file, environment={}, flags=flags), MemoryJournal()
    running_service = await app.start(settings, journal=journal, configuration=ConfigurationWatch(file, flags))
    try:
        assert (await told(running_service))[0] == []
        file.write_text("risk_settings:\n  liquidation_threshold: 0.95\n  max_levrage: 3\n")
        named, metrics = await told(running_service)
        assert metrics["debt_mgmt_configuration_problems"] == len(named) > 1
        assert any("next start would be refused" in words and "max_leverage" in words for words in named)
        assert running_service.engine.risk.liquidation_threshold == Decimal("0.8"), "what was read at the start holds"
        file.unlink()
        assert (await told(running_service))[1]["debt_mgmt_configuration_problems"] == 1
        file.write_text("risk_settings:\n  liquidation_threshold: 0.8\n")
        assert (await told(running_service))[0] == []
    finally:
        await running_service.stop()
