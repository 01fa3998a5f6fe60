"""Calls against the echo: single checks, durable reservations, batches, streams of checks, and watchers."""

import statistics
import threading
import time
from pathlib import Path

from benchmarks import echo
from benchmarks.bench import Bench, Comparison, Side
from benchmarks.books import (
    CAPITAL,
    MARGIN,
    PRICES,
    batches,
    checks,
    marks_request,
    names,
    releases,
    reservations,
    stream_checks,
)
from benchmarks.figures import Figure, Pair, Target, at_least, grouped, in_turn
from benchmarks.generator import read_frames
from debt_mgmt.v1 import margin_service_pb2 as wire

IN_FLIGHT = 64
BATCHES_IN_FLIGHT = 4
STREAMS = 8
STREAM_WINDOW = 16
WATCHED = 10
MARKS_SECOND = 100


def check_order(bench: Bench) -> list[Figure]:
    """Unary CheckOrder, metrics and logging on, 64 calls in flight on four connections."""
    requests = bench.load.requests(checks(bench.account_ids, 2000))
    found = Comparison(bench).run(f"{MARGIN}/CheckOrder", requests, echo.UNARY, in_flight=IN_FLIGHT)
    alone = bench.load.run(
        bench.service.target, f"{MARGIN}/CheckOrder", requests, in_flight=1, seconds=bench.sizes.seconds
    )
    bare = bench.load.run(
        bench.echo.target, echo.method(echo.UNARY, alone.response_bytes), requests, in_flight=1,
        seconds=bench.sizes.seconds,
    )  # fmt: skip
    return [
        Figure(
            name="CheckOrder, unary, 64 in flight",
            value=found.pair.ratio,
            unit="× echo",
            target=at_least(0.75),
            said=f"{found.said('calls')}; one at a time p50 {alone.p50_ms:.2f} ms, echo {bare.p50_ms:.2f}",
            details={**found.details(), "alone_p50_ms": alone.p50_ms, "echo_alone_p50_ms": bare.p50_ms},
        )
    ]


def check_order_guarded(bench: Bench) -> list[Figure]:
    """Unary CheckOrder as for a team: tokens, quotas, metrics, one call in a hundred traced, and the audit."""
    requests = bench.load.requests(checks(bench.account_ids, 2000))
    server = bench.guarded
    found = Comparison(bench, server).run(f"{MARGIN}/CheckOrder", requests, echo.UNARY, in_flight=IN_FLIGHT)
    return [
        Figure(
            name="CheckOrder, everything on",
            value=found.pair.ratio,
            unit="× echo",
            target=at_least(0.70),
            said=f"tokens, quotas, metrics, traces of 1 %, audit: {found.said('calls')}",
            details=found.details(),
        )
    ]


def reserve_margin(bench: Bench) -> list[Figure]:
    """Durable ReserveMargin on embedded PostgreSQL with fsync, 64 calls in flight over many accounts on all shards.

    Every request id is new. What a round reserved is released after it, outside the measured time.
    """
    service, sizes = bench.service, bench.sizes
    method = f"{MARGIN}/ReserveMargin"
    ours, theirs = Side(service), Side(bench.echo)
    run = time.monotonic_ns()
    probe = bench.folder / "probe"
    sample = bench.load.requests(reservations(bench.account_ids, 64, f"probe-{run}"))
    answers = bench.load.run(service.target, method, sample, once=True, warm_up=0, responses=probe).response_bytes
    give_back(bench, probe, f"release-probe-{run}")
    calls_at_echo = bench.load.requests(reservations(bench.account_ids, 1000, "echo"))
    database_us: list[float] = []

    def reserve() -> float:
        label = f"{run}-{len(ours.reports)}"
        requests = bench.load.requests(reservations(bench.account_ids, sizes.reservations, label))
        kept = bench.folder / "reserved"
        before, database_before = service.cpu_seconds(), service.database_cpu_seconds()
        report = bench.load.run(
            service.target, method, requests, in_flight=IN_FLIGHT, seconds=sizes.seconds, warm_up=sizes.warm_up / 2,
            once=True, responses=kept,
        )  # fmt: skip
        rate = ours.note(report, service.cpu_seconds() - before)
        database_us.append((service.database_cpu_seconds() - database_before) / max(report.calls_in_all, 1) * 1e6)
        give_back(bench, kept, f"release-{label}")
        requests.unlink()
        return rate

    def bare() -> float:
        before = bench.echo.cpu_seconds()
        report = bench.load.run(
            bench.echo.target, echo.method(echo.UNARY, answers), calls_at_echo, in_flight=IN_FLIGHT,
            seconds=sizes.seconds, warm_up=sizes.warm_up,
        )  # fmt: skip
        return theirs.note(report, bench.echo.cpu_seconds() - before)

    pair = Pair(*in_turn(sizes.rounds, reserve, bare))
    ratio = ours.cpu / theirs.cpu if theirs.cpu else 0.0
    return [
        Figure(
            name="ReserveMargin, durable, 64 in flight",
            value=pair.ratio,
            unit="× echo",
            target=at_least(0.50),
            said=(
                f"{grouped(pair.our_median)} calls/s, echo {grouped(pair.their_median)} (rounds {pair.spread}); "
                f"p50 {ours.p50:.1f} ms, p99 {ours.p99:.1f} ms; server CPU {ours.cpu:.0f} µs each, {ratio:.2f} × echo, "
                f"and {statistics.median(database_us):.0f} µs in PostgreSQL, which runs beside the load generator; "
                f"{sizes.accounts} accounts, released again between the rounds"
            ),
            details={
                "rates": pair.ours,
                "echo_rates": pair.theirs,
                "p50_ms": ours.p50,
                "p99_ms": ours.p99,
                "cpu_us": ours.cpu,
                "cpu_ratio": ratio,
                "database_cpu_us": statistics.median(database_us),
            },
        )
    ]


