"""Who watches which account: marks what changed for each watcher, merged until the watcher is ready for it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from debt_mgmt.core.account import Account, Alert, Reduction
from debt_mgmt.core.market import Mark

URGENT_MAX = 1000
"""Alerts and liquidations kept for a watcher that does not read; beyond that it must start again from snapshots."""

Revision = tuple[int, int]


class Due(NamedTuple):
    """What a watcher is to be told next."""

    kind: str
    """"update", "alert", "liquidation", "heartbeat", "resync" or "draining"."""
    account_id: str = ""
    conflated: int = 0
    alert: Alert | None = None
    liquidation: Reduction | None = None
    revision: Revision | None = None


class Watcher:
    """One subscription. Changes of an account are merged to one; alerts and liquidations are kept one by one."""

    def __init__(
        self,
        account_ids: frozenset[str] | None,
        min_interval_seconds: float,
        heartbeat_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account_ids = account_ids
        self.min_interval_seconds = min_interval_seconds
        self.heartbeat_seconds = heartbeat_seconds
        self.clock = clock
        self.dirty: dict[str, int] = {}
        self.urgent: deque[Due] = deque()
        self.sent_at: dict[str, float] = {}
        self.spoke_at = clock()
        self.waiting_since: float | None = None
        """Since when there has been something to tell, without a pause; None while there is nothing."""
        self.overflown = False
        self.draining = False
        self.wake = asyncio.Event()

    def wants(self, account_id: str) -> bool:
        return self.account_ids is None or account_id in self.account_ids

    def lag_seconds(self, now: float) -> float:
        """How long the watcher has left due news lying, beyond the interval that it asked for; 0 where it keeps up."""
        if self.waiting_since is None:
            return 0.0
        return max(0.0, now - max(self.waiting_since, self.spoke_at) - self.min_interval_seconds)

    def touch(self, account_id: str) -> None:
        if self.waiting_since is None:
            self.waiting_since = self.clock()
        self.dirty[account_id] = self.dirty.get(account_id, -1) + 1
        self.wake.set()

    def tell(self, due: Due) -> None:
        if self.waiting_since is None:
            self.waiting_since = self.clock()
        if len(self.urgent) >= URGENT_MAX:
            self.overflown = True
            self.urgent.clear()
        else:
            self.urgent.append(due)
        self.wake.set()

    async def take(self) -> Due:
        """The next thing to say; waits for one, and gives a heartbeat where nothing happens."""
        while True:
            now = self.clock()
            due = self.due_now(now)
            if due is not None:
                self.spoke_at = now
                if not self.dirty and not self.urgent:
                    self.waiting_since = None
                return due
            self.wake.clear()
            wait = self.seconds_to_next(now)
            try:
                await asyncio.wait_for(self.wake.wait(), wait)
            except TimeoutError:
                continue

    def due_now(self, now: float) -> Due | None:
        if self.overflown:
            self.overflown = False
            return Due("resync")
        if self.urgent:
            return self.urgent.popleft()
        for account_id, conflated in self.dirty.items():
            if now - self.sent_at.get(account_id, -1e9) >= self.min_interval_seconds:
                del self.dirty[account_id]
                self.sent_at[account_id] = now
                return Due("update", account_id, conflated)
        if self.draining:
            return Due("draining")
        if now - self.spoke_at >= self.heartbeat_seconds:
            return Due("heartbeat")
        return None

    def seconds_to_next(self, now: float) -> float:
        ready = [self.sent_at.get(account_id, now) + self.min_interval_seconds for account_id in self.dirty]
        return max(0.0, min([*ready, self.spoke_at + self.heartbeat_seconds]) - now)


class WatchHub:
    """Every watcher, found by account."""

    def __init__(self) -> None:
        self.everyone: set[Watcher] = set()
        self.by_account: dict[str, set[Watcher]] = {}
        self.on_alert: Callable[[], None] = lambda: None
        """Called with each alert, and where the house has news; must not block."""
        self.holders: Callable[[str], Iterable[str]] = lambda symbol: ()
        """Accounts whose figures rest on a symbol's mark."""

    @property
    def watchers(self) -> set[Watcher]:
        return self.everyone | {watcher for watchers in self.by_account.values() for watcher in watchers}

    @property
    def count(self) -> int:
        return len(self.watchers)

    def add(self, watcher: Watcher) -> None:
        if watcher.account_ids is None:
            self.everyone.add(watcher)
            return
        for account_id in watcher.account_ids:
            self.by_account.setdefault(account_id, set()).add(watcher)

    def remove(self, watcher: Watcher) -> None:
        self.everyone.discard(watcher)
        for account_id in watcher.account_ids or ():
            watchers = self.by_account.get(account_id)
            if watchers is not None:
                watchers.discard(watcher)
                if not watchers:
                    del self.by_account[account_id]

    def watchers_of(self, account_id: str) -> Iterable[Watcher]:
        yield from self.everyone
        yield from self.by_account.get(account_id, ())

    def changed(self, accounts: Mapping[str, Account]) -> None:
        """Accounts changed by events."""
        if not self.everyone and not self.by_account:
            return
        for account_id in accounts:
            for watcher in self.watchers_of(account_id):
                watcher.touch(account_id)

    def marked(self, marks: Mapping[str, Mark]) -> None:
        """Prices moved: accounts that rest on them changed too."""
        if not self.everyone and not self.by_account:
            return
        for symbol in marks:
            for account_id in self.holders(symbol):
                for watcher in self.watchers_of(account_id):
                    watcher.touch(account_id)

    def alert(self, account_id: str, alert: Alert, revision: Revision) -> None:
        self.on_alert()
        for watcher in self.watchers_of(account_id):
            watcher.tell(Due("alert", account_id, alert=alert, revision=revision))

    def liquidation(self, account_id: str, reduction: Reduction | None, revision: Revision) -> None:
        for watcher in self.watchers_of(account_id):
            watcher.tell(Due("liquidation", account_id, liquidation=reduction, revision=revision))

    def drain(self) -> None:
        """Tell every watcher that the service goes away."""
        for watcher in [*self.everyone, *(one for watchers in self.by_account.values() for one in watchers)]:
            watcher.draining = True
            watcher.wake.set()
