"""The edge without a network: the real engine on a journal in memory, handlers called directly, a clock that is set."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar

from google.protobuf.message import Message

from debt_mgmt.core.account import Account, Side
from debt_mgmt.core.commands import PutInstrument, RecordFill, SetAssetRule
from debt_mgmt.core.market import AssetRule
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.server.actor import SYSTEM, Actor
from debt_mgmt.server.brokers.paper import PaperBroker
from debt_mgmt.server.engine import Engine
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.prices.marks import MarkGuard, MarkUpdate
from debt_mgmt.server.reductions import Reductions
from debt_mgmt.server.rpc.account import AccountService
from debt_mgmt.server.rpc.audit import AuditService
from debt_mgmt.server.rpc.debt import DebtService
from debt_mgmt.server.rpc.fund import FundService
from debt_mgmt.server.rpc.leverage import LeverageService
from debt_mgmt.server.rpc.market import MarketService
from debt_mgmt.server.rpc.risk import RiskService
from debt_mgmt.server.watch import WatchHub
from debt_mgmt.v1 import account_service_pb2, types_pb2
from tests.support.instruments import linear

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
RULES = RiskSettings(broker_max_leverage={"coinbase": Decimal(1), "bybit": Decimal(3)})

Answer = TypeVar("Answer", bound=Message)


class Clock:
    """Time stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **length: float) -> None:
        self.now += timedelta(**length)


class CallOf:
    """A call as a handler sees it."""

    deadline_seconds = None
    method = "RiskService/Test"

    def __init__(self, name: str = "desk") -> None:
        self.actor = Actor(name, "ADMIN", "test")


CALL: Any = CallOf()


class Edge:
    """Every service of the edge on one engine."""

    def __init__(self, journal: Journal, risk: RiskSettings) -> None:
        self.clock = Clock()
        self.journal = journal
        broker: PaperBroker
        self.engine = Engine(
            journal,
            risk,
            clock=self.clock,
            guard=MarkGuard(Decimal("0.50"), timedelta(seconds=30)),
            reductions=Reductions(lambda account: broker),
            hub=WatchHub(),
            shards=3,
        )
        broker = PaperBroker(
            lambda: self.engine.house, self.engine.marks, slippage_rate=Decimal(0), fee_rate=Decimal(0)
        )
        self.accounts = AccountService(self.engine)
        self.audit = AuditService(self.engine)
        self.debt = DebtService(self.engine)
        self.funds = FundService(self.engine)
        self.leverage = LeverageService(self.engine)
        self.market = MarketService(self.engine)
        self.risk = RiskService(self.engine)
        self.numbers = count(1)

    def request_id(self) -> str:
        return f"test-{next(self.numbers)}"

    async def furnish(self) -> None:
        """Two instruments, and euros that have a price."""
        for instrument in (linear("BTCUSDT"), linear("ETHUSDT", lot="0.01")):
            await self.engine.submit_house(PutInstrument(instrument), request_id="", actor=SYSTEM)
        rule = AssetRule("EUR", haircut=Decimal("0.10"), rates={"USDT": Decimal("1.10")})
        await self.engine.submit_house(SetAssetRule(rule), request_id="", actor=SYSTEM)

    async def open(self, account_id: str = "alice", capital: str = "10000", **fields: Any) -> Account:
        request = account_service_pb2.CreateAccountRequest(
            request_id=self.request_id(),
            account_id=account_id,
            currency="USDT",
            initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=capital),
            **fields,
        )
        await self.accounts.CreateAccount(request, CALL)
        return self.engine.account(account_id)

    async def mark(self, **prices: str) -> None:
        updates = [MarkUpdate(symbol, price, "test") for symbol, price in prices.items()]
        outcome = await self.engine.publish(updates, settle=True)
        assert outcome.accepted == len(updates), outcome.quarantined

    async def fill(self, account_id: str, side: Side, quantity: str, symbol: str, price: str) -> None:
        command = RecordFill(self.request_id(), symbol, side, Decimal(quantity), Decimal(price))
        await self.engine.submit(account_id, command, request_id="", actor=SYSTEM)

    async def long_bitcoin(self, account_id: str = "alice") -> None:
        """An account of 10,000 with 0.1 bitcoin bought at 50,000: 2,500 of margin at the default leverage of 2."""
        await self.open(account_id)
        await self.mark(BTCUSDT="50000")
        await self.fill(account_id, Side.BUY, "0.1", "BTCUSDT", "50000")


async def running_edge(journal: Journal | None = None, risk: RiskSettings = RULES) -> AsyncIterator[Edge]:
    edge = Edge(journal or MemoryJournal(), risk)
    await edge.engine.start()
    await edge.furnish()
    yield edge
    await edge.engine.stop()


async def stream(messages: Iterable[Answer]) -> AsyncIterator[Answer]:
    """Messages as a client streams them."""
    for message in messages:
        yield message


def without_replayed(answer: Answer) -> Answer:
    """The answer without its mark of being a repeat."""
    copy = type(answer)()
    copy.CopyFrom(answer)
    copy.ClearField("replayed")
    return copy
