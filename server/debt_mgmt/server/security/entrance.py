"""Everything between the network and the guard, made from the settings: who calls, over what, and how often."""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from debt_mgmt.server.metrics import EntranceFigures
from debt_mgmt.server.rpc.exits import reduces
from debt_mgmt.server.security.identity import Authentication, Verifier
from debt_mgmt.server.security.jwt import JwtVerifier
from debt_mgmt.server.security.quotas import Quotas, QuotaTerms
from debt_mgmt.server.security.tls import Certificates
from debt_mgmt.server.security.tokens import TokenVerifier

if TYPE_CHECKING:
    from debt_mgmt.server.config import Settings
    from debt_mgmt.server.engine import Engine

logger = logging.getLogger(__name__)

RELOAD_SECONDS = 1.0


class Entrance:
    """What the settings say about callers, and the files behind it."""

    def __init__(self, settings: "Settings", engine: "Engine") -> None:
        """Raises UnusableFile where a key or a certificate is not one."""
        server, quotas = settings.server, settings.server.quotas
        self.engine = engine
        self.signed: JwtVerifier | None = None
        if server.auth in ("jwt", "both") and server.jwt.keys is not None:
            self.signed = JwtVerifier(
                server.jwt.keys, server.jwt.audience, server.jwt.issuer, server.jwt.leeway_seconds
            )
        verifiers: list[Verifier] = []
        if server.auth in ("tokens", "both"):
            verifiers.append(TokenVerifier(lambda: engine.house))
        if self.signed is not None:
            verifiers.append(self.signed)
        self.authentication = Authentication(verifiers, engine.clock) if server.auth != "off" else None
        """None: every caller is this machine's own."""
        terms = QuotaTerms(
            viewer_lists_per_minute=quotas.viewer_lists_per_minute,
            leverage_changes_per_day=quotas.leverage_changes_per_day,
            openings_per_hour=quotas.openings_per_hour,
            streams=quotas.streams,
        )
        self.quotas = Quotas(terms, partial(reduces, engine)) if server.auth != "off" else Quotas(QuotaTerms())
        self.certificates: Certificates | None = None
        if server.tls.certificate is not None and server.tls.key is not None:
            self.certificates = Certificates(server.tls.certificate, server.tls.key, server.tls.client_ca)

    def problems(self) -> list[str]:
        """What is wrong with keys and certificates at this moment, in words."""
        found = self.certificates.problems(self.engine.clock()) if self.certificates is not None else []
        if self.signed is not None and self.signed.keys.problem:
            found.append(self.signed.keys.problem)
        return found

    def figures(self, sign_in_failures: int, configuration_problems: int = 0) -> EntranceFigures:
        """Who was turned away, for metrics."""
        return EntranceFigures(
            quota_refusals=dict(self.quotas.refused),
            sign_in_failures=sign_in_failures,
            open_streams=self.quotas.streams.total(),
            problems=len(self.problems()),
            configuration_problems=configuration_problems,
        )

    async def watch_files(self) -> None:
        """Take changed keys and certificates in, for ever."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            if self.certificates is not None:
                self.certificates.reload()
            if self.signed is not None:
                self.signed.reload()
