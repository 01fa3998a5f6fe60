"""Slack and Telegram: notices as messages of a chat, several in one when many are due."""

from collections.abc import Sequence

import msgspec

from debt_mgmt.server.notify.notice import SIGNS, Notice
from debt_mgmt.server.notify.posting import Posting
from debt_mgmt.server.notify.route import SecretPlace

TOGETHER = 10
CHARACTERS_MOST = 3900
"""Telegram takes 4,096."""


def words(notices: Sequence[Notice]) -> str:
    """The notices one after another. What is too long is cut, evenly, and never the first line of one."""
    most = CHARACTERS_MOST // max(1, len(notices)) - 2
    return "\n\n".join(f"{SIGNS[one.alert.severity]} {one.title}\n{one.body}"[:most] for one in notices)


class Slack:
    name = "slack"
    together = TOGETHER

    def __init__(self, url: SecretPlace) -> None:
        self.url = url
        self.posting = Posting()

    async def tell(self, notices: Sequence[Notice]) -> None:
        text = words(notices).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        await self.posting.post(self.url.read().reveal(), msgspec.json.encode({"text": text}), {})

    async def close(self) -> None:
        await self.posting.close()


class Telegram:
    name = "telegram"
    together = TOGETHER

    def __init__(self, api_url: str, chat_id: str, token: SecretPlace) -> None:
        self.api_url = api_url.rstrip("/")
        self.chat_id = chat_id
        self.token = token
        self.posting = Posting()

    async def tell(self, notices: Sequence[Notice]) -> None:
        url = f"{self.api_url}/bot{self.token.read().reveal()}/sendMessage"
        message = {"chat_id": self.chat_id, "text": words(notices), "disable_web_page_preview": True}
        await self.posting.post(url, msgspec.json.encode(message), {})

    async def close(self) -> None:
        await self.posting.close()
