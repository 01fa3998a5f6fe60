"""What every benchmark is given: how long to measure, the load generator, and the servers that are measured."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks import echo, generator, servers
from benchmarks.books import CAPITAL, HELD, PRICES, Books, books, names
from benchmarks.figures import Pair, grouped, in_turn
from benchmarks.generator import Generator, Report
from benchmarks.servers import Server


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int = 5
    seconds: float = 1.5
    warm_up: float = 0.3
    accounts: int = 200
    reservations: int = 6000
    """For each round; a round ends with its time or with them."""
    batch_orders: int = 500
    watchers: int = 100
    screened: int = 100_000
    holders: int = 10_000
    marks: int = 400
    reactions: int = 100
    remembered: int = 20_000
    """Accounts in the journal that is replayed."""
    starts: int = 5
    borrowers: int = 1_000
    lending_days: int = 30


QUICK = Sizes(
    seconds=0.3,
    warm_up=0.05,
    reservations=1500,
    screened=20_000,
    marks=100,
    reactions=25,
    remembered=1_000,
    starts=1,
    borrowers=100,
    lending_days=10,
)
TINY = Sizes(
    rounds=1, seconds=0.1, warm_up=0.05, accounts=4, reservations=50, batch_orders=20, watchers=4, screened=200,
    holders=50, marks=10, reactions=2, remembered=20, starts=1,
    borrowers=5, lending_days=2,
)  # fmt: skip
"""Shows that a benchmark runs; its figures mean nothing."""


class Bench:
    """One run. The service and the echo are started when they are first asked for, and stay until the end."""

    def __init__(self, folder: Path, sizes: Sizes, load: Generator, closing: ExitStack) -> None:
        self.folder = folder
        self.sizes = sizes
        self.load = load
        self.closing = closing
        self.running: dict[str, Server] = {}

    @property
    def service(self) -> Server:
        """The real service, with marks and with accounts that hold three positions each."""
        return self.filled("service", servers.NO_MORE)

    @property
    def guarded(self) -> Server:
        """The same with everything on that a team would switch on."""
        return self.filled("guarded", servers.EVERYTHING_ON)

    def filled(self, name: str, settings: Mapping[str, str]) -> Server:
        if name not in self.running:
            server = self.closing.enter_context(servers.service(self.folder / name, settings=settings))
            with books(server.target, server.token) as filling:
                filling.mark(PRICES)
                filling.open(self.account_ids, HELD, PRICES, CAPITAL)
            self.running[name] = server
        return self.running[name]

    @property
    def echo(self) -> Server:
        if "echo" not in self.running:
            self.running["echo"] = self.closing.enter_context(servers.echo(self.folder / "echo.log"))
        return self.running["echo"]

    @property
    def account_ids(self) -> list[str]:
        return names("account", self.sizes.accounts)

    @contextmanager
    def books(self) -> Iterator[Books]:
        with books(self.service.target) as filling:
            yield filling

    def probe(self, server: Server, method: str, requests: Path, mode: str = "unary", streams: int = 1) -> float:
        """Mean bytes of the service's answers to these requests."""
        return self.load.run(
            server.target, method, requests, mode=mode, streams=streams, seconds=0.2, warm_up=0.1, token=server.token
        ).response_bytes


class Side:
    """One of two servers in a comparison: what its rounds measured beside their rate."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.reports: list[Report] = []
        self.cpu_us: list[float] = []
        """Processor time of the server for each call, in µs."""

    def note(self, report: Report, cpu_seconds: float) -> float:
        self.reports.append(report)
        if report.calls_in_all:
            self.cpu_us.append(cpu_seconds / report.calls_in_all * 1e6)
        return report.rate

    def median(self, values: list[float]) -> float:
        """Of the measured rounds; the first only warmed up."""
        measured = sorted(values[1:] or values)
        return measured[len(measured) // 2]

    @property
    def p50(self) -> float:
        return self.median([one.p50_ms for one in self.reports])

    @property
    def p99(self) -> float:
        return self.median([one.p99_ms for one in self.reports])

    @property
    def cpu(self) -> float:
        return self.median(self.cpu_us)


class Comparison:
    """The service and the echo under the same load in turn; the echo gets the headers that the service gets."""

    def __init__(self, bench: Bench, server: Server | None = None) -> None:
        self.bench = bench
        self.ours, self.theirs = Side(server or bench.service), Side(bench.echo)
        self.pair = Pair([], [])

    def run(
        self, method: str, requests: Path, kind: str, *, mode: str = "unary", in_flight: int = 64, streams: int = 1
    ) -> "Comparison":
        bench = self.bench
        answers = bench.probe(self.ours.server, method, requests, mode, streams)

        def measure(side: Side, name: str) -> float:
            before = side.server.cpu_seconds()
            report = bench.load.run(
                side.server.target, name, requests, mode=mode, in_flight=in_flight, streams=streams,
                seconds=bench.sizes.seconds, warm_up=bench.sizes.warm_up, token=self.ours.server.token,
            )  # fmt: skip
            return side.note(report, side.server.cpu_seconds() - before)

        self.pair = Pair(
            *in_turn(
                bench.sizes.rounds,
                lambda: measure(self.ours, method),
                lambda: measure(self.theirs, echo.method(kind, answers)),
            )
        )
        return self

    @property
    def cpu_ratio(self) -> float:
        return self.ours.cpu / self.theirs.cpu if self.theirs.cpu else 0.0

    def said(self, what: str) -> str:
        pair, ours, theirs = self.pair, self.ours, self.theirs
        return (
            f"{grouped(pair.our_median)} {what}/s, echo {grouped(pair.their_median)} (rounds {pair.spread}); "
            f"p50 {ours.p50:.1f} ms, p99 {ours.p99:.1f} ms, echo {theirs.p50:.1f} and {theirs.p99:.1f}; "
            f"server CPU {ours.cpu:.0f} µs each, {self.cpu_ratio:.2f} × echo"
        )

    def details(self) -> dict[str, object]:
        return {
            "rates": self.pair.ours,
            "echo_rates": self.pair.theirs,
            "p50_ms": self.ours.p50,
            "p99_ms": self.ours.p99,
            "echo_p50_ms": self.theirs.p50,
            "echo_p99_ms": self.theirs.p99,
            "cpu_us": self.ours.cpu,
            "echo_cpu_us": self.theirs.cpu,
            "cpu_ratio": self.cpu_ratio,
        }


def begin(folder: Path, sizes: Sizes, closing: ExitStack, *, prefer_go: bool = True) -> Bench:
    return Bench(folder, sizes, generator.made(folder, prefer_go=prefer_go), closing)