def give_back(bench: Bench, answers: Path, label: str) -> None:
    """Release every reservation that the answers tell of. All of them must have been accepted."""
    given = [answer for answer in read_frames(answers) if answer]
    refused = sum(not wire.ReserveMarginResponse.FromString(one).accepted for one in given)
    assert refused == 0, f"{refused} of {len(given)} reservations were refused"
    requests = bench.load.requests(releases(given, label))
    released = bench.load.run(
        bench.service.target, f"{MARGIN}/ReleaseReservation", requests, seconds=60, warm_up=0, once=True
    )
    assert released.calls_in_all == len(given), f"{released.calls_in_all} of {len(given)} were released"
    requests.unlink()


class Batches:
    """One kind of batch, and what its rounds measured."""

    def __init__(self, bench: Bench, name: str, requests: Path, target: Target | None) -> None:
        self.bench = bench
        self.name = name
        self.requests = requests
        self.target = target
        self.side = Side(bench.service)

    def measure(self) -> float:
        """Orders a second in one round."""
        bench, server = self.bench, self.side.server
        before = server.cpu_seconds()
        report = bench.load.run(
            server.target, f"{MARGIN}/BatchCheckOrders", self.requests, in_flight=BATCHES_IN_FLIGHT,
            seconds=bench.sizes.seconds, warm_up=bench.sizes.warm_up,
        )  # fmt: skip
        return self.side.note(report, server.cpu_seconds() - before) * bench.sizes.batch_orders

    def figure(self, orders_second: list[float], echo_rates: list[float]) -> Figure:
        pair, orders, side = Pair(orders_second, echo_rates), self.bench.sizes.batch_orders, self.side
        return Figure(
            name=f"BatchCheckOrders, one core, {self.name}",
            value=pair.our_median,
            unit="orders/s",
            target=self.target,
            said=(
                f"{pair.ratio:.1f} orders for each call of the bare echo (rounds {pair.spread}), which makes "
                f"{grouped(pair.their_median)}/s; {side.cpu / orders:.1f} µs of server CPU an order; "
                f"a batch of {orders}: p50 {side.p50:.1f} ms, p99 {side.p99:.1f} ms"
            ),
            details={
                "orders_second": pair.ours,
                "echo_rates": pair.theirs,
                "cpu_us_order": side.cpu / orders,
                "answer_bytes": side.reports[-1].response_bytes,
                "p50_ms": side.p50,
                "p99_ms": side.p99,
            },
        )


