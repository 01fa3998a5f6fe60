"""The board: one page that shows accounts by danger, live. It holds no figures; it asks for them as any caller does."""

import base64
import re
from hashlib import sha256
from pathlib import Path

from aiohttp import web

PAGE = Path(__file__).with_name("board.html")


class Board:
    """Serves the page at /. Its policy lets run only what stands in it, and talk only to where it came from."""

    def __init__(self) -> None:
        self.page = PAGE.read_bytes()
        self.headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": "; ".join(
                (
                    "default-src 'none'",
                    f"script-src {digest_of(self.page, b'script')}",
                    f"style-src {digest_of(self.page, b'style')}",
                    "connect-src 'self'",
                    "img-src data:",
                    "base-uri 'none'",
                    "form-action 'none'",
                    "frame-ancestors 'none'",
                )
            ),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=self.page, content_type="text/html", charset="utf-8", headers=self.headers)


def digest_of(page: bytes, tag: bytes) -> str:
    """What the policy calls the one script, or style, of the page."""
    (content,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(sha256(content).digest()).decode()}'"
