"""When a failed call is repeated: only where that is safe, with growing jittered pauses, within the call's timeout."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from debt_mgmt.client.errors import DebtMgmtError, Unavailable
from debt_mgmt.client.times import Timeout, seconds

Patience = Literal["check", "read", "command", "close"]
"""Which timeout holds for a call that names none."""

Chance = Callable[[], float]
"""Gives numbers from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long calls may take that name no timeout, in seconds, retries included."""

    check: float = 5.0
    """Pre-trade checks and simulations."""
    read: float = 10.0
    """Everything else that only reads; each page of a list."""
    command: float = 10.0
    """What changes something."""
    close: float = 30.0
    """close_position, which waits for the broker."""

    def of(self, patience: Patience) -> float:
        """The timeout of a kind of call."""
        match patience:
            case "check":
                return self.check
            case "read":
                return self.read
            case "command":
                return self.command
            case "close":
                return self.close


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a call that met an unavailable service is repeated, and with which pauses, in seconds."""

    attempts_max: int = 10
    """1: never repeated."""
    first_pause: float = 0.05
    longest_pause: float = 2.0

    def pause(self, failures: int, chance: Chance = random.random) -> float:
        """How long to wait after so many failures in a row: doubling, and somewhere between half of it and all."""
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))
        return longest * (0.5 + chance() / 2)


NEVER = RetryPolicy(attempts_max=1)


class Attempts:
    """The attempts of one call: how long the next may take, and whether and when there is one."""

    def __init__(self, policy: RetryPolicy, timeout: Timeout, default: float, now: float) -> None:
        self._policy = policy
        self._deadline = now + (default if timeout is None else seconds(timeout, "timeout"))
        self._failures = 0

    def remaining(self, now: float) -> float:
        """Seconds until the call's timeout, above zero."""
        return max(self._deadline - now, 0.001)

    def pause_after(self, error: DebtMgmtError, now: float) -> float | None:
        """Seconds to wait before the next attempt. None: there is none, the error stands."""
        self._failures += 1
        if not isinstance(error, Unavailable) or self._failures >= self._policy.attempts_max:
            return None
        pause = self._policy.pause(self._failures)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after.total_seconds())
        return pause if now + pause < self._deadline else None
