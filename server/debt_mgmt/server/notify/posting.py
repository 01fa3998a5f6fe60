"""One HTTP POST, and what its outcome means. No address is ever told: for chats it is the secret."""

from collections.abc import Mapping

import aiohttp

from debt_mgmt.server.notify.route import NotTold

TIMEOUT_SECONDS = 10.0
RETRY_SECONDS_MOST = 3600.0


class Posting:
    """Keeps one session for a route."""

    def __init__(self) -> None:
        self.session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Return once the other side has answered 2xx. Raises NotTold. Redirects are not followed."""
        if self.session is None:
            self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        sent = {"Content-Type": "application/json", "User-Agent": "debt-mgmt", **headers}
        try:
            async with self.session.post(url, data=body, headers=sent, allow_redirects=False) as answer:
                if not 200 <= answer.status < 300:
                    raise NotTold(f"it answered {answer.status}", wait_of(answer.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NotTold(f"it could not be reached: {type(error).__name__}") from None

    async def close(self) -> None:
        if self.session is not None:
            await self.session.close()
            self.session = None


def wait_of(retry_after: str) -> float:
    """The seconds that a Retry-After asks for; 0 where it does not say."""
    return min(float(retry_after), RETRY_SECONDS_MOST) if retry_after.isdigit() else 0.0
