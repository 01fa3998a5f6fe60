"""A webhook: signed JSON over HTTP, one notice a request, in the form of standardwebhooks.com."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from debt_mgmt.server.config_sources import Secret
from debt_mgmt.server.notify.notice import Notice
from debt_mgmt.server.notify.posting import Posting
from debt_mgmt.server.notify.route import NotTold, SecretPlace

PREFIX = "whsec_"


class Webhook:
    name = "webhook"
    together = 1

    def __init__(self, url: str, secret: SecretPlace, clock: Callable[[], datetime]) -> None:
        self.url = url
        self.secret = secret
        self.clock = clock
        self.posting = Posting()

    async def tell(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            body = msgspec.json.encode({"type": notice.event, "timestamp": notice.alert.at, "data": notice.fields})
            moment = str(int(self.clock().timestamp()))
            headers = {
                "webhook-id": notice.notice_id,
                "webhook-timestamp": moment,
                "webhook-signature": signature(self.secret.read(), notice.notice_id, moment, body),
            }
            await self.posting.post(self.url, body, headers)

    async def close(self) -> None:
        await self.posting.close()


def signature(secret: Secret, notice_id: str, moment: str, body: bytes) -> str:
    """HMAC-SHA256 over id, time and body, so that none of them can be another's."""
    signed = b".".join((notice_id.encode(), moment.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()


def key_of(secret: Secret) -> bytes:
    """The bytes of a secret: base64 behind whsec_, else the text itself. Raises NotTold where it is too short."""
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else text.encode()
    except binascii.Error:
        raise NotTold("the secret of the webhook is no base64 behind whsec_") from None
    if len(key) < 24:
        raise NotTold("the secret of the webhook is too short: 24 bytes at least")
    return key
