"""The HTTP server: /metrics for Prometheus, /health for people and load balancers, and the routes it is given."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from aiohttp import web

from debt_mgmt.server.metrics import Metrics
from debt_mgmt.server.web.protocol import SERVER, HttpProtocol, refusal

SHUTDOWN_SECONDS = 1.0
"""How long the last answers may take to leave once the service stops; calls were given their time before."""

BACKLOG = 128

NOTHING_THERE = (
    "nothing is at this path. There is POST /v1/Service/Method, such as /v1/MarginService/CheckOrder; POST "
    "/api/debt_mgmt/leverage/set; GET of /api/debt_mgmt/portfolio, /api/debt_mgmt/margin/status, "
    "/api/debt_mgmt/health, /health and /metrics; and GET / for the board"
)

NOT_TOLD = "why is told to tokens that may see every account"


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the service answers, and whether it protects."""

    serving: bool
    protecting: bool
    reasons: list[str]
    """Why not, in words."""
    warnings: list[str] = []
    """What does not work though accounts are protected, such as a route that tells nobody."""


class HttpServer:
    """Listens on one port beside gRPC."""

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        health: Callable[[], Health],
        routes: Iterable[web.RouteDef] = (),
        tls: ssl.SSLContext | None = None,
        keep_out: Callable[[web.Request], web.Response | None] = lambda request: None,
    ) -> None:
        self.host = host
        self.port = port
        self.metrics = metrics
        self.health = health
        self.routes = routes
        self.tls = tls
        self.keep_out = keep_out
        """What whoever may not see every account is answered, as metrics and reasons tell of all; None lets in."""
        self.runner: web.AppRunner | None = None
        self.listener: asyncio.Server | None = None

    async def start(self) -> int:
        """Start to listen and return the port."""
        application = web.Application(middlewares=[say_what_there_is])
        application.router.add_get("/metrics", self.show_metrics)
        application.router.add_get("/health", self.show_health)
        application.router.add_get("/api/debt_mgmt/health", self.show_health)
        application.router.add_routes(self.routes)
        application.on_response_prepare.append(say_nothing_of_versions)
        runner = self.runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        loop, server = asyncio.get_running_loop(), runner.server
        assert server is not None
        self.listener = await loop.create_server(
            lambda: HttpProtocol(server, loop), self.host, self.port, ssl=self.tls, backlog=BACKLOG
        )
        return int(self.listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self.listener is not None:
            self.listener.close()
        if self.runner is not None:
            await self.runner.cleanup()

    async def show_metrics(self, request: web.Request) -> web.Response:
        return self.keep_out(request) or web.Response(
            body=self.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def show_health(self, request: web.Request) -> web.Response:
        """200 while serving, also while not protecting: the difference stands in the body. 503 otherwise.

        Anybody may ask; the reasons are for who may see every account.
        """
        health = self.health()
        if (health.reasons or health.warnings) and self.keep_out(request) is not None:
            told = [NOT_TOLD] if health.reasons else []
            health = msgspec.structs.replace(health, reasons=told, warnings=[NOT_TOLD] if health.warnings else [])
        return web.Response(
            body=msgspec.json.encode(health),
            content_type="application/json",
            status=200 if health.serving else 503,
        )


@web.middleware
async def say_what_there_is(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A path or a verb that nothing stands behind is an error in the form of all others."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return refusal(404, "NOT_FOUND", "INVALID_REQUEST", NOTHING_THERE)
    except web.HTTPMethodNotAllowed as wrong:
        verbs = sorted(wrong.allowed_methods)
        message = f"this verb is not for this path: use {' or '.join(verbs)}"
        answer = refusal(405, "INVALID_ARGUMENT", "INVALID_REQUEST", message)
        answer.headers["Allow"] = ", ".join(verbs)
        return answer


async def say_nothing_of_versions(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER
