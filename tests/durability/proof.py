"""What must hold of a journal however often its writers were killed: read row by row, and added up from nothing."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, position_key
from debt_mgmt.core.apply import apply
from debt_mgmt.core.house import House, apply_house
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import EMPTY_LOG, LOG_OPENED, Head, Journal, Row, verify
from debt_mgmt.server.journal.recovery import Replay, replay
from tests.durability.load import Acknowledged

ACCOUNT_CODEC: Codec[Account, e.AccountEvent] = Codec(e.AccountEvent, Account)
HOUSE_CODEC: Codec[House, e.HouseEvent] = Codec(e.HouseEvent, House)


class Proof:
    """Follows a journal as it grows, and checks each row once."""

    def __init__(self) -> None:
        self.heads: dict[int, Head] = {}
        self.accounts: dict[str, Account] = {}
        self.wallets: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        self.others: dict[str, Decimal] = defaultdict(Decimal)
        """What stands on the other sides of all postings, by asset."""
        self.bought: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """Signed quantity of all fills, by account and position."""
        self.fills: dict[tuple[str, str, str], int] = {}
        self.orders_filled: dict[str, list[e.FillRecorded]] = defaultdict(list)
        """The fills of orders that the service placed itself, by account."""
        self.requests: dict[tuple[str, str], tuple[int, int, int]] = {}
        """(account, request id) → shard, first and last position."""
        self.plans: dict[str, set[str]] = defaultdict(set)
        self.last_events: dict[int, int] = {}
        """Position of each shard's last row that carries an event."""
        self.rows = 0

    async def follow(self, journal: Journal) -> None:
        """Check what was written since the last time."""
        shards = int(await journal.get_meta("shards") or 0)
        for shard in range(shards + 1):
            head = self.heads.get(shard, EMPTY_LOG)
            if head.position:
                (last,) = await journal.read_rows(shard, head.position, head.position)
                assert last.hash == head.hash, f"row {head.position} of shard {shard} has changed"
            async for rows in journal.read(shard, head.position):
                head = verify(rows, head)
                for row in rows:
                    self.take(row)
            self.heads[shard] = head
        for account_id, account in self.accounts.items():
            self.check_account(account_id, account)

    def take(self, row: Row) -> None:
        self.rows += 1
        if row.kind == LOG_OPENED:
            return
        self.last_events[row.shard] = row.position
        if row.request_id:
            self.note_request(row)
        if row.shard == 0:
            HOUSE_CODEC.decode_event(row.payload)
            return
        event = ACCOUNT_CODEC.decode_event(row.payload)
        account_id = row.account_id
        self.accounts[account_id] = apply(self.accounts.get(account_id), event)
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for posting in getattr(event, "postings", ()):
            sums[posting.asset] += posting.amount
            side = self.wallets[account_id] if posting.ledger == "wallet" else self.others
            side[posting.asset] += posting.amount
        assert not any(sums.values()), f"money appeared or vanished at {row.shard}-{row.position}: {sums}"
        if isinstance(event, e.FillRecorded):
            name = (account_id, event.symbol, event.fill_id)
            assert name not in self.fills, f"fill {name} counts twice, at {self.fills[name]} and {row.position}"
            self.fills[name] = row.position
            self.bought[account_id, position_key(event.symbol, event.position_side)] += event.quantity * event.side.sign
            if event.plan_id:
                self.orders_filled[account_id].append(event)
        elif isinstance(event, e.ReductionStarted):
            plan = event.reduction.plan_id
            assert plan not in self.plans[account_id], f"plan {plan} began twice"
            self.plans[account_id].add(plan)

    def note_request(self, row: Row) -> None:
        """The events of one request stand together, once."""
        name = (row.account_id, row.request_id)
        known = self.requests.get(name)
        if known is None:
            self.requests[name] = (row.shard, row.position, row.position)
            return
        shard, first, last = known
        assert (shard, last + 1) == (row.shard, row.position), f"request {name} was carried out twice"
        self.requests[name] = (shard, first, row.position)

    def check_account(self, account_id: str, account: Account) -> None:
        wallets = {asset: amount for asset, amount in self.wallets[account_id].items() if amount}
        assert {asset: held for asset, held in account.balances.items() if held} == wallets, account_id
        bought = {key: quantity for (owner, key), quantity in self.bought.items() if owner == account_id and quantity}
        assert {key: one.quantity for key, one in account.positions.items()} == bought, account_id

    def check_acknowledged(self, known: Acknowledged) -> None:
        """An answer that somebody was given is in the journal, where it said it is."""
        found = self.requests.get(known.name)
        assert found is not None, f"{known.method} {known.name} was acknowledged at {known.place} and is lost"
        shard, _, last = found
        assert (shard, last) == known.place, f"{known.method} {known.name} is not where it was said to be"


async def replayed(journal: Journal, shard: int, until: int | None = None) -> Replay:
    """One log read from its first row, by the service's own replay."""
    if shard == 0:
        return await replay(journal, 0, apply_house, HOUSE_CODEC, until_position=until)
    return await replay(journal, shard, account_apply, ACCOUNT_CODEC, until_position=until)


def account_apply(account: Account | None, event: Any) -> Account:
    return apply(account, event)


async def check_snapshots(journal: Journal) -> dict[int, int]:
    """The states that the service kept of itself are what the journal gives when it is read from nothing.

    A snapshot's fingerprint is taken of the live state. Returns how many events of each shard the newest one covers.
    """
    covered: dict[int, int] = {}
    for shard in range(int(await journal.get_meta("shards") or 0) + 1):
        before: int | None = None
        while (snapshot := await journal.load_snapshot(shard, before)) is not None:
            before = snapshot.position
            covered.setdefault(shard, before)
            again = await replayed(journal, shard, before)
            assert again.fingerprint.position == before
            assert again.fingerprint.digest == snapshot.fingerprint, f"shard {shard} at {before} was not what it wrote"
    return covered
