"""Settings of being told that can't be meant."""

import pytest

from debt_mgmt.server.config import ConfigurationError, read_settings


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"user": "risk", "security": "none", "host": "smtp.example.com"}, "would show the password"),
        ({"password_file": "secret"}, "has no effect without notify.email.user"),
        ({"to": "nobody"}, "notify.email.to"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(flags: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read_settings(environment={}, flags={f"notify.email.{name}": value for name, value in flags.items()})


def test_a_mail_server_on_this_machine_needs_no_encryption() -> None:
    flags = {"notify.email.user": "risk", "notify.email.security": "none"}
    assert read_settings(environment={}, flags=flags).notify.email.user == "risk"
