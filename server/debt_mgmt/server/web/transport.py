"""What carries a call that came over HTTP: who sends it, until when, and from which page."""

import ipaddress
import math
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import web

from debt_mgmt.core.faults import Fault, FaultReason, InvalidRequest

DEADLINE = "X-Deadline-Seconds"
IDEMPOTENCY = "Idempotency-Key"


class HttpTransport:
    """Stands where gRPC has the context of a call."""

    __slots__ = ("deadline", "request")

    def __init__(self, request: web.Request) -> None:
        """Raises InvalidRequest where the deadline is none."""
        self.request = request
        self.deadline: float | None = None
        text = request.headers.get(DEADLINE)
        if text is not None:
            self.deadline = monotonic() + seconds_of(text)

    def headers(self) -> tuple[tuple[str, str | bytes], ...]:
        return tuple((name.lower(), value) for name, value in self.request.headers.items())

    def peer(self) -> str:
        """As gRPC writes it."""
        connection = self.request.transport
        address = connection.get_extra_info("peername") if connection is not None else None
        if not address:
            return "unknown"
        host, port = address[:2]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else self.deadline - monotonic()


def seconds_of(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise InvalidRequest([(DEADLINE, "must be seconds above zero and at most a day, such as 2.5")])
    return seconds


def request_id_of(request: web.Request) -> str:
    """The request id in the header; empty where there is none. Some senders put it in quotes."""
    return header_text(request, IDEMPOTENCY).strip().removeprefix('"').removesuffix('"')


def header_text(request: web.Request, name: str) -> str:
    """What stands in a header; empty where there is none. Raises InvalidRequest where it is no text."""
    text = request.headers.get(name, "")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest([(name, "must be UTF-8")]) from None
    return text


def check_page(request: web.Request, *, anyone: bool, loopback: bool) -> None:
    """Raise Fault where a page of another site calls. With `anyone` a caller needs no token, so a browser would do.

    A page can send what it likes to this machine: its browser says where the page is from, or (where a name was made
    to point here) calls this machine by that name.
    """
    if not anyone:
        return
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise Fault(FaultReason.PERMISSION_DENIED, "pages of other sites may not call while nobody needs a token")
    if loopback and not is_address(host_of(request.host)):
        raise Fault(FaultReason.PERMISSION_DENIED, "call this machine localhost, or by its address")


def host_of(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
