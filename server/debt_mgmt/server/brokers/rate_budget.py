"""A budget of requests towards one venue: what reduces risk finds a share of it that nothing else may use."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

URGENT: ContextVar[bool] = ContextVar("urgent", default=False)


@contextlib.contextmanager
def urgent() -> Iterator[None]:
    """Requests made inside may use the reserved share: orders that reduce, cancels, and looking them up."""
    token = URGENT.set(True)
    try:
        yield
    finally:
        URGENT.reset(token)


class RateBudget:
    """A bucket of request weights, as the venue counts them. Urgent requests may empty it; others stop at the reserve.

    Whoever waits for weight waits in two queues: one that is not urgent never stands before one that is.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        reserved_share: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert per_second > 0
        assert burst > 0
        assert 0 <= reserved_share < 1
        self.per_second = per_second
        self.burst = burst
        self.reserve = burst * reserved_share
        self.clock = clock
        self.level = burst
        self.at = clock()
        self.blocked_until = 0.0
        self.urgent_waiting = 0
        self.taken = 0.0
        """Weight used since the beginning."""
        self.requests = 0
        self.patient = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """The venue said that it is too much: nobody asks before that time is over."""
        self.blocked_until = max(self.blocked_until, self.clock() + seconds)

    def free_share(self) -> float:
        """How much of the bucket could be used now, of 1; 0 while the venue has told us to wait."""
        now = self.clock()
        if now < self.blocked_until:
            return 0.0
        return min(self.burst, self.level + (now - self.at) * self.per_second) / self.burst

    async def take(self, weight: float | None = None) -> None:
        """Wait until a request of this weight may be sent, and count it."""
        weight = 1.0 if weight is None else float(weight)
        if URGENT.get():
            self.urgent_waiting += 1
            try:
                await self.until(weight, 0.0)
            finally:
                self.urgent_waiting -= 1
        else:
            async with self.patient:
                await self.until(weight, self.reserve)
        self.requests += 1

    async def until(self, weight: float, floor: float) -> None:
        while (wait := self.wait_seconds(weight, floor)) > 0:
            await asyncio.sleep(wait)
        self.level -= weight
        self.taken += weight

    def wait_seconds(self, weight: float, floor: float) -> float:
        """How long a request has to wait from now. One heavier than the bucket goes when it is full."""
        now = self.clock()
        self.level = min(self.burst, self.level + (now - self.at) * self.per_second)
        self.at = now
        if now < self.blocked_until:
            return self.blocked_until - now
        if floor and self.urgent_waiting:
            return 0.01
        missing = min(weight + floor, self.burst) - self.level
        return max(0.0, missing / self.per_second) if missing > 1e-9 else 0.0
