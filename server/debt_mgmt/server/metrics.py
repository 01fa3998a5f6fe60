"""What Prometheus reads: latencies counted as calls end, and the engine's figures made at the moment of the scrape."""

from collections.abc import Callable, Iterable, Mapping

import msgspec
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from debt_mgmt.server.latencies import Latencies


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
    accounts_by_trading_state: dict[str, int] = {}
    reductions_running: int = 0
    decisions: dict[tuple[str, str], int] = {}
    """Commands decided, by the command's name and `accepted` or `refused`."""
    checks: dict[str, int] = {}
    """Orders that were only asked about, `accepted` or `refused`."""
    checks_refused_by_reason: dict[str, int] = {}
    shadow_by_reason: dict[str, int] = {}
    held_mark_age_seconds_max: float = 0.0
    stream_lag_seconds: float = 0.0
    """The longest time that a watcher has left due news lying."""
    watchers_stalled: int = 0
    journal_latencies: Latencies = msgspec.field(default_factory=Latencies)
    journal_waiting: int = 0
    journal_stuck_seconds: float = 0.0
    journal_overloaded: int = 0
    journal_reads_failed: int = 0
    """Times that the journal could not be read to verify it."""
    clock_behind_seconds: float = 0.0
    """How far the clock is behind the newest time in the journal."""
    clock_steps: int = 0
    shards_halted: int = 0
    chain_broken_logs: int = 0
    chain_rows_walked: int = 0
    chain_rounds: int = 0
    history_rows_waiting: int = 0
    history_behind: bool = False
    drifting_accounts: int = 0
    drifting_figures: int = 0
    rate_budget_free_share: dict[str, float] = {}
    """By venue."""
    four_eyes: bool = False
    changes_waiting: int = 0


class EntranceFigures(msgspec.Struct, frozen=True):
    """What became of those who were not let in, at one moment."""

    quota_refusals: dict[str, int]
    """By the quota's name."""
    sign_in_failures: int
    open_streams: int
    problems: int
    """Keys and certificates that are unusable or expired."""
    configuration_problems: int = 0
    """Why the next start would be refused, since the configuration file has changed."""


class Metrics:
    """The registry of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.latencies: dict[str, Latencies] = {}
        """By method."""
        self.registry.register(LatencyCollector(self.latencies))
        self.failures = Counter(
            "debt_mgmt_api_failures_total",
            "Calls that ended with an error status.",
            ["method", "code"],
            registry=self.registry,
        )

    def observer(self, method: str) -> Callable[[float], None]:
        """What to call with the seconds that a call of `method` took."""
        return self.latencies.setdefault(method, Latencies()).note

    def failed(self, method: str, code: str) -> None:
        self.failures.labels(method, code).inc()

    def watch(self, snapshot: Callable[[], MetricsSnapshot]) -> None:
        """Show the engine's figures too."""
        self.registry.register(EngineCollector(snapshot))

    def watch_entrance(self, figures: Callable[[], EntranceFigures]) -> None:
        """Show who was turned away too."""
        self.registry.register(EntranceCollector(figures))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class LatencyCollector:
    """How long the calls of each method took."""

    def __init__(self, latencies: Mapping[str, Latencies]) -> None:
        self.latencies = latencies

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(
            "debt_mgmt_api_latency_seconds", "Time from the start of a handler to its end.", labels=["method"]
        )
        for method, one in self.latencies.items():
            family.add_metric([method], one.buckets(), one.seconds)
        yield family


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
        yield counted("refusals", "Refused commands, by reason.", now.refused_by_reason, "reason")
        yield counter("marks_accepted", "Prices taken in.", now.marks_accepted)
        yield counter("marks_quarantined", "Prices set aside.", now.marks_quarantined)
        yield counter("journal_batches", "Appends to the journal.", now.journal_batches)
        yield counter("journal_rows", "Events written to the journal.", now.journal_rows)
        yield counter("journal_append_seconds", "Time spent in appends.", now.journal_append_seconds)
        yield counter("journal_ambiguous", "Appends of unknown outcome.", now.journal_ambiguous)
        yield from decision_metrics(now)
        yield from condition_metrics(now)


