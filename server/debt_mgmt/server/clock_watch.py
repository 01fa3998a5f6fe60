"""Sees when this machine's clock is stepped: it is compared with one that nobody can set."""

import logging
from collections.abc import Callable
from datetime import datetime

STEP_SECONDS = 2.0
"""NTP moves a clock by less between two looks; on more than this, the ages of prices mean something else."""
REMEMBERED_SECONDS = 3600.0

logger = logging.getLogger(__name__)


class ClockWatch:
    """Looks at the clock now and then. Without a steady clock beside it, as on a clock of tests, it sees no steps."""

    def __init__(self, clock: Callable[[], datetime], steady: Callable[[], float] | None) -> None:
        self.clock = clock
        self.steady = steady
        self.steps = 0
        self.stepped_seconds = 0.0
        """By how much the last step moved the clock; back is below zero."""
        self.stepped_at: tuple[datetime, float] | None = None
        self.seen = (clock(), steady() if steady is not None else 0.0)

    def look(self) -> None:
        """Compare how far both clocks went since the last look."""
        if self.steady is None:
            return
        at, steady = self.clock(), self.steady()
        moved = (at - self.seen[0]).total_seconds() - (steady - self.seen[1])
        self.seen = (at, steady)
        if abs(moved) >= STEP_SECONDS:
            self.steps += 1
            self.stepped_seconds, self.stepped_at = moved, (at, steady)
            logger.warning("the clock was stepped by %+.1f s; times in the journal never run backwards", moved)

    def problems(self, newest: datetime) -> list[str]:
        """A step of the last hour, and that the clock is behind `newest`, the latest time in the journal."""
        found = []
        if self.steady is not None and self.stepped_at is not None:
            at, steady = self.stepped_at
            if self.steady() - steady < REMEMBERED_SECONDS:
                found.append(f"the clock was stepped by {self.stepped_seconds:+.1f} s, to {at:%Y-%m-%d %H:%M:%S} UTC")
        if (behind := self.behind(newest)) >= STEP_SECONDS:
            found.append(f"the clock is {behind:.1f} s behind the newest event: times stand still until it is there")
        return found

    def behind(self, newest: datetime) -> float:
        """Seconds that the clock is behind the latest time in the journal; 0 where it is not."""
        return max(0.0, (newest - self.clock()).total_seconds())
