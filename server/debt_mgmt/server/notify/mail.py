"""E-mail: notices as plain text, sent by SMTP in a thread of its own."""

import asyncio
import hashlib
import smtplib
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from debt_mgmt.server.notify.notice import Notice
from debt_mgmt.server.notify.route import NotTold, SecretPlace

TIMEOUT_SECONDS = 15.0
TOGETHER = 20


class Mail:
    """`security` is "starttls", "tls" or "none"; without a user nobody signs in."""

    name = "email"
    together = TOGETHER

    def __init__(
        self,
        host: str,
        port: int,
        security: str,
        sender: str,
        to: str,
        user: str | None,
        password: SecretPlace,
        clock: Callable[[], datetime],
    ) -> None:
        self.host = host
        self.port = port
        self.security = security
        self.sender = sender
        self.to = to
        self.user = user
        self.password = password
        self.clock = clock

    async def tell(self, notices: Sequence[Notice]) -> None:
        await asyncio.to_thread(self.send, self.message(notices))

    def message(self, notices: Sequence[Notice]) -> EmailMessage:
        """Its id follows from what it tells, so that a repeat is the same mail."""
        first, more = notices[0], len(notices) - 1
        message = EmailMessage()
        message["Subject"] = one_line(first.title + (f" (and {more} more)" if more else ""))
        message["From"] = self.sender
        message["To"] = self.to.replace(",", ", ")
        message["Date"] = format_datetime(self.clock())
        digest = hashlib.sha256(" ".join(one.notice_id for one in notices).encode()).hexdigest()[:32]
        message["Message-ID"] = f"<{digest}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n\n".join(f"{one.title}\n{one.body}" for one in notices))
        return message

    def send(self, message: EmailMessage) -> None:
        """Blocks. Raises NotTold."""
        try:
            context = ssl.create_default_context()
            if self.security == "tls":
                server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_SECONDS, context=context)
            else:
                server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
            with server:
                if self.security == "starttls":
                    server.starttls(context=context)
                if self.user is not None:
                    server.login(self.user, self.password.read().reveal())
                refused = server.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise NotTold(f"the mail server answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotTold(f"the mail was not sent: {type(error).__name__}") from None
        if refused:
            raise NotTold(f"the mail server refused {len(refused)} of the recipients")

    async def close(self) -> None:
        """Nothing is kept open between two mails."""


def one_line(text: str) -> str:
    return " ".join(text.split())
