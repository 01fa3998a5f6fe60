"""What is read over HTTP: /metrics for Prometheus and /health for people and load balancers."""

from collections.abc import Callable

import msgspec
from aiohttp import web

from debt_mgmt.server.metrics import Metrics


class Health(msgspec.Struct, frozen=True):
    """Whether the service answers, and whether it protects."""

    serving: bool
    protecting: bool
    reasons: list[str]
    """Why not, in words."""


class HttpServer:
    """Listens on one port beside gRPC."""

    def __init__(self, host: str, port: int, metrics: Metrics, health: Callable[[], Health]) -> None:
        self.host = host
        self.port = port
        self.metrics = metrics
        self.health = health
        self.runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Start to listen and return the port."""
        application = web.Application()
        application.router.add_get("/metrics", self.show_metrics)
        application.router.add_get("/health", self.show_health)
        application.router.add_get("/api/debt_mgmt/health", self.show_health)
        self.runner = web.AppRunner(application, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, self.host, self.port)
        await site.start()
        return int(self.runner.addresses[0][1])

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def show_health(self, request: web.Request) -> web.Response:
        """200 while serving, also while not protecting: the difference stands in the body. 503 otherwise."""
        health = self.health()
        return web.Response(
            body=msgspec.json.encode(health),
            content_type="application/json",
            status=200 if health.serving else 503,
        )
