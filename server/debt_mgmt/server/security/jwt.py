"""Signed tokens: EdDSA, RS256 or HS256, with the algorithm that the key says and never the one that the token says."""

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from debt_mgmt.core.access import Role
from debt_mgmt.server.actor import LOCAL, SYSTEM
from debt_mgmt.server.rpc.validate import ID
from debt_mgmt.server.security.identity import Identity, Refusal
from debt_mgmt.server.security.watched_file import UnusableFile, WatchedFiles

SECRET_BYTES_LEAST = 32
RSA_BITS_LEAST = 2048
ACCOUNTS_MOST = 200
EVERY_ACCOUNT = "*"
INVALID = "the token is not valid"
ALGORITHMS = {"RSA": "RS256", "oct": "HS256", "OKP": "EdDSA"}
"""Kind of key in a JWKS → the one algorithm that it is good for."""
BROKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What a hostile token may lead to."""


class VerificationKey(NamedTuple):
    algorithm: str
    key: Any
    key_id: str = ""


class JwtVerifier:
    """Knows the tokens that the configured keys have signed."""

    def __init__(self, keys: Path, audience: str, issuer: str | None, leeway_seconds: float) -> None:
        """Raises UnusableFile."""
        self.audience = audience
        self.issuer = issuer
        self.leeway_seconds = leeway_seconds
        self.keys = WatchedFiles(f"the key file {keys}", [keys], lambda: read_keys(keys))
        self.changed = False

    def reload(self) -> None:
        self.changed |= self.keys.reload()

    def refresh(self) -> bool:
        changed, self.changed = self.changed, False
        return changed

    def verify(self, token: str, at: datetime) -> Identity | None:
        if token.count(".") != 2:
            return None
        try:
            header = jwt.get_unverified_header(token)
            claims = self.claims_of(token, str(header.get("alg")), header.get("kid"))
        except BROKEN:
            raise Refusal(INVALID) from None
        return self.identity_of(claims, at.timestamp())

    def claims_of(self, token: str, algorithm: str, key_id: Any) -> Mapping[str, Any]:
        """What a key of ours has signed. The times are looked at later, by the service's own clock."""
        named = [key for key in self.keys.content if key.algorithm == algorithm]
        if key_id is not None:
            named = [key for key in named if key.key_id in ("", key_id)]
        for key in named:
            try:
                claims: Mapping[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[key.algorithm],
                    audience=self.audience,
                    issuer=self.issuer,
                    options={
                        "require": ["exp", "sub", "aud"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
                raise Refusal("the token is meant for another service") from None
            except jwt.MissingRequiredClaimError as missing:
                raise Refusal(f"the token lacks the claim {missing.claim}") from None
            return claims
        raise Refusal(INVALID)

    def identity_of(self, claims: Mapping[str, Any], now: float) -> Identity:
        leeway = self.leeway_seconds
        expires_at = seconds_of(claims, "exp") + leeway
        if expires_at <= now:
            raise Refusal("the token has expired")
        if "nbf" in claims and seconds_of(claims, "nbf") - leeway > now:
            raise Refusal("the token is not good yet", lasting=False)
        name = claims["sub"]
        if not isinstance(name, str) or ID(name) is None or name in (SYSTEM.name, LOCAL.name):
            raise Refusal("the token's claim sub is no name: 1 to 64 characters of A-Z, a-z, 0-9 and _ . : -")
        try:
            role = Role(str(claims.get("role")).upper())
        except ValueError:
            raise Refusal("the token's claim role must be viewer, trader, risk or admin") from None
        return Identity(name, role, accounts_of(claims.get("accounts")), expires_at)


def seconds_of(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(f"the token's claim {name} is no time")
    if not 0 <= value <= 253_402_300_799:
        raise Refusal(f"the token's claim {name} is no time")
    return float(value)


def accounts_of(claimed: Any) -> frozenset[str] | None:
    """The accounts of the token. One that says nothing of accounts is refused: it must not mean all of them."""
    if claimed == EVERY_ACCOUNT:
        return None
    if (
        isinstance(claimed, list)
        and 0 < len(claimed) <= ACCOUNTS_MOST
        and all(isinstance(one, str) and ID(one) is not None for one in claimed)
    ):
        return frozenset(claimed)
    raise Refusal('the token\'s claim accounts must be a list of account ids, or "*" for every account')


# keys


def read_keys(file: Path) -> list[VerificationKey]:
    """The keys in a file: a JWKS, a public key in PEM, or a secret. Raises UnusableFile and OSError."""
    content = file.read_bytes()
    if content.lstrip().startswith(b"{"):
        return keys_of_set(content)
    if b"-----BEGIN" in content:
        return [key_in_pem(content)]
    secret = content.strip()
    if len(secret) < SECRET_BYTES_LEAST:
        raise UnusableFile(f"a secret must have at least {SECRET_BYTES_LEAST} bytes, not {len(secret)}")
    return [VerificationKey("HS256", secret)]


def key_in_pem(content: bytes) -> VerificationKey:
    if b"PRIVATE KEY" in content:
        raise UnusableFile("it holds a private key, which this service must not have: give the public one")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableFile(f"it holds no public key in PEM: {error}") from error
    return checked(key)


def checked(key: Any, key_id: str = "") -> VerificationKey:
    if isinstance(key, Ed25519PublicKey):
        return VerificationKey("EdDSA", key, key_id)
    if isinstance(key, RSAPublicKey):
        if key.key_size < RSA_BITS_LEAST:
            raise UnusableFile(f"an RSA key must have at least {RSA_BITS_LEAST} bits, not {key.key_size}")
        return VerificationKey("RS256", key, key_id)
    if isinstance(key, bytes):
        if len(key) < SECRET_BYTES_LEAST:
            raise UnusableFile(f"a secret must have at least {SECRET_BYTES_LEAST} bytes, not {len(key)}")
        return VerificationKey("HS256", key, key_id)
    raise UnusableFile("keys must be Ed25519, RSA, or a secret")


def keys_of_set(content: bytes) -> list[VerificationKey]:
    """The keys of a JWKS that are for signatures of the accepted kinds; at least one must be."""
    try:
        rows = msgspec.json.decode(content, type=dict[str, Any])["keys"]
        found = [key for row in rows if (key := key_in_set(row)) is not None]
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError, *BROKEN) as error:
        raise UnusableFile(f"it is no JWKS: {type(error).__name__}") from error
    if not found:
        raise UnusableFile("no key in it is for signatures with EdDSA, RS256 or HS256")
    return found


def key_in_set(row: Mapping[str, Any]) -> VerificationKey | None:
    """The key of one row; None for one that is for something else."""
    algorithm = ALGORITHMS.get(row["kty"])
    if algorithm is None or row.get("alg", algorithm) != algorithm or row.get("use", "sig") != "sig":
        return None
    if row["kty"] == "OKP" and row.get("crv") != "Ed25519":
        return None
    if "d" in row:
        raise UnusableFile("it holds a private key, which this service must not have: give the public ones")
    return checked(jwt.PyJWK.from_dict(dict(row), algorithm).key, str(row.get("kid", "")))
