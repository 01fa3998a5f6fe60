"""Connections of HTTP: what is no HTTP gets a short answer that tells nothing of the library, and a line in the log."""

import logging
import uuid
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

SERVER = "debt-mgmt"

IDLE_SECONDS = 75.0
"""A connection over which no whole request has come for so long is closed: also one that sends it byte by byte."""

WHAT_CHARACTERS_MOST = 60

logger = logging.getLogger(__name__)


class HttpProtocol(web.RequestHandler):
    """One connection."""

    def __init__(self, server: web.Server, loop: Any) -> None:
        more: dict[str, Any] = {"access_log": None}
        super().__init__(server, loop=loop, keepalive_timeout=IDLE_SECONDS, auto_decompress=False, **more)

    def log_exception(self, *words: Any, **more: Any) -> None:
        """What the library could not make sense of is no fault of the service, and no page of the log."""
        error = more.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            logger.info("a connection over HTTP was given up: %s", type(error).__name__)
        else:
            super().log_exception(*words, **more)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what could not be read, or to what went wrong outside of a handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("something was sent already, so the connection can only be closed")
        if isinstance(exc, UnicodeEncodeError):  # the library repeats a header in its own answer
            status, message = 400, "a header is not UTF-8"
        if 400 <= status < 500:
            what = (message or "").partition("\n")[0].strip(" :")
            sentence = "the request is not HTTP as it should be" + (f": {what}" if is_told(what) else "")
            logger.info("%s of %s", sentence, request.remote)
            answered = refusal(status, "INVALID_ARGUMENT", "INVALID_REQUEST", sentence)
        else:
            incident = uuid.uuid4().hex[:12]
            logger.error("a request over HTTP failed, incident %s", incident, exc_info=exc)
            sentence = f"a fault of the service; its log has it as incident {incident}"
            answered = refusal(status, "INTERNAL", "INTERNAL", sentence)
        answered.force_close()
        return answered


def is_told(what: str) -> bool:
    """Whether the library's own words about a request hold nothing of the request."""
    return 0 < len(what) <= WHAT_CHARACTERS_MOST and "'" not in what and what.isascii()


def refusal(number: int, status: str, reason: str, message: str) -> web.Response:
    """In the form of all errors over HTTP."""
    error = {"code": number, "status": status, "reason": reason, "message": message, "details": []}
    headers = {"Server": SERVER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(
        body=msgspec.json.encode({"error": error}), status=number, content_type="application/json", headers=headers
    )
