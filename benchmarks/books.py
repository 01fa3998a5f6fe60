"""What the service is filled with before it is measured: marks, accounts with positions, and requests about them."""

import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import grpc

from debt_mgmt.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    leverage_service_pb2,
    leverage_service_pb2_grpc,
    margin_service_pb2,
    margin_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    types_pb2,
)

MARGIN = "/debt_mgmt.v1.MarginService"
PRICES = {"BTCUSDT": "60000", "ETHUSDT": "2500", "SOLUSDT": "150"}
HELD = {"BTCUSDT": "0.5", "ETHUSDT": "12", "SOLUSDT": "200"}
"""What each account holds: 90,000 USDT of notional, in all, at 2x."""
CAPITAL = "1000000"
CALL_SECONDS = 60.0
CALLS_AT_ONCE = 16

BUY, SELL = types_pb2.SIDE_BUY, types_pb2.SIDE_SELL


class Books:
    """Fills a service over one channel of its own."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        self.leverage: Any = leverage_service_pb2_grpc.LeverageServiceStub(channel)
        self.margin: Any = margin_service_pb2_grpc.MarginServiceStub(channel)
        self.market: Any = market_service_pb2_grpc.MarketServiceStub(channel)
        self.numbers = count(1)

    def request_id(self) -> str:
        return f"bench-{next(self.numbers)}"

    def mark(self, prices: dict[str, str]) -> None:
        """Publish prices, and wait until what follows from them is durable."""
        answer = self.market.PublishMarks(iter([marks_request(prices)]), timeout=CALL_SECONDS)
        assert answer.quarantined_count == 0, answer.quarantined

    def instruments(self, instruments: Iterable[market_service_pb2.Instrument]) -> None:
        for instrument in instruments:
            request = market_service_pb2.PutInstrumentRequest(request_id=self.request_id(), instrument=instrument)
            self.market.PutInstrument(request, timeout=CALL_SECONDS)

    def open(
        self, account_ids: list[str], held: dict[str, str], prices: dict[str, str], capital: str, leverage: str = "2"
    ) -> None:
        """Open accounts, each of an owner of its own so that they lie on all shards, and buy what they hold."""
        with ThreadPoolExecutor(CALLS_AT_ONCE) as calls:
            opened = calls.map(lambda one: self.open_one(one, held, prices, capital, leverage), account_ids)
            assert len(list(opened)) == len(account_ids)

    def open_one(
        self, account_id: str, held: dict[str, str], prices: dict[str, str], capital: str, leverage: str
    ) -> None:
        self.accounts.CreateAccount(
            account_service_pb2.CreateAccountRequest(
                request_id=self.request_id(),
                account_id=account_id,
                owner=f"owner-of-{account_id}",
                currency="USDT",
                initial_deposit=types_pb2.AssetAmount(asset="USDT", amount=capital),
            ),
            timeout=CALL_SECONDS,
        )
        for symbol, quantity in held.items():
            if leverage != "2":
                self.lever(account_id, symbol, leverage)
            answer = self.margin.RecordFill(
                margin_service_pb2.RecordFillRequest(
                    request_id=self.request_id(),
                    account_id=account_id,
                    symbol=symbol,
                    side=BUY,
                    quantity=quantity,
                    price=prices[symbol],
                    fill_id=self.request_id(),
                    fee="0",
                ),
                timeout=CALL_SECONDS,
            )
            assert answer.accepted, answer.violations

    def lever(self, account_id: str, symbol: str, leverage: str) -> None:
        answer = self.leverage.SetLeverage(
            leverage_service_pb2.SetLeverageRequest(
                request_id=self.request_id(), account_id=account_id, symbol=symbol, leverage=leverage
            ),
            timeout=CALL_SECONDS,
        )
        assert answer.accepted, answer.violations


@contextmanager
def books(target: str, token: str = "") -> Iterator[Books]:
    with grpc.insecure_channel(target) as channel:
        yield Books(grpc.intercept_channel(channel, Signed(token)) if token else channel)


class Signed(grpc.UnaryUnaryClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Sends a token with every call."""

    def __init__(self, token: str) -> None:
        self.headers = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self.signed(client_call_details), request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self.signed(client_call_details), request_iterator)

    def signed(self, details: Any) -> SimpleNamespace:
        return SimpleNamespace(
            method=details.method,
            timeout=details.timeout,
            metadata=self.headers,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )


def marks_request(prices: dict[str, str], *, settle: bool = False) -> market_service_pb2.PublishMarksRequest:
    return market_service_pb2.PublishMarksRequest(
        marks=[
            market_service_pb2.MarkUpdate(symbol=symbol, price=price, source="bench")
            for symbol, price in prices.items()
        ],
        settle=settle,
    )


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}-{one:05}" for one in range(number)]


def order(chance: random.Random, symbols: list[str], *, limits: float = 0.0) -> types_pb2.Order:
    """An order of a varied quantity that fits; a share of them, `limits`, with a price near the mark."""
    symbol = chance.choice(symbols)
    lot = {"BTCUSDT": 0.001, "ETHUSDT": 0.01, "SOLUSDT": 0.1}[symbol]
    quantity = f"{lot * chance.randint(1, 40):.3f}"
    made = types_pb2.Order(symbol=symbol, side=chance.choice((BUY, SELL)), quantity=quantity)
    if chance.random() < limits:
        made.price = f"{float(PRICES[symbol]) * chance.uniform(0.98, 1.02):.1f}"
    return made


def checks(account_ids: list[str], number: int) -> list[bytes]:
    """Checks of single orders: a third with a limit price, one in twenty far too large, some reducing."""
    chance = random.Random(7)
    made = []
    for one in range(number):
        asked = order(chance, list(PRICES), limits=1 / 3)
        if one % 20 == 19:
            asked.side, asked.quantity = BUY, "100000"
        request = margin_service_pb2.CheckOrderRequest(account_id=account_ids[one % len(account_ids)], order=asked)
        made.append(request.SerializeToString())
    return made


def stream_checks(account_ids: list[str], number: int) -> list[bytes]:
    chance = random.Random(11)
    return [
        margin_service_pb2.StreamCheckOrdersRequest(
            sequence=one,
            account_id=account_ids[one % len(account_ids)],
            order=order(chance, list(PRICES), limits=1 / 3),
        ).SerializeToString()
        for one in range(number)
    ]


def batches(
    account_ids: list[str], orders: int, mode: "margin_service_pb2.BatchMode.ValueType", *, limits: float = 0.0
) -> list[bytes]:
    """One batch for each account: varied quantities of two instruments, all of which fit."""
    chance = random.Random(13)
    return [
        margin_service_pb2.BatchCheckOrdersRequest(
            account_id=account_id,
            orders=[order(chance, ["BTCUSDT", "ETHUSDT"], limits=limits) for _ in range(orders)],
            mode=mode,
        ).SerializeToString()
        for account_id in account_ids
    ]


def reservations(account_ids: list[str], number: int, label: str) -> list[bytes]:
    """Reservations with request ids of their own, spread over the accounts."""
    chance = random.Random(17)
    return [
        margin_service_pb2.ReserveMarginRequest(
            request_id=f"{label}-{one}",
            account_id=account_ids[one % len(account_ids)],
            order=order(chance, list(PRICES), limits=1 / 3),
        ).SerializeToString()
        for one in range(number)
    ]


def releases(answers: list[bytes], label: str) -> list[bytes]:
    """Gives back what these answers say was reserved."""
    made = []
    for one, answer in enumerate(answers):
        if answer:
            reservation = margin_service_pb2.ReserveMarginResponse.FromString(answer).reservation
            made.append(
                margin_service_pb2.ReleaseReservationRequest(
                    request_id=f"{label}-{one}",
                    account_id=reservation.account_id,
                    reservation_id=reservation.reservation_id,
                ).SerializeToString()
            )
    return made
