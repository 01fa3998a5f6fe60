"""Journals who could not prove who they are: the first time at once, repetitions counted, so that nobody floods it."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from debt_mgmt.core.commands import RecordSignInFailure
from debt_mgmt.server.actor import Actor

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

GATHERED = timedelta(seconds=60)
"""Repetitions of a failure are counted for so long, and journaled as one event."""
SUBJECTS_MOST = 200
"""Of so many peers and reasons at a time; what comes from more is counted together."""
MANY = "many peers"
LOOK_SECONDS = 1.0
REASON_CHARACTERS = 200

logger = logging.getLogger(__name__)


class Failures(NamedTuple):
    """Failures of one kind that are not journaled yet; `since` the first one or the last event of theirs."""

    times: int
    since: datetime
    method: str


class SignIns:
    """`failed` is told of each; it neither waits nor raises. Between `start` and `finish` what is counted is told."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.watching: asyncio.Task[None] | None = None
        self.gathered: dict[tuple[str, str], Failures] = {}
        self.writing: set[asyncio.Task[None]] = set()
        self.total = 0
        """Failures since the start, for metrics."""

    def failed(self, reason: str, peer: str, method: str) -> None:
        self.total += 1
        host, reason = host_of(peer), reason[:REASON_CHARACTERS]
        if (host, reason) not in self.gathered and len(self.gathered) >= SUBJECTS_MOST:
            host = MANY
        now, known = self.engine.clock(), self.gathered.get((host, reason))
        if known is not None:
            self.gathered[host, reason] = known._replace(times=known.times + 1, method=method)
            return
        self.gathered[host, reason] = Failures(0, now, method)
        self.write(host, reason, Failures(1, now, method))

    def flush(self, *, everything: bool = False) -> None:
        """Journal what was counted long enough; forget those who did not come again."""
        now = self.engine.clock()
        for subject, found in list(self.gathered.items()):
            if not everything and now - found.since < GATHERED:
                continue
            if found.times:
                self.write(*subject, found)
                self.gathered[subject] = Failures(0, now, found.method)
            else:
                del self.gathered[subject]

    def start(self) -> None:
        self.watching = asyncio.create_task(self.watch(), name="sign-in failures")

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.flush()

    async def finish(self) -> None:
        """Journal what is counted, before the engine stops."""
        if self.watching is not None:
            self.watching.cancel()
            await asyncio.gather(self.watching, return_exceptions=True)
        self.flush(everything=True)
        await asyncio.gather(*self.writing, return_exceptions=True)

    def write(self, host: str, reason: str, found: Failures) -> None:
        task = asyncio.create_task(self.journal(host, reason, found), name="sign-in failure")
        self.writing.add(task)
        task.add_done_callback(self.writing.discard)

    async def journal(self, host: str, reason: str, found: Failures) -> None:
        command = RecordSignInFailure(reason, host, found.method, found.since, count=found.times)
        try:
            await self.engine.submit_house(command, request_id="", actor=Actor("nobody", peer=host))
        except Exception as error:  # noqa: BLE001 - who is refused anyway waits for nothing; the log says what is lost
            logger.error("%d sign-in failures of %s could not be journaled: %s", found.times, host, error)


def host_of(peer: str) -> str:
    """The peer without its port, which is another one each time: `ipv4:10.0.0.7:41234` is `ipv4:10.0.0.7`."""
    host, _, port = peer.rpartition(":")
    return host if host and port.isdigit() else peer
