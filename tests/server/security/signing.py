"""Keys and certificates made for a test, and what is signed with them."""

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "debt-mgmt"
PEM = serialization.Encoding.PEM


class Signer(NamedTuple):
    """Who signs tokens: the private part, and the algorithm that goes with it."""

    algorithm: str
    key: Any
    key_id: str = ""

    def public(self) -> bytes:
        """What the service is given: a public key in PEM, or the secret itself."""
        if isinstance(self.key, bytes):
            return self.key
        encoded: bytes = self.key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return encoded

    def row(self) -> dict[str, Any]:
        """The same as a row of a JWKS."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        public = self.key if isinstance(self.key, bytes) else self.key.public_key()
        row: dict[str, Any] = json.loads(algorithm.to_jwk(public))
        row.pop("key_ops", None)
        return {**row, "kid": self.key_id} if self.key_id else row

    def sign(self, at: datetime, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for alice as a trader, unless `claims` say otherwise; None leaves a claim out."""
        every = {
            "sub": "desk",
            "aud": AUDIENCE,
            "role": "trader",
            "accounts": ["alice"],
            "exp": int((at + timedelta(hours=1)).timestamp()),
            **claims,
        }
        named = {"kid": self.key_id} if self.key_id else {}
        return jwt.encode(
            {name: value for name, value in every.items() if value is not None},
            self.key,
            self.algorithm,
            headers={**named, **(headers or {})},
        )


def ed25519_signer(key_id: str = "") -> Signer:
    return Signer("EdDSA", ed25519.Ed25519PrivateKey.generate(), key_id)


def rsa_signer(key_id: str = "", bits: int = 2048) -> Signer:
    return Signer("RS256", rsa.generate_private_key(65537, bits), key_id)


def secret_signer(secret: bytes = b"a secret of at least thirty-two bytes", key_id: str = "") -> Signer:
    return Signer("HS256", secret, key_id)


class Authority:
    """Issues certificates: files in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        now = datetime.now(UTC)
        builder = self.builder(self.name, self.key, now - timedelta(days=1), now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(self.key, hashes.SHA256())
        self.file.write_bytes(self.certificate.public_bytes(PEM))

    def builder(self, subject: x509.Name, key: Any, since: datetime, until: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )

    def issue(self, name: str, *, ends_in: timedelta = timedelta(days=1)) -> tuple[Path, Path]:
        """A certificate for this machine, and its key: the files' paths. One of the same name takes its place."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = self.builder(subject, key, now - timedelta(days=2), now + ends_in).add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        made = builder.sign(self.key, hashes.SHA256())
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(made.public_bytes(PEM))
        private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate, private
