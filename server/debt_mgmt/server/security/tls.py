"""The service's certificate, and the ones that clients must show: read again when their files change."""

import ssl
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from cryptography import x509

from debt_mgmt.server.security.watched_file import UnusableFile, WatchedFiles


class Pair(NamedTuple):
    """A certificate with its chain, its key, and who may vouch for clients."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    expires_at: datetime


class Certificates:
    """What TLS is spoken with, by gRPC and by HTTP."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Raises UnusableFile."""
        self.certificate, self.key, self.client_ca = certificate, key, client_ca
        files = [self.certificate, self.key, *([self.client_ca] if self.client_ca is not None else [])]
        self.files = WatchedFiles(f"the certificate {self.certificate}", files, self.read)
        self.contexts: list[ssl.SSLContext] = []
        self.handed: Pair | None = None

    @property
    def expires_at(self) -> datetime:
        return self.files.content.expires_at

    def problems(self, at: datetime) -> list[str]:
        """Why clients may not trust the service, or an intended change has not happened."""
        found = [self.files.problem] if self.files.problem else []
        if self.expires_at <= at:
            found.append(f"the certificate {self.certificate} expired at {self.expires_at:%Y-%m-%d %H:%M} UTC")
        return found

    def read(self) -> Pair:
        chain, key = self.certificate.read_bytes(), self.key.read_bytes()
        client_ca = self.client_ca.read_bytes() if self.client_ca is not None else None
        try:
            self.fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            expires_at = min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(chain)[:1])
        except (ssl.SSLError, ValueError) as error:
            raise UnusableFile(f"certificate and key do not go together, or one of them is none: {error}") from error
        return Pair(chain, key, client_ca, expires_at)

    def fill(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key, password=no_password)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED

    def reload(self) -> None:
        """Take changed files in. Connections that are open keep what they were opened with."""
        if self.files.reload():
            for context in self.contexts:
                self.fill(context)

    def of_grpc(self) -> grpc.ServerCredentials:
        """For the gRPC server; each new connection is spoken to with the latest certificate."""
        self.handed = self.files.content

        def latest() -> Any:
            pair = self.files.content
            if pair is self.handed:
                return None
            self.handed = pair
            return configuration(pair)

        return grpc.dynamic_ssl_server_credentials(
            configuration(self.handed), latest, require_client_authentication=self.client_ca is not None
        )

    def of_http(self) -> ssl.SSLContext:
        """For the HTTP server, kept up to date too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.fill(context)
        self.contexts.append(context)
        return context


def configuration(pair: Pair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)], root_certificates=pair.client_ca)


def no_password() -> str:
    """A key with a password must not make the service ask for it on a terminal that nobody looks at."""
    raise ValueError("the key has a password: give one without")
