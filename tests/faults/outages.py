"""A service loses its database for a while: what callers, the doctor and metrics see, and what is there afterwards."""

import asyncio
import ctypes
import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from prometheus_client.parser import text_string_to_metric_families

from debt_mgmt.server.config import variable_of
from debt_mgmt.server.postgres import EmbeddedPostgres, read_lock_file
from debt_mgmt.v1 import (
    account_service_pb2,
    audit_service_pb2,
    audit_service_pb2_grpc,
    fund_service_pb2,
    margin_service_pb2,
    types_pb2,
)
from tests.durability.load import CAPITAL, PRICES, Line
from tests.durability.program import PROJECT, Program, running
from tests.support.wire import read_failure

CALLERS = 8
PATIENCE_SECONDS = 1.5
PAUSE_SECONDS = 0.02
BEFORE_SECONDS = 1.0
SEEN_SECONDS = 4.0
"""After so long an outage is told by /health and by the doctor; see soundness.STUCK_SECONDS."""
BACK_SECONDS = 60.0
DISK_BYTES = 160_000_000
HOLDER = "holder"
LIBC = ctypes.CDLL(None, use_errno=True)


class Kind(Enum):
    GONE = "stopped"
    FROZEN = "frozen"
    FULL = "its disk is full"


class NoSmallDisk(Exception):
    """A small file system can't be made by who runs this."""


@dataclass
class Findings:
    """What came of an outage."""

    kind: Kind
    outage_seconds: float
    acknowledged_before: int = 0
    acknowledged_during: int = 0
    """Answers to calls that were under way when it began: nothing is acknowledged later."""
    unanswered: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    slowest_read_seconds: float = 0.0
    back_seconds: float = 0.0
    """From the return of the database to the first acknowledged write."""
    acknowledged: int = 0
    repeated_alike: int = 0
    doctor: list[dict[str, str]] = field(default_factory=list)
    doctor_seconds: float = 0.0
    health: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    doctor_afterwards: list[dict[str, str]] = field(default_factory=list)
    metrics_afterwards: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {count}" for code, count in self.unanswered.most_common())
        named = "; ".join(f"{one['subject']}: {one['words']}" for one in self.doctor if one["state"] == "WRONG")
        return (
            f"database {self.kind.value} for {self.outage_seconds:.0f} s: {self.acknowledged} acknowledged writes, all "
            f"there and {self.repeated_alike} repeated and answered alike; {self.reads} reads meanwhile, the slowest "
            f"{self.slowest_read_seconds:.2f} s; writes without an answer: {codes}; first write after its return: "
            f"{self.back_seconds:.2f} s\n  doctor, after {self.doctor_seconds:.1f} s: {named}\n"
            f"  metrics: {self.metrics}"
        )


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of a few megabytes at `directory`. Raises NoSmallDisk."""
    directory.mkdir(mode=0o755)
    options = f"size={DISK_BYTES},mode=755".encode()
    if LIBC.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, options) != 0:
        raise NoSmallDisk(os.strerror(ctypes.get_errno()))
    try:
        yield
    finally:
        LIBC.umount2(os.fsencode(directory), 2)


class Database:
    """A PostgreSQL that is taken away and given back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = EmbeddedPostgres(directory)
        self.stopped: list[int] = []

    async def take(self, kind: Kind) -> None:
        if kind is Kind.GONE:
            await self.server.stop()
        elif kind is Kind.FROZEN:
            found = read_lock_file(self.directory / "postgres")
            assert found is not None
            self.stopped = [found.pid, *children(found.pid)]
            for pid in self.stopped:
                os.kill(pid, signal.SIGSTOP)
        else:
            fill_up(self.directory / "filler")

    async def give_back(self, kind: Kind) -> None:
        if kind is Kind.GONE:
            await self.server.start()
        elif kind is Kind.FROZEN:
            for pid in self.stopped:
                os.kill(pid, signal.SIGCONT)
        else:
            (self.directory / "filler").unlink()


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid:"))
        except OSError:
            continue
        if int(parent.split()[1]) == pid:
            found.append(int(status.parent.name))
    return found


def fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12):
            try:
                while filler.write(bytes(size)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


class Callers:
    """Some deposit 1 again and again, each until he is answered; others read; one closes a position bit by bit."""

    def __init__(self, line: Line, findings: Findings) -> None:
        self.line = line
        self.findings = findings
        self.acknowledged: dict[str, tuple[str, int]] = {}
        """Request id → account, and the position at which it is in the journal."""
        self.over = asyncio.Event()
        self.away = False
        self.returned_at: float | None = None
        self.first_back = asyncio.Event()
        self.exits = 0

    async def furnish(self) -> None:
        for account_id in (HOLDER, *(f"caller-{number}" for number in range(CALLERS))):
            await self.line.accounts.CreateAccount(opened(account_id), timeout=10)
        await self.line.publish(PRICES)
        answer = await self.line.margin.RecordFill(fill("open", types_pb2.SIDE_BUY, "1"), timeout=10)
        assert answer.accepted, answer

    async def go_on(self) -> None:
        await asyncio.gather(self.reader(), self.leaver(), *(self.depositor(number) for number in range(CALLERS)))

    async def depositor(self, number: int) -> None:
        account_id, count = f"caller-{number}", 0
        while not self.over.is_set():
            count += 1
            request = deposit(account_id, f"{account_id}-{count}")
            answer = await self.until_answered(self.line.funds.Deposit, request)
            if answer is not None:
                self.acknowledged[request.request_id] = (account_id, answer.revision.position)
            await asyncio.sleep(PAUSE_SECONDS)

    async def leaver(self) -> None:
        """An exit that has happened at the venue is told until it is taken, and counts once."""
        while not self.over.is_set():
            self.exits += 1
            told = fill(f"exit-{self.exits}", types_pb2.SIDE_SELL, "0.001")
            if await self.until_answered(self.line.margin.RecordFill, told) is None:
                self.exits -= 1
            await asyncio.sleep(0.2)

    async def until_answered(self, call: Any, request: Any) -> Any:
        """The answer to a request that is repeated until there is one; None where all is over before."""
        while not self.over.is_set():
            try:
                answer = await call(request, timeout=PATIENCE_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    self.findings.wrong.append(f"{request.request_id}: {error.code()} {error.details()}")
                if self.away:
                    self.findings.unanswered[error.code().name] += 1
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    reason = read_failure(error).reason
                    if reason not in ("JOURNAL_UNAVAILABLE", "OVERLOADED"):
                        self.findings.wrong.append(f"{request.request_id}: {reason} {error.details()}")
                    await asyncio.sleep(0.1)
                continue
            if not answer.accepted:
                self.findings.wrong.append(f"{request.request_id}: {answer.violations}")
            self.findings.acknowledged_during += self.away
            self.findings.acknowledged_before += not self.away and self.returned_at is None
            if self.returned_at is not None and not self.first_back.is_set():
                self.findings.back_seconds = time.perf_counter() - self.returned_at
                self.first_back.set()
            return answer
        return None

    async def reader(self) -> None:
        """Reading goes on, and whoever asks whether he may leave is told yes."""
        order = types_pb2.Order(symbol="BTCUSDT", side=types_pb2.SIDE_SELL, quantity="0.1", reduce_only=True)
        published = time.perf_counter()
        while not self.over.is_set():
            began = time.perf_counter()
            try:
                await self.line.margin.GetMarginStatus(
                    margin_service_pb2.GetMarginStatusRequest(account_id=HOLDER), timeout=10
                )
                checked = await self.line.margin.CheckOrder(
                    margin_service_pb2.CheckOrderRequest(account_id=HOLDER, order=order), timeout=10
                )
                if not checked.result.fits:
                    self.findings.wrong.append(f"an exit was blocked: {checked.result.violations}")
            except grpc.aio.AioRpcError as error:
                self.findings.wrong.append(f"a read: {error.code()} {error.details()}")
            if began - published > 1:
                await self.line.publish(PRICES)
                published = began
            if self.away:
                self.findings.reads += 2
                took = time.perf_counter() - began
                self.findings.slowest_read_seconds = max(self.findings.slowest_read_seconds, took)
            await asyncio.sleep(PAUSE_SECONDS)


def opened(account_id: str) -> account_service_pb2.CreateAccountRequest:
    return account_service_pb2.CreateAccountRequest(
        request_id=f"open-{account_id}",
        account_id=account_id,
        owner=account_id,
        currency="USDT",
        initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=CAPITAL),
    )


def deposit(account_id: str, request_id: str) -> fund_service_pb2.DepositRequest:
    return fund_service_pb2.DepositRequest(request_id=request_id, account_id=account_id, asset="USDT", amount="1")


def fill(name: str, side: types_pb2.Side.ValueType, quantity: str) -> margin_service_pb2.RecordFillRequest:
    return margin_service_pb2.RecordFillRequest(
        request_id=name, fill_id=name, account_id=HOLDER, symbol="BTCUSDT", side=side, quantity=quantity, price="50000"
    )


async def outage(place: Path, kind: Kind, seconds: float) -> Findings:
    """One outage of a service under load, and the proof afterwards, also after a restart. Raises NoSmallDisk."""
    findings = Findings(kind, seconds)
    with disk_for(kind, place / "database"):
        database = Database(place / "database")
        await database.server.start()
        try:
            await lose(place, database, findings)
        finally:
            await database.server.stop()
    return findings


@contextmanager
def disk_for(kind: Kind, directory: Path) -> Iterator[None]:
    """The disk that the database is on."""
    if kind is Kind.FULL:
        with small_disk(directory):
            yield
    else:
        yield


async def lose(place: Path, database: Database, findings: Findings) -> None:
    settings = {"database.dsn": database.server.dsn}
    async with running(place / "data", settings) as program:
        line = await Line().connect(program.target)
        callers = Callers(line, findings)
        await callers.furnish()
        calling = asyncio.create_task(callers.go_on())
        await asyncio.sleep(BEFORE_SECONDS)
        await database.take(findings.kind)
        callers.away = True
        began = time.perf_counter()
        try:
            await asyncio.sleep(SEEN_SECONDS)
            findings.metrics, findings.health = await metrics_of(program), await health_of(program)
            findings.doctor = await doctor(program, settings)
            findings.doctor_seconds = time.perf_counter() - began - SEEN_SECONDS
            await asyncio.sleep(max(0.0, findings.outage_seconds - (time.perf_counter() - began)))
            findings.outage_seconds = time.perf_counter() - began
        finally:
            callers.away = False
            callers.returned_at = time.perf_counter()
            await database.give_back(findings.kind)
        await asyncio.wait_for(callers.first_back.wait(), BACK_SECONDS)
        await asyncio.sleep(BEFORE_SECONDS)
        callers.over.set()
        await calling
        await repeat(callers, findings)
        await prove(line, callers, findings, "afterwards")
        await until_well(program)
        findings.metrics_afterwards = await metrics_of(program)
        findings.doctor_afterwards = await doctor(program, settings)
        await line.close()
        status = await program.stop()
        if status != 0 or "incident" in program.log:
            findings.wrong.append(f"the service ended with {status}: {program.log[-2000:]}")
    async with running(place / "data", settings) as program:
        line = await Line().connect(program.target)
        await prove(line, callers, findings, "after a restart")
        await line.close()


async def repeat(callers: Callers, findings: Findings) -> None:
    """Whatever was acknowledged is asked for again: the same answer, from the same place of the journal."""
    findings.acknowledged = len(callers.acknowledged)
    for request_id, (account_id, position) in callers.acknowledged.items():
        answer = await callers.line.funds.Deposit(deposit(account_id, request_id), timeout=10)
        if (answer.accepted, answer.replayed, answer.revision.position) == (True, True, position):
            findings.repeated_alike += 1
        else:
            findings.wrong.append(f"{request_id} was acknowledged at {position} and is now {answer}")


async def prove(line: Line, callers: Callers, findings: Findings, when: str) -> None:
    """Balances, the position and the chain of hashes are what was acknowledged, once. What was under way may count."""
    counts = Counter(account_id for account_id, _ in callers.acknowledged.values())
    for account_id, count in sorted(counts.items()):
        answer = await line.margin.GetMarginStatus(margin_service_pb2.GetMarginStatusRequest(account_id=account_id))
        got = int(answer.status.wallet_balance) - int(CAPITAL)
        if not count <= got <= count + 1:
            findings.wrong.append(f"{when}: {account_id} was acknowledged {count} deposits and has {got}")
    held = await line.margin.ListPositions(margin_service_pb2.ListPositionsRequest(account_id=HOLDER))
    (position,) = held.positions
    sold = round((1 - float(position.quantity)) * 1000)
    if not callers.exits <= sold <= callers.exits + 1:
        findings.wrong.append(f"{when}: {callers.exits} exits were acknowledged and {sold} counted")
    assert line.channel is not None
    audit: Any = audit_service_pb2_grpc.AuditServiceStub(line.channel)
    verified = await audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest(), timeout=30)
    findings.wrong += [f"{when}: shard {one.shard}: {one.detail}" for one in verified.shards if not one.intact]


