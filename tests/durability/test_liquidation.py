"""A forced reduction of several orders: it is finished after any kill, and no order is ever executed twice."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import grpc
import pytest

from debt_mgmt.core.account import Account, RiskLevel
from debt_mgmt.server.journal.postgres_journal import PostgresJournal
from debt_mgmt.v1 import account_service_pb2, leverage_service_pb2, margin_service_pb2, types_pb2
from tests.durability.load import Line
from tests.durability.program import Program, journal_at_rest, journal_of
from tests.durability.proof import Proof
from tests.durability.venue import Entry, Manners, book_of, teach

D = Decimal
BUY, SELL = types_pb2.SIDE_BUY, types_pb2.SIDE_SELL
LONG, SHORT = types_pb2.POSITION_SIDE_LONG, types_pb2.POSITION_SIDE_SHORT

BEFORE = {"BTCUSDT": D(50_000), "ETHUSDT": D(3_000), "SOLUSDT": D(150), "XRPUSDT": D("0.6")}
FALLEN = {symbol: price * D("0.81") for symbol, price in BEFORE.items()}
BOOK = (
    (BUY, "2.6", "BTCUSDT", LONG),
    (BUY, "36", "ETHUSDT", LONG),
    (BUY, "600", "SOLUSDT", LONG),
    (BUY, "100000", "XRPUSDT", LONG),
    (SELL, "0.6", "BTCUSDT", SHORT),
)
"""At five times leverage on 94,000: margin used is 89 % of equity, and after the fall more than twice of it."""
CAPITAL = "94000"
STEPS = 4

SECONDS_MOST = 30.0


def manners_of_run(run: int) -> dict[str, Manners]:
    """How the venue treats each account until the kill that ends this run; none of them hangs in the last."""
    hanging = {
        "between steps": Manners(hangs_before_step=run + 1),
        "before the answer": Manners(hangs_after_step=run),
        "on paper": Manners(hangs_after_step=run, forgets=True),
    }
    others = {"timed out": Manners(times_out=True), "unreachable": Manners(unreachable_first=3), "calm": Manners()}
    return others | {name: kept if run <= STEPS else Manners(forgets=kept.forgets) for name, kept in hanging.items()}


def id_of(name: str) -> str:
    return name.replace(" ", "-")


ACCOUNTS = tuple(id_of(name) for name in manners_of_run(1))


class Fall:
    """Accounts that fall together, on a venue with a different manner for each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory.parent
        self.line = Line()
        self.program: Program | None = None

    async def start(self, manners: dict[str, Manners]) -> PostgresJournalOf:
        teach(self.folder, {id_of(name): kept for name, kept in manners.items()})
        self.program = Program(self.directory, command=("tests.durability.with_venue", str(self.folder)))
        await self.program.ready()
        await self.line.connect(self.program.target)

    async def open(self, account_id: str) -> None:
        """An account with its book, just below the forced level."""
        line = self.line
        await line.accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id="open",
                account_id=account_id,
                owner=account_id,
                currency="USDT",
                position_mode=types_pb2.POSITION_MODE_HEDGE,
                initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=CAPITAL),
            )
        )
        for symbol in BEFORE:
            await line.leverage.SetLeverage(
                leverage_service_pb2.SetLeverageRequest(
                    request_id=f"leverage-{symbol}", account_id=account_id, symbol=symbol, leverage="5"
                )
            )
        for number, (side, quantity, symbol, leg) in enumerate(BOOK):
            await line.margin.RecordFill(
                margin_service_pb2.RecordFillRequest(
                    request_id=f"fill-{number}",
                    account_id=account_id,
                    symbol=symbol,
                    side=side,
                    quantity=quantity,
                    price=format(BEFORE[symbol], "f"),
                    fill_id=f"fill-{number}",
                    fee="0",
                    position_side=leg,
                )
            )
