"""What Prometheus reads: latencies counted as calls end, and the engine's figures made at the moment of the scrape."""

from collections.abc import Callable, Iterable

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds."""


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """The engine's figures at one moment."""

    utilization_max: float
    """Of all accounts; infinite where equity is gone while margin is used."""
    utilization: dict[str, float]
    """Of the most utilised accounts, by account id."""
    open_positions: int
    open_reservations: int
    accounts: int
    accounts_by_level: dict[str, int]
    liquidations: int
    liquidation_steps: int
    alerts: int
    debts: dict[str, int]
    """Open debts by asset."""
    interest_charges: int
    funding_settlements: int
    prices_held: int
    reservations_made: int
    refused_by_reason: dict[str, int]
    mark_age_seconds: dict[str, float]
    marks_accepted: int
    marks_quarantined: int
    watchers: int
    journal_batches: int
    journal_rows: int
    journal_append_seconds: float
    journal_ambiguous: int
    protecting: bool
    sync_age_seconds: dict[str, float] = {}
    """Of each live account that was read once: how long ago, by account id."""
    accounts_out_of_sight: int = 0


class Metrics:
    """The registry of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "debt_mgmt_api_latency_seconds",
            "Time from the start of a handler to its end.",
            ["method"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.failures = Counter(
            "debt_mgmt_api_failures_total",
            "Calls that ended with an error status.",
            ["method", "code"],
            registry=self.registry,
        )

    def observer(self, method: str) -> Callable[[float], None]:
        """What to call with the seconds that a call of `method` took."""
        return self.latency.labels(method).observe  # type: ignore[no-any-return, unused-ignore]

    def failed(self, method: str, code: str) -> None:
        self.failures.labels(method, code).inc()

    def watch(self, snapshot: Callable[[], MetricsSnapshot]) -> None:
        """Show the engine's figures too."""
        self.registry.register(EngineCollector(snapshot))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class EngineCollector:
    """Asks the engine when Prometheus asks."""

    def __init__(self, snapshot: Callable[[], MetricsSnapshot]) -> None:
        self.snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        now = self.snapshot()
        yield labelled("margin_utilization", "Margin used ÷ equity of the most utilised accounts.", now.utilization)
        yield gauge("margin_utilization_max", "The highest margin utilisation of all accounts.", now.utilization_max)
        yield gauge("open_positions", "Open positions of all accounts.", now.open_positions)
        yield gauge("open_reservations", "Reservations that hold margin, of all accounts.", now.open_reservations)
        yield gauge("accounts", "Accounts that are not closed.", now.accounts)
        yield labelled("accounts_by_level", "Accounts at each risk level.", now.accounts_by_level, "level")
        yield labelled("mark_age_seconds", "Age of each instrument's mark.", now.mark_age_seconds, "symbol")
        yield labelled("sync_age_seconds", "Age of a live account's state at its venue.", now.sync_age_seconds)
        yield gauge("accounts_out_of_sight", "Live accounts that are not kept now.", now.accounts_out_of_sight)
        yield gauge("watchers", "Open WatchMargin streams.", now.watchers)
        yield gauge("protecting", "1 while every account can be protected, 0 while not.", now.protecting)
        yield counter("liquidations", "Forced reductions begun.", now.liquidations)
        yield counter("liquidation_steps", "Steps of reductions ended.", now.liquidation_steps)
        yield counter("alerts", "Alerts raised.", now.alerts)
        yield labelled("debts", "Open debts of all accounts, by asset.", now.debts, "asset")
        yield counter("interest_charges", "Charges of interest.", now.interest_charges)
        yield counter("funding_settlements", "Positions that paid or received funding.", now.funding_settlements)
        yield gauge(
            "collateral_prices_held", "Prices that collateral does not follow until confirmed.", now.prices_held
        )
        yield counter("reservations", "Reservations made.", now.reservations_made)
        refusals = CounterMetricFamily("debt_mgmt_refusals", "Refused commands, by reason.", labels=["reason"])
        for reason, count in sorted(now.refused_by_reason.items()):
            refusals.add_metric([reason], count)
        yield refusals
        yield counter("marks_accepted", "Prices taken in.", now.marks_accepted)
        yield counter("marks_quarantined", "Prices set aside.", now.marks_quarantined)
        yield counter("journal_batches", "Appends to the journal.", now.journal_batches)
        yield counter("journal_rows", "Events written to the journal.", now.journal_rows)
        yield counter("journal_append_seconds", "Time spent in appends.", now.journal_append_seconds)
        yield counter("journal_ambiguous", "Appends of unknown outcome.", now.journal_ambiguous)


def gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"debt_mgmt_{name}", words, value=value)


def counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(f"debt_mgmt_{name}", words, value=value)


def labelled(name: str, words: str, values: dict[str, float] | dict[str, int], label: str = "account") -> Metric:
    family = GaugeMetricFamily(f"debt_mgmt_{name}", words, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
