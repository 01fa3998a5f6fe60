"""The server of a simulated exchange: REST and websocket on the loopback, faults on demand, a log of what was asked."""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import WSMsgType, web

from tests.support.venues.book import Book
from tests.support.venues.records import Kind, Leg, Listing, Refused, Why

WINDOW = timedelta(seconds=10)
BENCH = "/simulator/"
"""Paths of our own, which no venue has: they are neither logged nor ever faulty."""
HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class FaultKind(StrEnum):
    """What goes wrong with a request. A client may repeat a GET, PUT or DELETE by itself when its connection is cut."""

    TOO_MANY = "too many requests"
    SERVER_ERROR = "server error"
    HTML = "html page"
    HANGS_BEFORE = "no answer, nothing done"
    HANGS_AFTER = "no answer, but done"
    CUT_BEFORE = "connection cut, nothing done"
    CUT_AFTER = "connection cut, but done"
    GEO_BLOCK = "geo block"
    BAD_KEY = "bad credentials"
    NO_PERMISSION = "key may not do this"
    CLOCK = "clock skew"
    REFUSED = "refused with a code"


class Fault(msgspec.Struct):
    """Waits for requests whose "METHOD /path" the pattern is found in; `times` None: for ever."""

    match: re.Pattern[str]
    kind: FaultKind
    times: int | None
    skip: int
    code: str
    message: str