# what is seen from outside


def http_of(program: Program) -> str:
    return str(json.loads(program.announcement.read_text().splitlines()[0])["http"])


async def metrics_of(program: Program) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{http_of(program)}/metrics") as answer:
        text = await answer.text()
    wanted = ("journal_stuck_seconds", "journal_waiting", "journal_ambiguous_total", "journal_reads_failed_total")
    names = {f"debt_mgmt_{name}" for name in (*wanted, "protecting", "clock_behind_seconds")}
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples if one.name in names]
    return {one.name.removeprefix("debt_mgmt_"): one.value for one in samples}


async def health_of(program: Program) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{http_of(program)}/health") as answer:
        told: dict[str, Any] = await answer.json()
        return told


async def until_well(program: Program) -> None:
    """The journal is looked at every few seconds; until then its failure stands."""
    async with asyncio.timeout(30):
        while any("journal" in reason for reason in (await health_of(program))["reasons"]):
            await asyncio.sleep(0.2)


async def doctor(program: Program, settings: dict[str, str]) -> list[dict[str, str]]:
    """What the command says that an operator types meanwhile."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEBT_MGMT_")}
    environment |= {variable_of(path): value for path, value in settings.items()}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in (str(PROJECT), *sys.path) if path)
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "debt_mgmt.server", "doctor", "--json", "--target", program.target,
        "--http", http_of(program), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await asked.communicate()
    if b"Traceback" in complained or not said:
        raise AssertionError(f"the doctor ended with {asked.returncode}: {complained.decode()}")
    found: list[dict[str, str]] = json.loads(said)["findings"]
    return found
