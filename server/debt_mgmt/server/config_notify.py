"""Settings of being told: where alerts go, which of them, and when."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from debt_mgmt.server.config_server import is_loopback
from debt_mgmt.server.config_sources import Key, Section

SeverityName = Literal["info", "warning", "critical"]
ACCOUNTS = r"[A-Za-z0-9._:-]{1,64}(,[A-Za-z0-9._:-]{1,64}){0,199}"
ADDRESS = r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~%/?&=-]*)?"
MAILBOX = r"[^@\s,<>]{1,64}@[A-Za-z0-9.-]{1,190}"


class RouteSection(Section, frozen=True, kw_only=True):
    """Which alerts a route is told of."""

    min_severity: Annotated[SeverityName, Key("Only alerts of this severity and above.")] = "warning"
    accounts: Annotated[
        str | None,
        Key("Only alerts of these accounts; null: of all.", "account ids with commas between", pattern=ACCOUNTS),
    ] = None
    escalate_after_seconds: Annotated[
        float | None,
        Key(
            "null: told at once. Else only of what nobody has acknowledged by then, and again each time as long, ten "
            "times at most.",
            "seconds",
            least=1,
        ),
    ] = None


class WebhookSection(RouteSection, frozen=True, kw_only=True):
    """Signed JSON to a program of one's own. The secret: DEBT_MGMT_NOTIFY_WEBHOOK_SECRET, or secret_file."""

    url: Annotated[str | None, Key("Where it is posted to; null: no webhook.", "URL", pattern=ADDRESS)] = None
    secret_file: Annotated[Path | None, Key("File with the secret that signs, of 24 bytes at least.", "path")] = None


class SlackSection(RouteSection, frozen=True, kw_only=True):
    """An incoming webhook of Slack. Its address is the secret: DEBT_MGMT_NOTIFY_SLACK_URL, or url_file."""

    enabled: Annotated[bool, Key("Tell Slack.")] = False
    url_file: Annotated[Path | None, Key("File with the address of the incoming webhook.", "path")] = None


class TelegramSection(RouteSection, frozen=True, kw_only=True):
    """A bot of Telegram. Its token: DEBT_MGMT_NOTIFY_TELEGRAM_TOKEN, or token_file."""

    chat_id: Annotated[
        str | None, Key("The chat it writes to; null: no Telegram.", "id", pattern=r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}")
    ] = None
    token_file: Annotated[Path | None, Key("File with the bot's token.", "path")] = None
    api_url: Annotated[str, Key("Where Telegram's API is.", "URL", pattern=ADDRESS)] = "https://api.telegram.org"


class EmailSection(RouteSection, frozen=True, kw_only=True):
    """Mail by SMTP. The user's password: DEBT_MGMT_NOTIFY_EMAIL_PASSWORD, or password_file."""

    to: Annotated[
        str | None, Key("Who gets it, with commas between; null: no mail.", pattern=f"{MAILBOX}(,{MAILBOX}){{0,49}}")
    ] = None
    sender: Annotated[str, Key("Whom it is from.", pattern=MAILBOX)] = "debt-mgmt@localhost"
    host: Annotated[str, Key("The mail server.")] = "localhost"
    port: Annotated[int, Key("Its port.", "port", least=1, most=65535)] = 587
    security: Annotated[
        Literal["starttls", "tls", "none"], Key("How the connection is encrypted: none only on this machine.")
    ] = "starttls"
    user: Annotated[str | None, Key("Who signs in; null: nobody does.")] = None
    password_file: Annotated[Path | None, Key("File with that user's password.", "path")] = None


class NotifySection(Section, frozen=True, kw_only=True):
    """Where alerts are told. Nothing that is decided waits for it; see docs/notifications.md."""

    cool_down_seconds: Annotated[
        float,
        Key(
            "After one alert the next of the same account and kind waits so long, and the latest counts. Critical "
            "ones never wait.",
            "seconds",
            least=0,
        ),
    ] = 300.0
    give_up_after_seconds: Annotated[
        float, Key("A route that fails is tried so long with each alert.", "seconds", least=60)
    ] = 86_400.0
    webhook: WebhookSection = WebhookSection()
    slack: SlackSection = SlackSection()
    telegram: TelegramSection = TelegramSection()
    email: EmailSection = EmailSection()


def notify_contradictions(
    values: Mapping[str, Any], named: Callable[[str], str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What would show a password, or have no effect: the settings concerned, and the problem."""
    security, user, password = "notify.email.security", "notify.email.user", "notify.email.password_file"
    host = "notify.email.host"
    if values[security] == "none" and values[user] is not None and not is_loopback(values[host]):
        yield (security, user, host), f"{named(security)} would show the password of {named(user)} to the network"
    if values[password] is not None and values[user] is None:
        yield (password, user), f"{named(password)} has no effect without {user}"


NOTIFY_VARIABLES = {
    "DEBT_MGMT_NOTIFY_WEBHOOK_SECRET": "Secret that signs what the webhook gets.",
    "DEBT_MGMT_NOTIFY_SLACK_URL": "Address of Slack's incoming webhook.",
    "DEBT_MGMT_NOTIFY_TELEGRAM_TOKEN": "Token of Telegram's bot.",
    "DEBT_MGMT_NOTIFY_EMAIL_PASSWORD": "Password of notify.email.user.",
}
