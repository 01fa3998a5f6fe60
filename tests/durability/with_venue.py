"""The service with another broker behind its sandbox accounts: `python -m tests.durability.with_venue FOLDER`."""

import asyncio
import json
import logging
import sys
from pathlib import Path

from debt_mgmt.server import app
from debt_mgmt.server.config import read_settings
from tests.durability.venue import Venue


def announce(service: app.RunningService) -> None:
    sys.stdout.write(json.dumps({"target": f"127.0.0.1:{service.port}"}) + "\n")
    sys.stdout.flush()


def main() -> None:
    settings = read_settings()
    logging.basicConfig(level=settings.server.log_level, stream=sys.stderr)
    if len(sys.argv) > 1:
        Venue.folder = Path(sys.argv[1])
        vars(app)["PaperBroker"] = Venue
    asyncio.run(app.run(settings, ready=announce))


if __name__ == "__main__":
    main()
