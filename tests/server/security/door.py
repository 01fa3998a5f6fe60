"""A real service that asks for tokens, and tokens of every kind for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from debt_mgmt.client.channel import SignedChannel
from debt_mgmt.core.access import Role
from debt_mgmt.core.commands import IssueToken
from debt_mgmt.server.actor import SYSTEM
from debt_mgmt.server.journal.journal import Journal
from debt_mgmt.server.security.tokens import digest_of_secret, new_secret
from tests.support.service import Desk, service

FREE = {
    "server.quotas.viewer_lists_per_minute": "100000",
    "server.quotas.leverage_changes_per_day": "100000",
    "server.quotas.openings_per_hour": "100000",
    "server.quotas.streams": "1000",
}
"""Quotas that no test meets by chance."""


class Door:
    """The service as its administrator sees it, and as whoever else comes."""

    def __init__(self, bare: Desk, admin: str) -> None:
        self.bare = bare
        self.admin_secret = admin
        self.engine = bare.engine
        self.desk = self.as_caller(admin)

    def channel(self, token: str) -> Any:
        return SignedChannel(self.bare.channel, token)

    def as_caller(self, token: str) -> Desk:
        desk = Desk(self.bare.running, self.channel(token))
        desk.numbers = self.bare.numbers
        return desk

    async def issue(
        self, name: str, role: Role, *accounts: str, lasts: timedelta | None = None, secret: str = ""
    ) -> str:
        """A token, straight into the house: its secret."""
        secret = secret or new_secret()
        expires_at = self.engine.clock() + lasts if lasts is not None else None
        command = IssueToken(name, digest_of_secret(secret), role, accounts, expires_at)
        await self.engine.submit_house(command, request_id="", actor=SYSTEM)
        return secret


@asynccontextmanager
async def door(
    folder: Path,
    *,
    auth: str = "tokens",
    journal: Journal | None = None,
    clock: Callable[[], datetime] | None = None,
    **flags: Any,
) -> AsyncIterator[Door]:
    """The service with authentication on; the first administrator's token lies in `folder`."""
    given: dict[str, Any] = {name.replace(".", "__"): value for name, value in FREE.items()}
    given |= {"server__auth": auth, "server__admin_token_file": str(folder / "admin.token"), **flags}
    async with service(journal=journal, clock=clock, **given) as bare:
        file = folder / "admin.token"
        yield Door(bare, file.read_text().strip() if file.exists() else "")


async def code_of(made: Any) -> grpc.StatusCode:
    """How a call ended."""
    try:
        await made
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
