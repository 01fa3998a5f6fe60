"""FundService.ListFundHistory: the history's hours as hours, days, weeks or months, with the one that is under way."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from debt_mgmt.core.account import Account
from debt_mgmt.core.limits import worth
from debt_mgmt.core.margin import Summary
from debt_mgmt.core.money import owned, text
from debt_mgmt.core.profit import (
    NOTHING,
    Causes,
    IntervalLength,
    ProfitAndLoss,
    interval_end,
    interval_start,
    profit_and_loss,
)
from debt_mgmt.server.history import FundHistory, HistoryRow, Sum
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.answers import reading
from debt_mgmt.server.rpc.names import INTERVAL_LENGTH
from debt_mgmt.server.rpc.pages import cursor_of, moment, token_of
from debt_mgmt.server.rpc.validate import ERA, Reader
from debt_mgmt.v1 import fund_service_pb2 as wire

if TYPE_CHECKING:
    from debt_mgmt.server.engine import Engine

NAME = "ListFundHistory"
ROWS_TOGETHER = 1000
INSTANT = timedelta(microseconds=1)
MARGIN = timedelta(days=40)
"""The calendar is not asked for what lies within so much of the first or the last time there is."""
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Calendar(msgspec.Struct, frozen=True):
    """Which interval a row belongs to: the one in which it ended."""

    zone: str
    length: IntervalLength

    def start(self, at: datetime) -> datetime:
        if at < FIRST + MARGIN or at > LAST - MARGIN:
            return at
        return interval_start(at, self.zone, self.length)

    def end(self, start: datetime) -> datetime:
        return LAST if start > LAST - MARGIN else interval_end(start, self.zone, self.length)

    def of(self, row: HistoryRow) -> datetime:
        return self.start(row.ended_at - INSTANT)


class Entry(msgspec.Struct):
    """One interval, from its newest row back."""

    start: datetime
    newest: HistoryRow
    equity_before: Decimal | None
    causes: Causes = NOTHING


async def list_fund_history(engine: "Engine", request: wire.ListFundHistoryRequest) -> wire.ListFundHistoryResponse:
    read = Reader()
    account_id = read.account_id(request.account_id)
    size = read.page_size(request.page_size)
    length = read.choice(request.interval, INTERVAL_LENGTH, "interval", IntervalLength.DAY)
    since, until = read.period(request)
    read.done()
    view, now = engine.view(account_id), engine.clock()
    place = engine.revision(account_id)
    current = under_way(view.account, view.summary, now)
    calendar = Calendar(engine.risk.day_zone, length)
    filters = (account_id, length.value, str(since), str(until))
    cursor = cursor_of(request.page_token, NAME, *filters)
    after = calendar.start(since) if since is not None else ERA
    before = calendar.end(calendar.start(until - INSTANT)) if until is not None else LAST
    await engine.history.settled()
    page_before = before if cursor is None else min(before, ERA + timedelta(microseconds=int(cursor[0])))
    rows = newest_rows(engine.history, account_id, current, after, page_before)
    entries, more = await entries_of(rows, calendar, size)
    whole = await whole_of(engine.history, account_id, current, after, before)
    return wire.ListFundHistoryResponse(
        **reading(place, now),
        entries=[entry_message(entry, calendar) for entry in entries],
        next_page_token=token_of([moment(entries[-1].start)], NAME, *filters) if more else "",
        total=None if whole is None else total_message(whole.equity_before, whole.equity, whole.causes),
        realized_pnl=None if whole is None or whole.causes.unpriced else text(whole.causes.realized),
    )


def under_way(account: Account, summary: Summary, now: datetime) -> HistoryRow | None:
    """The interval that is not closed yet as if it ended now; None for an account whose history has not begun."""
    interval = account.interval
    if interval is None:
        return None
    known = summary.known
    return HistoryRow(
        account_id=account.account_id,
        shard=0,
        position=0,
        started_at=interval.started_at,
        ended_at=max(interval.started_at, account.closed_at or now) + INSTANT,
        equity_before=interval.equity,
        equity=owned(worth(summary)) if known else None,
        wallet_balance=owned(summary.wallet_value) if known else None,
        unrealized_pnl=owned(summary.unrealized_pnl) if known else None,
        causes=interval.causes,
    )


def in_period(row: HistoryRow | None, after: datetime, before: datetime) -> bool:
    return row is not None and after < row.ended_at <= before


def closed_before(current: HistoryRow | None, before: datetime) -> datetime:
    """Up to where closed intervals count: what was closed since the current one was looked at is in that already."""
    return before if current is None else min(before, current.started_at)


async def newest_rows(
    history: FundHistory, account_id: str, current: HistoryRow | None, after: datetime, before: datetime
) -> AsyncIterator[HistoryRow]:
    """Rows that ended in the period, the newest first, beginning with the one under way."""
    if current is not None and in_period(current, after, before):
        yield current
    before = closed_before(current, before)
    while True:
        rows = await history.store.newest(account_id, after, before, ROWS_TOGETHER)
        for row in rows:
            yield row
        if len(rows) < ROWS_TOGETHER:
            return
        before = rows[-1].ended_at - INSTANT


async def entries_of(rows: AsyncIterator[HistoryRow], calendar: Calendar, size: int) -> tuple[list[Entry], bool]:
    """The newest `size` intervals, and whether there are more."""
    entries: list[Entry] = []
    async for row in rows:
        start = calendar.of(row)
        if not entries or entries[-1].start != start:
            if len(entries) == size:
                return entries, True
            entries.append(Entry(start, row, row.equity_before))
        entries[-1].equity_before = row.equity_before
        entries[-1].causes = row.causes.plus(entries[-1].causes)
    return entries, False


async def whole_of(
    history: FundHistory, account_id: str, current: HistoryRow | None, after: datetime, before: datetime
) -> Sum | None:
    """Everything in the period as one."""
    closed = await history.store.sum(account_id, after, closed_before(current, before))
    if current is None or not in_period(current, after, before):
        return closed
    if closed is None:
        return Sum(current.equity_before, current.equity, current.causes)
    return Sum(closed.equity_before, current.equity, closed.causes.plus(current.causes))


def entry_message(entry: Entry, calendar: Calendar) -> wire.FundHistoryEntry:
    last = entry.newest
    return wire.FundHistoryEntry(
        start_time=convert.timestamp(entry.start),
        end_time=convert.timestamp(calendar.end(entry.start)),
        equity=convert.optional_text(last.equity),
        wallet_balance=convert.optional_text(last.wallet_balance),
        unrealized_pnl=convert.optional_text(last.unrealized_pnl),
        realized_pnl=None if entry.causes.unpriced else text(entry.causes.realized),
        profit_and_loss=total_message(entry.equity_before, last.equity, entry.causes),
    )


def total_message(before: Decimal | None, after: Decimal | None, causes: Causes) -> wire.ProfitAndLoss | None:
    found = profit_and_loss(before, after, causes)
    return None if found is None else profit_message(found)


def profit_message(found: ProfitAndLoss) -> wire.ProfitAndLoss:
    return wire.ProfitAndLoss(**{name: text(getattr(found, name)) for name in found.__struct_fields__})
