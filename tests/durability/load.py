"""Callers that trade on many accounts at once and write down every answer that they were given."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from debt_mgmt.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    fund_service_pb2,
    fund_service_pb2_grpc,
    leverage_service_pb2_grpc,
    margin_service_pb2,
    margin_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    risk_service_pb2_grpc,
    types_pb2,
)

DEADLINE_SECONDS = 4.0
GIVES_UP = 0.3
"""Share of the calls without an answer that are not repeated: that caller never learns what became of them."""

AT_WORST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
"""What a caller may see while the service or its database is away."""

PRICES = {"BTCUSDT": Decimal(50_000), "ETHUSDT": Decimal(3_000)}
QUANTITIES = {"BTCUSDT": Decimal("0.001"), "ETHUSDT": Decimal("0.01")}
CAPITAL = "1000000"


class Line:
    """The way to a service that is now here, now there, and at times nowhere."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.channel: grpc.aio.Channel | None = None
        self.accounts: Any = None
        self.funds: Any = None
        self.leverage: Any = None
        self.margin: Any = None
        self.market: Any = None
        self.risk: Any = None

    async def connect(self, target: str) -> "Line":
        await self.close()
        channel = self.channel = grpc.aio.insecure_channel(target)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        self.funds = fund_service_pb2_grpc.FundServiceStub(channel)
        self.leverage = leverage_service_pb2_grpc.LeverageServiceStub(channel)
        self.margin = margin_service_pb2_grpc.MarginServiceStub(channel)
        self.market = market_service_pb2_grpc.MarketServiceStub(channel)
        self.risk = risk_service_pb2_grpc.RiskServiceStub(channel)
        self.up.set()
        return self

    def away(self) -> None:
        """The service is about to be gone: whoever fails now waits for `connect`."""
        self.up.clear()

    async def close(self) -> None:
        if self.channel is not None:
            await self.channel.close()

    async def publish(self, prices: dict[str, Decimal], *, settle: bool = False) -> None:
        request = market_service_pb2.PublishMarksRequest(settle=settle)
        for symbol, price in prices.items():
            request.marks.add(symbol=symbol, price=format(price, "f"), source="test")
        answer = await self.market.PublishMarks(iter([request]), timeout=30)
        assert answer.quarantined_count == 0, answer.quarantined


class Acknowledged(NamedTuple):
    """A mutation that was answered."""

    method: str
    request: Any
    answer: Any

    @property
    def place(self) -> tuple[int, int]:
        """(shard, position) of its last event."""
        return self.answer.revision.shard, self.answer.revision.position

    @property
    def name(self) -> tuple[str, str]:
        """Account and request id under which the journal has it."""
        return self.request.account_id, self.request.request_id


METHODS: dict[str, Callable[[Line], Any]] = {
    "CreateAccount": lambda line: line.accounts.CreateAccount,
    "Deposit": lambda line: line.funds.Deposit,
    "Withdraw": lambda line: line.funds.Withdraw,
    "ReserveMargin": lambda line: line.margin.ReserveMargin,
    "ReleaseReservation": lambda line: line.margin.ReleaseReservation,
    "RecordFill": lambda line: line.margin.RecordFill,
    "ClosePosition": lambda line: line.margin.ClosePosition,
}

CHANCES = {"ReserveMargin": 40, "ReleaseReservation": 25, "RecordFill": 20, "Deposit": 9, "Withdraw": 4, "Close": 2}


