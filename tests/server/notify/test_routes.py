"""Routes over real connections: what arrives, how it is signed, and that no secret shows."""

import base64
import email
import email.policy
import hashlib
import hmac
import logging
from pathlib import Path

import pytest

from debt_mgmt.server.config_sources import Secret
from debt_mgmt.server.notify.chats import Slack, Telegram
from debt_mgmt.server.notify.mail import Mail
from debt_mgmt.server.notify.notice import News, Notice
from debt_mgmt.server.notify.route import NotTold, Route, SecretPlace
from debt_mgmt.server.notify.webhook import Webhook, key_of, signature
from tests.server.notify.places import mail_server, place
from tests.server.notify.test_outbox import NOON, alert

SECRET = "a secret of twenty-four bytes"
NOTICE = Notice("alice", News.of(alert(20, message="utilization <b>& more")))


def kept(text: str) -> SecretPlace:
    return SecretPlace("THE_SECRET", None, "notify.some.file", {"THE_SECRET": text})


async def told(route: Route, *notices: Notice) -> None:
    try:
        await route.tell(notices)
    finally:
        await route.close()


async def test_a_webhook_is_signed_over_id_time_and_body() -> None:
    async with place() as there:
        await told(Webhook(f"{there.url}/hook", kept(SECRET), lambda: NOON), NOTICE)
    (got,) = there.got
    moment = str(int(NOON.timestamp()))
    assert (got.path, got.headers["webhook-id"], got.headers["webhook-timestamp"]) == ("/hook", "1-20", moment)
    signed = b"1-20." + moment.encode() + b"." + got.body
    expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert got.json["type"] == "alert.drift"
    assert {name: got.json["data"][name] for name in ("account_id", "utilization", "severity")} == {
        "account_id": "alice",
        "utilization": "0.7123",
        "severity": "WARNING",
    }


def test_the_signature_is_that_of_the_published_example() -> None:
    """The vector of the specification of standard webhooks."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["short", "whsec_?", "whsec_c2hvcnQ="])
def test_a_weak_secret_signs_nothing(text: str) -> None:
    with pytest.raises(NotTold, match="secret of the webhook"):
        key_of(Secret(text))


async def test_slack_and_telegram_get_the_words() -> None:
    async with place() as there:
        await told(Slack(kept(f"{there.url}/services/T0/B0/x")), NOTICE, Notice("bob", News.of(alert(21))))
        await told(Telegram(there.url, "-100", kept("123:abc")), NOTICE)
    slack, telegram = there.got
    assert slack.path == "/services/T0/B0/x"
    assert "alice" in slack.json["text"] and "bob" in slack.json["text"]
    assert "&lt;b&gt;&amp; more" in slack.json["text"], "nobody's words are markup"
    assert (telegram.path, telegram.json["chat_id"]) == ("/bot123:abc/sendMessage", "-100")
    assert "debt-mgmt why 1:20" in telegram.json["text"]
    assert "debt-mgmt alerts acknowledge 1-20" in telegram.json["text"]


async def test_mail_says_it_in_its_subject_and_is_the_same_mail_when_repeated() -> None:
    async with mail_server() as there:
        route = Mail(
            "127.0.0.1", there.port, "none", "risk@example.com", "a@example.com,b@example.com", None, kept(""),
            lambda: NOON,
        )  # fmt: skip
        await told(route, NOTICE, Notice("bob", News.of(alert(21))))
        await told(route, NOTICE, Notice("bob", News.of(alert(21))))
    first, second = (email.message_from_string(one, policy=email.policy.default) for one in there.mails)
    assert first["Subject"] == "WARNING: alice: drift (and 1 more)"
    assert first["To"] == "a@example.com, b@example.com"
    assert first["Message-ID"] == second["Message-ID"] and "bob" in first.get_content()


async def test_a_route_that_fails_says_why_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with place() as there:
        there.answers = [(429, {"Retry-After": "7"}), (302, {"Location": f"{there.url}/elsewhere"})]
        with pytest.raises(NotTold, match="it answered 429") as busy:
            await told(Telegram(there.url, "-100", kept("123:hidden")), NOTICE)
        assert busy.value.retry_seconds == 7
        with pytest.raises(NotTold, match="it answered 302"):
            await told(Slack(kept(f"{there.url}/hidden")), NOTICE)
        assert len(there.got) == 2, "nobody is followed elsewhere"
    for route in (Slack(kept(f"{there.url}/hidden")), Slack(kept("hidden"))):
        with pytest.raises(NotTold, match="it could not be reached") as raised:
            await told(route, NOTICE)
        assert "hidden" not in str(raised.value)
    assert "hidden" not in caplog.text


async def test_a_mail_server_that_refuses_is_a_route_that_fails() -> None:
    async with mail_server() as there:
        there.refuse = "550 no"
        route = Mail("127.0.0.1", there.port, "none", "a@b.example", "c@d.example", None, kept(""), lambda: NOON)
        with pytest.raises(NotTold, match="550"):
            await told(route, NOTICE)
    with pytest.raises(NotTold, match="ConnectionRefusedError"):
        await told(route, NOTICE)


def test_a_secret_is_read_each_time_so_that_it_can_be_rotated(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    one = SecretPlace("THE_SECRET", file, "notify.webhook.secret_file", {})
    with pytest.raises(NotTold, match=r"notify\.webhook\.secret_file can't be read"):
        one.read()
    for text in ("first", "second"):
        file.write_text(f"{text}\n")
        assert one.read().reveal() == text
    with pytest.raises(NotTold, match="set THE_SECRET"):
        SecretPlace("THE_SECRET", None, "notify.webhook.secret_file", {}).read()


def test_a_reminder_has_an_id_of_its_own() -> None:
    assert Notice("alice", News.of(alert(20)), reminder=2).notice_id == "1-20-reminder-2"
