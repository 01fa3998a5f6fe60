"""How the service logs: one line per record on stderr, to read or as JSON to collect."""

import json
import logging
import sys
from datetime import UTC, datetime

from debt_mgmt.server import call_context
from debt_mgmt.server.config import Settings

TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        members |= call_context.members()
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return json.dumps(members, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A record as a line, its time in UTC."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        about = "".join(f" {name}={value}" for name, value in call_context.members().items())
        return super().formatMessage(record) + about

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def configure_logs(settings: Settings) -> None:
    """Log as `server.log_level` and `server.log_format` say."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(JsonFormatter() if settings.server.log_format == "json" else TextFormatter(TEXT))
    logging.basicConfig(level=settings.server.log_level, handlers=[output], force=True)