class Load:
    """Callers on accounts of several owners. `acknowledged` is what the service must never forget."""

    def __init__(
        self,
        line: Line,
        chance: random.Random,
        *,
        accounts: int = 8,
        callers: int = 16,
        pause_seconds: float = 0.0,
    ) -> None:
        self.line = line
        self.chance = chance
        self.accounts = [f"account-{number}" for number in range(accounts)]
        self.callers = callers
        self.pause_seconds = pause_seconds
        """How long each caller rests between two calls, at most."""
        self.acknowledged: list[Acknowledged] = []
        self.unanswered = 0
        self.repeated = 0
        self.failures: Counter[grpc.StatusCode] = Counter()
        self.answered_at = 0.0
        self.answers = 0
        self.calling = False
        self.tasks: list[asyncio.Task[None]] = []

    async def open_accounts(self) -> None:
        for number, account_id in enumerate(self.accounts):
            request = account_service_pb2.CreateAccountRequest(
                request_id=f"open-{account_id}",
                account_id=account_id,
                owner=f"owner-{number // 2}",
                currency="USDT",
                initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=CAPITAL),
            )
            await self.send("CreateAccount", request)

    async def send(self, method: str, request: Message) -> Any:
        answer = await METHODS[method](self.line)(request, timeout=DEADLINE_SECONDS)
        self.answers += 1
        self.answered_at = time.perf_counter()
        self.acknowledged.append(Acknowledged(method, request, answer))
        return answer

    def begin(self) -> None:
        self.calling = True
        self.tasks = [asyncio.create_task(self.call(number)) for number in range(self.callers)]
        self.tasks.append(asyncio.create_task(self.move_prices()))

    async def end(self) -> None:
        """Finish what is under way and stop; an answer that is not in by then counts as none."""
        self.calling = False
        self.line.up.set()
        await asyncio.gather(*self.tasks)

    def raise_failure(self) -> None:
        """Raise what ended a caller before its time."""
        for task in self.tasks:
            if task.done():
                task.result()

    async def call(self, caller: int) -> None:
        held: deque[margin_service_pb2.Reservation] = deque()
        turn = 0
        while self.calling:
            turn += 1
            name = f"{caller}-{turn}-{self.chance.randrange(10**6)}"
            account_id = self.accounts[(caller + turn) % len(self.accounts)]
            method, request = self.next_request(name, account_id, held)
            answer = await self.answer_to(method, request)
            if answer is not None and method == "ReserveMargin" and answer.accepted:
                held.append(answer.reservation)
            if self.pause_seconds:
                await asyncio.sleep(self.chance.uniform(0, self.pause_seconds))

    async def answer_to(self, method: str, request: Message) -> Any:
        """Repeat the request until it is answered, as a careful caller does; some are not, and give up."""
        while self.calling:
            await self.line.up.wait()
            try:
                return await self.send(method, request)
            except grpc.aio.AioRpcError as error:
                self.failures[error.code()] += 1
                bear(error)
                if self.chance.random() < GIVES_UP:
                    break
                self.repeated += 1
                await asyncio.sleep(told_to_wait(error))
        self.unanswered += 1
        return None

    def next_request(
        self, name: str, account_id: str, held: deque[margin_service_pb2.Reservation]
    ) -> tuple[str, Message]:
        chance = self.chance
        chosen = chance.choices(list(CHANCES), list(CHANCES.values()))[0]
        symbol = chance.choice(list(PRICES))
        quantity = format(QUANTITIES[symbol] * chance.randint(1, 5), "f")
        side = chance.choice((types_pb2.SIDE_BUY, types_pb2.SIDE_SELL))
        ids: dict[str, Any] = {"request_id": name, "account_id": account_id}
        if chosen == "Deposit":
            return chosen, fund_service_pb2.DepositRequest(**ids, asset="USDT", amount=str(chance.randint(1, 500)))
        if chosen == "Withdraw":
            return chosen, fund_service_pb2.WithdrawRequest(**ids, asset="USDT", amount=str(chance.randint(1, 500)))
        if chosen == "Close":
            return "ClosePosition", margin_service_pb2.ClosePositionRequest(**ids, symbol=symbol, reason="load")
        if chosen == "ReleaseReservation" and held:
            kept = held.popleft()
            ids["account_id"] = kept.account_id
            part = kept.remaining_quantity if chance.random() < 0.2 else None
            return chosen, margin_service_pb2.ReleaseReservationRequest(
                **ids, reservation_id=kept.reservation_id, quantity=part
            )
        if chosen == "RecordFill":
            fill = margin_service_pb2.RecordFillRequest(
                **ids, symbol=symbol, side=side, quantity=quantity, price=str(PRICES[symbol]), fill_id=f"fill-{name}"
            )
            if held and chance.random() < 0.5:
                kept = held.popleft()
                fill.account_id, fill.reservation_id = kept.account_id, kept.reservation_id
                fill.symbol, fill.side, fill.price = kept.order.symbol, kept.order.side, kept.order.price
            return chosen, fill
        order = types_pb2.Order(symbol=symbol, side=side, quantity=quantity, price=str(PRICES[symbol]))
        return "ReserveMargin", margin_service_pb2.ReserveMarginRequest(**ids, order=order)

    async def move_prices(self) -> None:
        """A market that is always there, and never far from where it began."""
        while self.calling:
            await self.line.up.wait()
            moved = 1 + Decimal(self.chance.randint(-50, 50)) / 10_000
            try:
                await self.line.publish({symbol: price * moved for symbol, price in PRICES.items()})
            except grpc.aio.AioRpcError as error:
                bear(error)
                await asyncio.sleep(told_to_wait(error))
            await asyncio.sleep(0.2)


def bear(error: grpc.aio.AioRpcError) -> None:
    """Accept that a service is away, and nothing else."""
    if error.code() not in AT_WORST:
        raise AssertionError(f"a caller was told {error.code()}: {error.details()}") from error


def told_to_wait(error: grpc.aio.AioRpcError) -> float:
    """Seconds until the next attempt, as the error says; a moment where it says nothing."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status is not None else ():
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return 0.02


async def repeat(line: Line, known: Acknowledged) -> None:
    """Send an acknowledged request once more: it is answered from the journal, and alike."""
    again = await METHODS[known.method](line)(known.request, timeout=30)
    assert again.replayed, f"{known.method} {known.name} was carried out again"
    first, second = durable_part(known.answer), durable_part(again)
    assert first == second, f"{known.method} {known.name} was answered {first}, and now {second}"


SHOWN_AS_OF_NOW = {
    "ReserveMarginResponse": ("reservation.leverage", "reservation.initial_margin"),
    "ReleaseReservationResponse": ("reservation",),
    "RecordFillResponse": ("position", "reservation"),
    "ClosePositionResponse": ("liquidation", "done"),
}
"""Parts of an answer that show something at the present prices, or as far as it has come."""


def durable_part(answer: Any) -> Any:
    """What of an answer must be the same when its request is repeated."""
    kept = type(answer)()
    kept.CopyFrom(answer)
    kept.replayed = False
    fields = answer.DESCRIPTOR.fields_by_name
    if "after" in fields and not answer.accepted:
        kept.ClearField("after")
    for path in SHOWN_AS_OF_NOW.get(answer.DESCRIPTOR.name, ()):
        outer, _, inner = path.partition(".")
        if not inner:
            kept.ClearField(outer)
        elif kept.HasField(outer):
            getattr(kept, outer).ClearField(inner)
    return kept