def batch_check_orders(bench: Bench) -> list[Figure]:
    """Orders checked a second by a server that has one processor, 500 in a batch."""
    account_ids, sizes = names("batch", 8), bench.sizes
    with bench.books() as filling:
        filling.open(account_ids, {"BTCUSDT": "0.5"}, PRICES, "100000000")

    def batches_of(name: str, mode: "wire.BatchMode.ValueType", limits: float, target: Target | None) -> Batches:
        messages = batches(account_ids, sizes.batch_orders, mode, limits=limits)
        return Batches(bench, name, bench.load.requests(messages), target)

    kinds = [
        batches_of("SEQUENTIAL", wire.BATCH_MODE_SEQUENTIAL, 0.0, at_least(55_000)),
        batches_of("INDEPENDENT", wire.BATCH_MODE_INDEPENDENT, 0.0, at_least(55_000)),
        batches_of("SEQUENTIAL, half with a limit price", wire.BATCH_MODE_SEQUENTIAL, 0.5, None),
    ]
    small = bench.load.requests(checks(bench.account_ids, 1000))
    small_answer = bench.probe(bench.service, f"{MARGIN}/CheckOrder", small)

    def bare() -> float:
        return bench.load.run(
            bench.echo.target, echo.method(echo.UNARY, small_answer), small, in_flight=IN_FLIGHT,
            seconds=sizes.seconds, warm_up=sizes.warm_up,
        ).rate  # fmt: skip

    *measured, echo_rates = in_turn(sizes.rounds, *(kind.measure for kind in kinds), bare)
    return [kind.figure(orders_second, echo_rates) for kind, orders_second in zip(kinds, measured, strict=True)]


def stream_check_orders(bench: Bench) -> list[Figure]:
    """StreamCheckOrders on eight streams, sixteen messages of each on their way."""
    requests = bench.load.requests(stream_checks(bench.account_ids, 2000))
    found = Comparison(bench).run(
        f"{MARGIN}/StreamCheckOrders", requests, echo.BIDIRECTIONAL, mode="stream", in_flight=STREAM_WINDOW,
        streams=STREAMS,
    )  # fmt: skip
    return [
        Figure(
            name="StreamCheckOrders, 8 streams",
            value=found.pair.ratio,
            unit="× echo",
            target=at_least(0.70),
            said=found.said("messages"),
            details=found.details(),
        )
    ]


def watch_margin(bench: Bench) -> list[Figure]:
    """Messages a second to a hundred watchers of the same ten accounts, whose price moves a hundred times a second."""
    account_ids, sizes = names("watched", WATCHED), bench.sizes
    with bench.books() as filling:
        filling.open(account_ids, {"SOLUSDT": "200"}, PRICES, CAPITAL)
        request = wire.WatchMarginRequest(account_ids=account_ids)
        request.min_interval.FromMilliseconds(1)
        requests = bench.load.requests([request.SerializeToString()])
        sides = Side(bench.service), Side(bench.echo)
        over = threading.Event()
        published = [0]

        def moving() -> object:
            while not over.wait(1 / MARKS_SECOND):
                published[0] += 1
                yield marks_request({"SOLUSDT": f"{150 + published[0] % 5 * 0.01:.2f}"})

        thread = threading.Thread(target=lambda: filling.market.PublishMarks(moving()), name="marks")
        thread.start()
        try:
            answers = bench.probe(bench.service, f"{MARGIN}/WatchMargin", requests, "watch")

            def measure(side: Side, method: str) -> float:
                before = side.server.cpu_seconds()
                report = bench.load.run(
                    side.server.target, method, requests, mode="watch", streams=sizes.watchers,
                    seconds=sizes.seconds, warm_up=sizes.warm_up,
                )  # fmt: skip
                return side.note(report, side.server.cpu_seconds() - before)

            pair = Pair(
                *in_turn(
                    sizes.rounds,
                    lambda: measure(sides[0], f"{MARGIN}/WatchMargin"),
                    lambda: measure(sides[1], echo.method(echo.WATCH, answers)),
                )
            )
        finally:
            over.set()
            thread.join()
    ours, theirs = sides
    return [
        Figure(
            name=f"WatchMargin, {sizes.watchers} watchers",
            value=pair.our_median,
            unit="messages/s",
            said=(
                f"{pair.ratio:.2f} × a bare stream of {answers:.0f} bytes a message, {grouped(pair.their_median)}/s "
                f"(rounds {pair.spread}); {ours.cpu:.0f} µs of server CPU each, echo {theirs.cpu:.0f}; "
                f"offered {sizes.watchers * WATCHED * MARKS_SECOND:,}/s, the rest is merged"
            ),
            details={
                "rates": pair.ours,
                "echo_rates": pair.theirs,
                "ratio": pair.ratio,
                "cpu_us": ours.cpu,
                "message_bytes": answers,
            },
        )
    ]
