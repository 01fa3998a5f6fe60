"""The state as of an earlier place in the journal: accounts and the house, folded from their events."""

from collections import deque
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import NamedTuple

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account
from debt_mgmt.core.apply import apply
from debt_mgmt.core.house import House, apply_house
from debt_mgmt.core.inputs import begins_decision, inputs_of
from debt_mgmt.core.market import Mark
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import LOG_OPENED, Journal, Row
from debt_mgmt.server.journal.retention import base_of

ACCOUNTS: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)
HOUSE: Codec[House, e.HouseEvent] = Codec(e.HouseEvent, House)

HOUSE_SHARD = 0
ROWS_TOGETHER = 1000
LED_BY_MOST = 12

LEADING = frozenset({
    "AccountCreated", "Transferred", "FundsReset", "MarginReserved", "OrderPlaced", "FillRecorded", "LeverageSet",
    "MarginModeSet", "IsolatedMarginAdjusted", "VenueChangeRequested", "VenueChangeRefused", "SyncLost",
    "CancelsRequested", "DryRunSet", "LimitsSet", "RiskLevelChanged", "IsolatedLevelChanged", "TradingStateChanged",
    "BreakerTripped", "BreakerCleared", "ReductionStarted", "ReductionExtended", "ReductionEnded",
    "BankruptcyRecorded", "Borrowed", "Repaid", "AssetConverted", "FundingSettled",
})  # fmt: skip
"""Events that change what later ones are decided on; the others are records of it."""


class AccountThen(NamedTuple):
    """An account as of a place, None before it was created, and the events that led there, oldest first."""

    account: Account | None
    led_by: list[Row]
    marks: dict[str, Mark]
    """Prices that its last decision was made on."""
    changed_at: int
    """Position of its last event."""


async def account_then(
    journal: Journal, shard: int, account_id: str, position: int, leading: Collection[str] = LEADING
) -> AccountThen:
    """The account as the events up to and with `position` left it."""
    base = await base_of(journal, shard)
    account = None if base is None else base.entity(ACCOUNTS, account_id)
    led_by: deque[Row] = deque(maxlen=LED_BY_MOST)
    marks: dict[str, Mark] = {}
    changed_at = 0
    async for row in rows_of(journal, shard, account_id, 0 if base is None else base.position, position):
        event = ACCOUNTS.decode_event(row.payload)
        account, changed_at = apply(account, event), row.position
        if begins_decision(event):
            inputs = inputs_of(event)
            marks = {} if inputs is None else {mark.symbol: mark for mark in inputs.marks}
        if row.kind in leading:
            led_by.append(row)
    return AccountThen(account, list(led_by), marks, changed_at)


async def last_position_at(journal: Journal, shard: int, head: int, at: datetime) -> int:
    """The last position written at or before a time, by halving; 0 where there is none."""
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        rows = await journal.read_rows(shard, middle, middle)
        if not rows or rows[0].at <= at:  # a row that is not kept any more is older than all that are
            low = middle
        else:
            high = middle - 1
    return low


async def house_then(journal: Journal, position: int) -> House:
    """The house as the events of its log up to and with `position` left it."""
    base = await base_of(journal, HOUSE_SHARD)
    house = None if base is None else next(iter(base.entities(HOUSE)), None)
    after = 0 if base is None else base.position
    async for rows in journal.read(HOUSE_SHARD, after):
        for row in rows:
            if row.position > position:
                return house or House()
            if row.kind != LOG_OPENED:
                house = apply_house(house, HOUSE.decode_event(row.payload))
    return house or House()


async def rows_of(
    journal: Journal, shard: int, account_id: str, after_position: int, last_position: int
) -> AsyncIterator[Row]:
    """The rows of one account in one shard, after a position up to and with another."""
    after = (shard, after_position)
    while True:
        rows = await journal.list_rows(account_id=account_id, after=after, limit=ROWS_TOGETHER)
        for row in rows:
            if row.shard != shard or row.position > last_position:
                return
            yield row
        if len(rows) < ROWS_TOGETHER:
            return
        after = (shard, rows[-1].position)
