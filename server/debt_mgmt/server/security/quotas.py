"""How much each caller may ask for: by token and class of method, and open streams. Never of what takes risk away."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Protocol

import msgspec
from google.protobuf.descriptor import MethodDescriptor

from debt_mgmt.core.access import Role
from debt_mgmt.core.faults import RateLimited
from debt_mgmt.server.rpc.exits import ORDERS
from debt_mgmt.server.security.identity import LOCAL_IDENTITY, Identity

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
NAMES_MOST = 10_000
"""Callers that are counted at the same time; the one that was idle longest is forgotten for the next."""

LEVERAGE_CHANGES = frozenset({"SetLeverage", "SetMarginMode"})
LIST = "List"


class QuotaTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed of each kind; None: any number."""

    viewer_lists_per_minute: int | None = None
    leverage_changes_per_day: int | None = None
    openings_per_hour: int | None = None
    streams: int | None = None


class Quota(msgspec.Struct, frozen=True):
    """So many calls in so many seconds."""

    name: str
    most: int
    seconds: float
    words: str


class Use:
    """One call that was counted."""

    __slots__ = ("at", "counted")

    def __init__(self, counted: "deque[float] | None", at: float = 0.0) -> None:
        self.counted = counted
        self.at = at

    def used(self, response: Any) -> Any:
        """The response; a repeated one was counted the first time."""
        if getattr(response, "replayed", False):
            self.give_back()
        return response

    def give_back(self) -> None:
        if self.counted is not None and self.at in self.counted:
            self.counted.remove(self.at)
        self.counted = None


class Limiter(Protocol):
    def __call__(self, identity: Identity, request: Any) -> "contextlib.AbstractContextManager[Use]": ...


class Quotas:
    """Counts in memory: what was used before a restart is forgotten by it."""

    def __init__(
        self,
        terms: QuotaTerms,
        is_reducing: Callable[[Any], bool] = lambda request: False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.terms = terms
        self.is_reducing = is_reducing
        """Whether the order of a request only takes risk away."""
        self.clock = clock
        self.calls: dict[tuple[str, str], deque[float]] = {}
        """By caller and quota, when the calls that still count were made."""
        self.streams: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """By quota, for metrics."""

    def limiter(self, method: MethodDescriptor) -> Limiter | None:
        """What counts the calls of a method; None where they are not limited."""
        terms, name = self.terms, method.name
        if name in LEVERAGE_CHANGES and terms.leverage_changes_per_day is not None:
            quota = Quota("leverage_changes_per_day", terms.leverage_changes_per_day, DAY, "leverage changes a day")
            return self.limited(quota, lambda identity, request: not getattr(request, "validate_only", False))
        if name in ORDERS and terms.openings_per_hour is not None:
            quota = Quota("openings_per_hour", terms.openings_per_hour, HOUR, "orders that add risk an hour")
            return self.limited(quota, lambda identity, request: not self.is_reducing(request))
        if name.startswith(LIST) and terms.viewer_lists_per_minute is not None:
            quota = Quota("viewer_lists_per_minute", terms.viewer_lists_per_minute, MINUTE, "lists a minute")
            return self.limited(quota, lambda identity, request: identity.role is Role.VIEWER)
        return None

    def limited(self, quota: Quota, counts: Callable[[Identity, Any], bool]) -> Limiter:
        @contextlib.contextmanager
        def counted(identity: Identity, request: Any) -> Iterator[Use]:
            use = self.take(quota, identity.name) if counts(identity, request) else Use(None)
            try:
                yield use
            except BaseException:
                use.give_back()
                raise

        return counted

    def take(self, quota: Quota, name: str) -> Use:
        """Count one call now. Raises RateLimited where there is no room."""
        now = self.clock()
        calls = self.calls.pop((name, quota.name), None)
        if calls is None:
            calls = deque()
            while len(self.calls) >= NAMES_MOST:
                self.calls.pop(next(iter(self.calls)))
        self.calls[name, quota.name] = calls
        while calls and calls[0] <= now - quota.seconds:
            calls.popleft()
        if len(calls) >= quota.most:
            wait = quota.seconds - (now - calls[0]) if calls else quota.seconds
            self.refused[quota.name] += 1
            raise RateLimited(
                quota.name,
                f"token:{name}",
                quota.most,
                wait,
                f"{name} has used its {quota.most} {quota.words}; there is room again in {wait:.0f} s. Closing, "
                "reducing, cancelling, halting and checking are never limited",
            )
        calls.append(now)
        return Use(calls, now)

    @contextlib.contextmanager
    def stream(self, identity: Identity) -> Iterator[None]:
        """One open stream of the caller. Raises RateLimited where there are too many."""
        name, most = identity.name, self.terms.streams
        if most is not None and self.streams[name] >= most and identity is not LOCAL_IDENTITY:
            self.refused["streams"] += 1
            raise RateLimited("streams", f"token:{name}", most, 1.0, f"{name} has {most} streams open, the most it may")
        self.streams[name] += 1
        try:
            yield
        finally:
            self.streams[name] -= 1
            if self.streams[name] <= 0:
                del self.streams[name]


UNLIMITED = Quotas(QuotaTerms())
