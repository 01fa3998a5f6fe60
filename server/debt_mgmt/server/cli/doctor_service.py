"""What the doctor sees of the service over the wire: its clock, prices, accounts, journal, and what is OFF."""

import asyncio
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from debt_mgmt.client import (
    Account,
    DebtMgmtError,
    MarginClient,
    MarginStatus,
    Mark,
    Protection,
    ProtectionStatus,
    SyncStatus,
    TradingState,
    errors,
)
from debt_mgmt.client.channel import CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE, credentials_in
from debt_mgmt.server.cli.accounts import AT_ONCE, statuses
from debt_mgmt.server.cli.findings import Finding, fine, off, skipped, wrong
from debt_mgmt.server.cli.session import Failed, client_of, unreachable
from debt_mgmt.server.cli.wording import counted, listed, span

CLOCK_SECONDS_MOST = 2.0
"""Orders are refused on prices of ten seconds by default: a clock may not be off by much of that."""

ROWS_WALKED = 500
"""Newest events of each shard whose hashes are checked; `audit verify` checks all."""

NAMED_MOST = 5
HTTP_SECONDS = 5.0
JOURNAL_SECONDS = 3.0
"""Within which a journal that can be read gives the ends of its logs."""


@dataclass
class Examined:
    """Whether the service answers, and what was found of it."""

    answers: bool = False
    findings: list[Finding] = field(default_factory=list)


async def examine_service(target: str, http: str | None) -> Examined:
    """Ask the service at `target`. One that does not answer is a finding, not an error."""
    found = Examined()
    try:
        async with client_of(target) as client:
            asked = datetime.now(UTC)
            caller = await client.caller()
            answered = datetime.now(UTC)
            found.answers = True
            found.findings.append(
                fine("service", f"answers at {target}; here you are {caller.name}, {caller.role.value}")
            )
            found.findings.append(clock_finding("clock", caller.as_of, asked, answered))
            found.findings += await health_findings(http)
            found.findings += entrance_findings(caller.authenticated)
            marks = await client.marks()
            accounts = await client.accounts()
            standing = await statuses(client, [one.account_id for one in accounts])
            found.findings += [*price_findings(marks, standing), *account_findings(accounts)]
            found.findings += await protection_findings(client, accounts)
            found.findings += await journal_findings(client)
    except Failed as error:
        found.findings.append(wrong("service", str(error)))
    except DebtMgmtError as error:
        found.findings.append(failure(target, error))
    return found


def failure(target: str, error: DebtMgmtError) -> Finding:
    if unreachable(error):
        return wrong(
            "service",
            f"no service answers at {target}: it is down, or it listens elsewhere. Nothing is protected by it",
            "start it with `debt-mgmt serve`, or name another with --target",
        )
    remedy = "set DEBT_MGMT_TOKEN_FILE to a file with a token" if isinstance(error, errors.Unauthenticated) else ""
    return wrong("service", f"{error.reason or error.code.name}: {error.message}", remedy)


def clock_finding(subject: str, theirs: datetime, asked: datetime, answered: datetime) -> Finding:
    """How far a clock is from the one of this machine; the way of the answer is not held against it."""
    ahead = max(theirs - answered, asked - theirs, timedelta())
    if ahead.total_seconds() > CLOCK_SECONDS_MOST:
        words = f"{ahead.total_seconds():.1f} s from the clock of this machine"
        return wrong(subject, words, "set both by NTP: the age of prices is counted by these clocks")
    return fine(subject, f"within {max(ahead, answered - asked).total_seconds():.3f} s of the clock of this machine")


async def health_findings(http: str | None) -> list[Finding]:
    """Whether it protects, as /health says: that a shard is halted, prices are missing, or a venue is out of sight."""
    if http is None:
        return [skipped("protection", "where the service's /health is, is not known", "name it with --http")]
    try:
        timeout = aiohttp.ClientTimeout(total=HTTP_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{http.rstrip('/')}/health", ssl=trusted()) as answer,
        ):
            told: dict[str, Any] = await answer.json()
        reasons = [str(reason) for reason in told["reasons"]]
        warnings = [wrong("health", str(warning)) for warning in told.get("warnings", [])]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        words = f"{http}/health does not answer as the service would ({type(error).__name__})"
        return [skipped("protection", words, "name the service's HTTP address with --http")]
    if reasons:
        return [*(wrong("protection", reason) for reason in reasons), *warnings]
    return [fine("protection", "every account is protected, and the journal is written"), *warnings]


