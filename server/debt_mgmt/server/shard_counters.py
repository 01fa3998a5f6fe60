"""What one log has done since the start, and what went wrong with it last: for metrics and for /health."""

from dataclasses import dataclass, field

from debt_mgmt.server.latencies import Latencies


@dataclass
class ShardCounters:
    """What a shard has done since it started, for metrics."""

    commands: int = 0
    batches: int = 0
    rows: int = 0
    append_seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    """Of appends."""
    appends_ambiguous: int = 0
    repeats: int = 0
    overloaded: int = 0
    snapshots: int = 0
    snapshot_position: int = 0
    listener_errors: int = 0
    trouble: Exception | None = None
    """Why the journal failed last."""

    def failed(self, error: Exception) -> None:
        """Note an append of unknown outcome."""
        self.appends_ambiguous += 1
        self.trouble = error