class EntranceCollector:
    """Asks the entrance when Prometheus asks."""

    def __init__(self, figures: Callable[[], EntranceFigures]) -> None:
        self.figures = figures

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        now = self.figures()
        yield counted("quota_refusals", "Calls refused for a quota.", now.quota_refusals, "quota")
        yield counter("sign_in_failures", "Calls whose token was missing or refused.", now.sign_in_failures)
        yield gauge("open_streams", "Streams that callers have open.", now.open_streams)
        yield gauge("entrance_problems", "Keys and certificates that are unusable or expired.", now.problems)
        words = "Reasons to refuse the next start, since the configuration file has changed."
        yield gauge("configuration_problems", words, now.configuration_problems)


def decision_metrics(now: MetricsSnapshot) -> Iterable[Metric]:
    """What was asked, and how it was decided."""
    decisions = CounterMetricFamily(
        "debt_mgmt_decisions", "Commands decided, by result.", labels=["command", "result"]
    )  # fmt: skip
    for (command, result), count in sorted(now.decisions.items()):
        decisions.add_metric([command, result], count)
    yield decisions
    yield counted("checks", "Orders that were asked about, by result.", now.checks, "result")
    reasons = now.checks_refused_by_reason
    yield counted("check_refusals", "Reasons why such orders would be refused.", reasons, "reason")
    words = "What limit sets in SHADOW would have refused orders for, checked or placed."
    yield counted("shadow_violations", words, now.shadow_by_reason, "reason")
    states = now.accounts_by_trading_state
    yield labelled("accounts_by_trading_state", "Accounts in each trading state.", states, "state")
    yield gauge("reductions_running", "Reductions that are under way.", now.reductions_running)


def condition_metrics(now: MetricsSnapshot) -> Iterable[Metric]:
    """Whether that which decisions rest on is sound."""
    words = "Age of the oldest mark of an instrument that is held; infinite where it has none."
    yield gauge("held_mark_age_seconds_max", words, now.held_mark_age_seconds_max)
    yield gauge("stream_lag_seconds", "The longest time a watcher left due news lying.", now.stream_lag_seconds)
    yield gauge("watchers_stalled", "Watchers that do not keep up.", now.watchers_stalled)
    latency = HistogramMetricFamily("debt_mgmt_journal_latency_seconds", "Time that an append to the journal took.")
    latency.add_metric([], now.journal_latencies.buckets(), now.journal_latencies.seconds)
    yield latency
    yield gauge("journal_waiting", "Commands that wait to be decided.", now.journal_waiting)
    words = "For how long the commands being written have not become durable."
    yield gauge("journal_stuck_seconds", words, now.journal_stuck_seconds)
    yield counter("journal_overloaded", "Commands refused because too many waited.", now.journal_overloaded)
    yield counter("journal_reads_failed", "Times that the journal could not be read.", now.journal_reads_failed)
    words = "How far the clock is behind the newest time in the journal."
    yield gauge("clock_behind_seconds", words, now.clock_behind_seconds)
    yield counter("clock_steps", "Times that the clock of the machine was stepped.", now.clock_steps)
    yield gauge("shards_halted", "Logs that are written no more.", now.shards_halted)
    yield gauge("chain_broken_logs", "Logs whose chain of hashes does not fit.", now.chain_broken_logs)
    yield counter("chain_rows_walked", "Rows of the journal verified.", now.chain_rows_walked)
    yield counter("chain_rounds", "Times that every log was verified to its end.", now.chain_rounds)
    yield gauge("history_rows_waiting", "Rows of the history that are not written yet.", now.history_rows_waiting)
    yield gauge("history_behind", "1 while the history is read from the journal.", now.history_behind)
    yield gauge("drifting_accounts", "Accounts with figures that are not the venue's.", now.drifting_accounts)
    yield gauge("drifting_figures", "Figures beyond their tolerance of the venue's.", now.drifting_figures)
    words = "Free share of the budget of requests, the scarcest one at each venue."
    yield labelled("rate_budget_free_share", words, now.rate_budget_free_share, "broker")
    yield gauge("four_eyes", "1 while some accounts need a second person, 0 while one is enough.", now.four_eyes)
    yield gauge("changes_waiting", "Changes that wait for a second person.", now.changes_waiting)


def counted(name: str, words: str, values: dict[str, int], label: str) -> Metric:
    family = CounterMetricFamily(f"debt_mgmt_{name}", words, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"debt_mgmt_{name}", words, value=value)


def counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(f"debt_mgmt_{name}", words, value=value)


def labelled(name: str, words: str, values: dict[str, float] | dict[str, int], label: str = "account") -> Metric:
    family = GaugeMetricFamily(f"debt_mgmt_{name}", words, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