def trusted() -> ssl.SSLContext | bool:
    """Whom an encrypted /health is believed: as for calls."""
    named = [os.environ.get(name) or None for name in (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE)]
    if named[0] is None:
        return True
    context = ssl.create_default_context(cafile=named[0])
    if named[1] is not None:
        context.load_cert_chain(named[1], named[2])
    return context


def entrance_findings(authenticated: bool) -> list[Finding]:
    found = []
    if not authenticated:
        found.append(off("authentication", "every caller is an administrator", "set server.auth to tokens"))
    if credentials_in(os.environ) is None:
        found.append(off("encryption", "this connection is in the clear", "set server.tls, and DEBT_MGMT_TLS_CA here"))
    return found


def price_findings(marks: Sequence[Mark], standing: Sequence[MarginStatus]) -> list[Finding]:
    needed = sorted({symbol for one in standing for symbol in one.stale_symbols})
    if needed:
        holders = [one.account_id for one in standing if one.stale]
        words = f"missing or too old: {some(needed)}; the level of {some(holders)} is UNKNOWN"
        return [wrong("prices", words, "feed them again; `debt-mgmt status ACCOUNT` shows their age")]
    if not marks:
        return [fine("prices", "there are none, and no account needs any")]
    oldest = max(marks, key=lambda mark: mark.age)
    old = sum(mark.stale for mark in marks)
    words = f"{counted(len(marks), 'price')}, the oldest of {oldest.symbol} is {span(oldest.age)} old"
    return [fine("prices", f"{words}; {old} too old, none of them needed" if old else words)]


def account_findings(accounts: Sequence[Account]) -> list[Finding]:
    found = []
    for one in accounts:
        if one.sync is not None and one.sync.status is not SyncStatus.FRESH:
            seen = "was never read" if one.sync.age is None else f"was last read {span(one.sync.age)} ago"
            found.append(wrong("venue", f"{one.account_id} {seen} from {one.broker}: {one.sync.reason or 'no reason'}"))
        if one.trading_state is not TradingState.ACTIVE:
            why = one.trading_state_reason or "no reason was given"
            found.append(fine("trading", f"{one.account_id} is {one.trading_state.value}: {why}"))
    live = [one for one in accounts if one.sync is not None]
    if live and not any(finding.subject == "venue" for finding in found):
        found.append(fine("venue", f"{counted(len(live), 'account')} kept in step with the exchange"))
    return found


async def protection_findings(client: MarginClient, accounts: Sequence[Account]) -> list[Finding]:
    """Each protection that is off, with the accounts that go without it."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def of(account_id: str) -> list[tuple[str, str]]:
        async with gate:
            limits = await client.risk_limits(account_id)
        return [(one.protection.value, why(one)) for one in limits.protections if one.off]

    ids = [one.account_id for one in accounts]
    without: dict[tuple[str, str], list[str]] = {}
    for account_id, names in zip(ids, await asyncio.gather(*map(of, ids)), strict=True):
        for name in names:
            without.setdefault(name, []).append(account_id)
    return [
        off(name, ("of every account" if len(who) == len(ids) else f"of {some(who)}") + words)
        for (name, words), who in without.items()
    ]


def why(one: ProtectionStatus) -> str:
    """Why one person alone is enough, where that is what is off."""
    return f": {one.note}" if one.protection is Protection.FOUR_EYES else ""


async def journal_findings(client: MarginClient) -> list[Finding]:
    """Whether the newest events of each shard are what was written."""
    try:
        heads = (await client.verify_audit(max_events=1, timeout=JOURNAL_SECONDS)).shards
        walks = [
            await client.verify_audit(
                shard=one.shard, start_position=max(1, one.head_position - ROWS_WALKED + 1), max_events=2 * ROWS_WALKED
            )
            for one in heads
            if one.head_position
        ]
    except errors.PermissionDenied:
        return [skipped("journal", "needs a token of the role risk that sees every account")]
    except (errors.Unavailable, errors.DeadlineExceeded) as error:
        words = f"it can't be read: {error.message}; nothing new is acknowledged meanwhile"
        return [wrong("journal", words, "bring its database back, or make room on its disk")]
    found = [shard for walk in walks for shard in walk.shards]
    broken = [
        wrong("journal", f"shard {one.shard}, position {one.broken_position}: {one.detail}", "`debt-mgmt audit verify`")
        for one in found
        if not one.intact
    ]
    rows = sum(one.last_position - one.first_position + 1 for one in found if one.last_position)
    return broken or [
        fine("journal", f"the newest {counted(rows, 'event')} of {counted(len(found), 'shard')} fit their hashes")
    ]


def some(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(names) - NAMED_MOST
    return listed([*names[:NAMED_MOST], f"{more} more"] if more > 0 else names)
