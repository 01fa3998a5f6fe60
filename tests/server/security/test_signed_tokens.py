"""Signed tokens: who is let in by which key, and every way in which one can be wrong."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debt_mgmt.core.access import Role
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.server.security.identity import Authentication, Refusal
from debt_mgmt.server.security.jwt import JwtVerifier, read_keys
from debt_mgmt.server.security.watched_file import UnusableFile
from tests.server.security.signing import AUDIENCE, Signer, ed25519_signer, rsa_signer, secret_signer

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ED25519, RSA, SECRET = ed25519_signer(), rsa_signer(), secret_signer()
SIGNERS = [ED25519, RSA, SECRET]


def verifier(folder: Path, content: bytes, issuer: str | None = None, leeway: float = 10.0) -> JwtVerifier:
    file = folder / "keys"
    file.write_bytes(content)
    return JwtVerifier(file, AUDIENCE, issuer, leeway)


def key_set(*signers: Signer, **more: Any) -> bytes:
    return json.dumps({"keys": [{**one.row(), **more} for one in signers]}).encode()


def part(value: object) -> str:
    return encoded(json.dumps(value).encode())


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda one: one.algorithm)
@pytest.mark.parametrize("as_set", [False, True])
def test_a_token_says_who_calls_and_what_they_may_do(tmp_path: Path, signer: Signer, as_set: bool) -> None:
    found = verifier(tmp_path, key_set(signer) if as_set else signer.public()).verify(signer.sign(NOW), NOW)
    assert found is not None
    assert (found.name, found.role, found.accounts) == ("desk", Role.TRADER, frozenset({"alice"}))
    assert found.expires_at == (NOW + timedelta(hours=1)).timestamp() + 10


def test_every_account_must_be_asked_for(tmp_path: Path) -> None:
    known = verifier(tmp_path, ED25519.public())
    found = known.verify(ED25519.sign(NOW, accounts="*", role="ADMIN"), NOW)
    assert found is not None
    assert (found.accounts, found.role) == (None, Role.ADMIN)
    for accounts in (None, [], "", "alice", ["*"], ["alice", 7], {"alice": 1}, ["a" * 65], ["alice"] * 201):
        with pytest.raises(Refusal, match="accounts"):
            known.verify(ED25519.sign(NOW, accounts=accounts), NOW)


WRONG: list[tuple[str, Callable[[], str], str]] = [
    ("expired", lambda: ED25519.sign(NOW, exp=int(NOW.timestamp()) - 11), "expired"),
    ("no expiry", lambda: ED25519.sign(NOW, exp=None), "lacks the claim exp"),
    ("expiry far away", lambda: ED25519.sign(NOW, exp=10**300), "no time"),
    ("expiry in words", lambda: ED25519.sign(NOW, exp="tomorrow"), "no time|not valid"),
    ("expiry true", lambda: ED25519.sign(NOW, exp=True), "no time|not valid"),
    ("not yet good", lambda: ED25519.sign(NOW, nbf=int(NOW.timestamp()) + 60), "not good yet"),
    ("wrong audience", lambda: ED25519.sign(NOW, aud="another"), "another service"),
    ("no audience", lambda: ED25519.sign(NOW, aud=None), "lacks the claim aud"),
    ("no subject", lambda: ED25519.sign(NOW, sub=None), "lacks the claim sub"),
    ("a subject that is no name", lambda: ED25519.sign(NOW, sub="a b\n"), "no name"),
    ("the service's own name", lambda: ED25519.sign(NOW, sub="debt-mgmt"), "no name"),
    ("no role", lambda: ED25519.sign(NOW, role=None), "role"),
    ("an unknown role", lambda: ED25519.sign(NOW, role="root"), "role"),
    ("another key", lambda: ed25519_signer().sign(NOW), "not valid"),
    ("another algorithm", lambda: RSA.sign(NOW), "not valid"),
    ("alg none", lambda: f"{part({'alg': 'none'})}.{part({'sub': 'desk', 'exp': 9e9})}.", "not valid"),
    ("alg None in capitals", lambda: f"{part({'alg': 'NONE'})}.{part({'sub': 'desk'})}.", "not valid"),
    ("no alg", lambda: f"{part({})}.{part({'sub': 'desk'})}.AAAA", "not valid"),
    ("a header that is a list", lambda: f"{part(['EdDSA'])}.{part({})}.AAAA", "not valid"),
    ("claims that are a list", lambda: jwt.api_jws.encode(b"[]", ED25519.key, "EdDSA"), "not valid"),
    ("claims that are no JSON", lambda: jwt.api_jws.encode(b"\xff{", ED25519.key, "EdDSA"), "not valid"),
    ("nested claims", lambda: jwt.api_jws.encode(b"[" * 5000, ED25519.key, "EdDSA"), "not valid"),
    ("a nested header", lambda: f"{encoded(b'[' * 5000)}.e30.AAAA", "not valid"),
    ("not base64", lambda: "\x00.\xff.!", "not valid"),
    ("nothing", lambda: "..", "not valid"),
]


@pytest.mark.parametrize(("made", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_token_lets_nobody_in(tmp_path: Path, made: Callable[[], str], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        verifier(tmp_path, ED25519.public()).verify(made(), NOW)


def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    """The old trick: sign with HS256 and, as the secret, the public key that everybody has."""
    known = verifier(tmp_path, RSA.public())
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{RSA.sign(NOW).split('.')[1]}"
    signature = hmac.new(RSA.public(), signed.encode(), hashlib.sha256).digest()
    forged = f"{signed}.{encoded(signature)}"
    with pytest.raises(Refusal, match="not valid"):
        known.verify(forged, NOW)


def test_the_issuer_is_looked_at_where_one_is_configured(tmp_path: Path) -> None:
    known = verifier(tmp_path, ED25519.public(), issuer="https://login.example")
    assert known.verify(ED25519.sign(NOW, iss="https://login.example"), NOW) is not None
    for issuer in ("https://evil.example", None):
        with pytest.raises(Refusal):
            known.verify(ED25519.sign(NOW, iss=issuer), NOW)


def test_a_clock_may_be_off_by_the_leeway(tmp_path: Path) -> None:
    token = ED25519.sign(NOW, exp=int(NOW.timestamp()) - 5, nbf=int(NOW.timestamp()) + 5)
    assert verifier(tmp_path, ED25519.public()).verify(token, NOW) is not None
    with pytest.raises(Refusal, match="expired"):
        verifier(tmp_path, ED25519.public(), leeway=0).verify(token, NOW)


def test_keys_are_found_by_their_id_and_taken_away(tmp_path: Path) -> None:
    old, new = ed25519_signer("old"), rsa_signer("new")
    known = verifier(tmp_path, key_set(old, new))
    authentication = Authentication([known], lambda: NOW)
    tokens = {"old": f"Bearer {old.sign(NOW)}", "new": f"Bearer {new.sign(NOW)}"}
    assert authentication.identify(tokens["old"]).name == authentication.identify(tokens["new"]).name == "desk"
    assert len(authentication.known) == 2
    (tmp_path / "keys").write_bytes(key_set(new))
    known.reload()
    assert authentication.identify(tokens["new"]).name == "desk"
    with pytest.raises(Fault) as refused:
        authentication.identify(tokens["old"])
    assert refused.value.reason is FaultReason.UNAUTHENTICATED


def test_a_broken_key_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    known = verifier(tmp_path, ED25519.public())
    (tmp_path / "keys").write_bytes(b"{}")
    known.reload()
    assert known.verify(ED25519.sign(NOW), NOW) is not None
    assert "can't be used since it changed" in known.keys.problem
    (tmp_path / "keys").unlink()
    known.reload()
    assert known.verify(ED25519.sign(NOW), NOW) is not None
    (tmp_path / "keys").write_bytes(RSA.public())
    known.reload()
    assert known.keys.problem == ""
    assert known.verify(RSA.sign(NOW), NOW) is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"short", "at least 32 bytes"),
        (b"{}", "no JWKS"),
        (b'{"keys": [7]}', "no JWKS"),
        (b'{"keys": []}', "no key in it"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256"}]}', "no key in it"),
        (key_set(ED25519, use="enc"), "no key in it"),
        (key_set(RSA, alg="PS256"), "no key in it"),
        (key_set(RSA, d="AQAB"), "private key"),
        (key_set(secret_signer(b"short")), "at least 32 bytes"),
        (rsa_signer(bits=1024).public(), "at least 2048 bits"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_key_that_is_none_stops_the_start(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(UnusableFile, match=words):
        read_keys(tmp_path / "keys")


@given(token=st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1"))), dots=st.booleans())
def test_whatever_is_sent_is_refused_and_nothing_else(
    token: str, dots: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = Authentication([verifier(tmp_path_factory.mktemp("keys"), ED25519.public())], lambda: NOW)
    header = f"Bearer {token}" if not dots else f"Bearer {token}.{token}.{token}"
    with pytest.raises(Fault) as refused:
        known.identify(header)
    assert refused.value.reason is FaultReason.UNAUTHENTICATED


def test_a_token_is_checked_once_and_until_it_expires(tmp_path: Path) -> None:
    now = [NOW]
    known = verifier(tmp_path, ED25519.public())
    authentication = Authentication([known], lambda: now[0])
    header = f"Bearer {ED25519.sign(NOW)}"
    first = authentication.identify(header)
    assert authentication.identify(header) is first
    now[0] += timedelta(hours=1, seconds=11)
    with pytest.raises(Fault, match="expired"):
        authentication.identify(header)
    assert math.isfinite(first.expires_at)
