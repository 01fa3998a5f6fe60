"""Kill -9 of the service and of its PostgreSQL, again and again while callers trade, and the proof after each."""

import asyncio
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path

from tests.durability.load import Acknowledged, Line, Load, repeat
from tests.durability.program import Program, journal_at_rest, journal_of
from tests.durability.proof import Proof, check_snapshots

REPEATED_EACH_ROUND = 40
KEPT_FOR_REPEATING = 2_000
SECONDS_MOST = 30.0


class Victim(Enum):
    """What is killed in a round."""

    SERVICE = "service"
    BOTH = "service and PostgreSQL"
    SERVICE_TWICE = "service, and once more while it starts"
    POSTGRES = "PostgreSQL"
    NOBODY = "nobody, but stopped in order"


class Figures:
    """What a run came to."""

    def __init__(self) -> None:
        self.rounds: Counter[Victim] = Counter()
        self.start_seconds: list[float] = []
        self.outage_seconds: list[float] = []
        """From the kill of PostgreSQL to the first answer after its return."""
        self.acknowledged = 0
        self.repeated_alike = 0

    def __str__(self) -> str:
        rounds = ", ".join(f"{count} × {victim.value}" for victim, count in self.rounds.items())
        parts = [
            f"{sum(self.rounds.values())} rounds ({rounds})",
            f"{self.acknowledged} acknowledged writes, all found",
            f"{self.repeated_alike} of them repeated and answered alike",
        ]
        for name, seconds in (("restart", self.start_seconds), ("database outage", self.outage_seconds)):
            if seconds:
                parts.append(f"{name} median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")
        return "; ".join(parts)


class Campaign:
    """One service under load, killed round after round on the same data directory."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        settings: Mapping[str, str] | None = None,
        pause_seconds: float = 0.0,
        repeated_each_round: int = REPEATED_EACH_ROUND,
    ) -> None:
        self.repeated_each_round = repeated_each_round
        self.directory = directory
        self.settings = settings or {}
        self.chance = random.Random(seed)
        self.line = Line()
        self.load = Load(self.line, self.chance, pause_seconds=pause_seconds)
        self.proof = Proof()
        self.figures = Figures()
        self.known: list[Acknowledged] = []
        self.program: Program | None = None

    async def begin(self) -> None:
        """A first start that is killed on its way, a second one, and callers."""
        await self.start_in_vain(0.5, 2.0)
        await self.start()
        await self.load.open_accounts()
        self.load.begin()

    async def start(self) -> None:
        self.program = Program(self.directory, self.settings)
        await self.program.ready()
        await self.line.connect(self.program.target)

    async def start_in_vain(self, least_seconds: float, most_seconds: float) -> None:
        """A start that does not get far, or just about ends."""
        program = Program(self.directory, self.settings)
        await asyncio.sleep(self.chance.uniform(least_seconds, most_seconds))
        program.kill()

    async def round(self, victim: Victim, seconds: float) -> None:
        """Trade for so long, kill, come back, and check that nothing is missing."""
        assert self.program is not None
        enough = self.load.answers + 20
        await asyncio.sleep(seconds)
        await self.answers_reach(enough)
        self.figures.rounds[victim] += 1
        if victim is Victim.POSTGRES:
            await self.kill_postgres(self.program)
        elif victim is Victim.NOBODY:
            await self.stop_service(self.program)
        else:
            await self.kill_service(self.program, victim)
        await self.check()

    async def kill_service(self, program: Program, victim: Victim) -> None:
        self.line.away()
        if victim is Victim.BOTH and (pid := program.postgres_pid()) is not None:
            os.kill(pid, signal.SIGKILL)
        program.kill()
        if victim is Victim.SERVICE_TWICE:
            await self.start_in_vain(0.3, 1.8)
        await self.start()
        assert self.program is not None
        self.figures.start_seconds.append(self.program.started_seconds)

    async def stop_service(self, program: Program) -> None:
        """SIGTERM while callers trade, and a start after it."""
        stopping = asyncio.create_task(program.stop())
        await asyncio.sleep(0.2)
        self.line.away()
        assert await stopping == 0, program.log
        await self.start()

    async def kill_postgres(self, program: Program) -> None:
        pid = program.postgres_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed, back = time.perf_counter(), 0.0
        while not back or self.load.answered_at < back:
            self.load.raise_failure()
            assert program.child.poll() is None, f"the service ended with its database: {program.log}"
            assert time.perf_counter() - killed < SECONDS_MOST, f"the database does not come back: {program.log}"
            if not back and program.postgres_pid() not in (None, pid):
                back = time.perf_counter()
            await asyncio.sleep(0.005)
        self.figures.outage_seconds.append(self.load.answered_at - killed)
        await self.answers_reach(self.load.answers + 50)

    async def answers_reach(self, count: int) -> None:
        """Wait until callers were answered so often in all."""
        assert self.program is not None
        until = time.perf_counter() + SECONDS_MOST
        while self.load.answers < count:
            self.load.raise_failure()
            assert time.perf_counter() < until, f"nobody is answered any more: {self.program.log}"
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        """Everything acknowledged so far is in the journal, and is answered from it."""
        assert self.program is not None
        assert "CRITICAL" not in self.program.log, self.program.log
        acknowledged, self.load.acknowledged = self.load.acknowledged, []
        async with journal_of(self.program) as journal:
            await self.proof.follow(journal)
        for one in acknowledged:
            self.proof.check_acknowledged(one)
        self.figures.acknowledged += len(acknowledged)
        self.known += acknowledged
        for one in self.chance.sample(self.known, min(self.repeated_each_round, len(self.known))):
            await repeat(self.line, one)
            self.figures.repeated_alike += 1
        if len(self.known) > KEPT_FOR_REPEATING:
            self.known = self.chance.sample(self.known, KEPT_FOR_REPEATING)

    async def end(self) -> None:
        """Stop the callers and the service, and read the whole journal from nothing once more."""
        assert self.program is not None
        await self.load.end()
        await self.check()
        await self.line.close()
        assert await self.program.stop() == 0, self.program.log
        async with journal_at_rest(self.directory) as journal:
            await self.proof.follow(journal)
            covered = await check_snapshots(journal)
        for shard, last in self.proof.last_events.items():
            assert covered.get(shard, 0) >= last, f"shard {shard} stopped at {last} without a snapshot"

    async def clear_away(self) -> None:
        for task in self.load.tasks:
            task.cancel()
        await asyncio.gather(*self.load.tasks, return_exceptions=True)
        await self.line.close()
        if self.program is not None:
            await self.program.clear_away()


async def campaign(
    directory: Path,
    rounds: Iterable[tuple[Victim, float]],
    *,
    seed: int,
    settings: Mapping[str, str] | None = None,
    pause_seconds: float = 0.0,
    repeated_each_round: int = REPEATED_EACH_ROUND,
    told: Callable[[Figures], None] = lambda figures: None,
) -> Campaign:
    """Go through all rounds (what is killed, after how many seconds) and the end; `told` hears of each."""
    run = Campaign(directory, seed, settings, pause_seconds, repeated_each_round)
    try:
        await run.begin()
        for victim, seconds in rounds:
            await run.round(victim, seconds)
            told(run.figures)
        await run.end()
    finally:
        await run.clear_away()
    return run
