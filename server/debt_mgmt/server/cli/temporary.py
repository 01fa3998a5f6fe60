"""A service of our own for the length of one command: a free port, a journal in a folder that is removed afterwards."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec

from debt_mgmt.server.config import DatabaseSection, Settings
from debt_mgmt.server.config_server import ServerSection

PASSABLE = 0o711
"""Started by root, the journal's PostgreSQL runs as another user, who must get through to its own closed folder."""


NEW_INSTRUMENTS = "risk_settings.new_instruments"


def with_open_instruments(settings: Settings) -> Settings:
    """The settings of a service to try things with: whatever instrument is put there may be traded at once."""
    return msgspec.structs.replace(settings, risk=msgspec.structs.replace(settings.risk, new_instruments="open"))


def for_a_while(
    settings: Settings, folder: Path, *, fee_rate: Decimal | None = None, slippage_rate: Decimal | None = None
) -> Settings:
    """`settings` with their rules kept, but listening on free ports of this machine and journaling in `folder`."""
    sandbox = settings.sandbox
    return msgspec.structs.replace(
        with_open_instruments(settings),
        server=ServerSection(address="127.0.0.1:0", metrics_port=0, drain_seconds=1.0),
        database=DatabaseSection(data_directory=folder, bin_directory=settings.database.bin_directory),
        sandbox=msgspec.structs.replace(
            sandbox,
            taker_fee_rate=sandbox.taker_fee_rate if fee_rate is None else fee_rate,
            slippage_rate=sandbox.slippage_rate if slippage_rate is None else slippage_rate,
        ),
    )


@contextlib.asynccontextmanager
async def temporary_service(
    settings: Settings, *, fee_rate: Decimal | None = None, slippage_rate: Decimal | None = None
) -> AsyncIterator[str]:
    """Start such a service and give its target; stop it and remove its journal in the end."""
    from debt_mgmt.server.app import start
    from debt_mgmt.server.postgres_binaries import directory_for

    made = folder = Path(tempfile.mkdtemp(prefix="debt-mgmt-"))
    made.chmod(PASSABLE)
    try:
        with quietly():
            folder = directory_for(made)
            service = await start(for_a_while(settings, folder, fee_rate=fee_rate, slippage_rate=slippage_rate))
            try:
                yield f"127.0.0.1:{service.port}"
            finally:
                await service.stop()
    finally:
        for each in {made, folder}:
            shutil.rmtree(each, ignore_errors=True)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Only errors of the service are logged: the command that started it does the telling."""
    logger = logging.getLogger("debt_mgmt")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