class Asked(msgspec.Struct, frozen=True):
    """A request as it arrived; `params` are those of the query and the body together, `body` is what was sent."""

    at: datetime
    method: str
    path: str
    params: dict[str, Any]
    body: Any
    headers: Mapping[str, str]
    """By their names in capitals."""
    named: dict[str, str]
    """Parts of the path that the route names."""
    query: str
    text: str
    """The query and the body as they were sent, for signatures."""

    def __getitem__(self, name: str) -> Any:
        """A parameter; raises Refused where it is missing."""
        if name not in self.params:
            raise Refused(Why.BAD_VALUE, f"{name} is missing")
        return self.params[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.params.get(name, default)

    def decimal(self, name: str) -> Decimal:
        """A number; raises Refused where it is none."""
        return number(self[name])


class Answer(msgspec.Struct, frozen=True):
    """What goes back: a body to be written as JSON, or text as it is."""

    body: Any
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = {}


def number(value: Any) -> Decimal:
    """A number as venues take it; raises Refused."""
    try:
        found = Decimal(str(value))
    except ArithmeticError:
        raise Refused(Why.BAD_VALUE, str(value)) from None
    if not found.is_finite():
        raise Refused(Why.BAD_VALUE, str(value))
    return found


def plain(value: Decimal | None) -> str:
    """A number as venues write it: no exponent, no needless zeros; empty for None."""
    if value is None:
        return ""
    text = format(value.quantize(Decimal("1e-12")) if value.as_tuple().exponent < -12 else value, "f")  # type: ignore[operator]
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def rounded_down(amount: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of a step that is no larger than the amount."""
    return amount // step * step


def millis(at: datetime) -> int:
    """Milliseconds since 1970."""
    return round(at.timestamp() * 1000)


class Route(msgspec.Struct, frozen=True):
    """Which requests a method of a simulator answers."""

    method: str
    path: str
    private: bool
    name: str

    def match(self, method: str, path: str) -> dict[str, str] | None:
        if method != self.method:
            return None
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        found = re.fullmatch(pattern, path)
        return None if found is None else found.groupdict()


Answering = TypeVar("Answering", bound=Callable[..., Any])


def answers(method: str, path: str, *, private: bool = False) -> Callable[[Answering], Answering]:
    """Marks the method that answers a call; `{name}` in the path is given as `asked.named`. Private calls need keys."""

    def mark(answering: Answering) -> Answering:
        routes: list[Route] = answering.__dict__.setdefault("routes", [])
        routes.append(Route(method, path, private, answering.__name__))
        return answering

    return mark


class Socket:
    """One websocket connection: what it subscribed to, and the messages on their way to it."""

    def __init__(self, request: web.Request, connection: web.WebSocketResponse) -> None:
        self.path = request.rel_url.path
        self.query = dict(request.query)
        self.transport = request.transport
        self.connection = connection
        self.authenticated = False
        self.topics: dict[str, Any] = {}
        self.outbox: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, message: Any) -> None:
        """Queues a message: JSON, or text as it is."""
        self.outbox.put_nowait(message)

    async def write(self) -> None:
        while True:
            message = await self.outbox.get()
            text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
            await self.connection.send_str(text)


class VenueSimulator:
    """A base for venues: derived ones mark methods with `answers` and spell refusals, faults and pushes.

    Every call is answered between two awaits, so the book is never seen half changed.
    """

    name: ClassVar[str] = ""
    hosts: ClassVar[tuple[str, ...]] = ()
    """Host names of the venue that the client knows."""
    key: ClassVar[str] = "simulated-key"
    secret: ClassVar[str] = "simulated-secret"
    passphrase: ClassVar[str] = "simulated-passphrase"

    def __init__(self, listings: Iterable[Listing], marks: Mapping[str, str]) -> None:
        self.book = Book(listings, {symbol: Decimal(price) for symbol, price in marks.items()})
        self.book.told = self.changed
        self.faults: list[Fault] = []
        self.requests: list[Asked] = []
        self.sockets: list[Socket] = []
        self.refuses_sockets = False
        self.check_clock = True
        self.routes = [
            route
            for attribute in dir(type(self))
            for route in getattr(getattr(type(self), attribute), "__dict__", {}).get("routes", ())
        ]
        self.stopping = asyncio.Event()
        self.runner: web.AppRunner | None = None
        self.port = 0
        self.secure_port = 0

    # Life.

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        """Listens on the loopback, and with `tls` on a second port with it; returns the first port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.receive)
        self.stopping.clear()
        self.runner = web.AppRunner(app, shutdown_timeout=1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.port = self.runner.addresses[0][1]
        if tls is not None:
            await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=tls).start()
            self.secure_port = self.runner.addresses[1][1]
        return int(self.port)

    async def stop(self) -> None:
        """Lets go of every request and connection."""
        self.stopping.set()
        await self.drop_sockets()
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What a test does.

    def set_mark(self, symbol: str, price: Decimal | str) -> None:
        """Moves a mark and tells who watches it."""
        self.book.set_mark(symbol, Decimal(price))

    def fault(
        self, match: str, kind: FaultKind, *, times: int | None = 1, skip: int = 0, code: str = "", message: str = ""
    ) -> Fault:
        """The next `times` requests (None: all) whose "METHOD /path" holds the pattern go wrong, after `skip` others.

        `code` and `message` are the venue's own, for REFUSED.
        """
        fault = Fault(re.compile(match), kind, times, skip, code, message)
        self.faults.append(fault)
        return fault

    def mend(self) -> None:
        """Nothing goes wrong any more; requests that hang stay so."""
        self.faults.clear()
        self.refuses_sockets = False
        self.book.clock_ahead = timedelta(0)

    def asked(self, match: str) -> list[Asked]:
        """The requests whose "METHOD /path" holds the pattern, in order."""
        return [asked for asked in self.requests if re.search(match, f"{asked.method} {asked.path}")]

    def seed(self, money: Decimal = Decimal(10_000), leverage: Decimal = Decimal(3)) -> None:
        """An account to begin with: money, a long position worth a little more, and a resting order below the mark."""
        book = self.book
        margined = [listing for listing in book.listings.values() if listing.tiers and listing.kind is not Kind.INVERSE]
        listing = next((one for one in margined if one.kind is Kind.LINEAR), margined[0])
        symbol, mark = listing.symbol, book.mark(listing.symbol)
        quantity = listing.contract_size * mark * Decimal("0.8")
        book.deposit(listing.settle, money)
        book.leverage[symbol, Leg.NET] = leverage
        held = max(listing.smallest, rounded_down(money / quantity, listing.lot))
        book.hold(symbol, held)
        resting = max(listing.smallest, rounded_down(held / 10, listing.lot))
        below = rounded_down(mark * Decimal("0.9"), listing.tick)
        book.place(symbol, True, resting, price=below, leverage=leverage if listing.kind is Kind.SPOT else None)

    async def drop_sockets(self) -> None:
        """Cuts every websocket without a goodbye."""
        for socket in tuple(self.sockets):
            if socket.transport is not None:
                socket.transport.abort()
        while self.sockets:
            await asyncio.sleep(0.01)

    # What a derived venue says.

    def refusal(self, refused: Refused, asked: Asked) -> Answer:
        """A refusal in the venue's words."""
        raise NotImplementedError

    def refused_with(self, code: str, message: str, asked: Asked) -> Answer:
        """A refusal with a given code of the venue."""
        raise NotImplementedError

    def authenticate(self, asked: Asked) -> None:
        """Raises Refused where a private call lacks the key, a signature, or the right time."""
        raise NotImplementedError

    def too_many(self, asked: Asked) -> Answer:
        return Answer("Too many requests", 429, "text/plain")

    def server_error(self, asked: Asked) -> Answer:
        return Answer({"msg": "internal error"}, 503)

    def geo_block(self, asked: Asked) -> Answer:
        return Answer("Service unavailable from a restricted location", 403, "text/html")

    def changed(self, what: str, subject: str) -> None:
        """The book changed: `what` is mark, order, trade, position, balance, leverage or mode."""

    async def greet(self, socket: Socket) -> None:
        """A websocket was opened."""

    def heard(self, socket: Socket, message: Any) -> None:
        """A websocket message arrived: JSON, or text that is none."""

    # What a test does, over HTTP: for a test bench in a process of its own.

    @answers("POST", "/simulator/mark")
    def bench_mark(self, asked: Asked) -> Any:
        self.set_mark(asked["symbol"], asked.decimal("price"))
        return {"symbol": asked["symbol"], "price": plain(self.book.mark(asked["symbol"]))}

    @answers("POST", "/simulator/fault")
    def bench_fault(self, asked: Asked) -> Any:
        """Parameters are those of `fault`; `times` 0: for ever."""
        if asked["kind"] not in FaultKind.__members__:
            raise Refused(Why.BAD_VALUE, f"kind is one of {', '.join(FaultKind.__members__)}")
        times, skip = int(asked.get("times", 1)) or None, int(asked.get("skip", 0))
        words = str(asked.get("code", "")), str(asked.get("message", ""))
        self.fault(asked["match"], FaultKind[asked["kind"]], times=times, skip=skip, code=words[0], message=words[1])
        return {"faults": len(self.faults)}

    @answers("POST", "/simulator/mend")
    def bench_mend(self, asked: Asked) -> Any:
        self.mend()
        return {"faults": 0}

    @answers("POST", "/simulator/liquidate")
    def bench_liquidate(self, asked: Asked) -> Any:
        """The venue takes a position away; `leg` is net, long or short."""
        order = self.book.liquidate(asked["symbol"], Leg(asked.get("leg", "net")))
        return {"symbol": order.symbol, "quantity": plain(order.filled)}

    @answers("GET", "/simulator/account")
    def bench_account(self, asked: Asked) -> Any:
        book = self.book
        return {
            "balances": {asset: plain(amount) for asset, amount in book.balances.items()},
            "debts": {asset: plain(book.owed(asset)) for asset in book.debts},
            "positions": [{"symbol": p.symbol, "leg": p.leg, "quantity": plain(p.quantity)} for p in book.held()],
            "orders": [{"symbol": o.symbol, "order_id": o.order_id, "left": plain(o.left)} for o in book.open_orders()],
            "marks": {symbol: plain(mark) for symbol, mark in book.marks.items()},
        }

    @answers("GET", "/simulator/requests")
    def bench_requests(self, asked: Asked) -> Any:
        """The calls so far, the last ones last."""
        return [{"at": one.at, "method": one.method, "path": one.path} for one in self.requests]

    # Requests.

    async def receive(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.converse(request)
        asked = await self.read(request)
        if asked.path.startswith(BENCH):
            return written(self.answer(asked))
        self.requests.append(asked)
        fault = self.next_fault(asked)
        if fault is None:
            return written(self.answer(asked))
        if fault.kind in (FaultKind.HANGS_AFTER, FaultKind.CUT_AFTER):
            self.answer(asked)
        if fault.kind in (FaultKind.HANGS_BEFORE, FaultKind.HANGS_AFTER):
            await self.stopping.wait()
        if fault.kind in (
            FaultKind.HANGS_BEFORE,
            FaultKind.HANGS_AFTER,
            FaultKind.CUT_BEFORE,
            FaultKind.CUT_AFTER,
        ):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return written(self.fault_answer(fault, asked))

    async def read(self, request: web.Request) -> Asked:
        text = await request.text()
        params: dict[str, Any] = dict(request.query)
        body: Any = text
        if text[:1] in ("{", "["):
            body = json.loads(text, parse_float=Decimal)
        elif text:
            body = dict(parse_qsl(text, keep_blank_values=True))
        if isinstance(body, dict):
            params |= body
        path = request.rel_url.path
        found = self.route(request.method, path)
        named = {} if found is None else found[1]
        return Asked(
            self.book.now(),
            request.method,
            path,
            params,
            body,
            {name.upper(): value for name, value in request.headers.items()},
            named,
            request.rel_url.raw_query_string,
            text,
        )

    def route(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        for route in self.routes:
            if (named := route.match(method, path)) is not None:
                return route, named
        return None

    def answer(self, asked: Asked) -> Answer:
        """Carries a request out."""
        try:
            found = self.route(asked.method, asked.path)
            if found is None:
                raise Refused(Why.UNKNOWN_CALL, f"{asked.method} {asked.path}")
            if found[0].private:
                self.authenticate(asked)
            given = getattr(self, found[0].name)(asked)
        except Refused as refused:
            return self.refusal(refused, asked)
        except ValueError as error:  # a word that the venue does not know
            return self.refusal(Refused(Why.BAD_VALUE, str(error)), asked)
        return given if isinstance(given, Answer) else Answer(given)

    def next_fault(self, asked: Asked) -> Fault | None:
        """The first fault that waits for this request."""
        for fault in tuple(self.faults):
            if not fault.match.search(f"{asked.method} {asked.path}"):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
            return fault
        return None

    def fault_answer(self, fault: Fault, asked: Asked) -> Answer:
        answers_by_kind: dict[FaultKind, Callable[[], Answer]] = {
            FaultKind.TOO_MANY: lambda: self.too_many(asked),
            FaultKind.SERVER_ERROR: lambda: self.server_error(asked),
            FaultKind.HTML: lambda: Answer(HTML, 502, "text/html"),
            FaultKind.GEO_BLOCK: lambda: self.geo_block(asked),
            FaultKind.BAD_KEY: lambda: self.refusal(Refused(Why.NO_KEY), asked),
            FaultKind.NO_PERMISSION: lambda: self.refusal(Refused(Why.NO_PERMISSION), asked),
            FaultKind.CLOCK: lambda: self.refusal(Refused(Why.CLOCK), asked),
            FaultKind.REFUSED: lambda: self.refused_with(fault.code, fault.message, asked),
        }
        return answers_by_kind[fault.kind]()

    def on_time(self, milliseconds: Any, window: timedelta = WINDOW) -> None:
        """Raises Refused where a request's timestamp is further from the venue's clock than its window."""
        apart = abs(Decimal(millis(self.book.now())) - number(milliseconds))
        if self.check_clock and apart > window / timedelta(milliseconds=1):
            raise Refused(Why.CLOCK, f"{apart} ms apart")

    # Websockets.

    async def converse(self, request: web.Request) -> web.StreamResponse:
        if self.refuses_sockets:
            return web.Response(status=503)
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        socket = Socket(request, connection)
        self.sockets.append(socket)
        writing = asyncio.create_task(quietly(socket.write()))
        try:
            await self.greet(socket)
            async for message in connection:
                if message.type is WSMsgType.TEXT:
                    self.heard(socket, read_message(message.data))
        finally:
            self.sockets.remove(socket)
            writing.cancel()
        return connection

    def publish(self, topic: str, message: Any) -> None:
        """Sends a message to every websocket that subscribed to the topic."""
        for socket in self.sockets:
            if topic in socket.topics:
                socket.send(message)


async def quietly(writing: Coroutine[Any, Any, None]) -> None:
    """Writes until the other side is gone."""
    with contextlib.suppress(ConnectionError):
        await writing


def read_message(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError:
        return text


def written(answer: Answer) -> web.Response:
    text = answer.body if isinstance(answer.body, str) else msgspec.json.encode(answer.body).decode()
    return web.Response(text=text, status=answer.status, content_type=answer.content_type, headers=answer.headers)
