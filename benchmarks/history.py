"""A journal filled by many accounts: how fast it is replayed, how soon it serves, and what each account weighs."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from benchmarks import machine, servers
from benchmarks.bench import Bench
from benchmarks.books import PRICES, books
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.servers import Server
from debt_mgmt.core import commands as c
from debt_mgmt.core import events as e
from debt_mgmt.core.account import Account, Environment, Side
from debt_mgmt.core.apply import apply
from debt_mgmt.core.decide import decide
from debt_mgmt.core.defaults import default_instruments
from debt_mgmt.core.house import House
from debt_mgmt.core.margin import World
from debt_mgmt.core.market import Mark
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.server.journal.codec import Codec
from debt_mgmt.server.journal.journal import APPEND_ROWS_MAX, EMPTY_LOG, Row, link
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.server.journal.recovery import recover
from debt_mgmt.server.journal.state import LogState
from debt_mgmt.server.postgres import EmbeddedPostgres
from debt_mgmt.v1 import margin_service_pb2

SHARDS = 8
EPOCH = 1
VERSION = "of another program"
"""Of no snapshot, so that every log is read from its first row."""
ACTOR = '{"name":"desk","role":"trader","peer":"ipv4:127.0.0.1:40000"}'
QUANTITIES = {"BTCUSDT": "0.5", "ETHUSDT": "12", "SOLUSDT": "200"}
CAPITAL = Decimal(62_000)
"""With what is held at 2x this is a utilization of 0.73 at the marks, and of 0.66 at the higher ones."""
HIGHER = Decimal("1.02")
START_SECONDS = 60.0

Log = Codec[Account, e.AccountEvent]


class Day:
    """What one account did in a day, decided by the rules themselves: the events of it, by command."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.account: Account | None = None
        self.house = House(instruments={one.symbol: one for one in default_instruments()})
        self.marks = {symbol: Mark(symbol, Decimal(price), "tape", at, at) for symbol, price in PRICES.items()}
        self.position = 0
        self.commands: list[tuple[e.AccountEvent, ...]] = []

    def do(self, command: c.Command) -> tuple[e.AccountEvent, ...]:
        world = World(self.house, self.marks, RiskSettings(), self.at, 1, self.position + 1)
        events: tuple[e.AccountEvent, ...] = decide(self.account, command, world)  # type: ignore[assignment]
        for event in events:
            self.account = apply(self.account, event)
        self.position += len(events)
        if events:
            self.commands.append(events)
        return events

    def move(self, factor: Decimal) -> None:
        """All prices move, and the account is looked at."""
        self.marks = {
            symbol: msgspec.structs.replace(mark, price=(mark.price * factor).quantize(Decimal("0.01")))
            for symbol, mark in self.marks.items()
        }
        self.do(c.Assess())


def a_day(at: datetime) -> list[tuple[e.AccountEvent, ...]]:
    """Reservations that fill or are given back, and a warning that comes and goes; three positions at the end."""
    day = Day(at)
    day.do(
        c.CreateAccount(
            "account", "owner", "paper", Environment.SANDBOX, "USDT", deposit_asset="USDT", deposit_amount=CAPITAL
        )
    )
    for symbol, quantity in QUANTITIES.items():
        reservation = reserved(day, symbol, Side.BUY, Decimal(quantity))
        day.do(
            c.RecordFill(
                f"fill-{symbol}", symbol, Side.BUY, Decimal(quantity), day.marks[symbol].price, Decimal("1.25"), "USDT",
                reservation_id=reservation, order_id=f"order-{symbol}",
            )
        )  # fmt: skip
        day.do(c.ReleaseReservation(reserved(day, symbol, Side.SELL, Decimal(quantity) / 2)))
    for factor in (1 / HIGHER, HIGHER):
        day.move(factor)
    return day.commands


def reserved(day: Day, symbol: str, side: Side, quantity: Decimal) -> str:
    event = day.do(c.ReserveMargin(c.Order(symbol, side, quantity)))[0]
    assert isinstance(event, e.MarginReserved), event
    return event.reservation.reservation_id


def rows_of(shard: int, accounts: range, day: list[tuple[e.AccountEvent, ...]], at: datetime) -> Iterator[list[Row]]:
    """The log of one shard: the day of each account, in batches as a shard appends them."""
    codec: Log = Codec(e.AccountEvent, Account)
    encoded = [[(codec.kind(event), codec.encode_event(event)) for event in events] for events in day]
    (position, previous), batch = EMPTY_LOG, []
    for index, events in enumerate(encoded):
        for number in accounts:
            account_id = f"account-{number:06}"
            for kind, payload in events:
                if kind == "AccountCreated":
                    payload = renamed(codec, payload, account_id)
                position += 1
                row = link(
                    previous, shard, position, EPOCH, at, account_id, f"{number}-{index}", b"d" * 16, ACTOR, kind,
                    payload,
                )  # fmt: skip
                previous = row.hash
                batch.append(row)
                if len(batch) == APPEND_ROWS_MAX:
                    yield batch
                    batch = []
    if batch:
        yield batch


def renamed(codec: Log, payload: bytes, account_id: str) -> bytes:
    event = codec.decode_event(payload)
    return codec.encode_event(msgspec.structs.replace(event, account_id=account_id, owner=f"owner-of-{account_id}"))


def spread(accounts: int, shard: int) -> range:
    """The numbers of the accounts whose log is this shard's."""
    return range(shard - 1, accounts, SHARDS)


async def fill(folder: Path, accounts: int) -> Counter[str]:
    """Write the journal of so many accounts; how many events of each kind that makes."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    day = a_day(at)
    postgres = EmbeddedPostgres(folder)
    await postgres.start()
    try:
        journal = await PostgresJournal.open(postgres.dsn)
        try:
            await journal.set_meta_once("shards", str(SHARDS))
            await journal.next_epoch()
            for shard in range(1, SHARDS + 1):
                for batch in rows_of(shard, spread(accounts, shard), day, at):
                    await journal.append(batch)
        finally:
            await journal.close()
    finally:
        await postgres.stop()
    return Counter(type(event).__name__ for events in day for event in events)


async def replays(folder: Path, rounds: int) -> tuple[int, list[float]]:
    """Rebuild every shard from its first row, verifying each, as the service does at its start; events and seconds."""
    postgres = EmbeddedPostgres(folder)
    await postgres.start()
    seconds, events = [], 0
    try:
        journal = await PostgresJournal.open(postgres.dsn)
        try:
            for _ in range(rounds):
                began, events = time.perf_counter(), 0
                for shard in range(1, SHARDS + 1):
                    events += await replayed(journal, shard)
                seconds.append(time.perf_counter() - began)
        finally:
            await journal.close()
    finally:
        await postgres.stop()
    return events, seconds


async def replayed(journal: PostgresJournal, shard: int) -> int:
    codec: Log = Codec(e.AccountEvent, Account)
    found = await recover(journal, lambda: LogState(shard, apply, codec), VERSION)
    return found.events_after_snapshot


def history(bench: Bench) -> list[Figure]:
    """Replay, memory and start, one after the other on the same journals."""
    sizes, full, empty = bench.sizes, bench.folder / "full", bench.folder / "empty"
    kinds = asyncio.run(fill(full, sizes.remembered))
    events, seconds = asyncio.run(replays(full, max(3, sizes.rounds - 2)))
    with servers.service(empty) as server:
        nothing = settled_bytes(server)
    with servers.service(full) as server:
        first_start = server.started_in
        bytes_each = (settled_bytes(server) - nothing) / sizes.remembered
    mix = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    rate = events / statistics.median(seconds)
    return [
        Figure(
            name="replay from PostgreSQL, every row verified",
            value=rate,
            unit="events/s",
            target=at_least(100_000),
            said=(
                f"{events:,} events of {sizes.remembered:,} accounts in {statistics.median(seconds):.2f} s; "
                f"each account: {mix}"
            ),
            details={"events": events, "seconds": seconds, "mix": dict(kinds)},
        ),
        Figure(
            name="memory of an account with 3 positions",
            value=bytes_each / 1000,
            unit="kB",
            target=at_most(10),
            said=(
                f"resident memory of the service with {sizes.remembered:,} accounts less that without, ÷ accounts: "
                f"state, screen, and {len(a_day(datetime.now(UTC)))} remembered requests each; right after a replay "
                f"from the first row, which took {first_start:.1f} s to serve"
            ),
            details={"bytes": bytes_each, "empty_bytes": nothing, "first_start_seconds": first_start},
        ),
        *starts(bench, empty, full),
    ]


def settled_bytes(server: Server) -> int:
    """Resident memory once a mark has loaded the screen."""
    with books(server.target) as filling:
        filling.mark(PRICES)
        filling.mark(PRICES)
    found = machine.resident_bytes(server.pid)
    assert found is not None, "this machine does not say how much memory a process has"
    return found


def starts(bench: Bench, empty: Path, full: Path) -> list[Figure]:
    """From the command to the first answer, on data directories that were used before and stopped in order."""
    sizes = bench.sizes
    small = [serving_seconds(empty) for _ in range(sizes.starts)]
    large = [serving_seconds(full) for _ in range(1 if sizes.starts == 1 else sizes.starts - 2)]
    return [
        Figure(
            name="start to serving, warm",
            value=statistics.median(small),
            unit="s",
            target=at_most(2.0),
            said=(
                f"median of {len(small)} starts until GetPortfolio is answered (slowest {max(small):.2f} s), no "
                f"accounts; with {sizes.remembered:,} accounts in snapshots {statistics.median(large):.2f} s"
            ),
            details={"seconds": small, "seconds_full": large, "accounts_full": sizes.remembered},
        )
    ]


def serving_seconds(folder: Path) -> float:
    """Start the service and ask it until it answers."""
    began = time.perf_counter()
    with servers.service(folder, cpus=machine.EVERY_CPU) as server, books(server.target) as asking:
        request = margin_service_pb2.GetPortfolioRequest(account_id="account-000000")
        if folder.name == "empty":
            request = margin_service_pb2.GetPortfolioRequest(owner="nobody")
        asking.margin.GetPortfolio(request, timeout=START_SECONDS, wait_for_ready=True)
        return time.perf_counter() - began
