"""Keys of exchanges: from the environment or from files, checked for their form before use, and never shown."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from debt_mgmt.server.brokers.broker import DenialReason, Denied
from debt_mgmt.server.brokers.profiles import Credential, CredentialForm, VenueProfile
from debt_mgmt.server.config_sources import Secret

FILE_SUFFIX = "_FILE"
PEM = re.compile(r"-----BEGIN (EC |)PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+\n-----END \1PRIVATE KEY-----")
SECRET_BYTES_LEAST = 16


class Credentials(msgspec.Struct, frozen=True):
    """The parts of one key, by the name that ccxt knows each by."""

    parts: dict[str, Secret]

    def revealed(self) -> dict[str, str]:
        """What the client library needs; nothing else asks for it."""
        return {name: part.reveal() for name, part in self.parts.items()}

    def hidden(self, text: str) -> str:
        """`text` with every part of the key taken out of it."""
        for part in self.parts.values():
            text = text.replace(part.reveal(), "<secret>")
        return text


def variable_of(profile: VenueProfile, part: Credential) -> str:
    """The environment name of one part: BYBIT_API_KEY."""
    return f"{profile.broker}_{part.suffix}".upper()


def read_credentials(profile: VenueProfile, environment: Mapping[str, str] = os.environ) -> Credentials:
    """The key of an exchange, from NAME or from the file that NAME_FILE names.

    Raises Denied (CREDENTIALS) naming what is missing, given twice, unreadable or not of its form, never its value.
    """
    parts: dict[str, Secret] = {}
    problems: list[str] = []
    for part in profile.credentials:
        name = variable_of(profile, part)
        try:
            parts[part.ccxt_name] = Secret(formed(part, given(name, environment)))
        except ValueError as error:
            problems.append(f"{name} {error}")
    if problems:
        raise Denied("; ".join(problems), reason=DenialReason.CREDENTIALS)
    return Credentials(parts)


def has_credentials(profile: VenueProfile, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether every part of a key is given, whatever its form."""
    names = [variable_of(profile, part) for part in profile.credentials]
    return all(environment.get(name) or environment.get(name + FILE_SUFFIX) for name in names)


def given(name: str, environment: Mapping[str, str]) -> str:
    """The text of one part; raises ValueError where it is not there once."""
    text, file = environment.get(name, ""), environment.get(name + FILE_SUFFIX, "")
    if text and file:
        raise ValueError(f"and {name}{FILE_SUFFIX} are both set: give one")
    if file:
        try:
            text = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"can't be read from the file of {name}{FILE_SUFFIX}: {type(error).__name__}") from None
    text = text.strip()
    if not text:
        raise ValueError(f"is not set (nor {name}{FILE_SUFFIX})")
    return text


def formed(part: Credential, text: str) -> str:
    """The part as the client library takes it; raises ValueError saying what it must be, not what it is."""
    if part.form is CredentialForm.PRIVATE_KEY:
        pem = text.replace("\\n", "\n").replace("\r\n", "\n").strip()
        if PEM.fullmatch(pem) is None:
            raise ValueError("must be a private key in PEM, from -----BEGIN to -----END; \\n may stand for line ends")
        return pem + "\n"
    if re.search(r"[^!-~]", text):
        raise ValueError("must be one word of printable ASCII")
    if part.form is CredentialForm.BASE64:
        try:
            raw = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError("must be base64, as the exchange shows it") from None
        if len(raw) < SECRET_BYTES_LEAST:
            raise ValueError("must be base64 of at least 16 bytes")
    return text
