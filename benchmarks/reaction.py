"""From a price to what follows: how long until a level change is durable and told, and until the reduction fills."""

import queue
import threading
import time
from collections.abc import Iterator

import grpc

from benchmarks import echo
from benchmarks.bench import Bench
from benchmarks.books import Books, checks, marks_request, names
from benchmarks.figures import Figure, grouped, percentile
from debt_mgmt.v1 import margin_service_pb2, market_service_pb2, types_pb2

BEFORE, AFTER = "100", "84.5"
"""The fall takes an account of 300 contracts at 5x and 10,000 of capital from 60 % of utilization to 95 %."""
QUANTITY, CAPITAL, LEVERAGE = "300", "10000", "5"
WAIT_SECONDS = 10.0
PAUSE_SECONDS = 0.01


class Told:
    """What a watcher was told, and when."""

    def __init__(self, books: Books, account_ids: list[str]) -> None:
        self.level: dict[str, float] = {}
        self.fill: dict[str, float] = {}
        self.ready = threading.Event()
        self.news: queue.Queue[str] = queue.Queue()
        self.call = books.margin.WatchMargin(margin_service_pb2.WatchMarginRequest(account_ids=account_ids))
        self.thread = threading.Thread(target=self.listen, name="watcher")
        self.thread.start()

    def listen(self) -> None:
        try:
            for message in self.call:
                self.note(message, time.perf_counter())
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise

    def note(self, message: margin_service_pb2.WatchMarginResponse, now: float) -> None:
        match message.WhichOneof("event"):
            case "snapshot_complete":
                self.ready.set()
            case "alert" if message.alert.kind == types_pb2.ALERT_KIND_LEVEL_RAISED:
                self.level.setdefault(message.alert.account_id, now)
            case "liquidation":
                done = margin_service_pb2.LIQUIDATION_STEP_STATE_DONE
                if any(step.state == done for step in message.liquidation.steps):
                    account_id = message.liquidation.account_id
                    if account_id not in self.fill:
                        self.fill[account_id] = now
                        self.news.put(account_id)

    def close(self) -> None:
        self.call.cancel()
        self.thread.join()


def reaction(bench: Bench) -> list[Figure]:
    """Each mark sends one account from NORMAL to LIQUIDATING; times are as a watcher on another core sees them."""
    sizes = bench.sizes
    account_ids = names("reaction", sizes.reactions)
    symbols = dict(zip(account_ids, (f"RX{number:04}USDT" for number in range(sizes.reactions)), strict=True))
    with bench.books() as books:
        books.instruments(instrument(symbol) for symbol in symbols.values())
        prices = dict.fromkeys(symbols.values(), BEFORE)
        books.mark(prices)
        for account_id, symbol in symbols.items():
            books.open([account_id], {symbol: QUANTITY}, prices, CAPITAL, leverage=LEVERAGE)
        told = Told(books, account_ids)
        marks: queue.Queue[market_service_pb2.PublishMarksRequest | None] = queue.Queue()
        published = books.market.PublishMarks.future(iter(marks.get, None))
        try:
            assert told.ready.wait(WAIT_SECONDS), "the watcher got no snapshots"
            began = dict(fall(account_ids, symbols, marks, told))
        finally:
            marks.put(None)
            published.result(timeout=WAIT_SECONDS)
            told.close()
    requests = bench.load.requests(checks(bench.account_ids, 500))
    bare = bench.load.run(
        bench.echo.target, echo.method(echo.UNARY, 200), requests, in_flight=1, seconds=sizes.seconds
    ).p50_ms
    return [
        figure("mark to durable level change, told", [(told.level[one] - began[one]) * 1000 for one in began], bare),
        figure("mark to the reduction's fill, told", [(told.fill[one] - began[one]) * 1000 for one in began], bare),
    ]


def fall(
    account_ids: list[str],
    symbols: dict[str, str],
    marks: "queue.Queue[market_service_pb2.PublishMarksRequest | None]",
    told: Told,
) -> Iterator[tuple[str, float]]:
    """Let one price after the other fall, and wait for the fill that follows."""
    for account_id in account_ids:
        request = marks_request({symbols[account_id]: AFTER})
        began = time.perf_counter()
        marks.put(request)
        assert told.news.get(timeout=WAIT_SECONDS) == account_id
        yield account_id, began
        time.sleep(PAUSE_SECONDS)


def figure(name: str, milliseconds: list[float], bare_ms: float) -> Figure:
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    return Figure(
        name=name,
        value=p50,
        unit="ms",
        said=(
            f"p50 of {len(milliseconds)} marks; p99 {grouped(p99)} ms; "
            f"{p50 / bare_ms:.1f} × the round trip of a bare echo, {bare_ms:.2f} ms"
        ),
        details={"p50_ms": p50, "p99_ms": p99, "echo_p50_ms": bare_ms, "milliseconds": milliseconds},
    )


def instrument(symbol: str) -> market_service_pb2.Instrument:
    return market_service_pb2.Instrument(
        symbol=symbol,
        kind=types_pb2.INSTRUMENT_KIND_LINEAR,
        base_asset=symbol.removesuffix("USDT"),
        quote_asset="USDT",
        settle_asset="USDT",
        contract_size="1",
        lot="0.001",
        tick="0.01",
        min_quantity="0.001",
        maker_fee_rate="0",
        taker_fee_rate="0",
        max_leverage="100",
        tiers=[types_pb2.RiskTier(notional_from="0", maintenance_rate="0.005", max_leverage="100", deduction="0")],
    )
