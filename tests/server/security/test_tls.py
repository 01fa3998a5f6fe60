"""Encrypted calls: the service's certificate, those of clients, and both exchanged while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from debt_mgmt.client import MarginClient, RetryPolicy, tls_credentials
from debt_mgmt.client.errors import Unavailable
from debt_mgmt.server import app
from debt_mgmt.server.config import ConfigurationError, read_settings
from debt_mgmt.server.journal.memory_journal import MemoryJournal
from debt_mgmt.server.security.tls import Certificates
from debt_mgmt.server.security.watched_file import UnusableFile
from tests.server.security.signing import Authority

ONCE = RetryPolicy(attempts_max=1)


@asynccontextmanager
async def served(tmp_path: Path, **given: str) -> AsyncIterator[app.RunningService]:
    flags = {
        "server.address": "127.0.0.1:0",
        "server.metrics_port": "0",
        "server.auth": "tokens",
        "server.admin_token_file": str(tmp_path / "admin.token"),
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    running = await app.start(read_settings(environment={}, flags=flags), journal=MemoryJournal())
    try:
        yield running
    finally:
        await running.stop()


async def called(running: app.RunningService, token: str, credentials: grpc.ChannelCredentials | None) -> str:
    async with MarginClient(
        f"127.0.0.1:{running.port}", token=token, credentials=credentials, retries=ONCE, options={"grpc.test": 1}
    ) as client:
        return (await client.caller(timeout=5)).name


async def test_calls_are_encrypted_and_the_token_goes_with_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    async with served(tmp_path, server__tls__certificate=str(certificate), server__tls__key=str(key)) as running:
        token = (tmp_path / "admin.token").read_text().strip()
        assert await called(running, token, tls_credentials(authority.file)) == "admin"
        with pytest.raises(Unavailable):
            await called(running, token, None)
        with pytest.raises(Unavailable):
            await called(running, token, tls_credentials(Authority(tmp_path, "stranger").file))


async def test_with_mutual_tls_a_client_shows_a_certificate(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    certificate, key = authority.issue("service")
    known, known_key = authority.issue("client")
    other, other_key = stranger.issue("other")
    async with served(
        tmp_path,
        server__tls__certificate=str(certificate),
        server__tls__key=str(key),
        server__tls__client_ca=str(authority.file),
    ) as running:
        token = (tmp_path / "admin.token").read_text().strip()
        assert await called(running, token, tls_credentials(authority.file, known, known_key)) == "admin"
        for credentials in (tls_credentials(authority.file), tls_credentials(authority.file, other, other_key)):
            with pytest.raises(Unavailable):
                await called(running, token, credentials)


async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    certificate, key = first.issue("service")
    async with served(tmp_path, server__tls__certificate=str(certificate), server__tls__key=str(key)) as running:
        token = (tmp_path / "admin.token").read_text().strip()
        assert await called(running, token, tls_credentials(first.file)) == "admin"
        second.issue("service")
        assert running.entrance.certificates is not None
        running.entrance.certificates.reload()
        assert await called(running, token, tls_credentials(second.file)) == "admin"
        with pytest.raises(Unavailable):
            await called(running, token, tls_credentials(first.file))
        certificate.write_text("nothing")
        running.entrance.certificates.reload()
        assert "can't be used since it changed" in running.entrance.problems()[0]
        assert await called(running, token, tls_credentials(second.file)) == "admin"


async def test_files_are_looked_at_again_and_again(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    async with served(tmp_path, server__tls__certificate=str(certificate), server__tls__key=str(key)) as running:
        certificates = running.entrance.certificates
        assert certificates is not None
        before = certificates.files.content
        authority.issue("service")
        async with asyncio.timeout(10):
            while certificates.files.content is before:
                await asyncio.sleep(0.05)


def test_an_expired_certificate_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service", ends_in=-timedelta(hours=1))
    found = Certificates(certificate, key, None).problems(datetime.now(UTC))
    assert len(found) == 1
    assert "expired at" in found[0]


def test_http_speaks_with_the_same_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    certificates = Certificates(certificate, key, authority.file)
    context = certificates.of_http()
    assert context.verify_mode.name == "CERT_REQUIRED"
    authority.issue("service")
    certificates.reload()
    assert certificates.files.problem == ""


@pytest.mark.parametrize("missing", ["certificate", "key", "both wrong"])
def test_a_certificate_that_is_none_stops_the_start(tmp_path: Path, missing: str) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    if missing == "both wrong":
        _, key = authority.issue("another")
    else:
        (certificate if missing == "certificate" else key).write_text("no PEM")
    with pytest.raises(UnusableFile):
        Certificates(certificate, key, None)
    with pytest.raises(UnusableFile, match="can't be read"):
        Certificates(tmp_path / "absent.pem", key, None)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "not encrypted.*not authenticated"),
        ({"server.auth": "tokens"}, "not encrypted"),
        ({"server.tls.certificate": "c", "server.tls.key": "k"}, "not authenticated"),
        ({"server.tls.certificate": "c"}, "go together"),
        ({"server.tls.client_ca": "c"}, "no effect without server.tls.certificate"),
        ({"server.auth": "jwt"}, "needs server.jwt.keys"),
        ({"server.auth": "tokens", "server.jwt.keys": "k"}, "has no effect"),
    ],
)
def test_what_would_be_open_does_not_start(flags: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_settings(environment={}, flags={"server.address": "0.0.0.0:50051", **flags})


@pytest.mark.parametrize(
    "flags",
    [
        {"server.auth": "tokens", "server.tls.certificate": "c", "server.tls.key": "k"},
        {"server.insecure": "true"},
        {"server.address": "127.0.0.1:50051"},
    ],
)
def test_what_is_protected_or_said_to_be_open_starts(flags: dict[str, str]) -> None:
    read_settings(environment={}, flags={"server.address": "0.0.0.0:50051", **flags})


def test_the_environment_names_certificates_and_a_token_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "token").write_text("dmt_from_file\n")
    client = MarginClient.from_env(
        environment={"DEBT_MGMT_TLS_CA": str(authority.file), "DEBT_MGMT_TOKEN_FILE": str(tmp_path / "token")}
    )
    assert client.connection.token == "dmt_from_file"
    assert client.connection.credentials is not None
    assert MarginClient.from_env(environment={}).connection.credentials is None
    with pytest.raises(ValueError, match="go together"):
        tls_credentials(certificate=authority.file)
